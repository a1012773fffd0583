//! The route tree: one node per depth, literal children by hash, one parameter child, the routes that end here.

use std::sync::Arc;

use hashbrown::HashMap;
use memchr::memchr;

use super::Entry;
use super::pattern::Segment;
use crate::http::method::{Method, MethodSet};

/// A position in a path, reached through the segments above it.
#[derive(Debug, Clone, Default)]
pub(super) struct Node {
    literals: HashMap<Arc<[u8]>, Arc<Node>>,
    parameter: Option<Arc<Node>>,
    /// Routes whose last segment led here.
    here: Slots,
    /// Routes that take all that is left from here.
    rest: Slots,
}

/// Routes of one place, by method. Boxed: most nodes have none.
#[derive(Debug, Clone, Default)]
struct Slots(Option<Box<[Option<Arc<Entry>>; Method::ALL.len()]>>);

// === impl Node ===

impl Node {
    /// Puts a route in; nothing may be in its place.
    pub(super) fn insert(&mut self, entry: &Arc<Entry>) {
        let mut node = self;
        for segment in entry.pattern.segments() {
            node = match segment {
                Segment::Literal(text) => Arc::make_mut(node.literals.entry(Arc::clone(text)).or_default()),
                Segment::Parameter => Arc::make_mut(node.parameter.get_or_insert_default()),
                Segment::Rest => return node.rest.put(entry),
            };
        }
        node.here.put(entry);
    }

    /// Takes a route out, and the nodes that were there for it alone.
    pub(super) fn remove(&mut self, entry: &Entry) {
        self.remove_below(entry.pattern.segments(), entry.route.config.method);
    }

    fn remove_below(&mut self, segments: &[Segment], method: Method) {
        let Some((segment, below)) = segments.split_first() else { return self.here.clear(method) };
        match segment {
            Segment::Rest => self.rest.clear(method),
            Segment::Parameter => {
                let child = Arc::make_mut(self.parameter.as_mut().expect("an inserted route has its nodes"));
                child.remove_below(below, method);
                if child.is_empty() {
                    self.parameter = None;
                }
            }
            Segment::Literal(text) => {
                let child = Arc::make_mut(self.literals.get_mut(&text[..]).expect("an inserted route has its nodes"));
                child.remove_below(below, method);
                if child.is_empty() {
                    self.literals.remove(&text[..]);
                }
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.literals.is_empty() && self.parameter.is_none() && self.here.0.is_none() && self.rest.0.is_none()
    }

    /// Finds the best route: literal before parameter before catch-all, decided from the left, stepping back where a
    /// choice leads nowhere (HTTP-23). Places that fit the path but not the method are added to `methods`.
    ///
    /// `path` is what is left of it, `None` once its last segment is taken. Recursion ends with the deepest pattern.
    pub(super) fn find(
        &self,
        method: Option<Method>,
        path: Option<&[u8]>,
        methods: &mut MethodSet,
    ) -> Option<&Arc<Entry>> {
        let Some(path) = path else { return self.here.get(method, methods) };
        let (segment, below) = match memchr(b'/', path) {
            Some(slash) => (&path[..slash], Some(&path[slash + 1..])),
            None => (path, None),
        };
        if !self.literals.is_empty()
            && let Some(child) = self.literals.get(segment)
            && let Some(entry) = child.find(method, below, methods)
        {
            return Some(entry);
        }
        if !segment.is_empty()
            && let Some(child) = &self.parameter
            && let Some(entry) = child.find(method, below, methods)
        {
            return Some(entry);
        }
        if path.is_empty() { None } else { self.rest.get(method, methods) }
    }
}

// === impl Slots ===

impl Slots {
    fn put(&mut self, entry: &Arc<Entry>) {
        let slot = &mut self.0.get_or_insert_default()[entry.route.config.method as usize];
        assert!(slot.is_none(), "two routes in one place: {:?} and {:?}", slot, entry);
        *slot = Some(Arc::clone(entry));
    }

    fn clear(&mut self, method: Method) {
        let slots = self.0.as_mut().expect("an inserted route is in its place");
        slots[method as usize] = None;
        if slots.iter().all(Option::is_none) {
            self.0 = None;
        }
    }

    /// The route for `method`; a `GET` route also answers `HEAD` (HTTP-55). Otherwise tells which methods there are.
    fn get(&self, method: Option<Method>, methods: &mut MethodSet) -> Option<&Arc<Entry>> {
        let slots = self.0.as_ref()?;
        let slot = |method: Method| slots[method as usize].as_ref();
        let found = match method {
            Some(Method::Head) => slot(Method::Head).or_else(|| slot(Method::Get)),
            Some(method) => slot(method),
            None => None,
        };
        if found.is_none() {
            for method in Method::ALL.into_iter().filter(|method| slot(*method).is_some()) {
                methods.insert(method);
            }
        }
        found
    }
}
