//! Files of the engine this one replaces: one `*.bin` per scope (STATE-71, STATE-72). Read once, never changed.

use crate::workers::payload::decoded;
use iii_shards::wire::json::{Scanner, validate};
use std::path::Path;

/// Files of streams, which may lie in the same directory (STATE-DB-14).
const STREAMS: &str = "stream%3A";

/// A scope and its keys, in their order.
#[derive(Debug, PartialEq, Eq)]
pub struct Scope {
    pub name: String,
    /// Keys and JSON texts.
    pub entries: Vec<(String, Vec<u8>)>,
}

/// Reads every file of a directory that holds a scope; what can't be read is left out with a warning.
pub fn read_directory(directory: &Path) -> Vec<Scope> {
    let Ok(files) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut scopes = Vec::new();
    for file in files.flatten() {
        let file_name = file.file_name();
        let Some(name) = file_name.to_str().and_then(|name| name.strip_suffix(".bin")) else { continue };
        if name.starts_with(STREAMS) {
            continue;
        }
        let read = || -> Result<Scope, String> {
            let name = scope_of(name).ok_or("its name is not that of a scope")?;
            let bytes = std::fs::read(file.path()).map_err(|error| error.to_string())?;
            let text = text_of(&bytes).ok_or("it is damaged")?;
            Ok(Scope { name, entries: entries_of(text)? })
        };
        match read() {
            Ok(scope) => scopes.push(scope),
            Err(reason) => tracing::warn!("{} is not imported: {reason}", file.path().display()),
        }
    }
    scopes.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    scopes
}

/// The scope a file is named after: `%XX` stands for a byte.
fn scope_of(name: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first == b'%' {
            let (digits, after) = after.split_first_chunk::<2>()?;
            bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            rest = after;
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8(bytes).ok()
}

/// The text in an archived string: up to 8 bytes stand in place, padded; longer ones before their length and offset.
fn text_of(file: &[u8]) -> Option<&[u8]> {
    let (before, end) = file.split_last_chunk::<8>()?;
    if end[0] & 0xC0 != 0x80 {
        let length = end.iter().position(|byte| *byte == 0xFF).unwrap_or(8);
        return Some(&end[..length]);
    }
    let (length, offset) = end.split_first_chunk::<4>()?;
    let length = u32::from_le_bytes(*length);
    let length = (length & 0x3F) | ((length & !0xFF) >> 2);
    let offset = i32::from_le_bytes(*offset.first_chunk::<4>()?);
    let start = i64::try_from(before.len()).ok()? + i64::from(offset);
    let start = usize::try_from(start).ok()?;
    before.get(start..start.checked_add(length as usize)?)
}

fn entries_of(text: &[u8]) -> Result<Vec<(String, Vec<u8>)>, String> {
    std::str::from_utf8(text).map_err(|_| "it is not UTF-8")?;
    validate(text).map_err(|error| error.to_string())?;
    let mut entries = Vec::new();
    let walked = Scanner::new(text).object(|scanner, name| {
        let key = decoded(name).into_owned();
        entries.push((key, scanner.value()?.to_vec()));
        Ok(())
    });
    walked.map_err(|error| error.to_string())?;
    Ok(entries)
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A file as STATE-72 describes it.
    pub fn file_of(text: &str) -> Vec<u8> {
        let mut file = text.as_bytes().to_vec();
        if file.len() <= 8 {
            file.resize(8, 0xFF);
            return file;
        }
        file.resize(text.len().next_multiple_of(4), 0);
        let length = text.len() as u32;
        let word = 0x80 | (length & 0x3F) | ((length & !0x3F) << 2);
        let offset = -(file.len() as i32);
        file.extend_from_slice(&word.to_le_bytes());
        file.extend_from_slice(&offset.to_le_bytes());
        file
    }

    // STATE-72
    #[test]
    fn texts_of_any_length_are_found() {
        for text in ["{}", r#"{"a":1}"#, r#"{"a":12}"#, r#"{"a":123}"#] {
            assert_eq!(text_of(&file_of(text)), Some(text.as_bytes()));
        }
        for length in [1usize, 50, 53, 54, 55, 60, 61, 62, 63, 64, 1000, 16_500, 100_000] {
            let text = format!(r#"{{"k":"{}"}}"#, "x".repeat(length));
            assert_eq!(text_of(&file_of(&text)), Some(text.as_bytes()), "{length}");
        }
        for damaged in [&b""[..], b"short", b"\x80\x00\x00\x00\x00\x00\x00\x80", b"\x80\xff\xff\xff\xf0\xff\xff\xff"] {
            assert!(text_of(damaged).is_none_or(<[u8]>::is_empty), "{damaged:?}");
        }
    }

    // STATE-71, STATE-74
    #[test]
    fn files_are_named_after_their_scopes() {
        for (name, scope) in
            [("carts", Some("carts")), ("", Some("")), ("a%2Fb%20%C3%A9", Some("a/b é")), ("%F", None), ("%FF", None)]
        {
            assert_eq!(scope_of(name).as_deref(), scope);
        }
    }

    #[test]
    fn a_directory_is_read_and_left_alone() {
        let directory = std::env::temp_dir().join(format!("iii-state-import-{}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("it is writable");
        let write = |name: &str, content: &[u8]| std::fs::write(directory.join(name), content).expect("it is writable");
        write("b%3A1.bin", &file_of(r#"{"z":1,"a":{"n":1.50}}"#));
        write(".bin", &file_of("{}"));
        write("stream%3Ax.bin", &file_of("{}"));
        write("broken.bin", b"not at all");
        write("list.bin", &file_of("[1]"));
        write("other.txt", b"{}");
        let scopes = read_directory(&directory);
        assert_eq!(std::fs::read_dir(&directory).expect("it is there").count(), 6);
        std::fs::remove_dir_all(&directory).expect("it is ours");
        let entries = vec![("z".to_owned(), b"1".to_vec()), ("a".to_owned(), br#"{"n":1.50}"#.to_vec())];
        let expected = [Scope { name: String::new(), entries: Vec::new() }, Scope { name: "b:1".to_owned(), entries }];
        assert_eq!(scopes, expected);
    }
}
