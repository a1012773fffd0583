//! Routes: which trigger answers a method and a path.
//!
//! Owner: [`Routes`] belongs to the shard that takes registrations. It publishes [`RouteTable`]s: immutable, cloned by
//! counting a reference, swapped in by every shard that serves HTTP, so that a request sees one table from start to
//! end (HTTP-18). A registration copies only the nodes on its path, and only if a published table still uses them.
//! Invariant: the tree holds exactly the newest living registration of every key.
//!
//! The tree is our own instead of `matchit`, because the rules are not expressible there: parameter names belong to a
//! route and may differ between methods (HTTP-19), a catch-all may stand beside a parameter (HTTP-23), `:` and `*`
//! within a segment are literal text (HTTP-22), values stay raw bytes, and routes come and go one by one.
//!
//! A node stands for one depth of the path, so a lookup visits no node twice however much it backtracks, and literal
//! children are found by hash: a thousand routes cost what one costs.

mod pattern;
mod tree;

use std::fmt::Write as _;
use std::sync::Arc;

use hashbrown::HashMap;

pub use pattern::Pattern;
use tree::Node;

use super::method::{Method, MethodSet};
use super::route::{Owner, Route, RouteError};

/// A route in the tables: what was registered, and its path taken apart.
#[derive(Debug)]
pub struct Entry {
    /// What was registered.
    pub route: Route,
    /// Its path.
    pub pattern: Pattern,
}

/// The registrations behind the route table.
#[derive(Debug, Default)]
pub struct Routes {
    table: RouteTable,
    /// Living registrations per key, oldest first; the last one is in the tree (HTTP-15, HTTP-16).
    stacks: HashMap<Key, Vec<Arc<Entry>>>,
    /// The key of each registration.
    keys: HashMap<(Owner, Box<str>), Key>,
    /// Which key may use a shape, and how many of its living registrations do.
    shapes: HashMap<Shape, (Key, usize)>,
}

/// Method, and path without leading slashes (HTTP-15).
type Key = (Method, Box<str>);

/// Method, and path without parameter names.
type Shape = (Method, Box<[u8]>);

/// An immutable set of routes.
#[derive(Debug, Clone, Default)]
pub struct RouteTable {
    root: Arc<Node>,
}

/// Answer of a lookup.
#[derive(Debug)]
pub enum Lookup<'t> {
    /// The route to serve.
    Found(&'t Arc<Entry>),
    /// There are routes for the path, but for other methods: these, as the `allow` header lists them.
    MethodNotAllowed(MethodSet),
    /// There is no route for the path.
    NotFound,
}

impl Entry {
    fn is(&self, owner: Owner, trigger_id: &str) -> bool {
        self.route.owner == owner && *self.route.trigger_id == *trigger_id
    }
}

// === impl Routes ===

impl Routes {
    /// The current routes, to be handed to the shards that serve HTTP.
    pub fn table(&self) -> RouteTable {
        self.table.clone()
    }

    /// The current routes, for lookups by the owner itself. Nothing is copied at the next registration.
    pub fn current(&self) -> &RouteTable {
        &self.table
    }

    /// The routes that are served, in no order: the newest living registration of every key.
    pub fn served(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.stacks.values().filter_map(|stack| stack.last())
    }

    /// Number of living registrations.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are no registrations.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Registers a route. It replaces an older one of the same key at once (HTTP-15), and the same owner's
    /// registration of the same trigger id entirely (HTTP-17). An error changes nothing.
    pub fn register(&mut self, route: Route) -> Result<(), RouteError> {
        let config = &route.config;
        let pattern = Pattern::parse(&config.api_path).map_err(|reason| {
            RouteError(format!("Route '{} {}' is not valid: {reason}", config.method, config.api_path))
        })?;
        let key: Key = (config.method, normalise(&config.api_path).into());
        let shape = (config.method, pattern.shape());
        let identity = (route.owner, route.trigger_id.clone());
        if let Some((holder, users)) = self.shapes.get(&shape)
            && *holder != key
        {
            // Unless the only user is the registration that this one replaces.
            let replaced = self.keys.get(&identity).filter(|replaced| *replaced == holder && *users == 1);
            let frees_shape = replaced.is_some_and(|key| {
                let entry = self.stacks[key].iter().find(|entry| entry.is(identity.0, &identity.1));
                entry.is_some_and(|entry| entry.pattern.shape() == shape.1)
            });
            if !frees_shape {
                let existing = &self.stacks[holder].last().expect("a stack in the map is not empty").route.config;
                return Err(conflict(config.method, &config.api_path, &existing.api_path));
            }
        }

        self.unregister(identity.0, &identity.1);
        self.shapes.entry(shape).or_insert_with(|| (key.clone(), 0)).1 += 1;
        let entry = Arc::new(Entry { route, pattern });
        let stack = self.stacks.entry(key.clone()).or_default();
        let root = Arc::make_mut(&mut self.table.root);
        if let Some(replaced) = stack.last() {
            root.remove(replaced);
        }
        root.insert(&entry);
        stack.push(entry);
        self.keys.insert(identity, key);
        Ok(())
    }

    /// Takes back the registration of this trigger id by this owner, and no other. The next older living registration
    /// of its key takes over (HTTP-16). False if there was none.
    pub fn unregister(&mut self, owner: Owner, trigger_id: &str) -> bool {
        let Some(key) = self.keys.remove(&(owner, Box::from(trigger_id))) else { return false };
        let stack = self.stacks.get_mut(&key).expect("a registration's key has a stack");
        let position =
            stack.iter().position(|entry| entry.is(owner, trigger_id)).expect("a registration is in its key's stack");
        let was_active = position + 1 == stack.len();
        let entry = stack.remove(position);
        if was_active {
            let root = Arc::make_mut(&mut self.table.root);
            root.remove(&entry);
            if let Some(successor) = stack.last() {
                root.insert(successor);
            }
        }
        if stack.is_empty() {
            self.stacks.remove(&key);
        }
        let shape = (key.0, entry.pattern.shape());
        let (_, users) = self.shapes.get_mut(&shape).expect("a registration's shape is counted");
        *users -= 1;
        if *users == 0 {
            self.shapes.remove(&shape);
        }
        true
    }

    /// Takes back everything an owner registered: its connection is gone (HTTP-18). Returns how many there were.
    pub fn unregister_owner(&mut self, owner: Owner) -> usize {
        let trigger_ids: Vec<Box<str>> =
            self.keys.keys().filter(|(holder, _)| *holder == owner).map(|(_, id)| id.clone()).collect();
        for trigger_id in &trigger_ids {
            self.unregister(owner, trigger_id);
        }
        trigger_ids.len()
    }
}

/// A path without its leading slashes; the root is `/` (HTTP-15).
fn normalise(api_path: &str) -> &str {
    match api_path.trim_start_matches('/') {
        "" => "/",
        path => path,
    }
}

fn conflict(method: Method, path: &str, existing: &str) -> RouteError {
    let mut message = String::new();
    let _ = write!(
        message,
        "Route '{method} {path}' conflicts with already-registered route '{method} {existing}': routes with identical \
         structure but different path-parameter names are not supported"
    );
    RouteError(message)
}

// === impl RouteTable ===

impl RouteTable {
    /// Finds the route for a method (`None`: one that no route can have) and a raw path (section 3).
    pub fn lookup(&self, method: Option<Method>, path: &[u8]) -> Lookup<'_> {
        let mut methods = MethodSet::EMPTY;
        let Some(segments) = path.strip_prefix(b"/") else { return Lookup::NotFound };
        match self.root.find(method, Some(segments), &mut methods) {
            Some(entry) => Lookup::Found(entry),
            None if methods.is_empty() => Lookup::NotFound,
            None => Lookup::MethodNotAllowed(methods.allowed()),
        }
    }

    /// As [`RouteTable::lookup`], but a path that is not found is tried with one slash more or less at its end
    /// (`ignore_trailing_slash`, HTTP-4).
    pub fn lookup_ignoring_slash(&self, method: Option<Method>, path: &[u8]) -> Lookup<'_> {
        match (self.lookup(method, path), path) {
            (Lookup::NotFound, [b'/', .., b'/']) => self.lookup(method, &path[..path.len() - 1]),
            (Lookup::NotFound, [b'/', _, ..]) => self.lookup(method, &[path, b"/"].concat()),
            (found, _) => found,
        }
    }

    /// The methods that have a route for this path, without the implied `HEAD`.
    pub fn methods(&self, path: &[u8]) -> MethodSet {
        let mut methods = MethodSet::EMPTY;
        if let Some(segments) = path.strip_prefix(b"/") {
            self.root.find(None, Some(segments), &mut methods);
        }
        methods
    }
}

#[cfg(test)]
mod tests;
