//! The control shard's state machine: the live picture of the whole engine, for discovery and reattach.
//!
//! Owner: the control thread. Data shards report what happens on them, in order; control answers questions about
//! it and sends commands back. Deliberately absent: anything an invocation between workers waits for.

pub mod announcement;
mod discovery;
pub mod functions;
mod telemetry;

use crate::connection::worker::Generation;
use crate::ids::{ConnectionId, ShardId};
use crate::limits::REATTACH_HANDOVER_MS;
use crate::settings::Settings;
use crate::shard::Now;
use crate::shard::mesh::{Batch, RingMessage};
use crate::wire::encode::Outcome;
use crate::wire::envelope::Kind;
use crate::wire::telemetry::Signal;
use announcement::Announcement;
use functions::EngineFunction;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
pub use telemetry::TelemetrySink;
use uuid::Uuid;

/// What a data shard tells control. The order of one shard's reports is the order of what happened there.
pub enum Report {
    /// A worker's connection is open.
    Connected {
        /// Which connection.
        connection: ConnectionId,
        /// Id given to the worker.
        worker_id: Uuid,
        /// Its reattach token.
        token: Uuid,
        /// Address of its socket.
        peer: IpAddr,
        /// When, in milliseconds since the Unix epoch.
        unix_ms: u64,
    },
    /// It announced itself.
    Announced {
        /// Which connection.
        connection: ConnectionId,
        /// Namespace of the connection from now on.
        namespace: Box<str>,
        /// The name must be its own: control answers with a verdict.
        exclusive: bool,
        /// What it said.
        announcement: Box<Announcement>,
    },
    /// It registered a function.
    Registered {
        /// Which connection.
        connection: ConnectionId,
        /// Namespace of the function.
        namespace: Box<str>,
        /// Function id.
        id: Box<str>,
        /// Description, formats, metadata; `None` keeps what is known (the function moved).
        details: Option<Box<FunctionDetails>>,
    },
    /// It no longer has a function.
    Unregistered {
        /// Which connection.
        connection: ConnectionId,
        /// Namespace of the function.
        namespace: Box<str>,
        /// Function id.
        id: Box<str>,
    },
    /// It left.
    Gone {
        /// Which connection.
        connection: ConnectionId,
    },
    /// It says it was another connection before.
    Reattach {
        /// The new connection; its input waits.
        connection: ConnectionId,
        /// Worker id it had.
        previous: Uuid,
        /// Token it had.
        token: Uuid,
    },
    /// The connection it replaces has been cleaned up.
    Evicted {
        /// The new connection.
        successor: ConnectionId,
    },
    /// A worker calls an engine function.
    Call {
        /// Who asks.
        caller: ConnectionId,
        /// `None` = no answer wanted.
        invocation_id: Option<Uuid>,
        /// Which function.
        function: EngineFunction,
        /// Shapes the caller understands.
        generation: Generation,
        /// Raw JSON input.
        data: Box<[u8]>,
    },
    /// Answer to [`Command::CountLoad`].
    Load {
        /// Number of the question.
        query: u64,
        /// Connections that run calls, and how many.
        load: Vec<(ConnectionId, u32)>,
    },
    /// A connection sent telemetry.
    Telemetry {
        /// Which connection.
        connection: ConnectionId,
        /// What it carries.
        signal: Signal,
        /// An OTLP/JSON export request; valid JSON.
        body: Box<[u8]>,
    },
    /// A registration message that concerns no function.
    Message {
        /// Which connection.
        connection: ConnectionId,
        /// Type of the message.
        kind: Kind,
        /// Its text.
        text: Box<[u8]>,
    },
}

/// What control asks of a data shard.
pub enum Command {
    /// Send a message to a worker.
    Send {
        /// To whom.
        connection: ConnectionId,
        /// JSON text of the message.
        text: Box<[u8]>,
    },
    /// Let a connection's input through again.
    OpenGate {
        /// Whose.
        connection: ConnectionId,
    },
    /// The worker's name is taken (PROTO-45): tell it and close.
    RejectName {
        /// Whose.
        connection: ConnectionId,
        /// Namespace of the name.
        namespace: Box<str>,
        /// The name.
        name: Box<str>,
        /// Worker id of the holder.
        owner: Box<str>,
    },
    /// End a live connection that another continues.
    Evict {
        /// The old connection.
        connection: ConnectionId,
        /// The new one.
        successor: ConnectionId,
    },
    /// Give the calls of a connection that is gone to the one that continues it.
    HandOver {
        /// The old connection.
        lost: ConnectionId,
        /// The new one.
        successor: ConnectionId,
    },
    /// Run a function without an answer.
    Fire {
        /// Namespace of the function.
        namespace: Box<str>,
        /// Function id.
        function_id: Box<str>,
        /// Raw JSON payload.
        data: Box<[u8]>,
        /// Raw JSON metadata of the trigger.
        metadata: Option<Box<[u8]>>,
    },
    /// Report how many calls each connection runs.
    CountLoad {
        /// Number of the question.
        query: u64,
    },
    /// The engine stops.
    Stop,
}

/// What a worker tells of a function.
#[derive(Debug, Clone, Default)]
pub struct FunctionDetails {
    /// Text for people.
    pub description: Option<Box<str>>,
    /// Raw JSON schema of the payload.
    pub request_format: Option<Box<[u8]>>,
    /// Raw JSON schema of the result.
    pub response_format: Option<Box<[u8]>>,
    /// Raw JSON metadata.
    pub metadata: Option<Box<[u8]>>,
}

/// A function as control knows it.
#[derive(Default)]
struct FunctionRecord {
    details: Box<FunctionDetails>,
    /// Newest registration wins in listings.
    sequence: u64,
}

/// A connected worker as control knows it.
struct WorkerRecord {
    worker_id: Uuid,
    token: Uuid,
    peer: IpAddr,
    connected_unix_ms: u64,
    namespace: Box<str>,
    /// `None` until it announced itself; such connections are not listed (ENG-39).
    announcement: Option<Box<Announcement>>,
    functions: BTreeMap<Box<str>, FunctionRecord>,
}

/// A question that waits for all shards.
struct Query {
    caller: ConnectionId,
    invocation_id: Uuid,
    function: EngineFunction,
    data: Box<[u8]>,
    missing: usize,
    load: HashMap<ConnectionId, u32>,
}

/// A worker that left a moment ago.
struct Lost {
    connection: ConnectionId,
    token: Uuid,
    until_ms: u64,
}

/// The control shard.
pub struct Control {
    settings: Arc<Settings>,
    now: Now,
    workers: BTreeMap<ConnectionId, WorkerRecord>,
    by_worker_id: HashMap<Uuid, ConnectionId>,
    lost: HashMap<Uuid, Lost>,
    queries: HashMap<u64, Query>,
    query_count: u64,
    sequence: u64,
    started_unix_ms: u64,
    telemetry: TelemetrySink,
    mesh: Vec<Batch>,
}

impl Control {
    /// The control shard of an engine.
    pub fn new(settings: Arc<Settings>, now: Now) -> Self {
        let mesh = (0..settings.shards).map(|_| Batch::default()).collect();
        Control {
            settings,
            now,
            started_unix_ms: now.unix_ms,
            workers: BTreeMap::new(),
            by_worker_id: HashMap::new(),
            lost: HashMap::new(),
            queries: HashMap::new(),
            query_count: 0,
            sequence: 0,
            telemetry: TelemetrySink::default(),
            mesh,
        }
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

    fn answer(&mut self, caller: ConnectionId, invocation_id: Uuid, outcome: &Outcome<'_>) {
        self.mesh[caller.shard.index()].result(caller, invocation_id, outcome);
    }

    fn handle_report(&mut self, report: Report) {
        match report {
            Report::Connected { connection, worker_id, token, peer, unix_ms } => {
                self.by_worker_id.insert(worker_id, connection);
                self.workers.insert(
                    connection,
                    WorkerRecord {
                        worker_id,
                        token,
                        peer,
                        connected_unix_ms: unix_ms,
                        namespace: crate::registry::DEFAULT_NAMESPACE.into(),
                        announcement: None,
                        functions: BTreeMap::new(),
                    },
                );
                tracing::info!("Worker {worker_id} connected");
            }
            Report::Announced { connection, namespace, exclusive, announcement } => {
                self.handle_announced(connection, namespace, exclusive, announcement);
            }
            Report::Registered { connection, namespace, id, details } => {
                self.sequence += 1;
                let sequence = self.sequence;
                let Some(worker) = self.workers.get_mut(&connection) else { return };
                worker.namespace = namespace;
                tracing::info!("[REGISTERED] Function {id}");
                let record = worker.functions.entry(id).or_default();
                record.sequence = sequence;
                if let Some(details) = details {
                    record.details = details;
                }
            }
            Report::Unregistered { connection, id, .. } => {
                let Some(worker) = self.workers.get_mut(&connection) else { return };
                if worker.functions.remove(&id).is_some() {
                    tracing::info!("[UNREGISTERED] Function {id}");
                }
            }
            Report::Gone { connection } => self.handle_gone(connection),
            Report::Reattach { connection, previous, token } => self.handle_reattach(connection, previous, token),
            Report::Evicted { successor } => self.command(successor.shard, Command::OpenGate { connection: successor }),
            Report::Call { caller, invocation_id, function, generation, data } => {
                self.handle_call(caller, invocation_id, function, generation, data);
            }
            Report::Load { query, load } => self.handle_load(query, load),
            Report::Telemetry { connection, signal, body } => self.telemetry.accept(connection, signal, &body),
            Report::Message { .. } => {}
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
                    **other != connection && worker.namespace == namespace && worker.name() == Some(name)
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
            worker.namespace = namespace;
            worker.announcement = Some(announcement);
        }
        if exclusive {
            self.command(connection.shard, Command::OpenGate { connection });
        }
    }

    fn handle_gone(&mut self, connection: ConnectionId) {
        let Some(worker) = self.workers.remove(&connection) else { return };
        for id in worker.functions.keys() {
            tracing::info!("[UNREGISTERED] Function {id}");
        }
        tracing::info!("Worker {} disconnected", worker.worker_id);
        self.by_worker_id.remove(&worker.worker_id);
        let now_ms = self.now.ms;
        if self.lost.len() >= 1024 {
            self.lost.retain(|_, lost| lost.until_ms > now_ms);
        }
        let until_ms = now_ms + REATTACH_HANDOVER_MS;
        self.lost.insert(worker.worker_id, Lost { connection, token: worker.token, until_ms });
    }

    /// PROTO-46: whatever does not match is ignored in silence; the connection goes on as a new one.
    fn handle_reattach(&mut self, connection: ConnectionId, previous: Uuid, token: Uuid) {
        let live = self
            .by_worker_id
            .get(&previous)
            .copied()
            .filter(|old| *old != connection && self.workers.get(old).is_some_and(|worker| worker.token == token));
        if let Some(old) = live {
            return self.command(old.shard, Command::Evict { connection: old, successor: connection });
        }
        if let Some(lost) = self.lost.get(&previous).filter(|lost| lost.token == token && lost.until_ms > self.now.ms) {
            let old = lost.connection;
            self.lost.remove(&previous);
            self.command(old.shard, Command::HandOver { lost: old, successor: connection });
        }
        self.command(connection.shard, Command::OpenGate { connection });
    }
}

// === impl WorkerRecord ===

impl WorkerRecord {
    fn name(&self) -> Option<&str> {
        self.announcement.as_ref()?.name.as_deref()
    }
}
