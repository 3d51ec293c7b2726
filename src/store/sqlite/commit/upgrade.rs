use sqlx::sqlite::SqliteRow;

use crate::{
    clock::UtcMillis,
    ledger::{Facts, Outcome, Progress, StageChange, TaskId, UpgradeId},
    store::{
        StoreError, UpgradeState,
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
               cell, cell_limit, confirmed, bytes_done, bytes_total, task_id, endpoint, not_before, created_at) VALUES ",
    row: "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, '', 0, 0)",
    tail: " ON CONFLICT (id) DO UPDATE SET state = excluded.state, attempt = excluded.attempt, \
               stage_entered_at = excluded.stage_entered_at, stage_deadline_at = excluded.stage_deadline_at, \
               queued_at = excluded.queued_at, slot_deadline_at = excluded.slot_deadline_at, cell = excluded.cell, \
               cell_limit = excluded.cell_limit, confirmed = excluded.confirmed, bytes_done = excluded.bytes_done, \
               bytes_total = excluded.bytes_total",
};

/// A beginning, or an end for now or for good. Whose turn it is on the device is settled afterwards.
pub(super) const PHASE: RowStatement = RowStatement {
    head: "INSERT INTO upgrades (id, state, attempt, stage_entered_at, stage_deadline_at, queued_at, slot_deadline_at, \
               cell, cell_limit, confirmed, bytes_done, bytes_total, phase, not_before, started_at, ended_at, \
               outcome_state, outcome_reason, outcome_arguments, outcome_at, task_id, endpoint, created_at) VALUES ",
    row: "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, '', 0)",
    tail: " ON CONFLICT (id) DO UPDATE SET state = excluded.state, attempt = excluded.attempt, \
               stage_entered_at = excluded.stage_entered_at, stage_deadline_at = excluded.stage_deadline_at, \
               queued_at = excluded.queued_at, slot_deadline_at = excluded.slot_deadline_at, cell = excluded.cell, \
               cell_limit = excluded.cell_limit, confirmed = excluded.confirmed, bytes_done = excluded.bytes_done, \
               bytes_total = excluded.bytes_total, phase = excluded.phase, next = 0, \
               not_before = excluded.not_before, started_at = excluded.started_at, ended_at = excluded.ended_at, \
               outcome_state = COALESCE(excluded.outcome_state, outcome_state), \
               outcome_reason = COALESCE(excluded.outcome_reason, outcome_reason), \
               outcome_detail = IIF(excluded.outcome_state IS NULL, outcome_detail, NULL), \
               outcome_arguments = COALESCE(excluded.outcome_arguments, outcome_arguments), \
               outcome_at = COALESCE(excluded.outcome_at, outcome_at)",
};

/// An upgrade as it stands, and what has to be written of it.
pub(super) struct Upgrade<'c> {
    pub(super) task: TaskId,
    pub(super) endpoint: String,
    /// Its state and cell in the database.
    pub(super) stored: (UpgradeState, Option<u32>),
    pub(super) state: UpgradeState,
    pub(super) attempt: u32,
    pub(super) not_before: UtcMillis,
    pub(super) stage: Option<&'c StageChange>,
    pub(super) cell: Option<u32>,
    pub(super) cell_limit: Option<u32>,
    pub(super) progress: Option<Progress>,
    pub(super) started_at: Option<UtcMillis>,
    pub(super) outcome: Option<Ending<'c>>,
    pub(super) changed: Changed,
}

/// What of an upgrade changed; each includes those before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Changed {
    Nothing,
    Progress,
    Stage,
    Phase,
}

/// How an attempt ended.
pub(super) struct Ending<'c> {
    pub(super) outcome: &'c Outcome,
    pub(super) facts: &'c Facts,
    pub(super) at: UtcMillis,
}

impl<'c> Upgrade<'c> {
    /// As it stands in the database.
    pub(super) fn stored(row: &SqliteRow) -> Result<Self, StoreError> {
        let state = rows::upgrade_state(row.value("state")?)?;
        let cell = row.maybe_int("cell")?;
        Ok(Self {
            task: TaskId(row.int("task_id")?),
            endpoint: row.value("endpoint")?,
            stored: (state, cell),
            state,
            attempt: row.int("attempt")?,
            not_before: row.time("not_before")?,
            stage: None,
            cell,
            cell_limit: row.maybe_int("cell_limit")?,
            progress: progress(row.maybe_int("bytes_done")?, row.int("bytes_total")?),
            started_at: row.maybe_time("started_at")?,
            outcome: None,
            changed: Changed::Nothing,
        })
    }

    /// Whether a change of that attempt is still to be taken: not of one that has ended.
    pub(super) const fn takes(&self, attempt: u32) -> bool {
        match self.state {
            UpgradeState::Active(_) => self.attempt <= attempt,
            UpgradeState::Pending => self.attempt < attempt,
            UpgradeState::Succeeded | UpgradeState::Failed | UpgradeState::Cancelled => false,
        }
    }

    /// Enters a stage.
    pub(super) fn enter(&mut self, attempt: u32, change: &'c StageChange, at: UtcMillis) {
        let follows = matches!(self.state, UpgradeState::Active(_));
        if self.attempt != attempt {
            self.attempt = attempt;
            self.progress = None;
        }
        self.state = UpgradeState::Active(change.stage);
        self.stage = Some(change);
        self.cell = change.cell;
        self.cell_limit = change.cell_limit;
        self.started_at = self.started_at.or(Some(at));
        let changed = if follows {
            Changed::Stage
        } else {
            Changed::Phase
        };
        self.changed = self.changed.max(changed);
    }

    /// Waits for its next attempt.
    pub(super) fn wait(&mut self, attempt: u32, ending: Ending<'c>, until: UtcMillis) {
        self.leave(attempt, UpgradeState::Pending, ending);
        self.not_before = until;
        self.cell = None;
        self.cell_limit = None;
        self.progress = None;
    }

    /// Has its outcome. The cell stays: it tells where the upgrade took place.
    pub(super) fn end(&mut self, attempt: u32, ending: Ending<'c>) {
        let state = match ending.outcome {
            Outcome::Succeeded(_) => UpgradeState::Succeeded,
            Outcome::Failed(_) => UpgradeState::Failed,
            Outcome::Cancelled(_) => UpgradeState::Cancelled,
        };
        self.leave(attempt, state, ending);
    }

    fn leave(&mut self, attempt: u32, state: UpgradeState, ending: Ending<'c>) {
        self.attempt = attempt;
        self.state = state;
        self.stage = None;
        self.outcome = Some(ending);
        self.changed = Changed::Phase;
    }

    /// The values of [`STAGE`], which are the first of [`PHASE`].
    pub(super) fn bind_stage(&self, id: UpgradeId, query: Bound) -> Bound {
        let stage = self.stage;
        query
            .bind(id.0)
            .bind(self.state.name())
            .bind(self.attempt)
            .bind(stage.map(|it| it.entered_at.0))
            .bind(stage.map(|it| it.deadline_at.0))
            .bind(stage.and_then(|it| it.queued_at).map(|at| at.0))
            .bind(stage.and_then(|it| it.slot_deadline_at).map(|at| at.0))
            .bind(self.cell)
            .bind(self.cell_limit)
            .bind(stage.is_some_and(|it| it.confirmed))
            .bind(self.progress.map(|it| it.done_bytes.cast_signed()))
            .bind(self.progress.map_or(0, |it| it.total_bytes.cast_signed()))
    }

    /// The other values of [`PHASE`].
    pub(super) fn bind_phase(&self, query: Bound) -> Bound {
        let ending = self.outcome.as_ref();
        let ended_at = ending.filter(|_| self.state.is_final()).map(|it| it.at.0);
        query
            .bind(phase(self.state))
            .bind(self.not_before.0)
            .bind(self.started_at.map(|at| at.0))
            .bind(ended_at)
            .bind(ending.map(|it| it.outcome.state()))
            .bind(ending.map(|it| it.outcome.reason()))
            .bind(ending.map(|it| rows::json(it.facts)))
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
