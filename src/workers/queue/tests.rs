//! The queue worker: a line against rules, then an instance on a fake host.

use super::job::{Head, Job, Target};
use super::line::{Line, Verdict};
use super::tuning::{Tuning, group_of};
use crate::config::settings::{BuiltinQueueSettings, NamedQueueSettings, QueueKind, QueueSettings};
use iii_shards::builtin::fake::{FakeHost, Made};
use iii_shards::builtin::{BuiltIn, CallId, Failure};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;

// === tuning ===

// QUEUE-61, QUEUE-DB-11
#[test]
fn delays_double_up_to_the_cap() {
    let check = |tuning: &Tuning, expected: [u64; 4]| {
        assert_eq!([1, 2, 3, 70].map(|attempts| tuning.delay_ms(attempts, 0.0)), expected);
    };
    let base = Tuning { backoff_ms: 200, ..Tuning::default() };
    check(&base, [200, 400, 800, u64::MAX]);
    check(&Tuning { backoff_max_ms: 500, ..base.clone() }, [200, 400, 500, 500]);
    check(&Tuning { fixed: true, ..base.clone() }, [200; 4]);
    assert_eq!(Tuning { jitter: 0.5, ..base }.delay_ms(1, 1.0), 100);
}

// QUEUE-46, QUEUE-61
#[test]
fn triggers_tune_their_destination() {
    let attempts = |config: Value| {
        let config = config.as_object().cloned().unwrap_or_default();
        Tuning::of_trigger(&config, &BuiltinQueueSettings::default()).attempts
    };
    assert_eq!(attempts(json!({})), 3);
    assert_eq!(attempts(json!({"queue_config": {"maxRetries": 2}})), 3);
    assert_eq!(attempts(json!({"queue_config": {"maxRetries": 0}})), 1);
    assert_eq!(attempts(json!({"queue_config": {"max_retries": 4}})), 5);
    assert_eq!(attempts(json!({"queue_config": {"maxRetries": "many"}})), 3);
    assert_eq!(attempts(json!({"queue_config": 7})), 3);
    assert_eq!(attempts(json!({"maxRetries": 0, "queue_config": {"maxRetries": 9}})), 1);
}

// QUEUE-32, QUEUE-34
#[test]
fn groups_are_json_values() {
    assert_eq!(group_of("q", "g", br#"{"g":"a"}"#), Ok("\"a\"".to_owned()));
    assert_eq!(group_of("q", "g", br#"{"g": [1, 2]}"#), Ok("[1,2]".to_owned()));
    let missing = "FIFO queue 'q' requires field 'g' in data, but it was not found";
    assert_eq!(group_of("q", "g", b"{}"), Err(missing.to_owned()));
    assert_eq!(group_of("q", "g", b"7"), Err(missing.to_owned()));
    assert_eq!(group_of("q", "g", br#"{"g":null}"#), Err("FIFO queue 'q': field 'g' must not be null".to_owned()));
}

// === a line ===

fn job(seq: u64, group: Option<&str>, function: &str) -> Job {
    let head = Head {
        id: format!("id{seq}").into(),
        receipt: None,
        target: Target { namespace: "default".into(), function_id: function.into() },
        group: group.map(Into::into),
        traceparent: None,
        baggage: None,
        attempts: 0,
        stops: 0,
        enqueued_ms: 0,
        not_before_ms: 0,
    };
    Job { seq, head, data: b"{}"[..].into() }
}

#[test]
fn records_come_back() {
    let mut one = job(7, Some("g"), "f");
    one.head.attempts = 2;
    assert_eq!(Job::of_record(7, &one.record()), Some(one));
    assert_eq!(Job::of_record(7, b"short"), None);
}

/// A line is run by a model that knows the rules: nothing is lost, nothing runs twice at a time, groups keep their
/// order, never more at a time than there are slots.
#[test]
fn a_line_keeps_its_promises() {
    for seed in 0..400 {
        let mut random = fastrand::Rng::with_seed(seed);
        let fifo = random.bool();
        let slots = random.u32(1..5);
        let mut line = Line::new(Tuning { attempts: 3, slots, fifo, backoff_ms: 10, ..Tuning::default() });
        let durable = random.bool();
        // What the disk holds, in order.
        let mut disk: Vec<Job> = Vec::new();
        let mut running: Vec<Job> = Vec::new();
        let mut finished: HashMap<u64, bool> = HashMap::new();
        let mut seq = 0;
        let mut now = 0;
        let mut order: HashMap<String, Vec<u64>> = HashMap::new();
        for step in 0..400 {
            now += random.u64(..8);
            if step < 250 && random.u8(..3) > 0 {
                seq += 1;
                let name = format!("g{}", random.u8(..3));
                let function = if random.u8(..5) == 0 { "away" } else { "here" };
                let one = job(seq, Some(&name), function);
                disk.push(one.clone());
                line.push(one, durable, now);
            }
            if let Some(from) = line.wants_refill() {
                let rest: Vec<Job> = disk.iter().filter(|job| job.seq >= from).take(3).cloned().collect();
                let end = rest.last().is_none_or(|last| last.seq == seq);
                line.refill(rest, end, now);
            }
            line.wake(now);
            while let Some(taken) = line.take(|target| step < 300 && &*target.function_id == "away") {
                assert!(running.iter().all(|other| other.seq != taken.seq), "seed {seed}: runs twice");
                if fifo {
                    assert!(
                        running.iter().all(|other| other.head.group != taken.head.group),
                        "seed {seed}: two of a group"
                    );
                }
                running.push(taken);
            }
            assert!(running.len() <= slots as usize, "seed {seed}: too many at a time");
            if step == 300 {
                line.unpark(&Target { namespace: "default".into(), function_id: "away".into() }, usize::MAX);
            }
            if !running.is_empty() && random.u8(..3) > 0 {
                let one = running.swap_remove(random.usize(..running.len()));
                let group = one.head.group.as_deref().unwrap_or_default().to_owned();
                if random.u8(..4) > 0 || step > 350 {
                    line.done(one.seq).expect("it was running");
                    assert_eq!(finished.insert(one.seq, true), None, "seed {seed}: done twice");
                    order.entry(group).or_default().push(one.seq);
                } else if let Some((one, Verdict::Dead)) = line.fail(one.seq, random.bool(), now, 0.0) {
                    assert_eq!(finished.insert(one.seq, false), None);
                    order.entry(group).or_default().push(one.seq);
                }
            }
        }
        for _ in 0..10_000 {
            now += 100;
            if let Some(from) = line.wants_refill() {
                let rest: Vec<Job> = disk.iter().filter(|job| job.seq >= from).take(100).cloned().collect();
                let end = rest.last().is_none_or(|last| last.seq == seq);
                line.refill(rest, end, now);
            }
            line.wake(now);
            while let Some(taken) = line.take(|_| false) {
                running.push(taken);
            }
            let Some(one) = running.pop() else { break };
            line.done(one.seq).expect("it was running");
            assert_eq!(finished.insert(one.seq, true), None, "seed {seed}");
            order.entry(one.head.group.as_deref().unwrap_or_default().to_owned()).or_default().push(one.seq);
        }
        assert_eq!(finished.len() as u64, seq, "seed {seed}: every message ends");
        assert_eq!((line.waiting(), line.running(), line.delayed()), (0, 0, 0), "seed {seed}");
        if fifo {
            for (group, seqs) in order {
                assert!(seqs.is_sorted(), "seed {seed}: {group} ran as {seqs:?}");
            }
        }
    }
}

// === an instance ===

struct Bench {
    host: FakeHost,
    queue: Box<dyn BuiltIn>,
}

impl Bench {
    fn new(queues: &[(&str, NamedQueueSettings)]) -> Bench {
        let queue_configs = queues.iter().map(|(name, settings)| ((*name).to_owned(), settings.clone())).collect();
        let settings = QueueSettings { queue_configs, ..QueueSettings::default() };
        let definition = super::definition(&settings).expect("defined");
        let mut host = FakeHost::default();
        let mut queue = (definition.factory)(&mut host);
        queue.start(&mut host);
        Bench { host, queue }
    }

    fn call(&mut self, function_id: &str, data: Value) -> CallId {
        let functions = super::functions();
        let index = functions.iter().position(|function| function.id == function_id).expect("a function");
        let call = self.host.incoming(index, function_id, &data.to_string());
        let id = call.id;
        self.queue.call(call, &mut self.host);
        // Letters to itself.
        for (_, letter) in std::mem::take(&mut self.host.posted) {
            self.queue.message(letter, &mut self.host);
        }
        for (_, letter) in std::mem::take(&mut self.host.posted) {
            self.queue.message(letter, &mut self.host);
        }
        id
    }

    fn ask(&mut self, function_id: &str, data: Value) -> Result<Value, Failure> {
        let id = self.call(function_id, data);
        let outcome = self.host.answers.remove(&id).expect("answered");
        outcome.map(|result| serde_json::from_slice(&result).unwrap_or(Value::Null))
    }

    fn enqueue(&mut self, queue: &str, data: Value) -> Result<Value, Failure> {
        self.ask("engine::queue::enqueue", json!({"queue": queue, "function_id": "f", "data": data}))
    }

    fn made(&mut self) -> Vec<Made> {
        self.host.take_made()
    }

    fn finish(&mut self, made: &Made, outcome: Result<&str, Failure>) {
        let token = made.token.expect("an answer is wanted");
        self.queue.answer(token, outcome.map(|text| text.as_bytes().to_vec()), &mut self.host);
    }

    fn wait(&mut self, ms: u64) {
        self.host.now.ms += ms;
        self.host.now.unix_ms += ms;
        self.queue.timer(&mut self.host);
    }
}

fn boom() -> Failure {
    Failure::new("boom", "it broke")
}

fn not_found() -> Failure {
    Failure::new("function_not_found", "Function f not found in namespace default.")
}

// QUEUE-31, QUEUE-35, QUEUE-36
#[test]
fn a_message_goes_to_its_function_as_it_is() {
    let mut bench = Bench::new(&[("q", NamedQueueSettings::default())]);
    let receipt = bench.enqueue("q", json!([1, {"a": null}])).expect("accepted");
    assert!(receipt["messageReceiptId"].is_string(), "{receipt}");
    let made = bench.made();
    assert_eq!((made.len(), &*made[0].function_id, &*made[0].data), (1, "f", r#"[1,{"a":null}]"#));
    bench.finish(&made[0], Ok("null"));
    let stats = bench.ask("engine::queue::topic_stats", json!({"topic": "q"})).expect("stats");
    assert_eq!((&stats["depth"], &stats["consumer_count"], &stats["delivered"]), (&json!(0), &json!(10), &json!(1)));
}

// QUEUE-32
#[test]
fn what_cannot_be_queued_is_refused() {
    let fifo = NamedQueueSettings {
        r#type: QueueKind::Fifo,
        message_group_field: Some("g".to_owned()),
        ..NamedQueueSettings::default()
    };
    let full = NamedQueueSettings { concurrency: 1, max_depth: 1, ..NamedQueueSettings::default() };
    let mut bench = Bench::new(&[("fifo", fifo), ("small", full)]);
    let mut refusal = |queue: &str, data: Value| {
        let failure = bench.enqueue(queue, data).expect_err("refused");
        assert_eq!(failure.code, "enqueue_error");
        failure.message
    };
    assert_eq!(refusal("none", json!(1)), "Queue 'none' not found");
    assert!(refusal("fifo", json!({})).contains("requires field 'g'"));
    assert!(refusal("fifo", json!({"g": null})).contains("must not be null"));
    bench.enqueue("small", json!(1)).expect("room for one");
    assert_eq!(bench.enqueue("small", json!(2)).expect_err("full").message, "Queue 'small' is full");
}

// QUEUE-56 to 61, QUEUE-DB-6
#[test]
fn failures_are_retried_then_kept_with_their_reason() {
    let settings = NamedQueueSettings { max_retries: 2, backoff_ms: 100, ..NamedQueueSettings::default() };
    let mut bench = Bench::new(&[("q", settings)]);
    let receipt = bench.enqueue("q", json!({"n": 1})).expect("accepted")["messageReceiptId"].clone();
    let made = bench.made();
    bench.finish(&made[0], Err(boom()));
    assert_eq!(bench.made(), []);
    bench.wait(99);
    assert_eq!(bench.made(), []);
    bench.wait(1);
    let made = bench.made();
    assert_eq!(made.len(), 1);
    bench.finish(&made[0], Err(boom()));
    bench.wait(100_000);
    assert_eq!(bench.made(), []);
    let dead = bench.ask("engine::queue::dlq_messages", json!({"topic": "q"})).expect("a list");
    let one = &dead[0];
    assert_eq!(
        (&one["payload"], &one["error"], &one["retries"]),
        (&json!({"n": 1}), &json!("boom: it broke"), &json!(2))
    );
    assert_eq!((&one["receipt_id"], &one["function_id"]), (&receipt, &json!("f")));
    let topics = bench.ask("engine::queue::dlq_topics", json!({})).expect("a list");
    let row = json!({"topic": "q", "broker_type": "function_queue", "message_count": 1});
    assert!(topics.as_array().is_some_and(|rows| rows.contains(&row)), "{topics}");
    let id = one["id"].clone();
    let one = json!({"queue": "q", "message_id": id});
    let answer = bench.ask("iii::queue::redrive_message", one.clone()).expect("redriven");
    assert_eq!(answer, json!({"queue": "q", "message_id": id, "redriven": 1}));
    assert_eq!(bench.ask("iii::queue::redrive_message", one).expect("an answer")["redriven"], 0);
    let made = bench.made();
    assert_eq!(made.len(), 1, "it runs at once");
    bench.finish(&made[0], Ok("1"));
    assert_eq!(
        bench.ask("iii::queue::redrive", json!({"topic": "q"})).expect("an answer"),
        json!({"queue": "q", "redriven": 0})
    );
}

// QUEUE-DB-5
#[test]
fn a_failed_message_blocks_its_group_and_no_other() {
    let settings = NamedQueueSettings {
        r#type: QueueKind::Fifo,
        message_group_field: Some("g".to_owned()),
        backoff_ms: 100,
        ..NamedQueueSettings::default()
    };
    let mut bench = Bench::new(&[("q", settings)]);
    for (group, number) in [("a", 0), ("a", 1), ("b", 0)] {
        bench.enqueue("q", json!({"g": group, "n": number})).expect("accepted");
    }
    let made = bench.made();
    let data: Vec<&str> = made.iter().map(|made| &*made.data).collect();
    assert_eq!(data, [r#"{"g":"a","n":0}"#, r#"{"g":"b","n":0}"#]);
    bench.finish(&made[0], Err(boom()));
    bench.finish(&made[1], Ok("null"));
    assert_eq!(bench.made(), []);
    bench.wait(100);
    let made = bench.made();
    assert_eq!((made.len(), &*made[0].data), (1, r#"{"g":"a","n":0}"#));
    bench.finish(&made[0], Ok("null"));
    assert_eq!(bench.made()[0].data, r#"{"g":"a","n":1}"#);
}

// QUEUE-DB-7
#[test]
fn messages_wait_for_their_function() {
    let mut bench = Bench::new(&[("q", NamedQueueSettings { concurrency: 2, ..NamedQueueSettings::default() })]);
    for number in 0..5 {
        bench.enqueue("q", json!(number)).expect("accepted");
    }
    for _ in 0..20 {
        for made in bench.made() {
            bench.finish(&made, Err(not_found()));
        }
        bench.wait(1_000);
    }
    let mut done = Vec::new();
    for _ in 0..20 {
        for made in bench.made() {
            done.push(made.data.clone());
            bench.finish(&made, Ok("null"));
        }
        bench.wait(1_000);
    }
    assert_eq!(done, ["0", "1", "2", "3", "4"]);
    // Another function's absence is the handler's own error.
    bench.enqueue("q", json!(9)).expect("accepted");
    let made = bench.made();
    bench.finish(&made[0], Err(Failure::new("function_not_found", "Function other not found in namespace default.")));
    assert_eq!(bench.ask("engine::queue::topic_stats", json!({"topic": "q"})).expect("stats")["delayed"], 1);
}

fn subscribe(bench: &mut Bench, id: &str, function_id: &str, config: Value) {
    bench.queue.trigger_added(Arc::new(binding(id, function_id, config)), &mut bench.host);
}

fn binding(id: &str, function_id: &str, config: Value) -> iii_shards::control::triggers::Binding {
    iii_shards::control::triggers::Binding {
        id: id.into(),
        trigger_type: "durable:subscriber".into(),
        namespace: "default".into(),
        function_id: function_id.into(),
        config: config.to_string().into_bytes().into(),
        metadata: Some(br#"{"m":1}"#[..].into()),
        trigger_namespace: None,
        home: "default".into(),
        registrant: None,
    }
}

fn publish(bench: &mut Bench, data: Value) {
    assert_eq!(bench.ask("iii::durable::publish", json!({"topic": "t", "data": data})), Ok(Value::Null));
}

// QUEUE-47, QUEUE-49, QUEUE-DB-4
#[test]
fn each_subscribed_function_gets_a_copy_and_the_first_what_came_before() {
    let mut bench = Bench::new(&[]);
    publish(&mut bench, json!("early"));
    assert_eq!(bench.made(), []);
    subscribe(&mut bench, "1", "f", json!({"topic": "t"}));
    let made = bench.made();
    assert_eq!((made.len(), &*made[0].data, made[0].metadata.as_deref()), (1, "\"early\"", Some(r#"{"m":1}"#)));
    subscribe(&mut bench, "2", "g", json!({"queue": "t"}));
    subscribe(&mut bench, "3", "g", json!({"topic": "t"}));
    publish(&mut bench, json!(1));
    let functions: Vec<String> = bench.made().into_iter().map(|made| made.function_id).collect();
    assert_eq!(functions, ["f", "g"]);
    // The worker of f leaves: its destination goes on collecting.
    let trigger = binding("1", "f", json!({"topic": "t"}));
    bench.queue.trigger_removed(&trigger, &mut bench.host);
    publish(&mut bench, json!(2));
    assert_eq!(bench.made().len(), 1);
    subscribe(&mut bench, "4", "f", json!({"topic": "t"}));
    assert_eq!(bench.made().into_iter().map(|made| made.data).collect::<Vec<_>>(), ["2"]);
}

// QUEUE-50
#[test]
fn conditions_skip_on_false_only() {
    let mut bench = Bench::new(&[]);
    let config = json!({"topic": "t", "condition_function_id": "c", "queue_config": {"maxRetries": 0}});
    subscribe(&mut bench, "1", "f", config);
    for (verdict, runs) in [("false", 0), ("null", 1), ("0", 1), ("\"false\"", 1), ("{}", 1)] {
        publish(&mut bench, json!(1));
        let made = bench.made();
        assert_eq!(&*made[0].function_id, "c");
        bench.finish(&made[0], Ok(verdict));
        let made = bench.made();
        assert_eq!(made.len(), runs, "{verdict}");
        made.iter().for_each(|made| bench.finish(made, Ok("null")));
    }
    publish(&mut bench, json!(1));
    let made = bench.made();
    bench.finish(&made[0], Err(boom()));
    assert_eq!(bench.made(), []);
    let dead = bench.ask("engine::queue::dlq_messages", json!({"topic": "t"})).expect("a list");
    assert_eq!(dead[0]["error"], "Condition function error: boom: it broke");
}

// QUEUE-55, QUEUE-57, QUEUE-59
#[test]
fn inputs_are_checked() {
    let mut bench = Bench::new(&[]);
    let mut code = |id: &str, data: Value| bench.ask(id, data).expect_err("refused").code.into_owned();
    assert_eq!(code("iii::durable::publish", json!({"topic": "", "data": 1})), "topic_not_set");
    assert_eq!(code("iii::durable::publish", json!({"topic": "t"})), "deserialization_error");
    assert_eq!(code("iii::queue::redrive", json!({"queue": ""})), "queue_not_set");
    assert_eq!(code("iii::queue::redrive_message", json!({"queue": "q", "message_id": ""})), "message_id_not_set");
    assert_eq!(code("engine::queue::topic_stats", json!({"topic": ""})), "topic_required");
}
