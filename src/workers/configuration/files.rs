//! The directory of entries: one YAML file each, and beside it what the file must not show (CONF section 6).
//!
//! Runs on a thread of its own. Jobs are done in the order given; between them it looks whether somebody has edited a
//! file. What comes of both goes back through the mailbox, in order.

use super::registry::Entry;
use iii_shards::builtin::Mailbox;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant, SystemTime};

/// How often the directory is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// An edit counts once nothing has changed for this long (CONF-54).
const SETTLE: Duration = Duration::from_millis(500);
/// Jobs that may wait. The worker gives one at a time.
const JOBS_MAX: usize = 16;
/// Where entries were kept by default in older versions (CONF-53).
const OLDER_DIRECTORY: &str = "./data/configuration";
/// The default of today.
pub const DIRECTORY_DEFAULT: &str = "./config";

/// Something to be done.
pub enum Job {
    /// Write an entry.
    Write(Box<Entry>),
    /// Remove one.
    Remove(String),
}

/// What comes back.
pub enum Report {
    /// The directory as found at the start.
    Loaded(Vec<Entry>),
    /// The last job is done, or could not be.
    Done(Result<(), String>),
    /// The directory as somebody has left it.
    Edited {
        /// The entries that can be read.
        entries: Vec<Entry>,
        /// Entries whose files are there and can't be read.
        unreadable: BTreeSet<String>,
    },
}

/// The file's form.
#[derive(Serialize, Deserialize)]
struct Written {
    id: String,
    name: String,
    description: String,
    #[serde(default)]
    value: Value,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    metadata: Option<Value>,
}

/// What is known of a file from outside: when it was written, and its length.
type Stamp = (Option<SystemTime>, u64);

struct Files {
    directory: PathBuf,
    /// Which entry each file held when it could last be read.
    ids: BTreeMap<PathBuf, String>,
}

/// Starts the thread.
pub fn start(directory: PathBuf, mailbox: Mailbox) -> io::Result<SyncSender<Job>> {
    let (sender, jobs) = sync_channel(JOBS_MAX);
    std::thread::Builder::new()
        .name("iii-config-files".to_owned())
        .spawn(move || Files { directory, ids: BTreeMap::new() }.run(&jobs, &mailbox))?;
    Ok(sender)
}

impl Files {
    fn run(mut self, jobs: &Receiver<Job>, mailbox: &Mailbox) {
        if let Err(error) = self.prepare() {
            tracing::warn!("configuration: {}: {error}", self.directory.display());
        }
        let (mut entries, _) = self.read();
        for entry in &mut entries {
            entry.schema = self.remembered_schema(&entry.id);
        }
        mailbox.post(Box::new(Report::Loaded(entries)));
        let mut known = self.stamps();
        let mut pending: Option<(BTreeMap<PathBuf, Stamp>, Instant)> = None;
        loop {
            match jobs.recv_timeout(LOOK_EVERY) {
                Ok(job) => {
                    let done = self.perform(job).map_err(|error| error.to_string());
                    mailbox.post(Box::new(Report::Done(done)));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let stamps = self.stamps();
            match &pending {
                Some((last, since)) if *last == stamps => {
                    if since.elapsed() >= SETTLE {
                        let (entries, unreadable) = self.read();
                        mailbox.post(Box::new(Report::Edited { entries, unreadable }));
                        known = stamps;
                        pending = None;
                    }
                }
                _ if stamps == known => pending = None,
                _ => pending = Some((stamps, now())),
            }
        }
    }

    fn prepare(&self) -> io::Result<()> {
        std::fs::create_dir_all(&self.directory)?;
        if self.directory != Path::new(DIRECTORY_DEFAULT) {
            return Ok(());
        }
        for file in yaml_files(Path::new(OLDER_DIRECTORY)) {
            let Some(name) = file.file_name() else { continue };
            let target = self.directory.join(name);
            if !target.exists() {
                std::fs::rename(&file, &target)?;
            }
        }
        Ok(())
    }

    fn stamps(&self) -> BTreeMap<PathBuf, Stamp> {
        let stamp = |file: PathBuf| {
            let data = std::fs::metadata(&file).ok()?;
            Some((file, (data.modified().ok(), data.len())))
        };
        yaml_files(&self.directory).into_iter().filter_map(stamp).collect()
    }

    /// Reads all files (CONF-52).
    fn read(&mut self) -> (Vec<Entry>, BTreeSet<String>) {
        let (mut entries, mut unreadable) = (Vec::new(), BTreeSet::new());
        let files = yaml_files(&self.directory);
        self.ids.retain(|file, _| files.contains(file));
        for file in files {
            match read_file(&file) {
                Ok(entry) => {
                    self.ids.insert(file, entry.id.clone());
                    entries.push(entry);
                }
                Err(error) => {
                    tracing::warn!("configuration: {} is skipped: {error}", file.display());
                    let stem = || file.file_stem().map(|stem| stem.to_string_lossy().into_owned());
                    unreadable.extend(self.ids.get(&file).cloned().or_else(stem));
                }
            }
        }
        (entries, unreadable)
    }

    fn remembered_schema(&self, id: &str) -> Option<Value> {
        serde_json::from_slice(&std::fs::read(self.schema_file(id)).ok()?).ok()
    }

    fn schema_file(&self, id: &str) -> PathBuf {
        self.directory.join(format!("{id}.schema.json"))
    }

    /// Ids of our own making only: they are safe as file names.
    fn file(&self, id: &str) -> PathBuf {
        let known = self.ids.iter().find(|(_, known)| *known == id).map(|(file, _)| file.clone());
        known.unwrap_or_else(|| self.directory.join(format!("{id}.yaml")))
    }

    fn perform(&mut self, job: Job) -> io::Result<()> {
        match job {
            Job::Write(entry) => {
                std::fs::create_dir_all(&self.directory)?;
                let schema = entry.schema.as_ref().map(|schema| schema.to_string());
                // The schema first: a value without one can't be changed, one with an old one can.
                match schema {
                    Some(schema) => write(&self.schema_file(&entry.id), schema.as_bytes())?,
                    None => remove(&self.schema_file(&entry.id))?,
                }
                let file = self.file(&entry.id);
                let Entry { id, name, description, value, metadata, .. } = *entry;
                self.ids.insert(file.clone(), id.clone());
                let written = Written { id, name, description, value: value.unwrap_or_default(), metadata };
                write(&file, serde_yaml::to_string(&written).map_err(io::Error::other)?.as_bytes())
            }
            Job::Remove(id) => {
                let file = self.file(&id);
                self.ids.remove(&file);
                remove(&self.schema_file(&id))?;
                remove(&file)
            }
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "a thread of its own, not a shard")]
fn now() -> Instant {
    Instant::now()
}

fn yaml_files(directory: &Path) -> Vec<PathBuf> {
    let Ok(found) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut files: Vec<PathBuf> = found
        .filter_map(|file| Some(file.ok()?.path()))
        .filter(|file| file.extension().is_some_and(|extension| extension == "yaml") && file.is_file())
        .collect();
    files.sort();
    files
}

fn read_file(file: &Path) -> Result<Entry, String> {
    let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
    let written: Written = serde_yaml::from_str(&text).map_err(|error| error.to_string())?;
    let Written { id, name, description, value, metadata } = written;
    if !super::registry::is_id(&id) {
        return Err(format!("invalid configuration id '{id}'"));
    }
    let value = Some(value).filter(|value| !value.is_null());
    Ok(Entry { id, name, description, schema: None, value, metadata })
}

/// Replaces a file: whoever looks sees the old content or the new, also after a power cut (CONF-50, CONF-DB-7).
fn write(file: &Path, content: &[u8]) -> io::Result<()> {
    let mut temporary = file.as_os_str().to_owned();
    temporary.push(".tmp");
    let mut out = File::create(&temporary)?;
    out.write_all(content)?;
    out.sync_all()?;
    std::fs::rename(&temporary, file)?;
    sync_directory(file)
}

fn remove(file: &Path) -> io::Result<()> {
    match std::fs::remove_file(file) {
        Ok(()) => sync_directory(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn sync_directory(file: &Path) -> io::Result<()> {
    match file.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}
