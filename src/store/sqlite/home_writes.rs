//! Homes are put: what of them is other than it was is written.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use sqlx::SqliteConnection;

use super::{
    Doing,
    bulk::json_list,
    home_rows::{self, HomeRow},
    marker::Marker,
    rows,
};
use crate::{
    clock::UtcMillis,
    home::{HomeKey, MAX_HOME_DEVICES, MAX_MEMBERS, QuietHours, Role, UserId, UserKey},
    store::{HomeDeviceRecord, HomeError, HomePut, MAX_HOMES, PutHome, PutHomeDevice, StoreError},
    tenant::TenantId,
};

pub(super) const PUTTING: &str = "putting a home";

/// How many homes may be added still, by tenant: counted when the first is added, because that takes a look at all that there are.
#[derive(Default)]
pub(super) struct Rooms(HashMap<TenantId, u32>);

impl Rooms {
    /// Takes the room of one home.
    async fn take(
        &mut self,
        conn: &mut SqliteConnection,
        tenant: &TenantId,
    ) -> Result<(), HomeError> {
        let room = match self.0.get(tenant) {
            Some(room) => *room,
            None => MAX_HOMES.saturating_sub(count(conn, tenant).await?),
        };
        let rest = room.checked_sub(1).ok_or(HomeError::TooMany)?;
        self.0.insert(tenant.clone(), rest);
        Ok(())
    }
}

/// Homes of a tenant, as far as they matter to whether there is room for another one.
async fn count(conn: &mut SqliteConnection, tenant: &TenantId) -> Result<u32, StoreError> {
    sqlx::query_scalar("SELECT COUNT(*) FROM homes WHERE tenant = ?")
        .bind(tenant.as_str())
        .fetch_one(conn)
        .await
        .doing(PUTTING)
}

/// Puts a home: nothing is written where it is refused.
pub(super) async fn put(
    conn: &mut SqliteConnection,
    home: &PutHome,
    seen: Option<i64>,
    (rooms, marker): (&mut Rooms, &Marker),
    now: UtcMillis,
) -> Result<HomePut, HomeError> {
    let known = home_rows::read(conn, &home.key).await?;
    check_seen(&home.key, known.as_ref(), seen)?;
    check_sizes(home)?;
    let id = known.as_ref().map(|home| home.id);
    if let Some(devices) = &home.devices {
        check_devices(conn, (&home.key, id), devices).await?;
    }
    if known.is_none() {
        rooms.take(conn, &home.key.tenant).await?;
    }
    let (id, mut changed) = match &known {
        Some(known) => (known.id, !known.is_like(home)),
        None => (insert(conn, home, now).await.doing(PUTTING)?, true),
    };
    let fresh = known.is_none();
    if let Some(members) = &home.members {
        let members = Wanted {
            id,
            fresh,
            all: members,
        };
        changed |= put_members(conn, (&home.key, marker), &members, now).await?;
    }
    if let Some(devices) = &home.devices {
        let devices = Wanted {
            id,
            fresh,
            all: devices,
        };
        changed |= put_devices(conn, &devices, now).await?;
    }
    if known.is_some() && changed {
        update(conn, id, home, now).await.doing(PUTTING)?;
    }
    Ok(match (known.is_some(), changed) {
        (false, _) => HomePut::Added,
        (true, true) => HomePut::Changed,
        (true, false) => HomePut::Unchanged,
    })
}

/// Whether the home is as it was seen.
pub(super) fn check_seen(
    key: &HomeKey,
    known: Option<&HomeRow>,
    seen: Option<i64>,
) -> Result<(), HomeError> {
    let revision = known.map_or(0, |home| home.record.revision);
    if seen.is_none_or(|seen| seen == revision) {
        return Ok(());
    }
    let home = key.id.to_string();
    Err(HomeError::Changed { home, revision })
}

fn check_sizes(home: &PutHome) -> Result<(), HomeError> {
    if (home.members.as_ref()).is_some_and(|members| members.len() > MAX_MEMBERS) {
        return Err(HomeError::TooManyMembers);
    }
    if (home.devices.as_ref()).is_some_and(|devices| devices.len() > MAX_HOME_DEVICES) {
        return Err(HomeError::TooManyDevices);
    }
    Ok(())
}

/// Whether the tenant has these devices, and none is in another home.
pub(super) async fn check_devices(
    conn: &mut SqliteConnection,
    (key, id): (&HomeKey, Option<i64>),
    devices: &[PutHomeDevice],
) -> Result<(), HomeError> {
    let names = json_list(devices.iter().map(|device| &device.endpoint));
    let wrong: Option<(String, Option<String>)> = sqlx::query_as(
        "SELECT j.value, h.home FROM json_each(?1) j \
             LEFT JOIN devices d ON d.endpoint = j.value AND d.removed = 0 AND d.tenant = ?2 \
             LEFT JOIN home_devices i ON i.endpoint = d.endpoint LEFT JOIN homes h ON h.id = i.home_id \
         WHERE d.endpoint IS NULL OR i.home_id <> COALESCE(?3, 0) LIMIT 1",
    )
    .bind(names)
    .bind(key.tenant.as_str())
    .bind(id)
    .fetch_optional(conn)
    .await
    .doing(PUTTING)?;
    match wrong {
        None => Ok(()),
        Some((endpoint, Some(home))) => Err(HomeError::Elsewhere { endpoint, home }),
        Some((endpoint, None)) => Err(HomeError::UnknownDevice(endpoint)),
    }
}

async fn insert(
    conn: &mut SqliteConnection,
    home: &PutHome,
    now: UtcMillis,
) -> Result<i64, sqlx::Error> {
    let quiet = home.quiet.map(QuietHours::minutes);
    sqlx::query_scalar(
        "INSERT INTO homes (tenant, home, name, zone, quiet_from, quiet_to, created_at, revision) \
         VALUES (?, ?, ?, ?, ?, ?, ?7, ?7) RETURNING id",
    )
    .bind(home.key.tenant.as_str())
    .bind(home.key.id.as_str())
    .bind(&home.name)
    .bind(&home.zone)
    .bind(quiet.map(|quiet| quiet.0))
    .bind(quiet.map(|quiet| quiet.1))
    .bind(now.0)
    .fetch_one(conn)
    .await
}

async fn update(
    conn: &mut SqliteConnection,
    id: i64,
    home: &PutHome,
    now: UtcMillis,
) -> Result<(), sqlx::Error> {
    let quiet = home.quiet.map(QuietHours::minutes);
    sqlx::query(
        "UPDATE homes SET name = ?, zone = ?, quiet_from = ?, quiet_to = ?, revision = MAX(revision + 1, ?) WHERE id = ?",
    )
    .bind(&home.name)
    .bind(&home.zone)
    .bind(quiet.map(|quiet| quiet.0))
    .bind(quiet.map(|quiet| quiet.1))
    .bind(now.0)
    .bind(id)
    .execute(conn)
    .await
    .map(|_| ())
}

/// The home has another revision.
pub(super) async fn touch(
    conn: &mut SqliteConnection,
    id: i64,
    now: UtcMillis,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE homes SET revision = MAX(revision + 1, ?) WHERE id = ?")
        .bind(now.0)
        .bind(id)
        .execute(conn)
        .await
        .map(|_| ())
}

/// What is to be in a home.
struct Wanted<'w, T> {
    /// The number of the home.
    id: i64,
    /// Nothing is in it yet.
    fresh: bool,
    all: &'w [T],
}

/// Has these be in it, and nobody else. Returns whether anything is other.
async fn put_members(
    conn: &mut SqliteConnection,
    (key, marker): (&HomeKey, &Marker),
    members: &Wanted<'_, (UserId, Role)>,
    now: UtcMillis,
) -> Result<bool, StoreError> {
    let before = if members.fresh {
        Vec::new()
    } else {
        home_rows::members(conn, members.id).await?
    };
    let before: BTreeMap<&UserId, Role> = (before.iter())
        .map(|member| (&member.user, member.role))
        .collect();
    let wanted: BTreeMap<&UserId, Role> = (members.all.iter())
        .map(|(user, role)| (user, *role))
        .collect();
    if before == wanted {
        return Ok(false);
    }
    let gone = before.keys().filter(|user| !wanted.contains_key(*user));
    let gone: Vec<&str> = gone.map(|user| user.as_str()).collect();
    if !gone.is_empty() {
        sqlx::query(
            "DELETE FROM home_members WHERE home_id = ? AND user IN (SELECT value FROM json_each(?))",
        )
        .bind(members.id)
        .bind(json_list(gone))
        .execute(&mut *conn)
        .await
        .doing(PUTTING)?;
    }
    let other = (wanted.into_iter()).filter(|(user, role)| before.get(user) != Some(role));
    let other: Vec<(&UserId, Role)> = other.collect();
    insert_members(conn, (members.id, key), marker, &other, now).await?;
    Ok(true)
}

/// Has some be in it, each as that.
pub(super) async fn insert_members(
    conn: &mut SqliteConnection,
    (id, key): (i64, &HomeKey),
    marker: &Marker,
    members: &[(&UserId, Role)],
    now: UtcMillis,
) -> Result<(), StoreError> {
    let mut told = Vec::with_capacity(members.len());
    for (user, role) in members {
        let whole = UserKey {
            tenant: key.tenant.clone(),
            id: (*user).clone(),
        };
        told.push((user.as_str(), marker.mark(&whole)?, role.code()));
    }
    sqlx::query(
        "INSERT INTO home_members (home_id, user, tenant, mark, role, added_at) \
         SELECT ?1, j.value ->> 0, ?2, j.value ->> 1, j.value ->> 2, ?3 FROM json_each(?4) j WHERE true \
         ON CONFLICT (home_id, user) DO UPDATE SET role = excluded.role",
    )
    .bind(id)
    .bind(key.tenant.as_str())
    .bind(now.0)
    .bind(rows::json(&told))
    .execute(conn)
    .await
    .doing(PUTTING)
    .map(|_| ())
}

/// Has these be in it, and no others. Returns whether anything is other.
async fn put_devices(
    conn: &mut SqliteConnection,
    devices: &Wanted<'_, PutHomeDevice>,
    now: UtcMillis,
) -> Result<bool, StoreError> {
    let before = if devices.fresh {
        Vec::new()
    } else {
        home_rows::devices(conn, devices.id, None).await?
    };
    let wanted: BTreeSet<&str> = (devices.all.iter())
        .map(|device| device.endpoint.as_str())
        .collect();
    let gone: Vec<&str> = (before.iter())
        .map(|device| device.endpoint.as_str())
        .filter(|endpoint| !wanted.contains(endpoint))
        .collect();
    let mut changed = !gone.is_empty();
    if changed {
        sqlx::query(
            "DELETE FROM home_devices WHERE home_id = ? AND endpoint IN (SELECT value FROM json_each(?))",
        )
        .bind(devices.id)
        .bind(json_list(gone))
        .execute(&mut *conn)
        .await
        .doing(PUTTING)?;
    }
    let is_so = |device: &PutHomeDevice| {
        let looks =
            |known: &HomeDeviceRecord| (&known.name, &known.icon) == (&device.name, &device.icon);
        let mut there = before.iter();
        there.any(|known| known.endpoint == device.endpoint && looks(known))
    };
    let other: Vec<&PutHomeDevice> = devices.all.iter().filter(|it| !is_so(it)).collect();
    if !other.is_empty() {
        insert_devices(conn, devices.id, &other, now)
            .await
            .doing(PUTTING)?;
        changed = true;
    }
    Ok(changed)
}

/// Has devices be in it. They are in no other.
pub(super) async fn insert_devices(
    conn: &mut SqliteConnection,
    id: i64,
    devices: &[&PutHomeDevice],
    now: UtcMillis,
) -> Result<(), sqlx::Error> {
    let told = devices.iter().map(|it| (&it.endpoint, &it.name, &it.icon));
    let told: Vec<_> = told.collect();
    sqlx::query(
        "INSERT INTO home_devices (endpoint, home_id, name, icon, added_at) \
         SELECT j.value ->> 0, ?1, j.value ->> 1, j.value ->> 2, ?2 FROM json_each(?3) j WHERE true \
         ON CONFLICT (endpoint) DO UPDATE SET name = excluded.name, icon = excluded.icon",
    )
    .bind(id)
    .bind(now.0)
    .bind(rows::json(&told))
    .execute(conn)
    .await
    .map(|_| ())
}
