//! Load generator for iii.

fn main() {}
