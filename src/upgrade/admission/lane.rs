//! One lane: who holds a slot until about when, who waits, and what is to be done next.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::Hash,
    time::Duration,
};

use super::{
    Outlook, Readiness, Step,
    further::Furthers,
    share::{Entry, Order, Owed, Shares, Turns},
    walk::{Ahead, LATE_AT_MOST, Walk},
};
use crate::{clock::Instant, ledger::TaskId};

/// What is known of a step that admits somebody.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Next {
    /// How long it will hold its slot.
    pub(super) service: Duration,
    /// It is not the turn of its task, whose turn it is has nobody who fits, and does not wait longer for this.
    pub(super) fills_in: bool,
}

#[derive(Debug)]
pub(super) struct LaneState<K> {
    /// Who holds a slot, and when it is expected to come back.
    ends: HashMap<K, Instant>,
    waiting: BTreeMap<Order, Waiting<K>>,
    order_of: HashMap<K, Order>,
    /// By their tasks.
    pub(super) queues: BTreeMap<TaskId, TaskQueue>,
    /// Whose turn it is among tasks.
    pub(super) turns: Turns,
    promises: u64,
    /// How many may hold a slot, whatever coverage allows.
    most: u32,
}

#[derive(Debug)]
struct Waiting<K> {
    device: K,
    task: TaskId,
    limit: u32,
    /// Its place among those who are kept awake for a turn, or come for one.
    promised: Option<u64>,
    /// It comes when it is told to.
    comes_when_told: bool,
    /// When it is expected, once it sleeps.
    expected: Option<Instant>,
    sleeps: bool,
    /// There was no room for it in a further lane: it is not considered before there is.
    passed_over: bool,
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

/// Devices of the same task.
#[derive(Debug)]
pub(super) struct TaskQueue {
    /// By the limits of their devices.
    pub(super) classes: BTreeMap<u32, Class>,
    /// Those that are worth a look, in the order in which they came.
    awake: BTreeSet<Order>,
    owed: Owed,
    /// How many they are.
    waiting: usize,
}

/// Devices of the same task and limit.
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
            queues: BTreeMap::new(),
            turns: Turns::default(),
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
        for queue in self.queues.values_mut() {
            queue.classes.clear();
        }
        let orders: Vec<Order> = self.waiting.keys().copied().collect();
        for order in orders {
            self.change(&order, |_| ());
        }
    }

    /// The limit by which a device is classed.
    fn class_of(&self, limit: u32) -> u32 {
        limit.min(self.most)
    }

    pub(super) fn wait(&mut self, device: K, task: TaskId, limit: u32, order: Order) {
        let order = *self.order_of.entry(device).or_insert(order);
        self.take_out(&order);
        let before = self.waiting.remove(&order);
        if let Some(before) = &before {
            self.leave_task(before.task);
        }
        let joins = self.turns.joins();
        let queue = self.queues.entry(task).or_insert_with(|| TaskQueue {
            classes: BTreeMap::new(),
            awake: BTreeSet::new(),
            owed: joins,
            waiting: 0,
        });
        queue.waiting += 1;
        let waiting = Waiting {
            device,
            task,
            limit,
            promised: before.as_ref().and_then(|before| before.promised),
            comes_when_told: (before.as_ref()).is_some_and(|before| before.comes_when_told),
            expected: before.and_then(|before| before.expected),
            sleeps: false,
            passed_over: false,
        };
        self.waiting.insert(order, waiting);
        self.wake(device);
    }

    /// One less waits of a task. What it has had too early is not forgotten.
    fn leave_task(&mut self, task: TaskId) {
        if let Some(queue) = self.queues.get_mut(&task) {
            queue.waiting -= 1;
            if queue.waiting == 0 && self.turns.owes(queue.owed) {
                self.queues.remove(&task);
            }
        }
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

    /// There may be room for it in its further lanes.
    pub(super) fn consider(&mut self, device: K) {
        if let Some(order) = self.order_of.get(&device).copied() {
            self.change(&order, |waiting| waiting.passed_over = false);
        }
    }

    fn change(&mut self, order: &Order, change: impl FnOnce(&mut Waiting<K>)) {
        self.take_out(order);
        let Some(waiting) = self.waiting.get_mut(order) else {
            return;
        };
        change(waiting);
        let Some(queue) = self.queues.get_mut(&waiting.task) else {
            return;
        };
        let class = queue.classes.entry(waiting.limit.min(self.most));
        let class = class.or_default();
        match waiting.expected {
            Some(at) if waiting.sleeps => {
                class.expected.insert((at, *order));
            }
            _ if waiting.sleeps || waiting.passed_over => {}
            _ => {
                class.awake.insert((waiting.rank(), *order));
                queue.awake.insert(*order);
            }
        }
    }

    pub(super) fn leave_queue(&mut self, device: K) {
        if let Some(order) = self.order_of.remove(&device) {
            self.take_out(&order);
            if let Some(waiting) = self.waiting.remove(&order) {
                self.leave_task(waiting.task);
            }
        }
    }

    fn take_out(&mut self, order: &Order) {
        if let Some(waiting) = self.waiting.get(order)
            && let Some(queue) = self.queues.get_mut(&waiting.task)
        {
            queue.awake.remove(order);
            if let Some(class) = queue.classes.get_mut(&waiting.limit.min(self.most)) {
                class.awake.remove(&(waiting.rank(), *order));
                if let Some(at) = waiting.expected {
                    class.expected.remove(&(at, *order));
                }
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

    fn doze_all<L: Copy + Ord + Hash>(
        &mut self,
        asleep: impl Iterator<Item = Order>,
        furthers: &mut Furthers<K, L>,
    ) {
        for order in asleep {
            if let Some(device) = self.device(&order) {
                furthers.sleeps(device);
            }
            self.doze(&order);
        }
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
    pub(super) fn grant(&mut self, device: K, next: Next, now: Instant, shares: &Shares) {
        let waiting = (self.order_of.get(&device)).and_then(|order| self.waiting.get(order));
        if let Some((task, limit)) =
            waiting.map(|waiting| (waiting.task, self.class_of(waiting.limit)))
        {
            self.serve(task, next.fills_in, now, shares);
            for queue in self.queues.values_mut() {
                for (_, class) in queue.classes.range_mut(limit.saturating_add(1)..) {
                    class.has_overtaken = false;
                }
            }
        }
        self.leave_queue(device);
        self.hold(device, now + next.service);
    }

    fn serve(&mut self, task: TaskId, fills_in: bool, now: Instant, shares: &Shares) {
        if self.queues.len() == 1 {
            return;
        }
        let mut entries = self.entries(now, shares);
        self.turns.serve(task, fills_in, &mut entries);
        for entry in entries {
            if let Some(queue) = self.queues.get_mut(&entry.task) {
                queue.owed = entry.owed;
            }
        }
        let turns = self.turns;
        self.queues
            .retain(|_, queue| queue.waiting > 0 || !turns.owes(queue.owed));
    }

    /// The tasks that wait.
    pub(super) fn entries(&self, now: Instant, shares: &Shares) -> Vec<Entry> {
        let active = self.active();
        let entries = self.queues.iter().map(|(task, queue)| {
            let oldest = queue.awake.first().copied();
            let mut fit = queue.classes.range(active.saturating_add(1)..);
            Entry {
                task: *task,
                claim: shares.claim(*task, oldest.map(|(since, _)| since), now),
                owed: queue.owed,
                oldest,
                fits: fit.any(|(_, class)| !class.awake.is_empty()),
            }
        });
        entries.collect()
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

    /// What is to be done next in this lane, with room in the further ones of whoever it is done for.
    pub(super) fn next_step<L: Copy + Ord + Hash>(
        &mut self,
        now: Instant,
        overtake: Duration,
        shares: &Shares,
        (lane, furthers): (L, &mut Furthers<K, L>),
        mut look: impl FnMut(K) -> Outlook,
    ) -> Option<(Step<K>, Next)> {
        let mut walk = Walk::new(now, overtake, self.active());
        let mut tasks = self.entries(now, shares);
        tasks.sort_by_cached_key(|entry| self.turns.place(entry));
        let awake = tasks.iter().filter(|entry| entry.oldest.is_some());
        let highest = awake.map(|entry| entry.claim.priority).max();
        let mut asleep = Vec::new();
        let mut next = None;
        let mut before = None;
        for Entry { task, claim, .. } in tasks {
            let lower = before.is_some_and(|before| claim.priority < before);
            before = Some(claim.priority);
            if let Some(at) = claim.rises_at.filter(|_| Some(claim.priority) < highest) {
                walk.look_again(at);
            }
            walk.next_task(lower);
            let mut beside = (lane, &mut *furthers);
            next = self.steps_of_task(task, &mut walk, &mut asleep, &mut beside, &mut look);
            if next.is_some() {
                break;
            }
        }
        self.doze_all(asleep.into_iter(), furthers);
        for queue in self.queues.values_mut() {
            (queue.classes)
                .retain(|_, class| !class.awake.is_empty() || !class.expected.is_empty());
        }
        next.or_else(|| Some((Step::Later(walk.later?), Next::default())))
    }

    fn steps_of_task<L: Copy + Ord + Hash>(
        &mut self,
        task: TaskId,
        walk: &mut Walk,
        asleep: &mut Vec<Order>,
        beside: &mut (L, &mut Furthers<K, L>),
        look: &mut impl FnMut(K) -> Outlook,
    ) -> Option<(Step<K>, Next)> {
        let limits: Vec<u32> = self.queues.get(&task)?.classes.keys().copied().collect();
        limits.into_iter().find_map(|limit| {
            let (step, service) = self.step_in_class((task, limit), walk, asleep, beside, look)?;
            let fills_in = walk.fills_in();
            Some((step, Next { service, fills_in }))
        })
    }

    fn class_mut(&mut self, (task, limit): (TaskId, u32)) -> Option<&mut Class> {
        self.queues.get_mut(&task)?.classes.get_mut(&limit)
    }

    /// None of that limit is awake: whoever is expected next may need the lane emptier.
    fn expect_in_class<L: Copy + Ord + Hash>(
        &mut self,
        of: (TaskId, u32),
        walk: &mut Walk,
        asleep: &mut Vec<Order>,
        furthers: &mut Furthers<K, L>,
    ) {
        let (_, limit) = of;
        let now = walk.now;
        self.doze_all(asleep.drain(..), furthers);
        let Some(class) = self.class_mut(of) else {
            return;
        };
        // who is late is not waited for
        while let Some((at, _)) = class.expected.first()
            && *at + LATE_AT_MOST < now
        {
            class.expected.pop_first();
        }
        let next = class.expected.first().map(|(at, _)| *at);
        let others = self.queues.values().any(|queue| {
            let mut larger = queue.classes.range(limit.saturating_add(1)..);
            larger.any(|(_, class)| !class.awake.is_empty())
        });
        if let Some(at) = next.filter(|_| others) {
            walk.expects(limit, at, || self.expected_ends(now));
        }
    }

    /// The same among the devices of one limit.
    #[expect(clippy::too_many_lines, reason = "one walk along the class")]
    fn step_in_class<L: Copy + Ord + Hash>(
        &mut self,
        of: (TaskId, u32),
        walk: &mut Walk,
        asleep: &mut Vec<Order>,
        (lane, furthers): &mut (L, &mut Furthers<K, L>),
        look: &mut impl FnMut(K) -> Outlook,
    ) -> Option<(Step<K>, Duration)> {
        let (task, limit) = of;
        let now = walk.now;
        walk.behind = 0;
        let class = self.class_mut(of)?;
        let (mut held_since, mut has_overtaken) = (class.held_since.take(), class.has_overtaken);
        let (mut next, mut somebody) = (None, false);
        let mut passed_over = Vec::new();
        for (_, order) in &self.queues.get(&task)?.classes.get(&limit)?.awake {
            let Some(device) = self.device(order) else {
                continue;
            };
            let outlook = look(device);
            if outlook.readiness == Readiness::Asleep {
                asleep.push(*order); // also where it could not have one: a class that sleeps is not held back
                continue;
            }
            if let Err(full) = furthers.fits(device, *order, look) {
                passed_over.push((*order, device, full));
                continue;
            }
            somebody = true;
            if (walk.ceiling..limit).contains(&walk.taken) || walk.is_kept() {
                break; // the slot is about to be another's
            }
            if walk.taken >= limit {
                has_overtaken |= walk.has_waited(held_since);
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
            if !walk.needs_room(limit) {
                has_overtaken = false; // nobody needs the lane emptier
            }
            if walk.holds_back(limit, outlook.service, &mut held_since, has_overtaken) {
                break;
            }
            let step = match outlook.readiness {
                Readiness::Ready => Step::Admit(device),
                Readiness::Stale => Step::Measure(device),
                Readiness::Unheard => Step::Ping(device),
                Readiness::Probing | Readiness::Asleep => {
                    // The slot may be its own in a moment: one probe for each free slot.
                    furthers.claim(device);
                    walk.taken += 1;
                    walk.ceiling = walk.ceiling.min(limit);
                    continue;
                }
            };
            if !matches!(step, Step::Admit(_)) {
                furthers.claim(device);
            }
            next = Some((step, outlook.service));
            break;
        }
        for (order, device, full) in passed_over {
            self.change(&order, |waiting| waiting.passed_over = true);
            furthers.pass_over(now, device, full, (*lane, task, limit), order);
        }
        if let Some(class) = self.class_mut(of) {
            class.held_since = held_since.filter(|_| somebody);
            class.has_overtaken = has_overtaken;
        }
        if !somebody {
            self.expect_in_class(of, walk, asleep, furthers);
        }
        next
    }
}
