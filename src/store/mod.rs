//! The embedded store: what must outlive the engine, for all built-in workers that keep something.
//!
//! A store is a directory. Writes go to its storage thread, which appends what has collected to a log with one sync
//! and then says so; a second thread moves what the log holds into a redb database, so that memory stays small.
//! Sorted tables of bytes, changes in atomic batches, no transactions beyond that: who owns a key is decided by
//! shard, so nobody reads in order to write.
//!
//! Shards never wait: [`Store::write`] and [`Store::read`] return at once, and what comes of them arrives by a callback
//! on the storage thread, which posts it to a [`iii_shards::builtin::Mailbox`].

mod base;
mod batch;
mod files;
mod log;
mod memory;
mod thread;
mod view;

#[cfg(test)]
mod tests;

pub use batch::{Batch, Table};
pub use view::View;

use crossbeam_channel::{Receiver, Sender, TrySendError};
use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
#[allow(clippy::disallowed_types, reason = "opening and closing stores happens before and after shards run")]
use std::sync::{Arc, LazyLock, Mutex};
use thread::{Request, Storage};

/// Writes and reads that may wait for the storage thread.
const REQUESTS_MAX: usize = 1 << 16;
/// Bytes that may wait for the storage thread.
const QUEUED_BYTES_MAX: usize = 64 << 20;
/// Bytes handed over at a time by [`Store::load`].
const LOAD_BYTES: usize = 1 << 20;

/// When a change counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// When it is on stable storage.
    #[default]
    Full,
    /// When the operating system has it: safe if the engine dies, and on stable storage within half a second.
    Relaxed,
}

/// Why a change was not made. It is as if it had not been asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreError {
    /// More is waiting to be written than may wait.
    Busy,
    /// The disk said no.
    Failed(String),
    /// The engine stops.
    Closed,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Busy => f.write_str("too much is waiting to be written"),
            StoreError::Failed(error) => write!(f, "cannot write to the store: {error}"),
            StoreError::Closed => f.write_str("the store is closed"),
        }
    }
}

type Done = Box<dyn FnOnce(Result<(), StoreError>) + Send>;
type Read = Box<dyn FnOnce(&View<'_>) + Send>;

/// A handle on a store; clones reach the same one, from any thread.
#[derive(Clone)]
pub struct Store {
    directory: Arc<Path>,
    requests: Sender<Request>,
    queued_bytes: Arc<AtomicUsize>,
}

/// Stores of this process, by directory.
#[allow(clippy::disallowed_types, reason = "opening and closing stores happens before and after shards run")]
static OPEN: LazyLock<Mutex<HashMap<PathBuf, Store>>> = LazyLock::new(Mutex::default);

impl Store {
    /// Opens the store of a directory, or makes it. Workers that name the same directory share one store; another
    /// process that has it open, and damage, are errors of one line.
    pub fn open(directory: &Path) -> Result<Store, String> {
        std::fs::create_dir_all(directory).map_err(|error| files::failed("create", directory, &error))?;
        let directory = directory.canonicalize().map_err(|error| files::failed("open", directory, &error))?;
        let mut open = OPEN.lock().map_err(|_| "opening another store panicked".to_owned())?;
        if let Some(store) = open.get(&directory) {
            return Ok(store.clone());
        }
        let (sender, requests) = crossbeam_channel::bounded(REQUESTS_MAX);
        let queued_bytes = Arc::new(AtomicUsize::new(0));
        let storage = Storage::open(&directory, requests, queued_bytes.clone())?;
        std::thread::Builder::new()
            .name("iii-storage".to_owned())
            .spawn(move || storage.run())
            .map_err(|error| format!("cannot start the storage thread: {error}"))?;
        let store = Store { directory: directory.as_path().into(), requests: sender, queued_bytes };
        open.insert(directory, store.clone());
        Ok(store)
    }

    /// Makes the changes of a batch. `done` runs once: on the storage thread, in the order of the writes, or at once if
    /// the store is closed or has too much waiting.
    pub fn write(
        &self,
        batch: Batch,
        durability: Durability,
        done: impl FnOnce(Result<(), StoreError>) + Send + 'static,
    ) {
        let bytes = batch.bytes();
        if self.queued_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > QUEUED_BYTES_MAX.max(bytes) {
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return done(Err(StoreError::Busy));
        }
        let (request, error) = match self.requests.try_send(Request::Write(batch, durability, Box::new(done))) {
            Ok(()) => return,
            Err(TrySendError::Full(request)) => (request, StoreError::Busy),
            Err(TrySendError::Disconnected(request)) => (request, StoreError::Closed),
        };
        self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        if let Request::Write(_, _, done) = request {
            done(Err(error));
        }
    }

    /// Runs `job` on the storage thread; it sees every change written before. Short jobs: writes wait behind them.
    /// `Err` = too much is waiting, or the store is closed; the job is dropped.
    pub fn read(&self, job: impl FnOnce(&View<'_>) + Send + 'static) -> Result<(), StoreError> {
        self.requests.try_send(Request::Read(Box::new(job))).map_err(|error| match error {
            TrySendError::Full(_) => StoreError::Busy,
            TrySendError::Disconnected(_) => StoreError::Closed,
        })
    }

    /// Runs `each` on every entry whose key begins with `prefix`, in the order of the keys, and waits for it: for
    /// starting, not for shards at work.
    pub fn load(&self, table: Table, prefix: &[u8], mut each: impl FnMut(&[u8], &[u8])) -> Result<(), String> {
        let mut start = prefix.to_vec();
        loop {
            let (sender, receiver) = crossbeam_channel::bounded(1);
            let (prefix, from) = (prefix.to_vec(), start.clone());
            let job = move |view: &View<'_>| {
                let mut entries = Vec::new();
                let mut bytes = 0;
                let read = view.scan(table, &prefix, &from, |key, value| {
                    bytes += key.len() + value.len();
                    entries.push((key.to_vec(), value.to_vec()));
                    bytes < LOAD_BYTES
                });
                let _ = sender.send(read.map(|()| (entries, bytes >= LOAD_BYTES)));
            };
            self.read(job).map_err(|error| error.to_string())?;
            let (entries, more) = receiver.recv().map_err(|_| StoreError::Closed.to_string())??;
            entries.iter().for_each(|(key, value)| each(key, value));
            match entries.last() {
                Some((last, _)) if more => {
                    start.clone_from(last);
                    start.push(0);
                }
                _ => return Ok(()),
            }
        }
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Writes down what is waiting and gives the directory free. Later writes, of any handle, fail.
    pub fn close(&self) -> Result<(), String> {
        let mut open = OPEN.lock().map_err(|_| "opening another store panicked".to_owned())?;
        open.remove(&*self.directory);
        let (sender, receiver): (Sender<_>, Receiver<_>) = crossbeam_channel::bounded(1);
        if self.requests.send(Request::Close(sender)).is_err() {
            return Ok(());
        }
        receiver.recv().unwrap_or_else(|_| Err("the storage thread has ended".to_owned()))
    }
}

/// Closes every store, for the end of the engine.
pub fn close_all() {
    let stores: Vec<Store> = OPEN.lock().map(|open| open.values().cloned().collect()).unwrap_or_default();
    for store in stores {
        if let Err(error) = store.close() {
            tracing::error!("closing the store in {}: {error}", store.directory().display());
        }
    }
}
