//! What goes in and out of an exchange, besides bytes.

use crate::http::date::HttpDate;
use crate::http::head::{Reject, Request};

/// The present, told by the caller.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Milliseconds on a clock that never goes back.
    pub ms: u64,
    /// Wall-clock time for `date` headers.
    pub date: HttpDate,
}

/// How long a peer may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// From the first byte of a head to its last (HTTP-69).
    pub head_ms: u64,
    /// Between requests.
    pub idle_ms: u64,
    /// A body is looked at in steps of this length; 0 = never.
    pub body_step_ms: u64,
    /// Bytes that each of these steps must bring, unless we were the one that did not read.
    pub body_step_bytes: u64,
    /// For the rest of an unread body after its response (HTTP-70).
    pub drain_ms: u64,
    /// For the peer to close after we did.
    pub linger_ms: u64,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            head_ms: 30_000,
            idle_ms: 75_000,
            body_step_ms: 10_000,
            body_step_bytes: 1 << 10,
            drain_ms: 5_000,
            linger_ms: 2_000,
        }
    }
}

/// What happened on the connection.
#[derive(Debug)]
pub enum Event<'a> {
    /// A request. Must be answered, also if [`read_body`](super::Exchange::read_body) is never called.
    Request(Request),
    /// Part of the body that [`read_body`](super::Exchange::read_body) asked for.
    BodyChunk(&'a [u8]),
    /// The body is complete. Not sent for requests that announced none.
    BodyEnd,
    /// The bytes are refused or came too slowly. If a request is open, it ends here: its response, if it has not
    /// begun, is already replaced, and further `respond_*` calls for it do nothing.
    Reject(Reject),
}

/// Until when something must have happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline {
    /// Time, on the clock of [`Now::ms`].
    pub at_ms: u64,
    /// What must have happened.
    pub kind: DeadlineKind,
}

/// What a deadline waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeadlineKind {
    /// The first byte of a request.
    Idle,
    /// The rest of a head.
    Head,
    /// More of a body.
    Body,
    /// The rest of a body nobody reads.
    Drain,
    /// The peer's close.
    Linger,
}

/// What is to become of the socket once all output is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Closing {
    /// It stays open.
    Open,
    /// Shut down writing, then keep reading: input is thrown away until the peer closes or time is up. Closing at once
    /// would reset the connection under the response, because the peer may still be sending.
    Linger,
    /// Close.
    Close,
    /// Close with a reset: the response is cut short and nothing else would tell.
    Reset,
}
