//! Data channels: a one-way stream of messages between two ends that never meet (PROTO-111 to PROTO-117). Pure.
//!
//! Every channel has one owner, the shard its id hashes to, which keeps it in a [`table::ChannelTable`]. An end is
//! a connection of any shard or a holder inside the engine ([`Holder`]). Messages go from the writer to the owner
//! and from there to the reader. Back-pressure is a [`Window`]: the writer's side counts what the reader has not
//! taken and stops reading its source when the window is full. So at most one window of bytes, and the message
//! that filled it, exist per channel, wherever they are. Deliberately absent: a path from end to end that skips
//! the owner; one place that sees every event keeps their order.

pub mod table;

use crate::ids::ConnectionId;
use crate::limits::{CHANNEL_BUFFER_DEFAULT, CHANNEL_BUFFER_MAX, CHANNEL_BYTES_MAX};
use crate::wire::json;
use serde::Deserialize;

/// One of the two ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum End {
    /// Puts messages in.
    Writer,
    /// Takes them out.
    Reader,
}

impl End {
    /// The end across.
    pub fn other(self) -> End {
        match self {
            End::Writer => End::Reader,
            End::Reader => End::Writer,
        }
    }
}

/// Who holds an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Holder {
    /// A WebSocket on `/ws/channels/…`, on any shard.
    Connection(ConnectionId),
    /// Something on the channel's owner shard, by a number of its own choosing.
    InProcess(u64),
}

/// One message of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Text or binary; a text is valid UTF-8.
    pub text: bool,
    /// Payload.
    pub bytes: Box<[u8]>,
}

/// How much of a channel's flow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Amount {
    /// Messages.
    pub messages: u32,
    /// Their payload bytes.
    pub bytes: usize,
}

impl Amount {
    /// One message of this size.
    pub fn one(bytes: usize) -> Amount {
        Amount { messages: 1, bytes }
    }

    /// Nothing at all; empty messages count.
    pub fn is_zero(self) -> bool {
        self.messages == 0
    }

    /// Adds.
    pub fn add(&mut self, more: Amount) {
        self.messages += more.messages;
        self.bytes += more.bytes;
    }
}

/// How a holder gave its end up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leaving {
    /// It said so.
    Finished,
    /// It was lost.
    Lost,
}

/// Answer to an attach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The end is theirs; a writer may have this many messages waiting.
    Attached {
        /// Messages that may wait.
        buffer_size: u32,
    },
    /// The end was attached before (PROTO-114).
    Taken,
    /// No such channel, or not its key (PROTO-113).
    Unknown,
}

/// What a channel says to the holder of an end. In order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChannelEvent {
    /// To the reader: a message.
    Message(Piece),
    /// To the reader: no more messages. Close when everything before has been taken.
    Ended(Leaving),
    /// To the writer: the reader has taken this much.
    Taken(Amount),
    /// To the writer: the reader has left; nothing is wanted any more.
    Unwanted,
    /// To a holder inside the engine: a connection has come to the other end.
    Joined,
    /// To either: the other end never came, the channel is gone (PROTO-116).
    Expired,
}

/// What a writer may have on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    messages_max: u32,
    waiting: Amount,
}

impl Window {
    /// A window of this many messages.
    pub fn new(messages_max: u32) -> Window {
        Window { messages_max, waiting: Amount::default() }
    }

    /// Whether another message may enter. One always may, however large.
    #[inline]
    pub fn is_open(&self) -> bool {
        self.waiting.messages == 0
            || (self.waiting.messages < self.messages_max && self.waiting.bytes < CHANNEL_BYTES_MAX)
    }

    /// A message has entered.
    #[inline]
    pub fn enter(&mut self, bytes: usize) {
        self.waiting.add(Amount::one(bytes));
    }

    /// The reader has taken some.
    pub fn taken(&mut self, amount: Amount) {
        self.waiting.messages = self.waiting.messages.saturating_sub(amount.messages);
        self.waiting.bytes = self.waiting.bytes.saturating_sub(amount.bytes);
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct CreateInput {
    buffer_size: Option<u64>,
}

/// Reads the input of `engine::channels::create` (ENG-49). `null` counts as `{}`.
pub fn parse_buffer_size(data: &[u8]) -> Result<u32, String> {
    let input = match data.first() {
        _ if data == b"null" => CreateInput::default(),
        Some(b'{') => json::decode(data)?,
        // Decoders take an array for a list of members.
        _ => return Err("invalid type: expected an object".to_owned()),
    };
    let wanted = input.buffer_size.unwrap_or(u64::from(CHANNEL_BUFFER_DEFAULT));
    Ok(wanted.clamp(1, u64::from(CHANNEL_BUFFER_MAX)) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    // ENG-49, PROTO-111
    #[test]
    fn buffer_sizes() {
        for (data, expected) in [
            ("null", Some(64)),
            ("{}", Some(64)),
            (r#"{"buffer_size":null}"#, Some(64)),
            (r#"{"buffer_size":0}"#, Some(1)),
            (r#"{"buffer_size":16,"other":[1]}"#, Some(16)),
            (r#"{"buffer_size":4096}"#, Some(1024)),
            (r#"{"buffer_size":-1}"#, None),
            (r#"{"buffer_size":1.5}"#, None),
            (r#"{"buffer_size":"16"}"#, None),
            ("[]", None),
            ("7", None),
        ] {
            assert_eq!(parse_buffer_size(data.as_bytes()).ok(), expected, "{data}");
        }
    }

    // PROTO-115
    #[test]
    fn a_window_is_bounded_in_messages_and_bytes_but_never_shut_to_the_first() {
        let mut window = Window::new(2);
        window.enter(10);
        assert!(window.is_open());
        window.enter(0);
        assert!(!window.is_open());
        window.taken(Amount::one(10));
        assert!(window.is_open());
        window.enter(CHANNEL_BYTES_MAX);
        window.taken(Amount::one(0));
        assert!(!window.is_open(), "one message, but all the bytes");
        window.taken(Amount::one(CHANNEL_BYTES_MAX));
        assert!(window.is_open());
    }
}
