//! Trace context of requests (HTTP-71, HTTP-72).

use iii_shards::builtin::Host;

/// Bytes of a `traceparent` of version 00.
const LENGTH: usize = 55;

/// The trace context a request's calls carry: the caller's trace, and a span that stands for the request.
#[derive(Debug, Clone, Copy)]
pub struct TraceParent([u8; LENGTH]);

impl TraceParent {
    /// For requests that call nothing.
    pub const NONE: TraceParent = TraceParent(*b"00-00000000000000000000000000000000-0000000000000000-00");

    /// Continues the trace of a request's header, or begins a sampled one.
    pub fn of(header: Option<&[u8]>, host: &mut dyn Host) -> TraceParent {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-01";
        match header.filter(|header| is_valid(header)) {
            Some(parent) => {
                text[3..35].copy_from_slice(&parent[3..35]);
                text[53..].copy_from_slice(&parent[53..LENGTH]);
            }
            None => write_hex(&mut text[3..35], host.new_uuid().as_bytes()),
        }
        write_hex(&mut text[36..52], &host.new_uuid().as_bytes()[8..]);
        TraceParent(text)
    }

    /// As it travels.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("a trace context is ASCII")
    }
}

fn write_hex(out: &mut [u8], bytes: &[u8]) {
    for (pair, byte) in out.chunks_exact_mut(2).zip(bytes) {
        pair[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
        pair[1] = b"0123456789abcdef"[usize::from(byte & 15)];
    }
}

/// W3C trace context: version 00 by the letter, later versions as far as they are like it.
fn is_valid(header: &[u8]) -> bool {
    let Some(known) = header.get(..LENGTH) else { return false };
    let is_hex =
        |range: std::ops::Range<usize>| known[range].iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let is_zero = |range: std::ops::Range<usize>| known[range].iter().all(|byte| *byte == b'0');
    let dashes = known[2] == b'-' && known[35] == b'-' && known[52] == b'-';
    let end = match &known[..2] {
        b"ff" => false,
        b"00" => header.len() == LENGTH,
        _ => header.get(LENGTH).is_none_or(|byte| *byte == b'-'),
    };
    let hex = is_hex(0..2) && is_hex(3..35) && is_hex(36..52) && is_hex(53..55);
    dashes && end && hex && !is_zero(3..35) && !is_zero(36..52)
}

#[cfg(test)]
mod tests {
    use super::*;
    use iii_shards::builtin::fake::FakeHost;

    // HTTP-72
    #[test]
    fn a_valid_parent_is_continued_and_anything_else_begins_a_trace() {
        let mut host = FakeHost::default();
        let trace = "0af7651916cd43dd8448eb211c80319c";
        for (header, continued, flags) in [
            (format!("00-{trace}-b7ad6b7169203331-01"), true, "01"),
            (format!("00-{trace}-b7ad6b7169203331-00"), true, "00"),
            (format!("cc-{trace}-b7ad6b7169203331-01-more"), true, "01"),
            (format!("00-{trace}-b7ad6b7169203331-01-more"), false, "01"),
            (format!("ff-{trace}-b7ad6b7169203331-01"), false, "01"),
            (format!("00-{trace}-0000000000000000-01"), false, "01"),
            (format!("00-{}-b7ad6b7169203331-01", trace.to_uppercase()), false, "01"),
            ("00-0".to_owned(), false, "01"),
            (String::new(), false, "01"),
        ] {
            let parent = TraceParent::of(Some(header.as_bytes()), &mut host);
            let parent = parent.as_str();
            assert!(is_valid(parent.as_bytes()), "{parent}");
            assert_eq!((parent[3..35] == *trace, &parent[53..]), (continued, flags), "{header}");
            assert_ne!(&parent[36..52], "b7ad6b7169203331");
        }
    }
}
