//! Situation: one provider neither reads nor answers; others do. Expectation: calls to the others pass, from the same
//! caller too. Provoked by a provider that stops reading, with a small window, and calls to both.

use iii_shards::sim::scenario::Scenario;

#[test]
fn a_stuck_provider_holds_up_nobody_else() {
    for shards in [1, 4] {
        let mut scenario = Scenario::new(shards);
        scenario.world.window_bytes = 64;
        let stuck = scenario.worker(0, "default", &["stuck"]);
        let quick = scenario.worker(shards - 1, "default", &["quick"]);
        let caller = scenario.worker(shards / 2, "default", &[]);
        scenario.reads(stuck, false);
        for number in 0..50 {
            scenario.call(caller, 1_000 + number, "stuck");
            scenario.call(caller, number, "quick");
        }
        scenario.settle();
        assert_eq!(scenario.calls(quick), (0..50).collect::<Vec<_>>());
        for number in 0..50 {
            scenario.answer(quick, number);
        }
        scenario.settle();
        assert_eq!(scenario.answers(caller).len(), 50);
        scenario.reads(stuck, true);
        scenario.settle();
        assert_eq!(scenario.calls(stuck).len(), 50);
        scenario.assert_nothing_left();
    }
}
