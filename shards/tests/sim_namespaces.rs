//! Situation: a worker registers before it has named its namespace. Expectation: what it registers waits, in order,
//! for the announcement or the grace period, and so do calls to its own functions (PROTO-43); a later announcement
//! moves what the grace period has put into `default`. Provoked by announcing late, or not at all.

use iii_shards::sim::scenario::{Peer, Scenario};

fn call_in(scenario: &mut Scenario, caller: Peer, number: u128, namespace: &str, function_id: &str) {
    let id = iii_shards::sim::scenario::invocation(number);
    scenario.say(
        caller,
        &format!(
            r#"{{"type":"invokefunction","invocation_id":"{id}","function_id":"{function_id}","namespace":"{namespace}","data":null}}"#
        ),
    );
    scenario.settle();
}

#[test]
fn registrations_wait_for_the_announcement() {
    let mut scenario = Scenario::new(2);
    let worker = scenario.connect(1);
    let caller = scenario.worker(0, "default", &[]);
    scenario.say(worker, r#"{"type":"registerfunction","id":"f"}"#);
    scenario.call(worker, 7, "f");
    scenario.settle();
    call_in(&mut scenario, caller, 1, "default", "f");
    assert_eq!(scenario.answers(caller), [(1, "function_not_found".to_owned())]);
    scenario.announce(worker, "default");
    scenario.settle();
    assert_eq!(scenario.calls(worker), [7], "the call it made too early");
    call_in(&mut scenario, caller, 2, "default", "f");
    assert_eq!(scenario.calls(worker), [2]);
    scenario.assert_nothing_left();
}

#[test]
fn the_grace_period_ends_in_default_and_an_announcement_moves_on() {
    let mut scenario = Scenario::new(2);
    let worker = scenario.connect(1);
    let caller = scenario.worker(0, "default", &[]);
    scenario.say(worker, r#"{"type":"registerfunction","id":"f"}"#);
    scenario.settle();
    scenario.advance(250);
    call_in(&mut scenario, caller, 1, "default", "f");
    assert_eq!(scenario.calls(worker), [1]);
    scenario.announce(worker, "blue");
    scenario.settle();
    call_in(&mut scenario, caller, 2, "default", "f");
    call_in(&mut scenario, caller, 3, "blue", "f");
    assert_eq!(scenario.answers(caller), [(2, "function_not_found".to_owned())]);
    assert_eq!(scenario.calls(worker), [3]);
    scenario.assert_nothing_left();
}
