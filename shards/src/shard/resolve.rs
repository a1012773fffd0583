//! Calls whose route is not known, or not known well enough: they wait for an answer of the function's owner.
//!
//! Invariant: what a worker calls, registers and unregisters takes effect in the order in which it said so. Calls that
//! wait hold up its later calls and registrations; a call behind a registration asks the owner, behind it on the same
//! ring. Answers to calls are never held up.

use super::Shard;
use super::calls::{Refusal, not_found};
use super::mesh::{Call, FunctionName, InvokeMessage, RingMessage};
use crate::connection::Connection;
use crate::connection::worker::Worker;
use crate::ids::{ConnectionId, ProviderId};
use crate::limits::MESH_BYTES_MAX;
use crate::registry::routes::{Question, Route};
use crate::wire::codes;
use std::rc::Rc;

impl Shard {
    /// Makes a call wait if its caller has calls waiting, or has changed something that the route may not know of.
    #[cold]
    pub(super) fn hold_back(&mut self, route: &Rc<Route>, call: &Call<'_>) -> Option<Result<(), Refusal>> {
        let worker = self.connection(call.caller).and_then(Connection::worker)?;
        if let Some(earlier) = worker.waits_on.clone() {
            return Some(self.wait(&earlier, call));
        }
        self.has_changed(call.caller, route.hash).then(|| {
            let question = self.ask_owner(route);
            self.note_asked(call.caller, route.hash);
            self.wait(&question, call)
        })
    }

    /// Whether a caller has told the owner of a function of a change and not asked anything since.
    fn has_changed(&self, caller: ConnectionId, hash: u64) -> bool {
        let worker = self.connection(caller).and_then(Connection::worker);
        worker.is_some_and(|worker| worker.changed_owners >> self.hasher.owner(hash).0 & 1 == 1)
    }

    /// A worker here has told an owner of a change.
    pub(super) fn note_change(&mut self, id: ConnectionId, hash: u64) {
        let bit = 1 << self.hasher.owner(hash).0;
        if let Some(worker) = self.connection_mut(id).and_then(Connection::worker_mut) {
            worker.changed_owners |= bit;
        }
    }

    /// A worker waits for the answer to a question that lies behind all it has told the owner.
    fn note_asked(&mut self, id: ConnectionId, hash: u64) {
        let bit = 1 << self.hasher.owner(hash).0;
        if let Some(worker) = self.connection_mut(id).and_then(Connection::worker_mut) {
            worker.changed_owners &= !bit;
        }
    }

    /// A call of a function that nobody here is known to provide waits for the owner.
    pub(super) fn resolve(&mut self, route: &Rc<Route>, call: &Call<'_>) -> Result<(), Refusal> {
        if self.hasher.owner(route.hash) == self.id {
            // The owner's own routes are always current.
            let elsewhere = self.owned.namespaces_of(route.hash, &route.id);
            return Err(not_found(&route.namespace, &route.id, &elsewhere));
        }
        let question = route.last_question().unwrap_or_else(|| self.ask_owner(route));
        self.wait(&question, call)
    }

    /// A call was sent to a provider that had left, on the word of a stale route.
    pub(super) fn resolve_again(
        &mut self,
        route: &Rc<Route>,
        provider: ProviderId,
        call: &Call<'_>,
    ) -> Result<(), Refusal> {
        let call = &Call { retried: true, ..*call };
        // If we own it the route is current: the provider that sent the call back is no longer in it.
        if self.hasher.owner(route.hash) == self.id || !route.drop_provider(provider) {
            return self.dispatch(route, call);
        }
        let question = self.ask_owner(route);
        let waits_on = |worker: &Worker| worker.waits_on.clone();
        let earlier = self.connection(call.caller).and_then(Connection::worker).and_then(waits_on);
        self.wait(&earlier.unwrap_or(question), call)
    }

    /// Asks the owner for the providers of a route.
    fn ask_owner(&mut self, route: &Rc<Route>) -> Rc<Question> {
        let owner = self.hasher.owner(route.hash);
        let name = FunctionName { hash: route.hash, namespace: (&*route.namespace).into(), id: (&*route.id).into() };
        self.mesh[owner.index()].messages.push(RingMessage::Resolve(Box::new(name)));
        route.ask()
    }

    /// Queues a call until a question is answered.
    fn wait(&mut self, on: &Rc<Question>, call: &Call<'_>) -> Result<(), Refusal> {
        let mut batch = on.calls.borrow_mut();
        if batch.bytes.len() > MESH_BYTES_MAX {
            self.counters.overloaded += 1;
            return Err(Refusal::new(codes::WORKER_OVERLOADED, "too many calls wait for this function's route"));
        }
        let nobody = ProviderId { connection: call.prefer.unwrap_or(ConnectionId::ENGINE), registration: 0 };
        let message = batch.invoke(nobody, call);
        batch.messages.push(RingMessage::Invoke(message));
        drop(batch);
        // What a built-in worker does for one has nothing to do with what it does for another.
        if call.caller.as_built_in().is_some() {
            return Ok(());
        }
        if let Some(worker) = self.connection_mut(call.caller).and_then(Connection::worker_mut) {
            worker.waits_on = Some(on.clone());
        }
        Ok(())
    }

    /// The owner has answered: what waited goes on, in order.
    pub(super) fn release_waiting(&mut self, route: &Rc<Route>, question: &Rc<Question>, elsewhere: &[String]) {
        let batch = question.calls.take();
        // All at once: a call that must wait again holds up those behind it.
        let mut held_up = Vec::new();
        for message in &batch.messages {
            let RingMessage::Invoke(InvokeMessage { caller, .. }) = message else { continue };
            if let Some(worker) = self.connection_mut(*caller).and_then(Connection::worker_mut)
                && worker.waits_on.as_ref().is_some_and(|on| Rc::ptr_eq(on, question))
            {
                worker.waits_on = None;
                if worker.namespace.is_some() && !worker.parked.is_empty() {
                    held_up.push(*caller);
                }
            }
        }
        for message in &batch.messages {
            let RingMessage::Invoke(message) = message else { continue };
            let call = message.call(&batch.bytes);
            let is_of_route = call.invoke.function_id == &*route.id && call.namespace == &*route.namespace;
            let outcome = if is_of_route && route.is_nobodys() && !self.has_changed(call.caller, route.hash) {
                Err(not_found(&route.namespace, &route.id, elsewhere))
            } else {
                self.route(call.namespace, call.invoke.function_id).and_then(|route| self.dispatch(&route, &call))
            };
            if let Err(refusal) = outcome {
                self.refuse(&call, &refusal);
            }
        }
        for id in held_up {
            // Behind a gate they wait for more than calls.
            if self.connection(id).is_some_and(|connection| connection.gated.is_none()) {
                self.release_parked(id);
            }
        }
    }

    /// A provider's home sent a call back: the route was stale.
    pub(super) fn handle_bounced(&mut self, message: &InvokeMessage, bytes: &[u8]) {
        let call = message.call(bytes);
        let (namespace, function_id) = (call.namespace, call.invoke.function_id);
        if let Some(invocation_id) = call.invoke.invocation_id
            && call.caller != ConnectionId::ENGINE
        {
            // The caller may have left meanwhile; if it comes back it is told.
            let Some(worker) = self.connection_mut(call.caller).and_then(Connection::worker_mut) else {
                let stopped = Refusal::new(codes::INVOCATION_STOPPED, codes::INVOCATION_STOPPED_MESSAGE);
                return self.refuse(&call, &stopped);
            };
            let Some(pending) = worker.pending.get_mut(&invocation_id) else { return };
            pending.retried = true;
            if let Some(provider) = pending.provider.take() {
                pending.route.release(provider);
            }
        }
        let outcome =
            self.route(namespace, function_id).and_then(|route| self.resolve_again(&route, message.provider, &call));
        if let Err(refusal) = outcome {
            self.refuse(&call, &refusal);
        }
    }
}
