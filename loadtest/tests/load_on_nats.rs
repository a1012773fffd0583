//! The tool against a stand-in NATS server: the same load over the other protocol, and the comparison of the two.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "no shard runs in this process")]

#[path = "support/nats.rs"]
mod nats;
mod support;

use support::{assert_clean, engine, run_tool};

#[test]
fn closed_and_open_loop_over_nats() {
    let address = nats::start();
    let (code, report) =
        run_tool(&format!("--target nats --url nats://{address} --workers 2 --callers 3 --in-flight 4"));
    assert_clean(&report);
    assert_eq!(code, 0);
    let words = format!("--target nats --url nats://{address} --rate 300 --payload 300000 --idle-workers 5");
    assert_clean(&run_tool(&words).1);
}

#[test]
fn a_comparison_has_both_reports_and_the_ratios() {
    let (engine, nats) = (engine::start(engine::Behaviour::default()), nats::start());
    let own_pid = std::process::id();
    let (code, report) = run_tool(&format!(
        "--url ws://{engine} --pid {own_pid} --compare-nats nats://{nats} --nats-pid {own_pid} --workers 1 --callers 1"
    ));
    assert_eq!(code, 0);
    assert_clean(&report["iii"]);
    assert_clean(&report["nats"]);
    assert!(report["advantage"]["throughput"].as_f64().unwrap() > 0.0);
    assert!(report["advantage"]["p99"].is_number());
}
