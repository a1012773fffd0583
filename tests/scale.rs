//! Many at once: pending calls, workers, and one busy function among others.
//!
//! No figure here is a benchmark; `loadtest` measures. These tests prove that the numbers are possible without an error.

mod support;

use support::sandbox::raise_descriptor_limit;
use support::{Engine, RawWorker, each_shard_count, json};

fn id(number: u64) -> String {
    format!("00000000-0000-4000-c000-{number:012x}")
}

/// Sends calls in batches, so that neither side's buffers hold all of them.
fn send_calls(caller: &mut RawWorker, function: &str, numbers: std::ops::Range<u64>) {
    for number in numbers {
        let call =
            json!({"type": "invokefunction", "invocation_id": id(number), "function_id": function, "data": number});
        caller.queue(&call);
    }
    caller.flush();
}

fn answer_all(provider: &mut RawWorker, delivered: &[String], function: &str) {
    for delivery in delivered {
        let result =
            json!({"type": "invocationresult", "invocation_id": delivery, "function_id": function, "result": 1});
        provider.queue(&result);
    }
    provider.flush();
}

// T29: fifty thousand calls wait on one shard, and every one is answered.
#[test]
fn fifty_thousand_calls_may_wait() {
    const CALLS: u64 = 50_000;
    const BATCH: u64 = 1_000;
    let engine = Engine::start(1);
    let mut provider = RawWorker::serving(&engine, "provider", &["patient"]);
    let mut caller = RawWorker::named(&engine, "caller");
    let mut delivered = Vec::new();
    for first in (0..CALLS).step_by(BATCH as usize) {
        send_calls(&mut caller, "patient", first..first + BATCH);
        for number in first..first + BATCH {
            let delivery = provider.expect("invokefunction");
            assert_eq!(delivery["data"], number);
            delivered.push(delivery["invocation_id"].as_str().expect("it wants an answer").to_owned());
        }
    }
    let pending = engine.resident_bytes();
    for batch in delivered.chunks(BATCH as usize) {
        answer_all(&mut provider, batch, "patient");
        for _ in batch {
            assert_eq!(caller.expect("invocationresult")["result"], 1);
        }
    }
    eprintln!("{CALLS} pending calls: {} MiB resident", pending >> 20);
    caller.expect_silence();
    provider.confirm(&["patient"]);
}

// T29: they all stop at once when their provider leaves.
#[test]
fn fifty_thousand_waiting_calls_stop_together() {
    const CALLS: u64 = 50_000;
    let engine = Engine::start(1);
    let mut provider = RawWorker::serving(&engine, "provider", &["doomed"]);
    let mut caller = RawWorker::named(&engine, "caller");
    for first in (0..CALLS).step_by(1_000) {
        send_calls(&mut caller, "doomed", first..first + 1_000);
        for _ in 0..1_000 {
            provider.expect("invokefunction");
        }
    }
    provider.vanish();
    for _ in 0..CALLS {
        assert_eq!(caller.expect("invocationresult")["error"]["code"], "invocation_stopped");
    }
    caller.round_trip();
}

// T30: while one function drowns in calls, the others are served.
#[test]
fn a_flooded_function_does_not_hold_up_the_others() {
    each_shard_count(|engine| {
        let mut flooded = RawWorker::serving(engine, "flooded", &["hot"]);
        let names: Vec<_> = (0..16).map(|number| format!("cool::{number}")).collect();
        let mut quiet: Vec<_> = names.iter().map(|name| RawWorker::serving(engine, "quiet", &[name])).collect();
        let mut floods: Vec<_> = (0..4).map(|_| RawWorker::named(engine, "flood")).collect();
        let mut caller = RawWorker::named(engine, "caller");
        for round in 0..10 {
            for flood in &mut floods {
                send_calls(flood, "hot", round * 500..(round + 1) * 500);
            }
            for (name, worker) in names.iter().zip(&mut quiet) {
                let call = caller.invoke(name, json!(round));
                let delivery = worker.expect("invokefunction");
                worker.answer(&delivery, json!("served"));
                assert_eq!(caller.result(&call), Ok(json!("served")));
            }
        }
        // The flood itself loses nothing either.
        for _ in 0..10 * 500 * floods.len() {
            let delivery = flooded.expect("invokefunction");
            flooded.queue(&json!({
                "type": "invocationresult", "invocation_id": delivery["invocation_id"], "function_id": "hot", "result": 1,
            }));
        }
        flooded.flush();
        for flood in &mut floods {
            for _ in 0..5_000 {
                assert_eq!(flood.expect("invocationresult")["result"], 1);
            }
        }
    });
}

// Ten thousand workers connected, a thousand of them calling at once, without an error.
#[test]
fn ten_thousand_workers_with_a_thousand_calling() {
    const PROVIDERS: usize = 10;
    // Both ends of every connection: this process holds one, the engine the other.
    let limit = raise_descriptor_limit(11_500) as usize;
    let idle = 10_000.min(limit.saturating_sub(1_200));
    let callers = 1_000.min(idle / 2);
    println!("descriptor limit {limit}: {idle} workers, {callers} of them calling");
    let engine = Engine::command(4).start();
    let names: Vec<_> = (0..PROVIDERS).map(|number| format!("busy::{number}")).collect();
    let mut providers: Vec<_> = names.iter().map(|name| RawWorker::serving(&engine, "provider", &[name])).collect();
    let before = engine.resident_bytes();
    let mut workers: Vec<_> = (0..idle).map(|number| RawWorker::named(&engine, &format!("worker-{number}"))).collect();
    let grown = engine.resident_bytes().saturating_sub(before);
    println!("{idle} idle workers: {} KiB resident each", grown / 1024 / idle as u64);
    for round in 0..3 {
        for (number, caller) in workers.iter_mut().take(callers).enumerate() {
            send_calls(caller, &names[number % PROVIDERS], round..round + 1);
        }
        for provider in &mut providers {
            for _ in 0..callers / PROVIDERS {
                let delivery = provider.expect("invokefunction");
                provider.answer(&delivery, delivery["data"].clone());
            }
        }
        for caller in workers.iter_mut().take(callers) {
            let answer = caller.expect("invocationresult");
            assert_eq!((&answer["invocation_id"], &answer["result"]), (&json!(id(round)), &json!(round)));
        }
    }
    // Everyone is still there.
    for worker in &mut workers {
        worker.round_trip();
    }
    drop(workers);
    support::eventually("the engine lets go of ten thousand sockets", || {
        (engine.open_descriptors() < 1_000).then_some(())
    });
    for (provider, name) in providers.iter_mut().zip(&names) {
        provider.confirm(&[name]);
    }
}
