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

/// Those of `Faults::Default`, and liars of `Faults::Harsh`, each more often. Not so those that report a failure and go on claiming
/// the target: where the store has forgotten the report, nothing tells one from a device that has upgraded.
const CHARACTERS: &str = "[characters]
\"silent-after-one-repeat\" = 5
\"reboots-in-download\" = 5
\"loses-progress\" = 5
\"never-answers-notification\" = 5
\"never-answers-execute\" = 5
\"never-reports-result\" = 5
\"late-report\" = 5
\"already-current\" = 5
\"refuse-notification=0x04\" = 5
\"claims-target\" = 15
\"claims-current-mid-download\" = 10
\"reports-before-restart\" = 10
";

fn scenario(seed: u64, faults: Faults) -> Scenario {
    let characters = [CHARACTERS, ""][usize::from(faults == Faults::None)];
    let fleet =
        format!("start_within_s = 120\nlifetime_s = 300\n[[listening]]\nshare = 1\n{characters}");
    Scenario {
        fleet: FleetFile::parse(&fleet).unwrap(),
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
    let (mut times, mut violated) = (0, Vec::new());
    for seed in 0_u64..30 {
        let faults = [Faults::None, Faults::Default][(seed % 2) as usize];
        let minutes = [2, 5, 15][(seed % 3) as usize];
        let mut scenario = scenario(seed, faults);
        scenario.crash_every = [None, Some(Duration::from_mins(4))][(seed / 2 % 2) as usize];
        let summary = run_with(&scenario, often(minutes));
        if !summary.violations.is_empty() {
            violated.push(format!("seed {seed}: {:#?}", summary.violations));
        }
        times += summary.figures.put_back;
    }
    assert!(violated.is_empty(), "{}", violated.join("\n"));
    assert!(times > 30, "{times}");
}

#[test]
fn devices_that_do_as_they_should_succeed_whatever_the_store_has_forgotten() {
    let mut times = 0;
    for seed in 0..8 {
        let mut scenario = scenario(seed, Faults::None);
        // the real one takes its time
        scenario.store = [StoreKind::Memory, StoreKind::Sqlite][usize::from(seed == 7)];
        scenario.package_bytes = 20_000;
        scenario.retry.attempts = 0;
        let summary = run_with(&scenario, often(1));
        assert_eq!(summary.violations, [], "seed {seed}");
        assert_eq!(
            succeeded(&summary),
            20,
            "seed {seed}: {:?}",
            summary.reasons
        );
        times += summary.figures.put_back;
    }
    assert!(times >= 8, "{times}");
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
