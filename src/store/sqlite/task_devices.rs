//! The devices of a task that is created, and where they stand in its draw.

use sqlx::{FromRow, QueryBuilder, Sqlite, SqliteConnection};

use super::{PART, filter_sql};
use crate::{
    clock::UtcMillis,
    ledger::Coverage,
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
#[derive(FromRow)]
struct Row {
    endpoint: String,
    time_zone: Option<String>,
    excluded: bool,
    named: Option<u32>,
    model: Option<String>,
    version: Option<String>,
    coverage_rsrp_dbm: Option<i32>,
    coverage_sinr_db: Option<i32>,
    coverage_cell: Option<u32>,
}

/// Devices of a product, with what their task's rules ask of them.
pub(super) async fn read(
    conn: &mut SqliteConnection,
    (rules, at): (&TaskRules, UtcMillis),
    product: &str,
    part: Part<'_>,
) -> Result<Vec<Selected>, sqlx::Error> {
    let mut query = statement((rules, at), product, part);
    let rows: Vec<Row> = query
        .build_query_as()
        .persistent(!rules.has_filters())
        .fetch_all(conn)
        .await?;
    let devices = rows.into_iter().map(|row| Selected {
        place: Place {
            named: row.named,
            stratum: row.stratum(rules),
        },
        endpoint: row.endpoint,
        zone: row.time_zone,
        excluded: row.excluded,
    });
    Ok(devices.collect())
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
    let mut query = QueryBuilder::new(
        "SELECT d.endpoint, d.time_zone, d.model, d.version, d.coverage_rsrp_dbm, d.coverage_sinr_db, d.coverage_cell, \
             EXISTS (SELECT 1 FROM exclusions e WHERE e.endpoint = d.endpoint) AS excluded, ",
    );
    push_named(&mut query, rules, at);
    query.push(" AS named");
    match part {
        Part::Listed(endpoints) => query
            .push(" FROM json_each(")
            .push_bind(endpoints.to_owned())
            .push(") j CROSS JOIN devices d ON d.endpoint = j.value WHERE d.removed = 0 AND d.product = ")
            .push_bind(product.to_owned()),
        Part::Behind(after) => query
            .push(" FROM devices d WHERE d.removed = 0 AND d.product = ")
            .push_bind(product.to_owned())
            .push(" AND d.endpoint > ")
            .push_bind(after.to_owned())
            .push(" ORDER BY d.endpoint LIMIT ")
            .push_bind(PART),
    };
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
