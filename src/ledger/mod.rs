//! What is written down: changes, records, and what tasks, upgrades and packages are called. Pure.

mod attributes;
mod change;
mod conditions;
mod coverage;
mod deadline;
mod device_id;
mod evidence;
mod facts;
mod ids;
mod lane;
mod learnt;
mod line;
mod mean;
mod outcome;
mod protocol;
mod pull_token;
mod refusal;
mod rhythm;
mod stage;
mod traffic;
mod update_object;
mod via;
mod ways;

pub use attributes::{
    Attribute, AttributeColumn, AttributeError, Attributes, AttributesChange, AttributesChanged,
    MAX_TAG_KEY, MAX_TAG_VALUE, MAX_TAGS, check_tag_key, time_zones,
};
pub use change::{
    ActiveUpgrade, Announced, Binding, Change, CoverageReading, CoverageSource, DeviceRecord,
    Lwm2mVersion, Progress, QueueMode, Registration, Served, StageChange, TakeBack, UpgradeOrder,
};
pub use conditions::Conditions;
pub use coverage::Coverage;
pub use deadline::Deadline;
pub use device_id::{DeviceId, DeviceIds};
pub use evidence::{Evidence, FailedIn, MAX_VERSIONS, ReportedFailure, Unhealthy};
pub use facts::{
    Facts, Fate, Inbound, Last, Limit, MAX_DESCRIPTION, MAX_WANTED, Outbound, Queue, Said, Sent,
    Told, Wanted,
};
pub use ids::{PackageId, Reasons, RetryPolicy, TaskId, TaskState, UpgradeId};
pub use lane::{Further, Home, Lane};
pub use learnt::{DownloadPace, Learnt, ProductHabits, Standby};
pub use line::{
    Asked, Doubt, Explanation, Form, Happened, Line, Misread, Postponed, Question, Repeated,
};
pub use mean::Mean;
pub use outcome::{Cancellation, Failure, Outcome, StopReason, Success};
pub use protocol::Protocol;
pub use pull_token::PullToken;
pub use refusal::Refusal;
pub use rhythm::{Appointment, UpdateTimer, WakeUps};
pub use stage::Stage;
pub use traffic::{HEADER_BYTES, RECORD_BYTES, Traffic, Usage, airtime_ms};
pub use update_object::{UpdateObject, UpdateStep, WhyObject};
pub use via::{MAX_CHILDREN, Relative, Via, ViaError, check_via};
pub use ways::Ways;
