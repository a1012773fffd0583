//! Bodies and responses through channels.

use iii_shards::channel::{ChannelEvent, End, Leaving};
use serde_json::{Value, json};

use super::bench::{Bench, get, post};
use super::settings;
use crate::config::settings::HttpSettings;

fn streaming() -> (Bench, iii_shards::builtin::SocketId, iii_shards::builtin::fake::Made) {
    let mut bench = Bench::routing(HttpSettings::default(), &["GET /a f"]);
    let socket = bench.request(&get("/a"));
    let call = bench.call();
    (bench, socket, call)
}

// HTTP-30, HTTP-31
#[test]
fn the_bytes_of_any_body_can_be_read() {
    let mut bench = Bench::routing(HttpSettings::default(), &["POST /a f"]);
    let json_body = r#"{"z":2, "a":1}"#;
    bench.request(&post("/a", json_body));
    let call = bench.call();
    let channel = bench.attach(&call, "request_body", End::Reader);
    assert_eq!(bench.read(channel), (vec![14, usize::MAX], json_body.as_bytes().to_vec()));
    // No body: the end at once.
    bench.request("POST /a HTTP/1.1\r\n\r\n");
    let call = bench.call();
    let channel = bench.attach(&call, "request_body", End::Reader);
    assert_eq!(bench.read(channel), (vec![usize::MAX], Vec::new()));
    // A large one in pieces.
    let large = format!("\"{}\"", "x".repeat(10 << 20));
    bench.request(&post("/a", &large));
    let call = bench.call();
    let channel = bench.attach(&call, "request_body", End::Reader);
    let (sizes, content) = bench.read(channel);
    assert!(sizes[..sizes.len() - 1].iter().all(|size| *size <= 64 << 10), "HTTP-31");
    assert!(content == large.as_bytes());
}

// HTTP-32; cases 7, 49
#[test]
fn other_bodies_are_read_when_the_function_asks() {
    let mut bench = Bench::routing(HttpSettings::default(), &["POST /a f"]);
    let socket = bench.request("POST /a HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 20000000\r\n\r\n");
    let call = bench.call();
    assert_eq!(serde_json::from_str::<Value>(&call.data).unwrap()["body"], Value::Null);
    assert_eq!(bench.output(socket), "");
    let channel = bench.attach(&call, "request_body", End::Reader);
    assert_eq!(bench.output(socket), "HTTP/1.1 100 Continue\r\n\r\n", "HTTP-33");
    let mut sent = 0;
    while !bench.host.paused.contains(&socket) {
        bench.send(socket, vec![b'x'; 10_000]);
        sent += 10_000;
        assert!(sent < 6 << 20, "a channel holds one window");
    }
    let (_, content) = bench.read(channel);
    let mut received = content.len();
    assert!(bench.host.paused.is_empty(), "what was read makes room");
    while sent < 20_000_000 {
        bench.send(socket, vec![b'x'; 10_000]);
        sent += 10_000;
        received += bench.read(channel).1.len();
    }
    assert_eq!(received, 20_000_000);
    bench.answer(&call, json!({"body": "done"}));
    assert_eq!(bench.response(socket).1, "\"done\"");
}

// HTTP-32, HTTP-70
#[test]
fn a_function_may_ignore_the_body() {
    let mut bench = Bench::routing(HttpSettings::default(), &["POST /a f"]);
    let socket = bench.request("POST /a HTTP/1.1\r\ncontent-length: 30000000\r\n\r\nxxxx");
    let call = bench.call();
    bench.answer(&call, json!({"body": 1}));
    assert!(bench.output(socket).contains("connection: close\r\n"));
    assert_eq!(bench.host.closed, [(socket, false)]);
    // A short rest is read past.
    let socket = bench.request("POST /a HTTP/1.1\r\ncontent-length: 8\r\n\r\nxxxx");
    let call = bench.call();
    bench.answer(&call, json!({"body": 1}));
    assert_eq!(bench.response(socket).1, "1");
    bench.send(socket, "xxxx".to_owned() + &post("/a", "2"));
    assert_eq!(bench.call().function_id, "f");
}

// HTTP-34; cases S16, S17
#[test]
fn a_body_too_large_for_the_worker_is_left_to_be_read() {
    let mut bench = Bench::routing(HttpSettings::default(), &["POST /a f"]);
    let socket = bench.request(&post("/a", r#"{"n":1}"#));
    let call = bench.call();
    bench.fail(&call, "payload_too_large", "too large");
    let call = bench.call();
    assert_eq!(serde_json::from_str::<Value>(&call.data).unwrap()["body"], Value::Null);
    let channel = bench.attach(&call, "request_body", End::Reader);
    assert_eq!(bench.read(channel).1, br#"{"n":1}"#);
    bench.fail(&call, "payload_too_large", "still too large");
    assert_eq!(bench.response(socket).0, 500);
}

// HTTP-56, HTTP-57; cases 42, 43, 44
#[test]
fn a_streamed_response() {
    let (mut bench, socket, call) = streaming();
    let channel = bench.attach(&call, "response", End::Writer);
    bench.write(channel, true, r#"{"type":"set_status","status_code":201}"#);
    bench.write(channel, true, r#"{"type":"set_headers","headers":{"Content-Type":"text/event-stream"}}"#);
    assert_eq!(bench.output(socket), "");
    bench.write(channel, false, "data: 1\n\n");
    let output = bench.output(socket);
    assert!(output.starts_with("HTTP/1.1 201 Created\r\ncontent-type: text/event-stream\r\nvary:"), "{output}");
    assert!(
        output.contains("transfer-encoding: chunked\r\n") && output.ends_with("\r\n\r\n9\r\ndata: 1\n\n\r\n"),
        "{output}"
    );
    bench.write(channel, true, r#"{"type":"set_status","status_code":500}"#);
    bench.wait(100_000);
    bench.write(channel, false, "x");
    assert_eq!(bench.output(socket), "1\r\nx\r\n", "HTTP-60: only the head is awaited");
    bench.answer(&call, json!({"status_code": 500}));
    bench.leave(channel, End::Writer, Leaving::Finished);
    assert_eq!(bench.output(socket), "0\r\n\r\n");
    assert!(bench.host.channels.is_empty());
    bench.send(socket, get("/a"));
    assert_eq!(bench.call().function_id, "f", "the connection goes on");
}

// HTTP-56, HTTP-58; cases 43, 45, 46, 47, S14
#[test]
fn whichever_comes_first_is_the_answer() {
    let status = r#"{"type":"set_status","status_code":404}"#;
    // The end of the channel before any bytes.
    let (mut bench, socket, call) = streaming();
    let channel = bench.attach(&call, "response", End::Writer);
    bench.write(channel, true, status);
    bench.leave(channel, End::Writer, Leaving::Finished);
    let output = bench.output(socket);
    assert!(output.starts_with("HTTP/1.1 404 ") && output.ends_with("\r\n\r\n0\r\n\r\n"), "{output}");
    // A result, an error, nothing: before any bytes.
    for (outcome, expected) in
        [(Ok(json!({"status_code": 202})), Some(202)), (Err("BOOM"), Some(500)), (Ok(Value::Null), None)]
    {
        let (mut bench, socket, call) = streaming();
        let channel = bench.attach(&call, "response", End::Writer);
        bench.write(channel, true, status);
        match outcome {
            Ok(result) => bench.answer(&call, result),
            Err(code) => bench.fail(&call, code, "it broke"),
        }
        match expected {
            Some(expected) => {
                assert_eq!(bench.response(socket).0, expected);
                assert_eq!(bench.news(), [ChannelEvent::Unwanted], "HTTP-62, HTTP-63");
            }
            None => {
                bench.wait(6000);
                assert_eq!(bench.output(socket), "", "there is a writer");
                bench.write(channel, false, "x");
                assert_eq!(bench.response(socket).0, 404);
            }
        }
    }
    // An error behind the first bytes: the client can tell that the body is not complete.
    let (mut bench, socket, call) = streaming();
    let channel = bench.attach(&call, "response", End::Writer);
    bench.write(channel, false, "x");
    bench.fail(&call, "BOOM", "it broke");
    assert!(bench.output(socket).ends_with("1\r\nx\r\n"));
    assert_eq!(bench.host.closed, [(socket, false)]);
}

// HTTP-56: a writer that is lost ends the body cleanly, unless its function is lost as well.
#[test]
fn a_lost_writer() {
    for fails in [true, false] {
        let (mut bench, socket, call) = streaming();
        let channel = bench.attach(&call, "response", End::Writer);
        bench.write(channel, false, "x");
        bench.output(socket);
        bench.leave(channel, End::Writer, Leaving::Lost);
        if fails {
            bench.fail(&call, "invocation_stopped", "Invocation stopped");
            assert_eq!((bench.output(socket).as_str(), bench.host.closed.len()), ("", 1));
        } else {
            bench.wait(250);
            assert_eq!((bench.output(socket).as_str(), bench.host.closed.len()), ("0\r\n\r\n", 0));
        }
        assert!(bench.host.channels.is_empty());
    }
}

// HTTP-59; cases 28, S2
#[test]
fn an_empty_result_without_a_writer() {
    let (mut bench, socket, call) = streaming();
    bench.answer(&call, Value::Null);
    bench.wait(4999);
    assert_eq!(bench.output(socket), "");
    bench.wait(1);
    let output = bench.output(socket);
    assert!(output.starts_with("HTTP/1.1 204 No Content\r\n") && output.ends_with("\r\n\r\n"), "{output}");
    assert!(!output.contains("content-"), "{output}");
    // A writer that comes in time, but never writes.
    let mut bench = Bench::routing(settings(|settings| settings.default_timeout = 8000), &["GET /a f"]);
    let socket = bench.request(&get("/a"));
    let call = bench.call();
    bench.answer(&call, Value::Null);
    bench.wait(4000);
    bench.attach(&call, "response", End::Writer);
    bench.wait(3999);
    assert_eq!(bench.output(socket), "");
    bench.wait(1);
    assert_eq!(bench.response(socket).0, 504);
}

// HTTP-62
#[test]
fn a_client_that_leaves_is_told_to_the_writer() {
    for ends_first in [true, false] {
        let (mut bench, socket, call) = streaming();
        let channel = bench.attach(&call, "response", End::Writer);
        bench.write(channel, false, "x");
        if ends_first {
            bench.instance.socket_ended(socket, &mut bench.host);
            assert_eq!(bench.host.closed, [(socket, false)]);
        }
        bench.instance.socket_closed(socket, &mut bench.host);
        bench.settle();
        assert_eq!(bench.news(), [ChannelEvent::Unwanted]);
        bench.leave(channel, End::Writer, Leaving::Finished);
        assert!(bench.host.channels.is_empty());
    }
}

/// A slow client slows the writer down.
#[test]
fn a_client_that_does_not_read_holds_the_writer_back() {
    let (mut bench, socket, call) = streaming();
    let channel = bench.attach(&call, "response", End::Writer);
    let taken = |bench: &mut Bench| {
        let told = std::mem::take(&mut bench.told);
        told.iter()
            .map(|event| if let ChannelEvent::Taken(amount) = event { amount.messages } else { panic!() })
            .sum::<u32>()
    };
    for _ in 0..64 {
        bench.write(channel, false, vec![b'x'; 100_000]);
    }
    assert_eq!(taken(&mut bench), 10, "as much as the socket's queue may hold");
    bench.output(socket);
    assert_eq!(taken(&mut bench), 54);
}
