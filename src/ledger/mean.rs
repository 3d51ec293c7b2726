use serde::{Deserialize, Serialize};

/// The mean of what was measured lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Mean {
    sum: u64,
    count: u32,
}

impl Mean {
    /// Older samples fade as others come: some devices take twice as long as most, and none of them is to decide.
    const LATELY: u32 = 32;

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
            self.sum -= self.sum / u64::from(self.count);
        } else {
            self.count += 1;
        }
        self.sum = self.sum.saturating_add(sample);
    }

    /// Whether it tells something else than `before`: another value by an eighth, or one that twice as many samples bear.
    pub fn has_moved_from(&self, before: Self) -> bool {
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
        assert_eq!(times, 6, "after 1, 2, 4, 8, 16 and 32 samples");
        mean.add(1_600);
        assert!(!mean.has_moved_from(told));
        for _ in 0..32 {
            mean.add(1_600);
        }
        assert!(mean.has_moved_from(told));
    }
}
