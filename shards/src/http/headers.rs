//! Response header fields, kept as the lines they will be sent as.

use super::head::is_token_byte;

/// Header lines of a response in wire form. Only valid lines get in, so nothing a handler returns can end a line early.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeaderList {
    /// `name: value\r\n`, names in lower case.
    lines: Vec<u8>,
    /// Fields that were refused, for a warning.
    refused: u32,
}

/// Fields that describe the connection or the framing. Those are ours to compute (HTTP-50).
const FRAMING: [&str; 8] =
    ["content-length", "transfer-encoding", "connection", "keep-alive", "upgrade", "te", "trailer", "proxy-connection"];

impl HeaderList {
    /// Adds a field behind the others. Invalid names or values are refused and counted; framing fields are ignored.
    pub fn push(&mut self, name: &str, value: &[u8]) {
        let value = trim_blanks(value);
        let is_valid = !name.is_empty()
            && name.bytes().all(is_token_byte)
            && value.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~' | 0x80..));
        if !is_valid {
            self.refused += 1;
            return;
        }
        if FRAMING.iter().any(|framing| name.eq_ignore_ascii_case(framing)) {
            return;
        }
        self.lines.extend(name.bytes().map(|byte| byte.to_ascii_lowercase()));
        self.lines.extend_from_slice(b": ");
        self.lines.extend_from_slice(value);
        self.lines.extend_from_slice(b"\r\n");
    }

    /// Adds a field and removes earlier ones of its name, whatever their case.
    pub fn set(&mut self, name: &str, value: &[u8]) {
        let length = self.lines.len();
        self.push(name, value);
        let added = self.lines.split_off(length);
        if !added.is_empty() {
            if self.get(name).is_some() {
                self.lines = self.without(|field| name.as_bytes().eq_ignore_ascii_case(field));
            }
            self.lines.extend_from_slice(&added);
        }
    }

    /// The value of the first field named `name`, in any case.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.fields().find(|(field, _)| field.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| value)
    }

    /// The fields in order.
    pub fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        // A field ends at its line feed: a value contains none.
        self.lines.split_inclusive(|byte| *byte == b'\n').map(split_line)
    }

    /// Number of fields that were refused.
    pub fn refused(&self) -> u32 {
        self.refused
    }

    /// Appends all lines to `out` but those whose name is in `except`.
    pub fn write(&self, out: &mut Vec<u8>, except: &[&str]) {
        let is_excepted = |name: &[u8]| except.iter().any(|except| name == except.as_bytes());
        if self.fields().any(|(name, _)| is_excepted(name)) {
            out.extend_from_slice(&self.without(is_excepted));
        } else {
            out.extend_from_slice(&self.lines);
        }
    }

    fn without(&self, is_unwanted: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        let lines = self.lines.split_inclusive(|byte| *byte == b'\n');
        lines.filter(|line| !is_unwanted(split_line(line).0)).flatten().copied().collect()
    }
}

/// Spaces and tabs around a value are not part of it. A line end is, and will be refused.
fn trim_blanks(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

fn split_line(line: &[u8]) -> (&[u8], &[u8]) {
    let colon = memchr::memchr(b':', line).expect("every line has a name");
    (&line[..colon], &line[colon + 2..line.len() - 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(headers: &HeaderList) -> String {
        let mut out = Vec::new();
        headers.write(&mut out, &[]);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn nothing_ends_a_line_early() {
        // HTTP-47, HTTP-50: injection is refused, framing is ours.
        let mut headers = HeaderList::default();
        for (name, value) in [
            ("x-a", "1\r\nset-cookie: evil=1"),
            ("x-b", "1\n"),
            ("x-c", "a\nb"),
            ("x-d", "a\rb"),
            ("x e", "1"),
            ("x-f\r\nx-g", "1"),
            ("x:h", "1"),
            ("", "1"),
            ("x-i", "a\0b"),
            ("x-\u{e9}", "1"),
            ("X-J", " 1\t"),
        ] {
            headers.push(name, value.as_bytes());
        }
        assert_eq!((text(&headers).as_str(), headers.refused()), ("x-j: 1\r\n", 10));
        for name in ["Content-Length", "transfer-encoding", "CONNECTION", "keep-alive", "upgrade", "te", "trailer"] {
            headers.push(name, b"1");
        }
        assert_eq!((text(&headers).as_str(), headers.refused()), ("x-j: 1\r\n", 10));
    }

    #[test]
    fn set_replaces_and_push_repeats() {
        let mut headers = HeaderList::default();
        headers.push("X-A", b"1");
        headers.push("x-a", " \u{e9} ".as_bytes());
        headers.push("X-B", b"");
        assert_eq!(text(&headers), "x-a: 1\r\nx-a: \u{e9}\r\nx-b: \r\n");
        headers.set("X-a", b"3");
        assert_eq!(text(&headers), "x-b: \r\nx-a: 3\r\n");
        headers.set("x-a", b"bad\0");
        assert_eq!((headers.get("X-A"), headers.get("x-b"), headers.get("x")), (Some(&b"3"[..]), Some(&b""[..]), None));
        let mut out = Vec::new();
        headers.write(&mut out, &["x-b"]);
        assert_eq!(out, b"x-a: 3\r\n");
    }
}
