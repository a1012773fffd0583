//! What browsers and `stream` triggers are told: one JSON object, made once per event (STREAM section 4.3).

use super::name::GroupName;
use iii_shards::wire::Data;
use iii_shards::wire::encode::{Value, write_object};
use iii_shards::wire::frame::write_message;
use std::sync::Arc;

/// What has happened.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// The state as of now: the value of an item, or the values of a group.
    Sync(&'a [u8]),
    /// An item is new.
    Create(&'a [u8]),
    /// An item has this value now.
    Update(&'a [u8]),
    /// An item is gone; this was its value.
    Delete(&'a [u8]),
    /// `stream::send`
    Sent {
        /// Its `type`.
        kind: &'a str,
        /// Its `data`.
        data: &'a [u8],
    },
    /// A join was refused.
    Unauthorized,
}

/// An event with where and when it happened.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// When, in milliseconds since the Unix epoch.
    pub unix_ms: u64,
    /// Which stream.
    pub stream: &'a str,
    /// Which group.
    pub group: &'a str,
    /// Which item, if it is about one.
    pub item: Option<&'a str>,
    /// What.
    pub event: Event<'a>,
}

impl<'a> Message<'a> {
    /// A message about a group or an item of it.
    pub fn new(unix_ms: u64, name: &'a GroupName, item: Option<&'a str>, event: Event<'a>) -> Message<'a> {
        Message { unix_ms, stream: &name.stream, group: &name.group, item, event }
    }

    /// Appends the JSON text.
    pub fn write(&self, out: &mut Vec<u8>) {
        let mut event = Vec::new();
        let plain = |out: &mut Vec<u8>, kind, data| {
            write_object(out, &[("type", Value::Text(kind)), ("data", Value::Raw(data))]);
        };
        match self.event {
            Event::Sync(data) => plain(&mut event, "sync", data),
            Event::Create(data) => plain(&mut event, "create", data),
            Event::Update(data) => plain(&mut event, "update", data),
            Event::Delete(data) => plain(&mut event, "delete", data),
            Event::Sent { kind, data } => {
                let mut inner = Vec::new();
                plain(&mut inner, kind, data);
                write_object(&mut event, &[("type", Value::Text("event")), ("event", Value::Raw(&inner))]);
            }
            Event::Unauthorized => write_object(&mut event, &[("type", Value::Text("unauthorized"))]),
        }
        write_object(
            out,
            &[
                ("type", Value::Text("stream")),
                ("timestamp", Value::Number(self.unix_ms)),
                ("streamName", Value::Text(self.stream)),
                ("groupId", Value::Text(self.group)),
                ("id", Value::nullable(self.item)),
                ("event", Value::Raw(&event)),
            ],
        );
    }

    /// The JSON text.
    pub fn text(&self) -> Vec<u8> {
        let mut text = Vec::new();
        self.write(&mut text);
        text
    }

    /// The WebSocket frame, shared by all that get it.
    pub fn frame(&self) -> Arc<[u8]> {
        frame(&self.text())
    }
}

/// The text frame of a JSON text.
pub fn frame(text: &[u8]) -> Arc<[u8]> {
    let mut frame = Vec::new();
    write_message(&mut frame, Data::Text, text.len(), |out| out.extend_from_slice(text));
    frame.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    // STREAM section 4.3: the shapes, word for word.
    #[test]
    fn texts() {
        let name = GroupName::new("chat", "room \"1\"");
        let text = |item, event| String::from_utf8(Message::new(7, &name, item, event).text()).expect("text");
        let head = r#"{"type":"stream","timestamp":7,"streamName":"chat","groupId":"room \"1\"","id":"#;
        for (item, event, tail) in [
            (Some("m"), Event::Update(br#"{"t":"hi"}"#), r#""m","event":{"type":"update","data":{"t":"hi"}}}"#),
            (Some("m"), Event::Create(b"1"), r#""m","event":{"type":"create","data":1}}"#),
            (Some("m"), Event::Delete(b"1"), r#""m","event":{"type":"delete","data":1}}"#),
            (None, Event::Sync(b"[]"), r#"null,"event":{"type":"sync","data":[]}}"#),
            (
                None,
                Event::Sent { kind: "typing", data: b"null" },
                r#"null,"event":{"type":"event","event":{"type":"typing","data":null}}}"#,
            ),
            (None, Event::Unauthorized, r#"null,"event":{"type":"unauthorized"}}"#),
        ] {
            assert_eq!(text(item, event), format!("{head}{tail}"));
        }
    }
}
