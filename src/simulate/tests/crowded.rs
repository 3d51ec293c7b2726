//! One crowded cell, and devices that sleep: no slot is idle while somebody could have it.

use std::{sync::Arc, time::Duration};

use super::seeds::appoint;
use crate::{
    config::Config,
    simulate::{FleetFile, Scenario, Summary, simulate},
};

const HOUR_MS: u64 = 3_600_000;

fn scenario(fleet: &str, devices: usize) -> Scenario {
    Scenario {
        fleet: FleetFile::parse(fleet).unwrap(),
        ..Scenario::new(devices, 1, 1)
    }
}

fn run(fleet: &str, devices: usize) -> Summary {
    check(&scenario(fleet, devices))
}

/// The same with devices that come by appointment.
fn appointed(fleet: &str, devices: usize) -> Scenario {
    let mut config = Config::default();
    appoint(&mut config);
    Scenario {
        config: Arc::new(config),
        ..scenario(fleet, devices)
    }
}

fn check(scenario: &Scenario) -> Summary {
    let summary = simulate(scenario, |_| {}).unwrap();
    assert_eq!(summary.violations, []);
    assert_eq!(summary.outcomes["failed"], 0, "{:?}", summary.reasons);
    let kept = summary.kept_awake;
    // the answer to the last ping comes a moment later
    assert!(kept.minutes_max <= 30.1, "kept awake too long: {kept:?}");
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

/// A fleet whose devices share what their cell carries; the limits of cells follow that, or stay.
fn shared(fleet: &str, adaptive: bool) -> Summary {
    let mut config = Config::default();
    config.admission.adaptive = adaptive;
    let scenario = Scenario {
        config: Arc::new(config),
        package_bytes: 8 * 1024,
        ..scenario(fleet, 300)
    };
    let summary = simulate(&scenario, |_| {}).unwrap();
    assert_eq!(summary.violations, []);
    summary
}

#[test]
fn limits_that_follow_how_crowded_a_cell_is_shorten_the_task_there() {
    let table = shared(fleet!("crowded"), false);
    let adaptive = shared(fleet!("crowded"), true);
    assert_eq!(adaptive.outcomes["failed"], 0, "{:?}", adaptive.reasons);
    assert!(
        adaptive.took_ms * 10 <= table.took_ms * 7,
        "{} s, and {} s by the table",
        adaptive.took_ms / 1_000,
        table.took_ms / 1_000
    );
}

#[test]
fn limits_that_follow_how_crowded_a_cell_is_change_nothing_in_a_quiet_one() {
    let table = shared(fleet!("uncrowded"), false);
    let adaptive = shared(fleet!("uncrowded"), true);
    assert_eq!(
        adaptive.trace_sha256, table.trace_sha256,
        "not a datagram is another"
    );
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

#[test]
fn devices_that_come_by_appointment_leave_the_cell_hardly_a_minute_idle() {
    for (fleet, devices, hours) in [
        (fleet!("medium-spread"), 500, 7),
        (fleet!("poor-spread"), 100, 20),
        (fleet!("mixed-spread"), 500, 20),
        (fleet!("medium-synchronised"), 500, 12),
        (fleet!("poor-synchronised"), 100, 26),
        (fleet!("mixed-synchronised"), 500, 26),
    ] {
        let summary = check(&appointed(fleet, devices));
        assert!(summary.took_ms <= hours * HOUR_MS, "{}", summary.took_ms);
    }
}

/// Every lifetime is written back (a rule of the simulation), whatever is forgotten meanwhile.
#[test]
fn appointments_outlast_restarts_of_the_server() {
    for minutes in [20, 90] {
        let scenario = Scenario {
            crash_every: Some(Duration::from_mins(minutes)),
            ..appointed(fleet!("poor-synchronised"), 100)
        };
        let summary = simulate(&scenario, |_| {}).unwrap();
        assert_eq!(summary.violations, []);
        assert!(summary.crashes > 10);
        assert!(summary.took_ms <= 40 * HOUR_MS, "{}", summary.took_ms);
    }
}
