//! `iii-state` from outside: functions, updates and triggers, with raw workers and the released SDKs.

#![allow(clippy::disallowed_methods, reason = "tests run on threads of their own and may block them")]

mod support;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use support::engine::EngineCommand;
use support::redis::Redis;
use support::sdk::{SDKS, SdkWorker};
use support::{Engine, RawWorker, SILENCE, Value, each_shard_count, error_code, eventually, json};

/// The whole answer, to tell a null result from none.
fn answer(worker: &mut RawWorker, function_id: &str, data: Value) -> Value {
    let id = worker.invoke(function_id, data);
    worker.take("the answer", |frame| frame["type"] == "invocationresult" && frame["invocation_id"] == id.as_str())
}

fn name(scope: &str, key: &str) -> Value {
    json!({"scope": scope, "key": key})
}

fn set(scope: &str, key: &str, value: &Value) -> Value {
    json!({"scope": scope, "key": key, "value": value})
}

/// Registers a trigger and waits until the engine lists it.
fn bind(worker: &mut RawWorker, id: &str, function_id: &str, config: &Value) {
    worker.send(json!({
        "type": "registertrigger", "id": id, "trigger_type": "state", "function_id": function_id,
        "config": config, "metadata": {"m": 1},
    }));
    wait_for_triggers(worker, function_id, 1);
}

/// Waits until so many triggers of a function are listed; what is listed has been told to the shards.
fn wait_for_triggers(worker: &mut RawWorker, function_id: &str, count: usize) {
    eventually("the trigger is listed", || {
        let listed = worker.call("engine::registered-triggers::list", json!({})).ok()?;
        let listed = listed["registered_triggers"].as_array()?.clone();
        (listed.iter().filter(|row| row["function_id"] == function_id).count() >= count).then_some(())
    });
    std::thread::sleep(SILENCE);
}

// STATE-3, STATE-4, S1 to S13
#[test]
fn the_sdks_keep_values() {
    each_shard_count(|engine| {
        for sdk in SDKS {
            let mut worker = sdk.worker(engine, &sdk.label());
            let scope = sdk.label();
            let mut check = |function: &str, data: Value, expected: Value| {
                assert_eq!(worker.call(function, data.clone()), Ok(expected), "{} {function} {data}", scope);
            };
            let at = |key: &str| name(&scope, key);
            check("state::get", at("k"), Value::Null);
            check("state::set", set(&scope, "k", &json!({"n": 1})), json!({"old_value": null, "new_value": {"n": 1}}));
            check(
                "state::set",
                set(&scope, "k", &json!({"n": 2})),
                json!({"old_value": {"n": 1}, "new_value": {"n": 2}}),
            );
            check("state::get", at("k"), json!({"n": 2}));
            check("state::set", set(&scope, "null", &Value::Null), json!({"old_value": null, "new_value": null}));
            let ops = json!([
                {"type": "increment", "path": "n", "by": 3},
                {"type": "append", "path": ["log", "x"], "value": "s"},
            ]);
            let update = json!({"scope": scope, "key": "k", "ops": ops});
            let expected = json!({"old_value": {"n": 2}, "new_value": {"n": 5, "log": {"x": ["s"]}}});
            check("state::update", update, expected);
            check("state::list", json!({"scope": scope}), json!([{"n": 5, "log": {"x": ["s"]}}, null]));
            check("state::delete", at("k"), json!({"n": 5, "log": {"x": ["s"]}}));
            check("state::delete", at("k"), Value::Null);
            let groups = worker.call("state::list_groups", json!({})).expect("the groups");
            assert!(groups["groups"].as_array().is_some_and(|groups| groups.contains(&json!(scope))), "{groups}");
            // S18: Python leaves a payload of None out of the frame.
            assert_eq!(worker.call("state::list_groups", Value::Null), Ok(groups));
            worker.call_void("state::set", set(&scope, "void", &json!(14)));
            assert_eq!(worker.call("state::get", name(&scope, "void")), Ok(json!(14)));
            let failed = worker.call("state::set", name(&scope, "k"));
            assert_eq!(error_code(&failed), "deserialization_error");
            assert!(failed.unwrap_err()["message"].to_string().contains("missing field `value`"));
        }
    });
}

// STATE-13, STATE-3, STATE-26
#[test]
fn nothing_and_null_are_told_apart() {
    each_shard_count(|engine| {
        let mut worker = RawWorker::named(engine, "raw");
        assert_eq!(answer(&mut worker, "state::get", name("s", "k")).get("result"), None);
        assert_eq!(answer(&mut worker, "state::delete", name("s", "k")).get("result"), None);
        worker.call("state::set", set("s", "k", &Value::Null)).expect("it is set");
        assert_eq!(answer(&mut worker, "state::get", name("s", "k")).get("result"), Some(&Value::Null));
        assert_eq!(answer(&mut worker, "state::delete", name("s", "k")).get("result"), Some(&Value::Null));
        assert_eq!(worker.call("state::list_groups", Value::Null), Ok(json!({"groups": []})));
        for unknown in ["state::getGroup", "state::clear"] {
            assert_eq!(error_code(&worker.call(unknown, json!({}))), "function_not_found");
        }
        assert_eq!(worker.call("iii-state::on-config-change", json!({})), Ok(json!({"ok": true})));
    });
}

// STATE-1, STATE-27
#[test]
fn discovery_shows_the_worker() {
    each_shard_count(|engine| {
        let mut worker = RawWorker::named(engine, "raw");
        let listed = worker.call("engine::functions::list", json!({"prefix": "state::"})).expect("the list");
        let mut ids: Vec<_> =
            listed["functions"].as_array().expect("rows").iter().map(|row| row["function_id"].clone()).collect();
        ids.sort_by_key(Value::to_string);
        let expected =
            ["state::delete", "state::get", "state::list", "state::list_groups", "state::set", "state::update"];
        assert_eq!(ids, expected.map(Value::from));
    });
}

// STATE-DB-1, decision 16: what one connection sends about one key is done in that order, whatever the scope's shard.
#[test]
fn calls_of_one_connection_are_applied_in_order() {
    each_shard_count(|engine| {
        let mut worker = RawWorker::named(engine, "raw");
        for scope in 0..8 {
            let scope = format!("scope {scope}");
            for n in 0..500 {
                let data = set(&scope, "k", &json!(n));
                worker.queue(&json!({"type": "invokefunction", "function_id": "state::set", "data": data}));
            }
            worker.flush();
            assert_eq!(worker.call("state::get", name(&scope, "k")), Ok(json!(499)));
        }
    });
}

// STATE-30: no update of two writers is lost.
#[test]
fn increments_of_two_writers_add_up() {
    const EACH: i64 = 2_000;
    each_shard_count(|engine| {
        let ops = json!([{"type": "increment", "path": "n", "by": 1}]);
        std::thread::scope(|threads| {
            for writer in 0..2 {
                let ops = &ops;
                let port = engine.port;
                threads.spawn(move || {
                    let mut worker = RawWorker::connect_to(port, "/");
                    worker.announce(json!({"name": format!("writer {writer}")}));
                    let data = json!({"scope": "s", "key": "k", "ops": ops});
                    let calls: Vec<String> = (0..EACH).map(|_| worker.invoke("state::update", data.clone())).collect();
                    for call in calls {
                        worker.result(&call).expect("the update works");
                    }
                });
            }
        });
        let mut reader = RawWorker::named(engine, "reader");
        assert_eq!(reader.call("state::get", name("s", "k")), Ok(json!({"n": 2 * EACH})));
    });
}

// STATE-24, STATE-DB-9: scopes live on all shards; a scope is listed in order, and named as long as it has a key.
#[test]
fn scopes_are_listed() {
    each_shard_count(|engine| {
        let mut worker = RawWorker::named(engine, "raw");
        let mut scopes: Vec<String> = (0..20).map(|n| format!("scope-{n}")).collect();
        scopes.push("é".to_owned());
        scopes.push(String::new());
        for scope in &scopes {
            for key in ["c", "a", "b"] {
                worker.call("state::set", set(scope, key, &json!(key))).expect("it is set");
            }
            worker.call("state::set", set(scope, "a", &json!("a2"))).expect("it is set");
        }
        for scope in &scopes {
            assert_eq!(worker.call("state::list", json!({"scope": scope})), Ok(json!(["c", "a2", "b"])));
        }
        for key in ["c", "a", "b"] {
            worker.call("state::delete", name("é", key)).expect("it is deleted");
        }
        scopes.retain(|scope| scope != "é");
        scopes.sort();
        assert_eq!(worker.call("state::list_groups", json!({})), Ok(json!({"groups": scopes})));
    });
}

// STATE-41 to STATE-43, STATE-46, STATE-48
#[test]
fn changes_fire_the_triggers_they_concern() {
    each_shard_count(|engine| {
        let mut worker = RawWorker::serving(engine, "listener", &["x::hook", "x::other"]);
        bind(&mut worker, "t1", "x::hook", &json!({"scope": "carts"}));
        bind(&mut worker, "t2", "x::other", &json!({"scope": "carts", "key": "nobody's"}));
        let mut writer = RawWorker::named(engine, "writer");
        for (function, data) in [
            ("state::set", set("carts", "c-17", &Value::Null)),
            ("state::set", set("carts", "c-17", &json!({"n": 1}))),
            ("state::set", set("elsewhere", "c-17", &json!({"n": 1}))),
            ("state::delete", name("carts", "c-17")),
            ("state::delete", name("carts", "c-17")),
        ] {
            writer.call(function, data).expect("it works");
        }
        let event = |kind: &str, old: Value, new: Value| {
            let event_type = format!("state:{kind}");
            json!({"type": "state", "event_type": event_type, "scope": "carts", "key": "c-17", "old_value": old, "new_value": new})
        };
        for expected in [
            event("created", Value::Null, Value::Null),
            event("updated", Value::Null, json!({"n": 1})),
            event("deleted", json!({"n": 1}), Value::Null),
            event("deleted", Value::Null, Value::Null),
        ] {
            let call = worker.expect("invokefunction");
            assert_eq!(
                (&call["function_id"], &call["data"], &call["metadata"]["m"]),
                (&json!("x::hook"), &expected, &json!(1))
            );
            worker.answer(&call, Value::Null);
        }
        worker.send(json!({"type": "unregistertrigger", "id": "t1", "trigger_type": "state"}));
        worker.round_trip();
        std::thread::sleep(SILENCE);
        writer.call("state::set", set("carts", "c-17", &json!(1))).expect("it works");
        worker.expect_silence();
    });
}

// STATE-DB-2: events of one key come in the order of the commits, however fast they follow each other.
#[test]
fn events_of_a_key_stay_in_order() {
    each_shard_count(|engine| {
        let mut worker = RawWorker::serving(engine, "listener", &["x::hook"]);
        bind(&mut worker, "t1", "x::hook", &json!({"scope": "s"}));
        let mut writer = RawWorker::named(engine, "writer");
        for n in 0..1000 {
            writer.queue(
                &json!({"type": "invokefunction", "function_id": "state::set", "data": set("s", "k", &json!(n))}),
            );
        }
        writer.flush();
        for n in 0..1000 {
            let call = worker.expect("invokefunction");
            assert_eq!(call["data"]["new_value"], n);
            worker.answer(&call, Value::Null);
        }
    });
}

// STATE-44, S22
#[test]
fn conditions_decide() {
    each_shard_count(|engine| {
        let mut worker = RawWorker::serving(engine, "listener", &["x::hook", "x::condition"]);
        bind(&mut worker, "t1", "x::hook", &json!({"scope": "s", "condition_function_id": "x::condition"}));
        let mut writer = RawWorker::named(engine, "writer");
        for (verdict, runs) in
            [(json!(false), false), (Value::Null, true), (json!("no"), true), (json!({"error": 1}), false)]
        {
            writer.call("state::set", set("s", "k", &verdict)).expect("the writer does not wait");
            let asked = worker.expect("invokefunction");
            assert_eq!((&asked["function_id"], &asked["data"]["new_value"]), (&json!("x::condition"), &verdict));
            if verdict.is_object() {
                worker.fail(&asked, json!({"code": "broken", "message": "on purpose"}));
            } else {
                worker.answer(&asked, verdict.clone());
            }
            if runs {
                let call = worker.expect("invokefunction");
                assert_eq!((&call["function_id"], &call["data"]["new_value"]), (&json!("x::hook"), &verdict));
                worker.answer(&call, Value::Null);
            } else {
                worker.expect_silence();
            }
        }
        engine.wait_for_log("x::condition failed");
    });
}

// STATE-40, S23
#[test]
fn configurations_that_make_no_sense_are_refused() {
    each_shard_count(|engine| {
        let mut worker = RawWorker::serving(engine, "listener", &["x::hook"]);
        for (config, detail) in [
            (json!({"scope": 5}), "invalid type: integer `5`, expected a string"),
            (Value::Null, "invalid type: null, expected struct StateTriggerConfig"),
        ] {
            worker.send(json!({
                "type": "registertrigger", "id": "t", "trigger_type": "state", "function_id": "x::hook", "config": config,
            }));
            let refused = worker.expect("triggerregistrationresult");
            let message = format!("Failed to parse trigger config: {detail}");
            assert_eq!(refused["error"], json!({"code": "trigger_registration_failed", "message": message}));
        }
    });
}

fn handled(worker: &mut SdkWorker) -> (Value, Value, Value) {
    let mut event = worker.handled("event");
    (event["event_type"].take(), event["old_value"].take(), event["new_value"].take())
}

// S15, S16, S17
#[test]
fn the_sdks_hear_of_changes() {
    each_shard_count(|engine| {
        let mut probe = RawWorker::named(engine, "probe");
        for sdk in SDKS {
            let mut worker = sdk.worker(engine, &sdk.label());
            let (scope, hook) = (sdk.label(), format!("{}::event", sdk.label()));
            let bound = worker.bind("state", &hook, json!({"scope": scope}));
            wait_for_triggers(&mut probe, &hook, 1);
            worker.call("state::set", set(&scope, "k", &json!(1))).expect("it is set");
            assert_eq!(handled(&mut worker), (json!("state:created"), Value::Null, json!(1)));
            worker.call("state::set", set(&scope, "k", &json!(2))).expect("it is set");
            assert_eq!(handled(&mut worker), (json!("state:updated"), json!(1), json!(2)));
            worker.call("state::delete", name(&scope, "k")).expect("it is deleted");
            assert_eq!(handled(&mut worker), (json!("state:deleted"), json!(2), Value::Null));
            worker.unbind(bound);
            std::thread::sleep(SILENCE);
            worker.call("state::set", set(&scope, "k", &json!("unheard"))).expect("it is set");
            worker.bind("state", &hook, json!({"scope": scope}));
            wait_for_triggers(&mut probe, &hook, 1);
            worker.call("state::set", set(&scope, "k", &json!("heard"))).expect("it is set");
            assert_eq!(handled(&mut worker), (json!("state:updated"), json!("unheard"), json!("heard")));
        }
    });
}

/// A directory of its own for each use, that outlives the engines of a test.
fn fresh_directory(name: &str) -> PathBuf {
    static USED: AtomicU32 = AtomicU32::new(0);
    let number = USED.fetch_add(1, Ordering::Relaxed);
    let directory = format!("state-{name}-{}-{number}", std::process::id());
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(directory);
    let _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir_all(&directory).expect("the target directory is writable");
    directory
}

/// An engine that runs nothing but state, with this adapter.
fn with_adapter(shards: u32, adapter: &str) -> EngineCommand {
    let config = "workers:
  - name: iii-worker-manager
    config: {port: {port}, host: 127.0.0.1}
  - name: iii-state
    config:
      adapter: ";
    Engine::command(shards).config(&format!("{config}{adapter}\n"))
}

/// An engine with durable state in a directory.
fn durable(shards: u32, directory: &Path) -> Engine {
    let path = directory.display();
    with_adapter(shards, &format!("{{name: kv, config: {{store_method: file_based, file_path: '{path}'}}}}")).start()
}

// STATE-DB-3, STATE-24, STATE-74: what has been answered is there after a restart, polite or not.
#[test]
fn values_outlive_the_engine() {
    for shards in support::SHARD_COUNTS {
        let directory = fresh_directory("outlive");
        let mut engine = durable(shards, &directory);
        let long = "x".repeat(400);
        for (round, stop) in
            [Engine::kill as fn(&mut Engine), |engine| assert!(engine.terminate().success())].iter().enumerate()
        {
            let mut worker = RawWorker::named(&engine, "raw");
            for scope in ["", "s", "é/ü", &long] {
                for key in ["c", "a", "b"] {
                    worker
                        .call("state::set", set(scope, key, &json!({"round": round, "key": key})))
                        .expect("it is set");
                }
                worker.call("state::delete", name(scope, "c")).expect("it is deleted");
            }
            drop(worker);
            stop(&mut engine);
            engine.start_again();
            let mut worker = RawWorker::named(&engine, "raw");
            let expected = json!([{"round": round, "key": "a"}, {"round": round, "key": "b"}]);
            for scope in ["", "s", "é/ü", &long] {
                assert_eq!(worker.call("state::list", json!({"scope": scope})), Ok(expected.clone()), "{scope}");
            }
            assert_eq!(worker.call("state::list_groups", json!({})), Ok(json!({"groups": ["", "s", long, "é/ü"]})));
        }
    }
}

// T12: killed under load, every answered write is there.
#[test]
fn answered_writes_survive_a_kill() {
    for shards in support::SHARD_COUNTS {
        let directory = fresh_directory("kill");
        let mut engine = durable(shards, &directory);
        for round in 0..5 {
            let mut worker = RawWorker::named(&engine, "raw");
            // Updates of a few keys, pipelined; answers come in the order of the calls of one scope.
            let mut answered = [0i64; 4];
            let mut calls = std::collections::VecDeque::new();
            for n in 0..400 {
                let scope = format!("scope {}", n % 4);
                let ops = json!([{"type": "increment", "path": "n", "by": 1}]);
                calls.push_back((
                    n % 4,
                    worker.invoke("state::update", json!({"scope": scope, "key": "k", "ops": ops})),
                ));
                if n >= 200 {
                    let (scope, call) = calls.pop_front().expect("calls are under way");
                    answered[scope] =
                        worker.result(&call).expect("it is updated")["new_value"]["n"].as_i64().expect("a number");
                }
            }
            engine.kill();
            engine.start_again();
            let mut worker = RawWorker::named(&engine, "raw");
            for (scope, answered) in answered.iter().enumerate() {
                let kept = worker.call("state::get", name(&format!("scope {scope}"), "k")).expect("it is there");
                let kept = kept["n"].as_i64().expect("a number");
                assert!(kept >= *answered, "round {round}: {answered} were answered, {kept} are there");
            }
        }
    }
}

// STATE-72, STATE-74, STATE-DB-14: what the engine that was here before has left is taken over, once.
#[test]
fn files_of_the_reference_are_imported() {
    for shards in support::SHARD_COUNTS {
        let directory = fresh_directory("import");
        // A short text stands in place, padded; a longer one before its length and offset.
        let short = b"{\"a\":1}\xff".to_vec();
        let mut long = br#"{"z":{"n":1.50},"a":[1,2,3]}"#.to_vec();
        assert_eq!(long.len(), 28);
        long.extend_from_slice(&[0x80 | 28, 0, 0, 0]);
        long.extend_from_slice(&(-28i32).to_le_bytes());
        for (name, content) in
            [("short.bin", &short), ("a%2Fb.bin", &long), (".bin", &short), ("stream%3As.bin", &short)]
        {
            std::fs::write(directory.join(name), content).expect("the directory is writable");
        }
        let mut engine = durable(shards, &directory);
        let mut worker = RawWorker::named(&engine, "raw");
        assert_eq!(worker.call("state::list_groups", json!({})), Ok(json!({"groups": ["", "a/b", "short"]})));
        assert_eq!(worker.call("state::list", json!({"scope": "a/b"})), Ok(json!([{"n": 1.5}, [1, 2, 3]])));
        worker.call("state::delete", name("a/b", "z")).expect("it is deleted");
        assert_eq!(engine.terminate().code(), Some(0));
        engine.start_again();
        let mut worker = RawWorker::named(&engine, "raw");
        assert_eq!(worker.call("state::list", json!({"scope": "a/b"})), Ok(json!([[1, 2, 3]])), "imported once");
        assert_eq!(std::fs::read(directory.join("a%2Fb.bin")).expect("it is left alone"), long);
    }
}

// STATE-80, STATE-83, STATE-84, STATE-DB-5: the layout others share, and documents nobody bends.
#[test]
fn redis_keeps_values_as_they_are() {
    for shards in support::SHARD_COUNTS {
        let redis = Redis::start();
        let adapter = format!("{{name: redis, config: {{redis_url: '{}'}}}}", redis.url());
        let engine = with_adapter(shards, &adapter).start();
        let other = with_adapter(shards, &adapter).start();
        let mut worker = RawWorker::serving(&engine, "raw", &["x::hook"]);
        bind(&mut worker, "t1", "x::hook", &json!({"scope": "events"}));
        assert_eq!(answer(&mut worker, "state::get", name("s", "k")).get("result"), None);
        let value = json!({"empty": [], "big": 9007199254740993u64, "f": 1.0});
        let expected = json!({"old_value": null, "new_value": value});
        assert_eq!(worker.call("state::set", set("s", "k", &value)), Ok(expected));
        let stored = redis.command(&["HGET", "state:s", "k"]);
        assert_eq!(serde_json::from_str::<Value>(&stored).expect("JSON"), value);
        assert!(!stored.contains(' '), "{stored}");
        let ops = json!([{"type": "increment", "path": "big", "by": 1}]);
        let updated =
            worker.call("state::update", json!({"scope": "s", "key": "k", "ops": ops})).expect("it is updated");
        assert_eq!(updated["new_value"], json!({"empty": [], "big": 9007199254740994u64, "f": 1.0}));
        let ops = json!([{"type": "increment", "path": "", "by": 3}]);
        let updated =
            worker.call("state::update", json!({"scope": "s", "key": "n", "ops": ops})).expect("it is updated");
        assert_eq!(updated, json!({"old_value": null, "new_value": 3}));
        let mut neighbour = RawWorker::named(&other, "neighbour");
        assert_eq!(neighbour.call("state::get", name("s", "n")), Ok(json!(3)));
        assert_eq!(neighbour.call("state::list_groups", json!({})), Ok(json!({"groups": ["s"]})));
        // Events come in order, also when updates and sets of a key are sent without waiting.
        for n in 0..50 {
            worker.queue(
                &json!({"type": "invokefunction", "function_id": "state::set", "data": set("events", "k", &json!(n))}),
            );
        }
        worker.flush();
        assert_eq!(worker.call("state::list", json!({"scope": "events"})), Ok(json!([49])));
        for n in 0..50 {
            let call = worker.take("an event", |frame| frame["type"] == "invokefunction");
            let kind = if n == 0 { "state:created" } else { "state:updated" };
            assert_eq!((&call["data"]["new_value"], &call["data"]["event_type"]), (&json!(n), &json!(kind)));
            worker.answer(&call, Value::Null);
        }
        assert_eq!(answer(&mut worker, "state::delete", name("s", "n")).get("result"), Some(&json!(3)));
        assert_eq!(answer(&mut worker, "state::delete", name("s", "n")).get("result"), None);
    }
}

// STATE-83, STATE-DB-5: two engines, one key, no update lost.
#[test]
fn redis_loses_no_update_of_two_engines() {
    const EACH: i64 = 200;
    let redis = Redis::start();
    let adapter = format!("{{name: redis, config: {{redis_url: '{}'}}}}", redis.url());
    let engines = [with_adapter(1, &adapter).start(), with_adapter(4, &adapter).start()];
    std::thread::scope(|threads| {
        for engine in &engines {
            let port = engine.port;
            threads.spawn(move || {
                let mut worker = RawWorker::connect_to(port, "/");
                worker.announce(json!({"name": "writer"}));
                let ops = json!([{"type": "increment", "path": "n", "by": 1}]);
                let data = json!({"scope": "s", "key": "k", "ops": ops});
                let calls: Vec<String> = (0..EACH).map(|_| worker.invoke("state::update", data.clone())).collect();
                for call in calls {
                    worker.result(&call).expect("the update works");
                }
            });
        }
    });
    let mut reader = RawWorker::named(&engines[0], "reader");
    assert_eq!(reader.call("state::get", name("s", "k")), Ok(json!({"n": 2 * EACH})));
}

// STATE-82: calls fail while Redis is away, and work when it is back.
#[test]
fn redis_may_go_and_come_back() {
    let mut redis = Redis::start();
    let adapter = format!("{{name: redis, config: {{redis_url: '{}'}}}}", redis.url());
    let engine = with_adapter(1, &adapter).start();
    let mut worker = RawWorker::named(&engine, "raw");
    worker.call("state::set", set("s", "k", &json!(1))).expect("it is set");
    redis.kill();
    assert_eq!(error_code(&worker.call("state::set", set("s", "k", &json!(2)))), "SET_ERROR");
    assert_eq!(error_code(&worker.call("state::get", name("s", "k"))), "GET_ERROR");
    redis.start_again();
    eventually("Redis is used again", || worker.call("state::set", set("s", "k", &json!(3))).ok());
}

// STATE-81
#[test]
fn an_engine_without_its_redis_does_not_start() {
    let lease = support::ports::lease();
    let adapter = format!("{{name: redis, config: {{redis_url: 'redis://127.0.0.1:{}'}}}}", lease.port);
    let ended = with_adapter(1, &adapter).try_start().expect_err("there is no Redis");
    assert_eq!(ended.status.code(), Some(1));
    let text = format!(
        "Redis connection timed out after 5s. Please ensure Redis is running at: redis://127.0.0.1:{}",
        lease.port
    );
    assert!(ended.output.contains(&text), "{}", ended.output);
}
