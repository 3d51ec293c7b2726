//! The devices' pre-shared keys, and what else an operator changes about a device.

use std::collections::HashMap;

use sqlx::{QueryBuilder, Sqlite, SqliteConnection, sqlite::SqliteRow};

use super::{
    Doing, SqliteStore,
    rows::{self, Columns},
};
use crate::store::{DeviceUpdate, StoreError, StoredPsk, UpdateDeviceError};

impl SqliteStore {
    /// See [`crate::store::Store::update_device`].
    pub(super) async fn change_device(
        &self,
        endpoint: &str,
        update: &DeviceUpdate,
    ) -> Result<(), UpdateDeviceError> {
        let doing = "changing a device";
        let mut tx = self.write(doing).await?;
        let identity = (update.psk.iter().flatten()).map(|psk| psk.identity.as_str());
        let holders = holders(&mut tx, identity).await?;
        if let Some((identity, holder)) = holders.into_iter().find(|(_, it)| it != endpoint) {
            return Err(UpdateDeviceError::IdentityTaken {
                identity,
                endpoint: holder,
            });
        }
        let revision = rows::revision(&mut tx).await? + 1;
        let changed = sqlx::query(
            "UPDATE devices SET revision = ?1, product = COALESCE(?2, product), secure = COALESCE(?3, secure) \
             WHERE endpoint = ?4 AND removed = 0",
        )
        .bind(revision)
        .bind(&update.product)
        .bind(update.secure)
        .bind(endpoint)
        .execute(&mut *tx)
        .await
        .doing(doing)?;
        if changed.rows_affected() == 0 {
            return Err(UpdateDeviceError::NotFound(endpoint.to_owned()));
        }
        if let Some(psk) = &update.psk {
            set_psk(&mut tx, endpoint, psk.as_ref())
                .await
                .doing(doing)?;
        }
        rows::set_revision(&mut tx, revision).await.doing(doing)?;
        tx.commit().await.doing(doing)?;
        Ok(())
    }

    /// See [`crate::store::Store::restore_keys`].
    pub(super) async fn keys_to_restore(
        &self,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<(String, StoredPsk)>, StoreError> {
        let rows = sqlx::query(
            "SELECT endpoint, psk_identity, psk_sealed FROM devices \
             WHERE endpoint > ? AND psk_identity IS NOT NULL ORDER BY endpoint LIMIT ?",
        )
        .bind(after.unwrap_or_default())
        .bind(limit)
        .fetch_all(&self.readers)
        .await
        .doing("reading the devices' keys")?;
        let keys = rows.iter().map(|row| {
            let psk = stored_psk(row)?;
            Ok(psk.map(|psk| row.value("endpoint").map(|endpoint| (endpoint, psk))))
        });
        let keys: Vec<_> = keys.collect::<Result<_, StoreError>>()?;
        keys.into_iter().flatten().collect()
    }
}

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

/// The key in a row of `devices`.
pub(super) fn stored_psk(row: &SqliteRow) -> Result<Option<StoredPsk>, StoreError> {
    let identity: Option<String> = row.value("psk_identity")?;
    let sealed: Option<Vec<u8>> = row.value("psk_sealed")?;
    Ok(identity
        .zip(sealed)
        .map(|(identity, sealed)| StoredPsk { identity, sealed }))
}
