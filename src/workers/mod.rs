//! The built-in workers: one folder each, and the list of those a configuration asks for.

pub mod configuration;
pub mod number;
pub mod payload;
pub mod stream;
pub mod update;

use crate::config::settings::{StreamSettings, WorkerSettings};
use crate::config::{Config, WorkerKind, listeners};
use iii_shards::builtin::Definition;
use iii_shards::settings::ListenerSettings;

/// The definitions of all configured built-in workers, in their order. `Err` is one line that says which worker
/// cannot be made and what to do.
pub fn definitions(config: &Config) -> Result<Vec<Definition>, String> {
    let mut definitions = Vec::new();
    definitions.extend(stream(config)?);
    for worker in &config.workers {
        if let WorkerKind::BuiltIn(_, settings) = &worker.kind {
            definitions.extend(definition(settings)?);
        }
    }
    Ok(definitions)
}

/// All `iii-stream` entries are one worker with several listeners (decision 2).
fn stream(config: &Config) -> Result<Option<Definition>, String> {
    let mut entries: Vec<(StreamSettings, ListenerSettings)> = Vec::new();
    for worker in &config.workers {
        let WorkerKind::BuiltIn(_, WorkerSettings::Stream(settings)) = &worker.kind else { continue };
        entries.push((settings.clone(), listener(&worker.id, settings.host.as_deref(), settings.port)?));
    }
    if entries.is_empty() { Ok(None) } else { stream::definition(entries).map(Some) }
}

/// The listener of a worker that has one.
fn listener(worker: &str, host: Option<&str>, port: u16) -> Result<ListenerSettings, String> {
    let addresses = listeners::addresses(host, port)
        .map_err(|cause| format!("failed to create worker '{worker}': {cause}"))?;
    let first_address_suffices = addresses.len() > 1;
    Ok(ListenerSettings { name: worker.to_owned(), addresses, first_address_suffices, ..ListenerSettings::default() })
}

fn definition(settings: &WorkerSettings) -> Result<Option<Definition>, String> {
    // One arm per worker: `WorkerSettings::Queue(settings) => queue::definition(settings).map(Some)`.
    match settings {
        WorkerSettings::Configuration(settings) => configuration::definition(settings).map(Some),
        _ => Ok(None),
    }
}
