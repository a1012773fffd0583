//! What a connection does with the messages it gets: workers echo, callers take their answers and call again.
//!
//! Hot path: no allocation in the steady state, no clock reads (the turn has one time for all messages of a read). A
//! message only ever makes its own connection send something, so no other connection is touched here.

use super::connection::Lost;
use super::load::Load;
use super::probe::Probe;
use crate::calls::{CallTable, Finished, Pending};
use crate::options::Options;
use crate::tally::Tally;
use crate::wire::nats::INBOX_BYTES;
use crate::wire::{Call, CallTemplate, Encoder, Incoming, Introduction, echoed_bytes, nats, payload};
use std::sync::Arc;

/// What a connection is for. Numbers count over all threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Worker(usize),
    Caller(usize),
    IdleWorker(usize),
}

impl Role {
    /// Unique among the connections of a run.
    fn name(self) -> String {
        match self {
            Role::Worker(index) => format!("load-worker-{index}"),
            Role::Caller(index) => format!("load-caller-{index}"),
            Role::IdleWorker(index) => format!("load-idle-{index}"),
        }
    }

    /// The ids this connection registers.
    fn functions(self, options: &Options) -> Vec<String> {
        match self {
            Role::Worker(index) => vec![options.function_id(index as u32)],
            Role::Caller(_) => Vec::new(),
            Role::IdleWorker(index) => {
                let first = options.idle_function(index);
                (first..first + options.idle_functions as u32).map(|function| options.function_id(function)).collect()
            }
        }
    }
}

/// ```text
/// Connecting ── Greeting: registrations go out ──► Introduced ── accepted ──► Ready
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Connecting,
    Introduced,
    Ready,
}

/// The conversation on one connection, without its socket.
#[derive(Debug)]
pub struct Peer {
    pub role: Role,
    pub phase: Phase,
    pub outbound: Vec<u8>,
    pub caller: Option<Box<Caller>>,
}

/// The calling half of a connection.
#[derive(Debug)]
pub struct Caller {
    pub calls: CallTable,
    inbox: [u8; INBOX_BYTES],
    targets: Targets,
}

/// Which functions a caller calls.
#[derive(Clone, Copy, Debug)]
pub enum Targets {
    One(u32),
    /// `0..count` in turn.
    Round {
        next: u32,
        count: u32,
    },
}

impl Targets {
    #[inline]
    fn next(&mut self) -> u32 {
        match self {
            Targets::One(function) => *function,
            Targets::Round { next, count } => {
                let function = *next;
                *next = (function + 1) % *count;
                function
            }
        }
    }

    /// Every function that may come up.
    pub fn all(self) -> std::ops::Range<u32> {
        match self {
            Targets::One(function) => function..function + 1,
            Targets::Round { count, .. } => 0..count,
        }
    }
}

impl Caller {
    /// `number` tells the callers of a process apart.
    pub fn new(number: usize, in_flight_max: usize, targets: Targets) -> Self {
        Self { calls: CallTable::new(in_flight_max), inbox: nats::inbox(number), targets }
    }

    pub fn targets(&self) -> Targets {
        self.targets
    }
}

/// What answers mean at the moment.
#[derive(Debug)]
pub enum Activity {
    /// Connecting, or between the steps of a run: no calls are out.
    Quiet,
    Probe(Probe),
    Load(Load),
}

/// Everything the connections of a thread share.
#[derive(Debug)]
pub struct Context {
    pub options: Arc<Options>,
    pub encoder: Encoder,
    /// Time of the current read or turn, in ns on the run's clock.
    pub now_ns: u64,
    pub activity: Activity,
    pub tally: Tally,
    /// Connections the server has accepted, ever.
    pub ready: usize,
    templates: Vec<Option<CallTemplate>>,
    data: Vec<u8>,
    echo_bytes: Option<usize>,
    rng: fastrand::Rng,
}

impl Context {
    pub fn new(options: Arc<Options>) -> Self {
        let data = payload(options.payload_bytes);
        Self {
            encoder: Encoder::new(options.endpoint.protocol, options.mask.clone()),
            now_ns: 0,
            activity: Activity::Quiet,
            tally: Tally::default(),
            ready: 0,
            templates: Vec::new(),
            echo_bytes: echoed_bytes(&data),
            data,
            rng: fastrand::Rng::new(),
            options,
        }
    }

    /// Makes calls of `function` possible.
    pub fn prepare(&mut self, function: u32) {
        let slot = function as usize;
        if self.templates.len() <= slot {
            self.templates.resize_with(slot + 1, || None);
        }
        if self.templates[slot].is_none() {
            self.templates[slot] = Some(self.encoder.template(&self.options.function_id(function), self.data.len()));
        }
    }

    /// Sends the caller's next call, due at `due_ns`. False when its table is full.
    #[inline]
    pub fn call_next(&mut self, peer: &mut Peer, due_ns: u64) -> bool {
        let caller = peer.caller.as_deref_mut().expect("only callers are asked to call");
        if caller.calls.is_full() {
            return false;
        }
        let function = caller.targets.next();
        self.call(peer, Pending { due_ns, function })
    }

    /// Sends one call. False when the caller's table is full. The function was prepared before.
    #[inline]
    pub fn call(&mut self, peer: &mut Peer, pending: Pending) -> bool {
        let caller = peer.caller.as_deref_mut().expect("only callers are asked to call");
        let Some(id) = caller.calls.start(pending, &mut self.rng) else {
            return false;
        };
        let template =
            self.templates[pending.function as usize].as_ref().expect("targets are prepared before the load");
        self.encoder.call(&mut peer.outbound, template, &Call { id, inbox: &caller.inbox, data: &self.data });
        self.tally.sent += 1;
        true
    }

    /// Acts on one message.
    #[inline]
    pub fn handle(&mut self, peer: &mut Peer, incoming: Incoming<'_>) -> Result<(), Lost> {
        match incoming {
            Incoming::Call { reply, function, data } => {
                self.tally.served += 1;
                if !reply.is_empty() {
                    self.encoder.answer(&mut peer.outbound, reply, function, data);
                }
            }
            Incoming::Answer { id, result } => self.answered(peer, id, result),
            Incoming::Ping(payload) => self.encoder.pong(&mut peer.outbound, payload),
            Incoming::Greeting => self.greeted(peer),
            Incoming::Ready if peer.phase == Phase::Introduced => {
                peer.phase = Phase::Ready;
                self.ready += 1;
            }
            Incoming::Refused(code) => self.tally.error(code),
            Incoming::Closed(code) => return Err(Lost::Closed(code)),
            Incoming::Ready | Incoming::Ignored => {}
        }
        Ok(())
    }

    fn greeted(&mut self, peer: &mut Peer) {
        // NATS repeats its INFO when the cluster changes.
        if peer.phase != Phase::Connecting {
            return;
        }
        peer.phase = Phase::Introduced;
        let introduction = Introduction {
            name: &peer.role.name(),
            functions: &peer.role.functions(&self.options),
            shared: self.options.one_function && matches!(peer.role, Role::Worker(_)),
            inbox: peer.caller.as_ref().map(|caller| &caller.inbox[..]),
        };
        self.encoder.introduce(&mut peer.outbound, &introduction);
    }

    #[inline]
    fn answered(&mut self, peer: &mut Peer, id: &[u8], result: Result<&[u8], &[u8]>) {
        let finished = peer.caller.as_mut().map_or(Finished::Unknown, |caller| caller.calls.finish(id));
        let pending = match finished {
            Finished::Call(pending) => pending,
            Finished::Duplicate => return self.tally.duplicates += 1,
            Finished::Unknown => return self.tally.unknown += 1,
        };
        self.tally.answered += 1;
        let load = match &mut self.activity {
            Activity::Quiet => return,
            Activity::Probe(probe) => return probe.answered(pending.function, result, self.now_ns),
            Activity::Load(load) => load,
        };
        match result {
            Ok(result) if echoed_bytes(result) != self.echo_bytes => self.tally.wrong_payload += 1,
            Ok(_) => {}
            Err(code) => self.tally.error(code),
        }
        load.record(&mut self.tally, pending.due_ns, self.now_ns);
        if load.calls_again(self.now_ns) {
            self.call_next(peer, self.now_ns);
        }
    }
}
