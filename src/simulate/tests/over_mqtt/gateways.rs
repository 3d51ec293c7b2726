//! Devices behind gateways.

use super::*;
use crate::ledger::{ActiveUpgrade, DeviceRecord, Further, Via};

/// Devices behind gateways, five behind each, all with that character, if any.
fn behind(devices: usize, character: &str, more: &str) -> Scenario {
    let character = if character.is_empty() {
        "characters = {}\n".to_owned()
    } else {
        format!("characters = {{ \"{character}\" = 100 }}\n")
    };
    let text = format!(
        "start_within_s = 60\n[[styles]]\nstyle = \"iotda\"\nshare = 1\nbehind = 5\n{character}\
         [styles.gateways]\ncharacters = {{}}\n{more}"
    );
    fleet(&text, devices, 5)
}

#[test]
fn they_are_upgraded_through_their_gateways() {
    for (more, store) in [
        ("", StoreKind::Memory),
        ("tell = true\n", StoreKind::Memory),
        ("tell = true\n", StoreKind::Sqlite),
    ] {
        let unverified = Rc::new(Cell::new(0));
        let scenario = Scenario {
            store,
            ..behind(12, "", more)
        };
        let summary = run_with(&scenario, Unverified(unverified.clone()));
        assert_eq!(summary.violations, [], "{more}");
        assert_eq!(succeeded(&summary), 12, "{:?}", summary.reasons);
        assert_eq!(unverified.get(), 0);
        assert!(summary.figures.downloaded_bytes >= 12 * 20_000);
    }
}

#[test]
fn what_becomes_of_them_is_what_their_characters_say() {
    let characters = sim::mqtt::Fault::catalogue()
        .map(|(fault, _)| fault)
        .filter(|fault| fault.is_for_behind() && fault.is_for(sim::mqtt::Style::Iotda));
    let characters: Vec<String> = (characters.map(|it| it.to_string()))
        .chain(["refuses@4".to_owned()])
        .collect();
    assert!(characters.len() > 10, "{characters:?}");
    for character in characters {
        let summary = run(&behind(4, &character, ""));
        assert_eq!(summary.violations, [], "{character}");
        assert_eq!(summary.surprises, [].into(), "{character}");
    }
}

#[test]
fn a_success_at_once_is_never_verified() {
    let unverified = Rc::new(Cell::new(0));
    let hooks = Unverified(unverified.clone());
    let summary = run_with(&behind(6, "success-at-once", ""), hooks);
    assert_eq!(summary.violations, []);
    assert_eq!(succeeded(&summary), 6, "{:?}", summary.reasons);
    assert_eq!(unverified.get(), 6, "{:?}", summary.reasons);
}

#[test]
fn a_gateway_that_restarts_in_a_download_has_all_of_them_upgraded() {
    let text = "start_within_s = 60\n[[styles]]\nstyle = \"iotda\"\nshare = 1\nbehind = 5\n\
        [styles.gateways.characters]\ndrops-in-download = 100\n";
    let summary = run(&fleet(text, 10, 5));
    assert_eq!(summary.violations, []);
    assert_eq!(succeeded(&summary), 10, "{:?}", summary.reasons);
}

#[test]
fn devices_that_get_another_gateway_are_upgraded_through_that() {
    for tell in ["", "tell = true\n"] {
        let more = format!("{tell}moving = {{ percent = 100, within_s = 300 }}\n");
        for seed in 1..=4 {
            let scenario = Scenario {
                seed,
                // a device may not be there yet when the operator says so
                retry: RetryPolicy {
                    attempts: 3,
                    interval_s: 300,
                    ..RetryPolicy::default()
                },
                ..behind(15, "", &more)
            };
            let summary = run(&scenario);
            assert_eq!(summary.violations, [], "{more} seed {seed}");
            assert_eq!(succeeded(&summary), 15, "{:?}", summary.reasons);
        }
    }
}

/// What the operator says is long on its way to the shard, and what was to be said to a device when it has begun to download.
#[test]
fn messages_that_are_late_within_the_server_violate_nothing() {
    struct Slow;

    impl Hooks for Slow {
        fn on_its_way(&self) -> Duration {
            Duration::from_secs(20)
        }
    }
    for seed in 1..=4 {
        let scenario = Scenario {
            seed,
            crash_every: Some(Duration::from_mins(1)),
            ..behind(15, "", "moving = { percent = 100, within_s = 600 }\n")
        };
        let summary = run_with(&scenario, Slow);
        assert_eq!(summary.violations, [], "seed {seed}");
    }
}

/// What becomes of the example's devices is what their characters say, but for those of which another one kept the slot.
#[test]
fn the_example_ends_as_its_characters_say() {
    let scenario = Scenario {
        fleet: FleetFile::parse(include_str!("../../../../docs/fleets/gateways.toml")).unwrap(),
        retry: RetryPolicy {
            attempts: 3,
            interval_s: 300,
            ..RetryPolicy::default()
        },
        ..fleet(EVERY_STYLE, 80, 2)
    };
    let summary = run(&scenario);
    assert_eq!(summary.violations, []);
    assert_eq!(summary.surprises, [].into());
    assert!(summary.outcomes["failed"] > 3, "{:?}", summary.reasons);
}

#[test]
fn takeovers_broken_links_and_crashes_violate_nothing() {
    let text = "start_within_s = 60\n[[styles]]\nstyle = \"iotda\"\nshare = 1\nbehind = 6\n\
        [styles.gateways]\nper_gateway = 2\nmoving = { percent = 30, within_s = 7200 }\n\
        [[styles]]\nstyle = \"iotda-v2\"\nshare = 1\nbehind = 4\n\
        [styles.gateways]\ntell = true\nmoving = { percent = 30, within_s = 7200 }\n";
    let harsh = |seed, store| Scenario {
        faults: Faults::Harsh,
        crash_every: Some(Duration::from_mins(10)),
        store,
        ..fleet(text, 24, seed)
    };
    for seed in 1..=6 {
        let summary = run(&harsh(seed, StoreKind::Memory));
        assert_eq!(summary.violations, [], "seed {seed}");
        assert!(summary.crashes > 0, "seed {seed}");
    }
    let trace = |store| run(&harsh(1, store)).trace_sha256;
    assert_eq!(trace(StoreKind::Memory), trace(StoreKind::Sqlite));
}

#[test]
fn gateways_that_cannot_be_had_are_refused() {
    for (styled, expected) in [
        (
            "style = \"quecthing\"\nshare = 1\nbehind = 3",
            "only devices of IoTDA have gateways",
        ),
        (
            "style = \"iotda\"\nshare = 1\nbehind = 0",
            "behind is 1 to 1000",
        ),
        (
            "style = \"iotda\"\nshare = 1\n[styles.gateways]\ntell = true",
            "say how many devices",
        ),
        (
            "style = \"iotda\"\nshare = 1\nbehind = 2\n[styles.gateways]\nper_gateway = 0",
            "per_gateway is at least 1",
        ),
        (
            "style = \"iotda\"\nshare = 1\nbehind = 2\n[styles.gateways]\nmoving = { percent = 0, within_s = 1 }",
            "percent is 1 to 100",
        ),
        (
            "style = \"iotda\"\nshare = 1\nbehind = 2\n[styles.gateways]\nmoving = { percent = 1, within_s = 0 }",
            "within_s is 1 to",
        ),
    ] {
        let error = FleetFile::parse(&format!("[[styles]]\n{styled}\n")).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    for (more, expected) in [
        (
            "characters = { wrong-secret = 50 }",
            "behind gateways cannot have it",
        ),
        (
            "[styles.gateways.characters]\ncut-download = 50",
            "gateways cannot have it",
        ),
    ] {
        let text = format!("[[styles]]\nstyle = \"iotda\"\nshare = 1\nbehind = 5\n{more}\n");
        let scenario = fleet(&text, 10, 1);
        let error = scenario.fleet(&scenario.offered().unwrap()).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}

// ---- rules that are broken on purpose

#[test]
fn a_gateways_lane_over_its_limit_is_noticed() {
    let scenario = behind(10, "", "per_gateway = 2\n");
    let more = OtherSettings(|config| {
        let product = config.products.get_mut("gateways-1").unwrap();
        product.per_gateway = Some(3);
    });
    breaks(
        &scenario,
        more,
        Rule::GatewayLimit,
        "upgrade at once, and 2 may",
    );
}

/// The store gives upgrades back without the lanes that they are in.
struct Laneless;

impl Hooks for Laneless {
    fn restores(&mut self, devices: &mut Vec<DeviceRecord>, upgrades: &mut Vec<ActiveUpgrade>) {
        if upgrades.is_empty() {
            return; // nobody would be reached at all
        }
        for device in devices {
            device.via = Via::Itself;
        }
        for upgrade in upgrades {
            upgrade.order.further = Further::NONE;
        }
    }
}

#[test]
fn slots_of_gateways_that_are_forgotten_are_noticed() {
    // a download of a minute and a half, so that the server crashes in the midst of it
    let text = "start_within_s = 60\n[[styles]]\nstyle = \"iotda\"\nshare = 1\nbehind = 5\nbytes_per_s = 200\n";
    let scenario = Scenario {
        crash_every: Some(Duration::from_secs(40)),
        ..fleet(text, 10, 5)
    };
    let violations = run_with(&scenario, Laneless).violations;
    let found = |it: &crate::simulate::Violation| {
        it.rule == Rule::GatewayLimit && it.what.contains("the gate counts 0 slots")
    };
    assert!(violations.iter().any(found), "{violations:#?}");
}

/// What was served is taken for the whole package, and reports of failures come as reports of success.
struct Exaggerates(Embellishes);

impl Hooks for Exaggerates {
    fn serves(&mut self, served: &mut Served) -> bool {
        served.whole |= served.contiguous_bytes > 0;
        true
    }

    fn hears_of(&mut self, event: &mut Event) {
        self.0.hears_of(event);
    }
}

#[test]
fn a_verified_success_without_the_whole_package_is_noticed() {
    // this kit names the target in its reports of failures
    let text = "start_within_s = 60\n[[styles]]\nstyle = \"iotda\"\nshare = 1\nbehind = 5\nkits = [\"c\"]\n\
        characters = { broken-download = 100 }\n";
    let scenario = fleet(text, 5, 5);
    let words = "its gateway has not got all";
    breaks(
        &scenario,
        Exaggerates(Embellishes),
        Rule::TrueOutcome,
        words,
    );
}
