//! What happens after the command to upgrade.

use std::sync::Arc;

use super::{DEVICES, Scenario, all_end_as, devices, ms, ordinary};
use crate::config::Config;

/// The device comes back from its restart, says nothing of the result, and is asked which version it runs after the
/// grace time.
#[track_caller]
fn asked_after_the_grace_time(character: &str, reason: &str) {
    let (_, log) = all_end_as(&devices(character), reason);
    log.noted("no result (PCP 24) yet: asked for its version (PCP 19)");
    let grace_ms = ms(|upgrade| upgrade.result_grace_s);
    for device in 0..DEVICES {
        assert_eq!(log.up(device, 24).len(), 0, "it says nothing");
        let [_, back] = log.registrations(device)[..] else {
            panic!("{:#?}", log.registrations(device));
        };
        let [_, asked] = log.down(device, 19)[..] else {
            panic!("{:#?}", log.down(device, 19));
        };
        let grace = asked.at_ms - back.at_ms;
        assert!((grace_ms..grace_ms + 15_000).contains(&grace), "{grace}");
    }
}

#[test]
fn no_report_after_a_failed_installation_is_asked_for_after_a_grace_time() {
    asked_after_the_grace_time("fails-install-silently", "wrong_version");
    let (_, log) = all_end_as(&devices("fails-install-silently"), "wrong_version");
    assert!(log.details[0].contains("runs version \"V1.0\""));
}

#[test]
fn no_report_after_an_installation_is_asked_for_as_well() {
    asked_after_the_grace_time("never-reports-result", "upgraded");
}

#[test]
fn a_device_back_with_nothing_but_its_own_data_is_asked_for_its_version() {
    let (_, log) = all_end_as(&devices("only-service-data"), "upgraded");
    let grace_ms = ms(|upgrade| upgrade.result_grace_s);
    for device in 0..DEVICES {
        assert_eq!(
            log.registrations(device).len(),
            1,
            "it kept its registration"
        );
        assert_eq!(log.up(device, 24).len(), 0);
        let [data] = log.service_data(device)[..] else {
            panic!("{:#?}", log.service_data(device));
        };
        // it gives no sign of its restart, so that it is asked once more when it had time for one
        let [_, asked, again] = log.down(device, 19)[..] else {
            panic!("{:#?}", log.down(device, 19));
        };
        let grace = asked.at_ms - data.at_ms;
        assert!((grace_ms..grace_ms + 15_000).contains(&grace), "{grace}");
        let pause = again.at_ms - asked.at_ms;
        let pause_ms = 5 * ms(|upgrade| upgrade.repeat_question_s);
        assert!((pause_ms..pause_ms + 15_000).contains(&pause), "{pause}");
    }
}

#[test]
fn a_restart_without_an_answer_to_the_command_is_no_failure() {
    let (_, log) = all_end_as(&devices("never-answers-execute"), "upgraded");
    for device in 0..DEVICES {
        assert_eq!(log.up(device, 23).len(), 0);
        assert_eq!(log.down(device, 23).len(), 1, "nor is it commanded again");
        assert_eq!(log.up(device, 24)[0].result(), Some(0));
    }
}

#[test]
fn a_report_long_after_the_outcome_is_answered_that_there_is_no_such_task() {
    let (_, log) = all_end_as(&devices("late-report"), "upgraded");
    for device in 0..DEVICES {
        let report = log.up(device, 24)[0];
        let [answer] = log.down(device, 24)[..] else {
            panic!("{:#?}", log.down(device, 24));
        };
        // the result byte alone, which every known device reads
        assert_eq!(answer.frame[6..], [0, 1, 0x80]);
        // its version had been asked for long before
        assert!(log.down(device, 19)[1].at_ms < report.at_ms);
    }
}

#[test]
fn a_report_after_the_limit_comes_unasked_and_its_version_is_recorded() {
    let mut config = Config::default();
    config.upgrade.execute_s = 60;
    let scenario = Scenario {
        config: Arc::new(config),
        ..ordinary("[timing]\ninstall_ms = 200000")
    };
    let (summary, log) = all_end_as(&scenario, "execution_timed_out");
    assert_eq!(summary.ends.finished_unheard, DEVICES as usize);
    let recorded = log.versions.iter().filter(|version| *version == "V2.0");
    assert_eq!(recorded.count(), DEVICES as usize);
    for device in 0..DEVICES {
        assert_eq!(log.down(device, 24)[0].result(), Some(0x80));
    }
}
