//! Who wants to hear of changes: `state` triggers, found by scope and key (STATE-40, STATE-41).

use crate::workers::payload::{members, optional_string};
use foldhash::fast::RandomState;
use hashbrown::{Equivalent, HashMap};
use iii_shards::builtin::firing::Target;
use iii_shards::control::triggers::Binding;
use std::hash::{Hash, Hasher};
use std::rc::Rc;
use std::sync::Arc;

/// What a trigger wants to hear of; `None` = everything.
#[derive(Debug, PartialEq, Eq)]
struct Filter {
    scope: Option<Box<str>>,
    key: Option<Box<str>>,
}

/// A filter to be looked up.
struct FilterRef<'a> {
    scope: Option<&'a str>,
    key: Option<&'a str>,
}

/// Reads a trigger's configuration. `Err` is told to whoever registers it.
fn parse(config: &[u8]) -> Result<Filter, String> {
    let read = || {
        let names = ["scope", "key", "condition_function_id"];
        let [scope, key, condition] = members(config, names, "struct StateTriggerConfig")?;
        optional_string(condition)?;
        let (scope, key) = (optional_string(scope)?, optional_string(key)?);
        Ok(Filter { scope: scope.map(|text| text.as_ref().into()), key: key.map(|text| text.as_ref().into()) })
    };
    read().map_err(|detail: String| format!("Failed to parse trigger config: {detail}"))
}

/// Says what is wrong with a trigger's configuration.
pub fn check(binding: &Binding) -> Result<(), String> {
    parse(&binding.config).map(drop)
}

/// The triggers, by filter: a change finds its own with four look-ups, however many there are.
#[derive(Default)]
pub struct Triggers {
    by_filter: HashMap<Filter, Vec<Rc<Target>>, RandomState>,
}

impl Triggers {
    /// Whether there is none at all.
    pub fn is_empty(&self) -> bool {
        self.by_filter.is_empty()
    }

    /// Adds a trigger.
    pub fn add(&mut self, binding: Arc<Binding>) {
        if let Ok(filter) = parse(&binding.config) {
            self.by_filter.entry(filter).or_default().push(Rc::new(Target::new(binding)));
        }
    }

    /// Removes a trigger.
    pub fn remove(&mut self, binding: &Binding) {
        let Ok(filter) = parse(&binding.config) else { return };
        if let Some(targets) = self.by_filter.get_mut(&filter) {
            targets.retain(|target| target.binding.id != binding.id);
            if targets.is_empty() {
                self.by_filter.remove(&filter);
            }
        }
    }

    /// The triggers a change concerns.
    pub fn matching<'a>(&'a self, scope: &'a str, key: &'a str) -> impl Iterator<Item = &'a Rc<Target>> {
        let (scope, key) = (Some(scope), Some(key));
        let filters = [(None, None), (scope, None), (None, key), (scope, key)];
        filters.into_iter().filter_map(|(scope, key)| self.by_filter.get(&FilterRef { scope, key })).flatten()
    }
}

impl Hash for Filter {
    fn hash<H: Hasher>(&self, state: &mut H) {
        FilterRef { scope: self.scope.as_deref(), key: self.key.as_deref() }.hash(state);
    }
}

impl Hash for FilterRef<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.scope, self.key).hash(state);
    }
}

impl Equivalent<Filter> for FilterRef<'_> {
    fn equivalent(&self, filter: &Filter) -> bool {
        self.scope == filter.scope.as_deref() && self.key == filter.key.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding(id: &str, config: &str) -> Binding {
        Binding {
            id: id.into(),
            trigger_type: "state".into(),
            namespace: "default".into(),
            function_id: "f".into(),
            config: config.as_bytes().into(),
            metadata: None,
            trigger_namespace: None,
            home: "default".into(),
            registrant: None,
        }
    }

    // STATE-40, S23
    #[test]
    fn configurations_are_checked() {
        let error = |detail: &str| Err(format!("Failed to parse trigger config: {detail}"));
        for (config, expected) in [
            ("{}", Ok(())),
            (r#"{"zzz":1}"#, Ok(())),
            (r#"{"scope":null,"key":"","condition_function_id":"f"}"#, Ok(())),
            (r#"{"scope":5}"#, error("invalid type: integer `5`, expected a string")),
            (r#"{"key":[]}"#, error("invalid type: sequence, expected a string")),
            (r#"{"condition_function_id":true}"#, error("invalid type: boolean `true`, expected a string")),
            ("null", error("invalid type: null, expected struct StateTriggerConfig")),
            ("[]", error("invalid type: sequence, expected struct StateTriggerConfig")),
        ] {
            assert_eq!(check(&binding("t", config)), expected, "{config}");
        }
    }

    // STATE-41, STATE-46
    #[test]
    fn filters_are_exact() {
        let mut triggers = Triggers::default();
        let all = ["{}", r#"{"scope":"a"}"#, r#"{"key":"k"}"#, r#"{"scope":"a","key":"k"}"#, r#"{"scope":null}"#];
        for (number, config) in all.iter().enumerate() {
            triggers.add(Arc::new(binding(&number.to_string(), config)));
        }
        let matching = |triggers: &Triggers, scope: &str, key: &str| {
            let mut ids: Vec<String> =
                triggers.matching(scope, key).map(|target| target.binding.id.to_string()).collect();
            ids.sort();
            ids.concat()
        };
        for (scope, key, expected) in [
            ("a", "k", "01234"),
            ("a", "x", "014"),
            ("b", "k", "024"),
            ("b", "x", "04"),
            ("", "", "04"),
            ("A", "K", "04"),
        ] {
            assert_eq!(matching(&triggers, scope, key), expected, "{scope} {key}");
        }
        triggers.remove(&binding("0", "{}"));
        triggers.remove(&binding("3", all[3]));
        assert_eq!(matching(&triggers, "a", "k"), "124");
    }
}
