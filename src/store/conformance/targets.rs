//! Whom a task is for, besides its selection.

use super::{World, list, new_task, t};
use crate::{
    filter::Filter,
    ledger::TaskId,
    store::{
        CreateTaskError, Exclude, GroupError, GroupId, Narrowed, NewGroup, NewMembers, NewTask,
        PackageRecord, Selection, Store,
    },
};

fn filter(text: &str) -> Filter {
    Filter::parse(text).unwrap()
}

fn names(endpoints: &[&str]) -> Vec<String> {
    endpoints.iter().map(|it| (*it).to_owned()).collect()
}

async fn group(store: &impl Store, name: &str, members: NewMembers) -> GroupId {
    let new = NewGroup {
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
        .exclude(&names(&["d1", "d2"]), "on loan", t(0))
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
        .exclude(&names(&["d0"]), "on loan", t(0))
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
    assert_eq!(store.tasks(None, 9).await.unwrap().items, []);
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
    let refused = store.remove_group(group).await.unwrap_err();
    assert!(matches!(refused, GroupError::InUse { .. }), "{refused:?}");
    store.stop_task(task.id, t(1), false).await.unwrap();
    store.remove_group(group).await.unwrap();
    store.delete_task(task.id).await.unwrap();
}
