use super::{
    Doing, SqliteStore,
    bulk::json_list,
    credentials,
    packed::Packed,
    rows::{self, Columns},
    upgrade_rows::{self, ActiveRow, DueRow},
};
use crate::{
    clock::UtcMillis,
    ledger::{ActiveUpgrade, StopReason, TaskId, UpgradeId},
    store::{DeviceChange, StoreError, UpgradeToStop},
    task::{Due, TaskHead},
};

impl SqliteStore {
    /// See [`crate::store::Store::restore_upgrades`].
    pub(super) async fn upgrades_to_restore(
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

    /// See [`crate::store::Store::device_changes_since`].
    pub(super) async fn changed_devices(
        &self,
        revision: i64,
        limit: u32,
    ) -> Result<Vec<DeviceChange>, StoreError> {
        // Devices that registered by themselves have revision 0.
        sqlx::query(
            "SELECT revision, endpoint, product, removed, secure, psk_identity, psk_sealed FROM devices \
             WHERE revision > ? ORDER BY revision LIMIT ?",
        )
        .bind(revision.max(0))
        .bind(limit)
        .fetch_all(&self.readers)
        .await
        .doing("reading changed devices")?
        .iter()
        .map(|row| {
            Ok(DeviceChange {
                revision: row.int("revision")?,
                endpoint: row.value("endpoint")?,
                product: row.value("product")?,
                secure: row.value("secure")?,
                psk: credentials::stored_psk(row)?,
                removed: row.value("removed")?,
            })
        })
        .collect()
    }

    /// See [`crate::store::Store::forget_removed`].
    pub(super) async fn forget(&self, endpoint: &str) -> Result<bool, StoreError> {
        let doing = "forgetting a removed device";
        let mut tx = self.write(doing).await?;
        sqlx::query(
            "DELETE FROM devices WHERE endpoint = ?1 AND removed = 1 \
             AND NOT EXISTS (SELECT 1 FROM upgrades WHERE endpoint = ?1 AND phase = 1)",
        )
        .bind(endpoint)
        .execute(&mut *tx)
        .await
        .doing(doing)?;
        let there: bool =
            sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM devices WHERE endpoint = ?)")
                .bind(endpoint)
                .fetch_one(&mut *tx)
                .await
                .doing(doing)?;
        tx.commit().await.doing(doing)?;
        Ok(!there)
    }

    /// See [`crate::store::Store::task_heads`].
    pub(super) async fn heads(&self, now: UtcMillis) -> Result<Vec<TaskHead>, StoreError> {
        let rows = sqlx::query(
            "SELECT t.id, t.state, t.start_at, u.id AS first_upgrade, u.not_before AS first_since, \
                 (SELECT COALESCE(SUM(count), 0) FROM task_counts c WHERE c.task_id = t.id AND c.state = 'pending') AS waiting, \
                 (SELECT COALESCE(SUM(count), 0) FROM task_counts c WHERE c.task_id = t.id \
                     AND c.state NOT IN ('pending', 'succeeded', 'failed', 'cancelled')) AS running \
             FROM tasks t LEFT JOIN upgrades u ON u.id = ( \
                 SELECT f.id FROM upgrades f WHERE f.task_id = t.id AND f.free = 1 AND f.not_before <= ? \
                 ORDER BY f.not_before, f.id LIMIT 1) \
             WHERE t.state IN ('scheduled', 'running')",
        )
        .bind(now.0)
        .fetch_all(&self.readers)
        .await
        .doing("looking at the heads of tasks")?;
        (rows.iter())
            .map(|row| {
                let first: Option<i64> = row.value("first_upgrade")?;
                let since = row.maybe_time("first_since")?;
                Ok(TaskHead {
                    task: TaskId(row.int("id")?),
                    state: rows::task_state(row.value("state")?)?,
                    start_at: row.time("start_at")?,
                    waiting: row.int("waiting")?,
                    running: row.int("running")?,
                    first_due: since.zip(first.map(UpgradeId)),
                })
            })
            .collect()
    }

    /// See [`crate::store::Store::begin_tasks`].
    pub(super) async fn begin(&self, tasks: &[TaskId]) -> Result<u64, StoreError> {
        let doing = "starting tasks";
        let mut tx = self.write(doing).await?;
        let begun = sqlx::query(
            "UPDATE tasks SET state = 'running' WHERE state = 'scheduled' AND id IN (SELECT value FROM json_each(?))",
        )
        .bind(json_list(tasks.iter().map(|task| task.0)))
        .execute(&mut *tx)
        .await
        .doing(doing)?;
        tx.commit().await.doing(doing)?;
        Ok(begun.rows_affected())
    }

    /// See [`crate::store::Store::due_upgrades`].
    pub(super) async fn due_in(
        &self,
        tasks: &[TaskId],
        now: UtcMillis,
        limit: u32,
    ) -> Result<Vec<Due>, StoreError> {
        let doing = "looking for upgrades that are due";
        let mut tx = self.readers.begin().await.doing(doing)?;
        let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut found: Vec<Due> = Vec::new();
        for task in tasks {
            // What a task has follows its first: where that comes behind all that is wanted, so do those of the tasks behind it.
            let last = found.get(wanted.saturating_sub(1));
            let until = last.map_or(now, |last| last.since);
            let query = sqlx::query(upgrade_rows::DUE)
                .bind(task.0)
                .bind(until.0)
                .bind(limit);
            let rows = Packed::fetch(query, &mut *tx, doing).await?;
            let before = found.len();
            for row in rows.rows() {
                found.push(row.map(DueRow::due)?);
            }
            if found.len() == before && before >= wanted {
                break;
            }
            found.sort_unstable_by_key(|due| (due.since, due.order.upgrade));
            found.truncate(wanted);
        }
        Ok(found)
    }

    /// See [`crate::store::Store::next_due`].
    pub(super) async fn next_due_time(
        &self,
        now: UtcMillis,
    ) -> Result<Option<UtcMillis>, StoreError> {
        let doing = "looking for the next due time";
        // a first attempt is due when its task starts
        let upgrade: Option<i64> = sqlx::query_scalar(
            "SELECT MIN(not_before) FROM upgrades WHERE phase = 0 AND attempt > 0 AND not_before > ?",
        )
        .bind(now.0)
        .fetch_one(&self.readers)
        .await
        .doing(doing)?;
        let task: Option<i64> = sqlx::query_scalar(
            "SELECT MIN(start_at) FROM tasks WHERE state = 'scheduled' AND start_at > ?",
        )
        .bind(now.0)
        .fetch_one(&self.readers)
        .await
        .doing(doing)?;
        Ok(upgrade.into_iter().chain(task).min().map(UtcMillis))
    }

    /// See [`crate::store::Store::upgrades_to_stop`].
    pub(super) async fn running_in_vain(
        &self,
        limit: u32,
    ) -> Result<Vec<UpgradeToStop>, StoreError> {
        const OF_STOPPED_TASKS: &str = "SELECT u.id, u.task_id, u.endpoint \
             FROM tasks t CROSS JOIN upgrades u ON u.task_id = t.id \
             WHERE t.state = 'stopping' AND u.state IN ('waiting_for_device', 'querying_version', \
                 'querying_coverage', 'querying_cell', 'waiting_for_slot', 'downloading', 'executing') \
             LIMIT ?";
        const CANCELLED: &str = "SELECT u.id, u.task_id, u.endpoint \
             FROM upgrades u CROSS JOIN tasks t ON t.id = u.task_id \
             WHERE u.phase = 1 AND u.cancel_requested_at IS NOT NULL AND t.state <> 'stopping' LIMIT ?";
        const OF_REMOVED_DEVICES: &str = "SELECT u.id, u.task_id, u.endpoint \
             FROM devices d CROSS JOIN upgrades u ON u.endpoint = d.endpoint AND u.phase = 1 \
             CROSS JOIN tasks t ON t.id = u.task_id \
             WHERE d.removed = 1 AND t.state <> 'stopping' AND u.cancel_requested_at IS NULL LIMIT ?";
        let mut found = Vec::new();
        for (statement, reason) in [
            (OF_STOPPED_TASKS, StopReason::TaskStopped),
            (CANCELLED, StopReason::Cancelled),
            (OF_REMOVED_DEVICES, StopReason::DeviceRemoved),
        ] {
            let room = i64::from(limit).saturating_sub_unsigned(found.len() as u64);
            if room <= 0 {
                break;
            }
            let rows = sqlx::query(statement)
                .bind(room)
                .fetch_all(&self.readers)
                .await
                .doing("looking for upgrades to stop")?;
            for row in &rows {
                found.push(UpgradeToStop {
                    upgrade: UpgradeId(row.int("id")?),
                    task: TaskId(row.int("task_id")?),
                    endpoint: row.value("endpoint")?,
                    reason,
                });
            }
        }
        Ok(found)
    }
}
