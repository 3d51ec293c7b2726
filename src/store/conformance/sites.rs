use super::{T0, World, new_task, t};
use crate::{
    ledger::{Attribute, AttributesChange, Further, Lane},
    store::{LaneLimit, NewDevice, Selection, SiteError, SiteKey, Store},
    task::Source,
    tenant::TenantId,
};

fn key(name: &str) -> SiteKey {
    SiteKey {
        tenant: TenantId::default(),
        name: name.to_owned(),
    }
}

async fn changes(store: &impl Store, revision: i64) -> Vec<(Lane, Option<u32>)> {
    let changes = store.lane_limits_since(revision, 9).await.unwrap();
    let told = |change: LaneLimit| (change.lane, change.limit);
    changes.into_iter().map(told).collect()
}

pub(crate) async fn limits_of_sites_are_kept_and_their_changes_seen_in_order(store: &impl Store) {
    let (depot, town) = (key("depot-4"), key("old town / 7"));
    assert_eq!(store.site(&depot).await.unwrap(), None);
    let first = store
        .set_site(&depot, 5, Some("one line"), None)
        .await
        .unwrap();
    assert_eq!((first.limit, first.note.as_deref()), (5, Some("one line")));
    store.set_site(&town, 2, None, Some(0)).await.unwrap();
    let lanes = (depot.lane(), town.lane());
    assert_eq!(
        changes(store, 0).await,
        [(lanes.0, Some(5)), (lanes.1, Some(2))]
    );
    let second = (store.set_site(&depot, 7, None, Some(first.revision)).await).unwrap();
    assert_eq!((second.id, second.note.as_deref()), (first.id, None));
    assert!(second.revision > first.revision);
    assert_eq!(store.site(&depot).await.unwrap(), Some(second.clone()));
    // each once, as it is now
    assert_eq!(
        changes(store, 0).await,
        [(lanes.1, Some(2)), (lanes.0, Some(7))]
    );
    let stale = store.set_site(&depot, 9, None, Some(first.revision)).await;
    assert!(matches!(stale, Err(SiteError::Changed { .. })), "{stale:?}");
    let listed = store.sites(None, None, 1).await.unwrap();
    assert_eq!((listed.items.len(), listed.more), (1, true));
    let rest = store
        .sites(None, Some(listed.items[0].id), 9)
        .await
        .unwrap();
    assert_eq!((rest.items, rest.more), (vec![second.clone()], false));
    store
        .clear_site(&depot, Some(second.revision))
        .await
        .unwrap();
    assert_eq!(changes(store, second.revision).await, [(lanes.0, None)]);
    let gone = store.clear_site(&depot, None).await;
    assert!(matches!(gone, Err(SiteError::NotFound(_))), "{gone:?}");
    assert_eq!(store.sites(None, None, 9).await.unwrap().items.len(), 1);
    assert_eq!(store.site(&depot).await.unwrap(), None);
}

pub(crate) async fn an_order_names_the_site_of_its_device(store: &impl Store) {
    let world = World::new(store);
    let package = world.package("p", "V2", 1).await;
    let mut at_depot = AttributesChange::default();
    at_depot
        .set(Attribute::Site, Some("depot-4".to_owned()))
        .unwrap();
    let device = |endpoint: &str, attributes| NewDevice {
        endpoint: endpoint.to_owned(),
        product: "p".to_owned(),
        psk: None,
        mqtt: None,
        attributes,
        via: None,
    };
    let devices = [
        device("d0", at_depot),
        device("d1", AttributesChange::default()),
    ];
    store.add_devices(&devices, T0).await.unwrap();
    let task = (store.create_task(&new_task(&package, Selection::All)).await).unwrap();
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
    let site = Further::of(Some(key("depot-4").lane()), None);
    assert_eq!(further, [site, Further::NONE]);
}
