//! JSON Schemas (draft 07) of functions and of the trigger type.

const REGISTER: &str = object_schema!(
    r#""id":{"type":"string"},"name":{"type":"string"},"description":{"type":"string"},"schema":true,"initial_value":true,"metadata":true"#,
    r#""id","name","description","schema""#
);
const SET: &str = object_schema!(r#""id":{"type":"string"},"value":true,"expected":true"#, r#""id","value""#);
const GET: &str = object_schema!(r#""id":{"type":"string"},"raw":{"type":"boolean","default":false}"#, r#""id""#);
const ID: &str = object_schema!(r#""id":{"type":"string"}"#, r#""id""#);
const NOTHING: &str = object_schema!("", "");

/// Configuration of a trigger.
pub const TRIGGER_CONFIG: &str = object_schema!(
    r#""configuration_id":{"type":["string","null"]},"event_types":{"type":["array","null"],"items":{"type":"string"}},"condition_function_id":{"type":["string","null"]}"#,
    ""
);
/// What functions of triggers are called with.
pub const TRIGGER_CALL: &str = object_schema!(
    r#""type":{"const":"configuration"},"event_type":{"enum":["configuration:registered","configuration:updated","configuration:deleted"]},"id":{"type":"string"},"name":{"type":"string"},"description":{"type":"string"},"schema":true,"old_value":true,"new_value":true,"metadata":true"#,
    r#""type","event_type","id","name","description","schema","old_value","new_value""#
);

/// Schema of what a function takes.
pub fn of_function(id: &str) -> Option<&'static str> {
    match id {
        "configuration::register" => Some(REGISTER),
        "configuration::set" => Some(SET),
        "configuration::get" => Some(GET),
        "configuration::schema" | "configuration::delete" => Some(ID),
        "configuration::list" => Some(NOTHING),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn schemas_are_valid() {
        let functions = ["register", "set", "get", "schema", "delete", "list"];
        let of_functions = functions.iter().filter_map(|name| super::of_function(&format!("configuration::{name}")));
        for text in of_functions.chain([super::TRIGGER_CONFIG, super::TRIGGER_CALL]) {
            let schema = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
            super::super::validate::check_schema(&schema).unwrap_or_else(|error| panic!("{error}: {text}"));
        }
    }
}
