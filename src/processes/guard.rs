//! The guard: a small shell process that kills what the engine has started when the engine is gone without a goodbye.
//!
//! The parent-death signal reaches the direct child alone. The guard reads the engine's sessions from a pipe, one
//! line per change; when the pipe ends, the engine is dead, and every process left in one of these sessions is killed.
//! It is a shell because every command is run by one anyway, and because a program that embeds the engine must not be
//! started a second time.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

/// `+ID` and `-ID` keep the list of sessions; `c RUNTIME NAME` and `x RUNTIME NAME` that of containers.
/// Fields of /proc/PID/stat after the name: state, parent, group, session.
const SCRIPT: &str = r#"trap '' HUP INT TERM
s=' ' c=' '
while read -r op a b; do
  case $op in
    +) s="$s$a " ;;
    -) case $s in *" $a "*) s="${s%%" $a "*} ${s#*" $a "}" ;; esac ;;
    c) c="$c$a:$b " ;;
    x) case $c in *" $a:$b "*) c="${c%%" $a:$b "*} ${c#*" $a:$b "}" ;; esac ;;
  esac
done
for container in $c; do "${container%%:*}" rm -f "${container#*:}" </dev/null & done
round=0
while [ $round -lt 20 ]; do
  found=
  for file in /proc/[0-9]*/stat; do
    read -r line <"$file" || continue
    set -- ${line##*) }
    case $s in *" $4 "*) if [ "$1" != Z ]; then pid=${file%/stat}; kill -9 "${pid#/proc/}" && found=1; fi ;; esac
  done
  [ "$found" ] || break
  round=$((round + 1))
done
wait
"#;

/// What is to be ended when the engine is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ward {
    /// All processes of a session.
    Session(i32),
    /// A container, by the program that runs it and its name.
    Container(String, String),
}

/// The engine's end of the guard.
#[derive(Debug, Default)]
pub struct Guard {
    process: Option<Child>,
    wards: Vec<Ward>,
}

impl Guard {
    /// Puts something under guard.
    pub fn add(&mut self, ward: Ward) {
        self.wards.push(ward.clone());
        self.tell(true, &ward);
    }

    /// It has ended.
    pub fn remove(&mut self, ward: &Ward) {
        self.wards.retain(|other| other != ward);
        self.tell(false, ward);
    }

    /// A guard that has died is replaced, and told everything.
    fn tell(&mut self, added: bool, ward: &Ward) {
        let line = match (ward, added) {
            (Ward::Session(id), true) => format!("+ {id}\n"),
            (Ward::Session(id), false) => format!("- {id}\n"),
            (Ward::Container(program, name), true) => format!("c {program} {name}\n"),
            (Ward::Container(program, name), false) => format!("x {program} {name}\n"),
        };
        let told = self.process.as_mut().is_some_and(|process| write(process, &line));
        if told || (!added && self.wards.is_empty()) {
            return;
        }
        match start() {
            Ok(process) => self.process = Some(process),
            Err(error) => {
                tracing::warn!("no guard against orphaned processes: {error}");
                return;
            }
        }
        for ward in self.wards.clone() {
            let line = match &ward {
                Ward::Session(id) => format!("+ {id}\n"),
                Ward::Container(program, name) => format!("c {program} {name}\n"),
            };
            if let Some(process) = self.process.as_mut() {
                write(process, &line);
            }
        }
    }
}

// The pipe holds thousands of lines, and the guard does nothing but read: a write does not wait.
fn write(process: &mut Child, line: &str) -> bool {
    process.stdin.as_mut().is_some_and(|stdin| stdin.write_all(line.as_bytes()).is_ok())
}

fn start() -> std::io::Result<Child> {
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(SCRIPT).current_dir("/").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    // SAFETY: runs in the child between fork and exec and makes one system call.
    unsafe { command.pre_exec(|| rustix::process::setsid().map(drop).map_err(Into::into)) };
    command.spawn()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_a_session_is_killed_when_the_pipe_ends() {
        let sleeper = |seconds: &str| {
            let mut command = Command::new("/bin/sh");
            command.arg("-c").arg(format!("sleep {seconds} & sleep {seconds}"));
            // SAFETY: as above.
            unsafe { command.pre_exec(|| rustix::process::setsid().map(drop).map_err(Into::into)) };
            command.spawn().expect("sh starts")
        };
        let (mut watched, mut released) = (sleeper("61"), sleeper("62"));
        let mut guard = Guard::default();
        for child in [&watched, &released] {
            guard.add(Ward::Session(child.id() as i32));
        }
        guard.remove(&Ward::Session(released.id() as i32));
        drop(guard.process.take().and_then(|mut process| process.stdin.take()));
        assert!(!watched.wait().expect("our child").success());
        assert!(released.try_wait().expect("our child").is_none());
        let _ = rustix::process::kill_process_group(
            rustix::process::Pid::from_child(&released),
            rustix::process::Signal::KILL,
        );
        let _ = released.wait();
    }
}
