//! What a browser asks for: the upgrade request and its messages (STREAM sections 4.1 and 4.2).

use iii_shards::wire::encode::{Value, write_object};
use iii_shards::wire::handshake::{Place, Request, percent_decode};
use iii_shards::wire::json::write_string;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// A subscription as a client names it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Wanted {
    /// Unique per connection.
    pub subscription_id: Box<str>,
    /// The stream.
    pub stream_name: Box<str>,
    /// The group.
    pub group_id: Box<str>,
    /// One item, or all.
    #[serde(default)]
    pub id: Option<Box<str>>,
}

/// One message of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// Subscribe.
    Join(Wanted),
    /// Unsubscribe.
    Leave(Wanted),
}

impl Wish {
    /// Reads a message. `None` = it is none we know, and is ignored (STREAM-50).
    pub fn parse(text: &[u8]) -> Option<Wish> {
        #[derive(Deserialize)]
        struct Envelope<'a> {
            #[serde(rename = "type", borrow)]
            kind: Cow<'a, str>,
            #[serde(borrow)]
            data: &'a RawValue,
        }
        let envelope: Envelope<'_> = serde_json::from_slice(text).ok()?;
        let wanted = || serde_json::from_str(envelope.data.get()).ok();
        match &*envelope.kind {
            "join" => Some(Wish::Join(wanted()?)),
            "leave" => Some(Wish::Leave(wanted()?)),
            _ => None,
        }
    }
}

impl Wanted {
    /// What join and leave handlers are called with (STREAM-74).
    pub fn payload(&self, context: Option<&[u8]>) -> Vec<u8> {
        let mut out = Vec::new();
        write_object(
            &mut out,
            &[
                ("subscription_id", Value::Text(&self.subscription_id)),
                ("stream_name", Value::Text(&self.stream_name)),
                ("group_id", Value::Text(&self.group_id)),
                ("id", Value::nullable(self.id.as_deref())),
                ("context", Value::raw_nullable(context)),
            ],
        );
        out
    }
}

/// A path of the stream listener: what is joined right away, and the path itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entrance {
    /// Stream, group, and item if the path names one (STREAM-DB-4).
    pub join: Option<(String, String, Option<String>)>,
    /// As sent.
    pub path: String,
}

/// What is at a path (STREAM-30, STREAM-DB-4).
pub fn place(path: &str, _query: &str) -> Place<Entrance> {
    let found = |join| Place::WebSocket(Entrance { join, path: path.to_owned() });
    if path == "/" {
        return found(None);
    }
    let Some(rest) = path.strip_prefix("/stream/") else { return Place::Unknown };
    let parts: Vec<String> = rest.strip_suffix('/').unwrap_or(rest).split('/').map(percent_decode).collect();
    match parts.as_slice() {
        [stream, group] if !stream.is_empty() && !group.is_empty() => {
            found(Some((stream.clone(), group.clone(), None)))
        }
        [stream, group, item] if !stream.is_empty() && !group.is_empty() && !item.is_empty() => {
            found(Some((stream.clone(), group.clone(), Some(item.clone()))))
        }
        _ => Place::Unknown,
    }
}

/// What the auth function is called with (STREAM-40, STREAM-41).
pub fn auth_payload(request: &Request, path: &str, addr: &str) -> Vec<u8> {
    let visible = |text: &str| text.bytes().all(|byte| matches!(byte, b'\t' | 0x20..=0x7E));
    let mut headers = Vec::new();
    let kept: Vec<(&str, Value<'_>)> = request
        .headers
        .iter()
        .filter(|(_, value)| visible(value))
        .map(|(name, value)| (name.as_str(), Value::Text(value)))
        .collect();
    write_object(&mut headers, &kept);
    let mut pairs: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for pair in request.query.split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if !name.is_empty() {
            pairs.entry(name).or_default().push(value);
        }
    }
    let mut query = Vec::new();
    query.push(b'{');
    for (name, values) in pairs {
        if query.len() > 1 {
            query.push(b',');
        }
        write_string(&mut query, name);
        query.extend_from_slice(b":[");
        for (index, value) in values.into_iter().enumerate() {
            if index > 0 {
                query.push(b',');
            }
            write_string(&mut query, value);
        }
        query.push(b']');
    }
    query.push(b'}');
    let mut out = Vec::new();
    write_object(
        &mut out,
        &[
            ("headers", Value::Raw(&headers)),
            ("path", Value::Text(path)),
            ("query_params", Value::Raw(&query)),
            ("addr", Value::Text(addr)),
        ],
    );
    out
}

/// What an auth function's or a join handler's answer says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Permission {
    /// `unauthorized: true`
    pub refused: bool,
    /// `context`
    pub context: Option<Box<[u8]>>,
}

/// Reads an answer. Whatever has another shape permits and says nothing (STREAM-42, STREAM-75).
pub fn permission(result: &[u8]) -> Permission {
    #[derive(Deserialize)]
    struct Shape<'a> {
        #[serde(borrow, default)]
        unauthorized: Option<&'a RawValue>,
        #[serde(borrow, default)]
        context: Option<&'a RawValue>,
    }
    let Ok(shape) = serde_json::from_slice::<Shape<'_>>(result) else { return Permission::default() };
    Permission {
        refused: shape.unauthorized.is_some_and(|value| value.get() == "true"),
        context: shape.context.map(|value| value.get().as_bytes().into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // STREAM-50
    #[test]
    fn messages() {
        let wanted = |id: Option<&str>| Wanted {
            subscription_id: "1".into(),
            stream_name: "s".into(),
            group_id: "g".into(),
            id: id.map(Box::from),
        };
        let data = r#"{"subscriptionId":"1","streamName":"s","groupId":"g"}"#;
        let join = |data: &str| Wish::parse(format!(r#"{{"type":"join","data":{data}}}"#).as_bytes());
        assert_eq!(join(data), Some(Wish::Join(wanted(None))));
        assert_eq!(join(&data.replace("\"g\"", "\"g\",\"id\":null")), Some(Wish::Join(wanted(None))));
        assert_eq!(join(&data.replace("\"g\"", "\"g\",\"id\":\"i\"")), Some(Wish::Join(wanted(Some("i")))));
        let leave = format!(r#"{{"data":{data},"type":"leave"}}"#);
        assert_eq!(Wish::parse(leave.as_bytes()), Some(Wish::Leave(wanted(None))));
        for text in ["", "x", "{}", "null", r#"{"type":"join"}"#, &leave.replace("leave", "Leave")] {
            assert_eq!(Wish::parse(text.as_bytes()), None, "{text}");
        }
        assert_eq!(join(r#"{"subscriptionId":1,"streamName":"s","groupId":"g"}"#), None);
        assert_eq!(join(r#"{"subscriptionId":"1","streamName":"s"}"#), None);
    }

    // STREAM-30, STREAM-DB-4
    #[test]
    fn paths() {
        let join = |path| match place(path, "") {
            Place::WebSocket(entrance) => Some(entrance.join),
            _ => None,
        };
        let names = |item: Option<&str>| Some(Some(("a b".to_owned(), "g/h".to_owned(), item.map(str::to_owned))));
        assert_eq!(join("/"), Some(None));
        assert_eq!(join("/stream/a%20b/g%2Fh"), names(None));
        assert_eq!(join("/stream/a%20b/g%2Fh/"), names(None));
        assert_eq!(join("/stream/a%20b/g%2Fh/i"), names(Some("i")));
        assert_eq!(join("/stream/a%20b/g%2Fh/i/"), names(Some("i")));
        for path in ["/stream", "/stream/", "/stream/a", "/stream/a//", "/stream/a/b/c/d", "/x", "/ws"] {
            assert_eq!(join(path), None, "{path}");
        }
    }

    // STREAM-40, STREAM-41
    #[test]
    fn what_the_auth_function_sees() {
        let request = Request {
            headers: vec![("authorization".into(), "Bearer t".into()), ("x".into(), "é".into())],
            query: "token=abc&x=1&x=2&flag&=z&s=%20h".into(),
        };
        let payload = auth_payload(&request, "/", "10.0.0.7:51544");
        let expected = r#"{"headers":{"authorization":"Bearer t"},"path":"/","query_params":{"flag":[""],"s":["%20h"],"token":["abc"],"x":["1","2"]},"addr":"10.0.0.7:51544"}"#;
        assert_eq!(String::from_utf8_lossy(&payload), expected);
    }

    // STREAM-42, STREAM-75
    #[test]
    fn what_answers_permit() {
        let of = |text: &str| permission(text.as_bytes());
        assert!(of(r#"{"unauthorized":true,"context":1}"#).refused);
        for text in ["", "null", "{}", "5", r#"{"unauthorized":"yes"}"#, r#"{"unauthorized":false}"#] {
            assert!(!of(text).refused, "{text}");
        }
        assert_eq!(of(r#"{"context":{"u":1}}"#).context.as_deref(), Some(&br#"{"u":1}"#[..]));
        assert_eq!(of(r#"{"context":null}"#).context.as_deref(), None);
    }
}
