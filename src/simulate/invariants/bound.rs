//! How fast it could have gone: the slots that were held, and when devices could be reached for the first time.

use std::time::Duration;

use super::{Invariants, Rule};
use crate::upgrade::lower_bound;

/// What a device did with slots.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Held {
    /// The slot that it holds: its cell, the limit by which it was admitted, and since when, ms.
    slot: Option<(u32, u32, u64)>,
    /// All that it held, ms.
    total_ms: u64,
    /// When it was heard for the first time in the task, ms.
    first_heard_ms: Option<u64>,
}

impl Held {
    /// The server is gone. A slot that nobody has written down is held no more.
    pub(super) fn crashed(&mut self, committed: Option<u32>) {
        self.slot = self.slot.filter(|(cell, ..)| Some(*cell) == committed);
    }
}

impl Invariants {
    /// A device is heard: from now on it could have had a slot.
    pub(super) fn could_be_served(&mut self, now_ms: u64, device: usize) {
        if let Some(subject) = self.subjects.get_mut(device)
            && subject.emitted.stage.is_some()
        {
            subject.held.first_heard_ms.get_or_insert(now_ms);
        }
    }

    /// A device has a slot from now on, by that limit.
    pub(super) fn begins_to_hold(&mut self, now_ms: u64, device: usize, cell: u32, limit: u32) {
        self.subjects[device].held.slot = Some((cell, limit, now_ms));
    }

    /// It has none any more.
    pub(super) fn ends_to_hold(&mut self, now_ms: u64, device: usize) {
        let held = &mut self.subjects[device].held;
        let Some((cell, limit, since_ms)) = held.slot.take() else {
            return;
        };
        let took_ms = now_ms.saturating_sub(since_ms);
        held.total_ms += took_ms;
        let (total_ms, first_ms) = (held.total_ms, held.first_heard_ms);
        let served_ms = first_ms.map_or(0, |at| at.saturating_add(total_ms));
        if let Some(cell) = self.cell(cell) {
            *cell.service_ms.entry(limit).or_default() += took_ms;
            cell.served_ms = cell.served_ms.max(served_ms);
        }
    }

    /// The time before which each cell could not have ended, ms: the slots that its devices held, one beside the other as their
    /// limits allow ([`lower_bound`]), and the last device that was heard for the first time, with the time for which it held
    /// slots. A device is heard before it has a slot, because it is asked for its version. Nothing can be faster that
    /// keeps the limits and takes as long for each device.
    pub(in super::super) fn bounds(&mut self, start_ms: u64) -> Vec<u64> {
        let mut bounds = Vec::with_capacity(self.cells.len());
        for row in 0..self.cells.len() {
            let cell = &self.cells[row];
            let slots =
                (cell.service_ms.iter()).map(|(limit, ms)| (*limit, Duration::from_millis(*ms)));
            let by_slots_ms = u64::try_from(lower_bound(slots).as_millis()).unwrap_or(u64::MAX);
            let bound_ms = by_slots_ms.max(cell.served_ms.saturating_sub(start_ms));
            let (last_ms, number) = (cell.last_end_ms, self.first_cell as usize + row);
            if last_ms > 0 && last_ms.saturating_sub(start_ms) < bound_ms {
                self.violated(last_ms, Rule::Bound, || {
                    format!("cell {number} has ended before it can have: at least {bound_ms} ms")
                });
            }
            bounds.push(bound_ms);
        }
        bounds
    }
}
