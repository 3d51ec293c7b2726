//! What is ruled of products, and their keys.

use async_trait::async_trait;
use sqlx::{SqliteConnection, sqlite::SqliteRow};

use super::{
    Doing, SqliteStore,
    rows::{self, Columns as _},
    watched::Table,
};
use crate::{
    clock::UtcMillis,
    signing::{KeyId, PublicKey},
    store::{
        AddKeyError, MAX_PRODUCT_KEYS, ProductKey, ProductRecord, Products, RemovedKey, Signatures,
        StoreError, UpdateProductError,
    },
};

#[async_trait]
impl Products for SqliteStore {
    async fn product(&self, product: &str) -> Result<ProductRecord, StoreError> {
        let doing = "reading a product";
        let mut reader = self.readers.acquire().await.doing(doing)?;
        read(&mut reader, product).await
    }

    async fn update_product(
        &self,
        product: &str,
        signatures: Signatures,
        revision: Option<u32>,
    ) -> Result<ProductRecord, UpdateProductError> {
        let doing = "changing a product";
        let mut tx = self.write(doing).await?;
        tx.watch(Table::Products, product).await.doing(doing)?;
        let before = read(&mut tx, product).await?;
        if revision.is_some_and(|seen| seen != before.revision) {
            return Err(UpdateProductError::Changed {
                product: product.to_owned(),
                revision: before.revision,
            });
        }
        if signatures == before.signatures {
            return Ok(before);
        }
        let after = ProductRecord {
            signatures,
            revision: before.revision.saturating_add(1),
            ..before
        };
        tx.watch(Table::Products, product).await.doing(doing)?;
        sqlx::query(
            "INSERT INTO product_rules (product, signatures, revision) VALUES (?, ?, ?) \
             ON CONFLICT (product) DO UPDATE SET signatures = excluded.signatures, revision = excluded.revision",
        )
        .bind(product)
        .bind(after.signatures.name())
        .bind(after.revision)
        .execute(&mut *tx)
        .await
        .doing(doing)?;
        tx.commit().await.doing(doing)?;
        Ok(after)
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

/// The rules of a product, and how many keys it has.
pub(super) async fn read(
    conn: &mut SqliteConnection,
    product: &str,
) -> Result<ProductRecord, StoreError> {
    let doing = "reading a product";
    let row = sqlx::query("SELECT signatures, revision FROM product_rules WHERE product = ?")
        .bind(product)
        .fetch_optional(&mut *conn)
        .await
        .doing(doing)?;
    let keys: u32 = sqlx::query_scalar("SELECT COUNT(*) FROM product_keys WHERE product = ?")
        .bind(product)
        .fetch_one(conn)
        .await
        .doing(doing)?;
    let Some(row) = row else {
        return Ok(ProductRecord {
            signatures: Signatures::default(),
            keys,
            revision: 1,
        });
    };
    let signatures: String = row.value("signatures")?;
    Ok(ProductRecord {
        signatures: Signatures::named(&signatures)
            .ok_or_else(|| rows::unreadable("product_rules.signatures", &signatures))?,
        keys,
        revision: row.int("revision")?,
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
