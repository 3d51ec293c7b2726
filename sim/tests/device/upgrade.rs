//! The upgrade client, step by step.

use pcp::{PlatformMessage, ResultCode, checksum};
use sim::{
    coap::Code,
    device::{DeviceState, Outcome},
};

use super::bench::{Bench, package, reply, segment, segment_count, spec, version};

const OK: ResultCode = ResultCode::SUCCESS;

#[test]
fn upgrades_from_the_query_to_the_report() {
    let mut spec = spec();
    spec.behaviour.keep_image = true;
    let mut bench = Bench::registered(spec);

    bench.write(PlatformMessage::VersionQuery);
    assert_eq!(bench.said(), ["19 00 V1"]);
    bench.write(Bench::new_version(checksum(&package())));
    assert_eq!(bench.said(), ["20 00"]);
    bench.pass(2_000);
    assert_eq!(bench.said(), ["21 V2 #0"]);
    for number in 0..segment_count() - 1 {
        bench.answer_segment(number);
        assert_eq!(bench.said(), [format!("21 V2 #{}", number + 1)]);
    }
    bench.answer_segment(segment_count() - 1);
    assert_eq!(bench.said(), ["22 00"]);
    assert_eq!(bench.device.report().state, DeviceState::Downloaded);
    assert_eq!(bench.device.image(), Some(&*package()));

    bench.write(PlatformMessage::DownloadReportResponse { result: OK });
    bench.write(PlatformMessage::Execute);
    assert_eq!(bench.said(), ["23 00"]);
    bench.pass(1_000);
    assert_eq!(bench.device.report().state, DeviceState::Off);
    assert_eq!(bench.device.version(), version("V1"));
    assert_eq!((bench.registrations, bench.address_changes), (1, 0));
    bench.pass(60_000);
    assert_eq!((bench.registrations, bench.address_changes), (2, 1));
    assert_eq!(bench.said(), ["24 00 V2"]);
    assert!(!bench.device.is_settled());
    bench.write(PlatformMessage::UpgradeReportResponse { result: OK });
    bench.pass(1_000_000);
    assert!(bench.said().is_empty());

    let report = bench.device.report();
    assert_eq!(report.version, version("V2"));
    assert_eq!(report.outcome, Some(Outcome::Upgraded));
    assert!(report.settled);
    let image = report.image.unwrap();
    assert_eq!(image.len_bytes, 250);
    assert_eq!(image.check_code, checksum(&package()));
    assert_eq!(report.counters.segments_requested, 7);
}

#[test]
fn repeats_what_goes_unanswered_and_then_falls_silent() {
    let mut bench = Bench::registered(spec());
    bench.write(PlatformMessage::VersionQuery);
    bench.pass(1_000_000);
    assert_eq!(bench.said(), ["19 00 V1"; 4]);

    bench.write(Bench::new_version(0));
    bench.pass(1_000_000);
    assert_eq!(
        bench.said(),
        ["20 00", "21 V2 #0", "21 V2 #0", "21 V2 #0", "21 V2 #0"]
    );
}

#[test]
fn goes_on_where_it_was_when_notified_again() {
    let mut bench = Bench::downloading(spec(), 3);
    bench.pass(1_000_000);
    bench.said();
    bench.notify_version();
    assert_eq!(bench.said(), ["20 00", "21 V2 #3"]);
}

#[test]
fn starts_over_when_another_package_is_notified() {
    let mut bench = Bench::downloading(spec(), 3);
    bench.write(Bench::new_version(0x7777));
    bench.pass(2_000);
    assert_eq!(bench.said(), ["20 00", "21 V2 #0"]);
}

#[test]
fn reports_again_when_notified_of_what_it_holds() {
    let mut bench = Bench::downloading(spec(), segment_count());
    bench.pass(1_000_000);
    assert_eq!(bench.said(), ["22 00"; 3], "the first one is gone already");
    bench.notify_version();
    assert_eq!(bench.said(), ["20 00", "22 00"]);
}

#[test]
fn takes_only_the_segment_that_it_asked_for() {
    let mut bench = Bench::downloading(spec(), 2);
    let wrong = [
        (1, segment(1)),
        (3, segment(3)),
        (2, segment(2)[1..].to_vec()),
    ];
    for (number, data) in &wrong {
        bench.write(PlatformMessage::SegmentResponse {
            result: OK,
            segment: Some(*number),
            data,
        });
    }
    bench.pass(1_000);
    assert!(bench.said().is_empty());
    assert_eq!(bench.device.report().counters.segments_ignored, 3);
    bench.answer_segment(2);
    assert_eq!(bench.said(), ["21 V2 #3"]);
}

#[test]
fn stops_when_the_server_knows_no_such_upgrade() {
    let mut bench = Bench::downloading(spec(), 2);
    bench.write(PlatformMessage::SegmentResponse {
        result: ResultCode::NO_SUCH_TASK,
        segment: None,
        data: &[],
    });
    bench.pass(1_000_000);
    assert!(bench.said().is_empty());
    let abandoned = Outcome::Abandoned(ResultCode::NO_SUCH_TASK);
    assert_eq!(bench.device.outcome(), Some(abandoned));
}

#[test]
fn a_package_that_differs_from_its_check_code_is_reported() {
    let mut bench = Bench::registered(spec());
    bench.write(Bench::new_version(checksum(&package()) ^ 1));
    bench.pass(2_000);
    bench.said();
    for number in 0..segment_count() {
        bench.answer_segment(number);
    }
    assert_eq!(bench.said().pop().unwrap(), "22 07");
    assert_eq!(
        bench.device.outcome(),
        Some(Outcome::DownloadFailed(ResultCode::CHECK_FAILED))
    );
}

#[test]
fn a_check_code_of_0_is_none() {
    let mut bench = Bench::registered(spec());
    bench.write(Bench::new_version(0));
    bench.pass(2_000);
    for number in 0..segment_count() {
        bench.answer_segment(number);
    }
    assert_eq!(bench.said().pop().unwrap(), "22 00");
}

#[test]
fn refuses_the_version_that_it_runs() {
    let mut bench = Bench::registered(spec());
    bench.write(PlatformMessage::NewVersion {
        version: version("V1"),
        segment_size: 40,
        segment_count: 7,
        check_code: 0,
    });
    bench.pass(100_000);
    assert_eq!(bench.said(), ["20 03"]);
}

#[test]
fn a_command_without_a_package_is_an_error() {
    let mut bench = Bench::registered(spec());
    bench.write(PlatformMessage::Execute);
    assert_eq!(bench.said(), ["23 7F"]);
}

#[test]
fn a_repeated_command_is_answered_and_changes_nothing() {
    let mut bench = Bench::downloading(spec(), segment_count());
    bench.write(PlatformMessage::Execute);
    bench.write(PlatformMessage::Execute);
    assert_eq!(bench.said(), ["23 00", "23 00"]);
    bench.pass(70_000);
    assert_eq!(bench.address_changes, 1);
    assert_eq!(bench.said(), ["24 00 V2"]);
    bench.write(PlatformMessage::Execute);
    assert_eq!(bench.said(), ["23 00"], "late, after the restart");
    bench.pass(500_000);
    assert_eq!(bench.address_changes, 1);
}

#[test]
fn asks_on_when_a_server_that_forgot_it_observes_it_anew() {
    let mut spec = spec();
    spec.behaviour.lifetime_s = 10;
    let mut bench = Bench::downloading(spec, 2);
    bench.serves = false;
    bench.pass(5_000);
    let update = bench.sent.pop_back().unwrap();
    bench.receive(&reply(&update.message(), Code::NOT_FOUND).finish());
    let register = bench.sent.pop_back().unwrap();
    bench.serves = true;
    bench.receive(&reply(&register.message(), Code::CREATED).finish());
    assert!(bench.said().is_empty(), "nobody observes it yet");
    bench.observe_again();
    assert_eq!(bench.said(), ["21 V2 #2"]);
}
