//! The file: everything that has left the log, in one redb database.
//!
//! Owner: the merge thread writes, the storage thread reads.

use super::files;
use super::memory::Memory;
use redb::{Builder, Database, DatabaseError, ReadableDatabase, TableDefinition};
use std::path::{Path, PathBuf};

/// Layout of keys, values and the log. A higher one is of a newer engine.
const FORMAT: u64 = 1;
const CACHE_BYTES: usize = 16 << 20;
const DATA: TableDefinition<&[u8], &[u8]> = TableDefinition::new("data");
const ABOUT: TableDefinition<&str, u64> = TableDefinition::new("about");

/// The database file of a store. Held open, it keeps other processes out.
pub(super) struct Base {
    path: PathBuf,
    database: Database,
}

impl Base {
    /// Opens the file of a directory, or makes it if there is none and no log either.
    pub(super) fn open(directory: &Path) -> Result<Base, String> {
        let path = directory.join("store.redb");
        if !path.try_exists().map_err(|error| files::failed("read", &path, &error))? {
            Self::create(directory, &path)?;
        }
        let database = builder().open(&path).map_err(|error| describe(directory, &path, error))?;
        let base = Base { path, database };
        let format = base.about("format").map_err(|error| base.broken(&error))?;
        match format {
            Some(FORMAT) => Ok(base),
            Some(newer) if newer > FORMAT => Err(format!(
                "the store in {} has format {newer}, and this version knows {FORMAT}: use a newer version of the engine",
                directory.display()
            )),
            _ => Err(base.broken("it has no format number")),
        }
    }

    /// Under another name first: a half-made file would look like a damaged one.
    fn create(directory: &Path, path: &Path) -> Result<(), String> {
        let orphan = std::fs::read_dir(directory)
            .map_err(|error| files::failed("read", directory, &error))?
            .flatten()
            .any(|entry| entry.file_name().to_string_lossy().starts_with("log-"));
        if orphan {
            return Err(format!(
                "the store is damaged: {} is missing beside its log; nothing has been changed. Restore the directory \
                 from a backup, or move it away to begin anew",
                path.display()
            ));
        }
        let draft = path.with_extension("new");
        let _ = std::fs::remove_file(&draft);
        let make = || -> Result<(), redb::Error> {
            let database = builder().create(&draft)?;
            let transaction = database.begin_write()?;
            transaction.open_table(DATA)?;
            transaction.open_table(ABOUT)?.insert("format", FORMAT)?;
            transaction.commit()?;
            Ok(())
        };
        make().map_err(|error| format!("cannot create a store in {}: {error}", directory.display()))?;
        std::fs::rename(&draft, path)
            .and_then(|()| files::sync_directory(path))
            .map_err(|error| files::failed("write to", directory, &error))
    }

    /// Number of the last group of the log that is in the file.
    pub(super) fn applied(&self) -> Result<u64, String> {
        self.about("applied").map(Option::unwrap_or_default).map_err(|error| self.broken(&error))
    }

    /// Takes in what a memory holds; it ends with group `last` of the log.
    pub(super) fn merge(&self, memory: &Memory, last: u64) -> Result<(), String> {
        let run = || -> Result<(), redb::Error> {
            let transaction = self.database.begin_write()?;
            {
                let mut data = transaction.open_table(DATA)?;
                for (key, value) in memory.entries() {
                    match value {
                        Some(value) => data.insert(key, value)?,
                        None => data.remove(key)?,
                    };
                }
                transaction.open_table(ABOUT)?.insert("applied", last)?;
            }
            Ok(transaction.commit()?)
        };
        run().map_err(|error| format!("cannot write to {}: {error}", self.path.display()))
    }

    /// Runs `each` on entries from `start` on until it says stop.
    pub(super) fn range(&self, start: &[u8], mut each: impl FnMut(&[u8], &[u8]) -> bool) -> Result<(), String> {
        let mut run = || -> Result<(), redb::Error> {
            let data = self.database.begin_read()?.open_table(DATA)?;
            for entry in data.range(start..)? {
                let (key, value) = entry?;
                if !each(key.value(), value.value()) {
                    break;
                }
            }
            Ok(())
        };
        run().map_err(|error| self.broken(&error.to_string()))
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, String> {
        let run = || -> Result<Option<Vec<u8>>, redb::Error> {
            let data = self.database.begin_read()?.open_table(DATA)?;
            Ok(data.get(key)?.map(|value| value.value().to_vec()))
        };
        run().map_err(|error| self.broken(&error.to_string()))
    }

    fn about(&self, name: &str) -> Result<Option<u64>, String> {
        let run = || -> Result<Option<u64>, redb::Error> {
            Ok(self.database.begin_read()?.open_table(ABOUT)?.get(name)?.map(|value| value.value()))
        };
        run().map_err(|error| error.to_string())
    }

    fn broken(&self, error: &str) -> String {
        damaged(&self.path, error)
    }
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

fn describe(directory: &Path, path: &Path, error: DatabaseError) -> String {
    match error {
        DatabaseError::DatabaseAlreadyOpen => {
            format!("the store in {} is in use by another engine: give each its own directory", directory.display())
        }
        DatabaseError::Storage(redb::StorageError::Io(error)) if error.kind() != std::io::ErrorKind::InvalidData => {
            files::failed("open", path, &error)
        }
        other => damaged(path, &other.to_string()),
    }
}

fn damaged(path: &Path, error: &str) -> String {
    format!(
        "the store is damaged: {}: {error}; nothing has been changed. Restore the directory from a backup, or move it \
         away to begin anew",
        path.display()
    )
}
