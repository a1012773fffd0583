//! A document under change: raw text, taken apart only where a path leads.

#![allow(clippy::ptr_arg, reason = "a borrowed text keeps its lifetime")]

use crate::workers::payload::decoded;
use iii_shards::wire::json::{Scanner, write_string};
use indexmap::IndexMap;
use std::borrow::Cow;
use std::fmt;

/// One JSON value.
#[derive(Debug)]
pub enum Node<'a> {
    /// As it came, of any kind.
    Given(&'a [u8]),
    /// Made by an operation: a number, a string or an array.
    Made(Vec<u8>),
    /// An object that has been taken apart.
    Object(Members<'a>),
}

/// Members of an object, by name, in their order. If a name was there twice, the last value is kept.
#[derive(Debug, Default)]
pub struct Members<'a> {
    by_name: IndexMap<Cow<'a, str>, Member<'a>, foldhash::fast::RandomState>,
}

#[derive(Debug)]
struct Member<'a> {
    /// The name as it was written, between the quotes.
    name: Option<&'a [u8]>,
    /// `None` = removed; the place is kept because taking it out would move all others.
    value: Option<Node<'a>>,
}

/// The kinds of JSON values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Null,
    Boolean,
    Number,
    String,
    Array,
    Object,
}

/// The kind of a JSON text without white space around it.
pub fn kind_of(text: &[u8]) -> Kind {
    match text.first() {
        Some(b'{') => Kind::Object,
        Some(b'[') => Kind::Array,
        Some(b'"') => Kind::String,
        Some(b't' | b'f') => Kind::Boolean,
        Some(b'-' | b'0'..=b'9') => Kind::Number,
        _ => Kind::Null,
    }
}

// === impl Node ===

impl<'a> Node<'a> {
    /// An object without members.
    pub fn empty_object() -> Node<'a> {
        Node::Object(Members::default())
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Node::Given(text) => kind_of(text),
            Node::Made(text) => kind_of(text),
            Node::Object(_) => Kind::Object,
        }
    }

    /// The text of anything but an object that has been taken apart.
    pub fn text(&self) -> Option<&[u8]> {
        match self {
            Node::Given(text) => Some(text),
            Node::Made(text) => Some(text),
            Node::Object(_) => None,
        }
    }

    /// The members, if this is an object.
    pub fn members(&mut self) -> Option<&mut Members<'a>> {
        if let Node::Given(text) = *self
            && kind_of(text) == Kind::Object
        {
            *self = Node::Object(Members::read(text));
        }
        match self {
            Node::Object(members) => Some(members),
            _ => None,
        }
    }

    /// The members; anything but an object becomes one first.
    pub fn members_or_replace(&mut self) -> &mut Members<'a> {
        if self.kind() != Kind::Object {
            *self = Node::empty_object();
        }
        self.members().expect("it is an object now")
    }

    /// Adds an element at the end of an array.
    pub fn push(&mut self, element: &[u8]) {
        let text = self.text_mut();
        debug_assert_eq!((text.first(), text.last()), (Some(&b'['), Some(&b']')));
        text.pop();
        if text[1..].iter().any(|byte| !byte.is_ascii_whitespace()) {
            text.push(b',');
        }
        text.extend_from_slice(element);
        text.push(b']');
    }

    /// Adds the text of one string at the end of another.
    pub fn concatenate(&mut self, string: &[u8]) {
        let text = self.text_mut();
        debug_assert_eq!((text.first(), text.last()), (Some(&b'"'), Some(&b'"')));
        text.pop();
        text.extend_from_slice(&string[1..]);
    }

    fn text_mut(&mut self) -> &mut Vec<u8> {
        if let Node::Given(text) = self {
            *self = Node::Made(text.to_vec());
        }
        match self {
            Node::Made(text) => text,
            _ => unreachable!("objects are changed by member"),
        }
    }

    /// Appends the value as JSON text.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Node::Given(text) => out.extend_from_slice(text),
            Node::Made(text) => out.extend_from_slice(text),
            Node::Object(members) => members.write(out),
        }
    }
}

// === impl Members ===

impl<'a> Members<'a> {
    fn read(object: &'a [u8]) -> Members<'a> {
        let mut members = Members::default();
        members.copy_from(object);
        members
    }

    /// Takes over every member of an object given as text.
    pub fn copy_from(&mut self, object: &'a [u8]) {
        let walked = Scanner::new(object).object(|scanner, name| {
            let value = Node::Given(scanner.value()?);
            let written = name.inner;
            let decoded = decoded(name);
            match self.by_name.get_mut(&decoded) {
                Some(member) => member.value = Some(value),
                None => {
                    self.by_name.insert(decoded, Member { name: Some(written), value: Some(value) });
                }
            }
            Ok(())
        });
        debug_assert!(walked.is_ok(), "texts are checked before they get here");
    }

    /// The value of a member, if it is there.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Node<'a>> {
        self.by_name.get_mut(name)?.value.as_mut()
    }

    /// Sets a member.
    pub fn insert(&mut self, name: &Cow<'a, str>, value: Node<'a>) {
        *self.slot(name) = Some(value);
    }

    /// Drops a member, if it is there.
    pub fn remove(&mut self, name: &str) {
        if let Some(member) = self.by_name.get_mut(name) {
            member.value = None;
        }
    }

    /// The value of a member, an empty object if it was missing.
    pub fn get_or_insert_object(&mut self, name: &Cow<'a, str>) -> &mut Node<'a> {
        self.slot(name).get_or_insert_with(Node::empty_object)
    }

    fn slot(&mut self, name: &Cow<'a, str>) -> &mut Option<Node<'a>> {
        &mut self.by_name.entry(name.clone()).or_insert(Member { name: None, value: None }).value
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        let mut first = true;
        for (name, member) in &self.by_name {
            let Some(value) = &member.value else { continue };
            if !std::mem::take(&mut first) {
                out.push(b',');
            }
            match member.name {
                Some(written) => {
                    out.push(b'"');
                    out.extend_from_slice(written);
                    out.push(b'"');
                }
                None => write_string(out, name),
            }
            out.push(b':');
            value.write(out);
        }
        out.push(b'}');
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Null => "null",
            Kind::Boolean => "boolean",
            Kind::Number => "number",
            Kind::String => "string",
            Kind::Array => "array",
            Kind::Object => "object",
        })
    }
}
