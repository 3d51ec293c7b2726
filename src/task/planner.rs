use super::{TaskState, UpgradeId};
use crate::clock::UtcMillis;

/// An upgrade that has not begun, or waits for its next attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The upgrade.
    pub upgrade: UpgradeId,
    /// Where its task stands.
    pub task_state: TaskState,
    /// Not before this time: the task's start, or the next attempt.
    pub not_before: UtcMillis,
    /// Another upgrade of the same device that has begun and not ended.
    pub device_busy_with: Option<UpgradeId>,
}

/// Why an upgrade may not begin yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotYet {
    /// The task's start time has not come.
    TaskScheduled(UtcMillis),
    /// The task was stopped or has ended.
    TaskNotRunning(TaskState),
    /// The pause after a failure is not over.
    Until(UtcMillis),
    /// A device does one upgrade at a time.
    DeviceBusy(UpgradeId),
}

/// Whether `candidate` may begin at `now`, and if not, why.
pub fn plan(candidate: &Candidate, now: UtcMillis) -> Result<(), NotYet> {
    match candidate.task_state {
        TaskState::Running => {}
        TaskState::Scheduled => return Err(NotYet::TaskScheduled(candidate.not_before)),
        state => return Err(NotYet::TaskNotRunning(state)),
    }
    if candidate.not_before > now {
        return Err(NotYet::Until(candidate.not_before));
    }
    match candidate.device_busy_with {
        Some(other) => Err(NotYet::DeviceBusy(other)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_why_an_upgrade_does_not_begin() {
        let ready = Candidate {
            upgrade: UpgradeId(1),
            task_state: TaskState::Running,
            not_before: UtcMillis(100),
            device_busy_with: None,
        };
        let now = UtcMillis(100);
        assert_eq!(plan(&ready, now), Ok(()));
        assert_eq!(
            plan(&ready, UtcMillis(99)),
            Err(NotYet::Until(UtcMillis(100)))
        );
        let scheduled = Candidate {
            task_state: TaskState::Scheduled,
            ..ready.clone()
        };
        assert_eq!(
            plan(&scheduled, now),
            Err(NotYet::TaskScheduled(UtcMillis(100)))
        );
        let stopping = Candidate {
            task_state: TaskState::Stopping,
            ..ready.clone()
        };
        assert_eq!(
            plan(&stopping, now),
            Err(NotYet::TaskNotRunning(TaskState::Stopping))
        );
        let busy = Candidate {
            device_busy_with: Some(UpgradeId(7)),
            ..ready
        };
        assert_eq!(plan(&busy, now), Err(NotYet::DeviceBusy(UpgradeId(7))));
    }
}
