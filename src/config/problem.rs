//! What can be wrong with a configuration, where it is, and how that is shown.

use std::fmt;
use std::io;
use std::path::{Path as FilePath, PathBuf};

use super::parse::Target;
use super::source::Document;

/// A place in the configuration file, counted from 1 in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} column {}", self.line, self.column)
    }
}

/// One step into the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    /// A member of a mapping.
    Key(String),
    /// An element of a list.
    Index(usize),
}

/// A way into the configuration, shown as `workers[0].config.port`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldPath(pub Vec<Segment>);

impl FieldPath {
    /// This path and one more key.
    pub fn key(&self, key: &str) -> FieldPath {
        self.and(Segment::Key(key.to_owned()))
    }

    /// This path and one more index.
    pub fn index(&self, index: usize) -> FieldPath {
        self.and(Segment::Index(index))
    }

    fn and(&self, segment: Segment) -> FieldPath {
        let mut segments = self.0.clone();
        segments.push(segment);
        FieldPath(segments)
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Key(key) if at == 0 => write!(f, "{key}")?,
                Segment::Key(key) => write!(f, ".{key}")?,
                Segment::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The setting; empty when the fault is none in particular.
    pub field: FieldPath,
    /// The worker whose settings these are, as its entry names it.
    pub worker: Option<String>,
    /// What is wrong with it.
    pub reason: String,
    /// Where it is written.
    pub location: Option<Location>,
    /// Whether `reason` names the location itself, as the parser's texts do.
    pub located: bool,
    /// What was probably meant.
    pub suggestion: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.field.0.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        if let Some(worker) = &self.worker {
            write!(f, "failed to create worker '{worker}': Failed to create {worker}: ")?;
        }
        write!(f, "{}", self.reason)?;
        match self.location {
            Some(location) if !self.located => write!(f, " at {location}"),
            _ => Ok(()),
        }
    }
}

/// Something worth telling about a configuration that is accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// How loudly.
    pub level: NoteLevel,
    /// The text, location included.
    pub text: String,
}

/// How loudly a note is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoteLevel {
    /// For the record.
    Info,
    /// Probably not what was meant.
    Warn,
}

/// Why there is no configuration. Ends the process with exit code 1.
#[derive(Debug)]
pub enum ConfigError {
    /// The named file does not exist.
    NotFound(PathBuf),
    /// The file cannot be read.
    Read(PathBuf, io::Error),
    /// The file says something impossible. At least one problem.
    Invalid(Box<Invalid>),
    /// A listener cannot be set up.
    Listener {
        /// Name of the entry.
        worker: String,
        /// Why.
        cause: String,
    },
}

/// Everything wrong with one file.
#[derive(Debug)]
pub struct Invalid {
    /// The file as it was named.
    pub file: PathBuf,
    /// Its text, for showing lines.
    pub text: String,
    /// What is wrong, in the order of the file.
    pub problems: Vec<Problem>,
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::NotFound(path) => {
                writeln!(f, "Config file not found: '{}'.", path.display())?;
                write!(f, "Hint: create it, or pass --use-default-config to run with defaults.")
            }
            ConfigError::Read(path, cause) => write!(f, "Failed to read config file '{}': {cause}", path.display()),
            ConfigError::Invalid(invalid) => invalid.fmt(f),
            ConfigError::Listener { worker, cause } => write!(f, "failed to start worker '{worker}': {cause}"),
        }
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.problems.iter().enumerate() {
            match at {
                0 => write!(f, "Failed to parse config file '{}': {problem}", self.file.display())?,
                _ => write!(f, "\n\nalso: {problem}")?,
            }
            if let Some(location) = problem.location {
                self.excerpt(f, location)?;
            }
            if let Some(suggestion) = &problem.suggestion {
                write!(f, "\n  did you mean '{suggestion}'?")?;
            }
        }
        Ok(())
    }
}

impl Invalid {
    /// The line and a caret under what is wrong in it.
    fn excerpt(&self, f: &mut fmt::Formatter<'_>, location: Location) -> fmt::Result {
        let Some(line) = self.text.lines().nth(location.line - 1) else { return Ok(()) };
        let number = location.line.to_string();
        let before: String =
            line.chars().take(location.column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        let rest: Vec<char> = line.chars().skip(location.column - 1).collect();
        let carets = "^".repeat(token_length(&rest).max(1));
        write!(f, "\n  {number} | {line}\n  {} | {before}{carets}", " ".repeat(number.len()))
    }

    /// One line per problem: `PATH:LINE:COLUMN: message`.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let file = self.file.display();
        self.problems.iter().map(move |problem| {
            let Location { line, column } = problem.location.unwrap_or(Location { line: 1, column: 1 });
            let worker = problem.worker.as_ref().map_or(String::new(), |worker| format!("{worker}: "));
            let field = match problem.field.0.as_slice() {
                [] => String::new(),
                _ => format!("{}: ", problem.field),
            };
            let reason = problem.reason.replace('\n', " ");
            let hint = problem.suggestion.as_ref().map_or(String::new(), |word| format!(" (did you mean '{word}'?)"));
            format!("{file}:{line}:{column}: {field}{worker}{reason}{hint}")
        })
    }
}

/// Characters of the YAML token at the start of `rest`.
fn token_length(rest: &[char]) -> usize {
    let until = |end: &dyn Fn(char) -> bool| rest.iter().skip(1).position(|&c| end(c)).map(|at| at + 1);
    match rest.first() {
        Some('"') => until(&|c| c == '"').map_or(rest.len(), |at| at + 1),
        Some('\'') => until(&|c| c == '\'').map_or(rest.len(), |at| at + 1),
        Some('$') => until(&|c| c == '}').map_or(rest.len(), |at| at + 1),
        Some(_) => {
            let ends = |at: usize| {
                let after = rest.get(at + 1).is_none_or(|c| c.is_whitespace());
                rest[at].is_whitespace() || matches!(rest[at], ',' | ']' | '}') || (rest[at] == ':' && after)
            };
            (1..rest.len()).find(|&at| ends(at)).unwrap_or(rest.len())
        }
        None => 0,
    }
}

/// Most problems told about one file: a wrong file is wrong in many places, and nobody reads them all.
const PROBLEMS_MAX: usize = 50;

/// Collects problems and notes about one document.
#[derive(Debug)]
pub struct Report<'a> {
    document: &'a Document,
    /// The worker whose settings are being looked at.
    pub worker: Option<String>,
    problems: Vec<Problem>,
    notes: Vec<Note>,
}

impl<'a> Report<'a> {
    /// Nothing found yet.
    pub fn new(document: &'a Document) -> Report<'a> {
        Report { document, worker: None, problems: Vec::new(), notes: Vec::new() }
    }

    /// Something is wrong with a setting.
    pub fn problem(&mut self, field: &FieldPath, target: Target, reason: impl Into<String>) {
        self.problem_at(field, field, target, reason, None);
    }

    /// Something is wrong with a setting, and something else was probably meant.
    pub fn problem_with(
        &mut self,
        field: &FieldPath,
        target: Target,
        reason: impl Into<String>,
        suggestion: Option<&str>,
    ) {
        self.problem_at(field, field, target, reason, suggestion);
    }

    /// Something is wrong with the setting shown as `field`, at the place where `place` is written.
    pub fn problem_at(
        &mut self,
        field: &FieldPath,
        place: &FieldPath,
        target: Target,
        reason: impl Into<String>,
        suggestion: Option<&str>,
    ) {
        if self.problems.len() == PROBLEMS_MAX {
            return;
        }
        self.problems.push(Problem {
            field: field.clone(),
            worker: self.worker.clone(),
            reason: reason.into(),
            location: self.locate(place, target),
            located: false,
            suggestion: suggestion.map(str::to_owned),
        });
    }

    /// Something is wrong; the reason says where itself.
    pub fn problem_told(&mut self, field: &FieldPath, target: Target, reason: String) {
        let location = self.locate(field, target);
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(Problem {
                field: field.clone(),
                worker: None,
                reason,
                location,
                located: true,
                suggestion: None,
            });
        }
    }

    /// Something is accepted but deserves a warning.
    pub fn warn(&mut self, field: &FieldPath, target: Target, text: impl fmt::Display) {
        let place = self.locate(field, target).map_or(String::new(), |location| format!(" at {location}"));
        self.notes.push(Note { level: NoteLevel::Warn, text: format!("{field}: {text}{place}") });
    }

    /// Something to say about the configuration as a whole.
    pub fn note(&mut self, level: NoteLevel, text: impl Into<String>) {
        self.notes.push(Note { level, text: text.into() });
    }

    /// Where a setting is written in the file.
    pub fn locate(&self, field: &FieldPath, target: Target) -> Option<Location> {
        self.document.locate(field, target)
    }

    /// The notes, or everything that is wrong.
    pub fn finish(mut self, file: &FilePath) -> Result<Vec<Note>, ConfigError> {
        if self.problems.is_empty() {
            return Ok(self.notes);
        }
        self.problems.sort_by_key(|problem| problem.location);
        Err(ConfigError::Invalid(Box::new(Invalid {
            file: file.to_owned(),
            text: self.document.original.clone(),
            problems: self.problems,
        })))
    }
}
