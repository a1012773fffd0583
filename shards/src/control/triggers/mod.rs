//! Trigger types and triggers: who provides a type, which bindings it has been told of, which ones wait.
//!
//! Owner: the control shard. Pure: what is to be said to connections and data shards collects in
//! [`Triggers::take_effects`]. Invariant: after every public call each binding is live at the provider it resolves to,
//! or parked if nobody provides its type, or refused by that provider and waiting for the type to be registered anew.
//!
//! ```text
//!            type offered                       provider says no
//!  parked ─────────────────► live at provider ──────────────────► refused
//!     ▲                       │  ▲        ▲                          │
//!     └─── last offer leaves ─┘  └ moves ─┘◄──── type offered again ─┘
//! ```

mod frames;
pub mod provider;
mod types;

use super::report::Command;
use crate::ids::{ConnectionId, ShardId};
use crate::registry::DEFAULT_NAMESPACE;
use crate::wire::codes;
use crate::wire::encode::{Value, write_error};
use crate::wire::envelope::ErrorBody;
pub(super) use frames::refusal;
use provider::{BuiltInTriggerType, Commands};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use types::Types;
pub use types::{Offer, Provider, TypeView};

/// One trigger: when a trigger type's condition holds, a function runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// Id given by whoever registered it.
    pub id: Arc<str>,
    /// Kind of happening.
    pub trigger_type: Arc<str>,
    /// Namespace of the function.
    pub namespace: Box<str>,
    /// Function to run.
    pub function_id: Box<str>,
    /// Raw JSON configuration.
    pub config: Box<[u8]>,
    /// Raw JSON metadata, delivered with every run.
    pub metadata: Option<Box<[u8]>>,
    /// Namespace the provider must be in, if one was asked for (PROTO-91).
    pub trigger_namespace: Option<Box<str>>,
    /// Namespace of whoever registered it.
    pub home: Arc<str>,
    /// The connection that registered it; `None` = `engine::register_trigger`, owned by nobody.
    pub registrant: Option<ConnectionId>,
}

/// Where a binding stands.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// Nobody provides the type.
    Parked,
    /// This provider said no.
    Refused(Arc<str>, Provider),
    /// At the provider of its type in this namespace.
    Live(Arc<str>, Provider),
}

struct Entry {
    binding: Binding,
    place: Place,
    /// Connections that have been told of it and not that it ended.
    told: Vec<ConnectionId>,
}

/// Something to be done outside.
pub enum Effect {
    /// Send a message to a worker.
    Send(ConnectionId, Vec<u8>),
    /// Have a data shard do something.
    Command(ShardId, Command),
}

/// What became of a registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registered {
    /// A built-in worker has it.
    Live,
    /// A connection has been asked.
    Asked,
    /// It waits for a provider.
    Parked,
}

/// What a provider's answer meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Not from the provider of a trigger there is.
    Stray,
    /// The trigger is live.
    Accepted,
    /// The provider said no; code and message.
    Refused(String, String),
}

/// Trigger types and triggers.
#[derive(Default)]
pub struct Triggers {
    types: Types,
    bindings: HashMap<Arc<str>, Entry>,
    by_type: HashMap<Arc<str>, BTreeSet<Arc<str>>>,
    by_function: HashMap<Box<str>, BTreeSet<Arc<str>>>,
    by_registrant: HashMap<ConnectionId, BTreeSet<Arc<str>>>,
    effects: Vec<Effect>,
}

impl Triggers {
    /// What is to be done, in order.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    // === types ===

    /// A built-in worker starts to provide a type; triggers that waited for it are registered.
    pub fn provide(&mut self, built_in: BuiltInTriggerType) {
        self.types.provide(DEFAULT_NAMESPACE, &built_in.id, built_in.provider);
        self.settle_type(&built_in.id);
    }

    /// A built-in worker no longer provides a type; its triggers wait for the next provider.
    pub fn withdraw_built_in(&mut self, id: &str) {
        self.types.withdraw_built_in(DEFAULT_NAMESPACE, id);
        self.settle_type(id);
    }

    /// A connection offers a type (PROTO-100). It is told of every trigger that resolves to it, once each.
    /// `false` = a built-in worker has the type.
    pub fn offer(&mut self, namespace: &Arc<str>, id: &Arc<str>, offer: Offer) -> bool {
        if !self.types.offer(namespace, id, offer) {
            return false;
        }
        for binding in self.ids_of_type(id) {
            let resolved = self.bindings.get(&binding).and_then(|entry| self.resolve(&entry.binding));
            let anew = resolved.is_some_and(|(resolved, _)| resolved == *namespace);
            self.settle(&binding, anew);
        }
        true
    }

    /// A connection no longer offers a type. Triggers fall back to the next provider, or wait (PROTO-103).
    pub fn withdraw(&mut self, namespace: &str, id: &str, connection: ConnectionId) -> Option<Offer> {
        let offer = self.types.withdraw(namespace, id, connection)?;
        for binding in self.ids_of_type(id) {
            if let Some(entry) = self.bindings.get_mut(&binding)
                && matches!(&entry.place, Place::Live(space, _) if **space == *namespace)
            {
                entry.told.retain(|told| *told != connection);
            }
            self.settle(&binding, false);
        }
        Some(offer)
    }

    /// A connection now lives in another namespace: what it registered without naming one moves along.
    pub fn move_connection(&mut self, connection: ConnectionId, home: &Arc<str>) {
        for (namespace, id) in self.types.of_connection(connection) {
            if namespace != *home
                && self.types.follows_connection(&namespace, &id, connection)
                && let Some(offer) = self.types.withdraw(&namespace, &id, connection)
            {
                // Unlike one that takes its offer back, it must be told which triggers it loses by the move.
                self.settle_type(&id);
                self.offer(home, &id, offer);
            }
        }
        let own: Vec<_> = self.by_registrant.get(&connection).into_iter().flatten().cloned().collect();
        for id in own {
            if let Some(entry) = self.bindings.get_mut(&id) {
                entry.binding.home = home.clone();
            }
            self.settle(&id, false);
        }
    }

    /// A connection is gone: its triggers end, then its types (PROTO-48 steps 4 and 5).
    pub fn remove_connection(&mut self, connection: ConnectionId) {
        for id in self.by_registrant.remove(&connection).unwrap_or_default() {
            // Its provider can tell that the registrant left from that it ended the trigger.
            if let Some(entry) = self.bindings.get_mut(&id) {
                entry.binding.registrant = None;
            }
            let _ = self.remove(&id);
        }
        for (namespace, id) in self.types.of_connection(connection) {
            self.withdraw(&namespace, &id, connection);
        }
        self.effects.retain(|effect| !matches!(effect, Effect::Send(to, _) if *to == connection));
    }

    // === triggers ===

    /// Adds a trigger, replacing one of the same id. `Err` = a built-in provider refused it; nothing is stored.
    pub fn register(&mut self, binding: Binding) -> Result<Registered, String> {
        let id = binding.id.clone();
        let _ = self.remove(&id);
        self.by_type.entry(binding.trigger_type.clone()).or_default().insert(id.clone());
        self.by_function.entry(binding.function_id.clone()).or_default().insert(id.clone());
        if let Some(registrant) = binding.registrant {
            self.by_registrant.entry(registrant).or_default().insert(id.clone());
        }
        let seat = self.resolve(&binding);
        self.bindings.insert(id.clone(), Entry { binding, place: Place::Parked, told: Vec::new() });
        let Some((namespace, provider)) = seat else { return Ok(Registered::Parked) };
        match self.deliver(&id, namespace, provider) {
            Ok(()) if provider == Provider::BuiltIn => Ok(Registered::Live),
            Ok(()) => Ok(Registered::Asked),
            Err(message) => {
                self.forget(&id);
                Err(message)
            }
        }
    }

    /// Removes a trigger and tells its provider. `Ok(false)` = there is none; `Err` = a built-in provider's complaint.
    pub fn remove(&mut self, id: &str) -> Result<bool, String> {
        let Some(entry) = self.forget(id) else { return Ok(false) };
        self.end(&entry).map(|()| true)
    }

    /// A provider answers whether it took a trigger (PROTO-93). A refusal is passed on to the registrant.
    pub fn answer(&mut self, from: ConnectionId, id: &str, error: Option<&[u8]>) -> Verdict {
        let Some(entry) = self.bindings.get_mut(id) else { return Verdict::Stray };
        if !matches!(entry.place, Place::Live(_, Provider::Connection(provider)) if provider == from) {
            return Verdict::Stray;
        }
        let Some(error) = error else { return Verdict::Accepted };
        if let Place::Live(namespace, provider) = &entry.place {
            entry.place = Place::Refused(namespace.clone(), *provider);
        }
        entry.told.retain(|told| *told != from);
        let body = ErrorBody::parse(error);
        let mut text = Vec::new();
        write_error(&mut text, &body.code, &body.message, body.stacktrace);
        if let Some(registrant) = entry.binding.registrant {
            let message = refusal(&entry.binding, Value::Raw(&text));
            self.effects.push(Effect::Send(registrant, message));
        }
        Verdict::Refused(body.code.into_owned(), body.message.into_owned())
    }

    // === questions ===

    /// Who registered a trigger: `Some(None)` = nobody who is connected.
    pub fn registrant(&self, id: &str) -> Option<Option<ConnectionId>> {
        self.bindings.get(id).map(|entry| entry.binding.registrant)
    }

    /// A live trigger, and the namespace its provider is in.
    pub fn live_binding(&self, id: &str) -> Option<(&Binding, &str)> {
        match self.bindings.get(id)? {
            Entry { binding, place: Place::Live(namespace, _), .. } => Some((binding, namespace)),
            _ => None,
        }
    }

    /// All triggers, in no order.
    pub fn bindings(&self) -> impl Iterator<Item = (&Binding, bool)> {
        self.bindings.values().map(Entry::view)
    }

    /// Live triggers of a function, by id.
    pub fn bindings_of_function(&self, namespace: &str, function_id: &str) -> impl Iterator<Item = &Binding> {
        let ids = self.by_function.get(function_id).into_iter().flatten();
        let live = ids.filter_map(|id| self.bindings.get(id)).map(Entry::view).filter(|(_, live)| *live);
        live.map(|(binding, _)| binding).filter(move |binding| *binding.namespace == *namespace)
    }

    /// Live triggers at the provider of a type, by id.
    pub fn bindings_of_type(&self, namespace: &str, id: &str) -> impl Iterator<Item = &Binding> {
        let entries = self.by_type.get(id).into_iter().flatten().filter_map(|id| self.bindings.get(id));
        let here = entries.filter(move |entry| matches!(&entry.place, Place::Live(space, _) if **space == *namespace));
        here.map(|entry| &entry.binding)
    }

    /// A type of a namespace.
    pub fn trigger_type(&self, namespace: &str, id: &str) -> Option<TypeView<'_>> {
        self.types.view(namespace, id)
    }

    /// All types, by id.
    pub fn trigger_types(&self) -> impl Iterator<Item = TypeView<'_>> {
        self.types.iter()
    }

    // === inside ===

    fn ids_of_type(&self, id: &str) -> Vec<Arc<str>> {
        self.by_type.get(id).into_iter().flatten().cloned().collect()
    }

    fn settle_type(&mut self, id: &str) {
        for binding in self.ids_of_type(id) {
            self.settle(&binding, false);
        }
    }

    /// Which provider a trigger belongs to (PROTO-91).
    fn resolve(&self, binding: &Binding) -> Option<(Arc<str>, Provider)> {
        let find = |namespace: &str| self.types.provider(namespace, &binding.trigger_type);
        match &binding.trigger_namespace {
            Some(asked) => find(asked),
            None => find(&binding.home).or_else(|| find(DEFAULT_NAMESPACE)),
        }
    }

    /// Moves a trigger to where it belongs. `anew` = its provider has just registered the type.
    fn settle(&mut self, id: &str, anew: bool) {
        let Some(entry) = self.bindings.get(id) else { return };
        let seat = self.resolve(&entry.binding);
        let (here, live) = match &entry.place {
            Place::Live(namespace, provider) => (Some((namespace.clone(), *provider)), true),
            Place::Refused(namespace, provider) => (Some((namespace.clone(), *provider)), false),
            Place::Parked => (None, false),
        };
        if !anew && here == seat {
            return;
        }
        // Whoever is replaced under the same name is not told (PROTO-100); who loses a trigger to another is.
        let leaves = live && here.is_some_and(|(old, _)| seat.as_ref().is_none_or(|(new, _)| *new != old));
        if leaves && let Some(entry) = self.bindings.get_mut(id) {
            let told = std::mem::take(&mut entry.told);
            let entry = Entry { binding: entry.binding.clone(), place: entry.place.clone(), told };
            if let Err(message) = self.end(&entry) {
                tracing::warn!("trigger {id}: {message}");
            }
        }
        match seat {
            None => self.set_place(id, Place::Parked),
            Some((namespace, provider)) => {
                if let Err(message) = self.deliver(id, namespace.clone(), provider) {
                    self.set_place(id, Place::Refused(namespace, provider));
                    let binding = self.bindings.get(id).map(|entry| &entry.binding);
                    if let Some((binding, to)) = binding.and_then(|binding| Some((binding, binding.registrant?))) {
                        let error = Value::Error(codes::TRIGGER_REGISTRATION_FAILED, &message);
                        self.effects.push(Effect::Send(to, refusal(binding, error)));
                    }
                }
            }
        }
    }

    fn set_place(&mut self, id: &str, place: Place) {
        if let Some(entry) = self.bindings.get_mut(id) {
            entry.place = place;
        }
    }

    /// Tells a provider of a trigger. `Err` = it is built in and refuses.
    fn deliver(&mut self, id: &str, namespace: Arc<str>, provider: Provider) -> Result<(), String> {
        let Some(entry) = self.bindings.get_mut(id) else { return Ok(()) };
        match provider {
            Provider::BuiltIn => {
                let mut commands = Commands::new();
                let built_in = self.types.built_in(&namespace, &entry.binding.trigger_type);
                let outcome = built_in.map_or(Ok(()), |provider| provider.register(&entry.binding, &mut commands));
                self.effects.extend(commands.into_iter().map(|(shard, command)| Effect::Command(shard, command)));
                outcome?;
            }
            Provider::Connection(connection) => {
                if !entry.told.contains(&connection) {
                    entry.told.push(connection);
                }
                self.effects.push(Effect::Send(connection, frames::delivery(&entry.binding, &namespace)));
            }
        }
        entry.place = Place::Live(namespace, provider);
        Ok(())
    }

    /// Tells whoever has a trigger that it has ended.
    fn end(&mut self, entry: &Entry) -> Result<(), String> {
        let binding = &entry.binding;
        for connection in &entry.told {
            self.effects.push(Effect::Send(*connection, frames::ending(binding)));
        }
        if let Place::Live(namespace, Provider::BuiltIn) = &entry.place
            && let Some(provider) = self.types.built_in(namespace, &binding.trigger_type)
        {
            let mut commands = Commands::new();
            let outcome = provider.unregister(binding, &mut commands);
            self.effects.extend(commands.into_iter().map(|(shard, command)| Effect::Command(shard, command)));
            return outcome;
        }
        Ok(())
    }

    fn forget(&mut self, id: &str) -> Option<Entry> {
        let entry = self.bindings.remove(id)?;
        let binding = &entry.binding;
        if let Some(ids) = self.by_type.get_mut(&binding.trigger_type)
            && ids.remove(id)
            && ids.is_empty()
        {
            self.by_type.remove(&binding.trigger_type);
        }
        if let Some(ids) = self.by_function.get_mut(&binding.function_id)
            && ids.remove(id)
            && ids.is_empty()
        {
            self.by_function.remove(&binding.function_id);
        }
        if let Some(registrant) = binding.registrant
            && let Some(ids) = self.by_registrant.get_mut(&registrant)
            && ids.remove(id)
            && ids.is_empty()
        {
            self.by_registrant.remove(&registrant);
        }
        Some(entry)
    }
}

// === impl Entry ===

impl Entry {
    fn view(&self) -> (&Binding, bool) {
        (&self.binding, matches!(self.place, Place::Live(..)))
    }
}
