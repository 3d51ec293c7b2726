//! The simulated world: the production core, simulated devices and the network between them, driven by one queue of
//! events in virtual time.
//!
//! ```text
//! devices ──▶ radio ──▶ engine ──▶ changes ──▶ committer ──▶ store
//!    ▲                    │                        │
//!    └────── radio ◀── outbox ◀── committed ◀──────┘
//! ```
//!
//! The shards, the directory, the committer, the planner and (if wanted) the store are those of the server. The driver gives
//! them time, a network, and faults; it stands in for the rollout.

mod air;
mod closings;
mod committer;
mod field;
mod foresight;
mod holds;
mod messages;
mod mqtt;
mod putting_back;
mod rollout;
mod server;

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use rand_chacha::{ChaCha8Rng, rand_core::Rng};
use sim::radio::Conditions;

use super::{
    faults::Mishaps,
    figures::Figures,
    fleet::FleetFile,
    foresight::{Earlier, taught},
    halts::Halts,
    hooks::Hooks,
    invariants::{Invariants, Member, Own, Reach, Subject},
    kept::StandbyCost,
    offered::{Offered, PackagesFile},
    queue::Queue,
    scenario::{Scenario, product_name},
    store::{Added, Backend, Created, Order},
    summary::Summary,
    trace::Trace,
};
use crate::{
    clock::{Instant, Now, UtcMillis},
    config::Config,
    engine::{ShardId, Tables},
    filter::Unheard,
    ledger::{DeviceIds, PackageId, Protocol, UpgradeId, Usage, Via},
    session::Offers,
    store::UpgradeState,
    task::{Membership, Place},
};
use air::Air;
use field::Unit;
use messages::Between;
use server::Server;

/// Virtual time begins here: 2027-01-15 08:00 UTC.
const EPOCH_MS: u64 = 1_800_000_000_000;
/// After the last outcome the devices have this long to say what they have to say, ms.
const AFTERWARDS_MS: u64 = 20 * 60 * 1_000;
/// The limit of the wait for a slot does not run while a device sleeps: so much longer a task may take.
const MOST_ASLEEP_MS: u64 = 90 * 86_400 * 1_000;
/// Where tasks say how they are run: so long after the beginning of the last attempt nothing is expected any more, ms. A window
/// is looked for no further away.
const MOST_QUIET_MS: u64 = 400 * 86_400 * 1_000;
/// Events between two looks at the progress.
const LOOK_EVERY: u64 = 1 << 14;

/// Events in one millisecond after which time is taken to stand still.
const MOST_AT_ONCE: u64 = 10_000_000;

/// Shards of the server, unless its settings say otherwise.
const SHARDS: u8 = 2;

/// Something that happens at its time.
#[derive(Debug, Clone, Copy)]
enum Occurrence {
    /// A device has something to do.
    Wake(u32),
    /// A datagram arrives at the server, from a device's address.
    Up(u32, u16),
    /// A datagram arrives at what was a device's address.
    Down(u32, u16),
    /// A device loses its power.
    PowerLoss(u32),
    /// A device gets another address.
    NewAddress(u32),
    /// The store writes the batch. As all that concerns the server, for the server of that number only.
    Write(u32),
    /// A shard hears what was said to it.
    Hears(u32, ShardId),
    /// The gate does.
    Asked(u32),
    /// The rollout looks.
    Look(u32),
    /// A device over MQTT has something to do.
    Station(u32),
    /// Something arrives on a connection over MQTT.
    Wire(u32, mqtt::OnWire),
    /// The next thing happens in a download of that number, of that device over MQTT.
    Download(u32, u32),
    /// The network does something to the connection of that device over MQTT.
    Mishap(u32),
    /// Something is due between the parts of the server that have to do with MQTT, of the server of that number.
    Within(u32, mqtt::Within),
    /// The server crashes.
    Crash,
    /// And is started again.
    Restart,
    /// The store fails for a while.
    StoreOutage,
    /// The store is copied.
    Copy,
    /// The server crashes, and is started with the copy.
    PutBack,
    /// The operator gives a cell other rules.
    Rule,
    /// The operator adds a device, which joins the task.
    Joins(u32),
    /// A device is with another gateway.
    ChangesPlace(u32),
    /// The operator says so.
    GetsGateway(u32),
    /// The operator has the task of that number go on.
    Resume(u32),
}

/// How far a simulation is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Progress {
    /// Virtual time since the start of the task, ms.
    pub(crate) virtual_ms: u64,
    pub(crate) open: usize,
    pub(crate) devices: usize,
    pub(crate) events: u64,
}

/// A simulation.
pub(super) struct World<H> {
    hooks: H,
    config: Arc<Config>,
    conditions: Conditions,
    air: Air,
    mishaps: Mishaps,
    crash_every: Option<Duration>,
    now_ms: u64,
    queue: Queue<Occurrence>,
    /// The datagram that arrives: always the same memory.
    datagram: Vec<u8>,
    units: Vec<Unit>,
    /// When each unit is woken next, ms.
    alarms: Vec<u64>,
    /// Devices that speak MQTT, where there are some: their numbers follow those of the units.
    mqtt: Option<Box<mqtt::Field>>,
    server: Option<Server>,
    between: Between,
    /// Number of the server that runs, or ran last.
    epoch: u32,
    crashed_at_ms: u64,
    crashes: u64,
    store_fails_until_ms: u64,
    store: Backend,
    /// A copy of it from before.
    copy: Option<putting_back::Copied>,
    /// By the packages of the tasks.
    packages: Vec<(PackageId, Arc<Offers>)>,
    /// By products.
    offered: Vec<Arc<Offered>>,
    ids: DeviceIds,
    shards: u8,
    cells: u32,
    checker: Invariants,
    trace: Trace,
    rng: ChaCha8Rng,
    figures: Figures,
    halts: Halts,
    /// Forecasts are made.
    foresees: Option<foresight::Foresees>,
    /// Tasks say how they are run.
    ruled: bool,
    /// When the task starts, ms.
    start_ms: u64,
    /// When everything must be over, ms; where tasks say how they are run, it may be later.
    end_ms: u64,
}

impl<H: Hooks> World<H> {
    /// The world as a scenario describes it, before anything happens.
    #[expect(clippy::too_many_lines, reason = "the parts of a world")]
    pub(super) fn new(scenario: &Scenario, hooks: H) -> Result<Self, String> {
        if scenario.fleet.joins() != (scenario.rules.membership == Membership::Joining) {
            return Err(
                "joining: a fleet with devices that come later needs a task with membership = \"joining\", and the other way round"
                    .to_owned(),
            );
        }
        if scenario.fleet.speaks_mqtt() && scenario.packages != PackagesFile::default() {
            return Err(
                "packages: a fleet with devices that speak MQTT has one package for all in a simulation"
                    .to_owned(),
            );
        }
        if scenario.fleet.has_objects() && scenario.packages != PackagesFile::default() {
            return Err(
                "packages: a fleet with devices without PCP has one package for all in a simulation"
                    .to_owned(),
            );
        }
        let offered = scenario.offered()?;
        let mut fleet = scenario.fleet(&offered)?;
        if scenario.packages == PackagesFile::default() {
            // the store has it where a task asks for it
            (fleet.members.iter_mut()).for_each(|member| member.hardware = None);
        }
        for offered in &offered {
            let (size_bytes, segments) = offered.largest();
            let need = Usage::of_package(size_bytes, segments, None);
            let room = scenario.rules.budget.map(|it| it.has_room_for(need));
            if let Some(Err(over)) = room {
                let (unit, need, budget) = (over.resource.name(), over.need, over.budget);
                return Err(format!(
                    "budget: the package costs a device {need} {unit} at least, and a month has {budget}"
                ));
            }
        }
        let mut rng = scenario.rng(2);
        let mut store = Backend::open(scenario.store)?;
        let endpoints = fleet.devices().map(|it| it.endpoint);
        store.place(&fleet.sites, endpoints)?;
        for gateway in &fleet.gateways {
            let added = Added {
                endpoint: &gateway.spec.device,
                protocol: Protocol::Iotda,
                hardware: None,
                via: &Via::Itself,
            };
            store.add_device(added, &gateway.product, utc(0))?;
        }
        let planned: Vec<_> = fleet.devices().collect();
        let mut upgrades = vec![None; planned.len()];
        let mut numbered = Vec::new();
        let mut tasks = Vec::new();
        for (product, of_product) in offered.iter().enumerate() {
            let mut its = (planned.iter())
                .filter(|it| it.product == product)
                .peekable();
            let any = its.peek().is_some();
            let devices: Vec<Added<'_>> = its
                .filter(|device| device.joins_at_ms.is_none())
                .map(|device| Added {
                    endpoint: device.endpoint,
                    protocol: device.protocol,
                    hardware: device.hardware,
                    via: &device.via,
                })
                .collect();
            if devices.is_empty() {
                if any {
                    return Err("joining: no device is there when a task starts; give more devices, or a smaller percent".to_owned());
                }
                continue;
            }
            let (ids, created) = store.create(&Order {
                product: &product_name(product),
                devices: &devices,
                offered: of_product,
                created_at: utc(0),
                start_at: utc(fleet.ready_ms),
                retry: scenario.retry,
                rules: &scenario.rules_of(product),
            })?;
            let offers = of_product.offers(&ids).ok_or("a task has no package")?;
            let offers = Arc::new(offers);
            numbered.extend(ids.into_iter().map(|id| (id, offers.clone())));
            let mut task = Vec::with_capacity(created.len());
            for Created { upgrade, endpoint } in created {
                if let Some(device) = super::invariants::device(&endpoint)
                    && let Some(row) = upgrades.get_mut(device)
                {
                    *row = Some(upgrade);
                    let unheard = Unheard {
                        endpoint: &endpoint,
                        product: &product_name(product),
                        created_at: utc(0),
                    };
                    let place = Place::of(&scenario.rules, &unheard, utc(0));
                    task.push(Member {
                        device,
                        endpoint,
                        place,
                    });
                }
            }
            task.sort_unstable_by(|a, b| a.endpoint.cmp(&b.endpoint));
            tasks.push(task);
        }
        let server_config = scenario.server_config();
        let mut subjects = Vec::with_capacity(upgrades.len());
        for (number, (device, upgrade)) in planned.iter().zip(upgrades).enumerate() {
            let joins = device.joins_at_ms.map(|_| UpgradeId(0));
            let upgrade = upgrade.or(joins).ok_or("a device has no upgrade")?;
            let way = offered[device.product].way(device.runs, device.hardware);
            let own = Own::new(device.runs, device.hardware, way);
            let over_pcp = fleet.members.get(number);
            let coverage = over_pcp.map_or_else(
                || sim::CoverageClass::NoCell.coverage(None),
                |member| member.spec.coverage,
            );
            let sleeps = over_pcp.is_some_and(|it| it.spec.behaviour.queue_mode.is_some());
            subjects.push(Subject::new(upgrade, device.product, coverage, own, sleeps));
        }
        // not of this machine: a seed gives the same everywhere
        let shards = match scenario.config.shards {
            0 => SHARDS,
            shards => shards,
        };
        let mut checker = Invariants::new(
            scenario.config.clone(),
            scenario.retry,
            offered.clone(),
            subjects,
            super::fleet::FIRST_CELL,
            scenario.cells,
            shards + u8::from(!fleet.over_mqtt.is_empty()),
        );
        checker.gateways_are(fleet.gateways.iter().map(|gateway| {
            let product = server_config.products.get(&gateway.product);
            let own = product.and_then(|product| product.per_gateway);
            let limit = own.unwrap_or(server_config.admission.per_gateway);
            (gateway.spec.device.clone(), limit)
        }));
        for (number, device) in planned.iter().enumerate() {
            checker.speaks(number, device.protocol);
            checker.is_to_be_reached(number, &device.via);
        }
        for (number, member) in fleet.members.iter().enumerate() {
            checker.is_like(number, &member.spec);
        }
        checker.run_by(&scenario.rules, &tasks);
        checker.at_sites(fleet.sites);
        // each step is as an upgrade of its own
        let steps = offered.iter().map(|it| it.most_steps()).max();
        let attempts = (u64::from(scenario.retry.attempts) + 1) * steps.unwrap_or(1);
        let longest_ms = [
            (!fleet.members.is_empty(), Reach::OverPcp),
            (!fleet.over_mqtt.is_empty(), Reach::OverMqtt),
            (!fleet.gateways.is_empty(), Reach::Behind),
        ];
        let longest_ms = (longest_ms.into_iter())
            .filter(|(any, _)| *any)
            .map(|(_, reach)| checker.longest_attempt_ms(reach))
            .max();
        let attempt_ms = u64::try_from(longest_ms.unwrap_or(0)).unwrap_or(0)
            + u64::from(scenario.retry.interval_s) * 1_000;
        let asleep_ms = if fleet
            .members
            .iter()
            .any(|member| member.spec.behaviour.queue_mode.is_some())
        {
            MOST_ASLEEP_MS
        } else {
            0
        };
        // another gateway has an attempt begin anew
        let mut places = fleet.over_mqtt.iter().filter_map(|it| it.behind);
        let attempts = attempts + u64::from(places.any(|behind| behind.moves.is_some()));
        let mut token_key = [0; 32];
        rng.fill_bytes(&mut token_key);
        let mut world = Self {
            config: Arc::new(hooks.config(&server_config)),
            conditions: scenario.faults.conditions(),
            air: Air::new(scenario.fleet.shared_capacity(), scenario.cells),
            mishaps: hooks.mishaps(scenario.faults.mishaps()),
            hooks,
            crash_every: scenario.crash_every,
            now_ms: 0,
            queue: Queue::new(),
            datagram: Vec::new(),
            units: Vec::with_capacity(fleet.members.len()),
            alarms: vec![u64::MAX; fleet.members.len()],
            mqtt: None,
            server: None,
            between: Between::new(DeviceIds::new(token_key), shards, false),
            epoch: 0,
            crashed_at_ms: 0,
            crashes: 0,
            store_fails_until_ms: 0,
            store,
            copy: None,
            packages: numbered,
            offered: offered.clone(),
            ids: DeviceIds::new(token_key),
            shards,
            cells: scenario.cells,
            checker,
            trace: Trace::start(),
            rng,
            figures: Figures::default(),
            halts: Halts::default(),
            foresees: None,
            ruled: !scenario.rules.is_empty(),
            start_ms: fleet.ready_ms,
            end_ms: fleet.ready_ms + attempts * attempt_ms + asleep_ms + AFTERWARDS_MS,
        };
        let first = fleet.members.len();
        world.populate(fleet.members, scenario, &offered);
        if !fleet.over_mqtt.is_empty() {
            let ids = &world.ids;
            let devices = (fleet.over_mqtt, fleet.gateways);
            let field = mqtt::Field::new(devices, first, scenario, ids, &offered);
            world.mqtt = Some(Box::new(field));
            world.populate_mqtt();
        }
        Ok(world)
    }

    /// Lets everything happen, and sums up.
    pub(super) fn run(mut self, progress: impl FnMut(&Progress)) -> Result<Summary, String> {
        self.happen(progress)?;
        self.sum_up()
    }

    /// Lets everything happen, and says what it has taught.
    pub(super) fn teach(mut self, progress: impl FnMut(&Progress)) -> Result<Earlier, String> {
        self.happen(progress)?;
        let (learnt, devices) = (self.store.restore_learnt()?, self.store.restore_devices()?);
        let summary = self.sum_up()?;
        let came = (&summary.outcomes, &summary.reasons);
        Ok(taught(came, learnt, &devices))
    }

    fn happen(&mut self, mut progress: impl FnMut(&Progress)) -> Result<(), String> {
        self.start_server()?;
        self.plan_crash();
        self.plan_store_outage();
        self.plan_rule();
        self.plan_copy();
        let mut over_at = u64::MAX;
        let mut at_once = 0;
        while let Some(next_ms) = self.next_ms().filter(|at| *at <= over_at) {
            if next_ms > self.gives_up_ms() {
                break;
            }
            at_once = if next_ms == self.now_ms {
                at_once + 1
            } else {
                0
            };
            if at_once > MOST_AT_ONCE {
                self.checker.stuck(self.now_ms);
                break;
            }
            self.foresee(next_ms)?;
            self.now_ms = next_ms;
            self.step()?;
            self.check_sizes();
            self.figures.events += 1;
            if self.figures.events.is_multiple_of(LOOK_EVERY) {
                progress(&self.progress());
            }
            if over_at == u64::MAX && self.checker.open() == 0 {
                over_at = self.now_ms + AFTERWARDS_MS;
            }
        }
        progress(&self.progress());
        Ok(())
    }

    /// When everything must be over, ms.
    fn gives_up_ms(&self) -> u64 {
        if self.ruled {
            self.end_ms
                .max(self.checker.last_begun_ms() + MOST_QUIET_MS)
        } else {
            self.end_ms
        }
    }

    fn next_ms(&self) -> Option<u64> {
        let engines = (self.server.as_ref())
            .and_then(Server::next_timeout)
            .map(|at| millis_of(at).max(self.now_ms));
        match (engines, self.queue.next_ms()) {
            (Some(engine), Some(event)) => Some(engine.min(event)),
            (engine, event) => engine.or(event),
        }
    }

    fn step(&mut self) -> Result<(), String> {
        let now = self.now();
        if let Some(server) = &mut self.server
            && (server.next_timeout()).is_some_and(|at| at <= now.instant)
        {
            server.handle_timeouts(now);
            self.pump();
            self.tell_turns();
            self.drain();
            return Ok(());
        }
        // taken out, so that the world can be lent with it
        let mut datagram = std::mem::take(&mut self.datagram);
        let event = self.queue.pop(&mut datagram);
        match event {
            Some(Occurrence::Wake(device)) => self.wake(device),
            Some(Occurrence::Up(device, port)) => self.arrive_up(device, port, &datagram),
            Some(Occurrence::Down(device, port)) => self.arrive_down(device, port, &datagram),
            Some(Occurrence::PowerLoss(device)) => self.power_loss(device),
            Some(Occurrence::NewAddress(device)) => self.new_address(device),
            Some(Occurrence::Write(epoch)) if self.runs(epoch) => self.write()?,
            Some(Occurrence::Hears(epoch, shard)) if self.runs(epoch) => self.hears(shard)?,
            Some(Occurrence::Asked(epoch)) if self.runs(epoch) => self.asked(),
            Some(Occurrence::Look(epoch)) if self.runs(epoch) => self.look_again()?,
            Some(Occurrence::Station(number)) => self.station_wakes(number),
            Some(Occurrence::Wire(number, what)) => match what {
                mqtt::OnWire::Down => self.comes_down(number, Some(&datagram)),
                mqtt::OnWire::EndsAtDevice => self.comes_down(number, None),
                up => self.comes_up(number, up, &datagram),
            },
            Some(Occurrence::Download(station, number)) => self.download_goes_on(station, number),
            Some(Occurrence::Mishap(station)) => self.mishap(station),
            Some(Occurrence::Within(epoch, what)) if self.runs(epoch) => {
                self.arrives_within(what)?;
            }
            // of before a crash, or nothing at all
            Some(
                Occurrence::Write(_)
                | Occurrence::Hears(..)
                | Occurrence::Asked(_)
                | Occurrence::Look(_)
                | Occurrence::Within(..),
            )
            | None => {}
            Some(Occurrence::Crash) => self.crash(),
            Some(Occurrence::Restart) => self.restart()?,
            Some(Occurrence::StoreOutage) => self.store_outage(),
            Some(Occurrence::Copy) => self.copy_store()?,
            Some(Occurrence::PutBack) => self.put_back()?,
            Some(Occurrence::Rule) => self.other_rule()?,
            Some(Occurrence::Joins(device)) => self.joins(device)?,
            Some(Occurrence::ChangesPlace(device)) => self.changes_place(device),
            Some(Occurrence::GetsGateway(device)) => self.gets_gateway(device)?,
            Some(Occurrence::Resume(task)) => self.resume(task)?,
        }
        self.datagram = datagram;
        Ok(())
    }

    fn runs(&self, epoch: u32) -> bool {
        self.epoch == epoch && self.server.is_some()
    }

    fn now(&self) -> Now {
        Now {
            instant: Instant::from_millis(EPOCH_MS + self.now_ms),
            utc: utc(self.now_ms),
        }
    }

    fn progress(&self) -> Progress {
        Progress {
            virtual_ms: self.now_ms.saturating_sub(self.start_ms),
            open: self.checker.open(),
            devices: self.checker.devices(),
            events: self.figures.events,
        }
    }

    fn check_sizes(&mut self) {
        if let Some(server) = &self.server {
            let mut tables = Tables::default();
            let mut held = 0;
            for core in server.cores() {
                tables = tables + core.tables();
                held += core.held();
            }
            let (cells, uncommitted) = (server.gate.lane_count(), server.uncommitted());
            self.checker
                .sizes(self.now_ms, tables, cells, held, uncommitted);
            if let (Some(side), Some(field)) = (&server.mqtt, &self.mqtt) {
                let (sizes, wires) = (side.sizes(), field.wires());
                self.checker.mqtt_sizes(self.now_ms, sizes, wires);
            }
        }
    }

    fn sum_up(mut self) -> Result<Summary, String> {
        let finals = self.store.finals()?;
        if let Some(side) = self.server.as_ref().and_then(|server| server.mqtt.as_ref()) {
            (self.checker).granted_at_end(self.now_ms, side.sizes().0);
        }
        let ends = self.checker.finish(self.now_ms, &finals);
        let mut surprises = BTreeMap::new();
        for end in &finals {
            if let Some((expected, character)) = self.character(end.upgrade)
                && expected != end.state
                && [expected, end.state].contains(&UpgradeState::Succeeded)
            {
                let reason = end.reason.as_deref().unwrap_or("-");
                let surprise = format!("{character}: {reason}");
                *surprises.entry(surprise).or_default() += 1;
            }
            let (upgrade, reason) = (end.upgrade.0, end.reason.as_deref().unwrap_or("-"));
            let line = format!("{upgrade} {} {} {reason}", end.attempts, end.state.name());
            self.trace.note(self.now_ms, &line);
        }
        let foreseen = self.foreseen();
        let trace = self.trace.finish();
        let sleepers = || (self.units.iter().enumerate()).filter(|(_, unit)| unit.sleeps());
        for (device, unit) in sleepers() {
            (self.checker).kept_awake(self.now_ms, device, unit.kept());
        }
        for (device, unit) in sleepers() {
            let (lifetimes, speaks_within_ms) = (unit.lifetimes(), unit.speaks_within_ms());
            (self.checker).lifetime_at_end(self.now_ms, device, lifetimes, speaks_within_ms);
        }
        let kept_awake = StandbyCost::of(sleepers().map(|(_, unit)| unit.kept()));
        Ok(Summary::new(
            &mut self.checker,
            &finals,
            ends,
            surprises,
            self.figures,
            kept_awake,
            self.halts,
            self.crashes,
            self.start_ms,
            trace,
            foreseen,
        ))
    }

    /// How an upgrade is to end by its device's character, and what that is.
    fn character(&self, upgrade: UpgradeId) -> Option<(UpgradeState, String)> {
        let device = self.checker.device_of(upgrade)?;
        if let Some(unit) = self.units.get(device) {
            return Some((unit.expected(), unit.character()));
        }
        let spec = (self.mqtt.as_ref()?)
            .device(u32::try_from(device).ok()?)?
            .spec();
        Some((mqtt::expected(spec), mqtt::character(spec)))
    }

    /// A time between `from` and `to`, chosen by chance.
    fn between(&mut self, from: Duration, to: Duration) -> u64 {
        between(&mut self.rng, from, to)
    }

    /// The time until something that happens this often on average.
    fn until_next(&mut self, mean: Duration) -> u64 {
        self.between(Duration::from_millis(1), mean * 2)
    }
}

/// A time between `from` and `to`, chosen by chance, ms.
fn between(rng: &mut ChaCha8Rng, from: Duration, to: Duration) -> u64 {
    let from_ms = millis(from);
    let span_ms = millis(to).saturating_sub(from_ms) + 1;
    let product = u128::from(rng.next_u64()) * u128::from(span_ms);
    from_ms + u64::try_from(product >> 64).unwrap_or(0)
}

/// An engine's time as the world's, ms.
const fn millis_of(at: Instant) -> u64 {
    at.as_millis().saturating_sub(EPOCH_MS)
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn utc(ms: u64) -> UtcMillis {
    UtcMillis(i64::try_from(EPOCH_MS + ms).unwrap_or(i64::MAX))
}

/// When the tasks of this fleet start.
pub(super) fn start_of(fleet: &FleetFile) -> UtcMillis {
    utc(fleet.ready_ms())
}

/// A device's address: which device it is, and which of its addresses.
fn address(device: u32, port: u16) -> SocketAddr {
    let [_, a, b, c] = device.to_be_bytes();
    SocketAddr::from(([10, a, b, c], port))
}

/// The device to which an address belongs, or belonged.
fn device_at(peer: SocketAddr) -> Option<(u32, u16)> {
    match peer {
        SocketAddr::V4(peer) => {
            let [_, a, b, c] = peer.ip().octets();
            Some((u32::from_be_bytes([0, a, b, c]), peer.port()))
        }
        SocketAddr::V6(_) => None,
    }
}
