//! Batch tasks: whom to upgrade with what, when, and what follows a failure. Pure.

mod planner;
mod retry;

pub use planner::{Candidate, Due, NotYet, Plan, TaskHead, explain, first_of_each_device, plan};
pub use retry::next_attempt_at;

use crate::ledger::{TaskId, TaskState, UpgradeId, UpgradeOrder};
