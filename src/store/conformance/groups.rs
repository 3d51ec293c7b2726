use super::{
    T0, World, new_task,
    rollouts::{move_on, startable},
    t,
};
use crate::{
    filter::Filter,
    ledger::TaskState,
    store::{
        CreateTaskError, DeviceFilter, GroupError, GroupId, GroupRecord, GroupUpdate, Members,
        NewGroup, NewMembers, NewTask, Selection, Store,
    },
    task::Move,
    tenant::TenantId,
};

fn names(endpoints: &[&str]) -> Vec<String> {
    endpoints.iter().map(|it| (*it).to_owned()).collect()
}

fn filter(text: &str) -> Filter {
    Filter::parse(text).unwrap()
}

async fn add(
    store: &impl Store,
    name: &str,
    members: NewMembers,
) -> Result<GroupRecord, GroupError> {
    let new = NewGroup {
        tenant: TenantId::default(),
        name: name.to_owned(),
        members,
        created_at: T0,
    };
    store.add_group(&new).await
}

async fn list(store: &impl Store, endpoints: &[&str]) -> GroupRecord {
    let members = NewMembers::Listed(names(endpoints));
    add(store, "a list", members).await.unwrap()
}

async fn matching(store: &impl Store, text: &str) -> GroupRecord {
    let members = NewMembers::Matching(filter(text));
    add(store, "a filter", members).await.unwrap()
}

/// The devices of a group, each on a page of its own.
async fn members(store: &impl Store, group: GroupId, filter: Option<Filter>) -> String {
    let filter = DeviceFilter {
        group: Some(group),
        filter,
        now: T0,
        ..DeviceFilter::default()
    };
    let mut found = Vec::new();
    let mut after = None;
    loop {
        let page = (store.devices(&filter, after.as_deref(), 1).await).unwrap();
        found.extend(page.items.into_iter().map(|it| it.device.endpoint));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let count = store.count_devices(&filter).await.unwrap();
    assert_eq!(count, found.len() as u64);
    found.join(" ")
}

pub(crate) async fn a_group_is_a_list_or_a_filter(store: &impl Store) {
    World::with_devices(store, 4).await;
    let listed = list(store, &["d0", "d2", "d0"]).await;
    assert_eq!(listed.members, Members::Listed(2));
    let matching = matching(store, "endpoint==d1 or endpoint==d2").await;
    let expected = Members::Matching(filter("endpoint==d1,endpoint==d2"));
    assert_eq!(matching.members, expected);
    for group in [&listed, &matching] {
        assert_eq!(store.group(group.id).await.unwrap().as_ref(), Some(group));
    }
    assert_eq!(store.group(GroupId(99)).await.unwrap(), None);
    let page = store.groups(None, None, 1).await.unwrap();
    assert_eq!(
        (&page.items[..], page.more),
        (&[matching.clone()][..], true)
    );
    let page = store.groups(None, Some(matching.id), 9).await.unwrap();
    assert_eq!((&page.items[..], page.more), (&[listed.clone()][..], false));
    assert_eq!(members(store, listed.id, None).await, "d0 d2");
    assert_eq!(members(store, matching.id, None).await, "d1 d2");
    assert_eq!(members(store, GroupId(99), None).await, "");
    for group in [listed.id, matching.id] {
        let both = members(store, group, Some(filter("endpoint!=d2"))).await;
        assert_eq!(both, if group == listed.id { "d0" } else { "d1" });
    }
}

pub(crate) async fn a_group_is_changed_as_its_kind_allows(store: &impl Store) {
    World::with_devices(store, 4).await;
    let listed = list(store, &["d0"]).await;
    let matching = matching(store, "endpoint==d1").await;
    let update = GroupUpdate {
        name: Some("north".to_owned()),
        add: names(&["d1", "d2", "d0"]),
        remove: names(&["d0", "d3", "nobody"]),
        ..GroupUpdate::default()
    };
    let changed = store.update_group(listed.id, &update).await.unwrap();
    assert_eq!(changed.name, "north");
    assert_eq!(changed.members, Members::Listed(2));
    assert_eq!(members(store, listed.id, None).await, "d1 d2");
    let refused = store.update_group(matching.id, &update).await;
    assert!(matches!(refused, Err(GroupError::IsFilter(id)) if id == matching.id));
    let update = GroupUpdate {
        filter: Some(filter("endpoint==d3")),
        ..GroupUpdate::default()
    };
    store.update_group(matching.id, &update).await.unwrap();
    assert_eq!(members(store, matching.id, None).await, "d3");
    let refused = store.update_group(listed.id, &update).await;
    assert!(matches!(refused, Err(GroupError::IsList(id)) if id == listed.id));
    let refused = store.update_group(GroupId(99), &update).await;
    assert!(matches!(refused, Err(GroupError::NotFound(GroupId(99)))));
}

pub(crate) async fn groups_have_names_of_their_own_and_known_devices(store: &impl Store) {
    World::with_devices(store, 2).await;
    let first = list(store, &["d0"]).await;
    let taken = add(store, "a list", NewMembers::Listed(Vec::new())).await;
    assert!(matches!(taken, Err(GroupError::NameTaken { group, .. }) if group == first.id));
    let second = matching(store, "endpoint==d1").await;
    let rename = |name: &str| GroupUpdate {
        name: Some(name.to_owned()),
        ..GroupUpdate::default()
    };
    let taken = store.update_group(second.id, &rename("a list")).await;
    assert!(matches!(taken, Err(GroupError::NameTaken { .. })));
    let own = store.update_group(second.id, &rename("a filter")).await;
    let revision = second.revision + 1;
    assert_eq!(
        own.unwrap(),
        GroupRecord {
            revision,
            ..second.clone()
        }
    );
    let update = GroupUpdate {
        add: names(&["d1", "x", "y"]),
        ..GroupUpdate::default()
    };
    match store.update_group(first.id, &update).await {
        Err(GroupError::UnknownDevices { count: 2, first }) => assert_eq!(first, ["x", "y"]),
        other => panic!("{other:?}"),
    }
    assert_eq!(
        members(store, first.id, None).await,
        "d0",
        "nothing was written"
    );
    store.remove_group(first.id, None).await.unwrap();
    let again = list(store, &[]).await;
    assert!(again.id > second.id);
    assert_eq!(again.members, Members::Listed(0));
}

pub(crate) async fn a_removed_device_leaves_its_groups(store: &impl Store) {
    let (world, _) = World::with_devices(store, 3).await;
    let group = list(store, &["d0", "d1", "d2"]).await;
    store.remove_device("d1", None, None, t(1)).await.unwrap();
    let left = store.group(group.id).await.unwrap().unwrap();
    assert_eq!(left.members, Members::Listed(2));
    world.devices("p", &["d1"]).await;
    assert_eq!(members(store, group.id, None).await, "d0 d2");
    store.remove_device("d2", None, None, t(2)).await.unwrap();
    store.forget_removed("d2").await.unwrap();
    assert_eq!(members(store, group.id, None).await, "d0");
}

pub(crate) async fn a_task_selects_by_filter_or_group(store: &impl Store) {
    let (world, package) = World::with_devices(store, 4).await;
    world.devices("q", &["z"]).await;
    let listed = list(store, &["d1", "d3", "z"]).await;
    let matching = matching(store, "endpoint==d0,endpoint==z").await;
    for (selection, expected) in [
        (Selection::Filter(filter("endpoint>d1")), "d2 d3"),
        (Selection::Filter(filter("created==-0s")), "d0 d1 d2 d3"),
        (Selection::Group(listed.id), "d1 d3"),
        (Selection::Group(matching.id), "d0"),
    ] {
        let new = new_task(&package, selection);
        let task = store.create_task(&new).await.unwrap();
        let upgrades = store.upgrades(task.id, None, None, 9).await.unwrap().items;
        let endpoints: Vec<_> = upgrades.iter().map(|u| u.endpoint.as_str()).collect();
        assert_eq!(endpoints.join(" "), expected);
        assert_eq!(task.total(), endpoints.len() as u64);
    }
    let tasks = store.tasks(false, None, 9).await.unwrap().items.len();
    let nobody = new_task(&package, Selection::Filter(filter("product==q")));
    let refused = store.create_task(&nobody).await;
    assert!(matches!(refused, Err(CreateTaskError::NoDevices { .. })));
    let unknown = new_task(&package, Selection::Group(GroupId(99)));
    let refused = store.create_task(&unknown).await;
    assert!(matches!(
        refused,
        Err(CreateTaskError::GroupNotFound(GroupId(99)))
    ));
    assert_eq!(
        store.tasks(false, None, 9).await.unwrap().items.len(),
        tasks
    );
}

/// What thingsboard's users miss: an update for a profile or a group that was planned for later does not come (thingsboard #7987).
pub(crate) async fn a_task_that_starts_later_begins_at_its_time_whomever_it_is_for(
    store: &impl Store,
) {
    let (_, package) = World::with_devices(store, 2).await;
    let listed = list(store, &["d0"]).await;
    let matching = matching(store, "endpoint==d1").await;
    let selections = [
        Selection::Group(listed.id),
        Selection::Group(matching.id),
        Selection::Product("p".to_owned()),
        Selection::All,
    ];
    for selection in selections {
        let new = NewTask {
            start_at: Some(t(300)),
            ..new_task(&package, selection)
        };
        let task = store.create_task(&new).await.unwrap();
        assert_eq!(task.state, TaskState::Scheduled);
        assert_eq!(move_on(store, 299).await, []);
        assert_eq!(startable(store, 299, 9).await, []);
        assert_eq!(move_on(store, 300).await, [Move::Begin(task.id)]);
        assert_eq!(startable(store, 300, 9).await.len() as u64, task.total());
        store.stop_task(task.id, t(301), false).await.unwrap();
    }
}

pub(crate) async fn a_group_stays_while_a_task_uses_it(store: &impl Store) {
    let (_, package) = World::with_devices(store, 2).await;
    let group = list(store, &["d0", "d1"]).await;
    let new = new_task(&package, Selection::Group(group.id));
    let task = store.create_task(&new).await.unwrap();
    match store.remove_group(group.id, None).await {
        Err(error @ GroupError::InUse { .. }) => {
            let told = error.to_string();
            let expected = format!("is used by task {} (\"night\"); wait", task.id.0);
            assert!(told.contains(&expected), "{told}");
        }
        other => panic!("{other:?}"),
    }
    let stopped = store.stop_task(task.id, t(1), false).await.unwrap();
    assert_eq!(stopped.state, TaskState::Stopped);
    store.remove_group(group.id, None).await.unwrap();
    assert_eq!(store.group(group.id).await.unwrap(), None);
    assert_eq!(members(store, group.id, None).await, "");
    let again = store.remove_group(group.id, None).await;
    assert!(matches!(again, Err(GroupError::NotFound(id)) if id == group.id));
}
