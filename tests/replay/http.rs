//! HTTP requests that a recording implies: the engine's delivery shows what the client must have sent.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread::JoinHandle;

use crate::support::{Engine, PATIENCE, Value, eventually};

/// A request under way; its answer is checked at the end of the replay.
pub struct PendingRequest {
    answer: JoinHandle<String>,
}

impl PendingRequest {
    pub fn check(&self) {
        assert!(self.answer.is_finished(), "an HTTP request of the recording was not answered");
    }
}

/// Sends the request behind a delivery, if the delivery is one of the http trigger and the engine serves HTTP.
pub fn start_request(engine: &Engine, delivery: &Value) -> Option<PendingRequest> {
    let port = engine.http_port()?;
    let data = &delivery["data"];
    if data["trigger"]["type"] != "http" {
        return None;
    }
    let request = request_text(data);
    // Nothing tells a client that a route is there; the recorded one waited a while.
    let exchange = move || {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("the engine serves HTTP");
        stream.set_read_timeout(Some(PATIENCE)).expect("the timeout is not zero");
        stream.write_all(request.as_bytes()).expect("the connection is open");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("the answer is text, and the connection closes after it");
        (!answer.starts_with("HTTP/1.1 404 ")).then_some(answer)
    };
    let answer = std::thread::spawn(move || eventually("the route of the recording", &exchange));
    Some(PendingRequest { answer })
}

fn request_text(data: &Value) -> String {
    let mut path = data["path"].as_str().unwrap_or_default().to_owned();
    for (name, value) in data["path_params"].as_object().into_iter().flatten() {
        path = path.replace(&format!(":{name}"), value.as_str().unwrap_or_default());
    }
    let query: Vec<_> = data["query_params"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default()))
        .collect();
    let mark = if query.is_empty() { "" } else { "?" };
    let mut text =
        format!("{} /{path}{mark}{} HTTP/1.1\r\n", data["method"].as_str().unwrap_or("GET"), query.join("&"));
    for (name, value) in data["headers"].as_object().into_iter().flatten() {
        if name != "content-length" {
            text += &format!("{name}: {}\r\n", value.as_str().unwrap_or_default());
        }
    }
    let mut body = if data["body"].is_null() { String::new() } else { data["body"].to_string() };
    // The recorded client wrote its JSON with spaces; what counts is the length that it announced.
    let length = data["headers"]["content-length"].as_str().and_then(|length| length.parse().ok());
    while length.is_some_and(|length| body.len() < length) {
        body.push(' ');
    }
    format!("{text}content-length: {}\r\n\r\n{body}", body.len())
}
