//! What shards say to each other.
//!
//! Messages for one peer collect in a [`Batch`] during a turn and cross as one ring slot. Payload bytes lie in the
//! batch's arena, so a call costs no allocation of its own. Whatever one core may ask of another is a variant here.
//! Order between two shards is the order of pushing.

use crate::builtin::BuiltInId;
use crate::channel::{Amount, ChannelEvent, End, Leaving, Piece, Verdict};
use crate::control::{Command, Report};
use crate::ids::{ConnectionId, ProviderId};
use crate::registry::owner::Claim;
use crate::wire::encode::{Invoke, Outcome, Payload};
use std::any::Any;
use uuid::Uuid;

/// A message on a shard-to-shard ring. Each variant says who sends it and what its loss would mean.
pub enum RingMessage {
    /// Caller's home → provider's home. A full lane is refused before the push; the caller is told "overloaded".
    Invoke(InvokeMessage),
    /// Provider's home → caller's home: the provider had left. The call is resolved again, once.
    Bounced(InvokeMessage),
    /// Provider's home or control → caller's home. Never refused; its loss would hang the caller.
    Result(ResultMessage),
    /// Home → owner: who provides this? Its loss would hang the calls that wait for the route.
    Resolve(Box<FunctionName>),
    /// Owner → home: answer to `Resolve`, or a change of a route the shard holds.
    Routes(Box<Routes>),
    /// Home → owner: a connection provides a function.
    Register(Box<Registration>),
    /// Home → owner: it no longer does.
    Unregister(Box<Registration>),
    /// Owner → home: the registration was replaced by another of the same process, or taken over. With the round of
    /// the claim that lost: the home may have registered again meanwhile.
    Replaced(ProviderId, u32),
    /// Owner → home: the registration was refused; the worker is told who has the function.
    Refused(ProviderId, Uuid),
    /// Old home → new home of a worker that reattached: a message to it, encoded.
    HandOver(ConnectionId, Span),
    /// Instance of a built-in worker → its instance on another shard.
    Posted(BuiltInId, Box<dyn Any + Send>),
    /// Between the home of a channel's end and the channel's owner.
    Channel(ChannelMessage),
    /// Data shard → control.
    Report(Box<Report>),
    /// Control → data shard.
    Command(Box<Command>),
}

// Two cache lines, so that a batch stays dense. A fat variant would slow every other one: box it instead.
const _: () = assert!(size_of::<RingMessage>() <= 128);

/// What the home of a channel's end and the owner of the channel say to each other. None may be lost or overtaken;
/// the bytes of one channel that can be under way are bounded by its window, so nothing here is refused.
pub enum ChannelMessage {
    /// Home → owner: may this connection be that end?
    Attach(Box<Attach>),
    /// Owner → home: the answer.
    Verdict(ConnectionId, Verdict),
    /// Writer's home → owner: a message.
    Piece {
        /// Which channel.
        channel: Uuid,
        /// Whose message.
        writer: ConnectionId,
        /// The message.
        piece: Piece,
    },
    /// Reader's home → owner: the kernel has taken this much.
    Taken {
        /// Which channel.
        channel: Uuid,
        /// Whose kernel.
        reader: ConnectionId,
        /// How much.
        amount: Amount,
    },
    /// Home → owner: the connection is no longer that end.
    Leave {
        /// Which channel.
        channel: Uuid,
        /// Which end.
        end: End,
        /// Which connection.
        connection: ConnectionId,
        /// How it ended.
        leaving: Leaving,
    },
    /// Owner → home of an end.
    Event(ConnectionId, ChannelEvent),
}

/// A connection asks for an end of a channel.
pub struct Attach {
    /// Which connection.
    pub connection: ConnectionId,
    /// Which channel.
    pub channel: Uuid,
    /// The key it shows.
    pub key: Box<str>,
    /// Which end.
    pub end: End,
}

/// A stretch of a batch's arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    start: u32,
    len: u32,
}

impl Span {
    const ABSENT: u32 = u32::MAX;

    fn get(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.start as usize..(self.start + self.len) as usize]
    }

    fn get_optional(self, bytes: &[u8]) -> Option<&[u8]> {
        (self.len != Self::ABSENT).then(|| self.get(bytes))
    }
}

/// A function, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionName {
    /// Hash of `id`.
    pub hash: u64,
    /// Namespace.
    pub namespace: Box<str>,
    /// Function id.
    pub id: Box<str>,
}

/// The providers of a function.
pub struct Routes {
    /// Which function.
    pub name: FunctionName,
    /// Who provides it now. Empty = nobody; forget the route.
    pub providers: Vec<ProviderId>,
    /// Answer to a `Resolve`; otherwise word of a change.
    pub is_answer: bool,
    /// Answer to a `Resolve` without providers: other namespaces that have the id.
    pub elsewhere: Vec<String>,
}

/// One function of one connection.
pub struct Registration {
    /// Which function.
    pub name: FunctionName,
    /// Which connection and entry.
    pub provider: ProviderId,
    /// Who asks.
    pub claim: Claim,
}

/// A call on its way to a provider, its bytes in the arena.
#[derive(Debug, Clone, Copy)]
pub struct InvokeMessage {
    /// Who asked; the answer goes there.
    pub caller: ConnectionId,
    /// Who is to run it.
    pub provider: ProviderId,
    /// The caller's id of a tracked call.
    pub invocation_id: Option<Uuid>,
    /// It has been sent back once already.
    pub retried: bool,
    namespace: Span,
    function_id: Span,
    data: Span,
    metadata: Span,
    traceparent: Span,
    baggage: Span,
}

/// A call, borrowed from where its bytes lie.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// Who asked.
    pub caller: ConnectionId,
    /// It has been sent back once already.
    pub retried: bool,
    /// Provider to take if it is one; it need not be.
    pub prefer: Option<ConnectionId>,
    /// Namespace of the function.
    pub namespace: &'a str,
    /// What is sent to the provider. Its invocation id is the caller's; `None` = void.
    pub invoke: Invoke<'a>,
}

impl InvokeMessage {
    /// The call, borrowing from the arena it lies in.
    pub fn call<'a>(&self, bytes: &'a [u8]) -> Call<'a> {
        // The arena is filled from `&str`s only, see `Batch::invoke`.
        let text = |bytes: &'a [u8]| std::str::from_utf8(bytes).unwrap_or("");
        Call {
            caller: self.caller,
            retried: self.retried,
            prefer: (self.provider.connection != ConnectionId::ENGINE).then_some(self.provider.connection),
            namespace: text(self.namespace.get(bytes)),
            invoke: Invoke {
                invocation_id: self.invocation_id,
                function_id: text(self.function_id.get(bytes)),
                data: Payload { json: self.data.get(bytes), caller: None },
                metadata: self.metadata.get_optional(bytes),
                traceparent: self.traceparent.get_optional(bytes).map(text),
                baggage: self.baggage.get_optional(bytes).map(text),
            },
        }
    }
}

/// An answer on its way to a caller, its bytes in the arena.
#[derive(Debug, Clone, Copy)]
pub struct ResultMessage {
    /// Whose call it was.
    pub caller: ConnectionId,
    /// The caller's id of the call.
    pub invocation_id: Uuid,
    error: bool,
    /// Result, or error code.
    first: Span,
    message: Span,
    stacktrace: Span,
}

impl ResultMessage {
    /// How the call ended, borrowing from the arena it lies in.
    pub fn outcome<'a>(&self, bytes: &'a [u8]) -> Outcome<'a> {
        let text = |bytes: &'a [u8]| std::str::from_utf8(bytes).unwrap_or("");
        if self.error {
            Outcome::Error {
                code: text(self.first.get(bytes)),
                message: text(self.message.get(bytes)),
                stacktrace: self.stacktrace.get_optional(bytes),
            }
        } else {
            Outcome::Result(self.first.get_optional(bytes))
        }
    }
}

/// Everything one shard has to say to another at the end of a turn.
#[derive(Default)]
pub struct Batch {
    /// Messages, in order.
    pub messages: Vec<RingMessage>,
    /// Arena of their bytes.
    pub bytes: Vec<u8>,
    /// Bytes that telemetry among the messages owns itself.
    pub boxed_bytes: usize,
}

impl Batch {
    fn put(&mut self, bytes: &[u8]) -> Span {
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(bytes);
        Span { start, len: bytes.len() as u32 }
    }

    fn put_optional(&mut self, bytes: Option<&[u8]>) -> Span {
        bytes.map_or(Span { start: 0, len: Span::ABSENT }, |bytes| self.put(bytes))
    }

    /// Copies a call into the batch; the payload becomes final on the way.
    pub fn invoke(&mut self, provider: ProviderId, call: &Call<'_>) -> InvokeMessage {
        let invoke = &call.invoke;
        let namespace = self.put(call.namespace.as_bytes());
        let function_id = self.put(invoke.function_id.as_bytes());
        let start = self.bytes.len();
        invoke.data.write(&mut self.bytes);
        let data = Span { start: start as u32, len: (self.bytes.len() - start) as u32 };
        InvokeMessage {
            caller: call.caller,
            provider,
            invocation_id: invoke.invocation_id,
            retried: call.retried,
            namespace,
            function_id,
            data,
            metadata: self.put_optional(invoke.metadata),
            traceparent: self.put_optional(invoke.traceparent.map(str::as_bytes)),
            baggage: self.put_optional(invoke.baggage.map(str::as_bytes)),
        }
    }

    /// Copies an answer into the batch.
    pub fn result(&mut self, caller: ConnectionId, invocation_id: Uuid, outcome: &Outcome<'_>) {
        let absent = Span { start: 0, len: Span::ABSENT };
        let message = match outcome {
            Outcome::Result(result) => {
                let first = self.put_optional(*result);
                ResultMessage { caller, invocation_id, error: false, first, message: absent, stacktrace: absent }
            }
            Outcome::Error { code, message, stacktrace } => {
                let first = self.put(code.as_bytes());
                let message = self.put(message.as_bytes());
                let stacktrace = self.put_optional(*stacktrace);
                ResultMessage { caller, invocation_id, error: true, first, message, stacktrace }
            }
        };
        self.messages.push(RingMessage::Result(message));
    }

    /// Copies an encoded message for a connection that moved.
    pub fn hand_over(&mut self, to: ConnectionId, bytes: &[u8]) {
        let span = self.put(bytes);
        self.messages.push(RingMessage::HandOver(to, span));
    }

    /// The bytes of a [`RingMessage::HandOver`].
    pub fn handed_over(bytes: &[u8], span: Span) -> &[u8] {
        span.get(bytes)
    }

    /// Nothing to say.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Empties the batch, keeping modest buffers for the next turn.
    pub fn clear(&mut self) {
        self.messages.clear();
        self.boxed_bytes = 0;
        if self.bytes.capacity() > crate::limits::SPARE_BUFFER_BYTES_MAX {
            self.bytes = Vec::new();
        }
        self.bytes.clear();
    }
}
