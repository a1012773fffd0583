//! What the kernel knows about processes: CPU time, memory, limits, affinity. Linux only, read from `/proc`.

use rustix::process::{Resource, Rlimit};
use rustix::thread::CpuSet;
use std::fs;
use std::io;

/// File descriptors the tool needs besides its connections.
const SPARE_DESCRIPTORS: u64 = 64;

/// A process to watch.
#[derive(Clone, Copy, Debug)]
pub struct Process {
    pid: u32,
}

impl Process {
    pub fn new(pid: u32) -> Self {
        Self { pid }
    }

    /// This very process.
    pub fn own() -> Self {
        Self { pid: std::process::id() }
    }

    pub fn pid(self) -> u32 {
        self.pid
    }

    /// User and system time of all its threads so far, in µs; the kernel counts in ticks of 10 ms.
    pub fn cpu_us(self) -> io::Result<u64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid))?;
        let ticks = cpu_ticks(&stat).ok_or(io::ErrorKind::InvalidData)?;
        Ok(ticks * 1_000_000 / rustix::param::clock_ticks_per_second())
    }

    /// Resident memory, in bytes.
    pub fn resident_bytes(self) -> io::Result<u64> {
        let statm = fs::read_to_string(format!("/proc/{}/statm", self.pid))?;
        let pages: u64 =
            statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
        Ok(pages * rustix::param::page_size() as u64)
    }
}

/// utime + stime of a `/proc/PID/stat` line. The command name may hold spaces and parentheses, so counting starts
/// behind the last one.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace().skip(11);
    let utime: u64 = fields.next()?.parse().ok()?;
    let stime: u64 = fields.next()?.parse().ok()?;
    Some(utime + stime)
}

/// Raises the limit on open files to the hard limit if `connections` need it.
///
/// The error is a sentence for the user: what is needed, what is allowed, how to raise it.
pub fn allow_connections(connections: usize) -> Result<(), String> {
    let needed = connections as u64 + SPARE_DESCRIPTORS;
    let limit = rustix::process::getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    if let Some(hard) = limit.maximum.filter(|hard| *hard < needed) {
        return Err(format!(
            "{connections} connections need {needed} open files, but the hard limit is {hard}. \
             Raise it (ulimit -Hn {needed} as root, or LimitNOFILE= / --ulimit nofile=) and run again."
        ));
    }
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    rustix::process::setrlimit(Resource::Nofile, raised)
        .map_err(|error| format!("cannot raise the limit on open files to the hard limit: {error}"))
}

/// Keeps the calling thread on one CPU.
pub fn pin(cpu: usize) -> Result<(), String> {
    if cpu >= CpuSet::MAX_CPU {
        return Err(format!("there is no CPU {cpu}"));
    }
    let mut set = CpuSet::new();
    set.set(cpu);
    rustix::thread::sched_setaffinity(None, &set).map_err(|error| format!("cannot pin to CPU {cpu}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_odd_command_names() {
        let stat = "42 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 300 21 0 0 20 0 4 0 99";
        assert_eq!(cpu_ticks(stat), Some(321));
        assert_eq!(cpu_ticks("nonsense"), None);
    }

    #[test]
    fn own_figures_can_be_read() {
        assert!(Process::own().resident_bytes().unwrap() > 100_000);
        assert!(Process::own().cpu_us().is_ok());
        assert!(Process::new(u32::MAX).cpu_us().is_err());
    }

    #[test]
    fn an_impossible_number_of_connections_is_explained() {
        // Only meaningful where a hard limit exists at all.
        if let Err(text) = allow_connections(usize::MAX / 4) {
            assert!(text.contains("open files"), "{text}");
        }
    }
}
