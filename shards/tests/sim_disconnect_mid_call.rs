//! Situation: one end of a call is lost while it runs. Expectation: the caller hears `invocation_stopped` at once; a
//! provider whose caller is gone answers into the void (PROTO-48). Provoked by resets, on one shard and across two.

use iii_shards::sim::scenario::Scenario;

#[test]
fn the_caller_is_told_that_its_provider_is_gone() {
    for shards in [1, 2] {
        let mut scenario = Scenario::new(shards);
        let provider = scenario.worker(shards - 1, "default", &["f"]);
        let caller = scenario.worker(0, "default", &[]);
        scenario.call(caller, 1, "f");
        scenario.settle();
        scenario.reset(provider);
        scenario.settle();
        assert_eq!(scenario.answers(caller), [(1, "invocation_stopped".to_owned())]);
        scenario.call(caller, 2, "f");
        scenario.settle();
        assert_eq!(scenario.answers(caller), [(2, "function_not_found".to_owned())]);
        scenario.assert_nothing_left();
    }
}

#[test]
fn an_answer_for_a_lost_caller_goes_nowhere() {
    for shards in [1, 2] {
        let mut scenario = Scenario::new(shards);
        let provider = scenario.worker(shards - 1, "default", &["f"]);
        let caller = scenario.worker(0, "default", &[]);
        scenario.call(caller, 1, "f");
        scenario.settle();
        scenario.reset(caller);
        scenario.settle();
        let stranger = scenario.worker(0, "default", &[]);
        scenario.answer(provider, 1);
        scenario.answer(provider, 1);
        scenario.settle();
        assert_eq!(scenario.answers(stranger), []);
        scenario.assert_nothing_left();
    }
}

#[test]
fn only_the_provider_of_a_call_may_answer_it() {
    let mut scenario = Scenario::new(2);
    let provider = scenario.worker(1, "default", &["f"]);
    let caller = scenario.worker(0, "default", &[]);
    let forger = scenario.worker(0, "default", &["g"]);
    scenario.call(caller, 1, "f");
    scenario.settle();
    scenario.answer(forger, 1);
    scenario.answer(caller, 1);
    scenario.settle();
    assert_eq!(scenario.answers(caller), []);
    scenario.answer(provider, 1);
    scenario.settle();
    assert_eq!(scenario.answers(caller), [(1, "1".to_owned())]);
    scenario.assert_nothing_left();
}
