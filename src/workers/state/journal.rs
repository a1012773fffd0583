//! Making changes durable before anybody hears of them.
//!
//! Memory is changed at once, in the order of the calls; what follows from a change (its answer, its events, answers of
//! reads that have seen it) waits in a group until the embedded store has it. One group is under way at a time, and
//! what comes meanwhile collects in the next: a key may be changed many times per group, and costs one entry.
//!
//! A group is stored whole or not at all. If it is not, memory goes back to what it was before, and all who waited get
//! the error: those of the next group too, since it was built on what is gone.

use super::changes::Notice;
use super::request::Function;
use super::store::{Placed, Store};
use crate::store::{Batch, Durability, Store as Disk, StoreError, Table};
use iii_shards::builtin::{CallId, Mailbox};
use std::collections::HashMap;
use std::path::Path;

/// Bytes of changes that may wait for the store on one shard. One change always fits.
const GROUP_BYTES_MAX: usize = 32 << 20;
/// First byte of the keys of values.
const VALUES: u8 = 1;

/// The way from one shard to the embedded store.
pub struct Journal {
    disk: Disk,
    mailbox: Mailbox,
    under_way: Option<Group>,
    next: Group,
}

/// Changes that are stored together.
#[derive(Default)]
pub struct Group {
    /// Keys by scope, each with what it was before the group.
    before: HashMap<Box<str>, HashMap<Box<str>, Option<Placed>>>,
    /// What waits for the group, in order.
    pub ends: Vec<End>,
    bytes: usize,
}

/// What follows once changes are durable.
pub struct End {
    /// The call to answer.
    pub call: CallId,
    /// What it called.
    pub function: Function,
    /// The answer.
    pub answer: Box<[u8]>,
    /// Events to send.
    pub notice: Option<Notice>,
}

/// The store has spoken about the group under way.
pub struct Committed(pub Result<(), StoreError>);

// === impl Journal ===

impl Journal {
    /// A journal with nothing in it; `mailbox` is the shard's own.
    pub fn new(disk: Disk, mailbox: Mailbox) -> Journal {
        Journal { disk, mailbox, under_way: None, next: Group::default() }
    }

    /// Where the store lies.
    pub fn directory(&self) -> &Path {
        self.disk.directory()
    }

    /// Whether another change may wait.
    pub fn has_room(&self) -> bool {
        self.next.bytes < GROUP_BYTES_MAX
    }

    /// Notes a change that memory has taken: the key's value before it, and what follows from it.
    pub fn add(&mut self, scope: &str, key: &str, before: Option<Placed>, bytes: usize, end: End) {
        self.next.bytes += scope.len() + key.len() + bytes;
        let keys = match self.next.before.get_mut(scope) {
            Some(keys) => keys,
            None => self.next.before.entry(scope.into()).or_default(),
        };
        if !keys.contains_key(key) {
            keys.insert(key.into(), before);
        }
        self.next.ends.push(end);
    }

    /// The last group with changes of a key, or of any key of a scope: who has seen them waits for it.
    pub fn group_of(&mut self, scope: &str, key: Option<&str>) -> Option<&mut Group> {
        let holds =
            |group: &Group| group.before.get(scope).is_some_and(|keys| key.is_none_or(|key| keys.contains_key(key)));
        if holds(&self.next) {
            return Some(&mut self.next);
        }
        self.under_way.as_mut().filter(|group| holds(group))
    }

    /// Gives the next group to the store, unless one is under way.
    pub fn submit(&mut self, memory: &Store) {
        if self.under_way.is_some() || self.next.before.is_empty() {
            return;
        }
        let group = std::mem::take(&mut self.next);
        self.write(&group, memory);
        self.under_way = Some(group);
    }

    /// The engine stops: everything is given to the store, which writes it before it closes.
    pub fn flush(&mut self, memory: &Store) {
        let group = std::mem::take(&mut self.next);
        if !group.before.is_empty() {
            self.write(&group, memory);
        }
    }

    fn write(&self, group: &Group, memory: &Store) {
        let mut batch = Batch::new();
        for (scope, keys) in &group.before {
            for key in keys.keys() {
                let disk_key = disk_key(scope, key);
                match memory.placed(scope, key) {
                    Some((order, value)) => {
                        batch.put(Table::STATE, &disk_key, [&order.to_be_bytes(), &**value].concat());
                    }
                    None => {
                        batch.delete(Table::STATE, &disk_key);
                    }
                }
            }
        }
        let mailbox = self.mailbox.clone();
        self.disk.write(batch, Durability::Full, move |outcome| mailbox.post(Box::new(Committed(outcome))));
    }

    /// The group under way is stored, or is not: memory goes back then. Returns who has waited, and why it failed.
    /// `Err` = the store has no room now; try [`Journal::submit`] again in a moment.
    pub fn committed(&mut self, outcome: Result<(), StoreError>, memory: &mut Store) -> Result<Released, Retry> {
        let Some(group) = self.under_way.take() else { return Ok((Vec::new(), None)) };
        match outcome {
            Ok(()) => Ok((group.ends, None)),
            Err(StoreError::Busy) => {
                let later = std::mem::replace(&mut self.next, group);
                self.next.append(later);
                Err(Retry)
            }
            Err(error) => {
                let later = std::mem::take(&mut self.next);
                let mut ends = group.ends;
                for before in [later.before, group.before] {
                    for (scope, keys) in before {
                        for (key, placed) in keys {
                            memory.restore(&scope, &key, placed);
                        }
                    }
                }
                ends.extend(later.ends);
                Ok((ends, Some(error)))
            }
        }
    }
}

/// Who has waited, and the error if what they waited for was not stored.
pub type Released = (Vec<End>, Option<StoreError>);

/// The store has no room now.
#[derive(Debug)]
pub struct Retry;

impl Group {
    /// Takes in a later group.
    fn append(&mut self, later: Group) {
        for (scope, keys) in later.before {
            let known = self.before.entry(scope).or_default();
            for (key, before) in keys {
                known.entry(key).or_insert(before);
            }
        }
        self.ends.extend(later.ends);
        self.bytes += later.bytes;
    }
}

// === what the store holds ===

/// One stored value.
#[derive(Debug, PartialEq, Eq)]
pub struct Stored {
    pub scope: String,
    pub key: String,
    pub order: u64,
    /// JSON text.
    pub value: Vec<u8>,
}

impl Stored {
    /// As an entry of the embedded store.
    pub fn entry(&self) -> (Vec<u8>, Vec<u8>) {
        (disk_key(&self.scope, &self.key), [&self.order.to_be_bytes(), &*self.value].concat())
    }
}

fn disk_key(scope: &str, key: &str) -> Vec<u8> {
    // The length comes first: a scope and a key together could be split in more than one place.
    [&[VALUES], &(scope.len() as u32).to_be_bytes()[..], scope.as_bytes(), key.as_bytes()].concat()
}

/// Everything the embedded store holds of this worker. Waits for it.
pub fn load(disk: &Disk) -> Result<Vec<Stored>, String> {
    let mut all = Vec::new();
    let mut damaged = 0usize;
    disk.load(Table::STATE, &[VALUES], |key, entry| match decode(key, entry) {
        Some(stored) => all.push(stored),
        None => damaged += 1,
    })?;
    if damaged > 0 {
        return Err(format!("{damaged} values in {} are damaged", disk.directory().display()));
    }
    all.sort_unstable_by_key(|stored| stored.order);
    Ok(all)
}

fn decode(key: &[u8], entry: &[u8]) -> Option<Stored> {
    let (length, names) = key.strip_prefix(&[VALUES])?.split_first_chunk::<4>()?;
    let (scope, key) = names.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    let (order, value) = entry.split_first_chunk::<8>()?;
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
    Some(Stored { scope: text(scope)?, key: text(key)?, order: u64::from_be_bytes(*order), value: value.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back() {
        for (scope, key) in [("", ""), ("a", "bc"), ("ab", "c"), ("é", "\u{0}")] {
            let stored = Stored { scope: scope.to_owned(), key: key.to_owned(), order: 7, value: b"[1]".to_vec() };
            let (key, entry) = stored.entry();
            assert_eq!(decode(&key, &entry), Some(stored));
        }
        assert_ne!(disk_key("a", "bc"), disk_key("ab", "c"));
        assert_eq!(decode(&[VALUES, 0, 0, 0, 9, b'a'], &[0; 8]), None);
    }
}
