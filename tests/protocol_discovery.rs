//! The listing functions that SDKs and tools need from the start, in the shapes of both generations.

mod support;

use support::{Engine, RawWorker, Value, each_shard_count, error_code, json};

const LEGACY: &str = "0.11.6";
const CURRENT: &str = "0.22.1";

/// A worker that announced this SDK version; `None` announces nothing.
fn worker(engine: &Engine, name: &str, version: Option<&str>) -> RawWorker {
    let mut worker = RawWorker::connect(engine);
    if let Some(version) = version {
        worker.announce(json!({
            "runtime": "node", "version": version, "name": name, "os": "linux 6.1 (x64)", "pid": 4711, "isolation": null,
            "telemetry": {"language": "en-US", "project_name": "p", "framework": "iii-node"},
        }));
    }
    worker
}

fn functions(worker: &mut RawWorker, input: Value) -> Vec<Value> {
    let listed = worker.call("engine::functions::list", input).expect("the list");
    listed["functions"].as_array().expect("functions is an array").clone()
}

fn ids(rows: &[Value]) -> Vec<&str> {
    rows.iter().map(|row| row["function_id"].as_str().unwrap()).collect()
}

/// Registers five functions with descriptions and metadata.
fn catalogue(engine: &Engine) -> RawWorker {
    let mut owner = worker(engine, "math-worker", Some(CURRENT));
    for (id, description) in [("math::add", "Adds"), ("math::sub", "Takes away"), ("text::add_line", "Appends")] {
        owner.send(json!({
            "type": "registerfunction", "id": id, "description": description, "metadata": {"team": "a"},
            "request_format": {"type": "object"}, "response_format": {"type": "number"},
        }));
    }
    owner.register("bare");
    owner.send(json!({"type": "registerfunction", "id": "hidden::one", "metadata": {"internal": true}}));
    owner.call("engine::functions::list", json!({})).expect("registrations before this call are done");
    owner
}

// ENG-15, ENG-6: description and metadata of a caller of the current generation are left out when there are none.
#[test]
fn rows_for_current_callers() {
    each_shard_count(|engine| {
        let _owner = catalogue(engine);
        let mut caller = worker(engine, "caller", Some(CURRENT));
        let rows = functions(&mut caller, json!({"prefix": "math::add"}));
        let expected = json!({
            "function_id": "math::add", "namespace": "default", "worker_name": "math-worker", "description": "Adds",
            "metadata": {"team": "a"},
        });
        assert_eq!(rows, [expected]);
        let bare = json!({"function_id": "bare", "namespace": "default", "worker_name": "math-worker"});
        assert_eq!(functions(&mut caller, json!({"prefix": "bare"})), [bare]);
        let with_schemas = functions(&mut caller, json!({"prefix": "math::add", "include_schemas": true}));
        assert_eq!(with_schemas[0]["request_format"], json!({"type": "object"}));
        assert_eq!(with_schemas[0]["response_format"], json!({"type": "number"}));
    });
}

// ENG-15, ENG-6: callers of the first generation, and unknown ones, find every member they know, null when empty.
#[test]
fn rows_for_legacy_and_unknown_callers() {
    each_shard_count(|engine| {
        let _owner = catalogue(engine);
        for version in [Some(LEGACY), None] {
            let mut caller = worker(engine, "caller", version);
            let rows = functions(&mut caller, json!({"prefix": "math::add"}));
            assert_eq!(rows[0]["description"], "Adds");
            assert_eq!(rows[0]["metadata"], json!({"team": "a"}));
            assert_eq!(rows[0]["request_format"], json!({"type": "object"}));
            assert_eq!(rows[0]["response_format"], json!({"type": "number"}));
            assert_eq!((&rows[0]["namespace"], &rows[0]["worker_name"]), (&json!("default"), &json!("math-worker")));
            if version.is_some() {
                let bare = &functions(&mut caller, json!({"prefix": "bare"}))[0];
                for member in ["description", "metadata", "request_format", "response_format"] {
                    assert_eq!(bare.get(member), Some(&Value::Null), "{member} in {bare}");
                }
            }
        }
    });
}

// ENG-14, ENG-16: filters, and the order of what is left.
#[test]
fn functions_are_filtered_and_ordered() {
    each_shard_count(|engine| {
        let _owner = catalogue(engine);
        let mut other = worker(engine, "other-worker", Some(CURRENT));
        other.register("zebra::add");
        let mut caller = worker(engine, "caller", Some(CURRENT));
        engine.wait_for_function("zebra::add");
        let mut list = |input: Value| {
            let rows = functions(&mut caller, input);
            ids(&rows).into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        let of_math = ["bare", "math::add", "math::sub", "text::add_line"];
        assert_eq!(list(json!({"worker": "math-worker"})), of_math);
        assert_eq!(list(json!({"workers": ["math-worker"]})), of_math);
        assert_eq!(list(json!({"worker": "other-worker", "workers": ["math-worker"], "prefix": "z"})), ["zebra::add"]);
        assert_eq!(list(json!({"workers": [], "prefix": "bare"})), ["bare"]);
        assert_eq!(list(json!({"worker": "math"})), [""; 0]);
        assert_eq!(list(json!({"prefix": "math::"})), ["math::add", "math::sub"]);
        // Rank: a segment equal to the needle, then the id containing it, then the description alone.
        assert_eq!(list(json!({"search": "ADD"})), ["math::add", "worker::add", "zebra::add", "text::add_line"]);
        assert_eq!(list(json!({"search": "takes", "worker": "math-worker"})), ["math::sub"]);
        assert_eq!(list(json!({"search": "", "worker": "other-worker"})), ["zebra::add"]);
    });
}

// ENG-10: internal functions are shown on demand only.
#[test]
fn internal_functions_are_hidden_by_default() {
    each_shard_count(|engine| {
        let _owner = catalogue(engine);
        let mut caller = worker(engine, "caller", Some(CURRENT));
        let shown = functions(&mut caller, json!({}));
        assert!(!ids(&shown).iter().any(|id| id.starts_with("engine::") || *id == "hidden::one"), "{:?}", ids(&shown));
        let all = functions(&mut caller, json!({"include_internal": true}));
        for id in ["engine::functions::list", "engine::workers::list", "engine::workers::register", "hidden::one"] {
            assert!(ids(&all).contains(&id), "{id} is missing from {:?}", ids(&all));
        }
        let built_in = all.iter().find(|row| row["function_id"] == "engine::workers::list").unwrap();
        assert_eq!(built_in["worker_name"], "iii-engine-functions");
    });
}

// ENG-11, ENG-13, ENG-16: rows per namespace; nameless workers are called after the id.
#[test]
fn owners_are_named() {
    each_shard_count(|engine| {
        let _owner = catalogue(engine);
        let mut orders = RawWorker::connect(engine);
        orders.announce(json!({"runtime": "python", "version": "0.25.0", "namespace": "orders"}));
        orders.register("math::add");
        let mut caller = worker(engine, "caller", Some(CURRENT));
        support::eventually("both namespaces list math::add", || {
            let rows = functions(&mut caller, json!({"prefix": "math::add"}));
            let owners: Vec<_> = rows.iter().map(|row| (&row["namespace"], &row["worker_name"])).collect();
            let expected = [(&json!("default"), &json!("math-worker")), (&json!("orders"), &json!("math"))];
            let mut sorted = owners.clone();
            sorted.sort_by_key(|(namespace, _)| namespace.to_string());
            (sorted == expected).then_some(())
        });
    });
}

// ENG-4: wrong input is named; an empty one is fine.
#[test]
fn input_is_checked() {
    let engine = Engine::start(1);
    let mut caller = worker(&engine, "caller", Some(CURRENT));
    for id in ["engine::functions::list", "engine::workers::list"] {
        for input in [json!("text"), json!(7), json!([]), json!({"search": 7})] {
            let outcome = caller.call(id, input.clone());
            assert_eq!(error_code(&outcome), "deserialization_error", "{id} with {input}");
            let message = outcome.unwrap_err()["message"].as_str().unwrap().to_owned();
            assert!(message.starts_with(&format!("Failed to deserialize input for {id}: ")), "{message}");
        }
        for input in [json!(null), json!({}), json!({"unknown": 1})] {
            assert!(caller.call(id, input).is_ok());
        }
    }
}

fn workers(worker: &mut RawWorker, input: Value) -> Vec<Value> {
    let listed = worker.call("engine::workers::list", input).expect("the list");
    assert!(listed["timestamp"].is_u64(), "ENG-37: {listed}");
    listed["workers"].as_array().expect("workers is an array").clone()
}

fn own_row(worker: &mut RawWorker) -> Value {
    let id = worker.id.clone();
    let mut rows = workers(worker, json!({"worker_id": id}));
    assert_eq!(rows.len(), 1, "{rows:?}");
    rows.remove(0)
}

// ENG-37, ENG-40, ENG-41: every member of both generations, in every row.
#[test]
fn a_worker_row_has_the_members_of_both_generations() {
    each_shard_count(|engine| {
        for version in [LEGACY, CURRENT] {
            let mut caller = worker(engine, "orders-worker", Some(version));
            caller.register("orders::take");
            let rows = workers(&mut caller, json!({"search": "orders-worker"}));
            assert_eq!(rows.len(), 1, "{rows:?}");
            let row = &rows[0];
            let expected = json!({
                "id": caller.id, "name": "orders-worker", "description": null, "version": version, "namespace": "default",
                "runtime": "node", "os": "linux 6.1 (x64)", "function_count": 1, "isolation": null,
                "ip_address": "127.0.0.1", "functions": ["orders::take"], "internal": false, "latest_metrics": null,
                "pid": 4711,
            });
            for (member, value) in expected.as_object().unwrap() {
                assert_eq!(row.get(member), Some(value), "{member} in {row}");
            }
            assert!(row["connected_at_ms"].is_u64());
            assert_eq!((&row["status"], &row["active_invocations"]), (&json!("available"), &json!(0)));
            caller.close();
            engine.wait_until_gone("orders::take");
        }
    });
}

// ENG-40, ENG-41: a worker executing a call is busy, and says with how many.
#[test]
fn a_working_worker_is_busy() {
    each_shard_count(|engine| {
        let mut provider = RawWorker::serving(engine, "busy-bee", &["work"]);
        let mut caller = RawWorker::named(engine, "caller");
        let calls = [caller.invoke("work", json!(1)), caller.invoke("work", json!(2))];
        let deliveries = [provider.expect("invokefunction"), provider.expect("invokefunction")];
        let mut state = |wanted: (&str, u64)| {
            support::eventually(&format!("busy-bee is {wanted:?}"), || {
                let rows = workers(&mut caller, json!({"search": "busy-bee"}));
                let row = rows.first()?;
                (row["status"] == wanted.0 && row["active_invocations"] == wanted.1).then_some(())
            });
        };
        state(("busy", 2));
        for delivery in &deliveries {
            provider.answer(delivery, json!(null));
        }
        state(("available", 0));
        for call in &calls {
            assert_eq!(caller.result(call), Ok(Value::Null));
        }
    });
}

// ENG-36, ENG-37, ENG-39: filters and order; who announced nothing is not shown.
#[test]
fn workers_are_filtered_and_ordered() {
    each_shard_count(|engine| {
        let _silent = RawWorker::connect(engine);
        let names = ["w-c", "w-a", "w-b"];
        let _workers: Vec<_> =
            names.iter().map(|name| RawWorker::serving(engine, name, &[&format!("{name}::f")])).collect();
        let mut python = RawWorker::connect(engine);
        python.announce(json!({"runtime": "python", "version": "0.11.6", "name": "w-python"}));
        python.round_trip();
        let mut caller = worker(engine, "zz-caller", Some(CURRENT));
        let mut named = |input: Value| {
            let rows = workers(&mut caller, input);
            rows.iter().map(|row| row["name"].as_str().unwrap_or("nameless").to_owned()).collect::<Vec<_>>()
        };
        support::eventually("all workers are listed", || {
            (named(json!({"search": "w-"})) == ["w-a", "w-b", "w-c", "w-python"]).then_some(())
        });
        assert_eq!(named(json!({"runtime": "python"})), ["w-python"]);
        assert_eq!(named(json!({"status": "connected", "search": "w-a"})), ["w-a"]);
        assert_eq!(named(json!({"status": "busy", "search": "w-a"})), [""; 0]);
        assert_eq!(named(json!({"worker_id": python.id})), ["w-python"]);
        assert!(!named(json!({})).contains(&"nameless".to_owned()));
    });
}

// ENG-38: the engine's own workers are listed, too.
#[test]
fn in_process_workers_are_listed() {
    let engine = Engine::start(1);
    let mut caller = worker(&engine, "caller", Some(CURRENT));
    let rows = workers(&mut caller, json!({"runtime": "engine"}));
    let row = rows.iter().find(|row| row["name"] == "iii-engine-functions").expect("iii-engine-functions is listed");
    let expected = json!({
        "id": "iii-engine-functions", "runtime": "engine", "os": null, "status": "available", "isolation": "in-process",
        "ip_address": null, "namespace": "default",
    });
    for (member, value) in expected.as_object().unwrap() {
        assert_eq!(row.get(member), Some(value), "{member} in {row}");
    }
}

// ENG-31, ENG-33, ENG-35: announcing again updates the row; what is absent is kept, or reset.
#[test]
fn announcing_again_updates_the_row() {
    each_shard_count(|engine| {
        let mut one = worker(engine, "first-name", Some(CURRENT));
        let outcome = one.call("engine::workers::register", json!({"description": "does things", "runtime": "rust"}));
        assert_eq!(outcome, Ok(json!({"success": true})));
        let row = own_row(&mut one);
        let kept = (&row["name"], &row["os"], &row["pid"], &row["description"]);
        assert_eq!(kept, (&json!("first-name"), &json!("linux 6.1 (x64)"), &json!(4711), &json!("does things")));
        assert_eq!((&row["runtime"], &row["version"]), (&json!("rust"), &Value::Null));
        one.call("engine::workers::register", json!({})).expect("an empty announcement is one");
        assert_eq!(own_row(&mut one)["runtime"], "unknown");
    });
}

// ENG-32: names are cleaned of what confuses a terminal.
#[test]
fn names_are_cleaned() {
    let engine = Engine::start(1);
    let mut one = RawWorker::connect(&engine);
    let name = format!("  evil\u{7}\u{202E}\u{2066}\u{2028} {}", "x".repeat(300));
    one.announce(json!({"name": name, "description": "does\u{7} things", "runtime": "node", "version": CURRENT}));
    let row = own_row(&mut one);
    let cleaned = row["name"].as_str().expect("a name is left");
    assert!(cleaned.starts_with("evil x") && cleaned.chars().count() <= 280, "{cleaned}");
    assert_eq!(row["description"], "does things");
}

// PROTO-42, ENG-9: discovery right behind one's own registration already knows it.
#[test]
fn one_finds_oneself_at_once() {
    each_shard_count(|engine| {
        for round in 0..20 {
            let mut one = RawWorker::named(engine, &format!("round-{round}"));
            let id = format!("f::{round}");
            one.register(&id);
            assert_eq!(ids(&functions(&mut one, json!({"prefix": id}))), [id.as_str()]);
            assert_eq!(own_row(&mut one)["function_count"], 1);
        }
    });
}

// What discovery lists can be called, by anyone who saw it listed.
#[test]
fn what_is_listed_is_callable() {
    let engine = Engine::start(16);
    let mut probes: Vec<_> = (0..4).map(|_| worker(&engine, "probe", Some(CURRENT))).collect();
    for round in 0..400 {
        let id = format!("listed::{round}");
        let mut provider = RawWorker::connect(&engine);
        provider.register(&id);
        provider.announce(json!({"runtime": "node", "version": CURRENT, "name": id}));
        let probe = &mut probes[round % 4];
        while functions(probe, json!({"prefix": id})).is_empty() {}
        let caller = &mut probes[round / 4 % 4];
        let call = caller.invoke(&id, json!({}));
        if caller.has_frame() {
            let outcome = caller.result(&call);
            panic!("{id} was listed, and a call of it gave {outcome:?}");
        }
        let delivery = provider.expect("invokefunction");
        provider.answer(&delivery, json!(round));
        assert_eq!(caller.result(&call), Ok(json!(round)));
    }
}
