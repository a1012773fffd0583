//! Query strings: form-urlencoded pairs to JSON objects (HTTP-26).

use super::json::write_string_lossy;

/// The decoded pairs of a query, grouped by name.
#[derive(Debug)]
pub struct Query {
    /// All names and values, one after the other.
    text: Vec<u8>,
    /// Sorted by name; pairs of one name stay in the order they were sent.
    pairs: Vec<Pair>,
}

#[derive(Debug, Clone, Copy)]
struct Pair {
    start: u32,
    value: u32,
    end: u32,
}

impl Query {
    /// Splits and decodes a raw query. Nothing is an error: `+` is a space, `%XX` a byte, any other `%` itself.
    pub fn parse(query: &[u8]) -> Query {
        let mut text = Vec::with_capacity(query.len());
        let mut pairs = Vec::new();
        for piece in query.split(|byte| *byte == b'&').filter(|piece| !piece.is_empty()) {
            let equals = memchr::memchr(b'=', piece).unwrap_or(piece.len());
            let start = text.len() as u32;
            decode(&mut text, &piece[..equals], true);
            let value = text.len() as u32;
            decode(&mut text, piece.get(equals + 1..).unwrap_or_default(), true);
            pairs.push(Pair { start, value, end: text.len() as u32 });
        }
        // Sorting instead of searching: a query of 30,000 names must not cost their square.
        pairs.sort_by(|a, b| text[a.start as usize..a.value as usize].cmp(&text[b.start as usize..b.value as usize]));
        Query { text, pairs }
    }

    fn groups(&self) -> impl Iterator<Item = &[Pair]> {
        self.pairs.chunk_by(|a, b| self.name(*a) == self.name(*b))
    }

    fn name(&self, pair: Pair) -> &[u8] {
        &self.text[pair.start as usize..pair.value as usize]
    }

    fn value(&self, pair: Pair) -> &[u8] {
        &self.text[pair.value as usize..pair.end as usize]
    }

    /// Appends `query_params`: each name once, its last value wins.
    pub fn write_last(&self, out: &mut Vec<u8>) {
        self.write(out, |out, group| write_string_lossy(out, self.value(group[group.len() - 1])));
    }

    /// Appends `query_params_all`: each name with all its values.
    pub fn write_all(&self, out: &mut Vec<u8>) {
        self.write(out, |out, group| {
            out.push(b'[');
            for (position, pair) in group.iter().enumerate() {
                if position > 0 {
                    out.push(b',');
                }
                write_string_lossy(out, self.value(*pair));
            }
            out.push(b']');
        });
    }

    fn write(&self, out: &mut Vec<u8>, mut values: impl FnMut(&mut Vec<u8>, &[Pair])) {
        out.push(b'{');
        for (position, group) in self.groups().enumerate() {
            if position > 0 {
                out.push(b',');
            }
            write_string_lossy(out, self.name(group[0]));
            out.push(b':');
            values(out, group);
        }
        out.push(b'}');
    }
}

/// Appends `encoded` with its escapes resolved; what is not an escape stays.
pub fn decode(out: &mut Vec<u8>, encoded: &[u8], plus_is_space: bool) {
    let hex = |at: usize| encoded.get(at).and_then(|digit| char::from(*digit).to_digit(16)).map(|digit| digit as u8);
    let mut at = 0;
    while at < encoded.len() {
        match (encoded[at], hex(at + 1), hex(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push(high << 4 | low);
                at += 3;
                continue;
            }
            (b'+', ..) if plus_is_space => out.push(b' '),
            (byte, ..) => out.push(byte),
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last_and_all(query: &str) -> (String, String) {
        let query = Query::parse(query.as_bytes());
        let (mut last, mut all) = (Vec::new(), Vec::new());
        query.write_last(&mut last);
        query.write_all(&mut all);
        (String::from_utf8(last).unwrap(), String::from_utf8(all).unwrap())
    }

    #[test]
    fn observed_queries() {
        // HTTP-26; cases 1, 24
        for (query, last) in [
            ("a=1&b=2&a=3&c=&d&e=x%20y+z&%66=1", r#"{"a":"3","b":"2","c":"","d":"","e":"x y z","f":"1"}"#),
            ("a=%ff%zz", "{\"a\":\"\u{FFFD}%zz\"}"),
            ("", "{}"),
            ("&&", "{}"),
            ("=&=1", r#"{"":"1"}"#),
            ("a=b=c", r#"{"a":"b=c"}"#),
            ("a=%", r#"{"a":"%"}"#),
            ("a=%4", r#"{"a":"%4"}"#),
            ("a=%C3%A9%22%0A", "{\"a\":\"\u{e9}\\\"\\n\"}"),
            ("a%3D=1", r#"{"a=":"1"}"#),
        ] {
            assert_eq!(last_and_all(query).0, last, "{query}");
        }
        assert_eq!(last_and_all("a=1&b&a=2&a=").1, r#"{"a":["1","2",""],"b":[""]}"#);
    }

    #[test]
    fn many_names_stay_cheap() {
        let query: String = (0..32_000).map(|_| "a&").collect();
        assert_eq!(last_and_all(&query).0, r#"{"a":""}"#);
    }
}
