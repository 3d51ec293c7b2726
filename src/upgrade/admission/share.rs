//! How the slots of a lane are shared between tasks.
//!
//! Tasks of a higher priority come first. Among tasks of one priority whose devices want the same slots, each has its turns in
//! proportion to its weight. It is a deficit round robin in which no round is longer than a slot (worst-case fair weighted fair
//! queueing: Bennett, Zhang, "WF²Q", 1996): a clock goes by one for each turn of a task with all the weight there is, and so by
//! `1/w` for each turn of which `w` is wanted. A task of weight `w` is owed its next turn `1/w` after its last one. Of those that
//! are owed one, that has it which is to have it by the earliest time. So nobody has more than a slot too many or too few.
//!
//! A task that nobody waits for saves nothing up, and what is owed is a slot at the most: after a time in which devices of one
//! task did not fit, the others go on as before.

use std::{cmp::Reverse, collections::HashMap, time::Duration};

use crate::{
    clock::Instant,
    ledger::TaskId,
    task::{MAX_PRIORITY, Share},
};

/// A place in a lane's queue: earlier arrivals first.
pub(super) type Order = (Instant, u64);

/// What the clock goes by for a turn of the weight 1.
const TURN: u128 = 1 << 64;
/// What is lost by rounding is less, and nothing that is owed is as little.
const ROUNDED: u128 = 1 << 40;

/// What tasks say of their shares.
#[derive(Debug)]
pub(super) struct Shares {
    /// Of those that say anything.
    tasks: HashMap<TaskId, Share>,
    /// For each such time that a device has waited, its task comes before those of one more priority.
    pub(super) ageing: Duration,
}

impl Shares {
    pub(super) fn new(ageing: Duration) -> Self {
        Self {
            tasks: HashMap::new(),
            ageing,
        }
    }

    /// The task has this share from now on. Returns whether that is news.
    pub(super) fn set(&mut self, task: TaskId, share: Share) -> bool {
        if share == Share::default() {
            return self.tasks.remove(&task).is_some();
        }
        self.tasks.insert(task, share) != Some(share)
    }

    fn of(&self, task: TaskId) -> Share {
        self.tasks.get(&task).copied().unwrap_or_default()
    }

    /// What a task with a device that has waited since then comes to.
    pub(super) fn claim(&self, task: TaskId, since: Option<Instant>, now: Instant) -> Claim {
        let share = self.of(task);
        let waited = since.map_or(Duration::ZERO, |since| now.since(since));
        let priority = share.aged(waited, self.ageing);
        let rises = since.filter(|_| priority < MAX_PRIORITY && !self.ageing.is_zero());
        Claim {
            priority,
            weight: share.weight.max(1),
            rises_at: rises.map(|since| {
                let times = u32::from(priority.saturating_sub(share.priority)) + 1;
                since + self.ageing.saturating_mul(times)
            }),
        }
    }
}

/// What a task comes to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claim {
    /// With what it has gained by waiting.
    pub(super) priority: u8,
    pub(super) weight: u32,
    /// When it gains more.
    pub(super) rises_at: Option<Instant>,
}

/// When a task is owed its next turn, on the clock of its lane.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owed(u128);

/// A task that waits in a lane.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) task: TaskId,
    pub(super) claim: Claim,
    pub(super) owed: Owed,
    /// Its device that has waited longest, of those that are awake.
    pub(super) oldest: Option<Order>,
    /// It has somebody who would fit.
    pub(super) fits: bool,
}

/// The clock by which the tasks of a lane have their turns.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Turns {
    now: u128,
}

impl Turns {
    /// A task that comes now is owed a turn as from now.
    pub(super) const fn joins(self) -> Owed {
        Owed(self.now)
    }

    /// Whether that turn is owed by now, as that of one who comes now.
    pub(super) const fn owes(self, Owed(from): Owed) -> bool {
        from <= self.now
    }

    /// By which tasks are ordered: whose turn it is comes first.
    pub(super) fn place(self, entry: &Entry) -> impl Ord + use<> {
        let Owed(from) = entry.owed;
        let by = from + TURN / u128::from(entry.claim.weight);
        let priority = Reverse(entry.claim.priority);
        (priority, from > self.now + ROUNDED, by, entry.oldest)
    }

    /// The task has a slot. If it was not its turn (`fills_in`), and nobody before it has to wait longer for it, that concerns
    /// those alone who could have had it as well.
    pub(super) fn serve(&mut self, task: TaskId, fills_in: bool, entries: &mut [Entry]) {
        let Some(served) = entries.iter().find(|entry| entry.task == task).copied() else {
            return;
        };
        let priority = served.claim.priority;
        let waits = |entry: &Entry| entry.oldest.is_some() && entry.claim.priority == priority;
        let contends =
            |entry: &Entry| entry.task == task || waits(entry) && (entry.fits || !fills_in);
        let all = entries.iter().filter(|entry| contends(entry));
        let weight: u128 = all.map(|entry| u128::from(entry.claim.weight)).sum();
        let own = u128::from(served.claim.weight);
        if weight == own {
            return; // nobody else wanted it
        }
        let passes = TURN / weight;
        self.now += passes;
        for entry in &mut *entries {
            let (waits, contends) = (waits(entry), contends(entry));
            let turn = TURN / u128::from(entry.claim.weight);
            let Owed(from) = &mut entry.owed;
            if entry.task == task {
                *from += turn;
            } else if waits && !contends {
                *from += passes;
            }
            let earliest = if waits {
                self.now.saturating_sub(turn)
            } else {
                self.now
            };
            *from = (*from).clamp(earliest, self.now + turn);
        }
        // where those have gone that were owed something, the others are not owed less
        let waiting = entries.iter().filter(|entry| waits(entry));
        if let Some(next) = waiting.map(|entry| entry.owed.0).min() {
            self.now = self.now.max(next);
        }
    }
}

#[cfg(test)]
mod tests;
