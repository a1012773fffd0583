//! Messages of other threads for built-in workers: one box per data shard, and the wake that goes with it.

use super::uring::EventFd;
use crate::builtin::{BuiltInId, Post};
use crate::ids::ShardId;
use crossbeam_channel::{Receiver, Sender};
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A message and the built-in worker it is for.
type Letter = (BuiltInId, Box<dyn Any + Send>);

struct Letterbox {
    sender: Sender<Letter>,
    receiver: Receiver<Letter>,
    /// The shard has been told that there is something.
    flag: AtomicBool,
}

/// The letterboxes of all data shards.
pub(crate) struct PostOffice {
    boxes: Box<[Letterbox]>,
    wakers: Arc<[EventFd]>,
}

impl PostOffice {
    #[allow(clippy::disallowed_methods, reason = "whoever posts bounds what it has under way; a shard must not wait")]
    pub fn new(wakers: Arc<[EventFd]>) -> PostOffice {
        let letterbox = |_| {
            let (sender, receiver) = crossbeam_channel::unbounded();
            Letterbox { sender, receiver, flag: AtomicBool::new(false) }
        };
        PostOffice { boxes: (0..wakers.len()).map(letterbox).collect(), wakers }
    }

    /// Takes what has been posted to a shard. Only that shard asks.
    pub fn collect(&self, shard: usize, mut each: impl FnMut(BuiltInId, Box<dyn Any + Send>)) {
        let letterbox = &self.boxes[shard];
        // A letter behind this line raises the flag again, and the shard comes back.
        if letterbox.flag.load(Ordering::Relaxed) && letterbox.flag.swap(false, Ordering::AcqRel) {
            for (worker, message) in letterbox.receiver.try_iter() {
                each(worker, message);
            }
        }
    }
}

impl Post for PostOffice {
    fn post(&self, shard: ShardId, worker: BuiltInId, message: Box<dyn Any + Send>) {
        let Some(letterbox) = self.boxes.get(shard.index()) else { return };
        if letterbox.sender.send((worker, message)).is_ok() && !letterbox.flag.swap(true, Ordering::AcqRel) {
            self.wakers[shard.index()].signal();
        }
    }
}
