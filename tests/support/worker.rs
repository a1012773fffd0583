//! A worker without an SDK: tungstenite, JSON, and patience.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::error::{Error, ProtocolError};
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::protocol::{Message, WebSocketConfig};
use tungstenite::{Bytes, WebSocket};

use super::{Engine, PATIENCE, SILENCE};

/// One connection on `/`, and the frames that came but were not asked for yet.
#[derive(Debug)]
pub struct RawWorker {
    pub id: String,
    pub token: String,
    socket: WebSocket<TcpStream>,
    inbox: VecDeque<Value>,
    next_call: u64,
}

/// How the engine ended a connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Ending {
    /// A Close frame, with its code if it had one.
    Close(Option<u16>),
    /// TCP ended without a Close frame.
    Dropped,
}

/// What one attempt to read gave.
enum Read {
    Frame(Value),
    Nothing,
    Ended(Ending),
}

impl RawWorker {
    /// Connects and takes the `workerregistered` greeting; announces nothing.
    pub fn connect(engine: &Engine) -> Self {
        Self::connect_to(engine.port, "/")
    }

    pub fn connect_to(port: u16, path: &str) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the engine accepts connections");
        stream.set_nodelay(true).expect("a connected socket takes options");
        stream.set_read_timeout(Some(PATIENCE)).expect("the timeout is not zero");
        let limits = WebSocketConfig::default()
            .max_message_size(Some(128 << 20))
            .max_frame_size(Some(128 << 20))
            .read_buffer_size(8 << 10);
        let url = format!("ws://127.0.0.1:{port}{path}");
        let (socket, _) =
            tungstenite::client::client_with_config(url, stream, Some(limits)).expect("the engine upgrades");
        let mut worker = Self { id: String::new(), token: String::new(), socket, inbox: VecDeque::new(), next_call: 0 };
        // PROTO-40: no frame precedes the greeting.
        let greeting = worker.expect("workerregistered");
        worker.id = greeting["worker_id"].as_str().expect("worker_id is a string").to_owned();
        worker.token = greeting["reattach_token"].as_str().expect("reattach_token is a string").to_owned();
        worker
    }

    /// Connects and announces itself the way an SDK of today does.
    pub fn named(engine: &Engine, name: &str) -> Self {
        let mut worker = Self::connect(engine);
        worker.announce(json!({"runtime": "node", "version": "0.22.1", "name": name, "pid": std::process::id()}));
        worker
    }

    /// Connects, announces itself, and provides these functions.
    pub fn serving(engine: &Engine, name: &str, functions: &[&str]) -> Self {
        let mut worker = Self::named(engine, name);
        for id in functions {
            worker.register(id);
        }
        worker.confirm(functions);
        worker
    }

    /// Sends `engine::workers::register` the way SDKs do: void, no answer.
    pub fn announce(&mut self, data: Value) {
        self.send(json!({
            "type": "invokefunction", "function_id": "engine::workers::register",
            "data": data, "action": {"type": "void"},
        }));
    }

    pub fn register(&mut self, id: &str) {
        self.send(json!({"type": "registerfunction", "id": id}));
    }

    /// Calls one's own functions once, which proves that each is callable.
    pub fn confirm(&mut self, functions: &[&str]) {
        self.confirm_in(functions, None);
    }

    pub fn confirm_in(&mut self, functions: &[&str], namespace: Option<&str>) {
        for id in functions {
            let call = self.fresh_id();
            self.send(json!({
                "type": "invokefunction", "invocation_id": call, "function_id": id, "data": null, "namespace": namespace,
            }));
            let delivery = self.expect("invokefunction");
            self.answer(&delivery, json!("confirmed"));
            assert_eq!(self.result(&call), Ok(json!("confirmed")));
        }
    }

    pub fn send(&mut self, message: Value) {
        self.send_text(&message.to_string());
    }

    pub fn send_text(&mut self, text: &str) {
        self.socket.send(Message::text(text)).expect("the connection is open");
    }

    pub fn send_binary(&mut self, bytes: &[u8]) {
        self.socket.send(Message::binary(bytes.to_vec())).expect("the connection is open");
    }

    /// Sends one message as fragments of at most `size` bytes.
    pub fn send_in_pieces(&mut self, text: &str, size: usize) {
        assert!(self.try_send_in_pieces(text, size), "the connection is open");
    }

    /// The same, for messages on which the engine may hang up; returns whether all of it went out.
    pub fn try_send_in_pieces(&mut self, text: &str, size: usize) -> bool {
        let pieces: Vec<_> = text.as_bytes().chunks(size).collect();
        pieces.iter().enumerate().all(|(index, piece)| {
            let code = OpCode::Data(if index == 0 { Data::Text } else { Data::Continue });
            let frame = Frame::message(piece.to_vec(), code, index + 1 == pieces.len());
            self.socket.send(Message::Frame(frame)).is_ok()
        })
    }

    pub fn ping(&mut self, payload: &[u8]) {
        self.socket.send(Message::Ping(Bytes::copy_from_slice(payload))).expect("the connection is open");
    }

    /// Puts a call into the write buffer; `flush` sends the lot at once.
    pub fn queue(&mut self, message: &Value) {
        self.socket.write(Message::text(message.to_string())).expect("the connection is open");
    }

    pub fn flush(&mut self) {
        self.socket.flush().expect("the connection is open");
    }

    /// A new invocation id, different for every call of this connection.
    pub fn fresh_id(&mut self) -> String {
        self.next_call += 1;
        format!("00000000-0000-4000-9000-{:012x}", self.next_call)
    }

    /// Sends a call that expects an answer, and returns its id.
    pub fn invoke(&mut self, function_id: &str, data: Value) -> String {
        let id = self.fresh_id();
        self.send(json!({"type": "invokefunction", "invocation_id": id, "function_id": function_id, "data": data}));
        id
    }

    /// Calls and waits for the answer. Other frames that arrive meanwhile are kept.
    pub fn call(&mut self, function_id: &str, data: Value) -> Result<Value, Value> {
        let id = self.invoke(function_id, data);
        self.result(&id)
    }

    /// Calls, but waits only a moment for the answer.
    pub fn call_briefly(&mut self, function_id: &str, data: Value) -> Option<Result<Value, Value>> {
        let id = self.invoke(function_id, data);
        let frame = self.recv_within(SILENCE).filter(|frame| frame["invocation_id"] == id.as_str())?;
        Some(if frame["error"].is_null() { Ok(frame["result"].clone()) } else { Err(frame["error"].clone()) })
    }

    /// Whether a frame is there now. It stays in the inbox.
    pub fn has_frame(&mut self) -> bool {
        if self.inbox.is_empty()
            && let Read::Frame(frame) = self.read(Instant::now())
        {
            self.inbox.push_back(frame);
        }
        !self.inbox.is_empty()
    }

    /// Waits for the answer of one call: the result, or the error body.
    pub fn result(&mut self, invocation_id: &str) -> Result<Value, Value> {
        let what = format!("the answer of {invocation_id}");
        let mut frame =
            self.take(&what, |frame| frame["type"] == "invocationresult" && frame["invocation_id"] == invocation_id);
        match frame["error"].take() {
            Value::Null => Ok(frame["result"].take()),
            error => Err(error),
        }
    }

    /// Answers a delivered call.
    pub fn answer(&mut self, delivery: &Value, result: Value) {
        self.send(json!({
            "type": "invocationresult", "invocation_id": delivery["invocation_id"],
            "function_id": delivery["function_id"], "result": result,
        }));
    }

    pub fn fail(&mut self, delivery: &Value, error: Value) {
        self.send(json!({
            "type": "invocationresult", "invocation_id": delivery["invocation_id"],
            "function_id": delivery["function_id"], "error": error,
        }));
    }

    /// The next frame must be of this type.
    pub fn expect(&mut self, kind: &str) -> Value {
        let frame = self.recv();
        assert_eq!(frame["type"], kind, "expected a {kind} frame, got {frame}");
        frame
    }

    /// The next frame, whatever it is.
    pub fn recv(&mut self) -> Value {
        self.recv_within(PATIENCE).unwrap_or_else(|| panic!("no frame within {PATIENCE:?}"))
    }

    pub fn recv_within(&mut self, patience: Duration) -> Option<Value> {
        if let Some(frame) = self.inbox.pop_front() {
            return Some(frame);
        }
        match self.read(Instant::now() + patience) {
            Read::Frame(frame) => Some(frame),
            Read::Nothing => None,
            Read::Ended(ending) => panic!("the engine ended the connection: {ending:?}"),
        }
    }

    /// The first frame that fits, now or later; frames before it stay in the inbox.
    pub fn take(&mut self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        if let Some(index) = self.inbox.iter().position(&fits) {
            return self.inbox.remove(index).expect("position is within bounds");
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.read(deadline) {
                Read::Frame(frame) if fits(&frame) => return frame,
                Read::Frame(frame) => self.inbox.push_back(frame),
                Read::Nothing => panic!("no {what} within {PATIENCE:?}; meanwhile came {:?}", self.inbox),
                Read::Ended(ending) => panic!("waiting for {what}: the engine ended the connection: {ending:?}"),
            }
        }
    }

    /// A frame that is in the inbox already, if it fits.
    pub fn take_waiting(&mut self, fits: impl Fn(&Value) -> bool) -> Option<Value> {
        let index = self.inbox.iter().position(fits)?;
        self.inbox.remove(index)
    }

    /// Fails if any frame is waiting or comes within a moment.
    pub fn expect_silence(&mut self) {
        if let Some(frame) = self.recv_within(SILENCE) {
            panic!("expected no frame, got {frame}");
        }
    }

    /// JSON ping and pong. Frames the engine sent before the pong stay in the inbox.
    pub fn round_trip(&mut self) {
        self.send(json!({"type": "ping"}));
        self.take("pong", |frame| frame["type"] == "pong");
    }

    /// Reads on until the engine ends the connection.
    pub fn ending(&mut self) -> Ending {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.read(deadline) {
                Read::Frame(frame) => self.inbox.push_back(frame),
                Read::Nothing => panic!("the connection is still open after {PATIENCE:?}"),
                Read::Ended(ending) => return ending,
            }
        }
    }

    /// Goes away without a word: TCP reset, as when the process is killed.
    pub fn vanish(self) {
        let stream = self.socket.get_ref();
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        // SAFETY: the option value is a local of the size given.
        unsafe {
            libc::setsockopt(
                std::os::fd::AsRawFd::as_raw_fd(stream),
                libc::SOL_SOCKET,
                libc::SO_LINGER,
                (&raw const linger).cast(),
                size_of::<libc::linger>() as u32,
            );
        }
    }

    /// The client's own Close, as a polite SDK sends it.
    pub fn close(&mut self) {
        let _ = self.socket.close(None);
        let _ = self.socket.flush();
    }

    fn read(&mut self, deadline: Instant) -> Read {
        loop {
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            self.socket.get_ref().set_read_timeout(Some(left)).expect("the timeout is not zero");
            match self.socket.read() {
                Ok(Message::Text(text)) => {
                    // PROTO-27: a text frame is always a JSON object.
                    let frame: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("not JSON: {text}"));
                    assert!(frame.is_object(), "not an object: {frame}");
                    return Read::Frame(frame);
                }
                Ok(Message::Close(close)) => return Read::Ended(Ending::Close(close.map(|close| close.code.into()))),
                Ok(Message::Binary(bytes)) => panic!("binary frame of {} bytes on a worker socket", bytes.len()),
                Ok(_) => {}
                Err(Error::Io(error)) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    if Instant::now() >= deadline {
                        return Read::Nothing;
                    }
                }
                Err(
                    Error::Io(_)
                    | Error::ConnectionClosed
                    | Error::AlreadyClosed
                    | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake),
                ) => return Read::Ended(Ending::Dropped),
                Err(error) => panic!("the engine broke the WebSocket protocol: {error}"),
            }
        }
    }
}

/// The `code` of a failed call; panics on success.
pub fn error_code(outcome: &Result<Value, Value>) -> &str {
    match outcome {
        Err(error) => error["code"].as_str().expect("PROTO-27: an error has a string code"),
        Ok(value) => panic!("expected an error, got the result {value}"),
    }
}
