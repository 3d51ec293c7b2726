//! What is to be done: tasks, and what of them may begin or has to end.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use sqlx::SqliteConnection;

use super::{
    Doing, SqliteStore,
    bulk::json_list,
    cancel::{self, CANCELLING},
    counts,
    events::Announcements,
    narrowing,
    rows::Columns as _,
    task_changes::CHANGING,
    task_creation::CREATING,
    task_writes::{DELETING, STOPPING, StoppedBy, purge_part, state, stop_part},
    tasks, traffic,
    watched::Table,
};
use crate::{
    access::Part,
    clock::UtcMillis,
    ledger::{Cancellation, Protocol, StopReason, TaskId, UpgradeId, Usage},
    store::{
        Again, Agenda, CancelUpgradeError, ChangeTaskError, ChangeUpgradeError, CreateTaskError,
        DeleteTaskError, Exclude, Joined, NewTask, OpenUpgrades, Overlap, Overlaps, Page,
        RunningUpgrade, SoaksDue, StopTaskError, StoreError, TaskChange, TaskRecord, UpgradeRecord,
        UpgradeState, UpgradeToStop, Within,
    },
    task::{Due, MonthUsage, Move, PutOff, Source, Spent, TaskHead, TaskRules},
    tenant::TenantId,
};

const OVERLAPS: &str = "looking for overlaps of a task";
/// Other tasks that are looked at: more with one package are not under way at once.
const MAX_OVERLAPS: i64 = 1_000;

/// Devices of a task that speak one of a JSON list of protocols.
pub(super) const SPEAKING: &str = "SELECT COUNT(*) FROM upgrades u INDEXED BY upgrades_by_task CROSS JOIN devices d ON d.endpoint = u.endpoint \
     WHERE u.task_id = ? AND d.protocol IN (SELECT j.value FROM json_each(?) j)";

#[async_trait]
impl Agenda for SqliteStore {
    async fn create_task(&self, new: &NewTask) -> Result<TaskRecord, CreateTaskError> {
        let (store, new) = (self.clone(), new.clone());
        self.to_the_end(CREATING, async move {
            let mut begun = None;
            let created = store.create_in_parts(&new, &mut begun).await;
            if created.is_err()
                && let Some(task) = begun
            {
                // on nobody's behalf: what came of it is told with the answer
                let purged = tokio::spawn(async move { store.purge_for_sure(task).await });
                let _ = purged.await;
            }
            created
        })
        .await
    }

    async fn task(&self, id: TaskId) -> Result<Option<TaskRecord>, StoreError> {
        let mut conn = self.readers.acquire().await.doing("reading a task")?;
        tasks::read(&mut conn, id).await
    }

    // As a rule there is no other task with the package, and no upgrade is looked at.
    async fn open_upgrades(
        &self,
        task: TaskId,
        after: Option<UpgradeId>,
        limit: u32,
    ) -> Result<OpenUpgrades, StoreError> {
        self.read_open(task, after, limit).await
    }

    async fn task_exclude(&self, task: TaskId) -> Result<Exclude, StoreError> {
        let mut reader = self
            .readers
            .acquire()
            .await
            .doing("reading whom a task leaves out")?;
        narrowing::of_task(&mut reader, task).await
    }

    async fn overlaps(&self, task: TaskId, limit: u32) -> Result<Overlaps, StoreError> {
        let Some(packages) = self.read_task_packages(task).await? else {
            return Ok(Overlaps::default());
        };
        let listed = packages.rules.packages.iter().map(|it| it.package_id.0);
        let packages: BTreeSet<i64> = listed.chain([packages.first.0]).collect();
        let mut conn = self.readers.acquire().await.doing(OVERLAPS)?;
        let mut names = with_packages(&mut conn, task, &json_list(packages)).await?;
        if names.is_empty() {
            return Ok(Overlaps::default());
        }
        let others = json_list(names.keys());
        let found = sqlx::query(
            "SELECT o.task_id, COUNT(*) AS devices FROM upgrades n INDEXED BY upgrades_by_task \
                 CROSS JOIN upgrades o INDEXED BY upgrades_of_device ON o.endpoint = n.endpoint \
             WHERE n.task_id = ? AND n.phase < 2 AND o.phase < 2 \
                 AND o.task_id IN (SELECT j.value FROM json_each(?) j) \
             GROUP BY o.task_id",
        )
        .bind(task.0)
        .bind(&others)
        .fetch_all(&mut *conn)
        .await
        .doing(OVERLAPS)?;
        let mut tasks = Vec::new();
        for row in &found {
            let id = row.int("task_id")?;
            if let Some(name) = names.remove(&id) {
                tasks.push(Overlap {
                    id: TaskId(id),
                    name,
                    devices: row.int("devices")?,
                });
            }
        }
        let devices = match &*tasks {
            [] => 0,
            [only] => only.devices,
            _ => devices_in_others(&mut conn, task, &others).await?,
        };
        tasks.sort_by_key(|task| std::cmp::Reverse(task.id.0));
        tasks.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(Overlaps { devices, tasks })
    }

    async fn count_speaking(
        &self,
        task: TaskId,
        protocols: &[Protocol],
    ) -> Result<u64, StoreError> {
        let count: i64 = sqlx::query_scalar(SPEAKING)
            .bind(task.0)
            .bind(json_list(protocols.iter().map(|protocol| protocol.name())))
            .fetch_one(&self.readers)
            .await
            .doing("counting a task's devices by what they speak")?;
        Ok(count.unsigned_abs())
    }

    async fn tasks(
        &self,
        unfinished: bool,
        before: Option<TaskId>,
        limit: u32,
    ) -> Result<Page<TaskRecord>, StoreError> {
        self.list_tasks(unfinished, before, limit).await
    }

    async fn tasks_within(
        &self,
        parts: &[Part],
        unfinished: bool,
        before: Option<TaskId>,
        limit: u32,
    ) -> Result<Page<TaskRecord>, StoreError> {
        self.list_tasks_within(parts, unfinished, before, limit)
            .await
    }

    async fn tasks_of(
        &self,
        tenants: &[TenantId],
        tasks: &[TaskId],
    ) -> Result<HashSet<TaskId>, StoreError> {
        let found: Vec<i64> = sqlx::query_scalar(
            "SELECT t.id FROM json_each(?) j CROSS JOIN tasks t ON t.id = j.value \
             WHERE t.tenant IN (SELECT v.value FROM json_each(?) v)",
        )
        .bind(json_list(tasks.iter().map(|task| task.0)))
        .bind(json_list(tenants))
        .fetch_all(&self.readers)
        .await
        .doing("looking at the tenants of tasks")?;
        Ok(found.into_iter().map(TaskId).collect())
    }

    async fn stop_task(
        &self,
        id: TaskId,
        now: UtcMillis,
        soft: bool,
    ) -> Result<TaskRecord, StopTaskError> {
        let store = self.clone();
        let by = StoppedBy::Somebody { soft };
        self.to_the_end(
            STOPPING,
            async move { store.stop_in_parts(id, now, by).await },
        )
        .await
    }

    async fn delete_task(&self, id: TaskId) -> Result<(), DeleteTaskError> {
        let store = self.clone();
        self.to_the_end(DELETING, async move {
            let mut tx = store.write(DELETING).await?;
            tx.watch(Table::Tasks, id.0).await.doing(DELETING)?;
            match state(&mut tx, id).await? {
                None => return Err(DeleteTaskError::NotFound(id)),
                Some(state) if state.is_running() => {
                    return Err(DeleteTaskError::Running { id, state });
                }
                Some(_) => {}
            }
            // one that was scheduled does not start any more
            sqlx::query(
                "UPDATE tasks SET hidden = 1, state = CASE state WHEN 'scheduled' THEN 'stopped' ELSE state END \
                 WHERE id = ?",
            )
            .bind(id.0)
            .execute(&mut *tx)
            .await
            .doing(DELETING)?;
            let more = purge_part(&mut tx, id).await.doing(DELETING)?;
            if more {
                tx.commit_part().await.doing(DELETING)?;
                store.purge_for_sure(id).await;
                return Ok(());
            }
            Ok(tx.commit().await.doing(DELETING)?)
        })
        .await
    }

    async fn cancel_upgrade(
        &self,
        id: UpgradeId,
        within: Option<&Within>,
        now: UtcMillis,
    ) -> Result<UpgradeRecord, CancelUpgradeError> {
        let mut tx = self.write(CANCELLING).await?;
        tx.watch(Table::Upgrades, id.0).await.doing(CANCELLING)?;
        let upgrade = cancel::read_within(&mut tx, id, within).await?;
        match upgrade.state {
            UpgradeState::Pending => {
                let mut announcements = Announcements::default();
                let waiting = [id.0];
                let why = Cancellation::Upgrade;
                cancel::cancel_waiting(
                    &mut tx,
                    upgrade.task,
                    &waiting,
                    why,
                    now,
                    &mut announcements,
                )
                .await
                .doing(CANCELLING)?;
                counts::end_task_if_done(&mut tx, upgrade.task, now, &mut announcements)
                    .await
                    .doing(CANCELLING)?;
                announcements.deliver(&mut tx).await.doing(CANCELLING)?;
            }
            UpgradeState::Active(_) => {
                sqlx::query(
                    "UPDATE upgrades SET cancel_requested_at = COALESCE(cancel_requested_at, ?) WHERE id = ?",
                )
                .bind(now.0)
                .bind(id.0)
                .execute(&mut *tx)
                .await
                .doing(CANCELLING)?;
            }
            UpgradeState::Cancelled => return Ok(upgrade),
            UpgradeState::Succeeded | UpgradeState::Failed => {
                let state = upgrade.state;
                return Err(CancelUpgradeError::Ended { id, state });
            }
        }
        let upgrade = cancel::read(&mut tx, id).await?;
        tx.commit().await.doing(CANCELLING)?;
        Ok(upgrade)
    }

    async fn retry_upgrade(
        &self,
        id: UpgradeId,
        within: Option<&Within>,
        now: UtcMillis,
    ) -> Result<UpgradeRecord, ChangeUpgradeError> {
        self.retry_one(id, within, now).await
    }

    async fn confirm_upgrade(
        &self,
        id: UpgradeId,
        within: Option<&Within>,
        confirmed: bool,
        by: &str,
        now: UtcMillis,
    ) -> Result<UpgradeRecord, ChangeUpgradeError> {
        self.confirm_one(id, within, confirmed, by, now).await
    }

    async fn confirm_upgrade_for(
        &self,
        id: UpgradeId,
        within: Option<&Within>,
        at: Option<UtcMillis>,
        by: &str,
        now: UtcMillis,
    ) -> Result<UpgradeRecord, ChangeUpgradeError> {
        self.confirm_one_for(id, within, at, by, now).await
    }

    async fn skip_upgrade(
        &self,
        id: UpgradeId,
        within: Option<&Within>,
        now: UtcMillis,
    ) -> Result<UpgradeRecord, ChangeUpgradeError> {
        self.skip_one(id, within, now).await
    }

    async fn task_heads(&self, now: UtcMillis) -> Result<Vec<TaskHead>, StoreError> {
        self.read_heads(now).await
    }

    async fn join(
        &self,
        task: TaskId,
        after: Option<&str>,
        now: UtcMillis,
    ) -> Result<Joined, StoreError> {
        self.join_part(task, after, now).await
    }

    async fn make_moves(&self, moves: &[Move], now: UtcMillis) -> Result<(), StoreError> {
        let (store, moves) = (self.clone(), moves.to_vec());
        self.to_the_end(CHANGING, async move {
            for step in &moves {
                store.make_move(step, now).await?;
            }
            Ok(())
        })
        .await
    }

    async fn change_task(
        &self,
        id: TaskId,
        change: &TaskChange,
        now: UtcMillis,
    ) -> Result<TaskRecord, ChangeTaskError> {
        let (store, change) = (self.clone(), change.clone());
        self.to_the_end(
            CHANGING,
            async move { store.change(id, &change, now).await },
        )
        .await
    }

    async fn take_up_again(
        &self,
        id: TaskId,
        again: &Again,
        now: UtcMillis,
    ) -> Result<(TaskRecord, u64), ChangeTaskError> {
        let (store, again) = (self.clone(), *again);
        self.to_the_end(CHANGING, async move {
            store.again_in_parts(id, &again, now).await
        })
        .await
    }

    async fn due_upgrades(
        &self,
        sources: &[Source],
        now: UtcMillis,
        limit: u32,
    ) -> Result<Vec<Due>, StoreError> {
        self.read_due(sources, now, limit).await
    }

    async fn put_off(&self, put_off: &[PutOff], now: UtcMillis) -> Result<(), StoreError> {
        self.write_put_off(put_off, now).await
    }

    async fn used(
        &self,
        endpoints: &[String],
        now: UtcMillis,
    ) -> Result<HashMap<String, Usage>, StoreError> {
        let mut reader = self.readers.acquire().await.doing(traffic::SPENT)?;
        let endpoints = endpoints.iter().map(String::as_str);
        let spent = traffic::of_devices(&mut reader, (0, 0), endpoints, now).await?;
        let used = spent.into_iter().map(|(endpoint, it)| (endpoint, it.used));
        Ok(used.filter(|(_, it)| *it != Usage::default()).collect())
    }

    async fn spent(
        &self,
        task: TaskId,
        endpoint: &str,
        now: UtcMillis,
    ) -> Result<Option<Spent>, StoreError> {
        let mut reader = self.readers.acquire().await.doing(traffic::SPENT)?;
        let mut spent = traffic::spent(&mut reader, task, [endpoint], now).await?;
        Ok(spent.remove(endpoint))
    }

    async fn month_usage(
        &self,
        endpoint: &str,
        now: UtcMillis,
    ) -> Result<Option<MonthUsage>, StoreError> {
        let mut reader = self.readers.acquire().await.doing(traffic::SPENT)?;
        traffic::in_month(&mut reader, endpoint, now).await
    }

    async fn soaks_due(
        &self,
        now: UtcMillis,
        wait: Duration,
        limit: u32,
    ) -> Result<SoaksDue, StoreError> {
        self.look_after_soaks(now, wait, limit).await
    }

    async fn next_due(&self, now: UtcMillis) -> Result<Option<UtcMillis>, StoreError> {
        let doing = "looking for the next due time";
        // a first attempt is due when its task starts, or at the time for which it was confirmed
        let upgrade: Option<i64> = sqlx::query_scalar(
            "SELECT MIN(not_before) FROM upgrades WHERE phase = 0 AND attempt > 0 AND not_before > ?",
        )
        .bind(now.0)
        .fetch_one(&self.readers)
        .await
        .doing(doing)?;
        let confirmed: Option<i64> = sqlx::query_scalar(
            "SELECT MIN(confirmed_for) FROM upgrades WHERE phase = 0 AND confirmed_for > ?",
        )
        .bind(now.0)
        .fetch_one(&self.readers)
        .await
        .doing(doing)?;
        let task: Option<i64> = sqlx::query_scalar(
            "SELECT MIN(start_at) FROM tasks WHERE state = 'scheduled' AND start_at > ?",
        )
        .bind(now.0)
        .fetch_one(&self.readers)
        .await
        .doing(doing)?;
        let soak = self.next_soak(now).await?;
        let due = upgrade
            .into_iter()
            .chain(confirmed)
            .chain(task)
            .map(UtcMillis);
        Ok(due.chain(soak).min())
    }

    async fn taking_back(&self) -> Result<Vec<(TaskId, Arc<TaskRules>)>, StoreError> {
        self.read_taking_back().await
    }

    async fn running_upgrades(
        &self,
        task: TaskId,
        after: Option<UpgradeId>,
        limit: u32,
    ) -> Result<Vec<RunningUpgrade>, StoreError> {
        self.read_running(task, after, limit).await
    }

    async fn upgrades_to_stop(&self, limit: u32) -> Result<Vec<UpgradeToStop>, StoreError> {
        const OF_STOPPED_TASKS: &str = "SELECT u.id, u.task_id, u.endpoint, t.soft_stop \
             FROM tasks t CROSS JOIN upgrades u ON u.task_id = t.id \
             WHERE t.state = 'stopping' AND (u.state IN ('waiting_for_device', 'querying_version', \
                     'querying_coverage', 'querying_cell', 'waiting_for_slot') \
                 OR t.soft_stop = 0 AND u.state IN ('downloading', 'executing')) \
             LIMIT ?";
        const CANCELLED: &str = "SELECT u.id, u.task_id, u.endpoint, 0 AS soft_stop \
             FROM upgrades u CROSS JOIN tasks t ON t.id = u.task_id \
             WHERE u.phase = 1 AND u.cancel_requested_at IS NOT NULL \
                 AND (t.state <> 'stopping' OR t.soft_stop = 1 AND u.state IN ('downloading', 'executing')) LIMIT ?";
        const OF_REMOVED_DEVICES: &str = "SELECT u.id, u.task_id, u.endpoint, 0 AS soft_stop \
             FROM devices d CROSS JOIN upgrades u ON u.endpoint = d.endpoint AND u.phase = 1 \
             CROSS JOIN tasks t ON t.id = u.task_id \
             WHERE d.removed = 1 AND u.cancel_requested_at IS NULL \
                 AND (t.state <> 'stopping' OR t.soft_stop = 1 AND u.state IN ('downloading', 'executing')) LIMIT ?";
        let mut found = Vec::new();
        for (statement, reason) in [
            (OF_STOPPED_TASKS, StopReason::TaskStopped),
            (CANCELLED, StopReason::Cancelled),
            (OF_REMOVED_DEVICES, StopReason::DeviceRemoved),
        ] {
            let room = i64::from(limit).saturating_sub_unsigned(found.len() as u64);
            if room <= 0 {
                break;
            }
            let rows = sqlx::query(statement)
                .bind(room)
                .fetch_all(&self.readers)
                .await
                .doing("looking for upgrades to stop")?;
            for row in &rows {
                let reason = if row.value("soft_stop")? {
                    StopReason::TaskWindsDown
                } else {
                    reason
                };
                found.push(UpgradeToStop {
                    upgrade: UpgradeId(row.int("id")?),
                    task: TaskId(row.int("task_id")?),
                    endpoint: row.value("endpoint")?,
                    reason,
                });
            }
        }
        Ok(found)
    }

    async fn end_interrupted(&self) -> Result<(), StoreError> {
        self.purge_groups().await?;
        self.ask_again_after_soaks().await?;
        let hidden: Vec<i64> = sqlx::query_scalar("SELECT id FROM tasks WHERE hidden = 1")
            .fetch_all(&self.readers)
            .await
            .doing(DELETING)?;
        for task in hidden {
            self.purge(TaskId(task)).await?;
        }
        let stopping: Vec<i64> =
            sqlx::query_scalar("SELECT id FROM tasks WHERE state = 'stopping'")
                .fetch_all(&self.readers)
                .await
                .doing(STOPPING)?;
        for task in stopping {
            let (mut more, by) = (true, StoppedBy::Somebody { soft: true });
            while more {
                let mut tx = self.write(STOPPING).await?;
                // the time of its stop is known already
                more = stop_part(&mut tx, TaskId(task), UtcMillis(0), by).await?;
                tx.commit().await.doing(STOPPING)?;
            }
        }
        Ok(())
    }
}

/// Other tasks that have not ended, and have one of these packages (a JSON list), with their names.
async fn with_packages(
    conn: &mut SqliteConnection,
    task: TaskId,
    packages: &str,
) -> Result<BTreeMap<i64, String>, StoreError> {
    let first = "SELECT o.id, o.name FROM json_each(?) j CROSS JOIN tasks o INDEXED BY tasks_by_package \
             ON o.package_id = j.value AND o.state IN ('scheduled', 'running') \
         WHERE o.id <> ? AND o.hidden = 0 LIMIT ?";
    let further = "SELECT o.id, o.name FROM json_each(?) j CROSS JOIN task_packages u ON u.package_id = j.value \
             CROSS JOIN tasks o ON o.id = u.task_id AND o.state IN ('scheduled', 'running') \
         WHERE o.id <> ? AND o.hidden = 0 LIMIT ?";
    let mut names = BTreeMap::new();
    for query in [first, further] {
        let rows = sqlx::query(query)
            .bind(packages)
            .bind(task.0)
            .bind(MAX_OVERLAPS)
            .fetch_all(&mut *conn)
            .await
            .doing(OVERLAPS)?;
        for row in &rows {
            names.insert(row.int("id")?, row.value("name")?);
        }
    }
    Ok(names)
}

/// Devices of a task that any of the others (a JSON list) has too, where neither upgrade has ended.
async fn devices_in_others(
    conn: &mut SqliteConnection,
    task: TaskId,
    others: &str,
) -> Result<u64, StoreError> {
    let devices: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM upgrades n INDEXED BY upgrades_by_task \
         WHERE n.task_id = ?1 AND n.phase < 2 AND EXISTS ( \
             SELECT 1 FROM upgrades o INDEXED BY upgrades_of_device \
             WHERE o.endpoint = n.endpoint AND o.phase < 2 \
                 AND o.task_id IN (SELECT j.value FROM json_each(?2) j))",
    )
    .bind(task.0)
    .bind(others)
    .fetch_one(conn)
    .await
    .doing(OVERLAPS)?;
    Ok(devices.unsigned_abs())
}
