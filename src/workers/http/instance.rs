//! The instance of one shard: its connections, its routes, its clock.

use std::any::Any;
use std::cmp::Reverse;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use iii_shards::builtin::{BuiltIn, Call, Failure, Host, Outcome, SocketId, Token};
use iii_shards::channel::ChannelEvent;
use iii_shards::control::triggers::Binding;
use iii_shards::http::route::Owner;

use super::connection::{ChannelEnd, Connection};
use super::context::{Context, Shared};
use super::gate::{Gate, GateMessage, Waiter};
use super::routes::route_of;
use super::site::Site;
use crate::config::settings::HttpSettings;

/// A holder of a channel is the slot of a connection (24 bits), the number of a request on it (23 bits), and this bit.
pub const UPLOAD: u64 = 1 << 47;
const SLOT_BITS: u32 = 24;
const SEQUENCE_MASK: u32 = (1 << 23) - 1;

/// How long the routes of the instance before are served if no trigger comes.
const ROUTES_BEFORE_MS: u64 = 1_000;
/// Names the alarm that is no connection's.
const NO_SOCKET: SocketId = SocketId::ENGINE;

/// The holder of the response channel of a request.
pub fn holder(socket: SocketId, sequence: u32) -> u64 {
    assert!(socket.slot < 1 << SLOT_BITS, "more connections than a shard can have");
    u64::from(socket.slot) | u64::from(sequence & SEQUENCE_MASK) << SLOT_BITS
}

/// One instance.
pub struct Instance {
    shared: Shared,
    /// By slot.
    connections: Vec<Option<Box<Connection>>>,
    /// Who waits at which gate, if this instance keeps the queues.
    queues: Vec<(Arc<Gate>, VecDeque<Waiter>)>,
    /// What the shard was last told.
    wake_at: Option<u64>,
}

impl Instance {
    /// An instance without connections and routes.
    pub fn new(settings: &[(HttpSettings, Arc<Gate>)], host: &mut dyn Host) -> Instance {
        let site = |(settings, gate): &(HttpSettings, Arc<Gate>)| Rc::new(Site::new(settings, Arc::clone(gate)));
        let shared = Shared::new(settings.iter().map(site).collect(), host.now().ms);
        Instance { shared, connections: Vec::new(), queues: Vec::new(), wake_at: None }
    }

    /// Does something with a connection, if it is there.
    fn with<R>(
        &mut self,
        socket: SocketId,
        host: &mut dyn Host,
        act: impl FnOnce(&mut Connection, &mut Context<'_>) -> R,
    ) -> Option<R> {
        let connection = self.connections.get_mut(socket.slot as usize)?.as_deref_mut()?;
        if connection.socket != socket {
            return None;
        }
        let result = act(connection, &mut Context { shared: &mut self.shared, host });
        self.set_alarm(host);
        Some(result)
    }

    fn set_alarm(&mut self, host: &mut dyn Host) {
        let next = self.shared.alarms.peek().map(|Reverse((at_ms, _))| *at_ms);
        if next != self.wake_at {
            self.wake_at = next;
            host.wake_at(next);
        }
    }

    /// As the keeper of a gate: takes one more that waits, and lets in whom there is room for.
    fn admit(&mut self, gate: &Arc<Gate>, newcomer: Option<Waiter>, host: &mut dyn Host) {
        let known = self.queues.iter().position(|(known, _)| Arc::ptr_eq(known, gate));
        let index = known.unwrap_or_else(|| {
            self.queues.push((Arc::clone(gate), VecDeque::new()));
            self.queues.len() - 1
        });
        let queue = &mut self.queues[index].1;
        queue.extend(newcomer);
        while !queue.is_empty() && gate.admit() {
            let Some(waiter) = queue.pop_front() else { break };
            host.post(waiter.socket.shard, Box::new(GateMessage::Enter(Arc::clone(gate), waiter)));
        }
        if queue.is_empty() {
            self.queues.swap_remove(index);
        }
    }
}

impl BuiltIn for Instance {
    fn call(&mut self, call: Call, host: &mut dyn Host) {
        host.answer(call.id, Err(&Failure::new("function_not_found", "the HTTP worker has no functions")));
    }

    fn answer(&mut self, token: Token, outcome: Outcome, host: &mut dyn Host) {
        // A handler that returns nothing has returned null.
        let outcome = outcome.map(|result| if result.is_empty() { b"null".to_vec() } else { result });
        if let Some(socket) = self.shared.calls.remove(&token) {
            self.with(socket, host, |connection, cx| connection.handle_answer(token, outcome, cx));
        }
    }

    fn trigger_added(&mut self, trigger: Arc<Binding>, _: &mut dyn Host) {
        self.shared.routes_before = None;
        // What is wrong with it was said when it was registered.
        if let Err(error) = route_of(&trigger).and_then(|route| self.shared.routes.register(route)) {
            tracing::warn!(trigger = &*trigger.id, "not routed: {}", error.0);
        }
    }

    fn trigger_removed(&mut self, trigger: &Binding, _: &mut dyn Host) {
        self.shared.routes.unregister(Owner::Engine, &trigger.id);
    }

    fn message(&mut self, message: Box<dyn Any + Send>, host: &mut dyn Host) {
        let Ok(message) = message.downcast::<GateMessage>() else { return };
        match *message {
            GateMessage::Wait(gate, waiter) => self.admit(&gate, Some(waiter), host),
            GateMessage::Freed(gate) => self.admit(&gate, None, host),
            GateMessage::Enter(gate, Waiter { socket, sequence }) => {
                let entered = self.with(socket, host, |connection, cx| connection.handle_entered(sequence, cx));
                if entered != Some(true) {
                    Context { shared: &mut self.shared, host }.leave(&gate);
                }
            }
        }
    }

    fn timer(&mut self, host: &mut dyn Host) {
        self.wake_at = None;
        let now_ms = host.now().ms;
        while let Some(Reverse((at_ms, socket))) = self.shared.alarms.peek().copied() {
            if at_ms > now_ms {
                break;
            }
            self.shared.alarms.pop();
            if socket == NO_SOCKET {
                self.shared.routes_before = None;
            }
            self.with(socket, host, |connection, cx| connection.handle_time(at_ms, cx));
        }
        self.set_alarm(host);
    }

    /// Other settings: connections and the requests on them go on (HTTP-7).
    fn hand_over(&mut self, _: &mut dyn Host) -> Option<Box<dyn Any>> {
        let empty =
            Instance { shared: Shared::new(Vec::new(), 0), connections: Vec::new(), queues: Vec::new(), wake_at: None };
        Some(Box::new(std::mem::replace(self, empty)))
    }

    fn take_over(&mut self, legacy: Box<dyn Any>, host: &mut dyn Host) {
        let Ok(before) = legacy.downcast::<Instance>() else { return };
        let sites = std::mem::take(&mut self.shared.sites);
        *self = *before;
        // Requests under way keep theirs.
        self.shared.sites = sites;
        // The triggers are about to come, all at once; until they do, those known are served.
        self.shared.routes_before = Some(std::mem::take(&mut self.shared.routes));
        self.shared.alarms.push(Reverse((host.now().ms + ROUTES_BEFORE_MS, NO_SOCKET)));
        self.wake_at = None;
        self.set_alarm(host);
    }

    fn stop(&mut self, host: &mut dyn Host) {
        for connection in self.connections.iter_mut().flatten() {
            connection.shut_down(&mut Context { shared: &mut self.shared, host });
        }
    }

    fn socket_opened(&mut self, socket: SocketId, listener: usize, peer: IpAddr, host: &mut dyn Host) {
        let slot = socket.slot as usize;
        if self.connections.len() <= slot {
            self.connections.resize_with(slot + 1, || None);
        }
        let peer = peer.to_canonical().to_string().into();
        let now = Context { shared: &mut self.shared, host }.now();
        self.connections[slot] = Some(Box::new(Connection::new(socket, listener, peer, now)));
        self.with(socket, host, |connection, cx| connection.drive(cx));
    }

    fn socket_bytes(&mut self, socket: SocketId, bytes: &mut [u8], host: &mut dyn Host) {
        self.with(socket, host, |connection, cx| connection.handle_bytes(bytes, cx));
    }

    fn socket_flushed(&mut self, socket: SocketId, host: &mut dyn Host) {
        self.with(socket, host, |connection, cx| connection.handle_flushed(cx));
    }

    fn socket_ended(&mut self, socket: SocketId, host: &mut dyn Host) {
        self.with(socket, host, |connection, cx| connection.handle_end(cx));
    }

    fn socket_closed(&mut self, socket: SocketId, host: &mut dyn Host) {
        if self.with(socket, host, |connection, cx| connection.handle_closed(cx)).is_some() {
            self.connections[socket.slot as usize] = None;
        }
    }

    fn channel_event(&mut self, holder: u64, event: ChannelEvent, host: &mut dyn Host) {
        let slot = (holder & ((1 << SLOT_BITS) - 1)) as usize;
        let Some(Some(connection)) = self.connections.get(slot) else { return };
        let socket = connection.socket;
        if self::holder(socket, connection.sequence) != holder & !UPLOAD {
            return;
        }
        let end = if holder & UPLOAD == 0 { ChannelEnd::Download } else { ChannelEnd::Upload };
        self.with(socket, host, |connection, cx| connection.handle_channel(end, event, cx));
    }
}
