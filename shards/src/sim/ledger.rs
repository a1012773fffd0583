//! What must hold: a record of every call and registration that scripted workers made, held against everything the
//! engine writes, at the moment it writes it.
//!
//! One answer per tracked call and none for a void one; an answer carries what the provider of that very call said;
//! a provider sees the calls of one caller in the order they were made; what is owed at the end has been given.

use super::world::World;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// Namespaces in use; the first is the default one.
pub const NAMESPACES: [&str; 2] = ["default", "blue"];
/// Functions that workers share.
pub const FUNCTIONS: usize = 6;

/// The id of a shared function.
pub fn function_id(index: usize) -> String {
    format!("svc::f{index}")
}

/// What a call is aimed at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A shared function: namespace and number.
    Shared(usize, usize),
    /// A function nobody has.
    Unknown,
    /// A function of the engine.
    Engine,
    /// The message lacks its function.
    Malformed,
}

/// A call that was sent.
#[derive(Debug)]
pub struct Call {
    /// Link it was sent on.
    pub caller: usize,
    /// Its invocation id.
    pub id: Uuid,
    /// No other call has this id.
    pub unique: bool,
    /// An answer is due.
    pub tracked: bool,
    /// What it calls.
    pub target: Target,
    /// Its caller has registered the function itself and not announced itself, so the call may be parked (PROTO-43).
    pub parked: bool,
    /// Link it was given to.
    pub delivered: Option<usize>,
    /// The provider has answered it.
    pub answered_by_provider: bool,
    /// Answers that the engine has written.
    pub answers: u32,
    /// Code of the last of them, if it was an error.
    pub code: Option<String>,
}

/// What is known of a link.
#[derive(Debug, Default)]
pub struct LinkFacts {
    /// The worker behind it, across reconnects.
    pub actor: usize,
    /// From the engine's greeting.
    pub identity: Option<(String, String)>,
    /// Namespace it has announced.
    pub announced: Option<usize>,
    /// Functions it has now.
    pub functions: BTreeSet<usize>,
    /// Functions it has ever had.
    pub ever: BTreeSet<usize>,
    /// Link that continues it.
    pub successor: Option<usize>,
    /// Where in what that link sends it says so.
    pub claimed_at: u64,
    /// Its calls need not be answered: it may not have come back in time.
    pub excused: bool,
}

/// The record.
#[derive(Default)]
pub struct Ledger {
    /// Every call; its number is in its payload.
    pub calls: Vec<Call>,
    /// Every link, as [`super::world::World::links`].
    pub links: Vec<LinkFacts>,
    by_id: BTreeMap<(usize, Uuid), Vec<usize>>,
    order: BTreeMap<(usize, usize), usize>,
    /// Result payloads and codes by kind, for the curious.
    pub tally: BTreeMap<String, u64>,
}

impl Ledger {
    /// A worker makes a call. Returns its number.
    pub fn called(&mut self, call: Call) -> usize {
        let number = self.calls.len();
        self.by_id.entry((self.links[call.caller].actor, call.id)).or_default().push(number);
        self.calls.push(call);
        number
    }

    /// Whether the worker behind a link has used an invocation id on another link: answers to both calls may come on
    /// one link, and no worker could tell them apart.
    pub fn has_used_elsewhere(&self, link: usize, id: Uuid) -> bool {
        let used = self.by_id.get(&(self.links[link].actor, id));
        used.is_some_and(|calls| calls.iter().any(|number| self.calls[*number].caller != link))
    }

    /// The engine has written a message on a link.
    pub fn written(&mut self, link: usize, message: &Value, world: &World) -> Result<(), String> {
        let kind = message["type"].as_str().unwrap_or("");
        match kind {
            "workerregistered" => {
                let text = |name: &str| message[name].as_str().unwrap_or("").to_owned();
                self.links[link].identity = Some((text("worker_id"), text("reattach_token")));
                Ok(())
            }
            "invokefunction" => self.delivered(link, message, world),
            "invocationresult" => self.answered(link, message),
            "registrationrejected" | "pong" => Ok(()),
            other => Err(format!("link {link} was sent a {other:?}")),
        }
        .map_err(|problem| format!("{problem}: {message}"))
    }

    fn delivered(&mut self, link: usize, message: &Value, world: &World) -> Result<(), String> {
        let data = &message["data"];
        let number = data.get("call").or(data.get(0)).and_then(Value::as_u64).ok_or("a call nobody made")? as usize;
        let call = self.calls.get_mut(number).ok_or("a call nobody made")?;
        let Target::Shared(namespace, function) = call.target else {
            return Err(format!("call {number} to {:?} was delivered", call.target));
        };
        if message["function_id"] != function_id(function) {
            return Err(format!("call {number} was for {}", function_id(function)));
        }
        if let Some(first) = call.delivered.replace(link) {
            return Err(format!("call {number} was delivered before, to link {first}"));
        }
        let parked = call.parked;
        let orphaned = world.links[call.caller].lost_ms.is_some();
        let facts = &self.links[link];
        if !facts.ever.contains(&function) {
            return Err(format!("call {number}: link {link} never registered function {function}"));
        }
        if namespace != 0 && facts.announced != Some(namespace) {
            return Err(format!("call {number}: link {link} is not in namespace {}", NAMESPACES[namespace]));
        }
        if call.tracked != message.get("invocation_id").is_some() {
            return Err(format!("call {number}: tracked is {}", call.tracked));
        }
        let caller_id = self.links[call.caller].identity.as_ref().map(|(id, _)| id.as_str());
        // The greeting may be written after the call, in the same turn.
        if data.is_object() && caller_id.is_some() && data["_caller_worker_id"].as_str() != caller_id {
            return Err(format!("call {number}: the caller is {caller_id:?}"));
        }
        let late = world.bounced.iter().any(|data| {
            serde_json::from_slice::<Value>(data)
                .ok()
                .and_then(|data| data.get("call").or(data.get(0)).and_then(Value::as_u64))
                == Some(number as u64)
        });
        // A call that a provider's home sent back, that was parked, or whose caller left, has lost its place.
        if !late
            && !parked
            && !orphaned
            && let Some(before) = self.order.insert((call.caller, link), number)
            && before > number
        {
            return Err(format!("call {number} came after call {before} of the same caller"));
        }
        Ok(())
    }

    fn answered(&mut self, link: usize, message: &Value) -> Result<(), String> {
        let id = message["invocation_id"].as_str().and_then(|id| Uuid::try_parse(id).ok()).ok_or("no id")?;
        let actor = self.links[link].actor;
        let candidates = self.by_id.get(&(actor, id)).ok_or("an answer to a call this worker did not make")?;
        let code = message["error"]["code"].as_str();
        let said = message["result"]["answer"].as_u64().or_else(|| match code {
            Some("worker_error") => message["error"]["message"].as_str()?.parse().ok(),
            _ => None,
        });
        let open = |number: &&usize| {
            let call = &self.calls[**number];
            let about = message["function_id"].as_str().unwrap_or("");
            let fits = match call.target {
                Target::Shared(_, function) => about == function_id(function),
                Target::Unknown => about == "svc::nobody",
                Target::Engine => about.starts_with("engine::"),
                Target::Malformed => true,
            };
            fits && call.tracked
                && call.answers == 0
                && self.continues(call.caller, link)
                && (code == Some("invalid_message")) == (call.target == Target::Malformed)
        };
        let number = match (said, code) {
            (Some(said), _) => said as usize,
            // Of two calls of one id it is the later one that is refused.
            (None, Some("invocation_error")) => *candidates.iter().rfind(open).ok_or("answered before")?,
            _ => *candidates.iter().find(open).ok_or("answered before")?,
        };
        if !candidates.contains(&number) {
            return Err(format!("the answer belongs to call {number}"));
        }
        *self.tally.entry(code.unwrap_or("result").to_owned()).or_default() += 1;
        let call = &mut self.calls[number];
        call.answers += 1;
        call.code = code.map(str::to_owned);
        if !call.tracked || call.answers > 1 {
            return Err(format!("call {number} (tracked: {}) has {} answers", call.tracked, call.answers));
        }
        let fits = match (call.target, code) {
            (Target::Engine, _) => true,
            (Target::Unknown, code) => {
                matches!(code, Some("function_not_found" | "invocation_error" | "invocation_timeout"))
            }
            (Target::Malformed, code) => code == Some("invalid_message"),
            (Target::Shared(..), None) => said.is_some(),
            (Target::Shared(..), Some(code)) => {
                matches!(
                    code,
                    "worker_error"
                        | "function_not_found"
                        | "invocation_stopped"
                        | "invocation_error"
                        | "invocation_timeout"
                        | "worker_overloaded"
                )
            }
        };
        if !fits {
            return Err(format!("call {number} to {:?} cannot end like this", call.target));
        }
        if said.is_some() && !(call.answered_by_provider && call.delivered.is_some()) {
            return Err(format!("call {number} has not been answered by its provider"));
        }
        let caller = call.caller;
        if !self.continues(caller, link) {
            return Err(format!("call {number} was made on link {caller}, not on link {link}"));
        }
        Ok(())
    }

    /// Whether `later` is `link` or continues it.
    fn continues(&self, link: usize, later: usize) -> bool {
        let next = |link: &usize| self.links[*link].successor;
        std::iter::successors(Some(link), next).any(|link| link == later)
    }

    /// Calls that should have been answered by now. `alive` tells whether a link is.
    pub fn owed(&self, alive: impl Fn(usize) -> bool) -> Vec<usize> {
        let owed = |call: &Call| {
            if !call.tracked || call.answers > 0 {
                return false;
            }
            let mut link = call.caller;
            if alive(link) {
                return true;
            }
            // Of a call that was cut off with its link only one that reached a provider is sure to have been heard.
            while let Some(next) = self.links[link].successor {
                if self.links[link].excused {
                    return false;
                }
                link = next;
                if alive(link) {
                    return call.delivered.is_some();
                }
            }
            false
        };
        (0..self.calls.len()).filter(|number| owed(&self.calls[*number])).collect()
    }
}
