//! Topology events: at once for workers, coalesced for functions, nothing when nothing changes.

use super::*;

fn bind(bench: &mut Bench, connection: ConnectionId, id: &str, trigger_type: &str, function: &str) {
    bench.message(
        connection,
        &format!(
            r#"{{"type":"registertrigger","id":"{id}","trigger_type":"{trigger_type}","function_id":"{function}",
                "config":{{}},"metadata":{{"m":1}}}}"#
        ),
    );
}

// ENG-44, PROTO-85, PROTO-86
#[test]
fn workers_come_and_go() {
    let mut bench = Bench::new();
    let watcher = bench.worker(1, "watcher");
    bind(&mut bench, watcher, "t", "engine::workers-available", "on::workers");
    assert!(bench.fired().is_empty(), "what was before is not told");
    let other = bench.connect(2);
    let firings = bench.take_firings();
    assert_eq!(firings.len(), 1);
    assert_eq!(firings[0].metadata.as_deref(), Some(&br#"{"m":1}"#[..]));
    let id = worker_id(2);
    let payload = |event: &str| json(&format!(r#"{{"event":"{event}","worker_id":"{id}"}}"#));
    let data: Value = serde_json::from_slice(&firings[0].data).unwrap();
    assert_eq!(data, payload("worker_connected"));
    bench.announce(other, r#"{"name":"other","namespace":"n"}"#);
    let mut known = payload("worker_metadata_updated");
    known["name"] = "other".into();
    known["namespace"] = "n".into();
    assert_eq!(bench.fired(), [("on::workers".to_owned(), known.clone())]);
    bench.leave(other);
    known["event"] = "worker_disconnected".into();
    assert_eq!(bench.fired(), [("on::workers".to_owned(), known)]);
    bench.message(watcher, r#"{"type":"unregistertrigger","id":"t"}"#);
    bench.leave(watcher);
    assert!(bench.fired().is_empty());
}

// ENG-44: a worker that binds the event with its own registrations sees its own announcement.
#[test]
fn a_worker_sees_its_own_announcement() {
    let mut bench = Bench::new();
    let worker = bench.connect(1);
    let announcement = Box::new(Announcement::parse(br#"{"name":"w"}"#).unwrap());
    bench.report(Report::Announced { connection: worker, namespace: "default".into(), exclusive: false, announcement });
    bench.function(worker, "default", "w::on");
    bind(&mut bench, worker, "t", "engine::workers-available", "w::on");
    assert!(bench.fired().is_empty());
    bench.report(Report::Settled { connection: worker });
    assert_eq!(bench.fired()[0].1["event"], "worker_metadata_updated");
}

// ENG-45, ENG-46
#[test]
fn function_changes_are_coalesced() {
    let mut bench = Bench::new();
    let worker = bench.worker(1, "watcher");
    bench.function(worker, "default", "on::functions");
    bench.advance(5_000);
    bind(&mut bench, worker, "t", "engine::functions-available", "on::functions");
    bench.advance(5_000);
    assert!(bench.fired().is_empty(), "nothing has changed since");
    assert_eq!(bench.control.next_deadline_ms(), None, "nothing is polled");
    for index in 0..50 {
        bench.function(worker, "default", &format!("f::{index}"));
        bench.advance(1);
    }
    bench.advance(1_000);
    let fired = bench.fired();
    assert_eq!(fired.len(), 1);
    let rows = fired[0].1["functions"].as_array().unwrap();
    assert_eq!(fired[0].1["event"], "functions_changed");
    assert!(rows.len() > 51 && rows.iter().any(|row| row["function_id"] == "engine::functions::list"));
    let ids: Vec<_> = rows.iter().map(|row| row["function_id"].as_str().unwrap()).collect();
    assert!(ids.is_sorted());
    assert!(rows[0].get("request_format").is_none(), "the current shape has no formats");
    // At most one a second, however fast functions come.
    for index in 0..500 {
        bench.function(worker, "default", &format!("g::{index}"));
        bench.advance(10);
    }
    bench.advance(2_000);
    assert!((5..=7).contains(&bench.fired().len()));
    // There and back is no change; metadata is no change.
    bench.function(worker, "default", "brief");
    bench.report(Report::Unregistered { connection: worker, namespace: "default".into(), id: "brief".into() });
    bench.function(worker, "default", "on::functions");
    bench.advance(2_000);
    assert!(bench.fired().is_empty());
    bench.function(worker, "default", "late");
    bench.message(worker, r#"{"type":"unregistertrigger","id":"t"}"#);
    bench.advance(2_000);
    assert!(bench.fired().is_empty(), "nothing after the trigger is gone");
}

// PROTO-85: functions registered in the same burst as the trigger are news to it.
#[test]
fn a_worker_is_told_of_its_own_functions() {
    let mut bench = Bench::new();
    let worker = bench.worker(1, "w");
    bench.function(worker, "default", "on::functions");
    bind(&mut bench, worker, "t", "engine::functions-available", "on::functions");
    bench.advance(1_000);
    assert_eq!(bench.fired().len(), 1);
}

// ENG-45: rows have the shape of the generation that owns the target.
#[test]
fn rows_fit_their_reader() {
    let mut bench = Bench::new();
    let old = bench.connect(1);
    bench.announce(old, r#"{"name":"old","version":"0.11.6"}"#);
    bench.function(old, "default", "on::functions");
    bind(&mut bench, old, "t", "engine::functions-available", "on::functions");
    bench.advance(1_000);
    let row = bench.fired()[0].1["functions"][0].clone();
    assert!(row.as_object().unwrap().contains_key("request_format"), "{row}");
}

// A firing that overtakes the registration of its function is tried again, one for nobody is not.
#[test]
fn firings_wait_for_registrations_on_their_way() {
    let mut bench = Bench::new();
    let worker = bench.worker(1, "w");
    bench.function(worker, "default", "on::workers");
    bind(&mut bench, worker, "t", "engine::workers-available", "on::workers");
    bench.connect(2);
    let firing = bench.take_firings().remove(0);
    bench.report(Report::Unfired(Box::new(firing.clone())));
    assert!(bench.take_firings().is_empty());
    bench.advance(100);
    let again = bench.take_firings();
    assert_eq!((again.len(), again[0].attempts), (1, 1));
    bench.report(Report::Unregistered { connection: worker, namespace: "default".into(), id: "on::workers".into() });
    bench.report(Report::Unfired(Box::new(firing)));
    bench.advance(100);
    assert!(bench.take_firings().is_empty());
}
