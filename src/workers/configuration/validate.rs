//! Values against JSON Schemas. jsonschema is named here and nowhere else.

use serde_json::Value;

/// Checks a schema. `Err` says what is wrong with it.
pub fn check_schema(schema: &Value) -> Result<(), String> {
    compile(schema).map(drop)
}

/// Checks a value. `Err` names all violations (CONF-15).
pub fn check_value(schema: &Value, value: &Value) -> Result<(), String> {
    let validator = compile(schema)?;
    let violations: Vec<String> = validator.iter_errors(value).map(|violation| violation.to_string()).collect();
    if violations.is_empty() { Ok(()) } else { Err(format!("schema validation failed: {}", violations.join("; "))) }
}

fn compile(schema: &Value) -> Result<jsonschema::Validator, String> {
    jsonschema::validator_for(schema).map_err(|error| format!("schema validation failed: invalid JSON Schema: {error}"))
}

/// A copy of a value in which what the schema calls a secret is masked (CONF-DB-9).
pub fn masked(schema: Option<&Value>, value: &Value) -> Value {
    let Some(schema) = schema else { return value.clone() };
    let is_secret = schema["writeOnly"] == true || schema["format"] == "password";
    match value {
        Value::Null => Value::Null,
        _ if is_secret => Value::from("********"),
        Value::Object(members) => members
            .iter()
            .map(|(name, member)| (name.clone(), masked(schema["properties"].get(name), member)))
            .collect(),
        Value::Array(elements) => elements.iter().map(|element| masked(schema.get("items"), element)).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    // CONF-15
    #[test]
    fn violations_are_told_in_known_words() {
        let schema = json!({
            "type": "object", "additionalProperties": false,
            "properties": {"port": {"$ref": "#/definitions/port"}},
            "definitions": {"port": {"type": "integer", "minimum": 1}},
        });
        assert_eq!(check_value(&schema, &json!({"port": 1})), Ok(()));
        for (value, text) in [
            (json!({"port": "x"}), r#"schema validation failed: "x" is not of type "integer""#),
            (json!({"port": 0}), "0 is less than the minimum of 1"),
            (json!({"nope": 0}), "Additional properties are not allowed ('nope' was unexpected)"),
        ] {
            let error = check_value(&schema, &value).expect_err("invalid");
            assert!(error.contains(text), "{error}");
        }
        let both = check_value(&schema, &json!({"port": "x", "nope": 1})).expect_err("invalid");
        assert!(both.contains("; "), "{both}");
    }

    // CONF-12, CONF-DB-3
    #[test]
    fn schemas_are_checked() {
        let error = check_schema(&json!({"type": "objec"})).expect_err("no such type");
        assert!(error.starts_with("schema validation failed: invalid JSON Schema: "), "{error}");
        assert_eq!(check_schema(&json!(true)), Ok(()));
        assert!(check_value(&json!(false), &json!(1)).is_err());
    }

    // CONF-DB-9
    #[test]
    fn secrets_are_masked() {
        let schema = json!({"properties": {
            "key": {"writeOnly": true}, "list": {"items": {"format": "password"}}, "url": {},
        }});
        let value = json!({"key": {"a": 1}, "list": ["x"], "url": "u", "more": 1});
        let expected = json!({"key": "********", "list": ["********"], "url": "u", "more": 1});
        assert_eq!(masked(Some(&schema), &value), expected);
        assert_eq!(masked(None, &value), value);
    }
}
