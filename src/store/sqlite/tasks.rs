use std::{collections::BTreeMap, sync::Arc};

use sqlx::{SqliteConnection, sqlite::SqliteRow};

use super::{
    Doing, narrowing, results,
    rows::{self, Columns},
    traffic,
};
use crate::{
    ledger::{PackageId, RetryPolicy, TaskId, Traffic},
    store::{Origin, StoreError, TaskRecord},
    task::Results,
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
    let range = (oldest.id, newest.id);
    let mut results = results::between(conn, range.0, range.1).await?;
    let traffic = traffic::of_tasks(conn, range).await?;
    for task in tasks {
        task.traffic = traffic.get(&task.id).copied().unwrap_or_default();
        if task.rules.budget.is_some() && task.state.may_begin() {
            task.put_off = traffic::put_off_in(conn, task.id).await?;
        }
        let results = results.remove(&task.id).unwrap_or_default();
        task.counts = results.counts;
        task.results = results.phases;
        task.skipped = results.skipped;
        let phases = task.rules.phase_count().max(task.results.len());
        task.results.resize_with(phases, Results::default);
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
            reasons: rows::retry_reasons(row.value("retry_reasons")?)?,
        },
        rules: match row.value::<Option<String>>("rules")? {
            Some(rules) => Arc::new(rows::rules_of(&rules)?),
            None => Arc::default(),
        },
        packages: Arc::new(rows::from_json(row, "packages")?.unwrap_or_default()),
        hold: rows::from_json(row, "hold")?,
        phase: row.int("phase")?,
        results: Vec::new(),
        expired: row.value("expired")?,
        approval: rows::from_json(row, "approval")?,
        revision: row.int("revision")?,
        origin: Origin {
            by: row.value("created_by")?,
            scope: narrowing::filter(row, "scope")?,
        },
        changed_by: rows::from_json(row, "changed_by")?.unwrap_or_default(),
        traffic: Traffic::default(),
        put_off: (0, None),
        created_at: row.time("created_at")?,
        stopped_at: row.maybe_time("stopped_at")?,
        ended_at: row.maybe_time("ended_at")?,
        excluded: row.int("excluded")?,
        targets: narrowing::targets(row)?,
        narrowed: narrowing::narrowed(row)?,
        left_out: row.int("left_out")?,
        skipped: BTreeMap::new(),
        counts: BTreeMap::new(),
    })
}
