//! HTTP triggers seen from both sides: raw clients and a raw worker, on one shard and on four.

#![allow(clippy::disallowed_methods, reason = "no shard runs in a test's threads")]

mod support;

use std::time::{Duration, Instant};

use support::socket::{BINARY, CLOSE, TEXT};
use support::{Engine, HttpClient, RawSocket, RawWorker, Value, each_shard_count, eventually, json};

/// Registers a route and waits until it is served.
fn route(engine: &Engine, worker: &mut RawWorker, id: &str, function: &str, config: Value) {
    register(worker, id, function, config);
    let mut probe = RawWorker::connect(engine);
    eventually(&format!("trigger {id}"), || {
        let rows = probe.call("engine::registered-triggers::list", json!({})).ok()?;
        rows["registered_triggers"].as_array()?.iter().any(|row| row["id"] == id).then_some(())
    });
    std::thread::sleep(Duration::from_millis(30));
}

fn register(worker: &mut RawWorker, id: &str, function: &str, config: Value) {
    worker.send(json!({
        "type": "registertrigger", "id": id, "trigger_type": "http", "function_id": function, "config": config,
        "metadata": {"team": "a"},
    }));
}

fn delivery(worker: &mut RawWorker) -> Value {
    worker.take("a delivery", |frame| frame["type"] == "invokefunction")
}

fn attach(engine: &Engine, reference: &Value) -> RawSocket {
    let text = |name: &str| reference[name].as_str().expect("HTTP-27: strings").to_owned();
    let (id, key, direction) = (text("channel_id"), text("access_key"), text("direction"));
    RawSocket::open(engine.port, &format!("/ws/channels/{id}?key={key}&dir={direction}"))
}

// HTTP-27, HTTP-28, HTTP-63, HTTP-68, HTTP-72
#[test]
fn requests_reach_the_function_and_results_come_back() {
    each_shard_count(|engine| {
        let mut worker = RawWorker::serving(engine, "w", &["f"]);
        route(engine, &mut worker, "t", "f", json!({"api_path": "users/:id", "http_method": "post"}));
        // Several connections, so that with several shards some are not the worker's.
        for client in 0..8 {
            let mut http = HttpClient::connect(engine);
            for round in 0..3 {
                http.send(format!(
                    "POST /users/{client}?a=1&a=2 HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\n\
                     traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\
                     content-length: 7\r\n\r\n{{\"a\":1}}"
                ));
                let call = delivery(&mut worker);
                let data = &call["data"];
                assert_eq!((&data["method"], &data["path"]), (&json!("POST"), &json!("users/:id")));
                assert_eq!(data["path_params"]["id"], client.to_string());
                assert_eq!((&data["query_params"]["a"], &data["body"]["a"]), (&json!("2"), &json!(1)));
                assert_eq!(call["metadata"], json!({"team": "a"}));
                let trace = call["traceparent"].as_str().expect("HTTP-72");
                assert!(trace.starts_with("00-0af7651916cd43dd8448eb211c80319c-") && trace.ends_with("-01"), "{trace}");
                assert!(!trace.contains("b7ad6b7169203331"), "{trace}");
                worker.answer(&call, json!({"status_code": 200 + round, "body": {"round": round}}));
                let response = http.response();
                assert_eq!((response.status, response.json()), (200 + round as u16, json!({"round": round})));
            }
        }
    });
}

// HTTP-13, HTTP-14, HTTP-16, HTTP-17, HTTP-18, HTTP-20
#[test]
fn routes_follow_their_registrations() {
    each_shard_count(|engine| {
        let mut http = HttpClient::connect(engine);
        let mut worker = RawWorker::serving(engine, "w", &["f"]);
        register(&mut worker, "bad", "f", json!({}));
        let refusal = worker.expect("triggerregistrationresult");
        assert_eq!(refusal["error"]["code"], "trigger_registration_failed");
        assert_eq!(refusal["error"]["message"], "api_path is required for http triggers");
        route(engine, &mut worker, "t", "f", json!({"api_path": "/k/:a/:b"}));
        register(&mut worker, "u", "f", json!({"api_path": "/k/:b/:a"}));
        let refusal = worker.expect("triggerregistrationresult");
        assert!(refusal["error"]["message"].as_str().unwrap().contains("conflict"), "{refusal}");
        // A function that does not exist is found out per request.
        route(engine, &mut worker, "none", "nobody", json!({"api_path": "/nobody"}));
        let response = http.get("/nobody");
        assert_eq!((response.status, response.code().as_str()), (500, "function_not_found"));
        assert_eq!(response.json()["error"]["message"], "Function nobody not found in namespace default");
        // The same id moves its route; the trigger that stays behind is served again when the newer one ends.
        route(engine, &mut worker, "t", "f", json!({"api_path": "/moved"}));
        eventually("the old path to be gone", || (http.get("/k/1/2").status == 404).then_some(()));
        let mut newer = RawWorker::serving(engine, "n", &["g"]);
        route(engine, &mut newer, "n", "g", json!({"api_path": "moved"}));
        http.send("GET /moved HTTP/1.1\r\n\r\n");
        let call = delivery(&mut newer);
        newer.vanish();
        let response = http.response();
        assert_eq!((call["function_id"].as_str(), response.status), (Some("g"), 500), "HTTP-52");
        assert_eq!(response.code(), "invocation_stopped");
        eventually("the older trigger to be served", || {
            http.send("GET /moved HTTP/1.1\r\n\r\n");
            let call = worker.recv_within(Duration::from_millis(200));
            if let Some(call) = &call {
                worker.answer(call, json!({}));
            }
            (http.response().status == 200 && call.is_some()).then_some(())
        });
        worker.vanish();
        eventually("no route", || (http.get("/moved").status == 404).then_some(()));
    });
}

// HTTP-30, HTTP-32, HTTP-56, HTTP-57, HTTP-58
#[test]
fn bodies_stream_both_ways() {
    each_shard_count(|engine| {
        let mut worker = RawWorker::serving(engine, "w", &["f"]);
        route(engine, &mut worker, "t", "f", json!({"api_path": "/s", "http_method": "POST"}));
        for _ in 0..4 {
            let mut http = HttpClient::connect(engine);
            let size = 20 << 20;
            http.send(format!("POST /s HTTP/1.1\r\ncontent-length: {size}\r\n\r\n"));
            let call = delivery(&mut worker);
            let mut reader = attach(engine, &call["data"]["request_body"]);
            let mut writer = attach(engine, &call["data"]["response"]);
            writer.write_frame(TEXT, br#"{"type":"set_status","status_code":201}"#);
            writer.write_frame(BINARY, b"first");
            let head = http.response_head().expect("the head comes while the body is being sent");
            assert_eq!((head.status, http.chunk()), (201, Some(Some(b"first".to_vec()))));
            std::thread::scope(|scope| {
                scope.spawn(|| http.send(vec![b'u'; size]));
                let mut received = 0;
                while received < size {
                    let frame = reader.read_frame().expect("the body");
                    assert_eq!(frame.opcode, BINARY);
                    assert!(frame.payload.len() <= 64 << 10, "HTTP-31");
                    received += frame.payload.len();
                }
                let end = reader.read_frame().expect("the end");
                assert_eq!((received, end.opcode, end.payload.len()), (size, CLOSE, 0));
            });
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    for _ in 0..200 {
                        writer.write_frame(BINARY, &vec![b'd'; 100_000]);
                    }
                    writer.write_frame(CLOSE, &1000u16.to_be_bytes());
                });
                let mut received = 0;
                while let Some(chunk) = http.chunk().expect("the connection stays") {
                    received += chunk.len();
                }
                assert_eq!(received, 20_000_000);
            });
            worker.answer(&call, Value::Null);
            assert_eq!(http.get("/nope").status, 404, "the connection goes on");
        }
    });
}

// HTTP-58, HTTP-62
#[test]
fn streams_that_break() {
    each_shard_count(|engine| {
        let mut worker = RawWorker::serving(engine, "w", &["f"]);
        route(engine, &mut worker, "t", "f", json!({"api_path": "/s"}));
        // The function fails behind the first bytes.
        let mut http = HttpClient::connect(engine);
        http.send("GET /s HTTP/1.1\r\n\r\n");
        let call = delivery(&mut worker);
        let mut writer = attach(engine, &call["data"]["response"]);
        writer.write_frame(BINARY, b"x");
        assert_eq!((http.response_head().unwrap().status, http.chunk()), (200, Some(Some(b"x".to_vec()))));
        worker.fail(&call, json!({"code": "BOOM", "message": "it broke"}));
        assert!(http.is_closed(), "no last chunk");
        // The client leaves.
        let mut http = HttpClient::connect(engine);
        http.send("GET /s HTTP/1.1\r\n\r\n");
        let call = delivery(&mut worker);
        let mut writer = attach(engine, &call["data"]["response"]);
        writer.write_frame(BINARY, b"x");
        http.response_head().unwrap();
        drop(http);
        let started = Instant::now();
        writer.ending();
        assert!(started.elapsed() < Duration::from_secs(2));
        worker.answer(&call, Value::Null);
    });
}

// HTTP-61
#[test]
fn the_limit_holds_over_all_shards() {
    for shards in support::SHARD_COUNTS {
        let config = "workers:
  - {name: iii-worker-manager, config: {port: {port}}}
  - {name: iii-http, config: {port: 0, concurrency_request_limit: 2}}
";
        let engine = Engine::command(shards).config(config).start();
        let mut worker = RawWorker::serving(&engine, "w", &["f"]);
        route(&engine, &mut worker, "t", "f", json!({"api_path": "/a/:n"}));
        let mut clients: Vec<_> = (0..12).map(|_| HttpClient::connect(&engine)).collect();
        for (number, client) in clients.iter_mut().enumerate() {
            client.send(format!("GET /a/{number} HTTP/1.1\r\n\r\n"));
            // So that the order of arrival is known.
            std::thread::sleep(Duration::from_millis(10));
        }
        let mut open: Vec<Value> = vec![delivery(&mut worker), delivery(&mut worker)];
        for next in 2..14 {
            assert!(worker.recv_within(Duration::from_millis(50)).is_none(), "no third at a time");
            let call = open.remove(0);
            let number = next - 2;
            assert_eq!(call["data"]["path_params"]["n"], number.to_string(), "first come, first served");
            worker.answer(&call, json!({"body": number}));
            assert_eq!(clients[number].response().json(), json!(number));
            if next < clients.len() {
                open.push(delivery(&mut worker));
            }
        }
    }
}

// HTTP-9
#[test]
fn a_stop_ends_connections() {
    let mut engine = Engine::start(2);
    let mut worker = RawWorker::serving(&engine, "w", &["f"]);
    route(&engine, &mut worker, "t", "f", json!({"api_path": "/a"}));
    let mut idle = HttpClient::connect(&engine);
    assert_eq!(idle.get("/nope").status, 404);
    let mut busy = HttpClient::connect(&engine);
    busy.send("GET /a HTTP/1.1\r\n\r\n");
    delivery(&mut worker);
    let started = Instant::now();
    assert!(engine.terminate().success());
    assert!(started.elapsed() < Duration::from_secs(5));
    assert_eq!(busy.response().status, 500, "told, not dropped");
    assert!(idle.is_closed() && busy.is_closed());
}

// Decision 2
#[test]
fn several_listeners_serve_the_same_routes_by_their_own_settings() {
    let config = "workers:
  - {name: iii-worker-manager, config: {port: {port}}}
  - {name: iii-http, config: {port: 0, cors: {allowed_origins: ['http://o']}}}
  - {name: iii-http, config: {port: 0}}
";
    let engine = Engine::command(1).config(config).start();
    let mut worker = RawWorker::serving(&engine, "w", &["f"]);
    route(&engine, &mut worker, "t", "f", json!({"api_path": "/a"}));
    let mut first = HttpClient::connect(&engine);
    first.send("GET /a HTTP/1.1\r\norigin: http://p\r\n\r\n");
    let call = delivery(&mut worker);
    worker.answer(&call, json!({}));
    assert_eq!(first.response().header("access-control-allow-origin"), None);
    let log = engine.log();
    let ports: Vec<&str> = log
        .lines()
        .filter_map(|line| line.split_once("API listening on address: 127.0.0.1:"))
        .map(|line| line.1)
        .collect();
    assert_eq!(ports.len(), 2, "{log}");
    let mut second = std::net::TcpStream::connect(format!("127.0.0.1:{}", ports[1])).unwrap();
    std::io::Write::write_all(&mut second, b"GET /a HTTP/1.0\r\norigin: http://p\r\n\r\n").unwrap();
    let call = delivery(&mut worker);
    worker.answer(&call, json!({}));
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut second, &mut answer).unwrap();
    assert!(answer.contains("access-control-allow-origin: *"), "{answer}");
}
