//! `iii config check|show|schema`: the configuration without an engine.

use std::path::PathBuf;
use std::process::ExitCode;

use super::args::{ConfigArguments, ConfigCommand};
use super::options::Options;
use super::output;
use crate::config::{self, Choice, ConfigError, Loaded, NoteLevel, Surroundings};

/// Runs `iii config …`.
pub fn run(arguments: ConfigArguments, options: Options) -> ExitCode {
    match arguments.command {
        ConfigCommand::Check(check) => report_check(load(check.path, &options)),
        ConfigCommand::Show(shown) => match load(shown.path, &options) {
            Ok(loaded) => {
                output::stdout(&format!("{}\n", config::show(&loaded.config, shown.show_secrets)));
                ExitCode::SUCCESS
            }
            Err(error) => output::fail(&error),
        },
        ConfigCommand::Schema(_) => {
            output::stdout(&config::schema());
            ExitCode::SUCCESS
        }
    }
}

fn load(path: Option<PathBuf>, options: &Options) -> Result<Loaded, ConfigError> {
    let choice = path.map_or_else(|| options.choice.clone(), Choice::File);
    config::load(&choice, &options.overrides, &Surroundings::process())
}

/// One line per problem, in a form editors understand (CLI-60).
fn report_check(result: Result<Loaded, ConfigError>) -> ExitCode {
    match result {
        Ok(loaded) => {
            for note in loaded.notes.iter().filter(|note| note.level == NoteLevel::Warn) {
                output::stderr(&format!("warning: {}\n", note.text));
            }
            output::stdout(&format!("{}: ok\n", loaded.source.shown().display()));
            ExitCode::SUCCESS
        }
        Err(ConfigError::Invalid(invalid)) => {
            for line in invalid.lines() {
                output::stdout(&format!("{line}\n"));
            }
            ExitCode::FAILURE
        }
        Err(error) => output::fail(&error),
    }
}
