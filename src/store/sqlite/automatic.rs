//! Devices whose switch is on are upgraded by themselves, when nothing is quiet at home.

use sqlx::sqlite::SqliteRow;

use super::{Doing, SqliteStore, home_rows, rows::Columns as _, start_plan};
use crate::{
    clock::UtcMillis,
    home::{Entry, HomeKey, QuietHours, UpgradeKind},
    store::{NewStart, OfferRecord, Offers as _, StartError, Starter, StoreError, Wanted},
    task::time_zone,
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

    /// Starts what is offered to one, of each channel at most one.
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
        for offer in offers {
            let fits = offer.terms.kind != UpgradeKind::OnRequest
                && offer.terms.is_visible_to(&device.home, offer.id)
                && offer.entry(&there.now(), now) == Entry::Ready;
            // one that has failed is not begun again and again: that is for the user to say
            if !fits || self.had(&device.endpoint, &offer).await? {
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
            return match self.start_upgrades(&new, None).await {
                Ok(started) => Ok(started.iter().filter(|it| !it.again).count() as u64),
                Err(StartError::Store(error)) => Err(error),
                Err(StartError::NotFound { .. } | StartError::Refused { .. }) => Ok(0),
            };
        }
        Ok(0)
    }

    async fn had(&self, endpoint: &str, offer: &OfferRecord) -> Result<bool, StoreError> {
        sqlx::query_scalar(HAD)
            .bind(endpoint)
            .bind(offer.task.0)
            .fetch_one(&self.readers)
            .await
            .doing(LOOKING)
    }
}

impl Switched {
    fn is_quiet(&self, now: UtcMillis) -> bool {
        let Some(quiet) = self.quiet else {
            return false;
        };
        // a zone that is not known any more is quiet: nobody is to be disturbed
        time_zone(&self.zone).map_or(true, |zone| quiet.is_quiet(&zone, now))
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
