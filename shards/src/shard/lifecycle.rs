//! Connections come and go: accept, close, clean-up, reattach, deadlines, and what peers send.

use super::calls::write_answer;
use super::mesh::{Batch, Registration, RingMessage};
use super::{Shard, Slot, SocketCommand};
use crate::connection::outbox::Spare;
use crate::connection::worker::{Pending, Worker};
use crate::connection::{Connection, Stage};
use crate::control::{Command, Report};
use crate::ids::{ConnectionId, ShardId};
use crate::limits::{
    CHANNEL_OUTBOX_BYTES_MAX, CHANNEL_STALL_FACTOR, CLOSE_LINGER_MS, HANDOVER_BYTES_MAX, REATTACH_HANDOVER_MS,
};
use crate::registry::owner::Claim;
use crate::timers::Timer;
use crate::wire::encode::{self, Outcome, Value};
use crate::wire::envelope::Envelope;
use crate::wire::frame;
use crate::wire::{CloseCode, codes};
use hashbrown::HashMap;
use std::net::SocketAddr;
use tungstenite::protocol::frame::coding::Control;
use uuid::Uuid;

/// The calls a lost connection was waiting for, kept a while in case the worker reattaches (PROTO-48).
pub(super) struct Ghost {
    pending: HashMap<Uuid, Pending>,
    message_bytes_max: usize,
    /// Answers that came meanwhile, encoded.
    answers: Vec<Vec<u8>>,
    answer_bytes: usize,
    /// The connection that took over.
    successor: Option<ConnectionId>,
    /// It continued another in its time, whose answers must find their way to the successor.
    continues: bool,
    /// When it is given up; a timer that fires earlier is one that a handover has made obsolete.
    until_ms: u64,
}

impl Shard {
    // === accept and close ===

    /// A socket was accepted for this shard. Returns the slot by which the runtime names it.
    pub fn handle_accepted(&mut self, listener: u16, peer: SocketAddr) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.connections.push(Slot { generation: self.first_generation, connection: None });
            self.connections.len() as u32 - 1
        });
        let entry = &mut self.connections[slot as usize];
        let id = ConnectionId { shard: self.id, slot, generation: entry.generation };
        entry.connection = Some(Box::new(Connection::new(id, listener, peer, self.now.ms)));
        if let Some((worker, number)) = self.listener_owner(listener) {
            self.open_built_in_socket(id, worker, number);
            return slot;
        }
        let timeout = self.settings.listeners[usize::from(listener)].handshake_timeout_ms;
        self.timers.add(self.now.ms + timeout, false, Timer::Handshake(id));
        slot
    }

    /// The peer has ended its side, or the socket failed.
    pub fn handle_eof(&mut self, slot: u32) {
        let Some(entry) = self.connections.get_mut(slot as usize) else { return };
        let Some(connection) = entry.connection.as_mut() else { return };
        if matches!(connection.stage, Stage::Closing) {
            // A peer may end its side right behind its Close frame; ours is still to be sent (PROTO-17).
            return;
        }
        let id = connection.id;
        if self.built_in_socket_ended(id) {
            return;
        }
        self.finish_writer(id);
        self.detach(id);
        self.commands.push_back(SocketCommand::Abort(slot));
    }

    /// The socket is closed and nothing of it is left in the kernel: the slot may be used again.
    pub fn handle_closed(&mut self, slot: u32) {
        let Some(entry) = self.connections.get_mut(slot as usize) else { return };
        let Some(connection) = entry.connection.as_ref() else { return };
        let (id, listener) = (connection.id, connection.listener);
        self.detach(id);
        self.built_in_socket_closed(id, listener);
        let entry = &mut self.connections[slot as usize];
        if let Some(connection) = entry.connection.take() {
            self.spare.note_freed(connection.outbox.bytes());
        }
        entry.generation = entry.generation.wrapping_add(1);
        self.free.push(slot);
    }

    /// Ends a connection: Close frame, flush, then the socket. What it ran is failed at once.
    pub(super) fn close(&mut self, id: ConnectionId, code: Option<CloseCode>, reason: &str) {
        self.write(id, |out| frame::write_close(out, code, reason));
        self.close_socket(id);
    }

    /// Ends a connection after its output, without a Close frame.
    pub(super) fn close_socket(&mut self, id: ConnectionId) {
        self.close_socket_within(id, CLOSE_LINGER_MS);
    }

    /// The same, with another limit to how long the peer may take.
    pub(super) fn close_socket_within(&mut self, id: ConnectionId, linger_ms: u64) {
        if self.connection(id).is_none_or(|connection| matches!(connection.stage, Stage::Closing)) {
            return;
        }
        self.detach(id);
        self.commands.push_back(SocketCommand::Close(id.slot));
        self.timers.add(self.now.ms + linger_ms, false, Timer::Linger(id));
    }

    /// An outbox is over its bound. That of a channel has its own: a window, whatever the setting for workers.
    #[cold]
    pub(super) fn handle_overfull(&mut self, id: ConnectionId) {
        let Some(connection) = self.connection(id) else { return };
        let is_channel = matches!(connection.stage, Stage::Channel(_));
        if !is_channel || connection.outbox.bytes() > CHANNEL_OUTBOX_BYTES_MAX {
            self.close_stalled(id);
        }
    }

    /// The peer takes nothing any more.
    pub(super) fn close_stalled(&mut self, id: ConnectionId) {
        let Some(connection) = self.connection_mut(id) else { return };
        tracing::warn!(connection = %id, "closing connection: its output is not being read");
        if matches!(connection.stage, Stage::Finishing | Stage::BuiltIn { .. }) {
            // A Close frame is queued already, behind what is not being read, or means nothing to the peer.
            self.detach(id);
            return self.commands.push_back(SocketCommand::Abort(id.slot));
        }
        connection.outbox.discard();
        self.write_close_stalled(id);
    }

    fn write_close_stalled(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connection_mut(id)
            && !matches!(connection.stage, Stage::Closing)
        {
            let (out, _) = connection.outbox.open(&mut Spare::default());
            frame::write_close(out, Some(CloseCode::Restart), "output is not being read");
            self.close_socket(id);
        }
    }

    /// Takes a connection out of service: everything it provided, ran and asked for (PROTO-48).
    pub(super) fn detach(&mut self, id: ConnectionId) {
        let Some(connection) = self.connection_mut(id) else { return };
        let stage = std::mem::replace(&mut connection.stage, Stage::Closing);
        connection.reader = frame::Reader::default();
        connection.gated = None;
        match stage {
            Stage::Worker(worker) => self.clean_up(id, *worker),
            Stage::Channel(end) => self.leave_channel(id, *end),
            _ => {}
        }
    }

    fn clean_up(&mut self, id: ConnectionId, mut worker: Worker) {
        let namespace = worker.namespace.clone().unwrap_or_else(|| self.default_namespace.clone());
        let claim = Claim { worker: worker.id, process: worker.process, round: 0 };
        for (index, function) in worker.functions.iter().enumerate() {
            if function.live {
                let name = self.name(&namespace, &function.id);
                let provider = crate::ids::ProviderId { connection: id, registration: index as u32 };
                self.tell_owner_unregistered(Registration { name, provider, claim });
            }
        }
        for pending in worker.pending.values_mut() {
            if let Some(provider) = pending.provider.take() {
                pending.route.release(provider);
            }
        }
        if !worker.pending.is_empty() || worker.continues {
            let until_ms = self.now.ms + REATTACH_HANDOVER_MS;
            self.ghosts.insert(
                id,
                Ghost {
                    pending: worker.pending,
                    message_bytes_max: worker.message_bytes_max,
                    answers: Vec::new(),
                    answer_bytes: 0,
                    successor: None,
                    continues: worker.continues,
                    until_ms,
                },
            );
            self.timers.add(until_ms, false, Timer::Ghost(id));
        }
        // After the ghost is made: its own calls to itself end too, and the worker hears of it if it returns.
        let stopped = Outcome::Error {
            code: codes::INVOCATION_STOPPED,
            message: codes::INVOCATION_STOPPED_MESSAGE,
            stacktrace: None,
        };
        for (_, in_flight) in worker.in_flight.drain() {
            self.send_outcome(in_flight.caller, in_flight.invocation_id, &stopped);
        }
        self.report(Report::Gone { connection: id });
    }

    // === reattach ===

    /// First message of a worker that was here before (PROTO-46).
    pub(super) fn handle_reattach(&mut self, id: ConnectionId, envelope: &Envelope<'_>) {
        let Some(connection) = self.connection_mut(id) else { return };
        let Some(worker) = connection.worker_mut() else { return };
        if worker.started {
            return;
        }
        let uuid = |raw| Envelope::string(raw, "").ok().flatten().and_then(|text| Uuid::try_parse(&text).ok());
        let previous = uuid(envelope.members.previous_worker_id);
        let token = uuid(envelope.members.reattach_token);
        let (Some(previous), Some(token)) = (previous, token) else { return };
        worker.continues = true;
        connection.gated = Some(Vec::new());
        self.report(Report::Reattach { connection: id, previous, token });
    }

    /// Another connection continues this worker: it ends, and its calls go over.
    fn evict(&mut self, id: ConnectionId, successor: ConnectionId) {
        self.close(id, Some(CloseCode::Restart), "reattached");
        self.hand_over(id, successor);
        self.report(Report::Evicted { successor });
    }

    /// Sends what a lost connection was owed to the one that took over.
    fn hand_over(&mut self, id: ConnectionId, successor: ConnectionId) {
        let Some(ghost) = self.ghosts.get_mut(&id) else { return };
        ghost.successor = Some(successor);
        ghost.answer_bytes = 0;
        let answers = std::mem::take(&mut ghost.answers);
        if ghost.is_done() {
            self.ghosts.remove(&id);
        } else {
            // Calls that never end must not keep it for ever.
            ghost.until_ms = self.now.ms + 30 * REATTACH_HANDOVER_MS;
            self.timers.add(ghost.until_ms, true, Timer::Ghost(id));
        }
        for answer in answers {
            self.send_handed_over(successor, &answer);
        }
    }

    fn send_handed_over(&mut self, to: ConnectionId, answer: &[u8]) {
        if to.shard == self.id {
            self.handle_handed_over(to, answer);
        } else {
            self.mesh[to.shard.index()].hand_over(to, answer);
        }
    }

    /// An answer to a call of a connection that `to` continues. If `to` is lost as well it goes on to the next.
    fn handle_handed_over(&mut self, to: ConnectionId, answer: &[u8]) {
        if self.connection(to).and_then(Connection::worker).is_some() {
            return self.write(to, |out| out.extend_from_slice(answer));
        }
        let Some(ghost) = self.ghosts.get_mut(&to) else { return };
        match ghost.successor {
            Some(successor) => self.send_handed_over(successor, answer),
            None => ghost.keep(to, answer.to_vec()),
        }
    }

    /// An answer for a caller that is not there. If it was lost a moment ago the answer is kept for its return.
    pub(super) fn finish_ghost(&mut self, caller: ConnectionId, invocation_id: Uuid, outcome: &Outcome<'_>) {
        let Some(ghost) = self.ghosts.get_mut(&caller) else { return };
        let Some(pending) = ghost.pending.remove(&invocation_id) else { return };
        let mut answer = Vec::new();
        let limit = ghost.message_bytes_max;
        let echo = pending.echo.as_deref();
        let function_id = echo.and_then(|echo| echo.function_id.as_deref()).unwrap_or(&pending.route.id);
        write_answer(&mut answer, limit, invocation_id, function_id, outcome, echo);
        match ghost.successor {
            Some(successor) => {
                if ghost.is_done() {
                    self.ghosts.remove(&caller);
                }
                self.send_handed_over(successor, &answer);
            }
            None => ghost.keep(caller, answer),
        }
    }

    // === deadlines ===

    /// Runs what is due.
    pub fn handle_timers(&mut self) {
        self.wake_built_ins();
        while let Some(due) = self.timers.pop_due(self.now.ms) {
            for timer in due {
                match timer {
                    Timer::Handshake(id) => self.handle_handshake_timeout(id),
                    Timer::Grace(id) => self.handle_grace(id),
                    Timer::Liveness(id) => self.check_liveness(id),
                    Timer::Linger(id) => {
                        if self.connection(id).is_some() {
                            self.commands.push_back(SocketCommand::Abort(id.slot));
                        }
                    }
                    Timer::Ghost(id) => {
                        if self.ghosts.get(&id).is_some_and(|ghost| ghost.until_ms <= self.now.ms) {
                            self.ghosts.remove(&id);
                        }
                    }
                    Timer::ChannelSweep => self.sweep_channels(),
                    Timer::Call(id, invocation_id) => self.handle_call_timeout(id, invocation_id),
                }
            }
        }
    }

    fn handle_handshake_timeout(&mut self, id: ConnectionId) {
        let Some(connection) = self.connection(id) else { return };
        if !matches!(connection.stage, Stage::Handshake(_)) {
            return;
        }
        // The deadline runs from accept or from the last answer, not from the last byte; an answer re-arms it.
        let timeout = self.settings.listeners[usize::from(connection.listener)].handshake_timeout_ms;
        let answered_ms = connection.progress_ms;
        let due_ms = answered_ms + timeout;
        if self.now.ms < due_ms {
            // The answer left the outbox after this timer was armed. Without another one nothing would end it.
            return self.timers.add(due_ms, false, Timer::Handshake(id));
        }
        self.detach(id);
        self.commands.push_back(SocketCommand::Abort(id.slot));
    }

    /// Pings a silent peer, closes a dead or stalled one (PROTO-14, PROTO-70).
    fn check_liveness(&mut self, id: ConnectionId) {
        let now_ms = self.now.ms;
        let settings = self.settings.clone();
        let Some(connection) = self.connection_mut(id) else { return };
        if matches!(connection.stage, Stage::Closing | Stage::Handshake(_)) {
            return;
        }
        if matches!(connection.stage, Stage::BuiltIn { .. }) {
            return self.check_stalled(id);
        }
        // Silence means nothing while back-pressure is at work: a writer we do not read cannot be heard, and a
        // reader that is busy with what it has does not answer pings. Both are bounded by the reader's progress.
        let held_up = match &connection.stage {
            Stage::Channel(end) => end.is_held_up(),
            Stage::Finishing => true,
            _ => false,
        };
        let silent_ms = if held_up { 0 } else { now_ms.saturating_sub(connection.received_ms) };
        let stalled_ms = if connection.outbox.is_empty() { 0 } else { now_ms.saturating_sub(connection.progress_ms) };
        let stalled_peer_ms = match connection.stage {
            Stage::Channel(_) | Stage::Finishing => settings.stalled_peer_ms * CHANNEL_STALL_FACTOR,
            _ => settings.stalled_peer_ms,
        };
        if settings.idle_timeout_ms > 0 && silent_ms >= settings.idle_timeout_ms {
            tracing::info!(connection = %id, "closing connection: nothing received for {silent_ms} ms");
            return self.close(id, Some(CloseCode::Restart), "nothing received");
        }
        if stalled_peer_ms > 0 && stalled_ms >= stalled_peer_ms {
            return self.close_stalled(id);
        }
        if settings.ping_interval_ms > 0 && silent_ms >= settings.ping_interval_ms && !connection.pinged {
            connection.pinged = true;
            self.write(id, |out| frame::write_control(out, Control::Ping, b""));
        }
        let mut wait_ms = u64::MAX;
        if settings.ping_interval_ms > 0 {
            let since = if silent_ms >= settings.ping_interval_ms { 0 } else { silent_ms };
            wait_ms = wait_ms.min(settings.ping_interval_ms - since);
        }
        if settings.idle_timeout_ms > 0 {
            wait_ms = wait_ms.min(settings.idle_timeout_ms - silent_ms);
        }
        if stalled_ms > 0 && stalled_peer_ms > 0 {
            wait_ms = wait_ms.min(stalled_peer_ms - stalled_ms);
        }
        self.timers.add(now_ms + wait_ms.max(1), true, Timer::Liveness(id));
    }

    /// Closes the socket of a built-in worker whose peer reads nothing. Its silence is the worker's to judge.
    pub(super) fn check_stalled(&mut self, id: ConnectionId) {
        let (now_ms, limit_ms) = (self.now.ms, self.settings.stalled_peer_ms);
        let Some(connection) = self.connection(id).filter(|_| limit_ms > 0) else { return };
        let stalled_ms = if connection.outbox.is_empty() { 0 } else { now_ms.saturating_sub(connection.progress_ms) };
        if stalled_ms >= limit_ms {
            return self.close_stalled(id);
        }
        self.timers.add(now_ms + limit_ms - stalled_ms, true, Timer::Liveness(id));
    }

    // === peers ===

    /// Runs what another shard sent. The batch is emptied, its buffers stay with it.
    pub fn handle_batch(&mut self, from: ShardId, batch: &mut Batch) {
        let (mut messages, bytes) = super::calls::take_messages(batch);
        for message in messages.drain(..) {
            self.handle_ring_message(from, message, &bytes);
        }
        batch.messages = messages;
        batch.bytes = bytes;
        batch.clear();
    }

    fn handle_ring_message(&mut self, from: ShardId, message: RingMessage, bytes: &[u8]) {
        match message {
            RingMessage::Invoke(message) => self.handle_remote_invoke(&message, bytes),
            RingMessage::Result(message) => {
                self.finish(message.caller, message.invocation_id, &message.outcome(bytes));
            }
            RingMessage::Bounced(message) => self.handle_bounced(&message, bytes),
            RingMessage::Resolve(name) => self.own_resolve(&name, from),
            RingMessage::Routes(routes) => {
                let answer = routes.is_answer.then_some(&*routes.elsewhere);
                self.apply_routes(&routes.name, &routes.providers, answer);
            }
            RingMessage::Register(registration) => self.own_register(&registration),
            RingMessage::Unregister(registration) => self.own_unregister(&registration),
            RingMessage::Replaced(provider, round) => self.handle_replaced(provider, round),
            RingMessage::Refused(provider, owner) => self.handle_refused(provider, owner),
            RingMessage::Posted(worker, message) => self.handle_posted(worker, message),
            RingMessage::HandOver(to, span) => {
                let answer = Batch::handed_over(bytes, span);
                self.handle_handed_over(to, answer);
            }
            RingMessage::Channel(message) => self.handle_channel_message(message),
            RingMessage::Command(command) => self.handle_command(*command),
            RingMessage::Report(_) => debug_assert!(false, "reports go to the control shard"),
        }
    }

    fn handle_command(&mut self, command: Command) {
        match command {
            Command::Send { connection, text } => {
                self.write(connection, |out| encode::write_payload(out, false, &text));
            }
            Command::OpenGate { connection } => {
                if self.connection(connection).and_then(Connection::worker).is_some_and(|w| w.namespace.is_some()) {
                    self.settle(connection);
                }
                self.open_gate(connection);
            }
            Command::RejectName { connection, namespace, name, owner } => {
                self.write(connection, |out| {
                    encode::write_text(
                        out,
                        "registrationrejected",
                        &[
                            ("code", Value::Text(codes::WORKER_NAMESPACE_CONFLICT)),
                            ("namespace", Value::Text(&namespace)),
                            ("worker_name", Value::Text(&name)),
                            ("owner_worker_id", Value::Text(&owner)),
                        ],
                    );
                });
                self.close(connection, None, "");
            }
            Command::Echo => self.report(Report::Echoed),
            Command::Evict { connection, successor } => self.evict(connection, successor),
            Command::HandOver { lost, successor } => self.hand_over(lost, successor),
            Command::Fire(firing) => self.fire(firing),
            Command::CountLoad { query } => {
                let load = self
                    .connections
                    .iter()
                    .filter_map(|slot| slot.connection.as_deref())
                    .filter_map(|connection| {
                        let running = connection.worker()?.in_flight.len() as u32;
                        (running > 0).then_some((connection.id, running))
                    })
                    .collect();
                self.report(Report::Load { query, load });
            }
            Command::Metadata { connection, text, metadata } => {
                self.handle_metadata(connection, &text, metadata.as_deref());
            }
            Command::Trigger { worker, trigger, added } => self.handle_trigger(worker, trigger, added),
            Command::Change(change) => self.apply_change(&change),
            Command::Stop => self.handle_stop(),
        }
    }

    /// The listener of a connection is closed or has other rules now: the peer is to come back (CFG-96, CFG-97).
    pub(super) fn end_for_change(&mut self, id: ConnectionId) {
        match self.connection(id).map(|connection| &connection.stage) {
            Some(Stage::Worker(_) | Stage::Telemetry | Stage::Channel(_)) => {
                self.close(id, Some(CloseCode::Restart), "the listener has changed");
            }
            _ => self.close_socket(id),
        }
    }

    /// The engine is stopping: callers are told, peers are asked to come back (PROTO-18, CFG-108).
    fn handle_stop(&mut self) {
        self.stopping = true;
        let stopped = Outcome::Error {
            code: codes::INVOCATION_STOPPED,
            message: codes::INVOCATION_STOPPED_MESSAGE,
            stacktrace: None,
        };
        let ids: Vec<ConnectionId> =
            self.connections.iter().filter_map(|slot| Some(slot.connection.as_ref()?.id)).collect();
        for id in &ids {
            let Some(worker) = self.connection_mut(*id).and_then(Connection::worker_mut) else { continue };
            let pending: Vec<Uuid> = worker.pending.keys().copied().collect();
            for invocation_id in pending {
                self.finish(*id, invocation_id, &stopped);
            }
        }
        self.stop_built_ins(&stopped);
        for id in ids {
            match self.connection(id).map(|connection| &connection.stage) {
                Some(Stage::Worker(_) | Stage::Telemetry | Stage::Channel(_)) => {
                    self.close(id, Some(CloseCode::Restart), "the engine is stopping");
                }
                Some(Stage::Handshake(_) | Stage::Finishing | Stage::BuiltIn { .. }) => self.close_socket(id),
                _ => {}
            }
        }
    }
}

// === impl Ghost ===

impl Ghost {
    /// Nothing can come any more that would have to be passed on.
    fn is_done(&self) -> bool {
        self.pending.is_empty() && !self.continues
    }

    fn keep(&mut self, caller: ConnectionId, answer: Vec<u8>) {
        if self.answer_bytes + answer.len() > HANDOVER_BYTES_MAX {
            return tracing::warn!(connection = %caller, "dropped a result: its caller has left");
        }
        self.answer_bytes += answer.len();
        self.answers.push(answer);
    }
}
