//! How many devices of a site may upgrade at once.

use async_trait::async_trait;
use sqlx::{SqliteConnection, sqlite::SqliteRow};

use super::{
    Doing, SqliteStore,
    rows::{self, Columns as _},
    tenancy,
    watched::Table,
};
use crate::{
    ledger::Lane,
    store::{LaneLimit, MAX_SITES, Page, SiteError, SiteKey, SiteRecord, Sites, StoreError},
    tenant::TenantId,
};

const READING: &str = "reading the limit of a site";
const CHANGING: &str = "changing the limit of a site";
/// Rows of a tenant: those of sites whose limit was taken away among them, as whoever follows the changes has to see that.
const ROWS_AT_MOST: u32 = 2 * MAX_SITES;

#[async_trait]
impl Sites for SqliteStore {
    async fn set_site(
        &self,
        key: &SiteKey,
        limit: u32,
        note: Option<&str>,
        seen: Option<i64>,
    ) -> Result<SiteRecord, SiteError> {
        let mut tx = self.write(CHANGING).await?;
        tenancy::check(&mut tx, &key.tenant).await?;
        tx.watch(Table::Sites, key.text()).await.doing(CHANGING)?;
        let known = read(&mut tx, key).await?;
        check_seen(key, known.as_ref(), seen)?;
        if known.is_none() {
            let (count, rows): (u32, u32) =
                sqlx::query_as("SELECT COUNT(most), COUNT(*) FROM sites WHERE tenant = ?")
                    .bind(key.tenant.as_str())
                    .fetch_one(&mut *tx)
                    .await
                    .doing(CHANGING)?;
            if count >= MAX_SITES {
                return Err(SiteError::TooMany);
            }
            if rows >= ROWS_AT_MOST {
                forget_oldest_cleared(&mut tx, key).await?;
            }
        }
        let revision = next_revision(&mut tx).await.doing(CHANGING)?;
        sqlx::query(
            "INSERT INTO sites (tenant, name, most, note, revision) VALUES (?, ?, ?, ?, ?) \
             ON CONFLICT (tenant, name) DO UPDATE SET most = excluded.most, note = excluded.note, revision = excluded.revision",
        )
        .bind(key.tenant.as_str())
        .bind(&key.name)
        .bind(limit)
        .bind(note)
        .bind(revision)
        .execute(&mut *tx)
        .await
        .doing(CHANGING)?;
        let site = read(&mut tx, key).await?;
        tx.commit().await.doing(CHANGING)?;
        site.ok_or_else(|| SiteError::NotFound(key.name.clone()))
    }

    async fn clear_site(&self, key: &SiteKey, seen: Option<i64>) -> Result<(), SiteError> {
        let mut tx = self.write(CHANGING).await?;
        tx.watch(Table::Sites, key.text()).await.doing(CHANGING)?;
        let known = read(&mut tx, key).await?;
        if known.is_none() {
            return Err(SiteError::NotFound(key.name.clone()));
        }
        check_seen(key, known.as_ref(), seen)?;
        let revision = next_revision(&mut tx).await.doing(CHANGING)?;
        sqlx::query(
            "UPDATE sites SET most = NULL, note = NULL, revision = ? WHERE tenant = ? AND name = ?",
        )
        .bind(revision)
        .bind(key.tenant.as_str())
        .bind(&key.name)
        .execute(&mut *tx)
        .await
        .doing(CHANGING)?;
        tx.commit().await.doing(CHANGING)?;
        Ok(())
    }

    async fn site(&self, key: &SiteKey) -> Result<Option<SiteRecord>, StoreError> {
        let mut reader = self.readers.acquire().await.doing(READING)?;
        read(&mut reader, key).await
    }

    async fn sites(
        &self,
        tenants: Option<&[TenantId]>,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Page<SiteRecord>, StoreError> {
        let doing = "listing sites";
        let before = before.unwrap_or(i64::MAX);
        if let Some(tenants) = tenants {
            let mut found = Vec::new();
            for tenant in tenants {
                let rows = sqlx::query(
                    "SELECT * FROM sites WHERE tenant = ? AND most IS NOT NULL AND id < ? ORDER BY id DESC LIMIT ?",
                )
                .bind(tenant.as_str())
                .bind(before)
                .bind(rows::one_more(limit))
                .fetch_all(&self.readers)
                .await
                .doing(doing)?;
                found.extend(rows.iter().map(record).collect::<Result<Vec<_>, _>>()?);
            }
            return Ok(tenancy::newest(found, |site| site.id, limit));
        }
        let found = sqlx::query(
            "SELECT * FROM sites WHERE most IS NOT NULL AND id < ? ORDER BY id DESC LIMIT ?",
        )
        .bind(before)
        .bind(rows::one_more(limit))
        .fetch_all(&self.readers)
        .await
        .doing(doing)?;
        rows::page(&found, limit, record)
    }

    async fn lane_limits_since(
        &self,
        revision: i64,
        limit: u32,
    ) -> Result<Vec<LaneLimit>, StoreError> {
        // a gateway's name is all tenants' own
        let found = sqlx::query(
            "SELECT tenant, name, most, revision FROM sites WHERE revision > ?1 \
             UNION ALL SELECT NULL, endpoint, most, revision FROM gateway_limits WHERE revision > ?1 \
             ORDER BY revision LIMIT ?2",
        )
        .bind(revision)
        .bind(limit)
        .fetch_all(&self.readers)
        .await
        .doing("reading the limits of sites and gateways")?;
        let change = |row: &SqliteRow| {
            let (tenant, name): (Option<String>, String) =
                (row.value("tenant")?, row.value("name")?);
            Ok(LaneLimit {
                revision: row.int("revision")?,
                lane: match tenant {
                    Some(tenant) => Lane::site(&tenant, &name),
                    None => Lane::gateway(&name),
                },
                limit: row.maybe_int("most")?,
            })
        };
        found.iter().map(change).collect()
    }
}

/// The number of the next change of a limit, of whatever site or gateway.
pub(super) async fn next_revision(conn: &mut SqliteConnection) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT MAX(COALESCE((SELECT MAX(revision) FROM sites), 0), \
             COALESCE((SELECT MAX(revision) FROM gateway_limits), 0)) + 1",
    )
    .fetch_one(conn)
    .await
}

/// Deletes the row whose limit was taken away first, which was seen long ago: thousands of the same tenant are newer.
async fn forget_oldest_cleared(
    conn: &mut SqliteConnection,
    key: &SiteKey,
) -> Result<(), StoreError> {
    sqlx::query(
        "DELETE FROM sites WHERE id = (SELECT id FROM sites WHERE tenant = ? AND name <> ? AND most IS NULL \
         ORDER BY revision LIMIT 1)",
    )
    .bind(key.tenant.as_str())
    .bind(&key.name)
    .execute(conn)
    .await
    .doing(CHANGING)
    .map(|_| ())
}

fn check_seen(
    key: &SiteKey,
    known: Option<&SiteRecord>,
    seen: Option<i64>,
) -> Result<(), SiteError> {
    let revision = known.map_or(0, |site| site.revision);
    if seen.is_none_or(|seen| seen == revision) {
        return Ok(());
    }
    let name = key.name.clone();
    Err(SiteError::Changed { name, revision })
}

async fn read(
    conn: &mut SqliteConnection,
    key: &SiteKey,
) -> Result<Option<SiteRecord>, StoreError> {
    let found =
        sqlx::query("SELECT * FROM sites WHERE tenant = ? AND name = ? AND most IS NOT NULL")
            .bind(key.tenant.as_str())
            .bind(&key.name)
            .fetch_optional(conn)
            .await
            .doing(READING)?;
    found.as_ref().map(record).transpose()
}

fn record(row: &SqliteRow) -> Result<SiteRecord, StoreError> {
    Ok(SiteRecord {
        id: row.int("id")?,
        key: SiteKey {
            tenant: tenancy::id(row, "tenant")?,
            name: row.value("name")?,
        },
        limit: row.int("most")?,
        note: row.value("note")?,
        revision: row.int("revision")?,
    })
}
