//! The entries, and what each operation does to them (CONF sections 3 and 6). Pure: what is to be written to disk is
//! handed out, and done to the entries only when it has been written.

use super::expand::{Variables, expand};
use super::validate::{check_schema, check_value, masked};
use iii_shards::builtin::Failure;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// One entry.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its id.
    pub id: String,
    /// Name for people.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Schema of its value; `None` = nobody has said since the engine started.
    pub schema: Option<Value>,
    /// Its value, templates and all; `None` = never set.
    pub value: Option<Value>,
    /// Whatever its owner adds.
    pub metadata: Option<Value>,
}

/// What happened to an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// It is new.
    Registered,
    /// It has changed.
    Updated,
    /// It is gone.
    Deleted,
}

/// A change to be made: the entry as it will be, or none.
#[derive(Debug, PartialEq)]
pub struct Change {
    /// Its id.
    pub id: String,
    /// How it will be; `None` = gone.
    pub entry: Option<Entry>,
    /// What to tell of it, if anything.
    pub what: Option<What>,
    /// For whoever asked for it.
    pub answer: Value,
}

/// All entries, by id.
#[derive(Debug, Default)]
pub struct Registry {
    entries: BTreeMap<String, Entry>,
}

/// What `register` is told.
#[derive(Debug)]
pub struct Registration {
    /// The entry; its value is the initial one, if one was given.
    pub entry: Entry,
}

impl Entry {
    fn value(&self) -> &Value {
        self.value.as_ref().unwrap_or(&Value::Null)
    }

    /// Its public form, with or without the value.
    pub fn shown(&self, with_value: bool) -> Value {
        let mut members = Map::new();
        members.insert("id".to_owned(), json!(self.id));
        members.insert("name".to_owned(), json!(self.name));
        members.insert("description".to_owned(), json!(self.description));
        members.insert("schema".to_owned(), self.schema.clone().unwrap_or_default());
        if with_value {
            members.insert("value".to_owned(), self.value().clone());
        }
        if let Some(metadata) = &self.metadata {
            members.insert("metadata".to_owned(), metadata.clone());
        }
        Value::Object(members)
    }
}

/// Whether an id is one (CONF section 3).
pub fn is_id(id: &str) -> bool {
    (1..=64).contains(&id.len()) && id.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'))
}

fn check_id(id: &str) -> Result<(), Failure> {
    match is_id(id) {
        true => Ok(()),
        false => {
            Err(Failure::new("INVALID_ID", format!("invalid configuration id '{id}': must match [a-z0-9_-]{{1,64}}")))
        }
    }
}

fn not_found(id: &str) -> Failure {
    Failure::new("NOT_FOUND", format!("configuration '{id}' not found"))
}

fn schema_invalid(text: String) -> Failure {
    Failure::new("SCHEMA_INVALID", text)
}

/// Checks a value as its readers will see it. One whose templates can't be replaced now is let through (CONF-13).
fn check(schema: &Value, value: &Value, variables: Variables<'_>) -> Result<(), String> {
    let expanded = expand(value, variables);
    if expanded.unset.is_empty() { check_value(schema, &expanded.value) } else { Ok(()) }
}

impl Registry {
    /// An entry.
    pub fn entry(&self, id: &str) -> Option<&Entry> {
        self.entries.get(id)
    }

    /// All entries, by id.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// Makes a change. Returns the entry before.
    pub fn apply(&mut self, change: &Change) -> Option<Entry> {
        match &change.entry {
            Some(entry) => self.entries.insert(change.id.clone(), entry.clone()),
            None => self.entries.remove(&change.id),
        }
    }

    // === operations ===

    /// `configuration::register` (CONF-10 to CONF-12, CONF-DB-3, CONF-DB-8)
    pub fn register(&self, registration: Registration, variables: Variables<'_>) -> Result<Change, Failure> {
        let mut entry = registration.entry;
        check_id(&entry.id)?;
        if let Some(schema) = &entry.schema {
            check_schema(schema).map_err(schema_invalid)?;
            if let Some(value) = &entry.value {
                check(schema, value, variables).map_err(schema_invalid)?;
            }
        }
        let before = self.entries.get(&entry.id);
        if entry.value.is_none() {
            entry.value = before.and_then(|before| before.value.clone());
        }
        let what = match before {
            None => Some(What::Registered),
            Some(before) if *before == entry => None,
            Some(_) => Some(What::Updated),
        };
        let answer = entry.shown(true);
        Ok(Change { id: entry.id.clone(), entry: Some(entry), what, answer })
    }

    /// `configuration::set`; `expected` is the raw value that must be there (CONF-13, CONF-DB-6)
    pub fn set(
        &self,
        id: &str,
        value: Value,
        expected: Option<&Value>,
        variables: Variables<'_>,
    ) -> Result<Change, Failure> {
        check_id(id)?;
        let Some(before) = self.entries.get(id) else {
            let text = format!("configuration '{id}' is not registered; call configuration::register first");
            return Err(Failure::new("NOT_REGISTERED", text));
        };
        let Some(schema) = &before.schema else {
            let text = format!(
                "configuration '{id}' has no schema available yet; the owning worker must register before values can be set"
            );
            return Err(Failure::new("SCHEMA_UNAVAILABLE", text));
        };
        if expected.is_some_and(|expected| expected != before.value()) {
            return Err(Failure::new("CONFLICT", format!("configuration '{id}' has another value than expected")));
        }
        check(schema, &value, variables).map_err(schema_invalid)?;
        let answer = json!({"old_value": before.value(), "new_value": value});
        let entry = Entry { value: Some(value), ..before.clone() };
        Ok(Change { id: id.to_owned(), entry: Some(entry), what: Some(What::Updated), answer })
    }

    /// `configuration::get` (CONF-14, CONF-DB-5)
    pub fn get(&self, id: &str, raw: bool, variables: Variables<'_>) -> Result<Value, Failure> {
        let entry = self.entries.get(id).ok_or_else(|| not_found(id))?;
        let Some(value) = entry.value.as_ref().filter(|_| !raw) else {
            return Ok(json!({"id": id, "value": entry.value()}));
        };
        let expanded = expand(value, variables);
        if !expanded.unset.is_empty() {
            let names = expanded.unset.join(", ");
            let text =
                format!("configuration '{id}' references unset environment variable(s) with no default: {names}");
            return Err(Failure::new("EXPAND_FAILED", text));
        }
        if let Some(schema) = &entry.schema {
            check_value(schema, &expanded.value).map_err(schema_invalid)?;
        }
        Ok(json!({"id": id, "value": expanded.value}))
    }

    /// `configuration::list`
    pub fn list(&self) -> Value {
        json!({"configurations": self.entries.values().map(|entry| entry.shown(false)).collect::<Vec<_>>()})
    }

    /// `configuration::schema`
    pub fn schema(&self, id: &str) -> Result<Value, Failure> {
        self.entries.get(id).map(|entry| entry.shown(false)).ok_or_else(|| not_found(id))
    }

    /// `configuration::delete`, or the end of an entry's time (CONF-40, CONF-DB-6)
    pub fn delete(&self, id: &str) -> Result<Change, Failure> {
        let entry = self.entries.get(id).ok_or_else(|| not_found(id))?;
        let answer = json!({"old_value": entry.value()});
        Ok(Change { id: id.to_owned(), entry: None, what: Some(What::Deleted), answer })
    }

    // === files ===

    /// What a file now says that somebody has edited (CONF-54, CONF-55). `None` = nothing new; `Err` = it is refused,
    /// and the entry stays as it is.
    pub fn edited(&self, file: Entry, variables: Variables<'_>) -> Result<Option<Change>, String> {
        let Some(before) = self.entries.get(&file.id) else {
            return Ok(Some(Change {
                id: file.id.clone(),
                what: Some(What::Registered),
                answer: Value::Null,
                entry: Some(file),
            }));
        };
        let same = file.name == before.name && file.description == before.description;
        let same_value = file.value.as_ref().unwrap_or(&Value::Null) == before.value();
        if same && same_value {
            return Ok(None);
        }
        if let (Some(schema), Some(value), false) = (&before.schema, &file.value, same_value) {
            let expanded = expand(value, variables);
            if !expanded.unset.is_empty() {
                return Err(format!("unset environment variable(s) with no default: {}", expanded.unset.join(", ")));
            }
            check_value(schema, &expanded.value)?;
        }
        let entry = Entry { schema: before.schema.clone(), ..file };
        Ok(Some(Change { id: entry.id.clone(), entry: Some(entry), what: Some(What::Updated), answer: Value::Null }))
    }
}

/// What triggers are told of a change (CONF-31).
pub fn event(what: What, before: Option<&Entry>, after: Option<&Entry>, variables: Variables<'_>) -> Option<Value> {
    let shown = after.or(before)?;
    let value = |entry: Option<&Entry>| match entry.and_then(|entry| entry.value.as_ref()) {
        Some(value) => masked(shown.schema.as_ref(), &expand(value, variables).value),
        None => Value::Null,
    };
    let mut event = json!({
        "type": "configuration",
        "event_type": what.event_type(),
        "id": shown.id,
        "name": shown.name,
        "description": shown.description,
        "schema": shown.schema,
        "old_value": value(before),
        "new_value": value(after),
    });
    if let Some(metadata) = &shown.metadata {
        event["metadata"] = metadata.clone();
    }
    Some(event)
}

impl What {
    /// As triggers are told.
    pub fn event_type(self) -> &'static str {
        match self {
            What::Registered => "configuration:registered",
            What::Updated => "configuration:updated",
            What::Deleted => "configuration:deleted",
        }
    }
}

#[cfg(test)]
#[path = "registry_tests.rs"]
mod tests;
