//! The io_uring of a data shard: one submission and one wait per turn.
//!
//! Thin: opens the ring, names operations, keeps the unsafe submission in one place. What the operations mean is
//! in `sockets`.

use io_uring::squeue::Entry;
use io_uring::{IoUring, opcode, types};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// Submissions that fit before the kernel must be entered.
const SUBMISSIONS: u32 = 1024;
/// Completions the kernel can queue without side lists.
const COMPLETIONS: u32 = 8192;

/// What an operation is for; comes back with its completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Op {
    Accept(u32),
    Receive(u32),
    Send(u32),
    Wake,
    /// Nobody waits for it.
    Ignored,
}

impl Op {
    fn encode(self) -> u64 {
        let (kind, slot) = match self {
            Op::Accept(listener) => (1, listener),
            Op::Receive(slot) => (2, slot),
            Op::Send(slot) => (3, slot),
            Op::Wake => (4, 0),
            Op::Ignored => (0, 0),
        };
        kind << 32 | u64::from(slot)
    }

    pub(super) fn decode(user_data: u64) -> Op {
        let slot = user_data as u32;
        match user_data >> 32 {
            1 => Op::Accept(slot),
            2 => Op::Receive(slot),
            3 => Op::Send(slot),
            4 => Op::Wake,
            _ => Op::Ignored,
        }
    }
}

/// A finished operation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Completion {
    pub op: Op,
    pub result: i32,
    pub flags: u32,
}

/// One shard's ring.
pub(super) struct Ring {
    ring: IoUring,
}

/// Opens a ring with the flags a shard needs. Must be called on the thread that will use it.
pub(super) fn open(submissions: u32) -> io::Result<IoUring> {
    IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_cqsize(COMPLETIONS)
        .setup_clamp()
        .build(submissions)
}

impl Ring {
    pub(super) fn new() -> io::Result<Ring> {
        Ok(Ring { ring: open(SUBMISSIONS)? })
    }

    pub(super) fn submitter(&self) -> io_uring::Submitter<'_> {
        self.ring.submitter()
    }

    fn push(&mut self, entry: &Entry) {
        loop {
            // SAFETY: every operation built below refers to memory that outlives it: a send's buffer stays with
            // its socket until the completion, received bytes go to the registered buffer ring, the wake value is
            // a static, and sockets are closed only when none of their operations is left.
            if unsafe { self.ring.submission().push(entry) }.is_ok() {
                return;
            }
            // The queue is full: hand it over and go on.
            let _ = self.ring.submit();
        }
    }

    pub(super) fn accept(&mut self, listener: u32, fd: RawFd) {
        let entry = opcode::AcceptMulti::new(types::Fd(fd)).flags(libc::SOCK_CLOEXEC).build();
        self.push(&entry.user_data(Op::Accept(listener).encode()));
    }

    pub(super) fn receive(&mut self, slot: u32, fd: RawFd) {
        let entry = opcode::RecvMulti::new(types::Fd(fd), super::buffers::GROUP).build();
        self.push(&entry.user_data(Op::Receive(slot).encode()));
    }

    /// `bytes` must stay where they are until the completion.
    pub(super) fn send(&mut self, slot: u32, fd: RawFd, bytes: &[u8]) {
        let length = bytes.len().min(1 << 30) as u32;
        let entry = opcode::Send::new(types::Fd(fd), bytes.as_ptr(), length).flags(libc::MSG_NOSIGNAL).build();
        self.push(&entry.user_data(Op::Send(slot).encode()));
    }

    pub(super) fn cancel_receive(&mut self, slot: u32) {
        let entry = opcode::AsyncCancel::new(Op::Receive(slot).encode()).build();
        self.push(&entry.user_data(Op::Ignored.encode()));
    }

    pub(super) fn cancel_accept(&mut self, listener: u32) {
        let entry = opcode::AsyncCancel::new(Op::Accept(listener).encode()).build();
        self.push(&entry.user_data(Op::Ignored.encode()));
    }

    pub(super) fn watch(&mut self, eventfd: &EventFd) {
        let entry = opcode::PollAdd::new(types::Fd(eventfd.0.as_raw_fd()), libc::POLLIN as u32).multi(true).build();
        self.push(&entry.user_data(Op::Wake.encode()));
    }

    /// Wakes another shard; goes to the kernel together with the sends of the turn.
    pub(super) fn wake(&mut self, eventfd: &EventFd) {
        static ONE: u64 = 1;
        let one = std::ptr::from_ref(&ONE).cast();
        let entry = opcode::Write::new(types::Fd(eventfd.0.as_raw_fd()), one, 8)
            .build()
            .flags(io_uring::squeue::Flags::SKIP_SUCCESS);
        self.push(&entry.user_data(Op::Ignored.encode()));
    }

    /// Hands over what was pushed and collects completions. `wait_ms`: `Some(0)` = do not wait, `None` = for ever.
    pub(super) fn turn(&mut self, wait_ms: Option<u64>, completions: &mut Vec<Completion>) -> io::Result<()> {
        let timeout = types::Timespec::new()
            .sec(wait_ms.unwrap_or(0) / 1000)
            .nsec((wait_ms.unwrap_or(0) % 1000) as u32 * 1_000_000);
        let entered = match wait_ms {
            Some(0) => {
                let pending = self.ring.submission().len() as u32;
                const GET_EVENTS: u32 = 1;
                // SAFETY: no argument is passed; what was pushed keeps the promise made in `push`.
                unsafe { self.ring.submitter().enter::<libc::sigset_t>(pending, 0, GET_EVENTS, None) }
            }
            Some(_) => self.ring.submitter().submit_with_args(1, &types::SubmitArgs::new().timespec(&timeout)),
            None => self.ring.submit_and_wait(1),
        };
        match entered {
            Ok(_) => {}
            Err(error) if matches!(error.raw_os_error(), Some(libc::ETIME | libc::EINTR | libc::EBUSY)) => {}
            Err(error) => return Err(error),
        }
        completions.extend(self.ring.completion().map(|entry| Completion {
            op: Op::decode(entry.user_data()),
            result: entry.result(),
            flags: entry.flags(),
        }));
        Ok(())
    }
}

/// Wakes a thread that waits in its ring.
pub(crate) struct EventFd(OwnedFd);

impl EventFd {
    pub(crate) fn new() -> io::Result<EventFd> {
        // SAFETY: plain system call; a valid descriptor is owned by nobody else.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: as above.
        Ok(EventFd(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Wakes the owner, from any thread.
    pub(crate) fn signal(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: eight readable bytes, as an eventfd wants. It fails only when the counter is full, and then the
        // owner is being woken anyway.
        let _ = unsafe { libc::write(self.0.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_survive_the_kernel() {
        for op in [Op::Accept(3), Op::Receive(u32::MAX), Op::Send(0), Op::Wake, Op::Ignored] {
            assert_eq!(Op::decode(op.encode()), op);
        }
    }
}
