//! What the operator rules for cells.

use std::collections::HashMap;

use async_trait::async_trait;
use serde::de::DeserializeOwned;
use sqlx::{SqliteConnection, sqlite::SqliteRow};

use super::{
    Doing, SqliteStore,
    bulk::{RowStatement, json_list},
    rows::{self, Columns},
    upgrades::CellRow,
    watched::Table,
};
use crate::{
    clock::UtcMillis,
    ledger::UpgradeId,
    store::{
        CellChange, CellDetail, CellUpdate, Cells, SlotHolder, StoreError, UpdateCellsError,
        UpgradeState,
    },
    task::{CellRules, Closing},
};

/// Holders of slots that are told of a cell.
const HOLDERS: i64 = 100;

const WRITE: RowStatement = RowStatement {
    head: "INSERT INTO cells (cell, own_limit, closing, outage, busy_hours, note, adaptive, revision) VALUES ",
    row: "(?, ?, ?, ?, ?, ?, ?, ?)",
    tail: " ON CONFLICT (cell) DO UPDATE SET own_limit = excluded.own_limit, closing = excluded.closing, \
               outage = excluded.outage, busy_hours = excluded.busy_hours, note = excluded.note, adaptive = excluded.adaptive, \
               revision = excluded.revision",
};

#[async_trait]
impl Cells for SqliteStore {
    async fn update_cells(
        &self,
        updates: &[CellUpdate],
        now: UtcMillis,
    ) -> Result<(), UpdateCellsError> {
        let doing = "changing the rules of cells";
        let mut tx = self.write(doing).await?;
        match updates {
            [update] if !tx.in_parts() => tx.watch(Table::Cells, update.cell).await.doing(doing)?,
            updates => tx.count("cells", updates.len() as u64),
        }
        let mut cells = known(&mut tx, updates).await?;
        for update in updates {
            let (rules, note, revision) = cells.entry(update.cell).or_default();
            if update.seen.is_some_and(|seen| seen != *revision) {
                return Err(UpdateCellsError::Changed {
                    cell: update.cell,
                    revision: *revision,
                });
            }
            rules
                .update(update.rules.clone(), now)
                .map_err(|source| UpdateCellsError::Rules {
                    cell: update.cell,
                    source,
                })?;
            if let Some(next) = &update.note {
                note.clone_from(next);
            }
        }
        let last: i64 =
            sqlx::query_scalar("SELECT COALESCE(MAX(revision), 0) FROM cells WHERE revision > 0")
                .fetch_one(&mut *tx)
                .await
                .doing(doing)?;
        let mut cells: Vec<_> = cells.into_iter().collect();
        cells.sort_unstable_by_key(|(cell, _)| *cell);
        let cells: Vec<_> = cells.into_iter().zip(last + 1..).collect();
        WRITE
            .execute(
                &mut tx,
                &cells,
                |query, ((cell, (rules, note, _)), revision)| {
                    let busy = &rules.busy_hours;
                    query
                        .bind(*cell)
                        .bind(rules.limit)
                        .bind(rules.closing.as_ref().map(rows::json))
                        .bind(rules.outage.as_ref().map(rows::json))
                        .bind((!busy.is_empty()).then(|| rows::json(busy)))
                        .bind(note.clone())
                        .bind(rules.adaptive)
                        .bind(*revision)
                },
            )
            .await
            .doing(doing)?;
        tx.commit().await.doing(doing)?;
        Ok(())
    }

    async fn cell(&self, cell: u32) -> Result<Option<CellDetail>, StoreError> {
        let doing = "reading a cell";
        let found = sqlx::query(
            "SELECT cell, active, waiting, limit_max, concurrent_peak, admitted_total, last_admitted_at, succeeded, failed, \
                 own_limit, closing, outage, busy_hours, adaptive, note, revision FROM cells WHERE cell = ?",
        )
        .bind(cell)
        .fetch_optional(&self.readers)
        .await
        .doing(doing)?;
        let Some(row) = found else { return Ok(None) };
        let holders = sqlx::query(
            "SELECT id, endpoint, state FROM upgrades INDEXED BY upgrades_with_slot \
             WHERE cell = ? AND state IN ('downloading', 'executing') ORDER BY id LIMIT ?",
        )
        .bind(cell)
        .bind(HOLDERS)
        .fetch_all(&self.readers)
        .await
        .doing(doing)?;
        Ok(Some(CellDetail {
            record: CellRow::of(&row)?.record(),
            rules: rules(&row)?,
            note: row.value("note")?,
            traffic: self.traffic_of_cell(cell).await?,
            holders: holders.iter().map(holder).collect::<Result<_, _>>()?,
            revision: row.int("revision")?,
        }))
    }

    async fn cell_changes_since(
        &self,
        revision: i64,
        limit: u32,
    ) -> Result<Vec<CellChange>, StoreError> {
        // Cells that never had a rule have revision 0.
        sqlx::query(
            "SELECT cell, own_limit, closing, outage, busy_hours, adaptive, revision FROM cells \
             WHERE revision > 0 AND revision > ? ORDER BY revision LIMIT ?",
        )
        .bind(revision)
        .bind(limit)
        .fetch_all(&self.readers)
        .await
        .doing("reading the rules of cells")?
        .iter()
        .map(|row| {
            Ok(CellChange {
                revision: row.int("revision")?,
                cell: row.int("cell")?,
                rules: rules(row)?,
            })
        })
        .collect()
    }
}

/// The rules, notes and revisions that those cells have which are there.
async fn known(
    conn: &mut SqliteConnection,
    updates: &[CellUpdate],
) -> Result<HashMap<u32, (CellRules, Option<String>, i64)>, StoreError> {
    let cells = json_list(updates.iter().map(|update| update.cell));
    let rows = sqlx::query(
        "SELECT c.cell, c.own_limit, c.closing, c.outage, c.busy_hours, c.adaptive, c.note, c.revision \
         FROM json_each(?) j CROSS JOIN cells c ON c.cell = j.value",
    )
    .bind(cells)
    .fetch_all(conn)
    .await
    .doing("reading the rules of cells")?;
    rows.iter()
        .map(|row| {
            let revision = row.int("revision")?;
            Ok((
                row.int("cell")?,
                (rules(row)?, row.value("note")?, revision),
            ))
        })
        .collect()
}

fn rules(row: &SqliteRow) -> Result<CellRules, StoreError> {
    let closing: Option<Closing> = json(row, "closing")?;
    let outage: Option<Closing> = json(row, "outage")?;
    Ok(CellRules {
        limit: row.maybe_int("own_limit")?,
        closing,
        outage,
        busy_hours: json(row, "busy_hours")?.unwrap_or_default(),
        adaptive: row.value("adaptive")?,
    })
}

fn json<T: DeserializeOwned>(
    row: &SqliteRow,
    column: &'static str,
) -> Result<Option<T>, StoreError> {
    let text: Option<String> = row.value(column)?;
    text.map(|text| serde_json::from_str(&text))
        .transpose()
        .map_err(|error| rows::unreadable(column, error))
}

fn holder(row: &SqliteRow) -> Result<SlotHolder, StoreError> {
    let state: String = row.value("state")?;
    Ok(SlotHolder {
        upgrade: UpgradeId(row.int("id")?),
        endpoint: row.value("endpoint")?,
        state: UpgradeState::from_name(&state)
            .ok_or_else(|| rows::unreadable("upgrades.state", state))?,
    })
}
