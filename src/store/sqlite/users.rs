//! People, and who of them is logged in.

use std::time::Duration;

use async_trait::async_trait;
use sha2::{Digest, Sha256};
use sqlx::SqliteConnection;

use super::{
    Doing, SqliteStore,
    rows::{self, Columns as _},
    second_factors, tenancy,
    user_rows::{is_as_seen, record},
    watched::Table,
};
use crate::{
    access::Grant,
    clock::UtcMillis,
    store::{
        AddUserError, Identity, IdentityUser, MAX_SESSIONS, MAX_USERS, NewSession, NewUser, Page,
        StoreError, UserChange, UserId, UserRecord, Users,
    },
};

/// Users who are granted something on a tenant.
const OF_TENANT: &str = "SELECT COUNT(*) FROM users \
     WHERE EXISTS (SELECT 1 FROM json_each(users.grants) j WHERE j.value ->> 'tenant' = ?)";
const ADDING: &str = "adding a user";
const CHANGING: &str = "changing a user";
const BEGINNING: &str = "beginning a session";

/// Sessions that have ended which are forgotten with each that begins: more than end meanwhile.
const FORGOTTEN_AT_ONCE: u32 = 100;

#[async_trait]
impl Users for SqliteStore {
    async fn add_user(&self, new: &NewUser) -> Result<UserRecord, AddUserError> {
        let mut tx = self.write(ADDING).await?;
        if is_taken(&mut tx, &new.name).await? {
            return Err(AddUserError::NameTaken(new.name.clone()));
        }
        room(&mut tx, &new.grants, new.share).await?;
        let row = sqlx::query(
            "INSERT INTO users (name, password, grants, created_by, created_at) VALUES (?, ?, ?, ?, ?) RETURNING *",
        )
        .bind(&new.name)
        .bind(&new.password)
        .bind(rows::json(&new.grants))
        .bind(&new.created_by)
        .bind(new.created_at.0)
        .fetch_one(&mut *tx)
        .await
        .doing(ADDING)?;
        let user = record(&row)?;
        tx.made(Table::Users, &new.name);
        tx.commit().await.doing(ADDING)?;
        Ok(user)
    }

    async fn user_of_identity(&self, new: &IdentityUser) -> Result<UserRecord, AddUserError> {
        let mut tx = self.write(ADDING).await?;
        let known = sqlx::query("SELECT * FROM users WHERE issuer = ? AND subject = ?")
            .bind(&new.identity.issuer)
            .bind(&new.identity.subject)
            .fetch_optional(&mut *tx)
            .await
            .doing(ADDING)?;
        if let Some(row) = known {
            let known = record(&row)?;
            if known.disabled || known.grants == new.grants {
                return Ok(known);
            }
            tx.watch(Table::Users, &known.name).await.doing(CHANGING)?;
            sqlx::query("UPDATE users SET grants = ? WHERE id = ?")
                .bind(rows::json(&new.grants))
                .bind(known.id.0)
                .execute(&mut *tx)
                .await
                .doing(CHANGING)?;
            tx.commit().await.doing(CHANGING)?;
            return Ok(UserRecord {
                grants: new.grants.clone(),
                ..known
            });
        }
        let name = free_name(&mut tx, new).await?;
        room(&mut tx, &new.grants, new.share).await?;
        let row = sqlx::query(
            "INSERT INTO users (name, password, grants, created_by, created_at, issuer, subject) \
             VALUES (?, '', ?, 'identity-provider', ?, ?, ?) RETURNING *",
        )
        .bind(&name)
        .bind(rows::json(&new.grants))
        .bind(new.at.0)
        .bind(&new.identity.issuer)
        .bind(&new.identity.subject)
        .fetch_one(&mut *tx)
        .await
        .doing(ADDING)?;
        let user = record(&row)?;
        tx.made(Table::Users, &name);
        tx.commit().await.doing(ADDING)?;
        Ok(user)
    }

    async fn ungrant(&self, identity: &Identity) -> Result<Option<String>, StoreError> {
        let mut tx = self.write(CHANGING).await?;
        let known: Option<(i64, String)> = sqlx::query_as(
            "SELECT id, name FROM users WHERE issuer = ? AND subject = ? \
                 AND (grants <> '[]' OR EXISTS (SELECT 1 FROM sessions s WHERE s.user_id = users.id))",
        )
        .bind(&identity.issuer)
        .bind(&identity.subject)
        .fetch_optional(&mut *tx)
        .await
        .doing(CHANGING)?;
        let Some((id, name)) = known else {
            return Ok(None);
        };
        tx.watch(Table::Users, &name).await.doing(CHANGING)?;
        sqlx::query("UPDATE users SET grants = '[]' WHERE id = ?")
            .bind(id)
            .execute(&mut *tx)
            .await
            .doing(CHANGING)?;
        end_sessions(&mut tx, UserId(id)).await?;
        tx.commit().await.doing(CHANGING)?;
        Ok(Some(name))
    }

    async fn granted_by_others(&self, issuer: &str) -> Result<Vec<Identity>, StoreError> {
        let found: Vec<(String, String)> = sqlx::query_as(
            "SELECT issuer, subject FROM users WHERE issuer <> ? \
                 AND (grants <> '[]' OR EXISTS (SELECT 1 FROM sessions s WHERE s.user_id = users.id)) ORDER BY id",
        )
        .bind(issuer)
        .fetch_all(&self.readers)
        .await
        .doing("listing users of identity providers")?;
        let found = found.into_iter();
        Ok(found
            .map(|(issuer, subject)| Identity { issuer, subject })
            .collect())
    }

    async fn user(&self, name: &str) -> Result<Option<UserRecord>, StoreError> {
        let row = sqlx::query("SELECT * FROM users WHERE name = ?")
            .bind(name)
            .fetch_optional(&self.readers)
            .await
            .doing("reading a user")?;
        row.as_ref().map(record).transpose()
    }

    async fn users(
        &self,
        after: Option<UserId>,
        limit: u32,
    ) -> Result<Page<UserRecord>, StoreError> {
        let found = sqlx::query("SELECT * FROM users WHERE id > ? ORDER BY id LIMIT ?")
            .bind(after.map_or(0, |after| after.0))
            .bind(rows::one_more(limit))
            .fetch_all(&self.readers)
            .await
            .doing("listing users")?;
        rows::page(&found, limit, record)
    }

    async fn update_user(
        &self,
        name: &str,
        seen: Option<&UserRecord>,
        change: &UserChange,
    ) -> Result<bool, StoreError> {
        let mut tx = self.write(CHANGING).await?;
        if !is_as_seen(&mut tx, name, seen).await? {
            return Ok(false);
        }
        tx.watch(Table::Users, name).await.doing(CHANGING)?;
        let user: Option<i64> = sqlx::query_scalar(
            "UPDATE users SET grants = COALESCE(?, grants), disabled = COALESCE(?, disabled), \
                 second_factor_required = COALESCE(?, second_factor_required) WHERE name = ? RETURNING id",
        )
        .bind(change.grants.as_ref().map(rows::json))
        .bind(change.disabled)
        .bind(change.second_factor_required)
        .bind(name)
        .fetch_optional(&mut *tx)
        .await
        .doing(CHANGING)?;
        let Some(user) = user.map(UserId) else {
            return Ok(false);
        };
        if let Some(password) = &change.password {
            write_password(&mut tx, name, None, password).await?;
        }
        if change.disabled == Some(true) {
            end_sessions(&mut tx, user).await?;
        }
        tx.commit().await.doing(CHANGING)?;
        Ok(true)
    }

    async fn set_password(
        &self,
        name: &str,
        from: Option<&str>,
        to: &str,
    ) -> Result<bool, StoreError> {
        let mut tx = self.write(CHANGING).await?;
        tx.watch(Table::Users, name).await.doing(CHANGING)?;
        if !write_password(&mut tx, name, from, to).await? {
            return Ok(false);
        }
        tx.commit().await.doing(CHANGING)?;
        Ok(true)
    }

    async fn remove_user(&self, name: &str, seen: Option<&UserRecord>) -> Result<bool, StoreError> {
        let doing = "removing a user";
        let mut tx = self.write(doing).await?;
        if !is_as_seen(&mut tx, name, seen).await? {
            return Ok(false);
        }
        tx.watch(Table::Users, name).await.doing(doing)?;
        let removed = sqlx::query("DELETE FROM users WHERE name = ?")
            .bind(name)
            .execute(&mut *tx)
            .await
            .doing(doing)?;
        if removed.rows_affected() == 0 {
            return Ok(false);
        }
        tx.commit().await.doing(doing)?;
        Ok(true)
    }

    async fn begin_session(&self, new: &NewSession) -> Result<bool, StoreError> {
        let mut tx = self.write(BEGINNING).await?;
        let known = sqlx::query(
            "UPDATE users SET last_login_at = ? \
             WHERE id = ? AND password = ? AND disabled = 0 AND (totp_sealed IS NOT NULL) = ?",
        )
        .bind(new.created_at.0)
        .bind(new.user.0)
        .bind(&new.password)
        .bind(new.second_factor.is_some())
        .execute(&mut *tx)
        .await
        .doing(BEGINNING)?;
        if known.rows_affected() == 0 {
            return Ok(false);
        }
        if let Some(proof) = &new.second_factor
            && !second_factors::spend(&mut tx, new.user, proof).await?
        {
            return Ok(false);
        }
        sqlx::query(
            "DELETE FROM sessions WHERE hash IN ( \
                 SELECT hash FROM sessions WHERE expires_at <= ? ORDER BY expires_at LIMIT ?)",
        )
        .bind(new.created_at.0)
        .bind(FORGOTTEN_AT_ONCE)
        .execute(&mut *tx)
        .await
        .doing(BEGINNING)?;
        sqlx::query(
            "DELETE FROM sessions WHERE hash IN ( \
                 SELECT hash FROM sessions WHERE user_id = ? ORDER BY created_at DESC LIMIT -1 OFFSET ?)",
        )
        .bind(new.user.0)
        .bind(MAX_SESSIONS - 1)
        .execute(&mut *tx)
        .await
        .doing(BEGINNING)?;
        sqlx::query(
            "INSERT INTO sessions (hash, user_id, created_at, expires_at, last_seen_at) VALUES (?1, ?2, ?3, ?4, ?3)",
        )
        .bind(&new.hash[..])
        .bind(new.user.0)
        .bind(new.created_at.0)
        .bind(new.expires_at.0)
        .execute(&mut *tx)
        .await
        .doing(BEGINNING)?;
        tx.commit().await.doing(BEGINNING)?;
        Ok(true)
    }

    async fn find_session(
        &self,
        hash: &[u8; 32],
        now: UtcMillis,
        idle: Duration,
    ) -> Result<Option<(UserRecord, UtcMillis)>, StoreError> {
        let row = sqlx::query(
            "SELECT u.*, s.last_seen_at FROM sessions s JOIN users u ON u.id = s.user_id \
             WHERE s.hash = ? AND s.expires_at > ? AND s.last_seen_at > ? AND u.disabled = 0",
        )
        .bind(&hash[..])
        .bind(now.0)
        .bind(now.before(idle).0)
        .fetch_optional(&self.readers)
        .await
        .doing("reading a session")?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some((record(&row)?, row.time("last_seen_at")?)))
    }

    async fn session_seen(&self, hash: &[u8; 32], at: UtcMillis) -> Result<(), StoreError> {
        let doing = "noting that a session was seen";
        let mut tx = self.write(doing).await?;
        sqlx::query("UPDATE sessions SET last_seen_at = MAX(last_seen_at, ?) WHERE hash = ?")
            .bind(at.0)
            .bind(&hash[..])
            .execute(&mut *tx)
            .await
            .doing(doing)?;
        tx.commit().await.doing(doing)
    }

    async fn end_session(&self, hash: &[u8; 32]) -> Result<(), StoreError> {
        let doing = "ending a session";
        let mut tx = self.write(doing).await?;
        sqlx::query("DELETE FROM sessions WHERE hash = ?")
            .bind(&hash[..])
            .execute(&mut *tx)
            .await
            .doing(doing)?;
        tx.commit().await.doing(doing)
    }
}

async fn is_taken(conn: &mut SqliteConnection, name: &str) -> Result<bool, StoreError> {
    sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM users WHERE name = ?)")
        .bind(name)
        .fetch_one(conn)
        .await
        .doing(ADDING)
}

/// Whether another user may be added.
async fn room(
    conn: &mut SqliteConnection,
    grants: &[Grant],
    share: u32,
) -> Result<(), AddUserError> {
    let users: u32 = sqlx::query_scalar("SELECT COUNT(*) FROM users")
        .fetch_one(&mut *conn)
        .await
        .doing(ADDING)?;
    if users >= MAX_USERS {
        return Err(AddUserError::TooMany);
    }
    let without_room = tenancy::without_room(conn, OF_TENANT, grants, share).await;
    match without_room.doing(ADDING)? {
        Some(tenant) => Err(AddUserError::ShareTaken { tenant, share }),
        None => Ok(()),
    }
}

/// The name that is suggested, or where another user has it, the same with digits that follow from who it is.
async fn free_name(
    conn: &mut SqliteConnection,
    new: &IdentityUser,
) -> Result<String, AddUserError> {
    if !is_taken(conn, &new.name).await? {
        return Ok(new.name.clone());
    }
    let Identity { issuer, subject } = &new.identity;
    let digest = Sha256::digest(format!("{issuer} {subject}"));
    let name = format!("{}-{}", new.name, hex::encode(&digest[..4]));
    if is_taken(conn, &name).await? {
        return Err(AddUserError::NameTaken(name));
    }
    Ok(name)
}

/// Sets the hash of a user's password, if it was `from` or whatever it was, and ends the user's sessions, and a second factor that one of them
/// has begun to set up. Returns whether it is set.
async fn write_password(
    conn: &mut SqliteConnection,
    name: &str,
    from: Option<&str>,
    to: &str,
) -> Result<bool, StoreError> {
    let user: Option<i64> = sqlx::query_scalar(
        "UPDATE users SET password = ?1, totp_pending = NULL WHERE name = ?2 AND (?3 IS NULL OR password = ?3) RETURNING id",
    )
    .bind(to)
    .bind(name)
    .bind(from)
    .fetch_optional(&mut *conn)
    .await
    .doing(CHANGING)?;
    let Some(user) = user else { return Ok(false) };
    end_sessions(conn, UserId(user)).await?;
    Ok(true)
}

async fn end_sessions(conn: &mut SqliteConnection, user: UserId) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM sessions WHERE user_id = ?")
        .bind(user.0)
        .execute(conn)
        .await
        .map(drop)
        .doing(CHANGING)
}
