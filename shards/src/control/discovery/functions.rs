//! `engine::functions::list` and `engine::functions::info` (ENG-14 to ENG-21).

use super::super::calls::{Answer, Call, Refusal, input};
use super::super::functions::EngineFunction;
use super::super::{Control, schemas};
use super::{Needle, listing, write_array};
use crate::builtin::Function;
use crate::connection::worker::Generation;
use crate::registry::DEFAULT_NAMESPACE;
use crate::wire::codes;
use crate::wire::encode::{Value, write_object};
use crate::wire::json;
use serde::Deserialize;

/// Most functions one call may ask about (ENG-17).
const FUNCTION_IDS_MAX: usize = 32;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ListInput {
    search: Option<String>,
    prefix: Option<String>,
    worker: Option<String>,
    workers: Option<Vec<String>>,
    include_internal: Option<bool>,
    include_schemas: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct InfoInput {
    function_id: Option<String>,
    function_ids: Option<Vec<String>>,
    namespace: Option<String>,
}

/// One function, of a worker or of the engine.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row<'a> {
    pub namespace: &'a str,
    pub id: &'a str,
    pub worker_name: &'a str,
    description: Option<&'a str>,
    metadata: Option<&'a [u8]>,
    request: Option<&'a [u8]>,
    response: Option<&'a [u8]>,
}

impl Control {
    pub(in super::super) fn list_functions(&self, call: &Call) -> Answer {
        let read: ListInput = input(call)?;
        let needle = Needle::new(read.search.as_deref());
        let wanted = |name: &str| {
            let mut names = read.worker.iter().chain(read.workers.iter().flatten()).peekable();
            names.peek().is_none() || names.any(|wanted| wanted == name)
        };
        let mut rows: Vec<(u8, Row<'_>)> = self
            .function_rows(read.prefix.as_deref().unwrap_or(""))
            .filter(|row| wanted(row.worker_name))
            .filter(|row| row.is_visible(call))
            .filter(|row| read.include_internal == Some(true) || !row.is_internal())
            .filter_map(|row| Some((row.rank(&needle)?, row)))
            .collect();
        rows.sort_by(|(rank_a, a), (rank_b, b)| (rank_a, a.id, a.namespace).cmp(&(rank_b, b.id, b.namespace)));
        let schemas = call.generation != Generation::Current || read.include_schemas == Some(true);
        Ok(Some(listing("functions", rows, |out, (_, row)| row.write(out, call.generation, schemas))))
    }

    /// Appends an array of every function there is, by id (ENG-45).
    pub(in super::super) fn write_all_functions(&self, out: &mut Vec<u8>, generation: Generation) {
        let mut rows: Vec<Row<'_>> = self.function_rows("").collect();
        rows.sort_by_key(|row| (row.id, row.namespace));
        write_array(out, rows, |out, row| row.write(out, generation, generation != Generation::Current));
    }

    /// Functions whose id begins with `prefix`: those of workers in order, then those of the engine.
    pub(super) fn function_rows<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = Row<'a>> {
        let engine = EngineFunction::ALL.iter().filter(move |function| function.id().starts_with(prefix));
        let built_in = self.built_in_functions().filter(move |(_, function)| function.id.starts_with(prefix));
        let workers = self.catalog.iter(prefix).map(|function| self.row_of(&function));
        let engine = engine.map(|function| Row::of_engine(*function));
        workers.chain(engine).chain(built_in.map(|(worker, function)| Row::of_built_in(worker, function)))
    }

    fn built_in_functions(&self) -> impl Iterator<Item = (&str, &Function)> {
        self.built_ins.iter().flat_map(|worker| worker.functions.iter().map(|function| (&*worker.name, function)))
    }

    fn built_in_function(&self, id: &str) -> Option<Row<'_>> {
        let (worker, function) = self.built_in_functions().find(|(_, function)| function.id == id)?;
        Some(Row::of_built_in(worker, function))
    }

    fn row_of<'a>(&'a self, function: &super::super::catalog::Function<'a>) -> Row<'a> {
        let details = function.details;
        Row {
            namespace: function.namespace,
            id: function.id,
            worker_name: self.owner_name(function),
            description: details.description.as_deref(),
            metadata: details.metadata.as_deref(),
            request: details.request_format.as_deref(),
            response: details.response_format.as_deref(),
        }
    }

    /// One function.
    pub(super) fn function_row(&self, namespace: &str, id: &str) -> Option<Row<'_>> {
        if namespace == DEFAULT_NAMESPACE
            && let Some(function) = EngineFunction::of_id(id)
        {
            return Some(Row::of_engine(function));
        }
        let built_in = (namespace == DEFAULT_NAMESPACE).then(|| self.built_in_function(id)).flatten();
        built_in.or_else(|| self.catalog.get(namespace, id).map(|function| self.row_of(&function)))
    }

    // === info ===

    pub(in super::super) fn describe_functions(&self, call: &Call) -> Answer {
        let read: InfoInput = input(call)?;
        let invalid = |message: &str| Err(Refusal::new(codes::INVALID_ARGUMENTS, message));
        let namespace = read.namespace.as_deref();
        match (read.function_id, read.function_ids) {
            (Some(_), Some(_)) => invalid("pass either `function_id` or `function_ids`, not both"),
            (None, None) => invalid("missing field `function_id` (or `function_ids` for a batch)"),
            (Some(id), None) => {
                let row = self.find_function(&id, namespace)?;
                if !row.is_visible(call) {
                    let message = format!("Function '{id}' is not visible to this session.");
                    return Err(Refusal::new(codes::FORBIDDEN, message));
                }
                let mut out = Vec::new();
                self.write_function_info(&mut out, &row);
                Ok(Some(out))
            }
            (None, Some(ids)) => {
                let mut distinct: Vec<&String> = Vec::new();
                for id in &ids {
                    if !distinct.contains(&id) {
                        distinct.push(id);
                    }
                    if distinct.len() > FUNCTION_IDS_MAX {
                        return invalid("too many function_ids (max 32)");
                    }
                }
                if distinct.is_empty() {
                    return invalid("`function_ids` must be a non-empty array of function ids");
                }
                Ok(Some(listing("functions", distinct, |out, id| match self.find_function(id, namespace) {
                    Ok(row) if row.is_visible(call) => self.write_function_info(out, &row),
                    Ok(_) => {
                        write_object(out, &[("function_id", Value::Text(id)), ("error", Value::Text("forbidden"))]);
                    }
                    Err(_) => {
                        write_object(out, &[("function_id", Value::Text(id)), ("error", Value::Text("not_found"))]);
                    }
                })))
            }
        }
    }

    /// Finds a function as ENG-18 resolves namespaces.
    fn find_function(&self, id: &str, namespace: Option<&str>) -> Result<Row<'_>, Refusal> {
        let not_found = |message: String| Err(Refusal::new(codes::NOT_FOUND, message));
        if let Some(row) = self.function_row(namespace.unwrap_or(DEFAULT_NAMESPACE), id) {
            return Ok(row);
        }
        let mut elsewhere = self.catalog.namespaces_of(id);
        let built_in = EngineFunction::of_id(id).is_some() || self.built_in_function(id).is_some();
        if built_in && !elsewhere.contains(&DEFAULT_NAMESPACE) {
            elsewhere.push(DEFAULT_NAMESPACE);
            elsewhere.sort_unstable();
        }
        match (namespace, elsewhere.as_slice()) {
            (_, []) => not_found(format!("Function '{id}' is not registered.")),
            (None, [only]) => match self.function_row(only, id) {
                Some(row) => Ok(row),
                None => not_found(format!("Function '{id}' is not registered.")),
            },
            (None, several) => not_found(format!(
                "Function '{id}' is ambiguous: it is registered in namespace(s): {}. Pass `namespace` to select one.",
                several.join(", ")
            )),
            (Some(namespace), others) => not_found(format!(
                "Function '{id}' is not registered in namespace '{namespace}'. It is registered in namespace(s): {}.",
                others.join(", ")
            )),
        }
    }

    pub(super) fn write_function_info(&self, out: &mut Vec<u8>, row: &Row<'_>) {
        let mut triggers = Vec::new();
        write_array(&mut triggers, self.triggers.bindings_of_function(row.namespace, row.id), |out, binding| {
            let members = [
                ("id", Value::Text(&binding.id)),
                ("trigger_type", Value::Text(&binding.trigger_type)),
                ("config", Value::Raw(&binding.config)),
            ];
            write_object(out, &members);
        });
        write_object(
            out,
            &[
                ("function_id", Value::Text(row.id)),
                ("namespace", Value::Text(row.namespace)),
                ("worker_name", Value::Text(row.worker_name)),
                ("description", Value::optional(row.description)),
                ("request_schema", Value::raw_optional(row.request)),
                ("response_schema", Value::raw_optional(row.response)),
                ("metadata", Value::raw_optional(row.metadata)),
                ("registered_triggers", Value::Raw(&triggers)),
            ],
        );
    }
}

// === impl Row ===

impl<'a> Row<'a> {
    pub fn of_engine(function: EngineFunction) -> Row<'a> {
        let (request, response) = schemas::of_function(function);
        Row {
            namespace: DEFAULT_NAMESPACE,
            id: function.id(),
            worker_name: function.worker(),
            description: Some(function.description()),
            metadata: None,
            request: Some(request.as_bytes()),
            response: Some(response.as_bytes()),
        }
    }

    /// A function of a built-in worker.
    pub fn of_built_in(worker: &'a str, function: &'a Function) -> Row<'a> {
        Row {
            namespace: DEFAULT_NAMESPACE,
            id: &function.id,
            worker_name: worker,
            description: Some(&function.description),
            metadata: None,
            request: function.request_format.as_deref().map(str::as_bytes),
            response: function.response_format.as_deref().map(str::as_bytes),
        }
    }

    /// Whether the caller's session may call it (ENG-8).
    pub fn is_visible(&self, call: &Call) -> bool {
        let session = call.session.as_deref();
        session.is_none_or(|session| session.permits(self.namespace, self.id, self.metadata).is_ok())
    }

    /// ENG-10: functions of the engine, and those whose metadata says so.
    fn is_internal(&self) -> bool {
        if self.id.starts_with("engine::") && !self.id.starts_with("engine::queue::") {
            return true;
        }
        #[derive(Deserialize)]
        struct Marked {
            internal: Option<serde_json::Value>,
        }
        let marked = self.metadata.filter(|text| memchr::memmem::find(text, b"internal").is_some());
        marked
            .and_then(|metadata| json::decode::<Marked>(metadata).ok())
            .is_some_and(|marked| marked.internal == Some(serde_json::Value::Bool(true)))
    }

    /// How well it fits a search (ENG-16); `None` = not at all.
    fn rank(&self, needle: &Needle) -> Option<u8> {
        if needle.0.is_empty() {
            return Some(0);
        }
        let id = self.id.to_lowercase();
        if id.starts_with(&needle.0) || id.split("::").any(|segment| segment == needle.0) {
            Some(0)
        } else if id.contains(&needle.0) {
            Some(1)
        } else {
            needle.is_in(self.description.unwrap_or("")).then_some(2)
        }
    }

    /// Appends the row of a listing (ENG-15).
    pub fn write(&self, out: &mut Vec<u8>, generation: Generation, schemas: bool) {
        let legacy = generation == Generation::Legacy;
        let schema = |raw| if schemas { Value::raw_nullable(raw) } else { Value::Absent };
        write_object(
            out,
            &[
                ("function_id", Value::Text(self.id)),
                ("namespace", Value::Text(self.namespace)),
                ("worker_name", Value::Text(self.worker_name)),
                ("description", if legacy { Value::nullable } else { Value::optional }(self.description)),
                ("metadata", if legacy { Value::raw_nullable } else { Value::raw_optional }(self.metadata)),
                ("request_format", schema(self.request)),
                ("response_format", schema(self.response)),
            ],
        );
    }
}
