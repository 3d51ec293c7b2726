use super::{
    NOT_HEARD, UPGRADED, World, ended, list, new_package, new_task, next_batch,
    rollouts::{move_on, startable, starts},
    stage, t,
};
use crate::{
    access::Part,
    ledger::{
        Cancellation, Change, Outcome, PackageId, Stage, StopReason, TaskId, TaskState, UpgradeId,
    },
    store::{
        CancelUpgradeError, CreateTaskError, DeleteTaskError, NewTask, Overlap, Overlaps,
        Selection, StopTaskError, Store, TaskRecord, TimelineEntry, UpgradeState,
    },
    tenant::TenantId,
};

pub(crate) async fn a_task_selects_by_list_by_product_or_all(store: &impl Store) {
    let (world, package) = World::with_devices(store, 4).await;
    world.devices("q", &["z"]).await;
    store.remove_device("d3", None, None, t(0)).await.unwrap();
    for (selection, expected) in [
        (list(&["d2", "d0", "d2"]), "d0 d2"),
        (Selection::Product("p".to_owned()), "d0 d1 d2"),
        (Selection::All, "d0 d1 d2"),
    ] {
        let task = store
            .create_task(&new_task(&package, selection))
            .await
            .unwrap();
        let upgrades = store.upgrades(task.id, None, None, 9).await.unwrap().items;
        let endpoints: Vec<_> = upgrades.iter().map(|u| u.endpoint.as_str()).collect();
        assert_eq!(endpoints.join(" "), expected);
        assert_eq!(task.counts[&UpgradeState::Pending], task.total());
        assert_eq!((task.name.as_str(), task.product.as_str()), ("night", "p"));
        assert_eq!(task.version, package.package.version);
    }
}

pub(crate) async fn a_list_with_devices_that_do_not_fit_is_refused(store: &impl Store) {
    let (world, package) = World::with_devices(store, 1).await;
    world.devices("q", &["z"]).await;
    let create = async |selection| {
        store
            .create_task(&new_task(&package, selection))
            .await
            .unwrap_err()
    };
    let names: Vec<String> = (0..7).map(|i| format!("x{i}")).collect();
    match create(Selection::Devices([names, vec!["d0".to_owned()]].concat())).await {
        CreateTaskError::UnknownDevices { count, first } => {
            assert_eq!((count, first.join(" ").as_str()), (7, "x0 x1 x2 x3 x4"));
        }
        other => panic!("{other:?}"),
    }
    match create(list(&["d0", "z"])).await {
        CreateTaskError::DevicesOfOtherProduct {
            product,
            count,
            first,
        } => assert_eq!((product.as_str(), count, first[0].as_str()), ("p", 1, "z")),
        other => panic!("{other:?}"),
    }
    let other = create(Selection::Product("q".to_owned())).await;
    assert!(matches!(other, CreateTaskError::OtherProduct { .. }));
    assert_eq!(store.tasks(false, None, 9).await.unwrap().items, []);
}

pub(crate) async fn a_package_that_is_not_current_is_refused(store: &impl Store) {
    let (_, package) = World::with_devices(store, 1).await;
    store
        .insert_package(&new_package("p", "V2", 2))
        .await
        .unwrap();
    let create = async |package| {
        let mut new = new_task(&package, Selection::All);
        new.name = "x".to_owned();
        store.create_task(&new).await.unwrap_err()
    };
    let refused = create(package.clone()).await;
    assert!(matches!(refused, CreateTaskError::PackageSuperseded { .. }));
    store.delete_package(package.id, t(1)).await.unwrap();
    let refused = create(package.clone()).await;
    assert!(matches!(
        refused,
        CreateTaskError::PackageNotFound(PackageId(_))
    ));
}

pub(crate) async fn nobody_to_upgrade_is_refused(store: &impl Store) {
    let (_, package) = World::with_devices(store, 0).await;
    for selection in [Selection::All, list(&[])] {
        let refused = store.create_task(&new_task(&package, selection)).await;
        assert!(matches!(refused, Err(CreateTaskError::NoDevices { .. })));
    }
    assert_eq!(store.tasks(false, None, 9).await.unwrap().items, []);
}

pub(crate) async fn stopping_cancels_what_waits_and_keeps_what_runs(store: &impl Store) {
    let (world, task) = World::with_task(store, 3, 0).await;
    let ids = world.ids(task.id).await;
    world
        .commit(&[stage(ids[1], 1, Stage::Executing, t(1))])
        .await;
    let stopping = store.stop_task(task.id, t(2), false).await.unwrap();
    assert_eq!(stopping.state, TaskState::Stopping);
    assert_eq!(stopping.stopped_at, Some(t(2)));
    assert_eq!(stopping.counts[&UpgradeState::Cancelled], 2);
    assert_eq!(stopping.counts[&UpgradeState::Active(Stage::Executing)], 1);
    let waiting = store.upgrade(ids[0]).await.unwrap().unwrap();
    assert_eq!(waiting.upgrade.ended_at, Some(t(2)));
    assert_eq!(waiting.upgrade.outcome.unwrap().reason, "task_stopped");
    assert_eq!(waiting.events.len(), 1);
    assert_eq!(
        store.stop_task(task.id, t(3), false).await.unwrap(),
        stopping
    );
    world
        .commit(&[ended(ids[1], task.id, 1, UPGRADED, None, t(4))])
        .await;
    let stopped = store.task(task.id).await.unwrap().unwrap();
    assert_eq!(stopped.state, TaskState::Stopped);
    assert_eq!(stopped.ended_at, Some(t(4)));
    assert_eq!(
        store.stop_task(task.id, t(5), false).await.unwrap(),
        stopped
    );
}

pub(crate) async fn a_scheduled_task_is_stopped_at_once(store: &impl Store) {
    let (_, package) = World::with_devices(store, 1).await;
    let mut new = new_task(&package, Selection::All);
    new.start_at = Some(t(3_600));
    let task = store.create_task(&new).await.unwrap();
    let stopped = store.stop_task(task.id, t(1), false).await.unwrap();
    assert_eq!(stopped.state, TaskState::Stopped);
    assert_eq!(move_on(store, 9_999).await, []);
    assert_eq!(store.next_due(t(1)).await.unwrap(), None);
    // a scheduled task ends also when its last device is removed
    let task = store.create_task(&new).await.unwrap();
    store.remove_device("d0", None, None, t(2)).await.unwrap();
    let ended = store.task(task.id).await.unwrap().unwrap();
    assert_eq!(ended.state, TaskState::Finished);
    assert_eq!(ended.counts[&UpgradeState::Failed], 1);
}

pub(crate) async fn a_finished_task_cannot_be_stopped(store: &impl Store) {
    let (world, task) = World::with_task(store, 1, 0).await;
    let id = world.ids(task.id).await[0];
    world
        .commit(&[ended(id, task.id, 1, UPGRADED, None, t(1))])
        .await;
    let refused = store.stop_task(task.id, t(2), false).await;
    assert!(matches!(refused, Err(StopTaskError::Finished(_))));
    let refused = store.stop_task(TaskId(99), t(2), false).await;
    assert!(matches!(refused, Err(StopTaskError::NotFound(_))));
}

pub(crate) async fn an_upgrade_that_waits_is_cancelled_at_once(store: &impl Store) {
    let (world, task) = World::with_task(store, 2, 1).await;
    let ids = world.ids(task.id).await;
    // one waits for its second attempt
    world
        .commit(&[ended(ids[0], task.id, 1, NOT_HEARD, Some(t(300)), t(1))])
        .await;
    for (number, id) in (1..).zip(&ids) {
        let cancelled = store.cancel_upgrade(*id, None, t(2)).await.unwrap();
        assert_eq!(cancelled.state, UpgradeState::Cancelled);
        assert_eq!(cancelled.ended_at, Some(t(2)));
        let outcome = cancelled.outcome.clone().unwrap();
        assert_eq!(outcome.reason, "cancelled");
        let told = crate::wording::told(&outcome.reason, &outcome.told);
        assert_eq!(told, "the upgrade was cancelled by the operator");
        assert_eq!(
            store.cancel_upgrade(*id, None, t(3)).await.unwrap(),
            cancelled
        );
        let events = store.upgrade(*id).await.unwrap().unwrap().events;
        assert_eq!(events.last().unwrap().kind, "cancelled");
        let task = store.task(task.id).await.unwrap().unwrap();
        assert_eq!(task.counts[&UpgradeState::Cancelled], number);
    }
    assert_eq!(starts(store, 999, 9).await, []);
    let over = store.task(task.id).await.unwrap().unwrap();
    assert_eq!(
        (over.state, over.ended_at),
        (TaskState::Finished, Some(t(2)))
    );
    let told = store.events(0, None, 9).await.unwrap();
    let told: Vec<_> = told.iter().map(|event| event.kind.as_str()).collect();
    let expected = ["upgrade.cancelled", "upgrade.cancelled", "task.finished"];
    assert_eq!(told, expected);
    // it makes way for another task's on the same device
    let package = store.package(task.package).await.unwrap().unwrap();
    let create = async || {
        let new = new_task(&package, list(&["d0"]));
        let task = store.create_task(&new).await.unwrap();
        world.ids(task.id).await[0]
    };
    let (first, second) = (create().await, create().await);
    store.cancel_upgrade(first, None, t(4)).await.unwrap();
    let next = &starts(store, 4, 9).await[0];
    assert_eq!(next.upgrade, second);
    // and does not begin although the engine was told to before
    let late = [stage(first, 1, Stage::WaitingForDevice, t(5))];
    assert_eq!(
        store.commit(next_batch(), &late).await.unwrap().refused,
        [first]
    );
}

pub(crate) async fn an_upgrade_that_runs_is_cancelled_and_not_tried_again(store: &impl Store) {
    let (world, task) = World::with_task(store, 2, 3).await;
    let ids = world.ids(task.id).await;
    for id in &ids {
        world
            .commit(&[stage(*id, 1, Stage::Downloading, t(1))])
            .await;
    }
    let cancelled = store.cancel_upgrade(ids[0], None, t(2)).await.unwrap();
    assert_eq!(cancelled.state, UpgradeState::Active(Stage::Downloading));
    assert_eq!(cancelled.cancel_requested_at, Some(t(2)));
    assert_eq!(
        store.cancel_upgrade(ids[0], None, t(3)).await.unwrap(),
        cancelled
    );
    let to_stop = async || store.upgrades_to_stop(9).await.unwrap();
    assert_eq!(to_stop().await[0].reason, StopReason::Cancelled);
    // it stays so, whatever happens to it meanwhile
    world
        .commit(&[stage(ids[0], 1, Stage::Executing, t(4))])
        .await;
    assert_eq!(to_stop().await[0].upgrade, ids[0]);
    let outcome = Outcome::Cancelled(Cancellation::Upgrade);
    world
        .commit(&[ended(ids[0], task.id, 1, outcome, None, t(5))])
        .await;
    assert_eq!(to_stop().await, []);
    let over = store.cancel_upgrade(ids[0], None, t(6)).await.unwrap();
    assert_eq!(over.state, UpgradeState::Cancelled);
    assert_eq!(over.outcome.unwrap().reason, "cancelled");
    // one that fails by itself meanwhile has failed, and is not tried again
    store.cancel_upgrade(ids[1], None, t(6)).await.unwrap();
    world
        .commit(&[ended(ids[1], task.id, 1, NOT_HEARD, Some(t(300)), t(7))])
        .await;
    assert_eq!(world.state_of(ids[1]).await, UpgradeState::Failed);
    let over = store.task(task.id).await.unwrap().unwrap();
    assert_eq!(over.state, TaskState::Finished);
}

pub(crate) async fn an_upgrade_that_has_ended_cannot_be_cancelled(store: &impl Store) {
    let (world, task) = World::with_task(store, 2, 0).await;
    let ids = world.ids(task.id).await;
    world
        .commit(&[
            ended(ids[0], task.id, 1, UPGRADED, None, t(1)),
            ended(ids[1], task.id, 1, NOT_HEARD, None, t(1)),
        ])
        .await;
    for (id, state) in [
        (ids[0], UpgradeState::Succeeded),
        (ids[1], UpgradeState::Failed),
    ] {
        let refused = store.cancel_upgrade(id, None, t(2)).await;
        assert!(
            matches!(refused, Err(CancelUpgradeError::Ended { state: s, .. }) if s == state),
            "{refused:?}"
        );
    }
    let refused = store.cancel_upgrade(UpgradeId(99), None, t(2)).await;
    assert!(matches!(refused, Err(CancelUpgradeError::NotFound(_))));
}

pub(crate) async fn a_running_task_cannot_be_deleted(store: &impl Store) {
    let (world, task) = World::with_task(store, 2, 0).await;
    let ids = world.ids(task.id).await;
    let delete = async || store.delete_task(task.id).await;
    let refused = delete().await.unwrap_err();
    assert!(matches!(
        refused,
        DeleteTaskError::Running {
            state: TaskState::Running,
            ..
        }
    ));
    world
        .commit(&[stage(ids[0], 1, Stage::WaitingForDevice, t(1))])
        .await;
    store.stop_task(task.id, t(2), false).await.unwrap();
    assert!(delete().await.is_err(), "an upgrade runs");
    world
        .commit(&[ended(ids[0], task.id, 1, NOT_HEARD, None, t(3))])
        .await;
    delete().await.unwrap();
    assert!(matches!(delete().await, Err(DeleteTaskError::NotFound(_))));
    assert_eq!(store.upgrade(ids[0]).await.unwrap(), None);
    assert_eq!(store.task(task.id).await.unwrap(), None);
}

pub(crate) async fn the_newest_time_is_that_of_what_was_written_last(store: &impl Store) {
    assert_eq!(store.newest_time().await.unwrap(), None);
    let (world, task) = World::with_task(store, 1, 0).await;
    assert_eq!(store.newest_time().await.unwrap(), Some(task.created_at));
    let id = world.ids(task.id).await[0];
    world
        .commit(&[stage(id, 1, Stage::WaitingForDevice, t(40))])
        .await;
    assert_eq!(store.newest_time().await.unwrap(), Some(t(40)));
    world
        .commit(&[ended(id, task.id, 1, NOT_HEARD, None, t(50))])
        .await;
    assert_eq!(store.newest_time().await.unwrap(), Some(t(50)));
}

pub(crate) async fn tasks_are_listed_newest_first_with_counts(store: &impl Store) {
    let (_, package) = World::with_devices(store, 2).await;
    for _ in 0..3 {
        store
            .create_task(&new_task(&package, Selection::All))
            .await
            .unwrap();
    }
    let first = store.tasks(false, None, 2).await.unwrap();
    assert!(first.more && first.items[0].id > first.items[1].id);
    assert!(first.items.iter().all(|task| task.total() == 2));
    let rest = store
        .tasks(false, Some(first.items[1].id), 2)
        .await
        .unwrap();
    assert_eq!((rest.items.len(), rest.more), (1, false));
    // one that has ended is not among those that have not
    let ended = first.items[1].id;
    store.stop_task(ended, t(9), false).await.unwrap();
    let all = Part {
        tenant: Some(TenantId::default()),
        filter: None,
    };
    let open = [
        store.tasks(true, None, 9).await.unwrap(),
        store.tasks_within(&[all], true, None, 9).await.unwrap(),
    ];
    for open in open {
        let ids: Vec<_> = open.items.iter().map(|task| task.id).collect();
        assert_eq!(ids, [first.items[0].id, rest.items[0].id]);
    }
}

pub(crate) async fn upgrades_are_listed_by_state_in_pages(store: &impl Store) {
    let (world, task) = World::with_task(store, 5, 0).await;
    let ids = world.ids(task.id).await;
    world
        .commit(&[stage(ids[3], 1, Stage::Downloading, t(1))])
        .await;
    let page = store
        .upgrades(task.id, Some(UpgradeState::Pending), Some(ids[0]), 2)
        .await
        .unwrap();
    let found: Vec<_> = page.items.iter().map(|u| u.id).collect();
    assert_eq!((found, page.more), (vec![ids[1], ids[2]], true));
    let state = UpgradeState::Active(Stage::Downloading);
    let page = store.upgrades(task.id, Some(state), None, 9).await.unwrap();
    assert_eq!((page.items.len(), page.more), (1, false));
    assert_eq!(page.items[0].stage.as_ref().unwrap().deadline_at, t(181));
}

pub(crate) async fn an_upgrade_explains_itself(store: &impl Store) {
    let (world, task) = World::with_task(store, 1, 1).await;
    let id = world.ids(task.id).await[0];
    let package = store.package(task.package).await.unwrap().unwrap();
    let other = store
        .create_task(&new_task(&package, Selection::All))
        .await
        .unwrap();
    world
        .commit(&[
            stage(id, 1, Stage::WaitingForDevice, t(1)),
            Change::Note {
                upgrade: id,
                attempt: 1,
                line: crate::ledger::Line::sentence("nobody there"),
                at: t(2),
            },
        ])
        .await;
    let waiting = store.upgrade(world.ids(other.id).await[0]).await.unwrap();
    let candidate = waiting.unwrap().candidate.unwrap();
    assert_eq!(candidate.device_busy_with, Some(id));
    assert_eq!(store.device("d0").await.unwrap().unwrap().upgrade, Some(id));
    world
        .commit(&[ended(id, task.id, 1, NOT_HEARD, Some(t(300)), t(3))])
        .await;
    let detail = store.upgrade(id).await.unwrap().unwrap();
    assert_eq!(detail.package, task.package);
    let line = |event: &TimelineEntry| {
        format!(
            "{} {}: {}",
            event.attempt,
            event.kind,
            crate::wording::line(&event.line)
        )
    };
    let lines: Vec<String> = detail.events.iter().map(line).collect();
    assert_eq!(
        lines,
        [
            "1 waiting_for_device: entered waiting_for_device",
            "1 note: nobody there",
            "1 failed: the device was not heard within the limit; the next attempt begins at 2027-01-15T08:05:00.000Z",
        ]
    );
    assert_eq!(detail.candidate.unwrap().not_before, t(300));
    assert_eq!(store.upgrade(UpgradeId(99)).await.unwrap(), None);
}

pub(crate) async fn a_device_s_upgrades_are_listed_newest_first(store: &impl Store) {
    let (world, package) = World::with_devices(store, 2).await;
    let mut expected = Vec::new();
    for number in 0..3 {
        let mut new = new_task(&package, Selection::All);
        new.name = format!("task {number}");
        let task = store.create_task(&new).await.unwrap();
        let id = world.ids(task.id).await[1];
        world
            .commit(&[ended(id, task.id, 1, UPGRADED, None, t(number))])
            .await;
        expected.insert(0, (id, new.name, UpgradeState::Succeeded));
    }
    let listed = async |before, limit| {
        let page = store.device_upgrades("d1", before, limit).await.unwrap();
        let items = page.items.into_iter().map(|it| {
            assert_eq!(it.version, package.package.version);
            assert_eq!(it.upgrade.endpoint, "d1");
            (it.upgrade.id, it.task_name, it.upgrade.state)
        });
        (items.collect::<Vec<_>>(), page.more)
    };
    assert_eq!(listed(None, 2).await, (expected[..2].to_vec(), true));
    let rest = listed(Some(expected[1].0), 2).await;
    assert_eq!(rest, (expected[2..].to_vec(), false));
    // they outlive the device, and not their task
    store.remove_device("d1", None, None, t(9)).await.unwrap();
    assert_eq!(listed(None, 9).await, (expected.clone(), false));
    let newest = store.upgrade(expected[0].0).await.unwrap().unwrap();
    let task = newest.upgrade.task;
    store.stop_task(task, t(9), false).await.unwrap();
    store.delete_task(task).await.unwrap();
    assert_eq!(listed(None, 9).await, (expected[1..].to_vec(), false));
    let nobody = store.device_upgrades("nobody", None, 9).await.unwrap();
    assert_eq!((nobody.items, nobody.more), (vec![], false));
}

pub(crate) async fn other_tasks_with_the_same_devices_and_package_are_told(store: &impl Store) {
    let (world, first) = World::with_task(store, 3, 0).await;
    assert_eq!(
        store.overlaps(first.id, 9).await.unwrap(),
        Overlaps::default()
    );
    let package = store.package(first.package).await.unwrap().unwrap();
    let second = new_task(&package, list(&["d1", "d2"]));
    let second = store.create_task(&second).await.unwrap();
    let third = new_task(&package, list(&["d0", "d1"]));
    let third = store.create_task(&third).await.unwrap();
    let overlap = |task: &TaskRecord, devices| Overlap {
        id: task.id,
        name: task.name.clone(),
        devices,
    };
    let told = store.overlaps(third.id, 9).await.unwrap();
    let expected = Overlaps {
        devices: 2,
        tasks: vec![overlap(&second, 1), overlap(&first, 2)],
    };
    assert_eq!(told, expected);
    let newest = store.overlaps(third.id, 1).await.unwrap();
    assert_eq!(
        (newest.devices, newest.tasks),
        (2, vec![overlap(&second, 1)])
    );
    // what has ended is not done twice
    let d0 = world.ids(first.id).await[0];
    world
        .commit(&[ended(d0, first.id, 1, UPGRADED, None, t(1))])
        .await;
    store.stop_task(second.id, t(2), false).await.unwrap();
    let left = store.overlaps(third.id, 9).await.unwrap();
    assert_eq!((left.devices, left.tasks), (1, vec![overlap(&first, 1)]));
    assert_eq!(
        store.overlaps(TaskId(99), 9).await.unwrap(),
        Overlaps::default()
    );
}

pub(crate) async fn upgrades_are_listed_newest_first_of_all_or_of_a_cell(store: &impl Store) {
    let (world, task) = World::with_task(store, 3, 0).await;
    let ids = world.ids(task.id).await;
    for id in &ids[..2] {
        world
            .commit(&[stage(*id, 1, Stage::WaitingForSlot, t(1))])
            .await;
    }
    let listed = async |cell, before, limit| {
        let page = store.newest_upgrades(cell, before, limit).await.unwrap();
        let items: Vec<UpgradeId> = page.items.iter().map(|it| it.upgrade.id).collect();
        (items, page.more)
    };
    let cell = Some(51_234);
    assert_eq!(listed(None, None, 2).await, (vec![ids[2], ids[1]], true));
    assert_eq!(listed(None, Some(ids[1]), 2).await, (vec![ids[0]], false));
    assert_eq!(listed(cell, None, 1).await, (vec![ids[1]], true));
    assert_eq!(listed(cell, Some(ids[1]), 9).await, (vec![ids[0]], false));
    assert_eq!(listed(Some(7), None, 9).await, (vec![], false));
    let page = store.newest_upgrades(cell, None, 1).await.unwrap();
    assert_eq!(page.items[0].task_name, "night");
    assert_eq!(page.items[0].version, task.version);
    store.stop_task(task.id, t(2), false).await.unwrap();
    let running = ids.iter().take(2);
    for id in running {
        let outcome = Outcome::Cancelled(Cancellation::TaskStopped);
        world
            .commit(&[ended(*id, task.id, 1, outcome, None, t(3))])
            .await;
    }
    // where they were when they ended
    assert_eq!(listed(cell, None, 9).await, (vec![ids[1], ids[0]], false));
    store.delete_task(task.id).await.unwrap();
    assert_eq!(listed(cell, None, 9).await, (vec![], false));
}

/// What thingsboard's users miss: a device has one firmware assigned, so that several updates cannot be planned for it, one independent
/// of the other (thingsboard #9962).
pub(crate) async fn several_packages_are_planned_for_the_same_devices(store: &impl Store) {
    let (world, firmware) = World::with_devices(store, 2).await;
    let mut tasks = Vec::new();
    for (content, start_at) in [(1, None), (2, Some(t(300))), (3, Some(t(300)))] {
        let package = match content {
            1 => firmware.clone(),
            _ => {
                world
                    .package("p", &format!("V{}", 8 + content), content)
                    .await
            }
        };
        let new = NewTask {
            name: format!("service {content}"),
            start_at,
            ..new_task(&package, Selection::All)
        };
        tasks.push(store.create_task(&new).await.unwrap().id);
    }
    let [first, second, third] = tasks[..] else {
        panic!("{tasks:?}");
    };
    let upgrades = world.ids(first).await;
    assert_eq!(startable(store, 0, 9).await, upgrades);
    let begins = |upgrade| stage(upgrade, 1, Stage::WaitingForDevice, t(1));
    world
        .commit(&[begins(upgrades[0]), begins(upgrades[1])])
        .await;
    assert_eq!(
        move_on(store, 300).await.len(),
        2,
        "the others begin beside it"
    );
    // a device has one upgrade at a time, and the next one when that has ended, however it did
    assert_eq!(startable(store, 300, 9).await, []);
    let failed = ended(upgrades[0], first, 1, NOT_HEARD, None, t(301));
    world.commit(&[failed]).await;
    let of_second = world.ids(second).await;
    assert_eq!(startable(store, 302, 9).await, [of_second[0]]);
    // one is called off, and the others stay as they are
    store.stop_task(second, t(303), false).await.unwrap();
    let of_third = world.ids(third).await;
    assert_eq!(startable(store, 304, 9).await, [of_third[0]]);
    world
        .commit(&[ended(upgrades[1], first, 1, UPGRADED, None, t(305))])
        .await;
    assert_eq!(startable(store, 306, 9).await, of_third);
    let served: Vec<_> = (starts(store, 306, 9).await.iter())
        .map(|order| order.served.package)
        .collect();
    let third = store.task(third).await.unwrap().unwrap();
    assert_eq!(served, [third.package, third.package]);
}
