//! Hot path: one protocol message, read without looking into its payload.
//!
//! [`Envelope::parse`] walks the top level once, checks the whole text and keeps the known members as raw slices.
//! Payloads (`data`, `result`, ...) are never built. Members may come in any order; unknown ones are skipped.

use super::json::{self, JsonError, RawString, Scanner};
use std::borrow::Cow;
use uuid::Uuid;

/// `type` of a message a worker may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `invokefunction`
    InvokeFunction,
    /// `invocationresult`
    InvocationResult,
    /// `registerfunction`
    RegisterFunction,
    /// `unregisterfunction`
    UnregisterFunction,
    /// `registertriggertype`
    RegisterTriggerType,
    /// `unregistertriggertype`
    UnregisterTriggerType,
    /// `registertrigger`
    RegisterTrigger,
    /// `unregistertrigger`
    UnregisterTrigger,
    /// `triggerregistrationresult`
    TriggerRegistrationResult,
    /// `registerservice`
    RegisterService,
    /// `registerworker`: documents of 0.11 name it; an alias of `engine::workers::register`.
    RegisterWorker,
    /// `reattach`
    Reattach,
    /// `ping`
    Ping,
    /// `pong`
    Pong,
    /// Sent by engines only; ignored when a worker sends it.
    EngineOnly,
}

impl Kind {
    fn from_name(name: &[u8]) -> Option<Kind> {
        Some(match name {
            b"invokefunction" => Kind::InvokeFunction,
            b"invocationresult" => Kind::InvocationResult,
            b"registerfunction" => Kind::RegisterFunction,
            b"unregisterfunction" => Kind::UnregisterFunction,
            b"registertriggertype" => Kind::RegisterTriggerType,
            b"unregistertriggertype" => Kind::UnregisterTriggerType,
            b"registertrigger" => Kind::RegisterTrigger,
            b"unregistertrigger" => Kind::UnregisterTrigger,
            b"triggerregistrationresult" => Kind::TriggerRegistrationResult,
            b"registerservice" => Kind::RegisterService,
            b"registerworker" => Kind::RegisterWorker,
            b"reattach" => Kind::Reattach,
            b"ping" => Kind::Ping,
            b"pong" => Kind::Pong,
            b"workerregistered" | b"registrationrejected" => Kind::EngineOnly,
            _ => return None,
        })
    }
}

macro_rules! members {
    ($($(#[$doc:meta])* $field:ident = $name:literal,)*) => {
        /// The members of a message, as raw JSON text. Absent and `null` are both `None` (PROTO-22), except for
        /// payloads, where [`Envelope::raw`] keeps the `null`.
        #[derive(Debug, Clone, Copy, Default)]
        pub struct Members<'a> {
            $($(#[$doc])* pub $field: Option<&'a [u8]>,)*
        }

        impl<'a> Members<'a> {
            #[inline]
            fn slot(&mut self, name: &[u8]) -> Option<&mut Option<&'a [u8]>> {
                match name {
                    $($name => Some(&mut self.$field),)*
                    _ => None,
                }
            }
        }
    };
}

members! {
    /// Message type.
    kind = b"type",
    /// Invocation id.
    invocation_id = b"invocation_id",
    /// Function id.
    function_id = b"function_id",
    /// Payload of a call.
    data = b"data",
    /// Result of a call.
    result = b"result",
    /// Error of a call or a registration.
    error = b"error",
    /// W3C trace context.
    traceparent = b"traceparent",
    /// W3C baggage.
    baggage = b"baggage",
    /// How to run a call.
    action = b"action",
    /// Metadata of a call, a function or a trigger.
    metadata = b"metadata",
    /// Namespace of the target.
    namespace = b"namespace",
    /// Id of what is registered.
    id = b"id",
    /// Text for people.
    description = b"description",
    /// JSON Schema of the payload.
    request_format = b"request_format",
    /// JSON Schema of the result.
    response_format = b"response_format",
    /// HTTP endpoint that implements the function.
    invocation = b"invocation",
    /// Type of a trigger.
    trigger_type = b"trigger_type",
    /// Configuration of a trigger.
    config = b"config",
    /// Namespace of the trigger type's provider.
    trigger_namespace = b"trigger_namespace",
    /// Schema of a trigger type's configuration.
    trigger_request_format = b"trigger_request_format",
    /// Schema of what a trigger type sends.
    call_request_format = b"call_request_format",
    /// Worker id before a reconnect.
    previous_worker_id = b"previous_worker_id",
    /// Proof of having been that worker.
    reattach_token = b"reattach_token",
    /// Name of a service.
    name = b"name",
    /// Service a service belongs to.
    parent_service_id = b"parent_service_id",
}

/// A message whose text is known to be valid JSON.
#[derive(Debug, Clone, Copy)]
pub struct Envelope<'a> {
    /// What it is.
    pub kind: Kind,
    /// Its members.
    pub members: Members<'a>,
    /// Its whole text.
    pub text: &'a [u8],
}

/// Why a frame is no message. What could be recovered is there to tell the right peer (PROTO-24).
#[derive(Debug, Clone)]
pub struct Malformed {
    /// Text for the log and for the error answer.
    pub reason: String,
    /// The call this was meant to be, if its id could be made out.
    pub call: Option<Uuid>,
    /// The call this was meant to answer, if its id could be made out.
    pub result: Option<Uuid>,
}

impl<'a> Envelope<'a> {
    /// Reads one message. `text` must be valid UTF-8.
    #[inline]
    pub fn parse(text: &'a [u8]) -> Result<Envelope<'a>, Box<Malformed>> {
        let mut members = Members::default();
        match scan(text, &mut members) {
            Ok(()) => {}
            Err(error) => return Err(malformed(text, &members, error.to_string())),
        }
        let kind = members.kind.and_then(|raw| {
            let inner = raw.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
            Kind::from_name(inner).or_else(|| Kind::from_name(json::string_value(raw)?.as_bytes()))
        });
        match kind {
            Some(kind) => Ok(Envelope { kind, members, text }),
            None => {
                let reason = match members.kind {
                    Some(raw) => format!("unknown message type {}", String::from_utf8_lossy(raw)),
                    None => "message without `type`".to_owned(),
                };
                Err(Box::new(Malformed { reason, call: None, result: None }))
            }
        }
    }

    /// A string member. Fails with a text naming it if it is there and is no string.
    #[inline]
    pub fn string(raw: Option<&'a [u8]>, name: &str) -> Result<Option<Cow<'a, str>>, String> {
        match raw {
            None | Some(b"null") => Ok(None),
            Some(raw) => json::string_value(raw).map(Some).ok_or_else(|| format!("`{name}` must be a string")),
        }
    }

    /// A member that must be there and be a string.
    #[inline]
    pub fn required(raw: Option<&'a [u8]>, name: &str) -> Result<Cow<'a, str>, String> {
        Self::string(raw, name)?.ok_or_else(|| format!("`{name}` is missing"))
    }

    /// A member of any kind; absent and `null` are the same.
    pub fn raw(raw: Option<&'a [u8]>) -> Option<&'a [u8]> {
        raw.filter(|raw| *raw != b"null")
    }

    /// The invocation id: `None` if absent, an error text if it is no UUID (PROTO-26).
    #[inline]
    pub fn invocation_id(&self) -> Result<Option<Uuid>, String> {
        match self.members.invocation_id {
            None | Some(b"null") => Ok(None),
            Some(raw) => uuid_of(raw).map(Some).ok_or_else(|| {
                format!("`invocation_id` must be a UUID, not {}", String::from_utf8_lossy(&raw[..raw.len().min(80)]))
            }),
        }
    }
}

/// Reads a string literal as a UUID, hyphenated or 32 digits, any case.
#[inline]
fn uuid_of(raw: &[u8]) -> Option<Uuid> {
    let inner = raw.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if inner.len() != 36 && inner.len() != 32 {
        return None;
    }
    Uuid::try_parse_ascii(inner).ok()
}

#[inline]
fn scan<'a>(text: &'a [u8], members: &mut Members<'a>) -> Result<(), JsonError> {
    let mut scanner = Scanner::new(text);
    scanner.object(|scanner, key: RawString<'a>| {
        let at = scanner.offset();
        let value = scanner.value()?;
        let slot = if key.escaped { members.slot(&unescaped(key)) } else { members.slot(key.inner) };
        if let Some(slot) = slot
            && slot.replace(value).is_some()
        {
            return Err(JsonError { offset: at, reason: "member given twice" });
        }
        Ok(())
    })?;
    scanner.end()
}

/// A name spelled with escapes.
#[cold]
fn unescaped(key: RawString<'_>) -> Vec<u8> {
    let quoted = [b"\"", key.inner, b"\""].concat();
    json::string_value(&quoted).map(|name| name.as_bytes().to_vec()).unwrap_or_default()
}

/// Makes out of broken text whose call it was. Members read before the fault count first; Python puts `type` last,
/// so the rest is searched as plain text, which is good enough for an error answer.
#[cold]
fn malformed(text: &[u8], members: &Members<'_>, reason: String) -> Box<Malformed> {
    let id = members.invocation_id.and_then(uuid_of).or_else(|| {
        let at = memchr::memmem::find(text, b"\"invocation_id\"")?;
        let rest = text[at + 15..].trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
        uuid_of(rest.get(..38)?).or_else(|| uuid_of(rest.get(..34)?))
    });
    let kind = members.kind.or_else(|| {
        let at = memchr::memmem::rfind(text, b"\"type\"")?;
        let rest = text[at + 6..].trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
        rest.get(..=rest.iter().skip(1).position(|byte| *byte == b'"')? + 1)
    });
    let call = id.filter(|_| kind == Some(b"\"invokefunction\""));
    let result = id.filter(|_| kind == Some(b"\"invocationresult\""));
    Box::new(Malformed { reason, call, result })
}

/// How the caller wants a call run (PROTO-61).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Run and answer.
    Call,
    /// Run, never answer.
    Void,
    /// Hand to a queue, answer with a receipt.
    Enqueue {
        /// Name of the queue.
        queue: String,
    },
}

impl Action {
    /// Reads the `action` member.
    #[inline]
    pub fn parse(raw: Option<&[u8]>) -> Result<Action, String> {
        let Some(raw) = raw.filter(|raw| *raw != b"null") else { return Ok(Action::Call) };
        let (mut kind, mut queue) = (None, None);
        Scanner::new(raw)
            .object(|scanner, key| {
                let value = scanner.value()?;
                match key.inner {
                    b"type" => kind = Some(value),
                    b"queue" => queue = Some(value),
                    _ => {}
                }
                Ok(())
            })
            .map_err(|_| "`action` must be an object".to_owned())?;
        match kind {
            Some(b"\"void\"") => Ok(Action::Void),
            Some(b"\"enqueue\"") => match queue.and_then(json::string_value) {
                Some(queue) => Ok(Action::Enqueue { queue: queue.into_owned() }),
                None => Err("`action.queue` must be a string".to_owned()),
            },
            Some(other) => Err(format!("unknown `action.type` {}", String::from_utf8_lossy(other))),
            None => Err("`action.type` is missing".to_owned()),
        }
    }
}

/// An error body as a worker sent it, read as leniently as PROTO-24 asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorBody<'a> {
    /// Stable code.
    pub code: Cow<'a, str>,
    /// Text for people.
    pub message: Cow<'a, str>,
    /// Stack of the failed handler, as raw JSON.
    pub stacktrace: Option<&'a [u8]>,
}

impl<'a> ErrorBody<'a> {
    /// Reads an `error` member of any shape.
    pub fn parse(raw: &'a [u8]) -> ErrorBody<'a> {
        let text = |raw: &'a [u8]| json::string_value(raw).unwrap_or_else(|| String::from_utf8_lossy(raw));
        if raw.first() != Some(&b'{') {
            return ErrorBody { code: Cow::Borrowed(super::codes::UNKNOWN), message: text(raw), stacktrace: None };
        }
        let mut body =
            ErrorBody { code: Cow::Borrowed(super::codes::UNKNOWN), message: Cow::Borrowed(""), stacktrace: None };
        // The text is valid JSON already, so the walk cannot fail.
        let _ = Scanner::new(raw).object(|scanner, key| {
            let value = scanner.value()?;
            match key.inner {
                b"code" if value != b"null" => body.code = text(value),
                b"message" if value != b"null" => body.message = text(value),
                b"stacktrace" if value != b"null" => body.stacktrace = Some(value),
                _ => {}
            }
            Ok(())
        });
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn malformed_of(text: &str) -> Malformed {
        *Envelope::parse(text.as_bytes()).unwrap_err()
    }

    // PROTO-20: `type` may come last, unknown members are skipped.
    #[test]
    fn reads_members_in_any_order() {
        let text = r#"{"x":[{"type":"no"}],"data":{"a":1},"function_id":"a::b\u00e9",
            "invocation_id":"5B1CB1C0-0000-4000-8000-00000000000a","type":"invokefunction"}"#;
        let envelope = Envelope::parse(text.as_bytes()).unwrap();
        assert_eq!(envelope.kind, Kind::InvokeFunction);
        assert_eq!(envelope.members.data, Some(&br#"{"a":1}"#[..]));
        assert_eq!(Envelope::required(envelope.members.function_id, "function_id").unwrap(), "a::bé");
        let id = envelope.invocation_id().unwrap().unwrap();
        assert_eq!(id.hyphenated().to_string(), "5b1cb1c0-0000-4000-8000-00000000000a");
    }

    // PROTO-20, PROTO-21
    #[test]
    fn refuses_what_is_no_message() {
        for text in ["[]", "null", "1", "\"x\"", "{}", "{\"type\":1}", "{\"type\":\"nope\"}", "{\"type\":\"ping\"} x"] {
            assert!(Envelope::parse(text.as_bytes()).is_err(), "{text}");
        }
        let twice = malformed_of(r#"{"type":"ping","type":"ping"}"#);
        assert!(twice.reason.contains("given twice"), "{}", twice.reason);
        assert!(Envelope::parse(b"\xEF\xBB\xBF{\"type\":\"ping\"}").is_err());
    }

    // PROTO-24: the id of a call that cannot be read is recovered, wherever the fault is.
    #[test]
    fn recovers_ids_from_broken_text() {
        let id = "5b1cb1c0-0000-4000-8000-00000000000a";
        let before = format!(r#"{{"type":"invokefunction","invocation_id":"{id}","data":NaN}}"#);
        assert_eq!(malformed_of(&before).call.unwrap().to_string(), id);
        let after = format!(r#"{{"data":NaN,"invocation_id":"{id}","type":"invokefunction"}}"#);
        assert_eq!(malformed_of(&after).call.unwrap().to_string(), id);
        let result = format!(r#"{{"invocation_id": "{id}","result":[1,"type": "invocationresult"}}"#);
        assert_eq!(malformed_of(&result).result.unwrap().to_string(), id);
        assert!(malformed_of(r#"{"type":"invokefunction","data":NaN}"#).call.is_none());
    }

    // PROTO-61
    #[test]
    fn actions() {
        let parse = |text: &'static str| Action::parse(Some(text.as_bytes()));
        assert_eq!(Action::parse(None), Ok(Action::Call));
        assert_eq!(parse("null"), Ok(Action::Call));
        assert_eq!(parse(r#"{"type":"void"}"#), Ok(Action::Void));
        assert_eq!(parse(r#"{"queue":"q","type":"enqueue"}"#), Ok(Action::Enqueue { queue: "q".into() }));
        assert!(parse(r#"{"type":"later"}"#).is_err());
        assert!(parse(r#"{"type":"enqueue"}"#).is_err());
        assert!(parse("[]").is_err());
    }

    // PROTO-24
    #[test]
    fn error_bodies_of_any_shape() {
        let check = |raw: &'static str, code: &str, message: &str| {
            let body = ErrorBody::parse(raw.as_bytes());
            assert_eq!((&*body.code, &*body.message), (code, message), "{raw}");
        };
        check(r#"{"code":"A","message":"b","extra":1}"#, "A", "b");
        check(r#""broken""#, "UNKNOWN", "broken");
        check(r#"{"message":"b"}"#, "UNKNOWN", "b");
        check(r#"{"code":"A"}"#, "A", "");
        check("[1]", "UNKNOWN", "[1]");
        assert_eq!(ErrorBody::parse(br#"{"stacktrace":"s"}"#).stacktrace, Some(&b"\"s\""[..]));
    }
}
