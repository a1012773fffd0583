//! What the home shard knows of a worker: its functions, the calls it runs, the calls it has made.

use crate::ids::ConnectionId;
use crate::limits::{MESSAGE_BYTES_MAX, PYTHON_LEGACY_MESSAGE_BYTES_MAX};
use crate::registry::routes::{Question, Route};
use crate::session::Session;
use hashbrown::HashMap;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use uuid::Uuid;

/// The worker behind a connection.
pub struct Worker {
    /// Id told to the worker and put into payloads.
    pub id: Uuid,
    /// Proof of identity for a reattach.
    pub token: Uuid,
    /// `None` until the worker has announced itself or the grace period has passed (PROTO-43).
    pub namespace: Option<Rc<str>>,
    /// The namespace was given by the grace period, so an announcement may still move it (decision 11).
    pub namespace_by_grace: bool,
    /// Frames waiting for the namespace, or for calls before them to be on their way, in order.
    pub parked: VecDeque<Parked>,
    /// The call being handled was parked before, and is not parked again.
    pub replays: bool,
    /// Control has yet to hear that what was registered before the announcement has been applied.
    pub settles: bool,
    /// Bytes the worker can take in one message (PROTO-12).
    pub message_bytes_max: usize,
    /// Hash of namespace, name, pid and address: two connections of one process have the same (PROTO-50b).
    /// 0 = unknown.
    pub process: u64,
    /// Shapes of discovery answers it understands (ENG-6).
    pub generation: Generation,
    /// Registered functions; the index is the registration number, kept for the life of the connection.
    pub functions: Vec<Registered>,
    /// Registrations by id, live or not.
    pub function_index: HashMap<Rc<str>, u32>,
    /// Calls sent to this worker and not answered, by the id it was given.
    pub in_flight: HashMap<Uuid, InFlight>,
    /// Calls this worker made and has no answer to, by its id.
    pub pending: HashMap<Uuid, Pending>,
    /// Question to an owner that calls of this worker wait for; later ones queue behind them, whatever they call, so
    /// that no provider sees them out of order (PROTO-69).
    pub waits_on: Option<Rc<Question>>,
    /// Bit per owner shard that this worker has told of a change and not asked anything since: routes held here may
    /// not know of the change, so its next call of a function of that owner asks (PROTO-50b, PROTO-53).
    pub changed_owners: u64,
    /// It says it was another connection before, so answers to calls of that one may still be on their way to it.
    pub continues: bool,
    /// What it may do; `None` = everything, and no middleware.
    pub session: Option<Arc<Session>>,
    /// Its input waits for an answer about something it has sent; what is parked waits as well.
    pub held: bool,
    /// The first message has been handled: a later `reattach` is too late.
    pub started: bool,
}

/// A frame that waits.
pub struct Parked {
    /// Text of the message.
    pub text: Box<[u8]>,
    /// It is a call and not a registration or an announcement.
    pub is_call: bool,
    /// Function id, if the message registers one.
    pub registers: Option<Box<str>>,
}

/// One function of a worker.
pub struct Registered {
    /// Id as callers name it.
    pub id: Rc<str>,
    /// Still registered.
    pub live: bool,
    /// Times it has been registered.
    pub round: u32,
    /// The endpoint that runs it instead of the worker: one JSON value, as sent (HTTPF-4).
    pub endpoint: Option<Rc<[u8]>>,
}

/// A call a worker is running.
#[derive(Debug, Clone, Copy)]
pub struct InFlight {
    /// Who asked.
    pub caller: ConnectionId,
    /// The caller's id of the call.
    pub invocation_id: Uuid,
}

/// A call a worker is waiting for.
pub struct Pending {
    /// What it called.
    pub route: Rc<Route>,
    /// Where the call went; `None` while its route is being resolved or it is run in process.
    pub provider: Option<ConnectionId>,
    /// The call has been sent back once by a provider that had left.
    pub retried: bool,
    /// Trace headers as the caller sent them, to be echoed.
    pub echo: Option<Box<Echo>>,
}

/// Trace headers of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Echo {
    /// `traceparent` as sent.
    pub traceparent: Option<Box<str>>,
    /// `baggage` as sent.
    pub baggage: Option<Box<str>>,
    /// Function id as the caller sent it, where another runs the call.
    pub function_id: Option<Box<str>>,
    /// What the caller is told if the queue takes the message; `Some` = the call is an enqueue.
    pub receipt: Option<Uuid>,
}

/// The SDK line a worker belongs to (ENG-6).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Generation {
    /// No version, or none that parses.
    #[default]
    Unknown,
    /// Before 0.13.
    Legacy,
    /// 0.13 and later.
    Current,
}

impl Generation {
    /// Reads an SDK version such as `0.11.7-next.1`.
    pub fn of_version(version: Option<&str>) -> Generation {
        let mut parts = version.unwrap_or("").split(['.', '-', '+']).map(str::parse::<u32>);
        match (parts.next(), parts.next()) {
            (Some(Ok(0)), Some(Ok(minor))) if minor < 13 => Generation::Legacy,
            (Some(Ok(_)), Some(Ok(_))) => Generation::Current,
            _ => Generation::Unknown,
        }
    }
}

impl Worker {
    /// A worker that has just connected.
    pub fn new(id: Uuid, token: Uuid) -> Self {
        Worker {
            id,
            token,
            namespace: None,
            namespace_by_grace: false,
            parked: VecDeque::new(),
            replays: false,
            settles: false,
            message_bytes_max: MESSAGE_BYTES_MAX,
            process: 0,
            generation: Generation::Unknown,
            functions: Vec::new(),
            function_index: HashMap::new(),
            in_flight: HashMap::new(),
            pending: HashMap::new(),
            waits_on: None,
            changed_owners: 0,
            continues: false,
            session: None,
            held: false,
            started: false,
        }
    }

    /// Whether a call, or an announcement, must wait with what is parked: behind registrations that wait for calls
    /// before them; while the namespace is unknown, behind the registration of what it calls (PROTO-43).
    pub fn must_park(&self, is_call: bool, function_id: &str) -> bool {
        match self.namespace {
            Some(_) => !is_call || !self.parked.is_empty(),
            None => self.parked.iter().any(|parked| parked.registers.as_deref() == Some(function_id)),
        }
    }

    /// The live registration of a function, if it is one of this worker.
    pub fn registration(&self, id: &str) -> Option<u32> {
        self.function_index.get(id).copied().filter(|index| self.functions[*index as usize].live)
    }

    /// Sets the size limit from what the worker said of itself (PROTO-12b).
    pub fn limit_messages(&mut self, runtime: &str, large_messages: bool) {
        self.message_bytes_max =
            if runtime == "python" && !large_messages { PYTHON_LEGACY_MESSAGE_BYTES_MAX } else { MESSAGE_BYTES_MAX };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // ENG-6
    #[test]
    fn generations() {
        for (version, expected) in [
            (Some("0.10.0"), Generation::Legacy),
            (Some("0.11.7-next.1"), Generation::Legacy),
            (Some("0.13.0"), Generation::Current),
            (Some("0.25.0"), Generation::Current),
            (Some("1.0"), Generation::Current),
            (Some("dev"), Generation::Unknown),
            (Some(""), Generation::Unknown),
            (None, Generation::Unknown),
        ] {
            assert_eq!(Generation::of_version(version), expected, "{version:?}");
        }
    }
}
