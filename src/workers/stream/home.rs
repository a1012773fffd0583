//! The groups that live on this shard: their items, what is done to them, and who is told of it.
//!
//! Every operation of a group passes here one after the other, and what follows from it (events for sockets on any
//! shard, triggers, the answer) leaves in the same order. Deliberately absent: sockets; see [`super::browsers`].

use super::event::{Event, Message, frame};
use super::items::Items;
use super::letter::{Letter, Outgoing, Ticket};
use super::name::GroupName;
use super::operation::{Kind, Operation, Origin};
use super::queue::{Entry, Question, Queue, Step, Task};
use super::watch::{Watches, note_ended};
use super::{PROVIDER_TIMEOUT_MS, answers, limits};
use iii_shards::builtin::firing::{Firing, Run};
use iii_shards::builtin::{Call, Failure, Host, Outcome, OutgoingCall, Token};
use iii_shards::ids::ShardId;
use iii_shards::registry::DEFAULT_NAMESPACE;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

/// Streams whose events must not be traced: they carry traces (STREAM-73).
const UNTRACED_PREFIX: &str = "iii:devtools:";

/// The groups of this shard.
#[derive(Default)]
pub struct Home {
    groups: HashMap<Arc<GroupName>, Group>,
    asked: HashMap<Token, Arc<GroupName>>,
    watches: Watches,
    firing: Firing<()>,
    links: HashMap<ShardId, Link>,
}

/// One group. Lives as long as it has items, tasks or subscriptions.
struct Group {
    name: Arc<GroupName>,
    items: Items,
    queue: Queue,
    /// Shards with subscriptions, a bit each.
    watchers: u64,
    /// Those of them that missed an event and have not been told yet.
    behind: u64,
}

/// Events under way to another shard.
#[derive(Default)]
struct Link {
    events: usize,
    bytes: usize,
    /// Events were left out.
    overrun: bool,
}

impl Home {
    /// One of the functions that work on one group is called.
    pub fn call(&mut self, kind: Kind, call: &Call, host: &mut dyn Host, out: &mut Outgoing) {
        match Operation::parse(kind, &call.data) {
            Ok((name, operation)) => self.add(Arc::new(name), Task::Call(operation, Origin::of(call)), host, out),
            Err(detail) => host.answer(call.id, Err(&answers::unfit(kind.function_id(), &detail))),
        }
    }

    /// A subscription wants the state of its group, and what follows.
    pub fn join(
        &mut self,
        (from, ticket): (ShardId, Ticket),
        group: Arc<GroupName>,
        item: Option<Box<str>>,
        host: &mut dyn Host,
        out: &mut Outgoing,
    ) {
        self.add(group, Task::Join { from, ticket, item }, host, out);
    }

    /// A shard has no subscription of a group any more.
    pub fn unwatch(&mut self, from: ShardId, group: Arc<GroupName>, host: &mut dyn Host, out: &mut Outgoing) {
        self.add(group, Task::Unwatch(from), host, out);
    }

    /// A shard has dealt with events.
    pub fn taken(&mut self, from: ShardId, events: u32, bytes: usize, out: &mut Outgoing) {
        let Some(link) = self.links.get_mut(&from) else { return };
        link.events = link.events.saturating_sub(events as usize);
        link.bytes = link.bytes.saturating_sub(bytes);
        let relieved = link.events <= limits::LINK_EVENTS_MAX / 2 && link.bytes <= limits::LINK_BYTES_MAX / 2;
        if link.overrun && relieved {
            link.overrun = false;
            let bit = 1 << from.index();
            for group in self.groups.values_mut().filter(|group| group.behind & bit != 0) {
                group.behind &= !bit;
                out.push((from, Letter::Missed { group: group.name.clone() }));
            }
        }
    }

    /// The groups that have items, of one stream or of all.
    pub fn groups(&self, stream: Option<&str>) -> Vec<Arc<GroupName>> {
        let wanted =
            |group: &&Group| !group.items.is_empty() && stream.is_none_or(|stream| *group.name.stream == *stream);
        self.groups.values().filter(wanted).map(|group| group.name.clone()).collect()
    }

    /// The `stream` triggers.
    pub fn watches(&mut self) -> &mut Watches {
        &mut self.watches
    }

    /// Takes an answer; gives it back if the call was not made here.
    pub fn answer(
        &mut self,
        token: Token,
        outcome: Outcome,
        host: &mut dyn Host,
        out: &mut Outgoing,
    ) -> Result<(), Outcome> {
        if let Some(name) = self.asked.remove(&token) {
            if let Some(group) = self.groups.get_mut(&name) {
                group.queue.answer(token, outcome);
            }
            self.work(&name, host, out);
            return Ok(());
        }
        let taken = self.firing.answer(host, token, outcome);
        note_ended(&mut self.firing);
        taken
    }

    /// The items, for an instance with other settings. Everything that was under way has ended; subscriptions come
    /// again.
    pub fn inherited(self) -> Home {
        let mut groups = self.groups;
        groups.retain(|_, group| !group.items.is_empty());
        for group in groups.values_mut() {
            (group.queue, group.watchers, group.behind) = (Queue::default(), 0, 0);
        }
        Home { groups, ..Home::default() }
    }

    // === tasks ===

    fn add(&mut self, name: Arc<GroupName>, task: Task, host: &mut dyn Host, out: &mut Outgoing) {
        let group = self.groups.entry(name.clone()).or_insert_with(|| Group {
            name: name.clone(),
            items: Items::default(),
            queue: Queue::default(),
            watchers: 0,
            behind: 0,
        });
        // Most streams have no provider: whether this one has is asked at once, so that those who wait are not held
        // up by one question after the other.
        let mut step = Step::New;
        if !group.queue.custom
            && let Some((function_id, payload)) = question(&name, &task)
        {
            let token = ask(&function_id, &payload, host);
            self.asked.insert(token, name.clone());
            step = Step::Asked(token, Question::Task);
        }
        group.queue.push(task, step);
        self.work(&name, host, out);
    }

    /// Does what can be done.
    fn work(&mut self, name: &Arc<GroupName>, host: &mut dyn Host, out: &mut Outgoing) {
        let Some(mut group) = self.groups.remove(name) else { return };
        while let Some((place, entry)) = group.queue.take_ready() {
            let Entry { task, step } = entry;
            let next = match step {
                Step::New => question(name, &task).map(|(id, payload)| (id, payload, Question::Task)),
                Step::Answered(question, outcome) => self.answered(&mut group, &task, question, outcome, host, out),
                Step::Asked(..) => None,
            };
            match next {
                Some((function_id, payload, question)) => {
                    let token = ask(&function_id, &payload, host);
                    self.asked.insert(token, name.clone());
                    group.queue.put_back(place, Entry { task, step: Step::Asked(token, question) });
                }
                // Nobody was to be asked.
                None if question(name, &task).is_none() => self.perform(&mut group, &task, host, out),
                None => {}
            }
        }
        if !group.queue.is_empty() || !group.items.is_empty() || group.watchers != 0 {
            self.groups.insert(name.clone(), group);
        }
    }

    /// A provider has answered, or there is none. Returns what is to be asked next, if anything.
    fn answered(
        &mut self,
        group: &mut Group,
        task: &Task,
        asked: Question,
        outcome: Outcome,
        host: &mut dyn Host,
        out: &mut Outgoing,
    ) -> Option<(String, Vec<u8>, Question)> {
        let (operation, origin) = match task {
            Task::Call(operation, origin) => (operation, origin),
            Task::Join { item, .. } => {
                let op = if item.is_some() { "get" } else { "list" };
                let missing = is_missing(&outcome, &provider_id(op, &group.name));
                group.queue.custom = !missing;
                match missing {
                    true => self.perform(group, task, host, out),
                    false => synced(group, task, outcome.as_deref().ok(), host, out),
                }
                return None;
            }
            Task::Unwatch(_) => return None,
        };
        let kind = operation.kind();
        match asked {
            Question::Task if is_missing(&outcome, &provider_id(op_name(kind), &group.name)) => {
                if let Operation::Update { item, .. } = operation {
                    let get = Operation::Get { item: item.clone() };
                    return Some((provider_id("get", &group.name), get.payload(&group.name), Question::Value));
                }
                group.queue.custom = false;
                self.perform(group, task, host, out);
            }
            Question::Task => {
                group.queue.custom = true;
                match answers::from_provider(kind, outcome) {
                    Ok(change) => {
                        host.answer(origin.call, Ok(&change.answer));
                        self.publish_change(group, operation, &change, origin, host, out);
                    }
                    Err(failure) => host.answer(origin.call, Err(&failure)),
                }
            }
            Question::Value => {
                if is_missing(&outcome, &provider_id("get", &group.name)) {
                    group.queue.custom = false;
                    self.perform(group, task, host, out);
                    return None;
                }
                group.queue.custom = true;
                let Operation::Update { item, ops } = operation else { return None };
                match outcome {
                    Ok(old) => {
                        let old = Some(old).filter(|old| !answers::is_nothing(old));
                        let updated = answers::update(old.as_deref(), ops);
                        let set = Operation::Set { item: item.clone(), value: updated.value.into() };
                        let store = Question::Store { old, errors: updated.errors };
                        return Some((provider_id("set", &group.name), set.payload(&group.name), store));
                    }
                    Err(failure) => host.answer(origin.call, Err(&answers::of_provider(kind, &failure))),
                }
            }
            Question::Store { old, errors } => match answers::from_provider(Kind::Set, outcome) {
                Ok(mut change) => {
                    change.answer = answers::changed(old.as_deref(), change.value.as_deref(), errors.as_deref());
                    host.answer(origin.call, Ok(&change.answer));
                    self.publish_change(group, operation, &change, origin, host, out);
                }
                Err(failure) => host.answer(origin.call, Err(&answers::as_update(failure))),
            },
        }
        None
    }

    /// Does a task in our own storage.
    fn perform(&mut self, group: &mut Group, task: &Task, host: &mut dyn Host, out: &mut Outgoing) {
        let (operation, origin) = match task {
            Task::Call(operation, origin) => (operation, origin),
            Task::Join { item, .. } => {
                let state = match item {
                    Some(item) => group.items.get(item).unwrap_or(b"null").to_vec(),
                    None => group.items.list(),
                };
                return synced(group, task, Some(&state), host, out);
            }
            Task::Unwatch(from) => {
                group.watchers &= !(1 << from.index());
                group.behind &= group.watchers;
                return;
            }
        };
        let call = origin.call;
        match operation {
            Operation::Get { item } => host.answer(call, Ok(group.items.get(item).unwrap_or_default())),
            Operation::List => host.answer(call, Ok(&group.items.list())),
            Operation::Set { item, value } => {
                let old = group.items.set(item, value.clone());
                host.answer(call, Ok(&answers::changed(old.as_deref(), Some(value), None)));
                let event = if old.is_some() { Event::Update(value) } else { Event::Create(value) };
                self.publish(group, Some(item), event, origin, host, out);
            }
            Operation::Update { item, ops } => {
                let updated = answers::update(group.items.get(item), ops);
                let value: Box<[u8]> = updated.value.into();
                let old = group.items.set(item, value.clone());
                host.answer(call, Ok(&answers::changed(old.as_deref(), Some(&value), updated.errors.as_deref())));
                let event = if old.is_some() { Event::Update(&value) } else { Event::Create(&value) };
                self.publish(group, Some(item), event, origin, host, out);
            }
            Operation::Delete { item } => {
                let old = group.items.remove(item);
                host.answer(call, Ok(&answers::removed(old.as_deref())));
                if let Some(old) = old {
                    self.publish(group, Some(item), Event::Delete(&old), origin, host, out);
                }
            }
            Operation::Send { kind, item, data } => {
                host.answer(call, Ok(b"null"));
                self.publish(group, item.as_deref(), Event::Sent { kind, data }, origin, host, out);
            }
        }
    }

    // === events ===

    fn publish_change(
        &mut self,
        group: &mut Group,
        operation: &Operation,
        change: &answers::Change,
        origin: &Origin,
        host: &mut dyn Host,
        out: &mut Outgoing,
    ) {
        let (Operation::Set { item, .. } | Operation::Update { item, .. } | Operation::Delete { item }) = operation
        else {
            return;
        };
        let Some(event) = change.event() else { return };
        self.publish(group, Some(item), event, origin, host, out);
    }

    fn publish(
        &mut self,
        group: &mut Group,
        item: Option<&str>,
        event: Event<'_>,
        origin: &Origin,
        host: &mut dyn Host,
        out: &mut Outgoing,
    ) {
        let name = group.name.clone();
        let mut targets = self.watches.matching(&name.stream, Some(&name.group), item).peekable();
        if group.watchers == 0 && targets.peek().is_none() {
            return;
        }
        let text = Message::new(host.now().unix_ms, &name, item, event).text();
        if group.watchers != 0 {
            spread(&mut self.links, group, item, frame(&text), host.shard(), out);
        }
        let text: Rc<[u8]> = text.into();
        let traced = !name.stream.starts_with(UNTRACED_PREFIX);
        for target in targets {
            let run = Run {
                traceparent: origin.traceparent.as_deref().filter(|_| traced),
                baggage: origin.baggage.as_deref().filter(|_| traced),
                timeout_ms: Some(PROVIDER_TIMEOUT_MS),
                tracked: false,
                ordered: true,
                ..Run::new(&text)
            };
            self.firing.fire(host, target, &run, ());
        }
        note_ended(&mut self.firing);
    }
}

/// Sends an event to the shards that have subscriptions. One that does not keep up gets no more until it has; then
/// it is told that it missed some.
fn spread(
    links: &mut HashMap<ShardId, Link>,
    group: &mut Group,
    item: Option<&str>,
    frame: Arc<[u8]>,
    own: ShardId,
    out: &mut Outgoing,
) {
    let item: Option<Arc<str>> = item.map(Arc::from);
    let mut left = group.watchers & !group.behind;
    while left != 0 {
        let shard = ShardId(left.trailing_zeros() as u16);
        left &= left - 1;
        if shard != own {
            let link = links.entry(shard).or_default();
            if link.events >= limits::LINK_EVENTS_MAX || link.bytes >= limits::LINK_BYTES_MAX {
                link.overrun = true;
                group.behind |= 1 << shard.index();
                continue;
            }
            link.events += 1;
            link.bytes += frame.len();
        }
        out.push((shard, Letter::Event { group: group.name.clone(), item: item.clone(), frame: frame.clone() }));
    }
}

/// Answers a subscription. Its shard gets the events from here on.
fn synced(group: &mut Group, task: &Task, state: Option<&[u8]>, host: &mut dyn Host, out: &mut Outgoing) {
    let Task::Join { from, ticket, item } = task else { return };
    group.watchers |= 1 << from.index();
    let frame = state.map(|state| {
        let state: &[u8] = if state.is_empty() { b"null" } else { state };
        Message::new(host.now().unix_ms, &group.name, item.as_deref(), Event::Sync(state)).frame()
    });
    out.push((*from, Letter::Synced { ticket: *ticket, frame }));
}

// === providers ===

fn ask(function_id: &str, payload: &[u8], host: &mut dyn Host) -> Token {
    host.call(&OutgoingCall {
        timeout_ms: Some(PROVIDER_TIMEOUT_MS),
        ..OutgoingCall::new(DEFAULT_NAMESPACE, function_id, payload)
    })
}

/// Id of the function by which a worker implements an operation of a stream (STREAM-20).
fn provider_id(op: &str, name: &GroupName) -> String {
    format!("stream::{op}({})", name.stream)
}

fn op_name(kind: Kind) -> &'static str {
    kind.function_id().trim_start_matches("stream::")
}

/// Which function would do a task, and its payload. `None` = no provider is asked for such a task.
fn question(name: &GroupName, task: &Task) -> Option<(String, Vec<u8>)> {
    match task {
        Task::Unwatch(_) | Task::Call(Operation::Send { .. }, _) => None,
        Task::Call(operation, _) => Some((provider_id(op_name(operation.kind()), name), operation.payload(name))),
        Task::Join { item: Some(item), .. } => {
            Some((provider_id("get", name), Operation::Get { item: item.clone() }.payload(name)))
        }
        Task::Join { item: None, .. } => Some((provider_id("list", name), Operation::List.payload(name))),
    }
}

/// Whether an answer says that there is no such function. One inside a provider is another matter.
pub fn is_missing(outcome: &Outcome, function_id: &str) -> bool {
    matches!(outcome, Err(Failure { code, message, .. })
        if code == iii_shards::wire::codes::FUNCTION_NOT_FOUND && message.contains(function_id))
}
