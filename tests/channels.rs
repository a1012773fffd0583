//! Data channels seen from outside: two raw clients, one at each end, on one shard and on four.

mod support;

use std::io::{ErrorKind, Write};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::socket::{BINARY, CLOSE, PING, PONG, TEXT, frame_bytes, upgrade_request};
use support::{Ending, Engine, PATIENCE, RawSocket, RawWorker, SILENCE, each_shard_count, error_code, eventually};

/// What a channel may hold, and how much kernels keep in their socket buffers between two processes.
const WINDOW_BYTES: u64 = 4 << 20;
const KERNEL_BYTES: u64 = 24 << 20;
/// What a full channel may cost the engine: its window, the slack of growing buffers, receive buffers touched first.
const MEMORY_BYTES: u64 = 10 * WINDOW_BYTES;

fn create(engine: &Engine, buffer_size: Value) -> Value {
    let mut worker = RawWorker::connect(engine);
    worker.call("engine::channels::create", json!({"buffer_size": buffer_size})).expect("ENG-49")
}

fn path(reference: &Value) -> String {
    let (id, key) = (&reference["channel_id"], &reference["access_key"]);
    let direction = &reference["direction"];
    let text = |value: &Value| value.as_str().expect("ENG-49: strings").to_owned();
    format!("/ws/channels/{}?key={}&dir={}", text(id), text(key), text(direction))
}

fn attach(engine: &Engine, reference: &Value) -> RawSocket {
    RawSocket::open(engine.port, &path(reference))
}

/// Writer and reader of a fresh channel.
fn pair(engine: &Engine, buffer_size: Value) -> (RawSocket, RawSocket) {
    let channel = create(engine, buffer_size);
    (attach(engine, &channel["writer"]), attach(engine, &channel["reader"]))
}

fn close(socket: &mut RawSocket, code: u16) {
    socket.write_frame(CLOSE, &code.to_be_bytes());
}

#[track_caller]
fn expect(socket: &mut RawSocket, opcode: u8, payload: &[u8]) {
    let frame = socket.read_frame().expect("a frame");
    assert!(frame.fin, "PROTO-115: one frame per message");
    assert_eq!((frame.opcode, frame.payload.len()), (opcode, payload.len()));
    assert!(frame.payload == payload);
}

/// Reads a message that may come in several frames.
fn read_message(socket: &mut RawSocket) -> (u8, Vec<u8>, usize) {
    let first = socket.read_frame().expect("a frame");
    let (opcode, mut payload, mut last, mut frames) = (first.opcode, first.payload, first.fin, 1);
    while !last {
        let next = socket.read_frame().expect("the rest of the message");
        assert_eq!(next.opcode, 0);
        payload.extend(next.payload);
        (last, frames) = (next.fin, frames + 1);
    }
    (opcode, payload, frames)
}

// PROTO-115
#[test]
fn messages_cross_unchanged_and_in_order() {
    each_shard_count(|engine| {
        for buffer_size in [json!(null), json!(1), json!(5000)] {
            let (mut writer, mut reader) = pair(engine, buffer_size);
            let sizes = [0, 1, 125, 126, 65_535, 65_536, 2 << 20];
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    for size in sizes {
                        writer.write_frame(TEXT, &vec![b't'; size]);
                        writer.write_frame(BINARY, &vec![0xFF; size]);
                    }
                    close(&mut writer, 1000);
                });
                for size in sizes {
                    expect(&mut reader, TEXT, &vec![b't'; size]);
                    expect(&mut reader, BINARY, &vec![0xFF; size]);
                }
                assert_eq!(reader.ending(), Ending::Close(None));
            });
            assert_eq!(writer.ending(), Ending::Close(Some(1000)), "PROTO-17: the writer's Close is echoed");
        }
    });
}

// PROTO-11, PROTO-12, PROTO-115
#[test]
fn a_message_in_fragments_is_one_message_and_a_huge_one_is_cut() {
    each_shard_count(|engine| {
        let (mut writer, mut reader) = pair(engine, json!(4));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                writer.write(&frame_bytes(false, TEXT, b"ab"));
                writer.write_frame(PING, b"between");
                writer.write(&frame_bytes(true, 0, b"cd"));
                for piece in 0..20u8 {
                    let opcode = if piece == 0 { BINARY } else { 0 };
                    writer.write(&frame_bytes(piece == 19, opcode, &vec![piece; 1 << 20]));
                }
            });
            expect(&mut reader, TEXT, b"abcd");
            let (opcode, payload, frames) = read_message(&mut reader);
            assert_eq!((opcode, payload.len()), (BINARY, 20 << 20));
            assert!(frames > 1, "above 16 MiB a message is sent in pieces");
            assert!(
                payload
                    .chunks(1 << 20)
                    .enumerate()
                    .all(|(piece, bytes)| bytes.iter().all(|b| usize::from(*b) == piece))
            );
        });
        expect(&mut writer, PONG, b"between");
    });
}

// PROTO-113, PROTO-114
#[test]
fn the_key_opens_each_end_once() {
    each_shard_count(|engine| {
        let channel = create(engine, json!(null));
        let stranger = create(engine, json!(null));
        for (id, key) in [
            (&channel["writer"]["channel_id"], &stranger["writer"]["access_key"]),
            (&json!("00000000-0000-4000-8000-000000000000"), &channel["writer"]["access_key"]),
            (&json!("nothing"), &json!("nothing")),
        ] {
            let reference = json!({"channel_id": id, "access_key": key, "direction": "write"});
            let mut socket = RawSocket::tcp(engine.port);
            // PROTO-3: the connection survives and may try again.
            for _ in 0..2 {
                socket.write(upgrade_request(&path(&reference)).as_bytes());
                let answer = socket.read_http();
                assert_eq!((answer.status, answer.body.as_str()), (404, "Channel not found"));
            }
        }
        let mut socket = RawSocket::tcp(engine.port);
        let id = channel["reader"]["channel_id"].as_str().expect("a string");
        socket.write(upgrade_request(&format!("/ws/channels/{id}?dir=read")).as_bytes());
        let answer = socket.read_http();
        assert_eq!(answer.status, 400);
        assert_eq!(answer.body, "Failed to deserialize query string: missing field `key`");

        for end in ["writer", "reader"] {
            let mut first = attach(engine, &channel[end]);
            let mut second = attach(engine, &channel[end]);
            assert_eq!(second.ending(), Ending::Close(None));
            assert!(first.is_open_and_silent(SILENCE), "the first is not disturbed");
            std::mem::forget(first);
        }
    });
}

// PROTO-115
#[test]
fn a_reader_may_come_when_the_writer_has_gone() {
    each_shard_count(|engine| {
        let channel = create(engine, json!(8));
        let mut writer = attach(engine, &channel["writer"]);
        for number in 0..5 {
            writer.write_text(&number.to_string());
        }
        close(&mut writer, 1000);
        assert_eq!(writer.ending(), Ending::Close(Some(1000)));
        let mut reader = attach(engine, &channel["reader"]);
        for number in 0..5 {
            expect(&mut reader, TEXT, number.to_string().as_bytes());
        }
        assert_eq!(reader.ending(), Ending::Close(None));
    });
}

// PROTO-115
#[test]
fn a_writer_that_is_lost_is_told_apart_from_one_that_is_done() {
    each_shard_count(|engine| {
        let (mut writer, mut reader) = pair(engine, json!(64));
        writer.write_text("last words");
        writer.finish();
        drop(writer);
        expect(&mut reader, TEXT, b"last words");
        assert_eq!(reader.ending(), Ending::Close(Some(1011)));
    });
}

// PROTO-115
#[test]
fn a_writer_is_closed_when_its_reader_leaves() {
    each_shard_count(|engine| {
        for politely in [true, false] {
            let (mut writer, mut reader) = pair(engine, json!(64));
            writer.write_text("x");
            expect(&mut reader, TEXT, b"x");
            if politely {
                close(&mut reader, 1000);
                assert_eq!(reader.ending(), Ending::Close(Some(1000)));
            } else {
                drop(reader);
            }
            assert_eq!(writer.ending(), Ending::Close(Some(1000)));
        }
    });
}

// PROTO-13, PROTO-115
#[test]
fn both_ends_answer_pings_and_a_reader_is_not_listened_to() {
    each_shard_count(|engine| {
        let (mut writer, mut reader) = pair(engine, json!(64));
        for _ in 0..1000 {
            reader.write_frame(BINARY, &[0; 10_000]);
        }
        reader.write_text("{\"type\":\"ping\"}");
        reader.write_frame(PING, b"reader");
        writer.write_frame(PING, b"writer");
        expect(&mut reader, PONG, b"reader");
        expect(&mut writer, PONG, b"writer");
        assert!(writer.is_open_and_silent(SILENCE));
        writer.write_text("after");
        expect(&mut reader, TEXT, b"after");
    });
}

/// Writes until the engine has taken nothing for a while. Returns how many bytes of this frame's stream went out.
fn write_until_blocked(writer: &mut RawSocket, frame: &[u8], limit: u64) -> u64 {
    writer.stream.set_write_timeout(Some(Duration::from_secs(1))).expect("the timeout is not zero");
    let mut written = 0;
    while written < limit {
        let at = (written % frame.len() as u64) as usize;
        match writer.stream.write(&frame[at..]) {
            Ok(count) => written += count as u64,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
            Err(error) => panic!("the writer was cut off: {error}"),
        }
    }
    writer.stream.set_write_timeout(None).expect("no timeout is fine");
    written
}

// PROTO-115: a slow reader slows its writer, costs bounded memory, and disturbs no other channel
#[test]
fn a_slow_reader_stops_its_writer_and_nobody_else() {
    each_shard_count(|engine| {
        let (mut writer, mut reader) = pair(engine, json!(1024));
        let (mut other_writer, mut other_reader) = pair(engine, json!(1024));
        other_writer.write_text("warm");
        expect(&mut other_reader, TEXT, b"warm");
        let before = engine.resident_bytes();
        let payload = vec![0xAB; 64 << 10];
        let frame = frame_bytes(true, BINARY, &payload);
        let taken = write_until_blocked(&mut writer, &frame, 1 << 30);
        assert!(taken < WINDOW_BYTES + KERNEL_BYTES, "the engine went on reading: {taken} bytes");
        assert!(taken >= WINDOW_BYTES, "blocked too early: {taken} bytes");
        let grown = engine.resident_bytes().saturating_sub(before);
        assert!(grown < MEMORY_BYTES, "{grown} bytes of memory");

        let started = Instant::now();
        for _ in 0..500 {
            other_writer.write_text("lively");
            expect(&mut other_reader, TEXT, b"lively");
        }
        assert!(started.elapsed() < PATIENCE, "the other channel crawls");

        // The rest of the last frame, then a clear end; everything arrives.
        let whole = taken.div_ceil(frame.len() as u64);
        let rest = (whole * frame.len() as u64 - taken) as usize;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                writer.write(&frame[frame.len() - rest..]);
                writer.write_text("done");
                close(&mut writer, 1000);
            });
            for _ in 0..whole {
                expect(&mut reader, BINARY, &payload);
            }
            expect(&mut reader, TEXT, b"done");
            assert_eq!(reader.ending(), Ending::Close(None));
        });
    });
}

// PROTO-115: the window counts messages, not only bytes; without a reader too
#[test]
fn a_writer_without_a_reader_is_stopped() {
    each_shard_count(|engine| {
        let channel = create(engine, json!(4));
        let mut writer = attach(engine, &channel["writer"]);
        let before = engine.resident_bytes();
        let frame = frame_bytes(true, BINARY, &[1; 20]);
        let batch = frame.repeat(1000);
        let taken = write_until_blocked(&mut writer, &batch, 1 << 30);
        assert!(taken < KERNEL_BYTES, "the engine went on reading: {taken} bytes");
        let grown = engine.resident_bytes().saturating_sub(before);
        assert!(grown < MEMORY_BYTES, "{grown} bytes of memory");
        let mut reader = attach(engine, &channel["reader"]);
        for _ in 0..1000 {
            expect(&mut reader, BINARY, &[1; 20]);
        }
        drop(reader);
    });
}

// PROTO-116
#[test]
fn a_channel_outlives_its_creator_and_frees_what_it_held() {
    each_shard_count(|engine| {
        let descriptors = engine.open_descriptors();
        for _ in 0..50 {
            let (mut writer, mut reader) = pair(engine, json!(1));
            writer.write_text("x");
            expect(&mut reader, TEXT, b"x");
            close(&mut writer, 1000);
            assert_eq!(reader.ending(), Ending::Close(None));
            close(&mut reader, 1000);
        }
        eventually("all sockets closed", || (engine.open_descriptors() <= descriptors).then_some(()));
    });
}

// PROTO-115: a fast pair, end to end: nothing is lost under load
#[test]
fn many_small_messages_cross_in_order() {
    each_shard_count(|engine| {
        let (mut writer, mut reader) = pair(engine, json!(64));
        const COUNT: u32 = 100_000;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut batch = Vec::new();
                for number in 0..COUNT {
                    batch.extend(frame_bytes(true, BINARY, &number.to_be_bytes()));
                    if batch.len() > 32 << 10 {
                        writer.write(&batch);
                        batch.clear();
                    }
                }
                writer.write(&batch);
                close(&mut writer, 1000);
            });
            for number in 0..COUNT {
                let frame = reader.read_frame().expect("a frame");
                assert_eq!(frame.payload, number.to_be_bytes());
            }
            assert_eq!(reader.ending(), Ending::Close(None));
        });
    });
}

// ENG-49
#[test]
fn the_buffer_size_is_checked() {
    each_shard_count(|engine| {
        let mut worker = RawWorker::connect(engine);
        for bad in [json!(-1), json!(1.5), json!("16"), json!([])] {
            let outcome = worker.call("engine::channels::create", json!({"buffer_size": bad}));
            assert_eq!(error_code(&outcome), "deserialization_error", "{bad}");
        }
        for good in [json!({}), json!({"buffer_size": 0}), json!({"buffer_size": 1_u64 << 40}), json!(null)] {
            let channel = worker.call("engine::channels::create", good).expect("ENG-49");
            assert_eq!(channel["writer"]["direction"], "write");
            assert_eq!(channel["reader"]["direction"], "read");
            assert_eq!(channel["writer"]["channel_id"], channel["reader"]["channel_id"]);
            assert_eq!(channel["writer"]["access_key"], channel["reader"]["access_key"]);
        }
    });
}

// PROTO-118, PROTO-119
#[test]
fn telemetry_is_taken_in_silence() {
    each_shard_count(|engine| {
        let mut otel = RawSocket::open(engine.port, "/otel");
        otel.write_frame(BINARY, br#"OTLP{"resourceSpans":[]}"#);
        otel.write_frame(BINARY, b"OTLP{broken");
        otel.write_frame(BINARY, b"MTRC\"\xFF\"");
        otel.write_frame(BINARY, b"{\"type\":\"ping\"}");
        otel.write_text("{\"type\":\"ping\"}");
        otel.write_text("not JSON");
        otel.write_frame(PING, b"alive");
        expect(&mut otel, PONG, b"alive");
        assert!(otel.is_open_and_silent(SILENCE));
        let mut worker = RawWorker::connect(engine);
        worker.send_binary(br#"LOGS{"resourceLogs":[]}"#);
        worker.send_binary(b"LOGS{broken");
        worker.send_binary(b"{\"type\":\"ping\"}");
        worker.expect("pong");
        worker.expect_silence();
    });
}
