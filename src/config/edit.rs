//! Edits of the list of workers in a configuration text: only what has to change changes.
//!
//! The text is edited as text and read again; if what comes out is not exactly what was meant, nothing is done. Pure
//! but for [`write`].

use super::BuiltIn;
use super::parse::{self, Target};
use super::problem::{FieldPath, Segment};
use serde_json::{Map, Value, json};
use std::fs;
use std::io::{self, Write};
use std::path::Path;

/// The file our tools make when there is none (CFG-47).
pub const STARTER: &str =
    "# Configuration of iii. `iii worker add` writes here; the engine reads it at every change.\nworkers: []\n";

/// Adds an entry at the end of `workers`: its name, and further members that are plain text.
pub fn append(text: &str, name: &str, members: &[(&str, &str)]) -> Result<String, String> {
    let before = read(text)?;
    let list = before.get("workers").cloned().unwrap_or_default();
    let count = list.as_array().map_or(0, Vec::len);
    let mut lines = Lines::of(text);
    let mut entry = json!({ "name": name });
    for (key, value) in members {
        entry[*key] = Value::from(*value);
    }
    match &list {
        Value::Null if !before.contains_key("workers") => {
            lines.end_last();
            lines.0.push(format!("workers:{}", lines.ending()));
            let at = lines.0.len();
            lines.insert(at, &block(&entry, 2));
        }
        Value::Null => {
            let (line, _) = place(text, &["workers".into()], Target::Key)?;
            lines.insert(line + 1, &block(&entry, 2));
        }
        Value::Array(_) if count == 0 => {
            let (line, column) = place(text, &["workers".into()], Target::Value)?;
            let start = byte_of(&lines.0[line], column);
            let close = lines.0[line][start..].find(']').ok_or("the empty list of workers spans several lines")?;
            lines.0[line].replace_range(start..=start + close, "");
            let kept = lines.0[line].trim_end().to_owned();
            lines.0[line] = kept + lines.ending();
            lines.insert(line + 1, &block(&entry, 2));
        }
        Value::Array(_) => match item(text, &lines, count - 1)? {
            Item::Block { dash, lines: (_, end) } => lines.insert(end, &block(&entry, dash)),
            Item::Flow { end, .. } => {
                let text = format!(", {}", flow(&entry));
                let mut whole = lines.joined();
                whole.insert_str(end, &text);
                lines = Lines::of(&whole);
            }
        },
        _ => return Err("'workers' is no list".to_owned()),
    }
    let mut wanted = before;
    let mut items = list.as_array().cloned().unwrap_or_default();
    items.push(entry);
    wanted.insert("workers".to_owned(), Value::Array(items));
    checked(lines.joined(), &wanted)
}

/// Removes the entries of this name, also of its other names if it is built in.
pub fn remove(text: &str, name: &str) -> Result<String, String> {
    let mut text = text.to_owned();
    loop {
        let before = read(&text)?;
        let mut found = None;
        for list in ["workers", "modules"] {
            let items = before.get(list).and_then(Value::as_array).cloned().unwrap_or_default();
            if let Some(index) = items.iter().position(|item| is_named(item, name)) {
                found = Some((list, index, items));
                break;
            }
        }
        let Some((list, index, mut items)) = found else { return Ok(text) };
        let mut lines = Lines::of(&text);
        match item_of(&text, &lines, list, index)? {
            Item::Block { lines: (start, end), .. } => drop(lines.0.drain(start..end)),
            Item::Flow { start, end } => {
                let mut whole = lines.joined();
                let after = whole[end..].find(|c: char| !c.is_whitespace()).map(|at| end + at);
                let (start, end) = match after.filter(|at| whole[*at..].starts_with(',')) {
                    Some(comma) => (start, comma + 1),
                    None => (whole[..start].rfind(',').filter(|_| index > 0).unwrap_or(start), end),
                };
                whole.replace_range(start..end, "");
                lines = Lines::of(&whole);
            }
        }
        items.remove(index);
        let mut wanted = before;
        wanted.insert(list.to_owned(), if items.is_empty() { Value::Null } else { Value::Array(items) });
        text = checked(lines.joined(), &wanted)?;
    }
}

/// The names of all entries, in the order of the file.
pub fn names(text: &str) -> Result<Vec<String>, String> {
    let root = read(text)?;
    let lists = ["workers", "modules"].into_iter().filter_map(|list| root.get(list)?.as_array());
    let named = |item: &Value| item["name"].as_str().or(item["class"].as_str()).map(str::to_owned);
    Ok(lists.flatten().filter_map(named).collect())
}

/// Whether an entry is listed, under this name or another one of the same built-in worker.
pub fn contains(text: &str, name: &str) -> Result<bool, String> {
    Ok(names(text)?.iter().any(|listed| is_same(listed, name)))
}

fn is_same(listed: &str, name: &str) -> bool {
    let built_in = |name: &str| BuiltIn::by_name(name).or_else(|| BuiltIn::by_class(name));
    listed == name || built_in(name).is_some_and(|worker| built_in(listed) == Some(worker))
}

fn is_named(item: &Value, name: &str) -> bool {
    item["name"].as_str().or(item["class"].as_str()).is_some_and(|listed| is_same(listed, name))
}

/// Replaces a file as a whole: its readers see the old text or the new one. Links are followed, the mode is kept.
pub fn write(path: &Path, text: &str) -> io::Result<()> {
    let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let temporary = path.with_file_name(format!(".{name}.{}.new", std::process::id()));
    let outcome = (|| {
        let mut file = fs::File::create(&temporary)?;
        file.write_all(text.as_bytes())?;
        if let Ok(metadata) = fs::metadata(&path) {
            file.set_permissions(metadata.permissions())?;
        }
        file.sync_all()?;
        fs::rename(&temporary, &path)
    })();
    if outcome.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    outcome
}

/// References to the environment are hidden from YAML: they may stand where their value would fit and they don't.
fn masked(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let Some(length) = rest[start..].find(['}', '\n']).filter(|at| rest[start + at..].starts_with('}')) else {
            out.push_str(&rest[..start + 2]);
            rest = &rest[start + 2..];
            continue;
        };
        out.push_str(&rest[..start]);
        out.extend(rest[start..=start + length].chars().map(|_| 'x'));
        rest = &rest[start + length + 1..];
    }
    out + rest
}

fn read(text: &str) -> Result<Map<String, Value>, String> {
    match parse::parse(&masked(text)).map_err(|problem| problem.to_string())? {
        Value::Null => Ok(Map::new()),
        Value::Object(root) => Ok(root),
        _ => Err("the configuration is no mapping".to_owned()),
    }
}

fn checked(text: String, wanted: &Map<String, Value>) -> Result<String, String> {
    let drop_null = |map: &Map<String, Value>| -> Map<String, Value> {
        let kept = map.iter().filter(|(_, value)| !value.is_null() && **value != json!([]));
        kept.map(|(key, value)| (key.clone(), value.clone())).collect()
    };
    match read(&text) {
        Ok(found) if drop_null(&found) == drop_null(wanted) => Ok(text),
        _ => Err("the file is written in a way that can't be edited safely; please edit it by hand".to_owned()),
    }
}

/// Zero-based line and column.
fn place(text: &str, path: &[Segment], target: Target) -> Result<(usize, usize), String> {
    let location = parse::locate(&masked(text), &FieldPath(path.to_vec()), target);
    location
        .map(|location| (location.line - 1, location.column - 1))
        .ok_or_else(|| "cannot find the list of workers".to_owned())
}

impl From<&str> for Segment {
    fn from(key: &str) -> Segment {
        Segment::Key(key.to_owned())
    }
}

/// Where an element of the list is written.
enum Item {
    /// Lines from the one with its dash to the one after its last, and the column of the dash.
    Block { dash: usize, lines: (usize, usize) },
    /// Bytes of the whole text.
    Flow { start: usize, end: usize },
}

fn item(text: &str, lines: &Lines, index: usize) -> Result<Item, String> {
    item_of(text, lines, "workers", index)
}

fn item_of(text: &str, lines: &Lines, list: &str, index: usize) -> Result<Item, String> {
    let (line, column) = place(text, &[list.into(), Segment::Index(index)], Target::Value)?;
    let (list_line, list_column) = place(text, &[list.into()], Target::Value)?;
    if lines.0[list_line][byte_of(&lines.0[list_line], list_column)..].starts_with('[') {
        let start = lines.offset(line) + byte_of(&lines.0[line], column);
        return Ok(Item::Flow { start, end: start + flow_length(&lines.joined()[start..]) });
    }
    // The dash stands before the value, on its line or above it.
    let dash_of = |line: &str| line.find(|c: char| !c.is_whitespace()).filter(|at| line[*at..].starts_with('-'));
    let start =
        (0..=line).rev().find(|number| dash_of(&lines.0[*number]).is_some_and(|at| *number < line || at < column));
    let start = start.ok_or("cannot find the entry")?;
    let dash = dash_of(&lines.0[start]).unwrap_or_default();
    let mut end = start + 1;
    for (number, text) in lines.0.iter().enumerate().skip(start + 1) {
        let Some(indent) = text.find(|c: char| !c.is_whitespace()) else { continue };
        if text[indent..].starts_with('#') && indent <= dash {
            continue;
        }
        if indent <= dash {
            break;
        }
        if !text[indent..].starts_with('#') {
            end = number + 1;
        }
    }
    Ok(Item::Block { dash, lines: (start, end) })
}

/// Length of one value in a flow list.
fn flow_length(text: &str) -> usize {
    let (mut depth, mut quote) = (0_i32, None);
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '{' | '[') => depth += 1,
            (None, '}' | ']') if depth <= 1 => return if depth == 1 { at + 1 } else { at },
            (None, '}' | ']') => depth -= 1,
            (None, ',') if depth == 0 => return at,
            _ => {}
        }
    }
    text.len()
}

/// Byte of a column; columns count characters.
fn byte_of(line: &str, column: usize) -> usize {
    line.char_indices().nth(column).map_or(line.len(), |(at, _)| at)
}

/// An entry in block style; `dash` is the column of its dash.
fn block(entry: &Value, dash: usize) -> Vec<String> {
    let members = entry.as_object().into_iter().flatten();
    let indent = " ".repeat(dash);
    let lead = |index: usize| if index == 0 { "- " } else { "  " };
    members
        .enumerate()
        .map(|(index, (key, value))| {
            format!("{indent}{}{key}: {}", lead(index), scalar(value.as_str().unwrap_or_default()))
        })
        .collect()
}

fn flow(entry: &Value) -> String {
    let members = entry.as_object().into_iter().flatten();
    let shown: Vec<String> =
        members.map(|(key, value)| format!("{key}: {}", Value::from(value.as_str().unwrap_or_default()))).collect();
    format!("{{{}}}", shown.join(", "))
}

/// Text as a YAML scalar, quoted only if it has to be.
fn scalar(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | ' ' | '+' | '@' | '~' | '#' | ':');
    let safe = text.chars().all(plain)
        && !text.contains(" #")
        && !text.contains(": ")
        && !text.ends_with(':')
        && parse::parse(&format!("a: {text}")).is_ok_and(|value| value["a"] == text);
    if safe { text.to_owned() } else { Value::from(text).to_string() }
}

/// The lines of a text, each with its ending.
struct Lines(Vec<String>);

// === impl Lines ===

impl Lines {
    fn of(text: &str) -> Lines {
        Lines(text.split_inclusive('\n').map(str::to_owned).collect())
    }

    fn joined(&self) -> String {
        self.0.concat()
    }

    fn ending(&self) -> &'static str {
        if self.0.first().is_some_and(|line| line.ends_with("\r\n")) { "\r\n" } else { "\n" }
    }

    fn end_last(&mut self) {
        let ending = self.ending();
        if let Some(last) = self.0.last_mut().filter(|last| !last.ends_with('\n')) {
            last.push_str(ending);
        }
    }

    fn insert(&mut self, at: usize, new: &[String]) {
        self.end_last();
        let ending = self.ending();
        let new: Vec<String> = new.iter().map(|line| format!("{line}{ending}")).collect();
        self.0.splice(at..at, new);
    }

    /// Bytes before a line.
    fn offset(&self, line: usize) -> usize {
        self.0[..line].iter().map(String::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(text: &str) -> String {
        append(text, "w", &[("worker_path", "/p/w")]).unwrap_or_else(|error| panic!("{text:?}: {error}"))
    }

    // MW-10, MW-11
    #[test]
    fn mw_11_entries_are_appended_and_nothing_else_changes() {
        const NEW: &str = "  - name: w\n    worker_path: /p/w\n";
        for (text, expected) in [
            ("", format!("workers:\n{NEW}")),
            ("port: 1\n", format!("port: 1\nworkers:\n{NEW}")),
            ("port: 1", format!("port: 1\nworkers:\n{NEW}")),
            ("workers:\n", format!("workers:\n{NEW}")),
            ("workers: []\n", format!("workers:\n{NEW}")),
            ("workers: [] # none\nport: 1\n", format!("workers: # none\n{NEW}port: 1\n").replace(": #", ":  #")),
            ("workers:\n  - name: a\n", format!("workers:\n  - name: a\n{NEW}")),
            ("workers:\n  - name: a", format!("workers:\n  - name: a\n{NEW}")),
            (
                "workers:\n- config: {x: 1}\n  name: a\nport: 1\n",
                "workers:\n- config: {x: 1}\n  name: a\n- name: w\n  worker_path: /p/w\nport: 1\n".to_owned(),
            ),
            (
                "workers:\n  - name: a\n    config:\n      k: ${P:3}\n\n# end\nport: 1\n",
                format!("workers:\n  - name: a\n    config:\n      k: ${{P:3}}\n{NEW}\n# end\nport: 1\n"),
            ),
            ("workers: [{name: a}]\n", "workers: [{name: a}, {name: \"w\", worker_path: \"/p/w\"}]\n".to_owned()),
            (
                "workers: [{name: 'a', config: {p: ${P:1}}}] # c\n",
                "workers: [{name: 'a', config: {p: ${P:1}}}, {name: \"w\", worker_path: \"/p/w\"}] # c\n".to_owned(),
            ),
            (
                "workers:\r\n  - name: a\r\n",
                "workers:\r\n  - name: a\r\n  - name: w\r\n    worker_path: /p/w\r\n".to_owned(),
            ),
        ] {
            assert_eq!(added(text), expected, "{text:?}");
        }
        assert!(append("workers: []\n---\nworkers: []\n", "w", &[]).is_err());
        assert!(append("{}\n", "w", &[]).is_err());
    }

    #[test]
    fn mw_10_entries_are_removed_and_nothing_else_changes() {
        for (text, expected) in [
            ("workers:\n  - name: w\n    worker_path: /p\n", "workers:\n"),
            (
                "workers:\n  - name: a\n  # about w\n  - name: w\n    config:\n      x: 1\n\n  # about b\n  - name: b\n",
                "workers:\n  - name: a\n  # about w\n\n  # about b\n  - name: b\n",
            ),
            ("workers:\n  - config: {a: 1}\n    name: 'w'\nport: 1\n", "workers:\nport: 1\n"),
            ("workers: [{name: a}, {name: w}]\n", "workers: [{name: a}]\n"),
            ("workers: [{name: w}, {name: a}]\n", "workers: [ {name: a}]\n"),
            ("workers: []\n", "workers: []\n"),
        ] {
            assert_eq!(remove(text, "w").unwrap_or_else(|error| panic!("{text:?}: {error}")), expected, "{text:?}");
        }
        assert_eq!(remove("workers:\n  - name: state\n  - name: a\n", "iii-state").unwrap(), "workers:\n  - name: a\n");
        assert!(contains("modules:\n  - class: modules::state::StateModule\n", "state").unwrap());
    }
}
