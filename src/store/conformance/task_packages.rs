//! Tasks with several packages.

use super::{
    NOT_HEARD, UPGRADED, World, ended, new_package, new_task, next_batch, rollouts::starts, stage,
    t,
};
use crate::{
    ledger::{
        Attribute, Cancellation, Change, Outcome, PackageId, Served, Stage, TaskState, UpgradeId,
    },
    store::{
        CreateTaskError, DeletePackageError, DeviceUpdate, InsertPackageError, NewTask, Overlap,
        Overlaps, PackageRecord, Selection, Store, TaskRecord, UpgradeState,
    },
    task::PackageRules,
};

/// V1 → `first` → `second`.
fn chain(first: &PackageRecord, second: &PackageRecord) -> PackageRules {
    let rules = serde_json::json!({
        "packages": [
            {"package_id": first.id, "from": {"version_below": first.package.version, "hardware": ["B"]}},
            {"package_id": second.id, "from": {"versions": [first.package.version], "hardware": ["B"]}},
        ],
        "steps": true,
        "allow_downgrade": true,
        "conditions": {"battery_percent": 30, "signal_dbm": -110},
    });
    serde_json::from_value(rules).unwrap()
}

fn of_several(first: &PackageRecord, packages: PackageRules) -> NewTask {
    let mut new = new_task(first, Selection::All);
    new.retry.attempts = 3;
    NewTask { packages, ..new }
}

/// Two devices, and a task with a chain for them.
async fn with_chain<S: Store>(store: &S) -> (World<'_, S>, TaskRecord, [PackageId; 2]) {
    let (world, first) = World::with_devices(store, 2).await;
    let second = world.package("p", "V3", 2).await;
    let mut update = DeviceUpdate::default();
    let hardware = Some("B".to_owned());
    (update.attributes)
        .set(Attribute::Hardware, hardware)
        .unwrap();
    store.update_device("d0", &update).await.unwrap();
    let new = of_several(&first, chain(&first, &second));
    let task = store.create_task(&new).await.unwrap();
    (world, task, [first.id, second.id])
}

fn serves(upgrade: UpgradeId, attempt: u32, package: PackageId, step: u8) -> Change {
    Change::Serves {
        upgrade,
        attempt,
        served: Served { package, step },
    }
}

pub(crate) async fn several_packages_are_kept_with_whom_they_are_for(store: &impl Store) {
    let (_, task, [first, second]) = with_chain(store).await;
    assert_eq!(task.package, first);
    assert_eq!(task.version.as_str(), "V2");
    let rules = &task.packages;
    let ids: Vec<PackageId> = rules.packages.iter().map(|rule| rule.package_id).collect();
    assert_eq!(ids, [first, second]);
    assert!(rules.steps && rules.allow_downgrade);
    assert_eq!(rules.conditions.signal_dbm, Some(-110));
    let read = store.task(task.id).await.unwrap().unwrap();
    assert_eq!(read.packages, task.packages);
    let told = store.task_packages(task.id).await.unwrap().unwrap();
    assert_eq!((told.first, &told.rules), (first, &*task.packages));
    // whoever chooses is told the hardware, as far as it is known
    let orders = starts(store, 0, 9).await;
    let hardware: Vec<_> = orders.iter().map(|it| it.hardware.as_deref()).collect();
    assert_eq!(hardware, [Some("B"), None]);
    assert_eq!(orders[0].served, Served::first(first));
}

pub(crate) async fn packages_that_do_not_go_together_are_refused(store: &impl Store) {
    let (world, first) = World::with_devices(store, 1).await;
    let other = world.package("q", "V3", 2).await;
    let create = async |packages| {
        store
            .create_task(&of_several(&first, packages))
            .await
            .unwrap_err()
    };
    assert!(matches!(
        create(chain(&first, &other)).await,
        CreateTaskError::PackagesOfOtherProducts { index: 1, .. }
    ));
    let mut unknown = chain(&first, &first);
    unknown.packages[1].package_id = PackageId(99);
    assert!(matches!(
        create(unknown).await,
        CreateTaskError::PackageNotFound(PackageId(99))
    ));
    let second = world.package("p", "V3", 3).await;
    let mut circle = chain(&first, &second);
    circle.packages[0].from = crate::package::Fits {
        versions: vec![second.package.version],
        ..Default::default()
    };
    match create(circle).await {
        CreateTaskError::Packages(error) => assert_eq!(error.field, "steps"),
        error => panic!("{error:?}"),
    }
    let newer = world.package("p", "V3", 4).await;
    assert!(matches!(
        create(chain(&first, &second)).await,
        CreateTaskError::PackageSuperseded { package, .. } if package == second.id
    ));
    assert_ne!(newer.id, second.id);
}

pub(crate) async fn what_a_task_names_is_neither_deleted_nor_superseded(store: &impl Store) {
    let (_, task, packages) = with_chain(store).await;
    for (package, version) in packages.into_iter().zip(["V2", "V3"]) {
        match store.delete_package(package, t(1)).await {
            Err(DeletePackageError::InUse { task: user, .. }) => assert_eq!(user, task.id),
            other => panic!("{other:?}"),
        }
        match store.insert_package(&new_package("p", version, 77)).await {
            Err(InsertPackageError::InUse { task: user, .. }) => assert_eq!(user, task.id),
            other => panic!("{other:?}"),
        }
    }
    store.stop_task(task.id, t(2), false).await.unwrap();
    store.delete_package(packages[1], t(3)).await.unwrap();
}

pub(crate) async fn what_a_device_is_served_is_known_after_a_restart(store: &impl Store) {
    let (world, task, [first, second]) = with_chain(store).await;
    let upgrade = world.ids(task.id).await[0];
    let shown = async || store.upgrade(upgrade).await.unwrap().unwrap();
    let restored = async || {
        let active = store.restore_upgrades(None, 9).await.unwrap();
        active.into_iter().next().unwrap()
    };
    assert_eq!(shown().await.package, first);
    world
        .commit(&[stage(upgrade, 1, Stage::Executing, t(1))])
        .await;
    assert_eq!(restored().await.order.served, Served::first(first));
    // a step is done, and the next one is chosen
    let progress = Change::Progress {
        upgrade,
        progress: crate::ledger::Progress {
            done_bytes: 1_200,
            total_bytes: 1_200,
        },
        at: t(2),
    };
    world
        .commit(&[
            progress,
            serves(upgrade, 1, first, 2),
            stage(upgrade, 1, Stage::QueryingVersion, t(2)),
        ])
        .await;
    let active = restored().await;
    assert_eq!((active.order.served.step, active.progress), (2, None));
    assert_eq!(active.order.hardware.as_deref(), Some("B"));
    world
        .commit(&[
            serves(upgrade, 1, second, 2),
            stage(upgrade, 1, Stage::QueryingCoverage, t(3)),
        ])
        .await;
    let served = Served {
        package: second,
        step: 2,
    };
    assert_eq!(restored().await.order.served, served);
    assert_eq!(shown().await.package, second);
    let of_device = store.device_upgrades("d0", None, 9).await.unwrap().items;
    assert_eq!(of_device[0].version.as_str(), "V3");
    // the next attempt begins with the first step
    let again = ended(upgrade, task.id, 1, NOT_HEARD, Some(t(4)), t(4));
    world.commit(&[again]).await;
    assert_eq!(starts(store, 4, 9).await[1].served, served);
    world
        .commit(&[stage(upgrade, 2, Stage::WaitingForDevice, t(5))])
        .await;
    assert_eq!(restored().await.order.served, Served::first(second));
    // what comes late changes nothing
    world.commit(&[serves(upgrade, 1, first, 1)]).await;
    assert_eq!(restored().await.order.served.package, second);
}

pub(crate) async fn devices_that_are_skipped_are_counted_apart(store: &impl Store) {
    let (world, task) = World::with_task(store, 4, 3).await;
    let ids = world.ids(task.id).await;
    let cancelled = |why| Outcome::Cancelled(why);
    let outcomes = [
        cancelled(Cancellation::NoPackage),
        cancelled(Cancellation::NoPackage),
        cancelled(Cancellation::Downgrade),
        UPGRADED,
    ];
    let begin: Vec<Change> = (ids.iter())
        .map(|id| stage(*id, 1, Stage::QueryingVersion, t(1)))
        .collect();
    world.commit(&begin).await;
    let end: Vec<Change> = (ids.iter().zip(outcomes))
        .map(|(id, outcome)| ended(*id, task.id, 1, outcome, None, t(2)))
        .collect();
    world.commit(&end).await;
    let task = store.task(task.id).await.unwrap().unwrap();
    assert_eq!(task.state, TaskState::Finished);
    assert_eq!(task.counts[&UpgradeState::Cancelled], 3);
    let skipped: Vec<_> = task.skipped.iter().map(|(k, n)| (k.as_str(), *n)).collect();
    assert_eq!(skipped, [("downgrade", 1), ("no_package", 2)]);
    // neither a success nor a failure
    let results = &task.results[0];
    assert_eq!((results.succeeded, results.failed()), (1, 0));
    let report = store.commit(next_batch(), &end).await.unwrap();
    assert_eq!(report.refused, []);
    let again = store.task(task.id).await.unwrap().unwrap();
    assert_eq!(again.skipped, task.skipped);
}

pub(crate) async fn a_deleted_package_of_several_stays_for_its_task(store: &impl Store) {
    let (_, task, [_, second]) = with_chain(store).await;
    store.stop_task(task.id, t(1), false).await.unwrap();
    store.delete_package(second, t(2)).await.unwrap();
    let told = store.task_packages(task.id).await.unwrap().unwrap();
    assert_eq!(told.rules.packages[1].package_id, second);
    assert!(store.package(second).await.unwrap().is_some());
    store.delete_task(task.id).await.unwrap();
    assert_eq!(store.package(second).await.unwrap(), None);
    assert!(store.task_packages(task.id).await.unwrap().is_none());
}

pub(crate) async fn a_soak_asks_for_the_version_of_what_was_served(store: &impl Store) {
    let (world, first) = World::with_devices(store, 1).await;
    let second = world.package("p", "V3", 2).await;
    let rules = r#"{"phases": [{"count": 1, "soak_seconds": 60}]}"#;
    let new = NewTask {
        rules: serde_json::from_str(rules).unwrap(),
        ..of_several(&first, chain(&first, &second))
    };
    let task = store.create_task(&new).await.unwrap().id;
    let upgrade = world.ids(task).await[0];
    world
        .commit(&[
            stage(upgrade, 1, Stage::Executing, t(1)),
            serves(upgrade, 1, second.id, 2),
            ended(upgrade, task, 1, UPGRADED, None, t(2)),
        ])
        .await;
    let told = Change::VersionReported {
        endpoint: "d0".to_owned(),
        version: second.package.version,
        at: t(70),
    };
    world.commit(&[told]).await;
    let results = &store.task(task).await.unwrap().unwrap().results[0];
    assert_eq!((results.healthy, results.unhealthy), (1, 0));
}

pub(crate) async fn overlaps_are_of_any_of_several_packages(store: &impl Store) {
    let (world, several, [first, second]) = with_chain(store).await;
    let [first, second] = [
        store.package(first).await.unwrap().unwrap(),
        store.package(second).await.unwrap().unwrap(),
    ];
    let other = world.package("p", "V9", 9).await;
    let mut created = Vec::new();
    for package in [&first, &second, &other] {
        let new = new_task(package, Selection::Devices(vec!["d1".to_owned()]));
        created.push(store.create_task(&new).await.unwrap());
    }
    let overlap = |task: &TaskRecord, devices| Overlap {
        id: task.id,
        name: task.name.clone(),
        devices,
    };
    // the one with the second package too, which is not its first
    let told = store.overlaps(several.id, 9).await.unwrap();
    let expected = Overlaps {
        devices: 1,
        tasks: vec![overlap(&created[1], 1), overlap(&created[0], 1)],
    };
    assert_eq!(told, expected);
    // and the other way round
    let told = store.overlaps(created[1].id, 9).await.unwrap();
    let expected = Overlaps {
        devices: 1,
        tasks: vec![overlap(&several, 1)],
    };
    assert_eq!(told, expected);
    let none = store.overlaps(created[2].id, 9).await.unwrap();
    assert_eq!(none, Overlaps::default());
    // another one with several, of which one is the same
    let new = of_several(&second, chain(&second, &other));
    let another = store.create_task(&new).await.unwrap();
    let told = store.overlaps(another.id, 9).await.unwrap();
    let expected = Overlaps {
        devices: 2,
        tasks: [&created[2], &created[1], &several]
            .map(|task| overlap(task, if task.id == several.id { 2 } else { 1 }))
            .into(),
    };
    assert_eq!(told, expected);
}
