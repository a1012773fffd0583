//! The built-in workers: one folder each, and the list of those a configuration asks for.

pub mod configuration;
pub mod number;
pub mod payload;
pub mod stream;
pub mod update;

use crate::config::{Config, Worker, WorkerKind, listeners, settings::WorkerSettings};
use iii_shards::builtin::Definition;
use iii_shards::settings::ListenerSettings;

/// The definitions of all configured built-in workers with the names of their entries, in their order. `Err` is one
/// line that says which worker cannot be made and what to do.
pub fn definitions(config: &Config) -> Result<Vec<(String, Definition)>, String> {
    let mut definitions = Vec::new();
    for worker in &config.workers {
        if let Some(definition) =
            define(worker).map_err(|cause| format!("failed to create worker '{}': {cause}", worker.id))?
        {
            definitions.push((worker.id.clone(), definition));
        }
    }
    Ok(definitions)
}

/// The definition of one configured worker; `None` = it has no instances on the shards. `Err` is the cause alone.
pub fn define(worker: &Worker) -> Result<Option<Definition>, String> {
    match &worker.kind {
        WorkerKind::BuiltIn(_, settings) => definition(&worker.id, settings),
        _ => Ok(None),
    }
}

fn definition(id: &str, settings: &WorkerSettings) -> Result<Option<Definition>, String> {
    // One arm per worker: `WorkerSettings::Queue(settings) => queue::definition(settings).map(Some)`.
    match settings {
        WorkerSettings::Stream(settings) => {
            let listener = listener(id, settings.host.as_deref(), settings.port)?;
            stream::definition(settings, listener).map(Some)
        }
        WorkerSettings::Configuration(settings) => configuration::definition(settings).map(Some),
        _ => Ok(None),
    }
}

/// The listener of a worker that has one.
fn listener(worker: &str, host: Option<&str>, port: u16) -> Result<ListenerSettings, String> {
    let addresses = listeners::addresses(host, port)?;
    let first_address_suffices = addresses.len() > 1;
    Ok(ListenerSettings { name: worker.to_owned(), addresses, first_address_suffices, ..ListenerSettings::default() })
}
