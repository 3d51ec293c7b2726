//! The devices of a task that is created, and where they stand in its draw.

use serde::Deserialize;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use super::{
    PART, filter_sql,
    packed::{BEGIN, END, Flag, Packed},
};
use crate::{
    clock::UtcMillis,
    ledger::Coverage,
    store::StoreError,
    task::{Place, TaskRules, stratum},
};

/// A device that a task is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Selected {
    pub(super) endpoint: String,
    pub(super) zone: Option<String>,
    /// Nothing is to be done to it.
    pub(super) excluded: bool,
    pub(super) place: Place,
}

/// Some of a task's devices.
#[derive(Debug, Clone, Copy)]
pub(super) enum Part<'p> {
    /// Of this JSON list.
    Listed(&'p str),
    /// [`PART`] of all devices of the product, whose endpoints follow this one.
    Behind(&'p str),
}

/// What a draw may ask of a device, in the order of the columns.
#[derive(Deserialize)]
struct Row {
    endpoint: String,
    time_zone: Option<String>,
    excluded: Flag,
    named: Option<u32>,
    /// This and what follows is asked where kinds are to be represented.
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    version: Option<String>,
    #[serde(default)]
    coverage_rsrp_dbm: Option<i32>,
    #[serde(default)]
    coverage_sinr_db: Option<i32>,
    #[serde(default)]
    coverage_cell: Option<u32>,
}

/// Devices of a product, with what their task's rules ask of them.
pub(super) async fn read(
    conn: &mut SqliteConnection,
    (rules, at): (&TaskRules, UtcMillis),
    product: &str,
    part: Part<'_>,
) -> Result<Vec<Selected>, StoreError> {
    let mut query = statement((rules, at), product, part);
    let query = query.build().persistent(!rules.has_filters());
    let packed = Packed::fetch(query, conn, "reading the devices of a task").await?;
    let devices = packed.rows().map(|row| {
        let row: Row = row?;
        Ok(Selected {
            place: Place {
                named: row.named,
                stratum: row.stratum(rules),
            },
            endpoint: row.endpoint,
            zone: row.time_zone,
            excluded: row.excluded.0,
        })
    });
    devices.collect()
}

impl Row {
    fn stratum(&self, rules: &TaskRules) -> u128 {
        if !rules.stratified {
            return 0;
        }
        let coverage = Coverage {
            cell: self.coverage_cell,
            rsrp_dbm: self.coverage_rsrp_dbm,
            sinr_db: self.coverage_sinr_db,
        };
        let (model, version) = (self.model.as_deref(), self.version.as_deref());
        stratum(model, version, coverage.band(), self.coverage_cell)
    }
}

pub(super) fn statement(
    (rules, at): (&TaskRules, UtcMillis),
    product: &str,
    part: Part<'_>,
) -> QueryBuilder<Sqlite> {
    // Of a million devices, to look at each row takes as long as to write its upgrade: the index has the names.
    let by_name = !rules.stratified && !rules.has_filters() && !rules.knows_zones();
    let mut query = QueryBuilder::new(BEGIN);
    query
        .push("SELECT json_array(d.endpoint, ")
        .push(if by_name { "NULL" } else { "d.time_zone" })
        .push(", EXISTS (SELECT 1 FROM exclusions e WHERE e.endpoint = d.endpoint), ");
    push_named(&mut query, rules, at);
    if rules.stratified {
        query
            .push(", d.model, d.version, d.coverage_rsrp_dbm, d.coverage_sinr_db, d.coverage_cell");
    }
    query.push(") AS line FROM ");
    let devices = if by_name {
        "devices d INDEXED BY devices_by_product"
    } else {
        "devices d"
    };
    match part {
        Part::Listed(endpoints) => query
            .push("json_each(")
            .push_bind(endpoints.to_owned())
            .push(") j CROSS JOIN ")
            .push(devices)
            .push(" ON d.endpoint = j.value WHERE d.removed = 0 AND d.product = ")
            .push_bind(product.to_owned()),
        Part::Behind(after) => query
            .push(devices)
            .push(" WHERE d.removed = 0 AND d.product = ")
            .push_bind(product.to_owned())
            .push(" AND d.endpoint > ")
            .push_bind(after.to_owned())
            .push(" ORDER BY d.endpoint LIMIT ")
            .push_bind(PART),
    };
    query.push(END);
    query
}

/// The first phase whose filter lets a device through, from 0.
fn push_named(query: &mut QueryBuilder<Sqlite>, rules: &TaskRules, at: UtcMillis) {
    if !rules.has_filters() {
        query.push("NULL");
        return;
    }
    query.push("CASE");
    for (number, phase) in (0_u32..).zip(&rules.phases) {
        if let Some(filter) = &phase.filter {
            query.push(" WHEN ");
            filter_sql::push(query, filter, at);
            query.push(" THEN ").push(number);
        }
    }
    query.push(" END");
}
