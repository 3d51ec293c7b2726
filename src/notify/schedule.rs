use std::time::Duration;

use crate::{clock::UtcMillis, store::AttemptResult};

/// Each pause is so many times as long as the one before.
const FACTOR: u32 = 3;
/// No pause is longer.
const LONGEST_PAUSE: Duration = Duration::from_hours(6);

/// When a delivery that failed is tried again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schedule {
    /// Between the first attempt and the second.
    pub(super) first_pause: Duration,
    /// From the first attempt to the last.
    pub(super) give_up_after: Duration,
}

impl Schedule {
    /// The pause after an attempt that failed, the `attempts`th: with the usual first one 5 s, 15 s, 45 s, … 6 h.
    pub(super) fn pause(&self, attempts: u32) -> Duration {
        let factor = FACTOR.saturating_pow(attempts.saturating_sub(1));
        self.first_pause.saturating_mul(factor).min(LONGEST_PAUSE)
    }

    /// What follows an attempt that failed at `now`, the `attempts`th: another one, not before the time that the
    /// receiver asked for, or none at the end of the time in which it is tried.
    pub(super) fn follow(
        &self,
        attempts: u32,
        first_at: UtcMillis,
        now: UtcMillis,
        wait: Option<Duration>,
        error: String,
    ) -> AttemptResult {
        let end = first_at + self.give_up_after;
        if now >= end {
            return AttemptResult::GivenUp { error };
        }
        let pause = self.pause(attempts).max(wait.unwrap_or_default());
        let at = (now + pause).min(end);
        AttemptResult::Again { at, error }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delivery_is_tried_for_a_day_with_growing_pauses() {
        let schedule = Schedule {
            first_pause: Duration::from_secs(5),
            give_up_after: Duration::from_hours(24),
        };
        let first = UtcMillis(1_000);
        let mut now = first;
        let mut pauses = Vec::new();
        for attempts in 1.. {
            match schedule.follow(attempts, first, now, None, String::new()) {
                AttemptResult::Again { at, .. } => {
                    pauses.push(at.since(now).as_secs());
                    now = at;
                }
                _ => break,
            }
        }
        assert_eq!(
            pauses,
            [
                5, 15, 45, 135, 405, 1_215, 3_645, 10_935, 21_600, 21_600, 21_600, 5_200
            ]
        );
        assert_eq!(now.since(first), schedule.give_up_after);
    }

    #[test]
    fn the_receivers_wish_is_heeded_within_the_day() {
        let schedule = Schedule {
            first_pause: Duration::from_secs(5),
            give_up_after: Duration::from_hours(1),
        };
        let (first, now) = (UtcMillis(0), UtcMillis(1_000));
        let asked = |seconds| {
            let wait = Some(Duration::from_secs(seconds));
            schedule.follow(1, first, now, wait, String::new())
        };
        let again = |ms| AttemptResult::Again {
            at: UtcMillis(ms),
            error: String::new(),
        };
        assert_eq!(asked(1), again(6_000));
        assert_eq!(asked(60), again(61_000));
        assert_eq!(asked(1_000_000), again(3_600_000));
    }
}
