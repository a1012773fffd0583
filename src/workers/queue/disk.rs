//! What the queue worker keeps in the store, and how it gets back. Everything here returns at once.
//!
//! Keys: `length of the line's name u16 · name · sequence number u64`, big-endian, so a line is one range in order.

use super::Letter;
use super::job::{Dead, Job};
use crate::store::{Batch, Durability, Store, StoreError, Table};
use iii_shards::builtin::Mailbox;
use serde::{Deserialize, Serialize};

/// Messages and bytes read at a time.
const REFILL_MAX: usize = 512;
const REFILL_BYTES: usize = 2 << 20;
/// Messages counted at a time.
const COUNT_MAX: usize = 4096;
/// Sequence numbers set aside at a time, so that one is never used twice.
pub const RESERVED: u64 = 1 << 20;

/// The store, for one instance.
pub struct Disk {
    /// Where messages are.
    pub store: Store,
    /// When a message counts as accepted.
    pub durability: Durability,
    /// Where answers go.
    pub mailbox: Mailbox,
}

/// What is remembered of a line.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LineRecord {
    /// Queue or topic.
    pub name: String,
    /// Namespace and function of a topic's destination.
    #[serde(default)]
    pub target: Option<(String, String)>,
    /// What a topic has collected before anybody subscribed.
    #[serde(default)]
    pub held: bool,
    /// The destination no longer collects.
    #[serde(default)]
    pub retired: bool,
    /// Sequence numbers below may have been used.
    pub reserved: u64,
}

fn prefix(line: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(line.len() + 10);
    key.extend_from_slice(&(line.len() as u16).to_be_bytes());
    key.extend_from_slice(line.as_bytes());
    key
}

fn key(line: &str, seq: u64) -> Vec<u8> {
    let mut key = prefix(line);
    key.extend_from_slice(&seq.to_be_bytes());
    key
}

fn seq_of(key: &[u8]) -> u64 {
    key.last_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// Changes to lines that belong together.
#[derive(Default)]
pub struct Changes(Batch);

impl Changes {
    /// A new message.
    pub fn insert(&mut self, line: &str, job: &Job) {
        self.0.insert(Table::QUEUE_MESSAGES, &key(line, job.seq), job.record());
    }

    /// A message has been tried.
    pub fn update(&mut self, line: &str, job: &Job) {
        self.0.put(Table::QUEUE_MESSAGES, &key(line, job.seq), job.record());
    }

    /// A message is done.
    pub fn remove(&mut self, line: &str, seq: u64) {
        self.0.delete(Table::QUEUE_MESSAGES, &key(line, seq));
    }

    /// A message is given up.
    pub fn bury(&mut self, line: &str, dead: &Dead) {
        self.remove(line, dead.job.seq);
        self.0.put(Table::QUEUE_STATES, &key(line, dead.job.seq), dead.record());
    }

    /// A dead letter is gone.
    pub fn unbury(&mut self, line: &str, seq: u64) {
        self.0.delete(Table::QUEUE_STATES, &key(line, seq));
    }

    /// What is remembered of a line.
    pub fn describe(&mut self, line: &str, record: &LineRecord) {
        // Strings and numbers: writing them to memory cannot fail.
        let text = serde_json::to_vec(record).expect("a record can be written");
        self.0.put(Table::QUEUE_META, line.as_bytes(), text);
    }
}

impl Disk {
    /// Makes changes; [`Letter::Stored`] says when they are safe.
    pub fn write(&self, changes: Changes, ticket: u64) {
        let mailbox = self.mailbox.clone();
        self.store.write(changes.0, self.durability, move |outcome| {
            mailbox.post(Box::new(Letter::Stored(ticket, outcome.map_err(|error| error.to_string()))));
        });
    }

    /// Makes changes that nobody waits for: lost, they cost a second delivery.
    pub fn note(&self, changes: Changes) {
        if changes.0.is_empty() {
            return;
        }
        self.store.write(changes.0, Durability::Relaxed, |outcome| match outcome {
            Ok(()) | Err(StoreError::Closed) => {}
            Err(error) => tracing::warn!("a message may be delivered again: {error}"),
        });
    }

    /// Reads messages of a line from `from` on; they come as [`Letter::Refilled`].
    pub fn refill(&self, line: usize, name: &str, from: u64) -> bool {
        let (mailbox, prefix, start) = (self.mailbox.clone(), prefix(name), key(name, from));
        let job = move |view: &crate::store::View<'_>| {
            let (mut records, mut bytes) = (Vec::new(), 0);
            let mut end = true;
            let read = view.scan(Table::QUEUE_MESSAGES, &prefix, &start, |key, value| {
                if records.len() == REFILL_MAX || bytes > REFILL_BYTES {
                    end = false;
                    return false;
                }
                bytes += value.len();
                records.push((seq_of(key), value.to_vec()));
                true
            });
            if let Err(error) = read {
                tracing::error!("{error}");
            }
            mailbox.post(Box::new(Letter::Refilled { line, records, end }));
        };
        self.store.read(job).is_ok()
    }

    /// Numbers of the messages of a line from `from` to below `until`; they come as [`Letter::Counted`].
    pub fn count(&self, line: usize, name: &str, from: u64, until: u64) {
        let (mailbox, prefix, start) = (self.mailbox.clone(), prefix(name), key(name, from));
        let _ = self.store.read(move |view| {
            let mut seqs = Vec::new();
            let mut more = false;
            let read = view.scan(Table::QUEUE_MESSAGES, &prefix, &start, |key, _| {
                let seq = seq_of(key);
                more = seq < until && seqs.len() == COUNT_MAX;
                let taken = seq < until && !more;
                if taken {
                    seqs.push(seq);
                }
                taken
            });
            if let Err(error) = read {
                tracing::error!("{error}");
            }
            mailbox.post(Box::new(Letter::Counted { line, seqs, until, more }));
        });
    }

    /// All lines there are. Waits for the disk: for starting.
    pub fn lines(&self) -> Result<Vec<(String, LineRecord)>, String> {
        let mut lines = Vec::new();
        self.store.load(Table::QUEUE_META, b"", |key, value| {
            let record = serde_json::from_slice(value).ok();
            if let (Ok(name), Some(record)) = (String::from_utf8(key.to_vec()), record) {
                lines.push((name, record));
            }
        })?;
        Ok(lines)
    }

    /// The dead letters of a line. Waits for the disk: for starting.
    pub fn dead(&self, line: &str) -> Result<Vec<Dead>, String> {
        let mut dead = Vec::new();
        self.store.load(Table::QUEUE_STATES, &prefix(line), |key, value| {
            dead.extend(Dead::of_record(seq_of(key), value));
        })?;
        dead.sort_by_key(|dead: &Dead| dead.end.failed_ms);
        Ok(dead)
    }
}
