//! The devices' pre-shared keys, and how those show who they are that speak MQTT.

use std::collections::HashMap;

use sqlx::{QueryBuilder, Sqlite, SqliteConnection, sqlite::SqliteRow};

use super::{
    Doing,
    rows::{self, Columns},
};
use crate::{
    ledger::{Protocol, UpgradeId},
    store::{MqttCredential, NewDevice, StoreError, StoredMqtt, StoredPsk, UpdateDeviceError},
};

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

/// Who has each of the tokens, as far as anybody has.
pub(super) async fn token_holders(
    conn: &mut SqliteConnection,
    hashes: impl Iterator<Item = &[u8]>,
) -> Result<HashMap<Vec<u8>, String>, StoreError> {
    let hashes: Vec<&[u8]> = hashes.collect();
    let mut holders = HashMap::new();
    for chunk in hashes.chunks(rows::CHUNK) {
        let mut query = QueryBuilder::<Sqlite>::new(
            "SELECT mqtt_token_hash, endpoint FROM devices WHERE mqtt_token_hash IN (",
        );
        let mut list = query.separated(", ");
        for hash in chunk {
            list.push_bind(*hash);
        }
        list.push_unseparated(")");
        let rows = query.build().fetch_all(&mut *conn).await;
        for row in rows.doing("looking for the holders of tokens")? {
            holders.insert(row.value("mqtt_token_hash")?, row.value("endpoint")?);
        }
    }
    Ok(holders)
}

/// Whether a device may be given this, or speak LwM2M from now on: its token is nobody else's, and nothing runs on it that
/// goes by what it speaks.
pub(super) async fn check_mqtt(
    conn: &mut SqliteConnection,
    endpoint: &str,
    mqtt: Option<&StoredMqtt>,
) -> Result<(), UpdateDeviceError> {
    let hash = mqtt.and_then(|it| it.token_hash.as_deref());
    let holders = token_holders(conn, hash.into_iter()).await?;
    if let Some(holder) = holders.into_values().find(|it| it != endpoint) {
        return Err(UpdateDeviceError::TokenTaken(holder));
    }
    let protocol = mqtt.map_or(Protocol::Lwm2m, |it| it.protocol);
    let running: Option<i64> = sqlx::query_scalar(
        "SELECT u.id FROM devices d JOIN upgrades u ON u.endpoint = d.endpoint AND u.phase = 1 \
         WHERE d.endpoint = ? AND d.protocol <> ? LIMIT 1",
    )
    .bind(endpoint)
    .bind(protocol.name())
    .fetch_optional(conn)
    .await
    .doing("looking for what runs on a device")?;
    match running {
        Some(upgrade) => Err(UpdateDeviceError::Upgrading {
            endpoint: endpoint.to_owned(),
            upgrade: UpgradeId(upgrade),
        }),
        None => Ok(()),
    }
}

/// Has a device speak MQTT, or LwM2M.
pub(super) async fn set_mqtt(
    conn: &mut SqliteConnection,
    endpoint: &str,
    mqtt: Option<&StoredMqtt>,
) -> Result<(), sqlx::Error> {
    let protocol = mqtt.map_or(Protocol::Lwm2m, |it| it.protocol);
    sqlx::query(
        "UPDATE devices SET protocol = ?, mqtt_credential = ?, mqtt_token_hash = ?, mqtt_sealed = ? WHERE endpoint = ?",
    )
    .bind(protocol.name())
    .bind(mqtt.map(|it| it.credential.name()))
    .bind(mqtt.and_then(|it| it.token_hash.as_deref()))
    .bind(mqtt.and_then(|it| it.sealed.as_deref()))
    .bind(endpoint)
    .execute(conn)
    .await
    .map(|_| ())
}

/// Gives a device that is there the key, or the credential, with which it was added.
pub(super) async fn set_key(
    conn: &mut SqliteConnection,
    device: &NewDevice,
    revision: &mut i64,
) -> Result<(), sqlx::Error> {
    *revision += 1;
    sqlx::query("UPDATE devices SET secure = MAX(secure, ?), revision = ? WHERE endpoint = ?")
        .bind(device.psk.is_some())
        .bind(*revision)
        .bind(&device.endpoint)
        .execute(&mut *conn)
        .await?;
    if device.mqtt.is_some() {
        set_mqtt(conn, &device.endpoint, device.mqtt.as_ref()).await?;
    }
    if device.psk.is_some() {
        set_psk(conn, &device.endpoint, device.psk.as_ref()).await?;
    }
    Ok(())
}

/// How the device of a row of `devices` shows who it is, and what it speaks.
pub(super) fn stored_mqtt(row: &SqliteRow) -> Result<(Protocol, Option<StoredMqtt>), StoreError> {
    let name: String = row.value("protocol")?;
    let protocol = protocol(&name)?;
    let credential: Option<String> = row.value("mqtt_credential")?;
    let credential = credential.as_deref().map(mqtt_credential).transpose()?;
    let token_hash = row.value("mqtt_token_hash")?;
    let sealed = row.value("mqtt_sealed")?;
    let mqtt = credential.map(|credential| StoredMqtt {
        protocol,
        credential,
        token_hash,
        sealed,
    });
    Ok((protocol, mqtt))
}

pub(super) fn protocol(name: &str) -> Result<Protocol, StoreError> {
    let protocol = Protocol::from_name(name);
    protocol.ok_or_else(|| rows::unreadable("devices.protocol", name))
}

pub(super) fn mqtt_credential(name: &str) -> Result<MqttCredential, StoreError> {
    let credential = MqttCredential::from_name(name);
    credential.ok_or_else(|| rows::unreadable("devices.mqtt_credential", name))
}

/// The key in a row of `devices`.
pub(super) fn stored_psk(row: &SqliteRow) -> Result<Option<StoredPsk>, StoreError> {
    let identity: Option<String> = row.value("psk_identity")?;
    let sealed: Option<Vec<u8>> = row.value("psk_sealed")?;
    Ok(identity
        .zip(sealed)
        .map(|(identity, sealed)| StoredPsk { identity, sealed }))
}
