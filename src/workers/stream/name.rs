//! What a group is called, and which shard it lives on.

use iii_shards::builtin::key_of;
use iii_shards::wire::json::{RawString, Scanner, string_value};
use std::borrow::Cow;

/// Stream and group: the unit of order. Two parts, never one text: both may hold any characters (STREAM-DB-5).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupName {
    /// `stream_name`
    pub stream: Box<str>,
    /// `group_id`
    pub group: Box<str>,
}

impl GroupName {
    /// A group of a stream.
    pub fn new(stream: &str, group: &str) -> GroupName {
        GroupName { stream: stream.into(), group: group.into() }
    }

    /// The number that chooses its shard.
    pub fn number(&self) -> u64 {
        number(&self.stream, &self.group)
    }
}

fn number(stream: &str, group: &str) -> u64 {
    // Names that meet by this spelling meet on a shard; that costs nothing but evenness.
    key_of(&[stream, "\0", group].concat())
}

/// The number of the group that a payload names. A payload that names none fails wherever it goes.
pub fn home(payload: &[u8]) -> u64 {
    let (mut stream, mut group) = (None, None);
    let _ = Scanner::new(payload).object(|scanner, name| {
        let value = scanner.value()?;
        if is(name, b"stream_name") {
            stream = string_value(value);
        } else if is(name, b"group_id") {
            group = string_value(value);
        }
        Ok(())
    });
    let text = |found: Option<Cow<'_, str>>| found.map_or(String::new(), Cow::into_owned);
    number(&text(stream), &text(group))
}

fn is(name: RawString<'_>, wanted: &[u8]) -> bool {
    if !name.escaped {
        return name.inner == wanted;
    }
    let quoted = [b"\"", name.inner, b"\""].concat();
    string_value(&quoted).is_some_and(|text| text.as_bytes() == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_goes_to_the_shard_of_its_group() {
        let group = GroupName::new("chat", "räum/1");
        for payload in [
            r#"{"stream_name":"chat","group_id":"räum/1"}"#,
            r#" { "group_id" : "r\u00e4um/1", "data": {"stream_name":"other"}, "str\u0065am_name":"chat" }"#,
        ] {
            assert_eq!(home(payload.as_bytes()), group.number(), "{payload}");
        }
        home(b"null");
        home(b"[1");
    }

    // STREAM-91
    #[test]
    fn a_colon_does_not_move_the_border_between_the_parts() {
        assert_ne!(GroupName::new("a", "b:c"), GroupName::new("a:b", "c"));
        assert_ne!(GroupName::new("a", "b:c").number(), GroupName::new("a:b", "c").number());
    }
}
