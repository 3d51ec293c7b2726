use std::sync::Arc;

use super::*;
use crate::{
    ledger::{Lane, PackageId, RetryPolicy, Served, Standby, StopReason, TaskId, TaskState},
    store::{CellChange, LaneLimit},
    task::{CellRules, LotHead, Membership, Results, TaskRules},
};

const NOW: Now = Now {
    instant: Instant::from_millis(5_000),
    utc: UtcMillis(1_800_000_000_000),
};

fn change(revision: i64, endpoint: &str, removed: bool) -> DeviceChange {
    DeviceChange {
        revision,
        endpoint: endpoint.into(),
        product: "p".into(),
        secure: false,
        protocol: crate::ledger::Protocol::Lwm2m,
        psk: None,
        mqtt: None,
        removed,
        via: crate::ledger::Via::Itself,
    }
}

fn head(state: TaskState) -> TaskHead {
    TaskHead {
        task: TaskId(1),
        state,
        start_at: NOW.utc,
        rules: Arc::default(),
        hold: None,
        expired: false,
        phase: 0,
        results: Vec::new(),
        resumed_with: Results::default(),
        lots: vec![LotHead {
            lot: 0,
            zone: None,
            first_due: Some((NOW.utc, UpgradeId(1))),
        }],
    }
}

fn due(upgrade: i64) -> Due {
    let order = UpgradeOrder {
        upgrade: UpgradeId(upgrade),
        task: TaskId(1),
        endpoint: format!("d{upgrade}"),
        served: Served::first(PackageId(1)),
        hardware: None,
        attempt: 1,
        retry: RetryPolicy::default(),
        kept_awake: Standby::default(),
        begun_at: None,
        back: None,
        further: crate::ledger::Further::NONE,
    };
    Due {
        since: NOW.utc,
        order,
        spent: None,
    }
}

/// Goes through a whole look with a store that has this to say, and tells what was wanted.
fn look(reconciler: &mut Reconciler, mut store: impl FnMut(&Query) -> Reply) -> Vec<String> {
    let mut wanted = Vec::new();
    loop {
        let want = reconciler.want(NOW);
        match want {
            Want::Ask(query) => {
                let reply = store(&query);
                reconciler.reply(NOW, reply);
            }
            Want::Rule(changes) => {
                wanted.extend(changes.cells.iter().map(|it| format!("rule {}", it.cell)));
                let limits = changes.limits.iter();
                wanted.extend(limits.map(|it| format!("limit {:?}", it.limit)));
                reconciler.obeyed();
            }
            Want::Share(shares) => {
                wanted.extend(shares.iter().map(|(task, share)| {
                    format!("share {} {} {}", task.0, share.priority, share.weight)
                }));
                reconciler.obeyed();
            }
            Want::Follow(changes) => {
                wanted.extend(changes.iter().map(|it| format!("follow {}", it.endpoint)));
                reconciler.obeyed();
            }
            Want::Obey(commands) => {
                wanted.extend(commands.iter().map(|it| format!("{:?}", it.endpoint())));
                reconciler.obeyed();
            }
            Want::Start(orders) => {
                wanted.extend(orders.iter().map(|it| format!("start {}", it.endpoint)));
                reconciler.obeyed();
            }
            Want::Wait(pause) => {
                wanted.push(format!("wait {pause:?}"));
                return wanted;
            }
        }
    }
}

fn nothing(query: &Query) -> Reply {
    match query {
        Query::RemoveNewcomers { .. } => Reply::NewcomersRemoved(0),
        Query::LaneChanges { .. } => Reply::Lanes(LaneChanges::default()),
        Query::DeviceChanges { .. } => Reply::Devices(Vec::new()),
        Query::ForgetRemoved(_) | Query::Move(_) | Query::PutOff(_) => Reply::Done,
        Query::Join { .. } => Reply::Joined(None),
        Query::ToStop(_) => Reply::ToStop(Vec::new()),
        Query::Running { .. } => Reply::Running(Vec::new()),
        Query::Soaks { .. } => Reply::Soaks(SoaksDue::default()),
        Query::Heads(_) => Reply::Heads(Vec::new()),
        Query::Due { .. } => Reply::Due(Vec::new()),
        Query::NextTime(_) => Reply::NextTime(None),
    }
}

#[test]
fn cells_and_devices_come_before_stops_and_stops_before_starts() {
    let mut reconciler = Reconciler::new(NOW, 3, true).knowing_lanes((7, 4));
    let mut forgotten = Vec::new();
    let mut begun = 0;
    let mut state = TaskState::Scheduled;
    let wanted = look(&mut reconciler, |query| match query {
        Query::LaneChanges { after: (7, 4), .. } => Reply::Lanes(LaneChanges {
            cells: vec![CellChange {
                revision: 8,
                cell: 51,
                rules: CellRules::default(),
            }],
            limits: vec![LaneLimit {
                revision: 5,
                lane: Lane::site("default", "depot-4"),
                limit: Some(5),
            }],
        }),
        Query::DeviceChanges { after: 3, .. } => {
            Reply::Devices(vec![change(4, "new", false), change(5, "gone", true)])
        }
        Query::ForgetRemoved(endpoint) => {
            forgotten.push(endpoint.clone());
            Reply::Done
        }
        Query::ToStop(_) => Reply::ToStop(vec![UpgradeToStop {
            upgrade: UpgradeId(9),
            task: TaskId(1),
            endpoint: "stopped".into(),
            reason: StopReason::TaskStopped,
        }]),
        Query::Heads(_) => Reply::Heads(vec![head(state)]),
        Query::Move(moves) => {
            assert_eq!(*moves, [Move::Begin(TaskId(1))]);
            state = TaskState::Running;
            Reply::Done
        }
        Query::Due { sources, .. } => {
            assert_eq!(sources[0].task, TaskId(1));
            begun += 1;
            // each page tells also of one that was begun already, and could not
            Reply::Due(vec![due(1), due(begun.min(3))])
        }
        Query::NextTime(at) => Reply::NextTime(Some(*at + Duration::from_secs(3))),
        other => nothing(other),
    });
    let expected = [
        "rule 51",
        "limit Some(5)",
        "follow new",
        "follow gone",
        "Some(\"stopped\")",
        "start d1",
        "start d2",
        "start d3",
    ];
    assert_eq!(wanted[..8], expected);
    assert_eq!(forgotten, ["gone"]);
    assert_eq!(reconciler.revision, 5);
}

#[test]
fn devices_whose_soak_is_over_are_asked_before_tasks_are_planned() {
    let mut reconciler = Reconciler::new(NOW, 0, true);
    let mut planned_after = None;
    let mut asked = false;
    let wanted = look(&mut reconciler, |query| match query {
        Query::Soaks { limit, .. } => {
            assert_eq!(*limit, PAGE);
            asked = true;
            let ask = vec!["upgraded".to_owned()];
            let looked_at = 1;
            Reply::Soaks(SoaksDue { ask, looked_at })
        }
        Query::Heads(_) => {
            planned_after = Some(asked);
            Reply::Heads(Vec::new())
        }
        other => nothing(other),
    });
    // and looks again for those that did not fit in the page
    assert_eq!(wanted, ["Some(\"upgraded\")", "wait 1s"]);
    assert_eq!(planned_after, Some(true));
    reconciler.look();
    let wanted = look(&mut reconciler, |query| {
        assert!(!matches!(query, Query::Soaks { .. }));
        nothing(query)
    });
    assert_eq!(wanted, ["wait 1s"]);
}

#[test]
fn the_gate_knows_the_share_of_a_task_before_it_begins_and_until_it_ends() {
    let mut reconciler = Reconciler::new(NOW, 0, false);
    let mut weight = Some(3);
    for expected in [
        &["share 1 5 3", "start d1"][..],
        &["start d1"],
        &["share 1 5 4", "start d1"],
        &["share 1 5 1"],
        &[],
    ] {
        let mut begun = false;
        let mut wanted = look(&mut reconciler, |query| match query {
            Query::Heads(_) => {
                let rules = TaskRules {
                    weight,
                    ..TaskRules::default()
                };
                let head = TaskHead {
                    rules: Arc::new(rules),
                    ..head(TaskState::Running)
                };
                Reply::Heads(weight.map(|_| head).into_iter().collect())
            }
            Query::Due { .. } if !std::mem::replace(&mut begun, true) => Reply::Due(vec![due(1)]),
            other => nothing(other),
        });
        wanted.pop(); // until when it waits
        assert_eq!(wanted, expected);
        reconciler.look();
        weight = match expected {
            ["share 1 5 3", ..] => weight,
            ["start d1"] => Some(4),
            _ => None,
        };
    }
}

#[test]
fn where_nothing_is_due_it_waits_for_long_and_then_looks_again() {
    let mut reconciler = Reconciler::new(NOW, 0, true);
    let mut looks = 0;
    let wanted = look(&mut reconciler, |query| {
        looks += u32::from(matches!(query, Query::NextTime(_)));
        nothing(query)
    });
    assert_eq!((wanted, looks), (vec![format!("wait {IDLE:?}")], 1));
    assert!(matches!(reconciler.want(NOW), Want::Wait(IDLE)));
    reconciler.look();
    assert!(matches!(
        reconciler.want(NOW),
        Want::Ask(Query::LaneChanges { after: (0, 0), .. })
    ));
}

#[test]
fn a_part_of_a_sweep_delays_what_begins_and_the_next_part_lets_it_pass() {
    let joining = || TaskHead {
        rules: Arc::new(TaskRules {
            membership: Membership::Joining,
            ..TaskRules::default()
        }),
        ..head(TaskState::Running)
    };
    let mut reconciler = Reconciler::new(NOW, 0, true);
    let mut asked = Vec::new();
    let mut begun = false;
    let wanted = look(&mut reconciler, |query| match query {
        Query::Heads(_) => Reply::Heads(vec![joining()]),
        Query::Join { task, after } => {
            asked.push((task.0, after.clone()));
            Reply::Joined(Some("m".to_owned()))
        }
        Query::Due { .. } if !std::mem::replace(&mut begun, true) => Reply::Due(vec![due(1)]),
        other => nothing(other),
    });
    assert_eq!(asked, [(1, None)]);
    assert_eq!(wanted, ["start d1", "wait 10ms"]);
    reconciler.look();
    let later = Now {
        instant: NOW.instant + SOON,
        utc: NOW.utc + SOON,
    };
    while let Want::Ask(query) = reconciler.want(later) {
        let reply = match &query {
            Query::Heads(_) => Reply::Heads(vec![joining()]),
            Query::Join { after, .. } => {
                assert_eq!(after.as_deref(), Some("m"));
                asked.clear();
                Reply::Joined(None)
            }
            other => nothing(other),
        };
        reconciler.reply(later, reply);
    }
    assert_eq!(asked, []);
    // the next one begins when devices have changed, or after the interval
    assert!(matches!(reconciler.want(later), Want::Wait(IDLE)));
    reconciler.members_changed();
    reconciler.look();
    let mut swept = false;
    let wanted = look(&mut reconciler, |query| match query {
        Query::Heads(_) => Reply::Heads(vec![joining()]),
        Query::Join { .. } => {
            swept = true;
            Reply::Joined(None)
        }
        other => nothing(other),
    });
    assert!(!swept, "a second has not passed");
    assert_eq!(wanted.last().unwrap(), "wait 1.01s");
}

#[test]
fn however_many_tasks_devices_join_others_begin_between_the_parts_of_sweeps() {
    let heads = || {
        let joins = |task| TaskHead {
            task: TaskId(task),
            rules: Arc::new(TaskRules {
                membership: Membership::Joining,
                ..TaskRules::default()
            }),
            ..head(TaskState::Running)
        };
        (1..=5).map(joins).collect::<Vec<_>>()
    };
    let mut reconciler = Reconciler::new(NOW, 0, true);
    let mut done = Vec::new();
    let mut upgrade = 0;
    look(&mut reconciler, |query| match query {
        Query::Heads(_) => Reply::Heads(heads()),
        Query::Join { task, .. } => {
            done.push(format!("sweep {}", task.0));
            Reply::Joined(None)
        }
        Query::Due { .. } if upgrade < 2 => {
            upgrade += 1;
            done.push("start".to_owned());
            Reply::Due(vec![due(upgrade)])
        }
        other => nothing(other),
    });
    assert_eq!(done, ["sweep 1", "start", "sweep 2", "start", "sweep 3"]);
}

#[test]
fn what_has_failed_is_asked_again_with_the_next_look() {
    let mut reconciler = Reconciler::new(NOW, 0, true);
    reconciler.reply(NOW, Reply::NewcomersRemoved(0));
    reconciler.reply(NOW, Reply::Lanes(LaneChanges::default()));
    reconciler.reply(NOW, Reply::Devices(vec![change(1, "a", false)]));
    assert!(matches!(reconciler.want(NOW), Want::Follow(_)));
    reconciler.look();
    let wanted = look(&mut reconciler, |query| match query {
        Query::DeviceChanges { after: 0, .. } => Reply::Devices(vec![change(1, "a", false)]),
        other => nothing(other),
    });
    assert_eq!(wanted[0], "follow a");
}

#[test]
fn newcomers_are_forgotten_where_they_may_come_and_had_time_to_come_back() {
    let hours = |hours| Now {
        instant: NOW.instant + Duration::from_hours(hours),
        utc: NOW.utc + Duration::from_hours(hours),
    };
    let asked = |reconciler: &mut Reconciler, now| match reconciler.want(now) {
        Want::Ask(Query::RemoveNewcomers { ended, .. }) => Some(ended),
        _ => None,
    };
    assert_eq!(asked(&mut Reconciler::new(NOW, 0, false), hours(48)), None);
    let mut reconciler = Reconciler::new(NOW, 0, true);
    assert_eq!(asked(&mut reconciler, NOW), None);
    reconciler.look();
    // those who were there at the start may be on their way back
    let ended = NOW.utc..hours(1).utc;
    assert_eq!(asked(&mut reconciler, hours(2)), Some(ended));
    // a whole page may not have been all
    reconciler.reply(hours(2), Reply::NewcomersRemoved(PAGE.into()));
    reconciler.look();
    assert!(asked(&mut reconciler, hours(2)).is_some());
    reconciler.reply(hours(2), Reply::NewcomersRemoved(7));
    reconciler.look();
    assert_eq!(asked(&mut reconciler, hours(2)), None);
    reconciler.look();
    let ended = UtcMillis(0)..hours(24).utc;
    assert_eq!(asked(&mut reconciler, hours(25)), Some(ended));
}

#[test]
fn what_runs_is_told_when_the_windows_of_its_task_change() {
    let windows = |to| {
        let json = format!(
            r#"{{"windows": {{"zone": "UTC", "at_end": "take_back", "windows": [{{"from": "08:00", "to": "{to}"}}]}}}}"#
        );
        serde_json::from_str::<TaskRules>(&json).unwrap()
    };
    let mut reconciler = Reconciler::new(NOW, 0, false);
    let mut told = Vec::new();
    // they are new, the same, longer, and gone
    for rules in [
        windows("09:00"),
        windows("09:00"),
        windows("10:00"),
        TaskRules::default(),
    ] {
        let mut asked = Vec::new();
        let rules = Arc::new(rules);
        loop {
            match reconciler.want(NOW) {
                Want::Ask(query) => {
                    let reply = match &query {
                        Query::Heads(_) => Reply::Heads(vec![TaskHead {
                            rules: Arc::clone(&rules),
                            ..head(TaskState::Running)
                        }]),
                        Query::Running { after, limit, .. } => {
                            asked.push(*after);
                            // a whole page, and one more
                            let page: i64 = if after.is_none() { (*limit).into() } else { 1 };
                            let first = after.map_or(1, |after| after.0 + 1);
                            let running = |id| RunningUpgrade {
                                upgrade: UpgradeId(id),
                                endpoint: format!("d{id}"),
                                zone: None,
                            };
                            Reply::Running((first..first + page).map(running).collect())
                        }
                        other => nothing(other),
                    };
                    reconciler.reply(NOW, reply);
                }
                Want::Obey(commands) => {
                    let Some(Command::TakeBack { back, .. }) = commands.last() else {
                        panic!("{commands:?}");
                    };
                    told.push((
                        commands.len(),
                        back.map(|back| back.at.since(NOW.utc).as_secs()),
                    ));
                    reconciler.obeyed();
                }
                Want::Wait(_) => break,
                other => panic!("{other:?}"),
            }
        }
        assert!(asked.is_empty() || asked == [None, Some(UpgradeId(PAGE.into()))]);
        reconciler.look();
    }
    let page = PAGE as usize;
    assert_eq!(
        told,
        [
            (page, Some(3_600)),
            (1, Some(3_600)),
            (page, Some(7_200)),
            (1, Some(7_200)),
            (page, None),
            (1, None)
        ]
    );
}

#[test]
fn the_end_of_a_window_that_is_far_away_is_told_when_it_comes_near() {
    // open at all times but on these days
    let rules = |days: &[&str]| {
        let windows = serde_json::json!({"windows": {"zone": "UTC", "at_end": "take_back", "windows": [
            {"from": "00:00", "to": "00:00"}], "holidays": days}});
        Arc::new(serde_json::from_value::<TaskRules>(windows).unwrap())
    };
    let hours = |hours: u64| Now {
        instant: NOW.instant + Duration::from_hours(hours),
        utc: NOW.utc + Duration::from_hours(hours),
    };
    // NOW is 08:00 on 2027-01-15; hours at which it is looked, and in which the end is told, if it is known
    let (never, known): (&[&str], &[&str]) = (&[], &["2027-01-25"]);
    let ends_in = 16 + 9 * 24;
    for (days, looks, expected) in [
        (
            known,
            [0, 1, 7 * 24 - 1, 7 * 24, 8 * 24],
            vec![(0, None), (7 * 24, Some(ends_in))],
        ),
        // it is known at once
        (
            &["2027-01-20"],
            [0, 1, 2, 3, 4],
            vec![(0, Some(16 + 4 * 24))],
        ),
        (
            never,
            [0, 1, 7 * 24, 14 * 24 - 1, 14 * 24],
            vec![(0, None), (7 * 24, None), (14 * 24, None)],
        ),
    ] {
        let rules = rules(days);
        let mut reconciler = Reconciler::new(NOW, 0, false);
        let mut told = Vec::new();
        for look in looks {
            let now = hours(look);
            reconciler.look();
            loop {
                match reconciler.want(now) {
                    Want::Ask(query) => {
                        let reply = match &query {
                            Query::Heads(_) => Reply::Heads(vec![TaskHead {
                                rules: Arc::clone(&rules),
                                ..head(TaskState::Running)
                            }]),
                            Query::Running { .. } => Reply::Running(vec![RunningUpgrade {
                                upgrade: UpgradeId(7),
                                endpoint: "d7".to_owned(),
                                zone: None,
                            }]),
                            other => nothing(other),
                        };
                        reconciler.reply(now, reply);
                    }
                    Want::Obey(commands) => {
                        let [Command::TakeBack { back, .. }] = &commands[..] else {
                            panic!("{commands:?}");
                        };
                        let ends = back.map(|back| back.at.since(NOW.utc).as_secs() / 3_600);
                        told.push((look, ends));
                        reconciler.obeyed();
                    }
                    Want::Wait(_) => break,
                    other => panic!("{other:?}"),
                }
            }
        }
        assert_eq!(told, expected, "{days:?}");
    }
}

#[test]
fn what_has_no_budget_left_is_put_off_before_the_rest_begins() {
    let mut reconciler = Reconciler::new(NOW, 0, false);
    let usage = |bytes| crate::ledger::Usage {
        bytes,
        airtime_estimated_ms: 0,
    };
    let until = NOW.utc + Duration::from_hours(24);
    let spends = |upgrade, used| Due {
        spent: Some(crate::task::Spent {
            used: usage(used),
            need: usage(10),
            month_ends_at: until,
        }),
        ..due(upgrade)
    };
    let budget = crate::task::Budget {
        bytes_per_month: Some(20),
        airtime_estimated_seconds_per_month: None,
    };
    let mut pages = vec![
        vec![spends(3, 0)],
        vec![spends(1, 11), spends(2, 10)],
        vec![spends(4, 11)],
    ];
    let mut put_off = Vec::new();
    let wanted = look(&mut reconciler, |query| match query {
        Query::Heads(_) => {
            let mut head = head(TaskState::Running);
            std::sync::Arc::make_mut(&mut head.rules).budget = Some(budget);
            Reply::Heads(vec![head])
        }
        Query::Due { sources, .. } => {
            assert_eq!(sources[0].budget, Some(budget));
            Reply::Due(pages.pop().unwrap_or_default())
        }
        Query::PutOff(these) => {
            put_off.extend(these.iter().map(|it| (it.upgrade.0, it.over.until)));
            Reply::Done
        }
        other => nothing(other),
    });
    // the first page has nobody who may begin, and others follow
    assert_eq!(put_off, [(4, until), (1, until)]);
    let starts: Vec<&String> = wanted.iter().filter(|it| it.starts_with("start")).collect();
    assert_eq!(starts, ["start d2", "start d3"]);
}
