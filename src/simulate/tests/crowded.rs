//! One crowded cell, and devices that sleep: no slot is idle while somebody could have it.

use crate::simulate::{FleetFile, Scenario, Summary, simulate};

const HOUR_MS: u64 = 3_600_000;

fn run(fleet: &str, devices: usize) -> Summary {
    let scenario = Scenario {
        fleet: FleetFile::parse(fleet).unwrap(),
        ..Scenario::new(devices, 1, 1)
    };
    let summary = simulate(&scenario, |_| {}).unwrap();
    assert_eq!(summary.violations, []);
    assert_eq!(summary.outcomes["failed"], 0, "{:?}", summary.reasons);
    let kept = summary.kept_awake;
    assert!(kept.minutes_max <= 30.0, "kept awake too long: {kept:?}");
    assert!(kept.pings_max <= 120, "{kept:?}");
    summary
}

macro_rules! fleet {
    ($name:literal) => {
        include_str!(concat!("../../../docs/fleets/", $name, ".toml"))
    };
}

#[test]
fn devices_that_listen_are_served_one_after_the_other_without_a_pause() {
    for (fleet, devices) in [(fleet!("poor-awake"), 100), (fleet!("mixed-awake"), 500)] {
        let over_bound = run(fleet, devices).over_bound().unwrap();
        assert!((1.0..1.1).contains(&over_bound), "{over_bound}");
    }
}

#[test]
fn devices_that_wake_up_at_different_times_are_kept_awake_for_their_turn() {
    for (fleet, devices, hours) in [
        (fleet!("medium-spread"), 500, 7),
        (fleet!("poor-spread"), 100, 32),
    ] {
        let took_ms = run(fleet, devices).took_ms;
        assert!(took_ms <= hours * HOUR_MS, "{took_ms}");
    }
}

#[test]
fn devices_that_all_wake_up_at_once_are_served_by_as_many_as_their_batteries_bear() {
    let summary = run(fleet!("poor-synchronised"), 100);
    assert!(summary.took_ms <= 170 * HOUR_MS, "{}", summary.took_ms);
    assert!(
        summary.kept_awake.pings_max > 10,
        "{:?}",
        summary.kept_awake
    );
}
