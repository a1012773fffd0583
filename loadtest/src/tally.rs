//! What one generator thread counted. Threads never share a tally; the coordinator merges them at the end.

use hdrhistogram::Histogram;
use std::collections::BTreeMap;

/// Latencies below this are recorded as this, in ns.
const LATENCY_NS_MIN: u64 = 1_000;
/// Latencies above this are recorded as this, in ns.
const LATENCY_NS_MAX: u64 = 300_000_000_000;
/// Values are kept to three significant digits.
const DIGITS: u8 = 3;

/// A histogram of durations in ns, from 1 µs to 5 minutes.
pub fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(LATENCY_NS_MIN, LATENCY_NS_MAX, DIGITS).expect("the bounds are constants")
}

/// Counts of a whole run, except where a field says that it belongs to the measured window.
#[derive(Debug)]
pub struct Tally {
    /// From due to answered, of every call that became due in the window, failed ones included.
    pub latency: Histogram<u64>,
    /// From due to handed to the socket's buffer: how late the generator itself was. Open loop only, window only.
    pub lag: Histogram<u64>,
    pub sent: u64,
    pub answered: u64,
    /// Answers received within the window.
    pub answered_in_window: u64,
    /// Calls still unanswered, or due but never sent, when the drain time was over.
    pub unanswered: u64,
    /// Second answers to a call.
    pub duplicates: u64,
    /// Answers to calls that were never made.
    pub unknown: u64,
    /// Results that do not echo the call's data in full.
    pub wrong_payload: u64,
    /// Connections that ended before the run did.
    pub connections_lost: u64,
    /// Calls run by our workers.
    pub served: u64,
    /// Failed calls and refusals by code.
    pub errors: BTreeMap<String, u64>,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            latency: new_histogram(),
            lag: new_histogram(),
            sent: 0,
            answered: 0,
            answered_in_window: 0,
            unanswered: 0,
            duplicates: 0,
            unknown: 0,
            wrong_payload: 0,
            connections_lost: 0,
            served: 0,
            errors: BTreeMap::new(),
        }
    }
}

impl Tally {
    /// Counts one failed call or refusal.
    pub fn error(&mut self, code: &[u8]) {
        match str::from_utf8(code).ok().and_then(|code| self.errors.get_mut(code)) {
            Some(count) => *count += 1,
            None => {
                self.errors.insert(String::from_utf8_lossy(code).into_owned(), 1);
            }
        }
    }

    /// Whether every call was answered exactly once, without error and with its own data.
    pub fn is_clean(&self) -> bool {
        let faults = [self.unanswered, self.duplicates, self.unknown, self.wrong_payload, self.connections_lost];
        faults.iter().all(|count| *count == 0) && self.errors.is_empty()
    }

    /// Adds another thread's counts to these.
    pub fn merge(&mut self, other: &Tally) {
        self.latency.add(&other.latency).expect("all histograms have the same bounds");
        self.lag.add(&other.lag).expect("all histograms have the same bounds");
        self.sent += other.sent;
        self.answered += other.answered;
        self.answered_in_window += other.answered_in_window;
        self.unanswered += other.unanswered;
        self.duplicates += other.duplicates;
        self.unknown += other.unknown;
        self.wrong_payload += other.wrong_payload;
        self.connections_lost += other.connections_lost;
        self.served += other.served;
        for (code, count) in &other.errors {
            *self.errors.entry(code.clone()).or_default() += count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merging_adds_everything_up() {
        let mut a = Tally { answered: 2, ..Tally::default() };
        let mut b = Tally { answered: 3, unanswered: 1, ..Tally::default() };
        a.error(b"x");
        b.error(b"x");
        b.error(b"y");
        a.latency.saturating_record(5_000);
        b.latency.saturating_record(7_000);
        a.merge(&b);
        assert_eq!((a.answered, a.unanswered, a.latency.len()), (5, 1, 2));
        assert_eq!((a.errors["x"], a.errors["y"]), (2, 1));
    }

    #[test]
    fn any_fault_makes_a_run_unclean() {
        assert!(Tally::default().is_clean());
        assert!(!Tally { duplicates: 1, ..Tally::default() }.is_clean());
        assert!(!Tally { connections_lost: 1, ..Tally::default() }.is_clean());
        let mut failed = Tally::default();
        failed.error(b"function_not_found");
        assert!(!failed.is_clean());
    }
}
