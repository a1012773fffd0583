//! `iii-stream`: items in groups in streams, and browsers that watch them change.
//!
//! A group lives on one shard ([`home`]); a socket lives on the shard that accepted it ([`browsers`]). They speak by
//! [`letter::Letter`]: a subscription joins at its group's home, which sends each event once to every shard that has
//! subscriptions, as a ready frame that all of its sockets share.

mod answers;
mod browsers;
mod event;
mod gather;
mod home;
mod items;
mod letter;
mod limits;
mod name;
mod operation;
mod queue;
mod schemas;
mod subscriptions;
mod visit;
mod watch;
mod worker;
#[cfg(test)]
mod worker_tests;

use crate::config::settings::{StoreMethod, StreamAdapter, StreamSettings};
use iii_shards::builtin::{Definition, Factory, Function, Home, TriggerType};
use iii_shards::settings::ListenerSettings;
use std::sync::Arc;

/// Name of the worker, of its listener, and of its entry in the configuration registry.
const NAME: &str = "iii-stream";
/// Limit of a call of a provider, a handler or the auth function, in milliseconds.
const PROVIDER_TIMEOUT_MS: u64 = 30_000;

/// What the sockets of one listener need to know of its settings.
#[derive(Debug, Clone, Default)]
struct Options {
    auth_function: Option<String>,
    auth_fail_open: bool,
    allowed_origins: Vec<String>,
}

impl Options {
    fn of(settings: &StreamSettings) -> Options {
        Options {
            auth_function: settings.auth_function.clone().filter(|id| !id.is_empty()),
            auth_fail_open: settings.auth_fail_open,
            allowed_origins: settings.allowed_origins.clone(),
        }
    }
}

/// The worker with these settings. `Err` says what is wrong with them.
pub fn definition(settings: &StreamSettings, listener: ListenerSettings) -> Result<Definition, String> {
    match &settings.adapter {
        StreamAdapter::Kv(kv) if kv.store_method == StoreMethod::FileBased => {
            tracing::warn!("iii-stream: `file_based` is not supported by this version; items are lost at a restart");
        }
        StreamAdapter::Kv(_) => {}
        StreamAdapter::Redis(_) => return Err("adapter 'redis' is not supported by this version".to_owned()),
        StreamAdapter::Bridge(_) => return Err("adapter 'bridge' is not supported by this version".to_owned()),
    }
    let options = Options::of(settings);
    let factory: Factory = Arc::new(move |_| Box::new(worker::Worker::new([options.clone()].into())));
    Ok(Definition {
        name: NAME.into(),
        description: "Streams: items in groups, and browsers that watch them change".into(),
        functions: functions(),
        trigger_types: trigger_types(),
        listeners: vec![listener],
        factory,
    })
}

/// The functions; those of [`operation::Kind::ALL`] first.
fn functions() -> Vec<Function> {
    let group = Home::Key(name::home);
    let described = [
        ("stream::set", "Stores an item", group),
        ("stream::get", "Reads an item", group),
        ("stream::delete", "Removes an item", group),
        ("stream::list", "Reads the items of a group", group),
        ("stream::update", "Changes an item step by step, in one go", group),
        ("stream::send", "Tells the subscribers of a group something and stores nothing", group),
        ("stream::list_groups", "Names the groups of a stream", Home::Caller),
        ("stream::list_all", "Names all streams and their groups", Home::Caller),
        ("iii-stream::on-config-change", "Settings have changed", Home::Caller),
    ];
    let function = |(id, description, home)| {
        let (request, response) = schemas::of_function(id);
        Function {
            request_format: request.map(Into::into),
            response_format: response.map(Into::into),
            ..Function::new(id, description, home)
        }
    };
    described.map(function).into()
}

fn trigger_types() -> Vec<TriggerType> {
    let stream = TriggerType {
        config_format: Some(schemas::STREAM_CONFIG.into()),
        call_format: Some(schemas::STREAM_CALL.into()),
        ..TriggerType::new("stream", "An item of a stream has changed, or something was sent", watch::check_stream)
    };
    let visit = |id, description| TriggerType {
        config_format: Some(schemas::VISIT_CONFIG.into()),
        call_format: Some(schemas::VISIT_CALL.into()),
        ..TriggerType::new(id, description, watch::check_visit)
    };
    vec![
        stream,
        visit("stream:join", "A browser wants to subscribe; the function may refuse"),
        visit("stream:leave", "A browser no longer subscribes"),
    ]
}
