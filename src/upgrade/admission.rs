//! Who may upgrade in a cell at the same time.
//!
//! A device is admitted while the devices that upgrade in its cell are fewer than its own coverage
//! allows; it holds its slot to the end of the upgrade. Within a cell the order is that of arrival,
//! with two exceptions:
//!
//! * a device that sleeps is passed over, and considered again when it is heard: no slot is ever held
//!   for a sleeper;
//! * a device that needs an emptier cell than there is may be overtaken by those that do not, but only
//!   for a set time. Then nobody behind it is admitted until the cell is empty enough: none starves.
//!
//! Admissions are paced per cell and overall, so that a cell's random-access channel is not hit by all
//! its devices in the same second.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
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

/// What to do next for a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<K> {
    /// Give the device a slot: it holds one from now on.
    Admit(K),
    /// Measure the device's coverage anew.
    Measure(K),
    /// Find out whether the device can be reached.
    Ping(K),
    /// The cell drains for this device: keep it awake.
    Drain(K),
    /// Ask again then: the pace does not allow an admission before.
    Later(Instant),
}

/// Slots and queues of all cells. `K` identifies a device.
#[derive(Debug)]
pub struct Admission<K> {
    cells: HashMap<u32, Cell<K>>,
    arrivals: u64,
    overtake: Duration,
    pace: Pace,
}

/// A place in a cell's queue: earlier arrivals first.
type Order = (Instant, u64);

#[derive(Debug)]
struct Cell<K> {
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

impl<K> Default for Cell<K> {
    fn default() -> Self {
        Self {
            active: 0,
            waiting: BTreeMap::new(),
            awake: BTreeSet::new(),
            order_of: HashMap::new(),
        }
    }
}

impl<K: Copy + Eq + std::hash::Hash> Admission<K> {
    /// No cells yet.
    pub fn new(config: &AdmissionConfig) -> Self {
        Self {
            cells: HashMap::new(),
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

    /// Lets `device` wait in `cell`, in the order of `since`; a device that waits there already keeps
    /// its place and gets a new limit.
    pub fn wait(&mut self, device: K, cell: u32, limit: u32, since: Instant) {
        self.arrivals += 1;
        let cell = self.cells.entry(cell).or_default();
        let order = *cell
            .order_of
            .entry(device)
            .or_insert((since, self.arrivals));
        let waiting = cell.waiting.entry(order).or_insert(Waiting {
            device,
            limit,
            overtaken_at: None,
        });
        waiting.limit = limit;
        cell.awake.insert(order);
    }

    /// The device was heard: it is considered again.
    pub fn heard(&mut self, device: K, cell: u32) {
        if let Some(cell) = self.cells.get_mut(&cell)
            && let Some(order) = cell.order_of.get(&device)
        {
            cell.awake.insert(*order);
        }
    }

    /// Takes the device out of the queue.
    pub fn withdraw(&mut self, device: K, cell: u32) {
        if let Some(state) = self.cells.get_mut(&cell)
            && let Some(order) = state.order_of.remove(&device)
        {
            state.waiting.remove(&order);
            state.awake.remove(&order);
        }
        self.forget_if_empty(cell);
    }

    /// Occupies a slot that was granted before a restart.
    pub fn restore(&mut self, cell: u32) {
        self.cells.entry(cell).or_default().active += 1;
    }

    /// Gives a slot back.
    pub fn release(&mut self, cell: u32) {
        if let Some(state) = self.cells.get_mut(&cell) {
            state.active = state.active.saturating_sub(1);
        }
        self.forget_if_empty(cell);
    }

    /// Slots in use in `cell`.
    pub fn active(&self, cell: u32) -> u32 {
        self.cells.get(&cell).map_or(0, |cell| cell.active)
    }

    /// Devices that wait in `cell` and came before `device`.
    pub fn ahead(&self, device: K, cell: u32) -> usize {
        let Some(cell) = self.cells.get(&cell) else {
            return 0;
        };
        let order = cell.order_of.get(&device);
        order.map_or(0, |order| cell.waiting.range(..*order).count())
    }

    /// Cells in which anybody upgrades or waits.
    pub fn cell_count(&self) -> usize {
        self.cells.len()
    }

    /// Their numbers.
    pub fn cells(&self) -> impl Iterator<Item = u32> {
        self.cells.keys().copied()
    }

    /// The next thing to do for `cell`, `None` when nobody can be admitted. Call again until it is,
    /// or until it says when to ask again.
    pub fn poll(
        &mut self,
        now: Instant,
        cell: u32,
        mut readiness: impl FnMut(K) -> Readiness,
    ) -> Option<Step<K>> {
        let overtake = self.overtake;
        let state = self.cells.get_mut(&cell)?;
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
            if let Err(at) = self.pace.check(now, cell) {
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

    fn forget_if_empty(&mut self, cell: u32) {
        if (self.cells.get(&cell)).is_some_and(|c| c.active == 0 && c.waiting.is_empty()) {
            self.cells.remove(&cell);
        }
    }
}

/// Admissions per second, per cell and overall.
#[derive(Debug)]
struct Pace {
    clock: SetClock,
    per_cell: RateLimiter<u32, HashMapStateStore<u32>, SetClock, NoOpMiddleware<Nanos>>,
    overall: RateLimiter<NotKeyed, InMemoryState, SetClock, NoOpMiddleware<Nanos>>,
    checks: u32,
}

impl Pace {
    fn new(config: &AdmissionConfig) -> Self {
        let quota =
            |per_second| Quota::per_second(NonZeroU32::new(per_second).unwrap_or(NonZeroU32::MIN));
        let clock = SetClock::default();
        Self {
            per_cell: RateLimiter::new(
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
    fn check(&mut self, now: Instant, cell: u32) -> Result<(), Instant> {
        self.clock.set(now);
        self.checks += 1;
        if self.checks.is_multiple_of(4096) {
            self.per_cell.retain_recent(); // cells that were quiet since have their full budget
        }
        let at = |wait: Duration| now + wait.max(Duration::from_millis(1));
        self.per_cell
            .check_key(&cell)
            .map_err(|not_until| at(not_until.wait_time_from(self.clock.now())))?;
        self.overall
            .check()
            .map_err(|not_until| at(not_until.wait_time_from(self.clock.now())))
    }
}

#[cfg(test)]
mod tests;
