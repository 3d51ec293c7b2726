//! For what time the owner of a device may confirm its upgrade. Pure.

use std::time::Duration;

use thiserror::Error;

use super::{TaskRules, WindowState};
use crate::clock::UtcMillis;

/// So long before the end of its task's time, and of a window, an upgrade that is confirmed for a time begins at the latest.
const BEFORE_THE_END: Duration = Duration::from_hours(1);
/// A confirmation is for a time that is at most so far ahead: a year.
const MAX_AHEAD: Duration = Duration::from_hours(366 * 24);

/// Why an upgrade cannot be confirmed for a time, and what is possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NotThen {
    /// That is past, or before the task starts.
    #[error(
        "{at} is too early: it is possible from {earliest} on; without a time it is confirmed at once"
    )]
    TooEarly {
        /// For when it was to be.
        at: UtcMillis,
        /// The first time that is possible.
        earliest: UtcMillis,
    },
    /// That is too near to the end of the task's time, beyond it, or too far ahead.
    #[error("{at} is too late: it is possible from {earliest} to {latest}")]
    TooLate {
        /// For when it was to be.
        at: UtcMillis,
        /// The first time that is possible.
        earliest: UtcMillis,
        /// The last one.
        latest: UtcMillis,
    },
    /// No time is left that is far enough from the end.
    #[error(
        "no time is possible: the task takes nothing up after {not_after} (not_after); confirm it without a time"
    )]
    NoTime {
        /// The end of the task's time.
        not_after: UtcMillis,
    },
    /// No window is open then.
    #[error("no window of the task is open at {at}; {}", next(*.opens_at))]
    WindowClosed {
        /// For when it was to be.
        at: UtcMillis,
        /// When the next window opens, if one does within a year.
        opens_at: Option<UtcMillis>,
    },
    /// The window ends soon after that.
    #[error("the window that is open at {at} ends at {until}: an hour has to be left; {}", next(*.opens_at))]
    WindowEnds {
        /// For when it was to be.
        at: UtcMillis,
        /// When the window ends.
        until: UtcMillis,
        /// When the next window opens, if one does within a year.
        opens_at: Option<UtcMillis>,
    },
}

fn next(opens_at: Option<UtcMillis>) -> String {
    match opens_at {
        Some(at) => format!("the next one opens at {at}"),
        None => "none opens within a year".to_owned(),
    }
}

impl TaskRules {
    /// Whether the upgrade of a device in this time zone may be confirmed for `at`. `due` is when it may begin as far as its task's start is
    /// concerned.
    ///
    /// # Errors
    /// It may not; what is possible.
    pub fn check_confirmed_for(
        &self,
        zone: Option<&str>,
        due: UtcMillis,
        now: UtcMillis,
        at: UtcMillis,
    ) -> Result<(), NotThen> {
        let earliest = due.max(now);
        if at < earliest {
            return Err(NotThen::TooEarly { at, earliest });
        }
        let mut latest = now + MAX_AHEAD;
        if let Some(not_after) = self.not_after {
            latest = latest.min(not_after.before(BEFORE_THE_END));
            if latest < earliest {
                return Err(NotThen::NoTime { not_after });
            }
        }
        if at > latest {
            return Err(NotThen::TooLate {
                at,
                earliest,
                latest,
            });
        }
        match self.window(zone, at) {
            WindowState::Open { until } if until.before(BEFORE_THE_END) >= at => Ok(()),
            WindowState::Open { until } => Err(NotThen::WindowEnds {
                at,
                until,
                opens_at: self.window(zone, until).changes_at(),
            }),
            WindowState::Closed { opens_at } => Err(NotThen::WindowClosed { at, opens_at }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;
    /// 2027-01-15T08:00:00Z, a Friday.
    const NOW: UtcMillis = UtcMillis(1_800_000_000_000);

    fn check(rules: &str, due: i64, at: i64) -> Result<(), NotThen> {
        let rules: TaskRules = serde_json::from_str(rules).unwrap();
        rules.check_confirmed_for(None, hours(due), NOW, hours(at))
    }

    fn hours(from_now: i64) -> UtcMillis {
        UtcMillis(NOW.0 + from_now * HOUR)
    }

    #[test]
    fn it_is_neither_past_nor_before_the_start_nor_more_than_a_year_ahead() {
        assert_eq!(check("{}", -5, 0), Ok(()));
        assert_eq!(check("{}", -5, 366 * 24), Ok(()));
        let early = |at, earliest| {
            let (at, earliest) = (hours(at), hours(earliest));
            Err(NotThen::TooEarly { at, earliest })
        };
        assert_eq!(check("{}", -5, -1), early(-1, 0));
        assert_eq!(check("{}", 3, 2), early(2, 3));
        let late = NotThen::TooLate {
            at: hours(367 * 24),
            earliest: NOW,
            latest: hours(366 * 24),
        };
        assert_eq!(check("{}", 0, 367 * 24), Err(late));
    }

    #[test]
    fn an_hour_is_left_before_the_last_time_of_the_task() {
        let rules = r#"{"not_after": "2027-01-15T12:00:00Z"}"#; // in four hours
        assert_eq!(check(rules, 0, 3), Ok(()));
        let late = NotThen::TooLate {
            at: hours(4),
            earliest: NOW,
            latest: hours(3),
        };
        assert_eq!(check(rules, 0, 4), Err(late));
        let soon = r#"{"not_after": "2027-01-15T08:59:59Z"}"#;
        let not_after = UtcMillis(NOW.0 + HOUR - 1_000);
        assert_eq!(check(soon, 0, 0), Err(NotThen::NoTime { not_after }));
    }

    #[test]
    fn a_window_is_open_then_and_for_another_hour() {
        let rules = r#"{"windows": {"windows": [{"days": ["fri"], "from": "10:00", "to": "12:00"}], "zone": "UTC"}}"#;
        let next_week = 7 * 24 + 2;
        assert_eq!(check(rules, 0, 2), Ok(()));
        assert_eq!(check(rules, 0, 3), Ok(()));
        let closed = |at, opens_at| {
            let (at, opens_at) = (hours(at), Some(hours(opens_at)));
            Err(NotThen::WindowClosed { at, opens_at })
        };
        assert_eq!(check(rules, 0, 1), closed(1, 2));
        assert_eq!(check(rules, 0, 4), closed(4, next_week));
        let rules: TaskRules = serde_json::from_str(rules).unwrap();
        let at = UtcMillis(hours(3).0 + 1);
        let ends = NotThen::WindowEnds {
            at,
            until: hours(4),
            opens_at: Some(hours(next_week)),
        };
        let checked = rules.check_confirmed_for(None, NOW, NOW, at);
        assert_eq!(checked, Err(ends));
        assert_eq!(
            ends.to_string(),
            "the window that is open at 2027-01-15T11:00:00.001Z ends at 2027-01-15T12:00:00.000Z: an hour has to be left; \
             the next one opens at 2027-01-22T10:00:00.000Z"
        );
    }
}
