mod pulls;

use std::net::SocketAddr;

use super::*;
use crate::{
    coap::{self, Code, Kind, MessageBuilder, Token},
    engine::{Engine, Setup},
    grants::{Grant, Token as Right, Way},
    ledger::{
        DeviceRecord, Further, PackageId, Protocol, RetryPolicy, Served, Standby, TaskId,
        UpgradeId, UpgradeOrder, Via,
    },
    package::{CheckCodeKind, Package, PcpOffer, SegmentFrames, Segmentation},
    session::Offers,
};

const NOW: Now = Now {
    instant: Instant::from_millis(1_800_000_000_000),
    utc: UtcMillis(1_800_000_000_000),
};

/// Nobody waits for what follows from a command.
#[derive(Debug, Clone)]
struct Nobody;

impl Done for Nobody {
    fn committed(self) {}
}

struct NoWay;

impl Post<Nobody> for NoWay {
    fn post(&mut self, _: ShardId, message: Message<Nobody>) {
        panic!("there is one shard only: {message:?}");
    }
}

struct Around {
    directory: Directory,
    emitted: Vec<Emitted>,
    sent: Vec<Outgoing>,
    /// What was let out.
    outs: Vec<Out>,
    dropped: usize,
}

impl Surroundings for Around {
    type Done = Nobody;

    fn route<R>(&mut self, what: impl FnOnce(&mut Directory, &mut dyn Post<Nobody>) -> R) -> R {
        what(&mut self.directory, &mut NoWay)
    }

    fn persist(&mut self, emitted: Emitted) {
        self.emitted.push(emitted);
    }

    fn send(&mut self, outgoing: Outgoing) {
        self.sent.push(outgoing);
    }

    fn let_out(&mut self, out: Out) {
        self.outs.push(out);
    }

    fn report(&mut self, _: &Report) {}

    fn ask(&mut self, _: GateAsk) {}

    fn dropped(&mut self, _: ShardId, _: Seq) {
        self.dropped += 1;
    }
}

fn device() -> DeviceRecord {
    DeviceRecord {
        endpoint: "d0".to_owned(),
        product: "p".to_owned(),
        protocol: Protocol::Lwm2m,
        via: Via::Itself,
        secure: false,
        registration: None,
        last_heard_at: None,
        coverage: None,
        version: None,
        evidence: Vec::new(),
        wake_ups: None,
        appointment: None,
    }
}

/// Where the device is.
fn peer() -> Peer {
    Peer::from(SocketAddr::from(([192, 0, 2, 1], 5_683)))
}

/// The device's upgrade begins, to a package of so many bytes.
fn start(len: usize) -> Message<Nobody> {
    let content = vec![7; len];
    let segmentation = Segmentation::choose(len as u64, Some(100), false).unwrap();
    let package = Package::over_pcp(
        PcpOffer {
            version: pcp::Version::new("V2").unwrap(),
            check_code: CheckCodeKind::Crc.apply(pcp::checksum(&content)),
            segmentation,
        },
        SegmentFrames::build(&content, segmentation).unwrap(),
    );
    let order = UpgradeOrder {
        upgrade: UpgradeId(1),
        task: TaskId(1),
        endpoint: "d0".into(),
        served: Served::first(PackageId(1)),
        hardware: None,
        attempt: 1,
        retry: RetryPolicy::default(),
        kept_awake: Standby::default(),
        begun_at: None,
        back: None,
        further: Further::NONE,
    };
    let offers = Arc::new(Offers::only(PackageId(1), Arc::new(package)));
    Message::Obey(Command::Start { order, offers })
}

/// A shard with a device that has an upgrade and registers: nothing is committed of that, and nothing was sent because of it.
fn begun() -> (Core<Nobody>, Around) {
    begun_behind(0)
}

/// The same where so many datagrams to the device wait for another change.
fn begun_behind(waiting: u8) -> (Core<Nobody>, Around) {
    let ids = DeviceIds::new([9; 32]);
    let setup = Setup {
        config: Arc::new(Config::default()),
        seed: [7; 32],
        ids: ids.clone(),
        engines: 1,
    };
    let mut core = Core::new(ShardId(0), ids.clone(), Engine::new(setup, NOW));
    let mut around = Around {
        directory: Directory::new(ids, 1),
        emitted: Vec::new(),
        sent: Vec::new(),
        outs: Vec::new(),
        dropped: 0,
    };
    around.directory.settle(&device());
    core.engine_mut().restore_device(NOW, &device());
    core.drain(NOW, &mut around);
    core.take(NOW, start(200), &mut around);
    let committed = Message::Committed(core.newest);
    core.take(NOW, committed, &mut around);
    assert_eq!(around.sent, []);
    let registers = MessageBuilder::new(Kind::Confirmable, Code::POST, 7, Token::new(b"r"))
        .path("rd")
        .query("ep=d0")
        .query("lt=86400")
        // nobody is sent much more than was received from there
        .payload(br#"</>;rt="oma.lwm2m",</1/0>,</3/0>,</4/0>,</5/0>,</19/0>,</19/1>"#.to_vec())
        .build();
    for _ in 0..waiting {
        let (peer, datagram) = (peer(), [1].into());
        let held = core.outbox.offer(Outgoing { peer, datagram }, 1_000, None);
        assert_eq!(held, Ok(None));
    }
    core.hear(NOW, &peer().into(), &registers);
    core.drain(NOW, &mut around);
    assert!(!core.is_committed());
    assert_eq!(around.sent, []);
    (core, around)
}

/// The answers that were sent, and the requests.
fn sent(around: &Around) -> (usize, usize) {
    let mut counts = (0, 0);
    for outgoing in &around.sent {
        let bytes = outgoing.datagram.to_bytes();
        match coap::Message::parse(&bytes).unwrap().kind() {
            Kind::Confirmable => counts.1 += 1,
            _ => counts.0 += 1,
        }
    }
    counts
}

#[test]
fn what_depends_on_a_change_leaves_when_that_is_committed() {
    let (mut core, mut around) = begun();
    let committed = Message::Committed(core.newest);
    core.take(NOW, committed, &mut around);
    assert_eq!((sent(&around), around.dropped), ((1, 1), 0));
}

#[test]
fn nothing_leaves_because_of_a_change_that_the_store_has_refused() {
    let (mut core, mut around) = begun();
    let newest = core.newest;
    // as the committer tells it: who is abandoned first
    let upgrade = UpgradeId(1);
    let abandon = Message::Obey(Command::Abandon { upgrade });
    core.take(NOW, abandon, &mut around);
    core.take(NOW, Message::Committed(newest), &mut around);
    // its registration is answered all the same
    assert_eq!((sent(&around), around.dropped), ((1, 0), 1));
    let last = around.emitted.last().map(|emitted| &emitted.change);
    assert!(
        matches!(last, Some(Change::LetGo { upgrade, .. }) if *upgrade == UpgradeId(1)),
        "{last:?}"
    );
    let newest = core.newest;
    core.take(NOW, Message::Committed(newest), &mut around);
    assert_eq!(sent(&around), (1, 0));
}

/// Bytes that are written down as sent to devices for their upgrades.
fn bytes_down(around: &Around) -> u64 {
    let counted = around.emitted.iter().map(|it| match &it.change {
        Change::Traffic { traffic, .. } => traffic.bytes_down,
        _ => 0,
    });
    counted.sum()
}

/// Its upgrade is refused: what it has exchanged is written down.
fn abandon(core: &mut Core<Nobody>, around: &mut Around) {
    let upgrade = UpgradeId(1);
    core.take(NOW, Message::Obey(Command::Abandon { upgrade }), around);
}

#[test]
fn what_an_upgrade_costs_is_what_has_left() {
    let (mut core, mut around) = begun();
    let committed = Message::Committed(core.newest);
    core.take(NOW, committed, &mut around);
    abandon(&mut core, &mut around);
    let requests = around.sent.iter().filter(|outgoing| {
        let bytes = outgoing.datagram.to_bytes();
        coap::Message::parse(&bytes).unwrap().kind() == Kind::Confirmable
    });
    let len: usize = requests.map(|outgoing| outgoing.datagram.len()).sum();
    assert!(len > 0);
    assert_eq!(bytes_down(&around), len as u64);
}

#[test]
fn what_is_dropped_from_the_outbox_costs_nothing() {
    let (mut core, mut around) = begun();
    abandon(&mut core, &mut around);
    assert_eq!((around.dropped, bytes_down(&around)), (1, 0));
}

#[test]
fn what_finds_the_outbox_full_costs_nothing() {
    let (mut core, mut around) = begun_behind(Outbox::PER_PEER);
    // the answer to its registration, and the request
    assert_eq!(core.figures().unsent, 2);
    abandon(&mut core, &mut around);
    assert_eq!((around.dropped, bytes_down(&around)), (0, 0));
    // with room for both the request counts
    let (mut core, mut around) = begun_behind(Outbox::PER_PEER - 2);
    assert_eq!(core.figures().unsent, 0);
    let newest = core.newest;
    core.take(NOW, Message::Committed(newest), &mut around);
    assert_eq!(sent(&around), (1, 1));
    abandon(&mut core, &mut around);
    assert!(bytes_down(&around) > 0);
}

/// What the device of [`begun`] is granted of its package.
fn grant(around: &Around, token: char) -> Grant {
    Grant {
        token: Right::new(&token.to_string().repeat(22)).unwrap(),
        way: Way::Path,
        device: around.directory.ids().of("d0"),
        upgrade: UpgradeId(1),
        task: TaskId(1),
        package: PackageId(1),
        sha256: "0".repeat(64),
        size_bytes: 200,
        file_name: "f.bin".to_owned(),
        expires_at: UtcMillis(i64::MAX),
        already_contiguous: 0,
        begun: true,
    }
}

fn engine(core: &mut Core<Nobody>) -> &mut Engine {
    match core.engine_mut() {
        Machine::Coap(engine) => engine,
        Machine::Mqtt(_) => panic!("it is one for devices over CoAP"),
    }
}

#[test]
fn a_device_is_granted_its_package_when_what_that_depends_on_is_committed() {
    let (mut core, mut around) = begun();
    let first = grant(&around, 'a');
    engine(&mut core).grant(first.clone());
    core.drain(NOW, &mut around);
    assert_eq!((around.outs.len(), core.held() > 0), (0, true));
    let newest = core.newest;
    core.take(NOW, Message::Committed(newest), &mut around);
    let granted = Out::Grant(Box::new(first.clone()));
    assert_eq!(around.outs, [granted]);
    // with nothing to wait for, at once; the right of another attempt goes first
    around.outs.clear();
    let second = grant(&around, 'b');
    engine(&mut core).grant(second.clone());
    engine(&mut core).revoke(second.device);
    engine(&mut core).revoke(second.device);
    core.drain(NOW, &mut around);
    let expected = [
        Out::Revoke(first.token),
        Out::Grant(Box::new(second.clone())),
        Out::Revoke(second.token),
    ];
    assert_eq!(around.outs, expected);
}

#[test]
fn nothing_is_granted_for_an_upgrade_that_the_store_has_refused() {
    let (mut core, mut around) = begun();
    let right = grant(&around, 'a');
    let token = right.token.clone();
    engine(&mut core).grant(right);
    core.drain(NOW, &mut around);
    let newest = core.newest;
    abandon(&mut core, &mut around);
    core.take(NOW, Message::Committed(newest), &mut around);
    // an earlier grant of the same token may have left
    assert_eq!(around.outs, [Out::Revoke(token)]);
}

#[test]
fn what_a_device_is_served_counts_where_it_is() {
    let (mut core, mut around) = begun();
    let newest = core.newest;
    core.take(NOW, Message::Committed(newest), &mut around);
    let right = grant(&around, 'a');
    engine(&mut core).grant(right.clone());
    let served = crate::grants::Served {
        device: right.device,
        upgrade: right.upgrade,
        task: right.task,
        token: right.token,
        contiguous_bytes: 100,
        whole: false,
        in_flight: true,
        more_bytes: 100,
        over: false,
    };
    let message = Message::Served(Box::new(served.clone()));
    core.take(NOW, message, &mut around);
    let told = (around.emitted.iter()).find_map(|it| match &it.change {
        Change::Progress { progress, .. } => Some(progress.done_bytes),
        _ => None,
    });
    assert_eq!(told, Some(100));
    // of a device that nobody has nothing comes
    let device = around.directory.ids().of("nobody");
    let emitted = around.emitted.len();
    let message = Message::Served(Box::new(crate::grants::Served { device, ..served }));
    core.take(NOW, message, &mut around);
    assert_eq!(around.emitted.len(), emitted);
}
