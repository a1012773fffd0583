//! Hot path: one connection. Moves bytes between its socket, its [`Exchange`] and its request; no logging, nothing
//! formatted.

use iii_shards::builtin::{Outcome, SocketId, Token};
use iii_shards::channel::ChannelEvent;
use iii_shards::http::exchange::{Closing, Event, Exchange, Now, Patience};

use super::context::Context;
use super::request::Pending;

/// Unsent response bytes at which no further request is begun and no more of a streamed response is taken.
pub const OUTPUT_BYTES_HIGH: usize = 1 << 20;

/// One connection and the request under way on it.
pub struct Connection {
    pub(super) socket: SocketId,
    /// Which listener it came to.
    pub(super) listener: usize,
    /// Address of the peer.
    pub(super) peer: Box<str>,
    pub(super) exchange: Exchange,
    pub(super) pending: Option<Pending>,
    /// Counts the requests.
    pub(super) sequence: u32,
    /// The earliest alarm set, `u64::MAX` = none.
    armed_ms: u64,
    /// Whether the socket is not read.
    paused: bool,
    /// Whether the shard was told to close the socket.
    closed: bool,
}

/// Which end of a request's channels an event is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelEnd {
    /// `request_body`
    Upload,
    /// `response`
    Download,
}

// === impl Connection ===

impl Connection {
    /// A connection that was just accepted.
    pub fn new(socket: SocketId, listener: usize, peer: Box<str>, now: Now) -> Connection {
        Connection {
            socket,
            listener,
            peer,
            exchange: Exchange::new(now, Patience::default()),
            pending: None,
            sequence: 0,
            armed_ms: u64::MAX,
            paused: false,
            closed: false,
        }
    }

    /// Bytes have arrived.
    pub fn handle_bytes(&mut self, bytes: &[u8], cx: &mut Context<'_>) {
        let now = cx.now();
        self.exchange.handle_bytes(now, bytes);
        self.drive(cx);
    }

    /// The peer sends no more. Whoever leaves a streamed response has left (HTTP-62); others may wait for an answer.
    pub fn handle_end(&mut self, cx: &mut Context<'_>) {
        let now = cx.now();
        self.exchange.handle_end(now);
        if self.pending.as_ref().is_some_and(Pending::is_streaming) {
            self.exchange.respond_abort(now);
            self.finish(cx);
        }
        self.drive(cx);
    }

    /// The socket is gone.
    pub fn handle_closed(&mut self, cx: &mut Context<'_>) {
        self.closed = true;
        self.finish(cx);
    }

    /// The kernel has taken all output.
    pub fn handle_flushed(&mut self, cx: &mut Context<'_>) {
        let now = cx.now();
        self.exchange.handle_flushed(now);
        if let Some(download) = self.pending.as_mut().and_then(|pending| pending.download.as_mut()) {
            download.take(cx.host);
        }
        self.drive(cx);
    }

    /// A call of the request under way has ended.
    pub fn handle_answer(&mut self, token: Token, outcome: Outcome, cx: &mut Context<'_>) {
        if self.pending.as_ref().is_some_and(|pending| pending.call == Some(token)) {
            self.answered(outcome, cx);
            self.drive(cx);
        }
    }

    /// Something has happened on a channel of the request under way.
    pub fn handle_channel(&mut self, end: ChannelEnd, event: ChannelEvent, cx: &mut Context<'_>) {
        match end {
            ChannelEnd::Upload => self.handle_upload(event, cx),
            ChannelEnd::Download => self.handle_download(event, cx),
        }
        self.drive(cx);
    }

    /// The request of this number has been let in by its gate. False: there is none any more.
    pub fn handle_entered(&mut self, sequence: u32, cx: &mut Context<'_>) -> bool {
        let waits = self.sequence == sequence && self.pending.as_ref().is_some_and(Pending::is_queued);
        if waits {
            self.start(cx);
            self.drive(cx);
        }
        waits
    }

    /// An alarm has gone off.
    pub fn handle_time(&mut self, at_ms: u64, cx: &mut Context<'_>) {
        if at_ms != self.armed_ms {
            // One that was set before an earlier one.
            return;
        }
        self.armed_ms = u64::MAX;
        let now = cx.now();
        self.exchange.handle_time(now);
        if self.pending.as_ref().is_some_and(|pending| pending.due_ms() <= now.ms) {
            self.handle_due(now.ms, cx);
        }
        self.drive(cx);
    }

    /// The engine stops: the request under way is the last one (HTTP-9).
    pub fn shut_down(&mut self, cx: &mut Context<'_>) {
        let now = cx.now();
        self.exchange.shut_down(now);
        self.drive(cx);
    }

    /// Reads what has come, as far as there is use for it, and sends what is to be sent.
    pub(super) fn drive(&mut self, cx: &mut Context<'_>) {
        while self.may_go_on(cx) {
            let Some(event) = self.exchange.poll_event() else { break };
            match event {
                Event::Request(request) => self.begin(request, cx),
                Event::BodyChunk(bytes) => {
                    let fits = self.pending.as_mut().is_none_or(|pending| pending.take_body(bytes, cx.host));
                    if !fits {
                        self.refuse_body(cx);
                    }
                }
                Event::BodyEnd => self.body_ended(cx),
                Event::Reject(_) => self.finish(cx),
            }
            self.write_out(cx);
        }
        self.write_out(cx);
        self.settle(cx);
        self.arm(cx);
    }

    /// Whether the next event can be dealt with.
    fn may_go_on(&self, cx: &mut Context<'_>) -> bool {
        match &self.pending {
            _ if self.exchange.closing() != Closing::Open => true,
            Some(pending) => pending.wants_body(),
            None => cx.host.unsent_bytes(self.socket) + self.exchange.output_bytes() < OUTPUT_BYTES_HIGH,
        }
    }

    fn write_out(&mut self, cx: &mut Context<'_>) {
        while let Some(part) = self.exchange.poll_output() {
            cx.host.write(self.socket, &part);
        }
    }

    /// Brings the socket in line with the exchange.
    fn settle(&mut self, cx: &mut Context<'_>) {
        if self.closed {
            return;
        }
        match self.exchange.closing() {
            Closing::Open => {
                let has_room = self.pending.is_some() || cx.host.unsent_bytes(self.socket) < OUTPUT_BYTES_HIGH;
                let pause = !self.exchange.wants_input() || !has_room;
                if pause != self.paused {
                    self.paused = pause;
                    cx.host.set_reading(self.socket, !pause);
                }
            }
            // The shard shuts down writing and throws away what still comes, for a while.
            Closing::Linger | Closing::Close => {
                self.closed = true;
                cx.host.close(self.socket);
            }
            Closing::Reset => {
                self.closed = true;
                cx.host.abort(self.socket);
            }
        }
    }

    /// Sees to it that an alarm goes off when something is due.
    fn arm(&mut self, cx: &mut Context<'_>) {
        if self.closed {
            return;
        }
        let exchange_ms = self.exchange.deadline().map_or(u64::MAX, |deadline| deadline.at_ms);
        let due_ms = self.pending.as_ref().map_or(u64::MAX, Pending::due_ms).min(exchange_ms);
        if due_ms < self.armed_ms {
            self.armed_ms = due_ms;
            cx.shared.alarms.push(std::cmp::Reverse((due_ms, self.socket)));
        }
    }
}
