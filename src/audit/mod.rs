//! The audit log: who has changed what, as rows of a chain.
//!
//! An [`Entry`] says what was done, or refused. [`link()`] makes it a row: its number, the hash of the row before, and what it says,
//! as JSON in one form ([`canonical`]). The hash of a row is the SHA-256 of this text. Whoever alters, removes, inserts or swaps a row
//! has to make every later one anew, and then the newest has another hash: the head, and the [`Checkpoint`]s that were taken of it and
//! signed, show that. [`Verifier`] looks at rows one after the other and names the first that is wrong.
//!
//! [`Refused`] folds what was refused, so that it cannot flood the log.

mod canonical;
mod chain;
mod checkpoint;
mod entry;
mod refused;

#[cfg(test)]
mod tests;

pub use canonical::canonical;
pub use chain::{Broken, Hash, Row, Verifier, link};
pub use checkpoint::{Checkpoint, CheckpointError, Key, KeyError};
pub use entry::{Entry, EntryResult, MAX_REASON, MAX_REQUEST, cut};
pub use refused::Refused;
