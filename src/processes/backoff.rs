//! When to start a process again that has ended by itself. Pure.

use std::time::Duration;

/// The first wait.
const FIRST: Duration = Duration::from_secs(1);
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(30);
/// A process that ran this long has proved itself: the next failure is a first one.
const PROVED: Duration = Duration::from_secs(60);
/// Failures in a row after which the worker counts as failed. It is still started again, every [`LONGEST`].
const FAILURES_MAX: u32 = 10;

/// Counts failures in a row (MW-27).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The process has ended after this time; how long to wait before the next start.
    pub fn ended(&mut self, uptime: Duration) -> Duration {
        if uptime >= PROVED {
            self.failures = 0;
        }
        self.failures = self.failures.saturating_add(1);
        let doublings = (self.failures - 1).min(16);
        FIRST.saturating_mul(1 << doublings).min(LONGEST)
    }

    /// Whether it has failed too often in a row to be called anything but failed.
    pub fn has_failed(&self) -> bool {
        self.failures >= FAILURES_MAX
    }

    /// Somebody has changed something: the next failure is a first one.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // MW-27
    #[test]
    fn waits_double_up_to_a_limit_and_start_over_after_a_long_run() {
        let mut backoff = Backoff::default();
        let waits: Vec<u64> = (0..8).map(|_| backoff.ended(Duration::from_millis(5)).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30, 30]);
        assert!(!backoff.has_failed());
        backoff.ended(Duration::ZERO);
        backoff.ended(Duration::ZERO);
        assert!(backoff.has_failed());
        assert_eq!(backoff.ended(PROVED), FIRST);
        assert!(!backoff.has_failed());
    }
}
