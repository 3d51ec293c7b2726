//! What devices in the field do, one scenario each: a few devices of that character in a world without other
//! faults.

use std::{cell::RefCell, rc::Rc, sync::Arc};

use super::{Scenario, Summary, run_with};
use crate::{
    cli::simulate::{Faults, fleet::FleetFile, hooks::Hooks},
    config::{Config, ProductConfig},
    engine::{Change, Seq},
    runtime::Datagram,
    task::RetryPolicy,
};

/// Keeps the notes of the timelines, the versions that were recorded, and the PCP frames that were sent.
#[derive(Default)]
struct Seen {
    notes: Vec<String>,
    versions: Vec<String>,
    frames: Vec<Vec<u8>>,
}

struct Watch(Rc<RefCell<Seen>>);

impl Hooks for Watch {
    fn commits(&mut self, change: &mut Change) -> bool {
        let mut seen = self.0.borrow_mut();
        match change {
            Change::Stage { note, .. } | Change::Note { note, .. } => seen.notes.push(note.clone()),
            Change::VersionReported { version, .. } => seen.versions.push(version.to_string()),
            _ => {}
        }
        true
    }

    fn sends(&mut self, datagram: &mut Datagram, _after: &mut Seq) {
        let bytes = &datagram.bytes;
        if let Some(at) = bytes.windows(3).position(|w| w == [0xFF, 0xFE, 0x01]) {
            self.0.borrow_mut().frames.push(bytes[at..].to_vec());
        }
    }
}

impl Seen {
    #[track_caller]
    fn noted(&self, text: &str) {
        let found = self.notes.iter().any(|note| note.contains(text));
        assert!(found, "{text:?} is not among {:#?}", self.notes);
    }

    fn sent(&self, code: u8) -> usize {
        self.frames.iter().filter(|frame| frame[3] == code).count()
    }

    fn answered(&self, code: u8, result: u8) -> bool {
        (self.frames.iter()).any(|frame| frame[3] == code && frame.get(8) == Some(&result))
    }
}

const DEVICES: usize = 4;

/// Devices of one character, one attempt each.
fn devices(character: &str) -> Scenario {
    let text = format!(
        "start_within_s = 60\n[[listening]]\nshare = 1\n[characters]\n\"{character}\" = 100\n"
    );
    Scenario {
        fleet: FleetFile::parse(&text).unwrap(),
        package_bytes: 5_000,
        retry: RetryPolicy::default(),
        ..Scenario::new(DEVICES, 1, 42)
    }
}

fn watch(scenario: &Scenario) -> (Summary, Seen) {
    let seen = Rc::default();
    let summary = run_with(scenario, Watch(Rc::clone(&seen)));
    assert_eq!(summary.violations, []);
    (summary, seen.take())
}

/// All devices end in the same way, without another attempt.
#[track_caller]
fn all_end_as(scenario: &Scenario, reason: &str) -> (Summary, Seen) {
    let (summary, seen) = watch(scenario);
    let reasons: Vec<_> = summary.reasons.iter().collect();
    assert_eq!(reasons, [(&reason.to_owned(), &(DEVICES as u64))]);
    (summary, seen)
}

#[test]
fn silent_after_one_repeat_is_nudged_within_the_limit_of_the_download() {
    let (summary, seen) = all_end_as(&devices("silent-after-one-repeat"), "upgraded");
    seen.noted("notified again (PCP 20)");
    assert!(summary.took_ms < 15 * 60 * 1_000, "{}", summary.took_ms);
}

#[test]
fn a_download_in_the_bootloader_goes_on_after_the_new_registration() {
    let (_, seen) = all_end_as(&devices("reboots-in-download"), "upgraded");
    // every segment once: nothing begins anew
    assert_eq!(seen.sent(21), DEVICES * 10);
}

#[test]
fn progress_that_is_lost_with_a_restart_begins_anew_within_the_same_attempt() {
    let (_, seen) = all_end_as(&devices("loses-progress"), "upgraded");
    assert_eq!(seen.sent(21), DEVICES * 15);
}

#[test]
fn an_execute_answer_in_mid_download_is_no_failure() {
    all_end_as(&devices("execute-timeout-noise"), "upgraded");
}

#[test]
fn no_report_after_a_failed_installation_is_asked_for_after_a_grace_time() {
    let (summary, seen) = all_end_as(&devices("fails-install-silently"), "wrong_version");
    seen.noted("asked for its version (PCP 19)");
    assert!(summary.took_ms < 10 * 60 * 1_000, "{}", summary.took_ms);
}

#[test]
fn no_report_after_an_installation_is_asked_for_as_well() {
    all_end_as(&devices("never-reports-result"), "upgraded");
}

#[test]
fn a_report_long_after_the_outcome_is_answered() {
    let (_, seen) = all_end_as(&devices("late-report"), "upgraded");
    assert!(seen.answered(24, 0x80));
}

#[test]
fn a_report_after_the_limit_comes_unasked_and_its_version_is_recorded() {
    let mut config = Config::default();
    config.upgrade.execute_s = 60;
    let text = "start_within_s = 60\n[[listening]]\nshare = 1\n[timing]\ninstall_ms = 200000\n";
    let scenario = Scenario {
        config: Arc::new(config),
        fleet: FleetFile::parse(text).unwrap(),
        ..devices("old-token")
    };
    let (summary, seen) = all_end_as(&scenario, "execution_timed_out");
    assert_eq!(summary.ends.finished_unheard, DEVICES);
    let recorded = seen.versions.iter().filter(|version| *version == "V2.0");
    assert_eq!(recorded.count(), DEVICES);
    assert!(seen.answered(24, 0x80));
}

#[test]
fn a_tail_of_253_bytes_is_cut_otherwise() {
    let scenario = Scenario {
        package_bytes: 3 * 500 + 253,
        ..devices("small-buffer")
    };
    let (_, seen) = all_end_as(&scenario, "upgraded");
    let lengths = seen.frames.iter().filter(|frame| frame[3] == 21);
    assert!(
        lengths
            .map(|frame| frame[6..8].to_vec())
            .all(|len| len != [1, 0])
    );
}

#[test]
fn a_device_that_takes_every_segment_as_full_needs_the_last_one_padded() {
    let mut config = Config::default();
    let product = ProductConfig {
        pad_last_segment: true,
        ..ProductConfig::default()
    };
    config.products.insert("product-0".into(), product);
    let bare = Scenario {
        package_bytes: 4_900,
        ..devices("full-segments")
    };
    let padded = Scenario {
        config: Arc::new(config),
        ..bare.clone()
    };
    all_end_as(&padded, "upgraded");
    all_end_as(&bare, "download_failed");
}

#[test]
fn a_write_that_is_delivered_twice_does_no_harm() {
    all_end_as(&devices("repeats-everything"), "upgraded");
}

#[test]
fn notifications_under_an_old_observation_count() {
    all_end_as(&devices("old-token"), "upgraded");
}

#[test]
fn a_request_for_a_segment_is_an_acceptance() {
    let (_, seen) = all_end_as(&devices("never-answers-notification"), "upgraded");
    seen.noted("accepted: asks for segment 0");
}

#[test]
fn a_restart_without_an_answer_to_the_command_is_no_failure() {
    all_end_as(&devices("never-answers-execute"), "upgraded");
}

#[test]
fn refusals_and_failures_say_what_the_device_said() {
    for (character, reason) in [
        ("refuse-version-query=0x7F", "version_query_refused"),
        ("refuse-notification=0x04", "notification_refused"),
        ("weak-signal", "notification_refused"),
        ("refuse-execute=0x01", "execute_refused"),
        ("report-download=0x07", "download_failed"),
        ("report-upgrade=0x0A", "upgrade_failed"),
        ("stops-mid-download", "download_timed_out"),
        ("no-object-4", "cell_unknown"),
        ("already-current", "already_current"),
    ] {
        all_end_as(&devices(character), reason);
    }
}

#[test]
fn devices_that_sleep_or_are_paged_are_upgraded_when_they_are_heard() {
    for listening in [
        "wake_every_s = 3600\nawake_s = 93",
        "paging = { cycle_ms = 81920, connected_ms = 10000 }",
    ] {
        let text = format!("[[listening]]\nshare = 1\n{listening}\n");
        let scenario = Scenario {
            fleet: FleetFile::parse(&text).unwrap(),
            ..devices("old-token")
        };
        all_end_as(&scenario, "upgraded");
    }
}

#[test]
fn on_a_good_day_every_device_ends_as_its_character_has_it() {
    for seed in 1..=5 {
        let scenario = Scenario {
            fleet: FleetFile::parse(
                "[characters]\nreboots-in-download = 5\nloses-progress = 5\nlate-report = 5\n\
                 never-answers-notification = 5\nrepeats-everything = 5\nsmall-buffer = 5\n\
                 never-reports-result = 5\nfails-install-silently = 5\nalready-current = 5\n\
                 stops-mid-download = 5\n\"refuse-execute=0x01\" = 5\nno-object-4 = 5\n",
            )
            .unwrap(),
            faults: Faults::None,
            retry: RetryPolicy::default(),
            ..Scenario::new(60, 3, seed)
        };
        let (summary, _) = watch(&scenario);
        assert!(
            summary.surprises.is_empty(),
            "seed {seed}: {:#?}",
            summary.surprises
        );
    }
}
