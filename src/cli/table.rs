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
        WORKER,
        Command {
            name: "project",
            alias: None,
            usage: "iii project <COMMAND>",
            options: &[],
            subcommands: &[
                init("init", "iii project init [OPTIONS] [NAME]"),
                verb("generate-docker", "iii project generate-docker [-d DIRECTORY]", &[DIRECTORY]),
            ],
            tail: Tail::Nothing,
        },
        init("init", "iii init [OPTIONS] [NAME]"),
        init("create", "iii create [OPTIONS] [NAME]"),
        verb("completions", "iii completions <bash|zsh|fish>", &[]),
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

const YES: OptionSpec = OptionSpec::switch("yes", Some('y'));
const NO_WAIT: OptionSpec = OptionSpec::switch("no-wait", None);
const JSON: OptionSpec = OptionSpec::switch("json", None);
const PORT: OptionSpec = OptionSpec::value("port", None, "PORT");
const DIRECTORY: OptionSpec = OptionSpec::value("directory", Some('d'), "DIRECTORY");
const NON_EMPTY: OptionSpec = OptionSpec::switch("allow-non-empty", None);
const SKIP_III: OptionSpec = OptionSpec::switch("skip-iii", None);

const WORKER: Command = Command {
    name: "worker",
    alias: None,
    usage: "iii worker <COMMAND>",
    options: &[],
    subcommands: &[
        verb(
            "add",
            "iii worker add [OPTIONS] <NAME|PATH>...",
            &[
                OptionSpec::switch("force", Some('f')),
                OptionSpec::switch("reset-config", None),
                NO_WAIT,
                OptionSpec::value("host", None, "HOST"),
                YES,
            ],
        ),
        verb("list", "iii worker list [--json]", &[JSON]),
        verb("start", "iii worker start [OPTIONS] <NAME>", &[NO_WAIT, PORT]),
        verb("restart", "iii worker restart [OPTIONS] <NAME>", &[NO_WAIT, PORT]),
        verb("stop", "iii worker stop [OPTIONS] <NAME>", &[YES, OptionSpec::switch("keep", None)]),
        verb(
            "logs",
            "iii worker logs [OPTIONS] <NAME>",
            &[OptionSpec::switch("follow", Some('f')), OptionSpec::value("lines", Some('n'), "LINES")],
        ),
        verb("status", "iii worker status [OPTIONS] <NAME>", &[OptionSpec::switch("no-watch", None), JSON]),
        verb("remove", "iii worker remove [-y] <NAME>...", &[YES]),
        verb("reinstall", "iii worker reinstall [-y] <NAME|PATH>...", &[YES]),
        verb("clear", "iii worker clear [-y] [NAME]", &[YES]),
        verb(
            "init",
            "iii worker init [OPTIONS] [NAME]",
            &[DIRECTORY, OptionSpec::value("language", Some('l'), "LANGUAGE"), NON_EMPTY, SKIP_III],
        ),
        opaque("update", "iii worker update"),
        opaque("sync", "iii worker sync"),
        opaque("verify", "iii worker verify"),
        opaque("exec", "iii worker exec"),
        opaque("sandbox", "iii worker sandbox"),
    ],
    tail: Tail::Nothing,
};

const fn verb(name: &'static str, usage: &'static str, options: &'static [OptionSpec]) -> Command {
    Command { name, alias: None, usage, options, subcommands: &[], tail: Tail::Positionals }
}

const fn init(name: &'static str, usage: &'static str) -> Command {
    const OPTIONS: &[OptionSpec] = &[
        DIRECTORY,
        OptionSpec::value("template", Some('t'), "TEMPLATE"),
        OptionSpec::value("template-dir", None, "TEMPLATE_DIR"),
        OptionSpec::switch("docker", None),
        NON_EMPTY,
        SKIP_III,
    ];
    verb(name, usage, OPTIONS)
}

const fn opaque(name: &'static str, usage: &'static str) -> Command {
    Command { name, alias: None, usage, options: &[], subcommands: &[], tail: Tail::Anything }
}
