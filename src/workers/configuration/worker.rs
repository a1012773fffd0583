//! The instance. The one of the first shard has the entries; the others have nothing to do.
//!
//! Calls are done one after the other, and one that changes something is done when it is on disk: entries, files,
//! answers and events have one order (CONF-DB-7).

use super::files::{self, Job, Report};
use super::registry::{Change, Entry, Registration, Registry, event};
use super::watch::Watches;
use crate::workers::payload::{members, missing, string};
use iii_shards::builtin::firing::{End, Firing, Run};
use iii_shards::builtin::{BuiltIn, Call, CallId, Failure, Host, Outcome, Token};
use iii_shards::control::triggers::Binding;
use iii_shards::ids::ShardId;
use serde_json::Value;
use std::any::Any;
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

/// Limit of a condition and of a handler, in milliseconds.
const HANDLER_TIMEOUT_MS: u64 = 30_000;

/// The instance of one shard.
pub struct Worker {
    directory: PathBuf,
    /// 0 = entries live for ever.
    ttl_ms: u64,
    registry: Registry,
    watches: Watches,
    firing: Firing<()>,
    jobs: Option<SyncSender<Job>>,
    waiting: VecDeque<Task>,
    busy: Busy,
    /// When entries end that nobody watches any more.
    ends: BTreeMap<String, u64>,
}

/// Something to be done in its turn.
enum Task {
    Call(Call),
    Edited(Vec<Entry>, Vec<String>),
    Edit(Entry),
    Expire(String),
}

#[allow(clippy::large_enum_variant, reason = "there is one of it")]
enum Busy {
    /// Nothing is under way.
    No,
    /// The files are being read for the first time.
    Loading,
    /// A change is being written.
    Writing(Change, Option<CallId>),
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

impl Worker {
    /// An instance that has yet to read its files.
    pub fn new(directory: PathBuf, ttl_ms: u64) -> Worker {
        Worker {
            directory,
            ttl_ms,
            registry: Registry::default(),
            watches: Watches::default(),
            firing: Firing::default(),
            jobs: None,
            waiting: VecDeque::new(),
            busy: Busy::Loading,
            ends: BTreeMap::new(),
        }
    }

    /// An instance whose files are played by somebody else.
    #[cfg(test)]
    pub fn with_jobs(jobs: SyncSender<Job>, ttl_ms: u64) -> Worker {
        Worker { jobs: Some(jobs), ..Worker::new(PathBuf::new(), ttl_ms) }
    }

    fn work(&mut self, host: &mut dyn Host) {
        while matches!(self.busy, Busy::No)
            && let Some(task) = self.waiting.pop_front()
        {
            match task {
                Task::Call(call) => self.perform(&call, host),
                Task::Edited(entries, unreadable) => self.compare(entries, &unreadable),
                Task::Edit(entry) => {
                    let id = entry.id.clone();
                    match self.registry.edited(entry, &variable) {
                        // The file is as it should be: there is nothing to write.
                        Ok(Some(change)) => self.commit(&change, None, host),
                        Ok(None) => {}
                        Err(reason) => tracing::warn!("configuration '{id}': the edited file is ignored: {reason}"),
                    }
                }
                Task::Expire(id) => {
                    if let Ok(change) = self.registry.delete(&id) {
                        self.write(change, None, host);
                    }
                }
            }
        }
    }

    // === calls ===

    fn perform(&mut self, call: &Call, host: &mut dyn Host) {
        let outcome = match &*call.function_id {
            "configuration::register" => self.register(&call.data),
            "configuration::set" => self.set(&call.data),
            "configuration::delete" => id_of(&call.data).and_then(|id| self.registry.delete(&id).map_err(Into::into)),
            "configuration::get" => return self.tell(call, self.get(&call.data), host),
            "configuration::schema" => {
                let found = id_of(&call.data).and_then(|id| self.registry.schema(&id).map_err(Into::into));
                return self.tell(call, found, host);
            }
            _ => return self.tell(call, Ok(self.registry.list()), host),
        };
        match outcome {
            Ok(change) => self.write(change, Some(call.id), host),
            Err(refusal) => host.answer(call.id, Err(&refusal.of(&call.function_id))),
        }
    }

    fn tell(&self, call: &Call, outcome: Result<Value, Refusal>, host: &mut dyn Host) {
        match outcome {
            Ok(answer) => host.answer(call.id, Ok(answer.to_string().as_bytes())),
            Err(refusal) => host.answer(call.id, Err(&refusal.of(&call.function_id))),
        }
    }

    fn register(&self, data: &[u8]) -> Result<Change, Refusal> {
        let names = ["id", "name", "description", "schema", "initial_value", "metadata"];
        let [id, name, description, schema, value, metadata] = members(data, names, "struct RegisterInput")?;
        let schema = json(schema.ok_or_else(|| missing("schema"))?)?;
        let entry = Entry {
            id: string(id, "id")?.into_owned(),
            name: string(name, "name")?.into_owned(),
            description: string(description, "description")?.into_owned(),
            schema: Some(schema).filter(|schema| !schema.is_null()),
            value: value.map(json).transpose()?,
            metadata: metadata.map(json).transpose()?.filter(|metadata| !metadata.is_null()),
        };
        Ok(self.registry.register(Registration { entry }, &variable)?)
    }

    fn set(&self, data: &[u8]) -> Result<Change, Refusal> {
        let [id, value, expected] = members(data, ["id", "value", "expected"], "struct SetInput")?;
        let id = string(id, "id")?;
        let value = json(value.ok_or_else(|| missing("value"))?)?;
        let expected = expected.map(json).transpose()?;
        Ok(self.registry.set(&id, value, expected.as_ref(), &variable)?)
    }

    fn get(&self, data: &[u8]) -> Result<Value, Refusal> {
        let [id, raw] = members(data, ["id", "raw"], "struct GetInput")?;
        let raw = match raw {
            None | Some(b"null" | b"false") => false,
            Some(b"true") => true,
            Some(other) => return Err(crate::workers::payload::wrong_type(other, "a boolean").into()),
        };
        Ok(self.registry.get(&string(id, "id")?, raw, &variable)?)
    }

    // === changes ===

    /// Has a change written; it is made when it is.
    fn write(&mut self, change: Change, call: Option<CallId>, host: &mut dyn Host) {
        let unchanged = change.entry.is_some() && change.entry.as_ref() == self.registry.entry(&change.id);
        if unchanged {
            return self.commit(&change, call, host);
        }
        let job = match &change.entry {
            Some(entry) => Job::Write(Box::new(entry.clone())),
            None => Job::Remove(change.id.clone()),
        };
        self.busy = Busy::Writing(change, call);
        let given = self.jobs.as_ref().is_some_and(|jobs| jobs.try_send(job).is_ok());
        if !given {
            self.written(Err("the files can't be reached".to_owned()), host);
        }
    }

    fn written(&mut self, outcome: Result<(), String>, host: &mut dyn Host) {
        let Busy::Writing(change, call) = std::mem::replace(&mut self.busy, Busy::No) else { return };
        match outcome {
            Ok(()) => self.commit(&change, call, host),
            Err(cause) => {
                tracing::warn!("configuration '{}' can't be written: {cause}", change.id);
                if let Some(call) = call {
                    host.answer(call, Err(&Failure::new("ADAPTER_ERROR", cause)));
                }
            }
        }
    }

    fn commit(&mut self, change: &Change, call: Option<CallId>, host: &mut dyn Host) {
        let before = self.registry.apply(change);
        if change.entry.is_none() {
            self.ends.remove(&change.id);
        }
        if let Some(call) = call {
            host.answer(call, Ok(change.answer.to_string().as_bytes()));
        }
        let Some(what) = change.what else { return };
        let targets = self.watches.matching(&change.id, what.event_type());
        if targets.is_empty() {
            return;
        }
        let Some(told) = event(what, before.as_ref(), change.entry.as_ref(), &variable) else { return };
        let data: Rc<[u8]> = told.to_string().into_bytes().into();
        for target in &targets {
            let run = Run { timeout_ms: Some(HANDLER_TIMEOUT_MS), tracked: false, ordered: true, ..Run::new(&data) };
            self.firing.fire(host, target, &run, ());
        }
        self.note_ended();
    }

    /// Compares the entries with files that somebody has edited.
    fn compare(&mut self, entries: Vec<Entry>, unreadable: &[String]) {
        let gone: Vec<String> = self
            .registry
            .entries()
            .map(|entry| entry.id.clone())
            .filter(|id| !entries.iter().any(|entry| entry.id == *id) && !unreadable.contains(id))
            .collect();
        let edits = entries.into_iter().map(Task::Edit).chain(gone.into_iter().map(Task::Expire));
        for (place, task) in edits.enumerate() {
            self.waiting.insert(place, task);
        }
    }

    fn note_ended(&mut self) {
        while let Some(((), end)) = self.firing.poll_ended() {
            if let End::ConditionFailed(failure) = end {
                tracing::warn!("a condition failed, its trigger does not fire: {}: {}", failure.code, failure.message);
            }
        }
    }

    fn set_alarm(&self, host: &mut dyn Host) {
        host.wake_at(self.ends.values().min().copied());
    }
}

/// Why a call can't be done: its payload does not fit, or what it asks for can't be had.
enum Refusal {
    Unfit(String),
    Failed(Failure),
}

impl From<String> for Refusal {
    fn from(detail: String) -> Refusal {
        Refusal::Unfit(detail)
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Refusal {
        Refusal::Failed(failure)
    }
}

impl Refusal {
    fn of(self, function_id: &str) -> Failure {
        match self {
            Refusal::Failed(failure) => failure,
            Refusal::Unfit(detail) => Failure::new(
                "deserialization_error",
                format!("Failed to deserialize input for {function_id}: {detail}"),
            ),
        }
    }
}

fn id_of(data: &[u8]) -> Result<String, Refusal> {
    let [id] = members(data, ["id"], "struct IdInput")?;
    Ok(string(id, "id")?.into_owned())
}

fn json(text: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(text).map_err(|error| error.to_string())
}

impl BuiltIn for Worker {
    fn start(&mut self, host: &mut dyn Host) {
        if host.shard() != ShardId(0) {
            return;
        }
        match files::start(self.directory.clone(), host.mailbox()) {
            Ok(jobs) => self.jobs = Some(jobs),
            Err(error) => {
                tracing::warn!("configuration: the thread of the files does not start: {error}");
                self.busy = Busy::No;
            }
        }
    }

    fn call(&mut self, call: Call, host: &mut dyn Host) {
        self.waiting.push_back(Task::Call(call));
        self.work(host);
    }

    fn answer(&mut self, token: Token, outcome: Outcome, host: &mut dyn Host) {
        // Nobody else here makes calls.
        let _ = self.firing.answer(host, token, outcome);
        self.note_ended();
    }

    fn trigger_added(&mut self, trigger: Arc<Binding>, host: &mut dyn Host) {
        if host.shard() == ShardId(0)
            && let Some(id) = self.watches.add(trigger)
        {
            self.ends.remove(&id);
            self.set_alarm(host);
        }
    }

    fn trigger_removed(&mut self, trigger: &Binding, host: &mut dyn Host) {
        if let Some(id) = self.watches.remove(&trigger.id)
            && self.ttl_ms > 0
        {
            self.ends.insert(id, host.now().ms + self.ttl_ms);
            self.set_alarm(host);
        }
    }

    fn message(&mut self, message: Box<dyn Any + Send>, host: &mut dyn Host) {
        let Ok(report) = message.downcast::<Report>() else { return };
        match *report {
            Report::Loaded(entries) => {
                for entry in entries {
                    let change = Change { id: entry.id.clone(), entry: Some(entry), what: None, answer: Value::Null };
                    self.registry.apply(&change);
                }
                self.busy = Busy::No;
            }
            Report::Done(outcome) => self.written(outcome, host),
            Report::Edited { entries, unreadable } => {
                self.waiting.push_front(Task::Edited(entries, unreadable.into_iter().collect()));
            }
        }
        self.work(host);
    }

    fn timer(&mut self, host: &mut dyn Host) {
        let now = host.now().ms;
        let due: Vec<String> = self.ends.iter().filter(|(_, end)| **end <= now).map(|(id, _)| id.clone()).collect();
        for id in due {
            self.ends.remove(&id);
            self.waiting.push_back(Task::Expire(id));
        }
        self.set_alarm(host);
        self.work(host);
    }
}
