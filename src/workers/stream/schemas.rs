//! JSON Schemas (draft 07) of functions and trigger types (STREAM-15, STREAM-72).

const SET: &str = object_schema!(
    r#""stream_name":{"type":"string"},"group_id":{"type":"string"},"item_id":{"type":"string"},"data":true"#,
    r#""stream_name","group_id","item_id","data""#
);
const ITEM: &str = object_schema!(
    r#""stream_name":{"type":"string"},"group_id":{"type":"string"},"item_id":{"type":"string"}"#,
    r#""stream_name","group_id","item_id""#
);
const GROUP: &str =
    object_schema!(r#""stream_name":{"type":"string"},"group_id":{"type":"string"}"#, r#""stream_name","group_id""#);
const STREAM: &str = object_schema!(r#""stream_name":{"type":"string"}"#, r#""stream_name""#);
const NOTHING: &str = object_schema!("", "");
const SEND: &str = object_schema!(
    r#""stream_name":{"type":"string"},"group_id":{"type":"string"},"type":{"type":"string"},"data":true,"id":{"type":["string","null"]}"#,
    r#""stream_name","group_id","type","data""#
);
const UPDATE: &str = object_schema!(
    r#""stream_name":{"type":"string"},"group_id":{"type":"string"},"item_id":{"type":"string"},"ops":{"type":"array","items":{"type":"object","properties":{"type":{"enum":["set","merge","increment","decrement","append","remove"]}},"required":["type"]}}"#,
    r#""stream_name","group_id","item_id","ops""#
);
const SET_ANSWER: &str = object_schema!(r#""old_value":true,"new_value":true"#, r#""new_value""#);
const UPDATE_ANSWER: &str = object_schema!(
    r#""old_value":true,"new_value":true,"errors":{"type":"array","items":{"type":"object","properties":{"op_index":{"type":"integer","minimum":0},"code":{"type":"string"},"message":{"type":"string"},"doc_url":{"type":["string","null"]}},"required":["op_index","code","message"]}}"#,
    r#""new_value""#
);
const DELETE_ANSWER: &str = object_schema!(r#""old_value":true"#, "");
const LIST_ALL_ANSWER: &str = object_schema!(
    r#""stream":{"type":"array","items":{"type":"object","properties":{"id":{"type":"string"},"groups":{"type":"array","items":{"type":"string"}}},"required":["id","groups"]}},"count":{"type":"integer","minimum":0}"#,
    r#""stream","count""#
);

/// Configuration of a `stream` trigger.
pub const STREAM_CONFIG: &str = object_schema!(
    r#""stream_name":{"type":"string"},"group_id":{"type":["string","null"]},"item_id":{"type":["string","null"]},"condition_function_id":{"type":["string","null"]}"#,
    r#""stream_name""#
);
/// What functions of `stream` triggers are called with.
pub const STREAM_CALL: &str = object_schema!(
    r#""type":{"const":"stream"},"timestamp":{"type":"integer","minimum":0},"streamName":{"type":"string"},"groupId":{"type":"string"},"id":{"type":["string","null"]},"event":{"type":"object","properties":{"type":{"enum":["create","update","delete","event"]},"data":true,"event":{"type":"object","properties":{"type":{"type":"string"},"data":true},"required":["type","data"]}},"required":["type"]}"#,
    r#""type","timestamp","streamName","groupId","id","event""#
);
/// Configuration of `stream:join` and `stream:leave` triggers.
pub const VISIT_CONFIG: &str = object_schema!(
    r#""stream_name":{"type":["string","null"]},"condition_function_id":{"type":["string","null"]}"#,
    ""
);
/// What functions of `stream:join` and `stream:leave` triggers are called with.
pub const VISIT_CALL: &str = object_schema!(
    r#""subscription_id":{"type":"string"},"stream_name":{"type":"string"},"group_id":{"type":"string"},"id":{"type":["string","null"]},"context":true"#,
    r#""subscription_id","stream_name","group_id""#
);

/// Schemas of what a function takes and of what it answers.
pub fn of_function(id: &str) -> (Option<&'static str>, Option<&'static str>) {
    match id {
        "stream::set" => (Some(SET), Some(SET_ANSWER)),
        "stream::get" => (Some(ITEM), None),
        "stream::delete" => (Some(ITEM), Some(DELETE_ANSWER)),
        "stream::list" => (Some(GROUP), None),
        "stream::list_groups" => (Some(STREAM), None),
        "stream::list_all" => (Some(NOTHING), Some(LIST_ALL_ANSWER)),
        "stream::send" => (Some(SEND), None),
        "stream::update" => (Some(UPDATE), Some(UPDATE_ANSWER)),
        _ => (None, None),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn schemas_are_json() {
        let mut all = vec![super::STREAM_CONFIG, super::STREAM_CALL, super::VISIT_CONFIG, super::VISIT_CALL];
        for function in crate::workers::stream::functions() {
            let (request, response) = super::of_function(&function.id);
            all.extend(request.into_iter().chain(response));
        }
        for text in all {
            let schema: serde_json::Value =
                serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
            assert!(schema["required"].is_array(), "{text}");
        }
    }
}
