//! Deadlines of one shard, in one coarse wheel: few wake-ups, nothing armed per call or connection in the kernel.

use crate::ids::ConnectionId;
use std::collections::BTreeMap;
use uuid::Uuid;

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timer {
    /// The upgrade request must be complete.
    Handshake(ConnectionId),
    /// The namespace grace ends (PROTO-43).
    Grace(ConnectionId),
    /// Look whether the peer is alive and reading.
    Liveness(ConnectionId),
    /// A closing socket has lingered enough.
    Linger(ConnectionId),
    /// A lost connection was not reattached in time.
    Ghost(ConnectionId),
    /// A call has run too long.
    Call(ConnectionId, Uuid),
    /// Look for channels of which an end never came.
    ChannelSweep,
}

/// Timers by due tick.
#[derive(Default)]
pub struct Timers {
    ticks: BTreeMap<u64, Vec<Timer>>,
}

impl Timers {
    /// Adds a timer. `coarse` ones may be up to a second late so that many fall together.
    pub fn add(&mut self, due_ms: u64, coarse: bool, timer: Timer) {
        let grain = if coarse { 1000 } else { 10 };
        self.ticks.entry(due_ms.next_multiple_of(grain)).or_default().push(timer);
    }

    /// When the next is due.
    pub fn next_ms(&self) -> Option<u64> {
        self.ticks.first_key_value().map(|(due, _)| *due)
    }

    /// Takes the timers of the next due tick.
    pub fn pop_due(&mut self, now_ms: u64) -> Option<Vec<Timer>> {
        let entry = self.ticks.first_entry()?;
        (*entry.key() <= now_ms).then(|| entry.remove())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ShardId;

    #[test]
    fn fires_in_order_and_never_early() {
        let id = ConnectionId { shard: ShardId(0), slot: 1, generation: 0 };
        let mut timers = Timers::default();
        timers.add(1_500, true, Timer::Liveness(id));
        timers.add(205, false, Timer::Grace(id));
        assert_eq!(timers.next_ms(), Some(210));
        assert_eq!(timers.pop_due(209), None);
        assert_eq!(timers.pop_due(210), Some(vec![Timer::Grace(id)]));
        assert_eq!(timers.pop_due(1_999), None);
        assert_eq!(timers.pop_due(5_000), Some(vec![Timer::Liveness(id)]));
        assert_eq!(timers.next_ms(), None);
    }
}
