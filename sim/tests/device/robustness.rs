//! What must hold whatever a server sends.

use pcp::{PlatformMessage, ResultCode, Version};
use proptest::{collection::vec, prelude::*};
use sim::{Device, Fault};

use super::bench::{Bench, spec};

#[derive(Debug, Clone)]
enum Event {
    Datagram(Vec<u8>),
    Write(PlatformMessage<'static>),
    Pass(u64),
    Observe,
}

fn write() -> impl Strategy<Value = PlatformMessage<'static>> {
    use PlatformMessage as M;
    let result = || prop_oneof![Just(0), any::<u8>()].prop_map(ResultCode);
    prop_oneof![
        Just(M::VersionQuery),
        (0..3_u8, 0..=4_u16, 0..=4_u16, 0..2_u16).prop_map(
            |(version, segment_size, segment_count, check_code)| M::NewVersion {
                version: Version::from_bytes([b'1' + version; 16]),
                segment_size,
                segment_count,
                check_code,
            }
        ),
        (0..5_u16, 1..=4_usize).prop_map(|(segment, len)| M::SegmentResponse {
            result: ResultCode::SUCCESS,
            segment: Some(segment),
            data: &[1, 2, 3, 4][..len],
        }),
        Just(M::SegmentResponse {
            result: ResultCode::NO_SUCH_TASK,
            segment: None,
            data: &[],
        }),
        result().prop_map(|result| M::DownloadReportResponse { result }),
        Just(M::Execute),
        result().prop_map(|result| M::UpgradeReportResponse { result }),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        1 => vec(any::<u8>(), 0..40).prop_map(Event::Datagram),
        6 => write().prop_map(Event::Write),
        3 => (0..100_000_u64).prop_map(Event::Pass),
        1 => Just(Event::Observe),
    ]
}

fn fault() -> impl Strategy<Value = Option<Fault>> {
    let faults: Vec<_> = Fault::catalogue().map(|(fault, _)| Some(fault)).collect();
    proptest::sample::select([vec![None], faults].concat())
}

proptest! {
    #[test]
    fn a_device_survives_every_server(
        fault in fault(),
        serves: bool,
        events in vec(event(), 0..60),
    ) {
        let mut spec = spec();
        spec.fault = fault;
        spec.behaviour.lifetime_s = 60;
        spec.timing.max_retransmit = u8::MAX;
        let mut bench = Bench::registered(spec);
        bench.serves = serves;
        for event in events {
            match event {
                Event::Datagram(datagram) => bench.receive(&datagram),
                Event::Write(message) => bench.write(message),
                Event::Pass(ms) => bench.pass(ms),
                Event::Observe => bench.observe_again(),
            }
            let report = bench.device.report();
            prop_assert!(report.image.is_none_or(|image| image.segments <= image.segment_count));
        }
        let due = bench.device.poll_timeout();
        prop_assert!(due.is_some_and(|at_ms| at_ms >= bench.now_ms), "a device is never stuck");
    }
}

#[test]
fn a_hundred_thousand_devices_fit_into_memory() {
    let bytes = size_of::<Device>();
    assert!(bytes <= 1024, "{bytes} bytes each");
}
