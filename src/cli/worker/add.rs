//! `iii worker add` and `reinstall`.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::args::{AddArguments, ReinstallArguments};
use super::engine::{Remote, RemoteError};
use super::{Failure, Outcome, PORT_DEFAULT, Project, status};
use crate::cli::options::Options;
use crate::cli::output;
use crate::config::BuiltIn;
use crate::workers::managed::project::{self, Added, Source};

/// How long an engine may take to add a worker; it does not wait for it.
const ADDING: Duration = Duration::from_secs(30);

/// Runs `add`.
pub fn run(arguments: &AddArguments, options: &Options) -> Outcome {
    if arguments.sources.is_empty() {
        return Err(Failure("name what to add: iii worker add ./path, or iii worker add NAME".to_owned()));
    }
    let count = arguments.sources.len();
    let mut worst = 0;
    let mut failed = false;
    for (index, text) in arguments.sources.iter().enumerate() {
        if count > 1 {
            output::stderr(&format!("[{}/{count}] Adding {text}\n", index + 1));
        }
        match add(text, arguments, options) {
            Ok(code) => worst = worst.max(code),
            Err(Failure(text)) if count > 1 => {
                output::stderr(&format!("error: {}\n", text.trim_end()));
                failed = true;
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(if failed { 1 } else { worst })
}

/// Runs `reinstall`: `add --force --no-wait`.
pub fn reinstall(arguments: &ReinstallArguments, options: &Options) -> Outcome {
    let add = AddArguments {
        force: true,
        no_wait: true,
        yes: arguments.yes,
        sources: arguments.sources.clone(),
        ..AddArguments::default()
    };
    run(&add, options)
}

fn add(text: &str, arguments: &AddArguments, options: &Options) -> Outcome {
    let source = Source::parse(text);
    if let Source::Name(name) = &source
        && BuiltIn::by_name(name).is_none()
    {
        let hint = match Path::new(name).is_dir() {
            true => format!("There is a directory of that name: iii worker add ./{name}"),
            false => "Add a local directory instead: iii worker add ./path".to_owned(),
        };
        return Err(Failure(format!(
            "'{name}' is not a built-in worker; this engine does not install from a registry. {hint}"
        )));
    }
    let project = Project::find(options, None);
    if let Some(host) = &arguments.host {
        return remotely(&Remote::parse(host, PORT_DEFAULT)?, &source, arguments);
    }
    if project.config.is_none() {
        output::stderr(&format!("note: no config.yaml here; asking the engine at {}\n", project.remote.url()));
        return remotely(&project.remote, &source, arguments);
    }
    if let Source::Name(name) = &source {
        return built_in(&project, name, &source, arguments);
    }
    if let Source::Local(path) = &source {
        // Told before anything is asked of an engine, in the words of this side.
        for warning in project::check(path)?.warnings {
            output::stderr(&format!("warning: {warning}\n"));
        }
    }
    if project.running().is_some() {
        return through(&project, &source, arguments);
    }
    let added = project::add(project.config()?, &source, arguments.force, arguments.reset_config)?;
    let (name, kind) = match &added {
        Added::Local { project, .. } => (&project.name, "local"),
        Added::Image { name } => (name, "oci"),
        Added::BuiltIn { name, .. } | Added::Mandatory { name } => (name, "builtin"),
    };
    output::stderr(&format!(
        "⚠ Added {name} ({kind}) to {}, but the engine isn't running.\n  Start it with: iii\n",
        project.config_name()
    ));
    Ok(0)
}

fn built_in(project: &Project, name: &str, source: &Source, arguments: &AddArguments) -> Outcome {
    let running = project.running().is_some();
    match project::add(project.config()?, source, arguments.force, arguments.reset_config)? {
        Added::Mandatory { name } => {
            output::stderr(&format!(
                "info: '{name}' is a mandatory engine worker; it always runs and needs no entry\n"
            ));
        }
        Added::BuiltIn { again, .. } => {
            let verb = if again { "updated in" } else { "added to" };
            output::stderr(&format!("✓ Worker {name} {verb} {}\n", project.config_name()));
            if !running {
                output::stderr("Start the engine to run it, or edit config.yaml to customize.\n");
            }
        }
        Added::Local { .. } | Added::Image { .. } => {}
    }
    Ok(0)
}

/// By the engine of this project.
fn through(project: &Project, source: &Source, arguments: &AddArguments) -> Outcome {
    let started = Instant::now();
    let answer = call(&project.remote, source, arguments)?;
    let name = answer["name"].as_str().unwrap_or_default();
    if arguments.no_wait {
        output::stderr(&format!(
            "→ Added {name} (local) — queued in {}.\n  see how it does:   iii worker status {name}\n  \
             see its output:    iii worker logs {name} -f\n",
            project.config_name()
        ));
        return Ok(0);
    }
    status::wait(project, name, started)
}

/// By an engine whose files are not ours.
fn remotely(remote: &Remote, source: &Source, arguments: &AddArguments) -> Outcome {
    let source = match source {
        Source::Local(path) if remote.is_local() => {
            let path = std::fs::canonicalize(path)
                .map_err(|error| format!("Cannot resolve path '{}': {error}", path.display()))?;
            Source::Local(path)
        }
        other => other.clone(),
    };
    let started = Instant::now();
    let answer = match call(remote, &source, arguments) {
        Ok(answer) => answer,
        Err(RemoteError::Unreachable(reason)) => {
            return Err(Failure(format!(
                "cannot reach an iii engine at {}: {reason}\n  start one with 'iii', or make a project with: iii project init",
                remote.url()
            )));
        }
        Err(refused) => return Err(refused.into()),
    };
    let name = answer["name"].as_str().unwrap_or_default();
    output::stderr(&format!(
        "✓ Worker {name} added to {}\n",
        answer["config_path"].as_str().unwrap_or("its configuration")
    ));
    if arguments.no_wait || matches!(source, Source::Name(_)) {
        return Ok(0);
    }
    status::wait(&Project { config: None, remote: remote.clone() }, name, started)
}

fn call(remote: &Remote, source: &Source, arguments: &AddArguments) -> Result<Value, RemoteError> {
    let source = match source {
        Source::Local(path) => {
            let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
            json!({"kind": "local", "path": path.to_string_lossy()})
        }
        Source::Image(reference) => json!({"kind": "oci", "reference": reference}),
        Source::Name(name) => json!({"kind": "registry", "name": name}),
    };
    let input = json!({
        "source": source, "force": arguments.force, "reset_config": arguments.reset_config,
        "yes": arguments.yes, "wait": false,
    });
    remote.call("worker::add", input, ADDING)
}
