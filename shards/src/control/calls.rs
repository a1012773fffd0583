//! Calls of engine functions: inputs, answers, and the functions that are not about discovery.

use super::functions::EngineFunction;
use super::requests::blank;
use super::triggers::{Binding, Registered, Verdict};
use super::{Command, Control};
use crate::connection::worker::Generation;
use crate::ids::{ConnectionId, ShardId};
use crate::limits::TRIGGER_ANSWER_MS;
use crate::registry::DEFAULT_NAMESPACE;
use crate::session::Session;
use crate::settings::DiscoveryShape;
use crate::wire::encode::{Outcome, Value, write_object};
use crate::wire::json::{self, Scanner};
use crate::wire::{codes, trace};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::sync::Arc;
use uuid::Uuid;

/// A call of an engine function.
pub(super) struct Call {
    pub caller: ConnectionId,
    /// `None` = nobody waits for an answer.
    pub invocation_id: Option<Uuid>,
    pub function: EngineFunction,
    /// Shapes the caller understands.
    pub generation: Generation,
    /// Raw JSON input.
    pub data: Box<[u8]>,
    /// Baggage as sent.
    pub baggage: Option<Box<str>>,
    /// What the caller may do and see; `None` = everything (ENG-8).
    pub session: Option<Arc<Session>>,
}

/// A call that waits until every shard has said how busy its workers are.
pub(super) struct Query {
    call: Call,
    /// The answer, if it waits only for the owners to have heard what it says.
    ready: Option<Answer>,
    missing: usize,
    load: HashMap<ConnectionId, u32>,
}

/// A call of `engine::register_trigger` that waits for the provider.
pub(super) struct Waiting {
    pub call: Call,
    pub until_ms: u64,
}

/// Why a call fails.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub code: &'static str,
    pub message: String,
}

impl Refusal {
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Refusal { code, message: message.into() }
    }
}

/// Result of a call: raw JSON, or nothing at all.
pub(super) type Answer = Result<Option<Vec<u8>>, Refusal>;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct LogInput {
    message: Option<String>,
    service_name: Option<String>,
    trace_id: Option<String>,
    data: Option<serde_json::Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct BaggageInput {
    key: Option<String>,
    value: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TriggerInput {
    id: Option<String>,
    trigger_type: Option<String>,
    function_id: Option<String>,
    trigger_namespace: Option<String>,
}

impl Control {
    pub(super) fn handle_call(&mut self, mut call: Call) {
        use EngineFunction as F;
        let log = matches!(call.function, F::LogInfo | F::LogWarn | F::LogError | F::LogDebug | F::LogTrace);
        let acts = log || matches!(call.function, F::RegisterTrigger | F::UnregisterTrigger);
        // A question that nobody waits for need not be answered.
        if call.invocation_id.is_none() && !acts {
            return;
        }
        call.generation = self.shape(call.generation);
        let answer = match call.function {
            F::RegisterTrigger => return self.call_register_trigger(call),
            F::WorkersList | F::WorkersInfo => match self.check_workers_input(&call) {
                Ok(()) => return self.ask_shards(call, None),
                Err(refusal) => Err(refusal),
            },
            F::UnregisterTrigger => self.call_unregister_trigger(&call),
            F::FunctionsList | F::FunctionsInfo => {
                let answer = match call.function {
                    F::FunctionsList => self.list_functions(&call),
                    _ => self.describe_functions(&call),
                };
                // What is listed must be callable by whoever hears of it, so the owners have to catch up first.
                return self.ask_shards(call, Some(answer));
            }
            F::TriggersList => self.list_triggers(&call),
            F::TriggersInfo => self.describe_trigger_type(&call),
            F::TriggerTypesList => self.list_trigger_types(&call),
            F::RegisteredTriggersList => self.list_registered_triggers(&call),
            F::RegisteredTriggersInfo => self.describe_registered_trigger(&call),
            F::LogInfo | F::LogWarn | F::LogError | F::LogDebug | F::LogTrace => log_line(&call),
            F::BaggageGet | F::BaggageSet | F::BaggageGetAll => answer_baggage(&call),
            F::HealthCheck => Ok(Some(self.describe_health())),
            F::ChannelsCreate => Err(Refusal::new(codes::INVOCATION_ERROR, "channels are made by the caller's shard")),
            F::WorkersRegister => {
                // An announcement is about its connection, which only that connection's home shard can change.
                Err(Refusal::new(codes::INVOCATION_ERROR, "only a worker connection can announce itself"))
            }
        };
        self.conclude(&call, answer);
    }

    pub(super) fn conclude(&mut self, call: &Call, answer: Answer) {
        match answer {
            Ok(result) => self.answer(call, &Outcome::Result(result.as_deref())),
            Err(Refusal { code, message }) => {
                self.answer(call, &Outcome::Error { code, message: &message, stacktrace: None });
            }
        }
    }

    /// The shapes a caller gets (ENG-6).
    pub(super) fn shape(&self, generation: Generation) -> Generation {
        match self.settings.discovery_shape {
            DiscoveryShape::Auto => generation,
            DiscoveryShape::Legacy => Generation::Legacy,
            DiscoveryShape::Current => Generation::Current,
        }
    }

    // === questions that need every shard ===

    /// Asks every shard how busy its connections are. A shard that answers has also taken in every registration that
    /// control knew of when it asked: a home tells the owner before it tells control.
    fn ask_shards(&mut self, call: Call, ready: Option<Answer>) {
        self.query_count += 1;
        let number = self.query_count;
        let missing = self.settings.shards;
        self.queries.insert(number, Query { call, ready, missing, load: HashMap::new() });
        for peer in 0..self.settings.shards {
            self.command(ShardId(peer as u16), Command::CountLoad { query: number });
        }
    }

    pub(super) fn handle_load(&mut self, number: u64, load: Vec<(ConnectionId, u32)>) {
        let Some(query) = self.queries.get_mut(&number) else { return };
        query.load.extend(load);
        query.missing -= 1;
        if query.missing > 0 {
            return;
        }
        let Some(Query { call, ready, load, .. }) = self.queries.remove(&number) else { return };
        let answer = ready.unwrap_or_else(|| match call.function {
            EngineFunction::WorkersInfo => self.describe_worker(&call, &load),
            _ => self.list_workers(&call, &load),
        });
        self.conclude(&call, answer);
    }

    // === triggers that outlive their caller (ENG-47, ENG-48) ===

    fn call_register_trigger(&mut self, call: Call) {
        let binding = match self.dynamic_binding(&call) {
            Ok(binding) => binding,
            Err(refusal) => return self.conclude(&call, Err(refusal)),
        };
        let id = binding.id.clone();
        let registered = self.bind(binding);
        self.apply_effects();
        match registered {
            Ok(Registered::Asked) if call.invocation_id.is_some() => {
                let until_ms = self.now.ms + TRIGGER_ANSWER_MS;
                self.waiting.insert(id, Waiting { call, until_ms });
            }
            Ok(_) => self.conclude(&call, Ok(Some(id_object(&id)))),
            Err(message) => {
                self.conclude(&call, Err(Refusal::new(codes::TRIGGER_REGISTRATION_FAILED, message)));
            }
        }
    }

    fn dynamic_binding(&mut self, call: &Call) -> Result<Binding, Refusal> {
        let read: TriggerInput = input(call)?;
        let trigger_type = required(call, read.trigger_type, "trigger_type")?;
        let mut function_id = required(call, read.function_id, "function_id")?;
        if let Some(session) = &call.session {
            if !session.may_use_trigger_type(&trigger_type) {
                let message = format!("Trigger type '{trigger_type}' is not allowed for this session.");
                return Err(Refusal::new(codes::FORBIDDEN, message));
            }
            function_id = session.prefixed(&function_id);
        }
        if read.trigger_namespace.as_deref().is_some_and(|namespace| namespace.trim().is_empty()) {
            return Err(Refusal::new(codes::INVALID_NAMESPACE, blank("trigger_namespace")));
        }
        Ok(Binding {
            id: self.new_uuid().to_string().into(),
            trigger_type: trigger_type.into(),
            namespace: DEFAULT_NAMESPACE.into(),
            function_id: function_id.into(),
            config: member(&call.data, b"config").unwrap_or(b"null").into(),
            metadata: member(&call.data, b"metadata").filter(|raw| *raw != b"null").map(Box::from),
            trigger_namespace: read.trigger_namespace.map(Into::into),
            home: self.default_namespace.clone(),
            registrant: None,
        })
    }

    /// A provider has answered: whoever waits for that is told (PROTO-102).
    pub(super) fn settle_waiting(&mut self, id: &str, verdict: &Verdict) {
        if *verdict == Verdict::Stray {
            return;
        }
        let Some(Waiting { call, .. }) = self.waiting.remove(id) else { return };
        match verdict {
            Verdict::Refused(code, message) => {
                // The caller never learns the id, so nobody could remove the trigger later.
                let _ = self.triggers.remove(id);
                let message = format!("{code}: {message}");
                self.conclude(&call, Err(Refusal::new(codes::TRIGGER_REGISTRATION_FAILED, message)));
            }
            _ => self.conclude(&call, Ok(Some(id_object(id)))),
        }
    }

    /// A provider that says nothing is taken to agree (PROTO-102).
    pub(super) fn handle_silent_providers(&mut self) {
        let now_ms = self.now.ms;
        let silent: Vec<Arc<str>> =
            self.waiting.iter().filter(|(_, waiting)| waiting.until_ms <= now_ms).map(|(id, _)| id.clone()).collect();
        for id in silent {
            self.settle_waiting(&id, &Verdict::Accepted);
        }
    }

    fn call_unregister_trigger(&mut self, call: &Call) -> Answer {
        let read: TriggerInput = input(call)?;
        let id = required(call, read.id, "id")?;
        let outcome = self.triggers.remove(&id);
        self.apply_effects();
        let removed = outcome.map_err(|message| Refusal::new(codes::UNREGISTER_FAILED, message))?;
        if removed {
            tracing::info!("[UNREGISTERED] Trigger {id}");
        }
        let mut out = Vec::new();
        write_object(&mut out, &[("removed", Value::Bool(removed))]);
        Ok(Some(out))
    }

    // === health (ENG-50) ===

    fn describe_health(&self) -> Vec<u8> {
        let mut details = Vec::new();
        let members = [
            ("shards", Value::Number(self.settings.shards as u64)),
            ("connected_workers", Value::Number(self.workers.len() as u64)),
        ];
        write_object(&mut details, &members);
        let (mut disabled, mut engine, mut components) = (Vec::new(), Vec::new(), Vec::new());
        write_object(&mut disabled, &[("status", Value::Text("disabled")), ("details", Value::Null)]);
        write_object(&mut engine, &[("status", Value::Text("healthy")), ("details", Value::Raw(&details))]);
        let members = [
            ("otel", Value::Raw(&disabled)),
            ("metrics", Value::Raw(&disabled)),
            ("logs", Value::Raw(&disabled)),
            ("spans", Value::Raw(&disabled)),
            ("engine", Value::Raw(&engine)),
        ];
        write_object(&mut components, &members);
        let mut out = Vec::new();
        let members = [
            ("status", Value::Text("healthy")),
            ("timestamp", Value::Number(self.now.unix_ms)),
            ("version", Value::Text(env!("CARGO_PKG_VERSION"))),
            ("components", Value::Raw(&components)),
        ];
        write_object(&mut out, &members);
        out
    }
}

// === logging and baggage (ENG-51, ENG-52) ===

fn log_line(call: &Call) -> Answer {
    let read: LogInput = input(call)?;
    let mut line = one_line(&required(call, read.message, "message")?);
    if let Some(service) = read.service_name {
        line = format!("[{}] {line}", one_line(&service));
    }
    if let Some(data) = read.data {
        line = format!("{line} {data}");
    }
    if let Some(trace) = read.trace_id {
        line = format!("{line} trace={}", one_line(&trace));
    }
    match call.function {
        EngineFunction::LogError => tracing::error!("{line}"),
        EngineFunction::LogWarn => tracing::warn!("{line}"),
        EngineFunction::LogDebug => tracing::debug!("{line}"),
        EngineFunction::LogTrace => tracing::trace!("{line}"),
        _ => tracing::info!("{line}"),
    }
    Ok(None)
}

/// A worker's text must not be able to forge lines of the log.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn answer_baggage(call: &Call) -> Answer {
    let entries = trace::baggage_entries(call.baggage.as_deref().unwrap_or(""));
    let mut out = Vec::new();
    if call.function == EngineFunction::BaggageGetAll {
        let members: Vec<_> = entries.iter().map(|(key, value)| (&**key, Value::Text(value))).collect();
        let mut baggage = Vec::new();
        write_object(&mut baggage, &members);
        write_object(&mut out, &[("baggage", Value::Raw(&baggage))]);
        return Ok(Some(out));
    }
    let read: BaggageInput = input(call)?;
    let key = required(call, read.key, "key")?;
    if call.function == EngineFunction::BaggageSet {
        required(call, read.value, "value")?;
        let note = "Baggage set in new context. For propagation, use SDK-level baggage headers.";
        write_object(&mut out, &[("success", Value::Bool(true)), ("note", Value::Text(note))]);
    } else {
        let value = entries.iter().find(|(known, _)| *known == key).map(|(_, value)| value.as_str());
        write_object(&mut out, &[("value", Value::nullable(value))]);
    }
    Ok(Some(out))
}

// === inputs ===

/// Reads the input of an engine function; `null` counts as `{}` (ENG-4).
pub(super) fn input<T: DeserializeOwned + Default>(call: &Call) -> Result<T, Refusal> {
    if &*call.data == b"null" {
        return Ok(T::default());
    }
    if call.data.first() != Some(&b'{') {
        return Err(bad_input(call, "expected an object"));
    }
    json::decode(&call.data).map_err(|detail| bad_input(call, &detail))
}

/// A member that must be there.
pub(super) fn required(call: &Call, value: Option<String>, name: &str) -> Result<String, Refusal> {
    value.ok_or_else(|| bad_input(call, &format!("missing field `{name}`")))
}

pub(super) fn bad_input(call: &Call, detail: &str) -> Refusal {
    let message = format!("Failed to deserialize input for {}: {detail}", call.function.id());
    Refusal::new(codes::DESERIALIZATION_ERROR, message)
}

/// The raw text of a member of an object.
fn member<'a>(object: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let mut found = None;
    // The text is valid JSON already.
    let _ = Scanner::new(object).object(|scanner, key| {
        let value = scanner.value()?;
        if key.inner == name {
            found = Some(value);
        }
        Ok(())
    });
    found
}

fn id_object(id: &str) -> Vec<u8> {
    let mut out = Vec::new();
    write_object(&mut out, &[("id", Value::Text(id))]);
    out
}
