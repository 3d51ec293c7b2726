//! Batch tasks: whom to upgrade with what, when, and what follows a failure. Pure.

mod planner;
mod retry;
mod window;

pub use planner::{Candidate, Due, NotYet, Plan, TaskHead, explain, first_of_each_device, plan};
pub use retry::next_attempt_at;
pub use window::{
    AtEnd, Days, MAX_HOLIDAYS, MAX_WINDOWS, UnknownZone, Window, WindowFault, WindowState,
    WindowZone, Windows, WindowsError, time_zone,
};

use crate::ledger::{TaskId, TaskState, UpgradeId, UpgradeOrder};
