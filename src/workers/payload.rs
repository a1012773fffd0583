//! Payloads of built-in functions, read as raw text: nothing is built that is only to be kept or passed on.
//!
//! What does not fit is told in the words clients of this protocol know: `missing field`, `invalid type`.

use crate::workers::number::Number;
use iii_shards::wire::json::{RawString, Scanner, string_value};
use std::borrow::Cow;

/// Longest piece of a caller's own text that is repeated in an error, in characters.
const QUOTED_MAX: usize = 100;

/// The texts of the named members of an object; others are ignored. `Err` says why the payload does not fit, calling
/// what was expected `expected`.
pub fn members<'a, const N: usize>(
    data: &'a [u8],
    names: [&str; N],
    expected: &str,
) -> Result<[Option<&'a [u8]>; N], String> {
    let mut scanner = Scanner::new(data);
    if scanner.peek() != Some(b'{') {
        return Err(wrong_type(data, expected));
    }
    let mut found = [None; N];
    let mut twice = None;
    let walked = scanner.object(|scanner, name| {
        let place = names.iter().position(|wanted| is_named(name, wanted));
        let value = scanner.value()?;
        if let Some(place) = place
            && found[place].replace(value).is_some()
        {
            twice = Some(place);
        }
        Ok(())
    });
    walked.map_err(|error| error.to_string())?;
    match twice {
        Some(place) => Err(duplicate(names[place])),
        None => Ok(found),
    }
}

/// The value of a member that must be there, as a string.
pub fn string<'a>(value: Option<&'a [u8]>, name: &str) -> Result<Cow<'a, str>, String> {
    let value = value.ok_or_else(|| missing(name))?;
    string_value(value).ok_or_else(|| wrong_type(value, "a string"))
}

/// The value of a member that may be missing or null, as a string.
pub fn optional_string(value: Option<&[u8]>) -> Result<Option<Cow<'_, str>>, String> {
    match value {
        None | Some(b"null") => Ok(None),
        Some(value) => string_value(value).map(Some).ok_or_else(|| wrong_type(value, "a string")),
    }
}

/// ``missing field `scope` ``
pub fn missing(name: &str) -> String {
    format!("missing field `{name}`")
}

/// ``duplicate field `value` ``
pub fn duplicate(name: &str) -> String {
    format!("duplicate field `{name}`")
}

/// ``invalid type: integer `1`, expected a string``
pub fn wrong_type(value: &[u8], expected: &str) -> String {
    format!("invalid type: {}, expected {expected}", describe(value))
}

/// What a JSON text is, and which: ``integer `1` ``.
fn describe(value: &[u8]) -> String {
    let text = String::from_utf8_lossy(value);
    let text = text.trim();
    match text.bytes().next() {
        Some(b'{') => "map".to_owned(),
        Some(b'[') => "sequence".to_owned(),
        Some(b'"') => {
            let whole = string_value(text.as_bytes()).unwrap_or_default();
            let quoted: String = whole.chars().take(QUOTED_MAX).collect();
            format!("string {quoted:?}")
        }
        Some(b't' | b'f') => format!("boolean `{text}`"),
        Some(b'n') | None => "null".to_owned(),
        Some(_) => {
            let kind =
                if matches!(Number::parse(value), Some(Number::Integer(_))) { "integer" } else { "floating point" };
            format!("{kind} `{}`", text.chars().take(QUOTED_MAX).collect::<String>())
        }
    }
}

/// Whether a member name, as written, spells `wanted`.
pub fn is_named(name: RawString<'_>, wanted: &str) -> bool {
    if name.escaped { decoded(name) == wanted } else { name.inner == wanted.as_bytes() }
}

/// A member name without its escapes.
pub fn decoded<'a>(name: RawString<'a>) -> Cow<'a, str> {
    if !name.escaped {
        return String::from_utf8_lossy(name.inner);
    }
    let quoted = [b"\"", name.inner, b"\""].concat();
    // A lone half of a surrogate pair has no decoded form: such a name stands for itself, as written.
    match string_value(&quoted) {
        Some(text) => Cow::Owned(text.into_owned()),
        None => String::from_utf8_lossy(name.inner),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope_and_key(data: &str) -> Result<(String, String), String> {
        let [scope, key] = members(data.as_bytes(), ["scope", "key"], "struct Input")?;
        Ok((string(scope, "scope")?.into_owned(), string(key, "key")?.into_owned()))
    }

    // STATE-11, STATE-12
    #[test]
    fn members_are_found_or_the_reason_is_said() {
        let fits = |scope: &str, key: &str| Ok((scope.to_owned(), key.to_owned()));
        let fails = |reason: &str| Err(reason.to_owned());
        for (data, expected) in [
            (r#"{"scope":"a","key":"b"}"#, fits("a", "b")),
            (r#" { "x" : [1,{"scope":2}] , "key" : "" , "scope" : "\u00e9" } "#, fits("é", "")),
            (r#"{"sc\u006fpe":"a","key":"b\n"}"#, fits("a", "b\n")),
            (r#"{"key":"b"}"#, fails("missing field `scope`")),
            (r#"{"scope":"a"}"#, fails("missing field `key`")),
            (r#"{"scope":1,"key":"b"}"#, fails("invalid type: integer `1`, expected a string")),
            (r#"{"scope":1.5,"key":"b"}"#, fails("invalid type: floating point `1.5`, expected a string")),
            (r#"{"scope":null,"key":"b"}"#, fails("invalid type: null, expected a string")),
            (r#"{"scope":true,"key":"b"}"#, fails("invalid type: boolean `true`, expected a string")),
            (r#"{"scope":["a"],"key":"b"}"#, fails("invalid type: sequence, expected a string")),
            (r#"{"scope":{},"key":"b"}"#, fails("invalid type: map, expected a string")),
            (r#"{"scope":"a","key":"b","scope":"c"}"#, fails("duplicate field `scope`")),
            ("null", fails("invalid type: null, expected struct Input")),
            (r#""text""#, fails("invalid type: string \"text\", expected struct Input")),
        ] {
            assert_eq!(scope_and_key(data), expected, "{data}");
        }
    }

    #[test]
    fn what_may_be_missing_may_be_null() {
        assert_eq!(optional_string(None), Ok(None));
        assert_eq!(optional_string(Some(b"null")), Ok(None));
        assert_eq!(optional_string(Some(b"\"a\"")), Ok(Some("a".into())));
        assert!(optional_string(Some(b"5")).is_err());
    }
}
