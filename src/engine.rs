//! A configured engine from start to stop: logging, listeners, signals.

use crate::config::Loaded;
use crate::config::{BuiltIn, WorkerKind};
use crate::logging;
use iii_shards::runtime::{Engine, StopHandle};
use iii_shards::settings::Settings;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// Exit status when a second signal cuts a stop short (decision 18).
const FORCED: i32 = 1;

/// Runs the engine until a signal stops it. Errors are one line that says what to do.
pub fn serve(settings: Settings, loaded: Loaded) -> Result<(), String> {
    let _logs = logging::start();
    refuse_what_would_be_ignored(&settings)?;
    for note in &loaded.notes {
        logging::note(note);
    }
    warn_of_missing_workers(&loaded);
    // Signals first: one that arrives while the engine starts must not kill it half-way.
    let signals = Signals::new([SIGTERM, SIGINT, SIGHUP]).map_err(|error| format!("cannot handle signals: {error}"))?;
    let settings = Settings { trim_memory: crate::memory::trim, ..settings };
    let built_ins = crate::workers::definitions(&loaded.config)?;
    let own_listeners = settings.listeners.len();
    let listener_names: Vec<String> =
        built_ins.iter().flat_map(|worker| &worker.listeners).map(|listener| listener.name.clone()).collect();
    let engine = Engine::start(settings, built_ins).map_err(|error| error.to_string())?;
    for address in engine.addresses().iter().take(own_listeners).flatten() {
        tracing::info!("Engine listening on address: {address}");
    }
    for (name, addresses) in listener_names.iter().zip(&engine.addresses()[own_listeners..]) {
        for address in addresses {
            match name.as_str() {
                "iii-http" => tracing::info!("API listening on address: {address}"),
                name => tracing::info!("{name} listening on address: {address}"),
            }
        }
    }
    tracing::info!("iii {} serving, shards: {}", crate::VERSION, engine.placement());
    if loaded.source.file.is_none() {
        tracing::info!("reload: no config file to watch (--use-default-config)");
    }
    obey_signals(signals, engine.stop_handle())?;
    engine.join();
    tracing::warn!("Engine shutdown complete");
    Ok(())
}

/// Access rules that are not enforced would leave a door open that its owner thinks is shut.
fn refuse_what_would_be_ignored(settings: &Settings) -> Result<(), String> {
    for listener in &settings.listeners {
        if listener.access_rules.is_some() || listener.middleware_function_id.is_some() {
            return Err(format!(
                "failed to start worker '{}': `rbac` and `middleware_function_id` are not supported by this version; \
                 remove them, or keep the listener on a private address without them",
                listener.name
            ));
        }
    }
    Ok(())
}

fn warn_of_missing_workers(loaded: &Loaded) {
    if loaded.source.file.is_none() {
        return;
    }
    let serving = [BuiltIn::WorkerManager, BuiltIn::EngineFunctions, BuiltIn::Telemetry, BuiltIn::Stream, BuiltIn::Configuration];
    for worker in loaded.config.workers.iter().filter(|worker| worker.declared) {
        let missing = match &worker.kind {
            WorkerKind::BuiltIn(built_in, _) => !serving.contains(built_in),
            _ => true,
        };
        if missing {
            tracing::warn!("worker '{}' is configured, but this version does not run it yet", worker.id);
        }
    }
}

/// Signals belong to the process, never to a listener (CFG-106).
fn obey_signals(mut signals: Signals, stop: StopHandle) -> Result<(), String> {
    let obey = move || {
        let mut stopping = false;
        for signal in signals.forever() {
            match signal {
                SIGHUP => tracing::warn!("ignored SIGHUP: this version does not reload its configuration"),
                _ if stopping => std::process::exit(FORCED),
                _ => {
                    stopping = true;
                    tracing::warn!("Shutting down engine and destroying workers");
                    stop.stop();
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
