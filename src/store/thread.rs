//! The storage thread: takes what has collected, writes it to the log as one group, then says so.
//!
//! Owner of the log and the memory. A full memory is frozen and given to the merge thread, which puts it into the file
//! while the log goes on. Two memories at most: when both are full, writing waits for the merge.

use super::base::Base;
use super::files;
use super::log::Log;
use super::memory::Memory;
use super::view::View;
use super::{Batch, Done, Durability, Read, StoreError};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Size at which a memory is merged into the file.
const MEMORY_BYTES_MAX: usize = if cfg!(test) { 8 << 10 } else { 12 << 20 };
/// Size at which a segment of the log is left for a new one.
const SEGMENT_BYTES_MAX: u64 = if cfg!(test) { 32 << 10 } else { 64 << 20 };
/// Most that is written with one sync.
const GROUP_BYTES_MAX: usize = 8 << 20;
/// How long a relaxed change may be unsynced.
const UNSYNCED_MAX: Duration = Duration::from_millis(500);
/// Pause after a failed merge.
const MERGE_PAUSE: Duration = Duration::from_secs(1);

/// What may be asked of the storage thread.
pub(super) enum Request {
    Write(Batch, Durability, Done),
    Read(Read),
    Close(Sender<Result<(), String>>),
}

/// A memory to be merged, and the last group it holds.
pub(super) struct Frozen {
    memory: Memory,
    last: u64,
}

/// Work for the merge thread.
pub(super) struct Merge {
    base: Arc<Base>,
    frozen: Arc<Frozen>,
}

pub(super) struct Storage {
    directory: PathBuf,
    requests: Receiver<Request>,
    /// Bytes in `requests`, given back when they are written.
    queued_bytes: Arc<AtomicUsize>,
    /// `None` = it failed and could not be opened again yet.
    base: Option<Arc<Base>>,
    log: Log,
    memory: Memory,
    frozen: Option<Arc<Frozen>>,
    merges: Sender<Merge>,
    merged: Receiver<Result<(), String>>,
    /// The merge thread is at work on `frozen`.
    merging: bool,
    /// Why the last merge failed, and when.
    merge_error: Option<(String, Instant)>,
    unsynced_since: Option<Instant>,
}

/// Runs on the merge thread until the storage thread is gone.
fn merge(merges: &Receiver<Merge>, merged: &Sender<Result<(), String>>) {
    while let Ok(Merge { base, frozen }) = merges.recv() {
        let outcome = base.merge(&frozen.memory, frozen.last);
        // The file must be closed before the storage thread can open it again.
        drop((base, frozen));
        if merged.send(outcome).is_err() {
            return;
        }
    }
}

impl Storage {
    /// Opens the store of a directory and starts its merge thread.
    pub(super) fn open(
        directory: &Path,
        requests: Receiver<Request>,
        queued_bytes: Arc<AtomicUsize>,
    ) -> Result<Storage, String> {
        std::fs::create_dir_all(directory).map_err(|error| files::failed("create", directory, &error))?;
        let base = Arc::new(Base::open(directory)?);
        let mut memory = Memory::default();
        let log = Log::open(directory, base.applied()?, |operation| memory.apply(operation))?;
        let (merges, work) = crossbeam_channel::bounded(1);
        let (done, merged) = crossbeam_channel::bounded(1);
        std::thread::Builder::new()
            .name("iii-merge".to_owned())
            .spawn(move || merge(&work, &done))
            .map_err(|error| format!("cannot start the merge thread: {error}"))?;
        Ok(Storage {
            directory: directory.to_owned(),
            requests,
            queued_bytes,
            base: Some(base),
            log,
            memory,
            frozen: None,
            merges,
            merged,
            merging: false,
            merge_error: None,
            unsynced_since: None,
        })
    }

    /// Runs until somebody closes the store.
    pub(super) fn run(mut self) {
        loop {
            let first = match self.unsynced_since {
                None => self.requests.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(since) => self.requests.recv_timeout(UNSYNCED_MAX.saturating_sub(since.elapsed())),
            };
            match first {
                Ok(first) => {
                    if let Some(answer) = self.turn(first) {
                        let closed = self.close();
                        // The directory is free before anybody is told.
                        drop(self);
                        let _ = answer.send(closed);
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) => self.sync(),
                Err(RecvTimeoutError::Disconnected) => {
                    if let Err(error) = self.close() {
                        tracing::error!("{error}");
                    }
                    return;
                }
            }
        }
    }

    /// One group. Some = to be closed.
    fn turn(&mut self, first: Request) -> Option<Sender<Result<(), String>>> {
        let mut group = Vec::new();
        let mut reads = Vec::new();
        let mut close = None;
        let (mut bytes, mut sync) = (0, false);
        let mut next = Some(first);
        while let Some(request) = next {
            match request {
                Request::Write(batch, durability, done) => {
                    bytes += batch.bytes();
                    sync |= durability == Durability::Full;
                    group.push((batch, done));
                }
                Request::Read(read) => reads.push(read),
                Request::Close(answer) => close = Some(answer),
            }
            next = if bytes < GROUP_BYTES_MAX && close.is_none() { self.requests.try_recv().ok() } else { None };
        }
        self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        if !group.is_empty() {
            self.write(group, sync);
        }
        if !reads.is_empty() {
            let frozen = self.frozen.as_deref().map(|frozen| &frozen.memory);
            let view = View { base: self.base.as_deref(), memories: [Some(&self.memory), frozen] };
            reads.into_iter().for_each(|read| read(&view));
        }
        if self.unsynced_since.is_some_and(|since| since.elapsed() >= UNSYNCED_MAX) {
            self.sync();
        }
        close
    }

    fn write(&mut self, group: Vec<(Batch, Done)>, sync: bool) {
        let operations = group.iter().flat_map(|(batch, _)| &batch.operations);
        let outcome = match self.make_room() {
            Err(error) => Err(StoreError::Failed(error)),
            Ok(()) => self.log.append(operations, sync).map_err(|error| StoreError::Failed(error.to_string())),
        };
        if let Err(error) = &outcome {
            tracing::error!("the store refused changes: {error}");
        } else if self.log.is_synced() {
            self.unsynced_since = None;
        } else {
            self.unsynced_since.get_or_insert_with(Instant::now);
        }
        for (batch, done) in group {
            if outcome.is_ok() {
                batch.operations.into_iter().for_each(|operation| self.memory.apply(operation));
            }
            done(outcome.clone());
        }
    }

    /// Freezes the memory when it is full or the segment is long. Fails when there is nowhere to put more.
    fn make_room(&mut self) -> Result<(), String> {
        loop {
            while let Ok(outcome) = self.merged.try_recv() {
                self.take_merged(outcome);
            }
            self.retry_merge();
            let full = self.memory.bytes() >= MEMORY_BYTES_MAX;
            if self.frozen.is_none() && (full || self.log.length() >= SEGMENT_BYTES_MAX) {
                self.log.rotate().map_err(|error| error.to_string())?;
                let memory = std::mem::take(&mut self.memory);
                self.frozen = Some(Arc::new(Frozen { memory, last: self.log.last() }));
                self.start_merge();
                return Ok(());
            }
            if !full || self.frozen.is_none() {
                return Ok(());
            }
            if !self.merging {
                return Err(self.merge_error.as_ref().map(|(error, _)| error.clone()).unwrap_or_default());
            }
            if let Ok(outcome) = self.merged.recv() {
                self.take_merged(outcome);
            }
        }
    }

    fn start_merge(&mut self) {
        if let (Some(base), Some(frozen)) = (&self.base, &self.frozen) {
            self.merging = self.merges.send(Merge { base: base.clone(), frozen: frozen.clone() }).is_ok();
        }
    }

    fn take_merged(&mut self, outcome: Result<(), String>) {
        self.merging = false;
        match outcome {
            Ok(()) => {
                self.merge_error = None;
                if let Some(frozen) = self.frozen.take() {
                    self.log.forget(frozen.last);
                }
            }
            Err(error) => {
                tracing::error!("{error}; the log grows until it works again");
                self.merge_error = Some((error, Instant::now()));
            }
        }
    }

    /// After an error the database wants to be opened anew.
    fn retry_merge(&mut self) {
        if self.merging || self.merge_error.as_ref().is_none_or(|(_, since)| since.elapsed() < MERGE_PAUSE) {
            return;
        }
        self.base = None;
        match Base::open(&self.directory) {
            Ok(base) => {
                self.base = Some(Arc::new(base));
                self.start_merge();
            }
            Err(error) => self.merge_error = Some((error, Instant::now())),
        }
    }

    fn sync(&mut self) {
        self.unsynced_since = None;
        if let Err(error) = self.log.sync() {
            tracing::error!("cannot sync the log of the store: {error}");
        }
    }

    fn close(&mut self) -> Result<(), String> {
        while let Ok(request) = self.requests.try_recv() {
            match request {
                Request::Write(_, _, done) => done(Err(StoreError::Closed)),
                Request::Read(read) => drop(read),
                Request::Close(answer) => drop(answer.send(Ok(()))),
            }
        }
        if self.merging
            && let Ok(outcome) = self.merged.recv()
        {
            self.take_merged(outcome);
        }
        self.log.sync().map_err(|error| format!("cannot sync the log of the store: {error}"))
    }
}
