//! Names for things that live on one shard and are spoken of on others.
//!
//! Ids are `Copy`, say which shard to ask, and are safe to keep too long: a slot is reused under a new
//! generation, so a stale id finds nothing.

use std::fmt;

/// A thread of the mesh: data shards are `0..n`, the control shard is `n`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(pub u16);

impl ShardId {
    /// Position in per-shard tables.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// One connection: its home shard, its slot there, and which use of the slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId {
    /// Home shard.
    pub shard: ShardId,
    /// Slot in the home shard's connection table.
    pub slot: u32,
    /// Counts the uses of the slot; tells a reused slot from the one meant.
    pub generation: u32,
}

impl ConnectionId {
    /// Stands for "the engine itself" as a caller: no connection has this slot.
    pub const ENGINE: ConnectionId = ConnectionId { shard: ShardId(u16::MAX), slot: u32::MAX, generation: 0 };
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}.{}", self.shard.0, self.slot, self.generation)
    }
}

/// A registration at its provider: the connection, and the entry of its function list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProviderId {
    /// Connection that can run the function.
    pub connection: ConnectionId,
    /// Index into that connection's registrations; never reused while the connection lives.
    pub registration: u32,
}
