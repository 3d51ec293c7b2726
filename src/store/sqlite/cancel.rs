//! Upgrades that the operator cancels: one by itself, or all of a task that is stopped. Those that wait end here, those
//! that run are ended by the engine.

use sqlx::SqliteConnection;

use super::{
    Doing, SqliteStore,
    bulk::json_list,
    counts::{self, CountChanges},
    events::Announcements,
    packed::Packed,
    rows,
    upgrade_rows::{self, DetailRow},
};
use crate::{
    clock::UtcMillis,
    ledger::{Cancellation, Happened, Outcome, TaskId, UpgradeId},
    store::{CancelUpgradeError, UpgradeRecord, UpgradeState},
};

const DOING: &str = "cancelling an upgrade";

impl SqliteStore {
    /// See [`crate::store::Store::cancel_upgrade`].
    pub(super) async fn cancel(
        &self,
        id: UpgradeId,
        now: UtcMillis,
    ) -> Result<UpgradeRecord, CancelUpgradeError> {
        let mut tx = self.write(DOING).await?;
        let upgrade = read(&mut tx, id).await?;
        match upgrade.state {
            UpgradeState::Pending => {
                let announcements = Announcements::begin(&mut tx).await.doing(DOING)?;
                let waiting = [id.0];
                let why = Cancellation::Upgrade;
                cancel_waiting(&mut tx, upgrade.task, &waiting, why, now, &announcements)
                    .await
                    .doing(DOING)?;
                counts::end_task_if_done(&mut tx, upgrade.task, now, &announcements)
                    .await
                    .doing(DOING)?;
                announcements.deliver(&mut tx).await.doing(DOING)?;
            }
            UpgradeState::Active(_) => {
                sqlx::query(
                    "UPDATE upgrades SET cancel_requested_at = COALESCE(cancel_requested_at, ?) WHERE id = ?",
                )
                .bind(now.0)
                .bind(id.0)
                .execute(&mut *tx)
                .await
                .doing(DOING)?;
            }
            UpgradeState::Cancelled => return Ok(upgrade),
            UpgradeState::Succeeded | UpgradeState::Failed => {
                let state = upgrade.state;
                return Err(CancelUpgradeError::Ended { id, state });
            }
        }
        let upgrade = read(&mut tx, id).await?;
        tx.commit().await.doing(DOING)?;
        Ok(upgrade)
    }
}

async fn read(
    conn: &mut SqliteConnection,
    id: UpgradeId,
) -> Result<UpgradeRecord, CancelUpgradeError> {
    let query = sqlx::query(upgrade_rows::ONE).bind(id.0);
    let found = Packed::fetch(query, conn, DOING).await?;
    let row = found.rows::<DetailRow>().next().transpose()?;
    let record = row.map(|row| row.upgrade.record()).transpose()?;
    record.ok_or(CancelUpgradeError::NotFound(id))
}

/// Ends upgrades of a task that wait: writes the outcome, the line, the counts and the event of each.
pub(super) async fn cancel_waiting(
    conn: &mut SqliteConnection,
    task: TaskId,
    waiting: &[i64],
    why: Cancellation,
    at: UtcMillis,
    announcements: &Announcements,
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
    let mut counts = CountChanges::default();
    let count = i64::try_from(waiting.len()).unwrap_or(i64::MAX);
    counts.moved(task, UpgradeState::Pending, UpgradeState::Cancelled, count);
    counts.write(conn).await?;
    announcements.upgrades(conn, &ids).await
}
