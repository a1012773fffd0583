//! What all connections of one instance use.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::rc::Rc;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use iii_shards::builtin::{Host, SocketId, Token};
use iii_shards::http::date::HttpDate;
use iii_shards::http::exchange::Now;
use iii_shards::http::router::{RouteTable, Routes};

use super::gate::{Gate, GateMessage, KEEPER, Waiter};
use super::site::Site;

/// Routes about which something was logged; more are not remembered.
const WARNED_MAX: usize = 1024;

/// What belongs to the instance and not to one connection.
pub struct Shared {
    /// The registered routes.
    pub routes: Routes,
    /// Those of the instance before, until this one has been told of its own.
    pub routes_before: Option<Routes>,
    /// Settings by listener.
    pub sites: Vec<Rc<Site>>,
    /// Which connection waits for the answer to a call.
    pub calls: HashMap<Token, SocketId, foldhash::fast::FixedState>,
    /// When to look at which connection.
    pub alarms: BinaryHeap<Reverse<(u64, SocketId)>>,
    /// For messages that are made and handed over at once.
    pub scratch: Vec<u8>,
    /// When the instance started, on the shard's clock.
    pub started_ms: u64,
    /// The formatted date and its second.
    date: (u64, HttpDate),
    warned: HashSet<Box<str>>,
}

/// What connections act with: the instance's things and the shard.
pub struct Context<'a> {
    /// The instance's.
    pub shared: &'a mut Shared,
    /// The shard.
    pub host: &'a mut dyn Host,
}

// === impl Shared ===

impl Shared {
    /// Without routes and connections.
    pub fn new(sites: Vec<Rc<Site>>, started_ms: u64) -> Shared {
        Shared {
            routes: Routes::default(),
            routes_before: None,
            sites,
            calls: HashMap::default(),
            alarms: BinaryHeap::new(),
            scratch: Vec::new(),
            started_ms,
            date: (0, HttpDate::from_unix_seconds(0)),
            warned: HashSet::new(),
        }
    }
}

impl Shared {
    /// The routes to serve.
    pub fn table(&self) -> &RouteTable {
        self.routes_before.as_ref().unwrap_or(&self.routes).current()
    }
}

// === impl Context ===

impl Context<'_> {
    /// Time, with a date that is formatted once a second.
    pub fn now(&mut self) -> Now {
        let now = self.host.now();
        let second = now.unix_ms / 1000;
        if self.shared.date.0 != second {
            self.shared.date = (second, HttpDate::from_unix_seconds(second));
        }
        Now { ms: now.ms, date: self.shared.date.1 }
    }

    /// A random number that names an error in the answer to a request (HTTP-51).
    pub fn error_id(&mut self) -> u64 {
        self.host.new_uuid().as_u64_pair().1
    }

    /// Whether this is the first time that something is to be logged about a route.
    pub fn warns_first(&mut self, trigger_id: &str) -> bool {
        self.shared.warned.len() < WARNED_MAX && self.shared.warned.insert(trigger_id.into())
    }

    /// A request wants in. False: it waits, and will be let in by a [`GateMessage::Enter`].
    pub fn try_enter(&mut self, gate: &Arc<Gate>, waiter: Waiter) -> bool {
        let entered = gate.try_enter();
        if !entered {
            gate.wait();
            self.host.post(KEEPER, Box::new(GateMessage::Wait(Arc::clone(gate), waiter)));
        }
        entered
    }

    /// A request that was let in has its response.
    pub fn leave(&mut self, gate: &Arc<Gate>) {
        if gate.leave() {
            self.host.post(KEEPER, Box::new(GateMessage::Freed(Arc::clone(gate))));
        }
    }
}
