//! Situation: workers that register, call, answer, misbehave, leave and come back, on shards whose rings are full and
//! whose sockets deliver in pieces. Expectation: the ledger's, see `sim::ledger`. Provoked by random schedules: a few
//! thousand here; `SIM_SCHEDULES=1000000` for a long run, `SIM_SEED=n` (and `SIM_SHARDS`) for one of them.

use iii_shards::sim::swarm::{Plan, Summary, run};
use std::sync::atomic::{AtomicU64, Ordering};

const SCHEDULES: u64 = 3_000;
const STEPS: usize = 300;

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn run_seed(seed: u64) -> Summary {
    let shards = variable("SIM_SHARDS").map_or([1, 2, 4][seed as usize % 3], |shards| shards as usize);
    let steps = variable("SIM_STEPS").map_or(STEPS, |steps| steps as usize);
    run(Plan { shards, seed, steps })
        .unwrap_or_else(|problem| panic!("SIM_SEED={seed} SIM_SHARDS={shards} SIM_STEPS={steps}: {problem}"))
}

#[test]
fn every_schedule_keeps_the_promises() {
    if let Some(seed) = variable("SIM_SEED") {
        println!("{:#?}", run_seed(seed));
        return;
    }
    let schedules = variable("SIM_SCHEDULES").unwrap_or(SCHEDULES);
    let first = variable("SIM_FIRST").unwrap_or(1);
    let next = AtomicU64::new(first);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let totals = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let mut total = Summary::default();
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= first + schedules {
                            return total;
                        }
                        let one = run_seed(seed);
                        total.calls += one.calls;
                        total.links += one.links;
                        for (kind, count) in one.tally {
                            *total.tally.entry(kind).or_default() += count;
                        }
                    }
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().expect("a schedule failed, see above")).collect::<Vec<_>>()
    });
    println!("{schedules} schedules: {totals:#?}");
    // A swarm that never reaches the interesting ends proves nothing.
    for kind in ["result", "function_not_found", "invocation_stopped", "invocation_error", "worker_overloaded"] {
        assert!(totals.iter().any(|total| total.tally.contains_key(kind)), "no call ended with {kind}");
    }
}
