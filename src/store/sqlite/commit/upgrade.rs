use sqlx::sqlite::SqliteRow;

use crate::{
    clock::UtcMillis,
    ledger::{PackageId, Served, Stage, TaskId, UpgradeId},
    store::{
        StoreError, UpgradeState,
        apply::{self, Changed},
        sqlite::{
            bulk::{Bound, RowStatement},
            rows::{self, Columns},
            upgrade_rows::progress,
        },
    },
};

/// A stage that follows a stage.
pub(super) const STAGE: RowStatement = RowStatement {
    head: "INSERT INTO upgrades (id, state, attempt, stage_entered_at, stage_deadline_at, queued_at, slot_deadline_at, \
               cell, cell_limit, confirmed, download_errors, bytes_done, bytes_total, task_id, endpoint, not_before, created_at) VALUES ",
    row: "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, '', 0, 0)",
    tail: " ON CONFLICT (id) DO UPDATE SET state = excluded.state, attempt = excluded.attempt, \
               stage_entered_at = excluded.stage_entered_at, stage_deadline_at = excluded.stage_deadline_at, \
               queued_at = excluded.queued_at, slot_deadline_at = excluded.slot_deadline_at, cell = excluded.cell, \
               cell_limit = excluded.cell_limit, confirmed = excluded.confirmed, \
               download_errors = excluded.download_errors, bytes_done = excluded.bytes_done, \
               bytes_total = excluded.bytes_total",
};

/// A beginning, or an end for now or for good. Whether the device is free is settled afterwards.
pub(super) const PHASE: RowStatement = RowStatement {
    head: "INSERT INTO upgrades (id, state, attempt, stage_entered_at, stage_deadline_at, queued_at, slot_deadline_at, \
               cell, cell_limit, confirmed, download_errors, bytes_done, bytes_total, phase, not_before, started_at, ended_at, \
               outcome_state, outcome_reason, outcome_arguments, outcome_at, task_id, endpoint, created_at) VALUES ",
    row: "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, '', 0)",
    tail: " ON CONFLICT (id) DO UPDATE SET state = excluded.state, attempt = excluded.attempt, \
               stage_entered_at = excluded.stage_entered_at, stage_deadline_at = excluded.stage_deadline_at, \
               queued_at = excluded.queued_at, slot_deadline_at = excluded.slot_deadline_at, cell = excluded.cell, \
               cell_limit = excluded.cell_limit, confirmed = excluded.confirmed, \
               download_errors = excluded.download_errors, bytes_done = excluded.bytes_done, \
               bytes_total = excluded.bytes_total, phase = excluded.phase, free = 0, over_budget = 0, \
               not_before = excluded.not_before, started_at = excluded.started_at, ended_at = excluded.ended_at, \
               outcome_state = COALESCE(excluded.outcome_state, outcome_state), \
               outcome_reason = COALESCE(excluded.outcome_reason, outcome_reason), \
               outcome_detail = IIF(excluded.outcome_state IS NULL, outcome_detail, NULL), \
               outcome_arguments = COALESCE(excluded.outcome_arguments, outcome_arguments), \
               outcome_at = COALESCE(excluded.outcome_at, outcome_at)",
};

/// An upgrade of a batch, and what has to be written of it.
pub(super) struct Upgrade {
    pub(super) task: TaskId,
    pub(super) lot: u32,
    pub(super) endpoint: String,
    /// Its device is not to begin an upgrade.
    excluded: bool,
    /// Its owner has not confirmed it, or for this time.
    unconfirmed: bool,
    confirmed_for: Option<UtcMillis>,
    /// Somebody has cancelled it.
    cancelled: bool,
    /// Attempts that count for nothing.
    attempts_before: u32,
    /// Its state and cell in the database.
    pub(super) stored: (UpgradeState, Option<u32>),
    /// What its device is served, in the database.
    stored_served: Option<Served>,
    pub(super) now: apply::Upgrade,
    pub(super) changed: Changed,
}

impl Upgrade {
    /// As it stands in the database.
    pub(super) fn stored(row: &SqliteRow) -> Result<Self, StoreError> {
        let state = rows::upgrade_state(row.value("state")?)?;
        let cell = row.maybe_int("cell")?;
        let package = row.maybe_int("package_id")?.map(PackageId);
        let step = row.int("step")?;
        let served = package.map(|package| Served { package, step });
        Ok(Self {
            task: TaskId(row.int("task_id")?),
            lot: row.int("lot")?,
            endpoint: row.value("endpoint")?,
            excluded: row.value("excluded")?,
            unconfirmed: row.value("unconfirmed")?,
            confirmed_for: row.maybe_time("confirmed_for")?,
            cancelled: row.value("cancelled")?,
            attempts_before: row.int("attempts_before")?,
            stored: (state, cell),
            stored_served: served,
            now: apply::Upgrade {
                state,
                attempt: row.int("attempt")?,
                not_before: row.time("not_before")?,
                stage: None,
                cell,
                cell_limit: row.maybe_int("cell_limit")?,
                served,
                progress: progress(row.maybe_int("bytes_done")?, row.int("bytes_total")?),
                started_at: row.maybe_time("started_at")?,
                ending: None,
            },
            changed: Changed::Nothing,
        })
    }

    /// Whether it is not to begin, or not by `at`: its device is excluded, or its owner has confirmed it for later, or has not.
    pub(super) fn is_held_back(&self, at: UtcMillis) -> bool {
        self.excluded || self.unconfirmed || self.confirmed_for.is_some_and(|then| then > at)
    }

    /// Whether that attempt is the first that counts.
    pub(super) const fn is_first(&self, attempt: u32) -> bool {
        attempt == self.attempts_before.saturating_add(1)
    }

    /// Whether it is not to enter that stage: it was cancelled before its transfer, and whoever did so was told that its device will not be
    /// offered the new version.
    pub(super) fn is_not_to_transfer(&self, stage: Stage) -> bool {
        stage.is_transfer() && self.is_cancelled_before_transfer()
    }

    /// Whether somebody has cancelled it, and it is not in its transfer: nothing of a transfer leaves.
    pub(super) fn is_cancelled_before_transfer(&self) -> bool {
        self.cancelled && !matches!(self.now.state, UpgradeState::Active(it) if it.is_transfer())
    }

    /// What its device is served from now on, where that is to be written.
    pub(super) fn served(&self) -> Option<Served> {
        (self.now.served).filter(|_| self.now.served != self.stored_served)
    }

    /// The values of [`STAGE`], which are the first of [`PHASE`].
    pub(super) fn bind_stage(&self, id: UpgradeId, query: Bound) -> Bound {
        let now = &self.now;
        let stage = now.stage.as_deref();
        query
            .bind(id.0)
            .bind(now.state.name())
            .bind(now.attempt)
            .bind(stage.map(|it| it.entered_at.0))
            .bind(stage.map(|it| it.deadline_at.0))
            .bind(stage.and_then(|it| it.queued_at).map(|at| at.0))
            .bind(stage.and_then(|it| it.slot_deadline_at).map(|at| at.0))
            .bind(now.cell)
            .bind(now.cell_limit)
            .bind(stage.is_some_and(|it| it.confirmed))
            .bind(stage.map_or(0, |it| it.download_errors))
            .bind(now.progress.map(|it| it.done_bytes.cast_signed()))
            .bind(now.progress.map_or(0, |it| it.total_bytes.cast_signed()))
    }

    /// The other values of [`PHASE`].
    pub(super) fn bind_phase(&self, query: Bound) -> Bound {
        let now = &self.now;
        let ending = now.ending.as_deref();
        let ended_at = ending.filter(|_| now.state.is_final()).map(|it| it.at.0);
        query
            .bind(phase(now.state))
            .bind(now.not_before.0)
            .bind(now.started_at.map(|at| at.0))
            .bind(ended_at)
            .bind(ending.map(|it| it.outcome.state()))
            .bind(ending.map(|it| it.outcome.reason()))
            .bind(ending.and_then(|it| it.facts.as_deref()).map(rows::json))
            .bind(ending.map(|it| it.at.0))
    }
}

/// The phase of a state in `upgrades.phase`.
const fn phase(state: UpgradeState) -> u8 {
    match state {
        UpgradeState::Pending => 0,
        UpgradeState::Active(_) => 1,
        UpgradeState::Succeeded | UpgradeState::Failed | UpgradeState::Cancelled => 2,
    }
}
