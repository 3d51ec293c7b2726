//! Alarms in a hierarchical timing wheel (Varghese and Lauck, 1987): setting, taking back and ringing one costs the
//! same whatever the number of others.
//!
//! Eight wheels of 64 slots: a slot of the first is a millisecond, one of each further wheel a whole turn of the
//! one before. An alarm waits in the slowest wheel in which its time and the present differ, and moves to faster
//! ones as its time comes near. A slot's alarms are a list through their rows, closed by a row that is no alarm.

use std::num::NonZeroU32;

use super::key::DeviceKey;
use crate::clock::Instant;

const SLOT_BITS: u32 = 6;
const SLOTS: u32 = 1 << SLOT_BITS;
const WHEELS: u32 = 8;
/// The furthest time that the wheels hold, ms: what is due later rings then.
const FURTHEST: u64 = (1 << (SLOT_BITS * WHEELS)) - 1;

/// An alarm that is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AlarmId(NonZeroU32);

impl AlarmId {
    const fn row(self) -> u32 {
        self.0.get()
    }
}

/// Alarms, in the order of their time.
#[derive(Debug)]
pub(super) struct Timers<K = DeviceKey> {
    /// First one row for each slot, which closes its list; then those of the alarms, set or free.
    rows: Vec<Entry<K>>,
    /// The first row that is free; each names the next. 0, the row of a slot, ends them.
    free: u32,
    len: usize,
    /// Slots that have an alarm: a bit each.
    occupied: [u64; WHEELS as usize],
    /// The time to which the wheels are turned, ms.
    turned_to: u64,
}

#[derive(Debug, Clone, Copy)]
struct Entry<K> {
    at: Instant,
    /// Whose it is; nobody's where it closes a slot's list.
    whose: Option<K>,
    prev: u32,
    next: u32,
}

impl<K> Default for Timers<K> {
    fn default() -> Self {
        let slot = |row| Entry {
            at: Instant::ZERO,
            whose: None,
            prev: row,
            next: row,
        };
        Self {
            rows: (0..SLOTS * WHEELS).map(slot).collect(),
            free: 0,
            len: 0,
            occupied: [0; WHEELS as usize],
            turned_to: 0,
        }
    }
}

impl<K: Copy> Timers<K> {
    /// Sets an alarm for a device, or whatever else has one.
    pub(super) fn set(&mut self, at: Instant, whose: K) -> AlarmId {
        let row = Entry {
            at,
            whose: Some(whose),
            prev: 0,
            next: 0,
        };
        let index = if self.free == 0 {
            self.rows.push(row);
            // A row has 24 bytes: memory ends before the numbers do.
            u32::try_from(self.rows.len() - 1).unwrap_or(u32::MAX)
        } else {
            let index = self.free;
            self.free = self.row(index).next;
            *self.row_mut(index) = row;
            index
        };
        self.len += 1;
        self.link(index);
        // Rows of alarms come after those of the slots.
        AlarmId(NonZeroU32::new(index).unwrap_or(NonZeroU32::MAX))
    }

    /// Takes an alarm back. Its number may be given to another from then on.
    pub(super) fn cancel(&mut self, id: AlarmId) {
        self.unlink(id.row());
        self.release(id.row());
    }

    /// When it rings.
    pub(super) fn at(&self, id: AlarmId) -> Instant {
        self.row(id.row()).at
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// When there is something to do: not after the next alarm, but perhaps before it, when the alarms of a slot
    /// have to move to a faster wheel.
    pub(super) fn next(&self) -> Option<Instant> {
        let (_, _, starts_at) = self.first_slot()?;
        Some(Instant::from_millis(starts_at))
    }

    /// Whose alarm is the next to ring now. It is no longer set.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<K> {
        let now = now.as_millis().min(FURTHEST);
        loop {
            let Some((wheel, slot, starts_at)) = self.first_slot().filter(|(.., at)| *at <= now)
            else {
                self.turned_to = self.turned_to.max(now);
                return None;
            };
            self.turned_to = self.turned_to.max(starts_at);
            let end = wheel * SLOTS + slot;
            let first = self.row(end).next;
            if wheel == 0 {
                self.unlink(first);
                let whose = self.row(first).whose;
                self.release(first);
                return whose;
            }
            let mut next = first;
            while next != end {
                self.unlink(next);
                self.link(next);
                next = self.row(end).next;
            }
        }
    }

    /// The first slot with an alarm: its wheel, its number, and when its time begins.
    fn first_slot(&self) -> Option<(u32, u32, u64)> {
        let wheel = (0..WHEELS).find(|wheel| self.occupied[*wheel as usize] != 0)?;
        let slot = self.occupied[wheel as usize].trailing_zeros();
        let shift = wheel * SLOT_BITS;
        let turn = self.turned_to >> shift >> SLOT_BITS << SLOT_BITS;
        Some((wheel, slot, (turn + u64::from(slot)) << shift))
    }

    /// Puts a row where its time says.
    #[allow(clippy::cast_possible_truncation)] // a slot is six bits of it
    fn link(&mut self, index: u32) {
        let at = self.row(index).at.as_millis();
        let at = at.clamp(self.turned_to, FURTHEST);
        // the highest bit in which it differs from the present tells the wheel
        let differs = (at ^ self.turned_to) | u64::from(SLOTS - 1);
        let wheel = (differs.ilog2() / SLOT_BITS).min(WHEELS - 1);
        let slot = (at >> (wheel * SLOT_BITS)) as u32 % SLOTS;
        self.occupied[wheel as usize] |= 1 << slot;
        let end = wheel * SLOTS + slot;
        let last = self.row(end).prev;
        let row = self.row_mut(index);
        (row.prev, row.next) = (last, end);
        self.row_mut(last).next = index;
        self.row_mut(end).prev = index;
    }

    fn unlink(&mut self, index: u32) {
        let (prev, next) = (self.row(index).prev, self.row(index).next);
        self.row_mut(prev).next = next;
        self.row_mut(next).prev = prev;
        if prev == next && prev < SLOTS * WHEELS {
            self.occupied[(prev / SLOTS) as usize] &= !(1 << (prev % SLOTS));
        }
    }

    fn release(&mut self, index: u32) {
        self.row_mut(index).next = self.free;
        self.free = index;
        self.len -= 1;
    }

    fn row(&self, index: u32) -> &Entry<K> {
        &self.rows[index as usize]
    }

    fn row_mut(&mut self, index: u32) -> &mut Entry<K> {
        &mut self.rows[index as usize]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Set(u64),
        Cancel(usize),
        Pass(u64),
    }

    fn span() -> impl Strategy<Value = u64> {
        prop_oneof![
            0..70u64,
            0..5_000u64,
            0..400_000u64,
            0..40_000_000_000u64,
            any::<u64>()
        ]
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => span().prop_map(Step::Set),
            2 => any::<usize>().prop_map(Step::Cancel),
            2 => (0..100_000_000u64).prop_map(Step::Pass),
        ]
    }

    /// What rings up to `now`, called whenever the wheels ask for it.
    fn ring(timers: &mut Timers, from: u64, now: u64) -> Vec<(u64, u32)> {
        let mut rung = Vec::new();
        let mut clock = from;
        while let Some(at) = timers.next().map(Instant::as_millis) {
            if at > now {
                break;
            }
            clock = clock.max(at);
            while let Some(DeviceKey(number)) = timers.pop_due(Instant::from_millis(clock)) {
                rung.push((clock, number));
            }
        }
        rung
    }

    proptest! {
        #[test]
        fn every_alarm_rings_once_at_its_time_and_none_that_was_taken_back(
            start in 0..2_000_000_000_000u64,
            steps in prop::collection::vec(step(), 1..200),
        ) {
            let mut timers = Timers::default();
            let mut now = start;
            prop_assert_eq!(timers.pop_due(Instant::from_millis(now)), None);
            let mut set = BTreeMap::new();
            let mut due = HashMap::new();
            for (number, step) in (0..).zip(steps) {
                match step {
                    Step::Set(span) => {
                        let at = now.saturating_add(span);
                        let id = timers.set(Instant::from_millis(at), DeviceKey(number));
                        prop_assert_eq!(timers.at(id).as_millis(), at.min(u64::MAX - 1));
                        set.insert(number, id);
                        due.insert(number, at.min(FURTHEST));
                    }
                    Step::Cancel(which) => {
                        let number = set.keys().nth(which % set.len().max(1)).copied();
                        if let Some(number) = number {
                            timers.cancel(set.remove(&number).unwrap());
                            due.remove(&number);
                        }
                    }
                    Step::Pass(span) => {
                        let from = now;
                        now += span;
                        for (at, number) in ring(&mut timers, from, now) {
                            prop_assert_eq!(due.remove(&number), Some(at));
                            set.remove(&number);
                        }
                        prop_assert!(due.values().all(|at| *at > now));
                        prop_assert_eq!(timers.pop_due(Instant::from_millis(now)), None);
                    }
                }
                prop_assert_eq!(timers.len(), set.len());
            }
        }
    }

    #[test]
    fn what_is_due_already_rings_at_once() {
        let mut timers = Timers::default();
        let now = Instant::from_millis(1_800_000_000_000);
        assert_eq!(timers.pop_due(now), None);
        timers.set(Instant::from_millis(5), DeviceKey(1));
        assert_eq!(timers.next(), Some(now));
        assert_eq!(timers.pop_due(now), Some(DeviceKey(1)));
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn rows_are_used_again() {
        let mut timers = Timers::default();
        for at in 0..1_000 {
            let id = timers.set(Instant::from_millis(at), DeviceKey(1));
            timers.cancel(id);
        }
        assert_eq!(timers.rows.len(), (SLOTS * WHEELS + 1) as usize);
    }
}
