//! What applications are told of devices in homes.

use super::{
    NOT_HEARD, UPGRADED, World, ended,
    homes::{home, key, measured, offer_of, offered, refusal, start, terms, user},
    list, new_task, next_batch, registered, stage,
    starts::runs,
    t,
};
use crate::{
    clock::UtcMillis,
    filter::Filter,
    home::{HomeId, OfferId, OfferStage, Refusal},
    ledger::{Change, Failure, Outcome, Stage, UpgradeId},
    store::{Event, NewWebhook, OfferRecord, OfferSeen, Store, Subject, TaskRecord, WeakStart},
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
        Subject::Start { home, .. } | Subject::Offer { home, .. } => Some(home),
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

/// What has an upgrade of a device in a home begin.
pub(crate) async fn beginning(store: &impl Store) -> Change {
    let (world, package) = World::with_devices(store, 1).await;
    store
        .put_home(&home("h1", &["d0"]), None, t(0))
        .await
        .unwrap();
    let task = store.create_task(&new_task(&package, list(&["d0"]))).await;
    let ids = world.ids(task.unwrap().id).await;
    stage(ids[0], 1, Stage::WaitingForDevice, t(1))
}

/// Has a start wait over a weak signal: of an offer that asks for more than -120 dBm, on a device of the home `h1`.
pub(crate) async fn start_waits(store: &dyn Store, endpoint: &str, offer: OfferId) {
    let heard = [registered(endpoint, t(0)), measured(endpoint, -120, t(0))];
    store.commit(next_batch(), &heard).await.unwrap();
    let weak = store.start(&start(endpoint, &[offer], t(1))).await;
    assert!(matches!(refusal(weak), Refusal::SignalWeak { .. }));
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

pub(crate) async fn a_start_that_waits_is_told_once_however_often_it_is_asked_for(
    store: &impl Store,
) {
    let mut asks = terms();
    asks.conditions.rsrp_dbm = Some(-110);
    let offer = offered(store, asks.clone()).await;
    let world = World::new(store);
    world.commit(&[measured("d0", -120, t(1))]).await;
    let start_at =
        async |offers: &[OfferId], at| match refusal(store.start(&start("d0", offers, at)).await) {
            Refusal::SignalWeak { until, .. } => until,
            other => panic!("{other:?}"),
        };
    for second in 0..10 {
        assert_eq!(start_at(&[offer.id], t(2 + second)).await, t(602));
    }
    let waiting = at_home("start.waiting", "h1");
    assert_eq!(told(store).await.as_slice(), std::slice::from_ref(&waiting));
    // another one takes its place, and one that has lapsed waits anew
    let package = world.package("p", "V3", 3).await;
    let other = store.publish_offer(&offer_of(&package, asks)).await;
    let other = other.unwrap().id;
    assert_eq!(start_at(&[other], t(20)).await, t(620));
    assert_eq!(start_at(&[offer.id], t(21)).await, t(621));
    assert_eq!(start_at(&[offer.id], t(621)).await, t(1_221));
    assert_eq!(told(store).await, vec![waiting; 4]);
    let export = store.export_user(&user("anna"), t(622)).await.unwrap();
    assert_eq!(export.starts.len(), 4);
}

pub(crate) async fn what_ends_with_its_device_names_the_home_in_which_that_was(store: &impl Store) {
    let (world, package) = World::with_devices(store, 4).await;
    let put = home("h1", &["d0", "d1", "d2"]);
    store.put_home(&put, None, t(0)).await.unwrap();
    let task = store
        .create_task(&new_task(&package, list(&["d0", "d1", "d2", "d3"])))
        .await
        .unwrap();
    let ids = world.ids(task.id).await;
    for id in [ids[1], ids[2], ids[3]] {
        world
            .commit(&[stage(id, 1, Stage::WaitingForDevice, t(1))])
            .await;
    }
    let begun = at_home("upgrade.started", "h1");
    assert_eq!(told(store).await, [begun.clone(), begun.clone()]);
    // it was in none any more
    let put = home("h1", &["d0", "d1"]);
    store.put_home(&put, None, t(2)).await.unwrap();
    for endpoint in ["d0", "d1", "d2", "d3"] {
        let removed = store.remove_device(endpoint, None, None, t(3)).await;
        assert!(removed.unwrap());
    }
    for id in [ids[1], ids[2], ids[3]] {
        let gone = Outcome::Failed(Failure::DeviceRemoved);
        world
            .commit(&[ended(id, task.id, 1, gone, None, t(4))])
            .await;
    }
    let expected = [
        begun.clone(),
        begun,
        at_home("upgrade.failed", "h1"),
        at_home("upgrade.failed", "h1"),
        elsewhere("upgrade.failed"),
        elsewhere("upgrade.failed"),
        elsewhere("task.finished"),
    ];
    assert_eq!(told(store).await, expected);
}

pub(crate) async fn a_home_that_a_device_joins_is_asked_for_what_waits_there(store: &impl Store) {
    asked_for(store).await;
    let ask = async |at: UtcMillis| store.ask_homes(9, at).await.unwrap();
    assert_eq!(ask(t(1)).await, 2);
    // who stays is not asked again, with another name neither
    let mut put = home("h1", &["d0", "d1", "d2"]);
    put.devices.as_mut().unwrap()[0].name = Some("cellar".to_owned());
    store.put_home(&put, None, t(2)).await.unwrap();
    assert_eq!(ask(t(2)).await, 1);
    // it moves before the first home is asked again
    for (id, devices) in [
        ("h1", &["d0", "d1"][..]),
        ("h2", &["d2"]),
        ("h2", &[]),
        ("h3", &["d2"]),
    ] {
        let put = store.put_home(&home(id, devices), None, t(3)).await;
        put.unwrap();
    }
    assert_eq!((ask(t(4)).await, ask(t(5)).await), (1, 0));
    let asked = |home| at_home("upgrade.awaiting", home);
    let expected = [asked("h1"), asked("h1"), asked("h1"), asked("h3")];
    assert_eq!(told(store).await, expected);
}

pub(crate) async fn who_made_a_task_within_a_filter_is_told_nothing_of_homes(store: &impl Store) {
    let (world, package) = World::with_devices(store, 1).await;
    store
        .put_home(&home("h1", &["d0"]), None, t(0))
        .await
        .unwrap();
    for (number, scope) in (0..).zip([None, Some("endpoint==d0")]) {
        let mut new = new_task(&package, list(&["d0"]));
        new.name = format!("task {number}");
        new.origin.scope = scope.map(|text| Filter::parse(text).unwrap());
        new.webhook = Some(NewWebhook {
            tenant: None,
            task: None,
            url: "https://hooks.example.com/x".to_owned(),
            secret: vec![1; 32],
            vault: None,
            created_at: t(0),
        });
        let task = store.create_task(&new).await.unwrap();
        let id = world.ids(task.id).await[0];
        let done = [
            stage(id, 1, Stage::WaitingForDevice, t(1)),
            ended(id, task.id, 1, UPGRADED, None, t(2)),
        ];
        world.commit(&done).await;
        let webhooks = store.webhooks(None, None, 9).await.unwrap();
        let webhook = webhooks.items.iter().find(|it| it.task == Some(task.id));
        let due = store.due_deliveries(webhook.unwrap().id, t(9), 9).await;
        let events: Vec<_> = due
            .unwrap()
            .iter()
            .map(|it| kind_and_home(&it.event))
            .collect();
        let upgrades = match scope {
            None => ["upgrade.started", "upgrade.succeeded"].map(|kind| at_home(kind, "h1")),
            Some(_) => ["upgrade.started", "upgrade.succeeded"].map(elsewhere),
        };
        assert_eq!(events[..2], upgrades);
        assert_eq!(events[2..], [elsewhere("task.finished")]);
    }
}

/// An offer of V2 to so many of a hundred of the homes `h0` to `h39`, each with a device that runs V1, and to more of them later.
async fn staged(store: &impl Store, percent: u8, stages: &[(u8, u64)]) -> OfferRecord {
    let (world, package) = World::with_devices(store, 40).await;
    for at in 0..40 {
        let endpoint = format!("d{at}");
        world
            .commit(&[registered(&endpoint, t(0)), runs(&endpoint, "V1")])
            .await;
        let put = home(&format!("h{at}"), &[&endpoint]);
        store.put_home(&put, None, t(0)).await.unwrap();
    }
    let mut terms = terms();
    terms.percent = percent;
    terms.stages = (stages.iter())
        .map(|(percent, second)| OfferStage {
            from: t(*second),
            percent: *percent,
        })
        .collect();
    let offer = store.publish_offer(&offer_of(&package, terms)).await;
    offer.unwrap()
}

/// All is told that is to be.
async fn show(store: &impl Store, part: u32, at: UtcMillis) {
    for _ in 0..200 {
        if store.tell_of_offers(part, at).await.unwrap().is_none() {
            return;
        }
    }
    panic!("it does not end");
}

/// The homes of which it was told that they see an offer, in order.
async fn shown(store: &impl Store) -> Vec<String> {
    let told = told(store).await.into_iter();
    let homes = told.filter(|(kind, _)| kind == "offer.visible");
    let mut homes: Vec<String> = homes.filter_map(|(_, home)| home).collect();
    homes.sort();
    homes
}

/// Those of the homes that see it.
fn see(offer: &OfferRecord, at: UtcMillis) -> Vec<String> {
    let homes = (0..40).map(|number| format!("h{number}"));
    let mut see: Vec<String> = homes
        .filter(|home| offer.terms.is_visible_to(&key(home), offer.id, at))
        .collect();
    see.sort();
    see
}

pub(crate) async fn each_home_is_told_once_that_it_sees_an_offer(store: &impl Store) {
    let offer = staged(store, 30, &[(60, 100), (100, 200)]).await;
    let tenant = TenantId::default();
    for (second, next) in [(10, 100), (100, 200), (250, 900)] {
        show(store, 7, t(second)).await;
        let expected = see(&offer, t(second));
        assert_eq!(shown(store).await, expected, "at {second}");
        // and nothing more until the next stage
        show(store, 7, t(next - 1)).await;
        assert_eq!(shown(store).await, expected, "before {next}");
    }
    assert_eq!(shown(store).await.len(), 40);
    let events = store.events(0, Some(offer.task), 1).await.unwrap();
    let sees = OfferSeen {
        offer: offer.id,
        devices: 1,
    };
    assert!(
        matches!(&events[0].subject, Subject::Offer { sees: told, .. } if *told == sees),
        "{events:?}"
    );
    // on other terms nobody is told again
    let mut terms = offer.terms.clone();
    terms.stages.clear();
    for percent in [10, 100] {
        terms.percent = percent;
        store
            .change_offer(&tenant, offer.id, &terms, None)
            .await
            .unwrap();
        show(store, 7, t(1_000)).await;
    }
    assert_eq!(shown(store).await.len(), 40);
}

pub(crate) async fn an_offer_that_more_homes_see_is_told_to_the_others(store: &impl Store) {
    let offer = staged(store, 20, &[]).await;
    show(store, 100, t(1)).await;
    let few = shown(store).await;
    assert_eq!(few, see(&offer, t(1)));
    let mut terms = offer.terms.clone();
    terms.percent = 50;
    let tenant = TenantId::default();
    let offer = store.change_offer(&tenant, offer.id, &terms, None).await;
    show(store, 100, t(2)).await;
    let more = shown(store).await;
    assert_eq!(more, see(&offer.unwrap(), t(2)));
    assert!(more.len() > few.len());
}

pub(crate) async fn offers_that_are_due_take_turns(store: &impl Store) {
    let first = staged(store, 100, &[]).await;
    // a part of it, and another is published
    assert_eq!(store.tell_of_offers(10, t(9)).await.unwrap(), Some(10));
    let package = store.package(first.package).await.unwrap().unwrap();
    let other = offer_of(&package, first.terms.clone());
    let second = store.publish_offer(&other).await.unwrap();
    let mut turns = Vec::new();
    // the clock was put back meanwhile
    while store.tell_of_offers(10, t(5)).await.unwrap() == Some(10) {
        let told = store.events(0, None, 1_000).await.unwrap();
        match &told.last().unwrap().subject {
            Subject::Offer { sees, .. } => turns.push(sees.offer),
            other => panic!("{other:?}"),
        }
    }
    let (first, second) = (first.id, second.id);
    let expected = [second, first, second, first, second, first, second];
    assert_eq!(turns[..], expected);
    show(store, 10, t(9)).await;
    assert_eq!(shown(store).await.len(), 80);
}

pub(crate) async fn only_homes_are_told_of_an_offer_that_it_is_for(store: &impl Store) {
    let (world, package) = World::with_devices(store, 4).await;
    for endpoint in ["d0", "d1", "d2", "d3"] {
        world.commit(&[registered(endpoint, t(0))]).await;
    }
    world
        .commit(&[runs("d0", "V1"), runs("d1", "V2"), runs("d2", "V1")])
        .await;
    for (name, devices) in [
        ("h0", &["d0"][..]),
        ("h1", &["d1"]),
        ("h2", &["d2"]),
        ("h3", &["d3"]),
        ("h4", &[]),
    ] {
        let put = home(name, devices);
        store.put_home(&put, None, t(0)).await.unwrap();
    }
    let excluded = ["d2".to_owned()];
    let done = store.exclude(&excluded, "broken", None, t(0)).await;
    done.unwrap();
    let offer = store.publish_offer(&offer_of(&package, terms())).await;
    show(store, 2, t(1)).await;
    // one is up to date, one is excluded; what `d3` runs is not known
    assert_eq!(shown(store).await, ["h0", "h3"]);
    // another one is withdrawn before anybody is told
    let tenant = TenantId::default();
    let other = store.publish_offer(&offer_of(&package, terms())).await;
    let other = other.unwrap().id;
    assert_ne!(other, offer.unwrap().id);
    store.withdraw_offer(&tenant, other, t(2)).await.unwrap();
    show(store, 2, t(3)).await;
    assert_eq!(shown(store).await, ["h0", "h3"]);
    let nothing = store.tell_of_offers(2, t(9_999)).await;
    assert_eq!(nothing.unwrap(), None);
}
