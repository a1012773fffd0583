//! Guarded listeners: who is let in, what registrations hooks may change, which calls middleware sees.
//!
//! The engine asks functions of workers: calls like any other, made by a caller of its own, the gatekeeper. While
//! one is asked about a connection, that connection's further input waits behind its gate, so order is kept. What
//! is not answered within [`ASK_TIMEOUT_MS`] counts as no (PROTO-129).

use super::Shard;
use super::calls::Refusal;
use super::mesh::Call;
use crate::builtin::BuiltInId;
use crate::connection::worker::Worker;
use crate::connection::{Connection, Stage};
use crate::control::Report;
use crate::ids::ConnectionId;
use crate::registry::DEFAULT_NAMESPACE;
use crate::session::{Permission, Session};
use crate::wire::codes;
use crate::wire::encode::{self, Invoke, Outcome, Payload, Value};
use crate::wire::envelope::{Envelope, Kind};
use crate::wire::handshake::{Request, Target, query_pairs};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use uuid::Uuid;

/// How long a worker may take to say whether somebody may do something, in milliseconds.
const ASK_TIMEOUT_MS: u64 = 10_000;
/// The gatekeeper's place among built-in workers: no other gets that far.
pub(super) const GATEKEEPER: BuiltInId = BuiltInId(0xFFFE);

/// What a function was asked about.
enum Question {
    /// Whether a connection is let in, and as what.
    Entry(ConnectionId, Target),
    /// What becomes of a registration; holds the message.
    Registration(ConnectionId, Box<[u8]>),
}

/// The caller of the engine's own questions.
pub(super) struct Gatekeeper {
    pub connection: Box<Connection>,
    questions: HashMap<Uuid, Question>,
}

impl Gatekeeper {
    pub fn new(shard: crate::ids::ShardId, namespace: std::rc::Rc<str>) -> Gatekeeper {
        let id = ConnectionId::built_in(shard, GATEKEEPER);
        let mut worker = Worker::new(Uuid::nil(), Uuid::nil());
        worker.namespace = Some(namespace);
        let mut connection = Box::new(Connection::new(id, u16::MAX, (Ipv4Addr::UNSPECIFIED, 0).into(), 0));
        connection.stage = Stage::Worker(Box::new(worker));
        Gatekeeper { connection, questions: HashMap::new() }
    }
}

impl Shard {
    fn ask(&mut self, question: Question, function_id: &str, data: &[u8]) {
        let caller = self.gatekeeper.connection.id;
        let invocation_id = self.new_uuid();
        self.gatekeeper.questions.insert(invocation_id, question);
        let call = Call {
            caller,
            retried: false,
            prefer: None,
            namespace: DEFAULT_NAMESPACE,
            invoke: Invoke {
                invocation_id: Some(invocation_id),
                function_id,
                data: Payload { json: data, caller: None },
                metadata: None,
                traceparent: None,
                baggage: None,
            },
        };
        if let Err(refusal) = self.start_call(&call, Some(ASK_TIMEOUT_MS)) {
            self.untrack(caller, invocation_id);
            let outcome = Outcome::Error { code: refusal.code, message: &refusal.message, stacktrace: None };
            self.handle_judgement(invocation_id, &outcome);
        }
    }

    /// A function that was asked has answered, or will not.
    pub(super) fn handle_judgement(&mut self, invocation_id: Uuid, outcome: &Outcome<'_>) {
        match self.gatekeeper.questions.remove(&invocation_id) {
            Some(Question::Entry(id, target)) => self.handle_entry_verdict(id, &target, outcome),
            Some(Question::Registration(id, text)) => self.handle_hook_verdict(id, &text, outcome),
            None => {}
        }
    }

    // === who is let in ===

    /// The session of a connection that need not prove who it is; `None` = it may do everything.
    pub(super) fn open_session(&self, id: ConnectionId) -> Option<Arc<Session>> {
        let listener = self.settings.listeners.get(usize::from(self.connection(id)?.listener))?;
        let (rules, middleware) = (listener.access_rules.as_ref(), listener.middleware_function_id.as_deref());
        (rules.is_some() || middleware.is_some()).then(|| Arc::new(Session::open(rules, middleware)))
    }

    /// Asks the listener's authentication function about a connection, if it has one (PROTO-120). Returns whether
    /// the connection has to wait.
    pub(super) fn ask_entry(&mut self, id: ConnectionId, target: &Target, request: &Request) -> bool {
        let settings = self.settings.clone();
        let Some(connection) = self.connection_mut(id) else { return true };
        let rules = settings.listeners.get(usize::from(connection.listener)).and_then(|l| l.access_rules.as_ref());
        let Some(function_id) = rules.and_then(|rules| rules.auth_function_id.as_deref()) else { return false };
        connection.gated = Some(Vec::new());
        let data = entry_request(request, connection.peer.ip());
        self.ask(Question::Entry(id, target.clone()), function_id, &data);
        true
    }

    fn handle_entry_verdict(&mut self, id: ConnectionId, target: &Target, outcome: &Outcome<'_>) {
        let settings = self.settings.clone();
        let Some(connection) = self.connection(id) else { return };
        if matches!(connection.stage, Stage::Closing) {
            return;
        }
        let Some(listener) = settings.listeners.get(usize::from(connection.listener)) else { return };
        let Some(rules) = &listener.access_rules else { return };
        let session = match outcome {
            Outcome::Result(result) => {
                Session::grant(result.unwrap_or(b"null"), rules, listener.middleware_function_id.as_deref())
            }
            Outcome::Error { code: codes::FUNCTION_NOT_FOUND, .. } => {
                let function_id = rules.auth_function_id.as_deref().unwrap_or("");
                Err(format!("Function {function_id} not found in namespace {DEFAULT_NAMESPACE}"))
            }
            Outcome::Error { code: codes::INVOCATION_TIMEOUT, .. } => Err("auth function timed out".to_owned()),
            Outcome::Error { message, .. } => Err((*message).to_owned()),
        };
        match session {
            Ok(session) => {
                if *target == Target::Worker {
                    self.welcome(id, Some(Arc::new(session)));
                }
                self.open_gate(id);
            }
            Err(message) => {
                tracing::warn!(connection = %id, "not let in: {message}");
                self.write(id, |out| {
                    encode::write_text(out, "error", &[("error", Value::Error("AUTH_ERROR", &message))]);
                });
                self.close(id, None, "");
            }
        }
    }

    // === registrations ===

    /// Whether a registration goes ahead as it is. If a hook has to be asked first, or it is not allowed, it does not.
    pub(super) fn admit_registration(&mut self, id: ConnectionId, session: &Session, envelope: &Envelope<'_>) -> bool {
        let name = Envelope::string(envelope.members.id, "").ok().flatten().unwrap_or_default();
        let rules = session.rules();
        let (allowed, hook) = match envelope.kind {
            Kind::RegisterFunction => (
                session.may_register_functions(),
                rules.and_then(|rules| rules.on_function_registration_function_id.as_deref()),
            ),
            Kind::RegisterTriggerType => (
                session.may_register_trigger_types(),
                rules.and_then(|rules| rules.on_trigger_type_registration_function_id.as_deref()),
            ),
            Kind::RegisterTrigger => {
                let kind = Envelope::string(envelope.members.trigger_type, "").ok().flatten().unwrap_or_default();
                if !session.may_use_trigger_type(&kind) {
                    let message = format!("Trigger type '{kind}' is not allowed for this session.");
                    self.refuse_trigger(id, envelope, &message);
                    return false;
                }
                (true, rules.and_then(|rules| rules.on_trigger_registration_function_id.as_deref()))
            }
            _ => (true, None),
        };
        if !allowed {
            tracing::warn!(connection = %id, "ignored the registration of '{name}': the session may not register it");
            return false;
        }
        let Some(hook) = hook else { return true };
        let data = self.hook_request(id, session, envelope);
        self.hold_for_answer(id);
        self.ask(Question::Registration(id, envelope.text.into()), hook, &data);
        false
    }

    fn hook_request(&self, id: ConnectionId, session: &Session, envelope: &Envelope<'_>) -> Vec<u8> {
        let members = &envelope.members;
        let raw = |raw: Option<&'_ [u8]>| Envelope::raw(raw).unwrap_or(b"null").to_vec();
        let namespace = match Envelope::string(members.namespace, "").ok().flatten() {
            Some(named) if envelope.kind == Kind::RegisterTrigger => named.into_owned(),
            _ if envelope.kind == Kind::RegisterTrigger => DEFAULT_NAMESPACE.to_owned(),
            _ => self.namespace_of(id).to_string(),
        };
        let (name, description, metadata) = (raw(members.id), raw(members.description), raw(members.metadata));
        let (kind, target, config) = (raw(members.trigger_type), raw(members.function_id), raw(members.config));
        let context = ("context", Value::Raw(session.context()));
        let mut out = Vec::new();
        match envelope.kind {
            Kind::RegisterFunction => encode::write_object(
                &mut out,
                &[
                    ("function_id", Value::Raw(&name)),
                    ("description", Value::Raw(&description)),
                    ("metadata", Value::Raw(&metadata)),
                    ("namespace", Value::Text(&namespace)),
                    context,
                ],
            ),
            Kind::RegisterTriggerType => encode::write_object(
                &mut out,
                &[("trigger_type_id", Value::Raw(&name)), ("description", Value::Raw(&description)), context],
            ),
            _ => encode::write_object(
                &mut out,
                &[
                    ("trigger_id", Value::Raw(&name)),
                    ("trigger_type", Value::Raw(&kind)),
                    ("function_id", Value::Raw(&target)),
                    ("config", Value::Raw(&config)),
                    ("metadata", Value::Raw(&metadata)),
                    ("namespace", Value::Text(&namespace)),
                    context,
                ],
            ),
        }
        out
    }

    /// A hook has said what becomes of a registration (PROTO-126): an object changes it, all else drops it.
    fn handle_hook_verdict(&mut self, id: ConnectionId, text: &[u8], outcome: &Outcome<'_>) {
        let changes: Option<serde_json::Map<String, serde_json::Value>> = match outcome {
            Outcome::Result(Some(result)) => serde_json::from_slice(result).ok(),
            _ => None,
        };
        match (changes, serde_json::from_slice::<serde_json::Map<_, _>>(text)) {
            (Some(changes), Ok(mut message)) => {
                let renamed = match message.get("type").and_then(|kind| kind.as_str()) {
                    Some("registerfunction") => {
                        [("function_id", "id"), ("description", "description"), ("metadata", "metadata"), ("", "")]
                    }
                    Some("registertriggertype") => {
                        [("trigger_type_id", "id"), ("description", "description"), ("", ""), ("", "")]
                    }
                    _ => [
                        ("trigger_id", "id"),
                        ("trigger_type", "trigger_type"),
                        ("function_id", "function_id"),
                        ("config", "config"),
                    ],
                };
                for (theirs, ours) in renamed {
                    let value = changes.get(theirs).filter(|value| match ours {
                        "config" | "metadata" => !value.is_null(),
                        _ => value.is_string(),
                    });
                    if let Some(value) = value {
                        message.insert(ours.to_owned(), value.clone());
                    }
                }
                let text = serde_json::Value::Object(message).to_string();
                if let Ok(envelope) = Envelope::parse(text.as_bytes()) {
                    self.apply_admitted(id, &envelope);
                }
            }
            _ => {
                let why = match outcome {
                    Outcome::Error { message, .. } => (*message).to_owned(),
                    Outcome::Result(_) => "the hook did not return an object".to_owned(),
                };
                tracing::warn!(connection = %id, "dropped a registration: {why}");
            }
        }
        self.go_on(id);
    }

    /// Applies a registration that nobody objects to.
    pub(super) fn apply_admitted(&mut self, id: ConnectionId, envelope: &Envelope<'_>) {
        let session = self.connection(id).and_then(Connection::worker).and_then(|worker| worker.session.clone());
        let Some(session) = session.filter(|_| envelope.kind == Kind::RegisterTrigger) else {
            return self.apply_registration(id, envelope);
        };
        let Ok(Some(target)) = Envelope::string(envelope.members.function_id, "") else {
            return self.apply_registration(id, envelope);
        };
        let namespace = Envelope::string(envelope.members.namespace, "").ok().flatten();
        let namespace = namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE);
        let prefixed = session.prefixed(&target);
        let worker = self.connection(id).and_then(Connection::worker);
        let own = worker.is_some_and(|worker| worker.registration(&prefixed).is_some());
        // The namespace is checked for its own sake where the message is applied.
        if !own && session.permits(namespace, &prefixed, None).is_err() {
            let message = format!("function '{prefixed}' not allowed in namespace '{namespace}'");
            return self.refuse_trigger_of(id, envelope, &prefixed, &message);
        }
        if prefixed == *target {
            return self.apply_registration(id, envelope);
        }
        let Ok(mut message) = serde_json::from_slice::<serde_json::Map<_, _>>(envelope.text) else { return };
        message.insert("function_id".to_owned(), prefixed.into());
        let text = serde_json::Value::Object(message).to_string();
        if let Ok(envelope) = Envelope::parse(text.as_bytes()) {
            self.apply_registration(id, &envelope);
        }
    }

    fn refuse_trigger(&mut self, id: ConnectionId, envelope: &Envelope<'_>, message: &str) {
        let target = Envelope::string(envelope.members.function_id, "").ok().flatten().unwrap_or_default();
        self.refuse_trigger_of(id, envelope, &target, message);
    }

    fn refuse_trigger_of(&mut self, id: ConnectionId, envelope: &Envelope<'_>, target: &str, message: &str) {
        let raw = |raw| Value::Raw(Envelope::raw(raw).unwrap_or(b"null"));
        let members = [
            ("id", raw(envelope.members.id)),
            ("trigger_type", raw(envelope.members.trigger_type)),
            ("function_id", Value::Text(target)),
            ("error", Value::Error(codes::FORBIDDEN, message)),
        ];
        self.write(id, |out| encode::write_text(out, "triggerregistrationresult", &members));
    }

    // === waiting ===

    /// Holds a connection's further input back until [`Shard::go_on`].
    fn hold_for_answer(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connection_mut(id) {
            connection.gated.get_or_insert_default();
            if let Some(worker) = connection.worker_mut() {
                worker.held = true;
            }
        }
    }

    /// What a connection waited for has come: what it sent meanwhile is handled, as far as it goes.
    fn go_on(&mut self, id: ConnectionId) {
        let Some(worker) = self.connection_mut(id).and_then(Connection::worker_mut) else { return };
        worker.held = false;
        if worker.namespace.is_some() {
            self.release_parked(id);
        }
        self.open_gate(id);
    }

    // === calls ===

    /// Whether a session may make a call. `Ok(false)` = its metadata is being looked up; the call comes again.
    pub(super) fn permit_call(
        &mut self,
        id: ConnectionId,
        session: &Session,
        namespace: &str,
        function_id: &str,
        envelope: &Envelope<'_>,
    ) -> Result<bool, Refusal> {
        match session.permission(namespace, function_id) {
            Permission::Allowed => Ok(true),
            Permission::Denied(message) => Err(Refusal::new(codes::FORBIDDEN, message)),
            Permission::ByMetadata => {
                self.hold_for_answer(id);
                self.report(Report::Permission {
                    connection: id,
                    namespace: namespace.into(),
                    id: function_id.into(),
                    text: envelope.text.into(),
                });
                Ok(false)
            }
        }
    }

    /// Control has told what a function was registered with, so that a call that waited for it can be judged.
    pub(super) fn handle_metadata(&mut self, id: ConnectionId, text: &[u8], metadata: Option<&[u8]>) {
        if let Ok(envelope) = Envelope::parse(text) {
            self.handle_invoke_knowing(id, &envelope, Some(metadata));
        }
        self.go_on(id);
    }
}

/// What the middleware of a listener gets to see of a call (PROTO-125).
pub(super) fn middleware_request(
    session: &Session,
    namespace: &str,
    function_id: &str,
    payload: &[u8],
    action: Option<&[u8]>,
) -> Vec<u8> {
    let mut out = Vec::new();
    encode::write_object(
        &mut out,
        &[
            ("function_id", Value::Text(function_id)),
            ("payload", Value::Raw(payload)),
            ("action", Value::Raw(Envelope::raw(action).unwrap_or(b"null"))),
            ("context", Value::Raw(session.context())),
            ("namespace", Value::Text(namespace)),
        ],
    );
    out
}

/// What an authentication function gets to see of a connection (PROTO-120).
fn entry_request(request: &Request, peer: IpAddr) -> Vec<u8> {
    let headers: serde_json::Map<_, _> =
        request.headers.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect();
    let mut query: serde_json::Map<String, serde_json::Value> = serde_json::Map::new();
    for (name, value) in query_pairs(&request.query) {
        let values = query.entry(name).or_insert_with(|| serde_json::Value::Array(Vec::new()));
        if let Some(values) = values.as_array_mut() {
            values.push(value.into());
        }
    }
    let whole = serde_json::json!({"headers": headers, "query_params": query, "ip_address": peer.to_string()});
    whole.to_string().into_bytes()
}
