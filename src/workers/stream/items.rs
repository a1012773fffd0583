//! The items of one group, in memory, in the order of their first insertion.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Items by id and by age. A value is its JSON text, as it was given.
#[derive(Debug, Default)]
pub struct Items {
    ages: HashMap<Arc<str>, u64>,
    items: BTreeMap<u64, (Arc<str>, Box<[u8]>)>,
    next_age: u64,
}

impl Items {
    /// Value of an item.
    pub fn get(&self, id: &str) -> Option<&[u8]> {
        let age = self.ages.get(id)?;
        self.items.get(age).map(|(_, value)| &**value)
    }

    /// Stores a value; returns the one before. An item that is there keeps its place.
    pub fn set(&mut self, id: &str, value: Box<[u8]>) -> Option<Box<[u8]>> {
        if let Some((_, place)) = self.ages.get(id).and_then(|age| self.items.get_mut(age)) {
            return Some(std::mem::replace(place, value));
        }
        let id: Arc<str> = id.into();
        self.ages.insert(id.clone(), self.next_age);
        self.items.insert(self.next_age, (id, value));
        self.next_age += 1;
        None
    }

    /// Removes an item; returns its value.
    pub fn remove(&mut self, id: &str) -> Option<Box<[u8]>> {
        let age = self.ages.remove(id)?;
        self.items.remove(&age).map(|(_, value)| value)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Ids and values, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.items.values().map(|(id, value)| (&**id, &**value))
    }

    /// The values as a JSON array (STREAM-10).
    pub fn list(&self) -> Vec<u8> {
        let mut out = vec![b'['];
        for (_, value) in self.iter() {
            if out.len() > 1 {
                out.push(b',');
            }
            out.extend_from_slice(value);
        }
        out.push(b']');
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Box<[u8]> {
        text.as_bytes().into()
    }

    // STREAM-10: insertion order; overwriting keeps the place, removing loses it (STATE-24).
    #[test]
    fn order_is_that_of_first_insertion() {
        let mut items = Items::default();
        assert_eq!(items.list(), b"[]");
        for (id, text) in [("b", "1"), ("a", "2"), ("c", "null")] {
            assert_eq!(items.set(id, value(text)), None);
        }
        assert_eq!(items.set("b", value("9")).as_deref(), Some(&b"1"[..]));
        assert_eq!(items.list(), b"[9,2,null]");
        assert_eq!(items.remove("b").as_deref(), Some(&b"9"[..]));
        assert_eq!(items.remove("b"), None);
        items.set("b", value("3"));
        assert_eq!(items.list(), b"[2,null,3]");
        assert_eq!(items.get("c"), Some(&b"null"[..]));
        assert_eq!(items.get("x"), None);
        assert!(!items.is_empty());
    }
}
