//! Names for things that live on one shard and are spoken of on others.
//!
//! Ids are `Copy`, say which shard to ask, and are safe to keep too long: a slot is reused under a new
//! generation, so a stale id finds nothing.

use crate::builtin::BuiltInId;
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

    /// Slots of built-in workers begin here; sockets never get that far.
    const BUILT_IN_SLOTS: u32 = 0xFFFF_0000;

    /// The connection by which an instance of a built-in worker takes part.
    pub const fn built_in(shard: ShardId, worker: BuiltInId) -> ConnectionId {
        ConnectionId { shard, slot: Self::BUILT_IN_SLOTS + worker.0 as u32, generation: 0 }
    }

    /// The built-in worker this stands for, if it does.
    #[inline]
    pub const fn as_built_in(self) -> Option<BuiltInId> {
        match self.slot {
            u32::MAX => None,
            slot if slot >= Self::BUILT_IN_SLOTS => Some(BuiltInId((slot - Self::BUILT_IN_SLOTS) as u16)),
            _ => None,
        }
    }
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
