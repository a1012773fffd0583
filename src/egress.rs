//! The egress thread: one small tokio runtime for everything in which the engine is a client of something else.
//!
//! Starts with its first user. Nothing of the data shards ever waits for it: work goes in as a future, what comes
//! of it goes back through a mailbox.

use std::future::Future;
use std::sync::LazyLock;
use tokio::runtime::{Builder, Handle};

static RUNTIME: LazyLock<Handle> = LazyLock::new(|| runtime_thread("iii-egress"));

/// Runs a future on the egress thread.
pub fn spawn<F>(future: F) -> tokio::task::JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    RUNTIME.spawn(future)
}

/// Starts a thread with a small tokio runtime of its own, which lives as long as the process.
pub(crate) fn runtime_thread(name: &str) -> Handle {
    // Without its thread nothing that is given to the runtime would ever be done: better not to start at all.
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    let handle = runtime.handle().clone();
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || runtime.block_on(std::future::pending::<()>()))
        .expect("the thread of a runtime starts");
    handle
}

#[cfg(test)]
mod tests {
    #[test]
    fn futures_run_and_their_output_comes_back() {
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        super::spawn(async move { sender.send(2 + 2) });
        assert_eq!(receiver.recv(), Ok(4));
    }
}
