//! Built-in workers on their shard: each instance is a connection without a socket.
//!
//! It has what a worker's connection has (calls in flight, calls pending), under a slot number no socket gets, so
//! routing, answers and timeouts are those of everybody. What is meant for an instance waits in its inbox until
//! [`Shard::run_built_ins`]; an instance is taken out of the shard while it runs, so it may ask anything of it.

use super::access::GATEKEEPER;
use super::calls::{Refusal, without_caller};
use super::channels::ChannelKey;
use super::mesh::{Call, RingMessage};
use super::{Now, Shard, SocketCommand};
use crate::builtin::{
    self, BuiltIn, BuiltInId, CallId, Change, Definition, Failure, HTTP_FUNCTIONS_WORKER, Home, Host, Mailbox,
    OutgoingCall, Post,
};
use crate::builtin::{Outcome as CallOutcome, SocketId, Token};
use crate::channel::{Amount, ChannelEvent, End, Leaving, Piece};
use crate::connection::worker::{InFlight, Pending, Worker};
use crate::connection::{Connection, Stage};
use crate::control::Report;
use crate::control::functions::EngineFunction;
use crate::control::triggers::Binding;
use crate::ids::{ConnectionId, ProviderId, ShardId};
use crate::registry::DEFAULT_NAMESPACE;
use crate::registry::routes::Route;
use crate::timers::Timer;
use crate::wire::encode::{Invoke, Outcome, Payload};
use crate::wire::{codes, trace};
use std::any::Any;
use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use uuid::Uuid;

/// Rounds of handing out inboxes in one turn; what is left then waits for the next, after the sockets.
const ROUNDS_MAX: usize = 32;
/// Bits of a channel holder's number that are the instance's; the others say which worker it is.
const HOLDER_BITS: u32 = 48;
/// Bits of a call's id that carry its token; the others say that it is a UUID.
const TOKEN_BITS: u64 = (1 << 62) - 1;

/// What waits for an instance.
enum Event {
    Call(builtin::Call),
    Answer(Token, CallOutcome),
    TriggerAdded(Arc<Binding>),
    TriggerRemoved(Arc<Binding>),
    Message(Box<dyn Any + Send>),
    Channel(u64, ChannelEvent),
    Timer,
    Stop,
}

/// One instance.
pub(super) struct Instance {
    definition: Arc<Definition>,
    /// `None` while it runs, and once it has been removed.
    worker: Option<Box<dyn BuiltIn>>,
    /// It is being run.
    runs: bool,
    /// Calls in flight and pending.
    pub(super) connection: Box<Connection>,
    inbox: VecDeque<Event>,
    wake_at: Option<u64>,
    tokens: u64,
    /// Upper half of the ids of its calls.
    call_prefix: u64,
}

impl Instance {
    /// It has been removed.
    fn is_gone(&self) -> bool {
        self.worker.is_none() && !self.runs
    }
}

/// Who runs calls of a function without asking an owner.
#[derive(Debug, Clone, Copy)]
pub struct BuiltInRoute {
    /// Which worker.
    pub worker: BuiltInId,
    /// Which of its functions.
    pub function: u32,
    /// Which instance.
    pub home: Home,
}

impl Shard {
    /// Starts the instances of this shard; `post` reaches them from other threads. Called once, before anything
    /// else is handled.
    pub fn start_built_ins(&mut self, definitions: &[Arc<Definition>], post: &Arc<dyn Post>) {
        self.post = Some(post.clone());
        for (index, definition) in definitions.iter().enumerate() {
            self.add_built_in(BuiltInId(index as u16), definition);
        }
        for index in 0..definitions.len() {
            self.run_instance(BuiltInId(index as u16), |worker, host| worker.start(host));
        }
    }

    fn add_built_in(&mut self, id: BuiltInId, definition: &Arc<Definition>) {
        let connection_id = ConnectionId::built_in(self.id, id);
        let mut worker = Worker::new(self.new_uuid(), Uuid::nil());
        worker.namespace = Some(self.default_namespace.clone());
        worker.message_bytes_max = usize::MAX;
        let mut connection =
            Box::new(Connection::new(connection_id, u16::MAX, (Ipv4Addr::UNSPECIFIED, 0).into(), self.now.ms));
        connection.stage = Stage::Worker(Box::new(worker));
        let call_prefix = self.new_uuid().as_u64_pair().0;
        self.built_ins.push(Instance {
            definition: definition.clone(),
            worker: None,
            runs: false,
            connection,
            inbox: VecDeque::new(),
            wake_at: None,
            tokens: 0,
            call_prefix,
        });
        self.set_up(id);
    }

    /// Makes an instance of a worker's definition and leads calls of its functions there.
    fn set_up(&mut self, id: BuiltInId) {
        let definition = self.built_ins[usize::from(id.0)].definition.clone();
        if definition.name == HTTP_FUNCTIONS_WORKER {
            self.http_functions = Some(id);
        }
        for (function, what) in definition.functions.iter().enumerate() {
            let hash = self.hasher.hash(&what.id);
            let route = self.routes.entry(hash, DEFAULT_NAMESPACE, &what.id).clone();
            route.set_built_in(Some(BuiltInRoute { worker: id, function: function as u32, home: what.home }));
        }
        let instance = (definition.factory)(&mut Seat { shard: self, worker: id });
        self.built_ins[usize::from(id.0)].worker = Some(instance);
    }

    /// The configuration has changed.
    pub(super) fn apply_change(&mut self, change: &Change) {
        self.settings = change.settings.clone();
        for (id, definition) in &change.built_ins {
            match definition {
                Some(definition) if usize::from(id.0) < self.built_ins.len() => self.replace_built_in(*id, definition),
                Some(definition) => {
                    self.add_built_in(*id, definition);
                    self.run_instance(*id, |worker, host| worker.start(host));
                }
                None => {
                    self.retire(*id);
                }
            }
        }
        for index in 0..self.connections.len() {
            let connection = self.connections[index].connection.as_ref();
            let ended = connection.filter(|connection| change.ended_listeners.contains(&connection.listener));
            if let Some(id) = ended.map(|connection| connection.id) {
                self.end_for_change(id);
            }
        }
        self.report(Report::Changed);
    }

    fn replace_built_in(&mut self, id: BuiltInId, definition: &Arc<Definition>) {
        let legacy = self.retire(id);
        self.built_ins[usize::from(id.0)].definition = definition.clone();
        self.set_up(id);
        self.run_instance(id, |worker, host| {
            if let Some(legacy) = legacy {
                worker.take_over(legacy, host);
            }
            worker.start(host);
        });
    }

    /// Ends an instance: its calls, its functions, and its sockets unless it hands them over.
    fn retire(&mut self, id: BuiltInId) -> Option<Box<dyn Any>> {
        let legacy = self.run_instance(id, |worker, host| worker.hand_over(host)).flatten();
        let instance = self.built_ins.get_mut(usize::from(id.0))?;
        instance.worker = None;
        match &legacy {
            // What was on its way to the old one is for the new one, which will hear of all triggers.
            Some(_) => instance
                .inbox
                .retain(|event| matches!(event, Event::Answer(..) | Event::Message(_) | Event::Channel(..))),
            None => instance.inbox.clear(),
        }
        instance.wake_at = None;
        let waits = !instance.inbox.is_empty();
        if self.http_functions == Some(id) {
            self.http_functions = None;
        }
        self.built_ins_ready.retain(|ready| *ready != id);
        if waits {
            self.built_ins_ready.push(id);
        }
        let definition = self.built_ins[usize::from(id.0)].definition.clone();
        let connection = &mut self.built_ins[usize::from(id.0)].connection;
        let connection_id = connection.id;
        let (mut in_flight, mut pending) = (Vec::new(), Vec::new());
        if let Some(worker) = connection.worker_mut() {
            in_flight.extend(worker.in_flight.drain().map(|(_, call)| call));
            if legacy.is_none() {
                pending.extend(worker.pending.keys().copied());
            }
        }
        let stopped = Outcome::Error {
            code: codes::INVOCATION_STOPPED,
            message: codes::INVOCATION_STOPPED_MESSAGE,
            stacktrace: None,
        };
        for call in in_flight {
            self.send_outcome(call.caller, call.invocation_id, &stopped);
        }
        for invocation_id in pending {
            self.untrack(connection_id, invocation_id);
        }
        for function in &definition.functions {
            let hash = self.hasher.hash(&function.id);
            if let Some(route) = self.routes.find(hash, DEFAULT_NAMESPACE, &function.id) {
                route.set_built_in(None);
            }
            self.routes.remove(hash, DEFAULT_NAMESPACE, &function.id);
        }
        if legacy.is_none() {
            for index in 0..self.connections.len() {
                let connection = self.connections[index].connection.as_ref();
                let own = connection
                    .filter(|connection| matches!(connection.stage, Stage::BuiltIn { worker, .. } if worker == id));
                if let Some(id) = own.map(|connection| connection.id) {
                    self.close_socket(id);
                }
            }
        }
        legacy
    }

    /// Name of the built-in worker that has a function nobody else may take.
    pub(super) fn built_in_owner(&self, namespace: &str, function_id: &str) -> Option<String> {
        let route = self.routes.find(self.hasher.hash(function_id), namespace, function_id)?;
        let built_in = route.built_in()?;
        let owner = self.built_ins.get(usize::from(built_in.worker.0))?;
        let yields = owner.definition.functions.get(built_in.function as usize).is_some_and(|function| function.yields);
        (!yields).then(|| owner.definition.name.to_string())
    }

    /// The connection of an instance.
    #[cold]
    pub(super) fn built_in_connection(&self, id: ConnectionId) -> Option<&Connection> {
        let worker = id.as_built_in().filter(|_| id.shard == self.id)?;
        if worker == GATEKEEPER {
            return Some(&self.gatekeeper.connection);
        }
        self.built_ins.get(usize::from(worker.0)).map(|instance| &*instance.connection)
    }

    /// The connection of an instance.
    #[cold]
    pub(super) fn built_in_connection_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        let worker = id.as_built_in().filter(|_| id.shard == self.id)?;
        if worker == GATEKEEPER {
            return Some(&mut self.gatekeeper.connection);
        }
        self.built_ins.get_mut(usize::from(worker.0)).map(|instance| &mut *instance.connection)
    }

    // === running ===

    /// Hands out what waits for instances, until nothing does or the turn has lasted long enough.
    pub fn run_built_ins(&mut self) {
        for _ in 0..ROUNDS_MAX {
            if self.built_ins_ready.is_empty() {
                return;
            }
            for id in std::mem::take(&mut self.built_ins_ready) {
                let inbox = std::mem::take(&mut self.built_ins[usize::from(id.0)].inbox);
                self.run_instance(id, |worker, host| {
                    for event in inbox {
                        hand_over(worker, event, host);
                    }
                });
            }
        }
    }

    /// Whether something waits for an instance, so that the next turn must not wait.
    pub fn built_ins_wait(&self) -> bool {
        !self.built_ins_ready.is_empty()
    }

    fn run_instance<R>(&mut self, id: BuiltInId, run: impl FnOnce(&mut dyn BuiltIn, &mut Seat<'_>) -> R) -> Option<R> {
        let instance = self.built_ins.get_mut(usize::from(id.0))?;
        let mut worker = instance.worker.take()?;
        instance.runs = true;
        let outcome = run(&mut *worker, &mut Seat { shard: self, worker: id });
        let instance = &mut self.built_ins[usize::from(id.0)];
        instance.worker = Some(worker);
        instance.runs = false;
        Some(outcome)
    }

    fn tell(&mut self, id: BuiltInId, event: Event) {
        let Some(instance) = self.built_ins.get_mut(usize::from(id.0)) else { return };
        if instance.is_gone() {
            return;
        }
        if instance.inbox.is_empty() {
            self.built_ins_ready.push(id);
        }
        instance.inbox.push_back(event);
    }

    /// When the first instance wants to be woken.
    pub(super) fn built_in_deadline_ms(&self) -> Option<u64> {
        self.built_ins.iter().filter_map(|instance| instance.wake_at).min()
    }

    pub(super) fn wake_built_ins(&mut self) {
        for index in 0..self.built_ins.len() {
            let instance = &mut self.built_ins[index];
            if instance.wake_at.is_some_and(|at| at <= self.now.ms) {
                instance.wake_at = None;
                self.tell(BuiltInId(index as u16), Event::Timer);
            }
        }
    }

    /// A message of another thread or of another shard's instance.
    pub fn handle_posted(&mut self, worker: BuiltInId, message: Box<dyn Any + Send>) {
        self.tell(worker, Event::Message(message));
    }

    pub(super) fn handle_trigger(&mut self, worker: BuiltInId, trigger: Arc<Binding>, added: bool) {
        self.tell(worker, if added { Event::TriggerAdded(trigger) } else { Event::TriggerRemoved(trigger) });
    }

    /// Something has happened to a channel end. Returns it if it is no built-in worker's.
    pub(super) fn tell_channel_holder(&mut self, holder: u64, event: ChannelEvent) -> Option<ChannelEvent> {
        let worker = BuiltInId((holder >> HOLDER_BITS) as u16);
        if self.built_ins.get(usize::from(worker.0)).is_none() {
            return Some(event);
        }
        self.tell(worker, Event::Channel(holder & ((1 << HOLDER_BITS) - 1), event));
        None
    }

    /// The engine stops: what instances wait for ends, then they are asked to finish.
    pub(super) fn stop_built_ins(&mut self, stopped: &Outcome<'_>) {
        for index in 0..self.built_ins.len() {
            let id = self.built_ins[index].connection.id;
            let pending: Vec<Uuid> = match self.built_ins[index].connection.worker() {
                Some(worker) => worker.pending.keys().copied().collect(),
                None => Vec::new(),
            };
            for invocation_id in pending {
                self.finish(id, invocation_id, stopped);
            }
        }
        self.run_built_ins();
        for index in 0..self.built_ins.len() {
            self.tell(BuiltInId(index as u16), Event::Stop);
        }
        self.run_built_ins();
    }

    // === calls of their functions ===

    /// Sends a call to the instance that is to run it. Returns who that is.
    pub(super) fn dispatch_built_in(&mut self, to: BuiltInRoute, call: &Call<'_>) -> Result<ConnectionId, Refusal> {
        let shard = match to.home {
            Home::Caller => self.id,
            Home::First => ShardId(0),
            Home::Key(key) => ShardId((key(call.invoke.data.json) % self.settings.shards as u64) as u16),
        };
        let connection = ConnectionId::built_in(shard, to.worker);
        let provider = ProviderId { connection, registration: to.function };
        if shard == self.id {
            self.deliver_built_in(provider, call);
        } else {
            if !self.admits(shard) {
                self.counters.overloaded += 1;
                return Err(Refusal::new(codes::WORKER_OVERLOADED, "the engine's queue to that worker is full"));
            }
            let batch = &mut self.mesh[shard.index()];
            let message = batch.invoke(provider, call);
            batch.messages.push(RingMessage::Invoke(message));
        }
        Ok(connection)
    }

    /// Puts a call into an instance's inbox. Returns whether there is such an instance.
    pub(super) fn deliver_built_in(&mut self, provider: ProviderId, call: &Call<'_>) -> bool {
        self.deliver_to_instance(provider, call, None)
    }

    fn deliver_to_instance(&mut self, provider: ProviderId, call: &Call<'_>, endpoint: Option<Rc<[u8]>>) -> bool {
        let Some(id) = provider.connection.as_built_in() else { return false };
        let invoke = &call.invoke;
        // Its inbox is not read while it runs, but it is there.
        if self.built_ins.get(usize::from(id.0)).is_none_or(Instance::is_gone) {
            return false;
        }
        let mut key = invoke.invocation_id;
        if let Some(invocation_id) = invoke.invocation_id {
            let fresh = self.new_uuid();
            let Some(worker) = self.built_in_connection_mut(provider.connection).and_then(Connection::worker_mut)
            else {
                return false;
            };
            // Another caller may be using the same id (PROTO-64).
            let own = if worker.in_flight.contains_key(&invocation_id) { fresh } else { invocation_id };
            worker.in_flight.insert(own, InFlight { caller: call.caller, invocation_id });
            key = Some(own);
        }
        let mut data = Vec::with_capacity(invoke.bytes_max());
        invoke.data.write(&mut data);
        let function_id =
            match self.routes.find(self.hasher.hash(invoke.function_id), call.namespace, invoke.function_id) {
                Some(route) => route.id.clone(),
                None => invoke.function_id.into(),
            };
        let call = builtin::Call {
            id: CallId { worker: id, key },
            function: provider.registration as usize,
            function_id,
            data,
            metadata: invoke.metadata.map(<[u8]>::to_vec),
            traceparent: invoke.traceparent.map(str::to_owned),
            baggage: invoke.baggage.map(str::to_owned),
            endpoint,
        };
        self.tell(id, Event::Call(call));
        true
    }

    /// Has a call run by an HTTP endpoint instead of the worker that registered it. Returns whether somebody can.
    pub(super) fn deliver_to_endpoint(&mut self, call: &Call<'_>, endpoint: Rc<[u8]>) -> bool {
        let Some(worker) = self.http_functions else { return false };
        let connection = ConnectionId::built_in(self.id, worker);
        // The endpoint is outside: who called is not its business. A call from another shard has it in its payload.
        let json = without_caller(call.invoke.data.json);
        let data = Payload { json: &json, caller: None };
        let call = Call { invoke: Invoke { data, ..call.invoke }, ..*call };
        self.deliver_to_instance(ProviderId { connection, registration: 0 }, &call, Some(endpoint))
    }

    /// A call that an instance made has ended.
    #[cold]
    pub(super) fn finish_built_in(&mut self, caller: ConnectionId, invocation_id: Uuid, outcome: &Outcome<'_>) {
        let Some(id) = caller.as_built_in() else { return };
        if id == GATEKEEPER {
            return self.handle_judgement(invocation_id, outcome);
        }
        let token = Token(invocation_id.as_u64_pair().1 & TOKEN_BITS);
        let outcome = match outcome {
            Outcome::Result(result) => Ok(result.unwrap_or_default().to_vec()),
            Outcome::Error { code, message, stacktrace } => Err(Failure {
                code: (*code).to_owned().into(),
                message: (*message).to_owned(),
                stacktrace: stacktrace.map(|text| String::from_utf8_lossy(text).into_owned()),
            }),
        };
        self.tell(id, Event::Answer(token, outcome));
    }

    // === calls they make ===

    fn call_from(&mut self, id: BuiltInId, call: &OutgoingCall<'_>, tracked: bool) -> Token {
        let caller = ConnectionId::built_in(self.id, id);
        let instance = &mut self.built_ins[usize::from(id.0)];
        instance.tokens += 1;
        let token = Token(instance.tokens);
        let bits = uuid::Builder::from_random_bytes(Uuid::from_u64_pair(instance.call_prefix, token.0).into_bytes());
        let invocation_id = tracked.then(|| bits.into_uuid());
        let baggage = (call.traceparent.is_some() || call.baggage.is_some())
            .then(|| trace::baggage_for(call.function_id, call.baggage.unwrap_or("")));
        let wire = Call {
            caller,
            retried: false,
            prefer: call.prefer,
            namespace: call.namespace,
            invoke: Invoke {
                invocation_id,
                function_id: call.function_id,
                data: Payload { json: call.data, caller: None },
                metadata: call.metadata,
                traceparent: call.traceparent.filter(|value| trace::is_traceparent(value)),
                baggage: baggage.as_deref(),
            },
        };
        let outcome = self.start_call(&wire, call.timeout_ms);
        if let (Err(refusal), Some(invocation_id)) = (outcome, invocation_id) {
            self.untrack(caller, invocation_id);
            let outcome = Outcome::Error { code: refusal.code, message: &refusal.message, stacktrace: None };
            self.finish_built_in(caller, invocation_id, &outcome);
        }
        token
    }

    pub(super) fn start_call(&mut self, call: &Call<'_>, timeout_ms: Option<u64>) -> Result<(), Refusal> {
        let function_id = call.invoke.function_id;
        if call.namespace == DEFAULT_NAMESPACE
            && function_id.starts_with("engine::")
            && let Some(function) = EngineFunction::of_id(function_id)
        {
            return self.call_engine_from_built_in(function, call);
        }
        let route: Rc<Route> = self.route(call.namespace, function_id)?;
        if let Some(invocation_id) = call.invoke.invocation_id {
            self.track(
                call.caller,
                invocation_id,
                Pending { route: route.clone(), provider: None, retried: false, echo: None },
            );
            if let Some(timeout_ms) = timeout_ms {
                self.timers.add(self.now.ms + timeout_ms, false, Timer::Call(call.caller, invocation_id));
            }
        }
        self.dispatch(&route, call)
    }

    // === their sockets ===

    /// Which worker a listener belongs to, and the number the worker knows it by.
    pub(super) fn listener_owner(&self, listener: u16) -> Option<(BuiltInId, usize)> {
        self.settings.listeners.get(usize::from(listener))?.built_in
    }

    /// A socket was accepted on a listener of a built-in worker.
    pub(super) fn open_built_in_socket(&mut self, id: ConnectionId, worker: BuiltInId, listener: usize) {
        let Some(connection) = self.connection_mut(id) else { return };
        connection.stage = Stage::BuiltIn { worker, ended: false };
        let peer = connection.peer.ip();
        self.check_stalled(id);
        self.run_instance(worker, |instance, host| instance.socket_opened(id, listener, peer, host));
    }

    #[inline]
    pub(super) fn built_in_socket_bytes(&mut self, id: ConnectionId, worker: BuiltInId, bytes: &mut [u8]) {
        self.run_instance(worker, |instance, host| instance.socket_bytes(id, bytes, host));
    }

    #[inline]
    pub(super) fn built_in_socket_flushed(&mut self, id: ConnectionId, worker: BuiltInId) {
        self.run_instance(worker, |instance, host| instance.socket_flushed(id, host));
    }

    /// The peer has ended its side. Returns whether the instance is left to decide what becomes of the socket.
    pub(super) fn built_in_socket_ended(&mut self, id: ConnectionId) -> bool {
        let Some(connection) = self.connection_mut(id) else { return false };
        let Stage::BuiltIn { worker, ended } = &mut connection.stage else { return false };
        let worker = *worker;
        if std::mem::replace(ended, true) {
            return false;
        }
        self.run_instance(worker, |instance, host| instance.socket_ended(id, host));
        true
    }

    pub(super) fn built_in_socket_closed(&mut self, id: ConnectionId, listener: u16) {
        if let Some((worker, _)) = self.listener_owner(listener) {
            self.run_instance(worker, |instance, host| instance.socket_closed(id, host));
        }
    }
}

fn hand_over(worker: &mut dyn BuiltIn, event: Event, host: &mut dyn Host) {
    match event {
        Event::Call(call) => worker.call(call, host),
        Event::Answer(token, outcome) => worker.answer(token, outcome, host),
        Event::TriggerAdded(trigger) => worker.trigger_added(trigger, host),
        Event::TriggerRemoved(trigger) => worker.trigger_removed(&trigger, host),
        Event::Message(message) => worker.message(message, host),
        Event::Channel(holder, event) => worker.channel_event(holder, event, host),
        Event::Timer => worker.timer(host),
        Event::Stop => worker.stop(host),
    }
}

/// An instance's place on its shard.
struct Seat<'a> {
    shard: &'a mut Shard,
    worker: BuiltInId,
}

impl Seat<'_> {
    fn holder(&self, number: u64) -> u64 {
        debug_assert!(number < 1 << HOLDER_BITS);
        u64::from(self.worker.0) << HOLDER_BITS | number
    }
}

impl Host for Seat<'_> {
    fn now(&self) -> Now {
        self.shard.now
    }

    fn shard(&self) -> ShardId {
        self.shard.id
    }

    fn shards(&self) -> usize {
        self.shard.settings.shards
    }

    fn new_uuid(&mut self) -> Uuid {
        self.shard.new_uuid()
    }

    fn mailbox(&self) -> Mailbox {
        let post = self.shard.post.clone().expect("built-in workers are started with a post");
        Mailbox::new(post, self.shard.id, self.worker)
    }

    fn answer(&mut self, call: CallId, outcome: Result<&[u8], &Failure>) {
        let Some(key) = call.key else { return };
        let id = ConnectionId::built_in(self.shard.id, call.worker);
        let outcome = match outcome {
            Ok(result) => Outcome::Result(Some(result).filter(|result| !result.is_empty())),
            Err(failure) => Outcome::Error {
                code: &failure.code,
                message: &failure.message,
                stacktrace: failure.stacktrace.as_ref().map(|text| text.as_bytes()),
            },
        };
        self.shard.finish_in_flight(id, key, &outcome);
    }

    fn call(&mut self, call: &OutgoingCall<'_>) -> Token {
        self.shard.call_from(self.worker, call, true)
    }

    fn call_void(&mut self, call: &OutgoingCall<'_>) {
        self.shard.call_from(self.worker, call, false);
    }

    fn forget(&mut self, token: Token) {
        let instance = &self.shard.built_ins[usize::from(self.worker.0)];
        let bits = uuid::Builder::from_random_bytes(Uuid::from_u64_pair(instance.call_prefix, token.0).into_bytes());
        let id = instance.connection.id;
        self.shard.untrack(id, bits.into_uuid());
    }

    fn post(&mut self, shard: ShardId, message: Box<dyn Any + Send>) {
        if shard == self.shard.id {
            self.shard.handle_posted(self.worker, message);
        } else {
            let message = RingMessage::Posted(self.worker, message);
            self.shard.mesh[shard.index()].messages.push(message);
        }
    }

    fn wake_at(&mut self, ms: Option<u64>) {
        self.shard.built_ins[usize::from(self.worker.0)].wake_at = ms;
    }

    fn peer(&self, socket: SocketId) -> Option<SocketAddr> {
        self.shard.connection(socket).map(|connection| connection.peer)
    }

    fn write(&mut self, socket: SocketId, bytes: &[u8]) {
        self.shard.write(socket, |out| out.extend_from_slice(bytes));
    }

    fn unsent_bytes(&self, socket: SocketId) -> usize {
        self.shard.connection(socket).map_or(0, |connection| connection.outbox.bytes())
    }

    fn set_reading(&mut self, socket: SocketId, reading: bool) {
        if self.shard.connection(socket).is_some() {
            let command = if reading { SocketCommand::Resume } else { SocketCommand::Pause };
            self.shard.commands.push_back(command(socket.slot));
        }
    }

    fn close(&mut self, socket: SocketId) {
        self.shard.close_socket(socket);
    }

    fn abort(&mut self, socket: SocketId) {
        if self.shard.connection(socket).is_some() {
            self.shard.detach(socket);
            self.shard.commands.push_back(SocketCommand::Abort(socket.slot));
        }
    }

    fn create_channel(&mut self, end: End, holder: u64) -> ChannelKey {
        self.shard.create_channel_in_process(end, self.holder(holder))
    }

    fn write_channel(&mut self, channel: Uuid, holder: u64, piece: Piece) {
        self.shard.write_in_process(channel, self.holder(holder), piece);
    }

    fn take_from_channel(&mut self, channel: Uuid, holder: u64, amount: Amount) {
        self.shard.taken_in_process(channel, self.holder(holder), amount);
    }

    fn leave_channel(&mut self, channel: Uuid, end: End, holder: u64, leaving: Leaving) {
        self.shard.leave_in_process(channel, end, self.holder(holder), leaving);
    }

    fn discard_channel(&mut self, channel: Uuid) {
        self.shard.discard_channel(channel);
    }
}
