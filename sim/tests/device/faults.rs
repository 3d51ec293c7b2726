//! Every fault, against a patient server that knows its way around them.

use pcp::{DeviceMessage, PlatformMessage, ResultCode};
use sim::{Expected, Fault, coap::Code, device::Outcome};

use super::bench::{Bench, SEGMENT_SIZE, package, segment, segment_count, spec, version};

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
/// when a device comes back and says nothing, and gives up after an hour.
fn upgrade(bench: &mut Bench) -> Expected {
    const QUIET_MS: u64 = 120_000;
    if bench.get(&["4", "0"]).message().code != Code::CONTENT {
        return Expected::Failed;
    }
    bench.write(PlatformMessage::VersionQuery);
    let mut stage = Stage::Download;
    let deadline_ms = bench.now_ms + 3_600_000;
    let mut heard_ms = bench.now_ms;
    while bench.now_ms < deadline_ms {
        let Some(frame) = bench.take_frame() else {
            bench.pass(1_000);
            if bench.frames.is_empty() && bench.now_ms - heard_ms > QUIET_MS {
                heard_ms = bench.now_ms;
                match stage {
                    Stage::Download => bench.notify_version(),
                    Stage::Install { left_at } if signs_of_life(bench) > left_at => {
                        bench.write(PlatformMessage::VersionQuery);
                    }
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
            ) => {
                if found == version("V2") {
                    return Expected::Succeeded;
                }
                match stage {
                    Stage::Download if bench.device.report().counters.notifications == 0 => {
                        bench.notify_version();
                    }
                    Stage::Install { left_at } if signs_of_life(bench) > left_at => {
                        return Expected::Failed;
                    }
                    Stage::Download | Stage::Install { .. } => {}
                }
            }
            (DeviceMessage::NotificationResponse { result }, _) if !result.is_success() => {
                return Expected::Failed;
            }
            (DeviceMessage::SegmentRequest { segment, .. }, _) => bench.answer_segment(segment),
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
                return if result.is_success() && v == version("V2") {
                    Expected::Succeeded
                } else {
                    Expected::Failed
                };
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
    spec
}

#[test]
fn every_fault_ends_as_it_says() {
    for (fault, _) in Fault::catalogue().filter(|(fault, _)| !fault.needs_psk()) {
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
