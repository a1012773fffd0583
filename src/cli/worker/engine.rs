//! The engine a verb talks to.

use std::time::Duration;

use serde_json::Value;

use super::Failure;
use crate::cli::trigger::client::{self, Call, CallError, Endpoint};

/// Where an engine is.
#[derive(Debug, Clone)]
pub struct Remote {
    endpoint: Endpoint,
}

/// Why an engine did not do it.
#[derive(Debug)]
pub enum RemoteError {
    /// Nobody answers.
    Unreachable(String),
    /// It says no, in these words.
    Refused(String),
}

impl From<RemoteError> for Failure {
    fn from(error: RemoteError) -> Failure {
        Failure(match error {
            RemoteError::Unreachable(text) => text,
            RemoteError::Refused(message) => message,
        })
    }
}

// === impl Remote ===

impl Remote {
    /// At this address.
    pub fn new(host: &str, port: u16) -> Remote {
        Remote { endpoint: Endpoint { host: host.to_owned(), port, path: "/".to_owned() } }
    }

    /// At `HOST[:PORT]` or a `ws://` URL.
    pub fn parse(text: &str, port: u16) -> Result<Remote, Failure> {
        if text.contains("://") {
            return Ok(Remote { endpoint: Endpoint::parse(text).map_err(Failure)? });
        }
        let has_port =
            text.rsplit_once(':').is_some_and(|(host, port)| port.parse::<u16>().is_ok() && !host.contains(':'))
                || text.contains("]:");
        let url = if has_port { format!("ws://{text}") } else { format!("ws://{text}:{port}") };
        Ok(Remote { endpoint: Endpoint::parse(&url).map_err(Failure)? })
    }

    /// Whether it is this machine.
    pub fn is_local(&self) -> bool {
        let host = self.endpoint.host.as_str();
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }

    /// Its URL.
    pub fn url(&self) -> String {
        self.endpoint.url()
    }

    /// Calls one of its functions.
    pub fn call(&self, function_id: &str, payload: Value, timeout: Duration) -> Result<Value, RemoteError> {
        let call = Call { function_id, namespace: None, payload };
        match client::call(&self.endpoint, call, timeout) {
            Ok(result) => Ok(result.unwrap_or_default()),
            Err(CallError::Remote(body)) => Err(refused(&body)),
            Err(error) => Err(RemoteError::Unreachable(error.to_string())),
        }
    }
}

/// The message of an operation is itself JSON (MW-61).
fn refused(body: &Value) -> RemoteError {
    let text = body["message"].as_str().unwrap_or_default();
    let inner: Value = serde_json::from_str(text).unwrap_or_default();
    RemoteError::Refused(inner["message"].as_str().unwrap_or(text).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    // MW-44
    #[test]
    fn hosts_are_read_in_all_their_forms() {
        for (text, expected) in [
            ("h", "ws://h:49134"),
            ("h:5", "ws://h:5"),
            ("10.0.0.1", "ws://10.0.0.1:49134"),
            ("[::1]:7", "ws://[::1]:7"),
            ("[::1]", "ws://[::1]:49134"),
            ("ws://h:9", "ws://h:9"),
        ] {
            let remote = Remote::parse(text, 49134).unwrap_or_else(|Failure(error)| panic!("{text}: {error}"));
            assert_eq!(remote.url(), expected, "{text}");
        }
        assert!(Remote::new("127.0.0.1", 1).is_local() && !Remote::new("h", 1).is_local());
    }
}
