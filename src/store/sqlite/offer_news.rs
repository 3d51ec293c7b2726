//! Homes to which an offer has become visible: applications are told of each once, part by part.

use std::collections::BTreeMap;

use sqlx::SqliteConnection;

use super::{
    Doing, SqliteStore, bulk::json_list, events::Announcements, home_rows, offers,
    rows::Columns as _,
};
use crate::{
    clock::UtcMillis,
    home::{DeviceNow, Entry, HomeKey, OfferId, place},
    package::Version,
    store::{OfferRecord, StoreError},
};

const TELLING: &str = "telling applications to which homes an offer has become visible";

/// The offer that is to be looked at first.
pub(super) const DUE: &str = "SELECT offer_id FROM offer_news INDEXED BY offer_news_due WHERE next_at <= ? ORDER BY next_at LIMIT 1";

/// It is due behind the last that is, and not by the clock alone: one that was put back does not stop it.
const GOES_ON: &str = "UPDATE offer_news SET telling = ?1, after_home = ?2, next_at = MIN(?4, \
         1 + (SELECT MAX(n.next_at) FROM offer_news n INDEXED BY offer_news_due WHERE n.next_at <= ?4)) \
     WHERE offer_id = ?3";

/// Homes of a tenant, by their numbers.
pub(super) const HOMES: &str = "SELECT id, tenant, home FROM homes INDEXED BY homes_of_tenant WHERE tenant = ? AND id > ? ORDER BY id LIMIT ?";

/// What devices of a product run in some homes, a JSON list of numbers. Nothing is offered to those that are excluded.
pub(super) const DEVICES: &str = "SELECT i.home_id, d.version FROM json_each(?) j \
         CROSS JOIN home_devices i INDEXED BY home_devices_of_home ON i.home_id = j.value \
         CROSS JOIN devices d ON d.endpoint = i.endpoint \
     WHERE d.product = ? AND d.removed = 0 AND NOT EXISTS (SELECT 1 FROM exclusions e WHERE e.endpoint = d.endpoint)";

/// How far that is told.
struct News {
    /// Of homes at places below.
    told: u8,
    /// It is being told of homes at places below.
    telling: Option<u8>,
    /// Up to the home of this number.
    after: i64,
}

impl SqliteStore {
    /// Looks at up to so many homes for the offer whose turn it is. Returns of how many homes is told; `None`: there was no offer.
    pub(super) async fn tell_some_of_offers(
        &self,
        limit: u32,
        now: UtcMillis,
    ) -> Result<Option<usize>, StoreError> {
        let due: Option<i64> = sqlx::query_scalar(DUE)
            .bind(now.0)
            .fetch_optional(&self.readers)
            .await
            .doing(TELLING)?;
        let Some(id) = due else {
            return Ok(None);
        };
        let mut tx = self.write(TELLING).await?;
        let told = tell_part(&mut tx, OfferId(id), limit, now).await?;
        tx.commit().await.doing(TELLING)?;
        Ok(Some(told))
    }
}

/// Returns of how many homes is told.
async fn tell_part(
    conn: &mut SqliteConnection,
    id: OfferId,
    limit: u32,
    now: UtcMillis,
) -> Result<usize, StoreError> {
    let row = sqlx::query("SELECT * FROM offers WHERE id = ?")
        .bind(id.0)
        .fetch_one(&mut *conn)
        .await
        .doing(TELLING)?;
    let offer = offers::record(&row)?;
    let News {
        told,
        telling,
        after,
    } = news(conn, id).await?;
    let telling = telling.unwrap_or(offer.terms.percent_at(now));
    if offer.withdrawn_at.is_some() || telling <= told {
        rests(conn, &offer, told, now).await?;
        return Ok(0);
    }
    let (homes, last) = homes(conn, &offer, after, limit).await?;
    let concerned = u64::from(told)..u64::from(telling);
    let their = homes.iter().filter(|(_, home)| {
        concerned.contains(&place(home, id)) && offer.terms.is_visible_to(home, id, now)
    });
    let their: BTreeMap<i64, &HomeKey> = their.map(|(number, home)| (*number, home)).collect();
    let told_now = offered_to(conn, &offer, &their, now).await?;
    let mut announcements = Announcements::default();
    announcements
        .visible(conn, id, &json_list(&told_now), now)
        .await
        .doing(TELLING)?;
    announcements.deliver(conn).await.doing(TELLING)?;
    match last {
        None => rests(conn, &offer, telling, now).await?,
        Some(last) => goes_on(conn, id, telling, last, now).await?,
    }
    Ok(told_now.len())
}

/// More homes follow. First it is the turn of the other offers that are due.
async fn goes_on(
    conn: &mut SqliteConnection,
    id: OfferId,
    telling: u8,
    last: i64,
    now: UtcMillis,
) -> Result<(), StoreError> {
    sqlx::query(GOES_ON)
        .bind(telling)
        .bind(last)
        .bind(id.0)
        .bind(now.0)
        .execute(conn)
        .await
        .doing(TELLING)
        .map(|_| ())
}

async fn news(conn: &mut SqliteConnection, id: OfferId) -> Result<News, StoreError> {
    let row = sqlx::query("SELECT told, telling, after_home FROM offer_news WHERE offer_id = ?")
        .bind(id.0)
        .fetch_one(conn)
        .await
        .doing(TELLING)?;
    Ok(News {
        told: row.int("told")?,
        telling: row.maybe_int("telling")?,
        after: row.int("after_home")?,
    })
}

/// The next homes, and the number of the last of them where others may follow.
async fn homes(
    conn: &mut SqliteConnection,
    offer: &OfferRecord,
    after: i64,
    limit: u32,
) -> Result<(Vec<(i64, HomeKey)>, Option<i64>), StoreError> {
    let found = sqlx::query(HOMES)
        .bind(offer.tenant.as_str())
        .bind(after)
        .bind(limit)
        .fetch_all(conn)
        .await
        .doing(TELLING)?;
    let homes = found
        .iter()
        .map(|row| Ok((row.int("id")?, home_rows::key(row)?)));
    let homes = homes.collect::<Result<Vec<_>, StoreError>>()?;
    let full = homes.len() >= usize::try_from(limit).unwrap_or(usize::MAX);
    let last = homes.last().map(|(number, _)| *number).filter(|_| full);
    Ok((homes, last))
}

/// Those of some homes with devices for which the offer is, and how many.
async fn offered_to<'h>(
    conn: &mut SqliteConnection,
    offer: &OfferRecord,
    homes: &BTreeMap<i64, &'h HomeKey>,
    now: UtcMillis,
) -> Result<Vec<(&'h str, u32)>, StoreError> {
    let numbers: Vec<i64> = homes.keys().copied().collect();
    let found = sqlx::query(DEVICES)
        .bind(json_list(&numbers))
        .bind(&offer.product)
        .fetch_all(conn)
        .await
        .doing(TELLING)?;
    let mut counts: BTreeMap<i64, u32> = BTreeMap::new();
    for row in &found {
        let version: Option<String> = row.value("version")?;
        let version: Option<Version> = match version {
            Some(_) => Some(row.version("version")?),
            None => None,
        };
        let device = DeviceNow {
            version: version.as_ref(),
            // other conditions are for when it is started
            battery_percent: None,
            rsrp_dbm: None,
        };
        if !matches!(offer.entry(&device, now), Entry::NotFor(_)) {
            *counts.entry(row.int("home_id")?).or_default() += 1;
        }
    }
    let pairs = counts.iter().filter_map(|(number, devices)| {
        let home = *homes.get(number)?;
        Some((home.id.as_str(), *devices))
    });
    Ok(pairs.collect())
}

/// It was told of homes at places below that. It is looked at again when more homes see it.
async fn rests(
    conn: &mut SqliteConnection,
    offer: &OfferRecord,
    told: u8,
    now: UtcMillis,
) -> Result<(), StoreError> {
    let next = offer.terms.sees_more_at(told, now);
    let next = next.filter(|_| offer.withdrawn_at.is_none());
    sqlx::query(
        "UPDATE offer_news SET told = ?, telling = NULL, after_home = 0, next_at = ? WHERE offer_id = ?",
    )
    .bind(told)
    .bind(next.map(|at| at.0))
    .bind(offer.id.0)
    .execute(conn)
    .await
    .doing(TELLING)
    .map(|_| ())
}

/// A new offer: it is looked at, by whatever clock.
pub(super) async fn publish(conn: &mut SqliteConnection, id: OfferId) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO offer_news (offer_id, next_at) VALUES (?, 0)")
        .bind(id.0)
        .execute(conn)
        .await
        .map(|_| ())
}

/// It stands on other terms: it is looked at again.
pub(super) async fn change(conn: &mut SqliteConnection, id: OfferId) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE offer_news SET next_at = 0 WHERE offer_id = ?")
        .bind(id.0)
        .execute(conn)
        .await
        .map(|_| ())
}
