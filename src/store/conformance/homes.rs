//! End users' homes, what is offered to them, and what they start.

use std::time::Duration;

use super::{NOT_HEARD, T0, UPGRADED, World, ended, new_task, registered, stage, t};
use crate::{
    clock::UtcMillis,
    home::{
        Channel, Conditions, HomeKey, OfferId, OfferMode, OfferTerms, OfferTexts, QuietHours,
        Refusal, Role, Texts, UpgradeKind, UserKey,
    },
    ledger::{
        Attribute, AttributesChange, Change, Coverage, CoverageReading, CoverageSource, Stage,
        TaskState, UpgradeId,
    },
    package::Version,
    store::{
        AddAppTokenError, DeviceUpdate, HomeDevice, HomeError, HomePut, MAX_APP_TOKENS,
        NewAppToken, NewOffer, NewStart, OfferRecord, OfferStoreError, PackageRecord, PutHome,
        PutHomeDevice, Selection, StartError, StartState, Started, Starter, Store, UpgradeState,
        Wanted,
    },
    tenant::TenantId,
};

pub(super) fn key(home: &str) -> HomeKey {
    HomeKey {
        tenant: TenantId::default(),
        id: home.parse().unwrap(),
    }
}

pub(super) fn user(name: &str) -> UserKey {
    UserKey {
        tenant: TenantId::default(),
        id: name.parse().unwrap(),
    }
}

fn device(endpoint: &str) -> PutHomeDevice {
    PutHomeDevice {
        endpoint: endpoint.to_owned(),
        name: Some(format!("the {endpoint}")),
        icon: None,
    }
}

pub(super) fn home(id: &str, devices: &[&str]) -> PutHome {
    PutHome {
        key: key(id),
        name: format!("home {id}"),
        zone: "Europe/Berlin".to_owned(),
        quiet: QuietHours::parse("22:00", "06:00"),
        members: Some(vec![
            ("anna".parse().unwrap(), Role::Owner),
            ("ben".parse().unwrap(), Role::Member),
        ]),
        devices: Some(devices.iter().map(|endpoint| device(endpoint)).collect()),
    }
}

pub(super) fn terms() -> OfferTerms {
    OfferTerms {
        channel: Channel::NB_IOT,
        kind: UpgradeKind::Reminder,
        mode: OfferMode::PerChannel,
        controllable: false,
        percent: 100,
        stages: Vec::new(),
        conditions: Conditions::default(),
        texts: OfferTexts {
            description: Texts::new([("en", "Less power.")]).unwrap(),
            ..OfferTexts::default()
        },
    }
}

pub(super) fn offer_of(package: &PackageRecord, terms: OfferTerms) -> NewOffer {
    NewOffer {
        tenant: TenantId::default(),
        terms,
        task: new_task(package, Selection::All),
    }
}

pub(super) fn start(endpoint: &str, offers: &[OfferId], now: UtcMillis) -> NewStart {
    let wanted = offers.iter().map(|offer| Wanted {
        offer: *offer,
        target: None,
        current: None,
    });
    NewStart {
        home: key("h1"),
        endpoint: endpoint.to_owned(),
        wanted: wanted.collect(),
        by: Starter::User(user("anna").id),
        now,
    }
}

pub(super) fn refusal(result: Result<Vec<Started>, StartError>) -> Refusal {
    match result {
        Err(StartError::Refused { refusal, .. }) => refusal,
        other => panic!("{other:?}"),
    }
}

pub(super) fn version(text: &str) -> Version {
    Version::new(text).unwrap()
}

/// A home `h1` with two devices that have registered, and an offer of V2 for them.
pub(super) async fn offered(store: &impl Store, terms: OfferTerms) -> OfferRecord {
    let (world, package) = World::with_devices(store, 2).await;
    let heard = [registered("d0", T0), registered("d1", T0)];
    world.commit(&heard).await;
    store
        .put_home(&home("h1", &["d0", "d1"]), None, T0)
        .await
        .unwrap();
    store
        .publish_offer(&offer_of(&package, terms))
        .await
        .unwrap()
}

pub(super) async fn one(store: &impl Store, endpoint: &str, now: UtcMillis) -> HomeDevice {
    let found = store.home_devices(&key("h1"), Some(endpoint), now).await;
    found.unwrap().remove(0)
}

pub(super) fn measured(endpoint: &str, rsrp_dbm: i32, at: UtcMillis) -> Change {
    Change::CoverageReported {
        endpoint: endpoint.to_owned(),
        reading: CoverageReading {
            coverage: Coverage {
                cell: Some(7),
                rsrp_dbm: Some(rsrp_dbm),
                sinr_db: Some(3),
            },
            at,
        },
        source: CoverageSource::Object,
    }
}

pub(crate) async fn a_home_is_put_as_it_is_to_be_and_the_same_again_changes_nothing(
    store: &impl Store,
) {
    World::with_devices(store, 3).await;
    let first = home("h1", &["d1", "d0"]);
    let (record, put) = store.put_home(&first, Some(0), t(1)).await.unwrap();
    assert_eq!(put, HomePut::Added);
    assert_eq!((record.members, record.devices), (2, 2));
    assert_eq!(record.quiet, first.quiet);
    let (again, put) = store.put_home(&first, None, t(2)).await.unwrap();
    assert_eq!((again, put), (record.clone(), HomePut::Unchanged));
    let members = store.members(&key("h1")).await.unwrap();
    let roles: Vec<_> = members
        .iter()
        .map(|it| (it.user.as_str(), it.role))
        .collect();
    assert_eq!(roles, [("anna", Role::Owner), ("ben", Role::Member)]);
    store.set_automatic(&key("h1"), "d0", true).await.unwrap();
    let switched = store.home(&key("h1")).await.unwrap().unwrap();
    assert!(switched.revision > record.revision);
    let record = switched;
    let other = PutHome {
        quiet: None,
        members: Some(vec![("ben".parse().unwrap(), Role::Administrator)]),
        devices: Some(vec![device("d2"), device("d0")]),
        ..first.clone()
    };
    let stale = store
        .put_home(&other, Some(record.revision + 1), t(3))
        .await;
    assert!(matches!(stale, Err(HomeError::Changed { .. })), "{stale:?}");
    let (changed, put) = store
        .put_home(&other, Some(record.revision), t(3))
        .await
        .unwrap();
    assert_eq!(put, HomePut::Changed);
    assert!(changed.revision > record.revision);
    assert_eq!(
        (changed.members, changed.devices, changed.quiet),
        (1, 2, None)
    );
    let anna = store.role_in(&key("h1"), &user("anna").id).await.unwrap();
    assert_eq!(anna, None);
    let there = store.devices_in(&key("h1")).await.unwrap();
    let there: Vec<_> = there
        .iter()
        .map(|it| (it.endpoint.as_str(), it.automatic))
        .collect();
    assert_eq!(
        there,
        [("d0", true), ("d2", false)],
        "who stays keeps its switch"
    );
    // what is not said stays
    let name_alone = PutHome {
        name: "castle".to_owned(),
        members: None,
        devices: None,
        ..other
    };
    let (named, _) = store.put_home(&name_alone, None, t(4)).await.unwrap();
    assert_eq!(
        (named.name.as_str(), named.members, named.devices),
        ("castle", 1, 2)
    );
    store
        .delete_home(&key("h1"), Some(named.revision))
        .await
        .unwrap();
    assert_eq!(store.home(&key("h1")).await.unwrap(), None);
    assert_eq!(
        store.home_of(&TenantId::default(), "d0").await.unwrap(),
        None
    );
    let gone = store.delete_home(&key("h1"), None).await;
    assert!(matches!(gone, Err(HomeError::NotFound(_))), "{gone:?}");
}

pub(crate) async fn a_device_is_in_one_home_of_its_tenant(store: &impl Store) {
    World::with_devices(store, 2).await;
    let answers = store
        .put_homes(
            &[
                home("h1", &["d0"]),
                home("h2", &["d0", "d1"]),
                home("h3", &["d9"]),
                home("h4", &["d1"]),
            ],
            T0,
        )
        .await
        .unwrap();
    assert!(
        matches!(
            &answers[..],
            [
                Ok(HomePut::Added),
                Err(HomeError::Elsewhere { .. }),
                Err(HomeError::UnknownDevice(_)),
                Ok(HomePut::Added)
            ]
        ),
        "{answers:?}"
    );
    assert_eq!(
        store.home(&key("h2")).await.unwrap(),
        None,
        "nothing of it is left"
    );
    let elsewhere = store.put_in_home(&key("h4"), &device("d0"), T0).await;
    assert!(
        matches!(elsewhere, Err(HomeError::Elsewhere { .. })),
        "{elsewhere:?}"
    );
    let page = store.homes(None, None, 1).await.unwrap();
    assert_eq!((page.items[0].key.id.as_str(), page.more), ("h4", true));
    let before = Some(page.items[0].number);
    let tenants = [TenantId::default()];
    let rest = store.homes(Some(&tenants), before, 9).await.unwrap();
    assert_eq!((rest.items.len(), rest.more), (1, false));
    // one that is taken out may be put elsewhere; one that is removed is in no home
    store.take_from_home(&key("h1"), "d0").await.unwrap();
    store
        .put_in_home(&key("h4"), &device("d0"), T0)
        .await
        .unwrap();
    let before = store.home(&key("h4")).await.unwrap().unwrap();
    assert_eq!(before.devices, 2);
    assert!(store.remove_device("d0", None, None, t(1)).await.unwrap());
    let after = store.home(&key("h4")).await.unwrap().unwrap();
    assert_eq!(after.devices, 1);
    assert!(after.revision > before.revision, "it is another one now");
    assert_eq!(
        store
            .home_devices(&key("h4"), None, t(1))
            .await
            .unwrap()
            .len(),
        1
    );
}

pub(crate) async fn a_user_is_in_homes_as_something(store: &impl Store) {
    store.put_home(&home("h1", &[]), None, T0).await.unwrap();
    store.put_home(&home("h2", &[]), None, T0).await.unwrap();
    let carl = user("auth0|carl");
    let member = store
        .put_member(&key("h2"), &carl.id, Role::Administrator, t(5))
        .await;
    assert_eq!(member.unwrap().added_at, t(5));
    store
        .put_member(&key("h2"), &carl.id, Role::Member, t(6))
        .await
        .unwrap();
    let homes = store.homes_of(&carl).await.unwrap();
    assert_eq!(homes.len(), 1);
    assert_eq!(
        (homes[0].0.key.id.as_str(), homes[0].1),
        ("h2", Role::Member)
    );
    assert_eq!(store.homes_of(&user("anna")).await.unwrap().len(), 2);
    let other = UserKey {
        tenant: "acme".parse().unwrap(),
        ..user("anna")
    };
    assert_eq!(store.homes_of(&other).await.unwrap(), []);
    store.remove_member(&key("h2"), &carl.id).await.unwrap();
    let again = store.remove_member(&key("h2"), &carl.id).await;
    assert!(
        matches!(again, Err(HomeError::NoMember { .. })),
        "{again:?}"
    );
    let nowhere = store
        .put_member(&key("h9"), &carl.id, Role::Member, T0)
        .await;
    assert!(
        matches!(nowhere, Err(HomeError::NotFound(_))),
        "{nowhere:?}"
    );
}

pub(crate) async fn an_offer_has_a_standing_task_that_takes_up_what_is_started(store: &impl Store) {
    let offer = offered(store, terms()).await;
    let world = World::new(store);
    assert_eq!(
        (offer.version, offer.product.as_str()),
        (version("V2"), "p")
    );
    let task = store.task(offer.task).await.unwrap().unwrap();
    assert_eq!((task.state, task.total()), (TaskState::Running, 0));
    // nobody joins it by himself
    let joined = store.join(offer.task, None, t(1)).await.unwrap();
    assert_eq!((joined.devices, joined.next), (0, None));
    let started = store.start(&start("d0", &[offer.id], t(1))).await.unwrap();
    assert!(!started[0].again);
    let upgrade = started[0].upgrade;
    assert_eq!(world.ids(offer.task).await, [upgrade]);
    let heads = store.task_heads(t(2)).await.unwrap();
    assert_eq!(heads[0].lots[0].first_due, Some((t(1), upgrade)));
    let twice = store.start(&start("d0", &[offer.id], t(2))).await.unwrap();
    assert_eq!(
        twice,
        [Started {
            offer: offer.id,
            upgrade,
            again: true
        }]
    );
    let there = one(store, "d0", t(2)).await;
    assert_eq!(there.open.len(), 1);
    assert_eq!(
        (there.open[0].offer, there.open[0].upgrade.upgrade.id),
        (Some(offer.id), upgrade)
    );
    // it does not end with its last upgrade, and takes another one up
    let changes = [
        stage(upgrade, 1, Stage::WaitingForDevice, t(3)),
        ended(upgrade, offer.task, 1, NOT_HEARD, None, t(4)),
    ];
    world.commit(&changes).await;
    assert_eq!(
        store.task(offer.task).await.unwrap().unwrap().state,
        TaskState::Running
    );
    let there = one(store, "d0", t(5)).await;
    assert_eq!(
        (there.open.len(), there.last.unwrap().upgrade.upgrade.id),
        (0, upgrade)
    );
    let next = store.start(&start("d0", &[offer.id], t(5))).await.unwrap()[0].upgrade;
    assert_ne!(next, upgrade);
    let changes = [
        stage(next, 1, Stage::WaitingForDevice, t(6)),
        Change::VersionReported {
            endpoint: "d0".to_owned(),
            version: version("V2"),
            at: t(7),
        },
        ended(next, offer.task, 1, UPGRADED, None, t(7)),
    ];
    world.commit(&changes).await;
    let history = store.home_history(&key("h1"), "d0", None, 1).await.unwrap();
    assert_eq!(
        (history.items[0].upgrade.upgrade.id, history.more),
        (next, true)
    );
    let done = store.start(&start("d0", &[offer.id], t(8))).await;
    assert_eq!(refusal(done), Refusal::UpToDate);
    assert_eq!(
        store
            .home_history(&key("h9"), "d0", None, 9)
            .await
            .unwrap()
            .items,
        []
    );
}

pub(crate) async fn what_may_not_start_is_refused_and_leaves_nothing(store: &impl Store) {
    let offer = offered(store, terms()).await;
    let world = World::new(store);
    let other = world.package("q", "V2", 2).await;
    let other = store
        .publish_offer(&offer_of(&other, terms()))
        .await
        .unwrap();
    let refused = |new: NewStart| async move { refusal(store.start(&new).await) };
    assert_eq!(
        refused(start("d0", &[other.id], T0)).await,
        Refusal::NotOffered
    );
    assert_eq!(
        refused(start("d0", &[offer.id, other.id], T0)).await,
        Refusal::NotOffered
    );
    let mut seen = start("d0", &[offer.id], T0);
    seen.wanted[0].target = Some(version("V1.9"));
    assert_eq!(refused(seen.clone()).await, Refusal::Stale);
    seen.wanted[0].target = Some(version("V2"));
    seen.wanted[0].current = Some(version("V1"));
    assert_eq!(refused(seen.clone()).await, Refusal::Stale);
    world
        .commit(&[Change::Deregistered {
            endpoint: "d1".to_owned(),
            at: t(1),
        }])
        .await;
    assert_eq!(
        refused(start("d1", &[offer.id], t(1))).await,
        Refusal::Offline
    );
    store
        .exclude(&["d0".to_owned()], "in the museum", None, t(1))
        .await
        .unwrap();
    assert_eq!(
        refused(start("d0", &[offer.id], t(1))).await,
        Refusal::Excluded
    );
    store.end_exclusion("d0", None, None).await.unwrap();
    store.put_home(&home("h2", &[]), None, T0).await.unwrap();
    let mut stranger = start("d0", &[offer.id], t(1));
    stranger.home = key("h2");
    let stranger = store.start(&stranger).await;
    assert!(
        matches!(stranger, Err(StartError::NotFound { .. })),
        "{stranger:?}"
    );
    assert_eq!(world.ids(offer.task).await, []);
    // nothing starts of an offer that was withdrawn, and its task stops
    let withdrawn = store
        .withdraw_offer(&TenantId::default(), offer.id, t(2))
        .await
        .unwrap();
    assert_eq!(withdrawn.withdrawn_at, Some(t(2)));
    assert_eq!(
        refused(start("d0", &[offer.id], t(3))).await,
        Refusal::NotOffered
    );
    let task = store.task(offer.task).await.unwrap().unwrap();
    assert_eq!(task.state, TaskState::Stopped);
    let again = store
        .withdraw_offer(&TenantId::default(), offer.id, t(4))
        .await
        .unwrap();
    assert_eq!(again.withdrawn_at, Some(t(2)));
    let changed = store
        .change_offer(&TenantId::default(), offer.id, &terms(), None)
        .await;
    assert!(
        matches!(changed, Err(OfferStoreError::Withdrawn(_))),
        "{changed:?}"
    );
}

pub(crate) async fn a_weak_signal_is_asked_about_and_waits_for_ten_minutes(store: &impl Store) {
    let mut asks = terms();
    asks.conditions.rsrp_dbm = Some(-110);
    let offer = offered(store, asks).await;
    let world = World::new(store);
    let unknown = store.start(&start("d0", &[offer.id], t(1))).await;
    assert_eq!(refusal(unknown), Refusal::SignalUnknown);
    world.commit(&[measured("d0", -120, t(1))]).await;
    let weak = store.start(&start("d0", &[offer.id], t(2))).await;
    let until = t(602);
    assert_eq!(
        refusal(weak),
        Refusal::SignalWeak {
            rsrp_dbm: -120,
            least_dbm: -110,
            until
        }
    );
    let waits = one(store, "d0", t(601)).await.waits.unwrap();
    assert_eq!((waits.offers, waits.until), (vec![offer.id], until));
    assert_eq!(one(store, "d0", until).await.waits, None);
    let anna = user("anna").id;
    let late = store.continue_start(&key("h1"), "d0", &anna, until).await;
    assert_eq!(refusal(late), Refusal::TooLate);
    let goes_on = store
        .continue_start(&key("h1"), "d0", &anna, t(300))
        .await
        .unwrap();
    assert_eq!(world.ids(offer.task).await, [goes_on[0].upgrade]);
    let nothing = store.continue_start(&key("h1"), "d0", &anna, t(301)).await;
    assert_eq!(refusal(nothing), Refusal::NothingWaits);
    assert_eq!(one(store, "d0", t(301)).await.waits, None);
    let export = store.export_user(&user("anna"), t(302)).await.unwrap();
    let states: Vec<StartState> = export.starts.iter().map(|start| start.state).collect();
    assert_eq!(states, [StartState::Started]);
    // by itself nothing begins over a weak signal
    world.commit(&[measured("d1", -120, t(1))]).await;
    store.set_automatic(&key("h1"), "d1", true).await.unwrap();
    let noon = UtcMillis(1_800_014_400_000);
    assert_eq!(
        store.start_automatic(None, 9, noon).await.unwrap(),
        (0, None)
    );
    assert_eq!(one(store, "d1", noon).await.waits, None);
}

pub(crate) async fn what_was_started_is_cancelled_until_its_transfer_begins(store: &impl Store) {
    let offer = offered(store, terms()).await;
    let world = World::new(store);
    let (h1, anna) = (key("h1"), user("anna").id);
    let cancel = |now| store.cancel_start(&h1, "d0", &anna, now);
    let nothing = cancel(t(1)).await;
    assert!(
        matches!(
            nothing,
            Err(StartError::Refused {
                refusal: Refusal::NothingWaits,
                ..
            })
        ),
        "{nothing:?}"
    );
    let waits = store.start(&start("d0", &[offer.id], t(1))).await.unwrap()[0].upgrade;
    assert_eq!(cancel(t(2)).await.unwrap().upgrades, [waits]);
    assert_eq!(world.state_of(waits).await, UpgradeState::Cancelled);
    let runs = store.start(&start("d0", &[offer.id], t(3))).await.unwrap()[0].upgrade;
    world
        .commit(&[stage(runs, 1, Stage::WaitingForDevice, t(4))])
        .await;
    assert_eq!(cancel(t(5)).await.unwrap().upgrades, [runs]);
    let to_stop = store.upgrades_to_stop(9).await.unwrap();
    assert_eq!(
        to_stop
            .iter()
            .map(|it| it.upgrade)
            .collect::<Vec<UpgradeId>>(),
        [runs]
    );
    let other = store.start(&start("d1", &[offer.id], t(3))).await.unwrap()[0].upgrade;
    let on_its_way = [
        stage(other, 1, Stage::WaitingForSlot, t(4)),
        stage(other, 1, Stage::Downloading, t(5)),
    ];
    world.commit(&on_its_way).await;
    let began = store.cancel_start(&h1, "d1", &anna, t(6)).await;
    assert!(
        matches!(
            began,
            Err(StartError::Refused {
                refusal: Refusal::TransferBegan,
                ..
            })
        ),
        "{began:?}"
    );
}

pub(crate) async fn several_versions_are_started_one_after_the_other(store: &impl Store) {
    let mut first = terms();
    first.conditions.from = vec![version("V1")];
    let v2 = offered(store, first).await;
    let world = World::new(store);
    let package = world.package("p", "V3", 3).await;
    let mut second = terms();
    second.conditions.from = vec![version("V2")];
    let v3 = store
        .publish_offer(&offer_of(&package, second.clone()))
        .await
        .unwrap();
    let package = world.package("p", "V4", 4).await;
    second.channel = Channel::new(9).unwrap();
    let elsewhere = store
        .publish_offer(&offer_of(&package, second))
        .await
        .unwrap();
    let told = Change::VersionReported {
        endpoint: "d0".to_owned(),
        version: version("V1"),
        at: t(1),
    };
    world.commit(&[told]).await;
    let alone = store.start(&start("d0", &[v3.id], t(2))).await;
    assert_eq!(refusal(alone), Refusal::NotOffered);
    let of_two_channels = store
        .start(&start("d0", &[v2.id, elsewhere.id], t(2)))
        .await;
    assert_eq!(refusal(of_two_channels), Refusal::NotOffered);
    let both = store
        .start(&start("d0", &[v2.id, v3.id], t(2)))
        .await
        .unwrap();
    assert_eq!(
        both.iter().map(|it| it.offer).collect::<Vec<_>>(),
        [v2.id, v3.id]
    );
    assert_eq!(one(store, "d0", t(3)).await.open.len(), 2);
    let products = ["p".to_owned()];
    let for_products = store
        .offers_for(&TenantId::default(), &products)
        .await
        .unwrap();
    assert_eq!(
        for_products.iter().map(|it| it.id).collect::<Vec<_>>(),
        [v3.id, v2.id, elsewhere.id]
    );
    let listed = store.offers(None, true, None, 1).await.unwrap();
    assert_eq!((listed.items[0].id, listed.more), (elsewhere.id, true));
    let acme = ["acme".parse().unwrap()];
    assert_eq!(
        store
            .offers(Some(&acme), false, None, 9)
            .await
            .unwrap()
            .items,
        []
    );
    assert_eq!(store.offer(&acme[0], v2.id).await.unwrap(), None);
    let mut other = terms();
    other.percent = 50;
    let changed = store
        .change_offer(&TenantId::default(), v2.id, &other, Some(1))
        .await
        .unwrap();
    assert_eq!((changed.terms, changed.revision), (other.clone(), 2));
    let stale = store
        .change_offer(&TenantId::default(), v2.id, &terms(), Some(1))
        .await;
    assert!(
        matches!(stale, Err(OfferStoreError::Changed { .. })),
        "{stale:?}"
    );
}

pub(crate) async fn who_started_what_is_forgotten_after_its_time(store: &impl Store) {
    let offer = offered(store, terms()).await;
    let anna = user("anna");
    for (endpoint, at) in [("d0", t(1)), ("d1", t(5))] {
        store
            .start(&start(endpoint, &[offer.id], at))
            .await
            .unwrap();
    }
    let token = NewAppToken {
        user: anna.clone(),
        hash: [1; 32],
        created_by: "admin-token".to_owned(),
        created_at: t(1),
        expires_at: t(10),
    };
    store.add_app_token(&token).await.unwrap();
    let starts = async || {
        let export = store.export_user(&anna, t(9)).await.unwrap();
        (export.starts.len(), export.tokens.len())
    };
    assert_eq!(store.forget_old(None, t(9), 9).await.unwrap(), 0);
    assert_eq!(store.forget_old(Some(t(5)), t(9), 9).await.unwrap(), 1);
    assert_eq!(starts().await, (1, 1));
    assert_eq!(store.forget_old(Some(t(6)), t(10), 9).await.unwrap(), 2);
    assert_eq!(starts().await, (0, 0));
}

pub(crate) async fn devices_whose_switch_is_on_begin_outside_quiet_hours(store: &impl Store) {
    let offer = offered(store, terms()).await;
    let world = World::new(store);
    store.set_automatic(&key("h1"), "d1", true).await.unwrap();
    // T0 is 08:00 UTC; in Berlin it is quiet from 21:00 UTC on
    let night = T0 + Duration::from_hours(14);
    assert_eq!(
        store.start_automatic(None, 9, night).await.unwrap(),
        (0, None)
    );
    assert_eq!(
        store.start_automatic(None, 1, T0).await.unwrap(),
        (1, Some("d1".to_owned()))
    );
    assert_eq!(
        store.start_automatic(Some("d1"), 1, T0).await.unwrap(),
        (0, None)
    );
    let ids = world.ids(offer.task).await;
    assert_eq!(ids.len(), 1);
    assert_eq!(one(store, "d0", T0).await.open, []);
    // what has failed is not begun again and again
    let changes = [
        stage(ids[0], 1, Stage::WaitingForDevice, t(3)),
        ended(ids[0], offer.task, 1, NOT_HEARD, None, t(4)),
    ];
    world.commit(&changes).await;
    assert_eq!(
        store.start_automatic(None, 9, t(5)).await.unwrap(),
        (0, None)
    );
}

pub(crate) async fn all_of_a_user_is_told_and_deleted(store: &impl Store) {
    let offer = offered(store, terms()).await;
    let anna = user("anna");
    let pseudonym = store.pseudonym(&anna).await.unwrap();
    assert_eq!((pseudonym.len(), pseudonym.contains("anna")), (32, false));
    assert_ne!(store.pseudonym(&user("ben")).await.unwrap(), pseudonym);
    store.start(&start("d0", &[offer.id], t(1))).await.unwrap();
    let token = |hash: u8, at| NewAppToken {
        user: user("anna"),
        hash: [hash; 32],
        created_by: "admin-token".to_owned(),
        created_at: at,
        expires_at: at + Duration::from_hours(1),
    };
    store.add_app_token(&token(1, t(1))).await.unwrap();
    let found = store.find_app_token(&[1; 32], t(2)).await.unwrap().unwrap();
    assert_eq!(found.user, anna);
    assert_eq!(
        store.find_app_token(&[1; 32], t(3_601)).await.unwrap(),
        None
    );
    assert_eq!(store.find_app_token(&[2; 32], t(2)).await.unwrap(), None);
    let export = store.export_user(&anna, t(2)).await.unwrap();
    assert_eq!(export.pseudonym, pseudonym);
    assert_eq!(
        (export.homes.len(), export.starts.len(), export.tokens.len()),
        (1, 1, 1)
    );
    assert!(store.delete_user(&anna, t(3)).await.unwrap());
    assert!(!store.delete_user(&anna, t(3)).await.unwrap());
    let export = store.export_user(&anna, t(4)).await.unwrap();
    assert_eq!(
        (export.homes.len(), export.starts.len(), export.tokens.len()),
        (0, 0, 0)
    );
    assert_eq!(export.revoked_before, Some(t(3)));
    assert_eq!(store.find_app_token(&[1; 32], t(2)).await.unwrap(), None);
    assert_eq!(store.home(&key("h1")).await.unwrap().unwrap().members, 1);
    assert_eq!(
        one(store, "d0", t(4)).await.open.len(),
        1,
        "what was started goes on"
    );
    // a later word stands, an earlier one does not
    assert_eq!(store.revoke_user(&anna, t(2), t(5)).await.unwrap(), t(3));
    store.add_app_token(&token(3, t(5))).await.unwrap();
    assert!(
        store
            .find_app_token(&[3; 32], t(6))
            .await
            .unwrap()
            .is_some()
    );
    assert_eq!(store.revoke_user(&anna, t(6), t(6)).await.unwrap(), t(6));
    assert_eq!(store.revoked_before(&anna).await.unwrap(), Some(t(6)));
    assert_eq!(store.find_app_token(&[3; 32], t(6)).await.unwrap(), None);
    for hash in 0..MAX_APP_TOKENS {
        let hash = 100 + u8::try_from(hash).unwrap();
        store.add_app_token(&token(hash, t(7))).await.unwrap();
    }
    let one_more = store.add_app_token(&token(99, t(7))).await;
    assert!(
        matches!(one_more, Err(AddAppTokenError::TooMany)),
        "{one_more:?}"
    );
    // those that have ended make room
    store.add_app_token(&token(99, t(9_999))).await.unwrap();
}

pub(crate) async fn a_battery_has_to_be_charged_as_the_tag_says(store: &impl Store) {
    let mut asks = terms();
    asks.conditions.battery_percent = Some(30);
    let offer = offered(store, asks).await;
    let unknown = store.start(&start("d0", &[offer.id], t(1))).await;
    assert_eq!(refusal(unknown), Refusal::Battery { least: 30 });
    let mut attributes = AttributesChange::default();
    attributes
        .set(Attribute::Site, Some("hall".to_owned()))
        .unwrap();
    attributes
        .set_tag("battery", Some("31".to_owned()))
        .unwrap();
    let update = DeviceUpdate {
        attributes,
        ..DeviceUpdate::default()
    };
    store.update_device("d0", &update).await.unwrap();
    store.start(&start("d0", &[offer.id], t(2))).await.unwrap();
}
