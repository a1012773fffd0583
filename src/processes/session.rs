//! A session: one command run by `sh`, everything it starts, and how to end all of it.
//!
//! The shell is the leader of a session and process group of its own, so signals of a terminal do not reach it and one
//! signal reaches the whole group. A session has ended when nothing of it is left, not when the shell is gone.

use super::guard::{Guard, Ward};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::cell::RefCell;
use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::time::{Instant, sleep};

/// How often an ending session is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// How long SIGKILL may take to work.
const KILLING: Duration = Duration::from_secs(1);

thread_local! {
    /// One guard for all sessions; they all live on the process thread.
    static GUARD: RefCell<Guard> = RefCell::default();
}

/// What to run, and how.
#[derive(Debug, Clone, Default)]
pub struct Launch {
    /// Program and arguments.
    pub command: Vec<OsString>,
    /// Working directory; none = the engine's.
    pub directory: Option<PathBuf>,
    /// Variables on top of the engine's own environment.
    pub environment: Vec<(String, OsString)>,
    /// Read the output instead of letting it go where the engine's goes. Standard input is then /dev/null.
    pub captured: bool,
    /// Give the process the read end of a pipe that ends with the engine, as `III_LIFELINE_FD`.
    pub lifeline: bool,
    /// A container that this command runs: program and name.
    pub container: Option<(String, String)>,
}

impl Launch {
    /// A command for the shell.
    pub fn shell(line: &str) -> Launch {
        Launch { command: ["/bin/sh", "-c", line].map(OsString::from).to_vec(), ..Launch::default() }
    }
}

/// A running command. It is to be ended with [`Session::stop`]; dropped, it is killed.
#[derive(Debug)]
pub struct Session {
    child: Child,
    id: i32,
    wards: Vec<Ward>,
    ended: bool,
}

impl Session {
    /// Starts a command. Only on the process thread.
    pub fn start(launch: &Launch) -> std::io::Result<Session> {
        let (program, arguments) = launch.command.split_first().expect("a command names a program");
        let mut command = Command::new(program);
        command.args(arguments).env_remove(LIFELINE_VARIABLE).envs(launch.environment.iter().map(|(k, v)| (k, v)));
        if let Some(directory) = &launch.directory {
            command.current_dir(directory);
        }
        if launch.captured {
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        }
        let lifeline = if launch.lifeline { Some(lifeline()?) } else { None };
        if let Some(lifeline) = &lifeline {
            use std::os::fd::AsRawFd;
            command.env(LIFELINE_VARIABLE, lifeline.as_raw_fd().to_string());
        }
        let engine = rustix::process::getpid();
        let prepare = move || {
            rustix::process::setsid()?;
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            // The engine may have died before the line above.
            if rustix::process::getppid() != Some(engine) {
                return Err(std::io::ErrorKind::BrokenPipe.into());
            }
            // Whatever the engine and its libraries have open stays theirs. An old kernel does not know the call.
            // SAFETY: it sets a flag on descriptors and touches no memory.
            unsafe { libc::close_range(3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC as libc::c_int) };
            if let Some(lifeline) = &lifeline {
                rustix::io::fcntl_setfd(lifeline.as_fd(), rustix::io::FdFlags::empty())?;
            }
            Ok(())
        };
        // SAFETY: runs in the child between fork and exec; it makes plain system calls and does not allocate.
        unsafe { command.pre_exec(prepare) };
        let child = command.spawn()?;
        let id = child.id().and_then(|id| i32::try_from(id).ok()).expect("a child that was just started has an id");
        let container = launch.container.clone().map(|(program, name)| Ward::Container(program, name));
        let wards: Vec<Ward> = [Ward::Session(id)].into_iter().chain(container).collect();
        GUARD.with_borrow_mut(|guard| wards.iter().for_each(|ward| guard.add(ward.clone())));
        Ok(Session { child, id, wards, ended: false })
    }

    /// Process id of the shell, which is the id of its group and session.
    pub fn pid(&self) -> i32 {
        self.id
    }

    /// The captured output, once.
    pub fn output(&mut self) -> Option<(ChildStdout, ChildStderr)> {
        self.child.stdout.take().zip(self.child.stderr.take())
    }

    /// Waits for the shell. What it has started may still run.
    pub async fn wait(&mut self) -> std::io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// SIGTERM to every group of the session; after `grace` SIGKILL. Returns when nothing is left; `false` if
    /// something had to be killed.
    pub async fn stop(mut self, grace: Duration) -> bool {
        self.end(grace).await
    }

    async fn end(&mut self, grace: Duration) -> bool {
        self.signal(Signal::TERM);
        let politely = self.is_gone_within(grace).await;
        if !politely {
            let deadline = Instant::now() + KILLING;
            while Instant::now() < deadline && !self.is_gone_within(LOOK).await {
                self.signal(Signal::KILL);
            }
        }
        self.remove_container().await;
        self.ended = true;
        politely
    }

    async fn is_gone_within(&mut self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        loop {
            // Also reaps the shell, which would else be left as a zombie.
            let shell_gone = matches!(self.child.try_wait(), Ok(Some(_)) | Err(_));
            if shell_gone && members(self.id).is_empty() {
                return true;
            }
            let now = Instant::now();
            if now >= deadline {
                return false;
            }
            sleep(LOOK.min(deadline - now)).await;
        }
    }

    /// Killing the client of a container does not end the container.
    async fn remove_container(&self) {
        for ward in &self.wards {
            if let Ward::Container(program, name) = ward {
                let mut command = Command::new(program);
                command.args(["rm", "-f", name]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
                let _ = tokio::time::timeout(KILLING, command.status()).await;
            }
        }
    }

    // Only what /proc still shows is signalled: the id of an empty session may be another's by now.
    fn signal(&self, signal: Signal) {
        let members = members(self.id);
        if let Some(group) = Pid::from_raw(self.id)
            && members.iter().any(|(_, group)| *group == self.id)
        {
            let _ = kill_process_group(group, signal);
        }
        // A shell with job control puts its jobs into groups of their own.
        for (pid, _) in members.iter().filter(|(_, group)| *group != self.id) {
            if let Some(pid) = Pid::from_raw(*pid) {
                let _ = kill_process(pid, signal);
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if !self.ended {
            self.signal(Signal::KILL);
        }
        // The thread-local is gone only when the process ends, and then the guard sees that by itself.
        let _ = GUARD.try_with(|guard| {
            if let Ok(mut guard) = guard.try_borrow_mut() {
                self.wards.iter().for_each(|ward| guard.remove(ward));
            }
        });
    }
}

/// Variable that names the descriptor of the lifeline.
const LIFELINE_VARIABLE: &str = "III_LIFELINE_FD";

/// A read end whose write end is open as long as the engine lives.
fn lifeline() -> std::io::Result<OwnedFd> {
    thread_local! {
        static PIPE: RefCell<Option<(OwnedFd, OwnedFd)>> = const { RefCell::new(None) };
    }
    PIPE.with_borrow_mut(|pipe| {
        if pipe.is_none() {
            *pipe = Some(rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?);
        }
        let (read, _) = pipe.as_ref().expect("it was just made");
        read.try_clone()
    })
}

/// Processes of a session that still run, each with its group. Zombies do not count: nobody may ever reap them.
pub fn members(session: i32) -> Vec<(i32, i32)> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(|pid| {
        let stat = Stat::of(pid)?;
        (stat.session == session && stat.state != 'Z').then_some((pid, stat.group))
    })
    .collect()
}

/// What the kernel says about a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// `R`, `S`, `Z` and so on.
    pub state: char,
    /// Process group.
    pub group: i32,
    /// Session.
    pub session: i32,
    /// When it was started, in clock ticks after boot. Tells a process from a later one of the same id.
    pub started: u64,
}

impl Stat {
    /// Of the process with this id, if there is one.
    pub fn of(pid: i32) -> Option<Stat> {
        Stat::parse(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    // The name, in brackets, may hold anything; the fields start after the last bracket.
    fn parse(line: &str) -> Option<Stat> {
        let fields: Vec<&str> = line.rsplit_once(')')?.1.split_whitespace().collect();
        Some(Stat {
            state: fields.first()?.chars().next()?,
            group: fields.get(2)?.parse().ok()?,
            session: fields.get(3)?.parse().ok()?,
            started: fields.get(19)?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_survives_odd_names() {
        let line = "7 (a) b (c)) S 1 5 6 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 4242 1 1";
        assert_eq!(Stat::parse(line), Some(Stat { state: 'S', group: 5, session: 6, started: 4242 }));
        assert_eq!(Stat::parse("7 (x)"), None);
        assert!(Stat::of(std::process::id() as i32).is_some());
    }

    // EXEC-24, EXEC-DB-5
    #[test]
    fn a_session_ends_with_all_it_has_started() {
        let stopped = super::super::wait(async {
            let session = Session::start(&Launch::shell("sleep 60 & sleep 60")).expect("sh starts");
            let id = session.pid();
            while members(id).len() < 3 {
                sleep(LOOK).await;
            }
            let polite = session.stop(Duration::from_secs(5)).await;
            (polite, members(id))
        });
        assert_eq!(stopped, (true, Vec::new()));
    }

    #[test]
    fn who_ignores_the_request_is_killed() {
        let (polite, left) = super::super::wait(async {
            let line = "trap '' TERM; (trap '' TERM; sleep 60 & wait; sleep 60) & while :; do sleep 60; done";
            let session = Session::start(&Launch::shell(line)).expect("sh starts");
            let id = session.pid();
            while members(id).len() < 4 {
                sleep(LOOK).await;
            }
            (session.stop(Duration::from_millis(200)).await, members(id))
        });
        assert!(!polite);
        assert_eq!(left, []);
    }
}
