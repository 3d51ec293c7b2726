//! End users' homes: who is in them, and which devices.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use sqlx::SqliteConnection;

use super::{
    Doing, SqliteStore,
    bulk::json_list,
    home_rows::{self, HomeRow, READING},
    home_writes::{self, PUTTING, Rooms},
    marker::{self, Marker},
    packed::Packed,
    rows, tenancy,
    upgrade_rows::{self, OfHomeRow},
    watched::Table,
};
use crate::{
    clock::UtcMillis,
    home::{HomeKey, MAX_HOME_DEVICES, MAX_MEMBERS, Role, UserId, UserKey},
    ledger::UpgradeId,
    store::{
        HomeDevice, HomeDeviceRecord, HomeError, HomePut, HomeRecord, HomeUpgrade, Homes,
        MAX_HOMES_OF_USER, MemberRecord, Page, PutHome, PutHomeDevice, StoreError,
    },
    tenant::TenantId,
};

/// Homes that are put in one transaction, for which all other writers wait.
const HOMES_AT_ONCE: usize = 200;

#[async_trait]
impl Homes for SqliteStore {
    async fn put_home(
        &self,
        home: &PutHome,
        seen: Option<i64>,
        now: UtcMillis,
    ) -> Result<(HomeRecord, HomePut), HomeError> {
        let mut tx = self.write(PUTTING).await?;
        tenancy::check(&mut tx, &home.key.tenant).await?;
        tx.watch(Table::Homes, home.key.text())
            .await
            .doing(PUTTING)?;
        let mut rooms = Rooms::default();
        let marker = Marker::read(&mut tx).await?;
        let put = home_writes::put(&mut tx, home, seen, (&mut rooms, &marker), now).await?;
        let record = known(&mut tx, &home.key).await?.record;
        if put != HomePut::Unchanged {
            tx.commit().await.doing(PUTTING)?;
        }
        Ok((record, put))
    }

    async fn put_homes(
        &self,
        homes: &[PutHome],
        now: UtcMillis,
    ) -> Result<Vec<Result<HomePut, HomeError>>, StoreError> {
        let mut answers = Vec::with_capacity(homes.len());
        let mut parts = homes.chunks(HOMES_AT_ONCE).peekable();
        while let Some(part) = parts.next() {
            let mut tx = self.write(PUTTING).await?;
            let marker = Marker::read(&mut tx).await?;
            let mut rooms = Rooms::default();
            let mut tenants = HashSet::new();
            let mut written = 0;
            for home in part {
                let tenant = &home.key.tenant;
                if tenants.insert(tenant) {
                    tenancy::check(&mut tx, tenant).await?;
                }
                let put =
                    match home_writes::put(&mut tx, home, None, (&mut rooms, &marker), now).await {
                        Err(HomeError::Store(error)) => return Err(error),
                        put => put,
                    };
                written += u64::from(matches!(put, Ok(HomePut::Added | HomePut::Changed)));
                answers.push(put);
            }
            tx.count("homes", written);
            if parts.peek().is_some() {
                tx.commit_part().await.doing(PUTTING)?;
            } else {
                tx.commit().await.doing(PUTTING)?;
            }
        }
        Ok(answers)
    }

    async fn delete_home(&self, home: &HomeKey, seen: Option<i64>) -> Result<(), HomeError> {
        let doing = "deleting a home";
        let mut tx = self.write(doing).await?;
        tx.watch(Table::Homes, home.text()).await.doing(doing)?;
        let known = known(&mut tx, home).await?;
        home_writes::check_seen(home, Some(&known), seen)?;
        // what waits there waits no more
        sqlx::query(
            "UPDATE app_starts SET state = 'cancelled' WHERE home_id = ? AND state = 'waiting'",
        )
        .bind(known.id)
        .execute(&mut *tx)
        .await
        .doing(doing)?;
        sqlx::query("DELETE FROM homes WHERE id = ?")
            .bind(known.id)
            .execute(&mut *tx)
            .await
            .doing(doing)?;
        tx.commit().await.doing(doing)?;
        Ok(())
    }

    async fn home(&self, home: &HomeKey) -> Result<Option<HomeRecord>, StoreError> {
        let mut reader = self.readers.acquire().await.doing(READING)?;
        let found = home_rows::read(&mut reader, home).await?;
        Ok(found.map(|home| home.record))
    }

    async fn homes(
        &self,
        tenants: Option<&[TenantId]>,
        before: Option<i64>,
        limit: u32,
    ) -> Result<Page<HomeRecord>, StoreError> {
        let doing = "listing homes";
        let before = before.unwrap_or(i64::MAX);
        let Some(tenants) = tenants else {
            let found = sqlx::query("SELECT * FROM homes WHERE id < ? ORDER BY id DESC LIMIT ?")
                .bind(before)
                .bind(rows::one_more(limit))
                .fetch_all(&self.readers)
                .await
                .doing(doing)?;
            return rows::page(&found, limit, home_rows::record);
        };
        let mut found = Vec::new();
        for tenant in tenants {
            let rows = sqlx::query(
                "SELECT * FROM homes WHERE tenant = ? AND id < ? ORDER BY id DESC LIMIT ?",
            )
            .bind(tenant.as_str())
            .bind(before)
            .bind(rows::one_more(limit))
            .fetch_all(&self.readers)
            .await
            .doing(doing)?;
            found.extend(
                (rows.iter().map(home_rows::record)).collect::<Result<Vec<_>, StoreError>>()?,
            );
        }
        Ok(tenancy::newest(found, |home| home.number, limit))
    }

    async fn homes_of(&self, user: &UserKey) -> Result<Vec<(HomeRecord, Role)>, StoreError> {
        let mut reader = self.readers.acquire().await.doing(READING)?;
        of_user(&mut reader, user).await
    }

    async fn role_in(&self, home: &HomeKey, user: &UserId) -> Result<Option<Role>, StoreError> {
        let found = sqlx::query(
            "SELECT m.role FROM homes h CROSS JOIN home_members m ON m.home_id = h.id \
             WHERE h.tenant = ? AND h.home = ? AND m.user = ?",
        )
        .bind(home.tenant.as_str())
        .bind(home.id.as_str())
        .bind(user.as_str())
        .fetch_optional(&self.readers)
        .await
        .doing(READING)?;
        found.as_ref().map(home_rows::role).transpose()
    }

    async fn members(&self, home: &HomeKey) -> Result<Vec<MemberRecord>, StoreError> {
        let mut reader = self.readers.acquire().await.doing(READING)?;
        match home_rows::read(&mut reader, home).await? {
            Some(home) => home_rows::members(&mut reader, home.id).await,
            None => Ok(Vec::new()),
        }
    }

    async fn put_member(
        &self,
        home: &HomeKey,
        user: &UserId,
        role: Role,
        now: UtcMillis,
    ) -> Result<MemberRecord, HomeError> {
        let mut tx = self.write(PUTTING).await?;
        let known = known(&mut tx, home).await?;
        let watched = member_text(&mut tx, home, user).await?;
        tx.watch(Table::HomeMembers, watched).await.doing(PUTTING)?;
        let before = member(&mut tx, known.id, user).await?;
        if let Some(before) = before.as_ref().filter(|before| before.role == role) {
            return Ok(before.clone());
        }
        if before.is_none() && known.record.members as usize >= MAX_MEMBERS {
            return Err(HomeError::TooManyMembers);
        }
        let marker = Marker::read(&mut tx).await?;
        let members = [(user, role)];
        home_writes::insert_members(&mut tx, (known.id, home), &marker, &members, now).await?;
        home_writes::touch(&mut tx, known.id, now)
            .await
            .doing(PUTTING)?;
        let record = member(&mut tx, known.id, user).await?;
        tx.commit().await.doing(PUTTING)?;
        record.ok_or_else(|| no_member(home))
    }

    async fn remove_member(&self, home: &HomeKey, user: &UserId) -> Result<(), HomeError> {
        let mut tx = self.write(PUTTING).await?;
        let known = known(&mut tx, home).await?;
        let watched = member_text(&mut tx, home, user).await?;
        tx.watch(Table::HomeMembers, watched).await.doing(PUTTING)?;
        let removed = sqlx::query("DELETE FROM home_members WHERE home_id = ? AND user = ?")
            .bind(known.id)
            .bind(user.as_str())
            .execute(&mut *tx)
            .await
            .doing(PUTTING)?;
        if removed.rows_affected() == 0 {
            return Err(no_member(home));
        }
        home_writes::touch(&mut tx, known.id, UtcMillis(0))
            .await
            .doing(PUTTING)?;
        tx.commit().await.doing(PUTTING)?;
        Ok(())
    }

    async fn devices_in(&self, home: &HomeKey) -> Result<Vec<HomeDeviceRecord>, StoreError> {
        let mut reader = self.readers.acquire().await.doing(READING)?;
        match home_rows::read(&mut reader, home).await? {
            Some(home) => home_rows::devices(&mut reader, home.id, None).await,
            None => Ok(Vec::new()),
        }
    }

    async fn put_in_home(
        &self,
        home: &HomeKey,
        device: &PutHomeDevice,
        now: UtcMillis,
    ) -> Result<HomeDeviceRecord, HomeError> {
        let mut tx = self.write(PUTTING).await?;
        let known = known(&mut tx, home).await?;
        tx.watch(Table::HomeDevices, home.device_text(&device.endpoint))
            .await
            .doing(PUTTING)?;
        let one = std::slice::from_ref(device);
        home_writes::check_devices(&mut tx, (home, Some(known.id)), one).await?;
        match one_device(&mut tx, &known, &device.endpoint).await {
            Ok(before) if (&before.name, &before.icon) == (&device.name, &device.icon) => {
                return Ok(before);
            }
            Err(HomeError::NoDevice { .. })
                if known.record.devices as usize >= MAX_HOME_DEVICES =>
            {
                return Err(HomeError::TooManyDevices);
            }
            Ok(_) | Err(HomeError::NoDevice { .. }) => {}
            Err(error) => return Err(error),
        }
        home_writes::insert_devices(&mut tx, known.id, &[device], now)
            .await
            .doing(PUTTING)?;
        home_writes::touch(&mut tx, known.id, now)
            .await
            .doing(PUTTING)?;
        let record = one_device(&mut tx, &known, &device.endpoint).await?;
        tx.commit().await.doing(PUTTING)?;
        Ok(record)
    }

    async fn take_from_home(&self, home: &HomeKey, endpoint: &str) -> Result<(), HomeError> {
        let mut tx = self.write(PUTTING).await?;
        let known = known(&mut tx, home).await?;
        tx.watch(Table::HomeDevices, home.device_text(endpoint))
            .await
            .doing(PUTTING)?;
        one_device(&mut tx, &known, endpoint).await?;
        sqlx::query("DELETE FROM home_devices WHERE endpoint = ?")
            .bind(endpoint)
            .execute(&mut *tx)
            .await
            .doing(PUTTING)?;
        tx.commit().await.doing(PUTTING)?;
        Ok(())
    }

    async fn set_automatic(
        &self,
        home: &HomeKey,
        endpoint: &str,
        on: bool,
    ) -> Result<HomeDeviceRecord, HomeError> {
        let mut tx = self.write(PUTTING).await?;
        let known = known(&mut tx, home).await?;
        tx.watch(Table::HomeDevices, home.device_text(endpoint))
            .await
            .doing(PUTTING)?;
        let before = one_device(&mut tx, &known, endpoint).await?;
        if before.automatic == on {
            return Ok(before);
        }
        sqlx::query("UPDATE home_devices SET automatic = ? WHERE endpoint = ?")
            .bind(on)
            .bind(endpoint)
            .execute(&mut *tx)
            .await
            .doing(PUTTING)?;
        home_writes::touch(&mut tx, known.id, UtcMillis(0))
            .await
            .doing(PUTTING)?;
        let record = one_device(&mut tx, &known, endpoint).await?;
        tx.commit().await.doing(PUTTING)?;
        Ok(record)
    }

    async fn home_of(
        &self,
        tenant: &TenantId,
        endpoint: &str,
    ) -> Result<Option<HomeKey>, StoreError> {
        let found = sqlx::query(
            "SELECT h.tenant, h.home FROM home_devices i CROSS JOIN homes h ON h.id = i.home_id \
             WHERE i.endpoint = ? AND h.tenant = ?",
        )
        .bind(endpoint)
        .bind(tenant.as_str())
        .fetch_optional(&self.readers)
        .await
        .doing(READING)?;
        found.as_ref().map(home_rows::key).transpose()
    }

    async fn home_devices(
        &self,
        home: &HomeKey,
        endpoint: Option<&str>,
        now: UtcMillis,
    ) -> Result<Vec<HomeDevice>, StoreError> {
        let mut reader = self.readers.begin().await.doing(READING)?;
        let Some(home) = home_rows::read(&mut reader, home).await? else {
            return Ok(Vec::new());
        };
        let here = home_rows::devices(&mut reader, home.id, endpoint).await?;
        let endpoints: Vec<String> = here.iter().map(|it| it.endpoint.clone()).collect();
        if endpoints.is_empty() {
            return Ok(Vec::new());
        }
        let names = json_list(&endpoints);
        let upgrades = home_rows::upgrades(&mut reader, &names).await?;
        let waiting = home_rows::waiting(&mut reader, &names, now).await?;
        drop(reader);
        let details = self.read_named(&endpoints).await?;
        let mut details: HashMap<String, _> = (details.into_iter())
            .map(|detail| (detail.device.endpoint.clone(), detail))
            .collect();
        let mut waiting: HashMap<String, _> = waiting.into_iter().collect();
        let mut by_device: HashMap<String, Vec<HomeUpgrade>> = HashMap::new();
        for upgrade in upgrades {
            let endpoint = upgrade.upgrade.upgrade.endpoint.clone();
            by_device.entry(endpoint).or_default().push(upgrade);
        }
        let device = |here: HomeDeviceRecord| {
            let device = details.remove(&here.endpoint)?; // it was removed meanwhile
            let upgrades = by_device.remove(&here.endpoint).unwrap_or_default();
            let (ended, open): (Vec<_>, Vec<_>) = (upgrades.into_iter())
                .partition(|upgrade| upgrade.upgrade.upgrade.state.is_final());
            Some(HomeDevice {
                device,
                open: home_rows::open(open),
                last: ended.into_iter().next_back(),
                waits: waiting.remove(&here.endpoint),
                here,
            })
        };
        Ok(here.into_iter().filter_map(device).collect())
    }

    async fn home_history(
        &self,
        home: &HomeKey,
        endpoint: &str,
        before: Option<UpgradeId>,
        limit: u32,
    ) -> Result<Page<HomeUpgrade>, StoreError> {
        let query = sqlx::query(upgrade_rows::HISTORY)
            .bind(home.tenant.as_str())
            .bind(home.id.as_str())
            .bind(endpoint)
            .bind(before.map_or(i64::MAX, |id| id.0))
            .bind(rows::one_more(limit));
        Packed::fetch(query, &self.readers, "listing what became of a device")
            .await?
            .page(limit, OfHomeRow::upgrade)
    }

    async fn ask_homes(&self, limit: u32, now: UtcMillis) -> Result<u64, StoreError> {
        self.ask_some_homes(limit, now).await
    }
}

/// The homes that a user is in, and as what.
pub(super) async fn of_user(
    conn: &mut SqliteConnection,
    user: &UserKey,
) -> Result<Vec<(HomeRecord, Role)>, StoreError> {
    let found = sqlx::query(
        "SELECT h.*, m.role FROM home_members m INDEXED BY home_members_of_user CROSS JOIN homes h ON h.id = m.home_id \
         WHERE m.tenant = ? AND m.user = ? ORDER BY m.home_id LIMIT ?",
    )
    .bind(user.tenant.as_str())
    .bind(user.id.as_str())
    .bind(MAX_HOMES_OF_USER)
    .fetch_all(conn)
    .await
    .doing(READING)?;
    (found.iter())
        .map(|row| Ok((home_rows::record(row)?, home_rows::role(row)?)))
        .collect()
}

/// A home that has to be there.
async fn known(conn: &mut SqliteConnection, key: &HomeKey) -> Result<HomeRow, HomeError> {
    let found = home_rows::read(conn, key).await?;
    found.ok_or_else(|| HomeError::NotFound(key.id.to_string()))
}

fn no_member(home: &HomeKey) -> HomeError {
    let home = home.id.to_string();
    HomeError::NoMember { home }
}

/// What a member is called in the audit log.
async fn member_text(
    conn: &mut SqliteConnection,
    home: &HomeKey,
    user: &UserId,
) -> Result<String, StoreError> {
    let user = UserKey {
        tenant: home.tenant.clone(),
        id: user.clone(),
    };
    let mark = marker::mark(conn, &user).await?;
    Ok(format!("{}/{mark}", home.text()))
}

async fn member(
    conn: &mut SqliteConnection,
    id: i64,
    user: &UserId,
) -> Result<Option<MemberRecord>, StoreError> {
    let members = home_rows::members(conn, id).await?; // few
    Ok(members.into_iter().find(|member| member.user == *user))
}

/// A device that has to be there.
async fn one_device(
    conn: &mut SqliteConnection,
    home: &HomeRow,
    endpoint: &str,
) -> Result<HomeDeviceRecord, HomeError> {
    let found = home_rows::devices(conn, home.id, Some(endpoint)).await?;
    found.into_iter().next().ok_or_else(|| HomeError::NoDevice {
        home: home.record.key.id.to_string(),
        endpoint: endpoint.to_owned(),
    })
}
