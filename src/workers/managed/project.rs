//! Adding workers to a configuration file and removing them: what may be added, and what is written.

use super::manifest::{self, Reading};
use super::{place::Place, plan};
use crate::config::{BuiltIn, edit};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

/// Why an operation on workers failed: a code of MW-62, and what happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpError {
    /// `W110` and so on.
    pub code: &'static str,
    /// For people.
    pub message: String,
}

impl OpError {
    /// An error.
    pub fn new(code: &'static str, message: impl Into<String>) -> OpError {
        OpError { code, message: message.into() }
    }

    /// Its form on the wire (MW-61).
    pub fn body(&self) -> Value {
        json!({"type": "WorkerOpError", "code": self.code, "message": self.message, "details": {}})
    }
}

impl std::fmt::Display for OpError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

/// Where a worker to be added comes from (MW-40).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A project directory.
    Local(PathBuf),
    /// A container image.
    Image(String),
    /// A name, which here can only be that of a built-in worker.
    Name(String),
}

impl Source {
    /// What an argument means.
    pub fn parse(text: &str) -> Source {
        if let Some(rest) = text.strip_prefix('~') {
            let home = std::env::var("HOME").unwrap_or_default();
            return Source::Local(PathBuf::from(home + rest));
        }
        if text.starts_with(['.', '/']) {
            return Source::Local(PathBuf::from(text));
        }
        if text.contains('/') || (text.contains(':') && !text.contains('@')) {
            return Source::Image(text.to_owned());
        }
        Source::Name(text.split('@').next().unwrap_or(text).to_owned())
    }
}

/// A project that may be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// Name of the worker.
    pub name: String,
    /// Its directory, absolute, links resolved.
    pub directory: PathBuf,
    /// Worth telling: keys that are no longer written.
    pub warnings: Vec<String>,
}

/// Checks a project directory, in the order of MW-6.
pub fn check(path: &Path) -> Result<Project, OpError> {
    let bad = |message: String| OpError::new("W110", message);
    let directory =
        fs::canonicalize(path).map_err(|error| bad(format!("Cannot resolve path '{}': {error}", path.display())))?;
    if !directory.is_dir() {
        return Err(bad(format!("'{}' is not a directory", path.display())));
    }
    let shown = directory.join(manifest::FILE_NAME).display().to_string();
    let Some(reading) = manifest::read(&directory).map_err(|message| OpError::new("W105", message))? else {
        return match manifest::detect(&directory) {
            Some(_) => {
                let name = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
                check_name(&name)?;
                Ok(Project { name, directory, warnings: Vec::new() })
            }
            None => Err(bad(plan::no_manifest(path))),
        };
    };
    let name = check_reading(&reading, &shown, &directory)?;
    Ok(Project { name, warnings: warnings(&reading), directory })
}

fn check_reading(reading: &Reading, shown: &str, directory: &Path) -> Result<String, OpError> {
    let wrong = |message: String| Err(OpError::new("W105", message));
    if !reading.shape.is_empty() {
        return wrong(format!("{shown}: invalid manifest shape: {}", reading.shape.join("; ")));
    }
    if !reading.unknown.is_empty() {
        return wrong(format!(
            "unknown key(s) in {shown}: [{}]. Supported fields are: {}",
            reading.unknown.join(", "),
            Reading::supported()
        ));
    }
    let Some(name) = reading.name() else {
        return wrong(format!("{shown}: missing required field 'name' (add a line like 'name: my-worker')"));
    };
    if let Err(reason) = reading.manifest(directory) {
        return wrong(format!("{shown}: {reason}"));
    }
    check_name(&name)?;
    Ok(name)
}

fn warnings(reading: &Reading) -> Vec<String> {
    let silent = std::env::var_os("III_NO_DEPRECATION_WARN").is_some_and(|value| !value.is_empty());
    if silent || reading.deprecated.is_empty() {
        return Vec::new();
    }
    let keys = reading.deprecated.join(", ");
    vec![format!("deprecated manifest key(s) still honoured: {keys}; use 'scripts' instead")]
}

/// What is wrong with a manifest, for `worker::validate`.
pub fn validate(text: &str, directory: &Path) -> Value {
    let reading = match manifest::parse(text, manifest::FILE_NAME) {
        Ok(reading) => reading,
        Err(reason) => {
            return json!({"valid": false, "errors": [reason], "unknown_keys": [], "deprecated_keys": [], "warnings": []});
        }
    };
    let errors: Vec<String> =
        check_reading(&reading, manifest::FILE_NAME, directory).err().map(|error| error.message).into_iter().collect();
    let mut answer = json!({
        "valid": errors.is_empty(), "errors": errors, "unknown_keys": reading.unknown,
        "deprecated_keys": reading.deprecated, "warnings": warnings(&reading),
    });
    if let Some(name) = reading.name() {
        answer["name"] = Value::from(name);
    }
    answer
}

/// Names that may be given to a worker (CFG-28, without `::`).
pub fn check_name(name: &str) -> Result<(), OpError> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || !name.chars().all(legal) || name.contains("..") || name.starts_with('.') {
        return Err(OpError::new("W100", format!("'{name}' is not a worker name: use letters, digits, '-', '_', '.'")));
    }
    if BuiltIn::by_name(name).is_some() {
        return Err(OpError::new("W100", format!("'{name}' is the name of a built-in worker; choose another one")));
    }
    Ok(())
}

/// What adding a worker has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Added {
    /// A built-in worker is now listed.
    BuiltIn {
        /// As typed.
        name: String,
        /// It was listed before.
        again: bool,
    },
    /// It runs anyway; nothing was written.
    Mandatory {
        /// As typed.
        name: String,
    },
    /// A project is now listed.
    Local {
        /// The project.
        project: Project,
        /// It was listed before.
        replaced: bool,
    },
    /// An image is now listed.
    Image {
        /// Made of the last part of the reference.
        name: String,
    },
}

/// Writes a worker into a configuration file.
pub fn add(config: &Path, source: &Source, force: bool, reset_config: bool) -> Result<Added, OpError> {
    let _lock = lock(config)?;
    let text = read(config)?;
    let listed = |name: &str| edit::contains(&text, name).map_err(|reason| unreadable(config, &reason));
    match source {
        Source::Name(name) => {
            let worker = BuiltIn::by_name(name).ok_or_else(|| {
                let message = format!(
                    "'{name}' is not a built-in worker; this engine does not install from a registry. \
                     Add a local directory instead: iii worker add ./path"
                );
                OpError::new("W140", message)
            })?;
            if worker.facts().mandatory {
                return Ok(Added::Mandatory { name: name.clone() });
            }
            let again = listed(name)?;
            if !again {
                save(config, &edit::append(&text, name, &[]).map_err(|reason| unreadable(config, &reason))?)?;
            }
            Ok(Added::BuiltIn { name: name.clone(), again })
        }
        Source::Image(image) => {
            let last = image.rsplit('/').next().unwrap_or(image);
            let name = last.split([':', '@']).next().unwrap_or(last).to_owned();
            check_name(&name)?;
            if listed(&name)? && !force {
                return Err(exists(&name));
            }
            let text = edit::remove(&text, &name).map_err(|reason| unreadable(config, &reason))?;
            let text = edit::append(&text, &name, &[("image", image)]).map_err(|reason| unreadable(config, &reason))?;
            save(config, &text)?;
            Ok(Added::Image { name })
        }
        Source::Local(path) => {
            let project = check(path)?;
            let replaced = listed(&project.name)?;
            if replaced && !force {
                return Err(exists(&project.name));
            }
            let directory = project.directory.to_string_lossy();
            // An entry that is there already keeps its settings, unless they are to go too.
            let kept = replaced && !reset_config && text.contains(&*directory);
            if !kept {
                let text = edit::remove(&text, &project.name).map_err(|reason| unreadable(config, &reason))?;
                let text = edit::append(&text, &project.name, &[("worker_path", &directory)])
                    .map_err(|reason| unreadable(config, &reason))?;
                save(config, &text)?;
            }
            Ok(Added::Local { project, replaced })
        }
    }
}

/// Takes a worker out of a configuration file. `false` = it is not listed.
pub fn remove(config: &Path, name: &str) -> Result<bool, OpError> {
    let _lock = lock(config)?;
    let text = read(config)?;
    if !edit::contains(&text, name).map_err(|reason| unreadable(config, &reason))? {
        return Ok(false);
    }
    save(config, &edit::remove(&text, name).map_err(|reason| unreadable(config, &reason))?)?;
    Ok(true)
}

/// Forgets what was prepared for a worker; returns how many bytes that were.
pub fn clear(place: &Place, name: &str) -> u64 {
    let directories = [place.managed(name), place.logs(name)];
    directories
        .iter()
        .map(|directory| {
            let bytes = size(directory);
            let _ = fs::remove_dir_all(directory);
            bytes
        })
        .sum()
}

fn size(path: &Path) -> u64 {
    let Ok(metadata) = fs::symlink_metadata(path) else { return 0 };
    if !metadata.is_dir() {
        return metadata.len();
    }
    fs::read_dir(path).into_iter().flatten().flatten().map(|entry| size(&entry.path())).sum()
}

fn exists(name: &str) -> OpError {
    let message = format!(
        "worker '{name}' is already in the configuration\n  see how it does:       iii worker status {name}\n  \
         install it again:      iii worker add --force <path>\n  \
         and forget settings:   iii worker add --force --reset-config <path>"
    );
    OpError::new("W111", message)
}

fn read(config: &Path) -> Result<String, OpError> {
    match fs::read_to_string(config) {
        Ok(text) => Ok(text),
        Err(error) => Err(OpError::new("W130", format!("cannot read '{}': {error}", config.display()))),
    }
}

fn unreadable(config: &Path, reason: &str) -> OpError {
    OpError::new("W131", format!("'{}': {reason}", config.display()))
}

fn save(config: &Path, text: &str) -> Result<(), OpError> {
    edit::write(config, text)
        .map_err(|error| OpError::new("W130", format!("cannot write '{}': {error}", config.display())))
}

/// One change of a project at a time (MW-53). Released when dropped.
fn lock(config: &Path) -> Result<fs::File, OpError> {
    let path = config.with_file_name(".iii-worker.lock");
    let failed = |error: std::io::Error| OpError::new("W121", format!("cannot lock '{}': {error}", path.display()));
    let file = fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            Err(OpError::new("W120", "another `iii worker` command is changing this project; try again"))
        }
        Err(error) => Err(failed(error.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // MW-40
    #[test]
    fn mw_40_sources() {
        for (text, expected) in [
            ("./a", Source::Local("./a".into())),
            ("/a", Source::Local("/a".into())),
            ("..", Source::Local("..".into())),
            ("ghcr.io/x/y:1", Source::Image("ghcr.io/x/y:1".to_owned())),
            ("redis:7", Source::Image("redis:7".to_owned())),
            ("iii-state", Source::Name("iii-state".to_owned())),
            ("state@1.0.0", Source::Name("state".to_owned())),
        ] {
            assert_eq!(Source::parse(text), expected, "{text}");
        }
    }
}
