//! `engine::workers::list` and `engine::workers::info` (ENG-36 to ENG-42).

use super::super::announcement::Announcement;
use super::super::calls::{Answer, Call, Refusal, input, required};
use super::super::functions::{BUILT_IN_WORKERS, BuiltInWorker, EngineFunction};
use super::super::{Control, WorkerRecord};
use super::{write_array, write_names};
use crate::connection::worker::Generation;
use crate::ids::ConnectionId;
use crate::registry::DEFAULT_NAMESPACE;
use crate::wire::codes;
use crate::wire::encode::{Value, write_object};
use serde::Deserialize;
use std::collections::HashMap;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ListInput {
    search: Option<String>,
    runtime: Option<String>,
    status: Option<String>,
    worker_id: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct InfoInput {
    name: Option<String>,
    namespace: Option<String>,
}

/// One worker, connected or built in.
#[derive(Clone, Copy)]
enum Subject<'a> {
    Connected(ConnectionId, &'a WorkerRecord, &'a Announcement),
    BuiltIn(BuiltInWorker<'a>),
}

/// A worker as it is shown.
struct Row<'a> {
    id: String,
    name: Option<&'a str>,
    subject: Subject<'a>,
    runtime: &'a str,
    status: &'static str,
    active_invocations: u32,
}

impl Control {
    /// Says at once whether the input can be read; the answer comes when the shards have said how busy they are.
    pub(in super::super) fn check_workers_input(&self, call: &Call) -> Result<(), Refusal> {
        match call.function {
            EngineFunction::WorkersInfo => required(call, input::<InfoInput>(call)?.name, "name").map(drop),
            _ => input::<ListInput>(call).map(drop),
        }
    }

    pub(in super::super) fn list_workers(&self, call: &Call, load: &HashMap<ConnectionId, u32>) -> Answer {
        let read: ListInput = input(call)?;
        let is = |wanted: &Option<String>, value: &str| wanted.as_deref().is_none_or(|wanted| wanted == value);
        let mut rows: Vec<Row<'_>> = self
            .subjects()
            .map(|subject| Row::new(subject, load))
            .filter(|row| row.name.unwrap_or("").contains(read.search.as_deref().unwrap_or("")))
            .filter(|row| is(&read.runtime, row.runtime) && is(&read.worker_id, &row.id))
            // Every worker that is listed is connected (ENG-40).
            .filter(|row| is(&read.status, row.status) || is(&read.status, "connected"))
            .collect();
        rows.sort_by(|a, b| (a.sort_name(), &a.id).cmp(&(b.sort_name(), &b.id)));
        let mut out = b"{\"workers\":".to_vec();
        write_array(&mut out, rows, |out, row| self.write_worker(out, &row, true));
        out.extend_from_slice(format!(",\"timestamp\":{}}}", self.now.unix_ms).as_bytes());
        Ok(Some(out))
    }

    pub(in super::super) fn describe_worker(&self, call: &Call, load: &HashMap<ConnectionId, u32>) -> Answer {
        let read: InfoInput = input(call)?;
        let name = required(call, read.name, "name")?;
        let subject = self.find_worker(&name, read.namespace.as_deref())?;
        let row = Row::new(subject, load);
        let (mut worker, mut functions, mut types, mut triggers) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        self.write_worker(&mut worker, &row, false);
        let function_rows: Vec<_> = match subject {
            Subject::Connected(_, record, _) => {
                record.functions.iter().filter_map(|(id, space)| self.function_row(space, id)).collect()
            }
            Subject::BuiltIn(worker) => {
                let mut ids = self.functions_of(worker);
                ids.sort_unstable();
                ids.iter().filter_map(|id| self.function_row(DEFAULT_NAMESPACE, id)).collect()
            }
        };
        write_array(&mut functions, &function_rows, |out, row| row.write(out, Generation::Current, false));
        let own_types = self.type_rows(true).filter(|row| self.provides(subject, row.namespace, row.id));
        write_array(&mut types, own_types, |out, row| row.write(out));
        let mut bindings: Vec<_> =
            function_rows.iter().flat_map(|row| self.triggers.bindings_of_function(row.namespace, row.id)).collect();
        bindings.sort_by(|a, b| a.id.cmp(&b.id));
        write_array(&mut triggers, bindings, |out, binding| self.write_binding(out, binding, true));
        let mut out = Vec::new();
        write_object(
            &mut out,
            &[
                ("worker", Value::Raw(&worker)),
                ("functions", Value::Raw(&functions)),
                ("trigger_types", Value::Raw(&types)),
                ("registered_triggers", Value::Raw(&triggers)),
            ],
        );
        Ok(Some(out))
    }

    /// Workers that are listed: those that have announced themselves (ENG-39), and the built-in ones (ENG-38).
    fn subjects(&self) -> impl Iterator<Item = Subject<'_>> {
        let connected = self.workers.iter().filter_map(|(connection, record)| {
            Some(Subject::Connected(*connection, record, record.announcement.as_deref()?))
        });
        let always = BUILT_IN_WORKERS.into_iter();
        let configured = self
            .built_ins
            .iter()
            .filter(|worker| !worker.name.is_empty())
            .map(|worker| BuiltInWorker { name: &worker.name, description: &worker.description })
            .filter(|worker| BUILT_IN_WORKERS.iter().all(|always| always.name != worker.name));
        connected.chain(always.chain(configured).map(Subject::BuiltIn))
    }

    /// Ids of the functions of a built-in worker.
    fn functions_of<'a>(&'a self, worker: BuiltInWorker<'a>) -> Vec<&'a str> {
        let of_engine = EngineFunction::ALL.iter().filter(|function| function.worker() == worker.name);
        let definition = self.built_ins.iter().filter(|definition| definition.name == worker.name);
        let own = definition.flat_map(|definition| &definition.functions).map(|function| &*function.id);
        of_engine.map(|function| function.id()).chain(own).collect()
    }

    /// Finds a worker by name or connection id (ENG-42). Of several of one name the newest is shown.
    fn find_worker(&self, name: &str, namespace: Option<&str>) -> Result<Subject<'_>, Refusal> {
        let not_found = |message: String| Err(Refusal::new(codes::NOT_FOUND, message));
        let mut found: Vec<Subject<'_>> =
            self.subjects().filter(|subject| subject.name() == Some(name) || subject.id() == name).collect();
        found.sort_by_key(|subject| subject.connected_unix_ms(self));
        let mut spaces: Vec<&str> = found.iter().map(|subject| subject.namespace()).collect();
        spaces.sort_unstable();
        spaces.dedup();
        let wanted = match (namespace, spaces.as_slice()) {
            (_, []) => return not_found(format!("Worker '{name}' is not connected.")),
            (Some(wanted), all) if all.contains(&wanted) => wanted,
            (Some(_), all) => {
                return not_found(format!(
                    "Worker '{name}' is not connected in the requested namespace; it is connected in \
                     namespace(s): {}.",
                    all.join(", ")
                ));
            }
            (None, all) if all.contains(&DEFAULT_NAMESPACE) => DEFAULT_NAMESPACE,
            (None, [only]) => only,
            (None, several) => {
                return not_found(format!(
                    "Worker '{name}' is ambiguous: it is connected in namespace(s): {}. Pass `namespace` to \
                     disambiguate.",
                    several.join(", ")
                ));
            }
        };
        match found.iter().rfind(|subject| subject.namespace() == wanted) {
            Some(subject) => Ok(*subject),
            None => not_found(format!("Worker '{name}' is not connected.")),
        }
    }

    fn provides(&self, subject: Subject<'_>, namespace: &str, type_id: &str) -> bool {
        let Some(view) = self.triggers.trigger_type(namespace, type_id) else { return false };
        match (subject, view.offer) {
            (Subject::Connected(connection, ..), Some(offer)) => offer.connection == connection,
            (Subject::BuiltIn(worker), None) => self.owner_of_type(type_id) == Some(worker.name),
            _ => false,
        }
    }

    /// Appends a worker; `listed` adds what only listings have (ENG-37).
    fn write_worker(&self, out: &mut Vec<u8>, row: &Row<'_>, listed: bool) {
        let mut ids = Vec::new();
        let functions = match row.subject {
            Subject::Connected(_, record, _) => {
                write_names(&mut ids, record.functions.keys().map(|id| &**id));
                record.functions.len()
            }
            Subject::BuiltIn(worker) => {
                let functions = self.functions_of(worker);
                write_names(&mut ids, functions.iter().copied());
                functions.len()
            }
        };
        let (said, peer, built_in) = match row.subject {
            Subject::Connected(_, record, said) => (Some(said), Some(record.peer.to_string()), None),
            Subject::BuiltIn(worker) => (None, None, Some(worker)),
        };
        let text = |get: fn(&Announcement) -> Option<&String>| said.and_then(get).map(String::as_str);
        let description = text(|said| said.description.as_ref()).or(built_in.map(|worker| worker.description));
        let version = text(|said| said.version.as_ref()).or(built_in.map(|_| env!("CARGO_PKG_VERSION")));
        let isolation = text(|said| said.isolation.as_ref()).or(built_in.map(|_| "in-process"));
        write_object(
            out,
            &[
                ("id", Value::Text(&row.id)),
                ("name", Value::nullable(row.name)),
                ("description", Value::nullable(description)),
                ("version", Value::nullable(version)),
                ("namespace", Value::Text(row.subject.namespace())),
                ("runtime", Value::Text(row.runtime)),
                ("os", Value::nullable(text(|said| said.os.as_ref()))),
                ("status", Value::Text(row.status)),
                ("function_count", Value::Number(functions as u64)),
                ("connected_at_ms", Value::Number(row.subject.connected_unix_ms(self))),
                ("active_invocations", Value::Number(row.active_invocations.into())),
                ("isolation", Value::nullable(isolation)),
                ("ip_address", Value::nullable(peer.as_deref())),
                ("functions", if listed { Value::Raw(&ids) } else { Value::Absent }),
                ("internal", Value::Bool(built_in.is_some())),
                ("latest_metrics", if listed { Value::Null } else { Value::Absent }),
                ("pid", said.and_then(|said| said.pid).map_or(Value::Absent, |pid| Value::Number(pid.into()))),
            ],
        );
    }
}

// === impl Subject ===

impl<'a> Subject<'a> {
    fn id(&self) -> String {
        match self {
            Subject::Connected(_, record, _) => record.worker_id.to_string(),
            Subject::BuiltIn(worker) => worker.name.to_owned(),
        }
    }

    fn name(&self) -> Option<&'a str> {
        match self {
            Subject::Connected(_, _, said) => said.name.as_deref(),
            Subject::BuiltIn(worker) => Some(worker.name),
        }
    }

    fn namespace(&self) -> &'a str {
        match self {
            Subject::Connected(_, record, _) => &record.namespace,
            Subject::BuiltIn(_) => DEFAULT_NAMESPACE,
        }
    }

    fn connected_unix_ms(&self, control: &Control) -> u64 {
        match self {
            Subject::Connected(_, record, _) => record.connected_unix_ms,
            Subject::BuiltIn(_) => control.started_unix_ms,
        }
    }
}

// === impl Row ===

impl<'a> Row<'a> {
    fn new(subject: Subject<'a>, load: &HashMap<ConnectionId, u32>) -> Row<'a> {
        let (active_invocations, runtime) = match subject {
            Subject::Connected(connection, _, said) => {
                (load.get(&connection).copied().unwrap_or(0), said.runtime.as_deref().unwrap_or("unknown"))
            }
            Subject::BuiltIn(_) => (0, "engine"),
        };
        let status = if active_invocations > 0 { "busy" } else { "available" };
        Row { id: subject.id(), name: subject.name(), subject, runtime, status, active_invocations }
    }

    fn sort_name(&self) -> &str {
        self.name.unwrap_or(&self.id)
    }
}
