use async_trait::async_trait;

use super::{BatchId, CommitReport, RestoredDevices, StoreError};
use crate::{
    clock::UtcMillis,
    ledger::{ActiveUpgrade, Change, DeviceRecord, Learnt, UpgradeId},
};

/// The engine's changes, and its state after a restart.
#[async_trait]
pub trait Ledger: Send + Sync + 'static {
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
    /// can be restored before all others. [`Self::restore_devices`] gives them again.
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

    /// What was learnt of products and cells, ordered by its subject ([`Learnt::subject`]): one of each, and what was learnt
    /// of the [`MOST_LEARNT`](super::MOST_LEARNT) cells that were heard of last at the most.
    async fn restore_learnt(&self) -> Result<Vec<Learnt>, StoreError>;

    /// The revision from which [`super::Inventory::device_changes_since`] goes on after a restart: what came before is in
    /// [`Self::restore_devices`], except for removals that are not finished. Read it before the devices.
    async fn restore_revision(&self) -> Result<i64, StoreError>;

    /// The newest time that was stored, as far as it is quickly found; `None` in an empty database.
    async fn newest_time(&self) -> Result<Option<UtcMillis>, StoreError>;

    /// The value that was stored under `key`.
    async fn meta(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError>;

    /// Stores `value` under `key`, over what was there.
    async fn set_meta(&self, key: &str, value: &[u8]) -> Result<(), StoreError>;

    /// Whether the database can be read and written now.
    async fn check(&self) -> Result<(), StoreError>;
}
