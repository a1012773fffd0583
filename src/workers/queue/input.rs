//! What callers send.

use iii_shards::builtin::Failure;
use iii_shards::wire::json::{self, JsonError, Scanner};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// The functions, by their place in the definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    Enqueue,
    Publish,
    Redrive,
    RedriveMessage,
    DiscardMessage,
    ListTopics,
    TopicStats,
    DlqTopics,
    DlqMessages,
    Cancel,
    Define,
    OnConfigChange,
}

impl Which {
    pub fn of_index(index: usize) -> Which {
        const ALL: [Which; 13] = [
            Which::Enqueue,
            Which::Publish,
            Which::Publish,
            Which::Redrive,
            Which::RedriveMessage,
            Which::DiscardMessage,
            Which::ListTopics,
            Which::TopicStats,
            Which::DlqTopics,
            Which::DlqMessages,
            Which::Cancel,
            Which::Define,
            Which::OnConfigChange,
        ];
        ALL[index]
    }
}

/// QUEUE-38.
#[derive(Debug, Deserialize)]
pub struct Enqueue<'a> {
    #[serde(borrow, alias = "topic")]
    pub queue: Cow<'a, str>,
    #[serde(borrow)]
    pub function_id: Cow<'a, str>,
    #[serde(borrow)]
    pub data: &'a RawValue,
    #[serde(default, rename = "messageReceiptId")]
    pub receipt: Option<Cow<'a, str>>,
    #[serde(default)]
    pub traceparent: Option<Cow<'a, str>>,
    #[serde(default)]
    pub baggage: Option<Cow<'a, str>>,
    #[serde(default)]
    pub namespace: Option<Cow<'a, str>>,
}

/// QUEUE-55.
#[derive(Debug, Deserialize)]
pub struct Publish<'a> {
    #[serde(borrow, alias = "queue")]
    pub topic: Cow<'a, str>,
    #[serde(borrow)]
    pub data: &'a RawValue,
}

/// QUEUE-56.
#[derive(Debug, Deserialize)]
pub struct Redrive {
    #[serde(alias = "topic")]
    pub queue: String,
}

/// QUEUE-57, QUEUE-58, QUEUE-DB-13.
#[derive(Debug, Deserialize)]
pub struct OneMessage {
    #[serde(alias = "topic")]
    pub queue: String,
    pub message_id: String,
}

/// QUEUE-59b.
#[derive(Debug, Deserialize)]
pub struct Stats {
    #[serde(alias = "queue")]
    pub topic: String,
}

/// QUEUE-59d.
#[derive(Debug, Deserialize)]
pub struct Messages {
    #[serde(alias = "queue")]
    pub topic: String,
    #[serde(default)]
    pub offset: u64,
    #[serde(default = "limit_default")]
    pub limit: u64,
}

/// QUEUE-39.
#[derive(Debug, Deserialize)]
pub struct Define {
    pub queue: String,
    #[serde(default)]
    pub config: Option<serde_json::Value>,
}

fn limit_default() -> u64 {
    50
}

/// Reads the input of a function.
pub fn read<'a, T: Deserialize<'a>>(function_id: &str, data: &'a [u8]) -> Result<T, Failure> {
    serde_json::from_slice(data).map_err(|error| {
        let message = format!("Failed to deserialize input for {function_id}: {error}");
        Failure::new("deserialization_error", message)
    })
}

/// The queue or topic that a payload names.
pub fn name_of(data: &[u8]) -> Option<String> {
    let mut found = None;
    let _ = Scanner::new(data).object(|scanner, key| {
        let value = scanner.value()?;
        if found.is_none() && matches!(key.inner, b"queue" | b"topic") {
            found = json::string_value(value).map(Cow::into_owned);
            // The payload behind it is of no interest.
            return Err(JsonError { offset: 0, reason: "found" });
        }
        Ok(())
    });
    found
}
