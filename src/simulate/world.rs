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
mod putting_back;
mod rollout;
mod server;

use crate::simulate::scenario::over_pcp;
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
    invariants::{Invariants, Member, Subject},
    kept::StandbyCost,
    queue::Queue,
    scenario::{Scenario, product_name},
    store::{Backend, Created, Order},
    summary::Summary,
    trace::Trace,
};
use crate::{
    clock::{Instant, Now, UtcMillis},
    config::Config,
    engine::{ShardId, Tables},
    filter::Unheard,
    ledger::{DeviceIds, PackageId, UpgradeId, Usage},
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
        let packages = scenario.packages()?;
        let fleet = scenario.fleet(&packages)?;
        for package in &packages {
            let segments = over_pcp(package).offer.segmentation.segment_count().into();
            let need = Usage::of_package(package.size_bytes, segments, None);
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
        let endpoints = fleet.members.iter().map(|it| it.spec.endpoint.as_str());
        store.place(&fleet.sites, endpoints)?;
        let mut upgrades = vec![None; fleet.members.len()];
        let mut numbered = Vec::new();
        let mut tasks = Vec::new();
        for (product, package) in packages.iter().enumerate() {
            let endpoints: Vec<&str> = (fleet.members.iter().skip(product))
                .step_by(packages.len())
                .filter(|member| member.joins_at_ms.is_none())
                .map(|member| member.spec.endpoint.as_str())
                .collect();
            if endpoints.is_empty() {
                if fleet.members.len() > product {
                    return Err("joining: no device is there when a task starts; give more devices, or a smaller percent".to_owned());
                }
                continue;
            }
            let (id, created) = store.create(&Order {
                product: &product_name(product),
                endpoints: &endpoints,
                package: &over_pcp(package).offer,
                created_at: utc(0),
                start_at: utc(fleet.ready_ms),
                retry: scenario.retry,
                rules: &scenario.rules_of(product),
            })?;
            let offers = Offers::only(id, package.clone());
            numbered.push((id, Arc::new(offers)));
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
        let mut subjects = Vec::with_capacity(fleet.members.len());
        for ((device, member), upgrade) in fleet.members.iter().enumerate().zip(upgrades) {
            let package = device % packages.len();
            let joins = member.joins_at_ms.map(|_| UpgradeId(0));
            let upgrade = upgrade.or(joins).ok_or("a device has no upgrade")?;
            let current = member.spec.version == over_pcp(&packages[package]).offer.version;
            subjects.push(Subject::new(
                upgrade,
                package,
                member.spec.coverage,
                current,
                member.spec.behaviour.queue_mode.is_some(),
            ));
        }
        // not of this machine: a seed gives the same everywhere
        let shards = match scenario.config.shards {
            0 => SHARDS,
            shards => shards,
        };
        let mut checker = Invariants::new(
            scenario.config.clone(),
            scenario.retry,
            packages.clone(),
            subjects,
            super::fleet::FIRST_CELL,
            scenario.cells,
            shards,
        );
        checker.run_by(&scenario.rules, &tasks);
        checker.at_sites(fleet.sites);
        let attempts = u64::from(scenario.retry.attempts) + 1;
        let attempt_ms = u64::try_from(checker.longest_attempt_ms()).unwrap_or(0)
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
        let mut token_key = [0; 32];
        rng.fill_bytes(&mut token_key);
        let mut world = Self {
            config: Arc::new(hooks.config(&scenario.config)),
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
            server: None,
            between: Between::new(DeviceIds::new(token_key), shards),
            epoch: 0,
            crashed_at_ms: 0,
            crashes: 0,
            store_fails_until_ms: 0,
            store,
            copy: None,
            packages: numbered,
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
        world.populate(fleet.members, scenario, &packages);
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
        Ok(taught(came, learnt, devices))
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
            // of before a crash, or nothing at all
            Some(
                Occurrence::Write(_)
                | Occurrence::Hears(..)
                | Occurrence::Asked(_)
                | Occurrence::Look(_),
            )
            | None => {}
            Some(Occurrence::Crash) => self.crash(),
            Some(Occurrence::Restart) => self.restart()?,
            Some(Occurrence::StoreOutage) => self.store_outage(),
            Some(Occurrence::Copy) => self.copy_store()?,
            Some(Occurrence::PutBack) => self.put_back()?,
            Some(Occurrence::Rule) => self.other_rule()?,
            Some(Occurrence::Joins(device)) => self.joins(device)?,
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
            devices: self.units.len(),
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
        }
    }

    fn sum_up(mut self) -> Result<Summary, String> {
        let finals = self.store.finals()?;
        let ends = self.checker.finish(self.now_ms, &finals);
        let mut surprises = BTreeMap::new();
        for end in &finals {
            if let Some(unit) = self
                .checker
                .device_of(end.upgrade)
                .and_then(|d| self.units.get(d))
                && unit.is_to_succeed() != (end.state == UpgradeState::Succeeded)
            {
                let reason = end.reason.as_deref().unwrap_or("-");
                let surprise = format!("{}: {reason}", unit.character());
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
