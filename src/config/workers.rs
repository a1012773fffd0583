//! Entries → workers: duplicates, instance names, missing mandatory workers, typed settings, start order.

use std::collections::{BTreeMap, HashSet};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::catalog::{BuiltIn, CATALOG, Facts};
use super::entries::{Entry, Kind, Restart, Watch};
use super::parse::Target;
use super::problem::{FieldPath, NoteLevel, Report};
use super::settings::{Check, Findings, WorkerSettings, tolerates_unknown_keys};
use super::typed::{self, UnknownKeys};

/// A worker the engine runs or starts.
#[derive(Debug, Clone, PartialEq)]
pub struct Worker {
    /// Unique name: `iii-http`, `iii-http#1`, `math-worker`.
    pub id: String,
    /// What it is, with its settings if it is built in.
    pub kind: WorkerKind,
    /// Settings in the newer dialect, null if there are none. What a reload compares.
    pub config: Value,
    /// OCI reference.
    pub image: Option<String>,
    /// Project directory.
    pub worker_path: Option<String>,
    /// Whether source changes restart it.
    pub watch: Watch,
    /// Whether it is started again when it ends well.
    pub restart: Restart,
    /// Whether the file lists it.
    pub declared: bool,
}

/// What a worker is.
#[derive(Debug, Clone, PartialEq)]
pub enum WorkerKind {
    /// Part of this engine.
    BuiltIn(BuiltIn, WorkerSettings),
    /// Compiled in by the embedding program, registered under this class.
    Custom(String),
    /// A project directory.
    Local,
    /// A container image.
    Image,
    /// Installed on this machine.
    Installed,
}

impl Worker {
    /// The built-in worker this is, if it is one.
    pub fn built_in(&self) -> Option<BuiltIn> {
        match self.kind {
            WorkerKind::BuiltIn(worker, _) => Some(worker),
            _ => None,
        }
    }
}

/// Makes workers of entries.
pub fn resolve(mut entries: Vec<Entry>, report: &mut Report<'_>) -> Vec<Worker> {
    refuse_both_names(&entries, report);
    entries.retain_mut(|entry| !is_switched_off(entry) && !is_unsupported(entry, report));
    refuse_duplicates(&entries, report);
    name_instances(&mut entries);
    inject_mandatory(&mut entries);
    let mut workers: Vec<Worker> = entries.into_iter().filter_map(|entry| worker(entry, report)).collect();
    // Listeners last: nothing can connect before the built-in workers exist (CFG-37). The sort is stable.
    workers.sort_by_key(start_rank);
    workers
}

fn start_rank(worker: &Worker) -> usize {
    let rank = |worker: BuiltIn| CATALOG.iter().position(|facts| facts.worker == worker && facts.mandatory);
    match worker.built_in() {
        Some(BuiltIn::WorkerManager) => usize::MAX,
        Some(built_in) => rank(built_in).unwrap_or(CATALOG.len()),
        None => CATALOG.len(),
    }
}

/// `enabled: false` in the settings of a built-in worker skips it, unless the setting is the worker's own (CFG-35).
fn is_switched_off(entry: &mut Entry) -> bool {
    let own = matches!(
        entry.kind,
        Kind::BuiltIn(BuiltIn::Observability | BuiltIn::Telemetry | BuiltIn::Cron)
            | Kind::Custom(_)
            | Kind::Local
            | Kind::Image
            | Kind::Installed
    );
    match &mut entry.config {
        Value::Object(settings) if !own => match settings.get("enabled") {
            Some(Value::Bool(enabled)) => {
                let off = !enabled;
                settings.shift_remove("enabled");
                off
            }
            _ => false,
        },
        _ => false,
    }
}

fn is_unsupported(entry: &Entry, report: &mut Report<'_>) -> bool {
    let unsupported = entry.kind == Kind::BuiltIn(BuiltIn::Sandbox);
    if unsupported {
        report.note(NoteLevel::Warn, "iii-sandbox is not supported; sandbox::* will not be registered");
    }
    unsupported
}

/// `http` and `iii-http` in one file (CFG-32).
fn refuse_both_names(entries: &[Entry], report: &mut Report<'_>) {
    for facts in CATALOG {
        let written = |name: &str| entries.iter().find(|entry| entry.written == name);
        for alias in facts.aliases.iter().filter(|alias| facts.name.strip_prefix("iii-") == Some(alias)) {
            let (Some(old), Some(_)) = (written(facts.name), written(alias)) else { continue };
            let reason = format!(
                "Duplicate worker configurations:\n- '{0}' is the deprecated name for '{alias}', but both are present. \
                 Remove '{0}' from your configuration.",
                facts.name
            );
            let place = old.path.clone().unwrap_or_default().key("name");
            report.problem_at(&FieldPath::default(), &place, Target::Value, reason, None);
        }
    }
}

/// Only some built-in workers may be repeated; external names are unique (CFG-43).
fn refuse_duplicates(entries: &[Entry], report: &mut Report<'_>) {
    let mut first: BTreeMap<&str, &Entry> = BTreeMap::new();
    for entry in entries {
        let Some(earlier) = first.get(entry.name.as_str()) else {
            first.insert(&entry.name, entry);
            continue;
        };
        let repeatable = matches!(entry.kind, Kind::BuiltIn(worker) if worker.facts().repeatable);
        let told_already = entry.written != earlier.written && has_both_forms(entry, earlier);
        if repeatable || told_already {
            continue;
        }
        let place = |entry: &Entry| entry.path.clone().unwrap_or_default();
        let line = report.locate(&place(earlier), Target::Value).map_or(0, |location| location.line);
        let here =
            report.locate(&place(entry), Target::Value).map_or(String::new(), |location| format!(" at {location}"));
        let reason = format!("duplicate worker name '{}'{here} (first declared at line {line})", entry.name);
        report.problem_told(&place(entry), Target::Value, reason);
    }
}

fn has_both_forms(left: &Entry, right: &Entry) -> bool {
    let pair = |a: &Entry, b: &Entry| a.written.strip_prefix("iii-") == Some(&b.written);
    pair(left, right) || pair(right, left)
}

/// The second `iii-http` becomes `iii-http#1`, the third `iii-http#2`; written suffixes stay (CFG-40).
fn name_instances(entries: &mut [Entry]) {
    let mut taken: HashSet<String> = HashSet::new();
    let written: HashSet<String> = entries.iter().map(|entry| entry.name.clone()).collect();
    for entry in entries {
        if taken.insert(entry.name.clone()) {
            continue;
        }
        let free = (1..).map(|number| format!("{}#{number}", entry.name));
        let mut free = free.filter(|name| !taken.contains(name) && !written.contains(name));
        entry.name = free.next().expect("numbers do not run out");
        taken.insert(entry.name.clone());
    }
}

fn inject_mandatory(entries: &mut Vec<Entry>) {
    for facts in CATALOG.iter().filter(|facts| facts.mandatory) {
        if entries.iter().any(|entry| entry.kind == Kind::BuiltIn(facts.worker)) {
            continue;
        }
        entries.push(Entry {
            path: None,
            written: facts.name.to_owned(),
            name: facts.name.to_owned(),
            kind: Kind::BuiltIn(facts.worker),
            image: None,
            worker_path: None,
            watch: Watch::default(),
            restart: Restart::default(),
            config: Value::Null,
        });
    }
}

fn worker(entry: Entry, report: &mut Report<'_>) -> Option<Worker> {
    let path = entry.path.clone().unwrap_or_default().key("config");
    let mut config = entry.config;
    let kind = match entry.kind {
        Kind::BuiltIn(worker) => {
            report.worker = Some(entry.written);
            let settings = normalise(&mut config, worker.facts(), &path, report)
                .and_then(|()| settings(worker, &config, &path, report));
            report.worker = None;
            WorkerKind::BuiltIn(worker, settings?)
        }
        Kind::Custom(class) => WorkerKind::Custom(class),
        Kind::Local => WorkerKind::Local,
        Kind::Image => WorkerKind::Image,
        Kind::Installed => WorkerKind::Installed,
    };
    Some(Worker {
        id: entry.name,
        kind,
        config,
        image: entry.image,
        worker_path: entry.worker_path,
        watch: entry.watch,
        restart: entry.restart,
        declared: entry.path.is_some(),
    })
}

/// Brings settings into the newer dialect: adapters by name, null settings absent.
fn normalise(config: &mut Value, facts: &'static Facts, path: &FieldPath, report: &mut Report<'_>) -> Option<()> {
    let Value::Object(settings) = config else { return Some(()) };
    settings.retain(|_, value| !value.is_null());
    if facts.adapters.is_empty() {
        return Some(());
    }
    let Some(Value::Object(adapter)) = settings.get_mut("adapter") else { return Some(()) };
    let place = path.key("adapter");
    for key in adapter.keys().filter(|key| !["name", "class", "config"].contains(&key.as_str())) {
        let reason = format!("unknown field '{key}', expected 'name' or 'config'");
        report.problem_at(&place, &place.key(key), Target::Key, reason, None);
    }
    let key = if adapter.contains_key("name") { "name" } else { "class" };
    let Some(Value::String(word)) = adapter.get(key).cloned() else {
        let reason = if adapter.contains_key(key) { "adapter name must be a string" } else { "missing field 'name'" };
        report.problem(&place, Target::Value, reason);
        return None;
    };
    let Some(found) = facts.adapter(&word) else {
        let mut known: Vec<&str> = facts.adapters.iter().map(|adapter| adapter.name).collect();
        known.sort_unstable();
        let reason = format!("Adapter factory '{word}' not found. Available: {known:?}");
        let suggestion = crate::suggest::similar(&word, known.iter().copied());
        report.problem_with(&place.key(key), Target::Value, reason, suggestion);
        return None;
    };
    let mut inner =
        adapter.shift_remove("config").filter(|config| !config.is_null()).unwrap_or(Value::Object(Map::new()));
    if let (Value::Object(inner), "in_memory" | "file_based") = (&mut inner, word.as_str()) {
        inner.entry("store_method").or_insert(Value::from(word.as_str()));
    }
    *adapter = Map::from_iter([("name".to_owned(), Value::from(found.name)), ("config".to_owned(), inner)]);
    Some(())
}

/// Reads the settings of a built-in worker.
fn settings(worker: BuiltIn, config: &Value, path: &FieldPath, report: &mut Report<'_>) -> Option<WorkerSettings> {
    let read = Reader { worker, config, path };
    Some(match worker {
        BuiltIn::WorkerManager => WorkerSettings::WorkerManager(read.settings(report)?),
        BuiltIn::EngineFunctions => WorkerSettings::EngineFunctions(read.settings(report)?),
        BuiltIn::Observability => WorkerSettings::Observability(Box::new(read.settings(report)?)),
        BuiltIn::Configuration => WorkerSettings::Configuration(read.settings(report)?),
        BuiltIn::Http => WorkerSettings::Http(read.settings(report)?),
        BuiltIn::Stream => WorkerSettings::Stream(read.settings(report)?),
        BuiltIn::State => WorkerSettings::State(read.settings(report)?),
        BuiltIn::Queue => WorkerSettings::Queue(read.settings(report)?),
        BuiltIn::PubSub => WorkerSettings::PubSub(read.settings(report)?),
        BuiltIn::Cron => WorkerSettings::Cron(read.settings(report)?),
        BuiltIn::Exec => WorkerSettings::Exec(read.settings(report)?),
        BuiltIn::Bridge => WorkerSettings::Bridge(read.settings(report)?),
        BuiltIn::HttpFunctions => WorkerSettings::HttpFunctions(read.settings(report)?),
        BuiltIn::Telemetry | BuiltIn::WorkerOps | BuiltIn::Sandbox => WorkerSettings::Ignored,
    })
}

struct Reader<'a> {
    worker: BuiltIn,
    config: &'a Value,
    path: &'a FieldPath,
}

impl Reader<'_> {
    fn settings<T: DeserializeOwned + Check>(&self, report: &mut Report<'_>) -> Option<T> {
        let config = match self.config {
            Value::Null => Value::Object(Map::new()),
            given => given.clone(),
        };
        let unknown_keys = match tolerates_unknown_keys(self.worker) {
            true => UnknownKeys::Warn,
            false => UnknownKeys::Refuse,
        };
        let mut settings: T = typed::read(config, self.path, unknown_keys, report)?;
        let mut findings = Findings::default();
        settings.check(&mut findings);
        let place = |keys: &[String]| keys.iter().fold(self.path.clone(), |path, key| path.key(key));
        for (keys, text) in &findings.corrected {
            report.warn(&place(keys), Target::Value, text);
        }
        for (keys, text) in &findings.refused {
            report.problem(&place(keys), Target::Value, text.as_str());
        }
        findings.refused.is_empty().then_some(settings)
    }
}

/// A worker as `iii config show` prints it.
#[derive(Serialize)]
pub struct Shown<'a> {
    name: &'a str,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    worker_path: Option<&'a str>,
    declared: bool,
    config: Value,
}

impl Worker {
    /// The worker with its effective settings.
    pub fn shown(&self) -> Shown<'_> {
        let (kind, config) = match &self.kind {
            WorkerKind::BuiltIn(_, WorkerSettings::Ignored) => ("built-in", Value::Null),
            WorkerKind::BuiltIn(_, settings) => ("built-in", serde_json::to_value(settings).unwrap_or_default()),
            WorkerKind::Custom(_) => ("custom", self.config.clone()),
            WorkerKind::Local => ("local", self.config.clone()),
            WorkerKind::Image => ("image", self.config.clone()),
            WorkerKind::Installed => ("installed", self.config.clone()),
        };
        let Worker { id, image, worker_path, declared, .. } = self;
        Shown {
            name: id,
            kind,
            image: image.as_deref(),
            worker_path: worker_path.as_deref(),
            declared: *declared,
            config,
        }
    }
}
