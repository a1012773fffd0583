//! Hot path: a bounded queue from one thread to one other.
//!
//! Owner: the producer writes `tail` and the slots before it, the consumer writes `head`. Positions only grow; a
//! slot is `position % slots`. Invariant: `head <= tail <= head + slots`. Policy when full: `try_push` hands the
//! value back and the caller decides. Deliberately absent: waiting; see `signal`.

use super::sync::{Arc, AtomicUsize, Ordering, UnsafeCell};
use crossbeam_utils::CachePadded;
use std::mem::MaybeUninit;

struct Shared<T> {
    slots: Box<[UnsafeCell<MaybeUninit<T>>]>,
    head: CachePadded<AtomicUsize>,
    tail: CachePadded<AtomicUsize>,
}

// SAFETY: the producer and the consumer are separate owners of disjoint slots, told apart by `head` and `tail`;
// values move between the threads, so they must be `Send`.
unsafe impl<T: Send> Sync for Shared<T> {}
// SAFETY: as above; dropping the shared part drops the values in it.
unsafe impl<T: Send> Send for Shared<T> {}

/// The sending end.
pub struct Producer<T> {
    shared: Arc<Shared<T>>,
    tail: usize,
    /// `head` as last seen; at least this much is free.
    head_seen: usize,
}

/// The receiving end.
pub struct Consumer<T> {
    shared: Arc<Shared<T>>,
    head: usize,
}

/// The ring had no room; the value comes back.
#[derive(Debug, PartialEq, Eq)]
pub struct Full<T>(pub T);

/// A ring of `slots` slots, a power of two.
pub fn ring<T>(slots: usize) -> (Producer<T>, Consumer<T>) {
    assert!(slots.is_power_of_two(), "ring of {slots} slots: not a power of two");
    let shared = Arc::new(Shared {
        slots: (0..slots).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect(),
        head: CachePadded::new(AtomicUsize::new(0)),
        tail: CachePadded::new(AtomicUsize::new(0)),
    });
    (Producer { shared: shared.clone(), tail: 0, head_seen: 0 }, Consumer { shared, head: 0 })
}

// === impl Producer ===

impl<T> Producer<T> {
    /// Appends a value, or gives it back if there is no room.
    #[inline]
    pub fn try_push(&mut self, value: T) -> Result<(), Full<T>> {
        let slots = self.shared.slots.len();
        if self.tail - self.head_seen == slots {
            // Acquire pairs with the Release in `pop`: the consumer is done with the slots before `head`.
            self.head_seen = self.shared.head.load(Ordering::Acquire);
            if self.tail - self.head_seen == slots {
                return Err(Full(value));
            }
        }
        self.shared.slots[self.tail & (slots - 1)].with_mut(|slot| {
            // SAFETY: `tail - head < slots`, so the consumer does not touch this slot and it holds no value.
            unsafe { (*slot).write(value) };
        });
        self.tail += 1;
        // Release pairs with the Acquire in `pop`: the slot's bytes are visible before the new tail is.
        self.shared.tail.store(self.tail, Ordering::Release);
        Ok(())
    }
}

// === impl Consumer ===

impl<T> Consumer<T> {
    /// Takes the oldest value.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        // Acquire pairs with the Release in `try_push`.
        if self.head == self.shared.tail.load(Ordering::Acquire) {
            return None;
        }
        let slots = self.shared.slots.len();
        let value = self.shared.slots[self.head & (slots - 1)].with_mut(|slot| {
            // SAFETY: `head < tail`, so the producer has initialised this slot and will not touch it before `head`
            // moves on. It is read once: `head` moves right after.
            unsafe { (*slot).assume_init_read() }
        });
        self.head += 1;
        // Release pairs with the Acquire in `try_push`: the slot has been read before it may be written again.
        self.shared.head.store(self.head, Ordering::Release);
        Some(value)
    }
}

impl<T> Drop for Consumer<T> {
    fn drop(&mut self) {
        // What the producer adds after this is leaked with the ring: both ends go when the engine does.
        while self.pop().is_some() {}
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        #[test]
        fn behaves_like_a_bounded_queue(pushes in proptest::collection::vec(any::<bool>(), 0..200)) {
            let (mut producer, mut consumer) = ring::<Box<usize>>(4);
            let mut model = VecDeque::new();
            for (value, push) in pushes.into_iter().enumerate() {
                if push {
                    let pushed = producer.try_push(Box::new(value)).is_ok();
                    prop_assert_eq!(pushed, model.len() < 4);
                    if pushed {
                        model.push_back(value);
                    }
                } else {
                    prop_assert_eq!(consumer.pop().map(|value| *value), model.pop_front());
                }
            }
        }
    }

    #[test]
    fn full_gives_the_value_back() {
        let (mut producer, mut consumer) = ring(2);
        assert_eq!(producer.try_push(1), Ok(()));
        assert_eq!(producer.try_push(2), Ok(()));
        assert_eq!(producer.try_push(3), Err(Full(3)));
        assert_eq!(consumer.pop(), Some(1));
        assert_eq!(producer.try_push(3), Ok(()));
    }

    #[test]
    fn values_left_inside_are_dropped() {
        let value = std::sync::Arc::new(());
        let (mut producer, consumer) = ring(4);
        for _ in 0..3 {
            let _ = producer.try_push(value.clone());
        }
        drop((producer, consumer));
        assert_eq!(std::sync::Arc::strong_count(&value), 1);
    }
}
