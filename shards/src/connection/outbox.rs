//! The outbox: bytes waiting for one socket.
//!
//! Owner: the connection's home shard. Filled while a turn's input is handled, flushed once at its end.
//! Invariant: [`Outbox::bytes`] counts what is queued and what the kernel has not taken yet.
//! Policy when full: the caller of a new call is told; answers are never dropped. See `Shard::deliver`.

use crate::limits::{SPARE_BUFFER_BYTES_MAX, SPARE_BYTES_MAX};

/// Buffers between two uses, so that a busy shard does not allocate per flush. Bounded in bytes.
#[derive(Default)]
pub struct Spare {
    buffers: Vec<Vec<u8>>,
    bytes: usize,
}

impl Spare {
    /// A buffer, if there is one.
    pub fn take(&mut self) -> Option<Vec<u8>> {
        let buffer = self.buffers.pop()?;
        self.bytes -= buffer.capacity();
        Some(buffer)
    }

    /// Keeps a buffer, or lets it go if it is large or enough are kept.
    pub fn put(&mut self, mut buffer: Vec<u8>) {
        let bytes = buffer.capacity();
        if bytes <= SPARE_BUFFER_BYTES_MAX && self.bytes + bytes <= SPARE_BYTES_MAX {
            buffer.clear();
            self.bytes += bytes;
            self.buffers.push(buffer);
        }
    }
}

/// Bytes waiting for one socket.
#[derive(Default)]
pub struct Outbox {
    queued: Vec<u8>,
    sending_bytes: usize,
    /// Listed for the flush at the end of the turn.
    dirty: bool,
}

impl Outbox {
    /// Bytes queued or being sent.
    #[inline]
    pub fn bytes(&self) -> usize {
        self.queued.len() + self.sending_bytes
    }

    /// Buffer to append to. Returns also whether the connection must now be listed for a flush.
    #[inline]
    pub fn open(&mut self, spare: &mut Spare) -> (&mut Vec<u8>, bool) {
        if self.queued.capacity() == 0
            && let Some(buffer) = spare.take()
        {
            self.queued = buffer;
        }
        let newly_dirty = !self.dirty;
        self.dirty = true;
        (&mut self.queued, newly_dirty)
    }

    /// Takes what is queued, unless an earlier buffer is still being sent.
    pub fn take(&mut self) -> Option<Vec<u8>> {
        self.dirty = false;
        if self.sending_bytes > 0 || self.queued.is_empty() {
            return None;
        }
        self.sending_bytes = self.queued.len();
        Some(std::mem::take(&mut self.queued))
    }

    /// The buffer taken last is on its way. Returns whether more is waiting.
    pub fn sent(&mut self) -> bool {
        self.sending_bytes = 0;
        !self.queued.is_empty()
    }

    /// Drops what is queued and not yet being sent.
    pub fn discard(&mut self) {
        self.queued = Vec::new();
    }

    /// Nothing is queued and nothing is being sent.
    pub fn is_empty(&self) -> bool {
        self.bytes() == 0
    }
}
