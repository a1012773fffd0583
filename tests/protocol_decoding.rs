//! From text to messages: what counts as a message, what is forgiven, what is refused, and what is passed on untouched.

mod support;

use support::socket::TEXT;
use support::{Engine, RawSocket, RawWorker, Value, error_code, json};

/// A provider of `f` and a caller, each a connection of its own.
fn pair(engine: &Engine) -> (RawWorker, RawWorker) {
    (RawWorker::serving(engine, "provider", &["f"]), RawWorker::named(engine, "caller"))
}

const ID: &str = "11111111-2222-4333-8444-555555555555";

// PROTO-20, PROTO-23: what is no message is ignored; the connection stays.
#[test]
fn what_is_no_message_is_ignored() {
    let engine = Engine::start(1);
    let mut worker = RawWorker::connect(&engine);
    let nonsense = [
        "null",
        "true",
        "7",
        "\"text\"",
        "[]",
        r#"[{"type":"ping"}]"#,
        "{",
        "}",
        "{}",
        "nonsense",
        "\u{feff}{\"type\":\"ping\"}",
        r#"{"type":"ping"} {"type":"ping"}"#,
        r#"{"type":"ping"}x"#,
        r#"{"type":7}"#,
        r#"{"type":null}"#,
        r#"{"type":"Ping"}"#,
        r#"{"type":"no_such_type"}"#,
        r#"{"Type":"ping"}"#,
        r#"{"type":"registerfunction"}"#,
        r#"{"type":"registerfunction","id":7}"#,
        r#"{"type":"unregisterfunction"}"#,
        r#"{"type":"invokefunction"}"#,
        r#"{"type":"invocationresult"}"#,
        r#"{"type":"reattach"}"#,
        r#"{"type":"registertrigger"}"#,
        r#"{"type":"workerregistered"}"#,
        r#"{"type":"registrationrejected"}"#,
        r#"{"type":"ping","#,
        r#"{'type':'ping'}"#,
    ];
    for text in nonsense {
        worker.send_text(text);
    }
    worker.send_binary(b"\xFF\xFE not even text");
    worker.send(json!({"type": "ping"}));
    assert_eq!(worker.recv(), json!({"type": "pong"}), "only the last frame was a message");
    worker.expect_silence();
}

// PROTO-20, PROTO-21: members in any order, unknown ones among them, blanks around.
#[test]
fn order_blanks_and_unknown_members_do_not_matter() {
    let engine = Engine::start(1);
    let (mut provider, mut caller) = pair(&engine);
    let spellings = [
        format!(
            r#"{{"data":{{"type":"ping","invocation_id":"x"}},"function_id":"f","invocation_id":"{ID}","type":"invokefunction"}}"#
        ),
        format!(
            " \n{{ \"type\" : \"invokefunction\" , \"invocation_id\" :\t\"{ID}\", \"function_id\":\"f\",\"data\":1 }}\r\n"
        ),
        format!(
            r#"{{"type":"invokefunction","x":[{{"type":"pong"}}],"invocation_id":"{ID}","function_id":"f","data":1,"observe_depth":3,"caller":{{}}}}"#
        ),
        format!(r#"{{"type":"invokefunction","invocation_id":"{ID}","function_id":"\u0066","data":1}}"#),
    ];
    for text in spellings {
        caller.send_text(&text);
        let delivery = provider.expect("invokefunction");
        assert_eq!(delivery["function_id"], "f", "{text}");
        provider.answer(&delivery, json!(2));
        assert_eq!(caller.result(ID), Ok(json!(2)), "{text}");
    }
}

// PROTO-22: null is absent.
#[test]
fn null_members_mean_absent_ones() {
    let engine = Engine::start(1);
    let (mut provider, mut caller) = pair(&engine);
    let call = json!({
        "type": "invokefunction", "invocation_id": ID, "function_id": "f", "data": 1, "action": null, "namespace": null,
        "traceparent": null, "baggage": null, "metadata": null,
    });
    caller.send(call);
    let delivery = provider.expect("invokefunction");
    for member in ["traceparent", "baggage", "action", "namespace"] {
        assert!(delivery.get(member).is_none_or(Value::is_null), "{member} in {delivery}");
    }
    provider.send(json!({
        "type": "invocationresult", "invocation_id": delivery["invocation_id"], "function_id": "f", "result": 5, "error": null,
    }));
    assert_eq!(caller.result(ID), Ok(json!(5)));
}

// PROTO-24: a call without payload is a call with null.
#[test]
fn absent_data_is_delivered_as_null() {
    let engine = Engine::start(1);
    let (mut provider, mut caller) = pair(&engine);
    caller.send(json!({"type": "invokefunction", "invocation_id": ID, "function_id": "f"}));
    let delivery = provider.expect("invokefunction");
    assert_eq!(delivery.get("data"), Some(&Value::Null), "PROTO-27: data is always present");
    provider.answer(&delivery, json!("ok"));
    assert_eq!(caller.result(ID), Ok(json!("ok")));
}

// PROTO-24: errors in other shapes still reach the caller as {code, message}.
#[test]
fn odd_errors_are_put_in_order() {
    let engine = Engine::start(1);
    let (mut provider, mut caller) = pair(&engine);
    let cases = [
        (json!("went wrong"), json!({"code": "UNKNOWN", "message": "went wrong"})),
        (json!({"message": "no code"}), json!({"code": "UNKNOWN", "message": "no code"})),
        (json!({"code": "no_message"}), json!({"code": "no_message", "message": ""})),
        (json!({"code": "own", "message": "m", "extra": 1}), json!({"code": "own", "message": "m"})),
        (
            json!({"code": "own", "message": "m", "stacktrace": "at x"}),
            json!({"code": "own", "message": "m", "stacktrace": "at x"}),
        ),
        (json!(17), json!({"code": "UNKNOWN", "message": "17"})),
        (json!([1]), json!({"code": "UNKNOWN", "message": "[1]"})),
    ];
    for (sent, received) in cases {
        let id = caller.invoke("f", json!({}));
        let delivery = provider.expect("invokefunction");
        provider.fail(&delivery, sent.clone());
        assert_eq!(caller.result(&id), Err(received), "for {sent}");
    }
}

// PROTO-24, PROTO-23: a call that cannot be honoured is answered, not swallowed.
#[test]
fn a_call_that_cannot_be_honoured_is_answered() {
    let engine = Engine::start(1);
    let (mut provider, mut caller) = pair(&engine);
    let head = format!(r#"{{"type":"invokefunction","invocation_id":"{ID}""#);
    let cases = [
        format!(r#"{head}}}"#),
        format!(r#"{head},"data":1}}"#),
        format!(r#"{head},"function_id":7,"data":1}}"#),
        format!(r#"{head},"function_id":"f","data":{{"a":NaN}}}}"#),
        format!(r#"{head},"function_id":"f","data":Infinity}}"#),
        format!(r#"{head},"function_id":"f","data":{{"a":}}}}"#),
        format!(r#"{head},"function_id":"f","data":[1,]}}"#),
        format!(r#"{head},"function_id":"f","data":01}}"#),
        format!(r#"{head},"function_id":"f","data":tru}}"#),
        format!(r#"{head},"function_id":"f","data":"a	tab"}}"#),
        format!(r#"{head},"function_id":"f","data":"\x"}}"#),
        format!(r#"{head},"function_id":"f","data":1,"action":{{"type":"teleport"}}}}"#),
        format!(r#"{head},"function_id":"f","data":1,"action":"void"}}"#),
        format!(r#"{head},"function_id":"f","data":1,"action":{{"type":"enqueue"}}}}"#),
    ];
    for text in cases {
        caller.send_text(&text);
        let outcome = caller.result(ID);
        assert_eq!(error_code(&outcome), "invalid_message", "{text}");
        assert!(!outcome.unwrap_err()["message"].as_str().unwrap().is_empty(), "the message names the problem");
    }
    provider.expect_silence();
}

// PROTO-24: a result that is not JSON fails the call, and does not reach the caller's parser.
#[test]
fn a_result_that_is_not_json_fails_the_call() {
    let engine = Engine::start(1);
    let (mut provider, mut caller) = pair(&engine);
    for result in ["NaN", "{\"a\":Infinity}", "[1,]", "{\"a\" 1}"] {
        let id = caller.invoke("f", json!({}));
        let delivery = provider.expect("invokefunction");
        let delivered = delivery["invocation_id"].as_str().unwrap();
        provider.send_text(&format!(
            r#"{{"type":"invocationresult","invocation_id":"{delivered}","function_id":"f","result":{result}}}"#
        ));
        assert_eq!(error_code(&caller.result(&id)), "invalid_result", "{result}");
    }
}

// PROTO-24, T6: deep nesting up to 512 levels is data; beyond some limit it is refused without harm.
#[test]
fn nesting_has_a_limit_and_the_stack_survives() {
    let engine = Engine::start(1);
    let mut provider = RawSocket::worker(engine.port);
    provider.write_text(&json!({"type": "registerfunction", "id": "deep"}).to_string());
    engine.wait_for_function("deep");
    let mut caller = RawWorker::named(&engine, "caller");
    let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
    let call = |data: &str| {
        format!(r#"{{"type":"invokefunction","invocation_id":"{ID}","function_id":"deep","data":{data}}}"#)
    };
    // One level is the message itself.
    caller.send_text(&call(&nested(511)));
    let frame = provider.read_frame().expect("the call arrives");
    let text = String::from_utf8(frame.payload).unwrap();
    assert!(text.contains(&nested(511)));
    let delivered = text.split(r#""invocation_id":""#).nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    provider.write_text(&json!({"type": "invocationresult", "invocation_id": delivered, "result": 1}).to_string());
    assert_eq!(caller.result(ID), Ok(json!(1)));
    caller.send_text(&call(&nested(100_000)));
    assert_eq!(error_code(&caller.result(ID)), "invalid_message");
    caller.send_text(&call(&"[".repeat(1_000_000)));
    assert_eq!(error_code(&caller.result(ID)), "invalid_message");
    caller.round_trip();
}

// PROTO-25, decision 12: payloads pass byte for byte: order, duplicates, number text, escapes.
#[test]
fn payloads_are_passed_on_verbatim() {
    let engine = Engine::start(2);
    let mut provider = RawSocket::worker(engine.port);
    provider.write_text(&json!({"type": "registerfunction", "id": "verbatim"}).to_string());
    engine.wait_for_function("verbatim");
    let mut caller = RawSocket::worker(engine.port);
    let payloads = [
        r#"{"z":1,"a":2,"m":{"b":1,"a":2}}"#,
        r#"{"n":12345678901234567890123456789}"#,
        r#"{"n":[1E2,1.0,-0,1e300,0.1e-300]}"#,
        r#"{"k":1,"k":2}"#,
        r#"{"s":"\u00e9\/\ud83d\ude00é😀"}"#,
        r#"[ 1 , {"a" : 2} ]"#,
        r#""text \" with ] and }""#,
    ];
    for payload in payloads {
        caller.write_text(&format!(
            r#"{{"type":"invokefunction","invocation_id":"{ID}","function_id":"verbatim","data":{payload}}}"#
        ));
        let delivery = String::from_utf8(provider.read_frame().expect("the call arrives").payload).unwrap();
        // An object gains a member at one end; what was sent is still there in one piece.
        let core = payload.trim_start_matches('{').trim_end_matches('}');
        assert!(delivery.contains(core), "sent {payload}, got {delivery}");
        let delivered = delivery.split(r#""invocation_id":""#).nth(1).and_then(|rest| rest.split('"').next()).unwrap();
        provider.write_text(&format!(
            r#"{{"type":"invocationresult","invocation_id":"{delivered}","function_id":"verbatim","result":{payload}}}"#
        ));
        let answer = caller.read_frame().expect("the answer arrives");
        assert_eq!(answer.opcode, TEXT);
        let answer = String::from_utf8(answer.payload).unwrap();
        assert!(answer.contains(&format!(r#""result":{payload}"#)), "sent {payload}, got {answer}");
    }
}

// PROTO-26: ids in any spelling of a UUID.
#[test]
fn invocation_ids_in_other_spellings_are_answered() {
    let engine = Engine::start(1);
    let (mut provider, mut caller) = pair(&engine);
    let canonical = ID.replace('-', "");
    for id in ["AAAAAAAA-2222-4333-8444-BBBBBBBBBBBB", "aaaaaaaa222243338444bbbbbbbbbbbb", &canonical] {
        caller.send(json!({"type": "invokefunction", "invocation_id": id, "function_id": "f", "data": 1}));
        let delivery = provider.expect("invokefunction");
        provider.answer(&delivery, json!(3));
        let answer = caller.expect("invocationresult");
        let plain = |text: &str| text.replace('-', "").to_lowercase();
        assert_eq!(plain(answer["invocation_id"].as_str().unwrap()), plain(id));
        assert_eq!(answer["result"], 3);
    }
}

// PROTO-23, decision 17: an id that is no UUID is still answered.
#[test]
fn a_call_with_a_bad_id_is_answered() {
    let engine = Engine::start(1);
    let mut caller = RawWorker::named(&engine, "caller");
    caller.send(json!({"type": "invokefunction", "invocation_id": "not-a-uuid", "function_id": "no::such", "data": 1}));
    let answer = caller.expect("invocationresult");
    assert_eq!(answer["invocation_id"], "not-a-uuid");
    assert!(answer["error"]["code"].is_string());
}

// T6: a hundred thousand keys are just data.
#[test]
fn wide_objects_pass() {
    let engine = Engine::start(1);
    let (mut provider, mut caller) = pair(&engine);
    let wide: serde_json::Map<_, _> = (0..100_000).map(|index| (format!("key{index}"), json!(index))).collect();
    let id = caller.invoke("f", Value::Object(wide));
    let delivery = provider.expect("invokefunction");
    assert_eq!(delivery["data"].as_object().map(serde_json::Map::len), Some(100_001), "the keys and _caller_worker_id");
    provider.answer(&delivery, json!(null));
    assert_eq!(caller.result(&id), Ok(Value::Null));
}

// Section 4.1: `registerworker` in documents of the first generation means the register call.
#[test]
fn registerworker_is_understood() {
    let engine = Engine::start(1);
    let mut worker = RawWorker::connect(&engine);
    worker
        .send(json!({"type": "registerworker", "name": "by-alias", "runtime": "node", "version": "0.11.6", "pid": 7}));
    let listed = worker.call("engine::workers::list", json!({})).expect("the list");
    assert!(listed["workers"].as_array().unwrap().iter().any(|row| row["name"] == "by-alias"), "{listed}");
}
