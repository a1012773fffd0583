//! The JSON Schema of the configuration file, made from the types that read it.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::Top;
use super::catalog::{BuiltIn, CATALOG, Facts};
use super::settings::{
    BridgeSettings, ConfigurationSettings, CronSettings, EngineFunctionsSettings, ExecSettings, HttpFunctionsSettings,
    HttpSettings, ObservabilitySettings, PubSubSettings, QueueSettings, StateSettings, StreamSettings,
    WorkerManagerSettings, tolerates_unknown_keys,
};

/// The schema as pretty JSON with a final line feed, as `config.schema.json` holds it.
pub fn schema() -> String {
    let mut generator = SchemaSettings::draft07().into_generator();
    let branches: Vec<Value> = CATALOG.iter().map(|facts| branch(facts, &mut generator)).collect();
    let mut root = Value::from(Top::json_schema(&mut generator));
    let mut definitions = Value::Object(generator.take_definitions(true));
    admit_older_spellings(&mut definitions);
    definitions["Entry"] = entry(branches);
    for value in [&mut root, &mut definitions] {
        admit_references(value);
    }
    for list in ["workers", "modules"] {
        let property = &mut root["properties"][list];
        property["type"] = json!(["array", "null"]);
        property["items"] = json!({ "$ref": "#/definitions/Entry" });
    }
    root["$schema"] = json!("http://json-schema.org/draft-07/schema#");
    root["title"] = json!("iii configuration");
    root["definitions"] = definitions;
    serde_json::to_string_pretty(&root).expect("a JSON value can be written as JSON") + "\n"
}

fn entry(branches: Vec<Value>) -> Value {
    json!({
        "type": "object",
        "description": "A worker to run.",
        "anyOf": [{ "required": ["name"] }, { "required": ["class"] }],
        "properties": {
            "name": { "type": "string", "description": "Worker, optionally with a #suffix." },
            "class": { "type": "string", "description": "Worker by its class, as in older files." },
            "config": { "description": "Settings of the worker." },
            "image": { "type": ["string", "null"], "description": "OCI image of an external worker." },
            "worker_path": { "type": ["string", "null"], "description": "Project directory of a local worker." },
            "enabled": { "type": "boolean", "default": true, "description": "false = the entry is skipped." },
            "restart": {
                "enum": ["on-failure", "always"], "default": "on-failure",
                "description": "Whether the process is started again when it ends well.",
            },
            "watch": { "enum": ["auto", true, false], "default": "auto", "description": "Restart on source changes." },
        },
        "allOf": branches,
    })
}

/// If the entry names this worker, its settings have this shape.
fn branch(facts: &Facts, generator: &mut SchemaGenerator) -> Value {
    let words: Vec<&str> = facts.aliases.iter().copied().chain([facts.name]).collect();
    let name = json!({ "pattern": format!("^({})(#.*)?$", words.join("|")) });
    let mut conditions = vec![json!({ "properties": { "name": name }, "required": ["name"] })];
    if !facts.classes.is_empty() {
        let classes: Vec<String> = facts.classes.iter().map(|class| format!("modules::{class}")).collect();
        conditions.push(json!({ "properties": { "class": { "enum": classes } }, "required": ["class"] }));
    }
    let settings = settings_of(facts.worker, generator);
    json!({ "if": { "anyOf": conditions }, "then": { "properties": { "config": settings } } })
}

fn settings_of(worker: BuiltIn, generator: &mut SchemaGenerator) -> Value {
    let settings = match worker {
        BuiltIn::WorkerManager => generator.subschema_for::<WorkerManagerSettings>(),
        BuiltIn::EngineFunctions => generator.subschema_for::<EngineFunctionsSettings>(),
        BuiltIn::Observability => generator.subschema_for::<ObservabilitySettings>(),
        BuiltIn::Configuration => generator.subschema_for::<ConfigurationSettings>(),
        BuiltIn::Http => generator.subschema_for::<HttpSettings>(),
        BuiltIn::Stream => generator.subschema_for::<StreamSettings>(),
        BuiltIn::State => generator.subschema_for::<StateSettings>(),
        BuiltIn::Queue => generator.subschema_for::<QueueSettings>(),
        BuiltIn::PubSub => generator.subschema_for::<PubSubSettings>(),
        BuiltIn::Cron => generator.subschema_for::<CronSettings>(),
        BuiltIn::Exec => generator.subschema_for::<ExecSettings>(),
        BuiltIn::Bridge => generator.subschema_for::<BridgeSettings>(),
        BuiltIn::HttpFunctions => generator.subschema_for::<HttpFunctionsSettings>(),
        BuiltIn::Telemetry | BuiltIn::WorkerOps | BuiltIn::Sandbox => return json!(true),
    };
    let settings = Value::from(settings);
    if tolerates_unknown_keys(worker) || worker == BuiltIn::Exec {
        return settings;
    }
    json!({ "anyOf": [settings, { "type": "null" }] })
}

/// Settings types whose `enabled: false` skips the entry although the type does not know the key.
const SWITCHED_BY_SETTING: [&str; 8] = [
    "HttpSettings",
    "StreamSettings",
    "StateSettings",
    "QueueSettings",
    "PubSubSettings",
    "ExecSettings",
    "BridgeSettings",
    "HttpFunctionsSettings",
];

/// Spellings that are read besides the ones the types show: adapters by class or without settings, older keys.
fn admit_older_spellings(definitions: &mut Value) {
    let Some(definitions) = definitions.as_object_mut() else { return };
    for (name, definition) in definitions {
        let alias = match name.as_str() {
            "RedisSettings" => Some(("url", "redis_url")),
            "RabbitMqSettings" => Some(("url", "amqp_url")),
            "BridgeAdapterSettings" => Some(("url", "bridge_url")),
            "ObservabilitySettings" => Some(("log_level", "level")),
            _ => None,
        };
        if let Some((older, newer)) = alias {
            definition["properties"][older] =
                json!({ "description": format!("Older name of {newer}."), "type": "string" });
        }
        if SWITCHED_BY_SETTING.contains(&name.as_str()) {
            let switch = json!({ "description": "false = the entry is skipped.", "type": "boolean" });
            if let Some(properties) = definition["properties"].as_object_mut() {
                properties.entry("enabled").or_insert(switch);
            }
        }
        if name.ends_with("Adapter") {
            admit_adapter_spellings(definition);
        }
        if name == "ObservabilitySettings" || name == "EngineFunctionsSettings" {
            definition["additionalProperties"] = json!(true);
        }
    }
}

fn admit_adapter_spellings(definition: &mut Value) {
    let Some(Value::Array(mut variants)) = definition.as_object_mut().and_then(|members| members.shift_remove("oneOf"))
    else {
        return;
    };
    for variant in &mut variants {
        variant["required"] = json!(["name"]);
        let settings = variant["properties"]["config"].take();
        variant["properties"]["config"] = json!({ "anyOf": [settings, { "type": "null" }] });
    }
    variants.push(json!({
        "type": "object",
        "description": "By class, or by an older name.",
        "properties": {
            "class": { "type": "string" },
            "name": { "enum": ["in_memory", "file_based", "memory"] },
            "config": { "type": ["object", "null"] },
        },
        "additionalProperties": false,
    }));
    definition["anyOf"] = Value::Array(variants);
}

/// Lets numbers and switches be written as `${NAME:default}`, which an editor sees as text.
fn admit_references(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.values_mut().for_each(admit_references);
            if members.get("type").is_some_and(is_scalar) {
                let description = members.shift_remove("description");
                let default = members.shift_remove("default");
                let plain = Value::Object(std::mem::take(members));
                let reference = json!({ "type": "string", "pattern": "\\$\\{[^}]+\\}" });
                let annotations = [("description", description), ("default", default)];
                let kept = annotations.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value?)));
                *members = Map::from_iter(kept.chain([("anyOf".to_owned(), json!([plain, reference]))]));
            }
        }
        Value::Array(elements) => elements.iter_mut().for_each(admit_references),
        _ => {}
    }
}

fn is_scalar(kind: &Value) -> bool {
    let scalar = |name: &Value| matches!(name.as_str(), Some("integer" | "number" | "boolean"));
    scalar(kind) || kind.as_array().is_some_and(|kinds| kinds.iter().any(scalar))
}
