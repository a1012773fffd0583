//! How a change of the configuration gets from the thread that coordinates it to the shards.

use super::{Shared, StartError};
use crate::builtin::Change;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long all shards together may take to apply a change. They do it between two turns, so this is for ever.
const APPLY_TIMEOUT: Duration = Duration::from_secs(10);

/// What happens to listening sockets, by listener number.
#[derive(Default)]
pub struct SocketChanges {
    /// Sockets to accept on from now on.
    pub opened: Vec<(u16, OwnedFd)>,
    /// Listeners that are closed.
    pub closed: Vec<u16>,
}

/// A change on its way to control, and where its end is told.
pub(crate) struct Request {
    pub change: Arc<Change>,
    pub applied: crossbeam_channel::Sender<()>,
}

/// Changes a running engine, from any thread; one change at a time.
#[derive(Clone)]
pub struct ChangeHandle(pub(super) Arc<Shared>);

impl ChangeHandle {
    /// Applies a change everywhere. Returns when every shard has. `Err` = the engine is stopping or stuck.
    pub fn apply(&self, change: Change, sockets: SocketChanges) -> Result<(), StartError> {
        let failed = || StartError("the engine did not apply the change".to_owned());
        let (applied, is_applied) = crossbeam_channel::bounded(1);
        // Nobody comes in at a door that closes, and a new one opens when everybody knows it.
        self.change_sockets(SocketChanges { opened: Vec::new(), closed: sockets.closed })?;
        let request = Request { change: Arc::new(change), applied };
        self.0.changes.send(request).map_err(|_| failed())?;
        self.0.control_waker.wake();
        is_applied.recv_timeout(APPLY_TIMEOUT).map_err(|_| failed())?;
        self.change_sockets(SocketChanges { opened: sockets.opened, closed: Vec::new() })
    }

    fn change_sockets(&self, sockets: SocketChanges) -> Result<(), StartError> {
        let failed = |_| StartError("the engine no longer changes its listeners".to_owned());
        self.0.sockets.send(sockets).map_err(failed)?;
        self.0.sockets_changed.store(true, Ordering::Release);
        self.0.wake(0);
        Ok(())
    }
}
