//! Hot path: raw JSON without a tree. Checks, walks and writes; never builds values.
//!
//! The scanner accepts exactly what every worker's JSON parser accepts: RFC 8259, valid UTF-8, no lone surrogate
//! escapes, no number beyond `f64`, nesting up to [`JSON_DEPTH_MAX`]. What passes may be spliced into a message as it
//! is; what does not would make a receiver drop the whole message, and its caller wait for ever.
//! It does not recurse, so hostile nesting costs no stack.

use std::borrow::Cow;

use super::limits::JSON_DEPTH_MAX;

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

/// Appends `text` as a JSON string.
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    write_escaped(out, text.as_bytes());
    out.push(b'"');
}

/// Appends `bytes` as a JSON string; what is not UTF-8 becomes U+FFFD.
pub fn write_string_lossy(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    for chunk in bytes.utf8_chunks() {
        write_escaped(out, chunk.valid().as_bytes());
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{FFFD}".as_bytes());
        }
    }
    out.push(b'"');
}

fn write_escaped(out: &mut Vec<u8>, mut bytes: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    loop {
        let plain = plain_prefix(bytes);
        out.extend_from_slice(&bytes[..plain]);
        let Some(&byte) = bytes.get(plain) else { return };
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => out.extend_from_slice(&[
                b'\\',
                b'u',
                b'0',
                b'0',
                HEX[usize::from(byte >> 4)],
                HEX[usize::from(byte & 15)],
            ]),
        }
        bytes = &bytes[plain + 1..];
    }
}

/// Resolves the escapes of a checked string.
fn unescape(inner: &str) -> Cow<'_, str> {
    let Some(first) = memchr::memchr(b'\\', inner.as_bytes()) else { return Cow::Borrowed(inner) };
    let mut text = String::with_capacity(inner.len());
    text.push_str(&inner[..first]);
    let mut rest = &inner[first..];
    while let Some(at) = memchr::memchr(b'\\', rest.as_bytes()) {
        text.push_str(&rest[..at]);
        let escape = rest.as_bytes()[at + 1];
        let mut length = 2;
        text.push(match escape {
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                length = 6;
                let mut code = hex4(&rest.as_bytes()[at + 2..at + 6]).expect("checked escape");
                if (0xD800..0xDC00).contains(&code) {
                    length = 12;
                    let low = hex4(&rest.as_bytes()[at + 8..at + 12]).expect("checked escape");
                    code = 0x1_0000 + ((code - 0xD800) << 10) + (low - 0xDC00);
                }
                char::from_u32(code).expect("surrogates were checked to come in pairs")
            }
            other => char::from(other),
        });
        rest = &rest[at + length..];
    }
    text.push_str(rest);
    Cow::Owned(text)
}

fn hex4(digits: &[u8]) -> Option<u32> {
    let mut value = 0;
    for digit in digits.get(..4)? {
        value = value << 4 | char::from(*digit).to_digit(16)?;
    }
    Some(value)
}

/// Index behind the string that starts at `start` of checked JSON.
fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    loop {
        at += plain_prefix(&bytes[at..]);
        match bytes[at] {
            b'"' => return at + 1,
            _ => at += 2,
        }
    }
}

/// Length of the prefix free of quotes, backslashes and control characters; eight bytes at a time.
fn plain_prefix(bytes: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let mut chunks = bytes.chunks_exact(8);
    let mut at = 0;
    for chunk in &mut chunks {
        let word = u64::from_le_bytes(chunk.try_into().expect("chunks of eight"));
        let quote = word ^ (ONES * u64::from(b'"'));
        let backslash = word ^ (ONES * u64::from(b'\\'));
        // Each term sets the top bit of a byte that is zero (or below 0x20). A borrow can only disturb bytes above
        // the first hit, and only the first one is used.
        let hits = ((quote.wrapping_sub(ONES) & !quote)
            | (backslash.wrapping_sub(ONES) & !backslash)
            | (word.wrapping_sub(ONES * 0x20) & !word))
            & (ONES << 7);
        if hits != 0 {
            return at + (hits.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    at + chunks
        .remainder()
        .iter()
        .position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20))
        .unwrap_or(chunks.remainder().len())
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
    spaced: bool,
}

impl<'a> Scanner<'a> {
    fn new(text: &'a str) -> Scanner<'a> {
        Scanner { text, at: 0, spaced: false }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
            self.spaced = true;
        }
    }

    /// Skips white space, then takes one value.
    fn value(&mut self) -> Option<Raw<'a>> {
        self.skip_space();
        let start = self.at;
        self.spaced = false;
        self.skip_value()?;
        Some(Raw { text: &self.text[start..self.at], spaced: self.spaced })
    }

    /// Takes an object member by member; `at` is its opening brace.
    fn members(&mut self, mut member: impl FnMut(Raw<'a>, Raw<'a>)) -> Option<()> {
        self.at += 1;
        self.skip_space();
        if self.peek()? == b'}' {
            self.at += 1;
            return Some(());
        }
        loop {
            self.skip_space();
            let start = self.at;
            self.skip_string()?;
            let name = Raw { text: &self.text[start..self.at], spaced: false };
            self.skip_space();
            self.skip_byte(b':')?;
            member(name, self.value()?);
            self.skip_space();
            match self.peek()? {
                b',' => self.at += 1,
                b'}' => {
                    self.at += 1;
                    return Some(());
                }
                _ => return None,
            }
        }
    }

    fn skip_value(&mut self) -> Option<()> {
        // One bit per open container, the innermost lowest: 1 = object.
        let mut containers: u128 = 0;
        let mut depth = 0;
        loop {
            self.skip_space();
            let opening = self.peek()?;
            match opening {
                b'{' | b'[' => {
                    if depth == JSON_DEPTH_MAX {
                        return None;
                    }
                    let is_object = opening == b'{';
                    containers = containers << 1 | u128::from(is_object);
                    depth += 1;
                    self.at += 1;
                    self.skip_space();
                    // '}' and ']' are two above '{' and '['; an empty container falls through to be closed below.
                    if self.peek()? != opening + 2 {
                        if is_object {
                            self.skip_key()?;
                        }
                        continue;
                    }
                }
                b'"' => self.skip_string()?,
                b'-' | b'0'..=b'9' => self.skip_number()?,
                b't' => self.skip_word("true")?,
                b'f' => self.skip_word("false")?,
                b'n' => self.skip_word("null")?,
                _ => return None,
            }
            loop {
                if depth == 0 {
                    return Some(());
                }
                self.skip_space();
                let in_object = containers & 1 == 1;
                match self.peek()? {
                    b',' => {
                        self.at += 1;
                        if in_object {
                            self.skip_space();
                            self.skip_key()?;
                        }
                        break;
                    }
                    b'}' if in_object => {}
                    b']' if !in_object => {}
                    _ => return None,
                }
                self.at += 1;
                containers >>= 1;
                depth -= 1;
            }
        }
    }

    fn skip_byte(&mut self, byte: u8) -> Option<()> {
        (self.peek()? == byte).then(|| self.at += 1)
    }

    fn skip_key(&mut self) -> Option<()> {
        self.skip_string()?;
        self.skip_space();
        self.skip_byte(b':')
    }

    fn skip_word(&mut self, word: &str) -> Option<()> {
        self.text.as_bytes()[self.at..].starts_with(word.as_bytes()).then(|| self.at += word.len())
    }

    fn skip_string(&mut self) -> Option<()> {
        self.skip_byte(b'"')?;
        let bytes = self.text.as_bytes();
        loop {
            self.at += plain_prefix(&bytes[self.at..]);
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    return Some(());
                }
                b'\\' => self.skip_escape()?,
                _ => return None,
            }
        }
    }

    fn skip_escape(&mut self) -> Option<()> {
        let bytes = self.text.as_bytes();
        match bytes.get(self.at + 1)? {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => self.at += 2,
            b'u' => {
                let code = hex4(bytes.get(self.at + 2..)?)?;
                self.at += 6;
                if (0xDC00..0xE000).contains(&code) {
                    return None;
                }
                if (0xD800..0xDC00).contains(&code) {
                    let low = bytes.get(self.at..)?.strip_prefix(b"\\u")?;
                    if !(0xDC00..0xE000).contains(&hex4(low)?) {
                        return None;
                    }
                    self.at += 6;
                }
            }
            _ => return None,
        }
        Some(())
    }

    fn skip_number(&mut self) -> Option<()> {
        let start = self.at;
        let mut may_overflow = false;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek()? {
            b'0' => self.at += 1,
            b'1'..=b'9' => self.skip_digits()?,
            _ => return None,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.skip_digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            may_overflow = true;
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.skip_digits()?;
        }
        let text = &self.text[start..self.at];
        // Without an exponent it takes 309 digits to leave the range of an f64.
        if may_overflow || text.len() > 300 {
            return text.parse::<f64>().ok().filter(|value| value.is_finite()).map(|_| ());
        }
        Some(())
    }

    fn skip_digits(&mut self) -> Option<()> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        (self.at > start).then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn accepts_and_refuses() {
        let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        for good in [
            "null", " true ", "-0", "1e5", "1.5E-3", "[]", "{}", "[1,[2,{}]]", "{\"a\":{\"b\":[]},\"c\":1}",
            "\"\\u00e9\\ud83d\\ude00\"", "12345678901234567890", "{ \"a\" : [ 1 , 2 ] }", &deep(128),
        ] {
            assert!(Raw::parse(good.as_bytes()).is_some(), "{good}");
        }
        for bad in [
            "", " ", "nul", "01", "1.", ".5", "+1", "1e", "-", "[1,]", "{,}", "{\"a\":}", "{\"a\"}", "{a:1}", "[}", "{]",
            "\"a", "\"\n\"", "\"\\x\"", "\"\\u12\"", "\"\\ud800\"", "\"\\udc00\"", "\"\\ud800\\u0041\"", "1 2", "NaN",
            "1e999", "[1", "{\"a\":1", "'a'", "\u{feff}1", &deep(129),
        ] {
            assert!(Raw::parse(bad.as_bytes()).is_none(), "{bad}");
        }
        assert!(Raw::parse(b"\"\xff\"").is_none());
        assert!(Raw::parse("[".repeat(1 << 20).as_bytes()).is_none());
    }

    #[test]
    fn integers_include_integral_floats() {
        let integer = |text: &str| Raw::parse(text.as_bytes()).unwrap().integer();
        assert_eq!(integer("404"), Some(404));
        assert_eq!(integer("404.0"), Some(404));
        assert_eq!(integer("2e2"), Some(200));
        assert_eq!(integer("-1"), None);
        assert_eq!(integer("1.5"), None);
        assert_eq!(integer("\"404\""), None);
    }

    #[test]
    fn compacts_only_what_has_space() {
        let compact = |text: &'static str| Raw::parse(text.as_bytes()).unwrap().compact();
        assert!(matches!(compact(" {\"a b\":[1]} "), Cow::Borrowed(b"{\"a b\":[1]}")));
        assert_eq!(compact("{ \"a \\\" b\" : [1,\n2] }").as_ref(), b"{\"a \\\" b\":[1,2]}");
    }

    fn any_json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            (-1e300..1e300f64).prop_map(Into::into),
            "\\PC*|[\\x00-\\x7f]*".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 32, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
                prop::collection::vec(("[a-z\"\\\\]{0,5}", inner), 0..6)
                    .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn agrees_with_a_full_parser(value in any_json()) {
            for text in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
                let raw = Raw::parse(text.as_bytes()).expect("valid");
                prop_assert_eq!(String::from_utf8(raw.compact().into_owned()).unwrap(), value.to_string());
                // Any cut must be refused, numbers aside.
                let cut = &text.as_bytes()[..text.len() - 1];
                prop_assert_eq!(Raw::parse(cut).is_some(), serde_json::from_slice::<serde_json::Value>(cut).is_ok());
            }
        }

        #[test]
        fn agrees_on_garbage(text in "[\\[\\]{}:, \"\\\\a0-9.eE+\\-tru]{0,24}") {
            let full = serde_json::from_str::<serde_json::Value>(&text).is_ok();
            prop_assert_eq!(Raw::parse(text.as_bytes()).is_some(), full, "{}", text);
        }

        #[test]
        fn strings_survive(text in any::<String>()) {
            let mut out = Vec::new();
            write_string(&mut out, &text);
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text.clone());
            prop_assert_eq!(Raw::parse(&out).unwrap().string().unwrap(), text);
        }
    }
}
