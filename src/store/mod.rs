//! What survives a restart: the trait [`Store`], its SQLite implementation, and the package files.
//!
//! Three parties share a store. The engine has its changes committed ([`Store::commit`]) and gets
//! its state back after a restart. The API writes an operator's intent and reads. The rollout asks
//! what that intent means now: which upgrades may begin, which have to be stopped, which devices were
//! added or removed. None of them calls another.
//!
//! Lists are read in pages by key, never by offset: a page starts after the last key of the page
//! before it, so that a list of a million rows costs as much per page as a short one.

pub mod apply;
#[cfg(test)]
pub(crate) mod conformance;
mod error;
mod events;
mod files;
mod memory;
mod records;
mod sqlite;

use std::ops::Range;

use async_trait::async_trait;

pub use error::{
    CancelUpgradeError, CreateTaskError, DeletePackageError, DeleteTaskError, EarlierPackage,
    InsertPackageError, OpenError, StopTaskError, StoreError, UpdateDeviceError,
};
pub use events::{
    AddWebhookError, AttemptResult, Attempted, BusyWebhook, DeliveryId, DeliveryRecord,
    DeliveryState, DueDelivery, Event, EventStore, MAX_WEBHOOKS, MAX_WEBHOOKS_ALIKE, NewWebhook,
    Subject, WebhookId, WebhookRecord,
};
pub use files::{
    Content, FileError, PackageFiles, ReadError, SealedUpload, SweepError, Upload, UploadError,
};
pub use memory::MemoryStore;
pub use records::{
    AddedDevice, BatchId, CellRecord, CommitReport, DeletedPackage, DeviceChange, DeviceDetail,
    DeviceFilter, DeviceUpdate, DeviceUpgrade, InsertedPackage, NewDevice, NewPackage, NewTask,
    OutcomeRecord, Overlap, Overlaps, PackageRecord, Page, QueueRecord, RestoredDevices, Selection,
    StoredPsk, TaskRecord, TimelineEvent, UpgradeDetail, UpgradeRecord, UpgradeState,
    UpgradeToStop,
};
pub use sqlite::{FILE_NAME, SqliteStore};

use crate::{
    clock::UtcMillis,
    ledger::{ActiveUpgrade, Change, DeviceRecord, PackageId, TaskId, UpgradeId},
    package::Version,
    task::{Due, TaskHead},
};

/// Everything durable. One conformance suite says what each operation does, whatever the database.
///
/// Every operation is atomic: it happened completely, or not at all. One that has returned `Ok` after
/// writing survives a power failure. Only the cancelling of a stopped task's upgrades may be seen half done; a crash in
/// between is made up for at the next start.
#[async_trait]
pub trait Store: EventStore {
    // ---- the engine's changes, and its state after a restart

    /// Writes `changes` in their order, in one transaction, unless the batch before had the same number: then it was
    /// written already, and the answer is the one of then.
    ///
    /// A change of an unknown device or upgrade is skipped, except that [`Change::Registered`] adds the
    /// device. So is a stage or an end of an attempt that has ended already, or of an upgrade that has. An upgrade that the operator stopped before
    /// the engine could say that it began is reported in [`CommitReport::refused`].
    ///
    /// `Ended` with a time for the next attempt makes the upgrade wait for it, unless its task was stopped, it was
    /// cancelled or its device was removed: then the outcome is final. The end of the last upgrade ends the task.
    async fn commit(&self, batch: BatchId, changes: &[Change]) -> Result<CommitReport, StoreError>;

    /// Up to `limit` devices on which an upgrade runs and whose endpoint follows `after`, ordered by endpoint: they
    /// can be restored before all others. [`Store::restore_devices`] gives them again.
    async fn restore_busy_devices(
        &self,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<DeviceRecord>, StoreError>;

    /// Up to `limit` devices in the order in which they were added, after number `after`; 0 begins. Includes
    /// devices that were removed and not yet forgotten: their upgrades may still run.
    async fn restore_devices(&self, after: i64, limit: u32) -> Result<RestoredDevices, StoreError>;

    /// Up to `limit` upgrades in a stage whose number follows `after`, ordered by number.
    async fn restore_upgrades(
        &self,
        after: Option<UpgradeId>,
        limit: u32,
    ) -> Result<Vec<ActiveUpgrade>, StoreError>;

    /// The revision from which [`Store::device_changes_since`] goes on after a restart: what came before is in
    /// [`Store::restore_devices`], except for removals that are not finished. Read it before the devices.
    async fn restore_revision(&self) -> Result<i64, StoreError>;

    /// The newest time that was stored, as far as it is quickly found; `None` in an empty database.
    async fn newest_time(&self) -> Result<Option<UtcMillis>, StoreError>;

    /// The value that was stored under `key`.
    async fn meta(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError>;

    /// Stores `value` under `key`, over what was there.
    async fn set_meta(&self, key: &str, value: &[u8]) -> Result<(), StoreError>;

    // ---- the rollout

    /// Devices that the operator added, changed or removed after `revision`, oldest change first. A device
    /// that changed several times appears once, as it is now. A removed one appears again when an upgrade of it
    /// has ended, for [`Store::forget_removed`].
    async fn device_changes_since(
        &self,
        revision: i64,
        limit: u32,
    ) -> Result<Vec<DeviceChange>, StoreError>;

    /// Deletes a device that was removed, once none of its upgrades runs. Returns whether it is gone; it is
    /// not while an upgrade runs or when the operator has added it again.
    async fn forget_removed(&self, endpoint: &str) -> Result<bool, StoreError>;

    /// Removes up to `limit` devices that came by themselves, without the operator, whose registration ended within that time,
    /// which were not heard since, and which have no upgrade. Returns how many: they show among the changes.
    async fn remove_newcomers(
        &self,
        ended: Range<UtcMillis>,
        limit: u32,
    ) -> Result<u64, StoreError>;

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

    /// Up to `limit` upgrades that run although their task was stopped, they were cancelled or their device removed.
    async fn upgrades_to_stop(&self, limit: u32) -> Result<Vec<UpgradeToStop>, StoreError>;

    /// A package, deleted ones included: a running upgrade stays on the package it began with.
    async fn package(&self, id: PackageId) -> Result<Option<PackageRecord>, StoreError>;

    // ---- packages

    /// Adds a package whose file is durable already.
    ///
    /// The same product, version, content and cut again gives the row that is there. Otherwise the new
    /// row supersedes the older one of that product and version, unless an unfinished task uses it. Under one
    /// product, version and check code there is one content in one cut for ever, also when its package is
    /// gone: all else is refused.
    async fn insert_package(&self, new: &NewPackage)
    -> Result<InsertedPackage, InsertPackageError>;

    /// Packages that are not deleted, newest first, with numbers below `before`.
    async fn packages(
        &self,
        before: Option<PackageId>,
        limit: u32,
    ) -> Result<Page<PackageRecord>, StoreError>;

    /// The newest package of that product and version that is neither superseded nor deleted.
    async fn find_package(
        &self,
        product: &str,
        version: Version,
    ) -> Result<Option<PackageRecord>, StoreError>;

    /// The newest package of a product that is not deleted and has a number below `before`.
    async fn package_before(
        &self,
        product: &str,
        before: PackageId,
    ) -> Result<Option<PackageRecord>, StoreError>;

    /// Deletes a package that no unfinished task uses. Its row stays while an ended task refers to it.
    async fn delete_package(
        &self,
        id: PackageId,
        now: UtcMillis,
    ) -> Result<DeletedPackage, DeletePackageError>;

    /// Whether a package that is not deleted has this content.
    async fn content_in_use(&self, sha256: &str) -> Result<bool, StoreError>;

    // ---- devices

    /// Adds devices, or adds removed ones again. Gives one answer per device, in their order.
    async fn add_devices(
        &self,
        devices: &[NewDevice],
        now: UtcMillis,
    ) -> Result<Vec<AddedDevice>, StoreError>;

    /// A device, unless it was removed.
    async fn device(&self, endpoint: &str) -> Result<Option<DeviceDetail>, StoreError>;

    /// Devices that `filter` lets through, ordered by endpoint, after `after`.
    async fn devices(
        &self,
        filter: &DeviceFilter,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page<DeviceDetail>, StoreError>;

    /// Changes what an operator may change about a device.
    async fn update_device(
        &self,
        endpoint: &str,
        update: &DeviceUpdate,
    ) -> Result<(), UpdateDeviceError>;

    /// Up to `limit` pre-shared keys of devices whose endpoint follows `after`, ordered by endpoint.
    async fn restore_keys(
        &self,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<(String, StoredPsk)>, StoreError>;

    /// Removes a device: upgrades that wait end as failed (`device_removed`), those that run appear in
    /// [`Store::upgrades_to_stop`]. Returns whether there was such a device.
    async fn remove_device(&self, endpoint: &str, now: UtcMillis) -> Result<bool, StoreError>;

    // ---- tasks and upgrades

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
    /// ones appear in [`Store::upgrades_to_stop`]. Stopping it again changes nothing.
    async fn stop_task(&self, id: TaskId, now: UtcMillis) -> Result<TaskRecord, StopTaskError>;

    /// Deletes a task that is not running, with its upgrades and their timelines. Nobody sees any of it from the
    /// beginning on, and changes are committed meanwhile.
    async fn delete_task(&self, id: TaskId) -> Result<(), DeleteTaskError>;

    /// Upgrades of a task, in `state` if one is given, ordered by number, after `after`.
    async fn upgrades(
        &self,
        task: TaskId,
        state: Option<UpgradeState>,
        after: Option<UpgradeId>,
        limit: u32,
    ) -> Result<Page<UpgradeRecord>, StoreError>;

    /// Upgrades of a device with numbers below `before`, newest first. They outlive the device.
    async fn device_upgrades(
        &self,
        endpoint: &str,
        before: Option<UpgradeId>,
        limit: u32,
    ) -> Result<Page<DeviceUpgrade>, StoreError>;

    /// Upgrades with numbers below `before`, newest first: of those that came so far as to have a cell, those in `cell`;
    /// all of them without one.
    async fn newest_upgrades(
        &self,
        cell: Option<u32>,
        before: Option<UpgradeId>,
        limit: u32,
    ) -> Result<Page<DeviceUpgrade>, StoreError>;

    /// An upgrade with the newest lines of its timeline, oldest of them first.
    async fn upgrade(&self, id: UpgradeId) -> Result<Option<UpgradeDetail>, StoreError>;

    /// Cancels one upgrade: one that waits ends before this returns, one that runs appears in
    /// [`Store::upgrades_to_stop`], and no attempt follows. One that was cancelled stays as it is.
    async fn cancel_upgrade(
        &self,
        id: UpgradeId,
        now: UtcMillis,
    ) -> Result<UpgradeRecord, CancelUpgradeError>;

    // ---- cells

    /// Cells in which a device waited for a slot or had one, ordered by number, after `after`.
    async fn cells(&self, after: Option<u32>, limit: u32) -> Result<Page<CellRecord>, StoreError>;

    /// Whether the database can be read and written now.
    async fn check(&self) -> Result<(), StoreError>;
}
