use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::UtcMillis;

/// What follows a failed upgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RetryPolicy {
    /// Further attempts after the first one; 0 turns retries off.
    pub attempts: u32,
    /// Pause between a failure and the next attempt, seconds.
    pub interval_s: u32,
}

impl RetryPolicy {
    /// When to try again after attempt number `attempt` (from 1) failed at `now`; `None` when that
    /// was the last one.
    pub fn next_attempt_at(&self, attempt: u32, now: UtcMillis) -> Option<UtcMillis> {
        (attempt <= self.attempts).then(|| now + Duration::from_secs(u64::from(self.interval_s)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_again_as_often_as_the_task_says() {
        let policy = RetryPolicy {
            attempts: 2,
            interval_s: 300,
        };
        let now = UtcMillis(1_000);
        assert_eq!(policy.next_attempt_at(1, now), Some(UtcMillis(301_000)));
        assert_eq!(policy.next_attempt_at(2, now), Some(UtcMillis(301_000)));
        assert_eq!(policy.next_attempt_at(3, now), None);
        assert_eq!(RetryPolicy::default().next_attempt_at(1, now), None);
    }
}
