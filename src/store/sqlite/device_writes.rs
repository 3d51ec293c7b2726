//! What is written of devices that the operator adds or removes.

use std::collections::{BTreeSet, HashMap};

use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use super::{
    Doing,
    bulk::json_list,
    counts::{self, CountChanges},
    events::Announcements,
    rows::{self, Columns as _},
};
use crate::{
    clock::UtcMillis,
    ledger::{Attributes, Failure, Happened, Outcome, Protocol, TaskId},
    store::{NewDevice, StoreError, UpgradeState},
};

/// A device that is not there yet, with the attributes that it is to have.
pub(super) struct New<'d> {
    pub(super) device: &'d NewDevice,
    pub(super) attributes: Attributes,
}

/// The products of those of `devices` that are there and were not removed.
pub(super) async fn products(
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
pub(super) async fn adopt(
    conn: &mut SqliteConnection,
    devices: &[NewDevice],
    revision: &mut i64,
) -> Result<(), sqlx::Error> {
    let devices = json_list((devices.iter()).map(|device| (&device.endpoint, &device.product)));
    let newcomers: Vec<i64> = sqlx::query_scalar(
        "SELECT d.id FROM json_each(?) j CROSS JOIN devices d ON d.endpoint = j.value ->> 0 \
         WHERE d.revision = 0 AND d.removed = 0 AND d.product = j.value ->> 1",
    )
    .bind(devices)
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

pub(super) async fn insert_chunk(
    conn: &mut SqliteConnection,
    devices: &[New<'_>],
    revision: &mut i64,
    now: UtcMillis,
) -> Result<(), sqlx::Error> {
    let mut query = QueryBuilder::<Sqlite>::new(
        "INSERT INTO devices (endpoint, product, revision, created_at, secure, psk_identity, psk_sealed, \
             protocol, mqtt_credential, mqtt_token_hash, mqtt_sealed, via",
    );
    // most often no device has any
    let described = (devices.iter()).any(|new| new.attributes != Attributes::default());
    query.push(if described {
        ", model, hardware, site, time_zone) "
    } else {
        ") "
    });
    query.push_values(devices, |mut row, New { device, attributes }| {
        *revision += 1;
        row.push_bind(&device.endpoint)
            .push_bind(&device.product)
            .push_bind(*revision)
            .push_bind(now.0)
            .push_bind(device.psk.is_some())
            .push_bind(device.psk.as_ref().map(|psk| &psk.identity))
            .push_bind(device.psk.as_ref().map(|psk| &psk.sealed))
            .push_bind(
                (device.mqtt.as_ref())
                    .map_or(Protocol::Lwm2m, |it| it.protocol)
                    .name(),
            )
            .push_bind(device.mqtt.as_ref().map(|it| it.credential.name()))
            .push_bind(device.mqtt.as_ref().and_then(|it| it.token_hash.as_ref()))
            .push_bind(device.mqtt.as_ref().and_then(|it| it.sealed.as_ref()))
            .push_bind(&device.via);
        if described {
            row.push_bind(&attributes.model)
                .push_bind(&attributes.hardware)
                .push_bind(&attributes.site)
                .push_bind(&attributes.time_zone);
        }
    });
    // One that was removed and is added again begins anew: nothing of what it was is kept.
    query.push(
        " ON CONFLICT (endpoint) DO UPDATE SET product = excluded.product, revision = excluded.revision, \
             created_at = excluded.created_at, removed = 0, last_heard_at = NULL, reg_location = NULL, \
             reg_peer = NULL, reg_lifetime_s = NULL, reg_expires_at = NULL, reg_registered_at = NULL, \
             reg_queue_mode = NULL, reg_secured = 0, reg_lwm2m_version = NULL, reg_binding = NULL, \
             reg_objects = NULL, reg_root_path = NULL, reg_message_id = NULL, reg_ended_at = NULL, secure = excluded.secure, \
             psk_identity = excluded.psk_identity, psk_sealed = excluded.psk_sealed, protocol = excluded.protocol, \
             mqtt_credential = excluded.mqtt_credential, mqtt_token_hash = excluded.mqtt_token_hash, mqtt_sealed = excluded.mqtt_sealed, via = excluded.via, coverage_cell = NULL, coverage_rsrp_dbm = NULL, \
             coverage_sinr_db = NULL, coverage_at = NULL, version = NULL, evidence = NULL, coverage_source = NULL, \
             wake_ups = NULL, appointment = NULL, model = excluded.model, hardware = excluded.hardware, \
             site = excluded.site, time_zone = excluded.time_zone",
    );
    query.build().execute(conn).await.map(|_| ())
}

pub(super) async fn end_waiting_upgrades(
    conn: &mut SqliteConnection,
    endpoint: &str,
    now: UtcMillis,
) -> Result<(), sqlx::Error> {
    let mut counts = CountChanges::default();
    // Of a task that nobody has seen nothing is told: it is as if it were created without the device.
    let unseen: Vec<(i64, u32)> = sqlx::query_as(
        "DELETE FROM upgrades WHERE endpoint = ? AND phase = 0 \
         AND task_id IN (SELECT id FROM tasks WHERE hidden = 1) RETURNING task_id, lot",
    )
    .bind(endpoint)
    .fetch_all(&mut *conn)
    .await?;
    for (task, lot) in unseen {
        counts.add(TaskId(task), lot, UpgradeState::Pending, None, -1);
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
    let mut announcements = Announcements::default();
    let ended: Vec<(i64, i64, u32)> = sqlx::query_as(
        "UPDATE upgrades SET state = ?1, phase = 2, free = 0, outcome_state = ?1, outcome_reason = ?2, outcome_detail = NULL, outcome_arguments = ?3, \
             outcome_at = ?4, ended_at = ?4 \
         WHERE endpoint = ?5 AND phase = 0 RETURNING id, task_id, lot",
    )
    .bind(outcome.state())
    .bind(outcome.reason())
    .bind(rows::json(&outcome.facts()))
    .bind(now.0)
    .bind(endpoint)
    .fetch_all(&mut *conn)
    .await?;
    let tasks: BTreeSet<TaskId> = ended.iter().map(|(_, task, _)| TaskId(*task)).collect();
    for (_, task, lot) in &ended {
        let (task, reason) = (TaskId(*task), Some(outcome.reason()));
        counts.add(task, *lot, UpgradeState::Pending, None, -1);
        counts.add(task, *lot, UpgradeState::Failed, reason, 1);
    }
    counts.write(conn).await?;
    let upgrades = json_list(ended.iter().map(|(upgrade, ..)| upgrade));
    announcements.upgrades(conn, &upgrades).await?;
    for task in tasks {
        counts::end_task_if_done(conn, task, now, &mut announcements).await?;
    }
    announcements.deliver(conn).await
}
