//! The client's side of the wire, written against RFC 6455 and not against our own codec: frames a worker sends,
//! and a strict reader of what the engine sends.

use serde_json::Value;
use std::rc::Rc;

/// What a client hears.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    /// An HTTP answer, head only.
    Http(Rc<str>),
    /// A protocol message.
    Message(Rc<Value>),
    /// A ping.
    Ping(Rc<[u8]>),
    /// A pong.
    Pong(Rc<[u8]>),
    /// A Close frame.
    Close(Option<u16>),
}

/// A request that opens a WebSocket.
pub fn upgrade_request(path: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nhost: engine\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .into_bytes()
}

/// Appends a masked frame; `first` is its first byte.
pub fn write_frame(out: &mut Vec<u8>, first: u8, mask: [u8; 4], payload: &[u8]) {
    out.push(first);
    match payload.len() {
        length @ 0..=125 => out.push(0x80 | length as u8),
        length @ 126..=0xFFFF => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
}

/// Joins the engine's bytes to messages. Anything a strict client would refuse is an error.
#[derive(Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    /// Bytes consumed so far.
    offset: u64,
    upgraded: bool,
    closed: bool,
    fragments: Option<Vec<u8>>,
}

impl Decoder {
    /// Takes bytes; gives each complete unit and the stream offset of its end.
    pub fn feed(&mut self, bytes: &[u8], mut each: impl FnMut(u64, Heard)) -> Result<(), String> {
        self.buffer.extend_from_slice(bytes);
        while let Some((used, heard)) = self.next()? {
            self.buffer.drain(..used);
            self.offset += used as u64;
            if let Some(heard) = heard {
                each(self.offset, heard);
            }
        }
        Ok(())
    }

    fn next(&mut self) -> Result<Option<(usize, Option<Heard>)>, String> {
        if !self.upgraded {
            let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
            let head = String::from_utf8_lossy(&self.buffer[..end + 4]).into_owned();
            let body_bytes = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .map_or(0, |length| length.trim().parse::<usize>().unwrap_or(0));
            let used = end + 4 + body_bytes;
            if self.buffer.len() < used {
                return Ok(None);
            }
            self.upgraded = head.starts_with("HTTP/1.1 101 ");
            return Ok(Some((used, Some(Heard::Http(head.into())))));
        }
        if self.closed && !self.buffer.is_empty() {
            return Err("bytes after the Close frame".to_owned());
        }
        self.next_frame()
    }

    fn next_frame(&mut self) -> Result<Option<(usize, Option<Heard>)>, String> {
        let [first, second, rest @ ..] = &self.buffer[..] else { return Ok(None) };
        if second & 0x80 != 0 || first & 0x70 != 0 {
            return Err(format!("frame starts {first:#x} {second:#x}: masked, or a reserved bit is set"));
        }
        let (header_bytes, length) = match second & 0x7F {
            126 => match rest.first_chunk::<2>() {
                Some(length) => (4, usize::from(u16::from_be_bytes(*length))),
                None => return Ok(None),
            },
            127 => match rest.first_chunk::<8>() {
                Some(length) => (10, u64::from_be_bytes(*length) as usize),
                None => return Ok(None),
            },
            length => (2, usize::from(length)),
        };
        let used = header_bytes + length;
        let Some(payload) = self.buffer.get(header_bytes..used) else { return Ok(None) };
        let (fin, opcode) = (first & 0x80 != 0, first & 0x0F);
        let heard = match opcode {
            0 | 1 => {
                let mut message = match (opcode, self.fragments.take()) {
                    (1, None) => Vec::new(),
                    (0, Some(fragments)) => fragments,
                    _ => return Err("a fragment out of place".to_owned()),
                };
                message.extend_from_slice(payload);
                if fin {
                    let value: Value = serde_json::from_slice(&message)
                        .map_err(|error| format!("{error} in {}", String::from_utf8_lossy(&message)))?;
                    if !value.is_object() {
                        return Err(format!("not an object: {value}"));
                    }
                    Some(Heard::Message(value.into()))
                } else {
                    self.fragments = Some(message);
                    None
                }
            }
            8 => {
                self.closed = true;
                Some(Heard::Close(payload.first_chunk::<2>().map(|code| u16::from_be_bytes(*code))))
            }
            9 => Some(Heard::Ping(payload.into())),
            10 => Some(Heard::Pong(payload.into())),
            _ => return Err(format!("opcode {opcode}")),
        };
        Ok(Some((used, heard)))
    }
}
