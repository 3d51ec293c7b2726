//! Tasks that share the slots of a cell.

use std::time::Duration;

use super::{Scenario, run_with};
use crate::{
    ledger::{Change, RetryPolicy, Stage, UpgradeId},
    simulate::{fleet::FleetFile, hooks::Hooks},
    task::Share,
};

const DEVICES: usize = 80;

/// Hears of each slot that is taken.
struct Slots<F>(F);

impl<F: FnMut(UpgradeId)> Hooks for Slots<F> {
    fn commits(&mut self, change: &mut Change) -> bool {
        if let Change::Stage {
            upgrade, change, ..
        } = change
            && change.stage == Stage::Downloading
        {
            (self.0)(*upgrade);
        }
        true
    }
}

/// The numbers of the tasks that have the slots of a cell, one after the other, where two tasks with half of the devices each
/// begin at once.
fn slots(shares: [(u8, u32); 2], crash_every: Option<Duration>) -> Vec<usize> {
    let fleet = "start_within_s = 60\n[[listening]]\nshare = 1\n[coverage]\npoor = 1\n";
    let share = |(priority, weight)| Share { priority, weight };
    let scenario = Scenario {
        package_bytes: 2_000,
        products: 2,
        fleet: FleetFile::parse(fleet).unwrap(),
        retry: RetryPolicy::default(),
        shares: shares.map(share).to_vec(),
        crash_every,
        ..Scenario::new(DEVICES, 1, 3)
    };
    let mut taken: Vec<UpgradeId> = Vec::new();
    let hear = |upgrade| {
        if !taken.contains(&upgrade) {
            taken.push(upgrade);
        }
    };
    let summary = run_with(&scenario, Slots(hear));
    assert_eq!(summary.violations, []);
    assert_eq!(taken.len(), DEVICES);
    let half = i64::try_from(DEVICES / 2).unwrap();
    let task_of = |upgrade: UpgradeId| if upgrade.0 <= half { 1 } else { 2 };
    taken.into_iter().map(task_of).collect()
}

/// Slots of the first task among these.
fn of_first(slots: &[usize]) -> usize {
    slots.iter().filter(|task| **task == 1).count()
}

#[test]
fn a_cell_is_shared_by_weight_while_both_tasks_wait() {
    let slots = slots([(5, 3), (5, 1)], None);
    // the first few are taken before all have come
    for count in [8, 20, 40] {
        let first = of_first(&slots[8..8 + count]);
        assert!(
            first.abs_diff(count * 3 / 4) <= 1,
            "{first} of {count}: {slots:?}"
        );
    }
}

#[test]
fn a_cell_is_shared_by_weight_also_where_the_server_crashes() {
    let slots = slots([(5, 3), (5, 1)], Some(Duration::from_mins(20)));
    // each restart is a slot more or less
    let first = of_first(&slots[8..48]);
    assert!((26..=34).contains(&first), "{slots:?}");
}

#[test]
fn a_higher_priority_has_the_cell_first() {
    let slots = slots([(2, 1_000), (8, 1)], None);
    let last = slots.iter().rposition(|task| *task == 2).unwrap();
    assert!(of_first(&slots[..last]) <= 8, "{slots:?}");
}
