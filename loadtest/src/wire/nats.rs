//! The NATS text protocol, as much of it as request/reply needs.
//!
//! Hot path: one line and one payload per message, found by scanning. A call is `PUB function inbox.token`, its answer
//! a message on that subject; the token is the tail of the call's id.

use super::{CallTemplate, Incoming, Introduction, Step, WireError};
use memchr::memchr;

/// Length of an inbox, as long as those of the official clients.
pub const INBOX_BYTES: usize = 29;

/// Bytes of the call's id used as the last token of a reply subject.
const TOKEN_BYTES: usize = 12;

const CONTROL_LINE_BYTES_MAX: usize = 64 * 1024;

/// The inbox of caller number `index`, unique among the processes of one machine.
pub fn inbox(index: usize) -> [u8; INBOX_BYTES] {
    let text = format!("_INBOX.load{:08x}{index:010x}", std::process::id());
    text.as_bytes().try_into().expect("7 + 4 + 8 + 10 digits")
}

/// Reads the message at the front of `bytes`.
#[inline]
pub fn step(bytes: &[u8]) -> Result<Step<'_>, WireError> {
    let Some(line_end) = memchr(b'\n', bytes) else {
        if bytes.len() > CONTROL_LINE_BYTES_MAX {
            return Err(WireError("control line longer than 64 KiB"));
        }
        return Ok(Step::Incomplete { total: 0 });
    };
    let line = bytes[..line_end].strip_suffix(b"\r").unwrap_or(&bytes[..line_end]);
    let consumed = line_end + 1;
    if let Some(arguments) = line.strip_prefix(b"MSG ") {
        return message(bytes, arguments, consumed);
    }
    let incoming = match line.split(|byte| *byte == b' ').next() {
        Some(b"PING") => Incoming::Ping(b""),
        Some(b"PONG") => Incoming::Ready,
        Some(b"INFO") => Incoming::Greeting,
        Some(b"-ERR") => Incoming::Refused(line.strip_prefix(b"-ERR ").unwrap_or_default()),
        Some(b"+OK" | b"") => Incoming::Ignored,
        _ => return Err(WireError("unknown NATS operation")),
    };
    Ok(Step::Message { incoming, consumed })
}

/// `arguments` is `subject sid [reply] length`.
#[inline]
fn message<'a>(bytes: &'a [u8], arguments: &'a [u8], start: usize) -> Result<Step<'a>, WireError> {
    const BAD: WireError = WireError("malformed NATS message line");
    let mut words = arguments.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
    let subject = words.next().ok_or(BAD)?;
    let _subscription = words.next().ok_or(BAD)?;
    let third = words.next().ok_or(BAD)?;
    let (reply, length) = match words.next() {
        Some(length) => (third, length),
        None => (&b""[..], third),
    };
    let length: usize = str::from_utf8(length).ok().and_then(|digits| digits.parse().ok()).ok_or(BAD)?;
    let consumed = start + length + 2;
    let Some(payload) = bytes.get(start..consumed) else {
        return Ok(Step::Incomplete { total: consumed });
    };
    let data = &payload[..length];
    let incoming = if subject.starts_with(b"_INBOX.") {
        Incoming::Answer { id: subject.get(INBOX_BYTES + 1..).unwrap_or_default(), result: Ok(data) }
    } else {
        Incoming::Call { reply, function: subject, data }
    };
    Ok(Step::Message { incoming, consumed })
}

/// Connects and subscribes; the PING at the end is answered once the subscriptions are in place.
pub fn introduce(out: &mut Vec<u8>, introduction: &Introduction<'_>) {
    let name = introduction.name;
    let mut text = format!(
        r#"CONNECT {{"verbose":false,"pedantic":false,"lang":"rust","version":"0","name":"{name}","protocol":1}}"#
    );
    text.push_str("\r\n");
    let group = if introduction.shared { " load" } else { "" };
    for (index, function) in introduction.functions.iter().enumerate() {
        text.push_str(&format!("SUB {function}{group} {}\r\n", index + 2));
    }
    out.extend_from_slice(text.as_bytes());
    if let Some(inbox) = introduction.inbox {
        out.extend_from_slice(b"SUB ");
        out.extend_from_slice(inbox);
        out.extend_from_slice(b".* 1\r\n");
    }
    out.extend_from_slice(b"PING\r\n");
}

/// Publishes `data` to the caller's reply subject.
#[inline]
pub fn answer(out: &mut Vec<u8>, reply: &[u8], data: &[u8]) {
    out.extend_from_slice(b"PUB ");
    out.extend_from_slice(reply);
    out.push(b' ');
    put_decimal(out, data.len());
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

/// Prepares calls of `function`.
pub fn template(function: &str, data_bytes: usize) -> CallTemplate {
    let mut head = format!("PUB {function} ").into_bytes();
    let payload_at = head.len();
    head.resize(payload_at + INBOX_BYTES, b'_');
    head.push(b'.');
    let id_at = head.len();
    head.resize(id_at + TOKEN_BYTES, b'_');
    head.push(b' ');
    put_decimal(&mut head, data_bytes);
    head.extend_from_slice(b"\r\n");
    CallTemplate { head, tail: b"\r\n", id_at, id_bytes: TOKEN_BYTES, payload_at }
}

fn put_decimal(out: &mut Vec<u8>, mut value: usize) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame::Mask;
    use crate::wire::{Call, Encoder, Protocol};

    fn check(bytes: &str, incoming: Incoming<'_>) {
        let mut longer = bytes.as_bytes().to_vec();
        longer.extend_from_slice(b"PING\r\n");
        assert_eq!(step(&longer), Ok(Step::Message { incoming, consumed: bytes.len() }), "{bytes:?}");
        for end in 0..bytes.len() {
            assert!(matches!(step(&longer[..end]), Ok(Step::Incomplete { .. })), "prefix {end} of {bytes:?}");
        }
    }

    #[test]
    fn operations_are_recognised_and_their_prefixes_are_incomplete() {
        check("INFO {\"server_id\":\"x\"}\r\n", Incoming::Greeting);
        check("PING\r\n", Incoming::Ping(b""));
        check("PONG\r\n", Incoming::Ready);
        check("+OK\r\n", Incoming::Ignored);
        check("-ERR 'Unknown'\r\n", Incoming::Refused(b"'Unknown'"));
        let call = Incoming::Call { reply: b"_INBOX.a.b", function: b"load::echo_1", data: b"ab\r\nc" };
        check("MSG load::echo_1 2 _INBOX.a.b 5\r\nab\r\nc\r\n", call);
        check("MSG f 2 0\r\n\r\n", Incoming::Call { reply: b"", function: b"f", data: b"" });
        assert!(step(b"HTTP/1.1 400\r\n").is_err());
        assert!(step(b"MSG f 2\r\n").is_err());
    }

    #[test]
    fn the_answer_to_a_template_call_carries_its_token() {
        let mut encoder = Encoder::new(Protocol::Nats, Mask::Zero);
        let template = encoder.template("load::echo_1", 3);
        let inbox = inbox(5);
        let mut out = Vec::new();
        encoder.call(
            &mut out,
            &template,
            &Call { id: b"00000000-0000-4000-8000-0123456789ab", inbox: &inbox, data: b"abc" },
        );
        let inbox_text = str::from_utf8(&inbox).unwrap();
        let reply = format!("{inbox_text}.0123456789ab");
        assert_eq!(str::from_utf8(&out).unwrap(), format!("PUB load::echo_1 {reply} 3\r\nabc\r\n"));

        let mut answered = Vec::new();
        answer(&mut answered, reply.as_bytes(), b"abc");
        assert_eq!(str::from_utf8(&answered).unwrap(), format!("PUB {reply} 3\r\nabc\r\n"));
        check(&format!("MSG {reply} 1 3\r\nabc\r\n"), Incoming::Answer { id: b"0123456789ab", result: Ok(b"abc") });
    }

    #[test]
    fn subscriptions_come_before_the_ping() {
        let mut out = Vec::new();
        let functions = ["f".to_owned(), "g".to_owned()];
        introduce(&mut out, &Introduction { name: "n", functions: &functions, shared: true, inbox: Some(b"_INBOX.i") });
        let text = String::from_utf8(out).unwrap();
        assert!(text.ends_with("SUB f load 2\r\nSUB g load 3\r\nSUB _INBOX.i.* 1\r\nPING\r\n"), "{text}");
    }
}
