//! Hot path: raw JSON without a tree. Checks, walks and writes; never builds values.
//!
//! The scanner accepts exactly what every worker's JSON parser accepts: RFC 8259, valid UTF-8, no lone surrogate
//! escapes, no number beyond `f64`, nesting up to [`JSON_DEPTH_MAX`](super::limits::JSON_DEPTH_MAX). What passes may be
//! spliced into a message as it is; what does not would make a receiver drop the whole message, and its caller wait for
//! ever. It does not recurse, so hostile nesting costs no stack.

mod scan;
mod strings;

use std::borrow::Cow;

use scan::Scanner;
use strings::{string_end, unescape};
pub use strings::{write_string, write_string_lossy};

/// One checked JSON value, as text without surrounding white space.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Raw<'a> {
    text: &'a str,
    /// Whether white space stands between the tokens.
    spaced: bool,
}

/// The kind of a JSON value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `null`
    Null,
    /// `true`, `false`
    Bool,
    /// Any number.
    Number,
    /// Any string.
    String,
    /// An array.
    Array,
    /// An object.
    Object,
}

impl<'a> Raw<'a> {
    /// `null`
    pub const NULL: Raw<'static> = Raw { text: "null", spaced: false };

    /// Checks that `bytes` are one JSON value, with optional white space around it.
    pub fn parse(bytes: &'a [u8]) -> Option<Raw<'a>> {
        let mut scanner = Scanner::new(std::str::from_utf8(bytes).ok()?);
        let value = scanner.value()?;
        scanner.skip_space();
        (scanner.at == bytes.len()).then_some(value)
    }

    /// Checks `bytes` and hands each member of the top-level object to `member`, in one pass.
    ///
    /// `None`: not JSON; members seen until then are void. `Some(false)`: JSON, but not an object.
    pub fn parse_members(bytes: &'a [u8], member: impl FnMut(Raw<'a>, Raw<'a>)) -> Option<bool> {
        let mut scanner = Scanner::new(std::str::from_utf8(bytes).ok()?);
        scanner.skip_space();
        let is_object = scanner.peek() == Some(b'{');
        if is_object {
            scanner.members(member)?;
        } else {
            scanner.value()?;
        }
        scanner.skip_space();
        (scanner.at == bytes.len()).then_some(is_object)
    }

    /// The text of the value.
    pub fn text(self) -> &'a str {
        self.text
    }

    /// What the value is.
    pub fn kind(self) -> Kind {
        match self.text.as_bytes()[0] {
            b'n' => Kind::Null,
            b't' | b'f' => Kind::Bool,
            b'"' => Kind::String,
            b'[' => Kind::Array,
            b'{' => Kind::Object,
            _ => Kind::Number,
        }
    }

    /// The content of a string value.
    pub fn string(self) -> Option<Cow<'a, str>> {
        (self.kind() == Kind::String).then(|| unescape(&self.text[1..self.text.len() - 1]))
    }

    /// A number without fraction, also when written as `404.0` or `4.04e2`; `None` if negative or above 2^53.
    pub fn integer(self) -> Option<u64> {
        if self.kind() != Kind::Number {
            return None;
        }
        if let Ok(integer) = self.text.parse::<u64>() {
            return Some(integer);
        }
        let float: f64 = self.text.parse().ok()?;
        (float.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(&float)).then_some(float as u64)
    }

    /// The value without white space between its tokens. Copies only if there is some.
    pub fn compact(self) -> Cow<'a, [u8]> {
        let bytes = self.text.as_bytes();
        if !self.spaced {
            return Cow::Borrowed(bytes);
        }
        let mut compact = Vec::with_capacity(bytes.len());
        let mut at = 0;
        while at < bytes.len() {
            match bytes[at] {
                b'"' => {
                    let end = string_end(bytes, at);
                    compact.extend_from_slice(&bytes[at..end]);
                    at = end;
                }
                b' ' | b'\t' | b'\n' | b'\r' => at += 1,
                byte => {
                    compact.push(byte);
                    at += 1;
                }
            }
        }
        Cow::Owned(compact)
    }

    /// Hands each member of an object to `member`: name (a string value) and value. Other kinds have none.
    pub fn each_member(self, member: impl FnMut(Raw<'a>, Raw<'a>)) {
        if self.kind() == Kind::Object {
            Scanner::new(self.text).members(member).expect("a Raw is valid JSON");
        }
    }

    /// Hands each element of an array to `element`. Other kinds have none.
    pub fn each_element(self, mut element: impl FnMut(Raw<'a>)) {
        if self.kind() != Kind::Array {
            return;
        }
        let mut scanner = Scanner::new(self.text);
        scanner.at = 1;
        scanner.skip_space();
        if scanner.peek() == Some(b']') {
            return;
        }
        loop {
            element(scanner.value().expect("a Raw is valid JSON"));
            scanner.skip_space();
            if scanner.peek() != Some(b',') {
                return;
            }
            scanner.at += 1;
        }
    }
}

#[cfg(test)]
mod tests;
