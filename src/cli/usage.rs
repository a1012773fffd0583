//! Usage errors: what was typed cannot be understood. Printed on stderr, exit code 2.

use std::fmt;

use super::table::Command;
use crate::suggest::similar;

/// Why the command line was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageError {
    message: String,
    tip: Option<String>,
    usage: Option<&'static str>,
}

impl UsageError {
    /// An error that needs no usage line.
    pub fn new(message: impl Into<String>) -> UsageError {
        UsageError { message: message.into(), tip: None, usage: None }
    }

    /// A token that is no option or argument of `command`.
    pub fn unexpected(token: &str, command: &Command, root: &Command) -> UsageError {
        let known = command.options.iter().chain(root.options).map(|option| option.long).chain(["help"]);
        let tip = token
            .strip_prefix("--")
            .and_then(|name| similar(name, known))
            .map(|name| format!("a similar argument exists: '--{name}'"));
        UsageError { message: format!("unexpected argument '{token}' found"), tip, usage: Some(command.usage) }
    }

    /// A word where `command` expects one of its subcommands.
    pub fn unrecognized(word: &str, command: &Command) -> UsageError {
        let known = command.subcommands.iter().flat_map(|sub| [Some(sub.name), sub.alias]).flatten().chain(["help"]);
        let tip = similar(word, known).map(|name| format!("a similar subcommand exists: '{name}'"));
        UsageError { message: format!("unrecognized subcommand '{word}'"), tip, usage: Some(command.usage) }
    }

    /// Two things that exclude each other.
    pub fn conflict(first: &str, second: &str) -> UsageError {
        UsageError::new(format!("the argument '{first}' cannot be used with '{second}'"))
    }

    /// The first line, without `error: `.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "error: {}", self.message)?;
        if let Some(tip) = &self.tip {
            writeln!(f, "\n  tip: {tip}")?;
        }
        if let Some(usage) = self.usage {
            writeln!(f, "\nUsage: {usage}")?;
        }
        writeln!(f, "\nFor more information, try '--help'.")
    }
}
