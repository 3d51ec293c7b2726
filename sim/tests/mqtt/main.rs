//! Fleets of MQTT devices over real sockets, against a server that is just good enough.

#![allow(clippy::unwrap_used)] // helpers of tests are tests, too

mod server;

use std::{collections::BTreeMap, time::Duration};

use sim::{
    Expected,
    mqtt::{
        Ending, Fault, Fleet, Style, Timing,
        fleet::{Authorities, FleetConfig, Target},
    },
};
use tokio::time::timeout;

use server::{PACKAGE_SIZE, Server};

const PATIENCE: Duration = Duration::from_mins(1);

/// What the server of these tests speaks.
const STYLES: [Style; 4] = [
    Style::Iotda,
    Style::IotdaV2,
    Style::ThingsPanel05,
    Style::ThingsPanel1,
];

fn config(devices: usize, styles: &[Style]) -> FleetConfig {
    let mut config = FleetConfig::new(devices, styles.to_vec(), "V1");
    config.timing = Timing::default().faster(100);
    config.target = Some("V2".to_owned());
    config.seed = 7;
    config
}

async fn run(config: &FleetConfig, target: Target) -> BTreeMap<String, Option<Ending>> {
    let fleet = Fleet::start(config.specs().unwrap(), target).unwrap();
    let settled = timeout(PATIENCE, fleet.until_settled()).await;
    assert!(
        settled.is_ok(),
        "{}: {:?}",
        fleet.stats(),
        fleet.last_error()
    );
    let reports = fleet.reports();
    fleet.stop().await;
    let endings = reports.into_iter();
    endings
        .map(|(name, report)| (name, report.ending))
        .collect()
}

#[tokio::test]
async fn every_style_and_kit_is_upgraded() {
    let server = Server::plain().await;
    let mut config = config(24, &STYLES);
    config.restarts = true;
    let endings = run(&config, server.target()).await;
    assert_eq!(endings.len(), 24);
    for (name, ending) in endings {
        assert_eq!(ending, Some(Ending::Upgraded), "{name}");
    }
    assert_eq!(server.bytes_served(), 24 * PACKAGE_SIZE);
    let requests = server.requests();
    let by_hand =
        |request: &&String| request.starts_with("GET /p HTTP/1.1\nHost: 127.0.0.1\nContent-Type");
    // of twelve IoTDA devices a third is built on the C kit
    assert_eq!(requests.iter().filter(by_hand).count(), 4);
    let bare = |request: &&String| request.contains("\nAuthorization:Bearer token\r\n\r\n");
    let usual = |request: &&String| {
        request
            .to_lowercase()
            .contains("authorization: bearer token\r\n")
    };
    // those of the first generation have a token
    assert_eq!(requests.iter().filter(bare).count(), 2);
    assert_eq!(requests.iter().filter(usual).count(), 4);
}

#[tokio::test]
async fn over_tls_only_the_authority_that_was_given_is_accepted() {
    let server = Server::secured().await;
    let config = config(8, &STYLES);
    let endings = run(&config, server.target()).await;
    assert!(endings.values().all(|it| *it == Some(Ending::Upgraded)));

    let stranger = Target::secured("127.0.0.1", server.port(), Authorities::none().unwrap());
    let fleet = Fleet::start(config.specs().unwrap(), stranger).unwrap();
    let refused = async {
        while fleet.stats().socket_errors < 8 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, refused).await.unwrap();
    let error = fleet.last_error().unwrap();
    assert!(error.contains("UnknownIssuer"), "{error}");
    assert_eq!(fleet.stop().await.stats.connections, 0);
}

#[tokio::test]
async fn faults_end_as_they_should() {
    let server = Server::plain().await;
    let mut config = config(64, &STYLES);
    config.faults = [
        "refuses@3=4",
        "corrupt-download=8",
        "broken-download=4",
        "cut-download=4",
        "drops-in-download=4",
        "blocked-download=4",
        "old-version-after-success=3",
        "claims-without-download=4",
        "loses-report=3",
        "progress-burst=4",
        "reconnect-storm=4",
        "shares-client-id=4",
        "old-version-first@3=1",
        "already-current=2",
        "wrong-secret=4",
    ]
    .map(|text| text.parse().unwrap())
    .to_vec();
    let specs = config.specs().unwrap();
    let endings = run(&config, server.target()).await;
    for spec in specs {
        let Some(fault) = spec.fault else {
            assert_eq!(endings[&spec.device], Some(Ending::Upgraded));
            continue;
        };
        let ending = endings[&spec.device];
        let told = format!("{} ({}, {}): {fault}", spec.device, spec.style, spec.client);
        match fault {
            Fault::WrongSecret | Fault::AlreadyCurrent => assert_eq!(ending, None, "{told}"),
            Fault::OldVersionAfterSuccess | Fault::ClaimsWithoutDownload => {
                assert_eq!(ending, Some(Ending::Claimed), "{told}");
            }
            // what the server takes otherwise
            Fault::LosesReport | Fault::ReconnectStorm => {
                assert_eq!(ending, Some(Ending::Upgraded), "{told}");
            }
            _ => {
                let upgraded = ending == Some(Ending::Upgraded);
                assert_eq!(upgraded, spec.expected() == Expected::Succeeded, "{told}");
            }
        }
    }
    let ranges: Vec<_> = server
        .requests()
        .into_iter()
        .filter(|request| request.to_lowercase().contains("\nrange: bytes="))
        .collect();
    // each of those whose download is cut or broken goes on where it was, some of them more than once
    assert!((8..=16).contains(&ranges.len()), "{ranges:#?}");
}
