//! Devices that are not to be upgraded.

use std::collections::BTreeSet;

use serde::Deserialize;
use sqlx::SqliteConnection;

use super::{
    Doing, SqliteStore,
    bulk::json_list,
    narrowing,
    packed::{Packed, packed},
    rows::{self, Columns as _},
    turns,
    watched::Table,
};
use crate::{
    clock::UtcMillis,
    store::{EndExclusionError, ExcludeError, Excluded, Exclusion, Page, StoreError, Within},
};

/// Endpoints that an error names.
const NAMED: usize = 5;

pub(super) const READING: &str = "reading an exclusion";
pub(super) const LIST: &str = packed!(
    "SELECT json_array(endpoint, reason, since, revision) AS line FROM exclusions WHERE endpoint > ? ORDER BY endpoint LIMIT ?"
);

#[derive(Deserialize)]
struct ExclusionRow {
    endpoint: String,
    reason: String,
    since: UtcMillis,
    revision: i64,
}

/// An exclusion.
pub(super) async fn read(
    conn: &mut SqliteConnection,
    endpoint: &str,
) -> Result<Option<Exclusion>, StoreError> {
    let row =
        sqlx::query("SELECT endpoint, reason, since, revision FROM exclusions WHERE endpoint = ?")
            .bind(endpoint)
            .fetch_optional(conn)
            .await
            .doing(READING)?;
    let exclusion = row.map(|row| {
        Ok(Exclusion {
            endpoint: row.value("endpoint")?,
            reason: row.value("reason")?,
            since: row.time("since")?,
            revision: row.int("revision")?,
        })
    });
    exclusion.transpose()
}

/// Refuses devices of which one is not there.
async fn check_there(
    conn: &mut SqliteConnection,
    endpoints: &BTreeSet<&str>,
    Within { filter, now }: &Within,
) -> Result<(), ExcludeError> {
    let names: Vec<String> = endpoints.iter().copied().map(str::to_owned).collect();
    let there = narrowing::let_through(conn, &names, filter, *now).await?;
    let missing = || names.iter().filter(|name| !there.contains(*name));
    match missing().count() as u64 {
        0 => Ok(()),
        count => Err(ExcludeError::UnknownDevices {
            count,
            first: missing().take(NAMED).cloned().collect(),
        }),
    }
}

impl SqliteStore {
    pub(super) async fn add_exclusions(
        &self,
        endpoints: &[String],
        reason: &str,
        within: Option<&Within>,
        now: UtcMillis,
    ) -> Result<Excluded, ExcludeError> {
        let doing = "excluding devices";
        let endpoints: BTreeSet<&str> = endpoints.iter().map(String::as_str).collect();
        let list = json_list(&endpoints);
        let mut tx = self.write(doing).await?;
        if let Some(within) = within {
            check_there(&mut tx, &endpoints, within).await?;
        }
        tx.because(reason);
        if let [endpoint] = Vec::from_iter(&endpoints)[..] {
            tx.watch(Table::Exclusions, endpoint).await.doing(doing)?;
        }
        let before: i64 = sqlx::query_scalar(
            "SELECT COUNT(*) FROM json_each(?) j CROSS JOIN exclusions e ON e.endpoint = j.value",
        )
        .bind(&list)
        .fetch_one(&mut *tx)
        .await
        .doing(doing)?;
        let revision = rows::revision(&mut tx).await? + 1;
        sqlx::query(
            "INSERT INTO exclusions (endpoint, reason, since, revision) SELECT j.value, ?2, ?3, ?4 FROM json_each(?1) j \
             WHERE true ON CONFLICT (endpoint) DO UPDATE SET reason = excluded.reason, revision = excluded.revision \
             WHERE reason <> excluded.reason",
        )
        .bind(&list)
        .bind(reason)
        .bind(now.0)
        .bind(revision)
        .execute(&mut *tx)
        .await
        .doing(doing)?;
        rows::set_revision(&mut tx, revision).await.doing(doing)?;
        turns::settle(&mut tx, &list).await.doing(doing)?;
        let unchanged = before.unsigned_abs();
        let added = (endpoints.len() as u64).saturating_sub(unchanged);
        tx.count("added", added);
        tx.count("unchanged", unchanged);
        tx.commit().await.doing(doing)?;
        Ok(Excluded { added, unchanged })
    }

    pub(super) async fn remove_exclusion(
        &self,
        endpoint: &str,
        seen: Option<i64>,
        within: Option<&Within>,
    ) -> Result<bool, EndExclusionError> {
        let doing = "ending an exclusion";
        let mut tx = self.write(doing).await?;
        if !narrowing::is_there(&mut tx, endpoint, within).await? {
            return Ok(false);
        }
        let there = read(&mut tx, endpoint).await?;
        if let (Some(Exclusion { revision, .. }), Some(seen)) = (there, seen)
            && revision != seen
        {
            let endpoint = endpoint.to_owned();
            return Err(EndExclusionError::Changed { endpoint, revision });
        }
        tx.watch(Table::Exclusions, endpoint).await.doing(doing)?;
        let ended = sqlx::query("DELETE FROM exclusions WHERE endpoint = ?")
            .bind(endpoint)
            .execute(&mut *tx)
            .await
            .doing(doing)?;
        if ended.rows_affected() == 0 {
            return Ok(false);
        }
        let list = json_list([endpoint]);
        turns::settle(&mut tx, &list).await.doing(doing)?;
        tx.commit().await.doing(doing)?;
        Ok(true)
    }

    pub(super) async fn list_exclusions(
        &self,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page<Exclusion>, StoreError> {
        let query = sqlx::query(LIST)
            .bind(after.unwrap_or_default())
            .bind(rows::one_more(limit));
        Packed::fetch(query, &self.readers, "listing exclusions")
            .await?
            .page(limit, |row: ExclusionRow| {
                Ok(Exclusion {
                    endpoint: row.endpoint,
                    reason: row.reason,
                    since: row.since,
                    revision: row.revision,
                })
            })
    }
}
