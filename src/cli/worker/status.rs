//! `iii worker status`, and the block of lines that shows how a worker comes up (MW-48).

#![allow(clippy::disallowed_methods, reason = "a command of its own, which may sleep; no shard runs here")]

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::args::StatusArguments;
use super::{Outcome, Project, QUESTION};
use crate::cli::options::Options;
use crate::cli::output;

/// How often the block is drawn anew.
const REDRAW: Duration = Duration::from_millis(200);
/// Longest wait for a worker (MW-42).
const READY_MAX: Duration = Duration::from_secs(120);
/// Exit code when a worker is not ready in time.
const NOT_READY: u8 = 2;
const SPINNER: [char; 10] = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];

/// Runs the verb.
pub fn run(arguments: &StatusArguments, options: &Options) -> Outcome {
    let project = Project::find(options, None);
    if arguments.json {
        let status = look(&project, &arguments.name);
        output::stdout(&format!("{}\n", serde_json::to_string_pretty(&status).unwrap_or_default()));
        return Ok(code_of(&status));
    }
    let status = look(&project, &arguments.name);
    let moving = is_moving(&status);
    if arguments.no_watch || !moving || !stderr().is_terminal() {
        output::stderr(&block(&project, &arguments.name, &status, None));
        return Ok(code_of(&status));
    }
    wait(&project, &arguments.name, Instant::now())
}

/// Shows a worker until it is ready, has failed, or time is up.
pub fn wait(project: &Project, name: &str, started: Instant) -> Outcome {
    let terminal = stderr().is_terminal();
    let mut drawn = 0;
    let mut told = String::new();
    for round in 0.. {
        let status = look(project, name);
        let elapsed = started.elapsed();
        let done = status["ready"] == true || !is_moving(&status);
        let late = elapsed >= READY_MAX;
        let progress = (!done).then_some((elapsed, SPINNER[round % SPINNER.len()]));
        let text = block(project, name, &status, progress);
        if terminal {
            // Over what was drawn last time.
            let up = if drawn > 0 { format!("\u{1b}[{drawn}A\u{1b}[J") } else { String::new() };
            output::stderr(&format!("{up}{text}"));
            drawn = text.lines().count();
        } else if done || late {
            output::stderr(&text);
        } else {
            // Off a terminal each state is told once.
            let headline = headline(name, &status);
            if headline != told {
                output::stderr(&format!("  {headline}\n"));
                told = headline;
            }
        }
        if status["ready"] == true {
            output::stderr(&format!("✓ ready in {:.1}s\n", elapsed.as_secs_f32()));
            return Ok(0);
        }
        if done {
            return Ok(code_of(&status));
        }
        if late {
            output::stderr(&format!(
                "⚠ not ready after {}s; it may still come up\n  see how it does:   iii worker status {name}\n  \
                 see its output:    iii worker logs {name} -f\n",
                READY_MAX.as_secs()
            ));
            return Ok(NOT_READY);
        }
        std::thread::sleep(REDRAW);
    }
    unreachable!("the loop ends by itself")
}

/// What the engine says, or what the file says without one.
pub fn look(project: &Project, name: &str) -> Value {
    if project.running().is_some()
        && let Ok(mut status) = project.remote.call("worker::status", json!({ "name": name }), QUESTION)
    {
        status["engine"] = Value::from("running");
        return status;
    }
    let listed = project.names().unwrap_or_default().iter().any(|listed| listed == name);
    json!({"name": name, "installed": listed, "running": false, "ready": false, "engine": "not running", "status": "stopped"})
}

/// Something will come of waiting.
fn is_moving(status: &Value) -> bool {
    status["ready"] != true
        && status["engine"] == "running"
        && status["installed"] == true
        && !matches!(status["phase"].as_str(), Some("failed" | "stopped" | "finished") | None)
}

fn code_of(status: &Value) -> u8 {
    u8::from(status["ready"] != true && !is_moving(status))
}

fn headline(name: &str, status: &Value) -> String {
    let pid = status["pid"].as_i64().map_or(String::new(), |pid| format!(" (pid {pid})"));
    if status["installed"] != true {
        return format!("✗ {name} not in config.yaml");
    }
    if status["engine"] != "running" {
        return "⚠ engine not running (start it with 'iii')".to_owned();
    }
    match (status["ready"] == true, status["phase"].as_str()) {
        (true, _) => format!("✓ {name} ready{pid}"),
        (_, Some("queued")) => format!("⟳ {name} queued"),
        (_, Some("installing")) => format!("⟳ {name} installing deps{pid}"),
        (_, Some("running")) => format!("⟳ {name} booting{pid}"),
        (_, Some("restarting")) => format!("⟳ {name} waits to start again"),
        (_, Some("stopped")) => format!("✗ {name} stopped"),
        (_, Some("finished")) => format!("✓ {name} finished"),
        _ => format!("✗ {name} failed"),
    }
}

fn block(project: &Project, name: &str, status: &Value, progress: Option<(Duration, char)>) -> String {
    let mut head = headline(name, status);
    if let Some((elapsed, spinner)) = progress {
        head += &format!(" ({}s {spinner})", elapsed.as_secs());
    }
    let mut rows: Vec<(&str, String)> = vec![("engine", status["engine"].as_str().unwrap_or("not running").to_owned())];
    let kind = status["worker_type"].as_str().unwrap_or("unknown");
    let path = status["worker_path"].as_str().map_or(String::new(), |path| format!(" ({path})"));
    rows.push((
        "config",
        match status["installed"] == true {
            true => format!("present type={kind}{path}"),
            false => format!("not in {}", project.config_name()),
        },
    ));
    rows.push(("sandbox", "n/a (runs on host)".to_owned()));
    rows.push((
        "process",
        status["pid"].as_i64().map_or_else(|| "not running".to_owned(), |pid| format!("alive pid={pid}")),
    ));
    let registered = if status["ready"] == true { "registered (connected to engine)" } else { "not registered" };
    rows.push(("worker", registered.to_owned()));
    rows.push(("logs", format!("available (tail with `iii worker logs {name} -f`)")));
    if let Some(reason) = status["reason"].as_str() {
        rows.push(("reason", output::printable(reason)));
    }
    if progress.is_none_or(|(elapsed, _)| elapsed >= Duration::from_secs(3))
        && status["ready"] != true
        && let Some(line) = status["stderr_tail"].as_array().and_then(|lines| lines.last()?.as_str())
    {
        rows.push(("tail", output::printable(line)));
    }
    if let Some(hint) = status["hint"].as_str() {
        rows.push(("hint", hint.to_owned()));
    } else if progress.is_some_and(|(elapsed, _)| elapsed >= Duration::from_secs(30)) {
        rows.push(("hint", format!("it takes long; see `iii worker logs {name} -f`")));
    }
    let rows: String = rows.iter().map(|(label, text)| format!("{:>11}:  {text}\n", label)).collect();
    format!("  {head}\n\n{rows}")
}

#[cfg(test)]
mod tests {
    use super::*;

    // MW-48
    #[test]
    fn mw_48_headlines() {
        let status = |phase: &str, ready: bool| json!({"installed": true, "engine": "running", "phase": phase, "ready": ready, "pid": 7});
        for (status, expected) in [
            (json!({"installed": false}), "✗ w not in config.yaml"),
            (json!({"installed": true, "engine": "not running"}), "⚠ engine not running (start it with 'iii')"),
            (status("installing", false), "⟳ w installing deps (pid 7)"),
            (status("running", false), "⟳ w booting (pid 7)"),
            (status("running", true), "✓ w ready (pid 7)"),
            (status("failed", false), "✗ w failed"),
        ] {
            assert_eq!(headline("w", &status), expected);
        }
    }
}
