//! Trigger types: who provides each, as a stack per namespace and id (PROTO-100).

use super::provider::TriggerProvider;
use crate::ids::ConnectionId;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Namespace and id of a trigger type.
type TypeName = (Arc<str>, Arc<str>);

/// A connection's offer to run a trigger type.
#[derive(Debug, Clone)]
pub struct Offer {
    /// Who offers.
    pub connection: ConnectionId,
    /// Text for people.
    pub description: Box<str>,
    /// Raw JSON schema of a trigger's configuration.
    pub trigger_request_format: Option<Box<[u8]>>,
    /// Raw JSON schema of what it sends.
    pub call_request_format: Option<Box<[u8]>>,
    /// The message named no namespace: the type lives where its connection lives.
    pub follows_connection: bool,
}

/// Everybody who provides one type. Never empty.
#[derive(Default)]
struct Stack {
    /// A built-in provider is the bottom, and cannot be covered.
    built_in: Option<Box<dyn TriggerProvider>>,
    /// The newest is the one in charge.
    offers: Vec<Offer>,
}

/// Who is in charge of a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// A built-in worker.
    BuiltIn,
    /// A connection.
    Connection(ConnectionId),
}

/// A trigger type as it is shown.
#[derive(Debug, Clone, Copy)]
pub struct TypeView<'a> {
    /// Namespace of the type.
    pub namespace: &'a str,
    /// Type id.
    pub id: &'a str,
    /// The offer in charge; `None` = a built-in worker.
    pub offer: Option<&'a Offer>,
}

/// All trigger types.
#[derive(Default)]
pub(super) struct Types {
    by_id: BTreeMap<Arc<str>, BTreeMap<Arc<str>, Stack>>,
    by_connection: HashMap<ConnectionId, BTreeSet<TypeName>>,
}

impl Types {
    pub fn provide(&mut self, namespace: &str, id: &str, provider: Box<dyn TriggerProvider>) {
        self.stack(namespace, id).built_in = Some(provider);
    }

    pub fn withdraw_built_in(&mut self, namespace: &str, id: &str) {
        let Some(spaces) = self.by_id.get_mut(id) else { return };
        if let Some(stack) = spaces.get_mut(namespace) {
            stack.built_in = None;
            if stack.offers.is_empty() {
                spaces.remove(namespace);
            }
        }
        if spaces.is_empty() {
            self.by_id.remove(id);
        }
    }

    /// Puts an offer on top of its stack. `false` = a built-in worker has the type, which nobody may take.
    pub fn offer(&mut self, namespace: &Arc<str>, id: &Arc<str>, offer: Offer) -> bool {
        let stack = self.stack(namespace, id);
        if stack.built_in.is_some() {
            return false;
        }
        let connection = offer.connection;
        stack.offers.retain(|other| other.connection != connection);
        stack.offers.push(offer);
        self.by_connection.entry(connection).or_default().insert((namespace.clone(), id.clone()));
        true
    }

    /// Takes an offer back. `None` = there was none.
    pub fn withdraw(&mut self, namespace: &str, id: &str, connection: ConnectionId) -> Option<Offer> {
        let spaces = self.by_id.get_mut(id)?;
        let stack = spaces.get_mut(namespace)?;
        let at = stack.offers.iter().position(|offer| offer.connection == connection)?;
        let offer = stack.offers.remove(at);
        if stack.offers.is_empty() && stack.built_in.is_none() {
            spaces.remove(namespace);
        }
        if spaces.is_empty() {
            self.by_id.remove(id);
        }
        if let Some(own) = self.by_connection.get_mut(&connection) {
            own.retain(|(space, other)| (&**space, &**other) != (namespace, id));
            if own.is_empty() {
                self.by_connection.remove(&connection);
            }
        }
        Some(offer)
    }

    /// Who is in charge, and the namespace's shared name.
    pub fn provider(&self, namespace: &str, id: &str) -> Option<(Arc<str>, Provider)> {
        let (namespace, stack) = self.by_id.get(id)?.get_key_value(namespace)?;
        Some((namespace.clone(), stack.provider()?))
    }

    pub fn built_in(&mut self, namespace: &str, id: &str) -> Option<&mut Box<dyn TriggerProvider>> {
        self.by_id.get_mut(id)?.get_mut(namespace)?.built_in.as_mut()
    }

    pub fn view(&self, namespace: &str, id: &str) -> Option<TypeView<'_>> {
        let (id, spaces) = self.by_id.get_key_value(id)?;
        let (namespace, stack) = spaces.get_key_value(namespace)?;
        Some(TypeView { namespace, id, offer: stack.offers.last() })
    }

    /// All types by id, then namespace.
    pub fn iter(&self) -> impl Iterator<Item = TypeView<'_>> {
        self.by_id.iter().flat_map(|(id, spaces)| {
            spaces.iter().map(move |(namespace, stack)| TypeView { namespace, id, offer: stack.offers.last() })
        })
    }

    /// What a connection offers.
    pub fn of_connection(&self, connection: ConnectionId) -> Vec<TypeName> {
        self.by_connection.get(&connection).into_iter().flatten().cloned().collect()
    }

    /// Whether an offer moves with its connection's namespace.
    pub fn follows_connection(&self, namespace: &str, id: &str, connection: ConnectionId) -> bool {
        let stack = self.by_id.get(id).and_then(|spaces| spaces.get(namespace));
        let offer = stack.and_then(|stack| stack.offers.iter().find(|offer| offer.connection == connection));
        offer.is_some_and(|offer| offer.follows_connection)
    }

    fn stack(&mut self, namespace: &str, id: &str) -> &mut Stack {
        self.by_id.entry(id.into()).or_default().entry(namespace.into()).or_default()
    }
}

// === impl Stack ===

impl Stack {
    fn provider(&self) -> Option<Provider> {
        let offered = self.offers.last().map(|offer| Provider::Connection(offer.connection));
        offered.or(self.built_in.is_some().then_some(Provider::BuiltIn))
    }
}
