//! Whom a task is for, besides its selection.

use super::{
    UPGRADED, World, ended, list, new_task,
    rollouts::{move_on, planned, starts},
    stage, t,
};
use crate::{
    filter::Filter,
    ledger::{Attribute, Change, Stage, TaskId, TaskState, UpgradeId},
    package::Version,
    store::{
        ChangeTaskError, CreateTaskError, DeviceUpdate, Exclude, GroupError, GroupId, GroupUpdate,
        Joined, Narrowed, NewGroup, NewMembers, NewTask, PackageRecord, Selection, Store,
        TaskChange, TaskRecord, UpgradeState,
    },
    task::{Membership, Move, TaskRules},
    tenant::TenantId,
};

fn filter(text: &str) -> Filter {
    Filter::parse(text).unwrap()
}

fn names(endpoints: &[&str]) -> Vec<String> {
    endpoints.iter().map(|it| (*it).to_owned()).collect()
}

async fn group(store: &impl Store, name: &str, members: NewMembers) -> GroupId {
    let new = NewGroup {
        tenant: TenantId::default(),
        name: name.to_owned(),
        members,
        created_at: t(0),
    };
    store.add_group(&new).await.unwrap().id
}

fn without(package: &PackageRecord, selection: Selection, exclude: Exclude) -> NewTask {
    NewTask {
        exclude,
        ..new_task(package, selection)
    }
}

/// The devices of a task, in the order of their names.
async fn devices(store: &impl Store, task: TaskId) -> String {
    let upgrades = store.upgrades(task, None, None, 1_000).await.unwrap().items;
    let mut endpoints: Vec<_> = upgrades.into_iter().map(|it| it.endpoint).collect();
    endpoints.sort();
    endpoints.join(" ")
}

pub(crate) async fn a_task_leaves_out_whom_it_excludes(store: &impl Store) {
    let (world, package) = World::with_devices(store, 6).await;
    world.devices("q", &["z"]).await;
    let listed = group(store, "a list", NewMembers::Listed(names(&["d0", "d1"]))).await;
    let matching = NewMembers::Matching(filter("endpoint>d3"));
    let matching = group(store, "a filter", matching).await;
    store
        .exclude(&names(&["d1", "d2"]), "on loan", None, t(0))
        .await
        .unwrap();
    let exclude = |devices: &[&str], text: Option<&str>, group: Option<GroupId>| Exclude {
        devices: names(devices),
        filter: text.map(filter),
        group,
    };
    let everybody = || {
        [
            Selection::All,
            Selection::Product("p".to_owned()),
            Selection::Filter(filter("endpoint==d*")),
            list(&["d5", "d0", "d1", "d2", "d3", "d4"]),
        ]
    };
    // with phases the devices are counted first, and dealt out
    for phases in ["{}", r#"{"phases": [{"count": 1}, {}]}"#] {
        for (exclude, left, left_out, excluded) in [
            (exclude(&["d0", "d0", "z"], None, None), "d3 d4 d5", 1, 2),
            (
                exclude(&[], Some("endpoint==d0,endpoint==d1"), None),
                "d3 d4 d5",
                2,
                1,
            ),
            (exclude(&[], None, Some(listed)), "d3 d4 d5", 2, 1),
            (exclude(&[], None, Some(matching)), "d0 d3", 2, 2),
            (
                exclude(&["d3"], Some("endpoint==d4"), Some(listed)),
                "d5",
                4,
                1,
            ),
        ] {
            for selection in everybody() {
                let mut new = without(&package, selection, exclude.clone());
                new.rules = serde_json::from_str(phases).unwrap();
                let task = store.create_task(&new).await.unwrap();
                assert_eq!(devices(store, task.id).await, left, "{new:?}");
                assert_eq!((task.left_out, task.excluded), (left_out, excluded));
                let waiting: u64 = task.results.iter().map(|phase| phase.waiting).sum();
                assert_eq!((waiting, task.total()), (task.total(), task.total()));
                let told = task.narrowed.clone().unwrap();
                let expected = Narrowed {
                    devices: if exclude.devices.len() == 3 {
                        2
                    } else {
                        exclude.devices.len() as u64
                    },
                    filter: exclude.filter.clone(),
                    group: exclude.group,
                };
                assert_eq!(told, expected);
                let again = store.task(task.id).await.unwrap().unwrap();
                assert_eq!((again.narrowed, again.left_out), (Some(told), left_out));
            }
        }
    }
    let nobody_out = store.create_task(&new_task(&package, Selection::All)).await;
    let nobody_out = nobody_out.unwrap();
    assert_eq!((nobody_out.narrowed, nobody_out.left_out), (None, 0));
}

pub(crate) async fn whom_a_task_excludes_has_to_be_known(store: &impl Store) {
    let (_, package) = World::with_devices(store, 2).await;
    let refused = async |exclude: Exclude| {
        let new = without(&package, Selection::All, exclude);
        store.create_task(&new).await.unwrap_err()
    };
    let unknown = Exclude {
        devices: names(&["d0", "x", "y"]),
        ..Exclude::default()
    };
    match refused(unknown).await {
        CreateTaskError::UnknownExcluded { count: 2, first } => assert_eq!(first, ["x", "y"]),
        other => panic!("{other:?}"),
    }
    let nowhere = Exclude {
        group: Some(GroupId(99)),
        ..Exclude::default()
    };
    let nowhere = refused(nowhere).await;
    assert!(matches!(
        nowhere,
        CreateTaskError::ExcludedGroupNotFound(GroupId(99))
    ));
    store
        .exclude(&names(&["d0"]), "on loan", None, t(0))
        .await
        .unwrap();
    let rest = Exclude {
        devices: names(&["d1"]),
        ..Exclude::default()
    };
    match refused(rest).await {
        CreateTaskError::AllLeftOut { left_out, excluded } => {
            assert_eq!((left_out, excluded), (1, 1));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(store.tasks(false, None, 9).await.unwrap().items, []);
}

pub(crate) async fn a_group_stays_while_a_task_leaves_it_out(store: &impl Store) {
    let (_, package) = World::with_devices(store, 2).await;
    let group = group(store, "a list", NewMembers::Listed(names(&["d0"]))).await;
    let exclude = Exclude {
        group: Some(group),
        ..Exclude::default()
    };
    let new = without(&package, Selection::Group(group), exclude.clone());
    let nobody = store.create_task(&new).await;
    assert!(matches!(nobody, Err(CreateTaskError::AllLeftOut { .. })));
    let new = without(&package, Selection::All, exclude);
    let task = store.create_task(&new).await.unwrap();
    let refused = store.remove_group(group, None).await.unwrap_err();
    assert!(matches!(refused, GroupError::InUse { .. }), "{refused:?}");
    store.stop_task(task.id, t(1), false).await.unwrap();
    store.remove_group(group, None).await.unwrap();
    store.delete_task(task.id).await.unwrap();
}

fn joining(package: &PackageRecord, selection: Selection, rules: &str) -> NewTask {
    let mut new = new_task(package, selection);
    new.rules = serde_json::from_str(rules).unwrap();
    new.rules.membership = Membership::Joining;
    new
}

/// Looks through all devices for those that join.
async fn sweep(store: &impl Store, task: TaskId, seconds: u64) -> u64 {
    let mut joined = 0;
    let mut after = None;
    loop {
        let part = (store.join(task, after.as_deref(), t(seconds)).await).unwrap();
        joined += part.devices;
        after = part.next;
        if after.is_none() {
            return joined;
        }
    }
}

/// Begins what may, and ends it as upgraded.
async fn upgrade_all<S: Store>(world: &World<'_, S>, task: TaskId, seconds: u64) -> usize {
    let orders = starts(world.store, seconds, 1_000).await;
    for order in &orders {
        let (upgrade, attempt) = (order.upgrade, order.attempt);
        world
            .commit(&[
                stage(upgrade, attempt, Stage::WaitingForDevice, t(seconds)),
                ended(upgrade, task, attempt, UPGRADED, None, t(seconds)),
            ])
            .await;
    }
    orders.len()
}

async fn task(store: &impl Store, id: TaskId) -> TaskRecord {
    store.task(id).await.unwrap().unwrap()
}

/// What hawkBit's users miss (hawkbit #1548).
pub(crate) async fn new_devices_join_a_running_task(store: &impl Store) {
    let (world, package) = World::with_devices(store, 2).await;
    let listed = group(store, "a list", NewMembers::Listed(names(&["d0", "d1"]))).await;
    let matching = NewMembers::Matching(filter("endpoint==d*"));
    let matching = group(store, "a filter", matching).await;
    let snapshot = store.create_task(&new_task(&package, Selection::All)).await;
    let mut tasks = Vec::new();
    for selection in [
        Selection::All,
        Selection::Product("p".to_owned()),
        Selection::Filter(filter("endpoint==d*")),
        Selection::Group(listed),
        Selection::Group(matching),
    ] {
        let new = joining(&package, selection, "{}");
        tasks.push(store.create_task(&new).await.unwrap().id);
    }
    let first = tasks[0];
    assert_eq!(
        sweep(store, first, 1).await,
        0,
        "those that are in it do not join"
    );
    world.devices("p", &["d2", "d3", "d4", "d5"]).await;
    world.devices("q", &["d6"]).await;
    let add = GroupUpdate {
        add: names(&["d2", "d3", "d4", "d5", "d6"]),
        ..GroupUpdate::default()
    };
    store.update_group(listed, &add).await.unwrap();
    store.remove_device("d4", None, None, t(2)).await.unwrap();
    store
        .exclude(&names(&["d5"]), "on loan", None, t(2))
        .await
        .unwrap();
    for id in &tasks {
        assert_eq!(sweep(store, *id, 3).await, 2);
        assert_eq!(devices(store, *id).await, "d0 d1 d2 d3");
        assert_eq!(task(store, *id).await.counts[&UpgradeState::Pending], 4);
        assert_eq!(sweep(store, *id, 4).await, 0, "nobody joins twice");
    }
    assert!(store.end_exclusion("d5", None, None).await.unwrap());
    assert_eq!(sweep(store, first, 5).await, 1);
    // they are upgraded as the others are, and their timelines say how they came
    let upgrade = *world.ids(first).await.last().unwrap();
    let detail = store.upgrade(upgrade).await.unwrap().unwrap();
    assert_eq!(detail.upgrade.endpoint, "d5");
    let line = &detail.events[0];
    assert_eq!((&*line.line.parts().0, line.at), ("joined", t(5)));
    let due = starts(store, 5, 99).await;
    assert!(due.iter().any(|order| order.endpoint == "d2"), "{due:?}");
    let snapshot = snapshot.unwrap().id;
    assert_eq!(sweep(store, snapshot, 6).await, 0);
    assert_eq!(devices(store, snapshot).await, "d0 d1");
}

pub(crate) async fn devices_join_that_come_to_fit_and_stay_when_they_do_not(store: &impl Store) {
    let (world, package) = World::with_devices(store, 3).await;
    let fits = Selection::Filter(filter("site==north,version==V1"));
    let created = store.create_task(&joining(&package, fits, "{}")).await;
    let created = created.unwrap();
    assert_eq!((created.total(), created.state), (0, TaskState::Running));
    let set_site = async |site: Option<&str>| {
        let mut update = DeviceUpdate::default();
        let site = site.map(str::to_owned);
        update.attributes.set(Attribute::Site, site).unwrap();
        store.update_device("d1", &update).await.unwrap();
    };
    set_site(Some("north")).await;
    assert_eq!(sweep(store, created.id, 1).await, 1);
    set_site(None).await;
    let version = Change::VersionReported {
        endpoint: "d2".to_owned(),
        version: Version::new("V1").unwrap(),
        at: t(2),
    };
    world.commit(&[version]).await;
    assert_eq!(sweep(store, created.id, 3).await, 1);
    assert_eq!(devices(store, created.id).await, "d1 d2");
    // one whose upgrade was cancelled, or that was removed and is there again, is in it still
    let upgrade = world.ids(created.id).await[0];
    store.cancel_upgrade(upgrade, None, t(4)).await.unwrap();
    set_site(Some("north")).await;
    store.remove_device("d2", None, None, t(5)).await.unwrap();
    store.forget_removed("d2").await.unwrap();
    world.devices("p", &["d2"]).await;
    assert_eq!(sweep(store, created.id, 6).await, 0);
}

pub(crate) async fn whom_a_task_excludes_does_not_join(store: &impl Store) {
    let (world, package) = World::with_devices(store, 3).await;
    let loan = group(store, "on loan", NewMembers::Listed(names(&["d1"]))).await;
    let mut new = joining(&package, Selection::All, "{}");
    new.exclude = Exclude {
        devices: names(&["d0"]),
        filter: Some(filter("endpoint==x*")),
        group: Some(loan),
    };
    let created = store.create_task(&new).await.unwrap();
    assert_eq!((created.total(), created.left_out), (1, 2));
    world.devices("p", &["e0", "e1", "x0"]).await;
    let update = GroupUpdate {
        add: names(&["e1"]),
        remove: names(&["d1"]),
        ..GroupUpdate::default()
    };
    store.update_group(loan, &update).await.unwrap();
    assert_eq!(sweep(store, created.id, 1).await, 2);
    assert_eq!(devices(store, created.id).await, "d1 d2 e0");
}

pub(crate) async fn who_joins_is_in_the_phase_that_runs(store: &impl Store) {
    const PHASES: &str = r#"{"phases": [{"count": 2, "then": "wait"}, {}]}"#;
    let (world, package) = World::with_devices(store, 4).await;
    let new = joining(&package, Selection::All, PHASES);
    let created = store.create_task(&new).await.unwrap();
    let id = created.id;
    let totals = async || {
        let results = task(store, id).await.results;
        let total = |it: &crate::task::Results| it.waiting + it.running + it.succeeded;
        results.iter().map(total).collect::<Vec<_>>()
    };
    assert_eq!(totals().await, [2, 2]);
    world.devices("p", &["e0"]).await;
    assert_eq!(sweep(store, id, 1).await, 1);
    assert_eq!(totals().await, [3, 2]);
    assert_eq!(upgrade_all(&world, id, 2).await, 3);
    assert!(matches!(&move_on(store, 3).await[..], [Move::Hold(..)]));
    // a phase that has passed takes nobody up: who comes joins the next one
    world.devices("p", &["e1"]).await;
    assert_eq!(sweep(store, id, 4).await, 0);
    store
        .change_task(id, &TaskChange::Resume, t(5))
        .await
        .unwrap();
    assert_eq!(sweep(store, id, 6).await, 1);
    assert_eq!(totals().await, [3, 3]);
    // to a task that somebody has paused they come, and wait
    let pause = TaskChange::Pause { note: None };
    store.change_task(id, &pause, t(7)).await.unwrap();
    world.devices("p", &["e2"]).await;
    assert_eq!(sweep(store, id, 8).await, 1);
    assert_eq!(starts(store, 8, 9).await, []);
    store
        .change_task(id, &TaskChange::Resume, t(9))
        .await
        .unwrap();
    assert_eq!(upgrade_all(&world, id, 9).await, 4);
}

pub(crate) async fn a_phase_that_nobody_is_in_waits_for_who_joins(store: &impl Store) {
    const PHASES: &str = r#"{"phases": [{"count": 1}, {}]}"#;
    let world = World::new(store);
    let package = world.package("p", "V2", 1).await;
    let new = joining(&package, Selection::All, PHASES);
    let id = store.create_task(&new).await.unwrap().id;
    assert_eq!(move_on(store, 1).await, []);
    world.devices("p", &["a"]).await;
    assert_eq!(sweep(store, id, 2).await, 1);
    assert_eq!(upgrade_all(&world, id, 3).await, 1);
    assert_eq!(
        move_on(store, 4).await,
        [Move::NextPhase { task: id, from: 0 }]
    );
    assert_eq!(move_on(store, 5).await, []);
    world.devices("p", &["b", "c"]).await;
    assert_eq!(sweep(store, id, 6).await, 2);
    let now = task(store, id).await;
    assert_eq!((now.phase, now.results[1].waiting), (1, 2));
}

pub(crate) async fn who_joins_is_in_the_lot_of_its_zone(store: &impl Store) {
    // it is 8 o'clock in UTC
    const NINE: &str =
        r#"{"windows": {"windows": [{"from": "09:00", "to": "10:00"}], "zone": "device"}}"#;
    let (world, package) = World::with_devices(store, 1).await;
    let new = joining(&package, Selection::All, NINE);
    let id = store.create_task(&new).await.unwrap().id;
    world.devices("p", &["e0", "e1", "e2"]).await;
    for endpoint in ["e0", "e1"] {
        let mut update = DeviceUpdate::default();
        let zone = Some("Europe/Berlin".to_owned());
        update.attributes.set(Attribute::TimeZone, zone).unwrap();
        store.update_device(endpoint, &update).await.unwrap();
    }
    assert_eq!(sweep(store, id, 0).await, 3);
    let heads = store.task_heads(t(0)).await.unwrap();
    let mut zones: Vec<_> = heads[0].lots.iter().map(|lot| lot.zone.clone()).collect();
    zones.sort();
    assert_eq!(zones, [None, Some("Europe/Berlin".into())]);
    let begin: Vec<String> = (starts(store, 0, 9).await.into_iter())
        .map(|order| order.endpoint)
        .collect();
    assert_eq!(begin, ["e0", "e1"]);
    assert_eq!(planned(store, 0).await.next, Some(t(3_600)));
}

pub(crate) async fn a_task_that_devices_join_ends_when_none_may_any_more(store: &impl Store) {
    let (world, package) = World::with_devices(store, 1).await;
    let create = async |rules: &str, last: Option<u64>| {
        let mut new = joining(&package, Selection::All, rules);
        new.rules.not_after = last.map(t);
        store.create_task(&new).await.unwrap().id
    };
    let state = async |id| task(store, id).await.state;
    let stopped = create("{}", None).await;
    upgrade_all(&world, stopped, 1).await;
    assert_eq!(state(stopped).await, TaskState::Running);
    store.stop_task(stopped, t(2), false).await.unwrap();
    assert_eq!(state(stopped).await, TaskState::Stopped);
    let over = create("{}", Some(100)).await;
    upgrade_all(&world, over, 3).await;
    assert_eq!(state(over).await, TaskState::Running);
    world.devices("p", &["e"]).await;
    assert_eq!(sweep(store, stopped, 4).await, 0);
    assert_eq!(sweep(store, over, 100).await, 0, "its last time has come");
    assert_eq!(move_on(store, 100).await, [Move::Expire(over)]);
    assert_eq!(state(over).await, TaskState::Finished);
    let events = store.events(0, Some(over), 99).await.unwrap();
    assert_eq!(events.last().unwrap().kind, "task.finished");
    // what runs then goes on, and the task ends with it
    let runs = create("{}", Some(200)).await;
    let orders = starts(store, 101, 1).await;
    let (upgrade, attempt) = (orders[0].upgrade, orders[0].attempt);
    let begun = stage(upgrade, attempt, Stage::WaitingForDevice, t(101));
    world.commit(&[begun]).await;
    assert_eq!(move_on(store, 200).await, [Move::Expire(runs)]);
    assert_eq!(state(runs).await, TaskState::Running);
    assert_eq!(sweep(store, runs, 201).await, 0);
    let done = ended(upgrade, runs, attempt, UPGRADED, None, t(202));
    world.commit(&[done]).await;
    assert_eq!(state(runs).await, TaskState::Finished);
}

pub(crate) async fn whether_devices_join_can_be_changed(store: &impl Store) {
    let (world, package) = World::with_devices(store, 1).await;
    let rules = |membership| TaskChange::Rules {
        rules: Box::new(TaskRules {
            membership,
            ..TaskRules::default()
        }),
        revision: None,
        by: None,
    };
    let created = store.create_task(&new_task(&package, Selection::All)).await;
    let id = created.unwrap().id;
    let change = async |id, membership| store.change_task(id, &rules(membership), t(1)).await;
    let changed = change(id, Membership::Joining).await.unwrap();
    assert_eq!(changed.rules.membership, Membership::Joining);
    world.devices("p", &["e"]).await;
    assert_eq!(sweep(store, id, 2).await, 1);
    assert_eq!(upgrade_all(&world, id, 3).await, 2);
    assert_eq!(task(store, id).await.state, TaskState::Running);
    let ended = change(id, Membership::Snapshot).await.unwrap();
    assert_eq!(ended.state, TaskState::Finished);
    let events = store.events(0, Some(id), 99).await.unwrap();
    assert_eq!(events.last().unwrap().kind, "task.finished");
    let listed = store.create_task(&new_task(&package, list(&["e"]))).await;
    let listed = listed.unwrap().id;
    let refused = change(listed, Membership::Joining).await;
    assert!(matches!(refused, Err(ChangeTaskError::CannotJoin(it)) if it == listed));
    assert_eq!(
        store.join(listed, None, t(4)).await.unwrap(),
        Joined::default()
    );
    assert_eq!(world.state_of(UpgradeId(3)).await, UpgradeState::Pending);
}
