//! Heads that are read, and the limits. The refused ones are in `tests/http_smuggling.rs`.

use super::*;

fn parse_all(text: &[u8]) -> Result<Request, Option<Reject>> {
    match parse(text, &mut Progress::default()) {
        Parse::Complete { index, length } => Ok(RequestHead::new(&text[..length], &index).to_request()),
        Parse::Partial => Err(None),
        Parse::Reject(reject) => Err(Some(reject)),
    }
}

#[test]
fn reads_a_plain_request() {
    let request = parse_all(b"POST /a%20b/c?x=1&y HTTP/1.1\r\nHost: h:1\r\nX-A:  v \r\nContent-Length: 5\r\n\r\nhello");
    let request = request.unwrap();
    let head = request.head();
    assert_eq!((head.method(), head.path(), head.query()), (Some(Method::Post), &b"/a%20b/c"[..], Some(&b"x=1&y"[..])));
    assert_eq!(head.header("x-a"), Some(&b"v"[..]));
    assert_eq!((head.body(), head.keep_alive(), head.expects_continue()), (BodyLength::Length(5), true, false));
}

#[test]
fn targets() {
    // HTTP-21, case 25
    for (line, host, path) in [
        ("GET /a", "h", Ok("/a")),
        ("GET http://h:80/a/b?c", "h:80", Ok("/a/b")),
        ("GET HTTP://h", "H", Ok("/")),
        ("GET http://h?q", "h", Ok("/")),
        ("OPTIONS *", "h", Ok("*")),
        ("GET *", "h", Err(400)),
        ("GET a/b", "h", Err(400)),
        ("GET http://other/a", "h", Err(400)),
        ("GET http:///a", "h", Err(400)),
        ("GET http://u@h/a", "h", Err(400)),
        ("GET ftp://h/a", "h", Err(400)),
        ("CONNECT h:443", "h", Err(400)),
        ("GET /a#b", "h", Err(400)),
    ] {
        let seen = parse_all(format!("{line} HTTP/1.1\r\nhost: {host}\r\n\r\n").as_bytes());
        let seen = seen
            .map(|request| String::from_utf8(request.head().path().to_vec()).unwrap())
            .map_err(|reject| reject.unwrap().status().unwrap());
        assert_eq!(seen, path.map(str::to_owned), "{line}");
    }
}

#[test]
fn keep_alive_decision() {
    // HTTP-68
    for (version, connection, expected) in [
        ("1.1", "", true),
        ("1.1", "connection: close\r\n", false),
        ("1.1", "connection: x, Close\r\n", false),
        ("1.1", "connection: keep-alive\r\nconnection: close\r\n", false),
        ("1.0", "", false),
        ("1.0", "connection: Keep-Alive\r\n", true),
        ("1.0", "connection: keep-alive, close\r\n", false),
    ] {
        let request = parse_all(format!("GET / HTTP/{version}\r\n{connection}\r\n").as_bytes()).unwrap();
        assert_eq!(request.head().keep_alive(), expected, "{version} {connection}");
    }
}

#[test]
fn limits() {
    // HTTP-51, HTTP-69
    let with_headers = |count: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(count));
    assert!(parse_all(with_headers(100).as_bytes()).is_ok());
    assert_eq!(parse_all(with_headers(101).as_bytes()).unwrap_err(), Some(Reject::HeadTooLarge));
    let with_path = |bytes: usize| format!("GET /{} HTTP/1.1\r\n\r\n", "p".repeat(bytes - 1));
    assert!(parse_all(with_path(URI_BYTES_MAX).as_bytes()).is_ok());
    assert_eq!(parse_all(with_path(URI_BYTES_MAX + 1).as_bytes()).unwrap_err(), Some(Reject::UriTooLong));
    assert_eq!(parse_all("GET /".repeat(20_000).as_bytes()).unwrap_err(), Some(Reject::UriTooLong));
    let with_header = |bytes: usize| format!("GET / HTTP/1.1\r\na: {}\r\n\r\n", "v".repeat(bytes));
    assert!(parse_all(with_header(250 << 10).as_bytes()).is_ok());
    assert_eq!(parse_all(with_header(256 << 10).as_bytes()).unwrap_err(), Some(Reject::HeadTooLarge));
    assert_eq!(
        parse_all(&with_header(256 << 10).as_bytes()[..HEAD_BYTES_MAX]).unwrap_err(),
        Some(Reject::HeadTooLarge)
    );
}

#[test]
fn what_is_not_http_is_known_early() {
    assert_eq!(parse_all(b"\x16\x03\x01").unwrap_err(), Some(Reject::Malformed("method"))); // TLS
    assert_eq!(parse_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap_err(), Some(Reject::Http2)); // HTTP-10
    assert_eq!(parse_all(b"GET / HTTP/2.0\r\n\r\n").unwrap_err(), Some(Reject::Malformed("version")));
}
