//! iii: a thread-per-core engine for workers, functions and triggers.
