//! What the home shard keeps for a connection that is one end of a channel.

use crate::channel::{Amount, End, Leaving, Window};
use uuid::Uuid;

/// One end of a channel, on its connection.
pub struct ChannelEnd {
    /// Which channel.
    pub channel: Uuid,
    /// Which end.
    pub end: End,
    /// How far it has come.
    pub state: EndState,
}

impl ChannelEnd {
    /// Back-pressure is at work: the writer is kept waiting, or the reader has not taken what there is.
    pub fn is_held_up(&self) -> bool {
        match &self.state {
            EndState::Attaching(_) => false,
            EndState::Writing(writing) => writing.paused || writing.held_bytes() > 0,
            EndState::Reading(reading) => !reading.queued.is_zero() || !reading.sending.is_zero(),
        }
    }
}

/// ```text
/// Attaching ──verdict──► Writing | Reading
/// ```
pub enum EndState {
    /// The owner has been asked; input waits behind the gate. Holds the value for `Sec-WebSocket-Accept`.
    Attaching(Box<str>),
    /// Its messages go into the channel.
    Writing(Writing),
    /// The channel's messages go into its outbox.
    Reading(Reading),
}

/// State of the writer's end.
pub struct Writing {
    /// What the reader has not taken yet.
    pub window: Window,
    /// Input that waits for the window to open. Starts at `held_from`.
    pub held: Vec<u8>,
    /// Bytes of `held` that are done with.
    pub held_from: usize,
    /// The socket is not being read.
    pub paused: bool,
    /// How the writer ends if it ends now: finished once it has sent a Close frame.
    pub leaving: Leaving,
}

impl Writing {
    /// An end that may have this many messages waiting.
    pub fn new(buffer_size: u32) -> Writing {
        Writing {
            window: Window::new(buffer_size),
            held: Vec::new(),
            held_from: 0,
            paused: false,
            leaving: Leaving::Lost,
        }
    }

    /// Bytes of input that wait.
    pub fn held_bytes(&self) -> usize {
        self.held.len() - self.held_from
    }

    /// Adds input that must wait.
    pub fn hold(&mut self, input: &[u8]) {
        if self.held_from * 2 > self.held.len() {
            self.held.drain(..self.held_from);
            self.held_from = 0;
        }
        self.held.extend_from_slice(input);
    }
}

/// State of the reader's end: its messages, split like the outbox they lie in.
#[derive(Default)]
pub struct Reading {
    /// In the outbox.
    pub queued: Amount,
    /// Being sent.
    pub sending: Amount,
}
