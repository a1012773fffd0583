//! Situation: one caller, one provider of several functions, on different shards. Expectation: the provider sees the
//! calls in the order they were made, whatever they call (PROTO-69). Provoked by a known function called right after
//! one whose route has still to be asked for.

use iii_shards::sim::scenario::Scenario;

#[test]
fn a_known_function_does_not_overtake_an_unknown_one() {
    let mut scenario = Scenario::new(4);
    let functions: Vec<String> = (0..16).map(|index| format!("f{index}")).collect();
    let names: Vec<&str> = functions.iter().map(String::as_str).collect();
    let provider = scenario.worker(3, "default", &names);
    let caller = scenario.worker(0, "default", &[]);
    // Every other function becomes known.
    for (number, name) in names.iter().enumerate().step_by(2) {
        scenario.call(caller, 1_000 + number as u128, name);
    }
    scenario.settle();
    scenario.calls(provider);
    for number in 0..64 {
        scenario.call(caller, number, names[number as usize * 7 % names.len()]);
    }
    scenario.settle();
    assert_eq!(scenario.calls(provider), (0..64).collect::<Vec<_>>());
    scenario.assert_nothing_left();
}
