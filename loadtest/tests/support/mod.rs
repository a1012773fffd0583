//! Stand-ins for the servers, and a way to run the tool against them.
//!
//! They are slow and simple on purpose: one thread, one step at a time, every message parsed in full.

pub mod engine;

use serde_json::Value;
use std::process::{Command, Output};

/// Runs the tool with a short load unless `words` say otherwise. Returns its exit code and its JSON report.
pub fn run_tool(words: &str) -> (i32, Value) {
    let output = run_tool_raw(&format!("--warmup 0.1 --duration 0.4 --drain 2 --json - {words}"));
    let text = String::from_utf8(output.stdout).unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    let report = serde_json::from_str(&text).unwrap_or_else(|_| panic!("no report; stderr: {complaint}"));
    (output.status.code().expect("the tool exits by itself"), report)
}

/// Runs the tool with exactly these arguments.
pub fn run_tool_raw(words: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_iii-loadtest")).args(words.split_whitespace()).output().unwrap()
}

/// Asserts that every call was answered exactly once, with its own data, and that there were some.
pub fn assert_clean(report: &Value) {
    let calls = &report["calls"];
    assert_eq!(calls["clean"], true, "{calls:#}");
    assert!(calls["answered"].as_u64().unwrap() > 0, "{calls:#}");
    assert_eq!(calls["sent"], calls["answered"], "{calls:#}");
}
