/// The mean of what was measured lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Mean {
    sum: u64,
    count: u32,
}

impl Mean {
    /// Older samples fade as others come: some devices take twice as long as most, and none of them is to decide.
    const LATELY: u32 = 32;

    pub(super) fn value(&self) -> Option<u64> {
        self.sum.checked_div(self.count.into())
    }

    pub(super) fn add(&mut self, sample: u64) {
        if self.count >= Self::LATELY {
            self.sum -= self.sum / u64::from(self.count);
        } else {
            self.count += 1;
        }
        self.sum = self.sum.saturating_add(sample);
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
}
