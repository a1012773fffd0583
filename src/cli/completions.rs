//! `iii completions SHELL`: completion scripts, made of the same table that reads the command line.

use std::process::ExitCode;

use argh::FromArgs;

use super::output;
use super::table::{Command, ROOT};

/// Print the completion script of a shell: bash, zsh or fish.
#[derive(FromArgs, Debug)]
#[argh(subcommand, name = "completions", help_triggers("-h", "--help"))]
pub struct CompletionsArguments {
    /// bash, zsh or fish
    #[argh(positional, arg_name = "SHELL")]
    pub shell: String,
}

/// Runs `iii completions`.
pub fn run(arguments: &CompletionsArguments) -> ExitCode {
    let script = match arguments.shell.as_str() {
        "bash" => bash(),
        "zsh" => format!("#compdef iii\nautoload -U +X bashcompinit && bashcompinit\n{}", bash()),
        "fish" => fish(),
        other => {
            output::stderr(&format!("error: no completions for '{other}'; there are: bash, zsh, fish\n"));
            return ExitCode::FAILURE;
        }
    };
    output::stdout(&script);
    ExitCode::SUCCESS
}

/// Every command with the words that lead to it.
fn walk(command: &'static Command, path: &[&'static str], out: &mut Vec<(Vec<&'static str>, &'static Command)>) {
    out.push((path.to_vec(), command));
    for sub in command.subcommands {
        walk(sub, &[path, &[sub.name]].concat(), out);
    }
}

fn commands() -> Vec<(Vec<&'static str>, &'static Command)> {
    let mut out = Vec::new();
    walk(&ROOT, &[], &mut out);
    out
}

fn words(command: &Command) -> String {
    let options = command.options.iter().map(|option| format!("--{}", option.long));
    let subs = command.subcommands.iter().map(|sub| sub.name.to_owned());
    subs.chain(options).chain(["--help".to_owned()]).collect::<Vec<_>>().join(" ")
}

fn bash() -> String {
    let mut cases = String::new();
    for (path, command) in commands() {
        cases += &format!("    '{}') words='{}' ;;\n", path.join(" "), words(command));
    }
    format!(
        "_iii() {{\n  local current=${{COMP_WORDS[COMP_CWORD]}} path='' word words=''\n  \
         for word in \"${{COMP_WORDS[@]:1:COMP_CWORD-1}}\"; do\n    case $word in -*) continue ;; esac\n    \
         path=\"${{path:+$path }}$word\"\n  done\n  case $path in\n{cases}  esac\n  \
         COMPREPLY=($(compgen -W \"$words\" -- \"$current\"))\n}}\ncomplete -o default -F _iii iii\n"
    )
}

fn fish() -> String {
    let mut out = String::new();
    for (path, command) in commands() {
        let condition = match path.as_slice() {
            [] => "__fish_use_subcommand".to_owned(),
            path => format!("__fish_seen_subcommand_from {}", path.last().copied().unwrap_or_default()),
        };
        for sub in command.subcommands {
            out += &format!("complete -c iii -n '{condition}' -a {}\n", sub.name);
        }
        for option in command.options {
            let short = option.short.map_or(String::new(), |short| format!(" -s {short}"));
            let value = if option.value.is_some() { " -r" } else { "" };
            out += &format!("complete -c iii -n '{condition}' -l {}{short}{value}\n", option.long);
        }
    }
    out
}
