//! The functions of `iii-worker-ops`: ids, descriptions, shapes. `worker::schema` answers with this table.

use serde_json::{Value, json};

/// One function.
pub struct Described {
    /// Its id.
    pub id: &'static str,
    /// One line for people.
    pub description: &'static str,
    /// JSON Schema of the payload.
    pub request: &'static str,
    /// JSON Schema of the result.
    pub response: &'static str,
    /// How long a caller should wait, in milliseconds.
    pub timeout_ms: u64,
    /// Calling it twice does no more than calling it once.
    pub idempotent: bool,
}

const NAME: &str = r#"{"type":"object","required":["name"],"properties":{"name":{"type":"string"}}}"#;
const CONSENT: &str = r#"{"type":"object","required":["name"],"properties":{"name":{"type":"string"},"yes":{"type":"boolean"},"keep":{"type":"boolean"}}}"#;
const NAMES: &str = r#"{"type":"object","properties":{"names":{"type":"array","items":{"type":"string"}},"all":{"type":"boolean"},"yes":{"type":"boolean"}}}"#;
const ADD: &str = r#"{"type":"object","required":["source"],"properties":{"source":{"type":"object","required":["kind"],"properties":{"kind":{"enum":["registry","oci","local"]},"name":{"type":"string"},"version":{"type":"string"},"reference":{"type":"string"},"path":{"type":"string"}}},"force":{"type":"boolean"},"reset_config":{"type":"boolean"},"yes":{"type":"boolean"},"wait":{"type":"boolean"}}}"#;
const LIST: &str = r#"{"type":"object","properties":{"running_only":{"type":"boolean"}}}"#;
const START: &str =
    r#"{"type":"object","required":["name"],"properties":{"name":{"type":"string"},"wait":{"type":"boolean"}}}"#;
const LOGS: &str = r#"{"type":"object","required":["name"],"properties":{"name":{"type":"string"},"tail":{"type":"integer","minimum":0,"maximum":1000},"raw":{"type":"boolean"}}}"#;
const VALIDATE: &str = r#"{"type":"object","properties":{"manifest":{"type":"string"},"path":{"type":"string"}}}"#;
const OBJECT: &str = r#"{"type":"object"}"#;

const fn described(
    id: &'static str,
    description: &'static str,
    request: &'static str,
    timeout_ms: u64,
    idempotent: bool,
) -> Described {
    Described { id, description, request, response: OBJECT, timeout_ms, idempotent }
}

/// All of them. The order is that of the definition.
pub static FUNCTIONS: [Described; 12] = [
    described("worker::add", "Adds a worker to the configuration and starts it.", ADD, 600_000, true),
    described("worker::remove", "Stops workers and takes them out of the configuration.", NAMES, 30_000, true),
    described("worker::update", "Updates workers; there is no registry here.", NAMES, 600_000, true),
    described("worker::start", "Starts a worker.", START, 60_000, true),
    described("worker::stop", "Stops a worker until it is started again.", CONSENT, 30_000, true),
    described("worker::restart", "Stops a worker and starts it again.", NAME, 60_000, false),
    described("worker::list", "Lists the workers of the configuration.", LIST, 10_000, true),
    described("worker::status", "Says how a worker does.", NAME, 10_000, true),
    described("worker::logs", "Last lines of a worker's output.", LOGS, 10_000, true),
    described("worker::clear", "Forgets what was installed for workers, and their logs.", NAMES, 30_000, true),
    described("worker::schema", "Describes these functions.", OBJECT, 10_000, true),
    described("worker::validate", "Checks a manifest.", VALIDATE, 10_000, true),
];

/// The answer of `worker::schema`.
pub fn describe(wanted: Option<&str>) -> Value {
    let json = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
    let rows = FUNCTIONS.iter().filter(|function| wanted.is_none_or(|wanted| wanted == function.id));
    let mut rows: Vec<Value> = rows
        .map(|function| {
            json!({
                "function_id": function.id, "description": function.description,
                "request": json(function.request), "response": json(function.response),
                "default_timeout_ms": function.timeout_ms, "idempotent": function.idempotent,
            })
        })
        .collect();
    if wanted.is_none_or(|wanted| wanted == "iii.worker.yaml") {
        let text = json!({"type": "string"});
        rows.push(json!({
            "function_id": "iii.worker.yaml", "description": "The manifest of a worker project.",
            "request": {
                "type": "object", "required": ["name"],
                "properties": {
                    "name": text, "description": text,
                    "scripts": {"type": "object", "properties": {"setup": text, "install": text, "start": text}},
                    "env": {"type": "object"}, "dependencies": {"type": "object"}, "resources": {"type": "object"},
                    "runtime": {"type": "object"},
                },
            },
            "response": null, "default_timeout_ms": null, "idempotent": true,
        }));
    }
    json!({ "schemas": rows })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemas_are_json() {
        for function in &FUNCTIONS {
            assert!(serde_json::from_str::<Value>(function.request).is_ok(), "{}", function.id);
        }
        assert_eq!(describe(Some("worker::add"))["schemas"].as_array().map(Vec::len), Some(1));
        assert_eq!(describe(None)["schemas"].as_array().map(Vec::len), Some(FUNCTIONS.len() + 1));
    }
}
