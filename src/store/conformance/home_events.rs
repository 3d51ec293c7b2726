//! What applications are told of devices in homes.

use super::{
    NOT_HEARD, UPGRADED, World, ended,
    homes::{home, key, measured, offered, start, terms},
    list, new_task, next_batch, stage, t,
};
use crate::{
    clock::UtcMillis,
    home::HomeId,
    ledger::{Stage, UpgradeId},
    store::{Event, NewWebhook, Store, Subject, TaskRecord, WeakStart},
    tenant::TenantId,
};

/// What is told, each with its home.
async fn told(store: &impl Store) -> Vec<(String, Option<String>)> {
    let events = store.events(0, None, 1_000).await.unwrap();
    events.iter().map(kind_and_home).collect()
}

fn kind_and_home(event: &Event) -> (String, Option<String>) {
    let home = match &event.subject {
        Subject::Upgrade { home, .. } => home.as_ref(),
        Subject::Start { home, .. } => Some(home),
        Subject::Task { .. } => None,
    };
    (event.kind.clone(), home.map(HomeId::to_string))
}

fn at_home(kind: &str, home: &str) -> (String, Option<String>) {
    (kind.to_owned(), Some(home.to_owned()))
}

fn elsewhere(kind: &str) -> (String, Option<String>) {
    (kind.to_owned(), None)
}

pub(crate) async fn what_is_told_names_the_home_of_that_time(store: &impl Store) {
    let (world, package) = World::with_devices(store, 3).await;
    store
        .put_home(&home("h1", &["d0"]), None, t(0))
        .await
        .unwrap();
    let task = store
        .create_task(&new_task(&package, list(&["d0", "d1", "d2"])))
        .await
        .unwrap();
    let ids = world.ids(task.id).await;
    for id in &ids {
        let begins = [
            stage(*id, 1, Stage::WaitingForDevice, t(1)),
            stage(*id, 1, Stage::QueryingVersion, t(2)),
        ];
        world.commit(&begins).await;
    }
    assert_eq!(told(store).await, [at_home("upgrade.started", "h1")]);
    // it moves, another one comes
    for (id, devices) in [("h1", &["d1"][..]), ("h2", &["d0"])] {
        let put = store.put_home(&home(id, devices), None, t(3)).await;
        put.unwrap();
    }
    let failed = |id| ended(id, task.id, 1, NOT_HEARD, None, t(4));
    world.commit(&[failed(ids[0]), failed(ids[1])]).await;
    store.delete_home(&key("h2"), None).await.unwrap();
    let upgraded = [
        stage(ids[2], 1, Stage::Downloading, t(5)),
        ended(ids[2], task.id, 1, UPGRADED, None, t(6)),
    ];
    world.commit(&upgraded).await;
    let expected = [
        at_home("upgrade.started", "h1"),
        at_home("upgrade.failed", "h2"),
        at_home("upgrade.failed", "h1"),
        elsewhere("upgrade.succeeded"),
        elsewhere("task.finished"),
    ];
    assert_eq!(told(store).await, expected);
}

pub(crate) async fn the_beginning_at_home_is_told_once(store: &impl Store) {
    let offer = offered(store, terms()).await;
    let world = World::new(store);
    let webhook = NewWebhook {
        tenant: Some(TenantId::default()),
        task: None,
        url: "https://hooks.example.com/x".to_owned(),
        secret: vec![1; 32],
        vault: None,
        created_at: t(0),
    };
    let webhook = store.add_webhook(&webhook).await.unwrap().id;
    let begun = store.start(&start("d0", &[offer.id], t(1))).await;
    let upgrade = begun.unwrap()[0].upgrade;
    assert_eq!(told(store).await, [], "it waits for its turn");
    let (batch, begins) = (
        next_batch(),
        [stage(upgrade, 1, Stage::WaitingForDevice, t(2))],
    );
    for _ in 0..2 {
        store.commit(batch, &begins).await.unwrap();
    }
    let events = store.events(0, None, 9).await.unwrap();
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0].at, t(2));
    assert_eq!(
        (events[0].task, events[0].kind.as_str()),
        (offer.task, "upgrade.started")
    );
    let expected = Subject::Upgrade {
        upgrade,
        endpoint: "d0".to_owned(),
        attempts: 1,
        reason: None,
        told: None,
        cell: None,
        started_at: Some(t(2)),
        home: Some("h1".parse().unwrap()),
        stage: Some(Stage::WaitingForDevice),
    };
    assert_eq!(events[0].subject, expected);
    let due = store.due_deliveries(webhook, t(9), 9).await.unwrap();
    assert_eq!(due[0].event, events[0]);
    // another attempt is no news, its end is
    let again = [
        ended(upgrade, offer.task, 1, NOT_HEARD, Some(t(60)), t(5)),
        stage(upgrade, 2, Stage::WaitingForDevice, t(60)),
        ended(upgrade, offer.task, 2, NOT_HEARD, None, t(70)),
    ];
    world.commit(&again).await;
    let expected = [
        at_home("upgrade.started", "h1"),
        at_home("upgrade.failed", "h1"),
    ];
    assert_eq!(told(store).await, expected);
}

/// A task that waits for the word of those who own `d0` to `d2`, of which the first two are in the home `h1`.
pub(crate) async fn asked_for(store: &impl Store) -> TaskRecord {
    let (_, package) = World::with_devices(store, 3).await;
    store
        .put_home(&home("h1", &["d0", "d1"]), None, t(0))
        .await
        .unwrap();
    let mut new = new_task(&package, list(&["d0", "d1", "d2"]));
    new.rules = serde_json::from_str(r#"{"confirmation": "device_owner"}"#).unwrap();
    store.create_task(&new).await.unwrap()
}

pub(crate) async fn a_home_is_asked_for_its_word_once(store: &impl Store) {
    let task = asked_for(store).await;
    let ids = World::new(store).ids(task.id).await;
    let ask = async |limit, at: UtcMillis| store.ask_homes(limit, at).await.unwrap();
    let confirm = async |id: UpgradeId, confirmed| {
        let said = store.confirm_upgrade(id, None, confirmed, "anna", t(2));
        said.await.unwrap();
    };
    // what was said meanwhile is asked no more
    confirm(ids[1], true).await;
    assert_eq!((ask(1, t(1)).await, ask(9, t(1)).await), (1, 1));
    assert_eq!(ask(9, t(1)).await, 0);
    let asked = at_home("upgrade.awaiting", "h1");
    assert_eq!(told(store).await.as_slice(), std::slice::from_ref(&asked));
    let events = store.events(0, None, 9).await.unwrap();
    let whose = matches!(&events[0].subject, Subject::Upgrade { endpoint, stage: None, .. } if endpoint == "d0");
    assert!(whose && events[0].at == t(1), "{events:?}");
    // one that was refused and is tried again is asked for again
    confirm(ids[0], false).await;
    store.retry_upgrade(ids[0], None, t(3)).await.unwrap();
    assert_eq!(ask(9, t(4)).await, 1);
    let refused = at_home("upgrade.cancelled", "h1");
    assert_eq!(told(store).await, [asked.clone(), refused, asked]);
}

pub(crate) async fn a_start_that_waits_over_a_weak_signal_is_told(store: &impl Store) {
    let mut asks = terms();
    asks.conditions.rsrp_dbm = Some(-110);
    let offer = offered(store, asks).await;
    let world = World::new(store);
    world
        .commit(&[measured("d0", -120, t(1)), measured("d1", -111, t(1))])
        .await;
    // both at the same time
    for endpoint in ["d0", "d1"] {
        let weak = store.start(&start(endpoint, &[offer.id], t(2))).await;
        weak.unwrap_err();
    }
    let events = store.events(0, Some(offer.task), 9).await.unwrap();
    let subjects: Vec<Subject> = events.into_iter().map(|event| event.subject).collect();
    let waiting = |endpoint: &str, rsrp_dbm| Subject::Start {
        endpoint: endpoint.to_owned(),
        home: "h1".parse().unwrap(),
        waits: WeakStart {
            offer: offer.id,
            rsrp_dbm,
            least_dbm: -110,
            until: t(602),
        },
    };
    assert_eq!(subjects, [waiting("d0", -120), waiting("d1", -111)]);
}
