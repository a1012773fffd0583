//! Channels across shards that are stepped by hand: writer on shard 0, reader on shard 1, owner either.

use super::*;
use crate::limits::CHANNEL_BYTES_MAX;
use crate::registry::FunctionHasher;
use crate::settings::{ListenerSettings, Settings};
use crate::shard::Now;
use crate::shard::mesh::Batch;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

const SHARDS: usize = 2;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

struct Mesh {
    shards: Vec<Shard>,
    now_ms: u64,
    commands: Vec<(u16, SocketCommand)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Peer {
    shard: u16,
    slot: u32,
}

/// What a peer sees.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Http(u16),
    Text(String),
    Binary(Vec<u8>),
    Pong(Vec<u8>),
    Ping,
    Close(Option<u16>),
}

fn frame_of(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x80 | opcode];
    match payload.len() {
        0..=125 => bytes.push(0x80 | payload.len() as u8),
        126..=0xFFFF => {
            bytes.push(0x80 | 126);
            bytes.extend((payload.len() as u16).to_be_bytes());
        }
        length => {
            bytes.push(0x80 | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    // The mask.
    bytes.extend([0; 4]);
    bytes.extend(payload);
    bytes
}

fn close_frame(code: u16) -> Vec<u8> {
    frame_of(CLOSE, &code.to_be_bytes())
}

fn parse_output(mut bytes: &[u8]) -> Vec<Seen> {
    let mut seen = Vec::new();
    while !bytes.is_empty() {
        if bytes.starts_with(b"HTTP/1.1 ") {
            let text = String::from_utf8_lossy(bytes).into_owned();
            let head = text.find("\r\n\r\n").expect("a whole head") + 4;
            let body = text[..head]
                .lines()
                .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok())
                .unwrap_or(0usize);
            seen.push(Seen::Http(text[9..12].parse().expect("a status")));
            bytes = &bytes[head + body..];
            continue;
        }
        let (head, length) = match bytes[1] {
            126 => (4, usize::from(u16::from_be_bytes([bytes[2], bytes[3]]))),
            127 => (10, u64::from_be_bytes(*bytes[2..].first_chunk().expect("ten bytes")) as usize),
            short => (2, usize::from(short)),
        };
        let payload = bytes[head..head + length].to_vec();
        seen.push(match bytes[0] & 0x0F {
            TEXT => Seen::Text(String::from_utf8(payload).expect("text")),
            BINARY => Seen::Binary(payload),
            PONG => Seen::Pong(payload),
            PING => Seen::Ping,
            _ => Seen::Close(payload.first_chunk().map(|code| u16::from_be_bytes(*code))),
        });
        bytes = &bytes[head + length..];
    }
    seen
}

impl Mesh {
    fn new() -> Mesh {
        let listener = ListenerSettings { handshake_timeout_ms: 10_000, ..Default::default() };
        let settings = Arc::new(Settings { shards: SHARDS, listeners: vec![listener], ..Default::default() });
        let hasher = FunctionHasher::new(3, SHARDS);
        let shards = (0..SHARDS)
            .map(|index| Shard::new(ShardId(index as u16), settings.clone(), hasher.clone(), [index as u8; 32]))
            .collect();
        let mut mesh = Mesh { shards, now_ms: 0, commands: Vec::new() };
        mesh.advance(1_000);
        mesh
    }

    fn advance(&mut self, by_ms: u64) {
        let end_ms = self.now_ms + by_ms;
        while self.now_ms < end_ms {
            self.now_ms = end_ms.min(self.now_ms + 1_000);
            for shard in &mut self.shards {
                shard.set_time(Now { ms: self.now_ms, unix_ms: self.now_ms });
                shard.handle_timers();
            }
            self.settle();
        }
    }

    /// Carries batches until nobody has anything to say, and sockets commands to the list.
    fn settle(&mut self) {
        loop {
            let mut quiet = true;
            for from in 0..SHARDS {
                for to in (0..SHARDS).filter(|to| *to != from) {
                    let mut batch = std::mem::take(self.shards[from].outgoing(ShardId(to as u16)));
                    quiet &= batch.is_empty();
                    self.shards[to].handle_batch(ShardId(from as u16), &mut batch);
                }
                *self.shards[from].outgoing(ShardId(SHARDS as u16)) = Batch::default();
                while let Some(command) = self.shards[from].poll_command() {
                    self.commands.push((from as u16, command));
                }
            }
            if quiet {
                return;
            }
        }
    }

    fn connect(&mut self, shard: u16, path: &str) -> Peer {
        let slot = self.shards[usize::from(shard)].handle_accepted(0, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let peer = Peer { shard, slot };
        let request = format!(
            "GET {path} HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        self.receive(peer, request.into_bytes());
        peer
    }

    fn receive(&mut self, peer: Peer, mut bytes: Vec<u8>) {
        self.shards[usize::from(peer.shard)].handle_bytes(peer.slot, &mut bytes);
        self.settle();
    }

    fn send(&mut self, peer: Peer, opcode: u8, payload: &[u8]) {
        self.receive(peer, frame_of(opcode, payload));
    }

    /// The peer reads all there is; the kernel takes one buffer at a time.
    fn read(&mut self, peer: Peer) -> Vec<Seen> {
        let mut bytes = Vec::new();
        while let Some(output) = self.shards[usize::from(peer.shard)].take_output(peer.slot) {
            bytes.extend_from_slice(&output);
            self.shards[usize::from(peer.shard)].handle_sent(peer.slot, output);
            self.settle();
        }
        parse_output(&bytes)
    }

    fn eof(&mut self, peer: Peer) {
        self.shards[usize::from(peer.shard)].handle_eof(peer.slot);
        self.settle();
    }

    fn commanded(&mut self, peer: Peer) -> Vec<SocketCommand> {
        let slot_of = |command: &SocketCommand| match *command {
            SocketCommand::Close(slot)
            | SocketCommand::Abort(slot)
            | SocketCommand::Pause(slot)
            | SocketCommand::Resume(slot) => slot,
        };
        let commands = std::mem::take(&mut self.commands);
        let (mine, others) =
            commands.into_iter().partition(|(shard, command)| *shard == peer.shard && slot_of(command) == peer.slot);
        self.commands = others;
        mine.into_iter().map(|(_, command)| command).collect()
    }

    fn channel(&mut self, owner: u16, buffer_size: u32) -> ChannelKey {
        self.shards[usize::from(owner)].create_channel(buffer_size).expect("there is room")
    }

    fn attach(&mut self, shard: u16, channel: ChannelKey, dir: &str) -> Peer {
        self.connect(shard, &format!("/ws/channels/{}?key={}&dir={dir}", channel.id, channel.key))
    }

    /// A writer on shard 0 and a reader on shard 1, upgraded.
    fn pair(&mut self, owner: u16, buffer_size: u32) -> (Peer, Peer) {
        let channel = self.channel(owner, buffer_size);
        let (writer, reader) = (self.attach(0, channel, "write"), self.attach(1, channel, "read"));
        assert_eq!(self.read(writer), [Seen::Http(101)]);
        assert_eq!(self.read(reader), [Seen::Http(101)]);
        (writer, reader)
    }

    fn queued_bytes(&self, peer: Peer) -> usize {
        let slot = &self.shards[usize::from(peer.shard)].connections[peer.slot as usize];
        slot.connection.as_ref().expect("connected").outbox.bytes()
    }

    fn channels(&self) -> usize {
        self.shards.iter().map(|shard| shard.residue().channels).sum()
    }
}

fn text(text: &str) -> Seen {
    Seen::Text(text.to_owned())
}

/// Runs a test with the channel owned by either shard.
fn each_owner(test: impl Fn(Mesh, u16)) {
    for owner in 0..SHARDS as u16 {
        test(Mesh::new(), owner);
    }
}

// PROTO-115
#[test]
fn messages_arrive_in_order_with_their_type_and_size() {
    each_owner(|mut mesh, owner| {
        let (writer, reader) = mesh.pair(owner, 64);
        mesh.send(writer, TEXT, "grüße".as_bytes());
        mesh.send(writer, BINARY, &[]);
        mesh.send(writer, TEXT, b"");
        mesh.send(writer, BINARY, &[7; 70_000]);
        let expected = [text("grüße"), Seen::Binary(vec![]), text(""), Seen::Binary(vec![7; 70_000])];
        assert_eq!(mesh.read(reader), expected);
        // A telemetry prefix means nothing here.
        mesh.send(writer, BINARY, b"OTLP{}");
        assert_eq!(mesh.read(reader), [Seen::Binary(b"OTLP{}".to_vec())]);
        assert_eq!(mesh.read(writer), []);
    });
}

// PROTO-115: fragments are joined, and what is one message stays one
#[test]
fn fragments_are_joined() {
    let mut mesh = Mesh::new();
    let (writer, reader) = mesh.pair(0, 64);
    let mut first = frame_of(TEXT, b"ab");
    first[0] &= 0x7F;
    mesh.receive(writer, first);
    mesh.send(writer, PING, b"between");
    assert_eq!(mesh.read(reader), []);
    assert_eq!(mesh.read(writer), [Seen::Pong(b"between".to_vec())]);
    mesh.send(writer, 0, b"cd");
    assert_eq!(mesh.read(reader), [text("abcd")]);
}

// PROTO-113
#[test]
fn an_unknown_id_or_a_wrong_key_is_not_found_and_may_try_again() {
    each_owner(|mut mesh, owner| {
        let channel = mesh.channel(owner, 1);
        let other = Uuid::from_u128(77);
        for shard in [0, 1] {
            for (id, key) in [
                (channel.id.to_string(), other.to_string()),
                (other.to_string(), channel.key.to_string()),
                ("nonsense".to_owned(), channel.key.to_string()),
                (channel.id.to_string(), String::new()),
            ] {
                let peer = mesh.connect(shard, &format!("/ws/channels/{id}?key={key}&dir=read"));
                assert_eq!(mesh.read(peer), [Seen::Http(404)], "{id} {key}");
                assert_eq!(mesh.commanded(peer), []);
                mesh.receive(peer, b"GET /health HTTP/1.1\r\n\r\n".to_vec());
                assert_eq!(mesh.read(peer), [Seen::Http(404)], "PROTO-3: the connection is kept");
            }
        }
        // All that has not used up an end.
        let reader = mesh.attach(0, channel, "read");
        assert_eq!(mesh.read(reader), [Seen::Http(101)]);
    });
}

// PROTO-7: a refused connection is not kept for ever
#[test]
fn a_refused_connection_has_a_deadline() {
    let mut mesh = Mesh::new();
    let peer = mesh.connect(0, "/ws/channels/x?key=y&dir=read");
    mesh.read(peer);
    mesh.advance(9_000);
    assert_eq!(mesh.commanded(peer), []);
    mesh.advance(2_000);
    assert_eq!(mesh.commanded(peer), [SocketCommand::Abort(peer.slot)]);
}

// PROTO-114
#[test]
fn a_second_attach_of_an_end_is_closed_without_a_status() {
    each_owner(|mut mesh, owner| {
        let channel = mesh.channel(owner, 4);
        for dir in ["read", "write"] {
            let first = mesh.attach(0, channel, dir);
            assert_eq!(mesh.read(first), [Seen::Http(101)]);
            let second = mesh.attach(1, channel, dir);
            assert_eq!(mesh.read(second), [Seen::Http(101), Seen::Close(None)]);
            assert_eq!(mesh.commanded(second), [SocketCommand::Close(second.slot)]);
            assert_eq!(mesh.commanded(first), []);
        }
        // The intruders' leaving has not ended the channel.
        assert_eq!(mesh.channels(), 1);
    });
}

// PROTO-115
#[test]
fn a_full_window_stops_the_writer_and_a_reader_lets_it_go_on() {
    each_owner(|mut mesh, owner| {
        let (writer, reader) = mesh.pair(owner, 2);
        let mut input = Vec::new();
        for number in 0..100 {
            input.extend(frame_of(BINARY, &[number; 1_000]));
        }
        mesh.receive(writer, input);
        assert_eq!(mesh.commanded(writer), [SocketCommand::Pause(writer.slot)]);
        let queued = mesh.queued_bytes(reader);
        assert!(queued < 2_100, "two messages, not {queued} bytes");
        let seen = mesh.read(reader);
        let expected: Vec<Seen> = (0..100).map(|number| Seen::Binary(vec![number; 1_000])).collect();
        assert_eq!(seen, expected);
        assert_eq!(mesh.commanded(writer), [SocketCommand::Resume(writer.slot)]);
        mesh.send(writer, TEXT, b"more");
        assert_eq!(mesh.read(reader), [text("more")]);
    });
}

// PROTO-115: the window is bounded in bytes too
#[test]
fn large_messages_fill_the_window_by_their_bytes() {
    let mut mesh = Mesh::new();
    let (writer, reader) = mesh.pair(0, 64);
    for _ in 0..4 {
        mesh.send(writer, BINARY, &vec![1; CHANNEL_BYTES_MAX / 2]);
    }
    assert_eq!(mesh.commanded(writer), [SocketCommand::Pause(writer.slot)]);
    assert!(mesh.queued_bytes(reader) < CHANNEL_BYTES_MAX + 100);
    assert_eq!(mesh.read(reader).len(), 4);
    assert_eq!(mesh.commanded(writer), [SocketCommand::Resume(writer.slot)]);
}

// PROTO-115
#[test]
fn a_reader_may_come_after_the_writer_has_left() {
    each_owner(|mut mesh, owner| {
        let channel = mesh.channel(owner, 64);
        let writer = mesh.attach(0, channel, "write");
        mesh.send(writer, TEXT, b"one");
        mesh.send(writer, BINARY, b"two");
        mesh.receive(writer, close_frame(1000));
        assert_eq!(mesh.read(writer), [Seen::Http(101), Seen::Close(Some(1000))], "PROTO-17: echoed");
        let reader = mesh.attach(1, channel, "read");
        let expected = [Seen::Http(101), text("one"), Seen::Binary(b"two".to_vec()), Seen::Close(None)];
        assert_eq!(mesh.read(reader), expected);
        assert_eq!(mesh.commanded(reader), [SocketCommand::Close(reader.slot)]);
        assert_eq!(mesh.channels(), 0, "PROTO-116: both ends are gone");
    });
}

// PROTO-115: the socket of a slow reader stays until it has been given everything
#[test]
fn a_slow_reader_gets_all_of_a_channel_that_has_ended() {
    let mut mesh = Mesh::new();
    let (writer, reader) = mesh.pair(0, 64);
    mesh.send(writer, TEXT, b"one");
    let first = mesh.shards[1].take_output(reader.slot).expect("one message");
    mesh.send(writer, TEXT, b"two");
    mesh.receive(writer, close_frame(1000));
    mesh.advance(120_000);
    assert_eq!(mesh.commanded(reader), [], "nothing ends it while it is busy");
    mesh.shards[1].handle_sent(reader.slot, first);
    assert_eq!(mesh.read(reader), [text("two"), Seen::Close(None)]);
    assert_eq!(mesh.commanded(reader), [SocketCommand::Close(reader.slot)]);
}

// PROTO-115
#[test]
fn the_loss_of_a_writer_is_told_after_what_it_wrote() {
    each_owner(|mut mesh, owner| {
        let (writer, reader) = mesh.pair(owner, 1);
        let mut input = Vec::new();
        for number in 0..3 {
            input.extend(frame_of(TEXT, format!("{number}").as_bytes()));
        }
        mesh.receive(writer, input);
        // Two of the messages wait for the window when the socket ends; they were sent all the same.
        mesh.eof(writer);
        assert_eq!(mesh.read(reader), [text("0"), text("1"), text("2"), Seen::Close(Some(1011))]);
        assert_eq!(mesh.channels(), 0);
    });
}

#[test]
fn a_close_behind_held_messages_is_not_a_loss() {
    let mut mesh = Mesh::new();
    let (writer, reader) = mesh.pair(1, 1);
    let mut input = frame_of(TEXT, b"0");
    input.extend(frame_of(TEXT, b"1"));
    input.extend(close_frame(1000));
    mesh.receive(writer, input);
    mesh.eof(writer);
    assert_eq!(mesh.read(reader), [text("0"), text("1"), Seen::Close(None)]);
}

// PROTO-17
#[test]
fn a_close_is_echoed_to_a_peer_that_ends_its_side_at_once() {
    let mut mesh = Mesh::new();
    let (writer, _) = mesh.pair(0, 8);
    mesh.receive(writer, close_frame(1000));
    mesh.eof(writer);
    assert_eq!(mesh.commanded(writer), [SocketCommand::Close(writer.slot)], "not cut");
    assert_eq!(mesh.read(writer), [Seen::Close(Some(1000))]);
}

// PROTO-11, PROTO-115
#[test]
fn a_writer_that_breaks_the_protocol_is_closed_and_its_reader_told() {
    for (bad, code) in [(frame_of(TEXT, &[0xFF]), 1007), (vec![0xC1, 0x80, 0, 0, 0, 0], 1002)] {
        let mut mesh = Mesh::new();
        let (writer, reader) = mesh.pair(0, 8);
        mesh.send(writer, TEXT, b"good");
        mesh.receive(writer, bad);
        assert_eq!(mesh.read(writer), [Seen::Close(Some(code))]);
        assert_eq!(mesh.read(reader), [text("good"), Seen::Close(Some(1011))]);
    }
}

// PROTO-115
#[test]
fn a_writer_is_closed_at_once_when_its_reader_leaves() {
    each_owner(|mut mesh, owner| {
        for by_frame in [true, false] {
            let (writer, reader) = mesh.pair(owner, 1);
            // Even one that is not being read because its window is full.
            mesh.receive(writer, [frame_of(BINARY, b"x"), frame_of(BINARY, &vec![0; 100_000])].concat());
            assert_eq!(mesh.commanded(writer), [SocketCommand::Pause(writer.slot)]);
            if by_frame {
                mesh.receive(reader, close_frame(1000));
            } else {
                mesh.eof(reader);
            }
            assert_eq!(mesh.read(writer), [Seen::Close(Some(1000))]);
            let expected = [SocketCommand::Resume(writer.slot), SocketCommand::Close(writer.slot)];
            assert_eq!(mesh.commanded(writer), expected);
            assert_eq!(mesh.channels(), 0, "PROTO-116");
        }
    });
}

// PROTO-115
#[test]
fn a_writer_that_comes_after_its_reader_left_is_closed() {
    let mut mesh = Mesh::new();
    let channel = mesh.channel(1, 1);
    let reader = mesh.attach(0, channel, "read");
    mesh.eof(reader);
    let writer = mesh.attach(0, channel, "write");
    assert_eq!(mesh.read(writer), [Seen::Http(101), Seen::Close(Some(1000))]);
    assert_eq!(mesh.channels(), 0);
}

// PROTO-115, PROTO-13
#[test]
fn what_a_reader_sends_is_ignored_but_its_pings_are_answered() {
    let mut mesh = Mesh::new();
    let (writer, reader) = mesh.pair(0, 8);
    mesh.send(reader, TEXT, b"{\"type\":\"ping\"}");
    mesh.send(reader, TEXT, &[0xFF]);
    mesh.send(reader, BINARY, b"OTLP{}");
    mesh.send(reader, PING, b"p");
    mesh.send(writer, PING, b"q");
    assert_eq!(mesh.read(reader), [Seen::Pong(b"p".to_vec())]);
    assert_eq!(mesh.read(writer), [Seen::Pong(b"q".to_vec())]);
    assert_eq!(mesh.shards[1].counters().telemetry_frames, Default::default());
}

// PROTO-116
#[test]
fn a_channel_whose_other_end_never_comes_expires() {
    each_owner(|mut mesh, owner| {
        let channel = mesh.channel(owner, 8);
        let writer = mesh.attach(0, channel, "write");
        assert_eq!(mesh.read(writer), [Seen::Http(101)]);
        mesh.send(writer, TEXT, b"for nobody");
        for _ in 0..10 {
            mesh.advance(29_000);
            mesh.send(writer, PONG, b"");
        }
        assert_eq!(mesh.channels(), 1);
        mesh.advance(71_000);
        assert_eq!(mesh.channels(), 0);
        assert!(mesh.read(writer).contains(&Seen::Close(Some(1011))));
        let late = mesh.attach(1, channel, "read");
        assert_eq!(mesh.read(late), [Seen::Http(404)]);
    });
}

// PROTO-14, PROTO-116: complete channels live as long as their ends do, silent or held up
#[test]
fn back_pressure_is_not_taken_for_death() {
    let mut mesh = Mesh::new();
    let (writer, reader) = mesh.pair(1, 1);
    mesh.receive(writer, [frame_of(BINARY, b"x"), frame_of(BINARY, &vec![0; 100_000])].concat());
    // Neither end says anything for five minutes: the writer is not read, the reader is busy.
    mesh.advance(300_000);
    assert_eq!(mesh.commanded(writer), [SocketCommand::Pause(writer.slot)]);
    assert_eq!(mesh.commanded(reader), []);
    let seen = mesh.read(reader);
    assert_eq!(seen.iter().filter(|seen| matches!(seen, Seen::Binary(_))).count(), 2);
    assert_eq!(mesh.commanded(writer), [SocketCommand::Resume(writer.slot)]);
    // Back to normal, silence counts again.
    mesh.advance(100_000);
    assert!(mesh.read(reader).contains(&Seen::Close(Some(1012))));
    assert!(mesh.read(writer).contains(&Seen::Close(Some(1012))));
}

// PROTO-70: not even a channel waits for a reader for ever
#[test]
fn a_reader_that_stands_still_for_very_long_is_closed() {
    let mut mesh = Mesh::new();
    let (writer, reader) = mesh.pair(0, 1);
    mesh.send(writer, TEXT, b"never read");
    for _ in 0..25 {
        mesh.advance(29_000);
        mesh.send(writer, PONG, b"");
    }
    assert_eq!(mesh.commanded(reader).first(), Some(&SocketCommand::Close(reader.slot)));
    assert!(mesh.read(writer).contains(&Seen::Close(Some(1000))));
}

// PROTO-18
#[test]
fn a_stop_ends_channels_with_1012() {
    let mut mesh = Mesh::new();
    let (writer, reader) = mesh.pair(0, 1);
    for index in 0..SHARDS {
        let mut batch = Batch::default();
        let stop = crate::control::Command::Stop;
        batch.messages.push(RingMessage::Command(Box::new(stop)));
        mesh.shards[index].handle_batch(ShardId(SHARDS as u16), &mut batch);
    }
    mesh.settle();
    assert_eq!(mesh.read(writer), [Seen::Close(Some(1012))]);
    assert_eq!(mesh.read(reader), [Seen::Close(Some(1012))]);
    assert_eq!(mesh.channels(), 0);
}

// PROTO-111, ENG-49
#[test]
fn a_worker_creates_channels() {
    let mut mesh = Mesh::new();
    let worker = mesh.connect(0, "/");
    mesh.read(worker);
    let call = |data: &str| {
        format!(
            r#"{{"type":"invokefunction","invocation_id":"00000000-0000-4000-8000-000000000001",
            "function_id":"engine::channels::create","data":{data}}}"#
        )
    };
    mesh.send(worker, TEXT, call(r#"{"buffer_size":16}"#).as_bytes());
    let seen = mesh.read(worker);
    let [Seen::Text(answer)] = &seen[..] else { panic!("{seen:?}") };
    let answer: serde_json::Value = serde_json::from_str(answer).expect("JSON");
    let (writer, reader) = (&answer["result"]["writer"], &answer["result"]["reader"]);
    assert_eq!((&writer["direction"], &reader["direction"]), (&"write".into(), &"read".into()));
    for member in ["channel_id", "access_key"] {
        assert_eq!(writer[member], reader[member]);
        let text = writer[member].as_str().expect("a string");
        assert_eq!(Uuid::try_parse(text).map(|uuid| uuid.to_string()), Ok(text.to_owned()));
    }
    assert_ne!(writer["channel_id"], writer["access_key"]);
    mesh.send(worker, TEXT, call(r#"{"buffer_size":-1}"#).as_bytes());
    let seen = mesh.read(worker);
    assert!(matches!(&seen[..], [Seen::Text(answer)] if answer.contains("deserialization_error")), "{seen:?}");
    // PROTO-116: not tied to the worker that created it.
    mesh.eof(worker);
    assert_eq!(mesh.channels(), 1);
    let id = writer["channel_id"].as_str().expect("a string");
    let key = writer["access_key"].as_str().expect("a string");
    let writer = mesh.connect(1, &format!("/ws/channels/{id}?key={key}&dir=write"));
    assert_eq!(mesh.read(writer), [Seen::Http(101)]);
}

// Holders inside the engine: what an HTTP request body and response body will be.
#[test]
fn an_end_may_be_inside_the_engine() {
    let mut mesh = Mesh::new();
    let channel = mesh.channel(1, 2);
    assert_eq!(mesh.shards[1].attach_in_process(channel.id, End::Writer, 5), Verdict::Attached { buffer_size: 2 });
    let piece = |text: &str| Piece { text: true, bytes: text.as_bytes().into() };
    mesh.shards[1].write_in_process(channel.id, 5, piece("early"));
    let reader = mesh.attach(0, channel, "read");
    mesh.shards[1].write_in_process(channel.id, 5, piece("late"));
    mesh.settle();
    assert_eq!(mesh.read(reader), [Seen::Http(101), text("early"), text("late")]);
    let taken = mesh.shards[1].poll_channel_event();
    assert_eq!(taken, Some((5, ChannelEvent::Taken(Amount { messages: 2, bytes: 9 }))));
    mesh.shards[1].leave_in_process(channel.id, End::Writer, 5, Leaving::Finished);
    mesh.settle();
    assert_eq!(mesh.read(reader), [Seen::Close(None)]);

    let channel = mesh.channel(0, 1);
    mesh.shards[0].attach_in_process(channel.id, End::Reader, 6);
    let writer = mesh.attach(1, channel, "write");
    assert_eq!(mesh.read(writer), [Seen::Http(101)]);
    mesh.receive(writer, [frame_of(TEXT, b"a"), frame_of(TEXT, b"b")].concat());
    assert_eq!(mesh.shards[0].poll_channel_event(), Some((6, ChannelEvent::Message(piece("a")))));
    assert_eq!(mesh.shards[0].poll_channel_event(), None, "a window of one");
    mesh.shards[0].taken_in_process(channel.id, 6, Amount::one(1));
    mesh.settle();
    assert_eq!(mesh.shards[0].poll_channel_event(), Some((6, ChannelEvent::Message(piece("b")))));
    mesh.shards[0].discard_channel(channel.id);
    mesh.settle();
    assert_eq!(mesh.read(writer), [Seen::Close(Some(1011))]);
    assert_eq!(mesh.shards[0].poll_channel_event(), Some((6, ChannelEvent::Expired)));
    assert_eq!(mesh.channels(), 0);
}

// PROTO-118, PROTO-119
#[test]
fn telemetry_is_counted_per_signal_and_handed_to_control() {
    let mut mesh = Mesh::new();
    let (worker, otel) = (mesh.connect(0, "/"), mesh.connect(0, "/otel"));
    mesh.read(worker);
    assert_eq!(mesh.read(otel), [Seen::Http(101)], "no greeting");
    let mut sink = crate::control::Control::new(
        mesh.shards[0].settings.clone(),
        FunctionHasher::new(3, SHARDS),
        [0; 32],
        Now::default(),
    );
    for (peer, frame) in [
        (otel, &br#"OTLP{"resourceSpans":[]}"#[..]),
        (otel, br#"MTRC{"resourceMetrics":[]}"#),
        (otel, b"LOGS{}"),
        (worker, b"LOGS{}"),
        // None of these counts, and none ends the connection.
        (otel, b"OTLP{"),
        (otel, b"MTRC\"\xFF\""),
        (otel, b"{\"type\":\"ping\"}"),
    ] {
        let mut bytes = frame_of(BINARY, frame);
        mesh.shards[0].handle_bytes(peer.slot, &mut bytes);
    }
    let mut ignored = frame_of(TEXT, b"{\"type\":\"ping\"}");
    mesh.shards[0].handle_bytes(otel.slot, &mut ignored);
    let mut batch = std::mem::take(mesh.shards[0].outgoing(ShardId(SHARDS as u16)));
    sink.handle_batch(&mut batch);
    let frames = sink.telemetry().frames();
    assert_eq!((frames.traces, frames.metrics, frames.logs), (1, 1, 2));
    assert_eq!(sink.telemetry().bytes().logs, 4);
    assert_eq!(mesh.shards[0].counters().telemetry_frames, frames);
    mesh.send(otel, PING, b"alive");
    assert_eq!(mesh.read(otel), [Seen::Pong(b"alive".to_vec())]);
    assert_eq!(mesh.read(worker), []);
    assert_eq!(mesh.commanded(otel), []);
}

// The sink may be slow: what waits for it is bounded.
#[test]
fn telemetry_that_outruns_its_sink_is_dropped_and_counted() {
    let mut mesh = Mesh::new();
    let otel = mesh.connect(0, "/otel");
    let body = [b"OTLP\"".to_vec(), vec![b'x'; 3 << 20], b"\"".to_vec()].concat();
    for _ in 0..10 {
        let mut bytes = frame_of(BINARY, &body);
        mesh.shards[0].handle_bytes(otel.slot, &mut bytes);
    }
    assert_eq!(mesh.shards[0].counters().telemetry_frames.traces, 10);
    assert_eq!(mesh.shards[0].counters().telemetry_dropped, 8);
}
