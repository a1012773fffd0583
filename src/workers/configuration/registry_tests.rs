//! Tests of the registry.

use super::*;

fn variables(name: &str) -> Option<String> {
    (name == "SET").then(|| "7".to_owned())
}

fn entry(id: &str, schema: Value, value: Option<Value>) -> Entry {
    let (name, description) = ("n".to_owned(), "d".to_owned());
    Entry { id: id.to_owned(), name, description, schema: Some(schema), value, metadata: None }
}

fn port() -> Value {
    json!({"type": "object", "properties": {"port": {"type": "integer"}}})
}

fn registered(value: Option<Value>) -> Registry {
    let mut registry = Registry::default();
    let change = registry.register(Registration { entry: entry("a", port(), value) }, &variables).expect("valid");
    assert_eq!(change.what, Some(What::Registered));
    registry.apply(&change);
    registry
}

fn code<T: std::fmt::Debug>(outcome: Result<T, Failure>) -> (String, String) {
    let failure = outcome.expect_err("refused");
    (failure.code.into_owned(), failure.message)
}

// C9
#[test]
fn ids() {
    for id in ["a", "iii-state", "a_1", &"x".repeat(64)] {
        assert!(is_id(id), "{id}");
    }
    for id in ["My", "a b", "", &"x".repeat(65), "a.b", "../x"] {
        assert!(!is_id(id), "{id}");
    }
    let refused = Registry::default().set("My", json!(1), None, &variables);
    assert_eq!(code(refused).1, "invalid configuration id 'My': must match [a-z0-9_-]{1,64}");
}

// CONF-10 to CONF-12, CONF-DB-3, CONF-DB-8
#[test]
fn registering() {
    let mut registry = registered(Some(json!({"port": "${NOPE:4242}"})));
    let again = Registration { entry: entry("a", port(), None) };
    let change = registry.register(again, &variables).expect("valid");
    assert_eq!(change.what, None, "nothing has changed");
    assert_eq!(change.answer["value"], json!({"port": "${NOPE:4242}"}), "the value stays, as stored");
    let stricter = Registration { entry: entry("a", json!({"type": "string"}), None) };
    let change = registry.register(stricter, &variables).expect("a kept value is not checked");
    assert_eq!(change.what, Some(What::Updated));
    registry.apply(&change);
    assert_eq!(code(registry.get("a", false, &variables)).0, "SCHEMA_INVALID");
    let bad = Registration { entry: entry("b", json!({"type": "objec"}), None) };
    assert_eq!(code(registry.register(bad, &variables)).0, "SCHEMA_INVALID");
    let bad = Registration { entry: entry("b", port(), Some(json!({"port": "x"}))) };
    let (code, message) = code(registry.register(bad, &variables));
    assert_eq!((&*code, &*message), ("SCHEMA_INVALID", r#"schema validation failed: "x" is not of type "integer""#));
}

// CONF-13, CONF-14, CONF-DB-5, CONF-DB-6, C1 to C5, C10, C11
#[test]
fn setting_and_getting() {
    let mut registry = registered(None);
    assert_eq!(registry.get("a", false, &variables), Ok(json!({"id": "a", "value": null})), "never set");
    assert_eq!(code(registry.set("b", json!(1), None, &variables)).0, "NOT_REGISTERED");
    assert_eq!(code(registry.get("b", true, &variables)).1, "configuration 'b' not found");
    assert_eq!(code(registry.schema("B")).0, "NOT_FOUND");
    assert_eq!(code(registry.set("a", json!({"port": "x"}), None, &variables)).0, "SCHEMA_INVALID");
    for (value, expanded) in [
        (json!({"port": "${SET}"}), Ok(json!({"id": "a", "value": {"port": 7}}))),
        (json!({"port": "${A}", "x": "${B}"}), Err("A, B")),
    ] {
        let change = registry.set("a", value.clone(), None, &variables).expect("accepted");
        assert_eq!(change.answer["new_value"], value);
        registry.apply(&change);
        match expanded {
            Ok(expanded) => assert_eq!(registry.get("a", false, &variables), Ok(expanded)),
            Err(names) => {
                let (code, message) = code(registry.get("a", false, &variables));
                assert_eq!(code, "EXPAND_FAILED");
                assert!(message.ends_with(&format!("with no default: {names}")), "{message}");
            }
        }
        assert_eq!(registry.get("a", true, &variables), Ok(json!({"id": "a", "value": value})));
    }
    assert_eq!(code(registry.set("a", json!({}), Some(&json!(1)), &variables)).0, "CONFLICT");
    let old = json!({"port": "${A}", "x": "${B}"});
    assert!(registry.set("a", json!({}), Some(&old), &variables).is_ok());
}

// CONF-51, CONF-54, CONF-55, C12, C13
#[test]
fn files_edited_by_hand() {
    let mut registry = registered(Some(json!({"port": 1})));
    let file = |value| Entry { schema: None, ..entry("a", Value::Null, Some(value)) };
    assert_eq!(registry.edited(file(json!({"port": 1})), &variables), Ok(None));
    assert!(registry.edited(file(json!({"port": "x"})), &variables).is_err());
    assert!(registry.edited(file(json!({"port": "${UNSET}"})), &variables).is_err());
    let change = registry.edited(file(json!({"port": 2})), &variables).expect("valid").expect("new");
    assert_eq!(change.what, Some(What::Updated));
    let before = registry.apply(&change);
    let told = event(What::Updated, before.as_ref(), registry.entry("a"), &variables).expect("an event");
    assert_eq!((&told["old_value"], &told["new_value"]), (&json!({"port": 1}), &json!({"port": 2})));
    assert_eq!(registry.entry("a").and_then(|entry| entry.schema.clone()), Some(port()), "the schema stays");
    let dropped_in = Entry { id: "new".into(), ..file(json!(1)) };
    let change = registry.edited(dropped_in, &variables).expect("valid").expect("new");
    assert_eq!(change.what, Some(What::Registered));
    registry.apply(&change);
    assert_eq!(code(registry.set("new", json!(1), None, &variables)).0, "SCHEMA_UNAVAILABLE");
    let change = registry.delete("new").expect("there");
    let before = registry.apply(&change);
    let told = event(What::Deleted, before.as_ref(), None, &variables).expect("an event");
    assert_eq!(
        (&told["event_type"], &told["old_value"], &told["new_value"]),
        (&json!("configuration:deleted"), &json!(1), &Value::Null)
    );
}
