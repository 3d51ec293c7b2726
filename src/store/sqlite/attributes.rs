//! What is kept of the devices' attributes and tags.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;
use sqlx::SqliteConnection;

use super::{
    Doing,
    bulk::{RowStatement, json_list},
    packed::{Packed, packed},
};
use crate::{
    ledger::{Attributes, AttributesChange},
    store::{StoreError, UpdateDeviceError},
};

const DOING: &str = "reading and writing attributes of devices";

/// An [`AttributesRow`], from `devices d`.
macro_rules! attributes {
    () => {
        "json_array(d.model, d.hardware, d.site, d.time_zone, \
         json((SELECT json_group_object(t.key, t.value) FROM device_tags t WHERE t.device_id = d.id)))"
    };
}
pub(super) use attributes;

#[derive(Deserialize)]
pub(super) struct AttributesRow {
    model: Option<String>,
    hardware: Option<String>,
    site: Option<String>,
    time_zone: Option<String>,
    tags: BTreeMap<String, String>,
}

impl From<AttributesRow> for Attributes {
    fn from(row: AttributesRow) -> Self {
        Self {
            model: row.model,
            hardware: row.hardware,
            site: row.site,
            time_zone: row.time_zone,
            tags: row.tags,
        }
    }
}

pub(super) const OF_DEVICES: &str = packed!(
    "SELECT json_array(d.endpoint, ",
    attributes!(),
    ") AS line FROM json_each(?) j CROSS JOIN devices d ON d.endpoint = j.value WHERE d.removed = 0"
);

/// The attributes of devices, by their endpoints, as far as these are there.
pub(super) async fn of_devices(
    conn: &mut SqliteConnection,
    endpoints: impl Iterator<Item = &str>,
) -> Result<HashMap<String, Attributes>, StoreError> {
    let query = sqlx::query(OF_DEVICES).bind(json_list(endpoints));
    let found = Packed::fetch(query, conn, DOING).await?;
    let rows = found.rows::<(String, AttributesRow)>();
    rows.map(|row| row.map(|(endpoint, row)| (endpoint, row.into())))
        .collect()
}

/// Writes the attributes of devices that are there, without their tags.
pub(super) async fn write(
    conn: &mut SqliteConnection,
    devices: &[(&str, &Attributes)],
) -> Result<(), sqlx::Error> {
    const WRITE: RowStatement = RowStatement {
        head: "WITH v (endpoint, model, hardware, site, time_zone) AS (VALUES ",
        row: "(?, ?, ?, ?, ?)",
        tail: ") UPDATE devices SET model = v.model, hardware = v.hardware, site = v.site, time_zone = v.time_zone \
               FROM v WHERE devices.endpoint = v.endpoint",
    };
    WRITE
        .execute(conn, devices, |query, (endpoint, attributes)| {
            query
                .bind((*endpoint).to_owned())
                .bind(attributes.model.clone())
                .bind(attributes.hardware.clone())
                .bind(attributes.site.clone())
                .bind(attributes.time_zone.clone())
        })
        .await
}

/// Gives devices that are there tags: each an endpoint, a key and a value.
pub(super) async fn write_tags<'t>(
    conn: &mut SqliteConnection,
    tags: impl Iterator<Item = (&'t str, &'t str, &'t str)>,
) -> Result<(), sqlx::Error> {
    let mut tags = tags.peekable();
    if tags.peek().is_none() {
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO device_tags (device_id, key, value) \
         SELECT d.id, j.value ->> 1, j.value ->> 2 \
         FROM json_each(?) j CROSS JOIN devices d ON d.endpoint = j.value ->> 0 WHERE true \
         ON CONFLICT (device_id, key) DO UPDATE SET value = excluded.value",
    )
    .bind(json_list(tags))
    .execute(conn)
    .await
    .map(|_| ())
}

/// Takes tags of a device away; all of them where no keys are given.
pub(super) async fn remove_tags(
    conn: &mut SqliteConnection,
    endpoint: &str,
    keys: Option<&[&str]>,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "DELETE FROM device_tags WHERE device_id = (SELECT id FROM devices WHERE endpoint = ?1) \
         AND (?2 IS NULL OR key IN (SELECT value FROM json_each(?2)))",
    )
    .bind(endpoint)
    .bind(keys.map(json_list))
    .execute(conn)
    .await
    .map(|_| ())
}

/// Changes the attributes and tags of a device that is there.
pub(super) async fn change(
    conn: &mut SqliteConnection,
    endpoint: &str,
    change: &AttributesChange,
) -> Result<(), UpdateDeviceError> {
    let found = of_devices(conn, [endpoint].into_iter()).await?.remove(endpoint);
    let mut attributes = found.unwrap_or_default();
    let changed = attributes.apply(change)?;
    if changed.attributes {
        write(conn, &[(endpoint, &attributes)]).await.doing(DOING)?;
    }
    if changed.tags {
        let gone = change.tags().iter().filter(|(_, value)| value.is_none());
        let gone: Vec<&str> = gone.map(|(key, _)| key.as_str()).collect();
        remove_tags(conn, endpoint, Some(&gone)).await.doing(DOING)?;
        let set = change.tags().iter();
        let set = set.filter_map(|(key, value)| Some((endpoint, key.as_str(), value.as_deref()?)));
        write_tags(conn, set).await.doing(DOING)?;
    }
    Ok(())
}
