//! Topics against the built binary: everybody who subscribes gets everything, in order, on one engine and on two.

mod support;

use serde_json::{Value, json};
use support::redis::Redis;
use support::sdk::SDKS;
use support::{Engine, RawWorker, SILENCE, each_shard_count_with, error_code, eventually};

const WORKER: &str = "name: iii-pubsub";

fn subscribe(worker: &mut RawWorker, id: &str, function_id: &str, config: Value) {
    worker.send(json!({
        "type": "registertrigger", "id": id, "trigger_type": "subscribe", "function_id": function_id, "config": config,
        "metadata": {"m": id},
    }));
}

fn publish(topic: &str, data: impl Into<Value>) -> Value {
    json!({"topic": topic, "data": data.into()})
}

// PUBSUB-10, PUBSUB-12, PUBSUB-21; row P1
#[test]
fn events_cross_between_all_sdks() {
    each_shard_count_with(WORKER, |engine| {
        let mut workers: Vec<_> = SDKS.iter().map(|sdk| sdk.worker(engine, &sdk.label())).collect();
        for worker in &mut workers {
            worker.register_trigger("subscribe", "event", json!({"topic": "news"}));
        }
        for sdk in SDKS {
            engine.wait_for_log(&format!("[REGISTERED] PubSub subscription news → {}::event", sdk.label()));
        }
        for publisher in 0..workers.len() {
            for data in [json!({"from": publisher}), json!("text"), json!([1, null]), Value::Null] {
                assert_eq!(workers[publisher].call("publish", publish("news", data.clone())), Ok(Value::Null));
                for worker in &mut workers {
                    assert_eq!(worker.handled("event"), data);
                }
            }
            workers[publisher].call_void("iii::pubsub::publish", publish("news", publisher));
            for worker in &mut workers {
                assert_eq!(worker.handled("event"), json!(publisher));
            }
        }
    });
}

// PUBSUB-10, PUBSUB-11, PUBSUB-20
#[test]
fn what_publish_answers() {
    each_shard_count_with(WORKER, |engine| {
        let mut worker = RawWorker::named(engine, "w");
        let call = worker.invoke("publish", publish("nobody", 1));
        let answer = worker.expect("invocationresult");
        assert_eq!(answer["invocation_id"], call.as_str());
        assert!(answer.get("result").is_none() && answer.get("error").is_none(), "{answer}");
        assert_eq!(error_code(&worker.call("publish", publish("", 1))), "topic_not_set");
        assert_eq!(error_code(&worker.call("publish", json!({"topic": "t"}))), "deserialization_error");
        subscribe(&mut worker, "t", "f", json!({}));
        assert_eq!(worker.recv_within(SILENCE), None);
    });
}

// PUBSUB-22, PUBSUB-26, PUBSUB-DB-1, PUBSUB-DB-4, PUBSUB-DB-5, PUBSUB-DB-6
#[test]
fn replicas_get_each_event_once_and_in_order() {
    const EVENTS: u64 = 200;
    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    each_shard_count_with(WORKER, |engine| {
        let mut replicas = [RawWorker::serving(engine, "a", &["f"]), RawWorker::named(engine, "b")];
        replicas[1].register("f");
        for (index, replica) in replicas.iter_mut().enumerate() {
            subscribe(replica, &format!("t{index}"), "f", json!({"topic": "news"}));
        }
        eventually("both replicas are there", || {
            (engine.log().matches("[REGISTERED] PubSub subscription news").count() == 2).then_some(())
        });
        let mut publisher = RawWorker::named(engine, "p");
        for n in 0..EVENTS {
            publisher.queue(&json!({
                "type": "invokefunction", "function_id": "publish", "data": publish("news", n),
                "action": {"type": "void"}, "traceparent": TRACE,
            }));
        }
        publisher.flush();
        for (index, replica) in replicas.iter_mut().enumerate() {
            for n in 0..EVENTS {
                let event = replica.expect("invokefunction");
                assert_eq!((&event["data"], &event["metadata"]), (&json!(n), &json!({"m": format!("t{index}")})));
                assert_eq!(event["traceparent"].as_str().map(|trace| &trace[3..35]), Some(&TRACE[3..35]));
                replica.answer(&event, json!(null));
            }
            assert_eq!(replica.recv_within(SILENCE), None);
        }
        replicas[0].send(json!({"type": "unregistertrigger", "id": "t0", "trigger_type": "subscribe"}));
        engine.wait_for_log("[UNREGISTERED] PubSub subscription news → f");
        assert_eq!(publisher.call("publish", publish("news", "last")), Ok(Value::Null));
        assert_eq!(replicas[1].expect("invokefunction")["data"], "last");
        assert_eq!(replicas[0].recv_within(SILENCE), None);
    });
}

// PUBSUB-DB-3
#[test]
fn a_condition_decides_each_delivery() {
    each_shard_count_with(WORKER, |engine| {
        let mut worker = RawWorker::serving(engine, "w", &["f", "ask"]);
        subscribe(&mut worker, "t", "f", json!({"topic": "news", "condition_function_id": "ask"}));
        subscribe(&mut worker, "missing", "f", json!({"topic": "news", "condition_function_id": "no::such"}));
        eventually("both are there", || {
            (engine.log().matches("[REGISTERED] PubSub subscription news").count() == 2).then_some(())
        });
        for (answer, runs) in [(json!(false), false), (json!(null), true), (json!("false"), true)] {
            assert_eq!(worker.call("publish", publish("news", 5)), Ok(Value::Null));
            let asked = worker.expect("invokefunction");
            assert_eq!((&asked["function_id"], &asked["data"]), (&json!("ask"), &json!(5)));
            worker.answer(&asked, answer);
            let ran = worker.recv_within(SILENCE);
            assert_eq!(ran.map(|frame| frame["function_id"].clone()), runs.then(|| json!("f")));
        }
    });
}

fn on_redis(redis: &Redis) -> String {
    let adapter = json!({"name": "redis", "config": {"redis_url": redis.url()}});
    json!({"name": "iii-pubsub", "config": {"adapter": adapter}}).to_string()
}

// PUBSUB-30, PUBSUB-40, PUBSUB-41, PUBSUB-DB-1, PUBSUB-DB-2
#[test]
fn engines_that_share_a_redis_share_topics() {
    let mut redis = Redis::start();
    let engines: Vec<Engine> = (0..2).map(|_| Engine::command(2).worker(&on_redis(&redis)).start()).collect();
    let mut workers: Vec<RawWorker> =
        engines.iter().map(|engine| RawWorker::serving(engine, "w", &["f", "g"])).collect();
    for worker in &mut workers {
        subscribe(worker, "1", "f", json!({"topic": "news"}));
        subscribe(worker, "2", "g", json!({"topic": "news"}));
    }
    let subscribed = |redis: &Redis| {
        eventually("both engines listen", || {
            (redis.command(&["PUBSUB", "NUMSUB", "news"]).ends_with('2')).then_some(())
        })
    };
    let everywhere_once = |workers: &mut [RawWorker], data: &str| {
        for worker in workers.iter_mut() {
            let mut functions: Vec<Value> = (0..2)
                .map(|_| {
                    let event = worker.expect("invokefunction");
                    assert_eq!(event["data"], data);
                    event["function_id"].clone()
                })
                .collect();
            functions.sort_by_key(Value::to_string);
            assert_eq!(functions, ["f", "g"]);
            assert_eq!(worker.recv_within(SILENCE), None);
        }
    };
    subscribed(&redis);
    assert_eq!(workers[0].call("publish", publish("news", "a")), Ok(Value::Null));
    everywhere_once(&mut workers, "a");
    // From outside, in the plain form.
    redis.command(&["PUBLISH", "news", "\"b\""]);
    everywhere_once(&mut workers, "b");
    redis.command(&["PUBLISH", "news", "no JSON"]);
    redis.kill();
    eventually("the publisher is told", || {
        let outcome = workers[1].call("publish", publish("news", "lost"));
        outcome.is_err().then(|| assert_eq!(error_code(&outcome), "pubsub_unavailable"))
    });
    redis.start_again();
    subscribed(&redis);
    eventually("publishing works again", || workers[1].call("publish", publish("news", "c")).ok());
    everywhere_once(&mut workers, "c");
}
