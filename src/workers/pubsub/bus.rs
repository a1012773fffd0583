//! Topics in Redis: every engine that shares the server gets each event once (PUBSUB-30, PUBSUB-41, PUBSUB-42).
//!
//! Two tasks on the egress thread: one publishes what the shards hand it, in their order and as many at once as there
//! are; one holds the connection that subscribes to all topics of this engine, and comes back after it broke.

use crate::config::settings::RedisSettings;
use crate::egress;
use crate::workers::redis::{Backoff, Link};
use futures_util::StreamExt;
use iii_shards::builtin::Mailbox;
use redis::RedisError;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{interval, sleep, timeout};

/// Events that may wait for Redis; more are refused.
const WAITING_MAX: usize = 8192;
/// Events sent in one go.
const BATCH_MAX: usize = 256;
/// How often the subscribing connection is tried, and how long it may take to answer.
const PING_INTERVAL: Duration = Duration::from_secs(5);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Trace context that goes with an event.
#[derive(Debug, Clone, Copy, Default)]
pub struct Envelope<'a> {
    /// W3C trace context.
    pub traceparent: Option<&'a str>,
    /// W3C baggage.
    pub baggage: Option<&'a str>,
}

/// An event that came from Redis, for the instance that owns the topic.
pub struct Event {
    /// Which topic.
    pub topic: Box<str>,
    payload: Vec<u8>,
    enveloped: bool,
}

/// What became of an event that was handed to [`Bus::publish`].
pub struct Published {
    /// Number it was given.
    pub number: u64,
    /// `Err` = Redis did not take it.
    pub outcome: Result<(), String>,
}

/// The way of this engine's events to and from Redis.
#[derive(Clone)]
pub struct Bus {
    publish: mpsc::Sender<Publishing>,
    /// Unbounded: as many as there are subscriptions.
    interest: mpsc::UnboundedSender<Interest>,
    prefix: Arc<str>,
    enveloped: bool,
}

struct Publishing {
    channel: String,
    payload: String,
    number: u64,
    mailbox: Mailbox,
}

/// Whoever is to get a topic's events; `None` = nobody any more.
struct Interest {
    topic: Box<str>,
    mailbox: Option<Mailbox>,
}

#[derive(Serialize, Deserialize)]
struct Wire<'a> {
    #[serde(borrow, rename = "__trace")]
    trace: WireTrace<'a>,
    #[serde(borrow)]
    data: &'a RawValue,
}

#[derive(Serialize, Deserialize)]
struct WireTrace<'a> {
    #[serde(borrow, default)]
    traceparent: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    baggage: Option<Cow<'a, str>>,
}

impl Event {
    /// Gives out data and trace context.
    pub fn open(&self, give: impl FnOnce(&[u8], Envelope<'_>)) {
        match serde_json::from_slice::<Wire<'_>>(&self.payload) {
            Ok(wire) if self.enveloped => {
                let WireTrace { traceparent, baggage } = &wire.trace;
                let envelope = Envelope { traceparent: traceparent.as_deref(), baggage: baggage.as_deref() };
                give(wire.data.get().as_bytes(), envelope);
            }
            _ => give(&self.payload, Envelope::default()),
        }
    }
}

impl Bus {
    /// Starts both tasks; they end with the last handle.
    pub fn start(settings: &RedisSettings, link: Link) -> Bus {
        let (publish, publishing) = mpsc::channel(WAITING_MAX);
        let (interest, interests) = mpsc::unbounded_channel();
        let prefix: Arc<str> = settings.channel_prefix.as_deref().unwrap_or("").into();
        let enveloped = settings.envelope == Some(true);
        egress::spawn(send(link.clone(), publishing));
        let topics = HashMap::new();
        egress::spawn(Receiver { link, interests, topics, prefix: prefix.clone(), enveloped }.run());
        Bus { publish, interest, prefix, enveloped }
    }

    /// Publishes an event; what becomes of it comes as [`Published`]. `Err` = too many wait already.
    pub fn publish(
        &self,
        number: u64,
        topic: &str,
        data: &str,
        envelope: &Envelope<'_>,
        mailbox: Mailbox,
    ) -> Result<(), String> {
        let payload = if self.enveloped { wrap(data, envelope) } else { data.to_owned() };
        let channel = format!("{}{topic}", self.prefix);
        let publishing = Publishing { channel, payload, number, mailbox };
        self.publish.try_send(publishing).map_err(|_| "too many events wait for Redis".to_owned())
    }

    /// Has a topic's events posted to a mailbox.
    pub fn subscribe(&self, topic: &str, mailbox: Mailbox) {
        let _ = self.interest.send(Interest { topic: topic.into(), mailbox: Some(mailbox) });
    }

    /// Ends that.
    pub fn unsubscribe(&self, topic: &str) {
        let _ = self.interest.send(Interest { topic: topic.into(), mailbox: None });
    }
}

fn wrap(data: &str, envelope: &Envelope<'_>) -> String {
    let trace = serde_json::json!({"traceparent": envelope.traceparent, "baggage": envelope.baggage});
    format!("{{\"__trace\":{trace},\"data\":{data}}}")
}

async fn send(link: Link, mut waiting: mpsc::Receiver<Publishing>) {
    let mut batch = Vec::new();
    while waiting.recv_many(&mut batch, BATCH_MAX).await > 0 {
        let mut pipeline = redis::pipe();
        for event in &batch {
            pipeline.publish(&event.channel, &event.payload).ignore();
        }
        let sent = link.run(async |mut connection| pipeline.query_async::<()>(&mut connection).await).await;
        for event in batch.drain(..) {
            event.mailbox.post(Box::new(Published { number: event.number, outcome: sent.clone() }));
        }
    }
}

/// The subscribing side.
struct Receiver {
    link: Link,
    interests: mpsc::UnboundedReceiver<Interest>,
    topics: HashMap<Box<str>, Mailbox>,
    prefix: Arc<str>,
    enveloped: bool,
}

impl Receiver {
    async fn run(mut self) {
        let mut backoff = Backoff::default();
        loop {
            match self.receive(&mut backoff).await {
                Ok(()) => return,
                Err(error) => {
                    // A server that went away took the other connection with it.
                    self.link.reset().await;
                    let wait = backoff.step();
                    tracing::warn!("PubSub lost Redis, next attempt in {} ms: {error}", wait.as_millis());
                    sleep(wait).await;
                }
            }
        }
    }

    /// Receives until the connection breaks; `Ok` = nobody is interested any more.
    async fn receive(&mut self, backoff: &mut Backoff) -> Result<(), String> {
        let text = |error: RedisError| error.to_string();
        let late = |_| "it does not answer".to_owned();
        let connecting = timeout(ANSWER_TIMEOUT, self.link.client().get_async_pubsub());
        let (mut sink, mut events) = connecting.await.map_err(late)?.map_err(text)?.split();
        while let Ok(interest) = self.interests.try_recv() {
            self.note(interest);
        }
        let channels: Vec<String> = self.topics.keys().map(|topic| self.channel(topic)).collect();
        if !channels.is_empty() {
            timeout(ANSWER_TIMEOUT, sink.subscribe(channels)).await.map_err(late)?.map_err(text)?;
        }
        *backoff = Backoff::default();
        let mut pings = interval(PING_INTERVAL);
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(event) => self.hand_over(event.get_channel_name(), event.get_payload_bytes()),
                    None => return Err("the connection broke".to_owned()),
                },
                interest = self.interests.recv() => {
                    let Some(interest) = interest else { return Ok(()) };
                    let channel = self.channel(&interest.topic);
                    let answer = match interest.mailbox.is_some() {
                        true => timeout(ANSWER_TIMEOUT, sink.subscribe(channel)).await,
                        false => timeout(ANSWER_TIMEOUT, sink.unsubscribe(channel)).await,
                    };
                    self.note(interest);
                    answer.map_err(late)?.map_err(text)?;
                }
                _ = pings.tick() => {
                    timeout(ANSWER_TIMEOUT, sink.ping::<redis::Value>()).await.map_err(late)?.map_err(text)?;
                }
            }
        }
    }

    fn note(&mut self, Interest { topic, mailbox }: Interest) {
        match mailbox {
            Some(mailbox) => self.topics.insert(topic, mailbox),
            None => self.topics.remove(&topic),
        };
    }

    fn channel(&self, topic: &str) -> String {
        format!("{}{topic}", self.prefix)
    }

    fn hand_over(&self, channel: &str, payload: &[u8]) {
        let Some(topic) = channel.strip_prefix(&*self.prefix) else { return };
        let Some(mailbox) = self.topics.get(topic) else { return };
        // What is sent on is one valid JSON value, whoever published it.
        if serde_json::from_slice::<&RawValue>(payload).is_err() {
            return tracing::warn!("PubSub dropped an event of topic {topic}: it is not JSON");
        }
        let event = Event { topic: topic.into(), payload: payload.to_vec(), enveloped: self.enveloped };
        mailbox.post(Box::new(event));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(payload: &str, enveloped: bool) -> (String, Option<String>) {
        let event = Event { topic: "t".into(), payload: payload.into(), enveloped };
        let mut seen = None;
        event.open(|data, envelope| {
            seen = Some((String::from_utf8_lossy(data).into_owned(), envelope.traceparent.map(str::to_owned)));
        });
        seen.expect("opened")
    }

    // PUBSUB-42
    #[test]
    fn an_envelope_is_put_on_and_taken_off() {
        let trace = Envelope { traceparent: Some("00-a"), baggage: None };
        let wrapped = wrap("[1, 2]", &trace);
        assert_eq!(wrapped, r#"{"__trace":{"traceparent":"00-a","baggage":null},"data":[1, 2]}"#);
        assert_eq!(opened(&wrapped, true), ("[1, 2]".into(), Some("00-a".into())));
        assert_eq!(opened(&wrapped, false), (wrapped.clone(), None));
        for plain in ["1", "null", r#"{"data":1}"#, r#"{"__trace":1,"data":1}"#] {
            assert_eq!(opened(plain, true), (plain.into(), None));
        }
    }
}
