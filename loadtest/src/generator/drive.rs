//! Putting on the load, in closed or open loop, and collecting the last answers.
//!
//! Hot path: what runs for every call is in `peer`; here are the loops around it.

use super::load::{Load, Pacer, Schedule};
use super::peer::Activity;
use super::{Generator, POLL_MS_MAX, mark_dirty};
use crate::tally::Tally;
use std::time::Duration;

/// Open-loop calls sent before the sockets are looked at again.
const CALLS_PER_TURN_MAX: usize = 256;

impl Generator {
    /// Puts on the load and waits for its last answers.
    pub fn run(&mut self, schedule: Schedule) -> Result<(), String> {
        let callers: Vec<usize> = (0..self.connections.len()).filter(|index| self.is_caller(*index)).collect();
        while self.now_ns() < schedule.start_ns {
            let left = schedule.start_ns - self.now_ns();
            self.turn(Duration::from_nanos(left.min(POLL_MS_MAX * 1_000_000)))?;
        }
        if let Some(reason) = self.lost.take() {
            return Err(format!("a connection was lost before the load began: {reason}"));
        }
        // What came before belongs to the preparation.
        self.context.tally = Tally::default();
        match self.context.options.rate {
            Some(rate) => self.run_open(schedule, rate, &callers)?,
            None => self.run_closed(schedule, &callers)?,
        }
        while self.in_flight() > 0 && self.now_ns() < schedule.give_up_ns {
            self.turn(Duration::from_millis(10))?;
        }
        self.context.tally.unanswered += self.in_flight() as u64;
        self.context.activity = Activity::Quiet;
        Ok(())
    }

    fn run_closed(&mut self, schedule: Schedule, callers: &[usize]) -> Result<(), String> {
        self.context.activity = Activity::Load(Load::closed(schedule));
        let now_ns = self.now_ns();
        for &index in callers {
            let Some(connection) = &mut self.connections[index] else { continue };
            while self.context.call_next(&mut connection.peer, now_ns) {}
            mark_dirty(&mut self.dirty, index, connection);
        }
        while self.now_ns() < schedule.stop_ns && self.has_connections() {
            let left = schedule.stop_ns.saturating_sub(self.now_ns());
            self.turn(Duration::from_nanos(left.min(POLL_MS_MAX * 1_000_000)))?;
        }
        Ok(())
    }

    fn run_open(&mut self, schedule: Schedule, rate: f64, callers: &[usize]) -> Result<(), String> {
        let rate = rate * callers.len() as f64 / self.context.options.callers_total() as f64;
        if callers.is_empty() {
            return self.run_closed(schedule, callers);
        }
        let phase = self.share.thread as f64 / self.share.threads as f64;
        self.context.activity = Activity::Load(Load::open(schedule, Pacer::new(&schedule, rate, phase)));
        let mut turn_of = 0;
        loop {
            let now_ns = self.now_ns();
            let due_ns = self.send_due(now_ns, callers, &mut turn_of);
            let Some(due_ns) = due_ns.filter(|_| now_ns < schedule.give_up_ns && self.has_connections()) else { break };
            let delay_ns = due_ns.saturating_sub(self.now_ns());
            if delay_ns > 0 {
                self.timer.arm(delay_ns).map_err(|error| error.to_string())?;
            }
            let timeout_ms = if due_ns > now_ns { POLL_MS_MAX } else { 0 };
            self.turn(Duration::from_millis(timeout_ms))?;
        }
        let Activity::Load(load) = &mut self.context.activity else { unreachable!("set above") };
        self.context.tally.unanswered += load.pacer().map_or(0, |pacer| pacer.remaining());
        Ok(())
    }

    /// Sends the calls that are due, each from the next caller. Returns when the first unsent one is due.
    fn send_due(&mut self, now_ns: u64, callers: &[usize], turn_of: &mut usize) -> Option<u64> {
        for _ in 0..CALLS_PER_TURN_MAX {
            let Activity::Load(load) = &mut self.context.activity else { unreachable!("set by run_open") };
            let due_ns = load.pacer()?.due_ns()?;
            if due_ns > now_ns {
                return Some(due_ns);
            }
            // A lost or saturated caller passes its turn on; when all are, the call waits and its latency grows.
            let sent = (0..callers.len()).any(|_| {
                let index = callers[*turn_of];
                *turn_of = (*turn_of + 1) % callers.len();
                let Some(connection) = &mut self.connections[index] else { return false };
                let sent = self.context.call_next(&mut connection.peer, due_ns);
                mark_dirty(&mut self.dirty, index, connection);
                sent
            });
            let Activity::Load(load) = &mut self.context.activity else { unreachable!("set by run_open") };
            if !sent {
                return Some(due_ns);
            }
            load.record_lag(&mut self.context.tally, due_ns, now_ns);
            load.pacer()?.advance();
        }
        let Activity::Load(load) = &mut self.context.activity else { unreachable!("set by run_open") };
        load.pacer()?.due_ns()
    }

    fn has_connections(&self) -> bool {
        (self.context.tally.connections_lost as usize) < self.connections.len()
    }

    fn is_caller(&self, index: usize) -> bool {
        self.connections[index].as_ref().is_some_and(|connection| connection.peer.caller.is_some())
    }

    fn in_flight(&self) -> usize {
        let callers = self.connections.iter().flatten().filter_map(|connection| connection.peer.caller.as_ref());
        callers.map(|caller| caller.calls.in_flight()).sum()
    }
}
