//! Batch tasks: whom to upgrade with what, when, and what follows a failure. Pure.

mod draw;
mod hold;
mod pace;
mod planner;
mod results;
mod retry;
mod rules;
mod stand;
mod window;

pub use draw::{Deal, Draw, Lot};
pub use hold::{Hold, HoldReason};
pub use pace::Paces;
pub use planner::{
    Candidate, Due, LotHead, Move, NotYet, Plan, Source, TaskHead, explain, plan, that_begin,
};
pub use results::{Results, Verdict};
pub use retry::next_attempt_at;
pub use rules::{AbortAction, PhaseRule, Rate, RuleError, TaskRules, Then, Threshold};
pub use stand::Stand;
pub use window::{
    AtEnd, Days, MAX_HOLIDAYS, MAX_WINDOWS, UnknownZone, Window, WindowFault, WindowState,
    WindowZone, Windows, WindowsError, time_zone,
};

use crate::ledger::{TaskId, TaskState, UpgradeId, UpgradeOrder};
