//! Queue mode: a device that listens only for a while.

use pcp::PlatformMessage;
use sim::{
    coap::{Code, option},
    device::DeviceState,
    spec::QueueMode,
};

use super::bench::{Bench, reply, spec};

fn sleepy() -> Bench {
    let mut spec = spec();
    spec.behaviour.queue_mode = Some(QueueMode {
        awake_ms: 10_000,
        sleep_ms: 300_000,
    });
    Bench::registered(spec)
}

#[test]
fn says_that_it_sleeps() {
    let mut spec = spec();
    spec.behaviour.queue_mode = Some(QueueMode {
        awake_ms: 10_000,
        sleep_ms: 300_000,
    });
    let mut bench = Bench::new(spec);
    bench.serves = false;
    bench.start();
    let register = bench.sent.pop_front().unwrap();
    assert!(
        register
            .values(option::URI_QUERY)
            .contains(&"b=UQ".to_owned())
    );
}

#[test]
fn hears_nothing_while_asleep_and_updates_when_it_wakes() {
    let mut bench = sleepy();
    bench.pass(10_000);
    assert_eq!(bench.device.report().state, DeviceState::Asleep);
    bench.write(PlatformMessage::VersionQuery);
    assert!(bench.said().is_empty());
    assert_eq!(bench.device.report().counters.datagrams_missed, 1);

    bench.serves = false;
    bench.pass(300_000);
    let update = bench.sent.pop_back().unwrap();
    assert_eq!(update.values(option::URI_PATH), ["rd", "1"]);
    bench.serves = true;
    bench.receive(&reply(&update.message(), Code::CHANGED).finish());
    bench.write(PlatformMessage::VersionQuery);
    assert_eq!(bench.said(), ["19 00 V1"]);
}

#[test]
fn stays_awake_while_it_is_spoken_to() {
    let mut bench = sleepy();
    for _ in 0..5 {
        bench.pass(8_000);
        bench.get(&["4", "0", "8"]);
    }
    assert_eq!(bench.device.report().counters.datagrams_missed, 0);
}
