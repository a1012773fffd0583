//! Requests that two HTTP parsers could read in two ways (reliability T16).
//!
//! Each shape is followed by a hidden `GET /evil`, as an attacker would do. Expected: the connection is refused with a
//! 400 and closed, and `/evil` never becomes a request, whole or byte by byte.

use iii_shards::http::date::HttpDate;
use iii_shards::http::exchange::{Closing, Event, Exchange, Now, Patience};
use iii_shards::http::response::Response;

fn now() -> Now {
    Now { ms: 0, date: HttpDate::from_unix_seconds(0) }
}

/// Paths of the requests seen, and all output. Answers a request once its body is complete.
fn talk(pieces: &mut dyn Iterator<Item = &[u8]>) -> (Vec<String>, String, Closing) {
    let mut exchange = Exchange::new(now(), Patience::default());
    let mut paths = Vec::new();
    for piece in pieces {
        exchange.handle_bytes(now(), piece);
        loop {
            let is_complete = match exchange.poll_event() {
                Some(Event::Request(request)) => {
                    paths.push(String::from_utf8_lossy(request.head().path()).into_owned());
                    exchange.read_body();
                    request.head().body() == iii_shards::http::head::BodyLength::None
                }
                Some(Event::BodyEnd) => true,
                Some(Event::BodyChunk(_) | Event::Reject(_)) => false,
                None => break,
            };
            if is_complete {
                exchange.respond(now(), Response::empty(200), b"");
            }
        }
    }
    let output: Vec<u8> = std::iter::from_fn(|| exchange.poll_output()).flatten().collect();
    (paths, String::from_utf8(output).unwrap(), exchange.closing())
}

const EVIL: &str = "GET /evil HTTP/1.1\r\nhost: h\r\n\r\n";

#[test]
fn doubtful_heads_are_refused_before_they_are_a_request() {
    for head in [
        // Two framings.
        "content-length: 5\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ncontent-length: 0\r\n",
        // Lengths that are no length.
        "content-length: 5\r\ncontent-length: 6\r\n",
        "content-length: 5\r\ncontent-length: 5\r\n",
        "content-length: 5\r\nContent-Length: 0\r\n",
        "content-length: 5, 5\r\n",
        "content-length: 5,\r\n",
        "content-length: +5\r\n",
        "content-length: -5\r\n",
        "content-length: 0x5\r\n",
        "content-length: 5 5\r\n",
        "content-length: 5.0\r\n",
        "content-length: 5e0\r\n",
        "content-length: \"5\"\r\n",
        "content-length: \r\n",
        "content-length:\r\n",
        "content-length: five\r\n",
        "content-length: 18446744073709551616\r\n",
        "content-length: 99999999999999999999999\r\n",
        "content-length: \u{0665}\r\n",
        // Encodings that are not exactly `chunked`.
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n",
        "transfer-encoding: chunked\r\ntransfer-encoding: identity\r\n",
        "transfer-encoding: identity\r\n",
        "transfer-encoding: gzip, chunked\r\n",
        "transfer-encoding: chunked, chunked\r\n",
        "transfer-encoding: chunked, identity\r\n",
        "transfer-encoding: chunked,\r\n",
        "transfer-encoding: ,chunked\r\n",
        "transfer-encoding: xchunked\r\n",
        "transfer-encoding: chunked;q=1\r\n",
        "transfer-encoding: \"chunked\"\r\n",
        "transfer-encoding: \x0bchunked\r\n",
        "transfer-encoding: chunked\x0c\r\n",
        "transfer-encoding: chunked\0\r\n",
        "transfer-encoding: chunk\r\n",
        "transfer-encoding:\r\n",
        "transfer-encoding: \u{a0}chunked\r\n",
        // Names that are not quite a name.
        "transfer-encoding : chunked\r\n",
        "transfer-encoding\t: chunked\r\n",
        " transfer-encoding: chunked\r\n",
        "content-length : 5\r\n",
        "x y: 1\r\n",
        "x\0y: 1\r\n",
        "x\u{e9}: 1\r\n",
        ": 1\r\n",
        "no-colon\r\n",
        "x(y): 1\r\n",
        // Line ends.
        "x: 1\ntransfer-encoding: chunked\r\n",
        "x: 1\n",
        "x: 1\rtransfer-encoding: chunked\r\n",
        "x: 1\r\r\n",
        "x: 1\r\n\n",
        // Folds.
        "x: 1\r\n transfer-encoding: chunked\r\n",
        "x: 1\r\n\tfold\r\n",
        "transfer-encoding:\r\n chunked\r\n",
        // Control bytes in values.
        "x: a\0b\r\n",
        "x: a\x7fb\r\n",
        "x: a\x01b\r\n",
        // Hosts.
        "host: other\r\n",
        "host: a b\r\n",
    ] {
        refused(&format!("POST /ok HTTP/1.1\r\nhost: h\r\n{head}\r\n{EVIL}"), 0);
    }
}

#[test]
fn doubtful_request_lines_are_refused() {
    for line in [
        "POST  /ok HTTP/1.1\r\n",
        "POST /ok  HTTP/1.1\r\n",
        "POST\t/ok HTTP/1.1\r\n",
        "POST /ok HTTP/1.1 \r\n",
        " POST /ok HTTP/1.1\r\n",
        "POST /o k HTTP/1.1\r\n",
        "POST /ok HTTP/1.1\n",
        "\nPOST /ok HTTP/1.1\r\n",
        "\r\n\r\nPOST /ok HTTP/1.1\r\n",
        "POST /ok\r\n",
        "POST /ok HTTP/0.9\r\n",
        "POST /ok HTTP/1.2\r\n",
        "POST /ok HTTP/2.0\r\n",
        "POST /ok HTTP/1.1x\r\n",
        "POST /ok http/1.1\r\n",
        "POST /ok HTTP/01.1\r\n",
        "POST /o\0k HTTP/1.1\r\n",
        "POST /o\x7fk HTTP/1.1\r\n",
        "PO(ST /ok HTTP/1.1\r\n",
        "POST ok HTTP/1.1\r\n",
        "POST /ok#x HTTP/1.1\r\n",
        "POST http://other/ok HTTP/1.1\r\n",
        "POST http://h@other/ok HTTP/1.1\r\n",
        "POST http:/ok HTTP/1.1\r\n",
        "POST http:///ok HTTP/1.1\r\n",
        "CONNECT h:80 HTTP/1.1\r\n",
        "POST * HTTP/1.1\r\n",
    ] {
        refused(&format!("{line}host: h\r\n\r\n{EVIL}"), 0);
    }
    refused(&format!("POST /ok HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{EVIL}"), 0);
}

#[test]
fn doubtful_chunks_end_the_request_they_belong_to() {
    for body in [
        "x\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhelloXX0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "4\r\nhello\r\n0\r\n\r\n",
        "5\rXhello\r\n0\r\n\r\n",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "5;\nx\r\nhello\r\n0\r\n\r\n",
        "5;a\nhello\r\n0\r\n\r\n",
        "5;a=\"\nx\"\r\nhello\r\n0\r\n\r\n",
        "5 ;a\r\nhello\r\n0\r\n\r\n",
        "5;a b\r\nhello\r\n0\r\n\r\n",
        "5;\0\r\nhello\r\n0\r\n\r\n",
        "0\n\r\n",
        "0\r\n\n",
        "0\r\nx\r\n\r\n",
        "0\r\nx : y\r\n\r\n",
        "0\r\n fold\r\n\r\n",
        "0\r\nx: y\n\r\n",
    ] {
        refused(&format!("POST /ok HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n{body}{EVIL}"), 1);
    }
}

fn refused(text: &str, requests_max: usize) {
    let bytes = text.as_bytes();
    for (paths, output, closing) in [talk(&mut [bytes].into_iter()), talk(&mut bytes.chunks(1))] {
        assert!(paths.len() <= requests_max && !paths.iter().any(|path| path == "/evil"), "{text:?} gave {paths:?}");
        assert_eq!(
            output,
            "HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\
             date: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n",
            "{text:?}"
        );
        assert_eq!(closing, Closing::Linger, "{text:?}");
    }
}

#[test]
fn clear_requests_are_told_apart() {
    // The counterpart: what has one reading is read, and the request behind it is found.
    for (first, paths) in [
        ("POST /ok HTTP/1.1\r\ncontent-length: 35\r\n\r\nGET /hidden HTTP/1.1\r\nhost: h\r\n\r\nxx", "/ok"),
        ("POST /ok HTTP/1.1\r\nTransfer-Encoding:\tChunked \r\n\r\n1\r\n\n\r\n00\r\na: b\r\n\r\n", "/ok"),
        ("POST /ok HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n5;a=\"\\\"b\";c\r\nhello\r\n0\r\n\r\n", "/ok"),
        ("GET /ok HTTP/1.1\r\ncontent-length: 0\r\n\r\n\r\n", "/ok"),
        ("GET http://h/ok HTTP/1.1\r\nhost: h\r\n\r\n", "/ok"),
        ("GET /ok HTTP/1.1\r\ncontent-length: 00000000000000000000003\r\n\r\nabc", "/ok"),
        ("GET /ok HTTP/1.1\r\nx-transfer-encoding: chunked\r\ncontent_length: 5\r\n\r\n", "/ok"),
    ] {
        let text = format!("{first}{EVIL}");
        for (seen, output, closing) in [talk(&mut [text.as_bytes()].into_iter()), talk(&mut text.as_bytes().chunks(1))]
        {
            assert_eq!(seen, [paths, "/evil"], "{first:?}");
            assert_eq!((output.matches("HTTP/1.1 200 OK").count(), closing), (2, Closing::Open), "{first:?}");
        }
    }
}
