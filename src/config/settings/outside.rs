//! Settings of the workers that reach outside the engine: `iii-exec`, `iii-bridge`, `iii-http-functions`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Check, Findings};

/// Settings of `iii-exec`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping")]
pub struct ExecSettings {
    /// Commands, run one after the other; the last one keeps running.
    pub exec: Vec<String>,
    /// Patterns of files whose change starts the commands again.
    #[serde(default)]
    pub watch: Option<Vec<String>>,
    /// Whether the last command is started again when it ends.
    #[serde(default)]
    pub restart: ExecRestart,
    /// Put the worker's name in front of each line of output.
    #[serde(default)]
    pub prefix_output: bool,
    /// How long a command may take to end before it is killed, in milliseconds.
    #[serde(default = "kill_timeout_ms")]
    pub kill_timeout_ms: u64,
}

fn kill_timeout_ms() -> u64 {
    3_000
}

/// Whether the last command of `iii-exec` is started again when it ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ExecRestart {
    /// No.
    #[default]
    Never,
    /// If it failed.
    OnFailure,
    /// Yes.
    Always,
}

/// Settings of `iii-bridge`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a mapping")]
pub struct BridgeSettings {
    /// The other engine; absent = the environment variable III_URL, else ws://0.0.0.0:49134.
    pub url: Option<String>,
    /// Service to announce there.
    pub service_id: Option<String>,
    /// Its name; absent = its id.
    pub service_name: Option<String>,
    /// Functions of this engine to offer there.
    pub expose: Vec<ExposeSettings>,
    /// Functions of the other engine to offer here.
    pub forward: Vec<ForwardSettings>,
}

/// A function offered to the other engine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping")]
pub struct ExposeSettings {
    /// Its id here.
    pub local_function: String,
    /// Its id there; absent = the same.
    #[serde(default)]
    pub remote_function: Option<String>,
}

/// A function of the other engine offered here.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping")]
pub struct ForwardSettings {
    /// Its id here.
    pub local_function: String,
    /// Its id there.
    pub remote_function: String,
    /// Limit for one call, in milliseconds.
    #[serde(default = "forward_timeout_ms")]
    pub timeout_ms: u64,
}

fn forward_timeout_ms() -> u64 {
    30_000
}

/// Settings of `iii-http-functions`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a mapping")]
pub struct HttpFunctionsSettings {
    /// What may be reached.
    pub security: SecuritySettings,
}

/// What functions that are HTTP endpoints may reach.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a mapping")]
pub struct SecuritySettings {
    /// Host patterns; empty = any host.
    pub url_allowlist: Vec<String>,
    /// Refuse addresses of private networks.
    pub block_private_ips: bool,
    /// Refuse plain http.
    pub require_https: bool,
    /// Patterns of environment variables that registrations may name.
    pub env_allowlist: Vec<String>,
    /// Longest response in bytes.
    pub max_response_bytes: u64,
}

impl Default for SecuritySettings {
    fn default() -> SecuritySettings {
        SecuritySettings {
            url_allowlist: vec!["*".to_owned()],
            block_private_ips: true,
            require_https: true,
            env_allowlist: vec!["*".to_owned()],
            max_response_bytes: 64 << 20,
        }
    }
}

impl Check for ExecSettings {}
impl Check for BridgeSettings {}

impl Check for HttpFunctionsSettings {
    fn check(&mut self, _: &mut Findings) {
        if self.security.url_allowlist.is_empty() {
            self.security.url_allowlist.push("*".to_owned());
        }
    }
}
