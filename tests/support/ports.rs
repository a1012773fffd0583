//! Ports that no other test, and no outgoing connection, can take.
//!
//! They lie below the kernel's ephemeral range, and a lock file per port keeps parallel tests apart,
//! also tests of another checkout. The lock goes away with the process, so a crash leaks nothing.

use std::fs::{File, create_dir_all};
use std::net::TcpListener;
use std::os::fd::AsRawFd;

const FIRST: u16 = 20_000;
const COUNT: u16 = 10_000;

/// A port reserved for one test for as long as this lives.
#[derive(Debug)]
pub struct PortLease {
    pub port: u16,
    _lock: File,
}

/// Reserves a free port.
pub fn lease() -> PortLease {
    let dir = std::env::temp_dir().join("iii-test-ports");
    create_dir_all(&dir).expect("the temporary directory is writable");
    // Start at a different place in each process, so that processes seldom try the same port.
    let start = (std::process::id().wrapping_mul(7919) % u32::from(COUNT)) as u16;
    for step in 0..COUNT {
        let port = FIRST + (start + step) % COUNT;
        let Ok(lock) = File::options().create(true).append(true).open(dir.join(port.to_string())) else { continue };
        // SAFETY: flock takes a descriptor this File keeps open, and touches no memory.
        let locked = unsafe { libc::flock(lock.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) } == 0;
        if locked && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return PortLease { port, _lock: lock };
        }
    }
    panic!("no free port between {FIRST} and {}", FIRST + COUNT);
}
