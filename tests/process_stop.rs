//! Stopping: in good order, with a word to everybody, and soon.

mod support;

use std::time::{Duration, Instant};

use support::socket::upgrade_request;
use support::{Ending, Engine, PATIENCE, RawSocket, RawWorker, SHARD_COUNTS, json};

/// PROTO-18: any other code makes some SDK stay away for ever.
fn is_a_call_to_come_back(ending: &Ending) -> bool {
    matches!(ending, Ending::Dropped | Ending::Close(Some(1012)))
}

// PROTO-18, PROTO-49, decision 18
#[test]
fn a_signal_stops_the_engine_cleanly() {
    for shards in SHARD_COUNTS {
        for signal in [libc::SIGTERM, libc::SIGINT] {
            let mut engine = Engine::start(shards);
            let mut workers: Vec<_> =
                (0..8).map(|number| RawWorker::serving(&engine, "worker", &[&format!("f::{number}")])).collect();
            let mut telemetry = RawSocket::open(engine.port, "/otel");
            let started = Instant::now();
            engine.signal(signal);
            for worker in &mut workers {
                let ending = worker.ending();
                assert!(is_a_call_to_come_back(&ending), "{ending:?}");
            }
            telemetry.ending();
            let status = engine.terminated();
            assert_eq!(status.code(), Some(0), "signal {signal}: {status}");
            assert!(started.elapsed() < Duration::from_secs(10), "took {:?}", started.elapsed());
        }
    }
}

// PROTO-9: after the stop nobody listens any more.
#[test]
fn a_stopped_engine_refuses_connections() {
    let mut engine = Engine::start(2);
    let _worker = RawWorker::named(&engine, "worker");
    engine.terminate();
    assert!(std::net::TcpStream::connect(("127.0.0.1", engine.port)).is_err());
}

// The port is free at once for the next engine: a supervisor does not wait either.
#[test]
fn the_port_is_free_after_the_stop() {
    for shards in SHARD_COUNTS {
        let mut engine = Engine::start(shards);
        for round in 0..10 {
            let mut workers: Vec<_> = (0..20).map(|_| RawWorker::named(&engine, "worker")).collect();
            workers.iter_mut().for_each(RawWorker::round_trip);
            if round % 2 == 0 {
                engine.kill();
            } else {
                engine.terminate();
            }
            engine.start_again();
            RawWorker::connect(&engine).round_trip();
        }
    }
}

// T13: stopping under load: every call has an answer or its connection has an end; nothing hangs.
#[test]
fn nothing_hangs_when_the_engine_stops_under_load() {
    for shards in SHARD_COUNTS {
        let mut engine = Engine::start(shards);
        let mut provider = RawWorker::serving(&engine, "provider", &["echo", "never"]);
        let mut callers: Vec<_> = (0..4).map(|_| RawWorker::named(&engine, "caller")).collect();
        for caller in &mut callers {
            for number in 0..200 {
                let function = if number % 2 == 0 { "echo" } else { "never" };
                caller.invoke(function, json!(number));
            }
        }
        for _ in 0..100 {
            let delivery = provider.expect("invokefunction");
            if delivery["function_id"] == "echo" {
                provider.answer(&delivery, json!(null));
            }
        }
        engine.signal(libc::SIGTERM);
        for worker in callers.iter_mut().chain([&mut provider]) {
            let ending = worker.ending();
            assert!(is_a_call_to_come_back(&ending), "{ending:?}");
        }
        assert_eq!(engine.terminated().code(), Some(0));
    }
}

// Half-finished handshakes, idle HTTP connections and deaf workers do not hold up the stop.
#[test]
fn the_stop_waits_for_nobody() {
    let mut engine = Engine::start(2);
    let mut caller = RawWorker::named(&engine, "caller");
    let _deaf = RawWorker::serving(&engine, "deaf", &["deaf"]);
    for _ in 0..20 {
        caller.invoke("deaf", json!("x".repeat(1 << 20)));
    }
    caller.round_trip();
    let _silent = RawSocket::tcp(engine.port);
    let mut half = RawSocket::tcp(engine.port);
    half.write(&upgrade_request("/").as_bytes()[..30]);
    let started = Instant::now();
    assert_eq!(engine.terminate().code(), Some(0));
    assert!(started.elapsed() < PATIENCE / 2, "took {:?}", started.elapsed());
}
