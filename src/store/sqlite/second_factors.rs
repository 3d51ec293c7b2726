//! The second factor of people.

use async_trait::async_trait;
use sqlx::SqliteConnection;

use super::{Doing, SqliteStore, user_rows, watched::Table};
use crate::store::{Proof, SecondFactors, StoreError, UserId, UserRecord};

const CHANGING: &str = "changing a second factor";

#[async_trait]
impl SecondFactors for SqliteStore {
    async fn enrol(&self, user: UserId, sealed: &[u8]) -> Result<bool, StoreError> {
        let mut tx = self.write(CHANGING).await?;
        if !watch(&mut tx, user).await? {
            return Ok(false);
        }
        let kept =
            sqlx::query("UPDATE users SET totp_pending = ? WHERE id = ? AND totp_sealed IS NULL")
                .bind(sealed)
                .bind(user.0)
                .execute(&mut *tx)
                .await
                .doing(CHANGING)?;
        if kept.rows_affected() == 0 {
            return Ok(false);
        }
        tx.commit().await.doing(CHANGING)?;
        Ok(true)
    }

    async fn confirm_second_factor(
        &self,
        user: UserId,
        pending: &[u8],
        step: u64,
        recovery: &[[u8; 32]],
    ) -> Result<bool, StoreError> {
        let mut tx = self.write(CHANGING).await?;
        if !watch(&mut tx, user).await? {
            return Ok(false);
        }
        let confirmed = sqlx::query(
            "UPDATE users SET totp_sealed = totp_pending, totp_pending = NULL, totp_step = ? \
             WHERE id = ? AND totp_pending = ? AND totp_sealed IS NULL",
        )
        .bind(step.cast_signed())
        .bind(user.0)
        .bind(pending)
        .execute(&mut *tx)
        .await
        .doing(CHANGING)?;
        if confirmed.rows_affected() == 0 {
            return Ok(false);
        }
        for hash in recovery {
            sqlx::query("INSERT INTO recovery_codes (user_id, hash) VALUES (?, ?)")
                .bind(user.0)
                .bind(&hash[..])
                .execute(&mut *tx)
                .await
                .doing(CHANGING)?;
        }
        tx.commit().await.doing(CHANGING)?;
        Ok(true)
    }

    async fn remove_second_factor(
        &self,
        name: &str,
        seen: Option<&UserRecord>,
        proof: Option<&Proof>,
    ) -> Result<bool, StoreError> {
        let mut tx = self.write(CHANGING).await?;
        if !user_rows::is_as_seen(&mut tx, name, seen).await? {
            return Ok(false);
        }
        tx.watch(Table::Users, name).await.doing(CHANGING)?;
        let user: Option<i64> = sqlx::query_scalar(
            "SELECT id FROM users WHERE name = ? AND (totp_sealed IS NOT NULL OR totp_pending IS NOT NULL)",
        )
        .bind(name)
        .fetch_optional(&mut *tx)
        .await
        .doing(CHANGING)?;
        let Some(user) = user.map(UserId) else {
            return Ok(false);
        };
        if let Some(proof) = proof
            && !spend(&mut tx, user, proof).await?
        {
            return Ok(false);
        }
        for statement in [
            "UPDATE users SET totp_sealed = NULL, totp_pending = NULL, totp_step = NULL WHERE id = ?",
            "DELETE FROM recovery_codes WHERE user_id = ?",
        ] {
            sqlx::query(statement)
                .bind(user.0)
                .execute(&mut *tx)
                .await
                .doing(CHANGING)?;
        }
        tx.commit().await.doing(CHANGING)?;
        Ok(true)
    }

    async fn recovery_codes(&self, user: UserId) -> Result<u32, StoreError> {
        sqlx::query_scalar("SELECT COUNT(*) FROM recovery_codes WHERE user_id = ?")
            .bind(user.0)
            .fetch_one(&self.readers)
            .await
            .doing("counting recovery codes")
    }
}

/// Shows in the audit log how the user is before and after. Returns whether there is one.
async fn watch(tx: &mut super::Writing, user: UserId) -> Result<bool, StoreError> {
    let name: Option<String> = sqlx::query_scalar("SELECT name FROM users WHERE id = ?")
        .bind(user.0)
        .fetch_optional(&mut **tx)
        .await
        .doing(CHANGING)?;
    let Some(name) = name else { return Ok(false) };
    tx.watch(Table::Users, name).await.doing(CHANGING)?;
    Ok(true)
}

/// Uses a proof up. Returns whether it was good: a code later than the last that was used, of the secret that is stored; a recovery
/// code that was not used.
pub(super) async fn spend(
    conn: &mut SqliteConnection,
    user: UserId,
    proof: &Proof,
) -> Result<bool, StoreError> {
    let spent = match proof {
        Proof::Code { sealed, step } => {
            sqlx::query(
                "UPDATE users SET totp_step = ?1 WHERE id = ?2 AND totp_sealed = ?3 AND COALESCE(totp_step, -1) < ?1",
            )
            .bind(step.cast_signed())
            .bind(user.0)
            .bind(sealed)
            .execute(conn)
            .await
        }
        Proof::Recovery(hash) => {
            sqlx::query("DELETE FROM recovery_codes WHERE user_id = ? AND hash = ?")
                .bind(user.0)
                .bind(&hash[..])
                .execute(conn)
                .await
        }
    };
    Ok(spent.doing(CHANGING)?.rows_affected() > 0)
}
