//! The settings of one listener, ready for use on every request.

use std::sync::Arc;

use iii_shards::http::cors::CorsPolicy;

use super::gate::Gate;
use crate::config::settings::HttpSettings;

/// The phase of middleware that runs; other phases are accepted and never do (HTTP-3).
const PHASE: &str = "preHandler";

/// What requests of one listener are handled by. A request keeps the one it began with (HTTP-7).
#[derive(Debug)]
pub struct Site {
    /// How many requests run at a time.
    pub gate: Arc<Gate>,
    /// Time to the response head in milliseconds; 0 = unlimited (HTTP-60).
    pub timeout_ms: u64,
    /// How long to wait for a writer after an empty result, in milliseconds (HTTP-59).
    pub empty_result_grace_ms: u64,
    /// Cross-origin rules.
    pub cors: CorsPolicy,
    /// Functions that run before every route, in order.
    pub middleware: Vec<Box<str>>,
    /// Longest request body in bytes; 0 = unlimited.
    pub body_limit: u64,
    /// Whether forwarding headers are believed.
    pub trust_proxy: bool,
    /// Lower-case name of the header that carries a request id.
    pub request_id_header: Option<Box<str>>,
    /// Whether `/x/` is `/x`.
    pub ignore_trailing_slash: bool,
    /// Whether path parameters are percent-decoded.
    pub decode_path_params: bool,
    /// Who answers what no route matches.
    pub not_found_function: Option<Box<str>>,
    /// Whether `/openapi.json` is served.
    pub openapi: bool,
    /// Whether each request is logged.
    pub access_log: bool,
}

impl Site {
    /// Resolves settings that have been checked.
    pub fn new(settings: &HttpSettings, gate: Arc<Gate>) -> Site {
        let cors = settings.cors.as_ref().map_or_else(CorsPolicy::default, |cors| {
            let origins = cors.allowed_origins.iter().map(String::as_str);
            CorsPolicy::new(origins, cors.allowed_methods.iter().map(String::as_str))
        });
        let middleware = settings.middleware.iter().filter(|middleware| middleware.phase == PHASE);
        Site {
            gate,
            timeout_ms: settings.default_timeout,
            empty_result_grace_ms: settings.empty_result_grace_ms,
            cors,
            middleware: middleware.map(|middleware| middleware.function_id.as_str().into()).collect(),
            body_limit: settings.body_limit,
            trust_proxy: settings.trust_proxy,
            request_id_header: settings.request_id_header.as_ref().map(|name| name.to_ascii_lowercase().into()),
            ignore_trailing_slash: settings.ignore_trailing_slash,
            decode_path_params: settings.decode_path_params,
            not_found_function: settings.not_found_function.as_deref().map(Box::from),
            openapi: settings.openapi,
            access_log: settings.access_log,
        }
    }
}
