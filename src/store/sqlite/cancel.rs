//! Upgrades that the operator cancels: one by itself, or all of a task that is stopped. Those that wait end here, those
//! that run are ended by the engine.

use std::collections::BTreeMap;

use sqlx::SqliteConnection;

use super::{
    bulk::json_list,
    counts::{self, CountChanges},
    events::Announcements,
    narrowing,
    packed::Packed,
    rows,
    upgrade_rows::{self, DetailRow},
};
use crate::{
    clock::UtcMillis,
    ledger::{Cancellation, Happened, Outcome, TaskId, UpgradeId},
    store::{CancelUpgradeError, UpgradeRecord, UpgradeState, Within},
};

pub(super) const CANCELLING: &str = "cancelling an upgrade";

pub(super) async fn read(
    conn: &mut SqliteConnection,
    id: UpgradeId,
) -> Result<UpgradeRecord, CancelUpgradeError> {
    let query = sqlx::query(upgrade_rows::ONE).bind(id.0);
    let found = Packed::fetch(query, conn, CANCELLING).await?;
    let row = found.rows::<DetailRow>().next().transpose()?;
    let (_, record) = row.ok_or(CancelUpgradeError::NotFound(id))?.split()?;
    Ok(record)
}

/// An upgrade whose device is there within that, if it is given.
pub(super) async fn read_within(
    conn: &mut SqliteConnection,
    id: UpgradeId,
    within: Option<&Within>,
) -> Result<UpgradeRecord, CancelUpgradeError> {
    let upgrade = read(conn, id).await?;
    if narrowing::is_there(conn, &upgrade.endpoint, within).await? {
        return Ok(upgrade);
    }
    Err(CancelUpgradeError::NotFound(id))
}

/// Ends upgrades of a task that wait, and those that were to follow them: writes the outcome, the line, the counts and the event of each.
pub(super) async fn cancel_waiting(
    conn: &mut SqliteConnection,
    task: TaskId,
    waiting: &[i64],
    why: Cancellation,
    at: UtcMillis,
    announcements: &mut Announcements,
) -> Result<(), sqlx::Error> {
    end_waiting(conn, task, waiting, why, at, announcements).await?;
    cancel_following(conn, waiting.to_vec(), at, announcements).await
}

/// Those that wait for one of these, a JSON list, and wait in vain, by their tasks.
pub(super) const FOLLOWING: &str = "SELECT n.task_id, n.id FROM json_each(?) j CROSS JOIN upgrades b ON b.id = j.value \
         CROSS JOIN upgrades n INDEXED BY upgrades_after ON n.after_id = b.id \
     WHERE b.phase = 2 AND b.state <> 'succeeded' AND n.phase = 0";

/// Ends what was to follow upgrades that have ended otherwise than well, and what was to follow that. Tasks that are done with it end.
pub(super) async fn cancel_following(
    conn: &mut SqliteConnection,
    mut ended: Vec<i64>,
    at: UtcMillis,
    announcements: &mut Announcements,
) -> Result<(), sqlx::Error> {
    while !ended.is_empty() {
        let found: Vec<(i64, i64)> = sqlx::query_as(FOLLOWING)
            .bind(json_list(&ended))
            .fetch_all(&mut *conn)
            .await?;
        let mut by_task: BTreeMap<TaskId, Vec<i64>> = BTreeMap::new();
        for (task, upgrade) in &found {
            by_task.entry(TaskId(*task)).or_default().push(*upgrade);
        }
        for (task, waiting) in by_task {
            let why = Cancellation::NotReached;
            end_waiting(conn, task, &waiting, why, at, announcements).await?;
            counts::end_task_if_done(conn, task, at, announcements).await?;
        }
        ended = found.into_iter().map(|(_, upgrade)| upgrade).collect();
    }
    Ok(())
}

async fn end_waiting(
    conn: &mut SqliteConnection,
    task: TaskId,
    waiting: &[i64],
    why: Cancellation,
    at: UtcMillis,
    announcements: &mut Announcements,
) -> Result<(), sqlx::Error> {
    let ids = json_list(waiting);
    let outcome = Outcome::Cancelled(why);
    let line = Happened::ended(&outcome, None, Box::default());
    let (code, arguments) = rows::line_columns(&line);
    sqlx::query(
        "INSERT INTO upgrade_events (upgrade_id, at, attempt, kind, code, arguments) \
         SELECT u.id, ?, u.attempt, ?, ?, ? FROM json_each(?) j CROSS JOIN upgrades u ON u.id = j.value",
    )
    .bind(at.0)
    .bind(outcome.state())
    .bind(code)
    .bind(arguments)
    .bind(&ids)
    .execute(&mut *conn)
    .await?;
    sqlx::query(
        "UPDATE upgrades SET state = ?1, phase = 2, free = 0, outcome_state = ?1, outcome_reason = ?2, \
             outcome_detail = NULL, outcome_arguments = ?3, outcome_at = ?4, ended_at = ?4 \
         WHERE id IN (SELECT value FROM json_each(?5))",
    )
    .bind(outcome.state())
    .bind(outcome.reason())
    .bind(rows::json(&outcome.facts()))
    .bind(at.0)
    .bind(&ids)
    .execute(&mut *conn)
    .await?;
    let lots: Vec<(u32, i64)> = sqlx::query_as(
        "SELECT u.lot, COUNT(*) FROM json_each(?) j CROSS JOIN upgrades u ON u.id = j.value GROUP BY u.lot",
    )
    .bind(&ids)
    .fetch_all(&mut *conn)
    .await?;
    let mut counts = CountChanges::default();
    for (lot, count) in lots {
        counts.add(task, lot, UpgradeState::Pending, None, -count);
        counts.add(
            task,
            lot,
            UpgradeState::Cancelled,
            Some(outcome.reason()),
            count,
        );
    }
    counts.write(conn).await?;
    announcements.upgrades(conn, &ids).await
}
