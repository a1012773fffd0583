//! The sockets of this shard: upgrade, authentication, messages, and what is written to each.
//!
//! ```text
//!  Head ──upgrade──► Asking ──permitted──► Open ──close, error, stop──► Closing ──► gone
//!    └────────── no auth function ──────────►┘
//! ```
//!
//! A socket holds nobody up: what it does not read is bounded, then left out, and made good by a sync when it has read
//! the rest (STREAM-DB-2).

use super::event::{Event, Message};
use super::letter::{Letter, Outgoing, Ticket};
use super::name::GroupName;
use super::subscriptions::{Standing, Subscriptions};
use super::visit::{self, Entrance, Wanted, Wish};
use super::watch::{Watches, note_ended};
use super::{Options, PROVIDER_TIMEOUT_MS, limits};
use iii_shards::builtin::firing::{End, Firing, Run, Target};
use iii_shards::builtin::{Host, Outcome, OutgoingCall, SocketId, Token};
use iii_shards::http::date::HttpDate;
use iii_shards::ids::ShardId;
use iii_shards::registry::DEFAULT_NAMESPACE;
use iii_shards::wire::frame::{Message as Heard, Reader, WireError, write_close, write_control};
use iii_shards::wire::handshake::{Handshake, Request, answer, parse_with, switching_protocols};
use iii_shards::wire::{CloseCode, Control, codes};
use slab::Slab;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

/// The sockets of this shard.
pub struct Browsers {
    options: Rc<[Options]>,
    connections: Slab<Connection>,
    by_socket: HashMap<SocketId, u32>,
    subscriptions: Subscriptions,
    auth: HashMap<Token, SocketId>,
    joins: Watches,
    leaves: Watches,
    firing: Firing<Option<SocketId>>,
    /// Events of other shards dealt with and not yet reported.
    taken: HashMap<ShardId, (u32, usize)>,
    /// When to ask for the state of every subscription: the settings have changed.
    resume_at: Option<u64>,
}

struct Connection {
    socket: SocketId,
    listener: usize,
    peer: SocketAddr,
    stage: Stage,
    reader: Reader,
    /// Messages behind the join that is under way.
    inbox: VecDeque<Wish>,
    inbox_bytes: usize,
    joining: Option<Box<Joining>>,
    context: Option<Box<[u8]>>,
    /// Slots of the subscriptions, by their ids.
    subscriptions: BTreeMap<Box<str>, u32>,
    heard_ms: u64,
    pinged: bool,
    paused: bool,
    /// Frames written since the socket last had taken everything.
    frames: u32,
    /// Events are being left out since then.
    behind_since: Option<u64>,
}

enum Stage {
    /// The upgrade request is not complete.
    Head(Vec<u8>),
    /// The auth function has been asked. What the client sent early waits.
    Asking { accept: String, entrance: Entrance, early: Vec<u8> },
    /// Messages are exchanged.
    Open,
    /// A close frame has been sent.
    Closing(u64),
}

/// A join under way: its handlers are asked one after the other, then the group's home.
struct Joining {
    wanted: Wanted,
    payload: Rc<[u8]>,
    handlers: VecDeque<Target>,
    refused: bool,
    ticket: Option<Ticket>,
}

impl Browsers {
    /// No sockets yet.
    pub fn new(options: Rc<[Options]>) -> Browsers {
        Browsers {
            options,
            connections: Slab::new(),
            by_socket: HashMap::new(),
            subscriptions: Subscriptions::default(),
            auth: HashMap::new(),
            joins: Watches::default(),
            leaves: Watches::default(),
            firing: Firing::default(),
            taken: HashMap::new(),
            resume_at: None,
        }
    }

    /// The settings of the listeners.
    pub fn options(&self) -> Rc<[Options]> {
        self.options.clone()
    }

    /// The sockets, for an instance with other settings, which count for new sockets (STREAM-44). Everything that was
    /// under way has ended: joins begin again, and each subscription gets the state once the other shards are there.
    pub fn inherited(mut self, options: Rc<[Options]>, host: &mut dyn Host) -> Browsers {
        for key in self.keys() {
            let connection = &mut self.connections[key as usize];
            if let Some(joining) = connection.joining.take() {
                connection.inbox.push_front(Wish::Join(joining.wanted));
            }
            for slot in connection.subscriptions.values() {
                if let Some(subscription) = self.subscriptions.get_mut(*slot) {
                    subscription.standing = Standing::Behind;
                }
            }
            if matches!(connection.stage, Stage::Asking { .. }) {
                self.refuse(key, 503, "Service Unavailable", host);
            }
        }
        let resume_at = host.now().ms + limits::RESUME_MS;
        host.wake_at(Some(resume_at));
        Browsers {
            connections: self.connections,
            by_socket: self.by_socket,
            subscriptions: self.subscriptions,
            resume_at: Some(resume_at),
            ..Browsers::new(options)
        }
    }

    /// Goes on after a change of the settings, when it is time.
    pub fn resume(&mut self, host: &mut dyn Host, out: &mut Outgoing) {
        if self.resume_at.take_if(|at| *at <= host.now().ms).is_none() {
            return;
        }
        for key in self.keys() {
            let connection = &self.connections[key as usize];
            if connection.behind_since.is_none() {
                let slots: Vec<u32> = connection.subscriptions.values().copied().collect();
                for slot in slots {
                    self.synchronise(slot, host, out);
                }
            }
            self.advance(key, host, out);
        }
    }

    /// The `stream:join` triggers.
    pub fn joins(&mut self) -> &mut Watches {
        &mut self.joins
    }

    /// The `stream:leave` triggers.
    pub fn leaves(&mut self) -> &mut Watches {
        &mut self.leaves
    }

    // === sockets ===

    /// A browser has connected.
    pub fn opened(&mut self, socket: SocketId, listener: usize, peer: SocketAddr, host: &mut dyn Host) {
        let key = self.connections.insert(Connection {
            socket,
            listener,
            peer,
            stage: Stage::Head(Vec::new()),
            reader: Reader::default(),
            inbox: VecDeque::new(),
            inbox_bytes: 0,
            joining: None,
            context: None,
            subscriptions: BTreeMap::new(),
            heard_ms: host.now().ms,
            pinged: false,
            paused: false,
            frames: 0,
            behind_since: None,
        });
        self.by_socket.insert(socket, key as u32);
        if self.connections.len() == 1 && self.resume_at.is_none() {
            host.wake_at(Some(host.now().ms + limits::SWEEP_MS));
        }
    }

    /// Bytes have arrived.
    pub fn bytes(&mut self, socket: SocketId, bytes: &mut [u8], host: &mut dyn Host, out: &mut Outgoing) {
        let Some(key) = self.key(socket) else { return };
        let connection = &mut self.connections[key as usize];
        match &mut connection.stage {
            Stage::Open => self.frames(key, bytes, host, out),
            Stage::Head(head) => {
                head.extend_from_slice(bytes);
                self.heads(key, host, out);
            }
            Stage::Asking { early, .. } => early.extend_from_slice(bytes),
            Stage::Closing(_) => {}
        }
    }

    /// A socket has taken everything that was written.
    pub fn flushed(&mut self, socket: SocketId, host: &mut dyn Host, out: &mut Outgoing) {
        let Some(key) = self.key(socket) else { return };
        let connection = &mut self.connections[key as usize];
        connection.frames = 0;
        if connection.behind_since.take().is_some() {
            let behind: Vec<u32> = connection.subscriptions.values().copied().collect();
            for slot in behind {
                self.synchronise(slot, host, out);
            }
        }
    }

    /// A socket is gone.
    pub fn closed(&mut self, socket: SocketId, host: &mut dyn Host, out: &mut Outgoing) {
        let Some(key) = self.by_socket.remove(&socket) else { return };
        let connection = self.connections.remove(key as usize);
        for slot in connection.subscriptions.into_values() {
            let Some((gone, last)) = self.subscriptions.remove(slot) else { continue };
            let wanted = Wanted {
                subscription_id: gone.id,
                stream_name: gone.group.stream.clone(),
                group_id: gone.group.group.clone(),
                id: gone.item,
            };
            tell_of_leave(&mut self.firing, &self.leaves, &wanted, connection.context.as_deref(), host);
            if last {
                unwatch(gone.group, host, out);
            }
        }
        // Only fires that nobody waits for end here: leave handlers.
        note_ended(&mut self.firing);
    }

    /// The engine stops (decision 3).
    pub fn stop(&mut self, host: &mut dyn Host) {
        for key in self.keys() {
            match self.connections[key as usize].stage {
                Stage::Open => self.close(key, CloseCode::Away, "the engine stops", host),
                Stage::Closing(_) => {}
                _ => host.abort(self.connections[key as usize].socket),
            }
        }
    }

    /// Looks after every socket: unfinished requests, silence, sockets that do not read.
    pub fn sweep(&mut self, host: &mut dyn Host) {
        let now = host.now().ms;
        for key in self.keys() {
            let connection = &mut self.connections[key as usize];
            let silent_ms = now.saturating_sub(connection.heard_ms);
            let too_long = |since: u64, limit: u64| now.saturating_sub(since) >= limit;
            match connection.stage {
                Stage::Head(_) if silent_ms >= limits::HANDSHAKE_MS_MAX => host.abort(connection.socket),
                Stage::Closing(since) if too_long(since, limits::CLOSING_MS_MAX) => host.abort(connection.socket),
                Stage::Open if silent_ms >= limits::SILENCE_MS_MAX => host.abort(connection.socket),
                Stage::Open
                    if connection.behind_since.is_some_and(|since| too_long(since, limits::SOCKET_LAG_MS_MAX)) =>
                {
                    self.close(key, CloseCode::Again, "too slow", host);
                }
                Stage::Open if silent_ms >= limits::PING_AFTER_MS && !connection.pinged => {
                    connection.pinged = true;
                    let mut ping = Vec::new();
                    write_control(&mut ping, Control::Ping, b"");
                    host.write(connection.socket, &ping);
                }
                _ => {}
            }
        }
        let sweep_at = (!self.connections.is_empty()).then_some(now + limits::SWEEP_MS);
        host.wake_at(self.resume_at.into_iter().chain(sweep_at).min());
    }

    // === upgrade ===

    fn heads(&mut self, key: u32, host: &mut dyn Host, out: &mut Outgoing) {
        loop {
            let connection = &mut self.connections[key as usize];
            let Stage::Head(head) = &mut connection.stage else { return };
            if head.is_empty() {
                return;
            }
            match parse_with(head, &self.options[connection.listener].allowed_origins, visit::place) {
                Handshake::Partial if head.len() > iii_shards::limits::HANDSHAKE_BYTES_MAX => {
                    let response = answer(431, "Request Header Fields Too Large", "connection: close\r\n", "");
                    host.write(connection.socket, response.as_bytes());
                    return self.hang_up(key, host);
                }
                Handshake::Partial => return,
                Handshake::Answer { response, head_bytes, close } => {
                    head.drain(..head_bytes);
                    host.write(connection.socket, response.as_bytes());
                    if close {
                        return self.hang_up(key, host);
                    }
                }
                Handshake::Upgrade { target, accept, head_bytes, request } => {
                    let early = head.split_off(head_bytes);
                    return self.admit(key, (target, request), accept, early, host, out);
                }
            }
        }
    }

    /// Asks the auth function, if there is one.
    fn admit(
        &mut self,
        key: u32,
        (entrance, request): (Entrance, Request),
        accept: String,
        early: Vec<u8>,
        host: &mut dyn Host,
        out: &mut Outgoing,
    ) {
        let connection = &mut self.connections[key as usize];
        let Some(function_id) = &self.options[connection.listener].auth_function else {
            connection.stage = Stage::Asking { accept, entrance, early };
            return self.accept(key, None, host, out);
        };
        let payload = visit::auth_payload(&request, &entrance.path, &connection.peer.to_string());
        let token = host.call(&OutgoingCall {
            timeout_ms: Some(PROVIDER_TIMEOUT_MS),
            ..OutgoingCall::new(DEFAULT_NAMESPACE, function_id, &payload)
        });
        self.auth.insert(token, connection.socket);
        connection.stage = Stage::Asking { accept, entrance, early };
        connection.paused = true;
        host.set_reading(connection.socket, false);
    }

    fn authenticated(&mut self, key: u32, outcome: Outcome, host: &mut dyn Host, out: &mut Outgoing) {
        let options = &self.options[self.connections[key as usize].listener];
        let permission = match outcome {
            Ok(result) => visit::permission(&result),
            Err(failure) if options.auth_fail_open => {
                tracing::warn!(
                    "auth function failed, the connection is accepted: {}: {}",
                    failure.code,
                    failure.message
                );
                visit::Permission::default()
            }
            Err(failure) => {
                tracing::warn!(
                    "auth function failed, the connection is refused: {}: {}",
                    failure.code,
                    failure.message
                );
                let unavailable = [codes::FUNCTION_NOT_FOUND, codes::INVOCATION_TIMEOUT, codes::INVOCATION_STOPPED];
                return match unavailable.contains(&&*failure.code) {
                    true => self.refuse(key, 503, "Service Unavailable", host),
                    false => self.refuse(key, 401, "Unauthorized", host),
                };
            }
        };
        match permission.refused {
            true => self.refuse(key, 401, "Unauthorized", host),
            false => self.accept(key, permission.context, host, out),
        }
    }

    fn refuse(&mut self, key: u32, status: u16, reason: &str, host: &mut dyn Host) {
        let response = answer(status, reason, "connection: close\r\n", "");
        host.write(self.connections[key as usize].socket, response.as_bytes());
        self.hang_up(key, host);
    }

    fn accept(&mut self, key: u32, context: Option<Box<[u8]>>, host: &mut dyn Host, out: &mut Outgoing) {
        let connection = &mut self.connections[key as usize];
        let stage = std::mem::replace(&mut connection.stage, Stage::Open);
        let Stage::Asking { accept, entrance, mut early } = stage else { return };
        let date = HttpDate::from_unix_seconds(host.now().unix_ms / 1000);
        let date = String::from_utf8_lossy(date.as_bytes()).into_owned();
        host.write(connection.socket, switching_protocols(&accept, &date).as_bytes());
        connection.context = context;
        if let Some((stream, group, item)) = entrance.join {
            connection.inbox.push_back(Wish::Join(Wanted {
                subscription_id: host.new_uuid().to_string().into(),
                stream_name: stream.into(),
                group_id: group.into(),
                id: item.map(Box::from),
            }));
        }
        self.frames(key, &mut early, host, out);
    }

    // === messages ===

    fn frames(&mut self, key: u32, mut bytes: &mut [u8], host: &mut dyn Host, out: &mut Outgoing) {
        let connection = &mut self.connections[key as usize];
        connection.heard_ms = host.now().ms;
        connection.pinged = false;
        loop {
            let heard = match connection.reader.next(&mut bytes) {
                Ok(Some(heard)) => heard,
                Ok(None) => break,
                Err(error) => return self.fail(key, &error, host),
            };
            match heard {
                Heard::Text(text) if std::str::from_utf8(text).is_err() => {
                    return self.fail(key, &WireError::utf8(), host);
                }
                Heard::Text(text) | Heard::Binary(text) if text.len() <= limits::CLIENT_MESSAGE_BYTES_MAX => {
                    if let Some(wish) = Wish::parse(text) {
                        connection.inbox_bytes += text.len();
                        connection.inbox.push_back(wish);
                    }
                }
                Heard::Text(_) | Heard::Binary(_) | Heard::Pong(_) => {}
                Heard::Ping(payload) => {
                    // Whoever does not read its answers gets no more of them.
                    if host.unsent_bytes(connection.socket) <= limits::SOCKET_BYTES_MAX {
                        let mut pong = Vec::new();
                        write_control(&mut pong, Control::Pong, payload);
                        host.write(connection.socket, &pong);
                    }
                }
                Heard::Close(code) => {
                    let mut close = Vec::new();
                    write_close(&mut close, code, "");
                    host.write(connection.socket, &close);
                    return self.hang_up(key, host);
                }
            }
        }
        self.advance(key, host, out);
    }

    /// Deals with the messages that wait, one after the other (STREAM-51).
    fn advance(&mut self, key: u32, host: &mut dyn Host, out: &mut Outgoing) {
        loop {
            let Some(connection) = self.connections.get_mut(key as usize) else { return };
            if connection.joining.is_some() || !matches!(connection.stage, Stage::Open) {
                break;
            }
            match connection.inbox.pop_front() {
                Some(Wish::Join(wanted)) => self.join(key, wanted, host, out),
                Some(Wish::Leave(wanted)) => self.leave(key, &wanted, host, out),
                None => {
                    connection.inbox_bytes = 0;
                    break;
                }
            }
        }
        let connection = &mut self.connections[key as usize];
        let pause = connection.inbox_bytes > limits::CLIENT_INBOX_BYTES_MAX;
        if pause != connection.paused && matches!(connection.stage, Stage::Open) {
            connection.paused = pause;
            host.set_reading(connection.socket, !pause);
        }
    }

    fn join(&mut self, key: u32, wanted: Wanted, host: &mut dyn Host, out: &mut Outgoing) {
        let connection = &mut self.connections[key as usize];
        let handlers: VecDeque<Target> = self.joins.matching(&wanted.stream_name, None, None).cloned().collect();
        let payload = match handlers.is_empty() {
            true => Rc::from([]),
            false => wanted.payload(connection.context.as_deref()).into(),
        };
        connection.joining = Some(Box::new(Joining { wanted, payload, handlers, refused: false, ticket: None }));
        self.ask_handler(key, host, out);
    }

    /// Asks the next handler, or lets the join happen if all have been asked (STREAM-60).
    fn ask_handler(&mut self, key: u32, host: &mut dyn Host, out: &mut Outgoing) {
        let connection = &mut self.connections[key as usize];
        let Some(joining) = &mut connection.joining else { return };
        if let Some(target) = joining.handlers.pop_front() {
            let run = Run { timeout_ms: Some(PROVIDER_TIMEOUT_MS), ..Run::new(&joining.payload) };
            return self.firing.fire(host, &target, &run, Some(connection.socket));
        }
        let wanted = &joining.wanted;
        if joining.refused {
            let item = wanted.id.as_deref();
            let (stream, group) = (&*wanted.stream_name, &*wanted.group_id);
            let unix_ms = host.now().unix_ms;
            let message = Message { unix_ms, stream, group, item, event: Event::Unauthorized };
            host.write(connection.socket, &message.frame());
            connection.joining = None;
            return;
        }
        let group = Arc::new(GroupName::new(&wanted.stream_name, &wanted.group_id));
        let (id, item) = (wanted.subscription_id.clone(), wanted.id.clone());
        // STREAM-63: the newer one replaces the older, without a leave event.
        let ticket = self.subscriptions.add(key, &id, group.clone(), item.as_deref());
        joining.ticket = Some(ticket);
        let before = connection.subscriptions.insert(id, ticket.slot);
        ask_home(ticket, group, item, host, out);
        if let Some((gone, true)) = before.and_then(|slot| self.subscriptions.remove(slot)) {
            unwatch(gone.group, host, out);
        }
    }

    fn leave(&mut self, key: u32, wanted: &Wanted, host: &mut dyn Host, out: &mut Outgoing) {
        let connection = &mut self.connections[key as usize];
        tell_of_leave(&mut self.firing, &self.leaves, wanted, connection.context.as_deref(), host);
        let slot = connection.subscriptions.remove(&wanted.subscription_id);
        if let Some((gone, true)) = slot.and_then(|slot| self.subscriptions.remove(slot)) {
            unwatch(gone.group, host, out);
        }
        // Only fires that nobody waits for end here: leave handlers.
        note_ended(&mut self.firing);
    }

    // === answers ===

    /// Takes an answer; gives it back if the call was not made here.
    pub fn answer(
        &mut self,
        token: Token,
        outcome: Outcome,
        host: &mut dyn Host,
        out: &mut Outgoing,
    ) -> Result<(), Outcome> {
        if let Some(socket) = self.auth.remove(&token) {
            if let Some(key) = self.key(socket) {
                self.authenticated(key, outcome, host, out);
            }
            return Ok(());
        }
        self.firing.answer(host, token, outcome)?;
        while let Some((tag, end)) = self.firing.poll_ended() {
            if let Some(key) = tag.and_then(|socket| self.key(socket)) {
                self.handler_ended(key, end, host, out);
            }
        }
        Ok(())
    }

    fn handler_ended(&mut self, key: u32, end: End, host: &mut dyn Host, out: &mut Outgoing) {
        let connection = &mut self.connections[key as usize];
        let Some(joining) = &mut connection.joining else { return };
        joining.refused |= match end {
            End::Ran(Ok(result)) => visit::permission(&result).refused,
            End::Ran(Err(failure)) => {
                tracing::warn!("a stream:join handler failed: {}: {}", failure.code, failure.message);
                failure.code == codes::INVOCATION_TIMEOUT && !self.options[connection.listener].auth_fail_open
            }
            End::Skipped | End::ConditionFailed(_) | End::Sent => false,
        };
        self.ask_handler(key, host, out);
        self.advance(key, host, out);
    }

    /// The state that a subscription waited for has come.
    pub fn synced(&mut self, ticket: Ticket, frame: Option<&[u8]>, host: &mut dyn Host, out: &mut Outgoing) {
        let Some(subscription) = self.subscriptions.waiting(ticket) else { return };
        subscription.standing = Standing::Live;
        let key = subscription.connection;
        let connection = &mut self.connections[key as usize];
        if let Some(frame) = frame {
            subscription.standing = connection.write(frame, host);
        }
        if connection.joining.as_ref().is_some_and(|joining| joining.ticket == Some(ticket)) {
            connection.joining = None;
            self.advance(key, host, out);
        }
    }

    /// Something has happened in a group.
    pub fn event(&mut self, group: &GroupName, item: Option<&str>, frame: &[u8], host: &mut dyn Host) {
        let connections = &mut self.connections;
        self.subscriptions.deliver(group, item, |key| match connections.get_mut(key as usize) {
            Some(connection) => connection.write(frame, host),
            None => Standing::Behind,
        });
    }

    /// An event of another shard has been dealt with; the other is told now and then.
    pub fn took(&mut self, home: ShardId, bytes: usize, host: &mut dyn Host, out: &mut Outgoing) {
        let taken = self.taken.entry(home).or_default();
        taken.0 += 1;
        taken.1 += bytes;
        if taken.0 >= limits::LINK_REPORT_EVENTS || taken.1 >= limits::LINK_REPORT_BYTES {
            let (events, bytes) = std::mem::take(taken);
            out.push((home, Letter::Taken { from: host.shard(), events, bytes }));
        }
    }

    /// Events of a group were left out on their way to this shard.
    pub fn missed(&mut self, group: &GroupName, host: &mut dyn Host, out: &mut Outgoing) {
        for slot in self.subscriptions.of_group(group) {
            if let Some(subscription) = self.subscriptions.get_mut(slot)
                && subscription.standing == Standing::Live
            {
                subscription.standing = Standing::Behind;
                let connection = &self.connections[subscription.connection as usize];
                if connection.behind_since.is_none() {
                    self.synchronise(slot, host, out);
                }
            }
        }
    }

    /// Asks for the state of a subscription that has missed events.
    fn synchronise(&mut self, slot: u32, host: &mut dyn Host, out: &mut Outgoing) {
        let Some(subscription) = self.subscriptions.get(slot) else { return };
        if subscription.standing == Standing::Behind {
            let (group, item) = (subscription.group.clone(), subscription.item.clone());
            ask_home(self.subscriptions.ticket(slot), group, item, host, out);
        }
    }

    // === closing ===

    fn fail(&mut self, key: u32, error: &WireError, host: &mut dyn Host) {
        self.close(key, error.code, &error.reason, host);
    }

    fn close(&mut self, key: u32, code: CloseCode, reason: &str, host: &mut dyn Host) {
        let mut close = Vec::new();
        write_close(&mut close, Some(code), reason);
        host.write(self.connections[key as usize].socket, &close);
        self.hang_up(key, host);
    }

    /// Ends a socket once what was written is sent.
    fn hang_up(&mut self, key: u32, host: &mut dyn Host) {
        let connection = &mut self.connections[key as usize];
        connection.stage = Stage::Closing(host.now().ms);
        host.close(connection.socket);
    }

    // === helpers ===

    fn key(&self, socket: SocketId) -> Option<u32> {
        self.by_socket.get(&socket).copied()
    }

    fn keys(&self) -> Vec<u32> {
        self.connections.iter().map(|(key, _)| key as u32).collect()
    }
}

impl Connection {
    /// Writes a frame, unless the socket has too much to read already.
    #[inline]
    fn write(&mut self, frame: &[u8], host: &mut dyn Host) -> Standing {
        if !matches!(self.stage, Stage::Open) {
            return Standing::Behind;
        }
        let full =
            self.frames >= limits::SOCKET_FRAMES_MAX || host.unsent_bytes(self.socket) >= limits::SOCKET_BYTES_MAX;
        if full || self.behind_since.is_some() {
            self.behind_since.get_or_insert(host.now().ms);
            return Standing::Behind;
        }
        self.frames += 1;
        host.write(self.socket, frame);
        Standing::Live
    }
}

fn ask_home(ticket: Ticket, group: Arc<GroupName>, item: Option<Box<str>>, host: &dyn Host, out: &mut Outgoing) {
    let home = host.home_of(group.number());
    out.push((home, Letter::Join { from: host.shard(), ticket, group, item }));
}

fn unwatch(group: Arc<GroupName>, host: &dyn Host, out: &mut Outgoing) {
    out.push((host.home_of(group.number()), Letter::Unwatch { from: host.shard(), group }));
}

/// Fires `stream:leave` (STREAM-64, STREAM-65). Nobody waits for its handlers.
fn tell_of_leave(
    firing: &mut Firing<Option<SocketId>>,
    leaves: &Watches,
    wanted: &Wanted,
    context: Option<&[u8]>,
    host: &mut dyn Host,
) {
    let mut targets = leaves.matching(&wanted.stream_name, None, None).peekable();
    if targets.peek().is_none() {
        return;
    }
    let payload: Rc<[u8]> = wanted.payload(context).into();
    for target in targets {
        let run = Run { timeout_ms: Some(PROVIDER_TIMEOUT_MS), tracked: false, ordered: true, ..Run::new(&payload) };
        firing.fire(host, target, &run, None);
    }
}
