//! The engine's changes, and its state after a restart.

use async_trait::async_trait;
use sqlx::Row as _;

use super::{
    Doing, SqliteStore, commit,
    device_rows::{self, readable},
    habits,
    packed::Packed,
    rows,
    upgrade_rows::{self, ActiveRow},
};
use crate::{
    clock::UtcMillis,
    ledger::{ActiveUpgrade, Change, DeviceRecord, Learnt, UpgradeId},
    store::{BatchId, CommitReport, Ledger, RestoredDevices, StoreError},
};

/// The newest time that was stored, 0 where there is none.
pub(super) const NEWEST_TIME: &str = "SELECT MAX(\
    COALESCE((SELECT at FROM upgrade_events WHERE id = (SELECT MAX(id) FROM upgrade_events)), 0), \
    COALESCE((SELECT at FROM events WHERE id = (SELECT MAX(id) FROM events)), 0), \
    COALESCE((SELECT created_at FROM tasks WHERE id = (SELECT MAX(id) FROM tasks)), 0))";

#[async_trait]
impl Ledger for SqliteStore {
    async fn commit(&self, batch: BatchId, changes: &[Change]) -> Result<CommitReport, StoreError> {
        if changes.is_empty() {
            return Ok(CommitReport::default());
        }
        let mut tx = self.write(commit::DOING).await?;
        if let Some(report) = commit::written_before(&mut tx, batch).await? {
            return Ok(report);
        }
        let report = commit::write(&mut tx, changes).await?;
        commit::remember(&mut tx, batch, &report)
            .await
            .doing(commit::DOING)?;
        tx.commit().await.doing(commit::DOING)?;
        Ok(report)
    }

    async fn restore_busy_devices(
        &self,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<DeviceRecord>, StoreError> {
        let query = sqlx::query(device_rows::RESTORE_BUSY)
            .bind(after.unwrap_or_default())
            .bind(limit);
        Packed::fetch(query, &self.readers, "reading devices whose upgrade runs")
            .await?
            .rows()
            .filter_map(|row| readable(row).transpose())
            .collect()
    }

    async fn restore_devices(&self, after: i64, limit: u32) -> Result<RestoredDevices, StoreError> {
        let doing = "reading devices";
        let row = sqlx::query(device_rows::RESTORE)
            .bind(after)
            .bind(limit)
            .fetch_one(&self.readers)
            .await
            .doing(doing)?;
        let found: u32 = row.try_get(1).doing(doing)?;
        let last: Option<i64> = row.try_get(2).doing(doing)?;
        let devices = Packed::of(&row)?
            .rows()
            .filter_map(|row| readable(row).transpose())
            .collect::<Result<_, _>>()?;
        let next = last.filter(|_| found >= limit);
        Ok(RestoredDevices { devices, next })
    }

    async fn restore_upgrades(
        &self,
        after: Option<UpgradeId>,
        limit: u32,
    ) -> Result<Vec<ActiveUpgrade>, StoreError> {
        let query = sqlx::query(upgrade_rows::RESTORE)
            .bind(after.map_or(0, |id| id.0))
            .bind(limit);
        Packed::fetch(query, &self.readers, "reading running upgrades")
            .await?
            .rows()
            .map(|row| row.and_then(ActiveRow::active))
            .collect()
    }

    async fn restore_learnt(&self) -> Result<Vec<Learnt>, StoreError> {
        habits::read(&self.readers).await
    }

    async fn restore_revision(&self) -> Result<i64, StoreError> {
        let doing = "reading the revision of the devices";
        let oldest_removal: Option<i64> =
            sqlx::query_scalar("SELECT MIN(revision) FROM devices WHERE removed = 1")
                .fetch_one(&self.readers)
                .await
                .doing(doing)?;
        if let Some(revision) = oldest_removal {
            return Ok(revision - 1);
        }
        let mut conn = self.readers.acquire().await.doing(doing)?;
        rows::revision(&mut conn).await
    }

    async fn newest_time(&self) -> Result<Option<UtcMillis>, StoreError> {
        let newest: i64 = sqlx::query_scalar(NEWEST_TIME)
            .fetch_one(&self.readers)
            .await
            .doing("reading the newest time")?;
        Ok((newest > 0).then_some(UtcMillis(newest)))
    }

    async fn meta(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        sqlx::query_scalar("SELECT value FROM meta WHERE key = ?")
            .bind(key)
            .fetch_optional(&self.readers)
            .await
            .doing("reading a stored value")
    }

    async fn set_meta(&self, key: &str, value: &[u8]) -> Result<(), StoreError> {
        let doing = "storing a value";
        let mut tx = self.write(doing).await?;
        rows::set_meta(&mut tx, key, value).await.doing(doing)?;
        tx.commit().await.doing(doing)
    }

    async fn check(&self) -> Result<(), StoreError> {
        let doing = "checking that it can be written";
        let tx = self.write(doing).await?;
        tx.rollback().await.doing(doing)
    }
}
