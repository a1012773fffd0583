//! Ten thousand browsers on one group: each gets every update, and what one costs.
//!
//! A debug build proves that it works; for figures, run it on a release build:
//! `III_TEST_BINARY=target/release/iii cargo test --test streams_scale -- --nocapture`.

#![allow(clippy::disallowed_methods, reason = "tests run on threads of their own and may block them")]

mod support;

use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use support::sandbox::raise_descriptor_limit;
use support::{Browser, Engine, PATIENCE, RawWorker, Value, json};

const CONFIG: &str = "workers:
  - {name: iii-worker-manager, config: {port: {port}}}
  - {name: iii-stream, config: {port: 0}}
";

/// CPU time of the engine so far, user and system, in seconds.
fn cpu_seconds(engine: &Engine) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", engine.pid())).expect("the engine runs");
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<f64>().expect("a number");
    // SAFETY: sysconf reads no memory of ours.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64;
    (ticks(11) + ticks(12)) / per_second
}

/// Reads what comes on all sockets until each has got `wanted` more bytes.
fn read_all(browsers: &[Browser], wanted: usize) {
    // SAFETY: a new descriptor, used by this function alone.
    let epoll = unsafe { libc::epoll_create1(0) };
    let mut left = vec![wanted; browsers.len()];
    for (index, browser) in browsers.iter().enumerate() {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: index as u64 };
        // SAFETY: both descriptors are open; the event is copied.
        unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, browser.socket.stream.as_raw_fd(), &raw mut event) };
    }
    let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; 1024];
    let mut buffer = vec![0u8; 256 << 10];
    let mut open = browsers.len();
    let deadline = Instant::now() + PATIENCE * 6;
    while open > 0 {
        assert!(Instant::now() < deadline, "{open} browsers wait in vain");
        // SAFETY: the array has as many events as are said to fit.
        let count = unsafe { libc::epoll_wait(epoll, events.as_mut_ptr(), events.len() as i32, 1000) };
        for event in &events[..count.max(0) as usize] {
            let index = event.u64 as usize;
            let fd = browsers[index].socket.stream.as_raw_fd();
            // SAFETY: the buffer is as long as is said.
            let got = unsafe { libc::recv(fd, buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT) };
            assert!(got > 0, "the engine keeps every socket");
            if left[index] > 0 {
                left[index] = left[index].saturating_sub(got as usize);
                open -= usize::from(left[index] == 0);
            }
        }
    }
    // SAFETY: opened above.
    unsafe { libc::close(epoll) };
}

// Issue 7: 10,000 subscribers, 100 updates a second.
#[test]
fn ten_thousand_browsers_get_every_update() {
    const UPDATES: usize = 50;
    let limit = raise_descriptor_limit(11_500) as usize;
    let count = 10_000.min(limit.saturating_sub(1_200));
    let engine = Engine::command(1).config(CONFIG).start();
    let mut worker = RawWorker::named(&engine, "w");
    let port = engine.stream_port();
    let before = engine.resident_bytes();
    let mut browsers: Vec<Browser> =
        (0..count).map(|_| Browser { socket: support::RawSocket::open(port, "/") }).collect();
    for browser in &mut browsers {
        assert_eq!(browser.joined("1", "s", "g", None), json!([]));
    }
    let grown = engine.resident_bytes().saturating_sub(before);
    println!("{count} browsers: {:.1} KiB resident each", grown as f64 / 1024.0 / count as f64);

    let data = |n: usize| {
        // The same length every time, so that bytes count frames.
        json!({"stream_name": "s", "group_id": "g", "item_id": "i", "data": {"n": format!("{n:08}"), "text": "x".repeat(60)}})
    };
    worker.call("stream::set", data(0)).expect("set");
    let frame = browsers[0].socket.read_frame().expect("the first update");
    let length = frame.payload.len() + if frame.payload.len() > 125 { 4 } else { 2 };
    read_all(&browsers[1..], length);

    let (cpu, started) = (cpu_seconds(&engine), Instant::now());
    let url_port = engine.port;
    let sender = std::thread::spawn(move || {
        let mut worker = RawWorker::connect_to(url_port, "/");
        for n in 0..UPDATES {
            worker.call("stream::set", data(n)).expect("set");
            std::thread::sleep(Duration::from_millis(10));
        }
    });
    read_all(&browsers, length * UPDATES);
    sender.join().expect("all updates are made");
    let frames = (count * UPDATES) as f64;
    let (cpu, seconds) = (cpu_seconds(&engine) - cpu, started.elapsed().as_secs_f64());
    println!("{frames} frames in {seconds:.2} s: {:.2} µs of engine CPU each", cpu * 1e6 / frames);
    let after = engine.resident_bytes().saturating_sub(before);
    println!("afterwards: {:.1} KiB resident each", after as f64 / 1024.0 / count as f64);
    assert_eq!(worker.call("stream::list_groups", json!({"stream_name": "s"})), Ok(json!(["g"])));
    let _: Value =
        worker.call("stream::get", json!({"stream_name": "s", "group_id": "g", "item_id": "i"})).expect("get");
}
