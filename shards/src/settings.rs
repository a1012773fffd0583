//! What an engine is told at start: plain values, already validated by whoever built them.

use std::net::SocketAddr;

/// Everything the shard runtime needs to know before it starts.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Number of data shards, 1 to 64.
    pub shards: usize,
    /// Worker listeners, in configuration order. At least one.
    pub listeners: Vec<ListenerSettings>,
    /// What happens when a second connection registers a function id (PROTO-50).
    pub duplicate_functions: DuplicateFunctions,
    /// Whether two connections of a namespace may carry one worker name (PROTO-45).
    pub worker_names: WorkerNames,
    /// Time limit of an invocation in milliseconds; 0 = none (PROTO-67).
    pub max_invocation_ms: u64,
    /// How long a connection may take to name its namespace, in milliseconds (PROTO-43).
    pub registration_namespace_grace_ms: u64,
    /// A WebSocket ping is sent after this long without input, in milliseconds; 0 = never (PROTO-14).
    pub ping_interval_ms: u64,
    /// A connection is dead after this long without input, in milliseconds; 0 = never (PROTO-14).
    pub idle_timeout_ms: u64,
    /// Bytes that may wait for one connection before new calls to it are refused (PROTO-70).
    pub outbox_bytes_max: usize,
    /// A peer that reads nothing for this long while output waits is closed, in milliseconds (PROTO-70).
    pub stalled_peer_ms: u64,
    /// Poll instead of sleeping while calls are pending. Costs a core, saves wake-up latency.
    pub busy_poll: bool,
}

/// One address that worker connections arrive at.
#[derive(Debug, Clone)]
pub struct ListenerSettings {
    /// Name of the configuration entry, for messages.
    pub name: String,
    /// Addresses to bind; the first is the one shown to users.
    pub addresses: Vec<SocketAddr>,
    /// Whether a failure to bind any address but the first is ignored (the `[::1]` twin of a default 127.0.0.1).
    pub first_address_suffices: bool,
    /// Deadline for a complete request head, in milliseconds (PROTO-7).
    pub handshake_timeout_ms: u64,
    /// Origins browsers may connect from; empty = any (PROTO-6).
    pub allowed_origins: Vec<String>,
}

/// Policy for a function id that a second connection registers (PROTO-50).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DuplicateFunctions {
    /// Both provide it; calls are spread.
    #[default]
    Balance,
    /// The newest connection replaces the others.
    Takeover,
    /// The newcomer is refused.
    Reject,
}

/// Policy for worker names (PROTO-45).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WorkerNames {
    /// Equal names are allowed.
    #[default]
    Shared,
    /// One live connection per namespace and name.
    Exclusive,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            shards: 1,
            listeners: Vec::new(),
            duplicate_functions: DuplicateFunctions::default(),
            worker_names: WorkerNames::default(),
            max_invocation_ms: 0,
            registration_namespace_grace_ms: 200,
            ping_interval_ms: 30_000,
            idle_timeout_ms: 90_000,
            outbox_bytes_max: 64 << 20,
            stalled_peer_ms: 60_000,
            busy_poll: false,
        }
    }
}
