//! Phases with a soak.

use std::time::Duration;

use super::{
    UPGRADED, World, ended, new_package, new_task, rollouts::move_on, rollouts::starts, stage, t,
};
use crate::{
    ledger::{Change, Stage, TaskId, UpgradeId},
    package::Version,
    store::{
        ChangeUpgradeError, NewPackage, NewTask, Selection, SoakState, SoaksDue, Store,
        UpgradeState,
    },
    task::{ASKED_EVERY, Move, TaskRules},
};

const WAIT: Duration = Duration::from_hours(3);

/// Four devices are upgraded at second 10, in a phase with a soak of a minute. Gives the task, and the upgrades with their devices.
async fn soaking<S: Store>(store: &S) -> (World<'_, S>, TaskId, Vec<(UpgradeId, String)>) {
    let (world, package) = World::with_devices(store, 6).await;
    let rules = r#"{"phases": [{"count": 4, "success_percent": 50, "soak_seconds": 60}, {}]}"#;
    let rules: TaskRules = serde_json::from_str(rules).unwrap();
    let task = NewTask {
        rules,
        ..new_task(&package, Selection::All)
    };
    let task = store.create_task(&task).await.unwrap().id;
    let orders = starts(store, 10, 99).await;
    assert_eq!(orders.len(), 4);
    let mut upgrades = Vec::new();
    for order in orders {
        let (upgrade, attempt) = (order.upgrade, order.attempt);
        world
            .commit(&[
                stage(upgrade, attempt, Stage::WaitingForDevice, t(10)),
                tells(&order.endpoint, "V1", 10),
                ended(upgrade, task, attempt, UPGRADED, None, t(10)),
            ])
            .await;
        upgrades.push((upgrade, order.endpoint));
    }
    (world, task, upgrades)
}

fn tells(endpoint: &str, version: &str, seconds: u64) -> Change {
    // what it tells in the second of its success comes before it
    let at = if seconds == 10 { t(9) } else { t(seconds) };
    Change::VersionReported {
        endpoint: endpoint.to_owned(),
        version: Version::new(version).unwrap(),
        at,
    }
}

/// Devices of the first phase that are in health, and that are not.
async fn health(store: &impl Store, task: TaskId) -> (u64, u64) {
    let task = store.task(task).await.unwrap().unwrap();
    let phase = &task.results[0];
    assert_eq!(phase.succeeded, 4);
    (phase.healthy, phase.unhealthy)
}

async fn state(store: &impl Store, upgrade: UpgradeId) -> SoakState {
    let detail = store.upgrade(upgrade).await.unwrap().unwrap();
    detail.soak.unwrap().state
}

async fn codes(store: &impl Store, upgrade: UpgradeId) -> Vec<String> {
    let events = store.upgrade(upgrade).await.unwrap().unwrap().events;
    let codes = events.iter().map(|event| event.line.parts().0);
    codes.filter(|code| code.starts_with("soak")).collect()
}

pub(crate) async fn a_success_counts_when_the_device_tells_the_version_after_its_soak(
    store: &impl Store,
) {
    let (world, task, upgrades) = soaking(store).await;
    let target = &store.task(task).await.unwrap().unwrap().version;
    let (first, second) = (&upgrades[0], &upgrades[1]);
    assert_eq!(move_on(store, 11).await, []);
    assert_eq!(store.next_due(t(11)).await.unwrap(), Some(t(70)));
    assert_eq!(
        store.soaks_due(t(69), WAIT, 9).await.unwrap(),
        SoaksDue::default()
    );
    // too early
    world.commit(&[tells(&first.1, target.as_str(), 69)]).await;
    assert_eq!(health(store, task).await, (0, 0));
    assert_eq!(state(store, first.0).await, SoakState::Soaking);
    // each is asked once
    let due = store.soaks_due(t(70), WAIT, 3).await.unwrap();
    assert_eq!((due.ask.len(), due.looked_at), (3, 3));
    let due = store.soaks_due(t(70), WAIT, 3).await.unwrap();
    assert_eq!((due.ask.len(), due.looked_at), (1, 1));
    assert_eq!(store.soaks_due(t(71), WAIT, 9).await.unwrap().looked_at, 0);
    let again = t(70) + ASKED_EVERY;
    assert_eq!(store.next_due(t(71)).await.unwrap(), Some(again));
    assert_eq!(store.soaks_due(again, WAIT, 9).await.unwrap().ask.len(), 4);

    let told = [
        tells(&first.1, target.as_str(), 70),
        tells(&second.1, target.as_str(), 99),
        tells(&second.1, target.as_str(), 100),
    ];
    world.commit(&told).await;
    assert_eq!(health(store, task).await, (2, 0));
    assert_eq!(state(store, first.0).await, SoakState::Healthy);
    assert_eq!(codes(store, first.0).await, ["soak_begun", "soak_passed"]);
    assert_eq!(codes(store, second.0).await, ["soak_begun", "soak_passed"]);
    assert_eq!(move_on(store, 101).await, []);
}

pub(crate) async fn a_device_that_falls_back_or_is_not_heard_is_not_in_health(store: &impl Store) {
    let (world, task, upgrades) = soaking(store).await;
    let target = &store.task(task).await.unwrap().unwrap().version;
    let [first, second, third, fourth] = &upgrades[..] else {
        panic!("{upgrades:?}");
    };
    // at once
    world.commit(&[tells(&first.1, "V0.9", 30)]).await;
    assert_eq!(health(store, task).await, (0, 1));
    assert_eq!(codes(store, first.0).await, ["soak_begun", "soak_failed"]);
    // what it tells later changes nothing
    world.commit(&[tells(&first.1, target.as_str(), 80)]).await;
    assert_eq!(state(store, first.0).await, SoakState::Unhealthy);
    let told = [
        tells(&second.1, target.as_str(), 80),
        tells(&third.1, target.as_str(), 81),
    ];
    world.commit(&told).await;
    assert_eq!(move_on(store, 82).await, []);
    let last = t(70) + WAIT;
    let due = store.soaks_due(last, WAIT, 9).await.unwrap();
    assert_eq!((due.ask.len(), due.looked_at), (0, 1));
    assert_eq!(health(store, task).await, (2, 2));
    assert_eq!(state(store, fourth.0).await, SoakState::Unhealthy);
    assert_eq!(store.next_due(last).await.unwrap(), None);
    // half of them are enough
    let next = Move::NextPhase { task, from: 0 };
    assert_eq!(move_on(store, 20_000).await, [next]);
    store.stop_task(task, t(20_001), false).await.unwrap();
    store.delete_task(task).await.unwrap();
}

pub(crate) async fn a_soak_is_passed_over_and_holds_its_phase_no_more(store: &impl Store) {
    let (world, task, upgrades) = soaking(store).await;
    let target = &store.task(task).await.unwrap().unwrap().version;
    let [first, second, third, fourth] = &upgrades[..] else {
        panic!("{upgrades:?}");
    };
    // an operator passes over one, as often as he likes
    for _ in 0..2 {
        let skipped = store.skip_upgrade(first.0, None, t(20)).await.unwrap();
        assert_eq!(
            skipped.state,
            UpgradeState::Succeeded,
            "it stays what it is"
        );
    }
    assert_eq!(state(store, first.0).await, SoakState::PassedOver);
    assert_eq!(
        codes(store, first.0).await,
        ["soak_begun", "soak_passed_over"]
    );
    // one that was removed is not waited for
    assert!(
        store
            .remove_device(&second.1, None, None, t(30))
            .await
            .unwrap()
    );
    assert_eq!(state(store, second.0).await, SoakState::PassedOver);
    assert_eq!(store.soaks_due(t(70), WAIT, 9).await.unwrap().looked_at, 2);
    // what they tell changes nothing
    world.commit(&[tells(&first.1, target.as_str(), 71)]).await;
    assert_eq!(health(store, task).await, (0, 0));
    assert_eq!(move_on(store, 71).await, []);
    let told = [
        tells(&third.1, target.as_str(), 72),
        tells(&fourth.1, target.as_str(), 72),
    ];
    world.commit(&told).await;
    assert_eq!(health(store, task).await, (2, 0));
    let phase = store.task(task).await.unwrap().unwrap().results[0].clone();
    assert_eq!(phase.passed_over, 2);
    let next = Move::NextPhase { task, from: 0 };
    assert_eq!(move_on(store, 73).await, [next]);
    // one whose soak has ended by itself is a success, and nothing is left to pass over
    let refused = store.skip_upgrade(third.0, None, t(74)).await;
    assert!(matches!(refused, Err(ChangeUpgradeError::Succeeded(_))));
}

pub(crate) async fn a_success_with_a_package_for_a_component_counts_at_once(store: &impl Store) {
    let world = World::new(store);
    let package = NewPackage {
        component: Some("modem".to_owned()),
        pcp: None,
        ..new_package("p", "V2", 1)
    };
    let package = store.insert_package(&package).await.unwrap().record;
    world.devices("p", &["d0", "d1"]).await;
    let rules = r#"{"phases": [{"count": 1, "soak_seconds": 60}, {}]}"#;
    let task = NewTask {
        rules: serde_json::from_str(rules).unwrap(),
        ..new_task(&package, Selection::All)
    };
    let task = store.create_task(&task).await.unwrap().id;
    let order = starts(store, 10, 99).await.remove(0);
    let (upgrade, attempt) = (order.upgrade, order.attempt);
    world
        .commit(&[
            stage(upgrade, attempt, Stage::WaitingForDevice, t(10)),
            ended(upgrade, task, attempt, UPGRADED, None, t(10)),
        ])
        .await;
    let phase = store.task(task).await.unwrap().unwrap().results[0].clone();
    assert_eq!((phase.succeeded, phase.healthy), (1, 1));
    assert_eq!(state(store, upgrade).await, SoakState::Healthy);
    assert_eq!(codes(store, upgrade).await, [""; 0]);
    assert_eq!(store.soaks_due(t(70), WAIT, 9).await.unwrap().ask, [""; 0]);
    // what the device as a whole runs says nothing of it
    world.commit(&[tells(&order.endpoint, "V7", 80)]).await;
    assert_eq!(state(store, upgrade).await, SoakState::Healthy);
}
