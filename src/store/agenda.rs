use async_trait::async_trait;

use super::{
    CancelUpgradeError, CreateTaskError, DeleteTaskError, NewTask, Overlaps, Page, StopTaskError,
    StoreError, TaskRecord, UpgradeRecord, UpgradeToStop,
};
use crate::{
    clock::UtcMillis,
    ledger::{TaskId, UpgradeId},
    task::{Due, TaskHead},
};

/// What is to be done: tasks, and what of them may begin or has to end.
#[async_trait]
pub trait Agenda: Send + Sync + 'static {
    /// Creates a task with one upgrade per selected device. Changes are committed meanwhile; nobody sees the task
    /// before it is whole.
    async fn create_task(&self, new: &NewTask) -> Result<TaskRecord, CreateTaskError>;

    /// A task with the number of its upgrades in each state.
    async fn task(&self, id: TaskId) -> Result<Option<TaskRecord>, StoreError>;

    /// Devices of a task that have an upgrade to the same package in other tasks, where neither has ended, and up to
    /// `limit` of these tasks.
    async fn overlaps(&self, task: TaskId, limit: u32) -> Result<Overlaps, StoreError>;

    /// Tasks with numbers below `before`, newest first.
    async fn tasks(
        &self,
        before: Option<TaskId>,
        limit: u32,
    ) -> Result<Page<TaskRecord>, StoreError>;

    /// Stops a task: none of its upgrades begins any more, those that wait are cancelled before this returns, running
    /// ones appear in [`Self::upgrades_to_stop`]. Stopping it again changes nothing.
    async fn stop_task(&self, id: TaskId, now: UtcMillis) -> Result<TaskRecord, StopTaskError>;

    /// Deletes a task that is not running, with its upgrades and their timelines. Nobody sees any of it from the
    /// beginning on, and changes are committed meanwhile.
    async fn delete_task(&self, id: TaskId) -> Result<(), DeleteTaskError>;

    /// Cancels one upgrade: one that waits ends before this returns, one that runs appears in
    /// [`Self::upgrades_to_stop`], and no attempt follows. One that was cancelled stays as it is.
    async fn cancel_upgrade(
        &self,
        id: UpgradeId,
        now: UtcMillis,
    ) -> Result<UpgradeRecord, CancelUpgradeError>;

    /// Tasks that are scheduled or running, and what of each is due at `now` on a device that has no upgrade running.
    async fn task_heads(&self, now: UtcMillis) -> Result<Vec<TaskHead>, StoreError>;

    /// Makes those of the tasks running that are scheduled. Returns how many.
    async fn begin_tasks(&self, tasks: &[TaskId]) -> Result<u64, StoreError>;

    /// Up to `limit` upgrades of these tasks that wait and are due at `now`, on devices that have no upgrade running: those
    /// that have been due longest come first, then by number. `tasks` are in the order of their first.
    async fn due_upgrades(
        &self,
        tasks: &[TaskId],
        now: UtcMillis,
        limit: u32,
    ) -> Result<Vec<Due>, StoreError>;

    /// The earliest time after `now` at which a task starts or an upgrade's next attempt is due.
    async fn next_due(&self, now: UtcMillis) -> Result<Option<UtcMillis>, StoreError>;

    /// Ends what a crash interrupted: tasks that were being created or deleted go, and groups that were being removed; tasks that
    /// were being stopped are. Only for
    /// whoever knows that nobody else writes: what looks interrupted may be somebody's work.
    async fn end_interrupted(&self) -> Result<(), StoreError>;

    /// Up to `limit` upgrades that run although their task was stopped, they were cancelled or their device removed.
    async fn upgrades_to_stop(&self, limit: u32) -> Result<Vec<UpgradeToStop>, StoreError>;
}
