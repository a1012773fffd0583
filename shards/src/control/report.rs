//! What data shards tell control, and what control asks of them.

use super::announcement::Announcement;
use super::functions::EngineFunction;
use super::triggers::Binding;
use crate::builtin::{BuiltInId, Change};
use crate::connection::worker::Generation;
use crate::ids::ConnectionId;
use crate::session::Session;
use crate::wire::envelope::Kind;
use crate::wire::telemetry::Signal;
use std::net::IpAddr;
use std::sync::Arc;
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
    /// What it had registered before it announced itself has been applied.
    Settled {
        /// Which connection.
        connection: ConnectionId,
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
    /// Answer to [`Command::Echo`].
    Echoed,
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
        /// Baggage of the call, as sent.
        baggage: Option<Box<str>>,
        /// What the caller may do and see; `None` = everything.
        session: Option<Arc<Session>>,
    },
    /// Whether a call is allowed depends on what its function was registered with.
    Permission {
        /// Whose call; its input waits.
        connection: ConnectionId,
        /// Namespace of the function.
        namespace: Box<str>,
        /// Function id.
        id: Box<str>,
        /// Text of the call.
        text: Box<[u8]>,
    },
    /// Answer to [`Command::CountLoad`].
    Load {
        /// Number of the question.
        query: u64,
        /// Connections that run calls, and how many.
        load: Vec<(ConnectionId, u32)>,
    },
    /// Owner shard: it knows no provider of the function that was to be fired.
    Unfired(Box<Firing>),
    /// A connection sent telemetry.
    Telemetry {
        /// Which connection.
        connection: ConnectionId,
        /// What it carries.
        signal: Signal,
        /// An OTLP/JSON export request; valid JSON.
        body: Box<[u8]>,
    },
    /// A shard has applied a [`Command::Change`].
    Changed,
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
    /// Say [`Report::Echoed`] behind all that is under way.
    Echo,
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
    /// Run a function without an answer. Goes to the shard that owns it.
    Fire(Box<Firing>),
    /// Report how many calls each connection runs.
    CountLoad {
        /// Number of the question.
        query: u64,
    },
    /// Answer to [`Report::Permission`].
    Metadata {
        /// Whose call.
        connection: ConnectionId,
        /// Text of the call.
        text: Box<[u8]>,
        /// Raw JSON metadata of the function, if there is any.
        metadata: Option<Box<[u8]>>,
    },
    /// A trigger of a built-in worker's type has come or gone.
    Trigger {
        /// Whose.
        worker: BuiltInId,
        /// Which trigger.
        trigger: Arc<Binding>,
        /// It has come.
        added: bool,
    },
    /// The configuration has changed; answered with [`Report::Changed`].
    Change(Arc<Change>),
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

/// A function to be run because something happened; nobody waits for the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Firing {
    /// Namespace of the function.
    pub namespace: Box<str>,
    /// Function id.
    pub function_id: Box<str>,
    /// Raw JSON payload.
    pub data: Box<[u8]>,
    /// Raw JSON metadata of the trigger.
    pub metadata: Option<Box<[u8]>>,
    /// How often it has been tried before.
    pub attempts: u8,
}
