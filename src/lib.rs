//! iii: a thread-per-core engine for workers, functions and triggers.

pub mod cli;
pub mod config;
pub mod egress;
pub mod engine;
mod logging;
mod memory;
pub mod processes;
pub mod reload;
pub mod store;
mod suggest;
pub mod workers;

/// The version of this engine, as `iii --version` prints it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
