//! Registering functions: replacing, sharing, reserved ids, unregistering.

mod support;

use support::{Engine, RawWorker, SHARD_COUNTS, each_shard_count, error_code, json};

/// Announces a process of its own, so that several connections are replicas rather than one process come back.
fn replica(engine: &Engine, number: u32, functions: &[&str]) -> RawWorker {
    let mut worker = RawWorker::connect(engine);
    worker.announce(json!({"runtime": "node", "version": "0.22.1", "name": "replica", "pid": number}));
    for id in functions {
        worker.register(id);
    }
    worker
}

/// The reply says who ran it.
fn answer_as(worker: &mut RawWorker, name: &str) {
    let delivery = worker.expect("invokefunction");
    worker.answer(&delivery, json!(name));
}

// PROTO-50a: registering again on the same connection replaces what is known about the function.
#[test]
fn registering_again_replaces_the_description() {
    each_shard_count(|engine| {
        let mut worker = RawWorker::named(engine, "worker");
        for text in ["first", "second"] {
            worker.send(json!({"type": "registerfunction", "id": "f", "description": text, "metadata": {"v": text}}));
        }
        let listed = worker.call("engine::functions::list", json!({"prefix": "f"})).expect("the list");
        let rows = listed["functions"].as_array().unwrap();
        assert_eq!(rows.len(), 1, "{listed}");
        assert_eq!((&rows[0]["description"], &rows[0]["metadata"]), (&json!("second"), &json!({"v": "second"})));
    });
}

// PROTO-50b: the same process come back takes its function over; the old connection keeps what the new one lacks.
#[test]
fn a_process_come_back_takes_over() {
    each_shard_count(|engine| {
        let mut old = RawWorker::serving(engine, "phoenix", &["shared", "old::only"]);
        let mut new = RawWorker::serving(engine, "phoenix", &["shared"]);
        let mut caller = RawWorker::named(engine, "caller");
        for _ in 0..6 {
            let call = caller.invoke("shared", json!({}));
            answer_as(&mut new, "new");
            assert_eq!(caller.result(&call), Ok(json!("new")));
        }
        let call = caller.invoke("old::only", json!({}));
        answer_as(&mut old, "old");
        assert_eq!(caller.result(&call), Ok(json!("old")));
    });
}

// PROTO-50b, PROTO-53: the call right behind the registration already goes to the newcomer, wherever the old one lives.
#[test]
fn a_takeover_is_effective_for_the_next_frame() {
    each_shard_count(|engine| {
        let mut past = Vec::new();
        for _ in 0..40 {
            past.push(RawWorker::serving(engine, "phoenix", &["shared"]));
        }
        for worker in &mut past {
            assert!(!worker.has_frame(), "an old connection got a call meant for a newer one");
        }
    });
}

// PROTO-50c: replicas share the calls; with equal load, in turn.
#[test]
fn replicas_share_the_calls() {
    each_shard_count(|engine| {
        let mut replicas: Vec<_> = (1..=3).map(|number| replica(engine, number, &["shared"])).collect();
        for one in &mut replicas {
            one.call("engine::functions::list", json!({})).expect("a registration before this call is done");
            one.expect_silence();
        }
        let mut caller = RawWorker::named(engine, "caller");
        let mut counts = [0; 3];
        for _ in 0..30 {
            let call = caller.invoke("shared", json!({}));
            let runner = who_got_it(&mut replicas);
            answer_as(&mut replicas[runner], "done");
            assert_eq!(caller.result(&call), Ok(json!("done")));
            counts[runner] += 1;
        }
        assert_eq!(counts, [10, 10, 10], "equal load goes round in turn");
    });
}

/// Which of the workers has a delivery waiting; it stays in that worker's inbox.
fn who_got_it(workers: &mut [RawWorker]) -> usize {
    support::eventually("one of the replicas gets the call", || workers.iter_mut().position(RawWorker::has_frame))
}

// PROTO-50c: whoever is busy gets less.
#[test]
fn the_idle_replica_is_preferred() {
    each_shard_count(|engine| {
        let mut replicas: Vec<_> = (1..=2).map(|number| replica(engine, number, &["shared"])).collect();
        for one in &mut replicas {
            one.call("engine::functions::list", json!({})).expect("a registration before this call is done");
        }
        engine.wait_for_function("shared");
        let mut caller = RawWorker::named(engine, "caller");
        let pending = caller.invoke("shared", json!("long"));
        let busy = who_got_it(&mut replicas);
        let delivery = replicas[busy].expect("invokefunction");
        for _ in 0..10 {
            let call = caller.invoke("shared", json!("short"));
            answer_as(&mut replicas[1 - busy], "idle one");
            assert_eq!(caller.result(&call), Ok(json!("idle one")));
        }
        replicas[busy].answer(&delivery, json!("at last"));
        assert_eq!(caller.result(&pending), Ok(json!("at last")));
    });
}

// PROTO-50c, PROTO-48: when a replica leaves only its own calls stop; the id goes with the last one.
#[test]
fn the_id_lives_as_long_as_one_replica() {
    each_shard_count(|engine| {
        let mut first = replica(engine, 1, &["shared"]);
        let mut second = replica(engine, 2, &["shared"]);
        for one in [&mut first, &mut second] {
            one.call("engine::functions::list", json!({})).expect("a registration before this call is done");
        }
        let mut caller = RawWorker::named(engine, "caller");
        let calls = [caller.invoke("shared", json!(1)), caller.invoke("shared", json!(2))];
        let kept = second.expect("invokefunction");
        let lost = first.expect("invokefunction");
        first.vanish();
        let (kept_call, lost_call) = if kept["data"] == 1 { (&calls[0], &calls[1]) } else { (&calls[1], &calls[0]) };
        assert_ne!(kept["data"], lost["data"]);
        assert_eq!(error_code(&caller.result(lost_call)), "invocation_stopped");
        second.answer(&kept, json!("still here"));
        assert_eq!(caller.result(kept_call), Ok(json!("still here")));
        for _ in 0..3 {
            let call = caller.invoke("shared", json!(3));
            answer_as(&mut second, "second");
            assert_eq!(caller.result(&call), Ok(json!("second")));
        }
        second.vanish();
        engine.wait_until_gone("shared");
        assert_eq!(error_code(&caller.call("shared", json!({}))), "function_not_found");
    });
}

// PROTO-51, ENG-54: nobody takes the engine's own functions.
#[test]
fn built_in_functions_cannot_be_taken() {
    for shards in SHARD_COUNTS {
        let engine = Engine::start(shards);
        let mut worker = RawWorker::named(&engine, "greedy");
        for id in ["engine::workers::list", "engine::functions::list", "engine::workers::register"] {
            worker.register(id);
            let rejected = json!({
                "type": "registrationrejected", "code": "FUNCTION_NAMESPACE_CONFLICT", "namespace": "default",
                "function_id": id, "owner_worker_id": "iii-engine-functions",
            });
            assert_eq!(worker.recv(), rejected);
        }
        assert!(worker.call("engine::workers::list", json!({})).is_ok(), "the built-in still answers");
        // New ids below engine:: are free in the default namespace.
        worker.register("engine::console::open");
        worker.confirm(&["engine::console::open"]);
    }
}

// PROTO-51: below engine:: in another namespace everything is refused.
#[test]
fn engine_ids_in_other_namespaces_are_refused() {
    each_shard_count(|engine| {
        let mut worker = RawWorker::connect(engine);
        worker.announce(json!({"runtime": "node", "version": "0.23.0", "name": "w", "namespace": "orders"}));
        worker.register("engine::anything");
        let rejected = json!({
            "type": "registrationrejected", "code": "FUNCTION_NAMESPACE_CONFLICT", "namespace": "orders",
            "function_id": "engine::anything", "owner_worker_id": "",
        });
        assert_eq!(worker.recv(), rejected);
        worker.register("fine");
        worker.confirm_in(&["fine"], Some("orders"));
    });
}

// PROTO-55: unregistering takes effect in order, and only on one's own.
#[test]
fn unregistering_removes_ones_own_function() {
    each_shard_count(|engine| {
        let mut owner = RawWorker::serving(engine, "owner", &["mine"]);
        let mut stranger = RawWorker::named(engine, "stranger");
        stranger.send(json!({"type": "unregisterfunction", "id": "mine"}));
        stranger.send(json!({"type": "unregisterfunction", "id": "never::was"}));
        stranger.round_trip();
        owner.confirm(&["mine"]);
        // A call in flight is not affected.
        let call = stranger.invoke("mine", json!({}));
        let delivery = owner.expect("invokefunction");
        owner.send(json!({"type": "unregisterfunction", "id": "mine"}));
        assert_eq!(error_code(&owner.call("mine", json!({}))), "function_not_found");
        owner.answer(&delivery, json!("counted"));
        assert_eq!(stranger.result(&call), Ok(json!("counted")));
        assert_eq!(error_code(&stranger.call("mine", json!({}))), "function_not_found");
    });
}

// PROTO-53: registered and callable, at once, a hundred times.
#[test]
fn a_registration_is_effective_for_the_next_frame() {
    each_shard_count(|engine| {
        let mut worker = RawWorker::named(engine, "worker");
        for round in 0..100 {
            let id = format!("round::{round}");
            worker.register(&id);
            worker.confirm(&[&id]);
            worker.send(json!({"type": "unregisterfunction", "id": id}));
            assert_eq!(error_code(&worker.call(&id, json!({}))), "function_not_found");
        }
    });
}

// ENG-9: the same in the first moments of a connection.
#[test]
fn a_fresh_connection_is_in_order_from_the_start() {
    each_shard_count(|engine| {
        for round in 0..50 {
            let id = format!("fresh::{round}");
            let mut worker = RawWorker::named(engine, "fresh");
            worker.register(&id);
            worker.confirm(&[&id]);
        }
    });
}

// PROTO-57: ids are arbitrary text; only the empty one is none.
#[test]
fn ids_are_arbitrary_text() {
    each_shard_count(|engine| {
        let long = "x".repeat(10_000);
        let ids = ["stream::get(name)", "with spaces and.dots", "ünïcødé::😀", "a\"quote\\slash\n", &long, "::", "/"];
        let mut worker = RawWorker::serving(engine, "odd", &ids);
        worker.register("");
        worker.round_trip();
        assert_eq!(error_code(&worker.call("", json!({}))), "function_not_found");
        worker.confirm(&ids);
    });
}

// PROTO-54: formats are published, not enforced.
#[test]
fn formats_are_not_enforced() {
    let engine = Engine::start(1);
    let mut worker = RawWorker::named(&engine, "worker");
    let format = json!({"type": "object", "required": ["a"], "properties": {"a": {"type": "number"}}});
    worker
        .send(json!({"type": "registerfunction", "id": "strict", "request_format": format, "response_format": format}));
    worker.confirm(&["strict"]);
    let listed = worker.call("engine::functions::list", json!({"prefix": "strict", "include_schemas": true}));
    let row = &listed.expect("the list")["functions"][0];
    assert_eq!((&row["request_format"], &row["response_format"]), (&format, &format));
}

// PROTO-56: a null `invocation` is an ordinary function.
#[test]
fn a_null_invocation_member_is_ordinary() {
    let engine = Engine::start(1);
    let mut worker = RawWorker::named(&engine, "worker");
    worker.send(json!({"type": "registerfunction", "id": "plain", "invocation": null, "metadata": null}));
    worker.confirm(&["plain"]);
}
