//! Fleets over real sockets, against a server that is just good enough.

#![allow(clippy::unwrap_used)] // helpers of tests are tests, too

mod dtls;
mod server;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use pcp::Version;
use sim::{
    Character, Fault, Image, Timing, UpdatesBy,
    device::Outcome,
    fleet::{Fleet, FleetConfig, FleetEventKind},
};
use tokio::{net::UdpSocket, time::timeout};

use server::{PACKAGE, Server};

const PATIENCE: Duration = Duration::from_secs(30);

fn config(devices: usize) -> FleetConfig {
    let mut config = FleetConfig::new(devices, Version::new("V1").unwrap());
    config.timing = Timing {
        ack_timeout_ms: 5_000,
        repeat_after_ms: 5_000,
        ..Timing::default().faster(1_000)
    };
    config
}

#[tokio::test]
async fn a_fleet_is_upgraded_and_summed_up() {
    let server = Server::start().await;
    let mut config = config(40);
    config.faults = vec![
        "refuse-notification=0x04=3".parse().unwrap(),
        "reboots-in-download=2".parse().unwrap(),
    ];
    let ended = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&ended);
    let fleet = Fleet::run(&config, server, move |event| {
        if let FleetEventKind::Ended(outcome) = event.kind {
            assert!(event.endpoint.starts_with("sim-"));
            assert!(matches!(outcome, Outcome::Upgraded | Outcome::Refused(_)));
            count.fetch_add(1, Ordering::Relaxed);
        }
    })
    .await
    .unwrap();
    timeout(PATIENCE, fleet.until_settled()).await.unwrap();
    assert_eq!(ended.load(Ordering::Relaxed), 40);

    let restarts: u64 = fleet
        .reports()
        .iter()
        .map(|(_, report)| report.counters.restarts)
        .sum();
    assert_eq!(restarts, 37 + 2);
    let summary = fleet.stop().await;
    let stats = summary.stats;
    assert_eq!((stats.done, stats.failed, stats.settled), (37, 3, 40));
    assert_eq!(stats.registered, 40);
    assert_eq!(stats.segments_received, 37 * 3);
    let refusing = summary
        .faults
        .iter()
        .find(|group| group.fault.as_deref() == Some("refuse-notification=0x04"))
        .unwrap();
    assert_eq!((refusing.devices, refusing.failed), (3, 3));
    assert_eq!(refusing.expected_to_succeed, 0);
}

/// Devices with object 5, of all characters that pull.
fn expects_the_package(config: &mut FleetConfig) {
    config.updates_by = UpdatesBy::Firmware;
    config.characters = vec![
        Character::Leshan,
        Character::Anjay,
        Character::Zephyr,
        Character::Nrf,
    ];
    config.images = vec![Image::new(Version::new("V2").unwrap(), PACKAGE)];
}

#[tokio::test]
async fn a_fleet_pulls_its_package_through_sockets_of_its_own() {
    let server = Server::start_with_object().await;
    let mut config = config(40);
    expects_the_package(&mut config);
    config.faults = vec![
        "refuses-uri=3".parse().unwrap(),
        "reports-result=0x05=2".parse().unwrap(),
    ];
    let fleet = Fleet::run(&config, server, |_| {}).await.unwrap();
    timeout(PATIENCE, fleet.until_settled()).await.unwrap();
    let check_code = pcp::checksum(PACKAGE);
    for (endpoint, report) in fleet.reports() {
        if report.outcome == Some(Outcome::Upgraded) {
            let image = report.image.unwrap();
            assert_eq!((image.len_bytes, image.check_code), (1_200, check_code));
        } else {
            assert_eq!(report.image, None, "{endpoint}");
        }
    }
    let stats = fleet.stop().await.stats;
    assert_eq!((stats.done, stats.failed, stats.settled), (35, 5, 40));
    assert_eq!(stats.socket_errors, 0);
}

#[tokio::test]
async fn the_specs_are_known_before_the_start() {
    let server = Server::start().await;
    let specs = Fleet::specs(&config(3)).unwrap();
    let endpoints: Vec<_> = specs.iter().map(|spec| spec.endpoint.clone()).collect();
    assert_eq!(endpoints, ["sim-000000", "sim-000001", "sim-000002"]);
    assert_eq!(specs[0].fault, None::<Fault>);
    let fleet = Fleet::start(specs, server).await.unwrap();
    timeout(PATIENCE, fleet.until_settled()).await.unwrap();
    assert_eq!(fleet.stop().await.stats.done, 3);
}

#[tokio::test]
async fn a_fleet_without_a_server_keeps_trying_and_can_be_stopped() {
    let nobody = {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.local_addr().unwrap()
    };
    let mut config = config(5);
    config.timing.ack_timeout_ms = 20;
    let fleet = Fleet::run(&config, nobody, |_| {}).await.unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let stats = timeout(PATIENCE, fleet.stop()).await.unwrap().stats;
    assert_eq!((stats.registered, stats.done), (0, 0));
    assert!(stats.retransmissions > 0, "{stats:?}");
    assert!(stats.socket_errors > 0, "{stats:?}");
}
