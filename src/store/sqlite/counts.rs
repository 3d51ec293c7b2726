//! How many upgrades of a task are in each state: kept, because counting a million takes a second.

use std::collections::BTreeMap;

use sqlx::SqliteConnection;

use super::{bulk::RowStatement, events::Announcements};
use crate::{
    clock::UtcMillis,
    ledger::{Outcome, TaskId},
    store::UpgradeState,
};

const ADD: RowStatement = RowStatement {
    head: "INSERT INTO task_counts (task_id, state, lot, reason, count) VALUES ",
    row: "(?, ?, ?, ?, ?)",
    tail: " ON CONFLICT (task_id, state, lot, reason) DO UPDATE SET count = count + excluded.count",
};

/// By how much the counts of tasks change in a transaction.
#[derive(Debug, Default)]
pub(super) struct CountChanges(BTreeMap<(TaskId, UpgradeState, u32, String), i64>);

impl CountChanges {
    /// `count` upgrades of a lot came to be in `state`; those that failed or were skipped, for this reason.
    pub(super) fn add(
        &mut self,
        task: TaskId,
        lot: u32,
        state: UpgradeState,
        reason: Option<&str>,
        count: i64,
    ) {
        let reason = reason.filter(|reason| match state {
            UpgradeState::Failed => true,
            UpgradeState::Cancelled => Outcome::SKIPS.contains(reason),
            _ => false,
        });
        let reason = reason.unwrap_or_default().to_owned();
        *self.0.entry((task, state, lot, reason)).or_default() += count;
    }

    /// Writes them.
    pub(super) async fn write(self, conn: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        let changed: Vec<_> = self.0.into_iter().filter(|(_, by)| *by != 0).collect();
        ADD.execute(conn, &changed, |query, ((task, state, lot, reason), by)| {
            (query.bind(task.0).bind(state.name()))
                .bind(*lot)
                .bind(reason.clone())
                .bind(*by)
        })
        .await
    }
}

/// Ends a task that has no upgrade left that waits or runs, unless devices may join it, and announces it. Its counts are
/// written.
pub(super) async fn end_task_if_done(
    conn: &mut SqliteConnection,
    task: TaskId,
    at: UtcMillis,
    announcements: &mut Announcements,
) -> Result<(), sqlx::Error> {
    let ended = sqlx::query(
        "UPDATE tasks SET state = CASE state WHEN 'stopping' THEN 'stopped' ELSE 'finished' END, ended_at = ?1 \
         WHERE id = ?2 AND state IN ('scheduled', 'running', 'stopping') \
             AND (joining = 0 OR state = 'stopping' OR expired = 1) AND NOT EXISTS ( \
             SELECT 1 FROM task_counts WHERE task_id = ?2 AND count > 0 \
                 AND state NOT IN ('succeeded', 'failed', 'cancelled'))",
    )
    .bind(at.0)
    .bind(task.0)
    .execute(&mut *conn)
    .await?;
    if ended.rows_affected() > 0 {
        announcements.task(conn, task).await?;
    }
    Ok(())
}
