//! What may be typed: every command with its options. The argument structs say how the values are read; this table
//! says which tokens are options at all, so that errors can name them.

/// A command or subcommand.
#[derive(Debug)]
pub struct Command {
    /// The word that selects it; empty for the root.
    pub name: &'static str,
    /// A second word for it.
    pub alias: Option<&'static str>,
    /// What follows `Usage: ` in an error.
    pub usage: &'static str,
    /// Its own options.
    pub options: &'static [OptionSpec],
    /// Its subcommands.
    pub subcommands: &'static [Command],
    /// What else it takes.
    pub tail: Tail,
}

/// Tokens a command accepts besides options and subcommands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tail {
    /// None.
    Nothing,
    /// Positional arguments.
    Positionals,
    /// Whatever follows, options included: the command is answered without looking at it.
    Anything,
}

/// An option.
#[derive(Debug)]
pub struct OptionSpec {
    /// Long name without dashes.
    pub long: &'static str,
    /// Short name.
    pub short: Option<char>,
    /// Name of its value in messages; none for a switch.
    pub value: Option<&'static str>,
    /// Whether a root option may also stand after the command (CLI-2).
    pub anywhere: bool,
}

impl OptionSpec {
    const fn value(long: &'static str, short: Option<char>, value: &'static str) -> OptionSpec {
        OptionSpec { long, short, value: Some(value), anywhere: false }
    }

    const fn switch(long: &'static str, short: Option<char>) -> OptionSpec {
        OptionSpec { long, short, value: None, anywhere: false }
    }

    const fn anywhere(mut self) -> OptionSpec {
        self.anywhere = true;
        self
    }

    /// The option as messages show it: `--config <CONFIG>`.
    pub fn shown(&self) -> String {
        match self.value {
            Some(value) => format!("--{} <{value}>", self.long),
            None => format!("--{}", self.long),
        }
    }
}

impl Command {
    /// The subcommand selected by `word`.
    pub fn subcommand(&self, word: &str) -> Option<&'static Command> {
        self.subcommands.iter().find(|command| command.name == word || command.alias == Some(word))
    }

    /// The option with this long name.
    pub fn option(&self, long: &str) -> Option<&'static OptionSpec> {
        self.options.iter().find(|option| option.long == long)
    }
}

/// The program itself.
pub static ROOT: Command = Command {
    name: "",
    alias: None,
    usage: "iii [OPTIONS] [COMMAND]",
    options: &[
        OptionSpec::value("config", Some('c'), "CONFIG").anywhere(),
        OptionSpec::switch("use-default-config", None).anywhere(),
        OptionSpec::value("port", None, "PORT"),
        OptionSpec::value("host", None, "HOST"),
        OptionSpec::value("shards", None, "SHARDS"),
        OptionSpec::switch("busy-poll", None),
        OptionSpec::switch("no-update-check", None).anywhere(),
        OptionSpec::switch("version", Some('v')).anywhere(),
    ],
    subcommands: &[
        TRIGGER,
        CONFIG,
        opaque("worker", "iii worker [COMMAND]"),
        opaque("project", "iii project [COMMAND]"),
        opaque("create", "iii create [OPTIONS]"),
        opaque("console", "iii console"),
        opaque("cloud", "iii cloud"),
        opaque("update", "iii update"),
        opaque("compose", "iii compose"),
        opaque("sandbox", "iii sandbox"),
    ],
    tail: Tail::Nothing,
};

const TRIGGER: Command = Command {
    name: "trigger",
    alias: Some("t"),
    usage: "iii trigger [OPTIONS] [FUNCTION_PATH] [KEY=VALUE]...",
    options: &[
        OptionSpec::value("json", None, "JSON"),
        OptionSpec::value("address", None, "ADDRESS"),
        OptionSpec::value("port", None, "PORT"),
        OptionSpec::value("timeout-ms", None, "TIMEOUT_MS"),
        OptionSpec::value("namespace", Some('n'), "NAMESPACE"),
        OptionSpec::value("function-id", None, "FUNCTION_ID"),
        OptionSpec::value("payload", None, "PAYLOAD"),
        OptionSpec::value("url", None, "URL"),
    ],
    subcommands: &[],
    tail: Tail::Positionals,
};

const CONFIG: Command = Command {
    name: "config",
    alias: None,
    usage: "iii config [OPTIONS] <COMMAND>",
    options: &[],
    subcommands: &[
        Command {
            name: "check",
            alias: None,
            usage: "iii config check [PATH]",
            options: &[],
            subcommands: &[],
            tail: Tail::Positionals,
        },
        Command {
            name: "show",
            alias: Some("print"),
            usage: "iii config show [--show-secrets] [PATH]",
            options: &[OptionSpec::switch("show-secrets", None)],
            subcommands: &[],
            tail: Tail::Positionals,
        },
        Command {
            name: "schema",
            alias: None,
            usage: "iii config schema",
            options: &[],
            subcommands: &[],
            tail: Tail::Nothing,
        },
    ],
    tail: Tail::Nothing,
};

const fn opaque(name: &'static str, usage: &'static str) -> Command {
    Command { name, alias: None, usage, options: &[], subcommands: &[], tail: Tail::Anything }
}
