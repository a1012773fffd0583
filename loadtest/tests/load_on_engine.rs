//! The tool against a stand-in engine: every way of putting on load ends with every call answered exactly once, and
//! every fault of the engine is noticed. The stand-in is slow, so nothing here says anything about speed.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "no shard runs in this process")]

mod support;

use serde_json::Value;
use std::net::TcpListener;
use std::time::Duration;
use support::engine::{Behaviour, start};
use support::{assert_clean, run_tool, run_tool_raw};

fn run(behaviour: Behaviour, words: &str) -> (i32, Value) {
    let address = start(behaviour);
    run_tool(&format!("--url ws://{address}/ {words}"))
}

#[test]
fn one_worker_and_one_caller() {
    let (code, report) = run(Behaviour::default(), "--workers 1 --callers 1 --in-flight 1");
    assert_clean(&report);
    assert_eq!(code, 0);
    assert!(report["latency_us"]["p50"].as_f64().unwrap() > 0.0);
    assert!(report["calls"]["served_by_workers"].as_u64() >= report["calls"]["answered"].as_u64());
}

#[test]
fn several_of_each_with_random_masks_and_two_threads() {
    let (code, report) = run(Behaviour::default(), "--workers 3 --callers 5 --in-flight 4 --mask random --threads 2");
    assert_clean(&report);
    assert_eq!(code, 0);
}

#[test]
fn one_function_of_many_workers_and_many_functions_of_one_caller() {
    assert_clean(&run(Behaviour::default(), "--workers 3 --callers 2 --in-flight 2 --one-function").1);
    assert_clean(&run(Behaviour::default(), "--workers 3 --callers 1 --in-flight 2 --spread").1);
}

#[test]
fn payloads_larger_than_the_read_buffer_come_back_whole() {
    for bytes in [8, 70_000, 300_000, 1_000_000] {
        let (_, report) =
            run(Behaviour::default(), &format!("--workers 1 --callers 1 --in-flight 2 --payload {bytes}"));
        assert_clean(&report);
    }
}

#[test]
fn member_order_fragments_and_pings_make_no_difference() {
    let odd = Behaviour { backwards: true, fragments: true, ..Behaviour::default() };
    assert_clean(&run(odd, "--workers 2 --callers 2 --in-flight 2").1);
}

#[test]
fn the_load_waits_for_registrations_to_take_effect() {
    let slow = Behaviour { registration_delay: Duration::from_millis(300), ..Behaviour::default() };
    let (_, report) = run(slow, "--workers 2 --callers 2 --in-flight 1 --idle-workers 3");
    assert_clean(&report);
    assert!(report["idle"]["serving_s"].as_f64().unwrap() >= 0.3);
}

#[test]
fn an_open_loop_keeps_its_rate_and_reports_its_lag() {
    let (code, report) = run(Behaviour::default(), "--workers 2 --callers 3 --rate 500 --threads 2");
    assert_clean(&report);
    assert_eq!(code, 0);
    // 0.5 s at 500/s, give or take the rounding of each thread.
    let sent = report["calls"]["sent"].as_u64().unwrap();
    assert!((249..=252).contains(&sent), "{sent}");
    assert!(report["lag_us"]["p50"].is_number());
}

#[test]
fn idle_workers_are_connected_measured_and_may_call() {
    let own_pid = std::process::id();
    let words =
        format!("--workers 1 --callers 1 --idle-workers 40 --idle-functions 2 --callers-on-idle 10 --pid {own_pid}");
    let (_, report) = run(Behaviour::default(), &words);
    assert_clean(&report);
    assert_eq!(report["idle"]["workers"], 40);
    assert!(report["idle"]["handshakes_per_s"].as_f64().unwrap() > 0.0);
    assert!(report["idle"]["resident_per_worker_bytes"].is_number());
    assert!(report["server"]["resident_peak_bytes"].as_u64().unwrap() > 100_000);
    assert!(report["server"]["cpu_us_per_call"].is_number());
}

#[test]
fn the_error_path_can_be_measured() {
    let (code, report) = run(Behaviour::default(), "--workers 0 --callers 2 --missing");
    assert_eq!(code, 0);
    assert_eq!(report["calls"]["errors"]["function_not_found"], report["calls"]["answered"]);
}

#[test]
fn faults_are_counted_and_fail_the_run_unless_allowed() {
    let forgetful = Behaviour { forget_every: Some(50), ..Behaviour::default() };
    let (code, report) = run(forgetful, "--workers 1 --callers 1 --in-flight 8");
    assert_eq!((code, report["calls"]["clean"].as_bool()), (1, Some(false)));
    assert!(report["calls"]["unanswered"].as_u64().unwrap() >= 1);

    let stuttering = Behaviour { answer_twice_every: Some(10), ..Behaviour::default() };
    let (code, report) = run(stuttering, "--workers 1 --callers 1 --allow-errors");
    assert_eq!((code, report["calls"]["clean"].as_bool()), (0, Some(false)));
    assert!(report["calls"]["duplicates"].as_u64().unwrap() >= 1);
}

#[test]
fn files_are_written_and_the_table_is_printed() {
    let folder = std::env::temp_dir().join(format!("iii-loadtest-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (json, svg) = (folder.join("report.json"), folder.join("latency.svg"));
    let address = start(Behaviour::default());
    let output = run_tool_raw(&format!(
        "--url ws://{address} --workers 1 --callers 1 --warmup 0 --duration 0.2 --json {} --plot {}",
        json.display(),
        svg.display()
    ));
    assert!(output.status.success());
    assert!(String::from_utf8(output.stdout).unwrap().contains("answered exactly once"));
    assert!(serde_json::from_slice::<Value>(&std::fs::read(json).unwrap()).is_ok());
    assert!(std::fs::read_to_string(svg).unwrap().contains("<polyline"));
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_run_that_cannot_take_place_says_why() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (words, reason) in [
        (format!("--url ws://{closed}"), "refused"),
        ("--target kafka".to_owned(), "--target"),
        ("--pid 4294967295".to_owned(), "no process"),
    ] {
        let output = run_tool_raw(&words);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(reason), "{text}");
    }
}
