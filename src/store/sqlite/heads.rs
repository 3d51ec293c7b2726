//! What the planner asks: where the tasks stand that have not ended, and what of them is due.

use std::{
    cmp::Reverse,
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use sqlx::SqliteConnection;

use super::{
    Doing, SqliteStore,
    packed::Packed,
    results,
    rows::{self, Columns},
    traffic,
    upgrade_rows::{self, DueRow},
};
use crate::{
    clock::UtcMillis,
    ledger::{TaskId, UpgradeId},
    store::{RunningUpgrade, StoreError},
    task::{Due, LotHead, Results, Source, TaskHead, TaskRules},
};

const HEADS: &str = "looking at the heads of tasks";

const LOTS: &str = "SELECT l.task_id, l.lot, l.zone, u.id AS first_upgrade, u.not_before AS first_since \
     FROM tasks t CROSS JOIN task_lots l ON l.task_id = t.id LEFT JOIN upgrades u ON u.id = ( \
         SELECT f.id FROM upgrades f WHERE f.task_id = t.id AND f.lot = l.lot AND f.free = 1 AND f.not_before <= ? \
         ORDER BY f.not_before, f.id LIMIT 1) \
     WHERE t.state IN ('scheduled', 'running') AND l.phase <= t.phase";

/// What tasks say of how they are run, as it was read last: they are looked at often, and change seldom.
#[derive(Debug, Default)]
pub(super) struct KnownRules(Mutex<HashMap<TaskId, (String, Arc<TaskRules>)>>);

impl KnownRules {
    /// The rules of a task, of the text in its row.
    fn read(&self, task: TaskId, text: Option<String>) -> Result<Arc<TaskRules>, StoreError> {
        let Some(text) = text else {
            return Ok(Arc::default());
        };
        // a panic while it was locked leaves what was read before
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((as_read, rules)) = known.get(&task)
            && *as_read == text
        {
            return Ok(Arc::clone(rules));
        }
        let rules = Arc::new(rows::rules_of(&text)?);
        known.insert(task, (text, Arc::clone(&rules)));
        Ok(rules)
    }

    fn retain(&self, tasks: &[TaskHead]) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() > tasks.len() {
            known.retain(|task, _| tasks.iter().any(|head| head.task == *task));
        }
    }
}

impl SqliteStore {
    pub(super) async fn read_heads(&self, now: UtcMillis) -> Result<Vec<TaskHead>, StoreError> {
        let mut tx = self.readers.begin().await.doing(HEADS)?;
        let mut lots = lots(&mut tx, now).await?;
        let mut results = results::of_ruled(&mut tx).await?;
        let rows = sqlx::query(
            "SELECT id, state, start_at, rules, hold, expired, phase, resumed_with FROM tasks \
             WHERE state IN ('scheduled', 'running')",
        )
        .fetch_all(&mut *tx)
        .await
        .doing(HEADS)?;
        let mut heads = Vec::with_capacity(rows.len());
        for row in &rows {
            let task = TaskId(row.int("id")?);
            let resumed_with: Option<Results> = rows::from_json(row, "resumed_with")?;
            heads.push(TaskHead {
                task,
                state: rows::task_state(row.value("state")?)?,
                start_at: row.time("start_at")?,
                rules: self.rules.read(task, row.value("rules")?)?,
                hold: rows::from_json(row, "hold")?,
                expired: row.value("expired")?,
                phase: row.int("phase")?,
                results: results.remove(&task).unwrap_or_default().phases,
                resumed_with: resumed_with.unwrap_or_default(),
                lots: lots.remove(&task).unwrap_or_default(),
            });
        }
        heads.sort_unstable_by_key(|head| head.task);
        self.rules.retain(&heads);
        Ok(heads)
    }

    pub(super) async fn read_due(
        &self,
        sources: &[Source],
        now: UtcMillis,
        limit: u32,
    ) -> Result<Vec<Due>, StoreError> {
        let doing = "looking for upgrades that are due";
        let mut tx = self.readers.begin().await.doing(doing)?;
        let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut found: Vec<(Reverse<u8>, Due)> = Vec::new();
        for source in sources {
            // What a source has follows its first: where that comes behind all that is wanted, so do those behind it.
            let priority = Reverse(source.priority);
            let until = match found.get(wanted.saturating_sub(1)) {
                Some((of, _)) if *of < priority => break,
                Some((_, last)) => last.since,
                None => now,
            };
            let query = sqlx::query(upgrade_rows::DUE)
                .bind(source.task.0)
                .bind(source.lot)
                .bind(until.0)
                .bind(limit.min(source.limit));
            let rows = Packed::fetch(query, &mut *tx, doing).await?;
            let before = found.len();
            for row in rows.rows() {
                let mut due = row.and_then(DueRow::due)?;
                due.order.back = source.back;
                found.push((priority, due));
            }
            if found.len() == before && before >= wanted {
                break;
            }
            found.sort_unstable_by_key(|(of, due)| (*of, due.since, due.order.upgrade));
            found.truncate(wanted);
        }
        let mut due: Vec<Due> = found.into_iter().map(|(_, due)| due).collect();
        traffic::add_spent(&mut tx, &mut due, sources, now).await?;
        Ok(due)
    }
}

/// Upgrades of a task that run, among all that do.
const RUNNING: &str = "SELECT u.id, u.endpoint, l.zone FROM upgrades u INDEXED BY upgrades_running \
         LEFT JOIN task_lots l ON l.task_id = u.task_id AND l.lot = u.lot \
     WHERE u.phase = 1 AND u.id > ? AND u.task_id = ? ORDER BY u.id LIMIT ?";

impl SqliteStore {
    pub(super) async fn read_taking_back(
        &self,
    ) -> Result<Vec<(TaskId, Arc<TaskRules>)>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, rules FROM tasks \
             WHERE state IN ('running', 'stopping') AND rules ->> '$.windows.at_end' = 'take_back'",
        )
        .fetch_all(&self.readers)
        .await
        .doing(HEADS)?;
        let read = |row| {
            let task = TaskId(Columns::int(row, "id")?);
            Ok((task, self.rules.read(task, Columns::value(row, "rules")?)?))
        };
        let mut tasks: Vec<_> = rows.iter().map(read).collect::<Result<_, StoreError>>()?;
        tasks.sort_unstable_by_key(|(task, _)| *task);
        Ok(tasks)
    }

    pub(super) async fn read_running(
        &self,
        task: TaskId,
        after: Option<UpgradeId>,
        limit: u32,
    ) -> Result<Vec<RunningUpgrade>, StoreError> {
        let rows = sqlx::query(RUNNING)
            .bind(after.map_or(0, |after| after.0))
            .bind(task.0)
            .bind(limit)
            .fetch_all(&self.readers)
            .await
            .doing("reading what runs of a task")?;
        let read = |row| {
            let zone: Option<String> = Columns::value(row, "zone")?;
            Ok(RunningUpgrade {
                upgrade: UpgradeId(Columns::int(row, "id")?),
                endpoint: Columns::value(row, "endpoint")?,
                zone: zone.map(Into::into),
            })
        };
        rows.iter().map(read).collect()
    }
}

async fn lots(
    conn: &mut SqliteConnection,
    now: UtcMillis,
) -> Result<HashMap<TaskId, Vec<LotHead>>, StoreError> {
    let rows = sqlx::query(LOTS)
        .bind(now.0)
        .fetch_all(conn)
        .await
        .doing(HEADS)?;
    let mut lots = HashMap::<TaskId, Vec<LotHead>>::new();
    for row in &rows {
        let first: Option<i64> = row.value("first_upgrade")?;
        let since = row.maybe_time("first_since")?;
        let zone: Option<String> = row.value("zone")?;
        lots.entry(TaskId(row.int("task_id")?))
            .or_default()
            .push(LotHead {
                lot: row.int("lot")?,
                zone: zone.map(Into::into),
                first_due: since.zip(first.map(UpgradeId)),
            });
    }
    for lots in lots.values_mut() {
        lots.sort_unstable_by_key(|lot| lot.lot);
    }
    Ok(lots)
}
