//! One engine process: started, waited for, watched, and killed when the test ends.

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use super::ports::{PortLease, lease};
use super::sandbox::Sandbox;
use super::{PATIENCE, RawWorker, eventually, json};

/// The line that says workers may connect.
const READY: &str = "Engine listening on address:";

/// The line that says where HTTP triggers are served.
const HTTP_READY: &str = "API listening on address:";

/// Workers and HTTP alone: the defaults would listen on ports that are the same for every test.
const WORKERS_ONLY: &str = "workers:
  - {name: iii-worker-manager, config: {port: {port}}}
  - {name: iii-http, config: {port: 0}}
  - {name: iii-state}
";

/// How to start an engine. Everything has a default; `start` does the rest.
#[derive(Debug)]
pub struct EngineCommand {
    shards: u32,
    lease: Option<PortLease>,
    config: Option<String>,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    sandbox: Sandbox,
}

/// A running engine. Dropping it kills the process.
#[derive(Debug)]
pub struct Engine {
    pub port: u16,
    command: EngineCommand,
    process: Process,
}

/// How a process ended by itself, and what it printed until then.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    pub output: String,
    pub elapsed: Duration,
}

impl Engine {
    /// The usual case: default settings, this many shards.
    pub fn start(shards: u32) -> Self {
        Self::command(shards).start()
    }

    pub fn command(shards: u32) -> EngineCommand {
        EngineCommand {
            shards,
            lease: None,
            config: None,
            arguments: Vec::new(),
            environment: Vec::new(),
            sandbox: Sandbox::default(),
        }
    }

    pub fn url(&self) -> String {
        format!("ws://127.0.0.1:{}", self.port)
    }

    pub fn pid(&self) -> u32 {
        self.process.child.id()
    }

    /// Where the engine serves HTTP triggers, if it does.
    pub fn http_port(&self) -> Option<u16> {
        let has_line = || self.log().lines().find(|line| line.contains("serving, shards:")).map(|_| self.log());
        let log = eventually("the line behind those of the listeners", has_line);
        let address = log.lines().find_map(|line| line.split_once(HTTP_READY))?.1.trim();
        Some(address.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).expect("an address ends with its port"))
    }

    /// Where the engine serves streams to browsers.
    pub fn stream_port(&self) -> u16 {
        let has_line = || self.log().lines().find(|line| line.contains("serving, shards:")).map(|_| self.log());
        let log = eventually("the line behind those of the listeners", has_line);
        let address = log.lines().find_map(|line| line.split_once("iii-stream listening on address:"));
        address.and_then(|(_, text)| text.trim().rsplit_once(':')?.1.parse().ok()).expect("the engine serves streams")
    }

    pub fn shards(&self) -> u32 {
        self.command.shards
    }

    /// Everything printed so far, for messages and for tests of log lines.
    pub fn log(&self) -> String {
        self.process.output()
    }

    pub fn wait_for_log(&self, text: &str) {
        eventually(&format!("log line with {text:?}"), || self.log().contains(text).then_some(()));
    }

    /// The power cut: no chance to say goodbye.
    pub fn kill(&mut self) {
        self.process.child.kill().expect("the engine is our child");
        self.process.child.wait().expect("the engine is our child");
    }

    /// The polite stop. Returns how the process ended.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(libc::SIGTERM);
        self.terminated()
    }

    /// Waits for the end that a signal has already asked for.
    pub fn terminated(&mut self) -> ExitStatus {
        self.process.wait(PATIENCE)
    }

    pub fn signal(&self, signal: i32) {
        // SAFETY: kill touches no memory; the pid is our own child, not yet waited for.
        assert_eq!(unsafe { libc::kill(self.pid() as i32, signal) }, 0, "the engine has already ended");
    }

    /// Starts a new process on the same port, after `kill` or `terminate`.
    pub fn start_again(&mut self) {
        self.process = self.command.spawn(self.port);
        assert!(self.process.is_ready(), "the engine did not start again:\n{}", self.log());
    }

    /// Waits until the function shows up in discovery, so that any worker may call it.
    pub fn wait_for_function(&self, id: &str) {
        self.wait_for_presence(id, true);
    }

    pub fn wait_until_gone(&self, id: &str) {
        self.wait_for_presence(id, false);
    }

    fn wait_for_presence(&self, id: &str, wanted: bool) {
        let mut probe = RawWorker::connect(self);
        eventually(&format!("function {id} listed: {wanted}"), || {
            let listed = probe.call("engine::functions::list", json!({"prefix": id})).ok()?;
            let rows = listed["functions"].as_array()?;
            (rows.iter().any(|row| row["function_id"] == id) == wanted).then_some(())
        });
    }

    /// Resident memory in bytes.
    pub fn resident_bytes(&self) -> u64 {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.pid())).expect("the engine runs");
        let pages: u64 = statm.split(' ').nth(1).and_then(|field| field.parse().ok()).expect("statm has numbers");
        pages * 4096
    }

    /// The configuration file it was started with.
    pub fn config_file(&self) -> PathBuf {
        directory_of(self.port).join("config.yaml")
    }

    /// Writes the configuration file anew; `{port}` stands for the port.
    pub fn configure(&self, text: &str) {
        std::fs::write(self.config_file(), text.replace("{port}", &self.port.to_string())).expect("it is writable");
    }

    /// How the engine ended by itself.
    pub fn ended(&mut self) -> ExitStatus {
        self.process.wait(PATIENCE)
    }

    /// Descriptors the engine holds open.
    pub fn open_descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("the engine runs").count()
    }
}

impl EngineCommand {
    /// Use this port instead of a fresh one.
    pub fn port(mut self, lease: PortLease) -> Self {
        self.lease = Some(lease);
        self
    }

    /// Start on a configuration file of this text; `{port}` stands for the port.
    pub fn config(mut self, text: &str) -> Self {
        self.config = Some(text.to_owned());
        self
    }

    /// Start with one more worker than usual: an entry of `workers`, as YAML or JSON on one line.
    pub fn worker(mut self, entry: &str) -> Self {
        self.config.get_or_insert_with(|| WORKERS_ONLY.to_owned()).push_str(&format!("  - {entry}\n"));
        self
    }

    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn sandbox(mut self, sandbox: Sandbox) -> Self {
        self.sandbox = sandbox;
        self
    }

    /// Starts the engine and waits until workers may connect.
    pub fn start(self) -> Engine {
        self.try_start().unwrap_or_else(|ended| panic!("the engine did not start: {}\n{}", ended.status, ended.output))
    }

    /// The same, for surroundings in which the engine may refuse to start.
    pub fn try_start(mut self) -> Result<Engine, Ended> {
        let started = Instant::now();
        let lease = self.lease.take().unwrap_or_else(lease);
        let port = lease.port;
        self.lease = Some(lease);
        scratch_directory(port);
        let mut process = self.spawn(port);
        if process.is_ready() {
            return Ok(Engine { port, command: self, process });
        }
        let status = process.wait(PATIENCE);
        Err(Ended { status, output: process.output(), elapsed: started.elapsed() })
    }

    /// Starts the engine on a given port, taken or not, and waits for the process to end by itself.
    pub fn run_to_end(self, port: u16) -> Ended {
        let started = Instant::now();
        scratch_directory(port);
        let mut process = self.spawn(port);
        let status = process.wait(PATIENCE);
        process.drain();
        Ended { status, output: process.output(), elapsed: started.elapsed() }
    }

    fn spawn(&self, port: u16) -> Process {
        let directory = directory_of(port);
        let mut command = Command::new(binary());
        if self.arguments.iter().any(|argument| argument == "--use-default-config") {
            command.arg("--port").arg(port.to_string());
        } else {
            let text = self.config.as_deref().unwrap_or(WORKERS_ONLY);
            let file = directory.join("config.yaml");
            std::fs::write(&file, text.replace("{port}", &port.to_string())).expect("scratch is writable");
            command.arg("--config").arg(file);
        }
        command.arg("--shards").arg(self.shards.to_string()).args(&self.arguments);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.current_dir(&directory).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let sandbox = self.sandbox.clone();
        // SAFETY: the closure runs in the child between fork and exec and makes only plain system calls.
        unsafe { command.pre_exec(move || sandbox.enter()) };
        Process::new(command.spawn().expect("the engine binary starts"))
    }
}

/// The engine under test: the one just built, or the one named by `III_TEST_BINARY` (a release build, say).
fn binary() -> String {
    std::env::var("III_TEST_BINARY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_iii").to_owned())
}

fn directory_of(port: u16) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("engine-{port}"))
}

/// Empties the directory to run in, so that data files of one test never meet another's. A restart keeps them.
fn scratch_directory(port: u16) {
    let directory = directory_of(port);
    let _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir_all(&directory).expect("the target directory is writable");
}

/// A child whose output is collected, and which never outlives the test.
#[derive(Debug)]
pub struct Process {
    pub child: Child,
    lines: Receiver<String>,
    seen: RefCell<Vec<String>>,
}

impl Process {
    pub fn new(mut child: Child) -> Self {
        let (sender, lines) = channel();
        if let Some(stdout) = child.stdout.take() {
            collect(stdout, sender.clone());
        }
        if let Some(stderr) = child.stderr.take() {
            collect(stderr, sender);
        }
        Self { child, lines, seen: RefCell::default() }
    }

    pub fn output(&self) -> String {
        let mut seen = self.seen.borrow_mut();
        seen.extend(self.lines.try_iter());
        seen.join("\n")
    }

    /// The next line not yet looked at, or `None` when the time is up or the process closed its output.
    pub fn next_line(&self, deadline: Instant) -> Option<String> {
        let left = deadline.saturating_duration_since(Instant::now());
        let line = self.lines.recv_timeout(left).ok()?;
        self.seen.borrow_mut().push(line.clone());
        Some(line)
    }

    /// Reads until both outputs are closed.
    fn drain(&self) {
        while self.next_line(Instant::now() + PATIENCE).is_some() {}
    }

    /// Waits for the line that says workers may connect; `false` when the output ends without it.
    fn is_ready(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while let Some(line) = self.next_line(deadline) {
            if line.contains(READY) {
                return true;
            }
        }
        false
    }

    pub fn wait(&mut self, patience: Duration) -> ExitStatus {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                return status;
            }
            assert!(Instant::now() < deadline, "still running after {patience:?}; it printed:\n{}", self.output());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let status = self.child.wait();
        // A failing test shows what the process had to say.
        if std::thread::panicking() {
            let signal = status.ok().and_then(|status| status.signal());
            eprintln!("--- output of process {} (ended by signal {signal:?}):\n{}", self.child.id(), self.output());
        }
    }
}

fn collect(stream: impl Read + Send + 'static, sender: Sender<String>) {
    std::thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        while matches!(reader.read_until(b'\n', &mut line), Ok(1..)) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            if sender.send(text).is_err() {
                return;
            }
            line.clear();
        }
    });
}
