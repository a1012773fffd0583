//! What every black-box test stands on: an engine process, raw clients, and the released SDKs.
//!
//! Nothing here knows the engine's code: it starts the built binary and speaks the protocol to it.
#![allow(dead_code, reason = "each test file uses its own part of this module")]
#![allow(unused_imports, reason = "each test file uses its own part of this module")]
#![allow(clippy::disallowed_methods, reason = "tests read the clock and may block; the bans are for shards")]

pub mod browser;
pub mod engine;
pub mod http;
pub mod ports;
pub mod redis;
pub mod sandbox;
pub mod sdk;
pub mod socket;
pub mod worker;

use std::time::{Duration, Instant};

pub use browser::Browser;
pub use engine::Engine;
pub use http::{HttpClient, HttpResponse};
pub use serde_json::{Value, json};
pub use socket::{Frame, RawSocket};
pub use worker::{Ending, RawWorker, error_code};

/// How long a test waits for something that must happen. Long, because the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// How long a test listens when a rule says that nothing must come.
pub const SILENCE: Duration = Duration::from_millis(300);

/// Every behaviour is the same on one shard and across shards; tests that route calls run on both.
pub const SHARD_COUNTS: [u32; 2] = [1, 4];

/// Runs the test body once per shard count, each time on a fresh engine.
pub fn each_shard_count(body: impl Fn(&Engine)) {
    for shards in SHARD_COUNTS {
        eprintln!("--- shards: {shards}");
        body(&Engine::start(shards));
    }
}

/// The same with one more worker, written as in a configuration file.
pub fn each_shard_count_with(worker: &str, body: impl Fn(&Engine)) {
    for shards in SHARD_COUNTS {
        eprintln!("--- shards: {shards}");
        body(&Engine::command(shards).worker(worker).start());
    }
}

/// Asks again until the answer is there. Panics with `what` when patience runs out.
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain for: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
