//! Everything around the engine, and what must always hold:
//!
//! * changes are numbered one by one, and no transmission waits for one that was not emitted;
//! * what is sent is CoAP, and goes to an address that something was received from;
//! * an upgrade that was started ends once, and nothing is told of it before or after;
//! * a slot is granted only while those who hold one in the cell are fewer than the device's limit;
//! * the engine's tables have no more rows than devices, registrations and upgrades account for;
//! * what is due gets done: the engine does not ask for the same moment again and again;
//! * at the end, when nothing arrives any more, every upgrade ends and every registration expires.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use cellwise::{
    clock::{Instant, Now, UtcMillis},
    coap::{Code, Kind, MAX_DATAGRAM_LEN, Message, Peer},
    config::{Config, ProductConfig, RegistrationPolicy},
    engine::{Command, Tables},
    ledger::{
        Change, Failure, PackageId, RetryPolicy, Served, Standby, StopReason, TaskId, UpgradeId,
        UpgradeOrder,
    },
    package::{CheckCodeKind, Package, PcpOffer, SegmentFrames, Segmentation},
    session::Offers,
    shard::{Emitted, Outgoing},
};

use super::{
    Answer, DEVICES, PEERS,
    device::{self, Device},
    shards::{Output, Shards},
    store::Store,
};

/// Devices that may come in under names of their own, where that is allowed.
const MAX_OPEN_DEVICES: usize = 12;
/// Requests that wait at an address for whoever is there.
const INBOX: usize = 32;
/// How often the engine may ask for the same moment: a device's turn may wake its cell, and that the
/// device again.
const TURNS: u32 = 4;
/// After that long nothing goes on any more: a day until it is heard, a week in the queue, and the rest.
const EVERY_LIMIT: Duration = Duration::from_hours(24 * 9);
/// The longest registration, and a day.
const EVERY_LIFETIME: Duration = Duration::from_hours(24 * 366);

pub(super) struct World {
    shards: Shards,
    config: Arc<Config>,
    offers: Arc<Offers>,
    now: Now,
    devices: Vec<Device>,
    /// What has arrived at each address.
    inboxes: Vec<VecDeque<Vec<u8>>>,
    heard_from: HashSet<Peer>,
    store: Store,
    /// Changes that are not committed, the oldest first.
    emitted: VecDeque<Emitted>,
    holding: bool,
    /// Upgrades under way: the device, and the cell whose slot it holds.
    running: BTreeMap<UpgradeId, (usize, Option<u32>)>,
    orders: i64,
    restarts: u8,
}

fn peer(index: usize) -> Peer {
    let port = u16::try_from(5_000 + index).expect("there are sixteen");
    SocketAddr::from(([10, 0, 0, 1], port)).into()
}

/// For whatever a device says that it runs.
fn offers() -> Offers {
    Offers::only(PackageId(1), Arc::new(package())).allowing_downgrades()
}

fn package() -> Package {
    let content: Vec<u8> = (0..device::SEGMENTS * 32)
        .map(|i| i.to_be_bytes()[1])
        .collect();
    let len = u64::try_from(content.len()).expect("is short");
    let segmentation = Segmentation::choose(len, Some(32), false).expect("can be cut");
    Package::over_pcp(
        PcpOffer {
            version: device::target(),
            check_code: CheckCodeKind::Crc.apply(pcp::checksum(&content)),
            segmentation,
        },
        SegmentFrames::build(&content, segmentation).expect("is what was cut"),
    )
}

impl World {
    pub(super) fn new(open: bool) -> Self {
        let mut config = Config::default();
        if open {
            config.lwm2m.registration = RegistrationPolicy::Open;
        }
        config.lwm2m.max_open_devices = MAX_OPEN_DEVICES;
        let impatient = ProductConfig {
            awake_window_s: Some(10),
            ack_timeout_ms: Some(2_000),
            max_retransmit: Some(0),
            pmin_zero: true,
            ..ProductConfig::default()
        };
        config.products.insert(device::IMPATIENT.into(), impatient);
        // so slow that a few devices feel it
        config.admission.per_cell_per_second = 1;
        config.admission.per_second = 2;
        config.admission.limit_good = 3;
        config.admission.limit_fair = 2;
        let config = Arc::new(config);
        let now = Now {
            instant: Instant::from_millis(1_000_000_000),
            utc: UtcMillis(1_800_000_000_000),
        };
        let mut shards = Shards::new(&config, 0, now);
        shards.gate().open(true);
        Self {
            shards,
            config,
            offers: Arc::new(offers()),
            now,
            devices: (0..usize::from(DEVICES)).map(Device::new).collect(),
            inboxes: (0..PEERS).map(|_| VecDeque::new()).collect(),
            heard_from: HashSet::new(),
            store: Store::new(open),
            emitted: VecDeque::new(),
            holding: false,
            running: BTreeMap::new(),
            orders: 0,
            restarts: 0,
        }
    }

    // ---- the operator

    fn command(&mut self, command: Command) {
        self.shards.command(command);
        self.collect();
    }

    fn endpoint(&self, device: usize) -> String {
        self.devices[device].name.clone()
    }

    pub(super) fn add(&mut self, device: usize) {
        let endpoint = self.endpoint(device);
        self.store.add(&endpoint, device::product(device));
        self.command(Command::AddDevice {
            endpoint,
            product: device::product(device).into(),
            secure: false,
            protocol: cellwise::ledger::Protocol::Lwm2m,
            via: cellwise::ledger::Via::Itself,
        });
    }

    pub(super) fn remove(&mut self, device: usize) {
        let endpoint = self.endpoint(device);
        self.store.remove(&endpoint);
        self.command(Command::RemoveDevice { endpoint });
    }

    fn order(&mut self, device: usize) -> UpgradeOrder {
        self.orders += 1;
        let order = UpgradeOrder {
            upgrade: UpgradeId(self.orders),
            task: TaskId(1),
            endpoint: self.endpoint(device),
            served: Served::first(PackageId(1)),
            hardware: None,
            attempt: 1,
            retry: RetryPolicy::default(),
            kept_awake: Standby::default(),
            begun_at: None,
            back: None,
            further: cellwise::ledger::Further::NONE,
        };
        self.store.order(&order);
        order
    }

    /// The upgrade of the device that is under way.
    fn upgrade_of(&self, device: usize) -> Option<UpgradeId> {
        let found = self.running.iter().find(|(_, (of, _))| *of == device);
        found.map(|(upgrade, _)| *upgrade)
    }

    pub(super) fn start(&mut self, device: usize) {
        let order = self.order(device);
        // a second order is left alone while the first is under way
        if self.upgrade_of(device).is_none() {
            self.running.insert(order.upgrade, (device, None));
        }
        let offers = self.offers.clone();
        self.command(Command::Start { order, offers });
    }

    pub(super) fn fail(&mut self, device: usize) {
        let order = self.order(device);
        self.running.insert(order.upgrade, (device, None));
        let failure = Failure::DeviceRemoved;
        self.command(Command::Fail { order, failure });
    }

    pub(super) fn stop(&mut self, device: usize) {
        if let Some(upgrade) = self.upgrade_of(device) {
            self.command(Command::Stop {
                endpoint: self.endpoint(device),
                upgrade,
                reason: StopReason::TaskStopped,
            });
            assert!(!self.running.contains_key(&upgrade), "it was stopped");
        }
    }

    pub(super) fn abandon(&mut self, device: usize) {
        if let Some(upgrade) = self.upgrade_of(device) {
            self.running.remove(&upgrade);
            self.store.abandon(upgrade);
            self.command(Command::Abandon { upgrade });
        }
    }

    pub(super) fn admit(&mut self, admit: bool) {
        self.shards.gate().open(admit);
        self.collect();
    }

    // ---- the store

    pub(super) fn set_store_available(&mut self, available: bool) {
        self.shards.gate().store_available(available);
        self.command(Command::StoreAvailable(available));
    }

    pub(super) fn hold_commits(&mut self, hold: bool) {
        self.holding = hold;
        self.collect();
    }

    pub(super) fn commit_some(&mut self, count: usize) {
        self.commit(count);
        // devices may have moved that waited for it
        self.collect();
    }

    fn commit(&mut self, count: usize) {
        let count = count.min(self.emitted.len());
        let batch: Vec<_> = self.emitted.drain(..count).collect();
        for emitted in batch {
            self.store.commit(&emitted.change);
            (self.shards).committed(self.now, emitted.shard, emitted.seq);
        }
    }

    /// What was not committed is lost, and so is what waited for it.
    pub(super) fn restart(&mut self) {
        self.restarts = self.restarts.wrapping_add(1);
        self.shards = Shards::new(&self.config, self.restarts, self.now);
        self.emitted.clear();
        for record in self.store.devices() {
            self.shards.restore(self.now, &record);
        }
        self.running.clear();
        for active in self.store.active() {
            let holds = active
                .stage
                .cell
                .filter(|_| active.stage.stage.holds_slot());
            let device = self
                .devices
                .iter()
                .position(|d| d.name == active.order.endpoint);
            let device = device.expect("only devices of the play are upgraded");
            let upgrade = active.order.upgrade;
            self.running.insert(upgrade, (device, holds));
            let offers = self.offers.clone();
            let engine = self.shards.of(&active.order.endpoint);
            engine.restore_upgrade(self.now, active, offers);
        }
        self.collect();
        self.shards.gate().open(true);
        self.collect();
    }

    // ---- time

    pub(super) fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        let mut turns = 0;
        while let Some(at) = self.shards.poll_timeout().filter(|at| *at <= end.instant) {
            let ahead = at.since(self.now.instant);
            turns = if ahead.is_zero() { turns + 1 } else { 1 };
            assert!(turns <= TURNS, "asks for the same moment again and again");
            self.now = self.now + ahead;
            self.shards.handle_timeout(self.now);
            self.collect();
        }
        self.now = end;
    }

    pub(super) fn pass_unnoticed(&mut self, span: Duration) {
        self.now = self.now + span;
    }

    // ---- devices and strangers

    pub(super) fn datagram(&mut self, from: usize, bytes: &[u8]) {
        self.heard_from.insert(peer(from));
        self.shards.datagram(self.now, peer(from), bytes);
        self.collect();
    }

    fn say(&mut self, device: usize, bytes: Vec<u8>) {
        let from = self.devices[device].peer;
        self.datagram(from, &bytes);
        self.devices[device].last = bytes;
    }

    pub(super) fn register(&mut self, device: usize, from: usize, how: u8) {
        self.devices[device].peer = from;
        let datagram = self.devices[device].register(how);
        self.say(device, datagram);
    }

    pub(super) fn update(&mut self, device: usize, from: usize) {
        self.devices[device].peer = from;
        let datagram = self.devices[device].about_registration(Code::POST);
        self.say(device, datagram);
    }

    pub(super) fn deregister(&mut self, device: usize) {
        let datagram = self.devices[device].about_registration(Code::DELETE);
        self.say(device, datagram);
    }

    pub(super) fn place(&mut self, device: usize, cell: u8, signal: u8) {
        let device = &mut self.devices[device];
        (device.cell, device.signal) = (cell % 4, signal % 4);
    }

    pub(super) fn notify(&mut self, device: usize, payload: &[u8]) {
        let datagram = self.devices[device].notification(payload);
        self.say(device, datagram);
    }

    pub(super) fn repeat(&mut self, device: usize) {
        let datagram = self.devices[device].last.clone();
        self.say(device, datagram);
    }

    pub(super) fn answer(&mut self, device: usize, how: Option<Answer>) {
        let at = self.devices[device].peer;
        if let Some(request) = self.inboxes[at].pop_front() {
            let request = Message::parse(&request).expect("it was read when it came");
            for datagram in self.devices[device].answers(&request, how) {
                self.say(device, datagram);
            }
        }
    }

    fn deliver(&mut self, outgoing: &Outgoing) {
        let datagram = outgoing.datagram.to_bytes();
        let message = Message::parse(&datagram).expect("sends valid CoAP");
        let at = (0..usize::from(PEERS)).find(|index| peer(*index) == outgoing.peer);
        let at = at.expect("has no other address");
        if message.kind() == Kind::Confirmable {
            let inbox = &mut self.inboxes[at];
            if inbox.len() == INBOX {
                inbox.pop_front();
            }
            inbox.push_back(datagram.into_owned());
        } else if message.code() == Code::CREATED {
            let id = Some(message.message_id());
            let device = (self.devices.iter_mut()).find(|d| d.peer == at && d.registering == id);
            if let (Some(device), Some(last)) = (device, message.location().last()) {
                device.location = String::from_utf8(last.to_vec()).expect("a location is text");
                device.registering = None;
            }
        }
    }

    // ---- what comes out

    fn collect(&mut self) {
        loop {
            while let Some(output) = self.shards.poll_output(self.now) {
                self.take(output);
            }
            if self.holding || self.emitted.is_empty() {
                return;
            }
            // which may let devices go to the other engine
            self.commit(usize::MAX);
        }
    }

    fn take(&mut self, output: Output) {
        match output {
            Output::Emitted(emitted) => {
                self.note(&emitted.change);
                self.emitted.push_back(emitted);
            }
            Output::Transmits(Outgoing { peer, datagram }) => {
                assert!(datagram.len() <= MAX_DATAGRAM_LEN);
                assert!(self.heard_from.contains(&peer), "was never heard of");
                Message::parse(&datagram.to_bytes()).expect("sends valid CoAP");
            }
            Output::Leaves(outgoing) => self.deliver(&outgoing),
        }
    }

    /// What a change says must fit what was said before.
    fn note(&mut self, change: &Change) {
        match change {
            Change::Stage {
                upgrade, change, ..
            } => {
                let (_, holds) = self.running.get_mut(upgrade).expect("is under way");
                *holds = change.cell.filter(|_| change.stage.holds_slot());
            }
            Change::Note { upgrade, .. }
            | Change::Serves { upgrade, .. }
            | Change::Progress { upgrade, .. }
            | Change::KeptAwake { upgrade, .. } => {
                assert!(self.running.contains_key(upgrade), "is under way");
            }
            Change::Admitted {
                cell,
                limit,
                active,
                ..
            } => {
                let holders = self
                    .running
                    .values()
                    .filter(|(_, holds)| holds == &Some(*cell));
                assert_eq!(holders.count(), *active as usize);
                assert!(active <= limit, "the cell is full");
            }
            Change::Ended { upgrade, .. } => {
                assert!(self.running.remove(upgrade).is_some(), "ends once");
            }
            Change::LetGo { upgrade, .. } => {
                self.running.remove(upgrade);
            }
            // traffic is told also of one that has ended
            Change::Registered { .. }
            | Change::Deregistered { .. }
            | Change::VersionReported { .. }
            | Change::Evidence { .. }
            | Change::Appointed { .. }
            | Change::Via { .. }
            | Change::Traffic { .. }
            | Change::Learnt(_)
            | Change::CoverageReported { .. } => {}
        }
    }

    /// After a step.
    pub(super) fn look_around(&self) {
        let Tables {
            devices,
            sessions,
            peers,
            alarms,
        } = self.shards.tables();
        assert!(devices <= usize::from(DEVICES) + MAX_OPEN_DEVICES);
        assert_eq!(sessions, self.running.len());
        assert!(peers <= devices && self.shards.cell_count() <= sessions);
        assert!(alarms <= devices, "{alarms} alarms, {devices} devices");
        assert_eq!(self.shards.devices(), devices);
    }

    /// Gives everything the time it needs.
    pub(super) fn end(&mut self) {
        self.hold_commits(false);
        self.set_store_available(true);
        self.admit(true);
        self.pass(EVERY_LIMIT);
        self.look_around();
        let (sessions, cells) = (self.shards.tables().sessions, self.shards.cell_count());
        assert_eq!((sessions, cells), (0, 0), "an upgrade does not end");
        self.pass(EVERY_LIFETIME);
        let devices = self.shards.tables().devices;
        let empty = Tables {
            devices,
            ..Tables::default()
        };
        assert_eq!(self.shards.tables(), empty, "something stays for ever");
        assert!(self.shards.are_empty());
    }
}
