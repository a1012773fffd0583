//! The pre-pass over the arguments: turns what people type into the one spelling the argument structs understand.
//!
//! Pure. `--name=value` and `-cVALUE` become two tokens, switch clusters are taken apart, global options that stand
//! after the command move in front of it, and `--help`, `--version` and `help CMD` become flags. Every token that could
//! not be an option is refused here, so the error can name it. Words without a leading dash are never touched:
//! `KEY=VALUE` payloads survive byte for byte.

use super::table::{Command, OptionSpec, ROOT, Tail};
use super::usage::UsageError;

/// What the pre-pass made of the arguments.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Prepared {
    /// Tokens for the argument structs: global options, command path, the command's own tokens.
    pub args: Vec<String>,
    /// Canonical names of the selected commands, outermost first. Empty = serve.
    pub path: Vec<&'static str>,
    /// Help was asked for.
    pub help: bool,
    /// The version was asked for.
    pub version: bool,
}

/// Runs the pre-pass. `tokens` excludes the program name.
pub fn prepare(tokens: &[String]) -> Result<Prepared, UsageError> {
    let mut pass = Pass {
        command: &ROOT,
        path: Vec::new(),
        front: Vec::new(),
        own: Vec::new(),
        seen: Vec::new(),
        flags: Flags::default(),
    };
    let mut rest = tokens;
    while let Some((token, after)) = rest.split_first() {
        rest = after;
        if token == "--" {
            pass.positionals(rest)?;
            break;
        }
        if token == "help" && pass.path.is_empty() {
            return pass.help_for(rest);
        }
        if let Some(long) = token.strip_prefix("--") {
            rest = pass.long(token, long, rest)?;
        } else if let Some(letters) = token.strip_prefix('-').filter(|letters| !letters.is_empty()) {
            rest = pass.short(token, letters, rest)?;
        } else {
            pass.word(token)?;
        }
    }
    Ok(pass.finish())
}

/// The pre-pass half way.
struct Pass {
    command: &'static Command,
    path: Vec<&'static str>,
    front: Vec<String>,
    own: Vec<String>,
    /// Options met so far, by command name and long name: none may be given twice.
    seen: Vec<(&'static str, &'static str)>,
    flags: Flags,
}

#[derive(Default)]
struct Flags {
    help: bool,
    version: bool,
}

// === impl Pass ===

impl Pass {
    /// A token that starts with two dashes. Returns the tokens left.
    fn long<'a>(&mut self, token: &str, long: &str, rest: &'a [String]) -> Result<&'a [String], UsageError> {
        let (name, attached) = match long.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (long, None),
        };
        if name == "help" && attached.is_none() {
            self.flags.help = true;
            return Ok(rest);
        }
        let shown = &token[..name.len() + 2];
        let Some((owner, option)) = self.find(|option| option.long == name) else {
            return self.unknown(token, shown, rest);
        };
        match (option.value, attached) {
            (None, None) => self.switch(owner, option).map(|()| rest),
            (None, Some(value)) => Err(UsageError::new(format!(
                "unexpected value '{value}' for '{}' found; no more were expected",
                option.shown()
            ))),
            (Some(_), Some(value)) => self.valued(owner, option, value).map(|()| rest),
            (Some(_), None) => self.next_value(owner, option, rest),
        }
    }

    /// A token that starts with one dash: switches, then at most one option with a value.
    fn short<'a>(&mut self, token: &str, letters: &str, rest: &'a [String]) -> Result<&'a [String], UsageError> {
        for (at, letter) in letters.char_indices() {
            if letter == 'h' {
                self.flags.help = true;
                continue;
            }
            let Some((owner, option)) = self.find(|option| option.short == Some(letter)) else {
                return self.unknown(token, &format!("-{letter}"), rest);
            };
            if option.value.is_none() {
                self.switch(owner, option)?;
                continue;
            }
            let attached = &letters[at + letter.len_utf8()..];
            if attached.is_empty() {
                return self.next_value(owner, option, rest);
            }
            let value = attached.strip_prefix('=').unwrap_or(attached);
            return self.valued(owner, option, value).map(|()| rest);
        }
        Ok(rest)
    }

    /// An option nobody knows: an error, except where the command takes anything.
    fn unknown<'a>(&mut self, token: &str, shown: &str, rest: &'a [String]) -> Result<&'a [String], UsageError> {
        if self.command.tail == Tail::Anything {
            self.own.push(token.to_owned());
            return Ok(rest);
        }
        Err(UsageError::unexpected(shown, self.command, &ROOT))
    }

    /// A word: a subcommand or a positional argument.
    fn word(&mut self, word: &str) -> Result<(), UsageError> {
        if let Some(command) = self.command.subcommand(word) {
            self.command = command;
            self.path.push(command.name);
            return Ok(());
        }
        if self.command.tail == Tail::Nothing {
            return Err(match self.command.subcommands {
                [] => UsageError::unexpected(word, self.command, &ROOT),
                _ => UsageError::unrecognized(word, self.command),
            });
        }
        self.own.push(word.to_owned());
        Ok(())
    }

    /// Everything after `--`.
    fn positionals(&mut self, rest: &[String]) -> Result<(), UsageError> {
        if let (Tail::Nothing, Some(first)) = (self.command.tail, rest.first()) {
            return Err(UsageError::unexpected(first, self.command, &ROOT));
        }
        self.own.push("--".to_owned());
        self.own.extend_from_slice(rest);
        Ok(())
    }

    /// `help CMD…`: the remaining words name the command.
    fn help_for(mut self, rest: &[String]) -> Result<Prepared, UsageError> {
        for word in rest.iter().filter(|word| !word.starts_with('-')) {
            match self.command.subcommand(word) {
                Some(command) => {
                    self.command = command;
                    self.path.push(command.name);
                }
                None if self.command.tail == Tail::Anything => break,
                None => return Err(UsageError::unrecognized(word, self.command)),
            }
        }
        self.flags.help = true;
        Ok(self.finish())
    }

    /// The option a token names: the command's own first, then a root option that may stand here.
    fn find(&self, wanted: impl Fn(&OptionSpec) -> bool) -> Option<(&'static Command, &'static OptionSpec)> {
        let own = self.command.options.iter().find(|option| wanted(option)).map(|option| (self.command, option));
        own.or_else(|| {
            let option = ROOT.options.iter().find(|option| wanted(option))?;
            (option.anywhere || self.path.is_empty()).then_some((&ROOT, option))
        })
    }

    fn next_value<'a>(
        &mut self,
        owner: &'static Command,
        option: &'static OptionSpec,
        rest: &'a [String],
    ) -> Result<&'a [String], UsageError> {
        match rest.split_first() {
            // A single dash may start a value (`--json -`, `--shards -1`), two dashes start the next option.
            Some((value, after)) if !value.starts_with("--") => self.valued(owner, option, value).map(|()| after),
            _ => Err(UsageError::new(format!("a value is required for '{}' but none was supplied", option.shown()))),
        }
    }

    fn valued(&mut self, owner: &'static Command, option: &'static OptionSpec, value: &str) -> Result<(), UsageError> {
        self.once(owner, option)?;
        self.emit(owner, [format!("--{}", option.long), value.to_owned()]);
        Ok(())
    }

    fn switch(&mut self, owner: &'static Command, option: &'static OptionSpec) -> Result<(), UsageError> {
        self.once(owner, option)?;
        if option.long == "version" {
            self.flags.version = true;
        } else {
            self.emit(owner, [format!("--{}", option.long)]);
        }
        Ok(())
    }

    fn once(&mut self, owner: &'static Command, option: &'static OptionSpec) -> Result<(), UsageError> {
        let key = (owner.name, option.long);
        if self.seen.contains(&key) {
            return Err(UsageError::new(format!("the argument '{}' cannot be used multiple times", option.shown())));
        }
        self.seen.push(key);
        Ok(())
    }

    fn emit<const N: usize>(&mut self, owner: &'static Command, tokens: [String; N]) {
        let target = if owner.name.is_empty() { &mut self.front } else { &mut self.own };
        target.extend(tokens);
    }

    fn finish(self) -> Prepared {
        let mut args = self.front;
        args.extend(self.path.iter().map(|name| (*name).to_owned()));
        args.extend(self.own);
        Prepared { args, path: self.path, help: self.flags.help, version: self.flags.version }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(line: &[&str]) -> Result<Prepared, UsageError> {
        prepare(&line.iter().map(|token| (*token).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn cli_50_rewrites_to_one_spelling() {
        for (typed, expected) in [
            (&[][..], &[][..]),
            (&["-c", "x"], &["--config", "x"]),
            (&["-cx"], &["--config", "x"]),
            (&["-c=x"], &["--config", "x"]),
            (&["--config=x=y"], &["--config", "x=y"]),
            (&["--port=5", "--shards", "2"], &["--port", "5", "--shards", "2"]),
            (&["trigger", "f", "a=-1", "b=--x"], &["trigger", "f", "a=-1", "b=--x"]),
            (&["t", "f", "--json={\"a\":1}"], &["trigger", "f", "--json", "{\"a\":1}"]),
            (&["trigger", "f", "--json", "-"], &["trigger", "f", "--json", "-"]),
            (&["trigger", "f", "--", "-x=1", "--help"], &["trigger", "f", "--", "-x=1", "--help"]),
            (&["trigger", "f", "-nother"], &["trigger", "f", "--namespace", "other"]),
            (&["trigger", "f", "--config", "zz"], &["--config", "zz", "trigger", "f"]),
            (&["trigger", "f", "--port", "7"], &["trigger", "f", "--port", "7"]),
            (&["--port", "7", "trigger", "f"], &["--port", "7", "trigger", "f"]),
            (&["trigger", "help", "k=help"], &["trigger", "help", "k=help"]),
            (&["config", "check", "x.yaml"], &["config", "check", "x.yaml"]),
            (&["config", "print", "x.yaml"], &["config", "show", "x.yaml"]),
            (&["worker", "add", "./x", "--force"], &["worker", "add", "./x", "--force"]),
            (
                &["trigger", "--function-id=a::b", "--payload={}"],
                &["trigger", "--function-id", "a::b", "--payload", "{}"],
            ),
        ] {
            let prepared = run(typed).unwrap_or_else(|error| panic!("{typed:?}: {error}"));
            assert_eq!(prepared.args, expected, "{typed:?}");
            assert!(!prepared.help && !prepared.version, "{typed:?}");
        }
    }

    #[test]
    fn cli_6_7_names_what_is_wrong() {
        for (typed, expected) in [
            (&["--bogus"][..], "unexpected argument '--bogus' found"),
            (&["--bogus=1"], "unexpected argument '--bogus' found"),
            (&["-V"], "unexpected argument '-V' found"),
            (&["bogus"], "unrecognized subcommand 'bogus'"),
            (&["start"], "unrecognized subcommand 'start'"),
            (&["config", "bogus"], "unrecognized subcommand 'bogus'"),
            (&["help", "bogus"], "unrecognized subcommand 'bogus'"),
            (&["-c"], "a value is required for '--config <CONFIG>' but none was supplied"),
            (&["--config", "--port"], "a value is required for '--config <CONFIG>' but none was supplied"),
            (&["-v", "--version"], "the argument '--version' cannot be used multiple times"),
            (&["--port", "1", "--port=2"], "the argument '--port <PORT>' cannot be used multiple times"),
            (&["--version=1"], "unexpected value '1' for '--version' found; no more were expected"),
            (&["trigger", "f", "-x=1"], "unexpected argument '-x' found"),
            (&["trigger", "f", "--shards", "2"], "unexpected argument '--shards' found"),
            (&["config", "schema", "x"], "unexpected argument 'x' found"),
            (&["--", "x"], "unexpected argument 'x' found"),
        ] {
            let error = run(typed).expect_err("refused");
            assert_eq!(error.message(), expected, "{typed:?}");
        }
    }

    #[test]
    fn cli_6_suggests_what_was_meant() {
        let shown = run(&["triger"]).expect_err("refused").to_string();
        assert_eq!(
            shown,
            "error: unrecognized subcommand 'triger'\n\n  tip: a similar subcommand exists: 'trigger'\n\n\
             Usage: iii [OPTIONS] [COMMAND]\n\nFor more information, try '--help'.\n"
        );
        let shown = run(&["--prot", "1"]).expect_err("refused").to_string();
        assert!(shown.contains("  tip: a similar argument exists: '--port'\n"), "{shown}");
    }

    #[test]
    fn cli_8_9_sees_version_and_help_anywhere() {
        for typed in [&["-v"][..], &["--version"], &["-c", "x", "--version"], &["--version", "trigger"], &["-vc", "x"]]
        {
            assert!(run(typed).expect("parses").version, "{typed:?}");
        }
        for (typed, path) in [
            (&["-h"][..], &[][..]),
            (&["--help"], &[]),
            (&["help"], &[]),
            (&["help", "t"], &["trigger"]),
            (&["help", "config", "check"], &["config", "check"]),
            (&["config", "check", "-h"], &["config", "check"]),
            (&["trigger", "f", "--help"], &["trigger"]),
            (&["worker", "--help"], &["worker"]),
        ] {
            let prepared = run(typed).expect("parses");
            assert!(prepared.help, "{typed:?}");
            assert_eq!(prepared.path, path, "{typed:?}");
        }
    }
}
