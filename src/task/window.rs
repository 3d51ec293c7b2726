//! The hours within which a task may begin upgrades.
//!
//! A window stands in local time: so many hours from a time of day on, on some days of the week. Over midnight it belongs to the
//! day on which it begins. It begins at the first instant at which a clock on the wall shows its `from`, or would have, and
//! ends likewise with its `to`: within a gap that is the end of the gap, in a fold the first of the two. So a change of the
//! clocks neither doubles nor drops a window, and one that spans it is longer or shorter by as much. Should a whole window
//! lie within a gap, it begins at the end of the gap and lasts as long as on another day.
//!
//! Zone data is part of the program: the same windows are open on every machine.

mod days;
mod form;
mod zone;

use std::collections::BTreeSet;

use jiff::{
    Timestamp, ToSpan as _,
    civil::{Date, DateTime, Time},
    tz::{AmbiguousOffset, TimeZone},
};
use serde::{Deserialize, Serialize};

use crate::clock::UtcMillis;
pub use days::Days;
pub use form::{WindowFault, WindowsError, WindowsForm};
pub use zone::{UnknownZone, time_zone};

/// Most windows of a task.
pub const MAX_WINDOWS: usize = 50;
/// Most holidays of a task.
pub const MAX_HOLIDAYS: usize = 400;

/// Days ahead on which the end of open windows is looked for.
const AHEAD_DAYS: i32 = 8;
/// Days ahead on which the next window is looked for: all of a year may be holidays, and a few days more.
const OPENS_WITHIN_DAYS: i32 = 370;
/// Days back on which a window that is open may have begun: it lasts a day, and zones have skipped one.
const BACK_DAYS: i32 = 3;
const DAY_MS: i64 = 86_400_000;

/// When a task may begin upgrades: 1 to 50 windows, the zone in which they stand, and days without.
///
/// As JSON: `{"windows":[{"days":["mon","tue"],"from":"22:00","to":"05:00"}],"zone":"Europe/Berlin",
/// "holidays":["2027-12-25"],"at_end":"finish"}`. The zone is an IANA name, or `device`: each device's own, and
/// `fallback_zone` (UTC unless it is given) for devices that have none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "form::WindowsForm", into = "form::WindowsForm")]
#[expect(clippy::struct_field_names, reason = "it is what they are called")]
pub struct Windows {
    windows: Vec<Window>,
    zone: WindowZone,
    holidays: BTreeSet<Date>,
    at_end: AtEnd,
}

/// Some hours on some days of the week.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// The days on which it begins.
    pub days: Days,
    /// The time of day at which it begins.
    pub from: Time,
    /// The time of day at which it ends: on the same day if that is later than `from`, or else on the next one. So it lasts a
    /// whole day where both are the same.
    pub to: Time,
}

/// Whose clock on the wall counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WindowZone {
    /// The same for all devices.
    Named(TimeZone),
    /// Each device's own.
    Device {
        /// For devices that have none.
        fallback: TimeZone,
    },
}

/// What becomes of running upgrades when the windows close.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AtEnd {
    /// What runs goes on.
    #[default]
    Finish,
    /// What has not been commanded to install is taken back, and begins again in the next window.
    TakeBack,
}

/// Whether upgrades may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WindowState {
    /// They may.
    Open {
        /// The first instant at which they may not; [`WindowState::FAR`] where that is more than 8 days away.
        until: UtcMillis,
    },
    /// They may not.
    Closed {
        /// The first instant at which they may; `None` where that is more than 370 days away.
        opens_at: Option<UtcMillis>,
    },
}

impl WindowState {
    /// Later than anything that is looked for: 9999-12-30.
    pub const FAR: UtcMillis = UtcMillis(253_402_128_000_000);

    /// Whether upgrades may begin.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Open { .. })
    }

    /// When that changes, as far as is looked.
    pub fn changes_at(self) -> Option<UtcMillis> {
        match self {
            Self::Open { until } => Some(until).filter(|until| *until < Self::FAR),
            Self::Closed { opens_at } => opens_at,
        }
    }
}

impl Windows {
    /// Windows of a task.
    ///
    /// # Errors
    ///
    /// There is no window, or more than [`MAX_WINDOWS`] of them, or more than [`MAX_HOLIDAYS`] holidays.
    pub fn new(
        windows: Vec<Window>,
        zone: WindowZone,
        holidays: BTreeSet<Date>,
        at_end: AtEnd,
    ) -> Result<Self, WindowsError> {
        form::check_counts(windows.len(), holidays.len())?;
        Ok(Self {
            windows,
            zone,
            holidays,
            at_end,
        })
    }

    /// The windows.
    pub fn windows(&self) -> &[Window] {
        &self.windows
    }

    /// Whose clock counts.
    pub const fn zone(&self) -> &WindowZone {
        &self.zone
    }

    /// Local dates on which no window begins.
    pub const fn holidays(&self) -> &BTreeSet<Date> {
        &self.holidays
    }

    /// What becomes of running upgrades when they close.
    pub const fn at_end(&self) -> AtEnd {
        self.at_end
    }

    /// The zone in which the windows stand for a device whose own is `device`.
    pub fn zone_for<'a>(&'a self, device: Option<&'a TimeZone>) -> &'a TimeZone {
        match &self.zone {
            WindowZone::Named(zone) => zone,
            WindowZone::Device { fallback } => device.unwrap_or(fallback),
        }
    }

    /// Whether upgrades may begin at `now` where the clock of `zone` counts (see [`zone_for`](Self::zone_for)), and when that
    /// changes. Windows that meet or overlap count as one.
    ///
    /// A time before the year 1 or after the year 9998 is in no window.
    pub fn open(&self, now: UtcMillis, zone: &TimeZone) -> WindowState {
        let Some(today) = local_date(now, zone) else {
            return WindowState::Closed { opens_at: None };
        };
        let mut spans: Vec<(UtcMillis, UtcMillis)> = (-BACK_DAYS..=AHEAD_DAYS + 1)
            .filter_map(|days| today.checked_add(days.days()).ok())
            .flat_map(|date| self.spans_on(date, zone))
            .collect();
        spans.sort_unstable();
        let mut until = None;
        for (from, to) in spans {
            // What is open has begun, or begins no later than what was open before ends.
            if from <= until.unwrap_or(now) && to > until.unwrap_or(now) {
                until = Some(to);
            }
        }
        match until {
            Some(until) if until.0 - now.0 > i64::from(AHEAD_DAYS) * DAY_MS => WindowState::Open {
                until: WindowState::FAR,
            },
            Some(until) => WindowState::Open { until },
            None => WindowState::Closed {
                opens_at: self.opens_at(now, today, zone),
            },
        }
    }

    /// When the first window after `now` begins, none being open.
    fn opens_at(&self, now: UtcMillis, today: Date, zone: &TimeZone) -> Option<UtcMillis> {
        let first_of_day = |days: i32| {
            let date = today.checked_add(days.days()).ok()?;
            let begins = self.spans_on(date, zone).map(|(from, _)| from);
            begins.filter(|from| *from > now).min()
        };
        let at = (-1..=OPENS_WITHIN_DAYS + 1).find_map(first_of_day)?;
        (at.0 - now.0 <= i64::from(OPENS_WITHIN_DAYS) * DAY_MS).then_some(at)
    }

    /// Beginnings and ends of the windows that begin on that day.
    fn spans_on<'a>(
        &'a self,
        date: Date,
        zone: &'a TimeZone,
    ) -> impl Iterator<Item = (UtcMillis, UtcMillis)> + 'a {
        let windows = (!self.holidays.contains(&date)).then_some(&self.windows);
        windows
            .into_iter()
            .flatten()
            .filter(move |window| window.days.contains(date.weekday()))
            .filter_map(move |window| window.span(date, zone))
    }
}

impl Window {
    /// Its first instant and the first one after it when it begins on that day; `None` at the ends of time.
    fn span(&self, date: Date, zone: &TimeZone) -> Option<(UtcMillis, UtcMillis)> {
        let last = if self.to > self.from {
            date
        } else {
            date.tomorrow().ok()?
        };
        let (from, to) = (date.to_datetime(self.from), last.to_datetime(self.to));
        let begins = first_instant(from, zone)?;
        let mut ends = first_instant(to, zone)?;
        if ends <= begins {
            // all of it lies within a gap
            ends = begins.checked_add(from.duration_until(to)).ok()?;
        }
        Some((
            UtcMillis(begins.as_millisecond()),
            UtcMillis(ends.as_millisecond()),
        ))
    }
}

fn local_date(at: UtcMillis, zone: &TimeZone) -> Option<Date> {
    let at = Timestamp::from_millisecond(at.0).ok()?;
    Some(zone.to_datetime(at).date()).filter(|date| (1..9_999).contains(&date.year()))
}

/// The first instant at which the clock of `zone` shows `local`, or would have, had it not been moved forward.
fn first_instant(local: DateTime, zone: &TimeZone) -> Option<Timestamp> {
    let ambiguous = zone.to_ambiguous_timestamp(local);
    match ambiguous.offset() {
        AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(local).ok(),
        AmbiguousOffset::Fold { before, .. } => before.to_timestamp(local).ok(),
        AmbiguousOffset::Gap { before, after } => {
            // In the offset from before the gap it is past the change, in that from after the gap it is not yet.
            let mut past = before.to_timestamp(local).ok()?.as_second();
            let mut not_yet = after.to_timestamp(local).ok()?.as_second();
            while past - not_yet > 1 {
                let middle = not_yet + (past - not_yet) / 2;
                if zone.to_offset(Timestamp::from_second(middle).ok()?) == before {
                    not_yet = middle;
                } else {
                    past = middle;
                }
            }
            Timestamp::from_second(past).ok()
        }
    }
}

#[cfg(test)]
mod tests;
