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

/// The attributes of devices, by their endpoints, as far as these are there. `endpoints` is a JSON list.
pub(super) async fn of_devices(
    conn: &mut SqliteConnection,
    endpoints: String,
) -> Result<HashMap<String, Attributes>, StoreError> {
    let query = sqlx::query(OF_DEVICES).bind(endpoints);
    let found = Packed::fetch(query, conn, DOING).await?;
    let rows = found.rows::<(String, AttributesRow)>();
    rows.map(|row| row.map(|(endpoint, row)| (endpoint, row.into())))
        .collect()
}

/// Writes the attributes of devices that are there, without their tags.
pub(super) async fn write(
    conn: &mut SqliteConnection,
    devices: &[(String, Attributes)],
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
                .bind(endpoint.clone())
                .bind(attributes.model.clone())
                .bind(attributes.hardware.clone())
                .bind(attributes.site.clone())
                .bind(attributes.time_zone.clone())
        })
        .await
}

/// Tags as [`write_tags`] takes them, of endpoints, keys and values; nothing of none.
pub(super) fn tag_list<'t>(
    tags: impl Iterator<Item = (&'t str, &'t str, &'t str)>,
) -> Option<String> {
    let mut tags = tags.peekable();
    tags.peek().is_some().then_some(())?;
    Some(json_list(tags))
}

/// Gives devices that are there tags.
pub(super) async fn write_tags(
    conn: &mut SqliteConnection,
    tags: Option<String>,
) -> Result<(), sqlx::Error> {
    let Some(tags) = tags else { return Ok(()) };
    sqlx::query(
        "INSERT INTO device_tags (device_id, key, value) \
         SELECT d.id, j.value ->> 1, j.value ->> 2 \
         FROM json_each(?) j CROSS JOIN devices d ON d.endpoint = j.value ->> 0 WHERE true \
         ON CONFLICT (device_id, key) DO UPDATE SET value = excluded.value",
    )
    .bind(tags)
    .execute(conn)
    .await
    .map(|_| ())
}

/// Takes tags of a device away: those of the keys in a JSON list, or all.
pub(super) async fn remove_tags(
    conn: &mut SqliteConnection,
    endpoint: &str,
    keys: Option<String>,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "DELETE FROM device_tags WHERE device_id = (SELECT id FROM devices WHERE endpoint = ?1) \
         AND (?2 IS NULL OR key IN (SELECT value FROM json_each(?2)))",
    )
    .bind(endpoint)
    .bind(keys)
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
    let mut found = of_devices(conn, json_list([endpoint])).await?;
    let mut attributes = found.remove(endpoint).unwrap_or_default();
    let changed = attributes.apply(change)?;
    if changed.attributes {
        let device = (endpoint.to_owned(), attributes);
        write(conn, &[device]).await.doing(DOING)?;
    }
    if changed.tags {
        let gone = change.tags().iter().filter(|(_, value)| value.is_none());
        let gone = json_list(gone.map(|(key, _)| key));
        remove_tags(conn, endpoint, Some(gone)).await.doing(DOING)?;
        let set = change.tags().iter();
        let set = set.filter_map(|(key, value)| Some((endpoint, key.as_str(), value.as_deref()?)));
        let set = tag_list(set);
        write_tags(conn, set).await.doing(DOING)?;
    }
    Ok(())
}
