//! A data shard: everything one core owns, as one state machine.
//!
//! Owner: one thread. Bytes, ring batches and time go in through `handle_*`; output, batches for peers and socket
//! commands come out through `poll_*` and `take_*`. No sockets, no clock, no randomness of its own, so the same
//! code runs under the simulator. Invariant: handling one input never waits for another shard.

mod access;
pub mod built_in;
mod calls;
pub mod channels;
mod enqueue;
mod input;
mod lifecycle;
pub mod mesh;
mod registration;
mod resolve;
mod telemetry;

use crate::builtin::{BuiltInId, Post};
use crate::connection::outbox::Spare;
use crate::connection::{Connection, Stage};
use crate::control::Report;
use crate::ids::{ConnectionId, ShardId};
use crate::limits::MESH_BYTES_MAX;
use crate::registry::FunctionHasher;
use crate::registry::owner::OwnerTable;
use crate::registry::routes::{Route, RouteTable};
use crate::settings::Settings;
use crate::timers::Timers;
use crate::wire::telemetry::PerSignal;
use access::Gatekeeper;
use built_in::Instance;
use channels::Channels;
use lifecycle::Ghost;
use mesh::{Batch, RingMessage};
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use uuid::Uuid;

/// What the runtime is asked to do with a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketCommand {
    /// Flush what is queued, tell the peer, then close. Ends with `handle_closed`.
    Close(u32),
    /// Close at once; nothing more is sent.
    Abort(u32),
    /// Stop reading.
    Pause(u32),
    /// Read again.
    Resume(u32),
}

/// Time, as the runtime read it at the start of a turn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds of a clock that never steps.
    pub ms: u64,
    /// Milliseconds since the Unix epoch.
    pub unix_ms: u64,
}

/// Counters of one shard; summed when scraped, never shared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Calls received from workers.
    pub invocations: u64,
    /// Results delivered to callers.
    pub results: u64,
    /// Frames that were no message.
    pub malformed: u64,
    /// Results nobody waits for: late, repeated, or of calls the sender does not hold.
    pub stray_results: u64,
    /// Calls refused because an outbox or a ring was full.
    pub overloaded: u64,
    /// Telemetry frames accepted.
    pub telemetry_frames: PerSignal,
    /// Of these, dropped because the sink was behind.
    pub telemetry_dropped: u64,
    /// Connections closed for breaking the protocol or a limit.
    pub violations: u64,
}

struct Slot {
    generation: u32,
    connection: Option<Box<Connection>>,
}

/// One data shard.
pub struct Shard {
    id: ShardId,
    settings: Arc<Settings>,
    hasher: FunctionHasher,
    now: Now,
    rng: StdRng,
    connections: Vec<Slot>,
    free: Vec<u32>,
    /// Generation of a slot that is added.
    first_generation: u32,
    routes: RouteTable,
    owned: OwnerTable,
    engine_routes: Vec<Rc<Route>>,
    default_namespace: Rc<str>,
    /// What is to be said to each peer; the last is the control shard.
    mesh: Vec<Batch>,
    ghosts: HashMap<ConnectionId, Ghost>,
    channels: Channels,
    gatekeeper: Gatekeeper,
    built_ins: Vec<Instance>,
    /// Those whose inbox is not empty.
    built_ins_ready: Vec<BuiltInId>,
    post: Option<Arc<dyn Post>>,
    /// Who runs functions that are HTTP endpoints.
    http_functions: Option<BuiltInId>,
    timers: Timers,
    dirty: Vec<u32>,
    commands: VecDeque<SocketCommand>,
    spare: Spare,
    counters: Counters,
    stopping: bool,
}

impl Shard {
    /// A shard of a mesh. All shards of one engine are given the same `hasher`.
    pub fn new(id: ShardId, settings: Arc<Settings>, hasher: FunctionHasher, seed: [u8; 32]) -> Self {
        let peers = settings.shards + 1;
        let engine_routes = crate::control::functions::EngineFunction::ALL
            .iter()
            .map(|function| Rc::new(Route::new(0, crate::registry::DEFAULT_NAMESPACE, function.id())))
            .collect();
        Shard {
            id,
            settings,
            hasher,
            now: Now::default(),
            rng: StdRng::from_seed(seed),
            connections: Vec::new(),
            free: Vec::new(),
            first_generation: 0,
            routes: RouteTable::default(),
            owned: OwnerTable::default(),
            engine_routes,
            default_namespace: crate::registry::DEFAULT_NAMESPACE.into(),
            mesh: (0..peers).map(|_| Batch::default()).collect(),
            ghosts: HashMap::new(),
            channels: Channels::default(),
            gatekeeper: Gatekeeper::new(id, crate::registry::DEFAULT_NAMESPACE.into()),
            built_ins: Vec::new(),
            built_ins_ready: Vec::new(),
            post: None,
            http_functions: None,
            timers: Timers::default(),
            dirty: Vec::new(),
            commands: VecDeque::new(),
            spare: Spare::default(),
            counters: Counters::default(),
            stopping: false,
        }
    }

    /// Sets the time for what is handled next. Never goes back.
    pub fn set_time(&mut self, now: Now) {
        self.now = now;
    }

    /// When `handle_timers` wants to be called, on the clock of [`Now::ms`].
    pub fn next_deadline_ms(&self) -> Option<u64> {
        [self.timers.next_ms(), self.built_in_deadline_ms()].into_iter().flatten().min()
    }

    /// Next socket to act on.
    pub fn poll_command(&mut self) -> Option<SocketCommand> {
        self.commands.pop_front()
    }

    /// Next slot with output that was not there at the last flush.
    pub fn poll_dirty(&mut self) -> Option<u32> {
        self.dirty.pop()
    }

    /// Bytes to send for a slot now; `None` while an earlier buffer is on its way or nothing is queued.
    pub fn take_output(&mut self, slot: u32) -> Option<Vec<u8>> {
        let connection = self.connections.get_mut(slot as usize)?.connection.as_mut()?;
        let output = connection.outbox.take()?;
        if let Stage::Channel(end) = &mut connection.stage {
            Self::note_output_taken(end);
        }
        Some(output)
    }

    /// The buffer of `take_output` has been sent (or its socket is dead). It is kept for reuse.
    pub fn handle_sent(&mut self, slot: u32, buffer: Vec<u8>) {
        self.spare.put(buffer);
        let now_ms = self.now.ms;
        if let Some(connection) = self.connections.get_mut(slot as usize).and_then(|slot| slot.connection.as_mut()) {
            connection.progress_ms = now_ms;
            if connection.outbox.sent() {
                self.dirty.push(slot);
            }
            let id = connection.id;
            match connection.stage {
                Stage::Channel(_) | Stage::Finishing => self.note_output_sent(id),
                Stage::BuiltIn { worker, .. } if connection.outbox.is_empty() => {
                    self.built_in_socket_flushed(id, worker);
                }
                _ => {}
            }
        }
    }

    /// Part of a buffer has been sent.
    pub fn handle_progress(&mut self, slot: u32) {
        let now_ms = self.now.ms;
        if let Some(connection) = self.connections.get_mut(slot as usize).and_then(|slot| slot.connection.as_mut()) {
            connection.progress_ms = now_ms;
        }
    }

    /// What is to be said to a peer. The runtime swaps it for an empty one when the ring has room.
    pub fn outgoing(&mut self, peer: ShardId) -> &mut Batch {
        &mut self.mesh[peer.index()]
    }

    /// Lets go of memory that served connections which have left.
    pub fn shrink(&mut self) {
        // Slots at the end go too; a slot that comes back begins at a generation nobody holds.
        while self.connections.last().is_some_and(|slot| slot.connection.is_none()) {
            if let Some(slot) = self.connections.pop() {
                self.first_generation = self.first_generation.max(slot.generation);
            }
        }
        let slots = self.connections.len() as u32;
        self.free.retain(|slot| *slot < slots);
        self.free.shrink_to_fit();
        self.connections.shrink_to_fit();
        self.dirty.shrink_to_fit();
        self.commands.shrink_to_fit();
        self.spare = Spare::default();
        self.routes.shrink();
        self.owned.shrink();
        self.channels.shrink();
    }

    /// Bytes of large buffers let go since this was last asked.
    pub fn take_freed_bytes(&mut self) -> usize {
        self.spare.take_freed_bytes()
    }

    /// Slots in the connection table, free ones included.
    pub fn slot_count(&self) -> usize {
        self.connections.len()
    }

    /// Whether control has asked the shard to stop.
    pub fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// Counters so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Connections in the table, closing ones included.
    pub fn connection_count(&self) -> usize {
        self.connections.len() - self.free.len()
    }

    /// Whether what a connection receives is looked at: not once it is closing. For tests.
    pub fn listens(&self, slot: u32) -> bool {
        let connection = self.connections.get(slot as usize).and_then(|slot| slot.connection.as_ref());
        connection.is_some_and(|connection| !matches!(connection.stage, Stage::Finishing | Stage::Closing))
    }

    /// Whether anything at all is left of past connections: calls, routes, functions, handovers. For tests.
    pub fn residue(&self) -> Residue {
        let sockets = self.connections.iter().filter_map(|slot| slot.connection.as_ref());
        let connections = || sockets.clone().chain(self.built_ins.iter().map(|instance| &instance.connection));
        let workers = || connections().filter_map(|connection| connection.worker());
        Residue {
            connections: self.connection_count(),
            in_flight: workers().map(|worker| worker.in_flight.len()).sum(),
            pending: workers().map(|worker| worker.pending.len()).sum(),
            routes: self.routes.iter().filter(|route| route.built_in().is_none()).count(),
            owned: self.owned.len(),
            ghosts: self.ghosts.len(),
            channels: self.channels.table.len(),
        }
    }

    // === what the parts share ===

    fn control(&self) -> ShardId {
        ShardId(self.settings.shards as u16)
    }

    fn report(&mut self, report: Report) {
        let control = self.control();
        self.mesh[control.index()].messages.push(RingMessage::Report(Box::new(report)));
    }

    #[inline]
    fn connection(&self, id: ConnectionId) -> Option<&Connection> {
        let Some(slot) = self.connections.get(id.slot as usize) else { return self.built_in_connection(id) };
        if slot.generation != id.generation || id.shard != self.id { None } else { slot.connection.as_deref() }
    }

    #[inline]
    fn connection_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        if id.slot as usize >= self.connections.len() {
            return self.built_in_connection_mut(id);
        }
        let slot = &mut self.connections[id.slot as usize];
        if slot.generation != id.generation || id.shard != self.id { None } else { slot.connection.as_deref_mut() }
    }

    /// Appends to a connection's outbox and lists it for the flush at the end of the turn.
    #[inline]
    fn write(&mut self, id: ConnectionId, body: impl FnOnce(&mut Vec<u8>)) {
        let Some(slot) = self.connections.get_mut(id.slot as usize) else { return };
        let Some(connection) = slot.connection.as_deref_mut().filter(|connection| connection.id == id) else { return };
        if matches!(connection.stage, Stage::Closing | Stage::Finishing) {
            return;
        }
        if connection.outbox.is_empty() {
            connection.progress_ms = self.now.ms;
        }
        let (out, newly_dirty) = connection.outbox.open(&mut self.spare);
        body(out);
        if newly_dirty {
            self.dirty.push(id.slot);
        }
        if connection.outbox.bytes() > self.settings.outbox_bytes_max / 4 * 5 {
            self.handle_overfull(id);
        }
    }

    /// Whether a request may still be queued for a peer.
    fn admits(&self, peer: ShardId) -> bool {
        self.mesh[peer.index()].bytes.len() < MESH_BYTES_MAX
    }

    fn new_uuid(&mut self) -> Uuid {
        let mut bytes = [0; 16];
        self.rng.fill_bytes(&mut bytes);
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }
}

/// What a shard still holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Residue {
    /// Slots in use.
    pub connections: usize,
    /// Calls sent to workers here.
    pub in_flight: usize,
    /// Calls made by workers here.
    pub pending: usize,
    /// Routes held.
    pub routes: usize,
    /// Functions owned.
    pub owned: usize,
    /// Lost connections whose calls wait for a reattach.
    pub ghosts: usize,
    /// Channels owned.
    pub channels: usize,
}
