//! Watches files and tells, once per burst, that something relevant has changed.
//!
//! Directories are watched one by one, so that a tree is followed without what it should not descend into. notify
//! calls back on a thread of its own; the changes come out of a bounded queue, and when that is full the burst is
//! already known.

use notify::event::{EventKind, ModifyKind};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

/// Changes that may wait to be looked at.
const EVENTS_MAX: usize = 1024;

/// A directory or file to watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// The path.
    pub path: PathBuf,
    /// With everything below it.
    pub recursive: bool,
}

/// Says whether to descend into a directory.
pub type Descend = fn(&Path) -> bool;

/// A running watch.
pub struct Watch {
    watcher: RecommendedWatcher,
    events: mpsc::Receiver<notify::Result<Event>>,
    roots: Vec<Root>,
    descend: Descend,
    watched: HashSet<PathBuf>,
}

impl Watch {
    /// Starts watching. A root that does not exist is awaited in its nearest parent (EXEC-DB-4).
    pub fn start(roots: Vec<Root>, descend: Descend) -> notify::Result<Watch> {
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        // A full queue means that a burst is under way already: one event less tells as much.
        let watcher = notify::recommended_watcher(move |event| drop(sender.try_send(event)))?;
        let mut watch = Watch { watcher, events, roots: roots.clone(), descend, watched: HashSet::new() };
        for root in &roots {
            watch.add_root(root)?;
        }
        Ok(watch)
    }

    /// Waits for a change of a path that `relevant` accepts, then for `quiet` without another one, at most `longest`.
    /// Returns the paths that changed.
    pub async fn changed(
        &mut self,
        relevant: &(dyn Fn(&Path) -> bool + Send + Sync),
        quiet: Duration,
        longest: Duration,
    ) -> Vec<PathBuf> {
        let mut changed = Vec::new();
        while changed.is_empty() {
            match self.events.recv().await {
                Some(event) => self.take(event, relevant, &mut changed),
                None => std::future::pending().await,
            }
        }
        let latest = Instant::now() + longest;
        let mut until = Instant::now() + quiet;
        while let Ok(Some(event)) = timeout_at(until.min(latest), self.events.recv()).await {
            let before = changed.len();
            self.take(event, relevant, &mut changed);
            if changed.len() > before {
                until = Instant::now() + quiet;
            }
        }
        changed.sort();
        changed.dedup();
        changed
    }

    /// Forgets changes nobody has waited for.
    pub fn forget(&mut self) {
        while let Ok(event) = self.events.try_recv() {
            // New directories are still followed.
            self.take(event, &|_| false, &mut Vec::new());
        }
    }

    fn take(
        &mut self,
        event: notify::Result<Event>,
        relevant: &(dyn Fn(&Path) -> bool + Send + Sync),
        changed: &mut Vec<PathBuf>,
    ) {
        let event = match event {
            Ok(event) => event,
            Err(error) => {
                tracing::warn!("watching files: {error}");
                return;
            }
        };
        if !is_change(event.kind) {
            return;
        }
        for path in event.paths {
            let path = strip_dot(&path);
            if path.is_dir() {
                // Files may have been made in a new directory before it is watched.
                let new = self.follow(&path);
                changed.extend(new.into_iter().filter(|file| relevant(file)));
            } else {
                self.watched.remove(&path);
            }
            if relevant(&path) {
                changed.push(path);
            }
        }
    }

    fn add_root(&mut self, root: &Root) -> notify::Result<()> {
        if root.path.is_dir() {
            if root.recursive {
                self.add_tree(&root.path)?;
            } else {
                self.add(&root.path)?;
            }
            return Ok(());
        }
        // A file is watched through its directory: editors replace files.
        let mut parent = root.path.parent();
        while let Some(directory) = parent {
            let shown = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
            if shown.is_dir() {
                if shown.join(root.path.file_name().unwrap_or_default()) != root.path || !root.path.is_file() {
                    tracing::warn!("watch: '{}' does not exist yet; waiting for it", root.path.display());
                }
                return self.add(shown);
            }
            parent = directory.parent();
        }
        self.add(Path::new("."))
    }

    /// A directory has appeared: watches it if a root asks for that. Returns the files in it.
    fn follow(&mut self, directory: &Path) -> Vec<PathBuf> {
        let wanted = self.roots.iter().any(|root| {
            let below = root.recursive && is_below(directory, &root.path);
            // Or it is the missing root, or on the way to it.
            below || is_below(&root.path, directory)
        });
        if !wanted || self.watched.contains(directory) || !(self.descend)(directory) {
            return Vec::new();
        }
        let roots = self.roots.clone();
        let mut files = Vec::new();
        for root in &roots {
            if root.recursive && is_below(directory, &root.path) {
                let _ = self.add_tree(directory);
                files_below(directory, self.descend, &mut files);
            } else if is_below(&root.path, directory) {
                let _ = self.add_root(root);
                files_below(&root.path, self.descend, &mut files);
            }
        }
        files
    }

    fn add_tree(&mut self, directory: &Path) -> notify::Result<()> {
        self.add(directory)?;
        let Ok(entries) = std::fs::read_dir(directory) else { return Ok(()) };
        for entry in entries.flatten() {
            let path = strip_dot(&entry.path());
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) && (self.descend)(&path) {
                self.add_tree(&path)?;
            }
        }
        Ok(())
    }

    fn add(&mut self, directory: &Path) -> notify::Result<()> {
        if self.watched.insert(directory.to_owned()) {
            self.watcher.watch(directory, RecursiveMode::NonRecursive)?;
        }
        Ok(())
    }
}

/// Content, names and existence count; reading, permissions and times do not.
fn is_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Create(_) | EventKind::Remove(_) => true,
        EventKind::Modify(kind) => !matches!(kind, ModifyKind::Metadata(_)),
        EventKind::Access(_) | EventKind::Any | EventKind::Other => false,
    }
}

fn is_below(path: &Path, root: &Path) -> bool {
    root == Path::new(".") && path.is_relative() || path.starts_with(root)
}

/// `./src/a` as `src/a`.
pub fn strip_dot(path: &Path) -> PathBuf {
    match path.strip_prefix(".") {
        Ok(rest) if !rest.as_os_str().is_empty() => rest.to_owned(),
        _ => path.to_owned(),
    }
}

fn files_below(directory: &Path, descend: Descend, files: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let path = strip_dot(&entry.path());
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && descend(&path) => files_below(&path, descend, files),
            Ok(kind) if kind.is_dir() => {}
            _ => files.push(path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const QUIET: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(2);

    #[test]
    fn one_word_per_burst_and_new_directories_are_followed() {
        let directory = std::env::temp_dir().join(format!("iii-watch-{}", std::process::id()));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(directory.join("skipped")).expect("writable");
        fs::write(directory.join("a.ts"), "1").expect("writable");
        let root = Root { path: directory.clone(), recursive: true };
        let descend: Descend = |path| !path.ends_with("skipped");
        let mut watch = Watch::start(vec![root], descend).expect("inotify works");
        let mut change = |act: &dyn Fn()| {
            act();
            let relevant = |path: &Path| path.extension().is_some_and(|extension| extension == "ts");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
            let names = runtime.block_on(async {
                tokio::time::timeout(QUIET * 10, watch.changed(&relevant, QUIET, LONGEST)).await.unwrap_or_default()
            });
            names.iter().filter_map(|path| path.file_name()?.to_str().map(str::to_owned)).collect::<Vec<_>>()
        };
        let write = |name: &str| fs::write(directory.join(name), "2").expect("writable");
        assert_eq!(change(&|| write("a.ts")), ["a.ts"], "in place");
        assert_eq!(change(&|| ["b.ts", "c.ts"].iter().for_each(|name| write(name))), ["b.ts", "c.ts"], "a burst");
        let rename = |from: &str, to: &str| fs::rename(directory.join(from), directory.join(to)).expect("writable");
        assert_eq!(change(&|| rename("b.ts", "d.txt")), ["b.ts"], "away");
        assert_eq!(change(&|| rename("d.txt", "d.ts")), ["d.ts"], "back");
        assert_eq!(change(&|| fs::remove_file(directory.join("d.ts")).expect("there")), ["d.ts"]);
        assert_eq!(change(&|| write("x.rs")), Vec::<String>::new());
        assert_eq!(change(&|| write("skipped/e.ts")), Vec::<String>::new());
        let nested = || {
            fs::create_dir_all(directory.join("new/deep")).expect("writable");
            write("new/deep/f.ts");
        };
        assert_eq!(change(&nested), ["f.ts"]);
        assert_eq!(change(&|| write("new/deep/f.ts")), ["f.ts"]);
        fs::remove_dir_all(directory).expect("ours");
    }
}
