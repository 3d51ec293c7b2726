//! What came of tasks, phase by phase: sums of what is counted for each lot.

use std::collections::BTreeMap;

use sqlx::{SqliteConnection, sqlite::SqliteRow};

use super::{
    Doing,
    rows::{self, Columns as _},
};
use crate::{
    ledger::TaskId,
    store::{SoakState, StoreError, UpgradeState},
    task::Results,
};

/// The counts of tasks that the condition lets through, by phase, state and reason.
macro_rules! counts {
    ($condition:literal) => {
        concat!(
            "SELECT c.task_id, l.phase, c.state, c.reason, SUM(c.count) AS count \
             FROM tasks t CROSS JOIN task_counts c ON c.task_id = t.id \
                 CROSS JOIN task_lots l ON l.task_id = c.task_id AND l.lot = c.lot \
             WHERE c.count > 0 AND ",
            $condition,
            " GROUP BY c.task_id, l.phase, c.state, c.reason"
        )
    };
}

/// The soaks of tasks that the condition lets through, by phase and state.
macro_rules! soaks {
    ($condition:literal) => {
        concat!(
            "SELECT c.task_id, l.phase, c.state, SUM(c.count) AS count \
             FROM tasks t CROSS JOIN soak_counts c ON c.task_id = t.id \
                 CROSS JOIN task_lots l ON l.task_id = c.task_id AND l.lot = c.lot \
             WHERE ",
            $condition,
            " GROUP BY c.task_id, l.phase, c.state"
        )
    };
}

/// Upgrades of a task in each state, and the results of its phases.
#[derive(Debug, Default)]
pub(super) struct TaskResults {
    pub(super) counts: BTreeMap<UpgradeState, u64>,
    pub(super) phases: Vec<Results>,
    /// Of those that were cancelled: skipped, by reason.
    pub(super) skipped: BTreeMap<String, u64>,
}

impl TaskResults {
    fn phase(&mut self, phase: u32) -> &mut Results {
        let phase = phase as usize;
        if self.phases.len() <= phase {
            self.phases.resize_with(phase + 1, Results::default);
        }
        &mut self.phases[phase]
    }

    fn count(&mut self, phase: u32, state: UpgradeState, reason: String, count: u64) {
        *self.counts.entry(state).or_default() += count;
        let results = self.phase(phase);
        match state {
            UpgradeState::Pending => results.waiting += count,
            UpgradeState::Active(_) => results.running += count,
            UpgradeState::Succeeded => results.succeeded += count,
            UpgradeState::Failed => *results.failed.entry(reason).or_default() += count,
            UpgradeState::Cancelled if reason.is_empty() => {}
            UpgradeState::Cancelled => *self.skipped.entry(reason).or_default() += count,
        }
    }

    /// What came of all phases.
    pub(super) fn sum(&self) -> Results {
        let mut sum = Results::default();
        for phase in &self.phases {
            sum.add(phase);
        }
        sum
    }
}

/// The results of tasks, by their numbers.
pub(super) type ByTask = BTreeMap<TaskId, TaskResults>;

/// Of the tasks of a page: from the oldest to the newest.
pub(super) async fn between(
    conn: &mut SqliteConnection,
    oldest: TaskId,
    newest: TaskId,
) -> Result<ByTask, StoreError> {
    let doing = "reading the counts of upgrades";
    let counts = sqlx::query(counts!("t.id BETWEEN ? AND ?"))
        .bind(oldest.0)
        .bind(newest.0)
        .fetch_all(&mut *conn)
        .await
        .doing(doing)?;
    let soaks = sqlx::query(soaks!("t.id BETWEEN ? AND ?"))
        .bind(oldest.0)
        .bind(newest.0)
        .fetch_all(&mut *conn)
        .await
        .doing(doing)?;
    gather(&counts, &soaks)
}

/// Of the tasks that have not ended and say how they are run: the others are planned without.
pub(super) async fn of_ruled(conn: &mut SqliteConnection) -> Result<ByTask, StoreError> {
    let doing = "reading the results of phases";
    let counts = counts!("t.state IN ('scheduled', 'running') AND t.rules IS NOT NULL");
    let counts = sqlx::query(counts)
        .fetch_all(&mut *conn)
        .await
        .doing(doing)?;
    let soaks = soaks!("t.state IN ('scheduled', 'running') AND t.rules IS NOT NULL");
    let soaks = sqlx::query(soaks)
        .fetch_all(&mut *conn)
        .await
        .doing(doing)?;
    gather(&counts, &soaks)
}

/// Adds how many devices were found to be in health, or not.
fn gather(counts: &[SqliteRow], soaks: &[SqliteRow]) -> Result<ByTask, StoreError> {
    let mut tasks = ByTask::new();
    for row in soaks {
        let task = tasks.entry(TaskId(row.int("task_id")?)).or_default();
        let (state, count): (String, u64) = (row.value("state")?, row.int("count")?);
        let results = task.phase(row.int("phase")?);
        match SoakState::named(&state) {
            Some(SoakState::Healthy) => results.healthy += count,
            Some(SoakState::Unhealthy) => results.unhealthy += count,
            Some(SoakState::PassedOver) => results.passed_over += count,
            Some(SoakState::Soaking) | None => {
                return Err(rows::unreadable("soak_counts.state", state));
            }
        }
    }
    for row in counts {
        let task = tasks.entry(TaskId(row.int("task_id")?)).or_default();
        let state = rows::upgrade_state(row.value("state")?)?;
        task.count(
            row.int("phase")?,
            state,
            row.value("reason")?,
            row.int("count")?,
        );
    }
    Ok(tasks)
}
