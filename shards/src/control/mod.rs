//! The control shard's state machine: the live picture of the whole engine, for discovery, triggers and reattach.
//!
//! Owner: the control thread. Data shards report what happens on them, in order; control answers questions about
//! it and sends commands back. Deliberately absent: anything an invocation between workers waits for.

pub mod announcement;
mod calls;
mod catalog;
mod discovery;
mod events;
pub mod functions;
mod reattach;
pub mod report;
mod requests;
pub mod schemas;
mod telemetry;
#[cfg(test)]
mod tests;
pub mod triggers;

use crate::builtin::{BuiltInId, Change, Definition};
use crate::connection::worker::Generation;
use crate::ids::{ConnectionId, ShardId};
use crate::limits::{FIRE_ATTEMPTS_MAX, FIRE_RETRY_MS, REATTACH_HANDOVER_MS};
use crate::registry::{DEFAULT_NAMESPACE, FunctionHasher};
use crate::settings::Settings;
use crate::shard::Now;
use crate::shard::mesh::{Batch, RingMessage};
use crate::wire::encode::Outcome;
use announcement::Announcement;
use calls::{Call, Query, Waiting};
use catalog::Catalog;
use events::Events;
use functions::EngineFunction;
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use reattach::{Lost, Reattaches};
pub use report::{Command, Firing, FunctionDetails, Report};
use requests::Service;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
pub use telemetry::TelemetrySink;
use triggers::provider::{BuiltInTriggerType, Instances};
use triggers::{Effect, Triggers};
use uuid::Uuid;

/// A connected worker as control knows it.
struct WorkerRecord {
    worker_id: Uuid,
    token: Uuid,
    peer: IpAddr,
    connected_unix_ms: u64,
    namespace: Arc<str>,
    /// `None` until it announced itself; such connections are not listed (ENG-39).
    announcement: Option<Box<Announcement>>,
    /// Shapes it understands (ENG-6).
    generation: Generation,
    /// Its functions, and the namespace each is in.
    functions: BTreeMap<Arc<str>, Arc<str>>,
}

/// The control shard.
pub struct Control {
    settings: Arc<Settings>,
    hasher: FunctionHasher,
    now: Now,
    rng: StdRng,
    workers: BTreeMap<ConnectionId, WorkerRecord>,
    by_worker_id: HashMap<Uuid, ConnectionId>,
    lost: HashMap<Uuid, Lost>,
    reattaches: Reattaches,
    catalog: Catalog,
    triggers: Triggers,
    events: Events,
    services: BTreeMap<(Arc<str>, Box<str>), Service>,
    built_ins: Vec<Arc<Definition>>,
    /// Shards that have not applied the last change, and whether the last of them has since it was asked for.
    unchanged: usize,
    changed: bool,
    queries: HashMap<u64, Query>,
    query_count: u64,
    /// Calls that wait for a provider's answer to a trigger, by trigger.
    waiting: HashMap<Arc<str>, Waiting>,
    /// Functions whose owner shard did not know them yet, and when to try again. All wait equally long.
    unfired: VecDeque<(u64, Box<Firing>)>,
    started_unix_ms: u64,
    telemetry: TelemetrySink,
    default_namespace: Arc<str>,
    mesh: Vec<Batch>,
}

impl Control {
    /// The control shard of an engine. `hasher` is the one all its shards have.
    pub fn new(settings: Arc<Settings>, hasher: FunctionHasher, seed: [u8; 32], now: Now) -> Self {
        let mesh = (0..settings.shards).map(|_| Batch::default()).collect();
        let mut control = Control {
            settings,
            hasher,
            now,
            rng: StdRng::from_seed(seed),
            started_unix_ms: now.unix_ms,
            workers: BTreeMap::new(),
            by_worker_id: HashMap::new(),
            lost: HashMap::new(),
            reattaches: Reattaches::default(),
            catalog: Catalog::default(),
            triggers: Triggers::default(),
            events: Events::default(),
            services: BTreeMap::new(),
            built_ins: Vec::new(),
            unchanged: 0,
            changed: false,
            queries: HashMap::new(),
            query_count: 0,
            telemetry: TelemetrySink::default(),
            waiting: HashMap::new(),
            unfired: VecDeque::new(),
            default_namespace: DEFAULT_NAMESPACE.into(),
            mesh,
        };
        for event in events::trigger_types() {
            control.provide_trigger_type(event);
        }
        control
    }

    /// A built-in worker starts to provide a trigger type; triggers that waited for it are registered at once.
    pub fn provide_trigger_type(&mut self, built_in: BuiltInTriggerType) {
        self.triggers.provide(built_in);
        self.apply_effects();
    }

    /// Makes the functions and trigger types of built-in workers known. Their number is their place in the list.
    pub fn add_built_ins(&mut self, definitions: &[Arc<Definition>]) {
        for definition in definitions {
            let worker = BuiltInId(self.built_ins.len() as u16);
            self.built_ins.push(definition.clone());
            self.provide_types_of(worker);
        }
    }

    fn provide_types_of(&mut self, worker: BuiltInId) {
        let definition = self.built_ins[usize::from(worker.0)].clone();
        for trigger_type in &definition.trigger_types {
            let check = trigger_type.check.clone();
            let removed = trigger_type.removed.clone();
            let provider = Box::new(Instances { worker, shards: self.settings.shards, check, removed });
            self.provide_trigger_type(BuiltInTriggerType { id: trigger_type.id.clone(), provider });
        }
    }

    /// The configuration has changed. Shards apply it in their own time; see [`Control::take_changed`].
    pub fn apply_change(&mut self, change: &Arc<Change>) {
        self.settings = change.settings.clone();
        for (id, _) in &change.built_ins {
            if let Some(definition) = self.built_ins.get(usize::from(id.0)).cloned() {
                for trigger_type in &definition.trigger_types {
                    self.triggers.withdraw_built_in(&trigger_type.id);
                }
            }
        }
        self.apply_effects();
        for shard in 0..self.settings.shards {
            self.command(ShardId(shard as u16), Command::Change(change.clone()));
        }
        self.unchanged = self.settings.shards;
        for (id, definition) in &change.built_ins {
            let known = usize::from(id.0) < self.built_ins.len();
            match definition {
                Some(definition) if known => {
                    self.built_ins[usize::from(id.0)] = definition.clone();
                    self.provide_types_of(*id);
                }
                Some(definition) => self.add_built_ins(std::slice::from_ref(definition)),
                None => {
                    if let Some(gone) = self.built_ins.get_mut(usize::from(id.0)) {
                        *gone = Arc::new(Definition::removed());
                    }
                }
            }
        }
    }

    /// Whether every shard has applied the last change since this was last asked.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    fn handle_changed(&mut self) {
        self.unchanged = self.unchanged.saturating_sub(1);
        self.changed |= self.unchanged == 0;
    }

    /// Sets the time for what is handled next.
    pub fn set_time(&mut self, now: Now) {
        self.now = now;
    }

    /// What is to be said to a shard.
    pub fn outgoing(&mut self, peer: ShardId) -> &mut Batch {
        &mut self.mesh[peer.index()]
    }

    /// Connected workers.
    pub fn worker_count(&self) -> usize {
        self.workers.len()
    }

    /// What has become of the workers' telemetry.
    pub fn telemetry(&self) -> &TelemetrySink {
        &self.telemetry
    }

    /// Lets go of memory that served workers which have left.
    pub fn shrink(&mut self) {
        let now_ms = self.now.ms;
        self.lost.retain(|_, lost| lost.until_ms > now_ms);
        self.lost.shrink_to_fit();
        self.by_worker_id.shrink_to_fit();
    }

    /// When `handle_timers` wants to be called, on the clock of [`Now::ms`]. `None` = not before the next report.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        let waiting = self.waiting.values().map(|waiting| waiting.until_ms).min();
        let unfired = self.unfired.front().map(|(due_ms, _)| *due_ms);
        [self.events.next_deadline_ms(), waiting, unfired].into_iter().flatten().min()
    }

    /// Runs what is due.
    pub fn handle_timers(&mut self) {
        self.handle_event_timer();
        self.handle_silent_providers();
        while self.unfired.front().is_some_and(|(due_ms, _)| *due_ms <= self.now.ms) {
            if let Some((_, firing)) = self.unfired.pop_front() {
                self.send_firing(firing);
            }
        }
    }

    /// Asks every shard to stop.
    pub fn stop(&mut self) {
        for peer in 0..self.settings.shards {
            self.command(ShardId(peer as u16), Command::Stop);
        }
    }

    /// Runs what a shard sent. The batch is emptied.
    pub fn handle_batch(&mut self, batch: &mut Batch) {
        for message in batch.messages.drain(..) {
            if let RingMessage::Report(report) = message {
                self.handle_report(*report);
            }
        }
        batch.clear();
    }

    fn command(&mut self, shard: ShardId, command: Command) {
        self.mesh[shard.index()].messages.push(RingMessage::Command(Box::new(command)));
    }

    fn send(&mut self, connection: ConnectionId, text: Vec<u8>) {
        self.command(connection.shard, Command::Send { connection, text: text.into() });
    }

    /// Ends a call, if its caller waits for that.
    fn answer(&mut self, call: &Call, outcome: &Outcome<'_>) {
        if let Some(invocation_id) = call.invocation_id.filter(|_| call.caller != ConnectionId::ENGINE) {
            self.mesh[call.caller.shard.index()].result(call.caller, invocation_id, outcome);
        }
    }

    fn apply_effects(&mut self) {
        for effect in self.triggers.take_effects() {
            match effect {
                Effect::Send(connection, text) => self.send(connection, text),
                Effect::Command(shard, command) => self.command(shard, command),
            }
        }
    }

    fn new_uuid(&mut self) -> Uuid {
        let mut bytes = [0; 16];
        self.rng.fill_bytes(&mut bytes);
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }

    fn handle_report(&mut self, report: Report) {
        match report {
            Report::Connected { connection, worker_id, token, peer, unix_ms } => {
                self.by_worker_id.insert(worker_id, connection);
                let namespace = self.default_namespace.clone();
                let record = WorkerRecord {
                    worker_id,
                    token,
                    peer,
                    connected_unix_ms: unix_ms,
                    namespace,
                    announcement: None,
                    generation: Generation::Unknown,
                    functions: BTreeMap::new(),
                };
                self.workers.insert(connection, record);
                tracing::info!("Worker {worker_id} connected");
                self.fire_worker_event("worker_connected", worker_id, None);
            }
            Report::Announced { connection, namespace, exclusive, announcement } => {
                self.handle_announced(connection, namespace, exclusive, announcement);
            }
            Report::Settled { connection } => {
                let Some(worker) = self.workers.get(&connection) else { return };
                let (worker_id, known) = (worker.worker_id, worker.name_and_namespace());
                if known.is_some() {
                    self.fire_worker_event("worker_metadata_updated", worker_id, known);
                }
            }
            Report::Registered { connection, namespace, id, details } => {
                self.handle_registered(connection, &namespace, &id, details);
            }
            Report::Unregistered { connection, id, .. } => {
                let Some(worker) = self.workers.get_mut(&connection) else { return };
                if let Some((id, namespace)) = worker.functions.remove_entry(&*id) {
                    tracing::info!("[UNREGISTERED] Function {id}");
                    self.change_catalog(|catalog| drop(catalog.remove(connection, &namespace, &id)));
                }
            }
            Report::Gone { connection } => self.handle_gone(connection),
            Report::Reattach { connection, previous, token } => self.handle_reattach(connection, previous, token),
            Report::Echoed => self.handle_echo(),
            Report::Evicted { successor } => self.command(successor.shard, Command::OpenGate { connection: successor }),
            Report::Call { caller, invocation_id, function, generation, data, baggage, session } => {
                self.handle_call(Call { caller, invocation_id, function, generation, data, baggage, session });
            }
            Report::Permission { connection, namespace, id, text } => {
                let metadata = self.catalog.get(&namespace, &id).and_then(|found| found.details.metadata.clone());
                self.command(connection.shard, Command::Metadata { connection, text, metadata });
            }
            Report::Load { query, load } => self.handle_load(query, load),
            Report::Telemetry { connection, signal, body } => self.telemetry.accept(connection, signal, &body),
            Report::Changed => self.handle_changed(),
            Report::Unfired(firing) => self.handle_unfired(firing),
            Report::Message { connection, kind, text } => self.handle_message(connection, kind, &text),
        }
    }

    fn handle_registered(
        &mut self,
        connection: ConnectionId,
        namespace: &str,
        id: &str,
        details: Option<Box<FunctionDetails>>,
    ) {
        let Some(worker) = self.workers.get_mut(&connection) else { return };
        if *worker.namespace != *namespace {
            worker.namespace = namespace.into();
        }
        let namespace = worker.namespace.clone();
        let id: Arc<str> = id.into();
        tracing::info!("[REGISTERED] Function {id}");
        let before = worker.functions.insert(id.clone(), namespace.clone());
        self.change_catalog(|catalog| {
            // Without details the function has moved here from another namespace and keeps what is known of it.
            let moved = before.filter(|before| *before != namespace);
            let known = moved.and_then(|before| catalog.remove(connection, &before, &id));
            catalog.add(connection, &namespace, &id, details.or(known));
        });
    }

    /// Changes the set of functions and lets those who watch it know.
    fn change_catalog(&mut self, change: impl FnOnce(&mut Catalog)) {
        let before = self.catalog.fingerprint();
        change(&mut self.catalog);
        if self.catalog.fingerprint() != before {
            self.events.functions_changed(self.now.ms, before);
        }
    }

    fn handle_announced(
        &mut self,
        connection: ConnectionId,
        namespace: Box<str>,
        exclusive: bool,
        mut announcement: Box<Announcement>,
    ) {
        if exclusive {
            let holder = announcement.name.as_deref().and_then(|name| {
                self.workers.iter().find(|(other, worker)| {
                    **other != connection && *worker.namespace == *namespace && worker.name() == Some(name)
                })
            });
            if let Some((_, holder)) = holder {
                let owner = holder.worker_id.to_string().into();
                let name = announcement.name.clone().unwrap_or_default().into();
                return self.command(connection.shard, Command::RejectName { connection, namespace, name, owner });
            }
        }
        if let Some(worker) = self.workers.get_mut(&connection) {
            if let Some(previous) = worker.announcement.take() {
                announcement.keep_from(*previous);
            }
            worker.generation = Generation::of_version(announcement.version.as_deref());
            worker.announcement = Some(announcement);
            let namespace: Arc<str> = (*namespace).into();
            worker.namespace = namespace.clone();
            self.triggers.move_connection(connection, &namespace);
            self.apply_effects();
        }
        if exclusive {
            self.command(connection.shard, Command::OpenGate { connection });
        }
    }

    // === firing ===

    /// Runs a function because something happened. Goes through the shard that owns it, like any other call.
    fn fire(&mut self, firing: Firing) {
        if firing.namespace.as_ref() == DEFAULT_NAMESPACE
            && let Some(function) = EngineFunction::of_id(&firing.function_id)
        {
            return self.handle_call(Call {
                caller: ConnectionId::ENGINE,
                invocation_id: None,
                function,
                generation: Generation::Unknown,
                data: firing.data,
                baggage: None,
                session: None,
            });
        }
        self.send_firing(Box::new(firing));
    }

    fn send_firing(&mut self, firing: Box<Firing>) {
        let owner = self.hasher.owner(self.hasher.hash(&firing.function_id));
        self.command(owner, Command::Fire(firing));
    }

    /// The owner does not know the function. If we do, its registration is still on its way there.
    fn handle_unfired(&mut self, mut firing: Box<Firing>) {
        firing.attempts += 1;
        let known = self.catalog.get(&firing.namespace, &firing.function_id).is_some();
        if known && firing.attempts < FIRE_ATTEMPTS_MAX {
            self.unfired.push_back((self.now.ms + FIRE_RETRY_MS, firing));
        } else {
            let Firing { namespace, function_id, .. } = &*firing;
            tracing::debug!("event not delivered: Function {function_id} not found in namespace {namespace}");
        }
    }

    // === workers come and go ===

    fn handle_gone(&mut self, connection: ConnectionId) {
        let Some(worker) = self.workers.remove(&connection) else { return };
        for (id, namespace) in &worker.functions {
            tracing::info!("[UNREGISTERED] Function {id}");
            self.change_catalog(|catalog| drop(catalog.remove(connection, namespace, id)));
        }
        self.triggers.remove_connection(connection);
        self.apply_effects();
        tracing::info!("Worker {} disconnected", worker.worker_id);
        self.fire_worker_event("worker_disconnected", worker.worker_id, worker.name_and_namespace());
        self.by_worker_id.remove(&worker.worker_id);
        let now_ms = self.now.ms;
        if self.lost.len() >= 1024 {
            self.lost.retain(|_, lost| lost.until_ms > now_ms);
        }
        let until_ms = now_ms + REATTACH_HANDOVER_MS;
        self.lost.insert(worker.worker_id, Lost { connection, token: worker.token, until_ms });
    }
}

// === impl WorkerRecord ===

impl WorkerRecord {
    fn name(&self) -> Option<&str> {
        self.announcement.as_ref()?.name.as_deref()
    }

    /// What events tell of a worker that has announced itself.
    fn name_and_namespace(&self) -> Option<(Option<String>, Arc<str>)> {
        self.announcement.as_ref()?;
        Some((self.name().map(str::to_owned), self.namespace.clone()))
    }

    /// Whether two connections are of one process: a reconnect while the old socket still looks alive (PROTO-50b).
    fn is_process_of(&self, other: &WorkerRecord) -> bool {
        let identity = |worker: &WorkerRecord| {
            let said = worker.announcement.as_ref()?;
            Some((said.name.clone()?, said.pid?, worker.namespace.clone(), worker.peer))
        };
        identity(self).is_some() && identity(self) == identity(other)
    }
}
