//! Where the files of managed workers lie, below `~/.iii`.

use crate::processes::session::Stat;
use sha2::{Digest, Sha256};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The directory `.iii` of the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place(PathBuf);

// === impl Place ===

impl Place {
    /// That of this user; below the temporary directory for one without a home.
    pub fn of_user() -> Place {
        let home = std::env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
        Place(home.unwrap_or_else(std::env::temp_dir).join(".iii"))
    }

    /// Directory of a worker's logs: `stdout.log`, `stderr.log`.
    pub fn logs(&self, name: &str) -> PathBuf {
        self.0.join("logs").join(name)
    }

    /// Directory of what is prepared for a worker.
    pub fn managed(&self, name: &str) -> PathBuf {
        self.0.join("managed").join(name)
    }

    /// Virtual environment of a Python worker.
    pub fn venv(&self, name: &str) -> PathBuf {
        self.managed(name).join("venv")
    }

    /// Holds the hash of what was installed.
    pub fn prepared(&self, name: &str) -> PathBuf {
        self.managed(name).join("prepared")
    }

    /// Exists while a worker is to stay stopped.
    pub fn stopped(&self, name: &str) -> PathBuf {
        self.managed(name).join("stopped")
    }

    /// An installed executable.
    pub fn binary(&self, name: &str) -> PathBuf {
        self.0.join("workers").join(name)
    }

    /// An installed project.
    pub fn bundle(&self, name: &str) -> PathBuf {
        self.0.join("workers-bundle").join(name)
    }

    /// The pid file of a worker of a project (MW-29).
    pub fn pid_file(&self, project: &Path, name: &str) -> PathBuf {
        self.0.join("pids").join(format!("{}-{name}.pid", project_hash(project)))
    }
}

/// Eight characters that tell projects apart.
pub fn project_hash(project: &Path) -> String {
    hex(&Sha256::digest(project.as_os_str().as_encoded_bytes()))[..8].to_owned()
}

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Writes a pid file: the id, and when the process was started.
pub fn write_pid(path: &Path, pid: i32) -> io::Result<()> {
    let started = Stat::of(pid).map_or(0, |stat| stat.started);
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let _ = fs::remove_file(path);
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32);
    options.open(path)?.write_all(format!("{pid} {started}\n").as_bytes())
}

/// The live process a pid file names. A file of somebody else, or of a process that has ended, names none.
pub fn read_pid(path: &Path) -> Option<i32> {
    let mut options = fs::OpenOptions::new();
    options.read(true).custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32);
    let file = options.open(path).ok()?;
    if file.metadata().ok()?.uid() != rustix::process::geteuid().as_raw() {
        return None;
    }
    let text = io::read_to_string(file).ok()?;
    let (pid, started) = text.trim().split_once(' ')?;
    let (pid, started): (i32, u64) = (pid.parse().ok()?, started.parse().ok()?);
    let stat = Stat::of(pid)?;
    (stat.started == started && stat.state != 'Z').then_some(pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    // MW-29
    #[test]
    fn a_pid_is_trusted_only_with_its_start_time() {
        let directory = std::env::temp_dir().join(format!("iii-pids-{}", std::process::id()));
        let path = Place(directory.clone()).pid_file(Path::new("/a"), "w");
        assert_ne!(path, Place(directory.clone()).pid_file(Path::new("/b"), "w"));
        let us = std::process::id() as i32;
        write_pid(&path, us).expect("writable");
        assert_eq!(read_pid(&path), Some(us));
        fs::write(&path, format!("{us} 1\n")).expect("writable");
        assert_eq!(read_pid(&path), None);
        fs::remove_file(&path).expect("there");
        std::os::unix::fs::symlink("/proc/self/stat", &path).expect("writable");
        assert_eq!(read_pid(&path), None);
        fs::remove_dir_all(directory).expect("ours");
    }
}
