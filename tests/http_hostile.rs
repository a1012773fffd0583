//! Clients that mean no good, and handlers that answer nonsense: nothing desynchronises a connection (T16, T17).

#![allow(clippy::disallowed_methods, reason = "no shard runs in a test's threads")]

mod support;

use std::time::{Duration, Instant};

use support::{Engine, HttpClient, RawWorker, Value, each_shard_count, eventually, json};

/// A worker that answers every request with what is given.
fn echo(engine: &Engine) -> RawWorker {
    let mut worker = RawWorker::serving(engine, "w", &["f"]);
    worker.send(json!({
        "type": "registertrigger", "id": "t", "trigger_type": "http", "function_id": "f",
        "config": {"api_path": "/a", "http_method": "POST"},
    }));
    let mut http = HttpClient::connect(engine);
    eventually("the route", || {
        http.send("POST /a HTTP/1.1\r\n\r\n");
        let call = worker.recv_within(Duration::from_millis(100));
        if let Some(call) = &call {
            worker.answer(call, json!({}));
        }
        (http.response().status == 200).then_some(())
    });
    worker
}

// T16, HTTP-51
#[test]
fn requests_with_two_readings_are_refused_and_nothing_behind_them_is_read() {
    each_shard_count(|engine| {
        let mut worker = echo(engine);
        let hidden = "GET /health HTTP/1.1\r\n\r\n";
        for head in [
            "POST /a HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
            "POST /a HTTP/1.1\r\nContent-Length: 5, 5\r\n\r\n",
            "POST /a HTTP/1.1\r\nContent-Length: +5\r\n\r\n",
            "POST /a HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "POST /a HTTP/1.1\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
            "POST /a HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
            "POST /a HTTP/1.1\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
            "POST /a HTTP/1.1\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
            "POST /a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "POST /a HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            "POST /a HTTP/1.1\nContent-Length: 0\n\n",
            "POST /a HTTP/1.1\r\nX-A: 1\r\n folded\r\n\r\n",
            "POST /a HTTP/1.1\r\nX A: 1\r\n\r\n",
            "POST /a HTTP/1.1\r\nX-A: \0\r\n\r\n",
            "POST /a b HTTP/1.1\r\n\r\n",
            "POST  /a HTTP/1.1\r\n\r\n",
            "POST /a HTTP/2.0\r\n\r\n",
            "\u{16}\u{3}\u{1}\u{2}",
        ] {
            let mut http = HttpClient::connect(engine);
            http.try_send(head.to_owned() + hidden);
            let response = http.try_response(true).unwrap_or_else(|| panic!("no answer to {head:?}"));
            assert_eq!((response.status, response.body.len()), (400, 0), "{head:?}");
            assert_eq!(response.header("connection"), Some("close"), "{head:?}");
            assert!(http.is_closed(), "{head:?}");
        }
        // Bad chunks, once the body is being read.
        for chunk in ["zz\r\n", "5 \r\nhello\r\n", "1\r\nab\r\n", "ffffffffffffffffff\r\n", "1\nx\n"] {
            let mut http = HttpClient::connect(engine);
            let head = "POST /a HTTP/1.1\r\ncontent-type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
            http.try_send(format!("{head}{chunk}{hidden}"));
            let response = http.try_response(true).unwrap_or_else(|| panic!("no answer to {chunk:?}"));
            assert_eq!((response.status, http.is_closed()), (400, true), "{chunk:?}");
        }
        let mut http = HttpClient::connect(engine);
        http.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        assert!(http.is_closed(), "HTTP-10");
        worker.expect_silence();
    });
}

// HTTP-51, HTTP-69
#[test]
fn heads_that_are_too_large() {
    let engine = Engine::start(1);
    let mut http = HttpClient::connect(&engine);
    http.try_send(format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(70_000)));
    assert_eq!((http.response().status, http.is_closed()), (414, true));
    let mut http = HttpClient::connect(&engine);
    http.try_send(format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(101)));
    assert_eq!((http.response().status, http.is_closed()), (431, true));
    let mut http = HttpClient::connect(&engine);
    http.try_send(format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(300 << 10)));
    assert_eq!(http.response().status, 431);
    let mut http = HttpClient::connect(&engine);
    assert_eq!(http.get(&format!("/{}", "x".repeat(65_000))).status, 404);
}

// HTTP-26, HTTP-29; cases 3, 4, 9, 24
#[test]
fn bodies_and_targets_that_decode_to_nothing() {
    let engine = Engine::start(1);
    let mut worker = echo(&engine);
    let mut http = HttpClient::connect(&engine);
    for (query, body, expected_query, expected_body) in [
        ("?a=%zz&b=%ff&c=%", "{bad", json!({"a": "%zz", "b": "\u{FFFD}", "c": "%"}), Value::Null),
        ("", "", json!({}), Value::Null),
        ("?", "[1,]", json!({}), Value::Null),
        ("?a", "\"\\ud800\"", json!({"a": ""}), Value::Null),
        ("?a=b", "12345678901234567890", json!({"a": "b"}), json!(12345678901234567890u64)),
    ] {
        let length = body.len();
        http.send(format!(
            "POST /a{query} HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        ));
        let call = worker.expect("invokefunction");
        assert_eq!((&call["data"]["query_params"], &call["data"]["body"]), (&expected_query, &expected_body));
        worker.answer(&call, json!({}));
        assert_eq!(http.response().status, 200);
    }
    // An invalid sequence in a body makes it no JSON.
    http.send(b"POST /a HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: 3\r\n\r\n\"\xff\"");
    let call = worker.expect("invokefunction");
    assert_eq!(call["data"]["body"], Value::Null);
    worker.answer(&call, json!({}));
    http.response();
}

// HTTP-45, HTTP-46, HTTP-47, HTTP-50
#[test]
fn results_that_would_break_the_framing() {
    let engine = Engine::start(1);
    let mut worker = echo(&engine);
    let mut http = HttpClient::connect(&engine);
    for (result, status, body) in [
        (json!({"headers": {"x-a": "1\r\nx-evil: 1\r\n\r\nHTTP/1.1 200 OK"}, "body": 1}), 200, "1"),
        (json!({"headers": {"x-a\r\nx-evil": "1", "x b": "1"}, "body": 1}), 200, "1"),
        (json!({"headers": ["x\r\nx-evil: 1", "x-c: 1\r\nx-evil: 1"], "body": 1}), 200, "1"),
        (
            json!({"headers": {"Content-Length": "100", "Transfer-Encoding": "chunked", "Connection": "close"}, "body": 1}),
            200,
            "1",
        ),
        (json!({"status_code": 100}), 500, ""),
        (json!({"status_code": 204, "body": "hidden"}), 204, ""),
        (json!({"status_code": 304, "body": "hidden"}), 304, ""),
        (json!({"status_code": 99999}), 200, "{}"),
        (json!("text"), 200, "{}"),
        (json!([1]), 200, "{}"),
    ] {
        http.send("POST /a HTTP/1.1\r\n\r\n");
        let call = worker.expect("invokefunction");
        worker.answer(&call, result.clone());
        let response = http.response();
        assert_eq!((response.status, response.text().as_str()), (status, body), "{result}");
        assert!(response.header("x-evil").is_none() && response.header("connection").is_none(), "{response:?}");
    }
}

// T17, HTTP-70
#[test]
fn clients_that_leave_early_or_flood_cost_nothing() {
    each_shard_count(|engine| {
        let mut worker = echo(engine);
        let descriptors = engine.open_descriptors();
        for part in ["", "POST", "POST /a HTTP/1.1\r\nx: ", "POST /a HTTP/1.1\r\ncontent-length: 9\r\n\r\nab"] {
            for _ in 0..10 {
                let mut http = HttpClient::connect(engine);
                http.try_send(part);
            }
        }
        while let Some(call) = worker.recv_within(Duration::from_millis(100)) {
            worker.answer(&call, json!({}));
        }
        // Requests whose clients are gone before the answer.
        for _ in 0..10 {
            HttpClient::connect(engine).send("POST /a HTTP/1.1\r\n\r\n");
            let call = worker.expect("invokefunction");
            worker.answer(&call, json!({"body": "x".repeat(100_000)}));
        }
        eventually("all sockets to be closed", || (engine.open_descriptors() <= descriptors).then_some(()));
        // A flood of pipelined requests that are answered in order.
        let mut http = HttpClient::connect(engine);
        http.send("GET /none HTTP/1.1\r\n\r\n".repeat(5_000));
        for _ in 0..5_000 {
            assert_eq!(http.response().status, 404);
        }
    });
}

// T17: a head that comes byte by byte is cut, and holds nobody up.
#[test]
fn a_slow_head_is_cut() {
    let engine = Engine::start(1);
    let started = Instant::now();
    let mut slow = HttpClient::connect(&engine);
    let mut http = HttpClient::connect(&engine);
    let mut open = true;
    while open {
        open = slow.try_send("x");
        assert_eq!(http.get("/none").status, 404);
        std::thread::sleep(Duration::from_millis(500));
        if started.elapsed() > Duration::from_secs(31) {
            break;
        }
    }
    assert_eq!(slow.try_response(true).map(|response| response.status), Some(408));
}
