//! What other threads would post to built-in workers.

#![allow(clippy::disallowed_types, reason = "no shard runs in a test's threads")]

use crate::builtin::{BuiltInId, Post};
use crate::ids::ShardId;
use std::any::Any;
use std::sync::Mutex;

type Letter = (ShardId, BuiltInId, Box<dyn Any + Send>);

/// Letters not yet delivered.
#[derive(Default)]
pub(super) struct Letters(Mutex<Vec<Letter>>);

impl Letters {
    /// Takes those for a shard, in order.
    pub fn take(&self, shard: ShardId) -> Vec<(BuiltInId, Box<dyn Any + Send>)> {
        let mut all = self.0.lock().expect("nobody panics with the lock held");
        let (own, others) = std::mem::take(&mut *all).into_iter().partition(|(to, ..)| *to == shard);
        *all = others;
        let own: Vec<Letter> = own;
        own.into_iter().map(|(_, worker, message)| (worker, message)).collect()
    }
}

impl Post for Letters {
    fn post(&self, shard: ShardId, worker: BuiltInId, message: Box<dyn Any + Send>) {
        self.0.lock().expect("nobody panics with the lock held").push((shard, worker, message));
    }
}
