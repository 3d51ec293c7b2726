//! When it is looked for devices that join tasks: those that come to fit after a task was created. Pure.
//!
//! A sweep goes over the devices part by part, and other work has its turn after each. Where a sweep stands is kept here: after a
//! restart it begins anew, which costs time and changes nothing, because nobody joins a task twice.

use std::{collections::HashMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::{HoldReason, TaskHead, TaskId, TaskState};
use crate::clock::{Instant, Now, UtcMillis};

/// Between two sweeps of a task, where nobody says otherwise.
pub const JOIN_INTERVAL: Duration = Duration::from_mins(1);
/// Between two parts of a sweep, for all else that is to be done.
const BETWEEN_PARTS: Duration = Duration::from_millis(10);
/// The shortest pause between two sweeps, however often devices change.
const SHORTEST: Duration = Duration::from_secs(1);
/// A pause is so many times as long as the sweep before it: sweeps of a large fleet take a fifth of the time at most.
const TIMES: u32 = 4;

/// Whether devices join a task that come to fit after it was created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Membership {
    /// None does: it has the devices that fitted then.
    #[default]
    Snapshot,
    /// They do, until it ends.
    Joining,
}

impl Membership {
    /// None joins.
    pub fn is_snapshot(&self) -> bool {
        *self == Self::Snapshot
    }
}

impl TaskHead {
    /// Whether devices may join it at `now`. None joins before it runs or is approved, nor between two phases: who comes then
    /// joins the one that follows. To a task that is paused, devices come, and wait with the others.
    pub fn takes_up(&self, now: UtcMillis) -> bool {
        let between = self.hold.as_ref().is_some_and(|hold| match hold.why {
            HoldReason::Approval
            | HoldReason::PhaseDone { .. }
            | HoldReason::PhaseFailed { .. } => true,
            HoldReason::Paused { .. } | HoldReason::Failures { .. } => false,
        });
        self.rules.membership == Membership::Joining
            && self.state == TaskState::Running
            && !self.expired
            && !between
            && self.rules.not_after.is_none_or(|last| last > now)
    }
}

/// Where the sweep of a task stands.
#[derive(Debug)]
struct Sweep {
    /// When its next part may be looked at.
    next: Instant,
    /// Its last part ended with this device; `None`: it has not begun.
    after: Option<String>,
    began: Instant,
    /// The next one begins no sooner.
    soonest: Instant,
    /// Devices have changed since it began.
    stale: bool,
}

/// The sweeps of all tasks that devices may join.
#[derive(Debug)]
pub struct Sweeps {
    interval: Duration,
    tasks: HashMap<TaskId, Sweep>,
}

impl Default for Sweeps {
    fn default() -> Self {
        Self::every(JOIN_INTERVAL)
    }
}

impl Sweeps {
    /// One of each task in `interval`, if devices do not change before.
    pub fn every(interval: Duration) -> Self {
        Self {
            interval,
            tasks: HashMap::new(),
        }
    }

    /// The task of which the next part is to be looked at, and the device after which that begins.
    pub fn due(&mut self, heads: &[TaskHead], now: Now) -> Option<(TaskId, Option<String>)> {
        let joined: Vec<TaskId> = (heads.iter())
            .filter(|head| head.takes_up(now.utc))
            .map(|head| head.task)
            .collect();
        // heads are in the order of their numbers
        (self.tasks).retain(|task, _| joined.binary_search(task).is_ok());
        for task in joined {
            // who has joined none while it was between two phases does so now
            self.tasks.entry(task).or_insert_with(|| Sweep {
                next: now.instant,
                after: None,
                began: now.instant,
                soonest: now.instant,
                stale: false,
            });
        }
        let due = (self.tasks.iter_mut()).filter(|(_, sweep)| sweep.next <= now.instant);
        let (task, sweep) = due.min_by_key(|(task, sweep)| (sweep.next, **task))?;
        if sweep.after.is_none() {
            sweep.began = now.instant;
            sweep.stale = false;
        }
        Some((*task, sweep.after.clone()))
    }

    /// A part was looked at; the next one begins after `next`, or there is none.
    pub fn swept(&mut self, task: TaskId, next: Option<String>, now: Now) {
        let Some(sweep) = self.tasks.get_mut(&task) else {
            return;
        };
        sweep.after = next;
        if sweep.after.is_some() {
            sweep.next = now.instant + BETWEEN_PARTS;
            return;
        }
        let took = now.instant.since(sweep.began);
        sweep.soonest = now.instant + SHORTEST.max(took.saturating_mul(TIMES));
        sweep.next = if sweep.stale {
            sweep.soonest
        } else {
            sweep.soonest.max(now.instant + self.interval)
        };
    }

    /// Devices were added or changed, or groups, or exclusions have ended: some may fit now.
    pub fn devices_changed(&mut self) {
        for sweep in self.tasks.values_mut() {
            // one that goes on may be past them
            sweep.stale = true;
            if sweep.after.is_none() {
                sweep.next = sweep.next.min(sweep.soonest);
            }
        }
    }

    /// When the next part is to be looked at.
    pub fn next(&self, now: Now) -> Option<UtcMillis> {
        let next = self.tasks.values().map(|sweep| sweep.next).min()?;
        Some(now.utc + next.since(now.instant))
    }
}

#[cfg(test)]
mod tests;
