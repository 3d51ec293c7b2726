//! Batch tasks: whom to upgrade with what, when, in which cells, and what follows a failure. Pure.

mod cell;
mod planner;
mod retry;
mod window;

pub use cell::{
    BusyHours, CellRules, Closing, ClosingUpdate, LimitNow, LimitedBy, MAX_BUSY_HOURS,
    MAX_CELL_LIMIT, MAX_REASON, RulesError, RulesUpdate,
};
pub use planner::{Candidate, Due, NotYet, Plan, TaskHead, explain, first_of_each_device, plan};
pub use retry::next_attempt_at;
pub use window::{
    AtEnd, Days, MAX_HOLIDAYS, MAX_WINDOWS, UnknownZone, Window, WindowFault, WindowState,
    WindowZone, Windows, WindowsError, time_zone,
};

use crate::ledger::{TaskId, TaskState, UpgradeId, UpgradeOrder};
