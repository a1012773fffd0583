//! Update operations, as `state::update` and `stream::update` take them (STATE-30 to STATE-38).
//!
//! [`parse`] reads the list, [`apply`] runs it on a document. Both work on raw JSON text: only the objects that a path
//! leads through are taken apart, so whatever an operation does not touch keeps its bytes, and big values cost a scan.

mod apply;
mod document;
mod ops;
#[cfg(test)]
mod tests;

pub use apply::{OpError, Updated, apply, write_errors};
pub use ops::{Op, Path, parse};
