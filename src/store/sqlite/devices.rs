use std::{
    collections::{BTreeSet, HashMap},
    ops::Range,
};

use sqlx::{QueryBuilder, Row as _, Sqlite, SqliteConnection};

use super::{
    Doing, SqliteStore,
    bulk::{RowStatement, json_list},
    counts::{self, CountChanges},
    credentials::{holders, set_psk},
    device_rows::{self, DetailRow, readable},
    events::Announcements,
    packed::Packed,
    rows::{self, Columns as _},
};
use crate::{
    clock::UtcMillis,
    ledger::{DeviceRecord, Failure, Happened, Outcome, TaskId},
    store::{
        AddedDevice, DeviceDetail, DeviceFilter, NewDevice, Page, RestoredDevices, StoreError,
        UpgradeState,
    },
};

impl SqliteStore {
    /// See [`crate::store::Store::restore_busy_devices`].
    pub(super) async fn busy_devices_to_restore(
        &self,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<DeviceRecord>, StoreError> {
        let query = sqlx::query(device_rows::RESTORE_BUSY)
            .bind(after.unwrap_or_default())
            .bind(limit);
        Packed::fetch(query, &self.readers, "reading devices whose upgrade runs")
            .await?
            .rows()
            .filter_map(|row| readable(row).transpose())
            .collect()
    }

    /// See [`crate::store::Store::restore_devices`].
    pub(super) async fn devices_to_restore(
        &self,
        after: i64,
        limit: u32,
    ) -> Result<RestoredDevices, StoreError> {
        let doing = "reading devices";
        let row = sqlx::query(device_rows::RESTORE)
            .bind(after)
            .bind(limit)
            .fetch_one(&self.readers)
            .await
            .doing(doing)?;
        let found: u32 = row.try_get(1).doing(doing)?;
        let last: Option<i64> = row.try_get(2).doing(doing)?;
        let devices = Packed::of(&row)?
            .rows()
            .filter_map(|row| readable(row).transpose())
            .collect::<Result<_, _>>()?;
        let next = last.filter(|_| found >= limit);
        Ok(RestoredDevices { devices, next })
    }

    /// See [`crate::store::Store::restore_revision`].
    pub(super) async fn revision_to_restore(&self) -> Result<i64, StoreError> {
        let doing = "reading the revision of the devices";
        let oldest_removal: Option<i64> =
            sqlx::query_scalar("SELECT MIN(revision) FROM devices WHERE removed = 1")
                .fetch_one(&self.readers)
                .await
                .doing(doing)?;
        if let Some(revision) = oldest_removal {
            return Ok(revision - 1);
        }
        let mut conn = self.readers.acquire().await.doing(doing)?;
        rows::revision(&mut conn).await
    }

    /// See [`crate::store::Store::device`].
    pub(super) async fn device_by_endpoint(
        &self,
        endpoint: &str,
    ) -> Result<Option<DeviceDetail>, StoreError> {
        let query = sqlx::query(device_rows::ONE).bind(endpoint);
        Packed::fetch(query, &self.readers, "reading a device")
            .await?
            .rows()
            .next()
            .map(|row| row.and_then(DetailRow::detail))
            .transpose()
    }

    /// See [`crate::store::Store::devices`].
    pub(super) async fn list_devices(
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

    /// See [`crate::store::Store::add_devices`].
    pub(super) async fn insert_devices(
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
            revision += 1;
            sqlx::query("UPDATE devices SET secure = 1, revision = ? WHERE endpoint = ?")
                .bind(revision)
                .bind(&device.endpoint)
                .execute(&mut *tx)
                .await
                .doing(doing)?;
            set_psk(&mut tx, &device.endpoint, device.psk.as_ref())
                .await
                .doing(doing)?;
        }
        rows::set_revision(&mut tx, revision).await.doing(doing)?;
        tx.commit().await.doing(doing)?;
        Ok(answers)
    }

    /// See [`crate::store::Store::remove_newcomers`].
    pub(super) async fn tombstone_newcomers(
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

    /// See [`crate::store::Store::remove_device`].
    pub(super) async fn tombstone_device(
        &self,
        endpoint: &str,
        now: UtcMillis,
    ) -> Result<bool, StoreError> {
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
}

/// Devices that came by themselves have revision 0.
const NEWCOMERS_GONE: &str = "SELECT id FROM devices INDEXED BY devices_by_themselves \
     WHERE revision = 0 AND removed = 0 \
         AND MAX(COALESCE(reg_expires_at, 0), COALESCE(reg_ended_at, 0), COALESCE(last_heard_at, 0)) >= ? \
         AND MAX(COALESCE(reg_expires_at, 0), COALESCE(reg_ended_at, 0), COALESCE(last_heard_at, 0)) < ? \
         AND NOT EXISTS (SELECT 1 FROM upgrades u WHERE u.endpoint = devices.endpoint) \
     ORDER BY MAX(COALESCE(reg_expires_at, 0), COALESCE(reg_ended_at, 0), COALESCE(last_heard_at, 0)) LIMIT ?";

/// The products of those of `devices` that are there and were not removed.
async fn products(
    conn: &mut SqliteConnection,
    devices: &[NewDevice],
) -> Result<HashMap<String, String>, StoreError> {
    let doing = "looking for devices";
    let mut known = HashMap::new();
    for chunk in devices.chunks(rows::CHUNK) {
        let mut query = QueryBuilder::<Sqlite>::new(
            "SELECT endpoint, product FROM devices WHERE removed = 0 AND endpoint IN (",
        );
        let mut endpoints = query.separated(", ");
        for device in chunk {
            endpoints.push_bind(&device.endpoint);
        }
        endpoints.push_unseparated(")");
        for row in query.build().fetch_all(&mut *conn).await.doing(doing)? {
            known.insert(row.value("endpoint")?, row.value("product")?);
        }
    }
    Ok(known)
}

/// Those of `devices` that came by themselves are the operator's from now on.
async fn adopt(
    conn: &mut SqliteConnection,
    devices: &[NewDevice],
    revision: &mut i64,
) -> Result<(), sqlx::Error> {
    let endpoints = json_list(devices.iter().map(|device| &device.endpoint));
    let products = json_list(devices.iter().map(|device| &device.product));
    let newcomers: Vec<i64> = sqlx::query_scalar(
        "SELECT d.id FROM json_each(?) j JOIN json_each(?) v ON v.key = j.key \
             CROSS JOIN devices d ON d.endpoint = j.value \
         WHERE d.revision = 0 AND d.removed = 0 AND d.product = v.value",
    )
    .bind(endpoints)
    .bind(products)
    .fetch_all(&mut *conn)
    .await?;
    for device in newcomers {
        *revision += 1;
        sqlx::query("UPDATE devices SET revision = ? WHERE id = ?")
            .bind(*revision)
            .bind(device)
            .execute(&mut *conn)
            .await?;
    }
    Ok(())
}

async fn insert_chunk(
    conn: &mut SqliteConnection,
    devices: &[&NewDevice],
    revision: &mut i64,
    now: UtcMillis,
) -> Result<(), sqlx::Error> {
    let mut query = QueryBuilder::<Sqlite>::new(
        "INSERT INTO devices (endpoint, product, revision, created_at, secure, psk_identity, psk_sealed) ",
    );
    query.push_values(devices, |mut row, device| {
        *revision += 1;
        row.push_bind(&device.endpoint)
            .push_bind(&device.product)
            .push_bind(*revision)
            .push_bind(now.0)
            .push_bind(device.psk.is_some())
            .push_bind(device.psk.as_ref().map(|psk| &psk.identity))
            .push_bind(device.psk.as_ref().map(|psk| &psk.sealed));
    });
    // One that was removed and is added again begins anew: nothing of what it was is kept.
    query.push(
        " ON CONFLICT (endpoint) DO UPDATE SET product = excluded.product, revision = excluded.revision, \
             created_at = excluded.created_at, removed = 0, last_heard_at = NULL, reg_location = NULL, \
             reg_peer = NULL, reg_lifetime_s = NULL, reg_expires_at = NULL, reg_registered_at = NULL, \
             reg_queue_mode = NULL, reg_secured = 0, reg_lwm2m_version = NULL, reg_binding = NULL, \
             reg_objects = NULL, reg_root_path = NULL, reg_message_id = NULL, reg_ended_at = NULL, secure = excluded.secure, \
             psk_identity = excluded.psk_identity, psk_sealed = excluded.psk_sealed, coverage_cell = NULL, coverage_rsrp_dbm = NULL, \
             coverage_sinr_db = NULL, coverage_at = NULL, version = NULL",
    );
    query.build().execute(conn).await.map(|_| ())
}

async fn end_waiting_upgrades(
    conn: &mut SqliteConnection,
    endpoint: &str,
    now: UtcMillis,
) -> Result<(), sqlx::Error> {
    let mut counts = CountChanges::default();
    // Of a task that nobody has seen nothing is told: it is as if it were created without the device.
    let unseen: Vec<i64> = sqlx::query_scalar(
        "DELETE FROM upgrades WHERE endpoint = ? AND phase = 0 \
         AND task_id IN (SELECT id FROM tasks WHERE hidden = 1) RETURNING task_id",
    )
    .bind(endpoint)
    .fetch_all(&mut *conn)
    .await?;
    for task in unseen {
        counts.add(TaskId(task), UpgradeState::Pending, -1);
    }
    let outcome = Outcome::Failed(Failure::DeviceRemoved);
    let line = Happened::ended(&outcome, None, Box::default());
    let (code, arguments) = rows::line_columns(&line);
    sqlx::query(
        "INSERT INTO upgrade_events (upgrade_id, at, attempt, kind, code, arguments) \
         SELECT id, ?, attempt, ?, ?, ? FROM upgrades WHERE endpoint = ? AND phase = 0",
    )
    .bind(now.0)
    .bind(outcome.state())
    .bind(code)
    .bind(arguments)
    .bind(endpoint)
    .execute(&mut *conn)
    .await?;
    let announcements = Announcements::begin(conn).await?;
    let ended: Vec<(i64, i64)> = sqlx::query_as(
        "UPDATE upgrades SET state = ?1, phase = 2, free = 0, outcome_state = ?1, outcome_reason = ?2, outcome_detail = NULL, outcome_arguments = ?3, \
             outcome_at = ?4, ended_at = ?4 \
         WHERE endpoint = ?5 AND phase = 0 RETURNING id, task_id",
    )
    .bind(outcome.state())
    .bind(outcome.reason())
    .bind(rows::json(&outcome.facts()))
    .bind(now.0)
    .bind(endpoint)
    .fetch_all(&mut *conn)
    .await?;
    let tasks: BTreeSet<TaskId> = ended.iter().map(|(_, task)| TaskId(*task)).collect();
    for (_, task) in &ended {
        counts.moved(
            TaskId(*task),
            UpgradeState::Pending,
            UpgradeState::Failed,
            1,
        );
    }
    counts.write(conn).await?;
    let upgrades = json_list(ended.iter().map(|(upgrade, _)| upgrade));
    announcements.upgrades(conn, &upgrades).await?;
    for task in tasks {
        counts::end_task_if_done(conn, task, now, &announcements).await?;
    }
    announcements.deliver(conn).await
}
