//! Starting with what is on disk: the embedded store, and the first time what another engine has left.

use super::import;
use super::journal::{self, Stored};
use crate::config::settings::KvSettings;
use crate::store::{Batch, Durability, Store, Table};
use iii_shards::builtin::{Host, key_of};
use std::path::Path;
#[allow(clippy::disallowed_types, reason = "locked once per shard, before it serves")]
use std::sync::Mutex;

/// Where the embedded store lies inside the configured directory, beside files of other engines (STATE-DB-14).
const SUBDIRECTORY: &str = "state";
/// Key that says that the files of another engine have been imported.
const IMPORTED: &[u8] = &[0];
/// Values written at a time by an import.
const IMPORT_BATCH: usize = 1000;

/// The store, and what it held at start until the shards have taken it.
pub struct Start {
    /// The store.
    pub disk: Store,
    #[allow(clippy::disallowed_types, reason = "locked once per shard, before it serves")]
    stored: Mutex<Vec<Stored>>,
}

impl Start {
    /// Opens the store of a directory and reads it. Waits for the disk.
    pub fn open(kv: &KvSettings) -> Result<Start, String> {
        let directory = Path::new(&kv.file_path);
        let disk = Store::open(&directory.join(SUBDIRECTORY))?;
        import_once(&disk, directory)?;
        #[allow(clippy::disallowed_types, reason = "locked once per shard, before it serves")]
        let stored = Mutex::new(journal::load(&disk)?);
        Ok(Start { disk, stored })
    }

    /// Takes what belongs to the host's shard.
    pub fn take(&self, host: &dyn Host) -> Vec<Stored> {
        let Ok(mut all) = self.stored.lock() else { return Vec::new() };
        let (own, others) = std::mem::take(&mut *all)
            .into_iter()
            .partition(|stored| host.home_of(key_of(&stored.scope)) == host.shard());
        *all = others;
        own
    }
}

fn import_once(disk: &Store, directory: &Path) -> Result<(), String> {
    let mut imported = false;
    disk.load(Table::STATE, IMPORTED, |_, _| imported = true)?;
    if imported {
        return Ok(());
    }
    let mut order = 0;
    let mut values = Vec::new();
    for scope in import::read_directory(directory) {
        for (key, value) in scope.entries {
            order += 1;
            values.push(Stored { scope: scope.name.clone(), key, order, value });
        }
    }
    for values in values.chunks(IMPORT_BATCH) {
        let mut batch = Batch::new();
        for (key, entry) in values.iter().map(Stored::entry) {
            batch.put(Table::STATE, &key, entry);
        }
        write(disk, batch)?;
    }
    // Last: an import that was cut short is done again.
    let mut batch = Batch::new();
    batch.put(Table::STATE, IMPORTED, b"1".to_vec());
    write(disk, batch)?;
    if !values.is_empty() {
        tracing::info!("iii-state: {} values imported from {}", values.len(), directory.display());
    }
    Ok(())
}

fn write(disk: &Store, batch: Batch) -> Result<(), String> {
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    disk.write(batch, Durability::Full, move |outcome| drop(sender.send(outcome)));
    let outcome = receiver.recv().map_err(|_| "the storage thread has ended".to_owned())?;
    outcome.map_err(|error| error.to_string())
}
