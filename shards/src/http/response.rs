//! Responses: from a handler's raw JSON result, or from the engine's own errors, to a head and a body (section 6).

use std::borrow::Cow;
use std::io::Write as _;

use super::cors;
use super::date::HttpDate;
use super::head::Version;
use super::headers::HeaderList;
use super::json::{Kind, Raw, write_string};
use super::method::MethodSet;
use super::request::is_json;
use super::status::{has_no_body, reason};

/// Status and headers of a response, without what the connection adds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponseHead {
    /// 200 to 999.
    pub status: u16,
    /// The handler's headers.
    pub headers: HeaderList,
    /// Whether `content-type: application/json` is added if there is no content type.
    pub defaults_to_json: bool,
}

/// A response whose body is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response<'a> {
    /// Status and headers.
    pub head: ResponseHead,
    /// The body; borrowed from the handler's result where it can be sent as it came.
    pub body: Cow<'a, [u8]>,
}

/// What the connection adds to a head.
#[derive(Debug, Clone, Copy)]
pub struct HeadContext<'a> {
    /// Version of the request.
    pub version: Version,
    /// Cross-origin lines, see [`cors::CorsPolicy`]; empty for none.
    pub cors: &'a [u8],
    /// How the body is framed.
    pub framing: Framing,
    /// Whether the connection stays open.
    pub keep_alive: bool,
    /// Now.
    pub date: HttpDate,
}

/// How the end of a response body is marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// By its length.
    Length(u64),
    /// By the last chunk.
    Chunked,
    /// By closing the connection, for HTTP/1.0.
    UntilClose,
}

/// What middleware wants (HTTP-41).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// The next step may run.
    Continue,
    /// This is the answer.
    Respond(Response<'a>),
}

// === impl Response ===

impl<'a> Response<'a> {
    /// Reads a function's raw result as an envelope (HTTP-45). Anything else is an envelope without fields.
    pub fn from_result(result: &'a [u8], error_id: u64) -> Response<'a> {
        let mut envelope = Envelope::default();
        match Raw::parse_members(result, |name, value| envelope.take(name, value)) {
            Some(_) => envelope.into_response(),
            None => Response::internal_error(error_id),
        }
    }

    /// A response with an empty body and no content type.
    pub fn empty(status: u16) -> Response<'static> {
        Response {
            head: ResponseHead { status, headers: HeaderList::default(), defaults_to_json: false },
            body: Cow::Borrowed(b""),
        }
    }

    /// A response with a body of JSON.
    pub fn json(status: u16, body: Vec<u8>) -> Response<'static> {
        Response {
            head: ResponseHead { status, headers: HeaderList::default(), defaults_to_json: true },
            body: Cow::Owned(body),
        }
    }

    /// An error body (HTTP-51). The id, made by the caller, is for errors raised by the engine.
    pub fn error(status: u16, code: &str, message: &str, error_id: Option<u64>) -> Response<'static> {
        let mut body = b"{\"error\":{\"code\":".to_vec();
        write_string(&mut body, code);
        if let Some(id) = error_id {
            // 12 digits at most.
            write!(body, ",\"error_id\":\"{:x}\"", id & 0xFFFF_FFFF_FFFF).expect("writing to memory");
        }
        body.extend_from_slice(b",\"message\":");
        write_string(&mut body, message);
        body.extend_from_slice(b"}}");
        Response::json(status, body)
    }

    /// A function's raw error object as a 500 with its own code and message (HTTP-40, HTTP-43, HTTP-51).
    pub fn from_error(error: &[u8], error_id: u64) -> Response<'static> {
        let (mut code, mut message) = (None, None);
        Raw::parse_members(error, |name, value| match name.string().as_deref() {
            Some("code") => code = value.string(),
            Some("message") => message = value.string(),
            _ => {}
        });
        let code = code.as_deref().unwrap_or("invocation_failed");
        Response::error(500, code, message.as_deref().unwrap_or("Invocation failed"), Some(error_id))
    }

    /// The engine failed.
    pub fn internal_error(error_id: u64) -> Response<'static> {
        Response::error(500, "INTERNAL_ERROR", "internal server error", Some(error_id))
    }

    /// No route for the path.
    pub fn not_found() -> Response<'static> {
        Response::error(404, "NOT_FOUND", "Not Found", None)
    }

    /// The path has routes for these methods only (HTTP-54).
    pub fn method_not_allowed(methods: MethodSet) -> Response<'static> {
        let mut response = Response::error(405, "METHOD_NOT_ALLOWED", "Method Not Allowed", None);
        response.head.headers.push("allow", methods.to_string().as_bytes());
        response
    }

    /// The condition said no (HTTP-39).
    pub fn condition_not_met() -> Response<'static> {
        let body = r#"{"error":{"code":"CONDITION_NOT_MET","message":"Request condition not met"},"skipped":true}"#;
        Response::json(422, body.into())
    }

    /// Middleware or a condition took longer than `default_timeout` (HTTP-44).
    pub fn middleware_timeout() -> Response<'static> {
        Response::error(504, "MIDDLEWARE_TIMEOUT", "Middleware timeout", None)
    }

    /// The handler took longer than `default_timeout`.
    pub fn timeout() -> Response<'static> {
        Response::error(504, "TIMEOUT", "Gateway Timeout", None)
    }

    /// The body is longer than `body_limit` (HTTP-4).
    pub fn payload_too_large() -> Response<'static> {
        Response::error(413, "PAYLOAD_TOO_LARGE", "Payload Too Large", None)
    }
}

/// Whether a raw result is `null`: the response may still come over the channel (HTTP-58).
pub fn is_null(result: &[u8]) -> bool {
    result.trim_ascii() == b"null"
}

impl<'a> Verdict<'a> {
    /// Reads the raw result of middleware. All but a clear wish to respond continues (HTTP-41).
    pub fn from_result(result: &'a [u8]) -> Verdict<'a> {
        let (mut action, mut response) = (None, None);
        let parsed = Raw::parse_members(result, |name, value| match name.string().as_deref() {
            Some("action") => action = value.string(),
            Some("response") => response = Some(value),
            _ => {}
        });
        if parsed != Some(true) || action.as_deref() != Some("respond") {
            return Verdict::Continue;
        }
        let Some(response) = response.filter(|response| response.kind() != Kind::Null) else {
            return Verdict::Respond(Response::json(200, b"null".to_vec()));
        };
        let mut envelope = Envelope::default();
        response.each_member(|name, value| envelope.take(name, value));
        Verdict::Respond(envelope.into_response())
    }
}

/// The fields of a result that mean something.
#[derive(Default)]
struct Envelope<'a> {
    status_code: Option<Raw<'a>>,
    /// How the Python SDKs' response class spells it (HTTP-46).
    status_code_camel: Option<Raw<'a>>,
    headers: Option<Raw<'a>>,
    body: Option<Raw<'a>>,
}

// === impl Envelope ===

impl<'a> Envelope<'a> {
    fn take(&mut self, name: Raw<'a>, value: Raw<'a>) {
        match name.string().as_deref() {
            Some("status_code") => self.status_code = Some(value),
            Some("statusCode") => self.status_code_camel = Some(value),
            Some("headers") => self.headers = Some(value),
            Some("body") => self.body = Some(value),
            _ => {}
        }
    }

    fn into_response(self) -> Response<'a> {
        // HTTP-46
        let status = match self.status_code.or(self.status_code_camel).and_then(Raw::integer) {
            Some(100..=199) => return Response::empty(500),
            Some(status @ 200..=999) => status as u16,
            _ => 200,
        };
        let headers = self.headers.map(read_headers).unwrap_or_default();
        let body = encode_body(self.body, headers.get("content-type"));
        Response { head: ResponseHead { status, headers, defaults_to_json: true }, body }
    }
}

/// An object of strings or string arrays, or an array of `Name: value` strings (HTTP-47).
fn read_headers(value: Raw<'_>) -> HeaderList {
    let mut headers = HeaderList::default();
    value.each_member(|name, value| {
        let Some(name) = name.string() else { return };
        if let Some(value) = value.string() {
            headers.set(&name, value.as_bytes());
        }
        value.each_element(|value| {
            if let Some(value) = value.string() {
                headers.push(&name, value.as_bytes());
            }
        });
    });
    value.each_element(|line| {
        let Some(line) = line.string() else { return };
        if let Some((name, value)) = line.split_once(':')
            && !name.trim().is_empty()
        {
            headers.push(name.trim(), value.trim().as_bytes());
        }
    });
    headers
}

/// The table of HTTP-48.
fn encode_body<'a>(body: Option<Raw<'a>>, content_type: Option<&[u8]>) -> Cow<'a, [u8]> {
    let Some(body) = body else { return Cow::Borrowed(b"{}") };
    let Some(content_type) = content_type else { return body.compact() };
    match (body.kind(), body.string()) {
        (Kind::Null, _) => Cow::Borrowed(b""),
        (_, Some(Cow::Borrowed(text))) => Cow::Borrowed(text.as_bytes()),
        (_, Some(Cow::Owned(text))) => Cow::Owned(text.into_bytes()),
        (Kind::Object, _) if !is_json(content_type) => match node_buffer(body) {
            Some(bytes) => Cow::Owned(bytes),
            None => body.compact(),
        },
        _ => body.compact(),
    }
}

/// The bytes of `{"type":"Buffer","data":[…]}`, which is how Node serialises a `Buffer`.
fn node_buffer(body: Raw<'_>) -> Option<Vec<u8>> {
    let (mut is_buffer, mut data, mut others) = (false, None, false);
    body.each_member(|name, value| match name.text() {
        "\"type\"" => is_buffer = value.text() == "\"Buffer\"",
        "\"data\"" => data = Some(value),
        _ => others = true,
    });
    let data = data.filter(|data| is_buffer && !others && data.kind() == Kind::Array)?;
    let mut bytes = Some(Vec::with_capacity(data.text().len() / 3));
    data.each_element(|element| {
        let byte = element.integer().and_then(|byte| u8::try_from(byte).ok());
        match (byte, &mut bytes) {
            (Some(byte), Some(bytes)) => bytes.push(byte),
            _ => bytes = None,
        }
    });
    bytes
}

// === impl ResponseHead ===

impl ResponseHead {
    /// Appends the head in wire form, fields in the order of HTTP-67.
    pub fn write(&self, out: &mut Vec<u8>, context: &HeadContext<'_>) {
        out.extend_from_slice(match context.version {
            Version::Http10 => b"HTTP/1.0 ",
            Version::Http11 => b"HTTP/1.1 ",
        });
        write!(out, "{} {}\r\n", self.status, reason(self.status)).expect("writing to memory");
        // Ours replace the handler's, but only what ours have (HTTP-50).
        let exposes = context.cors.ends_with(cors::EXPOSE_ANY);
        let replaced = if exposes { 3 } else { 1 + usize::from(!context.cors.is_empty()) };
        self.headers.write(out, &["date", "access-control-allow-origin", "access-control-expose-headers"][..replaced]);
        if self.defaults_to_json && self.headers.get("content-type").is_none() {
            out.extend_from_slice(b"content-type: application/json\r\n");
        }
        out.extend_from_slice(context.cors);
        match context.framing {
            // Such a response ends with its head; a length would only confuse (HTTP-48).
            _ if has_no_body(self.status) => {}
            Framing::Length(length) => write!(out, "content-length: {length}\r\n").expect("writing to memory"),
            Framing::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
            Framing::UntilClose => {}
        }
        match (context.keep_alive, context.version) {
            (false, _) => out.extend_from_slice(b"connection: close\r\n"),
            (true, Version::Http10) => out.extend_from_slice(b"connection: keep-alive\r\n"),
            (true, Version::Http11) => {}
        }
        out.extend_from_slice(b"date: ");
        match self.headers.get("date") {
            Some(date) => out.extend_from_slice(date),
            None => out.extend_from_slice(context.date.as_bytes()),
        }
        out.extend_from_slice(b"\r\n\r\n");
    }
}

#[cfg(test)]
mod tests;
