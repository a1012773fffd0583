//! A Redis server of a test's own, which can be killed and come back. `scripts/test` installs the program.

use std::process::{Child, Command, Stdio};

use super::eventually;
use super::ports::{PortLease, lease};
use super::sandbox::Sandbox;
use std::os::unix::process::CommandExt;

/// A running server without persistence. Dropping it kills the process.
#[derive(Debug)]
pub struct Redis {
    lease: PortLease,
    child: Child,
}

impl Redis {
    pub fn start() -> Self {
        let lease = lease();
        let child = spawn(lease.port);
        Self { lease, child }
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.lease.port)
    }

    /// The power cut: everything it knew is gone.
    pub fn kill(&mut self) {
        self.child.kill().expect("the server is our child");
        self.child.wait().expect("the server is our child");
    }

    /// Starts it again on the same port, after `kill`.
    pub fn start_again(&mut self) {
        self.child = spawn(self.lease.port);
    }

    /// Runs one command with `redis-cli` and returns what it prints.
    pub fn command(&self, arguments: &[&str]) -> String {
        let port = self.lease.port.to_string();
        let output = Command::new("redis-cli").args(["-p", &port]).args(arguments).output().expect("redis-cli runs");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(port: u16) -> Child {
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
    command.current_dir(env!("CARGO_TARGET_TMPDIR")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let sandbox = Sandbox::default();
    // SAFETY: the closure runs in the child between fork and exec and makes only plain system calls.
    unsafe { command.pre_exec(move || sandbox.enter()) };
    let child = command.spawn().expect("redis-server is missing: run scripts/test once");
    eventually("Redis takes connections", || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
    child
}
