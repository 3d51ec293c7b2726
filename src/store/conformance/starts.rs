//! What is started at home in sequence, by itself, and again.

use std::time::Duration;

use super::{
    NOT_HEARD, T0, UPGRADED, World, ended,
    homes::{home, key, measured, offer_of, offered, one, refusal, start, terms, user, version},
    next_batch, registered, stage, t,
};
use crate::{
    clock::UtcMillis,
    home::{Channel, Refusal},
    ledger::{Asked, Change, Happened, Line, Stage, UpgradeId},
    store::{
        Again, ChangeTaskError, ChangeUpgradeError, NewStart, OfferRecord, PutHome, StartError,
        Starter, Store, TaskChange, UpgradeState,
    },
    task::{Membership, TaskRules},
    tenant::TenantId,
};

/// An offer of V3 to who runs V2, after one of V2 that [`offered`] has published; `d0` and `d1` run V1.
async fn followed(store: &impl Store) -> (OfferRecord, OfferRecord) {
    let v2 = offered(store, terms()).await;
    let world = World::new(store);
    world.commit(&[runs("d0", "V1"), runs("d1", "V1")]).await;
    let package = world.package("p", "V3", 3).await;
    let mut second = terms();
    second.conditions.from = vec![version("V2")];
    let v3 = store.publish_offer(&offer_of(&package, second)).await;
    (v2, v3.unwrap())
}

pub(super) fn runs(endpoint: &str, text: &str) -> Change {
    Change::VersionReported {
        endpoint: endpoint.to_owned(),
        version: version(text),
        at: t(1),
    }
}

/// What of an offer is due first.
async fn due(store: &impl Store, offer: &OfferRecord, now: UtcMillis) -> Option<UpgradeId> {
    let heads = store.task_heads(now).await.unwrap();
    let head = heads.iter().find(|head| head.task == offer.task)?;
    let first = head.lots.iter().find_map(|lot| lot.first_due)?;
    Some(first.1)
}

pub(crate) async fn what_follows_waits_until_the_one_before_it_has_succeeded(store: &impl Store) {
    let (v2, v3) = followed(store).await;
    let world = World::new(store);
    let both = store
        .start(&start("d0", &[v2.id, v3.id], t(2)))
        .await
        .unwrap();
    let (first, second) = (both[0].upgrade, both[1].upgrade);
    assert_eq!(due(store, &v2, t(3)).await, Some(first));
    assert_eq!(due(store, &v3, t(3)).await, None);
    let failed = [
        stage(first, 1, Stage::WaitingForDevice, t(3)),
        ended(first, v2.task, 1, NOT_HEARD, Some(t(3_600)), t(4)),
    ];
    world.commit(&failed).await;
    assert_eq!(
        due(store, &v3, t(9_999)).await,
        None,
        "the first is to be tried again"
    );
    // neither does the end of an exclusion free it
    store
        .exclude(&["d0".to_owned()], "in the museum", None, t(5))
        .await
        .unwrap();
    store.end_exclusion("d0", None, None).await.unwrap();
    assert_eq!(due(store, &v3, t(9_999)).await, None);
    let done = [
        stage(first, 2, Stage::WaitingForDevice, t(3_600)),
        runs("d0", "V2"),
        ended(first, v2.task, 2, UPGRADED, None, t(3_601)),
    ];
    world.commit(&done).await;
    assert_eq!(due(store, &v3, t(3_602)).await, Some(second));
}

pub(crate) async fn what_follows_ends_with_the_one_before_it(store: &impl Store) {
    let (v2, v3) = followed(store).await;
    let world = World::new(store);
    let begin = async |endpoint, at| {
        let both = store.start(&start(endpoint, &[v2.id, v3.id], at)).await;
        let both = both.unwrap();
        (both[0].upgrade, both[1].upgrade)
    };
    let reason = async |upgrade| {
        let found = store.upgrade(upgrade).await.unwrap().unwrap();
        found.upgrade.outcome.unwrap().reason
    };
    // the first fails for good
    let (first, second) = begin("d0", t(2)).await;
    let failed = [
        stage(first, 1, Stage::WaitingForDevice, t(3)),
        ended(first, v2.task, 1, NOT_HEARD, None, t(4)),
    ];
    world.commit(&failed).await;
    assert_eq!(world.state_of(second).await, UpgradeState::Cancelled);
    assert_eq!(reason(second).await, "not_reached");
    // it is passed over
    let (first, second) = begin("d0", t(5)).await;
    store.skip_upgrade(first, None, t(6)).await.unwrap();
    assert_eq!(reason(second).await, "not_reached");
    // the user cancels both
    let (first, second) = begin("d0", t(7)).await;
    let (h1, anna) = (key("h1"), user("anna").id);
    let cancelled = store.cancel_start(&h1, "d0", &anna, t(8)).await;
    assert_eq!(cancelled.unwrap().upgrades, [first, second]);
    assert_eq!(reason(second).await, "cancelled");
    // the offer of the first is withdrawn
    let (_, second) = begin("d1", t(9)).await;
    store
        .withdraw_offer(&TenantId::default(), v2.id, t(10))
        .await
        .unwrap();
    assert_eq!(reason(second).await, "not_reached");
}

pub(crate) async fn the_standing_task_of_an_offer_is_changed_but_for_who_joins(store: &impl Store) {
    let offer = offered(store, terms()).await;
    let change = async |membership, priority| {
        let rules = TaskRules {
            membership,
            priority: Some(priority),
            ..TaskRules::default()
        };
        let change = TaskChange::Rules {
            rules: Box::new(rules),
            revision: None,
            by: None,
        };
        store.change_task(offer.task, &change, t(1)).await
    };
    let changed = change(Membership::Joining, 7).await.unwrap();
    assert_eq!(changed.rules.priority, Some(7));
    let refused = change(Membership::Snapshot, 8).await;
    assert!(
        matches!(refused, Err(ChangeTaskError::Offered(task)) if task == offer.task),
        "{refused:?}"
    );
    store.start(&start("d0", &[offer.id], t(2))).await.unwrap();
}

pub(crate) async fn of_a_device_that_upgraded_later_no_failure_is_taken_up_again(
    store: &impl Store,
) {
    let offer = offered(store, terms()).await;
    let world = World::new(store);
    let begin = async |endpoint, at| {
        let new = start(endpoint, &[offer.id], at);
        store.start(&new).await.unwrap()[0].upgrade
    };
    let failed = |upgrade, at| {
        [
            stage(upgrade, 1, Stage::WaitingForDevice, at),
            ended(upgrade, offer.task, 1, NOT_HEARD, None, at),
        ]
    };
    let first = begin("d0", t(1)).await;
    world.commit(&failed(first, t(2))).await;
    let other = begin("d1", t(1)).await;
    world.commit(&failed(other, t(2))).await;
    let second = begin("d0", t(3)).await;
    let again = store
        .take_up_again(offer.task, &Again::default(), t(4))
        .await
        .unwrap();
    assert_eq!(again.1, 1, "the one of d1");
    assert_eq!(world.state_of(first).await, UpgradeState::Failed);
    assert_eq!(world.state_of(other).await, UpgradeState::Pending);
    let alone = store.retry_upgrade(first, None, t(5)).await;
    assert!(
        matches!(alone, Err(ChangeUpgradeError::Later { later, .. }) if later == second),
        "{alone:?}"
    );
}

pub(crate) async fn by_itself_a_device_upgrades_to_what_is_newest_and_never_back(
    store: &impl Store,
) {
    let v2 = offered(store, terms()).await;
    let world = World::new(store);
    let package = world.package("p", "V3", 3).await;
    let v3 = store.publish_offer(&offer_of(&package, terms())).await;
    let v3 = v3.unwrap();
    world.commit(&[runs("d0", "V1"), runs("d1", "V3")]).await;
    for endpoint in ["d0", "d1"] {
        let set = store.set_automatic(&key("h1"), endpoint, true).await;
        set.unwrap();
    }
    let begun = async |at| store.start_automatic(None, 9, at).await.unwrap().0;
    assert_eq!(begun(t(2)).await, 1);
    let newest = world.ids(v3.task).await;
    assert_eq!(newest.len(), 1);
    let failed = [
        stage(newest[0], 1, Stage::WaitingForDevice, t(3)),
        ended(newest[0], v3.task, 1, NOT_HEARD, None, t(4)),
    ];
    world.commit(&failed).await;
    assert_eq!(begun(t(5)).await, 0, "no older one is begun instead");
    assert_eq!(world.ids(v2.task).await, []);
    // d1, which its operator upgraded, does not go back
    let package = world.package("p", "V2.5", 5).await;
    let mut back = offer_of(&package, terms());
    back.task.packages.allow_downgrade = true;
    let back = store.publish_offer(&back).await.unwrap();
    store.set_automatic(&key("h1"), "d0", false).await.unwrap();
    assert_eq!(begun(t(6)).await, 0);
    let asked = store.start(&start("d1", &[back.id], t(7))).await;
    asked.expect("who asks may");
}

pub(crate) async fn an_offer_that_begins_nothing_keeps_no_other_from_beginning(store: &impl Store) {
    let paused = offered(store, terms()).await;
    let world = World::new(store);
    let package = world.package("p", "V3", 3).await;
    let mut other = terms();
    other.channel = Channel::new(9).unwrap();
    let other = store.publish_offer(&offer_of(&package, other)).await;
    let other = other.unwrap();
    let pause = TaskChange::Pause { note: None };
    store.change_task(paused.task, &pause, t(1)).await.unwrap();
    store.set_automatic(&key("h1"), "d0", true).await.unwrap();
    assert_eq!(store.start_automatic(None, 9, t(2)).await.unwrap().0, 1);
    assert_eq!(world.ids(paused.task).await, []);
    assert_eq!(world.ids(other.task).await.len(), 1);
}

pub(crate) async fn by_itself_nothing_begins_that_may_not_any_more(store: &impl Store) {
    let offer = offered(store, terms()).await;
    let by_itself = async |at| {
        let new = NewStart {
            by: Starter::Automatic,
            ..start("d0", &[offer.id], at)
        };
        store.start(&new).await.unwrap().len()
    };
    assert_eq!(by_itself(t(1)).await, 0, "its switch is off");
    store.set_automatic(&key("h1"), "d0", true).await.unwrap();
    let night = T0 + Duration::from_hours(14);
    assert_eq!(by_itself(night).await, 0, "it is quiet");
    assert_eq!(by_itself(t(2)).await, 1);
    assert_eq!(by_itself(t(3)).await, 0, "something is open");
}

pub(crate) async fn what_waits_ends_when_its_device_is_put_out_of_its_home(store: &impl Store) {
    let mut asks = terms();
    asks.conditions.rsrp_dbm = Some(-110);
    let offer = offered(store, asks).await;
    let world = World::new(store);
    world.commit(&[measured("d0", -120, t(1))]).await;
    let weak = store.start(&start("d0", &[offer.id], t(2))).await;
    assert!(matches!(refusal(weak), Refusal::SignalWeak { .. }));
    assert!(one(store, "d0", t(3)).await.waits.is_some());
    for devices in [&["d1"][..], &["d0", "d1"]] {
        let put = store.put_home(&home("h1", devices), None, t(3)).await;
        put.unwrap();
    }
    assert_eq!(one(store, "d0", t(4)).await.waits, None);
    let late = store
        .continue_start(&key("h1"), "d0", &user("anna").id, t(4))
        .await;
    assert_eq!(refusal(late), Refusal::NothingWaits);
}

/// Devices `d0` to `d2` that run V1, each in a home of its own, `h0` to `h2`, in that zone, with their switches on, and an offer of V2.
pub(crate) async fn switched_on(store: &impl Store, zones: [&str; 3]) -> OfferRecord {
    let (world, package) = World::with_devices(store, 3).await;
    for (at, zone) in zones.into_iter().enumerate() {
        let (endpoint, id) = (format!("d{at}"), format!("h{at}"));
        world
            .commit(&[registered(&endpoint, T0), runs(&endpoint, "V1")])
            .await;
        let mut put = home(&id, &[&endpoint]);
        zone.clone_into(&mut put.zone);
        store.put_home(&put, None, T0).await.unwrap();
        store
            .set_automatic(&key(&id), &endpoint, true)
            .await
            .unwrap();
    }
    let offer = store.publish_offer(&offer_of(&package, terms())).await;
    offer.unwrap()
}

/// No hours are quiet in the homes of [`switched_on`].
pub(crate) async fn never_quiet(store: &impl Store) {
    for id in ["h0", "h1", "h2"] {
        let put = PutHome {
            quiet: None,
            devices: None,
            ..home(id, &[])
        };
        store.put_home(&put, None, T0).await.unwrap();
    }
}

/// The devices on which an offer was started, by their names.
async fn started(store: &impl Store, offer: &OfferRecord) -> Vec<String> {
    let mut names = Vec::new();
    for upgrade in World::new(store).ids(offer.task).await {
        let found = store.upgrade(upgrade).await.unwrap().unwrap();
        names.push(found.upgrade.endpoint);
    }
    names.sort();
    names
}

pub(crate) async fn each_home_begins_when_it_is_not_quiet_there(store: &impl Store) {
    // at T0 it is 8:00 in UTC; nothing begins between 22:00 and 6:00
    let zones = ["Europe/Berlin", "America/New_York", "Asia/Tokyo"];
    let offer = switched_on(store, zones).await;
    let begun = async |at| store.start_automatic(None, 9, at).await.unwrap().0;
    assert_eq!(begun(T0).await, 2, "it is 3:00 in New York");
    assert_eq!(started(store, &offer).await, ["d0", "d2"]);
    assert_eq!(begun(T0 + Duration::from_hours(2)).await, 0);
    assert_eq!(begun(T0 + Duration::from_hours(3)).await, 1);
    assert_eq!(started(store, &offer).await, ["d0", "d1", "d2"]);
    assert_eq!(begun(T0 + Duration::from_hours(4)).await, 0);
}

pub(crate) async fn devices_that_begin_by_themselves_are_looked_at_in_parts(store: &impl Store) {
    let offer = switched_on(store, ["UTC"; 3]).await;
    store.set_automatic(&key("h1"), "d1", false).await.unwrap();
    let part = async |after: Option<&str>| store.start_automatic(after, 1, t(1)).await.unwrap();
    assert_eq!(part(None).await, (1, Some("d0".to_owned())));
    assert_eq!(part(Some("d0")).await, (1, Some("d2".to_owned())));
    assert_eq!(part(Some("d2")).await, (0, None));
    assert_eq!(started(store, &offer).await, ["d0", "d2"], "d1 is off");
}

pub(crate) async fn nothing_begins_by_itself_of_an_offer_that_was_withdrawn(store: &impl Store) {
    let offer = switched_on(store, ["UTC"; 3]).await;
    let part = store.start_automatic(None, 1, t(1)).await.unwrap();
    assert_eq!(part, (1, Some("d0".to_owned())));
    // in the midst of a round
    let tenant = TenantId::default();
    store.withdraw_offer(&tenant, offer.id, t(2)).await.unwrap();
    let rest = store.start_automatic(Some("d0"), 9, t(2)).await.unwrap();
    assert_eq!(rest, (0, None));
    let all = started(store, &offer).await;
    assert_eq!(all, ["d0"]);
    let world = World::new(store);
    let upgrade = world.ids(offer.task).await[0];
    assert_eq!(world.state_of(upgrade).await, UpgradeState::Cancelled);
    // an older one of its channel that stands begins instead
    let package = world.package("p", "V1.5", 5).await;
    let other = store.publish_offer(&offer_of(&package, terms())).await;
    let other = other.unwrap();
    assert_eq!(store.start_automatic(None, 9, t(3)).await.unwrap().0, 3);
    assert_eq!(started(store, &other).await, ["d0", "d1", "d2"]);
}

pub(crate) async fn by_itself_a_weak_signal_begins_nothing_and_asks_nobody(store: &impl Store) {
    let offer = switched_on(store, ["UTC"; 3]).await;
    let mut asks = terms();
    asks.conditions.rsrp_dbm = Some(-110);
    let tenant = TenantId::default();
    let asks = store.change_offer(&tenant, offer.id, &asks, None).await;
    let offer = asks.unwrap();
    let world = World::new(store);
    world
        .commit(&[measured("d0", -120, t(1)), measured("d1", -100, t(1))])
        .await;
    assert_eq!(store.start_automatic(None, 9, t(2)).await.unwrap().0, 1);
    assert_eq!(started(store, &offer).await, ["d1"], "of d2 none is known");
    for (home, endpoint) in [("h0", "d0"), ("h2", "d2")] {
        let found = store.home_devices(&key(home), Some(endpoint), t(2)).await;
        assert_eq!(found.unwrap()[0].waits, None);
        let by_itself = NewStart {
            home: key(home),
            by: Starter::Automatic,
            ..start(endpoint, &[offer.id], t(2))
        };
        store.start(&by_itself).await.unwrap_err();
        let found = store.home_devices(&key(home), Some(endpoint), t(2)).await;
        assert_eq!(found.unwrap()[0].waits, None);
    }
    let events = store.events(0, None, 100).await.unwrap();
    assert_eq!(events, []);
    // when it was measured anew, it begins
    world.commit(&[measured("d0", -100, t(3))]).await;
    assert_eq!(store.start_automatic(None, 9, t(4)).await.unwrap().0, 1);
}

pub(crate) async fn what_was_cancelled_at_home_does_not_begin_its_transfer(store: &impl Store) {
    let offer = offered(store, terms()).await;
    let world = World::new(store);
    let (h1, anna) = (key("h1"), user("anna").id);
    let begin = async |endpoint, at| {
        let begun = store.start(&start(endpoint, &[offer.id], at)).await;
        begun.unwrap()[0].upgrade
    };
    // the slot is granted at the moment of the cancellation, and its stage comes to the store behind it
    let upgrade = begin("d0", t(1)).await;
    let waits = stage(upgrade, 1, Stage::WaitingForSlot, t(2));
    world.commit(&[waits]).await;
    let cancelled = store.cancel_start(&h1, "d0", &anna, t(3)).await.unwrap();
    assert_eq!(cancelled.upgrades, [upgrade]);
    let note = |asked, number| Change::Note {
        upgrade,
        attempt: 1,
        line: Box::new(Line::asking(
            Happened::Quiet { segment: None },
            asked,
            Some(number),
        )),
        at: t(3),
    };
    let granted = [
        stage(upgrade, 1, Stage::Downloading, t(3)),
        note(Asked::CellAgain, 1),
        note(Asked::ToDownloadAgain, 2),
    ];
    let report = store.commit(next_batch(), &granted).await.unwrap();
    assert_eq!(report.refused, [upgrade]);
    // nothing of the transfer has left
    let detail = store.upgrade(upgrade).await.unwrap().unwrap();
    let asked = detail.events.iter().filter_map(|it| it.line.asked.clone());
    assert_eq!(asked.collect::<Vec<Asked>>(), [Asked::CellAgain]);
    let waits = UpgradeState::Active(Stage::WaitingForSlot);
    assert_eq!(world.state_of(upgrade).await, waits);
    let let_go = Change::LetGo {
        upgrade,
        attempt: 1,
        at: t(4),
    };
    world.commit(&[let_go]).await;
    assert_eq!(world.state_of(upgrade).await, UpgradeState::Cancelled);
    // the stage comes first: it is too late
    let upgrade = begin("d1", t(5)).await;
    let granted = [
        stage(upgrade, 1, Stage::WaitingForSlot, t(6)),
        stage(upgrade, 1, Stage::Downloading, t(6)),
    ];
    world.commit(&granted).await;
    let late = store.cancel_start(&h1, "d1", &anna, t(6)).await;
    assert!(
        matches!(
            late,
            Err(StartError::Refused {
                refusal: Refusal::TransferBegan,
                ..
            })
        ),
        "{late:?}"
    );
    world
        .commit(&[stage(upgrade, 1, Stage::Executing, t(7))])
        .await;
    let executes = UpgradeState::Active(Stage::Executing);
    assert_eq!(world.state_of(upgrade).await, executes);
}

pub(crate) async fn what_is_started_behind_a_cancellation_begins_after_it(store: &impl Store) {
    let offer = offered(store, terms()).await;
    let world = World::new(store);
    let (h1, anna) = (key("h1"), user("anna").id);
    let begin = async |at| {
        let begun = store.start(&start("d0", &[offer.id], at)).await;
        let begun = begun.unwrap().remove(0);
        (begun.upgrade, begun.again)
    };
    let (first, _) = begin(t(1)).await;
    world
        .commit(&[stage(first, 1, Stage::WaitingForSlot, t(2))])
        .await;
    store.cancel_start(&h1, "d0", &anna, t(3)).await.unwrap();
    // the engine has not heard of it yet
    let (second, again) = begin(t(4)).await;
    assert!(second != first && !again);
    assert_eq!(begin(t(5)).await, (second, true));
    assert_eq!(due(store, &offer, t(6)).await, None, "one after the other");
    let let_go = Change::LetGo {
        upgrade: first,
        attempt: 1,
        at: t(7),
    };
    world.commit(&[let_go]).await;
    assert_eq!(world.state_of(first).await, UpgradeState::Cancelled);
    assert_eq!(world.state_of(second).await, UpgradeState::Pending);
    assert_eq!(due(store, &offer, t(8)).await, Some(second));
    // a cancellation is of all that is open
    world
        .commit(&[stage(second, 1, Stage::WaitingForSlot, t(9))])
        .await;
    store.cancel_start(&h1, "d0", &anna, t(10)).await.unwrap();
    let (third, _) = begin(t(11)).await;
    let cancelled = store.cancel_start(&h1, "d0", &anna, t(12)).await.unwrap();
    assert_eq!(cancelled.upgrades, [second, third]);
    assert_eq!(world.state_of(third).await, UpgradeState::Cancelled);
}
