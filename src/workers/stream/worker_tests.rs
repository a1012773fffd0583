//! The instance as a whole, on the fake host.
