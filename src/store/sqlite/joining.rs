//! Devices join a task that runs: those that fit now and are not in it. A part of them is looked for at a time, beside the
//! writer; who is found joins in one transaction, with the counts.

use std::collections::{HashMap, HashSet};

use sqlx::SqliteConnection;

use super::{
    Doing, PART, SqliteStore,
    bulk::json_list,
    counts::CountChanges,
    narrowing::{self, Narrowing},
    rows::{self, Columns as _},
    task_creation::insert_dealt,
    task_devices::{self, Part},
    walk::Walk,
};
use crate::{
    clock::UtcMillis,
    ledger::{Happened, Line, TaskId},
    store::{DeviceFilter, Joined, StoreError, UpgradeState},
    task::TaskRules,
};

const JOINING: &str = "looking for devices that join a task";
/// Rows that a part looks at: the planner waits for it.
const ROWS: u32 = 10_000;

impl SqliteStore {
    pub(super) async fn join_part(
        &self,
        task: TaskId,
        after: Option<&str>,
        now: UtcMillis,
    ) -> Result<Joined, StoreError> {
        let mut reader = self.readers.begin().await.doing(JOINING)?;
        let Some(whom) = whom(&mut reader, task, now).await? else {
            return Ok(Joined::default());
        };
        let product = whom.product.clone().unwrap_or_default();
        let walk = Walk::of(&mut reader, whom).await?;
        let walk = walk.stepping(ROWS).outside(task);
        let mut found = walk.find(&mut reader, after, PART).await?;
        if !found.endpoints.is_empty() {
            let exclude = narrowing::of_task(&mut reader, task).await?;
            if let Some(narrowing) = Narrowing::of(&mut reader, &exclude, now).await? {
                narrowing.keep(&mut reader, &mut found.endpoints).await?;
            }
        }
        drop(reader);
        let devices = if found.endpoints.is_empty() {
            0
        } else {
            self.take_up(task, &found.endpoints, &product, now).await?
        };
        Ok(Joined {
            devices,
            next: found.next,
        })
    }

    /// Has these join, as far as they are there still and not in it. Returns how many do.
    async fn take_up(
        &self,
        task: TaskId,
        endpoints: &[String],
        product: &str,
        now: UtcMillis,
    ) -> Result<u64, StoreError> {
        let mut tx = self.write(JOINING).await?;
        let Some((phase, rules)) = running_phase(&mut tx, task, now).await? else {
            return Ok(0); // it has ended meanwhile, or is between two phases
        };
        let names = json_list(endpoints);
        let there = in_task(&mut tx, task, &names).await?;
        let mut lots = HashMap::new();
        let mut counts = CountChanges::default();
        let mut dealt = Vec::new();
        // whoever joins is in the phase that runs, whatever a draw would say
        let undrawn = TaskRules {
            phases: Vec::new(),
            stratified: false,
            ..rules.clone()
        };
        let part = Part::Listed(&names);
        let devices = task_devices::read(&mut tx, (&undrawn, now), product, part).await?;
        for device in devices {
            if device.excluded || there.contains(&device.endpoint) {
                continue;
            }
            let zone = device.zone.filter(|_| rules.knows_zones());
            let lot = match lots.get(&zone) {
                Some(lot) => *lot,
                None => lot_of(&mut tx, task, (phase, &rules), zone.as_deref()).await?,
            };
            lots.insert(zone, lot);
            counts.add(task, lot, UpgradeState::Pending, None, 1);
            dealt.push((device.endpoint, lot));
        }
        let joined = dealt.len() as u64;
        insert_dealt(&mut tx, task, (now, now), &dealt)
            .await
            .doing(JOINING)?;
        tell(&mut tx, task, &dealt, now).await.doing(JOINING)?;
        counts.write(&mut tx).await.doing(JOINING)?;
        tx.commit().await.doing(JOINING)?;
        Ok(joined)
    }
}

/// Whom a task is for that devices may join; `None` where none may.
async fn whom(
    conn: &mut SqliteConnection,
    task: TaskId,
    now: UtcMillis,
) -> Result<Option<DeviceFilter>, StoreError> {
    let row = sqlx::query(
        "SELECT p.product, t.may_join, t.selected_by, t.group_id FROM tasks t CROSS JOIN packages p ON p.id = t.package_id \
         WHERE t.id = ? AND t.state = 'running' AND t.joining = 1 AND t.hidden = 0",
    )
    .bind(task.0)
    .fetch_optional(conn)
    .await
    .doing(JOINING)?;
    let Some(row) = row else { return Ok(None) };
    let Some(targets) = narrowing::targets(&row)? else {
        return Ok(None);
    };
    Ok(Some(DeviceFilter {
        product: Some(row.value("product")?),
        filter: targets.filter,
        group: targets.group,
        now,
        ..DeviceFilter::default()
    }))
}

/// The phase of a task that runs and how it is run, if devices may join it.
async fn running_phase(
    conn: &mut SqliteConnection,
    task: TaskId,
    now: UtcMillis,
) -> Result<Option<(u32, TaskRules)>, StoreError> {
    let row = sqlx::query(
        "SELECT phase, rules FROM tasks WHERE id = ? AND state = 'running' AND joining = 1 AND expired = 0 AND hidden = 0 \
             AND (hold IS NULL OR hold ->> 'code' IN ('paused', 'failures'))",
    )
    .bind(task.0)
    .fetch_optional(conn)
    .await
    .doing(JOINING)?;
    let Some(row) = row else { return Ok(None) };
    let rules = rows::rules_of(&row.value::<String>("rules")?)?;
    let over = rules.not_after.is_some_and(|last| last <= now);
    let phase = row.int("phase")?;
    Ok((!over).then_some((phase, rules)))
}

/// Those of a JSON list that the task has already, whatever became of them.
async fn in_task(
    conn: &mut SqliteConnection,
    task: TaskId,
    names: &str,
) -> Result<HashSet<String>, StoreError> {
    let found: Vec<String> = sqlx::query_scalar(
        "SELECT j.value FROM json_each(?) j WHERE EXISTS ( \
             SELECT 1 FROM upgrades u INDEXED BY upgrades_of_device WHERE u.endpoint = j.value AND u.task_id = ?)",
    )
    .bind(names)
    .bind(task.0)
    .fetch_all(conn)
    .await
    .doing(JOINING)?;
    Ok(found.into_iter().collect())
}

/// The lot of a phase and a zone. There are no more than phases and zones.
pub(super) async fn lot_of(
    conn: &mut SqliteConnection,
    task: TaskId,
    (phase, rules): (u32, &TaskRules),
    zone: Option<&str>,
) -> Result<u32, StoreError> {
    let lot: Option<u32> = sqlx::query_scalar(
        "SELECT lot FROM task_lots WHERE task_id = ? AND phase = ? AND zone IS ?",
    )
    .bind(task.0)
    .bind(phase)
    .bind(zone)
    .fetch_optional(&mut *conn)
    .await
    .doing(JOINING)?;
    if let Some(lot) = lot {
        return Ok(lot);
    }
    sqlx::query_scalar(
        "INSERT INTO task_lots (task_id, lot, phase, zone, soak_s) \
         SELECT ?1, COALESCE((SELECT MAX(lot) + 1 FROM task_lots WHERE task_id = ?1), 0), ?2, ?3, ?4 RETURNING lot",
    )
    .bind(task.0)
    .bind(phase)
    .bind(zone)
    .bind(rules.phase(phase).soak_seconds)
    .fetch_one(conn)
    .await
    .doing(JOINING)
}

/// Writes into the timelines of those that have joined that they did.
async fn tell(
    conn: &mut SqliteConnection,
    task: TaskId,
    dealt: &[(String, u32)],
    now: UtcMillis,
) -> Result<(), sqlx::Error> {
    let line: Line = Happened::Joined {}.into();
    let (code, arguments) = rows::line_columns(&line);
    sqlx::query(
        "INSERT INTO upgrade_events (upgrade_id, at, attempt, kind, code, arguments) \
         SELECT u.id, ?, 0, 'note', ?, ? FROM json_each(?) j \
             CROSS JOIN upgrades u INDEXED BY upgrades_of_device ON u.endpoint = j.value WHERE u.task_id = ?",
    )
    .bind(now.0)
    .bind(code)
    .bind(arguments)
    .bind(json_list(dealt.iter().map(|(endpoint, _)| endpoint)))
    .bind(task.0)
    .execute(conn)
    .await
    .map(|_| ())
}
