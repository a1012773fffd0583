//! Built-in workers among connected ones: who runs their calls, what they call, their triggers, time and letters.

use iii_shards::builtin::{BuiltIn, Call, CallId, Definition, Failure, Function, Home, Host, Outcome, OutgoingCall};
use iii_shards::builtin::{Token, TriggerType, key_of};
use iii_shards::control::triggers::Binding;
use iii_shards::ids::ShardId;
use iii_shards::settings::Settings;
use iii_shards::sim::scenario::{Peer, Scenario};
use serde_json::{Value, json};
use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;

/// Does a bit of everything.
#[derive(Default)]
struct Probe {
    relayed: HashMap<Token, CallId>,
    asleep: Vec<CallId>,
    triggers: Vec<Arc<Binding>>,
    asked: Vec<CallId>,
}

const HERE: usize = 0;
const KEYED: usize = 1;
const FIRST: usize = 2;
const RELAY: usize = 3;
const SLEEP: usize = 4;
const FIRE: usize = 5;
const LETTER: usize = 6;
const ASK_NEXT: usize = 7;

fn key(data: &[u8]) -> u64 {
    let value: Value = serde_json::from_slice(data).unwrap_or_default();
    key_of(value["key"].as_str().unwrap_or(""))
}

fn definition() -> Arc<Definition> {
    let function = |id, home| Function::new(id, "", home);
    Arc::new(Definition {
        name: "probe".into(),
        description: "For tests.".into(),
        functions: vec![
            function("probe::here", Home::Caller),
            function("probe::keyed", Home::Key(key)),
            function("probe::first", Home::First),
            function("probe::relay", Home::Caller),
            function("probe::sleep", Home::Caller),
            function("probe::fire", Home::Caller),
            function("probe::letter", Home::Caller),
            function("probe::ask_next", Home::Caller),
        ],
        trigger_types: vec![TriggerType::new("probe", "", |binding| match &*binding.config {
            b"null" => Err("`config` is missing".to_owned()),
            _ => Ok(()),
        })],
        listeners: Vec::new(),
        factory: Arc::new(|_| Box::new(Probe::default())),
    })
}

/// A question to the instance of another shard.
struct Question(CallId, ShardId);
struct Reply(CallId, ShardId);

impl BuiltIn for Probe {
    fn call(&mut self, call: Call, host: &mut dyn Host) {
        let data: Value = serde_json::from_slice(&call.data).expect("payloads are JSON");
        match call.function {
            HERE | KEYED | FIRST => host.answer(call.id, Ok(host.shard().0.to_string().as_bytes())),
            RELAY => {
                let timeout_ms = data["timeout_ms"].as_u64();
                let payload = data["data"].to_string();
                let to = data["to"].as_str().unwrap_or("");
                let outgoing = OutgoingCall { timeout_ms, ..OutgoingCall::new("default", to, payload.as_bytes()) };
                let token = host.call(&outgoing);
                self.relayed.insert(token, call.id);
            }
            SLEEP => {
                self.asleep.push(call.id);
                host.wake_at(Some(host.now().ms + 50));
            }
            FIRE => {
                for trigger in &self.triggers {
                    host.call_void(&OutgoingCall {
                        metadata: trigger.metadata.as_deref(),
                        ..OutgoingCall::new(&trigger.namespace, &trigger.function_id, &trigger.config)
                    });
                }
                host.answer(call.id, Ok(self.triggers.len().to_string().as_bytes()));
            }
            LETTER => host.mailbox().post(Box::new(call.id)),
            ASK_NEXT => {
                let next = ShardId((host.shard().0 + 1) % host.shards() as u16);
                self.asked.push(call.id);
                host.post(next, Box::new(Question(call.id, host.shard())));
            }
            _ => unreachable!("the definition has no such function"),
        }
    }

    fn answer(&mut self, token: Token, outcome: Outcome, host: &mut dyn Host) {
        let call = self.relayed.remove(&token).expect("each answer comes once");
        host.answer(call, outcome.as_deref());
    }

    fn trigger_added(&mut self, trigger: Arc<Binding>, _: &mut dyn Host) {
        self.triggers.push(trigger);
    }

    fn trigger_removed(&mut self, trigger: &Binding, _: &mut dyn Host) {
        self.triggers.retain(|known| known.id != trigger.id);
    }

    fn message(&mut self, message: Box<dyn Any + Send>, host: &mut dyn Host) {
        let message = match message.downcast::<Question>() {
            Ok(question) => return host.post(question.1, Box::new(Reply(question.0, host.shard()))),
            Err(other) => other,
        };
        match message.downcast::<Reply>() {
            Ok(reply) => host.answer(reply.0, Ok(reply.1.0.to_string().as_bytes())),
            Err(other) => {
                let call = other.downcast::<CallId>().expect("there are three kinds of letters");
                host.answer(*call, Ok(b"\"posted\""));
            }
        }
    }

    fn timer(&mut self, host: &mut dyn Host) {
        for call in self.asleep.drain(..) {
            host.answer(call, Err(&Failure::new("woke", "time is up")));
        }
    }
}

fn scenario(shards: usize) -> Scenario {
    Scenario::with_built_ins(Settings { shards, ..Settings::default() }, &[definition()])
}

fn ask(scenario: &mut Scenario, peer: Peer, function_id: &str, data: &Value) -> String {
    scenario.call_with(peer, 1, function_id, &data.to_string());
    scenario.settle();
    let answers = scenario.answers(peer);
    assert_eq!(answers.len(), 1, "{function_id} {data}: {answers:?}");
    answers[0].1.clone()
}

#[test]
fn calls_run_where_their_function_lives() {
    for shards in [1, 4] {
        let mut scenario = scenario(shards);
        let peers: Vec<Peer> = (0..shards).map(|shard| scenario.worker(shard, "default", &[])).collect();
        let mut homes = std::collections::BTreeSet::new();
        for (shard, peer) in peers.iter().enumerate() {
            assert_eq!(ask(&mut scenario, *peer, "probe::here", &json!({})), shard.to_string());
            assert_eq!(ask(&mut scenario, *peer, "probe::first", &json!({})), "0");
            for key in 0..32 {
                let home = ask(&mut scenario, *peer, "probe::keyed", &json!({"key": format!("k{key}")}));
                homes.insert((key, home));
            }
        }
        assert_eq!(homes.len(), 32, "a key has one home, whoever asks");
        let used: std::collections::BTreeSet<_> = homes.iter().map(|(_, home)| home).collect();
        assert_eq!(used.len(), shards);
        scenario.assert_nothing_left();
    }
}

#[test]
fn their_own_calls_end_like_anybodys() {
    for shards in [1, 3] {
        let mut scenario = scenario(shards);
        let provider = scenario.worker(shards - 1, "default", &["svc::f"]);
        let caller = scenario.worker(0, "default", &[]);
        scenario.call_with(caller, 1, "probe::relay", r#"{"to":"svc::f","data":{"a":1}}"#);
        scenario.settle();
        let heard = scenario.heard(provider);
        let call = heard.iter().find(|message| message["type"] == "invokefunction").expect("the call arrives");
        assert_eq!(call["data"], json!({"a": 1}), "PROTO-86: the engine names no caller");
        let id = call["invocation_id"].as_str().expect("it is tracked").to_owned();
        scenario.say(provider, &format!(r#"{{"type":"invocationresult","invocation_id":"{id}","result":"done"}}"#));
        scenario.settle();
        assert_eq!(scenario.answers(caller), [(1, "done".to_owned())]);

        let relay = |to: &str| json!({"to": to, "data": {}, "timeout_ms": 100});
        assert_eq!(ask(&mut scenario, caller, "probe::relay", &relay("svc::missing")), "function_not_found");
        assert_eq!(ask(&mut scenario, caller, "probe::relay", &relay("probe::first")), "0");
        let listed = ask(&mut scenario, caller, "probe::relay", &relay("engine::trigger-types::list"));
        assert!(listed.contains("\"probe\""), "{listed}");

        scenario.call_with(caller, 2, "probe::relay", &relay("svc::f").to_string());
        scenario.settle();
        assert!(scenario.answers(caller).is_empty());
        scenario.advance(200);
        assert_eq!(scenario.answers(caller), [(2, "invocation_timeout".to_owned())]);

        scenario.call_with(caller, 3, "probe::relay", &json!({"to": "svc::f", "data": {}}).to_string());
        scenario.settle();
        scenario.reset(provider);
        scenario.settle();
        assert_eq!(scenario.answers(caller), [(3, "invocation_stopped".to_owned())]);
        scenario.assert_nothing_left();
    }
}

#[test]
fn time_and_letters_reach_them() {
    let mut scenario = scenario(3);
    let caller = scenario.worker(2, "default", &[]);
    scenario.call(caller, 1, "probe::sleep");
    scenario.settle();
    scenario.advance(49);
    assert!(scenario.answers(caller).is_empty());
    scenario.advance(1);
    assert_eq!(scenario.answers(caller), [(1, "woke".to_owned())]);
    assert_eq!(ask(&mut scenario, caller, "probe::letter", &json!({})), "posted");
    assert_eq!(ask(&mut scenario, caller, "probe::ask_next", &json!({})), "0");
    scenario.assert_nothing_left();
}

#[test]
fn every_instance_knows_every_trigger() {
    let mut scenario = scenario(2);
    let workers = [scenario.worker(0, "default", &["on::a"]), scenario.worker(1, "default", &["on::b"])];
    for (worker, target) in workers.iter().zip(["on::a", "on::b"]) {
        let message = json!({"type": "registertrigger", "id": target, "trigger_type": "probe", "function_id": target,
            "config": {"c": 1}, "metadata": {"m": 2}});
        scenario.say(*worker, &message.to_string());
    }
    let refused = json!({"type": "registertrigger", "id": "bad", "trigger_type": "probe", "function_id": "on::a",
        "config": null});
    scenario.say(workers[0], &refused.to_string());
    scenario.settle();
    let refusals = scenario.heard_of(workers[0], "triggerregistrationresult", "error");
    assert!(refusals.len() == 1 && refusals[0].contains("`config` is missing"), "{refusals:?}");
    for worker in workers {
        scenario.call(worker, 5, "probe::fire");
    }
    scenario.settle();
    for worker in workers {
        let heard = scenario.heard(worker);
        let fired: Vec<_> = heard.iter().filter(|message| message["type"] == "invokefunction").collect();
        assert_eq!(fired.len(), 2, "both instances fire both triggers");
        for call in fired {
            assert_eq!((&call["data"], &call["metadata"]), (&json!({"c": 1}), &json!({"m": 2})));
            assert!(call.get("invocation_id").is_none());
        }
        assert!(heard.iter().any(|message| message["type"] == "invocationresult" && message["result"] == 2));
    }
    scenario.reset(workers[0]);
    scenario.settle();
    assert_eq!(ask(&mut scenario, workers[1], "probe::fire", &json!({})), "1");
    scenario.assert_nothing_left();
}

// Decision 5: built-in ids can't be taken.
#[test]
fn their_ids_are_their_own() {
    let mut scenario = scenario(2);
    let thief = scenario.worker(1, "default", &["probe::first"]);
    let rejected = scenario.heard_of(thief, "registrationrejected", "owner_worker_id");
    assert_eq!(rejected, ["probe"]);
    assert_eq!(ask(&mut scenario, thief, "probe::first", &json!({})), "0");
    scenario.assert_nothing_left();
}
