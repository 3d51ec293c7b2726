//! What a restart must not do.

use std::{sync::Arc, time::Duration};

use super::{Scenario, breaks_so, small};
use crate::{
    config::Config,
    ledger::{ActiveUpgrade, DeviceRecord, RetryPolicy, Stage},
    simulate::{fleet::FleetFile, hooks::Hooks, invariants::Rule},
};

/// Changes what a server is given back when it starts.
struct Swaps(fn(&mut Vec<DeviceRecord>, &mut Vec<ActiveUpgrade>));

impl Hooks for Swaps {
    fn restores(&mut self, devices: &mut Vec<DeviceRecord>, upgrades: &mut Vec<ActiveUpgrade>) {
        (self.0)(devices, upgrades);
    }
}

/// A server that crashes all the time. What goes wrong goes on to the end of all limits: they are short.
fn crashing() -> Scenario {
    let mut config = Config::default();
    config.upgrade.wait_for_device_s = 600;
    config.upgrade.wait_for_slot_s = 3_600;
    config.upgrade.download_s = 1_200;
    Scenario {
        config: Arc::new(config),
        crash_every: Some(Duration::from_secs(20)),
        retry: RetryPolicy::default(),
        ..small()
    }
}

#[test]
fn a_slot_that_is_forgotten_over_a_restart_is_noticed() {
    let forgets = Swaps(|_, upgrades| {
        upgrades.retain(|upgrade| !upgrade.stage.stage.holds_slot());
    });
    breaks_so(&crashing(), forgets, Rule::CellLimit, "the gate counts");
}

#[test]
fn a_slot_that_is_counted_and_not_held_is_noticed() {
    // it would never be given back, and nobody admitted who needs it
    let scenario = Scenario {
        fleet: FleetFile::parse("start_within_s = 60\n[coverage]\npoor = 1\n").unwrap(),
        ..crashing()
    };
    let counts = Swaps(|_, upgrades| {
        let waiting = upgrades
            .iter_mut()
            .find(|upgrade| upgrade.stage.stage == Stage::WaitingForSlot);
        if let Some(waiting) = waiting {
            waiting.stage.stage = Stage::Downloading;
        }
    });
    breaks_so(&scenario, counts, Rule::CellLimit, "slots");
}

#[test]
fn an_upgrade_that_is_forgotten_over_a_restart_is_noticed() {
    let forgets = Swaps(|_, upgrades| upgrades.retain(|upgrade| upgrade.order.upgrade.0 != 7));
    breaks_so(&crashing(), forgets, Rule::OneOutcome, "7: is stored as");
}

#[test]
fn a_limit_that_begins_anew_after_a_restart_is_noticed() {
    let scenario = Scenario {
        fleet: FleetFile::parse(
            "start_within_s = 60\n[[listening]]\nshare = 1\n\
             [characters]\nstops-mid-download = 50\n",
        )
        .unwrap(),
        ..crashing()
    };
    let anew = Swaps(|_, upgrades| {
        for upgrade in upgrades {
            // what is left is less than that after each restart but the first
            let deadline = &mut upgrade.stage.deadline_at;
            *deadline = *deadline + Duration::from_secs(5);
        }
    });
    breaks_so(&scenario, anew, Rule::StageLimit, "after its limit");
}

#[test]
fn a_wait_for_a_slot_that_begins_anew_after_a_restart_is_noticed() {
    // in a cell of bad coverage it takes so long that coverage is measured anew
    let mut scenario = crashing();
    scenario.fleet = FleetFile::parse("start_within_s = 60\n[coverage]\npoor = 1\n").unwrap();
    let anew = Swaps(|_, upgrades| {
        for upgrade in upgrades {
            if let Some(at) = &mut upgrade.stage.slot_deadline_at {
                *at = *at + Duration::from_secs(1);
            }
        }
    });
    breaks_so(
        &scenario,
        anew,
        Rule::StageLimit,
        "wait for a slot begins anew",
    );
}

#[test]
fn a_download_that_begins_anew_after_a_restart_is_noticed() {
    let scenario = Scenario {
        package_bytes: 20_000,
        ..crashing()
    };
    let unconfirmed = Swaps(|_, upgrades| {
        for upgrade in upgrades {
            upgrade.stage.confirmed = false;
        }
    });
    breaks_so(&scenario, unconfirmed, Rule::GoesOn, "notified again");
    let to_the_start = Swaps(|_, upgrades| {
        for upgrade in upgrades {
            if upgrade.stage.stage == Stage::Downloading {
                upgrade.stage.stage = Stage::QueryingVersion;
            }
        }
    });
    breaks_so(
        &scenario,
        to_the_start,
        Rule::GoesOn,
        "asked for its version",
    );
}

#[test]
fn devices_that_nobody_added_are_noticed() {
    let adds = Swaps(|devices, _| {
        let mut other = devices[0].clone();
        other.endpoint.push('0');
        other.registration = None;
        devices.push(other);
    });
    breaks_so(&small(), adds, Rule::Bounded, "21 devices");
}
