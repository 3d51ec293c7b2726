//! Devices that get another address all the time, and shards that hear of each other late.

use std::{sync::Arc, time::Duration};

use super::{Scenario, run_with, succeeded};
use crate::{
    config::Config,
    simulate::{Faults, faults::Mishaps, hooks::Hooks},
};

struct Roaming {
    new_address: Duration,
    on_its_way: Duration,
}

impl Hooks for Roaming {
    fn mishaps(&self, mishaps: Mishaps) -> Mishaps {
        Mishaps {
            new_address: Some(self.new_address),
            ..mishaps
        }
    }

    fn on_its_way(&self) -> Duration {
        self.on_its_way
    }
}

fn three_shards(seed: u64) -> Scenario {
    Scenario {
        config: Arc::new(Config {
            shards: 3,
            ..Config::default()
        }),
        ..Scenario::new(30, 2, seed)
    }
}

#[test]
fn nothing_is_lost_between_shards() {
    for seed in 0..12 {
        let slow = seed % 3;
        let scenario = Scenario {
            package_bytes: 5_000,
            ..three_shards(seed)
        };
        let hooks = Roaming {
            new_address: Duration::from_secs(15),
            on_its_way: Duration::from_millis([20, 200, 450][slow as usize]),
        };
        let summary = run_with(&scenario, hooks);
        assert_eq!(summary.violations, [], "seed {seed}");
        assert!(summary.figures.moves > 300, "{}", summary.figures.moves);
        // with one shard it is as many: questions time out that went to addresses of before
        assert!(succeeded(&summary) >= 22, "{:?}", summary.reasons);
    }
}

#[test]
fn nor_when_everything_else_goes_wrong_as_well() {
    for seed in 100..108 {
        let scenario = Scenario {
            faults: Faults::Harsh,
            package_bytes: 2_000,
            crash_every: (seed % 2 == 0).then_some(Duration::from_mins(10)),
            ..three_shards(seed)
        };
        let hooks = Roaming {
            new_address: Duration::from_mins(1),
            on_its_way: Duration::from_millis(500),
        };
        let summary = run_with(&scenario, hooks);
        assert_eq!(summary.violations, [], "seed {seed}");
    }
}
