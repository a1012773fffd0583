//! Settings of `iii-http`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Check, Findings};

/// Settings of `iii-http`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a mapping")]
pub struct HttpSettings {
    /// Port; 0 = any free one.
    pub port: u16,
    /// Host or address to bind.
    pub host: Option<String>,
    /// Time to the response head, in milliseconds.
    pub default_timeout: u64,
    /// Requests handled at a time.
    #[schemars(range(min = 1))]
    pub concurrency_request_limit: u64,
    /// Cross-origin rules; absent = everything allowed.
    pub cors: Option<CorsSettings>,
    /// Functions that run for every route, lowest priority number first.
    pub middleware: Vec<MiddlewareSettings>,
    /// Longest request body in bytes; 0 = unlimited.
    pub body_limit: u64,
    /// Believe the forwarding headers of a proxy.
    pub trust_proxy: bool,
    /// Header that carries a request id, generated when missing.
    pub request_id_header: Option<String>,
    /// Treat `/x/` like `/x`.
    pub ignore_trailing_slash: bool,
    /// Function that answers requests no route matches.
    pub not_found_function: Option<String>,
    /// Percent-decode path parameters.
    pub decode_path_params: bool,
    /// How long to wait for a streamed response after a handler returned nothing, in milliseconds; then the answer is
    /// 204.
    pub empty_result_grace_ms: u64,
    /// Serve a description of all routes at `/openapi.json`.
    pub openapi: bool,
    /// Log each request.
    pub access_log: bool,
}

/// Cross-origin rules.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, expecting = "a mapping")]
pub struct CorsSettings {
    /// Origins; empty or `*` = any.
    pub allowed_origins: Vec<String>,
    /// Methods; empty = any.
    pub allowed_methods: Vec<String>,
}

/// A function that runs for every route.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping")]
pub struct MiddlewareSettings {
    /// The function.
    pub function_id: String,
    /// When it runs; only `preHandler` does anything.
    #[serde(default = "pre_handler")]
    pub phase: String,
    /// Order among several.
    #[serde(default)]
    pub priority: i64,
}

fn pre_handler() -> String {
    "preHandler".to_owned()
}

impl Default for HttpSettings {
    fn default() -> HttpSettings {
        HttpSettings {
            port: 3111,
            host: None,
            default_timeout: 30_000,
            concurrency_request_limit: 1024,
            cors: None,
            middleware: Vec::new(),
            body_limit: 0,
            trust_proxy: false,
            request_id_header: None,
            ignore_trailing_slash: false,
            not_found_function: None,
            decode_path_params: false,
            empty_result_grace_ms: 5_000,
            openapi: true,
            access_log: false,
        }
    }
}

impl Check for HttpSettings {
    fn check(&mut self, findings: &mut Findings) {
        if self.concurrency_request_limit == 0 {
            self.concurrency_request_limit = 1;
            findings.correct(&["concurrency_request_limit"], "0 would refuse every request; 1 is used");
        }
        // Stable: entries of equal priority keep the order of the file.
        self.middleware.sort_by_key(|middleware| middleware.priority);
    }
}
