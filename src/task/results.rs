use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{PhaseRule, planner::at_least};

/// What came of the devices of a phase, or of a task. Those whose upgrade was cancelled are not among them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Results {
    /// Upgrades that wait, for their first attempt or the next one.
    pub waiting: u64,
    /// Upgrades that run.
    pub running: u64,
    /// Upgrades that succeeded.
    pub succeeded: u64,
    /// Of these, devices that were heard again when their soak was over.
    pub healthy: u64,
    /// Of these, devices that were not.
    pub unhealthy: u64,
    /// Of these, devices whose soak an operator passed over, or that were removed before it was over: they count for nothing.
    #[serde(default)]
    pub passed_over: u64,
    /// Upgrades that failed, by reason.
    pub failed: BTreeMap<String, u64>,
}

/// What is to be said of a phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Too few devices have a result.
    Open {
        /// Devices that have one.
        results: u64,
        /// So many are wanted.
        wanted: u64,
    },
    /// It has come true.
    Passed,
    /// It cannot come true any more.
    Failed {
        /// Devices that count as successes.
        succeeded: u64,
        /// Devices with a result.
        results: u64,
    },
}

impl Results {
    /// Upgrades that failed.
    pub fn failed(&self) -> u64 {
        self.failed.values().sum()
    }

    /// Upgrades that failed for one of these reasons; for any, when there are none.
    pub fn failed_for(&self, reasons: &[String]) -> u64 {
        let counts = |reason: &String| reasons.is_empty() || reasons.contains(reason);
        let failed = self.failed.iter().filter(|(reason, _)| counts(reason));
        failed.map(|(_, count)| count).sum()
    }

    /// Devices that were upgraded in a phase of this rule, and of which it is not known yet whether they are in health.
    pub fn soaking(&self, rule: &PhaseRule) -> u64 {
        match rule.soak_seconds {
            0 => 0,
            _ => (self.succeeded).saturating_sub(self.healthy + self.unhealthy + self.passed_over),
        }
    }

    /// What has to be said of a phase of this rule.
    pub fn verdict(&self, rule: &PhaseRule) -> Verdict {
        let all = self.waiting + self.running + self.succeeded + self.failed();
        let total = match rule.soak_seconds {
            0 => all,
            _ => all.saturating_sub(self.passed_over),
        };
        let (good, bad) = match rule.soak_seconds {
            0 => (self.succeeded, self.failed()),
            _ => (self.healthy, self.failed() + self.unhealthy),
        };
        let results = good + bad;
        if total == 0 {
            // all of its upgrades were cancelled, which is no success
            return Verdict::Failed {
                succeeded: 0,
                results: 0,
            };
        }
        let wanted = rule.min_results.unwrap_or(total).min(total);
        if results < wanted {
            return Verdict::Open { results, wanted };
        }
        let percent = rule.success_percent.unwrap_or(100.0);
        if at_least(good, percent, results) {
            Verdict::Passed
        } else if results >= total {
            Verdict::Failed {
                succeeded: good,
                results,
            }
        } else {
            Verdict::Open {
                results,
                wanted: total,
            }
        }
    }

    /// Adds those of another phase.
    pub fn add(&mut self, other: &Self) {
        self.waiting += other.waiting;
        self.running += other.running;
        self.succeeded += other.succeeded;
        self.healthy += other.healthy;
        self.unhealthy += other.unhealthy;
        self.passed_over += other.passed_over;
        for (reason, count) in &other.failed {
            *self.failed.entry(reason.clone()).or_default() += count;
        }
    }

    /// Leaves no more failures than there are now.
    pub fn limit_failures(&mut self, now: &Self) {
        for (reason, failed) in &mut self.failed {
            *failed = (*failed).min(now.failed.get(reason).copied().unwrap_or(0));
        }
    }

    /// Takes the results away that there were before.
    pub fn subtract(&mut self, before: &Self) {
        self.succeeded = self.succeeded.saturating_sub(before.succeeded);
        for (reason, count) in &before.failed {
            if let Some(failed) = self.failed.get_mut(reason) {
                *failed = failed.saturating_sub(*count);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(waiting: u64, succeeded: u64, failed: u64) -> Results {
        Results {
            waiting,
            succeeded,
            failed: BTreeMap::from([("download_timed_out".to_owned(), failed)]),
            ..Results::default()
        }
    }

    const EIGHTY: PhaseRule = PhaseRule {
        filter: None,
        percent: None,
        count: None,
        success_percent: Some(80.0),
        min_results: Some(10),
        soak_seconds: 0,
        then: super::super::Then::Next,
    };

    #[test]
    fn a_phase_passes_at_its_bounds_and_not_before() {
        for (waiting, succeeded, failed, verdict) in [
            (
                90,
                9,
                0,
                Verdict::Open {
                    results: 9,
                    wanted: 10,
                },
            ),
            (90, 8, 2, Verdict::Passed),
            // it may become better with those that wait
            (
                90,
                7,
                3,
                Verdict::Open {
                    results: 10,
                    wanted: 100,
                },
            ),
            (
                0,
                7,
                3,
                Verdict::Failed {
                    succeeded: 7,
                    results: 10,
                },
            ),
            // the phase is smaller than the results that are wanted
            (0, 4, 1, Verdict::Passed),
            (
                0,
                0,
                0,
                Verdict::Failed {
                    succeeded: 0,
                    results: 0,
                },
            ),
            (
                0,
                0,
                3,
                Verdict::Failed {
                    succeeded: 0,
                    results: 3,
                },
            ),
        ] {
            let results = results(waiting, succeeded, failed);
            assert_eq!(
                results.verdict(&EIGHTY),
                verdict,
                "{waiting} {succeeded} {failed}"
            );
        }
        let all = PhaseRule::default();
        assert_eq!(results(0, 3, 0).verdict(&all), Verdict::Passed);
        assert_eq!(
            results(0, 3, 1).verdict(&all),
            Verdict::Failed {
                succeeded: 3,
                results: 4
            }
        );
        assert_eq!(
            results(1, 3, 0).verdict(&all),
            Verdict::Open {
                results: 3,
                wanted: 4
            }
        );
    }

    #[test]
    fn with_a_soak_only_devices_that_were_heard_again_count() {
        let soak = PhaseRule {
            soak_seconds: 600,
            ..EIGHTY
        };
        let mut results = results(0, 10, 0);
        assert_eq!(
            results.verdict(&soak),
            Verdict::Open {
                results: 0,
                wanted: 10
            }
        );
        results.healthy = 8;
        results.unhealthy = 1;
        assert_eq!(
            results.verdict(&soak),
            Verdict::Open {
                results: 9,
                wanted: 10
            }
        );
        results.unhealthy = 2;
        assert_eq!(results.verdict(&soak), Verdict::Passed);
        (results.healthy, results.unhealthy) = (7, 3);
        assert_eq!(
            results.verdict(&soak),
            Verdict::Failed {
                succeeded: 7,
                results: 10
            }
        );
    }

    #[test]
    fn thresholds_look_at_what_came_since_the_task_was_resumed() {
        let mut now = results(0, 10, 5);
        now.subtract(&results(0, 8, 5));
        assert_eq!((now.succeeded, now.failed()), (2, 0));
        assert_eq!(
            results(0, 0, 5).failed_for(&["slot_timed_out".to_owned()]),
            0
        );
        assert_eq!(
            results(0, 0, 5).failed_for(&["download_timed_out".to_owned()]),
            5
        );
    }
}
