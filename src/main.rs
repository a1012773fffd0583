//! The `iii` binary.

fn main() {}
