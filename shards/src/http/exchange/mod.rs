//! One HTTP/1.1 connection: bytes in, events out; responses in, bytes out.
//!
//! Owner: the connection's home shard. Its reader calls [`Exchange::handle_bytes`], its writer takes
//! [`Exchange::poll_output`], one timer follows [`Exchange::deadline`].
//! Invariant: one request at a time. The next one is not looked at before the response of the last is complete and its
//! body is off the wire; what arrives early waits in `input`, and [`Exchange::wants_input`] turns false when much does.
//! Invariant: after a refusal no byte of input becomes a request.
//! Deliberately absent: a clock (time is an argument), a limit on how long the peer may leave output unread (the
//! outbox of the socket has that one), and cancellation of the handler (HTTP-62).
//!
//! ```text
//!          head complete, has a body           body complete
//! Head ───────────────────────────► Body ───────────────────────► Complete
//!  ▲ │ no body ───────────────────────│───────────────────────────►  │
//!  │ │                                │ response complete            │ response complete
//!  │ └─ refused ─► Closed ◄──────┐    ▼                              │
//!  │                  ▲          └─ Drain ── rest read ──┐           │
//!  └──────────────────┴── close ─────────────────────────┴───────────┘ keep-alive
//! ```

mod interface;

use std::borrow::Cow;
use std::collections::VecDeque;

pub use interface::{Closing, Deadline, DeadlineKind, Event, Now, Patience};

use super::body::{BodyDecoder, LAST_CHUNK, write_chunk, write_chunk_size};
use super::head::{BodyLength, Parse, Progress, Reject, Request, Version, parse};
use super::limits::{COPY_BYTES_MAX, DRAIN_BYTES_MAX, INPUT_BYTES_HIGH};
use super::response::{Framing, HeadContext, Response, ResponseHead};
use super::status::has_no_body;

/// State of one connection.
#[derive(Debug)]
pub struct Exchange {
    patience: Patience,
    now: Now,
    input: Vec<u8>,
    /// Input before this index is dealt with.
    consumed: usize,
    reading: Reading,
    writing: Writing,
    /// Of the open request; kept as plain values since the request itself belongs to the caller.
    open: OpenRequest,
    output: VecDeque<Vec<u8>>,
    output_bytes: usize,
    closing: Closing,
    reject: Option<Reject>,
    peer_finished: bool,
    /// No further request after the open one.
    is_last: bool,
    /// When the current wait began: for a head, a body step, a drain, or the peer's close.
    waiting_since_ms: u64,
    /// Body bytes in the current step.
    step_bytes: u64,
    /// Whether we kept the peer from sending at some point of the current step.
    step_paused: bool,
}

#[derive(Debug)]
enum Reading {
    Head(Progress),
    Body { decoder: BodyDecoder, wanted: bool },
    Complete,
    Drain { decoder: BodyDecoder, bytes_left: u64 },
    Closed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writing {
    /// No request is open.
    Idle,
    /// A request is open, its response has not begun.
    Waiting,
    /// This many bytes must follow.
    Length(u64),
    Chunked,
    UntilClose,
    /// The response has a body that is not sent: the method is `HEAD`, or the status has none.
    Suppressed,
}

#[derive(Debug, Clone, Copy)]
struct OpenRequest {
    version: Version,
    is_head: bool,
    keep_alive: bool,
    /// The client holds its body back until told to go on.
    holds_body: bool,
}

// === impl Exchange ===

impl Exchange {
    /// A connection that was just accepted.
    pub fn new(now: Now, patience: Patience) -> Exchange {
        Exchange {
            patience,
            now,
            input: Vec::new(),
            consumed: 0,
            reading: Reading::Head(Progress::default()),
            writing: Writing::Idle,
            open: OpenRequest { version: Version::Http11, is_head: false, keep_alive: true, holds_body: false },
            output: VecDeque::new(),
            output_bytes: 0,
            closing: Closing::Open,
            reject: None,
            peer_finished: false,
            is_last: false,
            waiting_since_ms: now.ms,
            step_bytes: 0,
            step_paused: false,
        }
    }

    // Input.

    /// Takes bytes from the socket. Call [`Exchange::poll_event`] until it has no more afterwards.
    pub fn handle_bytes(&mut self, now: Now, bytes: &[u8]) {
        self.now = now;
        if bytes.is_empty() || self.closing != Closing::Open {
            return;
        }
        if matches!(self.reading, Reading::Head(_)) && self.pending_input().is_empty() {
            self.waiting_since_ms = now.ms;
        }
        if let Reading::Body { .. } = self.reading {
            if std::mem::take(&mut self.open.holds_body) {
                self.restart_step();
            }
            self.step_bytes += bytes.len() as u64;
        }
        self.input.drain(..std::mem::take(&mut self.consumed));
        self.input.extend_from_slice(bytes);
        self.drain();
        self.note_pause();
    }

    /// The peer will send no more. What it has sent completely is still answered.
    pub fn handle_end(&mut self, now: Now) {
        self.now = now;
        self.peer_finished = true;
        match self.reading {
            _ if self.closing == Closing::Linger => self.close(Closing::Close),
            // Requests that wait in the input are still served; `poll_event` closes behind them.
            Reading::Head(_) if self.pending_input().is_empty() => self.close(Closing::Close),
            Reading::Drain { .. } => self.close(Closing::Close),
            _ => {}
        }
    }

    /// Whether the socket should be read. False: enough input waits for the caller.
    pub fn wants_input(&self) -> bool {
        match self.closing {
            Closing::Open => !self.peer_finished && self.has_room(),
            Closing::Linger => true,
            Closing::Close | Closing::Reset => false,
        }
    }

    /// The connection is to end soon: at once if no request is open, else after its response (HTTP-7, HTTP-9).
    pub fn shut_down(&mut self, now: Now) {
        self.now = now;
        self.is_last = true;
        if self.writing == Writing::Idle && self.pending_input().is_empty() {
            self.close(Closing::Close);
        }
    }

    // Events.

    /// The next event, if there is one.
    pub fn poll_event(&mut self) -> Option<Event<'_>> {
        if let Some(reject) = self.reject.take() {
            return Some(Event::Reject(reject));
        }
        if self.closing != Closing::Open {
            return None;
        }
        match self.reading {
            Reading::Head(_) => self.poll_head(),
            Reading::Body { wanted: true, .. } => self.poll_body(),
            Reading::Body { wanted: false, .. } | Reading::Complete | Reading::Drain { .. } | Reading::Closed => None,
        }
    }

    /// Asks for the body of the open request as events, and lets a waiting client send it (HTTP-33).
    pub fn read_body(&mut self) {
        if let Reading::Body { wanted, .. } = &mut self.reading {
            *wanted = true;
            if std::mem::take(&mut self.open.holds_body) && self.writing == Writing::Waiting {
                self.restart_step();
                self.queue(b"HTTP/1.1 100 Continue\r\n\r\n");
            }
        }
    }

    fn poll_head(&mut self) -> Option<Event<'_>> {
        let Reading::Head(progress) = &mut self.reading else { unreachable!("only called for heads") };
        let input = &self.input[self.consumed..];
        if input.is_empty() {
            return None;
        }
        let request = match parse(input, progress) {
            Parse::Complete { index, length } => {
                self.consumed += length;
                Request::new(&input[..length], index)
            }
            Parse::Partial => {
                if self.peer_finished {
                    self.close(Closing::Close);
                }
                return None;
            }
            Parse::Reject(reject) => {
                self.refuse(reject);
                return self.reject.take().map(Event::Reject);
            }
        };
        let head = request.head();
        self.open = OpenRequest {
            version: head.version(),
            is_head: head.method_name() == "HEAD",
            keep_alive: head.keep_alive(),
            holds_body: head.expects_continue() && self.pending_input().is_empty(),
        };
        self.writing = Writing::Waiting;
        self.reading = match head.body() {
            BodyLength::None => Reading::Complete,
            length => Reading::Body { decoder: BodyDecoder::new(length), wanted: false },
        };
        self.restart_step();
        self.note_pause();
        Some(Event::Request(request))
    }

    fn poll_body(&mut self) -> Option<Event<'_>> {
        let Reading::Body { decoder, .. } = &mut self.reading else { unreachable!("only called for bodies") };
        if decoder.is_done() {
            self.reading = Reading::Complete;
            return Some(Event::BodyEnd);
        }
        let start = self.consumed;
        match decoder.decode(&self.input[start..]) {
            Ok(step) => {
                self.consumed += step.consumed;
                if !step.data.is_empty() {
                    return Some(Event::BodyChunk(&self.input[start + step.data.start..start + step.data.end]));
                }
                if decoder.is_done() {
                    self.reading = Reading::Complete;
                    return Some(Event::BodyEnd);
                }
                if self.peer_finished {
                    self.refuse(Reject::Malformed("body cut short"));
                }
            }
            Err(error) => self.refuse(Reject::Malformed(error.0)),
        }
        self.reject.take().map(Event::Reject)
    }

    // Responses.

    /// Whether a request waits for its response to begin.
    pub fn awaits_response(&self) -> bool {
        self.writing == Writing::Waiting
    }

    /// Sends a whole response. `cors` are lines made by a [`super::cors::CorsPolicy`].
    pub fn respond(&mut self, now: Now, response: Response<'_>, cors: &[u8]) {
        if self.writing == Writing::Waiting {
            self.respond_head(now, &response.head, cors, Some(response.body.len() as u64));
            self.respond_chunk(response.body);
            self.respond_end(now);
        }
    }

    /// Begins a response. Without a length its body is streamed and ends with [`Exchange::respond_end`].
    pub fn respond_head(&mut self, now: Now, head: &ResponseHead, cors: &[u8], length: Option<u64>) {
        if self.writing != Writing::Waiting {
            return;
        }
        self.now = now;
        let framing = match (length, self.open.version) {
            (Some(length), _) => Framing::Length(length),
            (None, Version::Http11) => Framing::Chunked,
            (None, Version::Http10) => Framing::UntilClose,
        };
        let has_body = !self.open.is_head && !has_no_body(head.status);
        if framing == Framing::UntilClose && has_body || self.is_last || !self.can_drain() {
            self.open.keep_alive = false;
        }
        let mut out = Vec::with_capacity(512);
        let version = self.open.version;
        let keep_alive = self.open.keep_alive;
        head.write(&mut out, &HeadContext { version, cors, framing, keep_alive, date: now.date });
        self.queue_owned(out);
        self.writing = match framing {
            _ if !has_body => Writing::Suppressed,
            Framing::Length(length) => Writing::Length(length),
            Framing::Chunked => Writing::Chunked,
            Framing::UntilClose => Writing::UntilClose,
        };
    }

    /// Sends part of a response body: one chunk if it is streamed (HTTP-57). Large owned parts are not copied.
    pub fn respond_chunk<'a>(&mut self, data: impl Into<Cow<'a, [u8]>>) {
        let data = data.into();
        if data.is_empty() {
            return;
        }
        match &mut self.writing {
            Writing::Length(left) => {
                let sent = data.len() as u64;
                assert!(sent <= *left, "a response of {left} more bytes was given {sent}");
                *left -= sent;
                self.queue_body(data);
            }
            Writing::Chunked if data.len() > COPY_BYTES_MAX => {
                let mut size = Vec::new();
                write_chunk_size(&mut size, data.len());
                self.queue(&size);
                self.queue_body(data);
                self.queue(b"\r\n");
            }
            Writing::Chunked => {
                let mut chunk = Vec::with_capacity(data.len() + 8);
                write_chunk(&mut chunk, &data);
                self.queue_owned(chunk);
            }
            Writing::UntilClose => self.queue_body(data),
            // Also the rest of a response whose request was refused meanwhile.
            Writing::Suppressed | Writing::Idle | Writing::Waiting => {}
        }
    }

    /// Ends a response. The next request may follow.
    pub fn respond_end(&mut self, now: Now) {
        self.now = now;
        match std::mem::replace(&mut self.writing, Writing::Idle) {
            Writing::Length(left) => assert!(left == 0, "a response lacks {left} bytes"),
            Writing::Chunked => self.queue(LAST_CHUNK),
            Writing::UntilClose | Writing::Suppressed => {}
            unfit @ (Writing::Idle | Writing::Waiting) => {
                self.writing = unfit;
                return;
            }
        }
        match std::mem::replace(&mut self.reading, Reading::Closed) {
            Reading::Complete => self.next_request(),
            Reading::Body { decoder, .. } => {
                self.reading = Reading::Drain { decoder, bytes_left: DRAIN_BYTES_MAX };
                self.waiting_since_ms = now.ms;
                self.drain();
                // Without a next request there is no reason to wait for the rest. And if the client was never told to
                // send it, whether it comes at all is the client's choice, so nothing behind it can be read.
                let is_unwanted = !self.open.keep_alive || self.open.holds_body;
                if is_unwanted && matches!(self.reading, Reading::Drain { .. }) {
                    self.close(Closing::Linger);
                }
            }
            Reading::Head(_) | Reading::Drain { .. } | Reading::Closed => {
                unreachable!("a response belongs to a request")
            }
        }
    }

    /// Gives a response up so that the client can tell: before its head by closing, within its body by leaving out its
    /// end (HTTP-58).
    pub fn respond_abort(&mut self, now: Now) {
        self.now = now;
        if self.writing != Writing::Idle {
            self.cut_short();
        }
    }

    // Output.

    /// The next part to write, in order.
    pub fn poll_output(&mut self) -> Option<Vec<u8>> {
        let part = self.output.pop_front()?;
        self.output_bytes -= part.len();
        Some(part)
    }

    /// All output so far is written. The wait for the peer's close begins now.
    pub fn handle_flushed(&mut self, now: Now) {
        self.now = now;
        if self.closing == Closing::Linger {
            self.waiting_since_ms = now.ms;
        }
    }

    /// Bytes that [`Exchange::poll_output`] has yet to give. A streamed response should wait while there are many.
    pub fn output_bytes(&self) -> usize {
        self.output_bytes
    }

    /// What to do with the socket once there is no more output.
    pub fn closing(&self) -> Closing {
        self.closing
    }

    // Time.

    /// The deadline that applies now.
    pub fn deadline(&self) -> Option<Deadline> {
        let (kind, patience_ms) = match (&self.reading, self.closing) {
            (_, Closing::Linger) => (DeadlineKind::Linger, self.patience.linger_ms),
            (_, Closing::Close | Closing::Reset) => return None,
            (Reading::Head(_), _) if self.pending_input().is_empty() => (DeadlineKind::Idle, self.patience.idle_ms),
            (Reading::Head(_), _) => (DeadlineKind::Head, self.patience.head_ms),
            (Reading::Drain { .. }, _) => (DeadlineKind::Drain, self.patience.drain_ms),
            (Reading::Body { decoder, .. }, _) if self.open.holds_body || decoder.is_done() => return None,
            (Reading::Body { .. }, _) if self.patience.body_step_ms == 0 => return None,
            (Reading::Body { .. }, _) => (DeadlineKind::Body, self.patience.body_step_ms),
            (Reading::Complete | Reading::Closed, _) => return None,
        };
        Some(Deadline { at_ms: self.waiting_since_ms.saturating_add(patience_ms), kind })
    }

    /// Time has passed. Acts on the deadline if it has been reached.
    pub fn handle_time(&mut self, now: Now) {
        self.now = now;
        let Some(deadline) = self.deadline().filter(|deadline| deadline.at_ms <= now.ms) else { return };
        match deadline.kind {
            DeadlineKind::Idle | DeadlineKind::Linger => self.close(Closing::Close),
            DeadlineKind::Drain => self.close(Closing::Linger),
            DeadlineKind::Head => self.refuse(Reject::TooSlow),
            // Input that waits for the caller is no fault of the peer.
            DeadlineKind::Body
                if self.step_paused
                    || !self.pending_input().is_empty()
                    || self.step_bytes >= self.patience.body_step_bytes =>
            {
                self.restart_step();
            }
            DeadlineKind::Body => self.refuse(Reject::TooSlow),
        }
    }

    // Helpers.

    fn pending_input(&self) -> &[u8] {
        &self.input[self.consumed..]
    }

    /// A head needs all its room before it can be taken or refused; everything else is taken piece by piece.
    fn has_room(&self) -> bool {
        matches!(self.reading, Reading::Head(_)) || self.pending_input().len() < INPUT_BYTES_HIGH
    }

    fn note_pause(&mut self) {
        self.step_paused |= !self.has_room();
    }

    fn restart_step(&mut self) {
        self.waiting_since_ms = self.now.ms;
        self.step_bytes = 0;
        self.step_paused = !self.has_room();
    }

    /// Whether the connection can outlive a response that begins now, for all that is known about the body.
    fn can_drain(&self) -> bool {
        match &self.reading {
            _ if self.open.holds_body => false,
            Reading::Body { wanted: false, decoder } => {
                let buffered = self.pending_input().len() as u64;
                decoder.remaining().is_none_or(|remaining| remaining <= DRAIN_BYTES_MAX + buffered)
            }
            _ => true,
        }
    }

    /// Throws away what has come of a body nobody reads.
    fn drain(&mut self) {
        while let Reading::Drain { decoder, bytes_left } = &mut self.reading {
            if decoder.is_done() {
                self.next_request();
                return;
            }
            if self.consumed == self.input.len() {
                if self.peer_finished {
                    self.close(Closing::Close);
                }
                return;
            }
            let step = decoder.decode(&self.input[self.consumed..]);
            let left = step.as_ref().ok().and_then(|step| bytes_left.checked_sub(step.consumed as u64));
            match (step, left) {
                (Ok(step), Some(left)) => {
                    *bytes_left = left;
                    self.consumed += step.consumed;
                }
                _ => self.close(Closing::Linger),
            }
        }
    }

    /// The response and the body are complete.
    fn next_request(&mut self) {
        let has_more = !self.pending_input().is_empty();
        if !self.open.keep_alive || self.is_last {
            self.close(if has_more { Closing::Linger } else { Closing::Close });
        } else if self.peer_finished && !has_more {
            self.close(Closing::Close);
        } else {
            self.reading = Reading::Head(Progress::default());
            self.waiting_since_ms = self.now.ms;
            if !has_more {
                // An idle connection owns no buffer.
                self.input = Vec::new();
                self.consumed = 0;
            }
        }
    }

    /// Answers doubtful or late bytes, if an answer can still be read as one, and closes.
    fn refuse(&mut self, reject: Reject) {
        self.reject = Some(reject);
        match (self.writing, reject.status()) {
            (Writing::Idle | Writing::Waiting, Some(status)) => {
                let mut out = Vec::new();
                let context = HeadContext {
                    version: Version::Http11,
                    cors: &[],
                    framing: Framing::Length(0),
                    keep_alive: false,
                    date: self.now.date,
                };
                Response::empty(status).head.write(&mut out, &context);
                self.queue_owned(out);
                self.close(Closing::Linger);
            }
            (Writing::Idle | Writing::Waiting, None) => self.close(Closing::Reset),
            _ => self.cut_short(),
        }
    }

    /// Ends the connection such that the response under way cannot pass for a complete one.
    fn cut_short(&mut self) {
        match self.writing {
            Writing::UntilClose => self.close(Closing::Reset),
            _ => self.close(Closing::Close),
        }
    }

    fn close(&mut self, closing: Closing) {
        // A peer that has finished has nothing left to be read.
        let is_pointless = closing == Closing::Linger && self.peer_finished;
        self.closing = self.closing.max(if is_pointless { Closing::Close } else { closing });
        self.reading = Reading::Closed;
        self.writing = Writing::Idle;
        self.waiting_since_ms = self.now.ms;
        self.input = Vec::new();
        self.consumed = 0;
    }

    fn queue(&mut self, bytes: &[u8]) {
        self.output_bytes += bytes.len();
        match self.output.back_mut() {
            Some(last) if last.len() + bytes.len() <= COPY_BYTES_MAX => last.extend_from_slice(bytes),
            _ => self.output.push_back(bytes.to_vec()),
        }
    }

    fn queue_owned(&mut self, bytes: Vec<u8>) {
        match self.output.back() {
            Some(last) if last.len() + bytes.len() <= COPY_BYTES_MAX => self.queue(&bytes),
            _ => {
                self.output_bytes += bytes.len();
                self.output.push_back(bytes);
            }
        }
    }

    fn queue_body(&mut self, bytes: Cow<'_, [u8]>) {
        match bytes {
            Cow::Owned(bytes) => self.queue_owned(bytes),
            Cow::Borrowed(bytes) => self.queue(bytes),
        }
    }
}
