//! The owner's side of the registry: the one place that decides who provides a function.
//!
//! Owner: the shard that the id hashes to. It knows which shards hold a route and tells them of every change.

use crate::ids::{ProviderId, ShardId};
use crate::settings::DuplicateFunctions;
use hashbrown::HashTable;
use uuid::Uuid;

/// One function with a provider.
struct Function {
    hash: u64,
    namespace: Box<str>,
    id: Box<str>,
    providers: Vec<Provider>,
    /// Newcomers turned away by [`DuplicateFunctions::Reject`], oldest first; they take over when the owner leaves.
    refused: Vec<Provider>,
    /// Bit per shard that holds a route.
    subscribers: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Provider {
    id: ProviderId,
    claim: Claim,
}

/// Who asks for a registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// Id of the worker.
    pub worker: Uuid,
    /// Hash of the process behind the connection; 0 = unknown (PROTO-50b).
    pub process: u64,
    /// Counts the times this connection has registered the function: tells its home whether a replacement it hears
    /// of came before or after the newest of them.
    pub round: u32,
}

/// The functions one shard owns.
#[derive(Default)]
pub struct OwnerTable {
    table: HashTable<Function>,
}

/// A function, named.
#[derive(Debug, Clone, Copy)]
pub struct Key<'a> {
    /// Hash of `id`.
    pub hash: u64,
    /// Namespace.
    pub namespace: &'a str,
    /// Function id.
    pub id: &'a str,
}

/// What the shards that hold a route must now be told.
#[derive(Debug, PartialEq, Eq)]
pub struct Change {
    /// Providers from now on.
    pub providers: Vec<ProviderId>,
    /// Bit per shard to tell.
    pub subscribers: u64,
    /// Providers pushed out by the change, and their rounds: their home must forget the registration.
    pub replaced: Vec<(ProviderId, u32)>,
}

impl OwnerTable {
    /// Adds a provider. `Err` = refused; names the worker that has the function.
    pub fn register(
        &mut self,
        key: Key<'_>,
        provider: ProviderId,
        claim: Claim,
        policy: DuplicateFunctions,
    ) -> Result<Change, Uuid> {
        let function = self
            .table
            .entry(key.hash, |function| function.is(key), |function| function.hash)
            .or_insert_with(|| Function {
                hash: key.hash,
                namespace: key.namespace.into(),
                id: key.id.into(),
                providers: Vec::new(),
                refused: Vec::new(),
                subscribers: 0,
            })
            .into_mut();
        let new = Provider { id: provider, claim };
        let same = |old: &Provider| {
            old.id.connection == provider.connection || (claim.process != 0 && old.claim.process == claim.process)
        };
        let mut replaced = Vec::new();
        if policy == DuplicateFunctions::Reject
            && let Some(owner) = function.providers.iter().find(|old| !same(old))
        {
            function.refused.retain(|old| !same(old));
            function.refused.push(new);
            return Err(owner.claim.worker);
        }
        function.providers.retain(|old| {
            let out = policy == DuplicateFunctions::Takeover || same(old);
            if out && old.id.connection != provider.connection {
                replaced.push((old.id, old.claim.round));
            }
            !out
        });
        function.providers.push(new);
        Ok(function.change(replaced))
    }

    /// Removes a provider. `None` = it was not one.
    pub fn unregister(&mut self, key: Key<'_>, provider: ProviderId) -> Option<Change> {
        let mut entry = self.table.find_entry(key.hash, |function| function.is(key)).ok()?;
        let function = entry.get_mut();
        let before = function.providers.len();
        function.refused.retain(|old| old.id != provider);
        function.providers.retain(|old| old.id != provider);
        if function.providers.len() == before {
            return None;
        }
        if function.providers.is_empty() && !function.refused.is_empty() {
            let next = function.refused.remove(0);
            function.providers.push(next);
        }
        let change = function.change(Vec::new());
        if function.providers.is_empty() {
            entry.remove();
        }
        Some(change)
    }

    /// The providers of a function, for a shard that will hold a route from now on. Empty = nobody.
    pub fn subscribe(&mut self, key: Key<'_>, shard: ShardId) -> Vec<ProviderId> {
        match self.table.find_mut(key.hash, |function| function.is(key)) {
            Some(function) => {
                function.subscribers |= 1 << shard.0;
                function.provider_ids()
            }
            None => Vec::new(),
        }
    }

    /// Namespaces that have a function of this id, sorted.
    pub fn namespaces_of(&self, hash: u64, id: &str) -> Vec<String> {
        let mut namespaces: Vec<String> = self
            .table
            .iter_hash(hash)
            .filter(|function| &*function.id == id && !function.providers.is_empty())
            .map(|function| function.namespace.to_string())
            .collect();
        namespaces.sort();
        namespaces
    }

    /// Lets go of room for functions that are gone.
    pub fn shrink(&mut self) {
        self.table.shrink_to_fit(|function| function.hash);
    }

    /// Number of functions with a provider.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether no function has a provider.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }
}

// === impl Function ===

impl Function {
    fn is(&self, key: Key<'_>) -> bool {
        &*self.id == key.id && &*self.namespace == key.namespace
    }

    fn provider_ids(&self) -> Vec<ProviderId> {
        self.providers.iter().map(|provider| provider.id).collect()
    }

    fn change(&self, replaced: Vec<(ProviderId, u32)>) -> Change {
        Change { providers: self.provider_ids(), subscribers: self.subscribers, replaced }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ConnectionId;

    const KEY: Key<'static> = Key { hash: 3, namespace: "default", id: "f" };

    const ANYONE: Claim = Claim { worker: Uuid::nil(), process: 0, round: 0 };

    fn provider(slot: u32) -> ProviderId {
        ProviderId { connection: ConnectionId { shard: ShardId(0), slot, generation: 0 }, registration: 0 }
    }

    fn register(table: &mut OwnerTable, slot: u32, process: u64, policy: DuplicateFunctions) -> Vec<u32> {
        let claim = Claim { worker: Uuid::from_u128(slot.into()), process, round: 0 };
        match table.register(KEY, provider(slot), claim, policy) {
            Ok(change) => change.providers.iter().map(|provider| provider.connection.slot).collect(),
            Err(owner) => vec![1000 + owner.as_u128() as u32],
        }
    }

    // PROTO-50
    #[test]
    fn balance_adds_but_one_process_replaces_itself() {
        let mut table = OwnerTable::default();
        assert_eq!(register(&mut table, 1, 0, DuplicateFunctions::Balance), [1]);
        assert_eq!(register(&mut table, 2, 7, DuplicateFunctions::Balance), [1, 2]);
        assert_eq!(register(&mut table, 3, 7, DuplicateFunctions::Balance), [1, 3]);
        assert_eq!(register(&mut table, 1, 0, DuplicateFunctions::Balance), [3, 1]);
        let change = table.unregister(KEY, provider(3)).unwrap();
        assert_eq!(change.providers, [provider(1)]);
        assert_eq!(table.unregister(KEY, provider(3)), None);
        assert!(table.unregister(KEY, provider(1)).unwrap().providers.is_empty());
        assert!(table.is_empty());
    }

    // PROTO-50
    #[test]
    fn takeover_replaces() {
        let mut table = OwnerTable::default();
        register(&mut table, 1, 0, DuplicateFunctions::Takeover);
        let change = table.register(KEY, provider(2), ANYONE, DuplicateFunctions::Takeover).unwrap();
        assert_eq!((change.providers, change.replaced), (vec![provider(2)], vec![(provider(1), 0)]));
    }

    // PROTO-52
    #[test]
    fn reject_refuses_and_activates_later() {
        let mut table = OwnerTable::default();
        assert_eq!(register(&mut table, 1, 0, DuplicateFunctions::Reject), [1]);
        assert_eq!(register(&mut table, 2, 0, DuplicateFunctions::Reject), [1001]);
        assert_eq!(table.unregister(KEY, provider(1)).unwrap().providers, [provider(2)]);
    }

    // PROTO-80: where else an id is registered.
    #[test]
    fn knows_namesakes() {
        let mut table = OwnerTable::default();
        for namespace in ["b", "a"] {
            let _ = table.register(Key { namespace, ..KEY }, provider(1), ANYONE, DuplicateFunctions::Balance);
        }
        assert_eq!(table.namespaces_of(3, "f"), ["a", "b"]);
        assert_eq!(table.subscribe(KEY, ShardId(2)), []);
        let key = Key { namespace: "a", ..KEY };
        assert_eq!(table.subscribe(key, ShardId(2)), [provider(1)]);
        assert_eq!(table.unregister(key, provider(1)).unwrap().subscribers, 4);
    }
}
