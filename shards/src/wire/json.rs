//! Hot path: walks JSON text without building anything.
//!
//! The engine forwards payloads as raw text, so what it lets through must be exactly one complete JSON value:
//! a truncated or malformed one could smuggle envelope members or leave its receiver hanging. [`Scanner`]
//! checks the full grammar (RFC 8259) in one pass and hands out slices. Callers check UTF-8 once per frame.
//! Beyond the grammar it refuses what strict decoders at the other end refuse: lone surrogate escapes and
//! numbers beyond the range of a double.
//!
//! Decoding into values goes through sonic-rs, at the bottom of this file; nothing else in the crate names it.

use crate::limits::JSON_DEPTH_MAX;
use serde::de::DeserializeOwned;
use std::borrow::Cow;
use std::fmt;

/// Where and why a text is not JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JsonError {
    /// Byte offset of the fault.
    pub offset: usize,
    /// What is wrong there.
    pub reason: &'static str,
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid JSON: {} at byte {}", self.reason, self.offset)
    }
}

/// A cursor over JSON text.
pub struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

/// The inside of a string literal, still escaped.
#[derive(Debug, Clone, Copy)]
pub struct RawString<'a> {
    /// Text between the quotes.
    pub inner: &'a [u8],
    /// Whether it contains a backslash.
    pub escaped: bool,
}

impl<'a> Scanner<'a> {
    /// Starts at the beginning of `text`.
    pub fn new(text: &'a [u8]) -> Self {
        Scanner { text, at: 0 }
    }

    /// Current offset in bytes.
    pub fn offset(&self) -> usize {
        self.at
    }

    fn fail<T>(&self, reason: &'static str) -> Result<T, JsonError> {
        Err(JsonError { offset: self.at, reason })
    }

    /// Skips white space and returns the next byte without consuming it.
    #[inline]
    pub fn peek(&mut self) -> Option<u8> {
        loop {
            match self.text.get(self.at) {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.at += 1,
                other => return other.copied(),
            }
        }
    }

    /// Skips white space and consumes `byte`, or fails with `reason`.
    #[inline]
    pub fn expect(&mut self, byte: u8, reason: &'static str) -> Result<(), JsonError> {
        if self.peek() == Some(byte) {
            self.at += 1;
            Ok(())
        } else {
            self.fail(reason)
        }
    }

    /// Consumes a string literal. The cursor must stand on its opening quote (after white space).
    #[inline]
    pub fn string(&mut self) -> Result<RawString<'a>, JsonError> {
        self.expect(b'"', "expected a string")?;
        let start = self.at;
        let mut escaped = false;
        loop {
            self.skip_plain();
            match self.text.get(self.at) {
                Some(b'"') => {
                    let inner = &self.text[start..self.at];
                    self.at += 1;
                    return Ok(RawString { inner, escaped });
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                Some(_) => return self.fail("control character in a string"),
                None => return self.fail("string is not closed"),
            }
        }
    }

    /// Moves to the next quote, backslash, control character or the end.
    #[inline]
    fn skip_plain(&mut self) {
        const LOW: u64 = u64::from_ne_bytes([0x01; 8]);
        const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
        // Short strings end within a few words; long ones are worth the set-up of a vectorised search.
        for _ in 0..8 {
            let Some(word) = self.text[self.at..].first_chunk::<8>() else {
                while self.text.get(self.at).is_some_and(|byte| !matches!(byte, b'"' | b'\\' | 0..=0x1F)) {
                    self.at += 1;
                }
                return;
            };
            let word = u64::from_le_bytes(*word);
            let quote = word ^ (LOW * u64::from(b'"'));
            let slash = word ^ (LOW * u64::from(b'\\'));
            let hits = (quote.wrapping_sub(LOW) & !quote
                | slash.wrapping_sub(LOW) & !slash
                | word.wrapping_sub(LOW * 0x20) & !word)
                & HIGH;
            if hits != 0 {
                self.at += hits.trailing_zeros() as usize / 8;
                return;
            }
            self.at += 8;
        }
        self.skip_plain_long();
    }

    #[inline(never)]
    fn skip_plain_long(&mut self) {
        let rest = &self.text[self.at..];
        let end = memchr::memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
        let plain = &rest[..end];
        // A fold without early exit vectorises; control characters are the rare case.
        let has_control = plain.chunks(4096).any(|chunk| chunk.iter().fold(false, |seen, byte| seen | (*byte < 0x20)));
        self.at += if has_control { plain.iter().position(|byte| *byte < 0x20).unwrap_or(end) } else { end };
    }

    fn escape(&mut self) -> Result<(), JsonError> {
        match self.text.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 2;
                Ok(())
            }
            Some(b'u') => {
                let unit = self.hex4(self.at + 2)?;
                match unit {
                    0xD800..=0xDBFF => {
                        if self.text.get(self.at + 6..self.at + 8) != Some(b"\\u") {
                            return self.fail("lone surrogate escape");
                        }
                        if !(0xDC00..=0xDFFF).contains(&self.hex4(self.at + 8)?) {
                            return self.fail("lone surrogate escape");
                        }
                        self.at += 12;
                    }
                    0xDC00..=0xDFFF => return self.fail("lone surrogate escape"),
                    _ => self.at += 6,
                }
                Ok(())
            }
            _ => self.fail("unknown escape in a string"),
        }
    }

    fn hex4(&self, at: usize) -> Result<u32, JsonError> {
        let digits = self.text.get(at..at + 4);
        let mut unit = 0;
        for digit in digits.unwrap_or(b"?") {
            match (*digit as char).to_digit(16) {
                Some(value) => unit = unit * 16 + value,
                None => return Err(JsonError { offset: at, reason: "bad \\u escape" }),
            }
        }
        Ok(unit)
    }

    fn literal(&mut self, word: &'static [u8]) -> Result<(), JsonError> {
        if self.text[self.at..].starts_with(word) {
            self.at += word.len();
            Ok(())
        } else {
            self.fail("unknown word")
        }
    }

    #[inline]
    fn digits(&mut self) -> usize {
        let start = self.at;
        while self.text.get(self.at).is_some_and(u8::is_ascii_digit) {
            self.at += 1;
        }
        self.at - start
    }

    fn number(&mut self) -> Result<(), JsonError> {
        let start = self.at;
        if self.text[self.at] == b'-' {
            self.at += 1;
        }
        match self.text.get(self.at) {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => {
                self.digits();
            }
            _ => return self.fail("bad number"),
        }
        if self.text.get(self.at) == Some(&b'.') {
            self.at += 1;
            if self.digits() == 0 {
                return self.fail("bad number");
            }
        }
        let exponent = matches!(self.text.get(self.at), Some(b'e' | b'E'));
        if exponent {
            self.at += 1;
            if matches!(self.text.get(self.at), Some(b'+' | b'-')) {
                self.at += 1;
            }
            if self.digits() == 0 {
                return self.fail("bad number");
            }
        }
        // 300 digits without an exponent are the shortest way past the range of a double.
        if exponent || self.at - start > 300 {
            let text = std::str::from_utf8(&self.text[start..self.at]).unwrap_or("");
            if !text.parse::<f64>().is_ok_and(f64::is_finite) {
                self.at = start;
                return self.fail("number out of range");
            }
        }
        Ok(())
    }

    /// Consumes one value of any kind and returns its text.
    #[inline]
    pub fn value(&mut self) -> Result<&'a [u8], JsonError> {
        self.peek();
        let start = self.at;
        self.skip_value()?;
        Ok(&self.text[start..self.at])
    }

    /// Consumes one value of any kind, checking its grammar. Iterative: nesting costs a bit each, no stack.
    pub fn skip_value(&mut self) -> Result<(), JsonError> {
        // Bit per open container: 1 = object, 0 = array.
        let mut kinds = [0u64; JSON_DEPTH_MAX / 64];
        let mut depth = 0usize;
        loop {
            match self.peek() {
                Some(b'"') => {
                    self.string()?;
                }
                Some(b'-' | b'0'..=b'9') => self.number()?,
                Some(open @ (b'{' | b'[')) => {
                    self.at += 1;
                    let object = open == b'{';
                    let close = if object { b'}' } else { b']' };
                    if self.peek() == Some(close) {
                        self.at += 1;
                    } else {
                        if depth == JSON_DEPTH_MAX {
                            return self.fail("nesting too deep");
                        }
                        let bit = 1u64 << (depth % 64);
                        if object {
                            kinds[depth / 64] |= bit;
                            self.key()?;
                        } else {
                            kinds[depth / 64] &= !bit;
                        }
                        depth += 1;
                        continue;
                    }
                }
                Some(b't') => self.literal(b"true")?,
                Some(b'f') => self.literal(b"false")?,
                Some(b'n') => self.literal(b"null")?,
                Some(_) => return self.fail("expected a value"),
                None => return self.fail("text ends where a value should be"),
            }
            // A value has ended: close containers, or go on to the next member.
            loop {
                if depth == 0 {
                    return Ok(());
                }
                let object = kinds[(depth - 1) / 64] >> ((depth - 1) % 64) & 1 == 1;
                match self.peek() {
                    Some(b',') => {
                        self.at += 1;
                        if object {
                            self.key()?;
                        }
                        break;
                    }
                    Some(b'}') if object => {
                        self.at += 1;
                        depth -= 1;
                    }
                    Some(b']') if !object => {
                        self.at += 1;
                        depth -= 1;
                    }
                    _ => return self.fail("expected a comma or the end of the container"),
                }
            }
        }
    }

    #[inline]
    fn key(&mut self) -> Result<RawString<'a>, JsonError> {
        if self.peek() != Some(b'"') {
            return self.fail("expected a member name");
        }
        let key = self.string()?;
        self.expect(b':', "expected a colon")?;
        Ok(key)
    }

    /// Walks the members of an object: calls `member` with each name, the cursor standing before its value.
    /// The callback must consume the value.
    #[inline]
    pub fn object(
        &mut self,
        mut member: impl FnMut(&mut Self, RawString<'a>) -> Result<(), JsonError>,
    ) -> Result<(), JsonError> {
        self.expect(b'{', "expected an object")?;
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            let key = self.key()?;
            member(self, key)?;
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return self.fail("expected a comma or the end of the object"),
            }
        }
    }

    /// Fails unless only white space is left.
    pub fn end(&mut self) -> Result<(), JsonError> {
        match self.peek() {
            None => Ok(()),
            Some(_) => self.fail("text after the value"),
        }
    }
}

/// Checks that `text` is one complete JSON value.
pub fn validate(text: &[u8]) -> Result<(), JsonError> {
    let mut scanner = Scanner::new(text);
    scanner.skip_value()?;
    scanner.end()
}

/// Decodes a string literal (with its quotes). `None` if `raw` is not a string.
pub fn string_value(raw: &[u8]) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if memchr::memchr(b'\\', inner).is_none() {
        return std::str::from_utf8(inner).ok().map(Cow::Borrowed);
    }
    sonic_rs::from_slice::<String>(raw).ok().map(Cow::Owned)
}

/// Decodes a valid JSON text into a value of the caller's choosing. Errors name what is wrong, in serde's words.
pub fn decode<T: DeserializeOwned>(text: &[u8]) -> Result<T, String> {
    sonic_rs::from_slice(text).map_err(|error| {
        // The first line is the reason; the rest is a drawing of the input.
        error.to_string().lines().next().unwrap_or("invalid").trim_end_matches([' ', ':']).to_owned()
    })
}

/// Appends `text` as a JSON string literal.
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1F)) {
        out.extend_from_slice(&rest[..at]);
        match rest[at] {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            byte => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(byte >> 4)]);
                out.push(HEX[usize::from(byte & 15)]);
            }
        }
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn reason(text: &[u8]) -> Option<&'static str> {
        validate(text).err().map(|error| error.reason)
    }

    #[test]
    fn accepts_the_grammar() {
        for text in [
            "0",
            "-0",
            "1.5e-7",
            "\"\"",
            "\"a\\u00e9\\ud83d\\ude00\"",
            "[]",
            "{}",
            " [1 , {\"a\" : null}] ",
            "true",
            "[[[[]]]]",
            "{\"a\":{\"b\":[1,2,{\"c\":\"\\\\\"}]}}",
            "123456789012345678901234567890",
        ] {
            assert_eq!(validate(text.as_bytes()), Ok(()), "{text}");
        }
    }

    #[test]
    fn refuses_what_receivers_would_choke_on() {
        for (text, expected) in [
            ("NaN", "expected a value"),
            ("[1,NaN]", "expected a value"),
            ("Infinity", "expected a value"),
            ("-Infinity", "bad number"),
            ("nul", "unknown word"),
            ("{\"a\":1", "expected a comma or the end of the container"),
            ("{\"a\":1]", "expected a comma or the end of the container"),
            ("[1}", "expected a comma or the end of the container"),
            ("{a:1}", "expected a member name"),
            ("{\"a\":1,}", "expected a member name"),
            ("[1,]", "expected a value"),
            ("01", "text after the value"),
            ("1.", "bad number"),
            ("1e999", "number out of range"),
            ("\"\\ud83d\"", "lone surrogate escape"),
            ("\"\\ude00\"", "lone surrogate escape"),
            ("\"\\x\"", "unknown escape in a string"),
            ("\"abc", "string is not closed"),
            ("\"a\nb\"", "control character in a string"),
            ("{} {}", "text after the value"),
            ("", "text ends where a value should be"),
        ] {
            assert_eq!(reason(text.as_bytes()), Some(expected), "{text}");
        }
        assert_eq!(reason("9".repeat(400).as_bytes()), Some("number out of range"));
    }

    #[test]
    fn bounds_nesting_without_using_the_stack() {
        let nested = |depth: usize| ["[".repeat(depth), "]".repeat(depth)].concat();
        assert_eq!(validate(nested(JSON_DEPTH_MAX).as_bytes()), Ok(()));
        assert_eq!(reason(nested(JSON_DEPTH_MAX + 2).as_bytes()), Some("nesting too deep"));
        assert_eq!(reason("[".repeat(1_000_000).as_bytes()), Some("nesting too deep"));
    }

    #[test]
    fn finds_the_end_of_strings_of_any_length() {
        for length in 0..300 {
            let text = format!("\"{}\"", "x".repeat(length));
            assert_eq!(validate(text.as_bytes()), Ok(()), "{length}");
            let control = format!("\"{}\u{1}\"", "x".repeat(length));
            assert_eq!(reason(control.as_bytes()), Some("control character in a string"), "{length}");
            let escaped = format!("\"{}\\\"\"", "x".repeat(length));
            assert_eq!(validate(escaped.as_bytes()), Ok(()), "{length}");
        }
    }

    #[test]
    fn string_round_trip() {
        for text in ["", "plain", "q\"b\\s/", "\u{0}\u{1f}\n\r\t", "grüße 😀"] {
            let mut out = Vec::new();
            write_string(&mut out, text);
            assert_eq!(string_value(&out).as_deref(), Some(text));
        }
        assert_eq!(string_value(b"1"), None);
    }

    proptest! {
        // serde_json is the strictest decoder we know; it has no say on depth and we none on its arbitrary limits.
        #[test]
        fn agrees_with_serde_json(text in "[\\[\\]{}\",:0-9eE.+\\-truefalsn \\\\u]{0,24}") {
            let ours = validate(text.as_bytes()).is_ok();
            let theirs = serde_json::from_str::<serde_json::Value>(&text).is_ok();
            prop_assert_eq!(ours, theirs, "{}", text);
        }

        #[test]
        fn agrees_on_mutated_documents(at in 0usize..80, byte in 0u8..128) {
            let mut text = br#"{"type":"x","data":{"a":[1,2.5e3,"s\u00e9\n",true,null]},"b":"\ud83d\ude00"}"#.to_vec();
            let at = at % text.len();
            text[at] = byte;
            let ours = validate(&text).is_ok();
            let theirs = serde_json::from_slice::<serde_json::Value>(&text).is_ok();
            prop_assert_eq!(ours, theirs, "{}", String::from_utf8_lossy(&text));
        }
    }
}
