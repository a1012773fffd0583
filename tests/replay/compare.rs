//! Comparing a recorded frame of the engine with one of the engine under test.
//!
//! Placeholders are variables: bound on first sight, equal ever after. Some members may differ by rule; each such place
//! names the rule.

use std::collections::HashMap;

use crate::support::{Value, json};

const PLACEHOLDER: &str = "00000000-0000-4000-8000-";

/// Members of listings that tell the time or the moment.
const MOMENTARY: [&str; 5] = ["connected_at_ms", "timestamp", "status", "active_invocations", "latest_metrics"];

/// Placeholder in the recording → value in this run.
#[derive(Debug, Clone, Default)]
pub struct Variables(HashMap<String, String>);

impl Variables {
    /// A worker's frame as it is to be sent. What the engine did not give before is the worker's own choice: sent as it stands.
    pub fn fill(&mut self, frame: &Value) -> Value {
        match frame {
            Value::String(text) if is_placeholder(text) => {
                json!(self.0.entry(text.clone()).or_insert_with(|| text.clone()))
            }
            Value::Array(items) => items.iter().map(|item| self.fill(item)).collect(),
            Value::Object(members) => members.iter().map(|(name, value)| (name.clone(), self.fill(value))).collect(),
            other => other.clone(),
        }
    }

    /// The same for placeholders inside a longer text, such as a request path.
    pub fn fill_text(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value))
    }

    fn meet(&mut self, name: &str, actual: &Value) -> Result<(), String> {
        let Value::String(actual) = actual else { return Err(format!("expected an id, got {actual}")) };
        match self.0.get(name) {
            Some(bound) if bound == actual => Ok(()),
            Some(bound) => Err(format!("expected id {bound}, got {actual}")),
            None if self.0.values().any(|bound| bound == actual) => {
                Err(format!("{actual} already means something else"))
            }
            None => {
                self.0.insert(name.to_owned(), actual.clone());
                Ok(())
            }
        }
    }
}

fn is_placeholder(text: &str) -> bool {
    text.len() == 36 && text.starts_with(PLACEHOLDER)
}

/// `called_by_worker`: the invocation id was chosen by a worker of the recording.
/// `message_head`: of an error message, only this beginning counts.
pub fn same_frame(
    expected: &Value,
    actual: &Value,
    called_by_worker: bool,
    message_head: Option<&str>,
    variables: &mut Variables,
) -> Result<(), String> {
    if expected["type"] != actual["type"] {
        return Err("another type of frame".to_owned());
    }
    let mut expected = expected.clone();
    let mut actual = with_recorded_process(actual);
    match expected["type"].as_str() {
        Some("invokefunction") => {
            // PROTO-63, PROTO-64: toward the callee the id may be the engine's own; void deliveries need none.
            remove(&mut expected, "invocation_id");
            if called_by_worker && actual["invocation_id"].is_null() {
                return Err("a call that wants an answer was delivered without id".to_owned());
            }
            remove(&mut actual, "invocation_id");
            // HTTP-26, HTTP-27: we add members to what a function gets of a request.
            if expected["data"]["trigger"]["type"] == "http" {
                contains(&expected["data"], &actual["data"], "data", variables)?;
                remove(&mut expected, "data");
                remove(&mut actual, "data");
            }
            if !called_by_worker {
                // PROTO-76: engine-made calls carry trace headers only while tracing is on.
                for header in ["traceparent", "baggage"] {
                    remove(&mut expected, header);
                    remove(&mut actual, header);
                }
            }
        }
        Some("invocationresult") => {
            // PROTO-66: a null result may be given or left out.
            if actual["result"].is_null() {
                remove(&mut actual, "result");
            }
            if let Some(head) = message_head
                && let Some(message) = actual["error"]["message"].as_str()
                && message.starts_with(head)
            {
                actual["error"]["message"] = expected["error"]["message"].clone();
            }
            // ENG-15, ENG-37: listings are a superset of both generations' shapes.
            if is_listing(&expected) {
                contains(&expected["result"], &actual["result"], "result", variables)?;
                remove(&mut expected, "result");
                remove(&mut actual, "result");
            }
        }
        _ => {}
    }
    same(&expected, &actual, "frame", variables)
}

fn is_listing(frame: &Value) -> bool {
    matches!(frame["function_id"].as_str(), Some(id) if id.starts_with("engine::") && id.ends_with("::list"))
}

fn remove(frame: &mut Value, member: &str) {
    if let Some(members) = frame.as_object_mut() {
        members.remove(member);
    }
}

/// Undoes the replay's renaming of the second process.
fn with_recorded_process(frame: &Value) -> Value {
    match frame {
        Value::String(text) if text == "HOST:4243" => json!("HOST:4242"),
        Value::Array(items) => items.iter().map(with_recorded_process).collect(),
        Value::Object(members) => {
            members.iter().map(|(name, value)| (name.clone(), with_recorded_process(value))).collect()
        }
        other => other.clone(),
    }
}

fn same(expected: &Value, actual: &Value, place: &str, variables: &mut Variables) -> Result<(), String> {
    match (expected, actual) {
        (Value::String(name), _) if is_placeholder(name) => {
            variables.meet(name, actual).map_err(|problem| format!("{place}: {problem}"))
        }
        (Value::Object(wanted), Value::Object(found)) => {
            if let Some(extra) = found.keys().find(|name| !wanted.contains_key(*name)) {
                return Err(format!("{place}: unexpected member {extra}"));
            }
            for (name, value) in wanted {
                let found = found.get(name).ok_or_else(|| format!("{place}: member {name} is missing"))?;
                same(value, found, &format!("{place}.{name}"), variables)?;
            }
            Ok(())
        }
        (Value::Array(wanted), Value::Array(found)) if wanted.len() == found.len() => wanted
            .iter()
            .zip(found)
            .enumerate()
            .try_for_each(|(index, (wanted, found))| same(wanted, found, &format!("{place}[{index}]"), variables)),
        _ if expected == actual => Ok(()),
        _ => Err(format!("{place}: expected {expected}, got {actual}")),
    }
}

/// Every recorded row and member is there; more may be.
fn contains(expected: &Value, actual: &Value, place: &str, variables: &mut Variables) -> Result<(), String> {
    match (expected, actual) {
        (Value::Object(wanted), Value::Object(found)) => {
            for (name, value) in wanted.iter().filter(|(name, _)| !MOMENTARY.contains(&name.as_str())) {
                let found = found.get(name).ok_or_else(|| format!("{place}: member {name} is missing"))?;
                contains(value, found, &format!("{place}.{name}"), variables)?;
            }
            Ok(())
        }
        (Value::Array(wanted), Value::Array(found)) => {
            let of_workers: Vec<_> = wanted.iter().filter(|row| !is_of_the_engine(row)).collect();
            if of_workers.len() == wanted.len() && found.len() != wanted.len() {
                return Err(format!("{place}: expected {} rows, got {}", wanted.len(), found.len()));
            }
            for row in of_workers {
                let fits = |candidate: &&Value| contains(row, candidate, place, &mut variables.clone()).is_ok();
                let candidate = found.iter().find(fits).ok_or_else(|| format!("{place}: no row like {row}"))?;
                contains(row, candidate, place, variables)?;
            }
            Ok(())
        }
        _ => same(expected, actual, place, variables),
    }
}

/// Which built-in workers and functions exist is not the business of these recordings.
fn is_of_the_engine(row: &Value) -> bool {
    row["runtime"] == "engine" || row["function_id"].as_str().is_some_and(|id| id.starts_with("engine::"))
}
