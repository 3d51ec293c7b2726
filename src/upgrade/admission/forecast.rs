//! What the queue of a lane comes to, if all goes as expected.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    hash::Hash,
};

use super::{
    Outlook, Readiness,
    lane::{Class, LaneState},
    share::{Entry, Order, Shares, Turns},
    walk::{earlier, free_by_then},
};
use crate::{clock::Instant, ledger::TaskId};

/// Devices of a limit that are looked at, of those that are awake, and of those that are expected: a forecast is about the next
/// ones. Where several tasks have devices that wait, these are divided between them.
const MOST_AWAKE: usize = 512;
const MOST_EXPECTED: usize = 1_024;
/// So many are looked at however many tasks there are.
const LEAST: usize = 16;

/// A device that waits.
#[derive(Debug, Clone, Copy)]
struct Candidate<K> {
    device: K,
    rank: (u64, Order),
    outlook: Outlook,
}

/// A device for which there is no room in a further lane before a time: it is as if it were asleep until then.
pub(super) struct PassedOver<K> {
    pub(super) device: K,
    pub(super) task: TaskId,
    pub(super) limit: u32,
    pub(super) order: Order,
    pub(super) at: Instant,
}

/// Devices of a limit.
struct Queue<K> {
    limit: u32,
    awake: BTreeMap<(u64, Order), Candidate<K>>,
    /// Those who sleep, in the order in which they are expected.
    expected: VecDeque<(Instant, Candidate<K>)>,
}

impl<K: Copy + Ord + Hash> Queue<K> {
    fn of(
        state: &LaneState<K>,
        limit: u32,
        (class, tasks): (&Class, usize),
        (now, horizon): (Instant, Instant),
        look: &mut impl FnMut(K) -> Outlook,
    ) -> Self {
        let mut awake = BTreeMap::new();
        let mut expected = Vec::new();
        let all = class
            .awake
            .iter()
            .copied()
            .take((MOST_AWAKE / tasks).max(LEAST));
        // of those who come when nobody asks any more, the first one may be waited for
        let mut later = false;
        let asleep = (class.expected.iter().copied())
            .take((MOST_EXPECTED / tasks).max(LEAST))
            .take_while(|(at, _)| !std::mem::replace(&mut later, *at > horizon))
            .filter_map(|(_, order)| state.rank(&order));
        for rank in all.chain(asleep) {
            let (_, order) = rank;
            let Some(device) = state.device(&order) else {
                continue;
            };
            let outlook = look(device);
            let candidate = Candidate {
                device,
                rank,
                outlook,
            };
            if outlook.readiness != Readiness::Asleep {
                awake.insert(rank, candidate);
            } else if let Some(at) = state.expected_back(&order, now) {
                expected.push((at, candidate));
            }
        }
        expected.sort_unstable_by_key(|(at, candidate)| (*at, candidate.rank));
        Self {
            limit,
            awake,
            expected: expected.into(),
        }
    }

    /// Those who were expected by then are there.
    fn wake(&mut self, at: Instant) {
        while let Some((_, candidate)) = self.expected.pop_front_if(|(from, _)| *from <= at) {
            self.awake.insert(candidate.rank, candidate);
        }
    }

    /// The first one that can be reached.
    fn first(&mut self, at: Instant) -> Option<Candidate<K>> {
        while let Some(first) = self.awake.first_entry() {
            if first.get().outlook.reach >= at {
                return Some(*first.get());
            }
            first.remove(); // it has fallen asleep
        }
        None
    }
}

/// Devices of a task.
struct Line<K> {
    entry: Entry,
    queues: Vec<Queue<K>>,
}

impl<K: Copy + Ord + Hash> Line<K> {
    /// One that was passed over comes when there is room for it.
    fn expect(&mut self, limit: u32, at: Instant, candidate: Candidate<K>) {
        let place = self.queues.partition_point(|queue| queue.limit < limit);
        if self.queues.get(place).is_none_or(|it| it.limit != limit) {
            let queue = Queue {
                limit,
                awake: BTreeMap::new(),
                expected: VecDeque::new(),
            };
            self.queues.insert(place, queue);
        }
        if let Some(queue) = self.queues.get_mut(place) {
            let comes = (at, candidate.rank);
            let place = (queue.expected).partition_point(|(at, it)| (*at, it.rank) < comes);
            queue.expected.insert(place, (at, candidate));
        }
    }

    /// Whom it has awake at that time, and whether one of them fits beside so many.
    fn look(&mut self, at: Instant, active: usize) {
        (self.entry.oldest, self.entry.fits) = (None, false);
        for queue in &mut self.queues {
            if let Some(first) = queue.first(at) {
                let (_, order) = first.rank;
                self.entry.oldest = Some(self.entry.oldest.map_or(order, |it| it.min(order)));
                self.entry.fits |= active < queue.limit as usize;
            }
        }
    }
}

/// When those of `devices` that can be reached then are admitted, by the rules of [`LaneState::next_step`] with all devices as
/// they are expected to be, and tasks of the priorities that they have come to.
pub(super) fn turns<K: Copy + Ord + Hash>(
    state: &LaneState<K>,
    shares: &Shares,
    now: Instant,
    (devices, passed_over): (&[K], &[PassedOver<K>]),
    mut look: impl FnMut(K) -> Outlook,
) -> HashMap<K, Instant> {
    let horizon = devices.iter().map(|device| look(*device).reach).max();
    let horizon = horizon.unwrap_or(now);
    let entries = state.entries(now, shares);
    let tasks = entries.len().max(1);
    let lines = entries.into_iter().filter_map(|entry| {
        let classes = state.queues.get(&entry.task)?.classes.iter();
        let queues = classes.map(|(limit, class)| {
            Queue::of(state, *limit, (class, tasks), (now, horizon), &mut look)
        });
        let queues = queues.collect();
        Some(Line { entry, queues })
    });
    let mut lines: Vec<Line<K>> = lines.collect();
    for it in passed_over {
        let line = lines.iter_mut().find(|line| line.entry.task == it.task);
        if let (Some(line), Some(rank)) = (line, state.rank(&it.order)) {
            let outlook = look(it.device);
            let device = it.device;
            line.expect(
                it.limit,
                it.at.max(now),
                Candidate {
                    device,
                    rank,
                    outlook,
                },
            );
        }
    }
    let mut clock = state.turns;
    let mut wanted: HashSet<K> = devices.iter().copied().collect();
    let mut ends = state.expected_ends(now);
    let mut turns = HashMap::new();
    let mut at = now;
    while at <= horizon && !wanted.is_empty() {
        for queue in lines.iter_mut().flat_map(|line| &mut line.queues) {
            queue.wake(at);
        }
        while let Some(next) = admit(&mut lines, &mut clock, &ends, at) {
            let end = at + next.outlook.service;
            let place = ends.partition_point(|other| *other <= end);
            ends.insert(place, end);
            if wanted.remove(&next.device) {
                turns.insert(next.device, at);
            }
        }
        let queues = lines.iter().flat_map(|line| &line.queues);
        let comes = queues.filter_map(|queue| queue.expected.front());
        let next = (ends.first().copied().into_iter())
            .chain(comes.map(|(from, _)| *from))
            .min();
        let Some(next) = next else { break };
        at = next.max(at);
        let over = ends.partition_point(|end| *end <= at);
        ends.drain(..over);
    }
    turns
}

/// The next one that is admitted at that time, taken out of its queue.
fn admit<K: Copy + Ord + Hash>(
    lines: &mut [Line<K>],
    clock: &mut Turns,
    ends: &[Instant],
    at: Instant,
) -> Option<Candidate<K>> {
    if lines.len() > 1 {
        for line in &mut *lines {
            line.look(at, ends.len());
        }
        lines.sort_by_cached_key(|line| clock.place(&line.entry));
    }
    let (task, next, fills_in) = first_that_fits(lines, ends, at)?;
    if lines.len() > 1 {
        let mut entries: Vec<Entry> = lines.iter().map(|line| line.entry).collect();
        clock.serve(task, fills_in, &mut entries);
        for (line, entry) in lines.iter_mut().zip(entries) {
            line.entry = entry;
        }
    }
    Some(next)
}

/// Of tasks in the order of their turns, the first device that is admitted; with its task, and whether it was another's turn.
fn first_that_fits<K: Copy + Ord + Hash>(
    lines: &mut [Line<K>],
    ends: &[Instant],
    at: Instant,
) -> Option<(TaskId, Candidate<K>, bool)> {
    let (mut above, mut free_by) = (None, None);
    let mut expected: Vec<(u32, Instant)> = Vec::new();
    let mut before = None;
    for line in lines {
        let Entry { task, claim, .. } = line.entry;
        if before
            .replace(claim.priority)
            .is_some_and(|before| claim.priority < before)
        {
            above = earlier(above, free_by.take());
        }
        let behind_others = free_by.is_some();
        for queue in &mut line.queues {
            let limit = queue.limit;
            let Some(first) = queue.first(at) else {
                let next = queue.expected.front();
                let by = next.and_then(|(from, _)| free_by_then(limit, *from, ends));
                expected.extend(by.map(|by| (limit, by)));
                continue;
            };
            if let Some(too_many) = ends.len().checked_sub(limit as usize) {
                free_by = earlier(free_by, ends.get(too_many).copied());
                continue;
            }
            let comes = expected.iter().filter(|(of, _)| *of < limit);
            let by = earlier(free_by, comes.map(|(_, by)| *by).min());
            if earlier(above, by).is_none_or(|by| at + first.outlook.service <= by) {
                let next = queue.awake.remove(&first.rank)?;
                return Some((task, next, behind_others));
            }
        }
    }
    None
}
