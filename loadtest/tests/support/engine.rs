//! A stand-in for the engine: routes calls between WebSocket connections, with the oddities real engines may have.

use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::{Error, Message, WebSocket};

/// How the stand-in behaves beyond plain routing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Behaviour {
    /// Members of messages go out in reverse order.
    pub backwards: bool,
    /// Every message goes out in two frames with a ping between them.
    pub fragments: bool,
    /// Registrations take effect this much later.
    pub registration_delay: Duration,
    /// Every n-th call is answered twice.
    pub answer_twice_every: Option<u64>,
    /// Every n-th call is forgotten.
    pub forget_every: Option<u64>,
}

/// Starts a stand-in on a free port. It serves until the test process ends.
pub fn start(behaviour: Behaviour) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let mut engine = Engine { behaviour, ..Engine::default() };
    std::thread::spawn(move || {
        loop {
            let mut idle = true;
            while let Ok((stream, _)) = listener.accept() {
                engine.accept(stream);
                idle = false;
            }
            for index in 0..engine.sockets.len() {
                idle &= !engine.serve(index);
            }
            if idle {
                std::thread::sleep(Duration::from_micros(100));
            }
        }
    });
    address
}

#[derive(Default)]
struct Engine {
    behaviour: Behaviour,
    sockets: Vec<Option<WebSocket<TcpStream>>>,
    /// Providers in turn, and when the first became callable.
    functions: HashMap<String, (Vec<usize>, Instant)>,
    /// The caller and function of each call in flight, by its id.
    pending: HashMap<String, (usize, String)>,
    calls: u64,
}

impl Engine {
    fn accept(&mut self, stream: TcpStream) {
        stream.set_nonblocking(false).unwrap();
        stream.set_nodelay(true).unwrap();
        let Ok(mut socket) = tungstenite::accept(stream) else { return };
        socket.get_mut().set_nonblocking(true).unwrap();
        self.sockets.push(Some(socket));
        self.send(self.sockets.len() - 1, json!({"type": "workerregistered", "worker_id": "w"}));
    }

    /// Handles what `index` has sent. False if that was nothing.
    fn serve(&mut self, index: usize) -> bool {
        let mut served = false;
        loop {
            let Some(socket) = &mut self.sockets[index] else { return served };
            match socket.read() {
                Ok(Message::Text(text)) => {
                    self.handle(index, serde_json::from_str(&text).expect("the tool sends JSON"))
                }
                Ok(_) => {}
                Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => return served,
                Err(_) => self.sockets[index] = None,
            }
            served = true;
        }
    }

    fn handle(&mut self, from: usize, message: Value) {
        let text = |member: &str| message[member].as_str().unwrap_or_default().to_owned();
        match text("type").as_str() {
            "registerfunction" => {
                let callable_from = Instant::now() + self.behaviour.registration_delay;
                self.functions.entry(text("id")).or_insert((Vec::new(), callable_from)).0.push(from);
            }
            "invokefunction" if message["action"].is_null() => self.call(from, &message, text("invocation_id")),
            "invokefunction" => assert_eq!(text("function_id"), "engine::workers::register"),
            "invocationresult" => {
                let id = text("invocation_id");
                self.result(message, &id);
            }
            other => panic!("the tool sent {other:?}"),
        }
    }

    fn call(&mut self, from: usize, message: &Value, id: String) {
        let function = message["function_id"].as_str().unwrap();
        let provider = match self.functions.get_mut(function) {
            Some((providers, callable_from)) if Instant::now() >= *callable_from => {
                providers.rotate_left(1);
                providers[0]
            }
            _ => {
                let error = json!({"code": "function_not_found", "message": "Function \"x\" not found"});
                let result =
                    json!({"type": "invocationresult", "invocation_id": id, "function_id": function, "error": error});
                return self.send(from, result);
            }
        };
        self.calls += 1;
        if self.behaviour.forget_every.is_some_and(|every| self.calls.is_multiple_of(every)) {
            return;
        }
        let mut data = message["data"].clone();
        data["_caller_worker_id"] = json!("0d5f0000-aaaa-4bbb-8ccc-ddddeeeeffff");
        self.pending.insert(id.clone(), (from, function.to_owned()));
        let call = json!({"type": "invokefunction", "invocation_id": id, "function_id": function, "data": data});
        self.send(provider, call);
    }

    fn result(&mut self, mut message: Value, id: &str) {
        let (caller, function) = self.pending.remove(id).expect("the tool answers calls once");
        assert_eq!(message["function_id"], function.as_str());
        message["function_id"] = json!(function);
        if self.behaviour.answer_twice_every.is_some_and(|every| self.calls.is_multiple_of(every)) {
            self.send(caller, message.clone());
        }
        self.send(caller, message);
    }

    fn send(&mut self, to: usize, message: Value) {
        let Value::Object(members) = message else { panic!("messages are objects") };
        let members: Map<_, _> = match self.behaviour.backwards {
            true => members.into_iter().rev().collect(),
            false => members,
        };
        let text = Value::Object(members).to_string();
        let Some(socket) = &mut self.sockets[to] else { return };
        // Waiting is fine here; the tool always reads.
        socket.get_mut().set_nonblocking(false).unwrap();
        let sent = if self.behaviour.fragments {
            let (front, back) = text.split_at(text.len() / 2);
            let front = Frame::message(front.to_owned(), OpCode::Data(Data::Text), false);
            let back = Frame::message(back.to_owned(), OpCode::Data(Data::Continue), true);
            socket
                .send(Message::Frame(front))
                .and_then(|()| socket.send(Message::Ping("are you there?".into())))
                .and_then(|()| socket.send(Message::Frame(back)))
        } else {
            socket.send(Message::text(text))
        };
        socket.get_mut().set_nonblocking(true).unwrap();
        if sent.is_err() {
            self.sockets[to] = None;
        }
    }
}
