//! What was sent first arrives first: calls of one caller to one provider, results to one caller.

mod support;

use support::{RawWorker, Value, each_shard_count, json};

const CALLS: u64 = 2_000;

fn id(number: u64) -> String {
    format!("00000000-0000-4000-b000-{number:012x}")
}

// PROTO-69, decision 16: two thousand calls back to back, tracked and void, arrive in order.
#[test]
fn calls_arrive_in_the_order_sent() {
    each_shard_count(|engine| {
        let mut provider = RawWorker::serving(engine, "provider", &["ordered"]);
        let mut caller = RawWorker::named(engine, "caller");
        for number in 0..CALLS {
            let mut call = json!({"type": "invokefunction", "function_id": "ordered", "data": number});
            match number % 3 {
                0 => call["invocation_id"] = json!(id(number)),
                1 => call["action"] = json!({"type": "void"}),
                _ => {}
            }
            caller.queue(&call);
        }
        caller.flush();
        for number in 0..CALLS {
            assert_eq!(provider.expect("invokefunction")["data"], number);
        }
    });
}

// PROTO-69: also with several functions of one provider, on as many owner shards.
#[test]
fn functions_of_one_provider_keep_the_order_of_their_caller() {
    each_shard_count(|engine| {
        let functions: Vec<_> = (0..16).map(|number| format!("ordered::{number}")).collect();
        let names: Vec<_> = functions.iter().map(String::as_str).collect();
        let mut provider = RawWorker::serving(engine, "provider", &names);
        let mut caller = RawWorker::named(engine, "caller");
        // Once each, so that every shard knows where they live.
        for name in &names {
            let call = caller.invoke(name, json!(null));
            let delivery = provider.expect("invokefunction");
            provider.answer(&delivery, json!(null));
            assert_eq!(caller.result(&call), Ok(Value::Null));
        }
        for number in 0..CALLS {
            let function = names[number as usize % names.len()];
            caller.queue(&json!({"type": "invokefunction", "function_id": function, "data": number}));
        }
        caller.flush();
        for number in 0..CALLS {
            assert_eq!(provider.expect("invokefunction")["data"], number);
        }
    });
}

// PROTO-69: results reach the caller in the order the provider wrote them.
#[test]
fn results_arrive_in_the_order_written() {
    each_shard_count(|engine| {
        let mut provider = RawWorker::serving(engine, "provider", &["ordered"]);
        let mut caller = RawWorker::named(engine, "caller");
        for number in 0..CALLS {
            caller.queue(&json!({
                "type": "invokefunction", "invocation_id": id(number), "function_id": "ordered", "data": number,
            }));
        }
        caller.flush();
        let deliveries: Vec<_> = (0..CALLS).map(|_| provider.expect("invokefunction")).collect();
        // Backwards, so that the order of the results is not by chance the order of the calls.
        for delivery in deliveries.iter().rev() {
            provider.queue(&json!({
                "type": "invocationresult", "invocation_id": delivery["invocation_id"], "function_id": "ordered",
                "result": delivery["data"],
            }));
        }
        provider.flush();
        for number in (0..CALLS).rev() {
            let answer = caller.expect("invocationresult");
            assert_eq!((&answer["invocation_id"], &answer["result"]), (&json!(id(number)), &json!(number)));
        }
    });
}

/// Registers, calls and perhaps unregisters 500 functions of one's own in one go, then announces the connection.
/// Returns what was delivered.
fn burst(worker: &mut RawWorker, unregister: bool) -> Vec<u64> {
    for number in 0..500 {
        let function = format!("burst::{number}");
        worker.queue(&json!({"type": "registerfunction", "id": function}));
        worker.queue(&json!({
            "type": "invokefunction", "invocation_id": id(number), "function_id": function, "data": number,
        }));
        if unregister {
            worker.queue(&json!({"type": "unregisterfunction", "id": function}));
        }
    }
    worker.queue(&json!({
        "type": "invokefunction", "function_id": "engine::workers::register", "action": {"type": "void"},
        "data": {"runtime": "node", "version": "0.22.1", "name": "burst"},
    }));
    worker.flush();
    let deliveries = (0..500).map(|_| worker.expect("invokefunction")["data"].as_u64().expect("a number"));
    deliveries.collect()
}

// PROTO-53, PROTO-43: a call sent behind a registration finds it; sent before an unregistration, it is not affected (PROTO-55).
#[test]
fn a_burst_of_registrations_and_calls_loses_no_call() {
    each_shard_count(|engine| {
        for unregister in [false, true] {
            let mut worker = RawWorker::connect(engine);
            let mut delivered = burst(&mut worker, unregister);
            delivered.sort_unstable();
            assert_eq!(delivered, (0..500).collect::<Vec<_>>(), "with unregistration: {unregister}");
            worker.vanish();
            engine.wait_until_gone("burst::0");
        }
    });
}

// PROTO-69: first in, first out per caller and provider, also for functions that are only just registered.
#[test]
fn a_burst_of_registrations_and_calls_is_in_order() {
    each_shard_count(|engine| {
        let mut worker = RawWorker::connect(engine);
        assert_eq!(burst(&mut worker, false), (0..500).collect::<Vec<_>>());
    });
}
