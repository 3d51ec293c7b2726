//! What those who come first leave to those behind them.

use std::time::Duration;

use super::{Readiness, Step};
use crate::clock::Instant;

/// How long before its turn a device is looked for, and measured: a round trip in deep coverage, with repeats.
pub(super) const LOOKED_FOR_AHEAD: Duration = Duration::from_mins(1);
/// How late a device that is expected may be, before it is not waited for.
pub(super) const LATE_AT_MOST: Duration = Duration::from_mins(2);
/// A device that needs an emptier lane is not there and measured in the same moment: whoever is admitted before may end so much
/// later.
pub(super) const SETTLES_IN: Duration = Duration::from_secs(45);

/// When a lane is to be emptier for a device of that limit, which is expected `at`, if whoever is admitted now and is there
/// longer would be in its way.
pub(super) fn free_by_then(limit: u32, at: Instant, ends: &[Instant]) -> Option<Instant> {
    let fits_at = (ends.len().checked_sub(limit as usize)).and_then(|too_many| ends.get(too_many));
    let at = fits_at.map_or(at, |fits_at| at.max(*fits_at));
    let there = ends.len() - ends.partition_point(|end| *end <= at);
    (there + 1 >= limit as usize).then(|| at + SETTLES_IN)
}

/// The earlier one of two times that may not be.
pub(super) fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    one.into_iter().chain(other).min()
}

/// What the tasks that come first leave to those behind them, and of one task the classes of smaller limits to those of larger
/// ones.
pub(super) struct Walk {
    pub(super) now: Instant,
    overtake: Duration,
    /// Slots in use, and those that are kept for devices that are being looked for.
    pub(super) taken: u32,
    /// With more slots taken, one of those would no longer fit.
    pub(super) ceiling: u32,
    /// So many slots would be one too many for a device of this task that fits, and is held back.
    held_back: u32,
    /// The same for one of the tasks before it.
    kept: u32,
    /// Whoever is admitted is to have ended by then, for the sake of one of a higher priority who is there.
    above: Option<Instant>,
    /// The same for the sake of one of the same priority.
    free_by: Option<Instant>,
    /// The same for those of larger limits than this, for the sake of one who is expected.
    expected: Vec<(u32, Instant)>,
    /// Somebody of this priority is there who needs the lane emptier, and not only expected.
    reserved: bool,
    /// So is somebody of another task, who comes before this one.
    behind_others: bool,
    /// When there is something to do, though nothing happens until then.
    pub(super) later: Option<Instant>,
    ends: Option<Vec<Instant>>,
    /// Devices of the class that do not fit, and come before the one that is looked at.
    pub(super) behind: usize,
}

/// What is done for a device that does not fit yet.
pub(super) enum Ahead<K> {
    Do(Step<K>),
    /// Nothing more; the one behind it is looked at.
    Next,
    /// It is too early, for those behind it as well.
    Later,
}

impl Walk {
    pub(super) fn new(now: Instant, overtake: Duration, taken: u32) -> Self {
        Self {
            now,
            overtake,
            taken,
            ceiling: u32::MAX,
            held_back: u32::MAX,
            kept: u32::MAX,
            above: None,
            free_by: None,
            expected: Vec::new(),
            reserved: false,
            behind_others: false,
            later: None,
            ends: None,
            behind: 0,
        }
    }

    /// The next task has its turn, one of a lower priority perhaps.
    pub(super) fn next_task(&mut self, lower: bool) {
        if lower {
            self.above = earlier(self.above, self.free_by.take());
            self.reserved = false;
        }
        self.behind_others = self.reserved;
        self.kept = self.kept.min(self.held_back);
    }

    /// Whether the last place is left that one of a task before has, who is held back: as long as others took it, the time would
    /// begin anew for which it is.
    pub(super) const fn is_kept(&self) -> bool {
        self.taken.saturating_add(1) >= self.kept
    }

    /// Whether a slot has its taker out of turn, and keeps nobody before it from theirs.
    pub(super) const fn fills_in(&self) -> bool {
        self.behind_others
    }

    /// Whoever of that limit is admitted is to have ended by then, if it can be helped.
    fn free_by(&self, limit: u32) -> Option<Instant> {
        let expected = self.expected.iter().filter(|(of, _)| *of < limit);
        earlier(self.free_by, expected.map(|(_, by)| *by).min())
    }

    /// Whether somebody needs the lane emptier than one of that limit would leave it.
    pub(super) fn needs_room(&self, limit: u32) -> bool {
        self.free_by(limit).is_some()
    }

    /// Whether one that was held back since then has had enough of it.
    pub(super) fn has_waited(&self, held_since: Option<Instant>) -> bool {
        held_since.is_some_and(|since| self.now.since(since) >= self.overtake)
    }

    /// When the next device of a class that does not fit will, as enough slots have come back: until the first of them
    /// does, nobody is to be admitted who would still be there then. `None` for those who come after all slots in use.
    pub(super) fn turn_of_next(
        &mut self,
        limit: u32,
        ends: impl Fn() -> Vec<Instant>,
    ) -> Option<Instant> {
        let ends = self.ends.get_or_insert_with(ends);
        let too_many = self.taken.saturating_sub(limit) as usize;
        let turn = ends.get(too_many + self.behind).copied();
        if self.behind == 0 {
            // Slots that are kept for somebody have no end: whoever is looked for may turn out to be away.
            let by = turn.unwrap_or(self.now);
            self.free_by = earlier(self.free_by, Some(by));
            self.reserved = true;
        }
        self.behind += 1;
        turn
    }

    /// A device of that limit is expected then.
    pub(super) fn expects(&mut self, limit: u32, at: Instant, ends: impl Fn() -> Vec<Instant>) {
        let ends = self.ends.get_or_insert_with(ends);
        if let Some(by) = free_by_then(limit, at, ends) {
            self.expected.push((limit, by));
            self.look_again(at + LATE_AT_MOST + Duration::from_millis(1));
        }
    }

    /// What is done before a device's turn, so that nothing stands between it and the slot.
    pub(super) fn ahead_of<K>(
        &mut self,
        turn: Instant,
        device: K,
        readiness: Readiness,
    ) -> Ahead<K> {
        let from = turn.before(LOOKED_FOR_AHEAD);
        if self.now < from {
            self.look_again(from);
            return Ahead::Later;
        }
        match readiness {
            Readiness::Stale => Ahead::Do(Step::Measure(device)),
            Readiness::Unheard => Ahead::Do(Step::Ping(device)),
            Readiness::Ready | Readiness::Probing | Readiness::Asleep => Ahead::Next,
        }
    }

    pub(super) fn look_again(&mut self, at: Instant) {
        self.later = earlier(self.later, Some(at));
    }

    /// Whether a device that fits is held back, because it would be in the way of one that needs an emptier lane: of one of a
    /// higher priority for as long as that takes.
    pub(super) fn holds_back(
        &mut self,
        limit: u32,
        service: Duration,
        held_since: &mut Option<Instant>,
        has_overtaken: bool,
    ) -> bool {
        let ends = self.now + service;
        let held_back = self.held_back.min(limit);
        if self.above.is_some_and(|by| ends > by) {
            (*held_since, self.held_back) = (None, held_back);
            return true;
        }
        let in_the_way = self.free_by(limit).is_some_and(|by| ends > by);
        if !in_the_way {
            // its turn comes as that of the others does, or it has had enough of waiting already
            if held_since.is_none_or(|since| self.now.since(since) < self.overtake) {
                *held_since = None;
            }
            return false;
        }
        if has_overtaken && self.reserved {
            self.held_back = held_back;
            return true; // one turn for each of the others
        }
        let until = *held_since.get_or_insert(self.now) + self.overtake;
        if until <= self.now {
            self.behind_others = false; // they have to wait longer for it
            return false;
        }
        self.look_again(until);
        self.held_back = held_back;
        true
    }
}
