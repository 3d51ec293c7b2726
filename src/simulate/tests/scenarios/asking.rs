//! Questions and answers that are put off, left out, repeated or refused.

use super::{DEVICES, all_end_as, devices, ended_as, ordinary, watch_losing, with};

#[test]
fn a_device_that_accepts_and_then_takes_its_time_is_not_pressed() {
    let scenario = ordinary("[timing]\nfirst_request_delay_ms = 40000");
    let (_, log) = all_end_as(&scenario, "upgraded");
    log.noted("accepted the new version (PCP 20)");
    for device in 0..DEVICES {
        let accepted = log.up(device, 20)[0];
        assert_eq!(accepted.result(), Some(0));
        let asked = log.up(device, 21)[0];
        assert_eq!(asked.segment(), Some(0));
        assert!(asked.at_ms >= log.down(device, 20)[0].at_ms + 40_000);
        assert_eq!(log.down(device, 20).len(), 1, "nobody is nudged");
    }
}

#[test]
fn a_request_for_a_segment_is_an_acceptance() {
    let (_, log) = all_end_as(&devices("never-answers-notification"), "upgraded");
    log.noted("accepted: asks for segment 0 of 10");
    for device in 0..DEVICES {
        assert_eq!(log.up(device, 20).len(), 0);
        assert_eq!(log.down(device, 20).len(), 1, "nor is it notified again");
    }
}

#[test]
fn what_a_device_repeats_is_answered_alike_and_changes_nothing() {
    // of each kind of answer (21, 22, 24) the first two are lost, so that the device says it again
    let scenario = ordinary("");
    let (summary, log) = watch_losing(&scenario, |code, before| {
        matches!(code, 21 | 22 | 24) && before < 2
    });
    ended_as(&summary, &log, "upgraded");
    for device in 0..DEVICES {
        for code in [21, 22, 24] {
            let said = log.up(device, code);
            let again = said
                .iter()
                .filter(|line| line.frame == said[0].frame)
                .count();
            assert!(again >= 2, "{code}: {said:#?}");
        }
        for code in [22, 24] {
            let answers = log.down(device, code);
            assert!(answers.iter().all(|answer| answer.result() == Some(0)));
        }
        assert_eq!(log.down(device, 23).len(), 1, "one command");
        let mut sent = log.segments_sent(device);
        sent.dedup();
        assert_eq!(sent, (0..10).collect::<Vec<_>>());
    }
}

#[test]
fn a_version_that_is_not_told_is_asked_for_again_within_the_limit() {
    // the question is lost together with CoAP's repeats of it
    let scenario = ordinary("");
    let (summary, log) = watch_losing(&scenario, |code, before| code == 19 && before < 2);
    ended_as(&summary, &log, "upgraded");
    for device in 0..DEVICES {
        assert!(!log.down(device, 19).is_empty());
    }
    assert!(summary.took_ms < 15 * 60 * 1_000, "{}", summary.took_ms);
}

#[test]
fn an_answer_with_the_old_token_counts() {
    let (_, log) = all_end_as(&devices("old-token"), "upgraded");
    for device in 0..DEVICES {
        let [first, anew] = log.observations(device)[..] else {
            panic!("{:#?}", log.observations(device));
        };
        // it registers after its restart, and reports under the observation of before
        let report = log.up(device, 24)[0];
        assert_eq!(report.token, first.token);
        assert!(report.at_ms > log.registrations(device)[1].at_ms);
        // the observation is asked for anew with the token that still tells whose it is
        assert_eq!(anew.token, first.token);
        assert_eq!(log.down(device, 24)[0].result(), Some(0));
        assert_eq!(
            log.down(device, 19).len(),
            1,
            "its report was heard: nobody asks"
        );
    }
}

#[test]
fn a_device_without_a_sound_answer_is_measured_by_its_cell_alone() {
    let scenario = with(
        "[coverage]\nunmeasurable = 1\nimplausible = 1",
        "small-buffer",
    );
    let (summary, _) = all_end_as(&scenario, "upgraded");
    assert_eq!(summary.cells[0].limit_max, 10);
}

#[test]
fn refusals_and_failures_say_what_the_device_said() {
    for (character, reason, words) in [
        (
            "refuse-version-query=0x7F",
            "version_query_refused",
            "PCP 19) with 0x7F",
        ),
        (
            "refuse-notification=0x04",
            "notification_refused",
            "PCP 20) with 0x04",
        ),
        ("weak-signal", "notification_refused", "PCP 20) with 0x02"),
        (
            "refuse-execute=0x01",
            "execute_refused",
            "PCP 23) with 0x01",
        ),
        ("report-download=0x07", "download_failed", "PCP 22) as 0x07"),
        ("report-upgrade=0x0A", "upgrade_failed", "PCP 24) as 0x0A"),
        (
            "stops-mid-download",
            "download_stalled",
            "stood still each time the device had a slot",
        ),
        ("no-object-4", "cell_unknown", "does not tell its cell"),
        ("already-current", "already_current", "already"),
    ] {
        let (summary, log) = all_end_as(&devices(character), reason);
        for detail in &log.details {
            assert!(detail.contains(words), "{character}: {detail}");
            // and what went before
            let failed = summary.outcomes["failed"] > 0;
            assert_eq!(detail.contains(". Sent last: "), failed, "{detail}");
            assert_eq!(detail.contains(". Said last: "), failed, "{detail}");
        }
    }
}
