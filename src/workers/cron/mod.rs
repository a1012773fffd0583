//! `iii-cron`: triggers that fire at the times a cron expression names.
//!
//! A job lives on the shard that the hash of its identity picks, so that replicas meet. Each shard has one agenda of
//! due times and one timer for it, re-armed from the wall clock. With the `redis` adapter a run first claims its tick
//! and takes the job's run lock (`locks.rs`); without, nothing is asked.

mod clock;
mod expression;
mod jobs;
mod locks;
mod plan;
mod schedule;

use super::redis::Link;
use crate::config::settings::{CronAdapter, CronSettings, OnLockError, RedisSettings};
use clock::{Clock, Step};
use iii_shards::builtin::firing::{End, Firing, Run};
use iii_shards::builtin::{BuiltIn, Call, Definition, Failure, Host, Outcome, Token, TriggerType};
use iii_shards::control::triggers::Binding;
use jobs::{Jobs, RunId, Start};
use locks::{Held, LockAnswer, Locks};
use plan::Plan;
use schedule::{rfc3339, rfc3339_nanos};
use serde_json::json;
use std::any::Any;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use uuid::Uuid;

/// Longest sleep while there are jobs: a step of the wall clock goes unnoticed for no longer.
const LOOK_MS_MAX: u64 = 1000;
/// Life of a lock unless the adapter says otherwise.
const LOCK_TTL_MS: u64 = 30_000;
/// Ticks shown when a trigger is registered (CRON-14).
const TICKS_SHOWN: usize = 3;

/// What the worker is to an engine. Waits for Redis, if it is to be used; `Err` = it can't be reached.
pub fn definition(settings: &CronSettings) -> Result<Definition, String> {
    let locks = match &settings.adapter {
        CronAdapter::Kv(_) => None,
        CronAdapter::Redis(redis) => Some(shared_locks(redis, Link::connect(&redis.redis_url)?)),
    };
    if !settings.enabled {
        tracing::info!("iii-cron is disabled by its configuration: triggers are accepted and never fire");
    }
    let numbering = settings.weekday_numbering;
    let mut trigger_type = TriggerType::new("cron", "Cron-based scheduled triggers", move |binding| {
        Plan::read(Arc::new(binding.clone()), numbering).map(drop)
    });
    trigger_type.config_format = Some(CONFIG_FORMAT.into());
    trigger_type.call_format = Some(CALL_FORMAT.into());
    let settings = settings.clone();
    Ok(Definition {
        name: "iii-cron".into(),
        description: "Schedule functions with cron expressions.".into(),
        functions: Vec::new(),
        trigger_types: vec![trigger_type],
        listeners: Vec::new(),
        factory: Arc::new(move |host| Box::new(Cron::new(settings.clone(), locks.clone(), host))),
    })
}

const CONFIG_FORMAT: &str = r#"{"$schema":"https://json-schema.org/draft/2020-12/schema","title":"CronTriggerConfig","type":"object","properties":{"expression":{"type":"string","description":"Cron expression"},"condition_function_id":{"type":["string","null"],"description":"Function that is asked before each run; `false` leaves it out"}},"required":["expression"]}"#;
const CALL_FORMAT: &str = r#"{"$schema":"https://json-schema.org/draft/2020-12/schema","title":"CronCallRequest","type":"object","properties":{"trigger":{"type":"string"},"job_id":{"type":"string"},"scheduled_time":{"type":"string"},"actual_time":{"type":"string"}},"required":["trigger","job_id","scheduled_time","actual_time"]}"#;

fn shared_locks(settings: &RedisSettings, link: Link) -> Locks {
    let prefix = settings.key_prefix.clone().unwrap_or_else(|| "iii".to_owned());
    Locks::new(link, prefix, settings.lock_ttl_ms.unwrap_or(LOCK_TTL_MS))
}

/// The instance of one shard.
struct Cron {
    settings: CronSettings,
    /// `None` = runs of this engine alone.
    locks: Option<Locks>,
    clock: Clock,
    jobs: Jobs,
    runs: HashMap<RunId, Running>,
    last_run: RunId,
    firing: Firing<RunId>,
    warned: bool,
}

/// A run that waits for its locks or has been fired.
struct Running {
    start: Start,
    started_ms: u64,
    /// The locks, given back when this is dropped.
    _held: Option<Held>,
}

impl Cron {
    fn new(settings: CronSettings, locks: Option<Locks>, host: &mut dyn Host) -> Cron {
        let jobs = Jobs::new(settings.dedupe_replicas);
        let clock = Clock::new(host.now());
        let (runs, firing) = (HashMap::new(), Firing::default());
        Cron { settings, locks, clock, jobs, runs, last_run: 0, firing, warned: false }
    }

    fn now_s(host: &dyn Host) -> i64 {
        (host.now().unix_ms / 1000) as i64
    }

    /// Starts what is due, then sets the timer.
    fn look(&mut self, host: &mut dyn Host) {
        let now_s = Self::now_s(host);
        if !self.jobs.is_idle() {
            let step = self.clock.observe(host.now());
            if step != Step::None {
                tracing::warn!("The clock was set {step:?}; cron ticks in between are left out");
            }
            for start in self.jobs.take_due(&self.clock, now_s, step == Step::Forward) {
                self.start_run(start, host);
            }
            if step == Step::Backward {
                self.jobs.rearm(&self.clock, now_s);
            }
        }
        self.set_timer(host);
    }

    fn set_timer(&self, host: &mut dyn Host) {
        let now = host.now();
        let wake_at = self.jobs.first_due_s().map(|due_s| {
            let due_ms = u64::try_from(due_s).unwrap_or(0).saturating_mul(1000);
            now.ms + due_ms.saturating_sub(now.unix_ms).clamp(1, LOOK_MS_MAX)
        });
        host.wake_at(wake_at);
    }

    fn start_run(&mut self, start: Start, host: &mut dyn Host) {
        if start.busy.is_some() {
            tracing::debug!("Cron job {} is still running; its tick is left out", start.plan.target.binding.id);
            return;
        }
        self.last_run += 1;
        let run = self.last_run;
        self.jobs.started(start.identity, start.lane, run);
        let identity = match start.lane {
            0 => start.identity.simple().to_string(),
            lane => format!("{}:{lane}", start.identity.simple()),
        };
        let held = self.locks.as_ref().map(|locks| locks.claim(run, identity, start.scheduled_s, host));
        let waits = held.is_some();
        self.runs.insert(run, Running { start, started_ms: host.now().ms, _held: held });
        if !waits {
            self.fire(run, host);
        }
    }

    fn fire(&mut self, run: RunId, host: &mut dyn Host) {
        let Some(running) = self.runs.get(&run) else { return };
        let plan = &running.start.plan;
        let binding = &plan.target.binding;
        let payload = json!({
            "trigger": "cron",
            "job_id": &*binding.id,
            "scheduled_time": rfc3339(running.start.scheduled_s),
            "actual_time": rfc3339_nanos(host.now().unix_ms as i64),
        });
        let data: Rc<[u8]> = payload.to_string().into_bytes().into();
        let traceparent = new_trace(host);
        tracing::info!("[TRIGGERED] Cron job {} → {}", binding.id, binding.function_id);
        let fired = Run {
            traceparent: Some(&traceparent),
            timeout_ms: plan.timeout_ms.or(self.settings.run_timeout_ms),
            ..Run::new(&data)
        };
        self.firing.fire(host, &plan.target, &fired, run);
        self.take_ended(host);
    }

    fn take_ended(&mut self, host: &dyn Host) {
        while let Some((run, end)) = self.firing.poll_ended() {
            let Some(running) = self.runs.remove(&run) else { continue };
            self.jobs.ended(running.start.identity, run);
            let binding = &running.start.plan.target.binding;
            let (id, function) = (&binding.id, &binding.function_id);
            let took_ms = host.now().ms.saturating_sub(running.started_ms);
            match end {
                End::Ran(Ok(_)) | End::Sent => tracing::debug!("Cron job {id} → {function} took {took_ms} ms"),
                End::Skipped => tracing::debug!("Cron job {id} → {function}: its condition said no"),
                End::ConditionFailed(failure) => {
                    let Failure { code, message, .. } = failure;
                    tracing::error!("Cron job {id} → {function} was not run, its condition failed: {code}: {message}");
                }
                End::Ran(Err(failure)) => {
                    let Failure { code, message, .. } = failure;
                    tracing::error!(
                        "Cron job execution failed: {id} → {function} after {took_ms} ms: {code}: {message}"
                    );
                }
            }
        }
    }

    fn locked(&mut self, LockAnswer { run, outcome }: LockAnswer, host: &mut dyn Host) {
        let Some(running) = self.runs.get(&run) else { return };
        let id = &running.start.plan.target.binding.id;
        match outcome {
            Ok(true) => return self.fire(run, host),
            Ok(false) => tracing::debug!("Cron job {id}: another engine has this tick"),
            Err(error) => match self.settings.on_lock_error {
                OnLockError::Run => {
                    tracing::error!("Cron job {id} runs without its lock: {error}");
                    return self.fire(run, host);
                }
                OnLockError::Skip => tracing::error!("Cron job {id} is left out, its lock can't be had: {error}"),
            },
        }
        if let Some(running) = self.runs.remove(&run) {
            self.jobs.ended(running.start.identity, run);
        }
    }

    fn add(&mut self, plan: Plan, host: &mut dyn Host) {
        if self.jobs.is_idle() {
            // Nobody looked while there was nothing to do.
            self.clock.observe(host.now());
        }
        self.jobs.add(plan, &self.clock, Self::now_s(host));
    }
}

impl BuiltIn for Cron {
    fn call(&mut self, call: Call, host: &mut dyn Host) {
        host.answer(call.id, Err(&Failure::new("function_not_found", "iii-cron has no functions")));
    }

    fn answer(&mut self, token: Token, outcome: Outcome, host: &mut dyn Host) {
        if self.firing.answer(host, token, outcome).is_ok() {
            self.take_ended(host);
        }
    }

    fn trigger_added(&mut self, trigger: Arc<Binding>, host: &mut dyn Host) {
        let Ok(plan) = Plan::read(trigger, self.settings.weekday_numbering) else { return };
        if host.home_of(plan.identity.as_u64_pair().0) != host.shard() {
            return;
        }
        if self.locks.is_none() && !std::mem::replace(&mut self.warned, true) {
            tracing::warn!("KvCronAdapter uses process-local locks; cron jobs may run on every engine instance");
        }
        let binding = &plan.target.binding;
        tracing::info!("[REGISTERED] Cron job {} ({}) → {}", binding.id, plan.text, binding.function_id);
        self.describe(&plan, Self::now_s(host));
        if self.settings.enabled {
            self.add(plan, host);
            self.set_timer(host);
        }
    }

    fn trigger_removed(&mut self, trigger: &Binding, host: &mut dyn Host) {
        let Some((plan, abandoned)) = self.jobs.remove(&trigger.id) else { return };
        // Gives the run's locks back; the call itself goes on.
        abandoned.and_then(|run| self.runs.remove(&run));
        tracing::info!("[UNREGISTERED] Cron job {} → {}", trigger.id, plan.target.binding.function_id);
        self.set_timer(host);
    }

    fn message(&mut self, message: Box<dyn Any + Send>, host: &mut dyn Host) {
        if let Ok(answer) = message.downcast::<LockAnswer>() {
            self.locked(*answer, host);
        }
    }

    fn timer(&mut self, host: &mut dyn Host) {
        self.look(host);
    }

    fn stop(&mut self, _: &mut dyn Host) {
        self.runs.clear();
    }
}

impl Cron {
    fn describe(&self, plan: &Plan, now_s: i64) {
        let id = &plan.target.binding.id;
        if let Some(zone) = &plan.unknown_zone {
            tracing::warn!("Cron job {id}: no time zone is called '{zone}'; UTC is used");
        }
        let ticks = std::iter::successors(plan.schedule.next(now_s), |tick_s| plan.schedule.next(*tick_s));
        let ticks: Vec<String> = ticks.take(TICKS_SHOWN).map(rfc3339).collect();
        let expression = plan.schedule.expression();
        let weekdays = match expression.numbered_weekdays {
            true => format!(", on {}", expression.weekday_names()),
            false => String::new(),
        };
        match ticks.is_empty() {
            true => tracing::warn!("Cron job {id} never fires: no time to come matches '{}'", plan.text),
            false => tracing::info!("Cron job {id} fires next at {}{weekdays}", ticks.join(", ")),
        }
    }
}

/// The context of a new trace.
fn new_trace(host: &mut dyn Host) -> String {
    let (trace, span): (Uuid, Uuid) = (host.new_uuid(), host.new_uuid());
    format!("00-{}-{:016x}-01", trace.simple(), span.as_u64_pair().1)
}

#[cfg(test)]
mod tests;
