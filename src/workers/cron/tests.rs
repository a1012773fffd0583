//! The cron worker on a host that only remembers.

use super::*;
use iii_shards::builtin::fake::{FakeHost, Made};
use iii_shards::ids::{ConnectionId, ShardId};
use iii_shards::shard::Now;
use serde_json::Value;

const START_MS: u64 = 1_700_000_000_500;

struct Bench {
    host: FakeHost,
    cron: Cron,
}

impl Bench {
    fn new() -> Bench {
        Bench::with(CronSettings::default())
    }

    fn with(settings: CronSettings) -> Bench {
        let mut host = FakeHost::default();
        host.now = Now { ms: 0, unix_ms: START_MS };
        let cron = Cron::new(settings, None, &mut host);
        Bench { host, cron }
    }

    fn add(&mut self, id: &str, connection: u32, config: Value) {
        self.cron.trigger_added(Arc::new(binding(id, connection, &config)), &mut self.host);
    }

    fn remove(&mut self, id: &str) {
        self.cron.trigger_removed(&binding(id, 0, &Value::Null), &mut self.host);
    }

    /// Lets time pass, waking the worker when it asked for it; gives back the calls it made.
    fn pass(&mut self, ms: u64) -> Vec<Made> {
        let end = self.host.now.ms + ms;
        while let Some(at) = self.host.wake_at.filter(|at| *at <= end) {
            self.to(at);
            self.host.wake_at = None;
            self.cron.timer(&mut self.host);
        }
        self.to(end);
        self.host.take_made()
    }

    fn to(&mut self, ms: u64) {
        self.host.now.unix_ms += ms - self.host.now.ms;
        self.host.now.ms = ms;
    }

    fn answer(&mut self, made: &Made, outcome: Outcome) -> Vec<Made> {
        self.cron.answer(made.token.expect("tracked"), outcome, &mut self.host);
        self.host.take_made()
    }
}

fn binding(id: &str, connection: u32, config: &Value) -> Binding {
    Binding {
        id: id.into(),
        trigger_type: "cron".into(),
        namespace: "shop".into(),
        function_id: "f".into(),
        config: config.to_string().into_bytes().into(),
        metadata: Some((*b"{\"m\":1}").into()),
        trigger_namespace: None,
        home: "shop".into(),
        registrant: Some(ConnectionId { shard: ShardId(0), slot: connection, generation: 1 }),
    }
}

fn every_second() -> Value {
    json!({"expression": "* * * * * *"})
}

fn payloads(made: &[Made]) -> Vec<Value> {
    made.iter().map(|made| serde_json::from_str(&made.data).expect("JSON")).collect()
}

fn ok() -> Outcome {
    Ok(b"null".to_vec())
}

// CRON-20
#[test]
fn a_tick_calls_the_function_with_what_the_spec_says() {
    let mut bench = Bench::new();
    bench.add("job", 1, every_second());
    assert_eq!(bench.pass(499), []);
    let made = bench.pass(1);
    assert_eq!(made.len(), 1);
    assert_eq!(
        made[0].data,
        r#"{"trigger":"cron","job_id":"job","scheduled_time":"2023-11-14T22:13:21+00:00","actual_time":"2023-11-14T22:13:21.000000000+00:00"}"#
    );
    assert_eq!((made[0].namespace.as_str(), made[0].function_id.as_str()), ("shop", "f"));
    assert_eq!((made[0].metadata.as_deref(), made[0].baggage.as_deref()), (Some("{\"m\":1}"), None));
    assert_eq!(made[0].traceparent.as_deref().map(str::len), Some(55));
    assert_eq!(made[0].timeout_ms, None);
}

// CRON-23, CRON-22; row C5: with a handler of 2.5 s an every-second job runs every third second.
#[test]
fn a_job_never_overlaps_itself() {
    let mut bench = Bench::new();
    bench.add("job", 1, every_second());
    let mut times = Vec::new();
    for _ in 0..3 {
        let made = bench.pass(600);
        let made = if made.is_empty() { bench.pass(400) } else { made };
        times.push(payloads(&made)[0]["scheduled_time"].clone());
        assert_eq!(bench.pass(2500 - (bench.host.now.unix_ms % 1000)), []);
        bench.answer(&made[0], Err(Failure::new("invocation_failed", "no")));
    }
    assert_eq!(times, ["2023-11-14T22:13:21+00:00", "2023-11-14T22:13:24+00:00", "2023-11-14T22:13:27+00:00"]);
}

// CRON-21
#[test]
fn the_condition_is_asked_with_the_payload_and_only_false_says_no() {
    let mut bench = Bench::new();
    bench.add("job", 1, json!({"expression": "* * * * * *", "condition_function_id": "ask"}));
    let asked = bench.pass(500);
    assert_eq!(asked[0].function_id, "ask");
    let ran = bench.answer(&asked[0], ok());
    assert_eq!((ran[0].function_id.as_str(), &ran[0].data), ("f", &asked[0].data));
    bench.answer(&ran[0], ok());
    for no in [Ok(b"false".to_vec()), Err(Failure::new("function_not_found", "no"))] {
        let asked = bench.pass(1000);
        assert_eq!(bench.answer(&asked[0], no), []);
    }
    assert_eq!(bench.pass(1000).len(), 1, "a skipped run is over");
}

// CRON-26
#[test]
fn a_removed_trigger_is_silent_and_abandons_its_run() {
    let mut bench = Bench::new();
    bench.add("job", 1, every_second());
    let made = bench.pass(500);
    bench.remove("job");
    assert_eq!((bench.pass(5000), bench.host.wake_at), (vec![], None));
    bench.answer(&made[0], ok());
    bench.add("job", 1, every_second());
    assert_eq!(bench.pass(1000).len(), 1);
}

// CRON-27, CRON-DB-3
#[test]
fn replicas_share_a_run_and_one_connection_does_not() {
    let mut bench = Bench::new();
    bench.add("b", 1, every_second());
    bench.add("a", 2, every_second());
    let made = bench.pass(500);
    assert_eq!(payloads(&made).iter().map(|data| data["job_id"].clone()).collect::<Vec<_>>(), ["a"]);
    bench.add("c", 1, every_second());
    bench.add("other", 1, json!({"expression": "* * * * * *", "timezone": "Europe/Berlin"}));
    // The run of `a` is still under way.
    let more = bench.pass(1000);
    let mut names: Vec<Value> = payloads(&more).iter().map(|data| data["job_id"].clone()).collect();
    names.sort_by_key(Value::to_string);
    assert_eq!(names, ["c", "other"]);
    bench.answer(&made[0], ok());
    bench.remove("a");
    let names: Vec<Value> = payloads(&bench.pass(1000)).iter().map(|data| data["job_id"].clone()).collect();
    assert_eq!(names, ["b"]);
}

// CRON-DB-3
#[test]
fn replicas_run_each_on_their_own_if_asked() {
    let mut bench = Bench::with(CronSettings { dedupe_replicas: false, ..CronSettings::default() });
    bench.add("b", 1, every_second());
    bench.add("a", 2, every_second());
    assert_eq!(bench.pass(500).len(), 2);
}

// CRON-4
#[test]
fn a_disabled_worker_takes_triggers_and_fires_none() {
    let mut bench = Bench::with(CronSettings { enabled: false, ..CronSettings::default() });
    bench.add("job", 1, every_second());
    assert_eq!((bench.pass(5000), bench.host.wake_at), (vec![], None));
}

// CRON-DB-2
#[test]
fn a_run_may_have_a_limit() {
    let mut bench = Bench::with(CronSettings { run_timeout_ms: Some(700), ..CronSettings::default() });
    bench.add("default", 1, every_second());
    bench.add("own", 1, json!({"expression": "*/1 * * * * *", "timeout_ms": 50, "condition_function_id": "c"}));
    let mut limits: Vec<Option<u64>> = bench.pass(500).iter().map(|made| made.timeout_ms).collect();
    limits.sort_unstable();
    assert_eq!(limits, [Some(50), Some(700)]);
}

// CRON-25, CRON-DB-4
#[test]
fn a_jump_forward_fires_nothing_late() {
    let mut bench = Bench::new();
    bench.add("job", 1, json!({"expression": "0 * * * * *"}));
    bench.add("catching-up", 1, json!({"expression": "30 * * * * *", "catch_up": true}));
    bench.host.now.unix_ms += 10 * 60_000;
    // CRON-DB-6: the latest missed tick, once, with its true time.
    let made = bench.pass(1000);
    assert_eq!(payloads(&made).iter().map(|data| data["job_id"].clone()).collect::<Vec<_>>(), ["catching-up"]);
    assert_eq!(payloads(&made)[0]["scheduled_time"], "2023-11-14T22:22:30+00:00");
    let made = bench.pass(60_000);
    assert_eq!(payloads(&made)[0]["scheduled_time"], "2023-11-14T22:24:00+00:00");
}

// CRON-DB-4
#[test]
fn a_step_back_repeats_nothing() {
    let mut bench = Bench::new();
    bench.add("job", 1, every_second());
    let mut seen = Vec::new();
    let mut run = |bench: &mut Bench, seconds: usize| {
        for _ in 0..seconds {
            for made in bench.pass(1000) {
                seen.push(payloads(std::slice::from_ref(&made))[0]["scheduled_time"].to_string());
                bench.answer(&made, ok());
            }
        }
        seen.len()
    };
    assert_eq!(run(&mut bench, 10), 10);
    bench.host.now.unix_ms -= 5000;
    assert_eq!(run(&mut bench, 4), 10, "these have run");
    assert_eq!(run(&mut bench, 10), 19);
    let mut unique = seen.clone();
    unique.dedup();
    assert_eq!(unique, seen);
}

// A turn that comes late, on a busy machine, is no jump: the latest tick runs, once.
#[test]
fn a_late_turn_runs_the_latest_tick() {
    let mut bench = Bench::new();
    bench.add("job", 1, every_second());
    bench.to(3600);
    bench.cron.timer(&mut bench.host);
    let made = bench.host.take_made();
    assert_eq!(
        payloads(&made).iter().map(|data| data["scheduled_time"].clone()).collect::<Vec<_>>(),
        ["2023-11-14T22:13:24+00:00"]
    );
}

// A job belongs to one shard.
#[test]
fn one_shard_of_four_fires() {
    let mut fired = 0;
    for shard in 0..4 {
        let mut bench = Bench::new();
        bench.host.shard = ShardId(shard);
        bench.host.shards = 4;
        bench.add("job", 1, every_second());
        fired += bench.pass(500).len();
    }
    assert_eq!(fired, 1);
}
