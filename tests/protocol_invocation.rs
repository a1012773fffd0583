//! One invocation end to end: who is told what, exactly once.

mod support;

use support::{Engine, RawWorker, SILENCE, Value, each_shard_count, error_code, json};

const ID: &str = "11111111-2222-4333-8444-555555555555";

fn pair(engine: &Engine) -> (RawWorker, RawWorker) {
    (RawWorker::serving(engine, "provider", &["f"]), RawWorker::named(engine, "caller"))
}

// PROTO-61, PROTO-63, PROTO-66: the shape of a call on its way there and back.
#[test]
fn a_call_and_its_answer() {
    each_shard_count(|engine| {
        let (mut provider, mut caller) = pair(engine);
        let call = caller.invoke("f", json!({"a": 1}));
        let delivery = provider.expect("invokefunction");
        assert_eq!(delivery["function_id"], "f");
        assert_eq!(delivery["data"], json!({"a": 1, "_caller_worker_id": caller.id}));
        assert!(delivery["invocation_id"].is_string(), "the provider must be able to answer");
        let members: Vec<_> = delivery.as_object().unwrap().keys().map(String::as_str).collect();
        for unwanted in ["action", "namespace", "traceparent", "baggage", "metadata"] {
            assert!(!members.contains(&unwanted), "{unwanted} in {delivery}");
        }
        provider.answer(&delivery, json!({"b": 2}));
        let expected =
            json!({"type": "invocationresult", "invocation_id": call, "function_id": "f", "result": {"b": 2}});
        assert_eq!(caller.recv(), expected);
        caller.expect_silence();
    });
}

// PROTO-61: fire and forget, in three spellings; nobody is answered, also when nobody is there.
#[test]
fn void_calls_are_never_answered() {
    each_shard_count(|engine| {
        let (mut provider, mut caller) = pair(engine);
        for id in ["f", "no::such"] {
            caller.send(json!({"type": "invokefunction", "function_id": id, "data": 1, "action": {"type": "void"}}));
            caller.send(json!({"type": "invokefunction", "function_id": id, "data": 2}));
            caller.send(json!({
                "type": "invokefunction", "function_id": id, "data": 3, "invocation_id": ID, "action": {"type": "void"},
            }));
        }
        for number in 1..=3 {
            let delivery = provider.expect("invokefunction");
            assert_eq!(delivery["data"], number);
            // An answer to a void delivery, if the id is there to give one, is discarded.
            if delivery["invocation_id"].is_string() {
                provider.answer(&delivery, json!("unasked"));
            }
        }
        // The same owner shard answers this after having seen all of the above.
        assert_eq!(error_code(&caller.call("no::such", json!({}))), "function_not_found");
        caller.expect_silence();
    });
}

// PROTO-61, PROTO-68: without a queue, enqueueing says so; without an id it says nothing.
#[test]
fn enqueueing_without_a_queue_fails() {
    each_shard_count(|engine| {
        let mut caller = RawWorker::named(engine, "caller");
        let action = json!({"type": "enqueue", "queue": "default"});
        caller.send(json!({"type": "invokefunction", "function_id": "f", "data": 1, "action": action}));
        caller.send(json!({
            "type": "invokefunction", "invocation_id": ID, "function_id": "f", "data": 1, "action": action,
        }));
        assert_eq!(error_code(&caller.result(ID)), "enqueue_error");
        caller.expect_silence();
    });
}

// PROTO-62: objects learn who called; a forged name is replaced; nothing else is touched.
#[test]
fn objects_are_told_who_called() {
    each_shard_count(|engine| {
        let (mut provider, mut caller) = pair(engine);
        let me = &caller.id.clone();
        let cases = [
            (json!({}), json!({"_caller_worker_id": me})),
            (json!({"_caller_worker_id": "forged"}), json!({"_caller_worker_id": me})),
            (
                json!({"a": 1, "_caller_worker_id": {"x": [1]}, "b": 2}),
                json!({"a": 1, "b": 2, "_caller_worker_id": me}),
            ),
            (json!({"_caller_worker_id": 1, "b": 2}), json!({"b": 2, "_caller_worker_id": me})),
            (
                json!({"in": {"_caller_worker_id": "kept"}}),
                json!({"in": {"_caller_worker_id": "kept"}, "_caller_worker_id": me}),
            ),
            (json!([{"_caller_worker_id": "kept"}]), json!([{"_caller_worker_id": "kept"}])),
            (json!("text"), json!("text")),
            (json!(0), json!(0)),
            (json!(false), json!(false)),
            (json!(null), json!(null)),
        ];
        for (sent, delivered) in cases {
            let call = caller.invoke("f", sent.clone());
            let delivery = provider.expect("invokefunction");
            assert_eq!(delivery["data"], delivered, "for {sent}");
            provider.answer(&delivery, json!(null));
            assert_eq!(caller.result(&call), Ok(Value::Null));
        }
    });
}

// PROTO-62: no spelling of the member name gets a forged value through.
#[test]
fn a_forged_caller_cannot_hide_in_another_spelling() {
    let engine = Engine::start(1);
    let (mut provider, mut caller) = pair(&engine);
    for forged in [
        r#"{"_caller_worker_id":"forged","_caller_worker_id":"forged"}"#,
        r#"{"\u005fcaller_worker_id":"forged"}"#,
        r#"{"_caller_worker\u005Fid" : "forged" , "a":1}"#,
        r#"{ "a" : 1 ,"_caller_worker_id":"forged"}"#,
    ] {
        caller.send_text(&format!(
            r#"{{"type":"invokefunction","invocation_id":"{ID}","function_id":"f","data":{forged}}}"#
        ));
        let delivery = provider.expect("invokefunction");
        assert!(!delivery.to_string().contains("forged"), "{delivery}");
        assert_eq!(delivery["data"]["_caller_worker_id"], caller.id.as_str());
        provider.answer(&delivery, json!(null));
        assert_eq!(caller.result(ID), Ok(Value::Null));
    }
}

// PROTO-64: ids belong to their caller; two callers may use the same one.
#[test]
fn equal_ids_of_two_callers_do_not_meet() {
    each_shard_count(|engine| {
        let mut provider = RawWorker::serving(engine, "provider", &["f"]);
        let mut callers = [RawWorker::named(engine, "a"), RawWorker::named(engine, "b")];
        for (number, caller) in callers.iter_mut().enumerate() {
            caller.send(json!({"type": "invokefunction", "invocation_id": ID, "function_id": "f", "data": number}));
        }
        let deliveries = [provider.expect("invokefunction"), provider.expect("invokefunction")];
        for delivery in deliveries.iter().rev() {
            provider.answer(delivery, delivery["data"].clone());
        }
        for (number, caller) in callers.iter_mut().enumerate() {
            assert_eq!(caller.result(ID), Ok(json!(number)));
            caller.expect_silence();
        }
    });
}

// PROTO-64: the same id twice from one caller: the second is told, the first unaffected; later the id is free again.
#[test]
fn a_duplicate_id_fails_the_second_call() {
    each_shard_count(|engine| {
        let (mut provider, mut caller) = pair(engine);
        for _ in 0..2 {
            let call = json!({"type": "invokefunction", "invocation_id": ID, "function_id": "f", "data": "first"});
            caller.send(call.clone());
            caller.send(call);
            let outcome = caller.result(ID);
            assert_eq!(outcome, Err(json!({"code": "invocation_error", "message": "duplicate invocation id"})));
            let delivery = provider.expect("invokefunction");
            provider.expect_silence();
            provider.answer(&delivery, json!("fine"));
            assert_eq!(caller.result(ID), Ok(json!("fine")));
        }
    });
}

// PROTO-65: what an answer means, and which answers count.
#[test]
fn one_answer_counts_and_only_the_providers() {
    each_shard_count(|engine| {
        let (mut provider, mut caller) = pair(engine);
        let mut stranger = RawWorker::named(engine, "stranger");
        // An error wins over a result.
        let call = caller.invoke("f", json!({}));
        let delivery = provider.expect("invokefunction");
        let both = json!({
            "type": "invocationresult", "invocation_id": delivery["invocation_id"], "function_id": "f",
            "result": 1, "error": {"code": "c", "message": "m"},
        });
        provider.send(both);
        assert_eq!(caller.result(&call), Err(json!({"code": "c", "message": "m"})));
        // Neither is success without a result.
        let call = caller.invoke("f", json!({}));
        let delivery = provider.expect("invokefunction");
        provider
            .send(json!({"type": "invocationresult", "invocation_id": delivery["invocation_id"], "function_id": "f"}));
        let answer = caller.expect("invocationresult");
        assert_eq!((&answer["invocation_id"], answer.get("error")), (&json!(call), None));
        assert!(answer.get("result").is_none_or(Value::is_null));
        // A stranger who knows the id, a wrong function id, and unknown ids.
        let call = caller.invoke("f", json!({}));
        let delivery = provider.expect("invokefunction");
        stranger.answer(&delivery, json!("forged"));
        stranger.answer(&json!({"invocation_id": call, "function_id": "f"}), json!("forged"));
        caller.answer(&delivery, json!("forged"));
        stranger.answer(&json!({"invocation_id": ID, "function_id": "f"}), json!("unknown"));
        stranger.round_trip();
        assert_eq!(caller.recv_within(SILENCE), None, "nobody else may answer");
        let misnamed = json!({"invocation_id": delivery["invocation_id"], "function_id": "something::else"});
        provider.answer(&misnamed, json!("true"));
        // A second answer is too late.
        provider.answer(&delivery, json!("again"));
        let answer = caller.expect("invocationresult");
        assert_eq!((&answer["result"], &answer["function_id"]), (&json!("true"), &json!("f")));
        caller.expect_silence();
    });
}

// PROTO-66: null from the worker stays null or is left out; falsy values are values.
#[test]
fn falsy_results_are_results() {
    let engine = Engine::start(1);
    let (mut provider, mut caller) = pair(&engine);
    for result in [json!(null), json!(false), json!(0), json!(""), json!([]), json!({})] {
        let call = caller.invoke("f", json!({}));
        let delivery = provider.expect("invokefunction");
        provider.answer(&delivery, result.clone());
        assert_eq!(caller.result(&call), Ok(result));
    }
}

// PROTO-71: metadata is passed on as it is.
#[test]
fn metadata_is_delivered() {
    each_shard_count(|engine| {
        let (mut provider, mut caller) = pair(engine);
        for metadata in [json!({"tenant": "a", "n": [1]}), json!("text"), json!(7)] {
            caller.send(json!({"type": "invokefunction", "function_id": "f", "data": null, "metadata": metadata}));
            assert_eq!(provider.expect("invokefunction")["metadata"], metadata);
        }
    });
}

// PROTO-70: a worker may call itself while it is being called, as deep as it likes.
#[test]
fn a_worker_may_call_itself_in_depth() {
    each_shard_count(|engine| {
        let mut worker = RawWorker::serving(engine, "recursive", &["down"]);
        let outer = worker.invoke("down", json!(0));
        let mut open = Vec::new();
        for depth in 0..50 {
            let delivery = worker.take("the call", |frame| frame["type"] == "invokefunction");
            assert_eq!(delivery["data"], depth);
            if depth < 49 {
                open.push((delivery, worker.invoke("down", json!(depth + 1))));
            } else {
                worker.answer(&delivery, json!("bottom"));
            }
        }
        while let Some((delivery, inner)) = open.pop() {
            let result = worker.result(&inner).expect("the inner call succeeds");
            worker.answer(&delivery, result);
        }
        assert_eq!(worker.result(&outer), Ok(json!("bottom")));
    });
}

// PROTO-80: the text names the id.
#[test]
fn an_unknown_function_is_named() {
    each_shard_count(|engine| {
        let mut caller = RawWorker::named(engine, "caller");
        let error =
            json!({"code": "function_not_found", "message": "Function no::such not found in namespace default."});
        assert_eq!(caller.call("no::such", json!({})), Err(error));
    });
}

// Bad input: a flood of unknown ids leaves nothing behind.
#[test]
fn a_flood_of_unknown_functions_leaves_nothing_behind() {
    each_shard_count(|engine| {
        let mut caller = RawWorker::named(engine, "caller");
        let mut flood = |rounds: u64| {
            for round in 0..rounds {
                for number in 0..1000 {
                    let id = format!("00000000-0000-4000-a000-{:012x}", round * 1000 + number);
                    caller.queue(&json!({
                        "type": "invokefunction", "invocation_id": id, "function_id": format!("unknown::{round}::{number}"),
                        "data": {},
                    }));
                }
                caller.flush();
                for _ in 0..1000 {
                    assert_eq!(caller.expect("invocationresult")["error"]["code"], "function_not_found");
                }
            }
        };
        flood(2);
        let before = engine.resident_bytes();
        flood(20);
        let grown = engine.resident_bytes().saturating_sub(before);
        assert!(grown < 16 << 20, "20,000 unknown ids grew the engine by {grown} bytes");
    });
}
