//! What upgrades cost on the air: written down as it is told, and read by upgrade, task, cell, and device and month.

use std::collections::{BTreeMap, HashMap};

use sqlx::{SqliteConnection, sqlite::SqliteRow};

use super::{
    Doing, PART, SqliteStore,
    bulk::{Bound, RowStatement, json_list},
    rows::{self, Columns as _},
};
use crate::{
    clock::UtcMillis,
    ledger::{Change, Coverage, TaskId, Traffic, UpgradeId, Usage},
    store::StoreError,
    task::{Due, Month, MonthUsage, PUT_OFF_COUNTED, PutOff, Resource, Source, Spent},
};

const WRITING: &str = "writing what upgrades have cost";
const READING: &str = "reading what upgrades have cost";
pub(super) const SPENT: &str = "reading what devices have spent";
const PUTTING_OFF: &str = "putting upgrades off";

/// Statements that add to the sums of something, if it is there.
macro_rules! adding_to {
    ($table:literal, $key:literal, $there:literal) => {
        RowStatement {
            head: "WITH v (id, down, up, repeats_down, repeats_up, active, airtime) AS (VALUES ",
            row: "(?, ?, ?, ?, ?, ?, ?)",
            tail: concat!(
                ") INSERT INTO ", $table, " (", $key, ", bytes_down, bytes_up, repeats_down, repeats_up, active_ms, \
                    airtime_estimated_ms) \
                 SELECT v.* FROM v", $there, " WHERE true \
                 ON CONFLICT (", $key, ") DO UPDATE SET bytes_down = bytes_down + excluded.bytes_down, \
                    bytes_up = bytes_up + excluded.bytes_up, repeats_down = repeats_down + excluded.repeats_down, \
                    repeats_up = repeats_up + excluded.repeats_up, active_ms = active_ms + excluded.active_ms, \
                    airtime_estimated_ms = airtime_estimated_ms + excluded.airtime_estimated_ms"
            ),
        }
    };
}

const UPGRADES: RowStatement = adding_to!(
    "upgrade_traffic",
    "upgrade_id",
    " CROSS JOIN upgrades u ON u.id = v.id"
);
const TASKS: RowStatement = adding_to!(
    "task_traffic",
    "task_id",
    " CROSS JOIN tasks t ON t.id = v.id"
);
const CELLS: RowStatement = adding_to!("cell_traffic", "cell", "");

const DEVICES: RowStatement = RowStatement {
    head: "INSERT INTO device_traffic (device_id, month, bytes, airtime_estimated_ms) VALUES ",
    row: "(?, ?, ?, ?)",
    tail: " ON CONFLICT (device_id, month) DO UPDATE SET bytes = bytes + excluded.bytes, \
               airtime_estimated_ms = airtime_estimated_ms + excluded.airtime_estimated_ms",
};

/// What a batch tells of traffic.
#[derive(Default)]
pub(super) struct TrafficChanges<'c> {
    upgrades: BTreeMap<i64, Traffic>,
    tasks: BTreeMap<i64, Traffic>,
    cells: BTreeMap<i64, Traffic>,
    devices: BTreeMap<&'c str, Vec<(UtcMillis, Traffic)>>,
}

impl<'c> TrafficChanges<'c> {
    /// [`Change::Traffic`].
    pub(super) fn add(&mut self, change: &'c Change) {
        let Change::Traffic {
            upgrade,
            task,
            endpoint,
            cell,
            traffic,
            at,
        } = change
        else {
            return;
        };
        *self.upgrades.entry(upgrade.0).or_default() += *traffic;
        *self.tasks.entry(task.0).or_default() += *traffic;
        if let Some(cell) = cell {
            *self.cells.entry(i64::from(*cell)).or_default() += *traffic;
        }
        let of_device = self.devices.entry(endpoint).or_default();
        of_device.push((*at, *traffic));
    }

    pub(super) async fn write(self, conn: &mut SqliteConnection) -> Result<(), StoreError> {
        if self.upgrades.is_empty() {
            return Ok(());
        }
        for (statement, sums) in [
            (UPGRADES, self.upgrades),
            (TASKS, self.tasks),
            (CELLS, self.cells),
        ] {
            let sums: Vec<(i64, Traffic)> = sums.into_iter().collect();
            statement
                .execute(conn, &sums, |query, (id, sum)| bind(query, *id, sum))
                .await
                .doing(WRITING)?;
        }
        write_devices(conn, self.devices).await
    }
}

/// What fits the database: a sum stays below 2^63 for longer than anything lasts.
fn stored(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX >> 20)
}

fn bind(query: Bound, id: i64, sum: &Traffic) -> Bound {
    query
        .bind(id)
        .bind(stored(sum.bytes_down))
        .bind(stored(sum.bytes_up))
        .bind(stored(sum.repeats_down))
        .bind(stored(sum.repeats_up))
        .bind(stored(sum.active_ms))
        .bind(stored(sum.airtime_estimated_ms))
}

async fn write_devices(
    conn: &mut SqliteConnection,
    devices: BTreeMap<&str, Vec<(UtcMillis, Traffic)>>,
) -> Result<(), StoreError> {
    let rows = sqlx::query(
        "SELECT d.id, d.endpoint, d.time_zone FROM json_each(?) j CROSS JOIN devices d ON d.endpoint = j.value",
    )
    .bind(json_list(devices.keys()))
    .fetch_all(&mut *conn)
    .await
    .doing(WRITING)?;
    let mut months = BTreeMap::<(i64, i32), Usage>::new();
    for row in &rows {
        let (id, endpoint): (i64, String) = (row.int("id")?, row.value("endpoint")?);
        let zone: Option<String> = row.value("time_zone")?;
        for (at, traffic) in devices.get(&*endpoint).into_iter().flatten() {
            let month = Month::of(*at, zone.as_deref()).number;
            *months.entry((id, month)).or_default() += traffic;
        }
    }
    let months: Vec<_> = months.into_iter().collect();
    DEVICES
        .execute(conn, &months, |query, ((device, month), usage)| {
            query
                .bind(*device)
                .bind(*month)
                .bind(stored(usage.bytes))
                .bind(stored(usage.airtime_estimated_ms))
        })
        .await
        .doing(WRITING)
}

fn traffic(row: &SqliteRow) -> Result<Traffic, StoreError> {
    Ok(Traffic {
        bytes_down: row.int("bytes_down")?,
        bytes_up: row.int("bytes_up")?,
        repeats_down: row.int("repeats_down")?,
        repeats_up: row.int("repeats_up")?,
        active_ms: row.int("active_ms")?,
        airtime_estimated_ms: row.int("airtime_estimated_ms")?,
    })
}

/// What tasks have cost, of those between two numbers that have cost anything.
pub(super) async fn of_tasks(
    conn: &mut SqliteConnection,
    (oldest, newest): (TaskId, TaskId),
) -> Result<HashMap<TaskId, Traffic>, StoreError> {
    let rows = sqlx::query("SELECT * FROM task_traffic WHERE task_id BETWEEN ? AND ?")
        .bind(oldest.0)
        .bind(newest.0)
        .fetch_all(conn)
        .await
        .doing(READING)?;
    rows.iter()
        .map(|row| Ok((TaskId(row.int("task_id")?), traffic(row)?)))
        .collect()
}

/// Upgrades of a task that were put off, up to 1,000, and when the first of them is due again.
pub(super) async fn put_off_in(
    conn: &mut SqliteConnection,
    task: TaskId,
) -> Result<(u32, Option<UtcMillis>), StoreError> {
    let row = sqlx::query(
        "SELECT COUNT(*) AS count, MIN(found.not_before) AS first FROM ( \
             SELECT u.not_before FROM upgrades u INDEXED BY upgrades_over_budget \
             WHERE u.task_id = ? AND u.over_budget = 1 AND u.phase = 0 ORDER BY u.not_before LIMIT ?) found",
    )
    .bind(task.0)
    .bind(PUT_OFF_COUNTED)
    .fetch_one(conn)
    .await
    .doing(READING)?;
    Ok((row.int("count")?, row.maybe_time("first")?))
}

/// What devices have spent in their month, and what a package of a task will cost them.
pub(super) async fn spent(
    conn: &mut SqliteConnection,
    task: TaskId,
    endpoints: impl IntoIterator<Item = &str>,
    now: UtcMillis,
) -> Result<HashMap<String, Spent>, StoreError> {
    let package = largest_package(conn, task).await?;
    of_devices(conn, package, endpoints, now).await
}

/// The same for a package of so many bytes and segments.
pub(super) async fn of_devices(
    conn: &mut SqliteConnection,
    (size_bytes, segments): (u64, u64),
    endpoints: impl IntoIterator<Item = &str>,
    now: UtcMillis,
) -> Result<HashMap<String, Spent>, StoreError> {
    let rows = sqlx::query(
        "SELECT d.endpoint, d.time_zone, d.coverage_cell, d.coverage_rsrp_dbm, d.coverage_sinr_db, m.month, m.bytes, \
             m.airtime_estimated_ms \
         FROM json_each(?) j CROSS JOIN devices d ON d.endpoint = j.value \
             LEFT JOIN device_traffic m ON m.device_id = d.id AND m.month >= ?",
    )
    .bind(json_list(endpoints))
    // nowhere it is an earlier month than this
    .bind(Month::of(now, None).number - 1)
    .fetch_all(conn)
    .await
    .doing(SPENT)?;
    let mut found = HashMap::<String, Spent>::new();
    for row in &rows {
        let zone: Option<String> = row.value("time_zone")?;
        let month = Month::of(now, zone.as_deref());
        let coverage = Coverage {
            cell: row.maybe_int("coverage_cell")?,
            rsrp_dbm: row.value("coverage_rsrp_dbm")?,
            sinr_db: row.value("coverage_sinr_db")?,
        };
        let spent = found.entry(row.value("endpoint")?).or_insert(Spent {
            used: Usage::default(),
            need: Usage::of_package(size_bytes, segments, Some(&coverage)),
            month_ends_at: month.ends_at,
        });
        if row.value::<Option<i32>>("month")? == Some(month.number) {
            spent.used = Usage {
                bytes: row.int("bytes")?,
                airtime_estimated_ms: row.int("airtime_estimated_ms")?,
            };
        }
    }
    Ok(found)
}

/// What a device has spent in its month; `None` where there is no such device.
pub(super) async fn in_month(
    conn: &mut SqliteConnection,
    endpoint: &str,
    now: UtcMillis,
) -> Result<Option<MonthUsage>, StoreError> {
    let zone: Option<(i64, Option<String>)> =
        sqlx::query_as("SELECT id, time_zone FROM devices WHERE endpoint = ? AND removed = 0")
            .bind(endpoint)
            .fetch_optional(&mut *conn)
            .await
            .doing(SPENT)?;
    let Some((id, zone)) = zone else {
        return Ok(None);
    };
    let month = Month::of(now, zone.as_deref());
    let row = sqlx::query(
        "SELECT bytes, airtime_estimated_ms FROM device_traffic WHERE device_id = ? AND month = ?",
    )
    .bind(id)
    .bind(month.number)
    .fetch_optional(conn)
    .await
    .doing(SPENT)?;
    let used = row.map_or_else(
        || Ok(Usage::default()),
        |row| {
            Ok::<_, StoreError>(Usage {
                bytes: row.int("bytes")?,
                airtime_estimated_ms: row.int("airtime_estimated_ms")?,
            })
        },
    )?;
    Ok(Some(MonthUsage { month, used }))
}

/// Bytes and segments of the largest package of a task.
async fn largest_package(
    conn: &mut SqliteConnection,
    task: TaskId,
) -> Result<(u64, u64), StoreError> {
    let first: Option<(i64, i64)> = sqlx::query_as(
        "SELECT p.size_bytes, p.segment_size FROM tasks t CROSS JOIN packages p ON p.id = t.package_id WHERE t.id = ?",
    )
    .bind(task.0)
    .fetch_optional(&mut *conn)
    .await
    .doing(SPENT)?;
    let others: Vec<(i64, i64)> = sqlx::query_as(
        "SELECT p.size_bytes, p.segment_size FROM tasks t CROSS JOIN json_each(t.packages, '$.packages') j \
             CROSS JOIN packages p ON p.id = j.value ->> '$.package_id' WHERE t.id = ?",
    )
    .bind(task.0)
    .fetch_all(conn)
    .await
    .doing(SPENT)?;
    let largest = first.into_iter().chain(others).max().unwrap_or((0, 1));
    let size_bytes = largest.0.unsigned_abs();
    let segments = size_bytes.div_ceil(largest.1.unsigned_abs().max(1));
    Ok((size_bytes, segments))
}

/// Adds to what is due what its devices have spent, where their task has a budget.
pub(super) async fn add_spent(
    conn: &mut SqliteConnection,
    due: &mut [Due],
    sources: &[Source],
    now: UtcMillis,
) -> Result<(), StoreError> {
    let mut tasks: Vec<TaskId> = (sources.iter())
        .filter(|source| source.budget.is_some())
        .map(|source| source.task)
        .collect();
    tasks.sort_unstable();
    tasks.dedup();
    for task in tasks {
        let of_task = |due: &&Due| due.order.task == task;
        let endpoints: Vec<&str> = (due.iter())
            .filter(of_task)
            .map(|due| &*due.order.endpoint)
            .collect();
        if endpoints.is_empty() {
            continue;
        }
        let spent = spent(&mut *conn, task, endpoints, now).await?;
        for due in due.iter_mut().filter(|due| due.order.task == task) {
            due.spent = spent.get(&due.order.endpoint).copied();
        }
    }
    Ok(())
}

/// Has what was put off because of a task's budget be looked at again: the budget is another one.
pub(super) async fn put_off_no_longer(
    conn: &mut SqliteConnection,
    task: TaskId,
    now: UtcMillis,
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "UPDATE upgrades SET over_budget = 0, not_before = MIN(not_before, ?) WHERE id IN ( \
             SELECT u.id FROM upgrades u INDEXED BY upgrades_over_budget \
             WHERE u.task_id = ? AND u.over_budget = 1 AND u.phase = 0 LIMIT ?)",
    )
    .bind(now.0)
    .bind(task.0)
    .bind(PART)
    .execute(conn)
    .await
    .doing(PUTTING_OFF)?;
    Ok(done.rows_affected() >= u64::from(PART))
}

/// The task of an upgrade has the budget that was looked at, of bytes or of seconds on the air: it may have been changed meanwhile,
/// and who was put off before that was looked at again then.
macro_rules! budget_is_still {
    ($upgrade:literal) => {
        concat!(
            "EXISTS (SELECT 1 FROM tasks t WHERE t.id = ",
            $upgrade,
            ".task_id AND (t.rules ->> '$.budget.bytes_per_month' = v.bytes \
                 OR t.rules ->> '$.budget.airtime_estimated_seconds_per_month' = v.seconds))"
        )
    };
}

/// Which upgrade, and which budget it is over: of bytes, or of seconds.
fn bind_budget(query: Bound, it: &PutOff) -> Bound {
    let (bytes, seconds) = match it.over.resource {
        Resource::Bytes => (Some(stored(it.over.budget)), None),
        Resource::Airtime => (None, Some(stored(it.over.budget / 1_000))),
    };
    query.bind(it.upgrade.0).bind(bytes).bind(seconds)
}

impl SqliteStore {
    pub(super) async fn write_put_off(
        &self,
        put_off: &[PutOff],
        now: UtcMillis,
    ) -> Result<(), StoreError> {
        const LINES: RowStatement = RowStatement {
            head: "WITH v (id, bytes, seconds, at, code, arguments) AS (VALUES ",
            row: "(?, ?, ?, ?, ?, ?)",
            tail: concat!(
                ") INSERT INTO upgrade_events (upgrade_id, at, attempt, kind, code, arguments) \
                     SELECT u.id, v.at, u.attempt, 'note', v.code, v.arguments FROM v CROSS JOIN upgrades u ON u.id = v.id \
                     WHERE u.phase = 0 AND ",
                budget_is_still!("u")
            ),
        };
        const LATER: RowStatement = RowStatement {
            head: "WITH v (id, bytes, seconds, until) AS (VALUES ",
            row: "(?, ?, ?, ?)",
            tail: concat!(
                ") UPDATE upgrades SET not_before = MAX(not_before, v.until), over_budget = 1 FROM v \
                     WHERE upgrades.id = v.id AND upgrades.phase = 0 AND ",
                budget_is_still!("upgrades")
            ),
        };
        let mut tx = self.write(PUTTING_OFF).await?;
        LATER
            .execute(&mut tx, put_off, |query, it| {
                bind_budget(query, it).bind(it.over.until.0)
            })
            .await
            .doing(PUTTING_OFF)?;
        LINES
            .execute(&mut tx, put_off, |query, it| {
                let (code, arguments) = rows::line_columns(&it.line());
                bind_budget(query, it)
                    .bind(now.0)
                    .bind(code)
                    .bind(arguments)
            })
            .await
            .doing(PUTTING_OFF)?;
        tx.commit().await.doing(PUTTING_OFF)
    }

    pub(super) async fn traffic_of_upgrade(&self, id: UpgradeId) -> Result<Traffic, StoreError> {
        let row = sqlx::query("SELECT * FROM upgrade_traffic WHERE upgrade_id = ?")
            .bind(id.0)
            .fetch_optional(&self.readers)
            .await
            .doing(READING)?;
        Ok(row.as_ref().map(traffic).transpose()?.unwrap_or_default())
    }

    pub(super) async fn traffic_of_cell(&self, cell: u32) -> Result<Traffic, StoreError> {
        let row = sqlx::query("SELECT * FROM cell_traffic WHERE cell = ?")
            .bind(cell)
            .fetch_optional(&self.readers)
            .await
            .doing(READING)?;
        Ok(row.as_ref().map(traffic).transpose()?.unwrap_or_default())
    }
}
