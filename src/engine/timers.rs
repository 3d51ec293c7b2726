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

/// Bits of a time that one level tells apart, and levels for all its bits.
const LEVEL_BITS: u32 = 6;
const LEVELS: usize = u64::BITS.div_ceil(LEVEL_BITS) as usize;
const SLOTS: usize = 1 << LEVEL_BITS;

/// Alarms in the order of their time; those of the same time in their own order. An alarm is not taken back: whoever
/// it rings for finds out that nothing is due.
///
/// A hierarchical timing wheel (Varghese, Lauck 1987): a slot of the first level holds one millisecond, one of the
/// next level all of the first, and so on. An alarm stands at the level of the highest digit in which its time
/// differs from now, and moves down as that time comes near. To set an alarm takes the same time with a million
/// others as with none.
#[derive(Debug)]
pub(super) struct Timers {
    /// What is due by now lies in `due`, what comes later in the wheel.
    now: Instant,
    due: BinaryHeap<Reverse<(Instant, Alarm)>>,
    levels: Box<[Level]>,
    len: usize,
}

#[derive(Debug)]
struct Level {
    /// A bit per slot that holds something.
    occupied: u64,
    slots: [Slot; SLOTS],
}

impl Default for Level {
    fn default() -> Self {
        Self {
            occupied: 0,
            slots: std::array::from_fn(|_| Slot::default()),
        }
    }
}

#[derive(Debug, Default)]
struct Slot {
    /// The earliest of its alarms.
    first: Instant,
    alarms: Vec<(Instant, Alarm)>,
}

impl Default for Timers {
    fn default() -> Self {
        Self {
            now: Instant::ZERO,
            due: BinaryHeap::new(),
            levels: std::iter::repeat_with(Level::default)
                .take(LEVELS)
                .collect(),
            len: 0,
        }
    }
}

impl Timers {
    pub(super) fn set(&mut self, at: Instant, alarm: Alarm) {
        self.len += 1;
        self.put(at, alarm);
    }

    pub(super) const fn len(&self) -> usize {
        self.len
    }

    pub(super) fn next(&self) -> Option<Instant> {
        match self.due.peek() {
            Some(Reverse((at, _))) => Some(*at),
            None => self.first_slot().map(|slot| slot.first),
        }
    }

    pub(super) fn pop_due(&mut self, now: Instant) -> Option<(Instant, Alarm)> {
        let next = self.next().filter(|next| *next <= now)?;
        if self.due.is_empty() {
            self.advance(next);
        }
        self.len -= 1;
        self.due.pop().map(|Reverse(entry)| entry)
    }

    /// The slot that holds the next alarm of the wheel: what stands at a lower level comes earlier.
    fn first_slot(&self) -> Option<&Slot> {
        let level = self.levels.iter().find(|level| level.occupied != 0)?;
        level.slots.get(level.occupied.trailing_zeros() as usize)
    }

    /// Time has come to the next alarm of the wheel. Its slot moves down; all others stay where they are, because
    /// their highest digit that differs is still the same.
    fn advance(&mut self, to: Instant) {
        self.now = to;
        let Some(level) = (self.levels.iter_mut()).find(|level| level.occupied != 0) else {
            return;
        };
        let index = level.occupied.trailing_zeros();
        level.occupied &= !(1 << index);
        let alarms = std::mem::take(&mut level.slots[index as usize].alarms);
        for (at, alarm) in alarms {
            self.put(at, alarm);
        }
    }

    fn put(&mut self, at: Instant, alarm: Alarm) {
        if at <= self.now {
            return self.due.push(Reverse((at, alarm)));
        }
        let differs = at.as_millis() ^ self.now.as_millis(); // not 0
        let level_index = differs.ilog2() / LEVEL_BITS;
        let index = at.as_millis() >> (level_index * LEVEL_BITS) & (SLOTS as u64 - 1);
        let level = &mut self.levels[level_index as usize];
        let slot = &mut level.slots[index as usize];
        if slot.alarms.is_empty() || at < slot.first {
            slot.first = at;
        }
        slot.alarms.push((at, alarm));
        level.occupied |= 1 << index;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Near and far alike, with times that meet.
    fn delay() -> impl Strategy<Value = u64> {
        prop_oneof![
            0u64..3,
            (0u64..40).prop_map(|n| n * 64),
            0u64..100_000,
            0u64..100_000_000,
            0u64..1 << 40
        ]
    }

    fn alarm() -> impl Strategy<Value = Alarm> {
        prop_oneof![
            (0u32..1_000).prop_map(|key| Alarm::Device(DeviceKey(key))),
            (0u32..10).prop_map(Alarm::Cell),
        ]
    }

    proptest! {
        /// Against a sorted set: alarms are set, also for times that have passed, and taken while time goes on.
        #[test]
        fn alarms_ring_in_their_order(
            start in prop_oneof![Just(0), Just(1_800_000_000_000u64), any::<u32>().prop_map(u64::from)],
            steps in proptest::collection::vec(
                (proptest::collection::vec((delay(), alarm()), 0..4), delay(), 0usize..4),
                1..200,
            ),
        ) {
            let mut timers = Timers::default();
            let mut model = BTreeSet::new();
            let mut now = start;
            for (set, passes, taken) in steps {
                for (delay, alarm) in set {
                    let at = Instant::from_millis((now + delay).saturating_sub(1));
                    if model.insert((at, alarm)) {
                        timers.set(at, alarm);
                    }
                }
                prop_assert_eq!(timers.next(), model.first().map(|(at, _)| *at));
                prop_assert_eq!(timers.len(), model.len());
                now += passes;
                for _ in 0..taken {
                    let expected = model.first().copied().filter(|(at, _)| at.as_millis() <= now);
                    prop_assert_eq!(timers.pop_due(Instant::from_millis(now)), expected);
                    if let Some(entry) = expected {
                        model.remove(&entry);
                    }
                }
            }
        }
    }

    #[test]
    fn an_alarm_at_the_end_of_time_is_kept() {
        let mut timers = Timers::default();
        let end = Instant::from_millis(u64::MAX);
        timers.set(end, Alarm::Cell(1));
        timers.set(Instant::from_millis(5), Alarm::Cell(2));
        assert_eq!(timers.next(), Some(Instant::from_millis(5)));
        assert_eq!(timers.pop_due(Instant::from_millis(4)), None);
        assert!(timers.pop_due(Instant::from_millis(6)).is_some());
        assert_eq!(timers.next(), Some(end));
        assert_eq!(timers.pop_due(end), Some((end, Alarm::Cell(1))));
        assert_eq!(timers.next(), None);
    }
}
