//! Situation: workers that register, call, answer, misbehave, leave and come back, on shards whose rings are full and
//! whose sockets deliver in pieces. Expectation: the ledger's, see `sim::ledger`. Provoked by random schedules: a few
//! thousand here; `SIM_SCHEDULES=1000000` for a long run, `SIM_SEED=n` for one of them.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "no shard runs in a test's threads")]

use iii_shards::sim::swarm::{Plan, Summary, run};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

const SCHEDULES: u64 = 3_000;
const STEPS: usize = 300;
/// Failures told in full.
const FAILURES_SHOWN: usize = 10;

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn run_seed(seed: u64) -> Result<Summary, String> {
    let shards = [1, 2, 4][seed as usize % 3];
    let steps = variable("SIM_STEPS").map_or(STEPS, |steps| steps as usize);
    run(Plan { shards, seed, steps }).map_err(|problem| format!("SIM_SEED={seed}: {problem}"))
}

#[test]
fn every_schedule_keeps_the_promises() {
    if let Some(seed) = variable("SIM_SEED") {
        println!("{:#?}", run_seed(seed).unwrap_or_else(|problem| panic!("{problem}")));
        return;
    }
    let schedules = variable("SIM_SCHEDULES").unwrap_or(SCHEDULES);
    let first = variable("SIM_FIRST").unwrap_or(1);
    let next = AtomicU64::new(first);
    let total = Mutex::new((Summary::default(), Vec::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + schedules {
                        return;
                    }
                    let outcome = run_seed(seed);
                    let (total, failures) = &mut *total.lock().expect("no thread panics");
                    match outcome {
                        Ok(one) => {
                            total.calls += one.calls;
                            total.links += one.links;
                            for (kind, count) in one.tally {
                                *total.tally.entry(kind).or_default() += count;
                            }
                        }
                        Err(problem) => failures.push(problem),
                    }
                }
            });
        }
    });
    let (total, failures) = total.into_inner().expect("no thread panics");
    println!("{schedules} schedules: {total:#?}");
    let shown = failures.iter().take(FAILURES_SHOWN).map(String::as_str).collect::<Vec<_>>().join("\n");
    assert!(failures.is_empty(), "{} of {schedules} schedules failed:\n{shown}", failures.len());
    // A swarm that never reaches the interesting ends proves nothing.
    for kind in ["result", "function_not_found", "invocation_stopped", "invocation_error", "worker_overloaded"] {
        assert!(total.tally.contains_key(kind), "no call ended with {kind}");
    }
}
