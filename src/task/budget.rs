//! What a device may spend in a month, of bytes and of airtime, and whether an upgrade fits what is left of it. Pure.

use jiff::{Timestamp, ToSpan, civil::Date, tz::TimeZone};
use serde::{Deserialize, Serialize};

use super::{UpgradeId, time_zone};
use crate::{
    clock::UtcMillis,
    ledger::{Happened, Line, Usage},
};

/// The most bytes of a budget: a terabyte.
pub const MAX_BUDGET_BYTES: u64 = 1_000_000_000_000;
/// The most airtime of a budget, seconds: all of a month of 31 days.
pub const MAX_BUDGET_AIRTIME_S: u64 = 31 * 24 * 3_600;

/// What the upgrades of a device may cost in a calendar month: those of all tasks count. One at least is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Budget {
    /// Bytes in both directions, 1 to [`MAX_BUDGET_BYTES`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_month: Option<u64>,
    /// Seconds of airtime in both directions, as it is estimated: 1 to [`MAX_BUDGET_AIRTIME_S`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub airtime_estimated_seconds_per_month: Option<u64>,
}

/// What of a budget runs out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// Bytes.
    Bytes,
    /// Estimated airtime, ms.
    Airtime,
}

/// A calendar month somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Month {
    /// Months since the year 0.
    pub number: i32,
    /// When it begins.
    pub begins_at: UtcMillis,
    /// When the next one begins.
    pub ends_at: UtcMillis,
}

/// What a device has exchanged in a month, as far as a budget looks at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MonthUsage {
    /// The month, where the device is.
    pub month: Month,
    /// In all tasks.
    pub used: Usage,
}

/// What a device has spent this month, and what an upgrade will cost it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spent {
    /// This month, in all tasks.
    pub used: Usage,
    /// What the package costs, as far as that is known before.
    pub need: Usage,
    /// When the next month begins.
    pub month_ends_at: UtcMillis,
}

/// An upgrade does not fit what is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OverBudget {
    /// Of what.
    pub resource: Resource,
    /// This month, in bytes or ms.
    pub used: u64,
    /// What it costs.
    pub need: u64,
    /// What a month has.
    pub budget: u64,
    /// When the next month begins.
    pub until: UtcMillis,
}

/// An upgrade that waits until a month begins in which its device may spend again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PutOff {
    /// The upgrade.
    pub upgrade: UpgradeId,
    /// Why, and until when.
    pub over: OverBudget,
}

impl Resource {
    /// Its name and unit.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Airtime => "airtime_estimated_ms",
        }
    }
}

impl PutOff {
    /// For the timeline.
    pub fn line(&self) -> Line {
        let over = self.over;
        let line = Happened::PutOff {
            resource: over.resource.name().to_owned(),
            budget: over.budget,
            used: over.used,
            needed: over.need,
            until: over.until,
        };
        line.into()
    }
}

impl Month {
    /// The month at that time in a time zone; in UTC where there is none, or none of that name.
    pub fn of(at: UtcMillis, zone: Option<&str>) -> Self {
        let zone = zone.and_then(|zone| time_zone(zone).ok());
        Self::in_zone(at, zone.unwrap_or(TimeZone::UTC)).unwrap_or(Self {
            // a time that no calendar has
            number: 0,
            begins_at: at,
            ends_at: at,
        })
    }

    fn in_zone(at: UtcMillis, zone: TimeZone) -> Option<Self> {
        let local = Timestamp::from_millisecond(at.0)
            .ok()?
            .to_zoned(zone.clone());
        let first = Date::new(local.year(), local.month(), 1).ok()?;
        let next = first.checked_add(1.month()).ok()?;
        // where midnight is skipped, it begins with what follows
        let begins_at = first.to_zoned(zone.clone()).ok()?.timestamp();
        let ends_at = next.to_zoned(zone).ok()?.timestamp();
        Some(Self {
            number: i32::from(local.year()) * 12 + i32::from(local.month()) - 1,
            begins_at: UtcMillis(begins_at.as_millisecond()),
            ends_at: UtcMillis(ends_at.as_millisecond()),
        })
    }
}

impl Budget {
    /// Whether an upgrade may begin that costs so much.
    ///
    /// # Errors
    /// It does not fit what is left: of bytes, or else of airtime.
    pub fn check(&self, spent: &Spent) -> Result<(), OverBudget> {
        let Spent { used, need, .. } = spent;
        let bytes = (
            Resource::Bytes,
            self.bytes_per_month,
            used.bytes,
            need.bytes,
        );
        let airtime = (
            Resource::Airtime,
            self.airtime_estimated_seconds_per_month
                .map(|s| s.saturating_mul(1_000)),
            used.airtime_estimated_ms,
            need.airtime_estimated_ms,
        );
        for (resource, budget, used, need) in [bytes, airtime] {
            let Some(budget) = budget else { continue };
            if used.saturating_add(need) > budget {
                return Err(OverBudget {
                    resource,
                    used,
                    need,
                    budget,
                    until: spent.month_ends_at,
                });
            }
        }
        Ok(())
    }

    /// Whether it fits a month in which nothing was spent.
    ///
    /// # Errors
    /// It does not, so that it could never begin.
    pub fn has_room_for(&self, need: Usage) -> Result<(), OverBudget> {
        self.check(&Spent {
            used: Usage::default(),
            need,
            month_ends_at: UtcMillis(0),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> UtcMillis {
        let at: Timestamp = text.parse().unwrap();
        UtcMillis(at.as_millisecond())
    }

    #[test]
    fn a_month_ends_where_the_device_is() {
        for (zone, now, number, ends_at) in [
            (None, "2027-01-31T23:59:59.999Z", 0, "2027-02-01T00:00:00Z"),
            (None, "2027-02-01T00:00:00Z", 1, "2027-03-01T00:00:00Z"),
            (None, "2027-12-31T12:00:00Z", 11, "2028-01-01T00:00:00Z"),
            (
                Some("Europe/Berlin"),
                "2027-01-31T22:59:59Z",
                0,
                "2027-01-31T23:00:00Z",
            ),
            (
                Some("Europe/Berlin"),
                "2027-01-31T23:00:00Z",
                1,
                "2027-02-28T23:00:00Z",
            ),
            // the clocks change in between
            (
                Some("Europe/Berlin"),
                "2027-03-15T12:00:00Z",
                2,
                "2027-03-31T22:00:00Z",
            ),
            (
                Some("Pacific/Kiritimati"),
                "2027-01-31T10:00:00Z",
                1,
                "2027-02-28T10:00:00Z",
            ),
            (
                Some("America/Los_Angeles"),
                "2027-02-01T07:59:00Z",
                0,
                "2027-02-01T08:00:00Z",
            ),
            (
                Some("no/where"),
                "2027-02-01T00:00:00Z",
                1,
                "2027-03-01T00:00:00Z",
            ),
        ] {
            let month = Month::of(at(now), zone);
            let expected = Month {
                number: 2027 * 12 + number,
                begins_at: month.begins_at,
                ends_at: at(ends_at),
            };
            assert_eq!(month, expected, "{zone:?} {now}");
            // it begins where the one before has ended
            let before = Month::of(UtcMillis(month.begins_at.0 - 1), zone);
            assert_eq!(
                (before.number, before.ends_at),
                (month.number - 1, month.begins_at)
            );
        }
        assert_eq!(Month::of(UtcMillis(i64::MAX), None).number, 0);
    }

    const fn usage(bytes: u64, airtime_estimated_ms: u64) -> Usage {
        Usage {
            bytes,
            airtime_estimated_ms,
        }
    }

    #[test]
    fn what_fits_to_the_last_byte_may_begin() {
        let budget = Budget {
            bytes_per_month: Some(1_000),
            airtime_estimated_seconds_per_month: Some(60),
        };
        let spent = |used, need| Spent {
            used,
            need,
            month_ends_at: UtcMillis(9),
        };
        let check = |used, need| {
            let over = budget.check(&spent(used, need)).err()?;
            assert_eq!(over.until, UtcMillis(9));
            Some((over.resource, over.budget))
        };
        assert_eq!(check(usage(600, 0), usage(400, 60_000)), None);
        let bytes = Some((Resource::Bytes, 1_000));
        assert_eq!(check(usage(600, 0), usage(401, 0)), bytes);
        let airtime = Some((Resource::Airtime, 60_000));
        assert_eq!(check(usage(0, 1), usage(400, 60_000)), airtime);
        assert_eq!(check(usage(u64::MAX, 0), usage(u64::MAX, 0)), bytes);
        assert!(budget.has_room_for(usage(1_000, 60_000)).is_ok());
        assert!(budget.has_room_for(usage(1_001, 0)).is_err());
        let nothing_said = Budget::default();
        let much = spent(usage(u64::MAX, u64::MAX), usage(1, 1));
        assert!(nothing_said.check(&much).is_ok());
    }

    proptest! {
        #[test]
        fn nothing_begins_that_does_not_fit(
            bytes in proptest::option::of(1..2_000_u64),
            airtime in proptest::option::of(1..3_u64),
            used in (0..2_000_u64, 0..3_000_u64),
            need in (0..2_000_u64, 0..3_000_u64),
        ) {
            let budget = Budget { bytes_per_month: bytes, airtime_estimated_seconds_per_month: airtime };
            let spent = Spent {
                used: usage(used.0, used.1),
                need: usage(need.0, need.1),
                month_ends_at: UtcMillis(0),
            };
            let fits = bytes.is_none_or(|most| used.0 + need.0 <= most)
                && airtime.is_none_or(|most| used.1 + need.1 <= most * 1_000);
            prop_assert_eq!(budget.check(&spent).is_ok(), fits);
        }
    }
}
