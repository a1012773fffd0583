//! The configuration: text → environment → values → workers with typed settings → what the engine is started with.
//!
//! ```text
//! source ─► expand ─► parse ─► entries ─► workers ─► Config ─► listeners ─► Settings
//!   file     ${VAR}    YAML    dialects    typed       │
//!                                                      └─► diff (reload), show, schema
//! ```
//!
//! Pure apart from reading the file and resolving host names: the environment comes in as [`Surroundings`]. Every
//! problem carries its place in the file as written; all of a file's problems are told at once.
//! Deliberately absent: watching the file, writing it, starting anything.

mod catalog;
mod diff;
pub mod edit;
mod entries;
mod expand;
pub mod listeners;
mod parse;
mod problem;
mod schema;
pub mod settings;
mod show;
mod source;
mod top;
mod typed;
mod workers;

use std::ffi::OsString;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use iii_shards::settings::Settings;
use serde_json::Value;

pub use catalog::BuiltIn;
pub use diff::{Diff, diff};
pub use entries::{Restart, Watch};
pub use problem::{ConfigError, FieldPath, Invalid, Location, Note, NoteLevel, Problem, Segment};
pub use schema::schema;
pub use show::show;
pub use source::{Choice, Source};
pub use top::Top;
pub use workers::{Worker, WorkerKind};

use problem::Report;
use source::Document;

/// How many shards there may be.
pub const SHARDS_RANGE: RangeInclusive<i64> = 1..=64;

/// Environment variable that beats `registration_namespace_grace_ms`.
const GRACE_VARIABLE: &str = "III_NAMESPACE_GRACE_MS";

/// Command line values that beat the file, at every load.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Port of the first listener without access rules.
    pub port: Option<u16>,
    /// Host of the same listener.
    pub host: Option<String>,
    /// Number of shards.
    pub shards: Option<usize>,
}

/// Gives the value of an environment variable.
pub type VariableLookup = dyn Fn(&str) -> Option<OsString>;

/// What a configuration may depend on besides its text.
pub struct Surroundings {
    /// Value of an environment variable.
    pub variable: Box<VariableLookup>,
    /// Whether a worker of this name is installed on the machine.
    pub installed: Box<dyn Fn(&str) -> bool>,
    /// Classes the embedding program has compiled in.
    pub custom_classes: Vec<String>,
    /// CPUs this process may use.
    pub cpus: usize,
    /// Directory searched for a configuration file.
    pub directory: PathBuf,
}

impl Surroundings {
    /// Those of this process.
    pub fn process() -> Surroundings {
        let home = std::env::var_os("HOME").map(PathBuf::from);
        let installed = move |name: &str| {
            let Some(home) = &home else { return false };
            let root = home.join(".iii");
            root.join("workers").join(name).exists()
                || root.join("workers-bundle").join(name).join("iii.worker.yaml").exists()
        };
        Surroundings {
            variable: Box::new(|name| std::env::var_os(name)),
            installed: Box::new(installed),
            custom_classes: Vec::new(),
            cpus: std::thread::available_parallelism().map_or(1, |cpus| cpus.get()),
            directory: PathBuf::from("."),
        }
    }
}

/// A valid configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The top-level settings.
    pub top: Top,
    /// All workers in the order they start, mandatory ones included.
    pub workers: Vec<Worker>,
}

/// A configuration and where it came from.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Where it came from.
    pub source: Source,
    /// What to log about it once logging works.
    pub notes: Vec<Note>,
    overrides: Overrides,
    cpus: usize,
}

/// Loads the configuration the user asked for.
pub fn load(choice: &Choice, overrides: &Overrides, surroundings: &Surroundings) -> Result<Loaded, ConfigError> {
    let source = Source::choose(choice, &surroundings.directory);
    let notes = source_notes(&source);
    let mut loaded = load_source(source, overrides, surroundings)?;
    loaded.notes.splice(0..0, notes);
    Ok(loaded)
}

fn load_source(source: Source, overrides: &Overrides, surroundings: &Surroundings) -> Result<Loaded, ConfigError> {
    let text = source.read()?;
    let (config, mut notes) = parse_text(source.shown(), text, surroundings)?;
    notes.extend(listeners::added_listener_note(&config, overrides));
    Ok(Loaded { config, source, notes, overrides: overrides.clone(), cpus: surroundings.cpus })
}

/// Reads any YAML document as values. `Err` is one line with the place.
pub(crate) fn yaml(text: &str) -> Result<Value, String> {
    parse::parse(text).map_err(|problem| problem.to_string())
}

/// Reads a configuration from its text. `file` is for messages.
pub fn parse_text(file: &Path, text: String, surroundings: &Surroundings) -> Result<(Config, Vec<Note>), ConfigError> {
    let document = Document::read(file, text, surroundings)?;
    let mut report = Report::new(&document);
    let config = resolve(&document.root, surroundings, &mut report);
    let notes = report.finish(file)?;
    Ok((config, notes))
}

fn resolve(root: &Value, surroundings: &Surroundings, report: &mut Report<'_>) -> Config {
    let (mut top, lists) = top::read(root, report);
    let variable = |name: &str| (surroundings.variable)(name).and_then(|value| value.into_string().ok());
    if let Some(grace) = variable(GRACE_VARIABLE) {
        match grace.parse() {
            Ok(grace) => top.registration_namespace_grace_ms = grace,
            Err(_) => report.note(NoteLevel::Warn, format!("ignored {GRACE_VARIABLE}='{grace}': not a number")),
        }
    }
    let mut entries = Vec::new();
    for (path, value) in &lists {
        entries.extend(entries::read(value, path, surroundings, report));
    }
    let workers = workers::resolve(entries, report);
    Config { top, workers }
}

fn source_notes(source: &Source) -> Vec<Note> {
    let note = |level, text: String| Note { level, text };
    let mut notes = Vec::new();
    if source.fallback {
        notes.push(note(NoteLevel::Info, "Using default config (no config file)".to_owned()));
        notes.push(note(NoteLevel::Warn, "hot reload is off: there is no config file to watch".to_owned()));
    }
    if let (Some(file), Some(ignored)) = (&source.file, &source.ignored) {
        let text = format!("using '{}'; '{}' is ignored", file.display(), ignored.display());
        notes.push(note(NoteLevel::Warn, text));
    }
    notes
}

impl Loaded {
    /// Reads the same file again, with the same command line values and the environment as it is now (CFG-80).
    pub fn reload(&self, surroundings: &Surroundings) -> Result<Loaded, ConfigError> {
        load_source(self.source.clone(), &self.overrides, surroundings)
    }

    /// What the shard runtime is started with. Resolves host names.
    pub fn settings(&self, busy_poll: bool) -> Result<Settings, ConfigError> {
        let top = &self.config.top;
        let range = *SHARDS_RANGE.start() as usize..=*SHARDS_RANGE.end() as usize;
        let shards = self.overrides.shards.or(top.shards).unwrap_or(self.cpus.clamp(*range.start(), *range.end()));
        Ok(Settings {
            shards,
            listeners: listeners::listeners(&self.config, &self.overrides)?,
            duplicate_functions: top.duplicate_functions.into(),
            worker_names: top.worker_names.into(),
            max_invocation_ms: top.max_invocation_ms,
            registration_namespace_grace_ms: top.registration_namespace_grace_ms,
            busy_poll,
            ..Settings::default()
        })
    }
}
