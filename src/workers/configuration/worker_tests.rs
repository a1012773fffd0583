//! The instance as a whole, on the fake host; files are played by the test.

use super::files::{Job, Report};
use super::worker::Worker;
use iii_shards::builtin::fake::FakeHost;
use iii_shards::builtin::{BuiltIn, Failure};
use iii_shards::control::triggers::Binding;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

struct Scene {
    worker: Worker,
    host: FakeHost,
    jobs: Receiver<Job>,
}

impl Scene {
    fn new(ttl_ms: u64) -> Scene {
        let (sender, jobs) = sync_channel(4);
        let mut scene = Scene { worker: Worker::with_jobs(sender, ttl_ms), host: FakeHost::default(), jobs };
        scene.report(Report::Loaded(Vec::new()));
        scene
    }

    fn report(&mut self, report: Report) {
        self.worker.message(Box::new(report), &mut self.host);
    }

    /// Calls, and has everything written that is to be.
    fn call(&mut self, function: &str, data: Value) -> Result<Value, Failure> {
        let call = self.host.incoming(0, &format!("configuration::{function}"), &data.to_string());
        let key = call.id;
        self.worker.call(call, &mut self.host);
        while self.jobs.try_recv().is_ok() {
            self.report(Report::Done(Ok(())));
        }
        let outcome = self.host.answers.remove(&key).expect("answered");
        outcome.map(|text| serde_json::from_slice(&text).expect("JSON"))
    }

    fn bind(&mut self, id: &str, config: Value) -> Arc<Binding> {
        let binding = Arc::new(Binding {
            id: id.into(),
            trigger_type: "configuration".into(),
            namespace: "default".into(),
            function_id: id.into(),
            config: config.to_string().into_bytes().into(),
            metadata: None,
            trigger_namespace: None,
            home: "default".into(),
            registrant: None,
        });
        assert_eq!(super::watch::check(&binding), Ok(()));
        self.worker.trigger_added(binding.clone(), &mut self.host);
        binding
    }

    /// Functions fired since this was last asked, and the kind of event.
    fn fired(&mut self) -> Vec<String> {
        let short = |data: &str| {
            let event: Value = serde_json::from_str(data).expect("JSON");
            event["event_type"].as_str().unwrap_or_default().trim_start_matches("configuration:").to_owned()
        };
        self.host.take_made().iter().map(|made| format!("{} {}", made.function_id, short(&made.data))).collect()
    }
}

fn entry(id: &str) -> Value {
    json!({"id": id, "name": "n", "description": "d", "schema": {"type": "integer"}, "initial_value": 1})
}

// CONF-30 to CONF-33
#[test]
fn triggers_are_told() {
    let mut scene = Scene::new(0);
    scene.bind("one", json!({"configuration_id": "a"}));
    scene.bind("updates", json!({"event_types": ["configuration:updated", "unknown"]}));
    scene.bind("zall", json!({}));
    scene.call("register", entry("a")).expect("valid");
    assert_eq!(scene.fired(), ["zall registered", "one registered"]);
    scene.call("register", entry("a")).expect("valid");
    assert_eq!(scene.fired(), Vec::<String>::new(), "CONF-DB-8");
    scene.call("set", json!({"id": "a", "value": 2})).expect("valid");
    assert_eq!(scene.fired(), ["updates updated", "zall updated", "one updated"]);
    scene.call("register", entry("b")).expect("valid");
    assert_eq!(scene.fired(), ["zall registered"]);
    scene.call("delete", json!({"id": "a"})).expect("there");
    assert_eq!(scene.fired(), ["zall deleted", "one deleted"]);
    let ids: Vec<Value> = scene.call("list", json!({})).expect("a list")["configurations"]
        .as_array()
        .expect("an array")
        .iter()
        .map(|entry| entry["id"].clone())
        .collect();
    assert_eq!(ids, ["b"]);
}

// CONF-DB-7: a change is made when it is on disk, and what comes behind waits.
#[test]
fn a_change_that_cannot_be_written_is_not_made() {
    let mut scene = Scene::new(0);
    let write = scene.host.incoming(0, "configuration::register", &entry("a").to_string());
    let read = scene.host.incoming(0, "configuration::get", r#"{"id":"a"}"#);
    let (written, got) = (write.id, read.id);
    scene.worker.call(write, &mut scene.host);
    scene.worker.call(read, &mut scene.host);
    assert!(scene.host.answers.is_empty());
    scene.jobs.try_recv().expect("a job");
    scene.report(Report::Done(Err("disk full".to_owned())));
    let failure = scene.host.answers[&written].clone().expect_err("not written");
    assert_eq!((&*failure.code, &*failure.message), ("ADAPTER_ERROR", "disk full"));
    assert_eq!(scene.host.answers[&got].clone().expect_err("not there").code, "NOT_FOUND");
}

// CONF-40, C14
#[test]
fn an_entry_nobody_watches_any_more_ends() {
    let mut scene = Scene::new(1000);
    scene.call("register", entry("a")).expect("valid");
    scene.call("register", entry("b")).expect("valid");
    let watch = scene.bind("t", json!({"configuration_id": "a"}));
    let other = scene.bind("u", json!({"configuration_id": "a"}));
    scene.bind("all", json!({}));
    scene.worker.trigger_removed(&watch, &mut scene.host);
    assert_eq!(scene.host.wake_at, None, "one is left");
    scene.worker.trigger_removed(&other, &mut scene.host);
    assert_eq!(scene.host.wake_at, Some(scene.host.now.ms + 1000));
    let again = scene.bind("t", json!({"configuration_id": "a"}));
    assert_eq!(scene.host.wake_at, None, "watched again");
    scene.worker.trigger_removed(&again, &mut scene.host);
    scene.host.now.ms += 1000;
    scene.worker.timer(&mut scene.host);
    assert!(matches!(scene.jobs.try_recv(), Ok(Job::Remove(id)) if id == "a"));
    scene.report(Report::Done(Ok(())));
    assert_eq!(scene.fired(), ["all deleted"]);
}

// CONF-54 to CONF-56, CONF-DB-2
#[test]
fn edits_of_files() {
    let mut scene = Scene::new(0);
    for id in ["a", "b", "c"] {
        scene.call("register", entry(id)).expect("valid");
    }
    scene.bind("all", json!({}));
    let file = |id: &str, value: Value| super::registry::Entry {
        id: id.to_owned(),
        name: "n".to_owned(),
        description: "d".to_owned(),
        schema: None,
        value: Some(value),
        metadata: None,
    };
    let entries = vec![file("a", json!(5)), file("d", json!(1))];
    scene.report(Report::Edited { entries, unreadable: ["b".to_owned()].into() });
    // `c` is gone: removing its schema file is a job.
    assert!(matches!(scene.jobs.try_recv(), Ok(Job::Remove(id)) if id == "c"));
    scene.report(Report::Done(Ok(())));
    assert_eq!(scene.fired(), ["all updated", "all registered", "all deleted"]);
    assert_eq!(scene.call("get", json!({"id": "b"})).expect("kept")["value"], 1);
    scene.report(Report::Edited {
        entries: vec![file("a", json!("x")), file("b", json!(1)), file("d", json!(1))],
        unreadable: Default::default(),
    });
    assert_eq!(scene.fired(), Vec::<String>::new(), "an edit that does not fit is ignored");
    assert_eq!(scene.call("set", json!({"id": "a", "value": 6})).expect("valid")["old_value"], 5);
}
