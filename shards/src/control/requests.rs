//! Registration messages that concern no function: trigger types, triggers, services.

use super::functions::ENGINE_FUNCTIONS_WORKER;
use super::triggers::{Binding, Offer, Registered, Verdict, refusal};
use super::{Control, schemas};
use crate::ids::ConnectionId;
use crate::limits::SERVICES_MAX;
use crate::registry::DEFAULT_NAMESPACE;
use crate::wire::codes;
use crate::wire::encode::Value;
use crate::wire::envelope::{Envelope, Kind};
use std::sync::Arc;

/// A service of the 0.11 line. Kept, never shown (PROTO-110).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Service {
    /// Name, or the id if it has none.
    pub name: Box<str>,
    /// Service it belongs to.
    pub parent: Option<Box<str>>,
}

/// A namespace member: absent, usable, or named and left blank.
enum Named {
    Absent,
    Given(Box<str>),
    Blank,
}

impl Control {
    /// A message a data shard has passed on. It is valid JSON and has an `id` that is not empty, unless it is a
    /// provider's answer.
    pub(super) fn handle_message(&mut self, connection: ConnectionId, kind: Kind, text: &[u8]) {
        // Its connection may have left while the message was on its way.
        let Some(worker) = self.workers.get(&connection) else { return };
        let home = worker.namespace.clone();
        let Ok(envelope) = Envelope::parse(text) else { return };
        let outcome = match kind {
            Kind::RegisterTriggerType => self.register_trigger_type(connection, &home, &envelope),
            Kind::UnregisterTriggerType => self.unregister_trigger_type(connection, &home, &envelope),
            Kind::RegisterTrigger => self.register_trigger(connection, home, &envelope),
            Kind::UnregisterTrigger => self.unregister_trigger(connection, &envelope),
            Kind::TriggerRegistrationResult => self.handle_provider_answer(connection, &envelope),
            Kind::RegisterService => self.register_service(home, &envelope),
            _ => Ok(()),
        };
        if let Err(reason) = outcome {
            tracing::warn!(connection = %connection, "ignored a registration: {reason}");
        }
        self.apply_effects();
    }

    // === trigger types ===

    fn register_trigger_type(
        &mut self,
        connection: ConnectionId,
        home: &Arc<str>,
        envelope: &Envelope<'_>,
    ) -> Result<(), String> {
        let members = &envelope.members;
        let id: Arc<str> = Envelope::required(members.id, "id")?.as_ref().into();
        let description = Envelope::string(members.description, "description")?.unwrap_or_default();
        let (namespace, follows_connection) = match named(members.namespace, "namespace")? {
            Named::Absent => (home.clone(), true),
            Named::Given(namespace) => ((*namespace).into(), false),
            Named::Blank => return Err(format!("trigger type {id}: {}", blank("namespace"))),
        };
        let raw = |raw| Envelope::raw(raw).map(Box::from);
        let offer = Offer {
            connection,
            description: (*description).into(),
            trigger_request_format: raw(members.trigger_request_format),
            call_request_format: raw(members.call_request_format),
            follows_connection,
        };
        if !self.triggers.offer(&namespace, &id, offer) {
            let owner = self.owner_of_type(&id).unwrap_or(ENGINE_FUNCTIONS_WORKER);
            return Err(format!("trigger type {id} belongs to {owner}"));
        }
        tracing::info!("[REGISTERED] Trigger Type {id}");
        Ok(())
    }

    fn unregister_trigger_type(
        &mut self,
        connection: ConnectionId,
        home: &Arc<str>,
        envelope: &Envelope<'_>,
    ) -> Result<(), String> {
        let id = Envelope::required(envelope.members.id, "id")?;
        let namespace = match named(envelope.members.namespace, "namespace")? {
            Named::Absent => home.as_ref().into(),
            Named::Given(namespace) => namespace,
            Named::Blank => return Err(blank("namespace")),
        };
        if self.triggers.withdraw(&namespace, &id, connection).is_some() {
            tracing::info!("[UNREGISTERED] Trigger Type {id}");
        }
        Ok(())
    }

    // === triggers ===

    fn register_trigger(
        &mut self,
        connection: ConnectionId,
        home: Arc<str>,
        envelope: &Envelope<'_>,
    ) -> Result<(), String> {
        let members = &envelope.members;
        let text = |raw, name| Envelope::required(raw, name);
        let (target, provider) =
            (named(members.namespace, "namespace")?, named(members.trigger_namespace, "trigger_namespace")?);
        let binding = Binding {
            id: text(members.id, "id")?.as_ref().into(),
            trigger_type: text(members.trigger_type, "trigger_type")?.as_ref().into(),
            function_id: text(members.function_id, "function_id")?.into(),
            namespace: match &target {
                Named::Given(namespace) => namespace.clone(),
                Named::Absent | Named::Blank => DEFAULT_NAMESPACE.into(),
            },
            trigger_namespace: match &provider {
                Named::Given(namespace) => Some(namespace.clone()),
                Named::Absent | Named::Blank => None,
            },
            config: members.config.unwrap_or(b"null").into(),
            metadata: Envelope::raw(members.metadata).map(Box::from),
            home,
            registrant: Some(connection),
        };
        let refuse = |control: &mut Control, code, message: &str| {
            tracing::warn!("trigger {} refused: {message}", binding.id);
            control.send(connection, refusal(&binding, Value::Error(code, message)));
        };
        for (field, value) in [("namespace", &target), ("trigger_namespace", &provider)] {
            if matches!(value, Named::Blank) {
                refuse(self, codes::INVALID_NAMESPACE, &blank(field));
                return Ok(());
            }
        }
        let known = self.triggers.registrant(&binding.id);
        if known.is_some_and(|registrant| !registrant.is_some_and(|other| self.may_act_for(connection, other))) {
            refuse(self, codes::TRIGGER_REGISTRATION_FAILED, "trigger id already in use");
            return Ok(());
        }
        if let Err(message) = self.bind(binding.clone()) {
            refuse(self, codes::TRIGGER_REGISTRATION_FAILED, &message);
        }
        Ok(())
    }

    /// Registers a trigger, whoever wants it.
    pub(super) fn bind(&mut self, binding: Binding) -> Result<Registered, String> {
        let (id, trigger_type) = (binding.id.clone(), binding.trigger_type.clone());
        let function_id = binding.function_id.clone();
        let registered = self.triggers.register(binding)?;
        match registered {
            Registered::Parked => tracing::info!(
                "trigger {id} waits: nobody provides trigger type {trigger_type}. {}",
                schemas::how_to_get(&trigger_type)
            ),
            Registered::Live | Registered::Asked => {
                tracing::info!("[REGISTERED] Trigger {id} ({trigger_type} -> {function_id})");
            }
        }
        if registered == Registered::Live && *trigger_type == *super::events::FUNCTIONS_AVAILABLE {
            self.events.watch(&id, self.now.ms, self.catalog.fingerprint());
        }
        Ok(registered)
    }

    fn unregister_trigger(&mut self, connection: ConnectionId, envelope: &Envelope<'_>) -> Result<(), String> {
        let id = Envelope::required(envelope.members.id, "id")?;
        let Some(registrant) = self.triggers.registrant(&id) else { return Ok(()) };
        if registrant.is_some_and(|other| !self.may_act_for(connection, other)) {
            return Err(format!("trigger {id} was registered by another worker"));
        }
        tracing::info!("[UNREGISTERED] Trigger {id}");
        self.triggers.remove(&id).map(drop)
    }

    /// Whether a connection may change what another registered: itself, or an older one of its process (PROTO-50b).
    fn may_act_for(&self, connection: ConnectionId, other: ConnectionId) -> bool {
        let pair = (self.workers.get(&connection), self.workers.get(&other));
        connection == other || matches!(pair, (Some(one), Some(other)) if one.is_process_of(other))
    }

    fn handle_provider_answer(&mut self, connection: ConnectionId, envelope: &Envelope<'_>) -> Result<(), String> {
        let id = Envelope::required(envelope.members.id, "id")?;
        let verdict = self.triggers.answer(connection, &id, Envelope::raw(envelope.members.error));
        if let Verdict::Refused(code, message) = &verdict {
            tracing::warn!("trigger {id} refused by its provider: {code}: {message}");
        }
        self.settle_waiting(&id, &verdict);
        Ok(())
    }

    // === services ===

    fn register_service(&mut self, home: Arc<str>, envelope: &Envelope<'_>) -> Result<(), String> {
        let members = &envelope.members;
        let id = Envelope::required(members.id, "id")?;
        let name = Envelope::string(members.name, "name")?.filter(|name| !name.is_empty());
        let parent = Envelope::string(members.parent_service_id, "parent_service_id")?.map(Into::into);
        let service = Service { name: name.unwrap_or_else(|| id.clone()).into(), parent };
        let key = (home, id.into());
        if self.services.len() >= SERVICES_MAX && !self.services.contains_key(&key) {
            return Err(format!("there are {SERVICES_MAX} services already"));
        }
        self.services.insert(key, service);
        Ok(())
    }
}

fn named(raw: Option<&[u8]>, name: &str) -> Result<Named, String> {
    Ok(match Envelope::string(raw, name)? {
        None => Named::Absent,
        Some(text) if text.trim().is_empty() => Named::Blank,
        Some(text) => Named::Given(text.into()),
    })
}

/// PROTO-95: the text of PROTO-80, naming the member.
pub(super) fn blank(field: &str) -> String {
    codes::BLANK_NAMESPACE.replacen("namespace", field, 1)
}
