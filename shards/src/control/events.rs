//! Topology events: workers come and go, the set of functions changes (ENG-44 to ENG-46).
//!
//! Worker events fire at once. Function events are coalesced: a change fires within a second, and no trigger fires
//! more often than once a second, however fast registrations churn. Nothing is polled: a change arms one deadline.

use super::triggers::provider::{AcceptAll, BuiltInTriggerType};
use super::{Control, Firing};
use crate::connection::worker::Generation;
use crate::limits::{FUNCTIONS_CHANGED_COALESCE_MS, FUNCTIONS_CHANGED_INTERVAL_MS};
use crate::registry::DEFAULT_NAMESPACE;
use crate::wire::encode::{Value, write_object};
use std::collections::HashMap;
use std::sync::Arc;
use uuid::Uuid;

/// Fires when a worker connects, announces itself or leaves.
pub const WORKERS_AVAILABLE: &str = "engine::workers-available";
/// Fires when functions have been registered or removed.
pub const FUNCTIONS_AVAILABLE: &str = "engine::functions-available";

/// What triggers on function changes have seen.
#[derive(Default)]
pub(super) struct Events {
    watches: HashMap<Arc<str>, Watch>,
    /// When the current burst of changes ends, and the set of functions before it.
    burst: Option<(u64, u64)>,
    due_ms: Option<u64>,
}

/// One trigger on function changes.
struct Watch {
    /// Fingerprint of the functions when it was last told of them.
    seen: u64,
    /// Not to fire before.
    rest_until_ms: u64,
}

/// The trigger types of this module.
pub(super) fn trigger_types() -> [BuiltInTriggerType; 2] {
    [WORKERS_AVAILABLE, FUNCTIONS_AVAILABLE]
        .map(|id| BuiltInTriggerType { id: id.into(), provider: Box::new(AcceptAll) })
}

impl Events {
    pub fn next_deadline_ms(&self) -> Option<u64> {
        self.due_ms
    }

    /// The set of functions is another one than `before`.
    pub fn functions_changed(&mut self, now_ms: u64, before: u64) {
        if self.burst.is_none_or(|(end_ms, _)| end_ms <= now_ms) {
            self.burst = Some((now_ms + FUNCTIONS_CHANGED_COALESCE_MS, before));
        }
        self.wake_at(now_ms + FUNCTIONS_CHANGED_COALESCE_MS);
    }

    /// A trigger is bound. Of what happened before it learns only the burst it is part of: a worker that registers
    /// functions and a trigger in one go is told of its own functions, as with engines that poll.
    pub fn watch(&mut self, trigger: &Arc<str>, now_ms: u64, current: u64) {
        let burst = self.burst.filter(|(end_ms, _)| *end_ms > now_ms);
        let seen = burst.map_or(current, |(_, before)| before);
        let rest_until_ms = self.watches.get(trigger).map_or(0, |watch| watch.rest_until_ms);
        self.watches.insert(trigger.clone(), Watch { seen, rest_until_ms });
        if let Some((end_ms, _)) = burst {
            self.wake_at(end_ms);
        }
    }

    fn wake_at(&mut self, due_ms: u64) {
        self.due_ms = Some(self.due_ms.map_or(due_ms, |known| known.min(due_ms)));
    }

    /// Whether a trigger is to be told now; one that is resting is looked at again later.
    fn is_due(&mut self, trigger: &Arc<str>, now_ms: u64, current: u64) -> bool {
        let new = Watch { seen: current, rest_until_ms: 0 };
        let watch = self.watches.entry(trigger.clone()).or_insert(new);
        if watch.seen == current {
            return false;
        }
        if watch.rest_until_ms > now_ms {
            let rest_until_ms = watch.rest_until_ms;
            self.wake_at(rest_until_ms);
            return false;
        }
        watch.seen = current;
        watch.rest_until_ms = now_ms + FUNCTIONS_CHANGED_INTERVAL_MS;
        true
    }
}

impl Control {
    /// Tells the triggers on workers.
    pub(super) fn fire_worker_event(
        &mut self,
        event: &str,
        worker_id: Uuid,
        known: Option<(Option<String>, Arc<str>)>,
    ) {
        let mut data = Vec::new();
        let (name, namespace) = known.map_or((None, None), |(name, namespace)| (name, Some(namespace)));
        let members = [
            ("event", Value::Text(event)),
            ("worker_id", Value::Text(&worker_id.to_string())),
            ("name", Value::optional(name.as_deref())),
            ("namespace", Value::optional(namespace.as_deref())),
        ];
        write_object(&mut data, &members);
        let firings: Vec<Firing> = self
            .triggers
            .bindings_of_type(DEFAULT_NAMESPACE, WORKERS_AVAILABLE)
            .map(|binding| Firing {
                namespace: binding.namespace.clone(),
                function_id: binding.function_id.clone(),
                data: data.as_slice().into(),
                metadata: binding.metadata.clone(),
                attempts: 0,
            })
            .collect();
        for firing in firings {
            self.fire(firing);
        }
    }

    /// Tells the triggers on functions that have not seen the present set.
    pub(super) fn handle_event_timer(&mut self) {
        let now_ms = self.now.ms;
        if self.events.due_ms.is_none_or(|due_ms| due_ms > now_ms) {
            return;
        }
        self.events.due_ms = None;
        let current = self.catalog.fingerprint();
        let triggers = &self.triggers;
        self.events.watches.retain(|id, _| triggers.live_binding(id).is_some());
        // At most one rendering per shape, and none if nobody is to be told.
        let mut renderings: [Option<Box<[u8]>>; 3] = [None, None, None];
        let mut firings = Vec::new();
        for binding in triggers.bindings_of_type(DEFAULT_NAMESPACE, FUNCTIONS_AVAILABLE) {
            if !self.events.is_due(&binding.id, now_ms, current) {
                continue;
            }
            let target = self.catalog.get(&binding.namespace, &binding.function_id);
            let owner = target.and_then(|function| self.workers.get(&function.connection));
            let generation = self.shape(owner.map_or(Generation::Unknown, |owner| owner.generation));
            let data = renderings[generation as usize].get_or_insert_with(|| self.functions_changed(generation));
            firings.push(Firing {
                namespace: binding.namespace.clone(),
                function_id: binding.function_id.clone(),
                data: data.clone(),
                metadata: binding.metadata.clone(),
                attempts: 0,
            });
        }
        for firing in firings {
            self.fire(firing);
        }
    }

    fn functions_changed(&self, generation: Generation) -> Box<[u8]> {
        let mut data = b"{\"event\":\"functions_changed\",\"functions\":".to_vec();
        self.write_all_functions(&mut data, generation);
        data.push(b'}');
        data.into()
    }
}
