//! Templates in values: `${NAME}` and `${NAME:default}` in string leaves (CONF-20 to CONF-23). Pure.

use serde_json::Value;
use std::borrow::Cow;

/// Default text that stands for the version of the engine.
const VERSION_SENTINEL: &str = "__III_ENGINE_VERSION__";

/// Gives a variable that is set.
pub type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A value with its templates replaced.
#[derive(Debug, PartialEq)]
pub struct Expanded {
    /// The value. What could not be replaced is left as it is.
    pub value: Value,
    /// Variables that are not set and have no default, in order, each once.
    pub unset: Vec<String>,
}

/// Replaces the templates of a value.
pub fn expand(value: &Value, variables: Variables<'_>) -> Expanded {
    let mut unset = Vec::new();
    let value = walk(value, variables, &mut unset);
    Expanded { value, unset }
}

fn walk(value: &Value, variables: Variables<'_>, unset: &mut Vec<String>) -> Value {
    match value {
        Value::String(text) => leaf(text, variables, unset),
        Value::Array(elements) => elements.iter().map(|element| walk(element, variables, unset)).collect(),
        Value::Object(members) => {
            members.iter().map(|(name, member)| (name.clone(), walk(member, variables, unset))).collect()
        }
        other => other.clone(),
    }
}

fn leaf(text: &str, variables: Variables<'_>, unset: &mut Vec<String>) -> Value {
    let trimmed = text.trim();
    if let Some((reference, "")) = reference_at(trimmed) {
        return match reference.value(variables) {
            Some(value) => scalar(&value),
            None => {
                note(unset, reference.name);
                Value::from(text)
            }
        };
    }
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let Some((reference, after)) = reference_at(rest) else {
            out.push_str("${");
            rest = &rest[2..];
            continue;
        };
        match reference.value(variables) {
            Some(value) => out.push_str(&value),
            None => {
                note(unset, reference.name);
                out.push_str(&rest[..rest.len() - after.len()]);
            }
        }
        rest = after;
    }
    out.push_str(rest);
    Value::String(out)
}

fn note(unset: &mut Vec<String>, name: &str) {
    if !unset.iter().any(|noted| noted == name) {
        unset.push(name.to_owned());
    }
}

struct Reference<'a> {
    name: &'a str,
    default: Option<&'a str>,
}

/// The reference a text starts with, and the rest.
fn reference_at(text: &str) -> Option<(Reference<'_>, &str)> {
    let body = text.strip_prefix("${")?;
    let end = body.find('}')?;
    let (body, rest) = (&body[..end], &body[end + 1..]);
    let (name, default) = match body.split_once(':') {
        Some((name, default)) => (name, Some(default)),
        None => (body, None),
    };
    (!name.is_empty()).then_some((Reference { name, default }, rest))
}

impl Reference<'_> {
    fn value(&self, variables: Variables<'_>) -> Option<Cow<'_, str>> {
        match (variables(self.name), self.default) {
            (Some(value), _) => Some(Cow::Owned(value)),
            (None, Some(VERSION_SENTINEL)) => Some(Cow::Borrowed(crate::VERSION)),
            (None, default) => default.map(Cow::Borrowed),
        }
    }
}

/// A text read as a YAML scalar (CONF-22).
fn scalar(text: &str) -> Value {
    if text.is_empty() {
        return Value::from("");
    }
    match serde_yaml::from_str::<Value>(text) {
        Ok(value @ (Value::Null | Value::Bool(_) | Value::Number(_))) => value,
        _ => Value::from(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn variables(name: &str) -> Option<String> {
        match name {
            "PORT" => Some("8080".to_owned()),
            "EMPTY" => Some(String::new()),
            "HOST" => Some("h".to_owned()),
            _ => None,
        }
    }

    // CONF-20 to CONF-23
    #[test]
    fn templates() {
        for (value, expected) in [
            (json!("${PORT}"), json!(8080)),
            (json!(" ${PORT} "), json!(8080)),
            (json!("p${PORT}"), json!("p8080")),
            (json!("${HOST}:${PORT}${NONE:!}"), json!("h:8080!")),
            (json!("${NONE:true}"), json!(true)),
            (json!("${NONE:007}"), json!("007")),
            (json!("${NONE:on}"), json!("on")),
            (json!("${NONE:a:b}"), json!("a:b")),
            (json!("${NONE:[1]}"), json!("[1]")),
            (json!("${NONE:}"), json!("")),
            (json!("${EMPTY}"), json!("")),
            (json!("${NONE:__III_ENGINE_VERSION__}"), json!(crate::VERSION)),
            (json!("${} ${:x} ${PORT $"), json!("${} ${:x} ${PORT $")),
            (json!({"${PORT}": ["${PORT}", 1, null]}), json!({"${PORT}": [8080, 1, null]})),
        ] {
            assert_eq!(expand(&value, &variables), Expanded { value: expected, unset: Vec::new() }, "{value}");
        }
        let left = expand(&json!(["${A}", "x${B}${A}", "${HOST}"]), &variables);
        assert_eq!(left.value, json!(["${A}", "x${B}${A}", "h"]));
        assert_eq!(left.unset, ["A", "B"]);
    }
}
