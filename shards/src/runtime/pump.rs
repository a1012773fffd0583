//! Hot path: the loop of a data shard.
//!
//! One turn: take what peers sent, handle every completion, run what is due, then flush each dirty outbox once and
//! each peer's batch once, and enter the kernel once. It runs as the only task of its glommio executor and waits in
//! its own ring, never in glommio's reactor.

use super::buffers::Buffers;
use super::change::SocketChanges;
use super::listen::Bound;
use super::sockets::{Socket, State};
use super::uring::{Completion, Op, Ring};
use super::{AcceptedSocket, Parcel, Shared};
use crate::ids::ShardId;
use crate::limits::TRIM_BYTES;
use crate::ring::mesh::Port;
use crate::ring::spsc::Full;
use crate::shard::{Shard, SocketCommand};
use crossbeam_channel::Receiver;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How long to let accepting rest when descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a busy-polling shard looks for work before it sleeps after all.
const BUSY_POLL: Duration = Duration::from_micros(500);
/// Connections that must have been there before their leaving is worth a trim.
const TRIM_CONNECTIONS: usize = 256;
/// Shortest time between two trims for freed buffers.
const TRIM_PAUSE: Duration = Duration::from_secs(1);
/// How long a stopping shard waits for its sockets.
const STOP_LINGER: Duration = Duration::from_millis(1500);

pub(super) struct Pump {
    index: usize,
    // Dropped before the buffers it fills.
    ring: Ring,
    buffers: Buffers,
    shard: Shard,
    port: Port<Parcel>,
    shared: Arc<Shared>,
    sockets: Vec<Option<Box<Socket>>>,
    /// By number of the accept operation; `None` = closed.
    listeners: Vec<Option<(u16, OwnedFd)>>,
    socket_changes: Receiver<SocketChanges>,
    accept_again: Option<Instant>,
    /// Sockets accepted for each peer in this turn.
    accepted: Vec<Vec<AcceptedSocket>>,
    completions: Vec<Completion>,
    /// Slots whose outbox is being flushed.
    stop_by: Option<Instant>,
    last_work: Instant,
    /// Most connections since memory was last given back.
    connections_peak: usize,
    /// Bytes of large buffers let go since memory was last given back, and when it will be.
    freed_bytes: usize,
    trim_at: Option<Instant>,
}

impl Pump {
    pub(super) fn new(
        index: usize,
        shard: Shard,
        port: Port<Parcel>,
        shared: Arc<Shared>,
        listeners: Vec<Bound>,
        socket_changes: Receiver<SocketChanges>,
    ) -> io::Result<Pump> {
        let mut ring = Ring::new()?;
        let buffers = Buffers::new(&ring.submitter())?;
        ring.watch(&shared.wakers[index]);
        let listeners: Vec<Option<(u16, OwnedFd)>> = listeners
            .into_iter()
            .enumerate()
            .flat_map(|(index, bound)| bound.sockets.into_iter().map(move |socket| Some((index as u16, socket))))
            .collect();
        for (number, (_, fd)) in open(&listeners) {
            ring.accept(number, fd.as_raw_fd());
        }
        let accepted = (0..shared.settings.shards).map(|_| Vec::new()).collect();
        Ok(Pump {
            index,
            ring,
            buffers,
            shard,
            port,
            shared,
            sockets: Vec::new(),
            listeners,
            socket_changes,
            accept_again: None,
            accepted,
            completions: Vec::with_capacity(1024),
            stop_by: None,
            last_work: Instant::now(),
            connections_peak: 0,
            freed_bytes: 0,
            trim_at: None,
        })
    }

    /// Runs until the engine stops.
    pub(super) fn run(&mut self) {
        loop {
            self.shard.set_time(self.shared.now());
            self.receive_parcels();
            let mut completions = std::mem::take(&mut self.completions);
            for completion in completions.drain(..) {
                self.complete(completion);
            }
            self.completions = completions;
            self.buffers.publish();
            self.shard.handle_timers();
            self.collect_post();
            self.shard.run_built_ins();
            let backlog = self.flush();
            if self.should_end() {
                return;
            }
            self.trim();
            let wait_ms = self.wait_ms(backlog);
            let sleeps = wait_ms != Some(0) && self.port.signal().prepare_sleep();
            let wait_ms = if sleeps { wait_ms } else { Some(0) };
            if let Err(error) = self.ring.turn(wait_ms, &mut self.completions) {
                // A ring that cannot be entered is a broken invariant: half a mesh is worse than a restart.
                panic!("shard {}: io_uring failed: {error}", self.index);
            }
            if sleeps {
                self.port.signal().woke();
            }
        }
    }

    /// Gives memory back once most of many connections have left.
    fn trim(&mut self) {
        let connections = self.shard.connection_count();
        self.connections_peak = self.connections_peak.max(connections);
        if self.connections_peak >= TRIM_CONNECTIONS && connections < self.connections_peak / 4 {
            self.connections_peak = connections;
            self.shard.shrink();
            self.sockets.truncate(self.shard.slot_count());
            self.sockets.shrink_to_fit();
            self.buffers.release_pages();
            (self.shared.settings.trim_memory)();
        }
        self.freed_bytes += self.shard.take_freed_bytes();
        if self.freed_bytes >= TRIM_BYTES && self.trim_at.is_none() {
            self.trim_at = Some(Instant::now() + TRIM_PAUSE);
        }
        if self.trim_at.is_some_and(|at| at <= Instant::now()) {
            self.trim_at = None;
            self.freed_bytes = 0;
            (self.shared.settings.trim_memory)();
        }
    }

    /// How long the kernel may keep us. `backlog` = a peer's ring was full.
    fn wait_ms(&mut self, backlog: bool) -> Option<u64> {
        if self.shared.settings.busy_poll {
            if !self.completions.is_empty() {
                self.last_work = Instant::now();
            }
            if self.last_work.elapsed() < BUSY_POLL {
                return Some(0);
            }
        }
        let now_ms = self.shared.now().ms;
        let mut wait_ms = self.shard.next_deadline_ms().map(|due| due.saturating_sub(now_ms).max(1));
        let mut at_most = |limit: u64| wait_ms = Some(wait_ms.map_or(limit, |wait| wait.min(limit)));
        if backlog {
            at_most(1);
        }
        if self.shard.built_ins_wait() {
            at_most(0);
        }
        if self.accept_again.is_some() {
            at_most(ACCEPT_PAUSE.as_millis() as u64);
        }
        if self.trim_at.is_some() {
            at_most(TRIM_PAUSE.as_millis() as u64);
        }
        if self.stop_by.is_some() {
            at_most(20);
        }
        wait_ms
    }

    // === peers ===

    fn receive_parcels(&mut self) {
        let mut parcels = Vec::new();
        self.port.receive(|peer, parcel| parcels.push((peer, parcel)));
        for (peer, mut parcel) in parcels {
            self.last_work_now();
            for accepted in parcel.sockets {
                self.adopt(accepted);
            }
            self.shard.handle_batch(ShardId(peer as u16), &mut parcel.batch);
        }
    }

    fn collect_post(&mut self) {
        let mut any = false;
        let shard = &mut self.shard;
        self.shared.post.collect(self.index, |worker, message| {
            any = true;
            shard.handle_posted(worker, message);
        });
        if any {
            self.last_work_now();
        }
    }

    fn last_work_now(&mut self) {
        if self.shared.settings.busy_poll {
            self.last_work = Instant::now();
        }
    }

    /// Sends output of the turn. Returns whether a peer's ring was full.
    fn flush(&mut self) -> bool {
        while let Some(command) = self.shard.poll_command() {
            self.obey(command);
        }
        while let Some(slot) = self.shard.poll_dirty() {
            self.flush_socket(slot);
        }
        // Flushing may have closed the last of a closing socket.
        while let Some(command) = self.shard.poll_command() {
            self.obey(command);
        }
        let mut backlog = false;
        for peer in 0..=self.shared.settings.shards {
            backlog |= peer != self.index && !self.flush_peer(peer);
        }
        backlog
    }

    fn flush_peer(&mut self, peer: usize) -> bool {
        let sockets = self.accepted.get_mut(peer).map(std::mem::take).unwrap_or_default();
        let batch = self.shard.outgoing(ShardId(peer as u16));
        if batch.is_empty() && sockets.is_empty() {
            return true;
        }
        let parcel = Parcel { batch: std::mem::take(batch), sockets };
        match self.port.try_send(peer, parcel) {
            Ok(asleep) => {
                if asleep {
                    match self.shared.wakers.get(peer) {
                        Some(waker) => self.ring.wake(waker),
                        None => self.shared.control_waker.wake(),
                    }
                }
                true
            }
            Err(Full(parcel)) => {
                *self.shard.outgoing(ShardId(peer as u16)) = parcel.batch;
                if let Some(accepted) = self.accepted.get_mut(peer) {
                    *accepted = parcel.sockets;
                }
                false
            }
        }
    }

    // === sockets ===

    fn socket(&mut self, slot: u32) -> Option<&mut Socket> {
        self.sockets.get_mut(slot as usize)?.as_deref_mut()
    }

    fn complete(&mut self, completion: Completion) {
        match completion.op {
            Op::Receive(slot) => self.complete_receive(slot, completion),
            Op::Send(slot) => self.complete_send(slot, completion.result),
            Op::Accept(number) => self.complete_accept(number, completion),
            Op::Wake => {
                if !io_uring::cqueue::more(completion.flags) {
                    self.ring.watch(&self.shared.wakers[self.index]);
                }
            }
            Op::Ignored => {}
        }
    }

    fn complete_receive(&mut self, slot: u32, completion: Completion) {
        let more = io_uring::cqueue::more(completion.flags);
        let buffer = io_uring::cqueue::buffer_select(completion.flags);
        let state = match self.socket(slot) {
            Some(socket) => {
                socket.received(more);
                socket.state
            }
            None => State::Dead,
        };
        if completion.result > 0
            && let Some(id) = buffer
        {
            self.last_work_now();
            if state == State::Open {
                let bytes = self.buffers.get(id, completion.result as usize);
                self.shard.handle_bytes(slot, bytes);
            }
            self.buffers.put(id);
        } else if let Some(id) = buffer {
            self.buffers.put(id);
        }
        let failed = completion.result == 0
            || (completion.result < 0
                && !matches!(-completion.result, libc::ENOBUFS | libc::ECANCELED | libc::EAGAIN | libc::EINTR));
        if failed {
            if let Some(socket) = self.socket(slot) {
                socket.ended = true;
            }
            match state {
                State::Open => self.shard.handle_eof(slot),
                _ => self.kill(slot),
            }
        }
        let Some(Some(socket)) = self.sockets.get_mut(slot as usize) else { return };
        if !failed {
            socket.arm(slot, &mut self.ring);
        }
        self.reap(slot);
    }

    fn complete_send(&mut self, slot: u32, result: i32) {
        let Some(Some(socket)) = self.sockets.get_mut(slot as usize) else { return };
        let state = socket.state;
        match socket.sent(result, slot, &mut self.ring) {
            Ok(None) => self.shard.handle_progress(slot),
            Ok(Some(buffer)) => {
                self.shard.handle_sent(slot, buffer);
                if state == State::Flushing {
                    self.flush_socket(slot);
                }
            }
            Err(buffer) => {
                self.shard.handle_sent(slot, buffer);
                match state {
                    State::Open => self.shard.handle_eof(slot),
                    _ => self.kill(slot),
                }
            }
        }
        self.reap(slot);
    }

    fn flush_socket(&mut self, slot: u32) {
        let Some(Some(socket)) = self.sockets.get_mut(slot as usize) else { return };
        if socket.is_sending() || !matches!(socket.state, State::Open | State::Flushing) {
            return;
        }
        match self.shard.take_output(slot) {
            Some(buffer) => socket.send(buffer, slot, &mut self.ring),
            None if socket.state == State::Flushing => {
                socket.finish_writing();
                self.reap(slot);
            }
            None => {}
        }
    }

    fn obey(&mut self, command: SocketCommand) {
        match command {
            SocketCommand::Close(slot) => {
                if let Some(socket) = self.socket(slot)
                    && socket.state == State::Open
                {
                    socket.state = State::Flushing;
                    self.flush_socket(slot);
                }
            }
            SocketCommand::Abort(slot) => {
                self.kill(slot);
                self.reap(slot);
            }
            SocketCommand::Pause(slot) | SocketCommand::Resume(slot) => {
                if let Some(Some(socket)) = self.sockets.get_mut(slot as usize) {
                    socket.want(matches!(command, SocketCommand::Resume(_)), slot, &mut self.ring);
                }
            }
        }
    }

    fn kill(&mut self, slot: u32) {
        if let Some(socket) = self.socket(slot) {
            socket.kill();
        }
    }

    /// Closes a dead socket once the kernel has let go of it.
    fn reap(&mut self, slot: u32) {
        let dead = self.socket(slot).is_some_and(|socket| socket.state == State::Dead && !socket.is_busy());
        if dead {
            self.sockets[slot as usize] = None;
            self.shared.loads[self.index].fetch_sub(1, Ordering::Relaxed);
            self.shard.handle_closed(slot);
        }
    }

    // === accepting ===

    fn complete_accept(&mut self, number: u32, completion: Completion) {
        if completion.result >= 0 {
            // SAFETY: the kernel has just made this descriptor for us.
            let fd = unsafe { OwnedFd::from_raw_fd(completion.result) };
            if !self.shared.stopping.load(Ordering::Relaxed)
                && let Some(Some((listener, _))) = self.listeners.get(number as usize)
            {
                self.place(*listener, fd);
            }
        } else if matches!(-completion.result, libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) {
            if self.accept_again.is_none() {
                tracing::error!("cannot accept connections: out of file descriptors; raise the limit (ulimit -n)");
            }
            self.accept_again = Some(Instant::now() + ACCEPT_PAUSE);
            return;
        }
        if !io_uring::cqueue::more(completion.flags)
            && !self.shared.stopping.load(Ordering::Relaxed)
            && let Some(Some((_, fd))) = self.listeners.get(number as usize)
        {
            self.ring.accept(number, fd.as_raw_fd());
        }
    }

    /// Gives a new connection to the shard with the fewest.
    fn place(&mut self, listener: u16, fd: OwnedFd) {
        let Some(peer) = peer_address(&fd) else { return };
        let loads = &self.shared.loads;
        let home = (0..loads.len()).min_by_key(|shard| loads[*shard].load(Ordering::Relaxed)).unwrap_or(self.index);
        loads[home].fetch_add(1, Ordering::Relaxed);
        let accepted = AcceptedSocket { fd, listener, peer };
        if home == self.index { self.adopt(accepted) } else { self.accepted[home].push(accepted) }
    }

    fn adopt(&mut self, accepted: AcceptedSocket) {
        let slot = self.shard.handle_accepted(accepted.listener, accepted.peer);
        let index = slot as usize;
        if self.sockets.len() <= index {
            self.sockets.resize_with(index + 1, || None);
        }
        let mut socket = Box::new(Socket::new(accepted.fd));
        socket.arm(slot, &mut self.ring);
        self.sockets[index] = Some(socket);
    }

    fn resume_accepting(&mut self) {
        if self.accept_again.is_some_and(|at| at <= Instant::now()) {
            self.accept_again = None;
            for (number, (_, fd)) in open(&self.listeners) {
                // One that is still armed answers once more when the first is cancelled.
                self.ring.cancel_accept(number);
                self.ring.accept(number, fd.as_raw_fd());
            }
        }
    }

    /// Opens and closes listeners as the configuration has changed.
    fn change_listeners(&mut self) {
        for change in self.socket_changes.try_iter().collect::<Vec<_>>() {
            for number in 0..self.listeners.len() {
                if self.listeners[number].as_ref().is_some_and(|(listener, _)| change.closed.contains(listener)) {
                    self.close_listener(number);
                }
            }
            for (listener, fd) in change.opened {
                self.ring.accept(self.listeners.len() as u32, fd.as_raw_fd());
                self.listeners.push(Some((listener, fd)));
            }
        }
    }

    fn close_listener(&mut self, number: usize) {
        let Some((_, fd)) = self.listeners[number].take() else { return };
        self.ring.cancel_accept(number as u32);
        // The port is free from here on, whenever the kernel is done with the accept in flight.
        let _ = socket2::SockRef::from(&fd).shutdown(std::net::Shutdown::Both);
    }

    // === the end ===

    /// Housekeeping between turns; returns whether the shard has nothing left to do.
    fn should_end(&mut self) -> bool {
        if self.accept_again.is_some() {
            self.resume_accepting();
        }
        if self.index == 0 && self.shared.sockets_changed.load(Ordering::Relaxed) {
            self.shared.sockets_changed.store(false, Ordering::Relaxed);
            self.change_listeners();
        }
        if !self.shared.stopping.load(Ordering::Relaxed) {
            return false;
        }
        if !self.listeners.is_empty() {
            for number in 0..self.listeners.len() {
                self.close_listener(number);
            }
            self.listeners.clear();
        }
        let now = Instant::now();
        let stop_by = *self.stop_by.get_or_insert(now + STOP_LINGER);
        (self.shard.is_stopping() && self.shard.connection_count() == 0) || now >= stop_by
    }
}

/// Listeners that are open, and the numbers of their accept operations.
fn open(listeners: &[Option<(u16, OwnedFd)>]) -> impl Iterator<Item = (u32, &(u16, OwnedFd))> {
    listeners.iter().enumerate().filter_map(|(number, listener)| Some((number as u32, listener.as_ref()?)))
}

fn peer_address(fd: &OwnedFd) -> Option<SocketAddr> {
    let socket = socket2::SockRef::from(fd);
    socket.peer_addr().ok()?.as_socket()
}
