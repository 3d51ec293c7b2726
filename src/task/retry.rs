use std::time::Duration;

use crate::{
    clock::UtcMillis,
    ledger::{Failure, Outcome, RetryPolicy},
};

/// When to try again after attempt number `attempt` (from 1) ended so at `now`; `None` when it succeeded, was cancelled, was the
/// last one, or has failed for a reason that is not tried again: the task's choice, and what no time mends.
pub fn next_attempt_at(
    policy: RetryPolicy,
    attempt: u32,
    outcome: &Outcome,
    now: UtcMillis,
) -> Option<UtcMillis> {
    let again = matches!(outcome, Outcome::Failed(failure) if *failure != Failure::NotServed)
        && attempt <= policy.attempts
        && policy.reasons.has(outcome.reason());
    again.then(|| now + Duration::from_secs(policy.interval_s.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Reasons, Success};

    const FAILED: Outcome = Outcome::Failed(Failure::DeviceNotHeard);

    #[test]
    fn tries_again_as_often_as_the_task_says() {
        let policy = RetryPolicy {
            attempts: 2,
            interval_s: 300,
            reasons: Reasons::default(),
        };
        let now = UtcMillis(1_000);
        let next = |policy, attempt| next_attempt_at(policy, attempt, &FAILED, now);
        assert_eq!(next(policy, 1), Some(UtcMillis(301_000)));
        assert_eq!(next(policy, 2), Some(UtcMillis(301_000)));
        assert_eq!(next(policy, 3), None);
        let not_served = Outcome::Failed(Failure::NotServed);
        assert_eq!(next_attempt_at(policy, 1, &not_served, now), None);
        assert_eq!(next(RetryPolicy::default(), 1), None);
    }

    #[test]
    fn tries_again_for_the_reasons_that_the_task_lists() {
        let policy = RetryPolicy {
            attempts: 2,
            interval_s: 300,
            reasons: Reasons::of(["device_not_heard", "slot_timed_out"]),
        };
        let now = UtcMillis(1_000);
        let after = |outcome| next_attempt_at(policy, 1, &outcome, now).is_some();
        assert!(after(FAILED));
        assert!(!after(Outcome::Failed(Failure::DownloadStalled)));
        assert!(!after(Outcome::Succeeded(Success::Upgraded)));
        let words: Vec<&str> = policy.reasons.words().collect();
        assert_eq!(words, ["device_not_heard", "slot_timed_out"]);
    }
}
