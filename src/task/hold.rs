use serde::{Deserialize, Serialize};

use crate::clock::UtcMillis;

/// Why a task begins no further upgrade until somebody says so. What runs goes on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hold {
    /// Why.
    #[serde(flatten)]
    pub why: HoldReason,
    /// Since when.
    #[serde(with = "crate::clock::rfc3339")]
    pub at: UtcMillis,
}

/// Who holds a task, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum HoldReason {
    /// An operator paused it.
    Paused {
        /// What he said of it.
        #[serde(skip_serializing_if = "Option::is_none")]
        note: Option<String>,
    },
    /// A threshold of failures was reached.
    Failures {
        /// Failures that count.
        failed: u64,
        /// Devices with a result.
        results: u64,
        /// Number of the threshold among the task's, from 0.
        threshold: usize,
    },
    /// A phase has come true, and somebody is to have a look before the next.
    PhaseDone {
        /// The phase, from 0.
        phase: u32,
    },
    /// All devices of a phase have a result, and too few succeeded.
    PhaseFailed {
        /// The phase, from 0.
        phase: u32,
        /// Devices that succeeded.
        succeeded: u64,
        /// Devices with a result.
        results: u64,
    },
    /// It is not approved yet.
    Approval,
}

impl HoldReason {
    /// A stable word for programs.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Paused { .. } => "paused",
            Self::Failures { .. } => "failures",
            Self::PhaseDone { .. } => "phase_done",
            Self::PhaseFailed { .. } => "phase_failed",
            Self::Approval => "approval",
        }
    }
}
