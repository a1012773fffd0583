//! Binary frames that carry telemetry: a four-byte prefix, then an OTLP/JSON export request (PROTO-118).

use super::json;

/// What a telemetry frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// `OTLP`: `resourceSpans`.
    Traces,
    /// `MTRC`: `resourceMetrics`.
    Metrics,
    /// `LOGS`: `resourceLogs`.
    Logs,
}

/// Splits a frame. `None` = it carries no telemetry.
#[inline]
pub fn split(frame: &[u8]) -> Option<(Signal, &[u8])> {
    let (prefix, body) = frame.split_first_chunk::<4>()?;
    let signal = match prefix {
        b"OTLP" => Signal::Traces,
        b"MTRC" => Signal::Metrics,
        b"LOGS" => Signal::Logs,
        _ => return None,
    };
    Some((signal, body))
}

/// Whether a body is JSON text at all; what it means is the sink's affair.
pub fn validate(body: &[u8]) -> Result<(), String> {
    if simdutf8::basic::from_utf8(body).is_err() {
        return Err("telemetry is not valid UTF-8".to_owned());
    }
    json::validate(body).map_err(|error| format!("telemetry: {error}"))
}

/// Numbers per signal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PerSignal {
    /// Of traces.
    pub traces: u64,
    /// Of metrics.
    pub metrics: u64,
    /// Of logs.
    pub logs: u64,
}

impl PerSignal {
    /// The number of a signal.
    pub fn of(&mut self, signal: Signal) -> &mut u64 {
        match signal {
            Signal::Traces => &mut self.traces,
            Signal::Metrics => &mut self.metrics,
            Signal::Logs => &mut self.logs,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // PROTO-118
    #[test]
    fn prefixes() {
        assert_eq!(split(b"OTLP{}"), Some((Signal::Traces, &b"{}"[..])));
        assert_eq!(split(b"MTRC"), Some((Signal::Metrics, &b""[..])));
        assert_eq!(split(b"LOGS1"), Some((Signal::Logs, &b"1"[..])));
        for other in [&b"otlp{}"[..], b"OTL", b"", b"{}"] {
            assert_eq!(split(other), None);
        }
        assert!(validate(br#"{"resourceSpans":[]}"#).is_ok());
        for bad in [&b""[..], b"{", b"{}x", b"\"\xFF\""] {
            assert!(validate(bad).is_err(), "{bad:?}");
        }
    }
}
