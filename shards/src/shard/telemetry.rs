//! Telemetry frames of workers: checked here, counted, handed to the sink on the control shard (PROTO-118, PROTO-119).

use super::Shard;
use super::mesh::RingMessage;
use crate::control::Report;
use crate::ids::ConnectionId;
use crate::limits::TELEMETRY_BATCH_BYTES_MAX;
use crate::wire::envelope::Malformed;
use crate::wire::telemetry::{self, Signal};

impl Shard {
    /// Policy when the sink falls behind: the frame is dropped and counted. Nobody waits for telemetry.
    pub(super) fn accept_telemetry(&mut self, id: ConnectionId, signal: Signal, body: &[u8]) {
        if let Err(reason) = telemetry::validate(body) {
            return self.note_malformed(id, &Malformed { reason, call: None, result: None });
        }
        *self.counters.telemetry_frames.of(signal) += 1;
        let control = self.control();
        let batch = &mut self.mesh[control.index()];
        if batch.boxed_bytes > 0 && batch.boxed_bytes + body.len() > TELEMETRY_BATCH_BYTES_MAX {
            self.counters.telemetry_dropped += 1;
            return;
        }
        batch.boxed_bytes += body.len();
        let report = Report::Telemetry { connection: id, signal, body: body.into() };
        batch.messages.push(RingMessage::Report(Box::new(report)));
    }
}
