//! YAML → JSON values, and where each value is written. The only user of serde_yaml.
//!
//! serde_yaml tells places only in errors, so [`locate`] asks for one: it walks to the value in question and fails
//! there on purpose. That costs a parse per question, and questions come only with problems; in return there is one
//! parser, which cannot disagree with itself about what the file says, and no second YAML library.
//!
//! Bounds: serde_yaml limits nesting; [`NODES_MAX`] limits what aliases can multiply.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, EnumAccess, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::problem::{FieldPath, Location, Problem, Segment};

/// Most values one file may amount to after its aliases are resolved.
const NODES_MAX: usize = 200_000;

/// Which half of a mapping's member a place refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The key.
    Key,
    /// The value.
    Value,
}

/// Reads a document. No document at all is null.
pub fn parse(text: &str) -> Result<Value, Box<Problem>> {
    let left = Cell::new(NODES_MAX);
    match (Tree { left: &left }).deserialize(serde_yaml::Deserializer::from_str(text)) {
        Ok(value) => Ok(value),
        Err(_) if is_blank(text) => Ok(Value::Null),
        Err(error) => {
            let location = error.location().map(place);
            // Errors of the tree below carry the place too, unless it is the very first character.
            let reason = error.to_string().replace('`', "'");
            let located = reason.contains(" at line ");
            Err(Box::new(Problem {
                field: FieldPath::default(),
                worker: None,
                reason,
                location,
                located,
                suggestion: None,
            }))
        }
    }
}

/// Where the value or key at `path` is written; the nearest enclosing value if it is not written at all.
pub fn locate(text: &str, path: &FieldPath, target: Target) -> Option<Location> {
    let mut path = path.0.as_slice();
    let mut target = target;
    loop {
        let seek = Seek { path, target };
        let error = seek.deserialize(serde_yaml::Deserializer::from_str(text)).err();
        match error.filter(|error| error.to_string().contains(FOUND)) {
            Some(error) => return error.location().map(place),
            None => path = path.split_last()?.1,
        }
        target = Target::Value;
    }
}

fn place(location: serde_yaml::Location) -> Location {
    Location { line: location.line(), column: location.column() }
}

/// Only comments, blank lines and document markers.
fn is_blank(text: &str) -> bool {
    text.trim_start_matches('\u{feff}').lines().all(|line| {
        let line = line.trim();
        line.is_empty() || line.starts_with('#') || line == "---" || line == "..."
    })
}

/// Builds the tree, refusing what JSON cannot hold.
struct Tree<'a> {
    left: &'a Cell<usize>,
}

impl Tree<'_> {
    fn count<E: serde::de::Error>(&self) -> Result<(), E> {
        let left = self.left.get().checked_sub(1);
        self.left.set(left.ok_or_else(|| E::custom(format_args!("more than {NODES_MAX} values")))?);
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Tree<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.count()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    // Numbers beyond 64 bits lose their last digits, as they do in JSON payloads read as values.
    fn visit_i128<E: serde::de::Error>(self, value: i128) -> Result<Value, E> {
        self.visit_f64(value as f64)
    }

    fn visit_u128<E: serde::de::Error>(self, value: u128) -> Result<Value, E> {
        self.visit_f64(value as f64)
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        let number = Number::from_f64(value);
        number.map(Value::Number).ok_or_else(|| E::custom("infinite and undefined numbers cannot be used"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(element) = elements.next_element_seed(Tree { left: self.left })? {
            list.push(element);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = members.next_key_seed(NewKey { known: &map })? {
            let value = members.next_value_seed(Tree { left: self.left })?;
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, _: A) -> Result<Value, A::Error> {
        Err(A::Error::custom("YAML tags cannot be used here"))
    }
}

/// A key of a mapping as text; refuses one that was there before.
struct NewKey<'a> {
    known: &'a Map<String, Value>,
}

impl<'de> DeserializeSeed<'de> for NewKey<'_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_any(KeyText(|key: &str| match self.known.contains_key(key) {
            true => Err(format!("duplicate field '{key}'")),
            false => Ok(()),
        }))
    }
}

/// Reads a scalar key as text and lets a check refuse it, so that the error carries the key's place.
struct KeyText<F>(F);

impl<F: FnOnce(&str) -> Result<(), String>> KeyText<F> {
    fn take<E: serde::de::Error>(self, key: &str) -> Result<String, E> {
        (self.0)(key).map_err(E::custom)?;
        Ok(key.to_owned())
    }
}

impl<F: FnOnce(&str) -> Result<(), String>> Visitor<'_> for KeyText<F> {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a scalar as the key of a mapping")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<String, E> {
        self.take("null")
    }

    fn visit_bool<E: serde::de::Error>(self, key: bool) -> Result<String, E> {
        self.take(&key.to_string())
    }

    fn visit_i64<E: serde::de::Error>(self, key: i64) -> Result<String, E> {
        self.take(&key.to_string())
    }

    fn visit_u64<E: serde::de::Error>(self, key: u64) -> Result<String, E> {
        self.take(&key.to_string())
    }

    fn visit_f64<E: serde::de::Error>(self, key: f64) -> Result<String, E> {
        self.take(&key.to_string())
    }

    fn visit_str<E: serde::de::Error>(self, key: &str) -> Result<String, E> {
        self.take(key)
    }
}

/// Text of the deliberate error.
const FOUND: &str = "\u{1}found\u{1}";

/// Walks to a value and fails there.
#[derive(Clone, Copy)]
struct Seek<'a> {
    path: &'a [Segment],
    target: Target,
}

impl<'de> DeserializeSeed<'de> for Seek<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Seek<'_> {
    fn arrived<E: serde::de::Error>(self) -> Result<(), E> {
        if self.path.is_empty() { Err(E::custom(FOUND)) } else { Ok(()) }
    }
}

impl<'de> Visitor<'de> for Seek<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        self.arrived()
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<(), E> {
        self.arrived()
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<(), E> {
        self.arrived()
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<(), E> {
        self.arrived()
    }

    fn visit_i128<E: serde::de::Error>(self, _: i128) -> Result<(), E> {
        self.arrived()
    }

    fn visit_u128<E: serde::de::Error>(self, _: u128) -> Result<(), E> {
        self.arrived()
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<(), E> {
        self.arrived()
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<(), E> {
        self.arrived()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        self.arrived()?;
        let wanted = match self.path {
            [Segment::Index(index), ..] => Some(*index),
            _ => None,
        };
        for index in 0.. {
            let here = Some(index) == wanted;
            let more = match here {
                true => elements.next_element_seed(Seek { path: &self.path[1..], ..self })?,
                false => elements.next_element::<serde::de::IgnoredAny>()?.map(|_| ()),
            };
            if more.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        self.arrived()?;
        let wanted = match self.path {
            [Segment::Key(key), ..] => Some(key.as_str()),
            _ => None,
        };
        let stop_at_key = self.target == Target::Key && self.path.len() == 1;
        while let Some(key) = members.next_key_seed(SoughtKey { wanted: wanted.filter(|_| stop_at_key) })? {
            match Some(key.as_str()) == wanted {
                true => members.next_value_seed(Seek { path: &self.path[1..], ..self })?,
                false => members.next_value::<serde::de::IgnoredAny>().map(|_| ())?,
            }
        }
        Ok(())
    }
}

/// A key of a mapping as text; fails at the one that is sought.
struct SoughtKey<'a> {
    wanted: Option<&'a str>,
}

impl<'de> DeserializeSeed<'de> for SoughtKey<'_> {
    type Value = String;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<String, D::Error> {
        deserializer.deserialize_any(KeyText(|key: &str| match self.wanted == Some(key) {
            true => Err(FOUND.to_owned()),
            false => Ok(()),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn reads_values() {
        for (text, expected) in [
            ("", Value::Null),
            ("# only a comment\n", Value::Null),
            ("---\n", Value::Null),
            ("workers:\n", json!({"workers": null})),
            ("a: 1\nb: [x, 'y', 1.5, true, ~]", json!({"a": 1, "b": ["x", "y", 1.5, true, null]})),
            ("5: x\ntrue: y", json!({"5": "x", "true": "y"})),
            ("a: &x {p: 1}\nb: *x", json!({"a": {"p": 1}, "b": {"p": 1}})),
            ("a: |\n  x\n  y\n", json!({"a": "x\ny\n"})),
            ("big: 12345678901234567890123", json!({"big": 1.2345678901234568e22})),
        ] {
            assert_eq!(parse(text).unwrap_or_else(|problem| panic!("{text}: {problem}")), expected, "{text}");
        }
    }

    #[test]
    fn cfg_17_refuses_with_a_place() {
        for (text, expected) in [
            (
                "workers:\n\t- name: a",
                "found character that cannot start any token at line 2 column 1, while scanning for the next token",
            ),
            ("workers: []\nworkers: []", "duplicate field 'workers' at line 2 column 1"),
            ("a: !x 1", "YAML tags cannot be used here at line 1 column 4"),
            ("a: .inf", "infinite and undefined numbers cannot be used at line 1 column 4"),
        ] {
            let problem = parse(text).expect_err(text);
            let shown = problem.to_string();
            let shown = shown.strip_prefix("a: ").unwrap_or(&shown);
            assert_eq!(shown, expected, "{text}");
            assert!(problem.location.is_some(), "{text}");
        }
    }

    #[test]
    fn aliases_cannot_multiply_without_bound() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
        for level in 1..9 {
            let below = format!("*a{}", level - 1);
            text += &format!("a{level}: &a{level} [{}]\n", vec![below; 9].join(", "));
        }
        let shown = parse(&text).expect_err("refused").to_string();
        assert!(shown.contains("more than 200000 values") || shown.contains("repetition limit"), "{shown}");
    }

    #[test]
    fn locates_keys_and_values() {
        let text = "top: 1\nworkers:\n  - name: a\n    config:\n      port: 5\n  - {name: b, config: {port: 6}}\n";
        let path = |steps: &[&str]| {
            let segment = |step: &&str| match step.parse() {
                Ok(index) => Segment::Index(index),
                Err(_) => Segment::Key((*step).to_owned()),
            };
            FieldPath(steps.iter().map(segment).collect())
        };
        for (steps, target, expected) in [
            (&[][..], Target::Value, (1, 1)),
            (&["top"], Target::Key, (1, 1)),
            (&["top"], Target::Value, (1, 6)),
            (&["workers", "0"], Target::Value, (3, 5)),
            (&["workers", "0", "config", "port"], Target::Key, (5, 7)),
            (&["workers", "0", "config", "port"], Target::Value, (5, 13)),
            (&["workers", "1", "config", "port"], Target::Value, (6, 30)),
            (&["workers", "1", "config", "absent"], Target::Value, (6, 23)),
            (&["workers", "0", "config", "absent"], Target::Key, (5, 7)),
        ] {
            let found = locate(text, &path(steps), target).map(|location| (location.line, location.column));
            assert_eq!(found, Some(expected), "{steps:?}");
        }
    }
}
