//! One lane: who holds a slot until about when, who waits, and what is to be done next.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::Hash,
    time::Duration,
};

use super::{Outlook, Readiness, Step};
use crate::clock::Instant;

/// How long before its turn a device is looked for, and measured: a round trip in deep coverage, with repeats.
const LOOKED_FOR_AHEAD: Duration = Duration::from_mins(1);

/// How late a device that is expected may be, before it is not waited for.
const LATE_AT_MOST: Duration = Duration::from_mins(2);
/// A device that needs an emptier lane is not there and measured in the same moment: whoever is admitted before may end so much
/// later.
const SETTLES_IN: Duration = Duration::from_secs(45);

/// A place in a lane's queue: earlier arrivals first.
pub(super) type Order = (Instant, u64);

#[derive(Debug)]
pub(super) struct LaneState<K> {
    /// Who holds a slot, and when it is expected to come back.
    ends: HashMap<K, Instant>,
    waiting: BTreeMap<Order, Waiting<K>>,
    order_of: HashMap<K, Order>,
    /// By the limits of their devices.
    pub(super) classes: BTreeMap<u32, Class>,
    promises: u64,
    /// How many may hold a slot, whatever coverage allows.
    most: u32,
}

#[derive(Debug)]
struct Waiting<K> {
    device: K,
    limit: u32,
    /// Its place among those who are kept awake for a turn, or come for one.
    promised: Option<u64>,
    /// It comes when it is told to.
    comes_when_told: bool,
    /// When it is expected, once it sleeps.
    expected: Option<Instant>,
    sleeps: bool,
}

impl<K> Waiting<K> {
    /// The places of those who come when they are told to: behind all who have but the moments in which they are awake.
    const TOLD: u64 = 1 << 62;

    /// Its place among the devices of its limit, before that of its arrival.
    fn rank(&self) -> u64 {
        match (self.promised, self.comes_when_told) {
            (Some(promised), false) => promised,
            (None, false) => Self::TOLD,
            (Some(promised), true) => Self::TOLD + promised,
            (None, true) => u64::MAX,
        }
    }
}

/// Devices of the same limit.
#[derive(Debug, Default)]
pub(super) struct Class {
    /// Those that are worth a look: not known to be asleep.
    /// First those to whom a turn was promised, in the order in which that was done.
    pub(super) awake: BTreeSet<(u64, Order)>,
    /// Those that sleep, and are expected then.
    pub(super) expected: BTreeSet<(Instant, Order)>,
    /// Since when its first device would fit, and is held back for the sake of one that needs an emptier lane.
    held_since: Option<Instant>,
    /// It was held back long enough, and has had its slots: it is held back until one of a smaller limit has had one.
    has_overtaken: bool,
}

impl<K> LaneState<K> {
    /// One in which nobody is, and that so many may be in at most.
    pub(super) fn new(most: u32) -> Self {
        Self {
            ends: HashMap::new(),
            waiting: BTreeMap::new(),
            order_of: HashMap::new(),
            classes: BTreeMap::new(),
            promises: 0,
            most,
        }
    }
}

impl<K: Copy + Ord + Hash> LaneState<K> {
    /// At most so many hold a slot from now on. Devices that may use the same moments then are one class.
    pub(super) fn restrict(&mut self, most: u32) {
        if self.most == most {
            return;
        }
        self.most = most;
        self.classes.clear();
        let orders: Vec<Order> = self.waiting.keys().copied().collect();
        for order in orders {
            self.change(&order, |_| ());
        }
    }

    /// The limit by which a device is classed.
    fn class_of(&self, limit: u32) -> u32 {
        limit.min(self.most)
    }

    pub(super) fn wait(&mut self, device: K, limit: u32, order: Order) {
        let order = *self.order_of.entry(device).or_insert(order);
        self.take_out(&order);
        let before = self.waiting.get(&order);
        let waiting = Waiting {
            device,
            limit,
            promised: before.and_then(|before| before.promised),
            comes_when_told: before.is_some_and(|before| before.comes_when_told),
            expected: before.and_then(|before| before.expected),
            sleeps: false,
        };
        self.waiting.insert(order, waiting);
        self.wake(device);
    }

    /// The device is kept awake for a turn, or comes for it: before those who may be awake by then.
    pub(super) fn promise(&mut self, device: K) {
        let Some(order) = self.order_of.get(&device).copied() else {
            return;
        };
        self.promises += 1;
        let place = self.promises;
        self.change(&order, |waiting| {
            waiting.promised.get_or_insert(place);
        });
    }

    /// When it is expected, once it sleeps, and whether it comes when it is told to.
    pub(super) fn expect_back(&mut self, device: K, at: Option<Instant>, comes_when_told: bool) {
        let Some(order) = self.order_of.get(&device).copied() else {
            return;
        };
        self.change(&order, |waiting| {
            waiting.expected = at;
            waiting.comes_when_told = comes_when_told;
        });
    }

    /// It is considered again.
    pub(super) fn wake(&mut self, device: K) {
        if let Some(order) = self.order_of.get(&device).copied() {
            self.change(&order, |waiting| waiting.sleeps = false);
        }
    }

    fn change(&mut self, order: &Order, change: impl FnOnce(&mut Waiting<K>)) {
        self.take_out(order);
        let Some(waiting) = self.waiting.get_mut(order) else {
            return;
        };
        change(waiting);
        let class = self.classes.entry(waiting.limit.min(self.most));
        let class = class.or_default();
        match waiting.expected {
            Some(at) if waiting.sleeps => {
                class.expected.insert((at, *order));
            }
            _ if waiting.sleeps => {}
            _ => {
                class.awake.insert((waiting.rank(), *order));
            }
        }
    }

    pub(super) fn leave_queue(&mut self, device: K) {
        if let Some(order) = self.order_of.remove(&device) {
            self.take_out(&order);
            self.waiting.remove(&order);
        }
    }

    fn take_out(&mut self, order: &Order) {
        if let Some(waiting) = self.waiting.get(order)
            && let Some(class) = self.classes.get_mut(&waiting.limit.min(self.most))
        {
            class.awake.remove(&(waiting.rank(), *order));
            if let Some(at) = waiting.expected {
                class.expected.remove(&(at, *order));
            }
        }
    }

    /// It is not considered before it wakes. One that is expected comes for the turn that it was promised.
    fn doze(&mut self, order: &Order) {
        self.change(order, |waiting| {
            waiting.sleeps = true;
            waiting.promised = waiting.promised.filter(|_| waiting.expected.is_some());
        });
    }

    /// Its place among the devices of its limit.
    pub(super) fn rank(&self, order: &Order) -> Option<(u64, Order)> {
        Some((self.waiting.get(order)?.rank(), *order))
    }

    /// When a device that sleeps is expected, unless it is late already.
    pub(super) fn expected_back(&self, order: &Order, now: Instant) -> Option<Instant> {
        let at = self.waiting.get(order)?.expected?;
        (now <= at + LATE_AT_MOST).then(|| at.max(now))
    }

    /// A device that waits has a slot from now on: those of larger limits may overtake the next one of its own.
    pub(super) fn grant(&mut self, device: K, end: Instant) {
        let waiting = (self.order_of.get(&device)).and_then(|order| self.waiting.get(order));
        if let Some(limit) = waiting.map(|waiting| self.class_of(waiting.limit)) {
            for (_, class) in self.classes.range_mut(limit.saturating_add(1)..) {
                class.has_overtaken = false;
            }
        }
        self.leave_queue(device);
        self.hold(device, end);
    }

    pub(super) fn hold(&mut self, device: K, end: Instant) {
        self.ends.insert(device, end);
    }

    pub(super) fn holds(&self, device: K) -> bool {
        self.ends.contains_key(&device)
    }

    pub(super) fn release(&mut self, device: K) {
        self.ends.remove(&device);
    }

    /// Slots in use.
    pub(super) fn active(&self) -> u32 {
        u32::try_from(self.ends.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn ahead(&self, device: K) -> usize {
        let order = self.order_of.get(&device);
        order.map_or(0, |order| self.waiting.range(..*order).count())
    }

    pub(super) fn devices(&self) -> impl Iterator<Item = K> {
        self.waiting.values().map(|waiting| waiting.device)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ends.is_empty() && self.waiting.is_empty()
    }

    pub(super) fn device(&self, order: &Order) -> Option<K> {
        self.waiting.get(order).map(|waiting| waiting.device)
    }

    /// When the slots in use are expected to come back, the earliest first. One that is overdue is given as long again as it is
    /// overdue.
    pub(super) fn expected_ends(&self, now: Instant) -> Vec<Instant> {
        let mut ends: Vec<Instant> = (self.ends.values())
            .map(|end| (*end).max(now + now.since(*end)))
            .collect();
        ends.sort_unstable();
        ends
    }

    /// What is to be done next, and how long whoever is admitted will hold its slot.
    pub(super) fn next_step(
        &mut self,
        now: Instant,
        overtake: Duration,
        mut look: impl FnMut(K) -> Outlook,
    ) -> Option<(Step<K>, Duration)> {
        let mut walk = Walk {
            now,
            overtake,
            taken: self.active(),
            ceiling: u32::MAX,
            free_by: None,
            reserved: false,
            later: None,
            ends: None,
            behind: 0,
        };
        let mut asleep = Vec::new();
        let mut next = None;
        let limits: Vec<u32> = self.classes.keys().copied().collect();
        for limit in limits {
            next = self.step_in_class(limit, &mut walk, &mut asleep, &mut look);
            if next.is_some() {
                break;
            }
        }
        for order in asleep {
            self.doze(&order);
        }
        self.classes
            .retain(|_, class| !class.awake.is_empty() || !class.expected.is_empty());
        next.or_else(|| Some((Step::Later(walk.later?), Duration::ZERO)))
    }

    /// None of that limit is awake: whoever is expected next may need the lane emptier.
    fn expect_in_class(&mut self, limit: u32, walk: &mut Walk, asleep: &mut Vec<Order>) {
        let now = walk.now;
        for order in asleep.drain(..) {
            self.doze(&order);
        }
        let Some(class) = self.classes.get_mut(&limit) else {
            return;
        };
        // who is late is not waited for
        while let Some((at, _)) = class.expected.first()
            && *at + LATE_AT_MOST < now
        {
            class.expected.pop_first();
        }
        let next = class.expected.first().map(|(at, _)| *at);
        let others = (self.classes.range(limit.saturating_add(1)..))
            .any(|(_, class)| !class.awake.is_empty());
        if let Some(at) = next.filter(|_| others) {
            walk.expects(limit, at, || self.expected_ends(now));
        }
    }

    /// The same among the devices of one limit.
    fn step_in_class(
        &mut self,
        limit: u32,
        walk: &mut Walk,
        asleep: &mut Vec<Order>,
        look: &mut impl FnMut(K) -> Outlook,
    ) -> Option<(Step<K>, Duration)> {
        let now = walk.now;
        walk.behind = 0;
        let class = self.classes.get_mut(&limit)?;
        let (mut held_since, mut has_overtaken) = (class.held_since.take(), class.has_overtaken);
        let mut next = None;
        let mut somebody = false;
        for (_, order) in &self.classes.get(&limit)?.awake {
            let Some(device) = self.device(order) else {
                continue;
            };
            if (walk.ceiling..limit).contains(&walk.taken) {
                somebody = true;
                break; // the slot is about to be another's
            }
            let outlook = look(device);
            if outlook.readiness == Readiness::Asleep {
                asleep.push(*order);
                continue;
            }
            somebody = true;
            if walk.taken >= limit {
                has_overtaken |= held_since.is_some_and(|since| now.since(since) >= walk.overtake);
                held_since = None;
                let Some(turn) = walk.turn_of_next(limit, || self.expected_ends(now)) else {
                    break;
                };
                match walk.ahead_of(turn, device, outlook.readiness) {
                    Ahead::Do(step) => next = Some((step, outlook.service)),
                    Ahead::Next => continue,
                    Ahead::Later => {}
                }
                break;
            }
            if walk.free_by.is_none() {
                has_overtaken = false; // nobody needs the lane emptier
            }
            if walk.holds_back(outlook.service, &mut held_since, has_overtaken) {
                break;
            }
            let step = match outlook.readiness {
                Readiness::Ready => Step::Admit(device),
                Readiness::Stale => Step::Measure(device),
                Readiness::Unheard => Step::Ping(device),
                Readiness::Probing | Readiness::Asleep => {
                    // The slot may be its own in a moment: one probe for each free slot.
                    walk.taken += 1;
                    walk.ceiling = walk.ceiling.min(limit);
                    continue;
                }
            };
            next = Some((step, outlook.service));
            break;
        }
        if let Some(class) = self.classes.get_mut(&limit) {
            class.held_since = held_since.filter(|_| somebody);
            class.has_overtaken = has_overtaken;
        }
        if !somebody {
            self.expect_in_class(limit, walk, asleep);
        }
        next
    }
}

/// When a lane is to be emptier for a device of that limit, which is expected `at`, if whoever is admitted now and is there
/// longer would be in its way.
pub(super) fn free_by_then(limit: u32, at: Instant, ends: &[Instant]) -> Option<Instant> {
    let fits_at = (ends.len().checked_sub(limit as usize)).and_then(|too_many| ends.get(too_many));
    let at = fits_at.map_or(at, |fits_at| at.max(*fits_at));
    let there = ends.len() - ends.partition_point(|end| *end <= at);
    (there + 1 >= limit as usize).then(|| at + SETTLES_IN)
}

/// What the classes of smaller limits leave to those of larger ones.
struct Walk {
    now: Instant,
    overtake: Duration,
    /// Slots in use, and those that are kept for devices that are being looked for.
    taken: u32,
    /// With more slots taken, one of those would no longer fit.
    ceiling: u32,
    /// Whoever is admitted is to have ended by then.
    free_by: Option<Instant>,
    /// Somebody is there who needs the lane emptier, and not only expected.
    reserved: bool,
    /// When there is something to do, though nothing happens until then.
    later: Option<Instant>,
    ends: Option<Vec<Instant>>,
    /// Devices of the class that do not fit, and come before the one that is looked at.
    behind: usize,
}

/// What is done for a device that does not fit yet.
enum Ahead<K> {
    Do(Step<K>),
    /// Nothing more; the one behind it is looked at.
    Next,
    /// It is too early, for those behind it as well.
    Later,
}

impl Walk {
    /// When the next device of a class that does not fit will, as enough slots have come back: until the first of them
    /// does, nobody is to be admitted who would still be there then. `None` for those who come after all slots in use.
    fn turn_of_next(&mut self, limit: u32, ends: impl Fn() -> Vec<Instant>) -> Option<Instant> {
        let ends = self.ends.get_or_insert_with(ends);
        let too_many = self.taken.saturating_sub(limit) as usize;
        let turn = ends.get(too_many + self.behind).copied();
        if self.behind == 0 {
            // Slots that are kept for somebody have no end: whoever is looked for may turn out to be away.
            let by = turn.unwrap_or(self.now);
            self.free_by = Some(self.free_by.map_or(by, |other| other.min(by)));
            self.reserved = true;
        }
        self.behind += 1;
        turn
    }

    /// A device of that limit is expected then.
    fn expects(&mut self, limit: u32, at: Instant, ends: impl Fn() -> Vec<Instant>) {
        let ends = self.ends.get_or_insert_with(ends);
        if let Some(by) = free_by_then(limit, at, ends) {
            self.free_by = Some(self.free_by.map_or(by, |other| other.min(by)));
            self.look_again(at + LATE_AT_MOST + Duration::from_millis(1));
        }
    }

    /// What is done before a device's turn, so that nothing stands between it and the slot.
    fn ahead_of<K>(&mut self, turn: Instant, device: K, readiness: Readiness) -> Ahead<K> {
        let from = turn.before(LOOKED_FOR_AHEAD);
        if self.now < from {
            self.look_again(from);
            return Ahead::Later;
        }
        match readiness {
            Readiness::Stale => Ahead::Do(Step::Measure(device)),
            Readiness::Unheard => Ahead::Do(Step::Ping(device)),
            Readiness::Ready | Readiness::Probing | Readiness::Asleep => Ahead::Next,
        }
    }

    fn look_again(&mut self, at: Instant) {
        self.later = Some(self.later.map_or(at, |other| other.min(at)));
    }

    /// Whether a device that fits is held back, because it would be in the way of one that needs an emptier lane.
    fn holds_back(
        &mut self,
        service: Duration,
        held_since: &mut Option<Instant>,
        has_overtaken: bool,
    ) -> bool {
        let in_the_way = (self.free_by).is_some_and(|by| self.now + service > by);
        if !in_the_way {
            // its turn comes as that of the others does, or it has had enough of waiting already
            if held_since.is_none_or(|since| self.now.since(since) < self.overtake) {
                *held_since = None;
            }
            return false;
        }
        if has_overtaken && self.reserved {
            return true; // one turn for each of the others
        }
        let until = *held_since.get_or_insert(self.now) + self.overtake;
        if until <= self.now {
            return false;
        }
        self.look_again(until);
        true
    }
}
