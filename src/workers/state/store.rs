//! What state is kept in: scopes, and in each its keys in the order they were first set.
//!
//! Owner: the instance of one shard. Pure. Values are JSON texts, never taken apart here. Invariant: a scope exists as
//! long as it has a key (STATE-DB-9), and its slots are sorted by `order`.

use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashTable};
use std::hash::BuildHasher;
use std::rc::Rc;

/// A JSON text, shared with answers and events that still have to leave.
pub type Value = Rc<[u8]>;

/// Tombstones a scope may have whatever its size.
const TOMBSTONES_FREE: usize = 16;

/// A value and its place among the keys of its scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// Keys are listed by this, lowest first; never used twice.
    pub order: u64,
    /// The value.
    pub value: Value,
}

/// All scopes of one shard.
#[derive(Debug, Default)]
pub struct Store {
    scopes: HashMap<Box<str>, Scope, RandomState>,
    hasher: RandomState,
    /// Highest order given.
    order: u64,
}

#[derive(Debug, Default)]
struct Scope {
    /// Slots by the hash of their key.
    index: HashTable<u32>,
    slots: Vec<Slot>,
}

#[derive(Debug)]
struct Slot {
    order: u64,
    key: Box<str>,
    /// `None` = deleted; the slot goes when there are too many of them.
    value: Option<Value>,
}

// === impl Store ===

impl Store {
    /// The value of a key.
    pub fn get(&self, scope: &str, key: &str) -> Option<&Value> {
        let scope = self.scopes.get(scope)?;
        scope.slots[scope.find(self.hasher.hash_one(key), key)?].value.as_ref()
    }

    /// Sets a value and returns the old one. A key that exists keeps its place.
    pub fn put(&mut self, scope: &str, key: &str, value: Value) -> Option<Placed> {
        let hash = self.hasher.hash_one(key);
        // Not `entry`: the scope is almost always there, and its name would be copied every time.
        let scope = match self.scopes.get_mut(scope) {
            Some(scope) => scope,
            None => self.scopes.entry(scope.into()).or_default(),
        };
        if let Some(slot) = scope.find(hash, key) {
            let slot = &mut scope.slots[slot];
            return slot.value.replace(value).map(|value| Placed { order: slot.order, value });
        }
        self.order += 1;
        let slot = Slot { order: self.order, key: key.into(), value: Some(value) };
        scope.add(&self.hasher, hash, scope.slots.len(), slot);
        None
    }

    /// Removes a key.
    pub fn remove(&mut self, scope: &str, key: &str) -> Option<Placed> {
        let name = scope;
        let scope = self.scopes.get_mut(scope)?;
        let hash = self.hasher.hash_one(key);
        let at = scope.find(hash, key)?;
        let entry = scope.index.find_entry(hash, |slot| *slot as usize == at).ok()?;
        entry.remove();
        let slot = &mut scope.slots[at];
        let order = slot.order;
        let value = slot.value.take()?;
        if scope.index.is_empty() {
            self.scopes.remove(name);
        } else if scope.slots.len() > 2 * scope.index.len() + TOMBSTONES_FREE {
            scope.slots.retain(|slot| slot.value.is_some());
            scope.reindex(&self.hasher);
        }
        Some(Placed { order, value })
    }

    /// Puts a key where it once was, or removes it: what was done since is undone, or what was stored is loaded.
    pub fn restore(&mut self, scope: &str, key: &str, placed: Option<Placed>) {
        self.remove(scope, key);
        let Some(Placed { order, value }) = placed else { return };
        let hash = self.hasher.hash_one(key);
        let scope = self.scopes.entry(scope.into()).or_default();
        let at = scope.slots.partition_point(|slot| slot.order < order);
        scope.add(&self.hasher, hash, at, Slot { order, key: key.into(), value: Some(value) });
        self.order = self.order.max(order);
    }

    /// The place and the value of a key.
    pub fn placed(&self, scope: &str, key: &str) -> Option<(u64, &Value)> {
        let scope = self.scopes.get(scope)?;
        let slot = &scope.slots[scope.find(self.hasher.hash_one(key), key)?];
        Some((slot.order, slot.value.as_ref()?))
    }

    /// Keys and values of a scope, first set first.
    pub fn list<'a>(&'a self, scope: &str) -> impl Iterator<Item = (&'a str, &'a Value)> {
        let slots = self.scopes.get(scope).map_or(&[][..], |scope| &scope.slots);
        slots.iter().filter_map(|slot| slot.value.as_ref().map(|value| (&*slot.key, value)))
    }

    /// Names of the scopes, in no order.
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        self.scopes.keys().map(|name| &**name)
    }
}

// === impl Scope ===

impl Scope {
    fn find(&self, hash: u64, key: &str) -> Option<usize> {
        self.index.find(hash, |slot| *self.slots[*slot as usize].key == *key).map(|slot| *slot as usize)
    }

    fn add(&mut self, hasher: &RandomState, hash: u64, at: usize, slot: Slot) {
        assert!(self.slots.len() < u32::MAX as usize, "a scope has fewer than 2^32 keys");
        if at == self.slots.len() {
            self.slots.push(slot);
            let slots = &self.slots;
            self.index.insert_unique(hash, at as u32, |slot| hasher.hash_one(&*slots[*slot as usize].key));
        } else {
            self.slots.insert(at, slot);
            self.reindex(hasher);
        }
    }

    fn reindex(&mut self, hasher: &RandomState) {
        self.index.clear();
        let live = self.slots.iter().filter(|slot| slot.value.is_some()).count();
        self.index.shrink_to(live, |_| 0);
        for (at, slot) in self.slots.iter().enumerate().filter(|(_, slot)| slot.value.is_some()) {
            let slots = &self.slots;
            let rehash = |slot: &u32| hasher.hash_one(&*slots[*slot as usize].key);
            self.index.insert_unique(hasher.hash_one(&*slot.key), at as u32, rehash);
        }
        self.slots.shrink_to(2 * live);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value(text: &str) -> Value {
        text.as_bytes().into()
    }

    fn listed(store: &Store, scope: &str) -> Vec<(String, String)> {
        let text = |value: &Value| String::from_utf8_lossy(value).into_owned();
        store.list(scope).map(|(key, value)| (key.to_owned(), text(value))).collect()
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    // STATE-24, STATE-DB-9
    #[test]
    fn keys_are_listed_in_the_order_they_were_first_set() {
        let mut store = Store::default();
        for key in ["c", "a", "", "b"] {
            assert_eq!(store.put("s", key, value("1")), None);
        }
        assert_eq!(store.put("s", "a", value("2")).map(|old| old.value), Some(value("1")));
        assert_eq!(listed(&store, "s"), pairs(&[("c", "1"), ("a", "2"), ("", "1"), ("b", "1")]));
        let removed = store.remove("s", "c").expect("it was there");
        assert_eq!(store.remove("s", "c"), None);
        store.put("s", "c", value("3"));
        assert_eq!(listed(&store, "s"), pairs(&[("a", "2"), ("", "1"), ("b", "1"), ("c", "3")]));
        store.restore("s", "c", Some(removed));
        assert_eq!(listed(&store, "s"), pairs(&[("c", "1"), ("a", "2"), ("", "1"), ("b", "1")]));
        assert_eq!(store.scopes().collect::<Vec<_>>(), ["s"]);
        for key in ["c", "a", "", "b"] {
            store.remove("s", key);
        }
        assert_eq!(store.scopes().count(), 0);
        assert_eq!(store.get("s", "a"), None);
    }

    #[test]
    fn many_deletions_leave_nothing_behind() {
        let mut store = Store::default();
        store.put("s", "stays", value("1"));
        for n in 0..10_000 {
            store.put("s", &n.to_string(), value("1"));
            store.remove("s", &n.to_string());
        }
        assert!(store.scopes["s"].slots.len() <= 2 + TOMBSTONES_FREE);
        assert_eq!(listed(&store, "s"), pairs(&[("stays", "1")]));
    }

    proptest! {
        #[test]
        fn is_an_ordered_map(steps in prop::collection::vec((0u8..4, 0u8..12), 0..200)) {
            let mut store = Store::default();
            let mut model: Vec<(String, String)> = Vec::new();
            type Order = Vec<(String, String)>;
            let mut taken: Vec<(String, Placed, Order)> = Vec::new();
            for (number, (step, key)) in steps.into_iter().enumerate() {
                let (key, text) = (key.to_string(), number.to_string());
                let at = model.iter().position(|(known, _)| *known == key);
                match step {
                    0 | 1 => {
                        let old = store.put("s", &key, value(&text)).map(|old| old.value);
                        prop_assert_eq!(old, at.map(|at| value(&model[at].1)));
                        match at {
                            Some(at) => model[at].1 = text,
                            None => model.push((key, text)),
                        }
                        taken.clear();
                    }
                    2 => {
                        let before = model.clone();
                        let old = store.remove("s", &key);
                        prop_assert_eq!(old.as_ref().map(|old| old.value.clone()), at.map(|at| value(&model[at].1)));
                        if let (Some(at), Some(old)) = (at, old) {
                            model.remove(at);
                            taken.push((key, old, before));
                        }
                    }
                    // Undoing the last deletions brings back what was before them.
                    _ => if let Some((key, placed, before)) = taken.pop() {
                        store.restore("s", &key, Some(placed));
                        model = before;
                    },
                }
                prop_assert_eq!(listed(&store, "s"), model.clone());
                for key in 0..12u8 {
                    let key = key.to_string();
                    let expected = model.iter().find(|(known, _)| *known == key).map(|(_, text)| value(text));
                    prop_assert_eq!(store.get("s", &key).cloned(), expected);
                }
            }
        }
    }
}
