//! WebSocket frames as a client writes and reads them.
//!
//! Hot path: a header is a handful of bytes and a payload is never copied here. Client frames always carry the mask
//! bit; with the zero key the payload goes out as it is, which costs the generator nothing.

use super::WireError;

/// The kind of a frame, as numbered by RFC 6455.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    Continuation = 0x0,
    Text = 0x1,
    Binary = 0x2,
    Close = 0x8,
    Ping = 0x9,
    Pong = 0xA,
}

/// How client frames are masked.
#[derive(Clone, Debug)]
pub enum Mask {
    /// The key is all zero: legal, and free.
    Zero,
    /// A new random key for every frame, as browsers and SDKs do.
    Random(fastrand::Rng),
}

impl Mask {
    fn key(&mut self) -> [u8; 4] {
        match self {
            Mask::Zero => [0; 4],
            Mask::Random(rng) => rng.u32(..).to_be_bytes(),
        }
    }
}

/// One frame found in the receive buffer.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    pub fin: bool,
    pub opcode: Opcode,
    pub payload: &'a [u8],
    /// Bytes of the buffer this frame took, header included.
    pub consumed: usize,
}

/// What the front of the receive buffer holds.
#[derive(Debug, PartialEq, Eq)]
pub enum Decoded<'a> {
    Frame(Frame<'a>),
    /// Not all of a frame yet. `total` is its whole length in bytes, 0 while the header is incomplete.
    Incomplete {
        total: usize,
    },
}

/// The largest payload accepted in one frame; servers promise to fragment well below it.
pub const PAYLOAD_BYTES_MAX: u64 = 1 << 30;

/// Reads one server frame from the front of `bytes`.
#[inline]
pub fn decode(bytes: &[u8]) -> Result<Decoded<'_>, WireError> {
    let &[first, second, ref rest @ ..] = bytes else {
        return Ok(Decoded::Incomplete { total: 0 });
    };
    if first & 0x70 != 0 {
        return Err(WireError("frame with a reserved bit"));
    }
    if second & 0x80 != 0 {
        return Err(WireError("masked frame from a server"));
    }
    let opcode = opcode(first & 0x0F)?;
    let (header, length) = match second & 0x7F {
        126 => match rest.first_chunk::<2>() {
            Some(length) => (4, u64::from(u16::from_be_bytes(*length))),
            None => return Ok(Decoded::Incomplete { total: 0 }),
        },
        127 => match rest.first_chunk::<8>() {
            Some(length) => (10, u64::from_be_bytes(*length)),
            None => return Ok(Decoded::Incomplete { total: 0 }),
        },
        short => (2, u64::from(short)),
    };
    if length > PAYLOAD_BYTES_MAX {
        return Err(WireError("frame longer than 1 GiB"));
    }
    let consumed = header + length as usize;
    match bytes.get(header..consumed) {
        Some(payload) => Ok(Decoded::Frame(Frame { fin: first & 0x80 != 0, opcode, payload, consumed })),
        None => Ok(Decoded::Incomplete { total: consumed }),
    }
}

/// Appends one whole client frame whose payload is the concatenation of `parts`. Returns where the payload begins.
#[inline]
pub fn encode(out: &mut Vec<u8>, opcode: Opcode, parts: &[&[u8]], mask: &mut Mask) -> usize {
    let key = mask.key();
    put_header(out, opcode, parts.iter().map(|part| part.len()).sum(), key);
    let start = out.len();
    for part in parts {
        out.extend_from_slice(part);
    }
    apply_mask(&mut out[start..], key);
    start
}

/// Masks a frame already in `out` whose header was written with the zero key. `payload` is where its payload begins.
///
/// Lets prepared frames be patched first and masked last.
#[inline]
pub fn remask(out: &mut [u8], payload: usize, mask: &mut Mask) {
    let key = mask.key();
    if key != [0; 4] {
        out[payload - 4..payload].copy_from_slice(&key);
        apply_mask(&mut out[payload..], key);
    }
}

fn put_header(out: &mut Vec<u8>, opcode: Opcode, length: usize, key: [u8; 4]) {
    out.push(0x80 | opcode as u8);
    match length {
        0..=125 => out.push(0x80 | length as u8),
        126..=0xFFFF => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&key);
}

fn apply_mask(payload: &mut [u8], key: [u8; 4]) {
    if key == [0; 4] {
        return;
    }
    let wide = u64::from_ne_bytes([key[0], key[1], key[2], key[3], key[0], key[1], key[2], key[3]]);
    let mut chunks = payload.chunks_exact_mut(8);
    for chunk in &mut chunks {
        let word = u64::from_ne_bytes((&*chunk).try_into().expect("chunks of eight")) ^ wide;
        chunk.copy_from_slice(&word.to_ne_bytes());
    }
    for (byte, key) in chunks.into_remainder().iter_mut().zip(key.iter().cycle()) {
        *byte ^= key;
    }
}

fn opcode(bits: u8) -> Result<Opcode, WireError> {
    Ok(match bits {
        0x0 => Opcode::Continuation,
        0x1 => Opcode::Text,
        0x2 => Opcode::Binary,
        0x8 => Opcode::Close,
        0x9 => Opcode::Ping,
        0xA => Opcode::Pong,
        _ => return Err(WireError("frame with an unknown opcode")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server frame: no mask bit.
    fn server_frame(fin: bool, opcode: Opcode, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        put_header(&mut out, opcode, payload.len(), [0; 4]);
        out[0] = (u8::from(fin) << 7) | opcode as u8;
        out[1] &= 0x7F;
        out.truncate(out.len() - 4);
        out.extend_from_slice(payload);
        out
    }

    #[test]
    fn every_length_class_is_read_back() {
        for length in [0, 1, 125, 126, 127, 65_535, 65_536, 200_000] {
            let payload = vec![b'x'; length];
            let bytes = server_frame(true, Opcode::Text, &payload);
            let expected = Frame { fin: true, opcode: Opcode::Text, payload: &payload, consumed: bytes.len() };
            assert_eq!(decode(&bytes), Ok(Decoded::Frame(expected)), "length {length}");
        }
    }

    #[test]
    fn every_prefix_is_incomplete_and_names_the_total_once_known() {
        let bytes = server_frame(false, Opcode::Binary, &[7; 300]);
        for end in 0..bytes.len() {
            let total = if end < 4 { 0 } else { bytes.len() };
            assert_eq!(decode(&bytes[..end]), Ok(Decoded::Incomplete { total }), "prefix {end}");
        }
    }

    #[test]
    fn client_frames_carry_the_mask_bit_and_unmask_to_the_payload() {
        for mut mask in [Mask::Zero, Mask::Random(fastrand::Rng::with_seed(7))] {
            let mut out = vec![1, 2, 3];
            let payload = encode(&mut out, Opcode::Text, &[b"hello, ", b"masked world"], &mut mask);
            assert_eq!(out[3..5], [0x81, 0x80 | 19]);
            let key: [u8; 4] = out[5..9].try_into().unwrap();
            assert_eq!(key == [0; 4], matches!(mask, Mask::Zero));
            apply_mask(&mut out[payload..], key);
            assert_eq!(&out[payload..], b"hello, masked world");
        }
    }

    #[test]
    fn a_prepared_frame_can_be_masked_afterwards() {
        let mut out = Vec::new();
        let payload = encode(&mut out, Opcode::Text, &[b"0123456789"], &mut Mask::Zero);
        remask(&mut out, payload, &mut Mask::Random(fastrand::Rng::with_seed(1)));
        let key: [u8; 4] = out[payload - 4..payload].try_into().unwrap();
        assert_ne!(key, [0; 4]);
        apply_mask(&mut out[payload..], key);
        assert_eq!(&out[payload..], b"0123456789");
    }

    #[test]
    fn what_no_server_may_send_is_refused() {
        assert!(decode(&[0xC1, 0]).is_err(), "reserved bit");
        assert!(decode(&[0x81, 0x80, 0, 0, 0, 0]).is_err(), "masked");
        assert!(decode(&[0x83, 0]).is_err(), "opcode 3");
        assert!(decode(&[0x82, 127, 1, 0, 0, 0, 0, 0, 0, 0]).is_err(), "absurd length");
    }
}
