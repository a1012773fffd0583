//! Who provides which function. Pure.
//!
//! [`owner`] is the single writer: every function id belongs to one shard by hash, and that shard decides who
//! provides it. [`routes`] is each shard's own read-only view of what it has called.

pub mod owner;
pub mod routes;

use crate::ids::ShardId;
use std::hash::BuildHasher;
use uuid::Uuid;

/// Hashes function ids. All shards of an engine share the seed, so they agree on owners.
#[derive(Debug, Clone)]
pub struct FunctionHasher {
    state: foldhash::fast::FixedState,
    shards: u64,
}

impl FunctionHasher {
    /// A hasher for a mesh of `shards` data shards.
    pub fn new(seed: u64, shards: usize) -> Self {
        FunctionHasher { state: foldhash::fast::FixedState::with_seed(seed), shards: shards.max(1) as u64 }
    }

    /// Hash of a function id. Namespaces are not part of it: all namesakes live on one shard, which can then tell
    /// a caller where else an id is registered.
    #[inline]
    pub fn hash(&self, id: &str) -> u64 {
        self.state.hash_one(id)
    }

    /// The shard that owns a function id. The only place that decides it.
    #[inline]
    pub fn owner(&self, hash: u64) -> ShardId {
        // The table probes with the low bits, so the owner comes from the high ones.
        ShardId(((u128::from(hash) * u128::from(self.shards)) >> 64) as u16)
    }

    /// The shard that owns a channel. The only place that decides it.
    pub fn channel_owner(&self, channel: Uuid) -> ShardId {
        self.owner(self.state.hash_one(channel.as_u128()))
    }
}

/// The namespace of everything that names none.
pub const DEFAULT_NAMESPACE: &str = "default";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_has_one_owner_and_owners_share_the_load() {
        for shards in [1usize, 3, 16, 64] {
            let (a, b) = (FunctionHasher::new(9, shards), FunctionHasher::new(9, shards));
            let mut counts = vec![0usize; shards];
            for index in 0..shards * 1000 {
                let hash = a.hash(&format!("service::name_{index}"));
                assert_eq!(a.owner(hash), b.owner(hash));
                counts[a.owner(hash).index()] += 1;
            }
            assert!(counts.iter().all(|count| (800..1200).contains(count)), "{counts:?}");
        }
    }
}
