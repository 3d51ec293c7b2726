//! Tasks that say how they are run: phases, thresholds of failures, rates, windows.

use std::fmt::Write as _;

use std::time::Duration;

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

use super::{Honest, Hooks, Scenario, World, run, run_with, succeeded};
use crate::{
    ledger::RetryPolicy,
    simulate::{Faults, StoreKind, fleet::FleetFile, simulate},
    task::{Due, TaskHead, TaskRules},
};

/// Seeds of [`world`].
const SEEDS: u64 = 40;

pub(super) fn rules(toml: &str) -> TaskRules {
    toml::from_str(toml).unwrap()
}

/// Thirty devices that listen all the time; so many percent of them refuse the new version.
fn run_by(toml: &str, refuse_percent: u32) -> Scenario {
    let fleet = format!(
        "start_within_s = 60\n[[listening]]\nshare = 1\n\
         [characters]\n\"refuse-notification=0x04\" = {refuse_percent}\n"
    );
    Scenario {
        package_bytes: 2_000,
        fleet: FleetFile::parse(&fleet).unwrap(),
        rules: rules(toml),
        retry: RetryPolicy::default(),
        ..Scenario::new(30, 1, 3)
    }
}

#[test]
fn a_phase_that_somebody_looks_at_is_resumed_an_hour_later() {
    let summary = run(&run_by(
        "[[phases]]\ncount = 5\nthen = \"wait\"\n[[phases]]\n",
        0,
    ));
    assert_eq!(summary.violations, []);
    assert_eq!(succeeded(&summary), 30);
    assert_eq!(summary.halts.held["phase_done"], 1);
    let held = &summary.halts.first[0];
    assert_eq!(
        held.reason(),
        "phases[0] had come true, and somebody was to have a look"
    );
    let took_s = summary.took_ms / 1_000;
    assert!(
        (held.at_seconds + 3_600..held.at_seconds + 7_200).contains(&took_s),
        "held after {} s of {took_s} s",
        held.at_seconds
    );
}

#[test]
fn too_many_failures_hold_a_task_as_often_as_they_come() {
    let summary = run(&run_by(
        "[[phases]]\ncount = 10\n[[phases]]\n[[abort]]\ncount = 5\n[rate]\nper_minute = 1\n",
        50,
    ));
    assert_eq!(summary.violations, []);
    assert_eq!(summary.outcomes["failed"], 15);
    let held = &summary.halts.held;
    assert_eq!(held["phase_failed"], 1, "{held:?}");
    assert!((2..=3).contains(&held["failures"]), "{held:?}");
}

#[test]
fn a_threshold_stops_a_task() {
    let summary = run(&run_by(
        "[[abort]]\ncount = 3\naction = \"stop\"\n[rate]\nper_minute = 1\n",
        100,
    ));
    assert_eq!(summary.violations, []);
    assert_eq!(summary.halts.stopped["failures"], 1);
    assert!(summary.outcomes["cancelled"] > 20, "{:?}", summary.outcomes);
    assert_eq!(
        summary.reasons["task_stopped"],
        summary.outcomes["cancelled"]
    );
}

/// Devices that restart to install and never come back (hawkbit #693: they are under way for good, and the rollout with them). Each
/// fails when its time is over, which stops the task.
#[test]
fn who_never_comes_back_fails_in_time_and_stops_the_task() {
    let by_rules = run_by(
        "[[abort]]\ncount = 3\naction = \"stop\"\n[rate]\nper_minute = 1\n",
        0,
    );
    let fleet =
        "start_within_s = 60\n[[listening]]\nshare = 1\n[timing]\ninstall_ms = 4000000000\n";
    let scenario = Scenario {
        fleet: FleetFile::parse(fleet).unwrap(),
        ..by_rules
    };
    let execute_ms = scenario.config.upgrade.execute_s * 1_000;
    let summary = run(&scenario);
    assert_eq!(summary.violations, []);
    assert_eq!(summary.halts.stopped["failures"], 1);
    assert!(
        summary.reasons["execution_timed_out"] >= 3,
        "{:?}",
        summary.reasons
    );
    let ended: u64 = summary.outcomes.values().sum();
    assert_eq!(ended, 30, "{:?}", summary.outcomes);
    assert!(summary.took_ms < 4 * execute_ms, "{}", summary.took_ms);
}

#[test]
fn what_has_not_begun_in_time_expires() {
    // ten minutes for ten of them
    let summary = run(&run_by(
        "not_after = \"2027-01-15T08:11:00Z\"\n[rate]\nper_minute = 1\n",
        0,
    ));
    assert_eq!(summary.violations, []);
    assert_eq!(succeeded(&summary), 10);
    assert_eq!(summary.reasons["expired"], 20);
}

#[test]
fn nothing_begins_before_a_window_opens() {
    let summary = run(&run_by(
        "[windows]\nzone = \"Europe/Berlin\"\nwindows = [{ from = \"22:00\", to = \"05:00\" }]\n",
        0,
    ));
    assert_eq!(summary.violations, []);
    assert_eq!(succeeded(&summary), 30);
    // from 08:01 to 21:00 UTC
    let closed_ms = (12 * 60 + 59) * 60_000;
    assert!(
        (closed_ms..closed_ms + 3_600_000).contains(&summary.took_ms),
        "{}",
        summary.took_ms
    );
}

/// Windows too short for the fleet, at whose ends what is not commanded is taken back. Between them is less than an hour for half a day:
/// each look at a closed window costs time.
fn windows_of_minutes() -> String {
    let starts = (8..20).flat_map(|hour| [10, 25, 40, 55].map(|minute| (hour, minute)));
    let windows: Vec<String> = starts
        .map(|(hour, minute)| {
            let to = minute + 3;
            format!("{{ from = \"{hour:02}:{minute}\", to = \"{hour:02}:{to}\" }}")
        })
        .collect();
    let windows = windows.join(", ");
    format!("[windows]\nzone = \"UTC\"\nat_end = \"take_back\"\nwindows = [{windows}]\n")
}

fn short_windows(store: StoreKind, crash_every: Option<Duration>) -> Scenario {
    Scenario {
        package_bytes: 4_000,
        crash_every,
        store,
        ..run_by(&windows_of_minutes(), 0)
    }
}

#[test]
fn what_is_not_commanded_by_the_end_of_a_window_begins_again_in_the_next() {
    for store in [StoreKind::Memory, StoreKind::Sqlite] {
        let summary = run(&short_windows(store, None));
        assert_eq!(summary.violations, []);
        assert_eq!(succeeded(&summary), 30, "{:?}", summary.reasons);
        assert!(summary.ends.retries > 3, "{:?}", summary.ends);
    }
}

#[test]
fn windows_end_also_while_the_server_is_away() {
    for (seed, store) in [
        (3, StoreKind::Memory),
        (4, StoreKind::Memory),
        (5, StoreKind::Memory),
        (6, StoreKind::Sqlite),
    ] {
        let scenario = Scenario {
            seed,
            ..short_windows(store, Some(Duration::from_secs(40)))
        };
        let summary = run(&scenario);
        assert_eq!(summary.violations, [], "seed {seed}");
        assert_eq!(succeeded(&summary), 30, "{:?}", summary.reasons);
    }
}

/// Believes that no window ends.
struct Endless;

impl Hooks for Endless {
    fn dues(&mut self, due: &mut Vec<Due>) {
        for due in due {
            due.order.back = None;
        }
    }
}

#[test]
fn a_command_after_the_end_of_a_window_is_found() {
    let summary = run_with(&short_windows(StoreKind::Memory, None), Endless);
    let found = format!("{:?}", summary.violations);
    assert!(found.contains("outside the windows of its task"), "{found}");
}

#[test]
fn a_phase_by_filter_begins_with_whom_it_names() {
    for store in [StoreKind::Memory, StoreKind::Sqlite] {
        let scenario = Scenario {
            store,
            ..run_by(
                "[[phases]]\nfilter = \"endpoint==*5\"\nthen = \"wait\"\n[[phases]]\npercent = 50\n[[phases]]\n",
                0,
            )
        };
        let summary = run(&scenario);
        assert_eq!(summary.violations, []);
        assert_eq!(succeeded(&summary), 30);
        assert_eq!(summary.halts.held["phase_done"], 1);
    }
}

#[test]
fn a_phase_with_a_soak_comes_true_when_its_devices_are_in_health() {
    let soak = |store, crash_every| Scenario {
        crash_every,
        store,
        ..run_by(
            "[[phases]]\ncount = 10\nsoak_seconds = 7200\n[[phases]]\nmin_results = 5\nsoak_seconds = 60\ncount = 10\n[[phases]]\n",
            0,
        )
    };
    let crashes = Some(Duration::from_mins(20));
    for (store, crash_every) in [
        (StoreKind::Memory, None),
        (StoreKind::Memory, crashes),
        (StoreKind::Sqlite, crashes),
    ] {
        let summary = run(&soak(store, crash_every));
        assert_eq!(summary.violations, []);
        assert_eq!(succeeded(&summary), 30);
        assert_eq!(summary.halts.total(), 0, "{:?}", summary.halts);
        let took_s = summary.took_ms / 1_000;
        // what a crash loses is asked again an hour later
        assert!((7_200..21_600).contains(&took_s), "{took_s} s");
    }
}

/// Counts a device as soon as it is upgraded.
struct Hasty;

impl Hooks for Hasty {
    fn plans(&mut self, heads: &mut Vec<TaskHead>) {
        for head in heads {
            for results in &mut head.results {
                results.healthy = results.succeeded;
            }
        }
    }
}

#[test]
fn a_phase_that_does_not_wait_for_its_soak_is_found() {
    let summary = run_with(
        &run_by(
            "[[phases]]\ncount = 10\nsoak_seconds = 7200\n[[phases]]\n",
            0,
        ),
        Hasty,
    );
    assert_eq!(summary.violations.len(), 1, "{:?}", summary.violations);
    let found = format!("{:?}", summary.violations[0]);
    assert!(found.contains("0 devices have soaked of 10"), "{found}");
}

#[test]
fn a_phase_that_nobody_would_be_in_is_no_task() {
    for store in [StoreKind::Memory, StoreKind::Sqlite] {
        let scenario = Scenario {
            store,
            ..run_by("[[phases]]\nfilter = \"site==depot-4\"\n[[phases]]\n", 0)
        };
        let world = World::new(&scenario, Honest);
        let error = world.err().expect("an error");
        assert!(error.starts_with("phase 1 has no device: "), "{error}");
    }
}

/// A world that follows from one number: how its tasks are run, its size, its weather.
fn world(seed: u64) -> Scenario {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut below = |bound: u32| rng.next_u32() % bound;
    let mut toml = String::new();
    if below(4) == 0 {
        let (hour, minute) = (8 + below(12), below(60));
        writeln!(toml, "not_after = \"2027-01-15T{hour:02}:{minute:02}:30Z\"").unwrap();
    }
    // one filter that two phases have would leave the second one empty
    let mut filters: Vec<u32> = (0..5).collect();
    for _ in 0..below(4) {
        let size = match below(5) {
            0 | 1 => format!("count = {}", 1 + below(8)),
            2 | 3 => format!("percent = {}", 5 + below(25)),
            _ => format!(
                "filter = \"endpoint==*{}\"",
                filters.remove(below(u32::try_from(filters.len()).unwrap()) as usize)
            ),
        };
        let wanted = ["", "min_results = 1\n", "min_results = 3\n"][below(3) as usize];
        let then = ["next", "next", "wait"][below(3) as usize];
        let soak = ["", "", "soak_seconds = 600\n"][below(3) as usize];
        let success = below(101);
        write!(
            toml,
            "[[phases]]\n{size}\nsuccess_percent = {success}\n{wanted}{soak}then = \"{then}\"\n"
        )
        .unwrap();
    }
    for _ in 0..below(3) {
        let when = match below(2) {
            0 => format!("count = {}", 1 + below(6)),
            _ => format!("percent = {}", 10 + below(60)),
        };
        let (min, action) = (1 + below(5), ["pause", "stop"][below(2) as usize]);
        write!(
            toml,
            "[[abort]]\n{when}\nmin_results = {min}\naction = \"{action}\"\n"
        )
        .unwrap();
    }
    if below(2) == 0 {
        let per_minute = [1, 2, 7, 600][below(4) as usize];
        let grows = ["", "factor = 2.0\neach = 3\nmost_per_minute = 1000\n"][below(2) as usize];
        write!(toml, "[rate]\nper_minute = {per_minute}\n{grows}").unwrap();
    }
    if below(3) == 0 {
        // closed from some minutes after the start on: each look at a closed window costs time
        let (to, from) = (6 + below(10), 20 + below(40));
        let at_end = ["finish", "take_back"][(from % 2) as usize];
        write!(toml, "[windows]\nzone = \"UTC\"\nat_end = \"{at_end}\"\nwindows = [{{ from = \"08:{from:02}\", to = \"08:{to:02}\" }}]\n").unwrap();
    }
    let refuse = [0, 10, 40][below(3) as usize];
    let faults = [Faults::None, Faults::Default, Faults::Harsh][below(3) as usize];
    let characters = match faults {
        Faults::None => format!("[characters]\n\"refuse-notification=0x04\" = {refuse}\n"),
        Faults::Default | Faults::Harsh => String::new(),
    };
    Scenario {
        fleet: FleetFile::parse(&format!("start_within_s = 300\n{characters}")).unwrap(),
        package_bytes: 100 + below(3_000) as usize,
        products: 1 + below(2) as usize,
        faults,
        crash_every: [None, None, Some(60), Some(900)][below(4) as usize].map(Duration::from_secs),
        retry: RetryPolicy {
            attempts: below(3),
            interval_s: 30 + below(300),
            ..RetryPolicy::default()
        },
        rules: rules(&toml),
        ..Scenario::new(5 + below(35) as usize, 1 + below(4), seed)
    }
}

#[test]
fn seeds_of_tasks_with_rules_violate_nothing() {
    let (mut ran, mut held, mut stopped) = (0, 0_u64, 0_u64);
    for seed in 0..SEEDS {
        let scenario = world(seed);
        assert_eq!(
            scenario.rules.check(crate::clock::UtcMillis(0)),
            [],
            "seed {seed}"
        );
        let world = match World::new(&scenario, Honest) {
            Ok(world) => world,
            Err(refused) if refused.contains("has no device") => continue,
            Err(error) => panic!("seed {seed}: {error}"),
        };
        ran += 1;
        let summary = world.run(|_| {}).unwrap();
        assert_eq!(summary.violations, [], "seed {seed}, {:#?}", scenario.rules);
        held += summary.halts.held.values().sum::<u64>();
        stopped += summary.halts.stopped.values().sum::<u64>();
    }
    // they come to what is to be looked at
    assert!(ran >= SEEDS * 3 / 4, "{ran}");
    assert!(held > 10 && stopped > 0, "{held} {stopped}");
}

#[test]
fn the_table_in_memory_runs_tasks_as_the_database_does() {
    let memory = Scenario {
        crash_every: Some(Duration::from_mins(15)),
        ..run_by(
            "[[phases]]\ncount = 5\nsoak_seconds = 900\nthen = \"wait\"\n[[phases]]\n[[abort]]\ncount = 4\n[rate]\nper_minute = 10\n",
            30,
        )
    };
    let sqlite = Scenario {
        store: StoreKind::Sqlite,
        ..memory.clone()
    };
    let (memory, sqlite) = (run(&memory), run(&sqlite));
    assert_eq!(sqlite.violations, []);
    assert_eq!(memory.trace_sha256, sqlite.trace_sha256);
    assert_eq!(memory.reasons, sqlite.reasons);
    assert!(sqlite.halts.total() > 0);
}

/// A fifth of the devices is added while the task runs.
fn joining(rules: &str) -> Scenario {
    let fleet = "start_within_s = 600\n[joining]\npercent = 20\nwithin_s = 7200";
    Scenario {
        fleet: FleetFile::parse(fleet).unwrap(),
        rules: serde_json::from_str(rules).unwrap(),
        ..Scenario::new(120, 4, 3)
    }
}

#[test]
fn devices_that_are_added_join_the_task_that_runs() {
    let rules = r#"{"membership": "joining"}"#;
    let one = joining(rules);
    let summary = simulate(&one, |_| {}).unwrap();
    assert_eq!(summary.violations, []);
    assert_eq!(summary.outcomes["succeeded"], 120, "{:?}", summary.reasons);
    assert!(summary.took_ms > 3_600_000, "the last ones came late");
    // the database does the same
    let database = Scenario {
        store: StoreKind::Sqlite,
        ..one
    };
    let same = simulate(&database, |_| {}).unwrap();
    assert_eq!(same.trace_sha256, summary.trace_sha256);
    // in phases, with crashes, and whatever goes wrong
    let phases = r#"{"membership": "joining", "phases": [{"count": 5, "success_percent": 0}, {}]}"#;
    for store in [StoreKind::Memory, StoreKind::Sqlite] {
        let crashing = Scenario {
            crash_every: Some(Duration::from_mins(20)),
            faults: Faults::Default,
            store,
            ..joining(phases)
        };
        let summary = simulate(&crashing, |_| {}).unwrap();
        assert_eq!(summary.violations, []);
        assert!(summary.crashes > 1);
        assert_eq!(summary.outcomes.values().sum::<u64>(), 120);
    }
}

#[test]
fn who_comes_later_needs_a_task_that_can_be_joined() {
    for scenario in [
        joining("{}"),
        Scenario {
            fleet: FleetFile::default(),
            ..joining(r#"{"membership": "joining"}"#)
        },
    ] {
        let error = simulate(&scenario, |_| {}).unwrap_err();
        assert!(error.starts_with("joining: "), "{error}");
    }
}

#[test]
fn a_device_that_has_spent_its_budget_tries_again_next_month() {
    for crash_every in [None, Some(Duration::from_hours(50))] {
        // one download of 2,000 bytes, not two
        let scenario = Scenario {
            crash_every,
            retry: RetryPolicy {
                attempts: 1,
                interval_s: 60,
                ..RetryPolicy::default()
            },
            fleet: FleetFile::parse(
                "start_within_s = 60\n[[listening]]\nshare = 1\n[characters]\n\"report-upgrade=0x0A\" = 100\n",
            )
            .unwrap(),
            package_bytes: 2_000,
            rules: rules("[budget]\nbytes_per_month = 4000\n"),
            ..Scenario::new(5, 1, 3)
        };
        let summary = run(&scenario);
        assert_eq!(summary.violations, []);
        assert_eq!(summary.outcomes["failed"], 5);
        // from 15 January to February
        let month_ms = 16 * 86_400_000;
        assert!(summary.took_ms > month_ms, "{}", summary.took_ms);
        assert!(
            summary.took_ms < month_ms + 2 * 86_400_000,
            "{}",
            summary.took_ms
        );
    }
}

#[test]
fn a_budget_that_nothing_fits_is_no_task() {
    let world = World::new(&run_by("[budget]\nbytes_per_month = 1999\n", 0), Honest);
    let error = world.err().expect("an error");
    assert!(
        error.contains("costs a device 2000 bytes at least"),
        "{error}"
    );
    assert!(World::new(&run_by("[budget]\nbytes_per_month = 2000\n", 0), Honest).is_ok());
}
