//! Hot path: the life of an invocation on one shard.
//!
//! `handle_invoke` (caller's home) → `dispatch` → `deliver` (provider's home) → `handle_result` (provider's home) →
//! `finish` (caller's home). Between homes a call crosses as a ring message; on one shard the same functions are
//! called directly with slices of the receive buffer.

use super::Shard;
use super::access::middleware_request;
use super::enqueue;
use super::mesh::{Batch, Call, InvokeMessage, RingMessage};
use crate::connection::Connection;
use crate::connection::worker::{Echo, Generation, InFlight, Parked, Pending, Worker};
use crate::control::functions::EngineFunction;
use crate::control::{Firing, Report};
use crate::ids::{ConnectionId, ProviderId};
use crate::registry::DEFAULT_NAMESPACE;
use crate::registry::routes::Route;
use crate::timers::Timer;
use crate::wire::encode::{CALLER_MEMBER_NAME, CallResult, Invoke, Outcome, Payload};
use crate::wire::envelope::{Action, Envelope, ErrorBody, Malformed};
use crate::wire::json::{self, Scanner};
use crate::wire::{codes, trace};
use std::borrow::Cow;
use std::rc::Rc;
use uuid::Uuid;

/// Why a call cannot be run. Becomes the caller's error.
pub(super) struct Refusal {
    pub code: &'static str,
    pub message: String,
}

impl Refusal {
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Refusal { code, message: message.into() }
    }
}

/// Why a provider cannot be given a call.
enum Undelivered {
    /// The connection or its registration is gone.
    Gone,
    /// The caller must be told.
    Refused(Refusal),
}

impl Shard {
    // === caller's home ===

    /// A worker calls a function.
    #[inline]
    pub(super) fn handle_invoke(&mut self, id: ConnectionId, envelope: &Envelope<'_>) {
        self.handle_invoke_knowing(id, envelope, None);
    }

    /// The same; `metadata` is that of the function called, if it had to be looked up (PROTO-123).
    #[inline]
    pub(super) fn handle_invoke_knowing(
        &mut self,
        id: ConnectionId,
        envelope: &Envelope<'_>,
        metadata: Option<Option<&[u8]>>,
    ) {
        self.counters.invocations += 1;
        let invocation_id = match envelope.invocation_id() {
            Ok(invocation_id) => invocation_id,
            Err(message) => return self.refuse_raw_id(id, envelope, &message),
        };
        if let Err((answerable, refusal)) = self.try_invoke(id, envelope, invocation_id, metadata) {
            if refusal.code == codes::INVALID_MESSAGE {
                self.note_malformed(id, &Malformed { reason: refusal.message.clone(), call: None, result: None });
            }
            if let Some(invocation_id) = invocation_id.filter(|_| answerable) {
                let name = Envelope::string(envelope.members.function_id, "").ok().flatten().unwrap_or_default();
                let outcome = Outcome::Error { code: refusal.code, message: &refusal.message, stacktrace: None };
                let echo = echo_of(envelope);
                self.answer_echoing(id, invocation_id, &name, &outcome, echo.as_ref());
            }
        }
    }

    /// `Err` carries whether the caller awaits an answer.
    #[inline]
    fn try_invoke(
        &mut self,
        id: ConnectionId,
        envelope: &Envelope<'_>,
        invocation_id: Option<Uuid>,
        metadata: Option<Option<&[u8]>>,
    ) -> Result<(), (bool, Refusal)> {
        let invalid = |message: String| (true, Refusal::new(codes::INVALID_MESSAGE, message));
        let members = &envelope.members;
        let function_id = Envelope::required(members.function_id, "function_id").map_err(invalid)?;
        let action = Action::parse(members.action).map_err(invalid)?;
        let tracked = invocation_id.filter(|_| action == Action::Call);
        let answerable = action != Action::Void;
        let namespace = Envelope::string(members.namespace, "namespace").map_err(invalid)?;
        let namespace = match namespace.as_deref() {
            None => DEFAULT_NAMESPACE,
            Some(blank) if blank.trim().is_empty() => {
                return Err((answerable, Refusal::new(codes::INVALID_NAMESPACE, codes::BLANK_NAMESPACE)));
            }
            Some(namespace) => namespace,
        };
        let Some(worker) = self.connection_mut(id).and_then(Connection::worker_mut) else { return Ok(()) };
        let replays = std::mem::take(&mut worker.replays) || metadata.is_some();
        if !replays && (worker.waits_on.is_some() || !worker.parked.is_empty()) {
            let is_call = &*function_id != EngineFunction::WorkersRegister.id();
            if worker.must_park(is_call, &function_id) {
                self.park(id, Parked { text: envelope.text.into(), is_call, registers: None });
                return Ok(());
            }
        }
        if let Some(tracked) = tracked
            && worker.pending.contains_key(&tracked)
        {
            return Err((true, Refusal::new(codes::INVOCATION_ERROR, "duplicate invocation id")));
        }
        let caller_id = worker.id;
        let session = worker.session.clone();
        if let Some(session) = &session {
            let refuse = |refusal| (answerable, refusal);
            match metadata {
                Some(metadata) => session
                    .permits(namespace, &function_id, metadata)
                    .map_err(|message| refuse(Refusal::new(codes::FORBIDDEN, message)))?,
                None if self.permit_call(id, session, namespace, &function_id, envelope).map_err(refuse)? => {}
                None => return Ok(()),
            }
        }
        let middleware = session.as_ref().and_then(|session| Some((session, session.middleware()?)));
        let middleware = middleware.filter(|_| EngineFunction::of_id(&function_id).is_none());
        if let Action::Enqueue { queue } = &action {
            let target = enqueue::Target { queue, namespace, function_id: &function_id };
            return self.enqueue(id, envelope, invocation_id, &target).map_err(|refusal| (answerable, refusal));
        }
        if namespace == DEFAULT_NAMESPACE
            && function_id.starts_with("engine::")
            && let Some(function) = EngineFunction::of_id(&function_id)
        {
            self.call_engine(id, function, tracked, envelope);
            return Ok(());
        }
        let traceparent = Envelope::string(members.traceparent, "traceparent").map_err(invalid)?;
        let baggage = Envelope::string(members.baggage, "baggage").map_err(invalid)?;
        let target_baggage = (traceparent.is_some() || baggage.is_some())
            .then(|| trace::baggage_for(&function_id, baggage.as_deref().unwrap_or("")));
        let mut data = without_caller(members.data.unwrap_or(b"null"));
        let called = &function_id;
        let mut function_id: &str = &function_id;
        if let Some((session, middleware)) = middleware {
            data = middleware_request(session, namespace, called, &data, members.action).into();
            function_id = middleware;
        }
        let call = Call {
            caller: id,
            retried: false,
            prefer: None,
            namespace,
            invoke: Invoke {
                invocation_id: tracked,
                function_id,
                data: Payload { json: &data, caller: Some(&caller_id).filter(|_| middleware.is_none()) },
                metadata: Envelope::raw(members.metadata),
                traceparent: traceparent.as_deref().filter(|value| trace::is_traceparent(value)),
                baggage: target_baggage.as_deref(),
            },
        };
        let route = self.route(namespace, function_id).map_err(|refusal| (answerable, refusal))?;
        if let Some(tracked) = tracked {
            let echo = (traceparent.is_some() || baggage.is_some() || middleware.is_some()).then(|| {
                Box::new(Echo {
                    traceparent: traceparent.as_deref().map(Into::into),
                    baggage: baggage.as_deref().map(Into::into),
                    function_id: middleware.map(|_| (&**called).into()),
                    receipt: None,
                })
            });
            self.track(id, tracked, Pending { route: route.clone(), provider: None, retried: false, echo });
        }
        if let Err(refusal) = self.dispatch(&route, &call) {
            if let Some(tracked) = tracked {
                self.untrack(id, tracked);
            }
            return Err((answerable, refusal));
        }
        Ok(())
    }

    /// A call whose id is no UUID cannot be tracked, but its sender can be told (PROTO-24).
    #[cold]
    fn refuse_raw_id(&mut self, id: ConnectionId, envelope: &Envelope<'_>, message: &str) {
        self.note_malformed(id, &Malformed { reason: message.to_owned(), call: None, result: None });
        if Action::parse(envelope.members.action) == Ok(Action::Void) {
            return;
        }
        let raw = envelope.members.invocation_id.unwrap_or(b"null");
        let function_id = Envelope::string(envelope.members.function_id, "").ok().flatten().unwrap_or_default();
        self.write(id, |out| {
            use crate::wire::encode::{Value, write_text};
            write_text(
                out,
                "invocationresult",
                &[
                    ("invocation_id", Value::Raw(raw)),
                    ("function_id", Value::Text(&function_id)),
                    ("error", Value::Error(codes::INVALID_MESSAGE, message)),
                ],
            );
        });
    }

    pub(super) fn track(&mut self, id: ConnectionId, invocation_id: Uuid, pending: Pending) {
        if let Some(worker) = self.connection_mut(id).and_then(Connection::worker_mut) {
            worker.pending.insert(invocation_id, pending);
            if self.settings.max_invocation_ms > 0 {
                let due = self.now.ms + self.settings.max_invocation_ms;
                self.timers.add(due, false, Timer::Call(id, invocation_id));
            }
        }
    }

    pub(super) fn untrack(&mut self, id: ConnectionId, invocation_id: Uuid) -> Option<Pending> {
        let worker = self.connection_mut(id)?.worker_mut()?;
        let pending = worker.pending.remove(&invocation_id)?;
        // A map that once held many calls would keep its size for the life of the connection.
        if worker.pending.is_empty() && worker.pending.capacity() > 1024 {
            worker.pending = hashbrown::HashMap::new();
        }
        if let Some(provider) = pending.provider {
            pending.route.release(provider);
        }
        Some(pending)
    }

    /// The route of a function, added if it must be asked for.
    #[inline]
    pub(super) fn route(&mut self, namespace: &str, function_id: &str) -> Result<Rc<Route>, Refusal> {
        let hash = self.hasher.hash(function_id);
        if let Some(route) = self.routes.find(hash, namespace, function_id) {
            return Ok(route.clone());
        }
        if self.hasher.owner(hash) == self.id {
            let elsewhere = self.owned.namespaces_of(hash, function_id);
            return Err(not_found(namespace, function_id, &elsewhere));
        }
        Ok(self.routes.entry(hash, namespace, function_id).clone())
    }

    /// Sends a call to a provider, or keeps it until the owner has said who that is.
    #[inline]
    pub(super) fn dispatch(&mut self, route: &Rc<Route>, call: &Call<'_>) -> Result<(), Refusal> {
        let owner = self.hasher.owner(route.hash).0;
        let is_held = |worker: &Worker| worker.waits_on.is_some() || worker.changed_owners >> owner & 1 == 1;
        if self.connection(call.caller).and_then(Connection::worker).is_some_and(is_held)
            && let Some(held) = self.hold_back(route, call)
        {
            return held;
        }
        let tracked = call.invoke.invocation_id.filter(|_| call.caller != ConnectionId::ENGINE);
        let Some(provider) = route.pick(tracked.is_some(), call.prefer) else {
            let Some(to) = route.built_in() else { return self.resolve(route, call) };
            let instance = self.dispatch_built_in(to, call)?;
            if let Some(tracked) = tracked {
                let worker = self.connection_mut(call.caller).and_then(Connection::worker_mut);
                if let Some(pending) = worker.and_then(|worker| worker.pending.get_mut(&tracked)) {
                    pending.provider = Some(instance);
                }
            }
            return Ok(());
        };
        let home = provider.connection.shard;
        if home == self.id {
            match self.deliver(provider, call) {
                Ok(()) => {}
                Err(Undelivered::Refused(refusal)) => {
                    if tracked.is_some() {
                        route.release(provider.connection);
                    }
                    return Err(refusal);
                }
                Err(Undelivered::Gone) => {
                    if call.retried {
                        return Err(Refusal::new(codes::INVOCATION_STOPPED, codes::INVOCATION_STOPPED_MESSAGE));
                    }
                    return self.resolve_again(route, provider, call);
                }
            }
        } else {
            if !self.admits(home) {
                self.counters.overloaded += 1;
                if tracked.is_some() {
                    route.release(provider.connection);
                }
                return Err(Refusal::new(codes::WORKER_OVERLOADED, "the engine's queue to that worker is full"));
            }
            let batch = &mut self.mesh[home.index()];
            let message = batch.invoke(provider, call);
            batch.messages.push(RingMessage::Invoke(message));
        }
        if let Some(tracked) = tracked {
            let worker = self.connection_mut(call.caller).and_then(Connection::worker_mut);
            match worker.and_then(|worker| worker.pending.get_mut(&tracked)) {
                Some(pending) => {
                    pending.provider = Some(provider.connection);
                    // The pick is given back where it was made: the route may be another one than when it was tracked.
                    if !Rc::ptr_eq(&pending.route, route) {
                        pending.route = route.clone();
                    }
                }
                // The caller left while the route was resolved, so nothing will give the pick back.
                None => route.release(provider.connection),
            }
        }
        Ok(())
    }

    /// Ends a call that has been tracked.
    pub(super) fn refuse(&mut self, call: &Call<'_>, refusal: &Refusal) {
        if let Some(invocation_id) = call.invoke.invocation_id {
            let outcome = Outcome::Error { code: refusal.code, message: &refusal.message, stacktrace: None };
            self.finish(call.caller, invocation_id, &outcome);
        }
    }

    // === provider's home ===

    /// A call from another shard has arrived.
    pub(super) fn handle_remote_invoke(&mut self, message: &InvokeMessage, bytes: &[u8]) {
        let call = message.call(bytes);
        match self.deliver(message.provider, &call) {
            Ok(()) => {}
            Err(Undelivered::Gone) if !call.retried => {
                // What the engine itself fires was sent by the owner of the function.
                let sender = match call.caller {
                    ConnectionId::ENGINE => self.hasher.owner(self.hasher.hash(call.invoke.function_id)),
                    caller => caller.shard,
                };
                let batch = &mut self.mesh[sender.index()];
                let message = batch.invoke(message.provider, &call);
                batch.messages.push(RingMessage::Bounced(message));
            }
            Err(Undelivered::Gone) => {
                let stopped = Refusal::new(codes::INVOCATION_STOPPED, codes::INVOCATION_STOPPED_MESSAGE);
                self.send_refusal(&call, &stopped);
            }
            Err(Undelivered::Refused(refusal)) => self.send_refusal(&call, &refusal),
        }
    }

    fn send_refusal(&mut self, call: &Call<'_>, refusal: &Refusal) {
        if let Some(invocation_id) = call.invoke.invocation_id {
            let outcome = Outcome::Error { code: refusal.code, message: &refusal.message, stacktrace: None };
            self.send_outcome(call.caller, invocation_id, &outcome);
        }
    }

    /// Gives a call to a worker: checks that it is still there and can take it, appends it to its outbox.
    #[inline]
    fn deliver(&mut self, provider: ProviderId, call: &Call<'_>) -> Result<(), Undelivered> {
        if provider.connection.as_built_in().is_some() {
            return if self.deliver_built_in(provider, call) { Ok(()) } else { Err(Undelivered::Gone) };
        }
        let outbox_bytes_max = self.settings.outbox_bytes_max;
        let bytes = call.invoke.bytes_max();
        let Some(connection) = self.connection_mut(provider.connection) else { return Err(Undelivered::Gone) };
        let queued = connection.outbox.bytes();
        let Some(worker) = connection.worker_mut() else { return Err(Undelivered::Gone) };
        let function = worker.functions.get(provider.registration as usize).filter(|function| function.live);
        let Some(function) = function else { return Err(Undelivered::Gone) };
        if let Some(endpoint) = function.endpoint.clone() {
            return self.deliver_to_endpoint(call, endpoint).then_some(()).ok_or(Undelivered::Gone);
        }
        if bytes > worker.message_bytes_max {
            let message =
                format!("the call of {bytes} bytes exceeds the worker's limit of {} bytes", worker.message_bytes_max);
            return Err(Undelivered::Refused(Refusal::new(codes::PAYLOAD_TOO_LARGE, message)));
        }
        if queued > 0 && queued + bytes > outbox_bytes_max {
            let message = format!("{queued} bytes already wait for worker {}, which is not reading", worker.id);
            self.counters.overloaded += 1;
            return Err(Undelivered::Refused(Refusal::new(codes::WORKER_OVERLOADED, message)));
        }
        let mut invoke = call.invoke;
        let session = worker.session.clone();
        if let Some(session) = &session {
            invoke.function_id = session.without_prefix(invoke.function_id);
        }
        if let Some(invocation_id) = call.invoke.invocation_id {
            let in_flight = InFlight { caller: call.caller, invocation_id };
            let mut key = invocation_id;
            if worker.in_flight.contains_key(&key) {
                // Another caller is using the same id (PROTO-64): this call travels under one of ours.
                key = self.new_uuid();
            }
            invoke.invocation_id = Some(key);
            if let Some(worker) = self.connection_mut(provider.connection).and_then(Connection::worker_mut) {
                worker.in_flight.insert(key, in_flight);
            }
        }
        self.write(provider.connection, |out| invoke.write(out));
        Ok(())
    }

    /// A worker answers a call.
    #[inline]
    pub(super) fn handle_result(&mut self, id: ConnectionId, envelope: &Envelope<'_>) {
        let invocation_id = match envelope.invocation_id() {
            Ok(Some(invocation_id)) => invocation_id,
            Ok(None) => return self.malformed_result(id, "`invocation_id` is missing".to_owned()),
            Err(reason) => return self.malformed_result(id, reason),
        };
        match Envelope::raw(envelope.members.error) {
            None => self.finish_in_flight(id, invocation_id, &Outcome::Result(envelope.members.result)),
            Some(error) => {
                let body = ErrorBody::parse(error);
                let outcome = Outcome::Error { code: &body.code, message: &body.message, stacktrace: body.stacktrace };
                self.finish_in_flight(id, invocation_id, &outcome);
            }
        }
    }

    #[cold]
    fn malformed_result(&mut self, id: ConnectionId, reason: String) {
        self.note_malformed(id, &Malformed { reason, call: None, result: None });
    }

    /// Ends a call that this worker was running. Only it may: an id it does not hold is counted and ignored.
    #[inline]
    pub(super) fn finish_in_flight(&mut self, id: ConnectionId, key: Uuid, outcome: &Outcome<'_>) {
        let Some(worker) = self.connection_mut(id).and_then(Connection::worker_mut) else { return };
        let Some(in_flight) = worker.in_flight.remove(&key) else {
            self.counters.stray_results += 1;
            return;
        };
        if worker.in_flight.is_empty() && worker.in_flight.capacity() > 1024 {
            worker.in_flight = hashbrown::HashMap::new();
        }
        self.send_outcome(in_flight.caller, in_flight.invocation_id, outcome);
    }

    /// Sends an answer to wherever its caller lives.
    #[inline]
    pub(super) fn send_outcome(&mut self, caller: ConnectionId, invocation_id: Uuid, outcome: &Outcome<'_>) {
        if caller == ConnectionId::ENGINE {
            let control = self.control();
            self.mesh[control.index()].result(caller, invocation_id, outcome);
        } else if caller.shard == self.id {
            self.finish(caller, invocation_id, outcome);
        } else {
            self.mesh[caller.shard.index()].result(caller, invocation_id, outcome);
        }
    }

    // === back at the caller's home ===

    /// Gives an answer to the worker that asked.
    #[inline]
    pub(super) fn finish(&mut self, caller: ConnectionId, invocation_id: Uuid, outcome: &Outcome<'_>) {
        let Some(pending) = self.untrack(caller, invocation_id) else {
            return self.finish_ghost(caller, invocation_id, outcome);
        };
        if caller.as_built_in().is_some() {
            return self.finish_built_in(caller, invocation_id, outcome);
        }
        let echo = pending.echo.as_deref();
        if let Some(receipt) = echo.and_then(|echo| echo.receipt) {
            return self.finish_enqueue(caller, invocation_id, &pending, receipt, outcome);
        }
        let function_id = echo.and_then(|echo| echo.function_id.as_deref()).unwrap_or(&pending.route.id);
        self.answer_echoing(caller, invocation_id, function_id, outcome, echo);
    }

    /// Answers a call that was never tracked.
    pub(super) fn answer(&mut self, id: ConnectionId, invocation_id: Uuid, function_id: &str, outcome: &Outcome<'_>) {
        self.answer_echoing(id, invocation_id, function_id, outcome, None);
    }

    #[inline]
    pub(super) fn answer_echoing(
        &mut self,
        id: ConnectionId,
        invocation_id: Uuid,
        function_id: &str,
        outcome: &Outcome<'_>,
        echo: Option<&Echo>,
    ) {
        let Some(worker) = self.connection(id).and_then(Connection::worker) else { return };
        let limit = worker.message_bytes_max;
        self.counters.results += 1;
        self.write(id, |out| write_answer(out, limit, invocation_id, function_id, outcome, echo));
    }

    /// A call has run longer than `max_invocation_ms` (PROTO-67).
    pub(super) fn handle_call_timeout(&mut self, id: ConnectionId, invocation_id: Uuid) {
        let pending =
            self.connection(id).and_then(Connection::worker).is_some_and(|w| w.pending.contains_key(&invocation_id));
        if pending {
            let message = match id.as_built_in() {
                // Its limit is its own.
                Some(_) => "the call took too long".to_owned(),
                None => format!("the call took longer than {} ms", self.settings.max_invocation_ms),
            };
            let outcome = Outcome::Error { code: codes::INVOCATION_TIMEOUT, message: &message, stacktrace: None };
            self.finish(id, invocation_id, &outcome);
        }
    }

    // === engine functions ===

    /// A worker calls a function of the engine itself.
    #[inline(never)]
    fn call_engine(
        &mut self,
        id: ConnectionId,
        function: EngineFunction,
        tracked: Option<Uuid>,
        envelope: &Envelope<'_>,
    ) {
        let data = envelope.members.data.unwrap_or(b"null");
        if function == EngineFunction::WorkersRegister {
            return self.announce(id, tracked.map(|tracked| (tracked, echo_of(envelope))), data);
        }
        if function == EngineFunction::ChannelsCreate {
            return self.answer_create_channel(id, tracked.map(|tracked| (tracked, echo_of(envelope))), data);
        }
        if let Some(tracked) = tracked {
            let route = self.engine_routes[function as usize].clone();
            let echo = echo_of(envelope).map(Box::new);
            self.track(id, tracked, Pending { route, provider: None, retried: false, echo });
        }
        let generation = self.connection(id).and_then(Connection::worker).map(|worker| worker.generation);
        self.report(Report::Call {
            caller: id,
            invocation_id: tracked,
            function,
            generation: generation.unwrap_or_default(),
            data: data.into(),
            baggage: Envelope::string(envelope.members.baggage, "").ok().flatten().map(|text| text.into()),
            session: self.connection(id).and_then(Connection::worker).and_then(|worker| worker.session.clone()),
        });
    }

    /// A built-in worker calls a function of the engine itself.
    pub(super) fn call_engine_from_built_in(
        &mut self,
        function: EngineFunction,
        call: &Call<'_>,
    ) -> Result<(), Refusal> {
        if matches!(function, EngineFunction::WorkersRegister | EngineFunction::ChannelsCreate) {
            let message = format!("{} is for workers with a connection", function.id());
            return Err(Refusal::new(codes::INVALID_ARGUMENTS, message));
        }
        if let Some(invocation_id) = call.invoke.invocation_id {
            let route = self.engine_routes[function as usize].clone();
            self.track(call.caller, invocation_id, Pending { route, provider: None, retried: false, echo: None });
        }
        self.report(Report::Call {
            caller: call.caller,
            invocation_id: call.invoke.invocation_id,
            function,
            generation: Generation::Current,
            data: call.invoke.data.json.into(),
            baggage: call.invoke.baggage.map(Into::into),
            session: None,
        });
        Ok(())
    }

    /// Answers a call of an engine function that the home shard ran itself.
    pub(super) fn answer_engine(
        &mut self,
        id: ConnectionId,
        call: Option<(Uuid, Option<Echo>)>,
        function: EngineFunction,
        outcome: &Outcome<'_>,
    ) {
        if let Some((invocation_id, echo)) = call {
            self.answer_echoing(id, invocation_id, function.id(), outcome, echo.as_ref());
        }
    }

    /// Control wants a function run that this shard owns, without an answer: something has happened.
    pub(super) fn fire(&mut self, firing: Box<Firing>) {
        let (namespace, function_id) = (&*firing.namespace, &*firing.function_id);
        let hash = self.hasher.hash(function_id);
        debug_assert_eq!(self.hasher.owner(hash), self.id, "control asks the owner");
        let Ok(route) = self.route(namespace, function_id) else {
            // Control may have heard of the function before its registration got here.
            return self.report(Report::Unfired(firing));
        };
        let call = Call {
            caller: ConnectionId::ENGINE,
            retried: false,
            prefer: None,
            namespace,
            invoke: Invoke {
                invocation_id: None,
                function_id,
                data: Payload { json: &firing.data, caller: None },
                metadata: firing.metadata.as_deref(),
                traceparent: None,
                baggage: None,
            },
        };
        if let Err(refusal) = self.dispatch(&route, &call) {
            tracing::debug!(function_id, "event not delivered: {}", refusal.message);
        }
    }
}

/// Appends an answer; one that exceeds what the caller can take becomes an error (PROTO-12d).
#[inline]
pub(super) fn write_answer(
    out: &mut Vec<u8>,
    limit: usize,
    invocation_id: Uuid,
    function_id: &str,
    outcome: &Outcome<'_>,
    echo: Option<&Echo>,
) {
    let traceparent = echo.and_then(|echo| echo.traceparent.as_deref());
    let baggage = echo.and_then(|echo| echo.baggage.as_deref());
    let mut result = CallResult { invocation_id, function_id, outcome: *outcome, traceparent, baggage };
    let bytes = outcome.bytes() + 200 + function_id.len();
    if bytes > limit {
        let message = format!("the result of {bytes} bytes exceeds the caller's limit of {limit} bytes");
        result.outcome = Outcome::Error { code: codes::PAYLOAD_TOO_LARGE, message: &message, stacktrace: None };
        return result.write(out);
    }
    result.write(out);
}

/// PROTO-80: the text depends on whether the id exists in another namespace.
pub(super) fn not_found(namespace: &str, function_id: &str, elsewhere: &[String]) -> Refusal {
    let mut message = format!("Function {function_id} not found in namespace {namespace}.");
    if !elsewhere.is_empty() {
        message.push_str(&format!(" It is registered in namespace(s): {}.", elsewhere.join(", ")));
    }
    Refusal::new(codes::FUNCTION_NOT_FOUND, message)
}

/// The trace headers of a message, to be echoed.
pub(super) fn echo_of(envelope: &Envelope<'_>) -> Option<Echo> {
    let text = |raw| Envelope::string(raw, "").ok().flatten().map(|text: Cow<'_, str>| text.into());
    let (traceparent, baggage) = (text(envelope.members.traceparent), text(envelope.members.baggage));
    let echo = Echo { traceparent, baggage, function_id: None, receipt: None };
    (echo.traceparent.is_some() || echo.baggage.is_some()).then_some(echo)
}

/// A payload without a member that claims to be the caller's id (PROTO-62). Borrowed unless there is one.
#[inline]
pub(super) fn without_caller(data: &[u8]) -> Cow<'_, [u8]> {
    static NAME: std::sync::LazyLock<memchr::memmem::Finder<'static>> =
        std::sync::LazyLock::new(|| memchr::memmem::Finder::new(CALLER_MEMBER_NAME));
    if data.first() != Some(&b'{') {
        return Cow::Borrowed(data);
    }
    // An escaped spelling of the name needs a backslash.
    if NAME.find(data).is_none() && memchr::memchr(b'\\', data).is_none() {
        return Cow::Borrowed(data);
    }
    remove_caller(data)
}

#[cold]
fn remove_caller(data: &[u8]) -> Cow<'_, [u8]> {
    let mut kept = Vec::with_capacity(data.len());
    let mut found = false;
    // The text is valid JSON already, so the walk cannot fail.
    let _ = Scanner::new(data).object(|scanner, key| {
        let value = scanner.value()?;
        let is_caller = key.inner == CALLER_MEMBER_NAME
            || (key.escaped && {
                let quoted = [b"\"", key.inner, b"\""].concat();
                json::string_value(&quoted).is_some_and(|name| name.as_bytes() == CALLER_MEMBER_NAME)
            });
        if is_caller {
            found = true;
        } else {
            kept.push(if kept.is_empty() { b'{' } else { b',' });
            kept.push(b'"');
            kept.extend_from_slice(key.inner);
            kept.extend_from_slice(b"\":");
            kept.extend_from_slice(value);
        }
        Ok(())
    });
    if !found {
        return Cow::Borrowed(data);
    }
    if kept.is_empty() {
        kept.push(b'{');
    }
    kept.push(b'}');
    Cow::Owned(kept)
}

/// Runs what another shard asked for, message by message.
pub(super) fn take_messages(batch: &mut Batch) -> (Vec<RingMessage>, Vec<u8>) {
    (std::mem::take(&mut batch.messages), std::mem::take(&mut batch.bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    // PROTO-62
    #[test]
    fn forged_callers_are_removed() {
        for (data, expected) in [
            (r#"{"a":1}"#, r#"{"a":1}"#),
            (r#"{"_caller_worker_id":"x"}"#, "{}"),
            (r#"{"_caller_worker_id":"x","a":1}"#, r#"{"a":1}"#),
            (r#"{"a":1, "_caller_worker_id" : {"b":2} ,"c":[3]}"#, r#"{"a":1,"c":[3]}"#),
            (r#"{"_caller\u005fworker_id":"x","a":"\n"}"#, r#"{"a":"\n"}"#),
            (r#"{"a":{"_caller_worker_id":"inner"}}"#, r#"{"a":{"_caller_worker_id":"inner"}}"#),
            (r#"["_caller_worker_id"]"#, r#"["_caller_worker_id"]"#),
        ] {
            assert_eq!(without_caller(data.as_bytes()), expected.as_bytes(), "{data}");
        }
    }
}
