//! Hot path: walks over JSON and checks it on the way. Does not allocate, does not recurse.

use super::Raw;
use super::strings::{hex4, plain_prefix};
use crate::http::limits::JSON_DEPTH_MAX;

/// A position in a text that may turn out not to be JSON.
pub(super) struct Scanner<'a> {
    text: &'a str,
    pub(super) at: usize,
    spaced: bool,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str) -> Scanner<'a> {
        Scanner { text, at: 0, spaced: false }
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    pub(super) fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
            self.spaced = true;
        }
    }

    /// Skips white space, then takes one value.
    pub(super) fn value(&mut self) -> Option<Raw<'a>> {
        self.skip_space();
        let start = self.at;
        self.spaced = false;
        self.skip_value()?;
        Some(Raw { text: &self.text[start..self.at], spaced: self.spaced })
    }

    /// Takes an object member by member; `at` is its opening brace.
    pub(super) fn members(&mut self, mut member: impl FnMut(Raw<'a>, Raw<'a>)) -> Option<()> {
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
