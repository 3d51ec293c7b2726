//! Users of end users' applications.

use async_trait::async_trait;
use sqlx::{SqliteConnection, sqlite::SqliteRow};

use super::{
    Doing, SqliteStore,
    bulk::json_list,
    home_rows, home_writes, homes,
    marker::mark,
    rows::{self, Columns as _},
    tenancy,
    watched::Table,
};
use crate::{
    clock::UtcMillis,
    home::UserKey,
    store::{
        AddAppTokenError, AppTokenRecord, AppUsers, MAX_APP_TOKENS, MAX_STARTS_TOLD, NewAppToken,
        REVOKED_FOR_MS, StartRecord, StartState, StoreError, UserExport,
    },
};

const READING: &str = "reading what is kept of a user";
const DELETING: &str = "deleting a user";
const REVOKING: &str = "revoking a user's tokens";
const ISSUING: &str = "adding a token of a user";
const FORGETTING: &str = "forgetting what users have started";

/// Starts of before a time.
pub(super) const OLD_STARTS: &str =
    "SELECT id FROM app_starts INDEXED BY app_starts_by_time WHERE at < ? ORDER BY at LIMIT ?";
/// Tokens that have ended.
pub(super) const ENDED_TOKENS: &str = "SELECT id FROM app_tokens INDEXED BY app_tokens_by_end WHERE expires_at <= ? ORDER BY expires_at LIMIT ?";
const FORGET_STARTS: &str = "DELETE FROM app_starts WHERE id IN (SELECT value FROM json_each(?))";
const FORGET_TOKENS: &str = "DELETE FROM app_tokens WHERE id IN (SELECT value FROM json_each(?))";

/// Tokens that have ended, and revocations that are over, which are removed with a new one.
const REMOVED_AT_ONCE: u32 = 100;

#[async_trait]
impl AppUsers for SqliteStore {
    async fn pseudonym(&self, user: &UserKey) -> Result<String, StoreError> {
        let mut reader = self.readers.acquire().await.doing(READING)?;
        mark(&mut reader, user).await
    }

    async fn export_user(&self, user: &UserKey, now: UtcMillis) -> Result<UserExport, StoreError> {
        let mut reader = self.readers.begin().await.doing(READING)?;
        let pseudonym = mark(&mut reader, user).await?;
        Ok(UserExport {
            homes: homes::of_user(&mut reader, user).await?,
            starts: starts(&mut reader, user, now).await?,
            tokens: tokens(&mut reader, user, now).await?,
            revoked_before: revoked(&mut reader, &pseudonym).await?,
            pseudonym,
        })
    }

    async fn delete_user(&self, user: &UserKey, now: UtcMillis) -> Result<bool, StoreError> {
        let mut tx = self.write(DELETING).await?;
        let mark = mark(&mut tx, user).await?;
        tx.watch(Table::AppUsers, &mark).await.doing(DELETING)?;
        let homes: Vec<i64> = sqlx::query_scalar(
            "SELECT home_id FROM home_members INDEXED BY home_members_of_user WHERE tenant = ? AND user = ?",
        )
        .bind(user.tenant.as_str())
        .bind(user.id.as_str())
        .fetch_all(&mut *tx)
        .await
        .doing(DELETING)?;
        for home in &homes {
            home_writes::touch(&mut tx, *home, now)
                .await
                .doing(DELETING)?;
        }
        let mut removed = 0;
        for statement in [
            "DELETE FROM home_members WHERE tenant = ? AND user = ?",
            "UPDATE app_starts SET user = NULL, state = IIF(state = 'waiting', 'cancelled', state) \
             WHERE tenant = ? AND user = ?",
            "DELETE FROM app_tokens WHERE tenant = ? AND user = ?",
        ] {
            let done = sqlx::query(statement)
                .bind(user.tenant.as_str())
                .bind(user.id.as_str())
                .execute(&mut *tx)
                .await
                .doing(DELETING)?;
            removed += done.rows_affected();
        }
        revoke(&mut tx, (user, &mark), now, now).await?;
        tx.count("homes", homes.len() as u64);
        tx.commit().await.doing(DELETING)?;
        Ok(removed > 0)
    }

    async fn revoke_user(
        &self,
        user: &UserKey,
        before: UtcMillis,
        now: UtcMillis,
    ) -> Result<UtcMillis, StoreError> {
        let mut tx = self.write(REVOKING).await?;
        tenancy::check(&mut tx, &user.tenant).await?;
        let mark = mark(&mut tx, user).await?;
        tx.watch(Table::AppUsers, &mark).await.doing(REVOKING)?;
        let stands = revoke(&mut tx, (user, &mark), before, now).await?;
        sqlx::query("DELETE FROM app_tokens WHERE tenant = ? AND user = ? AND created_at < ?")
            .bind(user.tenant.as_str())
            .bind(user.id.as_str())
            .bind(stands.0)
            .execute(&mut *tx)
            .await
            .doing(REVOKING)?;
        tx.commit().await.doing(REVOKING)?;
        Ok(stands)
    }

    async fn forget_old(
        &self,
        starts_before: Option<UtcMillis>,
        now: UtcMillis,
        limit: u32,
    ) -> Result<u64, StoreError> {
        let mut forgotten = 0;
        // whatever is nobody's act leaves nothing in the audit log, and no writer waits where there is nothing
        for (old, forget, before) in [
            (OLD_STARTS, FORGET_STARTS, starts_before),
            (ENDED_TOKENS, FORGET_TOKENS, Some(now)),
        ] {
            let Some(before) = before else { continue };
            let ids: Vec<i64> = sqlx::query_scalar(old)
                .bind(before.0)
                .bind(limit)
                .fetch_all(&self.readers)
                .await
                .doing(FORGETTING)?;
            if ids.is_empty() {
                continue;
            }
            let mut tx = self.write_unaudited(FORGETTING).await?;
            let done = sqlx::query(forget)
                .bind(json_list(&ids))
                .execute(&mut *tx)
                .await
                .doing(FORGETTING)?;
            tx.commit().await.doing(FORGETTING)?;
            forgotten += done.rows_affected();
        }
        Ok(forgotten)
    }

    async fn revoked_before(&self, user: &UserKey) -> Result<Option<UtcMillis>, StoreError> {
        let mut reader = self.readers.acquire().await.doing(READING)?;
        let mark = mark(&mut reader, user).await?;
        revoked(&mut reader, &mark).await
    }

    async fn add_app_token(&self, new: &NewAppToken) -> Result<AppTokenRecord, AddAppTokenError> {
        let mut tx = self.write(ISSUING).await?;
        tenancy::check(&mut tx, &new.user.tenant).await?;
        sqlx::query(
            "DELETE FROM app_tokens WHERE id IN (SELECT id FROM app_tokens WHERE expires_at <= ? ORDER BY expires_at LIMIT ?)",
        )
        .bind(new.created_at.0)
        .bind(REMOVED_AT_ONCE)
        .execute(&mut *tx)
        .await
        .doing(ISSUING)?;
        if tokens(&mut tx, &new.user, new.created_at).await?.len() >= MAX_APP_TOKENS as usize {
            return Err(AddAppTokenError::TooMany);
        }
        let mark = mark(&mut tx, &new.user).await?;
        let row = sqlx::query(
            "INSERT INTO app_tokens (tenant, user, mark, hash, created_by, created_at, expires_at) \
             VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING *",
        )
        .bind(new.user.tenant.as_str())
        .bind(new.user.id.as_str())
        .bind(mark)
        .bind(&new.hash[..])
        .bind(&new.created_by)
        .bind(new.created_at.0)
        .bind(new.expires_at.0)
        .fetch_one(&mut *tx)
        .await
        .doing(ISSUING)?;
        let token = token(&row)?;
        tx.made(Table::AppTokens, token.id);
        tx.commit().await.doing(ISSUING)?;
        Ok(token)
    }

    async fn find_app_token(
        &self,
        hash: &[u8; 32],
        now: UtcMillis,
    ) -> Result<Option<AppTokenRecord>, StoreError> {
        let row = sqlx::query(
            "SELECT t.* FROM app_tokens t WHERE t.hash = ? AND t.expires_at > ? \
                 AND t.created_at >= COALESCE((SELECT r.before FROM app_revoked r WHERE r.mark = t.mark), 0)",
        )
        .bind(&hash[..])
        .bind(now.0)
        .fetch_optional(&self.readers)
        .await
        .doing("looking for a token of a user")?;
        row.as_ref().map(token).transpose()
    }
}

fn token(row: &SqliteRow) -> Result<AppTokenRecord, StoreError> {
    Ok(AppTokenRecord {
        id: row.int("id")?,
        user: UserKey {
            tenant: tenancy::id(row, "tenant")?,
            id: home_rows::user(row)?,
        },
        created_at: row.time("created_at")?,
        expires_at: row.time("expires_at")?,
    })
}

/// Tokens of a user that have not ended.
async fn tokens(
    conn: &mut SqliteConnection,
    user: &UserKey,
    now: UtcMillis,
) -> Result<Vec<AppTokenRecord>, StoreError> {
    let found = sqlx::query(
        "SELECT * FROM app_tokens INDEXED BY app_tokens_of_user WHERE tenant = ? AND user = ? AND expires_at > ? \
         ORDER BY id LIMIT ?",
    )
    .bind(user.tenant.as_str())
    .bind(user.id.as_str())
    .bind(now.0)
    .bind(MAX_APP_TOKENS)
    .fetch_all(conn)
    .await
    .doing(READING)?;
    found.iter().map(token).collect()
}

/// What a user has started, newest first.
async fn starts(
    conn: &mut SqliteConnection,
    user: &UserKey,
    now: UtcMillis,
) -> Result<Vec<StartRecord>, StoreError> {
    let found = sqlx::query(
        "SELECT s.endpoint, s.offers, s.upgrades, s.state, s.at, s.until, h.tenant, h.home \
         FROM app_starts s INDEXED BY app_starts_of_user LEFT JOIN homes h ON h.id = s.home_id \
         WHERE s.tenant = ? AND s.user = ? ORDER BY s.id DESC LIMIT ?",
    )
    .bind(user.tenant.as_str())
    .bind(user.id.as_str())
    .bind(MAX_STARTS_TOLD)
    .fetch_all(conn)
    .await
    .doing(READING)?;
    let start = |row: &SqliteRow| {
        let home: Option<String> = row.value("home")?;
        let state: String = row.value("state")?;
        let state = StartState::from_name(&state)
            .ok_or_else(|| rows::unreadable("app_starts.state", &state))?;
        let over = row.maybe_time("until")?.is_some_and(|until| until <= now);
        Ok(StartRecord {
            home: home.map(|_| home_rows::key(row)).transpose()?,
            endpoint: row.value("endpoint")?,
            offers: rows::from_json(row, "offers")?.unwrap_or_default(),
            state: match state {
                StartState::Waiting if over => StartState::Lapsed,
                state => state,
            },
            upgrades: rows::from_json(row, "upgrades")?.unwrap_or_default(),
            at: row.time("at")?,
        })
    };
    found.iter().map(start).collect()
}

async fn revoked(conn: &mut SqliteConnection, mark: &str) -> Result<Option<UtcMillis>, StoreError> {
    let before: Option<i64> = sqlx::query_scalar("SELECT before FROM app_revoked WHERE mark = ?")
        .bind(mark)
        .fetch_optional(conn)
        .await
        .doing(READING)?;
    Ok(before.map(UtcMillis))
}

/// Lets no token in that was issued before that. Returns the time that stands.
async fn revoke(
    conn: &mut SqliteConnection,
    (user, mark): (&UserKey, &str),
    before: UtcMillis,
    now: UtcMillis,
) -> Result<UtcMillis, StoreError> {
    // any token of that time has ended
    let kept = now.before(std::time::Duration::from_millis(REVOKED_FOR_MS));
    sqlx::query(
        "DELETE FROM app_revoked WHERE mark IN (SELECT mark FROM app_revoked WHERE revoked_at < ? ORDER BY revoked_at LIMIT ?)",
    )
    .bind(kept.0)
    .bind(REMOVED_AT_ONCE)
    .execute(&mut *conn)
    .await
    .doing(REVOKING)?;
    let before: i64 = sqlx::query_scalar(
        "INSERT INTO app_revoked (mark, tenant, before, revoked_at) VALUES (?, ?, ?, ?) \
         ON CONFLICT (mark) DO UPDATE SET before = MAX(before, excluded.before), revoked_at = excluded.revoked_at \
         RETURNING before",
    )
    .bind(mark)
    .bind(user.tenant.as_str())
    .bind(before.0)
    .bind(now.0)
    .fetch_one(conn)
    .await
    .doing(REVOKING)?;
    Ok(UtcMillis(before))
}
