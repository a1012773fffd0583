//! Settings of the workers that keep data: `iii-state`, `iii-stream`, `iii-cron`, `iii-pubsub`, `configuration`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Check, Findings};

/// Directory of file stores unless they say otherwise.
pub const FILE_PATH_DEFAULT: &str = "kv_store_data.db";
/// Time between saves of file stores unless they say otherwise.
pub const SAVE_INTERVAL_MS_DEFAULT: u64 = 5000;
const SAVE_INTERVAL_MS_MIN: u64 = 100;
const SAVE_INTERVAL_MS_MAX: u64 = 3_600_000;

/// Where a store keeps its data.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(from = "String", into = "String")]
#[schemars(with = "StoreMethodForm")]
pub enum StoreMethod {
    /// In memory; gone when the engine stops.
    #[default]
    InMemory,
    /// In files.
    FileBased,
    /// Something else; memory is used, with a warning.
    Unknown(String),
}

#[derive(JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(dead_code, reason = "describes the written form to the schema")]
enum StoreMethodForm {
    InMemory,
    FileBased,
}

impl From<String> for StoreMethod {
    fn from(text: String) -> StoreMethod {
        match text.as_str() {
            "in_memory" => StoreMethod::InMemory,
            "file_based" => StoreMethod::FileBased,
            _ => StoreMethod::Unknown(text),
        }
    }
}

impl From<StoreMethod> for String {
    fn from(method: StoreMethod) -> String {
        match method {
            StoreMethod::InMemory => "in_memory".to_owned(),
            StoreMethod::FileBased => "file_based".to_owned(),
            StoreMethod::Unknown(text) => text,
        }
    }
}

/// Settings of the `kv` adapter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a mapping")]
pub struct KvSettings {
    /// Memory or files.
    pub store_method: StoreMethod,
    /// Directory of the files.
    pub file_path: String,
    /// Time between saves, in milliseconds.
    pub save_interval_ms: u64,
}

/// Settings of the `redis` adapter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a mapping")]
pub struct RedisSettings {
    /// Address of the server.
    #[serde(alias = "url")]
    pub redis_url: String,
    /// What our keys start with (queue, cron).
    pub key_prefix: Option<String>,
    /// What our channels start with (pubsub).
    pub channel_prefix: Option<String>,
    /// Life of a lock, in milliseconds (cron).
    #[schemars(range(min = 1))]
    pub lock_ttl_ms: Option<u64>,
    /// Send the trace context along with each message (pubsub).
    pub envelope: Option<bool>,
}

/// Settings of the `bridge` adapter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a mapping")]
pub struct BridgeAdapterSettings {
    /// The other engine.
    #[serde(alias = "url")]
    pub bridge_url: String,
}

/// Settings of `iii-state`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a mapping")]
pub struct StateSettings {
    /// Where values are kept.
    pub adapter: StateAdapter,
    /// Whether changes fire triggers.
    pub triggers_enabled: bool,
    /// Longest value in bytes; absent = unlimited.
    #[schemars(range(min = 1))]
    pub max_value_bytes: Option<u64>,
    /// Time between saves, in milliseconds; beats the adapter's own.
    #[schemars(range(min = 100, max = 3_600_000))]
    pub save_interval_ms: Option<u64>,
}

/// Where state is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "name", content = "config", rename_all = "lowercase", deny_unknown_fields)]
pub enum StateAdapter {
    /// In this engine.
    Kv(KvSettings),
    /// In Redis.
    Redis(RedisSettings),
    /// In another engine.
    Bridge(BridgeAdapterSettings),
}

/// Settings of `iii-stream`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a mapping")]
pub struct StreamSettings {
    /// Port; 0 = any free one.
    pub port: u16,
    /// Host or address to bind.
    pub host: Option<String>,
    /// Function that decides about each connection.
    pub auth_function: Option<String>,
    /// Accept connections, and joins, that their function fails to decide about.
    pub auth_fail_open: bool,
    /// Origins browsers may connect from; empty = any.
    pub allowed_origins: Vec<String>,
    /// Where items are kept.
    pub adapter: StreamAdapter,
}

/// Where stream items are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "name", content = "config", rename_all = "lowercase", deny_unknown_fields)]
pub enum StreamAdapter {
    /// In this engine.
    Kv(StreamKvSettings),
    /// In Redis.
    Redis(RedisSettings),
    /// In another engine.
    Bridge(BridgeAdapterSettings),
}

/// Settings of the `kv` adapter of `iii-stream`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a mapping")]
pub struct StreamKvSettings {
    /// Memory or files.
    pub store_method: StoreMethod,
    /// Directory of the files.
    pub file_path: String,
    /// Time between saves, in milliseconds.
    pub save_interval_ms: u64,
    /// Events that may wait for one subscriber.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub channel_size: u32,
}

/// Settings of `iii-cron`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a mapping")]
pub struct CronSettings {
    /// Where the locks are kept that make one of several engines run a job.
    pub adapter: CronAdapter,
    /// `false`: triggers may be registered and never fire.
    pub enabled: bool,
    /// Which weekday a number means.
    pub weekday_numbering: WeekdayNumbering,
    /// Limit for one run in milliseconds, unless the trigger has its own; absent = none.
    #[schemars(range(min = 1))]
    pub run_timeout_ms: Option<u64>,
    /// Run a job that several connections have registered once per tick.
    pub dedupe_replicas: bool,
    /// What happens at a tick when the lock can't be asked for.
    pub on_lock_error: OnLockError,
}

/// Which weekday a number in a cron expression means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WeekdayNumbering {
    /// 0 to 7; 0 and 7 are Sunday.
    #[default]
    Posix,
    /// 1 to 7; 1 is Sunday.
    Reference,
}

/// What happens at a tick when the lock can't be asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnLockError {
    /// The tick is left out.
    #[default]
    Skip,
    /// The job runs, on every engine.
    Run,
}

/// Where locks of timed triggers are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "name", content = "config", rename_all = "lowercase", deny_unknown_fields)]
pub enum CronAdapter {
    /// In this engine.
    Kv(CronKvSettings),
    /// In Redis.
    Redis(RedisSettings),
}

/// Settings of the `kv` adapter of `iii-cron`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a mapping")]
pub struct CronKvSettings {
    /// Memory or files.
    pub store_method: StoreMethod,
    /// Directory of the files.
    pub file_path: String,
    /// Time between saves, in milliseconds.
    pub save_interval_ms: u64,
    /// Life of a lock, in milliseconds.
    #[schemars(range(min = 1))]
    pub lock_ttl_ms: u64,
    /// Name of the locks.
    pub lock_index: String,
}

/// Settings of `iii-pubsub`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a mapping")]
pub struct PubSubSettings {
    /// How messages reach other engines.
    pub adapter: PubSubAdapter,
    /// Whether `condition_function_id` of subscriptions is asked.
    pub evaluate_conditions: bool,
}

/// How published messages reach other engines.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "name", content = "config", rename_all = "lowercase", deny_unknown_fields)]
pub enum PubSubAdapter {
    /// They do not.
    Local(LocalSettings),
    /// Through Redis.
    Redis(RedisSettings),
}

/// Settings of the `local` adapter: anything is accepted and nothing read.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, expecting = "a mapping")]
pub struct LocalSettings {}

/// Settings of `configuration`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a mapping")]
pub struct ConfigurationSettings {
    /// Where entries are kept.
    pub adapter: ConfigurationAdapter,
    /// Life of a cached entry in seconds; 0 = for ever.
    pub ttl_seconds: u64,
}

/// Where configuration entries are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "name", content = "config", rename_all = "lowercase", deny_unknown_fields)]
pub enum ConfigurationAdapter {
    /// In files.
    Fs(DirectorySettings),
    /// In another engine.
    Bridge(BridgeAdapterSettings),
}

/// Settings of the `fs` adapter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a mapping")]
pub struct DirectorySettings {
    /// Directory of the files.
    pub directory: String,
}

// === defaults ===

impl Default for KvSettings {
    fn default() -> KvSettings {
        KvSettings {
            store_method: StoreMethod::default(),
            file_path: FILE_PATH_DEFAULT.to_owned(),
            save_interval_ms: SAVE_INTERVAL_MS_DEFAULT,
        }
    }
}

impl Default for StreamKvSettings {
    fn default() -> StreamKvSettings {
        let KvSettings { store_method, file_path, save_interval_ms } = KvSettings::default();
        StreamKvSettings { store_method, file_path, save_interval_ms, channel_size: 256 }
    }
}

impl Default for CronKvSettings {
    fn default() -> CronKvSettings {
        let KvSettings { store_method, file_path, save_interval_ms } = KvSettings::default();
        let lock_index = "cron_locks".to_owned();
        CronKvSettings { store_method, file_path, save_interval_ms, lock_ttl_ms: 30_000, lock_index }
    }
}

impl Default for RedisSettings {
    fn default() -> RedisSettings {
        RedisSettings {
            redis_url: "redis://localhost:6379".to_owned(),
            key_prefix: None,
            channel_prefix: None,
            lock_ttl_ms: None,
            envelope: None,
        }
    }
}

impl Default for BridgeAdapterSettings {
    fn default() -> BridgeAdapterSettings {
        BridgeAdapterSettings { bridge_url: "ws://localhost:49134".to_owned() }
    }
}

impl Default for StateSettings {
    fn default() -> StateSettings {
        StateSettings {
            adapter: StateAdapter::default(),
            triggers_enabled: true,
            max_value_bytes: None,
            save_interval_ms: None,
        }
    }
}

impl Default for StateAdapter {
    fn default() -> StateAdapter {
        StateAdapter::Kv(KvSettings::default())
    }
}

impl Default for StreamSettings {
    fn default() -> StreamSettings {
        StreamSettings {
            port: 3112,
            host: None,
            auth_function: None,
            auth_fail_open: false,
            allowed_origins: Vec::new(),
            adapter: StreamAdapter::default(),
        }
    }
}

impl Default for StreamAdapter {
    fn default() -> StreamAdapter {
        StreamAdapter::Kv(StreamKvSettings::default())
    }
}

impl Default for PubSubSettings {
    fn default() -> PubSubSettings {
        PubSubSettings { adapter: PubSubAdapter::default(), evaluate_conditions: true }
    }
}

impl Default for CronSettings {
    fn default() -> CronSettings {
        CronSettings {
            adapter: CronAdapter::default(),
            enabled: true,
            weekday_numbering: WeekdayNumbering::default(),
            run_timeout_ms: None,
            dedupe_replicas: true,
            on_lock_error: OnLockError::default(),
        }
    }
}

impl Default for CronAdapter {
    fn default() -> CronAdapter {
        CronAdapter::Kv(CronKvSettings::default())
    }
}

impl Default for PubSubAdapter {
    fn default() -> PubSubAdapter {
        PubSubAdapter::Local(LocalSettings::default())
    }
}

impl Default for ConfigurationAdapter {
    fn default() -> ConfigurationAdapter {
        ConfigurationAdapter::Fs(DirectorySettings::default())
    }
}

impl Default for DirectorySettings {
    fn default() -> DirectorySettings {
        DirectorySettings { directory: "./config".to_owned() }
    }
}

// === checks ===

/// Tolerates what older files say about stores: an unknown method means memory, an interval is brought into range.
pub fn check_store(method: &mut StoreMethod, save_interval_ms: &mut u64, findings: &mut Findings) {
    if let StoreMethod::Unknown(text) = method {
        findings.correct(
            &["adapter", "config", "store_method"],
            format!("unknown store method '{text}', expected 'in_memory' or 'file_based'; in_memory is used"),
        );
        *method = StoreMethod::InMemory;
    }
    let wanted = match *save_interval_ms {
        0 => SAVE_INTERVAL_MS_DEFAULT,
        given => given.clamp(SAVE_INTERVAL_MS_MIN, SAVE_INTERVAL_MS_MAX),
    };
    if wanted != *save_interval_ms {
        let text =
            format!("{save_interval_ms} is not in {SAVE_INTERVAL_MS_MIN}..={SAVE_INTERVAL_MS_MAX}; {wanted} is used");
        findings.correct(&["adapter", "config", "save_interval_ms"], text);
        *save_interval_ms = wanted;
    }
}

impl Check for StateSettings {
    fn check(&mut self, findings: &mut Findings) {
        if self.max_value_bytes == Some(0) {
            self.max_value_bytes = None;
            findings.correct(&["max_value_bytes"], "0 is less than 1; no limit is used");
        }
        let range = SAVE_INTERVAL_MS_MIN..=SAVE_INTERVAL_MS_MAX;
        if let Some(given) = self.save_interval_ms.filter(|given| !range.contains(given)) {
            self.save_interval_ms = None;
            findings.correct(
                &["save_interval_ms"],
                format!("{given} is not in {SAVE_INTERVAL_MS_MIN}..={SAVE_INTERVAL_MS_MAX}; the adapter's own is used"),
            );
        }
        if let StateAdapter::Kv(kv) = &mut self.adapter {
            check_store(&mut kv.store_method, &mut kv.save_interval_ms, findings);
        }
    }
}

impl Check for StreamSettings {
    fn check(&mut self, findings: &mut Findings) {
        if let StreamAdapter::Kv(kv) = &mut self.adapter {
            check_store(&mut kv.store_method, &mut kv.save_interval_ms, findings);
            if !(1..=1_048_576).contains(&kv.channel_size) {
                let text = format!("{} is not in 1..=1048576", kv.channel_size);
                findings.refuse(&["adapter", "config", "channel_size"], text);
            }
        }
    }
}

impl Check for CronSettings {
    fn check(&mut self, findings: &mut Findings) {
        if let CronAdapter::Kv(kv) = &mut self.adapter {
            check_store(&mut kv.store_method, &mut kv.save_interval_ms, findings);
        }
        let lock_ttl_ms = match &self.adapter {
            CronAdapter::Kv(kv) => Some(kv.lock_ttl_ms),
            CronAdapter::Redis(redis) => redis.lock_ttl_ms,
        };
        if lock_ttl_ms == Some(0) {
            findings.refuse(&["adapter", "config", "lock_ttl_ms"], "0 is less than 1");
        }
        if self.run_timeout_ms == Some(0) {
            findings.refuse(&["run_timeout_ms"], "0 is less than 1");
        }
    }
}

impl Check for PubSubSettings {}
impl Check for ConfigurationSettings {}
