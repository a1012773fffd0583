//! The HTTP upgrade that begins a WebSocket connection.
//!
//! The key is the sample of RFC 6455, so the expected answer is a constant and nothing needs hashing: the key guards
//! against confused proxies, not against anyone hostile, and a load test has neither.

use super::{Incoming, Step, WireError};

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &[u8] = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
const HEADERS_MAX: usize = 32;
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Appends the upgrade request. `host` is `name:port`.
pub fn request(out: &mut Vec<u8>, host: &str, path: &str) {
    let text = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    );
    out.extend_from_slice(text.as_bytes());
}

/// Reads the answer to [`request`] from the front of `bytes`.
pub fn response(bytes: &[u8]) -> Result<Step<'_>, WireError> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let consumed = match response.parse(bytes) {
        Ok(httparse::Status::Complete(consumed)) => consumed,
        Ok(httparse::Status::Partial) if bytes.len() < HEAD_BYTES_MAX => return Ok(Step::Incomplete { total: 0 }),
        Ok(httparse::Status::Partial) => return Err(WireError("the answer to the upgrade is too long")),
        Err(_) => return Err(WireError("the answer to the upgrade is not HTTP")),
    };
    if response.code != Some(101) {
        return Err(WireError("the server refused the upgrade to WebSocket"));
    }
    let accept = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("sec-websocket-accept"));
    if accept.is_none_or(|header| header.value != ACCEPT) {
        return Err(WireError("the server accepted a different WebSocket key"));
    }
    Ok(Step::Message { incoming: Incoming::Greeting, consumed })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
        sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

    #[test]
    fn an_accepted_upgrade_is_a_greeting_and_leaves_later_bytes_alone() {
        let mut bytes = ANSWER.to_vec();
        bytes.extend_from_slice(b"\x81\x02{}");
        let expected = Step::Message { incoming: Incoming::Greeting, consumed: ANSWER.len() };
        assert_eq!(response(&bytes), Ok(expected));
        assert_eq!(response(&ANSWER[..40]), Ok(Step::Incomplete { total: 0 }));
    }

    #[test]
    fn refusals_and_wrong_keys_are_errors() {
        assert!(response(b"HTTP/1.1 404 Not Found\r\n\r\n").is_err());
        assert!(response(b"HTTP/1.1 101 x\r\nsec-websocket-accept: AAAA\r\n\r\n").is_err());
        assert!(response(b"INFO {}\r\n").is_err());
    }

    #[test]
    fn the_request_names_host_and_path() {
        let mut out = Vec::new();
        request(&mut out, "127.0.0.1:49134", "/");
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("GET / HTTP/1.1\r\nHost: 127.0.0.1:49134\r\n"));
        assert!(text.ends_with("\r\n\r\n"));
    }
}
