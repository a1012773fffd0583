//! The two channels of a request: its body on the way to the function, and a streamed response on the way back.
//!
//! Both ends in here keep to the channel's window, so neither side holds more than that of the other's bytes.

use iii_shards::builtin::Host;
use iii_shards::channel::{Amount, End, Leaving, Piece, Window};
use iii_shards::http::stream::StreamHead;
use iii_shards::limits::CHANNEL_BUFFER_DEFAULT;
use iii_shards::shard::channels::ChannelKey;

/// Bytes of a body that go into one message (HTTP-31).
const PIECE_BYTES_MAX: usize = 64 << 10;

/// The writing end of `request_body`.
#[derive(Debug)]
pub struct Upload {
    /// What the function attaches with.
    pub key: ChannelKey,
    holder: u64,
    window: Window,
    /// What has been read and not written.
    backlog: Vec<u8>,
    /// Bytes of `backlog` that have been written.
    written: usize,
    /// Nothing follows the backlog.
    complete: bool,
    reader: Reader,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reader {
    /// Nobody has come yet; nothing is written before.
    Awaited,
    Here,
    /// Everything is written, and said to be.
    Served,
    Gone,
}

// === impl Upload ===

impl Upload {
    /// Makes the channel.
    pub fn new(holder: u64, host: &mut dyn Host) -> Upload {
        Upload {
            key: host.create_channel(End::Writer, holder),
            holder,
            window: Window::new(CHANNEL_BUFFER_DEFAULT),
            backlog: Vec::new(),
            written: 0,
            complete: false,
            reader: Reader::Awaited,
        }
    }

    /// The whole body, or the part of it that was read before there was a channel.
    pub fn begin(&mut self, body: Vec<u8>, complete: bool) {
        self.backlog = body;
        self.complete = complete;
    }

    /// The function has attached.
    pub fn handle_joined(&mut self, host: &mut dyn Host) {
        self.reader = Reader::Here;
        self.write(host);
    }

    /// The function has read some.
    pub fn handle_taken(&mut self, amount: Amount, host: &mut dyn Host) {
        self.window.taken(amount);
        self.write(host);
    }

    /// The function reads no more.
    pub fn handle_unwanted(&mut self) {
        self.reader = Reader::Gone;
        self.backlog = Vec::new();
        self.written = 0;
    }

    /// Whether more of the body is of use now.
    pub fn wants_more(&self) -> bool {
        self.reader == Reader::Here && self.backlog.is_empty() && self.window.is_open()
    }

    /// More of the body.
    pub fn handle_chunk(&mut self, mut bytes: &[u8], host: &mut dyn Host) {
        if self.reader == Reader::Here && self.backlog.is_empty() {
            while !bytes.is_empty() && self.window.is_open() {
                let (piece, rest) = bytes.split_at(bytes.len().min(PIECE_BYTES_MAX));
                self.write_piece(piece.into(), host);
                bytes = rest;
            }
        }
        if !matches!(self.reader, Reader::Gone | Reader::Served) {
            self.backlog.extend_from_slice(bytes);
        }
    }

    /// The body is complete.
    pub fn handle_end(&mut self, host: &mut dyn Host) {
        self.complete = true;
        self.write(host);
    }

    /// The request is over.
    pub fn close(self, host: &mut dyn Host) {
        match self.reader {
            Reader::Awaited => host.discard_channel(self.key.id),
            Reader::Here | Reader::Gone => host.leave_channel(self.key.id, End::Writer, self.holder, Leaving::Lost),
            Reader::Served => {}
        }
    }

    fn write(&mut self, host: &mut dyn Host) {
        if self.reader != Reader::Here {
            return;
        }
        while self.window.is_open() && self.written < self.backlog.len() {
            let rest = &self.backlog[self.written..];
            let piece: Box<[u8]> = rest[..rest.len().min(PIECE_BYTES_MAX)].into();
            self.written += piece.len();
            self.write_piece(piece, host);
        }
        if self.written == self.backlog.len() {
            self.backlog = Vec::new();
            self.written = 0;
            if self.complete {
                self.reader = Reader::Served;
                host.leave_channel(self.key.id, End::Writer, self.holder, Leaving::Finished);
            }
        }
    }

    fn write_piece(&mut self, bytes: Box<[u8]>, host: &mut dyn Host) {
        self.window.enter(bytes.len());
        host.write_channel(self.key.id, self.holder, Piece { text: false, bytes });
    }
}

/// The reading end of `response`.
#[derive(Debug)]
pub struct Download {
    /// What the function attaches with.
    pub key: ChannelKey,
    holder: u64,
    /// Whether the function has attached.
    pub joined: bool,
    /// The head as far as it has been shaped; `None` = it has been sent.
    pub head: Option<StreamHead>,
    /// How the writer left.
    pub ended: Option<Leaving>,
    untaken: Amount,
}

// === impl Download ===

impl Download {
    /// Makes the channel.
    pub fn new(holder: u64, host: &mut dyn Host) -> Download {
        Download {
            key: host.create_channel(End::Reader, holder),
            holder,
            joined: false,
            head: Some(StreamHead::default()),
            ended: None,
            untaken: Amount::default(),
        }
    }

    /// A message of this many bytes has come; it is counted as read at the next [`Download::take`].
    pub fn note(&mut self, bytes: usize) {
        self.untaken.add(Amount::one(bytes));
    }

    /// Lets the writer go on.
    pub fn take(&mut self, host: &mut dyn Host) {
        let amount = std::mem::take(&mut self.untaken);
        if !amount.is_zero() {
            host.take_from_channel(self.key.id, self.holder, amount);
        }
    }

    /// The request is over.
    pub fn close(self, host: &mut dyn Host) {
        if self.joined {
            host.leave_channel(self.key.id, End::Reader, self.holder, Leaving::Finished);
        } else {
            host.discard_channel(self.key.id);
        }
    }
}
