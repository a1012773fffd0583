//! Answers of the functions, and what answers of providers mean (STREAM-10, STREAM-22, STREAM-23).

use super::event::Event;
use super::operation::Kind;
use crate::workers::payload::{members, missing};
use crate::workers::update;
use iii_shards::builtin::{Failure, Outcome};
use iii_shards::wire::encode::{Value, write_object};

/// What a provider has done.
#[derive(Debug, PartialEq, Eq)]
pub struct Change {
    /// For the caller.
    pub answer: Vec<u8>,
    /// The value before, if there was one.
    pub old: Option<Vec<u8>>,
    /// The value now, if there is one.
    pub value: Option<Vec<u8>>,
}

impl Change {
    /// What to tell of it, if anything.
    pub fn event(&self) -> Option<Event<'_>> {
        match (&self.old, &self.value) {
            (Some(_), Some(value)) => Some(Event::Update(value)),
            (None, Some(value)) => Some(Event::Create(value)),
            (Some(old), None) => Some(Event::Delete(old)),
            (None, None) => None,
        }
    }
}

/// The result of update operations.
pub struct Updated {
    /// New value.
    pub value: Vec<u8>,
    /// The operations that had no effect, as JSON, if there are any.
    pub errors: Option<Vec<u8>>,
}

/// Applies operations that have been checked before.
pub fn update(old: Option<&[u8]>, ops: &[u8]) -> Updated {
    let ops = update::parse(ops).unwrap_or_default();
    let update::Updated { value, errors } = update::apply(old, &ops);
    let errors = (!errors.is_empty()).then(|| {
        let mut text = Vec::new();
        update::write_errors(&mut text, &errors);
        text
    });
    Updated { value, errors }
}

/// `{"old_value":…,"new_value":…,"errors"?}`
pub fn changed(old: Option<&[u8]>, new: Option<&[u8]>, errors: Option<&[u8]>) -> Vec<u8> {
    let mut out = Vec::new();
    let members = [
        ("old_value", Value::raw_nullable(old)),
        ("new_value", Value::raw_nullable(new)),
        ("errors", Value::raw_optional(errors)),
    ];
    write_object(&mut out, &members);
    out
}

/// `{"old_value":…}`
pub fn removed(old: Option<&[u8]>) -> Vec<u8> {
    let mut out = Vec::new();
    write_object(&mut out, &[("old_value", Value::raw_nullable(old))]);
    out
}

/// A payload does not fit (STATE-11).
pub fn unfit(function_id: &str, detail: &str) -> Failure {
    Failure::new("deserialization_error", format!("Failed to deserialize input for {function_id}: {detail}"))
}

/// Whether a result is null or there is none.
pub fn is_nothing(result: &[u8]) -> bool {
    result.is_empty() || result == b"null"
}

/// Reads what a provider answered to an operation.
pub fn from_provider(kind: Kind, outcome: Outcome) -> Result<Change, Failure> {
    let result = match outcome {
        Ok(result) => result,
        Err(failure) if matches!(kind, Kind::Get | Kind::List) => return Err(failure),
        Err(failure) => return Err(of_provider(kind, &failure)),
    };
    if matches!(kind, Kind::Get | Kind::List | Kind::Send) {
        return Ok(Change { answer: result, old: None, value: None });
    }
    if is_nothing(&result) {
        let (code, prefix) = kind.failure();
        return Err(Failure::new(code, format!("{prefix}Function returned no result")));
    }
    let unfit = |detail: String| Failure::new("JSON_ERROR", format!("Failed to convert result to value: {detail}"));
    let [old, new, errors] = members(&result, ["old_value", "new_value", "errors"], "an object").map_err(unfit)?;
    let old = old.filter(|old| !is_nothing(old));
    if kind == Kind::Delete {
        return Ok(Change { answer: removed(old), old: old.map(<[u8]>::to_vec), value: None });
    }
    let new = new.ok_or_else(|| unfit(missing("new_value")))?;
    let errors = errors.filter(|_| kind == Kind::Update);
    Ok(Change { answer: changed(old, Some(new), errors), old: old.map(<[u8]>::to_vec), value: Some(new.to_vec()) })
}

/// A provider's failure under the code of the operation.
pub fn of_provider(kind: Kind, failure: &Failure) -> Failure {
    let (code, prefix) = kind.failure();
    Failure::new(code, format!("{prefix}{}: {}", failure.code, failure.message))
}

/// The failure of the `set` that ends an update, as one of the update.
pub fn as_update(failure: Failure) -> Failure {
    let (set_code, set_prefix) = Kind::Set.failure();
    let (code, prefix) = Kind::Update.failure();
    if failure.code != set_code {
        return failure;
    }
    Failure::new(code, format!("{prefix}{}", failure.message.trim_start_matches(set_prefix)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: Kind, result: &str) -> Result<(String, Option<String>), (String, String)> {
        match from_provider(kind, Ok(result.as_bytes().to_vec())) {
            Ok(change) => {
                let event = change.event().map(|event| format!("{event:?}").split('(').next().unwrap_or("").to_owned());
                Ok((String::from_utf8(change.answer).expect("text"), event))
            }
            Err(failure) => Err((failure.code.into_owned(), failure.message)),
        }
    }

    // STREAM-22 to STREAM-24
    #[test]
    fn what_providers_answer() {
        let ok = |answer: &str, event: &str| Ok((answer.to_owned(), (!event.is_empty()).then(|| event.to_owned())));
        let fails = |code: &str, message: &str| Err((code.to_owned(), message.to_owned()));
        for (kind, result, expected) in [
            (Kind::Set, r#"{"new_value":1}"#, ok(r#"{"old_value":null,"new_value":1}"#, "Create")),
            (Kind::Set, r#"{"old_value":0,"new_value":1}"#, ok(r#"{"old_value":0,"new_value":1}"#, "Update")),
            (Kind::Set, "null", fails("STREAM_SET_ERROR", "Failed to set value: Function returned no result")),
            (Kind::Set, "", fails("STREAM_SET_ERROR", "Failed to set value: Function returned no result")),
            (Kind::Set, "{}", fails("JSON_ERROR", "Failed to convert result to value: missing field `new_value`")),
            (Kind::Delete, "{}", ok(r#"{"old_value":null}"#, "")),
            (Kind::Delete, r#"{"old_value":[]}"#, ok(r#"{"old_value":[]}"#, "Delete")),
            (Kind::Delete, "", fails("STREAM_DELETE_ERROR", "Failed to delete value: Function returned no result")),
            (
                Kind::Update,
                r#"{"new_value":1,"errors":[]}"#,
                ok(r#"{"old_value":null,"new_value":1,"errors":[]}"#, "Create"),
            ),
            (Kind::Get, "", ok("", "")),
            (Kind::List, "5", ok("5", "")),
        ] {
            assert_eq!(read(kind, result), expected, "{kind:?} {result}");
        }
    }

    // STREAM-23
    #[test]
    fn failures_of_providers() {
        let failure = || Failure::new("MINE", "no disk");
        assert_eq!(from_provider(Kind::Get, Err(failure())), Err(failure()));
        let set = from_provider(Kind::Set, Err(failure())).expect_err("fails");
        assert_eq!((&*set.code, &*set.message), ("STREAM_SET_ERROR", "Failed to set value: MINE: no disk"));
        let update = as_update(set);
        assert_eq!((&*update.code, &*update.message), ("STREAM_UPDATE_ERROR", "Failed to update value: MINE: no disk"));
    }
}
