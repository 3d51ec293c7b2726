//! Batch tasks: whom to upgrade with what, when, and what follows a failure. Pure.

mod planner;

pub use planner::{Candidate, NotYet, plan};

use crate::ledger::{TaskState, UpgradeId};
