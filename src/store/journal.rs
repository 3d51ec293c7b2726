use async_trait::async_trait;

use super::{
    DeviceUpgrade, ListedCell, Page, StoreError, UpgradeDetail, UpgradeRecord, UpgradeState,
};
use crate::{
    clock::UtcMillis,
    ledger::{TaskId, UpgradeId},
};

/// What became of upgrades, and what happens in cells.
#[async_trait]
pub trait Journal: Send + Sync + 'static {
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

    /// Cells in which a device waited for a slot or had one, or that has or had rules, ordered by number, after `after`; only those that are
    /// closed at `closed_at`, where that is given.
    async fn cells(
        &self,
        after: Option<u32>,
        closed_at: Option<UtcMillis>,
        limit: u32,
    ) -> Result<Page<ListedCell>, StoreError>;
}
