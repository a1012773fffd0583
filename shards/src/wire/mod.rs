//! Bytes to frames to messages, and back. Pure: no sockets, no clock.
//!
//! tungstenite and httparse are named here and nowhere else in the crate.

pub mod codes;
pub mod encode;
pub mod envelope;
pub mod frame;
pub mod handshake;
pub mod json;
pub mod telemetry;
pub mod trace;

pub use tungstenite::protocol::frame::coding::{CloseCode, Control, Data};
