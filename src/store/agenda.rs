use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;

use super::{
    Again, CancelUpgradeError, ChangeTaskError, ChangeUpgradeError, CreateTaskError,
    DeleteTaskError, Exclude, Joined, NewTask, OpenUpgrades, Overlaps, Page, RunningUpgrade,
    SoaksDue, StopTaskError, StoreError, TaskChange, TaskRecord, UpgradeRecord, UpgradeToStop,
    Within,
};
use crate::{
    access::Part,
    clock::UtcMillis,
    ledger::{Protocol, TaskId, UpgradeId, Usage},
    task::{Due, MonthUsage, Move, PutOff, Source, Spent, TaskHead, TaskRules},
    tenant::TenantId,
};

/// What is to be done: tasks, and what of them may begin or has to end.
#[async_trait]
pub trait Agenda: Send + Sync + 'static {
    /// Creates a task with one upgrade per selected device. Changes are committed meanwhile; nobody sees the task
    /// before it is whole.
    async fn create_task(&self, new: &NewTask) -> Result<TaskRecord, CreateTaskError>;

    /// A task with the number of its upgrades in each state.
    async fn task(&self, id: TaskId) -> Result<Option<TaskRecord>, StoreError>;

    /// Whom a task leaves out itself, with the names.
    async fn task_exclude(&self, task: TaskId) -> Result<Exclude, StoreError>;

    /// Devices of a task that have an upgrade to the same package in other tasks, where neither has ended, and up to
    /// `limit` of these tasks.
    async fn overlaps(&self, task: TaskId, limit: u32) -> Result<Overlaps, StoreError>;

    /// How many of a task's devices speak one of these protocols.
    async fn count_speaking(&self, task: TaskId, protocols: &[Protocol])
    -> Result<u64, StoreError>;

    /// What of a task has no final outcome, in the order of the numbers, after `after`: looks at `limit` upgrades.
    async fn open_upgrades(
        &self,
        task: TaskId,
        after: Option<UpgradeId>,
        limit: u32,
    ) -> Result<OpenUpgrades, StoreError>;

    /// Tasks with numbers below `before`, newest first; `unfinished`: only those that have not ended.
    async fn tasks(
        &self,
        unfinished: bool,
        before: Option<TaskId>,
        limit: u32,
    ) -> Result<Page<TaskRecord>, StoreError>;

    /// The same of those that are a tenant's, or were made within a filter ([`super::Origin`]), or both, as one of these says.
    async fn tasks_within(
        &self,
        parts: &[Part],
        unfinished: bool,
        before: Option<TaskId>,
        limit: u32,
    ) -> Result<Page<TaskRecord>, StoreError>;

    /// Those of these tasks that belong to one of these tenants.
    async fn tasks_of(
        &self,
        tenants: &[TenantId],
        tasks: &[TaskId],
    ) -> Result<HashSet<TaskId>, StoreError>;

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
    /// [`Self::upgrades_to_stop`], and no attempt follows. One that was cancelled stays as it is. With `within`, here and below, there is
    /// no such upgrade unless its device is there within that.
    async fn cancel_upgrade(
        &self,
        id: UpgradeId,
        within: Option<&Within>,
        now: UtcMillis,
    ) -> Result<UpgradeRecord, CancelUpgradeError>;

    /// Has one upgrade begin as soon as its task lets it: one that waits for its next attempt waits no longer, one that has failed or was
    /// cancelled is taken up as in [`Self::take_up_again`].
    async fn retry_upgrade(
        &self,
        id: UpgradeId,
        within: Option<&Within>,
        now: UtcMillis,
    ) -> Result<UpgradeRecord, ChangeUpgradeError>;

    /// The owner of its device lets one upgrade begin, or has it never begin. One that has begun, or is confirmed, stays as it is when it
    /// is confirmed. `by` says who, up to 200 characters.
    async fn confirm_upgrade(
        &self,
        id: UpgradeId,
        within: Option<&Within>,
        confirmed: bool,
        by: &str,
        now: UtcMillis,
    ) -> Result<UpgradeRecord, ChangeUpgradeError>;

    /// The owner of its device has one upgrade begin at this time, or later where its task wants that; in place of an earlier confirmation, as
    /// long as the time of that has not come. `None`: what was confirmed for a time is not any more, and waits for a confirmation again.
    /// `by` is as above.
    async fn confirm_upgrade_for(
        &self,
        id: UpgradeId,
        within: Option<&Within>,
        at: Option<UtcMillis>,
        by: &str,
        now: UtcMillis,
    ) -> Result<UpgradeRecord, ChangeUpgradeError>;

    /// Passes over one upgrade that waits or has failed: it has no result, neither for its phase nor for thresholds. One that was
    /// cancelled stays as it is. Of one that has succeeded the soak ends, and its phase does not count it.
    async fn skip_upgrade(
        &self,
        id: UpgradeId,
        within: Option<&Within>,
        now: UtcMillis,
    ) -> Result<UpgradeRecord, ChangeUpgradeError>;

    /// Tasks that are scheduled or running, by their numbers, and what of each is due at `now` on a device that has no upgrade
    /// running, in the phases that have begun. Results are told of tasks that say how they are run.
    async fn task_heads(&self, now: UtcMillis) -> Result<Vec<TaskHead>, StoreError>;

    /// Looks at some devices behind `after`, in the order of their names, and has those join the task whom it is for and that are
    /// not in it. They join the phase that runs. Nobody joins a task that has not begun or is between two phases, that has ended
    /// or whose last time has come, nor one that says that nobody joins. A part is committed as a whole.
    async fn join(
        &self,
        task: TaskId,
        after: Option<&str>,
        now: UtcMillis,
    ) -> Result<Joined, StoreError>;

    /// Does with tasks what the planner has said, as far as they still stand as it saw them.
    async fn make_moves(&self, moves: &[Move], now: UtcMillis) -> Result<(), StoreError>;

    /// Up to `limit` upgrades of these sources that wait and are due at `now`, on devices that have no upgrade running: those
    /// of a higher priority come first, then those that have been due longest, then by number. `sources` are in that order of their
    /// first. Of sources with a budget it is told what the devices have spent.
    async fn due_upgrades(
        &self,
        sources: &[Source],
        now: UtcMillis,
        limit: u32,
    ) -> Result<Vec<Due>, StoreError>;

    /// Has upgrades that wait be due no earlier than that, because of the budgets of their devices. A change of the budget of their task
    /// has them be looked at again at once; where it has come since they were looked at, they are left as they are.
    async fn put_off(&self, put_off: &[PutOff], now: UtcMillis) -> Result<(), StoreError>;

    /// What devices have spent in the months that they have at `now`, of those that have spent anything.
    async fn used(
        &self,
        endpoints: &[String],
        now: UtcMillis,
    ) -> Result<HashMap<String, Usage>, StoreError>;

    /// What a device has spent in the month that it has at `now`, and what the largest package of a task will cost it. `None` where there is no
    /// such device.
    async fn spent(
        &self,
        task: TaskId,
        endpoint: &str,
        now: UtcMillis,
    ) -> Result<Option<Spent>, StoreError>;

    /// What a device has spent in the month that it has at `now`, in all tasks. `None` where there is no such device.
    async fn month_usage(
        &self,
        endpoint: &str,
        now: UtcMillis,
    ) -> Result<Option<MonthUsage>, StoreError>;

    /// Looks at up to `limit` upgrades that have succeeded in a phase with a soak, and about which there is something to do at `now`:
    /// ends the soaks of devices that were waited for as long as `wait` after it, and tells which devices are to be asked for
    /// their version. What a device tells ends its soak when it is committed.
    async fn soaks_due(
        &self,
        now: UtcMillis,
        wait: Duration,
        limit: u32,
    ) -> Result<SoaksDue, StoreError>;

    /// The earliest time after `now` at which a task starts, an upgrade's next attempt is due, or there is something to do about a
    /// soak.
    async fn next_due(&self, now: UtcMillis) -> Result<Option<UtcMillis>, StoreError>;

    /// Ends what a crash interrupted: tasks that were being created or deleted go, and groups that were being removed; tasks that
    /// were being stopped are. Only for
    /// whoever knows that nobody else writes: what looks interrupted may be somebody's work.
    async fn end_interrupted(&self) -> Result<(), StoreError>;

    /// Tasks of which upgrades run that are taken back at the end of a window, by their numbers: also those that are being stopped.
    async fn taking_back(&self) -> Result<Vec<(TaskId, Arc<TaskRules>)>, StoreError>;

    /// Up to `limit` upgrades of a task that run, after `after`, ordered by number.
    async fn running_upgrades(
        &self,
        task: TaskId,
        after: Option<UpgradeId>,
        limit: u32,
    ) -> Result<Vec<RunningUpgrade>, StoreError>;

    /// Up to `limit` upgrades that run although their task was stopped, they were cancelled or their device removed.
    async fn upgrades_to_stop(&self, limit: u32) -> Result<Vec<UpgradeToStop>, StoreError>;
}
