//! `iii-worker-ops`: the `worker::*` functions, with which programs and the command line manage worker processes, and
//! the trigger type `worker`.
//!
//! All of it runs on shard 0 and is only a go-between: a call becomes a future on the process thread, whose outcome comes
//! back through the mailbox. The same instance answers the process thread's question who is connected.

mod operations;
mod schemas;

use crate::workers::managed::project::OpError;
use crate::workers::managed::{ConnectedQuery, Processes};
use iii_shards::builtin::{
    BuiltIn, Call, CallId, Definition, Failure, Function, Home, Host, Outcome, OutgoingCall, Token, TriggerType,
};
use iii_shards::control::triggers::Binding;
use iii_shards::ids::ShardId;
use serde_json::Value;
use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;

/// Its name. It is there without being listed.
pub const NAME: &str = "iii-worker-ops";

/// What happened to a worker, for triggers of type `worker` (MW-63).
#[derive(Debug)]
struct Happening(Value);

/// The end of an operation.
struct Done(CallId, Result<Value, OpError>);

/// The definition of the worker.
pub fn definition(processes: Processes) -> Definition {
    let functions = schemas::FUNCTIONS.iter().map(|function| Function {
        request_format: Some(function.request.into()),
        response_format: Some(function.response.into()),
        ..Function::new(function.id, function.description, Home::First)
    });
    Definition {
        name: NAME.into(),
        description: "Adds, starts, stops and shows worker processes.".into(),
        functions: functions.collect(),
        trigger_types: vec![TriggerType::new("worker", "Something happened to a managed worker.", |binding| {
            let config: Value = match &*binding.config {
                [] => Value::Null,
                bytes => serde_json::from_slice(bytes).map_err(|error| error.to_string())?,
            };
            filter_problem(&config).map_or(Ok(()), Err)
        })],
        listeners: Vec::new(),
        factory: Arc::new(move |host| {
            if host.shard() == ShardId(0) {
                processes.context().set_mailbox(host.mailbox());
            }
            Box::new(WorkerOps { processes: processes.clone(), questions: HashMap::new(), triggers: Vec::new() })
        }),
    }
}

/// What is wrong with the configuration of a trigger.
fn filter_problem(config: &Value) -> Option<String> {
    ["operations", "stages", "workers"].into_iter().find_map(|key| match &config[key] {
        Value::Null => None,
        Value::Array(words) if words.iter().all(Value::is_string) => None,
        _ => Some(format!("'{key}' must be a list of words")),
    })
}

struct WorkerOps {
    processes: Processes,
    /// Questions of the process thread that wait for `engine::workers::list`.
    questions: HashMap<Token, ConnectedQuery>,
    triggers: Vec<(Arc<Binding>, Value)>,
}

impl BuiltIn for WorkerOps {
    fn call(&mut self, call: Call, host: &mut dyn Host) {
        let Call { id, function, data, .. } = call;
        let (processes, mailbox) = (self.processes.clone(), host.mailbox());
        crate::processes::spawn(async move {
            let outcome = match serde_json::from_slice::<Value>(&data) {
                Ok(input) => operations::run(&processes, schemas::FUNCTIONS[function].id, input).await,
                Err(error) => Err(OpError::new("W105", error.to_string())),
            };
            mailbox.post(Box::new(Done(id, outcome)));
        });
    }

    fn answer(&mut self, token: Token, outcome: Outcome, _host: &mut dyn Host) {
        if let (Some(question), Ok(list)) = (self.questions.remove(&token), outcome) {
            let _ = question.send(list);
        }
    }

    fn message(&mut self, message: Box<dyn Any + Send>, host: &mut dyn Host) {
        let message = match message.downcast::<Done>() {
            Ok(done) => {
                let Done(call, outcome) = *done;
                let outcome = outcome.map(|value| value.to_string());
                let failure = |error: &OpError| Failure::new(error.code, error.body().to_string());
                match outcome {
                    Ok(text) => host.answer(call, Ok(text.as_bytes())),
                    Err(error) => host.answer(call, Err(&failure(&error))),
                }
                return;
            }
            Err(message) => message,
        };
        let message = match message.downcast::<Happening>() {
            Ok(happening) => return self.fire(&happening.0, host),
            Err(message) => message,
        };
        if let Ok(question) = message.downcast::<ConnectedQuery>() {
            let token = host.call(&OutgoingCall::new("default", "engine::workers::list", b"{}"));
            self.questions.insert(token, *question);
        }
    }

    fn trigger_added(&mut self, trigger: Arc<Binding>, host: &mut dyn Host) {
        if host.shard() == ShardId(0) {
            let config = serde_json::from_slice(&trigger.config).unwrap_or_default();
            self.triggers.push((trigger, config));
        }
    }

    fn trigger_removed(&mut self, trigger: &Binding, _host: &mut dyn Host) {
        self.triggers.retain(|(known, _)| known.id != trigger.id || known.home != trigger.home);
    }
}

// === impl WorkerOps ===

impl WorkerOps {
    fn fire(&self, happening: &Value, host: &mut dyn Host) {
        let data = happening.to_string();
        let wants = |config: &Value| {
            [("operations", "operation"), ("stages", "stage"), ("workers", "worker")].iter().all(|(filter, member)| {
                config[filter].as_array().is_none_or(|words| words.contains(&happening[member]))
            })
        };
        for (trigger, _) in self.triggers.iter().filter(|(_, config)| wants(config)) {
            let call = OutgoingCall {
                metadata: trigger.metadata.as_deref(),
                ..OutgoingCall::new(&trigger.namespace, &trigger.function_id, data.as_bytes())
            };
            host.call_void(&call);
        }
    }
}
