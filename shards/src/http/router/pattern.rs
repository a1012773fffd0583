//! A registered path, taken apart.

use std::sync::Arc;

use memchr::memchr;

use crate::http::limits::{PATTERN_SEGMENTS_MAX, URI_BYTES_MAX};

/// The segments of a registered path and the names of its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    segments: Box<[Segment]>,
    /// Name of each parameter, in order; `None` if a later one has the same name.
    names: Box<[Option<Box<str>>]>,
}

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Segment {
    /// These bytes. May be empty: between two slashes, or behind the last one.
    Literal(Arc<[u8]>),
    /// Any one segment that is not empty.
    Parameter,
    /// All that is left, if anything is. Always last.
    Rest,
}

impl Pattern {
    /// Takes a path as registered; a leading slash is added if there is none (HTTP-22). The error says what is wrong.
    pub fn parse(api_path: &str) -> Result<Pattern, &'static str> {
        if api_path.len() > URI_BYTES_MAX {
            return Err("the path is longer than any request can be");
        }
        let path = api_path.strip_prefix('/').unwrap_or(api_path);
        let count = path.split('/').count();
        if count > PATTERN_SEGMENTS_MAX {
            return Err("the path has too many segments");
        }
        let mut segments = Vec::with_capacity(count);
        let mut names: Vec<Option<Box<str>>> = Vec::new();
        for (position, text) in path.split('/').enumerate() {
            let (segment, name) = parse_segment(text)?;
            if segment == Segment::Rest && position + 1 < count {
                return Err("a catch-all must be the last segment");
            }
            segments.push(segment);
            if let Some(name) = name {
                // The last one wins, as in any JSON object.
                for earlier in names.iter_mut().filter(|earlier| earlier.as_deref() == Some(name)) {
                    *earlier = None;
                }
                names.push(Some(name.into()));
            }
        }
        Ok(Pattern { segments: segments.into(), names: names.into() })
    }

    pub(super) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The pattern without parameter names: patterns of one shape match the same paths.
    pub(super) fn shape(&self) -> Box<[u8]> {
        let mut shape = Vec::new();
        for segment in &self.segments {
            shape.push(b'/');
            match segment {
                Segment::Literal(text) => shape.extend_from_slice(text),
                // Bytes that no UTF-8 text contains.
                Segment::Parameter => shape.push(0xFE),
                Segment::Rest => shape.push(0xFF),
            }
        }
        shape.into()
    }

    /// The parameters of a raw path that this pattern matched: names and raw values (HTTP-25).
    pub fn parameters<'a>(&'a self, path: &'a [u8]) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        let mut rest = path.strip_prefix(b"/").unwrap_or(path);
        let values = self.segments.iter().filter_map(move |segment| {
            let (value, after) = match segment {
                Segment::Rest => (rest, &[][..]),
                _ => split_segment(rest),
            };
            rest = after;
            (!matches!(segment, Segment::Literal(_))).then_some(value)
        });
        self.names.iter().zip(values).filter_map(|(name, value)| name.as_deref().map(|name| (name, value)))
    }
}

/// The first segment, and what stands behind its slash.
fn split_segment(path: &[u8]) -> (&[u8], &[u8]) {
    match memchr(b'/', path) {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (path, &[]),
    }
}

fn parse_segment(text: &str) -> Result<(Segment, Option<&str>), &'static str> {
    if let Some(name) = text.strip_prefix(':') {
        return named(Segment::Parameter, name);
    }
    if let Some(name) = text.strip_prefix('*') {
        return Ok((Segment::Rest, Some(if name.is_empty() { "*" } else { name })));
    }
    let Some(inner) = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) else {
        if text.contains(['{', '}']) {
            return Err("'{' and '}' must enclose a whole segment");
        }
        return Ok((Segment::Literal(text.as_bytes().into()), None));
    };
    if inner.contains(['{', '}']) {
        return Err("'{' and '}' must enclose a whole segment");
    }
    match inner.strip_prefix('*') {
        Some(name) => named(Segment::Rest, name),
        None => named(Segment::Parameter, inner),
    }
}

fn named(segment: Segment, name: &str) -> Result<(Segment, Option<&str>), &'static str> {
    if name.is_empty() { Err("a path parameter has no name") } else { Ok((segment, Some(name))) }
}
