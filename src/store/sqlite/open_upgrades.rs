//! What of a task has no final outcome, and the devices that are named: read in parts, for forecasts.

use serde::Deserialize;

use super::{
    Doing, SqliteStore,
    bulk::json_list,
    device_rows::{self, DetailRow},
    packed::{Packed, packed},
    rows::Columns as _,
};
use crate::{
    clock::UtcMillis,
    ledger::{TaskId, UpgradeId},
    store::{DeviceDetail, OpenUpgrade, OpenUpgrades, StoreError},
};

const OPEN: &str = "reading what of a task is open";

/// The last of so many upgrades of a task, which have ended or not.
const LAST: &str = "SELECT MAX(id) AS last, COUNT(*) AS count FROM ( \
         SELECT u.id FROM upgrades u WHERE u.task_id = ? AND u.id > ? ORDER BY u.id LIMIT ?) AS found";

/// Of these, those that have not ended, each an [`OpenRow`].
const BETWEEN: &str = packed!(
    "SELECT json_array(u.id, u.endpoint, u.attempt, u.attempts_before, u.not_before, COALESCE(l.phase, 0), l.zone) AS line \
     FROM upgrades u LEFT JOIN task_lots l ON l.task_id = u.task_id AND l.lot = u.lot \
     WHERE u.task_id = ? AND u.id > ? AND u.id <= ? AND u.phase < 2 ORDER BY u.id",
);

#[derive(Deserialize)]
struct OpenRow(UpgradeId, String, u32, u32, UtcMillis, u32, Option<String>);

impl SqliteStore {
    pub(super) async fn read_open(
        &self,
        task: TaskId,
        after: Option<UpgradeId>,
        limit: u32,
    ) -> Result<OpenUpgrades, StoreError> {
        let after = after.map_or(0, |after| after.0);
        let mut tx = self.readers.begin().await.doing(OPEN)?;
        let row = sqlx::query(LAST)
            .bind(task.0)
            .bind(after)
            .bind(limit)
            .fetch_one(&mut *tx)
            .await
            .doing(OPEN)?;
        let last: Option<i64> = row.value("last")?;
        let Some(last) = last else {
            return Ok(OpenUpgrades::default());
        };
        let count: u32 = row.int("count")?;
        let query = sqlx::query(BETWEEN).bind(task.0).bind(after).bind(last);
        let packed = Packed::fetch(query, &mut *tx, OPEN).await?;
        let items = packed.rows().map(|row| {
            row.map(
                |OpenRow(upgrade, endpoint, attempts, attempts_before, not_before, phase, zone)| {
                    OpenUpgrade {
                        upgrade,
                        endpoint,
                        attempts,
                        attempts_before,
                        not_before,
                        phase,
                        zone,
                    }
                },
            )
        });
        Ok(OpenUpgrades {
            items: items.collect::<Result<_, _>>()?,
            next: (count >= limit).then_some(UpgradeId(last)),
        })
    }

    pub(super) async fn read_named(
        &self,
        endpoints: &[String],
    ) -> Result<Vec<DeviceDetail>, StoreError> {
        let query = sqlx::query(device_rows::NAMED).bind(json_list(endpoints));
        let packed = Packed::fetch(query, &self.readers, "reading devices").await?;
        let items = packed.rows().map(|row| row.and_then(DetailRow::detail));
        items.collect()
    }
}
