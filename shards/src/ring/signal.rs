//! Who has something for me, and am I asleep: wakes a thread at most once per sleep.
//!
//! The sleeper sets its flag, then looks at its mask; a sender sets its bit, then looks at the flag. A sequentially
//! consistent fence stands between the two in both, so at least one sees the other: no wake is missed.

use super::sync::{AtomicBool, AtomicU64, Ordering, fence};
use crossbeam_utils::CachePadded;

/// Words of the mask: 64 data shards and the control shard.
const WORDS: usize = 2;

/// The signal of one thread.
#[derive(Default)]
pub struct Signal {
    mask: [CachePadded<AtomicU64>; WORDS],
    sleeping: CachePadded<AtomicBool>,
}

impl Signal {
    /// Says that `peer` has pushed something. Returns whether the caller must now wake the thread.
    #[inline]
    pub fn notify(&self, peer: usize) -> bool {
        // Release pairs with the Acquire in `take`: what was pushed is visible before the bit is.
        self.mask[peer / 64].fetch_or(1 << (peer % 64), Ordering::Release);
        fence(Ordering::SeqCst);
        self.sleeping.load(Ordering::Relaxed) && self.sleeping.swap(false, Ordering::AcqRel)
    }

    /// Takes the set of peers that have pushed something.
    #[inline]
    pub fn take(&self) -> [u64; WORDS] {
        // The last word first: control's bit is in it when all others are data shards', and whoever has seen what
        // control says must also see what it says it after.
        let mut words = [0; WORDS];
        for word in (0..WORDS).rev() {
            // A plain look first: the line stays shared while nobody writes it.
            if self.mask[word].load(Ordering::Relaxed) != 0 {
                words[word] = self.mask[word].swap(0, Ordering::Acquire);
            }
        }
        words
    }

    /// The thread is about to sleep. `false` = it must not, something has come.
    pub fn prepare_sleep(&self) -> bool {
        self.sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.mask.iter().any(|word| word.load(Ordering::Relaxed) != 0) {
            self.sleeping.store(false, Ordering::Relaxed);
            return false;
        }
        true
    }

    /// The thread is awake again.
    pub fn woke(&self) {
        self.sleeping.store(false, Ordering::Relaxed);
    }
}

/// The peers in a mask.
pub fn peers(mask: [u64; WORDS]) -> impl Iterator<Item = usize> {
    mask.into_iter().enumerate().flat_map(|(word, mut bits)| {
        std::iter::from_fn(move || {
            let bit = bits.trailing_zeros() as usize;
            bits &= bits.checked_sub(1)?;
            Some(word * 64 + bit)
        })
    })
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn wakes_once_per_sleep() {
        let signal = Signal::default();
        assert!(!signal.notify(3));
        assert!(!signal.prepare_sleep(), "something has come");
        assert_eq!(peers(signal.take()).collect::<Vec<_>>(), [3]);
        assert!(signal.prepare_sleep());
        assert!(signal.notify(64));
        assert!(!signal.notify(5));
        assert_eq!(peers(signal.take()).collect::<Vec<_>>(), [5, 64]);
        assert_eq!(peers(signal.take()).count(), 0);
    }
}
