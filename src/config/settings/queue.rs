//! Settings of `iii-queue`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{BridgeAdapterSettings, Check, Findings, RedisSettings, StoreMethod, data};

/// Settings of `iii-queue`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a mapping")]
pub struct QueueSettings {
    /// Where jobs are kept.
    pub adapter: QueueAdapter,
    /// Named queues. One called `default` always exists.
    pub queue_configs: BTreeMap<String, NamedQueueSettings>,
}

/// Where jobs are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "name", content = "config", rename_all = "lowercase", deny_unknown_fields)]
pub enum QueueAdapter {
    /// In this engine.
    Builtin(BuiltinQueueSettings),
    /// In Redis.
    Redis(RedisSettings),
    /// In RabbitMQ.
    RabbitMq(RabbitMqSettings),
    /// In another engine.
    Bridge(BridgeAdapterSettings),
}

/// Settings of the `builtin` adapter. The attempt settings are defaults for topics.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a mapping")]
pub struct BuiltinQueueSettings {
    /// Memory or files.
    pub store_method: StoreMethod,
    /// Directory of the files.
    pub file_path: String,
    /// Accepted for older files; see `fsync`.
    pub save_interval_ms: u64,
    /// When a job in files is accepted: once it is on disk (`always`), or once the system has it (`interval`).
    pub fsync: Fsync,
    /// Attempts per job.
    pub max_attempts: u32,
    /// Base of the exponential back-off, in milliseconds.
    pub backoff_ms: u64,
    /// Jobs of one topic handled at a time.
    pub concurrency: u32,
    /// Accepted for older files; nothing is polled.
    pub poll_interval_ms: u64,
    /// `fifo`, or anything else for concurrent.
    pub mode: String,
}

/// When a job in files counts as accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Fsync {
    /// When it is on stable storage.
    #[default]
    Always,
    /// When the operating system has it; safe if the engine dies.
    Interval,
}

/// Settings of the `rabbitmq` adapter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a mapping")]
pub struct RabbitMqSettings {
    /// Address of the broker.
    #[serde(alias = "url")]
    pub amqp_url: String,
    /// Attempts per job.
    pub max_attempts: u32,
    /// Jobs in flight per consumer.
    pub prefetch_count: u16,
    /// `fifo`, or anything else for standard.
    pub queue_mode: String,
    /// Payload field that holds a priority.
    pub priority_field: Option<String>,
}

/// A named queue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a mapping")]
pub struct NamedQueueSettings {
    /// Attempts per job, the first included.
    pub max_retries: u32,
    /// Jobs handled at a time; a fifo queue handles one per group.
    pub concurrency: u32,
    /// `standard` or `fifo`.
    pub r#type: QueueKind,
    /// Payload field that names the group of a fifo job.
    pub message_group_field: Option<String>,
    /// Base of the exponential back-off, in milliseconds.
    pub backoff_ms: u64,
    /// Accepted for older files; nothing is polled.
    pub poll_interval_ms: u64,
    /// Highest priority (rabbitmq).
    pub max_priority: Option<u8>,
    /// Payload field that holds a priority (rabbitmq).
    pub priority_field: Option<String>,
    /// Limit for one attempt, in milliseconds; absent = none.
    pub timeout_ms: Option<u64>,
    /// Accepted for older files; jobs are always redelivered after a restart.
    pub redeliver_on_engine_restart: bool,
    /// Most jobs waiting; 0 = unlimited.
    pub max_depth: u64,
    /// Most dead letters kept; 0 = unlimited.
    pub dlq_max: u64,
    /// How long a job waits for its function to exist, in milliseconds; 0 = for ever.
    pub hold_max_ms: u64,
    /// Longest delay between attempts, in milliseconds; 0 = unlimited.
    pub backoff_max_ms: u64,
    /// Part of the delay that is random, from 0 to 1.
    pub backoff_jitter: f64,
}

/// Order of a queue.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(from = "String", into = "String")]
#[schemars(with = "QueueKindForm")]
pub enum QueueKind {
    /// Jobs run side by side.
    #[default]
    Standard,
    /// Jobs of a group run one after the other.
    Fifo,
    /// Something else; refused.
    Unknown(String),
}

#[derive(JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(dead_code, reason = "describes the written form to the schema")]
enum QueueKindForm {
    Standard,
    Fifo,
}

impl From<String> for QueueKind {
    fn from(text: String) -> QueueKind {
        match text.as_str() {
            "standard" => QueueKind::Standard,
            "fifo" => QueueKind::Fifo,
            _ => QueueKind::Unknown(text),
        }
    }
}

impl From<QueueKind> for String {
    fn from(kind: QueueKind) -> String {
        match kind {
            QueueKind::Standard => "standard".to_owned(),
            QueueKind::Fifo => "fifo".to_owned(),
            QueueKind::Unknown(text) => text,
        }
    }
}

impl Default for QueueAdapter {
    fn default() -> QueueAdapter {
        QueueAdapter::Builtin(BuiltinQueueSettings::default())
    }
}

impl Default for BuiltinQueueSettings {
    fn default() -> BuiltinQueueSettings {
        BuiltinQueueSettings {
            store_method: StoreMethod::default(),
            file_path: data::FILE_PATH_DEFAULT.to_owned(),
            save_interval_ms: data::SAVE_INTERVAL_MS_DEFAULT,
            fsync: Fsync::Always,
            max_attempts: 3,
            backoff_ms: 1000,
            concurrency: 10,
            poll_interval_ms: 100,
            mode: "concurrent".to_owned(),
        }
    }
}

impl Default for RabbitMqSettings {
    fn default() -> RabbitMqSettings {
        RabbitMqSettings {
            amqp_url: "amqp://localhost:5672".to_owned(),
            max_attempts: 3,
            prefetch_count: 10,
            queue_mode: "standard".to_owned(),
            priority_field: None,
        }
    }
}

impl Default for NamedQueueSettings {
    fn default() -> NamedQueueSettings {
        NamedQueueSettings {
            max_retries: 3,
            concurrency: 10,
            r#type: QueueKind::Standard,
            message_group_field: None,
            backoff_ms: 1000,
            poll_interval_ms: 100,
            max_priority: None,
            priority_field: None,
            timeout_ms: None,
            redeliver_on_engine_restart: false,
            max_depth: 0,
            dlq_max: 0,
            hold_max_ms: 0,
            backoff_max_ms: 0,
            backoff_jitter: 0.0,
        }
    }
}

impl Check for QueueSettings {
    fn check(&mut self, findings: &mut Findings) {
        for (name, queue) in &self.queue_configs {
            if let QueueKind::Unknown(kind) = &queue.r#type {
                let text = format!("Queue '{name}' has invalid type '{kind}'. Must be 'standard' or 'fifo'");
                findings.refuse(&["queue_configs", name, "type"], text);
            }
            if queue.r#type == QueueKind::Fifo && queue.message_group_field.is_none() {
                let text = format!("Queue '{name}' is of type 'fifo' but 'message_group_field' is not set");
                findings.refuse(&["queue_configs", name, "type"], text);
            }
            if queue.concurrency == 0 {
                let text = format!("Queue '{name}' has 'concurrency' 0; it must be at least 1");
                findings.refuse(&["queue_configs", name, "concurrency"], text);
            }
            if queue.max_priority == Some(0) {
                let text = format!("Queue '{name}' has 'max_priority' 0; it must be between 1 and 255");
                findings.refuse(&["queue_configs", name, "max_priority"], text);
            }
        }
        self.queue_configs.entry("default".to_owned()).or_default();
        if let QueueAdapter::Builtin(builtin) = &mut self.adapter {
            data::check_store(&mut builtin.store_method, &mut builtin.save_interval_ms, findings);
        }
    }
}
