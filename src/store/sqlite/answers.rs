//! Answers to requests that carry a key.

use std::sync::atomic::Ordering::Relaxed;

use async_trait::async_trait;

use super::{
    Doing, SqliteStore,
    rows::{self, Columns as _},
};
use crate::{
    clock::UtcMillis,
    store::{ANSWERS_KEPT_MS, Answer, Answers, Claim, MAX_ANSWERS, StoreError},
};

const CLAIMING: &str = "taking an idempotency key";

/// Old keys that are forgotten with each that is taken: more than come meanwhile.
const FORGOTTEN_AT_ONCE: u32 = 10;
/// Keys that are taken between two looks at how many there are.
const TRIMMED_EVERY: u32 = 1_000;

const FORGET_OLD: &str = "DELETE FROM answers WHERE key IN ( \
    SELECT key FROM answers INDEXED BY answers_by_age WHERE at < ? ORDER BY at, key LIMIT ?)";

/// Of whoever has most.
const FORGET_OLDEST: &str = "DELETE FROM answers WHERE key IN (SELECT key FROM ( \
    SELECT key, at, row_number() OVER (PARTITION BY holder ORDER BY at DESC, key DESC) AS nth FROM answers INDEXED BY answers_by_holder) \
    ORDER BY nth, at DESC LIMIT -1 OFFSET ?)";

#[async_trait]
impl Answers for SqliteStore {
    async fn claim_key(
        &self,
        (holder, key): (&str, &str),
        request: [u8; 32],
        now: UtcMillis,
    ) -> Result<Claim, StoreError> {
        let mut tx = self.write(CLAIMING).await?;
        let old = now.0.saturating_sub(ANSWERS_KEPT_MS.cast_signed());
        sqlx::query(FORGET_OLD)
            .bind(old)
            .bind(FORGOTTEN_AT_ONCE)
            .execute(&mut *tx)
            .await
            .doing(CLAIMING)?;
        // one that is older than it is kept may wait to be forgotten still
        let found = sqlx::query(
            "SELECT request, status, headers, body FROM answers \
             WHERE key IN (?1, ?2) AND (key = ?1 OR request = ?3) AND at >= ?4",
        )
        .bind(key)
        .bind(key.rsplit(' ').next())
        .bind(&request[..])
        .bind(old)
        .fetch_optional(&mut *tx)
        .await
        .doing(CLAIMING)?;
        if let Some(row) = found {
            let taken_by: Vec<u8> = row.value("request")?;
            if taken_by != request {
                return Ok(Claim::OtherRequest);
            }
            let Some(status) = row.value::<Option<i64>>("status")? else {
                return Ok(Claim::Unanswered);
            };
            let headers: String = row.value("headers")?;
            return Ok(Claim::Answered(Answer {
                status: u16::try_from(status)
                    .map_err(|_| rows::unreadable("answers.status", status))?,
                headers: serde_json::from_str(&headers)
                    .map_err(|_| rows::unreadable("answers.headers", headers))?,
                body: row.value("body")?,
            }));
        }
        if (self.keys_taken.fetch_add(1, Relaxed)).is_multiple_of(TRIMMED_EVERY) {
            sqlx::query(FORGET_OLDEST)
                .bind(MAX_ANSWERS)
                .execute(&mut *tx)
                .await
                .doing(CLAIMING)?;
        }
        sqlx::query(
            "INSERT OR REPLACE INTO answers (key, request, at, holder) VALUES (?, ?, ?, ?)",
        )
        .bind(key)
        .bind(&request[..])
        .bind(now.0)
        .bind(holder)
        .execute(&mut *tx)
        .await
        .doing(CLAIMING)?;
        tx.commit().await.doing(CLAIMING)?;
        Ok(Claim::New)
    }

    async fn keep_answer(&self, key: &str, answer: &Answer) -> Result<(), StoreError> {
        let doing = "keeping an answer";
        let mut tx = self.write(doing).await?;
        sqlx::query(
            "UPDATE answers SET status = ?, headers = ?, body = ? WHERE key = ? AND status IS NULL",
        )
        .bind(answer.status)
        .bind(rows::json(&answer.headers))
        .bind(&answer.body)
        .bind(key)
        .execute(&mut *tx)
        .await
        .doing(doing)?;
        tx.commit().await.doing(doing)
    }

    async fn give_key_back(&self, key: &str) -> Result<(), StoreError> {
        let doing = "giving an idempotency key back";
        let mut tx = self.write(doing).await?;
        sqlx::query("DELETE FROM answers WHERE key = ? AND status IS NULL")
            .bind(key)
            .execute(&mut *tx)
            .await
            .doing(doing)?;
        tx.commit().await.doing(doing)
    }
}
