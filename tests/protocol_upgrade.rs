//! The HTTP upgrade: which requests become a worker connection, and what the others hear.

mod support;

use std::time::{Duration, Instant};

use support::socket::{HttpAnswer, TEXT, frame_bytes, upgrade_request};
use support::{Ending, Engine, Frame, RawSocket, RawWorker, json};

fn ask(engine: &Engine, request: &str) -> HttpAnswer {
    let mut socket = RawSocket::tcp(engine.port);
    socket.write(request.as_bytes());
    socket.read_http()
}

// PROTO-1, PROTO-2: exact paths; the query string is free.
#[test]
fn only_known_paths_upgrade() {
    let engine = Engine::start(1);
    for path in ["/", "/?token=a&x", "/otel", "/otel?x=%20"] {
        assert_eq!(ask(&engine, &upgrade_request(path)).status, 101, "{path}");
    }
    for path in ["/otel/", "//", "/ws", "/health", "/index.html", "/ws/channels/"] {
        let answer = ask(&engine, &upgrade_request(path));
        assert_eq!((answer.status, answer.body.as_str()), (404, ""), "{path}");
    }
}

// PROTO-3: every missing requirement has its own answer.
#[test]
fn a_wrong_upgrade_is_told_what_is_wrong() {
    let engine = Engine::start(1);
    let good = upgrade_request("/");
    let cases = [
        (good.replace("Connection: Upgrade", "Connection: keep-alive"), "Connection header did not include 'upgrade'"),
        (good.replace("Connection: Upgrade\r\n", ""), "Connection header did not include 'upgrade'"),
        (good.replace("Version: 13", "Version: 8"), "`Sec-WebSocket-Version` header did not include '13'"),
        (good.replace("Sec-WebSocket-Version: 13\r\n", ""), "`Sec-WebSocket-Version` header did not include '13'"),
        (good.replace("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", ""), "`Sec-WebSocket-Key` header missing"),
    ];
    for (request, body) in cases {
        let answer = ask(&engine, &request);
        assert_eq!((answer.status, answer.body.as_str()), (400, body), "{request}");
    }
    assert_eq!(ask(&engine, &good.replace("Upgrade: websocket", "Upgrade: h2c")).status, 400);
    assert_eq!(ask(&engine, &good.replace("Upgrade: websocket\r\n", "")).status, 400);
}

// PROTO-3, PROTO-6: other methods are not allowed, OPTIONS included; no CORS headers.
#[test]
fn other_methods_are_not_allowed() {
    let engine = Engine::start(1);
    for method in ["HEAD", "POST", "PUT", "OPTIONS", "DELETE"] {
        let mut socket = RawSocket::tcp(engine.port);
        socket.write(upgrade_request("/").replace("GET", method).as_bytes());
        let answer = socket.read_http();
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET,HEAD")), "{method}");
        assert_eq!(answer.header("access-control-allow-origin"), None);
    }
}

// PROTO-3: HTTP/1.0 cannot upgrade.
#[test]
fn http_1_0_is_refused_and_closed() {
    let engine = Engine::start(1);
    let mut socket = RawSocket::tcp(engine.port);
    socket.write(upgrade_request("/").replace("HTTP/1.1", "HTTP/1.0").as_bytes());
    assert_eq!(socket.read_http().status, 426);
    assert_eq!(socket.read_frame(), None, "the connection ends after 426");
}

// PROTO-3: garbage is answered, then cut.
#[test]
fn garbage_instead_of_a_request_is_refused() {
    let engine = Engine::start(1);
    for garbage in
        ["\0\x01\x02\x03\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "GET / HTTP/1.1\r\nno colon\r\n\r\n"]
    {
        let mut socket = RawSocket::tcp(engine.port);
        socket.write(garbage.as_bytes());
        let answer = socket.read_http();
        assert_eq!((answer.status, answer.header("connection")), (400, Some("close")), "{garbage:?}");
        assert_eq!(socket.read_frame(), None, "the connection ends after {garbage:?}");
    }
}

// PROTO-3: after an error answer the same TCP connection may try again.
#[test]
fn an_error_answer_keeps_the_connection() {
    let engine = Engine::start(1);
    let mut socket = RawSocket::tcp(engine.port);
    socket.write(upgrade_request("/nowhere").as_bytes());
    assert_eq!(socket.read_http().status, 404);
    socket.write(upgrade_request("/").replace("Connection: Upgrade\r\n", "").as_bytes());
    assert_eq!(socket.read_http().status, 400);
    socket.write(upgrade_request("/").as_bytes());
    assert_eq!(socket.read_http().status, 101);
    assert_eq!(socket.read_frame().expect("the greeting").opcode, TEXT);
}

// PROTO-4, PROTO-5, T5: what a success looks like; offers of extensions and subprotocols are ignored.
#[test]
fn a_success_negotiates_nothing() {
    let engine = Engine::start(1);
    let offers = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\
                  Sec-WebSocket-Protocol: chat, superchat\r\nOrigin: https://elsewhere.example\r\n\r\n";
    let request = upgrade_request("/").trim_end().to_owned() + "\r\n" + offers;
    let answer = ask(&engine, &request);
    assert_eq!(answer.status, 101);
    // The key of RFC 6455, section 1.3, and its answer.
    assert_eq!(answer.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert!(answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("upgrade")));
    assert!(answer.header("upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket")));
    assert_eq!(answer.header("sec-websocket-extensions"), None);
    assert_eq!(answer.header("sec-websocket-protocol"), None);
}

// PROTO-5: Rust SDKs turn off Nagle's algorithm when they see this.
#[test]
fn every_answer_names_the_capabilities() {
    let engine = Engine::start(1);
    for path in ["/", "/otel", "/nowhere"] {
        let answer = ask(&engine, &upgrade_request(path));
        assert_eq!(answer.header("x-iii-capabilities"), Some("tcp-nodelay"), "{path}: {answer:?}");
    }
}

// PROTO-3: names and tokens in any case, tokens in lists.
#[test]
fn header_tokens_are_found_in_any_spelling() {
    let engine = Engine::start(1);
    let good = upgrade_request("/");
    for request in [
        good.replace("Connection: Upgrade", "Connection: keep-alive, Upgrade"),
        good.replace("Connection: Upgrade", "CONNECTION: upgrade"),
        good.replace("Upgrade: websocket", "upgrade: WebSocket"),
        good.replace("Sec-WebSocket-Key", "sec-websocket-KEY"),
    ] {
        assert_eq!(ask(&engine, &request).status, 101, "{request}");
    }
}

// PROTO-8: SDKs send at once, sometimes in the same packet as the request.
#[test]
fn frames_behind_the_request_are_not_lost() {
    let engine = Engine::start(1);
    let mut socket = RawSocket::tcp(engine.port);
    let mut bytes = upgrade_request("/").into_bytes();
    bytes.extend(frame_bytes(true, TEXT, br#"{"type":"ping"}"#));
    socket.write(&bytes);
    assert_eq!(socket.read_http().status, 101);
    assert!(String::from_utf8(socket.read_frame().expect("greeting").payload).unwrap().contains("workerregistered"));
    let pong = Frame { fin: true, opcode: TEXT, payload: br#"{"type":"pong"}"#.to_vec() };
    assert_eq!(socket.read_frame(), Some(pong));
}

// PROTO-3: a request may arrive byte by byte.
#[test]
fn a_request_in_small_pieces_is_understood() {
    let engine = Engine::start(1);
    let mut socket = RawSocket::tcp(engine.port);
    for byte in upgrade_request("/").bytes() {
        socket.write(&[byte]);
    }
    assert_eq!(socket.read_http().status, 101);
}

// PROTO-7, T3: whoever does not finish a request within ten seconds is cut off without a word; workers are not.
#[test]
fn unfinished_handshakes_are_cut_at_the_deadline() {
    let engine = Engine::start(2);
    let mut worker = RawWorker::connect(&engine);
    let started = Instant::now();
    let mut silent = RawSocket::tcp(engine.port);
    let mut partial = RawSocket::tcp(engine.port);
    partial.write(b"GET / HTTP/1.1\r\nHost: 127");
    let mut idle = RawSocket::tcp(engine.port);
    idle.write(upgrade_request("/nowhere").as_bytes());
    assert_eq!(idle.read_http().status, 404);
    let mut slow = RawSocket::tcp(engine.port);
    slow.write(b"GET / HTTP/1.1\r\nX: ");
    while started.elapsed() < Duration::from_secs(8) {
        assert!(slow.is_open_and_silent(Duration::from_millis(500)), "cut too early, after {:?}", started.elapsed());
        slow.write(b"x");
    }
    for socket in [&mut silent, &mut partial, &mut idle, &mut slow] {
        assert_eq!(socket.read_frame(), None, "cut without an answer");
    }
    let elapsed = started.elapsed();
    assert!(elapsed < Duration::from_secs(18), "cut only after {elapsed:?}");
    worker.round_trip();
}

// T3: a request head that never ends is cut, and not kept.
#[test]
fn an_endless_request_is_cut() {
    let engine = Engine::start(1);
    let before = engine.resident_bytes();
    let mut socket = RawSocket::tcp(engine.port);
    socket.write(b"GET / HTTP/1.1\r\n");
    let line = format!("X-Filler: {}\r\n", "x".repeat(1000));
    let deadline = Instant::now() + Duration::from_secs(18);
    while socket.try_write(line.as_bytes()) {
        assert!(Instant::now() < deadline, "the engine still reads the endless request");
    }
    let grown = engine.resident_bytes().saturating_sub(before);
    assert!(grown < 8 << 20, "grew by {grown} bytes");
    RawWorker::connect(&engine).round_trip();
}

// PROTO-9: many clients at once all get their answer.
#[test]
fn a_burst_of_connections_is_answered() {
    let engine = Engine::start(4);
    let mut sockets: Vec<_> = (0..300).map(|_| RawSocket::tcp(engine.port)).collect();
    for socket in &mut sockets {
        socket.write(upgrade_request("/").as_bytes());
    }
    for socket in &mut sockets {
        assert_eq!(socket.read_http().status, 101);
        assert!(socket.read_frame().is_some());
    }
}

// PROTO-4: without extensions a reserved bit is a protocol error.
#[test]
fn a_reserved_bit_is_a_protocol_error() {
    let engine = Engine::start(1);
    for bit in [0x40, 0x20, 0x10] {
        let mut socket = RawSocket::worker(engine.port);
        let mut frame = frame_bytes(true, TEXT, json!({"type": "ping"}).to_string().as_bytes());
        frame[0] |= bit;
        socket.write(&frame);
        assert_eq!(socket.ending(), Ending::Close(Some(1002)));
    }
}
