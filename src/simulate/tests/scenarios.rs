//! What devices in the field do, one scenario each: a few devices of that character in a world without other
//! faults. Each looks at what went over the air, and when, not only at how it ended.

mod asking;
mod log;
mod lying;
mod outcome;

use std::{cell::RefCell, rc::Rc, sync::Arc};

use super::{Scenario, Summary, run_with};
use crate::{
    config::{ClassRule, Config, ProductConfig},
    ledger::RetryPolicy,
    simulate::{Faults, fleet::FleetFile},
};
use log::{Log, Watch};

const DEVICES: u32 = 4;

/// The limits and pauses that the scenarios run with, ms.
fn ms(setting: fn(&crate::config::UpgradeConfig) -> u64) -> u64 {
    setting(&Config::default().upgrade) * 1_000
}

/// Devices of one character, one attempt each.
fn devices(character: &str) -> Scenario {
    with("", character)
}

/// The same with more to say of the fleet, ahead of its characters.
fn with(fleet: &str, character: &str) -> Scenario {
    let text = format!(
        "start_within_s = 60\n[[listening]]\nshare = 1\n{fleet}\n[characters]\n\"{character}\" = 100\n"
    );
    Scenario {
        fleet: FleetFile::parse(&text).unwrap(),
        package_bytes: 5_000,
        retry: RetryPolicy::default(),
        ..Scenario::new(DEVICES as usize, 1, 42)
    }
}

/// Devices that do nothing unusual.
fn ordinary(fleet: &str) -> Scenario {
    let mut scenario = devices("old-token");
    let text = format!("start_within_s = 60\n[[listening]]\nshare = 1\n{fleet}\n");
    scenario.fleet = FleetFile::parse(&text).unwrap();
    scenario
}

fn watch(scenario: &Scenario) -> (Summary, Log) {
    watch_losing(scenario, |_, _| false)
}

/// The same, with datagrams to the devices lost for which `loses` says so: it is given the PCP message's code and how
/// many of it there were before.
fn watch_losing(scenario: &Scenario, loses: fn(u8, usize) -> bool) -> (Summary, Log) {
    let log = Rc::default();
    let summary = run_with(scenario, Watch::new(Rc::clone(&log), loses));
    assert_eq!(summary.violations, []);
    (summary, RefCell::take(&log))
}

/// All devices end in the same way, without another attempt.
#[track_caller]
fn all_end_as(scenario: &Scenario, reason: &str) -> (Summary, Log) {
    let (summary, log) = watch(scenario);
    ended_as(&summary, &log, reason);
    (summary, log)
}

#[track_caller]
fn ended_as(summary: &Summary, log: &Log, reason: &str) {
    let reasons: Vec<_> = summary.reasons.iter().collect();
    assert_eq!(reasons, [(&reason.to_owned(), &u64::from(DEVICES))]);
    assert_eq!(log.outcomes.len(), DEVICES as usize, "one outcome each");
}

#[test]
fn a_device_silent_after_one_repeat_is_notified_again_within_the_limit_and_goes_on() {
    let (summary, log) = all_end_as(&devices("silent-after-one-repeat"), "upgraded");
    log.noted("quiet since segment 5: notified again (PCP 20)");
    for device in 0..DEVICES {
        let [notified, nudged] = log.down(device, 20)[..] else {
            panic!("{:#?}", log.down(device, 20));
        };
        assert_eq!(
            nudged.frame, notified.frame,
            "same version, same check code"
        );
        let asked = log.last_up_before(device, 21, nudged.at_ms);
        let quiet_ms = nudged.at_ms - asked.at_ms;
        let pause_ms = ms(|upgrade| upgrade.nudge_after_s);
        assert!(
            (pause_ms..pause_ms + 10_000).contains(&(quiet_ms + 5_000)),
            "{quiet_ms}"
        );
        assert!(nudged.at_ms - notified.at_ms < ms(|upgrade| upgrade.download_s));
        // it had asked for that segment twice, and goes on with it
        let mut same = log.up(device, 21);
        same.retain(|line| line.frame == asked.frame);
        assert_eq!(same.len(), 3);
        assert!(same[2].at_ms > nudged.at_ms);
        assert_eq!(log.down(device, 19).len(), 1, "it does not begin anew");
    }
    assert!(summary.took_ms < 15 * 60 * 1_000, "{}", summary.took_ms);
}

#[test]
fn a_device_that_holds_everything_and_says_nothing_reports_when_it_is_notified_again() {
    let (_, log) = all_end_as(&devices("holds-download-report"), "upgraded");
    for device in 0..DEVICES {
        let [_, nudged] = log.down(device, 20)[..] else {
            panic!("{:#?}", log.down(device, 20));
        };
        let reports = log.up(device, 22);
        assert!(reports.iter().all(|report| report.at_ms > nudged.at_ms));
        assert!(!reports.is_empty());
        // nothing is fetched twice
        assert_eq!(log.segments_sent(device), (0..10).collect::<Vec<_>>());
    }
}

#[test]
fn a_download_in_the_bootloader_goes_on_after_the_new_registration() {
    let (_, log) = all_end_as(&devices("reboots-in-download"), "upgraded");
    for device in 0..DEVICES {
        // it registers in the middle of the download
        let [_, anew, _] = log.registrations(device)[..] else {
            panic!("{:#?}", log.registrations(device));
        };
        assert_eq!(
            log.last_up_before(device, 21, anew.at_ms).segment(),
            Some(4)
        );
        let next = log.first_up_after(device, 21, anew.at_ms);
        assert_eq!(next.segment(), Some(5), "resumed, not begun anew");
        // it is observed again; and neither asked for its version nor notified again
        assert_eq!(log.observations(device).len(), 3);
        assert_eq!(log.down(device, 20).len(), 1);
        assert_eq!(log.down(device, 19).len(), 1);
        assert_eq!(log.segments_sent(device), (0..10).collect::<Vec<_>>());
    }
}

#[test]
fn progress_that_is_lost_with_a_restart_begins_anew_within_the_same_attempt() {
    let (_, log) = all_end_as(&devices("loses-progress"), "upgraded");
    for device in 0..DEVICES {
        let [_, nudged] = log.down(device, 20)[..] else {
            panic!("{:#?}", log.down(device, 20));
        };
        let before = log.last_up_before(device, 21, nudged.at_ms);
        assert_eq!(before.segment(), Some(4));
        let after = log.first_up_after(device, 21, nudged.at_ms);
        assert_eq!(after.segment(), Some(0));
        let sent: Vec<u16> = (0..5).chain(0..10).collect();
        assert_eq!(log.segments_sent(device), sent);
    }
}

#[test]
fn an_execute_answer_in_mid_download_is_no_answer_and_no_failure() {
    let (_, log) = all_end_as(&devices("execute-timeout-noise"), "upgraded");
    for device in 0..DEVICES {
        let noise = log.up(device, 23)[0];
        assert_eq!(noise.result(), Some(0x06));
        let [command] = log.down(device, 23)[..] else {
            panic!("{:#?}", log.down(device, 23));
        };
        assert!(noise.at_ms < command.at_ms, "nobody had commanded anything");
        // the request beside it is answered: it goes on, and nobody is nudged for it
        let next = (log.up(device, 21).into_iter()).find(|line| line.segment() == Some(6));
        assert!(next.is_some_and(|next| next.at_ms < noise.at_ms + 30_000));
        assert_eq!(log.down(device, 20).len(), 1);
    }
}

#[test]
fn a_device_that_gives_up_for_good_is_nudged_and_loses_its_slot_and_fails_in_the_end() {
    let (_, log) = all_end_as(&devices("stops-mid-download"), "download_stalled");
    let pause_ms = ms(|upgrade| upgrade.nudge_after_s);
    for device in 0..DEVICES {
        let sent: Vec<u64> = log.down(device, 20).iter().map(|l| l.at_ms).collect();
        // the pause grows from nudge to nudge
        let pauses: Vec<u64> = sent.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(sent.len() > 5, "{sent:?}");
        assert!(
            pauses[1..].iter().all(|pause| *pause + 10_000 > pause_ms),
            "{pauses:?}"
        );
        assert!(pauses.get(4) > pauses.get(1), "{pauses:?}");
    }
    let given_back = "5 nudges without progress: slot in cell ";
    let lost = log.notes.iter().filter(|note| note.starts_with(given_back));
    assert_eq!(lost.count(), DEVICES as usize * 3);
    for detail in &log.details {
        for words in [
            "the download stood still each time the device had a slot",
            ". Sent last: the new version (PCP 20), ",
            ". Heard last at 2027-01-16T",
        ] {
            assert!(detail.contains(words), "{words:?} is not in {detail}");
        }
    }
}

#[test]
fn a_restart_of_the_server_makes_nobody_start_over() {
    let scenario = Scenario {
        package_bytes: 20_000,
        crash_every: Some(std::time::Duration::from_secs(40)),
        ..ordinary("")
    };
    let (summary, log) = all_end_as(&scenario, "upgraded");
    assert!(summary.crashes > 3, "{}", summary.crashes);
    for device in 0..DEVICES {
        let sent = log.segments_sent(device);
        assert!(sent.is_sorted(), "nothing is fetched that it has: {sent:?}");
        let first = log.up(device, 21)[0].at_ms;
        let downloaded = log.up(device, 22)[0].at_ms;
        let within = |line: &&log::Line| (first..downloaded).contains(&line.at_ms);
        assert_eq!(log.down(device, 19).into_iter().filter(within).count(), 0);
        assert_eq!(log.down(device, 20).into_iter().filter(within).count(), 0);
    }
}

#[test]
fn a_tail_of_253_bytes_is_cut_otherwise() {
    let scenario = Scenario {
        package_bytes: 3 * 500 + 253,
        ..devices("small-buffer")
    };
    let (_, log) = all_end_as(&scenario, "upgraded");
    let size = u64::try_from(scenario.package_bytes).unwrap();
    for device in 0..DEVICES {
        let notified = log.down(device, 20)[0];
        let segment_size = u16::from_be_bytes([notified.frame[24], notified.frame[25]]);
        assert_ne!(segment_size, 500, "which would leave a tail of 253");
        assert_ne!(segment_size, 253);
        assert_ne!(size % u64::from(segment_size), 253);
        let segments = log.down(device, 21);
        assert!(segments.iter().all(|line| line.frame.len() <= 511));
        assert!(segments.iter().all(|line| line.frame[6..8] != [1, 0]));
    }
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
    let tail = |log: &Log| {
        let segments = log.down(0, 21);
        segments[segments.len() - 1].frame[11..].to_vec()
    };
    let (_, log) = all_end_as(&padded, "upgraded");
    let last = tail(&log);
    assert_eq!(last.len(), 500);
    assert_eq!(last[400..], [0xFF; 100]);
    let (_, log) = all_end_as(&bare, "download_failed");
    assert_eq!(tail(&log).len(), 400);
}

#[test]
fn a_write_that_is_delivered_twice_does_no_harm() {
    let (_, log) = all_end_as(&devices("repeats-everything"), "upgraded");
    for device in 0..DEVICES {
        // it answers each time that it is asked, and says everything twice
        assert!(log.up(device, 19).len() > 1);
        assert!(log.up(device, 20).len() > 1);
        let mut asked: Vec<u16> = (log.up_repeats_included(device, 21).iter())
            .filter_map(|line| line.segment())
            .collect();
        assert!(asked.len() >= 20, "{asked:?}");
        asked.dedup();
        assert_eq!(
            asked,
            (0..10).collect::<Vec<_>>(),
            "in order, none left out"
        );
        assert_eq!(log.down(device, 23).len(), 1);
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
                 stops-mid-download = 5\n\"refuse-execute=0x01\" = 5\nno-object-4 = 5\n\
                 only-service-data = 5\nholds-download-report = 5\n",
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

#[test]
fn by_the_weaker_of_the_two_more_of_a_cell_upgrade_at_once() {
    let at_once = |class_rule| {
        let mut config = Config::default();
        config.admission.class_rule = class_rule;
        // what they hear is clear or fair, and weaker than range 0
        config.admission.rsrp_range0_dbm = -89;
        let mut scenario = ordinary("[coverage]\ngood = 1\nmedium = 1");
        scenario.devices = 30;
        scenario.config = Arc::new(config);
        let (summary, log) = watch(&scenario);
        assert_eq!(log.outcomes.len(), 30);
        let cell = &summary.cells[0];
        ((cell.limit_min, cell.limit_max), cell.peak)
    };
    let (limits, most) = at_once(ClassRule::Table);
    assert_eq!((limits, most), ((1, 1), 1));
    let (limits, most) = at_once(ClassRule::Weaker);
    assert_eq!(limits, (10, 10));
    assert!((2..=10).contains(&most), "{most}");
}
