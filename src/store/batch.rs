//! What is written together, and the tables it is written to.

/// One of the tables of a store. Keys are sorted by their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Table(u8);

impl Table {
    /// Counters and settings of the queue worker.
    pub const QUEUE_META: Table = Table(1);
    /// Messages of queues.
    pub const QUEUE_MESSAGES: Table = Table(2);
    /// What is known of messages that have been tried, delayed or given up.
    pub const QUEUE_STATES: Table = Table(3);
    /// Values of `iii-state`.
    pub const STATE: Table = Table(10);
    /// Items of `iii-stream`.
    pub const STREAM: Table = Table(11);
    /// Values set at run time.
    pub const CONFIGURATION: Table = Table(12);
    /// What `iii-cron` remembers of its jobs.
    pub const CRON: Table = Table(13);

    pub(super) fn key(self, key: &[u8]) -> Vec<u8> {
        let mut full = Vec::with_capacity(1 + key.len());
        full.push(self.0);
        full.extend_from_slice(key);
        full
    }
}

/// One change. Keys begin with the byte of their table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Operation {
    /// Sets a value.
    Put(Vec<u8>, Vec<u8>),
    /// Sets the value of a key that has never been used. If it is deleted soon, the file never sees it.
    Insert(Vec<u8>, Vec<u8>),
    /// Removes a key, there or not.
    Delete(Vec<u8>),
}

impl Operation {
    pub(super) fn bytes(&self) -> usize {
        match self {
            Operation::Put(key, value) | Operation::Insert(key, value) => key.len() + value.len(),
            Operation::Delete(key) => key.len(),
        }
    }
}

/// Changes that are made together or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    pub(super) operations: Vec<Operation>,
}

impl Batch {
    /// No change yet.
    pub fn new() -> Batch {
        Batch::default()
    }

    /// Sets a value.
    pub fn put(&mut self, table: Table, key: &[u8], value: impl Into<Vec<u8>>) -> &mut Batch {
        self.operations.push(Operation::Put(table.key(key), value.into()));
        self
    }

    /// Sets the value of a key that has never been used before, not even for something since deleted.
    pub fn insert(&mut self, table: Table, key: &[u8], value: impl Into<Vec<u8>>) -> &mut Batch {
        self.operations.push(Operation::Insert(table.key(key), value.into()));
        self
    }

    /// Removes a key, there or not.
    pub fn delete(&mut self, table: Table, key: &[u8]) -> &mut Batch {
        self.operations.push(Operation::Delete(table.key(key)));
        self
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    pub(super) fn bytes(&self) -> usize {
        self.operations.iter().map(Operation::bytes).sum()
    }
}
