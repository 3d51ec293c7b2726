//! The devices' pre-shared keys.

use std::collections::HashMap;

use sqlx::{QueryBuilder, Sqlite, SqliteConnection, sqlite::SqliteRow};

use super::{
    Doing,
    rows::{self, Columns},
};
use crate::store::{NewDevice, StoreError, StoredPsk};

/// Who has each of the identities, as far as anybody has.
pub(super) async fn holders(
    conn: &mut SqliteConnection,
    identities: impl Iterator<Item = &str>,
) -> Result<HashMap<String, String>, StoreError> {
    let identities: Vec<&str> = identities.collect();
    let mut holders = HashMap::new();
    for chunk in identities.chunks(rows::CHUNK) {
        let mut query = QueryBuilder::<Sqlite>::new(
            "SELECT psk_identity, endpoint FROM devices WHERE psk_identity IN (",
        );
        let mut list = query.separated(", ");
        for identity in chunk {
            list.push_bind(*identity);
        }
        list.push_unseparated(")");
        let rows = query.build().fetch_all(&mut *conn).await;
        for row in rows.doing("looking for the holders of identities")? {
            holders.insert(row.value("psk_identity")?, row.value("endpoint")?);
        }
    }
    Ok(holders)
}

/// Gives a device a key, or takes its key away.
pub(super) async fn set_psk(
    conn: &mut SqliteConnection,
    endpoint: &str,
    psk: Option<&StoredPsk>,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE devices SET psk_identity = ?, psk_sealed = ? WHERE endpoint = ?")
        .bind(psk.map(|psk| &psk.identity))
        .bind(psk.map(|psk| &psk.sealed))
        .bind(endpoint)
        .execute(conn)
        .await
        .map(|_| ())
}

/// Gives a device that is there the key with which it was added.
pub(super) async fn set_key(
    conn: &mut SqliteConnection,
    device: &NewDevice,
    revision: &mut i64,
) -> Result<(), sqlx::Error> {
    *revision += 1;
    sqlx::query("UPDATE devices SET secure = 1, revision = ? WHERE endpoint = ?")
        .bind(*revision)
        .bind(&device.endpoint)
        .execute(&mut *conn)
        .await?;
    set_psk(conn, &device.endpoint, device.psk.as_ref()).await
}

/// The key in a row of `devices`.
pub(super) fn stored_psk(row: &SqliteRow) -> Result<Option<StoredPsk>, StoreError> {
    let identity: Option<String> = row.value("psk_identity")?;
    let sealed: Option<Vec<u8>> = row.value("psk_sealed")?;
    Ok(identity
        .zip(sealed)
        .map(|(identity, sealed)| StoredPsk { identity, sealed }))
}
