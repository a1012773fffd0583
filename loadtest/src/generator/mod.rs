//! One generator thread: an event loop over its share of the connections.
//!
//! Owner: itself; threads share nothing but a counter for the progress bar. Every turn reads all sockets that are
//! ready, sends the calls that are due, and then writes each connection's output once. The steps of a run (`prepare`,
//! `drive`) are asked for by the coordinator in [`crate::run`].

mod connection;
mod drive;
mod load;
mod peer;
mod prepare;
mod probe;
mod socket;
mod timer;

pub use load::Schedule;

use crate::options::Options;
use crate::tally::Tally;
use connection::{Connection, Lost, SCRATCH_BYTES};
use mio::{Events, Poll, Token};
use peer::{Context, Role};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use timer::Timer;

/// The longest the loop sleeps, in ms, so that the ends of phases are noticed.
const POLL_MS_MAX: u64 = 100;
const EVENTS_PER_TURN: usize = 1024;
const TIMER: Token = Token(usize::MAX);

/// Which part of the run a thread does: every `threads`th connection.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    pub thread: usize,
    pub threads: usize,
}

impl Share {
    fn of(self, total: usize) -> impl Iterator<Item = usize> {
        (self.thread..total).step_by(self.threads)
    }
}

/// The connections of one thread and the loop that serves them.
#[derive(Debug)]
pub struct Generator {
    share: Share,
    /// Zero of the run's clock, the same for all threads.
    epoch: Instant,
    /// Answers so far, for the progress bar.
    answered: Arc<AtomicU64>,
    poll: Poll,
    events: Events,
    timer: Timer,
    scratch: Vec<u8>,
    connections: Vec<Option<Connection>>,
    dirty: Vec<usize>,
    lost: Option<String>,
    context: Context,
}

impl Generator {
    pub fn new(options: Arc<Options>, share: Share, epoch: Instant, answered: Arc<AtomicU64>) -> io::Result<Self> {
        let poll = Poll::new()?;
        let timer = Timer::new(poll.registry(), TIMER)?;
        Ok(Self {
            share,
            epoch,
            answered,
            poll,
            events: Events::with_capacity(EVENTS_PER_TURN),
            timer,
            scratch: vec![0; SCRATCH_BYTES],
            connections: Vec::new(),
            dirty: Vec::new(),
            lost: None,
            context: Context::new(options),
        })
    }

    /// Serves the connections for one turn, of `timeout` at most, while there is no step to do.
    pub fn serve(&mut self, timeout: Duration) -> Result<(), String> {
        self.turn(timeout)
    }

    /// Ends all connections of idle workers.
    pub fn disconnect_idle(&mut self) {
        for slot in &mut self.connections {
            slot.take_if(|connection| matches!(connection.peer.role, Role::IdleWorker(_)));
        }
    }

    /// The counts of the last [`Generator::run`].
    pub fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.context.tally)
    }

    /// Waits at most `timeout` for sockets, serves those that are ready, writes what there is to write.
    fn turn(&mut self, timeout: Duration) -> Result<(), String> {
        self.flush();
        match self.poll.poll(&mut self.events, Some(timeout)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(format!("epoll failed: {error}")),
        }
        for event in &self.events {
            let index = event.token().0;
            let Some(Some(connection)) = self.connections.get_mut(index) else { continue };
            if event.is_writable() {
                connection.unblock();
            }
            let ending = event.is_read_closed() || event.is_error();
            if event.is_readable() || ending {
                self.context.now_ns = self.epoch.elapsed().as_nanos() as u64;
                if let Err(reason) = connection.receive(&mut self.scratch, ending, &mut self.context) {
                    drop_connection(&mut self.connections[index], &mut self.context, &mut self.lost, &reason);
                    continue;
                }
            }
            mark_dirty(&mut self.dirty, index, connection);
        }
        self.flush();
        self.answered.store(self.context.tally.answered, Ordering::Relaxed);
        Ok(())
    }

    fn flush(&mut self) {
        for index in self.dirty.drain(..) {
            let Some(connection) = &mut self.connections[index] else { continue };
            connection.dirty = false;
            if let Err(reason) = connection.flush() {
                drop_connection(&mut self.connections[index], &mut self.context, &mut self.lost, &reason);
            }
        }
    }

    fn now_ns(&self) -> u64 {
        self.epoch.elapsed().as_nanos() as u64
    }
}

fn mark_dirty(dirty: &mut Vec<usize>, index: usize, connection: &mut Connection) {
    if !connection.dirty && connection.has_output() {
        connection.dirty = true;
        dirty.push(index);
    }
}

/// Forgets a connection; its calls in flight will not be answered.
fn drop_connection(slot: &mut Option<Connection>, context: &mut Context, lost: &mut Option<String>, reason: &Lost) {
    let connection = slot.take().expect("only a live connection can be lost");
    let calls = connection.peer.caller.map_or(0, |caller| caller.calls.in_flight());
    context.tally.unanswered += calls as u64;
    context.tally.connections_lost += 1;
    *lost = Some(format!("{:?}: {reason}", connection.peer.role));
}
