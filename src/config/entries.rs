//! The entries of `workers` and `modules`: both dialects → one list of named workers with raw settings.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::Surroundings;
use super::catalog::{BuiltIn, CATALOG, DROPPED_CLASS};
use super::parse::Target;
use super::problem::{FieldPath, Report};
use super::typed::{self, UnknownKeys};
use crate::suggest::similar;

/// One entry, its name resolved.
#[derive(Debug)]
pub struct Entry {
    /// Where it is written; none for an injected one.
    pub path: Option<FieldPath>,
    /// The name as written.
    pub written: String,
    /// The canonical name, suffix included; not yet unique.
    pub name: String,
    /// What stands behind the name.
    pub kind: Kind,
    /// OCI reference.
    pub image: Option<String>,
    /// Project directory.
    pub worker_path: Option<String>,
    /// Whether source changes restart it.
    pub watch: Watch,
    /// Whether it is started again when it ends well.
    pub restart: Restart,
    /// Settings as written, null if there are none.
    pub config: Value,
}

/// What stands behind a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// Part of this engine.
    BuiltIn(BuiltIn),
    /// Compiled in by the embedding program, registered under this class.
    Custom(String),
    /// A project directory.
    Local,
    /// A container image.
    Image,
    /// Installed on this machine.
    Installed,
}

/// Whether source changes restart a local worker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Value")]
pub enum Watch {
    /// Unless its start command watches itself.
    #[default]
    Auto,
    /// Yes.
    Always,
    /// No.
    Never,
}

/// Whether a process that ends well is started again. One that fails always is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// No: it has finished.
    #[default]
    OnFailure,
    /// Yes.
    Always,
}

impl TryFrom<Value> for Watch {
    type Error = String;

    fn try_from(value: Value) -> Result<Watch, String> {
        match value {
            Value::Bool(true) => Ok(Watch::Always),
            Value::Bool(false) => Ok(Watch::Never),
            Value::String(text) if text == "auto" => Ok(Watch::Auto),
            other => Err(format!("invalid value: {other}, expected auto, true or false")),
        }
    }
}

/// Keys an entry may have.
const KEYS: [&str; 8] = ["name", "class", "config", "image", "worker_path", "enabled", "watch", "restart"];

/// The keys besides name and settings.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Extras {
    image: Option<String>,
    worker_path: Option<String>,
    enabled: Option<bool>,
    watch: Option<Watch>,
    restart: Option<Restart>,
}

/// Reads one entry. `None` if it is disabled, dropped with a note, or wrong.
pub fn read(value: &Value, path: &FieldPath, surroundings: &Surroundings, report: &mut Report<'_>) -> Option<Entry> {
    let Value::Object(members) = value else {
        report.problem(path, Target::Value, format!("invalid type: {}, expected a mapping with 'name'", shape(value)));
        return None;
    };
    for key in members.keys().filter(|key| !KEYS.contains(&key.as_str())) {
        let hint = similar(key, KEYS).map_or(String::new(), |word| format!(", did you mean '{word}'?"));
        report.warn(&path.key(key), Target::Key, format_args!("ignored unknown key '{key}'{hint}"));
    }
    let extras: Extras = typed::read(extras_of(members), path, UnknownKeys::Refuse, report)?;
    let (key, written) = name_of(members, path, report)?;
    if written == DROPPED_CLASS {
        report.warn(path, Target::Value, format_args!("'{DROPPED_CLASS}' no longer exists and is ignored"));
        return None;
    }
    if extras.enabled == Some(false) {
        return None;
    }
    let place = path.key(key);
    let (name, kind) = resolve(&written, key, &extras, &place, surroundings, report)?;
    if let (Some(class), Some(Value::String(named))) = (members.get("class"), members.get("name")) {
        both_agree(class, named, &kind, path, report)?;
    }
    if matches!(kind, Kind::BuiltIn(_)) {
        refuse_process_keys(&written, &extras, path, report)?;
    }
    Some(Entry {
        path: Some(path.clone()),
        written,
        name,
        kind,
        image: extras.image,
        worker_path: extras.worker_path,
        watch: extras.watch.unwrap_or_default(),
        restart: extras.restart.unwrap_or_default(),
        config: members.get("config").cloned().unwrap_or_default(),
    })
}

fn extras_of(members: &Map<String, Value>) -> Value {
    let wanted = ["image", "worker_path", "enabled", "watch", "restart"];
    let kept = members.iter().filter(|(key, value)| wanted.contains(&key.as_str()) && !value.is_null());
    Value::Object(kept.map(|(key, value)| (key.clone(), value.clone())).collect())
}

/// The name as written, and the key it stands under.
fn name_of(members: &Map<String, Value>, path: &FieldPath, report: &mut Report<'_>) -> Option<(&'static str, String)> {
    let key = if members.contains_key("name") { "name" } else { "class" };
    match members.get(key) {
        Some(Value::String(name)) if !name.trim().is_empty() => Some((key, name.clone())),
        Some(_) => {
            report.problem(&path.key(key), Target::Value, format!("worker {key} must be a non-empty string"));
            None
        }
        None => {
            report.problem(path, Target::Value, "missing field 'name'");
            None
        }
    }
}

/// The canonical name and what stands behind it.
fn resolve(
    written: &str,
    key: &str,
    extras: &Extras,
    place: &FieldPath,
    surroundings: &Surroundings,
    report: &mut Report<'_>,
) -> Option<(String, Kind)> {
    let (base, suffix) = match written.split_once('#') {
        Some((base, suffix)) => (base, Some(suffix)),
        None => (written, None),
    };
    let named = |base: &str| suffix.map_or(base.to_owned(), |suffix| format!("{base}#{suffix}"));
    if suffix.is_some_and(|suffix| !is_legal(suffix)) || !(is_legal(base) || is_class(base)) {
        report.problem(
            place,
            Target::Value,
            format!("'{written}' is not a worker name: use letters, digits, '-', '_', '.'"),
        );
        return None;
    }
    let custom =
        || surroundings.custom_classes.iter().any(|class| class == base).then(|| Kind::Custom(base.to_owned()));
    let built_in = |worker: BuiltIn| (named(worker.name()), Kind::BuiltIn(worker));
    if let Some(worker) = BuiltIn::by_name(base).or_else(|| BuiltIn::by_class(base)) {
        return Some(built_in(worker));
    }
    if let Some(kind) = custom() {
        return Some((named(base), kind));
    }
    if extras.worker_path.is_some() && key == "name" {
        return Some((named(base), Kind::Local));
    }
    if extras.image.is_some() && key == "name" {
        return Some((named(base), Kind::Image));
    }
    if let Some(worker) = BuiltIn::by_last_segment(base) {
        return Some(built_in(worker));
    }
    if key == "class" || is_class(base) && !is_legal(base) {
        let mut known: Vec<String> =
            CATALOG.iter().flat_map(|facts| facts.classes).map(|class| format!("modules::{class}")).collect();
        known.extend(surroundings.custom_classes.iter().cloned());
        known.sort();
        let suggestion = similar(base, known.iter().map(String::as_str)).map(str::to_owned);
        let reason = format!(
            "failed to create module '{written}': Unknown module class: {written}. Known: {}",
            known.join(", ")
        );
        report.problem_with(place, Target::Value, reason, suggestion.as_deref());
        return None;
    }
    if (surroundings.installed)(base) {
        return Some((named(base), Kind::Installed));
    }
    let known = CATALOG.iter().flat_map(|facts| facts.aliases.iter().copied().chain([facts.name]));
    let reason = format!(
        "unknown worker '{written}': not built in, no worker_path, no installed binary at ~/.iii/workers/{base}"
    );
    report.worker = Some(written.to_owned());
    report.problem_with(place, Target::Value, reason, similar(base, known));
    report.worker = None;
    None
}

/// `class` and `name` in one entry must mean the same worker.
fn both_agree(class: &Value, named: &str, kind: &Kind, path: &FieldPath, report: &mut Report<'_>) -> Option<()> {
    let of_class =
        class.as_str().and_then(|class| BuiltIn::by_class(class).or_else(|| BuiltIn::by_last_segment(class)));
    let agree = match kind {
        Kind::BuiltIn(worker) => of_class == Some(*worker),
        Kind::Custom(name) => class.as_str() == Some(name),
        Kind::Local | Kind::Image | Kind::Installed => false,
    };
    if agree {
        return Some(());
    }
    report.problem(&path.key("class"), Target::Value, format!("class and name '{named}' mean different workers"));
    None
}

/// A built-in worker is no process and no image.
fn refuse_process_keys(written: &str, extras: &Extras, path: &FieldPath, report: &mut Report<'_>) -> Option<()> {
    let key = match (&extras.image, &extras.worker_path) {
        (Some(_), _) => "image",
        (None, Some(_)) => "worker_path",
        (None, None) => return Some(()),
    };
    let article = if key == "image" { "an" } else { "a" };
    let reason = format!(
        "Worker '{written}' is a built-in worker and cannot have {article} '{key}' field. Remove it, or use another name."
    );
    report.worker = Some(written.to_owned());
    report.problem(&path.key(key), Target::Key, reason);
    report.worker = None;
    None
}

fn is_legal(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !name.is_empty() && name.chars().all(legal) && !name.contains("..") && !name.starts_with('.')
}

/// Legal names joined by `::`.
fn is_class(name: &str) -> bool {
    name.split("::").all(is_legal)
}

/// A value as serde's messages show it.
fn shape(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => format!("boolean '{value}'"),
        Value::Number(value) => format!("number '{value}'"),
        Value::String(value) => format!("string {value:?}"),
        Value::Array(_) => "sequence".to_owned(),
        Value::Object(_) => "map".to_owned(),
    }
}
