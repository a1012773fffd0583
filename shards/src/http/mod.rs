//! HTTP/1.1 as pure state machines: bytes and milliseconds in, events and bytes out.
//!
//! Owner: the shard that accepted the socket. Nothing here knows sockets, a clock, randomness or other threads.
//! Invariant: a byte of input belongs to exactly one request; whatever leaves doubt about that (two framings, a bare
//! line feed, a folded header) is refused and costs the connection, so nothing can smuggle one request in another.
//! Deliberately absent: HTTP/2, TLS, `Upgrade`, content codings.
//!
//! ```text
//! bytes ─► exchange ─► head, body ─► Event ─► router ─► request (JSON for the function)
//! bytes ◄─ exchange ◄─ response, cors, headers ◄─────── handler's JSON result, channel frames
//! ```

pub mod body;
pub mod cors;
pub mod date;
pub mod exchange;
pub mod head;
pub mod headers;
pub mod json;
pub mod limits;
pub mod method;
pub mod query;
pub mod request;
pub mod response;
pub mod route;
pub mod router;
pub mod status;
pub mod stream;
