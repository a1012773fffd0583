//! Hot reload: the file has changed → parse, compare, validate everything, then commit only what is different.
//!
//! ```text
//! watch ─► parse ─► diff ─► validate (definitions made, addresses bound) ─► commit on every shard ─► success
//!                     └──────────── any failure ────────────► FATAL, the engine stops with status 1
//! ```
//!
//! Runs on a thread of its own. Until the commit the running engine is not touched, so a failure leaves nothing half
//! done (CFG-80 to CFG-92). What is not in the difference, and every connection, goes on serving.

mod listeners;
mod watch;

use crate::config::{BuiltIn, Config, Diff, Loaded, Surroundings, diff};
use crate::workers;
use crate::workers::managed::{self, Processes};
use iii_shards::builtin::{BuiltInId, Change, Definition};
use iii_shards::runtime::StopHandle;
use iii_shards::runtime::change::{ChangeHandle, SocketChanges};
use iii_shards::runtime::listen::{Bound, bind};
use iii_shards::settings::{ListenerSettings, Settings};
use std::path::Path;
use std::sync::{Arc, OnceLock};
pub use watch::{FileWatch, Nudge};

/// What a running engine was made of, and how to change it.
pub struct Reloader {
    /// The configuration in force.
    pub loaded: Loaded,
    /// Settings in force; listeners by number.
    pub settings: Settings,
    /// Entry of each built-in worker by number; `None` = removed.
    pub names: Vec<Option<String>>,
    /// Changes the engine.
    pub change: ChangeHandle,
    /// Processes it has started.
    pub processes: Processes,
    /// Stops it when a reload fails.
    pub stop: StopHandle,
    /// Where the reason goes.
    pub fatal: Arc<OnceLock<String>>,
}

/// Everything that was made for a change before it is committed.
#[derive(Default)]
struct Staged {
    definitions: Vec<(String, Option<Definition>)>,
    bound: Vec<Bound>,
}

impl Reloader {
    /// Starts to watch the configuration file. `None` = there is none.
    ///
    /// `watch` is to be older than the engine, so that no change between the two goes unseen.
    pub fn start(mut self, watch: Option<FileWatch>) -> Result<Option<Nudge>, String> {
        let (Some(path), Some(mut watch)) = (self.loaded.source.file.clone(), watch) else { return Ok(None) };
        let nudge = watch.nudge();
        let run = move || {
            while watch.wait() {
                if let Err(text) = self.reload(&path, watch.is_gone()) {
                    tracing::error!("reload: FATAL: {text}");
                    let _ = self.fatal.set(text);
                    tracing::warn!("Shutting down engine and destroying workers");
                    return self.stop.stop();
                }
            }
        };
        std::thread::Builder::new()
            .name("iii-reload".to_owned())
            .spawn(run)
            .map(|_| Some(nudge))
            .map_err(|error| format!("cannot start the reload thread: {error}"))
    }

    fn reload(&mut self, path: &Path, gone: bool) -> Result<(), String> {
        tracing::info!("reload: config changed, reloading from {}", path.display());
        if gone && self.loaded.config.workers.iter().any(|worker| worker.declared) {
            return Err(format!("reload: parse failed: Config file not found: {}", path.display()));
        }
        let new =
            self.loaded.reload(&Surroundings::process()).map_err(|error| format!("reload: parse failed: {error}"))?;
        let settings =
            new.settings(self.settings.busy_poll).map_err(|error| format!("reload: parse failed: {error}"))?;
        let diff = diff(&self.loaded.config, &new.config);
        tracing::info!("{}", diff.summary(self.processes.dead(&diff.unchanged)));
        if settings.shards != self.settings.shards {
            let (from, to) = (self.settings.shards, settings.shards);
            tracing::warn!("reload: shards changed from {from} to {to}, takes effect at the next start");
        }
        self.commit(new, settings, &diff)?;
        tracing::info!("reload: success");
        Ok(())
    }

    fn commit(&mut self, new: Loaded, settings: Settings, diff: &Diff) -> Result<(), String> {
        let mut staged = self.stage(&new.config, diff)?;
        let mut names = self.names.clone();
        let mut built_ins: Vec<(BuiltInId, Option<Arc<Definition>>)> = Vec::new();
        let known =
            |names: &[Option<String>], name: &str| names.iter().position(|known| known.as_deref() == Some(name));
        for name in diff.removed.iter().filter(|name| *name != workers::worker_ops::NAME) {
            if let Some(number) = known(&names, name) {
                if name == workers::http_functions::NAME {
                    // It is there without being listed, too.
                    staged.definitions.push((name.clone(), workers::default_http_functions().map(Some)?));
                    continue;
                }
                names[number] = None;
                built_ins.push((BuiltInId(number as u16), None));
            }
        }
        for (name, definition) in staged.definitions.drain(..) {
            match (known(&names, &name), definition) {
                (Some(number), Some(definition)) => {
                    built_ins.push((BuiltInId(number as u16), Some(Arc::new(definition))));
                }
                (Some(number), None) => {
                    names[number] = None;
                    built_ins.push((BuiltInId(number as u16), None));
                }
                (None, Some(definition)) => {
                    built_ins.push((BuiltInId(names.len() as u16), Some(Arc::new(definition))));
                    names.push(Some(name));
                }
                (None, None) => {}
            }
        }
        let merged = listeners::merge(&self.settings.listeners, self.wanted(&settings, &built_ins));
        for number in &merged.opened {
            let listener = &merged.listeners[usize::from(*number)];
            let failed = |error| format!("reload: validation failed for '{}': {error}", listener.name);
            staged.bound.extend(bind(std::slice::from_ref(listener)).map_err(failed)?);
        }
        let mut sockets = SocketChanges { opened: Vec::new(), closed: merged.closed };
        let mut lines = Vec::new();
        for (number, bound) in merged.opened.iter().zip(staged.bound) {
            let listener = &merged.listeners[usize::from(*number)];
            lines.extend(bound.addresses.iter().map(|address| listening(listener, &address.to_string())));
            sockets.opened.extend(bound.sockets.into_iter().map(|socket| (*number, socket)));
        }
        let settings = Settings {
            shards: self.settings.shards,
            trim_memory: self.settings.trim_memory,
            listeners: merged.listeners,
            ..settings
        };
        let change = Change { settings: Arc::new(settings.clone()), built_ins, ended_listeners: merged.ended };
        self.change.apply(change, sockets).map_err(|error| format!("reload: {error}"))?;
        for line in lines {
            tracing::info!("{line}");
        }
        self.processes.apply(&new.config);
        (self.loaded, self.settings, self.names) = (new, settings, names);
        Ok(())
    }

    /// Makes what is added or changed, in the order of the file. Nothing of it is seen before the commit (CFG-84).
    fn stage(&self, config: &Config, diff: &Diff) -> Result<Staged, String> {
        managed::check(config).map_err(|cause| format!("reload: validation failed: {cause}"))?;
        let mut staged = Staged::default();
        for worker in &config.workers {
            if !diff.added.contains(&worker.id) && !diff.changed.contains(&worker.id) {
                continue;
            }
            if worker.id == workers::worker_ops::NAME {
                continue;
            }
            let definition = workers::define(worker).map_err(|cause| {
                let text = format!("reload: validation failed for '{}': {cause}", worker.id);
                tracing::error!("{text}");
                text
            })?;
            staged.definitions.push((worker.id.clone(), definition));
        }
        // Made of all its entries: a change of one changes it.
        let is_http = |config: &Config, name: &String| {
            let entry = config.workers.iter().find(|worker| worker.id == *name);
            entry.is_some_and(|worker| worker.built_in() == Some(BuiltIn::Http))
        };
        let touched = diff.added.iter().chain(&diff.changed).any(|name| is_http(config, name));
        if touched || diff.removed.iter().any(|name| is_http(&self.loaded.config, name)) {
            let http =
                workers::http(config).map_err(|cause| format!("reload: validation failed for 'iii-http': {cause}"))?;
            staged.definitions.extend(http.map(|(name, definition)| (name, Some(definition))));
        }
        Ok(staged)
    }

    /// Listeners there are to be: those of worker managers, then those of built-in workers.
    fn wanted(&self, settings: &Settings, built_ins: &[(BuiltInId, Option<Arc<Definition>>)]) -> Vec<ListenerSettings> {
        let mut wanted = settings.listeners.clone();
        let touched = |id: BuiltInId| built_ins.iter().any(|(other, _)| *other == id);
        let unchanged =
            self.settings.listeners.iter().filter(|listener| {
                listener.built_in.is_some_and(|(id, _)| !touched(id)) && !listener.addresses.is_empty()
            });
        wanted.extend(unchanged.cloned());
        for (id, definition) in built_ins {
            for (number, listener) in definition.iter().flat_map(|definition| definition.listeners.iter().enumerate()) {
                wanted.push(ListenerSettings { built_in: Some((*id, number)), ..listener.clone() });
            }
        }
        wanted
    }
}

/// The line that tells where something listens (CFG-55).
pub fn listening(listener: &ListenerSettings, address: &str) -> String {
    match listener.built_in {
        None => format!("Engine listening on address: {address}"),
        Some(_) if listener.name.starts_with("iii-http") => format!("API listening on address: {address}"),
        Some(_) => format!("{} listening on address: {address}", listener.name),
    }
}
