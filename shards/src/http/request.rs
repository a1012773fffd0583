//! Hot path: the request object a function receives, written straight into the message it travels in (section 4).
//!
//! No values are built. The body is spliced as it came, which is why it has to be a checked [`Raw`]: a body that is
//! not JSON would break the message around it, so it becomes `null` (HTTP-29).

use super::head::RequestHead;
use super::json::{Raw, write_string, write_string_lossy};
use super::query::{Query, decode};
use super::router::Entry;

/// Everything a request object is made of.
#[derive(Debug, Clone, Copy)]
pub struct RequestObject<'a> {
    /// The request.
    pub head: RequestHead<'a>,
    /// The route that matched; `None` for `not_found_function`, which gets no `trigger` (HTTP-4).
    pub entry: Option<&'a Entry>,
    /// The checked JSON body; `None` writes `null`.
    pub body: Option<Raw<'a>>,
    /// The peer, as it is to be shown in `trigger.remote_addr`.
    pub remote_addr: Option<&'a str>,
    /// Whether path parameters are percent-decoded (HTTP-25).
    pub decode_path_params: bool,
    /// A header the request should have had: lower-case name and value. The request's own wins.
    pub extra_header: Option<(&'a str, &'a str)>,
}

/// The two channels of a request.
#[derive(Debug, Clone, Copy)]
pub struct Channels<'a> {
    /// Carries the request body.
    pub request_body: ChannelEnd<'a>,
    /// Takes the response.
    pub response: ChannelEnd<'a>,
}

/// What a worker needs to attach to a channel.
#[derive(Debug, Clone, Copy)]
pub struct ChannelEnd<'a> {
    /// Which channel.
    pub channel_id: &'a str,
    /// Proof of permission.
    pub access_key: &'a str,
}

/// Whether a content type announces JSON: `application/json` anywhere in it, or a `+json` suffix (HTTP-29).
pub fn is_json(content_type: &[u8]) -> bool {
    const JSON: &[u8] = b"application/json";
    let media_type = content_type.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    content_type.windows(JSON.len()).any(|part| part.eq_ignore_ascii_case(JSON))
        || media_type.len().checked_sub(5).is_some_and(|at| media_type[at..].eq_ignore_ascii_case(b"+json"))
}

impl RequestObject<'_> {
    /// Appends the object for the handler, or without channels the one for a condition (HTTP-27, HTTP-36).
    pub fn write(&self, out: &mut Vec<u8>, channels: Option<Channels<'_>>) {
        self.write_method(out, b"{\"method\":");
        out.extend_from_slice(b",\"path\":");
        match self.entry {
            Some(entry) => write_string(out, &entry.route.config.api_path),
            None => write_string_lossy(out, self.head.path()),
        }
        self.write_details(out);
        out.extend_from_slice(b",\"body\":");
        out.extend_from_slice(self.body.unwrap_or(Raw::NULL).text().as_bytes());
        if let Some(entry) = self.entry {
            out.extend_from_slice(b",\"trigger\":{\"type\":\"http\",\"path\":");
            write_string(out, &entry.route.config.api_path);
            self.write_method(out, b",\"method\":");
            out.extend_from_slice(b",\"raw_path\":");
            write_string_lossy(out, self.head.path());
            out.extend_from_slice(b",\"raw_query\":");
            write_string_lossy(out, self.head.query().unwrap_or_default());
            if let Some(address) = self.remote_addr {
                out.extend_from_slice(b",\"remote_addr\":");
                write_string(out, address);
            }
            out.push(b'}');
        }
        if let Some(channels) = channels {
            channels.request_body.write(out, b",\"request_body\":", b"read");
            channels.response.write(out, b",\"response\":", b"write");
        }
        out.push(b'}');
    }

    /// Appends the object for middleware: no path, no body (HTTP-36).
    pub fn write_for_middleware(&self, out: &mut Vec<u8>) {
        self.write_method(out, b"{\"phase\":\"preHandler\",\"request\":{\"method\":");
        self.write_details(out);
        out.extend_from_slice(b"},\"context\":{}}");
    }

    fn write_method(&self, out: &mut Vec<u8>, prefix: &[u8]) {
        out.extend_from_slice(prefix);
        write_string(out, self.head.method_name());
    }

    fn write_details(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b",\"path_params\":");
        self.write_path_params(out);
        match self.head.query() {
            None | Some([]) => out.extend_from_slice(b",\"query_params\":{},\"query_params_all\":{}"),
            Some(query) => {
                let query = Query::parse(query);
                out.extend_from_slice(b",\"query_params\":");
                query.write_last(out);
                out.extend_from_slice(b",\"query_params_all\":");
                query.write_all(out);
            }
        }
        out.extend_from_slice(b",\"headers\":");
        self.write_headers(out);
    }

    fn write_path_params(&self, out: &mut Vec<u8>) {
        let mut separator: &[u8] = b"{";
        let path = self.head.path();
        for (name, value) in self.entry.iter().flat_map(|entry| entry.pattern.parameters(path)) {
            out.extend_from_slice(separator);
            separator = b",";
            write_string(out, name);
            out.push(b':');
            if self.decode_path_params {
                let mut decoded = Vec::with_capacity(value.len());
                decode(&mut decoded, value, false);
                write_string_lossy(out, &decoded);
            } else {
                write_string_lossy(out, value);
            }
        }
        close_object(out, separator);
    }

    /// Lower-case names, the last of a repeated name, nothing for a value outside visible ASCII.
    fn write_headers(&self, out: &mut Vec<u8>) {
        let mut separator: &[u8] = b"{";
        let mut later = self.head.headers();
        while let Some((name, value)) = later.next() {
            // At most 100 fields: comparing with each is cheaper than remembering them.
            if later.clone().any(|(other, _)| other.eq_ignore_ascii_case(name)) {
                continue;
            }
            out.extend_from_slice(separator);
            separator = b",";
            // A header name has nothing that JSON would escape.
            out.push(b'"');
            out.extend(name.iter().map(u8::to_ascii_lowercase));
            out.extend_from_slice(b"\":");
            let is_visible = value.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~'));
            write_string_lossy(out, if is_visible { value } else { b"" });
        }
        if let Some((name, value)) = self.extra_header
            && self.head.header(name).is_none()
        {
            out.extend_from_slice(separator);
            separator = b",";
            write_string(out, name);
            out.push(b':');
            write_string(out, value);
        }
        close_object(out, separator);
    }
}

/// Closes an object whose next member would have been introduced by `separator`.
fn close_object(out: &mut Vec<u8>, separator: &[u8]) {
    out.extend_from_slice(if separator == b"{" { b"{}" } else { b"}" });
}

impl ChannelEnd<'_> {
    fn write(&self, out: &mut Vec<u8>, name: &[u8], direction: &[u8]) {
        out.extend_from_slice(name);
        out.extend_from_slice(b"{\"channel_id\":");
        write_string(out, self.channel_id);
        out.extend_from_slice(b",\"access_key\":");
        write_string(out, self.access_key);
        out.extend_from_slice(b",\"direction\":\"");
        out.extend_from_slice(direction);
        out.extend_from_slice(b"\"}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::{Parse, Progress, Request, parse};
    use crate::http::method::Method;
    use crate::http::route::{Owner, Route, RouteConfig};
    use crate::http::router::{Lookup, Routes};
    use serde_json::{Value, json};

    fn request(text: &str) -> Request {
        match parse(text.as_bytes(), &mut Progress::default()) {
            Parse::Complete { index, length } => RequestHead::new(&text.as_bytes()[..length], &index).to_request(),
            other => panic!("{other:?}"),
        }
    }

    fn routes(method: Method, path: &str) -> Routes {
        let mut routes = Routes::default();
        let route = Route {
            trigger_id: "t".into(),
            owner: Owner::Engine,
            config: RouteConfig::new(method, path),
            function_id: "f".into(),
            namespace: "default".into(),
            metadata: None,
        };
        routes.register(route).unwrap();
        routes
    }

    /// The object for `head`, on a route for `path`.
    fn object(head: &str, path: &str, body: &str, change: impl Fn(&mut RequestObject<'_>)) -> (Value, Value, Value) {
        let request = request(head);
        let table = routes(request.head().method().unwrap(), path).table();
        let Lookup::Found(entry) = table.lookup(request.head().method(), request.head().path()) else {
            panic!("no route")
        };
        let mut object = RequestObject {
            head: request.head(),
            entry: Some(entry),
            body: Raw::parse(body.as_bytes()),
            remote_addr: Some("10.0.0.1:5"),
            decode_path_params: false,
            extra_header: None,
        };
        change(&mut object);
        let end = ChannelEnd { channel_id: "c", access_key: "k" };
        let (mut handler, mut condition, mut middleware) = (Vec::new(), Vec::new(), Vec::new());
        object.write(&mut handler, Some(Channels { request_body: end, response: end }));
        object.write(&mut condition, None);
        object.write_for_middleware(&mut middleware);
        let value = |bytes: Vec<u8>| {
            assert!(Raw::parse(&bytes).is_some());
            serde_json::from_slice(&bytes).unwrap()
        };
        (value(handler), value(condition), value(middleware))
    }

    #[test]
    fn the_whole_object() {
        // HTTP-27, HTTP-36
        let head = "POST /users/4%202?q=1&q=2 HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n\r\n";
        let (handler, condition, middleware) = object(head, "users/:id", "{\"n\":1}", |_| {});
        let mut expected = json!({
            "method": "POST",
            "path": "users/:id",
            "path_params": {"id": "4%202"},
            "query_params": {"q": "2"},
            "query_params_all": {"q": ["1", "2"]},
            "headers": {"host": "h", "content-type": "application/json"},
            "body": {"n": 1},
            "trigger": {"type": "http", "path": "users/:id", "method": "POST", "raw_path": "/users/4%202",
                "raw_query": "q=1&q=2", "remote_addr": "10.0.0.1:5"},
        });
        assert_eq!(condition, expected);
        expected["request_body"] = json!({"channel_id": "c", "access_key": "k", "direction": "read"});
        expected["response"] = json!({"channel_id": "c", "access_key": "k", "direction": "write"});
        assert_eq!(handler, expected);
        assert_eq!(
            middleware,
            json!({"phase": "preHandler", "context": {}, "request": {
                "method": "POST", "path_params": {"id": "4%202"}, "query_params": {"q": "2"},
                "query_params_all": {"q": ["1", "2"]}, "headers": expected["headers"],
            }})
        );
    }

    #[test]
    fn headers_and_bodies() {
        // HTTP-27, HTTP-29; cases 3, 4, 22, 23
        let head = "GET / HTTP/1.1\r\nX-D: 1\r\nx-q: \"\\\t\r\nx-d: 2\r\nX-Bin: \u{e9}\r\n\r\n";
        for bad in ["", "{bad json", "{\"a\":1", "\"\\ud800\""] {
            let (handler, ..) = object(head, "/", bad, |_| {});
            assert_eq!(handler["body"], Value::Null, "{bad}");
            assert_eq!(handler["headers"], json!({"x-d": "2", "x-q": "\"\\", "x-bin": ""}));
            assert_eq!((&handler["path_params"], &handler["query_params"]), (&json!({}), &json!({})));
        }
    }

    #[test]
    fn numbers_in_bodies_are_untouched() {
        // HTTP-49
        let request = request("POST / HTTP/1.1\r\n\r\n");
        let body = Raw::parse(b"[12345678901234567890,9007199254740993,1e+21]");
        let object = RequestObject {
            head: request.head(),
            entry: None,
            body,
            remote_addr: None,
            decode_path_params: false,
            extra_header: None,
        };
        let mut out = Vec::new();
        object.write(&mut out, None);
        assert!(String::from_utf8(out).unwrap().contains("[12345678901234567890,9007199254740993,1e+21]"));
    }

    #[test]
    fn options_of_the_object() {
        // HTTP-4, HTTP-25
        let head = "GET /users/a%20b%2Fc+%zz HTTP/1.1\r\n\r\n";
        let (handler, ..) = object(head, "users/{id}", "", |object| object.decode_path_params = true);
        assert_eq!(handler["path_params"], json!({"id": "a b/c+%zz"}));
        let (_, not_found, _) = object(head, "users/:id", "", |object| object.entry = None);
        assert_eq!((&not_found["path"], not_found.get("trigger")), (&json!("/users/a%20b%2Fc+%zz"), None));
    }

    #[test]
    fn json_content_types() {
        // HTTP-29; cases 3, 5, 6, 7
        for (content_type, expected) in [
            ("application/json", true),
            ("application/json; charset=utf-8", true),
            ("APPLICATION/JSON", true),
            ("application/vnd.api+json", true),
            ("application/vnd.api+JSON ; a=b", true),
            ("text/plain", false),
            ("text/plain; x=a+json", false),
            ("application/x-www-form-urlencoded", false),
            ("json", false),
            ("", false),
        ] {
            assert_eq!(is_json(content_type.as_bytes()), expected, "{content_type}");
        }
    }
}
