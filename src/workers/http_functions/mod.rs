//! `iii-http-functions`: functions whose implementation is an HTTP endpoint (HTTPF).
//!
//! A worker registers one by naming an endpoint; calls of it come here instead of to the worker. Requests are made on
//! the egress thread, over one pooled client whose name resolution lets no forbidden address through, so what was
//! checked is what is connected to.

mod endpoint;
mod request;
mod security;

use crate::config::settings::{HttpFunctionsSettings, SecuritySettings};
use crate::egress;
use endpoint::{Endpoint, Problem};
use iii_shards::builtin::{BuiltIn, Call, CallId, Definition, Failure, Host, Outcome};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::any::Any;
use std::collections::HashSet;
use std::sync::Arc;

/// The name by which shards find this worker.
pub use iii_shards::builtin::HTTP_FUNCTIONS_WORKER as NAME;

/// The worker, with its client.
pub fn definition(settings: &HttpFunctionsSettings) -> Result<Definition, String> {
    let security = Arc::new(settings.security.clone());
    let client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .pool_max_idle_per_host(50)
        .dns_resolver(Arc::new(Resolver { security: security.clone() }))
        .build()
        .map_err(|error| format!("cannot make an HTTP client: {error}"))?;
    Ok(Definition {
        name: NAME.into(),
        description: "Expose external HTTP endpoints from config as callable functions.".into(),
        functions: Vec::new(),
        trigger_types: Vec::new(),
        listeners: Vec::new(),
        factory: Arc::new(move |_| {
            Box::new(HttpFunctions { client: client.clone(), security: security.clone(), reached: HashSet::new() })
        }),
    })
}

struct HttpFunctions {
    client: reqwest::Client,
    security: Arc<SecuritySettings>,
    /// URLs whose host has resolved to allowed addresses: from then on a failure is the call's, not the registration's.
    reached: HashSet<String>,
}

/// A request has ended.
struct Ended {
    call: CallId,
    url: String,
    outcome: Outcome,
}

impl HttpFunctions {
    fn endpoint(&self, invocation: &[u8]) -> Result<Endpoint, Problem> {
        let variable = |name: &str| std::env::var(name).ok();
        let endpoint = Endpoint::parse(invocation, &self.security.env_allowlist, variable)?;
        security::check_url(&endpoint.url, &self.security)?;
        Ok(endpoint)
    }
}

impl BuiltIn for HttpFunctions {
    fn call(&mut self, call: Call, host: &mut dyn Host) {
        let invocation = call.endpoint.as_deref().unwrap_or(b"null");
        let endpoint = match self.endpoint(invocation) {
            Ok(endpoint) => endpoint,
            Err(problem) => return host.answer(call.id, Err(&unregistered(&call.function_id, &problem))),
        };
        let sent = request::Call {
            function_id: call.function_id.to_string(),
            invocation_id: host.new_uuid().to_string(),
            body: call.data,
            metadata: call.metadata,
            traceparent: call.traceparent,
            baggage: call.baggage,
        };
        let (client, mailbox, limit) = (self.client.clone(), host.mailbox(), self.security.max_response_bytes);
        let (id, function_id) = (call.id, call.function_id.to_string());
        let (unix_s, reached) = (host.now().unix_ms / 1000, self.reached.contains(&endpoint.url));
        egress::spawn(async move {
            let mut outcome = request::call(&client, &endpoint, sent, limit, unix_s).await;
            if let Err(failure) = &outcome
                && let Some(message) = REFUSALS.iter().find(|refusal| failure.message.ends_with(*refusal))
            {
                let problem = ("url_validation_failed", (*message).to_owned());
                outcome = Err(if reached {
                    Failure::new(problem.0, problem.1)
                } else {
                    unregistered(&function_id, &problem)
                });
            }
            mailbox.post(Box::new(Ended { call: id, url: endpoint.url, outcome }));
        });
    }

    fn message(&mut self, message: Box<dyn Any + Send>, host: &mut dyn Host) {
        let Ok(ended) = message.downcast::<Ended>() else { return };
        if !matches!(&ended.outcome, Err(failure) if failure.code == "function_not_found") {
            self.reached.insert(ended.url);
        }
        match &ended.outcome {
            Ok(value) => host.answer(ended.call, Ok(value)),
            Err(failure) => host.answer(ended.call, Err(failure)),
        }
    }
}

/// A function whose endpoint may not be called does not exist (HTTPF-7).
fn unregistered(function_id: &str, (code, message): &Problem) -> Failure {
    let text =
        format!("Function {function_id} not found in namespace default. HTTP registration failed: {code}: {message}");
    Failure::new("function_not_found", text)
}

const PRIVATE_BLOCKED: &str = "Private IP blocked";
const LOOKUP_FAILED: &str = "DNS lookup failed";
/// What the resolver says when it lets an address not through.
const REFUSALS: [&str; 2] = [PRIVATE_BLOCKED, LOOKUP_FAILED];

/// Resolves names to addresses that may be called; all of a name's addresses must be.
struct Resolver {
    security: Arc<SecuritySettings>,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let block = self.security.block_private_ips;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await;
            let addresses: Vec<_> = match found {
                Ok(addresses) => addresses.collect(),
                Err(_) if block => return Err(LOOKUP_FAILED.into()),
                Err(error) => return Err(error.into()),
            };
            if block && addresses.iter().any(|address| security::is_private(address.ip())) {
                return Err(PRIVATE_BLOCKED.into());
            }
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}
