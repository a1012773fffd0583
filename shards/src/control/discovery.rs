//! Questions about the live registry, answered from control's picture of it (ENG-14 to ENG-16, ENG-36 to ENG-41).

use super::functions::{BUILT_IN_WORKERS, ENGINE_FUNCTIONS_WORKER, EngineFunction};
use super::{Command, Control, FunctionDetails, FunctionRecord, Query, WorkerRecord};
use crate::connection::worker::Generation;
use crate::ids::{ConnectionId, ShardId};
use crate::registry::DEFAULT_NAMESPACE;
use crate::wire::codes;
use crate::wire::encode::{Outcome, Value, write_object};
use crate::wire::json::{self, write_string};
use serde::Deserialize;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use uuid::Uuid;

/// Input of `engine::functions::list` (ENG-14).
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct FunctionsInput {
    search: Option<String>,
    prefix: Option<String>,
    worker: Option<String>,
    workers: Option<Vec<String>>,
    include_internal: Option<bool>,
    include_schemas: Option<bool>,
}

/// Input of `engine::workers::list` (ENG-36).
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct WorkersInput {
    search: Option<String>,
    runtime: Option<String>,
    status: Option<String>,
    worker_id: Option<String>,
}

/// One row of a function listing.
struct FunctionRow<'a> {
    namespace: &'a str,
    id: &'a str,
    worker_name: Cow<'a, str>,
    details: Cow<'a, FunctionDetails>,
}

impl Control {
    pub(super) fn handle_call(
        &mut self,
        caller: ConnectionId,
        invocation_id: Option<Uuid>,
        function: EngineFunction,
        generation: Generation,
        data: Box<[u8]>,
    ) {
        // Listings have no effect, so a void call of one has none either.
        let Some(invocation_id) = invocation_id else { return };
        match function {
            EngineFunction::FunctionsList => match input::<FunctionsInput>(function, &data) {
                Ok(input) => {
                    let listing = self.list_functions(&input, generation);
                    self.answer(caller, invocation_id, &Outcome::Result(Some(&listing)));
                }
                Err(message) => self.refuse_input(caller, invocation_id, &message),
            },
            EngineFunction::WorkersList => {
                if let Err(message) = input::<WorkersInput>(function, &data) {
                    return self.refuse_input(caller, invocation_id, &message);
                }
                self.ask_load(Query {
                    caller,
                    invocation_id,
                    function,
                    data,
                    missing: self.settings.shards,
                    load: HashMap::new(),
                });
            }
            EngineFunction::WorkersRegister | EngineFunction::ChannelsCreate => {
                debug_assert!(false, "run by the home shard")
            }
        }
    }

    fn refuse_input(&mut self, caller: ConnectionId, invocation_id: Uuid, message: &str) {
        let outcome = Outcome::Error { code: codes::DESERIALIZATION_ERROR, message, stacktrace: None };
        self.answer(caller, invocation_id, &outcome);
    }

    // === functions ===

    fn list_functions(&self, input: &FunctionsInput, generation: Generation) -> Vec<u8> {
        let needle = input.search.as_deref().unwrap_or("").to_lowercase();
        let mut rows: Vec<(u8, FunctionRow<'_>)> = self
            .function_rows()
            .filter(|row| input.include_internal == Some(true) || !is_internal(row))
            .filter(|row| input.prefix.as_deref().is_none_or(|prefix| row.id.starts_with(prefix)))
            .filter(|row| {
                let mut wanted = input.worker.iter().chain(input.workers.iter().flatten()).peekable();
                wanted.peek().is_none() || wanted.any(|name| *name == row.worker_name)
            })
            .filter_map(|row| Some((rank(&row, &needle)?, row)))
            .collect();
        rows.sort_by(|(rank_a, a), (rank_b, b)| (rank_a, a.id, a.namespace).cmp(&(rank_b, b.id, b.namespace)));
        let legacy = generation == Generation::Legacy;
        let schemas = generation != Generation::Current || input.include_schemas == Some(true);
        let mut out = b"{\"functions\":[".to_vec();
        for (index, (_, row)) in rows.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            write_function_row(&mut out, row, legacy, schemas);
        }
        out.extend_from_slice(b"]}");
        out
    }

    /// All functions, one row per namespace and id; of several providers the newest registration shows.
    fn function_rows(&self) -> impl Iterator<Item = FunctionRow<'_>> {
        let mut newest: BTreeMap<(&str, &str), (&WorkerRecord, &FunctionRecord)> = BTreeMap::new();
        for worker in self.workers.values() {
            for (id, record) in &worker.functions {
                let entry = newest.entry((id, &worker.namespace)).or_insert((worker, record));
                if entry.1.sequence < record.sequence {
                    *entry = (worker, record);
                }
            }
        }
        let engine = EngineFunction::ALL.into_iter().map(|function| FunctionRow {
            namespace: DEFAULT_NAMESPACE,
            id: function.id(),
            worker_name: Cow::Borrowed(ENGINE_FUNCTIONS_WORKER),
            details: Cow::Owned(FunctionDetails {
                description: Some(function.description().into()),
                ..FunctionDetails::default()
            }),
        });
        newest
            .into_iter()
            .map(|((id, namespace), (worker, record))| FunctionRow {
                namespace,
                id,
                worker_name: Cow::Borrowed(worker.name().unwrap_or_else(|| id.split("::").next().unwrap_or(id))),
                details: Cow::Borrowed(&record.details),
            })
            .chain(engine)
    }

    // === workers ===

    fn ask_load(&mut self, query: Query) {
        self.query_count += 1;
        let number = self.query_count;
        self.queries.insert(number, query);
        for peer in 0..self.settings.shards {
            self.command(ShardId(peer as u16), Command::CountLoad { query: number });
        }
    }

    pub(super) fn handle_load(&mut self, number: u64, load: Vec<(ConnectionId, u32)>) {
        let Some(query) = self.queries.get_mut(&number) else { return };
        query.load.extend(load);
        query.missing -= 1;
        if query.missing > 0 {
            return;
        }
        let Some(query) = self.queries.remove(&number) else { return };
        debug_assert_eq!(query.function, EngineFunction::WorkersList);
        // The input was checked when the call came in.
        let Ok(input) = input::<WorkersInput>(query.function, &query.data) else { return };
        let listing = self.list_workers(&input, &query.load);
        self.answer(query.caller, query.invocation_id, &Outcome::Result(Some(&listing)));
    }

    fn list_workers(&self, input: &WorkersInput, load: &HashMap<ConnectionId, u32>) -> Vec<u8> {
        let mut rows: Vec<(String, String, Vec<u8>)> = Vec::new();
        let wanted = |id: &str, name: &str, runtime: &str, status: &str| {
            let search = input.search.as_deref().unwrap_or("");
            name.contains(search)
                && input.runtime.as_deref().is_none_or(|wanted| wanted == runtime)
                && input.worker_id.as_deref().is_none_or(|wanted| wanted == id)
                && input.status.as_deref().is_none_or(|wanted| {
                    // Every listed worker is connected (ENG-40).
                    wanted == status || wanted == "connected"
                })
        };
        for (connection, worker) in &self.workers {
            let Some(said) = &worker.announcement else { continue };
            let running = load.get(connection).copied().unwrap_or(0);
            let status = if running > 0 { "busy" } else { "available" };
            let id = worker.worker_id.to_string();
            let name = said.name.as_deref();
            let runtime = said.runtime.as_deref().unwrap_or("unknown");
            if !wanted(&id, name.unwrap_or(""), runtime, status) {
                continue;
            }
            let peer = worker.peer.to_string();
            let mut row = Vec::new();
            write_object(
                &mut row,
                &[
                    ("id", Value::Text(&id)),
                    ("name", Value::nullable(name)),
                    ("description", Value::nullable(said.description.as_deref())),
                    ("version", Value::nullable(said.version.as_deref())),
                    ("namespace", Value::Text(&worker.namespace)),
                    ("runtime", Value::Text(runtime)),
                    ("os", Value::nullable(said.os.as_deref())),
                    ("status", Value::Text(status)),
                    ("function_count", Value::Number(worker.functions.len() as u64)),
                    ("connected_at_ms", Value::Number(worker.connected_unix_ms)),
                    ("active_invocations", Value::Number(running.into())),
                    ("isolation", Value::nullable(said.isolation.as_deref())),
                    ("ip_address", Value::Text(&peer)),
                    ("functions", Value::Raw(&names(worker.functions.keys().map(|id| &**id)))),
                    ("internal", Value::Bool(false)),
                    ("latest_metrics", Value::Null),
                    ("pid", said.pid.map_or(Value::Absent, |pid| Value::Number(pid.into()))),
                ],
            );
            rows.push((name.unwrap_or(&id).to_owned(), id, row));
        }
        for built_in in BUILT_IN_WORKERS {
            if !wanted(built_in.name, built_in.name, "engine", "available") {
                continue;
            }
            let functions: Vec<&str> = if built_in.name == ENGINE_FUNCTIONS_WORKER {
                EngineFunction::ALL.iter().map(|function| function.id()).collect()
            } else {
                Vec::new()
            };
            let mut row = Vec::new();
            write_object(
                &mut row,
                &[
                    ("id", Value::Text(built_in.name)),
                    ("name", Value::Text(built_in.name)),
                    ("description", Value::Text(built_in.description)),
                    ("version", Value::Text(env!("CARGO_PKG_VERSION"))),
                    ("namespace", Value::Text(DEFAULT_NAMESPACE)),
                    ("runtime", Value::Text("engine")),
                    ("os", Value::Null),
                    ("status", Value::Text("available")),
                    ("function_count", Value::Number(functions.len() as u64)),
                    ("connected_at_ms", Value::Number(self.started_unix_ms)),
                    ("active_invocations", Value::Number(0)),
                    ("isolation", Value::Text("in-process")),
                    ("ip_address", Value::Null),
                    ("functions", Value::Raw(&names(functions.into_iter()))),
                    ("internal", Value::Bool(true)),
                    ("latest_metrics", Value::Null),
                ],
            );
            rows.push((built_in.name.to_owned(), built_in.name.to_owned(), row));
        }
        rows.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        let mut out = b"{\"workers\":[".to_vec();
        for (index, (_, _, row)) in rows.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            out.extend_from_slice(row);
        }
        out.extend_from_slice(format!("],\"timestamp\":{}}}", self.now.unix_ms).as_bytes());
        out
    }
}

/// Reads the input of an engine function; `null` counts as `{}` (ENG-4).
fn input<T: serde::de::DeserializeOwned + Default>(function: EngineFunction, data: &[u8]) -> Result<T, String> {
    if data == b"null" {
        return Ok(T::default());
    }
    let failed = |detail: &str| format!("Failed to deserialize input for {}: {detail}", function.id());
    if data.first() != Some(&b'{') {
        return Err(failed("expected an object"));
    }
    json::decode(data).map_err(|detail| failed(&detail))
}

/// ENG-10: functions of the engine, and those whose metadata says so.
fn is_internal(row: &FunctionRow<'_>) -> bool {
    if row.id.starts_with("engine::") && !row.id.starts_with("engine::queue::") {
        return true;
    }
    #[derive(Deserialize)]
    struct Marked {
        internal: Option<serde_json::Value>,
    }
    row.details
        .metadata
        .as_deref()
        .and_then(|metadata| json::decode::<Marked>(metadata).ok())
        .is_some_and(|marked| marked.internal == Some(serde_json::Value::Bool(true)))
}

/// How well a row fits a search (ENG-16); `None` = not at all.
fn rank(row: &FunctionRow<'_>, needle: &str) -> Option<u8> {
    if needle.is_empty() {
        return Some(0);
    }
    let id = row.id.to_lowercase();
    if id.starts_with(needle) || id.split("::").any(|segment| segment == needle) {
        Some(0)
    } else if id.contains(needle) {
        Some(1)
    } else {
        let description = row.details.description.as_deref().unwrap_or("").to_lowercase();
        description.contains(needle).then_some(2)
    }
}

fn write_function_row(out: &mut Vec<u8>, row: &FunctionRow<'_>, legacy: bool, schemas: bool) {
    let description = row.details.description.as_deref();
    let metadata = row.details.metadata.as_deref();
    let (request, response) = (row.details.request_format.as_deref(), row.details.response_format.as_deref());
    write_object(
        out,
        &[
            ("function_id", Value::Text(row.id)),
            ("namespace", Value::Text(row.namespace)),
            ("worker_name", Value::Text(&row.worker_name)),
            ("description", if legacy { Value::nullable(description) } else { Value::optional(description) }),
            ("metadata", if legacy { Value::raw_nullable(metadata) } else { Value::raw_optional(metadata) }),
            ("request_format", if schemas { Value::raw_nullable(request) } else { Value::Absent }),
            ("response_format", if schemas { Value::raw_nullable(response) } else { Value::Absent }),
        ],
    );
}

/// A JSON array of strings.
fn names<'a>(names: impl Iterator<Item = &'a str>) -> Vec<u8> {
    let mut out = vec![b'['];
    for (index, name) in names.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        write_string(&mut out, name);
    }
    out.push(b']');
    out
}
