//! The manifest of a worker project, `iii.worker.yaml`, or what its files say when there is none. Pure but for reading.

use crate::config;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::Path;

/// Name of the file, at the root of a project.
pub const FILE_NAME: &str = "iii.worker.yaml";
/// Largest manifest that is read.
const BYTES_MAX: u64 = 65_536;
/// Keys a manifest may have.
const KEYS: [&str; 15] = [
    "name",
    "description",
    "scripts",
    "env",
    "dependencies",
    "resources",
    "runtime",
    "iii",
    "deploy",
    "manifest",
    "tags",
    "language",
    "entry",
    "config",
    "package_manager",
];
const SCRIPT_KEYS: [&str; 3] = ["setup", "install", "start"];
const RUNTIME_KEYS: [&str; 5] = ["base_image", "kind", "language", "package_manager", "entry"];

/// What starts a worker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Manifest {
    /// Its name; absent in a project without a manifest.
    pub name: Option<String>,
    /// Prepares a machine, once.
    pub setup: Option<String>,
    /// Installs what it depends on. `None` = nothing to install.
    pub install: Option<String>,
    /// Starts it.
    pub start: String,
    /// Its environment.
    pub env: BTreeMap<String, String>,
    /// Workers it depends on.
    pub dependencies: Vec<String>,
    /// It runs in a virtual environment of its own.
    pub python: bool,
}

/// A manifest as a value, with what is remarkable about it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reading {
    /// The top level.
    pub root: Map<String, Value>,
    /// What makes it unusable, one line each.
    pub shape: Vec<String>,
    /// Keys nobody knows.
    pub unknown: Vec<String>,
    /// Keys that still work.
    pub deprecated: Vec<String>,
}

/// Reads the manifest of a project; `Ok(None)` if there is none.
pub fn read(directory: &Path) -> Result<Option<Reading>, String> {
    let path = directory.join(FILE_NAME);
    let shown = path.display();
    let length = match std::fs::metadata(&path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("cannot read {shown}: {error}")),
    };
    if length > BYTES_MAX {
        return Err(format!("{shown}: {length} bytes, more than the {BYTES_MAX} a manifest may have"));
    }
    let text = std::fs::read_to_string(&path).map_err(|error| format!("cannot read {shown}: {error}"))?;
    parse(&text, &shown.to_string()).map(Some)
}

/// Reads a manifest from its text. `shown` is for messages.
pub fn parse(text: &str, shown: &str) -> Result<Reading, String> {
    let root = match config::yaml(text).map_err(|reason| format!("{shown}: {reason}"))? {
        Value::Null => return Err(format!("{shown} is empty; at least name and scripts.start are required")),
        Value::Object(root) if root.is_empty() => {
            return Err(format!("{shown} is empty; at least name and scripts.start are required"));
        }
        Value::Object(root) => root,
        other => return Err(format!("{shown}: expected a mapping at the top level, got {}", kind(&other))),
    };
    let mut reading = Reading { root, ..Reading::default() };
    reading.look();
    Ok(reading)
}

// === impl Reading ===

impl Reading {
    fn look(&mut self) {
        let unknown = |keys: &[&str], map: &Map<String, Value>, prefix: &str| -> Vec<String> {
            map.keys().filter(|key| !keys.contains(&key.as_str())).map(|key| format!("{prefix}{key}")).collect()
        };
        self.unknown = unknown(&KEYS, &self.root, "");
        for (section, keys) in [("scripts", &SCRIPT_KEYS[..]), ("runtime", &RUNTIME_KEYS[..])] {
            match self.root.get(section) {
                None | Some(Value::Null) => {}
                Some(Value::Object(map)) => {
                    self.unknown.extend(unknown(keys, map, &format!("{section}.")));
                    for (key, value) in map.iter().filter(|(_, value)| !value.is_string() && !value.is_null()) {
                        self.shape.push(format!("'{section}.{key}' must be text, got {}", kind(value)));
                    }
                }
                Some(other) => self.shape.push(must_be_mapping(section, other)),
            }
        }
        for section in ["env", "dependencies", "resources"] {
            match self.root.get(section) {
                None | Some(Value::Null | Value::Object(_)) => {}
                Some(other) => self.shape.push(must_be_mapping(section, other)),
            }
        }
        for key in ["name", "description"] {
            match self.root.get(key) {
                None | Some(Value::Null | Value::String(_)) => {}
                Some(other) => self.shape.push(format!("'{key}' must be text, got {}", kind(other))),
            }
        }
        let in_runtime = |key: &str| self.root.get("runtime").and_then(|runtime| runtime.get(key)).is_some();
        let old = ["kind", "language", "package_manager", "entry"].into_iter().filter(|key| in_runtime(key));
        self.deprecated = old.map(|key| format!("runtime.{key}")).collect();
        let top = ["language", "entry", "config", "package_manager"].into_iter();
        self.deprecated.extend(top.filter(|key| self.root.contains_key(*key)).map(str::to_owned));
        let name = self.text(&["name"]);
        let itself = |key: &String| Some(key.as_str()) == name.as_deref();
        if self.section("dependencies").is_some_and(|map| map.keys().any(itself)) {
            self.shape.push("'dependencies' must not name the worker itself".to_owned());
        }
    }

    /// The keys a manifest may have, for messages.
    pub fn supported() -> String {
        KEYS[..7].join(", ")
    }

    fn section(&self, name: &str) -> Option<&Map<String, Value>> {
        self.root.get(name).and_then(Value::as_object)
    }

    fn text(&self, path: &[&str]) -> Option<String> {
        let (first, rest) = path.split_first()?;
        let value = rest.iter().try_fold(self.root.get(*first)?, |value, key| value.get(key))?;
        value.as_str().map(|text| text.trim().to_owned())
    }

    /// Its name, trimmed.
    pub fn name(&self) -> Option<String> {
        self.text(&["name"]).filter(|name| !name.is_empty())
    }

    /// What starts the worker in this directory. `Err` says what is missing.
    pub fn manifest(&self, directory: &Path) -> Result<Manifest, String> {
        let language = ["kind", "language"]
            .iter()
            .find_map(|key| self.text(&["runtime", key]))
            .or_else(|| self.text(&["language"]));
        let manager = self.text(&["runtime", "package_manager"]).or_else(|| self.text(&["package_manager"]));
        let entry = self.text(&["runtime", "entry"]).or_else(|| self.text(&["entry"]));
        let inferred = match &language {
            Some(language) => infer(language, manager.as_deref(), entry.as_deref(), directory),
            None => Err("scripts.start is missing".to_owned()),
        };
        let start = self.text(&["scripts", "start"]).filter(|start| !start.is_empty());
        let install = match (self.text(&["scripts", "install"]), &start, &inferred) {
            (Some(install), _, _) => Some(install).filter(|install| !install.is_empty()),
            (None, None, Ok(inferred)) => inferred.install.clone(),
            (None, _, _) => None,
        };
        let start = match start {
            Some(start) => start,
            None => inferred.map(|inferred| inferred.start).map_err(|reason| format!("no start command: {reason}"))?,
        };
        let scalar = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let env = self.section("env").into_iter().flatten();
        let dependencies = self.section("dependencies").into_iter().flat_map(Map::keys).cloned().collect();
        Ok(Manifest {
            name: self.name(),
            setup: self.text(&["scripts", "setup"]).filter(|setup| !setup.is_empty()),
            install,
            start,
            env: env.map(|(name, value)| (name.clone(), scalar(value))).collect(),
            dependencies,
            python: language.as_deref() == Some("python") || is_python(directory),
        })
    }
}

/// What the files of a project without a manifest say (MW-8). `None` = nothing is recognised.
pub fn detect(directory: &Path) -> Option<Manifest> {
    let has = |name: &str| directory.join(name).is_file();
    let commands = |install: &str, start: &str| Manifest {
        install: Some(install.to_owned()),
        start: start.to_owned(),
        ..Manifest::default()
    };
    if has("package.json") {
        let bun = has("bun.lockb") || has("bun.lock");
        return Some(if bun { commands("bun install", "bun run dev") } else { commands("npm install", "npm run dev") });
    }
    if has("Cargo.toml") {
        return Some(commands("cargo build --release", "cargo run --release"));
    }
    if has("pyproject.toml") {
        return Some(Manifest { python: true, ..commands("pip install -e .", "python -m iii") });
    }
    has("requirements.txt")
        .then(|| Manifest { python: true, ..commands("pip install -r requirements.txt", "python -m iii") })
}

fn is_python(directory: &Path) -> bool {
    ["pyproject.toml", "requirements.txt", "setup.py"].iter().any(|name| directory.join(name).is_file())
}

/// The commands for a language and its package manager (MW-8).
fn infer(language: &str, manager: Option<&str>, entry: Option<&str>, directory: &Path) -> Result<Manifest, String> {
    let commands =
        |install: &str, start: String| Ok(Manifest { install: Some(install.to_owned()), start, ..Manifest::default() });
    let needs_entry = || entry.map(quoted).ok_or_else(|| format!("runtime.entry is missing for {language}"));
    match (language, manager) {
        ("bun", _) | ("typescript" | "javascript", Some("bun")) => {
            commands("bun install", format!("bun run {}", needs_entry()?))
        }
        ("typescript" | "javascript", Some("npm")) => commands("npm install", format!("npx tsx {}", needs_entry()?)),
        ("typescript" | "javascript", Some(manager @ ("pnpm" | "yarn"))) => {
            commands(&format!("{manager} install"), format!("{manager} exec tsx {}", needs_entry()?))
        }
        ("typescript" | "javascript", _) => Err(format!("runtime.package_manager is missing for {language}")),
        ("python", _) => {
            let install = match directory.join("pyproject.toml").is_file() || directory.join("setup.py").is_file() {
                true => "pip install -e .",
                false => "pip install -r requirements.txt",
            };
            let entry = entry.ok_or_else(|| format!("runtime.entry is missing for {language}"))?;
            let module = if entry.ends_with(".py") { quoted(entry) } else { format!("-m {}", quoted(entry)) };
            commands(install, format!("python {module}"))
        }
        ("rust", _) => commands("cargo build --release", "cargo run --release".to_owned()),
        (other, _) => Err(format!("runtime.kind '{other}' is not known")),
    }
}

/// A word the shell takes as one.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | ':' | '@' | '+' | '=' | ',');
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

fn must_be_mapping(section: &str, value: &Value) -> String {
    format!("'{section}' must be a mapping of indented 'key: value' fields, got {}", kind(value))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(text: &str) -> Result<Manifest, String> {
        parse(text, "m")?.manifest(Path::new("nowhere"))
    }

    // MW-5, MW-6
    #[test]
    fn mw_6_what_is_wrong_is_named() {
        assert_eq!(parse("", "m").unwrap_err(), "m is empty; at least name and scripts.start are required");
        assert_eq!(parse("[1]", "m").unwrap_err(), "m: expected a mapping at the top level, got a list");
        let reading = parse("name: x\nruntime: python\nfoo: 1\nscript: {}", "m").unwrap();
        assert_eq!(reading.shape, ["'runtime' must be a mapping of indented 'key: value' fields, got a string"]);
        assert_eq!(reading.unknown, ["foo", "script"]);
        assert_eq!(parse("name: x\ndependencies: {x: '1'}", "m").unwrap().shape.len(), 1);
        assert!(manifest("name: x").unwrap_err().starts_with("no start command"));
    }

    // MW-5: the seed-era manifests use the older keys.
    #[test]
    fn mw_5_older_keys_are_honoured() {
        let text = "name: math-worker\nruntime: {language: python, package_manager: pip, entry: math_worker.py}\n\
                    scripts: {install: 'pip install -r requirements.txt', start: \"watchfiles 'python math_worker.py'\"}";
        let reading = parse(text, "m").unwrap();
        assert_eq!(reading.deprecated, ["runtime.language", "runtime.package_manager", "runtime.entry"]);
        let manifest = reading.manifest(Path::new("nowhere")).unwrap();
        assert_eq!(manifest.start, "watchfiles 'python math_worker.py'");
        assert_eq!(manifest.install.as_deref(), Some("pip install -r requirements.txt"));
        assert!(manifest.python);
    }

    // MW-8
    #[test]
    fn mw_8_commands_are_inferred() {
        for (runtime, install, start) in [
            ("{kind: typescript, package_manager: npm, entry: src/a.ts}", "npm install", "npx tsx src/a.ts"),
            ("{kind: typescript, package_manager: pnpm, entry: a.ts}", "pnpm install", "pnpm exec tsx a.ts"),
            ("{kind: javascript, package_manager: yarn, entry: a.js}", "yarn install", "yarn exec tsx a.js"),
            ("{kind: bun, entry: a.ts}", "bun install", "bun run a.ts"),
            ("{kind: typescript, package_manager: bun, entry: a.ts}", "bun install", "bun run a.ts"),
            ("{kind: python, entry: my.worker}", "pip install -r requirements.txt", "python -m my.worker"),
            ("{kind: rust}", "cargo build --release", "cargo run --release"),
        ] {
            let found = manifest(&format!("name: x\nruntime: {runtime}")).unwrap();
            assert_eq!((found.install.as_deref(), found.start.as_str()), (Some(install), start), "{runtime}");
        }
        let refused = manifest("name: x\nruntime: {kind: typescript, entry: a.ts}").unwrap_err();
        assert!(refused.contains("package_manager"), "{refused}");
        assert_eq!(manifest("name: x\nscripts: {start: run, install: ''}").unwrap().install, None);
    }

    #[test]
    fn words_are_quoted_for_the_shell() {
        assert_eq!(quoted("src/a.ts"), "src/a.ts");
        assert_eq!(quoted("it's"), "'it'\\''s'");
    }
}
