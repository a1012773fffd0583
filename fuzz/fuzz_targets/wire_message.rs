//! The envelope scanner beside serde_json: what it accepts is JSON, and its members are the members.
#![no_main]

use iii_shards::wire::envelope::{Action, Envelope, ErrorBody};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|text: &[u8]| {
    // Shards check UTF-8 before they scan.
    if std::str::from_utf8(text).is_err() {
        return;
    }
    let Ok(envelope) = Envelope::parse(text) else { return };
    let members = &envelope.members;
    let _ = envelope.invocation_id();
    let _ = Action::parse(members.action);
    if let Some(error) = members.error {
        let _ = ErrorBody::parse(error);
    }
    // serde_json stops at 128 levels and refuses numbers that no double can hold; we forward both.
    let Ok(value) = serde_json::from_slice::<Value>(text) else { return };
    assert!(value.is_object());
    for (name, raw) in [
        ("function_id", members.function_id),
        ("data", members.data),
        ("result", members.result),
        ("error", members.error),
        ("namespace", members.namespace),
        ("metadata", members.metadata),
        ("id", members.id),
    ] {
        if let Some(raw) = raw {
            let member: Value = serde_json::from_slice(raw).expect("a member of valid JSON is valid JSON");
            assert_eq!(Some(&member), value.get(name), "{name}");
        }
    }
});
