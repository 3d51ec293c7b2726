//! Tenants.

use std::{cmp::Reverse, collections::BTreeSet};

use async_trait::async_trait;
use sqlx::{SqliteConnection, sqlite::SqliteRow};

use super::{
    Doing, SqliteStore,
    rows::{self, Columns as _},
    watched::Table,
};
use crate::{
    access::Grant,
    clock::UtcMillis,
    store::{
        MAX_TENANTS, NewTenant, Page, StoreError, Tenancy, TenantCount, TenantError, TenantRecord,
    },
    tenant::TenantId,
};

const READING: &str = "reading a tenant";
const CHANGING: &str = "changing a tenant";

/// What may belong to a tenant, and whether anything of it does.
const BELONGINGS: [(&str, &str); 12] = [
    (
        "products",
        "SELECT EXISTS (SELECT 1 FROM products WHERE tenant = ?)",
    ),
    (
        "devices",
        "SELECT EXISTS (SELECT 1 FROM devices WHERE tenant = ?)",
    ),
    (
        "tasks",
        "SELECT EXISTS (SELECT 1 FROM tasks WHERE tenant = ?)",
    ),
    (
        "packages",
        "SELECT EXISTS (SELECT 1 FROM packages INDEXED BY packages_of_tenant WHERE tenant = ? AND deleted_at IS NULL)",
    ),
    (
        "groups",
        "SELECT EXISTS (SELECT 1 FROM device_groups WHERE tenant = ? AND removed = 0)",
    ),
    (
        "limits of sites",
        "SELECT EXISTS (SELECT 1 FROM sites WHERE tenant = ? AND most IS NOT NULL)",
    ),
    (
        "homes",
        "SELECT EXISTS (SELECT 1 FROM homes WHERE tenant = ?)",
    ),
    (
        "offers",
        "SELECT EXISTS (SELECT 1 FROM offers INDEXED BY offers_listed WHERE tenant = ? AND withdrawn_at IS NULL)",
    ),
    (
        "webhooks",
        "SELECT EXISTS (SELECT 1 FROM webhooks WHERE tenant = ?)",
    ),
    (
        "keys of products",
        "SELECT EXISTS (SELECT 1 FROM product_keys WHERE product > ?1 || '/' AND product < ?1 || '0')",
    ),
    (
        "tokens",
        "SELECT EXISTS (SELECT 1 FROM api_tokens, json_each(api_tokens.grants) j WHERE j.value ->> 'tenant' = ?)",
    ),
    (
        "users",
        "SELECT EXISTS (SELECT 1 FROM users, json_each(users.grants) j WHERE j.value ->> 'tenant' = ?)",
    ),
];

#[async_trait]
impl Tenancy for SqliteStore {
    async fn add_tenant(&self, new: &NewTenant) -> Result<TenantRecord, TenantError> {
        let doing = "adding a tenant";
        let mut tx = self.write(doing).await?;
        let taken: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM tenants WHERE id = ?)")
            .bind(new.id.as_str())
            .fetch_one(&mut *tx)
            .await
            .doing(doing)?;
        if taken {
            return Err(TenantError::Taken(new.id.clone()));
        }
        let count: u32 = sqlx::query_scalar("SELECT COUNT(*) FROM tenants")
            .fetch_one(&mut *tx)
            .await
            .doing(doing)?;
        if count >= MAX_TENANTS {
            return Err(TenantError::TooMany);
        }
        sqlx::query("INSERT INTO tenants (id, name, created_at) VALUES (?, ?, ?)")
            .bind(new.id.as_str())
            .bind(&new.name)
            .bind(new.created_at.0)
            .execute(&mut *tx)
            .await
            .doing(doing)?;
        tx.made(Table::Tenants, &new.id);
        let added = known(&mut tx, &new.id, None).await?;
        tx.commit().await.doing(doing)?;
        Ok(added)
    }

    async fn tenant(&self, id: &TenantId) -> Result<Option<TenantRecord>, StoreError> {
        let mut reader = self.readers.acquire().await.doing(READING)?;
        read(&mut reader, id).await
    }

    async fn tenants(
        &self,
        after: Option<&TenantId>,
        limit: u32,
    ) -> Result<Page<TenantRecord>, StoreError> {
        let found = sqlx::query(
            "SELECT * FROM tenants WHERE id > ? AND deleted_at IS NULL ORDER BY id LIMIT ?",
        )
        .bind(after.map_or("", TenantId::as_str))
        .bind(rows::one_more(limit))
        .fetch_all(&self.readers)
        .await
        .doing("listing tenants")?;
        rows::page(&found, limit, record)
    }

    async fn count_tenants(&self, after: i64, until: i64) -> Result<Vec<TenantCount>, StoreError> {
        self.counts_of_tenants((after, until)).await
    }

    async fn rename_tenant(
        &self,
        id: &TenantId,
        name: &str,
        seen: Option<u32>,
    ) -> Result<TenantRecord, TenantError> {
        let mut tx = self.write(CHANGING).await?;
        tx.watch(Table::Tenants, id).await.doing(CHANGING)?;
        known(&mut tx, id, seen).await?;
        sqlx::query("UPDATE tenants SET name = ?, revision = revision + 1 WHERE id = ?")
            .bind(name)
            .bind(id.as_str())
            .execute(&mut *tx)
            .await
            .doing(CHANGING)?;
        let renamed = known(&mut tx, id, None).await?;
        tx.commit().await.doing(CHANGING)?;
        Ok(renamed)
    }

    async fn delete_tenant(
        &self,
        id: &TenantId,
        now: UtcMillis,
        seen: Option<u32>,
    ) -> Result<(), TenantError> {
        let doing = "deleting a tenant";
        let mut tx = self.write(doing).await?;
        tx.watch(Table::Tenants, id).await.doing(doing)?;
        known(&mut tx, id, seen).await?;
        if id.is_default() {
            return Err(TenantError::Default(id.clone()));
        }
        for (what, question) in BELONGINGS {
            let there: bool = sqlx::query_scalar(question)
                .bind(id.as_str())
                .fetch_one(&mut *tx)
                .await
                .doing(doing)?;
            if there {
                let tenant = id.clone();
                return Err(TenantError::InUse { tenant, what });
            }
        }
        // nothing is left of its end users
        for statement in [
            "DELETE FROM app_tokens WHERE tenant = ?",
            "UPDATE app_starts SET user = NULL WHERE tenant = ? AND user IS NOT NULL",
        ] {
            sqlx::query(statement)
                .bind(id.as_str())
                .execute(&mut *tx)
                .await
                .doing(doing)?;
        }
        sqlx::query("UPDATE tenants SET deleted_at = ?, revision = revision + 1 WHERE id = ?")
            .bind(now.0)
            .bind(id.as_str())
            .execute(&mut *tx)
            .await
            .doing(doing)?;
        tx.commit().await.doing(doing)?;
        Ok(())
    }
}

/// The first tenant on which something is granted and that has its share already. `count` says how many of a tenant there are.
pub(super) async fn without_room(
    conn: &mut SqliteConnection,
    count: &'static str,
    grants: &[Grant],
    share: u32,
) -> Result<Option<TenantId>, sqlx::Error> {
    let granted: BTreeSet<&TenantId> = grants.iter().filter_map(|it| it.tenant.one()).collect();
    for tenant in granted.into_iter().filter(|it| !it.is_default()) {
        let there: u32 = sqlx::query_scalar(count)
            .bind(tenant.as_str())
            .fetch_one(&mut *conn)
            .await?;
        if there >= share {
            return Ok(Some(tenant.clone()));
        }
    }
    Ok(None)
}

/// The tenant, if it is there, with the revision that was seen.
async fn known(
    conn: &mut SqliteConnection,
    id: &TenantId,
    seen: Option<u32>,
) -> Result<TenantRecord, TenantError> {
    let found = read(conn, id).await?;
    let found = found.ok_or_else(|| TenantError::NotFound(id.clone()))?;
    if seen.is_some_and(|seen| seen != found.revision) {
        return Err(TenantError::Changed {
            tenant: id.clone(),
            revision: found.revision,
        });
    }
    Ok(found)
}

async fn read(
    conn: &mut SqliteConnection,
    id: &TenantId,
) -> Result<Option<TenantRecord>, StoreError> {
    let row = sqlx::query("SELECT * FROM tenants WHERE id = ? AND deleted_at IS NULL")
        .bind(id.as_str())
        .fetch_optional(conn)
        .await
        .doing(READING)?;
    row.as_ref().map(record).transpose()
}

/// Fails where a tenant is not there: whoever makes something for it has looked, and it was deleted since.
pub(super) async fn check(conn: &mut SqliteConnection, id: &TenantId) -> Result<(), StoreError> {
    match read(conn, id).await? {
        Some(_) => Ok(()),
        None => Err(StoreError::Refused {
            doing: READING,
            source: TenantError::NotFound(id.clone()).into(),
        }),
    }
}

/// The same of a text that names one.
pub(super) async fn check_named(conn: &mut SqliteConnection, name: &str) -> Result<(), StoreError> {
    let id = name.parse();
    check(
        conn,
        &id.map_err(|error| rows::unreadable("product", error))?,
    )
    .await
}

fn record(row: &SqliteRow) -> Result<TenantRecord, StoreError> {
    Ok(TenantRecord {
        id: id(row, "id")?,
        name: row.value("name")?,
        created_at: row.time("created_at")?,
        revision: row.int("revision")?,
    })
}

/// The tenant in a column.
pub(super) fn id(row: &SqliteRow, column: &'static str) -> Result<TenantId, StoreError> {
    maybe_id(row, column)?.ok_or_else(|| rows::unreadable(column, "NULL"))
}

/// The tenant in a column, where there is one.
pub(super) fn maybe_id(
    row: &SqliteRow,
    column: &'static str,
) -> Result<Option<TenantId>, StoreError> {
    let id: Option<String> = row.value(column)?;
    let id = id.map(|id| id.parse().map_err(|error| rows::unreadable(column, error)));
    id.transpose()
}

/// The page of what was found of several tenants: of each as many as the page may have, and one more.
pub(super) fn newest<T>(mut found: Vec<T>, number: impl Fn(&T) -> i64, limit: u32) -> Page<T> {
    found.sort_by_key(|it| Reverse(number(it)));
    found.dedup_by_key(|it| number(it));
    let limit = limit as usize;
    let more = found.len() > limit;
    found.truncate(limit);
    Page { items: found, more }
}
