//! The engine against devices that are scripted by hand: bytes in, effects out, no clock but ours.

mod admission;
mod appointments;
mod correspondence;
mod evidence;
mod flow;
mod formats;
mod garbage;
mod gateways;
mod life;
mod moves;
mod objects;
mod packages;
mod products;
mod pulls;
mod registration;
mod repeats;
mod restart;
mod rules;
mod security;
mod served;
mod soaks;
mod strangers;
mod take_back;
mod timeline;
mod told;
mod tolerance;
mod traffic;

use std::{collections::VecDeque, net::SocketAddr, time::Duration};

use pcp::{DeviceMessage, PlatformMessage, ResultCode};

use super::*;
use crate::{
    clock::UtcMillis,
    coap::{Code, ContentFormat, Kind, MessageBuilder},
    config::RegistrationPolicy,
    ledger::{
        Coverage, Outcome, PackageId, RetryPolicy, Served, Stage, StageChange, Standby, TaskId,
        UpgradeId,
    },
    package::{CheckCodeKind, Package, PcpOffer, SegmentFrames, Segmentation},
    session::{Gate, GateAsk, GateOrder, GateRequest, Offers},
    wording,
};

fn version(text: &str) -> pcp::Version {
    pcp::Version::new(text).unwrap()
}

fn package(text: &str, content: &[u8]) -> Arc<Package> {
    let segmentation = Segmentation::choose(content.len() as u64, Some(100), false).unwrap();
    Arc::new(Package::over_pcp(
        PcpOffer {
            version: version(text),
            check_code: CheckCodeKind::Crc.apply(pcp::checksum(content)),
            segmentation,
        },
        SegmentFrames::build(content, segmentation).unwrap(),
    ))
}

/// One package for all.
fn offers(package: &Arc<Package>) -> Arc<Offers> {
    Arc::new(Offers::only(PackageId(1), package.clone()))
}

/// 10 segments of 100 bytes.
fn content() -> Vec<u8> {
    (0..1_000u32).map(|i| (i % 251) as u8).collect()
}

fn peer(port: u16) -> Peer {
    SocketAddr::from(([10, 0, 0, 1], port)).into()
}

fn ids() -> DeviceIds {
    DeviceIds::new([9; 32])
}

/// Where the device updates a registration.
fn location(endpoint: &str) -> String {
    let location = Location {
        device: ids().of(endpoint),
        registration: [1, 2, 3],
    };
    location.to_string()
}

/// An engine with its gate, and everything that came out of them.
struct World {
    engine: Engine,
    gate: Gate,
    /// Newcomers are told to come later.
    too_many_come: bool,
    /// Devices that other engines have.
    elsewhere: Vec<DeviceId>,
    sought: Vec<Seek>,
    /// What devices that are elsewhere were served, and what is served no more.
    fetched: Vec<Fetched>,
    recalled: Vec<crate::ledger::PullToken>,
    now: Now,
    sent: VecDeque<(Peer, Message<'static>)>,
    changes: Vec<Change>,
    /// The number of the newest change, to see what transmissions wait for.
    newest: Seq,
    held_back: Vec<(Peer, Seq)>,
    /// What devices were granted over HTTP, and what was taken back.
    granted: Vec<Effect>,
    /// The bytes of each datagram.
    sizes: Vec<(Peer, usize)>,
    /// Bytes of all datagrams that came.
    came: usize,
    next_id: u16,
    /// Nothing is committed.
    stalled: bool,
    /// Who sends over DTLS: its endpoints, and when its association began with a whole handshake.
    speaker: Option<(Vec<Box<str>>, Option<Instant>)>,
}

impl World {
    fn new() -> Self {
        Self::with(Config::default())
    }

    fn with(config: Config) -> Self {
        let now = Now {
            instant: Instant::from_millis(1_000_000_000),
            utc: UtcMillis(1_800_000_000_000),
        };
        Self::begun(config, now)
    }

    fn begun(config: Config, now: Now) -> Self {
        let setup = Setup {
            config: Arc::new(config),
            seed: [7; 32],
            ids: ids(),
            engines: 1,
        };
        let mut gate = Gate::new(&setup.config.admission);
        gate.open(true);
        Self {
            engine: Engine::new(setup, now),
            gate,
            too_many_come: false,
            elsewhere: Vec::new(),
            sought: Vec::new(),
            fetched: Vec::new(),
            recalled: Vec::new(),
            now,
            sent: VecDeque::new(),
            changes: Vec::new(),
            newest: 0,
            held_back: Vec::new(),
            granted: Vec::new(),
            sizes: Vec::new(),
            came: 0,
            next_id: 1,
            stalled: false,
            speaker: None,
        }
    }

    fn collect(&mut self) {
        loop {
            if let Some(effect) = self.engine.poll_effect() {
                self.take(effect);
                continue;
            }
            self.gate.keep_time(self.now);
            self.gate.handle_timeout(self.now.instant);
            if let Some((device, order)) = self.gate.poll_order() {
                let command = Command::Gate { device, order };
                self.engine.handle_command(self.now, command);
            } else {
                if !self.stalled {
                    self.engine.committed(self.newest);
                }
                return;
            }
        }
    }

    fn take(&mut self, effect: Effect) {
        {
            match effect {
                Effect::Persist { seq, change } => {
                    assert_eq!(seq, self.newest + 1);
                    self.newest = seq;
                    self.changes.push(change);
                }
                Effect::Transmit {
                    peer,
                    datagram,
                    after,
                    ..
                } => {
                    assert!(after <= self.newest, "waits for a change that never came");
                    self.held_back.push((peer, after));
                    self.sizes.push((peer, datagram.len()));
                    let message = Message::parse(datagram.to_bytes().into_owned().leak())
                        .expect("sends valid CoAP");
                    self.sent.push_back((peer, message));
                }
                Effect::Grant { .. } | Effect::Revoke { .. } => self.granted.push(effect),
                Effect::Report(_) | Effect::Left(_) => {}
                Effect::Fetched(fetched) => self.fetched.push(*fetched),
                Effect::Recall(token) => self.recalled.push(token),
                Effect::Ask(ask) => self.gate.handle(self.now.instant, ask),
                Effect::Seek(seek) if self.elsewhere.contains(&seek.device) => {
                    self.sought.push(*seek);
                }
                Effect::Seek(seek) => {
                    let devices = self.engine.population().0;
                    let sought = match seek.newcomer {
                        Some(_) if self.too_many_come => Sought::TooManyCome,
                        Some(welcome) if devices < welcome.most => Sought::Newcomer,
                        _ => Sought::Nobody,
                    };
                    self.engine.handle_sought(self.now, &seek, &sought);
                }
            }
        }
    }

    /// Whether the gate is open, and whether the store can be written.
    fn may_admit(&mut self, open: bool, store: bool) {
        self.gate.open(open);
        self.gate.store_available(store);
        self.command(Command::StoreAvailable(store));
    }

    fn command(&mut self, command: Command) {
        self.engine.handle_command(self.now, command);
        self.collect();
    }

    fn datagram(&mut self, from: Peer, bytes: &[u8]) {
        self.came += bytes.len();
        match &self.speaker {
            Some((endpoints, since)) => {
                let speaker = Speaker::new(from, endpoints).since(*since);
                self.engine.handle_datagram(self.now, &speaker, bytes);
            }
            None => self.engine.handle_datagram(self.now, &from.into(), bytes),
        }
        self.collect();
    }

    /// Lets time pass, doing what is due on the way.
    fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some(at) = (self.engine.poll_timeout().into_iter())
            .chain(self.gate.poll_timeout())
            .min()
            .filter(|at| *at <= end.instant)
        {
            self.now = self.now + at.since(self.now.instant);
            self.engine.handle_timeout(self.now);
            self.gate.keep_time(self.now);
            self.gate.handle_timeout(self.now.instant);
            self.collect();
        }
        self.now = end;
    }

    fn pass_s(&mut self, seconds: u64) {
        self.pass(Duration::from_secs(seconds));
    }

    fn take_sent(&mut self) -> Vec<(Peer, Message<'static>)> {
        self.sent.drain(..).collect()
    }

    fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    fn add(&mut self, endpoint: &str) {
        self.command(Command::AddDevice {
            endpoint: endpoint.into(),
            product: "meter".into(),
            secure: false,
            protocol: crate::ledger::Protocol::Lwm2m,
            via: crate::ledger::Via::Itself,
        });
    }

    fn start(&mut self, endpoint: &str, upgrade: i64, package: &Arc<Package>) {
        let order = UpgradeOrder {
            upgrade: UpgradeId(upgrade),
            task: TaskId(1),
            endpoint: endpoint.into(),
            served: Served::first(PackageId(1)),
            hardware: None,
            attempt: 1,
            retry: RetryPolicy::default(),
            kept_awake: Standby::default(),
            begun_at: None,
            back: None,
            further: crate::ledger::Further::NONE,
        };
        let offers = offers(package);
        self.command(Command::Start { order, offers });
    }

    fn outcome(&self, upgrade: i64) -> Option<Outcome> {
        self.changes.iter().find_map(|change| match change {
            Change::Ended {
                upgrade: UpgradeId(id),
                outcome,
                ..
            } if *id == upgrade => Some(outcome.clone()),
            _ => None,
        })
    }

    fn stages(&self) -> Vec<Stage> {
        let mut stages: Vec<Stage> = self
            .changes
            .iter()
            .filter_map(|change| match change {
                Change::Stage { change, .. } => Some(change.stage),
                _ => None,
            })
            .collect();
        stages.dedup();
        stages
    }
}

/// The lines of the timeline, as people read them.
fn notes(world: &World) -> Vec<String> {
    (world.changes.iter())
        .filter_map(|change| match change {
            Change::Stage { line, .. } => line.as_deref(),
            Change::Note { line, .. } => Some(&**line),
            _ => None,
        })
        .map(wording::line)
        .collect()
}

/// What the operator is told of an upgrade's end.
fn told_at_the_end(world: &World) -> Option<String> {
    world.changes.iter().find_map(|change| match change {
        Change::Ended { outcome, facts, .. } => Some(wording::ending(outcome.reason(), facts)),
        _ => None,
    })
}

/// A device that does what it is told by the test.
struct Script {
    endpoint: String,
    at: Peer,
    queries: Vec<String>,
    /// The objects that it announces.
    links: &'static str,
    location: String,
    observe: Option<crate::coap::Token>,
}

impl Script {
    fn new(endpoint: &str, port: u16) -> Self {
        Self {
            endpoint: endpoint.into(),
            at: peer(port),
            queries: vec!["lt=86400".into()],
            links: "",
            location: String::new(),
            observe: None,
        }
    }

    fn asleep_between(mut self) -> Self {
        self.queries.push("b=UQ".into());
        self
    }

    fn register(&mut self, world: &mut World) -> Code {
        let id = world.next_id;
        world.next_id += 1;
        let mut datagram = request(
            Code::POST,
            id,
            &["rd"],
            &std::iter::once(format!("ep={}", self.endpoint))
                .chain(self.queries.clone())
                .collect::<Vec<_>>(),
        );
        if !self.links.is_empty() {
            datagram.push(0xFF);
            datagram.extend_from_slice(self.links.as_bytes());
        }
        world.datagram(self.at, &datagram);
        let at = world
            .sent
            .iter()
            .position(|(to, m)| *to == self.at && m.kind() == Kind::Acknowledgement)
            .expect("registration is answered");
        let (_, response) = world.sent.remove(at).unwrap();
        if let Some(location) = response.location().last() {
            self.location = String::from_utf8(location.to_vec()).unwrap();
        }
        response.code()
    }

    fn update(&self, world: &mut World) {
        let id = world.next_id;
        world.next_id += 1;
        let datagram = request(Code::POST, id, &["rd", &self.location], &[]);
        world.datagram(self.at, &datagram);
    }

    /// Takes everything that was sent to the device, acknowledges it as devices do, and returns the PCP
    /// messages and the paths of reads among it.
    fn receive(&mut self, world: &mut World) -> Vec<Received> {
        let mut received = Vec::new();
        // an acknowledgement may let the next request leave
        while let Some(at) = world.sent.iter().position(|(to, _)| *to == self.at) {
            let (_, message) = world.sent.remove(at).unwrap();
            let path: Vec<String> = message
                .path()
                .iter()
                .map(|s| String::from_utf8(s.to_vec()).unwrap())
                .collect();
            match (message.kind(), message.code()) {
                (Kind::Confirmable, Code::PUT) if path == ["1", "0", "1"] => {
                    received.push(Received::Lifetime(message));
                }
                (Kind::Confirmable, Code::PUT) => {
                    assert_eq!(path, ["19", "1", "0"]);
                    received.push(Received::Frame(message.payload().to_vec()));
                    world.datagram(self.at, &response(&message, Code::CHANGED).build());
                }
                (Kind::Confirmable, Code::GET) if message.observe() == Some(0) => {
                    assert_eq!(path, ["19", "0", "0"]);
                    self.observe = Some(message.token());
                    let answer = response(&message, Code::CONTENT).observe(1);
                    world.datagram(self.at, &answer.build());
                }
                (Kind::Confirmable, Code::GET) => {
                    received.push(Received::Read(path.join("/"), message));
                }
                (Kind::Confirmable, Code::EMPTY) => {
                    received.push(Received::Ping);
                    world.datagram(self.at, &crate::coap::reset(message.message_id()));
                }
                (Kind::Acknowledgement, Code::EMPTY) => received.push(Received::Ack),
                (Kind::Acknowledgement, code) => received.push(Received::Response(code)),
                (Kind::Reset, _) => received.push(Received::Reset),
                other => panic!("unexpected {other:?}"),
            }
        }
        received
    }

    fn frames(&mut self, world: &mut World) -> Vec<Vec<u8>> {
        self.receive(world)
            .into_iter()
            .filter_map(|r| match r {
                Received::Frame(frame) => Some(frame),
                _ => None,
            })
            .collect()
    }

    fn notify(&self, world: &mut World, payload: &[u8]) {
        let token = self.observe.expect("is observed");
        let id = world.next_id;
        world.next_id += 1;
        let datagram = MessageBuilder::new(Kind::Confirmable, Code::CONTENT, id, token)
            .observe(u32::from(id))
            .content_format(ContentFormat::OCTET_STREAM)
            .payload(payload.to_vec())
            .build();
        world.datagram(self.at, &datagram);
    }

    fn say(&self, world: &mut World, message: &DeviceMessage<'_>) {
        let mut buffer = [0; 64];
        self.notify(world, message.encode(&mut buffer).unwrap());
    }

    fn says_version(&self, world: &mut World, text: &str) {
        let message = DeviceMessage::VersionResponse {
            result: ResultCode::SUCCESS,
            version: Some(version(text)),
        };
        self.say(world, &message);
    }

    fn asks_segment(&self, world: &mut World, text: &str, segment: u16) {
        let message = DeviceMessage::SegmentRequest {
            version: version(text),
            segment,
        };
        self.say(world, &message);
    }

    fn answer_read(&self, world: &mut World, read: &Message, cell: u32, rsrp: i32, sinr: i32) {
        let payload = format!(
            r#"[{{"bn":"/4/0/","n":"2","v":{rsrp}}},{{"n":"8","v":{cell}}},{{"n":"11","v":{sinr}}}]"#
        );
        let answer = response(read, Code::CONTENT)
            .content_format(ContentFormat(110))
            .payload(payload.into_bytes());
        world.datagram(self.at, &answer.build());
    }

    /// From registration to the place in the cell's queue.
    fn negotiate(&mut self, world: &mut World, cell: u32, rsrp: i32, sinr: i32) {
        assert_eq!(self.register(world), Code::CREATED);
        self.answer_questions(world, cell, rsrp, sinr);
    }

    fn answer_questions(&mut self, world: &mut World, cell: u32, rsrp: i32, sinr: i32) {
        let frames = self.frames(world);
        assert_eq!(decoded(&frames), [PlatformMessage::VersionQuery]);
        self.says_version(world, "V1");
        let received = self.receive(world);
        let read = received
            .iter()
            .find_map(|r| match r {
                Received::Read(path, message) if path == "4/0" => Some(*message),
                _ => None,
            })
            .expect("is asked for its coverage");
        self.answer_read(world, &read, cell, rsrp, sinr);
    }
}

#[derive(Debug)]
enum Received {
    Frame(Vec<u8>),
    Read(String, Message<'static>),
    /// A write of /1/0/1, which is not answered.
    Lifetime(Message<'static>),
    Ping,
    Ack,
    Response(Code),
    Reset,
}

fn decoded(frames: &[Vec<u8>]) -> Vec<PlatformMessage<'_>> {
    frames
        .iter()
        .map(|frame| PlatformMessage::decode(frame).unwrap())
        .collect()
}

fn request(code: Code, id: u16, path: &[&str], queries: &[String]) -> Vec<u8> {
    let token = crate::coap::Token::new(&id.to_be_bytes());
    let mut builder = MessageBuilder::new(Kind::Confirmable, code, id, token);
    for segment in path {
        builder = builder.path(segment);
    }
    for query in queries {
        builder = builder.query(query);
    }
    builder.build()
}

fn response(request: &Message, code: Code) -> MessageBuilder {
    MessageBuilder::response(request, code, 0)
}
