//! Running operations on a document.

#![allow(clippy::ptr_arg, reason = "a borrowed text keeps its lifetime")]

use super::document::{Kind, Node, kind_of};
use super::ops::{Op, Path};
use crate::workers::number::Number;
use crate::workers::payload::decoded;
use iii_shards::wire::json::{Scanner, write_string};
use std::borrow::Cow;

/// Most segments of a path.
const PATH_SEGMENTS_MAX: usize = 32;
/// Longest segment of a path.
const SEGMENT_BYTES_MAX: usize = 256;
/// Most members of a merged object.
const MERGE_MEMBERS_MAX: usize = 1024;
/// Deepest nesting of a merged object.
const MERGE_DEPTH_MAX: usize = 16;
/// Names that are dangerous to readers in JavaScript.
const RESERVED: [&str; 3] = ["__proto__", "constructor", "prototype"];

/// What became of a document.
#[derive(Debug, PartialEq, Eq)]
pub struct Updated {
    /// Its new text.
    pub value: Vec<u8>,
    /// Operations that had no effect.
    pub errors: Vec<OpError>,
}

/// Why an operation had no effect (STATE-37).
#[derive(Debug, PartialEq, Eq)]
pub struct OpError {
    /// Its place in the list.
    pub op_index: usize,
    /// `<operation>.<what>`
    pub code: String,
    /// For people.
    pub message: String,
}

/// Part of a code after the operation's name, and the message.
type Refusal = (&'static str, String);

struct Document<'a> {
    root: Node<'a>,
    /// The key did not exist and no operation has taken effect (STATE-33).
    fresh: bool,
}

/// Applies operations from left to right to the stored text, or to an empty object if there is none. One that fails is
/// skipped and reported (STATE-30).
pub fn apply<'a>(stored: Option<&'a [u8]>, ops: &[Op<'a>]) -> Updated {
    let root = stored.map_or_else(Node::empty_object, Node::Given);
    let mut document = Document { root, fresh: stored.is_none() };
    let mut errors = Vec::new();
    for (op_index, op) in ops.iter().enumerate() {
        match document.run(op) {
            Ok(()) => document.fresh = false,
            Err((code, message)) => errors.push(OpError { op_index, code: format!("{}.{code}", op.verb()), message }),
        }
    }
    let mut value = Vec::with_capacity(stored.map_or(2, <[u8]>::len));
    document.root.write(&mut value);
    Updated { value, errors }
}

/// Appends errors as a JSON array.
pub fn write_errors(out: &mut Vec<u8>, errors: &[OpError]) {
    out.push(b'[');
    for (index, error) in errors.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.extend_from_slice(format!("{{\"op_index\":{},\"code\":", error.op_index).as_bytes());
        write_string(out, &error.code);
        out.extend_from_slice(b",\"message\":");
        write_string(out, &error.message);
        out.push(b'}');
    }
    out.push(b']');
}

impl Op<'_> {
    fn verb(&self) -> &'static str {
        match self {
            Op::Set { .. } => "set",
            Op::Merge { .. } => "merge",
            Op::Increment { .. } => "increment",
            Op::Decrement { .. } => "decrement",
            Op::Append { .. } => "append",
            Op::Remove { .. } => "remove",
        }
    }
}

// === impl Document ===

impl<'a> Document<'a> {
    fn run(&mut self, op: &Op<'a>) -> Result<(), Refusal> {
        match op {
            Op::Set { path, value } => self.set(path, value),
            Op::Merge { path, value } => self.merge(path, value),
            Op::Increment { path, by } => self.add(path, *by, "increment"),
            Op::Decrement { path, by } => self.add(path, by.negated(), "decrement"),
            Op::Append { path, value } => self.append(path, value),
            Op::Remove { path } => self.remove(path),
        }
    }

    fn set(&mut self, path: &Cow<'a, str>, value: &'a [u8]) -> Result<(), Refusal> {
        check_field(path)?;
        if path.is_empty() {
            self.root = Node::Given(value);
            return Ok(());
        }
        let kind = self.root.kind();
        let members = self.root.members().ok_or_else(|| not_object("set", path, kind))?;
        members.insert(path, Node::Given(value));
        Ok(())
    }

    fn merge(&mut self, path: &Path<'a>, value: &'a [u8]) -> Result<(), Refusal> {
        check_path(path)?;
        check_merge_value(value)?;
        if path.is_empty() && self.root.kind() != Kind::Object {
            return Err(not_object("merge", "", self.root.kind())); // STATE-DB-11
        }
        self.descend(path).members_or_replace().copy_from(value);
        Ok(())
    }

    fn add(&mut self, path: &Cow<'a, str>, by: Number, verb: &str) -> Result<(), Refusal> {
        check_field(path)?;
        let target = if path.is_empty() {
            (!self.fresh).then_some(&mut self.root)
        } else {
            let kind = self.root.kind();
            self.root.members().ok_or_else(|| not_object(verb, path, kind))?.get_mut(path)
        };
        let sum = match target {
            None => by,
            Some(target) => {
                let stored = target.text().and_then(Number::parse);
                stored.and_then(|stored| stored.plus(by)).ok_or_else(|| {
                    ("not_number", format!("Expected number at path '{}', got {}.", shown(path), target.kind()))
                })?
            }
        };
        let sum = Node::Made(sum.text().into_bytes());
        match self.root.members().filter(|_| !path.is_empty()) {
            Some(members) => members.insert(path, sum),
            None => self.root = sum,
        }
        Ok(())
    }

    fn append(&mut self, path: &Path<'a>, value: &'a [u8]) -> Result<(), Refusal> {
        check_path(path)?;
        let Some((leaf, parents)) = path.split_last() else {
            return if self.fresh {
                self.root = first(value);
                Ok(())
            } else {
                append_to(&mut self.root, value, "")
            };
        };
        let kind = self.root.kind();
        if parents.is_empty() && kind != Kind::Object {
            return Err(not_object("append", &format!("[{leaf}]"), kind));
        }
        // Parents are replaced only where the leaf is missing, so an append that fails has changed nothing.
        let members = self.descend(parents).members_or_replace();
        match members.get_mut(leaf) {
            Some(target) => return append_to(target, value, leaf),
            None if parents.is_empty() => members.insert(leaf, first(value)),
            None => members.insert(leaf, list_of(value)),
        }
        Ok(())
    }

    fn remove(&mut self, path: &Cow<'a, str>) -> Result<(), Refusal> {
        check_field(path)?;
        if path.is_empty() {
            self.root = Node::Given(b"null");
            return Ok(());
        }
        let kind = self.root.kind();
        self.root.members().ok_or_else(|| not_object("remove", path, kind))?.remove(path);
        Ok(())
    }

    /// The place a path leads to; what is missing or no object on the way becomes an empty object.
    fn descend(&mut self, path: &[Cow<'a, str>]) -> &mut Node<'a> {
        path.iter().fold(&mut self.root, |node, segment| node.members_or_replace().get_or_insert_object(segment))
    }
}

/// What a value appended to nothing becomes.
fn first(value: &[u8]) -> Node<'_> {
    if kind_of(value) == Kind::String { Node::Given(value) } else { list_of(value) }
}

fn list_of(value: &[u8]) -> Node<'_> {
    Node::Made([b"[", value, b"]"].concat())
}

fn append_to<'a>(target: &mut Node<'a>, value: &'a [u8], leaf: &str) -> Result<(), Refusal> {
    let path = shown(leaf);
    match (target.kind(), kind_of(value)) {
        (Kind::Null, _) => *target = first(value),
        (Kind::Array, _) => target.push(value),
        (Kind::String, Kind::String) => target.concatenate(value),
        (Kind::String, given) => {
            return Err(("type_mismatch", format!("Expected string append value at path '{path}', got {given}.")));
        }
        (kind, _) => {
            let expected = "expected array, string, null, or missing field";
            return Err(("type_mismatch", format!("Cannot append at path '{path}': target is {kind}, {expected}.")));
        }
    }
    Ok(())
}

fn shown(path: &str) -> &str {
    if path.is_empty() { "root" } else { path }
}

fn not_object(verb: &str, path: &str, kind: Kind) -> Refusal {
    let path = shown(path);
    ("target_not_object", format!("Cannot {verb} at path '{path}': target is {kind}, expected object."))
}

// === checks before anything is changed (STATE-36) ===

fn check_path(path: &Path<'_>) -> Result<(), Refusal> {
    if path.len() > PATH_SEGMENTS_MAX {
        let text = format!("Path depth {} exceeds maximum of {PATH_SEGMENTS_MAX}", path.len());
        return Err(("path.too_deep", text));
    }
    path.iter().try_for_each(|segment| {
        if segment.is_empty() {
            return Err(("path.empty_segment", "Path contains an empty segment".to_owned()));
        }
        check_field(segment)
    })
}

/// One segment; an empty one is the root.
fn check_field(segment: &str) -> Result<(), Refusal> {
    if segment.len() > SEGMENT_BYTES_MAX {
        let text = format!("Path segment of {} bytes exceeds maximum of {SEGMENT_BYTES_MAX}", segment.len());
        return Err(("path.segment_too_long", text));
    }
    if RESERVED.contains(&segment) {
        let text = format!("Path segment '{segment}' is not allowed (prototype pollution).");
        return Err(("path.proto_polluted", text));
    }
    Ok(())
}

fn check_merge_value(value: &[u8]) -> Result<(), Refusal> {
    if kind_of(value) != Kind::Object {
        return Err(("value.not_an_object", "Merge value must be a JSON object".to_owned()));
    }
    let mut count = 0;
    let mut reserved = None;
    let walked = Scanner::new(value).object(|scanner, name| {
        count += 1;
        reserved = reserved.or_else(|| RESERVED.into_iter().find(|name_| *name_ == decoded(name)));
        scanner.skip_value()
    });
    debug_assert!(walked.is_ok(), "texts are checked before they get here");
    if count > MERGE_MEMBERS_MAX {
        let text = format!("Merge value has {count} top-level keys, exceeds maximum of {MERGE_MEMBERS_MAX}");
        return Err(("value.too_many_keys", text));
    }
    if let Some(name) = reserved {
        let text = format!("Merge value top-level key \"{name}\" is a prototype-pollution sink");
        return Err(("value.proto_polluted", text));
    }
    let depth = depth_of(value);
    if depth > MERGE_DEPTH_MAX {
        let text = format!("Merge value JSON nesting depth {depth} exceeds maximum of {MERGE_DEPTH_MAX}");
        return Err(("value.too_deep", text));
    }
    Ok(())
}

/// How many containers lie inside each other at the deepest place.
fn depth_of(value: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in value {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = in_string,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}
