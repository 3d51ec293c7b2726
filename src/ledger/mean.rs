use serde::{Deserialize, Serialize};

/// The mean of what was measured lately; and of what was measured for long, which tells more of all devices together: those that
/// were measured last are not like the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Mean {
    sum: u64,
    count: u32,
    /// The sum and the number of more samples than these, once there are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    long: Option<(u64, u32)>,
}

impl Mean {
    /// Older samples fade as others come: some devices take twice as long as most, and none of them is to decide.
    const LATELY: u32 = 32;
    /// The same for what was measured for long.
    const LONG: u32 = 1_024;

    /// What it is; `None` before anything was measured.
    pub fn value(&self) -> Option<u64> {
        self.sum.checked_div(self.count.into())
    }

    /// How many samples bear it, the last 32 at the most.
    pub const fn samples(&self) -> u32 {
        self.count
    }

    /// Something was measured.
    pub fn add(&mut self, sample: u64) {
        if self.count >= Self::LATELY {
            let (sum, count) = self.long.get_or_insert((self.sum, self.count));
            if *count >= Self::LONG {
                *sum -= *sum / u64::from(*count);
            } else {
                *count += 1;
            }
            *sum = sum.saturating_add(sample);
            self.sum -= self.sum / u64::from(self.count);
        } else {
            self.count += 1;
        }
        self.sum = self.sum.saturating_add(sample);
    }

    /// The mean of what was measured for long, the last 1,024 samples, as one that has no other.
    #[must_use]
    pub fn over_long(&self) -> Self {
        let (sum, count) = self.long.unwrap_or((self.sum, self.count));
        Self {
            sum,
            count,
            long: None,
        }
    }

    /// The mean of what both have measured for long.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let (one, other) = (self.over_long(), other.over_long());
        Self {
            sum: one.sum.saturating_add(other.sum),
            count: one.count.saturating_add(other.count),
            long: None,
        }
    }

    /// So many more samples of that value.
    #[must_use]
    pub fn leaning(&self, towards: u64, samples: u32) -> Self {
        let leaning = Self {
            sum: towards.saturating_mul(samples.into()),
            count: samples,
            long: None,
        };
        self.and(&leaning)
    }

    /// Whether it tells something else than `before`: another value by an eighth, or one that twice as many samples bear; or, of what
    /// was measured for long, an eighth more of them.
    pub fn has_moved_from(&self, before: Self) -> bool {
        let (now, then) = (self.over_long().count, before.over_long().count);
        if self.long.is_some() && now < Self::LONG && now - then.min(now) > then / 8 {
            return true;
        }
        match (self.value(), before.value()) {
            (Some(now), Some(then)) => {
                now.abs_diff(then) > then / 8 || self.count / 2 >= before.count
            }
            (now, then) => now != then,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_what_is_measured_and_not_a_single_sample() {
        let mut mean = Mean::default();
        assert_eq!(mean.value(), None);
        mean.add(100);
        assert_eq!(mean.value(), Some(100));
        for _ in 0..99 {
            mean.add(100);
        }
        mean.add(420);
        assert_eq!(mean.value(), Some(110));
        for _ in 0..400 {
            mean.add(300);
        }
        assert_eq!(mean.value(), Some(300));
    }

    #[test]
    fn what_was_measured_for_long_has_all_that_was_measured() {
        let mut mean = Mean::default();
        for sample in 1..=500 {
            mean.add(sample);
            let all = sample.div_ceil(2);
            assert!(mean.over_long().value().unwrap().abs_diff(all) <= 1);
        }
        assert!(mean.value().unwrap() > 460, "{mean:?}");
        assert_eq!(mean.over_long().samples(), 500);
        let text = serde_json::to_string(&mean).unwrap();
        assert_eq!(serde_json::from_str::<Mean>(&text).unwrap(), mean);
        // as earlier versions have written it
        let old: Mean = serde_json::from_str(r#"{"sum":320,"count":32}"#).unwrap();
        assert_eq!((old.value(), old.over_long().value()), (Some(10), Some(10)));
        let mut last = mean;
        for _ in 0..4_000 {
            last.add(2_000);
        }
        assert!(last.over_long().value().unwrap() > 1_950, "{last:?}");
        assert_eq!(old.and(&mean).samples(), 532);
        assert_eq!(old.leaning(30, 32).value(), Some(20));
    }

    #[test]
    fn has_moved_when_another_value_is_borne_out_or_more_bears_out_the_same() {
        let mut mean = Mean::default();
        assert!(!mean.has_moved_from(Mean::default()));
        let mut told = mean;
        let mut times = 0;
        for _ in 0..1_000 {
            mean.add(800);
            if mean.has_moved_from(told) {
                (told, times) = (mean, times + 1);
            }
        }
        assert_eq!(
            times, 34,
            "after 1, 2, 4, 8, 16 and 32 samples, and for each eighth that comes to them"
        );
        mean.add(1_600);
        assert!(!mean.has_moved_from(told));
        for _ in 0..32 {
            mean.add(1_600);
        }
        assert!(mean.has_moved_from(told));
    }
}
