//! The WebSocket layer: good frames in every legal shape, and bad ones, which cost only their sender.

mod support;

use support::socket::{BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame_bytes, frame_head};
use support::{Ending, Engine, Frame, RawSocket, RawWorker, SILENCE, json};

const PING_MESSAGE: &str = r#"{"type":"ping"}"#;
const FRAME_BYTES_MAX: u64 = 16 << 20;

fn pong_message() -> Frame {
    Frame { fin: true, opcode: TEXT, payload: br#"{"type":"pong"}"#.to_vec() }
}

/// Sends the bytes on a fresh worker connection and checks the Close code; another worker must not notice.
fn expect_close(engine: &Engine, what: &str, bytes: &[u8], codes: &[u16]) {
    let mut bystander = RawWorker::connect(engine);
    let mut socket = RawSocket::worker(engine.port);
    socket.try_write(bytes);
    let ending = socket.ending();
    assert!(matches!(ending, Ending::Close(Some(code)) if codes.contains(&code)), "{what}: {ending:?}, not {codes:?}");
    bystander.round_trip();
}

// PROTO-10: JSON is welcome in text and in binary frames; blanks are nothing.
#[test]
fn messages_come_in_text_and_binary_frames() {
    let engine = Engine::start(1);
    let mut socket = RawSocket::worker(engine.port);
    for blank in ["", " ", "\r\n\t "] {
        socket.write_text(blank);
    }
    socket.write_text(PING_MESSAGE);
    assert_eq!(socket.read_frame(), Some(pong_message()));
    socket.write_frame(BINARY, PING_MESSAGE.as_bytes());
    assert_eq!(socket.read_frame(), Some(pong_message()));
}

// PROTO-11: fragments of any size, with control frames in between.
#[test]
fn fragments_are_joined() {
    let engine = Engine::start(1);
    for opcode in [TEXT, BINARY] {
        let mut socket = RawSocket::worker(engine.port);
        let (head, rest) = PING_MESSAGE.as_bytes().split_at(4);
        let (middle, tail) = rest.split_at(5);
        socket.write(&frame_bytes(false, opcode, head));
        socket.write(&frame_bytes(true, PING, b"between"));
        socket.write(&frame_bytes(false, CONTINUATION, b""));
        socket.write(&frame_bytes(false, CONTINUATION, middle));
        socket.write(&frame_bytes(true, CONTINUATION, tail));
        assert_eq!(socket.read_frame(), Some(Frame { fin: true, opcode: PONG, payload: b"between".to_vec() }));
        assert_eq!(socket.read_frame(), Some(pong_message()));
    }
}

// PROTO-11: a frame that arrives byte by byte is a frame.
#[test]
fn frames_may_arrive_in_small_pieces() {
    let engine = Engine::start(1);
    let mut socket = RawSocket::worker(engine.port);
    for byte in frame_bytes(true, TEXT, PING_MESSAGE.as_bytes()) {
        socket.write(&[byte]);
    }
    assert_eq!(socket.read_frame(), Some(pong_message()));
}

// A multi-byte character may be cut by a fragment boundary; only the joined text must be UTF-8.
#[test]
fn a_character_may_span_two_fragments() {
    let engine = Engine::start(1);
    let mut socket = RawSocket::worker(engine.port);
    let text = r#"{"type":"ping","note":"é"}"#;
    let cut = text.find('é').unwrap() + 1;
    socket.write(&frame_bytes(false, TEXT, &text.as_bytes()[..cut]));
    socket.write(&frame_bytes(true, CONTINUATION, &text.as_bytes()[cut..]));
    assert_eq!(socket.read_frame(), Some(pong_message()));
}

// PROTO-11: violations of the protocol close with 1002, and cost nobody else anything.
#[test]
fn violations_close_with_1002() {
    let engine = Engine::start(1);
    let mut unmasked = frame_head(0x81, 15, false);
    unmasked.extend(PING_MESSAGE.as_bytes());
    let cases = [
        ("an unmasked frame", unmasked),
        ("reserved opcode 3", frame_bytes(true, 3, b"x")),
        ("reserved opcode 11", frame_bytes(true, 11, b"x")),
        ("a long control frame", frame_bytes(true, PING, &[0; 126])),
        ("a fragmented control frame", frame_bytes(false, PING, b"x")),
        ("a continuation of nothing", frame_bytes(true, CONTINUATION, b"x")),
        ("a new message inside another", [frame_bytes(false, TEXT, b"a"), frame_bytes(true, TEXT, b"b")].concat()),
        ("a Close of one byte", frame_bytes(true, CLOSE, b"\x03")),
        ("a Close with code 1005", frame_bytes(true, CLOSE, &1005_u16.to_be_bytes())),
        ("a Close with code 999", frame_bytes(true, CLOSE, &999_u16.to_be_bytes())),
    ];
    for (what, bytes) in cases {
        expect_close(&engine, what, &bytes, &[1002]);
    }
}

// PROTO-11: text must be UTF-8.
#[test]
fn invalid_utf8_closes_with_1007() {
    let engine = Engine::start(1);
    let mut close = 1000_u16.to_be_bytes().to_vec();
    close.extend(b"\xFF\xFE");
    expect_close(&engine, "text", &frame_bytes(true, TEXT, b"{\"type\":\"\xFF\"}"), &[1007]);
    expect_close(&engine, "an overlong form", &frame_bytes(true, TEXT, b"{\"type\":\"\xC0\xAF\"}"), &[1007]);
    expect_close(&engine, "a surrogate", &frame_bytes(true, TEXT, b"{\"type\":\"\xED\xA0\x80\"}"), &[1007]);
    expect_close(&engine, "a Close reason", &frame_bytes(true, CLOSE, &close), &[1007]);
}

// PROTO-11, T4: a declared length is refused before anything is allocated for it.
#[test]
fn an_oversized_frame_closes_with_1009() {
    let engine = Engine::start(1);
    let before = engine.resident_bytes();
    let with_mask = |length| [frame_head(0x81, length, true), vec![1, 2, 3, 4, b'{']].concat();
    expect_close(&engine, "one byte too many", &with_mask(FRAME_BYTES_MAX + 1), &[1009]);
    expect_close(&engine, "2^40", &with_mask(1 << 40), &[1009]);
    expect_close(&engine, "2^63 - 1", &with_mask((1 << 63) - 1), &[1009]);
    // The top bit must be zero (RFC 6455, 5.2), so this one is wrong twice over.
    expect_close(&engine, "2^63", &with_mask(1 << 63), &[1002, 1009]);
    let grown = engine.resident_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "grew by {grown} bytes");
}

// PROTO-11, T4: a message that never ends is cut at 64 MiB.
#[test]
fn an_endless_message_closes_with_1009() {
    let engine = Engine::start(1);
    let mut socket = RawSocket::worker(engine.port);
    let piece = vec![b' '; 1 << 20];
    socket.write(&frame_bytes(false, TEXT, &piece));
    for _ in 1..64 {
        socket.write(&frame_bytes(false, CONTINUATION, &piece));
    }
    socket.write(&frame_bytes(false, CONTINUATION, b" "));
    assert_eq!(socket.ending(), Ending::Close(Some(1009)));
    RawWorker::connect(&engine).round_trip();
}

// T4: a million one-byte fragments are one odd message, or a reason to close; never a reason to swell.
#[test]
fn a_million_fragments_do_not_swell_the_engine() {
    let engine = Engine::start(1);
    let before = engine.resident_bytes();
    let mut socket = RawSocket::worker(engine.port);
    let mut open = socket.try_write(&frame_bytes(false, TEXT, b" "));
    let batch = frame_bytes(false, CONTINUATION, b" ").repeat(1000);
    for _ in 0..1000 {
        open = open && socket.try_write(&batch);
    }
    if open && socket.try_write(&frame_bytes(true, CONTINUATION, PING_MESSAGE.as_bytes())) {
        match socket.read_frame() {
            Some(frame) if frame.opcode == CLOSE => assert!(matches!(frame.payload[..2], [0x03, 0xEA] | [0x03, 0xF1])),
            Some(frame) => assert_eq!(frame, pong_message()),
            None => {}
        }
    }
    let grown = engine.resident_bytes().saturating_sub(before);
    assert!(grown < 96 << 20, "grew by {grown} bytes");
    RawWorker::connect(&engine).round_trip();
}

// PROTO-13: one Pong, same payload, on both paths; unsolicited Pongs are ignored.
#[test]
fn a_ping_is_answered_once() {
    let engine = Engine::start(1);
    for path in ["/", "/otel"] {
        let mut socket = RawSocket::open(engine.port, path);
        if path == "/" {
            socket.read_frame().expect("the greeting");
        }
        socket.write_frame(PONG, b"unasked");
        for payload in [&b""[..], b"abc", &[7; 125]] {
            socket.write_frame(PING, payload);
            assert_eq!(socket.read_frame(), Some(Frame { fin: true, opcode: PONG, payload: payload.to_vec() }));
        }
        assert!(socket.is_open_and_silent(SILENCE), "a second Pong on {path}");
    }
}

// T4: a flood of pings is answered or cut, and costs neither memory nor others' service.
#[test]
fn a_ping_flood_is_survived() {
    let engine = Engine::start(1);
    let before = engine.resident_bytes();
    let mut socket = RawSocket::worker(engine.port);
    let flood = frame_bytes(true, PING, &[1; 100]).repeat(100);
    let open = (0..200).all(|_| socket.try_write(&flood)) && socket.try_write(&frame_bytes(true, PING, b"last"));
    // RFC 6455 lets one answer cover earlier pings.
    let cut = loop {
        match socket.read_frame() {
            Some(frame) if frame.opcode == PONG && frame.payload == b"last" => break false,
            Some(frame) if frame.opcode == CLOSE => {
                assert!(matches!(frame.payload[..2], [0x03, 0xEA] | [0x03, 0xF0] | [0x03, 0xF1]), "{frame:?}");
                break true;
            }
            Some(frame) => assert_eq!(frame.opcode, PONG),
            None => break true,
        }
    };
    assert!(open || cut);
    let grown = engine.resident_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "grew by {grown} bytes");
    RawWorker::connect(&engine).round_trip();
}

// PROTO-16
#[test]
fn a_json_ping_is_answered_and_a_json_pong_is_not() {
    let engine = Engine::start(1);
    let mut worker = RawWorker::connect(&engine);
    worker.send(json!({"type": "pong"}));
    worker.send(json!({"type": "ping"}));
    assert_eq!(worker.recv(), json!({"type": "pong"}));
    worker.expect_silence();
}

// PROTO-17: a Close is echoed with its code, then TCP ends.
#[test]
fn a_close_is_echoed() {
    let engine = Engine::start(1);
    for code in [Some(1000_u16), Some(1001), Some(1011), Some(4321), None] {
        let mut socket = RawSocket::worker(engine.port);
        socket.write_frame(CLOSE, &code.map(|code| code.to_be_bytes().to_vec()).unwrap_or_default());
        assert_eq!(socket.ending(), Ending::Close(code));
    }
}

// PROTO-17: what arrives before a Close still counts.
#[test]
fn frames_before_a_close_still_count() {
    let engine = Engine::start(1);
    let mut provider = RawWorker::serving(&engine, "provider", &["last::words"]);
    let mut socket = RawSocket::worker(engine.port);
    let call = json!({"type": "invokefunction", "function_id": "last::words", "data": 1, "action": {"type": "void"}});
    let mut bytes = frame_bytes(true, TEXT, call.to_string().as_bytes());
    bytes.extend(frame_bytes(true, CLOSE, &1000_u16.to_be_bytes()));
    socket.write(&bytes);
    assert_eq!(provider.expect("invokefunction")["data"], 1);
    assert_eq!(socket.ending(), Ending::Close(Some(1000)));
}

// PROTO-12a: nothing longer than 16 MiB leaves in one frame; the pieces are at most 1 MiB.
#[test]
fn large_messages_leave_in_pieces() {
    let engine = Engine::start(2);
    let mut provider = RawSocket::worker(engine.port);
    let register = json!({"runtime": "node", "version": "0.22.1", "name": "big", "pid": 1});
    provider.write_text(
        &json!({"type": "invokefunction", "function_id": "engine::workers::register", "data": register}).to_string(),
    );
    provider.write_text(&json!({"type": "registerfunction", "id": "big::take"}).to_string());
    engine.wait_for_function("big::take");
    let mut caller = RawWorker::named(&engine, "caller");
    // The caller's own frame must stay within 16 MiB, so it sends fragments, too.
    let payload = "x".repeat(17 << 20);
    let id = caller.fresh_id();
    let call = json!({"type": "invokefunction", "invocation_id": id, "function_id": "big::take", "data": payload});
    caller.send_in_pieces(&call.to_string(), 1 << 20);
    let mut joined = Vec::new();
    loop {
        let frame = provider.read_frame().expect("the call arrives");
        assert!(frame.payload.len() <= 1 << 20, "a frame of {} bytes", frame.payload.len());
        assert_eq!(frame.opcode, if joined.is_empty() { TEXT } else { CONTINUATION });
        joined.extend(frame.payload);
        if frame.fin {
            break;
        }
    }
    let delivery: support::Value = serde_json::from_slice(&joined).expect("one JSON message");
    assert_eq!(delivery["data"], payload);
}
