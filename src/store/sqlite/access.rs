//! Who is let in.

use async_trait::async_trait;
use sqlx::sqlite::SqliteRow;

use super::{
    Doing, SqliteStore,
    rows::{self, Columns as _},
    tenancy,
    watched::Table,
};
use crate::{
    access::Role,
    clock::UtcMillis,
    store::{Access, AddTokenError, MAX_TOKENS, NewToken, Page, StoreError, TokenId, TokenRecord},
};

const ADDING: &str = "adding a token";
const READING: &str = "reading a token";
/// Tokens that are granted something on a tenant.
const OF_TENANT: &str = "SELECT COUNT(*) FROM api_tokens \
     WHERE EXISTS (SELECT 1 FROM json_each(api_tokens.grants) j WHERE j.value ->> 'tenant' = ?)";

#[async_trait]
impl Access for SqliteStore {
    async fn add_token(&self, new: &NewToken) -> Result<TokenRecord, AddTokenError> {
        let mut tx = self.write(ADDING).await?;
        let taken: Option<i64> = sqlx::query_scalar("SELECT id FROM api_tokens WHERE name = ?")
            .bind(&new.name)
            .fetch_optional(&mut *tx)
            .await
            .doing(ADDING)?;
        if let Some(token) = taken.map(TokenId) {
            let name = new.name.clone();
            return Err(AddTokenError::NameTaken { name, token });
        }
        let tokens: u32 = sqlx::query_scalar("SELECT COUNT(*) FROM api_tokens")
            .fetch_one(&mut *tx)
            .await
            .doing(ADDING)?;
        if tokens >= MAX_TOKENS {
            return Err(AddTokenError::TooMany);
        }
        let without_room = tenancy::without_room(&mut tx, OF_TENANT, &new.grants, new.share).await;
        if let Some(tenant) = without_room.doing(ADDING)? {
            let share = new.share;
            return Err(AddTokenError::ShareTaken { tenant, share });
        }
        let row = sqlx::query(
            "INSERT INTO api_tokens (name, hash, grants, created_by, created_at, expires_at) \
             VALUES (?, ?, ?, ?, ?, ?) RETURNING *",
        )
        .bind(&new.name)
        .bind(&new.hash[..])
        .bind(rows::json(&new.grants))
        .bind(&new.created_by)
        .bind(new.created_at.0)
        .bind(new.expires_at.map(|at| at.0))
        .fetch_one(&mut *tx)
        .await
        .doing(ADDING)?;
        let added = record(&row)?;
        tx.made(Table::Tokens, added.id.0);
        tx.commit().await.doing(ADDING)?;
        Ok(added)
    }

    async fn token(&self, id: TokenId) -> Result<Option<TokenRecord>, StoreError> {
        let row = sqlx::query("SELECT * FROM api_tokens WHERE id = ?")
            .bind(id.0)
            .fetch_optional(&self.readers)
            .await
            .doing(READING)?;
        row.as_ref().map(record).transpose()
    }

    async fn find_token(
        &self,
        hash: &[u8; 32],
        now: UtcMillis,
    ) -> Result<Option<TokenRecord>, StoreError> {
        let row = sqlx::query(
            "SELECT * FROM api_tokens WHERE hash = ? AND (expires_at IS NULL OR expires_at > ?)",
        )
        .bind(&hash[..])
        .bind(now.0)
        .fetch_optional(&self.readers)
        .await
        .doing(READING)?;
        row.as_ref().map(record).transpose()
    }

    async fn tokens(
        &self,
        after: Option<TokenId>,
        limit: u32,
    ) -> Result<Page<TokenRecord>, StoreError> {
        let found = sqlx::query("SELECT * FROM api_tokens WHERE id > ? ORDER BY id LIMIT ?")
            .bind(after.map_or(0, |after| after.0))
            .bind(rows::one_more(limit))
            .fetch_all(&self.readers)
            .await
            .doing("listing tokens")?;
        rows::page(&found, limit, record)
    }

    async fn token_used(&self, id: TokenId, at: UtcMillis) -> Result<(), StoreError> {
        let doing = "noting that a token was used";
        let mut tx = self.write(doing).await?;
        sqlx::query(
            "UPDATE api_tokens SET last_used_at = MAX(COALESCE(last_used_at, 0), ?) WHERE id = ?",
        )
        .bind(at.0)
        .bind(id.0)
        .execute(&mut *tx)
        .await
        .doing(doing)?;
        tx.commit().await.doing(doing)
    }

    async fn revoke_token(&self, id: TokenId) -> Result<bool, StoreError> {
        let doing = "revoking a token";
        let mut tx = self.write(doing).await?;
        tx.watch(Table::Tokens, id.0).await.doing(doing)?;
        let revoked = sqlx::query("DELETE FROM api_tokens WHERE id = ?")
            .bind(id.0)
            .execute(&mut *tx)
            .await
            .doing(doing)?;
        if revoked.rows_affected() == 0 {
            return Ok(false);
        }
        tx.commit().await.doing(doing)?;
        Ok(true)
    }

    async fn others_approve(&self, tenant: &str, now: UtcMillis) -> Result<bool, StoreError> {
        sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM api_tokens, json_each(api_tokens.grants) j \
                 WHERE j.value ->> 'role' = ?1 AND j.value ->> 'filter' IS NULL \
                     AND COALESCE(j.value ->> 'tenant', '*') IN ('*', ?3) AND (expires_at IS NULL OR expires_at > ?2)) \
             OR EXISTS (SELECT 1 FROM users, json_each(users.grants) j \
                 WHERE j.value ->> 'role' = ?1 AND j.value ->> 'filter' IS NULL \
                     AND COALESCE(j.value ->> 'tenant', '*') IN ('*', ?3) AND users.disabled = 0)",
        )
        .bind(Role::Approver.name())
        .bind(now.0)
        .bind(tenant)
        .fetch_one(&self.readers)
        .await
        .doing("looking for approvers")
    }
}

fn record(row: &SqliteRow) -> Result<TokenRecord, StoreError> {
    Ok(TokenRecord {
        id: TokenId(row.int("id")?),
        name: row.value("name")?,
        grants: rows::from_json(row, "grants")?.unwrap_or_default(),
        created_by: row.value("created_by")?,
        created_at: row.time("created_at")?,
        expires_at: row.maybe_time("expires_at")?,
        last_used_at: row.maybe_time("last_used_at")?,
    })
}
