//! What discovery tells of engine functions and well-known trigger types beyond their ids (ENG-12, 27, 28, 55).
//!
//! Texts only: nothing here is enforced. All schemas are JSON Schema draft 07, spelled compactly.

use super::functions::EngineFunction;

/// A trigger type with a name every worker knows, whoever provides it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownType {
    /// Type id.
    pub id: &'static str,
    /// Built-in worker that provides it.
    pub worker: &'static str,
    /// One line for people.
    pub description: &'static str,
    /// Schema of a trigger's configuration.
    pub configuration: &'static str,
    /// Schema of what the function is given.
    pub request: Option<&'static str>,
    /// Schema of what the function is to return.
    pub response: Option<&'static str>,
}

/// What is known of a type id.
pub fn known_type(id: &str) -> Option<&'static KnownType> {
    KNOWN_TYPES.iter().find(|known| known.id == id)
}

/// Hint for a trigger whose type nobody provides.
pub fn how_to_get(id: &str) -> String {
    match known_type(id) {
        Some(known) => format!("Add worker '{}' to the configuration.", known.worker),
        None => "Start the worker that registers it.".to_owned(),
    }
}

macro_rules! object {
    ($($members:literal)?) => { object!($($members)?; "") };
    ($($members:literal)?; $required:literal) => {
        concat!(r#"{"type":"object","properties":{"#, $($members,)? r#"},"required":["#, $required, "]}")
    };
}

const KNOWN_TYPES: [KnownType; 13] = [
    KnownType {
        id: "http",
        worker: "iii-http",
        description: "HTTP API trigger",
        configuration: object!(
            r#""api_path":{"type":"string"},"http_method":{"enum":["GET","POST","PUT","DELETE","PATCH","HEAD","OPTIONS",null],"default":"GET"},"condition_function_id":{"type":["string","null"]},"middleware_function_ids":{"type":"array","items":{"type":"string"}}"#;
            r#""api_path""#
        ),
        request: Some(object!(
            r#""query_params":{"type":"object","additionalProperties":{"type":"string"}},"path_params":{"type":"object","additionalProperties":{"type":"string"}},"headers":{"type":"object","additionalProperties":{"type":"string"}},"path":{"type":"string"},"method":{"type":"string"},"body":{}"#;
            r#""query_params","path_params","headers","path","method","body""#
        )),
        response: Some(object!(
            r#""status_code":{"type":["integer","null"],"minimum":0,"maximum":65535},"headers":{"type":["object","array","null"]},"body":{}"#
        )),
    },
    KnownType {
        id: "cron",
        worker: "iii-cron",
        description: "Cron schedule trigger",
        configuration: object!(
            r#""expression":{"type":"string"},"condition_function_id":{"type":["string","null"]}"#; r#""expression""#
        ),
        request: Some(object!(
            r#""trigger":{"type":"string"},"job_id":{"type":"string"},"scheduled_time":{"type":"string"},"actual_time":{"type":"string"}"#
        )),
        response: None,
    },
    KnownType {
        id: "durable:subscriber",
        worker: "queue",
        description: "Durable topic subscription",
        configuration: object!(
            r#""topic":{"type":"string"},"condition_function_id":{"type":["string","null"]},"queue_config":{}"#;
            r#""topic""#
        ),
        request: None,
        response: None,
    },
    KnownType {
        id: "subscribe",
        worker: "iii-pubsub",
        description: "Topic subscription",
        configuration: object!(
            r#""topic":{"type":"string"},"condition_function_id":{"type":["string","null"]}"#; r#""topic""#
        ),
        request: None,
        response: None,
    },
    KnownType {
        id: "state",
        worker: "iii-state",
        description: "State trigger",
        configuration: object!(
            r#""scope":{"type":["string","null"]},"key":{"type":["string","null"]},"condition_function_id":{"type":["string","null"]}"#
        ),
        request: Some(object!(
            r#""type":{"type":"string"},"event_type":{"enum":["state:created","state:updated","state:deleted"]},"scope":{"type":"string"},"key":{"type":"string"},"old_value":{},"new_value":{}"#
        )),
        response: None,
    },
    KnownType {
        id: "stream",
        worker: "iii-stream",
        description: "Stream change trigger",
        configuration: object!(
            r#""stream_name":{"type":["string","null"]},"group_id":{"type":["string","null"]},"item_id":{"type":["string","null"]},"condition_function_id":{"type":["string","null"]}"#
        ),
        request: Some(object!(
            r#""event_type":{"type":"string"},"timestamp":{"type":"integer"},"stream_name":{"type":"string"},"group_id":{"type":"string"},"id":{"type":["string","null"]},"event":{}"#
        )),
        response: None,
    },
    stream_presence("stream:join", "Stream subscription trigger"),
    stream_presence("stream:leave", "Stream unsubscription trigger"),
    KnownType {
        id: "configuration",
        worker: "configuration",
        description: "Configuration trigger — fires on register/update/delete events",
        configuration: object!(
            r#""configuration_id":{"type":["string","null"]},"event_types":{"type":"array","items":{"enum":["configuration:registered","configuration:updated","configuration:deleted"]}},"condition_function_id":{"type":["string","null"]}"#
        ),
        request: Some(object!(
            r#""type":{"type":"string"},"event_type":{"type":"string"},"id":{"type":"string"},"name":{"type":["string","null"]},"description":{"type":["string","null"]},"schema":{},"old_value":{},"new_value":{},"metadata":{}"#
        )),
        response: None,
    },
    KnownType {
        id: "log",
        worker: "iii-observability",
        description: "Log event trigger",
        configuration: object!(r#""level":{"enum":["all","debug","info","warn","error"],"default":"all"}"#),
        request: Some(object!(
            r#""timestamp_unix_nano":{"type":"integer"},"observed_timestamp_unix_nano":{"type":"integer"},"severity_number":{"type":"integer"},"severity_text":{"type":"string"},"body":{"type":"string"},"attributes":{"type":"object"},"trace_id":{"type":["string","null"]},"span_id":{"type":["string","null"]},"resource":{"type":"object"},"service_name":{"type":"string"},"instrumentation_scope_name":{"type":["string","null"]},"instrumentation_scope_version":{"type":["string","null"]}"#
        )),
        response: None,
    },
    KnownType {
        id: "trace",
        worker: "iii-observability",
        description: "Trace/span event trigger",
        configuration: object!(r#""service_name":{"type":["string","null"]},"status":{"type":["string","null"]}"#),
        request: Some(object!(r#""trace_ids":{"type":"array","items":{"type":"string"}}"#)),
        response: None,
    },
    KnownType {
        id: super::events::FUNCTIONS_AVAILABLE,
        worker: "engine",
        description: "Triggered when functions are registered/unregistered",
        configuration: object!(),
        request: Some(object!(
            r#""event":{"enum":["functions_changed"]},"functions":{"type":"array","items":{"type":"object"}}"#
        )),
        response: None,
    },
    KnownType {
        id: super::events::WORKERS_AVAILABLE,
        worker: "engine",
        description: "Triggered when workers connect/disconnect",
        configuration: object!(),
        request: Some(object!(
            r#""event":{"enum":["worker_connected","worker_metadata_updated","worker_disconnected"]},"worker_id":{"type":"string"},"name":{"type":"string"},"namespace":{"type":"string"}"#;
            r#""event","worker_id""#
        )),
        response: None,
    },
];

const fn stream_presence(id: &'static str, description: &'static str) -> KnownType {
    KnownType {
        id,
        worker: "iii-stream",
        description,
        configuration: object!(
            r#""stream_name":{"type":["string","null"]},"condition_function_id":{"type":["string","null"]}"#
        ),
        request: Some(object!(
            r#""event_type":{"type":"string"},"timestamp":{"type":"integer"},"stream_name":{"type":"string"},"group_id":{"type":"string"},"id":{"type":["string","null"]}"#
        )),
        response: None,
    }
}

/// Request and response schema of an engine function (ENG-55).
pub fn of_function(function: EngineFunction) -> (&'static str, &'static str) {
    use EngineFunction as F;
    match function {
        F::WorkersRegister => (
            object!(
                r#""runtime":{"type":["string","null"]},"version":{"type":["string","null"]},"name":{"type":["string","null"]},"description":{"type":["string","null"]},"os":{"type":["string","null"]},"pid":{"type":["integer","null"]},"isolation":{"type":["string","null"]},"namespace":{"type":["string","null"]},"telemetry":{"type":["object","null"]},"features":{"type":["array","null"],"items":{"type":"string"}}"#
            ),
            object!(r#""success":{"type":"boolean"}"#; r#""success""#),
        ),
        F::ChannelsCreate => (
            object!(r#""buffer_size":{"type":["integer","null"],"minimum":0}"#),
            object!(r#""writer":{"type":"object"},"reader":{"type":"object"}"#; r#""writer","reader""#),
        ),
        F::WorkersList => (
            object!(
                r#""search":{"type":["string","null"]},"runtime":{"type":["string","null"]},"status":{"type":["string","null"]},"worker_id":{"type":["string","null"]}"#
            ),
            object!(
                r#""workers":{"type":"array","items":{"type":"object"}},"timestamp":{"type":"integer"}"#;
                r#""workers","timestamp""#
            ),
        ),
        F::WorkersInfo => (
            object!(r#""name":{"type":"string"},"namespace":{"type":["string","null"]}"#; r#""name""#),
            object!(
                r#""worker":{"type":"object"},"functions":{"type":"array"},"trigger_types":{"type":"array"},"registered_triggers":{"type":"array"}"#;
                r#""worker","functions","trigger_types","registered_triggers""#
            ),
        ),
        F::FunctionsList => (
            object!(
                r#""search":{"type":["string","null"]},"prefix":{"type":["string","null"]},"worker":{"type":["string","null"]},"workers":{"type":["array","null"],"items":{"type":"string"}},"include_internal":{"type":["boolean","null"]},"include_schemas":{"type":["boolean","null"]}"#
            ),
            object!(r#""functions":{"type":"array","items":{"type":"object"}}"#; r#""functions""#),
        ),
        F::FunctionsInfo => (
            object!(
                r#""function_id":{"type":["string","null"]},"function_ids":{"type":["array","null"],"items":{"type":"string"},"minItems":1,"maxItems":32},"namespace":{"type":["string","null"]}"#
            ),
            object!(
                r#""function_id":{"type":"string"},"namespace":{"type":"string"},"worker_name":{"type":"string"},"description":{"type":"string"},"request_schema":{},"response_schema":{},"metadata":{},"registered_triggers":{"type":"array"},"functions":{"type":"array"}"#
            ),
        ),
        F::TriggersList => (
            object!(
                r#""kind":{"enum":["instances","types",null]},"search":{"type":["string","null"]},"prefix":{"type":["string","null"]},"worker":{"type":["string","null"]},"include_internal":{"type":["boolean","null"]}"#
            ),
            object!(r#""triggers":{"type":"array","items":{"type":"object"}}"#; r#""triggers""#),
        ),
        F::TriggersInfo => (
            object!(r#""id":{"type":"string"},"namespace":{"type":["string","null"]}"#; r#""id""#),
            object!(
                r#""id":{"type":"string"},"namespace":{"type":"string"},"worker_name":{"type":"string"},"description":{"type":"string"},"configuration_schema":{},"request_schema":{},"response_schema":{},"instance_count":{"type":"integer"}"#
            ),
        ),
        F::TriggerTypesList => (
            object!(r#""include_internal":{"type":["boolean","null"]}"#),
            object!(r#""trigger_types":{"type":"array","items":{"type":"object"}}"#; r#""trigger_types""#),
        ),
        F::RegisteredTriggersList => (
            object!(
                r#""search":{"type":["string","null"]},"trigger_type":{"type":["string","null"]},"function_id":{"type":["string","null"]},"worker":{"type":["string","null"]},"include_internal":{"type":["boolean","null"]},"include_pending":{"type":["boolean","null"]}"#
            ),
            object!(r#""registered_triggers":{"type":"array","items":{"type":"object"}}"#; r#""registered_triggers""#),
        ),
        F::RegisteredTriggersInfo => (
            object!(r#""id":{"type":"string"}"#; r#""id""#),
            object!(
                r#""id":{"type":"string"},"trigger_type":{"type":"string"},"function_id":{"type":"string"},"worker_name":{"type":"string"},"config":{},"metadata":{},"trigger":{"type":["object","null"]},"function":{"type":["object","null"]}"#
            ),
        ),
        F::RegisterTrigger => (
            object!(
                r#""trigger_type":{"type":"string"},"function_id":{"type":"string"},"config":{},"metadata":{},"trigger_namespace":{"type":["string","null"]}"#;
                r#""trigger_type","function_id""#
            ),
            object!(r#""id":{"type":"string"}"#; r#""id""#),
        ),
        F::UnregisterTrigger => (
            object!(r#""id":{"type":"string"},"trigger_type":{"type":["string","null"]}"#; r#""id""#),
            object!(r#""removed":{"type":"boolean"}"#; r#""removed""#),
        ),
        F::LogInfo | F::LogWarn | F::LogError | F::LogDebug | F::LogTrace => (
            object!(
                r#""message":{"type":"string"},"trace_id":{"type":["string","null"]},"span_id":{"type":["string","null"]},"data":{},"service_name":{"type":["string","null"]}"#;
                r#""message""#
            ),
            r#"{"type":"null"}"#,
        ),
        F::BaggageGet => (
            object!(r#""key":{"type":"string"}"#; r#""key""#),
            object!(r#""value":{"type":["string","null"]}"#; r#""value""#),
        ),
        F::BaggageSet => (
            object!(r#""key":{"type":"string"},"value":{"type":"string"}"#; r#""key","value""#),
            object!(r#""success":{"type":"boolean"},"note":{"type":"string"}"#; r#""success""#),
        ),
        F::BaggageGetAll => (
            object!(),
            object!(
                r#""baggage":{"type":"object","additionalProperties":{"type":"string"}}"#; r#""baggage""#
            ),
        ),
        F::HealthCheck => (
            object!(),
            object!(
                r#""status":{"enum":["healthy","degraded"]},"timestamp":{"type":"integer"},"version":{"type":"string"},"components":{"type":"object"}"#;
                r#""status","timestamp","version","components""#
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::json;

    // ENG-28, ENG-55
    #[test]
    fn schemas_are_json() {
        let check = |what: &str, schema: &str| {
            let value: serde_json::Value = json::decode(schema.as_bytes()).unwrap_or_else(|e| panic!("{what}: {e}"));
            assert!(value["type"].is_string(), "{what}");
            for name in value["required"].as_array().into_iter().flatten() {
                assert!(value["properties"].get(name.as_str().unwrap()).is_some(), "{what}: {name}");
            }
        };
        for function in EngineFunction::ALL {
            let (request, response) = of_function(*function);
            check(function.id(), request);
            check(function.id(), response);
        }
        for known in KNOWN_TYPES {
            for schema in [Some(known.configuration), known.request, known.response].into_iter().flatten() {
                check(known.id, schema);
            }
        }
    }

    // ENG-12, ENG-27
    #[test]
    fn well_known_types() {
        assert_eq!(known_type("http").map(|known| known.description), Some("HTTP API trigger"));
        assert_eq!(known_type("durable:subscriber").map(|known| known.worker), Some("queue"));
        assert_eq!(known_type("webhook"), None);
    }
}
