//! `configuration`: named values with schemas that change at run time, in files, and triggers that tell of it.

mod expand;
mod files;
mod registry;
mod schemas;
mod validate;
mod watch;
mod worker;
#[cfg(test)]
mod worker_tests;

use crate::config::settings::{ConfigurationAdapter, ConfigurationSettings};
use iii_shards::builtin::{Definition, Factory, Function, Home, TriggerType};
use std::path::PathBuf;
use std::sync::Arc;

/// The worker with these settings. `Err` says what is wrong with them.
pub fn definition(settings: &ConfigurationSettings) -> Result<Definition, String> {
    let directory = match &settings.adapter {
        ConfigurationAdapter::Fs(fs) => PathBuf::from(&fs.directory),
        ConfigurationAdapter::Bridge(_) => {
            return Err("adapter 'bridge' is not supported by this version".to_owned());
        }
    };
    let ttl_ms = settings.ttl_seconds.saturating_mul(1000);
    let factory: Factory = Arc::new(move |_| Box::new(worker::Worker::new(directory.clone(), ttl_ms)));
    let described = [
        ("configuration::register", "Registers an entry: its schema, and its first value"),
        ("configuration::set", "Sets the value of an entry"),
        ("configuration::get", "Reads the value of an entry"),
        ("configuration::list", "Lists all entries, without their values"),
        ("configuration::schema", "Reads the schema of an entry"),
        ("configuration::delete", "Removes an entry"),
    ];
    let function = |(id, description)| Function {
        request_format: schemas::of_function(id).map(Into::into),
        ..Function::new(id, description, Home::First)
    };
    Ok(Definition {
        name: "configuration".into(),
        description: "Settings that change at run time".into(),
        functions: described.map(function).into(),
        trigger_types: vec![TriggerType {
            config_format: Some(schemas::TRIGGER_CONFIG.into()),
            call_format: Some(schemas::TRIGGER_CALL.into()),
            ..TriggerType::new("configuration", "An entry of the configuration registry has changed", watch::check)
        }],
        listeners: Vec::new(),
        factory,
    })
}
