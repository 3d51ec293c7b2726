//! Gateways, and the devices that are reached through them.

use std::collections::HashMap;

use sqlx::{FromRow, SqliteConnection, SqlitePool};

use super::{Doing, bulk::json_list, credentials, sites};
use crate::{
    ledger::{Relative, Via, ViaError, check_via},
    store::{StoreError, UpdateDeviceError},
};

const DOING: &str = "looking at gateways";
/// Rows of gateways whose limit was taken away.
const CLEARED_AT_MOST: i64 = 20_000;

/// How a device is reached: `by_gateway` says that it has no connection over MQTT of its own.
pub(super) fn via(by_gateway: bool, via: Option<String>) -> Via {
    if by_gateway || via.is_some() {
        Via::Gateway(via)
    } else {
        Via::Itself
    }
}

#[derive(FromRow)]
struct RelativeRow {
    endpoint: String,
    tenant: String,
    protocol: String,
    by_gateway: bool,
    via: Option<String>,
    children: i64,
}

impl RelativeRow {
    fn relative(self) -> Result<(String, Relative), StoreError> {
        let relative = Relative {
            tenant: self.tenant,
            protocol: credentials::protocol(&self.protocol)?,
            via: via(self.by_gateway, self.via),
            children: u64::try_from(self.children).unwrap_or(0), // a count
        };
        Ok((self.endpoint, relative))
    }
}

/// Those of the devices that are there, by their names.
pub(super) async fn relatives(
    conn: &mut SqliteConnection,
    endpoints: Vec<String>,
) -> Result<HashMap<String, Relative>, StoreError> {
    if endpoints.is_empty() {
        return Ok(HashMap::new());
    }
    let rows: Vec<RelativeRow> = sqlx::query_as(
        "SELECT d.endpoint, d.tenant, d.protocol, d.mqtt_credential IS 'gateway' AS by_gateway, d.via, \
             (SELECT COUNT(*) FROM devices c INDEXED BY devices_by_gateway WHERE c.via = d.endpoint) AS children \
         FROM devices d WHERE d.removed = 0 AND d.endpoint IN (SELECT j.value FROM json_each(?) j)",
    )
    .bind(json_list(endpoints))
    .fetch_all(conn)
    .await
    .doing(DOING)?;
    rows.into_iter().map(RelativeRow::relative).collect()
}

/// How many devices are reached through the gateway, and the first of them.
pub(super) async fn children(
    readers: &SqlitePool,
    gateway: &str,
    limit: u32,
) -> Result<(u64, Vec<String>), StoreError> {
    let total: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM devices INDEXED BY devices_by_gateway WHERE via = ?",
    )
    .bind(gateway)
    .fetch_one(readers)
    .await
    .doing(DOING)?;
    let first = sqlx::query_scalar(
        "SELECT endpoint FROM devices INDEXED BY devices_by_gateway WHERE via = ? ORDER BY endpoint LIMIT ?",
    )
    .bind(gateway)
    .bind(limit)
    .fetch_all(readers)
    .await
    .doing(DOING)?;
    Ok((u64::try_from(total).unwrap_or(0), first)) // a count
}

/// The device is reached through that gateway from now on, or by itself.
pub(super) async fn set(
    conn: &mut SqliteConnection,
    endpoint: &str,
    via: Option<&str>,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE devices SET via = ? WHERE endpoint = ?")
        .bind(via)
        .bind(endpoint)
        .execute(conn)
        .await
        .map(drop)
}

/// So many devices of that gateway may upgrade at once from now on; `None`: as many as its product says, or as of any.
pub(super) async fn limit(
    conn: &mut SqliteConnection,
    endpoint: &str,
    most: Option<u32>,
) -> Result<(), sqlx::Error> {
    let revision = sites::next_revision(conn).await?;
    let statement = if most.is_some() {
        "INSERT INTO gateway_limits (most, revision, endpoint) VALUES (?, ?, ?) \
         ON CONFLICT (endpoint) DO UPDATE SET most = excluded.most, revision = excluded.revision"
    } else {
        "UPDATE gateway_limits SET most = ?, revision = ? WHERE endpoint = ? AND most IS NOT NULL"
    };
    sqlx::query(statement)
        .bind(most)
        .bind(revision)
        .bind(endpoint)
        .execute(&mut *conn)
        .await?;
    // whoever follows the changes has seen these long ago
    sqlx::query("DELETE FROM gateway_limits WHERE most IS NULL AND revision < ?")
        .bind(revision - CLEARED_AT_MOST)
        .execute(conn)
        .await
        .map(drop)
}

/// Whether a device that was changed may stand to its relatives as it does.
pub(super) async fn check(
    conn: &mut SqliteConnection,
    endpoint: &str,
) -> Result<(), UpdateDeviceError> {
    let refused = |error| UpdateDeviceError::Via {
        endpoint: endpoint.to_owned(),
        error,
    };
    let mut found = relatives(conn, vec![endpoint.to_owned()]).await?;
    let Some(device) = found.remove(endpoint) else {
        return Ok(());
    };
    if let Some(gateway) = device.via.gateway() {
        let mut found = relatives(conn, vec![gateway.to_owned()]).await?;
        let mut its = found.remove(gateway);
        if let Some(its) = &mut its {
            // it is among them already
            its.children = its.children.saturating_sub(1);
        }
        // what it shows says whether it has a connection of its own
        let own: bool = sqlx::query_scalar(
            "SELECT mqtt_credential IS NOT NULL AND mqtt_credential <> 'gateway' FROM devices WHERE endpoint = ?",
        )
        .bind(endpoint)
        .fetch_one(&mut *conn)
        .await
        .doing(DOING)?;
        if own {
            return Err(refused(ViaError::OwnConnection));
        }
        check_via((endpoint, &device), (gateway, its.as_ref())).map_err(refused)?;
    }
    if device.children == 0 {
        return Ok(());
    }
    let others: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM devices INDEXED BY devices_by_gateway \
             WHERE via = ? AND (tenant <> ? OR protocol <> ?))",
    )
    .bind(endpoint)
    .bind(&device.tenant)
    .bind(device.protocol.name())
    .fetch_one(conn)
    .await
    .doing(DOING)?;
    if others || device.via != Via::Itself || device.protocol.tells_by_itself() {
        return Err(refused(ViaError::ChildrenStay(device.children)));
    }
    Ok(())
}

/// Refuses to remove a gateway while others are reached through it.
pub(super) async fn check_none_left(
    conn: &mut SqliteConnection,
    endpoint: &str,
) -> Result<(), UpdateDeviceError> {
    let found = relatives(conn, vec![endpoint.to_owned()]).await?;
    match found.get(endpoint).map(|it| it.children) {
        None | Some(0) => Ok(()),
        Some(children) => Err(UpdateDeviceError::HasChildren {
            endpoint: endpoint.to_owned(),
            children,
        }),
    }
}
