//! Who waits in a cell, by tasks.

use sqlx::SqlitePool;

use super::{
    Doing,
    rows::{self, Columns as _},
};
use crate::{
    ledger::{Stage, TaskId},
    store::{QueueRecord, StoreError, UpgradeRecord, UpgradeState},
    task::{Queued, Share},
};

const READING: &str = "reading the queue of a cell";

/// Upgrades of a queue that are looked at, those that have waited longest: it may be as long as the fleet.
const MOST: i64 = 10_000;

/// Upgrades of a cell's queue by their tasks, the ages of the first, and how many have waited for longer than one of them.
const TASKS: &str = "SELECT found.task_id, COUNT(*) AS waiting, MIN(found.queued_at) AS since, \
         SUM((found.queued_at, found.id) < (?2, ?3)) AS ahead, (SELECT t.rules FROM tasks t WHERE t.id = found.task_id) AS rules \
     FROM (SELECT w.task_id, w.queued_at, w.id FROM upgrades w INDEXED BY upgrades_queued \
         WHERE w.cell = ?1 AND w.state = 'waiting_for_slot' ORDER BY w.queued_at, w.id LIMIT ?4) found \
     GROUP BY found.task_id";

/// What keeps an upgrade that waits for a slot, where so many slots are taken and so many have waited for longer; `None` where it
/// does not wait for one.
pub(super) async fn of(
    readers: &SqlitePool,
    upgrade: &UpgradeRecord,
    (active, ahead): (u32, u32),
) -> Result<Option<QueueRecord>, StoreError> {
    let queued_at = upgrade.stage.as_ref().and_then(|stage| stage.queued_at);
    let waits = upgrade.state == UpgradeState::Active(Stage::WaitingForSlot);
    let (Some(cell), Some(queued_at), true) = (upgrade.cell, queued_at, waits) else {
        return Ok(None);
    };
    let rows = sqlx::query(TASKS)
        .bind(cell)
        .bind(queued_at.0)
        .bind(upgrade.id.0)
        .bind(MOST)
        .fetch_all(readers)
        .await
        .doing(READING)?;
    let mut ahead_in_task = 0;
    let mut tasks = Vec::with_capacity(rows.len());
    for row in &rows {
        let task = TaskId(row.int("task_id")?);
        let rules: Option<String> = row.value("rules")?;
        let rules = rules.as_deref().map(rows::rules_of).transpose()?;
        if task == upgrade.task {
            ahead_in_task = row.int("ahead")?;
        }
        tasks.push(Queued {
            task,
            share: rules.map_or_else(Share::default, |rules| Share::of(&rules)),
            waiting: row.int("waiting")?,
            since: row.time("since")?,
        });
    }
    Ok(Some(QueueRecord {
        active,
        ahead,
        ahead_in_task,
        tasks,
    }))
}
