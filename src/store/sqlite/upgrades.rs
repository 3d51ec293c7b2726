use sqlx::{QueryBuilder, Sqlite, sqlite::SqliteRow};

use super::{
    Doing, SqliteStore,
    rows::{self, Columns},
};
use crate::{
    engine::StageChange,
    store::{
        CellRecord, OutcomeRecord, Page, QueueRecord, StoreError, TimelineEvent, UpgradeDetail,
        UpgradeRecord, UpgradeState,
    },
    task::{Candidate, PackageId, TaskId, UpgradeId},
    upgrade::Stage,
};

/// Lines of a timeline that are shown.
const TIMELINE: i64 = 1_000;

impl SqliteStore {
    /// See [`crate::store::Store::upgrades`].
    pub(super) async fn list_upgrades(
        &self,
        task: TaskId,
        state: Option<UpgradeState>,
        after: Option<UpgradeId>,
        limit: u32,
    ) -> Result<Page<UpgradeRecord>, StoreError> {
        let mut query = QueryBuilder::<Sqlite>::new("SELECT * FROM upgrades WHERE task_id = ");
        query
            .push_bind(task.0)
            .push(" AND EXISTS (SELECT 1 FROM tasks WHERE hidden = 0 AND id = ");
        query.push_bind(task.0).push(")");
        if let Some(state) = state {
            query.push(" AND state = ").push_bind(state.name());
        }
        query
            .push(" AND id > ")
            .push_bind(after.map_or(0, |id| id.0));
        let rows = query
            .push(" ORDER BY id LIMIT ")
            .push_bind(rows::one_more(limit))
            .build()
            .fetch_all(&self.readers)
            .await
            .doing("listing upgrades")?;
        rows::page(&rows, limit, record)
    }

    /// See [`crate::store::Store::upgrade`].
    pub(super) async fn upgrade_detail(
        &self,
        id: UpgradeId,
    ) -> Result<Option<UpgradeDetail>, StoreError> {
        let doing = "reading an upgrade";
        let row = sqlx::query(
            "SELECT u.*, t.package_id, t.state AS task_state, \
                 (SELECT MIN(b.id) FROM upgrades b WHERE b.endpoint = u.endpoint AND b.phase = 1 \
                     AND b.id <> u.id) AS busy_with, \
                 COALESCE((SELECT c.active FROM cells c WHERE c.cell = u.cell), 0) AS slots_taken, \
                 (SELECT COUNT(*) FROM upgrades w WHERE u.state = 'waiting_for_slot' \
                     AND w.cell = u.cell AND w.state = 'waiting_for_slot' \
                     AND (w.queued_at, w.id) < (u.queued_at, u.id)) AS ahead \
             FROM upgrades u JOIN tasks t ON t.id = u.task_id WHERE u.id = ? AND t.hidden = 0",
        )
        .bind(id.0)
        .fetch_optional(&self.readers)
        .await
        .doing(doing)?;
        let Some(row) = row else { return Ok(None) };
        let upgrade = record(&row)?;
        let candidate = Candidate {
            upgrade: id,
            task_state: rows::task_state(&row, "task_state")?,
            not_before: upgrade.not_before,
            device_busy_with: row.maybe_int("busy_with")?.map(UpgradeId),
        };
        let events = sqlx::query(
            "SELECT at, attempt, kind, text FROM ( \
                 SELECT * FROM upgrade_events WHERE upgrade_id = ? ORDER BY id DESC LIMIT ?) \
             ORDER BY id",
        )
        .bind(id.0)
        .bind(TIMELINE)
        .fetch_all(&self.readers)
        .await
        .doing("reading an upgrade's timeline")?
        .iter()
        .map(|row| {
            Ok(TimelineEvent {
                at: row.time("at")?,
                attempt: row.int("attempt")?,
                kind: row.value("kind")?,
                text: row.value("text")?,
            })
        })
        .collect::<Result<_, StoreError>>()?;
        let waits = upgrade.state == UpgradeState::Active(Stage::WaitingForSlot);
        let queue = QueueRecord {
            active: row.int("slots_taken")?,
            ahead: row.int("ahead")?,
        };
        Ok(Some(UpgradeDetail {
            queue: waits.then_some(queue),
            candidate: (upgrade.state == UpgradeState::Pending).then_some(candidate),
            package: PackageId(row.int("package_id")?),
            upgrade,
            events,
        }))
    }

    /// See [`crate::store::Store::cells`].
    pub(super) async fn list_cells(
        &self,
        after: Option<u32>,
        limit: u32,
    ) -> Result<Page<CellRecord>, StoreError> {
        let rows = sqlx::query(
            "SELECT cell, active, waiting, limit_max, concurrent_peak, admitted_total, last_admitted_at \
             FROM cells WHERE cell > ? ORDER BY cell LIMIT ?",
        )
        .bind(after.map_or(-1, i64::from))
        .bind(rows::one_more(limit))
        .fetch_all(&self.readers)
        .await
        .doing("listing cells")?;
        rows::page(&rows, limit, |row| {
            Ok(CellRecord {
                cell: row.int("cell")?,
                active: row.int("active")?,
                waiting: row.int("waiting")?,
                limit_max: row.int("limit_max")?,
                concurrent_peak: row.int("concurrent_peak")?,
                admitted_total: row.int("admitted_total")?,
                last_admitted_at: row.maybe_time("last_admitted_at")?,
            })
        })
    }
}

/// The state in column `state`.
pub(super) fn state(row: &SqliteRow) -> Result<UpgradeState, StoreError> {
    let name: &str = row.value("state")?;
    UpgradeState::from_name(name).ok_or_else(|| rows::unreadable("upgrades.state", name))
}

/// The stage of an upgrade that runs.
pub(super) fn stage(row: &SqliteRow) -> Result<Option<StageChange>, StoreError> {
    let UpgradeState::Active(stage) = state(row)? else {
        return Ok(None);
    };
    Ok(Some(StageChange {
        stage,
        entered_at: row.time("stage_entered_at")?,
        deadline_at: row.time("stage_deadline_at")?,
        queued_at: row.maybe_time("queued_at")?,
        slot_deadline_at: row.maybe_time("slot_deadline_at")?,
        cell: row.maybe_int("cell")?,
        cell_limit: row.maybe_int("cell_limit")?,
        confirmed: row.value("confirmed")?,
    }))
}

fn record(row: &SqliteRow) -> Result<UpgradeRecord, StoreError> {
    let outcome = row
        .value::<Option<String>>("outcome_state")?
        .map(|state| {
            Ok::<_, StoreError>(OutcomeRecord {
                state,
                reason: row.value("outcome_reason")?,
                detail: row.value("outcome_detail")?,
                at: row.time("outcome_at")?,
            })
        })
        .transpose()?;
    Ok(UpgradeRecord {
        id: UpgradeId(row.int("id")?),
        task: TaskId(row.int("task_id")?),
        endpoint: row.value("endpoint")?,
        state: state(row)?,
        attempts: row.int("attempt")?,
        not_before: row.time("not_before")?,
        stage: stage(row)?,
        cell: row.maybe_int("cell")?,
        segment: row.maybe_int("segment")?,
        progress_percent: row.int("progress_percent")?,
        outcome,
        created_at: row.time("created_at")?,
        started_at: row.maybe_time("started_at")?,
        ended_at: row.maybe_time("ended_at")?,
    })
}
