//! How many upgrades of a task stand where, in six words.

use serde::Serialize;
use utoipa::ToSchema;

use crate::{ledger::Stage, store::UpgradeState};

/// How many upgrades of a task stand where, whatever their devices speak. Together they are the `total`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, ToSchema)]
pub(super) struct TaskSummary {
    /// Their devices were not offered the version yet.
    pending: u64,
    /// Their devices were offered the version, and do not have all of it.
    pushed: u64,
    /// Their devices have all of it, and are to install it.
    upgrading: u64,
    /// Their devices run the version.
    succeeded: u64,
    /// Their devices do not, or nobody knows.
    failed: u64,
    /// Nobody wants them any more.
    cancelled: u64,
}

impl TaskSummary {
    pub(super) fn of(count: impl Fn(UpgradeState) -> u64) -> Self {
        let mut summary = Self::default();
        for state in UpgradeState::all() {
            let place = match state {
                UpgradeState::Active(Stage::Downloading) => &mut summary.pushed,
                UpgradeState::Active(Stage::Executing) => &mut summary.upgrading,
                UpgradeState::Pending | UpgradeState::Active(_) => &mut summary.pending,
                UpgradeState::Succeeded => &mut summary.succeeded,
                UpgradeState::Failed => &mut summary.failed,
                UpgradeState::Cancelled => &mut summary.cancelled,
            };
            *place += count(state);
        }
        summary
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_upgrade_is_counted_once() {
        let summary = TaskSummary::of(|_| 1);
        let counted = [
            summary.pending,
            summary.pushed,
            summary.upgrading,
            summary.succeeded,
            summary.failed,
            summary.cancelled,
        ];
        assert_eq!(counted, [6, 1, 1, 1, 1, 1]);
        let states = u64::try_from(UpgradeState::all().count()).unwrap();
        assert_eq!(counted.iter().sum::<u64>(), states);
    }
}
