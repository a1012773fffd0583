//! Engine functions other than discovery: dynamic triggers, logging, baggage, health; and bad input to all of them.

use super::*;

const REGISTER: &str =
    r#"{"trigger_type":"webhook","function_id":"x::hook","config":{"u": 1},"_caller_worker_id":"x"}"#;
const OFFER: &str = r#"{"type":"registertriggertype","id":"webhook","description":"Webhook"}"#;

fn start(bench: &mut Bench, caller: ConnectionId, data: &str) -> Uuid {
    bench.start_call(caller, Generation::Current, "engine::register_trigger", data, None)
}

fn provider_says(bench: &mut Bench, provider: ConnectionId, id: &str, error: &str) {
    bench.message(
        provider,
        &format!(
            r#"{{"type":"triggerregistrationresult","id":"{id}","trigger_type":"webhook","function_id":"f"{error}}}"#
        ),
    );
}

// ENG-4
#[test]
fn bad_inputs_are_named() {
    let mut bench = Bench::new();
    let caller = bench.worker(1, "w");
    for function in super::super::EngineFunction::ALL.iter().map(|function| function.id()) {
        // Two take anything, two are run by the caller's home shard.
        if matches!(
            function,
            "engine::health::check"
                | "engine::baggage::get_all"
                | "engine::workers::register"
                | "engine::channels::create"
        ) {
            continue;
        }
        let (code, message) = bench.call(caller, function, "\"text\"").unwrap_err();
        assert_eq!(code, "deserialization_error");
        assert!(message.starts_with(&format!("Failed to deserialize input for {function}: ")), "{message}");
    }
    for (function, data, part) in [
        ("engine::triggers::info", "{}", "missing field `id`"),
        ("engine::workers::info", "null", "missing field `name`"),
        ("engine::register_trigger", r#"{"trigger_type":"x"}"#, "missing field `function_id`"),
        ("engine::functions::list", r#"{"search":1}"#, "invalid type"),
    ] {
        let (code, message) = bench.call(caller, function, data).unwrap_err();
        assert!(code == "deserialization_error" && message.contains(part), "{message}");
    }
    // A payload that is left out is an empty object where nothing is required.
    assert!(bench.call(caller, "engine::functions::list", "null").is_ok());
    assert!(bench.call(caller, "engine::workers::list", "null").is_ok());
}

// ENG-47, PROTO-102: the provider's word is waited for.
#[test]
fn dynamic_triggers_wait_for_the_provider() {
    let mut bench = Bench::new();
    let (provider, caller) = (bench.worker(1, "p"), bench.worker(2, "c"));
    bench.message(provider, OFFER);
    let call = start(&mut bench, caller, REGISTER);
    let told = bench.sent(provider);
    let id = told[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(told[0]["config"], json(r#"{"u":1}"#));
    assert!(bench.answer_of(call).is_none());
    provider_says(&mut bench, provider, &id, "");
    assert_eq!(bench.answer_of(call), Some(Ok(json(&format!(r#"{{"id":"{id}"}}"#)))));
    // It outlives its caller, and anybody may remove it.
    bench.leave(caller);
    assert!(bench.sent(provider).is_empty());
    bench.message(provider, &format!(r#"{{"type":"unregistertrigger","id":"{id}"}}"#));
    assert_eq!(bench.sent(provider)[0]["type"], "unregistertrigger");
    // A refusal fails the call and leaves nothing.
    let caller = bench.worker(4, "c");
    let call = start(&mut bench, caller, REGISTER);
    let id = bench.sent(provider)[0]["id"].as_str().unwrap().to_owned();
    provider_says(&mut bench, provider, &id, r#","error":{"code":"bad","message":"no"}"#);
    let error = ("trigger_registration_failed".to_owned(), "bad: no".to_owned());
    assert_eq!(bench.answer_of(call), Some(Err(error)));
    assert_no_bindings(&bench.control.triggers);
    // Silence is consent after ten seconds.
    let call = start(&mut bench, caller, REGISTER);
    bench.advance(9_990);
    assert!(bench.answer_of(call).is_none());
    bench.advance(20);
    assert!(bench.answer_of(call).unwrap().is_ok());
}

// ENG-47: an unknown type still gives an id; a built-in provider's refusal is the answer.
#[test]
fn dynamic_triggers_without_a_connection() {
    let mut bench = Bench::new();
    let scribe = Scribe::default();
    scribe.provide(&mut bench.control, "http");
    let caller = bench.worker(2, "c");
    let parked = bench.call(caller, "engine::register_trigger", REGISTER).unwrap();
    let provider = bench.worker(3, "p");
    bench.message(provider, OFFER);
    assert_eq!(bench.sent(provider)[0]["id"], parked["id"]);
    let refused = bench.call(caller, "engine::register_trigger", r#"{"trigger_type":"http","function_id":"f"}"#);
    let message = "api_path is required for http triggers".to_owned();
    assert_eq!(refused, Err(("trigger_registration_failed".to_owned(), message)));
    let blank = r#"{"trigger_type":"http","function_id":"f","trigger_namespace":""}"#;
    assert_eq!(bench.call(caller, "engine::register_trigger", blank).unwrap_err().0, "INVALID_NAMESPACE");
}

// ENG-48
#[test]
fn any_trigger_can_be_removed_by_call() {
    let mut bench = Bench::new();
    let scribe = Scribe::default();
    scribe.provide(&mut bench.control, "http");
    let (owner, caller) = (bench.worker(1, "o"), bench.worker(2, "c"));
    for (id, config) in [("a", "\"ok\""), ("b", "\"ok stuck\"")] {
        bench.message(
            owner,
            &format!(
                r#"{{"type":"registertrigger","id":"{id}","trigger_type":"http","function_id":"f","config":{config}}}"#
            ),
        );
    }
    bench.message(owner, r#"{"type":"registertrigger","id":"c","trigger_type":"later","function_id":"f"}"#);
    let mut remove = |id: &str| {
        bench.call(caller, "engine::unregister_trigger", &format!(r#"{{"id":"{id}","trigger_type":"wrong"}}"#))
    };
    assert_eq!(remove("a"), Ok(json(r#"{"removed":true}"#)));
    assert_eq!(remove("a"), Ok(json(r#"{"removed":false}"#)));
    assert_eq!(remove("b"), Err(("unregister_failed".to_owned(), "it is stuck".to_owned())));
    assert_eq!(remove("c"), Ok(json(r#"{"removed":true}"#)));
    assert_no_bindings(&bench.control.triggers);
}

// PROTO-61: a void call has its effect and no answer.
#[test]
fn void_calls_have_effects() {
    let mut bench = Bench::new();
    let caller = bench.worker(2, "c");
    bench.report(Report::Call {
        caller,
        invocation_id: None,
        function: super::super::EngineFunction::RegisterTrigger,
        generation: Generation::Current,
        data: REGISTER.as_bytes().into(),
        baggage: None,
        session: None,
    });
    assert_eq!(bench.control.triggers.bindings().count(), 1);
}

// ENG-51
#[test]
fn baggage() {
    let mut bench = Bench::new();
    let caller = bench.worker(1, "w");
    let mut ask = |function: &str, data: &str| {
        let call = bench.start_call(caller, Generation::Current, function, data, Some("user=j%20d;p=1,x=2"));
        bench.answer_of(call).unwrap().unwrap()
    };
    assert_eq!(ask("engine::baggage::get", r#"{"key":"user"}"#), json(r#"{"value":"j d"}"#));
    assert_eq!(ask("engine::baggage::get", r#"{"key":"none"}"#), json(r#"{"value":null}"#));
    assert_eq!(ask("engine::baggage::get_all", "{}"), json(r#"{"baggage":{"user":"j d","x":"2"}}"#));
    assert_eq!(ask("engine::baggage::set", r#"{"key":"a","value":"b"}"#)["success"], true);
}

// ENG-50, ENG-52
#[test]
fn health_and_log() {
    let mut bench = Bench::new();
    let caller = bench.worker(1, "w");
    let health = bench.call(caller, "engine::health::check", "[]").unwrap();
    assert_eq!((&health["status"], &health["components"]["logs"]["details"]), (&"healthy".into(), &Value::Null));
    assert_eq!(bench.call(caller, "engine::log::info", r#"{"message":"hi\nthere","data":{"a":1}}"#), Ok(Value::Null));
}
