//! Environment references in the raw text: `${NAME}` and `${NAME:default}`. Pure; runs before YAML sees the text.
//!
//! The replacement is textual, as in every release of this configuration format, so a value decides its own YAML type.
//! It may not add lines: then it could add settings. Since lines stay as they are, a place in the expanded text maps
//! back to the original by its column alone.

use super::problem::{FieldPath, Location, Problem};

/// Default text that stands for the version of the engine.
const VERSION_SENTINEL: &str = "__III_ENGINE_VERSION__";

/// Text with its references replaced.
#[derive(Debug, Default)]
pub struct Expanded {
    /// The text.
    pub text: String,
    /// Replacements in the order of the text.
    replacements: Vec<Replacement>,
}

/// One replaced reference. Columns count from 1, lengths are in characters.
#[derive(Debug, Clone, Copy)]
struct Replacement {
    line: usize,
    column: usize,
    length: usize,
    original_column: usize,
    original_length: usize,
}

impl Expanded {
    /// The place in the original text that a place in the expanded text came from.
    pub fn original(&self, location: Location) -> Location {
        let mut column = location.column;
        for replacement in self.replacements.iter().filter(|replacement| replacement.line == location.line) {
            if location.column < replacement.column {
                break;
            }
            let end = replacement.column + replacement.length;
            column = match location.column < end {
                true => replacement.original_column,
                false => replacement.original_column + replacement.original_length + (location.column - end),
            };
        }
        Location { line: location.line, column }
    }
}

/// Replaces every reference. `variable` gives a value that is set and valid UTF-8.
pub fn expand(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<Expanded, Vec<Problem>> {
    let mut scan = Scan::default();
    let mut out = Expanded::default();
    let mut out_column = 1;
    let mut problems = Vec::new();
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let Some(reference) = Reference::at(rest) else {
            out.text.push(next);
            out_column = if next == '\n' { 1 } else { out_column + 1 };
            scan.step(next);
            rest = &rest[next.len_utf8()..];
            continue;
        };
        let value = match reference.value(variable) {
            Ok(value) => value,
            // A comment cannot reach YAML: leave it as it is instead of refusing the file for it.
            Err(_) if scan.in_comment => reference.text.to_owned(),
            Err(reason) => {
                problems.push(Problem {
                    field: FieldPath::default(),
                    worker: None,
                    reason,
                    location: Some(scan.location()),
                    located: false,
                    suggestion: None,
                });
                String::new()
            }
        };
        out.replacements.push(Replacement {
            line: scan.line,
            column: out_column,
            length: value.chars().count(),
            original_column: scan.column,
            original_length: reference.text.chars().count(),
        });
        out_column = match value.rsplit_once('\n') {
            Some((_, last)) => last.chars().count() + 1,
            None => out_column + value.chars().count(),
        };
        out.text.push_str(&value);
        scan.skip(reference.text);
        rest = &rest[reference.text.len()..];
    }
    if problems.is_empty() { Ok(out) } else { Err(problems) }
}

/// A reference: `${` name [`:` default] `}`.
struct Reference<'a> {
    text: &'a str,
    name: &'a str,
    default: Option<&'a str>,
}

impl<'a> Reference<'a> {
    /// The reference `rest` starts with.
    fn at(rest: &'a str) -> Option<Reference<'a>> {
        let body = rest.strip_prefix("${")?;
        let body = &body[..body.find('}')?];
        let text = &rest[..body.len() + 3];
        let (name, default) = match body.split_once(':') {
            Some((name, default)) => (name, Some(default)),
            None => (body, None),
        };
        (!name.is_empty()).then_some(Reference { text, name, default })
    }

    fn value(&self, variable: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
        let Reference { name, default, .. } = self;
        match (variable(name), default) {
            (Some(value), _) if value.contains(['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}']) => {
                Err(format!("environment variable '{name}' contains a line break"))
            }
            (Some(value), _) if value.contains('\0') => Err(format!("environment variable '{name}' contains a NUL")),
            (Some(value), _) => Ok(value),
            (None, Some(default)) if *default == VERSION_SENTINEL => Ok(crate::VERSION.to_owned()),
            (None, Some(default)) => Ok((*default).to_owned()),
            (None, None) => Err(format!("environment variable '{name}' is not set and has no default")),
        }
    }
}

/// Where the scan is in the original text, and whether that is a comment.
///
/// Knows just enough YAML to tell a comment from a `#` inside quotes: a quote opens a scalar only after a separator.
struct Scan {
    line: usize,
    column: usize,
    in_comment: bool,
    quote: Option<char>,
    escaped: bool,
    /// The previous character was a blank or a line start.
    after_blank: bool,
    /// Only blanks since the last separator: a quote here opens a quoted scalar.
    at_scalar_start: bool,
}

impl Default for Scan {
    fn default() -> Scan {
        Scan {
            line: 1,
            column: 1,
            in_comment: false,
            quote: None,
            escaped: false,
            after_blank: true,
            at_scalar_start: true,
        }
    }
}

impl Scan {
    fn location(&self) -> Location {
        Location { line: self.line, column: self.column }
    }

    fn step(&mut self, c: char) {
        self.column += 1;
        if c == '\n' {
            self.line += 1;
            self.column = 1;
            self.in_comment = false;
            self.after_blank = true;
            self.at_scalar_start = self.quote.is_none();
            self.escaped = false;
            return;
        }
        if self.in_comment {
            return;
        }
        match self.quote {
            Some(_) if self.escaped => self.escaped = false,
            Some('"') if c == '\\' => self.escaped = true,
            Some(open) if c == open => self.quote = None,
            Some(_) => {}
            None if c == '#' && self.after_blank => self.in_comment = true,
            None if matches!(c, '"' | '\'') && self.at_scalar_start => self.quote = Some(c),
            None => {}
        }
        self.after_blank = c.is_whitespace();
        self.at_scalar_start =
            matches!(c, ':' | '-' | '[' | '{' | ',' | '?') || (self.at_scalar_start && self.after_blank);
    }

    /// Passes over a reference, whose characters mean nothing to YAML.
    fn skip(&mut self, text: &str) {
        for c in text.chars() {
            self.column += 1;
            if c == '\n' {
                self.line += 1;
                self.column = 1;
            }
        }
        self.after_blank = false;
        self.at_scalar_start = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A is unset, B is `x`, E is empty.
    fn variable(name: &str) -> Option<String> {
        match name {
            "B" => Some("x".to_owned()),
            "E" => Some(String::new()),
            "LINES" => Some("a\nb: 1".to_owned()),
            "NUL" => Some("\0".to_owned()),
            "LONG" => Some("a long value".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn cfg_10_13_table() {
        for (text, expected) in [
            ("${B}", "x"),
            ("${B:y}", "x"),
            ("${A:y}", "y"),
            ("${A:}", ""),
            ("${E:y}", ""),
            ("${A:-y}", "-y"),
            ("${A:redis://h:6379/0}", "redis://h:6379/0"),
            ("${A:${B:z}}", "${B:z}"),
            ("$B", "$B"),
            ("${}", "${}"),
            ("${:x}", "${:x}"),
            ("$${B}", "$x"),
            ("${B", "${B"),
            ("# ${A}", "# ${A}"),
            ("# ${B}", "# x"),
            ("a: 1 # ${A}\nb: ${B}", "a: 1 # ${A}\nb: x"),
            ("${A:__III_ENGINE_VERSION__}", crate::VERSION),
            ("${B}: [\"${B}\", '${B}']", "x: [\"x\", 'x']"),
            ("größe: ${B}", "größe: x"),
        ] {
            let expanded = expand(text, &variable).unwrap_or_else(|problems| panic!("{text}: {problems:?}"));
            assert_eq!(expanded.text, expected, "{text}");
        }
    }

    #[test]
    fn cfg_14_15_problems_name_the_place() {
        for (text, expected) in [
            ("a: ${A}", &["environment variable 'A' is not set and has no default at line 1 column 4"][..]),
            ("a: ${ }", &["environment variable ' ' is not set and has no default at line 1 column 4"]),
            ("a: ${ B }", &["environment variable ' B ' is not set and has no default at line 1 column 4"]),
            (
                "a: 1\nb: ${A} ${B} ${A2}",
                &[
                    "environment variable 'A' is not set and has no default at line 2 column 4",
                    "environment variable 'A2' is not set and has no default at line 2 column 14",
                ],
            ),
            ("a: \"x # ${A}\"", &["environment variable 'A' is not set and has no default at line 1 column 9"]),
            ("a: x#${A}", &["environment variable 'A' is not set and has no default at line 1 column 6"]),
            ("a: it's\nb: ' # ${A}'", &["environment variable 'A' is not set and has no default at line 2 column 8"]),
            ("a: ${LINES}", &["environment variable 'LINES' contains a line break at line 1 column 4"]),
            ("a: ${NUL}", &["environment variable 'NUL' contains a NUL at line 1 column 4"]),
        ] {
            let problems = expand(text, &variable).expect_err(text);
            let shown: Vec<String> = problems.iter().map(ToString::to_string).collect();
            assert_eq!(shown, expected, "{text}");
        }
    }

    #[test]
    fn cfg_15_places_map_back_to_the_original() {
        let expanded = expand("a: 1\nb: ${LONG} ${B} c", &variable).expect("expands");
        assert_eq!(expanded.text, "a: 1\nb: a long value x c");
        for (column, original) in [(1, 1), (4, 4), (9, 4), (16, 11), (17, 12), (18, 16), (19, 17)] {
            let found = expanded.original(Location { line: 2, column });
            assert_eq!(found, Location { line: 2, column: original }, "column {column}");
        }
        assert_eq!(expanded.original(Location { line: 1, column: 9 }), Location { line: 1, column: 9 });
    }
}
