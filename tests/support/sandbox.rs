//! Poorer surroundings for a child process: fewer descriptors, little locked memory, no io_uring.

use std::io;

/// What to take away. Applied in the child, between fork and exec.
#[derive(Debug, Clone, Default)]
pub struct Sandbox {
    /// Soft and hard limit of open descriptors.
    pub descriptors: Option<u64>,
    /// Bytes of memory the process may lock.
    pub locked_memory_bytes: Option<u64>,
    /// Answer every io_uring system call with EPERM, as container runtimes do.
    pub io_uring_denied: bool,
    /// Give up the capabilities by which root exceeds limits; without that the limits would mean nothing.
    pub unprivileged: bool,
}

const CAP_IPC_LOCK: libc::c_ulong = 14;
const CAP_SYS_RESOURCE: libc::c_ulong = 24;

impl Sandbox {
    pub fn enter(&self) -> io::Result<()> {
        // The child dies with the test, also when the test process is killed.
        // SAFETY: prctl with these arguments reads and writes no memory of ours.
        check(unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) })?;
        if let Some(count) = self.descriptors {
            limit(libc::RLIMIT_NOFILE, count)?;
        }
        if let Some(bytes) = self.locked_memory_bytes {
            limit(libc::RLIMIT_MEMLOCK, bytes)?;
        }
        if self.unprivileged {
            for capability in [CAP_IPC_LOCK, CAP_SYS_RESOURCE] {
                // Fails only for a process that has no such privilege anyway.
                // SAFETY: prctl with these arguments reads and writes no memory of ours.
                unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
            }
        }
        if self.io_uring_denied {
            deny_io_uring()?;
        }
        Ok(())
    }
}

fn limit(resource: libc::__rlimit_resource_t, value: u64) -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
    // SAFETY: the pointer is to a local that outlives the call.
    check(unsafe { libc::setrlimit(resource, &limit) })
}

/// A seccomp filter of five instructions: EPERM for io_uring_setup, _enter and _register.
fn deny_io_uring() -> io::Result<()> {
    const LOAD_SYSCALL_NUMBER: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const JUMP_IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut filter = [
        step(LOAD_SYSCALL_NUMBER, 0, 0, 0),
        step(JUMP_IF_EQUAL, 3, 0, libc::SYS_io_uring_setup as u32),
        step(JUMP_IF_EQUAL, 2, 0, libc::SYS_io_uring_enter as u32),
        step(JUMP_IF_EQUAL, 1, 0, libc::SYS_io_uring_register as u32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the program and its filter outlive the calls, which copy them.
    unsafe {
        check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
        check(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program))
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Raises this process's descriptor limit as far as allowed and returns what it is now.
pub fn raise_descriptor_limit(wanted: u64) -> u64 {
    let mut now = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointers are to locals that outlive the calls.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &mut now), 0);
        let raised = libc::rlimit { rlim_cur: wanted, rlim_max: wanted.max(now.rlim_max) };
        if libc::setrlimit(libc::RLIMIT_NOFILE, &raised) == 0 {
            return wanted;
        }
        now.rlim_cur = now.rlim_max.min(wanted);
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &now), 0);
    }
    now.rlim_cur
}
