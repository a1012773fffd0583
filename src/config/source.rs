//! Which file is the configuration, and its text on the way from disk to values.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::Surroundings;
use super::expand::{self, Expanded};
use super::parse::{self, Target};
use super::problem::{ConfigError, FieldPath, Invalid, Location};

/// Names looked for in the working directory, best first (CFG-2).
const FILE_NAMES: [&str; 4] = ["config.yaml", "iii-config.yaml", "config.yml", "iii.config.yaml"];

/// Largest file that is read.
const FILE_BYTES_MAX: usize = 1 << 20;

/// The built-in default configuration (CFG-45). `config.yaml` at the root of the repository says the same at length.
const DEFAULT_TEXT: &str = "\
workers:
  - name: iii-http
  - name: iii-stream
  - name: iii-state
  - name: iii-queue
  - name: iii-pubsub
  - name: iii-cron
";

/// Which configuration the user asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// This file.
    File(PathBuf),
    /// The first of the usual names in the working directory, else the defaults.
    Search,
    /// The built-in defaults.
    Defaults,
}

/// A chosen configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The file as it was named; none for the built-in defaults.
    pub file: Option<PathBuf>,
    /// Another file that would have been used if the first did not exist.
    pub ignored: Option<PathBuf>,
    /// Whether the defaults stand in for a file that was not found.
    pub fallback: bool,
}

impl Source {
    /// Chooses a file, looking for the usual names in `directory`.
    pub fn choose(choice: &Choice, directory: &Path) -> Source {
        let none = Source { file: None, ignored: None, fallback: false };
        match choice {
            Choice::File(path) => Source { file: Some(path.clone()), ..none },
            Choice::Defaults => none,
            Choice::Search => {
                let mut found = FILE_NAMES.iter().filter(|name| directory.join(name).exists()).map(PathBuf::from);
                let file = found.next();
                Source { fallback: file.is_none(), file, ignored: found.next() }
            }
        }
    }

    /// The name shown in messages.
    pub fn shown(&self) -> &Path {
        self.file.as_deref().unwrap_or(Path::new("built-in defaults"))
    }

    /// The file as processes in other directories can find it, for `III_CONFIG_PATH`.
    pub fn absolute(&self) -> Option<PathBuf> {
        self.file.as_ref().and_then(|file| std::path::absolute(file).ok())
    }

    /// Reads the text.
    pub fn read(&self) -> Result<String, ConfigError> {
        let Some(path) = &self.file else { return Ok(DEFAULT_TEXT.to_owned()) };
        let failed = |cause: io::Error| match cause.kind() {
            io::ErrorKind::NotFound => ConfigError::NotFound(path.clone()),
            _ => ConfigError::Read(path.clone(), cause),
        };
        let bytes = fs::read(path).map_err(failed)?;
        if bytes.len() > FILE_BYTES_MAX {
            let text = format!("{} bytes, more than the {FILE_BYTES_MAX} a configuration may have", bytes.len());
            return Err(failed(io::Error::new(io::ErrorKind::InvalidData, text)));
        }
        String::from_utf8(bytes)
            .map_err(|_| failed(io::Error::new(io::ErrorKind::InvalidData, "stream did not contain valid UTF-8")))
    }
}

/// A configuration text and its values.
#[derive(Debug)]
pub struct Document {
    /// The text as written.
    pub original: String,
    /// The text YAML has seen.
    expanded: Expanded,
    /// The values.
    pub root: Value,
}

impl Document {
    /// Expands and parses a text.
    pub fn read(file: &Path, original: String, surroundings: &Surroundings) -> Result<Document, ConfigError> {
        let variable = |name: &str| (surroundings.variable)(name).and_then(|value| value.into_string().ok());
        let invalid = |text: &str, problems| {
            ConfigError::Invalid(Box::new(Invalid { file: file.to_owned(), text: text.to_owned(), problems }))
        };
        let expanded = expand::expand(&original, &variable).map_err(|problems| invalid(&original, problems))?;
        match parse::parse(&expanded.text) {
            Ok(root) => Ok(Document { original, expanded, root }),
            Err(mut problem) => {
                problem.location = problem.location.map(|location| expanded.original(location));
                Err(invalid(&original, vec![*problem]))
            }
        }
    }

    /// Where a setting is written.
    pub fn locate(&self, field: &FieldPath, target: Target) -> Option<Location> {
        parse::locate(&self.expanded.text, field, target).map(|location| self.expanded.original(location))
    }
}
