//! The released SDKs against the engine: what a user's workers see.
//!
//! Two generations in each of two languages, on one shard and on four. Each scenario starts one worker per SDK and lets
//! every worker call every other, so both languages, both directions and all version pairs are covered.

mod support;

use serde_json::{Value, json};
use support::sdk::{SDKS, SdkWorker};
use support::{Engine, each_shard_count, error_code};

/// One worker per SDK; the prefix of its functions is the SDK's label.
fn one_of_each(engine: &Engine) -> Vec<SdkWorker> {
    SDKS.iter().map(|sdk| sdk.worker(engine, &sdk.label())).collect()
}

/// Calls from each worker to each, itself included.
fn each_pair(workers: &mut [SdkWorker], check: impl Fn(&mut SdkWorker, &str)) {
    let prefixes: Vec<_> = workers.iter().map(|worker| worker.prefix.clone()).collect();
    for caller in workers {
        for target in &prefixes {
            eprintln!("{} calls {target}", caller.prefix);
            check(caller, target);
        }
    }
}

#[test]
fn values_cross_between_all_sdks() {
    each_shard_count(|engine| {
        let mut workers = one_of_each(engine);
        each_pair(&mut workers, |caller, target| {
            let values = [
                json!({"a": 1, "z": "é", "nested": {"k": [1, 2.5, null, true]}}),
                json!([1, 2]),
                json!("text"),
                json!(0),
                json!(false),
                // Python leaves a payload of None out of the frame; it must arrive as null (PROTO-24).
                Value::Null,
            ];
            for value in values {
                assert_eq!(caller.call(&format!("{target}::echo"), value.clone()), Ok(json!({"echo": value})));
            }
            assert_eq!(caller.call(&format!("{target}::nothing"), json!({})), Ok(Value::Null));
        });
    });
}

#[test]
fn a_failing_handler_reaches_the_caller() {
    each_shard_count(|engine| {
        let mut workers = one_of_each(engine);
        each_pair(&mut workers, |caller, target| {
            let outcome = caller.call(&format!("{target}::throw"), json!({}));
            assert_eq!(error_code(&outcome), "invocation_failed");
            let message = outcome.unwrap_err()["message"].to_string();
            assert!(message.contains("handler failed on purpose"), "{message}");
        });
    });
}

#[test]
fn an_unknown_function_is_reported_at_once() {
    each_shard_count(|engine| {
        for mut caller in one_of_each(engine) {
            assert_eq!(error_code(&caller.call("no::such", json!({"a": 1}))), "function_not_found");
        }
    });
}

#[test]
fn a_void_call_runs_and_returns_nothing() {
    each_shard_count(|engine| {
        let mut workers = one_of_each(engine);
        for caller in 0..workers.len() {
            for target in 0..workers.len() {
                let sent = json!({"from": caller, "to": target});
                let function = format!("{}::event", workers[target].prefix);
                workers[caller].call_void(&function, sent.clone());
                assert_eq!(workers[target].handled("event"), sent);
                // Nobody hears of an unknown function or a failing handler, and the connection lives on.
                workers[caller].call_void("no::such", json!({}));
                let throwing = format!("{}::throw", workers[target].prefix);
                workers[caller].call_void(&throwing, json!({}));
                workers[target].handled("throw");
            }
        }
    });
}

#[test]
fn a_worker_killed_during_a_call_fails_the_call() {
    each_shard_count(|engine| {
        let mut callers = one_of_each(engine);
        for (index, sdk) in SDKS.iter().enumerate() {
            let mut provider = sdk.worker(engine, &format!("doomed-{}", sdk.label()));
            let slow = format!("{}::slow", provider.prefix);
            let calls: Vec<_> =
                callers.iter_mut().map(|caller| caller.start_call(&slow, json!({"ms": 60_000}))).collect();
            for _ in &calls {
                provider.handled("slow");
            }
            provider.kill();
            for (caller, call) in callers.iter_mut().zip(calls) {
                assert_eq!(error_code(&caller.outcome(call)), "invocation_stopped");
            }
            let caller = &mut callers[index];
            assert_eq!(error_code(&caller.call(&slow, json!({"ms": 1}))), "function_not_found");
        }
    });
}

#[test]
fn workers_survive_an_engine_killed_and_restarted() {
    restart_under_workers(Engine::kill);
}

/// PROTO-18: a worker comes back only after the right close code.
#[test]
fn workers_survive_an_engine_stopped_and_restarted() {
    restart_under_workers(|engine| {
        let status = engine.terminate();
        assert!(status.success(), "SIGTERM is a clean stop: {status}");
    });
}

fn restart_under_workers(stop: impl Fn(&mut Engine)) {
    for shards in support::SHARD_COUNTS {
        let mut engine = Engine::start(shards);
        let mut workers = one_of_each(&engine);
        stop(&mut engine);
        engine.start_again();
        for worker in &workers {
            engine.wait_for_function(&format!("{}::slow", worker.prefix));
        }
        each_pair(&mut workers, |caller, target| {
            let echo = format!("{target}::echo");
            assert_eq!(caller.call(&echo, json!({"again": true})), Ok(json!({"echo": {"again": true}})));
        });
    }
}
