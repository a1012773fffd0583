//! Workers written with the released SDKs, run as child processes.
//!
//! `scripts/test` installs the SDKs into `<target>/test-env`. The worker scripts in `tests/sdk` take calls as JSON lines on
//! their standard input and report what happens as JSON lines on their standard output.

use std::collections::VecDeque;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};

use super::engine::Process;
use super::sandbox::Sandbox;
use super::{Engine, PATIENCE};

/// A released SDK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sdk {
    Node(&'static str),
    Python(&'static str),
}

/// The four that a user may have installed: the first generation and the newest stable of each language.
pub const SDKS: [Sdk; 4] = [Sdk::Node("0.11.6"), Sdk::Node("0.22.1"), Sdk::Python("0.11.6"), Sdk::Python("0.25.0")];

impl Sdk {
    /// A short name that also works as a function prefix.
    pub fn label(self) -> String {
        match self {
            Self::Node(version) => format!("node-{version}"),
            Self::Python(version) => format!("python-{version}"),
        }
    }

    /// Where `scripts/test` put it.
    pub fn directory(self) -> PathBuf {
        let directory = environment().join(self.label());
        assert!(directory.exists(), "{} is missing: run scripts/test once", directory.display());
        directory
    }

    /// The interpreter with this SDK on its path, ready for a script and arguments.
    pub fn command(self, script: &Path) -> Command {
        let mut command = match self {
            Self::Node(_) => {
                let mut command = Command::new("node");
                command.env("III_SDK", self.directory().join("node_modules/iii-sdk/dist/index.mjs"));
                command
            }
            Self::Python(_) => {
                let mut command = Command::new(self.directory().join("bin/python"));
                command.env("PYTHONUNBUFFERED", "1").env("PYTHONDONTWRITEBYTECODE", "1");
                command
            }
        };
        command.arg(script);
        command
    }

    /// Starts the worker script. It provides `<prefix>::echo` and so on, and is connected when this returns.
    pub fn worker(self, engine: &Engine, prefix: &str) -> SdkWorker {
        self.worker_of(engine, prefix, "worker")
    }

    /// The same with another of the scripts in `tests/sdk`, which reads and reports in the same way.
    pub fn worker_of(self, engine: &Engine, prefix: &str, script: &str) -> SdkWorker {
        let script = match self {
            Self::Node(_) => format!("tests/sdk/node/{script}.mjs"),
            Self::Python(_) => format!("tests/sdk/python/{script}.py"),
        };
        let mut command = self.command(&Path::new(env!("CARGO_MANIFEST_DIR")).join(script));
        command.arg(prefix);
        let process = spawn(command, engine);
        let worker = SdkWorker { sdk: self, prefix: prefix.to_owned(), process, events: VecDeque::new(), next_call: 0 };
        engine.wait_for_function(&format!("{prefix}::echo"));
        worker
    }
}

/// Starts a worker process that finds the engine by `III_URL`.
pub fn spawn(mut command: Command, engine: &Engine) -> Process {
    command.env("III_URL", engine.url()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let sandbox = Sandbox::default();
    // SAFETY: the closure runs in the child between fork and exec and makes only plain system calls.
    unsafe { command.pre_exec(move || sandbox.enter()) };
    let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}; run scripts/test once"));
    Process::new(child)
}

/// The directory with everything `scripts/test` installs.
pub fn environment() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the directory lies inside target");
    target.join("test-env")
}

/// A running SDK worker. Dropping it kills the process.
#[derive(Debug)]
pub struct SdkWorker {
    pub sdk: Sdk,
    pub prefix: String,
    process: Process,
    /// Reported, but not asked for yet.
    events: VecDeque<Value>,
    next_call: u64,
}

impl SdkWorker {
    /// Starts a call and returns its number; `outcome` waits for it.
    pub fn start_call(&mut self, function_id: &str, payload: Value) -> u64 {
        self.command(json!({"function_id": function_id, "payload": payload}))
    }

    pub fn call(&mut self, function_id: &str, payload: Value) -> Result<Value, Value> {
        let call = self.start_call(function_id, payload);
        self.outcome(call)
    }

    pub fn call_void(&mut self, function_id: &str, payload: Value) {
        let call = self.command(json!({"function_id": function_id, "payload": payload, "void": true}));
        assert_eq!(self.outcome(call), Ok(Value::Null), "a void call returns nothing");
    }

    /// Binds one of this worker's functions to a trigger.
    pub fn register_trigger(&mut self, kind: &str, function: &str, config: Value) {
        let function_id = format!("{}::{function}", self.prefix);
        self.subscribe(kind, &function_id, config);
    }

    /// Registers a trigger and returns a number for `unbind`. The SDKs do not wait for the engine.
    pub fn bind(&mut self, trigger_type: &str, function_id: &str, config: Value) -> u64 {
        let bind = json!({"type": trigger_type, "function_id": function_id, "config": config});
        let call = self.command(json!({"bind": bind}));
        assert_eq!(self.outcome(call), Ok(Value::Null));
        call
    }

    pub fn unbind(&mut self, bound: u64) {
        let call = self.command(json!({"unbind": bound}));
        assert_eq!(self.outcome(call), Ok(Value::Null));
    }

    /// Hands a call to a queue.
    pub fn enqueue(&mut self, queue: &str, function_id: &str, payload: Value) -> Result<Value, Value> {
        let call = self.command(json!({"function_id": function_id, "payload": payload, "queue": queue}));
        self.outcome(call)
    }

    /// Registers a trigger; nothing is reported.
    pub fn subscribe(&mut self, trigger_type: &str, function_id: &str, config: Value) {
        self.command(json!({"trigger": {"type": trigger_type, "function_id": function_id, "config": config}}));
    }

    /// The result of a call, or `{code, message}` as the SDK reported it.
    pub fn outcome(&mut self, call: u64) -> Result<Value, Value> {
        let mut event = self.event("outcome", |event| event["call"] == call);
        match event["error"].take() {
            Value::Null => Ok(event["result"].take()),
            error => Err(error),
        }
    }

    /// Waits until a handler of this worker was entered, and returns the payload it got.
    pub fn handled(&mut self, function: &str) -> Value {
        self.event("handled", |event| event["function"] == function)["payload"].take()
    }

    pub fn kill(&mut self) {
        self.process.child.kill().expect("it is our child");
        self.process.child.wait().expect("it is our child");
    }

    fn command(&mut self, mut command: Value) -> u64 {
        self.next_call += 1;
        command["call"] = json!(self.next_call);
        let stdin = self.process.child.stdin.as_mut().expect("stdin is piped");
        writeln!(stdin, "{command}").expect("the worker script reads");
        self.next_call
    }

    /// The first event that fits, now or later. SDKs print lines of their own in between.
    fn event(&mut self, kind: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let fits = |event: &Value| event["event"] == kind && fits(event);
        if let Some(index) = self.events.iter().position(fits) {
            return self.events.remove(index).expect("position is within bounds");
        }
        let deadline = Instant::now() + PATIENCE * 2;
        loop {
            let Some(line) = self.process.next_line(deadline) else {
                panic!("{} reported no {kind}; it printed:\n{}", self.sdk.label(), self.process.output());
            };
            match serde_json::from_str::<Value>(&line) {
                Ok(event) if fits(&event) => return event,
                Ok(event) => self.events.push_back(event),
                Err(_) => {}
            }
        }
    }
}
