//! What is written down: changes, records, and what tasks, upgrades and packages are called. Pure.

mod change;
mod coverage;
mod deadline;
mod evidence;
mod ids;
mod lane;
mod outcome;
mod stage;

pub use change::{
    ActiveUpgrade, Announced, Binding, Change, CoverageReading, CoverageSource, DeviceRecord,
    Lwm2mVersion, QueueMode, Registration, StageChange, UpgradeOrder,
};
pub use coverage::Coverage;
pub use deadline::Deadline;
pub use evidence::{Evidence, FailedIn, ReportedFailure};
pub use ids::{PackageId, RetryPolicy, TaskId, TaskState, UpgradeId};
pub use lane::Lane;
pub use outcome::{Cancellation, Failure, Outcome, StopReason, Success};
pub use stage::Stage;
