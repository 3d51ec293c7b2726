//! One device's upgrade, and who may upgrade in a cell at the same time. Pure.

mod coverage;
mod outcome;
mod stage;

pub use coverage::Coverage;
pub use outcome::{Failure, Outcome, Success};
pub use stage::Stage;
