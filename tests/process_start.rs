//! Starting: on a taken port, and in poor surroundings. Each refusal is one line that says what to do.

mod support;

use support::ports::lease;
use support::sandbox::Sandbox;
use support::{Engine, RawWorker, Value, json};

fn poor(sandbox: Sandbox) -> support::engine::EngineCommand {
    Engine::command(1).sandbox(Sandbox { unprivileged: true, ..sandbox })
}

/// The one line of a refusal that names the problem, or a failure that shows everything printed.
fn diagnosis<'a>(output: &'a str, word: &str) -> &'a str {
    let found = output.lines().find(|line| line.to_lowercase().contains(word));
    found.unwrap_or_else(|| panic!("no line about {word:?} in:\n{output}"))
}

// T26: the second engine on a port refuses to start and names the port; the first is not disturbed.
#[test]
fn a_second_engine_on_the_same_port_refuses_to_start() {
    for shards in support::SHARD_COUNTS {
        let first = Engine::start(shards);
        let mut worker = RawWorker::serving(&first, "worker", &["f"]);
        let second = Engine::command(shards).run_to_end(first.port);
        assert_eq!(second.status.code(), Some(1), "{}", second.output);
        diagnosis(&second.output, &first.port.to_string());
        assert!(second.elapsed.as_secs() < 5, "took {:?}", second.elapsed);
        worker.confirm(&["f"]);
        RawWorker::connect(&first).round_trip();
    }
}

// T26: also when something else holds the port.
#[test]
fn a_port_held_by_another_program_is_named() {
    let port = lease();
    let _holder = std::net::TcpListener::bind(("127.0.0.1", port.port)).expect("the port is free");
    let ended = Engine::command(1).run_to_end(port.port);
    assert_eq!(ended.status.code(), Some(1), "{}", ended.output);
    diagnosis(&ended.output, &port.port.to_string());
}

// T27: where io_uring is forbidden, as Docker does by default, the engine says so.
#[test]
fn denied_io_uring_is_diagnosed() {
    let port = lease();
    let ended = poor(Sandbox { io_uring_denied: true, ..Sandbox::default() }).run_to_end(port.port);
    assert!(!ended.status.success());
    assert!(ended.status.code().is_some(), "a diagnosis, not a crash: {}", ended.output);
    let line = diagnosis(&ended.output, "io_uring");
    assert!(line.contains("seccomp"), "the line names the fix: {line}");
}

// T27: with 64 KiB of lockable memory the engine works, or says what to raise.
#[test]
fn little_locked_memory_is_enough_or_diagnosed() {
    let sandbox = Sandbox { locked_memory_bytes: Some(64 << 10), ..Sandbox::default() };
    works_or_is_diagnosed(sandbox, &["memlock", "locked memory"]);
}

// T27: with 64 descriptors the engine works, or says what to raise.
#[test]
fn few_descriptors_are_enough_or_diagnosed() {
    works_or_is_diagnosed(
        Sandbox { descriptors: Some(64), ..Sandbox::default() },
        &["descriptor", "nofile", "open files"],
    );
}

/// Starts the engine there, and puts it to work if it does start.
fn works_or_is_diagnosed(sandbox: Sandbox, words: &[&str]) {
    match poor(sandbox).try_start() {
        Ok(engine) => {
            let mut worker = RawWorker::serving(&engine, "worker", &["f"]);
            let call = worker.invoke("f", json!(null));
            let delivery = worker.expect("invokefunction");
            worker.answer(&delivery, json!(null));
            assert_eq!(worker.result(&call), Ok(Value::Null));
        }
        Err(ended) => {
            assert!(ended.status.code().is_some_and(|code| code != 0), "a diagnosis, not a crash: {}", ended.output);
            let output = ended.output.to_lowercase();
            assert!(words.iter().any(|word| output.contains(word)), "none of {words:?} in:\n{}", ended.output);
        }
    }
}

// T18: with too few descriptors for the clients that come, the others are served on.
#[test]
fn running_out_of_descriptors_hurts_only_newcomers() {
    let sandbox = Sandbox { descriptors: Some(256), ..Sandbox::default() };
    let engine = match poor(sandbox).try_start() {
        Ok(engine) => engine,
        Err(ended) => return assert!(ended.output.to_lowercase().contains("descriptor"), "{}", ended.output),
    };
    let mut worker = RawWorker::serving(&engine, "worker", &["f"]);
    let crowd: Vec<_> = (0..400).map(|_| support::RawSocket::tcp(engine.port)).collect();
    worker.confirm(&["f"]);
    drop(crowd);
    support::eventually("newcomers are served again", || {
        let mut socket = support::RawSocket::tcp(engine.port);
        socket.try_write(support::socket::upgrade_request("/").as_bytes());
        (socket.read_http().status == 101).then_some(())
    });
    worker.confirm(&["f"]);
}

// More shards than cores run all the same.
#[test]
fn any_number_of_shards_works_on_any_number_of_cores() {
    for shards in [1, 2, 3, 16, 64] {
        let engine = Engine::start(shards);
        let mut workers: Vec<_> =
            (0..20).map(|number| RawWorker::serving(&engine, "worker", &[&format!("f::{number}")])).collect();
        let mut caller = RawWorker::named(&engine, "caller");
        for (number, worker) in workers.iter_mut().enumerate() {
            let call = caller.invoke(&format!("f::{number}"), json!(number));
            let delivery = worker.expect("invokefunction");
            worker.answer(&delivery, delivery["data"].clone());
            assert_eq!(caller.result(&call), Ok(json!(number)));
        }
    }
}
