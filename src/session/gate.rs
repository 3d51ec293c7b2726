//! Slots for the devices of all engines: who asks, waits; whose turn it is, is told.
//!
//! Devices are spread over engines, lanes are not. Engines emit [`GateAsk`]s and are given [`GateOrder`]s, and both take
//! their time: what an order says may be out of date when it arrives. So an engine that cannot use a slot gives it back, and
//! what it is asked to find out it answers with the [`Presence`] of the device, whatever came of it, or by withdrawing the
//! device if it is not in that queue.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    time::Duration,
};

use crate::{
    clock::Instant,
    config::AdmissionConfig,
    ledger::{DeviceId, Lane},
    upgrade::{Admission, Readiness, Step},
};

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
        /// How many may upgrade at once in the lane for this device to be one of them.
        limit: u32,
        /// Since when it waits: its place in the queue.
        since: Instant,
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
    Hold,
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
    /// The lane drains for it: keep it awake.
    Drain {
        /// The lane in whose queue it stands.
        lane: Lane,
    },
    /// How it stands in the queue.
    Standing(Standing),
}

/// How a device stands in the queue of its lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Slots of the lane that are taken.
    pub taken: u32,
    /// Devices that came before it and wait.
    pub ahead: usize,
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
    /// Its coverage was measured so lately that it counts until then.
    pub fresh_until: Instant,
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

    /// Whether `newer` says nothing else that matters.
    pub fn is_much_like(&self, newer: &Self) -> bool {
        let awake_until = self.awake_until;
        *self
            == Self {
                awake_until,
                ..*newer
            }
            && newer.awake_until.since(awake_until) < Self::LATELY
    }
}

/// Who may upgrade in each lane, for the devices of all engines.
#[derive(Debug)]
pub struct Gate {
    admission: Admission<DeviceId, Lane>,
    /// Those that wait.
    waiting: HashMap<DeviceId, Presence>,
    /// Lanes in which something changed since they were polled.
    touched: BTreeSet<Lane>,
    /// When to look at the lanes again whose admissions are paced.
    later: BTreeSet<(Instant, Lane)>,
    later_of: HashMap<Lane, Instant>,
    open: bool,
    store_available: bool,
    orders: VecDeque<(DeviceId, GateOrder)>,
}

impl Gate {
    /// A gate that is closed: it is to be opened when every slot from before the restart is known.
    pub fn new(config: &AdmissionConfig) -> Self {
        Self {
            admission: Admission::new(config),
            waiting: HashMap::new(),
            touched: BTreeSet::new(),
            later: BTreeSet::new(),
            later_of: HashMap::new(),
            open: false,
            store_available: true,
            orders: VecDeque::new(),
        }
    }

    /// Other paces apply from now on.
    pub fn configure(&mut self, config: &AdmissionConfig) {
        self.admission.configure(config);
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

    /// Takes what an engine says. What follows is found out by [`handle_timeout`](Self::handle_timeout), once for all that
    /// was said.
    pub fn handle(&mut self, ask: GateAsk) {
        let GateAsk {
            device,
            lane,
            request,
        } = ask;
        match request {
            GateRequest::Wait {
                limit,
                since,
                presence,
            } => {
                self.admission.wait(device, lane, limit, since);
                self.waiting.insert(device, presence);
            }
            GateRequest::Presence(presence) => {
                let Some(known) = self.waiting.get_mut(&device) else {
                    return; // it has its turn: the engine will know
                };
                if std::mem::replace(known, presence) == presence {
                    return;
                }
                self.admission.heard(device, lane);
            }
            GateRequest::Withdraw => {
                self.admission.withdraw(device, lane);
                self.waiting.remove(&device);
            }
            GateRequest::Release => self.admission.release(lane),
            GateRequest::Hold => return self.admission.restore(lane),
            GateRequest::Standing => {
                let standing = Standing {
                    taken: self.admission.active(lane),
                    ahead: self.admission.ahead(device, lane),
                };
                let order = GateOrder::Standing(standing);
                return self.orders.push_back((device, order));
            }
        }
        self.touched.insert(lane);
    }

    /// Does what is due. Call when [`poll_timeout`](Self::poll_timeout) is reached.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((_, lane)) = self.later.first().copied().filter(|(at, _)| *at <= now) {
            self.look_later(lane, None);
            self.touched.insert(lane);
        }
        while let Some(lane) = self.touched.pop_first() {
            self.look_later(lane, None);
            if self.open && self.store_available {
                while self.poll_lane(now, lane) {}
            }
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    pub fn poll_timeout(&self) -> Option<Instant> {
        if !self.touched.is_empty() {
            return Some(Instant::ZERO);
        }
        self.later.first().map(|(at, _)| *at)
    }

    /// Whose turn it is.
    pub fn poll_order(&mut self) -> Option<(DeviceId, GateOrder)> {
        self.orders.pop_front()
    }

    /// Slots of a lane that are taken.
    pub fn slots_taken(&self, lane: Lane) -> u32 {
        self.admission.active(lane)
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
        let waiting = &self.waiting;
        let step = self.admission.poll(now, lane, |device| {
            let presence = waiting.get(&device);
            presence.map_or(Readiness::Asleep, |presence| presence.readiness(now))
        });
        let (device, order) = match step {
            Some(Step::Admit(device)) => {
                self.waiting.remove(&device);
                let active = self.admission.active(lane);
                (device, GateOrder::Admit { lane, active })
            }
            Some(Step::Measure(device)) => (device, GateOrder::Measure { lane }),
            Some(Step::Ping(device)) => (device, GateOrder::Ping { lane }),
            Some(Step::Drain(device)) => (device, GateOrder::Drain { lane }),
            Some(Step::Later(at)) => {
                self.look_later(lane, Some(at));
                return false;
            }
            None => return false,
        };
        self.orders.push_back((device, order));
        if matches!(order, GateOrder::Measure { .. } | GateOrder::Ping { .. })
            && let Some(presence) = self.waiting.get_mut(&device)
        {
            presence.probing = true; // until its engine says how it is
        }
        !matches!(order, GateOrder::Drain { .. })
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
