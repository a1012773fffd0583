//! The top-level settings, and the lists of entries beside them.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::SHARDS_RANGE;
use super::parse::Target;
use super::problem::{FieldPath, Report};
use super::typed::{self, UnknownKeys};

/// The top-level settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a mapping of settings")]
pub struct Top {
    /// Workers to run.
    #[serde(skip_serializing)]
    #[schemars(with = "Vec<Value>")]
    pub(super) workers: Option<Entries>,
    /// Workers to run, under the older name of the list; they come after `workers`.
    #[serde(skip_serializing)]
    #[schemars(with = "Vec<Value>")]
    pub(super) modules: Option<Entries>,
    /// Port of the first worker listener without access rules; `--port` wins.
    pub port: Option<u16>,
    /// Host of the same listener; `--host` wins.
    pub host: Option<String>,
    /// Number of event loops; `--shards` wins. Absent = one per available CPU.
    #[serde(deserialize_with = "shards")]
    #[schemars(range(min = 1, max = 64))]
    pub shards: Option<usize>,
    /// What a second registration of a function id means.
    pub duplicate_functions: DuplicateFunctions,
    /// Whether two live workers of a namespace may carry one name.
    pub worker_names: WorkerNames,
    /// Limit for an invocation in milliseconds; 0 = none.
    pub max_invocation_ms: u64,
    /// How long a new connection may take to name its namespace, in milliseconds.
    pub registration_namespace_grace_ms: u64,
    /// How long processes the engine has started may take to end when it stops, in milliseconds; then they are killed.
    pub stop_grace_ms: u64,
    /// Accepted for files of the older worker tool; ignored.
    #[serde(skip_serializing)]
    pub(super) rootfs: Option<Map<String, Value>>,
}

/// Entries before they are read.
pub(super) type Entries = Vec<Value>;

/// What a second registration of a function id means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DuplicateFunctions {
    /// Calls are spread over both.
    #[default]
    Balance,
    /// The newest replaces the others.
    Takeover,
    /// The newcomer is refused.
    Reject,
}

/// Whether two live workers of a namespace may carry one name.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WorkerNames {
    /// They may.
    #[default]
    Shared,
    /// The second is refused.
    Exclusive,
}

impl Default for Top {
    fn default() -> Top {
        Top {
            workers: None,
            modules: None,
            port: None,
            host: None,
            shards: None,
            duplicate_functions: DuplicateFunctions::default(),
            worker_names: WorkerNames::default(),
            max_invocation_ms: 0,
            registration_namespace_grace_ms: 200,
            stop_grace_ms: 4_000,
            rootfs: None,
        }
    }
}

impl From<DuplicateFunctions> for iii_shards::settings::DuplicateFunctions {
    fn from(policy: DuplicateFunctions) -> Self {
        match policy {
            DuplicateFunctions::Balance => Self::Balance,
            DuplicateFunctions::Takeover => Self::Takeover,
            DuplicateFunctions::Reject => Self::Reject,
        }
    }
}

impl From<WorkerNames> for iii_shards::settings::WorkerNames {
    fn from(policy: WorkerNames) -> Self {
        match policy {
            WorkerNames::Shared => Self::Shared,
            WorkerNames::Exclusive => Self::Exclusive,
        }
    }
}

fn shards<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
    let Some(shards) = Option::<i64>::deserialize(deserializer)? else { return Ok(None) };
    if SHARDS_RANGE.contains(&shards) {
        return Ok(Some(shards as usize));
    }
    let (first, last) = (SHARDS_RANGE.start(), SHARDS_RANGE.end());
    Err(serde::de::Error::custom(format_args!("invalid value: integer '{shards}', expected {first}..={last}")))
}

/// Reads the top level. The entries come with their paths; `None` if the top level itself is wrong, beside which the
/// entries have still been looked at as far as they could be.
pub fn read(root: &Value, report: &mut Report<'_>) -> (Top, Vec<(FieldPath, Value)>) {
    let root = match root {
        Value::Null => Value::Object(Map::new()),
        Value::Object(members) => Value::Object(
            members.iter().filter(|(_, value)| !value.is_null()).map(|(k, v)| (k.clone(), v.clone())).collect(),
        ),
        other => other.clone(),
    };
    let mut lists = Vec::new();
    for list in ["workers", "modules"] {
        let path = FieldPath::default().key(list);
        let elements = root.get(list).and_then(Value::as_array).into_iter().flatten();
        lists.extend(elements.enumerate().map(|(index, value)| (path.index(index), value.clone())));
    }
    let mut top = typed::read::<Top>(root, &FieldPath::default(), UnknownKeys::Refuse, report).unwrap_or_default();
    if top.rootfs.take().is_some() {
        report.warn(&FieldPath::default().key("rootfs"), Target::Key, "accepted for older files and ignored");
    }
    top.workers = None;
    top.modules = None;
    (top, lists)
}
