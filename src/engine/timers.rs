use std::{cmp::Reverse, collections::BinaryHeap};

use super::key::DeviceKey;
use crate::clock::Instant;

/// What is looked after when its time has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Alarm {
    /// A device: its requests, its upgrade, its registration.
    Device(DeviceKey),
    /// A cell whose admissions are paced.
    Cell(u32),
}

/// Alarms in the order of their time. An alarm is not taken back: whoever it rings for finds out that
/// nothing is due.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, Alarm)>>,
}

impl Timers {
    pub(super) fn set(&mut self, at: Instant, alarm: Alarm) {
        self.heap.push(Reverse((at, alarm)));
    }

    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    pub(super) fn pop_due(&mut self, now: Instant) -> Option<(Instant, Alarm)> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }
}
