//! Hot path: messages the engine sends, written straight into an outbox.
//!
//! Payloads are raw JSON slices spliced between members of ours. Every message is one WebSocket text message.
//! The members that strict decoders insist on are always there (PROTO-27).

use super::frame::write_message;
use super::json::write_string;
use tungstenite::protocol::frame::coding::Data;
use uuid::Uuid;

/// A call's payload: raw JSON, with the caller's id to be put into it if it is an object (PROTO-62).
#[derive(Debug, Clone, Copy)]
pub struct Payload<'a> {
    /// Raw JSON value.
    pub json: &'a [u8],
    /// Worker id for member `_caller_worker_id`; only for objects that have no such member.
    pub caller: Option<&'a Uuid>,
}

impl Payload<'_> {
    /// Upper bound of the encoded length in bytes.
    pub fn bytes_max(&self) -> usize {
        self.json.len() + if self.caller.is_some() { CALLER_MEMBER.len() + 38 } else { 0 }
    }

    /// Appends the payload.
    #[inline]
    pub fn write(&self, out: &mut Vec<u8>) {
        match (self.caller, self.json.strip_suffix(b"}")) {
            (Some(caller), Some(open)) => {
                out.extend_from_slice(open);
                let empty = open[1..].trim_ascii_start().is_empty();
                out.extend_from_slice(if empty { &CALLER_MEMBER[1..] } else { CALLER_MEMBER });
                write_uuid(out, caller);
                out.extend_from_slice(b"\"}");
            }
            _ => out.extend_from_slice(self.json),
        }
    }
}

const CALLER_MEMBER: &[u8] = b",\"_caller_worker_id\":\"";

/// Name of the member the engine owns in every object payload (PROTO-62).
pub const CALLER_MEMBER_NAME: &[u8] = b"_caller_worker_id";

#[inline]
fn write_uuid(out: &mut Vec<u8>, id: &Uuid) {
    let mut text = [0; 36];
    out.extend_from_slice(id.hyphenated().encode_lower(&mut text).as_bytes());
}

/// A call on its way to a provider.
#[derive(Debug, Clone, Copy)]
pub struct Invoke<'a> {
    /// `None` for a void call: nothing will be answered.
    pub invocation_id: Option<Uuid>,
    /// Id as the provider registered it.
    pub function_id: &'a str,
    /// Payload.
    pub data: Payload<'a>,
    /// Raw JSON metadata.
    pub metadata: Option<&'a [u8]>,
    /// Valid W3C traceparent.
    pub traceparent: Option<&'a str>,
    /// Baggage, complete.
    pub baggage: Option<&'a str>,
}

impl Invoke<'_> {
    /// Upper bound of the message's length in bytes, escapes aside.
    pub fn bytes_max(&self) -> usize {
        160 + self.function_id.len()
            + self.data.bytes_max()
            + self.metadata.map_or(0, <[u8]>::len)
            + self.traceparent.map_or(0, str::len)
            + self.baggage.map_or(0, str::len)
    }

    /// Appends the message as a frame.
    #[inline]
    pub fn write(&self, out: &mut Vec<u8>) {
        write_message(out, Data::Text, self.bytes_max(), |out| {
            out.extend_from_slice(b"{\"type\":\"invokefunction\"");
            if let Some(id) = &self.invocation_id {
                out.extend_from_slice(b",\"invocation_id\":\"");
                write_uuid(out, id);
                out.push(b'"');
            }
            out.extend_from_slice(b",\"function_id\":");
            write_string(out, self.function_id);
            out.extend_from_slice(b",\"data\":");
            self.data.write(out);
            if let Some(metadata) = self.metadata {
                out.extend_from_slice(b",\"metadata\":");
                out.extend_from_slice(metadata);
            }
            write_trace(out, self.traceparent, self.baggage);
            out.push(b'}');
        });
    }
}

#[inline]
fn write_trace(out: &mut Vec<u8>, traceparent: Option<&str>, baggage: Option<&str>) {
    if let Some(traceparent) = traceparent {
        out.extend_from_slice(b",\"traceparent\":");
        write_string(out, traceparent);
    }
    if let Some(baggage) = baggage {
        out.extend_from_slice(b",\"baggage\":");
        write_string(out, baggage);
    }
}

/// How a call ended.
#[derive(Debug, Clone, Copy)]
pub enum Outcome<'a> {
    /// Raw JSON result; `None` if the provider sent none.
    Result(Option<&'a [u8]>),
    /// An error.
    Error {
        /// Stable code.
        code: &'a str,
        /// Text for people.
        message: &'a str,
        /// Raw JSON stack trace.
        stacktrace: Option<&'a [u8]>,
    },
}

impl Outcome<'_> {
    /// Payload bytes, escapes aside.
    pub fn bytes(&self) -> usize {
        match self {
            Outcome::Result(result) => result.map_or(0, <[u8]>::len),
            Outcome::Error { code, message, stacktrace } => {
                code.len() + message.len() + stacktrace.map_or(0, <[u8]>::len)
            }
        }
    }
}

/// An answer on its way to a caller.
#[derive(Debug, Clone, Copy)]
pub struct CallResult<'a> {
    /// The caller's id of the call.
    pub invocation_id: Uuid,
    /// The function as the caller named it.
    pub function_id: &'a str,
    /// How it ended.
    pub outcome: Outcome<'a>,
    /// The caller's own value, echoed.
    pub traceparent: Option<&'a str>,
    /// The caller's own value, echoed.
    pub baggage: Option<&'a str>,
}

impl CallResult<'_> {
    /// Appends the message as a frame.
    #[inline]
    pub fn write(&self, out: &mut Vec<u8>) {
        let about = 160 + self.function_id.len() + self.outcome.bytes();
        write_message(out, Data::Text, about, |out| {
            out.extend_from_slice(b"{\"type\":\"invocationresult\",\"invocation_id\":\"");
            write_uuid(out, &self.invocation_id);
            out.extend_from_slice(b"\",\"function_id\":");
            write_string(out, self.function_id);
            match self.outcome {
                Outcome::Result(Some(result)) => {
                    out.extend_from_slice(b",\"result\":");
                    out.extend_from_slice(result);
                }
                Outcome::Result(None) => {}
                Outcome::Error { code, message, stacktrace } => {
                    out.extend_from_slice(b",\"error\":");
                    write_error(out, code, message, stacktrace);
                }
            }
            write_trace(out, self.traceparent, self.baggage);
            out.push(b'}');
        });
    }
}

/// Appends an error body.
pub fn write_error(out: &mut Vec<u8>, code: &str, message: &str, stacktrace: Option<&[u8]>) {
    out.extend_from_slice(b"{\"code\":");
    write_string(out, code);
    out.extend_from_slice(b",\"message\":");
    write_string(out, message);
    if let Some(stacktrace) = stacktrace {
        out.extend_from_slice(b",\"stacktrace\":");
        out.extend_from_slice(stacktrace);
    }
    out.push(b'}');
}

/// A member value of a rarely written object.
#[derive(Debug, Clone, Copy)]
pub enum Value<'a> {
    /// Text to be quoted.
    Text(&'a str),
    /// JSON as it is.
    Raw(&'a [u8]),
    /// A whole number.
    Number(u64),
    /// `true` or `false`.
    Bool(bool),
    /// `null`.
    Null,
    /// An error body.
    Error(&'a str, &'a str),
    /// Leave the member out.
    Absent,
}

impl<'a> Value<'a> {
    /// Text, or `null` if there is none.
    pub fn nullable(text: Option<&'a str>) -> Self {
        text.map_or(Value::Null, Value::Text)
    }

    /// Text, or nothing if there is none.
    pub fn optional(text: Option<&'a str>) -> Self {
        text.map_or(Value::Absent, Value::Text)
    }

    /// Raw JSON, or `null` if there is none.
    pub fn raw_nullable(raw: Option<&'a [u8]>) -> Self {
        raw.map_or(Value::Null, Value::Raw)
    }

    /// Raw JSON, or nothing if there is none.
    pub fn raw_optional(raw: Option<&'a [u8]>) -> Self {
        raw.map_or(Value::Absent, Value::Raw)
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Value::Text(text) => write_string(out, text),
            Value::Raw(raw) => out.extend_from_slice(raw),
            Value::Number(number) => out.extend_from_slice(number.to_string().as_bytes()),
            Value::Bool(value) => out.extend_from_slice(if *value { b"true" } else { b"false" }),
            Value::Null | Value::Absent => out.extend_from_slice(b"null"),
            Value::Error(code, message) => write_error(out, code, message, None),
        }
    }
}

/// Appends an object with the given members, in order.
pub fn write_object(out: &mut Vec<u8>, members: &[(&str, Value<'_>)]) {
    out.push(b'{');
    let mut first = true;
    for (name, value) in members {
        if matches!(value, Value::Absent) {
            continue;
        }
        if !first {
            out.push(b',');
        }
        first = false;
        write_string(out, name);
        out.push(b':');
        value.write(out);
    }
    out.push(b'}');
}

/// Appends the JSON text of a rarely sent message: `type`, then the members in order.
pub fn write_members(out: &mut Vec<u8>, kind: &str, members: &[(&str, Value<'_>)]) {
    let all: Vec<_> = std::iter::once(("type", Value::Text(kind))).chain(members.iter().copied()).collect();
    write_object(out, &all);
}

/// Appends a rarely sent message as a frame.
pub fn write_text(out: &mut Vec<u8>, kind: &str, members: &[(&str, Value<'_>)]) {
    write_message(out, Data::Text, 0, |out| write_members(out, kind, members));
}

/// Appends a frame around a ready payload.
pub fn write_payload(out: &mut Vec<u8>, binary: bool, payload: &[u8]) {
    let opcode = if binary { Data::Binary } else { Data::Text };
    write_message(out, opcode, payload.len(), |out| out.extend_from_slice(payload));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(json: &str, caller: Option<&Uuid>) -> String {
        let mut out = Vec::new();
        Payload { json: json.as_bytes(), caller }.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    // PROTO-62
    #[test]
    fn splices_the_caller() {
        let id = Uuid::nil();
        let member = "\"_caller_worker_id\":\"00000000-0000-0000-0000-000000000000\"";
        assert_eq!(payload("{}", Some(&id)), format!("{{{member}}}"));
        assert_eq!(payload("{ }", Some(&id)), format!("{{ {member}}}"));
        assert_eq!(payload("{\"a\":1}", Some(&id)), format!("{{\"a\":1,{member}}}"));
        assert_eq!(payload("[1]", Some(&id)), "[1]");
        assert_eq!(payload("{\"a\":1}", None), "{\"a\":1}");
    }

    // PROTO-27, PROTO-66
    #[test]
    fn messages_have_the_members_decoders_insist_on() {
        let mut out = Vec::new();
        let id = Uuid::from_u128(7);
        Invoke {
            invocation_id: Some(id),
            function_id: "a::\"b",
            data: Payload { json: b"null", caller: None },
            metadata: Some(b"{\"m\":1}"),
            traceparent: Some("tp"),
            baggage: Some("k=v"),
        }
        .write(&mut out);
        let text = String::from_utf8(out.split_off(4)).unwrap();
        assert_eq!(
            text,
            "{\"type\":\"invokefunction\",\"invocation_id\":\"00000000-0000-0000-0000-000000000007\",\
            \"function_id\":\"a::\\\"b\",\"data\":null,\"metadata\":{\"m\":1},\"traceparent\":\"tp\",\"baggage\":\"k=v\"}"
        );
        let mut out = Vec::new();
        let outcome = Outcome::Error { code: "c", message: "m", stacktrace: Some(b"\"s\"") };
        CallResult { invocation_id: id, function_id: "f", outcome, traceparent: None, baggage: None }.write(&mut out);
        let text = String::from_utf8(out.split_off(4)).unwrap();
        assert_eq!(
            text,
            "{\"type\":\"invocationresult\",\"invocation_id\":\"00000000-0000-0000-0000-000000000007\",\
            \"function_id\":\"f\",\"error\":{\"code\":\"c\",\"message\":\"m\",\"stacktrace\":\"s\"}}"
        );
    }
}
