//! Fleets over real sockets, against a server that is just good enough.

#![allow(clippy::unwrap_used)] // helpers of tests are tests, too

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use pcp::{DeviceMessage, PlatformMessage, ResultCode, Version};
use sim::{
    Fault, Timing,
    coap::{Code, Message, MessageType, Token, Writer, option},
    device::Outcome,
    fleet::{Fleet, FleetConfig, FleetEventKind},
};
use tokio::{net::UdpSocket, time::timeout};

const PATIENCE: Duration = Duration::from_secs(30);

const PACKAGE: &[u8] = &[0x5A; 1200];

const SEGMENT_SIZE: u16 = 500;

/// Offers V2 to whoever it observes, and holds no state: every answer follows from the message.
struct Server {
    socket: UdpSocket,
    next_id: u16,
}

impl Server {
    async fn start() -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut server = Self { socket, next_id: 0 };
            let mut buf = [0; 1500];
            loop {
                let (len, from) = server.socket.recv_from(&mut buf).await.unwrap();
                server.serve(&buf[..len], from).await;
            }
        });
        address
    }

    async fn serve(&mut self, datagram: &[u8], from: SocketAddr) {
        let message = Message::parse(datagram).unwrap();
        match (message.message_type, message.code) {
            (MessageType::Confirmable, Code::POST) => {
                let reply = Writer::new(
                    MessageType::Acknowledgement,
                    Code::CREATED,
                    message.id,
                    message.token,
                )
                .option(option::LOCATION_PATH, b"rd")
                .option(option::LOCATION_PATH, b"1")
                .finish();
                self.send(&reply, from).await;
                let observe = self.request(Code::GET, &["19", "0", "0"], Some(0)).finish();
                self.send(&observe, from).await;
            }
            // The observation is confirmed.
            (MessageType::Acknowledgement, Code::CONTENT) => {
                self.write(
                    PlatformMessage::NewVersion {
                        version: Version::new("V2").unwrap(),
                        segment_size: SEGMENT_SIZE,
                        segment_count: 3,
                        check_code: pcp::checksum(PACKAGE),
                    },
                    from,
                )
                .await;
            }
            (MessageType::Confirmable, Code::CONTENT) => {
                let acknowledgement = Writer::empty(MessageType::Acknowledgement, message.id);
                self.send(&acknowledgement, from).await;
                self.answer(message.payload, from).await;
            }
            _ => {}
        }
    }

    async fn answer(&mut self, frame: &[u8], from: SocketAddr) {
        let result = ResultCode::SUCCESS;
        match DeviceMessage::decode(frame).unwrap() {
            DeviceMessage::SegmentRequest { segment, .. } => {
                let data = PACKAGE
                    .chunks(usize::from(SEGMENT_SIZE))
                    .nth(usize::from(segment))
                    .unwrap();
                let segment = Some(segment);
                let response = PlatformMessage::SegmentResponse {
                    result,
                    segment,
                    data,
                };
                self.write(response, from).await;
            }
            DeviceMessage::DownloadReport { .. } => {
                self.write(PlatformMessage::DownloadReportResponse { result }, from)
                    .await;
                self.write(PlatformMessage::Execute, from).await;
            }
            DeviceMessage::UpgradeReport { .. } => {
                self.write(PlatformMessage::UpgradeReportResponse { result }, from)
                    .await;
            }
            _ => {}
        }
    }

    async fn write(&mut self, message: PlatformMessage<'_>, to: SocketAddr) {
        let mut buf = [0; 600];
        let frame = message.encode(&mut buf).unwrap();
        let request = self
            .request(Code::PUT, &["19", "1", "0"], None)
            .payload(frame);
        self.send(&request, to).await;
    }

    fn request(&mut self, code: Code, path: &[&str], observe: Option<u32>) -> Writer {
        self.next_id = self.next_id.wrapping_add(1);
        let token = Token::new(b"t").unwrap();
        let mut writer = Writer::new(MessageType::Confirmable, code, self.next_id, token);
        if let Some(observe) = observe {
            writer = writer.uint(option::OBSERVE, observe);
        }
        path.iter().fold(writer, |writer, segment| {
            writer.option(option::URI_PATH, segment.as_bytes())
        })
    }

    async fn send(&self, datagram: &[u8], to: SocketAddr) {
        self.socket.send_to(datagram, to).await.unwrap();
    }
}

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
