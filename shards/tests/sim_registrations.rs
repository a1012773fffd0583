//! Situation: a worker registers, calls and unregisters its own functions without waiting for anything. Expectation:
//! each takes effect in the order in which it was said (PROTO-50b, PROTO-53, PROTO-55). Provoked by bursts on every
//! shard, before and after the announcement, with functions owned by every shard.

use iii_shards::sim::scenario::{Peer, Scenario};

const FUNCTIONS: u128 = 60;

fn announce_process(scenario: &mut Scenario, peer: Peer) {
    scenario.say(
        peer,
        r#"{"type":"invokefunction","function_id":"engine::workers::register","action":{"type":"void"},
            "data":{"name":"phoenix","pid":7}}"#,
    );
}

fn burst(scenario: &mut Scenario, peer: Peer, first: u128) {
    for number in 0..FUNCTIONS {
        scenario.say(peer, &format!(r#"{{"type":"registerfunction","id":"own::{number}"}}"#));
        scenario.call(peer, first + number, &format!("own::{number}"));
        scenario.say(peer, &format!(r#"{{"type":"unregisterfunction","id":"own::{number}"}}"#));
    }
}

#[test]
fn a_burst_loses_no_call_and_keeps_the_order() {
    for shards in [1, 2, 4] {
        for home in 0..shards {
            let mut scenario = Scenario::new(shards);
            let worker = scenario.connect(home);
            burst(&mut scenario, worker, 0);
            scenario.announce(worker, "default");
            scenario.settle();
            assert_eq!(scenario.calls(worker), (0..FUNCTIONS).collect::<Vec<_>>());
            burst(&mut scenario, worker, 1_000);
            scenario.settle();
            assert_eq!(scenario.calls(worker), (1_000..1_000 + FUNCTIONS).collect::<Vec<_>>());
            scenario.assert_nothing_left();
        }
    }
}

#[test]
fn a_call_behind_an_unregistration_finds_nobody() {
    for shards in [1, 2, 4] {
        let mut scenario = Scenario::new(shards);
        let worker = scenario.worker(shards - 1, "default", &[]);
        for number in 0..FUNCTIONS {
            let id = format!("own::{number}");
            scenario.say(worker, &format!(r#"{{"type":"registerfunction","id":"{id}"}}"#));
            scenario.say(worker, &format!(r#"{{"type":"unregisterfunction","id":"{id}"}}"#));
            scenario.call(worker, number, &id);
        }
        scenario.settle();
        let missing = |number| (number, "function_not_found".to_owned());
        let mut answers = scenario.answers(worker);
        answers.sort();
        assert_eq!(answers, (0..FUNCTIONS).map(missing).collect::<Vec<_>>());
        scenario.assert_nothing_left();
    }
}

#[test]
fn a_takeover_is_effective_for_the_next_frame() {
    for shards in [1, 2, 4] {
        let mut scenario = Scenario::new(shards);
        let mut past: Vec<Peer> = Vec::new();
        for number in 0..40 {
            let peer = scenario.connect(number as usize % shards);
            announce_process(&mut scenario, peer);
            scenario.settle();
            // Somebody's route on the same shard is in use meanwhile.
            scenario.say(peer, r#"{"type":"registerfunction","id":"shared"}"#);
            scenario.call(peer, number, "shared");
            scenario.settle();
            assert_eq!(scenario.calls(peer), [number], "with {shards} shards");
            for old in &past {
                assert_eq!(scenario.calls(*old), [], "an old connection got a call meant for a newer one");
            }
            past.push(peer);
        }
        scenario.assert_nothing_left();
    }
}
