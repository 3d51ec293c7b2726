//! What is done with one upgrade besides cancelling it: it is tried again, or passed over.

use sqlx::SqliteConnection;

use super::{
    Doing, SqliteStore,
    bulk::json_list,
    cancel,
    counts::{self, CountChanges},
    events::Announcements,
    rows,
    soaks::{self, PassedOver},
    task_changes::{again_part, forget_results, is_over_time},
    task_packages, task_writes,
    watched::Table,
};
use crate::{
    clock::UtcMillis,
    ledger::{Cancellation, Happened, Outcome, TaskState, UpgradeId},
    store::{
        Again, ChangeTaskError, ChangeUpgradeError, SoakState, UpgradeRecord, UpgradeState, Within,
    },
};

const RETRYING: &str = "trying an upgrade again";
const SKIPPING: &str = "passing over an upgrade";

/// The last upgrade of a device in a task.
pub(super) const LAST_OF: &str = "SELECT u.id FROM upgrades u INDEXED BY upgrades_of_device \
     WHERE u.endpoint = ? AND u.task_id = ? ORDER BY u.id DESC LIMIT 1";

impl SqliteStore {
    pub(super) async fn retry_one(
        &self,
        id: UpgradeId,
        within: Option<&Within>,
        now: UtcMillis,
    ) -> Result<UpgradeRecord, ChangeUpgradeError> {
        let mut tx = self.write(RETRYING).await?;
        tx.watch(Table::Upgrades, id.0).await.doing(RETRYING)?;
        let upgrade = cancel::read_within(&mut tx, id, within).await?;
        match upgrade.state {
            UpgradeState::Active(_) => {
                let stage = upgrade.state;
                return Err(ChangeUpgradeError::Running { id, stage });
            }
            UpgradeState::Succeeded => return Err(ChangeUpgradeError::Succeeded(id)),
            UpgradeState::Pending if upgrade.attempts == 0 => return Ok(upgrade),
            UpgradeState::Pending => wait_no_longer(&mut tx, id, now).await.doing(RETRYING)?,
            UpgradeState::Failed | UpgradeState::Cancelled => {
                take_up(&mut tx, &upgrade, now).await?;
            }
        }
        let upgrade = cancel::read(&mut tx, id).await?;
        tx.commit().await.doing(RETRYING)?;
        Ok(upgrade)
    }

    pub(super) async fn skip_one(
        &self,
        id: UpgradeId,
        within: Option<&Within>,
        now: UtcMillis,
    ) -> Result<UpgradeRecord, ChangeUpgradeError> {
        let mut tx = self.write(SKIPPING).await?;
        tx.watch(Table::Upgrades, id.0).await.doing(SKIPPING)?;
        let upgrade = cancel::read_within(&mut tx, id, within).await?;
        let (task, why) = (upgrade.task, Cancellation::Skipped);
        let mut announcements = Announcements::default();
        match upgrade.state {
            UpgradeState::Active(_) => {
                let stage = upgrade.state;
                return Err(ChangeUpgradeError::Running { id, stage });
            }
            UpgradeState::Succeeded => {
                if soaks::pass_over(&mut tx, PassedOver::Upgrade(id), now).await? == 0 {
                    drop(tx);
                    let soak = self.soak_of(id).await?.map(|soak| soak.state);
                    return if soak == Some(SoakState::PassedOver) {
                        Ok(upgrade)
                    } else {
                        Err(ChangeUpgradeError::Succeeded(id))
                    };
                }
            }
            UpgradeState::Cancelled => return Ok(upgrade),
            UpgradeState::Pending => {
                cancel::cancel_waiting(&mut tx, task, &[id.0], why, now, &mut announcements)
                    .await
                    .doing(SKIPPING)?;
                counts::end_task_if_done(&mut tx, task, now, &mut announcements)
                    .await
                    .doing(SKIPPING)?;
            }
            UpgradeState::Failed => {
                forget_failure(&mut tx, &upgrade, now, &mut announcements)
                    .await
                    .doing(SKIPPING)?;
                forget_results(&mut tx, task).await?;
            }
        }
        announcements.deliver(&mut tx).await.doing(SKIPPING)?;
        let upgrade = cancel::read(&mut tx, id).await?;
        tx.commit().await.doing(SKIPPING)?;
        Ok(upgrade)
    }
}

async fn wait_no_longer(
    conn: &mut SqliteConnection,
    id: UpgradeId,
    now: UtcMillis,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE upgrades SET not_before = MAX(MIN(not_before, ?), COALESCE(confirmed_for, 0)), over_budget = 0 WHERE id = ?",
    )
        .bind(now.0)
        .bind(id.0)
        .execute(conn)
        .await
        .map(|_| ())
}

/// Has an upgrade that has ended wait again.
async fn take_up(
    conn: &mut SqliteConnection,
    upgrade: &UpgradeRecord,
    now: UtcMillis,
) -> Result<(), ChangeUpgradeError> {
    let task = upgrade.task;
    let state = task_writes::state(conn, task).await?;
    if let Some(state @ (TaskState::Stopping | TaskState::Stopped)) = state {
        return Err(ChangeTaskError::Ended { id: task, state }.into());
    }
    task_packages::may_serve_again(conn, task, state).await?;
    if upgrade.attempts == 0 && is_over_time(conn, task, now).await? {
        return Err(ChangeUpgradeError::TooLate(upgrade.id, task));
    }
    let last: Option<i64> = sqlx::query_scalar(LAST_OF)
        .bind(&upgrade.endpoint)
        .bind(task.0)
        .fetch_optional(&mut *conn)
        .await
        .doing(RETRYING)?;
    if let Some(last) = last.filter(|last| *last > upgrade.id.0) {
        let (id, later) = (upgrade.id, UpgradeId(last));
        return Err(ChangeUpgradeError::Later { id, later });
    }
    let before = upgrade.id.0 - 1;
    let taken_up = again_part(
        conn,
        task,
        &Again::from(upgrade.id),
        upgrade.state,
        before,
        now,
    )
    .await?;
    if taken_up.is_empty() {
        return Err(ChangeUpgradeError::DeviceRemoved(upgrade.id));
    }
    // Its task goes on as it stands, unless it had ended: what holds it holds this one too. Nobody has approved a task that ended
    // while it waited for that, so that it waits again.
    sqlx::query(
        "UPDATE tasks SET ended_at = NULL, expired = 0, \
             hold = IIF(COALESCE(hold ->> 'code', '') <> 'approval' \
                 AND (state = 'finished' OR hold ->> 'code' IN ('phase_done', 'phase_failed')), NULL, hold), \
             state = IIF(state = 'finished', IIF(hold ->> 'code' = 'approval', 'scheduled', 'running'), state) WHERE id = ?",
    )
    .bind(task.0)
    .execute(&mut *conn)
    .await
    .doing(RETRYING)?;
    forget_results(conn, task).await?;
    Ok(())
}

/// Has a failure be none: its cell has seen it still, its task has not.
async fn forget_failure(
    conn: &mut SqliteConnection,
    upgrade: &UpgradeRecord,
    at: UtcMillis,
    announcements: &mut Announcements,
) -> Result<(), sqlx::Error> {
    let outcome = Outcome::Cancelled(Cancellation::Skipped);
    let line = Happened::ended(&outcome, None, Box::default());
    let (code, arguments) = rows::line_columns(&line);
    sqlx::query(
        "INSERT INTO upgrade_events (upgrade_id, at, attempt, kind, code, arguments) \
         SELECT id, ?, attempt, ?, ?, ? FROM upgrades WHERE id = ?",
    )
    .bind(at.0)
    .bind(outcome.state())
    .bind(code)
    .bind(arguments)
    .bind(upgrade.id.0)
    .execute(&mut *conn)
    .await?;
    let (lot, reason): (u32, Option<String>) =
        sqlx::query_as("SELECT lot, outcome_reason FROM upgrades WHERE id = ?")
            .bind(upgrade.id.0)
            .fetch_one(&mut *conn)
            .await?;
    sqlx::query(
        "UPDATE upgrades SET state = ?1, outcome_state = ?1, outcome_reason = ?2, outcome_detail = NULL, \
             outcome_arguments = ?3, outcome_at = ?4, ended_at = ?4 WHERE id = ?5",
    )
    .bind(outcome.state())
    .bind(outcome.reason())
    .bind(rows::json(&outcome.facts()))
    .bind(at.0)
    .bind(upgrade.id.0)
    .execute(&mut *conn)
    .await?;
    let mut counts = CountChanges::default();
    let task = upgrade.task;
    counts.add(task, lot, UpgradeState::Failed, reason.as_deref(), -1);
    counts.add(
        task,
        lot,
        UpgradeState::Cancelled,
        Some(outcome.reason()),
        1,
    );
    counts.write(conn).await?;
    let ids = json_list([upgrade.id.0]);
    announcements.upgrades(conn, &ids).await
}
