//! HTTP triggers of workers written with the released SDKs (20-http.md, cases S1 to S17), on one shard and on four.

mod support;

use std::path::Path;

use support::engine::Process;
use support::sdk::{SDKS, Sdk, spawn};
use support::{Engine, HttpClient, eventually, json};

/// Starts the worker and waits until its last route is served.
fn start(engine: &Engine, sdk: Sdk) -> (Process, String) {
    let script = match sdk {
        Sdk::Node(_) => "tests/sdk/node/http.mjs",
        Sdk::Python(_) => "tests/sdk/python/http_worker.py",
    };
    let prefix = sdk.label();
    let mut command = sdk.command(&Path::new(env!("CARGO_MANIFEST_DIR")).join(script));
    command.arg(&prefix);
    let process = spawn(command, engine);
    eventually(&format!("routes of {prefix}"), || {
        let response = HttpClient::connect(engine).post(&format!("/{prefix}/api/1"), "application/json", b"1");
        (response.status == 201).then_some(())
    });
    (process, prefix)
}

fn engine(shards: u32) -> Engine {
    let config = "workers:
  - {name: iii-worker-manager, config: {port: {port}}}
  - {name: iii-http, config: {port: 0, empty_result_grace_ms: 300}}
";
    Engine::command(shards).config(config).start()
}

#[test]
fn every_sdk_serves_http() {
    for shards in support::SHARD_COUNTS {
        let engine = engine(shards);
        let mut http = HttpClient::connect(&engine);
        for sdk in SDKS {
            let (_worker, prefix) = start(&engine, sdk);
            eprintln!("--- shards: {shards}, {prefix}");
            serve(&mut http, &prefix, matches!(sdk, Sdk::Python("0.11.6")));
        }
    }
}

fn serve(http: &mut HttpClient, prefix: &str, small_frames: bool) {
    // S1
    let response = http.post(&format!("/{prefix}/api/a%20b?q=1"), "application/json", br#"{"z":[1],"a":"x"}"#);
    assert_eq!((response.status, response.header("x-sdk")), (201, Some(prefix)));
    let expected = json!({
        "method": "POST", "path": format!("/{prefix}/api/:id"), "path_params": {"id": "a%20b"},
        "query_params": {"q": "1"}, "body": {"z": [1], "a": "x"}, "ends": ["object", "object"],
    });
    assert_eq!(response.json(), expected);
    let mut post = |name: &str| http.post(&format!("/{prefix}/{name}"), "application/json", b"{}");
    // S2, HTTP-59
    let nothing = post("nothing");
    assert_eq!((nothing.status, nothing.body.len()), (204, 0));
    // S3
    let failure = post("throw");
    assert_eq!((failure.status, failure.code().as_str()), (500, "invocation_failed"));
    assert!(failure.json()["error"]["message"].as_str().unwrap().contains("kaboom"), "{}", failure.text());
    assert!(failure.json()["error"]["error_id"].is_string() && failure.json()["error"]["stacktrace"].is_null());
    // S6
    assert_eq!((post("plain").status, post("plain").text()), (200, "{}".to_owned()));
    // S5
    let html = post("html");
    assert_eq!((html.header("content-type"), html.text()), (Some("text/html"), "<p>é</p>".to_owned()));
    // S7
    let events = post("sse");
    assert_eq!((events.status, events.header("content-type")), (202, Some("text/event-stream")));
    assert_eq!((events.chunks.len(), events.text()), (3, "data: 0\n\ndata: 1\n\ndata: 2\n\n".to_owned()));
    // S8
    let missing = post("missing");
    assert_eq!((missing.status, missing.text()), (404, r#"{"missing":true}"#.to_owned()));
    // S12, S13
    let upload = format!("/{prefix}/upload");
    let response = http.post(&upload, "application/octet-stream", &vec![7; 300_000]);
    assert_eq!((response.status, response.text()), (200, "got 300000".to_owned()));
    assert_eq!(http.post(&upload, "application/json", br#"{"a":1}"#).text(), "got 7");
    // S16, S17: a body beyond the frame limit of a Python SDK can still be read.
    let large = format!("\"{}\"", "x".repeat(2 << 20));
    let response = http.post(&upload, "application/json", large.as_bytes());
    assert_eq!(response.text(), format!("got {}", large.len()), "small frames: {small_frames}");
    // S15
    let guarded = format!("/{prefix}/guarded");
    assert_eq!(http.get(&guarded).status, 422);
    assert_eq!(http.get(&format!("{guarded}?ok=1")).json(), json!({"error": "no key"}));
    let request = format!("GET {guarded}?ok=1 HTTP/1.1\r\nx-key: k\r\n\r\n");
    assert_eq!(http.send(request).response().text(), "\"in\"");
}
