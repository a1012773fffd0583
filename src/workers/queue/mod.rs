//! `iii-queue`: named queues, durable topics, dead letters (QUEUE rules).
//!
//! A queue or topic lives on the shard its name hashes to: calls about it go there, and only there are its messages
//! run. [`line::Line`] is what a message goes through, [`worker::Queue`] the instance, [`disk::Disk`] the store.

mod disk;
mod functions;
mod input;
mod job;
mod line;
mod tuning;
mod worker;

#[cfg(test)]
mod tests;

use crate::config::settings::{BuiltinQueueSettings, Fsync, QueueAdapter, QueueSettings, StoreMethod};
use crate::store::{Durability, Store};
use iii_shards::builtin::{Definition, Function, Home, TriggerType, key_of};
use iii_shards::ids::ShardId;
use std::path::Path;
use std::sync::Arc;

/// What reaches an instance from the storage thread and from the other instances.
enum Letter {
    /// Changes are safe, or were refused.
    Stored(u64, Result<(), String>),
    /// Messages of a line, from disk.
    Refilled { line: usize, records: Vec<(u64, Vec<u8>)>, end: bool },
    /// Messages of a line that an earlier run left.
    Counted { line: usize, seqs: Vec<u64>, until: u64, more: bool },
    /// Another instance gathers rows.
    Ask { from: ShardId, ticket: u64, what: functions::List },
    /// Rows for a list.
    Rows { ticket: u64, rows: Vec<serde_json::Value> },
}

/// What all instances are made from.
struct Setup {
    settings: QueueSettings,
    builtin: BuiltinQueueSettings,
    store: Option<(Store, Durability)>,
}

/// The worker. Opens the store, so that one that can't be used ends the start.
pub fn definition(settings: &QueueSettings) -> Result<Definition, String> {
    let builtin = match &settings.adapter {
        QueueAdapter::Builtin(builtin) => builtin.clone(),
        QueueAdapter::Redis(_) => return Err(unsupported("redis")),
        QueueAdapter::RabbitMq(_) => return Err(unsupported("rabbitmq")),
        QueueAdapter::Bridge(_) => return Err(unsupported("bridge")),
    };
    let store = match builtin.store_method {
        StoreMethod::FileBased => {
            let durability = match builtin.fsync {
                Fsync::Always => Durability::Full,
                Fsync::Interval => Durability::Relaxed,
            };
            let store = Store::open(Path::new(&builtin.file_path))?;
            Some((store, durability))
        }
        StoreMethod::InMemory | StoreMethod::Unknown(_) => {
            tracing::warn!("iii-queue keeps messages in memory: they are lost when the engine stops");
            None
        }
    };
    let setup = Arc::new(Setup { settings: settings.clone(), builtin, store });
    let check = |_: &iii_shards::control::triggers::Binding| Ok(());
    let trigger_type = |id: &'static str| {
        let mut kind = TriggerType::new(id, "Queue core module", check);
        kind.config_format = Some(CONFIG_FORMAT.into());
        kind
    };
    Ok(Definition {
        name: "iii-queue".into(),
        description: "Async job processing with named queues, retries, and dead-letter support.".into(),
        functions: functions(),
        trigger_types: vec![trigger_type("durable:subscriber"), trigger_type("queue")],
        listeners: Vec::new(),
        factory: Arc::new(move |host| Box::new(worker::Queue::new(setup.clone(), host))),
    })
}

fn unsupported(adapter: &str) -> String {
    format!(
        "this version has no '{adapter}' adapter for queues; use `name: builtin` \
         with `store_method: file_based`"
    )
}

/// QUEUE-4.
const CONFIG_FORMAT: &str = r#"{"$schema":"http://json-schema.org/draft-07/schema#","title":"QueueTriggerConfig","type":"object","properties":{"topic":{"type":"string"},"condition_function_id":{"type":["string","null"]},"queue_config":true},"required":["topic"]}"#;

/// The functions, in the order of [`input::Which`].
fn functions() -> Vec<Function> {
    let named = |id, description| Function::new(id, description, Home::Key(home_of));
    vec![
        named("engine::queue::enqueue", "Puts a message into a named queue").yielding(),
        named("iii::durable::publish", "Publishes a message to every durable subscriber of a topic"),
        named("enqueue", "Publishes a message to every durable subscriber of a topic").yielding(),
        named("iii::queue::redrive", "Puts all dead letters of a queue or topic back into it"),
        named("iii::queue::redrive_message", "Puts one dead letter back into its queue"),
        named("iii::queue::discard_message", "Removes one dead letter"),
        Function::new("engine::queue::list_topics", "Topics and queues", Home::First),
        named("engine::queue::topic_stats", "Depth, consumers and dead letters of a queue or topic"),
        Function::new("engine::queue::dlq_topics", "Queues and topics with their dead letters", Home::First),
        named("engine::queue::dlq_messages", "Dead letters of a queue or topic, newest first"),
        named("engine::queue::cancel", "Removes a message that is not running yet"),
        named("queue::define", "Creates or changes a named queue"),
        Function::new("iii-queue::on-config-change", "Reads the configuration again", Home::First),
    ]
}

/// Calls that name the same queue or topic meet on one shard.
fn home_of(data: &[u8]) -> u64 {
    input::name_of(data).map_or(0, |name| key_of(&name))
}
