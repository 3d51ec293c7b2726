//! The devices as the operator knows them.

use std::ops::Range;

use async_trait::async_trait;

use super::{
    Doing, SqliteStore,
    bulk::RowStatement,
    credentials::{self, holders, set_key, set_psk},
    device_rows::{self, DetailRow},
    device_writes::{adopt, end_waiting_upgrades, insert_chunk, products},
    packed::Packed,
    rows::{self, Columns as _},
};
use crate::{
    clock::UtcMillis,
    store::{
        AddedDevice, DeviceChange, DeviceDetail, DeviceFilter, DeviceUpdate, Inventory, NewDevice,
        Page, StoreError, StoredPsk, UpdateDeviceError,
    },
};

/// Devices that came by themselves have revision 0.
const NEWCOMERS_GONE: &str = "SELECT id FROM devices INDEXED BY devices_by_themselves \
     WHERE revision = 0 AND removed = 0 \
         AND MAX(COALESCE(reg_expires_at, 0), COALESCE(reg_ended_at, 0), COALESCE(last_heard_at, 0)) >= ? \
         AND MAX(COALESCE(reg_expires_at, 0), COALESCE(reg_ended_at, 0), COALESCE(last_heard_at, 0)) < ? \
         AND NOT EXISTS (SELECT 1 FROM upgrades u WHERE u.endpoint = devices.endpoint) \
     ORDER BY MAX(COALESCE(reg_expires_at, 0), COALESCE(reg_ended_at, 0), COALESCE(last_heard_at, 0)) LIMIT ?";

#[async_trait]
impl Inventory for SqliteStore {
    async fn add_devices(
        &self,
        devices: &[NewDevice],
        now: UtcMillis,
    ) -> Result<Vec<AddedDevice>, StoreError> {
        let doing = "adding devices";
        let mut tx = self.write(doing).await?;
        let mut known = products(&mut tx, devices).await?;
        let identities = devices.iter().filter_map(|device| device.psk.as_ref());
        let identities = identities.map(|psk| psk.identity.as_str());
        let mut holders = holders(&mut tx, identities).await?;
        let mut new = Vec::new();
        let mut keyed = Vec::new();
        let answers = devices
            .iter()
            .map(|device| {
                let product = known.get(device.endpoint.as_str());
                if let Some(other) = product.filter(|product| **product != device.product) {
                    return AddedDevice::OtherProduct(other.clone());
                }
                if let Some(psk) = &device.psk {
                    let holder = (holders.entry(psk.identity.clone()))
                        .or_insert_with(|| device.endpoint.clone());
                    if *holder != device.endpoint {
                        return AddedDevice::IdentityTaken {
                            identity: psk.identity.clone(),
                            endpoint: holder.clone(),
                        };
                    }
                }
                match (product, &device.psk) {
                    (None, _) => {
                        known.insert(device.endpoint.clone(), device.product.clone());
                        new.push(device);
                        AddedDevice::Added
                    }
                    (Some(_), None) => AddedDevice::Unchanged,
                    (Some(_), Some(_)) => {
                        keyed.push(device);
                        AddedDevice::KeySet
                    }
                }
            })
            .collect();
        let mut revision = rows::revision(&mut tx).await?;
        adopt(&mut tx, devices, &mut revision).await.doing(doing)?;
        for chunk in new.chunks(rows::CHUNK) {
            insert_chunk(&mut tx, chunk, &mut revision, now)
                .await
                .doing(doing)?;
        }
        for device in keyed {
            set_key(&mut tx, device, &mut revision).await.doing(doing)?;
        }
        rows::set_revision(&mut tx, revision).await.doing(doing)?;
        tx.commit().await.doing(doing)?;
        Ok(answers)
    }

    async fn device(&self, endpoint: &str) -> Result<Option<DeviceDetail>, StoreError> {
        let query = sqlx::query(device_rows::ONE).bind(endpoint);
        Packed::fetch(query, &self.readers, "reading a device")
            .await?
            .rows()
            .next()
            .map(|row| row.and_then(DetailRow::detail))
            .transpose()
    }

    async fn devices(
        &self,
        filter: &DeviceFilter,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page<DeviceDetail>, StoreError> {
        let mut query = device_rows::list(filter, after, limit);
        Packed::fetch(query.build(), &self.readers, "listing devices")
            .await?
            .page(limit, DetailRow::detail)
    }

    async fn update_device(
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
            "UPDATE devices SET revision = ?1, product = COALESCE(?2, product), secure = COALESCE(?3, secure), \
                 wake_ups = IIF(COALESCE(?2, product) = product, wake_ups, NULL) \
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

    async fn restore_keys(
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
            let psk = credentials::stored_psk(row)?;
            Ok(psk.map(|psk| row.value("endpoint").map(|endpoint| (endpoint, psk))))
        });
        let keys: Vec<_> = keys.collect::<Result<_, StoreError>>()?;
        keys.into_iter().flatten().collect()
    }

    async fn remove_device(&self, endpoint: &str, now: UtcMillis) -> Result<bool, StoreError> {
        let doing = "removing a device";
        let mut tx = self.write(doing).await?;
        let revision = rows::revision(&mut tx).await? + 1;
        let removed = sqlx::query(
            "UPDATE devices SET removed = 1, psk_identity = NULL, psk_sealed = NULL, revision = ? \
             WHERE endpoint = ? AND removed = 0",
        )
        .bind(revision)
        .bind(endpoint)
        .execute(&mut *tx)
        .await
        .doing(doing)?;
        if removed.rows_affected() == 0 {
            return Ok(false);
        }
        rows::set_revision(&mut tx, revision).await.doing(doing)?;
        end_waiting_upgrades(&mut tx, endpoint, now)
            .await
            .doing(doing)?;
        tx.commit().await.doing(doing)?;
        Ok(true)
    }

    async fn device_changes_since(
        &self,
        revision: i64,
        limit: u32,
    ) -> Result<Vec<DeviceChange>, StoreError> {
        // Devices that registered by themselves have revision 0.
        sqlx::query(
            "SELECT revision, endpoint, product, removed, secure, psk_identity, psk_sealed FROM devices \
             WHERE revision > ? ORDER BY revision LIMIT ?",
        )
        .bind(revision.max(0))
        .bind(limit)
        .fetch_all(&self.readers)
        .await
        .doing("reading changed devices")?
        .iter()
        .map(|row| {
            Ok(DeviceChange {
                revision: row.int("revision")?,
                endpoint: row.value("endpoint")?,
                product: row.value("product")?,
                secure: row.value("secure")?,
                psk: credentials::stored_psk(row)?,
                removed: row.value("removed")?,
            })
        })
        .collect()
    }

    async fn forget_removed(&self, endpoint: &str) -> Result<bool, StoreError> {
        let doing = "forgetting a removed device";
        let mut tx = self.write(doing).await?;
        sqlx::query(
            "DELETE FROM devices WHERE endpoint = ?1 AND removed = 1 \
             AND NOT EXISTS (SELECT 1 FROM upgrades WHERE endpoint = ?1 AND phase = 1)",
        )
        .bind(endpoint)
        .execute(&mut *tx)
        .await
        .doing(doing)?;
        let there: bool =
            sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM devices WHERE endpoint = ?)")
                .bind(endpoint)
                .fetch_one(&mut *tx)
                .await
                .doing(doing)?;
        tx.commit().await.doing(doing)?;
        Ok(!there)
    }

    async fn remove_newcomers(
        &self,
        ended: Range<UtcMillis>,
        limit: u32,
    ) -> Result<u64, StoreError> {
        const REMOVE: RowStatement = RowStatement {
            head: "WITH v (id, revision) AS (VALUES ",
            row: "(?, ?)",
            tail: ") UPDATE devices SET removed = 1, psk_identity = NULL, psk_sealed = NULL, revision = v.revision \
                   FROM v WHERE devices.id = v.id",
        };
        let doing = "removing devices that came by themselves";
        let gone = |query| {
            sqlx::query_scalar::<_, i64>(query)
                .bind(ended.start.0)
                .bind(ended.end.0)
                .bind(limit)
        };
        // Asked often, and most often there is none: the writer is left alone then.
        if (gone(NEWCOMERS_GONE).fetch_optional(&self.readers).await)
            .doing(doing)?
            .is_none()
        {
            return Ok(0);
        }
        let mut tx = self.write(doing).await?;
        let ids = gone(NEWCOMERS_GONE)
            .fetch_all(&mut *tx)
            .await
            .doing(doing)?;
        let revision = rows::revision(&mut tx).await?;
        let removed: Vec<(i64, i64)> = ids.into_iter().zip(revision + 1..).collect();
        REMOVE
            .execute(&mut tx, &removed, |query, (device, revision)| {
                query.bind(*device).bind(*revision)
            })
            .await
            .doing(doing)?;
        if let Some((_, last)) = removed.last() {
            rows::set_revision(&mut tx, *last).await.doing(doing)?;
        }
        tx.commit().await.doing(doing)?;
        Ok(removed.len() as u64)
    }
}
