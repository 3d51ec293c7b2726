//! The audit log.

use super::{Store, T0, World, new_task, t};
use crate::{
    audit::{Entry, EntryResult, Hash, Key, Row, Verifier},
    store::{Acting, AuditFilter, Selection, TokenId, UserChange, WebhookId},
};

fn entry(who: &str, operation: &str) -> Entry {
    Entry {
        at: T0,
        who: who.to_owned(),
        operation: operation.to_owned(),
        ..Entry::default()
    }
}

/// All rows, oldest first, of a chain that is whole.
async fn rows(store: &impl Store) -> Vec<Row> {
    let rows = store.audit_after(0, 1_000).await.unwrap();
    let mut verifier = match store.audit_beginning().await.unwrap() {
        None => Verifier::from_the_beginning(),
        Some(checkpoint) => {
            let (number, hash) = checkpoint.check(None).unwrap();
            Verifier::after(number, hash)
        }
    };
    for row in &rows {
        verifier.line(&row.line()).unwrap();
    }
    let head = store.audit_head().await.unwrap();
    assert_eq!(verifier.end((head.number, head.hash)), Ok(()));
    rows
}

fn says(row: &Row, what: &str) -> bool {
    row.text.contains(what)
}

pub(crate) async fn rows_are_a_chain(store: &impl Store) {
    let head = store.audit_head().await.unwrap();
    assert_eq!((head.number, head.hash), (0, Hash::NONE));
    store.add_to_audit(&[]).await.unwrap();
    let two = [entry("a", "stop_task"), entry("b", "stop_task")];
    store.add_to_audit(&two).await.unwrap();
    // the clock was set back
    let early = Entry {
        at: crate::clock::UtcMillis(0),
        ..entry("c", "stop_task")
    };
    store.add_to_audit(&[early]).await.unwrap();
    let rows = rows(store).await;
    assert_eq!(rows.len(), 3);
    assert!(says(&rows[2], &T0.to_string()), "{rows:?}");
    assert_eq!(store.audit_row(2).await.unwrap(), Some(rows[1].clone()));
    assert_eq!(store.audit_row(4).await.unwrap(), None);
}

pub(crate) async fn a_change_on_somebodys_behalf_leaves_a_row_with_it(store: &impl Store) {
    let (world, _) = World::with_devices(store, 1).await;
    // nobody's: a device that registers, a task that goes on
    assert_eq!(rows(store).await, Vec::new());
    let acting = Acting::new(entry("a", "remove_device"));
    let removed = acting
        .scope(store.remove_device("d0", None, None, T0))
        .await
        .unwrap();
    assert!(removed && acting.has_left_a_row());
    let there = rows(store).await;
    assert_eq!(there.len(), 1);
    assert!(says(&there[0], "\"target\":\"devices/d0\""), "{there:?}");
    assert!(says(&there[0], "\"product\":\"p\""), "{there:?}");
    // what is undone leaves none
    let acting = Acting::new(entry("a", "remove_device"));
    assert!(
        !acting
            .scope(store.remove_device("d0", None, None, T0))
            .await
            .unwrap()
    );
    assert!(!acting.has_left_a_row());
    assert_eq!(rows(store).await.len(), 1);
    // what says nothing of itself leaves one nevertheless
    let acting = Acting::new(entry("a", "set_meta"));
    acting.scope(store.set_meta("k", b"v")).await.unwrap();
    assert!(says(&rows(store).await[1], "set_meta"));
    // and behind it nothing is on anybody's behalf
    world.devices("p", &["d1"]).await;
    assert_eq!(rows(store).await.len(), 2);
}

pub(crate) async fn what_is_written_in_parts_is_one_row(store: &impl Store) {
    let (world, package) = World::with_devices(store, 0).await;
    let names: Vec<String> = (0..12_000).map(|n| format!("d{n:05}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for part in names.chunks(5_000) {
        world.devices("p", part).await;
    }
    let acting = Acting::new(entry("a", "create_task"));
    let new = new_task(&package, Selection::All);
    let task = acting.scope(store.create_task(&new)).await.unwrap();
    assert!(!acting.is_open());
    let stop = Acting::new(entry("a", "stop_task"));
    let stopped = stop.scope(store.stop_task(task.id, T0, false)).await;
    stopped.unwrap();
    let delete = Acting::new(entry("a", "delete_task"));
    delete.scope(store.delete_task(task.id)).await.unwrap();
    let rows = rows(store).await;
    assert_eq!(rows.len(), 3, "{rows:?}");
    for (row, operation) in rows.iter().zip(["create_task", "stop_task", "delete_task"]) {
        assert!(
            says(row, operation) && says(row, "\"target\":\"tasks/1\""),
            "{row:?}"
        );
    }
    assert!(says(&rows[0], "\"counts\":{\"devices\":12000}"), "{rows:?}");
    assert_eq!(store.end_interrupted_acts().await.unwrap(), 0);
}

pub(crate) async fn an_open_act_is_ended_once(store: &impl Store) {
    let acting = Acting::new(entry("a", "add_device"));
    acting
        .scope(async {
            Acting::in_parts();
            store.set_meta("k", b"1").await.unwrap();
            store.set_meta("k", b"2").await.unwrap();
        })
        .await;
    assert!(acting.is_open() && !acting.has_left_a_row());
    assert_eq!(rows(store).await, Vec::new());
    let refused = Entry {
        result: EntryResult::Refused,
        status: Some(422),
        ..acting.entry()
    };
    store.end_act(&acting, &refused).await.unwrap();
    store.end_act(&acting, &refused).await.unwrap();
    let there = rows(store).await;
    assert_eq!(there.len(), 1);
    assert!(says(&there[0], "\"result\":\"refused\",\"status\":422"));
    // one that nobody ends is ended at the next start
    let acting = Acting::new(entry("b", "add_device"));
    acting
        .scope(async {
            Acting::in_parts();
            store.set_meta("k", b"3").await.unwrap();
        })
        .await;
    assert_eq!(store.end_interrupted_acts().await.unwrap(), 1);
    assert_eq!(store.end_interrupted_acts().await.unwrap(), 0);
    let there = rows(store).await;
    assert!(says(&there[1], "\"result\":\"interrupted\""), "{there:?}");
    assert!(says(&there[1], "\"who\":\"b\""), "{there:?}");
    // it is a row already: whoever does not know that makes no other
    store.end_act(&acting, &acting.entry()).await.unwrap();
    assert_eq!(rows(store).await.len(), 2);
}

pub(crate) async fn what_goes_on_without_its_caller_is_one_row(store: &impl Store) {
    let (world, package) = World::with_devices(store, 0).await;
    let names: Vec<String> = (0..12_000).map(|n| format!("d{n:05}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    for part in names.chunks(5_000) {
        world.devices("p", part).await;
    }
    let acting = Acting::new(entry("a", "create_task"));
    let new = new_task(&package, Selection::All);
    let pause = || tokio::time::sleep(std::time::Duration::from_millis(1));
    tokio::select! {
        created = acting.scope(store.create_task(&new)) => panic!("too fast: {created:?}"),
        () = async { while !acting.is_open() { pause().await } } => {}
    }
    // its caller has left: nothing is to be ended for it
    assert!(!acting.leave());
    while !acting.has_left_a_row() {
        pause().await;
    }
    assert!(!acting.is_open());
    let rows = rows(store).await;
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert!(says(&rows[0], "\"result\":\"done\""), "{rows:?}");
    assert!(says(&rows[0], "\"counts\":{\"devices\":12000}"), "{rows:?}");
    assert_eq!(store.end_interrupted_acts().await.unwrap(), 0);
}

pub(crate) async fn a_change_that_finds_nothing_leaves_no_row(store: &impl Store) {
    let acting = Acting::new(entry("a", "x"));
    acting
        .scope(async {
            assert!(!store.revoke_token(TokenId(9)).await.unwrap());
            assert!(!store.remove_user("nobody", None).await.unwrap());
            let change = UserChange::default();
            assert!(!store.update_user("nobody", None, &change).await.unwrap());
            assert!(!store.remove_webhook(WebhookId(9)).await.unwrap());
            let replayed = store.replay(WebhookId(9), None, T0, 9).await.unwrap();
            assert_eq!(replayed, 0);
        })
        .await;
    assert!(!acting.has_left_a_row());
    assert_eq!(rows(store).await, Vec::new());
}

pub(crate) async fn the_last_part_of_a_list_is_no_device_of_its_own(store: &impl Store) {
    let (world, _) = World::with_devices(store, 0).await;
    let acting = Acting::new(entry("a", "import_devices"));
    let parts = async {
        Acting::in_parts();
        world.devices("p", &["d1", "d2"]).await;
        world.devices("p", &["d3"]).await;
    };
    acting.scope(parts).await;
    store.end_act(&acting, &acting.entry()).await.unwrap();
    let rows = rows(store).await;
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert!(!says(&rows[0], "devices/d3"), "{rows:?}");
    assert!(says(&rows[0], "\"counts\":{\"added\":3}"), "{rows:?}");
}

pub(crate) async fn rows_are_listed_by_what_they_say(store: &impl Store) {
    for n in 0..6_u64 {
        let entry = Entry {
            at: t(n * 10),
            target: Some(format!("tasks/{}", n % 2)),
            result: if n == 5 {
                EntryResult::Failed
            } else {
                EntryResult::Done
            },
            ..entry(
                if n < 3 { "a" } else { "b" },
                if n == 0 { "x" } else { "y" },
            )
        };
        store.add_to_audit(&[entry]).await.unwrap();
    }
    let list = async |filter: AuditFilter| -> Vec<u64> {
        let page = store.audit(&filter, None, 100).await.unwrap();
        assert!(!page.more);
        page.items.iter().map(|row| row.number).collect()
    };
    let text = |text: &str| Some(text.to_owned());
    let any = AuditFilter::default;
    assert_eq!(list(any()).await, [6, 5, 4, 3, 2, 1]);
    assert_eq!(
        list(AuditFilter {
            who: text("a"),
            ..any()
        })
        .await,
        [3, 2, 1]
    );
    assert_eq!(
        list(AuditFilter {
            operation: text("x"),
            ..any()
        })
        .await,
        [1]
    );
    assert_eq!(
        list(AuditFilter {
            target: text("tasks/1"),
            ..any()
        })
        .await,
        [6, 4, 2]
    );
    assert_eq!(
        list(AuditFilter {
            target: text("tasks"),
            ..any()
        })
        .await
        .len(),
        6
    );
    assert_eq!(
        list(AuditFilter {
            target: text("task"),
            ..any()
        })
        .await,
        [0_u64; 0]
    );
    let failed = Some(EntryResult::Failed);
    assert_eq!(
        list(AuditFilter {
            result: failed,
            ..any()
        })
        .await,
        [6]
    );
    let (since, until) = (Some(t(10)), Some(t(30)));
    assert_eq!(
        list(AuditFilter {
            since,
            until,
            ..any()
        })
        .await,
        [3, 2]
    );
    let both = AuditFilter {
        who: text("b"),
        target: text("tasks/1"),
        since,
        ..any()
    };
    assert_eq!(list(both).await, [6, 4]);
    let page = store.audit(&any(), Some(5), 2).await.unwrap();
    assert!(page.more && page.items[0].number == 4 && page.items.len() == 2);
    assert_eq!(store.audit_before(t(0)).await.unwrap(), 0);
    assert_eq!(store.audit_before(t(25)).await.unwrap(), 3);
}

pub(crate) async fn old_rows_go_behind_a_checkpoint(store: &impl Store) {
    for _ in 0..5 {
        store.add_to_audit(&[entry("a", "x")]).await.unwrap();
    }
    // without one nothing goes
    assert_eq!(store.prune_audit(100, None).await.unwrap(), 0);
    let told = entry("system", "prune_audit");
    assert_eq!(store.prune_audit(100, Some(&told)).await.unwrap(), 0);
    assert_eq!(store.audit_head().await.unwrap().number, 5);
    let key = Key::of_seed(&[1; 32]).unwrap();
    let row = store.audit_row(3).await.unwrap().unwrap();
    let checkpoint = key.sign((row.number, row.hash), &T0).unwrap();
    store.begin_audit_behind(&checkpoint).await.unwrap();
    assert_eq!(store.audit_beginning().await.unwrap(), Some(checkpoint));
    assert_eq!(store.prune_audit(2, Some(&told)).await.unwrap(), 2);
    // whatever happens to the other parts, it is told already
    let last = store.audit_row(6).await.unwrap().unwrap();
    assert!(says(&last, "\"counts\":{\"rows\":3}"), "{last:?}");
    assert_eq!(store.prune_audit(2, None).await.unwrap(), 1);
    assert_eq!(store.prune_audit(2, Some(&told)).await.unwrap(), 0);
    assert_eq!(rows(store).await.len(), 3);
    store.add_to_audit(&[entry("a", "x")]).await.unwrap();
    assert_eq!(rows(store).await.len(), 4);
}
