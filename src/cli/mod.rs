//! The command line: tokens → pre-pass → argument structs → [`Request`], what is left for `main` to do.
//!
//! Nothing here starts an engine; `main` does. Usage errors end with exit code 2, all other failures with 1 (CLI-10).

mod args;
mod completions;
mod config;
mod options;
mod output;
mod prepass;
mod project;
mod table;
mod trigger;
mod usage;
mod worker;

use std::ffi::OsString;
use std::process::ExitCode;

pub use options::Options;
pub use output::fail;
pub use usage::UsageError;

use args::{Arguments, CommandArguments};

/// Exit code for a command line that cannot be understood.
const EXIT_USAGE: u8 = 2;

/// What is left to do after the command line has been read.
pub enum Request {
    /// Run the engine.
    Serve(Options),
    /// Everything is done; end with this code.
    Done(ExitCode),
}

/// Reads the command line and runs every command but serve.
pub fn run(arguments: impl Iterator<Item = OsString>) -> Request {
    match read(arguments) {
        Ok(request) => request,
        Err(error) => {
            output::stderr(&error.to_string());
            Request::Done(ExitCode::from(EXIT_USAGE))
        }
    }
}

fn read(arguments: impl Iterator<Item = OsString>) -> Result<Request, UsageError> {
    let mut tokens = Vec::new();
    for argument in arguments.skip(1) {
        tokens.push(argument.into_string().map_err(|raw| {
            UsageError::new(format!("invalid UTF-8 was detected in the argument '{}'", raw.to_string_lossy()))
        })?);
    }
    let prepared = prepass::prepare(&tokens)?;
    if prepared.version {
        output::stdout(&format!("{}\n", crate::VERSION));
        return Ok(Request::Done(ExitCode::SUCCESS));
    }
    if prepared.help && prepared.path != ["trigger"] {
        output::stdout(&args::help(&prepared.path));
        return Ok(Request::Done(ExitCode::SUCCESS));
    }
    match prepared.path.as_slice() {
        ["config" | "worker"] => {
            output::stderr(&args::help(&prepared.path));
            return Ok(Request::Done(ExitCode::from(EXIT_USAGE)));
        }
        ["project"] => {
            output::stdout(&args::help(&prepared.path));
            return Ok(Request::Done(ExitCode::SUCCESS));
        }
        _ => {}
    }
    let mut arguments = args::read(&prepared.args)?;
    let command = arguments.command.take();
    let options = Options::resolve(&arguments)?;
    let Some(command) = command else { return Ok(Request::Serve(options)) };
    dispatch(command, &arguments, options, prepared.help).map(Request::Done)
}

fn dispatch(
    command: CommandArguments,
    globals: &Arguments,
    options: Options,
    help: bool,
) -> Result<ExitCode, UsageError> {
    Ok(match command {
        CommandArguments::Trigger(mut arguments) => {
            arguments.port = arguments.port.or(globals.port);
            arguments.address = arguments.address.or_else(|| globals.host.clone());
            if help { trigger::help(&arguments)? } else { trigger::run(&arguments)? }
        }
        CommandArguments::Config(arguments) => config::run(arguments, options),
        CommandArguments::Worker(arguments) => worker::run(arguments, &options),
        CommandArguments::Project(arguments) => project::run(arguments),
        CommandArguments::Init(arguments) => project::init(&arguments),
        CommandArguments::Create(arguments) => project::init(&arguments.into()),
        CommandArguments::Completions(arguments) => completions::run(&arguments),
        CommandArguments::Console(_) => not_provided("console", ""),
        CommandArguments::Cloud(_) => not_provided("cloud", ""),
        CommandArguments::Update(_) => not_provided("update", "; install a newer release instead"),
        CommandArguments::Compose(_) => not_provided("compose", "; list workers with 'worker_path' in config.yaml"),
        CommandArguments::Sandbox(_) => not_provided("sandbox", ""),
    })
}

/// Commands this engine will never have (CLI-44).
fn not_provided(command: &str, alternative: &str) -> ExitCode {
    output::stderr(&format!("error: 'iii {command}' is not part of this engine{alternative}\n"));
    ExitCode::FAILURE
}
