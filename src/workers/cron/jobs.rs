//! The jobs of one shard: which triggers belong together, when each job is due, which of its runs are under way.
//!
//! A job is what triggers that ask for the same have in common. Triggers of different connections are replicas and
//! share a run; triggers of one connection each have their own (CRON-27, CRON-DB-3). The runs of one tick are the job's
//! **lanes**: lane k belongs to the k-th trigger of each connection. A lane has at most one run at a time (CRON-23).

use super::clock::Clock;
use super::plan::Plan;
use iii_shards::ids::ConnectionId;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;
use uuid::Uuid;

/// Number of a run.
pub type RunId = u64;

/// One job.
pub struct Job {
    triggers: BTreeMap<Arc<str>, Plan>,
    /// The run under way, by lane.
    runs: Vec<Option<RunId>>,
    due_s: Option<i64>,
    /// Steps the clock had made when the job came.
    since: u64,
}

/// One run that is to start.
#[derive(Debug, Clone)]
pub struct Start {
    /// Which job.
    pub identity: Uuid,
    /// Which lane of it.
    pub lane: usize,
    /// The tick, in seconds since 1970.
    pub scheduled_s: i64,
    /// The trigger that gives its name to the run: the lowest of the lane.
    pub plan: Plan,
    /// The run that is still under way in that lane; then this one is skipped.
    pub busy: Option<RunId>,
}

/// The jobs of one shard.
pub struct Jobs {
    dedupe: bool,
    jobs: HashMap<Uuid, Job>,
    by_trigger: HashMap<Arc<str>, Uuid>,
    agenda: BTreeSet<(i64, Uuid)>,
}

impl Jobs {
    /// No jobs; `dedupe`: replicas share a run.
    pub fn new(dedupe: bool) -> Jobs {
        Jobs { dedupe, jobs: HashMap::new(), by_trigger: HashMap::new(), agenda: BTreeSet::new() }
    }

    /// Adds a trigger, from `now_s` on.
    pub fn add(&mut self, plan: Plan, clock: &Clock, now_s: i64) {
        let (identity, id) = (plan.identity, plan.target.binding.id.clone());
        self.by_trigger.insert(id.clone(), identity);
        let job = self.jobs.entry(identity).or_insert_with(|| {
            let triggers = BTreeMap::new();
            Job { triggers, runs: Vec::new(), due_s: None, since: clock.steps() }
        });
        let is_new = job.triggers.is_empty();
        job.triggers.insert(id, plan);
        job.runs.resize(job.lanes(self.dedupe).len(), None);
        if is_new {
            self.arm(identity, clock, now_s);
        }
    }

    /// Removes a trigger; gives back what it asked for and the run that is abandoned with it.
    pub fn remove(&mut self, id: &str) -> Option<(Plan, Option<RunId>)> {
        let identity = self.by_trigger.remove(id)?;
        let job = self.jobs.get_mut(&identity)?;
        let lane = job.lane_of(id, self.dedupe);
        let plan = job.triggers.remove(id)?;
        let left = job.lanes(self.dedupe).len();
        // The lane lives on as long as another connection has a trigger in it.
        let abandoned = if left < job.runs.len() && lane < job.runs.len() { job.runs.remove(lane) } else { None };
        if left == 0 {
            if let Some(due_s) = job.due_s {
                self.agenda.remove(&(due_s, identity));
            }
            self.jobs.remove(&identity);
        }
        Some((plan, abandoned))
    }

    /// When the first job is due, in seconds since 1970.
    pub fn first_due_s(&self) -> Option<i64> {
        self.agenda.first().map(|(due_s, _)| *due_s)
    }

    /// Whether there is anything to do at any time.
    pub fn is_idle(&self) -> bool {
        self.agenda.is_empty()
    }

    /// Takes the runs that are due at `now_s` and arms their jobs anew. Of several ticks in the past the latest
    /// counts; after a `jump` of the clock none does, unless the trigger wants to catch up (CRON-25, CRON-DB-6).
    pub fn take_due(&mut self, clock: &Clock, now_s: i64, jump: bool) -> Vec<Start> {
        let mut starts = Vec::new();
        while let Some((due_s, identity)) = self.agenda.first().copied().filter(|(due_s, _)| *due_s <= now_s) {
            self.agenda.pop_first();
            if let Some(job) = self.jobs.get_mut(&identity) {
                job.due_s = None;
                for (lane, id) in job.lanes(self.dedupe).into_iter().enumerate() {
                    let Some(plan) = job.triggers.get(&id) else { continue };
                    let wanted = !jump || plan.catch_up;
                    let Some(scheduled_s) = plan.schedule.last(due_s - 1, now_s).filter(|_| wanted) else { continue };
                    let busy = job.runs.get(lane).copied().flatten();
                    starts.push(Start { identity, lane, scheduled_s, plan: plan.clone(), busy });
                }
            }
            self.arm(identity, clock, now_s);
        }
        starts
    }

    /// The clock has been set back: everything is due as its new time says.
    pub fn rearm(&mut self, clock: &Clock, now_s: i64) {
        self.agenda.clear();
        for identity in self.jobs.keys().copied().collect::<Vec<_>>() {
            self.arm(identity, clock, now_s);
        }
    }

    /// A run has started.
    pub fn started(&mut self, identity: Uuid, lane: usize, run: RunId) {
        if let Some(slot) = self.jobs.get_mut(&identity).and_then(|job| job.runs.get_mut(lane)) {
            *slot = Some(run);
        }
    }

    /// A run has ended. `false` = it had been abandoned.
    pub fn ended(&mut self, identity: Uuid, run: RunId) -> bool {
        let Some(job) = self.jobs.get_mut(&identity) else { return false };
        match job.runs.iter_mut().find(|slot| **slot == Some(run)) {
            Some(slot) => slot.take().is_some(),
            None => false,
        }
    }

    fn arm(&mut self, identity: Uuid, clock: &Clock, now_s: i64) {
        let Some(job) = self.jobs.get_mut(&identity) else { return };
        let Some(plan) = job.triggers.values().next() else { return };
        let mut due_s = plan.schedule.next(now_s);
        while let Some(until_s) = due_s.and_then(|due_s| clock.lived(due_s, job.since)) {
            due_s = plan.schedule.next(until_s);
        }
        job.due_s = due_s;
        if let Some(due_s) = due_s {
            self.agenda.insert((due_s, identity));
        }
    }
}

impl Job {
    /// The lowest trigger of each lane.
    fn lanes(&self, dedupe: bool) -> Vec<Arc<str>> {
        if !dedupe {
            return self.triggers.keys().cloned().collect();
        }
        let mut lanes: Vec<Arc<str>> = Vec::new();
        let mut seen: HashMap<Option<ConnectionId>, usize> = HashMap::new();
        for (id, plan) in &self.triggers {
            let lane = seen.entry(plan.target.binding.registrant).or_default();
            if *lane == lanes.len() {
                lanes.push(id.clone());
            }
            *lane += 1;
        }
        lanes
    }

    fn lane_of(&self, id: &str, dedupe: bool) -> usize {
        let before = self.triggers.range::<str, _>((Bound::Unbounded, Bound::Excluded(id)));
        if !dedupe {
            return before.count();
        }
        let registrant = self.triggers.get(id).and_then(|plan| plan.target.binding.registrant);
        before.filter(|(_, plan)| plan.target.binding.registrant == registrant).count()
    }
}
