//! A bench for the control shard: reports go in, messages to workers, firings and answers come out.
//!
//! Time stands still unless a test moves it. Two data shards, so that firings have a choice of owner.

#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "no shard runs in a test's threads")]

mod calls;
mod discovery;
mod events;
mod triggers;

use super::report::{Command, Firing, FunctionDetails, Report};
use super::triggers::provider::{BuiltInTriggerType, Commands, TriggerProvider};
use super::triggers::{Binding, Triggers};
use super::{Announcement, Control};
use crate::connection::worker::Generation;
use crate::ids::{ConnectionId, ShardId};
use crate::registry::FunctionHasher;
use crate::settings::Settings;
use crate::shard::Now;
use crate::shard::mesh::{Batch, RingMessage};
use crate::wire::encode::Outcome;
use crate::wire::envelope::Envelope;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use uuid::Uuid;

pub const SHARDS: usize = 2;

/// A result, or code and message of an error. A call without a result gives `null`.
pub type Answer = Result<Value, (String, String)>;

pub struct Bench {
    pub control: Control,
    pub hasher: FunctionHasher,
    now_ms: u64,
    calls: u128,
    /// What each shard says to `CountLoad`.
    pub load: Vec<(ConnectionId, u32)>,
    sent: HashMap<ConnectionId, Vec<Value>>,
    fired: Vec<(ShardId, Firing)>,
    answers: HashMap<Uuid, Answer>,
}

impl Bench {
    pub fn new() -> Bench {
        Bench::with(Settings::default())
    }

    pub fn with(settings: Settings) -> Bench {
        let hasher = FunctionHasher::new(7, SHARDS);
        let settings = Arc::new(Settings { shards: SHARDS, ..settings });
        let now = Now { ms: 1_000, unix_ms: 1_700_000_000_000 };
        Bench {
            control: Control::new(settings, hasher.clone(), [1; 32], now),
            hasher,
            now_ms: 1_000,
            calls: 0,
            load: Vec::new(),
            sent: HashMap::new(),
            fired: Vec::new(),
            answers: HashMap::new(),
        }
    }

    pub fn report(&mut self, report: Report) {
        let mut batch = Batch::default();
        batch.messages.push(RingMessage::Report(Box::new(report)));
        self.control.handle_batch(&mut batch);
        self.collect();
    }

    /// Lets time pass, stopping at every deadline on the way.
    pub fn advance(&mut self, ms: u64) {
        let end_ms = self.now_ms + ms;
        while let Some(due_ms) = self.control.next_deadline_ms().filter(|due_ms| *due_ms <= end_ms) {
            self.set_time(due_ms.max(self.now_ms));
            self.control.handle_timers();
            self.collect();
        }
        self.set_time(end_ms);
    }

    fn set_time(&mut self, ms: u64) {
        self.now_ms = ms;
        self.control.set_time(Now { ms, unix_ms: 1_700_000_000_000 + ms });
    }

    fn collect(&mut self) {
        for shard in (0..SHARDS as u16).map(ShardId) {
            let batch = std::mem::take(self.control.outgoing(shard));
            for message in batch.messages {
                match message {
                    RingMessage::Result(result) => {
                        let answer = match result.outcome(&batch.bytes) {
                            Outcome::Result(None) => Ok(Value::Null),
                            Outcome::Result(Some(raw)) => Ok(serde_json::from_slice(raw).expect("results are JSON")),
                            Outcome::Error { code, message, .. } => Err((code.to_owned(), message.to_owned())),
                        };
                        assert!(self.answers.insert(result.invocation_id, answer).is_none(), "answered twice");
                    }
                    RingMessage::Command(command) => self.obey(shard, *command),
                    _ => panic!("control says only results and commands"),
                }
            }
        }
    }

    fn obey(&mut self, shard: ShardId, command: Command) {
        match command {
            Command::Send { connection, text } => {
                assert_eq!(connection.shard, shard);
                let frame = serde_json::from_slice(&text).expect("frames are JSON");
                self.sent.entry(connection).or_default().push(frame);
            }
            Command::Fire(firing) => self.fired.push((shard, *firing)),
            Command::CountLoad { query } => {
                let load = self.load.iter().filter(|(connection, _)| connection.shard == shard).copied().collect();
                self.report(Report::Load { query, load });
            }
            _ => {}
        }
    }

    // === workers ===

    /// A connection; even slots live on shard 0, odd ones on shard 1.
    pub fn connect(&mut self, slot: u32) -> ConnectionId {
        let connection = ConnectionId { shard: ShardId((slot % 2) as u16), slot, generation: 0 };
        self.report(Report::Connected {
            connection,
            worker_id: worker_id(slot),
            token: Uuid::from_u128(0x7000 + u128::from(slot)),
            peer: [127, 0, 0, 1].into(),
            unix_ms: u64::from(slot),
        });
        connection
    }

    pub fn announce(&mut self, connection: ConnectionId, said: &str) {
        let announcement = Announcement::parse(said.as_bytes()).expect("a fine announcement");
        let namespace = announcement.namespace.clone().unwrap_or_else(|| "default".to_owned()).into();
        let announcement = Box::new(announcement);
        self.report(Report::Announced { connection, namespace, exclusive: false, announcement });
        self.report(Report::Settled { connection });
    }

    /// A worker that has announced itself under a name.
    pub fn worker(&mut self, slot: u32, name: &str) -> ConnectionId {
        let connection = self.connect(slot);
        self.announce(connection, &format!(r#"{{"name":"{name}","version":"0.25.0","pid":{slot}}}"#));
        connection
    }

    pub fn function(&mut self, connection: ConnectionId, namespace: &str, id: &str) {
        self.detailed_function(connection, namespace, id, FunctionDetails::default());
    }

    pub fn detailed_function(&mut self, connection: ConnectionId, namespace: &str, id: &str, details: FunctionDetails) {
        let details = Some(Box::new(details));
        self.report(Report::Registered { connection, namespace: namespace.into(), id: id.into(), details });
    }

    pub fn message(&mut self, connection: ConnectionId, text: &str) {
        let kind = Envelope::parse(text.as_bytes()).expect("a message").kind;
        self.report(Report::Message { connection, kind, text: text.as_bytes().into() });
    }

    pub fn leave(&mut self, connection: ConnectionId) {
        self.report(Report::Gone { connection });
    }

    // === calls ===

    /// Calls an engine function and waits for the answer, which must come at once.
    pub fn call(&mut self, caller: ConnectionId, function: &str, data: &str) -> Answer {
        self.call_as(caller, Generation::Current, function, data)
    }

    pub fn call_as(&mut self, caller: ConnectionId, generation: Generation, function: &str, data: &str) -> Answer {
        let call = self.start_call(caller, generation, function, data, None);
        self.answer_of(call).unwrap_or_else(|| panic!("{function} was not answered"))
    }

    pub fn start_call(
        &mut self,
        caller: ConnectionId,
        generation: Generation,
        function: &str,
        data: &str,
        baggage: Option<&str>,
    ) -> Uuid {
        self.calls += 1;
        let invocation_id = Uuid::from_u128(self.calls);
        self.report(Report::Call {
            caller,
            invocation_id: Some(invocation_id),
            function: super::EngineFunction::of_id(function).expect("an engine function"),
            generation,
            data: data.as_bytes().into(),
            baggage: baggage.map(Into::into),
            session: None,
        });
        invocation_id
    }

    pub fn answer_of(&mut self, call: Uuid) -> Option<Answer> {
        self.answers.remove(&call)
    }

    // === what came out ===

    /// Frames for a connection since the last look.
    pub fn sent(&mut self, connection: ConnectionId) -> Vec<Value> {
        self.sent.remove(&connection).unwrap_or_default()
    }

    /// Functions fired since the last look: id and payload.
    pub fn fired(&mut self) -> Vec<(String, Value)> {
        let fired = self.take_firings();
        fired
            .into_iter()
            .map(|firing| (firing.function_id.into(), serde_json::from_slice(&firing.data).expect("payloads are JSON")))
            .collect()
    }

    /// Firings as such; each must have gone to the shard that owns its function.
    pub fn take_firings(&mut self) -> Vec<Firing> {
        let fired = std::mem::take(&mut self.fired);
        fired
            .into_iter()
            .map(|(shard, firing)| {
                assert_eq!(shard, self.hasher.owner(self.hasher.hash(&firing.function_id)));
                firing
            })
            .collect()
    }
}

pub fn worker_id(slot: u32) -> Uuid {
    Uuid::from_u128(0xA000 + u128::from(slot))
}

/// Shorthand for JSON in tests.
pub fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

/// A built-in provider that writes down what it is told and refuses configurations without `ok`.
#[derive(Clone, Default)]
pub struct Scribe(Arc<Mutex<Vec<String>>>);

impl Scribe {
    pub fn told(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().expect("tests do not panic here"))
    }

    pub fn provide(&self, control: &mut Control, id: &'static str) {
        control.provide_trigger_type(BuiltInTriggerType { id: id.into(), provider: Box::new(self.clone()) });
    }

    fn note(&self, line: String) {
        self.0.lock().expect("tests do not panic here").push(line);
    }
}

impl TriggerProvider for Scribe {
    fn register(&mut self, binding: &Binding, _: &mut Commands) -> Result<(), String> {
        if !binding.config.windows(2).any(|word| word == b"ok") {
            return Err("api_path is required for http triggers".to_owned());
        }
        self.note(format!("+{} {}", binding.id, String::from_utf8_lossy(&binding.config)));
        Ok(())
    }

    fn unregister(&mut self, binding: &Binding, _: &mut Commands) -> Result<(), String> {
        self.note(format!("-{} {}", binding.id, String::from_utf8_lossy(&binding.config)));
        if binding.config.windows(5).any(|word| word == b"stuck") { Err("it is stuck".to_owned()) } else { Ok(()) }
    }
}

/// Nothing may be left of triggers when everybody is gone.
pub fn assert_no_bindings(triggers: &Triggers) {
    assert_eq!(triggers.bindings().count(), 0);
}
