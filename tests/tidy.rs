//! Rules about the repository itself that no lint knows.

use std::path::{Path, PathBuf};
use std::process::Command;

const LINES_MAX: usize = 800;

/// Files under version control, and those about to be, relative to the root.
fn files() -> Vec<PathBuf> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("git is there");
    let files: Vec<_> = String::from_utf8(output.stdout).expect("paths are text").lines().map(PathBuf::from).collect();
    assert!(!files.is_empty(), "git lists no files");
    files.into_iter().filter(|file| Path::new(env!("CARGO_MANIFEST_DIR")).join(file).is_file()).collect()
}

fn text(file: &Path) -> Option<String> {
    String::from_utf8(std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).ok()?).ok()
}

fn is_rust(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "rs")
}

fn report(rule: &str, offenders: &[String]) {
    assert!(offenders.is_empty(), "{rule}:\n{}", offenders.join("\n"));
}

/// A file one cannot read in one sitting hides a noun that wants to leave.
#[test]
fn files_are_short_enough_to_read() {
    let mut offenders = Vec::new();
    for file in files().into_iter().filter(|file| is_rust(file)) {
        let lines = text(&file).unwrap_or_default().lines().count();
        if lines > LINES_MAX {
            offenders.push(format!("{}: {lines} lines", file.display()));
        }
    }
    report(&format!("at most {LINES_MAX} lines per file"), &offenders);
}

/// A path of one machine in the repository works on no other.
#[test]
fn no_machine_has_left_its_paths() {
    // Spelt in two parts, so that this file does not offend.
    let homes = [
        concat!("/ro", "ot/"),
        concat!("/ho", "me/"),
        concat!("/Us", "ers/"),
        concat!("/wo", "rk/"),
        concat!("/tm", "p/"),
    ];
    let mut offenders = Vec::new();
    for file in files() {
        if file.starts_with("tests/transcripts") || file.ends_with("Cargo.lock") {
            continue;
        }
        for (number, line) in text(&file).unwrap_or_default().lines().enumerate() {
            if homes.iter().any(|home| mentions_path(line, home)) {
                offenders.push(format!("{}:{}: {}", file.display(), number + 1, line.trim()));
            }
        }
    }
    report("no absolute paths of one machine", &offenders);
}

/// A path counts where it begins: the same letters inside a longer path or an address name no place on a machine.
fn mentions_path(line: &str, home: &str) -> bool {
    line.match_indices(home).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        before.is_none_or(|before| {
            !(before.is_alphanumeric() || matches!(before, '.' | '-' | '_' | '/' | '}' | '*' | ')'))
        })
    })
}

#[test]
fn nothing_is_left_to_do() {
    let marks = [concat!("to", "do!("), concat!("unimpl", "emented!("), concat!("FIX", "ME"), concat!("XX", "X:")];
    let mut offenders = Vec::new();
    for file in files().into_iter().filter(|file| is_rust(file)) {
        for (number, line) in text(&file).unwrap_or_default().lines().enumerate() {
            if marks.iter().any(|mark| line.contains(mark)) {
                offenders.push(format!("{}:{}: {}", file.display(), number + 1, line.trim()));
            }
        }
    }
    report("no unfinished places", &offenders);
}

/// Every Rust file opens by saying what it is.
#[test]
fn every_file_says_what_it_is() {
    let mut offenders = Vec::new();
    for file in files().into_iter().filter(|file| is_rust(file)) {
        if !text(&file).unwrap_or_default().starts_with("//!") {
            offenders.push(file.display().to_string());
        }
    }
    report("a Rust file starts with a //! comment", &offenders);
}
