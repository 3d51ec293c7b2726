//! A batch of the engine's changes in one transaction, in a few statements of many rows each.
//!
//! What a change does to an upgrade depends on where the upgrade stands. So the upgrades of a batch are read, the
//! changes are applied to them here, in their order, and what came of it is written. Devices need not be read: the
//! statements themselves know what to pass over. Both are apart, because no change of the one looks at the other.

mod devices;
mod upgrade;
mod upgrades;

use std::collections::HashMap;

use sqlx::SqliteConnection;

use self::{devices::DeviceChanges, upgrades::Upgrades};
use super::{
    Doing,
    bulk::{RowStatement, json_list},
    cancel, counts,
    events::Announcements,
    habits, rows, soaks,
    traffic::TrafficChanges,
    turns,
};
use crate::{
    ledger::{Change, UpgradeId},
    store::{BatchId, CommitReport, StoreError},
};

pub(super) const DOING: &str = "committing changes";

/// Writes changes in the transaction, in their order. Returns what was not done.
#[expect(clippy::too_many_lines, reason = "one match over all changes")]
pub(super) async fn write(
    conn: &mut SqliteConnection,
    changes: &[Change],
) -> Result<CommitReport, StoreError> {
    let mut devices = DeviceChanges::default();
    let mut learnt = Vec::new();
    let mut told = Vec::new();
    let mut traffic = TrafficChanges::default();
    let mut upgrades = Upgrades::read(&mut *conn, changes).await?;
    for change in changes {
        match change {
            Change::Registered {
                endpoint,
                registration,
                wake_ups,
                at,
            } => devices.registered(endpoint, registration, *wake_ups, *at),
            Change::Deregistered { endpoint, at } => devices.deregistered(endpoint, *at),
            Change::VersionReported {
                endpoint,
                version,
                at,
            } => {
                devices.version(endpoint, *version, *at);
                told.push((endpoint.as_str(), *version, *at));
            }
            Change::CoverageReported {
                endpoint,
                reading,
                source,
            } => {
                devices.coverage(endpoint, *reading, *source);
            }
            Change::Evidence {
                endpoint,
                evidence,
                at,
            } => devices.evidence(endpoint, evidence, *at),
            Change::Appointed {
                endpoint,
                appointment,
            } => devices.appointed(endpoint, *appointment),
            Change::Via {
                endpoint,
                before,
                via,
                ..
            } => devices.via(endpoint, before.as_deref(), via.as_deref()),
            Change::Stage {
                upgrade,
                attempt,
                change,
                line,
                at,
            } => upgrades.stage(*upgrade, *attempt, change, line.as_deref(), *at),
            Change::Note {
                upgrade,
                attempt,
                line,
                at,
            } => upgrades.note(*upgrade, *attempt, line, *at),
            Change::Progress {
                upgrade, progress, ..
            } => upgrades.progress(*upgrade, *progress),
            Change::Serves {
                upgrade,
                attempt,
                served,
            } => upgrades.serves(*upgrade, *attempt, *served),
            Change::KeptAwake { upgrade, standby } => upgrades.kept_awake(*upgrade, *standby),
            Change::Traffic { .. } => traffic.add(change),
            Change::Learnt(it) => learnt.push(&**it),
            Change::Admitted {
                cell,
                limit,
                active,
                at,
            } => upgrades.admitted(*cell, *limit, *active, *at),
            Change::LetGo {
                upgrade,
                attempt,
                at,
            } => upgrades.let_go(*upgrade, *attempt, *at),
            Change::Ended { .. } => upgrades.ended(change),
        }
    }
    devices.write(&mut *conn).await.doing(DOING)?;
    habits::write(&mut *conn, &learnt).await.doing(DOING)?;
    traffic.write(&mut *conn).await?;
    let report = finish(&mut *conn, upgrades).await?;
    // a soak may begin with what is written before
    soaks::told(conn, &told).await?;
    Ok(report)
}

/// The number of the batch that was committed last, and what it did not do.
const LAST_BATCH: &str = "last_batch";

/// What came of the batch, if it was the last one that was committed: whoever commits it again did not hear of that.
pub(super) async fn written_before(
    conn: &mut SqliteConnection,
    batch: BatchId,
) -> Result<Option<CommitReport>, StoreError> {
    let last: Option<Vec<u8>> = sqlx::query_scalar("SELECT value FROM meta WHERE key = ?")
        .bind(LAST_BATCH)
        .fetch_optional(conn)
        .await
        .doing(DOING)?;
    let report = last
        .as_deref()
        .and_then(|last| last.strip_prefix(&batch.to_bytes()));
    Ok(report.map(|report| {
        let refused = report.chunks_exact(8);
        CommitReport {
            announced: !refused.remainder().is_empty(),
            refused: refused
                .filter_map(|id| id.try_into().ok())
                .map(|id| UpgradeId(i64::from_be_bytes(id)))
                .collect(),
        }
    }))
}

pub(super) async fn remember(
    conn: &mut SqliteConnection,
    batch: BatchId,
    report: &CommitReport,
) -> Result<(), sqlx::Error> {
    let mut value = batch.to_bytes().to_vec();
    value.extend(
        report
            .refused
            .iter()
            .flat_map(|upgrade| upgrade.0.to_be_bytes()),
    );
    // a byte behind the numbers of eight each
    value.extend(report.announced.then_some(1));
    rows::set_meta(conn, LAST_BATCH, &value).await
}

/// Writes what came of the upgrades, and what follows from it.
async fn finish(
    conn: &mut SqliteConnection,
    upgrades: Upgrades<'_>,
) -> Result<CommitReport, StoreError> {
    let mut announcements = Announcements::default();
    let written = upgrades.write(conn).await.doing(DOING)?;
    if !written.turns.is_empty() {
        let endpoints = json_list(&written.turns);
        turns::settle(conn, &endpoints).await.doing(DOING)?;
    }
    if !written.begun.is_empty() {
        let begun = json_list(&written.begun);
        announcements.begun(conn, &begun).await.doing(DOING)?;
    }
    if !written.over.is_empty() {
        let over = json_list(written.over.iter().map(|(upgrade, _)| upgrade.0));
        soaks::begin(conn, &over).await?;
        announcements.upgrades(conn, &over).await.doing(DOING)?;
        if let Some(at) = written.tasks.values().max() {
            let over = written.over.iter().map(|(upgrade, _)| upgrade.0).collect();
            cancel::cancel_following(conn, over, *at, &mut announcements)
                .await
                .doing(DOING)?;
        }
        for (task, at) in written.tasks {
            counts::end_task_if_done(conn, task, at, &mut announcements)
                .await
                .doing(DOING)?;
        }
        repeat_removals(conn, &written.over).await?;
    }
    let announced = !announcements.is_empty();
    announcements.deliver(conn).await.doing(DOING)?;
    Ok(CommitReport {
        refused: written.refused,
        announced,
    })
}

/// Shows the removals of these upgrades' devices again: with its last upgrade gone, a device can be forgotten.
async fn repeat_removals(
    conn: &mut SqliteConnection,
    over: &[(UpgradeId, String)],
) -> Result<(), StoreError> {
    const SHOW: RowStatement = RowStatement {
        head: "WITH v (id, revision) AS (VALUES ",
        row: "(?, ?)",
        tail: ") UPDATE devices SET revision = v.revision FROM v WHERE devices.id = v.id",
    };
    let doing = "looking for removed devices of upgrades";
    let removed: Vec<(String, i64)> = sqlx::query_as(
        "SELECT d.endpoint, d.id FROM json_each(?) j CROSS JOIN devices d ON d.endpoint = j.value \
         WHERE d.removed = 1",
    )
    .bind(json_list(over.iter().map(|(_, endpoint)| endpoint)))
    .fetch_all(&mut *conn)
    .await
    .doing(doing)?;
    if removed.is_empty() {
        return Ok(());
    }
    let removed: HashMap<String, i64> = removed.into_iter().collect();
    let mut revision = rows::revision(conn).await?;
    let mut shown = HashMap::new();
    for (_, endpoint) in over {
        if let Some(device) = removed.get(endpoint) {
            revision += 1;
            shown.insert(*device, revision);
        }
    }
    let shown: Vec<(i64, i64)> = shown.into_iter().collect();
    SHOW.execute(conn, &shown, |query, (device, revision)| {
        query.bind(*device).bind(*revision)
    })
    .await
    .doing(doing)?;
    rows::set_revision(conn, revision).await.doing(doing)
}
