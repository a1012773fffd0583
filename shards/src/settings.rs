//! What an engine is told at start: plain values, already validated by whoever built them.

use crate::builtin::BuiltInId;
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
    /// Which shapes discovery answers with (ENG-6).
    pub discovery_shape: DiscoveryShape,
    /// Poll instead of sleeping while calls are pending. Costs a core, saves wake-up latency.
    pub busy_poll: bool,
    /// Called on an engine thread that has let go of much memory: gives what the allocator keeps back to the system.
    pub trim_memory: fn(),
}

/// One address that worker connections arrive at.
#[derive(Debug, Clone, Default)]
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
    /// Function that every call from this listener goes through (PROTO-125).
    pub middleware_function_id: Option<String>,
    /// Built-in worker whose sockets these are, and the number it knows the listener by; `None` = worker protocol.
    pub built_in: Option<(BuiltInId, usize)>,
    /// Who may do what on this listener; none = everybody everything (PROTO-120…126).
    pub access_rules: Option<AccessRules>,
}

/// Who may do what on a listener.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccessRules {
    /// Function that decides about each connection (PROTO-120).
    pub auth_function_id: Option<String>,
    /// Functions everybody may call (PROTO-122).
    pub expose_functions: Vec<FunctionFilter>,
    /// Function that may change or refuse a function registration (PROTO-126).
    pub on_function_registration_function_id: Option<String>,
    /// Function that may change or refuse a trigger registration (PROTO-126).
    pub on_trigger_registration_function_id: Option<String>,
    /// Function that may change or refuse a trigger type registration (PROTO-126).
    pub on_trigger_type_registration_function_id: Option<String>,
}

/// Selects functions (PROTO-123).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FunctionFilter {
    /// By id; `*` in the pattern stands for any run of characters.
    Id {
        /// The pattern, anchored at both ends.
        pattern: String,
        /// Namespace of the functions.
        namespace: String,
    },
    /// By registration metadata: every member must match.
    Metadata {
        /// Member names and what they must hold.
        members: Vec<(String, MetadataRule)>,
        /// Namespace of the functions.
        namespace: String,
    },
}

/// What a metadata member must hold (PROTO-123).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetadataRule {
    /// This JSON value, as compact text.
    Exactly(String),
    /// A string that matches this pattern.
    Pattern(String),
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

/// Shapes of discovery answers (ENG-6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DiscoveryShape {
    /// Those of the caller's SDK line.
    #[default]
    Auto,
    /// Those before 0.13.
    Legacy,
    /// Those since 0.13.
    Current,
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
            discovery_shape: DiscoveryShape::default(),
            busy_poll: false,
            trim_memory: || {},
        }
    }
}
