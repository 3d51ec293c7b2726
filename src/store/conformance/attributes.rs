use super::{T0, World, t};
use crate::{
    ledger::{Attribute, AttributeError, Attributes, AttributesChange, MAX_TAGS},
    store::{AddedDevice, DeviceUpdate, NewDevice, Store, UpdateDeviceError},
};

fn change(values: &[(Attribute, Option<&str>)], tags: &[(&str, Option<&str>)]) -> AttributesChange {
    let mut change = AttributesChange::default();
    for (attribute, value) in values {
        change.set(*attribute, value.map(str::to_owned)).unwrap();
    }
    for (key, value) in tags {
        change.set_tag(key, value.map(str::to_owned)).unwrap();
    }
    change
}

fn tags(tags: &[(&str, &str)]) -> AttributesChange {
    let tags: Vec<_> = tags.iter().map(|(k, v)| (*k, Some(*v))).collect();
    change(&[], &tags)
}

fn device(endpoint: &str, attributes: AttributesChange) -> NewDevice {
    NewDevice {
        endpoint: endpoint.to_owned(),
        product: "p".to_owned(),
        psk: None,
        mqtt: None,
        attributes,
        via: None,
    }
}

async fn attributes_of(store: &impl Store, endpoint: &str) -> Attributes {
    store.device(endpoint).await.unwrap().unwrap().attributes
}

fn expected(model: Option<&str>, site: Option<&str>, tags: &[(&str, &str)]) -> Attributes {
    let owned = |text: &str| text.to_owned();
    Attributes {
        model: model.map(owned),
        site: site.map(owned),
        tags: tags.iter().map(|(k, v)| (owned(k), owned(v))).collect(),
        ..Attributes::default()
    }
}

pub(crate) async fn devices_bring_their_attributes(store: &impl Store) {
    let model = change(
        &[(Attribute::Model, Some("m"))],
        &[("a", Some("1")), ("b", Some(""))],
    );
    let plain = AttributesChange::default;
    let new = [
        device("d0", model.clone()),
        device("d1", plain()),
        // once more in the same call
        device("d1", tags(&[("c", "\"3\", [x]")])),
        device("d1", plain()),
    ];
    let added = store.add_devices(&new, T0).await.unwrap();
    assert_eq!(
        added,
        [
            AddedDevice::Added,
            AddedDevice::Added,
            AddedDevice::Updated,
            AddedDevice::Unchanged
        ]
    );
    let d0 = expected(Some("m"), None, &[("a", "1"), ("b", "")]);
    assert_eq!(attributes_of(store, "d0").await, d0);
    let d1 = expected(None, None, &[("c", "\"3\", [x]")]);
    assert_eq!(attributes_of(store, "d1").await, d1);
    let revision = store.device_changes_since(0, 9).await.unwrap()[1].revision;

    let site = change(&[(Attribute::Site, Some("s"))], &[("b", Some("2"))]);
    let other_product = NewDevice {
        product: "q".to_owned(),
        ..device("d1", tags(&[("c", "")]))
    };
    let again = [
        device("d0", site.clone()),
        device("d0", model),
        device("d0", change(&[(Attribute::Model, Some("m"))], &[])),
        other_product,
    ];
    let added = store.add_devices(&again, t(1)).await.unwrap();
    assert_eq!(
        added,
        [
            AddedDevice::Updated,
            AddedDevice::Updated,
            AddedDevice::Unchanged,
            AddedDevice::OtherProduct("p".to_owned())
        ]
    );
    let d0 = expected(Some("m"), Some("s"), &[("a", "1"), ("b", "")]);
    assert_eq!(attributes_of(store, "d0").await, d0);
    assert_eq!(attributes_of(store, "d1").await, d1, "it was refused");
    let seen = store.device_changes_since(revision, 9).await.unwrap();
    assert_eq!(seen, [], "the engine needs none of this");
}

pub(crate) async fn many_devices_bring_tags(store: &impl Store) {
    // more than go into one statement, and only some of them have any
    let devices: Vec<NewDevice> = (0..2_500)
        .map(|i| {
            let number = i.to_string();
            let given = if i % 2 == 0 {
                change(
                    &[(Attribute::Site, Some(&number))],
                    &[("n", Some(&number)), ("k", Some("x"))],
                )
            } else {
                AttributesChange::default()
            };
            device(&format!("d{i:04}"), given)
        })
        .collect();
    let added = store.add_devices(&devices, T0).await.unwrap();
    assert!(added.iter().all(|added| *added == AddedDevice::Added));
    for (endpoint, described) in [
        ("d0000", Some("0")),
        ("d1001", None),
        ("d2498", Some("2498")),
    ] {
        let expected = match described {
            Some(number) => expected(None, Some(number), &[("k", "x"), ("n", number)]),
            None => Attributes::default(),
        };
        assert_eq!(attributes_of(store, endpoint).await, expected);
    }
    let again = store.add_devices(&devices, T0).await.unwrap();
    assert!(again.iter().all(|added| *added == AddedDevice::Unchanged));
}

pub(crate) async fn a_device_has_so_many_tags_at_most(store: &impl Store) {
    let keys: Vec<String> = (0..=MAX_TAGS).map(|i| format!("k{i}")).collect();
    let full: Vec<(&str, &str)> = keys[1..].iter().map(|key| (key.as_str(), "v")).collect();
    let new = [
        device("d0", tags(&full)),
        device("d0", tags(&[("k0", "v")])),
        device("d1", tags(&[("k0", "v")])),
    ];
    let too_many = AddedDevice::Attributes(AttributeError::TooManyTags(MAX_TAGS + 1));
    let added = store.add_devices(&new, T0).await.unwrap();
    assert_eq!(
        added,
        [AddedDevice::Added, too_many.clone(), AddedDevice::Added]
    );
    let added = store.add_devices(&new[1..2], T0).await.unwrap();
    assert_eq!(added, [too_many]);
    let update = DeviceUpdate {
        product: Some("q".to_owned()),
        attributes: tags(&[("k0", "v")]),
        ..DeviceUpdate::default()
    };
    let refused = store.update_device("d0", &update).await;
    assert!(matches!(refused, Err(UpdateDeviceError::Attributes(_))));
    let d0 = store.device("d0").await.unwrap().unwrap();
    assert_eq!(
        (d0.device.product.as_str(), d0.attributes.tags.len()),
        ("p", MAX_TAGS)
    );
}

pub(crate) async fn attributes_are_changed_and_taken_away(store: &impl Store) {
    let world = World::new(store);
    world.devices("p", &["d0"]).await;
    let update = async |attributes| {
        let update = DeviceUpdate {
            attributes,
            ..DeviceUpdate::default()
        };
        store.update_device("d0", &update).await.unwrap();
        attributes_of(store, "d0").await
    };
    let given = change(
        &[
            (Attribute::Model, Some("m")),
            (Attribute::Hardware, Some("r2")),
            (Attribute::Site, Some("s")),
            (Attribute::TimeZone, Some("Europe/Berlin")),
        ],
        &[("a", Some("1")), ("b", Some("2"))],
    );
    let all = update(given).await;
    assert_eq!(all.hardware.as_deref(), Some("r2"));
    assert_eq!(all.time_zone.as_deref(), Some("Europe/Berlin"));
    let without = change(
        &[(Attribute::Hardware, None), (Attribute::TimeZone, None)],
        &[("a", None), ("b", Some("3")), ("never", None)],
    );
    let left = expected(Some("m"), Some("s"), &[("b", "3")]);
    assert_eq!(update(without).await, left);
}

pub(crate) async fn a_device_added_again_has_no_attributes_of_before(store: &impl Store) {
    let described = change(&[(Attribute::Site, Some("s"))], &[("a", Some("1"))]);
    let new = [device("d0", described.clone()), device("d1", described)];
    store.add_devices(&new, T0).await.unwrap();
    for endpoint in ["d0", "d1"] {
        assert!(
            store
                .remove_device(endpoint, None, None, t(1))
                .await
                .unwrap()
        );
    }
    // one that the rollout has forgotten, and one that it has not
    assert!(store.forget_removed("d1").await.unwrap());
    let again = [
        device("d0", tags(&[("b", "2")])),
        device("d1", AttributesChange::default()),
    ];
    let added = store.add_devices(&again, t(2)).await.unwrap();
    assert_eq!(added, [AddedDevice::Added, AddedDevice::Added]);
    let d0 = expected(None, None, &[("b", "2")]);
    assert_eq!(attributes_of(store, "d0").await, d0);
    assert_eq!(attributes_of(store, "d1").await, Attributes::default());
}
