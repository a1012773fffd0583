//! `iii-state`: keyed values shared by all workers, with triggers on change.
//!
//! A scope has one owner shard, so what is done to a key happens in the order it arrives, and a scope is listed without
//! asking around; `state::list_groups` alone asks every shard. Values are kept as the texts they came as.
//!
//! [`worker`] is the instance of a shard, [`store`] what it holds, [`request`] what callers may ask, [`journal`] the way to
//! disk, [`remote`] the way to Redis.

mod changes;
mod durable;
mod import;
mod journal;
mod remote;
mod request;
mod store;
#[cfg(test)]
mod tests;
mod triggers;
mod worker;

use crate::config::settings::{StateAdapter, StateSettings, StoreMethod};
use crate::workers::redis::Link;
use durable::Start;
use iii_shards::builtin::{Definition, Factory, Function, Home, TriggerType};
use journal::Journal;
use remote::Remote;
use request::Function as StateFunction;
use std::sync::Arc;
use worker::State;

const REQUEST_SET: &str = r#"{"$schema":"http://json-schema.org/draft-07/schema#","title":"StateSetInput","type":"object","required":["key","scope","value"],"properties":{"scope":{"type":"string"},"key":{"type":"string"},"value":true}}"#;
const REQUEST_NAME: &str = r#"{"$schema":"http://json-schema.org/draft-07/schema#","title":"StateKey","type":"object","required":["key","scope"],"properties":{"scope":{"type":"string"},"key":{"type":"string"}}}"#;
const REQUEST_UPDATE: &str = r#"{"$schema":"http://json-schema.org/draft-07/schema#","title":"StateUpdateInput","type":"object","required":["key","ops","scope"],"properties":{"scope":{"type":"string"},"key":{"type":"string"},"ops":{"type":"array","items":{"type":"object","required":["type"],"properties":{"type":{"enum":["set","merge","increment","decrement","append","remove"]},"path":{"anyOf":[{"type":"string"},{"type":"array","items":{"type":"string"}},{"type":"null"}]},"value":true,"by":{"type":"number"}}}}}}"#;
const REQUEST_LIST: &str = r#"{"$schema":"http://json-schema.org/draft-07/schema#","title":"StateListInput","type":"object","required":["scope"],"properties":{"scope":{"type":"string"}}}"#;
const REQUEST_LIST_GROUPS: &str =
    r#"{"$schema":"http://json-schema.org/draft-07/schema#","title":"StateListGroupsInput","type":"object"}"#;
const RESPONSE_SET: &str = r#"{"$schema":"http://json-schema.org/draft-07/schema#","title":"StateSetResult","type":"object","required":["new_value"],"properties":{"old_value":true,"new_value":true}}"#;
const RESPONSE_UPDATE: &str = r#"{"$schema":"http://json-schema.org/draft-07/schema#","title":"StateUpdateResult","type":"object","required":["new_value"],"properties":{"old_value":true,"new_value":true,"errors":{"type":"array","items":{"type":"object","required":["code","message","op_index"],"properties":{"op_index":{"type":"integer","minimum":0},"code":{"type":"string"},"message":{"type":"string"},"doc_url":{"type":["string","null"]}}}}}}"#;
const RESPONSE_LIST_GROUPS: &str = r#"{"$schema":"http://json-schema.org/draft-07/schema#","title":"StateListGroupsResult","type":"object","required":["groups"],"properties":{"groups":{"type":"array","items":{"type":"string"}}}}"#;
const TRIGGER_CONFIG: &str = r#"{"$schema":"http://json-schema.org/draft-07/schema#","title":"StateTriggerConfig","type":"object","properties":{"scope":{"type":["string","null"]},"key":{"type":["string","null"]},"condition_function_id":{"type":["string","null"]}}}"#;
const TRIGGER_CALL: &str = r#"{"$schema":"http://json-schema.org/draft-07/schema#","title":"StateCallRequest","type":"object","required":["event_type","key","new_value","old_value","scope","type"],"properties":{"type":{"const":"state"},"event_type":{"enum":["state:created","state:updated","state:deleted"]},"scope":{"type":"string"},"key":{"type":"string"},"old_value":true,"new_value":true}}"#;

/// The worker, as configured. `Err` = the adapter can't be used.
pub fn definition(settings: &StateSettings) -> Result<Definition, String> {
    Ok(Definition {
        name: "iii-state".into(),
        description: "Keyed values shared by all workers, with triggers on change.".into(),
        functions: StateFunction::ALL.into_iter().map(function).collect(),
        trigger_types: vec![trigger_type()],
        listeners: Vec::new(),
        factory: factory(settings.clone())?,
    })
}

fn factory(settings: StateSettings) -> Result<Factory, String> {
    match &settings.adapter {
        StateAdapter::Kv(kv) if kv.store_method == StoreMethod::FileBased => {
            let start = Start::open(kv)?;
            Ok(Arc::new(move |host| {
                let journal = Journal::new(start.disk.clone(), host.mailbox());
                Box::new(State::durable(&settings, journal, start.take(host)))
            }))
        }
        StateAdapter::Kv(_) => {
            tracing::warn!("iii-state keeps its values in memory: they are lost when the engine stops");
            Ok(Arc::new(move |_| Box::new(State::new(&settings))))
        }
        StateAdapter::Redis(redis) => {
            let link = Link::connect(&redis.redis_url)?;
            Ok(Arc::new(move |host| Box::new(State::remote(&settings, Remote::new(link.clone(), host.mailbox())))))
        }
        StateAdapter::Bridge(_) => Err("the adapter 'bridge' is not supported by this version".to_owned()),
    }
}

fn function(function: StateFunction) -> Function {
    let (description, home, request, response) = match function {
        StateFunction::Set => ("Set a value in state.", Home::Key(request::home), REQUEST_SET, Some(RESPONSE_SET)),
        StateFunction::Get => ("Get a value from state.", Home::Key(request::home), REQUEST_NAME, None),
        StateFunction::Delete => ("Delete a value from state.", Home::Key(request::home), REQUEST_NAME, None),
        StateFunction::Update => {
            ("Update a value in state atomically.", Home::Key(request::home), REQUEST_UPDATE, Some(RESPONSE_UPDATE))
        }
        StateFunction::List => ("List the values of a scope.", Home::Key(request::home), REQUEST_LIST, None),
        StateFunction::ListGroups => {
            ("List the scopes that have values.", Home::Caller, REQUEST_LIST_GROUPS, Some(RESPONSE_LIST_GROUPS))
        }
        StateFunction::OnConfigChange => {
            let description = "Internal: the configuration of iii-state has changed.";
            return Function::new(function.id(), description, Home::Caller);
        }
    };
    Function {
        request_format: Some(request.into()),
        response_format: response.map(Into::into),
        ..Function::new(function.id(), description, home)
    }
}

fn trigger_type() -> TriggerType {
    TriggerType {
        config_format: Some(TRIGGER_CONFIG.into()),
        call_format: Some(TRIGGER_CALL.into()),
        ..TriggerType::new("state", "Fires when a value in state is created, updated or deleted.", triggers::check)
    }
}
