//! What a reload changes: two configurations → which workers are new, gone, different, the same. Pure.

use std::collections::HashMap;

use super::{Config, Worker};

/// Names of workers by what happens to them. In the order of the new file; removed ones in that of the old.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diff {
    /// Only in the new configuration.
    pub added: Vec<String>,
    /// Only in the old one.
    pub removed: Vec<String>,
    /// In both, with different settings.
    pub changed: Vec<String>,
    /// In both, equal.
    pub unchanged: Vec<String>,
}

/// Compares two configurations. Comments, formatting, the order of entries and of keys do not count (CFG-81).
pub fn diff(old: &Config, new: &Config) -> Diff {
    let before: HashMap<&str, &Worker> = old.workers.iter().map(|worker| (worker.id.as_str(), worker)).collect();
    let mut diff = Diff::default();
    for worker in &new.workers {
        let bucket = match before.get(worker.id.as_str()) {
            None => &mut diff.added,
            Some(earlier) if equal(earlier, worker) => &mut diff.unchanged,
            Some(_) => &mut diff.changed,
        };
        bucket.push(worker.id.clone());
    }
    let gone = |worker: &&Worker| !new.workers.iter().any(|other| other.id == worker.id);
    diff.removed = old.workers.iter().filter(gone).map(|worker| worker.id.clone()).collect();
    diff
}

/// JSON mappings compare without regard to the order of their members.
fn equal(left: &Worker, right: &Worker) -> bool {
    let part = |worker: &Worker| (worker.built_in(), worker.image.clone(), worker.worker_path.clone());
    part(left) == part(right) && left.config == right.config
}

impl Diff {
    /// The line that tells a reload's extent (CFG-90). `revived` of the changed workers were dead, not different.
    pub fn summary(&self, revived: usize) -> String {
        let revived = if revived > 0 { format!(" ({revived} revived)") } else { String::new() };
        format!(
            "reload: diff +{} added, -{} removed, ~{} changed{revived}, ={} unchanged",
            self.added.len(),
            self.removed.len(),
            self.changed.len(),
            self.unchanged.len()
        )
    }

    /// Whether nothing happens.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Surroundings, parse_text};

    fn config(text: &str) -> Config {
        let surroundings = Surroundings { variable: Box::new(|_| None), ..Surroundings::process() };
        parse_text(Path::new("c"), text.to_owned(), &surroundings).expect("valid").0
    }

    fn summary(old: &str, new: &str) -> String {
        diff(&config(old), &config(new)).summary(0)
    }

    /// Four mandatory workers are in every configuration.
    #[test]
    fn cfg_81_buckets() {
        let state = "workers:\n  - name: iii-state\n    config: {triggers_enabled: true, max_value_bytes: 5}\n";
        for (old, new, expected) in [
            ("", "# comment\nworkers: []", "+0 added, -0 removed, ~0 changed, =4 unchanged"),
            ("", state, "+1 added, -0 removed, ~0 changed, =4 unchanged"),
            (state, "", "+0 added, -1 removed, ~0 changed, =4 unchanged"),
            (
                state,
                "workers: [{config: {max_value_bytes: 5, triggers_enabled: true}, name: state}]",
                "+0 added, -0 removed, ~0 changed, =5 unchanged",
            ),
            (
                state,
                "modules: [{class: 'modules::state::StateModule', config: {max_value_bytes: 6}}]",
                "+0 added, -0 removed, ~1 changed, =4 unchanged",
            ),
            (
                "workers: [{name: http}]",
                "workers: [{name: http, config: ~}]",
                "+0 added, -0 removed, ~0 changed, =5 unchanged",
            ),
            (
                "workers: [{name: http}, {name: cron}]",
                "workers: [{name: cron}, {name: http}]",
                "+0 added, -0 removed, ~0 changed, =6 unchanged",
            ),
            (
                "workers: [{name: http}]",
                "workers: [{name: http}, {name: http, config: {port: 1}}]",
                "+1 added, -0 removed, ~0 changed, =5 unchanged",
            ),
            (
                "workers: [{name: w, worker_path: ./a}]",
                "workers: [{name: w, worker_path: ./b}]",
                "+0 added, -0 removed, ~1 changed, =4 unchanged",
            ),
            // CFG-83: a mandatory worker that leaves the file goes back to its defaults.
            (
                "workers: [{name: iii-worker-manager, config: {port: 1}}]",
                "",
                "+0 added, -0 removed, ~1 changed, =3 unchanged",
            ),
        ] {
            assert_eq!(summary(old, new), format!("reload: diff {expected}"), "{old} → {new}");
        }
    }

    #[test]
    fn cfg_90_revived_workers_are_told() {
        let diff = Diff { changed: vec!["w".to_owned()], ..Diff::default() };
        assert_eq!(diff.summary(1), "reload: diff +0 added, -0 removed, ~1 changed (1 revived), =0 unchanged");
        assert!(!diff.is_empty());
    }
}
