use super::*;
use crate::{
    config::ProductChange,
    filter::Filter,
    ledger::{Further, Lane, MAX_CHILDREN, Protocol, Via, ViaError},
    store::{
        DeviceFilter, DeviceUpdate, MqttCredential, ProductUpdate, SiteKey, StoredMqtt,
        UpdateDeviceError,
    },
    task::Source,
    tenant::TenantId,
};

fn device(endpoint: &str, credential: Option<MqttCredential>, via: Option<&str>) -> NewDevice {
    NewDevice {
        endpoint: endpoint.to_owned(),
        product: "p".to_owned(),
        psk: None,
        mqtt: credential.map(|credential| StoredMqtt {
            protocol: Protocol::Iotda,
            credential,
            token_hash: None,
            sealed: None,
        }),
        via: via.map(str::to_owned),
        attributes: AttributesChange::default(),
    }
}

fn gateway(endpoint: &str) -> NewDevice {
    device(endpoint, Some(MqttCredential::Certificate), None)
}

fn child(endpoint: &str, via: Option<&str>) -> NewDevice {
    device(endpoint, Some(MqttCredential::Gateway), via)
}

async fn update(
    store: &impl Store,
    endpoint: &str,
    via: Option<&str>,
) -> Result<(), UpdateDeviceError> {
    let update = DeviceUpdate {
        via: Some(via.map(str::to_owned)),
        ..DeviceUpdate::default()
    };
    store.update_device(endpoint, &update).await
}

async fn via(store: &impl Store, endpoint: &str) -> Via {
    store.device(endpoint).await.unwrap().unwrap().device.via
}

fn behind(gateway: &str) -> Via {
    Via::Gateway(Some(gateway.to_owned()))
}

pub(crate) async fn devices_are_added_behind_gateways(store: &impl Store) {
    let refused = AddedDevice::Via;
    let new = [
        gateway("g1"),
        child("a", Some("g1")),
        child("b", None),
        child("c", Some("g9")),
        child("d", Some("a")),
        device("e", None, Some("g1")),
        device("f", Some(MqttCredential::Certificate), Some("g1")),
        device("lwm2m", None, None),
        device("g", None, Some("lwm2m")),
    ];
    let added = store.add_devices(&new, T0).await.unwrap();
    let other = ViaError::OtherProtocol {
        gateway: "g1".to_owned(),
        speaks: Protocol::Iotda,
        expected: Protocol::Lwm2m,
    };
    let expected = [
        AddedDevice::Added,
        AddedDevice::Added,
        AddedDevice::Added,
        refused(ViaError::NoGateway("g9".to_owned())),
        refused(ViaError::Chain("a".to_owned())),
        refused(other),
        refused(ViaError::OwnConnection),
        AddedDevice::Added,
        AddedDevice::Added,
    ];
    assert_eq!(added, expected);
    assert_eq!(via(store, "a").await, behind("g1"));
    assert_eq!(via(store, "b").await, Via::Gateway(None));
    assert_eq!(via(store, "g1").await, Via::Itself);
    assert_eq!(via(store, "g").await, behind("lwm2m"));
    // again: nothing, another gateway, and a connection of its own
    let again = [
        child("a", Some("g1")),
        gateway("g2"),
        child("a", Some("g2")),
        gateway("b"),
        gateway("a"),
        child("g2", None),
    ];
    let added = store.add_devices(&again, t(1)).await.unwrap();
    let expected = [
        AddedDevice::KeySet,
        AddedDevice::Added,
        AddedDevice::KeySet,
        AddedDevice::KeySet,
        refused(ViaError::OwnConnection),
        refused(ViaError::IsGateway(1)),
    ];
    assert_eq!(added, expected);
    assert_eq!(via(store, "a").await, behind("g2"));
    assert_eq!(via(store, "b").await, Via::Itself);
    let changes = store.device_changes_since(0, 99).await.unwrap();
    let told = changes.iter().find(|it| it.endpoint == "a").unwrap();
    assert_eq!(told.via, behind("g2"));
}

pub(crate) async fn a_gateway_tells_who_is_behind_it(store: &impl Store) {
    let children: Vec<NewDevice> = (0..5).map(|n| child(&format!("c{n}"), Some("g"))).collect();
    store.add_devices(&[gateway("g")], T0).await.unwrap();
    store.add_devices(&children, T0).await.unwrap();
    let (total, first) = store.children("g", 2).await.unwrap();
    assert_eq!((total, first), (5, vec!["c0".to_owned(), "c1".to_owned()]));
    assert_eq!(store.children("c0", 2).await.unwrap(), (0, Vec::new()));
    let filter = DeviceFilter {
        filter: Some(Filter::parse("via==g;endpoint!=c3").unwrap()),
        now: T0,
        ..DeviceFilter::default()
    };
    let page = store.devices(&filter, None, 9).await.unwrap();
    let names: Vec<String> = page
        .items
        .into_iter()
        .map(|it| it.device.endpoint)
        .collect();
    assert_eq!(names, ["c0", "c1", "c2", "c4"]);
    // it stays as long as it has any
    let refused = store.remove_device("g", None, None, t(1)).await;
    assert!(
        matches!(
            &refused,
            Err(UpdateDeviceError::HasChildren { children: 5, .. })
        ),
        "{refused:?}"
    );
    for n in 0..5 {
        assert!(
            store
                .remove_device(&format!("c{n}"), None, None, t(2))
                .await
                .unwrap()
        );
    }
    assert!(store.remove_device("g", None, None, t(3)).await.unwrap());
}

pub(crate) async fn a_device_is_given_another_gateway(store: &impl Store) {
    let new = [
        gateway("g1"),
        gateway("g2"),
        child("a", Some("g1")),
        child("b", None),
    ];
    store.add_devices(&new, T0).await.unwrap();
    update(store, "a", Some("g2")).await.unwrap();
    update(store, "b", Some("g2")).await.unwrap();
    assert_eq!(store.children("g2", 9).await.unwrap().0, 2);
    for (endpoint, gateway, expected) in [
        ("a", "a", ViaError::Itself),
        ("a", "b", ViaError::Chain("b".to_owned())),
        ("a", "none", ViaError::NoGateway("none".to_owned())),
        ("g1", "g2", ViaError::OwnConnection),
        ("g2", "g1", ViaError::OwnConnection),
    ] {
        let refused = update(store, endpoint, Some(gateway)).await;
        assert!(
            matches!(&refused, Err(UpdateDeviceError::Via { error, .. }) if *error == expected),
            "{endpoint} {gateway}: {refused:?}"
        );
    }
    // what is behind it goes with what it speaks
    let lwm2m = DeviceUpdate {
        mqtt: Some(None),
        ..DeviceUpdate::default()
    };
    let refused = store.update_device("g2", &lwm2m).await;
    assert!(
        matches!(
            &refused,
            Err(UpdateDeviceError::Via {
                error: ViaError::ChildrenStay(2),
                ..
            })
        ),
        "{refused:?}"
    );
    update(store, "a", None).await.unwrap();
    update(store, "b", None).await.unwrap();
    store.update_device("g2", &lwm2m).await.unwrap();
    assert_eq!(via(store, "a").await, Via::Gateway(None));
}

pub(crate) async fn a_gateway_has_so_many_devices_at_most(store: &impl Store) {
    let mut new = vec![gateway("g"), gateway("h")];
    new.extend((0..=MAX_CHILDREN).map(|n| child(&format!("c{n}"), Some("g"))));
    let added = store.add_devices(&new, T0).await.unwrap();
    let full = ViaError::Full("g".to_owned());
    assert_eq!(added.last(), Some(&AddedDevice::Via(full.clone())));
    let refused = added.iter().filter(|it| matches!(it, AddedDevice::Via(_)));
    assert_eq!(refused.count(), 1);
    store.add_devices(&[child("x", None)], T0).await.unwrap();
    let refused = update(store, "x", Some("g")).await;
    assert!(matches!(refused, Err(UpdateDeviceError::Via { error, .. }) if error == full));
    update(store, "c0", Some("h")).await.unwrap();
    update(store, "x", Some("g")).await.unwrap();
}

pub(crate) async fn what_a_gateway_says_of_its_devices_comes_behind_an_operators_word(
    store: &impl Store,
) {
    let world = World::new(store);
    let new = [
        gateway("g1"),
        gateway("g2"),
        child("a", None),
        child("b", None),
        gateway("own"),
    ];
    store.add_devices(&new, T0).await.unwrap();
    let told = |endpoint: &str, before: Option<&str>, via: Option<&str>| Change::Via {
        endpoint: endpoint.to_owned(),
        before: before.map(str::to_owned),
        via: via.map(str::to_owned),
        at: t(1),
    };
    let revision = store.device("a").await.unwrap().unwrap().revision;
    world
        .commit(&[
            told("a", None, Some("g1")),
            told("b", None, Some("nobody")),
            // it has a connection of its own meanwhile
            told("own", None, Some("g1")),
        ])
        .await;
    assert_eq!(via(store, "own").await, Via::Itself);
    assert_eq!(via(store, "a").await, behind("g1"));
    assert_eq!(via(store, "b").await, Via::Gateway(None));
    // no operator has changed it
    let a = store.device("a").await.unwrap().unwrap();
    assert_eq!(a.revision, revision);
    update(store, "a", Some("g2")).await.unwrap();
    world
        .commit(&[told("a", None, Some("g1")), told("a", Some("g1"), None)])
        .await;
    assert_eq!(via(store, "a").await, behind("g2"));
    world
        .commit(&[told("a", Some("g2"), None), told("a", None, Some("g1"))])
        .await;
    assert_eq!(via(store, "a").await, behind("g1"));
}

pub(crate) async fn the_limit_of_one_gateway_is_kept_and_its_changes_seen_among_those_of_sites(
    store: &impl Store,
) {
    let limit = async |endpoint: &str, limit: Option<u32>| {
        let update = DeviceUpdate {
            gateway_limit: Some(limit),
            ..DeviceUpdate::default()
        };
        store.update_device(endpoint, &update).await
    };
    let kept = async |endpoint: &str| {
        let device = store.device(endpoint).await.unwrap();
        device.unwrap().gateway_limit
    };
    let changes = async |revision: i64| {
        let changes = store.lane_limits_since(revision, 9).await.unwrap();
        let last = changes.last().map_or(revision, |it| it.revision);
        let told: Vec<_> = changes.iter().map(|it| (it.lane, it.limit)).collect();
        (told, last)
    };
    let lane = |name| Lane::gateway(name);
    let site = SiteKey {
        tenant: TenantId::default(),
        name: "depot-4".to_owned(),
    };
    let new = [gateway("g1"), gateway("g2")];
    store.add_devices(&new, T0).await.unwrap();
    limit("g1", Some(2)).await.unwrap();
    store.set_site(&site, 5, None, None).await.unwrap();
    limit("g2", Some(7)).await.unwrap();
    limit("g1", Some(3)).await.unwrap();
    assert_eq!((kept("g1").await, kept("g2").await), (Some(3), Some(7)));
    let (told, last) = changes(0).await;
    let (g1, g2) = ((lane("g1"), Some(3)), (lane("g2"), Some(7)));
    assert_eq!(told, [(site.lane(), Some(5)), g2, g1]);
    let nobody = limit("g3", Some(1)).await;
    assert!(
        matches!(nobody, Err(UpdateDeviceError::NotFound(_))),
        "{nobody:?}"
    );
    // what has none is as before; what is changed otherwise keeps it
    update(store, "g1", None).await.unwrap();
    assert_eq!((kept("g1").await, changes(last).await.0), (Some(3), vec![]));
    limit("g1", None).await.unwrap();
    store.clear_site(&site, None).await.unwrap();
    // whoever is removed and added again begins anew
    assert!(store.remove_device("g2", None, None, T0).await.unwrap());
    store.add_devices(&new[1..], T0).await.unwrap();
    assert_eq!((kept("g1").await, kept("g2").await), (None, None));
    let cleared = [(lane("g1"), None), (site.lane(), None), (lane("g2"), None)];
    let (told, last) = changes(last).await;
    assert_eq!(told, cleared);
    limit("g1", None).await.unwrap();
    assert_eq!(changes(last).await.0, []);
}

pub(crate) async fn an_order_names_the_limit_of_its_gateways_product(store: &impl Store) {
    let world = World::new(store);
    let package = world.package("p", "V2", 1).await;
    let of = |per_gateway| ProductUpdate {
        settings: ProductChange {
            per_gateway: Some(per_gateway),
            ..ProductChange::default()
        },
        signatures: None,
        share: None,
    };
    store.create_product("wide", &of(Some(7))).await.unwrap();
    // the other gateway is of the devices' own product
    store.create_product("p", &of(Some(9))).await.unwrap();
    let wide = NewDevice {
        product: "wide".to_owned(),
        ..gateway("g1")
    };
    let new = [
        wide,
        gateway("g2"),
        child("a", Some("g1")),
        child("b", Some("g2")),
        child("c", None),
    ];
    store.add_devices(&new, T0).await.unwrap();
    let task = new_task(&package, list(&["a", "b", "c"]));
    let task = store.create_task(&task).await.unwrap();
    let source = Source {
        task: task.id,
        priority: 5,
        lot: 0,
        limit: u32::MAX,
        per_minute: None,
        back: None,
        budget: None,
    };
    let due = store.due_upgrades(&[source], t(9_999), 9).await.unwrap();
    let further: Vec<Further> = due.into_iter().map(|due| due.order.further).collect();
    let through = |name, limit| Further::of(None, Some(Lane::gateway(name))).with_limit(limit);
    let expected = [
        through("g1", Some(7)),
        through("g2", Some(9)),
        Further::NONE,
    ];
    assert_eq!(further, expected);
}
