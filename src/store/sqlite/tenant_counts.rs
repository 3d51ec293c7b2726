//! What each tenant has, for the metrics.

use std::collections::{BTreeMap, HashMap};

use sqlx::SqliteConnection;

use super::{Doing, SqliteStore, rows::Columns as _, tenancy};
use crate::{
    store::{StoreError, TenantCount},
    tenant::TenantId,
};

const COUNTING: &str = "counting what tenants have";

impl SqliteStore {
    pub(super) async fn counts_of_tenants(
        &self,
        (after, until): (i64, i64),
    ) -> Result<Vec<TenantCount>, StoreError> {
        let mut reader = self.readers.acquire().await.doing(COUNTING)?;
        let running: Vec<String> =
            sqlx::query_scalar("SELECT tenant FROM tasks WHERE state = 'running' AND hidden = 0")
                .fetch_all(&mut *reader)
                .await
                .doing(COUNTING)?;
        let mut running_of: HashMap<&str, u64> = HashMap::new();
        for tenant in &running {
            *running_of.entry(tenant).or_default() += 1;
        }
        let mut ended = ended(&mut reader, after, until).await?;
        let tenants = oldest_first(&mut reader).await?;
        drop(reader);
        let mut counts = Vec::with_capacity(tenants.len());
        for tenant in tenants {
            // others get their turn between the tenants
            let mut reader = self.readers.acquire().await.doing(COUNTING)?;
            let devices: i64 = sqlx::query_scalar(
                "SELECT COUNT(*) FROM devices INDEXED BY devices_by_tenant WHERE tenant = ?",
            )
            .bind(tenant.as_str())
            .fetch_one(&mut *reader)
            .await
            .doing(COUNTING)?;
            counts.push(TenantCount {
                devices: devices.unsigned_abs(),
                tasks_running: running_of.get(tenant.as_str()).copied().unwrap_or(0),
                ended: ended.remove(tenant.as_str()).unwrap_or_default(),
                tenant,
            });
        }
        Ok(counts)
    }
}

async fn oldest_first(conn: &mut SqliteConnection) -> Result<Vec<TenantId>, StoreError> {
    let found = sqlx::query("SELECT id, created_at FROM tenants WHERE deleted_at IS NULL")
        .fetch_all(conn)
        .await
        .doing(COUNTING)?;
    let tenants = found
        .iter()
        .map(|row| Ok((row.time("created_at")?, tenancy::id(row, "id")?)));
    let mut tenants: Vec<_> = tenants.collect::<Result<_, StoreError>>()?;
    tenants.sort();
    Ok(tenants.into_iter().map(|(_, tenant)| tenant).collect())
}

/// By tenant and outcome, how many upgrades have ended.
async fn ended(
    conn: &mut SqliteConnection,
    after: i64,
    until: i64,
) -> Result<HashMap<String, BTreeMap<String, u64>>, StoreError> {
    let found: Vec<(String, String, i64)> = sqlx::query_as(
        "SELECT e.tenant, substr(e.kind, length('upgrade.') + 1), COUNT(*) FROM events e \
         WHERE e.id > ? AND e.id <= ? AND e.upgrade_id IS NOT NULL GROUP BY e.tenant, e.kind",
    )
    .bind(after)
    .bind(until)
    .fetch_all(conn)
    .await
    .doing(COUNTING)?;
    let mut ended: HashMap<String, BTreeMap<String, u64>> = HashMap::new();
    for (tenant, outcome, count) in found {
        let of_tenant = ended.entry(tenant).or_default();
        of_tenant.insert(outcome, count.unsigned_abs());
    }
    Ok(ended)
}
