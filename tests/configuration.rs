//! `configuration` from outside: entries, files, triggers (CONF rules).

#![allow(clippy::disallowed_methods, reason = "tests run on threads of their own and may block them")]

mod support;

use std::path::PathBuf;
use std::time::Duration;

use support::sdk::SDKS;
use support::{Engine, RawWorker, SHARD_COUNTS, Value, each_shard_count, error_code, eventually, json};

/// Where the engine keeps its entries unless told otherwise.
fn directory(engine: &Engine) -> PathBuf {
    engine.config_file().with_file_name("config")
}

fn entry(id: &str) -> Value {
    let schema = json!({"type": "object", "properties": {"port": {"type": "integer"}}, "additionalProperties": false});
    json!({"id": id, "name": "A", "description": "d", "schema": schema, "initial_value": {"port": "${NOPE_PORT:4242}"}})
}

fn watch(worker: &mut RawWorker, config: Value) {
    worker.send(json!({
        "type": "registertrigger", "id": "t", "trigger_type": "configuration", "function_id": "w::changed", "config": config,
    }));
    worker.call("engine::functions::list", json!({"prefix": "nothing"})).expect("the list");
    std::thread::sleep(Duration::from_millis(50));
}

fn told(worker: &mut RawWorker) -> (String, Value) {
    let delivery = worker.take("an event", |frame| frame["function_id"] == "w::changed");
    let event = &delivery["data"];
    assert_eq!(event["type"], "configuration");
    (event["event_type"].as_str().unwrap_or_default().to_owned(), event["new_value"].clone())
}

// CONF section 3, C1 to C8, with the released SDKs
#[test]
fn entries() {
    each_shard_count(|engine| {
        for sdk in SDKS {
            let mut worker = sdk.worker(engine, &sdk.label());
            let id = sdk.label().replace('.', "-");
            let registered = worker.call("configuration::register", entry(&id)).expect("register");
            assert_eq!(registered["value"], json!({"port": "${NOPE_PORT:4242}"}));
            let get = |raw| json!({"id": id, "raw": raw});
            assert_eq!(worker.call("configuration::get", get(false)), Ok(json!({"id": id, "value": {"port": 4242}})));
            assert_eq!(
                worker.call("configuration::get", get(true)),
                Ok(json!({"id": id, "value": {"port": "${NOPE_PORT:4242}"}}))
            );
            let failed = worker.call("configuration::set", json!({"id": id, "value": {"port": "x"}}));
            assert_eq!(error_code(&failed), "SCHEMA_INVALID");
            let stored = worker.call("configuration::set", json!({"id": id, "value": {"port": 1}}));
            assert_eq!(stored, Ok(json!({"old_value": {"port": "${NOPE_PORT:4242}"}, "new_value": {"port": 1}})));
            for (function, data, code) in [
                ("set", json!({"id": "none", "value": 1}), "NOT_REGISTERED"),
                ("get", json!({"id": "none"}), "NOT_FOUND"),
                ("set", json!({"id": "a b", "value": 1}), "INVALID_ID"),
                ("set", json!({"id": id}), "deserialization_error"),
            ] {
                assert_eq!(error_code(&worker.call(&format!("configuration::{function}"), data)), code);
            }
            let schema = worker.call("configuration::schema", json!({"id": id})).expect("schema");
            assert_eq!(
                (&schema["id"], &schema["name"], &schema["description"]),
                (&json!(id), &json!("A"), &json!("d"))
            );
            assert!(schema.get("value").is_none() && schema["schema"].is_object(), "{schema}");
        }
        let mut worker = RawWorker::named(engine, "w");
        let list = worker.call("configuration::list", json!({})).expect("list");
        let ids: Vec<&str> = list["configurations"]
            .as_array()
            .expect("an array")
            .iter()
            .filter_map(|entry| entry["id"].as_str())
            .collect();
        assert!(ids.is_sorted() && ids.len() >= SDKS.len(), "{ids:?}");
        assert_eq!(worker.call("configuration::list", Value::Null).expect("STATE-26"), list);
    });
}

// CONF-50, CONF-51, CONF-DB-4
#[test]
fn entries_survive_a_restart() {
    for shards in SHARD_COUNTS {
        let mut engine = Engine::start(shards);
        let mut worker = RawWorker::named(&engine, "w");
        worker.call("configuration::register", entry("a")).expect("register");
        worker.call("configuration::set", json!({"id": "a", "value": {"port": 5}})).expect("set");
        let text = std::fs::read_to_string(directory(&engine).join("a.yaml")).expect("the file is there");
        assert!(text.contains("port: 5") && text.contains("name: A") && !text.contains("integer"), "{text}");
        drop(worker);
        engine.kill();
        engine.start_again();
        let mut worker = RawWorker::named(&engine, "w");
        assert_eq!(worker.call("configuration::get", json!({"id": "a"})), Ok(json!({"id": "a", "value": {"port": 5}})));
        let failed = worker.call("configuration::set", json!({"id": "a", "value": {"port": "x"}}));
        assert_eq!(error_code(&failed), "SCHEMA_INVALID", "the schema is remembered");
    }
}

// CONF-30 to CONF-33, CONF-54 to CONF-56, CONF-DB-2, C12, C13
#[test]
fn triggers_tell_of_changes_and_of_edited_files() {
    let engine = Engine::start(4);
    let mut worker = RawWorker::serving(&engine, "w", &["w::changed"]);
    watch(&mut worker, json!({}));
    worker.call("configuration::register", entry("a")).expect("register");
    assert_eq!(told(&mut worker), ("configuration:registered".to_owned(), json!({"port": 4242})));
    worker.call("configuration::set", json!({"id": "a", "value": {"port": 2}})).expect("set");
    assert_eq!(told(&mut worker), ("configuration:updated".to_owned(), json!({"port": 2})));
    let file = directory(&engine).join("a.yaml");
    let text = std::fs::read_to_string(&file).expect("the file is there");
    std::fs::write(&file, text.replace("port: 2", "port: 3")).expect("writable");
    assert_eq!(told(&mut worker), ("configuration:updated".to_owned(), json!({"port": 3})));
    for broken in [text.replace("port: 2", "port: x"), "{ not: yaml".to_owned()] {
        std::fs::write(&file, broken).expect("writable");
        std::thread::sleep(Duration::from_millis(1500));
        assert_eq!(worker.call("configuration::get", json!({"id": "a"})).expect("kept")["value"], json!({"port": 3}));
    }
    let dropped_in = text.replace("id: a", "id: b");
    std::fs::write(directory(&engine).join("any-name.yaml"), dropped_in).expect("writable");
    assert_eq!(told(&mut worker).0, "configuration:registered");
    let failed = worker.call("configuration::set", json!({"id": "b", "value": 1}));
    assert_eq!(error_code(&failed), "SCHEMA_UNAVAILABLE");
    std::fs::remove_file(&file).expect("it was there");
    assert_eq!(told(&mut worker), ("configuration:deleted".to_owned(), Value::Null));
    eventually("the entry is gone", || worker.call("configuration::get", json!({"id": "a"})).err());
    assert_eq!(error_code(&worker.call("configuration::clear", json!({}))), "function_not_found");
}

// CONF-30
#[test]
fn a_trigger_with_a_wrong_configuration_is_refused() {
    let engine = Engine::start(1);
    let mut worker = RawWorker::serving(&engine, "w", &["w::changed"]);
    worker.send(json!({
        "type": "registertrigger", "id": "t", "trigger_type": "configuration", "function_id": "w::changed",
        "config": {"event_types": "configuration:updated"},
    }));
    let refusal = worker.take("refusal", |frame| frame["type"] == "triggerregistrationresult");
    assert_eq!(refusal["error"]["code"], "trigger_registration_failed");
    let message = refusal["error"]["message"].to_string();
    assert!(message.contains("Failed to parse configuration trigger config: "), "{message}");
}
