//! What of the broker's messages is acknowledged, and when: in the order in which they came (MQTT 5 §4.6), each once what follows from
//! it is committed.

use std::{collections::VecDeque, num::NonZeroU16};

/// Messages of one connection that are not acknowledged.
#[derive(Debug, Default)]
pub(super) struct Settling {
    /// The oldest first, and whether it is settled.
    waiting: VecDeque<(NonZeroU16, bool)>,
}

impl Settling {
    /// One has come. Returns whether there is room for it.
    pub(super) fn came(&mut self, packet_id: NonZeroU16, most: usize) -> bool {
        // one that comes again before it was acknowledged is acknowledged again
        if self.waiting.len() >= most {
            return false;
        }
        self.waiting.push_back((packet_id, false));
        true
    }

    /// What follows from it is committed, or nothing does. Returns what is acknowledged now.
    pub(super) fn settled(&mut self, packet_id: NonZeroU16) -> Vec<NonZeroU16> {
        let mut waiting = self.waiting.iter_mut();
        if let Some(entry) = waiting.find(|(id, settled)| *id == packet_id && !settled) {
            entry.1 = true;
        }
        let mut done = Vec::new();
        while let Some((id, true)) = self.waiting.front() {
            done.push(*id);
            self.waiting.pop_front();
        }
        done
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// The connection is over: the broker sends them again, or has forgotten them.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }
}
