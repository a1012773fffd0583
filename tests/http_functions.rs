//! Functions that are HTTP endpoints: what is sent, what comes back, what is refused (HTTPF).

#![allow(clippy::disallowed_methods, reason = "no shard runs in a test's threads")]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use support::sdk::SDKS;
use support::{Engine, PATIENCE, RawWorker, SHARD_COUNTS, Value, error_code, json};

/// Everybody may be reached.
const OPEN: &str = "workers:
  - name: iii-worker-manager
    config:
      port: {port}
  - name: iii-http-functions
    config:
      security:
        require_https: false
        block_private_ips: false
        url_allowlist: ['localhost', '127.0.0.1']
";

/// A request as the endpoint has seen it.
#[derive(Debug)]
struct Seen {
    line: String,
    headers: Vec<(String, String)>,
    body: String,
}

impl Seen {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// An endpoint that answers by the path: `/status/code/body`.
fn endpoint() -> (u16, Receiver<Seen>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let (sender, receiver) = sync_channel(1000);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let sender = sender.clone();
            std::thread::spawn(move || {
                let stream = stream.expect("a client");
                let mut writer = stream.try_clone().expect("a socket");
                let mut reader = BufReader::new(stream);
                while let Some(seen) = read(&mut reader) {
                    let path = seen.line.split(' ').nth(1).unwrap_or("/").to_owned();
                    let mut parts = path.trim_start_matches('/').splitn(2, '/');
                    let (status, body) = (parts.next().unwrap_or("200").to_owned(), parts.next().unwrap_or(""));
                    let body = body.replace("%22", "\"").replace("%7B", "{").replace("%7D", "}");
                    let _ = sender.try_send(seen);
                    if status == "stall" {
                        std::thread::sleep(Duration::from_secs(20));
                    }
                    let head = format!("HTTP/1.1 {status} Reason\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                    if writer.write_all(head.as_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
    });
    (port, receiver)
}

fn read(reader: &mut BufReader<std::net::TcpStream>) -> Option<Seen> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|bytes| *bytes > 0)?;
    let mut headers = Vec::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let header = header.trim_end();
        if header.is_empty() {
            break;
        }
        let (name, value) = header.split_once(':')?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length").and_then(|(_, v)| v.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    Some(Seen { line: line.trim_end().to_owned(), headers, body: String::from_utf8(body).ok()? })
}

fn register(worker: &mut RawWorker, id: &str, invocation: Value) {
    worker.send(json!({"type": "registerfunction", "id": id, "invocation": invocation}));
}

// HTTPF-4, HTTPF-11, HTTPF-12, HTTPF-13, HTTPF-9
#[test]
fn calls_go_to_the_endpoint() {
    let (port, seen) = endpoint();
    for shards in SHARD_COUNTS {
        let engine = Engine::command(shards).config(OPEN).environment("III_TEST_TOKEN", "t0k").start();
        let mut owner = RawWorker::named(&engine, "owner");
        let url = |rest: &str| format!("http://u:p@127.0.0.1:{port}/{rest}");
        register(&mut owner, "out::ok", json!({"url": url("200/{%22n%22:1e2}")}));
        register(
            &mut owner,
            "out::bearer",
            json!({"url": format!("http://127.0.0.1:{port}/204/"), "method": "delete", "headers": {"X-Service": "b"},
                "auth": {"type": "bearer", "token_key": "III_TEST_TOKEN"}}),
        );
        engine.wait_for_function("out::bearer");
        let mut caller = RawWorker::named(&engine, "caller");
        assert_eq!(caller.call("out::ok", json!({"a": 1})), Ok(json!({"n": 1e2})));
        let request = seen.recv_timeout(PATIENCE).expect("the endpoint is asked");
        assert!(request.line.starts_with("POST /200/"), "{request:?}");
        assert_eq!(request.body, r#"{"a":1}"#, "who called is nobody's business outside");
        assert_eq!(request.header("x-iii-function-path"), Some("out::ok"));
        assert_eq!(request.header("content-type"), Some("application/json"));
        assert_eq!(request.header("authorization"), Some("Basic dTpw"));
        assert!(request.header("x-iii-timestamp").is_some() && request.header("x-iii-invocation-id").is_some());
        let id = caller.invoke("out::bearer", Value::Null);
        let answer = caller.take("the answer", |message| message["invocation_id"] == id.as_str());
        assert!(answer.get("result").is_none() && answer.get("error").is_none(), "{answer}");
        let request = seen.recv_timeout(PATIENCE).expect("the endpoint is asked");
        assert_eq!((request.line.split(' ').next(), request.body.as_str()), (Some("DELETE"), "null"));
        assert_eq!(request.header("authorization"), Some("Bearer t0k"));
        assert_eq!(request.header("x-service"), Some("b"));
        drop(owner);
        engine.wait_until_gone("out::ok");
        assert_eq!(error_code(&caller.call("out::ok", json!({}))), "function_not_found");
    }
}

// HTTPF-19, HTTPF-15
#[test]
fn what_responses_mean() {
    let (port, _seen) = endpoint();
    let engine = Engine::command(2).config(OPEN).start();
    let mut worker = RawWorker::named(&engine, "w");
    for (id, rest, timeout_ms, code, message) in [
        ("f::a", "502/{%22error%22:{%22code%22:%22UP%22,%22message%22:%22broken%22}}", 9_000, "UP", "broken"),
        ("f::b", "404/nope", 9_000, "http_error", "HTTP 404 Not Found"),
        ("f::c", "200/hello", 9_000, "invalid_response", "expected value at line 1 column 1"),
        ("f::d", "stall/", 300, "http_request_failed", "operation timed out"),
    ] {
        register(&mut worker, id, json!({"url": format!("http://127.0.0.1:{port}/{rest}"), "timeout_ms": timeout_ms}));
        let since = Instant::now();
        let outcome = worker.call(id, json!({}));
        assert_eq!(error_code(&outcome), code, "{outcome:?}");
        let text = outcome.expect_err("it fails")["message"].to_string();
        assert!(text.contains(message), "{text}");
        assert!(since.elapsed() < Duration::from_secs(8));
    }
    // Nobody listens there.
    let free = support::ports::lease();
    register(&mut worker, "f::e", json!({"url": format!("http://127.0.0.1:{}/", free.port)}));
    let outcome = worker.call("f::e", json!({}));
    assert_eq!(error_code(&outcome), "http_request_failed");
    assert!(outcome.expect_err("it fails")["message"].to_string().contains("Connection refused"));
}

// HTTPF-2, HTTPF-7, HTTPF-20, HTTPF-21: without any configuration nothing inside can be reached.
#[test]
fn what_is_refused() {
    let engine = Engine::start(2);
    let mut worker = RawWorker::named(&engine, "w");
    for (id, invocation, reason) in [
        ("r::a", json!({"url": "http://example.org/"}), "url_validation_failed: HTTPS is required"),
        ("r::b", json!({"url": "https://127.0.0.1/"}), "url_validation_failed: Private IP blocked"),
        ("r::c", json!({"url": "https://localhost/"}), "url_validation_failed: Private IP blocked"),
        ("r::d", json!({"url": "https://[::ffff:10.0.0.1]/"}), "url_validation_failed: Private IP blocked"),
        ("r::e", json!({"url": "not a url"}), "url_validation_failed: Invalid URL"),
        ("r::f", json!({"url": "https://x.invalid/", "method": "HEAD"}), "invalid_invocation: method 'HEAD'"),
        (
            "r::g",
            json!({"url": "https://x.invalid/", "auth": {"type": "hmac", "secret_key": "III_NO_SUCH"}}),
            "secret_not_found: Secret not found: III_NO_SUCH",
        ),
    ] {
        register(&mut worker, id, invocation);
        let outcome = worker.call(id, json!({}));
        assert_eq!(error_code(&outcome), "function_not_found", "{id}: {outcome:?}");
        let text = outcome.expect_err("it fails")["message"].to_string();
        assert!(text.contains(&format!("HTTP registration failed: {reason}")), "{id}: {text}");
    }
}

// HTTPF-10: the released SDKs call such a function like any other.
#[test]
fn sdks_call_endpoints() {
    let (port, _seen) = endpoint();
    let engine = Engine::command(4).config(OPEN).start();
    let mut owner = RawWorker::named(&engine, "owner");
    register(&mut owner, "out::sdk", json!({"url": format!("http://127.0.0.1:{port}/200/7")}));
    engine.wait_for_function("out::sdk");
    for sdk in SDKS {
        let mut worker = sdk.worker(&engine, &sdk.label());
        assert_eq!(worker.call("out::sdk", json!({"x": 1})), Ok(json!(7)), "{}", sdk.label());
    }
}
