//! Products: their settings, what is ruled of them, and their keys.
//!
//! A product goes by its key ([`crate::tenant`]). The statements of this file are all that know how it is found.

use std::collections::BTreeMap;

use async_trait::async_trait;
use sqlx::{SqliteConnection, sqlite::SqliteRow};

use super::{
    Doing, SqliteStore,
    bulk::json_list,
    rows::{self, Columns as _},
    tenancy,
    watched::Table,
};
use crate::{
    clock::UtcMillis,
    config::{MOST_PRODUCTS, ProductConfig},
    signing::{KeyId, PublicKey},
    store::{
        AddKeyError, ImportProductsError, MAX_PRODUCT_KEYS, Page, ProductKey, ProductRecord,
        ProductUpdate, ProductUses, Products, RemovedKey, Signatures, StoreError,
        UpdateProductError,
    },
    tenant::{self, TenantId},
};

const READING: &str = "reading a product";

/// Says that the products of a settings file were taken in.
const IMPORTED: &str = "products_imported";
/// The revision of every product that nobody has created: what was removed had none beyond.
const REVISION: &str = "products_revision";

const CREATING: &str = "creating a product";
const CHANGING: &str = "changing a product";
const REMOVING: &str = "removing a product";

#[async_trait]
impl Products for SqliteStore {
    async fn import_products(
        &self,
        products: &BTreeMap<String, ProductConfig>,
    ) -> Result<bool, ImportProductsError> {
        let doing = "taking products in";
        let mut tx = self.write(doing).await?;
        if kept(&mut tx, IMPORTED).await.doing(doing)?.is_some() {
            return Ok(false);
        }
        let mut created = false;
        for (name, settings) in products {
            let before = read(&mut tx, name).await?;
            if !before.created || before.settings != *settings {
                created |= !before.created;
                let after = ProductRecord {
                    settings: *settings,
                    ..before
                };
                put(&mut tx, name, &after).await.doing(doing)?;
            }
        }
        let all = count(&mut tx).await?;
        if created && all > MOST_PRODUCTS {
            return Err(ImportProductsError::TooMany { all });
        }
        let done = rows::set_meta(&mut tx, IMPORTED, b"yes").await;
        done.doing(doing)?;
        tx.commit().await.doing(doing)?;
        Ok(true)
    }

    async fn product_settings(&self) -> Result<BTreeMap<String, ProductConfig>, StoreError> {
        let doing = "reading the settings of products";
        let mut reader = self.readers.acquire().await.doing(doing)?;
        let found = all_settings(&mut reader).await.doing(doing)?;
        parsed(found)
    }

    async fn product(&self, product: &str) -> Result<ProductRecord, StoreError> {
        let mut reader = self.readers.acquire().await.doing(READING)?;
        read(&mut reader, product).await
    }

    async fn products(
        &self,
        tenants: Option<&[TenantId]>,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page<(String, ProductRecord)>, StoreError> {
        let found = sqlx::query(
            "SELECT p.tenant, p.name, p.settings, p.signatures, p.revision, \
                 (SELECT COUNT(*) FROM product_keys k \
                     WHERE k.product = IIF(p.tenant = 'default', p.name, p.tenant || '/' || p.name)) AS keys \
             FROM products p WHERE (p.tenant, p.name) > (?1, ?2) \
                 AND (?4 IS NULL OR p.tenant IN (SELECT j.value FROM json_each(?4) j)) \
             ORDER BY p.tenant, p.name LIMIT ?3",
        )
        .bind(after.map_or("", tenant::owner))
        .bind(after.map_or("", tenant::product_name))
        .bind(rows::one_more(limit))
        .bind(tenants.map(json_list))
        .fetch_all(&self.readers)
        .await
        .doing("listing products")?;
        rows::page(&found, limit, |row| {
            let (tenant, name): (String, String) = (row.value("tenant")?, row.value("name")?);
            Ok((key_of(&tenant, &name)?, record(row, row.int("keys")?)?))
        })
    }

    async fn product_uses(&self, product: &str) -> Result<ProductUses, StoreError> {
        let mut reader = self.readers.acquire().await.doing(READING)?;
        uses(&mut reader, product).await
    }

    async fn create_product(
        &self,
        product: &str,
        new: &ProductUpdate,
    ) -> Result<ProductRecord, UpdateProductError> {
        let mut tx = self.write(CREATING).await?;
        let before = read(&mut tx, product).await?;
        if before.created {
            return Err(UpdateProductError::Exists(product.to_owned()));
        }
        check_room(&mut tx, product, new.share).await?;
        tenancy::check_named(&mut tx, tenant::owner(product)).await?;
        let after = put(&mut tx, product, &updated(new, &before)).await;
        let after = after.doing(CREATING)?;
        tx.made(Table::Products, product);
        tx.commit().await.doing(CREATING)?;
        Ok(after)
    }

    async fn update_product(
        &self,
        product: &str,
        update: &ProductUpdate,
        revision: Option<u32>,
    ) -> Result<ProductRecord, UpdateProductError> {
        let mut tx = self.write(CHANGING).await?;
        tx.watch(Table::Products, product).await.doing(CHANGING)?;
        let before = read(&mut tx, product).await?;
        check_seen(product, &before, revision)?;
        let after = updated(update, &before);
        if after == before {
            return Ok(before);
        }
        if !before.created {
            check_room(&mut tx, product, update.share).await?;
            tenancy::check_named(&mut tx, tenant::owner(product)).await?;
        }
        let after = put(&mut tx, product, &after).await.doing(CHANGING)?;
        tx.commit().await.doing(CHANGING)?;
        Ok(after)
    }

    async fn remove_product(
        &self,
        product: &str,
        revision: Option<u32>,
    ) -> Result<(), UpdateProductError> {
        let mut tx = self.write(REMOVING).await?;
        let before = read(&mut tx, product).await?;
        if !before.created {
            return Err(UpdateProductError::NotFound(product.to_owned()));
        }
        check_seen(product, &before, revision)?;
        let uses = uses(&mut tx, product).await?;
        if uses.any() {
            let product = product.to_owned();
            return Err(UpdateProductError::InUse { product, uses });
        }
        tx.watch(Table::Products, product).await.doing(REMOVING)?;
        sqlx::query("DELETE FROM products WHERE tenant = ? AND name = ?")
            .bind(tenant::owner(product))
            .bind(tenant::product_name(product))
            .execute(&mut *tx)
            .await
            .doing(REMOVING)?;
        let keys = sqlx::query("DELETE FROM product_keys WHERE product = ?")
            .bind(product)
            .execute(&mut *tx)
            .await
            .doing(REMOVING)?;
        tx.count("keys", keys.rows_affected());
        let next = before.revision.saturating_add(1);
        if next > unused_revision(&mut tx).await? {
            let set = rows::set_meta(&mut tx, REVISION, next.to_string().as_bytes()).await;
            set.doing(REMOVING)?;
        }
        Ok(tx.commit().await.doing(REMOVING)?)
    }

    async fn product_keys(&self, product: &str) -> Result<Vec<ProductKey>, StoreError> {
        sqlx::query("SELECT spki, name, created_at FROM product_keys WHERE product = ? ORDER BY id")
            .bind(product)
            .fetch_all(&self.readers)
            .await
            .doing("listing the keys of a product")?
            .iter()
            .map(key)
            .collect()
    }

    async fn add_product_key(
        &self,
        product: &str,
        new: &ProductKey,
    ) -> Result<(ProductKey, bool), AddKeyError> {
        let doing = "adding a key of a product";
        let mut tx = self.write(doing).await?;
        let id = new.key.id();
        let there = sqlx::query(
            "SELECT spki, name, created_at FROM product_keys WHERE product = ? AND id = ?",
        )
        .bind(product)
        .bind(id.as_str())
        .fetch_optional(&mut *tx)
        .await
        .doing(doing)?;
        if let Some(row) = there {
            return Ok((key(&row)?, false));
        }
        if read(&mut tx, product).await?.keys >= MAX_PRODUCT_KEYS {
            return Err(AddKeyError::TooMany(product.to_owned()));
        }
        sqlx::query(
            "INSERT INTO product_keys (product, id, spki, name, created_at) VALUES (?, ?, ?, ?, ?)",
        )
        .bind(product)
        .bind(id.as_str())
        .bind(new.key.spki())
        .bind(&new.name)
        .bind(new.created_at.0)
        .execute(&mut *tx)
        .await
        .doing(doing)?;
        vouch(&mut tx, product, &id, None).await.doing(doing)?;
        tx.made(Table::ProductKeys, format!("{product}/{}", id.as_str()));
        tx.commit().await.doing(doing)?;
        Ok((new.clone(), true))
    }

    async fn remove_product_key(
        &self,
        product: &str,
        id: &KeyId,
        now: UtcMillis,
    ) -> Result<Option<RemovedKey>, StoreError> {
        let doing = "removing a key of a product";
        let mut tx = self.write(doing).await?;
        let key = format!("{product}/{}", id.as_str());
        tx.watch(Table::ProductKeys, key).await.doing(doing)?;
        let removed = sqlx::query("DELETE FROM product_keys WHERE product = ? AND id = ?")
            .bind(product)
            .bind(id.as_str())
            .execute(&mut *tx)
            .await
            .doing(doing)?;
        if removed.rows_affected() == 0 {
            return Ok(None);
        }
        vouch(&mut tx, product, id, Some(now)).await.doing(doing)?;
        let packages: i64 = sqlx::query_scalar(
            "SELECT COUNT(*) FROM packages INDEXED BY packages_of_product \
             WHERE product = ? AND deleted_at IS NULL AND signature_key = ?",
        )
        .bind(product)
        .bind(id.as_str())
        .fetch_one(&mut *tx)
        .await
        .doing(doing)?;
        tx.commit().await.doing(doing)?;
        Ok(Some(RemovedKey {
            packages: packages.unsigned_abs(),
        }))
    }
}

/// The rules and settings of a product, and how many keys it has.
pub(super) async fn read(
    conn: &mut SqliteConnection,
    product: &str,
) -> Result<ProductRecord, StoreError> {
    let row = sqlx::query(
        "SELECT settings, signatures, revision FROM products WHERE tenant = ? AND name = ?",
    )
    .bind(tenant::owner(product))
    .bind(tenant::product_name(product))
    .fetch_optional(&mut *conn)
    .await
    .doing(READING)?;
    let keys: u32 = sqlx::query_scalar("SELECT COUNT(*) FROM product_keys WHERE product = ?")
        .bind(product)
        .fetch_one(&mut *conn)
        .await
        .doing(READING)?;
    match row {
        Some(row) => record(&row, keys),
        None => Ok(ProductRecord {
            created: false,
            settings: ProductConfig::default(),
            signatures: Signatures::default(),
            keys,
            revision: unused_revision(conn).await?,
        }),
    }
}

/// The key of a tenant's product.
fn key_of(tenant: &str, name: &str) -> Result<String, StoreError> {
    let tenant: TenantId = tenant
        .parse()
        .map_err(|error| rows::unreadable("products.tenant", error))?;
    Ok(tenant.product_key(name))
}

fn record(row: &SqliteRow, keys: u32) -> Result<ProductRecord, StoreError> {
    let (settings, signatures): (String, String) =
        (row.value("settings")?, row.value("signatures")?);
    Ok(ProductRecord {
        created: true,
        settings: parse(&settings)?,
        signatures: Signatures::named(&signatures)
            .ok_or_else(|| rows::unreadable("products.signatures", &signatures))?,
        keys,
        revision: row.int("revision")?,
    })
}

/// The settings of all products, as they are stored.
pub(super) async fn all_settings(
    conn: &mut SqliteConnection,
) -> Result<Vec<(String, String)>, sqlx::Error> {
    sqlx::query_as(
        "SELECT IIF(tenant = 'default', name, tenant || '/' || name), settings FROM products ORDER BY tenant, name",
    )
    .fetch_all(conn)
    .await
}

/// Whether the products of a settings file were taken in.
pub(super) async fn were_imported(conn: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    Ok(kept(conn, IMPORTED).await?.is_some())
}

/// The settings of products, from how they are stored.
pub(super) fn parsed(
    stored: Vec<(String, String)>,
) -> Result<BTreeMap<String, ProductConfig>, StoreError> {
    let stored = stored.into_iter();
    stored
        .map(|(name, settings)| Ok((name, parse(&settings)?)))
        .collect()
}

fn parse(settings: &str) -> Result<ProductConfig, StoreError> {
    serde_json::from_str(settings).map_err(|error| rows::unreadable("products.settings", error))
}

async fn kept(conn: &mut SqliteConnection, key: &str) -> Result<Option<Vec<u8>>, sqlx::Error> {
    sqlx::query_scalar("SELECT value FROM meta WHERE key = ?")
        .bind(key)
        .fetch_optional(conn)
        .await
}

/// The revision of products that nobody has created.
async fn unused_revision(conn: &mut SqliteConnection) -> Result<u32, StoreError> {
    let Some(value) = kept(conn, REVISION).await.doing(READING)? else {
        return Ok(1);
    };
    let value = String::from_utf8_lossy(&value);
    value
        .parse()
        .map_err(|_| rows::unreadable(REVISION, &value))
}

fn updated(update: &ProductUpdate, before: &ProductRecord) -> ProductRecord {
    ProductRecord {
        settings: update.settings.apply(&before.settings),
        signatures: update.signatures.unwrap_or(before.signatures),
        ..*before
    }
}

/// Stores a product as it is from now on, with its next revision.
async fn put(
    conn: &mut SqliteConnection,
    product: &str,
    record: &ProductRecord,
) -> Result<ProductRecord, sqlx::Error> {
    let after = ProductRecord {
        created: true,
        revision: record.revision.saturating_add(1),
        ..*record
    };
    sqlx::query(
        "INSERT INTO products (tenant, name, settings, signatures, revision) VALUES (?, ?, ?, ?, ?) \
         ON CONFLICT (tenant, name) DO UPDATE SET settings = excluded.settings, signatures = excluded.signatures, \
             revision = excluded.revision",
    )
    .bind(tenant::owner(product))
    .bind(tenant::product_name(product))
    .bind(rows::json(&after.settings))
    .bind(after.signatures.name())
    .bind(after.revision)
    .execute(conn)
    .await?;
    Ok(after)
}

fn check_seen(
    product: &str,
    record: &ProductRecord,
    seen: Option<u32>,
) -> Result<(), UpdateProductError> {
    if seen.is_none_or(|seen| seen == record.revision) {
        return Ok(());
    }
    Err(UpdateProductError::Changed {
        product: product.to_owned(),
        revision: record.revision,
    })
}

/// Fails where there are as many products as may be, or its tenant has as many as it may.
async fn check_room(
    conn: &mut SqliteConnection,
    product: &str,
    share: Option<u32>,
) -> Result<(), UpdateProductError> {
    if count(conn).await? >= MOST_PRODUCTS {
        return Err(UpdateProductError::TooMany);
    }
    let owner = tenant::owner(product);
    let Some(share) = share.filter(|_| owner != tenant::DEFAULT) else {
        return Ok(());
    };
    let there: u32 = sqlx::query_scalar("SELECT COUNT(*) FROM products WHERE tenant = ?")
        .bind(owner)
        .fetch_one(conn)
        .await
        .doing(READING)?;
    if there < share {
        return Ok(());
    }
    let tenant = owner.to_owned();
    Err(UpdateProductError::ShareTaken { tenant, share })
}

/// How many products there are.
async fn count(conn: &mut SqliteConnection) -> Result<usize, StoreError> {
    let products: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM products")
        .fetch_one(conn)
        .await
        .doing(CREATING)?;
    Ok(usize::try_from(products).unwrap_or(usize::MAX))
}

/// What names a product. A task has packages of one product, which are not deleted while it has not ended.
async fn uses(conn: &mut SqliteConnection, product: &str) -> Result<ProductUses, StoreError> {
    const DEVICES: &str = "SELECT COUNT(*) FROM devices INDEXED BY devices_by_product WHERE product = ? AND removed = 0";
    const PACKAGES: &str = "SELECT COUNT(*) FROM packages INDEXED BY packages_of_product WHERE product = ? AND deleted_at IS NULL";
    const TASKS: &str = "SELECT COUNT(*) FROM packages p INDEXED BY packages_of_product \
         CROSS JOIN tasks t INDEXED BY tasks_by_package ON t.package_id = p.id \
         WHERE p.product = ? AND p.deleted_at IS NULL AND t.state IN ('scheduled', 'running', 'stopping')";
    let mut counts = [0; 3];
    for (count, statement) in counts.iter_mut().zip([DEVICES, PACKAGES, TASKS]) {
        let found: i64 = sqlx::query_scalar(statement)
            .bind(product)
            .fetch_one(&mut *conn)
            .await
            .doing("looking for what names a product")?;
        *count = found.unsigned_abs();
    }
    let [devices, packages, tasks] = counts;
    Ok(ProductUses {
        devices,
        packages,
        tasks,
    })
}

/// Whether a product has a key.
pub(super) async fn has_key(
    conn: &mut SqliteConnection,
    product: &str,
    id: &KeyId,
) -> Result<bool, StoreError> {
    sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM product_keys WHERE product = ? AND id = ?)")
        .bind(product)
        .bind(id.as_str())
        .fetch_one(conn)
        .await
        .doing("looking for a key of a product")
}

/// Notes with the packages of a key when it was removed, or that it is there.
async fn vouch(
    conn: &mut SqliteConnection,
    product: &str,
    id: &KeyId,
    removed_at: Option<UtcMillis>,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE packages SET signature_key_removed_at = ? WHERE product = ? AND signature_key = ?",
    )
    .bind(removed_at.map(|at| at.0))
    .bind(product)
    .bind(id.as_str())
    .execute(conn)
    .await
    .map(drop)
}

fn key(row: &SqliteRow) -> Result<ProductKey, StoreError> {
    let spki: Vec<u8> = row.value("spki")?;
    Ok(ProductKey {
        key: PublicKey::from_spki(&spki)
            .map_err(|error| rows::unreadable("product_keys.spki", error))?,
        name: row.value("name")?,
        created_at: row.time("created_at")?,
    })
}
