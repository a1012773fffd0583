//! The task of one managed worker: install, start, watch, start again.
//!
//! ```text
//! plan ─► wait for dependencies ─► install ─► run ─┬─ exit 0 ──► finished ─┐
//!   ▲        (first time)            │             ├─ failure ─► back-off ─┤
//!   │                                ▼             ├─ change ──────────────┤
//!   └──────────── change or order ─ failed         └─ order ───────────────┴─► plan, or the end
//! ```

use super::plan::{self, DEPENDENCY_FILES, Install, Plan};
use super::{Context, place};
use crate::config::{Worker, WorkerKind};
use crate::processes::backoff::Backoff;
use crate::processes::output::{self, RotatingFile, Sink};
use crate::processes::session::{Launch, Session, members};
use crate::processes::supervisor::{Control, Order, Phase};
use crate::processes::watch::{Root, Watch};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long a worker may take to end (MW-28), unless the engine stops.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// Quiet after a change of a source (MW-32).
const QUIET: Duration = Duration::from_millis(500);
/// Longest wait for that quiet.
const LONGEST: Duration = Duration::from_secs(5);
/// Limit for the install step (MW-25).
const INSTALL_MAX: Duration = Duration::from_secs(15 * 60);
/// Longest wait for what a worker depends on (MW-31).
const DEPENDENCIES_MAX: Duration = Duration::from_secs(30);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// Runs a worker until it is told to stop.
pub async fn run(worker: Arc<Worker>, context: Arc<Context>, control: Control) {
    let mut runner = Runner { worker, context, control, watch: None, backoff: Backoff::default(), truncate: true };
    runner.start_watching();
    let mut waited = false;
    loop {
        if runner.once(&mut waited).await == Next::Stop {
            return;
        }
    }
}

struct Runner {
    worker: Arc<Worker>,
    context: Arc<Context>,
    control: Control,
    watch: Option<(Watch, PathBuf)>,
    backoff: Backoff,
    /// The logs start over with the next start.
    truncate: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Again,
    Stop,
}

/// Why a running process is no longer waited for.
enum Ended {
    Exit(std::io::Result<ExitStatus>),
    Changed,
    Order(Order),
}

// === impl Runner ===

impl Runner {
    fn start_watching(&mut self) {
        if self.worker.kind != WorkerKind::Local || self.worker.watch == crate::config::Watch::Never {
            return;
        }
        let path = self.worker.worker_path.as_deref().unwrap_or_default();
        let Ok(project) = std::path::absolute(path) else { return };
        let root = Root { path: project.clone(), recursive: true };
        match Watch::start(vec![root], plan::has_sources) {
            Ok(watch) => self.watch = Some((watch, project)),
            Err(error) => tracing::warn!("worker '{}': cannot watch its sources: {error}", self.worker.id),
        }
    }

    /// One start, from the plan to the end of the process and whatever follows it.
    async fn once(&mut self, waited: &mut bool) -> Next {
        let plan = match plan::plan(&self.worker, &self.context) {
            Ok(plan) => plan,
            Err(reason) => return self.failed(reason).await,
        };
        for remark in plan.remarks.iter().filter(|_| self.truncate) {
            tracing::warn!("worker '{}': {remark}", self.worker.id);
        }
        if !std::mem::replace(waited, true)
            && let Some(next) = self.wait_for(&plan.dependencies).await
        {
            return next;
        }
        if let Some(install) = &plan.install {
            match self.install(install).await {
                Ok(None) => {}
                Ok(Some(next)) => return next,
                Err(reason) => return self.failed(reason).await,
            }
        }
        let next = self.serve(&plan).await;
        if let Some(path) = &plan.config_file {
            let _ = std::fs::remove_file(path);
        }
        next
    }

    /// Waits for workers of the same file this one depends on. `Some` = something else is to be done.
    async fn wait_for(&mut self, names: &[String]) -> Option<Next> {
        let deadline = Instant::now() + DEPENDENCIES_MAX;
        let mut missing: Vec<&String> = names.iter().filter(|name| self.context.is_managed(name)).collect();
        while !missing.is_empty() {
            if let Some(connected) = self.context.connected().await {
                missing.retain(|name| !connected.iter().any(|worker| worker.name.as_deref() == Some(name.as_str())));
            }
            if missing.is_empty() {
                return None;
            }
            if Instant::now() >= deadline {
                tracing::warn!("worker '{}': starts without {missing:?}, which it depends on", self.worker.id);
                return None;
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                order = self.control.order() => return Some(next_after(order)),
            }
        }
        None
    }

    /// Installs if anything that matters has changed. `Ok(Some)` = it was interrupted.
    async fn install(&mut self, install: &Install) -> Result<Option<Next>, String> {
        let marker = self.context.place.prepared(&self.worker.id);
        let installed = std::fs::read_to_string(&marker).unwrap_or_default();
        if installed.trim() == install.hash() {
            return Ok(None);
        }
        let managed = self.context.place.managed(&self.worker.id);
        std::fs::create_dir_all(&managed).map_err(|error| format!("cannot create '{}': {error}", managed.display()))?;
        let started = Instant::now();
        tracing::info!("worker '{}': installing", self.worker.id);
        let mut session = self.start(&install.launch, true).map_err(|error| format!("install: {error}"))?;
        self.control.phase(Phase::Installing, Some(session.pid()), None);
        let ended = tokio::select! {
            status = session.wait() => Ended::Exit(status),
            () = tokio::time::sleep(INSTALL_MAX) => {
                session.stop(Duration::from_secs(1)).await;
                return Err(format!("install: not done after {} minutes", INSTALL_MAX.as_secs() / 60));
            }
            order = self.control.order() => Ended::Order(order),
        };
        match ended {
            Ended::Order(order) => {
                session.stop(grace_of(order)).await;
                Ok(Some(next_after(order)))
            }
            Ended::Exit(Ok(status)) if status.success() => {
                session.stop(Duration::from_secs(1)).await;
                // Lock files may have been written meanwhile: the hash is of what there is now.
                std::fs::write(&marker, install.hash())
                    .map_err(|error| format!("cannot write '{}': {error}", marker.display()))?;
                tracing::info!("worker '{}': installed in {:.1} s", self.worker.id, started.elapsed().as_secs_f32());
                Ok(None)
            }
            Ended::Exit(Ok(status)) => {
                session.stop(Duration::from_secs(1)).await;
                let log = self.context.place.logs(&self.worker.id).join("stderr.log");
                Err(format!("install failed ({status}); see {}", log.display()))
            }
            Ended::Exit(Err(error)) => Err(format!("install: {error}")),
            Ended::Changed => Ok(None),
        }
    }

    /// Starts the process and stays with it.
    async fn serve(&mut self, plan: &Plan) -> Next {
        let mut session = match self.start(&plan.launch, false) {
            Ok(session) => session,
            Err(error) => return self.failed(format!("cannot start: {error}")).await,
        };
        let (pid, started) = (session.pid(), Instant::now());
        let pid_file = self.context.place.pid_file(&self.context.project, &self.worker.id);
        if let Err(error) = place::write_pid(&pid_file, pid) {
            tracing::warn!("worker '{}': cannot write '{}': {error}", self.worker.id, pid_file.display());
        }
        tracing::info!("worker '{}': started (pid {pid})", self.worker.id);
        self.control.phase(Phase::Running, Some(pid), None);
        let ended = loop {
            let watch = self.watch.as_mut().filter(|_| plan.restarts_on_change);
            let ended = tokio::select! {
                status = session.wait() => Ended::Exit(status),
                paths = changed(watch) => {
                    if !self.matters(&paths, plan) {
                        continue;
                    }
                    Ended::Changed
                }
                order = self.control.order() => Ended::Order(order),
            };
            break ended;
        };
        let _ = std::fs::remove_file(&pid_file);
        match ended {
            Ended::Changed => {
                tracing::info!("worker '{}': its sources have changed, starting again", self.worker.id);
                self.end(session, STOP_GRACE).await;
                self.backoff.reset();
                self.truncate = true;
                Next::Again
            }
            Ended::Order(order) => {
                self.end(session, grace_of(order)).await;
                next_after(order)
            }
            Ended::Exit(status) => {
                self.end(session, Duration::from_secs(2)).await;
                self.after_exit(status, started.elapsed()).await
            }
        }
    }

    async fn after_exit(&mut self, status: std::io::Result<ExitStatus>, uptime: Duration) -> Next {
        let (well, shown) = match status {
            Ok(status) => (status.success(), status.to_string()),
            Err(error) => (false, error.to_string()),
        };
        if well && !plan::restarts_when_finished(&self.worker) {
            tracing::info!("worker '{}': finished", self.worker.id);
            self.control.phase(Phase::Finished, None, None);
            return self.rest(None).await;
        }
        let wait = self.backoff.ended(uptime);
        let phase = if self.backoff.has_failed() { Phase::Failed } else { Phase::Waiting };
        tracing::warn!("worker '{}': ended ({shown}), starting again in {} s", self.worker.id, wait.as_secs());
        self.control.phase(phase, None, Some(format!("ended: {shown}")));
        self.rest(Some(wait)).await
    }

    /// It can't be started now. A change or an order makes another try worth while.
    async fn failed(&mut self, reason: String) -> Next {
        tracing::error!("worker '{}': {reason}", self.worker.id);
        self.control.phase(Phase::Failed, None, Some(reason));
        self.rest(None).await
    }

    /// Waits for a reason to start again.
    async fn rest(&mut self, wait: Option<Duration>) -> Next {
        if let Some((watch, _)) = &mut self.watch {
            watch.forget();
        }
        let timer = async {
            match wait {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            }
        };
        let watch = self.watch.as_mut();
        tokio::select! {
            () = timer => Next::Again,
            _ = changed(watch) => {
                self.backoff.reset();
                self.truncate = true;
                Next::Again
            }
            order = self.control.order() => {
                self.truncate = true;
                next_after(order)
            }
        }
    }

    /// A lock file that the install step itself has written is no reason to start again.
    fn matters(&self, paths: &[PathBuf], plan: &Plan) -> bool {
        let is_dependency_file = |path: &PathBuf| {
            path.file_name().and_then(|name| name.to_str()).is_some_and(|name| DEPENDENCY_FILES.contains(&name))
        };
        if !paths.iter().all(is_dependency_file) {
            return true;
        }
        let marker = std::fs::read_to_string(self.context.place.prepared(&self.worker.id)).unwrap_or_default();
        plan.install.as_ref().is_none_or(|install| install.hash() != marker.trim())
    }

    fn start(&mut self, launch: &Launch, installs: bool) -> Result<Session, String> {
        let logs = self.context.place.logs(&self.worker.id);
        let open = |name: &str, fresh: bool| {
            let path = logs.join(name);
            RotatingFile::open(&path, fresh).map_err(|error| format!("cannot write '{}': {error}", path.display()))
        };
        let fresh = std::mem::take(&mut self.truncate);
        let stderr = open("stderr.log", fresh)?;
        // What installing prints is not the worker's output.
        let stdout = open(if installs { "stderr.log" } else { "stdout.log" }, fresh && !installs)?;
        if fresh && installs {
            open("stdout.log", true)?;
        }
        let program = launch.command.first().map(|program| program.to_string_lossy().into_owned()).unwrap_or_default();
        let mut session = Session::start(launch).map_err(|error| format!("'{program}': {error}"))?;
        if let Some((out, err)) = session.output() {
            let id = &self.worker.id;
            crate::processes::spawn(output::copy(out, Sink::File(stdout, id.clone())));
            crate::processes::spawn(output::copy(err, Sink::File(stderr, id.clone())));
        }
        Ok(session)
    }

    async fn end(&self, session: Session, grace: Duration) {
        let alive = !members(session.pid()).is_empty();
        if !session.stop(grace).await && alive {
            let id = &self.worker.id;
            tracing::warn!("worker '{id}': did not stop within {} ms and was killed", grace.as_millis());
        }
    }
}

fn grace_of(order: Order) -> Duration {
    match order {
        Order::Stop(Some(grace)) => grace.min(STOP_GRACE),
        Order::Stop(None) | Order::Restart => STOP_GRACE,
    }
}

fn next_after(order: Order) -> Next {
    match order {
        Order::Stop(_) => Next::Stop,
        Order::Restart => Next::Again,
    }
}

async fn changed(watch: Option<&mut (Watch, PathBuf)>) -> Vec<PathBuf> {
    match watch {
        Some((watch, project)) => {
            let project = project.clone();
            watch.changed(&move |path: &Path| plan::is_source(path, &project), QUIET, LONGEST).await
        }
        None => std::future::pending().await,
    }
}
