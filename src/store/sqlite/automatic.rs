//! Devices whose switch is on are upgraded by themselves, when nothing is quiet at home.

use sqlx::{SqliteConnection, sqlite::SqliteRow};

use super::{Doing, SqliteStore, home_rows, rows::Columns as _, start_plan};
use crate::{
    clock::UtcMillis,
    home::{HomeKey, Offered, QuietHours, by_itself, is_quiet_at_home},
    store::{NewStart, OfferRecord, Offers as _, StartError, Starter, StoreError, Wanted},
};

const LOOKING: &str = "looking for devices that upgrade by themselves";

/// A device whose switch is on.
struct Switched {
    endpoint: String,
    home: HomeKey,
    zone: String,
    quiet: Option<QuietHours>,
}

/// Devices whose switch is on, by their names.
pub(super) const SWITCHED: &str = "SELECT i.endpoint, h.tenant, h.home, h.zone, h.quiet_from, h.quiet_to \
     FROM home_devices i INDEXED BY home_devices_automatic CROSS JOIN homes h ON h.id = i.home_id \
     WHERE i.automatic = 1 AND i.endpoint > ? ORDER BY i.endpoint LIMIT ?";

/// Whether a task runs.
const RUNS: &str = "SELECT EXISTS (SELECT 1 FROM tasks WHERE id = ? AND state = 'running' AND hold IS NULL AND expired = 0 AND hidden = 0)";

/// Whether a device has ever had an upgrade of a task.
pub(super) const HAD: &str = "SELECT EXISTS (SELECT 1 FROM upgrades u INDEXED BY upgrades_of_device \
     WHERE u.endpoint = ? AND u.task_id = ?)";

/// Whether anything is open on a device.
pub(super) const BUSY: &str = "SELECT EXISTS (SELECT 1 FROM upgrades u INDEXED BY upgrades_of_device \
     WHERE u.endpoint = ? AND u.phase < 2)";

impl SqliteStore {
    /// Looks at a part of the devices.
    pub(super) async fn start_automatic_part(
        &self,
        after: Option<&str>,
        limit: u32,
        now: UtcMillis,
    ) -> Result<(u64, Option<String>), StoreError> {
        let found = sqlx::query(SWITCHED)
            .bind(after.unwrap_or_default())
            .bind(limit)
            .fetch_all(&self.readers)
            .await
            .doing(LOOKING)?;
        let devices = found.iter().map(switched);
        let devices: Vec<Switched> = devices.collect::<Result<_, _>>()?;
        let full = devices.len() >= usize::try_from(limit).unwrap_or(usize::MAX);
        let next = (devices.last()).filter(|_| full);
        let next = next.map(|device| device.endpoint.clone());
        let mut started = 0;
        for device in &devices {
            if !device.is_quiet(now) {
                started += self.start_by_itself(device, now).await?;
            }
        }
        Ok((started, next))
    }

    /// Starts what is offered to one: of the first channel whose newest offer for it can begin.
    async fn start_by_itself(&self, device: &Switched, now: UtcMillis) -> Result<u64, StoreError> {
        let mut reader = self.readers.begin().await.doing(LOOKING)?;
        let busy: bool = sqlx::query_scalar(BUSY)
            .bind(&device.endpoint)
            .fetch_one(&mut *reader)
            .await
            .doing(LOOKING)?;
        let there = match start_plan::device_in(&mut reader, &device.home, &device.endpoint).await {
            Ok(there) if !busy && !there.is_out_of_reach() => there,
            Err(StartError::Store(error)) => return Err(error),
            Ok(_) | Err(_) => return Ok(0),
        };
        drop(reader);
        let products = [there.product.clone()];
        let offers = self.offers_for(&device.home.tenant, &products).await?;
        let candidates = offers.iter().map(|offer| Offered {
            id: offer.id,
            terms: &offer.terms,
            target: &offer.version,
        });
        for id in by_itself(candidates, &device.home, &there.now(), now) {
            let offer = offers.iter().find(|offer| offer.id == id);
            let Some(offer) = offer else { continue };
            // one that has failed is not begun again and again: that is for the user to say
            if !self.may_begin(&device.endpoint, offer).await? {
                continue;
            }
            let new = NewStart {
                home: device.home.clone(),
                endpoint: device.endpoint.clone(),
                wanted: vec![Wanted {
                    offer: offer.id,
                    target: Some(offer.version),
                    current: None,
                }],
                by: Starter::Automatic,
                now,
            };
            match self.start_upgrades(&new, None).await {
                Ok(started) => return Ok(started.iter().filter(|it| !it.again).count() as u64),
                Err(StartError::Store(error)) => return Err(error),
                Err(StartError::NotFound { .. }) => return Ok(0),
                // another channel may fare better
                Err(StartError::Refused { .. }) => {}
            }
        }
        Ok(0)
    }

    /// Whether an offer's task runs, so that it does not keep a device for nothing, and a device has never had an upgrade of it.
    async fn may_begin(&self, endpoint: &str, offer: &OfferRecord) -> Result<bool, StoreError> {
        let mut reader = self.readers.acquire().await.doing(LOOKING)?;
        let runs: bool = sqlx::query_scalar(RUNS)
            .bind(offer.task.0)
            .fetch_one(&mut *reader)
            .await
            .doing(LOOKING)?;
        if !runs {
            return Ok(false);
        }
        let had: bool = sqlx::query_scalar(HAD)
            .bind(endpoint)
            .bind(offer.task.0)
            .fetch_one(&mut *reader)
            .await
            .doing(LOOKING)?;
        Ok(!had)
    }
}

/// Whether a device begins by itself still: in the transaction that writes it.
pub(super) async fn begins(
    conn: &mut SqliteConnection,
    new: &NewStart,
) -> Result<bool, StoreError> {
    let row = sqlx::query(
        "SELECT i.endpoint, h.tenant, h.home, h.zone, h.quiet_from, h.quiet_to \
         FROM home_devices i CROSS JOIN homes h ON h.id = i.home_id WHERE i.endpoint = ? AND i.automatic = 1",
    )
    .bind(&new.endpoint)
    .fetch_optional(&mut *conn)
    .await
    .doing(LOOKING)?;
    let device = row.as_ref().map(switched).transpose()?;
    if device.is_none_or(|device| device.home != new.home || device.is_quiet(new.now)) {
        return Ok(false);
    }
    let busy: bool = sqlx::query_scalar(BUSY)
        .bind(&new.endpoint)
        .fetch_one(conn)
        .await
        .doing(LOOKING)?;
    Ok(!busy)
}

impl Switched {
    fn is_quiet(&self, now: UtcMillis) -> bool {
        is_quiet_at_home(self.quiet, &self.zone, now)
    }
}

fn switched(row: &SqliteRow) -> Result<Switched, StoreError> {
    let (from, to) = (row.maybe_int("quiet_from")?, row.maybe_int("quiet_to")?);
    Ok(Switched {
        endpoint: row.value("endpoint")?,
        home: home_rows::key(row)?,
        zone: row.value("zone")?,
        quiet: from
            .zip(to)
            .and_then(|(from, to)| QuietHours::new(from, to)),
    })
}
