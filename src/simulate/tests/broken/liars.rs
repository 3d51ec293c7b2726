//! A core that believes what it should not.

use std::{sync::Arc, time::Duration};

use pcp::{DeviceMessage, ResultCode};
use sim::coap::Message;

use super::{Scenario, breaks_so, small};
use crate::{
    clock::UtcMillis,
    config::Config,
    ledger::{ActiveUpgrade, DeviceRecord, Evidence, FailedIn, ReportedFailure, RetryPolicy},
    simulate::{fleet::FleetFile, hooks::Hooks, invariants::Rule},
};

/// All of one character, in a world without other faults.
fn all(character: &str) -> Scenario {
    let text = format!(
        "start_within_s = 60\n[[listening]]\nshare = 1\n[timing]\noutage_ms = 900000\n\
         [characters]\n\"{character}\" = 100\n"
    );
    let mut config = Config::default();
    config.upgrade.download_s = 600;
    Scenario {
        config: Arc::new(config),
        fleet: FleetFile::parse(&text).unwrap(),
        retry: RetryPolicy {
            attempts: 1,
            interval_s: 600,
            ..RetryPolicy::default()
        },
        ..small()
    }
}

/// A core that does not hear what devices say of this kind.
struct DeafTo(fn(&DeviceMessage<'_>) -> bool);

impl Hooks for DeafTo {
    fn hears(&mut self, datagram: &[u8]) -> bool {
        let Ok(message) = Message::parse(datagram) else {
            return true;
        };
        DeviceMessage::decode(message.payload).map_or(true, |message| !(self.0)(&message))
    }
}

#[test]
fn a_claim_that_is_believed_against_a_reported_failure_is_noticed() {
    let failures = DeafTo(
        |message| matches!(message, DeviceMessage::UpgradeReport { result, .. } if !result.is_success()),
    );
    let words = "a success, and the device runs another version";
    breaks_so(
        &all("claims-target-fails"),
        failures,
        Rule::TrueOutcome,
        words,
    );
}

/// Changes what a server knows of the devices when it starts.
struct Restores(fn(&mut DeviceRecord));

impl Hooks for Restores {
    fn restores(&mut self, devices: &mut Vec<DeviceRecord>, _: &mut Vec<ActiveUpgrade>) {
        devices.iter_mut().for_each(self.0);
    }
}

fn crashing(character: &str) -> Scenario {
    Scenario {
        crash_every: Some(Duration::from_mins(5)),
        ..all(character)
    }
}

#[test]
fn a_claim_that_is_believed_in_mid_download_is_noticed() {
    let forgets = Restores(|device| device.evidence.clear());
    let words = "a success, and the device runs another version";
    let scenario = crashing("claims-current-mid-download");
    breaks_so(&scenario, forgets, Rule::TrueOutcome, words);
}

#[test]
fn the_truth_that_is_not_believed_is_noticed() {
    let mistrusts = Restores(|device| {
        device.evidence = vec![Evidence {
            version: crate::package::Version::new("V2.0").unwrap(),
            taken: true,
            commanded: false,
            claimed: false,
            failure: Some(ReportedFailure {
                failed_in: FailedIn::Installation,
                code: ResultCode::INSTALL_FAILED,
            }),
            at: UtcMillis(0),
        }];
    });
    let words = "and the device has told that it runs the target";
    let scenario = crashing("late-report");
    breaks_so(&scenario, mistrusts, Rule::TrueOutcome, words);
}
