//! The instance of one shard: runs calls on the scopes it owns, and fires triggers.
//!
//! Hot path: `state::get` and `state::set` build no tree; a value is copied once, into the store.

use super::changes::{Change, Kind, Notice};
use super::journal::{Committed, End as JournalEnd, Journal, Retry, Stored};
use super::remote::{Finished, Remote};
use super::request::{self, Function, Name};
use super::store::{Placed, Store, Value};
use super::triggers::Triggers;
use crate::config::settings::StateSettings;
use crate::workers::update;
use iii_shards::builtin::firing::{End, Firing, Run, Target};
use iii_shards::builtin::{BuiltIn, Call, CallId, Failure, Host, Outcome, Token};
use iii_shards::control::triggers::Binding;
use iii_shards::ids::ShardId;
use iii_shards::wire::json::write_string;
use std::any::Any;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

/// An answer that says nothing: the caller gets no `result` (STATE-13).
const NOTHING: &[u8] = b"";

/// Pause before a store without room is asked again, in milliseconds.
const RETRY_MS: u64 = 10;

/// The state of one shard.
pub struct State {
    store: Store,
    /// `None` = nothing outlives the engine.
    journal: Option<Journal>,
    /// `Some` = the values are elsewhere, and `store` is empty.
    remote: Option<Remote>,
    triggers: Triggers,
    firing: Firing<Rc<Target>>,
    triggers_enabled: bool,
    max_value_bytes: Option<u64>,
    /// Questions to all shards, by number.
    gatherings: HashMap<u64, Gathering>,
    gatherings_begun: u64,
    /// For answers; kept for its room.
    answer: Vec<u8>,
}

/// One `state::list_groups`.
struct Gathering {
    call: CallId,
    /// Shards that have not answered.
    missing: usize,
    groups: Vec<String>,
}

/// What instances say to each other.
enum Letter {
    /// Which scopes do you have?
    Ask { number: u64, from: ShardId },
    /// These.
    Groups { number: u64, groups: Vec<String> },
}

// === impl State ===

impl State {
    /// An empty one.
    pub fn new(settings: &StateSettings) -> State {
        State {
            store: Store::default(),
            journal: None,
            remote: None,
            triggers: Triggers::default(),
            firing: Firing::default(),
            triggers_enabled: settings.triggers_enabled,
            max_value_bytes: settings.max_value_bytes,
            gatherings: HashMap::new(),
            gatherings_begun: 0,
            answer: Vec::new(),
        }
    }

    /// One that keeps its values on disk, with those that are there already.
    pub fn durable(settings: &StateSettings, journal: Journal, stored: Vec<Stored>) -> State {
        let mut state = State { journal: Some(journal), ..State::new(settings) };
        for Stored { scope, key, order, value } in stored {
            state.store.restore(&scope, &key, Some(Placed { order, value: value.into() }));
        }
        state
    }

    /// One whose values are elsewhere.
    pub fn remote(settings: &StateSettings, remote: Remote) -> State {
        State { remote: Some(remote), ..State::new(settings) }
    }

    fn get(&mut self, call: &Call, host: &mut dyn Host) -> Result<(), Failure> {
        let name = request::name(&call.data, Function::Get)?;
        let answer = self.store.get(&name.scope, &name.key).map_or(NOTHING, |value| value);
        if let Some(group) = self.journal.as_mut().and_then(|journal| journal.group_of(&name.scope, Some(&name.key))) {
            group.ends.push(JournalEnd { call: call.id, function: Function::Get, answer: answer.into(), notice: None });
        } else {
            host.answer(call.id, Ok(answer));
        }
        Ok(())
    }

    fn set(&mut self, call: &Call, host: &mut dyn Host) -> Result<(), Failure> {
        let (name, value) = request::set(&call.data)?;
        request::check_size(value, self.max_value_bytes)?;
        self.put(Function::Set, call, &name, value.into(), &[], host)
    }

    fn update(&mut self, call: &Call, host: &mut dyn Host) -> Result<(), Failure> {
        let (name, ops) = request::update(&call.data)?;
        let stored = self.store.get(&name.scope, &name.key);
        let updated = update::apply(stored.map(|value| &**value), &ops);
        request::check_size(&updated.value, self.max_value_bytes)?; // STATE-DB-13
        self.put(Function::Update, call, &name, updated.value.into(), &updated.errors, host)
    }

    fn put(
        &mut self,
        function: Function,
        call: &Call,
        name: &Name<'_>,
        new: Value,
        errors: &[update::OpError],
        host: &mut dyn Host,
    ) -> Result<(), Failure> {
        self.check_room(function)?;
        let before = self.store.put(&name.scope, &name.key, new.clone());
        let kind = if before.is_some() { Kind::Updated } else { Kind::Created };
        let old = before.as_ref().map(|before| &before.value);
        let change = Change { scope: &name.scope, key: &name.key, kind, old, new: Some(&new) };
        self.write_answer(&change, errors);
        let notice = self.notice(call, &change);
        if let Some(journal) = &mut self.journal {
            let end = JournalEnd { call: call.id, function, answer: self.answer.as_slice().into(), notice };
            journal.add(&name.scope, &name.key, before, new.len(), end);
            journal.submit(&self.store);
            return Ok(());
        }
        host.answer(call.id, Ok(&self.answer));
        self.send(notice, host);
        Ok(())
    }

    fn delete(&mut self, call: &Call, host: &mut dyn Host) -> Result<(), Failure> {
        self.check_room(Function::Delete)?;
        let name = request::name(&call.data, Function::Delete)?;
        let before = self.store.remove(&name.scope, &name.key);
        let old = before.as_ref().map(|before| &before.value);
        let answer = old.map_or(NOTHING, |value| value);
        // Also for a key that never was: `old_value` is null then (STATE-DB-10).
        let change = Change { scope: &name.scope, key: &name.key, kind: Kind::Deleted, old, new: None };
        let notice = self.notice(call, &change);
        if let Some(journal) = &mut self.journal {
            let end = JournalEnd { call: call.id, function: Function::Delete, answer: answer.into(), notice };
            if before.is_some() {
                journal.add(&name.scope, &name.key, before, 0, end);
                journal.submit(&self.store);
            } else if let Some(group) = journal.group_of(&name.scope, Some(&name.key)) {
                group.ends.push(end);
            } else {
                self.release(vec![end], host);
            }
            return Ok(());
        }
        host.answer(call.id, Ok(answer));
        self.send(notice, host);
        Ok(())
    }

    fn check_room(&self, function: Function) -> Result<(), Failure> {
        match &self.journal {
            Some(journal) if !journal.has_room() => Err(function.failed("too much is waiting to be written")),
            _ => Ok(()),
        }
    }

    /// A call to where the values are has ended.
    fn finished(&mut self, finished: Finished, host: &mut dyn Host) {
        let Some(job) = self.remote.as_mut().and_then(|remote| remote.finish(&finished)) else { return };
        let effect = match finished.outcome {
            Ok(effect) => effect,
            Err(failure) => return host.answer(job.call.id, Err(&failure)),
        };
        let Some((kind, old, new)) = effect.change else { return host.answer(job.call.id, Ok(&effect.answer)) };
        let (old, new) = (old.map(Value::from), new.map(Value::from));
        let change = Change { scope: &job.scope, key: &job.key, kind, old: old.as_ref(), new: new.as_ref() };
        if job.function == Function::Delete {
            host.answer(job.call.id, Ok(old.as_deref().unwrap_or(NOTHING)));
        } else {
            self.write_answer(&change, &effect.errors);
            host.answer(job.call.id, Ok(&self.answer));
        }
        let notice = self.notice(&job.call, &change);
        self.send(notice, host);
    }

    /// The answer of `set` and `update`.
    fn write_answer(&mut self, change: &Change<'_>, errors: &[update::OpError]) {
        self.answer.clear();
        change.write_answer(&mut self.answer);
        if !errors.is_empty() {
            self.answer.extend_from_slice(b",\"errors\":");
            update::write_errors(&mut self.answer, errors);
        }
        self.answer.push(b'}');
    }

    /// What waited for a group has its end.
    fn release(&mut self, ends: Vec<JournalEnd>, host: &mut dyn Host) {
        for end in ends {
            host.answer(end.call, Ok(&end.answer));
            self.send(end.notice, host);
        }
    }

    fn committed(&mut self, Committed(outcome): Committed, host: &mut dyn Host) {
        let Some(journal) = &mut self.journal else { return };
        let (ends, error) = match journal.committed(outcome, &mut self.store) {
            Ok(released) => released,
            Err(Retry) => return host.wake_at(Some(host.now().ms + RETRY_MS)),
        };
        journal.submit(&self.store);
        match error {
            None => self.release(ends, host),
            Some(error) => {
                for end in ends {
                    host.answer(end.call, Err(&end.function.failed(&error.to_string())));
                }
            }
        }
    }

    fn list(&mut self, call: &Call, host: &mut dyn Host) -> Result<(), Failure> {
        let (scope, include_keys) = request::list(&call.data)?;
        self.answer.clear();
        self.answer.push(b'[');
        for (key, value) in self.store.list(&scope) {
            if self.answer.len() > 1 {
                self.answer.push(b',');
            }
            request::write_listed(&mut self.answer, key, value, include_keys);
        }
        self.answer.push(b']');
        if let Some(group) = self.journal.as_mut().and_then(|journal| journal.group_of(&scope, None)) {
            let answer = self.answer.as_slice().into();
            group.ends.push(JournalEnd { call: call.id, function: Function::List, answer, notice: None });
        } else {
            host.answer(call.id, Ok(&self.answer));
        }
        Ok(())
    }

    // === scopes of all shards ===

    fn list_groups(&mut self, call: &Call, host: &mut dyn Host) -> Result<(), Failure> {
        request::list_groups(&call.data)?;
        self.gatherings_begun += 1;
        let number = self.gatherings_begun;
        let gathering = Gathering { call: call.id, missing: host.shards(), groups: Vec::new() };
        self.gatherings.insert(number, gathering);
        for shard in (0..host.shards()).map(|shard| ShardId(shard as u16)) {
            if shard != host.shard() {
                host.post(shard, Box::new(Letter::Ask { number, from: host.shard() }));
            }
        }
        let own = self.groups();
        self.gather(number, own, host);
        Ok(())
    }

    fn groups(&self) -> Vec<String> {
        self.store.scopes().map(str::to_owned).collect()
    }

    fn gather(&mut self, number: u64, groups: Vec<String>, host: &mut dyn Host) {
        let Some(gathering) = self.gatherings.get_mut(&number) else { return };
        gathering.groups.extend(groups);
        gathering.missing -= 1;
        if gathering.missing > 0 {
            return;
        }
        let Some(Gathering { call, mut groups, .. }) = self.gatherings.remove(&number) else { return };
        groups.sort_unstable();
        let mut answer = b"{\"groups\":[".to_vec();
        for (index, group) in groups.iter().enumerate() {
            if index > 0 {
                answer.push(b',');
            }
            write_string(&mut answer, group);
        }
        answer.extend_from_slice(b"]}");
        host.answer(call, Ok(&answer));
    }

    // === triggers ===

    /// Whom a change is to be told, if anybody.
    fn notice(&self, call: &Call, change: &Change<'_>) -> Option<Notice> {
        if self.triggers.is_empty() || !self.triggers_enabled {
            return None;
        }
        let targets: Vec<_> = self.triggers.matching(change.scope, change.key).cloned().collect();
        if targets.is_empty() {
            return None;
        }
        let (traceparent, baggage) = (call.traceparent.clone(), call.baggage.clone());
        Some(Notice { targets, event: change.event(), traceparent, baggage })
    }

    fn send(&mut self, notice: Option<Notice>, host: &mut dyn Host) {
        let Some(notice) = notice else { return };
        for target in &notice.targets {
            let run = Run {
                traceparent: notice.traceparent.as_deref(),
                baggage: notice.baggage.as_deref(),
                ordered: true,
                ..Run::new(&notice.event)
            };
            self.firing.fire(host, target, &run, target.clone());
        }
        self.log_ended();
    }

    fn log_ended(&mut self) {
        while let Some((target, end)) = self.firing.poll_ended() {
            let (what, failure) = match &end {
                End::ConditionFailed(failure) => (target.condition.as_deref().unwrap_or_default(), failure),
                End::Ran(Err(failure)) => (&*target.binding.function_id, failure),
                End::Skipped | End::Sent | End::Ran(Ok(_)) => continue,
            };
            let (id, code, message) = (&target.binding.id, &failure.code, &failure.message);
            tracing::warn!("state trigger {id}: {what} failed: {code}: {message}");
        }
    }
}

// === impl BuiltIn for State ===

impl BuiltIn for State {
    fn call(&mut self, call: Call, host: &mut dyn Host) {
        let function = Function::ALL[call.function];
        if let Some(remote) = self.remote.as_mut().filter(|_| function != Function::OnConfigChange) {
            let id = call.id;
            if let Err(failure) = remote.start(call, function, self.max_value_bytes) {
                host.answer(id, Err(&failure));
            }
            return;
        }
        let done = match function {
            Function::Get => self.get(&call, host),
            Function::Set => self.set(&call, host),
            Function::Delete => self.delete(&call, host),
            Function::Update => self.update(&call, host),
            Function::List => self.list(&call, host),
            Function::ListGroups => self.list_groups(&call, host),
            Function::OnConfigChange => {
                host.answer(call.id, Ok(b"{\"ok\":true}"));
                Ok(())
            }
        };
        if let Err(failure) = done {
            host.answer(call.id, Err(&failure));
        }
    }

    fn answer(&mut self, token: Token, outcome: Outcome, host: &mut dyn Host) {
        // Every call of this worker is one of a trigger.
        let _ = self.firing.answer(host, token, outcome);
        self.log_ended();
    }

    fn trigger_added(&mut self, trigger: Arc<Binding>, _host: &mut dyn Host) {
        self.triggers.add(trigger);
    }

    fn trigger_removed(&mut self, trigger: &Binding, _host: &mut dyn Host) {
        self.triggers.remove(trigger);
    }

    fn message(&mut self, message: Box<dyn Any + Send>, host: &mut dyn Host) {
        let letter = match message.downcast::<Committed>() {
            Ok(committed) => return self.committed(*committed, host),
            Err(other) => other,
        };
        let letter = match letter.downcast::<Finished>() {
            Ok(finished) => return self.finished(*finished, host),
            Err(other) => other,
        };
        let Ok(letter) = letter.downcast::<Letter>() else { return };
        match *letter {
            Letter::Ask { number, from } => {
                host.post(from, Box::new(Letter::Groups { number, groups: self.groups() }));
            }
            Letter::Groups { number, groups } => self.gather(number, groups, host),
        }
    }

    fn timer(&mut self, _host: &mut dyn Host) {
        if let Some(journal) = &mut self.journal {
            journal.submit(&self.store);
        }
    }

    fn stop(&mut self, _host: &mut dyn Host) {
        if let Some(journal) = &mut self.journal {
            journal.flush(&self.store);
        }
    }

    fn hand_over(&mut self, _host: &mut dyn Host) -> Option<Box<dyn Any>> {
        Some(Box::new(std::mem::replace(self, State::new(&StateSettings::default()))))
    }

    /// The values stay, unless they are kept in another place from now on (STATE-73).
    fn take_over(&mut self, legacy: Box<dyn Any>, _host: &mut dyn Host) {
        let Ok(mut legacy) = legacy.downcast::<State>() else { return };
        if legacy.remote.is_some() || self.remote.is_some() {
            return;
        }
        let place = |state: &State| state.journal.as_ref().map(|journal| journal.directory().to_owned());
        if place(&legacy) == place(self) {
            // What the disk held when this instance was made is older than what memory holds.
            self.store = std::mem::take(&mut legacy.store);
            self.journal = legacy.journal.take();
        } else if let Some(journal) = &mut legacy.journal {
            journal.flush(&legacy.store);
        }
    }
}
