//! The instance on a fake host.

#![allow(clippy::disallowed_methods, reason = "tests wait for the storage thread")]

use super::definition;
use super::request::Function;
use crate::config::settings::{KvSettings, StateAdapter, StateSettings, StoreMethod};
use iii_shards::builtin::fake::{FakeHost, Made};
use iii_shards::builtin::{BuiltIn, CallId, Failure};
use iii_shards::control::triggers::Binding;
use iii_shards::ids::ShardId;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

struct Bench {
    host: FakeHost,
    state: Box<dyn BuiltIn>,
}

impl Bench {
    fn new() -> Bench {
        Bench::with(&StateSettings::default())
    }

    fn with(settings: &StateSettings) -> Bench {
        let mut host = FakeHost::default();
        let definition = definition(settings).expect("the settings are fine");
        let state = (definition.factory)(&mut host);
        Bench { host, state }
    }

    /// Another instance takes over, under other settings.
    fn reload(&mut self, settings: &StateSettings) {
        let legacy = self.state.hand_over(&mut self.host);
        let definition = definition(settings).expect("the settings are fine");
        self.state = (definition.factory)(&mut self.host);
        if let Some(legacy) = legacy {
            self.state.take_over(legacy, &mut self.host);
        }
    }

    /// One that keeps its values in a directory, with what is there.
    fn durable(directory: &Path) -> Bench {
        let kv = KvSettings {
            store_method: StoreMethod::FileBased,
            file_path: directory.display().to_string(),
            ..KvSettings::default()
        };
        Bench::with(&StateSettings { adapter: StateAdapter::Kv(kv), ..StateSettings::default() })
    }

    fn start(&mut self, function: Function, data: &str) -> CallId {
        let number = Function::ALL.iter().position(|known| *known == function).expect("it is one of all");
        let call = self.host.incoming(number, function.id(), data);
        let id = call.id;
        self.state.call(call, &mut self.host);
        id
    }

    /// The answer that is there; "" = no result.
    fn answer(&mut self, call: CallId) -> Option<Result<String, Failure>> {
        let outcome = self.host.answers.remove(&call)?;
        Some(outcome.map(|result| String::from_utf8(result).expect("answers are text")))
    }

    /// The answer, after waiting for the store if there is one.
    fn wait(&mut self, call: CallId) -> Result<String, Failure> {
        for _ in 0..2_000 {
            if let Some(answer) = self.answer(call) {
                return answer;
            }
            std::thread::sleep(Duration::from_millis(5));
            self.deliver();
        }
        panic!("{call:?} was not answered");
    }

    /// Hands over what other threads have posted.
    fn deliver(&mut self) {
        for (_, letter) in self.host.letters() {
            self.state.message(letter, &mut self.host);
        }
    }

    fn call(&mut self, function: Function, data: &str) -> Result<String, Failure> {
        let call = self.start(function, data);
        self.wait(call)
    }

    fn ok(&mut self, function: Function, data: &str, expected: &str) {
        assert_eq!(self.call(function, data), Ok(expected.to_owned()), "{function:?} {data}");
    }

    fn fails(&mut self, function: Function, data: &str, code: &str, message: &str) {
        let failure = self.call(function, data).expect_err("it must fail");
        assert_eq!((&*failure.code, &*failure.message), (code, message), "{function:?} {data}");
    }

    fn bind(&mut self, id: &str, config: Value) -> Arc<Binding> {
        let binding = Arc::new(Binding {
            id: id.into(),
            trigger_type: "state".into(),
            namespace: "apps".into(),
            function_id: format!("f::{id}").into(),
            config: config.to_string().into_bytes().into(),
            metadata: Some(br#"{"m":1}"#[..].into()),
            trigger_namespace: None,
            home: "apps".into(),
            registrant: None,
        });
        self.state.trigger_added(binding.clone(), &mut self.host);
        binding
    }

    /// `(function, event type, old, new)` of the calls made since this was last asked.
    fn events(&mut self) -> Vec<(String, String, Value, Value)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let event = |made: Made| {
            let data: Value = serde_json::from_str(&made.data).expect("events are JSON");
            (made.function_id, text(&data["event_type"]), data["old_value"].clone(), data["new_value"].clone())
        };
        self.host.take_made().into_iter().map(event).collect()
    }
}

use Function::{Delete, Get, List, ListGroups, OnConfigChange, Set, Update};

// STATE-13, STATE-20, STATE-21, STATE-22, STATE-23, S1 to S13
#[test]
fn values_are_set_read_and_deleted() {
    let mut bench = Bench::new();
    bench.ok(Get, r#"{"scope":"s","key":"k"}"#, "");
    bench.ok(Set, r#"{"scope":"s","key":"k","value":{"n":1}}"#, r#"{"old_value":null,"new_value":{"n":1}}"#);
    let again = r#"{"scope":"s","key":"k","data":[1.50, 1e400],"_caller_worker_id":"w"}"#;
    bench.ok(Set, again, r#"{"old_value":{"n":1},"new_value":[1.50, 1e400]}"#);
    bench.ok(Get, r#"{"scope":"s","key":"k"}"#, "[1.50, 1e400]");
    bench.ok(Set, r#"{"scope":"s","key":"null","value":null}"#, r#"{"old_value":null,"new_value":null}"#);
    bench.ok(Get, r#"{"scope":"s","key":"null"}"#, "null");
    bench.ok(List, r#"{"scope":"s"}"#, "[[1.50, 1e400],null]");
    let keys = r#"[{"key":"k","value":[1.50, 1e400]},{"key":"null","value":null}]"#;
    bench.ok(List, r#"{"scope":"s","include_keys":true}"#, keys);
    bench.ok(Delete, r#"{"scope":"s","key":"k"}"#, "[1.50, 1e400]");
    bench.ok(Delete, r#"{"scope":"s","key":"k"}"#, "");
    bench.ok(Delete, r#"{"scope":"s","key":"null"}"#, "null");
    bench.ok(List, r#"{"scope":"s"}"#, "[]");
    bench.ok(Set, r#"{"scope":"","key":"","value":0}"#, r#"{"old_value":null,"new_value":0}"#); // STATE-12
    bench.ok(ListGroups, "null", r#"{"groups":[""]}"#);
    bench.ok(OnConfigChange, "{}", r#"{"ok":true}"#);
}

// STATE-11
#[test]
fn payloads_that_do_not_fit_are_refused() {
    let mut bench = Bench::new();
    for (function, data, detail) in [
        (Get, "null", "invalid type: null, expected struct StateGetInput"),
        (Get, r#"{"key":"k"}"#, "missing field `scope`"),
        (Set, r#"{"scope":"s","key":"k"}"#, "missing field `value`"),
        (Delete, r#"{"scope":1,"key":"k"}"#, "invalid type: integer `1`, expected a string"),
        (Update, r#"{"scope":"s","key":"k"}"#, "missing field `ops`"),
        (
            Update,
            r#"{"scope":"s","key":"k","ops":[{"type":"bogus"}]}"#,
            "ops[0]: unknown variant `bogus`, expected one of `set`, `merge`, `increment`, `decrement`, `append`, `remove`",
        ),
        (List, "{}", "missing field `scope`"),
        (ListGroups, "5", "invalid type: integer `5`, expected struct StateListGroupsInput"),
    ] {
        let message = format!("Failed to deserialize input for {}: {detail}", function.id());
        bench.fails(function, data, "deserialization_error", &message);
    }
}

// STATE-30, STATE-37, STATE-38, S7, S9
#[test]
fn updates_are_applied_and_their_errors_reported() {
    let mut bench = Bench::new();
    let update = |ops: &str| format!(r#"{{"scope":"s","key":"k","ops":{ops}}}"#);
    bench.bind("all", json!({}));
    bench.ok(Update, &update("[]"), r#"{"old_value":null,"new_value":{}}"#);
    let ops = r#"[{"type":"increment","path":"n","by":3},{"type":"append","path":["log","x"],"value":"s"}]"#;
    bench.ok(Update, &update(ops), r#"{"old_value":{},"new_value":{"n":3,"log":{"x":["s"]}}}"#);
    bench.ok(Set, r#"{"scope":"s","key":"k","value":[]}"#, r#"{"old_value":{"n":3,"log":{"x":["s"]}},"new_value":[]}"#);
    let message = "Cannot set at path 'a': target is array, expected object.";
    let errors = format!(r#"[{{"op_index":0,"code":"set.target_not_object","message":"{message}"}}]"#);
    let expected = format!(r#"{{"old_value":[],"new_value":[],"errors":{errors}}}"#);
    bench.ok(Update, &update(r#"[{"type":"set","path":"a","value":1}]"#), &expected);
    let kinds: Vec<_> = bench.events().into_iter().map(|event| event.1).collect();
    assert_eq!(kinds, ["state:created", "state:updated", "state:updated", "state:updated"]);
}

// STATE-62, STATE-DB-13
#[test]
fn values_that_are_too_large_are_not_stored() {
    let mut bench = Bench::with(&StateSettings { max_value_bytes: Some(6), ..StateSettings::default() });
    bench.ok(Set, r#"{"scope":"s","key":"k","value":[ 1 ,  22 ]}"#, r#"{"old_value":null,"new_value":[ 1 ,  22 ]}"#);
    let message = "value of 7 bytes exceeds the configured max_value_bytes limit of 6";
    bench.fails(Set, r#"{"scope":"s","key":"k","value":"12345"}"#, "VALUE_TOO_LARGE", message);
    let ops = r#"{"scope":"s","key":"k","ops":[{"type":"set","path":"","value":"12345"}]}"#;
    bench.fails(Update, ops, "VALUE_TOO_LARGE", message);
    bench.ok(Get, r#"{"scope":"s","key":"k"}"#, "[ 1 ,  22 ]");
    // STATE-65
    bench.reload(&StateSettings::default());
    assert!(bench.call(Set, r#"{"scope":"s","key":"k","value":"12345"}"#).is_ok());
}

// STATE-42, STATE-43, STATE-46
#[test]
fn changes_fire_triggers() {
    let mut bench = Bench::new();
    bench.bind("mine", json!({"scope": "s"}));
    let other = bench.bind("mine too", json!({"key": "k"}));
    bench.bind("not mine", json!({"scope": "t"}));
    bench.call(Set, r#"{"scope":"s","key":"k","value":{"n":1}}"#).expect("it is set");
    let made = bench.host.take_made();
    let event =
        r#"{"type":"state","event_type":"state:created","scope":"s","key":"k","old_value":null,"new_value":{"n":1}}"#;
    assert_eq!(made.iter().map(|made| made.function_id.as_str()).collect::<Vec<_>>(), ["f::mine", "f::mine too"]);
    for made in made {
        assert_eq!((made.namespace.as_str(), made.data.as_str()), ("apps", event));
        assert_eq!(made.metadata.as_deref(), Some(r#"{"m":1}"#));
        assert!(made.token.is_some(), "its failure is to be heard of");
    }
    bench.state.trigger_removed(&other, &mut bench.host);
    bench.call(Set, r#"{"scope":"s","key":"k","value":null}"#).expect("it is set");
    bench.call(Set, r#"{"scope":"s","key":"k","value":null}"#).expect("it is set");
    bench.call(Delete, r#"{"scope":"s","key":"k"}"#).expect("it is deleted");
    bench.call(Delete, r#"{"scope":"s","key":"k"}"#).expect("deleting nothing is fine");
    let expected = [
        ("state:updated", json!({"n": 1}), json!(null)),
        ("state:updated", json!(null), json!(null)),
        ("state:deleted", json!(null), json!(null)),
        ("state:deleted", json!(null), json!(null)),
    ];
    let expected: Vec<_> =
        expected.map(|(kind, old, new)| ("f::mine".to_owned(), kind.to_owned(), old, new)).into_iter().collect();
    assert_eq!(bench.events(), expected);
    // `triggers_enabled`
    let settings = StateSettings { triggers_enabled: false, ..StateSettings::default() };
    bench.reload(&settings);
    bench.call(Set, r#"{"scope":"s","key":"k","value":1}"#).expect("it is set");
    assert_eq!(bench.events(), []);
}

// STATE-44, STATE-DB-2: a condition decides, and the events of a key stay in order.
#[test]
fn conditions_are_asked_first() {
    let mut bench = Bench::new();
    bench.bind("t", json!({"condition_function_id": "f::condition"}));
    for value in 1..4 {
        bench.call(Set, &json!({"scope": "s", "key": "k", "value": value}).to_string()).expect("it is set");
    }
    let asked = bench.host.take_made();
    assert!(asked.iter().all(|made| made.function_id == "f::condition" && made.namespace == "apps"));
    let tokens: Vec<_> = asked.iter().map(|made| made.token.expect("an answer is wanted")).collect();
    bench.state.answer(tokens[2], Ok(b"null".to_vec()), &mut bench.host);
    bench.state.answer(tokens[1], Ok(b"false".to_vec()), &mut bench.host);
    assert_eq!(bench.events(), [], "the first condition has not answered");
    bench.state.answer(tokens[0], Ok(b"\"no\"".to_vec()), &mut bench.host);
    let values: Vec<_> = bench.events().into_iter().map(|event| (event.0, event.3)).collect();
    assert_eq!(values, [("f::t".to_owned(), json!(1)), ("f::t".to_owned(), json!(3))]);
}

// STATE-DB-9
#[test]
fn groups_are_gathered_from_all_shards() {
    let mut benches: Vec<Bench> = (0..3)
        .map(|shard| {
            let mut bench = Bench::new();
            (bench.host.shard, bench.host.shards) = (ShardId(shard), 3);
            bench
        })
        .collect();
    for (shard, scopes) in [(0, ["b", "é"]), (1, ["a", "z"]), (2, ["Z", "gone"])] {
        for scope in scopes {
            benches[shard].call(Set, &json!({"scope": scope, "key": "k", "value": 1}).to_string()).expect("it is set");
        }
    }
    benches[2].call(Delete, r#"{"scope":"gone","key":"k"}"#).expect("it is deleted");
    let number = Function::ALL.iter().position(|known| *known == ListGroups).expect("it is one of all");
    let call = benches[1].host.incoming(number, ListGroups.id(), "{}");
    let id = call.id;
    let asking = &mut benches[1];
    asking.state.call(call, &mut asking.host);
    assert!(!asking.host.answers.contains_key(&id), "two shards have not been heard");
    for _ in 0..2 {
        for from in 0..3 {
            for (to, letter) in std::mem::take(&mut benches[from].host.posted) {
                let to = &mut benches[to.index()];
                to.state.message(letter, &mut to.host);
            }
        }
    }
    let answer = benches[1].host.answers.remove(&id).expect("all shards have been heard").expect("it works");
    assert_eq!(serde_json::from_slice::<Value>(&answer).expect("JSON"), json!({"groups": ["Z", "a", "b", "z", "é"]}));
}

// === on disk ===

fn fresh_directory(name: &str) -> PathBuf {
    let directory = std::env::temp_dir().join(format!("iii-state-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&directory);
    directory
}

fn close(directory: &Path) {
    crate::store::Store::open(&directory.join("state")).expect("it is open").close().expect("it closes");
}

// STATE-DB-3: nobody hears of a change before it is stored, and what was said is there at the next start.
#[test]
fn answers_and_events_wait_for_the_store() {
    let directory = fresh_directory("wait");
    let mut bench = Bench::durable(&directory);
    bench.bind("t", json!({}));
    let increment = r#"{"scope":"s","key":"k","ops":[{"type":"increment","path":"n","by":1}]}"#;
    let writes: Vec<_> = (0..10).map(|_| bench.start(Update, increment)).collect();
    let read = bench.start(Get, r#"{"scope":"s","key":"k"}"#);
    let list = bench.start(List, r#"{"scope":"s"}"#);
    for call in writes.iter().chain([&read, &list]) {
        assert_eq!(bench.answer(*call), None, "nothing is stored yet");
    }
    bench.ok(Get, r#"{"scope":"s","key":"other"}"#, "");
    assert_eq!(bench.host.take_made(), []);
    for (n, call) in writes.into_iter().enumerate() {
        let answer: Value = serde_json::from_str(&bench.wait(call).expect("it is stored")).expect("JSON");
        assert_eq!(answer["new_value"], json!({"n": n + 1}));
    }
    assert_eq!(bench.wait(read).as_deref(), Ok(r#"{"n":10}"#));
    assert_eq!(bench.wait(list).as_deref(), Ok(r#"[{"n":10}]"#));
    let values: Vec<_> = bench.events().into_iter().map(|event| event.3["n"].clone()).collect();
    assert_eq!(values, (1..=10).map(Value::from).collect::<Vec<_>>());
    bench.call(Set, r#"{"scope":"s","key":"a","value":[1.50]}"#).expect("it is stored");
    bench.call(Set, r#"{"scope":"s","key":"gone","value":1}"#).expect("it is stored");
    bench.call(Delete, r#"{"scope":"s","key":"gone"}"#).expect("it is stored");
    close(&directory);
    let mut bench = Bench::durable(&directory);
    bench.ok(List, r#"{"scope":"s"}"#, r#"[{"n":10},[1.50]]"#);
    bench.call(Set, r#"{"scope":"s","key":"z","value":0}"#).expect("it is stored");
    bench.ok(List, r#"{"scope":"s"}"#, r#"[{"n":10},[1.50],0]"#);
    close(&directory);
    let _ = std::fs::remove_dir_all(&directory);
}

// T15: a change that can't be stored is refused and has not happened.
#[test]
fn what_is_not_stored_is_taken_back() {
    let directory = fresh_directory("fail");
    let mut bench = Bench::durable(&directory);
    bench.call(Set, r#"{"scope":"s","key":"a","value":1}"#).expect("it is stored");
    bench.call(Set, r#"{"scope":"s","key":"b","value":2}"#).expect("it is stored");
    bench.bind("t", json!({}));
    close(&directory);
    let first = bench.start(Delete, r#"{"scope":"s","key":"a"}"#);
    let second = bench.start(Set, r#"{"scope":"s","key":"a","value":3}"#);
    let third = bench.start(Set, r#"{"scope":"t","key":"c","value":4}"#);
    let read = bench.start(Get, r#"{"scope":"s","key":"a"}"#);
    for (call, code, prefix) in [
        (first, "DELETE_ERROR", "Failed to delete value: "),
        (second, "SET_ERROR", "Failed to set value: "),
        (third, "SET_ERROR", "Failed to set value: "),
        (read, "GET_ERROR", "Failed to get value: "),
    ] {
        let failure = bench.wait(call).expect_err("it is not stored");
        assert_eq!(&*failure.code, code);
        assert!(failure.message.starts_with(prefix), "{}", failure.message);
    }
    assert_eq!(bench.host.take_made(), []);
    bench.ok(List, r#"{"scope":"s"}"#, "[1,2]");
    bench.ok(ListGroups, "{}", r#"{"groups":["s"]}"#);
    let _ = std::fs::remove_dir_all(&directory);
}

// STATE-73: a changed configuration loses nothing.
#[test]
fn a_new_instance_takes_over_the_values() {
    let mut old = Bench::new();
    old.call(Set, r#"{"scope":"s","key":"a","value":1}"#).expect("it is set");
    let legacy = old.state.hand_over(&mut old.host).expect("values are handed over");
    let mut new = Bench::with(&StateSettings { max_value_bytes: Some(1), ..StateSettings::default() });
    new.state.take_over(legacy, &mut new.host);
    new.ok(Get, r#"{"scope":"s","key":"a"}"#, "1");
    assert!(new.call(Set, r#"{"scope":"s","key":"a","value":10}"#).is_err(), "the new limit holds");
}
