//! The devices as the operator knows them.

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
};

use async_trait::async_trait;
use sqlx::SqliteConnection;

use super::{
    Doing, SqliteStore, adding, attributes,
    bulk::{RowStatement, json_list},
    credentials::{self, check_mqtt, holders, set_mqtt, set_psk},
    device_rows::{self, DetailRow},
    device_writes::end_waiting_upgrades,
    exclusions, gateways, narrowing,
    packed::Packed,
    rows::{self, Columns as _},
    soaks::{self, PassedOver},
    walk::Walk,
    watched::Table,
};
use crate::{
    clock::UtcMillis,
    filter::Filter,
    store::{
        AddedDevice, DeviceChange, DeviceDetail, DeviceFilter, DevicePage, DeviceUpdate,
        EndExclusionError, ExcludeError, Excluded, Exclusion, Inventory, MqttCredential, NewDevice,
        Page, StoreError, StoredMqtt, StoredPsk, UpdateDeviceError, Within,
    },
    tenant,
};

/// Devices that came by themselves have revision 0.
const NEWCOMERS_GONE: &str = "SELECT id FROM devices INDEXED BY devices_by_themselves \
     WHERE revision = 0 AND removed = 0 \
         AND MAX(COALESCE(reg_expires_at, 0), COALESCE(reg_ended_at, 0), COALESCE(last_heard_at, 0)) >= ? \
         AND MAX(COALESCE(reg_expires_at, 0), COALESCE(reg_ended_at, 0), COALESCE(last_heard_at, 0)) < ? \
         AND NOT EXISTS (SELECT 1 FROM upgrades u WHERE u.endpoint = devices.endpoint) \
         AND NOT EXISTS (SELECT 1 FROM devices c INDEXED BY devices_by_gateway WHERE c.via = devices.endpoint) \
     ORDER BY MAX(COALESCE(reg_expires_at, 0), COALESCE(reg_ended_at, 0), COALESCE(last_heard_at, 0)) LIMIT ?";

#[expect(clippy::too_many_lines, reason = "one statement after the other")]
#[async_trait]
impl Inventory for SqliteStore {
    async fn add_devices(
        &self,
        devices: &[NewDevice],
        now: UtcMillis,
    ) -> Result<Vec<AddedDevice>, StoreError> {
        let doing = "adding devices";
        let mut tx = self.write(doing).await?;
        let alone = devices.len() == 1 && !tx.in_parts();
        if let [device] = devices
            && alone
        {
            tx.watch(Table::Devices, &device.endpoint)
                .await
                .doing(doing)?;
        }
        let answers = adding::add(&mut tx, devices, now).await?;
        if !alone {
            for answer in &answers {
                tx.count(counted(answer), 1);
            }
        }
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
    ) -> Result<DevicePage, StoreError> {
        let doing = "listing devices";
        if filter.filter.is_none() && filter.group.is_none() {
            let mut query = device_rows::list(filter, after, limit);
            let packed = Packed::fetch(query.build(), &self.readers, doing).await?;
            let page = packed.page(limit, DetailRow::detail)?;
            let last = page.items.last().filter(|_| page.more);
            return Ok(DevicePage {
                next: last.map(|last| last.device.endpoint.clone()),
                items: page.items,
            });
        }
        let mut reader = self.readers.begin().await.doing(doing)?;
        let walk = Walk::of(&mut reader, filter.clone()).await?;
        let found = walk.find(&mut reader, after, limit).await?;
        let query = sqlx::query(device_rows::NAMED).bind(json_list(&found.endpoints));
        let packed = Packed::fetch(query, &mut *reader, doing).await?;
        let items = packed.rows().map(|row| row.and_then(DetailRow::detail));
        let mut items: Vec<DeviceDetail> = items.collect::<Result<_, _>>()?;
        items.sort_unstable_by(|a, b| a.device.endpoint.cmp(&b.device.endpoint));
        Ok(DevicePage {
            items,
            next: found.next,
        })
    }

    async fn devices_named(&self, endpoints: &[String]) -> Result<Vec<DeviceDetail>, StoreError> {
        self.read_named(endpoints).await
    }

    async fn token_holders(
        &self,
        marks: &[Vec<u8>],
    ) -> Result<HashMap<Vec<u8>, String>, StoreError> {
        let mut reader = self.readers.acquire().await.doing("looking for tokens")?;
        credentials::token_holders(&mut reader, marks.iter().map(Vec::as_slice)).await
    }

    async fn let_through(
        &self,
        endpoints: &[String],
        filter: &Filter,
        now: UtcMillis,
    ) -> Result<HashSet<String>, StoreError> {
        let mut reader = self.readers.acquire().await.doing("looking at devices")?;
        narrowing::let_through(&mut reader, endpoints, filter, now).await
    }

    async fn count_devices(&self, filter: &DeviceFilter) -> Result<u64, StoreError> {
        let doing = "counting devices";
        let mut reader = self.readers.acquire().await.doing(doing)?;
        let walk = Walk::of(&mut reader, filter.clone()).await?;
        drop(reader);
        let mut counted = 0;
        let mut after = None;
        loop {
            // others get their turn between the parts
            let mut reader = self.readers.acquire().await.doing(doing)?;
            let (count, next) = walk.count(&mut reader, after.as_deref()).await?;
            counted += count;
            match next {
                Some(next) => after = Some(next),
                None => return Ok(counted),
            }
        }
    }

    async fn update_device(
        &self,
        endpoint: &str,
        update: &DeviceUpdate,
    ) -> Result<(), UpdateDeviceError> {
        let doing = "changing a device";
        let mut tx = self.write(doing).await?;
        if !narrowing::is_there(&mut tx, endpoint, update.within.as_ref()).await? {
            return Err(UpdateDeviceError::NotFound(endpoint.to_owned()));
        }
        check_seen(&mut tx, endpoint, update.seen).await?;
        tx.watch(Table::Devices, endpoint).await.doing(doing)?;
        let identity = (update.psk.iter().flatten()).map(|psk| psk.identity.as_str());
        let holders = holders(&mut tx, identity).await?;
        if let Some((identity, holder)) = holders.into_iter().find(|(_, it)| it != endpoint) {
            return Err(UpdateDeviceError::IdentityTaken {
                identity,
                endpoint: holder,
            });
        }
        if let Some(mqtt) = &update.mqtt {
            check_mqtt(&mut tx, endpoint, mqtt.as_ref()).await?;
        }
        if let Some(product) = &update.product {
            check_owner(&mut tx, endpoint, product).await?;
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
        if let Some(mqtt) = &update.mqtt {
            set_mqtt(&mut tx, endpoint, mqtt.as_ref())
                .await
                .doing(doing)?;
        }
        if let Some(via) = &update.via {
            gateways::set(&mut tx, endpoint, via.as_deref())
                .await
                .doing(doing)?;
        }
        if let Some(limit) = update.gateway_limit {
            gateways::limit(&mut tx, endpoint, limit)
                .await
                .doing(doing)?;
        }
        if update.via.is_some() || update.mqtt.is_some() || update.product.is_some() {
            gateways::check(&mut tx, endpoint).await?;
        }
        if !update.attributes.is_empty() {
            attributes::change(&mut tx, endpoint, &update.attributes).await?;
        }
        rows::set_revision(&mut tx, revision).await.doing(doing)?;
        tx.commit().await.doing(doing)?;
        Ok(())
    }

    async fn children(&self, gateway: &str, limit: u32) -> Result<(u64, Vec<String>), StoreError> {
        gateways::children(&self.readers, gateway, limit).await
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

    async fn restore_mqtt(
        &self,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<(String, StoredMqtt)>, StoreError> {
        let rows = sqlx::query(
            "SELECT endpoint, protocol, mqtt_credential, mqtt_token_hash, mqtt_sealed FROM devices \
             WHERE endpoint > ? AND mqtt_credential IS NOT NULL ORDER BY endpoint LIMIT ?",
        )
        .bind(after.unwrap_or_default())
        .bind(limit)
        .fetch_all(&self.readers)
        .await
        .doing("reading how devices show who they are")?;
        let found = rows.iter().map(|row| {
            let (_, mqtt) = credentials::stored_mqtt(row)?;
            Ok(mqtt.map(|mqtt| row.value("endpoint").map(|endpoint| (endpoint, mqtt))))
        });
        let found: Vec<_> = found.collect::<Result<_, StoreError>>()?;
        found.into_iter().flatten().collect()
    }

    async fn remove_device(
        &self,
        endpoint: &str,
        seen: Option<i64>,
        within: Option<&Within>,
        now: UtcMillis,
    ) -> Result<bool, UpdateDeviceError> {
        let doing = "removing a device";
        let mut tx = self.write(doing).await?;
        if !narrowing::is_there(&mut tx, endpoint, within).await? {
            return Ok(false);
        }
        check_seen(&mut tx, endpoint, seen).await?;
        gateways::check_none_left(&mut tx, endpoint).await?;
        tx.watch(Table::Devices, endpoint).await.doing(doing)?;
        let revision = rows::revision(&mut tx).await? + 1;
        let removed = sqlx::query(
            "UPDATE devices SET removed = 1, psk_identity = NULL, psk_sealed = NULL, mqtt_credential = NULL, \
             mqtt_token_hash = NULL, mqtt_sealed = NULL, via = NULL, revision = ? \
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
        attributes::remove_tags(&mut tx, endpoint, None)
            .await
            .doing(doing)?;
        gateways::limit(&mut tx, endpoint, None)
            .await
            .doing(doing)?;
        end_waiting_upgrades(&mut tx, endpoint, now)
            .await
            .doing(doing)?;
        soaks::pass_over(&mut tx, PassedOver::Removed(endpoint), now).await?;
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
            "SELECT revision, endpoint, product, removed, secure, psk_identity, psk_sealed, protocol, mqtt_credential, \
                 mqtt_token_hash, mqtt_sealed, via FROM devices \
             WHERE revision > ? ORDER BY revision LIMIT ?",
        )
        .bind(revision.max(0))
        .bind(limit)
        .fetch_all(&self.readers)
        .await
        .doing("reading changed devices")?
        .iter()
        .map(|row| {
            let (protocol, mqtt) = credentials::stored_mqtt(row)?;
            let by_gateway = mqtt
                .as_ref()
                .is_some_and(|it| it.credential == MqttCredential::Gateway);
            Ok(DeviceChange {
                protocol,
                via: gateways::via(by_gateway, row.value("via")?),
                mqtt,
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
            tail: ") UPDATE devices SET removed = 1, psk_identity = NULL, psk_sealed = NULL, mqtt_credential = NULL, \
                   mqtt_token_hash = NULL, mqtt_sealed = NULL, via = NULL, revision = v.revision \
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

    async fn exclude(
        &self,
        endpoints: &[String],
        reason: &str,
        within: Option<&Within>,
        now: UtcMillis,
    ) -> Result<Excluded, ExcludeError> {
        self.add_exclusions(endpoints, reason, within, now).await
    }

    async fn exclusion(&self, endpoint: &str) -> Result<Option<Exclusion>, StoreError> {
        let mut reader = self.readers.acquire().await.doing(exclusions::READING)?;
        exclusions::read(&mut reader, endpoint).await
    }

    async fn end_exclusion(
        &self,
        endpoint: &str,
        seen: Option<i64>,
        within: Option<&Within>,
    ) -> Result<bool, EndExclusionError> {
        self.remove_exclusion(endpoint, seen, within).await
    }

    async fn exclusions(
        &self,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page<Exclusion>, StoreError> {
        self.list_exclusions(after, limit).await
    }
}

/// Refuses to give a device to another tenant while an upgrade of it has not ended: its task is the tenant's of before.
async fn check_owner(
    conn: &mut SqliteConnection,
    endpoint: &str,
    product: &str,
) -> Result<(), UpdateDeviceError> {
    let doing = "changing a device";
    let before: Option<String> =
        sqlx::query_scalar("SELECT tenant FROM devices WHERE endpoint = ? AND removed = 0")
            .bind(endpoint)
            .fetch_optional(&mut *conn)
            .await
            .doing(doing)?;
    if before.is_none_or(|before| before == tenant::owner(product)) {
        return Ok(());
    }
    let busy: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM upgrades WHERE endpoint = ?1 AND phase = 0) \
             OR EXISTS (SELECT 1 FROM upgrades WHERE endpoint = ?1 AND phase = 1)",
    )
    .bind(endpoint)
    .fetch_one(conn)
    .await
    .doing(doing)?;
    if busy {
        return Err(UpdateDeviceError::Busy(endpoint.to_owned()));
    }
    Ok(())
}

/// Refuses a change of a device, if it is there, that has another revision than was seen.
async fn check_seen(
    conn: &mut SqliteConnection,
    endpoint: &str,
    seen: Option<i64>,
) -> Result<(), UpdateDeviceError> {
    let Some(seen) = seen else { return Ok(()) };
    let revision: Option<i64> =
        sqlx::query_scalar("SELECT revision FROM devices WHERE endpoint = ? AND removed = 0")
            .bind(endpoint)
            .fetch_optional(conn)
            .await
            .doing("reading the revision of a device")?;
    match revision.filter(|revision| *revision != seen) {
        Some(revision) => Err(UpdateDeviceError::Changed {
            endpoint: endpoint.to_owned(),
            revision,
        }),
        None => Ok(()),
    }
}

/// What became of a device of several, as the audit log counts them.
fn counted(answer: &AddedDevice) -> &'static str {
    match answer {
        AddedDevice::Added => "added",
        AddedDevice::Unchanged => "unchanged",
        AddedDevice::Updated => "updated",
        AddedDevice::KeySet => "keys_set",
        AddedDevice::IdentityTaken { .. }
        | AddedDevice::TokenTaken(_)
        | AddedDevice::OtherProduct(_)
        | AddedDevice::OtherProtocol(_)
        | AddedDevice::Via(_)
        | AddedDevice::Attributes(_) => "refused",
    }
}
