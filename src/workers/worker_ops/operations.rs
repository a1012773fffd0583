//! What the `worker::*` functions do. Runs on the process thread.

use super::{Happening, schemas};
use crate::config::{self, BuiltIn, Choice, Overrides, Surroundings, Worker, WorkerKind, edit};
use crate::processes::output;
use crate::processes::session::members;
use crate::processes::supervisor::{Phase, Status};
use crate::workers::managed::project::{self, Added, OpError, Source};
use crate::workers::managed::{Connected, Processes};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::{Instant, sleep};

/// Longest wait for a worker to be ready (MW-42).
const READY_MAX: Duration = Duration::from_secs(120);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// Most lines `worker::logs` gives.
const LINES_MAX: u64 = 1000;

type Answer = Result<Value, OpError>;

/// Runs one function.
pub async fn run(processes: &Processes, function: &str, input: Value) -> Answer {
    let operation = function.trim_start_matches("worker::").to_owned();
    let tells = matches!(operation.as_str(), "add" | "remove" | "start" | "stop" | "restart" | "clear");
    let subject = input["name"].as_str().or(input["source"]["path"].as_str()).unwrap_or_default().to_owned();
    if tells {
        tell(processes, &operation, &subject, "started", None);
    }
    let operations = Operations { processes };
    let answer = match operation.as_str() {
        "add" => operations.add(&input).await,
        "remove" => operations.remove(&input).await,
        "update" => Err(OpError::new("W140", "no registry: this engine does not install or update from one")),
        "start" => operations.start(&input).await,
        "stop" => operations.stop(&input).await,
        "restart" => operations.restart(&input).await,
        "list" => operations.list(&input).await,
        "status" => operations.status(&input).await,
        "logs" => operations.logs(&input).await,
        "clear" => operations.clear(&input).await,
        "schema" => Ok(schemas::describe(input["function_id"].as_str())),
        "validate" => validate(&input),
        other => Err(OpError::new("W900", format!("unknown operation '{other}'"))),
    };
    if tells {
        let name = answer.as_ref().ok().and_then(|answer| answer["name"].as_str()).unwrap_or(&subject).to_owned();
        let stage = if answer.is_ok() { "done" } else { "failed" };
        tell(processes, &operation, &name, stage, answer.as_ref().err());
    }
    answer
}

/// Tells triggers of type `worker`.
fn tell(processes: &Processes, operation: &str, worker: &str, stage: &str, error: Option<&OpError>) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
    let mut event = json!({
        "operation": operation, "worker": worker, "stage": stage, "timestamp_ms": now, "caller_mode": "trigger",
    });
    if let Some(error) = error {
        event["error"] = json!({"code": error.code, "message": error.message});
    }
    if let Some(mailbox) = processes.context().mailbox() {
        mailbox.post(Box::new(Happening(event)));
    }
}

fn validate(input: &Value) -> Answer {
    match (input["manifest"].as_str(), input["path"].as_str()) {
        (Some(text), None) => Ok(project::validate(text, Path::new("."))),
        (None, Some(path)) => {
            let path = PathBuf::from(path);
            let file = if path.is_dir() { path.join("iii.worker.yaml") } else { path.clone() };
            let directory = file.parent().unwrap_or(Path::new(".")).to_owned();
            let text = std::fs::read_to_string(&file)
                .map_err(|error| OpError::new("W110", format!("cannot read '{}': {error}", file.display())))?;
            Ok(project::validate(&text, &directory))
        }
        _ => Err(OpError::new("W105", "give exactly one of 'manifest' and 'path'")),
    }
}

struct Operations<'a> {
    processes: &'a Processes,
}

/// What is known of one worker.
struct Known {
    worker: Option<Worker>,
    built_in: Option<BuiltIn>,
    status: Option<Status>,
    connected: Option<Connected>,
}

// === impl Known ===

impl Known {
    fn is_ready(&self) -> bool {
        self.built_in.is_some() && self.worker.is_some() || self.connected.is_some()
    }

    fn pid(&self) -> Option<i32> {
        self.status.as_ref().and_then(|status| status.pid)
    }

    fn is_alive(&self) -> bool {
        self.pid().is_some()
    }

    /// `running`, `starting` or `stopped` (MW-47).
    fn word(&self) -> &'static str {
        match (self.is_ready(), self.is_alive()) {
            (true, _) => "running",
            (false, true) => "starting",
            (false, false) => "stopped",
        }
    }

    fn version(&self) -> Option<String> {
        match self.built_in {
            Some(_) => Some(crate::VERSION.to_owned()),
            None => self.connected.as_ref().and_then(|connected| connected.version.clone()),
        }
    }
}

// === impl Operations ===

impl Operations<'_> {
    fn config_path(&self) -> Result<PathBuf, OpError> {
        let path = self.processes.context().config_path.clone();
        path.ok_or_else(|| OpError::new("W130", "the engine runs without a configuration file"))
    }

    /// The configuration as it is in the file now.
    fn config(&self) -> Result<config::Config, OpError> {
        let choice = match &self.processes.context().config_path {
            Some(path) => Choice::File(path.clone()),
            None => Choice::Defaults,
        };
        config::load(&choice, &Overrides::default(), &Surroundings::process())
            .map(|loaded| loaded.config)
            .map_err(|error| OpError::new("W131", error.to_string()))
    }

    /// Makes the processes those of the file.
    async fn reconcile(&self) -> Result<(), OpError> {
        let config = self.config()?;
        crate::workers::managed::check(&config).map_err(|reason| OpError::new("W105", reason))?;
        self.processes.reconcile(&config).await;
        Ok(())
    }

    async fn known(&self, name: &str) -> Result<Known, OpError> {
        let config = self.config()?;
        let connected = self.processes.context().connected().await.unwrap_or_default();
        let list = self.processes.supervisor().list().await;
        Ok(known(name, &config, &list, &connected))
    }

    async fn add(&self, input: &Value) -> Answer {
        let source = source(&input["source"])?;
        let flag = |name: &str, default: bool| input[name].as_bool().unwrap_or(default);
        let path = self.config_path()?;
        let (force, reset) = (flag("force", false), flag("reset_config", false));
        if let (true, Source::Local(directory)) = (force, &source) {
            let name = project::check(directory)?.name;
            self.processes.supervisor().stop_entry(&name).await;
            project::clear(&self.processes.context().place, &name);
        }
        let added = project::add(&path, &source, force, reset)?;
        let (name, status, waits) = match &added {
            Added::BuiltIn { name, again } => (name, if *again { "already_current" } else { "installed" }, false),
            Added::Mandatory { name } => (name, "already_current", false),
            Added::Local { project, replaced } => {
                (&project.name, if *replaced { "replaced" } else { "installed" }, true)
            }
            Added::Image { name } => (name, "installed", true),
        };
        self.reconcile().await?;
        if waits {
            self.processes.supervisor().start_entry(name).await;
        }
        let mut ready = false;
        if waits && flag("wait", true) {
            ready = self.wait_until_ready(name).await?;
        }
        let version = self.known(name).await?.version();
        let mut answer =
            json!({"name": name, "status": status, "awaited_ready": ready, "config_path": path.display().to_string()});
        if let Some(version) = version {
            answer["version"] = Value::from(version);
        }
        Ok(answer)
    }

    async fn wait_until_ready(&self, name: &str) -> Result<bool, OpError> {
        let deadline = Instant::now() + READY_MAX;
        while Instant::now() < deadline {
            let known = self.known(name).await?;
            if known.is_ready() {
                return Ok(true);
            }
            if known.status.as_ref().is_some_and(|status| matches!(status.phase, Phase::Failed | Phase::Finished)) {
                return Ok(false);
            }
            sleep(LOOK).await;
        }
        Ok(false)
    }

    async fn remove(&self, input: &Value) -> Answer {
        consent("remove", input)?;
        let path = self.config_path()?;
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let listed = edit::names(&text).map_err(|reason| OpError::new("W131", reason))?;
        let external = |name: &&String| BuiltIn::by_name(name).is_none() && !name.contains("::");
        let names: Vec<String> = match input["all"].as_bool() {
            Some(true) => listed.iter().filter(external).cloned().collect(),
            _ => words(&input["names"])?,
        };
        if names.is_empty() && input["all"] != true {
            return Err(OpError::new("W103", "name the workers to remove"));
        }
        if let Some(missing) = names.iter().find(|name| !edit::contains(&text, name).unwrap_or(false)) {
            return Err(OpError::new("W110", format!("Worker '{missing}' is not in {}.", shown(&path))));
        }
        for name in &names {
            project::remove(&path, name)?;
        }
        self.reconcile().await?;
        Ok(json!({ "removed": names }))
    }

    async fn start(&self, input: &Value) -> Answer {
        let name = name(input)?;
        let known = self.known(&name).await?;
        if known.worker.is_none() {
            return Err(not_found(&name));
        }
        if known.built_in.is_some() && known.status.is_none() {
            return Ok(json!({"name": name, "pid": null, "port": null, "already": true}));
        }
        let already = known.is_alive();
        if !already {
            let _ = std::fs::remove_file(self.processes.context().place.stopped(&name));
            self.reconcile().await?;
            self.processes.supervisor().start_entry(&name).await;
            self.wait_for_process(&name).await?;
        }
        if input["wait"].as_bool().unwrap_or(true) && known.built_in.is_none() {
            self.wait_until_ready(&name).await?;
        }
        let pid = self.known(&name).await?.pid();
        let port = self.processes.context().url().rsplit(':').next().and_then(|port| port.parse::<u16>().ok());
        Ok(json!({"name": name, "pid": pid, "port": port, "already": already}))
    }

    /// Until it has a process, or can't have one.
    async fn wait_for_process(&self, name: &str) -> Result<(), OpError> {
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline {
            match self.processes.supervisor().status(name).await {
                Some(status) if status.phase == Phase::Failed => {
                    return Err(OpError::new(
                        "W160",
                        status.reason.unwrap_or_else(|| "it cannot be started".to_owned()),
                    ));
                }
                Some(status) if status.phase != Phase::Queued => return Ok(()),
                _ => sleep(Duration::from_millis(20)).await,
            }
        }
        Ok(())
    }

    async fn stop(&self, input: &Value) -> Answer {
        let name = name(input)?;
        consent("stop", input)?;
        let known = self.known(&name).await?;
        if known.built_in.is_some() && known.status.is_none() {
            let text = format!(
                "Cannot stop '{name}': config workers run inside the engine and cannot be stopped individually"
            );
            return Err(OpError::new("W105", text));
        }
        if known.status.is_none() {
            return Err(not_found(&name));
        }
        let stopped = known.status.as_ref().is_some_and(|status| status.phase != Phase::Stopped);
        self.processes.supervisor().stop_entry(&name).await;
        if input["keep"] == true {
            let mark = self.processes.context().place.stopped(&name);
            let _ = mark.parent().map(std::fs::create_dir_all);
            let _ = std::fs::write(mark, "");
        }
        Ok(json!({"name": name, "stopped": stopped}))
    }

    async fn restart(&self, input: &Value) -> Answer {
        let name = name(input)?;
        if self.processes.supervisor().status(&name).await.is_some() {
            self.processes.supervisor().stop_entry(&name).await;
        }
        self.start(input).await
    }

    async fn list(&self, input: &Value) -> Answer {
        let config = self.config()?;
        let connected = self.processes.context().connected().await.unwrap_or_default();
        let list = self.processes.supervisor().list().await;
        let declared = config.workers.iter().filter(|worker| worker.declared).map(|worker| worker.id.clone());
        let mut names: Vec<String> = declared.collect();
        let orphans: Vec<String> = list
            .iter()
            .filter(|(name, status)| status.pid.is_some() && !names.contains(name))
            .map(|(name, _)| name.clone())
            .collect();
        names.extend(orphans);
        let rows = names.iter().filter_map(|name| {
            let known = known(name, &config, &list, &connected);
            let running = known.word() != "stopped";
            if input["running_only"] == true && !running {
                return None;
            }
            let mut row = json!({"name": name, "running": running, "status": known.word()});
            if let Some(version) = known.version() {
                row["version"] = Value::from(version);
            }
            if let Some(pid) = known.pid() {
                row["pid"] = Value::from(pid);
            }
            Some(row)
        });
        let rows: Vec<Value> = rows.collect();
        let path = self.processes.context().config_path.as_ref().map(|path| path.display().to_string());
        Ok(json!({"workers": rows, "config_path": path}))
    }

    async fn status(&self, input: &Value) -> Answer {
        let name = name(input)?;
        let known = self.known(&name).await?;
        let logs = self.processes.context().place.logs(&name);
        let kind = match known.worker.as_ref().map(|worker| &worker.kind) {
            None => "not-installed",
            Some(WorkerKind::BuiltIn(..) | WorkerKind::Custom(_)) => "builtin",
            Some(WorkerKind::Local) => "local",
            Some(WorkerKind::Image) => "oci",
            Some(WorkerKind::Installed) => "binary",
        };
        let tail = |file: &str| -> Vec<String> {
            output::tail(&logs.join(file), 20).iter().map(|line| output::plain(line)).collect()
        };
        let phase = known.status.as_ref().map(|status| status.phase.word());
        let reason = known.status.as_ref().and_then(|status| status.reason.clone());
        let hint = match (&known.worker, phase) {
            (None, _) => Some(format!("add it with: iii worker add ./{name}")),
            (Some(_), Some("failed")) => Some(format!("see its output with: iii worker logs {name}")),
            (Some(_), Some("stopped")) => Some(format!("start it with: iii worker start {name}")),
            _ => None,
        };
        Ok(json!({
            "name": name, "installed": known.worker.is_some(), "worker_type": kind,
            "running": known.word() != "stopped", "pid": known.pid(), "version": known.version(),
            "logs_dir": logs.display().to_string(), "stderr_tail": tail("stderr.log"), "stdout_tail": tail("stdout.log"),
            "hint": hint, "status": known.word(), "phase": phase, "ready": known.is_ready(), "reason": reason,
            "restarts": known.status.as_ref().map(|status| status.starts.saturating_sub(1)),
            "worker_path": known.worker.as_ref().and_then(|worker| worker.worker_path.clone()),
        }))
    }

    async fn logs(&self, input: &Value) -> Answer {
        let name = name(input)?;
        let lines = input["tail"].as_u64().unwrap_or(100).min(LINES_MAX) as usize;
        let logs = self.processes.context().place.logs(&name);
        if !logs.is_dir() && self.known(&name).await?.worker.is_none() {
            return Err(not_found(&name));
        }
        let read = |file: &str| -> Vec<String> {
            let lines = output::tail(&logs.join(file), lines);
            if input["raw"] == true { lines } else { lines.iter().map(|line| output::plain(line)).collect() }
        };
        let (stdout, stderr) = (read("stdout.log"), read("stderr.log"));
        Ok(json!({"name": name, "logs_dir": logs.display().to_string(), "stdout": stdout, "stderr": stderr}))
    }

    async fn clear(&self, input: &Value) -> Answer {
        consent("clear", input)?;
        let names = match input["all"].as_bool() {
            Some(true) => self
                .config()?
                .workers
                .iter()
                .filter(|worker| worker.built_in().is_none())
                .map(|worker| worker.id.clone())
                .collect(),
            _ => words(&input["names"])?,
        };
        let mut bytes = 0;
        for name in &names {
            project::check_name(name)?;
            if self.processes.supervisor().status(name).await.is_some_and(|status| status.pid.is_some()) {
                return Err(OpError::new("W114", format!("'{name}' is running; stop it first")));
            }
            bytes += project::clear(&self.processes.context().place, name);
        }
        Ok(json!({ "cleared_bytes": bytes }))
    }
}

fn known(name: &str, config: &config::Config, list: &[(String, Status)], connected: &[Connected]) -> Known {
    let canonical = BuiltIn::by_name(name).map(BuiltIn::name);
    let worker =
        config.workers.iter().find(|worker| worker.id == name || Some(worker.id.as_str()) == canonical).cloned();
    let built_in = worker.as_ref().and_then(Worker::built_in).or_else(|| BuiltIn::by_name(name));
    let id = worker.as_ref().map_or(name, |worker| worker.id.as_str());
    let status = list.iter().find(|(listed, _)| listed == id).map(|(_, status)| status.clone());
    // A name alone proves nothing while its process is down; a pid of its session always does (MW-26).
    let session = status.as_ref().and_then(|status| status.pid).map(members).unwrap_or_default();
    let is_it = |row: &&Connected| {
        let ours = row.pid.is_some_and(|pid| session.iter().any(|(member, _)| *member == pid));
        ours || row.name.as_deref() == Some(name)
    };
    let connected = connected.iter().find(is_it).cloned().filter(|_| built_in.is_none());
    Known { worker, built_in, status, connected }
}

fn source(source: &Value) -> Result<Source, OpError> {
    let text = |key: &str| source[key].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let found = match source["kind"].as_str() {
        Some("local") => text("path").map(|path| Source::Local(path.into())),
        Some("oci") => text("reference").map(Source::Image),
        Some("registry") => text("name").map(Source::Name),
        _ => None,
    };
    found.ok_or_else(|| {
        OpError::new("W101", "source must be {kind: local, path} or {kind: oci, reference} or {kind: registry, name}")
    })
}

fn name(input: &Value) -> Result<String, OpError> {
    let name = input["name"].as_str().filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| OpError::new("W103", "missing field 'name'"))?;
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '#' | ':');
    match name.chars().all(legal) && !name.contains("..") && !name.starts_with('.') {
        true => Ok(name.to_owned()),
        false => Err(OpError::new("W100", format!("'{name}' is not a worker name"))),
    }
}

fn words(value: &Value) -> Result<Vec<String>, OpError> {
    let words = value.as_array().map(|words| words.iter().filter_map(Value::as_str).map(str::to_owned).collect());
    words.ok_or_else(|| OpError::new("W105", "'names' must be a list of names"))
}

/// MW-60
fn consent(operation: &str, input: &Value) -> Result<(), OpError> {
    match input["yes"] == true {
        true => Ok(()),
        false => Err(OpError::new("W104", format!("\"{operation}\" requires confirmation: pass yes:true"))),
    }
}

fn not_found(name: &str) -> OpError {
    OpError::new("W110", format!("Worker '{name}' not found. Run 'iii worker list' to see what is configured."))
}

fn shown(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
