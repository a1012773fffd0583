//! Channels on a shard: it owns some, and some of its connections are ends of channels owned here or elsewhere.
//!
//! What an end does goes to the owner ([`ChannelMessage`], or a direct call when the owner is this shard); what the
//! owner says comes back as a [`ChannelEvent`] and is applied here. A channel is created on the shard that is to own
//! it, so it exists before anybody can know its id. Holders inside the engine use the `*_in_process` functions on
//! the owner shard and read their events from [`Shard::poll_channel_event`].

use super::mesh::{Attach, ChannelMessage, RingMessage};
use super::{Shard, SocketCommand};
use crate::channel::table::{ChannelTable, TooMany};
use crate::channel::{Amount, ChannelEvent, End, Holder, Leaving, Piece, Verdict, parse_buffer_size};
use crate::connection::channel::{ChannelEnd, EndState, Reading, Writing};
use crate::connection::worker::Echo;
use crate::connection::{Connection, Stage};
use crate::control::functions::EngineFunction;
use crate::ids::{ConnectionId, ShardId};
use crate::limits::{
    CHANNEL_BUFFER_DEFAULT, CHANNEL_BUFFER_MAX, CHANNEL_EXPIRY_MS, CHANNEL_HELD_BYTES, CHANNEL_LINGER_MS,
    CHANNEL_SWEEP_MS, GATED_BYTES_MAX,
};
use crate::timers::Timer;
use crate::wire::encode::Outcome;
use crate::wire::frame::{self, Message, WireError};
use crate::wire::handshake;
use crate::wire::{CloseCode, codes};
use std::collections::VecDeque;
use tungstenite::protocol::frame::coding::Data;
use uuid::Uuid;

/// The channels a shard owns, and what its holders inside the engine have not read yet.
#[derive(Default)]
pub(super) struct Channels {
    pub(super) table: ChannelTable,
    in_process: VecDeque<(u64, ChannelEvent)>,
    sweeping: bool,
    /// Holders are being told: whoever adds an event meanwhile leaves it to that loop.
    telling: bool,
}

impl Channels {
    /// Lets go of memory that served channels which are gone.
    pub(super) fn shrink(&mut self) {
        self.table.shrink();
        self.in_process.shrink_to_fit();
    }
}

/// What opens a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelKey {
    /// Its id.
    pub id: Uuid,
    /// The credential of both ends.
    pub key: Uuid,
}

impl ChannelKey {
    /// The two references that travel in payloads, as JSON (PROTO-111).
    pub fn to_json(&self) -> String {
        let reference = |direction| {
            let ChannelKey { id, key } = self;
            format!(r#"{{"channel_id":"{id}","access_key":"{key}","direction":"{direction}"}}"#)
        };
        format!(r#"{{"writer":{},"reader":{}}}"#, reference("write"), reference("read"))
    }
}

// === for holders inside the engine ===

impl Shard {
    /// Makes a channel that this shard owns.
    pub fn create_channel(&mut self, buffer_size: u32) -> Result<ChannelKey, TooMany> {
        let ChannelKey { id, key } = self.draw_channel_key();
        self.channels.table.create(id, key, buffer_size.clamp(1, CHANNEL_BUFFER_MAX), self.now.ms)?;
        if !self.channels.sweeping {
            self.channels.sweeping = true;
            self.timers.add(self.now.ms + CHANNEL_SWEEP_MS, true, Timer::ChannelSweep);
        }
        Ok(ChannelKey { id, key })
    }

    /// Makes a channel that this shard owns and of which something inside the engine holds an end from the start. It
    /// lasts until it is discarded or both ends have left.
    pub fn create_channel_in_process(&mut self, end: End, holder: u64) -> ChannelKey {
        let channel = self.draw_channel_key();
        self.channels.table.create_held(channel.id, channel.key, CHANNEL_BUFFER_DEFAULT, end, holder);
        channel
    }

    fn draw_channel_key(&mut self) -> ChannelKey {
        let id = loop {
            // One try in `shards` falls on this one.
            let id = self.new_uuid();
            if self.hasher.channel_owner(id) == self.id {
                break id;
            }
        };
        ChannelKey { id, key: self.new_uuid() }
    }

    /// Takes an end of a channel of this shard. Keep to a [`crate::channel::Window`] of the size in the verdict.
    pub fn attach_in_process(&mut self, channel: Uuid, end: End, holder: u64) -> Verdict {
        let verdict = self.channels.table.attach(channel, end, Holder::InProcess(holder));
        self.tell_holders();
        verdict
    }

    /// Puts a message in.
    pub fn write_in_process(&mut self, channel: Uuid, holder: u64, piece: Piece) {
        self.channels.table.write(channel, Holder::InProcess(holder), piece);
        self.tell_holders();
    }

    /// Says that messages from [`Shard::poll_channel_event`] have been used up; their writer may go on.
    pub fn taken_in_process(&mut self, channel: Uuid, holder: u64, amount: Amount) {
        self.channels.table.taken(channel, Holder::InProcess(holder), amount);
        self.tell_holders();
    }

    /// Gives an end up.
    pub fn leave_in_process(&mut self, channel: Uuid, end: End, holder: u64, leaving: Leaving) {
        self.channels.table.leave(channel, end, Holder::InProcess(holder), leaving);
        self.tell_holders();
    }

    /// Ends a channel now, whoever holds it; an end that never came finds nothing any more.
    pub fn discard_channel(&mut self, channel: Uuid) {
        self.channels.table.discard(channel);
        self.tell_holders();
    }

    /// What to tell a holder inside the engine next.
    pub fn poll_channel_event(&mut self) -> Option<(u64, ChannelEvent)> {
        self.channels.in_process.pop_front()
    }
}

// === owner ===

impl Shard {
    /// A worker calls `engine::channels::create` (ENG-49). A void call creates nothing: nobody could know of it.
    pub(super) fn answer_create_channel(&mut self, id: ConnectionId, call: Option<(Uuid, Option<Echo>)>, data: &[u8]) {
        let function = EngineFunction::ChannelsCreate;
        if call.is_none() {
            return;
        }
        let error = |code, message: &str| (code, message.to_owned());
        let created = parse_buffer_size(data)
            .map_err(|detail| {
                let message = format!("Failed to deserialize input for {}: {detail}", function.id());
                error(codes::DESERIALIZATION_ERROR, &message)
            })
            .and_then(|buffer_size| {
                self.create_channel(buffer_size).map_err(|_| {
                    let minutes = CHANNEL_EXPIRY_MS / 60_000;
                    let message = format!(
                        "too many channels wait for an end to be attached; they are removed after {minutes} minutes"
                    );
                    error(codes::INVOCATION_ERROR, &message)
                })
            });
        match created {
            Ok(key) => self.answer_engine(id, call, function, &Outcome::Result(Some(key.to_json().as_bytes()))),
            Err((code, message)) => {
                self.answer_engine(id, call, function, &Outcome::Error { code, message: &message, stacktrace: None });
            }
        }
    }

    pub(super) fn sweep_channels(&mut self) {
        self.channels.table.sweep(self.now.ms);
        self.channels.sweeping = !self.channels.table.is_empty();
        if self.channels.sweeping {
            self.timers.add(self.now.ms + CHANNEL_SWEEP_MS, true, Timer::ChannelSweep);
        }
        self.tell_holders();
    }

    /// Passes on what the table has to say, in order.
    fn tell_holders(&mut self) {
        if self.channels.telling {
            return;
        }
        self.channels.telling = true;
        while let Some((holder, event)) = self.channels.table.poll_event() {
            match holder {
                Holder::InProcess(number) => {
                    if let Some(event) = self.tell_channel_holder(number, event) {
                        self.channels.in_process.push_back((number, event));
                    }
                }
                Holder::Connection(id) if id.shard == self.id => self.handle_channel_event(id, event),
                Holder::Connection(id) => self.send_channel(id.shard, ChannelMessage::Event(id, event)),
            }
        }
        self.channels.telling = false;
    }

    fn send_channel(&mut self, to: ShardId, message: ChannelMessage) {
        self.mesh[to.index()].messages.push(RingMessage::Channel(message));
    }

    /// To the owner of a channel, which may be this shard.
    fn tell_owner(&mut self, channel: Uuid, message: ChannelMessage) {
        let owner = self.hasher.channel_owner(channel);
        if owner == self.id {
            self.handle_channel_message(message);
        } else {
            self.send_channel(owner, message);
        }
    }

    pub(super) fn handle_channel_message(&mut self, message: ChannelMessage) {
        match message {
            ChannelMessage::Attach(attach) => {
                let Attach { connection, channel, key, end } = *attach;
                let verdict = self.channels.table.attach_with_key(channel, &key, end, Holder::Connection(connection));
                if connection.shard == self.id {
                    self.handle_verdict(connection, verdict);
                } else {
                    self.send_channel(connection.shard, ChannelMessage::Verdict(connection, verdict));
                }
            }
            ChannelMessage::Piece { channel, writer, piece } => {
                self.channels.table.write(channel, Holder::Connection(writer), piece);
            }
            ChannelMessage::Taken { channel, reader, amount } => {
                self.channels.table.taken(channel, Holder::Connection(reader), amount);
            }
            ChannelMessage::Leave { channel, end, connection, leaving } => {
                self.channels.table.leave(channel, end, Holder::Connection(connection), leaving);
            }
            ChannelMessage::Verdict(id, verdict) => self.handle_verdict(id, verdict),
            ChannelMessage::Event(id, event) => self.handle_channel_event(id, event),
        }
        self.tell_holders();
    }
}

// === home of an end ===

impl Shard {
    /// A connection asks to become an end. Its input waits for the owner's verdict.
    pub(super) fn attach_channel(&mut self, id: ConnectionId, channel: &str, key: &str, write: bool, accept: &str) {
        let known = Uuid::try_parse(channel).ok().filter(|uuid| uuid.hyphenated().to_string() == channel);
        let Some(channel) = known else { return self.refuse_channel(id) };
        let end = if write { End::Writer } else { End::Reader };
        let Some(connection) = self.connection_mut(id) else { return };
        let state = EndState::Attaching(accept.into());
        connection.stage = Stage::Channel(Box::new(ChannelEnd { channel, end, state }));
        connection.gated = Some(Vec::new());
        let attach = Attach { connection: id, channel, key: key.into(), end };
        self.tell_owner(channel, ChannelMessage::Attach(Box::new(attach)));
    }

    fn handle_verdict(&mut self, id: ConnectionId, verdict: Verdict) {
        // If the connection has gone, so has word of that, after the request to attach.
        let Some(Connection { stage: Stage::Channel(end), .. }) = self.connection_mut(id) else { return };
        let EndState::Attaching(accept) = &mut end.state else { return };
        let accept = std::mem::take(accept);
        let buffer_size = match verdict {
            Verdict::Unknown => return self.refuse_channel(id),
            Verdict::Taken => 1,
            Verdict::Attached { buffer_size } => buffer_size,
        };
        end.state = match end.end {
            End::Writer => EndState::Writing(Writing::new(buffer_size)),
            End::Reader => EndState::Reading(Reading::default()),
        };
        self.accept_upgrade(id, &accept);
        if verdict == Verdict::Taken {
            return self.close(id, None, "");
        }
        self.open_gate(id);
    }

    /// PROTO-113. The connection may ask for something else, until its deadline.
    fn refuse_channel(&mut self, id: ConnectionId) {
        let answer = handshake::answer(404, "Not Found", "", "Channel not found");
        self.write(id, |out| out.extend_from_slice(answer.as_bytes()));
        let now_ms = self.now.ms;
        let Some(connection) = self.connection_mut(id) else { return };
        connection.stage = Stage::Handshake(Vec::new());
        connection.progress_ms = now_ms;
        let listener = connection.listener;
        let held = connection.gated.take().unwrap_or_default();
        if held.len() > GATED_BYTES_MAX {
            self.commands.push_back(SocketCommand::Resume(id.slot));
        }
        let timeout_ms = self.settings.listeners[usize::from(listener)].handshake_timeout_ms;
        self.timers.add(now_ms + timeout_ms, false, Timer::Handshake(id));
        if !held.is_empty() {
            self.handle_handshake_bytes(id, &held);
        }
    }

    fn handle_channel_event(&mut self, id: ConnectionId, event: ChannelEvent) {
        match event {
            ChannelEvent::Message(piece) => {
                let Some(EndState::Reading(reading)) = self.end_state(id) else { return };
                reading.queued.add(Amount::one(piece.bytes.len()));
                let opcode = if piece.text { Data::Text } else { Data::Binary };
                let bytes = &piece.bytes;
                self.write(id, |out| {
                    frame::write_message(out, opcode, bytes.len(), |out| out.extend_from_slice(bytes))
                });
            }
            ChannelEvent::Ended(leaving) => self.finish_reader(id, leaving),
            ChannelEvent::Taken(amount) => {
                let Some(EndState::Writing(writing)) = self.end_state(id) else { return };
                writing.window.taken(amount);
                self.continue_writing(id);
            }
            ChannelEvent::Unwanted => self.close(id, Some(CloseCode::Normal), "the reader has left"),
            // For holders inside the engine.
            ChannelEvent::Joined => {}
            ChannelEvent::Expired => self.close(id, Some(CloseCode::Error), "the other end never came"),
        }
    }

    fn end_state(&mut self, id: ConnectionId) -> Option<&mut EndState> {
        match &mut self.connection_mut(id)?.stage {
            Stage::Channel(end) => Some(&mut end.state),
            _ => None,
        }
    }

    /// The connection is no longer an end: the owner is told.
    pub(super) fn leave_channel(&mut self, id: ConnectionId, end: ChannelEnd) {
        let leaving = match &end.state {
            EndState::Writing(writing) => writing.leaving,
            _ => Leaving::Finished,
        };
        if let EndState::Writing(Writing { paused: true, .. }) = end.state {
            // What the peer still sends is read and thrown away: a socket closed over unread bytes is reset, and
            // the peer might never see our Close frame.
            self.commands.push_back(SocketCommand::Resume(id.slot));
        }
        let ChannelEnd { channel, end, .. } = end;
        self.tell_owner(channel, ChannelMessage::Leave { channel, end, connection: id, leaving });
    }

    // === reader ===

    /// A buffer has been handed to the runtime to be sent.
    pub(super) fn note_output_taken(end: &mut ChannelEnd) {
        if let EndState::Reading(reading) = &mut end.state {
            reading.sending = std::mem::take(&mut reading.queued);
        }
    }

    /// It has been sent.
    pub(super) fn note_output_sent(&mut self, id: ConnectionId) {
        let now_ms = self.now.ms;
        let Some(connection) = self.connection_mut(id) else { return };
        match &mut connection.stage {
            Stage::Channel(end) => {
                let channel = end.channel;
                let EndState::Reading(reading) = &mut end.state else { return };
                let amount = std::mem::take(&mut reading.sending);
                if !amount.is_zero() {
                    // A peer that takes messages is alive, however long its answers to our pings take.
                    connection.received_ms = now_ms;
                    connection.pinged = false;
                    self.tell_owner(channel, ChannelMessage::Taken { channel, reader: id, amount });
                }
            }
            Stage::Finishing if connection.outbox.is_empty() => self.close_socket_within(id, CHANNEL_LINGER_MS),
            _ => {}
        }
    }

    /// The writer has left: the Close frame goes behind what is queued, and the socket ends when all has been sent.
    fn finish_reader(&mut self, id: ConnectionId, leaving: Leaving) {
        self.write(id, |out| match leaving {
            Leaving::Finished => frame::write_close(out, None, ""),
            Leaving::Lost => frame::write_close(out, Some(CloseCode::Error), "the writer was lost"),
        });
        let Some(connection) = self.connection_mut(id) else { return };
        if let Stage::Channel(end) = std::mem::replace(&mut connection.stage, Stage::Finishing) {
            self.leave_channel(id, *end);
        }
    }

    // === writer ===

    /// Bytes have arrived from a writer.
    pub(super) fn handle_writer_bytes(&mut self, id: ConnectionId, input: &mut [u8]) {
        let Some(EndState::Writing(writing)) = self.end_state(id) else { return };
        let mut left = input.len();
        if writing.held_bytes() == 0 && writing.window.is_open() {
            left = self.read_pieces(id, input, false);
        }
        let Some(EndState::Writing(writing)) = self.end_state(id) else { return self.tell_holders() };
        if left > 0 {
            writing.hold(&input[input.len() - left..]);
        }
        if writing.held_bytes() > CHANNEL_HELD_BYTES && !writing.paused {
            writing.paused = true;
            self.commands.push_back(SocketCommand::Pause(id.slot));
        }
        self.tell_holders();
    }

    /// The window has opened: first what was held, then the socket.
    fn continue_writing(&mut self, id: ConnectionId) {
        let Some(EndState::Writing(writing)) = self.end_state(id) else { return };
        if writing.held_bytes() > 0 && writing.window.is_open() {
            self.read_held(id, false);
        }
        let Some(EndState::Writing(writing)) = self.end_state(id) else { return };
        if writing.paused && writing.held_bytes() == 0 && writing.window.is_open() {
            writing.paused = false;
            self.commands.push_back(SocketCommand::Resume(id.slot));
            let now_ms = self.now.ms;
            if let Some(connection) = self.connection_mut(id) {
                connection.received_ms = now_ms;
                connection.pinged = false;
            }
        }
    }

    /// The writer's socket has ended: what was held is data all the same, window or not.
    pub(super) fn finish_writer(&mut self, id: ConnectionId) {
        if let Some(EndState::Writing(_)) = self.end_state(id) {
            self.read_held(id, true);
        }
    }

    fn read_held(&mut self, id: ConnectionId, all: bool) {
        let Some(EndState::Writing(writing)) = self.end_state(id) else { return };
        let mut held = std::mem::take(&mut writing.held);
        let from = std::mem::take(&mut writing.held_from);
        let left = self.read_pieces(id, &mut held[from..], all);
        if left > 0
            && let Some(EndState::Writing(writing)) = self.end_state(id)
        {
            writing.held_from = held.len() - left;
            writing.held = held;
        }
    }

    /// Reads messages while the window is open, or `all` of them. Returns how many bytes are left.
    fn read_pieces(&mut self, id: ConnectionId, mut input: &mut [u8], all: bool) -> usize {
        let Some(connection) = self.connection_mut(id) else { return 0 };
        let mut reader = std::mem::take(&mut connection.reader);
        loop {
            match self.end_state(id) {
                Some(EndState::Writing(writing)) if all || writing.window.is_open() => {}
                Some(_) => break,
                None => return 0,
            }
            match reader.next(&mut input) {
                Ok(Some(Message::Text(text))) => self.write_piece(id, true, text),
                Ok(Some(Message::Binary(bytes))) => self.write_piece(id, false, bytes),
                Ok(Some(Message::Close(code))) => {
                    if let Some(EndState::Writing(writing)) = self.end_state(id) {
                        writing.leaving = Leaving::Finished;
                    }
                    self.close(id, code, "");
                }
                Ok(Some(control)) => self.handle_message(id, control),
                Ok(None) => break,
                Err(error) => {
                    self.fail(id, &error);
                    return 0;
                }
            }
        }
        if let Some(connection) = self.connection_mut(id) {
            connection.reader = reader;
        }
        input.len()
    }

    fn write_piece(&mut self, id: ConnectionId, text: bool, bytes: &[u8]) {
        if text && simdutf8::basic::from_utf8(bytes).is_err() {
            return self.fail(id, &WireError::utf8());
        }
        let Some(Connection { stage: Stage::Channel(end), .. }) = self.connection_mut(id) else { return };
        let EndState::Writing(writing) = &mut end.state else { return };
        writing.window.enter(bytes.len());
        let (channel, piece) = (end.channel, Piece { text, bytes: bytes.into() });
        let owner = self.hasher.channel_owner(channel);
        if owner == self.id {
            // Holders are told once for all messages of the buffer.
            self.channels.table.write(channel, Holder::Connection(id), piece);
        } else {
            self.send_channel(owner, ChannelMessage::Piece { channel, writer: id, piece });
        }
    }
}

#[cfg(test)]
#[path = "channels_tests.rs"]
mod tests;
