use std::collections::BTreeSet;

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

/// Alarms in the order of their time. One that an earlier one replaces is taken back: a device whose
/// registration ends in a year would leave another alarm for then with each exchange before.
#[derive(Debug, Default)]
pub(super) struct Timers {
    alarms: BTreeSet<(Instant, Alarm)>,
}

impl Timers {
    /// Sets the alarm, in place of the one for `replaced`.
    pub(super) fn set(&mut self, at: Instant, alarm: Alarm, replaced: Option<Instant>) {
        if let Some(replaced) = replaced {
            self.cancel(replaced, alarm);
        }
        self.alarms.insert((at, alarm));
    }

    pub(super) fn cancel(&mut self, at: Instant, alarm: Alarm) {
        self.alarms.remove(&(at, alarm));
    }

    pub(super) fn len(&self) -> usize {
        self.alarms.len()
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.alarms.first().map(|(at, _)| *at)
    }

    pub(super) fn pop_due(&mut self, now: Instant) -> Option<(Instant, Alarm)> {
        if self.next()? > now {
            return None;
        }
        self.alarms.pop_first()
    }
}
