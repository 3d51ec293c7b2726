//! Homes are read.

use sqlx::{SqliteConnection, sqlite::SqliteRow};

use super::{
    Doing,
    bulk::json_list,
    packed::{Packed, packed},
    rows::{self, Columns as _},
    tenancy,
    upgrade_rows::{self, OfHomeRow},
};
use crate::{
    clock::UtcMillis,
    home::{HomeId, HomeKey, MAX_STARTED, QuietHours, Role, UserId},
    store::{
        HomeDeviceRecord, HomeRecord, HomeUpgrade, MemberRecord, PutHome, StoreError, WaitingStart,
    },
};

pub(super) const READING: &str = "reading a home";

/// A home and its number.
pub(super) struct HomeRow {
    pub(super) id: i64,
    pub(super) record: HomeRecord,
}

impl HomeRow {
    /// Whether it is so already, besides its members and devices.
    pub(super) fn is_like(&self, home: &PutHome) -> bool {
        let HomeRecord {
            name, zone, quiet, ..
        } = &self.record;
        (name, zone, quiet) == (&home.name, &home.zone, &home.quiet)
    }
}

pub(super) async fn read(
    conn: &mut SqliteConnection,
    key: &HomeKey,
) -> Result<Option<HomeRow>, StoreError> {
    let row = sqlx::query("SELECT * FROM homes WHERE tenant = ? AND home = ?")
        .bind(key.tenant.as_str())
        .bind(key.id.as_str())
        .fetch_optional(conn)
        .await
        .doing(READING)?;
    let row = row.as_ref().map(record).transpose()?;
    Ok(row.map(|record| HomeRow {
        id: record.number,
        record,
    }))
}

pub(super) fn record(row: &SqliteRow) -> Result<HomeRecord, StoreError> {
    let (from, to) = (row.maybe_int("quiet_from")?, row.maybe_int("quiet_to")?);
    Ok(HomeRecord {
        number: row.int("id")?,
        key: key(row)?,
        name: row.value("name")?,
        zone: row.value("zone")?,
        quiet: from
            .zip(to)
            .and_then(|(from, to)| QuietHours::new(from, to)),
        members: row.int("members")?,
        devices: row.int("devices")?,
        created_at: row.time("created_at")?,
        revision: row.int("revision")?,
    })
}

/// Of the columns `tenant` and `home`.
pub(super) fn key(row: &SqliteRow) -> Result<HomeKey, StoreError> {
    let home: String = row.value("home")?;
    let id: Result<HomeId, _> = home.parse();
    Ok(HomeKey {
        tenant: tenancy::id(row, "tenant")?,
        id: id.map_err(|error| rows::unreadable("homes.home", error))?,
    })
}

/// Everybody who is in it, by their names.
pub(super) async fn members(
    conn: &mut SqliteConnection,
    id: i64,
) -> Result<Vec<MemberRecord>, StoreError> {
    let found = sqlx::query(
        "SELECT user, role, added_at FROM home_members WHERE home_id = ? ORDER BY user",
    )
    .bind(id)
    .fetch_all(conn)
    .await
    .doing(READING)?;
    let member = |row: &SqliteRow| {
        Ok(MemberRecord {
            user: user(row)?,
            role: role(row)?,
            added_at: row.time("added_at")?,
        })
    };
    found.iter().map(member).collect()
}

pub(super) fn user(row: &SqliteRow) -> Result<UserId, StoreError> {
    let text: String = row.value("user")?;
    text.parse()
        .map_err(|error| rows::unreadable("user", error))
}

pub(super) fn role(row: &SqliteRow) -> Result<Role, StoreError> {
    let code: i64 = row.int("role")?;
    Role::from_code(code).ok_or_else(|| rows::unreadable("home_members.role", code))
}

/// The devices that are in it, or that one alone, by their endpoint names.
pub(super) async fn devices(
    conn: &mut SqliteConnection,
    id: i64,
    endpoint: Option<&str>,
) -> Result<Vec<HomeDeviceRecord>, StoreError> {
    let query = match endpoint {
        None => sqlx::query("SELECT * FROM home_devices WHERE home_id = ? ORDER BY endpoint"),
        Some(_) => sqlx::query("SELECT * FROM home_devices WHERE home_id = ? AND endpoint = ?"),
    };
    let mut query = query.bind(id);
    if let Some(endpoint) = endpoint {
        query = query.bind(endpoint.to_owned());
    }
    let found = query.fetch_all(conn).await.doing(READING)?;
    found.iter().map(device).collect()
}

fn device(row: &SqliteRow) -> Result<HomeDeviceRecord, StoreError> {
    Ok(HomeDeviceRecord {
        endpoint: row.value("endpoint")?,
        name: row.value("name")?,
        icon: row.value("icon")?,
        automatic: row.int::<i64>("automatic")? != 0,
        added_at: row.time("added_at")?,
    })
}

/// Of each of these devices what runs, what waits, and what has ended last: the numbers of upgrades.
pub(super) const OF_DEVICES: &str = packed!(
    "SELECT u.id AS line FROM json_each(?1) j \
         CROSS JOIN upgrades u INDEXED BY upgrades_running_on ON u.endpoint = j.value AND u.phase = 1 \
     UNION ALL \
     SELECT u.id FROM json_each(?1) j \
         CROSS JOIN upgrades u INDEXED BY upgrades_waiting_on ON u.endpoint = j.value AND u.phase = 0 \
     UNION ALL \
     SELECT (SELECT u.id FROM upgrades u INDEXED BY upgrades_of_device WHERE u.endpoint = j.value AND u.phase = 2 \
         AND u.created_at >= i.added_at ORDER BY u.id DESC LIMIT 1) \
     FROM json_each(?1) j CROSS JOIN home_devices i ON i.endpoint = j.value"
);

/// What is open on some devices, oldest first, and what has ended last of each since it is in its home.
pub(super) async fn upgrades(
    conn: &mut SqliteConnection,
    endpoints: &str,
) -> Result<Vec<HomeUpgrade>, StoreError> {
    let query = sqlx::query(OF_DEVICES).bind(endpoints.to_owned());
    let found = Packed::fetch(query, &mut *conn, READING).await?;
    let ids: Vec<i64> = found.rows::<i64>().collect::<Result<_, _>>()?;
    let query = sqlx::query(upgrade_rows::OF_HOME).bind(json_list(ids));
    let found = Packed::fetch(query, conn, READING).await?;
    let upgrades = found.rows::<OfHomeRow>();
    upgrades
        .map(|row| row.and_then(OfHomeRow::upgrade))
        .collect()
}

/// Keeps so many of them.
pub(super) fn open(upgrades: Vec<HomeUpgrade>) -> Vec<HomeUpgrade> {
    upgrades.into_iter().take(MAX_STARTED).collect()
}

/// Starts on some devices that wait for the user's word at `now`, each with its device.
pub(super) async fn waiting(
    conn: &mut SqliteConnection,
    endpoints: &str,
    now: UtcMillis,
) -> Result<Vec<(String, WaitingStart)>, StoreError> {
    let found = sqlx::query(
        "SELECT s.endpoint, s.offers, s.at, s.until FROM json_each(?) j \
             CROSS JOIN app_starts s INDEXED BY app_starts_waiting ON s.endpoint = j.value \
             CROSS JOIN home_devices i ON i.endpoint = s.endpoint AND i.home_id = s.home_id \
         WHERE s.state = 'waiting' AND s.until > ?",
    )
    .bind(endpoints)
    .bind(now.0)
    .fetch_all(conn)
    .await
    .doing(READING)?;
    let start = |row: &SqliteRow| {
        let start = WaitingStart {
            offers: rows::from_json(row, "offers")?.unwrap_or_default(),
            since: row.time("at")?,
            until: row.time("until")?,
        };
        Ok((row.value("endpoint")?, start))
    };
    found.iter().map(start).collect()
}
