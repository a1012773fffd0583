//! The channels of one owner shard.
//!
//! Calls go in, [`ChannelEvent`]s for the holders of the ends come out of [`ChannelTable::poll_event`], in order.
//!
//! ```text
//! each end:  Never ──attach──► Held ──left──► Gone          channel freed: both Gone, or an end Never for too long
//! ```

use super::{Amount, ChannelEvent, End, Holder, Leaving, Piece, Verdict};
use crate::limits::{CHANNEL_EXPIRY_MS, CHANNELS_INCOMPLETE_MAX};
use std::collections::{HashMap, VecDeque};
use uuid::Uuid;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum EndState {
    Never,
    Held(Holder),
    Gone,
}

struct Channel {
    key: Uuid,
    created_ms: u64,
    buffer_size: u32,
    writer: EndState,
    reader: EndState,
    /// What was written while no reader had come. At most a window.
    queue: VecDeque<Piece>,
    /// How the writer left.
    ended: Option<Leaving>,
    /// Made by a holder inside the engine, which ends it; counts for no bound and never expires.
    hosted: bool,
}

/// All channels a shard owns.
#[derive(Default)]
pub struct ChannelTable {
    channels: HashMap<Uuid, Channel>,
    /// Channels with an end that never came.
    incomplete: usize,
    events: VecDeque<(Holder, ChannelEvent)>,
}

/// A channel cannot be made: too many wait for an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany(());

impl ChannelTable {
    /// Adds a channel nobody has attached to.
    pub fn create(&mut self, id: Uuid, key: Uuid, buffer_size: u32, now_ms: u64) -> Result<(), TooMany> {
        if self.incomplete >= CHANNELS_INCOMPLETE_MAX {
            return Err(TooMany(()));
        }
        let channel = Channel {
            key,
            created_ms: now_ms,
            buffer_size,
            writer: EndState::Never,
            reader: EndState::Never,
            queue: VecDeque::new(),
            ended: None,
            hosted: false,
        };
        let previous = self.channels.insert(id, channel);
        assert!(previous.is_none(), "two channels of id {id}");
        self.incomplete += 1;
        Ok(())
    }

    /// Adds a channel of which something inside the engine holds one end from the start, and which it ends.
    pub fn create_held(&mut self, id: Uuid, key: Uuid, buffer_size: u32, end: End, holder: u64) {
        let mut channel = Channel {
            key,
            created_ms: 0,
            buffer_size,
            writer: EndState::Never,
            reader: EndState::Never,
            queue: VecDeque::new(),
            ended: None,
            hosted: true,
        };
        *channel.end_mut(end) = EndState::Held(Holder::InProcess(holder));
        let previous = self.channels.insert(id, channel);
        assert!(previous.is_none(), "two channels of id {id}");
    }

    /// Somebody wants an end and shows the key as text.
    pub fn attach_with_key(&mut self, id: Uuid, key: &str, end: End, holder: Holder) -> Verdict {
        // An unknown id is compared too, so that the time tells nothing.
        let nothing = Uuid::nil();
        let channel = self.channels.get(&id);
        let expected = channel.map_or(&nothing, |channel| &channel.key);
        let matches = equal_in_constant_time(expected.hyphenated().to_string().as_bytes(), key.as_bytes());
        if channel.is_none() || !matches { Verdict::Unknown } else { self.attach(id, end, holder) }
    }

    /// Somebody who needs no key takes an end.
    pub fn attach(&mut self, id: Uuid, end: End, holder: Holder) -> Verdict {
        let Some(channel) = self.channels.get_mut(&id) else { return Verdict::Unknown };
        if *channel.end_mut(end) != EndState::Never {
            return Verdict::Taken;
        }
        *channel.end_mut(end) = EndState::Held(holder);
        if !channel.hosted && !channel.is_incomplete() {
            self.incomplete -= 1;
        }
        if channel.hosted
            && let EndState::Held(host) = *channel.end_mut(end.other())
        {
            self.events.push_back((host, ChannelEvent::Joined));
        }
        match end {
            End::Reader => {
                self.events.extend(channel.queue.drain(..).map(|piece| (holder, ChannelEvent::Message(piece))));
                channel.queue = VecDeque::new();
                if let Some(leaving) = channel.ended {
                    self.events.push_back((holder, ChannelEvent::Ended(leaving)));
                }
            }
            End::Writer if channel.reader == EndState::Gone => {
                self.events.push_back((holder, ChannelEvent::Unwanted));
            }
            End::Writer => {}
        }
        Verdict::Attached { buffer_size: channel.buffer_size }
    }

    /// The writer has a message. Its holder keeps to the window.
    pub fn write(&mut self, id: Uuid, holder: Holder, piece: Piece) {
        let Some(channel) = self.channels.get_mut(&id) else { return };
        if channel.writer != EndState::Held(holder) {
            return;
        }
        match channel.reader {
            EndState::Held(reader) => self.events.push_back((reader, ChannelEvent::Message(piece))),
            EndState::Never => channel.queue.push_back(piece),
            // The writer has been told, or is about to be.
            EndState::Gone => {}
        }
    }

    /// The reader has taken some: its kernel did, or its holder in the engine.
    pub fn taken(&mut self, id: Uuid, holder: Holder, amount: Amount) {
        let Some(channel) = self.channels.get(&id) else { return };
        if channel.reader == EndState::Held(holder)
            && let EndState::Held(writer) = channel.writer
        {
            self.events.push_back((writer, ChannelEvent::Taken(amount)));
        }
    }

    /// A holder gives its end up. One that does not hold it changes nothing.
    pub fn leave(&mut self, id: Uuid, end: End, holder: Holder, leaving: Leaving) {
        let Some(channel) = self.channels.get_mut(&id) else { return };
        if *channel.end_mut(end) != EndState::Held(holder) {
            return;
        }
        *channel.end_mut(end) = EndState::Gone;
        match end {
            End::Writer => {
                channel.ended = Some(leaving);
                if let EndState::Held(reader) = channel.reader {
                    self.events.push_back((reader, ChannelEvent::Ended(leaving)));
                }
            }
            End::Reader => {
                if let EndState::Held(writer) = channel.writer {
                    self.events.push_back((writer, ChannelEvent::Unwanted));
                }
            }
        }
        if channel.writer == EndState::Gone && channel.reader == EndState::Gone {
            self.channels.remove(&id);
        }
    }

    /// Removes a channel at once: an attached end is told, an end still to come finds nothing.
    pub fn discard(&mut self, id: Uuid) {
        let Some(channel) = self.channels.remove(&id) else { return };
        if channel.is_incomplete() {
            self.incomplete -= 1;
        }
        for end in [channel.writer, channel.reader] {
            if let EndState::Held(holder) = end {
                self.events.push_back((holder, ChannelEvent::Expired));
            }
        }
    }

    /// Removes channels of which an end has not come in time.
    pub fn sweep(&mut self, now_ms: u64) {
        let late = |channel: &Channel| channel.is_incomplete() && channel.created_ms + CHANNEL_EXPIRY_MS <= now_ms;
        let expired: Vec<Uuid> = self.channels.iter().filter(|(_, channel)| late(channel)).map(|(id, _)| *id).collect();
        for id in expired {
            self.discard(id);
        }
    }

    /// What to tell a holder next.
    pub fn poll_event(&mut self) -> Option<(Holder, ChannelEvent)> {
        self.events.pop_front()
    }

    /// Lets go of memory that served channels which are gone.
    pub fn shrink(&mut self) {
        self.channels.shrink_to_fit();
        self.events.shrink_to_fit();
    }

    /// Number of channels.
    pub fn len(&self) -> usize {
        self.channels.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.channels.is_empty()
    }
}

impl Channel {
    fn end_mut(&mut self, end: End) -> &mut EndState {
        match end {
            End::Writer => &mut self.writer,
            End::Reader => &mut self.reader,
        }
    }

    fn is_incomplete(&self) -> bool {
        !self.hosted && (self.writer == EndState::Never || self.reader == EndState::Never)
    }
}

/// Compares without telling by the time it takes where the first difference is.
fn equal_in_constant_time(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && std::hint::black_box(a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b))) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: Uuid = Uuid::from_u128(1);
    const KEY: Uuid = Uuid::from_u128(2);
    const WRITER: Holder = Holder::InProcess(1);
    const READER: Holder = Holder::InProcess(2);

    fn table() -> ChannelTable {
        let mut table = ChannelTable::default();
        table.create(ID, KEY, 8, 0).expect("the table is empty");
        table
    }

    fn piece(text: &str) -> Piece {
        Piece { text: true, bytes: text.as_bytes().into() }
    }

    fn events(table: &mut ChannelTable) -> Vec<(Holder, ChannelEvent)> {
        std::iter::from_fn(|| table.poll_event()).collect()
    }

    // PROTO-113
    #[test]
    fn the_key_is_the_credential() {
        let mut table = table();
        let attach = |table: &mut ChannelTable, id, key: &str| table.attach_with_key(id, key, End::Writer, WRITER);
        for key in ["", "x", &Uuid::from_u128(3).to_string(), &KEY.simple().to_string()] {
            assert_eq!(attach(&mut table, ID, key), Verdict::Unknown, "{key}");
        }
        assert_eq!(attach(&mut table, Uuid::from_u128(9), &KEY.to_string()), Verdict::Unknown);
        assert_eq!(attach(&mut table, Uuid::from_u128(9), &Uuid::nil().to_string()), Verdict::Unknown);
        assert_eq!(attach(&mut table, ID, &KEY.to_string()), Verdict::Attached { buffer_size: 8 });
    }

    // PROTO-114
    #[test]
    fn an_end_is_attached_once_in_the_life_of_its_channel() {
        let mut table = table();
        assert_eq!(table.attach(ID, End::Reader, READER), Verdict::Attached { buffer_size: 8 });
        assert_eq!(table.attach(ID, End::Reader, WRITER), Verdict::Taken);
        // One that was refused has nothing to give up.
        table.leave(ID, End::Reader, WRITER, Leaving::Lost);
        assert_eq!(table.attach(ID, End::Writer, WRITER), Verdict::Attached { buffer_size: 8 });
        assert_eq!(events(&mut table), []);
        table.leave(ID, End::Reader, READER, Leaving::Lost);
        assert_eq!(table.attach(ID, End::Reader, READER), Verdict::Taken);
    }

    // PROTO-115
    #[test]
    fn a_late_reader_gets_everything_and_then_the_end() {
        let mut table = table();
        table.attach(ID, End::Writer, WRITER);
        table.write(ID, WRITER, piece("a"));
        table.write(ID, WRITER, piece(""));
        table.leave(ID, End::Writer, WRITER, Leaving::Finished);
        assert_eq!(events(&mut table), []);
        table.attach(ID, End::Reader, READER);
        let expected = [
            ChannelEvent::Message(piece("a")),
            ChannelEvent::Message(piece("")),
            ChannelEvent::Ended(Leaving::Finished),
        ];
        assert_eq!(events(&mut table), expected.map(|event| (READER, event)));
        table.leave(ID, End::Reader, READER, Leaving::Finished);
        assert!(table.is_empty(), "PROTO-116: freed when both ends are gone");
    }

    // PROTO-115
    #[test]
    fn the_writer_learns_what_is_taken_and_when_nothing_is_wanted() {
        let mut table = table();
        table.attach(ID, End::Reader, READER);
        table.attach(ID, End::Writer, WRITER);
        table.write(ID, WRITER, piece("abc"));
        table.taken(ID, READER, Amount::one(3));
        table.leave(ID, End::Reader, READER, Leaving::Lost);
        table.write(ID, WRITER, piece("unwanted"));
        let expected = [
            (READER, ChannelEvent::Message(piece("abc"))),
            (WRITER, ChannelEvent::Taken(Amount::one(3))),
            (WRITER, ChannelEvent::Unwanted),
        ];
        assert_eq!(events(&mut table), expected);
        table.leave(ID, End::Writer, WRITER, Leaving::Finished);
        assert!(table.is_empty());
    }

    // PROTO-115
    #[test]
    fn a_writer_that_comes_after_the_reader_left_is_told_at_once() {
        let mut table = table();
        table.attach(ID, End::Reader, READER);
        table.leave(ID, End::Reader, READER, Leaving::Finished);
        table.attach(ID, End::Writer, WRITER);
        assert_eq!(events(&mut table), [(WRITER, ChannelEvent::Unwanted)]);
    }

    // HTTP-27, HTTP-59, HTTP-63
    #[test]
    fn a_hosted_channel_tells_its_host_who_comes_and_lasts_as_long_as_the_host_wants() {
        let mut table = ChannelTable::default();
        let peer = Holder::Connection(crate::ids::ConnectionId::ENGINE);
        table.create_held(ID, KEY, 8, End::Writer, 1);
        table.write(ID, WRITER, piece("early"));
        table.sweep(CHANNEL_EXPIRY_MS * 2);
        assert_eq!(events(&mut table), [], "it does not expire");
        assert_eq!(table.attach(ID, End::Reader, peer), Verdict::Attached { buffer_size: 8 });
        let expected = [(WRITER, ChannelEvent::Joined), (peer, ChannelEvent::Message(piece("early")))];
        assert_eq!(events(&mut table), expected);
        table.leave(ID, End::Writer, WRITER, Leaving::Finished);
        table.leave(ID, End::Reader, peer, Leaving::Finished);
        assert!(table.is_empty());

        table.create_held(ID, KEY, 8, End::Reader, 2);
        table.discard(ID);
        assert_eq!((table.len(), table.attach(ID, End::Writer, peer)), (0, Verdict::Unknown));
    }

    // PROTO-116
    #[test]
    fn channels_with_an_end_missing_expire() {
        let mut table = table();
        table.create(Uuid::from_u128(7), KEY, 1, 0).expect("there is room");
        table.attach(Uuid::from_u128(7), End::Writer, WRITER);
        table.attach(Uuid::from_u128(7), End::Reader, READER);
        table.attach(ID, End::Writer, WRITER);
        table.sweep(CHANNEL_EXPIRY_MS - 1);
        assert_eq!(table.len(), 2);
        table.sweep(CHANNEL_EXPIRY_MS);
        assert_eq!(table.len(), 1, "the complete one stays");
        assert_eq!(events(&mut table), [(WRITER, ChannelEvent::Expired)]);
        assert_eq!(table.attach(ID, End::Reader, READER), Verdict::Unknown);
    }

    #[test]
    fn channels_that_wait_for_an_end_are_bounded_and_complete_ones_do_not_count() {
        let mut table = ChannelTable::default();
        for number in 0..CHANNELS_INCOMPLETE_MAX {
            table.create(Uuid::from_u128(number as u128), KEY, 1, 0).expect("below the bound");
        }
        assert!(table.create(Uuid::max(), KEY, 1, 0).is_err());
        table.attach(Uuid::from_u128(0), End::Writer, WRITER);
        assert!(table.create(Uuid::max(), KEY, 1, 0).is_err());
        table.attach(Uuid::from_u128(0), End::Reader, READER);
        assert!(table.create(Uuid::max(), KEY, 1, 0).is_ok());
        table.discard(Uuid::max());
        assert!(table.create(Uuid::max(), KEY, 1, 0).is_ok());
    }
}
