//! What is started at home: upgrades in the standing tasks of offers.

use sqlx::SqliteConnection;

use super::{
    Doing, SqliteStore,
    bulk::json_list,
    cancel,
    counts::{self, CountChanges},
    events::Announcements,
    joining, offers,
    rows::{self, Columns as _},
    task_creation::insert_dealt,
    watched::Table,
};
use crate::{
    clock::UtcMillis,
    home::{CONTINUE_WITHIN_MS, DeviceNow, Entry, HomeKey, OfferId, Refusal, UserId},
    ledger::{Cancellation, Happened, Line, Protocol, TaskId, UpgradeId},
    package::Version,
    store::{
        CancelledStart, NewStart, OfferRecord, STARTS_KEPT, StartError, StartState, Started,
        Starter, StoreError, UpgradeState, Wanted,
    },
    task::TaskRules,
};

const STARTING: &str = "starting an upgrade at home";
const CANCELLING: &str = "cancelling an upgrade at home";

/// A device in a home, as far as it matters to a start.
pub(super) struct Device {
    /// The number of its home.
    home: i64,
    pub(super) product: String,
    version: Option<Version>,
    rsrp_dbm: Option<i32>,
    battery_percent: Option<u8>,
    zone: Option<String>,
    /// It cannot be reached: it was never heard, or its registration has ended.
    offline: bool,
    /// The operator has excluded it.
    excluded: bool,
}

impl Device {
    /// What of it matters to an offer.
    pub(super) fn now(&self) -> DeviceNow<'_> {
        DeviceNow {
            version: self.version.as_ref(),
            battery_percent: self.battery_percent,
            rsrp_dbm: self.rsrp_dbm,
        }
    }

    /// Whether nothing begins on it, whatever is offered.
    pub(super) const fn is_out_of_reach(&self) -> bool {
        self.offline || self.excluded
    }
}

/// What is wanted, as it stands.
struct Planned {
    offer: OfferRecord,
    /// It is open already.
    open: Option<UpgradeId>,
}

/// Something that is noted of a device.
struct Noted<'n> {
    device: &'n Device,
    state: StartState,
    offers: Vec<i64>,
    upgrades: Vec<i64>,
    until: Option<UtcMillis>,
}

impl SqliteStore {
    /// Starts all that is wanted. `waiting`: it is the start of that number, which waited for the user's word, so that it goes on whatever the
    /// signal is.
    pub(super) async fn start_upgrades(
        &self,
        new: &NewStart,
        waiting: Option<i64>,
    ) -> Result<Vec<Started>, StartError> {
        let mut tx = self.write(STARTING).await?;
        let device = device_in(&mut tx, &new.home, &new.endpoint).await?;
        tx.watch(Table::HomeDevices, &new.endpoint)
            .await
            .doing(STARTING)?;
        let planned = match plan(&mut tx, new, &device, waiting.is_some()).await {
            Ok(planned) => planned,
            Err(error) => {
                if let StartError::Refused {
                    refusal: Refusal::SignalWeak { until, .. },
                    ..
                } = &error
                    && new.by != Starter::Automatic
                {
                    end_waiting(&mut tx, &new.endpoint).await.doing(STARTING)?;
                    let noted = Noted {
                        device: &device,
                        state: StartState::Waiting,
                        offers: new.wanted.iter().map(|it| it.offer.0).collect(),
                        upgrades: Vec::new(),
                        until: Some(*until),
                    };
                    note(&mut tx, new, &noted).await.doing(STARTING)?;
                    tx.commit().await.doing(STARTING)?;
                }
                return Err(error);
            }
        };
        let mut started = Vec::with_capacity(planned.len());
        for Planned { offer, open } in &planned {
            let upgrade = match open {
                Some(upgrade) => *upgrade,
                None => add(&mut tx, offer, new, &device).await?,
            };
            started.push(Started {
                offer: offer.id,
                upgrade,
                again: open.is_some(),
            });
        }
        let fresh = started.iter().filter(|it| !it.again);
        let fresh: Vec<i64> = fresh.map(|it| it.upgrade.0).collect();
        if fresh.is_empty() && waiting.is_none() {
            return Ok(started);
        }
        if let Some(waiting) = waiting
            && !take_waiting(&mut tx, waiting).await.doing(STARTING)?
        {
            return Err(refused_whole(Refusal::NothingWaits));
        }
        tx.count("upgrades", fresh.len() as u64);
        let noted = Noted {
            device: &device,
            state: StartState::Started,
            offers: started.iter().map(|it| it.offer.0).collect(),
            upgrades: fresh,
            until: None,
        };
        note(&mut tx, new, &noted).await.doing(STARTING)?;
        tx.commit().await.doing(STARTING)?;
        Ok(started)
    }

    /// Starts what waits for the user's word.
    pub(super) async fn continue_waiting(
        &self,
        home: &HomeKey,
        endpoint: &str,
        by: &UserId,
        now: UtcMillis,
    ) -> Result<Vec<Started>, StartError> {
        let mut reader = self.readers.begin().await.doing(STARTING)?;
        let device = device_in(&mut reader, home, endpoint).await?;
        let row = sqlx::query(
            "SELECT id, offers, until FROM app_starts INDEXED BY app_starts_waiting \
             WHERE endpoint = ? AND state = 'waiting' AND home_id = ?",
        )
        .bind(endpoint)
        .bind(device.home)
        .fetch_optional(&mut *reader)
        .await
        .doing(STARTING)?;
        drop(reader);
        let Some(row) = row else {
            return Err(refused_whole(Refusal::NothingWaits));
        };
        if row.time("until")? <= now {
            return Err(refused_whole(Refusal::TooLate));
        }
        let offers: Vec<OfferId> = rows::from_json(&row, "offers")?.unwrap_or_default();
        let wanted = offers.into_iter().map(|offer| Wanted {
            offer,
            target: None,
            current: None,
        });
        let new = NewStart {
            home: home.clone(),
            endpoint: endpoint.to_owned(),
            wanted: wanted.collect(),
            by: Starter::User(by.clone()),
            now,
        };
        self.start_upgrades(&new, Some(row.int("id")?)).await
    }

    /// Cancels what of the offers is open on a device and has not begun its transfer, and what waits for the user's word.
    pub(super) async fn cancel_started(
        &self,
        home: &HomeKey,
        endpoint: &str,
        by: &UserId,
        now: UtcMillis,
    ) -> Result<CancelledStart, StartError> {
        let mut tx = self.write(CANCELLING).await?;
        let device = device_in(&mut tx, home, endpoint).await?;
        tx.watch(Table::HomeDevices, endpoint)
            .await
            .doing(CANCELLING)?;
        let open = open_on(&mut tx, home, endpoint).await?;
        let began = |state: &UpgradeState| matches!(state, UpgradeState::Active(it) if it.is_transfer());
        if open.iter().any(|open| began(&open.state)) {
            return Err(refused_whole(Refusal::TransferBegan));
        }
        let waited = sqlx::query(
            "UPDATE app_starts SET state = 'cancelled' WHERE endpoint = ? AND state = 'waiting' AND until > ?",
        )
        .bind(endpoint)
        .bind(now.0)
        .execute(&mut *tx)
        .await
        .doing(CANCELLING)?;
        let waited = waited.rows_affected() > 0;
        if open.is_empty() && !waited {
            return Err(refused_whole(Refusal::NothingWaits));
        }
        let mut announcements = Announcements::default();
        for open in &open {
            end(&mut tx, open, now, &mut announcements)
                .await
                .doing(CANCELLING)?;
        }
        announcements.deliver(&mut tx).await.doing(CANCELLING)?;
        let upgrades: Vec<UpgradeId> = open.iter().map(|open| open.upgrade).collect();
        tx.count("upgrades", upgrades.len() as u64);
        if !upgrades.is_empty() {
            let noted = Noted {
                device: &device,
                state: StartState::Cancelled,
                offers: open.iter().map(|open| open.offer.0).collect(),
                upgrades: upgrades.iter().map(|upgrade| upgrade.0).collect(),
                until: None,
            };
            let cancelled = NewStart {
                home: home.clone(),
                endpoint: endpoint.to_owned(),
                wanted: Vec::new(),
                by: Starter::User(by.clone()),
                now,
            };
            note(&mut tx, &cancelled, &noted).await.doing(CANCELLING)?;
        }
        tx.commit().await.doing(CANCELLING)?;
        Ok(CancelledStart { upgrades, waited })
    }
}

/// An upgrade of an offer that has not ended.
struct Open {
    upgrade: UpgradeId,
    task: TaskId,
    offer: OfferId,
    state: UpgradeState,
}

/// What of the offers of its tenant is open on a device.
async fn open_on(
    conn: &mut SqliteConnection,
    home: &HomeKey,
    endpoint: &str,
) -> Result<Vec<Open>, StoreError> {
    let found = sqlx::query(OPEN_ON)
        .bind(endpoint)
        .bind(home.tenant.as_str())
        .fetch_all(conn)
        .await
        .doing(CANCELLING)?;
    let open = found.iter().map(|row| {
        Ok(Open {
            upgrade: UpgradeId(row.int("id")?),
            task: TaskId(row.int("task_id")?),
            offer: OfferId(row.int("offer")?),
            state: rows::upgrade_state(&row.value::<String>("state")?)?,
        })
    });
    open.collect()
}

/// Upgrades of offers of a tenant that have not ended on a device.
pub(super) const OPEN_ON: &str = "SELECT u.id, u.task_id, u.state, o.id AS offer \
     FROM upgrades u INDEXED BY upgrades_of_device CROSS JOIN offers o ON o.task_id = u.task_id \
     WHERE u.endpoint = ? AND u.phase < 2 AND o.tenant = ? ORDER BY u.id";

/// Ends one that has not begun its transfer, or has the engine end it.
async fn end(
    conn: &mut SqliteConnection,
    open: &Open,
    now: UtcMillis,
    announcements: &mut Announcements,
) -> Result<(), sqlx::Error> {
    if open.state == UpgradeState::Pending {
        let why = Cancellation::Upgrade;
        cancel::cancel_waiting(conn, open.task, &[open.upgrade.0], why, now, announcements).await?;
        return counts::end_task_if_done(conn, open.task, now, announcements).await;
    }
    sqlx::query(
        "UPDATE upgrades SET cancel_requested_at = COALESCE(cancel_requested_at, ?) WHERE id = ?",
    )
    .bind(now.0)
    .bind(open.upgrade.0)
    .execute(conn)
    .await
    .map(|_| ())
}

fn refused(offer: OfferId, refusal: Refusal) -> StartError {
    let offer = Some(offer);
    StartError::Refused { offer, refusal }
}

fn refused_whole(refusal: Refusal) -> StartError {
    let offer = None;
    StartError::Refused { offer, refusal }
}

/// A device that has to be in a home.
pub(super) async fn device_in(
    conn: &mut SqliteConnection,
    home: &HomeKey,
    endpoint: &str,
) -> Result<Device, StartError> {
    let row = sqlx::query(
        "SELECT h.id, d.product, d.version, d.coverage_rsrp_dbm, d.time_zone, d.protocol, d.reg_location, \
             (SELECT t.value FROM device_tags t WHERE t.device_id = d.id AND t.key = 'battery') AS battery, \
             EXISTS (SELECT 1 FROM exclusions e WHERE e.endpoint = d.endpoint) AS excluded \
         FROM homes h CROSS JOIN home_devices i ON i.home_id = h.id CROSS JOIN devices d ON d.endpoint = i.endpoint \
         WHERE h.tenant = ? AND h.home = ? AND i.endpoint = ? AND d.removed = 0 AND d.tenant = h.tenant",
    )
    .bind(home.tenant.as_str())
    .bind(home.id.as_str())
    .bind(endpoint)
    .fetch_optional(conn)
    .await
    .doing(STARTING)?;
    let Some(row) = row else {
        return Err(StartError::NotFound {
            home: home.id.to_string(),
            endpoint: endpoint.to_owned(),
        });
    };
    let protocol: String = row.value("protocol")?;
    let registered = row.value::<Option<String>>("reg_location")?.is_some();
    let version: Option<String> = row.value("version")?;
    let battery: Option<String> = row.value("battery")?;
    Ok(Device {
        home: row.int("id")?,
        product: row.value("product")?,
        version: match version {
            Some(_) => Some(row.version("version")?),
            None => None,
        },
        rsrp_dbm: row.maybe_int("coverage_rsrp_dbm")?,
        battery_percent: battery.and_then(|text| text.trim().parse().ok()),
        zone: row.value("time_zone")?,
        offline: protocol == Protocol::Lwm2m.name() && !registered,
        excluded: row.int::<i64>("excluded")? != 0,
    })
}

/// What is wanted of a device, if all of it may be.
async fn plan(
    conn: &mut SqliteConnection,
    new: &NewStart,
    device: &Device,
    over_weak: bool,
) -> Result<Vec<Planned>, StartError> {
    let mut planned: Vec<Planned> = Vec::with_capacity(new.wanted.len());
    for wanted in &new.wanted {
        let offer = offers::read(conn, &new.home.tenant, wanted.offer).await?;
        let offer = offer.filter(|offer| {
            offer.withdrawn_at.is_none()
                && offer.product == device.product
                && offer.terms.is_visible_to(&new.home, offer.id)
        });
        let Some(offer) = offer else {
            return Err(refused(wanted.offer, Refusal::NotOffered));
        };
        let open = open_of(conn, offer.task, &new.endpoint).await?;
        if open.is_none() {
            // one that follows another begins from the version to which that leads
            let before = planned.last().map(|before| before.offer.version);
            check(&offer, wanted, device, (before, over_weak), new.now)
                .map_err(|refusal| refused(offer.id, refusal))?;
        }
        planned.push(Planned { offer, open });
    }
    Ok(planned)
}

/// Whether an offer may be started on a device, after which `before` was.
fn check(
    offer: &OfferRecord,
    wanted: &Wanted,
    device: &Device,
    (before, over_weak): (Option<Version>, bool),
    now: UtcMillis,
) -> Result<(), Refusal> {
    let runs = before.as_ref().or(device.version.as_ref());
    let other_target = wanted.target.is_some_and(|target| target != offer.version);
    let other_version = before.is_none() && wanted.current.is_some() && wanted.current != device.version;
    if other_target || other_version {
        return Err(Refusal::Stale);
    }
    if device.excluded {
        return Err(Refusal::Excluded);
    }
    if device.offline {
        return Err(Refusal::Offline);
    }
    let until = now + std::time::Duration::from_millis(CONTINUE_WITHIN_MS);
    let seen = DeviceNow {
        version: runs,
        ..device.now()
    };
    match offer.entry(&seen, until) {
        Entry::Ready => Ok(()),
        Entry::Refused(Refusal::SignalWeak { .. }) if over_weak => Ok(()),
        Entry::Refused(refusal) | Entry::NotFor(refusal) => Err(refusal),
    }
}

/// The upgrade of a task that has not ended on a device.
async fn open_of(
    conn: &mut SqliteConnection,
    task: TaskId,
    endpoint: &str,
) -> Result<Option<UpgradeId>, StoreError> {
    let found: Option<i64> = sqlx::query_scalar(OPEN_OF)
        .bind(endpoint)
        .bind(task.0)
        .fetch_optional(conn)
        .await
        .doing(STARTING)?;
    Ok(found.map(UpgradeId))
}

/// The upgrade of a task that has not ended on a device.
pub(super) const OPEN_OF: &str = "SELECT u.id FROM upgrades u INDEXED BY upgrades_of_device \
     WHERE u.endpoint = ? AND u.task_id = ? AND u.phase < 2 ORDER BY u.id DESC LIMIT 1";

/// Adds an upgrade to the standing task of an offer, if that takes any.
async fn add(
    conn: &mut SqliteConnection,
    offer: &OfferRecord,
    new: &NewStart,
    device: &Device,
) -> Result<UpgradeId, StartError> {
    let (task, endpoint, now) = (offer.task, &new.endpoint, new.now);
    let Some((start_at, rules)) = takes_up(conn, task, now).await? else {
        return Err(refused(offer.id, Refusal::NotRunning));
    };
    let zone = device.zone.as_deref().filter(|_| rules.knows_zones());
    let lot = joining::lot_of(conn, task, (0, &rules), zone).await?;
    let dealt = [(endpoint.clone(), lot)];
    insert_dealt(conn, task, (start_at.max(now), now), &dealt)
        .await
        .doing(STARTING)?;
    let mut counts = CountChanges::default();
    counts.add(task, lot, UpgradeState::Pending, None, 1);
    counts.write(conn).await.doing(STARTING)?;
    let upgrade = open_of(conn, task, endpoint).await?;
    let upgrade = upgrade.ok_or_else(|| rows::unreadable("upgrades.endpoint", endpoint))?;
    let line: Line = Happened::Joined {}.into();
    let (code, arguments) = rows::line_columns(&line);
    sqlx::query(
        "INSERT INTO upgrade_events (upgrade_id, at, attempt, kind, code, arguments) VALUES (?, ?, 0, 'note', ?, ?)",
    )
    .bind(upgrade.0)
    .bind(now.0)
    .bind(code)
    .bind(arguments)
    .execute(conn)
    .await
    .doing(STARTING)?;
    Ok(upgrade)
}

/// When a standing task starts or started, and how it is run, if it takes devices up.
async fn takes_up(
    conn: &mut SqliteConnection,
    task: TaskId,
    now: UtcMillis,
) -> Result<Option<(UtcMillis, TaskRules)>, StoreError> {
    let row = sqlx::query(
        "SELECT start_at, rules FROM tasks WHERE id = ? AND state IN ('scheduled', 'running') AND joining = 1 \
             AND expired = 0 AND hidden = 0 AND (hold IS NULL OR hold ->> 'code' IN ('paused', 'failures'))",
    )
    .bind(task.0)
    .fetch_optional(conn)
    .await
    .doing(STARTING)?;
    let Some(row) = row else { return Ok(None) };
    let rules = rows::rules_of(&row.value::<String>("rules")?)?;
    let over = rules.not_after.is_some_and(|last| last <= now);
    let start_at = row.time("start_at")?;
    Ok((!over).then_some((start_at, rules)))
}

/// A start that waits on a device waits no more.
async fn end_waiting(conn: &mut SqliteConnection, endpoint: &str) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE app_starts SET state = 'cancelled' WHERE endpoint = ? AND state = 'waiting'")
        .bind(endpoint)
        .execute(conn)
        .await
        .map(|_| ())
}

/// Takes a start that waits away: what comes of it is noted anew. Returns whether it waited still.
async fn take_waiting(conn: &mut SqliteConnection, id: i64) -> Result<bool, sqlx::Error> {
    let taken = sqlx::query("DELETE FROM app_starts WHERE id = ? AND state = 'waiting'")
        .bind(id)
        .execute(conn)
        .await?;
    Ok(taken.rows_affected() > 0)
}

/// Notes what somebody has done, and forgets what was done long ago.
async fn note(
    conn: &mut SqliteConnection,
    new: &NewStart,
    noted: &Noted<'_>,
) -> Result<(), sqlx::Error> {
    let user = match &new.by {
        Starter::User(user) => Some(user.as_str()),
        Starter::Automatic => None,
    };
    sqlx::query(
        "INSERT INTO app_starts (tenant, home_id, endpoint, user, offers, upgrades, state, at, until) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(new.home.tenant.as_str())
    .bind(noted.device.home)
    .bind(&new.endpoint)
    .bind(user)
    .bind(json_list(&noted.offers))
    .bind(json_list(&noted.upgrades))
    .bind(noted.state.name())
    .bind(new.now.0)
    .bind(noted.until.map(|until| until.0))
    .execute(&mut *conn)
    .await?;
    sqlx::query(
        "DELETE FROM app_starts WHERE endpoint = ?1 AND id <= \
             (SELECT s.id FROM app_starts s WHERE s.endpoint = ?1 ORDER BY s.id DESC LIMIT 1 OFFSET ?2)",
    )
    .bind(&new.endpoint)
    .bind(STARTS_KEPT)
    .execute(conn)
    .await
    .map(|_| ())
}
