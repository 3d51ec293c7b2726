use std::collections::BTreeMap;

use sqlx::{SqliteConnection, sqlite::SqliteRow};

use super::{
    Doing,
    rows::{self, Columns},
};
use crate::{
    ledger::{PackageId, RetryPolicy, TaskId},
    store::{StoreError, TaskRecord, UpgradeState},
};

/// A task and its counts, by the connection of a transaction or of a reader. One that is hidden is not there.
pub(super) async fn read(
    conn: &mut SqliteConnection,
    id: TaskId,
) -> Result<Option<TaskRecord>, StoreError> {
    let row = sqlx::query(
        "SELECT t.*, p.product, p.version FROM tasks t JOIN packages p ON p.id = t.package_id \
         WHERE t.id = ? AND t.hidden = 0",
    )
    .bind(id.0)
    .fetch_optional(&mut *conn)
    .await
    .doing("reading a task")?;
    let Some(row) = row else { return Ok(None) };
    let mut task = record(&row)?;
    add_counts(conn, std::slice::from_mut(&mut task)).await?;
    Ok(Some(task))
}

/// `tasks` are in the order of a list: newest first.
pub(super) async fn add_counts(
    conn: &mut SqliteConnection,
    tasks: &mut [TaskRecord],
) -> Result<(), StoreError> {
    let (Some(newest), Some(oldest)) = (tasks.first(), tasks.last()) else {
        return Ok(());
    };
    let rows = sqlx::query(
        "SELECT task_id, state, count FROM task_counts WHERE task_id BETWEEN ? AND ? AND count > 0",
    )
    .bind(oldest.id.0)
    .bind(newest.id.0)
    .fetch_all(conn)
    .await
    .doing("reading the counts of upgrades")?;
    let mut counts = BTreeMap::<i64, BTreeMap<UpgradeState, u64>>::new();
    for row in &rows {
        counts
            .entry(row.int("task_id")?)
            .or_default()
            .insert(rows::upgrade_state(row.value("state")?)?, row.int("count")?);
    }
    for task in tasks {
        task.counts = counts.remove(&task.id.0).unwrap_or_default();
    }
    Ok(())
}

pub(super) fn record(row: &SqliteRow) -> Result<TaskRecord, StoreError> {
    Ok(TaskRecord {
        id: TaskId(row.int("id")?),
        name: row.value("name")?,
        package: PackageId(row.int("package_id")?),
        product: row.value("product")?,
        version: row.version("version")?,
        state: rows::task_state(row.value("state")?)?,
        start_at: row.time("start_at")?,
        retry: RetryPolicy {
            attempts: row.int("retry_attempts")?,
            interval_s: row.int("retry_interval_s")?,
        },
        created_at: row.time("created_at")?,
        stopped_at: row.maybe_time("stopped_at")?,
        ended_at: row.maybe_time("ended_at")?,
        excluded: row.int("excluded")?,
        counts: BTreeMap::new(),
    })
}
