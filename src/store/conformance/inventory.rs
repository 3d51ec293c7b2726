use super::{T0, UPGRADED, World, ended, list, new_package, new_task, registered, stage, t};
use crate::{
    filter::Filter,
    ledger::{AttributesChange, Change, PackageId, Protocol, Registration, Stage, WakeUps},
    package::{Segmentation, Version},
    store::{
        AddedDevice, DeletePackageError, DeviceFilter, DeviceUpdate, EarlierPackage,
        InsertPackageError, MqttCredential, NewDevice, NewPackage, PackageRecord, Selection, Store,
        StoredMqtt, StoredPsk, UpdateDeviceError,
    },
};

pub(crate) async fn the_same_package_again_is_the_same_row(store: &impl Store) {
    let new = new_package("p", "V2", 1);
    let first = store.insert_package(&new).await.unwrap();
    let again = store.insert_package(&new).await.unwrap();
    assert!(first.created && !again.created);
    assert_eq!(first.record, again.record);
    assert_eq!(
        store.package(first.record.id).await.unwrap(),
        Some(first.record)
    );
    assert_eq!(store.package(PackageId(99)).await.unwrap(), None);
}

pub(crate) async fn other_content_supersedes_the_older_package(store: &impl Store) {
    let world = World::new(store);
    let old = world.package("p", "V2", 1).await;
    let mut newer = new_package("p", "V2", 2);
    newer.created_at = t(60);
    let new = store.insert_package(&newer).await.unwrap();
    assert!(new.created);
    let old = store.package(old.id).await.unwrap().unwrap();
    assert_eq!(old.superseded_at, Some(t(60)));
    let found = store
        .find_package("p", newer.version, None)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(found.id, new.record.id);
    assert_eq!(
        store.find_package("q", newer.version, None).await.unwrap(),
        None
    );
    // another product or version stands beside it
    world.package("q", "V2", 3).await;
    world.package("p", "V3", 3).await;
    let found = store.package(new.record.id).await.unwrap().unwrap();
    assert_eq!(found.superseded_at, None);
}

pub(crate) async fn a_package_may_be_none_of_pcps(store: &impl Store) {
    let mut new = new_package("p", "V2", 1);
    new.pcp = None;
    new.size_bytes = 2_147_483_648;
    let inserted = store.insert_package(&new).await.unwrap();
    assert!(inserted.created);
    let found = store.package(inserted.record.id).await.unwrap().unwrap();
    assert_eq!(found.package, new);
    assert!(!store.insert_package(&new).await.unwrap().created);
    // no check code stands for it: the same version may have other content
    let mut other = new_package("p", "V2", 2);
    other.pcp = None;
    assert!(store.insert_package(&other).await.unwrap().created);
}

pub(crate) async fn packages_of_two_components_have_the_same_version(store: &impl Store) {
    let of = |content, component: Option<&str>| NewPackage {
        component: component.map(str::to_owned),
        pcp: None,
        ..new_package("p", "V2", content)
    };
    let whole = store.insert_package(&of(1, None)).await.unwrap().record;
    let modem = of(2, Some("modem"));
    let first = store.insert_package(&modem).await.unwrap().record;
    let sensor = store.insert_package(&of(2, Some("sensor"))).await.unwrap();
    assert!(sensor.created, "the same content is for another component");
    // of each the newest counts
    let newer = store.insert_package(&of(3, Some("modem"))).await.unwrap();
    let standing = async |id| store.package(id).await.unwrap().unwrap().superseded_at;
    assert_eq!(standing(first.id).await, Some(T0));
    for id in [whole.id, sensor.record.id, newer.record.id] {
        assert_eq!(standing(id).await, None);
    }
    let found = async |component| {
        let found = store.find_package("p", modem.version, component).await;
        found.unwrap().map(|it| (it.id, it.package.component))
    };
    let named = |name: &str| Some(name.to_owned());
    assert_eq!(found(None).await, Some((whole.id, None)));
    assert_eq!(
        found(Some("modem")).await,
        Some((newer.record.id, named("modem")))
    );
    assert_eq!(
        found(Some("sensor")).await,
        Some((sensor.record.id, named("sensor")))
    );
    assert_eq!(found(Some("lock")).await, None);
    let again = store.insert_package(&of(1, None)).await.unwrap();
    assert!(!again.created);
}

pub(crate) async fn the_md5_of_packages_from_before_is_written_down_once(store: &impl Store) {
    for (number, version) in [(1, "V1"), (2, "V2"), (3, "V3")] {
        let mut new = new_package("p", version, number);
        new.md5 = (number == 2).then(|| "ab".repeat(16));
        store.insert_package(&new).await.unwrap();
    }
    let without = async |after, limit| {
        let found = store.packages_without_md5(PackageId(after), limit).await;
        let found = found.unwrap().into_iter().map(|it| it.id.0);
        found.collect::<Vec<_>>()
    };
    assert_eq!(without(0, 9).await, [1, 3]);
    assert_eq!(without(0, 1).await, [1]);
    assert_eq!(without(1, 9).await, [3]);
    for md5 in ["cd".repeat(16), "ef".repeat(16)] {
        store.set_md5(PackageId(1), &md5).await.unwrap();
    }
    let found = store.package(PackageId(1)).await.unwrap().unwrap();
    assert_eq!(found.package.md5, Some("cd".repeat(16)));
    assert_eq!(without(0, 9).await, [3]);
}

pub(crate) async fn other_content_is_refused_while_a_task_uses_the_older(store: &impl Store) {
    let (world, task) = World::with_task(store, 1, 0).await;
    let refused = store
        .insert_package(&new_package("p", "V2", 2))
        .await
        .unwrap_err();
    assert!(
        matches!(&refused, InsertPackageError::InUse { task: t, name, .. } if *t == task.id && name == "night"),
        "{refused:?}"
    );
    // the same content is no conflict
    let same = store.insert_package(&new_package("p", "V2", 1)).await;
    assert!(!same.unwrap().created);
    let id = world.ids(task.id).await[0];
    world
        .commit(&[ended(id, task.id, 1, UPGRADED, None, t(1))])
        .await;
    assert!(
        store
            .insert_package(&new_package("p", "V2", 2))
            .await
            .unwrap()
            .created
    );
}

pub(crate) async fn a_check_code_stands_for_one_content_in_one_cut(store: &impl Store) {
    let cut = |segment_size, pad_last| {
        let mut new = new_package("p", "V2", 1);
        let cut = Segmentation::choose(1_200, Some(segment_size), pad_last).unwrap();
        new.pcp.as_mut().unwrap().segmentation = cut;
        new
    };
    let with_code = |mut new: NewPackage, check_code| {
        new.pcp.as_mut().unwrap().check_code = check_code;
        new
    };
    let as_before = cut(500, false);
    let code = as_before.pcp.as_ref().unwrap().check_code;
    let other_code = with_code(new_package("p", "V2", 2), 0);
    let clash = with_code(new_package("p", "V2", 3), code);
    let refused = [
        (clash, EarlierPackage::OtherContent),
        (cut(100, false), EarlierPackage::SegmentSize(500)),
        (cut(500, true), EarlierPackage::Padding(false)),
    ];
    let check = async || {
        for (new, expected) in &refused {
            match store.insert_package(new).await {
                Err(InsertPackageError::Indistinct { differs, .. }) => {
                    assert_eq!(differs, *expected);
                }
                other => panic!("{expected:?}: {other:?}"),
            }
        }
    };
    let first = store.insert_package(&as_before).await.unwrap().record;
    check().await;
    // superseded
    let second = store.insert_package(&other_code).await.unwrap().record;
    check().await;
    // and gone
    for package in [first.id, second.id] {
        store.delete_package(package, t(1)).await.unwrap();
    }
    check().await;
    let other_zero = with_code(as_before.clone(), 0);
    let refused = store.insert_package(&other_zero).await.unwrap_err();
    assert!(
        refused
            .to_string()
            .ends_with("upload it under another version"),
        "{refused}"
    );
    // what is the same comes back, and another version or product is another package
    assert!(store.insert_package(&as_before).await.unwrap().created);
    for new in [new_package("p", "V3", 3), new_package("q", "V2", 3)] {
        let new = with_code(new, code);
        assert!(store.insert_package(&new).await.unwrap().created);
    }
}

pub(crate) async fn a_package_in_use_is_not_deleted(store: &impl Store) {
    let (_, task) = World::with_task(store, 1, 0).await;
    let refused = store.delete_package(task.package, t(1)).await.unwrap_err();
    assert!(matches!(refused, DeletePackageError::InUse { .. }));
    store.stop_task(task.id, t(2), false).await.unwrap();
    store.delete_package(task.package, t(3)).await.unwrap();
    let refused = store.delete_package(task.package, t(4)).await.unwrap_err();
    assert!(matches!(refused, DeletePackageError::NotFound(_)));
}

pub(crate) async fn a_deleted_package_stays_for_ended_tasks(store: &impl Store) {
    let (_, task) = World::with_task(store, 1, 0).await;
    store.stop_task(task.id, t(1), false).await.unwrap();
    store.delete_package(task.package, t(2)).await.unwrap();
    assert_eq!(store.packages(None, None, 9).await.unwrap().items, []);
    let kept = store.package(task.package).await.unwrap().unwrap();
    assert_eq!(kept.deleted_at, Some(t(2)));
    assert!(store.task(task.id).await.unwrap().is_some());
    // its place is free again
    assert!(
        store
            .insert_package(&new_package("p", "V2", 1))
            .await
            .unwrap()
            .created
    );
    store.delete_task(task.id).await.unwrap();
    assert_eq!(store.package(task.package).await.unwrap(), None);
}

pub(crate) async fn shared_content_is_reported_when_a_package_is_deleted(store: &impl Store) {
    let world = World::new(store);
    let first = world.package("p", "V2", 1).await;
    let second = world.package("q", "V2", 1).await;
    let deleted = store.delete_package(first.id, t(1)).await.unwrap();
    assert!(deleted.content_in_use);
    assert!(store.content_in_use(&deleted.sha256).await.unwrap());
    assert_eq!(deleted.sha256, first.package.sha256);
    let deleted = store.delete_package(second.id, t(1)).await.unwrap();
    assert!(!deleted.content_in_use);
    assert!(!store.content_in_use(&deleted.sha256).await.unwrap());
}

pub(crate) async fn packages_are_listed_newest_first_in_pages(store: &impl Store) {
    let world = World::new(store);
    for version in ["V1", "V2", "V3"] {
        world.package("p", version, 1).await;
    }
    let first = store.packages(None, None, 2).await.unwrap();
    assert!(first.more);
    let versions: Vec<String> = first
        .items
        .iter()
        .map(|p| p.package.version.to_string())
        .collect();
    assert_eq!(versions, ["V3", "V2"]);
    let rest = store
        .packages(None, Some(first.items[1].id), 2)
        .await
        .unwrap();
    assert_eq!((rest.items.len(), rest.more), (1, false));
}

pub(crate) async fn devices_are_added_once(store: &impl Store) {
    let world = World::new(store);
    assert_eq!(
        world.devices("p", &["a", "b", "a"]).await,
        [
            AddedDevice::Added,
            AddedDevice::Added,
            AddedDevice::Unchanged
        ]
    );
    assert_eq!(
        world.devices("q", &["b", "c"]).await,
        [
            AddedDevice::OtherProduct("p".to_owned()),
            AddedDevice::Added
        ]
    );
    assert_eq!(
        store.device("b").await.unwrap().unwrap().device.product,
        "p"
    );
}

pub(crate) async fn ten_thousand_devices_are_added_in_one_call(store: &impl Store) {
    let devices: Vec<NewDevice> = (0..10_000)
        .map(|i| NewDevice {
            attributes: AttributesChange::default(),
            psk: None,
            mqtt: None,
            endpoint: format!("urn:imei:{i:015}"),
            product: "p".to_owned(),
            via: None,
        })
        .collect();
    let added = store.add_devices(&devices, T0).await.unwrap();
    assert_eq!(added.len(), 10_000);
    assert!(added.iter().all(|added| *added == AddedDevice::Added));
    let again = store.add_devices(&devices, T0).await.unwrap();
    assert!(again.iter().all(|added| *added == AddedDevice::Unchanged));
    let changes = store.device_changes_since(9_999, 9).await.unwrap();
    assert_eq!(changes.len(), 1);
    assert_eq!(store.restore_revision().await.unwrap(), 10_000);
}

pub(crate) async fn devices_are_listed_by_filter_in_pages(store: &impl Store) {
    let world = World::new(store);
    world.devices("p", &["a1", "a2", "b1"]).await;
    world.devices("q", &["a3", "ä", "%"]).await;
    world
        .commit(&[registered("a2", t(1)), registered("a3", t(1))])
        .await;
    let names = async |product: Option<&str>, registered, prefix: Option<&str>, after, limit| {
        let filter = DeviceFilter {
            product: product.map(str::to_owned),
            registered,
            prefix: prefix.map(str::to_owned),
            ..DeviceFilter::default()
        };
        let page = store.devices(&filter, after, limit).await.unwrap();
        let names: Vec<String> = page.items.into_iter().map(|d| d.device.endpoint).collect();
        (names.join(" "), page.next.is_some())
    };
    let all = |names: &str| (names.to_owned(), false);
    assert_eq!(
        names(None, None, None, None, 9).await,
        all("% a1 a2 a3 b1 ä")
    );
    assert_eq!(names(Some("p"), None, None, None, 9).await, all("a1 a2 b1"));
    assert_eq!(names(None, Some(true), None, None, 9).await, all("a2 a3"));
    assert_eq!(
        names(Some("p"), Some(false), None, None, 9).await,
        all("a1 b1")
    );
    assert_eq!(names(None, None, Some("a"), None, 9).await, all("a1 a2 a3"));
    assert_eq!(names(None, None, Some("%"), None, 9).await, all("%"));
    assert_eq!(
        names(None, None, Some("a"), Some("a1"), 1).await,
        ("a2".to_owned(), true)
    );
}

pub(crate) async fn devices_are_listed_and_counted_in_the_operators_language(store: &impl Store) {
    let world = World::new(store);
    world.devices("p", &["a1", "a2", "b1", "gone"]).await;
    world.devices("q", &["a3"]).await;
    store.remove_device("gone", None, None, t(1)).await.unwrap();
    let version = |endpoint: &str, version: &str| Change::VersionReported {
        endpoint: endpoint.to_owned(),
        version: Version::new(version).unwrap(),
        at: t(60),
    };
    world
        .commit(&[
            registered("a2", t(1)),
            registered("a3", t(1)),
            version("a2", "V1.9"),
            version("b1", "V1.10"),
        ])
        .await;
    for (text, product, expected) in [
        ("registered==true", None, "a2 a3"),
        ("registered==true", Some("p"), "a2"),
        ("product==p;endpoint==a*", None, "a1 a2"),
        ("version<V1.10", None, "a2"),
        ("version>=V1.9", None, "a2 b1"),
        ("version!=*", None, "a1 a3"),
        ("binding==USQ,endpoint==b1", None, "a2 a3 b1"),
        ("lwm2m_version=ge=1.1;queue_mode==true", None, "a2 a3"),
        ("last_heard<-30s", None, "a2 a3 b1"),
        ("last_heard<-1m", None, "a3"),
        ("created==-2m", None, "a1 a2 a3 b1"),
        ("endpoint==gone", None, ""),
    ] {
        let filter = DeviceFilter {
            product: product.map(str::to_owned),
            filter: Some(text.parse().unwrap()),
            now: t(120),
            ..DeviceFilter::default()
        };
        let expected: Vec<&str> = expected.split_whitespace().collect();
        let mut found = Vec::new();
        let mut after = None;
        loop {
            let page = (store.devices(&filter, after.as_deref(), 1).await).unwrap();
            found.extend(page.items.into_iter().map(|detail| detail.device.endpoint));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(found, expected, "{text}");
        let count = store.count_devices(&filter).await.unwrap();
        assert_eq!(count, expected.len() as u64, "{text}");
    }
    let all = store.count_devices(&DeviceFilter::default()).await.unwrap();
    assert_eq!(all, 4);
}

pub(crate) async fn when_a_device_wakes_up_is_learnt_anew_with_another_product(store: &impl Store) {
    let world = World::new(store);
    world.devices("p", &["a"]).await;
    let mut change = registered("a", t(1));
    if let Change::Registered { wake_ups, .. } = &mut change {
        *wake_ups = Some(WakeUps::first(t(1)));
    }
    world.commit(&[change]).await;
    let wake_ups = async || {
        let restored = store.restore_devices(0, 9).await.unwrap();
        restored.devices[0].wake_ups
    };
    for product in [None, Some("p"), Some("q")] {
        assert_eq!(wake_ups().await, Some(WakeUps::first(t(1))));
        let update = DeviceUpdate {
            product: product.map(str::to_owned),
            ..DeviceUpdate::default()
        };
        store.update_device("a", &update).await.unwrap();
    }
    assert_eq!(wake_ups().await, None);
}

pub(crate) async fn changes_of_devices_are_seen_in_order(store: &impl Store) {
    let world = World::new(store);
    world.devices("p", &["a", "b"]).await;
    let update = DeviceUpdate {
        product: Some("q".to_owned()),
        ..DeviceUpdate::default()
    };
    store.update_device("a", &update).await.unwrap();
    let unknown = store.update_device("nobody", &update).await;
    assert!(matches!(unknown, Err(UpdateDeviceError::NotFound(_))));
    let changes = store.device_changes_since(0, 9).await.unwrap();
    let seen: Vec<_> = changes
        .iter()
        .map(|c| (c.endpoint.as_str(), c.product.as_str(), c.removed))
        .collect();
    assert_eq!(seen, [("b", "p", false), ("a", "q", false)]);
    let last = changes[1].revision;
    store.remove_device("b", None, None, t(1)).await.unwrap();
    let changes = store.device_changes_since(last, 9).await.unwrap();
    assert_eq!(changes.len(), 1);
    assert!(changes[0].removed && changes[0].revision > last);
    let page = store.device_changes_since(0, 1).await.unwrap();
    assert_eq!(page[0].endpoint, "a");
}

pub(crate) async fn a_removed_device_is_kept_until_it_is_forgotten(store: &impl Store) {
    let (world, task) = World::with_task(store, 1, 0).await;
    let id = world.ids(task.id).await[0];
    world
        .commit(&[stage(id, 1, Stage::WaitingForDevice, t(1))])
        .await;
    assert!(
        !store.forget_removed("d0").await.unwrap(),
        "it is not removed"
    );
    let seen = store.restore_revision().await.unwrap();
    assert!(store.remove_device("d0", None, None, t(2)).await.unwrap());
    assert!(!store.remove_device("d0", None, None, t(2)).await.unwrap());
    assert_eq!(store.restore_revision().await.unwrap(), seen);
    assert_eq!(store.restore_devices(0, 9).await.unwrap().devices.len(), 1);
    assert!(
        !store.forget_removed("d0").await.unwrap(),
        "its upgrade runs"
    );
    let removal = store.device_changes_since(seen, 9).await.unwrap();
    assert_eq!(removal.len(), 1);
    world
        .commit(&[ended(id, task.id, 1, UPGRADED, None, t(3))])
        .await;
    let again = store
        .device_changes_since(removal[0].revision, 9)
        .await
        .unwrap();
    assert!(
        again.len() == 1 && again[0].removed,
        "now it can be forgotten"
    );
    assert!(store.forget_removed("d0").await.unwrap());
    assert!(store.forget_removed("d0").await.unwrap());
    assert_eq!(store.restore_devices(0, 9).await.unwrap().devices, []);
    // a revision is never used twice
    assert_eq!(store.restore_revision().await.unwrap(), again[0].revision);
}

pub(crate) async fn who_came_by_himself_and_is_gone_is_removed(store: &impl Store) {
    let (world, package) = World::with_devices(store, 1).await; // d0, which the operator added
    let came = |endpoint: &str, at| {
        let Change::Registered { registration, .. } = registered(endpoint, t(at)) else {
            unreachable!("it is a registration");
        };
        let registration = Registration {
            expires_at: t(at + 300),
            ..registration
        };
        Change::Registered {
            endpoint: endpoint.into(),
            registration,
            wake_ups: None,
            at: t(at),
        }
    };
    let names = ["d0", "gone", "ended", "adopted", "upgraded", "there"];
    let mut changes: Vec<Change> = names.map(|name| came(name, 1_000)).into();
    changes.push(came("there", 1_600));
    changes.push(Change::Deregistered {
        endpoint: "ended".into(),
        at: t(1_100),
    });
    world.commit(&changes).await;
    assert_eq!(store.remove_newcomers(t(0)..t(1_100), 9).await.unwrap(), 0);
    let adopted = world.devices("default", &["adopted"]).await;
    assert_eq!(adopted, [AddedDevice::Unchanged]);
    let moved = DeviceUpdate {
        product: Some(package.package.product.clone()),
        ..DeviceUpdate::default()
    };
    store.update_device("upgraded", &moved).await.unwrap();
    let task = new_task(&package, list(&["upgraded"]));
    store.create_task(&task).await.unwrap();
    let seen = store.restore_revision().await.unwrap();

    let remove = async |before, limit| {
        let ended = t(0)..t(before);
        store.remove_newcomers(ended, limit).await.unwrap()
    };
    assert_eq!(remove(1_000, 9).await, 0);
    assert_eq!(
        store.remove_newcomers(t(1_401)..t(1_600), 9).await.unwrap(),
        0
    );
    assert_eq!(remove(1_200, 9).await, 1, "the one that has said so");
    assert_eq!(remove(1_700, 1).await, 1);
    assert_eq!(remove(1_700, 9).await, 0);
    let changes = store.device_changes_since(seen, 9).await.unwrap();
    let removed: Vec<_> = (changes.iter())
        .map(|change| (change.endpoint.as_str(), change.removed))
        .collect();
    assert_eq!(removed, [("ended", true), ("gone", true)]);
    for endpoint in ["ended", "gone"] {
        assert!(store.forget_removed(endpoint).await.unwrap());
    }
    assert_eq!(remove(2_000, 9).await, 1, "now it is gone as well");
}

pub(crate) async fn a_device_added_again_begins_anew(store: &impl Store) {
    let (world, package) = World::with_devices(store, 1).await;
    world.commit(&[registered("d0", t(1))]).await;
    store.remove_device("d0", None, None, t(2)).await.unwrap();
    assert_eq!(world.devices("q", &["d0"]).await, [AddedDevice::Added]);
    let device = store.device("d0").await.unwrap().unwrap().device;
    assert_eq!(
        (device.registration, device.product),
        (None, "q".to_owned())
    );
    assert!(!store.forget_removed("d0").await.unwrap());
    let refused = store
        .create_task(&new_task(&package, list(&["d0"])))
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("d0"), "{refused}");
    assert!(
        store
            .create_task(&new_task(&package, Selection::All))
            .await
            .is_err()
    );
}

fn psk(identity: &str, sealed: u8) -> StoredPsk {
    StoredPsk {
        identity: identity.to_owned(),
        sealed: vec![sealed; 40],
    }
}

fn keyed(endpoint: &str, key: Option<StoredPsk>) -> NewDevice {
    NewDevice {
        attributes: AttributesChange::default(),
        endpoint: endpoint.to_owned(),
        product: "p".to_owned(),
        psk: key,
        mqtt: None,
        via: None,
    }
}

pub(crate) async fn devices_bring_their_keys(store: &impl Store) {
    let new = [
        keyed("a", Some(psk("id a", 1))),
        keyed("b", None),
        keyed("c", Some(psk("id a", 2))),
    ];
    let taken = AddedDevice::IdentityTaken {
        identity: "id a".to_owned(),
        endpoint: "a".to_owned(),
    };
    let added = store.add_devices(&new, T0).await.unwrap();
    assert_eq!(
        added,
        [AddedDevice::Added, AddedDevice::Added, taken.clone()]
    );
    let again = [
        keyed("a", None),
        keyed("b", Some(psk("id b", 3))),
        keyed("b", Some(psk("id a", 3))),
    ];
    let added = store.add_devices(&again, T0).await.unwrap();
    assert_eq!(added, [AddedDevice::Unchanged, AddedDevice::KeySet, taken]);
    let a = store.device("a").await.unwrap().unwrap();
    assert!(a.device.secure);
    assert_eq!(a.psk_identity.as_deref(), Some("id a"));
    let keys = store.restore_keys(None, 1).await.unwrap();
    assert_eq!(keys, [("a".to_owned(), psk("id a", 1))]);
    let keys = store.restore_keys(Some("a"), 9).await.unwrap();
    assert_eq!(keys, [("b".to_owned(), psk("id b", 3))]);
    let changes = store.device_changes_since(0, 9).await.unwrap();
    let seen: Vec<_> = (changes.iter())
        .map(|change| (change.endpoint.as_str(), change.secure, change.psk.clone()))
        .collect();
    assert_eq!(
        seen,
        [
            ("a", true, Some(psk("id a", 1))),
            ("b", true, Some(psk("id b", 3)))
        ]
    );
    // a removed device frees its identity
    assert!(store.remove_device("a", None, None, t(1)).await.unwrap());
    let added = store
        .add_devices(&[keyed("d", Some(psk("id a", 4)))], T0)
        .await;
    assert_eq!(added.unwrap(), [AddedDevice::Added]);
    // and comes back without it
    store.add_devices(&[keyed("a", None)], T0).await.unwrap();
    let a = store.device("a").await.unwrap().unwrap();
    assert_eq!((a.device.secure, a.psk_identity), (false, None));
}

pub(crate) async fn keys_are_changed_and_taken_away(store: &impl Store) {
    let world = World::new(store);
    world.devices("p", &["a", "b"]).await;
    let update = async |endpoint: &str, secure, key| {
        let update = DeviceUpdate {
            product: None,
            secure,
            psk: key,
            ..DeviceUpdate::default()
        };
        store.update_device(endpoint, &update).await
    };
    update("a", Some(true), Some(Some(psk("me", 1))))
        .await
        .unwrap();
    let taken = update("b", None, Some(Some(psk("me", 2)))).await;
    assert!(
        matches!(taken, Err(UpdateDeviceError::IdentityTaken { endpoint, .. }) if endpoint == "a")
    );
    // the device itself may keep its identity
    update("a", None, Some(Some(psk("me", 3)))).await.unwrap();
    let keys = store.restore_keys(None, 9).await.unwrap();
    assert_eq!(keys, [("a".to_owned(), psk("me", 3))]);
    let revision = store
        .device_changes_since(0, 9)
        .await
        .unwrap()
        .last()
        .unwrap()
        .revision;
    update("a", None, Some(None)).await.unwrap();
    let changes = store.device_changes_since(revision, 9).await.unwrap();
    assert_eq!(changes.len(), 1);
    assert_eq!((changes[0].secure, &changes[0].psk), (true, &None));
    update("a", Some(false), None).await.unwrap();
    assert!(!store.device("a").await.unwrap().unwrap().device.secure);
    update("b", None, Some(Some(psk("me", 2)))).await.unwrap();
}

fn mqtt(protocol: Protocol, token: Option<u8>) -> StoredMqtt {
    StoredMqtt {
        protocol,
        credential: token.map_or(MqttCredential::Secret, |_| MqttCredential::Token),
        token_hash: token.map(|it| vec![it; 32]),
        sealed: Some(vec![7; 40]),
    }
}

fn over_mqtt(endpoint: &str, mqtt: Option<StoredMqtt>) -> NewDevice {
    NewDevice {
        mqtt,
        ..keyed(endpoint, None)
    }
}

pub(crate) async fn devices_bring_what_they_show_over_mqtt(store: &impl Store) {
    let secret = mqtt(Protocol::Iotda, None);
    let token = mqtt(Protocol::ThingsPanel, Some(1));
    let new = [
        over_mqtt("a", Some(secret.clone())),
        over_mqtt("b", Some(token.clone())),
        over_mqtt("c", Some(token.clone())),
        over_mqtt("d", None),
        over_mqtt("a", Some(token.clone())),
    ];
    let held = AddedDevice::TokenTaken("b".to_owned());
    let other = AddedDevice::OtherProtocol(Protocol::Iotda);
    let added = store.add_devices(&new, T0).await.unwrap();
    let added_now = AddedDevice::Added;
    assert_eq!(
        added,
        [
            added_now.clone(),
            added_now.clone(),
            held.clone(),
            added_now,
            other.clone()
        ]
    );
    let again = [
        over_mqtt("a", Some(token.clone())),
        over_mqtt("a", Some(secret.clone())),
        over_mqtt("a", None),
        over_mqtt("d", Some(secret.clone())),
        over_mqtt("e", Some(token.clone())),
    ];
    let added = store.add_devices(&again, T0).await.unwrap();
    let lwm2m = AddedDevice::OtherProtocol(Protocol::Lwm2m);
    let expected = [
        other,
        AddedDevice::KeySet,
        AddedDevice::Unchanged,
        lwm2m,
        held,
    ];
    assert_eq!(added, expected);
    let a = store.device("a").await.unwrap().unwrap();
    assert_eq!(a.device.protocol, Protocol::Iotda);
    assert_eq!(a.mqtt_credential, Some(MqttCredential::Secret));
    assert!(!a.device.secure);
    let d = store.device("d").await.unwrap().unwrap();
    assert_eq!(
        (d.device.protocol, d.mqtt_credential),
        (Protocol::Lwm2m, None)
    );
    let first = store.restore_mqtt(None, 1).await.unwrap();
    assert_eq!(first, [("a".to_owned(), secret.clone())]);
    let rest = store.restore_mqtt(Some("a"), 9).await.unwrap();
    assert_eq!(rest, [("b".to_owned(), token.clone())]);
    let changes = store.device_changes_since(0, 9).await.unwrap();
    let b = changes
        .iter()
        .find(|change| change.endpoint == "b")
        .unwrap();
    assert_eq!(
        (b.protocol, &b.mqtt),
        (Protocol::ThingsPanel, &Some(token.clone()))
    );
    let filter = Filter::parse("protocol==iotda").unwrap();
    let names = ["a", "b", "d"].map(str::to_owned);
    let through = store.let_through(&names, &filter, T0).await.unwrap();
    assert_eq!(through.into_iter().collect::<Vec<_>>(), ["a"]);
    // a removed device frees its token, and comes back without it
    assert!(store.remove_device("b", None, None, t(1)).await.unwrap());
    let changes = store.device_changes_since(b.revision, 9).await.unwrap();
    let b = changes
        .iter()
        .find(|change| change.endpoint == "b")
        .unwrap();
    assert_eq!((b.removed, &b.mqtt), (true, &None));
    let added = store.add_devices(&[over_mqtt("e", Some(token))], T0).await;
    assert_eq!(added.unwrap(), [AddedDevice::Added]);
    store
        .add_devices(&[over_mqtt("b", None)], T0)
        .await
        .unwrap();
    let b = store.device("b").await.unwrap().unwrap();
    assert_eq!(
        (b.device.protocol, b.mqtt_credential),
        (Protocol::Lwm2m, None)
    );
}

pub(crate) async fn what_a_device_speaks_is_changed_while_nothing_runs(store: &impl Store) {
    let world = World::new(store);
    world.devices("p", &["a", "b"]).await;
    let update = async |endpoint: &str, mqtt: Option<StoredMqtt>| {
        let update = DeviceUpdate {
            mqtt: Some(mqtt),
            ..DeviceUpdate::default()
        };
        store.update_device(endpoint, &update).await
    };
    let token = mqtt(Protocol::ThingsPanel, Some(1));
    update("a", Some(token.clone())).await.unwrap();
    let refused = update("b", Some(token.clone())).await;
    assert!(matches!(refused, Err(UpdateDeviceError::TokenTaken(holder)) if holder == "a"));
    // its own it may keep
    update("a", Some(token.clone())).await.unwrap();
    let package = world.package("p", "V1", 1).await;
    let task = new_task(&package, list(&["a"]));
    let task = store.create_task(&task).await.unwrap();
    let upgrade = world.ids(task.id).await[0];
    world
        .commit(&[stage(upgrade, 1, Stage::QueryingVersion, t(1))])
        .await;
    update("a", Some(mqtt(Protocol::ThingsPanel, Some(2))))
        .await
        .unwrap();
    for other in [None, Some(mqtt(Protocol::Iotda, None))] {
        let refused = update("a", other).await;
        assert!(
            matches!(&refused, Err(UpdateDeviceError::Upgrading { upgrade: it, .. }) if *it == upgrade),
            "{refused:?}"
        );
    }
    update("b", Some(mqtt(Protocol::Iotda, None)))
        .await
        .unwrap();
    update("b", None).await.unwrap();
    let b = store.device("b").await.unwrap().unwrap();
    assert_eq!(
        (b.device.protocol, b.mqtt_credential),
        (Protocol::Lwm2m, None)
    );
}

pub(crate) async fn the_package_before_another_is_the_newest_of_its_product(store: &impl Store) {
    let world = World::new(store);
    let first = world.package("p", "V1", 1).await;
    world.package("q", "V9", 2).await;
    let second = world.package("p", "V2", 3).await;
    let third = world.package("p", "V3", 4).await;
    let before = async |package: &PackageRecord| {
        let found = store.package_before("p", package.id).await.unwrap();
        found.map(|found| found.id)
    };
    assert_eq!(before(&first).await, None);
    assert_eq!(before(&third).await, Some(second.id));
    store.delete_package(second.id, t(1)).await.unwrap();
    assert_eq!(before(&third).await, Some(first.id));
}
