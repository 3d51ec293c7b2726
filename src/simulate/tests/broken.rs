//! Each rule is broken on purpose, and the checker says so.

mod liars;
mod restart;
mod rollout;

use std::{sync::Arc, time::Duration};

use pcp::ResultCode;

use super::{Scenario, run, run_with, succeeded};
use crate::{
    config::Config,
    engine::Seq,
    ledger::{Change, Failure, Outcome, Stage},
    shard::Outgoing,
    simulate::{
        Faults,
        fleet::FleetFile,
        hooks::Hooks,
        invariants::{Number, Rule},
    },
};

fn small() -> Scenario {
    Scenario {
        package_bytes: 2_000,
        fleet: FleetFile::parse("start_within_s = 60\n[[listening]]\nshare = 1\n").unwrap(),
        ..Scenario::new(20, 1, 3)
    }
}

/// Half of the devices refuse the new version.
fn refusing() -> FleetFile {
    FleetFile::parse(
        "start_within_s = 60\n[[listening]]\nshare = 1\n\
         [characters]\n\"refuse-notification=0x04\" = 50\n",
    )
    .unwrap()
}

#[track_caller]
fn breaks<H: Hooks>(scenario: &Scenario, hooks: H, rule: Rule) {
    breaks_so(scenario, hooks, rule, "");
}

/// Breaks a rule, and what is said of it has `words` in it.
#[track_caller]
pub(super) fn breaks_so<H: Hooks>(scenario: &Scenario, hooks: H, rule: Rule, words: &str) {
    assert_eq!(run(scenario).violations, [], "unbroken");
    let violations = run_with(scenario, hooks).violations;
    assert!(
        (violations.iter())
            .any(|violation| violation.rule == rule && violation.what.contains(words)),
        "{violations:#?}"
    );
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
fn a_mutated_limit_of_a_cell_is_noticed() {
    let one_more = OtherSettings(|config| config.admission.limit_other += 1);
    let scenario = Scenario {
        fleet: FleetFile::parse("start_within_s = 60\n[coverage]\npoor = 1\n").unwrap(),
        ..small()
    };
    let weak = OtherSettings(|config| config.admission.limit_weak += 1);
    breaks(&scenario, weak, Rule::CellLimit);
    assert_eq!(
        run_with(&scenario, one_more).violations,
        [],
        "none is of that class"
    );
}

#[test]
fn coverage_that_is_too_old_is_noticed() {
    let scenario = Scenario {
        fleet: FleetFile::parse("start_within_s = 60\n[coverage]\npoor = 1\n").unwrap(),
        ..small()
    };
    let older = OtherSettings(|config| config.admission.coverage_max_age_s = 1_000_000);
    breaks(&scenario, older, Rule::CellLimit);
}

#[test]
fn a_notification_too_early_in_a_download_is_noticed() {
    let hasty = OtherSettings(|config| config.upgrade.nudge_after_s = 2);
    let words = "notified again in mid-download";
    breaks_so(&small(), hasty, Rule::GoesOn, words);
}

#[test]
fn a_mutated_limit_of_a_stage_is_noticed() {
    let longer = OtherSettings(|config| config.upgrade.download_s += 60);
    breaks(&small(), longer, Rule::StageLimit);
}

/// Changes that are taken for committed, and are not.
struct Forgets(fn(&Change) -> bool);

impl Hooks for Forgets {
    fn commits(&mut self, change: &mut Change) -> bool {
        !(self.0)(change)
    }
}

#[test]
fn a_dropped_outcome_is_noticed() {
    let ends = Forgets(|change| matches!(change, Change::Ended { upgrade, .. } if upgrade.0 == 7));
    breaks(&small(), ends, Rule::OneOutcome);
}

#[test]
fn a_forgotten_commit_is_noticed() {
    let admissions = Forgets(
        |change| matches!(change, Change::Stage { change, .. } if change.stage == Stage::Downloading),
    );
    breaks(&small(), admissions, Rule::CommittedFirst);
}

#[test]
fn a_forgotten_registration_is_noticed() {
    let registrations = Forgets(|change| matches!(change, Change::Registered { .. }));
    breaks(&small(), registrations, Rule::CommittedFirst);
}

/// Changes what is committed.
struct Rewrites(fn(&mut Change));

impl Hooks for Rewrites {
    fn commits(&mut self, change: &mut Change) -> bool {
        (self.0)(change);
        true
    }
}

#[test]
fn another_outcome_in_the_store_is_noticed() {
    let fails = Rewrites(|change| {
        if let Change::Ended { outcome, .. } = change {
            *outcome = Outcome::Failed(Failure::CellUnknown);
        }
    });
    breaks(&small(), fails, Rule::OneOutcome);
}

/// Changes what is sent.
struct Sends<F>(F);

impl<F: FnMut(&mut Vec<u8>, &mut Seq)> Hooks for Sends<F> {
    fn sends(&mut self, outgoing: &mut Outgoing, after: &mut Seq) {
        let mut bytes = outgoing.datagram.to_bytes().into_owned();
        (self.0)(&mut bytes, after);
        outgoing.datagram = bytes.into();
    }
}

#[test]
fn sending_before_the_commit_is_noticed() {
    let early = Sends(|_: &mut Vec<u8>, after: &mut Seq| *after = 0);
    breaks(&small(), early, Rule::CommittedFirst);
}

/// Where the PCP frame of a segment begins in a datagram.
fn segment(datagram: &[u8]) -> Option<usize> {
    let at = datagram
        .windows(4)
        .position(|w| w == [0xFF, 0xFE, 0x01, 21])?;
    (datagram.get(at + pcp::HEADER_LEN) == Some(&ResultCode::SUCCESS.0)).then_some(at)
}

#[test]
fn a_swapped_segment_is_noticed() {
    let mut first: Option<Vec<u8>> = None;
    let swap = Sends(move |datagram: &mut Vec<u8>, _: &mut Seq| {
        let Some(at) = segment(datagram) else {
            return;
        };
        match &first {
            None => first = Some(datagram[at..].to_vec()),
            // the number stays, the data is another segment's
            Some(first) if first.len() == datagram.len() - at => {
                datagram[at + 11..].copy_from_slice(&first[11..]);
            }
            Some(_) => {}
        }
    });
    breaks(&small(), swap, Rule::OwnPackage);
}

#[test]
fn a_segment_of_another_product_is_noticed() {
    let two = Scenario {
        products: 2,
        ..small()
    };
    let mut seen: Vec<Vec<u8>> = Vec::new();
    let mix = Sends(move |datagram: &mut Vec<u8>, _: &mut Seq| {
        if let Some(at) = segment(datagram) {
            let frame = datagram[at..].to_vec();
            let other = seen
                .iter()
                .find(|seen| seen[8..11] == frame[8..11] && **seen != frame);
            if let Some(other) = other {
                datagram.truncate(at);
                datagram.extend_from_slice(other);
            }
            seen.push(frame);
        }
    });
    breaks(&two, mix, Rule::OwnPackage);
}

#[test]
fn a_success_that_is_none_is_noticed() {
    let lies = Rewrites(|change| {
        if let Change::Ended { outcome, .. } = change {
            *outcome = Outcome::Succeeded(crate::ledger::Success::Upgraded);
        }
    });
    let scenario = Scenario {
        fleet: refusing(),
        retry: crate::ledger::RetryPolicy::default(),
        ..small()
    };
    breaks(&scenario, lies, Rule::TrueOutcome);
}

#[test]
fn an_attempt_after_the_outcome_is_noticed() {
    let scenario = Scenario {
        fleet: refusing(),
        ..small()
    };
    // the failure is final, and stored as one that is tried again
    let again = Rewrites(|change| {
        if let Change::Ended {
            attempt: 3,
            retry_at,
            at,
            ..
        } = change
        {
            *retry_at = Some(*at + Duration::from_mins(5));
        }
    });
    breaks_so(&scenario, again, Rule::OneOutcome, "was ordered");
}

#[test]
fn a_missing_attempt_is_noticed() {
    let scenario = Scenario {
        fleet: refusing(),
        ..small()
    };
    let never = Rewrites(|change| {
        if let Change::Ended { retry_at, .. } = change {
            *retry_at = None;
        }
    });
    breaks_so(&scenario, never, Rule::OneOutcome, "was ordered");
}

#[test]
fn a_frame_that_devices_misread_is_noticed() {
    let tail = Sends(|datagram: &mut Vec<u8>, _: &mut Seq| {
        if segment(datagram).is_some() {
            datagram.push(0);
        }
    });
    breaks(&small(), tail, Rule::WellFormed);
}

/// Changes a batch of changes.
struct Batches(fn(&mut Vec<(Number, Change)>));

impl Hooks for Batches {
    fn batches(&mut self, changes: &mut Vec<(Number, Change)>) {
        (self.0)(changes);
    }
}

#[test]
fn changes_that_are_committed_in_another_order_are_noticed() {
    let reversed = Batches(|changes| changes.reverse());
    breaks(&small(), reversed, Rule::CommitOrder);
}

#[test]
fn a_change_that_is_left_out_is_noticed() {
    let notes = Forgets(|change| matches!(change, Change::Progress { .. }));
    breaks(&small(), notes, Rule::CommitOrder);
}

#[test]
fn an_outcome_that_is_committed_twice_is_noticed() {
    let twice = Batches(|changes| {
        let again: Vec<_> = (changes.iter())
            .filter(|(_, change)| matches!(change, Change::Ended { .. }))
            .cloned()
            .collect();
        changes.extend(again);
    });
    breaks_so(&small(), twice, Rule::OneOutcome, "second outcome");
}

#[test]
fn a_datagram_that_does_not_wait_is_noticed() {
    // of the answer to an update nothing but its order tells
    let early = Sends(|datagram: &mut Vec<u8>, after: &mut Seq| {
        if datagram.get(1) == Some(&0x44) {
            *after = 0;
        }
    });
    let scenario = Scenario {
        fleet: FleetFile::parse("start_within_s = 60\nlifetime_s = 60\n[[listening]]\nshare = 1\n")
            .unwrap(),
        ..small()
    };
    breaks_so(&scenario, early, Rule::CommittedFirst, "a datagram left");
}

#[test]
fn a_day_with_everything_going_wrong_breaks_no_rule() {
    let summary = run(&Scenario {
        config: Arc::new(Config::default()),
        faults: Faults::Harsh,
        products: 3,
        crash_every: Some(Duration::from_mins(15)),
        ..Scenario::new(60, 3, 5)
    });
    assert_eq!(summary.violations, []);
    assert!(succeeded(&summary) > 40);
    assert!(summary.crashes > 2);
}
