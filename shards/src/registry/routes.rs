//! Hot path: a shard's own view of who provides what it calls.
//!
//! Owner: the shard that holds it. The owner shard of each function keeps it current over the rings; an entry may
//! be a moment stale, so a provider that has left sends the call back. An entry exists while it has providers or
//! is being resolved; nothing is remembered of ids that nobody provides.

use crate::ids::{ConnectionId, ProviderId};
use crate::shard::built_in::BuiltInRoute;
use crate::shard::mesh::Batch;
use hashbrown::HashTable;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

/// Where calls of one function go.
pub struct Route {
    /// Hash of `id`.
    pub hash: u64,
    /// Namespace of the function.
    pub namespace: Rc<str>,
    /// Function id.
    pub id: Rc<str>,
    providers: RefCell<Vec<Choice>>,
    /// Where the next search among equals begins.
    cursor: Cell<usize>,
    /// Run by a built-in worker: there are no other providers and no owner to ask.
    built_in: Cell<Option<BuiltInRoute>>,
    /// Questions to the owner that it has not answered, oldest first. None = not being resolved.
    questions: RefCell<VecDeque<Rc<Question>>>,
}

/// A question to an owner: who provides a function? It has its own answer, since a caller that has just changed
/// something must not be told what was true before.
#[derive(Default)]
pub struct Question {
    /// Calls that wait for the answer, in order.
    pub calls: RefCell<Batch>,
}

#[derive(Debug, Clone, Copy)]
struct Choice {
    provider: ProviderId,
    /// Calls from this shard to it that have no answer.
    in_flight: u32,
}

impl Route {
    /// A route without providers.
    pub fn new(hash: u64, namespace: &str, id: &str) -> Self {
        Route {
            hash,
            namespace: namespace.into(),
            id: id.into(),
            providers: RefCell::default(),
            cursor: Cell::new(0),
            built_in: Cell::new(None),
            questions: RefCell::default(),
        }
    }

    /// Makes it the route of a built-in worker's function.
    pub fn set_built_in(&self, to: Option<BuiltInRoute>) {
        self.built_in.set(to);
    }

    /// The built-in worker that runs the function, if one does.
    pub fn built_in(&self) -> Option<BuiltInRoute> {
        self.built_in.get()
    }

    /// Picks the provider with the fewest calls in flight, in turn among equals (PROTO-50c). A tracked call is
    /// counted and must be given back with [`Route::release`]. A provider that is preferred is taken, busy or not.
    #[inline]
    pub fn pick(&self, tracked: bool, prefer: Option<ConnectionId>) -> Option<ProviderId> {
        let mut providers = self.providers.borrow_mut();
        let preferred = |prefer| providers.iter().position(|choice| choice.provider.connection == prefer);
        let index = match providers.len() {
            0 => return None,
            1 => 0,
            count => match prefer.and_then(preferred) {
                Some(index) => index,
                None => {
                    let start = self.cursor.get() % count;
                    let turn = (start..count).chain(0..start);
                    let index = turn.min_by_key(|index| providers[*index].in_flight).unwrap_or(start);
                    self.cursor.set(index + 1);
                    index
                }
            },
        };
        let choice = &mut providers[index];
        choice.in_flight += u32::from(tracked);
        Some(choice.provider)
    }

    /// A tracked call to this provider has ended.
    #[inline]
    pub fn release(&self, connection: ConnectionId) {
        let mut providers = self.providers.borrow_mut();
        if let Some(choice) = providers.iter_mut().find(|choice| choice.provider.connection == connection) {
            choice.in_flight = choice.in_flight.saturating_sub(1);
        }
    }

    /// Replaces the providers, keeping the counts of those that stay.
    pub fn set_providers(&self, new: &[ProviderId]) {
        let mut providers = self.providers.borrow_mut();
        let in_flight = |connection| {
            providers.iter().find(|old| old.provider.connection == connection).map_or(0, |old| old.in_flight)
        };
        *providers = new
            .iter()
            .map(|provider| Choice { provider: *provider, in_flight: in_flight(provider.connection) })
            .collect();
    }

    /// Whether neither a worker nor a built-in worker provides the function.
    pub fn is_nobodys(&self) -> bool {
        !self.has_providers() && self.built_in().is_none()
    }

    /// Whether anybody provides the function.
    pub fn has_providers(&self) -> bool {
        !self.providers.borrow().is_empty()
    }

    /// Takes out a provider that has sent a call back. Returns whether it was there.
    pub fn drop_provider(&self, provider: ProviderId) -> bool {
        let mut providers = self.providers.borrow_mut();
        let before = providers.len();
        providers.retain(|choice| choice.provider != provider);
        providers.len() < before
    }

    /// Whether the owner is being asked.
    pub fn is_asked(&self) -> bool {
        !self.questions.borrow().is_empty()
    }

    /// The question asked last, if it has no answer yet.
    pub fn last_question(&self) -> Option<Rc<Question>> {
        self.questions.borrow().back().cloned()
    }

    /// Notes a question that is being sent to the owner.
    pub fn ask(&self) -> Rc<Question> {
        let question = Rc::<Question>::default();
        self.questions.borrow_mut().push_back(question.clone());
        question
    }

    /// The owner has answered the oldest question.
    pub fn answered(&self) -> Option<Rc<Question>> {
        self.questions.borrow_mut().pop_front()
    }
}

/// A shard's routes.
#[derive(Default)]
pub struct RouteTable {
    table: HashTable<Rc<Route>>,
}

impl RouteTable {
    /// Finds a route.
    #[inline]
    pub fn find(&self, hash: u64, namespace: &str, id: &str) -> Option<&Rc<Route>> {
        self.table.find(hash, |route| &*route.id == id && &*route.namespace == namespace)
    }

    /// Finds a route or adds an empty one.
    pub fn entry(&mut self, hash: u64, namespace: &str, id: &str) -> &Rc<Route> {
        self.table
            .entry(hash, |route| &*route.id == id && &*route.namespace == namespace, |route| route.hash)
            .or_insert_with(|| Rc::new(Route::new(hash, namespace, id)))
            .into_mut()
    }

    /// Forgets a route.
    pub fn remove(&mut self, hash: u64, namespace: &str, id: &str) {
        if let Ok(entry) = self.table.find_entry(hash, |route| &*route.id == id && &*route.namespace == namespace) {
            entry.remove();
        }
    }

    /// Lets go of room for routes that are gone.
    pub fn shrink(&mut self) {
        self.table.shrink_to_fit(|route| route.hash);
    }

    /// All routes, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Rc<Route>> {
        self.table.iter()
    }

    /// Number of routes known.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether no route is known.
    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ShardId;

    fn provider(slot: u32) -> ProviderId {
        ProviderId { connection: ConnectionId { shard: ShardId(0), slot, generation: 0 }, registration: 0 }
    }

    // PROTO-50c
    #[test]
    fn spreads_by_load_then_in_turn() {
        let route = Route::new(1, "default", "f");
        assert!(route.pick(true, None).is_none());
        route.set_providers(&[provider(0), provider(1), provider(2)]);
        let picks: Vec<u32> = (0..6).filter_map(|_| route.pick(true, None)).map(|pick| pick.connection.slot).collect();
        assert_eq!(picks, [0, 1, 2, 0, 1, 2]);
        route.release(provider(1).connection);
        assert_eq!(route.pick(true, None), Some(provider(1)));
        let void: Vec<u32> = (0..3).filter_map(|_| route.pick(false, None)).map(|pick| pick.connection.slot).collect();
        assert_eq!(void, [2, 0, 1]);
    }

    #[test]
    fn keeps_counts_when_providers_change() {
        let route = Route::new(1, "default", "f");
        route.set_providers(&[provider(0)]);
        route.pick(true, None);
        route.pick(true, None);
        route.set_providers(&[provider(0), provider(1)]);
        assert_eq!(route.pick(true, None), Some(provider(1)));
        assert_eq!(route.pick(true, None), Some(provider(1)));
    }

    #[test]
    fn table_tells_namespaces_apart() {
        let mut table = RouteTable::default();
        table.entry(5, "a", "f");
        table.entry(5, "b", "f");
        assert_eq!(table.len(), 2);
        table.remove(5, "a", "f");
        assert!(table.find(5, "a", "f").is_none());
        assert!(table.find(5, "b", "f").is_some());
    }
}
