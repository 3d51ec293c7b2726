//! What is wanted at home, as it stands: the device, the offers, and whether they may be started.

use sqlx::SqliteConnection;

use super::{Doing, offers, rows::Columns as _};
use crate::{
    clock::UtcMillis,
    home::{CONTINUE_WITHIN_MS, DeviceNow, Entry, HomeKey, OfferId, Refusal},
    ledger::{Protocol, TaskId, UpgradeId},
    package::Version,
    store::{NewStart, OfferRecord, StartError, StoreError, Wanted},
};

pub(super) const STARTING: &str = "starting an upgrade at home";

/// A device in a home, as far as it matters to a start.
pub(super) struct Device {
    /// The number of its home.
    pub(super) home: i64,
    pub(super) product: String,
    version: Option<Version>,
    rsrp_dbm: Option<i32>,
    battery_percent: Option<u8>,
    pub(super) zone: Option<String>,
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
pub(super) struct Planned {
    pub(super) offer: OfferRecord,
    /// It is open already.
    pub(super) open: Option<UpgradeId>,
}

pub(super) fn refused(offer: OfferId, refusal: Refusal) -> StartError {
    let offer = Some(offer);
    StartError::Refused { offer, refusal }
}

pub(super) fn refused_whole(refusal: Refusal) -> StartError {
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
pub(super) async fn plan(
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
                && offer.terms.is_visible_to(&new.home, offer.id, new.now)
                // versions of different channels do not lead on from one another
                && planned.last().is_none_or(|before| before.offer.terms.channel == offer.terms.channel)
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
    let other_version =
        before.is_none() && wanted.current.is_some() && wanted.current != device.version;
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

/// The upgrade of a task that has not ended on a device, and is not about to because somebody has cancelled it.
pub(super) async fn open_of(
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

/// See [`open_of`].
pub(super) const OPEN_OF: &str = "SELECT u.id FROM upgrades u INDEXED BY upgrades_of_device \
     WHERE u.endpoint = ? AND u.task_id = ? AND u.phase < 2 AND u.cancel_requested_at IS NULL ORDER BY u.id DESC LIMIT 1";
