//! Built-in workers: what runs inside the engine instead of behind a socket.
//!
//! A built-in worker has one instance on every data shard. An instance is a state machine: calls of its functions,
//! answers to its own calls, triggers of its types, bytes of its sockets, messages and time go in through
//! [`BuiltIn`]; what it wants done goes out through [`Host`]. It runs on the shard's thread, so it never blocks and
//! never waits: what takes long is given to a thread of its own, which answers through a [`Mailbox`].
//!
//! What belongs together lives on one shard: [`Home::Key`] sends calls that name the same state scope, queue or
//! topic to the same instance, which therefore sees them one after the other, without locks.

mod change;
mod definition;
#[cfg(any(test, feature = "sim"))]
pub mod fake;
pub mod firing;
mod host;

pub use change::Change;
pub use definition::{Check, Definition, Factory, Function, Home, Removed, TriggerType};
pub use host::{Failure, Host, Mailbox, OutgoingCall, Post, key_of};

use crate::channel::ChannelEvent;
use crate::control::triggers::Binding;
use crate::ids::ConnectionId;
use std::any::Any;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use uuid::Uuid;

/// Name of the built-in worker that runs functions which are HTTP endpoints.
pub const HTTP_FUNCTIONS_WORKER: &str = "iii-http-functions";

/// One of the built-in workers of this engine: its place in the list the engine was started with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BuiltInId(pub u16);

/// A call that is to be answered, once, with [`Host::answer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CallId {
    pub(crate) worker: BuiltInId,
    /// `None` = nobody waits for the answer.
    pub(crate) key: Option<Uuid>,
}

impl CallId {
    /// Whether somebody waits for the answer. Answering a call nobody waits for does nothing.
    pub fn is_awaited(&self) -> bool {
        self.key.is_some()
    }
}

/// A call that this instance made; comes back with its answer. Counts up per instance, never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Token(pub u64);

/// A socket of this instance. A stale one finds nothing.
pub type SocketId = ConnectionId;

/// One call of a function of a built-in worker.
#[derive(Debug, Clone)]
pub struct Call {
    /// To answer it with.
    pub id: CallId,
    /// Which function: index into [`Definition::functions`].
    pub function: usize,
    /// Its id, as called.
    pub function_id: Rc<str>,
    /// Payload: one complete JSON value. Objects sent by a worker end with a member `_caller_worker_id`.
    pub data: Vec<u8>,
    /// Metadata of the call: one JSON value.
    pub metadata: Option<Vec<u8>>,
    /// W3C trace context of the caller, as sent.
    pub traceparent: Option<String>,
    /// W3C baggage of the caller.
    pub baggage: Option<String>,
    /// Where the function really is, if a worker has registered it as an HTTP endpoint: one JSON value, as sent.
    pub endpoint: Option<Rc<[u8]>>,
}

/// How a call ended: its result as one JSON value, empty if there is none, or what went wrong.
pub type Outcome = Result<Vec<u8>, Failure>;

/// An instance of a built-in worker on one data shard. Every method may use the host.
pub trait BuiltIn {
    /// The shard starts. Nothing has been called yet.
    fn start(&mut self, _host: &mut dyn Host) {}

    /// One of the worker's functions is called. It is answered now or later, exactly once.
    fn call(&mut self, call: Call, host: &mut dyn Host);

    /// A call made with [`Host::call`] has ended. Comes exactly once for each.
    fn answer(&mut self, _token: Token, _outcome: Outcome, _host: &mut dyn Host) {}

    /// A trigger of one of the worker's types exists from now on. Every instance is told of every trigger.
    fn trigger_added(&mut self, _trigger: Arc<Binding>, _host: &mut dyn Host) {}

    /// A trigger is gone. A replaced one is removed before it is added. If it had a registrant and has none now, the
    /// registrant has left; otherwise somebody ended it.
    fn trigger_removed(&mut self, _trigger: &Binding, _host: &mut dyn Host) {}

    /// Something posted by another thread through a [`Mailbox`], or by another instance through [`Host::post`].
    fn message(&mut self, _message: Box<dyn Any + Send>, _host: &mut dyn Host) {}

    /// The time asked for with [`Host::wake_at`] has come.
    fn timer(&mut self, _host: &mut dyn Host) {}

    /// The configuration has changed and another instance takes this one's place. What is returned goes to that
    /// one's [`BuiltIn::take_over`], and open sockets, its own calls and its channels stay for it; with `None` they
    /// are closed and forgotten. Calls it has not answered end with `invocation_stopped`, and the new one is told of
    /// all triggers.
    fn hand_over(&mut self, host: &mut dyn Host) -> Option<Box<dyn Any>> {
        self.stop(host);
        None
    }

    /// Takes what the instance before handed over, right before [`BuiltIn::start`].
    fn take_over(&mut self, _legacy: Box<dyn Any>, _host: &mut dyn Host) {}

    /// The engine stops. What is not on disk by now is to be written; calls made from here on are not answered.
    fn stop(&mut self, _host: &mut dyn Host) {}

    // === sockets, of workers that listen ===

    /// A peer has connected to the worker's listener number `listener`.
    fn socket_opened(&mut self, _socket: SocketId, _listener: usize, _peer: IpAddr, _host: &mut dyn Host) {}

    /// Bytes have arrived; they may be changed in place.
    fn socket_bytes(&mut self, _socket: SocketId, _bytes: &mut [u8], _host: &mut dyn Host) {}

    /// The kernel has taken everything that was written.
    fn socket_flushed(&mut self, _socket: SocketId, _host: &mut dyn Host) {}

    /// The peer will send no more; it may still read. Unless the instance closes the socket, it stays open.
    fn socket_ended(&mut self, socket: SocketId, host: &mut dyn Host) {
        host.close(socket);
    }

    /// The socket is gone, whoever closed it. Comes once for each that was opened.
    fn socket_closed(&mut self, _socket: SocketId, _host: &mut dyn Host) {}

    // === channels, of workers that hold ends ===

    /// Something has happened to the channel of which the instance holds an end as `holder`. Events of a channel that
    /// was discarded or left may still come.
    fn channel_event(&mut self, _holder: u64, _event: ChannelEvent, _host: &mut dyn Host) {}
}
