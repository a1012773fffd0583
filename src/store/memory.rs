//! What the log holds and the file does not have yet, sorted.
//!
//! Owner: the storage thread; once full it is frozen and shared with the merge thread. Pure. Invariant: `bytes` is the
//! sum of the sizes of the entries.

use super::batch::Operation;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;

/// Bytes counted for an entry beside its key and value: node, lengths, allocations.
const ENTRY_OVERHEAD: usize = 96;

/// What is known of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// `None` = deleted.
    pub(super) value: Option<Vec<u8>>,
    /// The file and older memories know nothing of the key, so deleting it leaves nothing to remember.
    fresh: bool,
}

/// Sorted changes.
#[derive(Debug, Default)]
pub(super) struct Memory {
    entries: BTreeMap<Vec<u8>, Entry>,
    bytes: usize,
}

impl Memory {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        self.entries.iter().map(|(key, entry)| (&**key, entry.value.as_deref()))
    }

    /// Entries from `start` on.
    pub(super) fn range<'a>(&'a self, start: &[u8]) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> {
        let from = (std::ops::Bound::Included(start), std::ops::Bound::Unbounded);
        self.entries.range::<[u8], _>(from).map(|(key, entry)| (&**key, entry.value.as_deref()))
    }

    /// `None` = nothing is known of the key here; `Some(None)` = it is deleted.
    pub(super) fn get(&self, key: &[u8]) -> Option<Option<&[u8]>> {
        self.entries.get(key).map(|entry| entry.value.as_deref())
    }

    pub(super) fn apply(&mut self, operation: Operation) {
        match operation {
            Operation::Put(key, value) => self.set(key, Some(value), false),
            Operation::Insert(key, value) => self.set(key, Some(value), true),
            Operation::Delete(key) => self.set(key, None, false),
        }
    }

    fn set(&mut self, key: Vec<u8>, value: Option<Vec<u8>>, unused: bool) {
        let key_bytes = key.len() + ENTRY_OVERHEAD;
        let value_bytes = |value: &Option<Vec<u8>>| value.as_ref().map_or(0, Vec::len);
        match self.entries.entry(key) {
            Slot::Vacant(slot) => {
                self.bytes += key_bytes + value_bytes(&value);
                slot.insert(Entry { value, fresh: unused });
            }
            Slot::Occupied(slot) if slot.get().fresh && value.is_none() => {
                self.bytes -= key_bytes + value_bytes(&slot.get().value);
                slot.remove();
            }
            Slot::Occupied(mut slot) => {
                self.bytes += value_bytes(&value);
                self.bytes -= value_bytes(&slot.get().value);
                slot.get_mut().value = value;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(operations: &[Operation], expected: &[(&str, Option<&str>)]) {
        let mut memory = Memory::default();
        operations.iter().for_each(|operation| memory.apply(operation.clone()));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let found: Vec<_> = memory.entries().map(|(key, value)| (text(key), value.map(text))).collect();
        let expected: Vec<_> =
            expected.iter().map(|(key, value)| ((*key).to_owned(), value.map(str::to_owned))).collect();
        assert_eq!(found, expected);
        let counted: usize =
            memory.entries().map(|(key, value)| key.len() + value.map_or(0, <[u8]>::len) + ENTRY_OVERHEAD).sum();
        assert_eq!(memory.bytes(), counted);
    }

    #[test]
    fn what_was_new_and_is_deleted_leaves_nothing() {
        let put = |key: &str, value: &str| Operation::Put(key.into(), value.into());
        let insert = |key: &str, value: &str| Operation::Insert(key.into(), value.into());
        let delete = |key: &str| Operation::Delete(key.into());
        check(&[put("a", "1"), put("a", "22")], &[("a", Some("22"))]);
        check(&[put("a", "1"), delete("a")], &[("a", None)]);
        check(&[insert("a", "1"), delete("a")], &[]);
        check(&[insert("a", "1"), put("a", "333"), delete("a"), insert("b", "")], &[("b", Some(""))]);
        check(&[delete("a"), put("a", "1")], &[("a", Some("1"))]);
        check(&[delete("a"), insert("a", "1"), delete("a")], &[("a", None)]);
    }
}
