//! Sites with limits, over many cells.

use std::time::Duration;

use super::{Scenario, run, succeeded};
use crate::simulate::{faults::Faults, fleet::FleetFile, store::StoreKind};

fn fleet() -> FleetFile {
    FleetFile::parse(include_str!("../../../docs/fleets/sites.toml")).unwrap()
}

/// Seeds with faults and crashes: the invariants hold that no site has more than its limit, and that the gate counts what is held.
#[test]
fn no_site_has_more_than_its_limit_also_where_the_server_crashes() {
    for (seed, store) in [
        (1, StoreKind::Memory),
        (2, StoreKind::Memory),
        (3, StoreKind::Sqlite),
    ] {
        let scenario = Scenario {
            package_bytes: 4_000,
            fleet: fleet(),
            crash_every: Some(Duration::from_mins(15)),
            store,
            ..Scenario::new(60, 6, seed)
        };
        let summary = run(&scenario);
        assert_eq!(summary.violations, [], "seed {seed}");
        assert!(summary.crashes > 0, "seed {seed}");
    }
}

#[test]
fn a_site_is_what_holds_its_devices_up() {
    let took = |text: &str| {
        let listens = "start_within_s = 60\n[[listening]]\nshare = 1\n[coverage]\ngood = 1\n";
        let scenario = Scenario {
            package_bytes: 4_000,
            faults: Faults::None,
            fleet: FleetFile::parse(&format!("{listens}{text}")).unwrap(),
            ..Scenario::new(40, 10, 1)
        };
        let summary = run(&scenario);
        assert_eq!(succeeded(&summary), 40);
        assert_eq!(summary.violations, []);
        summary.took_ms
    };
    let (free, narrow) = (took(""), took("[sites.depot]\nlimit = 1\n"));
    // forty of them, one after the other, and in ten cells at once
    assert!(narrow > 10 * free, "{narrow} ms, and {free} ms without");
}

#[test]
fn a_site_of_no_limit_or_share_is_refused() {
    for text in ["[sites.a]\nlimit = 0", "[sites.a]\nlimit = 1\nshare = 0"] {
        let error = FleetFile::parse(text).unwrap_err();
        assert!(error.starts_with("sites.a: limit and share"), "{error}");
    }
}
