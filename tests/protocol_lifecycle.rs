//! From greeting to clean-up: registration before the announcement, coming back, and leaving.

mod support;

use support::{Ending, Engine, RawWorker, SILENCE, each_shard_count, error_code, eventually, json};

const STOPPED: &str = "invocation_stopped";

fn is_uuid(text: &str) -> bool {
    let parts: Vec<_> = text.split('-').map(str::len).collect();
    parts == [8, 4, 4, 4, 12] && text.chars().all(|digit| digit == '-' || matches!(digit, '0'..='9' | 'a'..='f'))
}

// PROTO-40, PROTO-41: the greeting comes first, with two fresh UUIDs and no features.
#[test]
fn every_connection_is_greeted() {
    let engine = Engine::start(4);
    let workers: Vec<_> = (0..20).map(|_| RawWorker::connect(&engine)).collect();
    let mut seen: Vec<_> = workers.iter().flat_map(|worker| [&worker.id, &worker.token]).collect();
    assert!(seen.iter().all(|id| is_uuid(id)), "{seen:?}");
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 40, "ids and tokens are all different");
}

// PROTO-41
#[test]
fn the_greeting_promises_no_features() {
    let engine = Engine::start(1);
    let mut socket = support::RawSocket::open(engine.port, "/");
    let greeting: support::Value = serde_json::from_slice(&socket.read_frame().unwrap().payload).unwrap();
    let mut members: Vec<_> = greeting.as_object().unwrap().keys().map(String::as_str).collect();
    members.sort_unstable();
    assert_eq!(members, ["reattach_token", "type", "worker_id"]);
}

// PROTO-43: a call to one's own function made before the announcement waits with the registration.
#[test]
fn calls_to_parked_functions_wait_in_line() {
    each_shard_count(|engine| {
        let mut worker = RawWorker::connect(engine);
        worker.register("own");
        let call = worker.invoke("own", json!(1));
        worker.announce(json!({"runtime": "node", "version": "0.22.1", "name": "early", "namespace": null}));
        let delivery = worker.expect("invokefunction");
        worker.answer(&delivery, json!("ran"));
        assert_eq!(worker.result(&call), Ok(json!("ran")));
    });
}

// PROTO-43: only calls to parked functions wait.
#[test]
fn other_calls_do_not_wait_for_the_announcement() {
    each_shard_count(|engine| {
        let mut provider = RawWorker::serving(engine, "provider", &["elsewhere"]);
        let mut worker = RawWorker::connect(engine);
        worker.register("own");
        let call = worker.invoke("elsewhere", json!(1));
        let delivery = provider.expect("invokefunction");
        provider.answer(&delivery, json!("ran"));
        assert_eq!(worker.result(&call), Ok(json!("ran")));
    });
}

// PROTO-43, decision 11: a client that never announces itself is served after a short grace.
#[test]
fn registrations_without_announcement_take_effect_after_the_grace() {
    each_shard_count(|engine| {
        let mut provider = RawWorker::connect(engine);
        provider.register("silent::f");
        engine.wait_for_function("silent::f");
        let mut caller = RawWorker::named(engine, "caller");
        let call = caller.invoke("silent::f", json!(1));
        let delivery = provider.expect("invokefunction");
        provider.answer(&delivery, json!(2));
        assert_eq!(caller.result(&call), Ok(json!(2)));
    });
}

// Decision 11: a late announcement of another namespace moves what was registered.
#[test]
fn a_late_namespace_takes_the_functions_along() {
    each_shard_count(|engine| {
        let mut provider = RawWorker::connect(engine);
        provider.register("moving::f");
        engine.wait_for_function("moving::f");
        provider.announce(json!({"runtime": "python", "version": "0.25.0", "name": "late", "namespace": "elsewhere"}));
        provider.confirm_in(&["moving::f"], Some("elsewhere"));
        let mut caller = RawWorker::named(engine, "caller");
        eventually("moving::f leaves the default namespace", || {
            caller.call_briefly("moving::f", json!(1))?.is_err().then_some(())
        });
    });
}

// PROTO-48: the provider is gone: its calls stop at once, its functions vanish.
#[test]
fn a_lost_provider_stops_its_calls() {
    each_shard_count(|engine| {
        for politely in [true, false] {
            let mut provider = RawWorker::serving(engine, "provider", &["doomed", "doomed::too"]);
            let mut callers = [RawWorker::named(engine, "a"), RawWorker::named(engine, "b")];
            let calls: Vec<_> = callers.iter_mut().map(|caller| caller.invoke("doomed", json!({}))).collect();
            for _ in &calls {
                provider.expect("invokefunction");
            }
            if politely {
                provider.close();
            } else {
                provider.vanish();
            }
            for (caller, call) in callers.iter_mut().zip(&calls) {
                let stopped = json!({"code": STOPPED, "message": "Invocation stopped"});
                assert_eq!(caller.result(call), Err(stopped));
                for function in ["doomed", "doomed::too"] {
                    assert_eq!(error_code(&caller.call(function, json!({}))), "function_not_found");
                }
            }
        }
    });
}

// PROTO-48: the caller is gone: nobody tells the callee, and its late answer goes nowhere.
#[test]
fn a_lost_caller_is_forgotten() {
    each_shard_count(|engine| {
        let mut provider = RawWorker::serving(engine, "provider", &["slow"]);
        let mut caller = RawWorker::named(engine, "caller");
        caller.invoke("slow", json!({}));
        let delivery = provider.expect("invokefunction");
        caller.vanish();
        provider.expect_silence();
        provider.answer(&delivery, json!("too late"));
        provider.confirm(&["slow"]);
    });
}

// PROTO-48: a worker may leave with calls to itself open.
#[test]
fn a_worker_calling_itself_may_leave() {
    each_shard_count(|engine| {
        let mut worker = RawWorker::serving(engine, "selfish", &["self"]);
        for _ in 0..100 {
            worker.invoke("self", json!({}));
        }
        worker.expect("invokefunction");
        worker.vanish();
        engine.wait_until_gone("self");
    });
}

// PROTO-46: the newcomer with the right token replaces the old connection, which still looks alive.
#[test]
fn reattaching_replaces_the_old_connection() {
    each_shard_count(|engine| {
        let mut old = RawWorker::serving(engine, "worker", &["mine", "mine::only"]);
        let mut caller = RawWorker::named(engine, "caller");
        let call = caller.invoke("mine", json!({}));
        old.expect("invokefunction");
        let mut new = RawWorker::connect(engine);
        assert_ne!((&new.id, &new.token), (&old.id, &old.token));
        new.send(json!({"type": "reattach", "previous_worker_id": old.id, "reattach_token": old.token}));
        new.register("mine");
        new.announce(json!({"runtime": "node", "version": "0.22.1", "name": "worker", "pid": std::process::id()}));
        new.confirm(&["mine"]);
        assert_eq!(error_code(&caller.result(&call)), STOPPED);
        // PROTO-18: the old socket must not hear a code that makes a client stay away.
        assert!(matches!(old.ending(), Ending::Dropped | Ending::Close(Some(1012))));
        assert_eq!(error_code(&caller.call("mine::only", json!({}))), "function_not_found");
    });
}

// PROTO-46: without the right id and token nothing happens.
#[test]
fn a_false_reattach_is_ignored() {
    each_shard_count(|engine| {
        let mut old = RawWorker::serving(engine, "worker", &["mine"]);
        let mut new = RawWorker::connect(engine);
        let own = json!({"type": "reattach", "previous_worker_id": new.id, "reattach_token": new.token});
        for message in [
            own,
            json!({"type": "reattach", "previous_worker_id": old.id}),
            json!({"type": "reattach", "previous_worker_id": old.id, "reattach_token": null}),
            json!({"type": "reattach", "previous_worker_id": old.id, "reattach_token": new.token}),
            json!({"type": "reattach", "previous_worker_id": old.id, "reattach_token": "nonsense"}),
            json!({"type": "reattach", "previous_worker_id": new.token, "reattach_token": old.token}),
            json!({"type": "reattach", "previous_worker_id": "nonsense", "reattach_token": old.token}),
            json!({"type": "reattach", "previous_worker_id": 7, "reattach_token": 7}),
        ] {
            new.send(message);
        }
        new.round_trip();
        new.expect_silence();
        old.confirm(&["mine"]);
    });
}

// PROTO-48 (do better): who reattaches within ten seconds still gets the results of its calls.
#[test]
fn results_follow_a_reattached_caller() {
    each_shard_count(|engine| {
        for old_is_alive in [true, false] {
            let mut provider = RawWorker::serving(engine, "provider", &["slow"]);
            let mut old = RawWorker::named(engine, "caller");
            let call = old.invoke("slow", json!({}));
            let delivery = provider.expect("invokefunction");
            let (id, token) = (old.id.clone(), old.token.clone());
            let kept = if old_is_alive {
                Some(old)
            } else {
                old.vanish();
                None
            };
            let mut new = RawWorker::connect(engine);
            new.send(json!({"type": "reattach", "previous_worker_id": id, "reattach_token": token}));
            new.announce(json!({"runtime": "node", "version": "0.22.1", "name": "caller", "pid": 7}));
            new.round_trip();
            provider.answer(&delivery, json!("worth the wait"));
            assert_eq!(new.result(&call), Ok(json!("worth the wait")), "old connection alive: {old_is_alive}");
            drop(kept);
            provider.close();
            engine.wait_until_gone("slow");
        }
    });
}

// PROTO-48: also an answer that came while the caller was away.
#[test]
fn results_wait_for_a_caller_that_is_away() {
    each_shard_count(|engine| {
        let mut provider = RawWorker::serving(engine, "provider", &["slow"]);
        let mut old = RawWorker::named(engine, "caller");
        let call = old.invoke("slow", json!({}));
        let delivery = provider.expect("invokefunction");
        let (id, token) = (old.id.clone(), old.token.clone());
        old.vanish();
        eventually("the engine notices the loss", || {
            let mut probe = RawWorker::connect(engine);
            let listed = probe.call("engine::workers::list", json!({"search": "caller"})).ok()?;
            listed["workers"].as_array()?.is_empty().then_some(())
        });
        provider.answer(&delivery, json!("kept"));
        provider.round_trip();
        let mut new = RawWorker::connect(engine);
        new.send(json!({"type": "reattach", "previous_worker_id": id, "reattach_token": token}));
        assert_eq!(new.result(&call), Ok(json!("kept")));
    });
}

// PROTO-133: a handler that outlived its connection answers on the new one; nobody waits for that any more.
#[test]
fn a_late_result_on_the_new_connection_is_ignored() {
    each_shard_count(|engine| {
        let mut old = RawWorker::serving(engine, "worker", &["slow"]);
        let mut caller = RawWorker::named(engine, "caller");
        let call = caller.invoke("slow", json!({}));
        let delivery = old.expect("invokefunction");
        let (id, token) = (old.id.clone(), old.token.clone());
        old.vanish();
        assert_eq!(error_code(&caller.result(&call)), STOPPED);
        let mut new = RawWorker::connect(engine);
        new.send(json!({"type": "reattach", "previous_worker_id": id, "reattach_token": token}));
        new.register("slow");
        new.answer(&delivery, json!("late"));
        new.announce(json!({"runtime": "node", "version": "0.22.1", "name": "worker", "pid": 7}));
        new.confirm(&["slow"]);
        assert_eq!(caller.recv_within(SILENCE), None, "the call was already answered");
    });
}

// PROTO-45: equal worker names are fine.
#[test]
fn equal_names_are_allowed() {
    each_shard_count(|engine| {
        let mut one = RawWorker::serving(engine, "twin", &["twin::one"]);
        let mut two = RawWorker::serving(engine, "twin", &["twin::two"]);
        one.confirm(&["twin::one"]);
        two.confirm(&["twin::two"]);
        two.expect_silence();
    });
}

// PROTO-110: services of the first generation are taken in without a word.
#[test]
fn services_are_accepted_in_silence() {
    let engine = Engine::start(1);
    let mut worker = RawWorker::named(&engine, "worker");
    worker.send(json!({"type": "registerservice", "id": "payments", "name": "payments", "description": "Payments"}));
    worker.send(json!({"type": "registerservice", "id": "payments::refunds", "parent_service_id": "payments"}));
    worker.round_trip();
    worker.expect_silence();
}
