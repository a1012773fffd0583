//! The pub/sub worker on a host that only remembers.

use super::*;
use iii_shards::builtin::fake::{FakeHost, Made};
use iii_shards::ids::ShardId;
use serde_json::{Value, json};

struct Bench {
    host: FakeHost,
    pubsub: PubSub,
}

impl Bench {
    fn new() -> Bench {
        Bench::with(PubSubSettings::default())
    }

    fn with(settings: PubSubSettings) -> Bench {
        Bench { host: FakeHost::default(), pubsub: PubSub::new(settings, None) }
    }

    fn subscribe(&mut self, id: &str, config: Value) {
        self.pubsub.trigger_added(Arc::new(binding(id, &config)), &mut self.host);
    }

    fn unsubscribe(&mut self, id: &str, config: Value) {
        self.pubsub.trigger_removed(&binding(id, &config), &mut self.host);
    }

    fn publish(&mut self, payload: &str) -> Outcome {
        let mut call = self.host.incoming(0, "publish", payload);
        call.traceparent = Some("00-trace".into());
        call.baggage = Some("k=v".into());
        let id = call.id;
        self.pubsub.call(call, &mut self.host);
        self.host.answers.remove(&id).expect("answered at once")
    }

    fn answer(&mut self, made: &Made, outcome: &str) {
        self.pubsub.answer(made.token.expect("tracked"), Ok(outcome.as_bytes().to_vec()), &mut self.host);
    }
}

fn binding(id: &str, config: &Value) -> Binding {
    Binding {
        id: id.into(),
        trigger_type: "subscribe".into(),
        namespace: "shop".into(),
        function_id: format!("f::{id}").into(),
        config: config.to_string().into_bytes().into(),
        metadata: Some((*b"{\"m\":1}").into()),
        trigger_namespace: None,
        home: "shop".into(),
        registrant: None,
    }
}

fn topic(name: &str) -> Value {
    json!({"topic": name})
}

// PUBSUB-10
#[test]
fn what_publish_refuses() {
    let mut bench = Bench::new();
    let rows = [
        (r#"{"topic":"","data":1}"#, "topic_not_set", "Topic is not set"),
        (r#"{"topic":"t"}"#, "deserialization_error", "Failed to deserialize input for publish: missing field `data`"),
        (r#"{"data":1}"#, "deserialization_error", "Failed to deserialize input for publish: missing field `topic`"),
        (
            r#"{"topic":1,"data":1}"#,
            "deserialization_error",
            "Failed to deserialize input for publish: invalid type: integer `1`, expected a string",
        ),
    ];
    for (payload, code, message) in rows {
        assert_eq!(bench.publish(payload), Err(Failure::new(code, message)), "{payload}");
    }
    for payload in ["null", "[]", "5"] {
        assert_eq!(bench.publish(payload).map_err(|failure| failure.code), Err("deserialization_error".into()));
    }
}

// PUBSUB-10, PUBSUB-11, PUBSUB-20, PUBSUB-21, PUBSUB-22, PUBSUB-DB-6
#[test]
fn every_subscription_of_the_topic_gets_the_data_as_it_is() {
    let mut bench = Bench::new();
    assert_eq!(bench.publish(r#"{"topic":"a","data":null}"#), Ok(Vec::new()));
    for (id, config) in [("1", topic("a")), ("2", topic("a")), ("3", topic("b")), ("4", json!({})), ("5", topic(""))] {
        bench.subscribe(id, config);
    }
    assert_eq!(bench.publish(r#"{"topic":"a","data":{"b": 1.0,"a":[ ]},"_caller_worker_id":"x"}"#), Ok(Vec::new()));
    let made = bench.host.take_made();
    let functions: Vec<&str> = made.iter().map(|made| made.function_id.as_str()).collect();
    assert_eq!(functions, ["f::1", "f::2"]);
    for made in &made {
        assert_eq!((made.data.as_str(), made.namespace.as_str()), (r#"{"b": 1.0,"a":[ ]}"#, "shop"));
        assert_eq!(made.metadata.as_deref(), Some("{\"m\":1}"));
        assert_eq!((made.traceparent.as_deref(), made.baggage.as_deref()), (Some("00-trace"), Some("k=v")));
    }
    assert_eq!(bench.publish(r#"{"topic":"a","data":null}"#), Ok(Vec::new()));
    assert_eq!(bench.host.take_made()[0].data, "null");
}

// PUBSUB-26, PUBSUB-DB-1
#[test]
fn removing_a_subscription_touches_no_other() {
    let mut bench = Bench::new();
    for id in ["1", "2"] {
        bench.subscribe(id, topic("a"));
    }
    bench.unsubscribe("1", topic("a"));
    bench.publish(r#"{"topic":"a","data":1}"#).expect("published");
    assert_eq!(bench.host.take_made().len(), 1);
    bench.unsubscribe("2", topic("a"));
    bench.publish(r#"{"topic":"a","data":1}"#).expect("published");
    assert_eq!((bench.host.take_made(), bench.pubsub.topics.len()), (vec![], 0));
}

// PUBSUB-DB-3, PUBSUB-DB-5
#[test]
fn a_condition_decides_and_order_is_kept() {
    let config = json!({"topic": "a", "condition_function_id": "ask"});
    let mut bench = Bench::new();
    bench.subscribe("1", config.clone());
    for payload in [r#"{"topic":"a","data":1}"#, r#"{"topic":"a","data":2}"#, r#"{"topic":"a","data":3}"#] {
        bench.publish(payload).expect("published");
    }
    let asked = bench.host.take_made();
    assert!(asked.iter().all(|made| made.function_id == "ask"), "{asked:?}");
    bench.answer(&asked[2], "null");
    bench.answer(&asked[1], "false");
    assert_eq!(bench.host.take_made(), []);
    bench.answer(&asked[0], "true");
    let ran: Vec<String> = bench.host.take_made().into_iter().map(|made| made.data).collect();
    assert_eq!(ran, ["1", "3"]);

    let mut bench = Bench::with(PubSubSettings { evaluate_conditions: false, ..PubSubSettings::default() });
    bench.subscribe("1", config);
    bench.publish(r#"{"topic":"a","data":1}"#).expect("published");
    assert_eq!(bench.host.take_made()[0].function_id, "f::1");
}

// A topic lives on the shard to which calls of `publish` go.
#[test]
fn subscriptions_live_where_events_arrive() {
    let home = |name: &str| key_of_call(json!({"data": 1, "topic": name}).to_string().as_bytes()) % 4;
    for name in ["a", "b", "orders.created", "ü", "with \"quotes\""] {
        let mut kept = Vec::new();
        for shard in 0..4 {
            let mut bench = Bench::new();
            (bench.host.shard, bench.host.shards) = (ShardId(shard), 4);
            bench.subscribe("1", topic(name));
            kept.extend(bench.pubsub.topics.contains_key(name).then_some(u64::from(shard)));
        }
        assert_eq!(kept, [home(name)], "{name}");
    }
}
