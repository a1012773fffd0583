//! Situation: a worker that never reads, as a provider (T8) and as a caller (T9). Expectation: calls to it are refused
//! with `worker_overloaded` once its outbox is full; a caller that takes no results is closed when they exceed the
//! bound; what it held is released. Provoked by a small outbox and a worker that stops reading.

use iii_shards::settings::Settings;
use iii_shards::sim::scenario::Scenario;

const OUTBOX_BYTES: usize = 64 << 10;

fn scenario(shards: usize) -> Scenario {
    let mut scenario = Scenario::with(Settings { shards, outbox_bytes_max: OUTBOX_BYTES, ..Settings::default() });
    scenario.world.window_bytes = 4 << 10;
    scenario
}

#[test]
fn calls_to_a_provider_that_does_not_read_are_refused() {
    for shards in [1, 2] {
        let mut scenario = scenario(shards);
        let deaf = scenario.worker(shards - 1, "default", &["deaf"]);
        let caller = scenario.worker(0, "default", &[]);
        scenario.reads(deaf, false);
        let data = format!("\"{}\"", "x".repeat(1000));
        for number in 0..200 {
            scenario.call_with(caller, number, "deaf", &data);
        }
        scenario.settle();
        let refused = scenario.answers(caller);
        assert!(refused.iter().all(|(_, code)| code == "worker_overloaded"), "{refused:?}");
        assert!((100..160).contains(&refused.len()), "{} of 200 refused", refused.len());
        assert!(scenario.closed(deaf).is_none());
        // It reads again: what was accepted arrives, and new calls are.
        scenario.reads(deaf, true);
        scenario.settle();
        assert_eq!(scenario.calls(deaf).len() + refused.len(), 200);
        scenario.call(caller, 500, "deaf");
        scenario.settle();
        assert_eq!(scenario.calls(deaf), [500]);
        scenario.assert_nothing_left();
    }
}

#[test]
fn a_peer_that_reads_nothing_for_long_is_closed() {
    let mut scenario = scenario(2);
    let deaf = scenario.worker(1, "default", &["deaf"]);
    let caller = scenario.worker(0, "default", &[]);
    scenario.reads(deaf, false);
    let data = format!("\"{}\"", "x".repeat(8000));
    for number in 0..4 {
        scenario.call_with(caller, number, "deaf", &data);
    }
    scenario.settle();
    // It still sends, so it is not idle; it only takes nothing.
    for _ in 0..15 {
        scenario.advance(10_000);
        scenario.say(deaf, r#"{"type":"ping"}"#);
        scenario.settle();
    }
    let stopped = scenario.answers(caller);
    assert_eq!(stopped.len(), 4);
    assert!(stopped.iter().all(|(_, code)| code == "invocation_stopped"), "{stopped:?}");
    scenario.assert_nothing_left();
}

#[test]
fn a_caller_that_takes_no_results_is_closed() {
    for shards in [1, 2] {
        let mut scenario = scenario(shards);
        let provider = scenario.worker(shards - 1, "default", &["f"]);
        let deaf = scenario.worker(0, "default", &[]);
        let other = scenario.worker(0, "default", &[]);
        for number in 0..40 {
            scenario.call(deaf, number, "f");
        }
        scenario.settle();
        scenario.reads(deaf, false);
        for number in 0..40u128 {
            let id = iii_shards::sim::scenario::invocation(number);
            let result = "y".repeat(4000);
            scenario
                .say(provider, &format!(r#"{{"type":"invocationresult","invocation_id":"{id}","result":"{result}"}}"#));
        }
        scenario.settle();
        scenario.advance(2_000);
        scenario.reads(deaf, true);
        scenario.settle();
        assert!(scenario.closed(deaf).is_some());
        scenario.calls(provider);
        scenario.call(other, 100, "f");
        scenario.settle();
        assert_eq!(scenario.calls(provider), [100]);
        scenario.assert_nothing_left();
    }
}
