/// When a value was measured, as its sender tells it; a later time is the greater one.
///
/// RFC 8428 §4.5.3, and likewise JSON of LwM2M 1.0: from 2^28 on seconds since 1970, below that seconds from the
/// moment in which it was sent, mostly negative. What is told relative to now counts as newer than what has a date:
/// a value without time is one of now.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub(super) struct Time {
    relative: bool,
    seconds: f64,
}

impl Time {
    pub(super) const NOW: Self = Self {
        relative: true,
        seconds: 0.0,
    };

    /// Base time and time of a record; what is no number counts as not given.
    pub(super) fn of(base: Option<f64>, time: Option<f64>) -> Self {
        const FIRST_DATE: f64 = 268_435_456.0; // 2^28
        let seconds = base.unwrap_or_default() + time.unwrap_or_default();
        if seconds.is_finite() {
            Self {
                relative: seconds < FIRST_DATE,
                seconds,
            }
        } else {
            Self::NOW
        }
    }

    /// The same order, of which nothing is left out.
    pub(super) fn total_cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.relative.cmp(&other.relative)).then(self.seconds.total_cmp(&other.seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_of_now_is_newer_than_what_has_a_date() {
        let in_order = [
            Time::of(Some(1_700_000_000.0), Some(-60.0)),
            Time::of(Some(1_700_000_000.0), None),
            Time::of(None, Some(1_700_000_001.0)),
            Time::of(None, Some(-3_600.0)),
            Time::of(Some(-10.0), Some(5.0)),
            Time::NOW,
        ];
        assert!(in_order.is_sorted_by(|a, b| a < b));
        assert_eq!(Time::of(Some(f64::NAN), None), Time::NOW);
        assert_eq!(Time::of(Some(f64::MAX), Some(f64::MAX)), Time::NOW);
    }
}
