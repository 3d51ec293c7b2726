//! What is forecast of a task whose fleet was upgraded once before, beside what then happens. `docs/forecast.md` has the whole table, and
//! how it is made.

use std::time::Duration;

use crate::simulate::{Faults, FleetFile, Scenario, Summary, simulate};

macro_rules! fleet {
    ($name:literal) => {
        include_str!(concat!("../../../docs/fleets/", $name, ".toml"))
    };
}

/// Percent by which the middle of the forecast may be off, of the time that the task takes.
const BOUND: f64 = 10.0;

fn run(fleet: &str, devices: usize, (kib, faults): (usize, Faults), seed: u64) -> Summary {
    let scenario = Scenario {
        fleet: FleetFile::parse(fleet).unwrap(),
        package_bytes: kib * 1_024,
        faults,
        forecast: true,
        ..Scenario::new(devices, 1, seed)
    };
    let summary = simulate(&scenario, |_| {}).unwrap();
    assert_eq!(summary.violations, []);
    summary
}

#[expect(clippy::cast_precision_loss, reason = "a few weeks at the most")]
fn seconds(ms: u64) -> f64 {
    ms as f64 / 1_000.0
}

#[test]
fn the_end_of_a_task_is_forecast_within_ten_percent() {
    for (name, fleet, devices, day) in [
        ("poor-awake", fleet!("poor-awake"), 40, (8, Faults::None)),
        // of few devices a single one decides that fails and is tried again
        (
            "poor-awake",
            fleet!("poor-awake"),
            100,
            (20, Faults::Default),
        ),
        ("mixed-awake", fleet!("mixed-awake"), 120, (8, Faults::None)),
        (
            "medium-spread",
            fleet!("medium-spread"),
            150,
            (8, Faults::None),
        ),
    ] {
        for seed in [1, 2] {
            let summary = run(fleet, devices, day, seed);
            let took_s = seconds(summary.took_ms);
            let made = |known: &str| summary.foreseen.iter().find(|it| it.known == known);
            let earlier = made("earlier").unwrap();
            let finish_s = earlier.finish_p50_seconds.unwrap();
            let off = (finish_s - took_s) / took_s * 100.0;
            let what = format!("{name} {day:?} {seed}");
            assert!(off.abs() <= BOUND, "{what}: {off:+.1} % of {took_s} s");
            assert!(earlier.finish_p90_seconds.unwrap() >= finish_s);
            // where nobody's cell is known, it is not said to be known well
            let nothing = made("nothing").unwrap();
            let [middle, late] = [nothing.finish_p50_seconds, nothing.finish_p90_seconds];
            let spread = late.unwrap() / middle.unwrap();
            let unknown = name.ends_with("awake");
            assert!(!unknown || spread > 1.05, "{what}: {spread}");
        }
    }
}

#[test]
fn a_task_with_phases_is_forecast_while_it_runs_as_a_server_would() {
    let fleet = "start_within_s = 60\n[coverage]\ngood = 1\n[[listening]]\nshare = 1\n";
    let scenario = Scenario {
        fleet: FleetFile::parse(fleet).unwrap(),
        package_bytes: 4_000,
        rules: super::rollouts::rules(
            "[[phases]]\ncount = 20\n[[phases]]\n[rate]\nper_minute = 1\n",
        ),
        forecast: true,
        forecast_after: vec![Duration::from_hours(1)],
        ..Scenario::new(80, 1, 4)
    };
    let summary = simulate(&scenario, |_| {}).unwrap();
    assert_eq!(summary.violations, []);
    let took_s = seconds(summary.took_ms);
    assert!(took_s > 4_800.0, "one begins a minute: {took_s}");
    let so_far = summary.foreseen.iter().filter(|it| it.known == "so_far");
    let after: Vec<_> = so_far.collect();
    let percents: Vec<usize> = after.iter().map(|it| it.after_percent).collect();
    assert_eq!(percents[..2], [25, 50]);
    let at_s = after[2].made_seconds;
    assert!((3_600.0..3_660.0).contains(&at_s), "after an hour: {at_s}");
    for made in after {
        let finish_s = made.finish_p50_seconds.unwrap();
        let off = (finish_s - took_s) / took_s * 100.0;
        assert!(off.abs() <= BOUND, "{}: {off:+.1} %", made.made_seconds);
    }
}

#[test]
fn the_limit_of_a_site_is_known_to_a_forecast() {
    let listens = "start_within_s = 60\n[[listening]]\nshare = 1\n[coverage]\ngood = 1\n";
    let fleet = format!("{listens}[sites.depot]\nlimit = 2\n");
    for seed in [1, 2] {
        let summary = run(&fleet, 40, (8, Faults::None), seed);
        let took_s = seconds(summary.took_ms);
        let made = summary.foreseen.iter().find(|it| it.known == "earlier");
        let finish_s = made.unwrap().finish_p50_seconds.unwrap();
        let off = (finish_s - took_s) / took_s * 100.0;
        assert!(off.abs() <= BOUND, "{seed}: {off:+.1} % of {took_s} s");
    }
}
