//! The built-in workers: one folder each, and the list of those a configuration asks for.

/// The JSON Schema (draft 07) of an object: its members and the names of those required, as compact JSON.
macro_rules! object_schema {
    ($members:literal, $required:literal) => {
        concat!(
            r#"{"$schema":"http://json-schema.org/draft-07/schema#","type":"object","properties":{"#,
            $members,
            r#"},"required":["#,
            $required,
            "]}"
        )
    };
}

pub mod configuration;
pub mod cron;
mod exec;
mod http;
pub mod http_functions;
pub mod managed;
pub mod number;
pub mod payload;
pub mod pubsub;
mod queue;
mod redis;
pub mod state;
pub mod stream;
pub mod update;
pub mod worker_ops;

use crate::config::settings::{HttpFunctionsSettings, HttpSettings, WorkerSettings};
use crate::config::{BuiltIn, Config, Worker, WorkerKind, listeners};
use iii_shards::builtin::Definition;
use iii_shards::settings::ListenerSettings;

/// The definitions of all configured built-in workers with the names of their entries, in their order. `Err` is one
/// line that says which worker cannot be made and what to do.
pub fn definitions(config: &Config, processes: &managed::Processes) -> Result<Vec<(String, Definition)>, String> {
    let mut definitions = vec![(worker_ops::NAME.to_owned(), worker_ops::definition(processes.clone()))];
    for worker in &config.workers {
        if let Some(definition) =
            define(worker).map_err(|cause| format!("failed to create worker '{}': {cause}", worker.id))?
        {
            definitions.push((worker.id.clone(), definition));
        }
    }
    definitions.extend(http(config).map_err(|cause| format!("failed to create worker 'iii-http': {cause}"))?);
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

/// The definition of one configured worker; `None` = it has no instances on the shards, or is made of several
/// entries. `Err` is the cause alone.
pub fn define(worker: &Worker) -> Result<Option<Definition>, String> {
    match &worker.kind {
        WorkerKind::BuiltIn(_, settings) => definition(&worker.id, settings),
        _ => Ok(None),
    }
}

/// Whether this version runs a worker: as instances, as a process, or as part of the engine itself.
pub fn runs(worker: &Worker) -> bool {
    match &worker.kind {
        WorkerKind::BuiltIn(built_in, _) => {
            !matches!(built_in, BuiltIn::Observability | BuiltIn::Bridge | BuiltIn::Sandbox)
        }
        _ => managed::is_process(worker),
    }
}

/// All entries of `iii-http` are one worker with several listeners, under the name of the first (decision 2).
pub fn http(config: &Config) -> Result<Option<(String, Definition)>, String> {
    let mut entries: Vec<(HttpSettings, ListenerSettings)> = Vec::new();
    for worker in &config.workers {
        if let WorkerKind::BuiltIn(_, WorkerSettings::Http(settings)) = &worker.kind {
            entries.push((settings.clone(), listener(&worker.id, settings.host.as_deref(), settings.port)?));
        }
    }
    let name = entries.first().map(|(_, listener)| listener.name.clone());
    Ok(name.map(|name| (name, http::definition(entries))))
}

/// The listener of a worker that has one.
fn listener(name: &str, host: Option<&str>, port: u16) -> Result<ListenerSettings, String> {
    let addresses = listeners::addresses(host, port)?;
    let first_address_suffices = addresses.len() > 1;
    Ok(ListenerSettings { name: name.to_owned(), addresses, first_address_suffices, ..ListenerSettings::default() })
}

fn definition(id: &str, settings: &WorkerSettings) -> Result<Option<Definition>, String> {
    match settings {
        WorkerSettings::Stream(settings) => {
            let listener = listener(id, settings.host.as_deref(), settings.port)?;
            stream::definition(settings, listener).map(Some)
        }
        WorkerSettings::Configuration(settings) => configuration::definition(settings).map(Some),
        WorkerSettings::State(settings) => state::definition(settings).map(Some),
        WorkerSettings::Cron(settings) => cron::definition(settings).map(Some),
        WorkerSettings::PubSub(settings) => pubsub::definition(settings).map(Some),
        WorkerSettings::Queue(settings) => queue::definition(settings).map(Some),
        WorkerSettings::HttpFunctions(settings) => http_functions::definition(settings).map(Some),
        _ => Ok(None),
    }
}
