//! Many scripted workers at once on a machine where everything that may go wrong does.
//!
//! A run has three parts: a random schedule; a calm in which everything is delivered and answered, so that what is
//! owed can be counted and every function can be tried; and the departure of all, after which nothing may be left.

use super::client::{Heard, upgrade_request, write_frame};
use super::dice::Dice;
use super::ledger::{Call, FUNCTIONS, Ledger, LinkFacts, NAMESPACES, Target, function_id};
use super::world::World;
use crate::settings::{DuplicateFunctions, Settings, WorkerNames};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// Rounds after which a machine that should have come to rest counts as stuck.
const ROUNDS_MAX: usize = 5_000;

/// What a run is made of.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Data shards.
    pub shards: usize,
    /// Everything else follows from it.
    pub seed: u64,
    /// Steps of the random part.
    pub steps: usize,
}

/// What a run did, for those who want to see that it did something.
#[derive(Debug, Default, Clone)]
pub struct Summary {
    /// Answers by kind.
    pub tally: BTreeMap<String, u64>,
    /// Calls made.
    pub calls: u64,
    /// Links opened.
    pub links: u64,
}

/// A call that a worker is running.
struct Held {
    key: Uuid,
    number: usize,
}

#[derive(Default)]
struct Client {
    open: bool,
    held: Vec<Held>,
    /// Ids it has answered.
    done: Vec<Uuid>,
    /// Reads seldom.
    slow: bool,
}

struct Swarm {
    dice: Dice,
    world: World,
    ledger: Ledger,
    clients: Vec<Client>,
    /// Current link of each actor.
    actors: Vec<Option<usize>>,
    settings: Settings,
    /// Actors tell name and pid, so that their links are known as one process.
    named: bool,
    /// Payloads are padded.
    heavy: bool,
    /// Functions that two links of one actor have had at once: the newer one replaced the older.
    replaced: BTreeSet<(usize, usize)>,
    calm: bool,
}

/// Runs one seed. `Err` = what went wrong.
pub fn run(plan: Plan) -> Result<Summary, String> {
    let mut swarm = Swarm::new(plan);
    swarm.storm(plan.steps)?;
    swarm.settle_and_check()?;
    swarm.depart()?;
    Ok(Summary {
        tally: swarm.ledger.tally,
        calls: swarm.ledger.calls.len() as u64,
        links: swarm.world.links.len() as u64,
    })
}

impl Swarm {
    fn new(plan: Plan) -> Swarm {
        let mut dice = Dice::seeded(plan.seed);
        let duplicate_functions = match dice.below(4) {
            0 => DuplicateFunctions::Takeover,
            1 => DuplicateFunctions::Reject,
            _ => DuplicateFunctions::Balance,
        };
        let heavy = dice.chance(25);
        let settings = Settings {
            shards: plan.shards,
            duplicate_functions,
            worker_names: if dice.chance(20) { WorkerNames::Exclusive } else { WorkerNames::Shared },
            max_invocation_ms: if dice.chance(15) { 400 } else { 0 },
            outbox_bytes_max: if heavy { 8 << 10 } else { 64 << 20 },
            ..Settings::default()
        };
        let mut world = World::new(settings.clone(), plan.seed);
        world.ring_slots = 1 + dice.below(4);
        world.window_bytes = if heavy { 2 << 10 } else { 64 << 10 };
        let actors = vec![None; 2 + dice.below(5)];
        let named = dice.chance(40);
        Swarm {
            dice,
            world,
            ledger: Ledger::default(),
            clients: Vec::new(),
            actors,
            settings,
            named,
            heavy,
            replaced: BTreeSet::new(),
            calm: false,
        }
    }

    // === the storm ===

    fn storm(&mut self, steps: usize) -> Result<(), String> {
        for _ in 0..steps {
            match self.dice.below(100) {
                0..40 => {
                    let index = self.dice.below(self.world.shard_count() + 1);
                    self.world.turn(index, &mut self.dice);
                    self.check()?;
                }
                40..70 => {
                    let actor = self.dice.below(self.actors.len());
                    self.act(actor);
                }
                70..96 => self.some_client_reads(),
                96..99 => self.world.pass(1 + self.dice.below(40) as u64),
                _ if self.dice.chance(20) => self.jump(),
                _ => {}
            }
        }
        Ok(())
    }

    /// A long time passes at once. Who was away may have missed the time to come back.
    fn jump(&mut self) {
        for (facts, link) in self.ledger.links.iter_mut().zip(&self.world.links) {
            facts.excused |= link.lost_ms.is_some() || facts.successor.is_some();
        }
        self.world.pass(1_000 + self.dice.below(30_000) as u64);
    }

    fn check(&mut self) -> Result<(), String> {
        if let Some(problem) = self.world.broken() {
            return Err(problem.to_owned());
        }
        for (link, heard) in std::mem::take(&mut self.world.written) {
            if let Heard::Message(message) = heard {
                self.ledger.written(link, &message, &self.world)?;
            }
        }
        Ok(())
    }

    fn alive(&self, link: usize) -> bool {
        self.clients[link].open && self.world.links[link].lost_ms.is_none()
    }

    // === what workers hear ===

    fn some_client_reads(&mut self) {
        if self.clients.is_empty() {
            return;
        }
        let link = self.dice.below(self.clients.len());
        if self.clients[link].slow && !self.dice.chance(10) {
            return;
        }
        let bytes_max = self.dice.part(self.world.readable(link));
        self.read(link, bytes_max);
    }

    fn read(&mut self, link: usize, bytes_max: usize) {
        for heard in self.world.read(link, bytes_max) {
            match heard {
                Heard::Message(message) if message["type"] == "invokefunction" => self.take_call(link, &message),
                Heard::Ping(payload) => self.say_frame(link, 0x8A, &payload),
                Heard::Message(_) | Heard::Http(_) | Heard::Pong(_) | Heard::Close(_) => {}
            }
        }
        if self.world.at_end(link) {
            self.clients[link].open = false;
            self.world.end(link);
        }
    }

    fn take_call(&mut self, link: usize, message: &Value) {
        let key = message["invocation_id"].as_str().and_then(|id| Uuid::try_parse(id).ok());
        let data = &message["data"];
        let number = data.get("call").or(data.get(0)).and_then(Value::as_u64);
        if let (Some(key), Some(number)) = (key, number) {
            self.clients[link].held.push(Held { key, number: number as usize });
        }
    }

    // === what workers do ===

    fn act(&mut self, actor: usize) {
        let Some(link) = self.actors[actor].filter(|link| self.clients[*link].open) else {
            return self.connect(actor);
        };
        match self.dice.below(100) {
            0..14 => self.register(link),
            14..18 => self.unregister(link),
            18..28 => self.announce(link),
            28..58 => self.call(link),
            58..84 => self.answer_one(link),
            84..87 => self.answer_wrongly(link),
            87..89 => self.say_garbage(link),
            89..93 => self.leave(link),
            93..96 => self.connect(actor),
            _ => {
                let slow = self.heavy && self.dice.chance(50);
                self.clients[link].slow = slow;
            }
        }
    }

    /// A new link, which may continue the one before. That one may still be open.
    fn connect(&mut self, actor: usize) {
        let shard = self.dice.below(self.world.shard_count());
        let before = self.actors[actor];
        let link = self.open(actor, shard);
        let Some(before) = before else { return };
        if self.clients[before].open && self.dice.chance(50) {
            self.leave(before);
        }
        let Some((id, token)) = self.ledger.links[before].identity.clone() else { return };
        if self.dice.chance(70) {
            let token = if self.dice.chance(5) { id.clone() } else { token.clone() };
            let right = token == self.ledger.links[before].identity.as_ref().map_or("", |(_, token)| token);
            self.say(link, &format!(r#"{{"type":"reattach","previous_worker_id":"{id}","reattach_token":"{token}"}}"#));
            if right {
                let facts = &mut self.ledger.links[before];
                facts.successor = Some(link);
                facts.claimed_at = self.world.said(link);
            }
        }
    }

    fn open(&mut self, actor: usize, shard: usize) -> usize {
        let link = self.world.connect(shard);
        self.ledger.links.push(LinkFacts { actor, ..LinkFacts::default() });
        self.clients.push(Client { open: true, ..Client::default() });
        if let Some(current) = self.actors.get_mut(actor) {
            *current = Some(link);
        }
        self.world.send(link, &upgrade_request("/"));
        link
    }

    fn leave(&mut self, link: usize) {
        self.clients[link].open = false;
        match self.dice.below(3) {
            0 => {
                self.say_frame(link, 0x88, &1000u16.to_be_bytes());
                self.world.end(link);
            }
            1 => self.world.end(link),
            _ => self.world.reset(link),
        }
    }

    fn announce(&mut self, link: usize) {
        let namespace = self.dice.below(NAMESPACES.len());
        let facts = &mut self.ledger.links[link];
        let actor = facts.actor;
        let repeated = facts.announced.is_some();
        let namespace = *facts.announced.get_or_insert(namespace);
        let name = NAMESPACES[if repeated { 1 - namespace } else { namespace }];
        let who = if self.named {
            // Some share a name, which matters where names are exclusive.
            format!(r#","name":"w{}","pid":{actor},"version":"0.25.0""#, actor / 2)
        } else {
            String::new()
        };
        let action = if self.dice.chance(70) { r#","action":{"type":"void"}"# } else { "" };
        self.say(
            link,
            &format!(
                r#"{{"type":"invokefunction","function_id":"engine::workers::register","data":{{"namespace":"{name}"{who}}}{action}}}"#
            ),
        );
    }

    fn register(&mut self, link: usize) {
        let function = self.dice.below(FUNCTIONS);
        let actor = self.ledger.links[link].actor;
        let twin = (0..self.clients.len())
            .filter(|other| *other != link)
            .any(|other| self.ledger.links[other].actor == actor && self.ledger.links[other].ever.contains(&function));
        if twin {
            self.replaced.insert((actor, function));
        }
        let facts = &mut self.ledger.links[link];
        facts.functions.insert(function);
        facts.ever.insert(function);
        self.say(link, &format!(r#"{{"type":"registerfunction","id":"{}"}}"#, function_id(function)));
    }

    fn unregister(&mut self, link: usize) {
        let function = self.dice.below(FUNCTIONS);
        self.ledger.links[link].functions.remove(&function);
        self.say(link, &format!(r#"{{"type":"unregisterfunction","id":"{}"}}"#, function_id(function)));
    }

    fn call(&mut self, link: usize) {
        let target = match self.dice.below(20) {
            0 => Target::Unknown,
            1 => Target::Engine,
            2 => Target::Malformed,
            _ => Target::Shared(self.dice.below(NAMESPACES.len()), self.dice.below(FUNCTIONS)),
        };
        self.call_target(link, target);
    }

    fn call_target(&mut self, link: usize, target: Target) -> usize {
        let tracked = target == Target::Malformed || !self.dice.chance(20);
        let mut id = Uuid::from_u128(self.dice.bits() | 1);
        if self.calm {
            id = Uuid::from_u128(0xCA1_u128 << 64 | self.ledger.calls.len() as u128);
        }
        let mut unique = true;
        if self.dice.chance(8) && !self.ledger.calls.is_empty() {
            // Somebody else's id, or one of its own again.
            let other = self.dice.below(self.ledger.calls.len());
            // A call that the engine has given up on may be answered after all: its id must not mean another by then.
            let expires = self.settings.max_invocation_ms > 0 && self.ledger.calls[other].caller == link;
            let confusing = expires || self.ledger.has_used_elsewhere(link, self.ledger.calls[other].id);
            let other = &mut self.ledger.calls[other];
            let actor = |link: usize| self.ledger.links[link].actor;
            if !confusing && (other.caller == link || actor(other.caller) != actor(link)) {
                id = other.id;
                other.unique = false;
                unique = false;
            }
        }
        let facts = &self.ledger.links[link];
        let own = matches!(target, Target::Shared(_, function) if facts.ever.contains(&function));
        let number = self.ledger.called(Call {
            parked: own && facts.announced.is_none(),
            caller: link,
            id,
            unique,
            tracked,
            target,
            delivered: None,
            answered_by_provider: false,
            answers: 0,
            code: None,
        });
        let pad = if self.heavy { "x".repeat(self.dice.below(4000)) } else { String::new() };
        let data = match self.dice.below(4) {
            1 => format!("[{number}]"),
            2 => format!(r#"{{"call":{number},"_caller_worker_id":"forged","pad":"{pad}"}}"#),
            _ => format!(r#"{{"call":{number},"pad":"{pad}"}}"#),
        };
        let function = match target {
            Target::Shared(namespace, function) => {
                let id = function_id(function);
                format!(r#","function_id":"{id}","namespace":"{}""#, NAMESPACES[namespace])
            }
            Target::Unknown => r#","function_id":"svc::nobody""#.to_owned(),
            Target::Engine if self.dice.chance(50) => r#","function_id":"engine::functions::list""#.to_owned(),
            Target::Engine => r#","function_id":"engine::workers::list""#.to_owned(),
            Target::Malformed => String::new(),
        };
        let data = if target == Target::Engine { "{}".to_owned() } else { data };
        let invocation = match (tracked, self.dice.below(2)) {
            (true, _) => format!(r#","invocation_id":"{id}""#),
            (false, 0) => format!(r#","invocation_id":"{id}","action":{{"type":"void"}}"#),
            (false, _) => String::new(),
        };
        self.say(link, &format!(r#"{{"type":"invokefunction"{invocation}{function},"data":{data}}}"#));
        number
    }

    fn answer_one(&mut self, link: usize) {
        if self.clients[link].held.is_empty() {
            return;
        }
        let index = self.dice.below(self.clients[link].held.len());
        let held = self.clients[link].held.swap_remove(index);
        self.answer(link, &held);
    }

    fn answer(&mut self, link: usize, held: &Held) {
        let Held { key, number } = *held;
        let call = &mut self.ledger.calls[number];
        call.answered_by_provider = true;
        if call.unique {
            self.clients[link].done.push(key);
        }
        let outcome = if self.dice.chance(15) {
            format!(r#""error":{{"code":"worker_error","message":"{number}"}}"#)
        } else {
            format!(r#""result":{{"answer":{number}}}"#)
        };
        self.say(
            link,
            &format!(r#"{{"type":"invocationresult","invocation_id":"{key}","function_id":"f",{outcome}}}"#),
        );
    }

    /// An answer to what it does not hold: answered before, held by another, or made up.
    fn answer_wrongly(&mut self, link: usize) {
        let other = self.dice.below(self.clients.len());
        let key = match self.dice.below(3) {
            0 if !self.clients[link].done.is_empty() => self.clients[link].done[0],
            1 if other != link => {
                let unique = |held: &&Held| self.ledger.calls[held.number].unique;
                let Some(held) = self.clients[other].held.iter().find(unique) else { return };
                // From now on nobody may use this id again, or the forger could come to hold it.
                held.key
            }
            _ => Uuid::from_u128(self.dice.bits()),
        };
        for call in self.ledger.calls.iter().filter(|call| call.id == key) {
            if !call.unique {
                return;
            }
        }
        self.say(link, &format!(r#"{{"type":"invocationresult","invocation_id":"{key}","result":{{"forged":1}}}}"#));
    }

    fn say_garbage(&mut self, link: usize) {
        match self.dice.below(6) {
            0 => self.say(link, "{\"type\":"),
            1 => self.say(link, "[]"),
            2 => self.say(link, r#"{"type":"nonsense","id":7}"#),
            3 => self.say_frame(link, 0x89, b"ping"),
            4 => self.say_frame(link, 0x82, b"OTLPtelemetry"),
            _ => {
                // No WebSocket frame at all: the engine must close.
                let bits = self.dice.bits().to_le_bytes();
                self.world.send(link, &[[0xFF].as_slice(), &bits].concat());
            }
        }
    }

    fn say(&mut self, link: usize, text: &str) {
        if self.dice.chance(10) {
            let half = text.len() / 2;
            self.say_frame(link, 0x01, &text.as_bytes()[..half]);
            self.say_frame(link, 0x80, &text.as_bytes()[half..]);
        } else {
            self.say_frame(link, 0x81, text.as_bytes());
        }
    }

    fn say_frame(&mut self, link: usize, first: u8, payload: &[u8]) {
        let mut bytes = Vec::new();
        let mask = (self.dice.bits() as u32).to_le_bytes();
        write_frame(&mut bytes, first, mask, payload);
        self.world.send(link, &bytes);
    }

    // === the calm ===

    /// Everything is delivered and read. Workers answer what they hold if `answer`.
    fn settle(&mut self, answer: bool) -> Result<(), String> {
        for _ in 0..ROUNDS_MAX {
            let before = self.world.work();
            for index in 0..=self.world.shard_count() {
                self.world.turn(index, &mut self.dice);
                self.check()?;
            }
            for link in 0..self.clients.len() {
                self.read(link, usize::MAX);
                if answer && self.clients[link].open {
                    for held in std::mem::take(&mut self.clients[link].held) {
                        self.answer(link, &held);
                    }
                }
            }
            if self.world.work() == before {
                return Ok(());
            }
        }
        Err("the engine does not come to rest".to_owned())
    }

    fn settle_and_check(&mut self) -> Result<(), String> {
        self.dice = Dice::calm();
        self.calm = true;
        self.settle(false)?;
        // Grace periods and lingering sockets end, handovers do not.
        for _ in 0..3 {
            self.world.pass(700);
            self.settle(false)?;
        }
        for facts in &mut self.ledger.links {
            // A reattach may be among what nobody has listened to.
            facts.excused |= facts.successor.is_none_or(|next| self.world.heard(next) < facts.claimed_at);
        }
        self.world.pass(15_000);
        self.settle(false)?;
        self.settle(true)?;
        let owed = self.ledger.owed(|link| self.alive(link));
        if let Some(number) = owed.first() {
            return Err(format!(
                "{} calls are owed an answer, first call {number}: {:?}",
                owed.len(),
                self.ledger.calls[*number]
            ));
        }
        self.probe()
    }

    /// Tries every function from every shard.
    fn probe(&mut self) -> Result<(), String> {
        let mut probes = Vec::new();
        for shard in 0..self.world.shard_count() {
            let link = self.open(usize::MAX - shard, shard);
            for namespace in 0..NAMESPACES.len() {
                for function in 0..FUNCTIONS {
                    probes.push((namespace, function, self.call_target(link, Target::Shared(namespace, function))));
                }
            }
        }
        self.settle(true)?;
        for (namespace, function, number) in probes {
            let call = &self.ledger.calls[number];
            let callable = call.delivered.is_some() && call.answers == 1;
            let expected = self.expected(namespace, function);
            let missing = call.code.as_deref() == Some("function_not_found");
            if (callable, missing) != (true, false) && (callable, missing) != (false, true)
                || expected.is_some_and(|expected| expected != callable)
            {
                return Err(format!(
                    "{}/{} from shard {}: callable should be {expected:?}: {call:?}",
                    NAMESPACES[namespace],
                    function_id(function),
                    self.world.links[call.caller].shard
                ));
            }
        }
        Ok(())
    }

    /// Whether a function must be callable; `None` = depends on who came first at its owner.
    fn expected(&self, namespace: usize, function: usize) -> Option<bool> {
        let lives_in = |link: usize| self.ledger.links[link].announced.unwrap_or(0);
        let links = || (0..self.clients.len()).filter(|link| lives_in(*link) == namespace);
        let live = links().any(|link| self.alive(link) && self.ledger.links[link].functions.contains(&function));
        if !live {
            return Some(false);
        }
        let takers = self.ledger.links.iter().filter(|facts| facts.ever.contains(&function)).count();
        if self.settings.duplicate_functions == DuplicateFunctions::Takeover && takers > 1 {
            return None;
        }
        // One that replaced its own older link and has left since takes the function with it.
        if self.named && self.replaced.iter().any(|(_, replaced)| *replaced == function) {
            return None;
        }
        Some(true)
    }

    // === the end ===

    fn depart(&mut self) -> Result<(), String> {
        for link in 0..self.clients.len() {
            self.clients[link].open = false;
            self.world.reset(link);
        }
        self.settle(false)?;
        while let Some(due) = self.world.next_deadline_ms() {
            self.world.pass(due.saturating_sub(self.world.now_ms()));
            self.settle(false)?;
        }
        for (shard, residue) in self.world.residue().into_iter().enumerate() {
            if residue != crate::shard::Residue::default() {
                return Err(format!("left on shard {shard}: {residue:?}"));
            }
        }
        match self.world.control().worker_count() {
            0 => Ok(()),
            count => Err(format!("control still knows {count} workers")),
        }
    }
}
