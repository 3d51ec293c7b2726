//! Batch tasks: whom to upgrade with what, when, in which cells, and what follows a failure. Pure.

mod budget;
mod cell;
mod confirmed_for;
mod draw;
mod hold;
mod joining;
mod pace;
mod packages;
mod planner;
mod results;
mod retry;
mod rules;
mod share;
mod soak;
mod stand;
mod window;

pub use budget::{
    Budget, MAX_BUDGET_AIRTIME_S, MAX_BUDGET_BYTES, Month, MonthUsage, OverBudget, PutOff,
    Resource, Spent,
};
pub use cell::{
    BusyHours, CellRules, Closing, ClosingUpdate, LimitNow, LimitedBy, MAX_BUSY_HOURS,
    MAX_CELL_LIMIT, MAX_REASON, RulesError, RulesUpdate,
};
pub use confirmed_for::NotThen;
pub use draw::{Census, Deal, Draw, Lot, Place, stratum};
pub use hold::{Hold, HoldReason};
pub use joining::{JOIN_INTERVAL, Membership, Sweeps};
pub use pace::Paces;
pub use packages::{MAX_LISTED, MAX_PACKAGES, PackageRule, PackageRules};
pub use planner::{
    Begin, Candidate, Due, LotHead, Move, NotYet, Plan, Source, TaskHead, explain, plan, that_begin,
};
pub use results::{Results, Verdict};
pub use retry::next_attempt_at;
pub use rules::{
    AbortAction, Confirmation, MAX_PHASES, PhaseRule, Rate, RuleError, TaskRules, Then, Threshold,
    check_reasons,
};
pub use share::{MAX_PRIORITY, MAX_WEIGHT, Queued, Share, ShareNow};
pub use soak::{ASKED_EVERY, Soak, SoakStep, Soaked};
pub use stand::{PUT_OFF_COUNTED, Stand};
pub use window::{
    AtEnd, Days, MAX_HOLIDAYS, MAX_WINDOWS, UnknownZone, Window, WindowFault, WindowState,
    WindowZone, Windows, WindowsError, WindowsForm, time_zone,
};

use crate::ledger::{TakeBack, TaskId, TaskState, UpgradeId, UpgradeOrder};
