//! Registrations: a worker announces itself, its functions reach their owners, routes reach who holds them.

use super::Shard;
use super::mesh::{FunctionName, Registration, RingMessage, Routes};
use crate::connection::Connection;
use crate::connection::worker::{Echo, Generation, Registered};
use crate::control::announcement::Announcement;
use crate::control::functions::EngineFunction;
use crate::control::{FunctionDetails, Report};
use crate::ids::{ConnectionId, ProviderId, ShardId};
use crate::registry::DEFAULT_NAMESPACE;
use crate::registry::owner::{Change, Claim, Key};
use crate::settings::WorkerNames;
use crate::wire::codes;
use crate::wire::encode::{self, Outcome, Value};
use crate::wire::envelope::{Envelope, Kind, Malformed};
use std::rc::Rc;
use uuid::Uuid;

impl Shard {
    // === the worker announces itself ===

    /// `engine::workers::register` (PROTO-42, ENG-31). `call` is there if an answer is awaited.
    pub(super) fn announce(&mut self, id: ConnectionId, call: Option<(Uuid, Option<Echo>)>, data: &[u8]) {
        let function = EngineFunction::WorkersRegister;
        let refuse = |code, message: &str| (code, message.to_owned());
        let announcement = match Announcement::parse(data) {
            Err(detail) => Err(refuse(
                codes::DESERIALIZATION_ERROR,
                &format!("Failed to deserialize input for {}: {detail}", function.id()),
            )),
            Ok(announcement) if announcement.namespace.as_deref().is_some_and(|ns| ns.trim().is_empty()) => {
                Err((codes::INVALID_NAMESPACE, announcement.blank_namespace_message()))
            }
            Ok(announcement) => Ok(announcement),
        };
        let announcement = match announcement {
            Ok(announcement) => announcement,
            Err((code, message)) => {
                let outcome = Outcome::Error { code, message: &message, stacktrace: None };
                return self.answer_engine(id, call, function, &outcome);
            }
        };
        let session = self.connection(id).and_then(Connection::worker).and_then(|worker| worker.session.clone());
        let wanted = announcement.namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE);
        if let Some(Err(message)) = session.map(|session| session.admits_namespace(wanted)) {
            let outcome = Outcome::Error { code: codes::FORBIDDEN, message: &message, stacktrace: None };
            return self.answer_engine(id, call, function, &outcome);
        }
        let exclusive = self.settings.worker_names == WorkerNames::Exclusive && announcement.honours_rejection();
        self.adopt_announcement(id, &announcement);
        self.report(Report::Announced {
            connection: id,
            namespace: self.namespace_of(id).as_ref().into(),
            exclusive,
            announcement: Box::new(announcement),
        });
        if exclusive {
            // Nothing of a worker whose name is taken may be registered, so its input waits for the verdict.
            if let Some(connection) = self.connection_mut(id) {
                connection.gated.get_or_insert_default();
            }
        } else {
            self.settle(id);
        }
        self.answer_engine(id, call, function, &Outcome::Result(Some(b"{\"success\":true}")));
    }

    /// Applies what was parked before an announcement, and tells control when that is done.
    pub(super) fn settle(&mut self, id: ConnectionId) {
        let Some(worker) = self.connection_mut(id).and_then(Connection::worker_mut) else { return };
        worker.settles = true;
        self.release_parked(id);
    }

    /// Takes from an announcement what the home shard needs; the first one fixes the namespace.
    fn adopt_announcement(&mut self, id: ConnectionId, announcement: &Announcement) {
        let default_namespace = self.default_namespace.clone();
        let Some(connection) = self.connection_mut(id) else { return };
        let peer = connection.peer.ip();
        let Some(worker) = connection.worker_mut() else { return };
        worker.generation = Generation::of_version(announcement.version.as_deref());
        worker.limit_messages(
            announcement.runtime.as_deref().unwrap_or(""),
            announcement.has_feature("large-messages.v1"),
        );
        let wanted: Rc<str> = match announcement.namespace.as_deref() {
            None | Some(DEFAULT_NAMESPACE) => default_namespace,
            Some(other) => other.into(),
        };
        let moves = worker.namespace_by_grace && worker.namespace.as_ref() != Some(&wanted);
        if (worker.namespace.is_none() || moves)
            && let (Some(pid), Some(name)) = (announcement.pid, announcement.name.as_deref())
        {
            use std::hash::BuildHasher;
            let identity = (&*wanted, name, pid, peer);
            worker.process = foldhash::fast::FixedState::with_seed(1).hash_one(identity).max(1);
        }
        worker.namespace_by_grace = false;
        if moves {
            let functions: Vec<Rc<str>> =
                worker.functions.iter().filter(|function| function.live).map(|function| function.id.clone()).collect();
            for function_id in &functions {
                // Control learns of the move from the registrations that follow.
                self.leave_namespace(id, function_id);
            }
            if let Some(worker) = self.connection_mut(id).and_then(Connection::worker_mut) {
                worker.namespace = Some(wanted);
                // Calls that are under way to the old namespace must not find them.
                worker.function_index.clear();
            }
            for function_id in &functions {
                self.register_function(id, function_id, None);
            }
        } else if worker.namespace.is_none() {
            worker.namespace = Some(wanted);
        }
    }

    /// The grace period has passed: the connection lives in `default` unless it says otherwise later.
    pub(super) fn handle_grace(&mut self, id: ConnectionId) {
        let default_namespace = self.default_namespace.clone();
        let Some(worker) = self.connection_mut(id).and_then(Connection::worker_mut) else { return };
        if worker.namespace.is_none() {
            worker.namespace = Some(default_namespace);
            worker.namespace_by_grace = true;
            self.release_parked(id);
        }
    }

    /// Applies what was parked, in order. It ends early at a registration behind a call that waits, and is taken up
    /// again when the call is on its way.
    pub(super) fn release_parked(&mut self, id: ConnectionId) {
        loop {
            let Some(worker) = self.connection_mut(id).and_then(Connection::worker_mut) else { return };
            let waits = worker.waits_on.is_some();
            if worker.held || worker.parked.front().is_some_and(|next| waits && !next.is_call) {
                return;
            }
            let Some(next) = worker.parked.pop_front() else { break };
            // It was parked as a valid message.
            let Ok(envelope) = Envelope::parse(&next.text) else { continue };
            match envelope.kind {
                Kind::InvokeFunction => {
                    worker.replays = true;
                    self.handle_invoke(id, &envelope);
                    if let Some(worker) = self.connection_mut(id).and_then(Connection::worker_mut) {
                        worker.replays = false;
                    }
                }
                Kind::RegisterWorker => self.announce(id, None, envelope.text),
                _ => self.register(id, &envelope),
            }
        }
        let Some(worker) = self.connection_mut(id).and_then(Connection::worker_mut) else { return };
        worker.parked = std::collections::VecDeque::new();
        if std::mem::take(&mut worker.settles) {
            self.report(Report::Settled { connection: id });
        }
    }

    /// A registration message of a worker whose namespace is known.
    pub(super) fn register(&mut self, id: ConnectionId, envelope: &Envelope<'_>) {
        let session = self.connection(id).and_then(Connection::worker).and_then(|worker| worker.session.clone());
        match session {
            None => self.apply_registration(id, envelope),
            Some(session) => {
                if self.admit_registration(id, &session, envelope) {
                    self.apply_admitted(id, envelope);
                }
            }
        }
    }

    pub(super) fn namespace_of(&self, id: ConnectionId) -> Rc<str> {
        let worker = self.connection(id).and_then(Connection::worker);
        worker.and_then(|worker| worker.namespace.clone()).unwrap_or_else(|| self.default_namespace.clone())
    }

    // === functions of a connection ===

    /// Applies a registration message of a worker whose namespace is known.
    pub(super) fn apply_registration(&mut self, id: ConnectionId, envelope: &Envelope<'_>) {
        let members = &envelope.members;
        let named = match Envelope::required(members.id, "id") {
            Ok(name) if name.is_empty() => Err("`id` is empty".to_owned()),
            other => other,
        };
        let session = self.connection(id).and_then(Connection::worker).and_then(|worker| worker.session.clone());
        let is_function = matches!(envelope.kind, Kind::RegisterFunction | Kind::UnregisterFunction);
        let name = match named {
            Ok(name) => match session.filter(|_| is_function) {
                Some(session) => session.prefixed(&name).into(),
                None => name,
            },
            Err(reason) => {
                return self.note_malformed(id, &Malformed { reason, call: None, result: None });
            }
        };
        match envelope.kind {
            Kind::RegisterFunction => {
                let raw = |raw: Option<&[u8]>| Envelope::raw(raw).map(Box::from);
                let details = FunctionDetails {
                    description: Envelope::string(members.description, "").ok().flatten().map(|text| text.into()),
                    request_format: raw(members.request_format),
                    response_format: raw(members.response_format),
                    metadata: raw(members.metadata),
                };
                let endpoint = Envelope::raw(members.invocation).map(Into::into);
                self.set_endpoint(id, &name, endpoint);
                self.register_function(id, &name, Some(details));
            }
            Kind::UnregisterFunction => self.unregister_function(id, &name),
            kind => self.report(Report::Message { connection: id, kind, text: envelope.text.into() }),
        }
    }

    fn register_function(&mut self, id: ConnectionId, function_id: &str, details: Option<FunctionDetails>) {
        let namespace = self.namespace_of(id);
        let reserved = crate::control::functions::reserved(&namespace, function_id).map(str::to_owned);
        if let Some(owner) = reserved.or_else(|| self.built_in_owner(&namespace, function_id)) {
            if details.is_none() {
                // It moved here and may not: control still has it where it was.
                let namespace = (&*namespace).into();
                self.report(Report::Unregistered { connection: id, namespace, id: function_id.into() });
            }
            return self.reject_function(id, &namespace, function_id, &owner);
        }
        let Some(worker) = self.connection_mut(id).and_then(Connection::worker_mut) else { return };
        // One that comes back is the same: calls that are under way to it find it.
        let registration = match worker.function_index.get(function_id) {
            Some(known) => *known,
            None => {
                let index = worker.functions.len() as u32;
                let shared: Rc<str> = function_id.into();
                worker.functions.push(Registered { id: shared.clone(), live: false, round: 0, endpoint: None });
                worker.function_index.insert(shared, index);
                index
            }
        };
        let function = &mut worker.functions[registration as usize];
        function.live = true;
        function.round += 1;
        let claim = Claim { worker: worker.id, process: worker.process, round: function.round };
        let provider = ProviderId { connection: id, registration };
        let name = self.name(&namespace, function_id);
        self.report(Report::Registered {
            connection: id,
            namespace: (&*namespace).into(),
            id: function_id.into(),
            details: details.map(Box::new),
        });
        let registration = Registration { name, provider, claim };
        let owner = self.hasher.owner(registration.name.hash);
        if owner == self.id {
            self.own_register(&registration);
        } else {
            self.note_change(id, registration.name.hash);
            self.mesh[owner.index()].messages.push(RingMessage::Register(Box::new(registration)));
        }
    }

    /// Notes where a function that is about to be registered really is. The newest registration counts (HTTPF-9).
    fn set_endpoint(&mut self, id: ConnectionId, function_id: &str, endpoint: Option<Rc<[u8]>>) {
        let Some(worker) = self.connection_mut(id).and_then(Connection::worker_mut) else { return };
        match worker.function_index.get(function_id) {
            Some(known) => worker.functions[*known as usize].endpoint = endpoint,
            None if endpoint.is_some() => {
                let index = worker.functions.len() as u32;
                let shared: Rc<str> = function_id.into();
                worker.functions.push(Registered { id: shared.clone(), live: false, round: 0, endpoint });
                worker.function_index.insert(shared, index);
            }
            None => {}
        }
    }

    pub(super) fn unregister_function(&mut self, id: ConnectionId, function_id: &str) {
        if self.leave_namespace(id, function_id) {
            let namespace = (&*self.namespace_of(id)).into();
            self.report(Report::Unregistered { connection: id, namespace, id: function_id.into() });
        }
    }

    /// Takes a function out of its namespace, without telling control. Returns whether it was there.
    fn leave_namespace(&mut self, id: ConnectionId, function_id: &str) -> bool {
        let namespace = self.namespace_of(id);
        let Some(worker) = self.connection_mut(id).and_then(Connection::worker_mut) else { return false };
        let Some(registration) = worker.function_index.get(function_id).copied() else { return false };
        let function = &mut worker.functions[registration as usize];
        if !std::mem::take(&mut function.live) {
            return false;
        }
        let claim = Claim { worker: worker.id, process: worker.process, round: 0 };
        let name = self.name(&namespace, function_id);
        let provider = ProviderId { connection: id, registration };
        self.tell_owner_unregistered(Registration { name, provider, claim });
        true
    }

    pub(super) fn tell_owner_unregistered(&mut self, registration: Registration) {
        let owner = self.hasher.owner(registration.name.hash);
        if owner == self.id {
            self.own_unregister(&registration);
        } else {
            self.note_change(registration.provider.connection, registration.name.hash);
            self.mesh[owner.index()].messages.push(RingMessage::Unregister(Box::new(registration)));
        }
    }

    pub(super) fn name(&self, namespace: &str, function_id: &str) -> FunctionName {
        FunctionName { hash: self.hasher.hash(function_id), namespace: namespace.into(), id: function_id.into() }
    }

    fn reject_function(&mut self, id: ConnectionId, namespace: &str, function_id: &str, owner: &str) {
        self.write(id, |out| {
            encode::write_text(
                out,
                "registrationrejected",
                &[
                    ("code", Value::Text(codes::FUNCTION_NAMESPACE_CONFLICT)),
                    ("namespace", Value::Text(namespace)),
                    ("function_id", Value::Text(function_id)),
                    ("owner_worker_id", Value::Text(owner)),
                ],
            );
        });
    }

    // === owner ===

    pub(super) fn own_register(&mut self, registration: &Registration) {
        let key = key_of(&registration.name);
        let policy = self.settings.duplicate_functions;
        match self.owned.register(key, registration.provider, registration.claim, policy) {
            Ok(change) => {
                for (replaced, round) in &change.replaced {
                    self.send_to_home(*replaced, RingMessage::Replaced(*replaced, *round));
                }
                self.publish(&registration.name, &change);
            }
            Err(owner) => {
                let provider = registration.provider;
                self.send_to_home(provider, RingMessage::Refused(provider, owner));
            }
        }
    }

    pub(super) fn own_unregister(&mut self, registration: &Registration) {
        if let Some(change) = self.owned.unregister(key_of(&registration.name), registration.provider) {
            self.publish(&registration.name, &change);
        }
    }

    /// Tells every shard that holds the route, this one included.
    fn publish(&mut self, name: &FunctionName, change: &Change) {
        // Every shard holds the routes of built-in workers, also of those that yield.
        let route = self.routes.find(name.hash, &name.namespace, &name.id);
        let all = route.is_some_and(|route| route.built_in().is_some());
        for peer in 0..self.settings.shards {
            if (all || change.subscribers >> peer & 1 == 1) && peer != self.id.index() {
                let routes = Routes {
                    name: name.clone(),
                    providers: change.providers.clone(),
                    is_answer: false,
                    elsewhere: Vec::new(),
                };
                self.mesh[peer].messages.push(RingMessage::Routes(Box::new(routes)));
            }
        }
        self.apply_routes(name, &change.providers, None);
    }

    pub(super) fn own_resolve(&mut self, name: &FunctionName, asker: ShardId) {
        let key = key_of(name);
        let providers = self.owned.subscribe(key, asker);
        let elsewhere = if providers.is_empty() { self.owned.namespaces_of(key.hash, key.id) } else { Vec::new() };
        let routes = Routes { name: name.clone(), providers, is_answer: true, elsewhere };
        self.mesh[asker.index()].messages.push(RingMessage::Routes(Box::new(routes)));
    }

    fn send_to_home(&mut self, provider: ProviderId, message: RingMessage) {
        if provider.connection.shard == self.id {
            match message {
                RingMessage::Replaced(provider, round) => self.handle_replaced(provider, round),
                RingMessage::Refused(provider, owner) => self.handle_refused(provider, owner),
                _ => {}
            }
        } else {
            self.mesh[provider.connection.shard.index()].messages.push(message);
        }
    }

    // === routes ===

    /// The owner says who provides a function. `answer` = it was asked; namespaces that have the id instead.
    pub(super) fn apply_routes(&mut self, name: &FunctionName, providers: &[ProviderId], answer: Option<&[String]>) {
        let route = if providers.is_empty() {
            self.routes.find(name.hash, &name.namespace, &name.id).cloned()
        } else {
            Some(self.routes.entry(name.hash, &name.namespace, &name.id).clone())
        };
        let Some(route) = route else { return };
        route.set_providers(providers);
        let answered = answer.and_then(|elsewhere| Some((route.answered()?, elsewhere)));
        if route.is_nobodys() && !route.is_asked() {
            self.routes.remove(name.hash, &name.namespace, &name.id);
        }
        if let Some((question, elsewhere)) = answered {
            self.release_waiting(&route, &question, elsewhere);
        }
    }

    /// A registration here was replaced by another connection's.
    pub(super) fn handle_replaced(&mut self, provider: ProviderId, round: u32) {
        let namespace = self.namespace_of(provider.connection);
        let Some(worker) = self.connection_mut(provider.connection).and_then(Connection::worker_mut) else { return };
        let Some(function) = worker.functions.get_mut(provider.registration as usize) else { return };
        // It has been registered again since, and the owner has that or will have it.
        if !function.live || function.round != round {
            return;
        }
        function.live = false;
        let function_id = function.id.clone();
        self.report(Report::Unregistered {
            connection: provider.connection,
            namespace: (&*namespace).into(),
            id: (&*function_id).into(),
        });
    }

    /// A registration here was refused: another worker has the function.
    pub(super) fn handle_refused(&mut self, provider: ProviderId, owner: Uuid) {
        let namespace = self.namespace_of(provider.connection);
        let Some(worker) = self.connection(provider.connection).and_then(Connection::worker) else { return };
        let Some(function) = worker.functions.get(provider.registration as usize) else { return };
        let function_id = function.id.clone();
        self.report(Report::Unregistered {
            connection: provider.connection,
            namespace: (&*namespace).into(),
            id: (&*function_id).into(),
        });
        self.reject_function(provider.connection, &namespace, &function_id, &owner.to_string());
    }
}

fn key_of(name: &FunctionName) -> Key<'_> {
    Key { hash: name.hash, namespace: &name.namespace, id: &name.id }
}
