//! What is started at home: upgrades in the standing tasks of offers.

use sqlx::SqliteConnection;

use super::{
    Doing, SqliteStore, automatic,
    bulk::json_list,
    cancel,
    counts::{self, CountChanges},
    events::Announcements,
    joining,
    rows::{self, Columns as _},
    start_plan::{Device, Planned, STARTING, device_in, open_of, plan, refused, refused_whole},
    task_creation::insert_dealt,
    watched::Table,
};
use crate::{
    clock::UtcMillis,
    home::{HomeKey, OfferId, Refusal, UserId},
    ledger::{Cancellation, Happened, Line, TaskId, UpgradeId},
    store::{
        CancelledStart, NewStart, OfferRecord, STARTS_KEPT, StartError, StartState, Started,
        Starter, StoreError, UpgradeState, Wanted, WeakStart,
    },
    task::TaskRules,
};

const CANCELLING: &str = "cancelling an upgrade at home";

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
        if let Some(came) = self.looks_started(new, waiting).await {
            return came;
        }
        let mut tx = self.write(STARTING).await?;
        let device = device_in(&mut tx, &new.home, &new.endpoint).await?;
        tx.watch(Table::HomeDevices, new.home.device_text(&new.endpoint))
            .await
            .doing(STARTING)?;
        if new.by == Starter::Automatic && !automatic::begins(&mut tx, new).await? {
            return Ok(Vec::new()); // something else has become of it since it was looked at
        }
        let planned = plan(&mut tx, new, &device, waiting.is_some()).await;
        if let Some(weak) = weak(new, &planned) {
            still_waits(&mut tx, new, &device, &weak).await?;
            wait(&mut tx, new, &device, &weak).await.doing(STARTING)?;
            tx.commit().await.doing(STARTING)?;
            return planned.map(|_| Vec::new());
        }
        let planned = planned?;
        let started = add_all(&mut tx, new, &device, &planned).await?;
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

    /// What comes of a start that writes nothing: it is refused, or was started before. `None`: there is something to write, which is
    /// looked at again in that transaction.
    async fn looks_started(
        &self,
        new: &NewStart,
        waiting: Option<i64>,
    ) -> Option<Result<Vec<Started>, StartError>> {
        if waiting.is_some() {
            return None;
        }
        let planned = async {
            let mut reader = self.readers.begin().await.doing(STARTING)?;
            let device = device_in(&mut reader, &new.home, &new.endpoint).await?;
            let planned = plan(&mut reader, new, &device, false).await;
            if let Some(weak) = weak(new, &planned) {
                still_waits(&mut reader, new, &device, &weak).await?;
                return Ok(None);
            }
            planned.map(Some)
        };
        match planned.await.transpose()? {
            // what goes on by itself begins nothing anew
            Ok(planned)
                if new.by == Starter::Automatic && planned.iter().all(|it| it.open.is_some()) =>
            {
                Some(Ok(Vec::new()))
            }
            Ok(planned) => {
                let started = planned.into_iter().map(|it| {
                    Some(Started {
                        offer: it.offer.id,
                        upgrade: it.open?,
                        again: true,
                    })
                });
                started.collect::<Option<_>>().map(Ok)
            }
            Err(error) => Some(Err(error)),
        }
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
        tx.watch(Table::HomeDevices, home.device_text(endpoint))
            .await
            .doing(CANCELLING)?;
        let open = open_on(&mut tx, home, endpoint).await?;
        let began =
            |state: &UpgradeState| matches!(state, UpgradeState::Active(it) if it.is_transfer());
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
        // the last first: with one that others were to follow, those end for another reason
        for open in open.iter().rev() {
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

/// Adds an upgrade for each entry that has none under way, one after the other.
async fn add_all(
    conn: &mut SqliteConnection,
    new: &NewStart,
    device: &Device,
    planned: &[Planned],
) -> Result<Vec<Started>, StartError> {
    let mut started: Vec<Started> = Vec::with_capacity(planned.len());
    for Planned { offer, open } in planned {
        let upgrade = if let Some(upgrade) = open {
            *upgrade
        } else {
            let before = started.last().map(|before| before.upgrade);
            add(conn, offer, new, (device, before)).await?
        };
        started.push(Started {
            offer: offer.id,
            upgrade,
            again: open.is_some(),
        });
    }
    Ok(started)
}

/// Adds an upgrade to the standing task of an offer, if that takes any. It does not begin until the one `before` it has succeeded.
async fn add(
    conn: &mut SqliteConnection,
    offer: &OfferRecord,
    new: &NewStart,
    (device, before): (&Device, Option<UpgradeId>),
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
    if let Some(before) = before {
        sqlx::query("UPDATE upgrades SET after_id = ?, free = 0 WHERE id = ?")
            .bind(before.0)
            .bind(upgrade.0)
            .execute(&mut *conn)
            .await
            .doing(STARTING)?;
    }
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

/// What a start waits for the user's word over; one that goes on by itself asks nobody.
fn weak(new: &NewStart, planned: &Result<Vec<Planned>, StartError>) -> Option<WeakStart> {
    if new.by == Starter::Automatic {
        return None;
    }
    let Err(StartError::Refused {
        offer: Some(offer),
        refusal:
            Refusal::SignalWeak {
                rsrp_dbm,
                least_dbm,
                until,
            },
    }) = planned
    else {
        return None;
    };
    Some(WeakStart {
        offer: *offer,
        rsrp_dbm: *rsrp_dbm,
        least_dbm: *least_dbm,
        until: *until,
    })
}

/// Refuses a start of what waits for the user's word already, until the time that was told: nothing new is to be written of it.
async fn still_waits(
    conn: &mut SqliteConnection,
    new: &NewStart,
    device: &Device,
    weak: &WeakStart,
) -> Result<(), StartError> {
    let until: Option<i64> = sqlx::query_scalar(
        "SELECT until FROM app_starts INDEXED BY app_starts_waiting \
         WHERE endpoint = ? AND state = 'waiting' AND home_id = ? AND until > ? AND offers = ?",
    )
    .bind(&new.endpoint)
    .bind(device.home)
    .bind(new.now.0)
    .bind(json_list(new.wanted.iter().map(|it| it.offer.0)))
    .fetch_optional(conn)
    .await
    .doing(STARTING)?;
    let Some(until) = until else { return Ok(()) };
    let refusal = Refusal::SignalWeak {
        rsrp_dbm: weak.rsrp_dbm,
        least_dbm: weak.least_dbm,
        until: UtcMillis(until),
    };
    Err(refused(weak.offer, refusal))
}

/// Has a start wait for the user's word, and tells applications so.
async fn wait(
    conn: &mut SqliteConnection,
    new: &NewStart,
    device: &Device,
    weak: &WeakStart,
) -> Result<(), sqlx::Error> {
    end_waiting(conn, &new.endpoint).await?;
    let noted = Noted {
        device,
        state: StartState::Waiting,
        offers: new.wanted.iter().map(|it| it.offer.0).collect(),
        upgrades: Vec::new(),
        until: Some(weak.until),
    };
    note(conn, new, &noted).await?;
    let mut announcements = Announcements::default();
    let device = (&new.home.id, new.endpoint.as_str());
    announcements.waits(conn, device, weak, new.now).await?;
    announcements.deliver(conn).await
}

/// A start that waits on a device waits no more.
async fn end_waiting(conn: &mut SqliteConnection, endpoint: &str) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE app_starts SET state = 'cancelled' WHERE endpoint = ? AND state = 'waiting'",
    )
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
