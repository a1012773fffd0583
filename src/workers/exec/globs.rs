//! The patterns of `watch`: where to look, and which files count. Pure.
//!
//! Real globs, and besides them everything the older rule accepted: same root, same extension (EXEC-31).

use crate::processes::watch::{Root, strip_dot};
use globset::{GlobBuilder, GlobMatcher};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// Compiled patterns.
#[derive(Debug, Clone)]
pub struct Globs(Arc<[Pattern]>);

#[derive(Debug)]
struct Pattern {
    root: Root,
    /// `None`: the pattern is no valid glob; the older rule is all there is.
    glob: Option<GlobMatcher>,
    /// Extensions the older rule accepts.
    extensions: Vec<String>,
}

impl Globs {
    /// Compiles patterns. One that is no glob is told and matched by its extension.
    pub fn new(patterns: &[String]) -> Globs {
        Globs(patterns.iter().map(|pattern| Pattern::new(pattern)).collect())
    }

    /// What to watch; the same path once, as the first pattern wants it.
    pub fn roots(&self) -> Vec<Root> {
        let mut roots: Vec<Root> = Vec::new();
        for pattern in &*self.0 {
            match roots.iter_mut().find(|root| root.path == pattern.root.path) {
                Some(root) => root.recursive |= pattern.root.recursive,
                None => roots.push(pattern.root.clone()),
            }
        }
        roots
    }

    /// Whether a change of this file counts.
    pub fn matches(&self, path: &Path) -> bool {
        self.0.iter().any(|pattern| pattern.matches(path))
    }
}

// === impl Pattern ===

impl Pattern {
    fn new(pattern: &str) -> Pattern {
        let cleaned = clean(pattern);
        let root = root(&cleaned);
        let glob = GlobBuilder::new(&cleaned).literal_separator(true).backslash_escape(true).build();
        if let Err(error) = &glob {
            tracing::warn!("watch: '{pattern}' is no valid pattern ({error}); files are matched by extension");
        }
        Pattern { root, glob: glob.ok().map(|glob| glob.compile_matcher()), extensions: extensions(&cleaned) }
    }

    fn matches(&self, path: &Path) -> bool {
        self.glob.as_ref().is_some_and(|glob| glob.is_match(path)) || self.matches_by_extension(path)
    }

    fn matches_by_extension(&self, path: &Path) -> bool {
        let Some(extension) = path.extension().and_then(|extension| extension.to_str()) else { return false };
        if !self.extensions.iter().any(|known| known == extension) {
            return false;
        }
        let Root { path: root, recursive } = &self.root;
        let below = if root == Path::new(".") { path.is_relative() } else { path.starts_with(root) };
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        below && (*recursive || parent == root || path == root)
    }
}

/// Without `./` and doubled slashes.
fn clean(pattern: &str) -> String {
    let absolute = pattern.starts_with('/');
    let parts =
        Path::new(pattern).components().filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
    let path: PathBuf = parts.collect();
    let text = path.to_string_lossy();
    if absolute { format!("/{text}") } else { text.into_owned() }
}

/// The directory before the first wildcard (EXEC-30).
fn root(pattern: &str) -> Root {
    let wildcard = pattern.find(['*', '?', '{', '[']);
    let path = match wildcard {
        None => pattern,
        Some(at) => {
            pattern[..at].rfind('/').map_or("", |slash| &pattern[..slash.max(usize::from(pattern.starts_with('/')))])
        }
    };
    let path = if path.is_empty() { Path::new(".") } else { Path::new(path) };
    let rest = wildcard.map_or("", |at| &pattern[at..]);
    // `src/*/a.ts` needs the directories below too.
    Root { path: strip_dot(path), recursive: rest.contains("**") || rest.contains('/') }
}

/// The extension, or those of the `{a,b}` list, in the last part of the pattern.
fn extensions(pattern: &str) -> Vec<String> {
    let Some((_, extension)) = pattern.rsplit('/').next().and_then(|name| name.rsplit_once('.')) else {
        return Vec::new();
    };
    let list = match extension.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        Some(list) => list.split(',').map(|word| word.trim().to_owned()).collect(),
        None => vec![extension.to_owned()],
    };
    list.into_iter().filter(|word: &String| !word.is_empty() && !word.contains(['*', '?', '{', '}'])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    // EXEC-30
    #[test]
    fn exec_30_roots() {
        for (pattern, path, recursive) in [
            ("src/**/*.ts", "src", true),
            ("src/*.ts", "src", false),
            ("./conf/*.json", "conf", false),
            ("**/*.rs", ".", true),
            ("*.rs", ".", false),
            ("a/b.txt", "a/b.txt", false),
            ("/abs/x/**", "/abs/x", true),
            ("../up/*.md", "../up", false),
        ] {
            let globs = Globs::new(&[pattern.to_owned()]);
            assert_eq!(globs.roots(), [Root { path: path.into(), recursive }], "{pattern}");
        }
        assert_eq!(Globs::new(&["src/*.ts".to_owned(), "src/**/*.js".to_owned()]).roots().len(), 1);
    }

    // EXEC-31, EXEC-32, EXEC-DB-3
    #[test]
    fn exec_31_matches() {
        for (pattern, path, expected) in [
            ("src/**/*.ts", "src/a.ts", true),
            ("src/**/*.ts", "src/deep/er/a.ts", true),
            ("src/**/*.ts", "lib/a.ts", false),
            ("src/**/*.ts", "src/a.rs", false),
            ("src/**/*.{ts, js}", "src/sub/b.js", true),
            // The older rule looks at the extension alone.
            ("src/**/*.test.ts", "src/a.ts", true),
            // Real globs.
            ("src/**", "src/Makefile", true),
            ("src/**/Makefile", "src/x/Makefile", true),
            ("conf/a?.json", "conf/ab.json", true),
            ("a/b.txt", "a/b.txt", true),
            ("a/b.txt", "a/c.txt", false),
            // Not below.
            ("conf/*.json", "conf/a.json", true),
            ("conf/*.json", "conf/d/a.json", false),
            ("*.rs", "a.rs", true),
            ("*.rs", "src/a.rs", false),
            ("**/*.rs", "src/a.rs", true),
        ] {
            assert_eq!(Globs::new(&[pattern.to_owned()]).matches(Path::new(path)), expected, "{pattern} {path}");
        }
    }
}
