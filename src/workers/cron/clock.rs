//! Steps of the wall clock: which of its times have been lived through already (CRON-25, CRON-DB-4).

use iii_shards::shard::Now;
use std::collections::VecDeque;

/// The wall clock may gain or lose this much against the monotonic one without being called stepped.
const STEP_MS: u64 = 500;
/// Steps remembered.
const STEPS_MAX: usize = 32;

/// What the wall clock did since it was last looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It ran.
    None,
    /// It was set forward, or the machine slept.
    Forward,
    /// It was set back.
    Backward,
}

/// Watches the wall clock. Times between two steps have been lived through once.
#[derive(Debug)]
pub struct Clock {
    last: Now,
    from_ms: u64,
    /// Ended stretches, with the number of the step that ended each.
    lived: VecDeque<(u64, u64, u64)>,
    steps: u64,
}

impl Clock {
    /// Starts to watch.
    pub fn new(now: Now) -> Clock {
        Clock { last: now, from_ms: now.unix_ms, lived: VecDeque::new(), steps: 0 }
    }

    /// Steps seen so far. Whoever came after a step has not lived what came before it.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Looks at the clock.
    pub fn observe(&mut self, now: Now) -> Step {
        let seen_ms = self.last.unix_ms;
        let expected_ms = seen_ms + now.ms.saturating_sub(self.last.ms);
        self.last = now;
        if expected_ms.abs_diff(now.unix_ms) <= STEP_MS {
            return Step::None;
        }
        // What lies between the last look and the step has not run: a tick that is due then is still to come.
        self.lived.push_back((self.from_ms, seen_ms, self.steps));
        if self.lived.len() > STEPS_MAX {
            self.lived.pop_front();
        }
        self.steps += 1;
        self.from_ms = now.unix_ms;
        if now.unix_ms > expected_ms { Step::Forward } else { Step::Backward }
    }

    /// If a tick has been lived through since step number `since`: the second up to which all have been.
    pub fn lived(&self, tick_s: i64, since: u64) -> Option<i64> {
        let tick_ms = u64::try_from(tick_s).ok()?.saturating_mul(1000);
        let all = self.lived.iter().filter(|(_, _, step)| *step >= since);
        all.filter(|(from_ms, until_ms, _)| (*from_ms..=*until_ms).contains(&tick_ms))
            .map(|(_, until_ms, _)| (until_ms / 1000) as i64)
            .max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64, unix_s: u64) -> Now {
        Now { ms, unix_ms: unix_s * 1000 }
    }

    #[test]
    fn small_corrections_are_no_steps() {
        let mut clock = Clock::new(at(0, 1000));
        assert_eq!(clock.observe(at(1000, 1001)), Step::None);
        assert_eq!(clock.observe(Now { ms: 2000, unix_ms: 1_002_400 }), Step::None);
        assert_eq!(clock.observe(Now { ms: 3000, unix_ms: 1_003_000 }), Step::None);
        assert_eq!(clock.lived(1001, 0), None);
    }

    // CRON-DB-4: what was lived before a step back is not lived again; what was jumped over may be.
    #[test]
    fn forward_and_back_again() {
        let mut clock = Clock::new(at(0, 1000));
        assert_eq!(clock.observe(at(10_000, 1100)), Step::Forward);
        assert_eq!(clock.observe(at(20_000, 1110)), Step::None);
        assert_eq!(clock.observe(at(21_000, 1021)), Step::Backward);
        assert_eq!(clock.lived(1000, 0), Some(1000));
        assert_eq!(clock.lived(1050, 0), None);
        assert_eq!(clock.lived(1105, 0), Some(1110));
        // A job that is new since then has lived nothing.
        assert_eq!(clock.lived(1105, clock.steps()), None);
    }
}
