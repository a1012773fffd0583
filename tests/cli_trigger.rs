//! `iii trigger` against a scripted engine: what it sends, what it prints, how it ends.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "no shard runs in a test's threads")]

use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

fn iii(port: u16, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_iii"))
        .arg("trigger")
        .args(arguments)
        .env("III_URL", format!("ws://localhost:{port}"))
        .stdin(Stdio::null())
        .output()
        .expect("the binary runs")
}

fn outcome(output: Output) -> (i32, String, String) {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code().expect("not killed"), text(output.stdout), text(output.stderr))
}

/// An engine for one connection. It greets, reads two messages and lets `answer` deal with the call.
fn engine(
    answer: impl FnOnce(&mut WebSocket<TcpStream>, &Value) + Send + 'static,
) -> (u16, thread::JoinHandle<(Value, Value)>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let port = listener.local_addr().expect("address").port();
    let handle = thread::spawn(move || {
        let (stream, _) = listener.accept().expect("accept");
        let mut socket = tungstenite::accept(stream).expect("upgrade");
        let greeting = json!({"type": "workerregistered", "worker_id": "w"});
        socket.send(Message::text(greeting.to_string())).expect("send");
        let mut next = || -> Value {
            let message = socket.read().expect("message");
            serde_json::from_str(message.to_text().expect("text")).expect("JSON")
        };
        let (announcement, call) = (next(), next());
        answer(&mut socket, &call);
        // Reading on answers the close handshake.
        while socket.read().is_ok() {}
        (announcement, call)
    });
    (port, handle)
}

fn reply(socket: &mut WebSocket<TcpStream>, call: &Value, members: Value) {
    let mut message =
        json!({"type": "invocationresult", "invocation_id": call["invocation_id"], "function_id": call["function_id"]});
    message.as_object_mut().expect("object").extend(members.as_object().expect("object").clone());
    socket.send(Message::text(message.to_string())).expect("send");
}

/// CLI-20, CLI-22, CLI-26, CLI-27; cases 4, 6.
#[test]
fn cli_26_27_announces_itself_calls_and_prints() {
    for (arguments, payload, result, printed) in [
        (&["math::add", "a=2", "b=3"][..], json!({"a": 2, "b": 3}), json!({"c": 5}), "{\n  \"c\": 5\n}\n"),
        (
            &["f", "a=1", "--json", "{\"z\":1}", "b=2"],
            json!({"z": 1, "a": 1, "b": 2}),
            json!({"z": 1, "a": [true, null]}),
            "{\n  \"z\": 1,\n  \"a\": [\n    true,\n    null\n  ]\n}\n",
        ),
        (&["f"], json!({}), Value::Null, ""),
        (&["--function-id=f", "--payload={\"a\": 2}"], json!({"a": 2}), json!("hi"), "\"hi\"\n"),
        (&["--json", "[1]", "f"], json!([1]), json!(5), "5\n"),
    ] {
        let (port, engine) = engine(move |socket, call| {
            // Messages that are no answer are passed over.
            socket.send(Message::text("{\"type\":\"pong\"}")).expect("send");
            socket.send(Message::Ping(Vec::new().into())).expect("send");
            reply(socket, call, json!({"result": result}));
        });
        let shown = outcome(iii(port, arguments));
        assert_eq!(shown, (0, printed.to_owned(), String::new()), "{arguments:?}");
        let (announcement, call) = engine.join().expect("engine");
        assert_eq!(announcement["type"], "invokefunction");
        assert_eq!(announcement["function_id"], "engine::workers::register");
        assert_eq!(announcement["action"], json!({"type": "void"}));
        assert_eq!(announcement["data"]["name"], "iii-cli");
        assert_eq!(announcement["data"]["runtime"], "cli");
        assert_eq!(announcement["data"]["version"], iii::VERSION);
        assert!(announcement["data"]["pid"].is_u64());
        assert!(announcement.get("invocation_id").is_none());
        assert_eq!(call["data"], payload, "{arguments:?}");
        assert!(call.get("namespace").is_none() && call.get("action").is_none());
    }
}

/// CLI-28, case 10.
#[test]
fn cli_28_remote_errors() {
    let (port, engine) = engine(|socket, call| {
        reply(
            socket,
            call,
            json!({"error": {"code": "function_not_found", "message": "Function f not found in namespace other."}}),
        );
    });
    let (code, stdout, stderr) = outcome(iii(port, &["f", "-n", "other"]));
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert_eq!(
        stderr,
        "Error: {\n  \"code\": \"function_not_found\",\n  \"message\": \"Function f not found in namespace other.\",\n  \
         \"stacktrace\": null\n}\n"
    );
    assert_eq!(engine.join().expect("engine").1["namespace"], "other");
}

/// CLI-29, cases 7, 8.
#[test]
fn cli_29_no_answer() {
    let (port, _engine) = engine(|_, _| thread::sleep(Duration::from_secs(3)));
    let start = Instant::now();
    let (code, _, stderr) = outcome(iii(port, &["slow", "--timeout-ms", "300"]));
    let took = start.elapsed();
    assert_eq!(code, 1);
    assert_eq!(
        stderr,
        "Error: Timed out waiting for the engine (no response within the timeout). \
         Is the engine running at the given address and port?\n"
    );
    assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(2), "{took:?}");

    let (port, _engine) = engine(|socket, _| {
        let _ = socket.get_mut().shutdown(std::net::Shutdown::Both);
    });
    let (code, _, stderr) = outcome(iii(port, &["f"]));
    assert_eq!((code, stderr.as_str()), (1, "Error: connection closed before the result arrived\n"));

    let closed = TcpListener::bind("127.0.0.1:0").expect("bind").local_addr().expect("address").port();
    let (code, _, stderr) = outcome(iii(closed, &["f"]));
    assert_eq!(code, 1);
    let expected = format!("Error: cannot connect to ws://localhost:{closed}: Connection refused (os error 111)\n");
    assert_eq!(stderr, expected);

    let (code, _, stderr) = outcome(iii(closed, &["f", "--timeout-ms", "0"]));
    assert_eq!(code, 1);
    assert!(stderr.starts_with("Error: Timed out waiting for the engine"), "{stderr}");
}

/// CLI-24; cases 5, 17. Nothing is sent.
#[test]
fn cli_24_bad_payloads() {
    for (arguments, expected) in [
        (&[][..], "Error: iii trigger: missing FUNCTION_PATH. Try: iii trigger engine::functions::list\n"),
        (&["f", "word"], "Error: expected key=value, got 'word'\n"),
        (&["f", "=v"], "Error: payload key must not be empty (got '=v')\n"),
        (&["f", "--json", "[1]", "a=1"], "Error: --json must be an object when combined with kv pairs\n"),
        (
            &["f", "--json", "nope"],
            "Error: --json: invalid JSON 'nope'\n\nCaused by:\n    expected ident at line 1 column 2\n",
        ),
        (
            &["--function-id=x::y", "--payload={bad"],
            "Error: Invalid JSON payload: key must be a string at line 1 column 2\n",
        ),
    ] {
        assert_eq!(outcome(iii(1, arguments)), (1, String::new(), expected.to_owned()), "{arguments:?}");
    }
}

/// CLI-25.
#[test]
fn cli_25_payload_from_a_file() {
    let path = std::env::temp_dir().join(format!("iii-payload-{}.json", std::process::id()));
    std::fs::write(&path, "{\"from\": \"file\"}").expect("write");
    let (port, engine) = engine(|socket, call| reply(socket, call, json!({"result": 1})));
    let (code, stdout, _) = outcome(iii(port, &["f", "--json", &format!("@{}", path.display())]));
    assert_eq!((code, stdout.as_str()), (0, "1\n"));
    assert_eq!(engine.join().expect("engine").1["data"], json!({"from": "file"}));
    std::fs::remove_file(&path).expect("remove");
}

/// CLI-30, case 9.
#[test]
fn cli_30_live_help() {
    let (port, engine) = engine(|socket, call| {
        let info = json!({"function_id": "math::add", "description": "Adds", "request_schema":
            {"properties": {"a": {"type": "number"}}, "required": ["a"]}});
        reply(socket, call, json!({"result": info}));
    });
    let (code, stdout, stderr) = outcome(iii(port, &["math::add", "--help"]));
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert!(stdout.starts_with("math::add\n\nAdds\n"), "{stdout}");
    assert!(stdout.contains("  a     number  yes") && stdout.contains("--timeout-ms"), "{stdout}");
    assert_eq!(engine.join().expect("engine").1["data"], json!({"function_id": "math::add"}));

    let (port, _engine) = self::engine(|socket, call| {
        reply(socket, call, json!({"error": {"code": "NOT_FOUND", "message": "Function 'x' is not registered."}}));
    });
    let (code, _, stderr) = outcome(iii(port, &["x", "-h"]));
    assert_eq!(code, 1);
    assert!(stderr.starts_with("error: function 'x' not found in engine registry.\n"), "{stderr}");

    let (code, stdout, stderr) = outcome(iii(1, &["x", "-h"]));
    assert_eq!(code, 0);
    assert!(stderr.starts_with("warning: no live help for 'x': cannot connect"), "{stderr}");
    assert!(stdout.starts_with("Usage: iii trigger"), "{stdout}");
}
