//! What of the broker's messages is acknowledged, and when: in the order in which they came (MQTT 5 §4.6), each once what follows from
//! it is committed.

use std::{collections::VecDeque, num::NonZeroU16, time::Duration};

use crate::clock::Instant;

/// A message that was not settled for so long, while later ones were, never will be. It would hold up all that come after it.
const STUCK_AFTER: Duration = Duration::from_mins(5);

#[derive(Debug)]
struct Waiting {
    packet_id: NonZeroU16,
    came_at: Instant,
    settled: bool,
}

/// Messages of one connection that are not acknowledged.
#[derive(Debug, Default)]
pub(super) struct Settling {
    /// The oldest first.
    waiting: VecDeque<Waiting>,
    /// What follows from a later message than the oldest was committed since that is the oldest: so it is not the store that is waited for.
    overtaken: bool,
}

impl Settling {
    /// One has come. Returns whether there is room for it.
    pub(super) fn came(&mut self, now: Instant, packet_id: NonZeroU16, most: usize) -> bool {
        // one that comes again before it was acknowledged is acknowledged again
        if self.waiting.len() >= most {
            return false;
        }
        self.waiting.push_back(Waiting {
            packet_id,
            came_at: now,
            settled: false,
        });
        true
    }

    /// What follows from it is committed (`stored`), or nothing does. Returns what is acknowledged now.
    pub(super) fn settled(&mut self, packet_id: NonZeroU16, stored: bool) -> Vec<NonZeroU16> {
        let mut waiting = self.waiting.iter_mut().enumerate();
        if let Some((place, entry)) =
            waiting.find(|(_, it)| it.packet_id == packet_id && !it.settled)
        {
            entry.settled = true;
            self.overtaken |= stored && place > 0;
        }
        let mut done = Vec::new();
        while let Some(entry) = self.waiting.pop_front_if(|it| it.settled) {
            done.push(entry.packet_id);
            self.overtaken = false;
        }
        done
    }

    /// When the oldest is stuck, unless it is settled before. `None` where nothing says that it will be.
    pub(super) fn stuck_at(&self) -> Option<Instant> {
        let oldest = self.waiting.front().filter(|_| self.overtaken)?;
        Some(oldest.came_at + STUCK_AFTER)
    }

    /// Whether the oldest is stuck. That is told once.
    pub(super) fn is_stuck(&mut self, now: Instant) -> bool {
        let stuck = self.stuck_at().is_some_and(|at| at <= now);
        self.overtaken &= !stuck;
        stuck
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// The connection is over: the broker sends them again, or has forgotten them.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
        self.overtaken = false;
    }
}
