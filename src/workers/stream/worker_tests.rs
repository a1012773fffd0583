//! The instance as a whole, on the fake host.

use super::letter::Letter;
use super::watch::tests::binding;
use super::worker::Worker;
use super::{Options, limits};
use iii_shards::builtin::fake::FakeHost;
use iii_shards::builtin::{BuiltIn, Failure, SocketId};
use iii_shards::ids::ShardId;
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

const UPGRADE: &str = "GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// An instance, its host, and the sockets opened so far.
struct Scene {
    worker: Worker,
    host: FakeHost,
    sockets: u32,
}

impl Scene {
    fn new(options: Options) -> Scene {
        Scene { worker: Worker::new(vec![options].into()), host: FakeHost::default(), sockets: 0 }
    }

    /// Calls a function; whoever is asked for a provider says that there is none.
    fn call(&mut self, function: usize, id: &str, data: Value) -> Option<Value> {
        let call = self.host.incoming(function, id, &data.to_string());
        let key = call.id;
        self.worker.call(call, &mut self.host);
        self.no_providers();
        let outcome = self.host.answers.remove(&key)?;
        Some(serde_json::from_slice(&outcome.expect("it succeeds")).expect("JSON"))
    }

    fn no_providers(&mut self) {
        while let Some(at) = self.host.made.iter().position(|made| made.function_id.starts_with("stream::")) {
            let made = self.host.made.remove(at);
            let failure = Failure::new("function_not_found", format!("Function {} not found", made.function_id));
            self.worker.answer(made.token.expect("tracked"), Err(failure), &mut self.host);
        }
    }

    fn set(&mut self, item: &str, data: Value) {
        self.call(0, "stream::set", json!({"stream_name": "s", "group_id": "g", "item_id": item, "data": data}));
    }

    fn connect(&mut self) -> SocketId {
        let socket = SocketId { shard: ShardId(0), slot: self.sockets, generation: 0 };
        self.sockets += 1;
        self.worker.socket_opened(socket, 0, IpAddr::V4(Ipv4Addr::LOCALHOST), &mut self.host);
        self.worker.socket_bytes(socket, &mut UPGRADE.as_bytes().to_vec(), &mut self.host);
        socket
    }

    fn say(&mut self, socket: SocketId, text: &str) {
        let mut frame = vec![0x81, 0x80 | text.len().min(126) as u8];
        if text.len() > 125 {
            frame.extend((text.len() as u16).to_be_bytes());
        }
        frame.extend([0; 4]);
        frame.extend(text.as_bytes());
        self.worker.socket_bytes(socket, &mut frame, &mut self.host);
        self.no_providers();
    }

    fn join(&mut self, socket: SocketId, id: &str) {
        let data = json!({"subscriptionId": id, "streamName": "s", "groupId": "g"});
        self.say(socket, &json!({"type": "join", "data": data}).to_string());
    }

    /// Events written to a socket since this was last asked, in short.
    fn events(&mut self, socket: SocketId) -> Vec<String> {
        let bytes = self.host.written.remove(&socket).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        text.split(r#""event":{"type":""#).skip(1).map(|rest| rest.split('"').next().unwrap_or("").to_owned()).collect()
    }
}

#[test]
fn a_socket_joins_and_is_told() {
    let mut scene = Scene::new(Options::default());
    let socket = scene.connect();
    let answer = String::from_utf8_lossy(&scene.host.written[&socket]).into_owned();
    assert!(answer.starts_with("HTTP/1.1 101") && answer.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{answer}");
    scene.join(socket, "1");
    scene.set("i", json!(1));
    scene.set("i", json!(1));
    assert_eq!(scene.events(socket), ["sync", "create", "update"]);
}

// STREAM-DB-2: beyond the bound nothing is written; once the socket has taken all, it gets the state.
#[test]
fn a_full_socket_misses_events_and_is_made_good() {
    let mut scene = Scene::new(Options::default());
    let (slow, quick) = (scene.connect(), scene.connect());
    scene.join(slow, "1");
    scene.join(quick, "1");
    let value = json!("x".repeat(limits::SOCKET_BYTES_MAX));
    scene.set("i", value);
    for n in 0..3 {
        scene.events(quick);
        scene.worker.socket_flushed(quick, &mut scene.host);
        scene.set("i", json!(n));
        assert_eq!(scene.events(quick), ["update"]);
    }
    assert_eq!(scene.events(slow), ["sync", "create"]);
    scene.worker.socket_flushed(slow, &mut scene.host);
    scene.no_providers();
    assert_eq!(scene.events(slow), ["sync"]);
    scene.set("i", json!(9));
    assert_eq!(scene.events(slow), ["update"]);
}

// STREAM-DB-2: one that never reads is closed.
#[test]
fn a_socket_that_takes_nothing_is_closed() {
    let mut scene = Scene::new(Options::default());
    let slow = scene.connect();
    scene.join(slow, "1");
    scene.set("i", json!("x".repeat(limits::SOCKET_BYTES_MAX)));
    scene.set("i", json!(1));
    scene.host.now.ms += limits::SOCKET_LAG_MS_MAX - 1;
    scene.say(slow, "still here");
    scene.worker.timer(&mut scene.host);
    assert!(scene.host.closed.is_empty());
    scene.host.now.ms += 1;
    scene.worker.timer(&mut scene.host);
    assert_eq!(scene.host.closed, [(slow, false)]);
    scene.host.now.ms += limits::CLOSING_MS_MAX;
    scene.worker.timer(&mut scene.host);
    assert_eq!(scene.host.closed, [(slow, false), (slow, true)]);
}

// STREAM-DB-10
#[test]
fn silence_is_asked_about_and_then_ended() {
    let mut scene = Scene::new(Options::default());
    let socket = scene.connect();
    scene.host.written.clear();
    assert_eq!(scene.host.wake_at, Some(scene.host.now.ms + limits::SWEEP_MS));
    scene.host.now.ms += limits::PING_AFTER_MS;
    scene.worker.timer(&mut scene.host);
    scene.worker.timer(&mut scene.host);
    assert_eq!(scene.host.written[&socket], [0x89, 0], "one ping");
    scene.host.now.ms += limits::SILENCE_MS_MAX;
    scene.worker.timer(&mut scene.host);
    assert_eq!(scene.host.closed, [(socket, true)]);
    scene.worker.socket_closed(socket, &mut scene.host);
    scene.worker.timer(&mut scene.host);
    assert_eq!(scene.host.wake_at, None, "nobody to look after");
}

// STREAM-51, STREAM-60: handlers one after the other; what follows waits.
#[test]
fn a_slow_join_handler_holds_up_its_socket_only() {
    let mut scene = Scene::new(Options::default());
    let trigger = Arc::new(binding("t", "stream:join", "guard", "{}"));
    scene.worker.trigger_added(trigger, &mut scene.host);
    let (socket, other) = (scene.connect(), scene.connect());
    scene.join(socket, "1");
    scene.join(socket, "2");
    scene.join(other, "1");
    let made = scene.host.take_made();
    assert_eq!(made.len(), 2, "one question per socket");
    assert_eq!(made[0].timeout_ms, Some(30_000));
    let answer = |scene: &mut Scene, token, text: &str| {
        scene.worker.answer(token, Ok(text.as_bytes().to_vec()), &mut scene.host);
        scene.no_providers();
    };
    answer(&mut scene, made[1].token.expect("tracked"), "");
    assert_eq!(scene.events(other), ["sync"]);
    answer(&mut scene, made[0].token.expect("tracked"), r#"{"unauthorized":true}"#);
    assert_eq!(scene.events(socket), ["unauthorized"]);
    let made = scene.host.take_made();
    answer(&mut scene, made[0].token.expect("tracked"), "null");
    assert_eq!(scene.events(socket), ["sync"]);
}

// STREAM-DB-3: another shard that does not keep up is told that it missed events.
#[test]
fn a_shard_that_lags_is_told_so() {
    let mut scene = Scene::new(Options::default());
    let group = Arc::new(super::name::GroupName::new("s", "g"));
    let mut home = super::home::Home::default();
    let mut out = Vec::new();
    let ticket = super::letter::Ticket { slot: 0, number: 1 };
    let host = &mut scene.host;
    let deny = |home: &mut super::home::Home, host: &mut FakeHost, out: &mut super::letter::Outgoing| {
        for made in host.take_made() {
            let failure = Failure::new("function_not_found", format!("Function {} not found", made.function_id));
            assert_eq!(home.answer(made.token.expect("tracked"), Err(failure), host, out), Ok(()));
        }
    };
    home.join((ShardId(1), ticket), group.clone(), None, host, &mut out);
    deny(&mut home, host, &mut out);
    assert!(matches!(out[..], [(ShardId(1), Letter::Synced { frame: Some(_), .. })]));
    out.clear();
    let data = r#"{"stream_name":"s","group_id":"g","type":"t","data":1}"#;
    for _ in 0..limits::LINK_EVENTS_MAX + 5 {
        let call = host.incoming(5, "stream::send", data);
        home.call(super::operation::Kind::Send, &call, host, &mut out);
    }
    assert_eq!(out.len(), limits::LINK_EVENTS_MAX);
    out.clear();
    home.taken(ShardId(1), limits::LINK_EVENTS_MAX as u32 / 2, 0, &mut out);
    assert!(matches!(out[..], [(ShardId(1), Letter::Missed { .. })]), "{out:?}");
    out.clear();
    let call = host.incoming(5, "stream::send", data);
    home.call(super::operation::Kind::Send, &call, host, &mut out);
    assert!(matches!(out[..], [(ShardId(1), Letter::Event { .. })]));
}
