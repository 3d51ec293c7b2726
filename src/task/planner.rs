//! What may begin now, and why the rest may not.
//!
//! The store tells of each task that has not ended where it stands and what of it is due ([`TaskHead`]); [`plan`] says which
//! tasks begin, and which may start upgrades. Of what is due in these, each device does the upgrade that has been due longest
//! ([`first_of_each_device`]). So a task that may start nothing holds no device.

use std::collections::HashSet;

use super::{TaskId, TaskState, UpgradeId, UpgradeOrder};
use crate::clock::UtcMillis;

/// A task that has not ended, and the head of what waits in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TaskHead {
    /// The task.
    pub task: TaskId,
    /// Where it stands.
    pub state: TaskState,
    /// When it starts, or started.
    pub start_at: UtcMillis,
    /// Its upgrades that wait, for their first attempt or the next one.
    pub waiting: u64,
    /// Its upgrades that run.
    pub running: u64,
    /// Of its upgrades that are due on a device that is free, the one that has been due longest: since when, and its number.
    pub first_due: Option<(UtcMillis, UpgradeId)>,
}

/// What may happen now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Tasks whose start time has come.
    pub begin: Vec<TaskId>,
    /// Tasks that may start upgrades and have some that are due, in the order in which their first became so.
    pub start: Vec<TaskId>,
}

/// An upgrade that is due, on a device that is free.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// Since when.
    pub since: UtcMillis,
    /// What is to be done.
    pub order: UpgradeOrder,
}

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

/// What may happen at `now`.
pub fn plan(heads: &[TaskHead], now: UtcMillis) -> Plan {
    let begins = |head: &&TaskHead| head.state == TaskState::Scheduled && head.start_at <= now;
    let mut start: Vec<_> = (heads.iter())
        .filter(|head| may_start(head.state, head.start_at).is_ok())
        .filter_map(|head| head.first_due.map(|first| (first, head.task)))
        .filter(|((since, _), _)| *since <= now)
        .collect();
    start.sort_unstable();
    Plan {
        begin: heads.iter().filter(begins).map(|head| head.task).collect(),
        start: start.into_iter().map(|(_, task)| task).collect(),
    }
}

/// Of upgrades that are due, in the order in which they became so, those that begin: a device does one at a time.
pub fn first_of_each_device(due: Vec<Due>) -> Vec<UpgradeOrder> {
    let mut devices = HashSet::new();
    (due.into_iter())
        .map(|due| due.order)
        .filter(|order| devices.insert(order.endpoint.clone()))
        .collect()
}

/// Whether `candidate` may begin at `now`, and if not, why.
pub fn explain(candidate: &Candidate, now: UtcMillis) -> Result<(), NotYet> {
    may_start(candidate.task_state, candidate.not_before)?;
    if candidate.not_before > now {
        return Err(NotYet::Until(candidate.not_before));
    }
    match candidate.device_busy_with {
        Some(other) => Err(NotYet::DeviceBusy(other)),
        None => Ok(()),
    }
}

/// Whether a task may start upgrades, and if not, why.
fn may_start(state: TaskState, start_at: UtcMillis) -> Result<(), NotYet> {
    match state {
        TaskState::Running => Ok(()),
        TaskState::Scheduled => Err(NotYet::TaskScheduled(start_at)),
        state => Err(NotYet::TaskNotRunning(state)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{PackageId, RetryPolicy, Standby};

    const NOW: UtcMillis = UtcMillis(100);

    fn head(task: i64, state: TaskState, first_due: Option<(i64, i64)>) -> TaskHead {
        TaskHead {
            task: TaskId(task),
            state,
            start_at: UtcMillis(100),
            waiting: 1,
            running: 0,
            first_due: first_due.map(|(since, id)| (UtcMillis(since), UpgradeId(id))),
        }
    }

    #[test]
    fn tasks_start_in_the_order_in_which_their_upgrades_became_due() {
        let heads = [
            head(1, TaskState::Running, Some((90, 7))),
            head(2, TaskState::Running, Some((80, 9))),
            head(3, TaskState::Running, Some((90, 3))),
            head(4, TaskState::Running, None),
            head(5, TaskState::Running, Some((101, 1))),
            head(6, TaskState::Stopping, Some((1, 2))),
            head(7, TaskState::Scheduled, Some((1, 4))),
        ];
        let planned = plan(&heads, NOW);
        assert_eq!(planned.start, [2, 3, 1].map(TaskId));
        // its time has come; what is due in it starts when it runs
        assert_eq!(planned.begin, [TaskId(7)]);
        assert_eq!(plan(&heads, UtcMillis(99)).begin, []);
    }

    #[test]
    fn a_device_does_what_has_been_due_longest() {
        let due = |upgrade, endpoint: &str| Due {
            since: UtcMillis(upgrade),
            order: UpgradeOrder {
                upgrade: UpgradeId(upgrade),
                task: TaskId(1),
                endpoint: endpoint.to_owned(),
                package: PackageId(1),
                attempt: 1,
                retry: RetryPolicy::default(),
                kept_awake: Standby::default(),
            },
        };
        let orders = first_of_each_device(vec![due(1, "a"), due(2, "b"), due(3, "a")]);
        let upgrades: Vec<i64> = orders.iter().map(|order| order.upgrade.0).collect();
        assert_eq!(upgrades, [1, 2]);
    }

    #[test]
    fn says_why_an_upgrade_does_not_begin() {
        let ready = Candidate {
            upgrade: UpgradeId(1),
            task_state: TaskState::Running,
            not_before: NOW,
            device_busy_with: None,
        };
        assert_eq!(explain(&ready, NOW), Ok(()));
        assert_eq!(
            explain(&ready, UtcMillis(99)),
            Err(NotYet::Until(UtcMillis(100)))
        );
        let scheduled = Candidate {
            task_state: TaskState::Scheduled,
            ..ready.clone()
        };
        assert_eq!(
            explain(&scheduled, NOW),
            Err(NotYet::TaskScheduled(UtcMillis(100)))
        );
        let stopping = Candidate {
            task_state: TaskState::Stopping,
            ..ready.clone()
        };
        assert_eq!(
            explain(&stopping, NOW),
            Err(NotYet::TaskNotRunning(TaskState::Stopping))
        );
        let busy = Candidate {
            device_busy_with: Some(UpgradeId(7)),
            ..ready
        };
        assert_eq!(explain(&busy, NOW), Err(NotYet::DeviceBusy(UpgradeId(7))));
    }
}
