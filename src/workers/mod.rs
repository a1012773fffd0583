//! The built-in workers: one folder each, and the list of those a configuration asks for.

pub mod http_functions;
mod queue;

use crate::config::settings::{HttpFunctionsSettings, WorkerSettings};
use crate::config::{Config, Worker, WorkerKind};
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
    // Functions that are endpoints need nothing but being registered (HTTPF-2).
    if !definitions.iter().any(|(_, definition)| definition.name == http_functions::NAME) {
        definitions.push((http_functions::NAME.to_owned(), default_http_functions()?));
    }
    Ok(definitions)
}

/// What runs functions that are HTTP endpoints when the configuration says nothing of it.
pub fn default_http_functions() -> Result<Definition, String> {
    http_functions::definition(&HttpFunctionsSettings::default())
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
        WorkerSettings::Queue(settings) => queue::definition(settings).map(Some),
        WorkerSettings::HttpFunctions(settings) => http_functions::definition(settings).map(Some),
        _ => Ok(None),
    }
}
