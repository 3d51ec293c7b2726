//! Tasks that say how they are run.

use std::sync::Arc;

use super::{
    NOT_HEARD, UPGRADED, World, ended, list, new_task, next_batch,
    rollouts::{move_on, planned, startable, starts},
    stage, t,
};
use crate::{
    clock::UtcMillis,
    ledger::{
        Attribute, Cancellation, Outcome, Reasons, Stage, TakeBack, TaskId, TaskState, UpgradeId,
        UpgradeOrder,
    },
    store::{
        Again, Approval, ChangeTaskError, ChangeUpgradeError, DeviceUpdate, NewTask, PackageRecord,
        Selection, Store, Subject, TaskChange, TaskRecord, UpgradeState,
    },
    task::{HoldReason, Move, NotYet, TaskRules, explain},
};

fn rules(json: &str) -> TaskRules {
    serde_json::from_str(json).unwrap()
}

fn ruled(package: &PackageRecord, json: &str) -> NewTask {
    NewTask {
        rules: rules(json),
        ..new_task(package, Selection::All)
    }
}

async fn with_rules<'s, S: Store>(
    store: &'s S,
    devices: usize,
    json: &str,
) -> (World<'s, S>, TaskRecord) {
    let (world, package) = World::with_devices(store, devices).await;
    let task = store.create_task(&ruled(&package, json)).await.unwrap();
    (world, task)
}

/// Begins what may, and ends so many of it as failed and the others as upgraded.
async fn run<S: Store>(world: &World<'_, S>, task: TaskId, seconds: u64, failed: usize) -> usize {
    let orders = starts(world.store, seconds, 1_000).await;
    for (number, order) in orders.iter().enumerate() {
        let (upgrade, attempt) = (order.upgrade, order.attempt);
        let outcome = if number < failed { NOT_HEARD } else { UPGRADED };
        world
            .commit(&[
                stage(upgrade, attempt, Stage::WaitingForDevice, t(seconds)),
                ended(upgrade, task, attempt, outcome, None, t(seconds)),
            ])
            .await;
    }
    orders.len()
}

async fn task(store: &impl Store, id: TaskId) -> TaskRecord {
    store.task(id).await.unwrap().unwrap()
}

pub(crate) async fn devices_are_dealt_out_and_begin_phase_by_phase(store: &impl Store) {
    const PHASES: &str = r#"{"phases": [{"percent": 10}, {"count": 5}]}"#;
    let (world, created) = with_rules(store, 40, PHASES).await;
    let sizes = |task: &TaskRecord| task.results.iter().map(|it| it.waiting).collect::<Vec<_>>();
    assert_eq!(sizes(&created), [4, 5, 31]);
    assert_eq!((created.total(), created.phase), (40, 0));
    // a list is dealt out as all devices are
    let package = store.package(created.package).await.unwrap().unwrap();
    let listed = NewTask {
        selection: list(&["d1", "d2", "d3", "d4", "d5", "d6", "d7"]),
        ..ruled(&package, PHASES)
    };
    let listed = store.create_task(&listed).await.unwrap();
    assert_eq!(sizes(&listed), [1, 5, 1]);
    store.stop_task(listed.id, t(0), false).await.unwrap();

    assert_eq!(run(&world, created.id, 1, 0).await, 4);
    assert_eq!(startable(store, 2, 99).await, []);
    let next = |from| {
        vec![Move::NextPhase {
            task: created.id,
            from,
        }]
    };
    assert_eq!(move_on(store, 2).await, next(0));
    assert_eq!(run(&world, created.id, 2, 0).await, 5);
    assert_eq!(move_on(store, 3).await, next(1));
    assert_eq!(run(&world, created.id, 3, 0).await, 31);
    let done = task(store, created.id).await;
    assert_eq!((done.state, done.phase), (TaskState::Finished, 2));
    let succeeded: Vec<u64> = done.results.iter().map(|it| it.succeeded).collect();
    assert_eq!(succeeded, [4, 5, 31]);
}

pub(crate) async fn devices_are_dealt_out_by_their_zones(store: &impl Store) {
    // it is 8 o'clock in UTC
    const NINE: &str =
        r#"{"windows": {"windows": [{"from": "09:00", "to": "10:00"}], "zone": "device"}}"#;
    const BERLIN: &str = "Europe/Berlin";
    const SHANGHAI: &str = "Asia/Shanghai";
    let (world, package) = World::with_devices(store, 4).await;
    for (endpoint, zone) in [("d1", BERLIN), ("d2", SHANGHAI), ("d3", BERLIN)] {
        let mut update = DeviceUpdate::default();
        let set = update
            .attributes
            .set(Attribute::TimeZone, Some(zone.to_owned()));
        set.unwrap();
        store.update_device(endpoint, &update).await.unwrap();
    }
    let created = store.create_task(&ruled(&package, NINE)).await.unwrap();
    let ids = world.ids(created.id).await;
    let zones = async |task: usize| {
        let heads = store.task_heads(t(0)).await.unwrap();
        let lots = heads[task].lots.iter();
        let mut zones: Vec<_> = lots.map(|lot| lot.zone.clone()).collect();
        zones.sort();
        zones
    };
    let three = [None, Some(SHANGHAI.into()), Some(BERLIN.into())];
    assert_eq!(zones(0).await, three);
    assert_eq!(startable(store, 0, 9).await, [ids[1], ids[3]]);
    assert_eq!(planned(store, 0).await.next, Some(t(3_600)));
    // those without a zone are in UTC, and in Berlin it is 10 o'clock
    assert_eq!(startable(store, 3_600, 9).await, [ids[0]]);
    let shanghai = store.upgrade(ids[2]).await.unwrap().unwrap();
    let candidate = shanghai.candidate.unwrap();
    let opens = NotYet::WindowClosed(Some(t(17 * 3_600)));
    assert_eq!(explain(&candidate, t(0)), Err(opens));
    // where the zones do not matter, all are together
    store.create_task(&ruled(&package, "{}")).await.unwrap();
    assert_eq!(zones(1).await, [None]);
}

pub(crate) async fn a_phase_that_comes_true_is_followed_by_the_next(store: &impl Store) {
    const CANARY: &str = r#"{"phases": [{"count": 5, "success_percent": 60, "then": "wait"}, {}]}"#;
    let (world, created) = with_rules(store, 9, CANARY).await;
    run(&world, created.id, 1, 2).await;
    assert!(matches!(&move_on(store, 2).await[..], [Move::Hold(..)]));
    let now = task(store, created.id).await;
    let why = now.hold.unwrap().why;
    assert_eq!(why, HoldReason::PhaseDone { phase: 0 });
    assert_eq!(startable(store, 3, 9).await, []);
    let events = store.events(0, Some(created.id), 99).await.unwrap();
    let last = events.last().unwrap();
    assert_eq!(last.kind, "task.paused");
    assert!(matches!(&last.subject, Subject::Task { hold: Some(told), .. } if told.why == why));
    let resumed = store
        .change_task(created.id, &TaskChange::Resume, t(4))
        .await;
    let resumed = resumed.unwrap();
    assert_eq!((resumed.phase, resumed.hold), (1, None));
    assert_eq!(startable(store, 4, 9).await.len(), 4);
}

pub(crate) async fn too_many_failures_pause_a_task_until_it_is_resumed(store: &impl Store) {
    const TWO: &str = r#"{"phases": [{"count": 4}, {}], "abort": [{"count": 2}]}"#;
    let (world, created) = with_rules(store, 9, TWO).await;
    run(&world, created.id, 1, 2).await;
    let moves = move_on(store, 2).await;
    assert!(matches!(&moves[..], [Move::Hold(_, hold)] if hold.why.code() == "failures"));
    let resumed = store
        .change_task(created.id, &TaskChange::Resume, t(3))
        .await;
    assert_eq!(resumed.unwrap().hold, None);
    // these failures have been looked at; the phase has not come true all the same
    let moves = move_on(store, 4).await;
    assert!(matches!(&moves[..], [Move::Hold(_, hold)] if hold.why.code() == "phase_failed"));
    store
        .change_task(created.id, &TaskChange::NextPhase { from: None }, t(5))
        .await
        .unwrap();
    assert_eq!(run(&world, created.id, 5, 1).await, 5);
    let done = task(store, created.id).await;
    assert_eq!((done.state, done.hold), (TaskState::Finished, None));
}

pub(crate) async fn what_fails_again_after_a_retry_counts_anew(store: &impl Store) {
    const TWO: &str = r#"{"abort": [{"count": 2}]}"#;
    let (world, created) = with_rules(store, 9, TWO).await;
    let orders = starts(store, 1, 2).await;
    let fail = async |orders: &[UpgradeOrder], seconds| {
        for order in orders {
            let (upgrade, attempt) = (order.upgrade, order.attempt);
            let begun = stage(upgrade, attempt, Stage::WaitingForDevice, t(seconds));
            let failed = ended(upgrade, created.id, attempt, NOT_HEARD, None, t(seconds));
            world.commit(&[begun, failed]).await;
        }
    };
    fail(&orders, 1).await;
    assert!(matches!(&move_on(store, 2).await[..], [Move::Hold(..)]));
    let resume = TaskChange::Resume;
    store.change_task(created.id, &resume, t(3)).await.unwrap();
    assert_eq!(move_on(store, 4).await, []);
    let again = Again::default();
    let again = store.take_up_again(created.id, &again, t(4)).await.unwrap();
    assert_eq!(again.1, 2);
    let again: Vec<_> = starts(store, 5, 9).await;
    let again: Vec<_> = (again.into_iter())
        .filter(|order| order.attempt > 1)
        .collect();
    fail(&again, 5).await;
    assert!(matches!(&move_on(store, 6).await[..], [Move::Hold(..)]));
    // whoever stops it now does so for reasons of his own
    let stopped = store.stop_task(created.id, t(7), false).await.unwrap();
    assert_eq!((stopped.state, stopped.hold), (TaskState::Stopped, None));
}

pub(crate) async fn a_phase_that_has_not_come_true_runs_on_with_a_retry(store: &impl Store) {
    let (world, created) = with_rules(store, 3, r#"{"phases": [{"count": 2}, {}]}"#).await;
    run(&world, created.id, 1, 1).await;
    let moves = move_on(store, 2).await;
    assert!(matches!(&moves[..], [Move::Hold(_, hold)] if hold.why.code() == "phase_failed"));
    let again = Again::default();
    let again = store.take_up_again(created.id, &again, t(3)).await.unwrap();
    assert_eq!((again.0.hold, again.0.phase, again.1), (None, 0, 1));
    assert_eq!(run(&world, created.id, 4, 0).await, 1);
    let (task, from) = (created.id, 0);
    assert_eq!(move_on(store, 5).await, [Move::NextPhase { task, from }]);
}

pub(crate) async fn too_many_failures_stop_a_task(store: &impl Store) {
    const STOP: &str = r#"{"phases": [{"count": 3}, {}], "abort": [{"percent": 50, "min_results": 2, "action": "stop"}]}"#;
    let (world, created) = with_rules(store, 9, STOP).await;
    run(&world, created.id, 1, 2).await;
    assert!(matches!(&move_on(store, 2).await[..], [Move::Stop(..)]));
    let stopped = task(store, created.id).await;
    assert_eq!(stopped.state, TaskState::Stopped);
    assert_eq!(stopped.hold.unwrap().why.code(), "failures");
    assert_eq!(stopped.counts[&UpgradeState::Cancelled], 6);
    let events = store.events(0, Some(created.id), 99).await.unwrap();
    let kinds: Vec<&str> = events.iter().map(|event| &*event.kind).collect();
    assert_eq!(kinds.last(), Some(&"task.stopped"));
    assert_eq!(
        kinds.iter().filter(|kind| **kind == "task.stopped").count(),
        1
    );
}

pub(crate) async fn a_paused_task_begins_nothing_and_what_runs_goes_on(store: &impl Store) {
    let (world, created) = World::with_task(store, 2, 0).await;
    let ids = world.ids(created.id).await;
    world
        .commit(&[stage(ids[0], 1, Stage::WaitingForDevice, t(1))])
        .await;
    let pause = TaskChange::Pause {
        note: Some("why".into()),
    };
    let paused = store.change_task(created.id, &pause, t(2)).await.unwrap();
    let note = Some("why".to_owned());
    assert_eq!(paused.hold.unwrap().why, HoldReason::Paused { note });
    assert_eq!(startable(store, 3, 9).await, []);
    let twice = store.change_task(created.id, &pause, t(3)).await;
    assert!(matches!(twice, Err(ChangeTaskError::Held { .. })));
    world
        .commit(&[ended(ids[0], created.id, 1, UPGRADED, None, t(4))])
        .await;
    store
        .change_task(created.id, &TaskChange::Resume, t(5))
        .await
        .unwrap();
    let twice = store
        .change_task(created.id, &TaskChange::Resume, t(5))
        .await;
    assert!(matches!(twice, Err(ChangeTaskError::NotHeld(_))));
    assert_eq!(startable(store, 5, 9).await, [ids[1]]);
    let last = store
        .change_task(created.id, &TaskChange::NextPhase { from: None }, t(5))
        .await;
    assert!(matches!(last, Err(ChangeTaskError::LastPhase(_))));
    world
        .commit(&[stage(ids[1], 1, Stage::WaitingForDevice, t(6))])
        .await;
    world
        .commit(&[ended(ids[1], created.id, 1, UPGRADED, None, t(6))])
        .await;
    let over = store.change_task(created.id, &pause, t(7)).await;
    assert!(matches!(over, Err(ChangeTaskError::Ended { .. })));
    let missing = store.change_task(TaskId(99), &pause, t(7)).await;
    assert!(matches!(missing, Err(ChangeTaskError::NotFound(_))));
}

fn approval(approved: bool) -> Approval {
    Approval {
        approved,
        caller: approved.then(|| "token:7:anna".to_owned()),
        by: "night shift".into(),
        note: Some("looked at it".into()),
        at: t(5),
    }
}

fn approve() -> TaskChange {
    TaskChange::Approve {
        approval: approval(true),
        revision: Some(1),
    }
}

pub(crate) async fn a_task_begins_when_it_is_approved(store: &impl Store) {
    let (_, created) = with_rules(store, 2, r#"{"approval": true}"#).await;
    assert_eq!(created.hold.unwrap().why, HoldReason::Approval);
    assert_eq!(move_on(store, 1).await, []);
    assert_eq!(startable(store, 1, 9).await, []);
    let change = async |change| store.change_task(created.id, &change, t(5)).await;
    let resumed = change(TaskChange::Resume).await;
    assert!(matches!(resumed, Err(ChangeTaskError::NotApproved(_))));
    let next = change(TaskChange::NextPhase { from: None }).await;
    assert!(matches!(next, Err(ChangeTaskError::NotApproved(_))));
    let approved = change(approve()).await.unwrap();
    assert_eq!(
        (approved.approval, approved.hold),
        (Some(approval(true)), None)
    );
    let twice = change(approve()).await;
    assert!(matches!(twice, Err(ChangeTaskError::NoApprovalAsked(_))));
    assert_eq!(startable(store, 6, 9).await.len(), 2);
}

pub(crate) async fn an_approval_is_of_what_was_approved(store: &impl Store) {
    let (_, created) = with_rules(store, 2, r#"{"approval": true}"#).await;
    let change = async |change| (store.change_task(created.id, &change, t(5)).await).unwrap();
    let approved = change(approve()).await;
    let rules = async |change_rules: &dyn Fn(&mut TaskRules)| {
        let mut rules = (*approved.rules).clone();
        change_rules(&mut rules);
        let rules = Box::new(rules);
        change(TaskChange::Rules {
            rules,
            revision: None,
            by: None,
        })
        .await
    };
    let share = rules(&|rules| (rules.priority, rules.weight) = (Some(9), Some(7))).await;
    assert_eq!((share.approval, share.hold), (Some(approval(true)), None));
    let other = rules(&|rules| rules.not_after = Some(t(900))).await;
    assert_eq!(other.approval, None);
    assert_eq!(other.hold.unwrap().why, HoldReason::Approval);
    assert_eq!(startable(store, 6, 9).await, []);
    let resumed = store
        .change_task(created.id, &TaskChange::Resume, t(6))
        .await;
    assert!(matches!(resumed, Err(ChangeTaskError::NotApproved(_))));
    let again = change(TaskChange::Approve {
        approval: approval(true),
        revision: Some(other.revision),
    });
    assert_eq!(again.await.hold, None);
    assert_eq!(startable(store, 7, 9).await.len(), 2);
}

pub(crate) async fn who_has_changed_what_is_approved_is_known(store: &impl Store) {
    let (_, created) = with_rules(store, 1, r#"{"approval": true}"#).await;
    assert_eq!(created.changed_by, [""; 0]);
    let change = async |who: &str, rules: TaskRules| {
        let change = TaskChange::Rules {
            rules: Box::new(rules),
            revision: None,
            by: Some(who.to_owned()),
        };
        let changed = store.change_task(created.id, &change, t(1)).await.unwrap();
        assert_eq!(task(store, created.id).await.changed_by, changed.changed_by);
        changed.changed_by
    };
    let until = |at| TaskRules {
        not_after: Some(t(at)),
        ..(*created.rules).clone()
    };
    let share = TaskRules {
        priority: Some(9),
        ..(*created.rules).clone()
    };
    assert_eq!(change("user:5:anna", share).await, [""; 0]);
    assert_eq!(change("user:5:anna", until(900)).await, ["user:5:anna"]);
    let both = ["user:5:anna", "token:7:import"];
    assert_eq!(change("token:7:import", until(901)).await, both);
    assert_eq!(change("user:5:anna", until(902)).await, both);
    // an approval does not make them strangers to it
    let approve = TaskChange::Approve {
        approval: approval(true),
        revision: None,
    };
    let approved = store.change_task(created.id, &approve, t(2)).await;
    assert_eq!(approved.unwrap().changed_by, both);
    for number in 2..105 {
        change(&format!("token:{number}:t"), until(1_000 + number)).await;
    }
    let many = change("user:5:anna", until(2_000)).await;
    assert_eq!(many.len(), 101);
    assert_eq!(many[100], crate::access::ANYBODY);
}

pub(crate) async fn a_task_that_is_refused_is_stopped(store: &impl Store) {
    let (_, created) = with_rules(store, 2, r#"{"approval": true}"#).await;
    let refuse = TaskChange::Refuse(approval(false));
    let refused = store.change_task(created.id, &refuse, t(5)).await.unwrap();
    assert_eq!(refused.state, TaskState::Stopped);
    assert_eq!(refused.approval, Some(approval(false)));
    assert_eq!(refused.counts[&UpgradeState::Cancelled], 2);
}

pub(crate) async fn what_has_not_begun_in_time_expires(store: &impl Store) {
    let (world, package) = World::with_devices(store, 3).await;
    let mut new = ruled(&package, "{}");
    new.rules.not_after = Some(t(100));
    new.retry.attempts = 3;
    let created = store.create_task(&new).await.unwrap();
    let ids = world.ids(created.id).await;
    world
        .commit(&[stage(ids[0], 1, Stage::WaitingForDevice, t(1))])
        .await;
    world
        .commit(&[stage(ids[1], 1, Stage::WaitingForDevice, t(1))])
        .await;
    let failed = ended(ids[1], created.id, 1, NOT_HEARD, Some(t(200)), t(2));
    world.commit(&[failed]).await;
    assert_eq!(move_on(store, 99).await, []);
    assert_eq!(move_on(store, 100).await, [Move::Expire(created.id)]);
    assert_eq!(move_on(store, 100).await, []);
    let expired = store.upgrade(ids[2]).await.unwrap().unwrap().upgrade;
    assert_eq!(expired.state, UpgradeState::Cancelled);
    assert_eq!(expired.outcome.unwrap().reason, "expired");
    // what had begun goes on, and is tried again
    assert_eq!(
        world.state_of(ids[0]).await,
        UpgradeState::Active(Stage::WaitingForDevice)
    );
    assert_eq!(startable(store, 200, 9).await, [ids[1]]);
}

pub(crate) async fn what_has_failed_is_taken_up_again(store: &impl Store) {
    let (world, created) = World::with_task(store, 3, 1).await;
    let ids = world.ids(created.id).await;
    let end = |id, attempt, outcome| ended(id, created.id, attempt, outcome, None, t(2));
    world
        .commit(&[
            stage(ids[0], 2, Stage::WaitingForDevice, t(1)),
            end(ids[0], 2, NOT_HEARD),
            end(ids[1], 1, UPGRADED),
            end(ids[2], 2, NOT_HEARD),
        ])
        .await;
    assert_eq!(task(store, created.id).await.state, TaskState::Finished);
    store.remove_device("d2", None, None, t(3)).await.unwrap();
    let other = Again {
        reasons: Reasons::of(["slot_timed_out"]),
        upgrade: None,
    };
    let again = async |again: Again| store.take_up_again(created.id, &again, t(3)).await.unwrap();
    assert_eq!(again(other).await.1, 0);
    assert_eq!(task(store, created.id).await.state, TaskState::Finished);
    // the third has no device any more
    let (running, count) = again(Again::default()).await;
    assert_eq!(
        (running.state, running.ended_at, count),
        (TaskState::Running, None, 1)
    );
    assert_eq!(again(Again::from(ids[1])).await.1, 0);
    let orders = starts(store, 4, 9).await;
    assert_eq!(
        (orders.len(), orders[0].upgrade, orders[0].attempt),
        (1, ids[0], 3)
    );
    // as many attempts as at first
    assert_eq!(orders[0].retry.attempts, 3);
    world
        .commit(&[
            stage(ids[0], 3, Stage::WaitingForDevice, t(5)),
            ended(ids[0], created.id, 3, UPGRADED, None, t(6)),
        ])
        .await;
    let done = task(store, created.id).await;
    assert_eq!(
        (done.state, done.ended_at),
        (TaskState::Finished, Some(t(6)))
    );
    let events = store.events(0, Some(created.id), 99).await.unwrap();
    let told = |kind: &str| events.iter().filter(|event| event.kind == kind).count();
    assert_eq!((told("upgrade.failed"), told("upgrade.succeeded")), (2, 2));
    assert_eq!(told("task.finished"), 2);
    store.stop_task(created.id, t(7), false).await.unwrap_err();
    let gone = store
        .take_up_again(TaskId(99), &Again::default(), t(7))
        .await;
    assert!(matches!(gone, Err(ChangeTaskError::NotFound(_))));
}

pub(crate) async fn one_upgrade_is_tried_again(store: &impl Store) {
    let (world, created) = World::with_task(store, 4, 1).await;
    let ids = world.ids(created.id).await;
    let end = |id, outcome, retry_at| ended(id, created.id, 1, outcome, retry_at, t(2));
    let stages = ids
        .iter()
        .map(|id| stage(*id, 1, Stage::WaitingForDevice, t(1)));
    world.commit(&stages.collect::<Vec<_>>()).await;
    world
        .commit(&[
            end(ids[0], NOT_HEARD, None),
            end(ids[1], NOT_HEARD, Some(t(1_000))),
            end(ids[2], UPGRADED, None),
        ])
        .await;
    let retry = async |id| store.retry_upgrade(id, None, t(3)).await;
    // one that has failed, and one that waits for its next attempt
    for id in &ids[..2] {
        let waits = retry(*id).await.unwrap();
        assert_eq!(
            (waits.state, waits.not_before),
            (UpgradeState::Pending, t(3))
        );
        assert_eq!(retry(*id).await.unwrap(), waits);
    }
    assert_eq!(startable(store, 3, 9).await, ids[..2]);
    let results = task(store, created.id).await.results;
    assert_eq!((results[0].waiting, results[0].failed()), (2, 0));
    assert!(matches!(
        retry(ids[2]).await,
        Err(ChangeUpgradeError::Succeeded(_))
    ));
    assert!(matches!(
        retry(ids[3]).await,
        Err(ChangeUpgradeError::Running { .. })
    ));
    assert!(matches!(
        retry(UpgradeId(99)).await,
        Err(ChangeUpgradeError::NotFound(_))
    ));
    // one that was cancelled by mistake, also when its task has finished by that
    store.cancel_upgrade(ids[0], None, t(4)).await.unwrap();
    store.cancel_upgrade(ids[1], None, t(4)).await.unwrap();
    world.commit(&[end(ids[3], UPGRADED, None)]).await;
    assert_eq!(task(store, created.id).await.state, TaskState::Finished);
    assert_eq!(retry(ids[0]).await.unwrap().state, UpgradeState::Pending);
    assert_eq!(task(store, created.id).await.state, TaskState::Running);
    store.stop_task(created.id, t(5), false).await.unwrap();
    assert!(matches!(
        retry(ids[0]).await,
        Err(ChangeUpgradeError::Task(ChangeTaskError::Ended { .. }))
    ));
}

pub(crate) async fn one_upgrade_is_passed_over(store: &impl Store) {
    const PHASES: &str = r#"{"phases": [{"count": 3}, {}], "abort": [{"count": 2}]}"#;
    let (world, created) = with_rules(store, 5, PHASES).await;
    let orders = starts(store, 1, 9).await;
    let begun = |order: &UpgradeOrder| stage(order.upgrade, 1, Stage::WaitingForDevice, t(1));
    let first: Vec<UpgradeId> = orders.iter().map(|order| order.upgrade).collect();
    world
        .commit(&orders.iter().map(begun).collect::<Vec<_>>())
        .await;
    let skip = async |id| store.skip_upgrade(id, None, t(3)).await;
    assert!(matches!(
        skip(first[0]).await,
        Err(ChangeUpgradeError::Running { .. })
    ));
    world
        .commit(&[
            ended(first[0], created.id, 1, NOT_HEARD, None, t(2)),
            ended(first[1], created.id, 1, UPGRADED, None, t(2)),
            ended(first[2], created.id, 1, UPGRADED, None, t(2)),
        ])
        .await;
    // the phase cannot come true, and does without the one that failed
    for _ in 0..2 {
        let skipped = skip(first[0]).await.unwrap();
        assert_eq!(skipped.state, UpgradeState::Cancelled);
        assert_eq!(skipped.outcome.unwrap().reason, "skipped");
    }
    assert!(matches!(
        skip(first[1]).await,
        Err(ChangeUpgradeError::Succeeded(_))
    ));
    let (task_id, from) = (created.id, 0);
    let next = Move::NextPhase {
        task: task_id,
        from,
    };
    assert_eq!(move_on(store, 4).await, [next]);
    // one that waits; the task ends with the last
    let rest: Vec<UpgradeId> = (world.ids(created.id).await.into_iter())
        .filter(|id| !first.contains(id))
        .collect();
    for id in rest {
        assert_eq!(skip(id).await.unwrap().state, UpgradeState::Cancelled);
    }
    let done = task(store, created.id).await;
    assert_eq!(done.state, TaskState::Finished);
    assert_eq!(done.counts[&UpgradeState::Cancelled], 3);
    let events = store.events(0, Some(created.id), 99).await.unwrap();
    let told = |kind| events.iter().filter(|event| event.kind == kind).count();
    assert_eq!((told("upgrade.failed"), told("upgrade.cancelled")), (1, 3));
}

pub(crate) async fn one_upgrade_that_is_retried_or_passed_over_leaves_its_task_as_it_stands(
    store: &impl Store,
) {
    const ABORT: &str = r#"{"abort": [{"count": 2}], "rate": {"per_minute": 60000}, "not_after": "2027-01-15T09:00:00Z"}"#;
    let (world, created) = with_rules(store, 8, ABORT).await;
    let ids = world.ids(created.id).await;
    let fail = async |numbers: std::ops::Range<usize>, at| {
        for id in &ids[numbers] {
            let begun = stage(*id, 1, Stage::WaitingForDevice, t(at));
            let failed = ended(*id, created.id, 1, NOT_HEARD, None, t(at));
            world.commit(&[begun, failed]).await;
        }
    };
    let held = async || {
        task(store, created.id)
            .await
            .hold
            .map(|hold| hold.why.code())
    };
    fail(0..2, 1).await;
    assert!(matches!(&move_on(store, 2).await[..], [Move::Hold(..)]));
    // the others wait as before
    store.retry_upgrade(ids[0], None, t(3)).await.unwrap();
    assert_eq!(held().await, Some("failures"));
    assert_eq!(startable(store, 3, 9).await, []);
    // what it was resumed with is not held against what comes
    let resume = TaskChange::Resume;
    store.skip_upgrade(ids[0], None, t(4)).await.unwrap();
    store.change_task(created.id, &resume, t(4)).await.unwrap();
    store.skip_upgrade(ids[1], None, t(5)).await.unwrap();
    fail(2..4, 6).await;
    assert!(matches!(&move_on(store, 6).await[..], [Move::Hold(..)]));
    // what has never begun does not begin after the last time
    store.cancel_upgrade(ids[7], None, t(7)).await.unwrap();
    let late = store.retry_upgrade(ids[7], None, t(4_000)).await;
    assert!(matches!(late, Err(ChangeUpgradeError::TooLate(..))));
    let again = store.retry_upgrade(ids[2], None, t(4_000)).await.unwrap();
    assert_eq!(again.state, UpgradeState::Pending);
}

pub(crate) async fn an_upgrade_waits_until_the_owner_of_its_device_confirms_it(store: &impl Store) {
    const ASKS: &str = r#"{"confirmation": "device_owner"}"#;
    let (world, created) = with_rules(store, 4, ASKS).await;
    let ids = world.ids(created.id).await;
    let confirm = async |id, confirmed| {
        store
            .confirm_upgrade(id, None, confirmed, "anna", t(1))
            .await
    };
    assert_eq!(startable(store, 1, 9).await, []);
    let waits = store.upgrade(ids[0]).await.unwrap().unwrap();
    assert!(waits.upgrade.unconfirmed);
    let not_yet = explain(&waits.candidate.unwrap(), t(1));
    assert_eq!(not_yet, Err(NotYet::NotConfirmed));
    for _ in 0..2 {
        let confirmed = confirm(ids[0], true).await.unwrap();
        assert_eq!(
            (confirmed.state, confirmed.unconfirmed),
            (UpgradeState::Pending, false)
        );
    }
    let told = store.upgrade(ids[0]).await.unwrap().unwrap().events;
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].line.parts().0, "confirmed");
    let refused = confirm(ids[1], false).await.unwrap();
    assert_eq!(refused.outcome.unwrap().reason, "refused_by_owner");
    assert_eq!(startable(store, 1, 9).await, [ids[0]]);
    // an exclusion that ends confirms nothing
    let names = ["d2".to_owned()];
    store.exclude(&names, "on loan", None, t(1)).await.unwrap();
    store.end_exclusion("d2", None, None).await.unwrap();
    assert_eq!(startable(store, 1, 9).await, [ids[0]]);
    for (id, confirmed) in [(ids[0], false), (ids[1], true), (ids[1], false)] {
        let refused = confirm(id, confirmed).await;
        assert!(matches!(
            refused,
            Err(ChangeUpgradeError::NotAwaited { .. })
        ));
    }
    // what was confirmed once is so for further attempts, and what nobody has to confirm cannot be
    world
        .commit(&[stage(ids[0], 1, Stage::WaitingForDevice, t(2))])
        .await;
    world
        .commit(&[ended(ids[0], created.id, 1, NOT_HEARD, None, t(3))])
        .await;
    store.retry_upgrade(ids[0], None, t(4)).await.unwrap();
    assert_eq!(startable(store, 4, 9).await, [ids[0]]);
    store.stop_task(created.id, t(5), false).await.unwrap();
    let package = store.package(created.package).await.unwrap().unwrap();
    let plain = store.create_task(&ruled(&package, "{}")).await.unwrap();
    let plain = world.ids(plain.id).await;
    let refused = confirm(plain[0], true).await;
    assert!(matches!(
        refused,
        Err(ChangeUpgradeError::NotAwaited { .. })
    ));
}

pub(crate) async fn an_owner_confirms_for_a_time_changes_it_and_takes_it_back(store: &impl Store) {
    const ASKS: &str = r#"{"confirmation": "device_owner", "not_after": "2030-01-01T00:00:00Z"}"#;
    let (world, created) = with_rules(store, 3, ASKS).await;
    let ids = world.ids(created.id).await;
    let at = async |at: Option<u64>| {
        let at = at.map(t);
        (store.confirm_upgrade_for(ids[0], None, at, "anna", t(1))).await
    };
    let confirmed = at(Some(100)).await.unwrap();
    assert_eq!(confirmed.confirmed_for, Some(t(100)));
    assert!(!confirmed.unconfirmed);
    let waits = store.upgrade(ids[0]).await.unwrap().unwrap();
    let not_yet = explain(&waits.candidate.unwrap(), t(99));
    assert_eq!(not_yet, Err(NotYet::ConfirmedFor(t(100))));
    assert_eq!(startable(store, 99, 9).await, []);
    assert_eq!(store.next_due(t(1)).await.unwrap(), Some(t(100)));
    // earlier, later, at no time, and again
    assert_eq!(at(Some(50)).await.unwrap().not_before, t(50));
    assert_eq!(startable(store, 50, 9).await, [ids[0]]);
    at(Some(200)).await.unwrap();
    assert_eq!(startable(store, 100, 9).await, []);
    let back = at(None).await.unwrap();
    assert_eq!((back.unconfirmed, back.confirmed_for), (true, None));
    assert_eq!(back.not_before, waits_from(store, ids[1]).await);
    assert_eq!(startable(store, 300, 9).await, []);
    assert_eq!(store.next_due(t(1)).await.unwrap(), None);
    at(Some(200)).await.unwrap();
    // said twice, it says nothing new
    at(Some(200)).await.unwrap();
    let told = store.upgrade(ids[0]).await.unwrap().unwrap().events;
    let codes: Vec<String> = told.iter().map(|it| it.line.parts().0).collect();
    let [once, back] = ["confirmed_for", "confirmation_taken_back"];
    assert_eq!(codes, [once, once, once, back, once]);
    let past = at(Some(0)).await;
    assert!(matches!(past, Err(ChangeUpgradeError::NotThen(..))));
    let far = at(Some(400 * 24 * 3_600)).await;
    assert!(matches!(far, Err(ChangeUpgradeError::NotThen(..))));
    // the engine had begun it for the time before, and what it says comes late
    let begins = stage(ids[0], 1, Stage::WaitingForDevice, t(199));
    assert_eq!(
        store.commit(next_batch(), &[begins]).await.unwrap().refused,
        [ids[0]]
    );
    // refused until it has come; tried again, it waits for a confirmation
    let refused = store.confirm_upgrade(ids[0], None, false, "", t(1)).await;
    assert_eq!(refused.unwrap().outcome.unwrap().reason, "refused_by_owner");
    let again = store.retry_upgrade(ids[0], None, t(2)).await.unwrap();
    assert_eq!((again.unconfirmed, again.confirmed_for), (true, None));
    let begins = stage(ids[0], 1, Stage::WaitingForDevice, t(199));
    assert_eq!(
        store.commit(next_batch(), &[begins]).await.unwrap().refused,
        [ids[0]]
    );
    at(Some(200)).await.unwrap();
    let late = store
        .confirm_upgrade_for(ids[0], None, None, "", t(200))
        .await;
    assert!(matches!(late, Err(ChangeUpgradeError::NotAwaited { .. })));
    // an operator who tries what was cancelled again does not begin before that time
    store.cancel_upgrade(ids[0], None, t(3)).await.unwrap();
    let again = store.retry_upgrade(ids[0], None, t(4)).await.unwrap();
    assert_eq!(again.not_before, t(200));
    assert_eq!(startable(store, 199, 9).await, []);
    // at once after all
    let now = store
        .confirm_upgrade(ids[0], None, true, "", t(5))
        .await
        .unwrap();
    assert_eq!((now.confirmed_for, now.unconfirmed), (None, false));
    assert_eq!(startable(store, 5, 9).await, [ids[0]]);
    let begins = stage(ids[0], 1, Stage::WaitingForDevice, t(6));
    assert_eq!(
        store.commit(next_batch(), &[begins]).await.unwrap().refused,
        []
    );
}

async fn waits_from(store: &impl Store, id: UpgradeId) -> UtcMillis {
    store.upgrade(id).await.unwrap().unwrap().upgrade.not_before
}

pub(crate) async fn what_is_downloading_goes_on_after_a_soft_stop(store: &impl Store) {
    let (world, created) = World::with_task(store, 3, 1).await;
    let ids = world.ids(created.id).await;
    world
        .commit(&[
            stage(ids[0], 1, Stage::Downloading, t(1)),
            stage(ids[1], 1, Stage::WaitingForSlot, t(1)),
        ])
        .await;
    let stopping = store.stop_task(created.id, t(2), true).await.unwrap();
    assert_eq!(stopping.state, TaskState::Stopping);
    let to_stop = async || -> Vec<UpgradeId> {
        let found = store.upgrades_to_stop(9).await.unwrap();
        found.into_iter().map(|stop| stop.upgrade).collect()
    };
    assert_eq!(to_stop().await, [ids[1]]);
    assert_eq!(world.state_of(ids[2]).await, UpgradeState::Cancelled);
    store.cancel_upgrade(ids[0], None, t(3)).await.unwrap();
    assert_eq!(to_stop().await, [ids[1], ids[0]]);
    // it can be stopped for good, and not the other way round
    store.stop_task(created.id, t(3), false).await.unwrap();
    assert_eq!(to_stop().await, ids[..2]);
    store.stop_task(created.id, t(3), true).await.unwrap();
    assert_eq!(to_stop().await, ids[..2]);
}

pub(crate) async fn rules_are_changed_by_whoever_has_seen_them(store: &impl Store) {
    let (_, created) = with_rules(store, 2, r#"{"rate": {"per_minute": 1}}"#).await;
    let change = async |json, revision| {
        let rules = Box::new(rules(json));
        let change = TaskChange::Rules {
            rules,
            revision,
            by: Some("token:7:anna".to_owned()),
        };
        store.change_task(created.id, &change, t(1)).await
    };
    let faster = r#"{"rate": {"per_minute": 2}}"#;
    let changed = change(faster, Some(1)).await.unwrap();
    assert_eq!((changed.revision, &*changed.rules), (2, &rules(faster)));
    let late = change("{}", Some(1)).await;
    assert!(matches!(
        late,
        Err(ChangeTaskError::Changed { revision: 2, .. })
    ));
    let heads = store.task_heads(t(2)).await.unwrap();
    assert_eq!(*heads[0].rules, rules(faster));
    assert_eq!(change("{}", None).await.unwrap().revision, 3);
}

pub(crate) async fn failures_are_tried_again_for_the_reasons_of_the_task(store: &impl Store) {
    let (_, package) = World::with_devices(store, 1).await;
    let mut new = new_task(&package, Selection::All);
    new.retry.reasons = Reasons::of(["device_not_heard", "slot_timed_out"]);
    let created = store.create_task(&new).await.unwrap();
    assert_eq!(created.retry, new.retry);
    let orders = starts(store, 1, 9).await;
    assert_eq!(orders[0].retry, new.retry);
}

pub(crate) async fn a_phase_is_judged_anew_by_what_is_tried_again(store: &impl Store) {
    const CANARY: &str = r#"{"phases": [{"count": 3}, {}], "abort": [{"count": 2}]}"#;
    let (world, created) = with_rules(store, 6, CANARY).await;
    run(&world, created.id, 1, 2).await;
    let moves = move_on(store, 2).await;
    assert!(matches!(&moves[..], [Move::Hold(_, hold)] if hold.why.code() == "failures"));
    let again = Again::default();
    let (task, count) = store.take_up_again(created.id, &again, t(3)).await.unwrap();
    assert_eq!((task.hold, task.phase, count), (None, 0, 2));
    // the failures that are tried again are none any more, nor do they hide new ones
    assert_eq!(move_on(store, 4).await, []);
    run(&world, created.id, 4, 2).await;
    let moves = move_on(store, 5).await;
    assert!(matches!(&moves[..], [Move::Hold(_, hold)] if hold.why.code() == "failures"));
    store.take_up_again(created.id, &again, t(6)).await.unwrap();
    run(&world, created.id, 6, 0).await;
    let next = Move::NextPhase {
        task: created.id,
        from: 0,
    };
    assert_eq!(move_on(store, 7).await, [next]);
}

pub(crate) async fn a_phase_is_not_skipped_by_who_comes_too_late(store: &impl Store) {
    const CANARY: &str =
        r#"{"phases": [{"count": 1, "then": "wait"}, {"count": 1, "then": "wait"}, {}]}"#;
    let (world, created) = with_rules(store, 6, CANARY).await;
    run(&world, created.id, 1, 0).await;
    let late = super::rollouts::planned(store, 2).await.moves;
    let next = |from| TaskChange::NextPhase { from: Some(from) };
    let changed = store.change_task(created.id, &next(0), t(2)).await.unwrap();
    assert_eq!(changed.phase, 1);
    store.make_moves(&late, t(2)).await.unwrap();
    assert_eq!(task(store, created.id).await.hold, None);
    let twice = store.change_task(created.id, &next(0), t(3)).await;
    assert!(matches!(
        twice,
        Err(ChangeTaskError::OtherPhase { running: 1, .. })
    ));
    run(&world, created.id, 4, 0).await;
    move_on(store, 5).await;
    let resumed = store
        .change_task(created.id, &TaskChange::Resume, t(6))
        .await;
    assert_eq!(resumed.unwrap().phase, 2);
}

pub(crate) async fn a_last_time_that_was_put_off_is_kept_to(store: &impl Store) {
    let (_, package) = World::with_devices(store, 2).await;
    let mut new = ruled(&package, "{}");
    new.rules.not_after = Some(t(100));
    let created = store.create_task(&new).await.unwrap();
    let late = super::rollouts::planned(store, 100).await.moves;
    let rules = Box::new(TaskRules {
        not_after: Some(t(200)),
        ..TaskRules::default()
    });
    let put_off = TaskChange::Rules {
        rules,
        revision: None,
        by: None,
    };
    store
        .change_task(created.id, &put_off, t(100))
        .await
        .unwrap();
    store.make_moves(&late, t(100)).await.unwrap();
    let counts = task(store, created.id).await.counts;
    assert_eq!(counts[&UpgradeState::Pending], 2);
}

const TAKEN_BACK: Outcome = Outcome::Cancelled(Cancellation::TakenBack);

/// It is 8 o'clock in UTC: half an hour, and another one an hour later.
const TAKES_BACK: &str = r#"{"windows": {"zone": "device", "at_end": "take_back", "windows": [
    {"from": "08:00", "to": "08:30"}, {"from": "09:00", "to": "09:30"}]}}"#;

pub(crate) async fn what_is_taken_back_keeps_its_turn_and_its_attempts(store: &impl Store) {
    let (world, package) = World::with_devices(store, 3).await;
    let mut update = DeviceUpdate::default();
    let kolkata = Some("Asia/Kolkata".to_owned());
    update.attributes.set(Attribute::TimeZone, kolkata).unwrap();
    store.update_device("d2", &update).await.unwrap();
    let mut new = ruled(&package, TAKES_BACK);
    new.retry.attempts = 1;
    let created = store.create_task(&new).await.unwrap();
    let ids = world.ids(created.id).await;

    // in Kolkata it is half past one
    let orders = starts(store, 1, 9).await;
    let begun: Vec<_> = orders.iter().map(|order| order.upgrade).collect();
    assert_eq!(begun, ids[..2]);
    let back = TakeBack {
        at: t(1_800),
        opens_at: Some(t(3_600)),
    };
    assert!(orders.iter().all(|order| order.back == Some(back)));
    assert_eq!(
        store.taking_back().await.unwrap(),
        [(created.id, Arc::new(new.rules.clone()))]
    );
    world
        .commit(&[
            stage(ids[0], 1, Stage::WaitingForDevice, t(1)),
            stage(ids[1], 1, Stage::Downloading, t(1)),
        ])
        .await;
    let running = async |after, limit| {
        let running = store.running_upgrades(created.id, after, limit).await;
        let running = running.unwrap().into_iter();
        running
            .map(|it| (it.upgrade, it.endpoint, it.zone))
            .collect::<Vec<_>>()
    };
    assert_eq!(running(None, 1).await, [(ids[0], "d0".to_owned(), None)]);
    assert_eq!(
        running(Some(ids[0]), 9).await,
        [(ids[1], "d1".to_owned(), None)]
    );
    let back = |id, attempt, at| ended(id, created.id, attempt, TAKEN_BACK, Some(t(3_600)), at);
    world
        .commit(&[back(ids[0], 1, t(1_800)), back(ids[1], 1, t(1_800))])
        .await;
    assert_eq!(running(None, 9).await, []);
    let detail = store.upgrade(ids[1]).await.unwrap().unwrap();
    assert_eq!(detail.upgrade.state, UpgradeState::Pending);
    assert_eq!(detail.upgrade.outcome.unwrap().reason, "taken_back");
    let opens = NotYet::WindowClosed(Some(t(3_600)));
    assert_eq!(explain(&detail.candidate.unwrap(), t(1_801)), Err(opens));
    assert_eq!(task(store, created.id).await.results[0].waiting, 3);

    // as often as windows end, it may still fail as often as the task says
    let orders = starts(store, 3_600, 9).await;
    assert_eq!(
        orders.iter().map(|order| order.attempt).collect::<Vec<_>>(),
        [2, 2]
    );
    world
        .commit(&[
            stage(ids[0], 2, Stage::Downloading, t(3_600)),
            back(ids[0], 2, t(5_400)),
        ])
        .await;
    let due = t(1 + 86_400);
    let order = starts(store, 1 + 86_400, 9).await.remove(0);
    assert_eq!(
        (order.upgrade, order.attempt, order.retry.attempts),
        (ids[0], 3, 3)
    );
    let fails = |attempt| crate::task::next_attempt_at(order.retry, attempt, &NOT_HEARD, due);
    assert!(fails(3).is_some() && fails(4).is_none());
}

pub(crate) async fn nothing_taken_back_begins_again_in_a_stopped_task(store: &impl Store) {
    let (world, created) = with_rules(store, 1, TAKES_BACK).await;
    let ids = world.ids(created.id).await;
    world
        .commit(&[stage(ids[0], 1, Stage::Downloading, t(1))])
        .await;
    store.stop_task(created.id, t(2), true).await.unwrap();
    // what downloads goes on, and no further than to the end of the window
    let known = store.taking_back().await.unwrap();
    assert_eq!(known.len(), 1);
    world
        .commit(&[ended(
            ids[0],
            created.id,
            1,
            TAKEN_BACK,
            Some(t(3_600)),
            t(1_800),
        )])
        .await;
    assert_eq!(world.state_of(ids[0]).await, UpgradeState::Cancelled);
    assert_eq!(task(store, created.id).await.state, TaskState::Stopped);
}
