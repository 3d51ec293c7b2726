//! Seals the webhooks' secrets that were stored before there was a credential key, or not for their webhook alone.

use sqlx::SqliteConnection;

use super::{Doing, SqliteStore};
use crate::{
    store::{
        StoreError, WebhookId,
        kept::{self, keep_secret, webhook_secret},
    },
    vault::Vault,
};

const DOING: &str = "sealing webhooks' secrets";
/// Sealed secrets between two lines of the log.
const TOLD_EVERY: usize = 1_000;

impl SqliteStore {
    /// Seals what is not sealed for its webhook yet, in one transaction, and leaves nothing of what it was in the file or in its log:
    /// the cells that were written over are zeroed (`PRAGMA secure_delete`), and the log is cut. Returns how many there were.
    pub(super) async fn seal_secrets(&self, vault: &Vault) -> Result<usize, StoreError> {
        // mostly there are none, and nothing is written
        let mut reader = self.readers.acquire().await.doing(DOING)?;
        let unsealed = unsealed(&mut reader).await?;
        drop(reader);
        if unsealed.is_empty() {
            return Ok(0);
        }
        self.overwrite_deleted(true).await?;
        let sealed = self.seal_all(vault).await;
        self.overwrite_deleted(false).await?;
        let sealed = sealed?;
        if sealed > 0 {
            // what was read and what was written stands in the log as well
            sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)")
                .execute(&self.writer)
                .await
                .doing(DOING)?;
        }
        Ok(sealed)
    }

    async fn seal_all(&self, vault: &Vault) -> Result<usize, StoreError> {
        let mut tx = self.write_unaudited(DOING).await?;
        let unsealed = unsealed(&mut tx).await?;
        let (all, mut sealed) = (unsealed.len(), 0);
        for (webhook, stored) in unsealed {
            // one that was sealed with a key that is lost stays as it is: its deliveries tell
            let Ok(secret) = webhook_secret(webhook, &stored, Some(vault)) else {
                continue;
            };
            let kept = keep_secret(webhook, &secret, Some(vault));
            let kept = kept.map_err(|source| StoreError::Failed {
                doing: DOING,
                source: Box::new(source),
            })?;
            sqlx::query("UPDATE webhooks SET secret = ? WHERE id = ?")
                .bind(kept)
                .bind(webhook.0)
                .execute(&mut *tx)
                .await
                .doing(DOING)?;
            sealed += 1;
            if sealed % TOLD_EVERY == 0 {
                tracing::info!(sealed, all, "webhooks' secrets are being sealed");
            }
        }
        tx.commit().await.doing(DOING)?;
        Ok(sealed)
    }

    /// Whether SQLite writes zeros over what is deleted. The pool has one connection.
    async fn overwrite_deleted(&self, on: bool) -> Result<(), StoreError> {
        let pragma = if on {
            "PRAGMA secure_delete = ON"
        } else {
            "PRAGMA secure_delete = OFF"
        };
        let set = sqlx::query(pragma).fetch_optional(&self.writer).await;
        set.map(drop).doing(DOING)
    }
}

/// What is not sealed for its webhook.
async fn unsealed(conn: &mut SqliteConnection) -> Result<Vec<(WebhookId, Vec<u8>)>, StoreError> {
    let found: Vec<(i64, Vec<u8>)> = sqlx::query_as(
        "SELECT id, secret FROM webhooks WHERE substr(secret, 1, ?) <> ? ORDER BY id",
    )
    .bind(i64::try_from(kept::MARK.len()).unwrap_or(i64::MAX))
    .bind(kept::MARK)
    .fetch_all(conn)
    .await
    .doing(DOING)?;
    let found = found.into_iter();
    Ok(found.map(|(id, stored)| (WebhookId(id), stored)).collect())
}
