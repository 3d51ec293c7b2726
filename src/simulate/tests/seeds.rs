//! Many small worlds: the same in every run of the tests, chosen afresh for `tests/long`; and those that have once shown
//! a fault, for ever.

use std::{sync::Arc, time::Duration};

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

use super::{Scenario, run, run_with};
use crate::{
    config::{Appointments, Config, ProductConfig},
    ledger::{Change, RetryPolicy},
    simulate::{Faults, fleet::FleetFile, hooks::Hooks, trace::Way},
    wording,
};

/// Seeds of [`world`] that have once shown a fault.
const ONCE_FAILED: [u64; 17] = [
    // a claim that waited, and a restart after it that was heard before the claim was handled
    50_437_757_894_986,
    // a registration that waited for its device while that was told to upgrade, taken for a restart; a batch whose answer was
    // lost; a claim from before the restart that came after one of the server
    24_368_910_977_001,
    24_368_910_977_439,
    271_663_955_642_439,
    // coverage that came late, without its cell, or was completed by an earlier attempt's
    231_479_286_500_879,
    231_479_286_502_460,
    255_548_046_328_152,
    255_548_046_328_587,
    255_548_046_328_764,
    // a registration that was delivered twice taken for a restart; a liar whose answers to the notification were lost
    246_420_251_995_263,
    246_420_251_995_361,
    // an answer to a question from before the server's restart not heard
    9_690_318_978_200,
    // a registration because of a refusal from before the server's restart taken for a restart of the device
    9_690_318_978_306,
    9_690_318_978_731,
    // reports from before a restart of the device that came after it
    91_730_303_874_199,
    91_730_303_874_456,
    24_046_020_260_260,
];

/// Seeds of a run, from 0; `CELLWISE_SEEDS` is the number of fresh ones.
const SEEDS: u64 = 100;

/// The devices of the first product come by appointment.
pub(super) fn appoint(config: &mut Config) {
    let product = ProductConfig {
        appointments: Appointments::Lifetime,
        ..ProductConfig::default()
    };
    config.products.insert("product-0".into(), product);
}

/// A world that follows from one number: its size, its weather, its devices, its settings.
fn world(seed: u64) -> Scenario {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut below = |bound: u32| rng.next_u32() % bound;
    let devices = 5 + below(35);
    let mut config = Config {
        shards: [1, 2, 2, 3][below(4) as usize],
        ..Config::default()
    };
    if below(3) == 0 {
        // limits that run out in earnest
        config.upgrade.wait_for_device_s = 1_800 + u64::from(below(7_200));
        config.upgrade.wait_for_slot_s = 600 + u64::from(below(3_600));
        config.upgrade.download_s = 120 + u64::from(below(1_800));
        config.upgrade.execute_s = 90 + u64::from(below(900));
    }
    if below(3) == 0 {
        config.admission.limit_good = 3;
        config.admission.limit_fair = 2;
        config.admission.limit_unmeasured = 2;
        config.admission.overtake_s = u64::from(below(300));
    }
    if below(4) == 0 {
        config.admission.coverage_max_age_s = 60;
    }
    let faults = [Faults::None, Faults::Default, Faults::Harsh, Faults::Harsh][below(4) as usize];
    let listening = [
        "",
        "[[listening]]\nshare = 1\n",
        "[[listening]]\nshare = 1\nwake_every_s = 900\nawake_s = 30\n",
        "[[listening]]\nshare = 1\npaging = { cycle_ms = 20480, connected_ms = 10000 }\n",
    ][below(4) as usize];
    let timing = [
        "",
        "[timing]\ninstall_ms = 1500000\n",
        "[timing]\nrepeats = 1\nrepeat_after_ms = 5000\n",
        "[timing]\nlate_report_ms = 2400000\nmax_retransmit = 4\nack_timeout_ms = 2000\n",
    ][below(4) as usize];
    let lifetime = ["", "lifetime_s = 300\n"][below(2) as usize];
    // without a draw: the worlds above stay as they were
    if !seed.is_multiple_of(3) {
        appoint(&mut config);
    }
    let fleet = format!("start_within_s = 300\n{lifetime}{listening}{timing}");
    Scenario {
        config: Arc::new(config),
        fleet: FleetFile::parse(&fleet).unwrap(),
        package_bytes: 100 + below(6_000) as usize,
        products: 1 + below(3) as usize,
        faults,
        crash_every: [None, Some(60), Some(300), Some(1_800)][below(4) as usize]
            .map(Duration::from_secs),
        retry: RetryPolicy {
            attempts: below(3),
            interval_s: 30 + below(300),
            ..RetryPolicy::default()
        },
        ..Scenario::new(devices as usize, 1 + below(4), seed)
    }
}

/// Prints the timeline of one upgrade, and the datagrams of all devices, while a seed is replayed: `CELLWISE_UPGRADE` has its number.
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
            Change::Appointed { .. } => println!("{change:?}"),
            _ => {}
        }
        true
    }

    fn passes(&mut self, now_ms: u64, device: u32, way: Way, datagram: &[u8]) {
        println!(
            "{now_ms} ms device {device} {way:?} {}",
            hex::encode(datagram)
        );
    }
}

fn check(seed: u64) -> Result<(), String> {
    let scenario = world(seed);
    let summary = run(&scenario);
    if summary.violations.is_empty() {
        return Ok(());
    }
    Err(format!(
        "seed {seed}: {:#?}\nreplay: CELLWISE_SEED={seed} cargo test --lib simulate::tests::seeds::seeds_violate",
        summary.violations
    ))
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
    // What fails in a run of the tests is to be what was changed.
    let (first, count): (u64, u64) = match variable("CELLWISE_SEEDS") {
        None => (0, SEEDS),
        Some(count) => {
            let mut first = [0; 8];
            getrandom::fill(&mut first).unwrap();
            (u64::from_be_bytes(first) >> 16, count)
        }
    };
    println!("seeds {first} to {}", first + count - 1);
    // two at a time: the machines that test have two cores
    let halves = std::thread::scope(|scope| {
        [0, 1]
            .map(|half| {
                scope.spawn(move || -> Vec<String> {
                    (first..first + count)
                        .filter(|seed| seed % 2 == half)
                        .filter_map(|seed| check(seed).err())
                        .collect()
                })
            })
            .map(|half| half.join().unwrap())
    });
    let failed: Vec<String> = halves.into_iter().flatten().collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn seeds_that_once_failed_violate_nothing() {
    for seed in ONCE_FAILED {
        check(seed).unwrap();
    }
}
