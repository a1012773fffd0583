//! All functions of connected workers, by id: what discovery lists and topology events compare.
//!
//! Several connections may provide one function; the newest registration is the one shown (PROTO-50). The order of
//! the map is the order of listings, so that a listing is one walk.

use super::report::FunctionDetails;
use crate::ids::ConnectionId;
use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::sync::Arc;

/// The functions.
#[derive(Default)]
pub(super) struct Catalog {
    by_id: BTreeMap<Arc<str>, Vec<Namesake>>,
    fingerprint: u64,
}

/// One function: an id in one namespace.
struct Namesake {
    namespace: Arc<str>,
    /// Newest registration last. Never empty.
    providers: Vec<Provider>,
}

struct Provider {
    connection: ConnectionId,
    details: Box<FunctionDetails>,
}

/// A function as it is shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Function<'a> {
    pub namespace: &'a str,
    pub id: &'a str,
    /// Newest provider.
    pub connection: ConnectionId,
    /// What that provider told of it.
    pub details: &'a FunctionDetails,
}

impl Catalog {
    /// Adds a provider, or replaces what it told before; `None` as details keeps that.
    pub fn add(
        &mut self,
        connection: ConnectionId,
        namespace: &Arc<str>,
        id: &Arc<str>,
        details: Option<Box<FunctionDetails>>,
    ) {
        let namesakes = self.by_id.entry(id.clone()).or_default();
        let at = namesakes.binary_search_by(|other| other.namespace.cmp(namespace));
        let index = at.unwrap_or_else(|index| {
            namesakes.insert(index, Namesake { namespace: namespace.clone(), providers: Vec::with_capacity(1) });
            self.fingerprint ^= hash(namespace, id);
            index
        });
        let providers = &mut namesakes[index].providers;
        let known = providers.iter().position(|provider| provider.connection == connection);
        let known = known.map(|index| providers.remove(index).details);
        let details = details.or(known).unwrap_or_default();
        providers.push(Provider { connection, details });
    }

    /// Removes a provider and returns what it told of the function.
    pub fn remove(&mut self, connection: ConnectionId, namespace: &str, id: &str) -> Option<Box<FunctionDetails>> {
        let namesakes = self.by_id.get_mut(id)?;
        let index = namesakes.binary_search_by(|other| (*other.namespace).cmp(namespace)).ok()?;
        let providers = &mut namesakes[index].providers;
        let at = providers.iter().position(|provider| provider.connection == connection)?;
        let details = providers.remove(at).details;
        if providers.is_empty() {
            namesakes.remove(index);
            self.fingerprint ^= hash(namespace, id);
        }
        if namesakes.is_empty() {
            self.by_id.remove(id);
        }
        Some(details)
    }

    /// Finds a function.
    pub fn get(&self, namespace: &str, id: &str) -> Option<Function<'_>> {
        let (id, namesakes) = self.by_id.get_key_value(id)?;
        let index = namesakes.binary_search_by(|other| (*other.namespace).cmp(namespace)).ok()?;
        namesakes[index].shown(id)
    }

    /// Namespaces that have this id, sorted.
    pub fn namespaces_of(&self, id: &str) -> Vec<&str> {
        self.by_id.get(id).into_iter().flatten().map(|namesake| &*namesake.namespace).collect()
    }

    /// All functions whose id begins with `prefix`, by id, then namespace.
    pub fn iter<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = Function<'a>> {
        self.by_id
            .range::<str, _>((std::ops::Bound::Included(prefix), std::ops::Bound::Unbounded))
            .take_while(move |(id, _)| id.starts_with(prefix))
            .flat_map(|(id, namesakes)| namesakes.iter().filter_map(move |namesake| namesake.shown(id)))
    }

    /// Tells one set of (namespace, id) from another; details do not count (ENG-45).
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }
}

// === impl Namesake ===

impl Namesake {
    fn shown<'a>(&'a self, id: &'a str) -> Option<Function<'a>> {
        let newest = self.providers.last()?;
        Some(Function { namespace: &self.namespace, id, connection: newest.connection, details: &newest.details })
    }
}

fn hash(namespace: &str, id: &str) -> u64 {
    foldhash::fast::FixedState::with_seed(2).hash_one((namespace, id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ShardId;

    fn connection(slot: u32) -> ConnectionId {
        ConnectionId { shard: ShardId(0), slot, generation: 0 }
    }

    fn details(text: &str) -> Option<Box<FunctionDetails>> {
        Some(Box::new(FunctionDetails { description: Some(text.into()), ..Default::default() }))
    }

    // PROTO-50: the newest registration shows; the id leaves with its last provider.
    #[test]
    fn newest_shows() {
        let mut catalog = Catalog::default();
        let (space, id): (Arc<str>, Arc<str>) = ("default".into(), "f".into());
        let shown = |catalog: &Catalog| catalog.get("default", "f").map(|f| f.details.description.clone().unwrap());
        catalog.add(connection(1), &space, &id, details("one"));
        let alone = catalog.fingerprint();
        catalog.add(connection(2), &space, &id, details("two"));
        assert_eq!(shown(&catalog).as_deref(), Some("two"));
        catalog.add(connection(1), &space, &id, None);
        assert_eq!(shown(&catalog).as_deref(), Some("one"));
        catalog.remove(connection(1), "default", "f");
        assert_eq!(shown(&catalog).as_deref(), Some("two"));
        assert_eq!(catalog.fingerprint(), alone);
        catalog.remove(connection(2), "default", "f");
        assert!(catalog.get("default", "f").is_none());
        assert_eq!(catalog.fingerprint(), 0);
    }

    #[test]
    fn walks_in_order() {
        let mut catalog = Catalog::default();
        for (namespace, id) in [("b", "x::1"), ("a", "x::1"), ("a", "y"), ("a", "x::0")] {
            catalog.add(connection(1), &namespace.into(), &id.into(), None);
        }
        let walk = |prefix| catalog.iter(prefix).map(|f| format!("{}/{}", f.namespace, f.id)).collect::<Vec<_>>();
        assert_eq!(walk(""), ["a/x::0", "a/x::1", "b/x::1", "a/y"]);
        assert_eq!(walk("x::1"), ["a/x::1", "b/x::1"]);
        assert_eq!(catalog.namespaces_of("x::1"), ["a", "b"]);
    }
}
