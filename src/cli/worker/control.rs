//! `iii worker list`, `start`, `restart`, `stop`, `remove`, `clear`.

use std::io::{BufRead, IsTerminal, stdin};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::args::{ClearArguments, ListArguments, RemoveArguments, RestartArguments, StartArguments, StopArguments};
use super::{Failure, Outcome, Project, status};
use crate::cli::options::Options;
use crate::cli::output;
use crate::config::{BuiltIn, edit};
use crate::suggest::similar;
use crate::workers::managed::{place::Place, project};

/// How long an engine may take to start or stop a worker.
const ACTING: Duration = Duration::from_secs(30);

/// Runs `list` (MW-47).
pub fn list(arguments: &ListArguments, options: &Options) -> Outcome {
    let project = Project::find(options, None);
    let rows = match project.running() {
        Some(list) => list["workers"].as_array().cloned().unwrap_or_default(),
        None if project.config.is_none() => Vec::new(),
        None => {
            let names = project.names()?.into_iter();
            names.map(|name| json!({"name": name, "running": false, "status": "stopped", "version": built_in_version(&name)})).collect()
        }
    };
    if arguments.json {
        output::stdout(&format!("{}\n", serde_json::to_string_pretty(&rows).unwrap_or_default()));
        return Ok(0);
    }
    if rows.is_empty() {
        output::stderr("No workers. Use 'iii worker add' to get started.\n");
        return Ok(0);
    }
    let cell = |row: &Value, key: &str| match &row[key] {
        Value::String(text) => output::printable(text),
        Value::Number(number) => number.to_string(),
        _ => "-".to_owned(),
    };
    let heading = ["NAME", "VERSION", "PID", "STATUS"].map(str::to_owned);
    let table = rows.iter().map(|row| ["name", "version", "pid", "status"].map(|key| cell(row, key)));
    let table: Vec<[String; 4]> = [heading].into_iter().chain(table).collect();
    let width = |column: usize| table.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let [first, second, third] = [width(0), width(1), width(2)];
    let lines = table.iter().map(|[a, b, c, d]| format!("{a:first$}  {b:second$}  {c:third$}  {d}\n"));
    output::stdout(&lines.collect::<String>());
    Ok(0)
}

fn built_in_version(name: &str) -> Option<&'static str> {
    BuiltIn::by_name(name).map(|_| crate::VERSION)
}

/// Runs `start` (MW-51).
pub fn start(arguments: &StartArguments, options: &Options) -> Outcome {
    let project = Project::find(options, arguments.port);
    begin(&project, &arguments.name, "worker::start", arguments.no_wait)
}

/// Runs `restart`.
pub fn restart(arguments: &RestartArguments, options: &Options) -> Outcome {
    let project = Project::find(options, arguments.port);
    begin(&project, &arguments.name, "worker::restart", arguments.no_wait)
}

fn begin(project: &Project, name: &str, function: &str, no_wait: bool) -> Outcome {
    let running = project.running();
    let known = is_listed(project, running.as_ref(), name);
    if !known {
        return Err(not_found(project, name));
    }
    if running.is_none() {
        return Err(Failure(format!("the engine isn't running; start it with 'iii', and it starts {name}")));
    }
    if BuiltIn::by_name(name).is_some_and(|worker| worker != BuiltIn::Exec) {
        output::stderr(&format!("{name} runs inside the engine and is running\n"));
        return Ok(0);
    }
    output::stderr(&format!("{} {name}...\n", if function.ends_with("restart") { "Restarting" } else { "Starting" }));
    let started = Instant::now();
    let answer = project.remote.call(function, json!({"name": name, "wait": false}), ACTING)?;
    let pid = answer["pid"].as_i64().map_or(String::new(), |pid| format!("(pid: {pid})"));
    if answer["already"] == true {
        output::stderr(&format!("{name} is already running {}\n", pid.replace("pid: ", "pid ")));
        return Ok(0);
    }
    output::stderr(&format!("✓ {name} started {pid}\n"));
    if no_wait || BuiltIn::by_name(name).is_some() {
        return Ok(0);
    }
    status::wait(project, name, started)
}

/// Runs `stop` (MW-50).
pub fn stop(arguments: &StopArguments, options: &Options) -> Outcome {
    let project = Project::find(options, None);
    let name = &arguments.name;
    let running = project.running();
    if !is_listed(&project, running.as_ref(), name) {
        return Err(not_found(&project, name));
    }
    if BuiltIn::by_name(name).is_some_and(|worker| worker != BuiltIn::Exec) {
        return Err(Failure(format!(
            "Cannot stop '{name}': config workers run inside the engine and cannot be stopped individually"
        )));
    }
    output::stderr(&format!("Stopping {name}...\n"));
    let stopped = match running {
        Some(_) => {
            let input = json!({"name": name, "yes": true, "keep": arguments.keep});
            project.remote.call("worker::stop", input, ACTING)?["stopped"] == true
        }
        None => false,
    };
    output::stderr(&format!("✓ {name} {}\n", if stopped { "stopped" } else { "already stopped" }));
    Ok(0)
}

/// Runs `remove` (MW-46).
pub fn remove(arguments: &RemoveArguments, options: &Options) -> Outcome {
    let project = Project::find(options, None);
    if arguments.names.is_empty() {
        return Err(Failure("name the workers to remove".to_owned()));
    }
    let listed = project.names()?;
    let text = std::fs::read_to_string(project.config()?).unwrap_or_default();
    for name in &arguments.names {
        if !edit::contains(&text, name).unwrap_or(false) {
            let known = listed.iter().map(String::as_str);
            let tip = similar(name, known).map_or(String::new(), |near| format!(" Did you mean '{near}'?"));
            return Err(Failure(format!(
                "Worker '{name}' is not in {}.{tip} Run 'iii worker list' to see what is.",
                project.config_name()
            )));
        }
    }
    let names = arguments.names.join(", ");
    if !arguments.yes && !agreed("remove", &format!("Remove worker(s) '{names}'?"))? {
        return Ok(1);
    }
    if project.running().is_some() {
        project.remote.call("worker::remove", json!({"names": arguments.names, "yes": true}), ACTING)?;
    } else {
        for name in &arguments.names {
            project::remove(project.config()?, name)?;
        }
    }
    for name in &arguments.names {
        output::stderr(&format!("✓ {name} removed from {}\n", project.config_name()));
    }
    Ok(0)
}

/// Runs `clear`.
pub fn clear(arguments: &ClearArguments, options: &Options) -> Outcome {
    let project = Project::find(options, None);
    let names = match &arguments.name {
        Some(name) => vec![name.clone()],
        None => project.names()?.into_iter().filter(|name| BuiltIn::by_name(name).is_none()).collect(),
    };
    if !arguments.yes && !agreed("clear", &format!("Forget what is installed for '{}'?", names.join(", ")))? {
        return Ok(1);
    }
    let bytes = match project.running() {
        Some(_) => project.remote.call("worker::clear", json!({"names": names, "yes": true}), ACTING)?["cleared_bytes"]
            .as_u64()
            .unwrap_or(0),
        None => {
            let place = Place::of_user();
            names.iter().filter(|name| project::check_name(name).is_ok()).map(|name| project::clear(&place, name)).sum()
        }
    };
    output::stderr(&format!("✓ cleared {bytes} bytes\n"));
    Ok(0)
}

/// Asks on a terminal; elsewhere consent has to be given in advance.
fn agreed(verb: &str, question: &str) -> Result<bool, Failure> {
    if !stdin().is_terminal() {
        return Err(Failure(format!("{verb} is destructive; pass -y/--yes for non-interactive use")));
    }
    output::stderr(&format!("{question} [y/N] "));
    let mut answer = String::new();
    let _ = stdin().lock().read_line(&mut answer);
    let agreed = matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes");
    if !agreed {
        output::stderr("Aborted.\n");
    }
    Ok(agreed)
}

fn is_listed(project: &Project, running: Option<&Value>, name: &str) -> bool {
    let in_list =
        |list: &Value| list["workers"].as_array().is_some_and(|rows| rows.iter().any(|row| row["name"] == name));
    if running.is_some_and(in_list) {
        return true;
    }
    let text = project.config.as_ref().and_then(|path| std::fs::read_to_string(path).ok()).unwrap_or_default();
    edit::contains(&text, name).unwrap_or(false)
        || BuiltIn::by_name(name).is_some_and(|worker| worker.facts().mandatory)
}

fn not_found(project: &Project, name: &str) -> Failure {
    let listed = project.names().unwrap_or_default();
    let tip = similar(name, listed.iter().map(String::as_str))
        .map_or(String::new(), |near| format!(" Did you mean '{near}'?"));
    Failure(format!("Worker '{name}' not found.{tip} Run 'iii worker list' to see what is configured."))
}
