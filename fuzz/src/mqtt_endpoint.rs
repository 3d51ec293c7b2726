//! The MQTT server among several clients that send what they like, while time passes and messages go out.
//!
//! The input is a list of steps. The low two bits of a step's first byte say which connection it is about; the rest what it is:
//! 0 to 3 bytes that come (the next byte says how many), 4 that the connection is lost, 5 that time passes (the next byte says how
//! much, in seconds), 6 a message to the device, 7 that its download begins or ends.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use cellwise::{
    clock::{Instant, Now, UtcMillis},
    ledger::DeviceId,
    mqtt::endpoint::{
        ConnId, Credential, Downlink, Endpoint, Event, Identity, Limits, Output, Qos, Reading,
        Refusal, Style, Verdict,
    },
};

const CONNECTIONS: usize = 4;

struct World {
    endpoint: Endpoint,
    now: Now,
    known: [Arc<Identity>; 2],
    conns: [Option<ConnId>; CONNECTIONS],
    /// Which connection each device has.
    open: HashMap<DeviceId, ConnId>,
    accepted: usize,
    over: usize,
}

/// Does what the input says, and looks whether the books are right.
pub fn run(input: &[u8]) {
    let limits = Limits {
        packet_bytes: 4 << 10,
        connect_bytes: 512,
        buffered_bytes: 16 << 10,
        receive_maximum: 4,
        send_maximum: 4,
        take_over_after: Duration::ZERO,
        ..Limits::default()
    };
    let mut world = World {
        endpoint: Endpoint::new(limits, 7),
        now: Now {
            instant: Instant::from_millis(1_000_000),
            utc: UtcMillis(1_800_000_000_000),
        },
        known: [
            identity(1, Style::Iotda, Credential::Certificate),
            identity(
                2,
                Style::ThingsPanel,
                Credential::Token {
                    token: "t".into(),
                    password: None,
                },
            ),
        ],
        conns: [None; CONNECTIONS],
        open: HashMap::new(),
        accepted: 0,
        over: 0,
    };
    let mut rest = input;
    while let Some((step, after)) = rest.split_first() {
        rest = world.step(*step, after);
        world.pump();
        world.check();
    }
    world.endpoint.stop();
    world.pump();
    assert_eq!(world.endpoint.connections(), 0, "all have ended");
    assert_eq!(world.endpoint.buffered(), 0, "nothing is kept of them");
    assert_eq!(world.accepted, world.over, "each was closed once");
    assert!(world.open.is_empty(), "each device's end was told");
}

fn identity(number: u8, style: Style, credential: Credential) -> Arc<Identity> {
    Arc::new(Identity {
        device: DeviceId::from_bytes([number; 8]),
        name: format!("d{number}").into(),
        style,
        credential,
    })
}

impl World {
    fn step<'i>(&mut self, step: u8, rest: &'i [u8]) -> &'i [u8] {
        let index = usize::from(step & 3);
        let device = self.known[index % 2].device;
        match (step >> 2) & 7 {
            0..=3 => {
                let (len, rest) = rest.split_first().unwrap_or((&0, rest));
                let (bytes, rest) = rest.split_at(usize::from(*len).min(rest.len()));
                let conn = self.connection(index);
                let reading = self.endpoint.receive(self.now, conn, bytes);
                if reading == Reading::Over {
                    self.conns[index] = None;
                }
                return rest;
            }
            4 => {
                if let Some(conn) = self.conns[index].take() {
                    self.endpoint.closed(conn);
                    self.over += 1;
                }
            }
            5 => {
                let (seconds, rest) = rest.split_first().unwrap_or((&0, rest));
                self.now = self.now + Duration::from_secs((*seconds).into());
                self.endpoint.handle_timeout(self.now);
                return rest;
            }
            6 => {
                let downlink = if index < 2 {
                    Downlink::Events
                } else {
                    Downlink::Push
                };
                let qos = if step & 0x80 == 0 {
                    Qos::AtLeastOnce
                } else {
                    Qos::AtMostOnce
                };
                let sent = self
                    .endpoint
                    .publish(device, downlink, "message".into(), qos);
                assert!(
                    sent.is_err() || self.open.contains_key(&device),
                    "it is connected"
                );
            }
            _ => self.endpoint.hold(self.now, device, step & 0x80 == 0),
        }
        rest
    }

    fn connection(&mut self, index: usize) -> ConnId {
        if let Some(conn) = self.conns[index] {
            return conn;
        }
        let peer = SocketAddr::from(([192, 0, 2, 1], 4000));
        let certified = Box::from([Box::from("d1")]);
        let accepted = self.endpoint.accept(self.now, peer, certified);
        let conn = accepted.expect("there is room for four");
        self.accepted += 1;
        self.conns[index] = Some(conn);
        conn
    }

    fn pump(&mut self) {
        while let Some(output) = self.endpoint.poll_output() {
            match output {
                Output::Send { bytes, .. } => whole_packets(&bytes),
                Output::Close { conn } => {
                    self.over += 1;
                    for it in &mut self.conns {
                        if *it == Some(conn) {
                            *it = None;
                        }
                    }
                }
                Output::Resume { .. } => {}
                Output::Authenticate { conn, claim, .. } => {
                    let known = self.known.iter();
                    let mut verified = known.filter(|it| it.verify(&claim, self.now.utc).is_ok());
                    // a user name says which of the two
                    let verdict = match (verified.next_back(), verified.next()) {
                        (Some(it), _) => Verdict::Device(it.clone()),
                        (None, _) => Verdict::Refused(Refusal::UnknownDevice),
                    };
                    self.endpoint.authenticated(self.now, conn, verdict);
                }
                Output::Event(event) => self.heard(event),
            }
        }
    }

    fn heard(&mut self, event: Event) {
        match event {
            Event::Connected {
                device,
                conn,
                took_over,
                ..
            } => {
                let before = self.open.insert(device, conn);
                assert_eq!(before.is_some(), took_over, "one connection for a device");
            }
            Event::Disconnected { device, conn, .. } => {
                assert_eq!(self.open.remove(&device), Some(conn), "it was open");
            }
            Event::Message {
                device,
                payload,
                ack,
                ..
            } => {
                assert!(self.open.contains_key(&device), "it is connected");
                assert!(payload.len() <= 4 << 10, "as long as a packet");
                if let Some(ack) = ack {
                    self.endpoint.acknowledge(self.now, ack);
                }
            }
            Event::Subscribed { device, .. }
            | Event::Unsubscribed { device, .. }
            | Event::Delivered { device, .. } => {
                assert!(self.open.contains_key(&device), "it is connected");
            }
            // of brokers alone
            Event::Refused { .. } | Event::Heard { .. } => {}
        }
    }

    fn check(&self) {
        assert!(
            self.endpoint.buffered() <= 16 << 10,
            "what is kept is bounded"
        );
        assert_eq!(self.endpoint.connections(), self.accepted - self.over);
        assert!(self.endpoint.devices() <= 2);
    }
}

/// What is sent are whole packets that a server may send.
fn whole_packets(mut bytes: &[u8]) {
    while let Some((first, rest)) = bytes.split_first() {
        let kind = first >> 4;
        assert!(
            [2, 3, 4, 5, 7, 9, 11, 13, 14].contains(&kind),
            "a server sends no packet of type {kind}"
        );
        let (mut len, mut used) = (0, 0);
        loop {
            let byte = rest[used];
            len |= usize::from(byte & 0x7f) << (7 * used);
            used += 1;
            if byte & 0x80 == 0 {
                break;
            }
        }
        bytes = &rest[used + len..];
    }
}
