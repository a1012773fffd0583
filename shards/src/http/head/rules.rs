//! The rules that keep a head from having two readings: header fields and targets.

use memchr::memchr;

use super::{BodyLength, Reject, Version};

/// What the header fields say about framing and the connection.
pub(super) struct Fields<'b> {
    pub(super) body: BodyLength,
    pub(super) keep_alive: bool,
    pub(super) expects_continue: bool,
    pub(super) host: Option<&'b [u8]>,
}

impl<'b> Fields<'b> {
    pub(super) fn read(headers: &[httparse::Header<'b>], version: Version) -> Result<Fields<'b>, Reject> {
        let mut length = None;
        let mut chunked = false;
        let (mut says_close, mut says_keep_alive) = (false, false);
        let mut expects_continue = false;
        let mut host = None;
        for field in headers {
            // The lengths keep the comparisons off nearly all other fields.
            match field.name.len() {
                4 if field.name.eq_ignore_ascii_case("host") => {
                    if host.replace(field.value).is_some() {
                        return Err(Reject::Malformed("two host fields"));
                    }
                    if !field.value.iter().all(|byte| is_host_byte(*byte)) {
                        return Err(Reject::Malformed("host"));
                    }
                }
                14 if field.name.eq_ignore_ascii_case("content-length") => {
                    let value = parse_length(field.value).ok_or(Reject::Malformed("content-length"))?;
                    if length.replace(value).is_some() {
                        return Err(Reject::Malformed("two content-length fields"));
                    }
                }
                17 if field.name.eq_ignore_ascii_case("transfer-encoding") => {
                    if !field.value.eq_ignore_ascii_case(b"chunked") {
                        return Err(Reject::Malformed("transfer-encoding"));
                    }
                    if std::mem::replace(&mut chunked, true) {
                        return Err(Reject::Malformed("two transfer-encoding fields"));
                    }
                }
                10 if field.name.eq_ignore_ascii_case("connection") => {
                    for option in field.value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                        says_close |= option.eq_ignore_ascii_case(b"close");
                        says_keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                    }
                }
                6 if field.name.eq_ignore_ascii_case("expect") => {
                    expects_continue |= field.value.eq_ignore_ascii_case(b"100-continue");
                }
                _ => {}
            }
        }
        let body = match (chunked, length) {
            (true, Some(_)) => return Err(Reject::Malformed("content-length with transfer-encoding")),
            (true, None) if version == Version::Http10 => {
                return Err(Reject::Malformed("transfer-encoding in HTTP/1.0"));
            }
            (true, None) => BodyLength::Chunked,
            (false, None | Some(0)) => BodyLength::None,
            (false, Some(length)) => BodyLength::Length(length),
        };
        let keep_alive = !says_close && (version == Version::Http11 || says_keep_alive);
        Ok(Fields { body, keep_alive, expects_continue: expects_continue && version == Version::Http11, host })
    }
}

/// One run of digits that fits: no sign, no list, no space, no overflow.
fn parse_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0u64, |length, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        length.checked_mul(10)?.checked_add(digit)
    })
}

/// A request target: the path to match, as it was sent, and the query behind it.
pub(super) struct Target<'b> {
    /// `None`: an absolute URL without a path, which means `/`.
    pub(super) path: Option<&'b str>,
    pub(super) query: Option<&'b str>,
}

impl<'b> Target<'b> {
    pub(super) fn parse(method: &str, target: &'b str, host: Option<&[u8]>) -> Result<Target<'b>, Reject> {
        if memchr(b'#', target.as_bytes()).is_some() {
            return Err(Reject::Malformed("fragment in the target"));
        }
        if target.starts_with('/') {
            return Ok(Target::split(target));
        }
        if target == "*" && method == "OPTIONS" {
            return Ok(Target { path: Some(target), query: None });
        }
        let rest = strip_scheme(target).ok_or(Reject::Malformed("target"))?;
        let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.is_empty() || !authority.bytes().all(is_host_byte) {
            return Err(Reject::Malformed("authority of the target"));
        }
        // Two hosts in one request: whoever stands before or behind us may read the other one.
        if host.is_some_and(|host| !host.eq_ignore_ascii_case(authority.as_bytes())) {
            return Err(Reject::Malformed("target and host disagree"));
        }
        Ok(Target::split(rest))
    }

    fn split(target: &'b str) -> Target<'b> {
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        Target { path: (!path.is_empty()).then_some(path), query }
    }
}

fn strip_scheme(target: &str) -> Option<&str> {
    ["http://", "https://"].into_iter().find_map(|scheme| {
        let start = target.get(..scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then(|| &target[scheme.len()..])
    })
}

fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+;=:[]%".contains(&byte)
}

/// Whether `byte` may be part of a method or a header name.
pub(in crate::http) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
