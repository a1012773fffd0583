//! Cross-origin headers: the same few lines on every response (HTTP-64 to HTTP-66).

use std::borrow::Cow;

use super::method::{Method, MethodSet};

const VARY: &str = "vary: origin, access-control-request-method, access-control-request-headers\r\n";
const ANY_ORIGIN: &str = "vary: origin, access-control-request-method, access-control-request-headers\r\n\
                          access-control-allow-origin: *\r\n";
const ANY_ORIGIN_EXPOSED: &str = "vary: origin, access-control-request-method, access-control-request-headers\r\n\
                                  access-control-allow-origin: *\r\naccess-control-expose-headers: *\r\n";

/// How the lines end that expose all headers.
pub(super) const EXPOSE_ANY: &[u8] = b"access-control-expose-headers: *\r\n";

/// Which origins and methods browsers are told about. It informs browsers and stops nobody (HTTP-65).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CorsPolicy {
    /// `None`: any.
    origins: Option<Vec<Box<str>>>,
    /// Value of `access-control-allow-methods`.
    methods: Box<str>,
    /// Whether responses expose all their headers.
    exposes_headers: bool,
}

impl Default for CorsPolicy {
    /// No configuration: everything is allowed.
    fn default() -> CorsPolicy {
        CorsPolicy { origins: None, methods: "*".into(), exposes_headers: true }
    }
}

impl CorsPolicy {
    /// The policy of a `cors` block (HTTP-3). What is no valid header value or method name is left out.
    pub fn new<'a>(origins: impl Iterator<Item = &'a str>, methods: impl Iterator<Item = &'a str>) -> CorsPolicy {
        let origins: Vec<Box<str>> =
            origins.filter(|origin| origin.bytes().all(|byte| byte.is_ascii_graphic())).map(Box::from).collect();
        let is_any = origins.is_empty() || origins.iter().any(|origin| **origin == *"*");
        let is_method = |name: &&str| !name.is_empty() && name.bytes().all(super::head::is_token_byte);
        let methods: Vec<&str> = methods.filter(is_method).collect();
        CorsPolicy {
            origins: (!is_any).then_some(origins),
            methods: if methods.is_empty() { "*".into() } else { methods.join(",").into() },
            exposes_headers: false,
        }
    }

    /// The lines for any response but one to `OPTIONS`; `origin` is the request's header.
    pub fn response_lines(&self, origin: Option<&[u8]>) -> Cow<'static, [u8]> {
        match (self.allowed_origin(origin), self.exposes_headers) {
            (Some("*"), true) => Cow::Borrowed(ANY_ORIGIN_EXPOSED.as_bytes()),
            (Some("*"), false) => Cow::Borrowed(ANY_ORIGIN.as_bytes()),
            (None, _) => Cow::Borrowed(VARY.as_bytes()),
            (Some(origin), _) => Cow::Owned(format!("{VARY}access-control-allow-origin: {origin}\r\n").into_bytes()),
        }
    }

    /// The lines of the answer to `OPTIONS` (HTTP-66). `methods` are those routed for the path.
    pub fn options_lines(&self, origin: Option<&[u8]>, methods: MethodSet) -> Vec<u8> {
        let mut lines =
            format!("access-control-allow-methods: {}\r\naccess-control-allow-headers: *\r\n", self.methods);
        lines.push_str(VARY);
        if let Some(origin) = self.allowed_origin(origin) {
            lines.push_str("access-control-allow-origin: ");
            lines.push_str(origin);
            lines.push_str("\r\n");
        }
        if Method::ALL.into_iter().any(|method| method != Method::Options && methods.contains(method)) {
            lines.push_str(&format!("allow: {}\r\n", methods.allowed()));
        }
        lines.into_bytes()
    }

    fn allowed_origin(&self, origin: Option<&[u8]>) -> Option<&str> {
        match &self.origins {
            None => Some("*"),
            Some(origins) => {
                let origin = origin?;
                origins.iter().find(|allowed| allowed.as_bytes() == origin).map(|allowed| &**allowed)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn response_lines() {
        // HTTP-64, HTTP-65
        let open = CorsPolicy::default();
        assert_eq!(open.response_lines(None), ANY_ORIGIN_EXPOSED.as_bytes());
        for origins in [&[][..], &["http://a", "*"]] {
            let policy = CorsPolicy::new(origins.iter().copied(), [].into_iter());
            assert_eq!(policy.response_lines(Some(b"http://b")), ANY_ORIGIN.as_bytes());
        }
        let list = CorsPolicy::new(["http://a", "bad\r\n"].into_iter(), [].into_iter());
        let listed = format!("{VARY}access-control-allow-origin: http://a\r\n");
        assert_eq!(list.response_lines(Some(b"http://a")), listed.as_bytes());
        for other in [None, Some(&b"http://A"[..]), Some(b"bad\r\n")] {
            assert_eq!(list.response_lines(other), VARY.as_bytes());
        }
    }

    #[test]
    fn options_lines() {
        // HTTP-66; cases 18, 19
        let text = |policy: &CorsPolicy, methods: &[Method]| {
            let mut set = MethodSet::EMPTY;
            methods.iter().for_each(|method| set.insert(*method));
            String::from_utf8(policy.options_lines(Some(b"http://a"), set)).unwrap()
        };
        let open = text(&CorsPolicy::default(), &[Method::Get]);
        assert_eq!(
            open,
            format!(
                "access-control-allow-methods: *\r\naccess-control-allow-headers: *\r\n{ANY_ORIGIN}allow: GET,HEAD\r\n"
            )
        );
        assert!(!text(&CorsPolicy::default(), &[Method::Options]).contains("\r\nallow:"));
        assert!(!text(&CorsPolicy::default(), &[]).contains("\r\nallow:"));
        let listed = CorsPolicy::new(["http://b"].into_iter(), ["GET", "no method", "POST"].into_iter());
        let listed = text(&listed, &[]);
        assert!(listed.starts_with("access-control-allow-methods: GET,POST\r\n") && !listed.contains("origin: http"));
    }
}
