//! Users as their rows say.

use sqlx::{SqliteConnection, sqlite::SqliteRow};

use super::{
    Doing,
    rows::{self, Columns as _},
};
use crate::store::{Identity, StoreError, UserId, UserRecord};

/// Whether the user of a name is the one who was looked at, with the grants of then; `None`: whoever it is.
pub(super) async fn is_as_seen(
    conn: &mut SqliteConnection,
    name: &str,
    seen: Option<&UserRecord>,
) -> Result<bool, StoreError> {
    let Some(seen) = seen else { return Ok(true) };
    let row = sqlx::query("SELECT * FROM users WHERE name = ?")
        .bind(name)
        .fetch_optional(conn)
        .await
        .doing("reading a user")?;
    let now = row.as_ref().map(record).transpose()?;
    Ok(now.is_some_and(|now| now.id == seen.id && now.grants == seen.grants))
}

/// The user of a row.
pub(super) fn record(row: &SqliteRow) -> Result<UserRecord, StoreError> {
    Ok(UserRecord {
        id: UserId(row.int("id")?),
        name: row.value("name")?,
        password: row.value("password")?,
        identity: match (row.value("issuer")?, row.value("subject")?) {
            (Some(issuer), Some(subject)) => Some(Identity { issuer, subject }),
            _ => None,
        },
        grants: rows::from_json(row, "grants")?.unwrap_or_default(),
        created_by: row.value("created_by")?,
        created_at: row.time("created_at")?,
        last_login_at: row.maybe_time("last_login_at")?,
        totp: row.value("totp_sealed")?,
        totp_pending: row.value("totp_pending")?,
        second_factor_required: row.value("second_factor_required")?,
        disabled: row.value("disabled")?,
    })
}
