//! Request bodies off the wire, response chunks onto it.
//!
//! The decoder never buffers: it is shown input, says how much of it was framing and which run of it is content, and
//! remembers the rest in a few words. Where the chunk grammar leaves room, it takes the narrow reading: CR LF only,
//! no space around a size, extensions by the letter and small, trailers well formed and thrown away.

use std::ops::Range;

use super::head::{BodyLength, is_token_byte};
use super::limits::{CHUNK_EXTENSION_BYTES_MAX, CHUNK_SIZE_DIGITS_MAX, TRAILER_BYTES_MAX};

/// Ends a chunked response.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Appends one chunk. Empty data makes no chunk, since an empty chunk is the end.
pub fn write_chunk(out: &mut Vec<u8>, data: &[u8]) {
    if !data.is_empty() {
        write_chunk_size(out, data.len());
        out.extend_from_slice(data);
        out.extend_from_slice(b"\r\n");
    }
}

/// Appends the line before a chunk's data; CR LF must follow the data.
pub fn write_chunk_size(out: &mut Vec<u8>, size: usize) {
    debug_assert!(size > 0);
    let digits = (usize::BITS - size.leading_zeros()).div_ceil(4);
    out.extend((0..digits).rev().map(|digit| b"0123456789abcdef"[size >> (4 * digit) & 15]));
    out.extend_from_slice(b"\r\n");
}

/// A chunked body that breaks the grammar or a bound. The text says where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyError(pub &'static str);

/// What the decoder made of some input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Bytes that are dealt with, content included.
    pub consumed: usize,
    /// The content among them; empty if there was only framing.
    pub data: Range<usize>,
}

/// Finds the content of one request body.
#[derive(Debug)]
pub struct BodyDecoder {
    state: State,
    extension_bytes: usize,
    trailer_bytes: usize,
}

/// ```text
/// Length ─────────────────────────────────────────────► Done
/// Size ─► (Extension…) ─► SizeLf ─► Data ─► DataCr ─► DataLf ─► Size
///                            └ size 0 ─► Trailer… ─► LastLf ─► Done
/// ```
#[derive(Debug, Clone, Copy)]
enum State {
    Length(u64),
    Size { size: u64, digits: u32 },
    ExtensionName { size: u64, empty: bool },
    ExtensionValue { size: u64 },
    ExtensionToken { size: u64 },
    ExtensionQuoted { size: u64, escaped: bool },
    ExtensionEnd { size: u64 },
    SizeLf { size: u64 },
    Data(u64),
    DataCr,
    DataLf,
    TrailerStart,
    TrailerName,
    TrailerValue,
    TrailerLf,
    LastLf,
    Done,
}

// === impl BodyDecoder ===

impl BodyDecoder {
    /// A decoder for a body of this framing.
    pub fn new(length: BodyLength) -> BodyDecoder {
        let state = match length {
            BodyLength::None | BodyLength::Length(0) => State::Done,
            BodyLength::Length(length) => State::Length(length),
            BodyLength::Chunked => State::Size { size: 0, digits: 0 },
        };
        BodyDecoder { state, extension_bytes: 0, trailer_bytes: 0 }
    }

    /// Whether the body is complete. Bytes behind it belong to the next request.
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Content still to come, if the length was announced.
    pub fn remaining(&self) -> Option<u64> {
        match self.state {
            State::Length(remaining) => Some(remaining),
            State::Done => Some(0),
            _ => None,
        }
    }

    /// Reads `input` up to the end of the first run of content, the end of the body or the end of the input.
    pub fn decode(&mut self, input: &[u8]) -> Result<Step, BodyError> {
        let mut at = 0;
        while at < input.len() {
            match self.state {
                State::Done => break,
                State::Length(remaining) | State::Data(remaining) => {
                    let available = input.len() - at;
                    let taken = usize::try_from(remaining).map_or(available, |remaining| remaining.min(available));
                    let left = remaining - taken as u64;
                    self.state = match (self.state, left) {
                        (State::Length(_), 0) => State::Done,
                        (State::Length(_), _) => State::Length(left),
                        (_, 0) => State::DataCr,
                        (_, _) => State::Data(left),
                    };
                    return Ok(Step { consumed: at + taken, data: at..at + taken });
                }
                state => {
                    self.state = self.framing(state, input[at])?;
                    at += 1;
                }
            }
        }
        Ok(Step { consumed: at, data: at..at })
    }

    fn framing(&mut self, state: State, byte: u8) -> Result<State, BodyError> {
        match state {
            State::Size { .. } => self.size(state, byte),
            State::SizeLf { size } => {
                expect(byte, b'\n', "line end of a chunk size")?;
                Ok(if size == 0 { State::TrailerStart } else { State::Data(size) })
            }
            State::DataCr => expect(byte, b'\r', "end of a chunk").map(|()| State::DataLf),
            State::DataLf => expect(byte, b'\n', "end of a chunk").map(|()| State::Size { size: 0, digits: 0 }),
            State::TrailerStart | State::TrailerName | State::TrailerValue | State::TrailerLf | State::LastLf => {
                self.trailer(state, byte)
            }
            _ => self.extension(state, byte),
        }
    }

    fn size(&mut self, state: State, byte: u8) -> Result<State, BodyError> {
        let State::Size { size, digits } = state else { unreachable!("only called for sizes") };
        match (char::from(byte).to_digit(16), byte) {
            (Some(_), _) if digits == CHUNK_SIZE_DIGITS_MAX => Err(BodyError("chunk size too long")),
            (Some(digit), _) => Ok(State::Size { size: size << 4 | u64::from(digit), digits: digits + 1 }),
            (None, b'\r') if digits > 0 => Ok(State::SizeLf { size }),
            (None, b';') if digits > 0 => Ok(State::ExtensionName { size, empty: true }),
            _ => Err(BodyError("chunk size")),
        }
    }

    /// `;name`, `;name=token`, `;name="quoted"`, any number of them, without spaces around the signs.
    fn extension(&mut self, state: State, byte: u8) -> Result<State, BodyError> {
        self.extension_bytes += 1;
        if self.extension_bytes > CHUNK_EXTENSION_BYTES_MAX {
            return Err(BodyError("chunk extensions too long"));
        }
        let next = match (state, byte) {
            (State::ExtensionName { size, .. }, _) if is_token_byte(byte) => {
                State::ExtensionName { size, empty: false }
            }
            (State::ExtensionName { size, empty: false }, b'=') => State::ExtensionValue { size },
            (State::ExtensionValue { size }, b'"') => State::ExtensionQuoted { size, escaped: false },
            (State::ExtensionValue { size } | State::ExtensionToken { size }, _) if is_token_byte(byte) => {
                State::ExtensionToken { size }
            }
            (State::ExtensionQuoted { size, escaped: true }, b' '..=b'~') => {
                State::ExtensionQuoted { size, escaped: false }
            }
            (State::ExtensionQuoted { size, .. }, b'"') => State::ExtensionEnd { size },
            (State::ExtensionQuoted { size, .. }, b'\\') => State::ExtensionQuoted { size, escaped: true },
            (State::ExtensionQuoted { .. }, b' '..=b'~') => state,
            (
                State::ExtensionName { size, empty: false }
                | State::ExtensionToken { size }
                | State::ExtensionEnd { size },
                b'\r' | b';',
            ) => {
                if byte == b'\r' {
                    State::SizeLf { size }
                } else {
                    State::ExtensionName { size, empty: true }
                }
            }
            _ => return Err(BodyError("chunk extension")),
        };
        Ok(next)
    }

    fn trailer(&mut self, state: State, byte: u8) -> Result<State, BodyError> {
        self.trailer_bytes += 1;
        if self.trailer_bytes > TRAILER_BYTES_MAX {
            return Err(BodyError("trailers too long"));
        }
        let next = match (state, byte) {
            (State::TrailerStart, b'\r') => State::LastLf,
            (State::TrailerStart | State::TrailerName, _) if is_token_byte(byte) => State::TrailerName,
            (State::TrailerName, b':') => State::TrailerValue,
            (State::TrailerValue, b'\t' | b' '..=b'~' | 0x80..) => State::TrailerValue,
            (State::TrailerValue, b'\r') => State::TrailerLf,
            (State::TrailerLf, b'\n') => State::TrailerStart,
            (State::LastLf, b'\n') => State::Done,
            _ => return Err(BodyError("trailer")),
        };
        Ok(next)
    }
}

fn expect(byte: u8, expected: u8, place: &'static str) -> Result<(), BodyError> {
    if byte == expected { Ok(()) } else { Err(BodyError(place)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Content and number of bytes the body took, or the error; `None` in second place: incomplete.
    fn decode_split(length: BodyLength, pieces: &[&[u8]]) -> Result<(Vec<u8>, Option<usize>), BodyError> {
        let mut decoder = BodyDecoder::new(length);
        let (mut content, mut total) = (Vec::new(), 0);
        for mut piece in pieces.iter().copied() {
            while !piece.is_empty() && !decoder.is_done() {
                let step = decoder.decode(piece)?;
                content.extend_from_slice(&piece[step.data]);
                total += step.consumed;
                piece = &piece[step.consumed..];
            }
        }
        Ok((content, decoder.is_done().then_some(total)))
    }

    fn chunked(text: &str) -> Result<(String, Option<usize>), &'static str> {
        decode_split(BodyLength::Chunked, &[text.as_bytes()])
            .map(|(content, total)| (String::from_utf8(content).unwrap(), total))
            .map_err(|error| error.0)
    }

    #[test]
    fn good_chunks() {
        for (text, content) in [
            ("0\r\n\r\n", ""),
            ("5\r\nhello\r\n0\r\n\r\n", "hello"),
            ("5\r\nhello\r\nA\r\n0123456789\r\n000\r\n\r\n", "hello0123456789"),
            ("2;a\r\nhi\r\n0;b=c;d=\"e \\\" ;\"\r\n\r\n", "hi"),
            ("1\r\nx\r\n0\r\nX-Sum: 1\r\nContent-Length: 9\r\n\r\n", "x"),
        ] {
            assert_eq!(chunked(text), Ok((content.to_owned(), Some(text.len()))), "{text:?}");
        }
        assert_eq!(chunked("3\r\nab"), Ok(("ab".to_owned(), None)));
    }

    #[test]
    fn bad_chunks() {
        // T16: each of these is read differently by some server.
        for text in [
            "\r\n",
            "g\r\n",
            "-1\r\n",
            "+1\r\n",
            "0x1\r\n",
            " 1\r\n",
            "1 \r\n",
            "1\t\r\n",
            "1\n",
            "1\r\r\n",
            "1\rx",
            "1\r\nab",
            "1\r\na\n",
            "1\r\na\rb",
            "00000000000000001\r\n",
            "ffffffffffffffffff\r\n",
            "1;\r\n",
            "1;;\r\n",
            "1; a\r\n",
            "1;a=\r\n",
            "1;a =b\r\n",
            "1;a\n",
            "1;a=\"b\r\n",
            "1;a=\"\"b\r\n",
            "1 ;a\r\n",
            "0\r\n\n",
            "0\r\nx\r\n\r\n",
            "0\r\n x: y\r\n\r\n",
            "0\r\nx : y\r\n\r\n",
            "0\r\nx: y\n\r\n",
            "0\r\nx: y\r\n z\r\n\r\n",
            "0\r\nx: \0\r\n\r\n",
        ] {
            assert!(chunked(text).is_err(), "{text:?}");
        }
        let long = format!("1;{}\r\n", "a".repeat(CHUNK_EXTENSION_BYTES_MAX));
        assert_eq!(chunked(&long), Err("chunk extensions too long"));
        let many = "1;a\r\nx\r\n".repeat(CHUNK_EXTENSION_BYTES_MAX);
        assert_eq!(chunked(&many), Err("chunk extensions too long"));
        let trailers = format!("0\r\n{}", "a: b\r\n".repeat(TRAILER_BYTES_MAX));
        assert_eq!(chunked(&trailers), Err("trailers too long"));
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_content(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..6),
            cuts in prop::collection::vec(0usize..400, 0..12),
        ) {
            let mut wire = Vec::new();
            for chunk in &chunks {
                write_chunk(&mut wire, chunk);
            }
            wire.extend_from_slice(LAST_CHUNK);
            let length = wire.len();
            wire.extend_from_slice(b"GET /next");
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut % wire.len()).chain([0, wire.len()]).collect();
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &wire[cut[0]..cut[1]]).collect();
            prop_assert_eq!(decode_split(BodyLength::Chunked, &pieces), Ok((chunks.concat(), Some(length))));
        }
    }
}
