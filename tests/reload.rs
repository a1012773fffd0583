//! Hot reload of a running engine: what changes, what stays, and what a bad file does (CFG-65 to CFG-98).

#![allow(clippy::disallowed_methods, reason = "no shard runs in a test's threads")]

mod support;

use std::time::{Duration, Instant};

use support::ports::lease;
use support::{Ending, Engine, RawWorker, SHARD_COUNTS, eventually, json};

/// The engine's own listener and whatever comes behind it.
fn config(rest: &str) -> String {
    format!("workers:\n  - name: iii-worker-manager\n    config:\n      port: {{port}}\n{rest}")
}

fn reloads(engine: &Engine) -> usize {
    engine.log().matches("reload: success").count()
}

fn reload(engine: &Engine, text: &str) {
    let before = reloads(engine);
    engine.configure(text);
    eventually("the file is read again", || (reloads(engine) > before).then_some(()));
}

// CFG-90, CFG-96, CFG-87: listeners come, go, and change in place; nobody else notices.
#[test]
fn listeners_come_and_go_while_others_serve() {
    for shards in SHARD_COUNTS {
        let second = lease();
        let engine = Engine::command(shards).config(&config("")).start();
        let file = engine.config_file();
        engine.wait_for_log(&format!("reload: watching {} for changes", file.display()));
        let mut provider = RawWorker::serving(&engine, "provider", &["svc::f"]);
        let guarded = |auth: &str| {
            config(&format!(
                "  - name: iii-worker-manager\n    config:\n      port: {}\n      rbac:\n        \
                 auth_function_id: {auth}\n        expose_functions: ['match(\"svc::*\")']\n",
                second.port
            ))
        };
        drop(std::net::TcpListener::bind(("127.0.0.1", second.port)).expect("nobody listens there yet"));
        provider.register("auth::one");
        provider.confirm(&["auth::one"]);
        reload(&engine, &guarded("auth::one"));
        engine.wait_for_log("reload: diff +1 added, -0 removed, ~0 changed, =");
        engine.wait_for_log(&format!("Engine listening on address: 127.0.0.1:{}", second.port));

        let (guest, mut provider) = admitted(second.port, provider);
        let mut guest = guest;
        let id = guest.invoke("svc::f", json!({"n": 1}));
        let delivery = provider.take("a call of svc::f", |message| message["function_id"] == "svc::f");
        provider.answer(&delivery, json!("ok"));
        assert_eq!(guest.result(&id), Ok(json!("ok")));
        assert_eq!(support::error_code(&guest.call("other::f", json!({}))), "FORBIDDEN");

        // Other rules at the same address: sessions end and come back under them.
        reload(&engine, &guarded("auth::two"));
        assert!(matches!(guest.ending(), Ending::Dropped | Ending::Close(Some(1012))), "CFG-97");
        reload(&engine, &config(""));
        eventually("the port is free again", || {
            std::net::TcpListener::bind(("127.0.0.1", second.port)).is_ok().then_some(())
        });
        provider.round_trip();
    }
}

/// A guest that the provider's `auth::one` lets in.
fn admitted(port: u16, mut provider: RawWorker) -> (RawWorker, RawWorker) {
    let door = std::thread::spawn(move || {
        let question = provider.take("a question", |message| message["function_id"] == "auth::one");
        provider.answer(&question, json!({}));
        provider
    });
    let guest = RawWorker::connect_to(port, "/");
    (guest, door.join().expect("the provider answers"))
}

// CFG-80, CFG-91, CFG-92
#[test]
fn a_bad_file_ends_the_engine_with_status_1() {
    for (text, expected) in [
        ("workers: [", "reload: FATAL: reload: parse failed: "),
        ("workers:\n  - name: no-such-worker\n", "reload: FATAL: reload: parse failed: "),
    ] {
        let mut engine = Engine::command(2).config(&config("")).start();
        let mut worker = RawWorker::named(&engine, "w");
        engine.configure(text);
        let status = engine.ended();
        assert_eq!(status.code(), Some(1), "{}", engine.log());
        let log = engine.log();
        for line in
            [expected, "Shutting down engine and destroying workers", "Engine shutdown complete", "Error: reload: "]
        {
            assert!(log.contains(line), "{line}: {log}");
        }
        assert!(matches!(worker.ending(), Ending::Dropped | Ending::Close(Some(1012))));
    }
}

// CFG-84: an address that is taken is found before anything has changed.
#[test]
fn a_taken_address_is_a_validation_failure() {
    let taken = lease();
    let holder = std::net::TcpListener::bind(("127.0.0.1", taken.port)).expect("the port is free");
    let mut engine = Engine::command(1).config(&config("")).start();
    let more = format!("  - name: iii-worker-manager\n    config:\n      port: {}\n", taken.port);
    engine.configure(&config(&more));
    assert_eq!(engine.ended().code(), Some(1));
    let log = engine.log();
    assert!(log.contains("reload: validation failed for 'iii-worker-manager#1': "), "{log}");
    assert!(log.contains("is already in use"), "{log}");
    drop(holder);
}

// CFG-105: SIGHUP reads the file again; CFG-66: so does a rename in its place. Calls go on meanwhile.
#[test]
fn reloads_lose_no_call() {
    let rounds: usize = std::env::var("III_TEST_RELOADS").ok().and_then(|text| text.parse().ok()).unwrap_or(4);
    let engine = Engine::command(4).config(&config("")).start();
    let mut provider = RawWorker::serving(&engine, "provider", &["svc::f"]);
    let mut caller = RawWorker::named(&engine, "caller");
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let ended = stop.clone();
    let load = std::thread::spawn(move || {
        let mut calls = 0;
        while !ended.load(std::sync::atomic::Ordering::Relaxed) {
            let id = caller.invoke("svc::f", json!({"n": calls}));
            let delivery = provider.expect("invokefunction");
            provider.answer(&delivery, delivery["data"]["n"].clone());
            assert_eq!(caller.result(&id), Ok(json!(calls)));
            calls += 1;
        }
        calls
    });
    for round in 0..rounds {
        let before = reloads(&engine);
        if round % 2 == 0 {
            engine.signal(libc::SIGHUP);
        } else {
            let file = engine.config_file();
            let fresh = file.with_extension("new");
            std::fs::copy(&file, &fresh).expect("scratch is writable");
            std::fs::rename(&fresh, &file).expect("scratch is writable");
        }
        eventually("the file is read again", || (reloads(&engine) > before).then_some(()));
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let calls = load.join().expect("no call is lost");
    assert!(calls > rounds, "{calls} calls");
    assert!(engine.log().contains("reload: diff +0 added, -0 removed, ~0 changed, ="));
}

// CFG-68: a file that is missing for a moment is waited for.
#[test]
fn a_file_that_is_away_for_a_moment_is_waited_for() {
    let engine = Engine::command(1).config(&config("")).start();
    let file = engine.config_file();
    let text = std::fs::read(&file).expect("it is there");
    std::fs::remove_file(&file).expect("scratch is writable");
    let since = Instant::now();
    std::thread::sleep(Duration::from_millis(900));
    std::fs::write(&file, text).expect("scratch is writable");
    eventually("the file is read again", || (reloads(&engine) > 0).then_some(()));
    assert!(since.elapsed() < Duration::from_secs(10));
}
