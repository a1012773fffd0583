//! The shard runtime of iii.

pub mod settings;
