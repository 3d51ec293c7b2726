use async_trait::async_trait;

use super::{
    Again, CancelUpgradeError, ChangeTaskError, CreateTaskError, DeleteTaskError, NewTask,
    Overlaps, Page, StopTaskError, StoreError, TaskChange, TaskRecord, UpgradeRecord,
    UpgradeToStop,
};
use crate::{
    clock::UtcMillis,
    ledger::{TaskId, UpgradeId},
    task::{Due, Move, Source, TaskHead},
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
    /// ones appear in [`Self::upgrades_to_stop`]; `soft`: only those that hold no slot, the others go on to their end. Stopping it
    /// again changes nothing, but that one that was stopped `soft` can be stopped without.
    async fn stop_task(
        &self,
        id: TaskId,
        now: UtcMillis,
        soft: bool,
    ) -> Result<TaskRecord, StopTaskError>;

    /// Changes how a task goes on, as its operator wants it.
    async fn change_task(
        &self,
        id: TaskId,
        change: &TaskChange,
        now: UtcMillis,
    ) -> Result<TaskRecord, ChangeTaskError>;

    /// Has upgrades of a task wait again that have failed, whose devices are there still: each has as many attempts as at first.
    /// A task that has finished runs again. Returns how many they are.
    async fn take_up_again(
        &self,
        id: TaskId,
        again: &Again,
        now: UtcMillis,
    ) -> Result<(TaskRecord, u64), ChangeTaskError>;

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

    /// Tasks that are scheduled or running, by their numbers, and what of each is due at `now` on a device that has no upgrade
    /// running, in the phases that have begun. Results are told of tasks that say how they are run.
    async fn task_heads(&self, now: UtcMillis) -> Result<Vec<TaskHead>, StoreError>;

    /// Does with tasks what the planner has said, as far as they still stand as it saw them.
    async fn make_moves(&self, moves: &[Move], now: UtcMillis) -> Result<(), StoreError>;

    /// Up to `limit` upgrades of these sources that wait and are due at `now`, on devices that have no upgrade running: those
    /// of a higher priority come first, then those that have been due longest, then by number. `sources` are in that order of their
    /// first.
    async fn due_upgrades(
        &self,
        sources: &[Source],
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
