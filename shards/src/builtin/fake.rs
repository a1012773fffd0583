//! A host for tests: remembers what a built-in worker asked for.

#![allow(clippy::disallowed_types, reason = "no shard runs in a test's threads")]

use super::{BuiltInId, Call, CallId, Failure, Host, Mailbox, Outcome, OutgoingCall, Post, SocketId, Token};
use crate::channel::table::ChannelTable;
use crate::channel::{Amount, End, Holder, Leaving, Piece};
use crate::ids::{ConnectionId, ShardId};
use crate::limits::CHANNEL_BUFFER_DEFAULT;
use crate::shard::Now;
use crate::shard::channels::ChannelKey;
use std::any::Any;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use uuid::Uuid;

/// A call the worker made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// `None` = it wants no answer.
    pub token: Option<Token>,
    /// Namespace of the function.
    pub namespace: String,
    /// Function called.
    pub function_id: String,
    /// Payload, as text.
    pub data: String,
    /// Metadata, as text.
    pub metadata: Option<String>,
    /// Trace context.
    pub traceparent: Option<String>,
    /// Baggage.
    pub baggage: Option<String>,
    /// Connection that was preferred.
    pub prefer: Option<ConnectionId>,
    /// Limit in milliseconds.
    pub timeout_ms: Option<u64>,
}

/// A message and the shard it is for.
pub type Letter = (ShardId, Box<dyn Any + Send>);

#[derive(Default)]
struct Letters(Mutex<Vec<Letter>>);

impl Post for Letters {
    fn post(&self, shard: ShardId, _: BuiltInId, message: Box<dyn Any + Send>) {
        if let Ok(mut letters) = self.0.lock() {
            letters.push((shard, message));
        }
    }
}

/// A shard that does nothing but remember.
pub struct FakeHost {
    /// Time; set it at will.
    pub now: Now,
    /// Which shard it plays.
    pub shard: ShardId,
    /// How many there are.
    pub shards: usize,
    /// Answers given, by call.
    pub answers: HashMap<CallId, Outcome>,
    /// Calls made and not yet taken by the test.
    pub made: Vec<Made>,
    /// Calls given up.
    pub forgotten: Vec<Token>,
    /// Messages posted to other instances, or to this one.
    pub posted: Vec<Letter>,
    /// What was written, by socket.
    pub written: HashMap<SocketId, Vec<u8>>,
    /// Sockets closed, and whether at once.
    pub closed: Vec<(SocketId, bool)>,
    /// Sockets that are not read.
    pub paused: Vec<SocketId>,
    /// When the worker wants to be woken.
    pub wake_at: Option<u64>,
    /// The channels there are. What they have to say is the test's to pass on.
    pub channels: ChannelTable,
    calls: u64,
    letters: Arc<Letters>,
}

impl Default for FakeHost {
    fn default() -> Self {
        FakeHost {
            now: Now { ms: 1_000, unix_ms: 1_700_000_000_000 },
            shard: ShardId(0),
            shards: 1,
            answers: HashMap::new(),
            made: Vec::new(),
            forgotten: Vec::new(),
            posted: Vec::new(),
            written: HashMap::new(),
            closed: Vec::new(),
            paused: Vec::new(),
            wake_at: None,
            channels: ChannelTable::default(),
            calls: 0,
            letters: Arc::default(),
        }
    }
}

impl FakeHost {
    /// A call to give to the worker: function number, id and payload.
    pub fn incoming(&mut self, function: usize, function_id: &str, data: &str) -> Call {
        self.calls += 1;
        Call {
            id: CallId { worker: BuiltInId(0), key: Some(Uuid::from_u64_pair(u64::MAX, self.calls)) },
            function,
            function_id: Rc::from(function_id),
            data: data.into(),
            metadata: None,
            traceparent: None,
            baggage: None,
            endpoint: None,
        }
    }

    /// What came through mailboxes since this was last asked.
    pub fn letters(&mut self) -> Vec<Letter> {
        self.letters.0.lock().map(|mut letters| std::mem::take(&mut *letters)).unwrap_or_default()
    }

    /// Takes the calls made so far.
    pub fn take_made(&mut self) -> Vec<Made> {
        std::mem::take(&mut self.made)
    }

    fn note(&mut self, token: Option<Token>, call: &OutgoingCall<'_>) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        self.made.push(Made {
            token,
            namespace: call.namespace.to_owned(),
            function_id: call.function_id.to_owned(),
            data: text(call.data),
            metadata: call.metadata.map(text),
            traceparent: call.traceparent.map(str::to_owned),
            baggage: call.baggage.map(str::to_owned),
            prefer: call.prefer,
            timeout_ms: call.timeout_ms,
        });
    }
}

impl Host for FakeHost {
    fn now(&self) -> Now {
        self.now
    }

    fn shard(&self) -> ShardId {
        self.shard
    }

    fn shards(&self) -> usize {
        self.shards
    }

    fn new_uuid(&mut self) -> Uuid {
        self.calls += 1;
        Uuid::from_u64_pair(0x4000, 0x8000_0000_0000_0000 | self.calls)
    }

    fn mailbox(&self) -> Mailbox {
        Mailbox::new(self.letters.clone(), self.shard, BuiltInId(0))
    }

    fn answer(&mut self, call: CallId, outcome: Result<&[u8], &Failure>) {
        let before = self.answers.insert(call, outcome.map(<[u8]>::to_vec).map_err(Failure::clone));
        assert!(before.is_none(), "{call:?} was answered twice");
    }

    fn call(&mut self, call: &OutgoingCall<'_>) -> Token {
        self.calls += 1;
        let token = Token(self.calls);
        self.note(Some(token), call);
        token
    }

    fn call_void(&mut self, call: &OutgoingCall<'_>) {
        self.note(None, call);
    }

    fn forget(&mut self, token: Token) {
        self.forgotten.push(token);
    }

    fn post(&mut self, shard: ShardId, message: Box<dyn Any + Send>) {
        self.posted.push((shard, message));
    }

    fn wake_at(&mut self, ms: Option<u64>) {
        self.wake_at = ms;
    }

    fn write(&mut self, socket: SocketId, bytes: &[u8]) {
        self.written.entry(socket).or_default().extend_from_slice(bytes);
    }

    fn unsent_bytes(&self, socket: SocketId) -> usize {
        self.written.get(&socket).map_or(0, Vec::len)
    }

    fn set_reading(&mut self, socket: SocketId, reading: bool) {
        self.paused.retain(|paused| *paused != socket);
        if !reading {
            self.paused.push(socket);
        }
    }

    fn close(&mut self, socket: SocketId) {
        self.closed.push((socket, false));
    }

    fn abort(&mut self, socket: SocketId) {
        self.closed.push((socket, true));
    }

    fn create_channel(&mut self, end: End, holder: u64) -> ChannelKey {
        let channel = ChannelKey { id: self.new_uuid(), key: self.new_uuid() };
        self.channels.create_held(channel.id, channel.key, CHANNEL_BUFFER_DEFAULT, end, holder);
        channel
    }

    fn write_channel(&mut self, channel: Uuid, holder: u64, piece: Piece) {
        self.channels.write(channel, Holder::InProcess(holder), piece);
    }

    fn take_from_channel(&mut self, channel: Uuid, holder: u64, amount: Amount) {
        self.channels.taken(channel, Holder::InProcess(holder), amount);
    }

    fn leave_channel(&mut self, channel: Uuid, end: End, holder: u64, leaving: Leaving) {
        self.channels.leave(channel, end, Holder::InProcess(holder), leaving);
    }

    fn discard_channel(&mut self, channel: Uuid) {
        self.channels.discard(channel);
    }
}
