//! The same scenario is the same run.

use std::time::Duration;

use super::{Scenario, run};
use crate::simulate::{Faults, StoreKind, fleet::FleetFile};

fn harsh(seed: u64) -> Scenario {
    Scenario {
        faults: Faults::Harsh,
        products: 2,
        package_bytes: 2_000,
        crash_every: Some(Duration::from_mins(10)),
        ..Scenario::new(40, 3, seed)
    }
}

#[test]
fn one_seed_gives_one_trace() {
    let trace = |seed| run(&harsh(seed)).trace_sha256;
    assert_eq!(trace(7), trace(7));
    assert_ne!(trace(7), trace(8));
}

#[test]
fn the_table_in_memory_does_what_the_database_does() {
    let memory = harsh(11);
    let sqlite = Scenario {
        store: StoreKind::Sqlite,
        ..memory.clone()
    };
    let (memory, sqlite) = (run(&memory), run(&sqlite));
    assert!(memory.crashes > 3, "{}", memory.crashes);
    assert_eq!(memory.violations, []);
    assert_eq!(memory.trace_sha256, sqlite.trace_sha256);
    assert_eq!(memory.reasons, sqlite.reasons);
}

#[test]
fn a_fleet_file_says_what_the_fleet_is_like() {
    let with = |text: &str| Scenario {
        fleet: FleetFile::parse(text).unwrap(),
        package_bytes: 1_000,
        ..Scenario::new(4, 1, 1)
    };
    let summary = run(&with(
        "[coverage]\npoor = 1\n[characters]\nno-object-4 = 25\n",
    ));
    assert_eq!(summary.cells[0].peak, 1);
    assert_eq!(summary.reasons["cell_unknown"], 1);

    let nonsense = with("[characters]\nreports-nothing = 1\n");
    let error = nonsense.fleet(&nonsense.offered().unwrap()).unwrap_err();
    assert!(error.contains("reports-nothing"), "{error}");
    let nonsense = with("[timing]\ninstal_ms = 1\n");
    let error = nonsense.fleet(&nonsense.offered().unwrap()).unwrap_err();
    assert!(error.contains("instal_ms"), "{error}");
    assert!(FleetFile::parse("coverge = 1").is_err());
}
