//! How devices bear their upgrades: soaks begin with a success, and end by what the device tells, or does not.

use std::{collections::BTreeMap, time::Duration};

use sqlx::{SqliteConnection, sqlite::SqliteRow};

use super::{
    Doing, SqliteStore,
    bulk::json_list,
    rows::{self, Columns as _},
};
use crate::{
    clock::UtcMillis,
    ledger::{Happened, Line, TaskId, UpgradeId},
    package::Version,
    store::{SoakRecord, SoakState, SoaksDue, StoreError},
    task::{Soak, SoakStep, Soaked},
};

const SOAKING: &str = "looking after devices that were upgraded";

/// A soak that goes on.
struct Open {
    upgrade: UpgradeId,
    task: TaskId,
    lot: u32,
    endpoint: String,
    soak: Soak,
    heard_at: Option<UtcMillis>,
}

impl Open {
    fn read(row: &SqliteRow) -> Result<Self, StoreError> {
        Ok(Self {
            upgrade: UpgradeId(row.int("upgrade_id")?),
            task: TaskId(row.int("task_id")?),
            lot: row.int("lot")?,
            endpoint: row.value("endpoint")?,
            soak: Soak {
                target: row.version("target")?,
                began_at: row.time("began_at")?,
                due_at: row.time("due_at")?,
            },
            heard_at: row.maybe_time("last_heard_at")?,
        })
    }
}

/// Soaks that go on, each an [`Open`]. More of the statement follows.
macro_rules! open {
    ($from:literal) => {
        concat!(
            "SELECT s.upgrade_id, s.task_id, s.lot, s.endpoint, s.target, s.began_at, s.due_at, d.last_heard_at ",
            $from
        )
    };
}

/// Of these devices, a JSON list.
pub(super) const OF_DEVICES: &str = open!(
    "FROM json_each(?) j CROSS JOIN soaks s INDEXED BY soaks_of_device ON s.endpoint = j.value AND s.next_at IS NOT NULL \
         LEFT JOIN devices d ON d.endpoint = s.endpoint"
);

/// Those about which there is something to do.
pub(super) const DUE: &str = open!(
    "FROM soaks s INDEXED BY soaks_by_time LEFT JOIN devices d ON d.endpoint = s.endpoint \
     WHERE s.next_at IS NOT NULL AND s.next_at <= ? ORDER BY s.next_at LIMIT ?"
);

/// The soaks begin of those of these upgrades, a JSON list, that have succeeded in a phase that has one. A device is asked for the
/// version of the device as a whole, which tells nothing of a component: a success with a package for one counts at once.
pub(super) async fn begin(conn: &mut SqliteConnection, upgrades: &str) -> Result<(), StoreError> {
    let begun = sqlx::query(
        "INSERT INTO soaks (upgrade_id, task_id, lot, endpoint, target, began_at, due_at, next_at, state, ended_at) \
         SELECT u.id, u.task_id, u.lot, u.endpoint, p.version, u.ended_at, \
             u.ended_at + IIF(p.component IS NULL, l.soak_s * 1000, 0), \
             IIF(p.component IS NULL, u.ended_at + l.soak_s * 1000, NULL), \
             IIF(p.component IS NULL, 'soaking', 'healthy'), IIF(p.component IS NULL, NULL, u.ended_at) \
         FROM json_each(?) j CROSS JOIN upgrades u ON u.id = j.value \
             CROSS JOIN task_lots l ON l.task_id = u.task_id AND l.lot = u.lot \
             CROSS JOIN tasks t ON t.id = u.task_id \
             CROSS JOIN packages p ON p.id = COALESCE(u.package_id, t.package_id) \
         WHERE u.state = 'succeeded' AND l.soak_s > 0 ON CONFLICT (upgrade_id) DO NOTHING \
         RETURNING upgrade_id, task_id, lot, began_at, due_at, next_at",
    )
    .bind(upgrades)
    .fetch_all(&mut *conn)
    .await
    .doing(SOAKING)?;
    let mut ended = Ended::default();
    for row in &begun {
        if row.maybe_time("next_at")?.is_none() {
            let of_lot = (
                TaskId(row.int("task_id")?),
                SoakState::Healthy,
                row.int("lot")?,
            );
            *ended.0.entry(of_lot).or_default() += 1;
            continue;
        }
        let until = row.time("due_at")?;
        let upgrade = UpgradeId(row.int("upgrade_id")?);
        let line = Happened::SoakBegun { until }.into();
        add_line(conn, upgrade, &line, row.time("began_at")?)
            .await
            .doing(SOAKING)?;
    }
    ended.write(conn).await.doing(SOAKING)
}

/// Devices have told their versions at these times.
pub(super) async fn told(
    conn: &mut SqliteConnection,
    told: &[(&str, Version, UtcMillis)],
) -> Result<(), StoreError> {
    if told.is_empty() {
        return Ok(());
    }
    let mut endpoints: Vec<&str> = told.iter().map(|(endpoint, ..)| *endpoint).collect();
    endpoints.sort_unstable();
    endpoints.dedup();
    let open = sqlx::query(OF_DEVICES)
        .bind(json_list(endpoints))
        .fetch_all(&mut *conn)
        .await
        .doing(SOAKING)?;
    let mut ended = Ended::default();
    for row in &open {
        let open = Open::read(row)?;
        let mut of_device = (told.iter()).filter(|(endpoint, ..)| *endpoint == open.endpoint);
        let soaked =
            of_device.find_map(|(_, version, at)| Some((open.soak.told(*version, *at)?, *at)));
        if let Some((soaked, at)) = soaked {
            ended.add(conn, &open, soaked, at).await.doing(SOAKING)?;
        }
    }
    ended.write(conn).await.doing(SOAKING)
}

/// Of these upgrades, a JSON list.
const OF_UPGRADES: &str = open!(
    "FROM json_each(?) j CROSS JOIN soaks s ON s.upgrade_id = j.value AND s.next_at IS NOT NULL \
         LEFT JOIN devices d ON d.endpoint = s.endpoint"
);

/// Whose soaks are passed over.
pub(super) enum PassedOver<'a> {
    /// That of an upgrade, by the operator.
    Upgrade(UpgradeId),
    /// Those of a device that is removed.
    Removed(&'a str),
}

/// Ends soaks that go on, so that they count for nothing. Returns how many they were.
pub(super) async fn pass_over(
    conn: &mut SqliteConnection,
    whose: PassedOver<'_>,
    at: UtcMillis,
) -> Result<usize, StoreError> {
    let (query, list, removed) = match whose {
        PassedOver::Upgrade(upgrade) => (OF_UPGRADES, json_list([upgrade.0]), false),
        PassedOver::Removed(endpoint) => (OF_DEVICES, json_list([endpoint]), true),
    };
    let open = sqlx::query(query)
        .bind(list)
        .fetch_all(&mut *conn)
        .await
        .doing(SOAKING)?;
    let mut ended = Ended::default();
    for row in &open {
        let line = Happened::SoakPassedOver { removed };
        ended
            .end(conn, &Open::read(row)?, (SoakState::PassedOver, line), at)
            .await
            .doing(SOAKING)?;
    }
    ended.write(conn).await.doing(SOAKING)?;
    Ok(open.len())
}

/// Soaks that end in a transaction, by lot.
#[derive(Default)]
struct Ended(BTreeMap<(TaskId, SoakState, u32), i64>);

impl Ended {
    async fn add(
        &mut self,
        conn: &mut SqliteConnection,
        open: &Open,
        soaked: Soaked,
        at: UtcMillis,
    ) -> Result<(), sqlx::Error> {
        let end = match soaked {
            Ok(()) => (SoakState::Healthy, Happened::SoakPassed {}),
            Err(why) => (SoakState::Unhealthy, Happened::SoakFailed(why)),
        };
        self.end(conn, open, end, at).await
    }

    async fn end(
        &mut self,
        conn: &mut SqliteConnection,
        open: &Open,
        (state, line): (SoakState, Happened),
        at: UtcMillis,
    ) -> Result<(), sqlx::Error> {
        sqlx::query(
            "UPDATE soaks SET state = ?, ended_at = ?, next_at = NULL WHERE upgrade_id = ?",
        )
        .bind(state.name())
        .bind(at.0)
        .bind(open.upgrade.0)
        .execute(&mut *conn)
        .await?;
        *self.0.entry((open.task, state, open.lot)).or_default() += 1;
        add_line(conn, open.upgrade, &line.into(), at).await
    }

    async fn write(self, conn: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        for ((task, state, lot), count) in self.0 {
            sqlx::query(
                "INSERT INTO soak_counts (task_id, state, lot, count) VALUES (?, ?, ?, ?) \
                 ON CONFLICT (task_id, state, lot) DO UPDATE SET count = count + excluded.count",
            )
            .bind(task.0)
            .bind(state.name())
            .bind(lot)
            .bind(count)
            .execute(&mut *conn)
            .await?;
        }
        Ok(())
    }
}

async fn add_line(
    conn: &mut SqliteConnection,
    upgrade: UpgradeId,
    line: &Line,
    at: UtcMillis,
) -> Result<(), sqlx::Error> {
    let (code, arguments) = rows::line_columns(line);
    sqlx::query(
        "INSERT INTO upgrade_events (upgrade_id, at, attempt, kind, code, arguments) \
         SELECT u.id, ?, u.attempt, 'note', ?, ? FROM upgrades u WHERE u.id = ?",
    )
    .bind(at.0)
    .bind(code)
    .bind(arguments)
    .bind(upgrade.0)
    .execute(conn)
    .await
    .map(|_| ())
}

impl SqliteStore {
    /// Has devices be asked anew whose soak is over: that they are to be was not written down.
    pub(super) async fn ask_again_after_soaks(&self) -> Result<(), StoreError> {
        let mut tx = self.write(SOAKING).await?;
        sqlx::query(
            "UPDATE soaks SET next_at = due_at WHERE next_at IS NOT NULL AND next_at > due_at",
        )
        .execute(&mut *tx)
        .await
        .doing(SOAKING)?;
        tx.commit().await.doing(SOAKING)
    }

    /// See [`crate::store::Agenda::soaks_due`].
    pub(super) async fn look_after_soaks(
        &self,
        now: UtcMillis,
        wait: Duration,
        limit: u32,
    ) -> Result<SoaksDue, StoreError> {
        let any: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM soaks INDEXED BY soaks_by_time WHERE next_at IS NOT NULL AND next_at <= ?)",
        )
        .bind(now.0)
        .fetch_one(&self.readers)
        .await
        .doing(SOAKING)?;
        if !any {
            return Ok(SoaksDue::default());
        }
        let mut tx = self.write(SOAKING).await?;
        let due = sqlx::query(DUE)
            .bind(now.0)
            .bind(limit)
            .fetch_all(&mut *tx)
            .await
            .doing(SOAKING)?;
        let mut ended = Ended::default();
        let mut asked = Vec::new();
        for row in &due {
            let open = Open::read(row)?;
            let next_at = match open.soak.next(wait, open.heard_at, now) {
                SoakStep::WaitUntil(at) => at,
                SoakStep::Ask(again_at) => {
                    asked.push(open.endpoint.clone());
                    again_at
                }
                SoakStep::Ended(soaked) => {
                    ended
                        .add(&mut tx, &open, soaked, now)
                        .await
                        .doing(SOAKING)?;
                    continue;
                }
            };
            sqlx::query("UPDATE soaks SET next_at = ? WHERE upgrade_id = ?")
                .bind(next_at.0)
                .bind(open.upgrade.0)
                .execute(&mut *tx)
                .await
                .doing(SOAKING)?;
        }
        ended.write(&mut tx).await.doing(SOAKING)?;
        tx.commit().await.doing(SOAKING)?;
        Ok(SoaksDue {
            ask: asked,
            looked_at: due.len() as u64,
        })
    }

    /// When there is something to do about a soak, after `now`.
    pub(super) async fn next_soak(&self, now: UtcMillis) -> Result<Option<UtcMillis>, StoreError> {
        let next: Option<i64> = sqlx::query_scalar(
            "SELECT MIN(next_at) FROM soaks INDEXED BY soaks_by_time WHERE next_at IS NOT NULL AND next_at > ?",
        )
        .bind(now.0)
        .fetch_one(&self.readers)
        .await
        .doing(SOAKING)?;
        Ok(next.map(UtcMillis))
    }

    /// How the device of an upgrade bears it.
    pub(super) async fn soak_of(
        &self,
        upgrade: UpgradeId,
    ) -> Result<Option<SoakRecord>, StoreError> {
        let row = sqlx::query("SELECT state, due_at, ended_at FROM soaks WHERE upgrade_id = ?")
            .bind(upgrade.0)
            .fetch_optional(&self.readers)
            .await
            .doing(SOAKING)?;
        let Some(row) = row else { return Ok(None) };
        let state: String = row.value("state")?;
        Ok(Some(SoakRecord {
            state: SoakState::named(&state)
                .ok_or_else(|| rows::unreadable("soaks.state", &state))?,
            due_at: row.time("due_at")?,
            ended_at: row.maybe_time("ended_at")?,
        }))
    }
}
