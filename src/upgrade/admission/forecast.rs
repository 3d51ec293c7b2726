//! What the queue of a lane comes to, if all goes as expected.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    hash::Hash,
};

use super::{
    Outlook, Readiness,
    lane::{Class, LaneState, Order, free_by_then},
};
use crate::clock::Instant;

/// Devices of a limit that are looked at, of those that are awake, and of those that are expected: a forecast is about the next
/// ones.
const MOST_AWAKE: usize = 512;
const MOST_EXPECTED: usize = 1_024;

/// A device that waits.
#[derive(Debug, Clone, Copy)]
struct Candidate<K> {
    device: K,
    rank: (u64, Order),
    outlook: Outlook,
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
        class: &Class,
        now: Instant,
        look: &mut impl FnMut(K) -> Outlook,
    ) -> Self {
        let mut awake = BTreeMap::new();
        let mut expected = Vec::new();
        let all = class.awake.iter().copied().take(MOST_AWAKE);
        let asleep = (class.expected.iter().copied())
            .take(MOST_EXPECTED)
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

/// When those of `devices` that can be reached then are admitted, by the rules of [`LaneState::next_step`] with all devices as
/// they are expected to be.
pub(super) fn turns<K: Copy + Ord + Hash>(
    state: &LaneState<K>,
    now: Instant,
    devices: &[K],
    mut look: impl FnMut(K) -> Outlook,
) -> HashMap<K, Instant> {
    let horizon = devices.iter().map(|device| look(*device).reach).max();
    let horizon = horizon.unwrap_or(now);
    let mut queues: Vec<Queue<K>> = (state.classes.iter())
        .map(|(limit, class)| Queue::of(state, *limit, class, now, &mut look))
        .collect();
    let mut wanted: HashSet<K> = devices.iter().copied().collect();
    let mut ends = state.expected_ends(now);
    let mut turns = HashMap::new();
    let mut at = now;
    while at <= horizon && !wanted.is_empty() {
        for queue in &mut queues {
            queue.wake(at);
        }
        while let Some(next) = admit(&mut queues, &ends, at) {
            let end = at + next.outlook.service;
            let place = ends.partition_point(|other| *other <= end);
            ends.insert(place, end);
            if wanted.remove(&next.device) {
                turns.insert(next.device, at);
            }
        }
        let comes = queues.iter().filter_map(|queue| queue.expected.front());
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
    queues: &mut [Queue<K>],
    ends: &[Instant],
    at: Instant,
) -> Option<Candidate<K>> {
    let mut free_by: Option<Instant> = None;
    for queue in queues {
        let limit = queue.limit;
        let Some(first) = queue.first(at) else {
            let expected = queue.expected.front();
            let by = expected.and_then(|(from, _)| free_by_then(limit, *from, ends));
            free_by = [free_by, by].into_iter().flatten().min();
            continue;
        };
        if let Some(too_many) = ends.len().checked_sub(limit as usize) {
            let fits_at = ends.get(too_many).copied();
            free_by = [free_by, fits_at].into_iter().flatten().min();
            continue;
        }
        if free_by.is_none_or(|by| at + first.outlook.service <= by) {
            return queue.awake.remove(&first.rank);
        }
    }
    None
}
