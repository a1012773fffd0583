//! One instance on a shard that only remembers.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use iii_shards::builtin::fake::{FakeHost, Made};
use iii_shards::builtin::{BuiltIn, Failure, SocketId};
use iii_shards::channel::{Amount, ChannelEvent, End, Holder, Leaving, Piece, Verdict};
use iii_shards::control::triggers::Binding;
use iii_shards::ids::{ConnectionId, ShardId};
use iii_shards::settings::ListenerSettings;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::config::settings::HttpSettings;

/// A worker's connection, as far as channels are concerned.
pub const WORKER: Holder = Holder::Connection(ConnectionId { shard: ShardId(0), slot: 900, generation: 0 });

pub struct Bench {
    pub host: FakeHost,
    pub instance: Box<dyn BuiltIn>,
    /// What channels told the worker.
    pub told: Vec<ChannelEvent>,
    sockets: u32,
}

impl Bench {
    pub fn with(settings: HttpSettings) -> Bench {
        let mut host = FakeHost::default();
        let definition = super::super::definition(vec![(settings, ListenerSettings::default())]);
        let instance = (definition.factory)(&mut host);
        Bench { host, instance, told: Vec::new(), sockets: 0 }
    }

    /// An instance with routes `METHOD path function`.
    pub fn routing(settings: HttpSettings, routes: &[&str]) -> Bench {
        let mut bench = Bench::with(settings);
        for route in routes {
            let mut words = route.split(' ');
            let (Some(method), Some(path), Some(function)) = (words.next(), words.next(), words.next()) else {
                panic!()
            };
            bench.route(route, function, json!({"api_path": path, "http_method": method}));
        }
        bench
    }

    /// The configuration has changed.
    pub fn reconfigure(&mut self, settings: HttpSettings) {
        let definition = super::super::definition(vec![(settings, ListenerSettings::default())]);
        let legacy = self.instance.hand_over(&mut self.host).unwrap();
        self.instance = (definition.factory)(&mut self.host);
        self.instance.take_over(legacy, &mut self.host);
    }

    pub fn route(&mut self, id: &str, function: &str, config: Value) {
        self.instance.trigger_added(Arc::new(binding(id, function, config)), &mut self.host);
    }

    pub fn connect(&mut self) -> SocketId {
        self.sockets += 1;
        let socket = SocketId { shard: ShardId(0), slot: self.sockets, generation: 0 };
        self.instance.socket_opened(socket, 0, IpAddr::V4(Ipv4Addr::LOCALHOST), &mut self.host);
        socket
    }

    pub fn send(&mut self, socket: SocketId, text: impl AsRef<[u8]>) {
        self.instance.socket_bytes(socket, &mut text.as_ref().to_vec(), &mut self.host);
        self.settle();
    }

    /// A new connection and a request on it.
    pub fn request(&mut self, text: &str) -> SocketId {
        let socket = self.connect();
        self.send(socket, text);
        socket
    }

    /// Passes on what is under way inside.
    pub fn settle(&mut self) {
        loop {
            let posted = std::mem::take(&mut self.host.posted);
            if let Some((holder, event)) = self.host.channels.poll_event() {
                match holder {
                    Holder::InProcess(number) => self.instance.channel_event(number, event, &mut self.host),
                    Holder::Connection(_) => self.told.push(event),
                }
            } else if posted.is_empty() {
                return;
            }
            for (_, message) in posted {
                self.instance.message(message, &mut self.host);
            }
        }
    }

    /// The only call made since this was last asked.
    pub fn call(&mut self) -> Made {
        let mut made = self.host.take_made();
        assert_eq!(made.len(), 1, "{made:?}");
        made.remove(0)
    }

    pub fn answer(&mut self, call: &Made, result: Value) {
        self.instance.answer(call.token.unwrap(), Ok(result.to_string().into_bytes()), &mut self.host);
        self.settle();
    }

    pub fn fail(&mut self, call: &Made, code: &'static str, message: &str) {
        self.instance.answer(call.token.unwrap(), Err(Failure::new(code, message)), &mut self.host);
        self.settle();
    }

    pub fn wait(&mut self, ms: u64) {
        self.host.now.ms += ms;
        self.host.now.unix_ms += ms;
        while self.host.wake_at.is_some_and(|at| at <= self.host.now.ms) {
            self.host.wake_at = None;
            self.instance.timer(&mut self.host);
            self.settle();
        }
    }

    /// What was sent, which the peer then reads.
    pub fn output(&mut self, socket: SocketId) -> String {
        let bytes = self.host.written.remove(&socket).unwrap_or_default();
        self.instance.socket_flushed(socket, &mut self.host);
        self.settle();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Status and body of the only response since this was last asked.
    pub fn response(&mut self, socket: SocketId) -> (u16, String) {
        let output = self.output(socket);
        let (head, body) = output.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no response: {output:?}"));
        (head[9..12].parse().unwrap(), body.to_owned())
    }

    // The worker's side of channels.

    pub fn attach(&mut self, call: &Made, member: &str, end: End) -> Uuid {
        let data: Value = serde_json::from_str(&call.data).unwrap();
        let text = |name: &str| data[member][name].as_str().unwrap().to_owned();
        let id = Uuid::try_parse(&text("channel_id")).unwrap();
        let verdict = self.host.channels.attach_with_key(id, &text("access_key"), end, WORKER);
        assert_eq!(verdict, Verdict::Attached { buffer_size: 64 }, "HTTP-27");
        self.settle();
        id
    }

    pub fn write(&mut self, channel: Uuid, text: bool, bytes: impl AsRef<[u8]>) {
        self.host.channels.write(channel, WORKER, Piece { text, bytes: bytes.as_ref().into() });
        self.settle();
    }

    /// What the worker was told since this was last asked, but for the room it was given.
    pub fn news(&mut self) -> Vec<ChannelEvent> {
        let mut told = std::mem::take(&mut self.told);
        told.retain(|event| !matches!(event, ChannelEvent::Taken(_)));
        told
    }

    pub fn leave(&mut self, channel: Uuid, end: End, leaving: Leaving) {
        self.host.channels.leave(channel, end, WORKER, leaving);
        self.settle();
    }

    /// Takes what has come on a channel: sizes and content.
    pub fn read(&mut self, channel: Uuid) -> (Vec<usize>, Vec<u8>) {
        let (mut sizes, mut content) = (Vec::new(), Vec::new());
        loop {
            let told = std::mem::take(&mut self.told);
            if told.is_empty() {
                return (sizes, content);
            }
            for event in told {
                match event {
                    ChannelEvent::Message(piece) => {
                        sizes.push(piece.bytes.len());
                        content.extend_from_slice(&piece.bytes);
                        self.host.channels.taken(channel, WORKER, Amount::one(piece.bytes.len()));
                    }
                    ChannelEvent::Ended(leaving) => {
                        assert_eq!(leaving, Leaving::Finished);
                        sizes.push(usize::MAX);
                    }
                    other => panic!("{other:?}"),
                }
            }
            self.settle();
        }
    }
}

pub fn binding(id: &str, function: &str, config: Value) -> Binding {
    Binding {
        id: id.into(),
        trigger_type: "http".into(),
        namespace: "default".into(),
        function_id: function.into(),
        config: config.to_string().into_bytes().into(),
        metadata: Some(b"{\"team\":\"a\"}"[..].into()),
        trigger_namespace: None,
        home: "default".into(),
        registrant: None,
    }
}

/// `METHOD path` with a JSON body.
pub fn post(target: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {target} HTTP/1.1\r\nhost: h\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    )
}

pub fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nhost: h\r\n\r\n")
}
