//! How fast bytes leave.

use std::time::Duration;

use crate::clock::Instant;

/// A bound on bytes per second. Whoever wants to send takes a number of bytes, and is told how long to wait before it sends them;
/// so those who wait are served in the order in which they asked.
///
/// It is a leaky bucket on a clock that is handed in (the generic cell rate algorithm, ITU-T I.371): bytes that were
/// not taken for a quarter of a second may be taken at once.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pace {
    /// When all that was taken will have left, in nanoseconds on the clock of [`Instant`].
    free_at_ns: u128,
}

/// What may be taken in advance.
const BURST_NS: u128 = 250_000_000;

impl Pace {
    /// Takes bytes at this rate; 0 is no bound. Returns how long to wait before they may leave.
    pub fn take(&mut self, bytes: u64, bytes_per_second: u64, now: Instant) -> Duration {
        if bytes_per_second == 0 {
            return Duration::ZERO;
        }
        let now_ns = u128::from(now.as_millis()) * 1_000_000;
        let begins_at_ns = self.free_at_ns.max(now_ns.saturating_sub(BURST_NS));
        self.free_at_ns = begins_at_ns + time_ns(bytes, bytes_per_second);
        let wait_ns = begins_at_ns.saturating_sub(now_ns);
        Duration::from_nanos(u64::try_from(wait_ns).unwrap_or(u64::MAX))
    }

    /// Gives bytes back that were taken at this rate and never left: nobody waits for them.
    pub fn give_back(&mut self, bytes: u64, bytes_per_second: u64) {
        self.free_at_ns = self
            .free_at_ns
            .saturating_sub(time_ns(bytes, bytes_per_second));
    }
}

/// How long bytes take at this rate; 0 is no bound.
fn time_ns(bytes: u64, bytes_per_second: u64) -> u128 {
    (u128::from(bytes) * 1_000_000_000)
        .checked_div(u128::from(bytes_per_second))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that leave in that many milliseconds, if one sends as fast as one may.
    fn sent(pace: &mut Pace, rate: u64, chunk: u64, ms: u64) -> u64 {
        let mut now = Duration::from_secs(10);
        let end = now + Duration::from_millis(ms);
        let mut bytes = 0;
        loop {
            now += pace.take(
                chunk,
                rate,
                Instant::from_millis(u64::try_from(now.as_millis()).unwrap()),
            );
            if now >= end {
                return bytes;
            }
            bytes += chunk;
        }
    }

    #[test]
    fn sends_at_the_rate_and_no_more_than_a_quarter_of_a_second_in_advance() {
        for (rate, chunk) in [(1_000, 100), (65_536, 16_384), (10_000_000, 65_536)] {
            let bytes = sent(&mut Pace::default(), rate, chunk, 20_000);
            let most = rate * 20 + rate / 4 + chunk;
            assert!(bytes <= most, "{bytes} at {rate}");
            assert!(bytes + chunk >= rate * 20, "{bytes} at {rate}");
        }
    }

    #[test]
    fn those_who_wait_are_served_in_turn() {
        let mut pace = Pace::default();
        let now = Instant::from_millis(5_000);
        let waits: Vec<u128> = (0..5)
            .map(|_| pace.take(1_000, 1_000, now).as_millis())
            .collect();
        assert_eq!(waits, [0, 750, 1_750, 2_750, 3_750]);
    }

    #[test]
    fn what_is_given_back_is_waited_for_by_nobody() {
        let mut pace = Pace::default();
        let now = Instant::from_millis(5_000);
        let take = |pace: &mut Pace| pace.take(1_000, 1_000, now).as_millis();
        assert_eq!([take(&mut pace), take(&mut pace)], [0, 750]);
        // those who come and go in front of others
        for _ in 0..100 {
            assert_eq!(take(&mut pace), 1_750);
            pace.give_back(1_000, 1_000);
        }
        // a part of it has left
        assert_eq!(take(&mut pace), 1_750);
        pace.give_back(400, 1_000);
        assert_eq!(take(&mut pace), 2_350);
        // more than was ever taken, or without a bound, is nothing
        pace.give_back(u64::MAX, 1);
        pace.give_back(u64::MAX, 0);
        assert_eq!(take(&mut pace), 0);
    }

    #[test]
    fn a_rate_of_0_is_no_bound() {
        let mut pace = Pace::default();
        assert_eq!(pace.take(u64::MAX, 0, Instant::ZERO), Duration::ZERO);
        assert_eq!(pace.take(1, 1, Instant::ZERO), Duration::ZERO);
    }
}
