//! Rings between shards: bounded, lock-free, one producer and one consumer each; and the signal that wakes a
//! sleeping consumer at most once.
//!
//! Imports nothing of ours. All atomics come through [`sync`], so loom can check every interleaving. This folder
//! and `runtime` hold the crate's unsafe code.

pub mod mesh;
pub mod signal;
pub mod spsc;
mod sync;
