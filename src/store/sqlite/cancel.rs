//! Upgrades that the operator cancels: one by itself, or all of a task that is stopped. Those that wait end here, those
//! that run are ended by the engine.

use sqlx::SqliteConnection;

use super::{
    bulk::json_list,
    counts::CountChanges,
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

/// Ends upgrades of a task that wait: writes the outcome, the line, the counts and the event of each.
pub(super) async fn cancel_waiting(
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
