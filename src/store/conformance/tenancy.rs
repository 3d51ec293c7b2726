//! To whom things belong.

use std::collections::HashSet;

use super::{Store, T0, World, new_package, new_task, t};
use crate::{
    access::{Grant, Part, Role, Tenants},
    audit::Entry,
    filter::Filter,
    ledger::{AttributesChange, TaskId},
    store::{
        AddTokenError, AddUserError, AddedDevice, AuditFilter, CancelUpgradeError,
        ChangeUpgradeError, CreateTaskError, DeviceFilter, DeviceUpdate, ExcludeError, GroupError,
        Members, NewGroup, NewMembers, NewTask, NewTenant, NewToken, NewUser, NewWebhook, Origin,
        ProductUpdate, Selection, Signatures, StoredPsk, TaskRecord, TenantError,
        UpdateDeviceError, UpdateProductError, UpgradeState, Within,
    },
    tenant::TenantId,
};

fn id(text: &str) -> TenantId {
    text.parse().unwrap()
}

async fn add(store: &impl Store, tenant: &str) -> TenantId {
    let new = NewTenant {
        id: id(tenant),
        name: tenant.to_uppercase(),
        created_at: T0,
    };
    store.add_tenant(&new).await.unwrap().id
}

/// Two tenants with a product of the same name, devices and a package of it each, and a task for all of these.
async fn two(store: &impl Store) -> (TaskRecord, TaskRecord) {
    add(store, "acme").await;
    let world = World::new(store);
    let ours = world.package("p", "V2", 1).await;
    let theirs = world.package("acme/p", "V2", 2).await;
    world.devices("p", &["d0", "d1"]).await;
    world.devices("acme/p", &["a0", "a1", "a2"]).await;
    let ours = store.create_task(&new_task(&ours, Selection::All)).await;
    let theirs = store.create_task(&new_task(&theirs, Selection::All)).await;
    (ours.unwrap(), theirs.unwrap())
}

async fn listed(store: &impl Store, filter: &str) -> Vec<String> {
    let filter = DeviceFilter {
        filter: Some(Filter::parse(filter).unwrap()),
        now: T0,
        ..DeviceFilter::default()
    };
    let page = store.devices(&filter, None, 100).await.unwrap();
    let names = page.items.into_iter().map(|it| it.device.endpoint);
    let names: Vec<String> = names.collect();
    let counted = store.count_devices(&filter).await.unwrap();
    assert_eq!(counted, names.len() as u64);
    names
}

pub(crate) async fn there_is_always_one_tenant(store: &impl Store) {
    let page = store.tenants(None, 9).await.unwrap();
    assert_eq!(page.items.len(), 1);
    assert_eq!(page.items[0].id, TenantId::default());
    let deleted = store.delete_tenant(&TenantId::default(), T0, None).await;
    assert!(matches!(deleted, Err(TenantError::Default(_))));
    let renamed = store
        .rename_tenant(&TenantId::default(), "Carrier", None)
        .await;
    assert_eq!(renamed.unwrap().name, "Carrier");
}

pub(crate) async fn a_tenant_is_added_renamed_and_deleted(store: &impl Store) {
    let acme = add(store, "acme").await;
    add(store, "zeta").await;
    let new = NewTenant {
        id: acme.clone(),
        name: "again".to_owned(),
        created_at: T0,
    };
    let again = store.add_tenant(&new).await;
    assert!(matches!(again, Err(TenantError::Taken(_))));
    let ids = async |after: Option<&TenantId>, limit| {
        let page = store.tenants(after, limit).await.unwrap();
        let ids: Vec<String> = page.items.into_iter().map(|it| it.id.into()).collect();
        (ids.join(" "), page.more)
    };
    assert_eq!(ids(None, 2).await, ("acme default".to_owned(), true));
    let behind = ids(Some(&TenantId::default()), 2).await;
    assert_eq!(behind, ("zeta".to_owned(), false));
    let renamed = store.rename_tenant(&acme, "Acme", Some(1)).await.unwrap();
    assert_eq!((&*renamed.name, renamed.revision), ("Acme", 2));
    let late = store.rename_tenant(&acme, "Late", Some(1)).await;
    assert!(matches!(
        late,
        Err(TenantError::Changed { revision: 2, .. })
    ));
    let late = store.delete_tenant(&acme, t(1), Some(1)).await;
    assert!(matches!(late, Err(TenantError::Changed { .. })));
    store.delete_tenant(&acme, t(1), Some(2)).await.unwrap();
    assert_eq!(store.tenant(&acme).await.unwrap(), None);
    assert_eq!(ids(None, 9).await, ("default zeta".to_owned(), false));
    let gone = store.delete_tenant(&acme, t(1), None).await;
    assert!(matches!(gone, Err(TenantError::NotFound(_))));
    // what is kept of it is not another's
    let again = store.add_tenant(&new).await;
    assert!(matches!(again, Err(TenantError::Taken(_))));
}

pub(crate) async fn a_tenant_with_anything_is_not_deleted(store: &impl Store) {
    let (_, theirs) = two(store).await;
    let acme = id("acme");
    let what = async || match store.delete_tenant(&acme, t(9), None).await {
        Err(TenantError::InUse { what, .. }) => what,
        other => panic!("{other:?}"),
    };
    assert_eq!(what().await, "devices");
    for device in ["a0", "a1", "a2"] {
        assert!(store.remove_device(device, None, None, t(1)).await.unwrap());
    }
    // a removed device is kept until the rollout has seen it
    for device in ["a0", "a1", "a2"] {
        assert!(store.forget_removed(device).await.unwrap());
    }
    assert_eq!(what().await, "tasks");
    store.delete_task(theirs.id).await.unwrap();
    assert_eq!(what().await, "packages");
    store.delete_package(theirs.package, t(2)).await.unwrap();
    let group = NewGroup {
        tenant: acme.clone(),
        name: "g".to_owned(),
        members: NewMembers::Listed(Vec::new()),
        created_at: T0,
    };
    let group = store.add_group(&group).await.unwrap().id;
    assert_eq!(what().await, "groups");
    store.remove_group(group, None).await.unwrap();
    let webhook = store.add_webhook(&webhook(Some("acme"))).await.unwrap().id;
    assert_eq!(what().await, "webhooks");
    store.remove_webhook(webhook).await.unwrap();
    let token = NewToken {
        name: "t".to_owned(),
        hash: [1; 32],
        grants: vec![Grant {
            tenant: Tenants::One(acme.clone()),
            ..Grant::of(Role::Viewer)
        }],
        created_by: "admin-token".to_owned(),
        created_at: T0,
        expires_at: None,
        share: 1,
    };
    let token = store.add_token(&token).await.unwrap();
    assert_eq!(token.grants[0].tenant, Tenants::One(acme.clone()));
    assert_eq!(what().await, "tokens");
    store.revoke_token(token.id).await.unwrap();
    store.delete_tenant(&acme, t(9), None).await.unwrap();
    // and nothing can be made for it any more
    let package = store.insert_package(&new_package("acme/p", "V3", 7)).await;
    assert!(package.is_err());
    let device = crate::store::NewDevice {
        attributes: AttributesChange::default(),
        endpoint: "late".to_owned(),
        product: "acme/p".to_owned(),
        psk: None,
        mqtt: None,
        via: None,
    };
    assert!(store.add_devices(&[device], T0).await.is_err());
}

pub(crate) async fn what_has_the_same_name_belongs_to_two(store: &impl Store) {
    let (ours, theirs) = two(store).await;
    assert_eq!((ours.total(), theirs.total()), (2, 3));
    assert_eq!((&*ours.product, &*theirs.product), ("p", "acme/p"));
    assert_eq!(listed(store, "tenant==acme").await, ["a0", "a1", "a2"]);
    assert_eq!(listed(store, "tenant==default").await, ["d0", "d1"]);
    assert_eq!(listed(store, "tenant==zeta").await, [""; 0]);
    assert_eq!(listed(store, "product==p").await.len(), 5);
    let both = "product==p;tenant==acme;endpoint!=a1";
    assert_eq!(listed(store, both).await, ["a0", "a2"]);
    World::new(store).devices("q", &["q0"]).await;
    assert_eq!(listed(store, "product==q").await, ["q0"]);
    assert_eq!(listed(store, "product==none").await, [""; 0]);
    // packages of a page come of both, or of one
    let packages = async |tenants: Option<&[TenantId]>| {
        let page = store.packages(tenants, None, 1).await.unwrap();
        (page.items[0].package.product.clone(), page.more)
    };
    assert_eq!(packages(None).await, ("acme/p".to_owned(), true));
    let default = [TenantId::default()];
    assert_eq!(packages(Some(&default)).await, ("p".to_owned(), false));
    let several = [TenantId::default(), id("acme")];
    let several = packages(Some(&several)).await;
    assert_eq!(several, ("acme/p".to_owned(), true));
    let none = store.packages(Some(&[]), None, 9).await.unwrap();
    assert!(none.items.is_empty());
    // a task takes devices of its own tenant alone
    let list = Selection::Devices(vec!["d0".to_owned(), "a0".to_owned()]);
    let package = store.package(theirs.package).await.unwrap().unwrap();
    let wrong = store.create_task(&new_task(&package, list)).await;
    assert!(
        matches!(&wrong, Err(CreateTaskError::DevicesOfOtherProduct { first, .. }) if *first == ["d0"]),
        "{wrong:?}"
    );
}

pub(crate) async fn names_are_unique_across_tenants(store: &impl Store) {
    add(store, "acme").await;
    let device = |endpoint: &str, product: &str, identity: &str| crate::store::NewDevice {
        attributes: AttributesChange::default(),
        endpoint: endpoint.to_owned(),
        product: product.to_owned(),
        mqtt: None,
        psk: Some(StoredPsk {
            identity: identity.to_owned(),
            sealed: vec![1],
        }),
        via: None,
    };
    let add = async |device| store.add_devices(&[device], T0).await.unwrap().pop();
    assert_eq!(add(device("d", "p", "i")).await, Some(AddedDevice::Added));
    let taken = add(device("d", "acme/p", "j")).await;
    assert_eq!(taken, Some(AddedDevice::OtherProduct("p".to_owned())));
    let taken = add(device("e", "acme/p", "i")).await;
    assert!(matches!(taken, Some(AddedDevice::IdentityTaken { endpoint, .. }) if endpoint == "d"));
}

pub(crate) async fn a_device_is_given_to_another_tenant_when_nothing_runs(store: &impl Store) {
    let (ours, _) = two(store).await;
    let give = async |endpoint: &str| {
        let update = DeviceUpdate {
            product: Some("acme/p".to_owned()),
            ..DeviceUpdate::default()
        };
        store.update_device(endpoint, &update).await
    };
    let busy = give("d0").await;
    assert!(matches!(busy, Err(UpdateDeviceError::Busy(_))), "{busy:?}");
    store.stop_task(ours.id, t(1), false).await.unwrap();
    let group = NewGroup {
        tenant: TenantId::default(),
        name: "g".to_owned(),
        members: NewMembers::Listed(vec!["d0".to_owned(), "d1".to_owned()]),
        created_at: T0,
    };
    let group = store.add_group(&group).await.unwrap().id;
    let excluded = ["d0".to_owned(), "d1".to_owned()];
    store.exclude(&excluded, "loan", None, t(1)).await.unwrap();
    give("d0").await.unwrap();
    let device = store.device("d0").await.unwrap().unwrap();
    assert_eq!((&*device.device.product, device.excluded), ("acme/p", None));
    let members = store.group(group).await.unwrap().unwrap().members;
    assert_eq!(members, Members::Listed(1));
    // within a tenant nothing is lost
    let other = DeviceUpdate {
        product: Some("q".to_owned()),
        ..DeviceUpdate::default()
    };
    store.update_device("d1", &other).await.unwrap();
    let device = store.device("d1").await.unwrap().unwrap();
    assert_eq!(device.excluded.as_deref(), Some("loan"));
    // nor does whoever is added under a name get what another has said of it
    assert!(store.remove_device("d1", None, None, t(2)).await.unwrap());
    let device = crate::store::NewDevice {
        attributes: AttributesChange::default(),
        endpoint: "d1".to_owned(),
        product: "acme/p".to_owned(),
        psk: None,
        mqtt: None,
        via: None,
    };
    store.add_devices(&[device], t(3)).await.unwrap();
    let device = store.device("d1").await.unwrap().unwrap();
    assert_eq!(
        (device.device.product, device.excluded),
        ("acme/p".to_owned(), None)
    );
}

/// Whoever had a device of a name before brings no package onto the device that another has added under it.
pub(crate) async fn nothing_is_taken_up_again_on_a_device_of_another_tenant(store: &impl Store) {
    let (ours, theirs) = two(store).await;
    let world = World::new(store);
    let upgrades = world.ids(theirs.id).await;
    for upgrade in &upgrades[..2] {
        store.cancel_upgrade(*upgrade, None, t(1)).await.unwrap();
    }
    assert!(store.remove_device("a0", None, None, t(2)).await.unwrap());
    world.devices("p", &["a0"]).await;
    let again = store.retry_upgrade(upgrades[0], None, t(3)).await;
    let refused = matches!(again, Err(ChangeUpgradeError::DeviceRemoved(id)) if id == upgrades[0]);
    assert!(refused, "{again:?}");
    let detail = store.upgrade(upgrades[0]).await.unwrap().unwrap();
    assert_eq!(detail.upgrade.state, UpgradeState::Cancelled);
    // nor by itself for its next owner, when it was given away
    store
        .cancel_upgrade(world.ids(ours.id).await[0], None, t(3))
        .await
        .unwrap();
    let given = DeviceUpdate {
        product: Some("acme/p".to_owned()),
        ..DeviceUpdate::default()
    };
    store.update_device("d0", &given).await.unwrap();
    let again = store
        .retry_upgrade(world.ids(ours.id).await[0], None, t(4))
        .await;
    assert!(again.is_err(), "{again:?}");
    // its own is
    store.retry_upgrade(upgrades[1], None, t(4)).await.unwrap();
    let detail = store.upgrade(upgrades[1]).await.unwrap().unwrap();
    assert_eq!(detail.upgrade.state, UpgradeState::Pending);
}

pub(crate) async fn a_device_is_changed_and_removed_by_those_for_whom_it_is_there(
    store: &impl Store,
) {
    two(store).await;
    let within = |filter: &str| Within {
        filter: Filter::parse(filter).unwrap(),
        now: T0,
    };
    let change = async |filter: &str| {
        let update = DeviceUpdate {
            secure: Some(true),
            within: Some(within(filter)),
            ..DeviceUpdate::default()
        };
        store.update_device("a0", &update).await
    };
    for others in ["tenant==default", "tenant==acme;site==north"] {
        let refused = change(others).await;
        assert!(
            matches!(refused, Err(UpdateDeviceError::NotFound(_))),
            "{refused:?}"
        );
        let others = within(others);
        let removed = store.remove_device("a0", None, Some(&others), T0).await;
        assert!(!removed.unwrap());
    }
    change("tenant=in=(default,acme)").await.unwrap();
    let theirs = within("tenant==acme");
    let removed = store.remove_device("a0", None, Some(&theirs), T0).await;
    assert!(removed.unwrap());
}

pub(crate) async fn upgrades_and_exclusions_are_changed_by_those_for_whom_the_device_is_there(
    store: &impl Store,
) {
    let (_, theirs) = two(store).await;
    let upgrade = World::new(store).ids(theirs.id).await[0];
    let at = store.upgrade(upgrade).await.unwrap().unwrap();
    let device = vec![at.upgrade.endpoint.clone()];
    let within = |filter: &str| Within {
        filter: Filter::parse(filter).unwrap(),
        now: T0,
    };
    let (others, theirs) = (within("tenant==default"), within("tenant==acme"));
    let not_found = |answer: Result<_, ChangeUpgradeError>| {
        assert!(matches!(answer, Err(ChangeUpgradeError::NotFound(_))));
    };
    let others = Some(&others);
    not_found(store.retry_upgrade(upgrade, others, T0).await);
    not_found(store.skip_upgrade(upgrade, others, T0).await);
    not_found((store.confirm_upgrade(upgrade, others, true, "anna", T0)).await);
    let cancelled = store.cancel_upgrade(upgrade, others, T0).await;
    assert!(matches!(cancelled, Err(CancelUpgradeError::NotFound(_))));
    let state = store.upgrade(upgrade).await.unwrap().unwrap().upgrade.state;
    assert_eq!(state, UpgradeState::Pending);

    let excluded = store.exclude(&device, "loan", others, T0).await;
    assert!(matches!(
        excluded,
        Err(ExcludeError::UnknownDevices { count: 1, .. })
    ));
    assert_eq!(store.exclusion(&device[0]).await.unwrap(), None);
    (store.exclude(&device, "loan", Some(&theirs), T0).await).unwrap();
    assert!(!store.end_exclusion(&device[0], None, others).await.unwrap());
    assert!((store.end_exclusion(&device[0], None, Some(&theirs)).await).unwrap());
    let cancelled = store.cancel_upgrade(upgrade, Some(&theirs), T0).await;
    assert_eq!(cancelled.unwrap().state, UpgradeState::Cancelled);
}

pub(crate) async fn groups_have_devices_of_their_tenant(store: &impl Store) {
    let (_, theirs) = two(store).await;
    let new = |tenant: &str, members| NewGroup {
        tenant: id(tenant),
        name: "all".to_owned(),
        members,
        created_at: T0,
    };
    let everybody = Filter::parse("endpoint==*").unwrap();
    let ours = new("default", NewMembers::Matching(everybody.clone()));
    let ours = store.add_group(&ours).await.unwrap();
    // names are the tenant's
    let their_group = new("acme", NewMembers::Matching(everybody));
    let their_group = store.add_group(&their_group).await.unwrap();
    let again = new("acme", NewMembers::Listed(Vec::new()));
    let again = store.add_group(&again).await;
    assert!(matches!(again, Err(GroupError::NameTaken { group, .. }) if group == their_group.id));
    for (group, names) in [
        (&ours, vec!["d0", "d1"]),
        (&their_group, vec!["a0", "a1", "a2"]),
    ] {
        let filter = DeviceFilter {
            group: Some(group.id),
            now: T0,
            ..DeviceFilter::default()
        };
        let page = store.devices(&filter, None, 9).await.unwrap();
        let found: Vec<_> = page.items.iter().map(|it| &*it.device.endpoint).collect();
        assert_eq!(found, names);
        assert_eq!(
            store.count_devices(&filter).await.unwrap(),
            names.len() as u64
        );
    }
    let mut list = new(
        "acme",
        NewMembers::Listed(vec!["a0".to_owned(), "d0".to_owned()]),
    );
    list.name = "list".to_owned();
    let list = store.add_group(&list).await;
    assert!(matches!(
        list,
        Err(GroupError::UnknownDevices { count: 1, .. })
    ));
    let groups = async |tenants: Option<&[TenantId]>| {
        let page = store.groups(tenants, None, 9).await.unwrap();
        page.items.into_iter().map(|it| it.id).collect::<Vec<_>>()
    };
    assert_eq!(groups(None).await, [their_group.id, ours.id]);
    assert_eq!(groups(Some(&[id("acme")])).await, [their_group.id]);
    let several = [id("default"), id("acme")];
    assert_eq!(groups(Some(&several)).await, [their_group.id, ours.id]);
    assert_eq!(groups(Some(&[])).await, []);
    let package = store.package(theirs.package).await.unwrap().unwrap();
    let of_group = new_task(&package, Selection::Group(their_group.id));
    assert_eq!(store.create_task(&of_group).await.unwrap().total(), 3);
}

pub(crate) async fn tasks_are_listed_by_their_tenants(store: &impl Store) {
    let (ours, theirs) = two(store).await;
    let package = store.package(theirs.package).await.unwrap().unwrap();
    let north = Filter::parse("endpoint==a0").unwrap();
    let narrowed = NewTask {
        origin: Origin {
            by: "token:7:a".to_owned(),
            scope: Some(north.clone()),
        },
        ..new_task(&package, Selection::All)
    };
    let narrowed = store.create_task(&narrowed).await.unwrap();
    let list = async |parts: &[Part], limit| {
        let page = store.tasks_within(parts, false, None, limit).await.unwrap();
        let ids: Vec<TaskId> = page.items.iter().map(|task| task.id).collect();
        (ids, page.more)
    };
    let acme = Part::of(id("acme"));
    let some = Part {
        filter: Some(north.clone()),
        ..acme.clone()
    };
    let others = Part {
        tenant: Some(id("default")),
        filter: Some(north),
    };
    let one = std::slice::from_ref;
    assert_eq!(
        list(one(&acme), 9).await,
        (vec![narrowed.id, theirs.id], false)
    );
    assert_eq!(list(one(&acme), 1).await, (vec![narrowed.id], true));
    assert_eq!(list(one(&some), 9).await, (vec![narrowed.id], false));
    assert_eq!(list(one(&others), 9).await, (vec![], false));
    let both = [acme, some];
    assert_eq!(list(&both, 2).await, (vec![narrowed.id, theirs.id], false));
    let all = [ours.id, theirs.id, narrowed.id, TaskId(999)];
    let own = store.tasks_of(&[id("acme")], &all).await.unwrap();
    assert_eq!(own, HashSet::from([theirs.id, narrowed.id]));
    assert!(store.tasks_of(&[], &all).await.unwrap().is_empty());
}

fn webhook(tenant: Option<&str>) -> NewWebhook {
    NewWebhook {
        tenant: tenant.map(id),
        task: None,
        url: "http://hooks.example/".to_owned(),
        secret: vec![1; 24],
        vault: None,
        created_at: T0,
    }
}

pub(crate) async fn webhooks_are_told_what_is_their_tenant_s(store: &impl Store) {
    let (ours, theirs) = two(store).await;
    let all = store.add_webhook(&webhook(None)).await.unwrap();
    let default = store.add_webhook(&webhook(Some("default"))).await.unwrap();
    let acme = store.add_webhook(&webhook(Some("acme"))).await.unwrap();
    let of_task = NewWebhook {
        task: Some(theirs.id),
        ..webhook(None)
    };
    let of_task = store.add_webhook(&of_task).await.unwrap();
    assert_eq!(of_task.tenant, Some(id("acme")));
    let listed = async |tenants: &[TenantId]| {
        let page = store.webhooks(Some(tenants), None, 9).await.unwrap();
        page.items.into_iter().map(|it| it.id).collect::<Vec<_>>()
    };
    assert_eq!(listed(&[id("acme")]).await, [acme.id, of_task.id]);
    assert_eq!(listed(&[id("default")]).await, [default.id]);
    for task in [ours.id, theirs.id] {
        store.stop_task(task, t(1), false).await.unwrap();
    }
    let told = async |webhook| {
        let due = store.due_deliveries(webhook, t(2), 100).await.unwrap();
        let mut tasks: Vec<TaskId> = due.iter().map(|it| it.event.task).collect();
        tasks.dedup();
        (due.len(), tasks)
    };
    // the upgrades, and the task itself
    assert_eq!(told(all.id).await, (7, vec![ours.id, theirs.id]));
    assert_eq!(told(default.id).await, (3, vec![ours.id]));
    assert_eq!(told(acme.id).await, (4, vec![theirs.id]));
    assert_eq!(told(of_task.id).await, (4, vec![theirs.id]));
}

pub(crate) async fn rows_of_the_audit_log_are_listed_by_their_tenants(store: &impl Store) {
    for tenant in [None, Some("default"), Some("acme"), Some("acme")] {
        let entry = Entry {
            at: T0,
            who: "a".to_owned(),
            operation: "x".to_owned(),
            tenant: tenant.map(str::to_owned),
            ..Entry::default()
        };
        store.add_to_audit(&[entry]).await.unwrap();
    }
    let list = async |tenants: Option<Vec<TenantId>>, limit| {
        let filter = AuditFilter {
            tenants,
            who: Some("a".to_owned()),
            ..AuditFilter::default()
        };
        let page = store.audit(&filter, None, limit).await.unwrap();
        let numbers: Vec<u64> = page.items.iter().map(|row| row.number).collect();
        (numbers, page.more)
    };
    assert_eq!(list(None, 9).await, (vec![4, 3, 2, 1], false));
    assert_eq!(list(Some(vec![id("acme")]), 9).await, (vec![4, 3], false));
    assert_eq!(list(Some(vec![id("acme")]), 1).await, (vec![4], true));
    let both = Some(vec![id("default"), id("acme")]);
    assert_eq!(list(both, 2).await, (vec![4, 3], true));
    assert_eq!(list(Some(vec![]), 9).await, (vec![], false));
    // the one that everything belongs to is not written down
    let row = store.audit_row(2).await.unwrap().unwrap();
    assert!(!row.text.contains("tenant"), "{}", row.text);
    let row = store.audit_row(3).await.unwrap().unwrap();
    assert!(row.text.contains(r#""tenant":"acme""#), "{}", row.text);
}

pub(crate) async fn a_tenant_has_its_share_of_what_there_is(store: &impl Store) {
    let (acme, beta) = (add(store, "acme").await, add(store, "beta").await);
    let on = |tenants: &[&TenantId]| -> Vec<Grant> {
        let grant = |tenant: &&TenantId| Grant {
            tenant: Tenants::One((*tenant).clone()),
            ..Grant::of(Role::Viewer)
        };
        tenants.iter().map(grant).collect()
    };
    let default = TenantId::default();
    let token = async |name: &str, grants: Vec<Grant>| {
        let mut hash = [0; 32];
        hash[..name.len()].copy_from_slice(name.as_bytes());
        let new = NewToken {
            name: name.to_owned(),
            hash,
            grants,
            created_by: "admin-token".to_owned(),
            created_at: T0,
            expires_at: None,
            share: 2,
        };
        store.add_token(&new).await
    };
    let first = token("a1", on(&[&acme, &acme])).await.unwrap();
    token("a2", on(&[&acme, &beta])).await.unwrap();
    for taken in [on(&[&acme]), on(&[&beta, &acme])] {
        let refused = token("a3", taken).await;
        assert!(
            matches!(&refused, Err(AddTokenError::ShareTaken { tenant, share: 2 }) if *tenant == acme),
            "{refused:?}"
        );
    }
    token("b", on(&[&beta])).await.unwrap();
    for name in ["d1", "d2", "d3"] {
        token(name, on(&[&default])).await.unwrap();
    }
    for name in ["w1", "w2", "w3"] {
        token(name, vec![Grant::of(Role::Viewer)]).await.unwrap();
    }
    store.revoke_token(first.id).await.unwrap();
    token("a3", on(&[&acme])).await.unwrap();

    let user = async |name: &str, grants: Vec<Grant>| {
        let new = NewUser {
            name: name.to_owned(),
            password: "$hash".to_owned(),
            grants,
            created_by: "admin-token".to_owned(),
            created_at: T0,
            share: 1,
        };
        store.add_user(&new).await
    };
    user("anna", on(&[&acme])).await.unwrap();
    let refused = user("bert", on(&[&acme])).await;
    assert!(
        matches!(refused, Err(AddUserError::ShareTaken { .. })),
        "{refused:?}"
    );
    for name in ["carl", "dora"] {
        user(name, on(&[&default])).await.unwrap();
    }

    let product = async |key: &str| {
        let new = ProductUpdate {
            share: Some(1),
            signatures: Some(Signatures::Required),
            ..ProductUpdate::default()
        };
        store.create_product(key, &new).await?;
        store.update_product(key, &new, None).await
    };
    for key in ["acme/a", "beta/a", "a", "b"] {
        product(key).await.unwrap();
    }
    let refused = product("acme/b").await;
    assert!(
        matches!(&refused, Err(UpdateProductError::ShareTaken { tenant, .. }) if tenant == "acme"),
        "{refused:?}"
    );
    let by_ruling = ProductUpdate {
        share: Some(1),
        ..Signatures::Required.into()
    };
    let refused = store.update_product("acme/b", &by_ruling, None).await;
    assert!(
        matches!(refused, Err(UpdateProductError::ShareTaken { .. })),
        "{refused:?}"
    );
}
