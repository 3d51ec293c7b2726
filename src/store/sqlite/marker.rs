//! What stands for a user of an end user's application where the name is not to be, as in the audit log.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use sqlx::SqliteConnection;

use super::{Doing, rows};
use crate::{home::UserKey, store::StoreError};

const READING: &str = "reading what users are called in the audit log";

/// Bytes of what stands for a user.
const MARK: usize = 16;

/// Says what stands for a user where the name is not to be.
pub(super) struct Marker(Vec<u8>);

impl Marker {
    /// With the key that is in the database.
    pub(super) async fn read(conn: &mut SqliteConnection) -> Result<Self, StoreError> {
        sqlx::query_scalar("SELECT key FROM app_key WHERE id = 1")
            .fetch_one(conn)
            .await
            .doing(READING)
            .map(Self)
    }

    /// 32 hexadecimal digits.
    pub(super) fn mark(&self, user: &UserKey) -> Result<String, StoreError> {
        let mac = Hmac::<Sha256>::new_from_slice(&self.0);
        let mut mac = mac.map_err(|error| rows::unreadable("app_key.key", error))?;
        mac.update(user.text().as_bytes());
        let hash = mac.finalize().into_bytes();
        Ok(hex::encode(&hash[..MARK]))
    }
}

/// What stands for a user, 32 hexadecimal digits.
pub(super) async fn mark(
    conn: &mut SqliteConnection,
    user: &UserKey,
) -> Result<String, StoreError> {
    Marker::read(conn).await?.mark(user)
}
