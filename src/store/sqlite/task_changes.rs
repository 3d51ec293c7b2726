//! What becomes of a task while it runs: by the planner, and by its operator.

use std::time::Duration;

use sqlx::SqliteConnection;

use super::{
    Doing, PART, SqliteStore,
    bulk::json_list,
    cancel::cancel_waiting,
    counts::{self, CountChanges},
    events::Announcements,
    home_asks, results,
    rows::{self, Columns as _},
    task_packages,
    task_writes::{StoppedBy, state, stop_part},
    tasks,
    traffic::put_off_no_longer,
    turns,
    watched::Table,
};
use crate::{
    access::ANYBODY,
    clock::UtcMillis,
    ledger::{Cancellation, Happened, Line, TaskId, TaskState, UpgradeId},
    store::{
        Again, ChangeTaskError, StopTaskError, StoreError, TaskChange, TaskRecord, UpgradeState,
    },
    task::{Hold, HoldReason, Membership, Move, Results, TaskRules},
};

pub(super) const CHANGING: &str = "changing a task";
const MOVING: &str = "moving tasks on";
/// Callers that have changed a task and are named.
const MAX_CHANGERS: usize = 100;

impl SqliteStore {
    pub(super) async fn make_move(&self, step: &Move, now: UtcMillis) -> Result<(), StoreError> {
        let mut tx = self.write(MOVING).await?;
        match step {
            Move::Begin(task) => {
                sqlx::query(
                    "UPDATE tasks SET state = 'running' WHERE id = ? AND state = 'scheduled' AND hold IS NULL",
                )
                .bind(task.0)
                .execute(&mut *tx)
                .await
                .doing(MOVING)?;
            }
            Move::NextPhase { task, from } => {
                sqlx::query(
                    "UPDATE tasks SET phase = phase + 1 \
                     WHERE id = ? AND state = 'running' AND phase = ? AND hold IS NULL",
                )
                .bind(task.0)
                .bind(*from)
                .execute(&mut *tx)
                .await
                .doing(MOVING)?;
            }
            Move::Hold(task, hold) => {
                if set_hold(&mut tx, *task, hold).await.doing(MOVING)? {
                    let mut announcements = Announcements::default();
                    announcements
                        .held(&mut tx, *task, hold)
                        .await
                        .doing(MOVING)?;
                    announcements.deliver(&mut tx).await.doing(MOVING)?;
                }
            }
            Move::Stop(task, why) => {
                let hold = Hold {
                    why: why.clone(),
                    at: now,
                };
                if !set_hold(&mut tx, *task, &hold).await.doing(MOVING)? {
                    return Ok(()); // it has ended meanwhile, or an operator has paused it
                }
                // with the first part, so that no crash leaves it merely paused
                let more = stop_part(&mut tx, *task, now, StoppedBy::Failures).await?;
                tx.commit().await.doing(MOVING)?;
                if more {
                    self.go_on_stopping(*task, now);
                }
                return Ok(());
            }
            Move::Expire(task) => {
                while expire_part(&mut tx, *task, now).await? {
                    tx.commit().await.doing(MOVING)?;
                    tx = self.write(MOVING).await?;
                }
            }
        }
        tx.commit().await.doing(MOVING)
    }

    /// Stops what is left of a task of which a part is stopped, beside what else is done, and as soon as the database lets it.
    fn go_on_stopping(&self, task: TaskId, now: UtcMillis) {
        const AFTER_ERROR: Duration = Duration::from_secs(5);
        let store = self.clone();
        tokio::spawn(async move {
            while let Err(StopTaskError::Store(error)) =
                (store.stop_in_parts(task, now, StoppedBy::Failures)).await
            {
                if store.writer.is_closed() {
                    return; // the next start goes on
                }
                tracing::warn!(%error, task = task.0, "a task cannot be stopped; trying again");
                tokio::time::sleep(AFTER_ERROR).await;
            }
        });
    }

    #[expect(clippy::too_many_lines, reason = "one match over all changes")]
    pub(super) async fn change(
        &self,
        id: TaskId,
        change: &TaskChange,
        now: UtcMillis,
    ) -> Result<TaskRecord, ChangeTaskError> {
        let mut tx = self.write(CHANGING).await?;
        tx.watch(Table::Tasks, id.0).await.doing(CHANGING)?;
        if let Some(why) = change.why() {
            tx.because(why);
        }
        let task = tasks::read(&mut tx, id)
            .await?
            .ok_or(ChangeTaskError::NotFound(id))?;
        if !task.state.may_begin() {
            let state = task.state;
            return Err(ChangeTaskError::Ended { id, state });
        }
        let held_for = task.hold.as_ref().map(|hold| hold.why.clone());
        match change {
            TaskChange::Pause { note } => {
                if let Some(why) = held_for {
                    return Err(ChangeTaskError::Held { id, why });
                }
                let why = HoldReason::Paused { note: note.clone() };
                let hold = Hold { why, at: now };
                set_hold(&mut tx, id, &hold).await.doing(CHANGING)?;
                let mut announcements = Announcements::default();
                announcements
                    .held(&mut tx, id, &hold)
                    .await
                    .doing(CHANGING)?;
                announcements.deliver(&mut tx).await.doing(CHANGING)?;
            }
            TaskChange::Resume => match held_for {
                None => return Err(ChangeTaskError::NotHeld(id)),
                Some(HoldReason::Approval) => return Err(ChangeTaskError::NotApproved(id)),
                Some(HoldReason::PhaseDone { phase } | HoldReason::PhaseFailed { phase, .. }) => {
                    release(&mut tx, id, phase + 1).await?;
                }
                Some(HoldReason::Paused { .. } | HoldReason::Failures { .. }) => {
                    release(&mut tx, id, task.phase).await?;
                }
            },
            TaskChange::NextPhase { from } => {
                let running = task.phase;
                if from.is_some_and(|from| from != running) {
                    return Err(ChangeTaskError::OtherPhase { id, running });
                }
                if matches!(held_for, Some(HoldReason::Approval)) {
                    return Err(ChangeTaskError::NotApproved(id));
                }
                if task.phase as usize + 1 >= task.rules.phase_count() {
                    return Err(ChangeTaskError::LastPhase(id));
                }
                release(&mut tx, id, task.phase + 1).await?;
            }
            TaskChange::Approve { approval, revision } => {
                if revision.is_some_and(|seen| seen != task.revision) {
                    let revision = task.revision;
                    return Err(ChangeTaskError::Changed { id, revision });
                }
                if !matches!(held_for, Some(HoldReason::Approval)) {
                    return Err(ChangeTaskError::NoApprovalAsked(id));
                }
                write_approval(&mut tx, id, &rows::json(approval)).await?;
                release(&mut tx, id, task.phase).await?;
            }
            TaskChange::Refuse(approval) => {
                if !matches!(held_for, Some(HoldReason::Approval)) {
                    return Err(ChangeTaskError::NoApprovalAsked(id));
                }
                write_approval(&mut tx, id, &rows::json(approval)).await?;
                // with the first part, so that no crash leaves it to be approved
                stop_part(&mut tx, id, now, StoppedBy::Somebody { soft: false }).await?;
                tx.commit_part().await.doing(CHANGING)?;
                let by = StoppedBy::Somebody { soft: false };
                return Ok(self.stop_in_parts(id, now, by).await.inspect_err(|error| {
                    if matches!(error, StopTaskError::Store(_)) {
                        self.go_on_stopping(id, now);
                    }
                })?);
            }
            TaskChange::Rules {
                rules,
                revision,
                by,
            } => {
                if revision.is_some_and(|seen| seen != task.revision) {
                    return Err(ChangeTaskError::Changed {
                        id,
                        revision: task.revision,
                    });
                }
                let joins = rules.membership == Membership::Joining;
                let joined = task.rules.membership == Membership::Joining;
                if joins && !joined && !may_join(&mut tx, id).await? {
                    return Err(ChangeTaskError::CannotJoin(id));
                }
                if joined && !joins && is_offered(&mut tx, id).await? {
                    return Err(ChangeTaskError::Offered(id));
                }
                set_rules(&mut tx, id, rules).await?;
                let other = rules.differ_in_more_than_share(&task.rules);
                if let Some(by) = by.as_deref().filter(|_| other) {
                    note_changer(&mut tx, &task, by).await?;
                }
                let approved = task.approval.as_ref().is_some_and(|it| it.approved);
                if approved && rules.approval && other {
                    ask_again(&mut tx, id, now).await?;
                }
                if rules.budget != task.rules.budget {
                    // with the first part, so that a crash leaves a rest that waits until next month and no more
                    let mut more = put_off_no_longer(&mut tx, id, now).await?;
                    while more {
                        tx.commit_part().await.doing(CHANGING)?;
                        tx = self.write(CHANGING).await?;
                        more = put_off_no_longer(&mut tx, id, now).await?;
                    }
                }
                if joined && !joins {
                    end_if_done(&mut tx, id, now).await?;
                }
            }
        }
        let record = tasks::read(&mut tx, id)
            .await?
            .ok_or(ChangeTaskError::NotFound(id))?;
        tx.commit().await.doing(CHANGING)?;
        Ok(record)
    }

    pub(super) async fn again_in_parts(
        &self,
        id: TaskId,
        again: &Again,
        now: UtcMillis,
    ) -> Result<(TaskRecord, u64), ChangeTaskError> {
        let (mut total, mut after) = (0, 0);
        loop {
            let mut tx = self.write(CHANGING).await?;
            tx.watch(Table::Tasks, id.0).await.doing(CHANGING)?;
            let state = state(&mut tx, id).await?;
            match state {
                None => return Err(ChangeTaskError::NotFound(id)),
                Some(state @ (TaskState::Stopping | TaskState::Stopped)) => {
                    return Err(ChangeTaskError::Ended { id, state });
                }
                Some(TaskState::Scheduled | TaskState::Running | TaskState::Finished) => {}
            }
            task_packages::may_serve_again(&mut tx, id, state).await?;
            let ids = again_part(&mut tx, id, again, UpgradeState::Failed, after, now).await?;
            let taken_up = ids.len();
            total += taken_up as u64;
            after = ids.last().copied().unwrap_or(after);
            if taken_up > 0 {
                go_on(&mut tx, id).await?;
            }
            let record = tasks::read(&mut tx, id)
                .await?
                .ok_or(ChangeTaskError::NotFound(id))?;
            tx.count("taken_up", taken_up as u64);
            if taken_up < PART as usize {
                tx.commit().await.doing(CHANGING)?;
                return Ok((record, total));
            }
            tx.commit_part().await.doing(CHANGING)?;
        }
    }
}

/// Holds a task that is not held; after a phase, if that one runs still. Returns whether it does.
async fn set_hold(
    conn: &mut SqliteConnection,
    task: TaskId,
    hold: &Hold,
) -> Result<bool, sqlx::Error> {
    let phase = match hold.why {
        HoldReason::PhaseDone { phase } | HoldReason::PhaseFailed { phase, .. } => Some(phase),
        HoldReason::Paused { .. } | HoldReason::Failures { .. } | HoldReason::Approval => None,
    };
    let updated = sqlx::query(
        "UPDATE tasks SET hold = ?1 WHERE id = ?2 AND state IN ('scheduled', 'running') AND hold IS NULL \
             AND hidden = 0 AND phase = COALESCE(?3, phase)",
    )
    .bind(rows::json(hold))
    .bind(task.0)
    .bind(phase)
    .execute(&mut *conn)
    .await?;
    Ok(updated.rows_affected() > 0)
}

/// Lets a task go on with this phase. From now on its thresholds look at what comes.
async fn release(conn: &mut SqliteConnection, task: TaskId, phase: u32) -> Result<(), StoreError> {
    let so_far = results_so_far(conn, task).await?;
    sqlx::query("UPDATE tasks SET hold = NULL, phase = ?, resumed_with = ? WHERE id = ?")
        .bind(phase)
        .bind(so_far)
        .bind(task.0)
        .execute(conn)
        .await
        .map(|_| ())
        .doing(CHANGING)
}

/// Of the results that a task was resumed with, forgets those that are none any more: thresholds would miss as many that come.
pub(super) async fn forget_results(
    conn: &mut SqliteConnection,
    task: TaskId,
) -> Result<(), StoreError> {
    let before: Option<String> = sqlx::query_scalar("SELECT resumed_with FROM tasks WHERE id = ?")
        .bind(task.0)
        .fetch_one(&mut *conn)
        .await
        .doing(CHANGING)?;
    let Some(before) = before else {
        return Ok(());
    };
    let mut before: Results = serde_json::from_str(&before)
        .map_err(|error| rows::unreadable("tasks.resumed_with", error))?;
    let mut now = results::between(conn, task, task).await?;
    before.limit_failures(&now.remove(&task).unwrap_or_default().sum());
    sqlx::query("UPDATE tasks SET resumed_with = ? WHERE id = ?")
        .bind(rows::json(&before))
        .bind(task.0)
        .execute(conn)
        .await
        .map(|_| ())
        .doing(CHANGING)
}

async fn results_so_far(conn: &mut SqliteConnection, task: TaskId) -> Result<String, StoreError> {
    let mut results = results::between(conn, task, task).await?;
    Ok(rows::json(&results.remove(&task).unwrap_or_default().sum()))
}

/// What has failed is tried again: thresholds look at what comes of it, a phase is judged anew, and a task that has finished runs
/// again. One that an operator has paused, or nobody has approved, stays so.
async fn go_on(conn: &mut SqliteConnection, task: TaskId) -> Result<(), StoreError> {
    let so_far = results_so_far(conn, task).await?;
    sqlx::query(
        "UPDATE tasks SET resumed_with = ?1, ended_at = NULL, expired = 0, \
             hold = IIF(COALESCE(hold ->> 'code', '') <> 'approval' \
                 AND (state = 'finished' OR hold ->> 'code' IN ('failures', 'phase_done', 'phase_failed')), NULL, hold), \
             state = IIF(state = 'finished', IIF(hold ->> 'code' = 'approval', 'scheduled', 'running'), state) \
         WHERE id = ?2",
    )
    .bind(so_far)
    .bind(task.0)
    .execute(conn)
    .await
    .map(|_| ())
    .doing(CHANGING)
}

async fn write_approval(
    conn: &mut SqliteConnection,
    task: TaskId,
    approval: &str,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE tasks SET approval = ? WHERE id = ?")
        .bind(approval)
        .bind(task.0)
        .execute(conn)
        .await
        .map(|_| ())
        .doing(CHANGING)
}

/// Takes an approval back: what was approved is not what the task does from now on. Nothing more of it begins before it is approved
/// again.
async fn ask_again(
    conn: &mut SqliteConnection,
    task: TaskId,
    at: UtcMillis,
) -> Result<(), StoreError> {
    let why = HoldReason::Approval;
    let hold = Hold { why, at };
    sqlx::query("UPDATE tasks SET approval = NULL, hold = ? WHERE id = ?")
        .bind(rows::json(&hold))
        .bind(task.0)
        .execute(&mut *conn)
        .await
        .doing(CHANGING)?;
    let mut announcements = Announcements::default();
    announcements
        .held(conn, task, &hold)
        .await
        .doing(CHANGING)?;
    announcements.deliver(conn).await.doing(CHANGING)
}

/// Has a task be run in another way from now on.
async fn set_rules(
    conn: &mut SqliteConnection,
    task: TaskId,
    rules: &TaskRules,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE tasks SET rules = ?, expired = 0, revision = revision + 1 WHERE id = ?")
        .bind(rows::json(rules))
        .bind(task.0)
        .execute(conn)
        .await
        .map(|_| ())
        .doing(CHANGING)
}

/// Keeps in mind who has changed a task: whoever has does not approve it.
async fn note_changer(
    conn: &mut SqliteConnection,
    task: &TaskRecord,
    by: &str,
) -> Result<(), StoreError> {
    let known = |known: &String| known == by || known == ANYBODY;
    if task.changed_by.iter().any(known) {
        return Ok(());
    }
    let mut changed_by = task.changed_by.clone();
    // beyond that it is everybody, and nobody approves it
    let by = if changed_by.len() < MAX_CHANGERS {
        by
    } else {
        ANYBODY
    };
    changed_by.push(by.to_owned());
    sqlx::query("UPDATE tasks SET changed_by = ? WHERE id = ?")
        .bind(rows::json(&changed_by))
        .bind(task.id.0)
        .execute(conn)
        .await
        .map(|_| ())
        .doing(CHANGING)
}

/// Whether devices can join a task: not one that is for a list.
async fn may_join(conn: &mut SqliteConnection, task: TaskId) -> Result<bool, StoreError> {
    sqlx::query_scalar("SELECT may_join FROM tasks WHERE id = ?")
        .bind(task.0)
        .fetch_one(conn)
        .await
        .doing(CHANGING)
}

/// Whether a task is the standing one of an offer that stands.
async fn is_offered(conn: &mut SqliteConnection, task: TaskId) -> Result<bool, StoreError> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM offers INDEXED BY offers_of_task WHERE task_id = ? AND withdrawn_at IS NULL)",
    )
    .bind(task.0)
    .fetch_one(conn)
    .await
    .doing(CHANGING)
}

/// Ends a task that waited for nothing but devices that might have joined.
async fn end_if_done(
    conn: &mut SqliteConnection,
    task: TaskId,
    now: UtcMillis,
) -> Result<(), StoreError> {
    let mut announcements = Announcements::default();
    counts::end_task_if_done(conn, task, now, &mut announcements)
        .await
        .doing(CHANGING)?;
    announcements.deliver(conn).await.doing(CHANGING)
}

/// Whether the last time of a task has passed that has not ended.
pub(super) async fn is_over_time(
    conn: &mut SqliteConnection,
    task: TaskId,
    now: UtcMillis,
) -> Result<bool, StoreError> {
    let rules: Option<String> = sqlx::query_scalar(
        "SELECT rules FROM tasks WHERE id = ? AND hidden = 0 AND state IN ('scheduled', 'running') AND rules IS NOT NULL",
    )
    .bind(task.0)
    .fetch_optional(conn)
    .await
    .doing(MOVING)?;
    let rules = rules.as_deref().map(rows::rules_of).transpose()?;
    let last = rules.and_then(|rules| rules.not_after);
    Ok(last.is_some_and(|last| last <= now))
}

/// Does away with some of what has not begun, and after the last says so of the task. Returns whether more may follow.
async fn expire_part(
    conn: &mut SqliteConnection,
    task: TaskId,
    now: UtcMillis,
) -> Result<bool, StoreError> {
    if !is_over_time(conn, task, now).await? {
        return Ok(false); // an operator gives it more time, or has ended it
    }
    let waiting: Vec<i64> = sqlx::query_scalar(
        "SELECT id FROM upgrades WHERE task_id = ? AND state = 'pending' AND (attempt = 0 OR outcome_reason = 'taken_back') \
         ORDER BY id LIMIT ?",
    )
    .bind(task.0)
    .bind(PART)
    .fetch_all(&mut *conn)
    .await
    .doing(MOVING)?;
    let mut announcements = Announcements::default();
    let why = Cancellation::Expired;
    cancel_waiting(conn, task, &waiting, why, now, &mut announcements)
        .await
        .doing(MOVING)?;
    let more = waiting.len() == PART as usize;
    if !more {
        sqlx::query(
            "UPDATE tasks SET expired = 1 WHERE id = ? AND state IN ('scheduled', 'running')",
        )
        .bind(task.0)
        .execute(&mut *conn)
        .await
        .doing(MOVING)?;
        counts::end_task_if_done(conn, task, now, &mut announcements)
            .await
            .doing(MOVING)?;
    }
    announcements.deliver(conn).await.doing(MOVING)?;
    Ok(more)
}

/// Takes some upgrades up again that have ended in a state, behind one number. Returns theirs. A device that was removed is passed over,
/// and so is one that has become another tenant's. Of a device that has several in the task, the last one counts.
#[expect(clippy::too_many_lines, reason = "one statement after the other")]
pub(super) async fn again_part(
    conn: &mut SqliteConnection,
    task: TaskId,
    again: &Again,
    state: UpgradeState,
    after: i64,
    now: UtcMillis,
) -> Result<Vec<i64>, StoreError> {
    let reasons = json_list(again.reasons.words());
    let failed = sqlx::query(
        "SELECT u.id, u.endpoint, u.lot, u.outcome_reason FROM upgrades u \
         WHERE u.task_id = ?1 AND u.state = ?6 AND u.id > ?5 AND u.id <= COALESCE(?2, 9223372036854775807) \
             AND (?3 = '[]' OR u.outcome_reason IN (SELECT value FROM json_each(?3))) \
             AND EXISTS (SELECT 1 FROM devices d WHERE d.endpoint = u.endpoint AND d.removed = 0 \
                 AND d.tenant = (SELECT t.tenant FROM tasks t WHERE t.id = ?1)) \
             AND NOT EXISTS (SELECT 1 FROM upgrades n INDEXED BY upgrades_of_device \
                 WHERE n.endpoint = u.endpoint AND n.id > u.id AND n.task_id = u.task_id) \
         ORDER BY u.id LIMIT ?4",
    )
    .bind(task.0)
    .bind(again.upgrade.map(|upgrade| upgrade.0))
    .bind(reasons)
    .bind(PART)
    .bind(after)
    .bind(state.name())
    .fetch_all(&mut *conn)
    .await
    .doing(CHANGING)?;
    let mut counts = CountChanges::default();
    let mut endpoints: Vec<String> = Vec::with_capacity(failed.len());
    let mut ids: Vec<i64> = Vec::with_capacity(failed.len());
    for row in &failed {
        let (lot, reason): (u32, Option<String>) = (row.int("lot")?, row.value("outcome_reason")?);
        counts.add(task, lot, state, reason.as_deref(), -1);
        counts.add(task, lot, UpgradeState::Pending, None, 1);
        endpoints.push(row.value("endpoint")?);
        ids.push(row.int("id")?);
    }
    let line: Line = Happened::TakenUpAgain {}.into();
    let (code, arguments) = rows::line_columns(&line);
    sqlx::query(
        "INSERT INTO upgrade_events (upgrade_id, at, attempt, kind, code, arguments) \
         SELECT u.id, ?, u.attempt, 'note', ?, ? FROM json_each(?) j CROSS JOIN upgrades u ON u.id = j.value",
    )
    .bind(now.0)
    .bind(code)
    .bind(arguments)
    .bind(json_list(&ids))
    .execute(&mut *conn)
    .await
    .doing(CHANGING)?;
    // what it fails by is told of its cell once, at the end
    sqlx::query(
        "UPDATE cells SET failed = MAX(failed - v.count, 0) FROM ( \
             SELECT u.cell, COUNT(*) AS count FROM json_each(?) j CROSS JOIN upgrades u ON u.id = j.value \
             WHERE u.cell IS NOT NULL AND (u.state = 'failed' OR u.outcome_reason = 'skipped') GROUP BY u.cell) v WHERE cells.cell = v.cell",
    )
    .bind(json_list(&ids))
    .execute(&mut *conn)
    .await
    .doing(CHANGING)?;
    sqlx::query(
        "UPDATE upgrades SET state = 'pending', phase = 0, not_before = MAX(?1, COALESCE(confirmed_for, 0)), ended_at = NULL, attempts_before = attempt, \
             cell = NULL, cell_limit = NULL, bytes_done = NULL, cancel_requested_at = NULL, over_budget = 0, \
             after_id = (SELECT b.id FROM upgrades b WHERE b.id = upgrades.after_id AND b.phase < 2) \
         WHERE id IN (SELECT value FROM json_each(?2))",
    )
    .bind(now.0)
    .bind(json_list(&ids))
    .execute(&mut *conn)
    .await
    .doing(CHANGING)?;
    home_asks::ask_again(conn, &json_list(&ids))
        .await
        .doing(CHANGING)?;
    turns::settle(conn, &json_list(&endpoints))
        .await
        .doing(CHANGING)?;
    counts.write(conn).await.doing(CHANGING)?;
    Ok(ids)
}

impl From<UpgradeId> for Again {
    fn from(upgrade: UpgradeId) -> Self {
        Self {
            upgrade: Some(upgrade),
            ..Self::default()
        }
    }
}
