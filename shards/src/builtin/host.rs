//! What a built-in worker may ask of its shard.

use super::{BuiltInId, CallId, SocketId, Token};
use crate::channel::{Amount, End, Leaving, Piece};
use crate::ids::{ConnectionId, ShardId};
use crate::shard::Now;
use crate::shard::channels::ChannelKey;
use std::any::Any;
use std::borrow::Cow;
use std::hash::BuildHasher;
use std::net::SocketAddr;
use std::sync::Arc;
use uuid::Uuid;

/// Why a call failed, as its caller is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Code a program can act on.
    pub code: Cow<'static, str>,
    /// What happened, for people.
    pub message: String,
    /// Where it happened in the handler, if the handler said so.
    pub stacktrace: Option<String>,
}

impl Failure {
    /// A failure of the engine's own making.
    pub fn new(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Failure {
        Failure { code: code.into(), message: message.into(), stacktrace: None }
    }
}

/// A call a built-in worker makes. The engine adds nothing to the payload.
#[derive(Debug, Clone, Copy)]
pub struct OutgoingCall<'a> {
    /// Namespace of the function.
    pub namespace: &'a str,
    /// Function to call; one of a worker or of a built-in worker.
    pub function_id: &'a str,
    /// Payload: one complete JSON value in valid UTF-8.
    pub data: &'a [u8],
    /// Metadata: one JSON value.
    pub metadata: Option<&'a [u8]>,
    /// W3C trace context.
    pub traceparent: Option<&'a str>,
    /// W3C baggage, without the engine's own entries.
    pub baggage: Option<&'a str>,
    /// Connection that runs it if it provides the function; otherwise any provider does.
    pub prefer: Option<ConnectionId>,
    /// Milliseconds after which the call ends with `invocation_timeout`; `None` = the engine's limit.
    pub timeout_ms: Option<u64>,
}

impl<'a> OutgoingCall<'a> {
    /// A call in a namespace, without metadata and trace.
    pub fn new(namespace: &'a str, function_id: &'a str, data: &'a [u8]) -> OutgoingCall<'a> {
        OutgoingCall {
            namespace,
            function_id,
            data,
            metadata: None,
            traceparent: None,
            baggage: None,
            prefer: None,
            timeout_ms: None,
        }
    }
}

/// The shard as a built-in worker sees it. Nothing here blocks, and nothing calls back: what follows from a request
/// comes later, through [`super::BuiltIn`].
pub trait Host {
    /// Time, as read at the start of the turn.
    fn now(&self) -> Now;

    /// Which shard this is.
    fn shard(&self) -> ShardId;

    /// Number of data shards.
    fn shards(&self) -> usize;

    /// A random id.
    fn new_uuid(&mut self) -> Uuid;

    /// A way for other threads to reach this instance.
    fn mailbox(&self) -> Mailbox;

    /// Shard that runs calls of a [`super::Home::Key`] function with this number.
    fn home_of(&self, key: u64) -> ShardId {
        ShardId((key % self.shards() as u64) as u16)
    }

    // === calls ===

    /// Ends a call of one of the worker's functions. An empty result is success without a value.
    fn answer(&mut self, call: CallId, outcome: Result<&[u8], &Failure>);

    /// Calls a function; its end comes through [`super::BuiltIn::answer`], a missing function too.
    fn call(&mut self, call: &OutgoingCall<'_>) -> Token;

    /// Calls a function and wants no answer.
    fn call_void(&mut self, call: &OutgoingCall<'_>);

    /// Gives up waiting: no answer comes for this call. The function may still run.
    fn forget(&mut self, token: Token);

    // === messages and time ===

    /// Gives a message to the instance of another shard, or of this one. Arrives in the order posted.
    fn post(&mut self, shard: ShardId, message: Box<dyn Any + Send>);

    /// When to call [`super::BuiltIn::timer`], on the clock of [`Now::ms`]; replaces what was asked for before.
    fn wake_at(&mut self, ms: Option<u64>);

    // === sockets ===

    /// Address and port of a socket's peer.
    fn peer(&self, _socket: SocketId) -> Option<SocketAddr> {
        None
    }

    /// Queues bytes for a socket; they are sent at the end of the turn.
    fn write(&mut self, socket: SocketId, bytes: &[u8]);

    /// Bytes written and not yet taken by the kernel.
    fn unsent_bytes(&self, socket: SocketId) -> usize;

    /// Stops reading a socket, or goes on.
    fn set_reading(&mut self, socket: SocketId, reading: bool);

    /// Sends what is queued, then closes.
    fn close(&mut self, socket: SocketId);

    /// Closes at once; what is queued is lost.
    fn abort(&mut self, socket: SocketId);

    // === channels ===

    /// Makes a channel and takes one end of it, as `holder`: a number of the instance's choosing below 2^48, the same
    /// in all that follows. What happens comes through [`super::BuiltIn::channel_event`]. The channel lasts until it
    /// is discarded or both ends have left. A writer keeps to a [`crate::channel::Window`] of
    /// [`crate::limits::CHANNEL_BUFFER_DEFAULT`] messages.
    fn create_channel(&mut self, end: End, holder: u64) -> ChannelKey;

    /// Puts a message in.
    fn write_channel(&mut self, channel: Uuid, holder: u64, piece: Piece);

    /// Says that messages have been used up; their writer may go on.
    fn take_from_channel(&mut self, channel: Uuid, holder: u64, amount: Amount);

    /// Gives the end up. Who holds the other one is told; one still to come finds the channel.
    fn leave_channel(&mut self, channel: Uuid, end: End, holder: u64, leaving: Leaving);

    /// Ends a channel now; an end still to come finds nothing.
    fn discard_channel(&mut self, channel: Uuid);
}

/// How a message gets from another thread to a shard.
pub trait Post: Send + Sync {
    /// Gives a message to the instance of a built-in worker on a shard and wakes the shard. Never blocks. A message
    /// to a shard that has stopped is dropped.
    fn post(&self, shard: ShardId, worker: BuiltInId, message: Box<dyn Any + Send>);
}

/// Reaches one instance of a built-in worker from any thread. Messages of one thread arrive in order. It has no
/// bound of its own: whoever posts bounds what it has under way.
#[derive(Clone)]
pub struct Mailbox {
    post: Arc<dyn Post>,
    shard: ShardId,
    worker: BuiltInId,
}

impl Mailbox {
    /// The mailbox of a worker's instance.
    pub fn new(post: Arc<dyn Post>, shard: ShardId, worker: BuiltInId) -> Mailbox {
        Mailbox { post, shard, worker }
    }

    /// Posts a message; it arrives through [`super::BuiltIn::message`].
    pub fn post(&self, message: Box<dyn Any + Send>) {
        self.post.post(self.shard, self.worker, message);
    }

    /// The mailbox of the same worker on another shard.
    pub fn on(&self, shard: ShardId) -> Mailbox {
        Mailbox { post: self.post.clone(), shard, worker: self.worker }
    }
}

/// The number of a name for [`super::Home::Key`]: the same on every shard and in every process.
pub fn key_of(name: &str) -> u64 {
    foldhash::fast::FixedState::with_seed(2).hash_one(name)
}
