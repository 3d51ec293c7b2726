//! Cells that are closed and opened, and get limits of their own, while devices upgrade.

use std::time::Duration;

use super::{Scenario, run_with, succeeded};
use crate::simulate::{Faults, faults::Mishaps, hooks::Hooks, store::StoreKind};

struct Steered;

impl Hooks for Steered {
    fn mishaps(&self, mishaps: Mishaps) -> Mishaps {
        Mishaps {
            rule: Some(Duration::from_mins(2)),
            ..mishaps
        }
    }
}

fn busy(seed: u64) -> Scenario {
    Scenario {
        package_bytes: 5_000,
        ..Scenario::new(30, 2, seed)
    }
}

#[test]
fn an_operator_s_rules_hold_and_keep_nobody_from_the_end() {
    for seed in 0..6 {
        let scenario = Scenario {
            store: [StoreKind::Memory, StoreKind::Sqlite][usize::from(seed == 0)],
            ..busy(seed)
        };
        let summary = run_with(&scenario, Steered);
        assert_eq!(summary.violations, [], "seed {seed}");
        assert_eq!(succeeded(&summary), 30, "{:?}", summary.reasons);
    }
}

#[test]
fn they_hold_after_crashes_and_on_a_bad_day() {
    for seed in 100..104 {
        let scenario = Scenario {
            faults: Faults::Harsh,
            crash_every: Some(Duration::from_mins(5)),
            ..busy(seed)
        };
        let summary = run_with(&scenario, Steered);
        assert_eq!(summary.violations, [], "seed {seed}");
    }
}
