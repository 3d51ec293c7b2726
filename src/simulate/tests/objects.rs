//! Devices that are upgraded by object 5, 9 or 33629.

use std::time::Duration;

use super::{Scenario, run, succeeded};
use crate::{
    ledger::RetryPolicy,
    simulate::{Faults, StoreKind, fleet::FleetFile},
};

fn fleet(text: &str, devices: usize, seed: u64) -> Scenario {
    Scenario {
        fleet: FleetFile::parse(&format!("start_within_s = 600\n{text}")).unwrap(),
        package_bytes: 20_000,
        retry: RetryPolicy::default(),
        ..Scenario::new(devices, 4, seed)
    }
}

fn of(by: &str, characters: &str) -> String {
    format!("updates_by = \"{by}\"\ncharacter = [{characters}]")
}

const PULLING: &str = r#""leshan", "anjay", "zephyr", "nrf""#;
const ALL: &str = r#""leshan", "anjay", "zephyr", "nrf", "pushonly""#;

#[test]
fn devices_like_every_client_are_upgraded_by_every_object() {
    // object 9 has no resource that says how packages come
    for (by, characters) in [
        ("firmware", ALL),
        ("software", PULLING),
        ("components", ALL),
    ] {
        let scenario = Scenario {
            faults: Faults::None,
            ..fleet(&of(by, characters), 20, 3)
        };
        let summary = run(&scenario);
        assert_eq!(summary.violations, [], "{by}");
        assert_eq!(succeeded(&summary), 20, "{by}: {:?}", summary.reasons);
        assert!(summary.segments >= 20 * 20, "{by}");
    }
}

#[test]
fn a_stub_fails() {
    let scenario = Scenario {
        faults: Faults::None,
        ..fleet(&of("firmware", "\"stub\""), 2, 1)
    };
    let summary = run(&scenario);
    assert_eq!(summary.violations, []);
    assert_eq!(summary.outcomes["failed"], 2, "{:?}", summary.reasons);
}

/// What becomes of the example's devices is what their characters say.
#[test]
fn the_example_ends_as_its_characters_say() {
    let text = include_str!("../../../docs/fleets/objects.toml");
    let scenario = Scenario {
        faults: Faults::None,
        ..fleet(text, 100, 2)
    };
    let summary = run(&scenario);
    assert_eq!(summary.violations, []);
    assert_eq!(summary.surprises, [].into());
    assert!(summary.outcomes["failed"] > 5, "{:?}", summary.reasons);
}

#[test]
fn nothing_that_happens_to_them_breaks_a_rule() {
    let kinds = [
        ("firmware", ALL),
        ("software", PULLING),
        ("components", ALL),
    ];
    for (seed, (by, characters)) in (1..).zip(kinds) {
        for faults in [Faults::Default, Faults::Harsh] {
            let scenario = Scenario {
                faults,
                crash_every: Some(Duration::from_mins(20)),
                ..fleet(&of(by, characters), 40, seed)
            };
            let summary = run(&scenario);
            let others = &summary.surprises;
            assert_eq!(summary.violations, [], "{by} {faults:?}: {others:?}");
            assert_eq!(summary.outcomes.values().sum::<u64>(), 40);
        }
    }
}

#[test]
fn one_seed_gives_one_trace_whatever_the_store() {
    let harsh = |store| Scenario {
        faults: Faults::Harsh,
        crash_every: Some(Duration::from_mins(20)),
        store,
        ..fleet(&of("firmware", ALL), 20, 7)
    };
    let [memory, sqlite] = [StoreKind::Memory, StoreKind::Sqlite].map(|it| run(&harsh(it)));
    assert!(memory.crashes > 1, "{}", memory.crashes);
    assert_eq!(memory.trace_sha256, sqlite.trace_sha256);
}
