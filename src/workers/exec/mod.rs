//! `iii-exec`: shell commands beside the engine, started again when files change.
//!
//! All commands but the last are waited for; the last one is "the process". A change of a watched file ends whatever
//! runs, politely at first, and the commands start from the top. The engine runs on whatever happens here.

mod globs;

use crate::config::settings::{ExecRestart, ExecSettings};
use crate::processes::backoff::Backoff;
use crate::processes::output::{self, Sink};
use crate::processes::session::{Launch, Session};
use crate::processes::supervisor::{Control, Entry, Order, Phase, Task};
use crate::processes::watch::Watch;
use crate::workers::managed::Context;
use globs::Globs;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Quiet after a change before the commands start again (EXEC-DB-1).
const QUIET: Duration = Duration::from_millis(300);
/// Longest wait for that quiet.
const LONGEST: Duration = Duration::from_secs(2);

/// The entry of one `iii-exec` worker.
pub fn entry(id: &str, settings: &ExecSettings, context: &Arc<Context>) -> Entry {
    let (id, settings, context) = (Arc::<str>::from(id), Arc::new(settings.clone()), context.clone());
    let fingerprint = serde_json::to_string(&*settings).unwrap_or_default();
    let name = id.to_string();
    let task: Task = Arc::new(move |control| {
        let (id, settings, context) = (id.clone(), settings.clone(), context.clone());
        let pipeline = Pipeline { id, settings, context, control, watch: None, background: Vec::new() };
        Box::pin(pipeline.run())
    });
    Entry { name, fingerprint, task, held: false, revives: false }
}

struct Pipeline {
    id: Arc<str>,
    settings: Arc<ExecSettings>,
    context: Arc<Context>,
    control: Control,
    watch: Option<(Watch, Globs)>,
    /// Commands that have ended and may have left something running.
    background: Vec<Session>,
}

/// Why a command is no longer waited for.
enum Ended {
    Exit(ExitStatus),
    Changed,
    Order(Order),
}

/// How a run of all commands has ended.
enum Run {
    /// By itself; nothing is left to do until something changes.
    Over(Option<ExitStatus>),
    Again,
    Stop,
}

// === impl Pipeline ===

impl Pipeline {
    async fn run(mut self) {
        self.start_watching();
        let mut backoff = Backoff::default();
        loop {
            let started = Instant::now();
            match self.run_once().await {
                Run::Stop => return,
                Run::Again => backoff.reset(),
                Run::Over(status) => {
                    let again = match (self.settings.restart, status) {
                        (_, None) | (ExecRestart::Never, _) => false,
                        (ExecRestart::OnFailure, Some(status)) => !status.success(),
                        (ExecRestart::Always, Some(_)) => true,
                    };
                    let wait = again.then(|| backoff.ended(started.elapsed()));
                    if let Some(wait) = wait {
                        tracing::info!("{}: starting again in {} s", self.id, wait.as_secs());
                    }
                    let phase = match status {
                        _ if wait.is_some() => Phase::Waiting,
                        Some(status) if status.success() => Phase::Finished,
                        _ if self.settings.exec.is_empty() => Phase::Finished,
                        _ => Phase::Failed,
                    };
                    self.control.phase(phase, None, None);
                    if !self.rest(wait).await {
                        return;
                    }
                }
            }
        }
    }

    fn start_watching(&mut self) {
        let patterns = self.settings.watch.clone().unwrap_or_default();
        if patterns.is_empty() {
            return;
        }
        let globs = Globs::new(&patterns);
        match Watch::start(globs.roots(), |_| true) {
            Ok(watch) => self.watch = Some((watch, globs)),
            Err(error) => tracing::warn!("{}: cannot watch files: {error}", self.id),
        }
    }

    /// Waits for a reason to run again, and ends what is left of the last run. `false` = stop.
    async fn rest(&mut self, wait: Option<Duration>) -> bool {
        let timer = async {
            match wait {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            }
        };
        let (again, grace) = tokio::select! {
            () = timer => (true, None),
            () = changed(&mut self.watch) => (true, None),
            order = self.control.order() => match order {
                Order::Restart => (true, None),
                Order::Stop(grace) => (false, grace),
            },
        };
        self.stop_background(self.grace(grace)).await;
        again
    }

    async fn run_once(&mut self) -> Run {
        let commands = self.settings.exec.clone();
        let last = commands.len().saturating_sub(1);
        for (index, command) in commands.iter().enumerate() {
            let mut session = match self.start(command) {
                Ok(session) => session,
                Err(error) => {
                    tracing::error!("{}: cannot start '{command}': {error}", self.id);
                    return Run::Over(None);
                }
            };
            self.control.phase(Phase::Running, Some(session.pid()), None);
            let ended = tokio::select! {
                status = session.wait() => match status {
                    Ok(status) => Ended::Exit(status),
                    Err(error) => {
                        tracing::error!("{}: cannot wait for '{command}': {error}", self.id);
                        return Run::Over(None);
                    }
                },
                () = changed(&mut self.watch) => Ended::Changed,
                order = self.control.order() => Ended::Order(order),
            };
            match ended {
                Ended::Changed | Ended::Order(Order::Restart) => {
                    if matches!(ended, Ended::Changed) {
                        tracing::info!("{}: files have changed, starting again", self.id);
                    }
                    self.stop(session, self.grace(None)).await;
                    return Run::Again;
                }
                Ended::Order(Order::Stop(grace)) => {
                    self.stop(session, self.grace(grace)).await;
                    return Run::Stop;
                }
                Ended::Exit(status) => {
                    self.background.push(session);
                    if index == last {
                        tracing::info!("{}: '{command}' ended: {status}", self.id);
                        return Run::Over(Some(status));
                    }
                    if !status.success() {
                        tracing::error!("{}: '{command}' failed ({status}); the rest is skipped", self.id);
                        return Run::Over(Some(status));
                    }
                }
            }
        }
        Run::Over(None)
    }

    fn start(&self, command: &str) -> std::io::Result<Session> {
        let mut launch = Launch::shell(command);
        launch.environment = self.context.exec_environment();
        launch.captured = self.settings.prefix_output;
        let mut session = Session::start(&launch)?;
        if let Some((stdout, stderr)) = session.output() {
            crate::processes::spawn(output::copy(stdout, Sink::Prefixed(self.id.to_string())));
            crate::processes::spawn(output::copy(stderr, Sink::Prefixed(self.id.to_string())));
        }
        Ok(session)
    }

    /// Ends the command that runs and what earlier ones have left behind, all at once.
    async fn stop(&mut self, session: Session, grace: Duration) {
        self.background.push(session);
        self.stop_background(grace).await;
    }

    async fn stop_background(&mut self, grace: Duration) {
        let stopping: Vec<_> =
            self.background.drain(..).map(|session| crate::processes::spawn(session.stop(grace))).collect();
        for stopped in stopping {
            if !stopped.await.unwrap_or(true) {
                tracing::warn!("{}: did not stop within {} ms and was killed", self.id, grace.as_millis());
            }
        }
    }

    /// A stop of the whole engine has its own limit (decision 18).
    fn grace(&self, limit: Option<Duration>) -> Duration {
        let kill_timeout = Duration::from_millis(self.settings.kill_timeout_ms);
        limit.map_or(kill_timeout, |limit| limit.min(kill_timeout))
    }
}

async fn changed(watch: &mut Option<(Watch, Globs)>) {
    match watch {
        Some((watch, globs)) => {
            let globs = globs.clone();
            watch.changed(&move |path: &Path| globs.matches(path), QUIET, LONGEST).await;
        }
        None => std::future::pending().await,
    }
}
