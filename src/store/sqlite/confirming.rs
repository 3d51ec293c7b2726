//! What the owner of a device says of its upgrade: he confirms it, at once or for a time, changes that, takes it back, or refuses.

use sqlx::SqliteConnection;

use super::{
    Doing, SqliteStore,
    bulk::json_list,
    cancel, counts,
    events::Announcements,
    rows::{self, Columns as _},
    turns,
    watched::Table,
};
use crate::{
    clock::UtcMillis,
    ledger::{Cancellation, Happened, Line, TaskId, UpgradeId},
    store::{ChangeUpgradeError, StoreError, UpgradeRecord, UpgradeState, Within},
};

const CONFIRMING: &str = "confirming an upgrade";

impl SqliteStore {
    pub(super) async fn confirm_one(
        &self,
        id: UpgradeId,
        within: Option<&Within>,
        confirmed: bool,
        by: &str,
        now: UtcMillis,
    ) -> Result<UpgradeRecord, ChangeUpgradeError> {
        let mut tx = self.write(CONFIRMING).await?;
        tx.watch(Table::Upgrades, id.0).await.doing(CONFIRMING)?;
        let upgrade = cancel::read_within(&mut tx, id, within).await?;
        let was_asked = asks_owners(&mut tx, upgrade.task).await?;
        match (waits(&upgrade, now), confirmed) {
            (true, true) => {
                let line = Happened::Confirmed { by: by.to_owned() };
                let answered = set(&mut tx, &upgrade, Answer::AtOnce, line, now).await;
                answered.doing(CONFIRMING)?;
            }
            (true, false) => refuse(&mut tx, &upgrade, now).await.doing(CONFIRMING)?,
            // it is said twice
            (false, true) if was_asked && !upgrade.unconfirmed => return Ok(upgrade),
            (false, _) => return Err(not_awaited(&upgrade)),
        }
        let upgrade = cancel::read(&mut tx, id).await?;
        tx.commit().await.doing(CONFIRMING)?;
        Ok(upgrade)
    }

    pub(super) async fn confirm_one_for(
        &self,
        id: UpgradeId,
        within: Option<&Within>,
        at: Option<UtcMillis>,
        by: &str,
        now: UtcMillis,
    ) -> Result<UpgradeRecord, ChangeUpgradeError> {
        let mut tx = self.write(CONFIRMING).await?;
        tx.watch(Table::Upgrades, id.0).await.doing(CONFIRMING)?;
        let upgrade = cancel::read_within(&mut tx, id, within).await?;
        let unchanged = match at {
            Some(at) => upgrade.confirmed_for == Some(at),
            None => upgrade.unconfirmed && upgrade.state == UpgradeState::Pending,
        };
        if !waits(&upgrade, now) {
            return Err(not_awaited(&upgrade));
        }
        if unchanged {
            return Ok(upgrade); // it is said twice
        }
        let by = by.to_owned();
        let (answer, line) = match at {
            Some(at) => {
                check(&mut tx, &upgrade, now, at).await?;
                (Answer::For(at), Happened::ConfirmedFor { by, at })
            }
            None => (Answer::NotYet, Happened::ConfirmationTakenBack { by }),
        };
        set(&mut tx, &upgrade, answer, line, now)
            .await
            .doing(CONFIRMING)?;
        let upgrade = cancel::read(&mut tx, id).await?;
        tx.commit().await.doing(CONFIRMING)?;
        Ok(upgrade)
    }
}

/// What the owner of a device has said.
#[derive(Debug, Clone, Copy)]
enum Answer {
    AtOnce,
    For(UtcMillis),
    NotYet,
}

/// Whether its owner may answer: he has not, or for a time that has not come.
fn waits(upgrade: &UpgradeRecord, now: UtcMillis) -> bool {
    let later = upgrade.confirmed_for.is_some_and(|at| at > now);
    upgrade.state == UpgradeState::Pending && (upgrade.unconfirmed || later)
}

fn not_awaited(upgrade: &UpgradeRecord) -> ChangeUpgradeError {
    let (id, state) = (upgrade.id, upgrade.state);
    ChangeUpgradeError::NotAwaited { id, state }
}

/// Whether upgrades of a task are confirmed by the owners of their devices.
async fn asks_owners(conn: &mut SqliteConnection, task: TaskId) -> Result<bool, StoreError> {
    sqlx::query_scalar(
        "SELECT COALESCE((SELECT rules ->> '$.confirmation' IS NOT NULL FROM tasks WHERE id = ?), 0)",
    )
    .bind(task.0)
    .fetch_one(conn)
    .await
    .doing(CONFIRMING)
}

/// Whether it may be confirmed for that time.
async fn check(
    conn: &mut SqliteConnection,
    upgrade: &UpgradeRecord,
    now: UtcMillis,
    at: UtcMillis,
) -> Result<(), ChangeUpgradeError> {
    let row = sqlx::query(
        "SELECT t.rules, COALESCE(u.not_before_else, u.not_before) AS due, \
             (SELECT l.zone FROM task_lots l WHERE l.task_id = u.task_id AND l.lot = u.lot) AS zone \
         FROM upgrades u JOIN tasks t ON t.id = u.task_id WHERE u.id = ?",
    )
    .bind(upgrade.id.0)
    .fetch_one(conn)
    .await
    .doing(CONFIRMING)?;
    let rules: Option<String> = row.value("rules")?;
    let rules = rules.as_deref().map(rows::rules_of).transpose()?;
    let zone: Option<String> = row.value("zone")?;
    let due = row.time("due")?;
    let rules = rules.unwrap_or_default();
    (rules.check_confirmed_for(zone.as_deref(), due, now, at))
        .map_err(|why| ChangeUpgradeError::NotThen(upgrade.id, why))
}

/// The owner of its device has answered so.
async fn set(
    conn: &mut SqliteConnection,
    upgrade: &UpgradeRecord,
    answer: Answer,
    line: Happened,
    now: UtcMillis,
) -> Result<(), sqlx::Error> {
    write(conn, upgrade, answer).await?;
    let line: Line = line.into();
    let (code, arguments) = rows::line_columns(&line);
    sqlx::query(
        "INSERT INTO upgrade_events (upgrade_id, at, attempt, kind, code, arguments) VALUES (?, ?, ?, 'note', ?, ?)",
    )
    .bind(upgrade.id.0)
    .bind(now.0)
    .bind(upgrade.attempts)
    .bind(code)
    .bind(arguments)
    .execute(conn)
    .await
    .map(|_| ())
}

async fn write(
    conn: &mut SqliteConnection,
    upgrade: &UpgradeRecord,
    answer: Answer,
) -> Result<(), sqlx::Error> {
    let at = match answer {
        Answer::For(at) => Some(at.0),
        Answer::AtOnce | Answer::NotYet => None,
    };
    // what was confirmed for a time before is as if it had not been
    sqlx::query(
        "UPDATE upgrades SET unconfirmed = ?1, confirmed_for = ?2, \
             not_before_else = IIF(?2 IS NULL, NULL, COALESCE(not_before_else, not_before)), \
             not_before = MAX(COALESCE(not_before_else, not_before), COALESCE(?2, 0)) WHERE id = ?3",
    )
    .bind(matches!(answer, Answer::NotYet))
    .bind(at)
    .bind(upgrade.id.0)
    .execute(&mut *conn)
    .await?;
    turns::settle(conn, &json_list([&upgrade.endpoint])).await
}

/// Its owner refuses it. Should it be tried again, he is asked again.
async fn refuse(
    conn: &mut SqliteConnection,
    upgrade: &UpgradeRecord,
    now: UtcMillis,
) -> Result<(), sqlx::Error> {
    write(conn, upgrade, Answer::NotYet).await?;
    let (task, why) = (upgrade.task, Cancellation::Refused);
    let mut announcements = Announcements::default();
    cancel::cancel_waiting(conn, task, &[upgrade.id.0], why, now, &mut announcements).await?;
    counts::end_task_if_done(conn, task, now, &mut announcements).await?;
    announcements.deliver(conn).await
}
