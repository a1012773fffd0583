//! Rows of a recording, decoded into steps.

use std::path::Path;

use crate::support::Value;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    ToEngine,
    ToWorker,
}

#[derive(Debug)]
pub struct Row {
    pub line: usize,
    pub direction: Direction,
    pub connection: String,
    pub step: Step,
}

#[derive(Debug)]
pub enum Step {
    Request {
        path: String,
    },
    Response,
    /// A text frame that is JSON.
    Message(Value),
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    Close(Option<u16>),
    Eof,
    /// The recording relay closed the worker's side in the engine's name; the engine took no part.
    ProxyClose,
    /// The recording relay reset the connection.
    ProxyReset,
}

pub fn read_rows(file: &Path) -> Vec<Row> {
    let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    text.lines().enumerate().map(|(index, line)| read_row(index + 1, line)).collect()
}

fn read_row(line: usize, text: &str) -> Row {
    let row: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("line {line}: {error}"));
    let direction = match row["dir"].as_str() {
        Some("worker>engine") => Direction::ToEngine,
        Some("engine>worker") => Direction::ToWorker,
        other => panic!("line {line}: direction {other:?}"),
    };
    let connection = row["conn"].as_str().expect("conn is a string").to_owned();
    Row { line, direction, connection, step: read_step(line, &row["frame"]) }
}

fn read_step(line: usize, frame: &Value) -> Step {
    let by_proxy = frame["by"] == "proxy";
    match frame["$ws"].as_str() {
        None => Step::Message(frame.clone()),
        Some("request") => {
            let request = frame["line"].as_str().expect("line is a string");
            Step::Request { path: request.split(' ').nth(1).expect("a request line has a path").to_owned() }
        }
        Some("response") => Step::Response,
        Some("binary") => Step::Binary(read_bytes(line, frame)),
        Some("text") => Step::Text(frame["utf8"].as_str().unwrap_or_default().to_owned()),
        Some("ping") => Step::Ping(frame["payload"].as_str().unwrap_or_default().into()),
        Some("pong") => Step::Pong,
        Some("close") if by_proxy => Step::ProxyClose,
        Some("close") => Step::Close(frame["code"].as_u64().map(|code| code as u16)),
        Some("eof") => Step::Eof,
        Some("reset") if by_proxy => Step::ProxyReset,
        Some(other) => panic!("line {line}: unknown event {other}"),
    }
}

fn read_bytes(line: usize, frame: &Value) -> Vec<u8> {
    if let Some(prefix) = frame["prefix"].as_str() {
        return format!("{prefix}{}", frame["json"]).into_bytes();
    }
    if let Some(text) = frame["utf8"].as_str() {
        return text.as_bytes().to_vec();
    }
    let hex = frame["hex"].as_str().unwrap_or_else(|| panic!("line {line}: a binary frame without content"));
    let digits: Vec<u8> = hex.bytes().map(|digit| (digit as char).to_digit(16).expect("hex digits") as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}
