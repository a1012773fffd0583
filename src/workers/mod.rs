//! The built-in workers: one folder each, and the list of those a configuration asks for.

pub mod cron;
pub mod number;
pub mod payload;
pub mod pubsub;
mod redis;
pub mod state;
pub mod update;

use crate::config::{Config, Worker, WorkerKind, settings::WorkerSettings};
use iii_shards::builtin::Definition;

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
        WorkerKind::BuiltIn(_, settings) => definition(settings),
        _ => Ok(None),
    }
}

fn definition(settings: &WorkerSettings) -> Result<Option<Definition>, String> {
    match settings {
        WorkerSettings::State(settings) => state::definition(settings).map(Some),
        WorkerSettings::Cron(settings) => cron::definition(settings).map(Some),
        WorkerSettings::PubSub(settings) => pubsub::definition(settings).map(Some),
        _ => Ok(None),
    }
}
