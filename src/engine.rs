//! A configured engine from start to stop: logging, listeners, signals.

use crate::config::Loaded;
use crate::logging;
use crate::reload::{self, FileWatch, Nudge, Reloader};
use crate::workers::managed::Processes;
use iii_shards::runtime::{Engine, StopHandle};
use iii_shards::settings::Settings;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Exit status when a second signal cuts a stop short (decision 18).
const FORCED: i32 = 1;

/// Runs the engine until a signal stops it. Errors are one line that says what to do.
pub fn serve(settings: Settings, loaded: Loaded) -> Result<(), String> {
    let _logs = logging::start();
    for note in &loaded.notes {
        logging::note(note);
    }
    warn_of_missing_workers(&loaded);
    // Signals first: one that arrives while the engine starts must not kill it half-way.
    let signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(|error| format!("cannot handle signals: {error}"))?;
    let settings = Settings { trim_memory: crate::memory::trim, ..settings };
    let watch = loaded.source.file.as_deref().map(FileWatch::new);
    let processes = Processes::new(&loaded)?;
    let stop_grace = Duration::from_millis(loaded.config.top.stop_grace_ms);
    let (names, built_ins): (Vec<_>, Vec<_>) =
        crate::workers::definitions(&loaded.config, &processes)?.into_iter().unzip();
    let engine = Engine::start(settings, built_ins).map_err(|error| error.to_string())?;
    let settings = engine.settings().clone();
    for (listener, addresses) in settings.listeners.iter().zip(engine.addresses()) {
        for address in addresses {
            tracing::info!("{}", reload::listening(listener, &address.to_string()));
        }
    }
    tracing::info!("iii {} serving, shards: {}", crate::VERSION, engine.placement());
    let open =
        settings.listeners.iter().position(|listener| listener.built_in.is_none() && listener.access_rules.is_none());
    let address = engine.addresses().get(open.unwrap_or(0)).and_then(|bound| bound.first());
    processes.start(worker_url(address), &loaded.config);
    let fatal = Arc::new(OnceLock::new());
    let file = loaded.source.file.clone();
    let reloader = Reloader {
        loaded,
        settings,
        names: names.into_iter().map(Some).collect(),
        change: engine.change_handle(),
        stop: engine.stop_handle(),
        processes: processes.clone(),
        fatal: fatal.clone(),
    };
    let nudge = reloader.start(watch)?;
    match &file {
        Some(file) => tracing::info!("reload: watching {} for changes", file.display()),
        None => tracing::info!("reload: no config file to watch (--use-default-config)"),
    }
    let stop = Stop { engine: engine.stop_handle(), processes: processes.clone(), grace: stop_grace };
    obey_signals(signals, stop, nudge)?;
    engine.join();
    crate::store::close_all();
    // Asked to stop when the signal came; this waits for the rest.
    processes.stop(stop_grace);
    tracing::warn!("Engine shutdown complete");
    fatal.get().map_or(Ok(()), |text| Err(text.clone()))
}

/// All that is to stop.
struct Stop {
    engine: StopHandle,
    processes: Processes,
    grace: Duration,
}

/// Where processes of this machine reach the engine (MW-22).
fn worker_url(address: Option<&SocketAddr>) -> String {
    match address {
        Some(address) if address.ip().is_unspecified() || address.ip().is_loopback() && address.is_ipv4() => {
            format!("ws://127.0.0.1:{}", address.port())
        }
        Some(address) => format!("ws://{address}"),
        None => "ws://127.0.0.1:49134".to_owned(),
    }
}

fn warn_of_missing_workers(loaded: &Loaded) {
    if loaded.source.file.is_none() {
        return;
    }
    for worker in loaded.config.workers.iter().filter(|worker| worker.declared) {
        if !crate::workers::runs(worker) {
            tracing::warn!("worker '{}' is configured, but this version does not run it yet", worker.id);
        }
    }
}

/// Signals belong to the process, never to a listener (CFG-106).
fn obey_signals(mut signals: Signals, stop: Stop, nudge: Option<Nudge>) -> Result<(), String> {
    let obey = move || {
        let mut stopping = false;
        for signal in signals.forever() {
            match signal {
                SIGHUP => match &nudge {
                    Some(nudge) => nudge.reload(),
                    None => tracing::warn!("ignored SIGHUP: there is no config file to read again"),
                },
                _ if stopping => std::process::exit(FORCED),
                _ => {
                    stopping = true;
                    tracing::warn!("Shutting down engine and destroying workers");
                    let (supervisor, grace) = (stop.processes.supervisor().clone(), stop.grace);
                    crate::processes::spawn(async move { supervisor.stop_all(grace).await });
                    stop.engine.stop();
                }
            }
        }
    };
    std::thread::Builder::new()
        .name("iii-signals".to_owned())
        .spawn(obey)
        .map(drop)
        .map_err(|error| format!("cannot start the signal thread: {error}"))
}
