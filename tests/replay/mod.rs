//! Plays the workers' half of a recorded conversation to a real engine and compares the engine's half.
//!
//! Rows run in file order, so a cause always precedes its effect. A row of the engine is awaited; a row of a worker is sent.
//! Between connections nothing but discovery orders things, so a call to a function of another connection waits until
//! the engine lists that function (or no longer lists it, when its provider has left).
#![allow(clippy::disallowed_methods, reason = "a recording is short, and so is the queue of what came in")]

mod compare;
mod connection;
mod http;
mod row;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use crate::support::{Engine, PATIENCE, RawWorker, Value, eventually, json};
use compare::{Variables, same_frame};
use connection::{Connection, Incoming};
use row::{Direction, Row, Step, read_rows};

/// A way in which our engine may differ from the recording. The table in `transcripts.rs` gives the rule for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowance {
    /// No `registrationrejected`, and the connection stays open.
    NothingIsRejected,
    /// A delivery goes to any connection that provides the function.
    AnyProvider,
    /// A call without `data` is delivered with `data: null` and answered.
    AbsentDataIsNull,
    /// The text after a fixed beginning of an error message is ours.
    OwnMessageAfter(&'static str),
}

/// A call as the engine delivered it: where to, and under which id, if it has one.
struct Delivery {
    connection: String,
    id: Option<String>,
}

/// One run of one recording.
struct Replay<'a> {
    engine: &'a Engine,
    allowed: &'a [Allowance],
    connections: HashMap<String, Connection>,
    incoming: Receiver<(String, Incoming)>,
    sender: Sender<(String, Incoming)>,
    variables: Variables,
    /// Calls delivered to workers, by the id in the recording.
    deliveries: HashMap<String, Delivery>,
    /// Ids in the recording that a worker chose for its call.
    calls: HashSet<String>,
    probe: RawWorker,
}

/// Plays the file and panics, naming the row, where the engine's answers differ.
pub fn replay(file: &Path, engine: &Engine, allowed: &[Allowance]) {
    let (sender, incoming) = channel();
    let mut replay = Replay {
        engine,
        allowed,
        connections: HashMap::new(),
        incoming,
        sender,
        variables: Variables::default(),
        deliveries: HashMap::new(),
        calls: HashSet::new(),
        probe: RawWorker::connect(engine),
    };
    for row in read_rows(file) {
        if let Err(problem) = replay.play(&row) {
            panic!("{}, line {}, {}: {problem}", file.display(), row.line, row.connection);
        }
    }
    replay.nothing_is_left(file);
}

impl Replay<'_> {
    fn play(&mut self, row: &Row) -> Result<(), String> {
        match row.direction {
            Direction::ToEngine => self.play_worker(row),
            Direction::ToWorker => self.play_engine(row),
        }
    }

    // --- the workers' half

    fn play_worker(&mut self, row: &Row) -> Result<(), String> {
        if let Step::Request { path } = &row.step {
            let path = self.variables.fill_text(path);
            let connection = Connection::open(self.engine, &row.connection, &path, self.sender.clone())?;
            self.connections.insert(row.connection.clone(), connection);
            return Ok(());
        }
        if !self.connection(&row.connection)?.is_usable() {
            return Ok(());
        }
        match &row.step {
            Step::Message(frame) if self.connection(&row.connection)?.is_channel() => {
                self.connection(&row.connection)?.send_text(&frame.to_string());
            }
            Step::Message(frame) => self.send_message(row, frame)?,
            Step::Text(text) => self.connection(&row.connection)?.send_text(text),
            Step::Binary(bytes) => self.connection(&row.connection)?.send_binary(bytes),
            Step::Ping(payload) => self.connection(&row.connection)?.send_ping(payload),
            Step::Close(code) => self.connection(&row.connection)?.send_close(*code),
            Step::Eof => self.connection(&row.connection)?.finish(),
            other => return Err(format!("a worker cannot play {other:?}")),
        }
        Ok(())
    }

    fn send_message(&mut self, row: &Row, frame: &Value) -> Result<(), String> {
        let mut name = row.connection.clone();
        let mut filled = self.variables.fill(frame);
        match frame["type"].as_str() {
            Some("invokefunction") => {
                if let Some(id) = frame["invocation_id"].as_str() {
                    self.calls.insert(id.to_owned());
                }
                self.wait_for_target(&name, frame)?;
            }
            Some("invocationresult") => {
                match self.deliveries.get(frame["invocation_id"].as_str().unwrap_or_default()) {
                    // A delivery without id (void) is run by SDKs but not answered.
                    Some(Delivery { id: None, .. }) => return Ok(()),
                    Some(Delivery { connection, id: Some(id) }) => {
                        filled["invocation_id"] = json!(id);
                        if self.connections[connection].is_usable() {
                            name = connection.clone();
                        }
                    }
                    // Nothing was delivered in this run: there is nothing to answer.
                    None => return Ok(()),
                }
            }
            _ => {}
        }
        self.connection(&name)?.send_message(filled);
        if frame["type"] == "invokefunction" && frame.get("data").is_none() && self.allows(Allowance::AbsentDataIsNull)
        {
            self.expect_null_delivery(&row.connection, frame)?;
        }
        Ok(())
    }

    /// The recorded engine lost calls without `data`. Ours delivers them, so the replay plays the provider's part itself.
    fn expect_null_delivery(&mut self, caller: &str, call: &Value) -> Result<(), String> {
        let id = &call["invocation_id"];
        let function = &call["function_id"];
        let provider = self.providers(call).into_iter().next().ok_or("the target has no provider")?;
        let delivery = json!({"type": "invokefunction", "invocation_id": id, "function_id": function, "data": null});
        self.expect_frame(&provider, &delivery)?;
        let given = self.deliveries.get(id.as_str().unwrap_or_default()).and_then(|delivery| delivery.id.clone());
        let result = json!({"echo": null});
        self.connection(&provider)?.send_message(
            json!({"type": "invocationresult", "invocation_id": given, "function_id": function, "result": result}),
        );
        let answer =
            json!({"type": "invocationresult", "invocation_id": id, "function_id": function, "result": result});
        self.expect_frame(caller, &answer)
    }

    /// Connections whose function this call may reach, in order of appearance.
    fn providers(&self, call: &Value) -> Vec<String> {
        let namespace = call["namespace"].as_str().unwrap_or("default");
        let id = call["function_id"].as_str().unwrap_or_default();
        let mut names: Vec<_> = self
            .connections
            .iter()
            .filter(|(_, one)| one.provides(namespace, id))
            .map(|(name, _)| name.clone())
            .collect();
        names.sort();
        names
    }

    fn wait_for_target(&mut self, caller: &str, call: &Value) -> Result<(), String> {
        let id = call["function_id"].as_str().unwrap_or_default();
        let providers = self.providers(call);
        // Calls to the engine, and to oneself, need no waiting: one connection's frames take effect in order.
        if id.starts_with("engine::") || providers.iter().any(|name| name == caller) {
            return Ok(());
        }
        let wanted = providers.len();
        let namespace = call["namespace"].as_str().unwrap_or("default");
        let probe = &mut self.probe;
        eventually(&format!("{id} has {wanted} providers"), || {
            let listed = probe.call("engine::functions::list", json!({"prefix": id, "include_internal": true})).ok()?;
            let found = listed["functions"]
                .as_array()?
                .iter()
                .any(|row| row["function_id"] == id && row["namespace"] == namespace);
            (found == (wanted > 0)).then_some(())
        });
        Ok(())
    }

    // --- the engine's half

    fn play_engine(&mut self, row: &Row) -> Result<(), String> {
        if matches!(row.step, Step::Response) {
            return Ok(()); // compared when the connection was opened
        }
        if !self.connections.contains_key(&row.connection) {
            return Err("a row of a connection that was never opened".to_owned());
        }
        match &row.step {
            Step::ProxyReset => self.connection(&row.connection)?.reset(),
            Step::ProxyClose => {}
            Step::Message(frame) if self.left_out(frame) => {}
            Step::Message(frame) if self.connection(&row.connection)?.is_channel() => {
                self.expect_text(&row.connection, &frame.to_string())?;
            }
            Step::Message(frame) => {
                let pending = http::start_request(self.engine, frame);
                self.expect_frame(&row.connection, frame)?;
                if let Some(pending) = pending {
                    self.connection(&row.connection)?.pending_http.push(pending);
                }
            }
            Step::Text(text) => self.expect_text(&row.connection, text)?,
            Step::Binary(bytes) => self.expect_binary(&row.connection, bytes)?,
            Step::Pong => self.expect_pong(&row.connection)?,
            Step::Close(code) => self.expect_close(&row.connection, *code)?,
            Step::Eof => self.expect_end(&row.connection)?,
            other => return Err(format!("an engine cannot play {other:?}")),
        }
        Ok(())
    }

    fn left_out(&self, frame: &Value) -> bool {
        frame["type"] == "registrationrejected" && self.allows(Allowance::NothingIsRejected)
    }

    /// Waits for a frame that matches, on the recorded connection or, where allowed, on another provider's.
    fn expect_frame(&mut self, connection: &str, expected: &Value) -> Result<(), String> {
        let mut candidates = vec![connection.to_owned()];
        if expected["type"] == "invokefunction" && self.allows(Allowance::AnyProvider) {
            let others = self.providers(expected);
            candidates.extend(others.into_iter().filter(|name| name != connection));
        }
        let deadline = Instant::now() + PATIENCE;
        let mut differences = Vec::new();
        loop {
            for name in &candidates {
                for index in 0..self.connections[name].inbox.len() {
                    let actual = self.connections[name].inbox[index].clone();
                    match self.matches(expected, &actual) {
                        Ok(variables) => {
                            self.variables = variables;
                            self.connection(name)?.inbox.remove(index);
                            self.note_delivery(name, expected, &actual);
                            return Ok(());
                        }
                        Err(difference) => differences.push(format!("{difference}, in {actual}")),
                    }
                }
            }
            differences.dedup();
            if !self.pump(deadline) {
                let waiting: Vec<_> = self.connections.iter().map(|(name, one)| (name, &one.inbox)).collect();
                let waiting = format!("{waiting:?}");
                let filled = self.variables.fill(expected);
                return Err(format!("expected {filled}\nwaiting frames: {waiting}\ndifferences: {differences:#?}"));
            }
        }
    }

    fn matches(&self, expected: &Value, actual: &Value) -> Result<Variables, String> {
        let by_worker = self.calls.contains(expected["invocation_id"].as_str().unwrap_or_default());
        let message_head = self.allowed.iter().find_map(|allowance| match allowance {
            Allowance::OwnMessageAfter(head) => Some(*head),
            _ => None,
        });
        let mut variables = self.variables.clone();
        same_frame(expected, actual, by_worker, message_head, &mut variables)?;
        Ok(variables)
    }

    fn note_delivery(&mut self, connection: &str, expected: &Value, actual: &Value) {
        if expected["type"] == "invokefunction"
            && let Some(recorded) = expected["invocation_id"].as_str()
        {
            let id = actual["invocation_id"].as_str().map(str::to_owned);
            let delivery = Delivery { connection: connection.to_owned(), id };
            self.deliveries.insert(recorded.to_owned(), delivery);
        }
    }

    fn expect_text(&mut self, name: &str, expected: &str) -> Result<(), String> {
        self.wait_on(name, "a text frame", |connection| {
            let text = connection.texts.pop_front()?;
            Some(if text == expected { Ok(()) } else { Err(format!("expected text {expected:?}, got {text:?}")) })
        })
    }

    fn expect_binary(&mut self, name: &str, expected: &[u8]) -> Result<(), String> {
        self.wait_on(name, "a binary frame", |connection| {
            let bytes = connection.binaries.pop_front()?;
            Some(if bytes == expected { Ok(()) } else { Err(format!("expected {expected:?}, got {bytes:?}")) })
        })
    }

    fn expect_pong(&mut self, name: &str) -> Result<(), String> {
        // The recorded engine sent every pong twice; once is right, so the second row is already satisfied.
        if self.connection(name)?.pongs_expected() == 0 {
            return Ok(());
        }
        self.wait_on(name, "a pong", |connection| connection.take_pong().then_some(Ok(())))
    }

    fn expect_close(&mut self, name: &str, code: Option<u16>) -> Result<(), String> {
        if self.allows(Allowance::NothingIsRejected) && !self.connection(name)?.is_channel() {
            return Ok(());
        }
        self.wait_on(name, "a Close frame", |connection| {
            let found = connection.close?;
            Some(if found == code { Ok(()) } else { Err(format!("expected Close {code:?}, got {found:?}")) })
        })
    }

    fn expect_end(&mut self, name: &str) -> Result<(), String> {
        let connection = self.connection(name)?;
        if connection.is_reset() {
            return Ok(());
        }
        // The two ends may have crossed on the wire, or the recorded engine ended it and ours has no reason to.
        if connection.is_usable() && !connection.has_said_goodbye() {
            connection.finish();
        }
        self.wait_on(name, "the end of the connection", |connection| connection.ended.then_some(Ok(())))
    }

    fn wait_on<T>(
        &mut self,
        name: &str,
        what: &str,
        mut ready: impl FnMut(&mut Connection) -> Option<Result<T, String>>,
    ) -> Result<T, String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(outcome) = ready(self.connection(name)?) {
                return outcome;
            }
            if !self.pump(deadline) {
                return Err(format!("waited in vain for {what}"));
            }
        }
    }

    /// Takes one event from the engine; `false` when none came in time.
    fn pump(&mut self, deadline: Instant) -> bool {
        let left = deadline.saturating_duration_since(Instant::now());
        let Ok((name, event)) = self.incoming.recv_timeout(left) else { return false };
        if let Some(connection) = self.connections.get_mut(&name) {
            connection.take_in(event);
        }
        true
    }

    /// At the end every frame of the engine must have had a row.
    fn nothing_is_left(&mut self, file: &Path) {
        while self.pump(Instant::now() + Duration::from_millis(50)) {}
        for (name, connection) in &self.connections {
            assert!(
                connection.inbox.is_empty(),
                "{}, {name}: frames without a row: {:?}",
                file.display(),
                connection.inbox
            );
            for pending in &connection.pending_http {
                pending.check();
            }
        }
    }

    fn connection(&mut self, name: &str) -> Result<&mut Connection, String> {
        self.connections.get_mut(name).ok_or_else(|| format!("connection {name} was never opened"))
    }

    fn allows(&self, allowance: Allowance) -> bool {
        self.allowed.contains(&allowance)
    }
}
