//! Notices that the configuration file has changed, and waits until it has stopped changing (CFG-65 to CFG-71).
//!
//! Plain thread. The folder of every link on the way to the file is watched, so that renames and the `..data` swap of
//! Kubernetes are seen; a look at the file every few seconds makes up for what no event tells.

#![allow(clippy::disallowed_methods, reason = "a thread of its own, which may sleep")]

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Quiet time after which a burst of changes is over.
const QUIET: Duration = Duration::from_millis(500);
/// Longest time a burst may put a reload off.
const BURST_MAX: Duration = Duration::from_secs(5);
/// Time between two looks that must agree before the file is read.
const SETTLE: Duration = Duration::from_millis(50);
/// How long a missing file may take to come back.
const MISSING_MAX: Duration = Duration::from_secs(2);
/// Time between two looks at the file without any event.
const POLL: Duration = Duration::from_secs(5);

/// What tells one version of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sample {
    size: u64,
    modified_ns: i128,
    inode: u64,
    device: u64,
}

fn sample(path: &Path) -> Option<Sample> {
    let metadata = fs::metadata(path).ok()?;
    let modified_ns = i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
    Some(Sample { size: metadata.len(), modified_ns, inode: metadata.ino(), device: metadata.dev() })
}

/// Watches one file.
pub struct FileWatch {
    path: PathBuf,
    seen: Option<Sample>,
    nudges: Receiver<()>,
    nudge: Sender<()>,
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
}

/// Asks for a reload, from any thread.
#[derive(Clone)]
pub struct Nudge(Sender<()>);

impl Nudge {
    /// Has the file read again as if it had changed.
    pub fn reload(&self) {
        // One that is waiting is as good as two.
        let _ = self.0.try_send(());
    }
}

impl FileWatch {
    /// Begins to watch.
    pub fn new(path: &Path) -> FileWatch {
        let (nudge, nudges) = bounded(1);
        let mut watch = FileWatch {
            path: path.to_owned(),
            seen: sample(path),
            nudges,
            nudge,
            watcher: None,
            watched: BTreeSet::new(),
        };
        watch.install();
        watch
    }

    /// A handle that asks for a reload.
    pub fn nudge(&self) -> Nudge {
        Nudge(self.nudge.clone())
    }

    /// Sets the watches anew: links may lead elsewhere by now.
    fn install(&mut self) {
        let chain = chain(&self.path);
        let folders: BTreeSet<PathBuf> = chain.iter().map(|path| folder(path)).collect();
        if folders == self.watched && self.watcher.is_some() {
            return;
        }
        let nudge = self.nudge.clone();
        let names: BTreeSet<_> = chain.iter().filter_map(|path| path.file_name().map(ToOwned::to_owned)).collect();
        let handler = move |event: notify::Result<notify::Event>| {
            let concerns = event.is_ok_and(|event| {
                !event.kind.is_access()
                    && event.paths.iter().any(|path| path.file_name().is_some_and(|name| names.contains(name)))
            });
            if concerns {
                let _ = nudge.try_send(());
            }
        };
        let installed = RecommendedWatcher::new(handler, notify::Config::default()).and_then(|mut watcher| {
            for folder in &folders {
                watcher.watch(folder, RecursiveMode::NonRecursive)?;
            }
            Ok(watcher)
        });
        match installed {
            Ok(watcher) => self.watcher = Some(watcher),
            Err(error) => {
                self.watcher = None;
                tracing::warn!(
                    "reload: cannot watch {}: {error}; looking at the file every {} s instead",
                    self.path.display(),
                    POLL.as_secs()
                );
            }
        }
        self.watched = folders;
    }

    /// Waits for the next change and for its end. `false` = nobody can change anything any more.
    pub fn wait(&mut self) -> bool {
        loop {
            match self.nudges.recv_timeout(POLL) {
                Ok(()) => break,
                Err(RecvTimeoutError::Timeout) if sample(&self.path) != self.seen => break,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
        let first = Instant::now();
        while first.elapsed() < BURST_MAX && self.nudges.recv_timeout(QUIET).is_ok() {}
        self.settle();
        self.install();
        true
    }

    /// Waits until the file is there, not empty where it was not, and the same twice.
    fn settle(&mut self) {
        let start = Instant::now();
        let was_empty = self.seen.is_none_or(|seen| seen.size == 0);
        loop {
            let one = sample(&self.path);
            std::thread::sleep(SETTLE);
            let other = sample(&self.path);
            let there = other.is_some_and(|sample| sample.size > 0 || was_empty);
            if (there && one == other) || start.elapsed() > MISSING_MAX {
                self.seen = other;
                return;
            }
        }
    }

    /// Whether the file is empty that was not: somebody is still writing it, or has lost it.
    pub fn is_gone(&self) -> bool {
        self.seen.is_none_or(|seen| seen.size == 0)
    }
}

/// The file and every link on the way to it.
fn chain(path: &Path) -> Vec<PathBuf> {
    let mut chain = vec![path.to_owned()];
    // A loop of links ends here, too.
    for _ in 0..16 {
        let Some(last) = chain.last() else { break };
        // A link may be the file or any folder above it.
        let link = last.ancestors().find_map(|part| {
            let to = fs::read_link(part).ok()?;
            let rest = last.strip_prefix(part).ok()?;
            let target = folder(part).join(to);
            Some((part.to_owned(), if rest.as_os_str().is_empty() { target } else { target.join(rest) }))
        });
        let Some((part, next)) = link else { break };
        chain.push(part);
        chain.push(next);
    }
    chain
}

fn folder(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // CFG-69
    #[test]
    fn every_link_on_the_way_is_known() {
        let base = std::env::temp_dir().join(format!("iii-chain-{}", std::process::id()));
        let _ = fs::remove_dir_all(&base);
        fs::create_dir_all(base.join("..2026")).expect("a folder");
        fs::write(base.join("..2026/config.yaml"), "workers: []").expect("a file");
        std::os::unix::fs::symlink("..2026", base.join("..data")).expect("a link");
        std::os::unix::fs::symlink("..data/config.yaml", base.join("config.yaml")).expect("a link");
        let found = chain(&base.join("config.yaml"));
        for expected in ["config.yaml", "..data", "..2026/config.yaml"] {
            assert!(found.contains(&base.join(expected)), "{expected}: {found:?}");
        }
        fs::remove_dir_all(&base).expect("cleaned up");
    }
}
