//! An instance of the worker: hands what comes in to the groups or to the sockets, and carries their letters.

use super::Options;
use super::browsers::Browsers;
use super::gather::Gathering;
use super::home::Home;
use super::letter::{Letter, Outgoing};
use super::operation::Kind;
use iii_shards::builtin::{BuiltIn, Call, Host, Outcome, SocketId, Token};
use iii_shards::control::triggers::Binding;
use iii_shards::ids::ShardId;
use std::any::Any;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

/// The instance of one shard.
pub struct Worker {
    home: Home,
    browsers: Browsers,
    gathering: Gathering,
    out: Outgoing,
}

/// What outlives a change of the settings.
struct Legacy {
    home: Home,
    browsers: Browsers,
}

/// A letter and the shard it comes from, as it crosses.
struct Envelope {
    from: ShardId,
    letter: Letter,
}

impl Worker {
    /// An instance without groups and sockets.
    pub(super) fn new(options: Rc<[Options]>) -> Worker {
        Worker {
            home: Home::default(),
            browsers: Browsers::new(options),
            gathering: Gathering::default(),
            out: Outgoing::new(),
        }
    }

    /// Carries what was written, in order. What stays on this shard is read at once and may lead to more.
    fn send(&mut self, host: &mut dyn Host) {
        while !self.out.is_empty() {
            for (to, letter) in std::mem::take(&mut self.out) {
                match to == host.shard() {
                    true => self.read(to, letter, host),
                    false => host.post(to, Box::new(Envelope { from: host.shard(), letter })),
                }
            }
        }
    }

    fn read(&mut self, from: ShardId, letter: Letter, host: &mut dyn Host) {
        let out = &mut self.out;
        match letter {
            Letter::Join { from, ticket, group, item } => self.home.join((from, ticket), group, item, host, out),
            Letter::Unwatch { from, group } => self.home.unwatch(from, group, host, out),
            Letter::Taken { from, events, bytes } => self.home.taken(from, events, bytes, out),
            Letter::Synced { ticket, frame } => self.browsers.synced(ticket, frame.as_deref(), host, out),
            Letter::Event { group, item, frame } => {
                self.browsers.event(&group, item.as_deref(), &frame, host);
                if from != host.shard() {
                    self.browsers.took(from, frame.len(), host, out);
                }
            }
            Letter::Missed { group } => self.browsers.missed(&group, host, out),
            Letter::WhichGroups { from, question, stream } => {
                let groups = self.home.groups(stream.as_deref());
                out.push((from, Letter::Groups { question, groups }));
            }
            Letter::Groups { question, groups } => self.gathering.groups(question, groups, host),
        }
    }
}

impl BuiltIn for Worker {
    fn call(&mut self, call: Call, host: &mut dyn Host) {
        match (Kind::ALL.get(call.function), &*call.function_id) {
            (Some(kind), _) => self.home.call(*kind, &call, host, &mut self.out),
            (None, "stream::list_groups") => self.gathering.list_groups(&call, host),
            (None, "stream::list_all") => self.gathering.list_all(&call, host, &mut self.out),
            (None, _) => host.answer(call.id, Ok(b"{}")),
        }
        self.send(host);
    }

    fn answer(&mut self, token: Token, outcome: Outcome, host: &mut dyn Host) {
        let out = &mut self.out;
        let outcome = self.home.answer(token, outcome, host, out);
        let outcome = outcome.or_else(|outcome| self.browsers.answer(token, outcome, host, out));
        // Whoever asked may be gone: then nobody wants the answer.
        let _ = outcome.or_else(|outcome| self.gathering.answer(token, outcome, host, out));
        self.send(host);
    }

    fn trigger_added(&mut self, trigger: Arc<Binding>, _: &mut dyn Host) {
        match &*trigger.trigger_type {
            "stream:join" => self.browsers.joins().add(trigger),
            "stream:leave" => self.browsers.leaves().add(trigger),
            _ => self.home.watches().add(trigger),
        }
    }

    fn trigger_removed(&mut self, trigger: &Binding, _: &mut dyn Host) {
        match &*trigger.trigger_type {
            "stream:join" => self.browsers.joins().remove(&trigger.id),
            "stream:leave" => self.browsers.leaves().remove(&trigger.id),
            _ => self.home.watches().remove(&trigger.id),
        }
    }

    fn message(&mut self, message: Box<dyn Any + Send>, host: &mut dyn Host) {
        if let Ok(envelope) = message.downcast::<Envelope>() {
            self.read(envelope.from, envelope.letter, host);
            self.send(host);
        }
    }

    fn timer(&mut self, host: &mut dyn Host) {
        self.browsers.resume(host, &mut self.out);
        self.send(host);
        self.browsers.sweep(host);
    }

    fn hand_over(&mut self, _: &mut dyn Host) -> Option<Box<dyn Any>> {
        let nobody = Browsers::new(self.browsers.options());
        let browsers = std::mem::replace(&mut self.browsers, nobody);
        Some(Box::new(Legacy { home: std::mem::take(&mut self.home), browsers }))
    }

    fn take_over(&mut self, legacy: Box<dyn Any>, host: &mut dyn Host) {
        if let Ok(legacy) = legacy.downcast::<Legacy>() {
            let options = self.browsers.options();
            self.home = legacy.home.inherited();
            self.browsers = legacy.browsers.inherited(options, host);
        }
    }

    fn stop(&mut self, host: &mut dyn Host) {
        self.browsers.stop(host);
    }

    fn socket_opened(&mut self, socket: SocketId, listener: usize, peer: IpAddr, host: &mut dyn Host) {
        let peer = host.peer(socket).unwrap_or(SocketAddr::new(peer, 0));
        self.browsers.opened(socket, listener, peer, host);
    }

    fn socket_bytes(&mut self, socket: SocketId, bytes: &mut [u8], host: &mut dyn Host) {
        self.browsers.bytes(socket, bytes, host, &mut self.out);
        self.send(host);
    }

    fn socket_flushed(&mut self, socket: SocketId, host: &mut dyn Host) {
        self.browsers.flushed(socket, host, &mut self.out);
        self.send(host);
    }

    fn socket_closed(&mut self, socket: SocketId, host: &mut dyn Host) {
        self.browsers.closed(socket, host, &mut self.out);
        self.send(host);
    }
}
