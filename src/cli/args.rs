//! The arguments as typed. `argh` reads them and writes the help; ranges are checked here, combinations in `mod.rs`.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use argh::FromArgs;

use super::completions::CompletionsArguments;
use super::project::{CreateArguments, InitArguments, ProjectArguments};
use super::usage::UsageError;
use super::worker::WorkerArguments;
use crate::config::SHARDS_RANGE;

/// An engine that connects workers, functions and triggers. Without a command it serves.
#[derive(FromArgs, Debug)]
#[argh(help_triggers("-h", "--help"))]
pub struct Arguments {
    /// configuration file (default: config.yaml or iii-config.yaml in this directory, else built-in defaults)
    #[argh(option, short = 'c')]
    pub config: Option<PathBuf>,
    /// use the built-in defaults and read no file
    #[argh(switch)]
    pub use_default_config: bool,
    /// port for workers (default: from the configuration, else 49134)
    #[argh(option, from_str_fn(port))]
    pub port: Option<u16>,
    /// host or address for workers (default: from the configuration, else 127.0.0.1)
    #[argh(option)]
    pub host: Option<String>,
    /// number of event loops, 1 to 64 (default: one per available CPU)
    #[argh(option, from_str_fn(shards))]
    pub shards: Option<usize>,
    /// poll instead of sleeping while calls are pending: lower latency, busier cores
    #[argh(switch)]
    pub busy_poll: bool,
    /// accepted for compatibility; this engine never checks for updates
    #[argh(switch)]
    pub no_update_check: bool,
    /// print the version (also -v)
    #[argh(switch)]
    #[allow(dead_code, reason = "the pre-pass answers it; declared so that the help shows it")]
    pub version: bool,
    /// the command
    #[argh(subcommand)]
    pub command: Option<CommandArguments>,
}

/// The commands.
#[derive(FromArgs, Debug)]
#[argh(subcommand)]
pub enum CommandArguments {
    /// `iii trigger`
    Trigger(TriggerArguments),
    /// `iii config`
    Config(ConfigArguments),
    /// `iii worker`
    Worker(WorkerArguments),
    /// `iii project`
    Project(ProjectArguments),
    /// `iii init`
    Init(InitArguments),
    /// `iii create`
    Create(CreateArguments),
    /// `iii completions`
    Completions(CompletionsArguments),
    /// `iii console`
    Console(ConsoleArguments),
    /// `iii cloud`
    Cloud(CloudArguments),
    /// `iii update`
    Update(UpdateArguments),
    /// `iii compose`
    Compose(ComposeArguments),
    /// `iii sandbox`
    Sandbox(SandboxArguments),
}

/// Call a function and print its result.
///
/// Each KEY=VALUE becomes a member of the payload; values that are valid JSON are taken as such, others as text.
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "trigger", short = 't', help_triggers("-h", "--help"))]
pub struct TriggerArguments {
    /// payload as JSON; `-` reads it from standard input, `@FILE` from a file (default: {})
    #[argh(option)]
    pub json: Option<String>,
    /// host of the engine (default: localhost)
    #[argh(option)]
    pub address: Option<String>,
    /// port of the engine (default: 49134)
    #[argh(option, from_str_fn(port))]
    pub port: Option<u16>,
    /// limit for the whole call in milliseconds (default: 30000)
    #[argh(option, default = "30_000")]
    pub timeout_ms: u64,
    /// namespace of the function
    #[argh(option, short = 'n')]
    pub namespace: Option<String>,
    /// the function, as an option instead of the first argument
    #[argh(option)]
    pub function_id: Option<String>,
    /// same as --json
    #[argh(option)]
    pub payload: Option<String>,
    /// engine as ws://HOST:PORT, instead of --address and --port (default: $III_URL)
    #[argh(option)]
    pub url: Option<String>,
    /// function, then KEY=VALUE pairs
    #[argh(positional, arg_name = "FUNCTION_PATH KEY=VALUE")]
    pub words: Vec<String>,
}

/// Check, show or describe the configuration.
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "config", help_triggers("-h", "--help"))]
pub struct ConfigArguments {
    /// what to do
    #[argh(subcommand)]
    pub command: ConfigCommand,
}

/// What `iii config` can do.
#[derive(FromArgs, Debug)]
#[argh(subcommand)]
pub enum ConfigCommand {
    /// `iii config check`
    Check(ConfigCheckArguments),
    /// `iii config show`
    Show(ConfigShowArguments),
    /// `iii config schema`
    Schema(ConfigSchemaArguments),
}

/// Check a configuration file without starting anything; one line per problem.
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "check", help_triggers("-h", "--help"))]
pub struct ConfigCheckArguments {
    /// the file (default: the one `iii` would use)
    #[argh(positional)]
    pub path: Option<PathBuf>,
}

/// Print the effective configuration as JSON.
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "show", help_triggers("-h", "--help"))]
pub struct ConfigShowArguments {
    /// the file (default: the one `iii` would use)
    #[argh(positional)]
    pub path: Option<PathBuf>,
    /// print secrets as they are
    #[argh(switch)]
    pub show_secrets: bool,
}

/// Print the JSON Schema of the configuration file.
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "schema", help_triggers("-h", "--help"))]
pub struct ConfigSchemaArguments {}

/// A command that is recognised and answered without reading what follows it.
macro_rules! opaque_command {
    ($type:ident, $name:tt, $description:tt) => {
        #[doc = $description]
        #[derive(FromArgs, Debug)]
        #[argh(subcommand, name = $name, help_triggers("-h", "--help"))]
        pub struct $type {
            /// arguments
            #[argh(positional, greedy)]
            pub words: Vec<String>,
        }
    };
}

opaque_command!(ConsoleArguments, "console", "Not part of this engine.");
opaque_command!(CloudArguments, "cloud", "Not part of this engine.");
opaque_command!(UpdateArguments, "update", "Not part of this engine.");
opaque_command!(ComposeArguments, "compose", "Not part of this engine.");
opaque_command!(SandboxArguments, "sandbox", "Not part of this engine.");

/// Reads prepared tokens.
pub fn read(args: &[String]) -> Result<Arguments, UsageError> {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    Arguments::from_args(&["iii"], &args).map_err(|exit| from_argh(&exit.output))
}

/// The help text of a command.
pub fn help(path: &[&str]) -> String {
    let args: Vec<&str> = path.iter().copied().chain(["--help"]).collect();
    match Arguments::from_args(&["iii"], &args) {
        Err(exit) => exit.output,
        Ok(_) => unreachable!("--help ends the parse"),
    }
}

/// The pre-pass has refused unknown tokens already, so what is left are values that cannot be read.
fn from_argh(output: &str) -> UsageError {
    let parts = output
        .strip_prefix("Error parsing option '")
        .and_then(|rest| rest.split_once("' with value '"))
        .and_then(|(option, rest)| rest.rsplit_once("': ").map(|(value, reason)| (option, value, reason.trim_end())));
    match parts {
        Some((option, value, reason)) => {
            let placeholder = option.trim_start_matches('-').replace('-', "_").to_uppercase();
            UsageError::new(format!("invalid value '{value}' for '{option} <{placeholder}>': {reason}"))
        }
        None => UsageError::new(output.trim_end().replace('\n', " ")),
    }
}

fn port(text: &str) -> Result<u16, String> {
    in_range(text, 0..=65535).map(|port| port as u16)
}

fn shards(text: &str) -> Result<usize, String> {
    in_range(text, SHARDS_RANGE).map(|shards| shards as usize)
}

fn in_range(text: &str, range: RangeInclusive<i64>) -> Result<i64, String> {
    let value: i64 = text.parse().map_err(|error: std::num::ParseIntError| error.to_string())?;
    if range.contains(&value) {
        return Ok(value);
    }
    Err(format!("{value} is not in {}..={}", range.start(), range.end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(line: &[&str]) -> String {
        let args: Vec<String> = line.iter().map(|token| (*token).to_owned()).collect();
        read(&args).expect_err("refused").message().to_owned()
    }

    #[test]
    fn cli_7_12_values_are_checked() {
        for (line, expected) in [
            (&["--port", "70000"][..], "invalid value '70000' for '--port <PORT>': 70000 is not in 0..=65535"),
            (&["--port", "abc"], "invalid value 'abc' for '--port <PORT>': invalid digit found in string"),
            (&["--shards", "0"], "invalid value '0' for '--shards <SHARDS>': 0 is not in 1..=64"),
            (&["--shards", "65"], "invalid value '65' for '--shards <SHARDS>': 65 is not in 1..=64"),
            (&["--shards", "-1"], "invalid value '-1' for '--shards <SHARDS>': -1 is not in 1..=64"),
            (&["--shards", "x"], "invalid value 'x' for '--shards <SHARDS>': invalid digit found in string"),
            (
                &["trigger", "f", "--timeout-ms", "abc"],
                "invalid value 'abc' for '--timeout-ms <TIMEOUT_MS>': invalid digit found in string",
            ),
        ] {
            assert_eq!(refused(line), expected, "{line:?}");
        }
    }

    #[test]
    fn every_command_has_help() {
        for path in [&[][..], &["trigger"], &["config"], &["config", "check"], &["config", "show"], &["worker"]] {
            let text = help(path);
            assert!(text.starts_with("Usage: iii"), "{path:?}: {text}");
        }
    }
}
