//! The frame codec against tungstenite's: whatever the split, both read the same messages, and each reads what
//! the other writes.

use super::*;
use proptest::prelude::*;
use std::io::{Cursor, Read, Write};
use tungstenite::protocol::{Role, WebSocket, WebSocketConfig};

#[derive(Debug, Clone, PartialEq, Eq)]
enum Owned {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>),
}

fn owned(message: Message<'_>) -> Owned {
    match message {
        Message::Text(payload) => Owned::Text(payload.to_vec()),
        Message::Binary(payload) => Owned::Binary(payload.to_vec()),
        Message::Ping(payload) => Owned::Ping(payload.to_vec()),
        Message::Pong(payload) => Owned::Pong(payload.to_vec()),
        Message::Close(code) => Owned::Close(code.map(u16::from)),
    }
}

/// Feeds `bytes` in pieces of the given sizes (the last size repeats).
fn read_split(bytes: &[u8], sizes: &[usize]) -> (Vec<Owned>, Option<CloseCode>) {
    let mut reader = Reader::default();
    let mut messages = Vec::new();
    let mut rest = bytes.to_vec();
    let mut sizes = sizes.iter().copied().chain(std::iter::repeat(sizes.last().copied().unwrap_or(1)));
    while !rest.is_empty() {
        let take = sizes.next().unwrap_or(1).clamp(1, rest.len());
        let mut piece: Vec<u8> = rest.drain(..take).collect();
        let mut input = piece.as_mut_slice();
        loop {
            match reader.next(&mut input) {
                Ok(Some(message)) => {
                    let message = owned(message);
                    let close = matches!(message, Owned::Close(_));
                    messages.push(message);
                    if close {
                        return (messages, None);
                    }
                }
                Ok(None) => break,
                Err(error) => return (messages, Some(error.code)),
            }
        }
    }
    (messages, None)
}

/// Bytes in, nothing out.
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

/// What tungstenite makes of the same bytes.
fn reference(bytes: &[u8], role: Role) -> (Vec<Owned>, bool) {
    let config =
        WebSocketConfig::default().max_frame_size(Some(FRAME_BYTES_MAX)).max_message_size(Some(MESSAGE_BYTES_MAX));
    let mut socket = WebSocket::from_raw_socket(Tape(Cursor::new(bytes.to_vec())), role, Some(config));
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

fn client_frame(first: u8, mask: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    match payload.len() {
        0..=125 => out.push(0x80 | payload.len() as u8),
        126..=0xFFFF => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(payload.len() as u16).to_be_bytes());
        }
        _ => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
    out
}

fn frames() -> impl Strategy<Value = Vec<u8>> {
    let opcode = prop_oneof![
        8 => Just(0x81u8), 4 => Just(0x82), 4 => Just(0x01), 4 => Just(0x02), 6 => Just(0x00), 6 => Just(0x80),
        3 => Just(0x89), 3 => Just(0x8A), 1 => Just(0x88), 1 => any::<u8>(),
    ];
    let payload = prop_oneof![
        6 => "[a-z]{0,40}".prop_map(String::into_bytes),
        1 => "[a-z]{120,130}".prop_map(String::into_bytes),
        1 => (65_530usize..65_540).prop_map(|length| vec![b'x'; length]),
    ];
    proptest::collection::vec((opcode, any::<[u8; 4]>(), payload), 1..12).prop_map(|frames| {
        // Bad close payloads have a table of their own: tungstenite answers them instead of failing.
        let frame = |(first, mask, payload): (u8, [u8; 4], Vec<u8>)| match first & 0x0F {
            8 => client_frame(first, mask, &1000u16.to_be_bytes()),
            _ => client_frame(first, mask, &payload),
        };
        frames.into_iter().flat_map(frame).collect()
    })
}

proptest! {
    #[test]
    fn any_split_reads_the_same_and_agrees_with_tungstenite(
        bytes in frames(), sizes in proptest::collection::vec(1usize..4000, 1..8), cut in 0usize..3,
    ) {
        let bytes = &bytes[..bytes.len().saturating_sub(cut)];
        let whole = read_split(bytes, &[usize::MAX]);
        prop_assert_eq!(&read_split(bytes, &sizes), &whole);
        let (messages, failed) = reference(bytes, Role::Server);
        prop_assert_eq!(&whole.0, &messages);
        // Of a truncated stream we may refuse a header before tungstenite has seen its payload.
        prop_assert!(whole.1.is_some() == failed || (cut > 0 && !failed), "{:?}", whole.1);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let whole = read_split(&bytes, &[usize::MAX]);
        prop_assert_eq!(read_split(&bytes, &[1]), whole);
    }

    #[test]
    fn tungstenite_reads_what_we_write(lengths in proptest::collection::vec(
        (prop_oneof![0usize..140, 65_500usize..65_600, 70_000usize..200_000], prop_oneof![Just(0usize), 0usize..200_000]), 1..6), text in any::<bool>())
    {
        let mut out = Vec::new();
        let mut expected = Vec::new();
        for (length, about) in lengths {
            let payload = vec![b'y'; length];
            let opcode = if text { Data::Text } else { Data::Binary };
            write_message(&mut out, opcode, about, |out| out.extend_from_slice(&payload));
            expected.push(if text { Owned::Text(payload) } else { Owned::Binary(payload) });
        }
        prop_assert_eq!(reference(&out, Role::Client), (expected, false));
    }
}

// PROTO-12: more than 16 MiB goes out in pieces of at most 1 MiB.
#[test]
fn long_messages_are_fragmented() {
    let payload: Vec<u8> = (0..FRAGMENT_ABOVE_BYTES + 5).map(|index| b'a' + (index % 26) as u8).collect();
    let mut out = b"before".to_vec();
    write_message(&mut out, Data::Text, payload.len(), |out| out.extend_from_slice(&payload));
    let frames = out.split_off(6);
    assert_eq!(&frames[..2], &[0x01, 127]);
    assert_eq!(u64::from_be_bytes(frames[2..10].try_into().unwrap()), FRAGMENT_BYTES as u64);
    assert!(reference(&frames, Role::Client).0 == vec![Owned::Text(payload)]);
}

// PROTO-11, T4: violations and their close codes.
#[test]
fn violations_have_close_codes() {
    let mask = [1, 2, 3, 4];
    let text = |bytes: &[u8]| client_frame(0x81, mask, bytes);
    let mut too_long = vec![0x82, 0xFF];
    too_long.extend_from_slice(&(1u64 << 63).to_be_bytes());
    too_long.extend_from_slice(&mask);
    for (what, bytes, code) in [
        ("unmasked", vec![0x81, 0x01, b'a'], CloseCode::Protocol),
        ("reserved bit", client_frame(0xC1, mask, b"a"), CloseCode::Protocol),
        ("reserved opcode", client_frame(0x83, mask, b"a"), CloseCode::Protocol),
        ("reserved control opcode", client_frame(0x8B, mask, b"a"), CloseCode::Protocol),
        ("fragmented ping", client_frame(0x09, mask, b"a"), CloseCode::Protocol),
        ("long ping", client_frame(0x89, mask, &[b'a'; 126]), CloseCode::Protocol),
        ("stray continuation", client_frame(0x80, mask, b"a"), CloseCode::Protocol),
        ("text inside text", [client_frame(0x01, mask, b"a"), text(b"b")].concat(), CloseCode::Protocol),
        ("close with one byte", client_frame(0x88, mask, b"a"), CloseCode::Protocol),
        ("close with code 1005", client_frame(0x88, mask, &1005u16.to_be_bytes()), CloseCode::Protocol),
        ("close with bad text", client_frame(0x88, mask, &[0x03, 0xE8, 0xFF]), CloseCode::Invalid),
        ("length bomb", too_long, CloseCode::Size),
    ] {
        assert_eq!(read_split(&bytes, &[usize::MAX]).1, Some(code), "{what}");
        assert_eq!(read_split(&bytes, &[1]).1, Some(code), "{what}, byte by byte");
    }
}

// T4: endless fragments are bounded in bytes and in number.
#[test]
fn fragment_bombs_end() {
    let mut bytes = client_frame(0x01, [0; 4], b"");
    for _ in 0..=MESSAGE_FRAGMENTS_MAX {
        bytes.extend_from_slice(&client_frame(0x00, [0; 4], b"a"));
    }
    assert_eq!(read_split(&bytes, &[1 << 16]).1, Some(CloseCode::Size));
    let piece = client_frame(0x00, [0; 4], &vec![b'a'; FRAME_BYTES_MAX]);
    let bytes = [client_frame(0x01, [0; 4], b"a"), piece.repeat(4)].concat();
    assert_eq!(read_split(&bytes, &[1 << 20]).1, Some(CloseCode::Size));
    let pings = client_frame(0x89, [0; 4], b"").repeat(CONTROL_FRAMES_IN_A_ROW_MAX as usize + 1);
    assert_eq!(read_split(&pings, &[1 << 16]).1, Some(CloseCode::Policy));
}
