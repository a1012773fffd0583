//! How many requests of a listener run at a time, over all shards (HTTP-61).
//!
//! The only thing HTTP instances share: two counters per listener, new ones with new settings. A request that finds room enters with one
//! compare-and-swap. One that finds none, or others waiting, joins the queue that the instance on shard 0 keeps, so
//! requests of all shards are let in in the order they came. Invariant: at most `limit` requests are inside; whenever
//! somebody waits and a place becomes free, the keeper is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use iii_shards::builtin::SocketId;
use iii_shards::ids::ShardId;

/// The counters of one listener.
#[derive(Debug)]
pub struct Gate {
    limit: usize,
    inside: AtomicUsize,
    waiting: AtomicUsize,
}

/// A request that waits: its connection, and which of its requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiter {
    /// Connection.
    pub socket: SocketId,
    /// Number of the request on it.
    pub sequence: u32,
}

/// What instances tell each other. Not bounded: each stands for a connection or a request of one.
#[derive(Debug, Clone)]
pub enum GateMessage {
    /// To the keeper: this request waits.
    Wait(Arc<Gate>, Waiter),
    /// To the keeper: there may be room.
    Freed(Arc<Gate>),
    /// From the keeper: the request is inside.
    Enter(Arc<Gate>, Waiter),
}

/// Where the queues are kept.
pub const KEEPER: ShardId = ShardId(0);

// === impl Gate ===

// Sequentially consistent throughout: one side counts itself as waiting and then looks for room, the other makes room
// and then looks for who waits, so one of the two must see the other.
impl Gate {
    /// A gate for this many.
    pub fn new(limit: usize) -> Gate {
        Gate { limit, inside: AtomicUsize::new(0), waiting: AtomicUsize::new(0) }
    }

    /// Enters if there is room and nobody waits.
    pub fn try_enter(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) == 0 && self.enter()
    }

    /// Counts one more that waits; the keeper is to be sent [`GateMessage::Wait`].
    pub fn wait(&self) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
    }

    /// For the keeper: lets the one that waits longest in, if there is room.
    pub fn admit(&self) -> bool {
        let entered = self.enter();
        if entered {
            self.waiting.fetch_sub(1, Ordering::SeqCst);
        }
        entered
    }

    /// Leaves. True: somebody waits, and the keeper is to be sent [`GateMessage::Freed`].
    pub fn leave(&self) -> bool {
        let before = self.inside.fetch_sub(1, Ordering::SeqCst);
        assert!(before > 0, "nobody is inside");
        self.waiting.load(Ordering::SeqCst) > 0
    }

    fn enter(&self) -> bool {
        let enter = |inside: usize| (inside < self.limit).then_some(inside + 1);
        self.inside.fetch_update(Ordering::SeqCst, Ordering::SeqCst, enter).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // HTTP-61
    #[test]
    fn whoever_comes_later_waits_behind_those_who_wait() {
        let gate = Gate::new(2);
        assert!(gate.try_enter() && gate.try_enter() && !gate.try_enter());
        gate.wait();
        assert!(!gate.admit());
        assert!(gate.leave(), "somebody waits");
        assert!(!gate.try_enter(), "there is room, but not for a newcomer");
        assert!(gate.admit());
        assert!(!gate.leave());
        assert!(gate.try_enter());
    }
}
