use super::{NOT_HEARD, World, ended, list, new_task, stage, t};
use crate::{
    clock::{Instant, Now},
    ledger::{Stage, StopReason, TaskState, UpgradeId, UpgradeOrder},
    store::{Selection, Store, UpgradeToStop},
    task::{Move, Paces, Plan, Source, TaskHead, plan, that_begin},
};

/// What would be started now, up to `limit`.
pub(super) async fn starts(store: &impl Store, seconds: u64, limit: u32) -> Vec<UpgradeOrder> {
    let sources = planned(store, seconds).await.start;
    let due = store.due_upgrades(&sources, t(seconds), limit).await;
    let due = due.unwrap();
    assert!(due.is_sorted_by_key(|due| (due.since, due.order.upgrade)));
    that_begin(due, &sources).orders
}

/// What the planner says.
pub(super) async fn planned(store: &impl Store, seconds: u64) -> Plan {
    let heads = store.task_heads(t(seconds)).await.unwrap();
    let now = Now {
        instant: Instant::from_millis(seconds * 1_000),
        utc: t(seconds),
    };
    plan(&heads, &Paces::default(), now)
}

pub(super) async fn startable(store: &impl Store, seconds: u64, limit: u32) -> Vec<UpgradeId> {
    let starts = starts(store, seconds, limit).await;
    starts.into_iter().map(|order| order.upgrade).collect()
}

/// Does with tasks what the planner says, and tells what that was.
pub(super) async fn move_on(store: &impl Store, seconds: u64) -> Vec<Move> {
    let moves = planned(store, seconds).await.moves;
    store.make_moves(&moves, t(seconds)).await.unwrap();
    moves
}

pub(crate) async fn the_longest_due_begins_first_and_one_per_device(store: &impl Store) {
    let (world, package) = World::with_devices(store, 3).await;
    let first = store
        .create_task(&new_task(&package, list(&["d0", "d1"])))
        .await
        .unwrap();
    let second = store
        .create_task(&new_task(&package, Selection::All))
        .await
        .unwrap();
    let (a, b) = (world.ids(first.id).await, world.ids(second.id).await);
    assert_eq!(startable(store, 0, 9).await, [a[0], a[1], b[2]]);
    assert_eq!(startable(store, 0, 2).await, [a[0], a[1]]);
    world
        .commit(&[ended(a[0], first.id, 1, NOT_HEARD, None, t(1))])
        .await;
    assert_eq!(startable(store, 1, 9).await, [a[1], b[0], b[2]]);
    world
        .commit(&[stage(a[1], 1, Stage::WaitingForDevice, t(1))])
        .await;
    assert_eq!(startable(store, 1, 9).await, [b[0], b[2]]);
}

pub(crate) async fn busy_devices_do_not_hold_up_others(store: &impl Store) {
    let (world, first) = World::with_task(store, 2_000, 0).await;
    let begun: Vec<_> = (starts(store, 0, 1_999).await.iter())
        .map(|order| stage(order.upgrade, 1, Stage::WaitingForDevice, t(1)))
        .collect();
    assert_eq!(begun.len(), 1_999);
    world.commit(&begun).await;
    let left = startable(store, 1, 9).await;
    world
        .commit(&[ended(left[0], first.id, 1, NOT_HEARD, None, t(1))])
        .await;
    let package = store.package(first.package).await.unwrap().unwrap();
    let second = store
        .create_task(&new_task(&package, Selection::All))
        .await
        .unwrap();
    let found = starts(store, 2, 9).await;
    assert_eq!(found.len(), 1, "only one device is free");
    assert_eq!(found[0].task, second.id);
}

pub(crate) async fn heads_tell_what_is_due_first(store: &impl Store) {
    let (world, task) = World::with_task(store, 3, 1).await;
    let ids = world.ids(task.id).await;
    world
        .commit(&[
            stage(ids[0], 1, Stage::WaitingForDevice, t(1)),
            stage(ids[1], 1, Stage::WaitingForDevice, t(1)),
            ended(ids[1], task.id, 1, NOT_HEARD, Some(t(300)), t(2)),
        ])
        .await;
    let head = |heads: Vec<TaskHead>| (heads[0].task, heads[0].lots[0].first_due);
    let heads = store.task_heads(t(2)).await.unwrap();
    let third = Some((task.start_at, ids[2]));
    assert_eq!(head(heads), (task.id, third));
    world
        .commit(&[stage(ids[2], 1, Stage::WaitingForDevice, t(3))])
        .await;
    let heads = store.task_heads(t(299)).await.unwrap();
    assert_eq!(head(heads), (task.id, None));
    let heads = store.task_heads(t(300)).await.unwrap();
    assert_eq!(head(heads), (task.id, Some((t(300), ids[1]))));
}

pub(crate) async fn a_task_that_starts_nothing_holds_no_device(store: &impl Store) {
    let (_, package) = World::with_devices(store, 2).await;
    let first = store.create_task(&new_task(&package, Selection::All)).await;
    let second = store.create_task(&new_task(&package, Selection::All)).await;
    let (first, second) = (first.unwrap().id, second.unwrap().id);
    // whichever task may start: the device is free for it, also behind one of another task
    for (tasks, expected) in [
        (vec![first, second], [first, first]),
        (vec![second], [second, second]),
    ] {
        let source = |task| Source {
            task,
            priority: 5,
            lot: 0,
            limit: 9,
            per_minute: None,
            back: None,
            budget: None,
        };
        let sources: Vec<Source> = tasks.into_iter().map(source).collect();
        let due = store.due_upgrades(&sources, t(0), 9).await.unwrap();
        let starts = that_begin(due, &sources).orders;
        let of: Vec<_> = starts.iter().map(|order| order.task).collect();
        assert_eq!(of, expected);
    }
}

pub(crate) async fn a_higher_priority_begins_first_however_much_else_is_due(store: &impl Store) {
    let (_, package) = World::with_devices(store, 3).await;
    let mut tasks = Vec::new();
    for (at, priority) in [(0, 5), (1, 7), (2, 7)] {
        let mut new = new_task(&package, Selection::All);
        new.created_at = t(at);
        new.rules.priority = Some(priority);
        tasks.push(store.create_task(&new).await.unwrap().id);
    }
    while !move_on(store, 3).await.is_empty() {}
    let sources = planned(store, 3).await.start;
    let of: Vec<_> = sources.iter().map(|source| source.task).collect();
    assert_eq!(of, [tasks[1], tasks[2], tasks[0]]);
    for (limit, expected) in [
        (2, vec![tasks[1]; 2]),
        (4, vec![tasks[1], tasks[1], tasks[1], tasks[2]]),
        (9, [[tasks[1]; 3], [tasks[2]; 3], [tasks[0]; 3]].concat()),
    ] {
        let due = store.due_upgrades(&sources, t(3), limit).await.unwrap();
        let of: Vec<_> = due.iter().map(|due| due.order.task).collect();
        assert_eq!(of, expected, "of {limit}");
    }
    // each device does what is due on it in the task of the highest priority
    let due = store.due_upgrades(&sources, t(3), 9).await.unwrap();
    let begin = that_begin(due, &sources).orders;
    assert_eq!(begin.len(), 3);
    assert!(begin.iter().all(|order| order.task == tasks[1]));
}

pub(crate) async fn a_scheduled_task_begins_at_its_time(store: &impl Store) {
    let (world, package) = World::with_devices(store, 1).await;
    let mut new = new_task(&package, Selection::All);
    new.start_at = Some(t(3_600));
    let task = store.create_task(&new).await.unwrap();
    assert_eq!(task.state, TaskState::Scheduled);
    assert_eq!(move_on(store, 3_599).await, []);
    assert_eq!(startable(store, 3_600, 9).await, []);
    assert_eq!(move_on(store, 3_600).await, [Move::Begin(task.id)]);
    assert_eq!(move_on(store, 3_600).await, []);
    assert_eq!(startable(store, 3_600, 9).await, world.ids(task.id).await);
    new.start_at = Some(t(0));
    let past = store.create_task(&new).await.unwrap();
    assert_eq!(past.state, TaskState::Running);
}

pub(crate) async fn the_next_due_time_is_in_the_future(store: &impl Store) {
    let (world, task) = World::with_task(store, 2, 1).await;
    assert_eq!(store.next_due(t(0)).await.unwrap(), None);
    let ids = world.ids(task.id).await;
    world
        .commit(&[ended(ids[0], task.id, 1, NOT_HEARD, Some(t(300)), t(1))])
        .await;
    assert_eq!(store.next_due(t(1)).await.unwrap(), Some(t(300)));
    let package = store.package(task.package).await.unwrap().unwrap();
    let mut later = new_task(&package, Selection::All);
    later.start_at = Some(t(200));
    store.create_task(&later).await.unwrap();
    assert_eq!(store.next_due(t(1)).await.unwrap(), Some(t(200)));
    assert_eq!(store.next_due(t(200)).await.unwrap(), Some(t(300)));
    assert_eq!(store.next_due(t(300)).await.unwrap(), None);
}

pub(crate) async fn upgrades_of_stopped_tasks_and_removed_devices_are_to_be_stopped(
    store: &impl Store,
) {
    let (world, package) = World::with_devices(store, 4).await;
    let first = store
        .create_task(&new_task(&package, list(&["d0", "d1"])))
        .await
        .unwrap();
    let second = store
        .create_task(&new_task(&package, list(&["d2", "d3"])))
        .await
        .unwrap();
    let (a, b) = (world.ids(first.id).await, world.ids(second.id).await);
    for id in [a[0], a[1], b[0], b[1]] {
        world
            .commit(&[stage(id, 1, Stage::WaitingForDevice, t(1))])
            .await;
    }
    assert_eq!(store.upgrades_to_stop(9).await.unwrap(), []);
    store.stop_task(first.id, t(2), false).await.unwrap();
    store.remove_device("d1", None, None, t(2)).await.unwrap();
    store.remove_device("d3", None, None, t(2)).await.unwrap();
    let to_stop = |upgrade, task, endpoint: &str, reason| UpgradeToStop {
        upgrade,
        task,
        endpoint: endpoint.to_owned(),
        reason,
    };
    let expected = [
        to_stop(a[0], first.id, "d0", StopReason::TaskStopped),
        to_stop(a[1], first.id, "d1", StopReason::TaskStopped),
        to_stop(b[1], second.id, "d3", StopReason::DeviceRemoved),
    ];
    assert_eq!(store.upgrades_to_stop(9).await.unwrap(), expected);
    assert_eq!(store.upgrades_to_stop(2).await.unwrap(), expected[..2]);
    assert_eq!(store.upgrades_to_stop(3).await.unwrap(), expected);
    // each is there once, whatever else it should be stopped for
    for id in [a[0], b[0], b[1]] {
        store.cancel_upgrade(id, None, t(3)).await.unwrap();
    }
    let expected = [
        to_stop(a[0], first.id, "d0", StopReason::TaskStopped),
        to_stop(a[1], first.id, "d1", StopReason::TaskStopped),
        to_stop(b[0], second.id, "d2", StopReason::Cancelled),
        to_stop(b[1], second.id, "d3", StopReason::Cancelled),
    ];
    assert_eq!(store.upgrades_to_stop(9).await.unwrap(), expected);
}
