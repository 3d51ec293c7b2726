mod lanes;

use std::{ops::ControlFlow, sync::Arc, time::Duration};

use super::{chance::Draws, course::Course, play::Play, *};
use crate::{
    clock::{Instant, UtcMillis},
    config::Config,
    ledger::{DownloadPace, Lane, Learnt, Mean, ProductHabits, RetryPolicy, Usage},
    package::Version,
    task::{CellRules, Closing, Month, Spent, TaskRules},
};

/// 2027-01-15 08:00 UTC.
const NOW: UtcMillis = UtcMillis(1_800_000_000_000);
const KIB: u64 = 20;
/// A KiB takes so long to whom is measured, and an installation, ms.
const PER_KIB_MS: u64 = 10_000;
const INSTALL_MS: u64 = 60_000;

fn version(text: &str) -> Version {
    Version::new(text).unwrap()
}

fn mean(value: u64) -> Mean {
    let mut mean = Mean::default();
    mean.add(value);
    mean
}

/// Awake devices in one cell, of that limit.
fn awake(devices: u32, limit: u32) -> Given {
    let config = Config::default();
    let paces = [1, 10, 50].map(|limit| {
        Learnt::Download(DownloadPace {
            lane: None,
            limit,
            ms_per_kib: mean(PER_KIB_MS),
        })
    });
    let habits = Learnt::Product {
        product: "".into(),
        habits: ProductHabits {
            answered_ms: 60_000,
            silent_ms: None,
            tries_after: 64,
            install_ms: mean(INSTALL_MS),
        },
    };
    let device = |number| Subject {
        endpoint: format!("device-{number:05}").into(),
        not_before: NOW,
        cell: Some(7),
        limit,
        heard_at: Some(NOW),
        ..Subject::default()
    };
    Given {
        now: NOW,
        config: Arc::new(config),
        product: "meter".to_owned(),
        learnt: paces.into_iter().chain([habits]).collect(),
        cells: Vec::new(),
        lanes: Lanes::default(),
        task: TaskGiven {
            start_at: NOW,
            ..TaskGiven::default()
        },
        routes: Routes::one(
            version("V2"),
            PackageGiven {
                bytes: KIB * 1_024,
                segments: 41,
            },
        ),
        failures: Vec::new(),
        devices: (0..devices).map(device).collect(),
        others: Vec::new(),
        joining_per_day: None,
    }
}

fn rules(json: &str) -> Arc<TaskRules> {
    Arc::new(serde_json::from_str(json).unwrap())
}

/// The course in which everything takes as long as it does on average.
fn course(given: &Given) -> Course {
    let draws = Draws {
        seed: 1,
        deviations: 0.0,
        around: false,
    };
    match Play::new(given, draws).run(|_| ControlFlow::Continue(())) {
        ControlFlow::Continue(course) => course,
        ControlFlow::Break(()) => panic!("nobody ended it"),
    }
}

fn seconds(at: Instant) -> u64 {
    at.since(Instant::from_millis(NOW.0.unsigned_abs()))
        .as_secs()
}

fn full(given: &Given) -> Forecast {
    forecast(given, |_| ControlFlow::Continue(())).unwrap()
}

/// How long a device holds its slot, seconds.
const SERVICE_S: u64 = (KIB * PER_KIB_MS + INSTALL_MS) / 1_000;

#[test]
fn a_cell_takes_as_long_as_its_slots_are_held() {
    for (devices, limit) in [(1, 1), (100, 1), (100, 10), (500, 50), (50, 50)] {
        let course = course(&awake(devices, limit));
        let took = seconds(course.finish.unwrap());
        let rounds = u64::from(devices.div_ceil(limit));
        // asked for version and coverage first; and admissions are paced
        let asked = PER_KIB_MS / 1_000;
        let exact = rounds * SERVICE_S;
        assert!(
            (exact..=exact + asked + 12).contains(&took),
            "{devices} of limit {limit}: {took} s, {exact} s are needed"
        );
        assert_eq!(course.succeeded, u64::from(devices));
        assert_eq!(course.bytes, u64::from(devices) * KIB * 1_024);
    }
}

#[test]
fn no_course_beats_the_bound() {
    let mut given = awake(300, 10);
    for (number, device) in (0_u32..).zip(&mut given.devices) {
        device.limit = [50, 10, 1][number as usize % 3];
        device.cell = Some(number % 5);
        if number.is_multiple_of(2) {
            device.rhythm = Rhythm::Learnt(3_600);
            device.heard_at = Some(NOW.before(Duration::from_secs(u64::from(number) * 11)));
        }
    }
    let course = course(&given);
    assert_eq!(course.unfinished, 0);
    for (number, cell) in &course.lanes {
        assert!(
            cell.bound_ms > 0 && cell.bound_ms <= cell.took_ms,
            "{number:?}: {cell:?}"
        );
    }
    let forecast = full(&given);
    assert!(forecast.finish.p50 <= forecast.finish.p90);
    assert_eq!(full(&given), forecast, "the same gives the same");
}

#[test]
fn nothing_begins_while_the_window_is_closed() {
    let mut given = awake(40, 1);
    given.task.rules =
        rules(r#"{"windows": {"zone": "UTC", "windows": [{"from": "22:00", "to": "23:00"}]}}"#);
    let course = course(&given);
    // from 08:00 to 22:00; one at a time does not make it in an hour, and what has begun goes on
    let opens = 14 * 3_600;
    assert!(
        course
            .ends
            .iter()
            .all(|at| seconds(*at) >= opens + SERVICE_S)
    );
    let took = seconds(course.finish.unwrap()) - opens;
    assert!(
        (40 * SERVICE_S..40 * SERVICE_S + 60).contains(&took),
        "{took}"
    );
}

#[test]
fn a_transfer_that_crosses_the_end_of_its_window_is_cut_and_begun_again() {
    let mut given = awake(40, 1);
    given.task.rules = rules(
        r#"{"windows": {"zone": "UTC", "at_end": "take_back", "windows": [{"from": "22:00", "to": "23:00"}]}}"#,
    );
    let course = course(&given);
    assert_eq!((course.succeeded, course.unfinished), (40, 0));
    let day = 24 * 3_600;
    let opens = 14 * 3_600;
    let installs = INSTALL_MS / 1_000;
    for end in &course.ends {
        let into = (seconds(*end) - opens) % day;
        assert!(
            into <= 3_600 + installs,
            "an end {into} s after a window has opened"
        );
    }
    // one at a time: an hour has room for so many, and the rest goes on a day later each
    let each = 3_600 / SERVICE_S;
    let days = 40_u64.div_ceil(each + 1) - 1;
    let took = seconds(course.finish.unwrap()) - opens;
    assert!((days * day..(days + 2) * day).contains(&took), "{took}");
    // what was there is not downloaded twice
    assert!(course.bytes <= 40 * KIB * 1_024, "{}", course.bytes);
}

#[test]
fn a_phase_begins_when_the_one_before_has_come_true() {
    let mut given = awake(100, 10);
    given.task.rules = rules(r#"{"phases": [{"count": 10}, {}]}"#);
    for device in given.devices.iter_mut().skip(10) {
        device.phase = 1;
    }
    let forecast = full(&given);
    let [first, second] = &*forecast.phases else {
        panic!("{:?}", forecast.phases);
    };
    assert_eq!((first.devices, second.devices), (10, 90));
    assert!(second.begins.p50 >= first.ends.p50 && second.begins.p50.is_some());
    assert!(second.ends.p50 == forecast.finish.p50);

    given.task.rules = rules(r#"{"phases": [{"count": 10, "then": "wait"}, {}]}"#);
    let waits = full(&given);
    assert_eq!(waits.holds.len(), 1);
    assert_eq!(
        (waits.holds[0].code, waits.holds[0].courses),
        ("phase_done", 5)
    );
    let later = waits
        .finish
        .p50
        .unwrap()
        .since(forecast.finish.p50.unwrap());
    assert!(
        later > Duration::from_mins(50),
        "it is resumed an hour later: {later:?}"
    );

    given.task.rules = rules(r#"{"phases": [{"count": 10, "soak_seconds": 7200}, {}]}"#);
    let soaks = full(&given);
    let later = soaks
        .finish
        .p50
        .unwrap()
        .since(forecast.finish.p50.unwrap());
    assert!(later > Duration::from_mins(110), "{later:?}");
}

#[test]
fn who_has_not_begun_by_the_last_time_is_named() {
    let mut given = awake(300, 10);
    given.task.rules = rules(r#"{"rate": {"per_minute": 1}, "not_after": "2027-01-15T10:00:00Z"}"#);
    let forecast = full(&given);
    assert_eq!(forecast.succeeded.p50 + forecast.expired.p50, 300);
    assert!(
        (175..=185).contains(&forecast.expired.p50),
        "{:?}",
        forecast.expired
    );
    assert_eq!(forecast.missed.len(), 100);
    assert_eq!(forecast.phases[0].missed, forecast.expired);
    assert_eq!(forecast.cells[0].missed.p50, forecast.expired.p50);
}

#[test]
fn a_rate_is_kept() {
    let mut given = awake(120, 50);
    given.task.rules = rules(r#"{"rate": {"per_minute": 10}}"#);
    let took = seconds(course(&given).finish.unwrap());
    let begun = 119 * 6;
    assert!(
        (begun + SERVICE_S..begun + SERVICE_S + 40).contains(&took),
        "{took}"
    );
}

#[test]
fn failures_are_tried_again_and_hold_the_task() {
    let mut given = awake(200, 10);
    given.failures = vec![("wrong_version".to_owned(), 0.5)];
    given.task.retry = RetryPolicy {
        attempts: 1,
        interval_s: 3_600,
        ..RetryPolicy::default()
    };
    given.task.rules = rules(r#"{"abort": [{"percent": 30, "min_results": 50}]}"#);
    let forecast = full(&given);
    let failed = forecast.failed["wrong_version"];
    assert!((70..130).contains(&failed.p50), "{failed:?}");
    assert_eq!(
        forecast.succeeded.p50 + forecast.failed["wrong_version"].p50,
        200
    );
    assert_eq!(forecast.holds[0].code, "failures");
    assert!(
        forecast.bytes.p50 > 200 * KIB * 1_024,
        "each attempt downloads"
    );
}

#[test]
fn a_closed_cell_admits_nobody() {
    let mut given = awake(20, 10);
    let until = NOW + Duration::from_hours(5);
    let closing = |until| CellRules {
        closing: Some(Closing {
            from: NOW,
            until,
            reason: "works".to_owned(),
        }),
        ..CellRules::default()
    };
    given.cells = vec![(7, closing(Some(until)))];
    let took = seconds(course(&given).finish.unwrap());
    assert!(
        (5 * 3_600 + 2 * SERVICE_S..5 * 3_600 + 2 * SERVICE_S + 120).contains(&took),
        "{took}"
    );
    given.cells = vec![(7, closing(None))];
    let forecast = full(&given);
    assert_eq!(
        forecast.finish,
        Span::default(),
        "never, as far as is known"
    );
    assert_eq!(forecast.unfinished.p50, 20);
    assert_eq!(forecast.cells[0].ends, Span::default());
}

#[test]
fn who_sleeps_comes_when_it_wakes_up_and_who_is_away_never() {
    let mut given = awake(2, 10);
    given.devices[0].rhythm = Rhythm::Learnt(7_200);
    given.devices[0].heard_at = Some(NOW.before(Duration::from_hours(1)));
    given.devices[1].rhythm = Rhythm::Away;
    let course = course(&given);
    let ends: Vec<u64> = course.ends.iter().map(|at| seconds(*at)).collect();
    assert!(
        (3_600 + SERVICE_S..3_600 + SERVICE_S + 60).contains(&ends[0]),
        "{ends:?}"
    );
    assert_eq!(ends[1], 24 * 3_600);
    assert_eq!(course.failed["device_not_heard"], 1);
}

#[test]
fn what_is_not_known_is_drawn_from_what_is() {
    let mut given = awake(100, 1);
    for (number, device) in (0..).zip(&mut given.devices) {
        device.cell = (number < 50).then_some(number % 2);
    }
    let forecast = full(&given);
    assert_eq!(forecast.assumed.cells_drawn, 50);
    assert_eq!(forecast.cells.len(), 2);
    assert!(forecast.cells.iter().all(|cell| cell.devices > 25));
    for device in &mut given.devices {
        device.cell = None;
    }
    let nothing = full(&given);
    assert!(nothing.cells.iter().all(|cell| cell.lane.is_none()));
    assert_eq!(nothing.succeeded.p50, 100);
}

#[test]
fn a_task_that_runs_is_forecast_from_where_it_stands() {
    let mut given = awake(4, 1);
    given.devices[0].place = Place::Downloading(1_024);
    given.devices[0].attempts = 1;
    given.devices[1].place = Place::Queued(NOW.before(Duration::from_hours(1)));
    given.devices[1].attempts = 1;
    given.devices[2].place = Place::Begun;
    given.devices[2].attempts = 1;
    let mut other = given.devices[0].clone();
    other.place = Place::Queued(NOW.before(Duration::from_hours(2)));
    given.others = vec![other];
    let course = course(&given);
    let left = (PER_KIB_MS + INSTALL_MS) / 1_000 + 4 * SERVICE_S;
    let took = seconds(course.finish.unwrap());
    assert!(
        (left..left + 60).contains(&took),
        "{took}, {left} are needed"
    );
    assert_eq!(course.succeeded, 4);
}

#[test]
fn it_can_be_ended() {
    let given = awake(5_000, 10);
    let mut asked = 0;
    let ended = forecast(&given, |done| {
        assert!((0.0..=1.0).contains(&done));
        asked += 1;
        ControlFlow::Break(())
    });
    assert!(ended.is_none() && asked == 1);
}

#[test]
fn the_pace_of_a_cell_is_its_own() {
    // of one download it is known little, of 400 it is
    for (samples, per_kib_ms) in [(1_u64, PER_KIB_MS * 6 / 5), (400, PER_KIB_MS * 2)] {
        let mut given = awake(10, 1);
        let mut here = Mean::default();
        for _ in 0..samples {
            here.add(2 * PER_KIB_MS);
        }
        given.learnt.push(Learnt::Download(DownloadPace {
            lane: Some(Lane::Cell(7)),
            limit: 1,
            ms_per_kib: here,
        }));
        let took = seconds(course(&given).finish.unwrap());
        let needed = 10 * (KIB * per_kib_ms + INSTALL_MS) / 1_000;
        let near = needed * 98 / 100..needed + 60;
        assert!(
            near.contains(&took),
            "{samples}: {took}, {needed} are needed"
        );
    }
}

#[test]
fn a_device_over_its_budget_goes_on_next_month() {
    const PACKAGE: u64 = KIB * 1_024;
    let account = |used, need| {
        let usage = |bytes| Usage {
            bytes,
            airtime_estimated_ms: 0,
        };
        let spent = Spent {
            used: usage(used),
            need: usage(need),
            month_ends_at: Month::of(NOW, None).ends_at,
        };
        Some(Box::new(Account { spent, zone: None }))
    };
    let mut given = awake(2, 50);
    given.task.rules = rules(r#"{"budget": {"bytes_per_month": 30000}}"#);
    given.devices[0].account = account(30_000 - PACKAGE, PACKAGE);
    given.devices[1].account = account(30_001 - PACKAGE, PACKAGE);
    let both = course(&given);
    assert_eq!(both.succeeded, 2);
    // from 15 January, 08:00
    let month_s = 16 * 86_400 + 16 * 3_600;
    let took_s = seconds(both.finish.unwrap());
    assert!((month_s..month_s + 3_600).contains(&took_s), "{took_s}");
    // a second attempt counts what the first has cost
    given.failures = vec![("upgrade_failed".to_owned(), 1.0)];
    given.task.retry = RetryPolicy {
        attempts: 1,
        interval_s: 60,
        ..RetryPolicy::default()
    };
    let twice = course(&given);
    let took_s = seconds(twice.finish.unwrap());
    let next_s = month_s + 28 * 86_400;
    assert!((next_s..next_s + 3_600).contains(&took_s), "{took_s}");
    // what never fits is not looked at for ever
    given.failures.clear();
    given.devices[1].account = account(0, 30_001);
    assert_eq!(course(&given).succeeded, 1);
}

#[test]
fn each_device_downloads_what_is_for_it() {
    let packages = |size: u64| PackageGiven {
        bytes: size * 1_024,
        segments: 2 * size,
    };
    let rules = r#"{"steps": true, "packages": [
        {"package_id": 1, "from": {"versions": ["V1"]}},
        {"package_id": 2, "from": {"versions": ["V2"]}}]}"#;
    let rules = serde_json::from_str(rules).unwrap();
    let mut given = awake(100, 1);
    let leads = [
        (version("V2"), packages(KIB)),
        (version("V3"), packages(2 * KIB)),
    ];
    given.routes = Routes::new(&rules, &leads);
    for (number, device) in (0..).zip(&mut given.devices) {
        // 25 do both steps, 25 one, 10 none, 10 are skipped; of 30 nothing is known
        let runs = match number {
            0..25 => "V1",
            25..50 => "V2",
            50..60 => "V3",
            60..70 => "V0",
            _ => continue,
        };
        device.route = Some(given.routes.of(version(runs), None));
    }
    let forecast = full(&given);
    assert_eq!(forecast.assumed.current, 10);
    assert_eq!(forecast.assumed.packages_drawn, 30);
    let skipped = forecast.skipped["no_package"];
    assert!((10..=20).contains(&skipped.p50), "{skipped:?}");
    assert_eq!(forecast.succeeded.p50 + skipped.p50, 100);
    // as if all of them were known
    let known = (25 * 3 + 25 * 2) * KIB * 1_024;
    let all = known * 100 / 70;
    assert!(
        forecast.bytes.p50.abs_diff(all) < all / 5,
        "{:?}",
        forecast.bytes
    );
    for device in &mut given.devices[70..] {
        device.route = Some(given.routes.of(version("V3"), None));
    }
    let course = course(&given);
    assert_eq!(course.bytes, known);
    let took = seconds(course.finish.unwrap());
    let installs = (25 * 2 + 25) * INSTALL_MS / 1_000;
    let needed = known / 1_024 * PER_KIB_MS / 1_000 + installs;
    assert!(
        (needed..needed + 60).contains(&took),
        "{took}, {needed} are needed"
    );
}

#[test]
fn devices_that_join_want_slots_and_are_not_counted() {
    let mut given = awake(60, 1);
    given.task.rules =
        rules(r#"{"membership": "joining", "phases": [{"count": 10, "min_results": 10}, {}]}"#);
    for device in given.devices.iter_mut().skip(10) {
        device.phase = 1;
    }
    given.joining_per_day = Some(0.0);
    let alone = course(&given);
    given.joining_per_day = Some(400.0);
    let joined = course(&given);
    for course in [&alone, &joined] {
        assert_eq!((course.succeeded, course.unfinished), (60, 0));
        assert_eq!(course.bytes, 60 * KIB * 1_024);
        assert_eq!(course.ends.len(), 60);
        assert_eq!(course.phases[0].devices, 10);
    }
    // in 44 minutes 12 join the first phase, of which some stand before the second one in the queue
    let later = seconds(joined.finish.unwrap()) - seconds(alone.finish.unwrap());
    assert!((2 * SERVICE_S..=12 * SERVICE_S).contains(&later), "{later}");
    assert_eq!(full(&given).assumed.joining_per_day, Some(400.0));
    // nobody joins a task that only takes those that are there
    given.task.rules = rules(r#"{"phases": [{"count": 10, "min_results": 10}, {}]}"#);
    assert_eq!(course(&given).ends, alone.ends);
}
