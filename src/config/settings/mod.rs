//! The settings of each built-in worker: one struct per worker, defaults included, unknown keys refused.
//!
//! The same types make the JSON Schema, so what an editor offers is what the engine takes.

mod data;
mod http;
mod listener;
mod observability;
mod outside;
mod queue;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use data::{
    BridgeAdapterSettings, ConfigurationAdapter, ConfigurationSettings, CronAdapter, CronKvSettings, CronSettings,
    DirectorySettings, KvSettings, LocalSettings, OnLockError, PubSubAdapter, PubSubSettings, RedisSettings,
    StateAdapter, StateSettings, StoreMethod, StreamAdapter, StreamKvSettings, StreamSettings, WeekdayNumbering,
};
pub use http::{CorsSettings, HttpSettings, MiddlewareSettings};
pub use listener::{FunctionFilter, RbacSettings, WorkerManagerSettings, match_pattern};
pub use observability::{
    AlertAction, AlertSettings, CollapseSettings, LogFormat, ObservabilitySettings, RateLimitSettings, SamplingRule,
    SamplingSettings, TraceStorageSettings,
};
pub use outside::{
    BridgeSettings, ExecRestart, ExecSettings, ExposeSettings, ForwardSettings, HttpFunctionsSettings, SecuritySettings,
};
pub use queue::{
    BuiltinQueueSettings, Fsync, NamedQueueSettings, QueueAdapter, QueueKind, QueueSettings, RabbitMqSettings,
};

use super::catalog::BuiltIn;

/// The settings of one built-in worker.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum WorkerSettings {
    /// `iii-worker-manager`
    WorkerManager(WorkerManagerSettings),
    /// `iii-http`
    Http(HttpSettings),
    /// `iii-stream`
    Stream(StreamSettings),
    /// `iii-state`
    State(StateSettings),
    /// `iii-queue`
    Queue(QueueSettings),
    /// `iii-pubsub`
    PubSub(PubSubSettings),
    /// `iii-cron`
    Cron(CronSettings),
    /// `iii-exec`
    Exec(ExecSettings),
    /// `iii-bridge`
    Bridge(BridgeSettings),
    /// `iii-http-functions`
    HttpFunctions(HttpFunctionsSettings),
    /// `configuration`
    Configuration(ConfigurationSettings),
    /// `iii-observability`
    Observability(Box<ObservabilitySettings>),
    /// `iii-engine-functions`
    EngineFunctions(EngineFunctionsSettings),
    /// A worker whose settings are accepted and not read.
    Ignored,
}

/// Settings of `iii-engine-functions`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a mapping")]
pub struct EngineFunctionsSettings {
    /// Shape of discovery answers: by the caller's version, or always one generation's.
    pub discovery_shape: DiscoveryShape,
}

/// Which generation's shape discovery answers have where the two conflict.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DiscoveryShape {
    /// By the version the caller announced.
    #[default]
    Auto,
    /// Before 0.13.
    Legacy,
    /// From 0.13 on.
    Current,
}

/// Things a settings struct checks about itself that its types cannot say.
pub trait Check {
    /// Corrects what is tolerated, each with a warning; names what is not, each with the key it belongs to.
    fn check(&mut self, findings: &mut Findings) {
        let _ = findings;
    }
}

/// What a settings struct found wrong with itself. Keys are relative to the struct.
#[derive(Debug, Default)]
pub struct Findings {
    /// Corrected, with a warning.
    pub corrected: Vec<(Vec<String>, String)>,
    /// Refused.
    pub refused: Vec<(Vec<String>, String)>,
}

impl Findings {
    /// Adds a correction.
    pub fn correct(&mut self, keys: &[&str], text: impl Into<String>) {
        self.corrected.push((keys.iter().map(|key| (*key).to_owned()).collect(), text.into()));
    }

    /// Adds a refusal.
    pub fn refuse(&mut self, keys: &[&str], text: impl Into<String>) {
        self.refused.push((keys.iter().map(|key| (*key).to_owned()).collect(), text.into()));
    }
}

impl Check for EngineFunctionsSettings {}

/// Whether a worker takes unknown settings with a warning instead of refusing them: its old files carry many.
pub fn tolerates_unknown_keys(worker: BuiltIn) -> bool {
    matches!(worker, BuiltIn::Observability | BuiltIn::EngineFunctions)
}
