//! Everything in which the engine starts processes: one thread with a small tokio runtime, process sessions, the guard
//! against orphans, output files, watches, and the supervisor of it all.
//!
//! ```text
//! Supervisor ──► one task per entry ──► Session (sh and what it starts) ──► output files, console
//!     │                  ▲                       │
//!  put/remove/      watch (notify)             Guard: kills what is left when the engine is gone
//!  stop/start/status
//! ```
//!
//! Data shards never wait for any of this. The thread lives as long as the process: the kernel ties the
//! parent-death signal of a child to the thread that started it.

pub mod backoff;
pub mod guard;
pub mod output;
pub mod session;
pub mod supervisor;
pub mod watch;

use crate::egress::runtime_thread;
use std::future::Future;
use std::sync::LazyLock;
use tokio::runtime::Handle;

static RUNTIME: LazyLock<Handle> = LazyLock::new(|| runtime_thread("iii-processes"));

/// Runs a future on the process thread.
pub fn spawn<F>(future: F) -> tokio::task::JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    RUNTIME.spawn(future)
}

/// Runs a future on the process thread and waits for its output. For the engine's main thread, never for a shard.
pub fn wait<F>(future: F) -> F::Output
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    spawn(async move {
        let _ = sender.send(future.await);
    });
    receiver.recv().expect("the process thread lives as long as the process")
}
