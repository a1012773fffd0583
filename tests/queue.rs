//! Queues and durable topics from outside: raw workers, released SDKs, and engines that are killed.

#![allow(clippy::disallowed_methods, reason = "no shard runs in a test's threads")]

mod support;

use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};
use support::sdk::SDKS;
use support::{Engine, RawWorker, SHARD_COUNTS, error_code, eventually};

const QUEUES: &str = "
workers:
  - name: iii-worker-manager
    config: {port: {port}}
  - name: iii-engine-functions
  - name: iii-queue
    config:
      adapter: {name: builtin, config: {STORE}}
      queue_configs:
        jobs: {max_retries: 2, backoff_ms: 100}
        ordered: {type: fifo, message_group_field: group, concurrency: 8, backoff_ms: 50}
";

fn engine(shards: u32, store: &str) -> Engine {
    Engine::command(shards).config(&QUEUES.replace("STORE", store)).start()
}

fn each(store: &str, body: impl Fn(&mut Engine)) {
    for shards in SHARD_COUNTS {
        eprintln!("--- shards: {shards}");
        body(&mut engine(shards, store));
    }
}

const IN_FILES: &str = "store_method: file_based, file_path: queue";

fn enqueue(worker: &mut RawWorker, queue: &str, function_id: &str, data: Value) -> String {
    let id = worker.fresh_id();
    worker.send(json!({
        "type": "invokefunction", "invocation_id": id, "function_id": function_id, "data": data,
        "action": {"type": "enqueue", "queue": queue},
    }));
    id
}

fn subscribe(worker: &mut RawWorker, id: &str, function_id: &str, config: Value) {
    worker.send(json!({
        "type": "registertrigger", "id": id, "trigger_type": "durable:subscriber", "function_id": function_id,
        "config": config,
    }));
}

fn delivery(worker: &mut RawWorker, function_id: &str) -> Value {
    worker.take(&format!("a call of {function_id}"), |frame| {
        frame["type"] == "invokefunction" && frame["function_id"] == function_id
    })
}

fn stats(worker: &mut RawWorker, name: &str) -> Value {
    worker.call("engine::queue::topic_stats", json!({"topic": name})).expect("stats")
}

// QUEUE-30, QUEUE-31, QUEUE-35, QUEUE-36
#[test]
fn an_enqueued_call_is_run_as_it_is() {
    each("store_method: in_memory", |engine| {
        let mut producer = RawWorker::named(engine, "producer");
        let mut consumer = RawWorker::serving(engine, "consumer", &["work"]);
        let traceparent = "00-11111111111111111111111111111111-2222222222222222-01";
        let id = producer.fresh_id();
        producer.send(json!({
            "type": "invokefunction", "invocation_id": id, "function_id": "work", "data": {"n": [1, null]},
            "action": {"type": "enqueue", "queue": "jobs"}, "traceparent": traceparent, "baggage": "a=b",
        }));
        let answer = producer.expect("invocationresult");
        assert_eq!((&answer["function_id"], &answer["invocation_id"]), (&json!("work"), &json!(id)));
        assert_eq!((&answer["traceparent"], &answer["baggage"]), (&json!(traceparent), &json!("a=b")));
        assert_eq!(answer["result"]["messageReceiptId"].as_str().map(str::len), Some(36), "{answer}");
        let call = delivery(&mut consumer, "work");
        assert_eq!((&call["data"], &call["action"]), (&json!({"n": [1, null]}), &Value::Null));
        assert_eq!(call["traceparent"], traceparent);
        consumer.answer(&call, json!("ignored"));
        eventually("the message to be done", || (stats(&mut producer, "jobs")["depth"] == 0).then_some(()));
        // QUEUE-15, QUEUE-34: `default` is always there, and takes anything.
        for data in [json!(7), json!("x"), json!([1]), Value::Null] {
            let id = enqueue(&mut producer, "default", "work", data.clone());
            producer.result(&id).expect("a receipt");
            let call = delivery(&mut consumer, "work");
            assert_eq!(call["data"], data);
            consumer.answer(&call, Value::Null);
        }
    });
}

// QUEUE-32
#[test]
fn refusals_say_why() {
    each("store_method: in_memory", |engine| {
        let mut worker = RawWorker::named(engine, "worker");
        for (queue, data, expected) in [
            ("none", json!(1), "Queue 'none' not found"),
            ("ordered", json!({}), "FIFO queue 'ordered' requires field 'group' in data, but it was not found"),
            ("ordered", json!({"group": null}), "FIFO queue 'ordered': field 'group' must not be null"),
        ] {
            let id = enqueue(&mut worker, queue, "work", data);
            let error = worker.result(&id).expect_err("refused");
            assert_eq!((&error["code"], &error["message"]), (&json!("enqueue_error"), &json!(expected)));
        }
    });
}

// QUEUE-38
#[test]
fn a_worker_may_provide_the_queue_until_it_leaves() {
    each("store_method: in_memory", |engine| {
        let mut producer = RawWorker::named(engine, "producer");
        let mut provider = RawWorker::named(engine, "provider");
        provider.register("engine::queue::enqueue");
        provider.call("engine::functions::list", json!({})).expect("a list");
        let call = eventually("the provider to be asked", || {
            let id = enqueue(&mut producer, "jobs", "work", json!({"a": 1}));
            match provider.recv_within(Duration::from_millis(300)) {
                Some(call) => Some((id, call)),
                None => {
                    producer.result(&id).expect("the built-in takes it meanwhile");
                    None
                }
            }
        });
        let (id, call) = call;
        let input = &call["data"];
        assert_eq!(
            (&input["queue"], &input["function_id"], &input["data"]),
            (&json!("jobs"), &json!("work"), &json!({"a": 1}))
        );
        assert_eq!((input.get("namespace"), &input["traceparent"]), (None, &Value::Null));
        provider.answer(&call, json!({"messageReceiptId": "mine"}));
        assert_eq!(producer.result(&id).expect("a receipt")["messageReceiptId"], input["messageReceiptId"]);
        let id = enqueue(&mut producer, "jobs", "work", json!(2));
        let call = delivery(&mut provider, "engine::queue::enqueue");
        provider.fail(&call, json!({"code": "invocation_failed", "message": "queue full"}));
        assert_eq!(producer.result(&id).expect_err("refused")["message"], "invocation_failed: queue full");
        provider.vanish();
        eventually("the built-in to take over again", || {
            let id = enqueue(&mut producer, "nobody's", "work", json!(3));
            let error = producer.result(&id).expect_err("refused");
            (error["message"] == "Queue 'nobody's' not found").then_some(())
        });
    });
}

// QUEUE-56 to 61, QUEUE-DB-6
#[test]
fn failures_end_in_the_dead_letters_and_can_be_redriven() {
    each(IN_FILES, |engine| {
        let mut producer = RawWorker::named(engine, "producer");
        let mut consumer = RawWorker::serving(engine, "consumer", &["work"]);
        let id = enqueue(&mut producer, "jobs", "work", json!({"n": 1}));
        let receipt = producer.result(&id).expect("a receipt");
        for _ in 0..2 {
            let call = delivery(&mut consumer, "work");
            consumer.fail(&call, json!({"code": "bad", "message": "no luck"}));
        }
        let dead = eventually("a dead letter", || {
            let dead = producer.call("engine::queue::dlq_messages", json!({"topic": "jobs"})).expect("a list");
            dead.get(0).cloned()
        });
        assert_eq!(
            (&dead["error"], &dead["retries"], &dead["payload"]),
            (&json!("bad: no luck"), &json!(2), &json!({"n": 1}))
        );
        assert_eq!(dead["receipt_id"], receipt["messageReceiptId"]);
        let topics = producer.call("engine::queue::dlq_topics", json!({})).expect("a list");
        assert!(topics.as_array().expect("rows").iter().any(|row| row["topic"] == "jobs" && row["message_count"] == 1));
        let input = json!({"queue": "jobs", "message_id": receipt["messageReceiptId"]});
        assert_eq!(producer.call("iii::queue::redrive_message", input).expect("an answer")["redriven"], 1);
        let call = delivery(&mut consumer, "work");
        consumer.answer(&call, Value::Null);
        eventually("the message to be done", || (stats(&mut producer, "jobs")["depth"] == 0).then_some(()));
        let rows = producer.call("engine::queue::list_topics", json!({})).expect("a list");
        let names: Vec<&str> = rows.as_array().expect("rows").iter().filter_map(|row| row["name"].as_str()).collect();
        assert_eq!(names.iter().filter(|name| ["default", "jobs", "ordered"].contains(name)).count(), 3, "{rows}");
    });
}

// QUEUE-DB-4, QUEUE-DB-7, QUEUE-47, QUEUE-55
#[test]
fn subscriptions_outlive_their_worker() {
    each("store_method: in_memory", |engine| {
        let mut producer = RawWorker::named(engine, "producer");
        let publish = |producer: &mut RawWorker, data: Value| {
            let id = producer.invoke("iii::durable::publish", json!({"topic": "news", "data": data}));
            let answer = producer.take("the answer", |frame| frame["invocation_id"] == id);
            assert_eq!((answer.get("result"), answer.get("error")), (None, None), "{answer}");
        };
        publish(&mut producer, json!("before anybody"));
        let mut one = RawWorker::serving(engine, "one", &["one"]);
        subscribe(&mut one, "t1", "one", json!({"topic": "news"}));
        let call = delivery(&mut one, "one");
        assert_eq!(call["data"], "before anybody");
        one.answer(&call, Value::Null);
        let mut two = RawWorker::serving(engine, "two", &["two"]);
        subscribe(&mut two, "t2", "two", json!({"topic": "news"}));
        two.round_trip();
        eventually("both to be subscribed", || (stats(&mut producer, "news")["consumer_count"] == 2).then_some(()));
        publish(&mut producer, json!(1));
        for (worker, id) in [(&mut one, "one"), (&mut two, "two")] {
            let call = delivery(worker, id);
            assert_eq!(call["data"], 1);
            worker.answer(&call, Value::Null);
        }
        one.vanish();
        eventually("one to be gone", || (stats(&mut producer, "news")["consumer_count"] == 1).then_some(()));
        publish(&mut producer, json!(2));
        let mut one = RawWorker::serving(engine, "one", &["one"]);
        subscribe(&mut one, "t1", "one", json!({"topic": "news"}));
        assert_eq!(delivery(&mut one, "one")["data"], 2);
    });
}

// QUEUE-DB-2, QUEUE-DB-5: one connection's burst keeps its order, group by group.
#[test]
fn bursts_keep_their_order() {
    each(IN_FILES, |engine| {
        let mut producer = RawWorker::named(engine, "producer");
        let mut consumer = RawWorker::serving(engine, "consumer", &["work"]);
        for number in 0..200 {
            enqueue(&mut producer, "ordered", "work", json!({"group": number % 5, "n": number}));
        }
        let mut last: HashMap<u64, i64> = HashMap::new();
        for _ in 0..200 {
            let call = delivery(&mut consumer, "work");
            let (group, number) = (call["data"]["group"].as_u64().unwrap(), call["data"]["n"].as_i64().unwrap());
            let before = last.insert(group, number).unwrap_or(-1);
            assert!(number > before, "group {group}: {number} after {before}");
            consumer.answer(&call, Value::Null);
        }
    });
}

// QUEUE-DB-7: nothing is charged while the function is away.
#[test]
fn messages_wait_for_their_function() {
    each(IN_FILES, |engine| {
        let mut producer = RawWorker::named(engine, "producer");
        let id = enqueue(&mut producer, "jobs", "later", json!(1));
        producer.result(&id).expect("a receipt");
        std::thread::sleep(Duration::from_millis(700));
        assert_eq!(stats(&mut producer, "jobs")["dlq_depth"], 0);
        let mut consumer = RawWorker::named(engine, "consumer");
        consumer.register("later");
        let call = delivery(&mut consumer, "later");
        consumer.answer(&call, Value::Null);
    });
}

// QUEUE-2, QUEUE-31, QUEUE-49: every SDK queues for every other, and every SDK is a subscriber.
#[test]
fn all_sdks_queue_and_subscribe() {
    each(IN_FILES, |engine| {
        let mut workers: Vec<_> = SDKS.iter().map(|sdk| sdk.worker(engine, &sdk.label())).collect();
        let prefixes: Vec<_> = workers.iter().map(|worker| worker.prefix.clone()).collect();
        for from in 0..workers.len() {
            for to in 0..workers.len() {
                let payload = json!({"from": from, "to": to});
                let receipt = workers[from]
                    .enqueue("jobs", &format!("{}::event", prefixes[to]), payload.clone())
                    .unwrap_or_else(|error| panic!("{} enqueues: {error}", prefixes[from]));
                assert!(receipt["messageReceiptId"].is_string(), "{}: {receipt}", prefixes[from]);
                assert_eq!(workers[to].handled("event"), payload);
            }
            let error = workers[from].enqueue("none", "x", json!(1)).expect_err("there is no such queue");
            assert!(error["message"].as_str().is_some_and(|text| text.contains("Queue 'none' not found")), "{error}");
        }
        for (worker, kind) in
            workers.iter_mut().zip(["durable:subscriber", "durable:subscriber", "durable:subscriber", "queue"])
        {
            let function = format!("{}::event", worker.prefix);
            worker.subscribe(kind, &function, json!({"topic": "all"}));
        }
        let mut probe = RawWorker::named(engine, "probe");
        eventually("four subscribers", || (stats(&mut probe, "all")["consumer_count"] == 4).then_some(()));
        for from in 0..workers.len() {
            let function = if from % 2 == 0 { "iii::durable::publish" } else { "enqueue" };
            workers[from].call(function, json!({"topic": "all", "data": {"n": from}})).expect("published");
            for worker in &mut workers {
                assert_eq!(worker.handled("event"), json!({"n": from}));
            }
        }
    });
}

// QUEUE-DB-3, QUEUE-82: a power cut loses no accepted message and keeps groups in order. `III_KILLS` sets how often.
#[test]
fn kills_lose_nothing() {
    let kills: u32 = std::env::var("III_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(3);
    each(IN_FILES, |engine| {
        let mut next = 0u64;
        let mut accepted: BTreeMap<u64, bool> = BTreeMap::new();
        for round in 0..kills {
            let mut producer = RawWorker::named(engine, "producer");
            let mut consumer = RawWorker::serving(engine, "consumer", &["work"]);
            let mut last: HashMap<u64, u64> = HashMap::new();
            let mut asked: HashMap<String, u64> = HashMap::new();
            let until = Instant::now() + Duration::from_millis(100 + u64::from(round * 37 % 300));
            while Instant::now() < until {
                for _ in 0..8 {
                    let data = json!({"group": next % 7, "n": next});
                    asked.insert(enqueue(&mut producer, "ordered", "work", data), next);
                    next += 1;
                }
                while let Some(answer) = producer.recv_within(Duration::from_millis(2)) {
                    let number = answer["invocation_id"].as_str().and_then(|id| asked.remove(id));
                    if let (Some(number), None) = (number, answer.get("error")) {
                        accepted.entry(number).or_default();
                    }
                }
                run_some(&mut consumer, &mut accepted, &mut last);
            }
            engine.kill();
            engine.start_again();
        }
        let mut consumer = RawWorker::serving(engine, "consumer", &["work"]);
        let mut probe = RawWorker::named(engine, "probe");
        let mut last = HashMap::new();
        eventually("every accepted message to be delivered", || {
            run_some(&mut consumer, &mut accepted, &mut last);
            accepted.values().all(|delivered| *delivered).then_some(())
        });
        eventually("nothing to be left", || {
            run_some(&mut consumer, &mut accepted, &mut last);
            (stats(&mut probe, "ordered")["depth"] == 0).then_some(())
        });
        eprintln!("{} messages accepted, {kills} kills", accepted.len());
    });
}

/// Runs what has been delivered. Between two kills a group never goes back.
fn run_some(consumer: &mut RawWorker, accepted: &mut BTreeMap<u64, bool>, last: &mut HashMap<u64, u64>) {
    while let Some(call) = consumer.recv_within(Duration::from_millis(5)) {
        if call["type"] != "invokefunction" {
            continue;
        }
        let (group, number) = (call["data"]["group"].as_u64().unwrap(), call["data"]["n"].as_u64().unwrap());
        let before = last.insert(group, number);
        assert!(before.is_none_or(|before| before < number), "group {group}: {number} after {before:?}");
        accepted.insert(number, true);
        consumer.answer(&call, Value::Null);
    }
}

// QUEUE-DB-3: an orderly stop loses nothing either, and a second engine is kept out.
#[test]
fn a_stop_keeps_everything_and_the_store_has_one_engine() {
    let mut engine = engine(4, IN_FILES);
    let mut producer = RawWorker::named(&engine, "producer");
    for number in 0..50 {
        let id = enqueue(&mut producer, "jobs", "later", json!(number));
        producer.result(&id).expect("a receipt");
    }
    assert!(engine.terminate().success());
    engine.start_again();
    let mut consumer = RawWorker::named(&engine, "consumer");
    consumer.register("later");
    for number in 0..50 {
        let call = delivery(&mut consumer, "later");
        assert_eq!(call["data"], number);
        consumer.answer(&call, Value::Null);
    }
    assert_eq!(error_code(&consumer.call("iii::queue::redrive", json!({}))), "deserialization_error");
}

/// Not a test of a promise but of speed: `III_TEST_BINARY=target/release/iii cargo test --test queue -- --ignored speed --nocapture`
#[test]
#[ignore = "measures; run it with a release build"]
fn speed() {
    const MESSAGES: usize = 100_000;
    for store in ["store_method: in_memory", IN_FILES, "store_method: file_based, file_path: queue, fsync: interval"] {
        let engine = engine(1, store);
        let mut consumer = RawWorker::serving(&engine, "consumer", &["work"]);
        let running = std::thread::spawn(move || {
            for _ in 0..MESSAGES {
                let call = delivery(&mut consumer, "work");
                consumer.answer(&call, Value::Null);
            }
        });
        let mut producer = RawWorker::named(&engine, "producer");
        let payload = json!({"text": "x".repeat(1000)});
        let begin = Instant::now();
        for sent in 0..MESSAGES + 64 {
            if sent < MESSAGES {
                enqueue(&mut producer, "default", "work", payload.clone());
            }
            if sent >= 64 {
                producer.expect("invocationresult");
            }
        }
        let accepted = begin.elapsed();
        running.join().expect("everything is delivered");
        let rate = |time: Duration| MESSAGES as f64 / time.as_secs_f64();
        println!("{store}: {:.0}/s accepted, {:.0}/s delivered and done", rate(accepted), rate(begin.elapsed()));
    }
}

/// A million waiting messages cost disk, not memory.
#[test]
#[ignore = "writes a gigabyte; run it with a release build"]
fn backlog() {
    let engine = engine(1, "store_method: file_based, file_path: queue, fsync: interval");
    let mut producer = RawWorker::named(&engine, "producer");
    let payload = json!({"text": "x".repeat(1000)});
    let before = engine.resident_bytes();
    let begin = Instant::now();
    for sent in 0..1_000_000 + 256 {
        if sent < 1_000_000 {
            enqueue(&mut producer, "default", "work", payload.clone());
        }
        if sent >= 256 {
            producer.expect("invocationresult");
        }
    }
    let grown = (engine.resident_bytes() - before) >> 20;
    println!("a million messages in {:?}: +{grown} MiB resident", begin.elapsed());
    let mut consumer = RawWorker::serving(&engine, "consumer", &["work"]);
    let begin = Instant::now();
    for _ in 0..100_000 {
        let call = delivery(&mut consumer, "work");
        consumer.answer(&call, Value::Null);
    }
    println!("the first 100,000 delivered in {:?}, {} MiB resident", begin.elapsed(), engine.resident_bytes() >> 20);
}
