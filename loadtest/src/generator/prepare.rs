//! Getting ready for the load: connecting everything, and waiting until it can be called.

use super::connection::Connection;
use super::peer::{Activity, Caller, Peer, Phase, Role, Targets};
use super::probe::{self, Probe};
use super::{Generator, POLL_MS_MAX, mark_dirty, socket};
use crate::calls::Pending;
use crate::options::{OPEN_LOOP_IN_FLIGHT_MAX, Options};
use crate::wire::{Decoder, Protocol};
use mio::{Interest, Token};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Handshakes under way at once; servers usually queue at least a thousand.
const CONNECTS_PENDING_MAX: usize = 512;
/// How long a step of the preparation may make no progress.
const PATIENCE: Duration = Duration::from_secs(20);

impl Generator {
    /// Connects the idle workers of this thread and waits until the server has accepted them all.
    pub fn connect_idle(&mut self) -> Result<(), String> {
        self.connect(self.share.of(self.context.options.idle_workers).map(Role::IdleWorker).collect())
    }

    /// Connects the workers and callers of this thread and waits until the server has accepted them all.
    pub fn connect_load(&mut self) -> Result<(), String> {
        let workers = self.share.of(self.context.options.workers).map(Role::Worker);
        let callers = self.share.of(self.context.options.callers).map(Role::Caller);
        self.connect(workers.chain(callers).collect())
    }

    fn connect(&mut self, roles: Vec<Role>) -> Result<(), String> {
        let before = self.context.ready;
        let goal = before + roles.len();
        let mut roles = roles.into_iter();
        let mut patience = Patience::new(before);
        while self.context.ready < goal {
            let started = goal - roles.len();
            let room = CONNECTS_PENDING_MAX - (started - self.context.ready);
            for role in roles.by_ref().take(room) {
                self.start_connecting(role)
                    .map_err(|error| format!("cannot connect to {}: {error}", self.context.options.endpoint.url))?;
            }
            self.turn(Duration::from_millis(POLL_MS_MAX))?;
            let ready = self.context.ready;
            let done = ready - before;
            if let Some(reason) = self.lost.take() {
                let url = &self.context.options.endpoint.url;
                return Err(format!("cannot connect to {url}: {reason} ({done} of {} accepted)", goal - before));
            }
            if patience.is_over(ready) {
                let pending = goal - roles.len() - ready;
                return Err(format!("{done} connections were accepted, then {pending} waited for {PATIENCE:?}"));
            }
        }
        Ok(())
    }

    fn start_connecting(&mut self, role: Role) -> io::Result<()> {
        let options = &self.context.options;
        let endpoint = &options.endpoint;
        let number = match role {
            Role::IdleWorker(index) => index,
            Role::Worker(index) => options.idle_workers + index,
            Role::Caller(index) => options.idle_workers + options.workers + index,
        };
        let mut socket = socket::connect(endpoint.address, number)?;
        let token = Token(self.connections.len());
        self.poll.registry().register(&mut socket, token, Interest::READABLE | Interest::WRITABLE)?;
        let caller = caller_for(role, options).map(Box::new);
        let mut outbound = Vec::new();
        self.context.encoder.open(&mut outbound, &endpoint.host, &endpoint.path);
        let decoder = Decoder::new(endpoint.protocol);
        if let Some(caller) = &caller {
            caller.targets().all().for_each(|function| self.context.prepare(function));
        }
        let peer = Peer { role, phase: Phase::Connecting, outbound, caller };
        self.connections.push(Some(Connection::new(socket, decoder, peer)));
        Ok(())
    }

    /// Waits until the idle workers' functions can be called.
    pub fn probe_idle(&mut self) -> Result<(), String> {
        let options = Arc::clone(&self.context.options);
        // The last one: functions of a connection take effect in order.
        let last = options.idle_functions as u32 - 1;
        self.probe(self.share.of(options.idle_workers).map(|worker| options.idle_function(worker) + last).collect())
    }

    /// Waits until everything this thread's callers are going to call can be called.
    pub fn probe_load(&mut self) -> Result<(), String> {
        if self.context.options.missing {
            return Ok(());
        }
        let callers = self.connections.iter().flatten().filter_map(|connection| connection.peer.caller.as_ref());
        let mut targets: Vec<u32> = callers.flat_map(|caller| caller.targets().all()).collect();
        targets.sort_unstable();
        targets.dedup();
        self.probe(targets)
    }

    fn probe(&mut self, functions: Vec<u32>) -> Result<(), String> {
        // NATS has confirmed its subscriptions, and would leave a premature call unanswered.
        if functions.is_empty() || self.context.options.endpoint.protocol == Protocol::Nats {
            return Ok(());
        }
        functions.iter().for_each(|function| self.context.prepare(*function));
        let prober = self.connections.iter().rposition(Option::is_some).expect("there is a caller or an idle worker");
        let probing = Caller::new(0, probe::IN_FLIGHT_MAX, Targets::One(functions[0]));
        let peer = &mut self.connections[prober].as_mut().expect("just found").peer;
        let usual = peer.caller.replace(Box::new(probing));
        self.context.activity = Activity::Probe(Probe::new(functions));
        let outcome = self.probe_until_answered(prober);
        self.context.activity = Activity::Quiet;
        if let Some(connection) = &mut self.connections[prober] {
            connection.peer.caller = usual;
        }
        outcome
    }

    fn probe_until_answered(&mut self, prober: usize) -> Result<(), String> {
        let mut patience = Patience::new(usize::MAX);
        loop {
            let Activity::Probe(probe) = &self.context.activity else { unreachable!("set by probe") };
            if let Some(code) = probe.failure() {
                return Err(format!("a first call to the workers failed: {code}"));
            }
            let unanswered = probe.unanswered();
            if unanswered == 0 {
                return Ok(());
            }
            if patience.is_over(unanswered) {
                return Err(format!("{unanswered} registered functions could not be called for {PATIENCE:?}"));
            }
            self.send_probes(prober);
            self.turn(Duration::from_millis(2))?;
            if let Some(reason) = self.lost.take() {
                return Err(format!("a connection was lost before the load began: {reason}"));
            }
        }
    }

    fn send_probes(&mut self, prober: usize) {
        let now_ns = self.now_ns();
        let Some(connection) = &mut self.connections[prober] else { return };
        while let Activity::Probe(probe) = &mut self.context.activity
            && let Some(function) = probe.poll_call(now_ns)
        {
            let pending = Pending { due_ns: now_ns, function };
            let sent = self.context.call(&mut connection.peer, pending);
            assert!(sent, "the table holds as many calls as there are probes");
        }
        mark_dirty(&mut self.dirty, prober, connection);
    }
}

/// The calling half of a connection in this role, if it has one.
fn caller_for(role: Role, options: &Options) -> Option<Caller> {
    let in_flight_max = if options.rate.is_some() { OPEN_LOOP_IN_FLIGHT_MAX } else { options.in_flight };
    let (number, usual) = match role {
        Role::Caller(index) if options.missing => (index, options.missing_function()),
        Role::Caller(index) => (index, (index % options.workers) as u32),
        Role::IdleWorker(index) if index < options.callers_on_idle => {
            (options.callers + index, options.idle_function((index + 1) % options.idle_workers))
        }
        Role::IdleWorker(_) | Role::Worker(_) => return None,
    };
    let targets = match role {
        Role::Caller(index) if options.spread && !options.missing => {
            let count = options.workers as u32;
            Targets::Round { next: index as u32 % count, count }
        }
        _ => Targets::One(usual),
    };
    Some(Caller::new(number, in_flight_max, targets))
}

/// Notices when a figure has not changed for [`PATIENCE`].
struct Patience {
    figure: usize,
    since: Instant,
}

impl Patience {
    fn new(figure: usize) -> Self {
        Self { figure, since: Instant::now() }
    }

    fn is_over(&mut self, figure: usize) -> bool {
        if figure != self.figure {
            *self = Self::new(figure);
        }
        self.since.elapsed() > PATIENCE
    }
}
