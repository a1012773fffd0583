//! The load itself: when calls are due, and which of them count.
//!
//! Closed loop: every answer is followed by the next call, so the number in flight is constant. Open loop: calls are
//! due at fixed times whatever the server does, and latency counts from then; a server that stalls is charged for
//! every call it delayed, not just for the one it held (no coordinated omission).

use crate::tally::Tally;

/// When things happen, in ns on the run's clock.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    pub start_ns: u64,
    /// Calls due from here on are measured.
    pub measure_ns: u64,
    /// No call is due from here on.
    pub stop_ns: u64,
    /// Calls unanswered by now are given up.
    pub give_up_ns: u64,
}

/// One thread's share of the load.
#[derive(Debug)]
pub struct Load {
    pub schedule: Schedule,
    pacer: Option<Pacer>,
}

impl Load {
    pub fn closed(schedule: Schedule) -> Self {
        Self { schedule, pacer: None }
    }

    pub fn open(schedule: Schedule, pacer: Pacer) -> Self {
        Self { schedule, pacer: Some(pacer) }
    }

    /// Whether an answer at `now_ns` is followed by the caller's next call.
    #[inline]
    pub fn calls_again(&self, now_ns: u64) -> bool {
        self.pacer.is_none() && now_ns < self.schedule.stop_ns
    }

    /// Counts one answered call.
    #[inline]
    pub fn record(&self, tally: &mut Tally, due_ns: u64, now_ns: u64) {
        let window = self.schedule.measure_ns..self.schedule.stop_ns;
        if window.contains(&due_ns) {
            tally.latency.saturating_record(now_ns.saturating_sub(due_ns));
        }
        if window.contains(&now_ns) {
            tally.answered_in_window += 1;
        }
    }

    /// Counts how late a call was sent.
    #[inline]
    pub fn record_lag(&self, tally: &mut Tally, due_ns: u64, now_ns: u64) {
        if (self.schedule.measure_ns..self.schedule.stop_ns).contains(&due_ns) {
            tally.lag.saturating_record(now_ns.saturating_sub(due_ns));
        }
    }

    pub fn pacer(&mut self) -> Option<&mut Pacer> {
        self.pacer.as_mut()
    }
}

/// The times at which a thread's open-loop calls are due.
#[derive(Debug)]
pub struct Pacer {
    first_ns: u64,
    interval_ns: f64,
    next: u64,
    count: u64,
}

impl Pacer {
    /// Calls at `rate` per second from the schedule's start to its stop. `phase`, from 0 to 1, shifts the threads
    /// against each other by that part of an interval.
    pub fn new(schedule: &Schedule, rate: f64, phase: f64) -> Self {
        let interval_ns = 1e9 / rate;
        let first_ns = schedule.start_ns + (interval_ns * phase) as u64;
        let span_ns = schedule.stop_ns.saturating_sub(first_ns) as f64;
        Self { first_ns, interval_ns, next: 0, count: (span_ns / interval_ns).ceil() as u64 }
    }

    /// When the next call is due, in ns; `None` when there are no more.
    #[inline]
    pub fn due_ns(&self) -> Option<u64> {
        (self.next < self.count).then(|| self.first_ns + (self.next as f64 * self.interval_ns) as u64)
    }

    /// The call due next has been sent.
    #[inline]
    pub fn advance(&mut self) {
        self.next += 1;
    }

    /// Calls not sent yet.
    pub fn remaining(&self) -> u64 {
        self.count - self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEDULE: Schedule = Schedule { start_ns: 1_000, measure_ns: 2_000, stop_ns: 5_000, give_up_ns: 9_000 };

    #[test]
    fn only_calls_due_in_the_window_have_latency_and_only_answers_in_it_throughput() {
        let load = Load::closed(SCHEDULE);
        let mut tally = Tally::default();
        load.record(&mut tally, 1_500, 2_500); // due before, answered within
        load.record(&mut tally, 2_000, 4_999); // both within
        load.record(&mut tally, 4_000, 8_000); // due within, answered while draining
        assert_eq!((tally.latency.len(), tally.answered_in_window), (2, 2));
        assert!(load.calls_again(4_999) && !load.calls_again(5_000));
    }

    #[test]
    fn open_loop_calls_are_due_at_even_times_until_the_stop() {
        let mut pacer = Pacer::new(&SCHEDULE, 1e6, 0.5); // one each 1,000 ns
        let mut due = Vec::new();
        while let Some(due_ns) = pacer.due_ns() {
            due.push(due_ns);
            pacer.advance();
        }
        assert_eq!(due, [1_500, 2_500, 3_500, 4_500]);
        assert_eq!(pacer.remaining(), 0);
        assert!(!Load::open(SCHEDULE, pacer).calls_again(2_000));
    }
}
