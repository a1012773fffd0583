//! What the machine must offer, checked before anything starts, so that a failure is one clear line.

use super::StartError;
use std::io;

/// Locked memory that must be allowed, and what an executor pins. Whether more is really charged depends on the
/// kernel and on privileges, so it is asked for and not insisted on.
const LOCKED_BYTES_MIN: u64 = 512 << 10;
const LOCKED_BYTES_PER_SHARD: u64 = 192 << 10;
/// Descriptors an engine needs without any connection, and per shard.
const DESCRIPTORS_BASE: u64 = 64;
const DESCRIPTORS_PER_SHARD: u64 = 12;

/// Raises limits as far as they go and checks that an engine of this many shards can run.
pub fn check(shards: usize) -> Result<(), StartError> {
    let shards = shards as u64 + 1;
    let descriptors = DESCRIPTORS_BASE + shards * DESCRIPTORS_PER_SHARD;
    let limit = raise(libc::RLIMIT_NOFILE, u64::MAX);
    if limit < descriptors {
        return Err(StartError(format!(
            "too few file descriptors: the limit is {limit}, at least {descriptors} are needed, plus one per \
             connection; raise it with `ulimit -n 65536` or LimitNOFILE=65536 in the systemd unit"
        )));
    }
    let locked = LOCKED_BYTES_MIN.max(shards * LOCKED_BYTES_PER_SHARD);
    let limit = raise(libc::RLIMIT_MEMLOCK, locked);
    if limit < LOCKED_BYTES_MIN {
        return Err(StartError(format!(
            "too little locked memory: the limit is {} KiB, {} KiB are needed; raise it with `ulimit -l {}`, \
             LimitMEMLOCK=infinity in the systemd unit, or docker's `--ulimit memlock=-1`",
            limit >> 10,
            locked >> 10,
            locked >> 10
        )));
    }
    // Dropped at once: it only proves that a ring can be had.
    super::uring::open(8).map(drop).map_err(|error| explain_ring(&error))
}

/// Turns a failure to open a ring into what to do about it.
pub(super) fn explain_ring(error: &io::Error) -> StartError {
    let advice = match error.raw_os_error() {
        Some(libc::ENOSYS) => "this kernel has no io_uring; Linux 6.1 or newer is needed",
        Some(libc::EPERM | libc::EACCES) => {
            "io_uring is forbidden here; allow it with `sysctl kernel.io_uring_disabled=0`, or in a container with \
             `--security-opt seccomp=unconfined` or a profile that permits io_uring_setup, io_uring_enter and \
             io_uring_register"
        }
        Some(libc::ENOMEM) => {
            "not enough locked memory; raise it with `ulimit -l unlimited` or docker's `--ulimit memlock=-1`"
        }
        Some(libc::EINVAL) => "this kernel's io_uring is too old; Linux 6.1 or newer is needed",
        _ => "see dmesg for the kernel's reason",
    };
    StartError(format!("cannot use io_uring ({error}): {advice}"))
}

/// Raises a limit to `wanted`, or as far as it goes. Returns where it stands.
#[allow(clippy::useless_conversion, reason = "the resource type differs between C libraries")]
fn raise(resource: libc::__rlimit_resource_t, wanted: u64) -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: plain system calls on a local struct.
    unsafe {
        if libc::getrlimit(resource, &mut limit) != 0 {
            return u64::MAX;
        }
        let target = limit.rlim_max.min(wanted);
        if limit.rlim_cur < target {
            let raised = libc::rlimit { rlim_cur: target, rlim_max: limit.rlim_max };
            if libc::setrlimit(resource, &raised) == 0 {
                return target;
            }
        }
    }
    limit.rlim_cur
}

/// CPUs this process may use, by the affinity mask and the cgroup quota.
pub fn allowed_cpus() -> Vec<usize> {
    // SAFETY: an all-zero set is valid, and the call fills it.
    let mut cpus: Vec<usize> = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) == 0 {
            (0..libc::CPU_SETSIZE as usize).filter(|cpu| libc::CPU_ISSET(*cpu, &set)).collect()
        } else {
            Vec::new()
        }
    };
    // The standard library also reads the cgroup quota.
    let quota = std::thread::available_parallelism().map_or(1, usize::from);
    cpus.truncate(quota.max(1));
    if cpus.is_empty() { vec![0] } else { cpus }
}
