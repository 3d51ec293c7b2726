//! What the queue of a lane comes to, if all goes as expected.

use std::hash::Hash;

use super::{Outlook, Readiness, lane::LaneState};
use crate::clock::Instant;

/// Devices of a limit that are looked at: a forecast is about the next ones.
const MOST_OF_A_CLASS: usize = 256;

/// A device that waits.
#[derive(Debug, Clone, Copy)]
struct Candidate<K> {
    device: K,
    outlook: Outlook,
}

/// Who is admitted when, by the rules of [`LaneState::next_step`] with all devices as they are expected to be.
pub(super) fn turns<K: Copy + Ord + Hash>(
    state: &LaneState<K>,
    now: Instant,
    horizon: Instant,
    mut look: impl FnMut(K) -> Outlook,
) -> Vec<(K, Instant)> {
    let mut queues: Vec<(u32, Vec<Candidate<K>>)> = (state.classes.iter())
        .map(|(limit, class)| {
            let candidates = (class.awake.iter())
                .filter_map(|(_, order)| {
                    let device = state.device(order)?;
                    let outlook = look(device);
                    (outlook.readiness != Readiness::Asleep)
                        .then_some(Candidate { device, outlook })
                })
                .take(MOST_OF_A_CLASS)
                .collect();
            (*limit, candidates)
        })
        .collect();
    let mut ends = state.expected_ends(now);
    let mut turns = Vec::new();
    let mut at = now;
    while at <= horizon {
        for (_, queue) in &mut queues {
            // Whoever cannot be reached any more by then has fallen asleep.
            queue.retain(|candidate| candidate.outlook.reach >= at);
        }
        while let Some(next) = admit(&mut queues, &ends, at) {
            let end = at + next.outlook.service;
            let place = ends.partition_point(|other| *other <= end);
            ends.insert(place, end);
            turns.push((next.device, at));
        }
        let Some(next) = ends.first().copied() else {
            break;
        };
        at = next.max(at);
        let over = ends.partition_point(|end| *end <= at);
        ends.drain(..over);
        if queues.iter().all(|(_, queue)| queue.is_empty()) {
            break;
        }
    }
    turns
}

/// The next one that is admitted at that time, taken out of its queue.
fn admit<K: Copy>(
    queues: &mut [(u32, Vec<Candidate<K>>)],
    ends: &[Instant],
    at: Instant,
) -> Option<Candidate<K>> {
    let mut free_by: Option<Instant> = None;
    for (limit, queue) in queues {
        let Some(first) = queue.first() else {
            continue;
        };
        if let Some(too_many) = ends.len().checked_sub(*limit as usize) {
            let fits_at = ends.get(too_many).copied();
            free_by = [free_by, fits_at].into_iter().flatten().min();
            continue;
        }
        if free_by.is_none_or(|by| at + first.outlook.service <= by) {
            return Some(queue.remove(0));
        }
    }
    None
}
