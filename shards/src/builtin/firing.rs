//! Firing triggers: the condition first, if the trigger has one, then the function.
//!
//! A built-in worker keeps one [`Firing`] per instance, gives it every answer that comes in, and learns through
//! [`Firing::poll_ended`] how each fire ended, under the tag it chose. Fires of one trigger may be kept in order: then
//! a slow condition holds back later fires of that trigger, and of no other.
//!
//! Deliberately absent: limits and giving up. Every call ends sooner or later, so every fire does; a worker bounds
//! what it has under way, and ignores the end of what it has no use for any more.

use super::{Failure, Host, Outcome, OutgoingCall, Token};
use crate::control::triggers::Binding;
use crate::ids::ConnectionId;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

/// A trigger and what its configuration says about its condition, read once.
#[derive(Debug, Clone)]
pub struct Target {
    /// The trigger.
    pub binding: Arc<Binding>,
    /// Function that is asked first, in the namespace of the function that runs.
    pub condition: Option<Rc<str>>,
}

impl Target {
    /// Reads `condition_function_id`. Anything but a string with something in it means that there is no condition.
    pub fn new(binding: Arc<Binding>) -> Target {
        let config: serde_json::Value = serde_json::from_slice(&binding.config).unwrap_or_default();
        let condition = config.get("condition_function_id").and_then(|id| id.as_str()).filter(|id| !id.is_empty());
        Target { condition: condition.map(Rc::from), binding }
    }
}

/// What a condition said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Run the function. Anything but `false` says so: `null`, `0`, `"false"` and no result too.
    Yes,
    /// The JSON value `false`: do not run it.
    No,
    /// The condition failed or does not exist: do not run it.
    Failed(Failure),
}

/// Reads the answer of a condition.
pub fn verdict(outcome: Outcome) -> Verdict {
    match outcome {
        Ok(result) if result.trim_ascii() == b"false" => Verdict::No,
        Ok(_) => Verdict::Yes,
        Err(failure) => Verdict::Failed(failure),
    }
}

/// What the function is called with, beside the trigger's metadata.
#[derive(Debug, Clone)]
pub struct Run<'a> {
    /// Payload, of the condition too: one complete JSON value.
    pub data: &'a Rc<[u8]>,
    /// W3C trace context.
    pub traceparent: Option<&'a str>,
    /// W3C baggage.
    pub baggage: Option<&'a str>,
    /// Connection that runs the function if it provides it.
    pub prefer: Option<ConnectionId>,
    /// Limit of each call in milliseconds; `None` = the engine's.
    pub timeout_ms: Option<u64>,
    /// Whether the function's answer is waited for.
    pub tracked: bool,
    /// Whether fires of this trigger reach the function in the order of [`Firing::fire`].
    pub ordered: bool,
}

impl<'a> Run<'a> {
    /// A run that is waited for, in no particular order, without trace.
    pub fn new(data: &'a Rc<[u8]>) -> Run<'a> {
        let (traceparent, baggage, prefer, timeout_ms) = (None, None, None, None);
        Run { data, traceparent, baggage, prefer, timeout_ms, tracked: true, ordered: false }
    }
}

/// How a fire ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The condition said no.
    Skipped,
    /// The condition failed or is missing; the function was not called.
    ConditionFailed(Failure),
    /// The function was called; nobody waits for its answer.
    Sent,
    /// The function has answered.
    Ran(Outcome),
}

/// The fires of one instance that are under way. `T` is how the worker knows them.
pub struct Firing<T> {
    calls: HashMap<Token, Stage<T>>,
    /// Ordered fires whose turn has not come, by trigger; tokens count up.
    lanes: HashMap<Arc<str>, VecDeque<Waiting<T>>>,
    ended: VecDeque<(T, End)>,
}

enum Stage<T> {
    /// The condition is asked; nothing waits for it but this fire.
    Condition(Box<Held<T>>),
    /// The condition is asked for a fire in this lane.
    InLane(Arc<str>),
    /// The function runs.
    Function(T),
}

/// A fire in a lane: `Err` = its condition has not answered yet.
struct Waiting<T> {
    condition: Result<Verdict, Token>,
    held: Held<T>,
}

/// All that the function will be called with.
struct Held<T> {
    tag: T,
    binding: Arc<Binding>,
    data: Rc<[u8]>,
    traceparent: Option<Box<str>>,
    baggage: Option<Box<str>>,
    prefer: Option<ConnectionId>,
    timeout_ms: Option<u64>,
    tracked: bool,
}

impl<T> Default for Firing<T> {
    fn default() -> Self {
        Firing { calls: HashMap::new(), lanes: HashMap::new(), ended: VecDeque::new() }
    }
}

impl<T> Firing<T> {
    /// Fires a trigger. How it ends comes from [`Firing::poll_ended`], at once for a run without condition that
    /// nobody waits for.
    pub fn fire(&mut self, host: &mut dyn Host, target: &Target, run: &Run<'_>, tag: T) {
        let lane = run.ordered.then_some(&target.binding.id);
        if target.condition.is_none() && !lane.is_some_and(|id| self.lanes.contains_key(id)) {
            return self.run(host, &outgoing(&target.binding, run), run.tracked, tag);
        }
        let held = Held {
            tag,
            binding: target.binding.clone(),
            data: run.data.clone(),
            traceparent: run.traceparent.map(Box::from),
            baggage: run.baggage.map(Box::from),
            prefer: run.prefer,
            timeout_ms: run.timeout_ms,
            tracked: run.tracked,
        };
        let asked = target.condition.as_deref().map(|function_id| {
            host.call(&OutgoingCall { function_id, metadata: None, prefer: None, ..outgoing(&target.binding, run) })
        });
        if let Some(id) = lane {
            if let Some(token) = asked {
                self.calls.insert(token, Stage::InLane(id.clone()));
            }
            let condition = asked.map_or(Ok(Verdict::Yes), Err);
            self.lanes.entry(id.clone()).or_default().push_back(Waiting { condition, held });
        } else if let Some(token) = asked {
            self.calls.insert(token, Stage::Condition(Box::new(held)));
        }
    }

    /// Takes an answer; gives it back if the call was not made here.
    pub fn answer(&mut self, host: &mut dyn Host, token: Token, outcome: Outcome) -> Result<(), Outcome> {
        match self.calls.remove(&token) {
            None => return Err(outcome),
            Some(Stage::Function(tag)) => self.ended.push_back((tag, End::Ran(outcome))),
            Some(Stage::Condition(held)) => self.decide(host, *held, verdict(outcome)),
            Some(Stage::InLane(id)) => self.decide_lane(host, &id, token, verdict(outcome)),
        }
        Ok(())
    }

    /// The next fire that has ended.
    pub fn poll_ended(&mut self) -> Option<(T, End)> {
        self.ended.pop_front()
    }

    /// Number of fires that have not ended.
    pub fn under_way(&self) -> usize {
        let without_condition = |lane: &VecDeque<Waiting<T>>| lane.iter().filter(|w| w.condition.is_ok()).count();
        self.calls.len() + self.lanes.values().map(without_condition).sum::<usize>()
    }

    fn decide_lane(&mut self, host: &mut dyn Host, id: &Arc<str>, token: Token, verdict: Verdict) {
        let Some(mut lane) = self.lanes.remove(id) else { return };
        if let Some(waiting) = lane.iter_mut().find(|waiting| waiting.condition == Err(token)) {
            waiting.condition = Ok(verdict);
        }
        while let Some(waiting) = lane.pop_front() {
            match waiting.condition {
                Ok(verdict) => self.decide(host, waiting.held, verdict),
                Err(_) => {
                    lane.push_front(waiting);
                    self.lanes.insert(id.clone(), lane);
                    return;
                }
            }
        }
    }

    fn decide(&mut self, host: &mut dyn Host, held: Held<T>, verdict: Verdict) {
        match verdict {
            Verdict::No => self.ended.push_back((held.tag, End::Skipped)),
            Verdict::Failed(failure) => self.ended.push_back((held.tag, End::ConditionFailed(failure))),
            Verdict::Yes => {
                let run = Run {
                    data: &held.data,
                    traceparent: held.traceparent.as_deref(),
                    baggage: held.baggage.as_deref(),
                    prefer: held.prefer,
                    timeout_ms: held.timeout_ms,
                    tracked: held.tracked,
                    ordered: false,
                };
                self.run(host, &outgoing(&held.binding, &run), held.tracked, held.tag);
            }
        }
    }

    fn run(&mut self, host: &mut dyn Host, call: &OutgoingCall<'_>, tracked: bool, tag: T) {
        if tracked {
            let token = host.call(call);
            self.calls.insert(token, Stage::Function(tag));
        } else {
            host.call_void(call);
            self.ended.push_back((tag, End::Sent));
        }
    }
}

/// The call of the trigger's function.
fn outgoing<'a>(binding: &'a Binding, run: &Run<'a>) -> OutgoingCall<'a> {
    OutgoingCall {
        metadata: binding.metadata.as_deref(),
        traceparent: run.traceparent,
        baggage: run.baggage,
        prefer: run.prefer,
        timeout_ms: run.timeout_ms,
        ..OutgoingCall::new(&binding.namespace, &binding.function_id, run.data)
    }
}

#[cfg(test)]
#[path = "firing_tests.rs"]
mod tests;
