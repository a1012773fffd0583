//! Guarded listeners: authentication, permissions, hooks, prefixes, middleware (PROTO-120 to PROTO-129).

use iii_shards::settings::{AccessRules, FunctionFilter, ListenerSettings, MetadataRule, Settings};
use iii_shards::sim::client::upgrade_request;
use iii_shards::sim::scenario::{Peer, Scenario};
use serde_json::{Value, json};

/// The first listener is open, the second guarded. Links are of the first unless asked for otherwise.
fn scenario(shards: usize, rules: Option<AccessRules>, middleware: Option<&str>) -> Scenario {
    let open = ListenerSettings { handshake_timeout_ms: 10_000, ..ListenerSettings::default() };
    let guarded =
        ListenerSettings { access_rules: rules, middleware_function_id: middleware.map(str::to_owned), ..open.clone() };
    Scenario::with(Settings { shards, listeners: vec![open, guarded], ..Settings::default() })
}

fn rules(auth: bool) -> AccessRules {
    AccessRules { auth_function_id: auth.then(|| "auth::check".to_owned()), ..AccessRules::default() }
}

fn id_filter(pattern: &str) -> FunctionFilter {
    FunctionFilter::Id { pattern: pattern.to_owned(), namespace: "default".to_owned() }
}

/// A connection to the guarded listener that sends its upgrade request.
fn knock(scenario: &mut Scenario, shard: usize, path: &str) -> Peer {
    let peer = Peer(scenario.world.connect_to(shard, 1));
    scenario.world.send(peer.0, &upgrade_request(path));
    scenario.settle();
    peer
}

/// The next call a worker was given: its id and the whole message.
fn next_call(scenario: &mut Scenario, peer: Peer) -> (String, Value) {
    let heard = scenario.heard(peer);
    let calls: Vec<_> = heard.iter().filter(|message| message["type"] == "invokefunction").collect();
    assert_eq!(calls.len(), 1, "{heard:?}");
    (calls[0]["invocation_id"].as_str().unwrap_or("").to_owned(), (**calls[0]).clone())
}

fn reply(scenario: &mut Scenario, peer: Peer, id: &str, result: &Value) {
    scenario.say(peer, &json!({"type": "invocationresult", "invocation_id": id, "result": result}).to_string());
    scenario.settle();
}

fn heard_types(scenario: &mut Scenario, peer: Peer) -> Vec<String> {
    scenario.heard(peer).iter().map(|message| message["type"].as_str().unwrap_or("").to_owned()).collect()
}

// PROTO-120, PROTO-121
#[test]
fn who_is_let_in() {
    for shards in [1, 3] {
        let mut scenario = scenario(shards, Some(rules(true)), None);
        let guard = scenario.worker(0, "default", &["auth::check"]);
        let guest = knock(&mut scenario, shards - 1, "/?token=a%20b&token=&x");
        scenario.say(guest, r#"{"type":"registerfunction","id":"guest::f"}"#);
        scenario.settle();
        assert!(scenario.heard(guest).is_empty(), "nothing is said before the verdict");
        let (id, call) = next_call(&mut scenario, guard);
        assert_eq!(call["data"]["query_params"], json!({"token": ["a b", ""], "x": [""]}));
        assert_eq!(call["data"]["headers"]["upgrade"], "websocket");
        assert!(call["data"]["ip_address"].is_string());
        reply(&mut scenario, guard, &id, &json!({"context": {"user": 7}}));
        assert_eq!(heard_types(&mut scenario, guest), ["workerregistered"]);
        scenario.advance(300);
        let caller = scenario.worker(0, "default", &[]);
        scenario.call(caller, 9, "guest::f");
        scenario.settle();
        assert_eq!(scenario.calls(guest), [9], "what was sent before the verdict counts");
        scenario.reset(guard);
        scenario.assert_nothing_left();
    }
}

// PROTO-120, PROTO-129: no answer is a no.
#[test]
fn who_is_not_let_in() {
    for path in ["/", "/otel"] {
        for (answer, expected) in [
            (Some(json!(null)), "auth function returned no result"),
            (Some(json!({"allowed_functions": 1})), "cannot be read"),
            (None, "auth function timed out"),
        ] {
            let mut scenario = scenario(2, Some(rules(true)), None);
            let guard = scenario.worker(0, "default", &["auth::check"]);
            let guest = knock(&mut scenario, 1, path);
            let (id, _) = next_call(&mut scenario, guard);
            match answer {
                Some(answer) => reply(&mut scenario, guard, &id, &answer),
                None => scenario.advance(10_500),
            }
            let heard = scenario.heard(guest);
            assert_eq!(heard.len(), 1, "{heard:?}");
            assert_eq!((&heard[0]["type"], &heard[0]["error"]["code"]), (&json!("error"), &json!("AUTH_ERROR")));
            assert!(heard[0]["error"]["message"].as_str().unwrap_or("").contains(expected), "{heard:?}");
            assert_eq!(scenario.closed(guest), Some(None), "closed without a status");
            scenario.assert_nothing_left();
        }
    }
    let mut scenario = scenario(2, Some(rules(true)), None);
    let guest = knock(&mut scenario, 0, "/");
    let heard = scenario.heard(guest);
    assert_eq!(heard[0]["error"]["message"], "Function auth::check not found in namespace default");
    scenario.assert_nothing_left();
}

// PROTO-122, PROTO-123
#[test]
fn what_a_session_may_call() {
    let expose_functions = vec![
        id_filter("open::*"),
        FunctionFilter::Metadata {
            members: vec![("public".to_owned(), MetadataRule::Exactly("true".to_owned()))],
            namespace: "default".to_owned(),
        },
    ];
    let mut scenario = scenario(3, Some(AccessRules { expose_functions, ..rules(false) }), None);
    let provider = scenario.worker(0, "default", &["open::f", "shut::f"]);
    scenario.say(provider, r#"{"type":"registerfunction","id":"marked::f","metadata":{"public":true}}"#);
    scenario.settle();
    let guest = knock(&mut scenario, 2, "/");
    for (number, id) in ["open::f", "shut::f", "marked::f", "open::missing", "shut::missing"].iter().enumerate() {
        scenario.call(guest, number as u128 + 1, id);
    }
    scenario.settle();
    assert_eq!(scenario.calls(provider), [1, 3]);
    let refused = [(2, "FORBIDDEN"), (4, "function_not_found"), (5, "FORBIDDEN")];
    let mut answers = scenario.answers(guest);
    answers.sort();
    assert_eq!(answers, refused.map(|(number, code)| (number, code.to_owned())));
    scenario.assert_nothing_left();
}

// PROTO-126, PROTO-127
#[test]
fn registrations_pass_hooks_in_order_and_get_a_prefix() {
    for shards in [1, 3] {
        let rules = AccessRules {
            on_function_registration_function_id: Some("hook::function".to_owned()),
            expose_functions: vec![id_filter("*")],
            ..rules(true)
        };
        let mut scenario = scenario(shards, Some(rules), None);
        let guard = scenario.worker(0, "default", &["auth::check", "hook::function"]);
        let guest = knock(&mut scenario, shards - 1, "/");
        let (id, _) = next_call(&mut scenario, guard);
        reply(&mut scenario, guard, &id, &json!({"function_registration_prefix": "P", "context": {"c": 1}}));
        scenario.announce(guest, "default");
        scenario.say(guest, r#"{"type":"registerfunction","id":"a","description":"d"}"#);
        scenario.say(guest, r#"{"type":"registerfunction","id":"b"}"#);
        scenario.call(guest, 1, "P::renamed");
        scenario.settle();
        let (id, call) = next_call(&mut scenario, guard);
        let asked = json!({"function_id": "a", "description": "d", "metadata": null, "namespace": "default",
            "context": {"c": 1}});
        assert_eq!(call["data"], asked);
        reply(&mut scenario, guard, &id, &json!({"function_id": "renamed"}));
        let (id, call) = next_call(&mut scenario, guard);
        assert_eq!(call["data"]["function_id"], "b", "the next one waited for the first");
        reply(&mut scenario, guard, &id, &json!("no object"));
        let heard = scenario.heard(guest);
        let call = heard.iter().find(|message| message["type"] == "invokefunction").expect("its own call comes last");
        assert_eq!(call["function_id"], "renamed", "the worker knows it without the prefix");
        let caller = scenario.worker(0, "default", &[]);
        scenario.call(caller, 2, "P::b");
        scenario.settle();
        assert_eq!(scenario.answers(caller), [(2, "function_not_found".to_owned())], "dropped by the hook");
        scenario.assert_nothing_left();
    }
}

// PROTO-126: what a session may bind.
#[test]
fn triggers_of_a_session() {
    let mut scenario = scenario(2, Some(rules(true)), None);
    let guard = scenario.worker(0, "default", &["auth::check", "secret::f"]);
    let guest = knock(&mut scenario, 1, "/");
    let (id, _) = next_call(&mut scenario, guard);
    let granted = json!({"allowed_trigger_types": ["engine::workers-available"], "function_registration_prefix": "P"});
    reply(&mut scenario, guard, &id, &granted);
    scenario.announce(guest, "default");
    scenario.say(guest, r#"{"type":"registerfunction","id":"own"}"#);
    for (id, kind, target) in [
        ("t1", "engine::workers-available", "own"),
        ("t2", "engine::workers-available", "secret::f"),
        ("t3", "engine::functions-available", "own"),
    ] {
        let message =
            json!({"type": "registertrigger", "id": id, "trigger_type": kind, "function_id": target, "config": {}});
        scenario.say(guest, &message.to_string());
    }
    scenario.settle();
    let heard = scenario.heard(guest);
    let refused: Vec<_> = heard
        .iter()
        .filter(|message| message["type"] == "triggerregistrationresult")
        .map(|message| (message["id"].clone(), message["error"]["code"].clone(), message["error"]["message"].clone()))
        .collect();
    assert_eq!(
        refused,
        [
            (json!("t2"), json!("FORBIDDEN"), json!("function 'P::secret::f' not allowed in namespace 'default'")),
            (
                json!("t3"),
                json!("FORBIDDEN"),
                json!("Trigger type 'engine::functions-available' is not allowed for this session.")
            ),
        ]
    );
    scenario.worker(0, "default", &[]);
    let (_, event) = next_events(&mut scenario, guest);
    assert_eq!(event["function_id"], "own", "one may bind what one has registered");
    scenario.assert_nothing_left();
}

fn next_events(scenario: &mut Scenario, peer: Peer) -> (usize, Value) {
    let heard = scenario.heard(peer);
    let events: Vec<_> = heard.iter().filter(|message| message["type"] == "invokefunction").collect();
    assert!(!events.is_empty(), "{heard:?}");
    (events.len(), (**events[0]).clone())
}

// PROTO-125
#[test]
fn middleware_sees_every_call() {
    for shards in [1, 3] {
        let mut scenario = scenario(shards, None, Some("mw::all"));
        let guest = knock(&mut scenario, shards - 1, "/");
        scenario.call(guest, 1, "svc::f");
        scenario.settle();
        assert_eq!(scenario.answers(guest), [(1, "function_not_found".to_owned())]);
        let middle = scenario.worker(0, "default", &["mw::all"]);
        let call = json!({"type": "invokefunction", "invocation_id": iii_shards::sim::scenario::invocation(2).to_string(),
            "function_id": "svc::f", "data": {"x": 1, "_caller_worker_id": "forged"}, "metadata": {"m": 1}});
        scenario.say(guest, &call.to_string());
        scenario.settle();
        let (id, call) = next_call(&mut scenario, middle);
        let seen = json!({"function_id": "svc::f", "payload": {"x": 1}, "action": null, "context": {},
            "namespace": "default"});
        assert_eq!((&call["data"], &call["metadata"]), (&seen, &json!({"m": 1})));
        reply(&mut scenario, middle, &id, &json!("through"));
        let heard = scenario.heard(guest);
        let answer = heard.iter().find(|message| message["type"] == "invocationresult").expect("it is answered");
        assert_eq!((&answer["result"], &answer["function_id"]), (&json!("through"), &json!("svc::f")));
        scenario.call(guest, 3, "engine::health::check");
        scenario.settle();
        assert!(heard_types(&mut scenario, middle).is_empty(), "engine functions are not its business");
        scenario.assert_nothing_left();
    }
}

// ENG-8, PROTO-124
#[test]
fn discovery_shows_what_may_be_called() {
    let expose_functions = vec![id_filter("open::*"), id_filter("engine::functions::*")];
    let mut scenario = scenario(2, Some(AccessRules { expose_functions, ..rules(true) }), None);
    let guard = scenario.worker(0, "default", &["auth::check", "open::f", "shut::f"]);
    let guest = knock(&mut scenario, 1, "/");
    let (id, _) = next_call(&mut scenario, guard);
    reply(&mut scenario, guard, &id, &json!({"namespaces": {"blue": ["*"]}}));
    scenario.announce(guest, "red");
    scenario.call(guest, 1, "engine::functions::list");
    scenario.call_with(guest, 2, "engine::functions::info", r#"{"function_id":"shut::f"}"#);
    scenario.call_with(guest, 3, "engine::workers::register", r#"{"namespace":"red"}"#);
    scenario.call_with(guest, 4, "engine::workers::register", r#"{"namespace":"blue"}"#);
    scenario.settle();
    let mut answers = scenario.answers(guest);
    answers.sort();
    assert!(answers[0].1.contains("open::f") && !answers[0].1.contains("shut::f"), "{answers:?}");
    let rest: Vec<_> = answers[1..].iter().map(|(number, outcome)| (*number, outcome.as_str())).collect();
    assert_eq!(rest, [(2, "FORBIDDEN"), (3, "FORBIDDEN"), (4, r#"{"success":true}"#)]);
    scenario.assert_nothing_left();
}

// A guest who hangs up while it is asked about leaves nothing.
#[test]
fn nobody_waits_for_a_guest_who_has_left() {
    let mut scenario = scenario(2, Some(rules(true)), None);
    let guard = scenario.worker(0, "default", &["auth::check"]);
    let guest = knock(&mut scenario, 1, "/");
    scenario.reset(guest);
    scenario.settle();
    let (id, _) = next_call(&mut scenario, guard);
    reply(&mut scenario, guard, &id, &json!({}));
    scenario.assert_nothing_left();
}
