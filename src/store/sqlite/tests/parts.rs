//! What is done in parts: nobody sees half of it, and a crash in between is made up for.

use super::*;
use crate::{
    audit::{Entry, EntryResult},
    ledger::{AttributesChange, PackageId, RetryPolicy, TaskState},
    package::{PcpOffer, Segmentation, Version},
    store::{
        Acting, AuditLog as _, DeviceFilter, Exclude, Groups as _, Homes as _, Members, NewDevice,
        NewGroup, NewMembers, NewPackage, NewTask, Origin, Papers, Selection, TaskChange,
        conformance::home_events,
    },
    task::{Budget, Membership, Move, PackageRules, TaskRules},
    tenant::TenantId,
};

const T0: UtcMillis = UtcMillis(1_800_000_000_000);

/// A task for so many devices.
async fn task(store: &SqliteStore, devices: u32) -> TaskRecord {
    let devices: Vec<NewDevice> = (0..devices)
        .map(|number| NewDevice {
            attributes: AttributesChange::default(),
            endpoint: format!("d{number:06}"),
            product: "p".to_owned(),
            psk: None,
            mqtt: None,
            via: None,
        })
        .collect();
    store.add_devices(&devices, T0).await.unwrap();
    let package = NewPackage {
        product: "p".to_owned(),
        version: Version::new("V2").unwrap(),
        component: None,
        sha256: "00".repeat(32),
        crc: 1,
        size_bytes: 1_200,
        md5: None,
        pcp: Some(PcpOffer {
            version: pcp::Version::new("V2").unwrap(),
            check_code: 1,
            segmentation: Segmentation::choose(1_200, None, false).unwrap(),
        }),
        created_at: T0,
        papers: Papers::default(),
    };
    let package = store.insert_package(&package).await.unwrap().record.id;
    store.create_task(&new_task(package)).await.unwrap()
}

fn new_task(package: PackageId) -> NewTask {
    NewTask {
        name: "night".to_owned(),
        package,
        packages: PackageRules::default(),
        selection: Selection::All,
        exclude: Exclude::default(),
        start_at: None,
        retry: RetryPolicy {
            attempts: 0,
            interval_s: 300,
            ..RetryPolicy::default()
        },
        rules: TaskRules::default(),
        webhook: None,
        created_at: T0,
        origin: Origin::default(),
    }
}

async fn execute(store: &SqliteStore, statement: &'static str) {
    sqlx::query(statement).execute(&store.writer).await.unwrap();
}

/// A crash leaves the task as it is while it is created.
async fn hide(store: &SqliteStore) {
    execute(store, "UPDATE tasks SET hidden = 1, state = 'stopped'").await;
}

async fn count(store: &SqliteStore, statement: &'static str) -> i64 {
    sqlx::query_scalar(statement)
        .fetch_one(&store.readers)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_task_of_several_parts_is_whole() {
    let (store, _dir) = open_checked().await;
    let devices = 2 * PART + 3;
    let task = task(&store, devices).await;
    assert_eq!(task.counts[&UpgradeState::Pending], u64::from(devices));
    let stopped = store.stop_task(task.id, T0, false).await.unwrap();
    assert_eq!(stopped.state, TaskState::Stopped);
    assert_eq!(stopped.counts[&UpgradeState::Cancelled], u64::from(devices));
    let events = store.events(0, None, 2 * devices).await.unwrap();
    assert_eq!(events.len(), devices as usize + 1);
    store.delete_task(task.id).await.unwrap();
    assert_eq!(store.task(task.id).await.unwrap(), None);
    assert_eq!(count(&store, "SELECT COUNT(*) FROM upgrades").await, 0);
    assert_eq!(
        count(&store, "SELECT COUNT(*) FROM upgrade_events").await,
        0
    );
}

#[tokio::test]
async fn a_task_that_is_not_whole_is_seen_by_nobody_and_gone_after_the_next_start() {
    let (store, dir) = open_checked().await;
    let task = task(&store, 3).await;
    let upgrade = store.upgrades(task.id, None, None, 9).await.unwrap().items[0].id;
    hide(&store).await;
    assert_eq!(store.task(task.id).await.unwrap(), None);
    assert_eq!(store.tasks(false, None, 9).await.unwrap().items, []);
    assert_eq!(store.upgrade(upgrade).await.unwrap(), None);
    let page = store.upgrades(task.id, None, None, 9).await.unwrap();
    assert_eq!(page.items, []);
    assert_eq!(store.task_heads(T0).await.unwrap(), []);
    store.make_moves(&[Move::Begin(task.id)], T0).await.unwrap();
    assert!(store.stop_task(task.id, T0, false).await.is_err());
    assert!(store.delete_task(task.id).await.is_err());
    store.close().await;
    let again = SqliteStore::open(dir.0.path()).await.unwrap();
    again.end_interrupted().await.unwrap();
    for rows in [
        "SELECT COUNT(*) FROM tasks",
        "SELECT COUNT(*) FROM upgrades",
        "SELECT COUNT(*) FROM task_counts",
    ] {
        assert_eq!(count(&again, rows).await, 0, "{rows}");
    }
    assert_eq!(again.event_range().await.unwrap(), (0, 0));
}

#[tokio::test]
async fn nothing_is_told_of_a_device_that_is_removed_while_its_task_is_created() {
    let (store, _dir) = open_checked().await;
    task(&store, 3).await;
    hide(&store).await;
    assert!(
        store
            .remove_device("d000001", None, None, T0)
            .await
            .unwrap()
    );
    assert_eq!(count(&store, "SELECT COUNT(*) FROM upgrades").await, 2);
    assert_eq!(store.event_range().await.unwrap(), (0, 0));
}

#[tokio::test]
async fn a_task_whose_stopping_was_interrupted_is_stopped_at_the_next_start() {
    let (store, dir) = open_checked().await;
    let task = task(&store, 3).await;
    execute(
        &store,
        "UPDATE tasks SET state = 'stopping', stopped_at = 7",
    )
    .await;
    store.close().await;
    let again = SqliteStore::open(dir.0.path()).await.unwrap();
    again.end_interrupted().await.unwrap();
    let stopped = again.task(task.id).await.unwrap().unwrap();
    assert_eq!(stopped.state, TaskState::Stopped);
    assert_eq!(stopped.ended_at, Some(UtcMillis(7)));
    assert_eq!(stopped.counts[&UpgradeState::Cancelled], 3);
    assert_eq!(again.events(0, None, 9).await.unwrap().len(), 4);
}

/// What the version before counted is kept from the first start on.
#[tokio::test]
async fn what_was_counted_before_is_kept_after_an_update() {
    let dir = tempfile::tempdir().unwrap();
    let file = SqliteConnectOptions::new()
        .filename(dir.path().join(FILE_NAME))
        .create_if_missing(true);
    let mut conn = file.connect().await.unwrap();
    let mut old = sqlx::migrate!("migrations/sqlite");
    old.migrations = old.migrations.iter().take(3).cloned().collect();
    old.run(&mut conn).await.unwrap();
    for statement in [
        "INSERT INTO packages (id, product, version, sha256, size_bytes, segment_size, pad_last, crc, check_code, \
             created_at) VALUES (1, 'p', x'00', '', 0, 0, 0, 0, 0, 0)",
        "INSERT INTO tasks (id, name, package_id, state, start_at, retry_attempts, retry_interval_s, created_at) \
             VALUES (1, 'a', 1, 'running', 0, 0, 0, 0), (2, 'b', 1, 'running', 0, 0, 0, 0)",
        "INSERT INTO upgrades (task_id, endpoint, state, not_before, cell, created_at) VALUES \
             (1, 'a', 'downloading', 0, 5, 0), (1, 'b', 'waiting_for_slot', 0, 5, 0), (1, 'c', 'failed', 0, 5, 0), \
             (2, 'a', 'pending', 0, NULL, 0), (2, 'c', 'pending', 9, NULL, 0), (1, 'c', 'pending', 7, NULL, 0)",
        "INSERT INTO cells (cell) VALUES (5)",
        "INSERT INTO webhooks (id, url, secret, created_at) VALUES (1, '', x'00', 0)",
        "INSERT INTO events (id, at, kind, task_id, task_name, product, version) \
             VALUES (1, 1, 'task.finished', 2, '', 'p', x'00')",
        "INSERT INTO deliveries (webhook_id, event_id, state, next_at) \
             VALUES (1, 1, 'failed', 0), (1, 1, 'delivered', 0), (1, 1, 'pending', 0)",
    ] {
        sqlx::query(statement).execute(&mut conn).await.unwrap();
    }
    conn.close().await.unwrap();
    let store = SqliteStore::open(dir.path()).await.unwrap();
    kept_is_counted(&dir.path().join(FILE_NAME)).await;
    let free = count(&store, "SELECT SUM(id) FROM upgrades WHERE free = 1").await;
    assert_eq!(free, 5 + 6, "on a the other one runs");
    let cell = store.cells(None, None, 9).await.unwrap().items[0].record;
    assert_eq!((cell.active, cell.waiting), (1, 1));
}

#[tokio::test]
async fn a_task_for_a_filter_or_a_group_is_found_and_written_in_parts() {
    let (store, _dir) = open_checked().await;
    let devices = 2 * PART + 6;
    let all = task(&store, devices).await;
    let group = NewGroup {
        tenant: TenantId::default(),
        name: "all".to_owned(),
        members: NewMembers::Listed((0..devices).map(|number| format!("d{number:06}")).collect()),
        created_at: T0,
    };
    let group = store.add_group(&group).await.unwrap();
    assert_eq!(group.members, Members::Listed(devices.into()));
    for (selection, expected) in [
        (Selection::Filter("endpoint!=*0".parse().unwrap()), 9_005),
        (Selection::Group(group.id), u64::from(devices)),
    ] {
        let new = NewTask {
            selection,
            ..new_task(all.package)
        };
        let task = store.create_task(&new).await.unwrap();
        assert_eq!(task.counts[&UpgradeState::Pending], expected);
        store.stop_task(task.id, T0, false).await.unwrap();
    }
    store.remove_group(group.id, None).await.unwrap();
    let left = count(&store, "SELECT COUNT(*) FROM group_members").await;
    assert_eq!(left, 0);
}

#[tokio::test]
async fn devices_join_part_by_part_and_after_a_restart_none_twice() {
    let (store, dir) = open_checked().await;
    let package = task(&store, 3).await.package;
    let mut new = new_task(package);
    new.rules.membership = Membership::Joining;
    let joined = store.create_task(&new).await.unwrap();
    let later: Vec<NewDevice> = (0..2 * PART + 6)
        .map(|number| NewDevice {
            attributes: AttributesChange::default(),
            endpoint: format!("e{number:06}"),
            product: "p".to_owned(),
            psk: None,
            mqtt: None,
            via: None,
        })
        .collect();
    store.add_devices(&later, T0).await.unwrap();
    let first = store.join(joined.id, None, T0).await.unwrap();
    assert_eq!(first.devices, u64::from(PART));
    assert_eq!(first.next.as_deref(), Some("e004999"));
    store.close().await;
    // where it was is not known any more: it begins anew, and passes over those that have joined
    let again = SqliteStore::open(dir.0.path()).await.unwrap();
    again.end_interrupted().await.unwrap();
    let mut parts = Vec::new();
    let mut after = None;
    loop {
        let part = again.join(joined.id, after.as_deref(), T0).await.unwrap();
        parts.push(part.devices);
        after = part.next;
        if after.is_none() {
            break;
        }
    }
    // a part looks at so many devices, those that have joined among them
    assert_eq!((parts.len(), parts.iter().sum()), (2, u64::from(PART + 6)));
    let task = again.task(joined.id).await.unwrap().unwrap();
    assert_eq!(task.total(), u64::from(2 * PART + 9));
    let twice = "SELECT COUNT(*) FROM (SELECT 1 FROM upgrades GROUP BY task_id, endpoint HAVING COUNT(*) > 1)";
    assert_eq!(count(&again, twice).await, 0);
    again.close().await;
}

#[tokio::test]
async fn who_might_join_is_found_by_indexes() {
    let (store, _dir) = open().await;
    let mut reader = store.readers.acquire().await.unwrap();
    for text in [
        "endpoint==a*",
        "site==b",
        "tag.c==d",
        "version<V2,last_heard=gt=-7d",
    ] {
        let filter = DeviceFilter {
            product: Some("p".to_owned()),
            filter: Some(text.parse().unwrap()),
            now: T0,
            ..DeviceFilter::default()
        };
        let walk = walk::Walk::of(&mut reader, filter).await.unwrap();
        let walk = walk.outside(crate::ledger::TaskId(1));
        let query = walk.find_statement(Some("a"), Some("b"), PART);
        let statement = query.sql().as_str().to_owned();
        let plan = plans::plan(&mut reader, &statement).await.unwrap();
        let offences: Vec<_> = plan
            .iter()
            .filter(|line| line.starts_with("SCAN") && *line != "SCAN found")
            .collect();
        assert!(offences.is_empty(), "{statement}\n{plan:?}");
        let by_device = "SEARCH u USING COVERING INDEX upgrades_of_device (endpoint=?)";
        assert!(plan.iter().any(|line| line == by_device), "{plan:?}");
    }
}

#[tokio::test]
async fn a_group_whose_removal_was_interrupted_is_gone_after_the_next_start() {
    let (store, dir) = open_checked().await;
    task(&store, 1).await;
    let new = NewGroup {
        tenant: TenantId::default(),
        name: "one".to_owned(),
        members: NewMembers::Listed(vec!["d000000".to_owned()]),
        created_at: T0,
    };
    let group = store.add_group(&new).await.unwrap();
    execute(&store, "UPDATE device_groups SET removed = 1").await;
    assert_eq!(store.group(group.id).await.unwrap(), None);
    assert_eq!(store.groups(None, None, 9).await.unwrap().items, []);
    store.close().await;
    let again = SqliteStore::open(dir.0.path()).await.unwrap();
    again.end_interrupted().await.unwrap();
    for rows in [
        "SELECT COUNT(*) FROM device_groups",
        "SELECT COUNT(*) FROM group_members",
    ] {
        assert_eq!(count(&again, rows).await, 0, "{rows}");
    }
}

#[tokio::test]
async fn a_task_whose_later_part_fails_is_not_done() {
    let (store, _dir) = open_checked().await;
    let first = task(&store, PART + 3).await;
    execute(
        &store,
        "CREATE TRIGGER fails BEFORE INSERT ON upgrades WHEN NEW.endpoint = 'd005001' \
         BEGIN SELECT RAISE(ABORT, 'no'); END",
    )
    .await;
    let acting = Acting::new(Entry {
        who: "a".to_owned(),
        operation: "create_task".to_owned(),
        ..Entry::default()
    });
    let new = new_task(first.package);
    acting.scope(store.create_task(&new)).await.unwrap_err();
    // it is purged, and whoever answers says what came of it
    assert_eq!(count(&store, "SELECT COUNT(*) FROM tasks").await, 1);
    assert!(acting.is_open() && !acting.has_left_a_row());
    let failed = Entry {
        result: EntryResult::Failed,
        ..acting.entry()
    };
    store.end_act(&acting, &failed).await.unwrap();
    let rows = store.audit_after(0, 9).await.unwrap();
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert!(rows[0].text.contains("\"result\":\"failed\""), "{rows:?}");
}

#[tokio::test]
async fn a_budget_that_lets_more_than_a_part_go_on_leaves_one_row() {
    let (store, _dir) = open_checked().await;
    let task = task(&store, PART + 3).await;
    execute(
        &store,
        "UPDATE upgrades SET over_budget = 1, not_before = 1800000900000",
    )
    .await;
    let acting = Acting::new(Entry {
        who: "a".to_owned(),
        operation: "update_task".to_owned(),
        ..Entry::default()
    });
    let rules = TaskRules {
        budget: Some(Budget {
            bytes_per_month: Some(1_000_000),
            airtime_estimated_seconds_per_month: None,
        }),
        ..TaskRules::default()
    };
    let change = TaskChange::Rules {
        rules: Box::new(rules),
        revision: None,
        by: None,
    };
    (acting.scope(store.change_task(task.id, &change, T0)).await).unwrap();
    let left = count(&store, "SELECT COUNT(*) FROM upgrades WHERE over_budget").await;
    assert_eq!(left, 0);
    assert!(!acting.is_open());
    let rows = store.audit_after(0, 9).await.unwrap();
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert!(rows[0].text.contains("1000000"), "{rows:?}");
}

#[tokio::test]
async fn homes_are_asked_for_their_word_when_the_task_is_whole() {
    let (store, _dir) = open_checked().await;
    let first = home_events::asked_for(&store).await;
    let mut new = new_task(first.package);
    new.rules = (*first.rules).clone();
    let second = store.create_task(&new).await.unwrap();
    hide(&store).await;
    assert_eq!(store.ask_homes(9, T0).await.unwrap(), 0);
    // one is passed over, be it the first or the last
    for (task, show) in [
        (second.id, "UPDATE tasks SET hidden = id = 1"),
        (first.id, "UPDATE tasks SET hidden = id = 2"),
    ] {
        execute(&store, show).await;
        assert_eq!(store.ask_homes(9, T0).await.unwrap(), 2);
        let events = store.events(0, None, 9).await.unwrap();
        let newest = events.iter().rev().take(2).map(|event| event.task);
        assert_eq!(newest.collect::<Vec<_>>(), [task; 2]);
    }
    assert_eq!(count(&store, "SELECT COUNT(*) FROM home_asks").await, 0);
}
