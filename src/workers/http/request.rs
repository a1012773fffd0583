//! One request from its head to the end of its response: the steps of HTTP-37, and the race of HTTP-58.
//!
//! ```text
//! Queued ─► Global(0..n) ─► Body ─► Condition ─► Route(0..n) ─► Handler ─┬─ result ──────────► responded
//!   gate     middleware     JSON                middleware               ├─ error, time-out ─► responded
//!                                                                        └─ first binary frame ─► streaming ─► end
//! ```

use std::rc::Rc;
use std::sync::Arc;

use iii_shards::builtin::{Host, Outcome, Token};
use iii_shards::http::head::{BodyLength, Request};
use iii_shards::http::method::Method;
use iii_shards::http::request::is_json;
use iii_shards::http::response::{Response, ResponseHead};
use iii_shards::http::router::{Entry, Lookup};
use iii_shards::limits::MESSAGE_BYTES_MAX;

use super::connection::Connection;
use super::context::Context;
use super::gate::Waiter;
use super::site::Site;
use super::trace::TraceParent;
use super::transfer::{Download, Upload};

/// Longest JSON body that is handed over as a value; a longer one is streamed like any other body.
pub const JSON_BODY_BYTES_MAX: usize = MESSAGE_BYTES_MAX / 2;

/// A request under way.
pub struct Pending {
    pub(super) request: Request,
    pub(super) site: Rc<Site>,
    pub(super) target: Target,
    pub(super) step: Step,
    /// The call that is awaited.
    pub(super) call: Option<Token>,
    pub(super) body: Body,
    pub(super) upload: Option<Upload>,
    pub(super) download: Option<Download>,
    /// Until when the response must have begun.
    pub(super) deadline_ms: u64,
    /// When to stop waiting for a writer: one that has not come, or one whose function may yet fail.
    pub(super) grace_ms: u64,
    pub(super) trace: TraceParent,
    pub(super) request_id: Option<Box<str>>,
    /// Whether it is inside its gate.
    inside: bool,
    /// Body bytes so far.
    body_bytes: u64,
    began_ms: u64,
    /// Status sent; 0 = none yet.
    status: u16,
}

/// What answers a request.
pub enum Target {
    /// A route.
    Route(Arc<Entry>),
    /// The function for requests without one (HTTP-4).
    Fallback(Box<str>),
    /// The engine itself.
    Engine,
}

/// Where a request stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Waits for its gate.
    Queued,
    /// Middleware of the listener.
    Global(usize),
    /// Its JSON body is read.
    Body,
    /// The condition of the route.
    Condition,
    /// Middleware of the route.
    Route(usize),
    /// The function, or its stream.
    Handler,
    /// The schemas for `/openapi.json`.
    OpenApi,
}

/// The body of a request.
#[derive(Debug)]
pub enum Body {
    /// There is none.
    None,
    /// Read before the condition: bytes so far, and whether that is all.
    Json(Vec<u8>, bool),
    /// Read when the function asks for it.
    Stream,
}

// === impl Pending ===

impl Pending {
    /// Whether the head of a streamed response has been sent.
    pub fn is_streaming(&self) -> bool {
        self.download.as_ref().is_some_and(|download| download.head.is_none())
    }

    /// Whether it waits for its gate.
    pub fn is_queued(&self) -> bool {
        self.step == Step::Queued
    }

    /// Whether body bytes are of use now.
    pub fn wants_body(&self) -> bool {
        match (&self.body, &self.upload) {
            (Body::Json(_, complete), None) => self.step == Step::Body && !complete,
            (_, Some(upload)) => upload.wants_more(),
            _ => false,
        }
    }

    /// When it wants to be looked at.
    pub fn due_ms(&self) -> u64 {
        if self.is_streaming() { self.grace_ms } else { self.deadline_ms.min(self.grace_ms) }
    }

    /// Takes body bytes. False: the body is longer than allowed.
    pub fn take_body(&mut self, bytes: &[u8], host: &mut dyn Host) -> bool {
        self.body_bytes += bytes.len() as u64;
        if self.site.body_limit > 0 && self.body_bytes > self.site.body_limit {
            return false;
        }
        match (&mut self.upload, &mut self.body) {
            (Some(upload), _) => upload.handle_chunk(bytes, host),
            (None, Body::Json(body, _)) => body.extend_from_slice(bytes),
            (None, _) => {}
        }
        true
    }

    fn entry(&self) -> Option<&Arc<Entry>> {
        match &self.target {
            Target::Route(entry) => Some(entry),
            Target::Fallback(_) | Target::Engine => None,
        }
    }
}

// === impl Connection ===

impl Connection {
    /// A request's head is complete.
    pub(super) fn begin(&mut self, request: Request, cx: &mut Context<'_>) {
        let Some(site) = cx.shared.sites.get(self.listener).map(Rc::clone) else {
            // Its listener is gone, and so will be the connection.
            let now = cx.now();
            return self.exchange.respond_abort(now);
        };
        let head = request.head();
        let (method, path) = (head.method(), head.path());
        let routes = cx.shared.table();
        let found = match site.ignore_trailing_slash {
            true => routes.lookup_ignoring_slash(method, path),
            false => routes.lookup(method, path),
        };
        let is_preflight = head.header("access-control-request-method").is_some();
        let (target, refusal) = match found {
            Lookup::Found(entry) if method != Some(Method::Options) || !is_preflight => {
                (Target::Route(Arc::clone(entry)), None)
            }
            _ if method == Some(Method::Options) => (Target::Engine, Some(Response::empty(200))),
            Lookup::MethodNotAllowed(methods) => (Target::Engine, Some(Response::method_not_allowed(methods))),
            _ => match &site.not_found_function {
                Some(function) => (Target::Fallback(function.clone()), None),
                None => (Target::Engine, Some(Response::not_found())),
            },
        };
        let is_get = matches!(method, Some(Method::Get | Method::Head));
        let built_in =
            if matches!(target, Target::Route(_)) || !is_get { BuiltIn::None } else { BuiltIn::of(path, &site) };
        let target = if built_in == BuiltIn::None { target } else { Target::Engine };

        let json = head.header("content-type").is_some_and(is_json);
        let body = match head.body() {
            BodyLength::None => Body::None,
            BodyLength::Length(length) if length > JSON_BODY_BYTES_MAX as u64 => Body::Stream,
            _ if json => Body::Json(Vec::new(), false),
            _ => Body::Stream,
        };
        let too_long =
            matches!(head.body(), BodyLength::Length(length) if site.body_limit > 0 && length > site.body_limit);
        let request_id = site.request_id_header.as_ref().map(|name| match head.header(name).map(std::str::from_utf8) {
            Some(Ok(id)) if !id.is_empty() => id.into(),
            _ => cx.host.new_uuid().to_string().into(),
        });
        let trace = match target {
            Target::Engine => TraceParent::NONE,
            _ => TraceParent::of(head.header("traceparent"), cx.host),
        };
        self.sequence = self.sequence.wrapping_add(1);
        self.pending = Some(Pending {
            request,
            site,
            target,
            step: Step::Queued,
            call: None,
            body,
            upload: None,
            download: None,
            deadline_ms: u64::MAX,
            grace_ms: u64::MAX,
            trace,
            request_id,
            inside: false,
            body_bytes: 0,
            began_ms: cx.host.now().ms,
            status: 0,
        });
        match (built_in, refusal) {
            (BuiltIn::Health, _) => self.respond_health(cx),
            (BuiltIn::OpenApi, _) => self.ask_for_schemas(cx),
            (BuiltIn::None, Some(refusal)) => self.respond(refusal, cx),
            (BuiltIn::None, None) if too_long => self.respond(Response::payload_too_large(), cx),
            (BuiltIn::None, None) => {
                let waiter = Waiter { socket: self.socket, sequence: self.sequence };
                let gate = self.pending.as_ref().map(|pending| Rc::clone(&pending.site));
                if gate.is_some_and(|site| cx.try_enter(&site.gate, waiter)) {
                    self.start(cx);
                }
            }
        }
    }

    /// The request is inside its gate: its time begins (HTTP-37, HTTP-61).
    pub(super) fn start(&mut self, cx: &mut Context<'_>) {
        let Some(pending) = &mut self.pending else { return };
        pending.inside = true;
        if pending.site.timeout_ms > 0 {
            pending.deadline_ms = cx.host.now().ms.saturating_add(pending.site.timeout_ms);
        }
        // Middleware, conditions and their like are for routes (HTTP-38).
        let first = if pending.entry().is_some() { Step::Global(0) } else { Step::Body };
        self.advance(first, cx);
    }

    /// Goes on with this step, or with the next one for which there is something to do.
    pub(super) fn advance(&mut self, mut step: Step, cx: &mut Context<'_>) {
        let Some(pending) = &mut self.pending else { return };
        loop {
            pending.step = step;
            let entry = pending.entry();
            let config = entry.map(|entry| &entry.route.config);
            step = match step {
                Step::Global(index) if index < pending.site.middleware.len() => return self.call_middleware(cx),
                Step::Global(_) => Step::Body,
                Step::Body => match &pending.body {
                    Body::Json(_, false) => return self.exchange.read_body(),
                    _ => Step::Condition,
                },
                Step::Condition if config.is_some_and(|config| config.condition_function_id.is_some()) => {
                    return self.call_condition(cx);
                }
                Step::Condition => Step::Route(0),
                Step::Route(index) if config.is_some_and(|config| index < config.middleware_function_ids.len()) => {
                    return self.call_middleware(cx);
                }
                Step::Route(_) => Step::Handler,
                Step::Handler => return self.call_handler(cx),
                Step::Queued | Step::OpenApi => return,
            };
        }
    }

    /// The body has ended.
    pub(super) fn body_ended(&mut self, cx: &mut Context<'_>) {
        let Some(pending) = &mut self.pending else { return };
        match (&mut pending.upload, &mut pending.body) {
            (Some(upload), _) => upload.handle_end(cx.host),
            (None, Body::Json(_, complete)) => {
                *complete = true;
                self.advance(Step::Body, cx);
            }
            (None, _) => {}
        }
    }

    /// The body turned out longer than allowed (HTTP-4).
    pub(super) fn refuse_body(&mut self, cx: &mut Context<'_>) {
        if self.pending.as_ref().is_some_and(Pending::is_streaming) {
            let now = cx.now();
            self.exchange.respond_abort(now);
            self.finish(cx);
        } else {
            self.respond(Response::payload_too_large(), cx);
        }
    }

    /// The call that was awaited has ended.
    pub(super) fn answered(&mut self, outcome: Outcome, cx: &mut Context<'_>) {
        let Some(pending) = &mut self.pending else { return };
        pending.call = None;
        match pending.step {
            Step::Global(_) | Step::Route(_) => self.middleware_answered(outcome, cx),
            Step::Condition => self.condition_answered(outcome, cx),
            Step::Handler => self.handler_answered(outcome, cx),
            Step::OpenApi => self.schemas_answered(outcome.as_deref().ok(), cx),
            Step::Queued | Step::Body => {}
        }
    }

    /// Sends a whole response and ends the request.
    pub(super) fn respond(&mut self, mut response: Response<'_>, cx: &mut Context<'_>) {
        let now = cx.now();
        let Some(pending) = &mut self.pending else { return };
        pending.status = response.head.status;
        complete_head(pending, &mut response.head, cx);
        let head = pending.request.head();
        let origin = head.header("origin");
        if head.method() == Some(Method::Options) && matches!(pending.target, Target::Engine) {
            let methods = cx.shared.table().methods(head.path());
            self.exchange.respond(now, response, &pending.site.cors.options_lines(origin, methods));
        } else {
            self.exchange.respond(now, response, &pending.site.cors.response_lines(origin));
        }
        self.finish(cx);
    }

    /// Sends the head of a streamed response.
    pub(super) fn respond_head(&mut self, mut head: ResponseHead, cx: &mut Context<'_>) {
        let now = cx.now();
        let Some(pending) = &mut self.pending else { return };
        pending.status = head.status;
        complete_head(pending, &mut head, cx);
        let origin = pending.request.head().header("origin");
        self.exchange.respond_head(now, &head, &pending.site.cors.response_lines(origin), None);
        if std::mem::take(&mut pending.inside) {
            cx.leave(&pending.site.gate);
        }
    }

    /// The request is over, however it ended.
    pub(super) fn finish(&mut self, cx: &mut Context<'_>) {
        let Some(mut pending) = self.pending.take() else { return };
        if pending.inside {
            cx.leave(&pending.site.gate);
        }
        if let Some(call) = pending.call.take() {
            cx.shared.calls.remove(&call);
            cx.host.forget(call);
        }
        if let Some(upload) = pending.upload.take() {
            upload.close(cx.host);
        }
        if let Some(download) = pending.download.take() {
            download.close(cx.host);
        }
        if pending.site.access_log {
            log_access(&self.peer, &pending, cx.host.now().ms);
        }
    }
}

/// What the engine answers itself, after all routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BuiltIn {
    None,
    Health,
    OpenApi,
}

impl BuiltIn {
    fn of(path: &[u8], site: &Site) -> BuiltIn {
        match path {
            b"/health" => BuiltIn::Health,
            b"/openapi.json" if site.openapi => BuiltIn::OpenApi,
            _ => BuiltIn::None,
        }
    }
}

fn complete_head(pending: &Pending, head: &mut ResponseHead, cx: &mut Context<'_>) {
    if let (Some(name), Some(id)) = (&pending.site.request_id_header, &pending.request_id) {
        head.headers.set(name, id.as_bytes());
    }
    if head.headers.refused() > 0
        && let Target::Route(entry) = &pending.target
        && cx.warns_first(&entry.route.trigger_id)
    {
        let route = &entry.route;
        tracing::warn!(function_id = &*route.function_id, "response headers that are not valid were left out");
    }
}

#[cold]
fn log_access(peer: &str, pending: &Pending, now_ms: u64) {
    let head = pending.request.head();
    tracing::info!(
        "{peer} {} {} {} {}ms",
        head.method_name(),
        head.path().escape_ascii(),
        pending.status,
        now_ms.saturating_sub(pending.began_ms)
    );
}
