//! Who may upgrade in a lane at the same time.
//!
//! A device is admitted while the devices that upgrade in its lane are fewer than its own coverage
//! allows; it holds its slot to the end of the upgrade. Within a lane the order is that of arrival,
//! with two exceptions:
//!
//! * a device that sleeps is passed over, and considered again when it is heard: no slot is ever held
//!   for a sleeper;
//! * a device that needs an emptier lane than there is may be overtaken by those that do not, but only
//!   for a set time. Then nobody behind it is admitted until the lane is empty enough: none starves.
//!
//! Admissions are paced per lane and overall, so that a lane's random-access channel is not hit by all
//! its devices in the same second.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::Hash,
    num::NonZeroU32,
    time::Duration,
};

use governor::{
    Quota, RateLimiter,
    clock::Clock,
    middleware::NoOpMiddleware,
    nanos::Nanos,
    state::{InMemoryState, NotKeyed, keyed::HashMapStateStore},
};

use crate::{
    clock::{Instant, SetClock},
    config::AdmissionConfig,
};

/// Whether a waiting device could take a slot this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// Reachable, its coverage is fresh.
    Ready,
    /// Reachable, but its coverage was measured too long ago.
    Stale,
    /// Its coverage is being measured, or it is being pinged.
    Probing,
    /// It listens all the time, but was not heard lately.
    Unheard,
    /// It sleeps, or did not answer: nothing before it is heard.
    Asleep,
}

/// What to do next for a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<K> {
    /// Give the device a slot: it holds one from now on.
    Admit(K),
    /// Measure the device's coverage anew.
    Measure(K),
    /// Find out whether the device can be reached.
    Ping(K),
    /// The lane drains for this device: keep it awake.
    Drain(K),
    /// Ask again then: the pace does not allow an admission before.
    Later(Instant),
}

/// Slots and queues of all lanes. `K` identifies a device, `L` a lane.
#[derive(Debug)]
pub struct Admission<K, L: Clone + Eq + Hash> {
    lanes: HashMap<L, LaneState<K>>,
    arrivals: u64,
    overtake: Duration,
    pace: Pace<L>,
}

/// A place in a lane's queue: earlier arrivals first.
type Order = (Instant, u64);

#[derive(Debug)]
struct LaneState<K> {
    /// Slots in use.
    active: u32,
    waiting: BTreeMap<Order, Waiting<K>>,
    /// The waiting devices that are worth a look: not known to be asleep.
    awake: BTreeSet<Order>,
    order_of: HashMap<K, Order>,
}

#[derive(Debug)]
struct Waiting<K> {
    device: K,
    limit: u32,
    /// When a later arrival was admitted before it for the first time.
    overtaken_at: Option<Instant>,
}

impl<K> Default for LaneState<K> {
    fn default() -> Self {
        Self {
            active: 0,
            waiting: BTreeMap::new(),
            awake: BTreeSet::new(),
            order_of: HashMap::new(),
        }
    }
}

impl<K: Copy + Eq + Hash, L: Copy + Eq + Hash> Admission<K, L> {
    /// No lanes yet.
    pub fn new(config: &AdmissionConfig) -> Self {
        Self {
            lanes: HashMap::new(),
            arrivals: 0,
            overtake: Duration::from_secs(config.overtake_s),
            pace: Pace::new(config),
        }
    }

    /// Other settings apply from now on. Whoever waits keeps its place and its limit.
    pub fn configure(&mut self, config: &AdmissionConfig) {
        self.overtake = Duration::from_secs(config.overtake_s);
        self.pace = Pace::new(config);
    }

    /// Lets `device` wait in `lane`, in the order of `since`; a device that waits there already keeps
    /// its place and gets a new limit.
    pub fn wait(&mut self, device: K, lane: L, limit: u32, since: Instant) {
        self.arrivals += 1;
        let lane = self.lanes.entry(lane).or_default();
        let order = *lane
            .order_of
            .entry(device)
            .or_insert((since, self.arrivals));
        let waiting = lane.waiting.entry(order).or_insert(Waiting {
            device,
            limit,
            overtaken_at: None,
        });
        waiting.limit = limit;
        lane.awake.insert(order);
    }

    /// The device was heard: it is considered again.
    pub fn heard(&mut self, device: K, lane: L) {
        if let Some(lane) = self.lanes.get_mut(&lane)
            && let Some(order) = lane.order_of.get(&device)
        {
            lane.awake.insert(*order);
        }
    }

    /// Takes the device out of the queue.
    pub fn withdraw(&mut self, device: K, lane: L) {
        if let Some(state) = self.lanes.get_mut(&lane)
            && let Some(order) = state.order_of.remove(&device)
        {
            state.waiting.remove(&order);
            state.awake.remove(&order);
        }
        self.forget_if_empty(lane);
    }

    /// Occupies a slot that was granted before a restart.
    pub fn restore(&mut self, lane: L) {
        self.lanes.entry(lane).or_default().active += 1;
    }

    /// Gives a slot back.
    pub fn release(&mut self, lane: L) {
        if let Some(state) = self.lanes.get_mut(&lane) {
            state.active = state.active.saturating_sub(1);
        }
        self.forget_if_empty(lane);
    }

    /// Slots in use in `lane`.
    pub fn active(&self, lane: L) -> u32 {
        self.lanes.get(&lane).map_or(0, |lane| lane.active)
    }

    /// Devices that wait in `lane` and came before `device`.
    pub fn ahead(&self, device: K, lane: L) -> usize {
        let Some(lane) = self.lanes.get(&lane) else {
            return 0;
        };
        let order = lane.order_of.get(&device);
        order.map_or(0, |order| lane.waiting.range(..*order).count())
    }

    /// Lanes in which anybody upgrades or waits.
    pub fn lane_count(&self) -> usize {
        self.lanes.len()
    }

    /// Their numbers.
    pub fn lanes(&self) -> impl Iterator<Item = L> {
        self.lanes.keys().copied()
    }

    /// The next thing to do for `lane`, `None` when nobody can be admitted. Call again until it is,
    /// or until it says when to ask again.
    #[expect(clippy::too_many_lines, reason = "one walk along the queue")]
    pub fn poll(
        &mut self,
        now: Instant,
        lane: L,
        mut readiness: impl FnMut(K) -> Readiness,
    ) -> Option<Step<K>> {
        let overtake = self.overtake;
        let state = self.lanes.get_mut(&lane)?;
        let mut asleep = Vec::new();
        let mut passed_over = Vec::new();
        let mut probing = 0;
        let mut step = None;
        for order in &state.awake {
            let Some(waiting) = state.waiting.get(order) else {
                continue;
            };
            let patient = waiting
                .overtaken_at
                .is_none_or(|at| now.since(at) < overtake);
            let fits = state.active + probing < waiting.limit;
            if !fits && patient {
                // Nothing is done for it, whatever it is ready for: that is asked when it matters.
                passed_over.push(*order);
                continue;
            }
            let readiness = readiness(waiting.device);
            if readiness == Readiness::Asleep {
                asleep.push(*order);
                continue;
            }
            if fits {
                step = match readiness {
                    Readiness::Ready => Some(Step::Admit(waiting.device)),
                    Readiness::Stale => Some(Step::Measure(waiting.device)),
                    Readiness::Unheard => Some(Step::Ping(waiting.device)),
                    Readiness::Probing | Readiness::Asleep => None,
                };
                if step.is_some() {
                    break;
                }
                // The slot may be its own in a moment: one probe for each free slot.
                probing += 1;
            } else if !patient && readiness != Readiness::Probing {
                step = Some(Step::Drain(waiting.device));
            }
            if !patient {
                break;
            }
            passed_over.push(*order);
        }
        for order in asleep {
            state.awake.remove(&order);
        }
        if let Some(Step::Admit(device)) = step {
            if let Err(at) = self.pace.check(now, &lane) {
                return Some(Step::Later(at));
            }
            for order in passed_over {
                if let Some(waiting) = state.waiting.get_mut(&order) {
                    if readiness(waiting.device) == Readiness::Asleep {
                        state.awake.remove(&order);
                    } else {
                        waiting.overtaken_at.get_or_insert(now);
                    }
                }
            }
            if let Some(order) = state.order_of.remove(&device) {
                state.waiting.remove(&order);
                state.awake.remove(&order);
            }
            state.active += 1;
        }
        step
    }

    fn forget_if_empty(&mut self, lane: L) {
        if (self.lanes.get(&lane)).is_some_and(|c| c.active == 0 && c.waiting.is_empty()) {
            self.lanes.remove(&lane);
        }
    }
}

/// Admissions per second, per lane and overall.
#[derive(Debug)]
struct Pace<L: Clone + Eq + Hash> {
    clock: SetClock,
    per_lane: RateLimiter<L, HashMapStateStore<L>, SetClock, NoOpMiddleware<Nanos>>,
    overall: RateLimiter<NotKeyed, InMemoryState, SetClock, NoOpMiddleware<Nanos>>,
    checks: u32,
}

impl<L: Clone + Eq + Hash> Pace<L> {
    fn new(config: &AdmissionConfig) -> Self {
        let quota =
            |per_second| Quota::per_second(NonZeroU32::new(per_second).unwrap_or(NonZeroU32::MIN));
        let clock = SetClock::default();
        Self {
            per_lane: RateLimiter::new(
                quota(config.per_cell_per_second),
                HashMapStateStore::default(),
                clock.clone(),
            ),
            overall: RateLimiter::direct_with_clock(quota(config.per_second), clock.clone()),
            clock,
            checks: 0,
        }
    }

    /// Takes one admission from both budgets, or says when there is one again.
    fn check(&mut self, now: Instant, lane: &L) -> Result<(), Instant> {
        self.clock.set(now);
        self.checks += 1;
        if self.checks.is_multiple_of(4096) {
            self.per_lane.retain_recent(); // lanes that were quiet since have their full budget
        }
        let at = |wait: Duration| now + wait.max(Duration::from_millis(1));
        self.per_lane
            .check_key(lane)
            .map_err(|not_until| at(not_until.wait_time_from(self.clock.now())))?;
        self.overall
            .check()
            .map_err(|not_until| at(not_until.wait_time_from(self.clock.now())))
    }
}

#[cfg(test)]
mod tests;
