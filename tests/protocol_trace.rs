//! Trace headers travel with a call, and come back as the caller sent them.

mod support;

use std::collections::BTreeSet;

use support::{Engine, RawWorker, Value, each_shard_count, json};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

fn deliver(engine: &Engine, headers: Value) -> (Value, Value) {
    let mut provider = RawWorker::serving(engine, "provider", &["traced"]);
    let mut caller = RawWorker::named(engine, "caller");
    let id = caller.fresh_id();
    let mut call = json!({"type": "invokefunction", "invocation_id": id, "function_id": "traced", "data": {}});
    for (name, value) in headers.as_object().unwrap() {
        call[name] = value.clone();
    }
    caller.send(call);
    let delivery = provider.expect("invokefunction");
    // PROTO-66: what the worker says about traces is discarded.
    provider.send(json!({
        "type": "invocationresult", "invocation_id": delivery["invocation_id"], "function_id": "traced", "result": 1,
        "traceparent": format!("00-{TRACE}-ffffffffffffffff-01"), "baggage": "worker=own",
    }));
    let answer = caller.expect("invocationresult");
    provider.close();
    engine.wait_until_gone("traced");
    (delivery, answer)
}

fn entries(baggage: &Value) -> BTreeSet<&str> {
    baggage.as_str().unwrap_or_default().split(',').map(str::trim).filter(|entry| !entry.is_empty()).collect()
}

// PROTO-75, PROTO-66: any flags; verbatim there, echoed back.
#[test]
fn a_traceparent_travels_verbatim() {
    each_shard_count(|engine| {
        for flags in ["00", "01", "03", "ff"] {
            let traceparent = format!("00-{TRACE}-{SPAN}-{flags}");
            let (delivery, answer) = deliver(engine, json!({"traceparent": traceparent}));
            assert_eq!(delivery["traceparent"], traceparent.as_str());
            assert_eq!(entries(&delivery["baggage"]), BTreeSet::from(["iii.function.id=traced"]));
            assert_eq!(answer["traceparent"], traceparent.as_str());
            assert!(answer.get("baggage").is_none_or(Value::is_null));
        }
    });
}

// PROTO-75: what is no traceparent is dropped.
#[test]
fn an_invalid_traceparent_is_dropped() {
    let engine = Engine::start(1);
    for invalid in [
        "",
        "nonsense",
        &format!("00-{TRACE}-{SPAN}"),
        &format!("00-{TRACE}-{SPAN}-0g"),
        &format!("00-{TRACE}-{SPAN}-1"),
        &format!("00-{}-{SPAN}-01", "0".repeat(32)),
        &format!("00-{TRACE}-{}-01", "0".repeat(16)),
        &format!("ff-{TRACE}-{SPAN}-01"),
        &format!("00-{}-{SPAN}-01", &TRACE[1..]),
    ] {
        let (delivery, _) = deliver(&engine, json!({"traceparent": invalid}));
        assert!(delivery.get("traceparent").is_none_or(Value::is_null), "{invalid}: {delivery}");
    }
}

// PROTO-75: baggage gains one entry, keeps the others with their properties, and replaces a stale one.
#[test]
fn baggage_names_the_function() {
    each_shard_count(|engine| {
        let (delivery, answer) = deliver(engine, json!({"baggage": "user=ana;ttl=5,plan=a%20b"}));
        let expected = BTreeSet::from(["user=ana;ttl=5", "plan=a%20b", "iii.function.id=traced"]);
        assert_eq!(entries(&delivery["baggage"]), expected);
        assert!(delivery.get("traceparent").is_none_or(Value::is_null));
        assert_eq!(answer["baggage"], "user=ana;ttl=5,plan=a%20b");
        let (delivery, _) = deliver(engine, json!({"baggage": "iii.function.id=outer,user=ana"}));
        assert_eq!(entries(&delivery["baggage"]), BTreeSet::from(["user=ana", "iii.function.id=traced"]));
    });
}

// PROTO-75: no headers in, none out.
#[test]
fn without_headers_there_are_none() {
    let engine = Engine::start(1);
    let (delivery, answer) = deliver(&engine, json!({}));
    for frame in [delivery, answer] {
        assert!(frame.get("traceparent").is_none_or(Value::is_null), "{frame}");
        assert!(frame.get("baggage").is_none_or(Value::is_null), "{frame}");
    }
}

// PROTO-66: errors echo the headers, too, also the engine's own.
#[test]
fn errors_echo_the_headers() {
    let engine = Engine::start(1);
    let mut caller = RawWorker::named(&engine, "caller");
    let traceparent = format!("00-{TRACE}-{SPAN}-01");
    caller.send(json!({
        "type": "invokefunction", "invocation_id": "11111111-2222-4333-8444-555555555555", "function_id": "no::such",
        "data": {}, "traceparent": traceparent, "baggage": "user=ana",
    }));
    let answer = caller.expect("invocationresult");
    assert_eq!((&answer["traceparent"], &answer["baggage"]), (&json!(traceparent), &json!("user=ana")));
}
