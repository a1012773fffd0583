//! Sizes: what each kind of client can receive, and what happens to calls that are too large for it.

mod support;

use support::{Engine, RawWorker, Value, each_shard_count, error_code, json};

const PYTHON_LIMIT_BYTES: usize = 1 << 20;

fn client(engine: &Engine, runtime: &str, features: &[&str], functions: &[&str]) -> RawWorker {
    let mut worker = RawWorker::connect(engine);
    worker.announce(json!({"runtime": runtime, "version": "0.11.6", "name": runtime, "features": features}));
    for id in functions {
        worker.register(id);
    }
    worker.confirm(functions);
    worker
}

fn text(bytes: usize) -> Value {
    json!("x".repeat(bytes))
}

// PROTO-12b, c: a Python worker of the first generations would die of more than 1 MiB; its caller is told instead.
#[test]
fn a_call_too_large_for_the_provider_is_refused() {
    each_shard_count(|engine| {
        let mut python = client(engine, "python", &[], &["python::f"]);
        let mut caller = RawWorker::named(engine, "caller");
        let call = caller.invoke("python::f", text(PYTHON_LIMIT_BYTES - 1_000));
        let delivery = python.expect("invokefunction");
        python.answer(&delivery, json!(null));
        assert_eq!(caller.result(&call), Ok(Value::Null));
        for bytes in [PYTHON_LIMIT_BYTES, PYTHON_LIMIT_BYTES + 1, 5 * PYTHON_LIMIT_BYTES] {
            assert_eq!(error_code(&caller.call("python::f", text(bytes))), "payload_too_large");
        }
        python.confirm(&["python::f"]);
    });
}

// PROTO-12d: a result too large for its caller becomes an error.
#[test]
fn a_result_too_large_for_the_caller_is_replaced() {
    each_shard_count(|engine| {
        let mut provider = RawWorker::serving(engine, "provider", &["large"]);
        let mut python = client(engine, "python", &[], &[]);
        for (bytes, fits) in [(PYTHON_LIMIT_BYTES - 1_000, true), (PYTHON_LIMIT_BYTES + 1, false)] {
            let call = python.invoke("large", json!({}));
            let delivery = provider.expect("invokefunction");
            provider.answer(&delivery, text(bytes));
            let outcome = python.result(&call);
            if fits {
                assert_eq!(outcome, Ok(text(bytes)));
            } else {
                assert_eq!(error_code(&outcome), "payload_too_large");
            }
        }
    });
}

// PROTO-12b: others receive up to 64 MiB: other runtimes, and a Python worker that says so.
#[test]
fn others_receive_large_messages() {
    each_shard_count(|engine| {
        let mut clients = [
            client(engine, "node", &[], &["node::f"]),
            client(engine, "python", &["large-messages.v1"], &["modern::f"]),
        ];
        let mut caller = RawWorker::named(engine, "caller");
        for (worker, function) in clients.iter_mut().zip(["node::f", "modern::f"]) {
            let call = caller.invoke(function, text(5 << 20));
            let delivery = worker.expect("invokefunction");
            worker.answer(&delivery, delivery["data"].clone());
            assert_eq!(caller.result(&call), Ok(text(5 << 20)));
        }
    });
}

// PROTO-11, T7: a message of exactly the largest size passes.
#[test]
fn a_message_of_64_mib_passes() {
    let engine = Engine::start(2);
    let mut provider = RawWorker::serving(&engine, "provider", &["largest"]);
    let mut caller = RawWorker::named(&engine, "caller");
    let head = r#"{"type":"invokefunction","function_id":"largest","data":""#;
    // The delivery is a little longer than what came in, and it, too, must stay within the limit.
    let bytes = (64 << 20) - 1024;
    let call = format!(r#"{head}{}"}}"#, "x".repeat(bytes - head.len() - 2));
    caller.send_in_pieces(&call, 1 << 20);
    assert_eq!(provider.expect("invokefunction")["data"].as_str().map(str::len), Some(bytes - head.len() - 2));
}

// PROTO-11, T7: one byte more ends the connection with a word, and the calls that went to it fail at once.
#[test]
fn an_oversized_message_fails_the_calls_of_its_sender() {
    each_shard_count(|engine| {
        let mut provider = RawWorker::serving(engine, "provider", &["too_large"]);
        let mut caller = RawWorker::named(engine, "caller");
        let call = caller.invoke("too_large", json!({}));
        provider.expect("invokefunction");
        provider.try_send_in_pieces(&"x".repeat((64 << 20) + 1), 1 << 20);
        assert_eq!(provider.ending(), support::Ending::Close(Some(1009)));
        assert_eq!(error_code(&caller.result(&call)), "invocation_stopped");
    });
}

// PROTO-70, T8: a worker that never reads fills its own outbox; callers are told, others are served, memory comes back.
#[test]
fn a_worker_that_never_reads_is_overloaded_alone() {
    each_shard_count(|engine| {
        let deaf = RawWorker::serving(engine, "deaf", &["deaf::f"]);
        let mut healthy = RawWorker::serving(engine, "healthy", &["healthy::f"]);
        let mut caller = RawWorker::named(engine, "caller");
        let mut bystander = RawWorker::named(engine, "bystander");
        let before = engine.resident_bytes();
        let payload = "x".repeat(1 << 20);
        let mut refused = 0;
        for _ in 0..200 {
            caller.invoke("deaf::f", json!(payload));
            caller.round_trip();
            // The refusal may come from another shard, behind the pong.
            while let Some(frame) = caller.take_waiting(|frame| frame["type"] == "invocationresult") {
                assert_eq!(frame["error"]["code"], "worker_overloaded", "{frame}");
                refused += 1;
            }
            let call = bystander.invoke("healthy::f", json!({}));
            let delivery = healthy.expect("invokefunction");
            healthy.answer(&delivery, json!("served"));
            assert_eq!(bystander.result(&call), Ok(json!("served")));
        }
        assert!(refused > 50, "only {refused} of 200 MiB were refused");
        let grown = engine.resident_bytes().saturating_sub(before);
        assert!(grown < 160 << 20, "one deaf worker grew the engine by {grown} bytes");
        deaf.vanish();
        support::eventually("the memory of the deaf worker is given back", || {
            (engine.resident_bytes().saturating_sub(before) < 64 << 20).then_some(())
        });
    });
}
