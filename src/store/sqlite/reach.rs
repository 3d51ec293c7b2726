//! Whom a vulnerability concerns, and who was reached: along the devices of a product, each with its upgrades to packages that
//! mend it.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::Deserialize;

use super::{
    Doing, SqliteStore,
    bulk::json_list,
    packed::{Packed, packed},
    rows::{self, Columns as _},
};
use crate::{
    clock::UtcMillis,
    ledger::{PackageId, TaskId, UpgradeId},
    package::{CveId, Exposure, Mending, Version},
    store::{LatestUpgrade, MendedProduct, Reach, ReachPage, Reached, Reaches, StoreError},
};

/// Upgrades `u` of the device `d`, each with the package `p` that it was served, or the first of its task.
macro_rules! upgrades {
    () => {
        "FROM upgrades u INDEXED BY upgrades_of_device CROSS JOIN tasks t ON t.id = u.task_id \
         CROSS JOIN packages p ON p.id = COALESCE(u.package_id, t.package_id) \
         WHERE u.endpoint = d.endpoint AND t.hidden = 0 AND "
    };
}

/// Those to the packages of the list `?4`.
macro_rules! mending {
    () => {
        "p.id IN (SELECT j.value FROM json_each(?4) j) "
    };
}

/// Those that lead to one of them later, or would have: the package of an attempt is chosen when the device has told what it runs,
/// and an upgrade in steps has further ones before it.
macro_rules! leading {
    () => {
        "u.state <> 'succeeded' AND (u.phase = 0 OR u.phase = 1 AND u.package_id IS NULL OR t.packages ->> '$.steps') \
         AND EXISTS (SELECT 1 FROM task_packages k WHERE k.task_id = t.id AND k.package_id IN (SELECT j.value FROM json_each(?4) j)) "
    };
}

/// Each a [`ReachRow`]. Of the upgrades that have succeeded, the columns are those of the one with the least time.
pub(super) const REACH: &str = packed!(
    "SELECT json_array(d.endpoint, d.version, d.last_heard_at, \
         (SELECT e.reason FROM exclusions e WHERE e.endpoint = d.endpoint), \
         json((SELECT json_array(u.id, u.task_id, t.name, u.state, u.outcome_reason) ",
    upgrades!(),
    "(",
    mending!(),
    "OR ",
    leading!(),
    ") ORDER BY u.id DESC LIMIT 1)), \
         json((SELECT json_array(MIN(u.ended_at), u.id, u.task_id, t.name, p.version, u.outcome_reason) ",
    upgrades!(),
    mending!(),
    "AND u.state = 'succeeded' HAVING COUNT(*) > 0))) AS line \
     FROM devices d INDEXED BY devices_by_product \
     WHERE d.removed = 0 AND d.product = ?1 AND d.endpoint > ?2 ORDER BY d.endpoint LIMIT ?3"
);

#[derive(Deserialize)]
struct ReachRow {
    endpoint: String,
    version: Option<Version>,
    last_heard_at: Option<UtcMillis>,
    excluded: Option<String>,
    latest: Option<LatestRow>,
    reached: Option<ReachedRow>,
}

#[derive(Deserialize)]
struct LatestRow {
    upgrade: UpgradeId,
    task: TaskId,
    task_name: String,
    state: String,
    reason: Option<String>,
}

#[derive(Deserialize)]
struct ReachedRow {
    at: UtcMillis,
    upgrade: UpgradeId,
    task: TaskId,
    task_name: String,
    version: Version,
    reason: Option<String>,
}

#[async_trait]
impl Reaches for SqliteStore {
    async fn mended_products(&self, cve: &CveId) -> Result<Vec<MendedProduct>, StoreError> {
        let doing = "looking for packages that mend a CVE";
        let mut reader = self.readers.begin().await.doing(doing)?;
        let found = sqlx::query(
            "SELECT p.product, p.version FROM package_cves c CROSS JOIN packages p ON p.id = c.package_id \
             WHERE c.cve = ? AND p.component IS NULL",
        )
        .bind(cve.as_str())
        .fetch_all(&mut *reader)
        .await
        .doing(doing)?;
        let mut products: BTreeMap<String, Vec<Version>> = BTreeMap::new();
        for row in found {
            let versions = products.entry(row.value("product")?).or_default();
            versions.push(row.version("version")?);
        }
        let mut mended = Vec::with_capacity(products.len());
        for (product, versions) in products {
            let Some(mending) = Mending::new(versions) else {
                continue;
            };
            let rows = sqlx::query(
                "SELECT id, version FROM packages INDEXED BY packages_by_version WHERE product = ? AND component IS NULL",
            )
            .bind(&product)
            .fetch_all(&mut *reader)
            .await
            .doing(doing)?;
            let mut packages = Vec::new();
            for row in rows {
                if mending.exposure(row.version("version")?) == Exposure::Mended {
                    packages.push(PackageId(row.int("id")?));
                }
            }
            mended.push(MendedProduct {
                product,
                mending,
                packages,
            });
        }
        Ok(mended)
    }

    async fn reach(
        &self,
        product: &MendedProduct,
        after: Option<&str>,
        limit: u32,
    ) -> Result<ReachPage, StoreError> {
        let packages = json_list(product.packages.iter().map(|id| id.0));
        let query = sqlx::query(REACH)
            .bind(&product.product)
            .bind(after.unwrap_or_default())
            .bind(rows::one_more(limit))
            .bind(packages);
        let packed = Packed::fetch(query, &self.readers, "looking whom a CVE concerns").await?;
        let page = packed.page(limit, reach)?;
        Ok(ReachPage {
            items: page.items,
            more: page.more,
        })
    }
}

fn reach(row: ReachRow) -> Result<Reach, StoreError> {
    let latest = row.latest.map(|latest| {
        Ok(LatestUpgrade {
            upgrade: latest.upgrade,
            task: latest.task,
            task_name: latest.task_name,
            state: rows::upgrade_state(&latest.state)?,
            reason: latest.reason,
        })
    });
    let reached = row.reached.map(|reached| Reached {
        at: reached.at,
        upgrade: reached.upgrade,
        task: reached.task,
        task_name: reached.task_name,
        version: reached.version,
        reason: reached.reason.unwrap_or_default(),
    });
    Ok(Reach {
        endpoint: row.endpoint,
        version: row.version,
        last_heard_at: row.last_heard_at,
        excluded: row.excluded,
        latest: latest.transpose()?,
        reached,
    })
}
