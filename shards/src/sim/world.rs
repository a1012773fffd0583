//! The machine the engine runs on, simulated: real shards and the real control, with rings, sockets and a clock
//! that do what the scheduler says.
//!
//! A shard's turn has the order of the real pump: what peers sent, completions of sockets, timers, then commands,
//! outboxes and batches. Invariant: the engine sees nothing here that a kernel could not show it.

use super::client::{Decoder, Heard};
use super::dice::Dice;
use super::letters::Letters;
use crate::builtin::{Definition, Post};
use crate::control::Control;
use crate::ids::ShardId;
use crate::registry::FunctionHasher;
use crate::settings::{ListenerSettings, Settings};
use crate::shard::mesh::{Batch, RingMessage};
use crate::shard::{Now, Residue, Shard, SocketCommand};
use std::collections::{BTreeSet, VecDeque};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// Wall clock at the start of every run.
const UNIX_MS: u64 = 1_700_000_000_000;

/// Both directions between a client and the engine. Links are never reused.
#[derive(Default)]
pub struct Link {
    /// Home shard.
    pub shard: usize,
    /// Sent by the client, not yet received.
    to_engine: VecDeque<u8>,
    /// Bytes the client has sent, and those of them the engine has looked at.
    said: u64,
    heard: u64,
    /// The client sends nothing more.
    ended: bool,
    /// The client has reset the connection.
    reset: bool,
    /// The engine sends nothing more.
    pub finished: bool,
    /// The engine has taken the connection out of service, when.
    pub lost_ms: Option<u64>,
    decoder: Decoder,
    /// Taken by the kernel, and read by the client: stream offsets.
    sent: u64,
    read: u64,
    /// Everything the engine has written, with the offset at which the client has read it.
    inbox: VecDeque<(u64, Heard)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Flushing,
    Draining,
    Dead,
}

struct Socket {
    link: usize,
    state: State,
    /// Input is wanted.
    wanted: bool,
    sending: Option<(Vec<u8>, usize)>,
}

/// Engine, rings, network, clock.
pub struct World {
    now_ms: u64,
    settings: Arc<Settings>,
    shards: Vec<Shard>,
    letters: Arc<Letters>,
    control: Control,
    /// From, to; the last is control.
    rings: Vec<Vec<VecDeque<Batch>>>,
    sockets: Vec<Vec<Option<Socket>>>,
    /// Slots of each ring.
    pub ring_slots: usize,
    /// Bytes that fit between the engine and a client that does not read.
    pub window_bytes: usize,
    /// All links so far.
    pub links: Vec<Link>,
    /// What the engine has written since this was last emptied, by link.
    pub written: Vec<(usize, Heard)>,
    /// Payloads of calls that a provider's home sent back.
    pub bounced: BTreeSet<Vec<u8>>,
    /// Counts everything that happens; standing still means nothing is left to do.
    work: u64,
    broken: Option<String>,
}

impl World {
    /// An engine with one open listener. `settings.shards` data shards.
    pub fn new(settings: Settings, seed: u64) -> World {
        World::with_built_ins(settings, seed, &[])
    }

    /// The same with built-in workers.
    pub fn with_built_ins(mut settings: Settings, seed: u64, built_ins: &[Arc<Definition>]) -> World {
        if settings.listeners.is_empty() {
            settings.listeners.push(ListenerSettings { handshake_timeout_ms: 10_000, ..ListenerSettings::default() });
        }
        let settings = Arc::new(settings);
        let count = settings.shards;
        let hasher = FunctionHasher::new(seed, count);
        let letters = Arc::new(Letters::default());
        let shards = (0..count).map(|index| {
            let mut shard_seed = [0; 32];
            shard_seed[..8].copy_from_slice(&seed.to_le_bytes());
            shard_seed[8] = index as u8;
            let mut shard = Shard::new(ShardId(index as u16), settings.clone(), hasher.clone(), shard_seed);
            shard.set_time(Now { ms: 1_000, unix_ms: UNIX_MS });
            shard.start_built_ins(built_ins, &(letters.clone() as Arc<dyn Post>));
            shard
        });
        let mut control = Control::new(settings.clone(), hasher.clone(), [0; 32], Now { ms: 1_000, unix_ms: UNIX_MS });
        control.add_built_ins(built_ins);
        World {
            now_ms: 1_000,
            shards: shards.collect(),
            letters,
            control,
            rings: (0..=count).map(|_| (0..=count).map(|_| VecDeque::new()).collect()).collect(),
            sockets: (0..count).map(|_| Vec::new()).collect(),
            settings,
            ring_slots: 4,
            window_bytes: 64 << 10,
            links: Vec::new(),
            written: Vec::new(),
            bounced: BTreeSet::new(),
            work: 0,
            broken: None,
        }
    }

    /// Number of data shards.
    pub fn shard_count(&self) -> usize {
        self.settings.shards
    }

    /// Milliseconds on the engine's clock.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// One shard.
    pub fn shard(&self, index: usize) -> &Shard {
        &self.shards[index]
    }

    /// The control shard.
    pub fn control_mut(&mut self) -> &mut Control {
        &mut self.control
    }

    /// The control shard.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// What the engine wrote that no client would accept, if it has.
    pub fn broken(&self) -> Option<&str> {
        self.broken.as_deref()
    }

    /// A number that stands still when nothing is left to do.
    pub fn work(&self) -> u64 {
        self.work
    }

    /// What all shards still hold.
    pub fn residue(&self) -> Vec<Residue> {
        self.shards.iter().map(Shard::residue).collect()
    }

    /// The clock moves on.
    pub fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
    }

    /// When the next timer of any shard, or of control, is due.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        self.shards.iter().filter_map(Shard::next_deadline_ms).chain(self.control.next_deadline_ms()).min()
    }

    // === the client's end ===

    /// A client connects; the engine has placed it on `shard`.
    pub fn connect(&mut self, shard: usize) -> usize {
        self.connect_to(shard, 0)
    }

    /// The same on another listener.
    pub fn connect_to(&mut self, shard: usize, listener: u16) -> usize {
        let now = self.now();
        self.shards[shard].set_time(now);
        let slot = self.shards[shard].handle_accepted(listener, SocketAddr::from((Ipv4Addr::LOCALHOST, 0))) as usize;
        let sockets = &mut self.sockets[shard];
        if sockets.len() <= slot {
            sockets.resize_with(slot + 1, || None);
        }
        assert!(sockets[slot].is_none(), "slot {slot} given out twice");
        let link = self.links.len();
        sockets[slot] = Some(Socket { link, state: State::Open, wanted: true, sending: None });
        self.links.push(Link { shard, ..Link::default() });
        link
    }

    /// The client sends bytes.
    pub fn send(&mut self, link: usize, bytes: &[u8]) {
        let link = &mut self.links[link];
        if !link.ended {
            link.to_engine.extend(bytes);
            link.said += bytes.len() as u64;
            self.work += 1;
        }
    }

    /// The client reads up to `bytes_max` bytes.
    pub fn read(&mut self, link: usize, bytes_max: usize) -> Vec<Heard> {
        let link = &mut self.links[link];
        let bytes = (link.sent - link.read).min(bytes_max as u64);
        link.read += bytes;
        self.work += bytes;
        let mut heard = Vec::new();
        while link.inbox.front().is_some_and(|(end, _)| *end <= link.read) {
            heard.extend(link.inbox.pop_front().map(|(_, heard)| heard));
        }
        heard
    }

    /// Bytes the client could read now.
    pub fn readable(&self, link: usize) -> usize {
        (self.links[link].sent - self.links[link].read) as usize
    }

    /// Bytes the client has sent so far.
    pub fn said(&self, link: usize) -> u64 {
        self.links[link].said
    }

    /// Bytes of these that the engine has looked at. A connection that is being closed is not listened to.
    pub fn heard(&self, link: usize) -> u64 {
        self.links[link].heard
    }

    /// The client has read everything and the engine sends nothing more.
    pub fn at_end(&self, link: usize) -> bool {
        self.links[link].finished && self.readable(link) == 0
    }

    /// The client closes its side after what it has sent.
    pub fn end(&mut self, link: usize) {
        self.work += u64::from(!self.links[link].ended);
        self.links[link].ended = true;
    }

    /// The client is gone at once, with what it had sent.
    pub fn reset(&mut self, link: usize) {
        let link = &mut self.links[link];
        link.ended = true;
        link.reset = true;
        link.to_engine.clear();
        self.work += 1;
    }

    // === turns ===

    fn now(&self) -> Now {
        Now { ms: self.now_ms, unix_ms: UNIX_MS + self.now_ms }
    }

    /// One turn of a shard, or of control if `index` is the number of shards.
    pub fn turn(&mut self, index: usize, dice: &mut Dice) {
        if index == self.settings.shards {
            return self.turn_control(dice);
        }
        let now = self.now();
        self.shards[index].set_time(now);
        for peer in 0..=self.settings.shards {
            let count = dice.part(self.rings[peer][index].len());
            for mut batch in self.rings[peer][index].drain(..count).collect::<Vec<_>>() {
                self.work += 1;
                self.note_bounced(&batch);
                self.shards[index].handle_batch(ShardId(peer as u16), &mut batch);
            }
        }
        let slots = self.sockets[index].len();
        let first = if slots > 1 { dice.below(slots) } else { 0 };
        for slot in (first..slots).chain(0..first) {
            self.complete(index, slot, dice);
        }
        if self.shards[index].next_deadline_ms().is_some_and(|due| due <= self.now_ms) {
            self.work += 1;
        }
        self.shards[index].handle_timers();
        for (worker, message) in self.letters.take(ShardId(index as u16)) {
            self.work += 1;
            self.shards[index].handle_posted(worker, message);
        }
        self.work += u64::from(self.shards[index].built_ins_wait());
        self.shards[index].run_built_ins();
        self.flush(index, dice);
    }

    fn turn_control(&mut self, dice: &mut Dice) {
        self.control.set_time(self.now());
        let me = self.settings.shards;
        for peer in 0..me {
            let count = dice.part(self.rings[peer][me].len());
            for mut batch in self.rings[peer][me].drain(..count).collect::<Vec<_>>() {
                self.work += 1;
                self.control.handle_batch(&mut batch);
            }
        }
        if self.control.next_deadline_ms().is_some_and(|due| due <= self.now_ms) {
            self.work += 1;
        }
        self.control.handle_timers();
        for peer in 0..me {
            if self.has_room(me, peer, dice) {
                let batch = std::mem::take(self.control.outgoing(ShardId(peer as u16)));
                self.push(me, peer, batch);
            }
        }
    }

    fn note_bounced(&mut self, batch: &Batch) {
        for message in &batch.messages {
            if let RingMessage::Bounced(message) = message {
                self.bounced.insert(message.call(&batch.bytes).invoke.data.json.to_vec());
            }
        }
    }

    fn has_room(&self, from: usize, to: usize, dice: &mut Dice) -> bool {
        self.rings[from][to].len() < self.ring_slots && !dice.chance(10)
    }

    fn push(&mut self, from: usize, to: usize, batch: Batch) {
        if !batch.is_empty() {
            self.work += 1;
            self.rings[from][to].push_back(batch);
        }
    }

    /// What the kernel reports of one socket.
    fn complete(&mut self, index: usize, slot: usize, dice: &mut Dice) {
        let Some(socket) = &mut self.sockets[index][slot] else { return };
        if socket.state == State::Dead {
            // The kernel lets go of a dead socket in its own time.
            if !dice.chance(30) {
                if let Some((buffer, _)) = socket.sending.take() {
                    self.shards[index].handle_sent(slot as u32, buffer);
                }
                self.reap(index, slot);
            }
            return;
        }
        if !dice.chance(20) {
            self.receive(index, slot, dice);
        }
        if !dice.chance(20) {
            self.send_some(index, slot, dice);
        }
    }

    fn receive(&mut self, index: usize, slot: usize, dice: &mut Dice) {
        let Some(socket) = &mut self.sockets[index][slot] else { return };
        if !socket.wanted || socket.state == State::Dead {
            return;
        }
        let (state, link) = (socket.state, &mut self.links[socket.link]);
        let count = dice.part(link.to_engine.len().min(16 << 10));
        if count > 0 {
            let mut bytes: Vec<u8> = link.to_engine.drain(..count).collect();
            self.work += 1;
            if state == State::Open {
                if self.shards[index].listens(slot as u32) {
                    link.heard += count as u64;
                }
                self.shards[index].handle_bytes(slot as u32, &mut bytes);
            }
        } else if link.ended && link.to_engine.is_empty() {
            self.fail(index, slot);
        }
    }

    fn send_some(&mut self, index: usize, slot: usize, dice: &mut Dice) {
        let Some(socket) = &mut self.sockets[index][slot] else { return };
        let link = &mut self.links[socket.link];
        let Some((buffer, done)) = &mut socket.sending else { return };
        if link.reset {
            if let Some((buffer, _)) = socket.sending.take() {
                self.shards[index].handle_sent(slot as u32, buffer);
            }
            return self.fail(index, slot);
        }
        let room = self.window_bytes.saturating_sub((link.sent - link.read) as usize);
        let count = dice.part(room.min(buffer.len() - *done));
        if count == 0 {
            return;
        }
        *done += count;
        link.sent += count as u64;
        self.work += 1;
        if *done < buffer.len() {
            return self.shards[index].handle_progress(slot as u32);
        }
        let flushing = socket.state == State::Flushing;
        if let Some((buffer, _)) = socket.sending.take() {
            self.shards[index].handle_sent(slot as u32, buffer);
        }
        if flushing {
            self.flush_socket(index, slot);
        }
    }

    /// End of input, or an error.
    fn fail(&mut self, index: usize, slot: usize) {
        let Some(socket) = &self.sockets[index][slot] else { return };
        self.work += 1;
        match socket.state {
            State::Open => self.shards[index].handle_eof(slot as u32),
            _ => self.kill(index, slot),
        }
    }

    fn kill(&mut self, index: usize, slot: usize) {
        if let Some(socket) = &mut self.sockets[index][slot] {
            socket.state = State::Dead;
            self.links[socket.link].finished = true;
            self.lose(index, slot);
        }
    }

    fn lose(&mut self, index: usize, slot: usize) {
        if let Some(socket) = &self.sockets[index][slot] {
            self.links[socket.link].lost_ms.get_or_insert(self.now_ms);
        }
    }

    fn reap(&mut self, index: usize, slot: usize) {
        let Some(socket) = &self.sockets[index][slot] else { return };
        if socket.state != State::Dead || socket.sending.is_some() {
            return;
        }
        // What no socket will carry has been written all the same: it counts as said.
        let link = socket.link;
        while let Some(buffer) = self.shards[index].take_output(slot as u32) {
            self.note_written(link, &buffer);
            self.shards[index].handle_sent(slot as u32, buffer);
        }
        self.sockets[index][slot] = None;
        self.work += 1;
        self.shards[index].handle_closed(slot as u32);
    }

    fn note_written(&mut self, link: usize, bytes: &[u8]) {
        let World { links, written, broken, .. } = self;
        let Link { decoder, inbox, .. } = &mut links[link];
        let fed = decoder.feed(bytes, |end, heard| {
            inbox.push_back((end, heard.clone()));
            written.push((link, heard));
        });
        if let Err(problem) = fed {
            broken.get_or_insert(format!("link {link}: {problem}"));
        }
    }

    // === output of a turn ===

    fn flush(&mut self, index: usize, dice: &mut Dice) {
        self.obey_all(index);
        while let Some(slot) = self.shards[index].poll_dirty() {
            self.flush_socket(index, slot as usize);
        }
        self.obey_all(index);
        for peer in (0..=self.settings.shards).filter(|peer| *peer != index) {
            if self.has_room(index, peer, dice) {
                let batch = std::mem::take(self.shards[index].outgoing(ShardId(peer as u16)));
                self.push(index, peer, batch);
            }
        }
    }

    fn flush_socket(&mut self, index: usize, slot: usize) {
        let Some(Some(socket)) = self.sockets[index].get_mut(slot) else { return };
        if socket.sending.is_some() || !matches!(socket.state, State::Open | State::Flushing) {
            return;
        }
        match self.shards[index].take_output(slot as u32) {
            Some(buffer) => {
                let link = socket.link;
                self.note_written(link, &buffer);
                if let Some(socket) = &mut self.sockets[index][slot] {
                    socket.sending = Some((buffer, 0));
                }
            }
            None if socket.state == State::Flushing => {
                socket.state = State::Draining;
                self.links[socket.link].finished = true;
            }
            None => return,
        }
        self.work += 1;
    }

    fn obey_all(&mut self, index: usize) {
        while let Some(command) = self.shards[index].poll_command() {
            self.work += 1;
            match command {
                SocketCommand::Close(slot) => {
                    self.lose(index, slot as usize);
                    if let Some(Some(socket)) = self.sockets[index].get_mut(slot as usize)
                        && socket.state == State::Open
                    {
                        socket.state = State::Flushing;
                        self.flush_socket(index, slot as usize);
                    }
                }
                SocketCommand::Abort(slot) => {
                    self.kill(index, slot as usize);
                    self.reap(index, slot as usize);
                }
                SocketCommand::Pause(slot) | SocketCommand::Resume(slot) => {
                    if let Some(Some(socket)) = self.sockets[index].get_mut(slot as usize) {
                        socket.wanted = matches!(command, SocketCommand::Resume(_));
                    }
                }
            }
        }
    }
}
