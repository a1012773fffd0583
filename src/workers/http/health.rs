//! What the engine answers itself: `/health`, and `/openapi.json` with the help of discovery.

use iii_shards::builtin::OutgoingCall;
use iii_shards::http::response::Response;

use super::calls::DEFAULT_NAMESPACE;
use super::connection::Connection;
use super::context::Context;
use super::openapi;
use super::request::Step;

/// Knows the schemas of functions.
const DISCOVERY: &str = "engine::functions::list";

/// How long discovery may take; without it the description has no schemas.
const DISCOVERY_TIMEOUT_MS: u64 = 5_000;

impl Connection {
    /// HTTP-76
    pub(super) fn respond_health(&mut self, cx: &mut Context<'_>) {
        let uptime = cx.host.now().ms.saturating_sub(cx.shared.started_ms) / 1000;
        let version = crate::VERSION;
        let body = format!(r#"{{"status":"healthy","version":"{version}","uptime_seconds":{uptime}}}"#);
        self.respond(Response::json(200, body.into_bytes()), cx);
    }

    /// Asks discovery for the schemas of functions.
    pub(super) fn ask_for_schemas(&mut self, cx: &mut Context<'_>) {
        let Some(pending) = &mut self.pending else { return };
        let mut call =
            OutgoingCall::new(DEFAULT_NAMESPACE, DISCOVERY, br#"{"include_internal":true,"include_schemas":true}"#);
        call.timeout_ms = Some(DISCOVERY_TIMEOUT_MS);
        let token = cx.host.call(&call);
        pending.step = Step::OpenApi;
        pending.call = Some(token);
        pending.deadline_ms = cx.host.now().ms + DISCOVERY_TIMEOUT_MS;
        cx.shared.calls.insert(token, self.socket);
    }

    /// Describes the routes, with schemas if discovery gave them.
    pub(super) fn schemas_answered(&mut self, functions: Option<&[u8]>, cx: &mut Context<'_>) {
        let routes = cx.shared.routes.served().map(|entry| &entry.route);
        let document = openapi::document(routes, functions);
        self.respond(Response::json(200, document), cx);
    }
}
