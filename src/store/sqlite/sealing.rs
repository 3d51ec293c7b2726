//! Seals the webhooks' secrets that were stored before there was a credential key, or not for their webhook alone.

use sqlx::SqliteConnection;

use super::{Doing, SqliteStore, rows};
use crate::{
    store::{
        Ledger as _, StoreError, WebhookId,
        kept::{self, keep_secret, webhook_secret},
    },
    vault::Vault,
};

const DOING: &str = "sealing webhooks' secrets";
/// Sealed secrets between two lines of the log.
const TOLD_EVERY: usize = 1_000;

/// Stands in `meta` from the sealing of secrets until nothing of what they were is left in the log.
const LOG_TO_BE_CUT: &str = "webhooks_log_to_be_cut";

/// Writes the table of webhooks anew. Rows that were lengthened before have left copies of them in the free space of its pages, which SQLite
/// writes over where a table becomes empty.
const REWRITE: &str = "CREATE TEMP TABLE webhooks_kept AS SELECT * FROM main.webhooks; \
     DELETE FROM main.webhooks; \
     INSERT INTO main.webhooks SELECT * FROM temp.webhooks_kept; \
     DROP TABLE temp.webhooks_kept";

impl SqliteStore {
    /// Seals what is not sealed for its webhook yet, in one transaction, and leaves nothing of what it was in the table of webhooks or in the
    /// log: the table is written anew, what it was is zeroed (`PRAGMA secure_delete`), and the log is cut. Where it cannot be cut, that is told,
    /// and the next call does it. Returns how many there were.
    pub(super) async fn seal_secrets(&self, vault: &Vault) -> Result<usize, StoreError> {
        // mostly there are none, and nothing is written
        let mut reader = self.readers.acquire().await.doing(DOING)?;
        let unsealed = unsealed(&mut reader).await?;
        drop(reader);
        let sealed = if unsealed.is_empty() {
            0
        } else {
            self.seal_and_overwrite(vault).await?
        };
        if self.meta(LOG_TO_BE_CUT).await?.is_some() {
            self.cut_log().await?;
        }
        Ok(sealed)
    }

    /// The same, but for the log.
    pub(super) async fn seal_and_overwrite(&self, vault: &Vault) -> Result<usize, StoreError> {
        self.overwrite_deleted(true).await?;
        let sealed = self.seal_all(vault).await;
        self.overwrite_deleted(false).await?;
        sealed
    }

    /// Cuts the log: what was read and what was written stands there as well.
    async fn cut_log(&self) -> Result<(), StoreError> {
        let cut: Result<(i64, i64, i64), _> = sqlx::query_as("PRAGMA wal_checkpoint(TRUNCATE)")
            .fetch_one(&self.writer)
            .await;
        let problem = match cut {
            Ok((0, _, _)) => {
                let mut tx = self.write_unaudited(DOING).await?;
                sqlx::query("DELETE FROM meta WHERE key = ?")
                    .bind(LOG_TO_BE_CUT)
                    .execute(&mut *tx)
                    .await
                    .doing(DOING)?;
                return tx.commit().await.doing(DOING);
            }
            Ok(_) => "something reads the database, such as a backup".to_owned(),
            Err(error) => error.to_string(),
        };
        tracing::warn!(
            problem,
            "webhooks' secrets are sealed, but the database's log (cellwise.db-wal) still holds what they were; the next start cuts it"
        );
        Ok(())
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
        if sealed > 0 {
            rewrite(&mut tx).await?;
            let noted = rows::set_meta(&mut tx, LOG_TO_BE_CUT, b"yes").await;
            noted.doing(DOING)?;
        }
        tx.commit().await.doing(DOING)?;
        Ok(sealed)
    }

    /// Whether SQLite writes zeros over what is deleted, and lets rows be deleted that others refer to. The pool has one connection.
    async fn overwrite_deleted(&self, on: bool) -> Result<(), StoreError> {
        let pragmas = if on {
            "PRAGMA secure_delete = ON; PRAGMA foreign_keys = OFF"
        } else {
            "PRAGMA foreign_keys = ON; PRAGMA secure_delete = OFF"
        };
        let set = sqlx::raw_sql(pragmas).execute(&self.writer).await;
        set.map(drop).doing(DOING)
    }
}

/// Writes the webhooks anew, each with its number.
async fn rewrite(conn: &mut SqliteConnection) -> Result<(), StoreError> {
    let enforced: bool = sqlx::query_scalar("PRAGMA foreign_keys")
        .fetch_one(&mut *conn)
        .await
        .doing(DOING)?;
    if enforced {
        // deliveries would go with their webhooks: this is another connection than the one that was told not to
        return Err(StoreError::Failed {
            doing: DOING,
            source: "the connection has changed meanwhile; start the server again".into(),
        });
    }
    let rewritten = sqlx::raw_sql(REWRITE).execute(conn).await;
    rewritten.map(drop).doing(DOING)
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
