//! One peer of a worker listener: what its home shard keeps for it.
//!
//! Owner: the home shard. An idle connection owns no buffers; it holds bytes only for a partial frame, for unsent
//! output, or behind a gate.
//!
//! ```text
//! Handshake ──upgrade──► Worker | Telemetry | Channel ──close, error, eof──► Closing ──socket gone──► (slot free)
//!                                                └──channel ended──► Finishing ──sent──►
//! ```

pub mod channel;
pub mod outbox;
pub mod worker;

use crate::builtin::BuiltInId;
use crate::ids::ConnectionId;
use crate::wire::frame::Reader;
use channel::ChannelEnd;
use outbox::Outbox;
use std::net::SocketAddr;
use worker::Worker;

/// Where a connection is in its life.
pub enum Stage {
    /// Waiting for an HTTP upgrade; holds the head so far.
    Handshake(Vec<u8>),
    /// `/`: speaks the worker protocol.
    Worker(Box<Worker>),
    /// `/otel`: binary telemetry frames only.
    Telemetry,
    /// `/ws/channels/…`: one end of a channel.
    Channel(Box<ChannelEnd>),
    /// A socket of a built-in worker's listener.
    BuiltIn {
        /// Whose.
        worker: BuiltInId,
        /// The peer has ended its side, and the worker has been told.
        ended: bool,
    },
    /// The reader of a channel that has ended: its Close frame is queued, input is ignored. Closing once all is sent.
    Finishing,
    /// Nothing more is read; output is flushed, then the socket goes.
    Closing,
}

/// One connection.
pub struct Connection {
    /// Its id.
    pub id: ConnectionId,
    /// Index of the listener it came from.
    pub listener: u16,
    /// Address of the peer.
    pub peer: SocketAddr,
    /// Stage of life.
    pub stage: Stage,
    /// Joins bytes to messages.
    pub reader: Reader,
    /// Bytes waiting for the socket.
    pub outbox: Outbox,
    /// Input that must wait for an answer from elsewhere (reattach). `None` = nothing is held back.
    pub gated: Option<Vec<u8>>,
    /// When anything was last received, in milliseconds.
    pub received_ms: u64,
    /// When output last made progress, in milliseconds.
    pub progress_ms: u64,
    /// A ping was sent since anything was last received.
    pub pinged: bool,
}

impl Connection {
    /// A connection that has just been accepted.
    pub fn new(id: ConnectionId, listener: u16, peer: SocketAddr, now_ms: u64) -> Self {
        Connection {
            id,
            listener,
            peer,
            stage: Stage::Handshake(Vec::new()),
            reader: Reader::default(),
            outbox: Outbox::default(),
            gated: None,
            received_ms: now_ms,
            progress_ms: now_ms,
            pinged: false,
        }
    }

    /// The worker behind the connection, if it has become one and has not left.
    #[inline]
    pub fn worker(&self) -> Option<&Worker> {
        match &self.stage {
            Stage::Worker(worker) => Some(worker),
            _ => None,
        }
    }

    /// The worker behind the connection, if it has become one and has not left.
    #[inline]
    pub fn worker_mut(&mut self) -> Option<&mut Worker> {
        match &mut self.stage {
            Stage::Worker(worker) => Some(worker),
            _ => None,
        }
    }
}
