use std::time::Duration;

use crate::{clock::UtcMillis, ledger::RetryPolicy};

/// When to try again after attempt number `attempt` (from 1) failed at `now`; `None` when that was the last one.
pub fn next_attempt_at(policy: RetryPolicy, attempt: u32, now: UtcMillis) -> Option<UtcMillis> {
    (attempt <= policy.attempts).then(|| now + Duration::from_secs(policy.interval_s.into()))
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
        assert_eq!(next_attempt_at(policy, 1, now), Some(UtcMillis(301_000)));
        assert_eq!(next_attempt_at(policy, 2, now), Some(UtcMillis(301_000)));
        assert_eq!(next_attempt_at(policy, 3, now), None);
        assert_eq!(next_attempt_at(RetryPolicy::default(), 1, now), None);
    }
}
