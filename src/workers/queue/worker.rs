//! One instance: the queues and topics of its shard, and what is under way for them.

mod delivering;
mod settings;

use super::disk::{Changes, Disk, LineRecord, RESERVED};
use super::functions::{Gather, LineInfo};
use super::input::{self, Which};
use super::job::{Dead, End, Head, Job, Target};
use super::line::{Line, Verdict};
use super::tuning::{self, Tuning};
use super::{Letter, Setup};
use iii_shards::builtin::{BuiltIn, Call, CallId, Failure, Host, Outcome, OutgoingCall, Token, key_of};
use iii_shards::control::triggers::Binding;
use std::any::Any;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

/// Attempts that end because the worker left and are not charged (QUEUE-DB-7).
const STOPS_MAX: u32 = 10;
/// First and longest pause before a missing function is looked for again.
const PROBE_MS: (u64, u64) = (20, 200);
/// A destination whose trigger was unregistered still collects for this long, in case it is registered anew.
const RETIRE_MS: u64 = 1_000;
/// A destination without a trigger collects for this long.
const SUBSCRIPTION_TTL_MS: u64 = 7 * 24 * 3_600_000;
/// Messages kept for a topic that nobody has subscribed to yet, and for how long.
const HELD_MAX: u64 = 10_000;
const HELD_MS: u64 = 24 * 3_600_000;

/// What a line is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A named queue.
    Queue,
    /// A function subscribed to a topic.
    Destination(Target),
    /// What a topic collects before anybody subscribes.
    Held,
}

/// A trigger of a destination.
pub struct Trigger {
    id: Arc<str>,
    /// It was registered by a connection.
    owned: bool,
    tuning: Tuning,
    condition: Option<Rc<str>>,
    metadata: Option<Rc<[u8]>>,
}

/// A line and what belongs to it.
pub struct Entry {
    pub line: Line,
    pub kind: Kind,
    /// Name of the queue or topic.
    pub name: Rc<str>,
    /// Name in the store.
    key: Rc<str>,
    pub triggers: Vec<Trigger>,
    /// When it stops collecting; 0 = it has.
    retire_at: Option<u64>,
    reserved: u64,
    /// A named queue that can be enqueued to.
    pub configured: bool,
}

/// Messages that wait for the disk.
struct Storing {
    jobs: Vec<(usize, Job)>,
    call: CallId,
    answer: Vec<u8>,
    code: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::workers::queue) enum Stage {
    Condition,
    Handler,
}

pub(in crate::workers::queue) struct Delivery {
    line: usize,
    seq: u64,
    stage: Stage,
}

struct Missing {
    again_ms: u64,
    pause_ms: u64,
    /// Tried just now: messages may pass.
    open: bool,
}

/// An instance.
pub struct Queue {
    setup: Arc<Setup>,
    pub(super) disk: Option<Disk>,
    pub(super) lines: Vec<Entry>,
    by_key: HashMap<Rc<str>, usize>,
    /// Lines of each queue or topic.
    pub(super) by_name: HashMap<Rc<str>, Vec<usize>>,
    deliveries: HashMap<Token, Delivery>,
    storing: HashMap<u64, Storing>,
    tickets: u64,
    missing: HashMap<Target, Missing>,
    pub(super) gathers: HashMap<u64, Gather>,
    /// An earlier instance left its lines: what is on disk is known.
    inherited: bool,
}

/// What an instance leaves to its successor when its settings change.
struct Legacy {
    lines: Vec<Entry>,
    by_key: HashMap<Rc<str>, usize>,
    by_name: HashMap<Rc<str>, Vec<usize>>,
    storing: HashMap<u64, Storing>,
    tickets: u64,
    durable: bool,
}

impl Queue {
    pub(super) fn new(setup: Arc<Setup>, host: &mut dyn Host) -> Queue {
        let disk = setup.store.as_ref().map(|(store, durability)| Disk {
            store: store.clone(),
            durability: *durability,
            mailbox: host.mailbox(),
        });
        Queue {
            setup,
            disk,
            lines: Vec::new(),
            by_key: HashMap::new(),
            by_name: HashMap::new(),
            deliveries: HashMap::new(),
            storing: HashMap::new(),
            tickets: 0,
            missing: HashMap::new(),
            gathers: HashMap::new(),
            inherited: false,
        }
    }

    pub(super) fn ticket(&mut self) -> u64 {
        self.tickets += 1;
        self.tickets
    }

    // === lines ===

    fn add_line(&mut self, kind: Kind, name: &str, tuning: Tuning) -> usize {
        let key: Rc<str> = match &kind {
            Kind::Queue => format!("q:{name}").into(),
            Kind::Held => format!("h:{name}").into(),
            Kind::Destination(target) => format!("t:{name}\0{}\0{}", target.namespace, target.function_id).into(),
        };
        if let Some(known) = self.by_key.get(&key) {
            return *known;
        }
        let index = self.lines.len();
        let name: Rc<str> = name.into();
        self.by_key.insert(key.clone(), index);
        self.by_name.entry(name.clone()).or_default().push(index);
        let line = Line::new(tuning);
        let (triggers, retire_at) = (Vec::new(), None);
        self.lines.push(Entry { line, kind, name, key, triggers, retire_at, reserved: 0, configured: false });
        index
    }

    fn describe(&self, index: usize) -> LineRecord {
        let entry = &self.lines[index];
        let target = match &entry.kind {
            Kind::Destination(target) => Some((target.namespace.to_string(), target.function_id.to_string())),
            _ => None,
        };
        LineRecord {
            name: entry.name.to_string(),
            target,
            held: entry.kind == Kind::Held,
            retired: entry.retire_at == Some(0),
            reserved: entry.reserved,
        }
    }

    fn next_seq(&mut self, index: usize, changes: &mut Changes) -> u64 {
        let seq = self.lines[index].line.next;
        self.lines[index].line.next += 1;
        if self.disk.is_some() && seq >= self.lines[index].reserved {
            self.lines[index].reserved = seq + RESERVED;
            let record = self.describe(index);
            changes.describe(&self.lines[index].key, &record);
        }
        seq
    }

    /// Brings back what an earlier run left.
    fn restore(&mut self, host: &mut dyn Host) -> Result<(), String> {
        let Some(disk) = &self.disk else { return Ok(()) };
        let lines = disk.lines()?;
        for (key, record) in lines {
            if host.home_of(key_of(&record.name)) != host.shard() {
                continue;
            }
            let (kind, tuning) = match (&record.target, record.held) {
                (Some((namespace, function_id)), _) => {
                    let target = Target { namespace: (&**namespace).into(), function_id: (&**function_id).into() };
                    (Kind::Destination(target), Tuning { slots: 0, ..self.topic_defaults() })
                }
                (None, true) => (Kind::Held, Tuning::default()),
                (None, false) => (Kind::Queue, Tuning::default()),
            };
            let index = self.add_line(kind, &record.name, tuning);
            let Some(disk) = &self.disk else { continue };
            let dead = disk.dead(&key)?;
            let entry = &mut self.lines[index];
            entry.line.next = record.reserved.max(1);
            entry.reserved = record.reserved;
            entry.line.cursor = 1;
            entry.line.uncounted = true;
            entry.line.dead = dead.into();
            entry.retire_at = match record.retired {
                true => Some(0),
                false => Some(host.now().unix_ms + SUBSCRIPTION_TTL_MS),
            };
            disk.count(index, &key, 1, record.reserved);
        }
        Ok(())
    }

    fn topic_defaults(&self) -> Tuning {
        Tuning::of_trigger(&serde_json::Map::new(), &self.setup.builtin)
    }

    // === accepting ===

    /// A named queue that can be enqueued to.
    pub(super) fn queue(&self, name: &str) -> Option<usize> {
        let index = *self.by_key.get(&*format!("q:{name}"))?;
        self.lines[index].configured.then_some(index)
    }

    fn enqueue(&mut self, call: &Call, host: &mut dyn Host) -> Result<(), Failure> {
        let refuse = |message: String| Failure::new("enqueue_error", message);
        let input: input::Enqueue<'_> = input::read(&call.function_id, &call.data)?;
        let name = &*input.queue;
        let Some(index) = self.queue(name) else {
            tracing::warn!(queue = name, "Enqueue attempted for unknown queue");
            return Err(refuse(format!("Queue '{name}' not found")));
        };
        let line = &self.lines[index].line;
        let group = match &line.tuning.group_field {
            Some(field) if line.tuning.fifo => {
                Some(tuning::group_of(name, field, input.data.get().as_bytes()).map_err(refuse)?.into())
            }
            _ => None,
        };
        if line.tuning.max_depth > 0 && line.waiting() + line.running() >= line.tuning.max_depth {
            return Err(refuse(format!("Queue '{name}' is full")));
        }
        let receipt = match &input.receipt {
            Some(receipt) => receipt.to_string(),
            None => host.new_uuid().to_string(),
        };
        let target = Target {
            namespace: input.namespace.as_deref().unwrap_or("default").into(),
            function_id: (&*input.function_id).into(),
        };
        let answer = serde_json::json!({ "messageReceiptId": receipt }).to_string().into_bytes();
        let head = Head {
            id: host.new_uuid().to_string().into(),
            receipt: Some(receipt.into()),
            target,
            group,
            traceparent: input.traceparent.as_deref().or(call.traceparent.as_deref()).map(Into::into),
            baggage: input.baggage.as_deref().or(call.baggage.as_deref()).map(Into::into),
            attempts: 0,
            stops: 0,
            enqueued_ms: host.now().unix_ms,
            not_before_ms: 0,
        };
        self.accept(vec![(index, head, input.data.get().as_bytes().into())], call.id, answer, "enqueue_error", host);
        Ok(())
    }

    fn publish(&mut self, call: &Call, host: &mut dyn Host) -> Result<(), Failure> {
        let input: input::Publish<'_> = input::read(&call.function_id, &call.data)?;
        if input.topic.is_empty() {
            return Err(Failure::new("topic_not_set", "Topic is not set"));
        }
        let now = host.now().unix_ms;
        let all = self.by_name.get(&*input.topic).cloned().unwrap_or_default();
        let mut to: Vec<usize> = all.into_iter().filter(|index| self.collects(*index, now)).collect();
        if to.is_empty() {
            let index = self.add_line(Kind::Held, &input.topic, Tuning { attempts: 1, ..Tuning::default() });
            if self.lines[index].line.waiting() >= HELD_MAX {
                tracing::warn!(topic = &*input.topic, "nobody subscribes and too much is held: the message is dropped");
                host.answer(call.id, Ok(b""));
                return Ok(());
            }
            to.push(index);
        }
        let data: Rc<[u8]> = input.data.get().as_bytes().into();
        let mut heads = Vec::with_capacity(to.len());
        for index in to {
            let entry = &self.lines[index];
            let target = match &entry.kind {
                Kind::Destination(target) => target.clone(),
                _ => Target { namespace: "".into(), function_id: "".into() },
            };
            let delay = entry.line.tuning.delay_ms;
            let head = Head {
                id: host.new_uuid().to_string().into(),
                receipt: None,
                target,
                group: None,
                traceparent: call.traceparent.as_deref().map(Into::into),
                baggage: call.baggage.as_deref().map(Into::into),
                attempts: 0,
                stops: 0,
                enqueued_ms: now,
                not_before_ms: if delay > 0 { now + delay } else { 0 },
            };
            heads.push((index, head, data.clone()));
        }
        self.accept(heads, call.id, Vec::new(), "queue_unavailable", host);
        Ok(())
    }

    fn collects(&mut self, index: usize, now: u64) -> bool {
        let entry = &mut self.lines[index];
        if !matches!(entry.kind, Kind::Destination(_)) {
            return false;
        }
        match entry.retire_at {
            Some(0) => false,
            Some(at) if at <= now => {
                entry.retire_at = Some(0);
                let record = self.describe(index);
                if let Some(disk) = &self.disk {
                    let mut changes = Changes::default();
                    changes.describe(&self.lines[index].key, &record);
                    disk.note(changes);
                }
                false
            }
            _ => true,
        }
    }

    fn accept(
        &mut self,
        heads: Vec<(usize, Head, Rc<[u8]>)>,
        call: CallId,
        answer: Vec<u8>,
        code: &'static str,
        host: &mut dyn Host,
    ) {
        let mut changes = Changes::default();
        let mut jobs = Vec::with_capacity(heads.len());
        for (index, head, data) in heads {
            let job = Job { seq: self.next_seq(index, &mut changes), head, data };
            if self.disk.is_some() {
                changes.insert(&self.lines[index].key, &job);
            }
            jobs.push((index, job));
        }
        let storing = Storing { jobs, call, answer, code };
        let ticket = self.ticket();
        match &self.disk {
            Some(disk) => {
                self.storing.insert(ticket, storing);
                disk.write(changes, ticket);
            }
            None => self.accepted(storing, host),
        }
    }

    fn accepted(&mut self, storing: Storing, host: &mut dyn Host) {
        host.answer(storing.call, Ok(&storing.answer));
        let (now, durable) = (host.now().unix_ms, self.disk.is_some());
        for (index, job) in storing.jobs {
            self.lines[index].line.push(job, durable, now);
            self.pump(index, host);
        }
    }

    fn stored(&mut self, ticket: u64, outcome: Result<(), String>, host: &mut dyn Host) {
        let Some(storing) = self.storing.remove(&ticket) else { return };
        match outcome {
            Ok(()) => self.accepted(storing, host),
            Err(error) => host.answer(storing.call, Err(&Failure::new(storing.code, error))),
        }
    }

    // === time ===

    fn schedule(&mut self, host: &mut dyn Host) {
        let now = host.now();
        let delayed = self.lines.iter().filter_map(|entry| entry.line.due_ms()).min();
        let delayed = delayed.map(|due| now.ms + due.saturating_sub(now.unix_ms).min(60_000));
        let probe = self.missing.values().filter(|missing| !missing.open).map(|missing| missing.again_ms).min();
        host.wake_at(delayed.into_iter().chain(probe).min());
    }

    // === settings ===

    pub(super) fn configure(&mut self, name: &str, tuning: Tuning, host: &mut dyn Host) -> bool {
        let known = self.by_key.contains_key(&*format!("q:{name}"));
        let index = self.add_line(Kind::Queue, name, tuning.clone());
        let entry = &mut self.lines[index];
        let changed = !known || !entry.configured || entry.line.tuning != tuning;
        let reordered = entry.line.tuning.fifo != tuning.fifo;
        let waiting = if reordered { entry.line.drain() } else { Vec::new() };
        entry.line.tuning = tuning;
        entry.configured = true;
        let now = host.now().unix_ms;
        for job in waiting {
            self.lines[index].line.push(job, false, now);
        }
        if changed {
            let kind = if self.lines[index].line.tuning.fifo { "fifo" } else { "standard" };
            let concurrency = self.lines[index].line.tuning.slots;
            tracing::info!(queue = name, r#type = kind, concurrency, "Started function queue consumer");
        }
        self.pump(index, host);
        changed
    }
}

/// Whether the engine says that nobody provides the target, rather than its handler that something else is missing.
fn is_missing(failure: &Failure, target: &Target) -> bool {
    failure.code == "function_not_found"
        && failure.message.starts_with("Function ")
        && failure.message["Function ".len()..].starts_with(&*target.function_id)
}

impl BuiltIn for Queue {
    fn hand_over(&mut self, _: &mut dyn Host) -> Option<Box<dyn Any>> {
        for entry in &mut self.lines {
            entry.line.interrupt();
            entry.triggers.clear();
            entry.configured = false;
        }
        Some(Box::new(Legacy {
            lines: std::mem::take(&mut self.lines),
            by_key: std::mem::take(&mut self.by_key),
            by_name: std::mem::take(&mut self.by_name),
            storing: std::mem::take(&mut self.storing),
            tickets: self.tickets,
            durable: self.disk.is_some(),
        }))
    }

    /// QUEUE-120, QUEUE-DB-8: messages stay, whatever changes around them.
    fn take_over(&mut self, legacy: Box<dyn Any>, _: &mut dyn Host) {
        let Ok(legacy) = legacy.downcast::<Legacy>() else { return };
        self.inherited = legacy.durable == self.disk.is_some();
        (self.lines, self.by_key, self.by_name) = (legacy.lines, legacy.by_key, legacy.by_name);
        (self.storing, self.tickets) = (legacy.storing, legacy.tickets);
    }

    fn start(&mut self, host: &mut dyn Host) {
        if !self.inherited
            && let Err(error) = self.restore(host)
        {
            // Going on would accept messages while older ones can't be read.
            tracing::error!("iii-queue cannot read its store: {error}");
            std::process::exit(1);
        }
        let queues = self.setup.settings.queue_configs.clone();
        for (name, settings) in &queues {
            if host.home_of(key_of(name)) == host.shard() {
                self.configure(name, Tuning::of_queue(settings), host);
            }
        }
    }

    fn call(&mut self, call: Call, host: &mut dyn Host) {
        let which = Which::of_index(call.function);
        let outcome = match which {
            Which::Enqueue => self.enqueue(&call, host),
            Which::Publish => self.publish(&call, host),
            _ => self.administer(which, &call, host),
        };
        if let Err(failure) = outcome {
            host.answer(call.id, Err(&failure));
        }
    }

    fn answer(&mut self, token: Token, outcome: Outcome, host: &mut dyn Host) {
        if let Some(delivery) = self.deliveries.remove(&token) {
            self.ended(&delivery, outcome, host);
        }
    }

    fn trigger_added(&mut self, trigger: Arc<Binding>, host: &mut dyn Host) {
        let config: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(&trigger.config).unwrap_or_default();
        let text = |name: &str| config.get(name).and_then(serde_json::Value::as_str).filter(|text| !text.is_empty());
        let Some(topic) = text("topic").or_else(|| text("queue")) else {
            tracing::warn!(trigger = &*trigger.id, "a durable subscription without a topic does nothing");
            return;
        };
        if host.home_of(key_of(topic)) != host.shard() {
            return;
        }
        let target = Target { namespace: (&*trigger.namespace).into(), function_id: (&*trigger.function_id).into() };
        let tuning = Tuning::of_trigger(&config, &self.setup.builtin);
        let index = self.add_line(Kind::Destination(target.clone()), topic, tuning.clone());
        let first = self.lines[index].triggers.is_empty() && self.lines[index].line.is_empty();
        self.lines[index].triggers.push(Trigger {
            id: trigger.id.clone(),
            owned: trigger.registrant.is_some(),
            tuning,
            condition: text("condition_function_id").map(Into::into),
            metadata: trigger.metadata.as_deref().map(Into::into),
        });
        self.lines[index].retire_at = None;
        self.retune(index, host);
        tracing::info!("[REGISTERED] Subscription {topic} → {}", trigger.function_id);
        if first {
            self.remember(index);
        }
        self.release_held(topic, index, host);
        self.present(&target, host);
        self.pump(index, host);
    }

    fn trigger_removed(&mut self, trigger: &Binding, host: &mut dyn Host) {
        for index in 0..self.lines.len() {
            let triggers = &mut self.lines[index].triggers;
            let Some(place) = triggers.iter().position(|known| known.id == trigger.id) else { continue };
            let known = triggers.remove(place);
            // Whoever registered it has left, rather than ended it: the registrant is no longer named (QUEUE-DB-4).
            let left = known.owned && trigger.registrant.is_none();
            if triggers.is_empty() {
                let after = if left { SUBSCRIPTION_TTL_MS } else { RETIRE_MS };
                self.lines[index].retire_at = Some(host.now().unix_ms + after);
            }
            self.retune(index, host);
        }
    }

    fn message(&mut self, message: Box<dyn Any + Send>, host: &mut dyn Host) {
        let Ok(letter) = message.downcast::<Letter>() else { return };
        match *letter {
            Letter::Stored(ticket, outcome) => self.stored(ticket, outcome, host),
            Letter::Refilled { line, records, end } => {
                let jobs = records.iter().filter_map(|(seq, record)| Job::of_record(*seq, record)).collect();
                self.lines[line].line.refill(jobs, end, host.now().unix_ms);
                match self.subscriber_of_held(line) {
                    Some((topic, to)) => {
                        self.release_held(&topic, to, host);
                        self.pump(to, host);
                    }
                    None => self.pump(line, host),
                }
            }
            Letter::Counted { line, seqs, until, more } => {
                let entry = &mut self.lines[line];
                let ahead = seqs.iter().filter(|seq| **seq >= entry.line.cursor).count();
                if entry.line.uncounted {
                    entry.line.on_disk += ahead as u64;
                }
                if let (true, Some(last), Some(disk)) = (more, seqs.last(), &self.disk) {
                    disk.count(line, &entry.key, last + 1, until);
                }
            }
            Letter::Ask { from, ticket, what } => {
                let rows = self.rows(what);
                host.post(from, Box::new(Letter::Rows { ticket, rows }));
            }
            Letter::Rows { ticket, rows } => self.gathered(ticket, rows, host),
        }
    }

    fn timer(&mut self, host: &mut dyn Host) {
        let now = host.now().unix_ms;
        self.probe(host);
        for index in 0..self.lines.len() {
            if self.lines[index].line.due_ms().is_some_and(|due| due <= now) {
                self.pump(index, host);
            }
        }
        self.schedule(host);
    }
}
