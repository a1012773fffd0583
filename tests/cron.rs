//! Cron triggers against the built binary: they fire when they should, with what they should, and once.

mod support;

use serde_json::{Value, json};
use std::time::{Duration, Instant};
use support::redis::Redis;
use support::sdk::SDKS;
use support::{Engine, RawWorker, SILENCE, each_shard_count_with, eventually};

const WORKER: &str = "name: iii-cron";
const EVERY_SECOND: &str = "* * * * * *";

fn bind(worker: &mut RawWorker, id: &str, function_id: &str, config: Value) {
    worker.send(json!({
        "type": "registertrigger", "id": id, "trigger_type": "cron", "function_id": function_id, "config": config,
        "metadata": {"m": 1},
    }));
}

/// Seconds since midnight of a time like `2026-03-01T12:00:05+00:00`.
fn second_of_day(time: &Value) -> u32 {
    let text = time.as_str().expect("times are strings");
    assert!(text.ends_with("+00:00"), "{text}");
    text[11..19].split(':').fold(0, |sum, part| sum * 60 + part.parse::<u32>().expect("digits"))
}

// CRON-20, CRON-23
#[test]
fn a_trigger_of_each_sdk_fires_every_second() {
    each_shard_count_with(WORKER, |engine| {
        let mut workers: Vec<_> = SDKS.iter().map(|sdk| sdk.worker(engine, &sdk.label())).collect();
        for worker in &mut workers {
            worker.register_trigger("cron", "event", json!({"expression": EVERY_SECOND}));
        }
        for worker in &mut workers {
            let first = worker.handled("event");
            let second = worker.handled("event");
            for payload in [&first, &second] {
                let mut members: Vec<&String> = payload.as_object().expect("an object").keys().collect();
                members.sort();
                assert_eq!(members, ["actual_time", "job_id", "scheduled_time", "trigger"], "{payload}");
                assert_eq!(payload["trigger"], "cron");
                assert_eq!(payload["scheduled_time"].as_str().map(str::len), Some(25), "{payload}");
                assert_eq!(payload["actual_time"].as_str().map(str::len), Some(35), "{payload}");
            }
            assert_eq!(first["job_id"], second["job_id"]);
            assert!(second_of_day(&second["scheduled_time"]) > second_of_day(&first["scheduled_time"]));
        }
    });
}

// CRON-10, CRON-11, CRON-18, CRON-20, CRON-26
#[test]
fn what_a_registrant_is_told_and_what_comes() {
    each_shard_count_with(WORKER, |engine| {
        let mut worker = RawWorker::serving(engine, "w", &["f"]);
        let rows = [
            (json!({}), "Cron expression is required"),
            (json!({"expression": 5}), "Cron expression is required"),
            (json!({"expression": "61 * * * * *"}), "Invalid cron expression '61 * * * * *': "),
        ];
        for (config, message) in rows {
            bind(&mut worker, "bad", "f", config);
            let told = worker.expect("triggerregistrationresult");
            assert_eq!(
                (&told["id"], &told["trigger_type"], &told["function_id"]),
                (&json!("bad"), &json!("cron"), &json!("f"))
            );
            assert_eq!(told["error"]["code"], "trigger_registration_failed");
            assert!(told["error"]["message"].as_str().is_some_and(|text| text.starts_with(message)), "{told}");
        }
        bind(&mut worker, "good", "f", json!({"expression": EVERY_SECOND, "timezone": "Mars/Olympus"}));
        let fired = worker.expect("invokefunction");
        assert_eq!((&fired["data"]["job_id"], &fired["metadata"]), (&json!("good"), &json!({"m": 1})));
        assert!(fired["invocation_id"].is_string(), "a run is waited for: {fired}");
        assert!(fired["traceparent"].is_string(), "{fired}");
        let log = engine.log();
        assert!(log.contains(&format!("[REGISTERED] Cron job good ({EVERY_SECOND}) → f")), "{log}");
        assert!(log.contains("fires next at"), "{log}");
        // While the run goes on, nothing more comes.
        assert_eq!(worker.recv_within(Duration::from_millis(1500)), None);
        worker.answer(&fired, json!(null));
        let fired = worker.expect("invokefunction");
        worker.answer(&fired, json!(null));
        worker.send(json!({"type": "unregistertrigger", "id": "good", "trigger_type": "cron"}));
        engine.wait_for_log("[UNREGISTERED] Cron job good → f");
        while worker.recv_within(SILENCE).is_some() {}
        assert_eq!(worker.recv_within(Duration::from_millis(1500)), None);
    });
}

/// The ticks that two workers of one function were called for within some seconds, both answering at once.
fn ticks(workers: &mut [RawWorker], seconds: u64) -> Vec<u32> {
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut seen = Vec::new();
    while Instant::now() < end {
        for worker in workers.iter_mut() {
            let Some(frame) = worker.recv_within(Duration::from_millis(20)) else { continue };
            if frame["type"] == "invokefunction" {
                seen.push(second_of_day(&frame["data"]["scheduled_time"]));
                worker.answer(&frame, json!(null));
            }
        }
    }
    seen
}

// CRON-DB-3
#[test]
fn replicas_run_once_per_tick() {
    each_shard_count_with(WORKER, |engine| {
        let mut workers = [RawWorker::serving(engine, "a", &["f"]), RawWorker::named(engine, "b")];
        workers[1].register("f");
        for (index, worker) in workers.iter_mut().enumerate() {
            bind(worker, &format!("t{index}"), "f", json!({"expression": EVERY_SECOND}));
        }
        engine.wait_for_log("[REGISTERED] Cron job t1");
        let mut seen = ticks(&mut workers, 4);
        let count = seen.len();
        seen.dedup();
        assert!(count >= 3 && seen.len() == count, "{seen:?}");
    });
}

fn on_redis(redis: &Redis) -> String {
    let adapter = json!({"name": "redis", "config": {"redis_url": redis.url()}});
    json!({"name": "iii-cron", "config": {"adapter": adapter}}).to_string()
}

// CRON-42, CRON-DB-1, CRON-DB-5, CRON-33
#[test]
fn engines_that_share_a_redis_run_each_tick_once() {
    let mut redis = Redis::start();
    let engines: Vec<Engine> = (0..2).map(|_| Engine::command(2).worker(&on_redis(&redis)).start()).collect();
    let mut workers: Vec<RawWorker> = engines.iter().map(|engine| RawWorker::serving(engine, "w", &["f"])).collect();
    for worker in &mut workers {
        bind(worker, "t", "f", json!({"expression": EVERY_SECOND}));
    }
    let once_each = |workers: &mut [RawWorker], seconds, least: usize| {
        let mut seen = ticks(workers, seconds);
        let count = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert!(count >= least && seen.len() == count, "{count} runs of the ticks {seen:?}");
    };
    once_each(&mut workers, 6, 4);
    assert!(redis.command(&["KEYS", "iii:cron:tick:*"]).lines().count() >= 4);
    redis.kill();
    // Without the lock nobody runs; whatever was under way ends first.
    ticks(&mut workers, 1);
    assert_eq!(ticks(&mut workers, 2), [0; 0]);
    redis.start_again();
    eventually("ticks run again", || (!ticks(&mut workers, 1).is_empty()).then_some(()));
    once_each(&mut workers, 4, 3);
}

// CRON-33
#[test]
fn an_engine_does_not_start_without_its_redis() {
    let mut redis = Redis::start();
    let config = on_redis(&redis);
    redis.kill();
    let ended = Engine::command(1).worker(&config).try_start().expect_err("Redis is away");
    assert!(
        ended.output.contains("Redis connection timed out after 5s. Please ensure Redis is running at: redis://"),
        "{}",
        ended.output
    );
    assert_eq!(ended.status.code(), Some(1));
}
