//! Devices that say what is not so.

use std::sync::Arc;

use super::{DEVICES, Scenario, all_end_as, devices, ms, watch, with};
use crate::{config::Config, ledger::RetryPolicy};

/// Where a version stands in a device's answer (19) or report (24): after the result.
const VERSION: std::ops::Range<usize> = 9..25;

#[test]
fn a_claim_from_the_notification_on_does_not_keep_a_device_from_its_upgrade() {
    let (_, log) = all_end_as(&devices("claims-target"), "upgraded");
    for device in 0..DEVICES {
        assert_eq!(log.down(device, 23).len(), 1);
        assert_eq!(log.up(device, 24)[0].result(), Some(0));
    }
}

#[test]
fn a_reported_failure_stands_whatever_the_device_claims_to_run() {
    for (character, code) in [
        ("claims-target-fails", 0x0A),
        ("claims-target-fails=0x05", 0x05),
    ] {
        let (summary, log) = all_end_as(&devices(character), "upgrade_failed");
        assert_eq!(summary.ends.finished_unheard, 0);
        log.noted("says that it runs \"V2.0\"; it has reported 0x0");
        for device in 0..DEVICES {
            assert_eq!(log.registrations(device).len(), 1, "it stays up");
            let report = log.up(device, 24)[0];
            assert_eq!(report.result(), Some(code));
            assert!(report.frame[VERSION].starts_with(b"V2.0"));
            let last = log.first_up_after(device, 19, report.at_ms);
            assert!(last.frame[VERSION].starts_with(b"V2.0"), "it was asked");
        }
    }
}

#[test]
fn what_a_device_tells_after_the_restart_that_follows_a_failure_counts() {
    for (character, reason, runs) in [
        ("claims-target-restarts-old", "wrong_version", b"V1.0"),
        ("claims-target-late-success", "upgraded", b"V2.0"),
    ] {
        let (_, log) = all_end_as(&devices(character), reason);
        for device in 0..DEVICES {
            let report = log.up(device, 24)[0];
            assert_eq!(report.result(), Some(0x0A));
            assert!(report.frame[VERSION].starts_with(b"V2.0"));
            let [_, back] = log.registrations(device)[..] else {
                panic!("{:#?}", log.registrations(device));
            };
            let told = log.first_up_after(device, 19, back.at_ms);
            assert!(told.frame[VERSION].starts_with(runs), "{character}");
        }
    }
}

#[test]
fn a_device_that_holds_half_of_the_target_and_claims_it_goes_on() {
    // the outage outlasts the first attempt
    let mut config = Config::default();
    config.upgrade.download_s = 300;
    let retried = Scenario {
        config: Arc::new(config),
        retry: RetryPolicy {
            attempts: 1,
            interval_s: 60,
            ..RetryPolicy::default()
        },
        ..devices("claims-current-mid-download")
    };
    let (summary, log) = watch(&retried);
    assert_eq!(summary.reasons.get("upgraded"), Some(&u64::from(DEVICES)));
    assert_eq!(summary.reasons.get("already_current"), None);
    assert_eq!(
        summary.ends.retries,
        u64::from(DEVICES),
        "in the second attempt"
    );
    log.noted("says that it runs \"V2.0\"; it has taken it");
    for device in 0..DEVICES {
        assert_eq!(
            log.registrations(device)[1..].len(),
            1,
            "after the installation"
        );
        let sent = log.segments_sent(device);
        assert!(sent.is_sorted(), "nothing is fetched that it has: {sent:?}");
    }
    // within the limit of the download it is one attempt
    let short = with(
        "[timing]\noutage_ms = 300000\n",
        "claims-current-mid-download",
    );
    all_end_as(&short, "upgraded");
}

#[test]
fn a_report_before_the_restart_is_waited_for() {
    let (_, log) = all_end_as(&devices("reports-before-restart"), "upgraded");
    let mut reported_again = 0;
    for device in 0..DEVICES {
        let reports = log.up(device, 24);
        assert_eq!(reports[0].result(), Some(0));
        assert!(reports[0].frame[VERSION].starts_with(b"V1.0"));
        let [_, back] = log.registrations(device)[..] else {
            panic!("{:#?}", log.registrations(device));
        };
        assert!(reports[0].at_ms < back.at_ms);
        reported_again += reports[1..].len();
    }
    assert!(
        (1..DEVICES as usize).contains(&reported_again),
        "some are asked"
    );
}

#[test]
fn versions_with_what_does_not_belong_to_them_are_what_they_mean() {
    let (_, log) = all_end_as(&devices("dirty-version"), "upgraded");
    for device in 0..DEVICES {
        let first = log.up(device, 19)[0];
        assert!(first.frame[VERSION].starts_with(b"V1.0"));
        assert_ne!(first.frame[VERSION], *b"V1.0\0\0\0\0\0\0\0\0\0\0\0\0");
    }
}

#[test]
fn a_dead_download_gives_its_slot_to_others() {
    // each needs the cell for itself
    let mut config = Config::default();
    config.admission.limit_good = 1;
    let scenario = Scenario {
        config: Arc::new(config),
        ..devices("deaf-download")
    };
    let (_, log) = all_end_as(&scenario, "download_stalled");
    log.noted("5 nudges without progress: slot in cell ");
    let mut notified: Vec<u64> = (0..DEVICES)
        .map(|device| log.down(device, 20)[0].at_ms)
        .collect();
    notified.sort_unstable();
    let waits_ms: Vec<u64> = (notified.windows(2)).map(|two| two[1] - two[0]).collect();
    let limit_ms = ms(|upgrade| upgrade.download_s);
    assert!(waits_ms.iter().all(|wait| *wait < limit_ms), "{waits_ms:?}");
}
