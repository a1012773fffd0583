//! Finding out when functions can be called: registrations are not acknowledged, so each is called until it answers.
//!
//! A call that fails with `function_not_found` is repeated a little later; any other failure ends the run.

use std::collections::VecDeque;

/// Probes in flight at once.
pub const IN_FLIGHT_MAX: usize = 256;

/// Pause before the functions that were not found are tried again, in ns.
const RETRY_NS: u64 = 5_000_000;

#[derive(Debug)]
pub struct Probe {
    /// Functions to call now.
    queue: VecDeque<u32>,
    /// Functions that were not found, and when to try them again.
    missing: Vec<u32>,
    retry_ns: u64,
    in_flight: usize,
    failure: Option<String>,
}

impl Probe {
    pub fn new(functions: impl IntoIterator<Item = u32>) -> Self {
        Self { queue: functions.into_iter().collect(), missing: Vec::new(), retry_ns: 0, in_flight: 0, failure: None }
    }

    /// The next function to call, if one is due.
    pub fn poll_call(&mut self, now_ns: u64) -> Option<u32> {
        if !self.missing.is_empty() && now_ns >= self.retry_ns {
            self.queue.extend(self.missing.drain(..));
        }
        if self.in_flight == IN_FLIGHT_MAX {
            return None;
        }
        let function = self.queue.pop_front()?;
        self.in_flight += 1;
        Some(function)
    }

    /// Takes the answer of one probe.
    pub fn answered(&mut self, function: u32, result: Result<&[u8], &[u8]>, now_ns: u64) {
        self.in_flight -= 1;
        match result {
            Ok(_) => {}
            Err(b"function_not_found") => {
                if self.missing.is_empty() {
                    self.retry_ns = now_ns + RETRY_NS;
                }
                self.missing.push(function);
            }
            Err(code) => self.failure = Some(String::from_utf8_lossy(code).into_owned()),
        }
    }

    /// The code of a failure that is not a matter of waiting.
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// Functions that have not answered yet.
    pub fn unanswered(&self) -> usize {
        self.queue.len() + self.missing.len() + self.in_flight
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_not_found_are_tried_again_until_they_answer() {
        let mut probe = Probe::new([4, 5]);
        assert_eq!((probe.poll_call(0), probe.poll_call(0), probe.poll_call(0)), (Some(4), Some(5), None));
        probe.answered(4, Ok(b"1"), 10);
        probe.answered(5, Err(b"function_not_found"), 10);
        assert_eq!((probe.unanswered(), probe.poll_call(11)), (1, None));
        assert_eq!(probe.poll_call(10 + RETRY_NS), Some(5));
        probe.answered(5, Ok(b"1"), 20);
        assert_eq!((probe.unanswered(), probe.failure()), (0, None));
    }

    #[test]
    fn other_errors_are_final_and_probes_in_flight_are_bounded() {
        let mut probe = Probe::new(0..1000);
        let sent = std::iter::from_fn(|| probe.poll_call(0)).count();
        assert_eq!(sent, IN_FLIGHT_MAX);
        probe.answered(0, Err(b"FORBIDDEN"), 1);
        assert_eq!(probe.failure(), Some("FORBIDDEN"));
    }
}
