//! The calls one caller has in flight, found again by the id that comes back with the answer.
//!
//! Hot path: no allocation once the table has grown, no hashing. An id is a version 4 UUID whose last eight digits are
//! the slot, so an answer finds its call by parsing those and comparing the whole text.
//!
//! ```text
//! rrrrrrrr-rrrr-4rrr-8rrr-rrrrssssssss     r random, s slot
//! ```

/// Length of an id, in bytes of text.
pub const ID_BYTES: usize = 36;

/// Hex digits of the id that name the slot.
const SLOT_DIGITS: usize = 8;

/// The text of a hyphenated lower-case UUID.
pub type Id = [u8; ID_BYTES];

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Fixed places of the id: four hyphens, the version and the variant.
const ID_FORM: &Id = b"________-____-4___-8___-____________";

/// A call as remembered until its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    /// When latency starts to count, in ns on the run's clock: the moment the call was due.
    pub due_ns: u64,
    /// The function called, as an index into the run's functions.
    pub function: u32,
}

/// What an answer's id refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finished {
    /// This call, now closed.
    Call(Pending),
    /// A call that was already answered.
    Duplicate,
    /// Nothing this table ever sent.
    Unknown,
}

/// The calls of one caller.
#[derive(Debug)]
pub struct CallTable {
    slots: Vec<Slot>,
    free: Vec<u32>,
    slots_max: usize,
}

#[derive(Debug)]
struct Slot {
    id: Id,
    pending: Option<Pending>,
}

impl CallTable {
    /// A table that refuses more than `slots_max` calls at once. Memory grows with the calls really in flight.
    pub fn new(slots_max: usize) -> Self {
        Self { slots: Vec::new(), free: Vec::new(), slots_max }
    }

    pub fn in_flight(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub fn is_full(&self) -> bool {
        self.free.is_empty() && self.slots.len() == self.slots_max
    }

    /// Opens a call under a new id, or `None` when the table is full.
    #[inline]
    pub fn start(&mut self, pending: Pending, rng: &mut fastrand::Rng) -> Option<&Id> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.slots.len() < self.slots_max => {
                self.slots.push(Slot { id: *ID_FORM, pending: None });
                (self.slots.len() - 1) as u32
            }
            None => return None,
        };
        let entry = &mut self.slots[slot as usize];
        write_id(&mut entry.id, slot, rng);
        entry.pending = Some(pending);
        Some(&entry.id)
    }

    /// Closes the call with this id, given whole or as its last twelve or more bytes.
    #[inline]
    pub fn finish(&mut self, id: &[u8]) -> Finished {
        let Some(slot) = slot_of(id) else {
            return Finished::Unknown;
        };
        let Some(entry) = self.slots.get_mut(slot as usize) else {
            return Finished::Unknown;
        };
        if !entry.id.ends_with(id) {
            // The slot was used again since, so its earlier call had been answered.
            return Finished::Duplicate;
        }
        match entry.pending.take() {
            Some(pending) => {
                self.free.push(slot);
                Finished::Call(pending)
            }
            None => Finished::Duplicate,
        }
    }
}

fn write_id(id: &mut Id, slot: u32, rng: &mut fastrand::Rng) {
    let (a, b) = (rng.u64(..), rng.u64(..));
    write_hex(&mut id[0..8], a);
    write_hex(&mut id[9..13], a >> 32);
    write_hex(&mut id[15..18], a >> 48);
    write_hex(&mut id[20..23], b);
    write_hex(&mut id[24..28], b >> 12);
    write_hex(&mut id[28..36], u64::from(slot));
}

/// Writes the lowest digits of `value`, most significant first.
#[inline]
fn write_hex(digits: &mut [u8], mut value: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = HEX[(value & 0xF) as usize];
        value >>= 4;
    }
}

#[inline]
fn slot_of(id: &[u8]) -> Option<u32> {
    let digits = id.get(id.len().checked_sub(SLOT_DIGITS)?..)?;
    digits.iter().try_fold(0u32, |slot, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(slot << 4 | u32::from(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(due_ns: u64) -> Pending {
        Pending { due_ns, function: 3 }
    }

    #[test]
    fn ids_are_lower_case_version_4_uuids_and_never_repeat() {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut table = CallTable::new(4096);
        let mut seen = std::collections::HashSet::new();
        for due in 0..4096 {
            let id = *table.start(pending(due), &mut rng).unwrap();
            for (at, byte) in id.iter().enumerate() {
                match at {
                    8 | 13 | 18 | 23 => assert_eq!(*byte, b'-'),
                    14 => assert_eq!(*byte, b'4'),
                    19 => assert_eq!(*byte, b'8'),
                    _ => assert!(matches!(byte, b'0'..=b'9' | b'a'..=b'f')),
                }
            }
            assert!(seen.insert(id));
        }
    }

    #[test]
    fn an_answer_finds_its_call_in_any_order_by_whole_id_or_token() {
        let mut rng = fastrand::Rng::with_seed(2);
        let mut table = CallTable::new(1000);
        let ids: Vec<Id> = (0..1000).map(|due| *table.start(pending(due), &mut rng).unwrap()).collect();
        for (due, id) in ids.iter().enumerate().rev() {
            let id = if due % 2 == 0 { &id[..] } else { &id[24..] };
            assert_eq!(table.finish(id), Finished::Call(pending(due as u64)));
        }
        assert_eq!(table.in_flight(), 0);
    }

    #[test]
    fn a_second_answer_is_a_duplicate_before_and_after_the_slot_is_used_again() {
        let mut rng = fastrand::Rng::with_seed(3);
        let mut table = CallTable::new(1);
        let first = *table.start(pending(1), &mut rng).unwrap();
        assert_eq!(table.finish(&first), Finished::Call(pending(1)));
        assert_eq!(table.finish(&first), Finished::Duplicate);
        let second = *table.start(pending(2), &mut rng).unwrap();
        assert_eq!(table.finish(&first), Finished::Duplicate);
        assert_eq!(table.finish(&second), Finished::Call(pending(2)));
    }

    #[test]
    fn a_full_table_refuses_and_foreign_ids_are_unknown() {
        let mut rng = fastrand::Rng::with_seed(4);
        let mut table = CallTable::new(2);
        assert!(table.start(pending(1), &mut rng).is_some());
        assert!(table.start(pending(2), &mut rng).is_some());
        assert!(table.start(pending(3), &mut rng).is_none());
        assert_eq!(table.finish(b"ffffffff-ffff-4fff-8fff-ffff00000009"), Finished::Unknown);
        assert_eq!(table.finish(b"short"), Finished::Unknown);
        assert_eq!(table.finish(b"ffffffff-ffff-4fff-8fff-ffffNOTAHEXX"), Finished::Unknown);
    }
}
