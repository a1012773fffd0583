//! A worker says that it was another connection before (PROTO-46).
//!
//! What is known of that connection comes from its home shard, and may still be on its way when its successor has
//! already spoken up on another. So of an unknown worker every shard is asked for an echo, which lies behind all it
//! had said. Those that come meanwhile wait for the next round: however many return at once to an engine that has
//! been restarted, one round of echoes is under way.

use super::Control;
use super::report::Command;
use crate::ids::{ConnectionId, ShardId};
use uuid::Uuid;

/// A worker that left a moment ago.
pub(super) struct Lost {
    pub connection: ConnectionId,
    pub token: Uuid,
    pub until_ms: u64,
}

/// What a new connection says of itself.
struct Reattach {
    connection: ConnectionId,
    previous: Uuid,
    token: Uuid,
}

/// Reattaches of workers that are not known, or not yet.
#[derive(Default)]
pub(super) struct Reattaches {
    /// Decided when all echoes are here.
    waiting: Vec<Reattach>,
    /// Decided after the round after that.
    next: Vec<Reattach>,
    /// Echoes still to come.
    echoes: usize,
}

impl Control {
    /// Whatever does not match is ignored in silence; the connection goes on as a new one.
    pub(super) fn handle_reattach(&mut self, connection: ConnectionId, previous: Uuid, token: Uuid) {
        let reattach = Reattach { connection, previous, token };
        if self.by_worker_id.contains_key(&previous) || self.lost.contains_key(&previous) {
            return self.decide(&reattach);
        }
        self.reattaches.next.push(reattach);
        if self.reattaches.echoes == 0 {
            self.ask_for_echoes();
        }
    }

    fn ask_for_echoes(&mut self) {
        self.reattaches.waiting = std::mem::take(&mut self.reattaches.next);
        self.reattaches.echoes = self.settings.shards;
        for shard in 0..self.settings.shards {
            self.command(ShardId(shard as u16), Command::Echo);
        }
    }

    /// A shard has said all that it had to say when it was asked.
    pub(super) fn handle_echo(&mut self) {
        self.reattaches.echoes -= 1;
        if self.reattaches.echoes > 0 {
            return;
        }
        for reattach in std::mem::take(&mut self.reattaches.waiting) {
            self.decide(&reattach);
        }
        if !self.reattaches.next.is_empty() {
            self.ask_for_echoes();
        }
    }

    fn decide(&mut self, reattach: &Reattach) {
        let Reattach { connection, previous, token } = *reattach;
        let live = self
            .by_worker_id
            .get(&previous)
            .copied()
            .filter(|old| *old != connection && self.workers.get(old).is_some_and(|worker| worker.token == token));
        if let Some(old) = live {
            return self.command(old.shard, Command::Evict { connection: old, successor: connection });
        }
        if let Some(lost) = self.lost.get(&previous).filter(|lost| lost.token == token && lost.until_ms > self.now.ms) {
            let old = lost.connection;
            self.lost.remove(&previous);
            self.command(old.shard, Command::HandOver { lost: old, successor: connection });
        }
        self.command(connection.shard, Command::OpenGate { connection });
    }
}
