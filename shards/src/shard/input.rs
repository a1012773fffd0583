//! Hot path: bytes of a connection to messages, and each message to its handler.

use super::{Shard, SocketCommand};
use crate::channel::End;
use crate::connection::worker::{Parked, Worker};
use crate::connection::{Connection, Stage};
use crate::control::Report;
use crate::ids::ConnectionId;
use crate::limits::{GATED_BYTES_MAX, HANDSHAKE_BYTES_MAX, PARKED_MESSAGES_MAX, PONG_OUTBOX_BYTES_MAX};
use crate::session::Session;
use crate::timers::Timer;
use crate::wire::encode::{self, Outcome, Value};
use crate::wire::envelope::{Envelope, Kind, Malformed};
use crate::wire::frame::{self, Message, WireError};
use crate::wire::handshake::{self, Handshake, Request, Target};
use crate::wire::{CloseCode, codes, telemetry};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};
use tungstenite::protocol::frame::coding::Control;

impl Shard {
    /// Bytes have arrived on a connection. They are unmasked in place.
    pub fn handle_bytes(&mut self, slot: u32, bytes: &mut [u8]) {
        let now_ms = self.now.ms;
        let Some(connection) = self.connections.get_mut(slot as usize).and_then(|slot| slot.connection.as_mut()) else {
            return;
        };
        connection.received_ms = now_ms;
        connection.pinged = false;
        let id = connection.id;
        match connection.stage {
            Stage::Handshake(_) => self.handle_handshake_bytes(id, bytes),
            Stage::Worker(_) | Stage::Telemetry | Stage::Channel(_) => self.handle_frames(id, bytes),
            Stage::BuiltIn { worker, .. } => self.built_in_socket_bytes(id, worker, bytes),
            Stage::Finishing | Stage::Closing => {}
        }
    }

    // === upgrade ===

    pub(super) fn handle_handshake_bytes(&mut self, id: ConnectionId, bytes: &[u8]) {
        let settings = self.settings.clone();
        let Some(connection) = self.connection_mut(id) else { return };
        let listener = &settings.listeners[usize::from(connection.listener)];
        let Stage::Handshake(head) = &mut connection.stage else { return };
        head.extend_from_slice(bytes);
        let mut head = std::mem::take(head);
        loop {
            if head.is_empty() {
                return;
            }
            match handshake::parse(&head, &listener.allowed_origins) {
                Handshake::Partial if head.len() > HANDSHAKE_BYTES_MAX => {
                    self.counters.violations += 1;
                    let answer = handshake::answer(431, "Request Header Fields Too Large", "connection: close\r\n", "");
                    self.write(id, |out| out.extend_from_slice(answer.as_bytes()));
                    self.close_socket(id);
                    // What the peer goes on sending stays in its own buffers until the socket goes.
                    self.commands.push_back(SocketCommand::Pause(id.slot));
                    return;
                }
                Handshake::Partial => {
                    if let Some(Connection { stage: Stage::Handshake(partial), .. }) = self.connection_mut(id) {
                        *partial = head;
                    }
                    return;
                }
                Handshake::Answer { response, head_bytes, close } => {
                    self.write(id, |out| out.extend_from_slice(response.as_bytes()));
                    if close {
                        return self.close_socket(id);
                    }
                    head.drain(..head_bytes);
                    let now_ms = self.now.ms;
                    if let Some(connection) = self.connection_mut(id) {
                        connection.progress_ms = now_ms;
                    }
                }
                Handshake::Upgrade { target, accept, head_bytes, request } => {
                    let mut rest = head.split_off(head_bytes);
                    self.upgrade(id, &target, &accept, &request);
                    if rest.is_empty() {
                        return;
                    }
                    // A channel that is not there leaves the connection where it was.
                    let refused = self.connection(id).is_some_and(|c| matches!(c.stage, Stage::Handshake(_)));
                    return if refused {
                        self.handle_handshake_bytes(id, &rest);
                    } else {
                        self.handle_frames(id, &mut rest);
                    };
                }
            }
        }
    }

    fn upgrade(&mut self, id: ConnectionId, target: &Target, accept: &str, request: &Request) {
        if let Target::Channel { id: channel, key, write } = target {
            return self.attach_channel(id, channel, key, *write, accept);
        }
        self.accept_upgrade(id, accept);
        if *target == Target::Telemetry {
            if let Some(connection) = self.connection_mut(id) {
                connection.stage = Stage::Telemetry;
            }
            self.ask_entry(id, target, request);
            return;
        }
        let worker = Box::new(Worker::new(self.new_uuid(), self.new_uuid()));
        if let Some(connection) = self.connection_mut(id) {
            connection.stage = Stage::Worker(worker);
        }
        if !self.ask_entry(id, target, request) {
            let session = self.open_session(id);
            self.welcome(id, session);
        }
    }

    /// Greets a worker that may come in.
    pub(super) fn welcome(&mut self, id: ConnectionId, session: Option<Arc<Session>>) {
        let Some(connection) = self.connection_mut(id) else { return };
        let peer = connection.peer.ip();
        let Some(worker) = connection.worker_mut() else { return };
        worker.session = session;
        let (worker_id, token) = (worker.id, worker.token);
        self.write(id, |out| {
            let (worker_id, token) = (worker_id.to_string(), token.to_string());
            let members = [("worker_id", Value::Text(&worker_id)), ("reattach_token", Value::Text(&token))];
            encode::write_text(out, "workerregistered", &members);
        });
        let unix_ms = self.now.unix_ms;
        self.report(Report::Connected { connection: id, worker_id, token, peer, unix_ms });
        self.timers.add(self.now.ms + self.settings.registration_namespace_grace_ms, false, Timer::Grace(id));
    }

    /// Answers an upgrade and starts to watch over the connection.
    pub(super) fn accept_upgrade(&mut self, id: ConnectionId, accept: &str) {
        let date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(self.now.unix_ms));
        let response = handshake::switching_protocols(accept, &date);
        self.write(id, |out| out.extend_from_slice(response.as_bytes()));
        if self.settings.ping_interval_ms > 0 || self.settings.idle_timeout_ms > 0 {
            let wait = [self.settings.ping_interval_ms, self.settings.idle_timeout_ms];
            let wait = wait.into_iter().filter(|wait| *wait > 0).min().unwrap_or(0);
            self.timers.add(self.now.ms + wait, true, Timer::Liveness(id));
        }
    }

    // === frames ===

    pub(super) fn handle_frames(&mut self, id: ConnectionId, mut input: &mut [u8]) {
        let Some(connection) = self.connection_mut(id) else { return };
        if let Some(gated) = &mut connection.gated {
            let open = gated.len() <= GATED_BYTES_MAX;
            gated.extend_from_slice(input);
            if open && gated.len() > GATED_BYTES_MAX {
                self.commands.push_back(SocketCommand::Pause(id.slot));
            }
            return;
        }
        if let Stage::Channel(end) = &connection.stage
            && end.end == End::Writer
        {
            return self.handle_writer_bytes(id, input);
        }
        // The reader leaves the connection while its message, which borrows from it, is handled.
        let mut reader = std::mem::take(&mut connection.reader);
        loop {
            match reader.next(&mut input) {
                Ok(Some(message)) => self.handle_message(id, message),
                Ok(None) => break,
                Err(error) => return self.fail(id, &error),
            }
            let Some(connection) = self.connection_mut(id) else { return };
            if matches!(connection.stage, Stage::Closing) {
                return;
            }
            if let Some(gated) = &mut connection.gated {
                gated.extend_from_slice(input);
                break;
            }
        }
        if let Some(connection) = self.connection_mut(id) {
            connection.reader = reader;
        }
    }

    /// Lets the input of a connection through again.
    pub(super) fn open_gate(&mut self, id: ConnectionId) {
        let Some(connection) = self.connection_mut(id) else { return };
        if connection.worker().is_some_and(|worker| worker.held) {
            return;
        }
        let Some(mut held) = connection.gated.take() else { return };
        if held.len() > GATED_BYTES_MAX {
            self.commands.push_back(SocketCommand::Resume(id.slot));
        }
        self.handle_frames(id, &mut held);
    }

    /// The peer broke the protocol or a limit: tell it, close, fail what it was running.
    pub(super) fn fail(&mut self, id: ConnectionId, error: &WireError) {
        self.counters.violations += 1;
        tracing::warn!(connection = %id, "closing connection: {error}");
        self.close(id, Some(error.code), &error.reason);
    }

    #[inline]
    pub(super) fn handle_message(&mut self, id: ConnectionId, message: Message<'_>) {
        match message {
            Message::Text(text) => {
                let stage = self.connection(id).map(|connection| &connection.stage);
                let is_worker = matches!(stage, Some(Stage::Worker(_)));
                // The reader of a channel has nothing to say (PROTO-115).
                if matches!(stage, Some(Stage::Channel(_))) {
                    return;
                }
                if simdutf8::basic::from_utf8(text).is_err() {
                    return self.fail(id, &WireError::utf8());
                }
                if is_worker {
                    self.handle_text(id, text);
                }
            }
            Message::Binary(bytes) => self.handle_binary(id, bytes),
            Message::Ping(payload) => {
                // A peer that pings without reading gets no more answers than it can be asked to read.
                let waiting = self.connection(id).map_or(0, |connection| connection.outbox.bytes());
                if waiting <= PONG_OUTBOX_BYTES_MAX {
                    self.write(id, |out| frame::write_control(out, Control::Pong, payload));
                }
            }
            Message::Pong(_) => {}
            Message::Close(code) => self.close(id, code, ""),
        }
    }

    fn handle_binary(&mut self, id: ConnectionId, bytes: &[u8]) {
        let stage = self.connection(id).map(|connection| &connection.stage);
        let is_worker = matches!(stage, Some(Stage::Worker(_)));
        if !is_worker && !matches!(stage, Some(Stage::Telemetry)) {
            return;
        }
        if let Some((signal, body)) = telemetry::split(bytes) {
            return self.accept_telemetry(id, signal, body);
        }
        if is_worker {
            if simdutf8::basic::from_utf8(bytes).is_err() {
                return self.note_malformed(
                    id,
                    &Malformed {
                        reason: "binary frame is neither telemetry nor UTF-8".to_owned(),
                        call: None,
                        result: None,
                    },
                );
            }
            self.handle_text(id, bytes);
        }
    }

    /// One protocol message; `text` is valid UTF-8.
    #[inline]
    fn handle_text(&mut self, id: ConnectionId, text: &[u8]) {
        match Envelope::parse(text) {
            Ok(envelope) => self.handle_envelope(id, &envelope),
            Err(malformed) => {
                if !text.trim_ascii().is_empty() {
                    self.handle_malformed(id, &malformed);
                }
            }
        }
    }

    #[inline]
    pub(super) fn handle_envelope(&mut self, id: ConnectionId, envelope: &Envelope<'_>) {
        match envelope.kind {
            Kind::InvokeFunction => self.handle_invoke(id, envelope),
            Kind::InvocationResult => self.handle_result(id, envelope),
            _ => self.handle_rare(id, envelope),
        }
        if let Some(worker) = self.connection_mut(id).and_then(Connection::worker_mut) {
            worker.started = true;
        }
    }

    #[inline(never)]
    fn handle_rare(&mut self, id: ConnectionId, envelope: &Envelope<'_>) {
        match envelope.kind {
            Kind::Ping => self.write(id, |out| encode::write_text(out, "pong", &[])),
            Kind::Pong | Kind::EngineOnly | Kind::InvokeFunction | Kind::InvocationResult => {}
            Kind::Reattach => self.handle_reattach(id, envelope),
            Kind::RegisterWorker => {
                if !self.park_registration(id, envelope) {
                    self.announce(id, None, envelope.text);
                }
            }
            Kind::RegisterFunction
            | Kind::UnregisterFunction
            | Kind::RegisterTriggerType
            | Kind::UnregisterTriggerType
            | Kind::RegisterTrigger
            | Kind::UnregisterTrigger
            | Kind::RegisterService => {
                if !self.park_registration(id, envelope) {
                    self.register(id, envelope);
                }
            }
            Kind::TriggerRegistrationResult => {
                let text = envelope.text.into();
                self.report(Report::Message { connection: id, kind: envelope.kind, text });
            }
        }
    }

    /// Holds a registration or an announcement back: until the namespace is known (PROTO-43), and until the calls
    /// before it are on their way. Returns whether it did.
    pub(super) fn park_registration(&mut self, id: ConnectionId, envelope: &Envelope<'_>) -> bool {
        let Some(worker) = self.connection(id).and_then(Connection::worker) else { return true };
        let must_wait = match worker.namespace {
            // An announcement is what they wait for.
            None => envelope.kind != Kind::RegisterWorker,
            Some(_) => worker.waits_on.is_some() || !worker.parked.is_empty(),
        };
        if must_wait {
            let registers = (envelope.kind == Kind::RegisterFunction)
                .then(|| Envelope::required(envelope.members.id, "id").ok().map(|id| id.into()))
                .flatten();
            self.park(id, Parked { text: envelope.text.into(), is_call: false, registers });
        }
        must_wait
    }

    pub(super) fn park(&mut self, id: ConnectionId, parked: Parked) {
        let Some(worker) = self.connection_mut(id).and_then(Connection::worker_mut) else { return };
        if worker.parked.len() >= PARKED_MESSAGES_MAX {
            return self.close(id, Some(CloseCode::Policy), "too many messages wait for registrations to take effect");
        }
        worker.parked.push_back(parked);
    }

    /// A frame that is no message is logged and counted; the peer it concerns is told if it can be made out.
    #[cold]
    fn handle_malformed(&mut self, id: ConnectionId, malformed: &Malformed) {
        self.note_malformed(id, malformed);
        if let Some(invocation_id) = malformed.call {
            self.answer(
                id,
                invocation_id,
                "",
                &Outcome::Error { code: codes::INVALID_MESSAGE, message: &malformed.reason, stacktrace: None },
            );
        }
        if let Some(invocation_id) = malformed.result {
            self.finish_in_flight(
                id,
                invocation_id,
                &Outcome::Error {
                    code: codes::INVALID_RESULT,
                    message: &format!("the worker's result is not valid: {}", malformed.reason),
                    stacktrace: None,
                },
            );
        }
    }

    pub(super) fn note_malformed(&mut self, id: ConnectionId, malformed: &Malformed) {
        self.counters.malformed += 1;
        tracing::warn!(connection = %id, "ignored a frame: {}", malformed.reason);
    }
}
