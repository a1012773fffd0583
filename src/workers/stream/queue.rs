//! What waits to be done to one group, in the order it came.
//!
//! A custom provider answers later, so an operation may be under way while others wait. Reads that nothing but reads
//! precede run side by side; everything else runs alone, one after the other (decision 16).

use super::letter::Ticket;
use super::operation::{Operation, Origin};
use iii_shards::builtin::{Outcome, Token};
use iii_shards::ids::ShardId;
use std::collections::VecDeque;

/// Something to be done.
#[derive(Debug)]
pub enum Task {
    /// A call.
    Call(Operation, Origin),
    /// A subscription: read, then have its shard told of what follows.
    Join {
        /// Its shard.
        from: ShardId,
        /// The subscription.
        ticket: Ticket,
        /// One item, or all.
        item: Option<Box<str>>,
    },
    /// No subscription is left on this shard.
    Unwatch(ShardId),
}

/// What a custom provider is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// To do the task itself.
    Task,
    /// The value that operations will be applied to (STREAM-DB-7).
    Value,
    /// To store what came of them.
    Store {
        /// The value before.
        old: Option<Vec<u8>>,
        /// Operations that had no effect, as JSON.
        errors: Option<Vec<u8>>,
    },
}

/// How far a task is.
#[derive(Debug)]
pub enum Step {
    /// Nobody has been asked.
    New,
    /// A provider has been asked.
    Asked(Token, Question),
    /// It has answered.
    Answered(Question, Outcome),
}

/// A task and how far it is.
#[derive(Debug)]
pub struct Entry {
    /// What.
    pub task: Task,
    /// How far.
    pub step: Step,
}

impl Entry {
    fn is_read(&self) -> bool {
        matches!(self.task, Task::Call(Operation::Get { .. } | Operation::List, _))
    }
}

/// The tasks of a group.
#[derive(Debug, Default)]
pub struct Queue {
    entries: VecDeque<Entry>,
    /// A provider has the stream, as far as is known: whoever is asked must have waited for their turn.
    pub custom: bool,
}

impl Queue {
    /// Adds a task at the end.
    pub fn push(&mut self, task: Task, step: Step) {
        self.entries.push_back(Entry { task, step });
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Notes an answer.
    pub fn answer(&mut self, token: Token, outcome: Outcome) {
        let asked = |entry: &&mut Entry| matches!(&entry.step, Step::Asked(asked, _) if *asked == token);
        if let Some(entry) = self.entries.iter_mut().find(asked)
            && let Step::Asked(_, question) = std::mem::replace(&mut entry.step, Step::New)
        {
            entry.step = Step::Answered(question, outcome);
        }
    }

    /// Takes the next task whose turn it is, with its place, unless all such are waiting for a provider.
    pub fn take_ready(&mut self) -> Option<(usize, Entry)> {
        let mut place = 0;
        while let Some(entry) = self.entries.get(place) {
            if place > 0 && !entry.is_read() {
                return None;
            }
            if !matches!(entry.step, Step::Asked(..)) {
                return self.entries.remove(place).map(|entry| (place, entry));
            }
            if !entry.is_read() {
                return None;
            }
            place += 1;
        }
        None
    }

    /// Puts a task back that has to wait for an answer.
    pub fn put_back(&mut self, place: usize, entry: Entry) {
        self.entries.insert(place, entry);
    }
}
