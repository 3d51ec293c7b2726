use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap, HashSet},
};

use sqlx::SqliteConnection;

use super::{
    DOING,
    upgrade::{PHASE, STAGE, Upgrade},
};
use crate::{
    clock::UtcMillis,
    ledger::{
        Asked, Change, Happened, Line, Progress, Served, Stage, StageChange, Standby, TaskId,
        UpgradeId,
    },
    store::{
        StoreError, UpgradeState,
        apply::{self, Changed, Ending, InCell, UpgradeOver},
        sqlite::{
            Doing,
            bulk::{RowStatement, json_list},
            counts::CountChanges,
            rows::{self, Columns},
        },
    },
};

const PROGRESS: RowStatement = RowStatement {
    head: "WITH v (id, done, total) AS (VALUES ",
    row: "(?, ?, ?)",
    tail: ") UPDATE upgrades SET bytes_done = v.done, bytes_total = v.total FROM v WHERE upgrades.id = v.id",
};

const KEPT_AWAKE: RowStatement = RowStatement {
    head: "WITH v (id, time_s, pings) AS (VALUES ",
    row: "(?, ?, ?)",
    tail: ") UPDATE upgrades SET kept_awake_s = MAX(kept_awake_s, v.time_s), \
               kept_awake_pings = MAX(kept_awake_pings, v.pings) FROM v WHERE upgrades.id = v.id",
};

const SERVED: RowStatement = RowStatement {
    head: "WITH v (id, package, step) AS (VALUES ",
    row: "(?, ?, ?)",
    tail: ") UPDATE upgrades SET package_id = v.package, step = v.step FROM v WHERE upgrades.id = v.id",
};

const TAKEN_BACK: RowStatement = RowStatement {
    head: "WITH v (id) AS (VALUES ",
    row: "(?)",
    tail: ") UPDATE upgrades SET attempts_before = attempts_before + 1 FROM v WHERE upgrades.id = v.id",
};

const LINE: RowStatement = RowStatement {
    head: "INSERT INTO upgrade_events (upgrade_id, at, attempt, kind, code, arguments) VALUES ",
    row: "(?, ?, ?, ?, ?, ?)",
    tail: "",
};

const CELL: RowStatement = RowStatement {
    head: "INSERT INTO cells (cell, limit_max, concurrent_peak, admitted_total, last_admitted_at, active, waiting, \
               succeeded, failed) \
           VALUES ",
    row: "(?, ?, ?, ?, ?, ?, ?, ?, ?)",
    tail: " ON CONFLICT (cell) DO UPDATE SET limit_max = MAX(limit_max, excluded.limit_max), \
               concurrent_peak = MAX(concurrent_peak, excluded.concurrent_peak), \
               admitted_total = admitted_total + excluded.admitted_total, \
               last_admitted_at = COALESCE(excluded.last_admitted_at, last_admitted_at), \
               active = active + excluded.active, waiting = waiting + excluded.waiting, \
               succeeded = succeeded + excluded.succeeded, failed = failed + excluded.failed",
};

/// The upgrades that a batch concerns, and what comes of them.
#[derive(Default)]
pub(super) struct Upgrades<'c> {
    known: HashMap<UpgradeId, Upgrade>,
    /// Another attempt still makes sense: neither was the task stopped, nor the upgrade cancelled, nor the device removed.
    may_retry: HashSet<UpgradeId>,
    lines: Vec<Written<'c>>,
    cells: BTreeMap<u32, CellChanges>,
    refused: Vec<UpgradeId>,
    /// Those that ended for good, in this order.
    pub(super) over: Vec<UpgradeId>,
    /// Tasks that may have ended with one of them, and when.
    tasks: BTreeMap<TaskId, UtcMillis>,
    /// Those whose first attempt has begun, and when.
    begun: Vec<(UpgradeId, UtcMillis)>,
    /// How devices were kept awake.
    kept_awake: BTreeMap<UpgradeId, Standby>,
    /// Those that were taken back, and begin again: the attempt counts for nothing.
    taken_back: Vec<UpgradeId>,
}

/// What was written, and who is concerned.
pub(super) struct WrittenUpgrades {
    pub(super) refused: Vec<UpgradeId>,
    /// Upgrades whose first attempt has begun, and when.
    pub(super) begun: Vec<(UpgradeId, UtcMillis)>,
    /// Upgrades that ended for good, with their devices, in this order.
    pub(super) over: Vec<(UpgradeId, String)>,
    /// Tasks that may have ended, and when.
    pub(super) tasks: BTreeMap<TaskId, UtcMillis>,
    /// Devices on which an upgrade began or ended.
    pub(super) turns: Vec<String>,
}

/// A line of a timeline.
struct Written<'c> {
    upgrade: UpgradeId,
    at: UtcMillis,
    attempt: u32,
    kind: &'static str,
    line: Cow<'c, Line>,
}

/// What changes in a cell.
#[derive(Default)]
struct CellChanges {
    limit_max: u32,
    peak: u32,
    admitted: u32,
    last_admitted_at: Option<UtcMillis>,
    active: i64,
    waiting: i64,
    succeeded: u32,
    failed: u32,
}

/// The upgrades that the changes are about; and those that may be retried, with whether they are taken back.
fn named(changes: &[Change]) -> (HashSet<i64>, HashSet<(i64, bool)>) {
    let mut ids = HashSet::new();
    let mut retries = HashSet::new();
    for change in changes {
        match change {
            Change::LetGo { upgrade, .. } => {
                ids.insert(upgrade.0);
                retries.insert((upgrade.0, false));
            }
            Change::Stage { upgrade, .. }
            | Change::Note { upgrade, .. }
            | Change::Serves { upgrade, .. }
            | Change::Progress { upgrade, .. } => {
                ids.insert(upgrade.0);
            }
            Change::Ended {
                upgrade,
                retry_at,
                outcome,
                ..
            } => {
                ids.insert(upgrade.0);
                retries.extend(retry_at.map(|_| (upgrade.0, outcome.is_taken_back())));
            }
            Change::Registered { .. }
            | Change::Deregistered { .. }
            | Change::VersionReported { .. }
            | Change::CoverageReported { .. }
            | Change::Evidence { .. }
            | Change::Appointed { .. }
            | Change::Via { .. }
            | Change::KeptAwake { .. }
            | Change::Traffic { .. }
            | Change::Learnt(_)
            | Change::Admitted { .. } => {}
        }
    }
    (ids, retries)
}

impl<'c> Upgrades<'c> {
    /// Reads the upgrades that the changes are about.
    pub(super) async fn read(
        conn: &mut SqliteConnection,
        changes: &[Change],
    ) -> Result<Self, StoreError> {
        let (ids, retries) = named(changes);
        let mut upgrades = Self::default();
        if !ids.is_empty() {
            let rows = sqlx::query(
                "SELECT u.id, u.task_id, u.lot, u.endpoint, u.state, u.attempt, u.not_before, u.cell, u.cell_limit, \
                     u.bytes_done, u.bytes_total, u.started_at, u.package_id, u.step, u.attempts_before, \
                     u.unconfirmed, u.confirmed_for, u.cancel_requested_at IS NOT NULL AS cancelled, \
                     EXISTS (SELECT 1 FROM exclusions e WHERE e.endpoint = u.endpoint) AS excluded \
                 FROM json_each(?) j CROSS JOIN upgrades u ON u.id = j.value",
            )
            .bind(json_list(ids))
            .fetch_all(&mut *conn)
            .await
            .doing(DOING)?;
            for row in &rows {
                upgrades
                    .known
                    .insert(UpgradeId(row.int("id")?), Upgrade::stored(row)?);
            }
        }
        if !retries.is_empty() {
            upgrades.may_retry = may_retry(conn, retries).await?;
        }
        Ok(upgrades)
    }

    pub(super) fn stage(
        &mut self,
        id: UpgradeId,
        attempt: u32,
        change: &'c StageChange,
        line: Option<&'c Line>,
        at: UtcMillis,
    ) {
        let Some(upgrade) = self.known.get_mut(&id) else {
            return self.refuse(id);
        };
        // Whoever has excluded a device, or has taken back or put off what he had confirmed, has been told that nothing begins on
        // it any more, or not yet.
        let begins = upgrade.now.state == UpgradeState::Pending && upgrade.now.attempt < attempt;
        if begins && upgrade.is_held_back(at) || upgrade.is_not_to_transfer(change.stage) {
            return self.refuse(id);
        }
        match upgrade.now.stage(attempt, change, at) {
            Ok(Changed::Nothing) => return,
            Ok(changed) => upgrade.changed = upgrade.changed.max(changed),
            Err(UpgradeOver) => return self.refuse(id),
        }
        if begins && upgrade.is_first(attempt) {
            self.begun.push((id, at));
        }
        if let Some(cell) = change.cell
            && (change.stage == Stage::WaitingForSlot || change.stage.holds_slot())
        {
            self.cells.entry(cell).or_default();
        }
        if let Some(line) = line {
            let line = Cow::Borrowed(line);
            self.line(id, attempt, change.stage.name(), line, at);
        }
    }

    fn refuse(&mut self, id: UpgradeId) {
        if !self.refused.contains(&id) {
            self.refused.push(id);
        }
    }

    pub(super) fn line(
        &mut self,
        upgrade: UpgradeId,
        attempt: u32,
        kind: &'static str,
        line: Cow<'c, Line>,
        at: UtcMillis,
    ) {
        if self.known.contains_key(&upgrade) {
            self.lines.push(Written {
                upgrade,
                at,
                attempt,
                kind,
                line,
            });
        }
    }

    /// [`Change::Note`]. What it says was asked has not left where the transfer that it is of was not to begin.
    pub(super) fn note(&mut self, id: UpgradeId, attempt: u32, line: &'c Line, at: UtcMillis) {
        let is_of_transfer = line.asked.as_ref().is_some_and(Asked::is_of_transfer);
        let known = self.known.get(&id);
        if is_of_transfer && known.is_some_and(Upgrade::is_cancelled_before_transfer) {
            return;
        }
        self.line(id, attempt, "note", Cow::Borrowed(line), at);
    }

    pub(super) fn progress(&mut self, id: UpgradeId, progress: Progress) {
        if let Some(upgrade) = self.known.get_mut(&id) {
            let changed = upgrade.now.progress(progress);
            upgrade.changed = upgrade.changed.max(changed);
        }
    }

    pub(super) fn serves(&mut self, id: UpgradeId, attempt: u32, served: Served) {
        if let Some(upgrade) = self.known.get_mut(&id) {
            let changed = upgrade.now.serves(attempt, served);
            upgrade.changed = upgrade.changed.max(changed);
        }
    }

    pub(super) fn kept_awake(&mut self, id: UpgradeId, standby: Standby) {
        let known = self.kept_awake.entry(id).or_default();
        *known = known.max(standby);
    }

    pub(super) fn admitted(&mut self, cell: u32, limit: u32, active: u32, at: UtcMillis) {
        let cell = self.cells.entry(cell).or_default();
        cell.limit_max = cell.limit_max.max(limit);
        cell.peak = cell.peak.max(active);
        cell.admitted += 1;
        cell.last_admitted_at = Some(at);
    }

    /// [`Change::LetGo`].
    pub(super) fn let_go(&mut self, id: UpgradeId, attempt: u32, at: UtcMillis) {
        let Some(upgrade) = self.known.get_mut(&id) else {
            return;
        };
        if self.may_retry.contains(&id) {
            let changed = upgrade.now.let_go(attempt);
            upgrade.changed = upgrade.changed.max(changed);
            if changed != Changed::Nothing {
                self.taken_back.push(id);
            }
            return;
        }
        // somebody wants it no more by now, and nobody has it who would end it
        let ending = Ending::unwanted(at);
        let (task, outcome) = (upgrade.task, ending.outcome.clone());
        if !upgrade.now.runs(attempt) {
            return;
        }
        upgrade.changed = upgrade.now.ended(attempt, ending, None);
        self.over.push(id);
        self.tasks.insert(task, at);
        let line = Happened::ended(&outcome, None, Box::default());
        self.line(id, attempt, outcome.state(), Cow::Owned(line), at);
    }

    /// [`Change::Ended`].
    pub(super) fn ended(&mut self, change: &'c Change) {
        let Change::Ended {
            upgrade: id,
            task,
            attempt,
            outcome,
            facts,
            retry_at,
            at,
        } = change
        else {
            return;
        };
        let Some(upgrade) = self.known.get_mut(id) else {
            return;
        };
        let retry_at = retry_at.filter(|_| self.may_retry.contains(id));
        let ending = Ending {
            outcome: outcome.clone(),
            facts: Some(facts.clone()),
            at: *at,
        };
        match upgrade.now.ended(*attempt, ending, retry_at) {
            Changed::Nothing => return,
            changed => upgrade.changed = changed,
        }
        if retry_at.is_some() && outcome.is_taken_back() {
            self.taken_back.push(*id);
        }
        if retry_at.is_none() {
            self.over.push(*id);
            self.tasks.insert(*task, *at);
        }
        let line = Happened::ended(outcome, retry_at, facts.clone());
        self.line(*id, *attempt, outcome.state(), Cow::Owned(line), *at);
    }

    /// Writes what changed.
    #[expect(clippy::too_many_lines, reason = "one statement after the other")]
    pub(super) async fn write(
        mut self,
        conn: &mut SqliteConnection,
    ) -> Result<WrittenUpgrades, sqlx::Error> {
        let mut counts = CountChanges::default();
        let mut changed: [Vec<(UpgradeId, &Upgrade)>; 3] = Default::default();
        let mut turns = Vec::new();
        for (id, upgrade) in &self.known {
            match upgrade.changed {
                Changed::Nothing => continue,
                Changed::Progress => changed[0].push((*id, upgrade)),
                Changed::Stage => changed[1].push((*id, upgrade)),
                Changed::Phase => {
                    changed[2].push((*id, upgrade));
                    turns.push(upgrade.endpoint.clone());
                }
            }
            let (task, lot) = (upgrade.task, upgrade.lot);
            let ending = upgrade.now.ending.as_deref();
            let reason = ending.map(|ending| ending.outcome.reason());
            // one that has ended for good changes no more
            counts.add(task, lot, upgrade.stored.0, None, -1);
            counts.add(task, lot, upgrade.now.state, reason, 1);
            count_in_cell(&mut self.cells, upgrade.stored, -1);
            count_in_cell(&mut self.cells, (upgrade.now.state, upgrade.now.cell), 1);
            if upgrade.changed == Changed::Phase {
                count_outcome(&mut self.cells, upgrade.now.state, upgrade.now.cell);
            }
        }
        for list in &mut changed {
            // in the order of the table: rows on one page follow each other
            list.sort_unstable_by_key(|(id, _)| *id);
        }
        let [progress, stages, phases] = changed;
        PROGRESS
            .execute(conn, &progress, |query, (id, upgrade)| {
                let (done, total) = (upgrade.now.progress)
                    .map_or((None, 0), |it| (Some(it.done_bytes), it.total_bytes));
                query
                    .bind(id.0)
                    .bind(done.map(u64::cast_signed))
                    .bind(total.cast_signed())
            })
            .await?;
        STAGE
            .execute(conn, &stages, |query, (id, upgrade)| {
                upgrade.bind_stage(*id, query)
            })
            .await?;
        PHASE
            .execute(conn, &phases, |query, (id, upgrade)| {
                upgrade.bind_phase(upgrade.bind_stage(*id, query))
            })
            .await?;
        let served = (self.known.iter()).filter_map(|(id, it)| Some((*id, it.served()?)));
        let served: Vec<(UpgradeId, Served)> = served.collect();
        SERVED
            .execute(conn, &served, |query, (id, served)| {
                query.bind(id.0).bind(served.package.0).bind(served.step)
            })
            .await?;
        TAKEN_BACK
            .execute(conn, &self.taken_back, |query, id| query.bind(id.0))
            .await?;
        let kept_awake: Vec<_> = self.kept_awake.into_iter().collect();
        KEPT_AWAKE
            .execute(conn, &kept_awake, |query, (id, standby)| {
                query.bind(id.0).bind(standby.time_s).bind(standby.pings)
            })
            .await?;
        LINE.execute(conn, &self.lines, |query, line| {
            let (code, arguments) = rows::line_columns(&line.line);
            query
                .bind(line.upgrade.0)
                .bind(line.at.0)
                .bind(line.attempt)
                .bind(line.kind)
                .bind(code)
                .bind(arguments)
        })
        .await?;
        let cells: Vec<_> = self.cells.into_iter().collect();
        CELL.execute(conn, &cells, |query, (cell, it)| {
            query
                .bind(*cell)
                .bind(it.limit_max)
                .bind(it.peak)
                .bind(it.admitted)
                .bind(it.last_admitted_at.map(|at| at.0))
                .bind(it.active)
                .bind(it.waiting)
                .bind(it.succeeded)
                .bind(it.failed)
        })
        .await?;
        counts.write(conn).await?;
        let over = (self.over.into_iter())
            .filter_map(|id| Some((id, self.known.get(&id)?.endpoint.clone())))
            .collect();
        Ok(WrittenUpgrades {
            refused: self.refused,
            begun: self.begun,
            over,
            tasks: self.tasks,
            turns,
        })
    }
}

/// Of these upgrades, those of which another attempt makes sense; `true` beside those that were taken back, which begin no more after the
/// last time of their task.
async fn may_retry(
    conn: &mut SqliteConnection,
    retries: HashSet<(i64, bool)>,
) -> Result<HashSet<UpgradeId>, StoreError> {
    let retries: Vec<i64> = sqlx::query_scalar(
        "SELECT u.id FROM json_each(?) j CROSS JOIN upgrades u ON u.id = j.value ->> 0 \
             CROSS JOIN tasks t ON t.id = u.task_id CROSS JOIN devices d ON d.endpoint = u.endpoint \
         WHERE t.state = 'running' AND d.removed = 0 AND u.cancel_requested_at IS NULL \
             AND NOT (j.value ->> 1 AND t.expired = 1)",
    )
    .bind(json_list(retries))
    .fetch_all(conn)
    .await
    .doing(DOING)?;
    Ok(retries.into_iter().map(UpgradeId).collect())
}

/// Adds an upgrade that has ended for good to the counts of the cell in which it did.
fn count_outcome(cells: &mut BTreeMap<u32, CellChanges>, state: UpgradeState, cell: Option<u32>) {
    let Some(cell) = cell else { return };
    match state {
        UpgradeState::Succeeded => cells.entry(cell).or_default().succeeded += 1,
        UpgradeState::Failed => cells.entry(cell).or_default().failed += 1,
        UpgradeState::Pending | UpgradeState::Active(_) | UpgradeState::Cancelled => {}
    }
}

/// Adds to the counts of the cell in which an upgrade waits for a slot or holds one.
fn count_in_cell(
    cells: &mut BTreeMap<u32, CellChanges>,
    (state, cell): (UpgradeState, Option<u32>),
    by: i64,
) {
    if let Some((cell, how)) = apply::Upgrade::in_cell(state, cell) {
        let cell = cells.entry(cell).or_default();
        match how {
            InCell::Holds => cell.active += by,
            InCell::Waits => cell.waiting += by,
        }
    }
}
