//! How a line is run, from a named queue's settings or a trigger's `queue_config`.

use crate::config::settings::{BuiltinQueueSettings, NamedQueueSettings, QueueKind};
use serde_json::{Map, Value};

/// How a line is run.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Tuning {
    /// Runs of a message before it is given up; at least 1.
    pub attempts: u32,
    /// Messages handled at a time; 0 = paused.
    pub slots: u32,
    /// Messages of a group run one after the other.
    pub fifo: bool,
    /// Field of the payload that names the group.
    pub group_field: Option<Box<str>>,
    /// Delay before the second attempt, in milliseconds.
    pub backoff_ms: u64,
    /// The delay does not grow.
    pub fixed: bool,
    /// Longest delay; 0 = none.
    pub backoff_max_ms: u64,
    /// Part of the delay that is random, 0 to 1.
    pub jitter: f64,
    /// Limit for one attempt.
    pub timeout_ms: Option<u64>,
    /// How long a message waits for its function to exist; 0 = for ever.
    pub hold_max_ms: u64,
    /// Delay before the first attempt.
    pub delay_ms: u64,
    /// Most messages waiting; 0 = unlimited.
    pub max_depth: u64,
    /// Most dead letters kept; 0 = unlimited.
    pub dlq_max: u64,
}

impl Tuning {
    /// QUEUE-13, QUEUE-61.
    pub fn of_queue(settings: &NamedQueueSettings) -> Tuning {
        Tuning {
            attempts: settings.max_retries.max(1),
            slots: settings.concurrency,
            fifo: settings.r#type == QueueKind::Fifo,
            group_field: settings.message_group_field.as_deref().map(Into::into),
            backoff_ms: settings.backoff_ms,
            timeout_ms: settings.timeout_ms,
            hold_max_ms: settings.hold_max_ms,
            backoff_max_ms: settings.backoff_max_ms,
            jitter: settings.backoff_jitter.clamp(0.0, 1.0),
            max_depth: settings.max_depth,
            dlq_max: settings.dlq_max,
            ..Tuning::default()
        }
    }

    /// QUEUE-45, QUEUE-46: wrong-typed members are ignored; what stands beside `queue_config` beats it.
    pub fn of_trigger(config: &Map<String, Value>, defaults: &BuiltinQueueSettings) -> Tuning {
        let none = Map::new();
        let inner = config.get("queue_config").and_then(Value::as_object).unwrap_or(&none);
        let number = |names: &[&str]| {
            let outer = names.iter().take(2).filter_map(|name| config.get(*name));
            outer.chain(names.iter().filter_map(|name| inner.get(*name))).find_map(Value::as_u64)
        };
        let text = |names: &[&str]| names.iter().find_map(|name| inner.get(*name)).and_then(Value::as_str);
        let narrow = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        let fifo = text(&["type"]).map_or(defaults.mode == "fifo", |kind| kind == "fifo");
        let concurrency = inner.get("concurrency").and_then(Value::as_u64).map_or(defaults.concurrency, narrow);
        Tuning {
            attempts: number(&["maxRetries", "max_retries"])
                .map_or(defaults.max_attempts.max(1), |retries| narrow(retries.saturating_add(1))),
            slots: concurrency,
            fifo,
            backoff_ms: number(&["backoffDelayMs", "backoff_ms"]).unwrap_or(defaults.backoff_ms),
            fixed: text(&["backoffType", "backoff_type"]) == Some("fixed"),
            timeout_ms: number(&["timeoutMs", "timeout_ms"]),
            hold_max_ms: number(&["holdMaxMs", "hold_max_ms"]).unwrap_or(0),
            delay_ms: number(&["delaySeconds", "delay_seconds"]).unwrap_or(0).saturating_mul(1000),
            ..Tuning::default()
        }
    }

    /// Delay after `attempts` failed attempts; `random` is from 0 to 1 (QUEUE-61, QUEUE-DB-11).
    pub fn delay_ms(&self, attempts: u32, random: f64) -> u64 {
        let doublings = if self.fixed { 0 } else { attempts.saturating_sub(1) };
        let factor = 1u64.checked_shl(doublings).unwrap_or(u64::MAX);
        let mut delay = self.backoff_ms.saturating_mul(factor);
        if self.backoff_max_ms > 0 {
            delay = delay.min(self.backoff_max_ms);
        }
        if self.jitter > 0.0 {
            delay = (delay as f64 * (1.0 - self.jitter * random)) as u64;
        }
        delay
    }
}

/// Whether a name is one that a field can have: what a fifo message is grouped by (QUEUE-32, QUEUE-34).
pub fn group_of(queue: &str, field: &str, data: &[u8]) -> Result<String, String> {
    let payload: Option<Map<String, Value>> = serde_json::from_slice(data).ok();
    match payload.as_ref().and_then(|payload| payload.get(field)) {
        None => Err(format!("FIFO queue '{queue}' requires field '{field}' in data, but it was not found")),
        Some(Value::Null) => Err(format!("FIFO queue '{queue}': field '{field}' must not be null")),
        Some(value) => Ok(value.to_string()),
    }
}
