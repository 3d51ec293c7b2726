//! When a device that sleeps comes by: by itself, or by appointment.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::UtcMillis;

/// When a device wakes up by itself, learnt from when it did.
///
/// The period is a mean of the last ones, and so is the deviation from it. A wake-up that was not heard counts as one: an
/// interval may be several periods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct WakeUps {
    /// The last one.
    pub last_at: UtcMillis,
    /// From one to the next, seconds; 0 before the second.
    pub period_s: u32,
    /// Mean deviation from that, seconds.
    pub spread_s: u32,
    /// Periods in a row that were about as long, up to 255.
    pub seen: u8,
}

impl WakeUps {
    /// So many periods in a row are no chance.
    const CONVINCING: u8 = 1;
    /// Wake-ups in a row that may have been missed.
    const MISSED_AT_MOST: i64 = 3;
    /// Whoever is heard again so soon had not slept.
    const SHORTEST_MS: i64 = 10_000;
    /// The longest period that is believed in: a week.
    const LONGEST_MS: i64 = 7 * 86_400_000;

    /// The first.
    pub const fn first(at: UtcMillis) -> Self {
        Self {
            last_at: at,
            period_s: 0,
            spread_s: 0,
            seen: 0,
        }
    }

    /// It woke up again.
    #[must_use]
    pub fn again(self, at: UtcMillis) -> Self {
        let took_ms = at.0.saturating_sub(self.last_at.0);
        if (0..Self::SHORTEST_MS).contains(&took_ms) {
            return self; // the same one
        }
        if !(0..=Self::LONGEST_MS * Self::MISSED_AT_MOST).contains(&took_ms) {
            return Self::first(at);
        }
        let period_ms = i64::from(self.period_s) * 1_000;
        let times = (took_ms.saturating_add(period_ms / 2))
            .checked_div(period_ms)
            .unwrap_or(0);
        let deviation_ms = (took_ms - times * period_ms).abs();
        let some = (1..=Self::MISSED_AT_MOST).contains(&times);
        let another = !some || deviation_ms > period_ms / 8;
        if another {
            return Self {
                period_s: seconds(took_ms),
                seen: u8::from(took_ms <= Self::LONGEST_MS),
                ..Self::first(at)
            };
        }
        let mean = |old: u32, new_ms: i64| seconds((i64::from(old) * 3_000 + new_ms) / 4);
        Self {
            last_at: at,
            period_s: mean(self.period_s, took_ms / times),
            spread_s: mean(self.spread_s, deviation_ms),
            seen: self.seen.saturating_add(1),
        }
    }

    /// The next one after `now`, where the device is as regular as that.
    pub fn next(&self, now: UtcMillis) -> Option<UtcMillis> {
        let period_ms = i64::from(self.period_s) * 1_000;
        let regular = self.seen >= Self::CONVINCING && self.spread_s <= self.period_s / 32;
        let missed = now.0.saturating_sub(self.last_at.0).checked_div(period_ms);
        let missed = missed.filter(|missed| regular && *missed < Self::MISSED_AT_MOST)?;
        let ahead_ms = missed.max(0).saturating_add(1).saturating_mul(period_ms);
        Some(UtcMillis(self.last_at.0.saturating_add(ahead_ms)))
    }
}

fn seconds(ms: i64) -> u32 {
    u32::try_from(ms / 1_000).unwrap_or(u32::MAX)
}

/// When a client updates its registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpdateTimer {
    /// Nothing has shown it yet: it is taken to do so before the end, so that it comes too early at the worst.
    #[default]
    Unknown,
    /// At half of its lifetime.
    Half,
    /// Some 93 s (`MAX_TRANSMIT_WAIT` of RFC 7252 §4.8.2) before its end.
    BeforeEnd,
}

impl UpdateTimer {
    const MARGIN: Duration = Duration::from_secs(93);

    /// How long after its last update a client with that lifetime sends the next.
    pub fn interval(self, lifetime_s: u32) -> Duration {
        let lifetime = Duration::from_secs(lifetime_s.into());
        match self {
            Self::Half => lifetime / 2,
            Self::Unknown | Self::BeforeEnd => lifetime.saturating_sub(Self::MARGIN),
        }
    }

    /// With which lifetime it sends the next update after that time, seconds.
    pub fn lifetime_s(self, interval: Duration) -> u32 {
        let lifetime = match self {
            Self::Half => interval.saturating_mul(2),
            Self::Unknown | Self::BeforeEnd => interval.saturating_add(Self::MARGIN),
        };
        u32::try_from(lifetime.as_secs()).unwrap_or(u32::MAX)
    }

    /// What an update shows that came so long after the last one.
    #[must_use]
    pub fn seen(self, lifetime_s: u32, took: Duration) -> Self {
        let near = |timer: Self| {
            let tolerance = Duration::from_secs(20) + took / 32;
            took.abs_diff(timer.interval(lifetime_s)) <= tolerance
        };
        match (near(Self::Half), near(Self::BeforeEnd)) {
            (true, false) => Self::Half,
            (false, true) => Self::BeforeEnd,
            _ => self,
        }
    }
}

/// A lifetime that the server has written to a device (/1/0/1), so that its next update falls at an appointed time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Appointment {
    /// The device's own lifetime, which is written back; seconds.
    pub usual_s: u32,
    /// The lifetime that was written last; seconds.
    pub written_s: u32,
    /// When the device is expected; `None` when nothing but the lifetime that is to be written back is left of it.
    pub at: Option<UtcMillis>,
    /// What is known of the device's client.
    pub timer: UpdateTimer,
}

#[cfg(test)]
mod tests {
    use super::*;

    const H: i64 = 3_600_000;

    fn woken(times: &[i64]) -> WakeUps {
        let mut wakes = WakeUps::first(UtcMillis(times[0]));
        for at in &times[1..] {
            wakes = wakes.again(UtcMillis(*at));
        }
        wakes
    }

    #[test]
    fn a_regular_device_is_expected_and_another_is_not() {
        let regular = woken(&[0, 6 * H + 20_000, 12 * H, 18 * H + 10_000]);
        let next = regular.next(UtcMillis(19 * H)).unwrap();
        assert!((next.0 - 24 * H).abs() < 60_000, "{next:?}");
        let once = woken(&[0, 6 * H]).next(UtcMillis(7 * H));
        assert_eq!(once, Some(UtcMillis(12 * H)));
        assert_eq!(woken(&[0]).next(UtcMillis(7 * H)), None);
        assert_eq!(
            woken(&[0, 6 * H, 12 * H + H / 2, 18 * H]).next(UtcMillis(19 * H)),
            None
        );
    }

    #[test]
    fn a_wake_up_that_was_not_heard_is_none_the_less() {
        let wakes = woken(&[0, 6 * H, 12 * H, 24 * H]);
        assert_eq!(wakes.next(UtcMillis(31 * H)), Some(UtcMillis(36 * H)));
        assert_eq!(wakes.next(UtcMillis(80 * H)), None, "it is gone");
    }

    #[test]
    fn another_rhythm_replaces_the_one_before() {
        let wakes = woken(&[0, 6 * H, 12 * H, 18 * H, 19 * H, 20 * H, 21 * H]);
        assert_eq!(wakes.next(UtcMillis(21 * H)), Some(UtcMillis(22 * H)));
    }

    #[test]
    fn times_that_go_back_or_leap_are_no_rhythm() {
        let wakes = woken(&[6 * H, 0, i64::MAX, i64::MIN, 0]);
        assert_eq!(wakes.next(UtcMillis(1)), None);
        assert_eq!(wakes.seen, 0);
    }

    #[test]
    fn an_update_shows_when_a_client_sends_them() {
        let s = Duration::from_secs;
        let timer = UpdateTimer::default();
        assert_eq!(timer.lifetime_s(s(3_600)), 3_693);
        assert_eq!(timer.seen(3_693, s(1_850)), UpdateTimer::Half);
        assert_eq!(timer.seen(3_693, s(3_610)), UpdateTimer::BeforeEnd);
        assert_eq!(timer.seen(3_693, s(600)), UpdateTimer::Unknown);
        assert_eq!(timer.seen(186, s(93)), UpdateTimer::Unknown, "both");
        let half = UpdateTimer::Half;
        assert_eq!(half.interval(half.lifetime_s(s(7_200))), s(7_200));
    }
}
