//! One device's upgrade, and who may upgrade in a cell at the same time. Pure.

mod admission;
mod evidence;
mod sota;

pub use admission::{Admission, Readiness, Step};
pub use evidence::{Claim, Credence, EvidenceList, Sign};
pub use sota::{Action, Event, Place, Rules, Sota, Stored};

use crate::ledger::{
    Cancellation, Coverage, Deadline, Failure, Outcome, ReportedFailure, Stage, StopReason, Success,
};
