use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
};

use sqlx::{QueryBuilder, Sqlite, SqliteConnection, sqlite::SqliteRow};

use super::{
    Doing, SqliteStore,
    bulk::json_list,
    counts::{self, CountChanges},
    credentials::{holders, set_psk},
    events::Announcements,
    rows::{self, Columns as _, InOrder},
};
use crate::{
    clock::UtcMillis,
    coap::Peer,
    engine::{CoverageReading, DeviceRecord, QueueMode, Registration},
    store::{
        AddedDevice, DeviceDetail, DeviceFilter, NewDevice, Page, RestoredDevices, StoreError,
        UpgradeState,
    },
    task::{TaskId, UpgradeId},
    upgrade::{Coverage, Failure, Outcome},
};

/// The columns of a [`DeviceRecord`] in the order in which [`record`] reads them.
macro_rules! columns {
    () => {
        "d.endpoint, d.product, d.secure, d.last_heard_at, d.coverage_at, d.coverage_cell, d.coverage_rsrp_dbm, \
         d.coverage_sinr_db, d.version, d.reg_location, d.reg_peer, d.reg_secured, d.reg_lifetime_s, d.reg_expires_at, \
         d.reg_registered_at, d.reg_queue_mode"
    };
}

/// Devices with what the operator sees beside them. A condition follows.
macro_rules! details {
    () => {
        concat!(
            "SELECT ",
            columns!(),
            ", d.psk_identity, d.created_at, \
                 (SELECT MIN(u.id) FROM upgrades u WHERE u.endpoint = d.endpoint AND u.phase = 1) \
             FROM devices d WHERE d.removed = 0"
        )
    };
}

pub(super) const RESTORE: &str = concat!(
    "SELECT d.id, ",
    columns!(),
    " FROM devices d WHERE d.id > ? ORDER BY d.id LIMIT ?"
);

/// A device on which two upgrades run, which should not be, appears once.
pub(super) const RESTORE_BUSY: &str = concat!(
    "SELECT ",
    columns!(),
    " FROM upgrades u INDEXED BY upgrades_running_on CROSS JOIN devices d ON d.endpoint = u.endpoint \
     WHERE u.phase = 1 AND u.endpoint > ? \
         AND u.id = (SELECT MIN(r.id) FROM upgrades r WHERE r.endpoint = u.endpoint AND r.phase = 1) \
     ORDER BY u.endpoint LIMIT ?"
);

impl SqliteStore {
    /// See [`crate::store::Store::restore_busy_devices`].
    pub(super) async fn busy_devices_to_restore(
        &self,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<DeviceRecord>, StoreError> {
        sqlx::query(RESTORE_BUSY)
            .bind(after.unwrap_or_default())
            .bind(limit)
            .fetch_all(&self.readers)
            .await
            .doing("reading devices whose upgrade runs")?
            .iter()
            .map(|row| record(&mut InOrder::new(row)))
            .filter_map(|record| readable(record).transpose())
            .collect()
    }

    /// See [`crate::store::Store::restore_devices`].
    pub(super) async fn devices_to_restore(
        &self,
        after: i64,
        limit: u32,
    ) -> Result<RestoredDevices, StoreError> {
        let rows = sqlx::query(RESTORE)
            .bind(after)
            .bind(limit)
            .fetch_all(&self.readers)
            .await
            .doing("reading devices")?;
        let mut next = None;
        let mut devices = Vec::with_capacity(rows.len());
        for row in &rows {
            let mut fields = InOrder::new(row);
            next = fields.value()?;
            devices.extend(readable(record(&mut fields))?);
        }
        if u32::try_from(rows.len()).is_ok_and(|found| found < limit) {
            next = None;
        }
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
        sqlx::query(concat!(details!(), " AND d.endpoint = ?"))
            .bind(endpoint)
            .fetch_optional(&self.readers)
            .await
            .doing("reading a device")?
            .as_ref()
            .map(detail)
            .transpose()
    }

    /// See [`crate::store::Store::devices`].
    pub(super) async fn list_devices(
        &self,
        filter: &DeviceFilter,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Page<DeviceDetail>, StoreError> {
        let rows = list(filter, after, limit)
            .build()
            .fetch_all(&self.readers)
            .await
            .doing("listing devices")?;
        rows::page(&rows, limit, detail)
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
             reg_queue_mode = NULL, reg_secured = 0, secure = excluded.secure, \
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
    sqlx::query(
        "INSERT INTO upgrade_events (upgrade_id, at, attempt, kind, text) \
         SELECT id, ?, attempt, ?, ? FROM upgrades WHERE endpoint = ? AND phase = 0",
    )
    .bind(now.0)
    .bind(outcome.state())
    .bind(outcome.to_string())
    .bind(endpoint)
    .execute(&mut *conn)
    .await?;
    let announcements = Announcements::begin(conn).await?;
    let ended: Vec<(i64, i64)> = sqlx::query_as(
        "UPDATE upgrades SET state = ?1, phase = 2, next = 0, outcome_state = ?1, outcome_reason = ?2, outcome_detail = ?3, \
             outcome_at = ?4, ended_at = ?4 \
         WHERE endpoint = ?5 AND phase = 0 RETURNING id, task_id",
    )
    .bind(outcome.state())
    .bind(outcome.reason())
    .bind(outcome.to_string())
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

/// The statement that lists devices.
pub(super) fn list(filter: &DeviceFilter, after: Option<&str>, limit: u32) -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::new(details!());
    if let Some(product) = &filter.product {
        query.push(" AND d.product = ").push_bind(product.clone());
    }
    if let Some(registered) = filter.registered {
        query.push(" AND d.registered = ").push_bind(registered);
    }
    // One lower end alone: of two, the database looks for the first and passes over what lies before the other.
    let after = after.unwrap_or_default();
    let prefix = filter.prefix.as_deref().unwrap_or_default();
    let from = if prefix > after { " >= " } else { " > " };
    query.push(" AND d.endpoint").push(from);
    query.push_bind(prefix.max(after).to_owned());
    if !prefix.is_empty() {
        // no character is above U+10FFFF
        let end = format!("{prefix}\u{10FFFF}");
        query.push(" AND d.endpoint < ").push_bind(end);
    }
    query
        .push(" ORDER BY d.endpoint LIMIT ")
        .push_bind(rows::one_more(limit));
    query
}

fn detail(row: &SqliteRow) -> Result<DeviceDetail, StoreError> {
    let mut fields = InOrder::new(row);
    Ok(DeviceDetail {
        device: record(&mut fields)?,
        psk_identity: fields.value()?,
        created_at: UtcMillis(fields.value()?),
        upgrade: fields.maybe_int()?.map(UpgradeId),
    })
}

/// The columns of a device.
/// Leaves out a row that somebody has damaged: the others are not to suffer from it.
fn readable(record: Result<DeviceRecord, StoreError>) -> Result<Option<DeviceRecord>, StoreError> {
    match record {
        Ok(record) => Ok(Some(record)),
        Err(error @ StoreError::Unreadable { .. }) => {
            tracing::error!(%error, "a device is left out; remove it and add it again");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn record(fields: &mut InOrder<'_>) -> Result<DeviceRecord, StoreError> {
    Ok(DeviceRecord {
        endpoint: fields.value()?,
        product: fields.value()?,
        secure: fields.value()?,
        last_heard_at: fields.maybe_time()?,
        coverage: coverage(fields)?,
        version: fields.maybe_version()?,
        registration: registration(fields)?,
    })
}

fn coverage(fields: &mut InOrder<'_>) -> Result<Option<CoverageReading>, StoreError> {
    let at = fields.maybe_time()?;
    let coverage = Coverage {
        cell: fields.maybe_int()?,
        rsrp_dbm: fields.maybe_int()?,
        sinr_db: fields.maybe_int()?,
    };
    Ok(at.map(|at| CoverageReading { coverage, at }))
}

fn registration(fields: &mut InOrder<'_>) -> Result<Option<Registration>, StoreError> {
    let location: Option<String> = fields.value()?;
    let address = match fields.value::<Option<&str>>()? {
        Some(text) => {
            let address = text.parse::<SocketAddr>();
            Some(address.map_err(|_| fields.unreadable(text))?)
        }
        None => None,
    };
    let secured = fields.value()?;
    let lifetime_s = fields.maybe_int()?;
    let expires_at = fields.maybe_time()?;
    let registered_at = fields.maybe_time()?;
    let queue_mode: Option<bool> = fields.value()?;
    let Some(location) = location else {
        return Ok(None);
    };
    let incomplete = || rows::unreadable("devices.reg_location", format!("{location} alone"));
    Ok(Some(Registration {
        peer: Peer {
            address: address.ok_or_else(incomplete)?,
            secured,
        },
        lifetime_s: lifetime_s.ok_or_else(incomplete)?,
        expires_at: expires_at.ok_or_else(incomplete)?,
        registered_at: registered_at.ok_or_else(incomplete)?,
        queue_mode: if queue_mode.ok_or_else(incomplete)? {
            QueueMode::On
        } else {
            QueueMode::Off
        },
        location,
    }))
}
