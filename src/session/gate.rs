//! Slots for the devices of all engines: who asks, waits; whose turn it is, is told.
//!
//! Devices are spread over engines, lanes are not. Engines emit [`GateAsk`]s and are given [`GateOrder`]s, and both take
//! their time: what an order says may be out of date when it arrives. So an engine that cannot use a slot gives it back, and
//! what it is asked to find out it answers with the [`Presence`] of the device, whatever came of it, or by withdrawing the
//! device if it is not in that queue.
//!
//! A device that sleeps listens for a while after each message. While the slots of its lane are taken, it is sent a ping
//! before it falls asleep, if the forecast of the lane has a slot for it within the time for which it may be kept awake
//! ([`AdmissionConfig::keep_awake_s`]). Others are let go. So a slot that comes back is taken in the same second, and nobody
//! is kept awake for nothing.

mod adaptive;
mod estimates;
mod gateways;
mod nods;
mod rules;

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    time::Duration,
};

pub use adaptive::Adapted;
pub use estimates::Work;
pub use rules::Closed;

use crate::{
    clock::{Instant, Now},
    config::AdmissionConfig,
    ledger::{DeviceId, DownloadPace, Further, Lane, Learnt, TaskId},
    task::{CellRules, Share},
    upgrade::{Admission, Outlook, Readiness, Step, lower_bound},
};
use adaptive::Adaptive;
use estimates::{Estimates, Slot};
use gateways::Gateways;
use nods::Nods;
use rules::Rules;

/// One that can be given an appointment is kept awake for so long at the most: to come twice takes less of its battery.
const STANDBY_AT_MOST: Duration = Duration::from_mins(10);
/// It is to come before its turn by this part of the time until then, as what is expected may come sooner,
const EARLY: u32 = 10;
/// and by so much at the most.
const EARLIEST: Duration = Duration::from_mins(30);
/// Queues that are asked at once whether a slot of a site or gateway is of use to them.
const ASKED_AT_ONCE: usize = 1_024;

/// Something that an engine says to the gate about one of its devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GateAsk {
    /// The device.
    pub device: DeviceId,
    /// The lane that it is about.
    pub lane: Lane,
    /// What it says.
    pub request: GateRequest,
}

/// What an engine says to the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateRequest {
    /// The device waits for a slot; one that waits already keeps its place.
    Wait {
        /// The task that it is upgraded in, whose share of the slots it is.
        task: TaskId,
        /// How many may upgrade at once in the lane for this device to be one of them.
        limit: u32,
        /// In what lanes it competes besides.
        further: Further,
        /// Since when it waits: its place in the queue.
        since: Instant,
        /// What it will do with a slot.
        work: Work,
        /// Whether the limit follows how crowded the lane is for devices of its product, where that says so.
        adaptive: Option<bool>,
        /// Whether it can be reached.
        presence: Presence,
    },
    /// A device that waits can be reached (no more).
    Presence(Presence),
    /// The device waits no more.
    Withdraw,
    /// The device gives its slot back.
    Release,
    /// The device holds a slot from before a restart.
    Hold {
        /// Its limit.
        limit: u32,
        /// The lanes in which it holds one besides.
        further: Further,
        /// What is left to do.
        work: Work,
        /// As in [`Wait`](Self::Wait).
        adaptive: Option<bool>,
    },
    /// The download of the device that holds a slot goes on.
    Progress {
        /// What is left to do.
        work: Work,
    },
    /// The device has all that it was to download, and installs it.
    Downloaded {
        /// How long that takes.
        install: Duration,
    },
    /// How does it stand in the queue?
    Standing,
}

/// What the gate says to the engine that has the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GateOrder {
    /// It has a slot from now on.
    Admit {
        /// The lane.
        lane: Lane,
        /// Devices that hold a slot there, this one included.
        active: u32,
    },
    /// Measure its coverage anew.
    Measure {
        /// The lane in whose queue it stands.
        lane: Lane,
    },
    /// Find out whether it can be reached.
    Ping {
        /// The lane in whose queue it stands.
        lane: Lane,
    },
    /// Its turn is near: keep it awake.
    KeepAwake {
        /// The lane in whose queue it stands.
        lane: Lane,
        /// When a slot is expected for it.
        turn: Instant,
    },
    /// Its turn is further away than it could be kept awake for: have it come then.
    Appoint {
        /// The lane in whose queue it stands.
        lane: Lane,
        /// When it is to come.
        at: Instant,
        /// When a slot is expected for it.
        turn: Instant,
    },
    /// How it stands in the queue.
    Standing(Standing),
    /// Have it written down what was learnt of downloads: whichever engine has the device is as good as any.
    WriteDown(DownloadPace),
}

/// How a device stands in the queue of its lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Slots of the lane that are taken.
    pub taken: u32,
    /// Devices that came before it and wait.
    pub ahead: usize,
    /// For how long the lane was closed since it waits there.
    pub closed: Closed,
}

/// How it stands in a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LaneView {
    /// How long a KiB takes there, on average, as far as that was measured.
    pub per_kib: Option<Duration>,
    /// When all who wait will be through at the earliest, as far as is known when it opens.
    pub through_at: Option<Instant>,
    /// How its limit was lowered because it is crowded, where it is.
    pub adapted: Option<Adapted>,
    /// Slots of it that are taken.
    pub taken: u32,
    /// Devices that wait for one.
    pub waiting: usize,
}

/// Whether a device comes when it is told to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comes {
    /// It can be given an appointment.
    WhenTold,
    /// It comes when it comes.
    AsItDoes,
}

/// What tells whether a device that waits could take a slot, at any time from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Presence {
    /// It has an address, and no request was given up since it was heard.
    pub reachable: bool,
    /// It listens for a while after it was heard only.
    pub sleeps: bool,
    /// Its coverage is being measured, or it is being pinged.
    pub probing: bool,
    /// It was heard so lately that it listens until then.
    pub awake_until: Instant,
    /// A device that sleeps is to be pinged then at the latest, if it is to stay awake.
    pub nods_at: Instant,
    /// It may be kept awake for so long.
    pub spare: Duration,
    /// Its coverage was measured so lately that it counts until then.
    pub fresh_until: Instant,
    /// Whether it comes when it is told to.
    pub comes: Comes,
    /// When it is expected, once it sleeps: by appointment, or as it has come before.
    pub expected_at: Option<Instant>,
}

impl Presence {
    /// Differences in `awake_until` that are not worth telling.
    const LATELY: Duration = Duration::from_secs(1);

    /// Whether the device could take a slot now.
    pub fn readiness(&self, now: Instant) -> Readiness {
        let awake = now < self.awake_until;
        if !self.reachable || (self.sleeps && !awake) {
            Readiness::Asleep
        } else if self.probing {
            Readiness::Probing
        } else if !awake {
            Readiness::Unheard
        } else if now < self.fresh_until {
            Readiness::Ready
        } else {
            Readiness::Stale
        }
    }

    /// When it can be reached no more, unless it is heard before; `None` where it listens all the time.
    fn gone_at(&self) -> Option<Instant> {
        if self.reachable {
            self.sleeps.then_some(self.awake_until)
        } else {
            Some(Instant::ZERO)
        }
    }

    fn comes_when_told(&self) -> bool {
        self.comes == Comes::WhenTold
    }

    /// Whether it sleeps, and is to be kept awake if a slot is in sight, or to come when one is.
    fn may_be_held(&self) -> bool {
        let can = self.comes_when_told() || !self.spare.is_zero();
        self.sleeps && self.reachable && !self.probing && can
    }

    /// Whether `newer` says nothing else that matters.
    pub fn is_much_like(&self, newer: &Self) -> bool {
        let (awake_until, nods_at) = (self.awake_until, self.nods_at);
        *self
            == Self {
                awake_until,
                nods_at,
                ..*newer
            }
            && newer.awake_until.since(awake_until) < Self::LATELY
    }
}

/// A device that waits.
#[derive(Debug, Clone, Copy)]
struct Waiter {
    lane: Lane,
    task: TaskId,
    limit: u32,
    adaptive: Option<bool>,
    since: Instant,
    work: Work,
    presence: Presence,
    /// The last time that it was thought of as it was about to fall asleep.
    thought_of: Option<Instant>,
}

/// What is to be expected of a device.
fn outlook(waiter: Option<&Waiter>, estimates: &Estimates, now: Instant) -> Outlook {
    let Some(waiter) = waiter else {
        return Outlook {
            readiness: Readiness::Asleep,
            service: Duration::ZERO,
            reach: Instant::ZERO,
        };
    };
    let presence = waiter.presence;
    Outlook {
        readiness: presence.readiness(now),
        service: estimates.service(waiter.lane, waiter.limit, waiter.work),
        reach: if !presence.sleeps {
            Instant::MAX
        } else if now < presence.awake_until {
            presence.awake_until + presence.spare
        } else if presence.comes_when_told() {
            Instant::MAX // it comes again if need be
        } else {
            (presence.expected_at).map_or(Instant::ZERO, |at| at + presence.spare)
        },
    }
}

/// The place of a device that sleeps: those that come within an hour are ordered by lot. In the order in which they wake up, the
/// first ones would be served of those who wake up at the same time each day, and the moments be fewer each time in which
/// others are awake.
fn by_lot(device: DeviceId, since: Instant) -> Instant {
    const HOUR_MS: u64 = 3_600_000;
    let since_ms = since.as_millis();
    Instant::from_millis(since_ms - since_ms % HOUR_MS + device.number() % HOUR_MS)
}

/// Who may upgrade in each lane, for the devices of all engines.
#[derive(Debug)]
pub struct Gate {
    config: AdmissionConfig,
    admission: Admission<DeviceId, Lane>,
    /// Those that wait.
    waiting: HashMap<DeviceId, Waiter>,
    /// Those that hold a slot.
    slots: HashMap<DeviceId, Slot>,
    estimates: Estimates,
    /// When those who sleep are to be pinged, if they are to stay awake.
    nods: Nods,
    /// When those for whom a slot of a site or gateway may be kept can be reached no more, unless they are heard before.
    dozing: BTreeSet<(Instant, DeviceId)>,
    /// What the operator rules for lanes.
    rules: Rules,
    /// What is made of how crowded lanes are.
    adaptive: Adaptive,
    /// Lanes in which something changed since they were polled.
    touched: BTreeSet<Lane>,
    /// When to look at the lanes again, though nothing happens in them.
    later: BTreeSet<(Instant, Lane)>,
    later_of: HashMap<Lane, Instant>,
    open: bool,
    store_available: bool,
    orders: VecDeque<(DeviceId, GateOrder)>,
    /// The limits of gateways.
    gateways: Gateways,
}

impl Gate {
    /// A gate that is closed: it is to be opened when every slot from before the restart is known.
    pub fn new(config: &AdmissionConfig) -> Self {
        let mut adaptive = Adaptive::default();
        adaptive.configure(config.adaptive, config.limit_good);
        Self {
            config: config.clone(),
            adaptive,
            admission: Admission::new(config),
            waiting: HashMap::new(),
            slots: HashMap::new(),
            estimates: Estimates::new(config),
            nods: Nods::default(),
            dozing: BTreeSet::new(),
            rules: Rules::default(),
            touched: BTreeSet::new(),
            later: BTreeSet::new(),
            later_of: HashMap::new(),
            open: false,
            store_available: true,
            orders: VecDeque::new(),
            gateways: Gateways::new(config.per_gateway),
        }
    }

    /// Goes on with what was learnt before a restart.
    pub fn restore(&mut self, learnt: &[Learnt]) {
        for learnt in learnt {
            if let Learnt::Download(pace) = learnt {
                self.estimates.restore(pace);
            }
        }
    }

    /// Other paces apply from now on. The same ones change nothing.
    pub fn configure(&mut self, config: &AdmissionConfig) {
        if self.config == *config {
            return;
        }
        self.config = config.clone();
        self.admission.configure(config);
        if self.gateways.configure(config.per_gateway) {
            for lane in self.gateways.known() {
                let limit = self.gateways.limit(lane);
                self.admission.limit(lane, Some(limit));
            }
        }
        if self.adaptive.configure(config.adaptive, config.limit_good) {
            for lane in self.adaptive.lanes().collect::<Vec<_>>() {
                // those that say nothing of their own begin anew
                if self.rules.adaptive(lane) != Some(true) {
                    self.adaptive.forget(lane);
                }
                self.reclass(lane);
            }
        }
        self.touch_all();
    }

    /// Lets slots be granted, or no more of them.
    pub fn open(&mut self, open: bool) {
        self.open = open;
        self.touch_all();
    }

    /// Whether changes can be stored. While they cannot, no slot is granted.
    pub fn store_available(&mut self, available: bool) {
        self.store_available = available;
        self.touch_all();
    }

    /// A task has this share of slots from now on, also for its devices that wait.
    pub fn share(&mut self, task: TaskId, share: Share) {
        if self.admission.share(task, share) {
            self.touch_all();
        }
    }

    /// The operator's rules for a lane from now on. Whoever has a slot there keeps it.
    pub fn rule(&mut self, now: Now, lane: Lane, rules: CellRules) {
        let before = self.rules.adaptive(lane);
        self.rules.set(now, lane, rules);
        self.restrict(lane);
        let after = self.rules.adaptive(lane);
        if before != after {
            if after != Some(true) {
                self.adaptive.forget(lane);
            }
            self.reclass(lane);
        }
    }

    /// The operator says that from now on at most so many upgrade at once in a site, or for a gateway. Where it is `None`, nothing is
    /// said of it: in the site as many as like, for the gateway as its product or the settings say. Whoever has a slot there keeps it.
    pub fn limit(&mut self, lane: Lane, most: Option<u32>) {
        let most = match lane {
            Lane::Cell(_) | Lane::Site(_) => most,
            Lane::Gateway(_) => {
                self.gateways.rule(lane, most);
                Some(self.gateways.limit(lane))
            }
        };
        self.admission.limit(lane, most);
    }

    /// The gateway of these has a limit.
    fn limit_gateway(&mut self, further: Further) {
        if let Some(lane) = self.gateways.learn(further) {
            let limit = self.gateways.limit(lane);
            self.admission.limit(lane, Some(limit));
        }
    }

    /// Follows the wall clock, by which lanes open and busy hours begin and end. Call before
    /// [`handle_timeout`](Self::handle_timeout).
    pub fn keep_time(&mut self, now: Now) {
        for lane in self.rules.due(now) {
            self.restrict(lane);
        }
    }

    /// A limit that has changed because its lane is crowded, or is no more: to be told.
    pub fn poll_adapted(&mut self) -> Option<Adapted> {
        self.adaptive.poll()
    }

    /// How many may upgrade in a lane now, whatever their coverage allows, as the operator rules.
    fn ruled(&self, lane: Lane) -> Option<u32> {
        self.rules.limit(lane).and_then(|limit| limit.most)
    }

    fn restrict(&mut self, lane: Lane) {
        self.admission.restrict(lane, self.ruled(lane));
        self.touched.insert(lane);
    }

    /// Whether the limit follows how crowded the lane is for a device whose product says so: what the lane says wins over that, and
    /// that over what is said of all.
    fn follows(&self, lane: Lane, product: Option<bool>) -> bool {
        (self.adaptive).follows(self.rules.adaptive(lane).or(product))
    }

    /// How many may upgrade in a lane for a device to be one of them, as its coverage allows, and as the lane is crowded.
    fn class_of(&self, lane: Lane, limit: u32, product: Option<bool>) -> u32 {
        let adapted = self.adaptive.limited(lane).and_then(|it| it.most);
        let adapted = adapted.filter(|_| self.follows(lane, product));
        adapted.map_or(limit, |most| limit.min(most))
    }

    /// Those who wait in a lane have other limits, as that is crowded otherwise, or followed otherwise. They keep their places.
    fn reclass(&mut self, lane: Lane) {
        let devices: Vec<DeviceId> = self.admission.waiting(lane).collect();
        for device in devices {
            if let Some(waiter) = self.waiting.get(&device).copied() {
                let limit = self.class_of(lane, waiter.limit, waiter.adaptive);
                (self.admission).wait(device, lane, waiter.task, limit, waiter.since);
            }
        }
        self.touched.insert(lane);
    }

    /// The download of a device that has a slot is so far: what that shows of its lane.
    fn follow(&mut self, now: Instant, device: DeviceId, lane: Lane, left: u64) {
        let slot = self.slots.get_mut(&device).filter(|it| it.lane == lane);
        let Some(sample) = slot.and_then(|slot| slot.part(now, left)) else {
            return;
        };
        let product = self.slots.get(&device).and_then(|slot| slot.adaptive);
        if !self.follows(lane, product) {
            return;
        }
        let assumed = self.estimates.unmeasured(sample.limit);
        let active = self.admission.active(lane);
        if self.adaptive.measured(now, sample, active, assumed) {
            self.reclass(lane);
        }
    }

    /// Takes what an engine says. What follows is found out by [`handle_timeout`](Self::handle_timeout), once for all that
    /// was said.
    #[expect(clippy::too_many_lines, reason = "one match over all that is said")]
    pub fn handle(&mut self, now: Instant, ask: GateAsk) {
        let GateAsk {
            device,
            lane,
            request,
        } = ask;
        match request {
            GateRequest::Wait {
                task,
                limit,
                further,
                since,
                work,
                adaptive,
                presence,
            } => {
                if self
                    .slots
                    .get(&device)
                    .is_some_and(|slot| slot.lane == lane)
                {
                    return; // it said so before it heard of its slot: it will use that, or give it back
                }
                let place = if presence.sleeps {
                    by_lot(device, since)
                } else {
                    since
                };
                let class = self.class_of(lane, limit, adaptive);
                self.limit_gateway(further);
                self.admission.wait(device, lane, task, class, place);
                (self.admission).compete(device, lane, further.lanes());
                if let Some(before) = self.waiting.get(&device).map(|it| it.lane)
                    && before != lane
                {
                    // it takes with it for how long it was passed over
                    self.admission.withdraw(device, before);
                    self.touched.insert(before);
                }
                let thought_of = self.waiting.get(&device).and_then(|it| it.thought_of);
                let waiter = Waiter {
                    lane,
                    task,
                    limit,
                    adaptive,
                    since,
                    work,
                    presence,
                    thought_of,
                };
                self.waits(device, waiter);
            }
            GateRequest::Presence(presence) => {
                let Some(known) = self.waiting.get(&device).copied() else {
                    return; // it has its turn: the engine will know
                };
                if known.presence == presence {
                    return;
                }
                self.waits(device, Waiter { presence, ..known });
                self.admission.heard(device, lane);
            }
            GateRequest::Withdraw => {
                self.admission.withdraw(device, lane);
                if self
                    .waiting
                    .get(&device)
                    .is_some_and(|waiter| waiter.lane == lane)
                {
                    self.forget_waiter(device);
                }
            }
            GateRequest::Release => {
                self.admission.release(device, lane);
                if self
                    .slots
                    .get(&device)
                    .is_some_and(|slot| slot.lane == lane)
                {
                    self.slots.remove(&device);
                }
            }
            GateRequest::Hold {
                limit,
                further,
                work,
                adaptive,
            } => {
                let end = now + self.estimates.service(lane, limit, work);
                let mut slot = Slot::new(lane, limit, now, work);
                slot.adaptive = adaptive;
                self.slots.insert(device, slot);
                self.limit_gateway(further);
                self.admission.restore(device, lane, end);
                return (self.admission).restore_further(device, lane, further.lanes(), end);
            }
            GateRequest::Progress { work } => {
                self.follow(now, device, lane, work.bytes);
                let slot = self.slots.get_mut(&device).filter(|it| it.lane == lane);
                let Some(end) = slot.and_then(|slot| slot.goes_on(now, work)) else {
                    return;
                };
                self.admission.expect(device, lane, end);
            }
            GateRequest::Downloaded { install } => {
                self.follow(now, device, lane, 0);
                let Some(slot) = self.slots.get_mut(&device).filter(|it| it.lane == lane) else {
                    return;
                };
                let learnt = self.estimates.downloaded(now, slot);
                let orders = learnt.into_iter().map(GateOrder::WriteDown);
                self.orders.extend(orders.map(|order| (device, order)));
                self.admission.expect(device, lane, now + install);
            }
            GateRequest::Standing => {
                let waiter = self.waiting.get(&device).filter(|it| it.lane == lane);
                let standing = Standing {
                    taken: self.admission.active(lane),
                    ahead: self.admission.ahead(device, lane),
                    closed: waiter.map_or_else(Closed::default, |waiter| {
                        self.rules.closed(lane, waiter.since, now)
                    }),
                };
                let order = GateOrder::Standing(standing);
                return self.orders.push_back((device, order));
            }
        }
        self.touched.insert(lane);
    }

    /// Does what is due. Call when [`poll_timeout`](Self::poll_timeout) is reached.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((at, device)) = self.dozing.first().copied().filter(|(at, _)| *at <= now) {
            self.dozing.remove(&(at, device));
            // others may have what was kept for it: those of its own lane once that knows that it is away
            if self.admission.unreachable(device)
                && let Some(waiter) = self.waiting.get(&device)
            {
                self.touched.insert(waiter.lane);
            }
        }
        while let Some((_, lane)) = self.later.first().copied().filter(|(at, _)| *at <= now) {
            self.look_later(lane, None);
            self.touched.insert(lane);
        }
        while let Some(lane) = self.touched.pop_first() {
            self.poll(now, lane);
        }
        // one queue after the other, as whoever is asked first may leave nothing to the next
        for _ in 0..ASKED_AT_ONCE {
            if !self.grants() {
                break;
            }
            let Some(lane) = self.admission.stir(now) else {
                break;
            };
            self.poll(now, lane);
        }
    }

    fn poll(&mut self, now: Instant, lane: Lane) {
        self.look_later(lane, None);
        if self.grants() {
            while self.poll_lane(now, lane) {}
            self.keep_awake(now, lane);
        }
    }

    const fn grants(&self) -> bool {
        self.open && self.store_available
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    pub fn poll_timeout(&self) -> Option<Instant> {
        if !self.touched.is_empty() || (self.grants() && self.admission.is_stirred()) {
            return Some(Instant::ZERO);
        }
        let later = self.later.first().map(|(at, _)| *at);
        let dozes = self.dozing.first().map(|(at, _)| *at);
        (later.into_iter().chain(dozes))
            .chain(self.rules.look_at())
            .min()
    }

    /// Whose turn it is.
    pub fn poll_order(&mut self) -> Option<(DeviceId, GateOrder)> {
        self.orders.pop_front()
    }

    /// How it stands in a lane.
    pub fn look(&self, now: Instant, lane: Lane) -> LaneView {
        let most = self.ruled(lane);
        let closed = self.rules.closed(lane, now, now);
        let begins = if closed.now {
            closed.opens_at
        } else {
            Some(now)
        };
        let services = (self.admission.waiting(lane))
            .filter_map(|device| self.waiting.get(&device))
            .map(|it| {
                let service = self.estimates.service(lane, it.limit, it.work);
                let most = most.filter(|most| *most > 0).unwrap_or(u32::MAX);
                (
                    self.class_of(lane, it.limit, it.adaptive).min(most),
                    service,
                )
            });
        let takes = lower_bound(services);
        LaneView {
            per_kib: self.estimates.per_kib(lane),
            through_at: begins.map(|at| at + takes),
            adapted: self.adaptive.limited(lane),
            taken: self.slots_taken(lane),
            waiting: match lane {
                Lane::Cell(_) => self.admission.waiting(lane).count(),
                Lane::Site(_) | Lane::Gateway(_) => self.admission.wanted(lane),
            },
        }
    }

    /// How long a device of that limit is expected to hold a slot there.
    pub fn service(&self, lane: Lane, limit: u32, work: Work) -> Duration {
        self.estimates.service(lane, limit, work)
    }

    /// Slots of a lane that are taken.
    pub fn slots_taken(&self, lane: Lane) -> u32 {
        match lane {
            Lane::Cell(_) => self.admission.active(lane),
            Lane::Site(_) | Lane::Gateway(_) => self.admission.taken(lane),
        }
    }

    /// Lanes in which anybody upgrades or waits.
    pub fn lane_count(&self) -> usize {
        self.admission.lane_count()
    }

    fn touch_all(&mut self) {
        self.touched.extend(self.admission.lanes());
    }

    /// Takes one step for a lane. Returns whether there may be another.
    fn poll_lane(&mut self, now: Instant, lane: Lane) -> bool {
        let (waiting, estimates) = (&self.waiting, &self.estimates);
        let step = self.admission.poll(now, lane, |device| {
            outlook(waiting.get(&device), estimates, now)
        });
        let (device, order) = match step {
            Some(Step::Admit(device)) => {
                self.grant(now, device, lane);
                let active = self.admission.active(lane);
                (device, GateOrder::Admit { lane, active })
            }
            Some(Step::Measure(device)) => (device, GateOrder::Measure { lane }),
            Some(Step::Ping(device)) => (device, GateOrder::Ping { lane }),
            Some(Step::Later(at)) => {
                self.look_later(lane, Some(at));
                return false;
            }
            None => return false,
        };
        self.orders.push_back((device, order));
        if matches!(order, GateOrder::Measure { .. } | GateOrder::Ping { .. })
            && let Some(waiter) = self.waiting.get_mut(&device)
        {
            waiter.presence.probing = true; // until its engine says how it is
        }
        true
    }

    /// The device has a slot from now on, and waits no more.
    fn grant(&mut self, now: Instant, device: DeviceId, lane: Lane) {
        if let Some(waiter) = self.forget_waiter(device) {
            let mut slot = Slot::new(lane, waiter.limit, now, waiter.work);
            slot.adaptive = waiter.adaptive;
            self.slots.insert(device, slot);
        }
    }

    /// The device waits, so. One that may be kept awake is thought of before it falls asleep.
    fn waits(&mut self, device: DeviceId, waiter: Waiter) {
        self.forget_waiter(device);
        self.waiting.insert(device, waiter);
        let (expected_at, appoints) = (
            waiter.presence.expected_at,
            waiter.presence.comes_when_told(),
        );
        (self.admission).expect_back(device, waiter.lane, expected_at, appoints);
        let nods_at = waiter.presence.nods_at;
        if waiter.presence.may_be_held() && waiter.thought_of != Some(nods_at) {
            self.nods.insert(waiter.lane, nods_at, device);
        }
        if let Some(at) = (waiter.presence.gone_at()).filter(|_| self.admission.competes(device)) {
            self.dozing.insert((at, device));
        }
    }

    fn forget_waiter(&mut self, device: DeviceId) -> Option<Waiter> {
        let waiter = self.waiting.remove(&device)?;
        let nods_at = waiter.presence.nods_at;
        self.nods.remove(waiter.lane, nods_at, device);
        if let Some(at) = waiter.presence.gone_at() {
            self.dozing.remove(&(at, device));
        }
        Some(waiter)
    }

    /// Those who are about to fall asleep and will have a slot in time are kept awake; others are given an appointment, or
    /// let go.
    fn keep_awake(&mut self, now: Instant, lane: Lane) {
        let nodding = self.nods.take_due(lane, now);
        if !nodding.is_empty() {
            let turns = self.turns(now, lane, &nodding);
            for device in nodding {
                self.hold_on(now, lane, device, turns.get(&device).copied());
            }
        }
        let known = self.later_of.get(&lane).copied();
        let next = self.nods.next(lane);
        if let Some(next) = next.filter(|next| known.is_none_or(|known| *next < known)) {
            self.look_later(lane, Some(next));
        }
    }

    /// The device is about to fall asleep, and its turn is expected then.
    fn hold_on(&mut self, now: Instant, lane: Lane, device: DeviceId, turn: Option<Instant>) {
        let Some(waiter) = self.waiting.get_mut(&device) else {
            return;
        };
        let presence = &mut waiter.presence;
        waiter.thought_of = Some(presence.nods_at);
        let Some(turn) = turn else { return };
        let reach = presence.awake_until + presence.spare;
        let near = turn.since(now) <= STANDBY_AT_MOST;
        let order = if turn <= reach && (near || !presence.comes_when_told()) {
            GateOrder::KeepAwake { lane, turn }
        } else if presence.comes_when_told() {
            let at = turn.before(EARLIEST.min(turn.since(now) / EARLY));
            presence.expected_at = Some(at); // until its engine says what came of it
            self.admission.expect_back(device, lane, Some(at), true);
            GateOrder::Appoint { lane, at, turn }
        } else {
            return;
        };
        self.admission.promise(device, lane);
        self.orders.push_back((device, order));
    }

    /// When each of these who wait in a lane will have a slot, as far as they can be reached then.
    fn turns(&self, now: Instant, lane: Lane, devices: &[DeviceId]) -> HashMap<DeviceId, Instant> {
        let nodding: HashSet<DeviceId> = devices.iter().copied().collect();
        let look = |device| {
            let waiter = self.waiting.get(&device);
            let mut outlook = outlook(waiter, &self.estimates, now);
            let appoints = waiter.is_some_and(|waiter| waiter.presence.comes_when_told());
            if appoints && nodding.contains(&device) {
                outlook.reach = Instant::MAX;
            }
            outlook
        };
        self.admission.forecast(now, lane, devices, look)
    }

    fn look_later(&mut self, lane: Lane, at: Option<Instant>) {
        let before = match at {
            Some(at) => self.later_of.insert(lane, at),
            None => self.later_of.remove(&lane),
        };
        if let Some(before) = before {
            self.later.remove(&(before, lane));
        }
        if let Some(at) = at {
            self.later.insert((at, lane));
        }
    }
}

#[cfg(test)]
mod tests;
