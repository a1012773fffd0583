//! Finding the top-level members of a JSON object by scanning bytes.
//!
//! Hot path: no allocation, no number or escape decoding, no tree. The scanner finds where values begin and end and
//! trusts the server for the rest; malformed text simply ends the iteration.

use memchr::memchr2;

/// Walks the members of one JSON object in the order they were sent.
///
/// Yields the key without its quotes and the value as raw JSON, strings with their quotes.
pub struct Members<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Members<'a> {
    /// Text that is not an object has no members.
    pub fn of(bytes: &'a [u8]) -> Self {
        let at = skip_whitespace(bytes, 0);
        let at = if bytes.get(at) == Some(&b'{') { at + 1 } else { bytes.len() };
        Self { bytes, at }
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = (&'a [u8], &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let bytes = self.bytes;
        let mut at = skip_whitespace(bytes, self.at);
        if bytes.get(at) == Some(&b',') {
            at = skip_whitespace(bytes, at + 1);
        }
        if bytes.get(at) != Some(&b'"') {
            return None;
        }
        let key_end = skip_string(bytes, at)?;
        let key = &bytes[at + 1..key_end - 1];
        at = skip_whitespace(bytes, key_end);
        if bytes.get(at) != Some(&b':') {
            return None;
        }
        at = skip_whitespace(bytes, at + 1);
        let value_end = skip_value(bytes, at)?;
        self.at = value_end;
        Some((key, &bytes[at..value_end]))
    }
}

/// The inside of a raw JSON string; `None` for every other kind of value. Escapes stay as they are.
#[inline]
pub fn unquoted(value: &[u8]) -> Option<&[u8]> {
    match value {
        [b'"', inside @ .., b'"'] => Some(inside),
        _ => None,
    }
}

#[inline]
fn skip_whitespace(bytes: &[u8], mut at: usize) -> usize {
    while matches!(bytes.get(at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
        at += 1;
    }
    at
}

/// `at` is on the opening quote; returns the position after the closing one.
#[inline]
fn skip_string(bytes: &[u8], at: usize) -> Option<usize> {
    let mut at = at + 1;
    loop {
        let found = at + memchr2(b'"', b'\\', bytes.get(at..)?)?;
        if bytes[found] == b'"' {
            return Some(found + 1);
        }
        at = found + 2;
    }
}

#[inline]
fn skip_value(bytes: &[u8], at: usize) -> Option<usize> {
    match bytes.get(at)? {
        b'"' => skip_string(bytes, at),
        b'{' | b'[' => skip_nested(bytes, at),
        _ => {
            let length =
                bytes[at..].iter().position(|b| matches!(b, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r'));
            length.filter(|length| *length > 0).map(|length| at + length)
        }
    }
}

fn skip_nested(bytes: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0u32;
    loop {
        match bytes.get(at)? {
            b'"' => {
                at = skip_string(bytes, at)?;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, expected: &[(&str, &str)]) {
        let found: Vec<_> = Members::of(json.as_bytes())
            .map(|(key, value)| (str::from_utf8(key).unwrap(), str::from_utf8(value).unwrap()))
            .collect();
        assert_eq!(found, expected, "in {json}");
    }

    #[test]
    fn members_come_out_in_order_with_raw_values() {
        check(r#"{}"#, &[]);
        check(r#"{"a":1}"#, &[("a", "1")]);
        check(r#" { "a" : null , "b" : "x" } "#, &[("a", "null"), ("b", r#""x""#)]);
        check(r#"{"d":{"p":[1,{"q":2}]},"t":"y"}"#, &[("d", r#"{"p":[1,{"q":2}]}"#), ("t", r#""y""#)]);
    }

    #[test]
    fn quotes_and_braces_inside_strings_do_not_end_a_value() {
        check(r#"{"d":{"p":"}\"{\\"},"z":true}"#, &[("d", r#"{"p":"}\"{\\"}"#), ("z", "true")]);
        check(r#"{"k\"ey":"\\"}"#, &[(r#"k\"ey"#, r#""\\""#)]);
    }

    #[test]
    fn strings_of_every_length_end_where_they_should() {
        for length in 0..200 {
            for (filler, ending) in [("x", ""), ("x", "\\\""), ("é", "\\\\")] {
                let text = format!("\"{}{ending}\"", filler.repeat(length));
                let json = format!("{{\"k\":{text},\"z\":\"\"}}");
                check(&json, &[("k", &text), ("z", "\"\"")]);
            }
        }
    }

    #[test]
    fn malformed_text_ends_the_iteration() {
        for json in ["", "[1]", "null", "{", r#"{"a"#, r#"{"a":"#, r#"{"a":{"#, r#"{"a":"x"#, r#"{"a" 1}"#, r#"{"a":}"#]
        {
            check(json, &[]);
        }
    }

    #[test]
    fn only_strings_can_be_unquoted() {
        assert_eq!(unquoted(br#""abc""#), Some(&b"abc"[..]));
        assert_eq!(unquoted(b"12"), None);
        assert_eq!(unquoted(b"\""), None);
    }
}
