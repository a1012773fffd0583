//! The HTTP upgrade that every WebSocket connection begins with (PROTO-1 to PROTO-9).
//!
//! Pure: bytes in, a verdict out. Heads are parsed by httparse; what may be asked for is decided here, which paths there
//! are by the listener: [`parse`] is that of workers, [`parse_with`] takes any.

use crate::limits::HANDSHAKE_HEADERS_MAX;
use std::borrow::Cow;
use std::fmt::Write as _;
use tungstenite::handshake::derive_accept_key;

/// Sent with every answer; Rust SDKs switch Nagle's algorithm off when they see it (PROTO-5).
const CAPABILITIES: &str = "x-iii-capabilities: tcp-nodelay\r\n";

/// What a request head means.
#[derive(Debug, PartialEq, Eq)]
pub enum Handshake<T = Target> {
    /// More bytes are needed.
    Partial,
    /// A WebSocket upgrade of a known path. The head takes this many bytes.
    Upgrade {
        /// Where it goes.
        target: T,
        /// Value for `Sec-WebSocket-Accept`.
        accept: String,
        /// Length of the head in bytes; frames may follow it.
        head_bytes: usize,
        /// What an authentication function gets to see.
        request: Request,
    },
    /// An HTTP answer. The connection stays open unless `close`.
    Answer {
        /// Status line, headers and body.
        response: String,
        /// Length of the head in bytes.
        head_bytes: usize,
        /// Whether the connection ends after the answer.
        close: bool,
    },
}

/// What a listener has at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place<T> {
    /// Nothing: 404.
    Unknown,
    /// Something, but the request is wrong in this way: 400.
    Bad(String),
    /// A WebSocket.
    WebSocket(T),
}

/// The three things a worker listener serves (PROTO-1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// `/`: a worker.
    Worker,
    /// `/otel`: telemetry only.
    Telemetry,
    /// `/ws/channels/{id}`: one end of a channel.
    Channel {
        /// Channel id from the path.
        id: String,
        /// Access key from the query.
        key: String,
        /// Which end.
        write: bool,
    },
}

/// The parts of an upgrade request that outlive its bytes (PROTO-120).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// Lower-case names; a repeated header keeps its last value; values that are not UTF-8 are left out.
    pub headers: Vec<(String, String)>,
    /// Raw query string, without the question mark.
    pub query: String,
}

/// Decodes the head at the start of `bytes`, sent to a worker listener. `allowed_origins` empty = any (PROTO-6).
pub fn parse(bytes: &[u8], allowed_origins: &[String]) -> Handshake {
    parse_with(bytes, allowed_origins, worker_place)
}

/// Decodes the head at the start of `bytes`; `place` is asked with path and query, as sent.
pub fn parse_with<T>(
    bytes: &[u8],
    allowed_origins: &[String],
    place: impl FnOnce(&str, &str) -> Place<T>,
) -> Handshake<T> {
    let mut headers = [httparse::EMPTY_HEADER; HANDSHAKE_HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let head_bytes = match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Handshake::Partial,
        Err(error) => {
            return Handshake::Answer {
                response: answer(400, "Bad Request", "connection: close\r\n", &format!("{error}")),
                head_bytes: bytes.len(),
                close: true,
            };
        }
    };
    verdict(&request, head_bytes, allowed_origins, place)
}

fn verdict<T>(
    request: &httparse::Request<'_, '_>,
    head_bytes: usize,
    allowed_origins: &[String],
    place: impl FnOnce(&str, &str) -> Place<T>,
) -> Handshake<T> {
    let close = header(request, "connection").any(|value| has_token(&value, "close"));
    let reply = |response: String| Handshake::Answer { response, head_bytes, close };
    let (path, query) = request.path.unwrap_or("/").split_once('?').unwrap_or((request.path.unwrap_or("/"), ""));
    let place = place(path, query);
    if matches!(place, Place::Unknown) {
        return reply(answer(404, "Not Found", "", ""));
    }
    if request.method != Some("GET") {
        return reply(answer(405, "Method Not Allowed", "allow: GET,HEAD\r\n", ""));
    }
    if request.version != Some(1) {
        let response = answer(426, "Upgrade Required", "connection: close\r\n", "HTTP/1.1 is needed for a WebSocket");
        return Handshake::Answer { response, head_bytes, close: true };
    }
    // A request that announces a body would leave its bytes among the frames.
    if header(request, "transfer-encoding").next().is_some()
        || header(request, "content-length").any(|value| value.trim() != "0")
    {
        let response = answer(400, "Bad Request", "connection: close\r\n", "an upgrade request has no body");
        return Handshake::Answer { response, head_bytes, close: true };
    }
    let bad = |body: &str| reply(answer(400, "Bad Request", "", body));
    if !header(request, "connection").any(|value| has_token(&value, "upgrade")) {
        return bad("Connection header did not include 'upgrade'");
    }
    if !header(request, "upgrade").any(|value| has_token(&value, "websocket")) {
        return bad("`Upgrade` header did not include 'websocket'");
    }
    if !header(request, "sec-websocket-version").any(|value| value.trim() == "13") {
        return bad("`Sec-WebSocket-Version` header did not include '13'");
    }
    let Some(key) = header(request, "sec-websocket-key").next() else {
        return bad("`Sec-WebSocket-Key` header missing");
    };
    if !allowed_origins.is_empty() {
        let origin = header(request, "origin").next();
        if !origin.is_some_and(|origin| allowed_origins.iter().any(|allowed| *allowed == origin)) {
            return reply(answer(403, "Forbidden", "", "origin not allowed"));
        }
    }
    let target = match place {
        Place::WebSocket(target) => target,
        Place::Bad(message) => return bad(&message),
        Place::Unknown => return reply(answer(404, "Not Found", "", "")),
    };
    let accept = derive_accept_key(key.trim().as_bytes());
    Handshake::Upgrade { target, accept, head_bytes, request: remember(request, query) }
}

fn worker_place(path: &str, query: &str) -> Place<Target> {
    let channel = path.strip_prefix("/ws/channels/").filter(|id| !id.is_empty() && !id.contains('/'));
    match (path, channel) {
        ("/", _) => Place::WebSocket(Target::Worker),
        ("/otel", _) => Place::WebSocket(Target::Telemetry),
        (_, Some(id)) => channel_target(id, query).map_or_else(Place::Bad, Place::WebSocket),
        _ => Place::Unknown,
    }
}

fn channel_target(id: &str, query: &str) -> Result<Target, String> {
    let find = |name: &str| {
        query_pairs(query)
            .find(|(key, _)| key == name)
            .map(|(_, value)| value)
            .ok_or_else(|| format!("Failed to deserialize query string: missing field `{name}`"))
    };
    let key = find("key")?;
    let write = match find("dir")?.as_str() {
        "read" => false,
        "write" => true,
        other => {
            return Err(format!(
                "Failed to deserialize query string: dir: unknown variant `{other}`, expected `read` or `write`"
            ));
        }
    };
    Ok(Target::Channel { id: percent_decode(id), key, write })
}

/// Name and value of each part of a query string, decoded.
pub fn query_pairs(query: &str) -> impl Iterator<Item = (String, String)> + '_ {
    query.split('&').filter(|part| !part.is_empty()).map(|part| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        (percent_decode(&name.replace('+', " ")), percent_decode(&value.replace('+', " ")))
    })
}

/// Resolves `%XX`; what is not an escape stays, what is not UTF-8 afterwards is replaced.
pub fn percent_decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let pair = bytes.get(at + 1..at + 3).and_then(|pair| std::str::from_utf8(pair).ok());
        match pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()) {
            Some(decoded) if *byte == b'%' => {
                out.push(decoded);
                at += 3;
            }
            _ => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn header<'r>(request: &'r httparse::Request<'_, '_>, name: &'static str) -> impl Iterator<Item = Cow<'r, str>> {
    request
        .headers
        .iter()
        .filter(move |header| header.name.eq_ignore_ascii_case(name))
        .map(|header| String::from_utf8_lossy(header.value))
}

fn has_token(list: &str, token: &str) -> bool {
    list.split(',').any(|item| item.trim().eq_ignore_ascii_case(token))
}

fn remember(request: &httparse::Request<'_, '_>, query: &str) -> Request {
    let mut headers: Vec<(String, String)> = Vec::new();
    for header in request.headers.iter() {
        let Ok(value) = std::str::from_utf8(header.value) else { continue };
        let name = header.name.to_ascii_lowercase();
        match headers.iter_mut().find(|(known, _)| *known == name) {
            Some((_, last)) => *last = value.to_owned(),
            None => headers.push((name, value.to_owned())),
        }
    }
    Request { headers, query: query.to_owned() }
}

/// A complete HTTP answer with a plain-text body.
pub fn answer(status: u16, reason: &str, headers: &str, body: &str) -> String {
    let mut response = format!("HTTP/1.1 {status} {reason}\r\n{headers}{CAPABILITIES}");
    if !body.is_empty() {
        response.push_str("content-type: text/plain; charset=utf-8\r\n");
    }
    let _ = write!(response, "content-length: {}\r\n\r\n{body}", body.len());
    response
}

/// The 101 answer. `date` is an IMF-fixdate (RFC 9110).
pub fn switching_protocols(accept: &str, date: &str) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-accept: {accept}\r\n{CAPABILITIES}date: {date}\r\n\r\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(line: &str, headers: &[&str]) -> String {
        format!("{line}\r\nhost: x\r\n{}\r\n\r\n", headers.join("\r\n"))
    }

    const GOOD: [&str; 4] = [
        "Connection: keep-alive, Upgrade",
        "Upgrade: WebSocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ];

    fn status(text: &str) -> (u16, String) {
        match parse(text.as_bytes(), &[]) {
            Handshake::Answer { response, .. } => {
                let body = response.split_once("\r\n\r\n").map_or("", |(_, body)| body);
                (response[9..12].parse().unwrap_or(0), body.to_owned())
            }
            Handshake::Upgrade { .. } => (101, String::new()),
            Handshake::Partial => (0, String::new()),
        }
    }

    // PROTO-3
    #[test]
    fn accepts_an_upgrade_and_derives_the_key() {
        let text = request("GET /?a=1 HTTP/1.1", &GOOD);
        match parse(text.as_bytes(), &[]) {
            Handshake::Upgrade { target, accept, head_bytes, request } => {
                assert_eq!(target, Target::Worker);
                assert_eq!(accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
                assert_eq!(head_bytes, text.len());
                assert_eq!(request.query, "a=1");
                assert!(request.headers.contains(&("host".into(), "x".into())));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(parse(&text.as_bytes()[..text.len() - 1], &[]), Handshake::Partial);
    }

    // PROTO-2, PROTO-3
    #[test]
    fn refusals() {
        let without = |index: usize| {
            let headers: Vec<&str> =
                GOOD.iter().enumerate().filter(|(at, _)| *at != index).map(|(_, header)| *header).collect();
            request("GET / HTTP/1.1", &headers)
        };
        assert_eq!(status(&without(0)), (400, "Connection header did not include 'upgrade'".into()));
        assert_eq!(status(&without(2)), (400, "`Sec-WebSocket-Version` header did not include '13'".into()));
        assert_eq!(status(&without(3)), (400, "`Sec-WebSocket-Key` header missing".into()));
        for path in ["/otel/", "//", "/ws", "/health", "/ws/channels/", "/ws/channels/a/b"] {
            assert_eq!(status(&request(&format!("GET {path} HTTP/1.1"), &GOOD)), (404, String::new()), "{path}");
        }
        assert_eq!(status(&request("GET / HTTP/1.0", &GOOD)).0, 426);
        for method in ["POST", "HEAD", "OPTIONS"] {
            assert_eq!(status(&request(&format!("{method} / HTTP/1.1"), &GOOD)).0, 405, "{method}");
        }
        assert_eq!(status("\u{1}garbage\r\n\r\n").0, 400);
        assert_eq!(status(&request("GET /otel HTTP/1.1", &GOOD)).0, 101);
    }

    // PROTO-113
    #[test]
    fn channel_targets() {
        let with = |query: &str| request(&format!("GET /ws/channels/c%201{query} HTTP/1.1"), &GOOD);
        let missing = "Failed to deserialize query string: missing field `key`";
        assert_eq!(status(&with("")), (400, missing.into()));
        let variant = "Failed to deserialize query string: dir: unknown variant `up`, expected `read` or `write`";
        assert_eq!(status(&with("?key=k&dir=up")), (400, variant.into()));
        match parse(with("?key=a%2Bb&dir=read").as_bytes(), &[]) {
            Handshake::Upgrade { target, .. } => {
                assert_eq!(target, Target::Channel { id: "c 1".into(), key: "a+b".into(), write: false });
            }
            other => panic!("{other:?}"),
        }
    }

    // PROTO-6
    #[test]
    fn origins() {
        let allowed = ["https://good.example".to_owned()];
        let from = |origin: &str| request("GET / HTTP/1.1", &[&GOOD[..], &[&format!("Origin: {origin}")]].concat());
        assert!(matches!(parse(from("https://good.example").as_bytes(), &allowed), Handshake::Upgrade { .. }));
        assert!(matches!(parse(from("https://bad.example").as_bytes(), &allowed),
            Handshake::Answer { response, .. } if response.starts_with("HTTP/1.1 403")));
        assert!(matches!(parse(from("https://bad.example").as_bytes(), &[]), Handshake::Upgrade { .. }));
    }
}
