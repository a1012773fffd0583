//! What goes over the sockets: bytes in, [`Incoming`] out, and prepared messages back to bytes.
//!
//! Pure: no sockets and no clock. Two protocols share one vocabulary, so that the event loop does the same work per
//! call whichever server is under load: iii (JSON in WebSocket frames) and NATS (its text protocol).

pub mod frame;
pub mod iii;
pub mod nats;
pub mod scan;
pub mod upgrade;

use crate::calls::{ID_BYTES, Id};
use frame::Mask;

/// The server's bytes make no sense. Costs the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WireError(pub &'static str);

impl std::fmt::Display for WireError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

/// Which protocol a connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Iii,
    Nats,
}

/// What a server said, borrowed from the receive buffer.
#[derive(Debug, PartialEq, Eq)]
pub enum Incoming<'a> {
    /// The transport is up: the HTTP upgrade succeeded, or NATS sent INFO. Registrations may go out.
    Greeting,
    /// The server has accepted this connection: `workerregistered`, or the PONG behind the subscriptions.
    Ready,
    /// Run `function` and answer to `reply` (an invocation id or a subject). An empty `reply` wants no answer.
    Call { reply: &'a [u8], function: &'a [u8], data: &'a [u8] },
    /// The answer to one of our calls: its result as raw JSON, or the error code.
    Answer { id: &'a [u8], result: Result<&'a [u8], &'a [u8]> },
    /// Must be answered with a pong carrying the same bytes.
    Ping(&'a [u8]),
    /// The server refused a registration or the connection, with this code or text.
    Refused(&'a [u8]),
    /// The server says goodbye, with a WebSocket close code if it gave one.
    Closed(Option<u16>),
    /// Nothing this tool acts on.
    Ignored,
}

/// One step of a [`Decoder`].
#[derive(Debug, PartialEq, Eq)]
pub enum Step<'a> {
    Message {
        incoming: Incoming<'a>,
        /// Bytes of the buffer to drop before the next step.
        consumed: usize,
    },
    /// More bytes are needed. `total` is the length of the unit at the front of the buffer, 0 if unknown.
    Incomplete { total: usize },
}

/// Turns one connection's bytes into [`Incoming`]s.
#[derive(Debug)]
pub enum Decoder {
    Iii(iii::Decoder),
    Nats,
}

impl Decoder {
    pub fn new(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Iii => Decoder::Iii(iii::Decoder::default()),
            Protocol::Nats => Decoder::Nats,
        }
    }

    /// Reads the message at the front of `bytes`.
    #[inline]
    pub fn step<'a>(&'a mut self, bytes: &'a [u8]) -> Result<Step<'a>, WireError> {
        match self {
            Decoder::Iii(decoder) => decoder.step(bytes),
            Decoder::Nats => nats::step(bytes),
        }
    }
}

/// Who a connection says it is, and what it offers.
#[derive(Debug)]
pub struct Introduction<'a> {
    /// Unique among all connections of a run: engines may treat equal names as one reconnecting worker.
    pub name: &'a str,
    pub functions: &'a [String],
    /// All providers of a function share its calls; matters to NATS only, where it is a queue group.
    pub shared: bool,
    /// Where answers to this connection's calls arrive; matters to NATS only.
    pub inbox: Option<&'a [u8]>,
}

/// Writes messages of one protocol.
#[derive(Clone, Debug)]
pub struct Encoder {
    protocol: Protocol,
    mask: Mask,
}

impl Encoder {
    pub fn new(protocol: Protocol, mask: Mask) -> Self {
        Self { protocol, mask }
    }

    /// What a client sends before the server has said anything.
    pub fn open(&mut self, out: &mut Vec<u8>, host: &str, path: &str) {
        match self.protocol {
            Protocol::Iii => upgrade::request(out, host, path),
            Protocol::Nats => {}
        }
    }

    /// Registers everything a connection offers. Sent on [`Incoming::Greeting`].
    pub fn introduce(&mut self, out: &mut Vec<u8>, introduction: &Introduction<'_>) {
        match self.protocol {
            Protocol::Iii => iii::introduce(out, introduction, &mut self.mask),
            Protocol::Nats => nats::introduce(out, introduction),
        }
    }

    /// Answers an [`Incoming::Call`] with its own data.
    #[inline]
    pub fn answer(&mut self, out: &mut Vec<u8>, reply: &[u8], function: &[u8], data: &[u8]) {
        match self.protocol {
            Protocol::Iii => iii::answer(out, reply, function, data, &mut self.mask),
            Protocol::Nats => nats::answer(out, reply, data),
        }
    }

    pub fn pong(&mut self, out: &mut Vec<u8>, payload: &[u8]) {
        match self.protocol {
            Protocol::Iii => {
                frame::encode(out, frame::Opcode::Pong, &[payload], &mut self.mask);
            }
            Protocol::Nats => out.extend_from_slice(b"PONG\r\n"),
        }
    }

    /// Prepares calls of one function that all carry `data_bytes` bytes.
    pub fn template(&self, function: &str, data_bytes: usize) -> CallTemplate {
        match self.protocol {
            Protocol::Iii => iii::template(function, data_bytes),
            Protocol::Nats => nats::template(function, data_bytes),
        }
    }

    /// Appends one call of `template`'s function.
    #[inline]
    pub fn call(&mut self, out: &mut Vec<u8>, template: &CallTemplate, call: &Call<'_>) {
        let start = out.len();
        out.extend_from_slice(&template.head);
        out.extend_from_slice(call.data);
        out.extend_from_slice(template.tail);
        let id = &call.id[ID_BYTES - template.id_bytes..];
        out[start + template.id_at..][..template.id_bytes].copy_from_slice(id);
        match self.protocol {
            Protocol::Iii => frame::remask(out, start + template.payload_at, &mut self.mask),
            Protocol::Nats => out[start + template.payload_at..][..nats::INBOX_BYTES].copy_from_slice(call.inbox),
        }
    }
}

/// Everything of a call that differs from the previous one to the same function.
#[derive(Debug)]
pub struct Call<'a> {
    pub id: &'a Id,
    /// The caller's inbox; empty for iii.
    pub inbox: &'a [u8],
    pub data: &'a [u8],
}

/// A call with holes for its id, its inbox and its data, so that sending one is three copies and a patch.
#[derive(Debug)]
pub struct CallTemplate {
    head: Vec<u8>,
    tail: &'static [u8],
    id_at: usize,
    /// How many trailing bytes of the id are sent: all of it for iii, a token for NATS.
    id_bytes: usize,
    /// iii: where the WebSocket payload begins. NATS: where the inbox is patched in.
    payload_at: usize,
}

/// The data of a call: a JSON object of exactly `bytes` bytes, or of the smallest size possible.
pub fn payload(bytes: usize) -> Vec<u8> {
    let mut data = br#"{"p":""#.to_vec();
    data.resize(bytes.saturating_sub(2).max(data.len()), b'x');
    data.extend_from_slice(br#""}"#);
    data
}

/// Length of the `p` string in a result, in bytes; `None` if there is none. Servers may add and reorder members.
#[inline]
pub fn echoed_bytes(result: &[u8]) -> Option<usize> {
    scan::Members::of(result)
        .find(|(key, _)| *key == b"p")
        .and_then(|(_, value)| scan::unquoted(value))
        .map(<[u8]>::len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_have_the_asked_size_and_are_recognised_when_echoed() {
        for (bytes, expected) in [(0, 8), (8, 8), (9, 9), (100, 100), (65_536, 65_536)] {
            let data = payload(bytes);
            assert_eq!(data.len(), expected, "asked for {bytes}");
            assert_eq!(echoed_bytes(&data), Some(expected - 8));
        }
        assert_eq!(echoed_bytes(br#"{"_caller_worker_id":"u","p":"xx"}"#), Some(2));
        assert_eq!(echoed_bytes(b"null"), None);
    }
}
