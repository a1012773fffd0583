//! Channels between the released SDKs: each writes three megabytes and a text to each.

mod support;

use std::path::Path;
use std::time::Instant;

use serde_json::{Value, json};
use support::engine::Process;
use support::sdk::{SDKS, Sdk, spawn};
use support::{Engine, PATIENCE, each_shard_count};

fn start(engine: &Engine, sdk: Sdk, arguments: &[&str]) -> Process {
    let script = match sdk {
        Sdk::Node(_) => "tests/sdk/node/channel.mjs",
        Sdk::Python(_) => "tests/sdk/python/channel.py",
    };
    let mut command = sdk.command(&Path::new(env!("CARGO_MANIFEST_DIR")).join(script));
    command.args(arguments);
    spawn(command, engine)
}

fn outcome(process: &mut Process, who: &str) -> Value {
    let deadline = Instant::now() + PATIENCE * 2;
    loop {
        let Some(line) = process.next_line(deadline) else { panic!("{who}: no outcome:\n{}", process.output()) };
        match serde_json::from_str::<Value>(&line) {
            Ok(mut event) if event["event"] == "outcome" => return event["result"].take(),
            _ => {}
        }
    }
}

// PROTO-112, PROTO-115: SDKs bind a reference to their own engine URL, cut binary data at 64 KiB, and end by Close
#[test]
fn every_sdk_streams_to_every_other() {
    // SHA-256 of thirty runs of 100,000 equal bytes, 0 to 29.
    let expected = json!({"bytes": 3_000_000, "texts": ["text first"], "sha256":
        "ae4ea626067255ff9e8f652371013afc7dac3de268e72a71a6ce373fa64018ad"});
    each_shard_count(|engine| {
        let _readers: Vec<_> = SDKS.iter().map(|sdk| start(engine, *sdk, &[&sdk.label()])).collect();
        for sdk in SDKS {
            engine.wait_for_function(&format!("{}::read", sdk.label()));
        }
        for writer in SDKS {
            for reader in SDKS {
                let who = format!("{} to {}", writer.label(), reader.label());
                let mut process = start(engine, writer, &[&format!("{}-writer", writer.label()), &reader.label()]);
                assert_eq!(outcome(&mut process, &who), expected, "{who}");
            }
        }
    });
}
