//! Situation: two workers register one id. Expectation: with `balance` both serve it, with `takeover` the newest does,
//! with `reject` the first does until it leaves (PROTO-50, PROTO-52). Provoked under each policy, from every shard.

use iii_shards::settings::{DuplicateFunctions, Settings};
use iii_shards::sim::scenario::{Peer, Scenario};

fn two(policy: DuplicateFunctions) -> (Scenario, [Peer; 2], Peer) {
    let mut scenario = Scenario::with(Settings { shards: 3, duplicate_functions: policy, ..Settings::default() });
    let workers = [scenario.worker(0, "default", &["f"]), scenario.worker(1, "default", &["f"])];
    let caller = scenario.worker(2, "default", &[]);
    (scenario, workers, caller)
}

fn call_each(scenario: &mut Scenario, workers: [Peer; 2], caller: Peer) -> [usize; 2] {
    for number in 0..10 {
        scenario.call(caller, number, "f");
    }
    scenario.settle();
    workers.map(|worker| {
        let calls = scenario.calls(worker);
        for number in &calls {
            scenario.answer(worker, *number);
        }
        scenario.settle();
        calls.len()
    })
}

#[test]
fn balance_spreads_until_one_is_left() {
    let (mut scenario, workers, caller) = two(DuplicateFunctions::Balance);
    assert_eq!(call_each(&mut scenario, workers, caller), [5, 5]);
    scenario.reset(workers[0]);
    scenario.settle();
    assert_eq!(call_each(&mut scenario, workers, caller), [0, 10]);
    scenario.assert_nothing_left();
}

#[test]
fn takeover_gives_all_to_the_newest_and_back() {
    let (mut scenario, workers, caller) = two(DuplicateFunctions::Takeover);
    assert_eq!(call_each(&mut scenario, workers, caller), [0, 10]);
    scenario.say(workers[0], r#"{"type":"registerfunction","id":"f"}"#);
    scenario.settle();
    assert_eq!(call_each(&mut scenario, workers, caller), [10, 0]);
    scenario.assert_nothing_left();
}

/// Each registers again before it can have heard that the other has taken over.
#[test]
fn takeovers_that_cross_leave_one_provider() {
    let (mut scenario, workers, caller) = two(DuplicateFunctions::Takeover);
    for _ in 0..5 {
        for worker in workers {
            scenario.say(worker, r#"{"type":"registerfunction","id":"f"}"#);
            scenario.say(worker, r#"{"type":"registerfunction","id":"f"}"#);
        }
        scenario.settle();
        let served = call_each(&mut scenario, workers, caller);
        assert!(served == [10, 0] || served == [0, 10], "{served:?}");
    }
    scenario.assert_nothing_left();
}

#[test]
fn reject_keeps_the_first_and_activates_the_next() {
    let (mut scenario, workers, caller) = two(DuplicateFunctions::Reject);
    let refused = scenario.heard_of(workers[1], "registrationrejected", "code");
    assert_eq!(refused, ["FUNCTION_NAMESPACE_CONFLICT"]);
    assert_eq!(call_each(&mut scenario, workers, caller), [10, 0]);
    scenario.reset(workers[0]);
    scenario.settle();
    assert_eq!(call_each(&mut scenario, workers, caller), [0, 10]);
    scenario.assert_nothing_left();
}
