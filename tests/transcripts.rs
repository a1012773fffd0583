//! Recorded conversations of the released SDKs, replayed against the engine on one shard and on four.
//!
//! Every scenario runs for every SDK version that was recorded. Where our engine may answer differently, the table below
//! says how and by which rule; anything else must be equal but for ids and times. Differences that hold for all frames
//! (ids toward the callee, listings as supersets, null results, Close echoes, single pongs) live in `replay/compare.rs` and
//! `replay/mod.rs`, each beside the rule it comes from.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "no shard runs in a test's threads")]

mod replay;
mod support;

use std::path::{Path, PathBuf};

use replay::{Allowance, replay};
use support::each_shard_count;

use Allowance::{AbsentDataIsNull, AnyProvider, NothingIsRejected, OwnMessageAfter};

/// Scenario, and how our engine may differ in it: (what, by which rule).
const SCENARIOS: &[(&str, &[(Allowance, &str)])] = &[
    ("basic", &[]),
    ("call-metadata", &[]),
    ("call-no-payload", &[(AbsentDataIsNull, "PROTO-24")]),
    ("caller-disconnect-mid-call", &[]),
    ("channel", &[]),
    ("client-timeout", &[]),
    ("connect", &[]),
    ("connect-named", &[]),
    ("cross-worker-call", &[(AbsentDataIsNull, "PROTO-24: Python leaves out a payload of None")]),
    ("disconnect-mid-call", &[]),
    ("engine-clean-close", &[]),
    ("engine-restart-close-1012", &[]),
    ("enqueue-no-provider", &[(OwnMessageAfter("No queue provider is installed."), "PROTO-68")]),
    ("handler-error", &[]),
    ("http-trigger", &[]),
    ("namespace", &[]),
    ("reconnect", &[]),
    ("register-function", &[]),
    ("same-worker-name", &[(NothingIsRejected, "PROTO-45")]),
    ("service", &[]),
    ("telemetry", &[]),
    ("trigger-before-provider", &[]),
    ("trigger-type-provider", &[]),
    ("two-clients-same-function", &[(NothingIsRejected, "PROTO-50"), (AnyProvider, "PROTO-50")]),
    ("unknown-function", &[(OwnMessageAfter("Failed to deserialize input for engine::channels::create: "), "ENG-4")]),
    ("void-call", &[]),
];

/// Recorded, and not replayed yet: what they show is not built.
const LATER: &[&str] = &["discovery", "http-invoked-function"];

macro_rules! scenarios {
    ($($test:ident => $scenario:literal),* $(,)?) => {
        $(
            #[test]
            fn $test() {
                play_scenario($scenario);
            }
        )*

        /// Every recorded file belongs to a scenario, and every scenario has a test or waits for its time.
        #[test]
        fn every_recording_is_accounted_for() {
            let tested = [$($scenario),*];
            for file in recordings() {
                let scenario = scenario_of(&file);
                let known = tested.contains(&scenario.as_str()) || LATER.contains(&scenario.as_str());
                assert!(known, "{} is neither replayed nor put off", file.display());
            }
            for (scenario, _) in SCENARIOS {
                assert!(tested.contains(scenario), "{scenario} has no test");
            }
        }
    };
}

scenarios! {
    rust_basic => "basic",
    call_metadata => "call-metadata",
    call_no_payload => "call-no-payload",
    caller_disconnect_mid_call => "caller-disconnect-mid-call",
    channel => "channel",
    client_timeout => "client-timeout",
    connect => "connect",
    connect_named => "connect-named",
    cross_worker_call => "cross-worker-call",
    disconnect_mid_call => "disconnect-mid-call",
    engine_clean_close => "engine-clean-close",
    engine_restart_close_1012 => "engine-restart-close-1012",
    enqueue_no_provider => "enqueue-no-provider",
    handler_error => "handler-error",
    http_trigger => "http-trigger",
    namespace => "namespace",
    reconnect => "reconnect",
    register_function => "register-function",
    same_worker_name => "same-worker-name",
    service => "service",
    telemetry => "telemetry",
    trigger_before_provider => "trigger-before-provider",
    trigger_type_provider => "trigger-type-provider",
    two_clients_same_function => "two-clients-same-function",
    unknown_function => "unknown-function",
    void_call => "void-call",
}

fn play_scenario(name: &str) {
    let (_, allowed) = SCENARIOS.iter().find(|(scenario, _)| *scenario == name).expect("the scenario is in the table");
    let allowed: Vec<_> = allowed.iter().map(|(allowance, _)| *allowance).collect();
    let files: Vec<_> = recordings().into_iter().filter(|file| scenario_of(file) == name).collect();
    assert!(!files.is_empty(), "no recording of {name}");
    for file in files {
        each_shard_count(|engine| replay(&file, engine, &allowed));
    }
}

fn recordings() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let mut files: Vec<_> = std::fs::read_dir(directory)
        .expect("the recordings are part of the repository")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
        .collect();
    files.sort();
    files
}

/// `node-0.11.6-void-call.jsonl` → `void-call`.
fn scenario_of(file: &Path) -> String {
    let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    stem.splitn(3, '-').nth(2).unwrap_or_default().to_owned()
}
