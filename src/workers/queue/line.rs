//! One line of messages: a named queue, or one destination of a topic. Pure: no host, no disk, no clock.
//!
//! ```text
//!             push                take                 done
//!   (disk) ─────────► waiting ───────────► running ───────────► gone
//!      └─ refill ───────► ▲                  │ failed
//!                         ├── due ─ delayed ◄┤ attempts left
//!                         ├── target back ─ parked ◄┤ nobody provides the target
//!                         └── redriven ─── dead ◄┘ attempts used up
//! ```
//!
//! Invariant: a sequence number is in exactly one of waiting, delayed, parked, running. In a fifo line at most one
//! message of a group is running, delayed or parked, and it is older than all waiting ones of its group.

use super::job::{Dead, Job, Target};
use super::tuning::Tuning;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::rc::Rc;

/// Messages held in memory before the rest is left on disk.
pub const WINDOW: usize = 1024;
/// The window is filled up from disk when fewer wait.
pub const WINDOW_LOW: usize = 512;
/// Messages whose target is missing that are held in memory; beyond that the line waits for it.
const PARKED_MAX: usize = 4096;

/// Waiting messages of a group, and the older one that is still under way.
#[derive(Debug, Default)]
struct Group {
    /// The one that later ones wait for: running, delayed or parked.
    owner: Option<u64>,
    waiting: BTreeSet<u64>,
}

/// A line. Times are Unix milliseconds.
#[derive(Debug, Default)]
pub struct Line {
    /// How it is run.
    pub tuning: Tuning,
    waiting: BTreeMap<u64, Job>,
    delayed: BTreeMap<(u64, u64), Job>,
    parked: HashMap<Target, BTreeMap<u64, Job>>,
    parked_count: usize,
    running: HashMap<u64, Job>,
    groups: HashMap<Rc<str>, Group>,
    /// Oldest waiting message of each group that is not busy; fifo only.
    heads: BTreeSet<u64>,
    /// Dead letters, oldest first.
    pub dead: VecDeque<Dead>,
    /// Messages that are on disk only.
    pub on_disk: u64,
    /// What an earlier run left on disk has not all been counted or read yet.
    pub uncounted: bool,
    /// First sequence number that may be on disk only.
    pub cursor: u64,
    /// Next sequence number.
    pub next: u64,
    /// A refill is under way.
    pub refilling: bool,
    /// Messages done, and attempts failed, since the start.
    pub delivered: u64,
    /// Attempts that failed.
    pub failed: u64,
}

/// What becomes of a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Tried again at this time.
    Retry(u64),
    /// Given up.
    Dead,
}

impl Line {
    /// A line that is run like this.
    pub fn new(tuning: Tuning) -> Line {
        Line { tuning, next: 1, cursor: 1, ..Line::default() }
    }

    /// Waiting, wherever.
    pub fn waiting(&self) -> u64 {
        self.waiting.len() as u64 + self.parked_count as u64 + self.on_disk
    }

    /// In a handler.
    pub fn running(&self) -> u64 {
        self.running.len() as u64
    }

    /// Waiting for their retry or their time.
    pub fn delayed(&self) -> u64 {
        self.delayed.len() as u64
    }

    /// When the oldest message under way was accepted.
    pub fn oldest_ms(&self) -> Option<u64> {
        let first = self.waiting.values().next().map(|job| job.head.enqueued_ms);
        let running = self.running.values().map(|job| job.head.enqueued_ms).min();
        first.into_iter().chain(running).min()
    }

    /// Whether there is nothing at all.
    pub fn is_empty(&self) -> bool {
        self.waiting() == 0 && self.running.is_empty() && self.delayed.is_empty() && self.dead.is_empty()
    }

    /// Takes in a message that is on disk if it has to be. It stays there alone while the window is full.
    pub fn push(&mut self, job: Job, durable: bool, now: u64) {
        if durable && (self.on_disk > 0 || self.uncounted || self.refilling || self.waiting.len() >= WINDOW) {
            self.on_disk += 1;
            return;
        }
        self.cursor = self.cursor.max(job.seq + 1);
        self.place(job, now);
    }

    /// Takes in messages read from disk, oldest first; `end` = there are no more before `next`.
    pub fn refill(&mut self, jobs: Vec<Job>, end: bool, now: u64) {
        self.refilling = false;
        for job in jobs {
            if job.seq < self.cursor {
                continue;
            }
            self.cursor = job.seq + 1;
            self.on_disk = self.on_disk.saturating_sub(1);
            self.place(job, now);
        }
        if end {
            self.uncounted = false;
            self.on_disk = 0;
        }
    }

    /// From where to read, if more should be.
    pub fn wants_refill(&self) -> Option<u64> {
        let held = self.waiting.len() + self.parked_count;
        let low = self.waiting.len() < WINDOW_LOW && held < PARKED_MAX;
        ((self.on_disk > 0 || self.uncounted) && !self.refilling && low).then_some(self.cursor)
    }

    fn place(&mut self, job: Job, now: u64) {
        if job.head.not_before_ms > now {
            self.delay(job);
        } else {
            self.wait(job);
        }
    }

    fn delay(&mut self, job: Job) {
        if let Some(group) = self.group_of(&job) {
            // Later ones of its group wait for it.
            let group = self.groups.entry(group).or_default();
            if group.owner.is_none() && group.waiting.first().is_none_or(|first| *first > job.seq) {
                group.owner = Some(job.seq);
                if let Some(first) = group.waiting.first() {
                    self.heads.remove(first);
                }
            }
        }
        self.delayed.insert((job.head.not_before_ms, job.seq), job);
    }

    fn wait(&mut self, job: Job) {
        if let Some(name) = self.group_of(&job) {
            let group = self.groups.entry(name).or_default();
            if group.owner.is_none() {
                if let Some(first) = group.waiting.first() {
                    self.heads.remove(first);
                }
                self.heads.insert(group.waiting.first().map_or(job.seq, |first| (*first).min(job.seq)));
            }
            group.waiting.insert(job.seq);
        }
        self.waiting.insert(job.seq, job);
    }

    /// The group of a message; `None` = the line has no order to keep.
    fn group_of(&self, job: &Job) -> Option<Rc<str>> {
        self.tuning.fifo.then(|| job.head.group.clone().unwrap_or_else(|| "".into()))
    }

    /// The next message to be run, which then is. Targets for which `missing` says so are not tried.
    pub fn take(&mut self, missing: impl Fn(&Target) -> bool) -> Option<Job> {
        while self.running.len() < self.tuning.slots as usize {
            let seq = match self.tuning.fifo {
                true => *self.heads.first()?,
                false => *self.waiting.first_key_value()?.0,
            };
            let job = self.waiting.remove(&seq)?;
            self.occupy(&job);
            if missing(&job.head.target) {
                self.park(job);
                continue;
            }
            self.running.insert(seq, job.clone());
            return Some(job);
        }
        None
    }

    fn occupy(&mut self, job: &Job) {
        if let Some(group) = self.group_of(job).and_then(|name| self.groups.get_mut(&name)) {
            group.owner = Some(job.seq);
            group.waiting.remove(&job.seq);
            self.heads.remove(&job.seq);
        }
    }

    fn vacate(&mut self, job: &Job) {
        let Some(name) = self.group_of(job) else { return };
        let Some(group) = self.groups.get_mut(&name) else { return };
        if group.owner != Some(job.seq) {
            return;
        }
        group.owner = None;
        match group.waiting.first() {
            Some(first) => drop(self.heads.insert(*first)),
            None => drop(self.groups.remove(&name)),
        }
    }

    fn park(&mut self, job: Job) {
        self.parked_count += 1;
        self.parked.entry(job.head.target.clone()).or_default().insert(job.seq, job);
    }

    /// Targets that messages wait for.
    pub fn parked_targets(&self) -> impl Iterator<Item = &Target> {
        self.parked.keys()
    }

    /// The target may be there again: at most `most` messages wait in line for it again, oldest first.
    pub fn unpark(&mut self, target: &Target, most: usize) {
        for _ in 0..most {
            let Some(jobs) = self.parked.get_mut(target) else { return };
            if let Some((_, job)) = jobs.pop_first() {
                self.parked_count -= 1;
                if jobs.is_empty() {
                    self.parked.remove(target);
                }
                self.vacate(&job);
                self.wait(job);
            }
        }
    }

    /// A running message is done.
    pub fn done(&mut self, seq: u64) -> Option<Job> {
        let job = self.running.remove(&seq)?;
        self.delivered += 1;
        self.vacate(&job);
        Some(job)
    }

    /// Nobody provides the target of a running message: it waits, and the attempt does not count (QUEUE-DB-7).
    pub fn missing(&mut self, seq: u64) {
        if let Some(job) = self.running.remove(&seq) {
            self.park(job);
        }
    }

    /// An attempt has failed. `charged` = it counts. The message is returned as it is from now on.
    pub fn fail(&mut self, seq: u64, charged: bool, now: u64, jitter: f64) -> Option<(Job, Verdict)> {
        let mut job = self.running.remove(&seq)?;
        self.failed += 1;
        if charged {
            job.head.attempts += 1;
        } else {
            job.head.stops += 1;
        }
        if job.head.attempts >= self.tuning.attempts {
            self.vacate(&job);
            return Some((job, Verdict::Dead));
        }
        let due = now.saturating_add(self.tuning.delay_ms(job.head.attempts.max(1), jitter));
        job.head.not_before_ms = due;
        self.delayed.insert((due, seq), job.clone());
        Some((job, Verdict::Retry(due)))
    }

    /// Messages whose time has come wait in line, in the place they had.
    pub fn wake(&mut self, now: u64) {
        while let Some(entry) = self.delayed.first_entry() {
            if entry.key().0 > now {
                return;
            }
            let job = entry.remove();
            self.vacate(&job);
            self.wait(job);
        }
    }

    /// When the next delayed message is due.
    pub fn due_ms(&self) -> Option<u64> {
        self.delayed.keys().next().map(|(due, _)| *due)
    }

    /// Takes out a message that is not running.
    pub fn cancel(&mut self, id: &str) -> Option<Job> {
        let is = |job: &Job| job.head.is(id);
        if let Some(seq) = self.waiting.iter().find(|(_, job)| is(job)).map(|(seq, _)| *seq) {
            let job = self.waiting.remove(&seq)?;
            if let Some(name) = self.group_of(&job)
                && let Some(group) = self.groups.get_mut(&name)
            {
                group.waiting.remove(&seq);
                let was_head = self.heads.remove(&seq);
                match group.waiting.first() {
                    Some(first) if was_head => drop(self.heads.insert(*first)),
                    None if group.owner.is_none() => drop(self.groups.remove(&name)),
                    _ => {}
                }
            }
            return Some(job);
        }
        if let Some(key) = self.delayed.iter().find(|(_, job)| is(job)).map(|(key, _)| *key) {
            let job = self.delayed.remove(&key)?;
            self.vacate(&job);
            return Some(job);
        }
        let found = self
            .parked
            .iter()
            .find_map(|(target, jobs)| jobs.iter().find(|(_, job)| is(job)).map(|(seq, _)| (target.clone(), *seq)));
        let (target, seq) = found?;
        let jobs = self.parked.get_mut(&target)?;
        let job = jobs.remove(&seq)?;
        if jobs.is_empty() {
            self.parked.remove(&target);
        }
        self.parked_count -= 1;
        self.vacate(&job);
        Some(job)
    }

    /// Everything in memory that is not running, oldest first; the line forgets it.
    pub fn drain(&mut self) -> Vec<Job> {
        let mut jobs: Vec<Job> = std::mem::take(&mut self.waiting).into_values().collect();
        jobs.extend(std::mem::take(&mut self.delayed).into_values());
        jobs.extend(std::mem::take(&mut self.parked).into_values().flat_map(BTreeMap::into_values));
        self.parked_count = 0;
        self.groups.clear();
        self.heads.clear();
        jobs.sort_by_key(|job| job.seq);
        jobs
    }

    /// What is running is not waited for any longer: it runs again.
    pub fn interrupt(&mut self) {
        for (_, job) in std::mem::take(&mut self.running) {
            self.vacate(&job);
            self.wait(job);
        }
    }

    /// The running message of this number.
    pub fn running_job(&self, seq: u64) -> Option<&Job> {
        self.running.get(&seq)
    }
}
