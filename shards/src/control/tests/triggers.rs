//! Trigger types and triggers: who is told what, once each, in every order of coming and going.

use super::*;

const BIND: &str =
    r#"{"type":"registertrigger","id":"t1","trigger_type":"webhook","function_id":"x::hook","config":{"u": 1}}"#;
const OFFER: &str = r#"{"type":"registertriggertype","id":"webhook","description":"Webhook"}"#;
const TOLD: &str =
    r#"{"type":"registertrigger","id":"t1","trigger_type":"webhook","function_id":"x::hook","config":{"u": 1}}"#;
const ENDED: &str = r#"{"type":"unregistertrigger","id":"t1","trigger_type":"webhook"}"#;

fn pair() -> (Bench, ConnectionId, ConnectionId) {
    let mut bench = Bench::new();
    let (provider, binder) = (bench.worker(1, "provider"), bench.worker(2, "binder"));
    (bench, provider, binder)
}

// PROTO-90, PROTO-93, PROTO-97, PROTO-71: the whole life of a trigger at a connection.
#[test]
fn a_trigger_reaches_its_provider() {
    let (mut bench, provider, binder) = pair();
    bench.message(provider, OFFER);
    let bind = r#"{"type":"registertrigger","id":"t1","trigger_type":"webhook","function_id":"x::hook",
        "config":{"u":1e2},"metadata":{"m":1},"namespace":"b"}"#;
    bench.message(binder, bind);
    let told = bench.sent(provider);
    let expected = r#"{"type":"registertrigger","id":"t1","trigger_type":"webhook","function_id":"x::hook",
        "config":{"u":1e2},"metadata":{"m":1},"namespace":"b"}"#;
    assert_eq!(told, [json(expected)]);
    let accepted = r#"{"type":"triggerregistrationresult","id":"t1","trigger_type":"webhook","function_id":"x::hook"}"#;
    bench.message(provider, accepted);
    assert!(bench.sent(binder).is_empty(), "success is never acknowledged");
    bench.message(binder, r#"{"type":"unregistertrigger","id":"t1"}"#);
    assert_eq!(bench.sent(provider), [json(ENDED)]);
    bench.message(binder, r#"{"type":"unregistertrigger","id":"t1"}"#);
    assert!(bench.sent(provider).is_empty() && bench.sent(binder).is_empty());
    assert_no_bindings(&bench.control.triggers);
}

// PROTO-24: a trigger without configuration has the configuration null.
#[test]
fn config_may_be_left_out() {
    let (mut bench, provider, binder) = pair();
    bench.message(provider, OFFER);
    bench.message(binder, r#"{"type":"registertrigger","id":"t1","trigger_type":"webhook","function_id":"f"}"#);
    assert_eq!(bench.sent(provider)[0]["config"], Value::Null);
}

// PROTO-94, PROTO-103: parked in silence, delivered once, parked again, delivered again.
#[test]
fn triggers_wait_for_their_provider() {
    let (mut bench, provider, binder) = pair();
    bench.message(binder, BIND);
    assert!(bench.sent(binder).is_empty());
    bench.message(provider, OFFER);
    assert_eq!(bench.sent(provider), [json(TOLD)]);
    bench.leave(provider);
    assert!(bench.sent(binder).is_empty(), "the binder is not told");
    let next = bench.worker(3, "next");
    bench.message(next, OFFER);
    assert_eq!(bench.sent(next), [json(TOLD)]);
    // PROTO-101
    bench.message(next, r#"{"type":"unregistertriggertype","id":"webhook"}"#);
    assert!(bench.sent(next).is_empty());
    bench.message(next, OFFER);
    assert_eq!(bench.sent(next), [json(TOLD)]);
}

// PROTO-104: a binder leaves; PROTO-48: its parked triggers vanish.
#[test]
fn a_binder_takes_its_triggers_along() {
    let (mut bench, provider, binder) = pair();
    bench.message(provider, OFFER);
    bench.message(binder, BIND);
    bench.message(binder, r#"{"type":"registertrigger","id":"t2","trigger_type":"later","function_id":"f"}"#);
    bench.sent(provider);
    bench.leave(binder);
    assert_eq!(bench.sent(provider), [json(ENDED)]);
    assert_no_bindings(&bench.control.triggers);
}

// PROTO-93: a refusal is passed on, and the trigger waits until the type is registered anew.
#[test]
fn refusals_reach_the_binder() {
    let (mut bench, provider, binder) = pair();
    let stranger = bench.worker(3, "stranger");
    bench.message(provider, OFFER);
    bench.message(binder, BIND);
    bench.sent(provider);
    let refusal = r#"{"type":"triggerregistrationresult","id":"t1","trigger_type":"other","function_id":"other",
        "error":{"code":"bad_config","message":"no","extra":1}}"#;
    bench.message(stranger, refusal);
    assert!(bench.sent(binder).is_empty(), "only the provider may refuse");
    bench.message(provider, refusal);
    let expected = r#"{"type":"triggerregistrationresult","id":"t1","trigger_type":"webhook","function_id":"x::hook",
        "error":{"code":"bad_config","message":"no"}}"#;
    assert_eq!(bench.sent(binder), [json(expected)]);
    bench.message(provider, refusal);
    assert!(bench.sent(binder).is_empty(), "it is no longer there to refuse");
    bench.message(provider, OFFER);
    assert_eq!(bench.sent(provider), [json(TOLD)]);
}

// PROTO-24: an answer that is garbage is a refusal with code UNKNOWN.
#[test]
fn garbage_is_a_refusal() {
    let (mut bench, provider, binder) = pair();
    bench.message(provider, OFFER);
    bench.message(binder, BIND);
    bench.message(provider, r#"{"type":"triggerregistrationresult","id":"t1","error":"broken"}"#);
    assert_eq!(bench.sent(binder)[0]["error"], json(r#"{"code":"UNKNOWN","message":"broken"}"#));
}

// PROTO-100: the newcomer gets everything, the replaced one is not told and takes over again later.
#[test]
fn providers_are_a_stack() {
    let (mut bench, first, binder) = pair();
    let second = bench.worker(3, "second");
    bench.message(first, OFFER);
    bench.message(binder, BIND);
    bench.sent(first);
    bench.message(second, OFFER);
    assert_eq!(bench.sent(second), [json(TOLD)]);
    assert!(bench.sent(first).is_empty());
    bench.leave(second);
    assert_eq!(bench.sent(first), [json(TOLD)]);
    bench.message(binder, r#"{"type":"unregistertrigger","id":"t1"}"#);
    assert_eq!(bench.sent(first), [json(ENDED)]);
}

// A trigger that has ended must not go on firing at a provider that was covered meanwhile.
#[test]
fn covered_providers_are_told_of_the_end() {
    let (mut bench, first, binder) = pair();
    let second = bench.worker(3, "second");
    bench.message(first, OFFER);
    bench.message(binder, BIND);
    bench.message(second, OFFER);
    bench.sent(first);
    bench.sent(second);
    bench.leave(binder);
    assert_eq!((bench.sent(first), bench.sent(second)), (vec![json(ENDED)], vec![json(ENDED)]));
}

// PROTO-91, PROTO-100: home namespace first, then default; a provider at home takes over.
#[test]
fn providers_at_home_come_first() {
    let mut bench = Bench::new();
    let common = bench.worker(1, "common");
    let binder = bench.connect(2);
    bench.announce(binder, r#"{"name":"binder","namespace":"home"}"#);
    bench.message(common, OFFER);
    bench.message(binder, BIND);
    assert_eq!(bench.sent(common).len(), 1);
    let local = bench.connect(3);
    bench.announce(local, r#"{"name":"local","namespace":"home"}"#);
    bench.message(local, OFFER);
    assert_eq!(bench.sent(common), [json(ENDED)]);
    assert_eq!(bench.sent(local)[0]["trigger_namespace"], "home");
    bench.leave(local);
    assert_eq!(bench.sent(common), [json(TOLD)]);
    // A named namespace is strict.
    let strict = r#"{"type":"registertrigger","id":"t2","trigger_type":"webhook","function_id":"f",
        "trigger_namespace":"elsewhere"}"#;
    bench.message(binder, strict);
    assert!(bench.sent(common).is_empty());
    let offer = r#"{"type":"registertriggertype","id":"webhook","description":"","namespace":"elsewhere"}"#;
    bench.message(common, offer);
    assert_eq!(bench.sent(common)[0]["id"], "t2");
}

// PROTO-42, decision 11: registrations follow a connection that names its namespace late.
#[test]
fn registrations_move_with_their_connection() {
    let mut bench = Bench::new();
    let (provider, binder) = (bench.connect(1), bench.worker(2, "binder"));
    bench.message(provider, OFFER);
    bench.message(binder, BIND);
    bench.sent(provider);
    bench.announce(provider, r#"{"name":"p","namespace":"own"}"#);
    assert_eq!(bench.sent(provider), [json(ENDED)]);
    bench.announce(binder, r#"{"name":"b","namespace":"own"}"#);
    assert_eq!(bench.sent(provider).len(), 1);
}

// PROTO-95
#[test]
fn blank_namespaces_are_refused() {
    let (mut bench, provider, binder) = pair();
    bench.message(provider, OFFER);
    for (field, text) in [("namespace", "`namespace` is empty"), ("trigger_namespace", "`trigger_namespace` is empty")]
    {
        let bind = format!(
            r#"{{"type":"registertrigger","id":"t1","trigger_type":"webhook","function_id":"f","{field}":" "}}"#
        );
        bench.message(binder, &bind);
        let told = bench.sent(binder);
        assert_eq!(told[0]["error"]["code"], "INVALID_NAMESPACE");
        assert!(told[0]["error"]["message"].as_str().unwrap().starts_with(text), "{told:?}");
    }
    bench.message(provider, r#"{"type":"registertriggertype","id":"w2","description":"","namespace":" "}"#);
    assert!(bench.sent(provider).is_empty());
    assert!(bench.control.triggers.trigger_types().all(|view| view.id != "w2"));
}

// PROTO-96: the old one ends before the new one begins; strangers may not replace.
#[test]
fn ids_are_replaced_by_their_owner_only() {
    let (mut bench, provider, binder) = pair();
    bench.message(provider, OFFER);
    bench.message(binder, BIND);
    bench.message(binder, BIND);
    assert_eq!(bench.sent(provider), [json(TOLD), json(ENDED), json(TOLD)]);
    let stranger = bench.worker(4, "stranger");
    bench.message(stranger, BIND);
    assert_eq!(bench.sent(stranger)[0]["error"]["message"], "trigger id already in use");
    assert!(bench.sent(provider).is_empty());
    // PROTO-97
    bench.message(stranger, r#"{"type":"unregistertrigger","id":"t1"}"#);
    assert!(bench.sent(provider).is_empty());
    // PROTO-50b: the same process on a new connection may.
    let again = bench.connect(6);
    bench.announce(again, r#"{"name":"binder","version":"0.25.0","pid":2}"#);
    bench.message(again, BIND);
    assert_eq!(bench.sent(provider), [json(ENDED), json(TOLD)]);
    bench.leave(binder);
    assert!(bench.sent(provider).is_empty(), "it belongs to the new connection now");
    bench.leave(again);
    assert_eq!(bench.sent(provider), [json(ENDED)]);
}

// PROTO-92, PROTO-96: built-in providers, and what they refuse.
#[test]
fn built_in_providers() {
    let mut bench = Bench::new();
    let scribe = Scribe::default();
    let binder = bench.worker(2, "binder");
    let bind = |config: &str| {
        format!(r#"{{"type":"registertrigger","id":"t1","trigger_type":"http","function_id":"f","config":{config}}}"#)
    };
    bench.message(binder, &bind(r#"{"ok":0}"#));
    scribe.provide(&mut bench.control, "http");
    assert_eq!(scribe.told(), [r#"+t1 {"ok":0}"#]);
    bench.message(binder, &bind(r#"{"ok":1}"#));
    assert_eq!(scribe.told(), [r#"-t1 {"ok":0}"#, r#"+t1 {"ok":1}"#]);
    bench.message(binder, &bind("{}"));
    let error = r#"{"code":"trigger_registration_failed","message":"api_path is required for http triggers"}"#;
    assert_eq!(bench.sent(binder)[0]["error"], json(error));
    assert_eq!(scribe.told(), [r#"-t1 {"ok":1}"#]);
    assert_no_bindings(&bench.control.triggers);
    bench.message(binder, &bind(r#"{"ok":2}"#));
    bench.leave(binder);
    assert_eq!(scribe.told(), [r#"+t1 {"ok":2}"#, r#"-t1 {"ok":2}"#]);
}

// PROTO-100: no worker can take a type from the engine, but it may have its own in its own namespace.
#[test]
fn built_in_types_cannot_be_taken() {
    let mut bench = Bench::new();
    let scribe = Scribe::default();
    scribe.provide(&mut bench.control, "http");
    let thief = bench.connect(1);
    bench.announce(thief, r#"{"name":"thief","namespace":"own"}"#);
    let bind = r#"{"type":"registertrigger","id":"t1","trigger_type":"http","function_id":"f","config":"ok"}"#;
    bench.message(thief, bind);
    let offer = r#"{"type":"registertriggertype","id":"http","description":"","namespace":"default"}"#;
    bench.message(thief, offer);
    assert!(bench.sent(thief).is_empty());
    bench.message(thief, r#"{"type":"registertriggertype","id":"http","description":""}"#);
    assert_eq!(bench.sent(thief).len(), 1);
    bench.message(thief, r#"{"type":"unregistertriggertype","id":"http"}"#);
    assert_eq!(scribe.told(), [r#"+t1 "ok""#, r#"-t1 "ok""#, r#"+t1 "ok""#]);
}

// PROTO-110
#[test]
fn services_are_kept_and_not_answered() {
    let (mut bench, _, worker) = pair();
    bench.message(worker, r#"{"type":"registerservice","id":"math","name":"Math","parent_service_id":"p"}"#);
    bench.leave(worker);
    assert!(bench.sent(worker).is_empty());
    assert_eq!(bench.control.services.values().next().map(|service| &*service.name), Some("Math"));
}

// Ten thousand triggers, a provider that comes and goes: everybody is told once, nothing is left.
#[test]
fn many_triggers_of_one_type() {
    let (mut bench, provider, binder) = pair();
    for index in 0..10_000 {
        bench.message(
            binder,
            &format!(r#"{{"type":"registertrigger","id":"t{index}","trigger_type":"webhook","function_id":"f"}}"#),
        );
    }
    bench.message(provider, OFFER);
    assert_eq!(bench.sent(provider).len(), 10_000);
    bench.leave(binder);
    assert_eq!(bench.sent(provider).len(), 10_000);
    assert_no_bindings(&bench.control.triggers);
}
