//! Hot path: bytes to WebSocket messages and back (RFC 6455).
//!
//! [`Reader`] takes bytes as they arrive, in pieces of any size, and yields whole messages. A message that lies
//! in one piece is unmasked in place and never copied. Only an incomplete frame or a fragmented message is owned.
//! Written on tungstenite's types and tested against its codec. Deliberately absent: extensions; a frame with a
//! reserved bit is an error.

use crate::limits::{
    CONTROL_FRAME_BYTES_MAX, CONTROL_FRAMES_IN_A_ROW_MAX, FRAGMENT_ABOVE_BYTES, FRAGMENT_BYTES, FRAME_BYTES_MAX,
    MESSAGE_BYTES_MAX, MESSAGE_FRAGMENTS_MAX,
};
use std::fmt;
use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

/// The peer's bytes break the protocol or a limit. Ends that connection with a close code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireError {
    /// Code of the Close frame that tells the peer.
    pub code: CloseCode,
    /// Reason text of the Close frame, short enough for one.
    pub reason: String,
}

impl WireError {
    fn protocol(reason: &str) -> Self {
        WireError { code: CloseCode::Protocol, reason: reason.to_owned() }
    }

    fn size(reason: String) -> Self {
        WireError { code: CloseCode::Size, reason }
    }

    /// Text that is not UTF-8.
    pub fn utf8() -> Self {
        WireError { code: CloseCode::Invalid, reason: "text is not valid UTF-8".to_owned() }
    }
}

impl fmt::Display for WireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.reason, self.code)
    }
}

/// One complete thing a peer said.
#[derive(Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// Text; not yet checked to be UTF-8.
    Text(&'a [u8]),
    /// Binary data.
    Binary(&'a [u8]),
    /// Ping; wants the same payload back.
    Ping(&'a [u8]),
    /// Pong.
    Pong(&'a [u8]),
    /// Close, with its code if it carried one.
    Close(Option<CloseCode>),
}

/// First bytes of a frame, decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    fin: bool,
    opcode: OpCode,
    mask: [u8; 4],
    /// Bytes of the header itself.
    header_bytes: usize,
    /// Bytes of the payload.
    payload_bytes: usize,
}

impl Header {
    /// Reads a client's frame header. `None` = more bytes needed.
    #[inline]
    fn parse(bytes: &[u8]) -> Result<Option<Header>, WireError> {
        let &[first, second, ref rest @ ..] = bytes else { return Ok(None) };
        if first & 0x70 != 0 {
            return Err(WireError::protocol("reserved bit set, no extension was negotiated"));
        }
        let opcode = OpCode::from(first & 0x0F);
        if matches!(opcode, OpCode::Data(Data::Reserved(_)) | OpCode::Control(Control::Reserved(_))) {
            return Err(WireError::protocol("unknown opcode"));
        }
        if second & 0x80 == 0 {
            return Err(WireError::protocol("client frame is not masked"));
        }
        let fin = first & 0x80 != 0;
        let (length, used) = match second & 0x7F {
            126 => match rest.first_chunk::<2>() {
                Some(bytes) => (u64::from(u16::from_be_bytes(*bytes)), 2),
                None => return Ok(None),
            },
            127 => match rest.first_chunk::<8>() {
                Some(bytes) => (u64::from_be_bytes(*bytes), 8),
                None => return Ok(None),
            },
            short => (u64::from(short), 0),
        };
        if let OpCode::Control(_) = opcode
            && (!fin || length > CONTROL_FRAME_BYTES_MAX as u64)
        {
            return Err(WireError::protocol("control frame is fragmented or longer than 125 bytes"));
        }
        if length > FRAME_BYTES_MAX as u64 {
            return Err(WireError::size(format!("frame of {length} bytes exceeds the limit of {FRAME_BYTES_MAX}")));
        }
        let Some(mask) = rest[used..].first_chunk::<4>() else { return Ok(None) };
        Ok(Some(Header { fin, opcode, mask: *mask, header_bytes: 2 + used + 4, payload_bytes: length as usize }))
    }
}

/// Reassembles one peer's messages.
#[derive(Default)]
pub struct Reader {
    /// The start of a frame whose end has not arrived.
    partial: Vec<u8>,
    /// The fragments of a message whose last has not arrived.
    fragments: Option<Box<Fragments>>,
    /// `partial` or `fragments` hold what the last call returned and are to be let go.
    stale: Stale,
    control_in_a_row: u32,
}

struct Fragments {
    text: bool,
    bytes: Vec<u8>,
    count: u32,
}

#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Stale {
    #[default]
    Nothing,
    Partial,
    Fragments,
    Both,
}

impl Reader {
    /// Takes the next message from `input`, leaving the rest. `None` = all of `input` is used up, more is needed.
    #[inline]
    pub fn next<'s, 'i: 's>(&'s mut self, input: &mut &'i mut [u8]) -> Result<Option<Message<'s>>, WireError> {
        if self.stale != Stale::Nothing {
            self.forget();
        }
        if !self.partial.is_empty() {
            return self.next_from_partial(input);
        }
        while !input.is_empty() {
            let Some(header) = Header::parse(input)? else { break };
            let frame_bytes = header.header_bytes + header.payload_bytes;
            if input.len() < frame_bytes {
                self.partial.reserve(frame_bytes.min(input.len() + (64 << 10)));
                break;
            }
            let (frame, rest) = std::mem::take(input).split_at_mut(frame_bytes);
            *input = rest;
            let payload = &mut frame[header.header_bytes..];
            unmask(payload, header.mask);
            // Single-frame data messages, the hot case, need nothing of `self`.
            if let OpCode::Data(data) = header.opcode
                && header.fin
                && self.fragments.is_none()
                && data != Data::Continue
            {
                self.control_in_a_row = 0;
                return Ok(Some(if data == Data::Text { Message::Text(payload) } else { Message::Binary(payload) }));
            }
            if self.accept(header, payload)? {
                self.stale = Stale::Fragments;
                return Ok(Some(self.assembled()));
            }
            if let OpCode::Control(control) = header.opcode {
                return Ok(Some(control_message(control, payload)?));
            }
        }
        self.partial.extend_from_slice(input);
        *input = &mut [];
        Ok(None)
    }

    #[inline(never)]
    fn next_from_partial<'s, 'i: 's>(&'s mut self, input: &mut &'i mut [u8]) -> Result<Option<Message<'s>>, WireError> {
        let header = loop {
            if let Some(header) = Header::parse(&self.partial)? {
                break header;
            }
            let Some((first, rest)) = std::mem::take(input).split_first_mut() else { return Ok(None) };
            self.partial.push(*first);
            *input = rest;
        };
        let frame_bytes = header.header_bytes + header.payload_bytes;
        let missing = (frame_bytes - self.partial.len()).min(input.len());
        let (wanted, rest) = std::mem::take(input).split_at_mut(missing);
        self.partial.extend_from_slice(wanted);
        *input = rest;
        if self.partial.len() < frame_bytes {
            return Ok(None);
        }
        let mut frame = std::mem::take(&mut self.partial);
        unmask(&mut frame[header.header_bytes..], header.mask);
        let complete = self.accept(header, &frame[header.header_bytes..]);
        self.partial = frame;
        let assembled = complete?;
        if assembled && matches!(header.opcode, OpCode::Data(Data::Continue)) {
            self.stale = Stale::Both;
            return Ok(Some(self.assembled()));
        }
        if let OpCode::Control(control) = header.opcode {
            self.stale = Stale::Partial;
            return Ok(Some(control_message(control, &self.partial[header.header_bytes..])?));
        }
        if header.fin {
            self.stale = Stale::Partial;
            let payload = &self.partial[header.header_bytes..];
            let text = header.opcode == OpCode::Data(Data::Text);
            return Ok(Some(if text { Message::Text(payload) } else { Message::Binary(payload) }));
        }
        // A fragment went into `fragments`; go on with what else has arrived.
        self.partial = Vec::new();
        self.next(input)
    }

    /// Checks a frame against the state of fragmentation and stores it if it is a fragment.
    /// Returns whether a fragmented message is now complete.
    fn accept(&mut self, header: Header, payload: &[u8]) -> Result<bool, WireError> {
        let data = match header.opcode {
            OpCode::Control(_) => {
                self.control_in_a_row += 1;
                if self.control_in_a_row > CONTROL_FRAMES_IN_A_ROW_MAX {
                    return Err(WireError { code: CloseCode::Policy, reason: "flood of control frames".to_owned() });
                }
                return Ok(false);
            }
            OpCode::Data(data) => data,
        };
        self.control_in_a_row = 0;
        match (&mut self.fragments, data) {
            (None, Data::Continue) => Err(WireError::protocol("continuation of nothing")),
            (Some(_), Data::Text | Data::Binary) => Err(WireError::protocol("new message inside a fragmented one")),
            (None, _) if header.fin => Ok(false),
            (None, data) => {
                let text = data == Data::Text;
                self.fragments = Some(Box::new(Fragments { text, bytes: payload.to_vec(), count: 1 }));
                Ok(false)
            }
            (Some(fragments), _) => {
                fragments.count += 1;
                let bytes = fragments.bytes.len() + payload.len();
                if bytes > MESSAGE_BYTES_MAX {
                    let reason = format!("message of over {bytes} bytes exceeds the limit of {MESSAGE_BYTES_MAX}");
                    return Err(WireError::size(reason));
                }
                if fragments.count > MESSAGE_FRAGMENTS_MAX {
                    return Err(WireError::size(format!("message of over {MESSAGE_FRAGMENTS_MAX} fragments")));
                }
                fragments.bytes.extend_from_slice(payload);
                Ok(header.fin)
            }
        }
    }

    fn assembled(&self) -> Message<'_> {
        match &self.fragments {
            Some(fragments) if fragments.text => Message::Text(&fragments.bytes),
            Some(fragments) => Message::Binary(&fragments.bytes),
            None => Message::Binary(&[]),
        }
    }

    #[cold]
    fn forget(&mut self) {
        if matches!(self.stale, Stale::Partial | Stale::Both) {
            self.partial = Vec::new();
        }
        if matches!(self.stale, Stale::Fragments | Stale::Both) {
            self.fragments = None;
        }
        self.stale = Stale::Nothing;
    }

    /// Bytes held for messages that are not complete.
    pub fn bytes_held(&self) -> usize {
        self.partial.capacity() + self.fragments.as_ref().map_or(0, |fragments| fragments.bytes.capacity())
    }
}

fn control_message(control: Control, payload: &[u8]) -> Result<Message<'_>, WireError> {
    match control {
        Control::Ping => Ok(Message::Ping(payload)),
        Control::Pong => Ok(Message::Pong(payload)),
        Control::Close | Control::Reserved(_) => match payload {
            [] => Ok(Message::Close(None)),
            [_] => Err(WireError::protocol("close frame with one byte")),
            [high, low, reason @ ..] => {
                let code = CloseCode::from(u16::from_be_bytes([*high, *low]));
                if !code.is_allowed() {
                    return Err(WireError::protocol("invalid close code"));
                }
                if std::str::from_utf8(reason).is_err() {
                    return Err(WireError::utf8());
                }
                Ok(Message::Close(Some(code)))
            }
        },
    }
}

/// Applies a mask to a payload, in place.
#[inline]
fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    if mask == [0; 4] {
        return;
    }
    let [a, b, c, d] = mask;
    let word = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, tail) = payload.as_chunks_mut::<8>();
    for chunk in words {
        *chunk = (u64::from_ne_bytes(*chunk) ^ word).to_ne_bytes();
    }
    for (byte, key) in tail.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
}

/// Bytes kept free for a header while a message is encoded. Most messages need exactly these.
const HEADER_GUESS_BYTES: usize = 4;

/// Encodes one message as a server frame straight into `out`: `body` appends the payload, its header is put
/// before it. Messages above [`FRAGMENT_ABOVE_BYTES`] become several frames. `about` is the expected length of the
/// payload in bytes; a good guess saves moving it.
#[inline]
pub fn write_message(out: &mut Vec<u8>, opcode: Data, about: usize, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.reserve(about + LONG_HEADER_BYTES);
    if about > 0xFFFF {
        return write_long(out, start, opcode, body);
    }
    out.extend_from_slice(&[0; HEADER_GUESS_BYTES]);
    body(out);
    let payload_bytes = out.len() - start - HEADER_GUESS_BYTES;
    let first = 0x80 | u8::from(OpCode::Data(opcode));
    match payload_bytes {
        0..=125 => {
            out[start + 2] = first;
            out[start + 3] = payload_bytes as u8;
            out.copy_within(start + 2.., start);
            out.truncate(out.len() - 2);
        }
        126..=0xFFFF => {
            out[start] = first;
            out[start + 1] = 126;
            out[start + 2..start + 4].copy_from_slice(&(payload_bytes as u16).to_be_bytes());
        }
        _ => {
            let end = out.len();
            out.extend_from_slice(&[0; LONG_HEADER_BYTES - HEADER_GUESS_BYTES]);
            out.copy_within(start + HEADER_GUESS_BYTES..end, start + LONG_HEADER_BYTES);
            finish_long(out, start, opcode);
        }
    }
}

/// Header of a frame above 64 KiB.
const LONG_HEADER_BYTES: usize = 10;

#[inline(never)]
fn write_long(out: &mut Vec<u8>, start: usize, opcode: Data, body: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(&[0; LONG_HEADER_BYTES]);
    body(out);
    if out.len() - start - LONG_HEADER_BYTES > 0xFFFF {
        return finish_long(out, start, opcode);
    }
    // The guess was far too high, which costs a copy and nothing else.
    let payload = out.split_off(start + LONG_HEADER_BYTES);
    out.truncate(start);
    write_header(out, true, OpCode::Data(opcode), payload.len());
    out.extend_from_slice(&payload);
}

/// Fills in the header of a payload that lies behind room for a long one.
fn finish_long(out: &mut Vec<u8>, start: usize, opcode: Data) {
    let payload_bytes = out.len() - start - LONG_HEADER_BYTES;
    if payload_bytes > FRAGMENT_ABOVE_BYTES {
        let payload = out.split_off(start + LONG_HEADER_BYTES);
        out.truncate(start);
        let last = payload.len().div_ceil(FRAGMENT_BYTES) - 1;
        for (index, piece) in payload.chunks(FRAGMENT_BYTES).enumerate() {
            let opcode = if index == 0 { opcode } else { Data::Continue };
            write_header(out, index == last, OpCode::Data(opcode), piece.len());
            out.extend_from_slice(piece);
        }
        return;
    }
    out[start] = 0x80 | u8::from(OpCode::Data(opcode));
    out[start + 1] = 127;
    out[start + 2..start + LONG_HEADER_BYTES].copy_from_slice(&(payload_bytes as u64).to_be_bytes());
}

fn write_header(out: &mut Vec<u8>, fin: bool, opcode: OpCode, payload_bytes: usize) {
    out.push(if fin { 0x80 } else { 0 } | u8::from(opcode));
    match payload_bytes {
        0..=125 => out.push(payload_bytes as u8),
        126..=0xFFFF => {
            out.push(126);
            out.extend_from_slice(&(payload_bytes as u16).to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(payload_bytes as u64).to_be_bytes());
        }
    }
}

/// Appends a control frame. `payload` is at most 125 bytes long.
pub fn write_control(out: &mut Vec<u8>, control: Control, payload: &[u8]) {
    let payload = &payload[..payload.len().min(CONTROL_FRAME_BYTES_MAX)];
    write_header(out, true, OpCode::Control(control), payload.len());
    out.extend_from_slice(payload);
}

/// Appends a Close frame; without a code it is empty.
pub fn write_close(out: &mut Vec<u8>, code: Option<CloseCode>, reason: &str) {
    let mut payload = Vec::new();
    if let Some(code) = code {
        payload.extend_from_slice(&u16::from(code).to_be_bytes());
        let mut end = reason.len().min(CONTROL_FRAME_BYTES_MAX - 2);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        payload.extend_from_slice(&reason.as_bytes()[..end]);
    }
    write_control(out, Control::Close, &payload);
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
