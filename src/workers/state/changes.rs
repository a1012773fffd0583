//! What follows from a change: the call's answer and the events of triggers.

use super::store::Value;
use iii_shards::builtin::firing::Target;
use iii_shards::wire::json::write_string;
use std::rc::Rc;

/// What happened to a key (STATE-43).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Created,
    Updated,
    Deleted,
}

/// A change of one key.
#[derive(Debug, Clone, Copy)]
pub struct Change<'a> {
    pub scope: &'a str,
    pub key: &'a str,
    pub kind: Kind,
    /// `None` = the key did not exist.
    pub old: Option<&'a Value>,
    /// `None` = the key does not exist any more.
    pub new: Option<&'a Value>,
}

/// Triggers to be fired, and what with.
#[derive(Debug)]
pub struct Notice {
    pub targets: Vec<Rc<Target>>,
    pub event: Rc<[u8]>,
    /// Of the call that made the change.
    pub traceparent: Option<String>,
    /// Of the call that made the change.
    pub baggage: Option<String>,
}

impl Change<'_> {
    /// What the functions of triggers are called with (STATE-42).
    pub fn event(&self) -> Rc<[u8]> {
        let kind = match self.kind {
            Kind::Created => "created",
            Kind::Updated => "updated",
            Kind::Deleted => "deleted",
        };
        let length = |value: Option<&Value>| value.map_or(4, |value| value.len());
        let mut out = Vec::with_capacity(128 + self.scope.len() + self.key.len() + length(self.old) + length(self.new));
        out.extend_from_slice(b"{\"type\":\"state\",\"event_type\":\"state:");
        out.extend_from_slice(kind.as_bytes());
        out.extend_from_slice(b"\",\"scope\":");
        write_string(&mut out, self.scope);
        out.extend_from_slice(b",\"key\":");
        write_string(&mut out, self.key);
        out.push(b',');
        self.write_values(&mut out);
        out.push(b'}');
        out.into()
    }

    /// Appends the answer of `set` and `update` without its closing brace.
    pub fn write_answer(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        self.write_values(out);
    }

    fn write_values(&self, out: &mut Vec<u8>) {
        fn text(value: Option<&Value>) -> &[u8] {
            value.map_or(b"null", |value| value)
        }
        out.extend_from_slice(b"\"old_value\":");
        out.extend_from_slice(text(self.old));
        out.extend_from_slice(b",\"new_value\":");
        out.extend_from_slice(text(self.new));
    }
}
