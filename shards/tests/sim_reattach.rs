//! Situation: a worker loses its connection while its calls run, and comes back with its token. Expectation: the
//! answers reach it on the new connection, once (PROTO-46, PROTO-48). Provoked by a loss before, during and after the
//! answer, by a comeback while the old connection still stands, and by a second loss.

use iii_shards::sim::scenario::{Peer, Scenario};

fn reattach(scenario: &mut Scenario, shard: usize, identity: &(String, String)) -> Peer {
    let peer = scenario.connect(shard);
    let (id, token) = identity;
    scenario.say(peer, &format!(r#"{{"type":"reattach","previous_worker_id":"{id}","reattach_token":"{token}"}}"#));
    scenario.announce(peer, "default");
    scenario.settle();
    peer
}

fn start(shards: usize) -> (Scenario, Peer, Peer, (String, String)) {
    let mut scenario = Scenario::new(shards);
    let provider = scenario.worker(shards - 1, "default", &["f"]);
    let caller = scenario.worker(0, "default", &[]);
    let identity = scenario.identity(caller);
    scenario.call(caller, 1, "f");
    scenario.call(caller, 2, "f");
    scenario.settle();
    (scenario, provider, caller, identity)
}

#[test]
fn answers_before_and_after_the_comeback_arrive() {
    for shards in [1, 2, 4] {
        let (mut scenario, provider, caller, identity) = start(shards);
        scenario.reset(caller);
        scenario.settle();
        scenario.answer(provider, 1);
        scenario.settle();
        scenario.advance(5_000);
        let back = reattach(&mut scenario, shards / 2, &identity);
        assert_eq!(scenario.answers(back), [(1, "1".to_owned())]);
        // Longer than the time in which it had to come back.
        scenario.advance(20_000);
        scenario.answer(provider, 2);
        scenario.settle();
        assert_eq!(scenario.answers(back), [(2, "2".to_owned())]);
        scenario.assert_nothing_left();
    }
}

#[test]
fn the_old_connection_ends_when_the_new_one_speaks() {
    for shards in [1, 2] {
        let (mut scenario, provider, caller, identity) = start(shards);
        let back = reattach(&mut scenario, shards - 1, &identity);
        assert_eq!(scenario.closed(caller), Some(Some(1012)));
        for number in [1, 2] {
            scenario.answer(provider, number);
        }
        scenario.settle();
        assert_eq!(scenario.answers(back), [(1, "1".to_owned()), (2, "2".to_owned())]);
        scenario.assert_nothing_left();
    }
}

#[test]
fn a_second_loss_loses_nothing() {
    for shards in [1, 2, 4] {
        let (mut scenario, provider, caller, identity) = start(shards);
        scenario.reset(caller);
        scenario.settle();
        let second = reattach(&mut scenario, shards - 1, &identity);
        let identity = scenario.identity(second);
        scenario.reset(second);
        scenario.settle();
        scenario.answer(provider, 1);
        scenario.settle();
        let third = reattach(&mut scenario, 0, &identity);
        scenario.answer(provider, 2);
        scenario.settle();
        let mut answers = scenario.answers(third);
        answers.sort();
        assert_eq!(answers, [(1, "1".to_owned()), (2, "2".to_owned())]);
        scenario.assert_nothing_left();
    }
}

#[test]
fn a_call_to_itself_is_stopped_and_the_worker_hears_of_it() {
    let mut scenario = Scenario::new(2);
    let worker = scenario.worker(0, "default", &["own"]);
    let identity = scenario.identity(worker);
    scenario.call(worker, 1, "own");
    scenario.settle();
    scenario.reset(worker);
    scenario.settle();
    let back = reattach(&mut scenario, 1, &identity);
    assert_eq!(scenario.answers(back), [(1, "invocation_stopped".to_owned())]);
    scenario.assert_nothing_left();
}

#[test]
fn a_wrong_token_or_a_late_comeback_gets_nothing() {
    let (mut scenario, provider, caller, identity) = start(2);
    let forged = (identity.0.clone(), identity.0.clone());
    let forger = reattach(&mut scenario, 1, &forged);
    assert_eq!(scenario.closed(caller), None);
    scenario.reset(caller);
    scenario.advance(11_000);
    let late = reattach(&mut scenario, 0, &identity);
    scenario.answer(provider, 1);
    scenario.settle();
    assert_eq!(scenario.answers(late), []);
    assert_eq!(scenario.answers(forger), []);
    scenario.assert_nothing_left();
}
