//! One device's upgrade, and who may upgrade in a cell at the same time. Pure.

mod admission;
mod coverage;
mod deadline;
mod evidence;
mod outcome;
mod sota;
mod stage;

pub use admission::{Admission, Readiness, Step};
pub use coverage::Coverage;
pub use deadline::Deadline;
pub use evidence::{Claim, Credence, Evidence, EvidenceList, FailedIn, ReportedFailure, Sign};
pub use outcome::{Cancellation, Failure, Outcome, Success};
pub use sota::{Action, Event, Place, Rules, Sota, StopReason, Stored};
pub use stage::Stage;
