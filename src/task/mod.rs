//! Batch tasks: whom to upgrade with what, when, and what follows a failure. Pure.

mod planner;
mod retry;

pub use planner::{Candidate, NotYet, plan};
pub use retry::next_attempt_at;

use crate::ledger::{TaskState, UpgradeId};
