use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::{
    clock::Instant,
    ledger::{PackageId, RetryPolicy, Served, Standby, Usage},
    task::Resource,
};

/// 2027-03-01T00:00:00Z, a Monday.
const MONDAY: i64 = 1_803_859_200_000;

fn at(seconds: i64) -> Now {
    Now {
        instant: Instant::from_millis(1_000_000 + seconds.unsigned_abs() * 1_000),
        utc: UtcMillis(MONDAY + seconds * 1_000),
    }
}

fn rules(json: &str) -> Arc<TaskRules> {
    Arc::new(serde_json::from_str(json).unwrap())
}

fn results(waiting: u64, succeeded: u64, failed: u64) -> Results {
    Results {
        waiting,
        succeeded,
        failed: BTreeMap::from([("upgrade_failed".to_owned(), failed)]),
        ..Results::default()
    }
}

fn head(task: i64, json: &str) -> TaskHead {
    TaskHead {
        task: TaskId(task),
        state: TaskState::Running,
        start_at: at(0).utc,
        rules: rules(json),
        hold: None,
        expired: false,
        phase: 0,
        results: vec![results(10, 0, 0), results(90, 0, 0)],
        resumed_with: Results::default(),
        lots: vec![lot(0, None, 0)],
    }
}

fn lot(lot: u32, zone: Option<&str>, due: i64) -> LotHead {
    LotHead {
        lot,
        zone: zone.map(Into::into),
        first_due: Some((at(due).utc, UpgradeId(i64::from(lot) + 1))),
    }
}

fn planned(heads: &[TaskHead], now: Now) -> Plan {
    plan(heads, &Paces::default(), now)
}

fn started(heads: &[TaskHead], now: Now) -> Vec<(i64, u32)> {
    let plan = planned(heads, now);
    assert_eq!(plan.moves, []);
    let start = plan.start.iter();
    start.map(|source| (source.task.0, source.lot)).collect()
}

#[test]
fn tasks_start_in_the_order_in_which_their_upgrades_became_due() {
    let due = |task, due| TaskHead {
        lots: vec![lot(0, None, due)],
        ..head(task, "{}")
    };
    let none = TaskHead {
        lots: Vec::new(),
        ..head(4, "{}")
    };
    let heads = [due(1, 90), due(2, 80), due(3, 90), none, due(5, 101)];
    assert_eq!(started(&heads, at(100)), [(2, 0), (1, 0), (3, 0)]);
}

#[test]
fn a_task_begins_when_its_time_has_come() {
    let scheduled = TaskHead {
        state: TaskState::Scheduled,
        start_at: at(100).utc,
        ..head(7, "{}")
    };
    let heads = [scheduled];
    assert_eq!(planned(&heads, at(99)), Plan::default());
    assert_eq!(planned(&heads, at(100)).moves, [Move::Begin(TaskId(7))]);
}

#[test]
fn nothing_of_a_task_begins_that_is_held() {
    let hold = Hold {
        why: HoldReason::Approval,
        at: at(0).utc,
    };
    for state in [TaskState::Scheduled, TaskState::Running] {
        let paused = TaskHead {
            state,
            hold: Some(hold.clone()),
            results: vec![results(0, 0, 100)],
            ..head(1, r#"{"phases": [{"count": 5}], "abort": [{"count": 1}]}"#)
        };
        assert_eq!(planned(&[paused], at(100)), Plan::default());
    }
}

#[test]
fn the_next_phase_begins_when_the_one_that_runs_has_come_true() {
    const PHASES: &str =
        r#"{"phases": [{"count": 10, "success_percent": 80, "min_results": 5}, {}]}"#;
    let with = |phase, results: Results| TaskHead {
        phase,
        results: vec![results, self::results(90, 0, 0)],
        ..head(1, PHASES)
    };
    let next = Move::NextPhase {
        task: TaskId(1),
        from: 0,
    };
    assert_eq!(planned(&[with(0, results(6, 4, 0))], at(0)).moves, []);
    assert_eq!(planned(&[with(0, results(5, 4, 1))], at(0)).moves, [next]);
    // the last phase ends with the task
    assert_eq!(planned(&[with(1, results(0, 10, 0))], at(0)).moves, []);
    let failed = planned(&[with(0, results(0, 7, 3))], at(5)).moves;
    let why = HoldReason::PhaseFailed {
        phase: 0,
        succeeded: 7,
        results: 10,
    };
    let at = at(5).utc;
    assert_eq!(failed, [Move::Hold(TaskId(1), Hold { why, at })]);
}

#[test]
fn somebody_has_a_look_after_a_phase_that_says_so() {
    let head = TaskHead {
        results: vec![results(0, 10, 0), results(90, 0, 0)],
        ..head(1, r#"{"phases": [{"count": 10, "then": "wait"}, {}]}"#)
    };
    let why = HoldReason::PhaseDone { phase: 0 };
    let at = at(5);
    let hold = Hold { why, at: at.utc };
    assert_eq!(planned(&[head], at).moves, [Move::Hold(TaskId(1), hold)]);
}

#[test]
fn too_many_failures_pause_or_stop_a_task_at_their_bounds() {
    let with = |json, results| TaskHead {
        results: vec![results],
        ..head(1, json)
    };
    let paused = |failed, results| {
        Move::Hold(
            TaskId(1),
            Hold {
                why: HoldReason::Failures {
                    failed,
                    results,
                    threshold: 0,
                },
                at: at(0).utc,
            },
        )
    };
    let tenth = r#"{"abort": [{"percent": 10, "min_results": 20}]}"#;
    for (results, moves) in [
        (results(9, 17, 2), vec![]),
        (results(9, 18, 2), vec![paused(2, 20)]),
        (results(9, 19, 1), vec![]),
        (results(9, 180, 20), vec![paused(20, 200)]),
        (results(9, 200, 0), vec![]),
    ] {
        assert_eq!(
            planned(&[with(tenth, results.clone())], at(0)).moves,
            moves,
            "{results:?}"
        );
    }
    let other_reason = r#"{"abort": [{"count": 1, "reasons": ["slot_timed_out"]}]}"#;
    assert_eq!(
        planned(&[with(other_reason, results(9, 0, 5))], at(0)).moves,
        []
    );
    let stop = r#"{"abort": [{"count": 3, "action": "stop"}]}"#;
    let moves = planned(&[with(stop, results(9, 0, 3))], at(0)).moves;
    assert!(matches!(
        &moves[..],
        [Move::Stop(
            TaskId(1),
            HoldReason::Failures { failed: 3, .. }
        )]
    ));
}

#[test]
fn a_task_that_was_resumed_counts_failures_anew() {
    let head = TaskHead {
        results: vec![results(9, 10, 7)],
        resumed_with: results(0, 10, 5),
        ..head(1, r#"{"abort": [{"count": 3}]}"#)
    };
    assert_eq!(planned(std::slice::from_ref(&head), at(0)).moves, []);
    let one_more = TaskHead {
        results: vec![results(8, 10, 8)],
        ..head
    };
    assert_eq!(planned(&[one_more], at(0)).moves.len(), 1);
}

#[test]
fn what_has_not_begun_by_the_last_time_is_done_away_with_once() {
    let json = r#"{"not_after": "2027-03-01T00:01:40Z"}"#;
    let plan = planned(&[head(1, json)], at(99));
    assert_eq!((plan.moves, plan.next), (vec![], Some(at(100).utc)));
    assert_eq!(
        planned(&[head(1, json)], at(100)).moves,
        [Move::Expire(TaskId(1))]
    );
    let expired = TaskHead {
        expired: true,
        ..head(1, json)
    };
    // what had begun is tried again all the same
    assert_eq!(started(&[expired], at(100)), [(1, 0)]);
}

#[test]
fn nothing_begins_outside_the_windows_of_its_zone() {
    let json = r#"{"windows": {"windows": [{"from": "01:00", "to": "02:00"}], "zone": "device"}}"#;
    let head = TaskHead {
        lots: vec![
            lot(0, None, 0),
            lot(1, Some("Europe/Berlin"), 0),
            lot(2, Some("Asia/Kolkata"), 0),
        ],
        ..head(1, json)
    };
    let heads = [head];
    // midnight in UTC, one in Berlin, half past five in Kolkata
    assert_eq!(started(&heads, at(0)), [(1, 1)]);
    assert_eq!(planned(&heads, at(0)).next, Some(at(3_600).utc));
    assert_eq!(started(&heads, at(3_600)), [(1, 0)]);
    assert_eq!(started(&heads, at(7_200)), []);
    let to_kolkata = Duration::from_mins(19 * 60 + 30);
    assert_eq!(
        planned(&heads, at(7_200)).next,
        Some(at(0).utc + to_kolkata)
    );
}

#[test]
fn a_rate_lets_so_many_begin_and_says_when_the_next_may() {
    let heads = [head(1, r#"{"rate": {"per_minute": 60}}"#)];
    let mut paces = Paces::default();
    let limits = |paces: &Paces, now| plan(&heads, paces, now).start;
    let start = limits(&paces, at(0));
    assert!(matches!(
        &start[..],
        [Source {
            limit: 1,
            per_minute: Some(60),
            back: None,
            ..
        }]
    ));
    paces.begun(TaskId(1), 60, 1, at(0));
    assert_eq!(limits(&paces, at(0)), []);
    assert_eq!(plan(&heads, &paces, at(0)).next, Some(at(1).utc));
    assert_eq!(limits(&paces, at(1)).len(), 1);
}

fn due(upgrade: i64, task: i64, endpoint: &str) -> Due {
    Due {
        since: UtcMillis(upgrade),
        order: UpgradeOrder {
            upgrade: UpgradeId(upgrade),
            task: TaskId(task),
            endpoint: endpoint.to_owned(),
            served: Served::first(PackageId(1)),
            hardware: None,
            attempt: 1,
            retry: RetryPolicy::default(),
            kept_awake: Standby::default(),
            begun_at: None,
            back: None,
            further: crate::ledger::Further::NONE,
        },
        spent: None,
    }
}

#[test]
fn a_device_does_what_has_been_due_longest_and_a_task_no_more_than_it_may() {
    let source = |task, limit| Source {
        task: TaskId(task),
        priority: 5,
        lot: 0,
        limit,
        per_minute: None,
        back: None,
        budget: None,
    };
    let sources = [source(1, 9), source(2, 1)];
    let due = vec![
        due(1, 1, "a"),
        due(2, 2, "a"),
        due(3, 2, "b"),
        due(4, 2, "c"),
        due(5, 1, "d"),
    ];
    let orders = that_begin(due, &sources).orders;
    let upgrades: Vec<i64> = orders.iter().map(|order| order.upgrade.0).collect();
    assert_eq!(upgrades, [1, 3, 5]);
}

#[test]
fn says_why_an_upgrade_does_not_begin() {
    let now = at(100).utc;
    let ready = Candidate {
        unconfirmed: false,
        confirmed_for: None,
        spent: None,
        upgrade: UpgradeId(1),
        task_state: TaskState::Running,
        rules: rules("{}"),
        hold: None,
        running_phase: 0,
        phase: 0,
        zone: None,
        not_before: now,
        device_busy_with: None,
        excluded: None,
    };
    let why = |candidate: Candidate| explain(&candidate, now).unwrap_err();
    assert_eq!(explain(&ready, now), Ok(()));
    let later = at(101).utc;
    assert_eq!(
        why(Candidate {
            not_before: later,
            ..ready.clone()
        }),
        NotYet::Until(later)
    );
    let scheduled = Candidate {
        task_state: TaskState::Scheduled,
        ..ready.clone()
    };
    assert_eq!(why(scheduled), NotYet::TaskScheduled(now));
    let confirmed = Candidate {
        confirmed_for: Some(later),
        ..ready.clone()
    };
    assert_eq!(why(confirmed.clone()), NotYet::ConfirmedFor(later));
    let before_the_start = Candidate {
        task_state: TaskState::Scheduled,
        ..confirmed
    };
    assert_eq!(why(before_the_start), NotYet::ConfirmedFor(later));
    let came = Candidate {
        confirmed_for: Some(now),
        ..ready.clone()
    };
    assert_eq!(explain(&came, now), Ok(()));
    let stopping = Candidate {
        task_state: TaskState::Stopping,
        ..ready.clone()
    };
    assert_eq!(why(stopping), NotYet::TaskNotRunning(TaskState::Stopping));
    let busy = Candidate {
        device_busy_with: Some(UpgradeId(7)),
        ..ready.clone()
    };
    assert_eq!(why(busy), NotYet::DeviceBusy(UpgradeId(7)));
    let phase = Candidate {
        phase: 2,
        running_phase: 1,
        ..ready.clone()
    };
    assert_eq!(
        why(phase),
        NotYet::LaterPhase {
            phase: 2,
            running: 1
        }
    );
    let hold = Hold {
        why: HoldReason::Approval,
        at: now,
    };
    let paused = Candidate {
        hold: Some(hold.clone()),
        ..ready.clone()
    };
    assert_eq!(why(paused), NotYet::TaskHeld(hold));
    let windows = r#"{"windows": {"windows": [{"from": "01:00", "to": "02:00"}], "zone": "UTC"}}"#;
    let closed = Candidate {
        rules: rules(windows),
        ..ready.clone()
    };
    assert_eq!(why(closed), NotYet::WindowClosed(Some(at(3_600).utc)));
    let rated = Candidate {
        rules: rules(r#"{"rate": {"per_minute": 5}}"#),
        ..ready
    };
    assert_eq!(why(rated), NotYet::Rate(5));
}

#[test]
fn what_begins_in_a_window_is_taken_back_at_its_end() {
    const EIGHT: i64 = 8 * 3_600;
    let json = |at_end: &str| {
        format!(
            r#"{{"windows": {{"zone": "device", "at_end": "{at_end}", "windows": [{{"from": "08:00", "to": "10:00"}}]}}}}"#
        )
    };
    let mut head = head(1, &json("take_back"));
    // clocks in Sao Paulo are three hours behind, those in Algiers one ahead
    let zones = [None, Some("America/Sao_Paulo"), Some("Africa/Algiers")];
    head.lots = (0..)
        .zip(zones)
        .map(|(lot, zone)| LotHead {
            lot,
            zone: zone.map(Into::into),
            first_due: head.lots[0].first_due,
        })
        .collect();
    let backs = |head: &TaskHead| {
        let plan = plan(std::slice::from_ref(head), &Paces::default(), at(EIGHT));
        plan.start
            .iter()
            .map(|source| (source.lot, source.back))
            .collect::<Vec<_>>()
    };
    let day = 86_400;
    let back = |end: i64| {
        Some(TakeBack {
            at: at(EIGHT + end).utc,
            opens_at: Some(at(EIGHT + end + day - 7_200).utc),
        })
    };
    assert_eq!(backs(&head), [(0, back(7_200)), (2, back(3_600))]);
    head.rules = rules(&json("finish"));
    assert_eq!(backs(&head), [(0, None), (2, None)]);
}

#[test]
fn no_change_of_clocks_moves_the_end_beyond_the_window() {
    // 2027-03-28 02:00 becomes 03:00 in Berlin, and 2027-10-31 03:00 becomes 02:00
    let rules = rules(
        r#"{"windows": {"zone": "Europe/Berlin", "at_end": "take_back", "windows": [{"from": "22:00", "to": "05:00"}]}}"#,
    );
    let utc = |text: &str| UtcMillis(text.parse::<jiff::Timestamp>().unwrap().as_millisecond());
    for (begun, ends, opens) in [
        (
            "2027-03-27T21:30:00Z",
            "2027-03-28T03:00:00Z",
            "2027-03-28T20:00:00Z",
        ),
        (
            "2027-10-30T20:30:00Z",
            "2027-10-31T04:00:00Z",
            "2027-10-31T21:00:00Z",
        ),
    ] {
        let back = rules.taken_back(None, utc(begun)).unwrap();
        assert_eq!((back.at, back.opens_at), (utc(ends), Some(utc(opens))));
        // outside it is over at once
        let late = rules.taken_back(None, utc(ends)).unwrap();
        assert_eq!((late.at, late.opens_at), (utc(ends), Some(utc(opens))));
    }
}

fn spent(used: u64, need: u64) -> Spent {
    let usage = |bytes| Usage {
        bytes,
        airtime_estimated_ms: 0,
    };
    Spent {
        used: usage(used),
        need: usage(need),
        month_ends_at: at(3_600).utc,
    }
}

#[test]
fn a_device_without_enough_left_takes_nobodys_place() {
    let source = |task, budget| Source {
        task: TaskId(task),
        priority: 5,
        lot: 0,
        limit: 1,
        per_minute: None,
        back: None,
        budget,
    };
    let thousand = Budget {
        bytes_per_month: Some(1_000),
        airtime_estimated_seconds_per_month: None,
    };
    let sources = [source(1, Some(thousand)), source(2, None)];
    let spends = |upgrade, task, endpoint, used| Due {
        spent: Some(spent(used, 400)),
        ..due(upgrade, task, endpoint)
    };
    let due = vec![
        spends(1, 1, "a", 601),
        // for another task, and once more: that one has no budget
        spends(2, 2, "a", 601),
        spends(3, 1, "b", 600),
        spends(4, 1, "c", 900),
    ];
    let begin = that_begin(due, &sources);
    let upgrades: Vec<i64> = begin.orders.iter().map(|order| order.upgrade.0).collect();
    assert_eq!(upgrades, [2, 3]);
    let put_off: Vec<_> = (begin.put_off.iter())
        .map(|it| (it.upgrade.0, it.over.until))
        .collect();
    assert_eq!(put_off, [(1, at(3_600).utc), (4, at(3_600).utc)]);
}

#[test]
fn tells_that_a_device_has_not_enough_left_before_its_time_to_wait() {
    let now = at(100).utc;
    let candidate = |used| Candidate {
        unconfirmed: false,
        confirmed_for: None,
        spent: Some(spent(used, 400)),
        upgrade: UpgradeId(1),
        task_state: TaskState::Running,
        rules: rules(r#"{"budget": {"bytes_per_month": 1000}}"#),
        hold: None,
        running_phase: 0,
        phase: 0,
        zone: None,
        not_before: at(3_600).utc,
        device_busy_with: None,
        excluded: None,
    };
    let over = OverBudget {
        resource: Resource::Bytes,
        used: 601,
        need: 400,
        budget: 1_000,
        until: at(3_600).utc,
    };
    assert_eq!(explain(&candidate(601), now), Err(NotYet::OverBudget(over)));
    let waits = Err(NotYet::Until(at(3_600).utc));
    assert_eq!(explain(&candidate(600), now), waits);
}

proptest! {
    #[test]
    fn no_upgrade_begins_that_does_not_fit_its_budget(
        budgets in proptest::collection::vec(proptest::option::of(1..50_u64), 1..4),
        rows in proptest::collection::vec((0..3_usize, 0..6_u8, 0..50_u64, 0..50_u64), 0..40),
        limit in 0..6_u32,
    ) {
        let sources: Vec<Source> = (1..).zip(&budgets).map(|(task, bytes)| Source {
            task: TaskId(task),
            priority: 5,
            lot: 0,
            limit,
            per_minute: None,
            back: None,
            budget: bytes.map(|bytes| Budget {
                bytes_per_month: Some(bytes),
                airtime_estimated_seconds_per_month: None,
            }),
        }).collect();
        let due: Vec<Due> = (1..).zip(&rows).map(|(upgrade, (task, device, used, need))| {
            let task = i64::try_from(task % budgets.len()).unwrap() + 1;
            Due { spent: Some(spent(*used, *need)), ..due(upgrade, task, &format!("d{device}")) }
        }).collect();
        let begin = that_begin(due.clone(), &sources);
        let fits = |upgrade: UpgradeId| {
            let due = due.iter().find(|due| due.order.upgrade == upgrade).unwrap();
            let source = sources.iter().find(|source| source.task == due.order.task).unwrap();
            let spent = due.spent.unwrap();
            source.budget.is_none_or(|it| spent.used.bytes + spent.need.bytes <= it.bytes_per_month.unwrap())
        };
        prop_assert!(begin.orders.iter().all(|order| fits(order.upgrade)));
        prop_assert!(begin.put_off.iter().all(|it| !fits(it.upgrade)));
        let (put_off, all) = (begin.put_off.len(), due.iter().filter(|due| !fits(due.order.upgrade)).count());
        prop_assert_eq!(put_off, all, "whoever does not fit is put off, whatever the limit");
    }
}
