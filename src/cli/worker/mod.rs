//! `iii worker`: the worker processes of a project. Data goes to standard output, everything said about it to standard
//! error. With a running engine the verbs go through its `worker::*` functions; without one they edit the file.

mod add;
mod args;
mod control;
mod engine;
mod init;
mod logs;
mod status;

pub use args::WorkerArguments;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};

use self::args::Verb;
use self::engine::Remote;
use super::options::Options;
use super::output;
use crate::config::settings::WorkerSettings;
use crate::config::{self, Choice, Source, Surroundings, WorkerKind};

/// Port of the engine when nothing names one.
const PORT_DEFAULT: u16 = 49134;
/// How long an engine may take to answer a question.
const QUESTION: Duration = Duration::from_secs(5);

/// The project the verbs work on.
pub struct Project {
    /// Its configuration file; none if there is none.
    pub config: Option<PathBuf>,
    /// Where its engine is.
    pub remote: Remote,
}

/// Why a verb failed; the text may have further lines, with hints.
pub struct Failure(pub String);

impl From<String> for Failure {
    fn from(text: String) -> Failure {
        Failure(text)
    }
}

impl From<crate::workers::managed::project::OpError> for Failure {
    fn from(error: crate::workers::managed::project::OpError) -> Failure {
        Failure(error.message)
    }
}

/// What a verb comes to: an exit code.
pub type Outcome = Result<u8, Failure>;

/// Runs `iii worker …`.
pub fn run(arguments: WorkerArguments, options: &Options) -> ExitCode {
    let outcome = match arguments.verb {
        Verb::Add(arguments) => add::run(&arguments, options),
        Verb::Reinstall(arguments) => add::reinstall(&arguments, options),
        Verb::List(arguments) => control::list(&arguments, options),
        Verb::Start(arguments) => control::start(&arguments, options),
        Verb::Restart(arguments) => control::restart(&arguments, options),
        Verb::Stop(arguments) => control::stop(&arguments, options),
        Verb::Remove(arguments) => control::remove(&arguments, options),
        Verb::Clear(arguments) => control::clear(&arguments, options),
        Verb::Status(arguments) => status::run(&arguments, options),
        Verb::Logs(arguments) => logs::run(&arguments, options),
        Verb::Init(arguments) => init::run(&arguments),
        Verb::Update(_) | Verb::Sync(_) | Verb::Verify(_) => {
            Err(Failure("no registry: this engine neither installs workers from one nor updates them".to_owned()))
        }
        Verb::Exec(_) => Err(Failure("workers are processes of this machine: run the command as it is".to_owned())),
        Verb::Sandbox(_) => Err(Failure("'iii worker sandbox' is not part of this engine".to_owned())),
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(Failure(text)) => {
            output::stderr(&format!("error: {}\n", text.trim_end()));
            ExitCode::FAILURE
        }
    }
}

// === impl Project ===

impl Project {
    /// That of the options, of `III_CONFIG_PATH`, or of the working directory.
    pub fn find(options: &Options, port: Option<u16>) -> Project {
        let config = match (&options.choice, std::env::var_os("III_CONFIG_PATH").filter(|path| !path.is_empty())) {
            (Choice::File(path), _) => Some(path.clone()),
            (_, Some(path)) => Some(PathBuf::from(path)),
            (Choice::Search, None) => Source::choose(&Choice::Search, &PathBuf::from(".")).file,
            (Choice::Defaults, None) => None,
        };
        let port = port.or(options.overrides.port).or_else(|| config.as_deref().and_then(port_of));
        let remote = Remote::new("localhost", port.unwrap_or(PORT_DEFAULT));
        Project { config, remote }
    }

    /// The file, or an error that says how to make one.
    pub fn config(&self) -> Result<&PathBuf, Failure> {
        self.config
            .as_ref()
            .ok_or_else(|| Failure("no config.yaml in this directory\n  make one with: iii project init".to_owned()))
    }

    /// Its name, for messages.
    pub fn config_name(&self) -> String {
        let name = self.config.as_ref().and_then(|path| path.file_name());
        name.map_or_else(|| "config.yaml".to_owned(), |name| name.to_string_lossy().into_owned())
    }

    /// What the engine of this project lists; `None` if it does not run. An engine of another project is none of ours.
    pub fn running(&self) -> Option<Value> {
        let list = self.remote.call("worker::list", json!({}), QUESTION).ok()?;
        let Some(config) = &self.config else { return Some(list) };
        let theirs = list["config_path"].as_str().map(PathBuf::from)?;
        let canonical = |path: &PathBuf| std::fs::canonicalize(path).ok();
        (canonical(&theirs).is_some() && canonical(&theirs) == canonical(config)).then_some(list)
    }

    /// The names in the file.
    pub fn names(&self) -> Result<Vec<String>, Failure> {
        let path = self.config()?;
        let text =
            std::fs::read_to_string(path).map_err(|error| format!("cannot read '{}': {error}", path.display()))?;
        config::edit::names(&text).map_err(|reason| Failure(format!("'{}': {reason}", path.display())))
    }
}

/// The port of the first open listener of a file (MW-52).
fn port_of(path: &Path) -> Option<u16> {
    let overrides = config::Overrides::default();
    let loaded = config::load(&Choice::File(path.to_owned()), &overrides, &Surroundings::process()).ok()?;
    let managers = loaded.config.workers.iter().filter_map(|worker| match &worker.kind {
        WorkerKind::BuiltIn(_, WorkerSettings::WorkerManager(settings)) => Some(settings),
        _ => None,
    });
    let first = managers.into_iter().find(|settings| settings.rbac.is_none()).map(|settings| settings.port);
    loaded.config.top.port.or(first)
}
