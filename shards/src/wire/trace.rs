//! Trace headers on calls (PROTO-75): what is carried along and what is added.

/// Whether `value` is a W3C traceparent. Any flags are taken, so newer senders pass.
pub fn is_traceparent(value: &str) -> bool {
    let bytes = value.as_bytes();
    let hex = |range: std::ops::Range<usize>| bytes[range].iter().all(u8::is_ascii_hexdigit);
    bytes.len() == 55
        && bytes[2] == b'-'
        && bytes[35] == b'-'
        && bytes[52] == b'-'
        && hex(0..2)
        && hex(3..35)
        && hex(36..52)
        && hex(53..55)
        && &value[..2] != "ff"
        && bytes[3..35].iter().any(|byte| *byte != b'0')
        && bytes[36..52].iter().any(|byte| *byte != b'0')
}

/// Entry that names the function a call runs.
const FUNCTION_ENTRY: &str = "iii.function.id";

/// The caller's baggage plus the entry that names the target, replacing one of that name. Properties are kept.
pub fn baggage_for(function_id: &str, caller: &str) -> String {
    let mut out = String::with_capacity(caller.len() + function_id.len() + FUNCTION_ENTRY.len() + 2);
    for entry in caller.split(',') {
        let entry = entry.trim();
        let key = entry.split(['=', ';']).next().unwrap_or("").trim();
        if entry.is_empty() || key == FUNCTION_ENTRY {
            continue;
        }
        out.push_str(entry);
        out.push(',');
    }
    out.push_str(FUNCTION_ENTRY);
    out.push('=');
    for byte in function_id.bytes() {
        match byte {
            b'!' | b'#'..=b'+' | b'-'..=b':' | b'<'..=b'[' | b']'..=b'~' if byte != b'%' => out.push(byte as char),
            _ => {
                const HEX: &[u8; 16] = b"0123456789ABCDEF";
                out.push('%');
                out.push(HEX[usize::from(byte >> 4)] as char);
                out.push(HEX[usize::from(byte & 15)] as char);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    // PROTO-75
    #[test]
    fn traceparents() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-03";
        assert!(is_traceparent(good));
        for bad in [
            "",
            "x",
            &good[..54],
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333g-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert!(!is_traceparent(bad), "{bad}");
        }
    }

    // PROTO-75
    #[test]
    fn baggage() {
        assert_eq!(baggage_for("a::b", ""), "iii.function.id=a::b");
        assert_eq!(baggage_for("a::b", "k=v;p=1, iii.function.id=old"), "k=v;p=1,iii.function.id=a::b");
        assert_eq!(baggage_for("a b,c", "x=1"), "x=1,iii.function.id=a%20b%2Cc");
    }
}
