//! A browser on the stream listener: joins, leaves, and reads what it is told.

use std::time::Duration;

use serde_json::{Value, json};

use super::socket::{CLOSE, RawSocket, TEXT};
use super::{Engine, SILENCE};

/// One socket of the stream listener.
#[derive(Debug)]
pub struct Browser {
    pub socket: RawSocket,
}

impl Browser {
    pub fn open(engine: &Engine, path: &str) -> Self {
        Browser { socket: RawSocket::open(engine.stream_port(), path) }
    }

    pub fn connect(engine: &Engine) -> Self {
        Self::open(engine, "/")
    }

    pub fn join(&mut self, id: &str, stream: &str, group: &str, item: Option<&str>) {
        self.say("join", id, stream, group, item);
    }

    pub fn leave(&mut self, id: &str, stream: &str, group: &str) {
        self.say("leave", id, stream, group, None);
    }

    fn say(&mut self, kind: &str, id: &str, stream: &str, group: &str, item: Option<&str>) {
        let data = json!({"subscriptionId": id, "streamName": stream, "groupId": group, "id": item});
        self.socket.write_text(&json!({"type": kind, "data": data}).to_string());
    }

    /// Joins and takes the sync; returns its data.
    pub fn joined(&mut self, id: &str, stream: &str, group: &str, item: Option<&str>) -> Value {
        self.join(id, stream, group, item);
        let mut message = self.next();
        assert_eq!(message["event"]["type"], "sync", "{message}");
        message["event"]["data"].take()
    }

    /// The next message.
    pub fn next(&mut self) -> Value {
        let frame = self.socket.read_frame().expect("the engine keeps the socket");
        assert_eq!(frame.opcode, TEXT, "{frame:?}");
        let message: Value = serde_json::from_slice(&frame.payload).expect("a message is JSON");
        assert_eq!(message["type"], "stream", "{message}");
        assert!(message["timestamp"].as_u64().is_some_and(|ms| ms > 1_600_000_000_000), "{message}");
        message
    }

    /// The next message in short: item, kind of event, data.
    pub fn event(&mut self) -> (Value, String, Value) {
        let message = self.next();
        let event = &message["event"];
        (message["id"].clone(), event["type"].as_str().unwrap_or_default().to_owned(), event["data"].clone())
    }

    /// Fails if anything comes within a moment.
    pub fn expect_silence(&mut self) {
        self.expect_silence_for(SILENCE);
    }

    pub fn expect_silence_for(&mut self, time: Duration) {
        assert!(self.socket.is_open_and_silent(time), "the socket is neither closed nor told anything");
    }

    /// The code of the close frame that comes next.
    pub fn close_code(&mut self) -> Option<u16> {
        let frame = self.socket.read_frame().expect("a close frame");
        assert_eq!(frame.opcode, CLOSE, "{frame:?}");
        Some(u16::from_be_bytes([*frame.payload.first()?, *frame.payload.get(1)?]))
    }
}
