//! `iii worker logs` (MW-49). Reads the files: they are there whether or not an engine runs.

#![allow(clippy::disallowed_methods, reason = "a command of its own, which may sleep; no shard runs here")]

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::time::Duration;

use super::args::LogsArguments;
use super::{Failure, Outcome, Project};
use crate::cli::options::Options;
use crate::cli::output;
use crate::processes::output::tail;
use crate::workers::managed::{place::Place, project};

/// How often new lines are looked for.
const POLL: Duration = Duration::from_millis(250);

/// Runs the verb.
pub fn run(arguments: &LogsArguments, options: &Options) -> Outcome {
    let name = &arguments.name;
    let project = Project::find(options, None);
    let logs = Place::of_user().logs(name);
    let known = project.names().unwrap_or_default().contains(name);
    let legal = project::check_name(name).is_ok();
    if !legal || (!logs.is_dir() && !known) {
        return Err(Failure(format!("Worker '{name}' not found. Run 'iii worker list' to see what is configured.")));
    }
    let files = ["stderr.log", "stdout.log"].map(|file| logs.join(file));
    if !logs.is_dir() && !arguments.follow {
        output::stderr(&format!("No logs available for {name} yet\n"));
        return Ok(0);
    }
    let mut followed: Vec<Followed> = files.iter().map(|path| Followed::at_end(path.clone())).collect();
    for path in &files {
        for line in tail(path, arguments.lines) {
            output::stdout(&format!("{}\n", shown(&line)));
        }
    }
    if !arguments.follow {
        return Ok(0);
    }
    // Until the user interrupts.
    loop {
        std::thread::sleep(POLL);
        for file in &mut followed {
            let text = file.news();
            if !text.is_empty() {
                output::stdout(&shown(&text));
            }
        }
    }
}

/// What a worker has written must not take over a terminal.
fn shown(text: &str) -> String {
    use std::io::IsTerminal;
    if std::io::stdout().is_terminal() { output::printable(text) } else { text.to_owned() }
}

/// A file that grows, and starts over now and then.
struct Followed {
    path: PathBuf,
    position: u64,
}

// === impl Followed ===

impl Followed {
    fn at_end(path: PathBuf) -> Followed {
        let position = std::fs::metadata(&path).map_or(0, |metadata| metadata.len());
        Followed { path, position }
    }

    fn news(&mut self) -> String {
        let Ok(mut file) = File::open(&self.path) else { return String::new() };
        let length = file.metadata().map_or(0, |metadata| metadata.len());
        if length < self.position {
            self.position = 0;
        }
        let mut bytes = Vec::new();
        let read = file.seek(SeekFrom::Start(self.position)).and_then(|_| file.take(1 << 20).read_to_end(&mut bytes));
        self.position += read.unwrap_or(0) as u64;
        String::from_utf8_lossy(&bytes).into_owned()
    }
}
