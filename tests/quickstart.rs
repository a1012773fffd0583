//! The examples do what their READMEs promise: with the pinned SDKs, and with every mix of the released ones.

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use support::engine::Process;
use support::sdk::{SDKS, Sdk, spawn};
use support::{Engine, PATIENCE, RawWorker, SHARD_COUNTS, each_shard_count, error_code, json};

fn example(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(path)
}

/// The Node example finds its SDK by name, so it runs from a directory whose `node_modules` has this version.
fn caller_worker(sdk: Sdk, engine: &Engine) -> Process {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("caller-worker-{}", engine.port));
    let _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir_all(&directory).expect("the target directory is writable");
    let script = directory.join("worker.mjs");
    std::fs::copy(example("quickstart/caller-worker/worker.mjs"), &script).expect("the example is there");
    let modules = sdk.directory().join("node_modules");
    std::os::unix::fs::symlink(modules, directory.join("node_modules")).expect("the directory is empty");
    spawn(sdk.command(&script), engine)
}

fn math_worker(sdk: Sdk, engine: &Engine) -> Process {
    spawn(sdk.command(&example("quickstart/math-worker/math_worker.py")), engine)
}

fn expect_line(process: &Process, text: &str) {
    let deadline = Instant::now() + PATIENCE;
    while let Some(line) = process.next_line(deadline) {
        if line.contains(text) {
            return;
        }
    }
    panic!("no line with {text:?}; it printed:\n{}", process.output());
}

fn add_across_languages(engine: &Engine, caller: &mut RawWorker, a: i64, b: i64) {
    engine.wait_for_function("math::add");
    engine.wait_for_function("math::add_two_numbers");
    let sum = caller.call("math::add_two_numbers", json!({"a": a, "b": b})).expect("both workers are there");
    assert_eq!(sum["c"], a + b);
    assert!(sum["success"].is_string());
}

#[test]
fn two_workers_in_two_languages() {
    for shards in SHARD_COUNTS {
        for node in SDKS.into_iter().filter(|sdk| matches!(sdk, Sdk::Node(_))) {
            for python in SDKS.into_iter().filter(|sdk| matches!(sdk, Sdk::Python(_))) {
                eprintln!("{} and {}, shards: {shards}", node.label(), python.label());
                let engine = Engine::start(shards);
                let math = math_worker(python, &engine);
                expect_line(&math, "Math worker started - listening for calls");
                let caller = caller_worker(node, &engine);
                expect_line(&caller, "Caller worker started - listening for calls");
                let mut user = RawWorker::named(&engine, "user");
                engine.wait_for_function("math::add");
                assert_eq!(user.call("math::add", json!({"a": 2, "b": 3})), Ok(json!({"c": 5})));
                add_across_languages(&engine, &mut user, 10, 20);
                // The README's next step: the Python worker goes, and comes back without the Node one noticing.
                drop(math);
                engine.wait_until_gone("math::add");
                assert_eq!(error_code(&user.call("math::add", json!({"a": 1}))), "function_not_found");
                assert!(user.call("math::add_two_numbers", json!({"a": 1, "b": 2})).is_err());
                let _math = math_worker(python, &engine);
                add_across_languages(&engine, &mut user, 100, 200);
            }
        }
    }
}

#[test]
fn the_raw_worker_greets() {
    each_shard_count(|engine| {
        let mut command = Command::new("python3");
        command.arg(example("raw-worker/worker.py"));
        let worker = spawn(command, engine);
        expect_line(&worker, "Raw worker started");
        engine.wait_for_function("raw::greet");
        let mut user = RawWorker::named(engine, "user");
        assert_eq!(user.call("raw::greet", json!({"name": "Ana"})), Ok(json!({"greeting": "Hello, Ana!"})));
        assert_eq!(user.call("raw::greet", json!(null)), Ok(json!({"greeting": "Hello, stranger!"})));
        let rows = user.call("engine::workers::list", json!({"search": "raw-worker"})).expect("the list");
        assert_eq!(rows["workers"][0]["name"], "raw-worker");
    });
}

// The pinned versions of the examples are among those the tests run with.
#[test]
fn the_examples_pin_a_tested_version() {
    let python = std::fs::read_to_string(example("quickstart/math-worker/requirements.txt")).unwrap();
    let version = python.trim().strip_prefix("iii-sdk==").expect("an exact version");
    assert!(SDKS.iter().any(|sdk| matches!(sdk, Sdk::Python(known) if *known == version)));
    let node = std::fs::read_to_string(example("quickstart/caller-worker/package.json")).unwrap();
    let package: support::Value = serde_json::from_str(&node).unwrap();
    let version = package["dependencies"]["iii-sdk"].as_str().unwrap();
    assert!(SDKS.iter().any(|sdk| matches!(sdk, Sdk::Node(known) if *known == version)));
}
