//! The shard runtime of iii: pure state machines for connections, routing and discovery, and the threads, rings
//! and sockets that drive them.

pub mod ids;
pub mod limits;
pub mod settings;
pub mod wire;
