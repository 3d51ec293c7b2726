use super::{
    NOT_HEARD, T0, UPGRADED, World, announced, ended, next_batch, registered, rollouts::starts,
    stage, stage_change, t,
};
use crate::{
    ledger::{
        Announced, Binding, Cancellation, Change, Coverage, CoverageReading, CoverageSource,
        DownloadPace, Evidence, FailedIn, Lane, Learnt, Mean, Outcome, ProductHabits, Registration,
        ReportedFailure, Served, Stage, Standby, TaskState, UpgradeId,
    },
    store::{Store, UpgradeState},
};

/// Of the package that all have.
fn at_byte(done_bytes: u64) -> crate::ledger::Progress {
    crate::ledger::Progress {
        done_bytes,
        total_bytes: 1_200,
    }
}

pub(crate) async fn a_registration_adds_an_unknown_device(store: &impl Store) {
    let world = World::new(store);
    world.commit(&[registered("urn:imei:1", T0)]).await;
    let device = store.device("urn:imei:1").await.unwrap().unwrap();
    assert_eq!(device.device.product, "default");
    assert_eq!(device.device.last_heard_at, Some(T0));
    assert_eq!(device.created_at, T0);
    // it came from the device, not from the operator
    assert_eq!(store.device_changes_since(0, 10).await.unwrap(), []);
}

pub(crate) async fn a_registration_comes_back_after_a_restart(store: &impl Store) {
    let (world, _) = World::with_devices(store, 3).await;
    let Change::Registered { registration, .. } = registered("d1", t(5)) else {
        unreachable!()
    };
    world.commit(&[registered("d1", t(5))]).await;
    let first = store.restore_devices(0, 2).await.unwrap();
    let rest = store.restore_devices(first.next.unwrap(), 2).await.unwrap();
    assert_eq!((rest.devices.len(), rest.next), (1, None));
    assert_eq!(first.devices[0].registration, None);
    assert_eq!(first.devices[1].registration, Some(registration));
    let end = Change::Deregistered {
        endpoint: "d1".to_owned(),
        at: t(6),
    };
    world.commit(&[end]).await;
    let device = store.device("d1").await.unwrap().unwrap().device;
    assert_eq!(device.registration, None);
    assert_eq!(device.last_heard_at, Some(t(5)));
}

pub(crate) async fn what_a_device_announces_stays_until_it_announces_anew(store: &impl Store) {
    let (world, _) = World::with_devices(store, 1).await;
    let change = |location: &str, more: Option<Box<Announced>>, binding: &[u8]| {
        let Change::Registered {
            endpoint,
            registration,
            wake_ups,
            at,
        } = registered("d0", t(5))
        else {
            unreachable!()
        };
        let registration = Registration {
            location: location.to_owned(),
            announced: more,
            binding: Binding::parse(binding),
            ..registration
        };
        Change::Registered {
            endpoint,
            registration,
            wake_ups,
            at,
        }
    };
    let first = Some(announced("</3/0>,</19/0>", Some("/a")).into());
    let second = Some(announced("</3/0>", None).into());
    // each by itself, and all in one batch
    for batch in [1, 9] {
        let mut last = None;
        let steps = [
            ("1", first.clone(), "U", first.clone()),
            ("1", None, "S", first.clone()),
            ("1", second.clone(), "U", second.clone()),
            ("1", None, "U", second.clone()),
            ("2", None, "U", None),
            ("2", first.clone(), "N", first.clone()),
            ("2", None, "U", first.clone()),
        ];
        for steps in steps.chunks(batch) {
            let changes: Vec<Change> = (steps.iter())
                .map(|(at, more, binding, _)| change(at, more.clone(), binding.as_bytes()))
                .collect();
            for changed in &changes {
                let Change::Registered { registration, .. } = changed else {
                    unreachable!()
                };
                last = Some(registration.clone().after(last.as_ref()));
            }
            world.commit(&changes).await;
            let known = store.device("d0").await.unwrap().unwrap().device;
            let expected = steps.last().unwrap();
            assert_eq!(known.registration, last);
            let known = known.registration.unwrap();
            assert_eq!(known.announced, expected.3);
            assert_eq!(known.binding.to_string(), expected.2);
        }
    }
}

pub(crate) async fn a_removed_device_does_not_come_back_by_itself(store: &impl Store) {
    let (world, _) = World::with_devices(store, 1).await;
    assert!(store.remove_device("d0", None, None, t(1)).await.unwrap());
    world.commit(&[registered("d0", t(2))]).await;
    assert_eq!(store.device("d0").await.unwrap(), None);
    assert_eq!(
        store.restore_devices(0, 9).await.unwrap().devices[0].registration,
        None
    );
}

pub(crate) async fn reports_are_kept_and_unknown_devices_ignored(store: &impl Store) {
    let (world, _) = World::with_devices(store, 1).await;
    let version = crate::package::Version::told(&[0xC3; 16]);
    let reading = CoverageReading {
        coverage: Coverage {
            cell: Some(u32::MAX),
            rsrp_dbm: Some(-120),
            sinr_db: None,
        },
        at: t(9),
    };
    let reports = |endpoint: &str| {
        [
            Change::VersionReported {
                endpoint: endpoint.to_owned(),
                version,
                at: t(8),
            },
            Change::CoverageReported {
                endpoint: endpoint.to_owned(),
                reading,
                source: CoverageSource::Resources,
            },
        ]
    };
    world.commit(&reports("d0")).await;
    world.commit(&reports("nobody")).await;
    let detail = store.device("d0").await.unwrap().unwrap();
    assert_eq!(detail.coverage_source, Some(CoverageSource::Resources));
    let device = detail.device;
    assert_eq!(device.version, Some(version));
    assert_eq!(device.coverage, Some(reading));
    assert_eq!(device.last_heard_at, Some(t(9)));
    assert_eq!(store.device("nobody").await.unwrap(), None);
}

pub(crate) async fn evidence_comes_back_until_the_device_restarts(store: &impl Store) {
    let (world, _) = World::with_devices(store, 2).await;
    let evidence = |failure: Option<ReportedFailure>| Evidence {
        version: crate::package::Version::new("V2.0").unwrap(),
        taken: failure.is_none(),
        commanded: failure.is_none(),
        claimed: failure.is_none(),
        failure,
        at: t(7),
    };
    let failure = ReportedFailure {
        failed_in: FailedIn::Installation,
        code: pcp::ResultCode::INSTALL_FAILED,
    };
    let all = vec![evidence(Some(failure)), evidence(None)];
    let change = |endpoint: &str, evidence: &[Evidence]| Change::Evidence {
        endpoint: endpoint.to_owned(),
        evidence: evidence.to_vec(),
        at: t(7),
    };
    world.commit(&[change("d0", &all[..1])]).await;
    world
        .commit(&[
            registered("d0", t(5)),
            change("d0", &all),
            change("nobody", &all),
        ])
        .await;
    let device = store.device("d0").await.unwrap().unwrap().device;
    assert_eq!(device.evidence, all);
    assert_eq!(device.last_heard_at, Some(t(7)));
    let restored = store.restore_devices(0, 9).await.unwrap().devices;
    assert_eq!(restored[0].evidence, all);
    assert_eq!(restored[1].evidence, []);
    world.commit(&[change("d0", &[])]).await;
    let device = store.device("d0").await.unwrap().unwrap().device;
    assert_eq!(device.evidence, []);
}

pub(crate) async fn a_stage_comes_back_with_all_it_needs(store: &impl Store) {
    let (world, task) = World::with_task(store, 3, 2).await;
    let ids = world.ids(task.id).await;
    let download = stage_change(Stage::Downloading, t(20));
    world
        .commit(&[
            stage(ids[0], 1, Stage::WaitingForDevice, t(10)),
            stage(ids[2], 1, Stage::WaitingForSlot, t(15)),
            stage(ids[2], 1, Stage::Downloading, t(20)),
            Change::Progress {
                upgrade: ids[2],
                progress: at_byte(1_000),
                at: t(25),
            },
        ])
        .await;
    let first = store.restore_upgrades(None, 1).await.unwrap();
    assert_eq!(first[0].order.upgrade, ids[0]);
    assert_eq!(first[0].stage.cell, None);
    let rest = store.restore_upgrades(Some(ids[0]), 10).await.unwrap();
    assert_eq!(rest.len(), 1);
    let active = &rest[0];
    assert_eq!(active.stage, download);
    assert_eq!(active.progress, Some(at_byte(1_000)));
    assert_eq!(active.order.endpoint, "d2");
    assert_eq!(active.order.task, task.id);
    assert_eq!(active.order.served, Served::first(task.package));
    assert_eq!(active.order.attempt, 1);
    assert_eq!(active.order.retry, task.retry);
}

pub(crate) async fn devices_whose_upgrade_runs_come_back_first(store: &impl Store) {
    let (world, task) = World::with_task(store, 5, 2).await;
    let ids = world.ids(task.id).await;
    world
        .commit(&[
            registered("d3", t(1)),
            stage(ids[3], 1, Stage::Downloading, t(1)),
            stage(ids[1], 1, Stage::WaitingForDevice, t(1)),
            stage(ids[4], 1, Stage::WaitingForDevice, t(1)),
            ended(ids[4], task.id, 1, NOT_HEARD, Some(t(300)), t(2)),
        ])
        .await;
    let first = store.restore_busy_devices(None, 1).await.unwrap();
    assert_eq!(first[0].endpoint, "d1");
    let rest = store.restore_busy_devices(Some("d1"), 9).await.unwrap();
    assert_eq!(rest.len(), 1);
    let all = store.restore_devices(0, 9).await.unwrap().devices;
    assert_eq!(rest[0], all[3]);
}

pub(crate) async fn the_same_changes_twice_are_the_same_as_once(store: &impl Store) {
    let (world, task) = World::with_task(store, 2, 0).await;
    let id = world.ids(task.id).await[0];
    let changes = [
        stage(id, 1, Stage::QueryingVersion, t(1)),
        ended(id, task.id, 1, UPGRADED, None, t(2)),
    ];
    world.commit(&changes).await;
    let once = store.upgrade(id).await.unwrap();
    let report = store.commit(next_batch(), &changes).await.unwrap();
    assert_eq!(report.refused, [id]);
    assert_eq!(store.upgrade(id).await.unwrap(), once);
}

pub(crate) async fn a_late_end_of_an_older_attempt_changes_nothing(store: &impl Store) {
    let (world, task) = World::with_task(store, 1, 3).await;
    let id = world.ids(task.id).await[0];
    world
        .commit(&[
            stage(id, 1, Stage::WaitingForDevice, t(1)),
            ended(id, task.id, 1, NOT_HEARD, Some(t(60)), t(2)),
            stage(id, 2, Stage::WaitingForDevice, t(60)),
        ])
        .await;
    let before = store.upgrade(id).await.unwrap();
    world
        .commit(&[
            stage(id, 1, Stage::Executing, t(61)),
            ended(id, task.id, 1, NOT_HEARD, None, t(61)),
        ])
        .await;
    assert_eq!(store.upgrade(id).await.unwrap(), before);
}

pub(crate) async fn a_failure_with_another_attempt_waits_for_it(store: &impl Store) {
    let (world, task) = World::with_task(store, 1, 1).await;
    let id = world.ids(task.id).await[0];
    world
        .commit(&[
            stage(id, 1, Stage::WaitingForDevice, t(1)),
            ended(id, task.id, 1, NOT_HEARD, Some(t(300)), t(2)),
        ])
        .await;
    let upgrade = store.upgrade(id).await.unwrap().unwrap().upgrade;
    assert_eq!(upgrade.state, UpgradeState::Pending);
    assert_eq!((upgrade.attempts, upgrade.not_before), (1, t(300)));
    assert_eq!(upgrade.outcome.unwrap().reason, "device_not_heard");
    assert_eq!((upgrade.stage, upgrade.ended_at), (None, None));
    assert_eq!(starts(store, 299, 9).await, []);
    let order = starts(store, 300, 9).await.remove(0);
    assert_eq!(order.attempt, 2);
    world
        .commit(&[ended(id, task.id, 2, NOT_HEARD, None, t(301))])
        .await;
    let upgrade = store.upgrade(id).await.unwrap().unwrap().upgrade;
    assert_eq!(upgrade.state, UpgradeState::Failed);
    assert_eq!((upgrade.attempts, upgrade.ended_at), (2, Some(t(301))));
}

pub(crate) async fn no_attempt_follows_in_a_stopped_task(store: &impl Store) {
    let (world, task) = World::with_task(store, 1, 5).await;
    let id = world.ids(task.id).await[0];
    world
        .commit(&[stage(id, 1, Stage::WaitingForDevice, t(1))])
        .await;
    store.stop_task(task.id, t(2), false).await.unwrap();
    world
        .commit(&[ended(id, task.id, 1, NOT_HEARD, Some(t(300)), t(3))])
        .await;
    assert_eq!(world.state_of(id).await, UpgradeState::Failed);
    let task = store.task(task.id).await.unwrap().unwrap();
    assert_eq!(
        (task.state, task.ended_at),
        (TaskState::Stopped, Some(t(3)))
    );
}

pub(crate) async fn no_attempt_follows_on_a_removed_device(store: &impl Store) {
    let (world, task) = World::with_task(store, 1, 5).await;
    let id = world.ids(task.id).await[0];
    world
        .commit(&[stage(id, 1, Stage::WaitingForDevice, t(1))])
        .await;
    store.remove_device("d0", None, None, t(2)).await.unwrap();
    world
        .commit(&[ended(id, task.id, 1, NOT_HEARD, Some(t(300)), t(3))])
        .await;
    assert_eq!(world.state_of(id).await, UpgradeState::Failed);
}

pub(crate) async fn the_end_of_the_last_upgrade_ends_the_task(store: &impl Store) {
    let (world, task) = World::with_task(store, 2, 0).await;
    let ids = world.ids(task.id).await;
    world
        .commit(&[ended(ids[0], task.id, 1, UPGRADED, None, t(1))])
        .await;
    let half = store.task(task.id).await.unwrap().unwrap();
    assert_eq!(half.state, TaskState::Running);
    world
        .commit(&[ended(ids[1], task.id, 1, NOT_HEARD, None, t(2))])
        .await;
    let done = store.task(task.id).await.unwrap().unwrap();
    assert_eq!(done.state, TaskState::Finished);
    assert_eq!(done.ended_at, Some(t(2)));
    assert_eq!(done.counts[&UpgradeState::Succeeded], 1);
    assert_eq!(done.counts[&UpgradeState::Failed], 1);
}

pub(crate) async fn a_stopped_upgrade_is_refused_when_it_begins_late(store: &impl Store) {
    let (world, task) = World::with_task(store, 1, 0).await;
    let id = world.ids(task.id).await[0];
    store.stop_task(task.id, t(1), false).await.unwrap();
    let report = store
        .commit(
            next_batch(),
            &[
                stage(id, 1, Stage::WaitingForDevice, t(2)),
                stage(UpgradeId(4_711), 1, Stage::WaitingForDevice, t(2)),
                stage(id, 1, Stage::QueryingVersion, t(2)),
            ],
        )
        .await
        .unwrap();
    assert_eq!(report.refused, [id, UpgradeId(4_711)]);
    assert_eq!(world.state_of(id).await, UpgradeState::Cancelled);
}

pub(crate) async fn progress_belongs_to_its_attempt(store: &impl Store) {
    let (world, task) = World::with_task(store, 1, 1).await;
    let id = world.ids(task.id).await[0];
    let progress = Change::Progress {
        upgrade: id,
        progress: at_byte(500),
        at: t(2),
    };
    world.commit(std::slice::from_ref(&progress)).await;
    let waiting = store.upgrade(id).await.unwrap().unwrap().upgrade;
    assert_eq!((waiting.segment, waiting.progress), (None, None));
    world
        .commit(&[stage(id, 1, Stage::Downloading, t(1)), progress])
        .await;
    let running = store.upgrade(id).await.unwrap().unwrap().upgrade;
    assert_eq!(
        (running.segment, running.progress),
        (Some(1), Some(at_byte(500)))
    );
    world
        .commit(&[
            ended(id, task.id, 1, NOT_HEARD, Some(t(9)), t(3)),
            stage(id, 2, Stage::Downloading, t(9)),
        ])
        .await;
    let again = store.upgrade(id).await.unwrap().unwrap().upgrade;
    assert_eq!((again.segment, again.progress), (None, None));
    world
        .commit(&[ended(id, task.id, 2, UPGRADED, None, t(10))])
        .await;
    let done = store.upgrade(id).await.unwrap().unwrap().upgrade;
    assert_eq!(done.cell, Some(51_234));
}

pub(crate) async fn how_a_device_was_kept_awake_is_known_to_all_attempts(store: &impl Store) {
    let (world, task) = World::with_task(store, 2, 1).await;
    let ids = world.ids(task.id).await;
    let kept_awake = |upgrade, time_s, pings| Change::KeptAwake {
        upgrade,
        standby: Standby { time_s, pings },
    };
    let standby = async || {
        let active = store.restore_upgrades(None, 9).await.unwrap();
        let standby = active.iter().map(|active| active.order.kept_awake);
        standby.collect::<Vec<_>>()
    };
    world
        .commit(&[
            stage(ids[0], 1, Stage::WaitingForSlot, t(1)),
            stage(ids[1], 1, Stage::WaitingForSlot, t(1)),
            kept_awake(ids[1], 300, 20),
            kept_awake(UpgradeId(999), 300, 20),
        ])
        .await;
    let none = Standby::default();
    let some = Standby {
        time_s: 600,
        pings: 20,
    };
    assert_eq!(
        standby().await,
        [
            none,
            Standby {
                time_s: 300,
                ..some
            }
        ]
    );
    // the larger of both, in each respect
    world
        .commit(&[kept_awake(ids[1], 600, 10), kept_awake(ids[1], 500, 15)])
        .await;
    assert_eq!(standby().await, [none, some]);
    world
        .commit(&[
            ended(ids[1], task.id, 1, NOT_HEARD, Some(t(300)), t(2)),
            ended(ids[0], task.id, 1, UPGRADED, None, t(2)),
        ])
        .await;
    let order = starts(store, 300, 9).await.remove(0);
    assert_eq!((order.attempt, order.kept_awake), (2, some));
}

pub(crate) async fn what_was_learnt_last_of_each_subject_comes_back(store: &impl Store) {
    assert_eq!(store.restore_learnt().await.unwrap(), []);
    let pace = |cell: Option<u32>, limit, samples: u32| {
        let mut ms_per_kib = Mean::default();
        for _ in 0..samples {
            ms_per_kib.add(7_000);
        }
        Learnt::Download(DownloadPace {
            lane: cell.map(Lane::Cell),
            limit,
            ms_per_kib,
        })
    };
    let product = |name: &str, answered_ms| Learnt::Product {
        product: name.into(),
        habits: ProductHabits {
            answered_ms,
            ..ProductHabits::default()
        },
    };
    let commit = async |learnt: &[Learnt]| {
        let changes: Vec<Change> = (learnt.iter())
            .map(|learnt| Change::Learnt(Box::new(learnt.clone())))
            .collect();
        World::new(store).commit(&changes).await;
    };
    commit(&[
        product("", 1),
        pace(Some(7), 10, 1),
        pace(None, 10, 1),
        product("meter", 1),
        pace(Some(7), 10, 2),
        pace(Some(7), 1, 1),
    ])
    .await;
    commit(&[product("meter", 2), pace(None, 10, 2)]).await;
    assert_eq!(
        store.restore_learnt().await.unwrap(),
        [
            pace(Some(7), 1, 1),
            pace(Some(7), 10, 2),
            pace(None, 10, 2),
            product("", 1),
            product("meter", 2),
        ]
    );
}

pub(crate) async fn cells_count_holders_and_waiters_and_keep_their_peaks(store: &impl Store) {
    let (world, task) = World::with_task(store, 4, 0).await;
    let ids = world.ids(task.id).await;
    let admitted = |limit, active, at| Change::Admitted {
        cell: 51_234,
        limit,
        active,
        at,
    };
    world
        .commit(&[
            stage(ids[0], 1, Stage::WaitingForSlot, t(1)),
            stage(ids[1], 1, Stage::WaitingForSlot, t(1)),
            stage(ids[2], 1, Stage::WaitingForSlot, t(1)),
            stage(ids[3], 1, Stage::QueryingCell, t(1)),
        ])
        .await;
    let cell = store.cells(None, None, 9).await.unwrap().items[0].record;
    assert_eq!((cell.cell, cell.active, cell.waiting), (51_234, 0, 3));
    assert_eq!((cell.limit_max, cell.last_admitted_at), (0, None));
    world
        .commit(&[
            stage(ids[0], 1, Stage::Downloading, t(2)),
            admitted(50, 1, t(2)),
            stage(ids[1], 1, Stage::Downloading, t(3)),
            admitted(10, 2, t(3)),
            stage(ids[0], 1, Stage::Executing, t(4)),
        ])
        .await;
    world
        .commit(&[ended(ids[1], task.id, 1, UPGRADED, None, t(5))])
        .await;
    let cell = store.cells(None, None, 9).await.unwrap().items[0].record;
    assert_eq!((cell.active, cell.waiting), (1, 1));
    assert_eq!((cell.limit_max, cell.concurrent_peak), (50, 2));
    assert_eq!(
        (cell.admitted_total, cell.last_admitted_at),
        (2, Some(t(3)))
    );
    assert_eq!(store.cells(Some(51_234), None, 9).await.unwrap().items, []);
}

pub(crate) async fn hundreds_of_changes_in_one_commit(store: &impl Store) {
    let (world, task) = World::with_task(store, 300, 0).await;
    let ids = world.ids(task.id).await;
    let changes: Vec<Change> = ids
        .iter()
        .flat_map(|id| {
            [
                stage(*id, 1, Stage::WaitingForDevice, t(1)),
                Change::Note {
                    upgrade: *id,
                    attempt: 1,
                    line: crate::ledger::Line::sentence("heard"),
                    at: t(1),
                },
                ended(
                    *id,
                    task.id,
                    1,
                    Outcome::Cancelled(Cancellation::TaskStopped),
                    None,
                    t(2),
                ),
            ]
        })
        .collect();
    world.commit(&changes).await;
    let done = store.task(task.id).await.unwrap().unwrap();
    assert_eq!(done.counts[&UpgradeState::Cancelled], 300);
    assert_eq!(done.state, TaskState::Finished);
    assert_eq!(store.restore_upgrades(None, 9).await.unwrap(), []);
}

pub(crate) async fn values_are_kept_under_their_keys(store: &impl Store) {
    assert_eq!(store.meta("secret").await.unwrap(), None);
    store.set_meta("secret", &[0, 255]).await.unwrap();
    store.set_meta("secret", &[7]).await.unwrap();
    assert_eq!(store.meta("secret").await.unwrap(), Some(vec![7]));
    store.check().await.unwrap();
    assert_eq!(store.commit(next_batch(), &[]).await.unwrap().refused, []);
}

pub(crate) async fn the_queue_of_a_cell_is_told_in_the_order_of_waiting(store: &impl Store) {
    let (world, task) = World::with_task(store, 4, 0).await;
    let ids = world.ids(task.id).await;
    world
        .commit(&[
            stage(ids[0], 1, Stage::Downloading, t(1)),
            stage(ids[1], 1, Stage::WaitingForSlot, t(9)),
            stage(ids[2], 1, Stage::WaitingForSlot, t(3)),
            stage(ids[3], 1, Stage::QueryingVersion, t(3)),
        ])
        .await;
    let mut queues = Vec::new();
    for id in ids {
        let detail = store.upgrade(id).await.unwrap().unwrap();
        queues.push(detail.queue.map(|queue| (queue.active, queue.ahead)));
    }
    assert_eq!(queues, [None, Some((1, 1)), Some((1, 0)), None]);
}

pub(crate) async fn what_nobody_has_any_more_begins_again_if_somebody_wants_it(store: &impl Store) {
    let (world, task) = World::with_task(store, 1, 1).await;
    let id = world.ids(task.id).await[0];
    let commit = async |change: Change| {
        let report = store.commit(next_batch(), &[change]).await;
        report.unwrap().refused
    };
    let let_go = |attempt, at| Change::LetGo {
        upgrade: id,
        attempt,
        at,
    };
    // it was cancelled when it began; before the engine hears of that, it is tried again, and goes on
    store.cancel_upgrade(id, None, t(1)).await.unwrap();
    let begins = stage(id, 1, Stage::WaitingForDevice, t(1));
    assert_eq!(commit(begins).await, [id]);
    store.retry_upgrade(id, None, t(2)).await.unwrap();
    assert_eq!(commit(stage(id, 1, Stage::QueryingVersion, t(3))).await, []);
    assert_eq!(commit(let_go(1, t(4))).await, []);
    assert_eq!(world.state_of(id).await, UpgradeState::Pending);
    let order = starts(store, 5, 9).await.remove(0);
    assert_eq!((order.attempt, order.retry.attempts), (2, 2));
    let counted = store.task(task.id).await.unwrap().unwrap();
    assert_eq!(counted.results[0].waiting, 1);
    // of another attempt, or of one that has ended, it means nothing
    commit(stage(id, 2, Stage::Downloading, t(5))).await;
    commit(let_go(1, t(6))).await;
    let running = UpgradeState::Active(Stage::Downloading);
    assert_eq!(world.state_of(id).await, running);
    let cell = async || {
        store.cells(None, None, 9).await.unwrap().items[0]
            .record
            .active
    };
    assert_eq!(cell().await, 1);
    // nobody wants it any more: it ends, and with it its task
    store.cancel_upgrade(id, None, t(7)).await.unwrap();
    commit(let_go(2, t(8))).await;
    assert_eq!(world.state_of(id).await, UpgradeState::Cancelled);
    assert_eq!(cell().await, 0);
    let ended = store.task(task.id).await.unwrap().unwrap();
    assert_eq!(ended.state, TaskState::Finished);
    commit(let_go(2, t(9))).await;
    assert_eq!(world.state_of(id).await, UpgradeState::Cancelled);
}
