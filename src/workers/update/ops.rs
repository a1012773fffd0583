//! Reading the list of operations.

use crate::workers::number::Number;
use crate::workers::payload::{self, members, missing, wrong_type};
use iii_shards::wire::json::{Scanner, string_value};
use std::borrow::Cow;

const KINDS: &str = "`set`, `merge`, `increment`, `decrement`, `append`, `remove`";

/// Segments from the root to a member; none = the root.
pub type Path<'a> = Vec<Cow<'a, str>>;

/// One operation (STATE-31). Members are named as on the wire.
#[allow(missing_docs, reason = "the members are those of the protocol")]
#[derive(Debug, Clone, PartialEq)]
pub enum Op<'a> {
    /// Replaces the root or a field.
    Set { path: Cow<'a, str>, value: &'a [u8] },
    /// Copies the members of `value` into an object.
    Merge { path: Path<'a>, value: &'a [u8] },
    /// Adds.
    Increment { path: Cow<'a, str>, by: Number },
    /// Subtracts.
    Decrement { path: Cow<'a, str>, by: Number },
    /// Adds an element, or text.
    Append { path: Path<'a>, value: &'a [u8] },
    /// Drops a field.
    Remove { path: Cow<'a, str> },
}

/// Reads the text of `ops`. `Err` says what does not fit, and in which operation (STATE-DB-8).
pub fn parse(ops: &[u8]) -> Result<Vec<Op<'_>>, String> {
    let mut scanner = Scanner::new(ops);
    if scanner.peek() != Some(b'[') {
        return Err(wrong_type(ops, "a sequence"));
    }
    let mut parsed = Vec::new();
    for element in elements(ops) {
        parsed.push(parse_one(element).map_err(|reason| format!("ops[{}]: {reason}", parsed.len()))?);
    }
    Ok(parsed)
}

/// The texts of the elements of a JSON array.
fn elements(array: &[u8]) -> Vec<&[u8]> {
    let mut found = Vec::new();
    let mut scanner = Scanner::new(array);
    if scanner.expect(b'[', "expected an array").is_err() || scanner.peek() == Some(b']') {
        return found;
    }
    while let Ok(element) = scanner.value() {
        found.push(element);
        if scanner.expect(b',', "expected a comma").is_err() {
            break;
        }
    }
    found
}

fn parse_one(op: &[u8]) -> Result<Op<'_>, String> {
    let [kind, path, value, by] = members(op, ["type", "path", "value", "by"], "an update operation")?;
    let kind = payload::string(kind, "type")?;
    match &*kind {
        "set" => Ok(Op::Set { path: payload::string(path, "path")?, value: value.unwrap_or(b"null") }),
        "merge" => Ok(Op::Merge { path: parse_path(path)?, value: value.ok_or_else(|| missing("value"))? }),
        "increment" => Ok(Op::Increment { path: payload::string(path, "path")?, by: parse_by(by)? }),
        "decrement" => Ok(Op::Decrement { path: payload::string(path, "path")?, by: parse_by(by)? }),
        "append" => Ok(Op::Append { path: parse_path(path)?, value: value.ok_or_else(|| missing("value"))? }),
        "remove" => Ok(Op::Remove { path: payload::string(path, "path")? }),
        _ => Err(format!("unknown variant `{kind}`, expected one of {KINDS}")),
    }
}

/// A path that may be missing, null, one segment or a list of them; empty text is the root (STATE-32).
fn parse_path(path: Option<&[u8]>) -> Result<Path<'_>, String> {
    let Some(path) = path.filter(|path| *path != b"null") else { return Ok(Vec::new()) };
    if path.first() == Some(&b'[') {
        let segment = |segment| string_value(segment).ok_or_else(|| wrong_type(segment, "a string"));
        return elements(path).into_iter().map(segment).collect();
    }
    let segment = string_value(path).ok_or_else(|| wrong_type(path, "a string or an array of strings"))?;
    Ok(if segment.is_empty() { Vec::new() } else { vec![segment] })
}

/// Any finite number; `3.0` counts as the integer (STATE-DB-7).
fn parse_by(by: Option<&[u8]>) -> Result<Number, String> {
    let by = by.ok_or_else(|| missing("by"))?;
    Number::parse(by).map(Number::integral).ok_or_else(|| wrong_type(by, "a finite number"))
}
