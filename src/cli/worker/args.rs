//! Arguments of `iii worker`.

use argh::FromArgs;

/// Add, start, stop and list the workers of this project.
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "worker", help_triggers("-h", "--help"))]
pub struct WorkerArguments {
    /// what to do
    #[argh(subcommand)]
    pub verb: Verb,
}

/// What `iii worker` can do.
#[derive(FromArgs, Debug)]
#[argh(subcommand)]
pub enum Verb {
    /// `add`
    Add(AddArguments),
    /// `list`
    List(ListArguments),
    /// `start`
    Start(StartArguments),
    /// `restart`
    Restart(RestartArguments),
    /// `stop`
    Stop(StopArguments),
    /// `logs`
    Logs(LogsArguments),
    /// `status`
    Status(StatusArguments),
    /// `remove`
    Remove(RemoveArguments),
    /// `reinstall`
    Reinstall(ReinstallArguments),
    /// `clear`
    Clear(ClearArguments),
    /// `init`
    Init(InitArguments),
    /// `update`
    Update(UpdateArguments),
    /// `sync`
    Sync(SyncArguments),
    /// `verify`
    Verify(VerifyArguments),
    /// `exec`
    Exec(ExecArguments),
    /// `sandbox`
    Sandbox(SandboxArguments),
}

/// Add workers: project directories, or built-in workers by name.
#[derive(FromArgs, Debug, Default)]
#[argh(subcommand, name = "add", help_triggers("-h", "--help"))]
pub struct AddArguments {
    /// replace one that is there already, and install it again
    #[argh(switch, short = 'f')]
    pub force: bool,
    /// with --force: forget its settings too
    #[argh(switch)]
    pub reset_config: bool,
    /// return at once instead of waiting until it is ready
    #[argh(switch)]
    pub no_wait: bool,
    /// engine to add it to, as HOST[:PORT] (default: that of this project)
    #[argh(option)]
    pub host: Option<String>,
    /// ask nothing
    #[argh(switch, short = 'y')]
    pub yes: bool,
    /// directories (./path) and names
    #[argh(positional, arg_name = "NAME_OR_PATH")]
    pub sources: Vec<String>,
}

/// List the workers of this project.
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "list", help_triggers("-h", "--help"))]
pub struct ListArguments {
    /// as JSON
    #[argh(switch)]
    pub json: bool,
}

/// Start a worker.
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "start", help_triggers("-h", "--help"))]
pub struct StartArguments {
    /// return at once instead of waiting until it is ready
    #[argh(switch)]
    pub no_wait: bool,
    /// port of the engine (default: that of the configuration, else 49134)
    #[argh(option)]
    pub port: Option<u16>,
    /// the worker
    #[argh(positional, arg_name = "NAME")]
    pub name: String,
}

/// Stop a worker and start it again.
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "restart", help_triggers("-h", "--help"))]
pub struct RestartArguments {
    /// return at once instead of waiting until it is ready
    #[argh(switch)]
    pub no_wait: bool,
    /// port of the engine (default: that of the configuration, else 49134)
    #[argh(option)]
    pub port: Option<u16>,
    /// the worker
    #[argh(positional, arg_name = "NAME")]
    pub name: String,
}

/// Stop a worker until it is started again.
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "stop", help_triggers("-h", "--help"))]
pub struct StopArguments {
    /// accepted; stopping asks nothing
    #[argh(switch, short = 'y')]
    #[allow(dead_code, reason = "accepted for compatibility")]
    pub yes: bool,
    /// keep it stopped when the engine starts again
    #[argh(switch)]
    pub keep: bool,
    /// the worker
    #[argh(positional, arg_name = "NAME")]
    pub name: String,
}

/// Show the last lines a worker has written.
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "logs", help_triggers("-h", "--help"))]
pub struct LogsArguments {
    /// go on showing what it writes
    #[argh(switch, short = 'f')]
    pub follow: bool,
    /// how many lines of each stream (default: 100)
    #[argh(option, short = 'n', default = "100")]
    pub lines: usize,
    /// the worker
    #[argh(positional, arg_name = "NAME")]
    pub name: String,
}

/// Show how a worker does; waits while it is starting.
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "status", help_triggers("-h", "--help"))]
pub struct StatusArguments {
    /// show it once
    #[argh(switch)]
    pub no_watch: bool,
    /// as JSON, once
    #[argh(switch)]
    pub json: bool,
    /// the worker
    #[argh(positional, arg_name = "NAME")]
    pub name: String,
}

/// Stop workers and take them out of the configuration.
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "remove", help_triggers("-h", "--help"))]
pub struct RemoveArguments {
    /// do not ask
    #[argh(switch, short = 'y')]
    pub yes: bool,
    /// the workers
    #[argh(positional, arg_name = "NAME")]
    pub names: Vec<String>,
}

/// Add a worker again, from scratch.
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "reinstall", help_triggers("-h", "--help"))]
pub struct ReinstallArguments {
    /// ask nothing
    #[argh(switch, short = 'y')]
    pub yes: bool,
    /// directories (./path) and names
    #[argh(positional, arg_name = "NAME_OR_PATH")]
    pub sources: Vec<String>,
}

/// Forget what was installed for a worker, and its logs.
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "clear", help_triggers("-h", "--help"))]
pub struct ClearArguments {
    /// do not ask
    #[argh(switch, short = 'y')]
    pub yes: bool,
    /// the worker (default: all)
    #[argh(positional, arg_name = "NAME")]
    pub name: Option<String>,
}

/// Create a worker project.
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "init", help_triggers("-h", "--help"))]
pub struct InitArguments {
    /// directory (default: the name)
    #[argh(option, short = 'd')]
    pub directory: Option<String>,
    /// language: ts, js or py (default: ts)
    #[argh(option, short = 'l')]
    pub language: Option<String>,
    /// also into a directory that is not empty
    #[argh(switch)]
    pub allow_non_empty: bool,
    /// accepted for compatibility
    #[argh(switch)]
    #[allow(dead_code, reason = "accepted for compatibility")]
    pub skip_iii: bool,
    /// name of the worker
    #[argh(positional, arg_name = "NAME")]
    pub name: Option<String>,
}

macro_rules! refused_verb {
    ($type:ident, $name:tt) => {
        #[doc = "Not part of this engine."]
        #[derive(FromArgs, Debug)]
        #[argh(subcommand, name = $name, help_triggers("-h", "--help"))]
        pub struct $type {
            /// arguments
            #[argh(positional, greedy)]
            #[allow(dead_code, reason = "answered without looking at it")]
            pub words: Vec<String>,
        }
    };
}

refused_verb!(UpdateArguments, "update");
refused_verb!(SyncArguments, "sync");
refused_verb!(VerifyArguments, "verify");
refused_verb!(ExecArguments, "exec");
refused_verb!(SandboxArguments, "sandbox");
