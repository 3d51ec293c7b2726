//! What upgrades cost on the air, and budgets of it.

use super::{NOT_HEARD, World, ended, new_task, rollouts::planned, stage};
use crate::{
    clock::UtcMillis,
    ledger::{Attribute, Change, Stage, TaskId, Traffic, UpgradeId, Usage},
    store::{DeviceUpdate, PackageRecord, Selection, Store, TaskChange, TaskRecord},
    task::{Begin, Budget, PutOff, Resource, Spent, that_begin},
};

/// 2027-01-15T08:00:00Z, when the tests begin; in which month it is, and when that ends in UTC.
const MONTH_ENDS: UtcMillis = UtcMillis(1_801_440_000_000);
/// A size that every package here has.
const SIZE: u64 = 1_200;

fn traffic(bytes_down: u64) -> Traffic {
    Traffic {
        bytes_down,
        bytes_up: 7,
        repeats_down: 3,
        repeats_up: 2,
        active_ms: 1_500,
        airtime_estimated_ms: 250,
    }
}

fn told(
    upgrade: UpgradeId,
    task: TaskId,
    endpoint: &str,
    cell: Option<u32>,
    bytes_down: u64,
    at: UtcMillis,
) -> Change {
    Change::Traffic {
        upgrade,
        task,
        endpoint: endpoint.to_owned(),
        cell,
        traffic: traffic(bytes_down),
        at,
    }
}

fn seconds_after(seconds: u64) -> UtcMillis {
    super::t(seconds)
}

async fn budgeted(store: &impl Store, package: &PackageRecord, bytes: u64) -> TaskRecord {
    let mut new = new_task(package, Selection::All);
    new.rules.budget = Some(Budget {
        bytes_per_month: Some(bytes),
        airtime_estimated_seconds_per_month: None,
    });
    store.create_task(&new).await.unwrap()
}

/// What begins at that time, and what is put off.
async fn begin(store: &impl Store, at: UtcMillis) -> Begin {
    let seconds = u64::try_from((at.0 - super::T0.0) / 1_000).unwrap();
    let plan = planned(store, seconds).await;
    if !plan.moves.is_empty() {
        store.make_moves(&plan.moves, at).await.unwrap();
    }
    let sources = planned(store, seconds).await.start;
    let due = store.due_upgrades(&sources, at, 100).await.unwrap();
    that_begin(due, &sources)
}

fn begun(begin: &Begin) -> Vec<&str> {
    begin.orders.iter().map(|it| it.endpoint.as_str()).collect()
}

pub(crate) async fn what_upgrades_cost_is_summed_by_upgrade_task_and_cell(store: &impl Store) {
    let (world, task) = World::with_task(store, 2, 1).await;
    let ids = world.ids(task.id).await;
    let at = seconds_after(5);
    world
        .commit(&[
            stage(ids[0], 1, Stage::WaitingForSlot, at),
            told(ids[0], task.id, "d0", Some(51_234), 100, at),
            told(ids[1], task.id, "d1", None, 1_000, at),
            // of what is not there: nothing happens
            told(UpgradeId(99), TaskId(99), "nobody", None, 5, at),
        ])
        .await;
    // also after the end, and in the next attempt
    world
        .commit(&[
            ended(ids[0], task.id, 1, NOT_HEARD, None, at),
            told(ids[0], task.id, "d0", Some(51_234), 10, at),
        ])
        .await;
    let mut expected = traffic(100);
    expected += traffic(10);
    let upgrade = store.upgrade(ids[0]).await.unwrap().unwrap();
    assert_eq!(upgrade.traffic, expected);
    let cell = store.cell(51_234).await.unwrap().unwrap();
    assert_eq!(cell.traffic, expected);
    expected += traffic(1_000);
    let shown = store.task(task.id).await.unwrap().unwrap();
    assert_eq!(shown.traffic, expected);
    let listed = store.tasks(false, None, 9).await.unwrap().items;
    assert_eq!(listed[0].traffic, expected);
    let other = store.upgrade(ids[1]).await.unwrap().unwrap();
    assert_eq!(other.traffic, traffic(1_000));
    // what is deleted takes its sums along; the device has spent it all the same
    store.stop_task(task.id, at, false).await.unwrap();
    store.delete_task(task.id).await.unwrap();
    let used = store.used(&["d0".to_owned()], at).await.unwrap();
    assert_eq!(used["d0"].bytes, 100 + 10 + 2 * 7);
}

pub(crate) async fn what_a_device_spends_counts_in_the_month_where_it_is(store: &impl Store) {
    let (world, package) = World::with_devices(store, 3).await;
    let zones = ["Pacific/Kiritimati", "America/Los_Angeles"];
    for (device, zone) in zones.iter().enumerate() {
        let mut update = DeviceUpdate::default();
        let zone = Some((*zone).to_owned());
        update.attributes.set(Attribute::TimeZone, zone).unwrap();
        let device = format!("d{device}");
        store.update_device(&device, &update).await.unwrap();
    }
    let task = budgeted(store, &package, 10_000).await;
    let ids = world.ids(task.id).await;
    // an hour before the month ends in UTC: over in Kiritimati for 13 hours, and not for 9 hours in Los Angeles
    let hour = std::time::Duration::from_hours(1);
    let before = MONTH_ENDS.before(hour);
    let changes = (0..3).map(|i| told(ids[i], task.id, &format!("d{i}"), None, 500, before));
    world.commit(&changes.collect::<Vec<_>>()).await;
    let spent = async |device: &str, at| -> Spent {
        store.spent(task.id, device, at).await.unwrap().unwrap()
    };
    for (device, at, used, ends_at) in [
        ("d2", before, 507, MONTH_ENDS),
        ("d2", MONTH_ENDS, 0, MONTH_ENDS + hour * 28 * 24),
        ("d0", MONTH_ENDS, 507, MONTH_ENDS + hour * (28 * 24 - 14)),
        ("d1", MONTH_ENDS, 507, MONTH_ENDS + hour * 8),
        (
            "d1",
            MONTH_ENDS + hour * 8,
            0,
            MONTH_ENDS + hour * (28 * 24 + 8),
        ),
    ] {
        let spent = spent(device, at).await;
        assert_eq!(
            (spent.used.bytes, spent.month_ends_at),
            (used, ends_at),
            "{device}"
        );
        assert_eq!(
            spent.need,
            Usage::of_package(SIZE, spent_segments(&package), None)
        );
    }
    assert_eq!(store.spent(task.id, "nobody", before).await.unwrap(), None);
    let used = store.used(&["d2".to_owned()], MONTH_ENDS).await.unwrap();
    assert!(used.is_empty());
}

fn spent_segments(package: &PackageRecord) -> u64 {
    package.package.segment_count()
}

pub(crate) async fn a_device_without_enough_left_is_put_off_until_it_has(store: &impl Store) {
    let (world, package) = World::with_devices(store, 3).await;
    let task = budgeted(store, &package, SIZE + 100).await;
    let ids = world.ids(task.id).await;
    let at = seconds_after(9);
    // 100 bytes are left of what is besides the package; 93 and 7 fit
    world
        .commit(&[
            told(ids[0], task.id, "d0", None, 94, at),
            told(ids[1], task.id, "d1", None, 93, at),
        ])
        .await;
    let due = begin(store, at).await;
    assert_eq!(begun(&due), ["d1", "d2"]);
    let put_off: Vec<_> = due
        .put_off
        .iter()
        .map(|it| (it.upgrade, it.over.until))
        .collect();
    assert_eq!(put_off, [(ids[0], MONTH_ENDS)]);
    store.put_off(&due.put_off, at).await.unwrap();
    let again = begin(store, at).await;
    assert_eq!((begun(&again).len(), again.put_off.len()), (2, 0));
    let shown = store.task(task.id).await.unwrap().unwrap();
    assert_eq!(shown.put_off, (1, Some(MONTH_ENDS)));
    let waits = store.upgrade(ids[0]).await.unwrap().unwrap().upgrade;
    assert_eq!(waits.not_before, MONTH_ENDS);
    let events = store.upgrade(ids[0]).await.unwrap().unwrap().events;
    assert_eq!(events.len(), 1);
    let (code, arguments) = events[0].line.parts();
    assert_eq!((&*code, &arguments["used"]), ("put_off", &101.into()));
    // another task without a budget has it begin, and what runs is not put off
    world
        .commit(&[stage(ids[1], 1, Stage::WaitingForDevice, at)])
        .await;
    store
        .put_off(
            &[PutOff {
                upgrade: ids[1],
                over: due.put_off[0].over,
            }],
            at,
        )
        .await
        .unwrap();
    let shown = store.task(task.id).await.unwrap().unwrap();
    assert_eq!(shown.put_off.0, 1);
    let next_month = begin(store, MONTH_ENDS).await;
    assert_eq!(begun(&next_month), ["d2", "d0"]);
    // it begins, and is put off no more
    world
        .commit(&[stage(ids[0], 1, Stage::WaitingForDevice, MONTH_ENDS)])
        .await;
    let shown = store.task(task.id).await.unwrap().unwrap();
    assert_eq!(shown.put_off, (0, None));
}

pub(crate) async fn another_budget_is_looked_at_at_once(store: &impl Store) {
    let (world, package) = World::with_devices(store, 2).await;
    let task = budgeted(store, &package, SIZE).await;
    let ids = world.ids(task.id).await;
    let at = seconds_after(9);
    world
        .commit(&[told(ids[0], task.id, "d0", None, 1, at)])
        .await;
    let due = begin(store, at).await;
    store.put_off(&due.put_off, at).await.unwrap();
    assert_eq!(begun(&begin(store, at).await), ["d1"]);
    let mut rules = (*task.rules).clone();
    rules.budget = None;
    let rules = Box::new(rules);
    let change = TaskChange::Rules {
        rules,
        revision: None,
        by: None,
    };
    let changed = store.change_task(task.id, &change, at).await.unwrap();
    assert_eq!(changed.put_off, (0, None));
    let mut now = begin(store, at).await;
    now.orders.sort_unstable_by_key(|order| order.upgrade);
    assert_eq!(begun(&now), ["d0", "d1"]);
}

pub(crate) async fn nothing_is_put_off_by_a_budget_that_was_changed_meanwhile(store: &impl Store) {
    let (world, package) = World::with_devices(store, 1).await;
    let task = budgeted(store, &package, SIZE).await;
    let ids = world.ids(task.id).await;
    let at = seconds_after(9);
    let spent = [told(ids[0], task.id, "d0", None, 1, at)];
    world.commit(&spent).await;
    let shown = async || store.upgrade(ids[0]).await.unwrap().unwrap();
    let before = shown().await;
    let set = async |bytes: Option<u64>, seconds: Option<u64>| {
        let mut rules = (*task.rules).clone();
        rules.budget = Some(Budget {
            bytes_per_month: bytes,
            airtime_estimated_seconds_per_month: seconds,
        });
        let rules = Box::new(rules);
        let change = TaskChange::Rules {
            rules,
            revision: None,
            by: None,
        };
        store.change_task(task.id, &change, at).await.unwrap();
    };
    let of_bytes = begin(store, at).await.put_off;
    assert_eq!(of_bytes.len(), 1);
    // it is more, or there is none of bytes, between the look and the write
    for (bytes, seconds) in [(Some(10 * SIZE), None), (None, Some(SIZE))] {
        set(bytes, seconds).await;
        store.put_off(&of_bytes, at).await.unwrap();
        let after = shown().await;
        assert_eq!(after.upgrade.not_before, before.upgrade.not_before);
        assert_eq!(after.events.len(), before.events.len());
        let task = store.task(task.id).await.unwrap().unwrap();
        assert_eq!(task.put_off, (0, None), "{bytes:?}");
    }
    // of airtime it is the seconds that count
    let mut of_airtime = of_bytes[0];
    of_airtime.over.resource = Resource::Airtime;
    for (budget, put_off) in [((SIZE + 1) * 1_000, 0), (SIZE * 1_000, 1)] {
        of_airtime.over.budget = budget;
        store.put_off(&[of_airtime], at).await.unwrap();
        let task = store.task(task.id).await.unwrap().unwrap();
        assert_eq!(task.put_off.0, put_off, "{budget}");
        assert_eq!(
            shown().await.events.len(),
            before.events.len() + put_off as usize
        );
    }
}
