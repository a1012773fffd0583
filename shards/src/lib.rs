//! The shard runtime of iii: pure state machines for connections, routing and discovery, and the threads, rings
//! and sockets that drive them.

pub mod builtin;
pub mod channel;
pub mod connection;
pub mod control;
pub mod http;
pub mod ids;
pub mod limits;
pub mod registry;
pub mod ring;
#[cfg(feature = "runtime")]
pub mod runtime;
pub mod session;
pub mod settings;
pub mod shard;
#[cfg(feature = "sim")]
pub mod sim;
pub mod timers;
pub mod wire;
