//! The frame reader beside tungstenite's: same bytes, same messages, whatever the pieces.
#![no_main]

use iii_shards::limits::{FRAME_BYTES_MAX, MESSAGE_BYTES_MAX};
use iii_shards::wire::frame::{Message, Reader};
use libfuzzer_sys::fuzz_target;
use std::io::{Cursor, Read, Write};
use tungstenite::protocol::{Role, WebSocket, WebSocketConfig};

#[derive(Debug, PartialEq, Eq)]
enum Owned {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>),
}

struct Tape(Cursor<Vec<u8>>);

impl Read for Tape {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(std::io::ErrorKind::WouldBlock.into()),
            read => Ok(read),
        }
    }
}

impl Write for Tape {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        Ok(buffer.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Messages, and whether the peer broke the protocol. Invalid UTF-8 in a text is the caller's to find, as in a shard.
fn ours(bytes: &[u8], piece_bytes: usize) -> (Vec<Owned>, bool) {
    let mut reader = Reader::default();
    let mut messages = Vec::new();
    for piece in bytes.chunks(piece_bytes) {
        let mut piece = piece.to_vec();
        let mut input = piece.as_mut_slice();
        loop {
            match reader.next(&mut input) {
                Ok(Some(Message::Text(text))) if std::str::from_utf8(text).is_err() => return (messages, true),
                Ok(Some(Message::Text(text))) => messages.push(Owned::Text(text.to_vec())),
                Ok(Some(Message::Binary(bytes))) => messages.push(Owned::Binary(bytes.to_vec())),
                Ok(Some(Message::Ping(bytes))) => messages.push(Owned::Ping(bytes.to_vec())),
                Ok(Some(Message::Pong(bytes))) => messages.push(Owned::Pong(bytes.to_vec())),
                Ok(Some(Message::Close(code))) => {
                    messages.push(Owned::Close(code.map(u16::from)));
                    return (messages, false);
                }
                Ok(None) => break,
                Err(_) => return (messages, true),
            }
        }
    }
    (messages, false)
}

fn theirs(bytes: &[u8]) -> (Vec<Owned>, bool) {
    let config =
        WebSocketConfig::default().max_frame_size(Some(FRAME_BYTES_MAX)).max_message_size(Some(MESSAGE_BYTES_MAX));
    let mut socket = WebSocket::from_raw_socket(Tape(Cursor::new(bytes.to_vec())), Role::Server, Some(config));
    let mut messages = Vec::new();
    loop {
        match socket.read() {
            Ok(tungstenite::Message::Text(text)) => messages.push(Owned::Text(text.as_bytes().to_vec())),
            Ok(tungstenite::Message::Binary(bytes)) => messages.push(Owned::Binary(bytes.to_vec())),
            Ok(tungstenite::Message::Ping(bytes)) => messages.push(Owned::Ping(bytes.to_vec())),
            Ok(tungstenite::Message::Pong(bytes)) => messages.push(Owned::Pong(bytes.to_vec())),
            Ok(tungstenite::Message::Close(frame)) => {
                messages.push(Owned::Close(frame.map(|frame| u16::from(frame.code))));
                return (messages, false);
            }
            Ok(tungstenite::Message::Frame(_)) => unreachable!("read() joins frames"),
            Err(tungstenite::Error::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => {
                return (messages, false);
            }
            Err(_) => return (messages, true),
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((size, bytes)) = input.split_first() else { return };
    let whole = ours(bytes, bytes.len().max(1));
    assert_eq!(whole, ours(bytes, usize::from(*size).max(1)), "the pieces matter");
    let reference = theirs(bytes);
    // Which of two violations in one unfinished message is found first is not promised; the messages are.
    let shared = whole.0.len().min(reference.0.len());
    assert_eq!(whole.0[..shared], reference.0[..shared]);
    if !whole.1 && !reference.1 {
        assert_eq!(whole.0.len(), reference.0.len());
    }
});
