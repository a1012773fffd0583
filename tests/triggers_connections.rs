//! Trigger types and triggers between real connections, on one shard and on several.

#![allow(clippy::disallowed_methods, reason = "tests run on threads of their own and may block them")]

mod support;

use std::time::Duration;

use support::{Engine, RawWorker, Value, each_shard_count, eventually, json};

fn offer(worker: &mut RawWorker, id: &str) {
    worker.send(json!({"type": "registertriggertype", "id": id, "description": "A test type"}));
}

fn bind(worker: &mut RawWorker, id: &str, trigger_type: &str, function_id: &str, config: Value) {
    worker.send(json!({
        "type": "registertrigger", "id": id, "trigger_type": trigger_type, "function_id": function_id,
        "config": config, "metadata": {"m": 1},
    }));
}

/// Registrations of one connection are known to control once a call sent after them is answered.
fn sync(worker: &mut RawWorker) {
    worker.call("engine::functions::list", json!({"prefix": "nothing"})).expect("the list");
}

// PROTO-90, PROTO-93, PROTO-97, PROTO-98: bind, fire, refuse, unbind.
#[test]
fn a_provider_hears_of_triggers_and_fires_them() {
    each_shard_count(|engine| {
        let mut provider = RawWorker::named(engine, "provider");
        offer(&mut provider, "webhook");
        sync(&mut provider);
        let mut binder = RawWorker::serving(engine, "binder", &["x::hook"]);
        bind(&mut binder, "t1", "webhook", "x::hook", json!({"u": 1}));
        let told = provider.expect("registertrigger");
        let expected = json!({
            "type": "registertrigger", "id": "t1", "trigger_type": "webhook", "function_id": "x::hook",
            "config": {"u": 1}, "metadata": {"m": 1},
        });
        assert_eq!(told, expected);
        provider.send(json!({
            "type": "triggerregistrationresult", "id": "t1", "trigger_type": "webhook", "function_id": "x::hook",
        }));
        let call = provider.invoke("x::hook", json!({"body": 1}));
        let delivery = binder.expect("invokefunction");
        binder.answer(&delivery, json!("done"));
        assert_eq!(provider.result(&call), Ok(json!("done")));
        bind(&mut binder, "t2", "webhook", "x::hook", json!({"reject": true}));
        provider.expect("registertrigger");
        let error = json!({"code": "trigger_registration_failed", "message": "config rejected"});
        provider.send(json!({
            "type": "triggerregistrationresult", "id": "t2", "trigger_type": "webhook", "function_id": "x::hook",
            "error": error,
        }));
        assert_eq!(binder.expect("triggerregistrationresult")["error"], error);
        binder.send(json!({"type": "unregistertrigger", "id": "t1", "trigger_type": "webhook"}));
        let ended = provider.expect("unregistertrigger");
        assert_eq!(ended, json!({"type": "unregistertrigger", "id": "t1", "trigger_type": "webhook"}));
    });
}

// PROTO-94, PROTO-103, PROTO-104: the provider comes later, leaves, comes back; the binder leaves.
#[test]
fn triggers_wait_and_leave_with_their_owner() {
    each_shard_count(|engine| {
        let mut binder = RawWorker::serving(engine, "binder", &["x::hook"]);
        bind(&mut binder, "t1", "late", "x::hook", json!(null));
        sync(&mut binder);
        for _ in 0..2 {
            let mut provider = RawWorker::named(engine, "provider");
            offer(&mut provider, "late");
            assert_eq!(provider.expect("registertrigger")["id"], "t1");
        }
        let mut provider = RawWorker::named(engine, "provider");
        offer(&mut provider, "late");
        assert_eq!(provider.expect("registertrigger")["id"], "t1");
        drop(binder);
        assert_eq!(provider.expect("unregistertrigger")["id"], "t1");
    });
}

// ENG-47, ENG-48, PROTO-102
#[test]
fn triggers_made_by_call_outlive_their_caller() {
    each_shard_count(|engine| {
        let mut provider = RawWorker::named(engine, "provider");
        offer(&mut provider, "webhook");
        sync(&mut provider);
        let mut caller = RawWorker::named(engine, "caller");
        let call = caller.invoke("engine::register_trigger", json!({"trigger_type": "webhook", "function_id": "f"}));
        let told = provider.expect("registertrigger");
        provider.send(json!({
            "type": "triggerregistrationresult", "id": told["id"], "trigger_type": "webhook", "function_id": "f",
        }));
        assert_eq!(caller.result(&call), Ok(json!({"id": told["id"]})));
        drop(caller);
        let removed = provider.call("engine::unregister_trigger", json!({"id": told["id"]}));
        assert_eq!(removed, Ok(json!({"removed": true})));
        assert_eq!(provider.expect("unregistertrigger")["id"], told["id"]);
    });
}

// ENG-44, PROTO-85: a worker sees its own announcement, then others come and go, in order.
#[test]
fn workers_are_seen_to_come_and_go() {
    each_shard_count(|engine| {
        let mut watcher = RawWorker::connect(engine);
        watcher.register("on::workers");
        bind(&mut watcher, "t", "engine::workers-available", "on::workers", json!({}));
        watcher.announce(json!({"runtime": "node", "version": "0.22.1", "name": "watcher"}));
        let event = |watcher: &mut RawWorker| {
            let delivery = watcher.expect("invokefunction");
            assert_eq!((&delivery["function_id"], &delivery["metadata"]), (&json!("on::workers"), &json!({"m": 1})));
            delivery["data"].clone()
        };
        let own = event(&mut watcher);
        assert_eq!((&own["event"], &own["worker_id"]), (&json!("worker_metadata_updated"), &json!(watcher.id)));
        for _ in 0..20 {
            let other = RawWorker::named(engine, "other");
            let id = json!(other.id);
            drop(other);
            for expected in ["worker_connected", "worker_metadata_updated", "worker_disconnected"] {
                let seen = event(&mut watcher);
                assert_eq!((&seen["event"], &seen["worker_id"]), (&json!(expected), &id));
                assert!(seen.get("_caller_worker_id").is_none(), "PROTO-86");
            }
        }
    });
}

// ENG-45: a change is told within a second, a burst of changes once or twice.
#[test]
fn function_changes_are_told_together() {
    each_shard_count(|engine| {
        let mut watcher = RawWorker::serving(engine, "watcher", &["on::functions"]);
        std::thread::sleep(Duration::from_millis(300));
        bind(&mut watcher, "t", "engine::functions-available", "on::functions", json!({}));
        sync(&mut watcher);
        let mut other = RawWorker::named(engine, "other");
        for index in 0..500 {
            other.register(&format!("many::{index}"));
        }
        let mut events = 0;
        eventually("all functions are told", || {
            let delivery = watcher.expect("invokefunction");
            events += 1;
            let rows = delivery["data"]["functions"].as_array().expect("functions is an array");
            let many = rows.iter().filter(|row| row["function_id"].as_str().is_some_and(|id| id.starts_with("many::")));
            (many.count() == 500).then_some(())
        });
        assert!(events <= 2, "{events} events for one burst");
    });
}

// PROTO-92, PROTO-100: types of the engine cannot be taken by a worker.
#[test]
fn types_of_the_engine_stay_its_own() {
    let engine = Engine::start(1);
    let mut thief = RawWorker::serving(&engine, "thief", &["on::workers"]);
    offer(&mut thief, "engine::workers-available");
    bind(&mut thief, "t", "engine::workers-available", "on::workers", json!({}));
    let _other = RawWorker::connect(&engine);
    assert_eq!(thief.expect("invokefunction")["data"]["event"], "worker_connected");
    let info = thief.call("engine::triggers::info", json!({"id": "engine::workers-available"})).expect("the type");
    assert_eq!((&info["worker_name"], &info["instance_count"]), (&json!("engine"), &json!(1)));
}
