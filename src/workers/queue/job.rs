//! A message, and how it is written down.

use serde::{Deserialize, Serialize};
use std::rc::Rc;

/// The function a message is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Target {
    /// Namespace of the function.
    #[serde(rename = "n", with = "shared")]
    pub namespace: Rc<str>,
    /// The function.
    #[serde(rename = "f", with = "shared")]
    pub function_id: Rc<str>,
}

/// What is known of a message beside its payload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Its id in dead-letter lists; stays the same when it is redriven.
    pub id: Box<str>,
    /// What its producer was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<Box<str>>,
    /// The function to run.
    #[serde(flatten)]
    pub target: Target,
    /// Messages of one group run one after the other.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "shared_option")]
    pub group: Option<Rc<str>>,
    /// Trace context of the producer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<Box<str>>,
    /// Baggage of the producer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baggage: Option<Box<str>>,
    /// Attempts that counted.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub attempts: u32,
    /// Attempts that did not count because the worker left.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub stops: u32,
    /// Unix milliseconds.
    pub enqueued_ms: u64,
    /// Unix milliseconds before which it must not run; 0 = at once.
    #[serde(default, skip_serializing_if = "is_now")]
    pub not_before_ms: u64,
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Place in its line.
    pub seq: u64,
    /// Everything but the payload.
    pub head: Head,
    /// One JSON value.
    pub data: Rc<[u8]>,
}

/// A message that has been given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dead {
    /// The message.
    pub job: Job,
    /// Why, and when.
    pub end: End,
}

/// Why a message was given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// `<code>: <message>` of the last error.
    pub error: Box<str>,
    /// Its code.
    pub code: Box<str>,
    /// Unix milliseconds.
    pub failed_ms: u64,
}

/// Shared texts are written like any other.
mod shared {
    use super::Rc;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(text: &Rc<str>, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Rc<str>, D::Error> {
        Box::<str>::deserialize(from).map(Rc::from)
    }
}

mod shared_option {
    use super::Rc;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(text: &Option<Rc<str>>, to: S) -> Result<S::Ok, S::Error> {
        text.as_deref().serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Rc<str>>, D::Error> {
        Ok(Option::<Box<str>>::deserialize(from)?.map(Rc::from))
    }
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

fn is_now(time: &u64) -> bool {
    *time == 0
}

impl Head {
    /// Whether it goes by this id.
    pub fn is(&self, id: &str) -> bool {
        &*self.id == id || self.receipt.as_deref() == Some(id)
    }
}

#[derive(Serialize, Deserialize)]
struct Written {
    #[serde(flatten)]
    head: Head,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    end: Option<End>,
}

/// `header length u32 · header as JSON · payload`
fn write(head: &Head, end: Option<&End>, data: &[u8]) -> Vec<u8> {
    let mut out = vec![0; 4];
    let written = Written { head: head.clone(), end: end.cloned() };
    // The header is made of strings and numbers; writing it to memory cannot fail.
    serde_json::to_writer(&mut out, &written).expect("a header can be written");
    let length = (out.len() - 4) as u32;
    out[..4].copy_from_slice(&length.to_le_bytes());
    out.extend_from_slice(data);
    out
}

fn read(seq: u64, record: &[u8]) -> Option<(Job, Option<End>)> {
    let length = u32::from_le_bytes(record.get(..4)?.try_into().ok()?) as usize;
    let written: Written = serde_json::from_slice(record.get(4..4 + length)?).ok()?;
    let data = record.get(4 + length..)?.into();
    Some((Job { seq, head: written.head, data }, written.end))
}

impl Job {
    /// As it is written down.
    pub fn record(&self) -> Vec<u8> {
        write(&self.head, None, &self.data)
    }

    /// Reads what [`Job::record`] wrote.
    pub fn of_record(seq: u64, record: &[u8]) -> Option<Job> {
        read(seq, record).map(|(job, _)| job)
    }
}

impl Dead {
    /// As it is written down.
    pub fn record(&self) -> Vec<u8> {
        write(&self.job.head, Some(&self.end), &self.job.data)
    }

    /// Reads what [`Dead::record`] wrote.
    pub fn of_record(seq: u64, record: &[u8]) -> Option<Dead> {
        let (job, end) = read(seq, record)?;
        Some(Dead { job, end: end? })
    }

    /// As `engine::queue::dlq_messages` shows it (QUEUE-59d, QUEUE-DB-6).
    pub fn show(&self) -> serde_json::Value {
        let head = &self.job.head;
        let payload: serde_json::Value = serde_json::from_slice(&self.job.data).unwrap_or_default();
        serde_json::json!({
            "id": head.id,
            "payload": payload,
            "error": self.end.error,
            "failed_at": self.end.failed_ms / 1000,
            "retries": head.attempts,
            "size_bytes": self.record().len(),
            "error_code": self.end.code,
            "function_id": head.target.function_id,
            "namespace": head.target.namespace,
            "receipt_id": head.receipt,
            "first_enqueued_at": head.enqueued_ms / 1000,
            "attempts": head.attempts,
        })
    }
}
