//! What the instances of different shards say to each other.
//!
//! Letters from one shard to another arrive in the order sent. So the events of a group reach each shard in the order
//! of its operations, and a sync comes exactly between the events it contains and those it does not (STREAM-DB-3).

use super::name::GroupName;
use iii_shards::ids::ShardId;
use std::sync::Arc;

/// A subscription, as its shard knows it, and which of its requests this is. A stale one is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ticket {
    /// Slot of the subscription.
    pub slot: u32,
    /// Counts requests; no number is used twice.
    pub number: u64,
}

/// A letter.
#[derive(Debug)]
pub enum Letter {
    /// To a group's home: a subscription wants the state, and from then on its shard the events.
    Join {
        /// The shard of the subscription.
        from: ShardId,
        /// The subscription.
        ticket: Ticket,
        /// The group.
        group: Arc<GroupName>,
        /// One item of it, or all.
        item: Option<Box<str>>,
    },
    /// To a group's home: this shard has no subscription of the group any more.
    Unwatch {
        /// The shard.
        from: ShardId,
        /// The group.
        group: Arc<GroupName>,
    },
    /// From a group's home: the state that was asked for; `None` = it could not be read.
    Synced {
        /// The subscription.
        ticket: Ticket,
        /// A complete frame.
        frame: Option<Arc<[u8]>>,
    },
    /// From a group's home: something has happened.
    Event {
        /// The group.
        group: Arc<GroupName>,
        /// The item, if it is about one.
        item: Option<Arc<str>>,
        /// A complete frame.
        frame: Arc<[u8]>,
    },
    /// From a group's home: events were left out; every subscription of the group needs the state anew.
    Missed {
        /// The group.
        group: Arc<GroupName>,
    },
    /// To a group's home: so many events of yours have been dealt with.
    Taken {
        /// The shard that has.
        from: ShardId,
        /// How many.
        events: u32,
        /// Bytes of their frames.
        bytes: usize,
    },
    /// To every instance: which groups have items?
    WhichGroups {
        /// Who asks.
        from: ShardId,
        /// Number of the question.
        question: u64,
        /// Of this stream only.
        stream: Option<Arc<str>>,
    },
    /// The answer.
    Groups {
        /// Number of the question.
        question: u64,
        /// Groups of one shard.
        groups: Vec<Arc<GroupName>>,
    },
}

/// Letters written in one turn, in order, and the shards they are for.
pub type Outgoing = Vec<(ShardId, Letter)>;
