//! What tasks, upgrades and packages are called, where a task stands, and what it wants after a failure.

use serde::{Deserialize, Serialize};

use super::Outcome;

/// Identifies a task. Numbers are given by the store and never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TaskId(pub i64);

/// Identifies one device's upgrade within a task. Numbers are given by the store and never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UpgradeId(pub i64);

/// Identifies an uploaded package. Numbers are given by the store and never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PackageId(pub i64);

/// Where a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// Its start time has not come.
    Scheduled,
    /// Upgrades are started and go on.
    Running,
    /// It was stopped; upgrades that run are being ended.
    Stopping,
    /// It was stopped and no upgrade runs.
    Stopped,
    /// Every upgrade has ended.
    Finished,
}

impl TaskState {
    /// The name used in the API and the store.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Finished => "finished",
        }
    }

    /// The state of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [
            Self::Scheduled,
            Self::Running,
            Self::Stopping,
            Self::Stopped,
            Self::Finished,
        ]
        .into_iter()
        .find(|state| state.name() == name)
    }

    /// Whether upgrades of it may still begin.
    pub const fn may_begin(self) -> bool {
        matches!(self, Self::Scheduled | Self::Running)
    }

    /// Whether upgrades of the task may be running: such a task cannot be deleted.
    pub const fn is_running(self) -> bool {
        matches!(self, Self::Running | Self::Stopping)
    }
}

/// What follows a failed upgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// Further attempts after the first one; 0 turns retries off.
    pub attempts: u32,
    /// Pause between a failure and the next attempt, seconds.
    pub interval_s: u32,
    /// Failures that are tried again.
    #[serde(default)]
    pub reasons: Reasons,
}

/// Some of the reasons for which an attempt may end ([`Outcome::REASONS`]), or any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Reasons(
    /// A bit for each; none stands for all.
    u64,
);

impl Reasons {
    /// These; any where there are none. Words that are no reasons are left out.
    pub fn of<'r>(reasons: impl IntoIterator<Item = &'r str>) -> Self {
        let bit = |reason: &str| Outcome::REASONS.iter().position(|known| *known == reason);
        let bits = reasons.into_iter().filter_map(bit);
        Self(bits.fold(0, |bits, bit| bits | 1 << bit))
    }

    /// Whether that reason is one of them.
    pub fn has(self, reason: &str) -> bool {
        self.0 == 0 || self.0 & Self::of([reason]).0 != 0
    }

    /// Their words; none where any is meant.
    pub fn words(self) -> impl Iterator<Item = &'static str> {
        let reasons = Outcome::REASONS.into_iter().enumerate();
        let chosen = reasons.filter(move |(bit, _)| self.0 & 1 << bit != 0);
        chosen.map(|(_, reason)| reason)
    }
}

// a bit for each
const _: () = assert!(Outcome::REASONS.len() <= 64);
