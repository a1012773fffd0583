//! One situation at a time: a few workers, spoken for by a test, on a calm machine.

use super::client::{Heard, upgrade_request, write_frame};
use super::dice::Dice;
use super::world::World;
use crate::builtin::Definition;
use crate::settings::Settings;
use serde_json::Value;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

/// Rounds after which a machine that should have come to rest counts as stuck.
const ROUNDS_MAX: usize = 10_000;

/// A worker, by its link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer(pub usize);

/// A machine and what its clients have heard.
pub struct Scenario {
    /// The machine.
    pub world: World,
    dice: Dice,
    heard: BTreeMap<Peer, Vec<Rc<Value>>>,
    closed: BTreeMap<Peer, Option<u16>>,
    silent: Vec<Peer>,
}

impl Scenario {
    /// An engine of `shards` shards with default settings otherwise.
    pub fn new(shards: usize) -> Self {
        Self::with(Settings { shards, ..Settings::default() })
    }

    /// An engine with these settings.
    pub fn with(settings: Settings) -> Self {
        Self::with_built_ins(settings, &[])
    }

    /// An engine with built-in workers.
    pub fn with_built_ins(settings: Settings, built_ins: &[Arc<Definition>]) -> Self {
        Scenario {
            world: World::with_built_ins(settings, 7, built_ins),
            dice: Dice::calm(),
            heard: BTreeMap::new(),
            closed: BTreeMap::new(),
            silent: Vec::new(),
        }
    }

    /// A worker connects to a shard; it has not announced itself.
    pub fn connect(&mut self, shard: usize) -> Peer {
        let peer = Peer(self.world.connect(shard));
        self.world.send(peer.0, &upgrade_request("/"));
        self.settle();
        peer
    }

    /// A worker connects, announces itself in `namespace` and registers functions.
    pub fn worker(&mut self, shard: usize, namespace: &str, functions: &[&str]) -> Peer {
        let peer = self.connect(shard);
        for id in functions {
            self.say(peer, &format!(r#"{{"type":"registerfunction","id":"{id}"}}"#));
        }
        self.announce(peer, namespace);
        self.settle();
        peer
    }

    /// The worker names its namespace.
    pub fn announce(&mut self, peer: Peer, namespace: &str) {
        self.say(
            peer,
            &format!(
                r#"{{"type":"invokefunction","function_id":"engine::workers::register","data":{{"namespace":"{namespace}"}},"action":{{"type":"void"}}}}"#
            ),
        );
    }

    /// The worker sends a message.
    pub fn say(&mut self, peer: Peer, text: &str) {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, 0x81, [1, 2, 3, 4], text.as_bytes());
        self.world.send(peer.0, &bytes);
    }

    /// The worker calls a function in `default`; `number` becomes the invocation id and the payload.
    pub fn call(&mut self, peer: Peer, number: u128, function_id: &str) {
        self.call_with(peer, number, function_id, &format!(r#"{{"n":{number}}}"#));
    }

    /// The same with another payload.
    pub fn call_with(&mut self, peer: Peer, number: u128, function_id: &str, data: &str) {
        let id = invocation(number);
        self.say(
            peer,
            &format!(
                r#"{{"type":"invokefunction","invocation_id":"{id}","function_id":"{function_id}","data":{data}}}"#
            ),
        );
    }

    /// The worker answers a call with its number.
    pub fn answer(&mut self, peer: Peer, number: u128) {
        let id = invocation(number);
        self.say(
            peer,
            &format!(r#"{{"type":"invocationresult","invocation_id":"{id}","function_id":"","result":{number}}}"#),
        );
    }

    /// The worker stops reading, or reads again.
    pub fn reads(&mut self, peer: Peer, reads: bool) {
        self.silent.retain(|silent| *silent != peer);
        if !reads {
            self.silent.push(peer);
        }
    }

    /// The worker's connection breaks.
    pub fn reset(&mut self, peer: Peer) {
        self.world.reset(peer.0);
    }

    /// Runs until nothing is left to do at this time.
    pub fn settle(&mut self) {
        for _ in 0..ROUNDS_MAX {
            let before = self.world.work();
            for index in 0..=self.world.shard_count() {
                self.world.turn(index, &mut self.dice);
            }
            self.listen();
            if let Some(problem) = self.world.broken() {
                panic!("{problem}");
            }
            if self.world.work() == before {
                self.world.written.clear();
                return;
            }
        }
        panic!("the engine does not come to rest");
    }

    /// Time passes, timer by timer.
    pub fn advance(&mut self, ms: u64) {
        let end = self.world.now_ms() + ms;
        while let Some(due) = self.world.next_deadline_ms().filter(|due| *due <= end) {
            self.world.pass(due.saturating_sub(self.world.now_ms()));
            self.settle();
        }
        self.world.pass(end - self.world.now_ms());
        self.settle();
    }

    /// Takes what the worker has heard since the last time.
    pub fn heard(&mut self, peer: Peer) -> Vec<Rc<Value>> {
        self.heard.remove(&peer).unwrap_or_default()
    }

    /// Takes what it has heard of one type: the member `member` of each as text.
    pub fn heard_of(&mut self, peer: Peer, kind: &str, member: &str) -> Vec<String> {
        let all = self.heard(peer);
        all.iter().filter(|message| message["type"] == kind).map(|message| text_of(&message[member])).collect()
    }

    /// Takes the answers it has heard: number of the call and result, or error code.
    pub fn answers(&mut self, peer: Peer) -> Vec<(u128, String)> {
        let all = self.heard(peer);
        let answers = all.iter().filter(|message| message["type"] == "invocationresult");
        answers
            .map(|message| {
                let outcome = message.get("result").unwrap_or(&message["error"]["code"]);
                (number(&message["invocation_id"]), text_of(outcome))
            })
            .collect()
    }

    /// Takes the calls it was given: their numbers.
    pub fn calls(&mut self, peer: Peer) -> Vec<u128> {
        let all = self.heard(peer);
        let calls = all.iter().filter(|message| message["type"] == "invokefunction");
        calls.map(|message| number(&message["invocation_id"])).collect()
    }

    /// The worker's id and reattach token, if it has not been `heard` yet.
    pub fn identity(&mut self, peer: Peer) -> (String, String) {
        let all = self.heard(peer);
        let hello = all.iter().find(|message| message["type"] == "workerregistered").expect("the engine greets first");
        (text_of(&hello["worker_id"]), text_of(&hello["reattach_token"]))
    }

    /// Whether the engine has closed the connection, and with which code.
    pub fn closed(&self, peer: Peer) -> Option<Option<u16>> {
        self.closed.get(&peer).copied()
    }

    /// Asserts that no trace of any worker is left once all have gone and every deadline has passed.
    pub fn assert_nothing_left(&mut self) {
        for link in 0..self.world.links.len() {
            self.world.reset(link);
        }
        self.settle();
        self.advance(400_000);
        for (index, residue) in self.world.residue().into_iter().enumerate() {
            assert_eq!(residue, crate::shard::Residue::default(), "left on shard {index}");
        }
        assert_eq!(self.world.control().worker_count(), 0);
        assert_eq!(self.world.next_deadline_ms(), None);
    }

    fn listen(&mut self) {
        for link in 0..self.world.links.len() {
            let peer = Peer(link);
            if self.silent.contains(&peer) {
                continue;
            }
            for heard in self.world.read(link, usize::MAX) {
                match heard {
                    Heard::Message(message) => self.heard.entry(peer).or_default().push(message),
                    Heard::Close(code) => {
                        self.closed.insert(peer, code);
                    }
                    Heard::Ping(payload) => {
                        let mut bytes = Vec::new();
                        write_frame(&mut bytes, 0x8A, [9; 4], &payload);
                        self.world.send(link, &bytes);
                    }
                    Heard::Http(_) | Heard::Pong(_) => {}
                }
            }
            if self.world.at_end(link) {
                self.closed.entry(peer).or_insert(None);
                self.world.end(link);
            }
        }
    }
}

/// The invocation id that stands for a number.
pub fn invocation(number: u128) -> uuid::Uuid {
    uuid::Uuid::from_u128(number)
}

fn number(id: &Value) -> u128 {
    id.as_str().and_then(|id| uuid::Uuid::try_parse(id).ok()).map_or(0, |id| id.as_u128())
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
