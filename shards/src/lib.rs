//! The shard runtime of iii.

pub mod http;
pub mod settings;
