//! The sockets of one shard, and which of their operations are in the kernel.
//!
//! ```text
//! Open ──Close──► Flushing ──sent──► Draining ──eof, linger──► Dead ──no operation left──► (closed)
//!   └──────────────────────Abort, eof, error──────────────────►
//! ```

use super::uring::Ring;
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// Reads after which a delayed acknowledgement of ours could hold up the peer's next small write. Old Rust SDKs
/// leave Nagle's algorithm on; their handshake and registrations are the first reads (PROTO-5).
const QUICK_ACKS: u8 = 8;

/// Where a socket is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Reads and writes.
    Open,
    /// Writes what is left; what it reads is thrown away.
    Flushing,
    /// Has said that nothing more comes, waits for the peer to say the same.
    Draining,
    /// Waits for the kernel to let go of it.
    Dead,
}

/// One socket.
pub(super) struct Socket {
    fd: OwnedFd,
    pub state: State,
    /// A receive is in the kernel.
    receiving: bool,
    /// A receive is wanted.
    wanted: bool,
    /// The buffer being sent, and how much of it has been.
    sending: Option<(Vec<u8>, usize)>,
    quick_acks: u8,
    /// The peer has said that nothing more comes.
    pub ended: bool,
}

impl Socket {
    pub(super) fn new(fd: OwnedFd) -> Self {
        Socket {
            fd,
            state: State::Open,
            receiving: false,
            wanted: true,
            sending: None,
            quick_acks: QUICK_ACKS,
            ended: false,
        }
    }

    fn raw(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Starts to receive, unless it does or must not.
    pub(super) fn arm(&mut self, slot: u32, ring: &mut Ring) {
        if self.wanted && !self.receiving && self.state != State::Dead {
            self.receiving = true;
            ring.receive(slot, self.raw());
        }
    }

    /// A receive has completed; `more` = it goes on by itself.
    pub(super) fn received(&mut self, more: bool) {
        self.receiving = more;
        if self.quick_acks > 0 {
            self.quick_acks -= 1;
            let one: libc::c_int = 1;
            // SAFETY: a valid descriptor and an int, as the option wants. A failure only costs a delay.
            let _ = unsafe {
                libc::setsockopt(
                    self.raw(),
                    libc::IPPROTO_TCP,
                    libc::TCP_QUICKACK,
                    std::ptr::from_ref(&one).cast(),
                    size_of::<libc::c_int>() as libc::socklen_t,
                )
            };
        }
    }

    /// Stops or goes on receiving.
    pub(super) fn want(&mut self, wanted: bool, slot: u32, ring: &mut Ring) {
        self.wanted = wanted;
        if wanted {
            self.arm(slot, ring);
        } else if self.receiving {
            ring.cancel_receive(slot);
        }
    }

    /// Starts to send a buffer. None may be on its way.
    pub(super) fn send(&mut self, buffer: Vec<u8>, slot: u32, ring: &mut Ring) {
        assert!(self.sending.is_none(), "two buffers at once for slot {slot}");
        ring.send(slot, self.raw(), &buffer);
        self.sending = Some((buffer, 0));
    }

    /// A send has completed. Returns the buffer when it is done with, or when the socket failed (`Err`).
    pub(super) fn sent(&mut self, result: i32, slot: u32, ring: &mut Ring) -> Result<Option<Vec<u8>>, Vec<u8>> {
        let Some((buffer, mut done)) = self.sending.take() else { return Ok(None) };
        if result < 0 {
            if matches!(-result, libc::EAGAIN | libc::EINTR) && self.state != State::Dead {
                ring.send(slot, self.raw(), &buffer[done..]);
                self.sending = Some((buffer, done));
                return Ok(None);
            }
            return Err(buffer);
        }
        done += result as usize;
        if done >= buffer.len() {
            return Ok(Some(buffer));
        }
        if self.state == State::Dead {
            return Err(buffer);
        }
        ring.send(slot, self.raw(), &buffer[done..]);
        self.sending = Some((buffer, done));
        Ok(None)
    }

    pub(super) fn is_sending(&self) -> bool {
        self.sending.is_some()
    }

    /// Says that nothing more comes from us.
    pub(super) fn finish_writing(&mut self) {
        if self.ended {
            return self.kill();
        }
        self.state = State::Draining;
        self.shutdown(Shutdown::Write);
    }

    /// Ends both directions; operations in the kernel complete soon.
    pub(super) fn kill(&mut self) {
        if self.state != State::Dead {
            self.state = State::Dead;
            self.shutdown(Shutdown::Both);
        }
    }

    /// Whether the kernel still works on it.
    pub(super) fn is_busy(&self) -> bool {
        self.receiving || self.sending.is_some()
    }

    fn shutdown(&self, how: Shutdown) {
        let how = match how {
            Shutdown::Write => libc::SHUT_WR,
            _ => libc::SHUT_RDWR,
        };
        // SAFETY: a valid descriptor. It fails only on a socket that is already dead.
        let _ = unsafe { libc::shutdown(self.raw(), how) };
    }
}
