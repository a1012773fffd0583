//! The built-in workers: one folder each, and the list of those a configuration asks for.

pub mod number;
pub mod payload;
pub mod stream;
pub mod update;

use crate::config::{Config, WorkerKind, settings::WorkerSettings};
use iii_shards::builtin::Definition;

/// The definitions of all configured built-in workers, in their order. `Err` is one line that says which worker
/// cannot be made and what to do.
pub fn definitions(config: &Config) -> Result<Vec<Definition>, String> {
    let mut definitions = Vec::new();
    for worker in &config.workers {
        if let WorkerKind::BuiltIn(_, settings) = &worker.kind {
            definitions.extend(definition(settings)?);
        }
    }
    Ok(definitions)
}

fn definition(settings: &WorkerSettings) -> Result<Option<Definition>, String> {
    // One arm per worker: `WorkerSettings::Queue(settings) => queue::definition(settings).map(Some)`.
    match settings {
        WorkerSettings::Stream(settings) => stream::definition(settings).map(Some),
        _ => Ok(None),
    }
}
