use super::{
    NOT_HEARD, UPGRADED, World, ended, list, new_task, next_batch, rollouts::starts, stage, t,
};
use crate::{
    ledger::{Stage, UpgradeId},
    store::{CreateTaskError, EndExclusionError, Excluded, Selection, Store, UpgradeState},
    task::{self, NotYet},
};

async fn exclude(store: &impl Store, endpoints: &[&str], reason: &str) -> Excluded {
    let endpoints: Vec<String> = endpoints.iter().map(|it| (*it).to_owned()).collect();
    store.exclude(&endpoints, reason, None, t(1)).await.unwrap()
}

async fn startable(store: &impl Store, seconds: u64) -> Vec<UpgradeId> {
    let starts = starts(store, seconds, 9).await;
    starts.into_iter().map(|order| order.upgrade).collect()
}

/// Why an upgrade does not begin, and the reason of its device's exclusion.
async fn why(store: &impl Store, upgrade: UpgradeId, seconds: u64) -> Option<NotYet> {
    let detail = store.upgrade(upgrade).await.unwrap().unwrap();
    let candidate = detail.candidate.unwrap();
    task::explain(&candidate, t(seconds)).err()
}

pub(crate) async fn exclusions_begin_and_end(store: &impl Store) {
    let (_, _) = World::with_devices(store, 1).await;
    let excluded = exclude(store, &["d0", "nobody", "d0"], "on loan").await;
    assert_eq!((excluded.added, excluded.unchanged), (2, 0));
    let again = store
        .exclude(&["d0".to_owned(), "x".to_owned()], "lost", None, t(9))
        .await;
    let again = again.unwrap();
    assert_eq!((again.added, again.unchanged), (1, 1));
    let page = store.exclusions(None, 2).await.unwrap();
    let told: Vec<_> = (page.items.iter())
        .map(|it| (it.endpoint.as_str(), it.reason.as_str(), it.since))
        .collect();
    assert_eq!(told, [("d0", "lost", t(1)), ("nobody", "on loan", t(1))]);
    assert!(page.more);
    let rest = store.exclusions(Some("nobody"), 2).await.unwrap();
    assert_eq!((rest.items[0].endpoint.as_str(), rest.more), ("x", false));
    let device = async || store.device("d0").await.unwrap().unwrap().excluded;
    assert_eq!(device().await.as_deref(), Some("lost"));
    let one = store.exclusion("d0").await.unwrap().unwrap();
    assert_eq!(one, page.items[0]);
    assert_ne!(one.revision, page.items[1].revision, "it has changed since");
    assert_eq!(store.exclusion("d9").await.unwrap(), None);
    let late = store
        .end_exclusion("d0", Some(one.revision - 1), None)
        .await;
    assert!(
        matches!(&late, Err(EndExclusionError::Changed { revision, .. }) if *revision == one.revision),
        "{late:?}"
    );
    assert!(store.end_exclusion("d0", None, None).await.unwrap());
    assert!(!store.end_exclusion("d0", None, None).await.unwrap());
    assert_eq!(device().await, None);
}

pub(crate) async fn new_tasks_leave_excluded_devices_out(store: &impl Store) {
    let (world, package) = World::with_devices(store, 4).await;
    world.devices("q", &["e"]).await;
    exclude(store, &["d1", "d3", "e", "nobody"], "on loan").await;
    for (selection, devices, left_out) in [
        (Selection::All, "d0 d2", 2),
        (Selection::Product("p".to_owned()), "d0 d2", 2),
        (list(&["d3", "d0", "d0"]), "d0", 1),
        (list(&["d2"]), "d2", 0),
        (
            Selection::Filter("endpoint==d*".parse().unwrap()),
            "d0 d2",
            2,
        ),
    ] {
        let task = store
            .create_task(&new_task(&package, selection))
            .await
            .unwrap();
        let page = store.upgrades(task.id, None, None, 9).await.unwrap();
        let names: Vec<_> = page.items.into_iter().map(|it| it.endpoint).collect();
        assert_eq!(
            (names.join(" ").as_str(), task.excluded),
            (devices, left_out)
        );
        assert_eq!(
            store.task(task.id).await.unwrap().unwrap().excluded,
            left_out
        );
    }
    // it is still told who is unknown, or of another product
    let unknown = new_task(&package, list(&["d1", "nobody"]));
    let refused = store.create_task(&unknown).await;
    assert!(matches!(
        refused,
        Err(CreateTaskError::UnknownDevices { count: 1, .. })
    ));
    let other = new_task(&package, list(&["d1", "e"]));
    let refused = store.create_task(&other).await;
    assert!(matches!(
        refused,
        Err(CreateTaskError::DevicesOfOtherProduct { .. })
    ));
    let tasks = store.tasks(false, None, 9).await.unwrap().items.len();
    exclude(store, &["d0", "d2"], "on loan").await;
    for (selection, left_out) in [(Selection::All, 4), (list(&["d0", "d1"]), 2)] {
        match store.create_task(&new_task(&package, selection)).await {
            Err(CreateTaskError::AllExcluded { excluded }) => assert_eq!(excluded, left_out),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(
        store.tasks(false, None, 9).await.unwrap().items.len(),
        tasks
    );
}

pub(crate) async fn what_waits_on_an_excluded_device_does_not_begin(store: &impl Store) {
    let (world, task) = World::with_task(store, 3, 0).await;
    let ids = world.ids(task.id).await;
    exclude(store, &["d0", "d1"], "on loan").await;
    assert_eq!(startable(store, 1).await, [ids[2]]);
    let heads = store.task_heads(t(1)).await.unwrap();
    assert_eq!(heads[0].lots[0].first_due.map(|(_, id)| id), Some(ids[2]));
    let excluded = Some(NotYet::DeviceExcluded("on loan".to_owned()));
    assert_eq!(why(store, ids[0], 1).await, excluded);
    assert_eq!(why(store, ids[2], 1).await, None);
    assert!(store.end_exclusion("d0", None, None).await.unwrap());
    assert_eq!(startable(store, 1).await, [ids[0], ids[2]]);
    assert_eq!(why(store, ids[0], 1).await, None);
    // what waits can be cancelled nevertheless
    store.cancel_upgrade(ids[1], None, t(2)).await.unwrap();
    assert_eq!(world.state_of(ids[1]).await, UpgradeState::Cancelled);
    assert!(store.end_exclusion("d1", None, None).await.unwrap());
    assert_eq!(startable(store, 2).await, [ids[0], ids[2]]);
}

pub(crate) async fn what_runs_on_an_excluded_device_goes_on_and_is_not_tried_again(
    store: &impl Store,
) {
    let (world, task) = World::with_task(store, 2, 3).await;
    let ids = world.ids(task.id).await;
    let begun = |id, at| stage(id, 1, Stage::WaitingForDevice, t(at));
    world.commit(&[begun(ids[0], 1), begun(ids[1], 1)]).await;
    exclude(store, &["d0", "d1"], "on loan").await;
    assert_eq!(store.upgrades_to_stop(9).await.unwrap(), []);
    world
        .commit(&[
            stage(ids[0], 1, Stage::QueryingVersion, t(2)),
            ended(ids[0], task.id, 1, UPGRADED, None, t(3)),
            ended(ids[1], task.id, 1, NOT_HEARD, Some(t(10)), t(3)),
        ])
        .await;
    assert_eq!(world.state_of(ids[0]).await, UpgradeState::Succeeded);
    assert_eq!(startable(store, 20).await, []);
    let not_yet = why(store, ids[1], 20).await.unwrap();
    assert_eq!(not_yet, NotYet::DeviceExcluded("on loan".to_owned()));
    // a device that is excluded no more is free only when nothing runs on it
    let package = store.package(task.package).await.unwrap().unwrap();
    store.end_exclusion("d1", None, None).await.unwrap();
    assert_eq!(startable(store, 20).await, [ids[1]]);
    let second = store
        .create_task(&new_task(&package, list(&["d1"])))
        .await
        .unwrap();
    let other = world.ids(second.id).await[0];
    world
        .commit(&[stage(ids[1], 2, Stage::WaitingForDevice, t(21))])
        .await;
    exclude(store, &["d1"], "on loan").await;
    store.end_exclusion("d1", None, None).await.unwrap();
    assert_eq!(startable(store, 21).await, []);
    let busy = Some(NotYet::DeviceBusy(ids[1]));
    assert_eq!(why(store, other, 21).await, busy);
}

pub(crate) async fn an_attempt_that_begins_after_its_device_was_excluded_is_refused(
    store: &impl Store,
) {
    let (world, task) = World::with_task(store, 2, 1).await;
    let ids = world.ids(task.id).await;
    exclude(store, &["d0"], "on loan").await;
    let late = [
        stage(ids[0], 1, Stage::WaitingForDevice, t(2)),
        stage(ids[0], 1, Stage::QueryingVersion, t(2)),
        stage(ids[1], 1, Stage::WaitingForDevice, t(2)),
    ];
    let report = store.commit(next_batch(), &late).await.unwrap();
    assert_eq!(report.refused, [ids[0]]);
    assert_eq!(world.state_of(ids[0]).await, UpgradeState::Pending);
    store.end_exclusion("d0", None, None).await.unwrap();
    assert_eq!(startable(store, 3).await, [ids[0]]);
    // the next attempt, which begins in the batch that ends the one before, is refused as well
    exclude(store, &["d1"], "on loan").await;
    let both = [
        ended(ids[1], task.id, 1, NOT_HEARD, Some(t(3)), t(3)),
        stage(ids[1], 2, Stage::WaitingForDevice, t(3)),
    ];
    let report = store.commit(next_batch(), &both).await.unwrap();
    assert_eq!(report.refused, [ids[1]]);
    let detail = store.upgrade(ids[1]).await.unwrap().unwrap();
    assert_eq!(detail.upgrade.attempts, 1);
}
