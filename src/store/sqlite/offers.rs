//! What is offered to end users.

use async_trait::async_trait;
use sqlx::{SqliteConnection, sqlite::SqliteRow};

use super::{
    Doing, SqliteStore,
    bulk::json_list,
    offer_news,
    rows::{self, Columns as _},
    standing, task_packages, tenancy,
    watched::Table,
};
use crate::{
    clock::UtcMillis,
    home::{HomeKey, OfferId, OfferTerms, UserId},
    ledger::{PackageId, TaskId},
    store::{
        Agenda as _, CancelledStart, CreateTaskError, MAX_OFFERS, NewOffer, NewStart, OfferRecord,
        OfferStoreError, Offers, Page, StartError, Started, StopTaskError, StoreError,
    },
    tenant::{TenantId, owner},
};

const READING: &str = "reading an offer";
const PUBLISHING: &str = "publishing an offer";
const CHANGING: &str = "changing an offer";
const WITHDRAWING: &str = "withdrawing an offer";

#[async_trait]
impl Offers for SqliteStore {
    async fn publish_offer(&self, new: &NewOffer) -> Result<OfferRecord, OfferStoreError> {
        let mut tx = self.write(PUBLISHING).await?;
        tenancy::check(&mut tx, &new.tenant).await?;
        let standing: u32 = sqlx::query_scalar(
            "SELECT COUNT(*) FROM offers INDEXED BY offers_listed WHERE tenant = ? AND withdrawn_at IS NULL",
        )
        .bind(new.tenant.as_str())
        .fetch_one(&mut *tx)
        .await
        .doing(PUBLISHING)?;
        if standing >= MAX_OFFERS {
            return Err(OfferStoreError::TooMany);
        }
        let package = task_packages::usable(&mut tx, &new.task).await?;
        if owner(&package.package.product) != new.tenant.as_str() {
            return Err(CreateTaskError::PackageNotFound(new.task.package).into());
        }
        let task = standing::create(&mut tx, &new.task).await?;
        let content = &package.package;
        let row = sqlx::query(
            "INSERT INTO offers (tenant, product, package_id, version, size_bytes, sha256, md5, task_id, allow_downgrade, channel, \
                 terms, published_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING *",
        )
        .bind(new.tenant.as_str())
        .bind(&content.product)
        .bind(new.task.package.0)
        .bind(content.version.as_str().to_owned())
        .bind(content.size_bytes.cast_signed())
        .bind(&content.sha256)
        .bind(content.md5.as_deref())
        .bind(task.id.0)
        .bind(new.task.packages.allow_downgrade)
        .bind(new.terms.channel.number())
        .bind(rows::json(&new.terms))
        .bind(new.task.created_at.0)
        .fetch_one(&mut *tx)
        .await
        .doing(PUBLISHING)?;
        let offer = record(&row)?;
        offer_news::publish(&mut tx, offer.id)
            .await
            .doing(PUBLISHING)?;
        tx.made(Table::Offers, offer.id.0);
        tx.commit().await.doing(PUBLISHING)?;
        Ok(offer)
    }

    async fn change_offer(
        &self,
        tenant: &TenantId,
        id: OfferId,
        terms: &OfferTerms,
        seen: Option<i64>,
    ) -> Result<OfferRecord, OfferStoreError> {
        let mut tx = self.write(CHANGING).await?;
        tx.watch(Table::Offers, id.0).await.doing(CHANGING)?;
        let known = known(&mut tx, tenant, id).await?;
        let revision = known.revision;
        if seen.is_some_and(|seen| seen != revision) {
            return Err(OfferStoreError::Changed { id, revision });
        }
        if known.withdrawn_at.is_some() {
            return Err(OfferStoreError::Withdrawn(id));
        }
        if known.terms == *terms {
            return Ok(known);
        }
        sqlx::query(
            "UPDATE offers SET channel = ?, terms = ?, revision = revision + 1 WHERE id = ?",
        )
        .bind(terms.channel.number())
        .bind(rows::json(terms))
        .bind(id.0)
        .execute(&mut *tx)
        .await
        .doing(CHANGING)?;
        offer_news::change(&mut tx, id).await.doing(CHANGING)?;
        let offer = self::known(&mut tx, tenant, id).await?;
        tx.commit().await.doing(CHANGING)?;
        Ok(offer)
    }

    async fn withdraw_offer(
        &self,
        tenant: &TenantId,
        id: OfferId,
        now: UtcMillis,
    ) -> Result<OfferRecord, OfferStoreError> {
        let mut tx = self.write(WITHDRAWING).await?;
        tx.watch(Table::Offers, id.0).await.doing(WITHDRAWING)?;
        let known = known(&mut tx, tenant, id).await?;
        if known.withdrawn_at.is_none() {
            sqlx::query("UPDATE offers SET withdrawn_at = ?, revision = revision + 1 WHERE id = ?")
                .bind(now.0)
                .bind(id.0)
                .execute(&mut *tx)
                .await
                .doing(WITHDRAWING)?;
        }
        let offer = self::known(&mut tx, tenant, id).await?;
        // nothing joins its task from here on; what a crash leaves of it is stopped when it is withdrawn again
        tx.commit_part().await.doing(WITHDRAWING)?;
        match self.stop_task(offer.task, now, true).await {
            Err(StopTaskError::Store(error)) => Err(error.into()),
            // it has ended, or is gone
            Ok(_) | Err(_) => Ok(offer),
        }
    }

    async fn offer(
        &self,
        tenant: &TenantId,
        id: OfferId,
    ) -> Result<Option<OfferRecord>, StoreError> {
        let mut reader = self.readers.acquire().await.doing(READING)?;
        read(&mut reader, tenant, id).await
    }

    async fn offers(
        &self,
        tenants: Option<&[TenantId]>,
        standing: bool,
        before: Option<OfferId>,
        limit: u32,
    ) -> Result<Page<OfferRecord>, StoreError> {
        let doing = "listing offers";
        let before = before.map_or(i64::MAX, |id| id.0);
        let Some(tenants) = tenants else {
            let found = sqlx::query(
                "SELECT * FROM offers WHERE id < ? AND (NOT ? OR withdrawn_at IS NULL) ORDER BY id DESC LIMIT ?",
            )
            .bind(before)
            .bind(standing)
            .bind(rows::one_more(limit))
            .fetch_all(&self.readers)
            .await
            .doing(doing)?;
            return rows::page(&found, limit, record);
        };
        let statement = if standing {
            "SELECT * FROM offers INDEXED BY offers_listed WHERE tenant = ? AND id < ? AND withdrawn_at IS NULL \
             ORDER BY id DESC LIMIT ?"
        } else {
            "SELECT * FROM offers INDEXED BY offers_of_tenant WHERE tenant = ? AND id < ? ORDER BY id DESC LIMIT ?"
        };
        let mut found = Vec::new();
        for tenant in tenants {
            let rows = sqlx::query(statement)
                .bind(tenant.as_str())
                .bind(before)
                .bind(rows::one_more(limit))
                .fetch_all(&self.readers)
                .await
                .doing(doing)?;
            found.extend(
                rows.iter()
                    .map(record)
                    .collect::<Result<Vec<_>, StoreError>>()?,
            );
        }
        Ok(tenancy::newest(found, |offer| offer.id.0, limit))
    }

    async fn offers_for(
        &self,
        tenant: &TenantId,
        products: &[String],
    ) -> Result<Vec<OfferRecord>, StoreError> {
        let found = sqlx::query(FOR_PRODUCTS)
            .bind(json_list(products))
            .bind(tenant.as_str())
            .fetch_all(&self.readers)
            .await
            .doing(READING)?;
        let mut found = (found.iter().map(record)).collect::<Result<Vec<_>, StoreError>>()?;
        found.sort_by_key(|offer| (offer.terms.channel, std::cmp::Reverse(offer.id)));
        found.dedup_by_key(|offer| offer.id);
        Ok(found)
    }

    async fn start(&self, new: &NewStart) -> Result<Vec<Started>, StartError> {
        self.start_upgrades(new, None).await
    }

    async fn continue_start(
        &self,
        home: &HomeKey,
        endpoint: &str,
        by: &UserId,
        now: UtcMillis,
    ) -> Result<Vec<Started>, StartError> {
        self.continue_waiting(home, endpoint, by, now).await
    }

    async fn cancel_start(
        &self,
        home: &HomeKey,
        endpoint: &str,
        by: &UserId,
        now: UtcMillis,
    ) -> Result<CancelledStart, StartError> {
        self.cancel_started(home, endpoint, by, now).await
    }

    async fn start_automatic(
        &self,
        after: Option<&str>,
        limit: u32,
        now: UtcMillis,
    ) -> Result<(u64, Option<String>), StoreError> {
        self.start_automatic_part(after, limit, now).await
    }

    async fn tell_of_offers(
        &self,
        limit: u32,
        now: UtcMillis,
    ) -> Result<Option<usize>, StoreError> {
        self.tell_some_of_offers(limit, now).await
    }
}

/// Offers that stand for devices of products, a JSON list.
pub(super) const FOR_PRODUCTS: &str = "SELECT o.* FROM json_each(?1) j CROSS JOIN offers o INDEXED BY offers_standing \
     ON o.tenant = ?2 AND o.product = j.value WHERE o.withdrawn_at IS NULL";

/// An offer that has to be there.
async fn known(
    conn: &mut SqliteConnection,
    tenant: &TenantId,
    id: OfferId,
) -> Result<OfferRecord, OfferStoreError> {
    let found = read(conn, tenant, id).await?;
    found.ok_or(OfferStoreError::NotFound(id))
}

pub(super) async fn read(
    conn: &mut SqliteConnection,
    tenant: &TenantId,
    id: OfferId,
) -> Result<Option<OfferRecord>, StoreError> {
    let row = sqlx::query("SELECT * FROM offers WHERE id = ? AND tenant = ?")
        .bind(id.0)
        .bind(tenant.as_str())
        .fetch_optional(conn)
        .await
        .doing(READING)?;
    row.as_ref().map(record).transpose()
}

pub(super) fn record(row: &SqliteRow) -> Result<OfferRecord, StoreError> {
    let terms: Option<OfferTerms> = rows::from_json(row, "terms")?;
    Ok(OfferRecord {
        id: OfferId(row.int("id")?),
        tenant: tenancy::id(row, "tenant")?,
        product: row.value("product")?,
        package: PackageId(row.int("package_id")?),
        version: row.version("version")?,
        size_bytes: row.int("size_bytes")?,
        sha256: row.value("sha256")?,
        md5: row.value("md5")?,
        task: TaskId(row.int("task_id")?),
        allow_downgrade: row.int::<i64>("allow_downgrade")? != 0,
        terms: terms.ok_or_else(|| rows::unreadable("offers.terms", "NULL"))?,
        published_at: row.time("published_at")?,
        withdrawn_at: row.maybe_time("withdrawn_at")?,
        revision: row.int("revision")?,
    })
}
