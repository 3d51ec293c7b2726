//! Tasks with several packages: which device gets which, one after another.

use std::time::Duration;

use super::{Hooks, broken::breaks_so, run, succeeded};
use crate::{
    simulate::{Faults, Scenario, StoreKind, fleet::FleetFile, invariants::Rule, task_file},
    task::Due,
};

const FLEET: &str = include_str!("../../../docs/fleets/steps.toml");
const TASK: &str = include_str!("../../../docs/tasks/steps.toml");

/// The example, for so many devices.
fn example(devices: usize, seed: u64) -> Scenario {
    with(TASK, FLEET, devices, seed)
}

fn with(task: &str, fleet: &str, devices: usize, seed: u64) -> Scenario {
    let fleet = FleetFile::parse(fleet).unwrap();
    let task = task_file::parse(task, &fleet).unwrap();
    Scenario {
        fleet,
        package_bytes: 3_000,
        rules: task.rules,
        packages: task.packages,
        ..Scenario::new(devices, 4, seed)
    }
}

#[test]
fn each_device_ends_with_the_last_version_that_is_for_it() {
    // every device has a cell, so that nobody fails
    let fleet = format!("start_within_s = 60\n{FLEET}[coverage]\ngood = 1\n");
    let scenario = with(TASK, &fleet, 120, 5);
    let begun = scenario.fleet(&scenario.offered().unwrap()).unwrap();
    let count = |version: &str, hardware: &str| {
        let members = begun.members.iter();
        let alike = members.filter(|it| {
            it.spec.version.to_string() == version && it.hardware.as_deref() == Some(hardware)
        });
        alike.count() as u64
    };
    let (of_a, of_b) = (count("V1.0", "A"), count("V1.2", "B"));
    let (halfway, current) = (count("V2.0", "A"), count("V3.0", "A"));
    let of_c = count("V1.2", "C");
    assert!(
        [of_a, of_b, halfway, current, of_c]
            .iter()
            .all(|count| *count > 0)
    );
    let summary = run(&scenario);
    assert_eq!(summary.violations, []);
    assert_eq!(summary.skipped, [("no_package".to_owned(), of_c)].into());
    assert_eq!(summary.outcomes["cancelled"], of_c);
    assert_eq!(succeeded(&summary), of_a + of_b + halfway + current);
    assert_eq!(summary.surprises, [].into());
    // 16 KiB in segments of 500 bytes or so, then 24; the build for B has the size of the command line
    let downloads = of_a * (16 + 24) + of_b * 16 + halfway * 24;
    assert!(summary.segments > downloads * 2, "{}", summary.segments);
}

#[test]
fn chains_hold_over_crashes_and_on_bad_days() {
    for (seed, store) in [
        (1, StoreKind::Memory),
        (2, StoreKind::Sqlite),
        (3, StoreKind::Memory),
    ] {
        let scenario = Scenario {
            faults: Faults::Default,
            crash_every: Some(Duration::from_mins(20)),
            store,
            ..example(60, seed)
        };
        let summary = run(&scenario);
        assert_eq!(summary.violations, [], "seed {seed}");
        assert!(
            summary.crashes > 0 && succeeded(&summary) > 20,
            "seed {seed}"
        );
        assert!(summary.skipped["no_package"] > 0, "seed {seed}");
    }
}

#[test]
fn both_stores_give_the_same_chain() {
    let of = |store| {
        run(&Scenario {
            store,
            ..example(40, 9)
        })
    };
    let (memory, sqlite) = (of(StoreKind::Memory), of(StoreKind::Sqlite));
    assert_eq!(memory.violations, []);
    assert_eq!(memory.trace_sha256, sqlite.trace_sha256);
}

#[test]
fn a_downgrade_is_skipped_unless_it_may_be() {
    let fleet = "start_within_s = 60\n[[groups]]\nshare = 1\nversion = \"V3.0\"\n";
    let package = "[[packages]]\nversion = \"V2.0\"\n";
    let summary = run(&with(package, fleet, 8, 2));
    assert_eq!(summary.violations, []);
    assert_eq!(summary.skipped["downgrade"], 8);
    let allowed = with(&format!("allow_downgrade = true\n{package}"), fleet, 8, 2);
    let summary = run(&allowed);
    assert_eq!(summary.violations, []);
    assert!(summary.skipped.is_empty() && succeeded(&summary) >= 6);
    let one = run(&with("allow_downgrade = true", fleet, 8, 2));
    assert_eq!((&*one.violations, one.skipped.len()), (&[][..], 0));
}

/// The reconciler is told another hardware than what the operator has given.
struct OtherHardware;

impl Hooks for OtherHardware {
    fn dues(&mut self, due: &mut Vec<Due>) {
        for due in due {
            due.order.hardware = Some("A".into());
        }
    }
}

#[test]
fn a_package_that_is_not_for_a_device_is_noticed() {
    let (fleet, what) = (
        "start_within_s = 60\n[[groups]]\nshare = 1\nversion = \"V1.2\"\nhardware = \"C\"\n",
        "notified of V2.0, which is not for it",
    );
    breaks_so(
        &with(TASK, fleet, 10, 1),
        OtherHardware,
        Rule::OwnPackage,
        what,
    );
}
