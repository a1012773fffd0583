//! A progress bar on standard error, if that is a terminal; nothing otherwise.

use std::io::{IsTerminal, Write, stderr};

const BAR_CELLS: usize = 30;

#[derive(Debug)]
pub struct Progress {
    enabled: bool,
}

impl Progress {
    pub fn new() -> Self {
        Self { enabled: stderr().is_terminal() }
    }

    /// Redraws the line: `text`, and a bar when it is known how much is done, from 0 to 1.
    pub fn show(&self, text: &str, done: Option<f64>) {
        if self.enabled {
            let bar = done.map(bar).unwrap_or_default();
            // A lost progress bar is no reason to stop.
            let _ = write!(stderr(), "\r\x1b[K{bar}{text}");
        }
    }

    pub fn clear(&self) {
        if self.enabled {
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }
}

fn bar(done: f64) -> String {
    let filled = (done.clamp(0.0, 1.0) * BAR_CELLS as f64).round() as usize;
    format!("[{}{}] ", "#".repeat(filled), "-".repeat(BAR_CELLS - filled))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_fills_from_the_left_and_stays_in_its_frame() {
        assert_eq!(bar(0.0), format!("[{}] ", "-".repeat(30)));
        assert_eq!(bar(0.5), format!("[{}{}] ", "#".repeat(15), "-".repeat(15)));
        assert_eq!(bar(7.0), format!("[{}] ", "#".repeat(30)));
    }
}
