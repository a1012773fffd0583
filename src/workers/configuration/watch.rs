//! `configuration` triggers (CONF section 4), and which entries somebody watches (CONF-40).

use iii_shards::builtin::firing::Target;
use iii_shards::control::triggers::Binding;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The triggers, in the order of their ids.
#[derive(Default)]
pub struct Watches {
    watches: BTreeMap<Arc<str>, (Target, Filter)>,
}

#[derive(Debug, Default, Deserialize)]
struct Filter {
    #[serde(default)]
    configuration_id: Option<String>,
    #[serde(default)]
    event_types: Option<Vec<String>>,
    #[serde(default)]
    #[allow(dead_code, reason = "read by `Target`; here for its type to be checked")]
    condition_function_id: Option<String>,
}

impl Filter {
    fn wants(&self, event_type: &str) -> bool {
        self.event_types.as_ref().is_none_or(|types| types.iter().any(|wanted| wanted == event_type))
    }
}

/// Checks the configuration of a trigger (CONF-30).
pub fn check(binding: &Binding) -> Result<(), String> {
    let filter: Result<Filter, _> = serde_json::from_slice(&binding.config);
    filter.map(drop).map_err(|error| format!("Failed to parse configuration trigger config: {error}"))
}

impl Watches {
    /// A trigger exists. Returns the entry it is bound to, if to one.
    pub fn add(&mut self, binding: Arc<Binding>) -> Option<String> {
        let filter: Filter = serde_json::from_slice(&binding.config).unwrap_or_default();
        let id = filter.configuration_id.clone();
        self.watches.insert(binding.id.clone(), (Target::new(binding), filter));
        id
    }

    /// A trigger is gone. Returns the entry it was bound to, if it was the last one.
    pub fn remove(&mut self, id: &str) -> Option<String> {
        let (_, filter) = self.watches.remove(id)?;
        let bound = filter.configuration_id?;
        let others = self.watches.values().any(|(_, other)| other.configuration_id.as_deref() == Some(&*bound));
        (!others).then_some(bound)
    }

    /// Those that want to know of something: first those that want to know of every entry (CONF-33).
    pub fn matching(&self, id: &str, event_type: &str) -> Vec<Target> {
        let mut matching = Vec::new();
        for wanted in [None, Some(id)] {
            for (target, filter) in self.watches.values() {
                if filter.configuration_id.as_deref() == wanted && filter.wants(event_type) {
                    matching.push(target.clone());
                }
            }
        }
        matching
    }
}
