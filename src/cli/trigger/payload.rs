//! The payload of `iii trigger`: a JSON value, `KEY=VALUE` pairs, or both. Pure.

use std::fmt;

use serde_json::{Map, Value};

/// Why a payload cannot be built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PayloadError {
    /// A word without `=`.
    NotAPair(String),
    /// A pair whose key is empty.
    EmptyKey(String),
    /// Pairs beside a JSON value that is no object.
    NotAnObject,
}

impl fmt::Display for PayloadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PayloadError::NotAPair(word) => write!(f, "expected key=value, got '{word}'"),
            PayloadError::EmptyKey(word) => write!(f, "payload key must not be empty (got '{word}')"),
            PayloadError::NotAnObject => write!(f, "--json must be an object when combined with kv pairs"),
        }
    }
}

/// Builds the payload: pairs replace members of `base` one level deep (CLI-22).
pub fn build(base: Option<Value>, pairs: &[String]) -> Result<Value, PayloadError> {
    let mut object = match base {
        Some(value) if pairs.is_empty() => return Ok(value),
        Some(Value::Object(object)) => object,
        Some(_) => return Err(PayloadError::NotAnObject),
        None => Map::new(),
    };
    for word in pairs {
        let (key, value) = pair(word)?;
        object.insert(key, value);
    }
    Ok(Value::Object(object))
}

/// Splits at the first `=`; the value is JSON if all of it is, else text (CLI-23).
fn pair(word: &str) -> Result<(String, Value), PayloadError> {
    let (key, text) = word.split_once('=').ok_or_else(|| PayloadError::NotAPair(word.to_owned()))?;
    if key.is_empty() {
        return Err(PayloadError::EmptyKey(word.to_owned()));
    }
    let value = serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()));
    Ok((key.to_owned(), value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn from(base: Option<Value>, line: &[&str]) -> Result<Value, PayloadError> {
        build(base, &line.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn cli_23_pair_values() {
        for (word, expected) in [
            ("a=2", json!({"a": 2})),
            ("l=-5", json!({"l": -5})),
            ("m=1.50", json!({"m": 1.5})),
            ("i=1e3", json!({"i": 1000.0})),
            ("x=1.0", json!({"x": 1.0})),
            ("n=12345678901234567890123", json!({"n": 1.2345678901234568e22})),
            ("f=true", json!({"f": true})),
            ("g=null", json!({"g": null})),
            ("b=x y", json!({"b": "x y"})),
            ("j=01", json!({"j": "01"})),
            ("k=0x10", json!({"k": "0x10"})),
            ("h=", json!({"h": ""})),
            ("c=\"q\"", json!({"c": "q"})),
            ("d=[1,2]", json!({"d": [1, 2]})),
            ("e={\"k\":1}", json!({"e": {"k": 1}})),
            ("n=a=b", json!({"n": "a=b"})),
            ("o.p=1", json!({"o.p": 1})),
            ("q[]=1", json!({"q[]": 1})),
        ] {
            assert_eq!(from(None, &[word]), Ok(expected), "{word}");
        }
    }

    #[test]
    fn cli_22_json_and_pairs() {
        assert_eq!(from(None, &[]), Ok(json!({})));
        assert_eq!(from(Some(json!([1])), &[]), Ok(json!([1])));
        assert_eq!(from(None, &["a=1", "a=2"]), Ok(json!({"a": 2})));
        assert_eq!(from(Some(json!({"z": 1, "a": {"x": 1}})), &["a=1", "b=2"]), Ok(json!({"z": 1, "a": 1, "b": 2})));
    }

    #[test]
    fn cli_24_errors() {
        assert_eq!(from(None, &["word"]).unwrap_err().to_string(), "expected key=value, got 'word'");
        assert_eq!(from(None, &["=v"]).unwrap_err().to_string(), "payload key must not be empty (got '=v')");
        assert_eq!(
            from(Some(json!([1])), &["a=1"]).unwrap_err().to_string(),
            "--json must be an object when combined with kv pairs"
        );
    }
}
