//! `stream`, `stream:join` and `stream:leave` triggers: what they want, and which of them are meant (STREAM section 5).

use iii_shards::builtin::firing::{End, Firing, Target};
use iii_shards::control::triggers::Binding;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Stream triggers, in the order of their ids.
#[derive(Default)]
pub struct Watches {
    watches: BTreeMap<Arc<str>, Watch>,
}

struct Watch {
    target: Target,
    filter: Filter,
}

/// What a trigger's configuration asks for. An empty text asks for nothing, like an absent one (STREAM-70).
#[derive(Debug, Default, Deserialize)]
struct Filter {
    #[serde(default)]
    stream_name: Option<String>,
    #[serde(default)]
    group_id: Option<String>,
    #[serde(default)]
    item_id: Option<String>,
    #[serde(default)]
    #[allow(dead_code, reason = "read by `Target`; here for its type to be checked")]
    condition_function_id: Option<String>,
}

impl Filter {
    fn wants(&self, stream: &str, group: Option<&str>, item: Option<&str>) -> bool {
        let fits = |wanted: &Option<String>, found: Option<&str>| match wanted.as_deref() {
            None | Some("") => true,
            wanted => wanted == found,
        };
        fits(&self.stream_name, Some(stream)) && fits(&self.group_id, group) && fits(&self.item_id, item)
    }
}

/// Checks a `stream` trigger (STREAM-70, STREAM-71).
pub fn check_stream(binding: &Binding) -> Result<(), String> {
    let prefix = "Failed to deserialize stream trigger";
    let filter: Filter = serde_json::from_slice(&binding.config).map_err(|error| format!("{prefix}: {error}"))?;
    match filter.stream_name {
        Some(_) => Ok(()),
        None => Err(format!("{prefix}: missing field `stream_name`")),
    }
}

/// Checks a `stream:join` or `stream:leave` trigger: whatever has no filter is for every stream (STREAM-76).
pub fn check_visit(binding: &Binding) -> Result<(), String> {
    match parse_visit(&binding.config) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("Failed to deserialize {} trigger: {error}", binding.trigger_type)),
    }
}

fn parse_visit(config: &[u8]) -> Result<Filter, serde_json::Error> {
    serde_json::from_slice::<Option<Filter>>(config).map(Option::unwrap_or_default)
}

/// Looks through the fires that have ended: a condition that fails is worth a line.
pub fn note_ended<T>(firing: &mut Firing<T>) {
    while let Some((_, end)) = firing.poll_ended() {
        if let End::ConditionFailed(failure) = end {
            tracing::warn!("a condition failed, its trigger does not fire: {}: {}", failure.code, failure.message);
        }
    }
}

impl Watches {
    /// A trigger exists.
    pub fn add(&mut self, binding: Arc<Binding>) {
        // Checked when it was registered.
        let mut filter = parse_visit(&binding.config).unwrap_or_default();
        if &*binding.trigger_type != "stream" {
            (filter.group_id, filter.item_id) = (None, None);
        }
        self.watches.insert(binding.id.clone(), Watch { target: Target::new(binding), filter });
    }

    /// A trigger is gone.
    pub fn remove(&mut self, id: &str) {
        self.watches.remove(id);
    }

    /// Those that want to know of something in this place.
    pub fn matching<'a>(
        &'a self,
        stream: &'a str,
        group: Option<&'a str>,
        item: Option<&'a str>,
    ) -> impl Iterator<Item = &'a Target> {
        let wanted = move |watch: &&Watch| watch.filter.wants(stream, group, item);
        self.watches.values().filter(wanted).map(|watch| &watch.target)
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A trigger for tests.
    pub fn binding(id: &str, kind: &str, function: &str, config: &str) -> Binding {
        Binding {
            id: id.into(),
            trigger_type: kind.into(),
            namespace: "default".into(),
            function_id: function.into(),
            config: config.as_bytes().into(),
            metadata: None,
            trigger_namespace: None,
            home: "default".into(),
            registrant: None,
        }
    }

    // STREAM-70, STREAM-71
    #[test]
    fn stream_triggers_name_a_stream() {
        let check = |config| check_stream(&binding("t", "stream", "f", config));
        assert_eq!(check(r#"{"stream_name":"s","condition_function_id":null,"x":1}"#), Ok(()));
        assert_eq!(check(r#"{"stream_name":""}"#), Ok(()));
        for (config, part) in [
            ("{}", "missing field `stream_name`"),
            (r#"{"stream_name":5}"#, "invalid type: integer `5`"),
            ("null", "invalid type: null"),
            (r#"{"stream_name":"s","group_id":[]}"#, "invalid type"),
        ] {
            let error = check(config).expect_err(config);
            assert!(error.starts_with("Failed to deserialize stream trigger") && error.contains(part), "{error}");
        }
    }

    #[test]
    fn join_triggers_may_say_nothing() {
        for config in ["null", "{}", r#"{"stream_name":"s"}"#] {
            assert_eq!(check_visit(&binding("t", "stream:join", "f", config)), Ok(()), "{config}");
        }
        assert!(check_visit(&binding("t", "stream:join", "f", "5")).is_err());
    }

    // STREAM-70, STREAM-76, T14
    #[test]
    fn filters_are_exact() {
        let mut watches = Watches::default();
        for (id, kind, config) in [
            ("a", "stream", r#"{"stream_name":"s"}"#),
            ("b", "stream", r#"{"stream_name":"s","group_id":"g","item_id":"i"}"#),
            ("c", "stream", r#"{"stream_name":"","group_id":""}"#),
            ("d", "stream:join", "null"),
        ] {
            watches.add(Arc::new(binding(id, kind, id, config)));
        }
        let matching = |stream, group, item| -> String {
            watches.matching(stream, Some(group), item).map(|target| &*target.binding.id).collect()
        };
        assert_eq!(matching("s", "g", Some("i")), "abcd");
        assert_eq!(matching("s", "g", None), "acd");
        assert_eq!(matching("s", "h", Some("i")), "acd");
        assert_eq!(matching("S", "g", Some("i")), "cd");
        watches.remove("c");
        assert_eq!(watches.matching("S", None, None).count(), 1);
    }
}
