//! What is forecast of a task whose fleet was upgraded once before, beside what then happens. `docs/forecast.md` has the whole table, and
//! how it is made.

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
