//! Processes the engine starts: `iii-exec`, managed workers, `iii worker`. They start, restart, stop as a whole, and never
//! outlive the engine.

#![allow(clippy::disallowed_methods, reason = "no shard runs in a test's threads")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::ports::{PortLease, lease};
use support::{Engine, Value, eventually, json};

/// A directory for one test: a home, and what its processes write.
struct Scratch {
    directory: PathBuf,
    lease: Option<PortLease>,
}

impl Scratch {
    fn new(name: &str) -> Scratch {
        let lease = lease();
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("processes-{name}"));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(directory.join("home")).expect("the target directory is writable");
        Scratch { directory, lease: Some(lease) }
    }

    fn path(&self, name: &str) -> String {
        self.directory.join(name).to_str().expect("UTF-8").to_owned()
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.directory.join(name);
        fs::create_dir_all(path.parent().expect("below the directory")).expect("writable");
        fs::write(path, text).expect("writable");
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.directory.join(name)).unwrap_or_default()
    }

    fn lines(&self, name: &str, count: usize) -> Vec<String> {
        eventually(&format!("{count} lines in {name}"), || {
            let lines: Vec<String> = self.read(name).lines().map(str::to_owned).collect();
            (lines.len() >= count).then_some(lines)
        })
    }

    /// Starts an engine with this list of workers. `@` stands for the directory.
    fn engine(&mut self, workers: &str) -> Engine {
        let text = format!("workers:\n  - name: iii-worker-manager\n    config: {{port: {{port}}}}\n{workers}");
        let command = Engine::command(1).config(&text.replace('@', &self.path("")).replace("//", "/"));
        let command = command.environment("HOME", &self.path("home")).environment("PATH", &path_variable());
        command.port(self.lease.take().expect("one engine per test")).start()
    }

    fn config(&self, engine: &Engine) -> PathBuf {
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("engine-{}", engine.port)).join("config.yaml")
    }

    /// Runs `iii worker …` on the configuration of an engine.
    fn worker(&self, engine: &Engine, arguments: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_iii"));
        command.arg("-c").arg(self.config(engine)).arg("worker").args(arguments);
        run(command.env("HOME", self.path("home")))
    }
}

/// The usual one, without what a test may put in front.
fn path_variable() -> String {
    std::env::var("PATH").unwrap_or_default()
}

fn run(command: &mut Command) -> (i32, String, String) {
    let output = command.stdin(Stdio::null()).output().expect("the binary runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code().expect("not killed"), text(output.stdout), text(output.stderr))
}

fn is_alive(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

fn until_dead(pids: &[String]) {
    eventually(&format!("end of {pids:?}"), || pids.iter().all(|pid| !is_alive(pid)).then_some(()));
}

/// A worker project that notes each of its starts and then does as told.
fn project(scratch: &Scratch, name: &str, start: &str) -> String {
    let path = scratch.path(name);
    scratch.write(&format!("{name}/iii.worker.yaml"), &format!("name: {name}\nscripts:\n  start: {start}\n"));
    path
}

// EXEC-21, EXEC-22, EXEC-23, EXEC-24, EXEC-DB-8; observed X1, X8
#[test]
fn exec_runs_its_commands_in_order() {
    let mut scratch = Scratch::new("pipeline");
    let engine = scratch.engine(
        "  - name: iii-exec\n    config:\n      exec:\n        - echo one >> @log\n        - 'echo two $III_URL >> @log'\n        \
         - 'echo $$ $(cut -d\" \" -f5,6 /proc/$$/stat) >> @log; exec sleep 600'\n  \
         - name: iii-exec\n    config: {exec: ['echo a >> @other', 'false', 'echo c >> @other']}\n",
    );
    let lines = scratch.lines("log", 3);
    assert_eq!(lines[0], "one");
    assert_eq!(lines[1], format!("two {}", engine.url()));
    let ids: Vec<&str> = lines[2].split(' ').collect();
    assert_eq!(ids, [ids[0]; 3], "pid, group and session are one");
    engine.wait_for_log("the rest is skipped");
    assert_eq!(scratch.read("other"), "a\n");
}

// EXEC-33, EXEC-DB-1, EXEC-DB-2, EXEC-DB-3; observed X2, X3, X4, X5, X7, X10
#[test]
fn exec_starts_again_when_files_change() {
    let mut scratch = Scratch::new("watch");
    scratch.write("src/a.ts", "1");
    let _engine = scratch.engine(
        "  - name: iii-exec\n    config: {exec: ['echo $$ >> @log; exec sleep 600'], watch: ['@src/**/*.ts']}\n",
    );
    let mut count = 1;
    scratch.lines("log", count);
    let mut again = |what: &str, act: &dyn Fn()| {
        act();
        count += 1;
        let lines = scratch.lines("log", count);
        until_dead(&lines[..count - 1]);
        assert!(is_alive(&lines[count - 1]), "{what}");
    };
    again("in place", &|| scratch.write("src/a.ts", "2"));
    again("new, in a new directory", &|| scratch.write("src/deep/b.ts", "2"));
    again("renamed", &|| fs::rename(scratch.path("src/a.ts"), scratch.path("src/c.txt")).expect("writable"));
    again("renamed back", &|| fs::rename(scratch.path("src/c.txt"), scratch.path("src/a.ts")).expect("writable"));
    again("removed", &|| fs::remove_file(scratch.path("src/a.ts")).expect("writable"));
    again("a burst", &|| (0..5).for_each(|number| scratch.write(&format!("src/{number}.ts"), "")));
    scratch.write("src/Makefile", "");
    scratch.write("src/x.rs", "");
    std::thread::sleep(Duration::from_millis(800));
    assert_eq!(scratch.lines("log", 1).len(), 7, "a burst is one change, other files are none");
}

// EXEC-DB-7, MW-27 in small: a command that fails is started again if that is wanted.
#[test]
fn exec_restarts_a_command_that_fails() {
    let mut scratch = Scratch::new("restart");
    let _engine = scratch.engine(
        "  - name: iii-exec\n    config: {exec: ['echo x >> @always; exit 3'], restart: on-failure}\n  \
         - name: iii-exec\n    config: {exec: ['echo x >> @never; exit 3']}\n",
    );
    scratch.lines("always", 2);
    assert_eq!(scratch.lines("never", 1).len(), 1);
}

// EXEC-40, EXEC-41, EXEC-DB-5, decision 18, MW-28: nothing is left, the stop is bounded, the exit status is 0.
#[test]
fn a_stop_ends_every_process() {
    let mut scratch = Scratch::new("stop");
    let stubborn = project(&scratch, "stubborn", "\"trap '' TERM; echo $$ >> ../pids; while :; do sleep 600; done\"");
    let mut engine = scratch.engine(&format!(
        "  - name: iii-exec\n    config: {{exec: ['sleep 600 & echo $! >> @pids; echo $$ >> @pids; (trap \"\" TERM; sleep 601) & wait']}}\n  \
         - name: stubborn\n    worker_path: {stubborn}\n"
    ));
    let pids = scratch.lines("pids", 3);
    let started = Instant::now();
    assert_eq!(engine.terminate().code(), Some(0));
    assert!(started.elapsed() < Duration::from_secs(6), "took {:?}", started.elapsed());
    assert!(pids.iter().all(|pid| !is_alive(pid)), "{pids:?}");
    assert!(engine.log().contains("was killed"));
}

// EXEC-DB-6, MW-23: kill -9 of the engine leaves no process, children of children included.
#[test]
fn a_killed_engine_leaves_no_process() {
    let mut scratch = Scratch::new("orphans");
    let deep = project(&scratch, "deep", "\"sh -c 'echo $$ >> ../pids; sleep 602 & echo $! >> ../pids; wait' & wait\"");
    let mut engine = scratch.engine(&format!(
        "  - name: iii-exec\n    config: {{exec: ['sleep 600 & echo $! >> @pids; echo $$ >> @pids; wait']}}\n  \
         - name: deep\n    worker_path: {deep}\n"
    ));
    let pids = scratch.lines("pids", 4);
    assert!(pids.iter().all(|pid| is_alive(pid)));
    engine.kill();
    until_dead(&pids);
}

// MW-12, MW-20, MW-21, MW-22, MW-25, MW-29
#[test]
fn a_local_worker_is_installed_and_started() {
    let mut scratch = Scratch::new("local");
    let path = scratch.path("plain");
    scratch.write(
        "plain/iii.worker.yaml",
        "name: plain\nenv: {MINE: yes it is, III_URL: wrong}\nscripts:\n  setup: touch ../setup\n  \
         install: echo installing; echo x >> ../installed\n  \
         start: env > ../environment; pwd > ../cwd; ls /proc/self/fd > ../fds; echo out; echo err >&2; sleep 600\n",
    );
    let engine = scratch
        .engine(&format!("  - name: plain\n    worker_path: {path}\n    config: {{a: {{b: 1}}, list: [1, 2]}}\n"));
    let environment = eventually("the environment", || {
        let text = scratch.read("environment");
        (!scratch.read("fds").is_empty()).then_some(text)
    });
    for line in [
        format!("III_URL={}", engine.url()),
        format!("III_ENGINE_URL={}", engine.url()),
        "III_WORKER_NAME=plain".to_owned(),
        format!("III_ENGINE_PID={}", engine.pid()),
        format!("III_CONFIG_PATH={}", scratch.config(&engine).display()),
        "MINE=yes it is".to_owned(),
        "A_B=1".to_owned(),
        "LIST=[1,2]".to_owned(),
    ] {
        assert!(environment.lines().any(|found| found == line), "{line} is missing:\n{environment}");
    }
    assert_eq!(scratch.read("cwd").trim(), path);
    // The three standard ones, the lifeline, and the directory being listed.
    assert_eq!(scratch.read("fds").lines().count(), 5, "{}", scratch.read("fds"));
    assert!(!Path::new(&scratch.path("setup")).exists(), "MW-24: setup is not run on the host");
    engine.wait_for_log("scripts.setup skipped (host process)");
    let log = |name: &str| scratch.read(&format!("home/.iii/logs/plain/{name}"));
    eventually("both logs", || {
        (log("stdout.log") == "out\n" && log("stderr.log") == "installing\nerr\n").then_some(())
    });
    engine.wait_for_log("[plain] out");
    let status: Value = serde_json::from_str(&scratch.worker(&engine, &["status", "plain", "--json"]).1).expect("JSON");
    let pid = status["pid"].as_i64().expect("a pid");
    let files: Vec<_> = fs::read_dir(scratch.path("home/.iii/pids")).expect("there").flatten().collect();
    assert!(fs::read_to_string(files[0].path()).expect("text").starts_with(&format!("{pid} ")));
    // A second start does not install again; a changed dependency file does.
    assert_eq!(scratch.worker(&engine, &["restart", "plain", "--no-wait"]).0, 0);
    assert_eq!(scratch.read("installed"), "x\n");
    scratch.write("plain/package.json", "{}");
    eventually("another install", || (scratch.read("installed") == "x\nx\n").then_some(()));
}

// MW-27, MW-32, MW-33
#[test]
fn a_worker_that_ends_starts_again_and_a_broken_one_stops_nobody() {
    let mut scratch = Scratch::new("again");
    let failing = project(&scratch, "failing", "echo x >> ../failing.log; exit 3");
    let finishing = project(&scratch, "finishing", "echo x >> ../finishing.log");
    let engine = scratch.engine(&format!(
        "  - name: failing\n    worker_path: {failing}\n  - name: finishing\n    worker_path: {finishing}\n  \
         - name: nowhere\n    worker_path: @nowhere\n"
    ));
    scratch.lines("failing.log", 2);
    engine.wait_for_log("worker 'finishing': finished");
    engine.wait_for_log("worker 'nowhere': ");
    assert_eq!(scratch.lines("finishing.log", 1).len(), 1);
    scratch.write("finishing/source.py", "changed");
    scratch.lines("finishing.log", 2);
    // The missing project appears.
    project(&scratch, "nowhere", "echo x >> ../nowhere.log; sleep 600");
    scratch.lines("nowhere.log", 1);
}

// MW-10, MW-26, MW-35, MW-42, MW-43, MW-46 to MW-51, CFG-82: the whole life of a worker from the command line.
#[test]
fn iii_worker_manages_a_worker() {
    let mut scratch = Scratch::new("verbs");
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/raw-worker/worker.py");
    scratch.write("raw/worker.py", &fs::read_to_string(example).expect("the example is there"));
    scratch.write("raw/iii.worker.yaml", "name: raw-worker\nscripts:\n  start: python3 worker.py\n");
    let engine = scratch.engine("");
    let before = fs::read_to_string(scratch.config(&engine)).expect("there");
    let path = scratch.path("raw");
    let (code, _, stderr) = scratch.worker(&engine, &["add", &path]);
    assert_eq!(code, 0, "{stderr}");
    assert!(stderr.contains("✓ ready in "), "{stderr}");
    let after = fs::read_to_string(scratch.config(&engine)).expect("there");
    assert_eq!(after, format!("{before}  - name: raw-worker\n    worker_path: {path}\n"));
    engine.wait_for_function("raw::greet");

    let (code, _, stderr) = scratch.worker(&engine, &["add", &path]);
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("--force --reset-config"), "{stderr}");
    let (code, stdout, _) = scratch.worker(&engine, &["list"]);
    assert_eq!(code, 0);
    assert!(stdout.starts_with("NAME") && stdout.contains("raw-worker"), "{stdout}");
    let (_, stdout, _) = scratch.worker(&engine, &["list", "--json"]);
    let rows: Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!(rows[1]["status"], "running", "{rows}");
    let pid = rows[1]["pid"].to_string();

    let (code, _, stderr) = scratch.worker(&engine, &["start", "raw-worker"]);
    assert_eq!((code, stderr.contains("is already running")), (0, true), "{stderr}");
    let (code, stdout, _) = scratch.worker(&engine, &["logs", "raw-worker", "-n", "5"]);
    assert_eq!((code, stdout.contains("Raw worker started")), (0, true), "{stdout}");
    let (code, _, stderr) = scratch.worker(&engine, &["stop", "raw-worker"]);
    assert_eq!((code, stderr.as_str()), (0, "Stopping raw-worker...\n✓ raw-worker stopped\n"));
    assert!(!is_alive(&pid));
    engine.wait_until_gone("raw::greet");
    let (code, _, stderr) = scratch.worker(&engine, &["stop", "raw-worker"]);
    assert_eq!((code, stderr.contains("already stopped")), (0, true), "{stderr}");
    assert_eq!(scratch.worker(&engine, &["status", "raw-worker"]).0, 1);
    let (code, _, stderr) = scratch.worker(&engine, &["start", "raw-worker"]);
    assert_eq!((code, stderr.contains("✓ ready in")), (0, true), "{stderr}");

    for (arguments, expected) in [
        (&["stop", "raw-woker"][..], "Did you mean 'raw-worker'?"),
        (&["stop", "iii-worker-manager"], "config workers run inside the engine"),
        (&["remove", "raw-worker"], "pass -y/--yes"),
        (&["remove", "-y", "nobody"], "is not in config.yaml"),
        (&["add", "./nope-not-here"], "Cannot resolve path './nope-not-here'"),
        (&["add", "no-such-builtin"], "does not install from a registry"),
    ] {
        let (code, stdout, stderr) = scratch.worker(&engine, arguments);
        assert_eq!((code, stdout.as_str()), (1, ""), "{arguments:?}");
        assert!(stderr.starts_with("error: ") && stderr.contains(expected), "{arguments:?}: {stderr}");
    }
    let (code, _, stderr) = scratch.worker(&engine, &["remove", "-y", "raw-worker"]);
    assert_eq!((code, stderr.as_str()), (0, "✓ raw-worker removed from config.yaml\n"));
    assert_eq!(fs::read_to_string(scratch.config(&engine)).expect("there"), before);
    engine.wait_until_gone("raw::greet");
}

// MW-60, MW-61, MW-62, MW-63: the same by call.
#[test]
fn workers_manage_workers() {
    let mut scratch = Scratch::new("functions");
    let sleeper = project(&scratch, "sleeper", "sleep 600");
    let engine = scratch.engine("");
    let mut user = support::RawWorker::named(&engine, "user");
    let path = json!({"kind": "local", "path": sleeper});
    let added = user.call("worker::add", json!({"source": path, "wait": false})).expect("added");
    assert_eq!((added["name"].as_str(), added["status"].as_str()), (Some("sleeper"), Some("installed")));
    let code = |outcome: Result<Value, Value>| {
        let error = outcome.expect_err("refused");
        let inner: Value = serde_json::from_str(error["message"].as_str().expect("text")).expect("JSON");
        assert_eq!(inner["type"], "WorkerOpError");
        assert_eq!(inner["code"], error["code"]);
        error["code"].as_str().expect("text").to_owned()
    };
    assert_eq!(code(user.call("worker::add", json!({"source": path}))), "W111");
    assert_eq!(code(user.call("worker::add", json!({"source": {"kind": "local", "path": "/nope"}}))), "W110");
    assert_eq!(code(user.call("worker::add", json!({"source": 5}))), "W101");
    assert_eq!(code(user.call("worker::stop", json!({"name": "sleeper"}))), "W104");
    assert_eq!(code(user.call("worker::stop", json!({"name": "nobody", "yes": true}))), "W110");
    assert_eq!(code(user.call("worker::update", json!({}))), "W140");
    let status = user.call("worker::status", json!({"name": "nobody"})).expect("a status");
    assert_eq!(status["worker_type"], "not-installed");
    let valid = user.call("worker::validate", json!({"manifest": "name: x\nfoo: 1"})).expect("an answer");
    assert_eq!((&valid["valid"], &valid["unknown_keys"]), (&json!(false), &json!(["foo"])));
    let stopped = user.call("worker::stop", json!({"name": "sleeper", "yes": true}));
    assert_eq!(stopped, Ok(json!({"name": "sleeper", "stopped": true})));
    let removed = user.call("worker::remove", json!({"names": ["sleeper"], "yes": true}));
    assert_eq!(removed, Ok(json!({"removed": ["sleeper"]})));
}

// MW-1, decision 15: images run through the program that is there; without one the entry is named.
#[test]
fn images_need_docker_or_podman() {
    let mut scratch = Scratch::new("image");
    let image = "  - name: boxed\n    image: example/boxed:1\n    config: {key: value}\n";
    let text = format!("workers:\n  - name: iii-worker-manager\n    config: {{port: {{port}}}}\n{image}");
    let command = Engine::command(1).config(&text).environment("PATH", "/nowhere");
    let ended = command.environment("HOME", &scratch.path("home")).run_to_end(lease().port);
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.output.contains("Error: worker 'boxed': its image needs docker or podman"), "{}", ended.output);
    let docker = "#!/bin/sh\necho \"$@\" >> ${0%/*}/../calls\n[ \"$1\" = run ] && { echo $III_WORKER_NAME $KEY; exec sleep 600; }\n";
    scratch.write("bin/docker", docker);
    let mut chmod = Command::new("chmod");
    chmod.arg("+x").arg(scratch.path("bin/docker"));
    assert_eq!(run(&mut chmod).0, 0);
    let command = Engine::command(1).config(&text).environment("HOME", &scratch.path("home"));
    let command = command.environment("PATH", &format!("{}:{}", scratch.path("bin"), path_variable()));
    let mut engine = command.port(scratch.lease.take().expect("fresh")).start();
    let calls = scratch.lines("calls", 1);
    assert!(calls[0].starts_with("run --rm ") && calls[0].ends_with(" example/boxed:1"), "{calls:?}");
    engine.wait_for_log("[boxed] boxed value");
    assert_eq!(engine.terminate().code(), Some(0));
    assert!(scratch.lines("calls", 2)[1].starts_with("rm -f iii-"));
}
