//! A worker connection for one call: connect, announce ourselves, invoke, wait. Blocking, with one deadline for all of
//! it. The only user of tungstenite in the command line.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use tungstenite::{HandshakeError, Message, WebSocket};

/// Where the engine is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Host name or address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path and query of the URL; `/` unless the user gave one.
    pub path: String,
}

/// One call.
#[derive(Debug)]
pub struct Call<'a> {
    /// The function.
    pub function_id: &'a str,
    /// Its namespace, if it was named.
    pub namespace: Option<&'a str>,
    /// What it is called with.
    pub payload: Value,
}

/// Why there is no result.
#[derive(Debug)]
pub enum CallError {
    /// No address of the host accepts connections, or the name has none.
    Connect { url: String, cause: io::Error },
    /// Something else answers there.
    Handshake { url: String, cause: String },
    /// The deadline passed.
    Timeout,
    /// The connection ended first.
    Closed,
    /// The engine or the function answered with an error: `code`, `message`, `stacktrace`.
    Remote(Value),
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::Connect { url, cause } => write!(f, "cannot connect to {url}: {cause}"),
            CallError::Handshake { url, cause } => write!(f, "{url} does not answer as an engine: {cause}"),
            CallError::Timeout => write!(
                f,
                "Timed out waiting for the engine (no response within the timeout). \
                 Is the engine running at the given address and port?"
            ),
            CallError::Closed => write!(f, "connection closed before the result arrived"),
            CallError::Remote(body) => write!(f, "{}", pretty(body)),
        }
    }
}

impl Endpoint {
    /// Reads `ws://HOST[:PORT][/PATH]`.
    pub fn parse(url: &str) -> Result<Endpoint, String> {
        let rest = match url.split_once("://") {
            Some(("ws", rest)) => rest,
            Some(("wss", _)) => {
                return Err(format!("'{url}': wss:// is not supported here; use ws:// through a tunnel"));
            }
            _ => return Err(format!("'{url}' is not a ws:// URL")),
        };
        let at = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(at);
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, port)) => (host, port.strip_prefix(':')),
            None => match authority.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        if host.is_empty() {
            return Err(format!("'{url}' names no host"));
        }
        let port = match port {
            Some(port) => port.parse().map_err(|_| format!("'{url}' has no valid port"))?,
            None => 80,
        };
        Ok(Endpoint { host: host.to_owned(), port, path })
    }

    /// The URL, as messages show it.
    pub fn url(&self) -> String {
        let path = if self.path == "/" { "" } else { &self.path };
        let Endpoint { host, port, .. } = self;
        if host.contains(':') { format!("ws://[{host}]:{port}{path}") } else { format!("ws://{host}:{port}{path}") }
    }
}

/// Calls a function and waits for its result; `None` when it answered without one.
pub fn call(endpoint: &Endpoint, call: Call<'_>, timeout: Duration) -> Result<Option<Value>, CallError> {
    let deadline = Deadline::after(timeout)?;
    let mut socket = open(endpoint, deadline)?;
    let invocation_id = uuid::Uuid::new_v4().to_string();
    send(&mut socket, &announcement())?;
    send(&mut socket, &invocation(&invocation_id, call))?;
    loop {
        let message = match socket.read() {
            Ok(Message::Text(text)) => serde_json::from_str::<Map<String, Value>>(&text),
            Ok(Message::Close(_)) => return Err(CallError::Closed),
            Ok(_) => continue,
            Err(error) => return Err(interrupted(error)),
        };
        if let Some(answer) = message.ok().and_then(|message| answer(message, &invocation_id)) {
            let _ = socket.close(None).and_then(|()| socket.flush());
            return answer;
        }
    }
}

/// Our announcement as a worker (ENG-31). It precedes the call, so that the call is made by a named worker.
fn announcement() -> Value {
    json!({
        "type": "invokefunction",
        "function_id": "engine::workers::register",
        "data": {
            "runtime": "cli",
            "version": crate::VERSION,
            "name": "iii-cli",
            "os": format!("{} ({})", std::env::consts::OS, std::env::consts::ARCH),
            "pid": std::process::id(),
        },
        "action": { "type": "void" },
    })
}

fn invocation(invocation_id: &str, call: Call<'_>) -> Value {
    let mut message = json!({
        "type": "invokefunction",
        "invocation_id": invocation_id,
        "function_id": call.function_id,
        "data": call.payload,
    });
    if let Some(namespace) = call.namespace {
        message["namespace"] = Value::from(namespace);
    }
    message
}

/// The answer in a message, if it is one. An `error` message refuses the whole connection.
fn answer(mut message: Map<String, Value>, invocation_id: &str) -> Option<Result<Option<Value>, CallError>> {
    let kind = message.get("type").and_then(Value::as_str);
    let ours = message.get("invocation_id").and_then(Value::as_str) == Some(invocation_id);
    let refused = kind == Some("error");
    let is_answer = refused || (kind == Some("invocationresult") && ours);
    if !is_answer {
        return None;
    }
    let error = message.shift_remove("error").filter(|error| !error.is_null());
    if refused || error.is_some() {
        let body = error.unwrap_or_default();
        let member = |name: &str| body.get(name).cloned().unwrap_or_default();
        return Some(Err(CallError::Remote(json!({
            "code": member("code"), "message": member("message"), "stacktrace": member("stacktrace"),
        }))));
    }
    Some(Ok(message.shift_remove("result").filter(|result| !result.is_null())))
}

/// JSON with two spaces of indentation, members in the order they arrived.
pub fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).expect("a JSON value can be written as JSON")
}

fn send(socket: &mut WebSocket<Timed>, message: &Value) -> Result<(), CallError> {
    socket.send(Message::text(message.to_string())).map_err(interrupted)
}

fn interrupted(error: tungstenite::Error) -> CallError {
    match error {
        tungstenite::Error::Io(cause) if timed_out(&cause) => CallError::Timeout,
        _ => CallError::Closed,
    }
}

fn open(endpoint: &Endpoint, deadline: Deadline) -> Result<WebSocket<Timed>, CallError> {
    let stream = connect(endpoint, deadline)?;
    match tungstenite::client(endpoint.url(), Timed { stream, deadline }) {
        Ok((socket, _)) => Ok(socket),
        Err(HandshakeError::Interrupted(_)) => Err(CallError::Timeout),
        Err(HandshakeError::Failure(tungstenite::Error::Io(cause))) if timed_out(&cause) => Err(CallError::Timeout),
        Err(HandshakeError::Failure(cause)) => {
            Err(CallError::Handshake { url: endpoint.url(), cause: cause.to_string() })
        }
    }
}

/// Tries every address of the host in turn, so that `localhost` reaches an engine on either loopback address.
fn connect(endpoint: &Endpoint, deadline: Deadline) -> Result<TcpStream, CallError> {
    let failed = |cause| CallError::Connect { url: endpoint.url(), cause };
    let addresses = resolve(endpoint, deadline)?.map_err(failed)?;
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in addresses {
        match TcpStream::connect_timeout(&address, deadline.left()?) {
            Ok(stream) => {
                stream.set_nodelay(true).map_err(failed)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(if timed_out(&last) { CallError::Timeout } else { failed(last) })
}

/// Resolves the host on a thread of its own: the system's resolver knows no deadline.
fn resolve(endpoint: &Endpoint, deadline: Deadline) -> Result<io::Result<Vec<SocketAddr>>, CallError> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let (host, port) = (endpoint.host.clone(), endpoint.port);
    std::thread::spawn(move || {
        let _ = sender.send((host.as_str(), port).to_socket_addrs().map(Iterator::collect));
    });
    receiver.recv_timeout(deadline.left()?).map_err(|_| CallError::Timeout)
}

fn timed_out(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// The moment by which everything must be done.
#[derive(Debug, Clone, Copy)]
struct Deadline(Instant);

impl Deadline {
    /// A deadline too far away for the clock counts as a day.
    fn after(timeout: Duration) -> Result<Deadline, CallError> {
        if timeout.is_zero() {
            return Err(CallError::Timeout);
        }
        Ok(Deadline(Instant::now() + timeout.min(Duration::from_secs(24 * 3600))))
    }

    fn left(self) -> Result<Duration, CallError> {
        let left = self.0.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(CallError::Timeout) } else { Ok(left) }
    }

    fn left_io(self) -> io::Result<Duration> {
        self.left().map_err(|_| io::ErrorKind::TimedOut.into())
    }
}

/// A stream whose every operation ends at the deadline.
struct Timed {
    stream: TcpStream,
    deadline: Deadline,
}

impl Read for Timed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.deadline.left_io()?))?;
        self.stream.read(buffer)
    }
}

impl Write for Timed {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.deadline.left_io()?))?;
        self.stream.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cli_21_urls() {
        let endpoint = |host: &str, port, path: &str| Endpoint { host: host.into(), port, path: path.into() };
        for (url, expected) in [
            ("ws://localhost:49134", Ok(endpoint("localhost", 49134, "/"))),
            ("ws://localhost:49134/", Ok(endpoint("localhost", 49134, "/"))),
            ("ws://[::1]:7", Ok(endpoint("::1", 7, "/"))),
            ("ws://h/x?t=1", Ok(endpoint("h", 80, "/x?t=1"))),
            ("ws://h:7?t=1", Ok(endpoint("h", 7, "/?t=1"))),
            ("http://h", Err("'http://h' is not a ws:// URL".to_owned())),
            ("ws://:7", Err("'ws://:7' names no host".to_owned())),
            ("ws://h:x", Err("'ws://h:x' has no valid port".to_owned())),
        ] {
            assert_eq!(Endpoint::parse(url), expected, "{url}");
        }
        assert_eq!(endpoint("::1", 7, "/").url(), "ws://[::1]:7");
    }

    #[test]
    fn answers_are_told_from_other_messages() {
        let read = |message: Value| answer(message.as_object().expect("object").clone(), "1");
        assert!(read(json!({"type": "workerregistered", "worker_id": "w"})).is_none());
        assert!(read(json!({"type": "invocationresult", "invocation_id": "2", "result": 1})).is_none());
        let result = read(json!({"type": "invocationresult", "invocation_id": "1", "result": {"b": 1, "a": 2}}));
        assert_eq!(result.expect("answer").expect("result"), Some(json!({"b": 1, "a": 2})));
        let result = read(json!({"type": "invocationresult", "invocation_id": "1", "result": null, "error": null}));
        assert_eq!(result.expect("answer").expect("result"), None);
        let refused = read(json!({"type": "error", "error": {"code": "AUTH_ERROR", "message": "no"}}));
        let shown = refused.expect("answer").expect_err("error").to_string();
        assert_eq!(shown, "{\n  \"code\": \"AUTH_ERROR\",\n  \"message\": \"no\",\n  \"stacktrace\": null\n}");
    }
}
