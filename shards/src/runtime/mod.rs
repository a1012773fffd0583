//! The threads of an engine: data shards, the control shard, listeners, start and stop.
//!
//! glommio runs every thread: it places and names them, and the control shard lives on its reactor. A data shard
//! has a ring of its own for sockets ([`uring`]), because glommio's streams re-arm a poll after every short read;
//! see ARCHITECTURE.md. Only this folder reads clocks.

mod buffers;
pub mod change;
mod control;
pub mod listen;
mod post;
pub mod preflight;
mod pump;
mod sockets;
mod uring;

use crate::builtin::{BuiltInId, Definition, Post};
use crate::ids::ShardId;
use crate::limits::{RING_SLOTS, SHARDS_MAX};
use crate::registry::FunctionHasher;
use crate::ring::mesh::mesh;
use crate::settings::{ListenerSettings, Settings};
use crate::shard::mesh::Batch;
use crate::shard::{Now, Shard};
use change::{ChangeHandle, SocketChanges};
use glommio::{ExecutorJoinHandle, LocalExecutorBuilder, Placement};
use listen::{Bound, bind};
use post::PostOffice;
use pump::Pump;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use uring::EventFd;

/// Why an engine did not start. One line that says what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartError(pub String);

impl std::fmt::Display for StartError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StartError {}

/// What crosses a ring: a turn's messages, and sockets for the receiver to own.
pub(crate) struct Parcel {
    pub batch: Batch,
    pub sockets: Vec<AcceptedSocket>,
}

/// A connection that was accepted for another shard.
pub(crate) struct AcceptedSocket {
    pub fd: OwnedFd,
    pub listener: u16,
    pub peer: std::net::SocketAddr,
}

/// What all threads of one engine share: nothing on the path of an invocation.
pub(crate) struct Shared {
    pub settings: Arc<Settings>,
    /// Open connections per data shard. The acceptor adds, the home shard subtracts.
    pub loads: Box<[AtomicUsize]>,
    /// Wakes a data shard out of the kernel.
    pub wakers: Arc<[EventFd]>,
    /// Wakes the control shard.
    pub control_waker: atomic_waker::AtomicWaker,
    /// No connection is accepted any more.
    pub stopping: AtomicBool,
    /// What other threads have for built-in workers, per data shard.
    pub post: Arc<PostOffice>,
    /// Changes of the configuration for control; the receiving end is its own.
    pub changes: crossbeam_channel::Sender<change::Request>,
    /// Changes of listening sockets for shard 0, and whether there are any.
    pub sockets: crossbeam_channel::Sender<SocketChanges>,
    pub sockets_changed: AtomicBool,
    clock: Instant,
}

impl Shared {
    pub fn now(&self) -> Now {
        let unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        // Starts at one second so that "long ago" never underflows.
        Now { ms: self.clock.elapsed().as_millis() as u64 + 1000, unix_ms }
    }

    /// Wakes a thread that `Signal::notify` says is asleep. Index `shards` is control.
    pub fn wake(&self, peer: usize) {
        match self.wakers.get(peer) {
            Some(waker) => waker.signal(),
            None => self.control_waker.wake(),
        }
    }
}

/// A running engine.
pub struct Engine {
    shared: Arc<Shared>,
    addresses: Vec<Vec<SocketAddr>>,
    placement: String,
    threads: Vec<ExecutorJoinHandle<()>>,
    control: ExecutorJoinHandle<()>,
}

/// Asks an engine to stop, from any thread.
#[derive(Clone)]
pub struct StopHandle(Arc<Shared>);

impl StopHandle {
    /// Stops accepting, tells callers and workers, ends all threads. Returns at once.
    pub fn stop(&self) {
        self.0.stopping.store(true, Ordering::SeqCst);
        self.0.control_waker.wake();
    }
}

impl Engine {
    /// Binds the listeners and starts all threads. Returns when every shard is serving.
    ///
    /// Every built-in worker gets an instance on each shard; its listeners come behind those of the settings.
    pub fn start(mut settings: Settings, built_ins: Vec<Definition>) -> Result<Engine, StartError> {
        if !(1..=SHARDS_MAX).contains(&settings.shards) {
            return Err(StartError(format!("shards must be from 1 to {SHARDS_MAX}, not {}", settings.shards)));
        }
        preflight::check(settings.shards)?;
        for (index, definition) in built_ins.iter().enumerate() {
            for (number, listener) in definition.listeners.iter().enumerate() {
                let built_in = Some((BuiltInId(index as u16), number));
                settings.listeners.push(ListenerSettings { built_in, ..listener.clone() });
            }
        }
        let built_ins: Arc<[Arc<Definition>]> = built_ins.into_iter().map(Arc::new).collect();
        let bound = bind(&settings.listeners)?;
        let addresses = bound.iter().map(|listener| listener.addresses.clone()).collect();
        let settings = Arc::new(settings);
        let count = settings.shards;
        let wakers: Result<Arc<[EventFd]>, _> = (0..count).map(|_| EventFd::new()).collect();
        let wakers = wakers.map_err(|error| StartError(format!("cannot create an eventfd: {error}")))?;
        let (changes, wanted_changes) = crossbeam_channel::bounded(1);
        let (sockets, wanted_sockets) = crossbeam_channel::bounded(4);
        let shared = Arc::new(Shared {
            changes,
            sockets,
            sockets_changed: AtomicBool::new(false),
            settings: settings.clone(),
            loads: (0..count).map(|_| AtomicUsize::new(0)).collect(),
            post: Arc::new(PostOffice::new(wakers.clone())),
            wakers,
            control_waker: atomic_waker::AtomicWaker::new(),
            stopping: AtomicBool::new(false),
            clock: Instant::now(),
        });
        let cpus = preflight::allowed_cpus();
        let pinned = count <= cpus.len();
        let placement = if pinned {
            format!(
                "{count} pinned to CPU {}",
                cpus[..count].iter().map(usize::to_string).collect::<Vec<_>>().join(",")
            )
        } else {
            format!("{count} on {} CPU{}, unpinned", cpus.len(), if cpus.len() == 1 { "" } else { "s" })
        };
        let mut ports = mesh::<Parcel>(count + 1, RING_SLOTS);
        let control_port = ports.pop().expect("the mesh has a port per shard and one for control");
        let hasher = FunctionHasher::new(rand::random(), count);
        let (ready, is_ready) = crossbeam_channel::bounded(count + 1);
        let mut threads = Vec::with_capacity(count);
        let mut bound = Some(bound);
        for (index, port) in ports.into_iter().enumerate() {
            let cpu = pinned.then(|| cpus[index]);
            let (shared, settings, hasher, ready) = (shared.clone(), settings.clone(), hasher.clone(), ready.clone());
            let (built_ins, wanted_sockets) = (built_ins.clone(), wanted_sockets.clone());
            // One shard accepts for all: an exclusive listener cannot be split behind our back.
            let listeners: Vec<Bound> = if index == 0 { bound.take().unwrap_or_default() } else { Vec::new() };
            let thread = executor(&format!("iii-shard-{index}"), cpu)?.spawn(move || async move {
                let mut shard = Shard::new(ShardId(index as u16), settings, hasher, rand::random());
                shard.set_time(shared.now());
                let post: Arc<dyn Post> = shared.post.clone();
                shard.start_built_ins(&built_ins, &post);
                match Pump::new(index, shard, port, shared, listeners, wanted_sockets) {
                    Ok(mut pump) => {
                        let _ = ready.send(Ok(()));
                        pump.run();
                    }
                    Err(error) => {
                        let _ = ready.send(Err(preflight::explain_ring(&error)));
                    }
                }
            });
            threads.push(thread.map_err(|error| StartError(format!("cannot start shard {index}: {error}")))?);
        }
        let control = {
            let (shared, hasher) = (shared.clone(), hasher.clone());
            executor("iii-control", None)?
                .spawn(move || async move {
                    let _ = ready.send(Ok(()));
                    control::run(shared, hasher, control_port, &built_ins, wanted_changes).await;
                })
                .map_err(|error| StartError(format!("cannot start the control shard: {error}")))?
        };
        let engine = Engine { shared, addresses, placement, threads, control };
        for _ in 0..=count {
            if let Ok(Err(error)) = is_ready.recv() {
                engine.stop_handle().stop();
                return Err(error);
            }
        }
        Ok(engine)
    }

    /// Addresses bound, per listener, in the order of the settings.
    pub fn addresses(&self) -> &[Vec<SocketAddr>] {
        &self.addresses
    }

    /// Where the shards run, for people.
    pub fn placement(&self) -> &str {
        &self.placement
    }

    /// A handle that stops the engine.
    pub fn stop_handle(&self) -> StopHandle {
        StopHandle(self.shared.clone())
    }

    /// A handle that changes the engine while it runs.
    pub fn change_handle(&self) -> ChangeHandle {
        ChangeHandle(self.shared.clone())
    }

    /// Settings it was started with, listeners of built-in workers included.
    pub fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    /// Waits until the engine has stopped.
    pub fn join(self) {
        for thread in self.threads {
            let _ = thread.join();
        }
        let _ = self.control.join();
    }
}

/// A glommio executor with as little locked memory as it takes.
fn executor(name: &str, cpu: Option<usize>) -> Result<LocalExecutorBuilder, StartError> {
    let placement = cpu.map_or(Placement::Unbound, Placement::Fixed);
    Ok(LocalExecutorBuilder::new(placement).name(name).io_memory(64 << 10).ring_depth(64))
}
