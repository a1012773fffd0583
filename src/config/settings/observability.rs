//! Settings of `iii-observability`.
//!
//! Most keys are optional here although they have defaults: an absent key falls back to the environment first, which
//! is the worker's business.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Check, Findings};

/// Settings of `iii-observability`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a mapping")]
pub struct ObservabilitySettings {
    /// Whether anything is collected and exported.
    pub enabled: Option<bool>,
    /// Name of this engine in exported data.
    pub service_name: Option<String>,
    /// Version in exported data.
    pub service_version: Option<String>,
    /// Namespace in exported data.
    pub service_namespace: Option<String>,
    /// Where spans go: `memory`, `otlp` or `both`.
    pub exporter: Option<Exporter>,
    /// Show spans before they end.
    pub live_spans: Option<bool>,
    /// OTLP endpoint.
    pub endpoint: Option<String>,
    /// Share of traces kept, 0 to 1.
    pub sampling_ratio: Option<f64>,
    /// Sampling rules.
    pub sampling: Option<SamplingSettings>,
    /// Most spans kept in memory.
    pub memory_max_spans: Option<u64>,
    /// Spans kept on disk.
    pub trace_storage: Option<TraceStorageSettings>,
    /// Whether metrics are collected.
    pub metrics_enabled: Option<bool>,
    /// Where metrics go.
    pub metrics_exporter: Option<String>,
    /// Life of a metric, in seconds.
    pub metrics_retention_seconds: Option<u64>,
    /// Most metric points kept.
    pub metrics_max_count: Option<u64>,
    /// Whether logs are collected.
    pub logs_enabled: Option<bool>,
    /// Where logs go: `memory`, `otlp` or `both`.
    pub logs_exporter: Option<Exporter>,
    /// Most log records kept.
    pub logs_max_count: Option<u64>,
    /// Life of a log record, in seconds.
    pub logs_retention_seconds: Option<u64>,
    /// Log records per export.
    pub logs_batch_size: Option<u64>,
    /// Time between log exports, in milliseconds.
    pub logs_flush_interval_ms: Option<u64>,
    /// Share of log records kept, 0 to 1.
    pub logs_sampling_ratio: Option<f64>,
    /// Whether logs of workers are printed.
    pub logs_console_output: Option<bool>,
    /// Alert rules.
    pub alerts: Vec<AlertSettings>,
    /// Log level or directives.
    #[serde(alias = "log_level")]
    pub level: Option<String>,
    /// Log format: `default`, `json` or `tree`.
    pub format: Option<LogFormat>,
    /// Spans shown folded.
    pub collapse_spans: Vec<CollapseSettings>,
    /// Whether the Prometheus endpoint is offered.
    pub prometheus_enabled: Option<bool>,
    /// Host of the Prometheus endpoint.
    pub prometheus_host: Option<String>,
    /// Port of the Prometheus endpoint.
    pub prometheus_port: Option<u16>,
    /// Whether metrics of workers are offered to Prometheus too.
    pub prometheus_sdk_metrics: Option<bool>,
    /// Most functions with their own Prometheus series.
    pub prometheus_max_functions: Option<u64>,
}

/// Where data goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Exporter {
    /// Kept here.
    Memory,
    /// Sent away.
    Otlp,
    /// Both.
    Both,
}

/// How the engine's own log lines look. Case does not matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", rename_all = "snake_case")]
pub enum LogFormat {
    /// Time, level, message.
    Default,
    /// One JSON object per line.
    Json,
    /// Fields as a tree below the message.
    Tree,
}

impl TryFrom<String> for LogFormat {
    type Error = String;

    fn try_from(text: String) -> Result<LogFormat, String> {
        match text.to_ascii_lowercase().as_str() {
            "default" => Ok(LogFormat::Default),
            "json" => Ok(LogFormat::Json),
            "tree" => Ok(LogFormat::Tree),
            _ => Err(format!("unknown variant '{text}', expected one of 'default', 'json', 'tree'")),
        }
    }
}

/// Sampling rules.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a mapping")]
pub struct SamplingSettings {
    /// Share kept where no rule matches.
    pub default: Option<f64>,
    /// Rules; the first that matches decides.
    pub rules: Vec<SamplingRule>,
    /// Whether a caller's decision is followed.
    pub parent_based: Option<bool>,
    /// Limit for new traces.
    pub rate_limit: Option<RateLimitSettings>,
}

/// A sampling rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping")]
pub struct SamplingRule {
    /// Pattern of the operation.
    #[serde(default)]
    pub operation: Option<String>,
    /// Pattern of the service.
    #[serde(default)]
    pub service: Option<String>,
    /// Share kept.
    pub rate: f64,
}

/// Limit for new traces.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping")]
pub struct RateLimitSettings {
    /// New traces per second.
    #[schemars(range(min = 1))]
    pub max_traces_per_second: u64,
}

/// Spans kept on disk.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a mapping")]
pub struct TraceStorageSettings {
    /// Whether they are.
    pub enabled: bool,
    /// Directory.
    pub directory: String,
    /// Most bytes on disk.
    pub max_disk_bytes: u64,
    /// Life of a span in seconds; 0 = for ever.
    pub retention_seconds: u64,
    /// Most bytes in memory.
    pub memory_max_bytes: u64,
    /// Share of memory kept when some is freed.
    pub memory_low_watermark_ratio: f64,
    /// Longest wait for the end of a span, in seconds.
    pub pending_max_age_seconds: u64,
}

impl Default for TraceStorageSettings {
    fn default() -> TraceStorageSettings {
        TraceStorageSettings {
            enabled: true,
            directory: "./data/observability/traces".to_owned(),
            max_disk_bytes: 1 << 30,
            retention_seconds: 2_592_000,
            memory_max_bytes: 256 << 20,
            memory_low_watermark_ratio: 0.75,
            pending_max_age_seconds: 3600,
        }
    }
}

/// Spans shown folded: patterns with `*` and `?`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping")]
pub struct CollapseSettings {
    /// Pattern of the name.
    pub name: String,
    /// Pattern of the service.
    #[serde(default)]
    pub service: Option<String>,
}

/// An alert rule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping")]
pub struct AlertSettings {
    /// Its name.
    pub name: String,
    /// The metric.
    pub metric: String,
    /// What it is compared with.
    pub threshold: f64,
    /// How: `>`, `>=`, `<`, `<=`, `==`, `!=` or their names.
    #[serde(default = "greater_than")]
    pub operator: String,
    /// Period looked at, in seconds.
    #[serde(default = "one_minute")]
    pub window_seconds: u64,
    /// Shortest time between two firings, in seconds.
    #[serde(default = "one_minute")]
    pub cooldown_seconds: u64,
    /// Whether the rule is used.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// What a firing does.
    #[serde(default)]
    pub action: AlertAction,
}

/// What a firing alert does.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum AlertAction {
    /// Writes a log line.
    #[default]
    Log,
    /// Sends an HTTP request.
    Webhook {
        /// Where to.
        url: String,
    },
    /// Calls a function.
    Function {
        /// Its id.
        path: String,
    },
}

fn greater_than() -> String {
    ">".to_owned()
}

fn one_minute() -> u64 {
    60
}

fn yes() -> bool {
    true
}

const OPERATORS: [&str; 12] = [
    ">",
    ">=",
    "<",
    "<=",
    "==",
    "!=",
    "greaterthan",
    "greaterthanorequal",
    "lessthan",
    "lessthanorequal",
    "equal",
    "notequal",
];

impl Check for ObservabilitySettings {
    fn check(&mut self, findings: &mut Findings) {
        let mut ratio = |value: &mut Option<f64>, key: &str| {
            let Some(given) = *value else { return };
            let wanted = if given.is_finite() { given.clamp(0.0, 1.0) } else { 1.0 };
            if wanted != given {
                *value = Some(wanted);
                findings.correct(&[key], format!("{given} is not in 0..=1; {wanted} is used"));
            }
        };
        ratio(&mut self.sampling_ratio, "sampling_ratio");
        ratio(&mut self.logs_sampling_ratio, "logs_sampling_ratio");
        let mut count = |value: &mut Option<u64>, key: &str| {
            if *value == Some(0) {
                *value = None;
                findings.correct(&[key], "0 is less than 1; the default is used");
            }
        };
        count(&mut self.memory_max_spans, "memory_max_spans");
        count(&mut self.metrics_retention_seconds, "metrics_retention_seconds");
        count(&mut self.metrics_max_count, "metrics_max_count");
        count(&mut self.logs_max_count, "logs_max_count");
        count(&mut self.logs_retention_seconds, "logs_retention_seconds");
        count(&mut self.logs_batch_size, "logs_batch_size");
        count(&mut self.prometheus_max_functions, "prometheus_max_functions");
        for alert in &self.alerts {
            if !OPERATORS.contains(&alert.operator.to_ascii_lowercase().as_str()) {
                let text = format!("alert '{}' has an unknown operator '{}'", alert.name, alert.operator);
                findings.refuse(&["alerts"], text);
            }
        }
    }
}
