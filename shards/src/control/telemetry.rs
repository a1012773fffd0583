//! Where telemetry of workers ends up. Today it is counted and let go.

use crate::ids::ConnectionId;
use crate::wire::telemetry::{PerSignal, Signal};

/// Takes every accepted telemetry frame of the engine.
#[derive(Debug, Default)]
pub struct TelemetrySink {
    frames: PerSignal,
    bytes: PerSignal,
}

impl TelemetrySink {
    /// An OTLP/JSON export request, valid JSON, from a connection on `/` or `/otel`.
    pub fn accept(&mut self, _from: ConnectionId, signal: Signal, body: &[u8]) {
        *self.frames.of(signal) += 1;
        *self.bytes.of(signal) += body.len() as u64;
    }

    /// Frames taken.
    pub fn frames(&self) -> PerSignal {
        self.frames
    }

    /// Bytes taken, prefixes aside.
    pub fn bytes(&self) -> PerSignal {
        self.bytes
    }
}
