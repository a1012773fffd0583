//! Situation: invocation ids that are not unique. Expectation: an id belongs to its caller, so two callers may use the
//! same; one caller using it twice at once is told so and its first call goes on (PROTO-64). Provoked by just that.

use iii_shards::sim::scenario::Scenario;

#[test]
fn one_caller_may_not_use_an_id_twice_at_once() {
    let mut scenario = Scenario::new(2);
    let provider = scenario.worker(1, "default", &["f"]);
    let caller = scenario.worker(0, "default", &[]);
    scenario.call(caller, 1, "f");
    scenario.call(caller, 1, "f");
    scenario.settle();
    assert_eq!(scenario.answers(caller), [(1, "invocation_error".to_owned())]);
    assert_eq!(scenario.calls(provider), [1]);
    scenario.answer(provider, 1);
    scenario.settle();
    assert_eq!(scenario.answers(caller), [(1, "1".to_owned())]);
    scenario.assert_nothing_left();
}

#[test]
fn two_callers_may_use_one_id() {
    let mut scenario = Scenario::new(2);
    let provider = scenario.worker(1, "default", &["f"]);
    let callers = [scenario.worker(0, "default", &[]), scenario.worker(1, "default", &[])];
    for caller in callers {
        scenario.call(caller, 1, "f");
    }
    scenario.settle();
    let keys = scenario.calls(provider);
    assert_eq!(keys.len(), 2);
    assert_ne!(keys[0], keys[1], "the provider must be able to tell them apart");
    for key in keys {
        scenario.answer(provider, key);
    }
    scenario.settle();
    for caller in callers {
        let answers = scenario.answers(caller);
        assert_eq!(answers.len(), 1);
        assert_eq!(answers[0].0, 1);
    }
    scenario.assert_nothing_left();
}
