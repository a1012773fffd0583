//! Managed workers: entries of the configuration that are processes, local projects, installed programs and images.
//!
//! [`Processes`] is what the engine has of them: it is made before the engine starts, started after the listeners are
//! up, told of every new configuration, and stopped before the engine ends.

pub mod manifest;
pub mod place;
pub mod plan;
pub mod project;
mod run;

use crate::config::settings::WorkerSettings;
use crate::config::{Config, Loaded, Worker, WorkerKind};
use crate::processes::supervisor::{Entry, Put, Supervisor, Task};
use crate::workers::exec;
use iii_shards::builtin::Mailbox;
use place::Place;
use std::collections::HashSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::{oneshot, watch};

/// What every process of this engine has in common.
pub struct Context {
    /// Where files lie.
    pub place: Place,
    /// The configuration file.
    pub config_path: Option<PathBuf>,
    /// Its directory, or the working directory: tells projects apart.
    pub project: PathBuf,
    url: OnceLock<String>,
    mailbox: OnceLock<Mailbox>,
    managed: watch::Sender<HashSet<String>>,
}

/// A worker connected to this engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connected {
    /// Name it has given itself.
    pub name: Option<String>,
    /// Process id it has told.
    pub pid: Option<i32>,
    /// Version it has told.
    pub version: Option<String>,
}

/// Asks the instance of `iii-worker-ops` for the workers connected: the answer of `engine::workers::list`.
pub type ConnectedQuery = oneshot::Sender<Vec<u8>>;

// === impl Context ===

impl Context {
    fn new(config_path: Option<PathBuf>) -> Context {
        let directory = config_path.as_deref().and_then(Path::parent).map(Path::to_owned);
        let project = directory.or_else(|| std::env::current_dir().ok()).unwrap_or_default();
        Context {
            place: Place::of_user(),
            config_path,
            project,
            url: OnceLock::new(),
            mailbox: OnceLock::new(),
            managed: watch::Sender::default(),
        }
    }

    /// Where workers connect.
    pub fn url(&self) -> &str {
        self.url.get().map_or("ws://127.0.0.1:49134", String::as_str)
    }

    /// The instance of `iii-worker-ops` that answers [`ConnectedQuery`].
    pub fn set_mailbox(&self, mailbox: Mailbox) {
        let _ = self.mailbox.set(mailbox);
    }

    /// That instance, once the engine runs.
    pub fn mailbox(&self) -> Option<&Mailbox> {
        self.mailbox.get()
    }

    /// The workers connected now; `None` while nobody can say.
    pub async fn connected(&self) -> Option<Vec<Connected>> {
        let (reply, answer) = oneshot::channel::<Vec<u8>>();
        self.mailbox.get()?.post(Box::new(reply));
        let answer = tokio::time::timeout(Duration::from_secs(2), answer).await.ok()?.ok()?;
        let list: serde_json::Value = serde_json::from_slice(&answer).ok()?;
        let row = |row: &serde_json::Value| Connected {
            name: row["name"].as_str().map(str::to_owned),
            pid: row["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok()),
            version: row["version"].as_str().map(str::to_owned),
        };
        Some(list["workers"].as_array()?.iter().filter(|row| row["internal"] != true).map(row).collect())
    }

    /// Whether the configuration lists a process of this name.
    pub fn is_managed(&self, name: &str) -> bool {
        self.managed.borrow().contains(name)
    }

    /// The variables every managed worker gets, whatever else it has (MW-22).
    pub fn worker_environment(&self, name: &str) -> Vec<(String, OsString)> {
        let mut environment: Vec<(String, OsString)> = vec![
            ("III_URL".to_owned(), self.url().into()),
            ("III_ENGINE_URL".to_owned(), self.url().into()),
            ("III_WORKER_NAME".to_owned(), name.into()),
        ];
        environment.extend(self.engine_environment());
        environment
    }

    /// The variables commands of `iii-exec` get (EXEC-DB-8, CFG-9).
    pub fn exec_environment(&self) -> Vec<(String, OsString)> {
        let mut environment = self.engine_environment();
        if std::env::var_os("III_URL").is_none() {
            environment.push(("III_URL".to_owned(), self.url().into()));
        }
        environment
    }

    fn engine_environment(&self) -> Vec<(String, OsString)> {
        let path = self.config_path.clone().map(|path| ("III_CONFIG_PATH".to_owned(), path.into()));
        let pid = ("III_ENGINE_PID".to_owned(), std::process::id().to_string().into());
        path.into_iter().chain([pid]).collect()
    }
}

/// All processes of an engine.
#[derive(Clone)]
pub struct Processes {
    supervisor: Supervisor,
    context: Arc<Context>,
}

// === impl Processes ===

impl Processes {
    /// Of an engine with this configuration. Starts nothing. `Err` if an entry can never run here.
    pub fn new(loaded: &Loaded) -> Result<Processes, String> {
        check(&loaded.config)?;
        let context = Arc::new(Context::new(loaded.source.absolute()));
        Ok(Processes { supervisor: Supervisor::start(), context })
    }

    /// The engine listens: starts everything the configuration lists, all in parallel (MW-31).
    pub fn start(&self, url: String, config: &Config) {
        let _ = self.context.url.set(url);
        self.apply(config);
    }

    /// Makes the processes those of a configuration: new ones start, changed ones start again, others stop. Returns how
    /// many unchanged ones had ended and start again (CFG-82). Waits for nothing to stop.
    pub fn apply(&self, config: &Config) -> usize {
        let (processes, config) = (self.clone(), config.clone());
        crate::processes::wait(async move { processes.reconcile(&config).await })
    }

    /// [`Processes::apply`], on the process thread.
    pub async fn reconcile(&self, config: &Config) -> usize {
        let wanted: Vec<&Worker> = config.workers.iter().filter(|worker| is_process(worker)).collect();
        self.context.managed.send_replace(wanted.iter().map(|worker| worker.id.clone()).collect());
        for (name, _) in self.supervisor.list().await {
            if !wanted.iter().any(|worker| worker.id == name) {
                let (supervisor, context) = (self.supervisor.clone(), self.context.clone());
                crate::processes::spawn(async move {
                    supervisor.remove(&name).await;
                    let _ = std::fs::remove_file(context.place.stopped(&name));
                });
            }
        }
        let mut revived = 0;
        for worker in wanted {
            let put = self.supervisor.put(self.entry(worker)).await;
            revived += usize::from(put == Put::Revived);
        }
        revived
    }

    /// How many of these have ended, so that the next [`Processes::apply`] starts them again (CFG-82).
    pub fn dead(&self, names: &[String]) -> usize {
        let supervisor = self.supervisor.clone();
        let list = crate::processes::wait(async move { supervisor.list().await });
        let external = |name: &str| crate::config::BuiltIn::by_name(name.split('#').next().unwrap_or(name)).is_none();
        let dead =
            list.iter().filter(|(name, status)| names.contains(name) && external(name) && status.phase.is_dead());
        dead.inspect(|(name, _)| {
            tracing::warn!("reload: tracked worker is dead, promoting to CHANGED for restart: {name}");
        })
        .count()
    }

    /// Stops everything within `grace`, as the engine stops.
    pub fn stop(&self, grace: Duration) {
        let supervisor = self.supervisor.clone();
        crate::processes::wait(async move { supervisor.stop_all(grace).await });
    }

    /// The supervisor.
    pub fn supervisor(&self) -> &Supervisor {
        &self.supervisor
    }

    /// What all processes share.
    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    fn entry(&self, worker: &Worker) -> Entry {
        if let WorkerKind::BuiltIn(_, WorkerSettings::Exec(settings)) = &worker.kind {
            return exec::entry(&worker.id, settings, &self.context);
        }
        let shape = (&worker.image, &worker.worker_path, worker.config.to_string(), worker.watch, worker.restart);
        let (name, fingerprint) = (worker.id.clone(), format!("{shape:?}"));
        let held = self.context.place.stopped(&name).exists();
        let (worker, context) = (Arc::new(worker.clone()), self.context.clone());
        let task: Task = Arc::new(move |control| Box::pin(run::run(worker.clone(), context.clone(), control)));
        Entry { name, fingerprint, task, held, revives: true }
    }
}

/// Whether a worker is a process, or commands.
pub fn is_process(worker: &Worker) -> bool {
    match &worker.kind {
        WorkerKind::BuiltIn(_, settings) => matches!(settings, WorkerSettings::Exec(_)),
        WorkerKind::Custom(_) => false,
        WorkerKind::Local | WorkerKind::Image | WorkerKind::Installed => true,
    }
}

/// Refuses what can never run here, at boot and at a reload (MW-1).
pub fn check(config: &Config) -> Result<(), String> {
    match config.workers.iter().find(|worker| worker.kind == WorkerKind::Image) {
        Some(worker) if plan::container_runtime().is_none() => Err(plan::no_runtime(&worker.id)),
        _ => Ok(()),
    }
}
