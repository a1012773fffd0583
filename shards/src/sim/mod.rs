//! The simulator: real shards and the real control on a machine made of queues, driven by one seed.
//!
//! ```text
//! swarm (scripted workers) ─► world (clock, links, rings) ─► Shard × n, Control
//!    └──────────► ledger (what must hold) ◄── everything the engine writes
//! ```
//!
//! [`scenario`] speaks for a few workers on a calm machine: one behaviour per test. [`swarm`] lets many workers do
//! anything they may and may not do on a machine where bytes arrive in pieces, rings are full, peers read slowly or
//! not at all and links break. No sockets, no clock, no threads: a seed is a whole run.

pub mod client;
pub mod dice;
pub mod ledger;
mod letters;
pub mod scenario;
pub mod swarm;
pub mod world;
