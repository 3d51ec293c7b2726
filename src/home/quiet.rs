//! Hours of a home in which nothing begins by itself.

use std::time::Duration;

use jiff::{Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};

use crate::clock::UtcMillis;

/// Minutes of a day.
pub const MINUTES_OF_DAY: u16 = 24 * 60;

/// Hours in which no upgrade begins by itself, in the time zone of the home: from the one minute of the day up to the other, over
/// midnight where that comes before. Upgrades that have begun go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuietHours {
    /// The first minute of the day, 0 to 1439.
    from: u16,
    /// The first minute of the day that is not quiet any more, 0 to 1439.
    to: u16,
}

impl QuietHours {
    /// From one minute of the day up to another; `None` where one of them is none, or both are the same.
    pub fn new(from: u16, to: u16) -> Option<Self> {
        let fits = from < MINUTES_OF_DAY && to < MINUTES_OF_DAY && from != to;
        fits.then_some(Self { from, to })
    }

    /// Of times of the day such as `22:00` and `06:30`; `None` where one of them is none, or both are the same.
    pub fn parse(from: &str, to: &str) -> Option<Self> {
        Self::new(minute(from)?, minute(to)?)
    }

    /// The first minute, and the first that is not quiet any more.
    pub const fn minutes(self) -> (u16, u16) {
        (self.from, self.to)
    }

    /// The same as times of the day: `22:00`, `06:30`.
    pub fn times(self) -> (String, String) {
        let time = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
        (time(self.from), time(self.to))
    }

    /// Whether it is quiet in that zone at `now`.
    pub fn is_quiet(self, zone: &TimeZone, now: UtcMillis) -> bool {
        let Ok(now) = Timestamp::from_millisecond(now.0) else {
            return true; // no such time is told
        };
        let local = zone.to_datetime(now);
        // neither is negative
        let minute = u16::try_from(i32::from(local.hour()) * 60 + i32::from(local.minute()));
        let minute = minute.unwrap_or_default();
        if self.from < self.to {
            (self.from..self.to).contains(&minute)
        } else {
            minute >= self.from || minute < self.to
        }
    }

    /// When something may begin, seen from `now`: at once, or when it is quiet no more. Where clocks change in between it is to be asked
    /// again then.
    pub fn over(self, zone: &TimeZone, now: UtcMillis) -> UtcMillis {
        let mut at = now;
        // the longest quiet time is a day but a minute; steps of a minute meet each change of the clock
        for _ in 0..2 * u32::from(MINUTES_OF_DAY) {
            if !self.is_quiet(zone, at) {
                return at;
            }
            let into = u64::try_from(at.0.rem_euclid(60_000)).unwrap_or_default();
            at = at + Duration::from_millis(60_000 - into);
        }
        at
    }
}

/// The minute of a day of a text such as `06:30`.
fn minute(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let two = |part: &str| {
        let digits = part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| part.parse::<u16>().ok()).flatten()
    };
    let (hours, minutes) = (two(hours)?, two(minutes)?);
    (hours < 24 && minutes < 60).then_some(hours * 60 + minutes)
}
