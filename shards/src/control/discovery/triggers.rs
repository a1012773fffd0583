//! Trigger types and triggers (ENG-22 to ENG-30).

use super::super::calls::{Answer, Call, Refusal, input, required};
use super::super::triggers::{Binding, TypeView};
use super::super::{Control, schemas};
use super::{Needle, first_segment, listing};
use crate::builtin::{Definition, TriggerType};
use crate::connection::worker::Generation;
use crate::registry::DEFAULT_NAMESPACE;
use crate::wire::codes;
use crate::wire::encode::{Value, write_object};
use serde::Deserialize;

/// Characters of a configuration that a listing shows (ENG-29).
const SUMMARY_CHARS_MAX: usize = 80;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ListInput {
    kind: Option<String>,
    search: Option<String>,
    prefix: Option<String>,
    worker: Option<String>,
    trigger_type: Option<String>,
    function_id: Option<String>,
    include_internal: Option<bool>,
    include_pending: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct InfoInput {
    id: Option<String>,
    namespace: Option<String>,
}

/// What a trigger type is like, from its provider or from what is known of its id.
pub(super) struct TypeRow<'a> {
    pub namespace: &'a str,
    pub id: &'a str,
    pub worker_name: &'a str,
    description: &'a str,
    configuration: Option<&'a [u8]>,
    request: Option<&'a [u8]>,
    response: Option<&'a [u8]>,
}

impl Control {
    // === types ===

    /// `engine::triggers::list`: instances or types, by who asks (ENG-22, ENG-23).
    pub(in super::super) fn list_triggers(&self, call: &Call) -> Answer {
        let read: ListInput = input(call)?;
        let types = match read.kind.as_deref() {
            Some("types") => true,
            Some("instances") => false,
            Some(other) => {
                let message = format!("unknown `kind` '{other}': use `instances` or `types`");
                return Err(Refusal::new(codes::INVALID_ARGUMENTS, message));
            }
            None => call.generation == Generation::Current,
        };
        if !types {
            let bindings = self.sorted_bindings(&read, false);
            return Ok(Some(listing("triggers", bindings, |out, (binding, live)| {
                self.write_binding(out, binding, live);
            })));
        }
        let needle = Needle::new(read.search.as_deref());
        let rows = self
            .type_rows(read.include_internal == Some(true))
            .filter(|row| needle.is_in(row.id) || needle.is_in(row.description))
            .filter(|row| row.id.starts_with(read.prefix.as_deref().unwrap_or("")))
            .filter(|row| read.worker.as_deref().is_none_or(|worker| worker == row.worker_name));
        Ok(Some(listing("triggers", rows, |out, row| row.write(out))))
    }

    /// `engine::trigger-types::list` (ENG-25).
    pub(in super::super) fn list_trigger_types(&self, call: &Call) -> Answer {
        let read: ListInput = input(call)?;
        let rows = self.type_rows(read.include_internal == Some(true));
        Ok(Some(listing("trigger_types", rows, |out, row| {
            write_object(
                out,
                &[
                    ("id", Value::Text(row.id)),
                    ("description", Value::Text(row.description)),
                    ("trigger_request_format", Value::raw_optional(row.configuration)),
                    ("call_request_format", Value::raw_optional(row.request)),
                    ("call_response_format", Value::raw_optional(row.response)),
                    ("namespace", Value::Text(row.namespace)),
                    ("worker_name", Value::Text(row.worker_name)),
                ],
            );
        })))
    }

    /// `engine::triggers::info` (ENG-26).
    pub(in super::super) fn describe_trigger_type(&self, call: &Call) -> Answer {
        let read: InfoInput = input(call)?;
        let id = required(call, read.id, "id")?;
        let namespace = read.namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE);
        let mut out = Vec::new();
        match self.triggers.trigger_type(namespace, &id) {
            Some(view) => self.write_type_info(&mut out, &self.type_row(view)),
            None => {
                let message = format!("Trigger type '{id}' is not registered in namespace '{namespace}'.");
                return Err(Refusal::new(codes::NOT_FOUND, message));
            }
        }
        Ok(Some(out))
    }

    pub(super) fn type_rows(&self, internal: bool) -> impl Iterator<Item = TypeRow<'_>> {
        let views = self.triggers.trigger_types().filter(move |view| internal || !view.id.starts_with("engine::"));
        views.map(|view| self.type_row(view))
    }

    fn type_row<'a>(&'a self, view: TypeView<'a>) -> TypeRow<'a> {
        let known = schemas::known_type(view.id);
        let own = self.built_in_type(view.id).filter(|_| view.offer.is_none()).map(|(_, own)| own);
        let by_id = self.owner_of_type(view.id).unwrap_or_else(|| first_segment(view.id));
        let provider = view.offer.and_then(|offer| self.workers.get(&offer.connection)?.name());
        let described = view.offer.map(|offer| &*offer.description).filter(|text| !text.is_empty());
        // What a provider leaves out of a well-known type is what everybody knows of it (PROTO-100).
        let configuration = view.offer.and_then(|offer| offer.trigger_request_format.as_deref());
        let request = view.offer.and_then(|offer| offer.call_request_format.as_deref());
        TypeRow {
            namespace: view.namespace,
            id: view.id,
            worker_name: provider.unwrap_or(by_id),
            description: described
                .or(known.map(|known| known.description))
                .or(own.map(|own| &*own.description))
                .unwrap_or(""),
            configuration: configuration
                .or(known.map(|known| known.configuration.as_bytes()))
                .or(own.and_then(|own| own.config_format.as_deref()).map(str::as_bytes)),
            request: request
                .or(known.and_then(|known| known.request).map(str::as_bytes))
                .or(own.and_then(|own| own.call_format.as_deref()).map(str::as_bytes)),
            response: known.and_then(|known| known.response).map(str::as_bytes),
        }
    }

    /// A trigger type of a built-in worker, and whose it is.
    fn built_in_type(&self, id: &str) -> Option<(&str, &TriggerType)> {
        let types = |worker: &'_ std::sync::Arc<Definition>| worker.trigger_types.iter().position(|own| own.id == id);
        self.built_ins.iter().find_map(|worker| types(worker).map(|at| (&*worker.name, &worker.trigger_types[at])))
    }

    /// Built-in worker a type belongs to by its id, whether it runs or not.
    pub(in super::super) fn owner_of_type(&self, id: &str) -> Option<&str> {
        let known = schemas::known_type(id).map(|known| known.worker);
        known.or_else(|| self.built_in_type(id).map(|(worker, _)| worker))
    }

    fn write_type_info(&self, out: &mut Vec<u8>, row: &TypeRow<'_>) {
        let count = self.triggers.bindings_of_type(row.namespace, row.id).count();
        write_object(
            out,
            &[
                ("id", Value::Text(row.id)),
                ("namespace", Value::Text(row.namespace)),
                ("worker_name", Value::Text(row.worker_name)),
                ("description", Value::Text(row.description)),
                ("configuration_schema", Value::raw_optional(row.configuration)),
                ("request_schema", Value::raw_optional(row.request)),
                ("response_schema", Value::raw_optional(row.response)),
                ("instance_count", Value::Number(count as u64)),
            ],
        );
    }

    // === instances ===

    /// `engine::registered-triggers::list` (ENG-29).
    pub(in super::super) fn list_registered_triggers(&self, call: &Call) -> Answer {
        let read: ListInput = input(call)?;
        let needle = Needle::new(read.search.as_deref());
        let rows = self
            .sorted_bindings(&read, read.include_pending == Some(true))
            .into_iter()
            .filter(|(binding, _)| {
                [&*binding.id, &*binding.trigger_type, &*binding.function_id].iter().any(|text| needle.is_in(text))
            })
            .filter(|(binding, _)| read.trigger_type.as_deref().is_none_or(|wanted| wanted == &*binding.trigger_type))
            .filter(|(binding, _)| read.function_id.as_deref().is_none_or(|wanted| wanted == &*binding.function_id))
            .filter(|(binding, _)| read.worker.as_deref().is_none_or(|wanted| wanted == self.target_owner(binding)))
            .filter(|(binding, _)| self.is_visible(call, binding));
        Ok(Some(listing("registered_triggers", rows, |out, (binding, live)| self.write_binding(out, binding, live))))
    }

    /// `engine::registered-triggers::info` (ENG-30).
    pub(in super::super) fn describe_registered_trigger(&self, call: &Call) -> Answer {
        let read: InfoInput = input(call)?;
        let id = required(call, read.id, "id")?;
        let Some((binding, namespace)) = self.triggers.live_binding(&id) else {
            return Err(Refusal::new(codes::NOT_FOUND, format!("Registered trigger '{id}' was not found.")));
        };
        let (mut trigger, mut function) = (b"null".to_vec(), b"null".to_vec());
        if let Some(view) = self.triggers.trigger_type(namespace, &binding.trigger_type) {
            trigger.clear();
            self.write_type_info(&mut trigger, &self.type_row(view));
        }
        if let Some(row) = self.function_row(&binding.namespace, &binding.function_id) {
            function.clear();
            self.write_function_info(&mut function, &row);
        }
        let mut out = Vec::new();
        write_object(
            &mut out,
            &[
                ("id", Value::Text(&binding.id)),
                ("trigger_type", Value::Text(&binding.trigger_type)),
                ("function_id", Value::Text(&binding.function_id)),
                ("namespace", Value::Text(&binding.namespace)),
                ("worker_name", Value::Text(self.target_owner(binding))),
                ("config", Value::Raw(&binding.config)),
                ("metadata", Value::raw_optional(binding.metadata.as_deref())),
                ("trigger", Value::Raw(&trigger)),
                ("function", Value::Raw(&function)),
            ],
        );
        Ok(Some(out))
    }

    /// Whether the caller's session may call what a trigger runs (ENG-8).
    fn is_visible(&self, call: &Call, binding: &Binding) -> bool {
        let row = || self.function_row(&binding.namespace, &binding.function_id);
        call.session.is_none() || row().is_some_and(|row| row.is_visible(call))
    }

    /// Triggers by id, and whether they are live. Those on functions of the engine are internal (ENG-10).
    fn sorted_bindings(&self, read: &ListInput, pending: bool) -> Vec<(&Binding, bool)> {
        let mut rows: Vec<_> = self
            .triggers
            .bindings()
            .filter(|(_, live)| *live || pending)
            .filter(|(binding, _)| read.include_internal == Some(true) || !binding.function_id.starts_with("engine::"))
            .collect();
        rows.sort_by(|(a, _), (b, _)| a.id.cmp(&b.id));
        rows
    }

    /// Name of whoever provides the function of a trigger.
    pub(super) fn target_owner<'a>(&'a self, binding: &'a Binding) -> &'a str {
        let row = self.function_row(&binding.namespace, &binding.function_id);
        row.map_or_else(|| first_segment(&binding.function_id), |row| row.worker_name)
    }

    pub(super) fn write_binding(&self, out: &mut Vec<u8>, binding: &Binding, live: bool) {
        write_object(
            out,
            &[
                ("id", Value::Text(&binding.id)),
                ("trigger_type", Value::Text(&binding.trigger_type)),
                ("function_id", Value::Text(&binding.function_id)),
                ("namespace", Value::Text(&binding.namespace)),
                ("worker_name", Value::Text(self.target_owner(binding))),
                ("config", Value::Raw(&binding.config)),
                ("config_summary", Value::Text(&summary(&binding.config))),
                ("metadata", Value::raw_optional(binding.metadata.as_deref())),
                ("status", if live { Value::Absent } else { Value::Text("pending") }),
            ],
        );
    }
}

// === impl TypeRow ===

impl TypeRow<'_> {
    /// Appends the row of a listing (ENG-23).
    pub fn write(&self, out: &mut Vec<u8>) {
        write_object(
            out,
            &[
                ("id", Value::Text(self.id)),
                ("namespace", Value::Text(self.namespace)),
                ("worker_name", Value::Text(self.worker_name)),
                ("description", Value::Text(self.description)),
            ],
        );
    }
}

/// A configuration as compact JSON, cut for a table.
fn summary(config: &[u8]) -> String {
    let text = String::from_utf8_lossy(config);
    // White space outside strings is layout.
    let (mut in_string, mut escaped) = (false, false);
    let compact = text.chars().filter(|c| {
        let keep = in_string || !c.is_ascii_whitespace();
        match (*c, escaped) {
            ('"', false) => in_string = !in_string,
            ('\\', false) if in_string => {
                escaped = true;
                return keep;
            }
            _ => {}
        }
        escaped = false;
        keep
    });
    let mut out: String = compact.take(SUMMARY_CHARS_MAX + 1).collect();
    if out.chars().count() > SUMMARY_CHARS_MAX {
        out.pop();
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    // ENG-29
    #[test]
    fn summaries_are_compact_and_short() {
        assert_eq!(summary(br#" { "a" : "x \" y" , "b": [1, 2] } "#), r#"{"a":"x \" y","b":[1,2]}"#);
        let long = format!("\"{}\"", "é".repeat(100));
        assert_eq!(summary(long.as_bytes()), format!("\"{}…", "é".repeat(79)));
    }
}
