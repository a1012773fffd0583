//! The scanner against tables, and against a full parser.

use proptest::prelude::*;

use super::*;

#[test]
fn accepts_and_refuses() {
    let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
    for good in [
        "null",
        " true ",
        "-0",
        "1e5",
        "1.5E-3",
        "[]",
        "{}",
        "[1,[2,{}]]",
        "{\"a\":{\"b\":[]},\"c\":1}",
        "\"\\u00e9\\ud83d\\ude00\"",
        "12345678901234567890",
        "{ \"a\" : [ 1 , 2 ] }",
        &deep(128),
    ] {
        assert!(Raw::parse(good.as_bytes()).is_some(), "{good}");
    }
    for bad in [
        "",
        " ",
        "nul",
        "01",
        "1.",
        ".5",
        "+1",
        "1e",
        "-",
        "[1,]",
        "{,}",
        "{\"a\":}",
        "{\"a\"}",
        "{a:1}",
        "[}",
        "{]",
        "\"a",
        "\"\n\"",
        "\"\\x\"",
        "\"\\u12\"",
        "\"\\ud800\"",
        "\"\\udc00\"",
        "\"\\ud800\\u0041\"",
        "1 2",
        "NaN",
        "1e999",
        "[1",
        "{\"a\":1",
        "'a'",
        "\u{feff}1",
        &deep(129),
    ] {
        assert!(Raw::parse(bad.as_bytes()).is_none(), "{bad}");
    }
    assert!(Raw::parse(b"\"\xff\"").is_none());
    assert!(Raw::parse("[".repeat(1 << 20).as_bytes()).is_none());
}

#[test]
fn integers_include_integral_floats() {
    let integer = |text: &str| Raw::parse(text.as_bytes()).unwrap().integer();
    assert_eq!(integer("404"), Some(404));
    assert_eq!(integer("404.0"), Some(404));
    assert_eq!(integer("2e2"), Some(200));
    assert_eq!(integer("-1"), None);
    assert_eq!(integer("1.5"), None);
    assert_eq!(integer("\"404\""), None);
}

#[test]
fn compacts_only_what_has_space() {
    let compact = |text: &'static str| Raw::parse(text.as_bytes()).unwrap().compact();
    assert!(matches!(compact(" {\"a b\":[1]} "), Cow::Borrowed(b"{\"a b\":[1]}")));
    assert_eq!(compact("{ \"a \\\" b\" : [1,\n2] }").as_ref(), b"{\"a \\\" b\":[1,2]}");
}

fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        (-1e300..1e300f64).prop_map(Into::into),
        "\\PC*|[\\x00-\\x7f]*".prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
            prop::collection::vec(("[a-z\"\\\\]{0,5}", inner), 0..6)
                .prop_map(|members| serde_json::Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn agrees_with_a_full_parser(value in any_json()) {
        for text in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
            let raw = Raw::parse(text.as_bytes()).expect("valid");
            prop_assert_eq!(String::from_utf8(raw.compact().into_owned()).unwrap(), value.to_string());
            // Any cut must be refused, numbers aside.
            let cut = &text.as_bytes()[..text.len() - 1];
            prop_assert_eq!(Raw::parse(cut).is_some(), serde_json::from_slice::<serde_json::Value>(cut).is_ok());
        }
    }

    #[test]
    fn agrees_on_garbage(text in "[\\[\\]{}:, \"\\\\a0-9.eE+\\-tru]{0,24}") {
        let full = serde_json::from_str::<serde_json::Value>(&text).is_ok();
        prop_assert_eq!(Raw::parse(text.as_bytes()).is_some(), full, "{}", text);
    }

    #[test]
    fn strings_survive(text in any::<String>()) {
        let mut out = Vec::new();
        write_string(&mut out, &text);
        prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text.clone());
        prop_assert_eq!(Raw::parse(&out).unwrap().string().unwrap(), text);
    }
}
