//! The store is put back to an older state, as from a backup, while the devices go on.

use std::time::Duration;

use super::{Scenario, run_with, succeeded};
use crate::{
    ledger::{ActiveUpgrade, DeviceRecord, RetryPolicy},
    simulate::{
        Faults, StoreKind, faults::Mishaps, fleet::FleetFile, hooks::Hooks, invariants::Rule,
    },
};

/// How often, on average; and whether the server takes what devices had done by the time of the copy for what they have done.
struct PutBack {
    mean: Duration,
    takes_it_for_new: bool,
}

impl Hooks for PutBack {
    fn mishaps(&self, mishaps: Mishaps) -> Mishaps {
        Mishaps {
            put_back: Some(self.mean),
            ..mishaps
        }
    }

    fn restores(&mut self, devices: &mut Vec<DeviceRecord>, _: &mut Vec<ActiveUpgrade>) {
        if self.takes_it_for_new {
            for evidence in devices.iter_mut().flat_map(|device| &mut device.evidence) {
                evidence.commanded = false;
            }
        }
    }
}

fn often(minutes: u64) -> PutBack {
    PutBack {
        mean: Duration::from_mins(minutes),
        takes_it_for_new: false,
    }
}

fn scenario(seed: u64, faults: Faults) -> Scenario {
    let fleet = "start_within_s = 120\nlifetime_s = 300\n[[listening]]\nshare = 1\n";
    Scenario {
        fleet: FleetFile::parse(fleet).unwrap(),
        package_bytes: 5_000,
        faults,
        retry: RetryPolicy {
            attempts: u32::try_from(seed % 3).unwrap(),
            interval_s: 60,
            ..RetryPolicy::default()
        },
        ..Scenario::new(20, 2, seed)
    }
}

#[test]
fn what_is_said_of_devices_is_true_also_after_the_store_was_put_back() {
    let mut times = 0;
    for seed in 0..30 {
        let faults = [Faults::None, Faults::Default][(seed % 2) as usize];
        let minutes = [2, 5, 15][(seed % 3) as usize];
        let mut scenario = scenario(seed, faults);
        scenario.crash_every = [None, Some(Duration::from_mins(4))][(seed / 2 % 2) as usize];
        let summary = run_with(&scenario, often(minutes));
        assert_eq!(summary.violations, [], "seed {seed}");
        times += summary.figures.put_back;
    }
    assert!(times > 30, "{times}");
}

#[test]
fn devices_that_do_as_they_should_succeed_whatever_the_store_has_forgotten() {
    for (seed, store) in [
        (1, StoreKind::Memory),
        (2, StoreKind::Memory),
        (3, StoreKind::Sqlite),
    ] {
        let mut scenario = scenario(seed, Faults::None);
        scenario.store = store;
        scenario.retry.attempts = 0;
        let summary = run_with(&scenario, often(3));
        assert_eq!(summary.violations, [], "seed {seed}");
        assert!(summary.figures.put_back > 0);
        assert_eq!(succeeded(&summary), 20, "{:?}", summary.reasons);
    }
}

#[test]
fn old_evidence_that_is_held_against_a_device_is_noticed() {
    let noticed = (0..12).any(|seed| {
        let hooks = PutBack {
            takes_it_for_new: true,
            ..often(3)
        };
        let violations = run_with(&scenario(seed, Faults::None), hooks).violations;
        (violations.iter()).any(|violation| violation.rule == Rule::TrueOutcome)
    });
    assert!(noticed);
}
