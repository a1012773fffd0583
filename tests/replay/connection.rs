//! One connection of a replay: sends what the row says, collects what the engine sends.

use std::collections::{BTreeSet, VecDeque};
use std::os::fd::AsRawFd;
use std::sync::mpsc::Sender;

use super::http::PendingRequest;
use crate::support::socket::{BINARY, CLOSE, PING, PONG, RawSocket, TEXT, upgrade_request};
use crate::support::{Engine, Frame, Value, json};

/// What the reading thread of a connection reports.
pub enum Incoming {
    Frame(Frame),
    End,
}

pub struct Connection {
    name: String,
    socket: RawSocket,
    namespace: Option<String>,
    functions: BTreeSet<String>,
    said_goodbye: bool,
    finished: bool,
    reset: bool,
    pings_sent: usize,
    pongs_taken: usize,
    pongs_seen: usize,
    /// JSON messages of the engine without a row so far.
    pub inbox: VecDeque<Value>,
    /// Frames on channel connections.
    pub texts: VecDeque<String>,
    pub binaries: VecDeque<Vec<u8>>,
    /// The Close frame of the engine, if it sent one.
    pub close: Option<Option<u16>>,
    pub ended: bool,
    pub pending_http: Vec<PendingRequest>,
}

impl Connection {
    pub fn open(engine: &Engine, name: &str, path: &str, events: Sender<(String, Incoming)>) -> Result<Self, String> {
        let mut socket = RawSocket::tcp(engine.port);
        socket.write(upgrade_request(path).as_bytes());
        let answer = socket.read_http();
        if answer.status != 101 {
            return Err(format!("expected 101 for {path}, got {answer:?}"));
        }
        // PROTO-4: no compression, whatever was offered.
        assert_eq!(answer.header("sec-websocket-extensions"), None);
        assert_eq!(answer.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        let mut reader = socket.split();
        let owner = name.to_owned();
        std::thread::spawn(move || {
            while let Some(frame) = reader.read_frame_patiently() {
                if events.send((owner.clone(), Incoming::Frame(frame))).is_err() {
                    return;
                }
            }
            let _ = events.send((owner, Incoming::End));
        });
        Ok(Self {
            name: name.to_owned(),
            socket,
            namespace: None,
            functions: BTreeSet::new(),
            said_goodbye: false,
            finished: false,
            reset: false,
            pings_sent: 0,
            pongs_taken: 0,
            pongs_seen: 0,
            inbox: VecDeque::new(),
            texts: VecDeque::new(),
            binaries: VecDeque::new(),
            close: None,
            ended: false,
            pending_http: Vec::new(),
        })
    }

    pub fn is_channel(&self) -> bool {
        self.name.contains(".channel")
    }

    /// Whether this side may still send.
    pub fn is_usable(&self) -> bool {
        !self.finished && !self.reset && !self.ended
    }

    pub fn is_reset(&self) -> bool {
        self.reset
    }

    pub fn has_said_goodbye(&self) -> bool {
        self.said_goodbye
    }

    pub fn provides(&self, namespace: &str, function: &str) -> bool {
        self.is_usable()
            && !self.said_goodbye
            && self.namespace.as_deref().unwrap_or("default") == namespace
            && self.functions.contains(function)
    }

    pub fn send_message(&mut self, mut message: Value) {
        match message["type"].as_str() {
            Some("registerfunction") => {
                self.functions.insert(message["id"].as_str().unwrap_or_default().to_owned());
            }
            Some("unregisterfunction") => {
                self.functions.remove(message["id"].as_str().unwrap_or_default());
            }
            Some("invokefunction") if message["function_id"] == "engine::workers::register" => {
                self.namespace = message["data"]["namespace"].as_str().map(str::to_owned);
                self.be_a_process_of_its_own(&mut message["data"]);
            }
            _ => {}
        }
        self.send_text(&message.to_string());
    }

    /// The recording shows every process as 4242; but the engine must not take two processes for one (PROTO-50b).
    fn be_a_process_of_its_own(&self, data: &mut Value) {
        if self.name.starts_with("w1") {
            return;
        }
        if data["name"] == "HOST:4242" {
            data["name"] = json!("HOST:4243");
        }
        data["pid"] = json!(4243);
    }

    pub fn send_text(&mut self, text: &str) {
        self.socket.try_write(&crate::support::socket::frame_bytes(true, TEXT, text.as_bytes()));
    }

    pub fn send_binary(&mut self, bytes: &[u8]) {
        self.socket.try_write(&crate::support::socket::frame_bytes(true, BINARY, bytes));
    }

    pub fn send_ping(&mut self, payload: &[u8]) {
        self.pings_sent += 1;
        self.socket.try_write(&crate::support::socket::frame_bytes(true, PING, payload));
    }

    pub fn send_close(&mut self, code: Option<u16>) {
        self.said_goodbye = true;
        let payload = code.map(|code| code.to_be_bytes().to_vec()).unwrap_or_default();
        self.socket.try_write(&crate::support::socket::frame_bytes(true, CLOSE, &payload));
    }

    /// Ends our half: the end of the process, as the engine sees it.
    pub fn finish(&mut self) {
        self.finished = true;
        self.socket.finish();
    }

    /// What the relay did to the engine's side: an abrupt end.
    pub fn reset(&mut self) {
        self.reset = true;
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        let descriptor = self.socket.stream.as_raw_fd();
        // SAFETY: the option value is a local of the size given. The shutdown wakes our reading thread.
        unsafe {
            let value = (&raw const linger).cast();
            libc::setsockopt(descriptor, libc::SOL_SOCKET, libc::SO_LINGER, value, size_of::<libc::linger>() as u32);
            libc::shutdown(descriptor, libc::SHUT_RDWR);
        }
    }

    pub fn pongs_expected(&self) -> usize {
        self.pings_sent - self.pongs_taken
    }

    pub fn take_pong(&mut self) -> bool {
        let waiting = self.pongs_seen > self.pongs_taken;
        self.pongs_taken += usize::from(waiting);
        waiting
    }

    pub fn take_in(&mut self, event: Incoming) {
        match event {
            Incoming::End => self.ended = true,
            Incoming::Frame(frame) => match frame.opcode {
                TEXT if self.is_channel() => {
                    self.texts.push_back(String::from_utf8(frame.payload).expect("text frames are UTF-8"));
                }
                TEXT => {
                    self.inbox.push_back(serde_json::from_slice(&frame.payload).expect("PROTO-27: JSON objects only"))
                }
                BINARY => self.binaries.push_back(frame.payload),
                PING => {
                    self.socket.try_write(&crate::support::socket::frame_bytes(true, PONG, &frame.payload));
                }
                PONG => self.pongs_seen += 1,
                CLOSE => {
                    let code = frame.payload.get(..2).map(|code| u16::from_be_bytes([code[0], code[1]]));
                    self.close = Some(code);
                }
                other => panic!("{}: unexpected opcode {other}", self.name),
            },
        }
    }
}
