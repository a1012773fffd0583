//! Writing to the terminal. A reader that has gone away (`iii config show | head`) is not an error.

use std::fmt::Display;
use std::io::{Write, stderr as standard_error, stdout as standard_output};
use std::process::ExitCode;

/// Writes to standard output.
pub fn stdout(text: &str) {
    let mut out = standard_output().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Writes to standard error.
pub fn stderr(text: &str) {
    let _ = standard_error().lock().write_all(text.as_bytes());
}

/// Reports the error that ends the process (CLI-13).
pub fn fail(error: &dyn Display) -> ExitCode {
    stderr(&format!("Error: {}\n", error.to_string().trim_end()));
    ExitCode::FAILURE
}

/// Text from elsewhere without what could disturb a terminal: control characters, bidirectional overrides and exotic
/// line breaks (CLI-31). Line feeds and tabs stay.
pub fn printable(text: &str) -> String {
    let kept = |c: &char| {
        let disturbing = (c.is_control() && !matches!(c, '\n' | '\t'))
            || matches!(c, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}');
        !disturbing
    };
    text.chars().filter(kept).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cli_31_removes_what_disturbs_a_terminal() {
        assert_eq!(printable("a\u{1b}[31mb\u{202E}c\u{2066}d\u{2028}e\u{7}f\ng\th\u{9b}"), "a[31mbcdef\ng\th");
    }
}
