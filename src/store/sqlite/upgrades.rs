//! What became of upgrades, and what happens in cells.

use async_trait::async_trait;
use serde::Deserialize;
use sqlx::sqlite::SqliteRow;

use super::{
    Doing, SqliteStore,
    packed::{Packed, packed},
    queue,
    rows::{self, Columns},
    upgrade_rows::{self, DetailRow, OfDeviceRow, UpgradeRow},
};
use crate::{
    clock::UtcMillis,
    ledger::{TaskId, UpgradeId},
    store::{
        CellRecord, DeviceUpgrade, Journal, ListedCell, Page, StoreError, TimelineEntry,
        UpgradeDetail, UpgradeRecord, UpgradeState,
    },
    task::{BusyHours, CellRules, Closing},
};

/// Lines of a timeline that are shown.
const TIMELINE: i64 = 1_000;

#[async_trait]
impl Journal for SqliteStore {
    async fn upgrades(
        &self,
        task: TaskId,
        state: Option<UpgradeState>,
        after: Option<UpgradeId>,
        limit: u32,
    ) -> Result<Page<UpgradeRecord>, StoreError> {
        let query = match state {
            None => sqlx::query(upgrade_rows::LIST),
            Some(_) => sqlx::query(upgrade_rows::LIST_IN_STATE),
        };
        let mut query = query
            .bind(task.0)
            .bind(after.map_or(0, |id| id.0))
            .bind(rows::one_more(limit));
        if let Some(state) = state {
            query = query.bind(state.name());
        }
        Packed::fetch(query, &self.readers, "listing upgrades")
            .await?
            .page(limit, UpgradeRow::record)
    }

    async fn device_upgrades(
        &self,
        endpoint: &str,
        before: Option<UpgradeId>,
        limit: u32,
    ) -> Result<Page<DeviceUpgrade>, StoreError> {
        let query = sqlx::query(upgrade_rows::OF_DEVICE)
            .bind(endpoint)
            .bind(before.map_or(i64::MAX, |id| id.0))
            .bind(rows::one_more(limit));
        Packed::fetch(query, &self.readers, "listing a device's upgrades")
            .await?
            .page(limit, OfDeviceRow::upgrade)
    }

    async fn newest_upgrades(
        &self,
        cell: Option<u32>,
        before: Option<UpgradeId>,
        limit: u32,
    ) -> Result<Page<DeviceUpgrade>, StoreError> {
        let query = match cell {
            None => sqlx::query(upgrade_rows::NEWEST),
            Some(cell) => sqlx::query(upgrade_rows::NEWEST_IN_CELL).bind(cell),
        };
        let query = query
            .bind(before.map_or(i64::MAX, |id| id.0))
            .bind(rows::one_more(limit));
        Packed::fetch(query, &self.readers, "listing the newest upgrades")
            .await?
            .page(limit, OfDeviceRow::upgrade)
    }

    async fn upgrade(&self, id: UpgradeId) -> Result<Option<UpgradeDetail>, StoreError> {
        let doing = "reading an upgrade";
        let query = sqlx::query(upgrade_rows::ONE).bind(id.0);
        let found = Packed::fetch(query, &self.readers, doing).await?;
        let Some(row) = found.rows::<DetailRow>().next().transpose()? else {
            return Ok(None);
        };
        let (row, upgrade) = row.split()?;
        let candidate = match upgrade.state {
            UpgradeState::Pending => Some(row.candidate(&upgrade)?),
            _ => None,
        };
        let events = sqlx::query(
            "SELECT at, attempt, kind, code, arguments FROM ( \
                 SELECT * FROM upgrade_events WHERE upgrade_id = ? ORDER BY id DESC LIMIT ?) \
             ORDER BY id",
        )
        .bind(id.0)
        .bind(TIMELINE)
        .fetch_all(&self.readers)
        .await
        .doing("reading an upgrade's timeline")?
        .iter()
        .map(|row| {
            Ok(TimelineEntry {
                at: row.time("at")?,
                attempt: row.int("attempt")?,
                kind: row.value("kind")?,
                line: rows::line(row.value("code")?, row.value("arguments")?)?,
            })
        })
        .collect::<Result<_, StoreError>>()?;
        let queue = queue::of(&self.readers, &upgrade, (row.slots_taken, row.ahead)).await?;
        let soak = match upgrade.state {
            UpgradeState::Succeeded => self.soak_of(id).await?,
            _ => None,
        };
        Ok(Some(UpgradeDetail {
            soak,
            traffic: self.traffic_of_upgrade(id).await?,
            queue,
            candidate,
            package: row.package,
            upgrade,
            events,
        }))
    }

    async fn cells(
        &self,
        after: Option<u32>,
        closed_at: Option<UtcMillis>,
        limit: u32,
    ) -> Result<Page<ListedCell>, StoreError> {
        let of = closed_at.map_or(CELLS, |_| CLOSED_CELLS);
        let mut query = sqlx::query(of)
            .bind(after.map_or(-1, i64::from))
            .bind(rows::one_more(limit));
        if let Some(now) = closed_at {
            query = query.bind(now.0);
        }
        Packed::fetch(query, &self.readers, "listing cells")
            .await?
            .page(limit, |row: ListedRow| Ok(row.listed()))
    }
}

pub(super) const CELLS: &str = packed!(
    "SELECT json_array(json_array(cell, active, waiting, limit_max, concurrent_peak, admitted_total, last_admitted_at, \
         succeeded, failed), own_limit, json(closing), json(outage), json(busy_hours), \
         CASE adaptive WHEN 1 THEN json('true') WHEN 0 THEN json('false') END) AS line \
     FROM cells WHERE cell > ?1 ORDER BY cell LIMIT ?2"
);

/// Closed at a time. The columns are those of [`CELLS`].
pub(super) const CLOSED_CELLS: &str = packed!(
    "SELECT json_array(json_array(cell, active, waiting, limit_max, concurrent_peak, admitted_total, last_admitted_at, \
         succeeded, failed), own_limit, json(closing), json(outage), json(busy_hours), \
         CASE adaptive WHEN 1 THEN json('true') WHEN 0 THEN json('false') END) AS line \
     FROM cells INDEXED BY cells_closings WHERE (closing IS NOT NULL OR outage IS NOT NULL) \
     AND ((json_extract(closing, '$.from') <= ?3 AND ifnull(?3 < json_extract(closing, '$.until'), 1)) \
       OR (json_extract(outage, '$.from') <= ?3 AND ifnull(?3 < json_extract(outage, '$.until'), 1))) \
     AND cell > ?1 ORDER BY cell LIMIT ?2"
);

/// A cell with its rules, as the list has it.
#[derive(Deserialize)]
struct ListedRow(
    CellRow,
    Option<u32>,
    Option<Closing>,
    Option<Closing>,
    Option<Vec<BusyHours>>,
    Option<bool>,
);

impl ListedRow {
    fn listed(self) -> ListedCell {
        let Self(row, limit, closing, outage, busy_hours, adaptive) = self;
        ListedCell {
            record: row.record(),
            rules: CellRules {
                limit,
                closing,
                outage,
                busy_hours: busy_hours.unwrap_or_default(),
                adaptive,
            },
        }
    }
}

/// A cell, as far as upgrades tell of it.
#[derive(Deserialize)]
pub(super) struct CellRow {
    cell: u32,
    active: u64,
    waiting: u64,
    limit_max: u32,
    concurrent_peak: u32,
    admitted_total: u64,
    last_admitted_at: Option<UtcMillis>,
    succeeded: u64,
    failed: u64,
}

impl CellRow {
    pub(super) fn of(row: &SqliteRow) -> Result<Self, StoreError> {
        Ok(Self {
            cell: row.int("cell")?,
            active: row.int("active")?,
            waiting: row.int("waiting")?,
            limit_max: row.int("limit_max")?,
            concurrent_peak: row.int("concurrent_peak")?,
            admitted_total: row.int("admitted_total")?,
            last_admitted_at: row.maybe_time("last_admitted_at")?,
            succeeded: row.int("succeeded")?,
            failed: row.int("failed")?,
        })
    }

    pub(super) fn record(self) -> CellRecord {
        CellRecord {
            cell: self.cell,
            active: self.active,
            waiting: self.waiting,
            limit_max: self.limit_max,
            concurrent_peak: self.concurrent_peak,
            admitted_total: self.admitted_total,
            last_admitted_at: self.last_admitted_at,
            succeeded: self.succeeded,
            failed: self.failed,
        }
    }
}
