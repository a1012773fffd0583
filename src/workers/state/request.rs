//! What callers ask for, read from their payloads (STATE-10 to STATE-12).

use crate::workers::payload::{self, duplicate, is_named, members, missing, wrong_type};
use crate::workers::update::{self, Op};
use iii_shards::builtin::{Failure, key_of};
use iii_shards::wire::json::{JsonError, Scanner, string_value, write_string};
use std::borrow::Cow;

/// A function of the worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    Set,
    Get,
    Delete,
    Update,
    List,
    ListGroups,
    OnConfigChange,
}

/// A key and the scope it is in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Name<'a> {
    pub scope: Cow<'a, str>,
    pub key: Cow<'a, str>,
}

// === impl Function ===

impl Function {
    /// In the order of the definition.
    pub const ALL: [Function; 7] = [
        Function::Set,
        Function::Get,
        Function::Delete,
        Function::Update,
        Function::List,
        Function::ListGroups,
        Function::OnConfigChange,
    ];

    /// Id, in namespace `default`.
    pub fn id(self) -> &'static str {
        match self {
            Function::Set => "state::set",
            Function::Get => "state::get",
            Function::Delete => "state::delete",
            Function::Update => "state::update",
            Function::List => "state::list",
            Function::ListGroups => "state::list_groups",
            Function::OnConfigChange => "iii-state::on-config-change",
        }
    }

    /// How its input is called in errors.
    fn input(self) -> &'static str {
        match self {
            Function::Set => "struct StateSetInput",
            Function::Get => "struct StateGetInput",
            Function::Delete => "struct StateDeleteInput",
            Function::Update => "struct StateUpdateInput",
            Function::List => "struct StateListInput",
            Function::ListGroups => "struct StateListGroupsInput",
            Function::OnConfigChange => "a configuration change",
        }
    }

    /// The payload does not fit (STATE-11).
    pub fn unfit(self, detail: &str) -> Failure {
        Failure::new("deserialization_error", format!("Failed to deserialize input for {}: {detail}", self.id()))
    }

    /// The store has failed (STATE-14).
    pub fn failed(self, cause: &str) -> Failure {
        let (code, prefix) = match self {
            Function::Set => ("SET_ERROR", "Failed to set value"),
            Function::Get => ("GET_ERROR", "Failed to get value"),
            Function::Delete => ("DELETE_ERROR", "Failed to delete value"),
            Function::Update => ("UPDATE_ERROR", "Failed to update value"),
            Function::List => ("LIST_ERROR", "Failed to list values"),
            Function::ListGroups | Function::OnConfigChange => ("LIST_GROUPS_ERROR", "Failed to list groups"),
        };
        Failure::new(code, format!("{prefix}: {cause}"))
    }
}

// === inputs ===

/// Input of `get` and `delete`.
pub fn name(data: &[u8], function: Function) -> Result<Name<'_>, Failure> {
    let read = || {
        let [scope, key] = members(data, ["scope", "key"], function.input())?;
        Ok(Name { scope: payload::string(scope, "scope")?, key: payload::string(key, "key")? })
    };
    read().map_err(|detail: String| function.unfit(&detail))
}

/// Input of `set`: `data` is an old name of `value` (STATE-20).
pub fn set(data: &[u8]) -> Result<(Name<'_>, &[u8]), Failure> {
    let read = || {
        let [scope, key, value, alias] = members(data, ["scope", "key", "value", "data"], Function::Set.input())?;
        let name = Name { scope: payload::string(scope, "scope")?, key: payload::string(key, "key")? };
        match (value, alias) {
            (Some(_), Some(_)) => Err(duplicate("value")),
            (Some(value), None) | (None, Some(value)) => Ok((name, value)),
            (None, None) => Err(missing("value")),
        }
    };
    read().map_err(|detail: String| Function::Set.unfit(&detail))
}

/// Input of `update`.
pub fn update(data: &[u8]) -> Result<(Name<'_>, Vec<Op<'_>>), Failure> {
    let read = || {
        let [scope, key, ops] = members(data, ["scope", "key", "ops"], Function::Update.input())?;
        let name = Name { scope: payload::string(scope, "scope")?, key: payload::string(key, "key")? };
        Ok((name, update::parse(ops.ok_or_else(|| missing("ops"))?)?))
    };
    read().map_err(|detail: String| Function::Update.unfit(&detail))
}

/// Input of `list`, and whether keys are wanted beside the values (STATE-DB-15).
pub fn list(data: &[u8]) -> Result<(Cow<'_, str>, bool), Failure> {
    let read = || {
        let [scope, include_keys] = members(data, ["scope", "include_keys"], Function::List.input())?;
        Ok((payload::string(scope, "scope")?, include_keys == Some(b"true")))
    };
    read().map_err(|detail: String| Function::List.unfit(&detail))
}

/// Input of `list_groups`: nothing is needed, so nothing may be sent (STATE-26).
pub fn list_groups(data: &[u8]) -> Result<(), Failure> {
    match Scanner::new(data).peek() {
        Some(b'{' | b'n') | None => Ok(()),
        _ => Err(Function::ListGroups.unfit(&wrong_type(data, Function::ListGroups.input()))),
    }
}

/// Number of the scope a payload names, for the choice of the shard. What names none is refused by any.
pub fn home(data: &[u8]) -> u64 {
    let mut found = None;
    // Leaves the walk at the first `scope`, which is where SDKs put it: the rest is read on the shard that matters.
    let _ = Scanner::new(data).object(|scanner, name| {
        let value = scanner.value()?;
        if is_named(name, "scope") {
            found = Some(value);
            return Err(JsonError { offset: 0, reason: "found" });
        }
        Ok(())
    });
    found.and_then(string_value).map_or(0, |scope| key_of(&scope))
}

/// Refuses a value above the configured limit (STATE-62).
pub fn check_size(value: &[u8], max_value_bytes: Option<u64>) -> Result<(), Failure> {
    let Some(limit) = max_value_bytes else { return Ok(()) };
    let bytes = compact_bytes(value) as u64;
    if bytes <= limit {
        return Ok(());
    }
    let message = format!("value of {bytes} bytes exceeds the configured max_value_bytes limit of {limit}");
    Err(Failure::new("VALUE_TOO_LARGE", message))
}

/// Appends one element of the answer of `list`.
pub fn write_listed(out: &mut Vec<u8>, key: &str, value: &[u8], include_keys: bool) {
    if include_keys {
        out.extend_from_slice(b"{\"key\":");
        write_string(out, key);
        out.extend_from_slice(b",\"value\":");
    }
    out.extend_from_slice(value);
    if include_keys {
        out.push(b'}');
    }
}

/// A value without white space around its parts.
pub fn compact(value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((first, after)) = rest.split_first() {
        match first {
            b' ' | b'\n' | b'\r' | b'\t' => rest = after,
            b'"' => {
                let mut scanner = Scanner::new(rest);
                let length = if scanner.string().is_ok() { scanner.offset() } else { rest.len() };
                out.extend_from_slice(&rest[..length]);
                rest = &rest[length..];
            }
            byte => {
                out.push(*byte);
                rest = after;
            }
        }
    }
    out
}

/// Length of a value without white space and needless escapes, in bytes (STATE-62).
pub fn compact_bytes(value: &[u8]) -> usize {
    let mut bytes = 0;
    let mut rest = value;
    while let Some((first, after)) = rest.split_first() {
        match first {
            b' ' | b'\n' | b'\r' | b'\t' => rest = after,
            b'"' => {
                let mut scanner = Scanner::new(rest);
                let Ok(string) = scanner.string() else { return value.len() };
                bytes += 2 + if string.escaped { unescaped_bytes(string.inner) } else { string.inner.len() };
                rest = &rest[scanner.offset()..];
            }
            _ => {
                bytes += 1;
                rest = after;
            }
        }
    }
    bytes
}

/// Length of the inside of a string whose characters are escaped only where they must be.
fn unescaped_bytes(inner: &[u8]) -> usize {
    let mut bytes = 0;
    let mut at = 0;
    while at < inner.len() {
        if inner[at] != b'\\' {
            (bytes, at) = (bytes + 1, at + 1);
            continue;
        }
        if inner.get(at + 1) != Some(&b'u') {
            bytes += if inner.get(at + 1) == Some(&b'/') { 1 } else { 2 };
            at += 2;
            continue;
        }
        let digits = inner.get(at + 2..at + 6).and_then(|digits| std::str::from_utf8(digits).ok());
        let unit = digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()).unwrap_or(0);
        at += 6;
        bytes += match unit {
            0x08 | 0x09 | 0x0A | 0x0C | 0x0D | 0x22 | 0x5C => 2,
            0..0x20 => 6,
            0x20..0x80 => 1,
            0x80..0x800 => 2,
            // Each half of a pair stands for half of its four bytes.
            0xD800..0xE000 => 2,
            _ => 3,
        };
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_of_one_scope_have_one_home() {
        let home_of = |data: &str| home(data.as_bytes());
        assert_eq!(home_of(r#"{"scope":"é","key":"k"}"#), key_of("é"));
        assert_eq!(home_of(r#" {"value":{"scope":"b"}, "scope" : "\u00e9" }"#), key_of("é"));
        assert_eq!(home_of(r#"{"scope":"a","scope":"b"}"#), key_of("a"));
        assert_eq!(home_of(r#"{"scope":""}"#), key_of(""));
        for nothing in ["null", "[]", "{}", r#"{"scope":1}"#, "\"scope\""] {
            assert_eq!(home_of(nothing), 0);
        }
    }

    // STATE-20
    #[test]
    fn the_value_has_two_names() {
        let value = |data: &str| set(data.as_bytes()).map(|(_, value)| value.to_vec()).map_err(|e| e.message);
        let error = |detail: &str| Err(format!("Failed to deserialize input for state::set: {detail}"));
        assert_eq!(value(r#"{"scope":"s","key":"k","value":[1]}"#), Ok(b"[1]".to_vec()));
        assert_eq!(value(r#"{"scope":"s","key":"k","data":null}"#), Ok(b"null".to_vec()));
        assert_eq!(value(r#"{"scope":"s","key":"k"}"#), error("missing field `value`"));
        assert_eq!(value(r#"{"scope":"s","key":"k","value":1,"data":1}"#), error("duplicate field `value`"));
    }

    // STATE-62
    #[test]
    fn compact_length_is_that_of_the_shortest_text() {
        for text in [
            "1.50",
            "null",
            "{}",
            "[ 1, 2 ]",
            r#"{"a": "x y", "b" : [ ]}"#,
            "\"\\u00e9\\/\\n\\u0001\\ud83d\\ude00\\u20ac\\\"\"",
        ] {
            let value: serde_json::Value = serde_json::from_str(text).expect("it is JSON");
            let expected = if text == "1.50" { 4 } else { value.to_string().len() };
            assert_eq!(compact_bytes(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn only_white_space_between_parts_goes() {
        let text = br#" { "a b" : [ 1.50 , "\" \u00e9" ,{}] } "#;
        assert_eq!(compact(text), br#"{"a b":[1.50,"\" \u00e9",{}]}"#);
    }
}
