//! Listings and descriptions: shapes for both SDK lines, filters, order, errors.

use super::*;
use crate::settings::DiscoveryShape;

fn details(description: &str, metadata: Option<&str>) -> FunctionDetails {
    FunctionDetails {
        description: Some(description.into()),
        request_format: Some(br#"{"type":"object"}"#.as_slice().into()),
        response_format: None,
        metadata: metadata.map(|text| text.as_bytes().into()),
    }
}

fn ids(answer: &Answer, list: &str, member: &str) -> Vec<String> {
    let rows = answer.as_ref().unwrap()[list].as_array().unwrap();
    rows.iter().map(|row| row[member].as_str().unwrap().to_owned()).collect()
}

fn functions(bench: &mut Bench, caller: ConnectionId, data: &str) -> Vec<String> {
    ids(&bench.call(caller, "engine::functions::list", data), "functions", "function_id")
}

/// A worker with two functions in `default`, one in `other`, one that is internal.
fn populated() -> (Bench, ConnectionId) {
    let mut bench = Bench::new();
    let math = bench.worker(1, "math-worker");
    bench.detailed_function(math, "default", "math::add", details("Adds", Some(r#"{"team":"a"}"#)));
    bench.detailed_function(math, "default", "api::math", details("Sums up", None));
    bench.detailed_function(math, "default", "hidden", details("x", Some(r#"{"internal":true}"#)));
    let other = bench.connect(2);
    bench.announce(other, r#"{"name":"o","namespace":"other"}"#);
    bench.function(other, "other", "math::add");
    (bench, math)
}

// ENG-10, ENG-14, ENG-16
#[test]
fn functions_are_filtered_and_sorted() {
    let (mut bench, caller) = populated();
    assert_eq!(functions(&mut bench, caller, "{}"), ["api::math", "math::add", "math::add"]);
    assert_eq!(functions(&mut bench, caller, r#"{"search":"MATH"}"#), ["api::math", "math::add", "math::add"]);
    assert_eq!(functions(&mut bench, caller, r#"{"search":"add"}"#), ["math::add", "math::add"]);
    assert_eq!(functions(&mut bench, caller, r#"{"search":"sums"}"#), ["api::math"]);
    assert_eq!(functions(&mut bench, caller, r#"{"search":"su","workers":[]}"#), ["api::math"]);
    assert_eq!(functions(&mut bench, caller, r#"{"prefix":"math::"}"#), ["math::add", "math::add"]);
    assert_eq!(functions(&mut bench, caller, r#"{"worker":"o"}"#), ["math::add"]);
    assert_eq!(functions(&mut bench, caller, r#"{"workers":["o","math-worker"],"prefix":"a"}"#), ["api::math"]);
    let all = functions(&mut bench, caller, r#"{"include_internal":true}"#);
    assert!(all.contains(&"hidden".to_owned()) && all.contains(&"engine::log::info".to_owned()) && all.is_sorted());
}

// ENG-6, ENG-15
#[test]
fn function_rows_fit_the_caller() {
    let (mut bench, caller) = populated();
    let mut row = |generation, data: &str| {
        let answer = bench.call_as(caller, generation, "engine::functions::list", data).unwrap();
        answer["functions"].as_array().unwrap().iter().find(|row| row["function_id"] == "api::math").unwrap().clone()
    };
    let current = r#"{"function_id":"api::math","namespace":"default","worker_name":"math-worker",
        "description":"Sums up"}"#;
    assert_eq!(row(Generation::Current, "{}"), json(current));
    let legacy = r#"{"function_id":"api::math","namespace":"default","worker_name":"math-worker",
        "description":"Sums up","metadata":null,"request_format":{"type":"object"},"response_format":null}"#;
    assert_eq!(row(Generation::Legacy, "{}"), json(legacy));
    let union = row(Generation::Unknown, "{}");
    assert!(union.get("request_format").is_some() && union.get("metadata").is_none());
    assert!(row(Generation::Current, r#"{"include_schemas":true}"#).get("request_format").is_some());
}

// ENG-11, ENG-13
#[test]
fn nameless_workers_go_by_their_ids() {
    let mut bench = Bench::new();
    let raw = bench.connect(1);
    bench.function(raw, "default", "raw::f");
    let rows = bench.call(raw, "engine::functions::list", "{}").unwrap();
    assert_eq!(rows["functions"][0]["worker_name"], "raw");
    bench.announce(raw, r#"{"name":"named"}"#);
    let rows = bench.call(raw, "engine::functions::list", "{}").unwrap();
    assert_eq!(rows["functions"][0]["worker_name"], "named");
}

// ENG-17 to ENG-20
#[test]
fn functions_are_described() {
    let (mut bench, caller) = populated();
    bench.message(
        caller,
        r#"{"type":"registertrigger","id":"t1","trigger_type":"engine::workers-available","function_id":"math::add",
            "config":{"a":1}}"#,
    );
    bench.message(caller, r#"{"type":"registertrigger","id":"t2","trigger_type":"later","function_id":"math::add"}"#);
    let info = bench.call(caller, "engine::functions::info", r#"{"function_id":"math::add"}"#).unwrap();
    let expected = r#"{"function_id":"math::add","namespace":"default","worker_name":"math-worker",
        "description":"Adds","request_schema":{"type":"object"},"metadata":{"team":"a"},
        "registered_triggers":[{"id":"t1","trigger_type":"engine::workers-available","config":{"a":1}}]}"#;
    assert_eq!(info, json(expected));
    let batch = r#"{"function_ids":["nope","math::add","nope"]}"#;
    let batch = bench.call(caller, "engine::functions::info", batch).unwrap();
    assert_eq!(batch["functions"][0], json(r#"{"function_id":"nope","error":"not_found"}"#));
    assert_eq!(batch["functions"].as_array().unwrap().len(), 2);
    let other = r#"{"function_id":"math::add","namespace":"other"}"#;
    assert_eq!(bench.call(caller, "engine::functions::info", other).unwrap()["worker_name"], "o");
    // ENG-55
    let engine = r#"{"function_id":"engine::functions::list"}"#;
    let engine = bench.call(caller, "engine::functions::info", engine).unwrap();
    assert_eq!(engine["request_schema"]["type"], "object");
    assert_eq!(engine["worker_name"], "iii-engine-functions");
}

// ENG-18, ENG-21
#[test]
fn function_errors() {
    let (mut bench, caller) = populated();
    for (slot, namespace) in [(3, "a"), (4, "b")] {
        let worker = bench.connect(slot);
        bench.announce(worker, &format!(r#"{{"name":"x","namespace":"{namespace}"}}"#));
        bench.function(worker, namespace, "twice");
    }
    let many: Vec<String> = (0..33).map(|index| format!("\"f{index}\"")).collect();
    let many = format!(r#"{{"function_ids":[{}]}}"#, many.join(","));
    for (data, code, message) in [
        (
            r#"{"function_id":"x","function_ids":["x"]}"#,
            "INVALID_ARGUMENTS",
            "pass either `function_id` or `function_ids`, not both",
        ),
        ("{}", "INVALID_ARGUMENTS", "missing field `function_id` (or `function_ids` for a batch)"),
        (r#"{"function_ids":[]}"#, "INVALID_ARGUMENTS", "`function_ids` must be a non-empty array of function ids"),
        (many.as_str(), "INVALID_ARGUMENTS", "too many function_ids (max 32)"),
        (r#"{"function_id":"x"}"#, "NOT_FOUND", "Function 'x' is not registered."),
        (
            r#"{"function_id":"twice"}"#,
            "NOT_FOUND",
            "Function 'twice' is ambiguous: it is registered in namespace(s): a, b. Pass `namespace` to select one.",
        ),
        (
            r#"{"function_id":"twice","namespace":"c"}"#,
            "NOT_FOUND",
            "Function 'twice' is not registered in namespace 'c'. It is registered in namespace(s): a, b.",
        ),
    ] {
        let answer = bench.call(caller, "engine::functions::info", data);
        assert_eq!(answer, Err((code.to_owned(), message.to_owned())));
    }
}

// ENG-6, ENG-22 to ENG-24
#[test]
fn triggers_list_has_two_meanings() {
    let (mut bench, caller) = populated();
    bench.message(caller, r#"{"type":"registertriggertype","id":"webhook","description":"Web"}"#);
    let bind =
        r#"{"type":"registertrigger","id":"t1","trigger_type":"webhook","function_id":"math::add","config":{"a": 1}}"#;
    bench.message(caller, bind);
    let list = "engine::triggers::list";
    let types = bench.call_as(caller, Generation::Current, list, "{}").unwrap();
    let webhook = r#"{"id":"webhook","namespace":"default","worker_name":"math-worker","description":"Web"}"#;
    assert_eq!(types["triggers"], json(&format!("[{webhook}]")));
    let row = r#"{"id":"t1","trigger_type":"webhook","function_id":"math::add","namespace":"default",
        "worker_name":"math-worker","config":{"a":1},"config_summary":"{\"a\":1}"}"#;
    for generation in [Generation::Legacy, Generation::Unknown] {
        let instances = bench.call_as(caller, generation, list, "{}").unwrap();
        assert_eq!(instances["triggers"], json(&format!("[{row}]")));
    }
    assert_eq!(
        bench.call_as(caller, Generation::Current, list, r#"{"kind":"instances"}"#).unwrap()["triggers"],
        json(&format!("[{row}]"))
    );
    assert_eq!(
        bench.call_as(caller, Generation::Legacy, list, r#"{"kind":"types"}"#).unwrap()["triggers"],
        json(&format!("[{webhook}]"))
    );
    assert_eq!(bench.call(caller, list, r#"{"kind":"x"}"#).unwrap_err().0, "INVALID_ARGUMENTS");
    assert_eq!(
        ids(&bench.call(caller, list, r#"{"search":"we","include_internal":true}"#), "triggers", "id"),
        ["webhook"]
    );
    let all = bench.call(caller, list, r#"{"include_internal":true,"worker":"engine"}"#);
    assert_eq!(ids(&all, "triggers", "id"), ["engine::functions-available", "engine::workers-available"]);
    let mut forced = Bench::with(Settings { discovery_shape: DiscoveryShape::Current, ..Settings::default() });
    let caller = forced.worker(1, "w");
    let data = r#"{"include_internal":true}"#;
    assert_eq!(ids(&forced.call_as(caller, Generation::Legacy, list, data), "triggers", "id").len(), 2);
}

// ENG-25, ENG-26, ENG-28, PROTO-100
#[test]
fn trigger_types_are_described() {
    let (mut bench, caller) = populated();
    let offer =
        r#"{"type":"registertriggertype","id":"webhook","description":"Web","trigger_request_format":{"a": 1}}"#;
    bench.message(caller, offer);
    bench.message(caller, r#"{"type":"registertriggertype","id":"cron","description":""}"#);
    bench.message(caller, r#"{"type":"registertrigger","id":"t1","trigger_type":"webhook","function_id":"f"}"#);
    let types = bench.call(caller, "engine::trigger-types::list", "{}");
    assert_eq!(ids(&types, "trigger_types", "id"), ["cron", "webhook"]);
    let webhook = r#"{"id":"webhook","description":"Web","trigger_request_format":{"a":1},"namespace":"default",
        "worker_name":"math-worker"}"#;
    assert_eq!(types.unwrap()["trigger_types"][1], json(webhook));
    let info = bench.call(caller, "engine::triggers::info", r#"{"id":"webhook"}"#).unwrap();
    let expected = r#"{"id":"webhook","namespace":"default","worker_name":"math-worker","description":"Web",
        "configuration_schema":{"a":1},"instance_count":1}"#;
    assert_eq!(info, json(expected));
    let cron = bench.call(caller, "engine::triggers::info", r#"{"id":"cron"}"#).unwrap();
    assert_eq!(cron["configuration_schema"]["required"], json(r#"["expression"]"#));
    let message = "Trigger type 'webhook' is not registered in namespace 'n'.".to_owned();
    let missing = bench.call(caller, "engine::triggers::info", r#"{"id":"webhook","namespace":"n"}"#);
    assert_eq!(missing, Err(("NOT_FOUND".to_owned(), message)));
}

// ENG-29, ENG-30, ENG-10
#[test]
fn registered_triggers() {
    let (mut bench, caller) = populated();
    bench.message(caller, r#"{"type":"registertriggertype","id":"webhook","description":"Web"}"#);
    for (id, kind, function) in [
        ("t2", "webhook", "math::add"),
        ("t1", "webhook", "gone::f"),
        ("t3", "later", "f"),
        ("t4", "webhook", "engine::x"),
    ] {
        let bind = format!(
            r#"{{"type":"registertrigger","id":"{id}","trigger_type":"{kind}","function_id":"{function}","metadata":{{"m":1}}}}"#
        );
        bench.message(caller, &bind);
    }
    let list = "engine::registered-triggers::list";
    let mut of = |data: &str| ids(&bench.call(caller, list, data), "registered_triggers", "id");
    assert_eq!(of("{}"), ["t1", "t2"]);
    assert_eq!(of(r#"{"include_internal":true}"#), ["t1", "t2", "t4"]);
    assert_eq!(of(r#"{"include_pending":true}"#), ["t1", "t2", "t3"]);
    assert_eq!(of(r#"{"worker":"math-worker"}"#), ["t2"]);
    assert_eq!(of(r#"{"worker":"gone"}"#), ["t1"]);
    assert_eq!(of(r#"{"function_id":"math::add","trigger_type":"webhook"}"#), ["t2"]);
    assert_eq!(of(r#"{"search":"GONE"}"#), ["t1"]);
    let pending = bench.call(caller, list, r#"{"include_pending":true,"search":"t3"}"#).unwrap();
    assert_eq!(pending["registered_triggers"][0]["status"], "pending");
    let info = bench.call(caller, "engine::registered-triggers::info", r#"{"id":"t2"}"#).unwrap();
    assert_eq!(info["trigger"]["id"], "webhook");
    assert_eq!(info["function"]["function_id"], "math::add");
    assert_eq!(info["metadata"], json(r#"{"m":1}"#));
    let gone = bench.call(caller, "engine::registered-triggers::info", r#"{"id":"t1"}"#).unwrap();
    assert_eq!(gone["function"], Value::Null);
    let missing = bench.call(caller, "engine::registered-triggers::info", r#"{"id":"t3"}"#);
    assert_eq!(missing, Err(("NOT_FOUND".to_owned(), "Registered trigger 't3' was not found.".to_owned())));
}

// ENG-36 to ENG-41
#[test]
fn workers_are_listed() {
    let (mut bench, caller) = populated();
    bench.connect(6);
    bench.load = vec![(caller, 3)];
    let list = "engine::workers::list";
    let all = bench.call(caller, list, "{}");
    let names = ["iii-engine-functions", "iii-observability", "iii-worker-manager", "math-worker", "o"];
    assert_eq!(ids(&all, "workers", "name"), names);
    let row = all.unwrap()["workers"][3].clone();
    let expected = format!(
        r#"{{"id":"{}","name":"math-worker","description":null,"version":"0.25.0","namespace":"default",
        "runtime":"unknown","os":null,"status":"busy","function_count":3,"connected_at_ms":1,"active_invocations":3,
        "isolation":null,"ip_address":"127.0.0.1","functions":["api::math","hidden","math::add"],"internal":false,
        "latest_metrics":null,"pid":1}}"#,
        worker_id(1)
    );
    assert_eq!(row, json(&expected));
    let mut of = |data: &str| ids(&bench.call(caller, list, data), "workers", "name");
    assert_eq!(of(r#"{"status":"busy"}"#), ["math-worker"]);
    assert_eq!(of(r#"{"status":"connected"}"#).len(), 5);
    assert_eq!(of(r#"{"runtime":"engine","search":"manager"}"#), ["iii-worker-manager"]);
    assert_eq!(of(&format!(r#"{{"worker_id":"{}"}}"#, worker_id(2))), ["o"]);
    bench.leave(caller);
    let (other, list) = (bench.worker(8, "late"), bench.load.len());
    assert_eq!(list, 1);
    assert_eq!(ids(&bench.call(other, "engine::workers::list", r#"{"search":"math"}"#), "workers", "name").len(), 0);
}

// ENG-42
#[test]
fn workers_are_described() {
    let (mut bench, caller) = populated();
    bench.message(caller, r#"{"type":"registertriggertype","id":"webhook","description":"Web"}"#);
    let bind = r#"{"type":"registertrigger","id":"t1","trigger_type":"webhook","function_id":"math::add"}"#;
    bench.message(caller, bind);
    let info = bench.call(caller, "engine::workers::info", r#"{"name":"math-worker"}"#);
    assert_eq!(ids(&info, "functions", "function_id"), ["api::math", "hidden", "math::add"]);
    assert_eq!(ids(&info, "trigger_types", "id"), ["webhook"]);
    assert_eq!(ids(&info, "registered_triggers", "id"), ["t1"]);
    let worker = info.unwrap()["worker"].clone();
    assert_eq!((&worker["pid"], &worker["internal"]), (&1.into(), &false.into()));
    assert!(worker.get("functions").is_none() && worker.get("latest_metrics").is_none());
    let by_id = format!(r#"{{"name":"{}"}}"#, worker_id(2));
    assert_eq!(bench.call(caller, "engine::workers::info", &by_id).unwrap()["worker"]["name"], "o");
    let built_in = bench.call(caller, "engine::workers::info", r#"{"name":"iii-observability"}"#);
    assert!(ids(&built_in, "functions", "function_id").contains(&"engine::health::check".to_owned()));
    for (slot, namespace) in [(3, "a"), (4, "b")] {
        let worker = bench.connect(slot);
        bench.announce(worker, &format!(r#"{{"name":"x","namespace":"{namespace}"}}"#));
    }
    for (data, message) in [
        (r#"{"name":"nobody"}"#, "Worker 'nobody' is not connected."),
        (
            r#"{"name":"o","namespace":"default"}"#,
            "Worker 'o' is not connected in the requested namespace; it is connected in namespace(s): other.",
        ),
        (
            r#"{"name":"x"}"#,
            "Worker 'x' is ambiguous: it is connected in namespace(s): a, b. Pass `namespace` to disambiguate.",
        ),
    ] {
        let answer = bench.call(caller, "engine::workers::info", data);
        assert_eq!(answer, Err(("NOT_FOUND".to_owned(), message.to_owned())));
    }
}

// Decision 11: a function that moves to another namespace keeps what is known of it.
#[test]
fn moved_functions_keep_their_details() {
    let mut bench = Bench::new();
    let worker = bench.connect(1);
    bench.detailed_function(worker, "default", "f", details("Does it", None));
    bench.report(Report::Registered { connection: worker, namespace: "n".into(), id: "f".into(), details: None });
    let rows = bench.call(worker, "engine::functions::list", "{}").unwrap();
    assert_eq!(rows["functions"].as_array().unwrap().len(), 1);
    assert_eq!(rows["functions"][0]["namespace"], "n");
    assert_eq!(rows["functions"][0]["description"], "Does it");
}
