//! The worker protocol of iii: JSON objects in WebSocket text frames.
//!
//! Hot path: envelopes are scanned, never parsed; `data` and `result` stay raw slices. Members may come in any order.

use super::frame::{self, Decoded, Frame, Mask, Opcode};
use super::scan::{Members, unquoted};
use super::{CallTemplate, Incoming, Introduction, Step, WireError, upgrade};
use crate::calls::ID_BYTES;

/// The SDK generation whose messages these are; engines choose their dialect by it.
const SDK_VERSION: &str = "0.25.0";

/// Reassembled messages may not grow beyond this.
const MESSAGE_BYTES_MAX: usize = 1 << 30;

/// One connection's place in the conversation: upgrade first, then frames.
#[derive(Debug, Default)]
pub struct Decoder {
    upgraded: bool,
    /// Fragments of the current message, or the whole of the last fragmented one: [`Incoming`] borrows it.
    fragments: Vec<u8>,
    fragmented: bool,
}

impl Decoder {
    #[inline]
    pub fn step<'a>(&'a mut self, bytes: &'a [u8]) -> Result<Step<'a>, WireError> {
        if !self.upgraded {
            let step = upgrade::response(bytes)?;
            self.upgraded = matches!(step, Step::Message { .. });
            return Ok(step);
        }
        match frame::decode(bytes)? {
            Decoded::Incomplete { total } => Ok(Step::Incomplete { total }),
            Decoded::Frame(frame) => {
                let consumed = frame.consumed;
                Ok(Step::Message { incoming: self.frame(frame)?, consumed })
            }
        }
    }

    #[inline]
    fn frame<'a>(&'a mut self, frame: Frame<'a>) -> Result<Incoming<'a>, WireError> {
        match frame.opcode {
            Opcode::Text | Opcode::Binary if frame.fin => Ok(message(frame.payload)),
            Opcode::Text | Opcode::Binary | Opcode::Continuation => self.fragment(&frame),
            Opcode::Ping => Ok(Incoming::Ping(frame.payload)),
            Opcode::Pong => Ok(Incoming::Ignored),
            Opcode::Close => Ok(Incoming::Closed(frame.payload.first_chunk().map(|code| u16::from_be_bytes(*code)))),
        }
    }

    fn fragment(&mut self, frame: &Frame<'_>) -> Result<Incoming<'_>, WireError> {
        let starts = frame.opcode != Opcode::Continuation;
        if starts == self.fragmented {
            return Err(WireError("fragments of two messages are mixed up"));
        }
        if starts {
            self.fragments = Vec::new();
        }
        if self.fragments.len() + frame.payload.len() > MESSAGE_BYTES_MAX {
            return Err(WireError("message longer than 1 GiB"));
        }
        self.fragmented = !frame.fin;
        self.fragments.extend_from_slice(frame.payload);
        Ok(if frame.fin { message(&self.fragments) } else { Incoming::Ignored })
    }
}

/// Reads the envelope of one message.
#[inline]
fn message(text: &[u8]) -> Incoming<'_> {
    let (mut kind, mut id, mut function) = (&b""[..], &b""[..], &b""[..]);
    let (mut data, mut result, mut error, mut code) = (&b"null"[..], &b"null"[..], None, &b""[..]);
    for (key, value) in Members::of(text) {
        match key {
            b"type" => kind = unquoted(value).unwrap_or_default(),
            b"invocation_id" => id = unquoted(value).unwrap_or_default(),
            b"function_id" => function = unquoted(value).unwrap_or_default(),
            b"data" => data = value,
            b"result" => result = value,
            b"error" if value != b"null" => error = Some(value),
            b"code" => code = unquoted(value).unwrap_or_default(),
            _ => {}
        }
    }
    match kind {
        b"invocationresult" => {
            Incoming::Answer { id, result: error.map_or(Ok(result), |error| Err(error_code(error))) }
        }
        b"invokefunction" => Incoming::Call { reply: id, function, data },
        b"workerregistered" => Incoming::Ready,
        b"registrationrejected" => Incoming::Refused(code),
        b"error" => Incoming::Refused(error_code(error.unwrap_or_default())),
        _ => Incoming::Ignored,
    }
}

/// The `code` of an error body.
fn error_code(error: &[u8]) -> &[u8] {
    let code = Members::of(error).find(|(key, _)| *key == b"code");
    code.and_then(|(_, value)| unquoted(value)).unwrap_or(b"(error without code)")
}

/// Registers the functions, then announces the worker, which is what makes them take effect.
pub fn introduce(out: &mut Vec<u8>, introduction: &Introduction<'_>, mask: &mut Mask) {
    for function in introduction.functions {
        let parts: [&[u8]; 3] = [br#"{"type":"registerfunction","id":""#, function.as_bytes(), br#""}"#];
        frame::encode(out, Opcode::Text, &parts, mask);
    }
    let announcement = format!(
        r#"{{"type":"invokefunction","function_id":"engine::workers::register","data":{{"runtime":"rust","version":"{SDK_VERSION}","name":"{}","os":"linux","pid":{}}},"action":{{"type":"void"}}}}"#,
        introduction.name,
        std::process::id(),
    );
    frame::encode(out, Opcode::Text, &[announcement.as_bytes()], mask);
}

/// Appends the result of a call: the data it came with, byte for byte.
#[inline]
pub fn answer(out: &mut Vec<u8>, id: &[u8], function: &[u8], data: &[u8], mask: &mut Mask) {
    let parts: [&[u8]; 7] = [
        br#"{"type":"invocationresult","invocation_id":""#,
        id,
        br#"","function_id":""#,
        function,
        br#"","result":"#,
        data,
        b"}",
    ];
    frame::encode(out, Opcode::Text, &parts, mask);
}

/// Prepares calls of `function`. The frame's header already counts the data that is appended later.
pub fn template(function: &str, data_bytes: usize) -> CallTemplate {
    const BEFORE_ID: &[u8] = br#"{"type":"invokefunction","invocation_id":""#;
    let tail: &'static [u8] = b"}";
    let data = vec![b' '; data_bytes];
    let parts: [&[u8]; 7] =
        [BEFORE_ID, &[b'_'; ID_BYTES], br#"","function_id":""#, function.as_bytes(), br#"","data":"#, &data, tail];
    let mut head = Vec::new();
    let payload_at = frame::encode(&mut head, Opcode::Text, &parts, &mut Mask::Zero);
    head.truncate(head.len() - data_bytes - tail.len());
    CallTemplate { head, tail, id_at: payload_at + BEFORE_ID.len(), id_bytes: ID_BYTES, payload_at }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Call, Encoder, Protocol};

    const ID: &[u8; 36] = b"0d5f0000-aaaa-4bbb-8ccc-ddddeeeeffff";

    /// The payload of a client frame sent with the zero mask.
    fn sent(bytes: &[u8]) -> &str {
        let header = match bytes[1] & 0x7F {
            126 => 8,
            127 => 14,
            _ => 6,
        };
        str::from_utf8(&bytes[header..]).unwrap()
    }

    #[test]
    fn envelopes_are_understood_in_any_member_order() {
        let id = str::from_utf8(ID).unwrap();
        let call = Incoming::Call { reply: ID, function: b"load::echo_1", data: br#"{"type":"x"}"# };
        let usual = format!(
            r#"{{"type":"invokefunction","invocation_id":"{id}","function_id":"load::echo_1","data":{{"type":"x"}}}}"#
        );
        let backwards = format!(
            r#"{{"data":{{"type":"x"}},"function_id":"load::echo_1","invocation_id":"{id}","type":"invokefunction"}}"#
        );
        assert_eq!(message(usual.as_bytes()), call);
        assert_eq!(message(backwards.as_bytes()), call);
        assert_eq!(message(br#"{"type":"workerregistered","worker_id":"u"}"#), Incoming::Ready);
        assert_eq!(message(br#"{"type":"registrationrejected","code":"C"}"#), Incoming::Refused(b"C"));
        assert_eq!(
            message(br#"{"type":"error","error":{"code":"AUTH_ERROR","message":""}}"#),
            Incoming::Refused(b"AUTH_ERROR")
        );
        assert_eq!(message(br#"{"type":"pong"}"#), Incoming::Ignored);
    }

    #[test]
    fn answers_carry_a_result_or_a_code() {
        let ok =
            format!(r#"{{"type":"invocationresult","invocation_id":"{}","result":[1]}}"#, str::from_utf8(ID).unwrap());
        assert_eq!(message(ok.as_bytes()), Incoming::Answer { id: ID, result: Ok(b"[1]") });
        let null_error = br#"{"type":"invocationresult","invocation_id":"a","error":null}"#;
        assert_eq!(message(null_error), Incoming::Answer { id: b"a", result: Ok(b"null") });
        let failed =
            br#"{"error":{"message":"m","code":"function_not_found"},"type":"invocationresult","invocation_id":"a"}"#;
        assert_eq!(message(failed), Incoming::Answer { id: b"a", result: Err(b"function_not_found") });
    }

    #[test]
    fn a_template_becomes_a_whole_call() {
        for bytes in [8, 60, 100, 70_000] {
            let mut encoder = Encoder::new(Protocol::Iii, Mask::Zero);
            let data = crate::wire::payload(bytes);
            let template = encoder.template("load::echo_7", data.len());
            let mut out = Vec::new();
            encoder.call(&mut out, &template, &Call { id: ID, inbox: b"", data: &data });
            let expected = format!(
                r#"{{"type":"invokefunction","invocation_id":"{}","function_id":"load::echo_7","data":{}}}"#,
                str::from_utf8(ID).unwrap(),
                str::from_utf8(&data).unwrap()
            );
            assert_eq!(sent(&out), expected);
            out[1] &= 0x7F;
            let mut unmasked = out.clone();
            let header = out.len() - expected.len();
            unmasked.drain(header - 4..header);
            assert!(matches!(frame::decode(&unmasked), Ok(Decoded::Frame(f)) if f.payload == expected.as_bytes()));
        }
    }

    #[test]
    fn fragments_are_joined_around_control_frames() {
        let mut decoder = Decoder { upgraded: true, ..Decoder::default() };
        let bytes = b"\x01\x08{\"type\":\x89\x02hi\x80\x07\"pong\"}";
        let mut seen = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let Step::Message { incoming, consumed } = decoder.step(&bytes[at..]).unwrap() else {
                panic!("incomplete")
            };
            seen.push(format!("{incoming:?}"));
            at += consumed;
        }
        assert_eq!(seen, ["Ignored", "Ping([104, 105])", "Ignored"]);
        assert_eq!(decoder.fragments, b"{\"type\":\"pong\"}");
        assert!(decoder.step(b"\x80\x01x").is_err(), "a continuation of nothing");
    }

    #[test]
    fn functions_are_registered_before_the_worker_is_announced() {
        let mut out = Vec::new();
        let functions = ["load::echo_0".to_owned()];
        let introduction = Introduction { name: "load-worker-0", functions: &functions, shared: false, inbox: None };
        introduce(&mut out, &introduction, &mut Mask::Zero);
        let registration = br#"{"type":"registerfunction","id":"load::echo_0"}"#;
        assert_eq!(&out[6..6 + registration.len()], registration);
        let text = sent(&out[6 + registration.len()..]);
        assert!(text.contains(r#""function_id":"engine::workers::register""#), "{text}");
        assert!(text.contains(r#""name":"load-worker-0""#), "{text}");
        assert!(text.ends_with(r#""action":{"type":"void"}}"#), "{text}");
    }
}
