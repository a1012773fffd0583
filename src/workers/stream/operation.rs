//! What is done to a group, read from the payload of a call (STREAM-10).

use super::name::GroupName;
use crate::workers::payload::{members, missing, optional_string, string};
use crate::workers::update;
use iii_shards::builtin::{Call, CallId};
use iii_shards::wire::encode::{Value, write_object};

/// One operation on one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// `stream::set`
    Set {
        /// Item.
        item: Box<str>,
        /// Its new value.
        value: Box<[u8]>,
    },
    /// `stream::get`
    Get {
        /// Item.
        item: Box<str>,
    },
    /// `stream::delete`
    Delete {
        /// Item.
        item: Box<str>,
    },
    /// `stream::list`
    List,
    /// `stream::update`
    Update {
        /// Item.
        item: Box<str>,
        /// List of operations, checked.
        ops: Box<[u8]>,
    },
    /// `stream::send`
    Send {
        /// `type` of the event.
        kind: Box<str>,
        /// `id`, whatever it names.
        item: Option<Box<str>>,
        /// `data`
        data: Box<[u8]>,
    },
}

/// The functions that work on one group, in the order of [`super::FUNCTIONS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `stream::set`
    Set,
    /// `stream::get`
    Get,
    /// `stream::delete`
    Delete,
    /// `stream::list`
    List,
    /// `stream::update`
    Update,
    /// `stream::send`
    Send,
}

impl Kind {
    /// All of them, by number of the function.
    pub const ALL: [Kind; 6] = [Kind::Set, Kind::Get, Kind::Delete, Kind::List, Kind::Update, Kind::Send];

    /// Id of the function.
    pub fn function_id(self) -> &'static str {
        match self {
            Kind::Set => "stream::set",
            Kind::Get => "stream::get",
            Kind::Delete => "stream::delete",
            Kind::List => "stream::list",
            Kind::Update => "stream::update",
            Kind::Send => "stream::send",
        }
    }

    /// Code of its failures, and what their message begins with.
    pub fn failure(self) -> (&'static str, &'static str) {
        match self {
            Kind::Set => ("STREAM_SET_ERROR", "Failed to set value: "),
            Kind::Get => ("STREAM_GET_ERROR", "Failed to get value: "),
            Kind::Delete => ("STREAM_DELETE_ERROR", "Failed to delete value: "),
            Kind::List => ("STREAM_GET_GROUP_ERROR", "Failed to get group: "),
            Kind::Update => ("STREAM_UPDATE_ERROR", "Failed to update value: "),
            Kind::Send => ("STREAM_SEND_ERROR", "Failed to send event: "),
        }
    }
}

/// Who is to be answered, and the trace their call belongs to.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The call.
    pub call: CallId,
    /// W3C trace context.
    pub traceparent: Option<Box<str>>,
    /// W3C baggage.
    pub baggage: Option<Box<str>>,
}

impl Origin {
    /// Where a call comes from.
    pub fn of(call: &Call) -> Origin {
        Origin {
            call: call.id,
            traceparent: call.traceparent.as_deref().map(Box::from),
            baggage: call.baggage.as_deref().map(Box::from),
        }
    }
}

impl Operation {
    /// Which function it is.
    pub fn kind(&self) -> Kind {
        match self {
            Operation::Set { .. } => Kind::Set,
            Operation::Get { .. } => Kind::Get,
            Operation::Delete { .. } => Kind::Delete,
            Operation::List => Kind::List,
            Operation::Update { .. } => Kind::Update,
            Operation::Send { .. } => Kind::Send,
        }
    }

    /// Reads a payload. `Err` is what it lacks.
    pub fn parse(kind: Kind, payload: &[u8]) -> Result<(GroupName, Operation), String> {
        let names = ["stream_name", "group_id", "item_id", "data", "ops", "type", "id"];
        let [stream, group, item, data, ops, event, id] = members(payload, names, expected(kind))?;
        let name = GroupName::new(&string(stream, "stream_name")?, &string(group, "group_id")?);
        let item = || string(item, "item_id").map(|item| Box::from(&*item));
        let data = || data.map(Box::from).ok_or_else(|| missing("data"));
        let operation = match kind {
            Kind::Set => Operation::Set { item: item()?, value: data()? },
            Kind::Get => Operation::Get { item: item()? },
            Kind::Delete => Operation::Delete { item: item()? },
            Kind::List => Operation::List,
            Kind::Update => {
                let ops = ops.ok_or_else(|| missing("ops"))?;
                update::parse(ops)?;
                Operation::Update { item: item()?, ops: ops.into() }
            }
            Kind::Send => Operation::Send {
                kind: Box::from(&*string(event, "type")?),
                item: optional_string(id)?.as_deref().map(Box::from),
                data: data()?,
            },
        };
        Ok((name, operation))
    }

    /// The payload again, with the known members only (STREAM-20).
    pub fn payload(&self, name: &GroupName) -> Vec<u8> {
        let (item, more) = match self {
            Operation::Set { item, value } => (Some(item), Some(("data", Value::Raw(value)))),
            Operation::Get { item } | Operation::Delete { item } => (Some(item), None),
            Operation::Update { item, ops } => (Some(item), Some(("ops", Value::Raw(ops)))),
            Operation::List | Operation::Send { .. } => (None, None),
        };
        let more = more.unwrap_or(("", Value::Absent));
        let mut out = Vec::new();
        write_object(
            &mut out,
            &[
                ("stream_name", Value::Text(&name.stream)),
                ("group_id", Value::Text(&name.group)),
                ("item_id", Value::optional(item.map(|item| &**item))),
                more,
            ],
        );
        out
    }
}

fn expected(kind: Kind) -> &'static str {
    match kind {
        Kind::Set => "struct StreamSetInput",
        Kind::Get => "struct StreamGetInput",
        Kind::Delete => "struct StreamDeleteInput",
        Kind::List => "struct StreamListInput",
        Kind::Update => "struct StreamUpdateInput",
        Kind::Send => "struct StreamSendInput",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(kind: Kind, payload: &str) -> Result<Operation, String> {
        Operation::parse(kind, payload.as_bytes()).map(|(_, operation)| operation)
    }

    // STREAM-10, T18
    #[test]
    fn payloads() {
        let fails = |reason: &str| Err(reason.to_owned());
        let set = r#"{"stream_name":"s","group_id":"g","item_id":"i","data":{"a":1},"_caller_worker_id":"x"}"#;
        assert_eq!(parse(Kind::Set, set), Ok(Operation::Set { item: "i".into(), value: br#"{"a":1}"#[..].into() }));
        for (kind, payload, expected) in [
            (Kind::Set, r#"{"stream_name":"s","group_id":"g","item_id":"i","value":1}"#, fails("missing field `data`")),
            (Kind::Set, "null", fails("invalid type: null, expected struct StreamSetInput")),
            (Kind::Get, r#"{"stream_name":"s","group_id":"g"}"#, fails("missing field `item_id`")),
            (Kind::List, r#"{"group_id":"g"}"#, fails("missing field `stream_name`")),
            (Kind::List, r#"{"stream_name":"s","group_id":"g"}"#, Ok(Operation::List)),
            (Kind::Update, r#"{"stream_name":"s","group_id":"g","item_id":"i"}"#, fails("missing field `ops`")),
            (Kind::Send, r#"{"stream_name":"s","group_id":"g","type":"t"}"#, fails("missing field `data`")),
            (
                Kind::Send,
                r#"{"stream_name":"s","group_id":"g","type":"t","data":null,"id":null}"#,
                Ok(Operation::Send { kind: "t".into(), item: None, data: b"null"[..].into() }),
            ),
        ] {
            assert_eq!(parse(kind, payload), expected, "{payload}");
        }
    }

    // STREAM-20: nothing injected.
    #[test]
    fn a_provider_gets_the_known_members() {
        let payload = r#"{"x":1,"data":null,"item_id":"i","group_id":"g","stream_name":"s","_caller_worker_id":"x"}"#;
        let (name, operation) = Operation::parse(Kind::Set, payload.as_bytes()).expect("fits");
        let again = String::from_utf8(operation.payload(&name)).expect("text");
        assert_eq!(again, r#"{"stream_name":"s","group_id":"g","item_id":"i","data":null}"#);
    }
}
