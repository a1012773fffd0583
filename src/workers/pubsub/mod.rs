//! `iii-pubsub`: what is published to a topic goes to everybody who subscribes to it at that moment, at most once.
//!
//! A topic lives on the shard that the hash of its name picks: its subscriptions are kept there and publishers' calls
//! come there, so one publisher's events reach each subscriber in order. With the `redis` adapter an event takes the
//! way through Redis (`bus.rs`), for the publisher's own engine too.

mod bus;

use super::redis::Link;
use crate::config::settings::{PubSubAdapter, PubSubSettings};
use bus::{Bus, Envelope, Event, Published};
use iii_shards::builtin::firing::{End, Firing, Run, Target};
use iii_shards::builtin::key_of;
use iii_shards::builtin::{
    BuiltIn, Call, CallId, Definition, Failure, Function, Home, Host, Outcome, Token, TriggerType,
};
use iii_shards::control::triggers::Binding;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::any::Any;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::sync::Arc;

/// Time between two log lines about failed deliveries, in milliseconds.
const LOG_INTERVAL_MS: u64 = 1000;

/// What the worker is to an engine. Waits for Redis, if it is to be used; `Err` = it can't be reached.
pub fn definition(settings: &PubSubSettings) -> Result<Definition, String> {
    let bus = match &settings.adapter {
        PubSubAdapter::Local(_) => None,
        PubSubAdapter::Redis(redis) => Some(Bus::start(redis, Link::connect(&redis.redis_url)?)),
    };
    let mut publish = Function::new("publish", "Publish an event to a topic", Home::Key(key_of_call));
    publish.request_format = Some(PUBLISH_FORMAT.into());
    let alias = Function { id: "iii::pubsub::publish".into(), ..publish.clone() };
    let mut trigger_type = TriggerType::new("subscribe", "Subscribe to a topic", |binding| {
        if topic_of(binding).is_none() {
            tracing::warn!("Subscription {} → {} has no topic and gets nothing", binding.id, binding.function_id);
        }
        Ok(())
    });
    trigger_type.config_format = Some(CONFIG_FORMAT.into());
    let settings = settings.clone();
    Ok(Definition {
        name: "iii-pubsub".into(),
        description: "Topic-based publish/subscribe messaging for real-time event distribution.".into(),
        functions: vec![publish, alias],
        trigger_types: vec![trigger_type],
        listeners: Vec::new(),
        factory: Arc::new(move |_| Box::new(PubSub::new(settings.clone(), bus.clone()))),
    })
}

const CONFIG_FORMAT: &str = r#"{"$schema":"https://json-schema.org/draft/2020-12/schema","title":"SubscribeTriggerConfig","type":"object","properties":{"topic":{"type":"string","description":"Topic to subscribe to"},"condition_function_id":{"type":["string","null"],"description":"Function that is asked before each delivery; `false` leaves it out"}},"required":["topic"]}"#;
const PUBLISH_FORMAT: &str = r#"{"$schema":"https://json-schema.org/draft/2020-12/schema","title":"PubSubInput","type":"object","properties":{"topic":{"type":"string"},"data":true},"required":["topic","data"]}"#;

/// A subscription's configuration: `None` = it names no topic.
fn topic_of(binding: &Binding) -> Option<String> {
    let config: serde_json::Value = serde_json::from_slice(&binding.config).ok()?;
    config.get("topic")?.as_str().filter(|topic| !topic.is_empty()).map(str::to_owned)
}

/// What `publish` is called with.
#[derive(Deserialize)]
struct Publish<'a> {
    #[serde(borrow)]
    topic: Cow<'a, str>,
    #[serde(borrow)]
    data: &'a RawValue,
}

/// Chooses the shard of a publisher's call; a call that makes no sense is refused anywhere.
fn key_of_call(payload: &[u8]) -> u64 {
    #[derive(Deserialize)]
    struct Topic<'a> {
        #[serde(borrow)]
        topic: Cow<'a, str>,
    }
    serde_json::from_slice(payload).map_or(0, |Topic { topic }| key_of(&topic))
}

/// The instance of one shard: the topics that live there.
struct PubSub {
    settings: PubSubSettings,
    bus: Option<Bus>,
    topics: HashMap<Box<str>, BTreeMap<Arc<str>, Rc<Target>>>,
    firing: Firing<Rc<Target>>,
    /// Calls of `publish` that wait for Redis, by number.
    publishing: HashMap<u64, CallId>,
    last_number: u64,
    failures: Failures,
}

/// Failed deliveries since the last log line.
#[derive(Default)]
struct Failures {
    count: u64,
    logged_ms: Option<u64>,
}

impl Failures {
    fn note(&mut self, now_ms: u64, text: std::fmt::Arguments<'_>) {
        self.count += 1;
        if self.logged_ms.is_some_and(|at| now_ms < at + LOG_INTERVAL_MS) {
            return;
        }
        match self.count {
            1 => tracing::warn!("PubSub delivery failed: {text}"),
            count => tracing::warn!("PubSub: {count} deliveries failed, the last one: {text}"),
        }
        *self = Failures { count: 0, logged_ms: Some(now_ms) };
    }
}

impl PubSub {
    fn new(settings: PubSubSettings, bus: Option<Bus>) -> PubSub {
        PubSub {
            settings,
            bus,
            topics: HashMap::new(),
            firing: Firing::default(),
            publishing: HashMap::new(),
            last_number: 0,
            failures: Failures::default(),
        }
    }

    fn publish(&mut self, call: &Call, host: &mut dyn Host) -> Result<(), Failure> {
        let Publish { topic, data } = serde_json::from_slice(&call.data).map_err(|error| {
            let text = error.to_string();
            let text = text.rfind(" at line ").map_or(text.as_str(), |at| &text[..at]);
            let message = format!("Failed to deserialize input for {}: {text}", call.function_id);
            Failure::new("deserialization_error", message)
        })?;
        if topic.is_empty() {
            return Err(Failure::new("topic_not_set", "Topic is not set"));
        }
        let envelope = Envelope { traceparent: call.traceparent.as_deref(), baggage: call.baggage.as_deref() };
        let Some(bus) = &self.bus else {
            self.deliver(&topic, data.get().as_bytes(), &envelope, host);
            host.answer(call.id, Ok(b""));
            return Ok(());
        };
        self.last_number += 1;
        bus.publish(self.last_number, &topic, data.get(), &envelope, host.mailbox())
            .map_err(|error| Failure::new("pubsub_unavailable", error))?;
        self.publishing.insert(self.last_number, call.id);
        Ok(())
    }

    fn deliver(&mut self, topic: &str, data: &[u8], envelope: &Envelope<'_>, host: &mut dyn Host) {
        let Some(targets) = self.topics.get(topic) else { return };
        let data: Rc<[u8]> = data.into();
        let run =
            Run { traceparent: envelope.traceparent, baggage: envelope.baggage, ordered: true, ..Run::new(&data) };
        for target in targets.values() {
            // Replicas of a worker get each event once (PUBSUB-DB-4).
            let run = Run { prefer: target.binding.registrant, ..run.clone() };
            self.firing.fire(host, target, &run, target.clone());
        }
        self.take_ended(host);
    }

    fn take_ended(&mut self, host: &dyn Host) {
        while let Some((target, end)) = self.firing.poll_ended() {
            let (id, function) = (&target.binding.id, &target.binding.function_id);
            let now_ms = host.now().ms;
            match end {
                End::Sent | End::Skipped | End::Ran(Ok(_)) => {}
                End::Ran(Err(Failure { code, message, .. })) => {
                    self.failures.note(now_ms, format_args!("{id} → {function}: {code}: {message}"));
                }
                End::ConditionFailed(Failure { code, message, .. }) => {
                    self.failures.note(now_ms, format_args!("{id} → {function}: its condition: {code}: {message}"));
                }
            }
        }
    }

    fn target(&self, binding: Arc<Binding>) -> Rc<Target> {
        let mut target = Target::new(binding);
        if !self.settings.evaluate_conditions {
            target.condition = None;
        }
        Rc::new(target)
    }
}

impl BuiltIn for PubSub {
    fn call(&mut self, call: Call, host: &mut dyn Host) {
        if let Err(failure) = self.publish(&call, host) {
            host.answer(call.id, Err(&failure));
        }
    }

    fn answer(&mut self, token: Token, outcome: Outcome, host: &mut dyn Host) {
        if self.firing.answer(host, token, outcome).is_ok() {
            self.take_ended(host);
        }
    }

    fn trigger_added(&mut self, trigger: Arc<Binding>, host: &mut dyn Host) {
        let Some(topic) = topic_of(&trigger) else { return };
        if host.home_of(key_of(&topic)) != host.shard() {
            return;
        }
        tracing::info!("[REGISTERED] PubSub subscription {topic} → {}", trigger.function_id);
        let target = self.target(trigger);
        let targets = self.topics.entry(topic.as_str().into()).or_default();
        if targets.is_empty()
            && let Some(bus) = &self.bus
        {
            bus.subscribe(&topic, host.mailbox());
        }
        targets.insert(target.binding.id.clone(), target);
    }

    fn trigger_removed(&mut self, trigger: &Binding, _: &mut dyn Host) {
        let Some(topic) = topic_of(trigger) else { return };
        let Some(targets) = self.topics.get_mut(topic.as_str()) else { return };
        if targets.remove(&trigger.id).is_none() {
            return;
        }
        if targets.is_empty() {
            self.topics.remove(topic.as_str());
            if let Some(bus) = &self.bus {
                bus.unsubscribe(&topic);
            }
        }
        tracing::info!("[UNREGISTERED] PubSub subscription {topic} → {}", trigger.function_id);
    }

    fn message(&mut self, message: Box<dyn Any + Send>, host: &mut dyn Host) {
        let message = match message.downcast::<Event>() {
            Ok(event) => return event.open(|data, envelope| self.deliver(&event.topic, data, &envelope, host)),
            Err(message) => message,
        };
        if let Ok(published) = message.downcast::<Published>()
            && let Some(call) = self.publishing.remove(&published.number)
        {
            match published.outcome {
                Ok(()) => host.answer(call, Ok(b"")),
                Err(error) => host.answer(call, Err(&Failure::new("pubsub_unavailable", error))),
            }
        }
    }
}

#[cfg(test)]
mod tests;
