//! Every fault, against a patient server that knows its way around them.

use pcp::{DeviceMessage, PlatformMessage, ResultCode};
use sim::{Expected, Fault, UpdatesBy, coap::Code, device::Outcome};

use super::bench::{Bench, SEGMENT_SIZE, brief, package, segment, segment_count, spec, version};

const OK: ResultCode = ResultCode::SUCCESS;

/// How far the patient server has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Download,
    /// Where the device's signs of life were at the command.
    Install {
        left_at: u8,
    },
}

/// A device that comes back registers, or just sends its data again.
const fn signs_of_life(bench: &Bench) -> u8 {
    bench.registrations + bench.own_data
}

/// A server's side of an upgrade to V2: notifies again when a download goes quiet, asks for the version
/// when a device comes back and says nothing, and gives up after an hour. It believes no claim of a device that
/// has asked for segments until that has come back from its installation.
fn upgrade(bench: &mut Bench) -> Expected {
    const QUIET_MS: u64 = 120_000;
    if bench.get(&["4", "0"]).message().code != Code::CONTENT {
        return Expected::Failed;
    }
    bench.write(PlatformMessage::VersionQuery);
    let mut stage = Stage::Download;
    let mut asked_for_segments = false;
    let deadline_ms = bench.now_ms + 3_600_000;
    let mut heard_ms = bench.now_ms;
    while bench.now_ms < deadline_ms {
        let is_back = match stage {
            Stage::Download => !asked_for_segments,
            Stage::Install { left_at } => signs_of_life(bench) > left_at,
        };
        let Some(frame) = bench.take_frame() else {
            bench.pass(1_000);
            if bench.frames.is_empty() && bench.now_ms - heard_ms > QUIET_MS {
                heard_ms = bench.now_ms;
                match stage {
                    Stage::Download => bench.notify_version(),
                    Stage::Install { .. } if is_back => bench.write(PlatformMessage::VersionQuery),
                    Stage::Install { .. } => {}
                }
            }
            continue;
        };
        heard_ms = bench.now_ms;
        match (DeviceMessage::decode(&frame).unwrap(), stage) {
            (DeviceMessage::VersionResponse { version: None, .. }, _) => return Expected::Failed,
            (
                DeviceMessage::VersionResponse {
                    version: Some(found),
                    ..
                },
                stage,
            ) => match stage {
                _ if is_back && found == version("V2") => return Expected::Succeeded,
                Stage::Download if bench.device.report().counters.notifications == 0 => {
                    bench.notify_version();
                }
                Stage::Install { .. } if is_back => return Expected::Failed,
                Stage::Download | Stage::Install { .. } => {}
            },
            (DeviceMessage::NotificationResponse { result }, _) if !result.is_success() => {
                return Expected::Failed;
            }
            (
                DeviceMessage::SegmentRequest {
                    segment,
                    version: v,
                },
                _,
            ) => {
                assert_eq!(v, version("V2"));
                asked_for_segments = true;
                bench.answer_segment(segment);
            }
            (DeviceMessage::DownloadReport { status }, _) => {
                bench.write(PlatformMessage::DownloadReportResponse { result: OK });
                if !status.is_success() {
                    return Expected::Failed;
                }
                if stage == Stage::Download {
                    stage = Stage::Install {
                        left_at: signs_of_life(bench),
                    };
                    bench.write(PlatformMessage::Execute);
                }
            }
            (DeviceMessage::ExecuteResponse { result }, Stage::Install { .. })
                if !result.is_success() =>
            {
                return Expected::Failed;
            }
            (DeviceMessage::UpgradeReport { result, version: v }, _) => {
                bench.write(PlatformMessage::UpgradeReportResponse { result: OK });
                match (result.is_success(), v == version("V2")) {
                    (true, true) => return Expected::Succeeded,
                    (false, false) => return Expected::Failed,
                    // It fails and claims the target, or reports before its restart: that tells.
                    (false, true) | (true, false) => {}
                }
            }
            _ => {}
        }
    }
    Expected::Failed
}

fn faulty(fault: Fault) -> sim::DeviceSpec {
    let mut spec = spec();
    spec.fault = Some(fault);
    if fault == Fault::AlreadyCurrent {
        spec.version = version("V2");
    }
    spec.timing.outage_ms = 1_200_000;
    spec
}

#[test]
fn every_fault_ends_as_it_says() {
    let with_pcp = |fault: &Fault| fault.fits(UpdatesBy::Pcp) && !fault.needs_psk();
    for (fault, _) in Fault::catalogue().filter(|(fault, _)| with_pcp(fault)) {
        let spec = faulty(fault);
        let expected = spec.expected();
        let mut bench = Bench::registered(spec);
        assert_eq!(upgrade(&mut bench), expected, "{fault}");
        bench.pass(2_000_000);
        let report = bench.device.report();
        let nothing_to_do = matches!(fault, Fault::NoObject4 | Fault::AlreadyCurrent);
        if !nothing_to_do {
            let success = report.outcome.map(Outcome::is_success);
            assert_eq!(success, Some(expected == Expected::Succeeded), "{fault}");
            assert!(report.settled, "{fault}: {report:?}");
        }
        let upgraded = report.version == version("V2");
        assert_eq!(upgraded, expected == Expected::Succeeded, "{fault}");
    }
}

#[test]
fn a_device_without_faults_is_upgraded_by_the_patient_server() {
    assert_eq!(upgrade(&mut Bench::registered(spec())), Expected::Succeeded);
}

#[test]
fn refusals_carry_the_ordered_code() {
    let code = ResultCode(0x42);
    let mut bench = Bench::registered(faulty(Fault::RefuseVersionQuery(code)));
    bench.write(PlatformMessage::VersionQuery);
    assert_eq!(bench.said(), ["19 42"]);

    let mut bench = Bench::registered(faulty(Fault::RefuseNotification(code)));
    bench.notify_version();
    bench.pass(100_000);
    assert_eq!(bench.said(), ["20 42"]);

    let mut bench = Bench::registered(faulty(Fault::WeakSignal));
    bench.notify_version();
    assert_eq!(bench.said(), ["20 02"]);

    let mut bench = Bench::downloading(faulty(Fault::RefuseExecute(code)), segment_count());
    bench.write(PlatformMessage::Execute);
    assert_eq!(bench.said(), ["23 42"]);

    let mut bench = Bench::downloading(faulty(Fault::ReportDownload(code)), segment_count() - 1);
    bench.answer_segment(segment_count() - 1);
    assert_eq!(bench.said(), ["22 42"]);

    let mut bench = Bench::downloading(faulty(Fault::ReportUpgrade(code)), segment_count());
    bench.write(PlatformMessage::Execute);
    bench.pass(70_000);
    assert_eq!(bench.said(), ["23 00", "24 42 V1"]);
}

#[test]
fn stops_for_good_and_stays_registered() {
    let mut bench = Bench::downloading(faulty(Fault::StopsMidDownload(Some(2))), 2);
    bench.notify_version();
    bench.write(PlatformMessage::VersionQuery);
    bench.pass(90_000_000);
    assert!(bench.said().is_empty());
    assert!(bench.device.is_registered());
    assert_eq!(bench.device.outcome(), Some(Outcome::WentSilent));
}

#[test]
fn asks_once_more_and_waits_to_be_notified_again() {
    let fault = Fault::SilentAfterOneRepeat(Some(2));
    let mut bench = Bench::registered(faulty(fault));
    bench.notify_version();
    bench.answer_segment(0);
    bench.answer_segment(1);
    bench.answer_segment(2);
    bench.pass(1_000_000);
    assert_eq!(
        bench.said(),
        ["20 00", "21 V2 #0", "21 V2 #1", "21 V2 #2", "21 V2 #2"]
    );
    bench.notify_version();
    bench.serve_download();
    bench.answer_segment(2);
    assert_eq!(bench.said().pop().unwrap(), "21 V2 #3");
}

#[test]
fn goes_on_after_a_restart_from_another_address() {
    let mut bench = Bench::downloading(faulty(Fault::RebootsInDownload(Some(2))), 2);
    assert!(bench.said().is_empty());
    bench.pass(10_000);
    assert_eq!((bench.address_changes, bench.registrations), (1, 2));
    let (token, _) = bench.frames[0];
    assert_eq!(token.as_slice(), [0xAB, 2], "with the new observation");
    assert_eq!(bench.said(), ["21 V2 #2"]);
}

#[test]
fn starts_over_after_a_restart_only_when_notified() {
    let mut bench = Bench::downloading(faulty(Fault::LosesProgress(Some(2))), 2);
    bench.pass(1_000_000);
    assert_eq!(bench.registrations, 2);
    assert!(bench.said().is_empty());
    bench.notify_version();
    assert_eq!(bench.said(), ["20 00", "21 V2 #0"]);
}

#[test]
fn leaves_unanswered_what_the_fault_says() {
    let mut bench = Bench::registered(faulty(Fault::NeverAnswersNotification));
    bench.notify_version();
    assert_eq!(bench.said(), ["21 V2 #0"]);

    let mut bench = Bench::downloading(faulty(Fault::NeverAnswersExecute), segment_count());
    bench.write(PlatformMessage::Execute);
    bench.pass(70_000);
    assert_eq!(bench.said(), ["24 00 V2"]);
}

#[test]
fn comes_back_without_a_word() {
    for (fault, runs) in [
        (Fault::NeverReportsResult, "V2"),
        (Fault::FailsInstallSilently, "V1"),
    ] {
        let mut bench = Bench::downloading(faulty(fault), segment_count());
        bench.write(PlatformMessage::Execute);
        bench.pass(1_000_000);
        assert_eq!(bench.said(), ["23 00"]);
        assert!(!bench.device.is_settled(), "the server has yet to ask");
        bench.write(PlatformMessage::VersionQuery);
        assert_eq!(bench.said(), [format!("19 00 {runs}")]);
        assert!(bench.device.is_settled());
    }
}

#[test]
fn everything_comes_twice() {
    let mut bench = Bench::registered(faulty(Fault::RepeatsEverything));
    bench.write(Bench::new_version(0));
    bench.pass(0);
    assert_eq!(bench.said(), ["20 00"; 4], "two answers, each sent twice");
    bench.pass(2_000);
    assert_eq!(bench.said(), ["21 V2 #0"; 2]);
}

#[test]
fn answers_a_command_that_nobody_sent() {
    let mut bench = Bench::registered(faulty(Fault::ExecuteTimeoutNoise(Some(0))));
    bench.notify_version();
    assert_eq!(bench.said(), ["20 00", "21 V2 #0", "23 06", "21 V2 #0"]);
}

#[test]
fn reports_long_after_the_upgrade() {
    let mut bench = Bench::downloading(faulty(Fault::LateReport), segment_count());
    bench.write(PlatformMessage::Execute);
    bench.pass(600_000);
    assert_eq!(bench.said(), ["23 00"]);
    assert_eq!(bench.device.version(), version("V2"));
    bench.pass(70_000);
    assert_eq!(bench.said(), ["24 00 V2"]);
}

#[test]
fn keeps_its_first_token() {
    let mut bench = Bench::downloading(faulty(Fault::OldToken), segment_count());
    bench.write(PlatformMessage::Execute);
    bench.pass(70_000);
    assert_eq!(bench.registrations, 2);
    let (token, _) = *bench.frames.back().as_ref().unwrap();
    assert_eq!(token.as_slice(), [0xAB, 1]);
    assert_eq!(bench.said().pop().unwrap(), "24 00 V2");
}

#[test]
fn a_padded_tail_satisfies_a_device_of_full_segments() {
    let last = segment_count() - 1;
    let mut bench = Bench::downloading(faulty(Fault::FullSegments), last);
    let mut data = segment(last);
    data.resize(usize::from(SEGMENT_SIZE), 0xFF);
    bench.write(PlatformMessage::SegmentResponse {
        result: OK,
        segment: Some(last),
        data: &data,
    });
    assert_eq!(bench.said(), ["22 00"]);
}

#[test]
fn a_small_buffer_misreads_what_the_copied_library_misreads() {
    for size in [253, 509, 510] {
        let mut bench = Bench::registered(faulty(Fault::SmallBuffer));
        bench.write(PlatformMessage::NewVersion {
            version: version("V2"),
            segment_size: size,
            segment_count: 2,
            check_code: 0,
        });
        bench.pass(2_000);
        bench.write(PlatformMessage::SegmentResponse {
            result: OK,
            segment: Some(0),
            data: &package().repeat(3)[..usize::from(size)],
        });
        bench.pass(100_000);
        let said = bench.said();
        assert_eq!(said[1], "21 V2 #0");
        assert_eq!(said[5], "22 06", "{size}: {said:?}");
    }
}

/// Has a device install what it holds.
fn executed(fault: Fault) -> Bench {
    let mut bench = Bench::downloading(faulty(fault), segment_count());
    bench.write(PlatformMessage::Execute);
    bench
}

/// What a device says when it is asked for its version.
fn asked(bench: &mut Bench) -> Vec<String> {
    bench.write(PlatformMessage::VersionQuery);
    bench.said()
}

fn answer_report(bench: &mut Bench) {
    bench.write(PlatformMessage::UpgradeReportResponse { result: OK });
}

#[test]
fn claims_the_target_from_its_notification_until_it_restarts() {
    let mut bench = Bench::registered(faulty(Fault::ClaimsTarget));
    assert_eq!(asked(&mut bench), ["19 00 V1"]);
    bench.notify_version();
    bench.answer_segment(0);
    bench.frames.clear();
    assert_eq!(asked(&mut bench), ["19 00 V2"]);
    assert!(bench.device.lose_power(bench.now_ms, 1_000));
    bench.pass(1_000);
    assert_eq!(bench.said(), ["21 V2 #1"], "it goes on");
    assert_eq!(asked(&mut bench), ["19 00 V1"]);
    bench.notify_version();
    bench.frames.clear();
    assert_eq!(asked(&mut bench), ["19 00 V2"]);
}

#[test]
fn claims_the_target_after_a_failure_and_stays_up() {
    let mut bench = executed(Fault::ClaimsTargetFails(ResultCode(0x09)));
    bench.pass(2_000);
    assert_eq!(bench.said(), ["23 00", "24 09 V2"]);
    bench.pass(1_000_000);
    assert_eq!(bench.said().len(), 50, "it says so until somebody listens");
    answer_report(&mut bench);
    assert_eq!(asked(&mut bench), ["19 00 V2"]);
    assert_eq!(bench.registrations, 1);
    assert_eq!(bench.device.version(), version("V1"));
}

#[test]
fn tells_the_truth_after_the_restart_that_follows_a_failure() {
    for (fault, runs) in [
        (Fault::ClaimsTargetRestartsOld, "V1"),
        (Fault::ClaimsTargetLateSuccess, "V2"),
    ] {
        let mut bench = executed(fault);
        bench.pass(2_000);
        assert_eq!(bench.said(), ["23 00", "24 0A V2"]);
        assert_eq!(asked(&mut bench), ["19 00 V2"]);
        answer_report(&mut bench);
        bench.pass(62_000);
        assert_eq!(bench.registrations, 2);
        assert!(bench.said().is_empty(), "it has said all");
        assert_eq!(asked(&mut bench), [format!("19 00 {runs}")]);
        assert_eq!(bench.device.version(), version(runs));
    }
}

#[test]
fn restarts_when_nobody_answers_its_report() {
    for fault in [
        Fault::ClaimsTargetRestartsOld,
        Fault::ClaimsTargetLateSuccess,
        Fault::ReportsBeforeRestart,
    ] {
        let mut bench = executed(fault);
        bench.pass(300_000);
        assert_eq!(bench.registrations, 2, "{fault}");
    }
}

#[test]
fn claims_the_target_after_an_outage_in_its_download() {
    let mut bench = Bench::downloading(faulty(Fault::ClaimsCurrentMidDownload(Some(2))), 2);
    bench.pass(600_000);
    bench.notify_version();
    assert!(bench.said().is_empty(), "there is no network");
    bench.pass(620_000);
    assert_eq!(asked(&mut bench), ["19 00 V2"]);
    assert_eq!(bench.registrations, 1);
    bench.notify_version();
    assert_eq!(bench.said(), ["20 00", "21 V2 #2"]);
}

#[test]
fn a_registration_that_it_was_not_told_to_make_ends_a_claim() {
    let mut bench = Bench::downloading(faulty(Fault::ClaimsTarget), 1);
    bench.serves = false;
    // the update at half the lifetime is not answered
    bench.pass(43_200_000 + 200_000);
    bench.serves = true;
    bench.pass(200_000);
    assert_eq!(bench.registrations, 2);
    bench.frames.clear();
    assert_eq!(asked(&mut bench), ["19 00 V1"]);
}

#[test]
fn reports_before_the_restart_that_it_reports() {
    for (seed, said) in [(1, vec!["24 00 V2"]), (2, vec![])] {
        let mut spec = faulty(Fault::ReportsBeforeRestart);
        spec.seed = seed;
        let mut bench = Bench::downloading(spec, segment_count());
        bench.write(PlatformMessage::Execute);
        bench.pass(2_000);
        assert_eq!(bench.said(), ["23 00", "24 00 V1"]);
        answer_report(&mut bench);
        bench.pass(62_000);
        assert_eq!(bench.registrations, 2);
        assert_eq!(bench.said(), said);
        assert_eq!(asked(&mut bench), ["19 00 V2"]);
    }
}

#[test]
fn writes_versions_with_what_does_not_belong_to_them() {
    let mut seen = Vec::new();
    for seed in 0..4 {
        let mut spec = faulty(Fault::DirtyVersion);
        spec.seed = seed;
        let mut bench = Bench::registered(spec);
        bench.write(PlatformMessage::VersionQuery);
        let frame = bench.take_frame().unwrap();
        let found = DeviceMessage::decode(&frame).unwrap();
        assert_eq!(brief(&found), "19 00 V1", "what it means");
        let written = frame[frame.len() - 16..].to_vec();
        assert_ne!(written, version("V1").as_bytes());
        assert!(!seen.contains(&written));
        seen.push(written);
    }
}

#[test]
fn is_deaf_to_its_download_and_still_tells_its_version() {
    let mut bench = Bench::downloading(faulty(Fault::DeafDownload(Some(2))), 2);
    bench.notify_version();
    bench.pass(1_000_000);
    assert!(bench.said().is_empty());
    assert!(bench.device.is_registered());
    assert_eq!(asked(&mut bench), ["19 00 V1"]);
    assert!(bench.device.lose_power(bench.now_ms, 1_000));
    bench.pass(10_000);
    bench.frames.clear();
    bench.notify_version();
    bench.pass(1_000_000);
    assert!(bench.said().is_empty(), "not even after a restart");
}
