//! Devices that speak MQTT and download over HTTP.

use std::{cell::Cell, fmt::Write as _, rc::Rc, sync::Arc, time::Duration};

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng as _, SeedableRng as _},
};

use super::{Honest, Hooks, Scenario, World, run, run_with, succeeded};
use crate::{
    config::Config,
    engine::Seq,
    grants::Served,
    ledger::{Change, Outcome, RetryPolicy, Success},
    mqtt::{
        endpoint::{Event, Uplink},
        engine::Out,
    },
    simulate::{Faults, StoreKind, fleet::FleetFile, invariants::Rule},
    task::TaskRules,
    wording,
};

mod gateways;
mod quecthing;

/// Seeds of [`world`]. `CELLWISE_SEEDS` is the number of fresh ones.
const SEEDS: u64 = 20;

const EVERY_STYLE: &str = "\
start_within_s = 60
[[styles]]
style = \"iotda\"
share = 3
[[styles]]
style = \"thingspanel-0.5\"
share = 2
[[styles]]
style = \"thingspanel-1.x\"
share = 2
";

/// The limits of a day are an hour here.
fn short_limits() -> Config {
    let mut config = Config::default();
    config.upgrade.wait_for_connection_s = 3_600;
    config.upgrade.transfer_s = 3 * 3_600;
    config
}

fn fleet(text: &str, devices: usize, seed: u64) -> Scenario {
    Scenario {
        config: Arc::new(short_limits()),
        fleet: FleetFile::parse(text).unwrap(),
        package_bytes: 20_000,
        retry: RetryPolicy::default(),
        ..Scenario::new(devices, 1, seed)
    }
}

/// Devices of IoTDA with that kit, all with that character, if any.
fn iotda(kit: &str, character: &str, more: &str) -> Scenario {
    let character = if character.is_empty() {
        String::new()
    } else {
        format!("[styles.characters]\n\"{character}\" = 100\n")
    };
    let text = format!(
        "start_within_s = 60\n[[styles]]\nstyle = \"iotda\"\nshare = 1\nkits = [\"{kit}\"]\n{more}\n{character}"
    );
    fleet(&text, 4, 5)
}

// ---- fleets

/// Counts successes that nobody has verified.
struct Unverified(Rc<Cell<u64>>);

impl Hooks for Unverified {
    fn commits(&mut self, change: &mut Change) -> bool {
        if let Change::Ended {
            outcome: Outcome::Succeeded(Success::Unverified),
            ..
        } = change
        {
            self.0.set(self.0.get() + 1);
        }
        true
    }
}

#[test]
fn devices_of_every_style_are_upgraded() {
    let unverified = Rc::new(Cell::new(0));
    let hooks = Unverified(unverified.clone());
    let summary = run_with(&fleet(EVERY_STYLE, 28, 3), hooks);
    assert_eq!(summary.violations, []);
    assert_eq!(succeeded(&summary), 28, "{:?}", summary.reasons);
    // those of release 1.x never tell a version
    assert_eq!(unverified.get(), 8);
    assert!(summary.figures.downloaded_bytes >= 28 * 20_000);
}

#[test]
fn one_task_has_devices_over_pcp_and_over_mqtt() {
    let text = include_str!("../../../docs/fleets/mixed-protocols.toml");
    for store in [StoreKind::Memory, StoreKind::Sqlite] {
        let scenario = Scenario {
            store,
            faults: Faults::None,
            ..fleet(text, 28, 3)
        };
        let summary = run(&scenario);
        assert_eq!(summary.violations, []);
        let ended: u64 = summary.outcomes.values().sum();
        assert_eq!(ended, 28);
        assert!(succeeded(&summary) >= 27, "{:?}", summary.reasons);
        assert!(summary.segments > 0 && summary.figures.downloaded_bytes > 0);
    }
}

/// What becomes of the example's devices is what their characters say.
#[test]
fn the_example_ends_as_its_characters_say() {
    let scenario = Scenario {
        fleet: FleetFile::parse(include_str!("../../../docs/fleets/mqtt.toml")).unwrap(),
        ..fleet(EVERY_STYLE, 100, 2)
    };
    let summary = run(&scenario);
    assert_eq!(summary.violations, []);
    assert_eq!(summary.surprises, [].into());
    assert!(summary.outcomes["failed"] > 5, "{:?}", summary.reasons);
}

#[test]
fn phases_and_rates_hold_for_them_too() {
    let rules: TaskRules = toml::from_str(
        "[[phases]]\ncount = 5\n[[phases]]\n[rate]\nper_minute = 2\n[[abort]]\ncount = 9\n",
    )
    .unwrap();
    let scenario = Scenario {
        rules,
        crash_every: Some(Duration::from_mins(10)),
        faults: Faults::Default,
        ..fleet(EVERY_STYLE, 20, 9)
    };
    let summary = run(&scenario);
    assert_eq!(summary.violations, []);
    assert_eq!(summary.outcomes.values().sum::<u64>(), 20);
}

#[test]
fn one_seed_gives_one_trace_whatever_the_store() {
    let harsh = |seed, store| Scenario {
        faults: Faults::Harsh,
        crash_every: Some(Duration::from_mins(10)),
        products: 2,
        store,
        ..fleet(EVERY_STYLE, 24, seed)
    };
    let summary = run(&harsh(7, StoreKind::Memory));
    assert!(summary.crashes > 3, "{}", summary.crashes);
    for store in [StoreKind::Memory, StoreKind::Sqlite] {
        let again = run(&harsh(7, store));
        assert_eq!(again.trace_sha256, summary.trace_sha256, "{store:?}");
    }
    let other = run(&harsh(8, StoreKind::Memory));
    assert_ne!(other.trace_sha256, summary.trace_sha256);
}

#[test]
fn a_style_that_cannot_be_had_is_refused() {
    for (styled, expected) in [
        ("style = \"mqtt\"\nshare = 1", "'mqtt' is none of iotda"),
        ("style = \"iotda\"\nshare = 0", "entry 1: share = 0"),
        (
            "style = \"pcp\"\nshare = 1\nrestarts = true",
            "entry 1: kits, keep_alive_s",
        ),
        (
            "style = \"thingspanel-0.5\"\nshare = 1\nkits = [\"c\"]",
            "entry 1: kits: only",
        ),
        (
            "style = \"iotda\"\nshare = 1\nkits = []",
            "entry 1: kits: give",
        ),
        (
            "style = \"iotda\"\nshare = 1\nkeep_alive_s = 1",
            "keep_alive_s is at least 5",
        ),
        (
            "style = \"iotda\"\nshare = 1\nbytes_per_s = 0",
            "bytes_per_s is at least 1",
        ),
    ] {
        let error = FleetFile::parse(&format!("[[styles]]\n{styled}\n")).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    let twice = "[[styles]]\nstyle = \"pcp\"\nshare = 1\n".repeat(2);
    let error = FleetFile::parse(&twice).unwrap_err();
    assert!(error.contains("one of them is pcp at most"), "{error}");
    for more in ["[sites.a]\nlimit = 1\n", "[[groups]]\nshare = 1\n"] {
        let error = FleetFile::parse(&format!("{EVERY_STYLE}{more}")).unwrap_err();
        assert!(error.contains("has no sites and no groups"), "{error}");
    }
    let packages = "allow_downgrade = true\n[[packages]]\nversion = \"V2.0\"\n";
    let scenario = Scenario {
        packages: toml::from_str(packages).unwrap(),
        ..fleet(EVERY_STYLE, 7, 1)
    };
    let error = World::new(&scenario, Honest).err().unwrap();
    assert!(error.contains("has one package for all"), "{error}");
    for (character, expected) in [
        ("no-version", "cannot have it"),
        ("old-token", "unknown fault"),
    ] {
        let text = format!(
            "[[styles]]\nstyle = \"thingspanel-1.x\"\nshare = 1\n[styles.characters]\n{character} = 50\n"
        );
        let scenario = fleet(&text, 10, 1);
        let error = scenario.fleet(&scenario.offered().unwrap()).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}

// ---- rules that are broken on purpose

#[track_caller]
fn breaks<H: Hooks>(scenario: &Scenario, hooks: H, rule: Rule, words: &str) {
    assert_eq!(run(scenario).violations, [], "unbroken");
    let violations = run_with(scenario, hooks).violations;
    let found = |it: &crate::simulate::Violation| it.rule == rule && it.what.contains(words);
    assert!(violations.iter().any(found), "{violations:#?}");
}

/// Things leave before the change on which they depend.
struct Hasty(fn(&Out) -> bool);

impl Hooks for Hasty {
    fn lets_out(&mut self, out: &Out, after: &mut Seq) {
        if (self.0)(out) {
            *after = 0;
        }
    }
}

#[test]
fn what_leaves_before_its_change_is_committed_is_noticed() {
    let scenario = fleet(EVERY_STYLE, 7, 3);
    for (hasty, words) in [
        (
            Hasty(|out| matches!(out, Out::Publish { .. })),
            "is offered its package",
        ),
        (
            Hasty(|out| matches!(out, Out::Grant(_))),
            "is granted its download",
        ),
        (
            Hasty(|out| matches!(out, Out::Acknowledge(_))),
            "leaves for",
        ),
        (
            Hasty(|out| matches!(out, Out::Grant(grant) if grant.begun)),
            "bytes of its package leave before",
        ),
    ] {
        breaks(&scenario, hasty, Rule::CommittedFirst, words);
    }
}

#[test]
fn a_download_whose_beginning_cannot_be_stored_waits_and_gives_up() {
    /// Nobody is told that it is written down that devices fetch their packages.
    struct Unwritten;

    impl Hooks for Unwritten {
        fn leaves(&mut self, out: &Out) -> bool {
            !matches!(out, Out::Grant(grant) if grant.begun)
        }
    }
    let summary = run_with(&fleet(EVERY_STYLE, 7, 3), Unwritten);
    assert_eq!(summary.figures.downloaded_bytes, 0);
    assert_eq!(succeeded(&summary), 0, "{:?}", summary.reasons);
}

/// Things are lost on their way out of the shard.
struct Loses(fn(&Out) -> bool);

impl Hooks for Loses {
    fn leaves(&mut self, out: &Out) -> bool {
        !(self.0)(out)
    }
}

#[test]
fn a_connection_that_is_not_held_in_a_download_is_noticed() {
    // a download of a quarter of an hour, and a keep-alive of two minutes
    let scenario = iotda("python", "", "bytes_per_s = 20");
    let unheld = Loses(|out| matches!(out, Out::Hold { on: true, .. }));
    breaks(&scenario, unheld, Rule::CutOff, "serves nothing else");
}

#[test]
fn a_token_that_outlives_its_upgrade_is_noticed() {
    let kept = Loses(|out| matches!(out, Out::Revoke(_)));
    breaks(&fleet(EVERY_STYLE, 7, 3), kept, Rule::Grants, "are granted");
}

#[test]
fn a_download_that_goes_on_after_its_upgrade_is_noticed() {
    // a download of a quarter of an hour, for which there are ten minutes
    let mut scenario = iotda("python", "", "bytes_per_s = 20");
    let mut config = short_limits();
    config.upgrade.transfer_s = 600;
    scenario.config = Arc::new(config);
    let kept = Loses(|out| matches!(out, Out::Revoke(_)));
    let words = "its token opens the package";
    breaks(&scenario, kept, Rule::Grants, words);
}

/// Reports of failures come as reports of success.
struct Embellishes;

impl Hooks for Embellishes {
    fn hears_of(&mut self, event: &mut Event) {
        if let Event::Message {
            uplink: Uplink::Events { .. },
            payload,
            ..
        } = event
        {
            let text = String::from_utf8_lossy(payload).into_owned();
            if text.contains("\"result_code\":1") {
                let text = text
                    .replace("\"result_code\":1", "\"result_code\":0")
                    .replace("\"progress\":0", "\"progress\":100");
                *payload = text.into();
            }
        }
    }
}

#[test]
fn a_success_that_is_none_is_noticed() {
    // this kit names the target in its reports of failures
    let scenario = iotda("c", "corrupt-download", "");
    breaks(&scenario, Embellishes, Rule::TrueOutcome, "never said so");
}

/// The engine hears of the beginning of downloads, and of nothing else.
struct HardOfHearing;

impl Hooks for HardOfHearing {
    fn serves(&mut self, served: &mut Served) -> bool {
        served.whole = false;
        served.contiguous_bytes == 0
    }
}

#[test]
fn a_failure_that_is_none_is_noticed() {
    /// Everything that a device says of its end comes as a failure.
    struct Denies;

    impl Hooks for Denies {
        fn hears_of(&mut self, event: &mut Event) {
            if let Event::Message {
                uplink: Uplink::Inform(_),
                payload,
                ..
            } = event
            {
                let text = String::from_utf8_lossy(payload).replace("V2.0", "V1.0");
                *payload = text.into();
            }
        }
    }
    let text = "start_within_s = 60\n[[styles]]\nstyle = \"thingspanel-0.5\"\nshare = 1\n";
    let scenario = fleet(text, 4, 5);
    breaks(&scenario, Denies, Rule::TrueOutcome, "has shown it");
    // what a device was served has to be known
    let deaf = run_with(&scenario, HardOfHearing);
    assert_eq!(succeeded(&deaf), 0, "{:?}", deaf.reasons);
}

/// The engine runs with other settings than those that were ordered.
struct OtherSettings(fn(&mut Config));

impl Hooks for OtherSettings {
    fn config(&self, config: &Config) -> Config {
        let mut config = config.clone();
        (self.0)(&mut config);
        config
    }
}

#[test]
fn limits_of_stages_that_are_too_long_are_noticed() {
    let scenario = iotda("python", "broken-download", "");
    let longer = OtherSettings(|config| config.upgrade.transfer_s += 60);
    breaks(&scenario, longer, Rule::StageLimit, "downloading has");
    let scenario = iotda("python", "wrong-secret", "");
    let longer = OtherSettings(|config| config.upgrade.wait_for_connection_s += 60);
    breaks(
        &scenario,
        longer,
        Rule::StageLimit,
        "waiting_for_device has",
    );
}

/// Changes that are taken for committed, and are not.
struct Forgets(fn(&Change) -> bool);

impl Hooks for Forgets {
    fn commits(&mut self, change: &mut Change) -> bool {
        !(self.0)(change)
    }
}

#[test]
fn an_outcome_that_is_lost_is_noticed() {
    let ends = Forgets(|change| matches!(change, Change::Ended { upgrade, .. } if upgrade.0 == 3));
    breaks(&fleet(EVERY_STYLE, 7, 3), ends, Rule::OneOutcome, "3: ");
}

// ---- seeds

/// What is said of devices of that style, which speak MQTT, by chance.
fn styled(style: &str, share: u32, below: &mut impl FnMut(u32) -> u32) -> String {
    let mut text = format!("[[styles]]\nstyle = \"{style}\"\nshare = {share}\n");
    if below(3) == 0 {
        text += "restarts = true\n";
    }
    if below(3) == 0 {
        writeln!(text, "keep_alive_s = {}", 20 + below(100)).unwrap();
    }
    if below(3) == 0 {
        writeln!(text, "bytes_per_s = {}", 10 + below(300)).unwrap();
    }
    text
}

/// That those of the entry before are behind gateways, and what these are like, by chance.
fn gateways(below: &mut impl FnMut(u32) -> u32) -> String {
    let mut text = format!("behind = {}\n[styles.gateways]\n", 1 + below(8));
    if below(2) == 0 {
        text += "tell = true\n";
    }
    if below(2) == 0 {
        writeln!(text, "per_gateway = {}", 1 + below(4)).unwrap();
    }
    if below(2) == 0 {
        let (percent, within_s) = (1 + below(100), 60 + below(7_200));
        writeln!(
            text,
            "moving = {{ percent = {percent}, within_s = {within_s} }}"
        )
        .unwrap();
    }
    text
}

/// Numbers below others, by chance: the same for a seed and a purpose.
fn dice(seed: u64, purpose: u64) -> impl FnMut(u32) -> u32 {
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ purpose);
    move |bound: u32| rng.next_u32() % bound
}

/// A world that follows from one number.
fn world(seed: u64) -> Scenario {
    let mut below = dice(seed, 0x4D51_5454);
    let mut config = short_limits();
    if below(3) == 0 {
        config.upgrade.wait_for_connection_s = 900 + u64::from(below(3_600));
        config.upgrade.transfer_s = 600 + u64::from(below(7_200));
        config.upgrade.execute_s = 120 + u64::from(below(1_800));
        config.upgrade.progress_interval_s = 1 + u64::from(below(60));
    }
    if below(3) == 0 {
        config.mqtt.take_over_after_ms = 1 + u64::from(below(5_000));
        config.mqtt.receive_maximum = 1 + u16::try_from(below(4)).unwrap();
        config.mqtt.send_maximum = 1 + u16::try_from(below(4)).unwrap();
    }
    let mut text = "start_within_s = 120\n".to_owned();
    let styles = [
        "iotda",
        "iotda-v2",
        "thingspanel-0.5",
        "thingspanel-1.x",
        "pcp",
    ];
    for style in styles {
        let share = below(4);
        if share == 0 && style != "iotda" {
            continue;
        }
        if style == "pcp" {
            let share = share + 1;
            writeln!(text, "[[styles]]\nstyle = \"{style}\"\nshare = {share}").unwrap();
        } else {
            text += &styled(style, share + 1, &mut below);
        }
    }
    // what came later leaves the worlds of before as they were, where it has no part in them
    let mut later = dice(seed, 0x5155_4543);
    let share = later(4);
    if share > 0 {
        text += &styled("quecthing", share, &mut later);
    }
    let share = later(3);
    if share > 0 {
        text += &styled("iotda", share, &mut later);
        text += &gateways(&mut later);
    }
    Scenario {
        config: Arc::new(config),
        fleet: FleetFile::parse(&text).unwrap(),
        package_bytes: 100 + below(30_000) as usize,
        products: 1 + below(2) as usize,
        faults: [Faults::None, Faults::Default, Faults::Harsh, Faults::Harsh][below(4) as usize],
        crash_every: [None, None, Some(60), Some(300), Some(1_800)][below(5) as usize]
            .map(Duration::from_secs),
        retry: RetryPolicy {
            attempts: below(3),
            interval_s: 30 + below(300),
            ..RetryPolicy::default()
        },
        ..Scenario::new(5 + below(20) as usize, 1 + below(3), seed)
    }
}

/// Prints what is written of one upgrade, and what passes the shard, while a seed is replayed: `CELLWISE_UPGRADE` has its number.
struct Narrator(i64);

impl Hooks for Narrator {
    fn commits(&mut self, change: &mut Change) -> bool {
        match change {
            Change::Stage {
                upgrade,
                line: Some(line),
                at,
                ..
            }
            | Change::Note {
                upgrade, line, at, ..
            } if upgrade.0 == self.0 => println!("{at} {}", wording::line(line)),
            Change::Ended {
                upgrade,
                outcome,
                facts,
                at,
                ..
            } if upgrade.0 == self.0 => {
                println!("{at} ended: {}", wording::ending(outcome.reason(), facts));
            }
            _ => {}
        }
        true
    }

    fn leaves(&mut self, out: &Out) -> bool {
        println!("out {out:?}");
        true
    }

    fn hears_of(&mut self, event: &mut Event) {
        println!("event {event:?}");
    }

    fn serves(&mut self, served: &mut Served) -> bool {
        println!("{served:?}");
        true
    }
}

fn check(seed: u64) -> Result<(), String> {
    let summary = run(&world(seed));
    if summary.violations.is_empty() {
        return Ok(());
    }
    Err(format!(
        "seed {seed}: {:#?}\nreplay: CELLWISE_SEED={seed} cargo test --lib simulate::tests::over_mqtt::seeds_violate",
        summary.violations
    ))
}

/// Seeds that have failed: a device with `QuecThing` that claimed a success without a download was believed, in its attempt, in the next
/// one, and after a restart of the server; and a token was taken to live for too long where the store had failed.
#[test]
fn seeds_that_have_failed_violate_nothing_any_more() {
    for seed in [
        68_692_513_092_049,
        155_109_165_976_901,
        68_692_513_092_118,
        68_692_513_092_002,
    ] {
        check(seed).unwrap();
    }
}

#[test]
fn seeds_violate_nothing() {
    let variable = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    if let Some(seed) = variable("CELLWISE_SEED") {
        if let Some(upgrade) = variable("CELLWISE_UPGRADE") {
            run_with(&world(seed), Narrator(upgrade.cast_signed()));
        }
        return check(seed).unwrap();
    }
    let (first, count): (u64, u64) = match variable("CELLWISE_SEEDS") {
        None => (0, SEEDS),
        Some(count) => {
            let mut first = [0; 8];
            getrandom::fill(&mut first).unwrap();
            (u64::from_be_bytes(first) >> 16, count)
        }
    };
    println!("seeds {first} to {}", first + count - 1);
    let failed: Vec<String> = (first..first + count)
        .filter_map(|seed| check(seed).err())
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
