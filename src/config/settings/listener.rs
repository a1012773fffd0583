//! Settings of `iii-worker-manager`: one worker listener per entry.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Check, Findings};

/// Port of a worker listener unless it says otherwise.
pub const WORKER_PORT_DEFAULT: u16 = 49134;

/// Settings of `iii-worker-manager`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a mapping")]
pub struct WorkerManagerSettings {
    /// Port; 0 = any free one.
    pub port: u16,
    /// Host or address to bind; absent = loopback. `none` on a listener without `rbac` = no such listener.
    pub host: Option<String>,
    /// Deadline for a complete request head, in milliseconds.
    pub handshake_timeout_ms: u64,
    /// Function that every call from this listener goes through.
    pub middleware_function_id: Option<String>,
    /// Who may do what; absent = everybody everything.
    pub rbac: Option<RbacSettings>,
    /// Origins browsers may connect from; empty = any.
    pub allowed_origins: Vec<String>,
}

/// Who may do what on a listener.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a mapping")]
pub struct RbacSettings {
    /// Function that decides about each connection.
    pub auth_function_id: Option<String>,
    /// Functions everybody may call.
    pub expose_functions: Vec<FunctionFilter>,
    /// Function that may change or refuse a function registration.
    pub on_function_registration_function_id: Option<String>,
    /// Function that may change or refuse a trigger registration.
    pub on_trigger_registration_function_id: Option<String>,
    /// Function that may change or refuse a trigger type registration.
    pub on_trigger_type_registration_function_id: Option<String>,
}

/// Selects functions by id pattern or by metadata.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Value", into = "Value")]
#[schemars(with = "FilterForm")]
pub enum FunctionFilter {
    /// By id; `*` stands for any run of characters.
    Id {
        /// The pattern.
        pattern: String,
        /// Namespace; absent = `default`.
        namespace: Option<String>,
    },
    /// By metadata: every member must match.
    Metadata {
        /// Exact values, or `match("…")` for strings.
        members: Map<String, Value>,
        /// Namespace; absent = `default`.
        namespace: Option<String>,
    },
}

/// How a filter is written.
#[derive(JsonSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "describes the written form to the schema")]
enum FilterForm {
    /// `match("pattern")`
    Text(String),
    /// With a namespace, or by metadata.
    Mapping {
        /// Id pattern.
        r#match: Option<String>,
        /// Metadata to match.
        metadata: Option<Map<String, Value>>,
        /// Namespace of the functions.
        namespace: Option<String>,
    },
}

impl TryFrom<Value> for FunctionFilter {
    type Error = String;

    fn try_from(value: Value) -> Result<FunctionFilter, String> {
        let mut members = match value {
            Value::String(text) => {
                let pattern = match_pattern(&text).ok_or_else(|| format!("'{text}' is not match(\"pattern\")"))?;
                return Ok(FunctionFilter::Id { pattern: pattern.to_owned(), namespace: None });
            }
            Value::Object(members) => members,
            _ => return Err("expected match(\"pattern\") or a mapping with 'match' or 'metadata'".to_owned()),
        };
        let text = |value: Value, key: &str| match value {
            Value::String(text) => Ok(text),
            _ => Err(format!("'{key}' must be a string")),
        };
        let namespace = members.shift_remove("namespace").map(|value| text(value, "namespace")).transpose()?;
        let filter = match (members.shift_remove("match"), members.shift_remove("metadata")) {
            (Some(pattern), None) => {
                let pattern = text(pattern, "match")?;
                let pattern = match_pattern(&pattern).unwrap_or(&pattern).to_owned();
                FunctionFilter::Id { pattern, namespace }
            }
            (None, Some(Value::Object(members))) => FunctionFilter::Metadata { members, namespace },
            (None, Some(_)) => return Err("'metadata' must be a mapping".to_owned()),
            _ => return Err("expected exactly one of 'match' and 'metadata'".to_owned()),
        };
        match members.keys().next() {
            Some(key) => Err(format!("unknown field '{key}', expected 'match', 'metadata' or 'namespace'")),
            None => Ok(filter),
        }
    }
}

impl From<FunctionFilter> for Value {
    fn from(filter: FunctionFilter) -> Value {
        let (key, value, namespace) = match filter {
            FunctionFilter::Id { pattern, namespace } => ("match", Value::from(pattern), namespace),
            FunctionFilter::Metadata { members, namespace } => ("metadata", Value::Object(members), namespace),
        };
        let mut map = Map::from_iter([(key.to_owned(), value)]);
        if let Some(namespace) = namespace {
            map.insert("namespace".to_owned(), Value::from(namespace));
        }
        Value::Object(map)
    }
}

/// The pattern in `match("pattern")` or `match('pattern')`.
pub fn match_pattern(text: &str) -> Option<&str> {
    let inner = text.trim().strip_prefix("match(")?.strip_suffix(')')?.trim();
    let quoted = |quote| inner.strip_prefix(quote).and_then(|inner| inner.strip_suffix(quote));
    quoted('"').or_else(|| quoted('\''))
}

impl Default for WorkerManagerSettings {
    fn default() -> WorkerManagerSettings {
        WorkerManagerSettings {
            port: WORKER_PORT_DEFAULT,
            host: None,
            handshake_timeout_ms: 10_000,
            middleware_function_id: None,
            rbac: None,
            allowed_origins: Vec::new(),
        }
    }
}

impl Check for WorkerManagerSettings {
    fn check(&mut self, findings: &mut Findings) {
        if self.host.as_deref().is_some_and(|host| host.trim().is_empty()) {
            findings.refuse(&["host"], "host must not be empty");
        }
    }
}
