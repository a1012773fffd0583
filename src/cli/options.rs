//! The resolved global options: what was typed, after checking that it fits together.

use super::args::Arguments;
use super::usage::UsageError;
use crate::config::{Choice, Overrides};

/// What the engine is asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Which configuration to use.
    pub choice: Choice,
    /// Values that beat the configuration, also after a reload.
    pub overrides: Overrides,
    /// Poll instead of sleeping while calls are pending.
    pub busy_poll: bool,
}

impl Options {
    /// Checks and resolves the global options.
    pub fn resolve(arguments: &Arguments) -> Result<Options, UsageError> {
        let choice = match (&arguments.config, arguments.use_default_config) {
            (Some(_), true) => return Err(UsageError::conflict("--use-default-config", "--config <CONFIG>")),
            (Some(path), false) => Choice::File(path.clone()),
            (None, true) => Choice::Defaults,
            (None, false) => Choice::Search,
        };
        let overrides = Overrides { port: arguments.port, host: arguments.host.clone(), shards: arguments.shards };
        Ok(Options { choice, overrides, busy_poll: arguments.busy_poll })
    }
}
