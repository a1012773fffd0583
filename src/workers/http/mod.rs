//! `iii-http`: functions as HTTP endpoints (spec 20-http).
//!
//! A connection lives on one shard, with everything its requests need: the parser, the routes, the calls. Routes are
//! every instance's own, kept current by triggers. Invariant: a request whose worker is on the same shard crosses no
//! ring. Deliberately absent: TLS, HTTP/2, and cancellation of functions whose client has left (HTTP-62).
//!
//! ```text
//! socket ─► connection ─► Exchange ─► request: gate, route, middleware, body, condition ─► call ─► function
//! socket ◄─ connection ◄─ Exchange ◄─ response, or the frames of its channel ◄──────────── answer ◄──┘
//! ```

mod calls;
mod connection;
mod context;
mod gate;
mod health;
mod instance;
mod openapi;
mod request;
mod routes;
mod site;
#[cfg(test)]
mod tests;
mod trace;
mod transfer;

use std::sync::Arc;

use iii_shards::builtin::{Definition, TriggerType};
use iii_shards::settings::ListenerSettings;

use crate::config::settings::HttpSettings;
use gate::Gate;
use instance::Instance;
use routes::Registrations;

/// Configuration of an `http` trigger, for discovery (HTTP-11).
const CONFIG_FORMAT: &str = r#"{"type":"object","required":["api_path"],"properties":{"api_path":{"type":"string"},"http_method":{"type":"string","enum":["GET","POST","PUT","DELETE","PATCH","HEAD","OPTIONS"],"default":"GET"},"condition_function_id":{"type":"string"},"middleware_function_ids":{"type":"array","items":{"type":"string"}}}}"#;

/// What a function is called with, for discovery (HTTP-27).
const CALL_FORMAT: &str = r#"{"type":"object","properties":{"method":{"type":"string"},"path":{"type":"string"},"path_params":{"type":"object","additionalProperties":{"type":"string"}},"query_params":{"type":"object","additionalProperties":{"type":"string"}},"headers":{"type":"object","additionalProperties":{"type":"string"}},"body":{},"trigger":{"type":"object"},"request_body":{"type":"object"},"response":{"type":"object"}}}"#;

/// The worker, with one listener for each entry of the configuration: its name there, its settings, its addresses.
pub fn definition(entries: Vec<(HttpSettings, ListenerSettings)>) -> Definition {
    let (settings, listeners): (Vec<HttpSettings>, Vec<ListenerSettings>) = entries.into_iter().unzip();
    let settings: Vec<(HttpSettings, Arc<Gate>)> = settings
        .into_iter()
        .map(|settings| {
            let limit = usize::try_from(settings.concurrency_request_limit).unwrap_or(usize::MAX).max(1);
            (settings, Arc::new(Gate::new(limit)))
        })
        .collect();
    let registered = Arc::new(Registrations::default());
    let checked = Arc::clone(&registered);
    let mut trigger_type = TriggerType::new("http", "HTTP API trigger", move |binding| checked.add(binding));
    trigger_type.removed = Some(Arc::new(move |binding| registered.remove(binding)));
    trigger_type.config_format = Some(CONFIG_FORMAT.into());
    trigger_type.call_format = Some(CALL_FORMAT.into());
    Definition {
        name: "iii-http".into(),
        description: "Expose functions as HTTP endpoints.".into(),
        functions: Vec::new(),
        trigger_types: vec![trigger_type],
        listeners,
        factory: Arc::new(move |host| Box::new(Instance::new(&settings, host))),
    }
}
