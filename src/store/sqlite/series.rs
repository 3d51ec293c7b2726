//! How things went on: bounded series, for whoever draws them.

use async_trait::async_trait;

use super::{Doing, PART, SqliteStore, rows::Columns as _};
use crate::{
    clock::UtcMillis,
    ledger::{Coverage, CoverageReading, TaskId},
    store::{CellPoint, LimitChange, Series, StoreError, TaskPoint},
};

const ADDING: &str = "adding to a series";
const READING: &str = "reading a series";
/// Points of a task: where there are more, every second one goes.
const MOST_POINTS: i64 = 1_000;
/// Points of a cell: the hours of a week.
const HOURS: i64 = 7 * 24;
const HOUR_MS: i64 = 3_600_000;
/// Changes of a cell's limit that are kept, the newest.
const CHANGES: i64 = 50;

/// The last of the next cells in which anybody upgrades or waits.
const NEXT_BUSY: &str = "SELECT MAX(cell) FROM (SELECT c.cell FROM cells c INDEXED BY cells_busy \
     WHERE (c.active > 0 OR c.waiting > 0) AND c.cell > ? ORDER BY c.cell LIMIT ?) AS found";

#[async_trait]
impl Series for SqliteStore {
    async fn add_task_point(&self, task: TaskId, point: &TaskPoint) -> Result<(), StoreError> {
        let mut tx = self.write(ADDING).await?;
        // a task that was deleted meanwhile has none
        sqlx::query(
            "INSERT OR REPLACE INTO task_series (task_id, at, waiting, running, succeeded, failed, cancelled, expected) \
             SELECT t.id, ?2, ?3, ?4, ?5, ?6, ?7, ?8 FROM tasks t WHERE t.id = ?1",
        )
        .bind(task.0)
        .bind(point.at.0)
        .bind(point.waiting.cast_signed())
        .bind(point.running.cast_signed())
        .bind(point.succeeded.cast_signed())
        .bind(point.failed.cast_signed())
        .bind(point.cancelled.cast_signed())
        .bind(point.expected.map(u64::cast_signed))
        .execute(&mut *tx)
        .await
        .doing(ADDING)?;
        let times: Vec<i64> =
            sqlx::query_scalar("SELECT s.at FROM task_series s WHERE s.task_id = ? ORDER BY s.at")
                .bind(task.0)
                .fetch_all(&mut *tx)
                .await
                .doing(ADDING)?;
        if times.len() > usize::try_from(MOST_POINTS).unwrap_or(usize::MAX) {
            // the last one stays
            for at in times.iter().rev().skip(1).step_by(2) {
                sqlx::query("DELETE FROM task_series WHERE task_id = ? AND at = ?")
                    .bind(task.0)
                    .bind(at)
                    .execute(&mut *tx)
                    .await
                    .doing(ADDING)?;
            }
        }
        tx.commit().await.doing(ADDING)
    }

    async fn add_cell_points(&self, at: UtcMillis) -> Result<(), StoreError> {
        let mut after = -1_i64;
        loop {
            let mut tx = self.write(ADDING).await?;
            let last: Option<i64> = sqlx::query_scalar(NEXT_BUSY)
                .bind(after)
                .bind(PART)
                .fetch_one(&mut *tx)
                .await
                .doing(ADDING)?;
            let Some(last) = last else {
                return Ok(());
            };
            sqlx::query(
                "INSERT OR REPLACE INTO cell_series (cell, hour, at, active, waiting, admitted, succeeded, failed) \
                 SELECT c.cell, ?1, ?2, c.active, c.waiting, c.admitted_total, c.succeeded, c.failed \
                 FROM cells c INDEXED BY cells_busy \
                 WHERE (c.active > 0 OR c.waiting > 0) AND c.cell > ?3 AND c.cell <= ?4",
            )
            .bind((at.0 / HOUR_MS).rem_euclid(HOURS))
            .bind(at.0)
            .bind(after)
            .bind(last)
            .execute(&mut *tx)
            .await
            .doing(ADDING)?;
            tx.commit().await.doing(ADDING)?;
            after = last;
        }
    }

    async fn add_limit_changes(&self, changes: &[LimitChange]) -> Result<(), StoreError> {
        let mut tx = self.write(ADDING).await?;
        for change in changes {
            let number: i64 = sqlx::query_scalar(
                "INSERT INTO limit_changes (cell, number, at, most, before, percent) \
                 VALUES (?1, COALESCE((SELECT MAX(number) FROM limit_changes WHERE cell = ?1), 0) + 1, ?2, ?3, ?4, ?5) \
                 RETURNING number",
            )
            .bind(change.cell)
            .bind(change.at.0)
            .bind(change.most)
            .bind(change.before)
            .bind(change.percent.cast_signed())
            .fetch_one(&mut *tx)
            .await
            .doing(ADDING)?;
            sqlx::query("DELETE FROM limit_changes WHERE cell = ? AND number <= ?")
                .bind(change.cell)
                .bind(number - CHANGES)
                .execute(&mut *tx)
                .await
                .doing(ADDING)?;
        }
        tx.commit().await.doing(ADDING)
    }

    async fn limit_changes(&self, cell: u32) -> Result<Vec<LimitChange>, StoreError> {
        let rows = sqlx::query(
            "SELECT at, most, before, percent FROM limit_changes WHERE cell = ? ORDER BY number",
        )
        .bind(cell)
        .fetch_all(&self.readers)
        .await
        .doing(READING)?;
        let changes = rows.iter().map(|row| {
            Ok(LimitChange {
                cell,
                at: row.time("at")?,
                most: row.maybe_int("most")?,
                before: row.maybe_int("before")?,
                percent: row.int("percent")?,
            })
        });
        changes.collect()
    }

    async fn task_series(&self, task: TaskId) -> Result<Vec<TaskPoint>, StoreError> {
        let rows = sqlx::query(
            "SELECT s.at, s.waiting, s.running, s.succeeded, s.failed, s.cancelled, s.expected \
             FROM task_series s WHERE s.task_id = ? ORDER BY s.at",
        )
        .bind(task.0)
        .fetch_all(&self.readers)
        .await
        .doing(READING)?;
        let points = rows.iter().map(|row| {
            Ok(TaskPoint {
                at: row.time("at")?,
                waiting: row.int("waiting")?,
                running: row.int("running")?,
                succeeded: row.int("succeeded")?,
                failed: row.int("failed")?,
                cancelled: row.int("cancelled")?,
                expected: row.maybe_int("expected")?,
            })
        });
        points.collect()
    }

    async fn cell_series(&self, cell: u32) -> Result<Vec<CellPoint>, StoreError> {
        let rows = sqlx::query(
            "SELECT s.at, s.active, s.waiting, s.admitted, s.succeeded, s.failed \
             FROM cell_series s WHERE s.cell = ?",
        )
        .bind(cell)
        .fetch_all(&self.readers)
        .await
        .doing(READING)?;
        let points = rows.iter().map(|row| {
            Ok(CellPoint {
                at: row.time("at")?,
                active: row.int("active")?,
                waiting: row.int("waiting")?,
                admitted: row.int("admitted")?,
                succeeded: row.int("succeeded")?,
                failed: row.int("failed")?,
            })
        });
        let mut points = points.collect::<Result<Vec<_>, StoreError>>()?;
        let newest = points.iter().map(|point| point.at).max();
        if let Some(newest) = newest {
            // in an hour in which nobody was there the point of a week before stays
            points.retain(|point| newest.0 - point.at.0 < HOURS * HOUR_MS);
        }
        points.sort_unstable_by_key(|point| point.at);
        Ok(points)
    }

    async fn device_series(&self, endpoint: &str) -> Result<Vec<CoverageReading>, StoreError> {
        let rows = sqlx::query(
            "SELECT s.at, s.cell, s.rsrp_dbm, s.sinr_db \
             FROM devices d CROSS JOIN device_series s ON s.device_id = d.id \
             WHERE d.endpoint = ? AND d.removed = 0 ORDER BY s.at",
        )
        .bind(endpoint)
        .fetch_all(&self.readers)
        .await
        .doing(READING)?;
        let points = rows.iter().map(|row| {
            Ok(CoverageReading {
                at: row.time("at")?,
                coverage: Coverage {
                    cell: row.maybe_int("cell")?,
                    rsrp_dbm: row.maybe_int("rsrp_dbm")?,
                    sinr_db: row.maybe_int("sinr_db")?,
                },
            })
        });
        points.collect()
    }
}
