//! Every operation as a table, and all of them against a model built on JSON trees.

use super::{apply, parse, write_errors};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// The new document and the errors' codes and messages.
fn run(stored: Option<&str>, ops: &str) -> (String, Vec<(usize, String, String)>) {
    let ops = parse(ops.as_bytes()).expect("the operations fit");
    let updated = apply(stored.map(str::as_bytes), &ops);
    let errors = updated.errors.into_iter().map(|error| (error.op_index, error.code, error.message)).collect();
    (String::from_utf8(updated.value).expect("the document is text"), errors)
}

/// One operation that works.
fn check(stored: Option<&str>, op: &str, expected: &str) {
    assert_eq!(run(stored, &format!("[{op}]")), (expected.to_owned(), Vec::new()), "{stored:?} after {op}");
}

/// One operation that is refused and changes nothing.
fn check_refused(stored: Option<&str>, op: &str, code: &str, message: &str) {
    let unchanged = stored.unwrap_or("{}").to_owned();
    let expected = (unchanged, vec![(0, code.to_owned(), message.to_owned())]);
    assert_eq!(run(stored, &format!("[{op}]")), expected, "{stored:?} after {op}");
}

// STATE-34
#[test]
fn set() {
    check(None, r#"{"type":"set","path":"","value":5}"#, "5");
    check(Some("[1]"), r#"{"type":"set","path":"","value":{"a" : 1.10}}"#, r#"{"a" : 1.10}"#);
    check(Some("[1]"), r#"{"type":"set","path":""}"#, "null");
    check(None, r#"{"type":"set","path":"a","value":[1]}"#, r#"{"a":[1]}"#);
    check(Some(r#"{"z":1,"a":2}"#), r#"{"type":"set","path":"z","value":"é"}"#, r#"{"z":"é","a":2}"#);
    check(Some(r#"{"a":2}"#), r#"{"type":"set","path":"b"}"#, r#"{"a":2,"b":null}"#);
    // STATE-32: a dot is a character like any other.
    check(Some("{}"), r#"{"type":"set","path":"user.name","value":1}"#, r#"{"user.name":1}"#);
    check(Some("{}"), r#"{"type":"set","path":"q\"","value":1}"#, r#"{"q\"":1}"#);
    for (stored, kind) in [("null", "null"), ("true", "boolean"), ("-1", "number"), ("\"\"", "string"), ("[]", "array")]
    {
        let message = format!("Cannot set at path 'a': target is {kind}, expected object.");
        let op = r#"{"type":"set","path":"a","value":1}"#;
        check_refused(Some(stored), op, "set.target_not_object", &message);
    }
}

// STATE-34
#[test]
fn merge() {
    check(None, r#"{"type":"merge","value":{"a":1}}"#, r#"{"a":1}"#);
    check(
        Some(r#"{"a":1,"b":{"c":1}}"#),
        r#"{"type":"merge","path":null,"value":{"b":2,"d":3}}"#,
        r#"{"a":1,"b":2,"d":3}"#,
    );
    check(Some(r#"{"a":1}"#), r#"{"type":"merge","path":"","value":{}}"#, r#"{"a":1}"#);
    check(Some(r#"{"a":1}"#), r#"{"type":"merge","path":[],"value":{"b":0}}"#, r#"{"a":1,"b":0}"#);
    check(Some(r#"{"p":{"a":1}}"#), r#"{"type":"merge","path":"p","value":{"b":2}}"#, r#"{"p":{"a":1,"b":2}}"#);
    check(Some(r#"{"p":{"a":1}}"#), r#"{"type":"merge","path":["p"],"value":{"b":2}}"#, r#"{"p":{"a":1,"b":2}}"#);
    check(Some(r#"{"p":[1]}"#), r#"{"type":"merge","path":["p","q"],"value":{"b":2}}"#, r#"{"p":{"q":{"b":2}}}"#);
    check(Some(r#"{"p":null}"#), r#"{"type":"merge","path":"p","value":{"b":2}}"#, r#"{"p":{"b":2}}"#);
    check(Some("5"), r#"{"type":"merge","path":"p","value":{"a":1}}"#, r#"{"p":{"a":1}}"#);
    let message = "Cannot merge at path 'root': target is number, expected object.";
    check_refused(Some("5"), r#"{"type":"merge","value":{"a":1}}"#, "merge.target_not_object", message); // STATE-DB-11
}

// STATE-34, STATE-35
#[test]
fn increment_and_decrement() {
    for (stored, op, expected) in [
        (None, r#"{"type":"increment","path":"","by":3}"#, "3"),
        (None, r#"{"type":"decrement","path":"","by":3}"#, "-3"),
        (Some("5"), r#"{"type":"increment","path":"","by":3}"#, "8"),
        (Some("5"), r#"{"type":"decrement","path":"","by":3}"#, "2"),
        (None, r#"{"type":"increment","path":"n","by":3}"#, r#"{"n":3}"#),
        (None, r#"{"type":"decrement","path":"n","by":3}"#, r#"{"n":-3}"#),
        (Some(r#"{"n":2}"#), r#"{"type":"increment","path":"n","by":3}"#, r#"{"n":5}"#),
        (Some(r#"{"n":2.0}"#), r#"{"type":"decrement","path":"n","by":3}"#, r#"{"n":-1.0}"#),
        (
            Some(r#"{"n":9223372036854775807}"#),
            r#"{"type":"increment","path":"n","by":1}"#,
            r#"{"n":9223372036854775808}"#,
        ),
        (Some("{}"), r#"{"type":"decrement","path":"n","by":-9223372036854775808}"#, r#"{"n":9223372036854775808}"#),
        (Some(r#"{"n":1}"#), r#"{"type":"increment","path":"n","by":0.5}"#, r#"{"n":1.5}"#), // STATE-DB-7
        (Some(r#"{"n":1}"#), r#"{"type":"increment","path":"n","by":3.0}"#, r#"{"n":4}"#),
    ] {
        check(stored, op, expected);
    }
    for verb in ["increment", "decrement"] {
        let op = |path: &str| format!(r#"{{"type":"{verb}","path":"{path}","by":1}}"#);
        let not_number = format!("{verb}.not_number");
        for (stored, kind) in [("null", "null"), ("{}", "object"), ("\"1\"", "string"), ("[1]", "array")] {
            let message = format!("Expected number at path 'root', got {kind}.");
            check_refused(Some(stored), &op(""), &not_number, &message);
            let message = format!("Expected number at path 'n', got {kind}.");
            check_refused(Some(&format!(r#"{{"n":{stored}}}"#)), &op("n"), &not_number, &message);
        }
        let message = format!("Cannot {verb} at path 'n': target is array, expected object.");
        check_refused(Some("[1]"), &op("n"), &format!("{verb}.target_not_object"), &message);
    }
    let over = r#"{"type":"increment","path":"n","by":1}"#;
    let message = "Expected number at path 'n', got number.";
    check_refused(Some(r#"{"n":18446744073709551615}"#), over, "increment.not_number", message);
}

// STATE-34, S19, S20
#[test]
fn append() {
    for (stored, op, expected) in [
        (None, r#"{"type":"append","value":"a"}"#, r#""a""#),
        (None, r#"{"type":"append","path":"","value":1}"#, "[1]"),
        (Some("null"), r#"{"type":"append","value":"a"}"#, r#""a""#),
        (Some("null"), r#"{"type":"append","value":{}}"#, "[{}]"),
        (Some("[]"), r#"{"type":"append","value":1}"#, "[1]"),
        (Some("[ ]"), r#"{"type":"append","value":1}"#, "[ 1]"),
        (Some("[1]"), r#"{"type":"append","value":[2]}"#, "[1,[2]]"),
        (Some(r#""a""#), r#"{"type":"append","value":"\u00e9"}"#, r#""a\u00e9""#),
        (Some("{}"), r#"{"type":"append","path":"f","value":"a"}"#, r#"{"f":"a"}"#),
        (Some("{}"), r#"{"type":"append","path":["f"],"value":"a"}"#, r#"{"f":"a"}"#),
        (Some(r#"{"f":null}"#), r#"{"type":"append","path":"f","value":7}"#, r#"{"f":[7]}"#),
        (Some(r#"{"f":[1]}"#), r#"{"type":"append","path":"f","value":[2]}"#, r#"{"f":[1,[2]]}"#),
        (Some(r#"{"f":"a"}"#), r#"{"type":"append","path":"f","value":"b"}"#, r#"{"f":"ab"}"#),
        (Some("{}"), r#"{"type":"append","path":["a","b"],"value":"s"}"#, r#"{"a":{"b":["s"]}}"#),
        (Some("5"), r#"{"type":"append","path":["a","b"],"value":"s"}"#, r#"{"a":{"b":["s"]}}"#),
        (Some(r#"{"a":{"b":null}}"#), r#"{"type":"append","path":["a","b"],"value":"s"}"#, r#"{"a":{"b":"s"}}"#),
        (Some(r#"{"a":{"b":"r"}}"#), r#"{"type":"append","path":["a","b"],"value":"s"}"#, r#"{"a":{"b":"rs"}}"#),
        (Some(r#"{"a":[1,2,3]}"#), r#"{"type":"append","path":["a","b"],"value":42}"#, r#"{"a":{"b":[42]}}"#),
    ] {
        check(stored, op, expected);
    }
    let expected = "expected array, string, null, or missing field.";
    for (stored, op, code, message) in [
        (
            "{}",
            r#"{"type":"append","value":"a"}"#,
            "append.type_mismatch",
            format!("Cannot append at path 'root': target is object, {expected}"),
        ),
        (
            r#""a""#,
            r#"{"type":"append","value":1}"#,
            "append.type_mismatch",
            "Expected string append value at path 'root', got number.".to_owned(),
        ),
        (
            r#"{"f":true}"#,
            r#"{"type":"append","path":"f","value":1}"#,
            "append.type_mismatch",
            format!("Cannot append at path 'f': target is boolean, {expected}"),
        ),
        (
            r#"{"a":{"b":"r"}}"#,
            r#"{"type":"append","path":["a","b"],"value":[]}"#,
            "append.type_mismatch",
            "Expected string append value at path 'b', got array.".to_owned(),
        ),
        (
            "[1]",
            r#"{"type":"append","path":"f","value":1}"#,
            "append.target_not_object",
            "Cannot append at path '[f]': target is array, expected object.".to_owned(),
        ),
    ] {
        check_refused(Some(stored), op, code, &message);
    }
}

// STATE-34
#[test]
fn remove() {
    check(None, r#"{"type":"remove","path":""}"#, "null");
    check(Some("[1]"), r#"{"type":"remove","path":""}"#, "null");
    check(Some(r#"{"a":1,"b":2,"c":3}"#), r#"{"type":"remove","path":"b"}"#, r#"{"a":1,"c":3}"#);
    check(Some(r#"{"a":1}"#), r#"{"type":"remove","path":"x"}"#, r#"{"a":1}"#);
    let message = "Cannot remove at path 'a': target is string, expected object.";
    check_refused(Some("\"x\""), r#"{"type":"remove","path":"a"}"#, "remove.target_not_object", message);
}

// STATE-36, STATE-37
#[test]
fn what_is_dangerous_is_refused_before_anything_changes() {
    let long = "é".repeat(129);
    let too_long = "Path segment of 258 bytes exceeds maximum of 256";
    for verb in ["set", "increment", "decrement", "append", "merge", "remove"] {
        let op = |path: &str| format!(r#"{{"type":"{verb}","path":"{path}","value":{{}},"by":1}}"#);
        for name in ["__proto__", "constructor", "prototype"] {
            let message = format!("Path segment '{name}' is not allowed (prototype pollution).");
            check_refused(Some("5"), &op(name), &format!("{verb}.path.proto_polluted"), &message);
        }
        check_refused(Some("5"), &op(&long), &format!("{verb}.path.segment_too_long"), too_long);
    }
    for verb in ["append", "merge"] {
        let op = |path: &str| format!(r#"{{"type":"{verb}","path":{path},"value":{{}}}}"#);
        let deep = serde_json::to_string(&vec!["a"; 33]).expect("a list");
        let message = "Path depth 33 exceeds maximum of 32";
        check_refused(Some("5"), &op(&deep), &format!("{verb}.path.too_deep"), message);
        let deep = serde_json::to_string(&vec!["a"; 32]).expect("a list");
        assert_eq!(run(Some("5"), &format!("[{}]", op(&deep))).1, []);
        let message = "Path contains an empty segment";
        check_refused(Some("5"), &op(r#"["a",""]"#), &format!("{verb}.path.empty_segment"), message);
        check_refused(Some("5"), &op(r#"[""]"#), &format!("{verb}.path.empty_segment"), message);
        let message = "Path segment '__proto__' is not allowed (prototype pollution).";
        check_refused(Some("5"), &op(r#"["a","__proto__"]"#), &format!("{verb}.path.proto_polluted"), message);
    }
}

// STATE-36, STATE-37
#[test]
fn values_to_merge_are_bounded() {
    let op = |value: &str| format!(r#"{{"type":"merge","path":"p","value":{value}}}"#);
    let refused = |value: &str, code: &str, message: &str| {
        check_refused(Some(r#"{"p":1}"#), &op(value), &format!("merge.value.{code}"), message);
    };
    refused("[1]", "not_an_object", "Merge value must be a JSON object");
    refused("null", "not_an_object", "Merge value must be a JSON object");
    let many = |count: usize| Value::Object((0..count).map(|n| (n.to_string(), json!(n))).collect()).to_string();
    refused(&many(1025), "too_many_keys", "Merge value has 1025 top-level keys, exceeds maximum of 1024");
    assert_eq!(run(None, &format!("[{}]", op(&many(1024)))).1, []);
    let message = "Merge value top-level key \"constructor\" is a prototype-pollution sink";
    refused(r#"{"a":1,"c\u006fnstructor":1}"#, "proto_polluted", message);
    let deep = |levels: usize| format!(r#"{}"[{{\""{}"#, r#"{"a":"#.repeat(levels), "}".repeat(levels));
    refused(&deep(17), "too_deep", "Merge value JSON nesting depth 17 exceeds maximum of 16");
    assert_eq!(run(None, &format!("[{}]", op(&deep(16)))).1, []);
}

// STATE-30, STATE-33
#[test]
fn operations_are_best_effort_from_left_to_right() {
    let ops = r#"[{"type":"set","path":"ok","value":1},{"type":"set","path":"__proto__","value":1},
        {"type":"increment","path":"ok","by":2},{"type":"remove","path":"gone"}]"#;
    let (document, errors) = run(None, ops);
    assert_eq!(document, r#"{"ok":3}"#);
    assert_eq!(
        errors.iter().map(|error| (error.0, error.1.as_str())).collect::<Vec<_>>(),
        [(1, "set.path.proto_polluted")]
    );
    // What fails leaves an absent key fresh, what works does not.
    let fails = r#"{"type":"append","path":["a",""],"value":1}"#;
    assert_eq!(run(None, &format!(r#"[{fails},{{"type":"increment","path":"","by":1}}]"#)).0, "1");
    let works = r#"{"type":"remove","path":"x"}"#;
    let (document, errors) = run(None, &format!(r#"[{works},{{"type":"increment","path":"","by":1}}]"#));
    assert_eq!((document.as_str(), errors.len()), ("{}", 1));
    assert_eq!(run(None, "[]").0, "{}"); // STATE-38
}

// Decision 12: what no path leads to keeps its bytes.
#[test]
fn what_is_not_touched_keeps_its_bytes() {
    let stored = r#"{"big":123456789012345678901234567890,"dup":{"a":1,"a":2}, "e\u0301":1.50,"n":1}"#;
    check(
        Some(stored),
        r#"{"type":"increment","path":"n","by":1}"#,
        r#"{"big":123456789012345678901234567890,"dup":{"a":1,"a":2},"e\u0301":1.50,"n":2}"#,
    );
}

// STATE-11, STATE-32, STATE-DB-8
#[test]
fn malformed_operations_are_named() {
    let kinds = "`set`, `merge`, `increment`, `decrement`, `append`, `remove`";
    for (ops, expected) in [
        ("{}", "invalid type: map, expected a sequence".to_owned()),
        ("null", "invalid type: null, expected a sequence".to_owned()),
        ("[5]", "ops[0]: invalid type: integer `5`, expected an update operation".to_owned()),
        (r#"[{"path":"a"}]"#, "ops[0]: missing field `type`".to_owned()),
        (r#"[{"type":"bogus"}]"#, format!("ops[0]: unknown variant `bogus`, expected one of {kinds}")),
        (r#"[{"type":"Set","path":""}]"#, format!("ops[0]: unknown variant `Set`, expected one of {kinds}")),
        (r#"[{"type":"remove","path":""},{"type":"set"}]"#, "ops[1]: missing field `path`".to_owned()),
        (r#"[{"type":"set","path":null}]"#, "ops[0]: invalid type: null, expected a string".to_owned()),
        (r#"[{"type":"remove","path":["a"]}]"#, "ops[0]: invalid type: sequence, expected a string".to_owned()),
        (r#"[{"type":"increment","path":"a"}]"#, "ops[0]: missing field `by`".to_owned()),
        (
            r#"[{"type":"increment","path":"a","by":"1"}]"#,
            "ops[0]: invalid type: string \"1\", expected a finite number".to_owned(),
        ),
        (r#"[{"type":"merge","path":"a"}]"#, "ops[0]: missing field `value`".to_owned()),
        (
            r#"[{"type":"append","path":[1],"value":1}]"#,
            "ops[0]: invalid type: integer `1`, expected a string".to_owned(),
        ),
    ] {
        assert_eq!(parse(ops.as_bytes()), Err(expected), "{ops}");
    }
}

#[test]
fn errors_are_written_as_json() {
    let ops = parse(br#"[{"type":"set","path":"q\"","value":1}]"#).expect("the operations fit");
    let mut out = Vec::new();
    write_errors(&mut out, &apply(Some(b"[]"), &ops).errors);
    let message = "Cannot set at path 'q\"': target is array, expected object.";
    let expected = json!([{"op_index": 0, "code": "set.target_not_object", "message": message}]);
    assert_eq!(serde_json::from_slice::<Value>(&out).expect("it is JSON"), expected);
}

// === the model: the same rules on trees ===

fn model(stored: Option<Value>, ops: &[Value]) -> (Value, Vec<usize>) {
    let mut fresh = stored.is_none();
    let mut document = stored.unwrap_or_else(|| json!({}));
    let mut failed = Vec::new();
    for (index, op) in ops.iter().enumerate() {
        let mut changed = document.clone();
        if model_op(&mut changed, op, fresh).is_some() {
            (document, fresh) = (changed, false);
        } else {
            failed.push(index);
        }
    }
    (document, failed)
}

fn model_op(document: &mut Value, op: &Value, fresh: bool) -> Option<()> {
    let path: Vec<String> = match &op["path"] {
        Value::String(segment) if !segment.is_empty() => vec![segment.clone()],
        Value::Array(segments) => segments.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    };
    let value = op["value"].clone();
    let kind = op["type"].as_str()?;
    match (kind, path.as_slice()) {
        ("set", []) => *document = value,
        ("remove", []) => *document = Value::Null,
        ("merge", path) => {
            value.as_object()?;
            if path.is_empty() {
                document.as_object()?;
            }
            model_walk(document, path).extend(value.as_object().cloned()?);
        }
        ("increment" | "decrement", []) => {
            let by = if kind == "increment" { op["by"].as_i64()? } else { -op["by"].as_i64()? };
            *document = json!(if fresh { by } else { document.as_i64()? + by });
        }
        ("append", []) if fresh => *document = model_first(value),
        ("append", []) => model_append(document, value)?,
        ("append", [parents @ .., leaf]) => {
            if parents.is_empty() {
                document.as_object()?;
            }
            let members = model_walk(document, parents);
            match members.get_mut(leaf) {
                Some(target) => model_append(target, value)?,
                None if parents.is_empty() => drop(members.insert(leaf.clone(), model_first(value))),
                None => drop(members.insert(leaf.clone(), json!([value]))),
            }
        }
        ("set", [field]) => drop(document.as_object_mut()?.insert(field.clone(), value)),
        ("remove", [field]) => drop(document.as_object_mut()?.shift_remove(field)),
        (_, [field]) => {
            let by = if kind == "increment" { op["by"].as_i64()? } else { -op["by"].as_i64()? };
            let members = document.as_object_mut()?;
            let sum = members.get(field).map_or(Some(0), Value::as_i64)? + by;
            members.insert(field.clone(), json!(sum));
        }
        _ => return None,
    }
    Some(())
}

fn model_walk<'v>(document: &'v mut Value, path: &[String]) -> &'v mut Map<String, Value> {
    let mut place = document;
    for segment in path {
        if !place.is_object() {
            *place = json!({});
        }
        place = &mut place[segment];
    }
    if !place.is_object() {
        *place = json!({});
    }
    place.as_object_mut().expect("it is an object now")
}

fn model_first(value: Value) -> Value {
    if value.is_string() { value } else { json!([value]) }
}

fn model_append(target: &mut Value, value: Value) -> Option<()> {
    match (target, value) {
        (target @ Value::Null, value) => *target = model_first(value),
        (Value::Array(elements), value) => elements.push(value),
        (Value::String(text), Value::String(more)) => text.push_str(&more),
        _ => return None,
    }
    Some(())
}

fn name() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "b", "é\"", "d.e"]).prop_map(str::to_owned)
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-1000i64..1000).prop_map(Value::from),
        "[a\"\\\\é\n]{0,3}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::vec((name(), inner), 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn op() -> impl Strategy<Value = Value> {
    let field = prop_oneof![Just(json!("")), name().prop_map(Value::from)];
    let path = prop_oneof![field.clone(), Just(Value::Null), prop::collection::vec(name(), 0..4).prop_map(Value::from)];
    prop_oneof![
        (field.clone(), value()).prop_map(|(path, value)| json!({"type": "set", "path": path, "value": value})),
        (path.clone(), value()).prop_map(|(path, value)| json!({"type": "merge", "path": path, "value": value})),
        (path, value()).prop_map(|(path, value)| json!({"type": "append", "path": path, "value": value})),
        (field.clone(), -9i64..9).prop_map(|(path, by)| json!({"type": "increment", "path": path, "by": by})),
        (field.clone(), -9i64..9).prop_map(|(path, by)| json!({"type": "decrement", "path": path, "by": by})),
        field.prop_map(|path| json!({"type": "remove", "path": path})),
    ]
}

proptest! {
    #[test]
    fn agrees_with_the_model(stored in prop::option::of(value()), ops in prop::collection::vec(op(), 0..12)) {
        let text = stored.as_ref().map(Value::to_string);
        let (document, errors) = run(text.as_deref(), &Value::from(ops.clone()).to_string());
        let (expected, failed) = model(stored, &ops);
        prop_assert_eq!(serde_json::from_str::<Value>(&document).expect("it is JSON"), expected);
        prop_assert_eq!(errors.iter().map(|error| error.0).collect::<Vec<_>>(), failed);
    }
}
