//! One socket and its buffers.
//!
//! Owner: the generator thread. Hot path: no allocation in the steady state; a read drains many messages, and whatever
//! they make us send goes out in one write when the turn ends.
//! Invariant: between turns a connection holds only the bytes of one incomplete message and unsent output, so that ten
//! thousand idle connections cost next to nothing.

use super::peer::{Context, Peer};
use crate::wire::{Decoder, Step, WireError};
use mio::net::TcpStream;
use std::io::{self, Read, Write};

/// Size of the read buffer all connections of a thread share, in bytes.
pub const SCRATCH_BYTES: usize = 256 * 1024;

/// Why a connection is gone.
#[derive(Debug)]
pub enum Lost {
    Io(io::Error),
    Wire(WireError),
    /// The server said goodbye, with this close code.
    Closed(Option<u16>),
    /// The server ended the connection without a word.
    Ended,
}

impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Lost::Io(error) => error.fmt(f),
            Lost::Wire(error) => error.fmt(f),
            Lost::Closed(Some(code)) => write!(f, "closed by the server with code {code}"),
            Lost::Closed(None) => f.write_str("closed by the server without a code"),
            Lost::Ended => f.write_str("ended by the server"),
        }
    }
}

/// A message too big for the shared read buffer, filled in place.
#[derive(Debug)]
struct Large {
    bytes: Vec<u8>,
    filled: usize,
}

#[derive(Debug)]
pub struct Connection {
    socket: TcpStream,
    decoder: Decoder,
    /// The beginning of a message whose rest has not arrived. Empty while `large` is in use.
    partial: Vec<u8>,
    large: Option<Large>,
    /// How much of `peer.outbound` the kernel has taken.
    written: usize,
    /// The kernel takes no more at the moment; true until the connect has succeeded.
    blocked: bool,
    /// Whether this connection waits in the turn's flush list.
    pub dirty: bool,
    pub peer: Peer,
}

impl Connection {
    /// Wraps a socket whose connect is under way. `peer.outbound` may already hold the first bytes to send.
    pub fn new(socket: TcpStream, decoder: Decoder, peer: Peer) -> Self {
        Self { socket, decoder, partial: Vec::new(), large: None, written: 0, blocked: true, dirty: false, peer }
    }

    /// The kernel takes bytes again.
    pub fn unblock(&mut self) {
        self.blocked = false;
    }

    pub fn has_output(&self) -> bool {
        !self.blocked && self.written < self.peer.outbound.len()
    }

    /// Reads what is there and handles every complete message. With `ending`, reads on until the end of the stream.
    #[inline]
    pub fn receive(&mut self, scratch: &mut [u8], ending: bool, context: &mut Context) -> Result<(), Lost> {
        loop {
            let (room, read) = match &mut self.large {
                Some(large) => {
                    let space = &mut large.bytes[large.filled..];
                    (space.len(), self.socket.read(space))
                }
                None => {
                    let space = &mut scratch[self.partial.len()..];
                    (space.len(), self.socket.read(space))
                }
            };
            match read {
                Ok(0) => return Err(Lost::Ended),
                Ok(count) => {
                    self.arrived(scratch, count, context)?;
                    // Edge-triggered: a short read has emptied the socket, and the next bytes bring a new event.
                    if count < room && !ending {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Lost::Io(error)),
            }
        }
    }

    /// Writes as much of the output as the kernel takes.
    #[inline]
    pub fn flush(&mut self) -> Result<(), Lost> {
        while self.has_output() {
            match self.socket.write(&self.peer.outbound[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.blocked = true,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Lost::Io(error)),
            }
        }
        if self.written == self.peer.outbound.len() {
            self.written = 0;
            self.peer.outbound.clear();
        } else if self.written > SCRATCH_BYTES {
            self.peer.outbound.drain(..self.written);
            self.written = 0;
        }
        Ok(())
    }

    fn arrived(&mut self, scratch: &mut [u8], count: usize, context: &mut Context) -> Result<(), Lost> {
        if let Some(large) = &mut self.large {
            large.filled += count;
            if large.filled < large.bytes.len() {
                return Ok(());
            }
            let large = self.large.take().expect("just seen");
            let left = self.decode(&large.bytes, context)?;
            assert_eq!(left.consumed, large.bytes.len(), "a large message is sized to the byte");
            return Ok(());
        }
        let end = self.partial.len() + count;
        scratch[..self.partial.len()].copy_from_slice(&self.partial);
        self.partial.clear();
        let left = self.decode(&scratch[..end], context)?;
        let rest = &scratch[left.consumed..end];
        if left.total > SCRATCH_BYTES / 2 {
            let mut bytes = vec![0; left.total];
            bytes[..rest.len()].copy_from_slice(rest);
            self.large = Some(Large { bytes, filled: rest.len() });
        } else if rest.len() == SCRATCH_BYTES {
            return Err(Lost::Wire(WireError("message without an end")));
        } else {
            self.partial.extend_from_slice(rest);
        }
        Ok(())
    }

    /// Handles the complete messages at the front of `bytes`.
    #[inline]
    fn decode(&mut self, bytes: &[u8], context: &mut Context) -> Result<Left, Lost> {
        let mut at = 0;
        loop {
            match self.decoder.step(&bytes[at..]).map_err(Lost::Wire)? {
                Step::Message { incoming, consumed } => {
                    context.handle(&mut self.peer, incoming)?;
                    at += consumed;
                }
                Step::Incomplete { total } => return Ok(Left { consumed: at, total }),
            }
        }
    }
}

/// What decoding leaves behind.
struct Left {
    consumed: usize,
    /// Length of the incomplete message at the end, in bytes; 0 if unknown.
    total: usize,
}
